"""Local submission: SMTP on the socket that programs of this machine may connect to, and the drop directory."""
import contextlib
import os
import re
import socket
import stat

import pytest

import waypost as wp

TOKEN = "%032x"


class Local:
    """A client of run/submit.sock."""

    def __init__(self, w):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(wp.PATIENCE)
        self.sock.connect(w.dir + "/run/submit.sock")
        self.file = self.sock.makefile("rb")
        self.greeting = self.reply()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.sock.close()

    def reply(self):
        lines = []
        while True:
            line = self.file.readline().decode()
            lines.append(line[4:].rstrip())
            if line[3:4] != "-":
                return (int(line[:3]) if line else 0), lines

    def say(self, line):
        self.sock.sendall(line.encode() + b"\r\n")
        return self.reply()

    def send(self, sender, to, content, params=""):
        assert self.say("MAIL FROM:<%s>%s" % (sender, params))[0] == 250
        for t in to:
            assert self.say("RCPT TO:<%s>" % t)[0] == 250, t
        assert self.say("DATA")[0] == 354
        return self.say(content.replace("\n", "\r\n") + "\r\n.")


def batch(*messages):
    return ("EHLO here\r\n" + "".join("MAIL FROM:<%s> XTOKEN=%s\r\n%sDATA\r\n%s\r\n.\r\n" % (
        sender, TOKEN % number, "".join("RCPT TO:<%s>\r\n" % t for t in to), text.replace("\n", "\r\n")) for number, sender, to, text in messages) + "QUIT\r\n").encode()


