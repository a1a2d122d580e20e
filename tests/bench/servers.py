"""The servers that are measured, each private, in a cgroup of its own, on a loopback address of its own: ours, Postfix, OpenSMTPD, Dovecot's LMTP.
All take mail for local.test (u1, u2, …), and for hold.test to be held; what they are told to relay goes to `out`, a measure.Sink."""
import os
import pwd
import shutil
import socket
import subprocess
import tempfile

import measure
import postfix
import waypost

AWAY = "away.test"
PEERS = os.environ.get("WAYPOST_TEST_PEERS", "")
NO_LIMITS = "exempt none; connection-rate 0; message-rate 0; refused-recipients 0; errors 0; failed-logins 0;"  # yet each client is asked about


class Unavailable(Exception):
    """A peer that can't be started here, and why."""


class Server:
    relayed_as = "x@" + AWAY  # who is to be written to for `out`

    def __init__(self, cgroup):
        self.cg = measure.Cgroup(cgroup)
        self.address = waypost.fresh_address()
        self.port = waypost.free_port(self.address)

    def pids(self):
        return self.cg.pids()

    def clean(self):
        """Empties the queue."""

    def send(self, rcpts, count, **load):
        return measure.send(self.address, self.port, rcpts, count, **load)


class Load(Server):
    """What the load itself can do: smtp-source into smtp-sink, which stores nothing."""
    name = "load"

    def __init__(self):
        super().__init__("load")
        with self.cg:
            self.sink = measure.Sink(self.address, self.port)

    def stop(self):
        self.sink.close()
        self.cg.remove()


class Ours(Server):
    name = "waypost"
    relayed_as = "out@local.test"

    def __init__(self, tmp, accounts=1, wrap=(), out=None, sections=None, away=(AWAY,)):
        """out: (sink, DNS server) that mail for out@local.test is relayed to."""
        self.cg = measure.Cgroup("ours")
        users = {"u%d@local.test" % i: "pw-%d-secret" % i for i in range(1, accounts + 1)}
        given = {"domain hold.test": "hold yes;", "smtp": "max-transactions 1000000;", **({"relay": "tls never;"} if out else {}), **(sections or {})}
        self.w = waypost.Instance(tempfile.mkdtemp(prefix="ours.", dir=tmp), domains=["local.test", "hold.test"], accounts=users, hostname="bench.test", sections=given, wrap=wrap,
                                  **({"relay_port": out[0].port, "dns": "127.0.0.1@%d" % out[1].port} if out else {}))
        with self.cg:
            self.w.start()
        self.w.waypost("account", "add", "u1@hold.test", "--password-stdin", input="pw-hold-1\n")
        if out:
            self.w.waypost("alias", "add", "out@local.test", "x@" + AWAY)
        self.address, self.port = self.w.address, self.w.ports["mx"]
        self.delivered = measure.Lines(self.w.log_path, b" delivered ").count

    def clean(self):
        self.w.waypost("queue", "remove", "--all", "--yes")


    def stop(self):
        if self.w.wrap:  # strace passes no signal on
            self.w.waypost("stop")
            self.w.proc.wait(waypost.PATIENCE)
        self.w.stop()
        self.cg.remove()


