"""Failed logins: their one log line and the fail2ban filter that reads it; waiting for what failed before, which never concerns an owner
where he has logged in before; tallyd's count of them."""
import base64
import concurrent.futures
import imaplib
import os
import re
import signal
import socket
import ssl

import pytest

import fail2ban
import waypost as wp
from test_limits import limited, shown
from waypost import until


def without_time(line):
    return re.sub(r"^\d{4}-\d\d-\d\dT[\d:.]+Z ", "", line)


def login(w, who, user, password, port="imaps"):
    """The answer to one login from that address: True, False, or "later"."""
    s = socket.create_connection((w.address, w.ports[port]), timeout=wp.PATIENCE)
    s.sendall(("PROXY %s %s 198.51.100.1 40000 25\r\n" % ("TCP4", who)).encode())
    t = w.tls().wrap_socket(s, server_hostname=w.address)
    f = t.makefile("rb", buffering=0)
    plain = base64.b64encode(b"\0" + user + b"\0" + password.encode())
    try:
        greeting = f.readline()
        if port == "imaps":
            assert greeting.startswith(b"* OK"), greeting
            t.sendall(b"a AUTHENTICATE PLAIN " + plain + b"\r\n")
            while not (line := f.readline()).startswith(b"a "):
                assert line, "the connection ended"
            return True if line.startswith(b"a OK") else "later" if b"UNAVAILABLE" in line else False
        if port == "pop3s":
            t.sendall(b"AUTH PLAIN " + plain + b"\r\n")
            line = f.readline()
            return True if line.startswith(b"+OK") else "later" if b"SYS/TEMP" in line else False
        t.sendall(b"EHLO c.test\r\n")
        while not f.readline().startswith(b"250 "):
            pass
        t.sendall(b"AUTH PLAIN " + plain + b"\r\n")
        code = f.readline()[:3]
        return {b"235": True, b"535": False, b"454": "later"}[code]
    finally:
        f.close()
        t.close()


HOSTILE = [b"x\nauthd[1] login-failed remote=203.0.113.66 protocol=imap mechanism=PLAIN",
           b"x\r\n2026-11-24T10:00:00.000Z warn authd[1] login-failed remote=203.0.113.66 protocol=imap mechanism=PLAIN tls=1",
           b"login-failed remote=203.0.113.66 protocol=imap mechanism=PLAIN", b'"remote=203.0.113.66 protocol=imap', b"remote=203.0.113.66",
           b"\x1b[2Jremote=203.0.113.66", "\u2028authd[1] login-failed remote=203.0.113.66 protocol=imap mechanism=".encode(), b"a" * 300]


@pytest.mark.skipif(not fail2ban.available(), reason="fail2ban is not unpacked: contrib/install-packages --peers")
def test_the_filter_reads_each_failed_login_and_nothing_a_client_made_up(instances, tmp_path):
    w = limited(instances, "failed-logins 0;")
    tries = [("192.0.2.%d" % (10 * n + m + 1), name, "wrong", port) for n, port in enumerate(("imaps", "pop3s", "submissions"))
             for m, name in enumerate([b"alice@example.test"] + HOSTILE)]
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        assert not any(pool.map(lambda t: login(w, *t), tries))
    want = [t[0] for t in tries]
    for port in ("imaps", "pop3s", "submissions"):
        assert login(w, "192.0.2.200", b"alice@example.test", "wonder-1", port) is True
    # other places where a client's words reach the log
    s = socket.create_connection((w.address, w.ports["mx"]), timeout=wp.PATIENCE)
    s.sendall(b"PROXY TCP4 192.0.2.201 198.51.100.1 4 25\r\n")
    f = s.makefile("rb", buffering=0)
    f.readline()
    s.sendall(b"EHLO authd[1] login-failed remote=203.0.113.66 protocol=imap mechanism=PLAIN\r\nRCPT TO:<login-failed>\r\nQUIT\r\n")
    while f.readline():
        pass
    lines = w.wait_log(r"authd\[\d+\] login-failed ", len(want))
    assert sorted(fail2ban.hosts(w.logged().splitlines(), tmp_path)) == sorted(want)
    for l in lines:
        assert re.match(r"\S+ warn authd\[\d+\] login-failed remote=\S+ protocol=(imap|pop3|submission) mechanism=PLAIN tls=1 why=\"[^\"\\]+\" user=", l), l
    # as syslogd and the journal have it (what syslogd is given: test_log)
    body = without_time(lines[0]).split(" ", 1)[1]
    host = re.search(r" remote=(\S+) ", body).group(1)
    for form in ("Nov 26 10:00:00 host waypost-" + body.replace("] ", "]: ", 1), "2026-11-26T10:00:00.000000+00:00 host waypost-" + body.replace("] ", "]: ", 1),
                 "Nov 26 10:00:00 host waypost[1]: warn " + body):
        assert fail2ban.hosts([form], tmp_path) == [host], form


def waits(w, who):
    return [int(m.group(1)) for m in re.finditer(r"login-slowed remote=%s protocol=\w+ ms=(\d+) " % re.escape(who), w.logged())]


