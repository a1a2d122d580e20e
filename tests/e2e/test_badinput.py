"""Bad input at every door: the right error, bounded memory, no crash. HAZARDS 1, 2, 3, 5, 23."""
import os
import random
import re
import socket
import ssl
import threading

import pytest

import waypost as wp
from waypost import message

DOORS = ("mx", "submission", "imap", "pop3")
TLS_DOORS = ("submissions", "imaps", "pop3s")
PROGRAMS = {"mx": "smtpd-mx", "submission": "smtpd-submission", "submissions": "smtpd-submission", "imap": "imapd", "imaps": "imapd", "pop3": "pop3d", "pop3s": "pop3d"}


def connect(w, port):
    s = socket.create_connection((w.address, w.ports[port]), timeout=wp.PATIENCE)
    return s, s.makefile("rb", buffering=0)


def greeted(w):
    """A connection to the MX that has said EHLO and heard the answer."""
    s, f = connect(w, "mx")
    f.readline()
    s.sendall(b"EHLO c.test\r\n")
    while f.readline()[3:4] == b"-":
        pass
    return s, f


def drain(s):
    out = b""
    try:
        while True:
            d = s.recv(65536)
            if not d:
                return out
            out += d
            if len(out) > 4 << 20:
                raise AssertionError("a flood of replies")
    except TimeoutError:
        raise AssertionError("the door stays open")
    except OSError:
        return out


def restarts(w):
    return {(r["service"], r["pid"]): r["restarts"] for r in w.rows("status")}


def rss_kb(w, name):
    total = 0
    for r in w.rows("status"):
        if r["service"].startswith(name):
            for l in open("/proc/%d/status" % r["pid"]):
                if l.startswith("VmRSS"):
                    total += int(l.split()[1])
    return total


@pytest.mark.parametrize("door", DOORS + TLS_DOORS)
def test_garbage_nuls_and_endless_lines(server, door):
    before = restarts(server)
    r = random.Random(7)
    name = PROGRAMS[door]
    start = rss_kb(server, name)
    for payload in (bytes(r.randrange(256) for _ in range(20000)), b"\0" * 5000 + b"\r\n", b"A" * (10 << 20), b"NOOP\0\r\n" * 50, b"\r\n" * 2000, b"a " + b"(" * 100000 + b"\r\n",
                    b"a LOGIN {999999999999}\r\n", b"a LOGIN {100000+}\r\n" + b"x" * 100000, b"AUTH PLAIN " + b"=" * 20000 + b"\r\n", b"\xff\xfe\r\n" * 100):
        s, f = connect(server, door)
        t = threading.Thread(target=lambda: drain(s))
        t.start()
        try:
            s.sendall(payload)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        t.join(wp.PATIENCE)
        assert not t.is_alive(), "the door closed after the end of input"
        s.close()
    assert restarts(server) == before, "no program died"
    if not wp.SANITIZED:
        assert rss_kb(server, name) - start < 8192, "memory stays bounded"


