"""SEND, SOML, SAML: messages to the terminals where `waypost terminal` runs. RFC 821 §3.4, RFC5321:F.6"""
import grp
import os
import pty
import re
import select
import signal
import subprocess

import waypost as wp

ON = {"smtp": "send-commands yes;"}


class Terminal:
    """`waypost terminal ACCOUNT` under a pseudo terminal."""

    def __init__(self, w, account, *args, password=None, **who):
        self.master, slave = pty.openpty()
        self.proc = subprocess.Popen([wp.PROGRAMS + "/waypost", "-c", w.conf, "terminal", account, *args], stdin=subprocess.PIPE, stdout=slave, stderr=slave, **who)
        if password:
            self.proc.stdin.write(password.encode() + b"\n")
        self.proc.stdin.close()
        os.close(slave)
        self.seen = b""

    def wait(self, pattern):
        def look():
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    pass
            return re.search(pattern, self.seen, re.S)
        return wp.until(look, lambda: "%r in %r" % (pattern, self.seen), pause=0)

    def close(self):
        self.proc.send_signal(signal.SIGINT)
        self.proc.wait(wp.PATIENCE)
        os.close(self.master)


def talk(s, verb, to, content=None, sender="carol@remote.test"):
    code, text = s.docmd(verb, "FROM:<%s>" % sender)
    if code != 250:
        return code, text.decode()
    code, text = s.rcpt(to)
    if code != 250 or content is None:
        s.rset()
        return code, text.decode()
    return s.data(content)[0], ""


def test_off_by_default(server):
    with server.smtp() as s:
        s.ehlo()
        assert not any(s.has_extn(x) for x in ("send", "soml", "saml"))
        for verb in ("SEND", "SOML", "SAML"):
            assert talk(s, verb, "bob@example.test") == (502, "5.5.1 That command is not served here")


def test_to_the_terminal_or_the_mailbox_or_both(instances):
    w = instances("a", sections=ON)
    w.waypost("alias", "add", "both@example.test", "alice@example.test", "bob@example.test")
    with w.smtp() as s:
        s.ehlo()
        assert s.has_extn("send") and s.has_extn("soml") and s.has_extn("saml")
        assert talk(s, "SEND", "bob@example.test") == (450, "4.2.1 that user has no terminal open, send mail")
        assert talk(s, "SEND", "both@example.test") == (550, "5.3.3 that is no user with a terminal here, send mail")
        assert talk(s, "SEND", "nobody@example.test")[0] == 550 and talk(s, "SAML", "x@remote.test")[0] == 550
        assert s.docmd("SEND", "TO:<bob@example.test>")[0] == 501 and s.docmd("SEND")[0] == 501
        assert talk(s, "SOML", "bob@example.test", wp.message("soml without"))[0] == 250
        assert talk(s, "SAML", "bob@example.test", wp.message("saml without"))[0] == 250
        w.wait_inbox("bob@example.test", 2)
        t, u = Terminal(w, "bob@example.test"), Terminal(w, "bob@example.test")
        t.wait(b"What is sent to bob@example.test appears here"), u.wait(b"appears here")
        assert talk(s, "SEND", "bob@example.test", wp.message("sent", body="now\r\n"))[0] == 250
        t.wait(b"Subject: sent\r\n.*\r\nnow\r\n"), u.wait(b"Subject: sent")
        assert talk(s, "SEND", "alice@example.test")[0] == 450
        assert talk(s, "SOML", "bob@example.test", wp.message("soml with"))[0] == 250
        t.wait(b"Subject: soml with")
        assert talk(s, "SAML", "bob@example.test", wp.message("saml with"))[0] == 250
        t.wait(b"Subject: saml with")
        assert talk(s, "SAML", "both@example.test", wp.message("to a list"))[0] == 250
        inbox = w.wait_inbox("bob@example.test", 4)
        assert sorted(re.search(rb"Subject: ([^\r]*)", m)[1] for m in inbox) == [b"saml with", b"saml without", b"soml without", b"to a list"]
        w.wait_queue_empty()
        t.close(), u.close()
        assert wp.until(lambda: talk(s, "SEND", "bob@example.test")[0] == 450, "closed")
        w.wait_log("terminal-closed account=bob@example.test", count=2)