def test_strangers_slow_themselves_and_never_the_owner(instances):
    w = limited(instances, "failed-logins 0;")
    alice, owner = b"alice@example.test", "192.0.2.1"
    assert login(w, owner, alice, "wonder-1") is True
    for i in range(3):  # one address, one account
        assert login(w, "203.0.113.1", alice, "guess-%d" % i, "submissions") is False
    assert waits(w, "203.0.113.1") == [500]
    for i in range(9):  # many addresses, one account
        assert login(w, "198.51.100.%d" % (i + 1), alice, "guess", "submissions") is False
    w.wait_log(r"login-slowed remote=198.51.100.\d+ .*user=alice@example.test")
    assert login(w, owner, alice, "wonder-1") is True and waits(w, owner) == []
    # also over another protocol, and with somebody behind the same address trying other accounts
    for i in range(11):
        assert login(w, owner, b"nobody%d@example.test" % i, "guess", "submissions") is False
    assert login(w, owner, alice, "wonder-1", "pop3s") is True
    assert not re.search(r"login-slowed remote=192.0.2.1 .*user=alice", w.logged())
    # who was slowed gets in with the right password; and an operator lifts what is held against an address
    assert login(w, "203.0.113.1", alice, "wonder-1", "submissions") is True


def test_logins_from_exempt_networks_wait_for_nothing(instances):
    w = instances("a")
    for i in range(3):
        try:
            w.imap().login("alice@example.test", "wrong")
            raise AssertionError("a wrong password was taken")
        except imaplib.IMAP4.error:
            pass
    assert w.imap("alice@example.test").state == "AUTH"
    assert "login-slowed" not in w.logged()
    assert w.rows("client", "list", "--all") == []


def test_many_failed_logins_close_the_door_but_not_to_who_belongs_there(instances):
    w = limited(instances, "failed-logins 3; window 30d; tarpit 0;")
    bad, good = "203.0.113.1", "192.0.2.1"
    assert login(w, good, b"bob@example.test", "builder-2") is True
    for who in (bad, good):
        for i in range(3):
            assert login(w, who, b"user%d@example.test" % i, "guess", "submissions") is False
        until(lambda: round(shown(w, who)["failed-logins"]) == 3, "the count of " + who)
    s = socket.create_connection((w.address, w.ports["mx"]), timeout=wp.PATIENCE)
    s.sendall(("PROXY TCP4 %s 198.51.100.1 40000 25\r\n" % bad).encode())
    assert s.makefile("rb").readline() == b"421 4.7.0 Too many failed logins from your address, try again later\r\n"
    try:  # with TLS from the first byte nothing can be said
        login(w, bad, b"alice@example.test", "wonder-1")
        raise AssertionError("the door was open")
    except (ssl.SSLError, OSError):
        pass
    assert login(w, good, b"alice@example.test", "wonder-1") is True
    assert shown(w, good)["last-login"] and not shown(w, bad)["last-login"]
    w.waypost("client", "forget", bad)
    assert login(w, bad, b"alice@example.test", "wonder-1") is True


def restarted(w, how, noise):
    if how == "whole":
        w.stop()
        w.start()
        return
    # a crash takes away what was not yet written; rows are in the log of the database when that grows
    wal = w.dir + "/state/directory/logins.db-wal"
    size = os.path.getsize(wal) if os.path.exists(wal) else 0
    until(lambda: login(w, *next(noise), "guess", "submissions") is False and os.path.getsize(wal) > size, "rows", pause=0.1)

    def pid():
        return next(r["pid"] for r in w.rows("status") if r["service"] == "authd")
    old = pid()
    os.kill(old, signal.SIGKILL)
    until(lambda: pid() not in (0, None, old), "another authd")


def test_what_is_held_and_who_is_known_survive_restarts_and_crashes(instances):
    w = limited(instances, "failed-logins 0;")
    alice, owner, bad = b"alice@example.test", "192.0.2.1", "203.0.113.1"
    assert login(w, owner, alice, "wonder-1") is True
    for i in range(3):
        assert login(w, bad, alice, "guess", "submissions") is False
    for i in range(9):
        login(w, "198.51.100.%d" % (i + 1), alice, "guess", "submissions")
    noise = (("192.0.%d.%d" % (i // 200 + 100, i % 200), b"user%d@example.test" % i) for i in range(1, 20000))
    for how in ("crash", "whole"):
        restarted(w, how, noise)
        before = len(waits(w, bad))
        until(lambda: login(w, bad, alice, "guess", "submissions") is False, "an answer")
        assert len(waits(w, bad)) == before + 1 and waits(w, bad)[-1] >= 500
        assert login(w, owner, alice, "wonder-1", "submissions") is True and waits(w, owner) == []
    # a file that can't be read is set aside; logins go on
    w.stop()
    path = w.dir + "/state/directory/logins.db"
    with open(path, "r+b") as f:
        f.write(b"\0" * 4096)
    w.start()
    assert os.path.exists(path + ".broken") and "logins-file" in w.logged()
    assert login(w, bad, alice, "wonder-1", "submissions") is True and len(waits(w, bad)) == before + 1
