"""sendmail, mailq and newaliases, as other programs call them."""
import os
import re
import subprocess

import pytest

import waypost as wp

HELLO = "Subject: hello\n\nHello.\n"


def call(w, *args, text="", name="sendmail", uid=None):
    env = dict(os.environ, WAYPOST_CONFIG=w.conf)
    return subprocess.run([name] + list(args), executable=wp.PROGRAMS + "/waypost", input=text.encode(), capture_output=True, env=env,
                          timeout=wp.PATIENCE, user=uid, extra_groups=[] if uid is not None else None)


def hand_in(w, *args, text=HELLO, **kw):
    r = call(w, *args, text=text, **kw)
    assert r.returncode == 0, r.stderr
    return r


def head(m):
    return m.split(b"\r\n\r\n", 1)[0].decode()


def drop_is_empty(w):
    wp.until(lambda: os.listdir(w.dir + "/state/drop") == [], "an empty drop directory")


@pytest.fixture
def w(instances):
    return instances("a", sections={"local-submission": "domain example.test;"})


def test_as_cron_and_scripts_call_it(w):
    hand_in(w, "-i", "-FCronDaemon", "-B8BITMIME", "-oem", "bob", text="From: root (Cron Daemon)\nTo: bob\nSubject: Cron\n\n.\nü\n")
    m = w.wait_inbox("bob@example.test", 1)[0]
    assert "From: root@example.test (Cron Daemon)\r\n" in head(m) and "To: bob@example.test\r\n" in head(m)
    assert m.endswith("\r\n\r\n.\r\nü\r\n".encode())
    hand_in(w, "-f", "alice@example.test", "-F", 'A "quoted" name', "--", "alice", text="no header at all\n.\nbehind the end\n")
    m = w.wait_inbox("alice@example.test", 1)[0]
    assert "Return-Path: <alice@example.test>" in head(m) and 'From: "A \\"quoted\\" name" <alice@example.test>' in head(m)
    assert m.endswith(b"\r\n\r\nno header at all\r\n")


def test_the_header_says_to_whom(w):
    hand_in(w, "-t", "-oi", text="From: a@example.test\nTo: Alice <alice>\nBcc: bob@example.test,\n alice@example.test\nSubject: -t\n\n.\nbehind\n")
    for user in ("alice", "bob"):
        m = w.wait_inbox(user + "@example.test", 1)[0]
        assert "Bcc" not in head(m) and "bob" not in re.sub("(?m)^(Delivered-To|X-Original-To|Received).*(\r\n[ \t].*)*", "", head(m)) and m.endswith(b".\r\nbehind\r\n")
    r = call(w, "-t", text="Subject: to nobody\n\nHello.\n")
    assert r.returncode == 65 and b"no recipient" in r.stderr


def test_mistakes_have_their_exit_codes(w):
    assert call(w, "-bz").returncode == call(w, "-q15m").returncode == call(w).returncode == 64
    assert call(w, "-f", "a@x.test>\r\nRCPT TO:<evil@x.test", "bob").returncode == 64
    assert call(w, "@", text=HELLO).returncode == 65
    r = call(w, "-v", "-F", "x\r\nBcc: evil@example.test", "bob", text=HELLO)
    assert r.returncode == 0 and b"250 2.0.0 Ok: queued as" in r.stderr
    assert "evil" not in head(w.wait_inbox("bob@example.test", 1)[0])


def test_smtp_on_a_pipe(w):
    r = call(w, "-bs", text="EHLO x\r\nMAIL FROM:<a>\r\nRCPT TO:<bob>\r\nDATA\r\nSubject: pipe\r\n\r\nHello.\r\n.\r\nQUIT\r\n")
    assert r.returncode == 0 and b"\r\n221 " in r.stdout
    assert b"Subject: pipe" in w.wait_inbox("bob@example.test", 1)[0]
    w.stop()
    r = call(w, "-bs")
    assert r.returncode == 75 and r.stdout.startswith(b"421 ")


def test_wishes_about_notifications(w):
    hand_in(w, "-f", "alice@example.test", "-N", "success", "-R", "hdrs", "-V", "my id", "bob")
    m = w.wait_inbox("alice@example.test", 1)[0]
    assert b"Original-Envelope-Id: my id" in m and b"Action: delivered" in m and b"text/rfc822-headers" in m
    hand_in(w, "-f", "alice@example.test", "-N", "never", "nobody@example.test")
    hand_in(w, "-f", "", "alice")
    assert [b"Subject: hello" in m for m in w.wait_inbox("alice@example.test", 2)].count(True) >= 1


def test_while_the_server_is_down_nothing_is_lost(w):
    w.stop()
    for i in range(3):
        hand_in(w, "bob", text="Subject: number %d\n\n.\n..x\n" % i)
    assert len(os.listdir(w.dir + "/state/drop")) == 3
    w.start()
    got = w.wait_inbox("bob@example.test", 3)
    assert sorted(re.search(rb"Subject: number (\d)", m)[1] for m in got) == [b"0", b"1", b"2"]
    drop_is_empty(w)
    w.stop(kill=True)
    hand_in(w, "-i", "bob", text="Subject: after a kill\n\n.\n..x\n")
    w.start()
    got = w.wait_inbox("bob@example.test", 4)
    assert len(got) == 4 and any(b"Subject: after a kill" in m and m.endswith(b"\r\n\r\n.\r\n..x\r\n") for m in got)
    drop_is_empty(w)


def test_no_place_for_it_is_said(w):
    w.stop()
    os.rename(w.dir + "/state/drop", w.dir + "/state/away")
    r = call(w, "bob", text=HELLO)
    assert r.returncode == 75 and b"submit.sock" in r.stderr and b"drop" in r.stderr
    os.rename(w.dir + "/state/away", w.dir + "/state/drop")


@pytest.mark.skipif(not wp.AS_ROOT, reason="needs another user")
def test_other_users(instances):
    w = instances("a", sections={"local-submission": "domain example.test; users daemon;"})
    hand_in(w, "bob", uid=1)
    m = w.wait_inbox("bob@example.test", 1)[0]
    assert "(Waypost, from userid 1)" in head(m) and "<daemon@example.test>" in head(m)
    assert call(w, "bob", text=HELLO, uid=4712).returncode == 77
    r = call(w, name="mailq", uid=1)
    assert r.returncode == 69 and b"only root, the owner of the instance and the group waypost" in r.stderr
    w.stop()
    hand_in(w, "bob", uid=1)
    w.start()
    assert "(Waypost, from userid 1)" in head(w.wait_inbox("bob@example.test", 2)[1])


def test_the_queue(w):
    assert call(w, name="mailq").stdout == b"Mail queue is empty\n"
    w.waypost("dest", "suspend", "elsewhere.test")
    hand_in(w, "x@elsewhere.test")
    for args, name in (((), "mailq"), (("-bp",), "sendmail")):
        r = call(w, *args, name=name)
        assert r.returncode == 0 and b"x@elsewhere.test" in r.stdout
    for args in (["-q"], ["-qRx@elsewhere.test"], ["-qI" + w.queue()[0]["id"]]):
        assert call(w, *args).returncode == 0, args
    w.waypost("queue", "remove", "--all", "--yes")


def test_aliases(w):
    for r in (call(w, name="newaliases"), call(w, "-bi"), call(w, "newaliases", name="waypost")):
        assert r.returncode == 0 and b"at once" in r.stdout