def test_nothing_that_a_terminal_obeys(instances):
    w = instances("a", sections=ON)
    t = Terminal(w, "bob@example.test")
    t.wait(b"appears here")
    evil = ("From: =?utf-8?q?=1B]0;owned=07J=C3=BCrgen?= <c@remote.test>\r\nSubject: \x1b[2J\x9bclear\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            "gr\u00fc\u00df dich \x1b[31mred\x1b[0m \x1b]52;c;ZXZpbA==\x07 \u009b5n \x08\x08 \x0e \x7f end\r\n").encode()
    with w.smtp() as s:
        s.ehlo()
        assert talk(s, "SEND", "bob@example.test", evil)[0] == 250
        t.wait(b"end\r\n")
        # a large one comes from its spool file and is cut
        assert talk(s, "SEND", "bob@example.test", wp.message("large", body="0123456789abcdef\r\n" * 8000))[0] == 250
        t.wait(rb"\(more was cut off\)")
    t.close()
    assert "gr\u00fc\u00df dich".encode() in t.seen and "J\u00fcrgen".encode() in t.seen
    assert not re.search(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]", t.seen), t.seen
    assert re.search(rb"(?<!\xc3)[\x80-\xbf]", t.seen.replace("\ufffd".encode(), b"")) is None


def test_who_may_open_one(instances):
    w = instances("a", sections=ON)
    r = w.waypost("terminal", "nobody@example.test", check=False)
    assert r.returncode == 3 and "no enabled account" in r.stderr
    assert w.waypost("terminal", check=False).returncode == 2
    if wp.AS_ROOT:  # a member of the group waypost says the account's password
        member = {"user": "nobody", "extra_groups": [grp.getgrnam("waypost").gr_gid]}
        for args, password, said in (((), None, b"only root and the instance's owner"), (("--password-stdin",), "wrong-1", b"not the password of this account")):
            t = Terminal(w, "bob@example.test", *args, password=password, **member)
            t.wait(said)
            assert t.proc.wait(wp.PATIENCE) != 0
            os.close(t.master)
        t = Terminal(w, "nobody@example.test", "--password-stdin", password="wrong-1", **member)
        t.wait(b"not the password of this account")
        t.close()
        t = Terminal(w, "bob@example.test", "--password-stdin", password="builder-2", **member)
        t.wait(b"appears here")
        t.close()
    t = Terminal(w, "bob@example.test")
    t.wait(b"appears here")
    w.stop()
    assert t.proc.wait(wp.PATIENCE) in (0, 1)
    os.close(t.master)


def test_closed_between_the_door_and_delivery(instances):
    """SEND was accepted, then the last terminal closed: the sender is told. SOML goes to the mailbox."""
    w = instances("a", sections=dict(ON, **{"domain example.test": "hold yes;"}))
    t = Terminal(w, "bob@example.test")
    t.wait(b"appears here")
    with w.submit("alice@example.test") as s:
        s.ehlo()
        assert talk(s, "SEND", "bob@example.test", wp.message("too late", sender="alice@example.test"), "alice@example.test")[0] == 250
        assert talk(s, "SOML", "bob@example.test", wp.message("fallback", sender="alice@example.test"), "alice@example.test")[0] == 250
    wp.until(lambda: [r["state"] for r in w.queue()] == ["parked", "parked"], lambda: str(w.queue()))
    t.close()
    w.stop()
    w.start()  # what is in the queue remembers how it was sent
    w.waypost("queue", "release", "--all")
    m, = w.wait_inbox("bob@example.test", 1)
    assert b"Subject: fallback" in m
    # its notification is for example.test, too: held
    wp.until(lambda: [r for r in w.queue() if r["recipient"] == "alice@example.test"], lambda: str(w.queue()))
    w.wait_log("failed .*to=bob@example.test.*closed meanwhile")
    w.waypost("queue", "remove", "--all", "--yes")
