"""One private Waypost instance for a test: its own directory, addresses, certificates and ports; nothing fixed, nothing shared.

    w = Instance(tmp, domains=["example.test"], accounts={"alice@example.test": "secret"})
    w.start(); ...; w.stop()
"""
import contextlib
import imaplib
import json
import os
import poplib
import random
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import time

BUILD = os.environ.get("WAYPOST_BUILD", "")
PROGRAMS = BUILD + "/programs"
SANITIZED = bool(os.environ.get("WAYPOST_SANITIZED"))
AS_ROOT = os.geteuid() == 0
# How long an event may take before a test gives up on it. Generous: nothing here asserts speed.
PATIENCE = 120 if SANITIZED else 60


def fresh_address():
    """A loopback address that no other test uses: one of some sixteen million, so that ports need not be shared out."""
    r = random.SystemRandom()
    return "127.%d.%d.%d" % (r.randint(64, 250), r.randint(1, 254), r.randint(1, 254))


_given = set()


def free_port(address):
    """A port of that address that nobody listens on and that was not given out before: the kernel itself may well name one twice."""
    while True:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as s:
            s.bind((address, 0))
            port = s.getsockname()[1]
        if (address, port) not in _given:
            _given.add((address, port))
            return port


def until(fn, what, patience=None, pause=0.02):
    """Waits for a condition that nothing reports: returns the first true value of fn()."""
    end = time.monotonic() + (patience or PATIENCE)
    while True:
        v = fn()
        if v:
            return v
        if time.monotonic() > end:
            raise AssertionError("never happened: " + (what() if callable(what) else what))
        time.sleep(pause)