def put(w, name, content, mode=0o600):
    """What sendmail does: complete under another name, then renamed."""
    path = w.dir + "/state/drop/"
    fd = os.open(path + "." + name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    os.write(fd, content)
    os.close(fd)
    os.rename(path + "." + name, path + name)
    return path + name


def fields(m):
    return m.split(b"\r\n\r\n", 1)[0].decode()


def test_programs_of_this_machine_speak_smtp_on_a_socket(instances):
    w = instances("a", sections={"local-submission": "domain example.test;"})
    with Local(w) as s:
        assert s.greeting == (220, ["mail.example.test ESMTP Waypost"])
        code, offers = s.say("EHLO here")
        assert code == 250 and "XTOKEN" in offers and "DSN" in offers
        assert not [o for o in offers if re.match("AUTH|STARTTLS|VRFY|EXPN|ETRN|XCLIENT", o)]
        code, text = s.send("cron", ["bob", "alice@example.test"], "Subject: bare\nBcc: hidden@example.test\n\nHello.")
        assert code == 250 and text[0].startswith("2.0.0 Ok: queued as ")
        assert s.say("MAIL FROM:<x> XTOKEN=12")[0] == 501
        assert s.say("QUIT")[0] == 221
    for user in ("bob@example.test", "alice@example.test"):
        m = fields(w.wait_inbox(user, 1)[0])
        assert "Received: by mail.example.test (Waypost, from userid %d);" % os.geteuid() in m, "RFC5322:3.6.7"
        assert "\r\nFrom: cron@example.test\r\n" in m and "\r\nDate: " in m and "\r\nMessage-ID: <" in m and "Bcc" not in m
    w.wait_log("accepted .*client=\"uid %d\"" % os.geteuid())


def test_root_at_our_own_name_is_the_postmaster(server):
    with Local(server) as s:
        s.say("EHLO here")
        assert s.send("", ["root"], "Subject: cron\n\nfailed")[0] == 250
    assert b"Subject: cron" in server.wait_inbox("alice@example.test", 1)[0]


def test_a_token_is_queued_once(server):
    with Local(server) as s:
        s.say("EHLO here")
        one, two = (s.send("a@example.test", ["bob@example.test"], "Subject: twice\n\nHello.", " XTOKEN=" + TOKEN % 7) for _ in range(2))
        assert one == two and one[0] == 250
        s.send("a@example.test", ["bob@example.test"], "Subject: last\n\nHello.")
    assert len(server.wait_inbox("bob@example.test", 2)) == 2


def test_unknown_users_are_told_by_a_notification(server):
    with Local(server) as s:
        s.say("EHLO here")
        assert s.send("alice@example.test", ["nobody@example.test"], "Subject: lost\n\nHello.")[0] == 250
    assert b"nobody@example.test" in server.wait_inbox("alice@example.test", 1)[0]


@pytest.mark.skipif(not wp.AS_ROOT, reason="needs another user")
def test_who_may(instances):
    w = instances("a", sections={"local-submission": "users \"daemon 4711\";"})

    def greeted_as(uid):
        pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(BaseException):
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                with Local(w) as s:
                    code = s.greeting[0] % 250
            os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert greeted_as(0) == greeted_as(1) == greeted_as(4711) == 220
    assert greeted_as(4712) == 554 % 250


def test_switched_off_there_is_nothing(instances):
    w = instances("a", sections={"local-submission": "enabled no;"})
    assert not os.path.exists(w.dir + "/run/submit.sock") and "smtpd-local" not in w.services()
    w.sections = {}
    w.write_conf()
    w.waypost("reload")
    wp.until(lambda: w.services().get("smtpd-local", {}).get("state") == "ready", "smtpd-local ready")
    with Local(w) as s:
        assert s.greeting[0] == 220
    w.sections = {"local-submission": "enabled no;"}
    w.write_conf()
    w.waypost("reload")
    wp.until(lambda: "smtpd-local" not in w.services(), "smtpd-local gone")
    assert not os.path.exists(w.dir + "/run/submit.sock")


# ---- the drop directory ----

def test_what_was_dropped_is_queued_once_when_the_server_starts(server):
    server.stop()
    drop = server.dir + "/state/drop"
    assert stat.S_IMODE(os.stat(drop).st_mode) == (0o1733 if wp.AS_ROOT else 0o700)
    put(server, "one", batch((1, "a@example.test", ["bob@example.test"], "Subject: one\n\nHello."), (2, "a@example.test", ["bob@example.test"], "Subject: two\n\nHello.")))
    put(server, "large", batch((3, "a@example.test", ["bob@example.test"], "Subject: three\n\n" + 20000 * "A line of text that is long enough.\n")))
    server.start()
    wp.until(lambda: os.listdir(drop) == [], "an empty drop directory")
    got = server.wait_inbox("bob@example.test", 3)
    assert sorted(re.search(rb"Subject: (\w+)", m)[1] for m in got) == [b"one", b"three", b"two"]
    assert all(b"from userid %d" % os.geteuid() in m for m in got)
    put(server, "four", batch((4, "a@example.test", ["bob@example.test"], "Subject: four\n\nHello.")))
    server.wait_inbox("bob@example.test", 4)
    wp.until(lambda: os.listdir(drop) == [], "an empty drop directory")


def test_a_crash_between_queue_and_file_queues_nothing_twice(server):
    content = batch((1, "a@example.test", ["bob@example.test"], "Subject: once\n\nHello."))
    put(server, "one", content)
    server.wait_inbox("bob@example.test", 1)
    wp.until(lambda: os.listdir(server.dir + "/state/drop") == [], "an empty drop directory")
    server.stop(kill=True)
    put(server, "one", content)  # as if it had not been truncated yet
    server.start()
    wp.until(lambda: os.listdir(server.dir + "/state/drop") == [], "an empty drop directory")
    put(server, "two", batch((2, "a@example.test", ["bob@example.test"], "Subject: next\n\nHello.")))
    assert len(server.wait_inbox("bob@example.test", 2)) == 2


def test_strange_files_harm_nobody(server):
    drop = server.dir + "/state/drop/"
    other = server.dir + "/state/other"
    with open(other, "wb") as f:
        f.write(batch((9, "a@example.test", ["bob@example.test"], "Subject: linked\n\nHello.")))
    os.chmod(other, 0o600)
    os.symlink(other, drop + "symlink")
    os.link(other, drop + "hardlink")
    os.mkfifo(drop + "fifo", 0o600)
    os.mkdir(drop + "folder")
    put(server, "garbage", os.urandom(3000))
    put(server, "half", batch((10, "a@example.test", ["bob@example.test"], "Subject: half\n\nHello."))[:-20])
    put(server, "nobody", b"EHLO here\r\nQUIT\r\n")
    put(server, "open", batch((11, "a@example.test", ["bob@example.test"], "Subject: open\n\nHello.")), mode=0o600)
    os.chmod(drop + "open", 0o644)
    put(server, "empty", b"")
    for i in range(40):
        put(server, "g%d" % i, b"MAIL\r\n")
    put(server, "good", batch((12, "a@example.test", ["bob@example.test"], "Subject: good\n\nHello.")))
    assert b"Subject: good" in server.wait_inbox("bob@example.test", 1)[0]
    for name in ("symlink", "hardlink", "fifo", "folder", "open"):
        server.wait_log("drop-strange file=%s " % name)
    for name in ("garbage", "half", "nobody", "g39"):
        server.wait_log("drop-damaged file=%s " % name)
    wp.until(lambda: not os.path.exists(drop + "good") and not os.path.exists(drop + "empty"), "what is done is removed")
    # said once, kept, and nobody else waits for them
    put(server, "later", batch((13, "a@example.test", ["bob@example.test"], "Subject: later\n\nHello.")))
    assert len(server.wait_inbox("bob@example.test", 2)) == 2
    assert server.logged().count("drop-damaged file=garbage ") == 1 and server.logged().count("drop-strange file=fifo ") == 1
    assert os.path.exists(drop + "half") and os.path.getsize(other) > 0
    os.rmdir(drop + "folder")


def test_what_is_refused_for_now_is_tried_again(instances):
    w = instances("a", sections={"smtp": "max-connections-per-client 1;"})
    with Local(w):
        put(w, "one", batch((1, "a@example.test", ["bob@example.test"], "Subject: patient\n\nHello.")))
        w.wait_log("turned-away client=\"uid %d\"" % os.geteuid())
        assert os.path.getsize(w.dir + "/state/drop/one")
    assert b"Subject: patient" in w.wait_inbox("bob@example.test", 1)[0]
    wp.until(lambda: os.listdir(w.dir + "/state/drop") == [], "an empty drop directory")