def client_hello(w):
    """The first flight of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        w.tls().wrap_bio(incoming, outgoing, server_hostname=w.address).do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("door", TLS_DOORS)
def test_handshakes_that_break_off(server, door):
    """At the ports where TLS comes first: nothing but an alert is answered to what is no handshake, and half a ClientHello harms nobody."""
    hello = client_hello(server)
    before = restarts(server)
    for part in (b"", hello[:1], hello[:5], hello[:len(hello) // 2], hello[:-1]):
        s, f = connect(server, door)
        s.sendall(part)
        s.shutdown(socket.SHUT_WR)
        assert drain(s)[:1] in (b"", b"\x15"), "an alert at most (RFC8446:6)"
        s.close()
    for bad in (b"EHLO c.test\r\n", b"a LOGIN alice wonder-1\r\n", b"GET / HTTP/1.0\r\n\r\n", hello[:5] + b"\0" * (len(hello) - 5), hello + b"\xff" * 100):
        s, f = connect(server, door)
        s.sendall(bad)
        got = drain(s)  # the server closes by itself
        assert got[:1] in (b"", b"\x15", b"\x16") and not re.search(rb"220|OK|500|BAD|ERR", got[:5]), got
        s.close()
    assert restarts(server) == before


@pytest.mark.parametrize("door", TLS_DOORS)
def test_half_a_handshake_is_let_go(instances, door):
    w = instances("a", sections={"smtp": "command-timeout 1s;", "imap": "login-timeout 1s;", "pop3": "login-timeout 1s;"})
    hello = client_hello(w)
    for part in (b"", hello[:len(hello) // 2]):
        s, f = connect(w, door)
        s.sendall(part)
        assert drain(s) == b""  # and the server closes
        s.close()


@pytest.mark.parametrize("door", ("imap", "pop3"))
def test_single_bytes_win_no_time_before_the_login(instances, door):
    """One byte now and then, or one command after the other: who does not log in is let go."""
    w = instances("a", sections={"imap": "login-timeout 1s;", "pop3": "login-timeout 1s;"})
    for said in (b"x", {"imap": b"a NOOP\r\n", "pop3": b"CAPA\r\n"}[door]):
        s, f = connect(w, door)
        assert re.match(rb"\* OK|\+OK", f.readline())
        got = []
        reader = threading.Thread(target=lambda: got.append(drain(s)), daemon=True)
        reader.start()
        while reader.is_alive():
            try:
                s.sendall(said)
            except OSError:
                pass
            reader.join(0.05)
        assert b"no login came for too long" in got[0], got
        s.close()


def smtp_send(w, data):
    """One transaction whose content is exactly `data`, end included; returns the replies after 354."""
    s, f = greeted(w)
    s.sendall(b"MAIL FROM:<c@remote.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
    replies = [f.readline() for _ in range(3)]
    assert replies[2].startswith(b"354"), replies
    s.sendall(data + b"\r\n.\r\nQUIT\r\n")
    rest = drain(s)
    s.close()
    return rest.splitlines()


def test_bare_line_ends_are_refused_and_the_session_goes_on(server):
    for bad in (b"a\nb", b"a\rb", b"a\0b"):
        replies = smtp_send(server, b"Subject: x\r\n\r\n" + bad)
        assert re.match(rb"55[04] 5\.", replies[0]), replies
        assert replies[1].startswith(b"221"), replies
    assert server.inbox("bob@example.test") == []


def test_pipelined_commands_with_a_failing_rcpt_get_a_reply_each(server):
    s, f = greeted(server)
    s.sendall(b"MAIL FROM:<c@remote.test>\r\nRCPT TO:<nobody@example.test>\r\nRCPT TO:<bob@example.test>\r\nRCPT TO:<x@elsewhere.test>\r\nRSET\r\nNOOP\r\nQUIT\r\n")
    codes = [l[:3] for l in drain(s).splitlines()]
    assert codes == [b"250", b"550", b"250", codes[3], b"250", b"250", b"221"] and codes[3][:1] == b"5", codes


def test_half_closed_and_slow_senders(server):
    s, f = connect(server, "mx")
    f.readline()
    for c in b"EHLO c.test\r\n":
        s.sendall(bytes([c]))
    while f.readline()[3:4] == b"-":
        pass
    s.sendall(b"MAIL FROM:<c@remote.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
    [f.readline() for _ in range(3)]
    s.sendall(b"Subject: cut\r\n\r\nnever ends")
    s.shutdown(socket.SHUT_WR)
    drain(s)
    s.close()
    s, f = greeted(server)
    s.sendall(b"MAIL FROM:<c@remote.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
    [f.readline() for _ in range(3)]
    for c in message("slow") + b".\r\n":
        s.sendall(bytes([c]))
    assert f.readline().startswith(b"250")
    s.shutdown(socket.SHUT_WR)
    assert re.fullmatch(rb"(421 4\.[0-9.]+ [^\r\n]*\r\n)?", drain(s)), "nothing is answered to the end but perhaps a farewell"
    server.wait_inbox("bob@example.test", 1)
    assert b"Subject: slow" in server.inbox("bob@example.test")[0]


def test_mailbox_local_parts_are_data(server):
    """HAZARDS 8: whatever a local part holds, it is refused or delivered as an address, never acted upon."""
    s, f = greeted(server)
    for local in (b"|/bin/sh", b";id", b"$(id)", b"`id`", b"../../etc/passwd", b"/dev/null", b"'or 1=1--", b"x" * 250, b'"a\\"b"', b"%s%s%n", b"{}", b"-oQ/tmp"):
        s.sendall(b"MAIL FROM:<" + local + b"@remote.test>\r\nRCPT TO:<" + local + b"@example.test>\r\nRSET\r\n")
        replies = [f.readline() for _ in range(3)]
        assert all(r[:1] in b"25" for r in replies), (local, replies)
        assert replies[1][:1] == b"5", (local, replies)


@pytest.mark.parametrize("door", DOORS)
def test_many_idle_connections_leave_room_for_mail(server, door):
    idle = [connect(server, door)[0] for _ in range(50)]
    with server.smtp() as s:
        s.sendmail("c@remote.test", ["bob@example.test"], message("still served"))
    server.wait_inbox("bob@example.test", 1)
    for s in idle:
        s.close()
