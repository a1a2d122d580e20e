"""Where log lines go: syslog, through a restart of the daemon behind /dev/log, and the form that journald reads. stderr is what every other test reads."""
import os
import re
import smtplib
import socket
import threading

import pytest

import fail2ban
import waypost as wp
from waypost import message, until

# A /dev in a mount namespace of its own, where /dev/log leads to a socket of ours.
OWN_DEV = """set -eu
dev=$1 log=$2; shift 2
mkdir -p "$dev"; mount -t tmpfs none "$dev"
for f in null zero full random urandom tty; do touch "$dev/$f"; mount --bind "/dev/$f" "$dev/$f"; done
mkdir "$dev/shm"; mount --bind /dev/shm "$dev/shm"
ln -s "$log" "$dev/log"
mount --move "$dev" /dev
exec "$@"
"""


class Syslogd:
    def __init__(self, path):
        self.path, self.lines, self.ending = path, [], False
        if os.path.exists(path):
            os.unlink(path)
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.s.bind(path)
        os.chmod(path, 0o666)
        self.s.settimeout(0.1)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while not self.ending:
            try:
                self.lines.append(self.s.recv(65536).decode())
            except socket.timeout:
                pass

    def wait(self, pattern):
        rx = re.compile(pattern)
        return until(lambda: [l for l in list(self.lines) if rx.search(l)], lambda: "%s at syslogd:\n%s" % (pattern, "\n".join(self.lines[-60:])))

    def end(self):
        self.ending = True
        self.thread.join()
        self.s.close()


def send(w, subject):
    with w.smtp() as s:
        s.sendmail("carol@remote.test", ["bob@example.test"], message(subject))


@pytest.mark.skipif(not wp.AS_ROOT, reason="run as a user; the run as root has it (a /dev/log of its own needs a mount namespace)")
def test_syslog_and_its_restart(instances, tmp_path):
    path = str(tmp_path / "log-socket")
    first = Syslogd(path)
    w = instances("a", top="log syslog;", wrap=["unshare", "-m", "sh", "-c", OWN_DEV, "sh", str(tmp_path / "dev"), path])
    form = r"^<22>[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d waypost-%s\[\d+\]: %s"
    send(w, "one")
    for program, event in (("waypostd", "ready"), ("smtpd", "accepted .*qid="), ("qmgr", "delivered .*qid=")):
        first.wait(form % (program, event))
    with pytest.raises(smtplib.SMTPAuthenticationError), w.smtp("submission") as s:
        s.starttls(context=w.tls())
        s.login("alice@example.test", "wrong")
    line = first.wait(r"^<20>[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d waypost-authd\[\d+\]: login-failed ")[0]
    if fail2ban.available():  # syslogd takes the priority away and puts the name of the host in
        written = re.sub(r"^<\d+>(.{15}) ", r"\1 host ", line)
        assert fail2ban.hosts([written], tmp_path) == [re.search(r" remote=(\S+) ", line)[1]], written
    first.end()
    send(w, "to nobody")  # lost lines stop no mail
    w.wait_inbox("bob@example.test", 2)
    second = Syslogd(path)

    def heard(program):
        send(w, "after the restart")
        w.waypost("reload")
        return any(re.match(form % (program, "."), l) for l in list(second.lines))

    for program in ("smtpd", "qmgr", "waypostd"):
        until(lambda: heard(program), lambda: "a line of %s after the restart: %s" % (program, second.lines), pause=0.1)
    os.unlink(w.conf)
    w.top = "log stderr;"
    w.write_conf()
    w.waypost("reload")
    second.wait(form % ("waypostd", "reload"))
    send(w, "to stderr again")
    w.wait_log(r"^\S+ info smtpd\[\d+\] accepted ")
    w.top = "log syslog;"
    w.write_conf()
    w.waypost("reload")
    had = len(second.lines)
    send(w, "and back")
    until(lambda: any(re.match(form % ("smtpd", "accepted"), l) for l in second.lines[had:]), "smtpd follows the reload")
    second.end()


def test_journal_lines_carry_their_level(instances):
    w = instances("a", top="log journal;")
    send(w, "one")
    w.wait_log(r"^<6>info smtpd\S*\[\d+\] accepted .*qid=")
    assert not re.search(r"^(?!<[3-7]>(error|warn|info|debug) )", w.logged().rstrip("\n"), re.M), "every line, and no time: journald has its own"