class Postfix(Server):
    name = "postfix"

    def __init__(self, tmp, accounts=1, wrap=(), out=None):
        super().__init__("postfix")
        users = ["u%d" % i for i in range(1, accounts + 1)]
        d = tempfile.mkdtemp(prefix="postfix.", dir=tmp)
        os.makedirs(d + "/etc", exist_ok=True)
        with open(d + "/etc/access", "w") as f:
            f.write("hold.test HOLD\n")
        self.p = postfix.Postfix(d, self.address, self.port, "local.test", users, wrap=wrap,
                                 extra="smtpd_recipient_restrictions = check_recipient_access texthash:%s/etc/access, permit_mynetworks, reject\nvirtual_mailbox_limit = 0\n"
                                       "mailbox_size_limit = 0\nmessage_size_limit = 50000000\n" % d)
        if out:
            self.p.route({AWAY: (out.address, out.port)})
        with self.cg:
            self.p.start()
        self.delivered = measure.Lines(self.p.log, b"status=sent (delivered to maildir)").count

    def clean(self):
        subprocess.run([self.p.sbin + "/postsuper", "-c", self.p.dir + "/etc", "-d", "ALL"], env=self.p.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        self.p.stop()
        self.cg.remove()


def filed(root):
    """How many messages are in all Maildirs under that folder."""
    return sum(len(files) for where, _, files in os.walk(root) if where.endswith("/new"))


class Unpacked(Server):
    """A server whose paths are compiled in, of an unpacked package: it gets a mount namespace of its own, in which the package lies over /usr, what it
    writes goes into our folder, and its users stand in a passwd file of our own. Nothing of the machine's is touched."""

    def __init__(self, tmp, package, program):
        self.root = "%s/%s" % (PEERS, package)
        if os.geteuid() != 0:
            raise Unavailable("%s needs root" % self.name)
        if not os.path.exists(self.root + program):
            raise Unavailable("%s is not in %s (contrib/install-packages --bench-peers)" % (program, self.root))
        super().__init__(package)
        self.dir = tempfile.mkdtemp(prefix=package + ".", dir=tmp)
        os.chmod(self.dir, 0o755)
        self.mounts = []

    def put(self, path, text, mode=0o644):
        with open(self.dir + path, "w") as f:
            f.write(text)
        os.chmod(self.dir + path, mode)
        return self.dir + path

    def bind(self, ours, over):
        self.mounts.append((ours, over))

    FIRST_ID = 64100  # of those users and groups

    def users(self, *names):
        """Those users and groups exist, for it alone."""
        with open("/etc/passwd") as p, open("/etc/group") as g:
            passwd, group = p.read(), g.read()
        for i, name in enumerate(names):
            passwd += "%s:x:%d:%d::/nonexistent:/usr/sbin/nologin\n" % (name, self.FIRST_ID + i, self.FIRST_ID + i)
            group += "%s:x:%d:\n" % (name, self.FIRST_ID + i)
        self.bind(self.put("/passwd", passwd), "/etc/passwd")
        self.bind(self.put("/group", group), "/etc/group")

    def launch(self, command):
        script = "mount -t overlay -o lowerdir=%s/usr:/usr overlay /usr && " % self.root + "".join("mount --bind '%s' '%s' && " % m for m in self.mounts) + 'exec "$@"'
        with self.cg, open(self.dir + "/log", "wb") as log:
            self.proc = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            measure.wait_for(lambda: self.proc.poll() is not None or measure.answers(self.address, self.port), timeout=20, pause=0.05)
        except RuntimeError:
            pass
        if self.proc.poll() is not None or not measure.answers(self.address, self.port):
            with open(self.dir + "/log", errors="replace") as f:
                said = f.read()[-500:].strip()
            self.stop()
            raise Unavailable("%s does not start: %s" % (self.name, said or "it does not listen"))

    def inside(self, *command, group=0):
        return subprocess.run(["nsenter", "-m", "-t", str(self.proc.pid), *command], capture_output=True, text=True, group=group)

    def delivered(self):
        return filed(self.dir + "/mail")

    def stop(self):
        self.cg.kill()
        self.proc.wait()
        self.cg.remove()


class OpenSMTPD(Unpacked):
    """It listens with a short backlog: beyond four connections at once the kernel drops some, and their clients wait for a second."""
    name = "opensmtpd"
    SESSIONS = 4

    def __init__(self, tmp, accounts=1, out=None, hold=False):
        """hold: nothing leaves its queue (it can hold only all)."""
        super().__init__(tmp, "opensmtpd", "/usr/sbin/smtpd")
        d, nobody = self.dir, pwd.getpwnam("nobody")
        for folder in ("/spool/smtpd", "/var-lib/opensmtpd/empty", "/run", "/mail"):
            os.makedirs(d + folder, exist_ok=True)
        os.chmod(d + "/spool/smtpd", 0o711)
        shutil.chown(d + "/mail", "nobody")
        with open(d + "/userbase", "w") as f:
            for i in range(1, accounts + 1):
                os.makedirs("%s/mail/u%d" % (d, i))
                shutil.chown("%s/mail/u%d" % (d, i), "nobody")
                f.write("u%d %d:%d:%s/mail/u%d\n" % (i, nobody.pw_uid, nobody.pw_gid, d, i))
        conf = self.put("/smtpd.conf", """table users file:%s/userbase
smtp max-message-size 50M
smtp limit max-mails 100000
listen on %s port %d hostname bench.test
action "here" maildir "%s/mail/%%{dest.user}/Maildir" userbase <users>
action "away" relay host smtp://%s:%d
match from any for domain "local.test" action "here"
match from any for any action "away"
""" % (d, self.address, self.port, d, out.address if out else "127.0.0.1", out.port if out else 9), 0o600)
        self.users("opensmtpd", "opensmtpq")
        for name, over in (("/spool", "/var/spool"), ("/var-lib", "/var/lib"), ("/run", "/run")):
            self.bind(d + name, over)
        self.bind(self.put("/resolv.conf", "lookup file\n"), "/etc/resolv.conf")  # it looks every client up: that stays here
        self.launch(["/usr/sbin/smtpd", "-d", "-f", conf])
        if hold and self.control("pause", "mta").returncode:
            self.stop()
            raise Unavailable("opensmtpd does not hold its queue")

    def control(self, *args):
        return self.inside("/usr/sbin/smtpctl", *args, group=self.FIRST_ID + 1)  # the package sets that group's bit

    def clean(self):
        self.control("remove", "all")


class DovecotLmtp(Unpacked):
    """Mail straight into Dovecot's Maildirs, by LMTP."""
    name = "dovecot"

    def __init__(self, tmp, accounts=1):
        super().__init__(tmp, "dovecot", "/usr/sbin/dovecot")
        d, nobody = self.dir, pwd.getpwnam("nobody")
        os.makedirs(d + "/mail")
        shutil.chown(d + "/mail", "nobody")
        conf = self.put("/dovecot.conf", """base_dir = {d}/run
state_dir = {d}/state
log_path = {d}/log
info_log_path = /dev/null
protocols = lmtp
listen = {address}
ssl = no
auth_username_format = %n
first_valid_uid = 1
first_valid_gid = 1
default_process_limit = 200
mail_location = maildir:~/Maildir
passdb {{
  driver = static
  args = nopassword=yes
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={d}/mail/%n allow_all_users=yes
}}
service lmtp {{
  inet_listener lmtp {{
    address = {address}
    port = {port}
  }}
}}
""".format(d=d, address=self.address, port=self.port, uid=nobody.pw_uid, gid=nobody.pw_gid))
        self.users("dovecot", "dovenull")
        self.launch(["/usr/sbin/dovecot", "-F", "-c", conf])

    def send(self, rcpts, count, **load):
        return measure.send(self.address, self.port, rcpts, count, lmtp=True, **load)