class EnhancedCodes:
    """RFC2034:4, RFC5248: every reply of ours has an enhanced status code of its class in each of its lines; but the greeting, what is said to
    HELO and EHLO, and 3yz."""
    waypost_verb = None  # of the last command; None: the greeting is next, as after XCLIENT that was taken

    def putcmd(self, cmd, args=""):
        self.waypost_verb = (cmd + " " + args).split(" ")[0].upper()
        return super().putcmd(cmd, args)

    def getreply(self):
        code, text = super().getreply()
        if self.waypost_verb == "XCLIENT" and code == 220:
            self.waypost_verb = None
        if self.waypost_verb not in (None, "EHLO", "HELO") and code // 100 != 3:
            for line in text.split(b"\n"):
                assert re.match(rb"%d\.[0-9]{1,3}\.[0-9]{1,3}( |$)" % (code // 100), line), (self.waypost_verb, code, text)
        elif self.waypost_verb is None:
            assert code // 100 == 2 or re.match(rb"%d\.[0-9]{1,3}\.[0-9]{1,3} " % (code // 100), text), text
        return code, text


class Smtp(EnhancedCodes, smtplib.SMTP):
    pass


class SmtpSsl(EnhancedCodes, smtplib.SMTP_SSL):
    pass


class Authority:
    """A certificate authority in a directory; P-256, made with the openssl command."""

    def __init__(self, directory):
        self.dir = str(directory)
        os.makedirs(self.dir, exist_ok=True)
        self.cert = self.dir + "/ca.pem"
        if not os.path.exists(self.cert):
            self._openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=test-ca -keyout ca.key -out ca.pem")

    def _openssl(self, args, **kw):
        subprocess.run(["openssl"] + args.split(), cwd=self.dir, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kw)

    def issue(self, name, hosts, directory=None):
        """(certificate file, key file) valid for those host names and addresses."""
        out = directory or self.dir
        # an address also as a DNS name: some clients compare the text that they were given
        san = ",".join(["IP:" + h for h in hosts if re.fullmatch(r"[0-9.]+|.*:.*", h)] + ["DNS:" + h for h in hosts])
        with open("%s/%s.ext" % (self.dir, name), "w") as f:
            f.write("subjectAltName=%s\n" % san)
        self._openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=%s -keyout %s.key -out %s.csr" % (hosts[0], name, name))
        self._openssl("x509 -req -in %s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile %s.ext -out %s.pem" % (name, name, name))
        for ext in ("key", "pem"):
            os.replace("%s/%s.%s" % (self.dir, name, ext), "%s/%s.%s" % (out, name, ext))
        return "%s/%s.pem" % (out, name), "%s/%s.key" % (out, name)

    def client(self, name, emails=(), days=30, usage="clientAuth"):
        """(certificate file, key file) of a client, for those mail addresses."""
        names = ["email.%d=%s" % (i, e) if e.isascii() else "otherName.%d=1.3.6.1.5.5.7.8.9;FORMAT:UTF8,UTF8:%s" % (i, e) for i, e in enumerate(emails)]
        with open("%s/%s.ext" % (self.dir, name), "w", encoding="utf-8") as f:
            f.write("extendedKeyUsage=%s\n" % usage + ("subjectAltName=@names\n[names]\n" + "\n".join(names) + "\n" if names else ""))
        self._openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=%s -keyout %s.key -out %s.csr" % (name, name, name))
        self._openssl("x509 -req -in %s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days %d -extfile %s.ext -out %s.pem" % (name, days, name, name))
        return "%s/%s.pem" % (self.dir, name), "%s/%s.key" % (self.dir, name)


class Instance:
    LISTENERS = (("mx", "smtp", "starttls"), ("submission", "submission", "starttls"), ("submissions", "submission", "implicit"),
                 ("imap", "imap", "starttls"), ("imaps", "imap", "implicit"), ("pop3", "pop3", "starttls"), ("pop3s", "pop3", "implicit"))

    def __init__(self, tmp, domains=("example.test",), accounts=None, hostname=None, address=None, ports=None, top="", sections=None,
                 authority=None, relay_port=None, dns=None, plaintext=False, check_from=False, env=None, wrap=()):
        self.dir = str(tmp)
        os.makedirs(self.dir, exist_ok=True)
        os.chmod(self.dir, 0o755)
        self.address = address or fresh_address()
        self.domains, self.accounts = list(domains), dict(accounts if accounts is not None else {"alice@example.test": "wonder-1", "bob@example.test": "builder-2"})
        self.hostname = hostname or "mail." + self.domains[0]
        self.ports = dict(ports or {})
        self.top, self.sections = top, dict(sections or {})
        self.ca = authority or Authority(self.dir + "/ca")
        self.relay_port, self.dns, self.plaintext = relay_port, dns, plaintext
        self.check_from = check_from  # most tests submit what somebody else wrote
        self.conf = self.dir + "/waypost.conf"
        self.proc = None
        self.extra_env = dict(env or {})
        self.wrap = list(wrap)  # a command put before the server's (strace …)
        self.command = None  # what starts the server, when it is not `waypost start`
        self.log_path = self.dir + "/log"

    # ---- configuration ----

    def write_conf(self):
        for name, _, _ in self.LISTENERS:
            self.ports.setdefault(name, free_port(self.address))
        if not os.path.exists(self.dir + "/server.pem"):
            self.ca.issue("server", [self.hostname, self.address], self.dir)
        out = ["hostname %s;" % self.hostname, "state %s/state;" % self.dir, "run %s/run;" % self.dir, "" if re.search(r"\blog \w", self.top) else "log stderr;", "log-level debug;" if os.environ.get("WAYPOST_DEBUG") else "", self.top,
               "tls { certificate %s/server.pem; key %s/server.key; }" % (self.dir, self.dir)]
        for name, protocol, tls in self.LISTENERS:
            plain = " plaintext-login yes;" if self.plaintext and protocol != "smtp" and tls != "implicit" else ""
            plain += " check-from no;" if protocol == "submission" and not self.check_from else ""
            out.append("listen %s { address %s; port %d; protocol %s; tls %s;%s }" % (name, self.address, self.ports[name], protocol, tls, plain))
        sections = dict(self.sections)
        if self.relay_port:
            sections["relay"] = "port %d; %s" % (self.relay_port, sections.get("relay", ""))
        if self.dns:
            sections["dns"] = "server %s; local-zones no; %s" % (self.dns, sections.get("dns", ""))
        for name, body in sections.items():
            out.append("%s { %s }" % (name, body))
        with open(self.conf, "w") as f:
            f.write("\n".join(out) + "\n")

    # ---- life ----

    def start(self, setup=True):
        if not os.path.exists(self.conf):
            self.write_conf()
        notify = self.dir + "/notify"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(notify)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind(notify)
            os.chmod(notify, 0o777)
            s.settimeout(PATIENCE)
            self.log = open(self.log_path, "ab")
            self.proc = subprocess.Popen(self.wrap + (self.command or [PROGRAMS + "/waypost", "-c", self.conf, "start"]), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                         env=dict(os.environ, NOTIFY_SOCKET=notify, **self.extra_env), start_new_session=True)
            s.settimeout(0.2)
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    if b"READY=1" in s.recv(4096):
                        break
                except socket.timeout:
                    if self.proc.poll() is not None or time.monotonic() > end:
                        raise AssertionError("waypost did not get ready (exit %s):\n%s" % (self.proc.poll(), self.logged()[-6000:]))
        if setup and not os.path.exists(self.dir + "/accounts-made"):
            for d in self.domains:
                self.waypost("domain", "add", d)
            for a, pw in self.accounts.items():
                self.waypost("account", "add", a, "--password-stdin", input=pw + "\n")
            open(self.dir + "/accounts-made", "w").close()
        return self

    def stop(self, kill=False):
        if not self.proc:
            return None
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            code = self.proc.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.proc.pid, signal.SIGKILL)
            self.proc.wait()
            raise AssertionError("waypost did not stop:\n" + self.logged()[-4000:])
        finally:
            self.log.close()
            self.proc = None
        return code

    def logged(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def wait_log(self, pattern, count=1, patience=None):
        """Waits until the log has `count` lines that match; returns them."""
        rx = re.compile(pattern)
        return until(lambda: (lambda m: m if len(m) >= count else None)([l for l in self.logged().splitlines() if rx.search(l)]),
                     lambda: "%s in the log:\n%s" % (pattern, self.logged()[-5000:]), patience)

    # ---- the operators' command ----

    def waypost(self, *args, input=None, check=True):
        r = subprocess.run([PROGRAMS + "/waypost", "-c", self.conf] + list(args), input=input, text=True, capture_output=True, timeout=PATIENCE)
        if check and r.returncode:
            raise AssertionError("waypost %s: exit %d\n%s%s" % (" ".join(args), r.returncode, r.stdout, r.stderr))
        return r

    def waypost_at_terminal(self, answer, *args):
        """The same with a terminal as standard input, on which the answer is given."""
        master, slave = os.openpty()
        try:
            os.write(master, answer.encode())
            return subprocess.run([PROGRAMS + "/waypost", "-c", self.conf] + list(args), stdin=slave, text=True, capture_output=True, timeout=PATIENCE)
        finally:
            os.close(master)
            os.close(slave)

    def rows(self, *args):
        return json.loads(self.waypost("--json", *args).stdout or "[]")

    def services(self):
        """{service name: row} of `waypost status`."""
        return {r["service"]: r for r in self.rows("status")}

    def account_processes(self):
        """The pids of the accounts' processes: children of the zygote."""
        zygotes = [r["pid"] for r in self.rows("status") if r["service"] == "zygote"]
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open("/proc/%s/stat" % pid) as f:
                    if int(f.read().rsplit(")", 1)[1].split()[1]) in zygotes:
                        found.append(int(pid))
        return found

    def queue(self):
        return self.rows("queue", "list")

    def wait_queue_empty(self, patience=None):
        def empty():  # qmgr may be on its way back
            r = self.waypost("--json", "queue", "list", check=False)
            return r.returncode == 0 and json.loads(r.stdout or "[]") == []
        until(empty, lambda: "an empty queue: %s\n%s" % (self.waypost("queue", "list", check=False).stdout, self.logged()[-5000:]), patience, 0.1)

    # ---- clients ----

    def tls(self):
        return ssl.create_default_context(cafile=self.ca.cert)

    def smtp(self, port="mx", **kw):
        return Smtp(self.address, self.ports[port], local_hostname="client.test", timeout=PATIENCE, **kw)

    def submit(self, user, port="submission"):
        if port == "submissions":
            s = SmtpSsl(self.address, self.ports[port], local_hostname="client.test", context=self.tls(), timeout=PATIENCE)
        else:
            s = self.smtp(port)
            s.starttls(context=self.tls())
        s.login(user, self.accounts[user])
        return s

    def imap(self, user=None, port="imaps", mailbox=None):
        if port == "imaps":
            c = imaplib.IMAP4_SSL(self.address, self.ports[port], ssl_context=self.tls(), timeout=PATIENCE)
        else:
            c = imaplib.IMAP4(self.address, self.ports[port], timeout=PATIENCE)
            if not self.plaintext:
                c.starttls(self.tls())
        if user:
            c.login(user, self.accounts[user])
            if mailbox:
                typ, data = c.select(mailbox)
                assert typ == "OK", data
        return c

    def pop3(self, user=None, port="pop3s"):
        if port == "pop3s":
            c = poplib.POP3_SSL(self.address, self.ports[port], context=self.tls(), timeout=PATIENCE)
        else:
            c = poplib.POP3(self.address, self.ports[port], timeout=PATIENCE)
            c.stls(self.tls())
        if user:
            c.user(user)
            c.pass_(self.accounts[user])
        return c

    def inbox(self, user, mailbox="INBOX"):
        """The raw messages in that mailbox, oldest first."""
        c = self.imap(user, mailbox=mailbox)
        try:
            typ, data = c.uid("FETCH", "1:*", "(UID BODY.PEEK[])")
            assert typ == "OK", data
            return [d[1] for d in data if isinstance(d, tuple)]
        finally:
            c.logout()

    def wait_inbox(self, user, count, mailbox="INBOX"):
        return until(lambda: (lambda m: m if len(m) >= count else None)(self.inbox(user, mailbox)),
                     lambda: "%d messages for %s:\n%s" % (count, user, self.logged()[-5000:]), pause=0.1)


def message(subject, body="Hello.\r\n", sender="someone@remote.test", to="bob@example.test", extra=""):
    return ("From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%s.%d@remote.test>\r\n%s\r\n%s" %
            (sender, to, subject, re.sub(r"\W+", "-", subject), random.getrandbits(48), extra, body)).encode()
