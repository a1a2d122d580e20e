"""A private Postfix for tests, run from an unpacked package (never installed). It needs root: master(8) changes uids.

    p = Postfix(tmpdir, address="127.9.9.9", port=2525, mydestination="remote.test", users=["carol"])
    p.start() ... p.maildir("carol") ... p.send(from, to, data) ... p.stop()
"""
import email
import os
import shutil
import signal
import socket
import subprocess
import time

PEERS = os.environ.get("WAYPOST_TEST_PEERS", "")
OWNER, GROUP = "waypost-postfix", "waypost-postdrop"  # made by tests/run


def available():
    return os.geteuid() == 0 and os.path.exists(PEERS + "/usr/sbin/postfix")


class Postfix:
    def __init__(self, tmp, address, port, domain, users=(), extra="", wrap=()):
        self.dir = str(tmp)
        self.wrap = list(wrap)  # a command put before the server's (strace …)
        self.address, self.port, self.domain, self.users, self.extra = address, port, domain, list(users), extra
        self.sbin = PEERS + "/usr/sbin"
        self.env = dict(os.environ, LD_LIBRARY_PATH=PEERS + "/usr/lib/postfix", MAIL_CONFIG=self.dir + "/etc")
        self.log = self.dir + "/maillog"

    def start(self):
        for d in ("etc", "spool", "data", "mail"):
            os.makedirs(self.dir + "/" + d, exist_ok=True)
        os.chmod(self.dir, 0o755)
        shutil.chown(self.dir + "/data", OWNER)
        shutil.chown(self.dir + "/mail", "nobody")
        main = """compatibility_level = 3.6
command_directory = {sbin}
daemon_directory = {peers}/usr/lib/postfix/sbin
shlib_directory = {peers}/usr/lib/postfix
meta_directory = {dir}/etc
sendmail_path = {sbin}/sendmail
mailq_path = {sbin}/mailq
newaliases_path = {sbin}/newaliases
queue_directory = {dir}/spool
data_directory = {dir}/data
mail_owner = {owner}
setgid_group = {group}
import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C LD_LIBRARY_PATH
export_environment = TZ MAIL_CONFIG LANG LD_LIBRARY_PATH
maillog_file = {log}
maillog_file_prefixes = {dir}
myhostname = mail.{domain}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
smtp_bind_address = {address}
inet_protocols = ipv4
alias_maps =
local_recipient_maps =
smtp_dns_support_level = disabled
smtp_tls_security_level = may
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = texthash:{dir}/etc/vmap
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_minimum_uid = 1
transport_maps = texthash:{dir}/etc/transport
minimal_backoff_time = 5s
maximal_backoff_time = 10s
queue_run_delay = 5s
{extra}
""".format(sbin=self.sbin, peers=PEERS, dir=self.dir, owner=OWNER, group=GROUP, log=self.log, domain=self.domain, address=self.address, extra=self.extra)
        with open(self.dir + "/etc/main.cf", "w") as f:
            f.write(main)
        with open(self.dir + "/etc/vmap", "w") as f:
            f.write("".join("%s@%s %s/\n" % (u, self.domain, u) for u in self.users))
        if not os.path.exists(self.dir + "/etc/transport"):
            self.route({})
        with open(PEERS + "/usr/share/postfix/master.cf.dist") as src, open(self.dir + "/etc/master.cf", "w") as dst:
            for line in src:
                w = line.split()
                if line[:1] in "# \t" or len(w) < 8:
                    dst.write(line)
                    continue
                w[4] = "n"  # not chrooted
                if w[0] == "smtp" and w[1] == "inet":
                    w[0] = "%s:%d" % (self.address, self.port)
                dst.write(" ".join(w) + "\n")
            dst.write("postlog unix-dgram n - n - 1 postlogd\n")
        open(self.dir + "/etc/dynamicmaps.cf", "w").close()
        # what the start script would make and check; master(8) itself then needs nothing of the package's own places
        for d in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace", "maildrop", "public", "pid"):
            os.makedirs("%s/spool/%s" % (self.dir, d), exist_ok=True)
            if d != "pid":
                shutil.chown("%s/spool/%s" % (self.dir, d), OWNER, GROUP if d in ("maildrop", "public") else None)
            os.chmod("%s/spool/%s" % (self.dir, d), {"maildrop": 0o730, "public": 0o710, "pid": 0o755}.get(d, 0o700))
        self.proc = subprocess.Popen(self.wrap + [PEERS + "/usr/lib/postfix/sbin/master", "-c", self.dir + "/etc", "-d"], env=self.env, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                socket.create_connection((self.address, self.port), timeout=5).close()
                return self
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("postfix does not listen: " + self.logged()[-2000:])

    def route(self, routes):
        """{domain: (host, port)}: where mail for other domains goes."""
        os.makedirs(self.dir + "/etc", exist_ok=True)
        with open(self.dir + "/etc/transport", "w") as f:
            f.write("".join("%s smtp:[%s]:%d\n" % (d, h, p) for d, (h, p) in routes.items()))

    def send(self, sender, rcpts, data):
        """Submits through its own sendmail command."""
        subprocess.run([self.sbin + "/sendmail", "-C", self.dir + "/etc", "-i", "-f", sender] + list(rcpts), input=data, env=self.env, check=True)

    def messages(self, user):
        new = "%s/mail/%s/new" % (self.dir, user)
        out = []
        for name in sorted(os.listdir(new)) if os.path.isdir(new) else []:
            with open(new + "/" + name, "rb") as f:
                out.append(email.message_from_bytes(f.read()))
        return out

    def logged(self):
        try:
            with open(self.log) as f:
                return f.read()
        except OSError:
            return ""

    def stop(self):
        if self.wrap:  # strace passes no signal on
            with open(self.dir + "/spool/pid/master.pid") as f:
                os.kill(int(f.read()), signal.SIGTERM)
        else:
            self.proc.terminate()  # master ends its children
        try:
            self.proc.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.proc.pid, 9)
            self.proc.wait()
