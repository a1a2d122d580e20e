"""quickstart.py DIR [--once] [--programs FOLDER]: makes two private instances in DIR (example.test, and remote.test as the rest of the world), starts them,
shows mail flowing through every door and waits. Called by contrib/quickstart, which has built the programs in DIR/build; --programs names
another folder that holds them."""
import argparse
import fcntl
import imaplib
import os
import poplib
import re
import secrets
import signal
import smtplib
import socket
import ssl
import subprocess
import time

from names import Names

options = argparse.ArgumentParser(usage="quickstart.py DIR [--once] [--programs FOLDER]")
options.add_argument("dir")
options.add_argument("--once", action="store_true")
options.add_argument("--programs")
options = options.parse_args()
DIR = os.path.abspath(options.dir)
WAYPOST = os.path.abspath(options.programs or DIR + "/build/programs") + "/waypost"
HOME, REMOTE = "127.0.0.1", "127.0.0.2"  # where the two instances listen; the MX port is the same on both, as it is in the world
PATIENCE = 60
LISTENERS = (("mx", "smtp", "starttls", 2525, "SMTP_PORT"), ("submission", "submission", "starttls", 2587, "SUBMISSION_PORT"),
             ("submissions", "submission", "implicit", 2465, "SUBMISSIONS_PORT"), ("imap", "imap", "starttls", 2143, "IMAP_PORT"),
             ("imaps", "imap", "implicit", 2993, "IMAPS_PORT"), ("pop3", "pop3", "starttls", 2110, "POP3_PORT"), ("pop3s", "pop3", "implicit", 2995, "POP3S_PORT"))


def sh(*args, **kw):
    r = subprocess.run(args, text=True, capture_output=True, **kw)
    if r.returncode:
        raise SystemExit("quickstart: %s: %s%s" % (" ".join(args[:6]), r.stdout, r.stderr))
    return r.stdout


def free(port, addresses, taken):
    """That port when it is free on all of them, else some other one that is and is not taken."""
    for candidate in [port] + [12525 + i for i in range(2000)]:
        if candidate in taken:
            continue
        socks = []
        try:
            for a in addresses:
                s = socket.socket()
                socks.append(s)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind((a, candidate))
            return candidate
        except OSError:
            continue
        finally:
            [s.close() for s in socks]
    raise SystemExit("quickstart: no free port between 12525 and 14525")


def localhost():
    """The name when it leads to where the servers listen, else the address. The certificate is valid for both."""
    try:
        found = [a[4][0] for a in socket.getaddrinfo("localhost", None, socket.AF_INET, socket.SOCK_STREAM)]
    except OSError:
        found = []
    return "localhost" if HOME in found else HOME


def authority():
    """A certificate authority of our own and a certificate for each instance."""
    ca = DIR + "/ca"
    os.makedirs(ca, exist_ok=True)
    if not os.path.exists(ca + "/ca.pem"):
        sh("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650", "-subj", "/CN=Waypost quickstart",
           "-keyout", ca + "/ca.key", "-out", ca + "/ca.pem")
    for name, hosts in (("home", ["DNS:localhost", "DNS:mail.example.test", "IP:" + HOME]), ("remote", ["DNS:mail.remote.test", "IP:" + REMOTE])):
        base = "%s/%s" % (ca, name)
        if os.path.exists(base + ".pem"):
            continue
        with open(base + ".ext", "w") as f:
            f.write("subjectAltName=%s\n" % ",".join(hosts))
        sh("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + hosts[0][4:], "-keyout", base + ".key", "-out", base + ".csr")
        sh("openssl", "x509", "-req", "-in", base + ".csr", "-CA", ca + "/ca.pem", "-CAkey", ca + "/ca.key", "-CAcreateserial", "-days", "3650", "-extfile", base + ".ext", "-out", base + ".pem")


class Server:
    def __init__(self, name, address, domain, users, ports, dns_port):
        self.name, self.address, self.domain, self.users, self.ports = name, address, domain, users, ports
        self.dir = "%s/%s" % (DIR, name)
        self.conf = self.dir + "/waypost.conf"
        os.makedirs(self.dir, exist_ok=True)
        out = ["# Written by contrib/quickstart at each start.", "hostname mail.%s;" % domain, "state \"%s/state\";" % self.dir, "run \"%s/run\";" % self.dir,
               "tls { certificate \"%s/ca/%s.pem\"; key \"%s/ca/%s.key\"; }" % (DIR, name, DIR, name)]
        for key, protocol, tls, _, _ in LISTENERS:
            out.append("listen %s { address %s; port %d; protocol %s; tls %s; }" % (key, address, ports[key], protocol, tls))
        out += ["relay { port %d; source %s; }" % (ports["mx"], address), "dns { server %s@%d; local-zones no; }" % (HOME, dns_port)]
        with open(self.conf, "w") as f:
            f.write("\n".join(out) + "\n")

    def command(self, *args, **kw):
        return sh(WAYPOST, "-c", self.conf, *args, **kw)

    def start(self, fresh):
        """With the accounts; `fresh`: their passwords are new ones."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind("")  # the kernel picks an abstract name
            s.settimeout(0.5)
            path = "@" + s.getsockname()[1:].decode()
            self.log = open(self.dir + "/log", "ab")
            self.proc = subprocess.Popen([WAYPOST, "-c", self.conf, "start"], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=dict(os.environ, NOTIFY_SOCKET=path),
                                         start_new_session=True)
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    if b"READY=1" in s.recv(4096):
                        break
                except socket.timeout:
                    if self.proc.poll() is not None or time.monotonic() > end:
                        raise SystemExit("quickstart: %s did not start:\n%s" % (self.name, self.last_words()))
        have = self.command("account", "list")
        if self.domain not in self.command("domain", "list"):
            self.command("domain", "add", self.domain)
        for user, password in self.users.items():
            if user not in have:
                self.command("account", "add", user, "--password-stdin", input=password + "\n")
            elif fresh:
                self.command("account", "passwd", user, "--password-stdin", input=password + "\n")

    def last_words(self):
        with open(self.dir + "/log", errors="replace") as f:
            return "".join(f.readlines()[-12:])

    def stop(self):
        if getattr(self, "proc", None) and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.proc.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self.proc.pid, signal.SIGKILL)


def remembered():
    """Passwords and ports of an earlier start, from its env file, which is put aside: scripts may wait for the new one."""
    if os.path.exists(DIR + "/env"):
        os.rename(DIR + "/env", DIR + "/env.old")
    try:
        with open(DIR + "/env.old") as f:
            return dict(l.rstrip("\n").split("=", 1) for l in f if "=" in l)
    except OSError:
        return {}


def write_env(pairs):
    """For scripts: it appears whole, when everything serves."""
    with open(DIR + "/env.new", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
        f.write("".join("%s=%s\n" % kv for kv in pairs))
    os.rename(DIR + "/env.new", DIR + "/env")
    if os.path.exists(DIR + "/env.old"):
        os.unlink(DIR + "/env.old")


def mail(sender, to, subject):
    return "From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@quickstart>\r\n\r\nHello from the quickstart.\r\n" % (
        sender, to, subject, time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime()), secrets.token_hex(8))


class Show:
    def __init__(self, home, remote, host):
        self.home, self.remote, self.host, self.step = home, remote, host, 0
        self.tls = ssl.create_default_context(cafile=DIR + "/ca/ca.pem")

    def done(self, text):
        self.step += 1
        print("  %d. %s" % (self.step, text), flush=True)

    def imap_find(self, server, host, user, subject):
        """The raw message with that subject, read over IMAP with TLS; waits for it to arrive."""
        c = imaplib.IMAP4_SSL(host, server.ports["imaps"], ssl_context=self.tls, timeout=PATIENCE)
        c.login(user, server.users[user])
        c.select("INBOX")
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = c.search(None, "SUBJECT", '"%s"' % subject)[1][0].split()
            if found:
                raw = c.fetch(found[-1], "(BODY[])")[1][0][1]
                c.logout()
                return raw
            time.sleep(0.05)
            c.noop()
        raise SystemExit("quickstart: '%s' did not arrive; see %s/log" % (subject, server.dir))

    def submit(self, sender, to, subject):
        h = self.home
        with smtplib.SMTP(self.host, h.ports["submission"], "client.example.test", timeout=PATIENCE) as s:
            s.starttls(context=self.tls)
            s.login(sender, h.users[sender])
            s.mail(sender)
            s.rcpt(to)
            return s.data(mail(sender, to, subject))[1].decode()

    def run(self):
        h, (alice, bob), run = self.home, list(self.home.users), secrets.token_hex(3)
        with smtplib.SMTP(self.host, h.ports["mx"], "mail.remote.test", timeout=PATIENCE) as s:
            s.starttls(context=self.tls)
            s.sendmail("carol@remote.test", [alice], mail("carol@remote.test", alice, "From outside " + run))
        raw = self.imap_find(h, self.host, alice, "From outside " + run)
        self.done("mail from outside came in on the MX port, and alice read it over IMAP with TLS (%d bytes)" % len(raw))

        reply = self.submit(alice, bob, "From alice " + run)
        p = poplib.POP3_SSL(self.host, h.ports["pop3s"], context=self.tls, timeout=PATIENCE)
        p.user(bob)
        p.pass_(h.users[bob])
        end = time.monotonic() + PATIENCE
        while not any(("Subject: From alice " + run).encode() in p.retr(i + 1)[1] for i in range(p.stat()[0])):
            p.quit()
            if time.monotonic() > end:
                raise SystemExit("quickstart: alice's message did not arrive; see %s/log" % h.dir)
            time.sleep(0.1)
            p = poplib.POP3_SSL(self.host, h.ports["pop3s"], context=self.tls, timeout=PATIENCE)
            p.user(bob)
            p.pass_(h.users[bob])
        p.quit()
        self.done("alice submitted to bob over STARTTLS with AUTH (\"%s\"), and bob read it over POP3 with TLS" % reply)

        reply = self.submit(alice, "carol@remote.test", "To the world " + run)
        raw = self.imap_find(self.remote, REMOTE, "carol@remote.test", "To the world " + run)
        hops = re.findall(rb"^Received: from (\S+)", raw, re.M)
        self.done("a message to carol@remote.test was relayed to a second server (%s) by its MX record, and read there" % ", ".join(x.decode() for x in hops))


def alone():
    """One quickstart in a folder at a time; a server that a killed one left behind is stopped."""
    lock = open(DIR + "/lock", "a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit("quickstart: it runs already in %s" % DIR)
    for name in ("home", "remote"):
        conf = "%s/%s/waypost.conf" % (DIR, name)
        if os.path.exists(conf):
            subprocess.run([WAYPOST, "-c", conf, "stop"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return lock


def interrupted(*_):
    raise KeyboardInterrupt


def main():
    os.umask(0o022)
    for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signo, interrupted)
    started, lock = time.monotonic(), alone()
    old, host = remembered(), localhost()
    ports, home_ports = set(), {}
    for key, _, _, port, env in LISTENERS:
        home_ports[key] = free(int(old.get(env) or port), [HOME, REMOTE], ports)
        ports.add(home_ports[key])
    alice, bob = "alice@example.test", "bob@example.test"
    users = {alice: old.get("PASSWORD1") or secrets.token_urlsafe(12), bob: old.get("PASSWORD2") or secrets.token_urlsafe(12)}
    carol = {"carol@remote.test": old.get("REMOTE_PASSWORD") or secrets.token_urlsafe(12)}
    authority()
    dns = Names({"example.test": HOME, "remote.test": REMOTE}, HOME)
    dns.start()
    home = Server("home", HOME, "example.test", users, home_ports, dns.port)
    remote = Server("remote", REMOTE, "remote.test", carol, home_ports, dns.port)
    env = [("HOST", host)] + [(name, home_ports[key]) for key, _, _, _, name in LISTENERS] + [
        ("CA_FILE", DIR + "/ca/ca.pem"), ("USER1", alice), ("PASSWORD1", users[alice]), ("USER2", bob), ("PASSWORD2", users[bob]), ("CONFIG", home.conf),
        ("REMOTE_PASSWORD", carol["carol@remote.test"])]
    try:
        print("starting example.test and remote.test", flush=True)
        home.start("PASSWORD1" not in old)
        remote.start("REMOTE_PASSWORD" not in old)
        write_env(env)
        print("mail flows:", flush=True)
        Show(home, remote, host).run()
        print("all of it works, %.0f s after the build" % (time.monotonic() - started), flush=True)
        if options.once:
            return
        print("""
Point a mail client at it:
    user        %s    password  %s
    user        %s      password  %s
    IMAP        {host}:%d (TLS) or %d (STARTTLS)
    POP3        {host}:%d (TLS) or %d (STARTTLS)
    submission  {host}:%d (TLS) or %d (STARTTLS), with login
    authority   %s/ca/ca.pem
Look around:    %s -c %s status
The same as KEY=value lines: %s/env. Interrupt (Ctrl-C) to stop.""".replace("{host}", host) % (
            alice, users[alice], bob, users[bob], home_ports["imaps"], home_ports["imap"], home_ports["pop3s"], home_ports["pop3"], home_ports["submissions"],
            home_ports["submission"], DIR, WAYPOST, home.conf, DIR), flush=True)
        while home.proc.poll() is None and remote.proc.poll() is None:
            time.sleep(0.5)
        raise SystemExit("quickstart: a server ended; see %s/home/log and %s/remote/log" % (DIR, DIR))
    except KeyboardInterrupt:
        print("\nstopping", flush=True)
        if options.once:
            raise SystemExit("quickstart: interrupted")
    finally:
        for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signo, signal.SIG_IGN)
        home.stop()
        remote.stop()


main()
