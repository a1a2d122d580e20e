"""STARTTLS and STLS at every door: what came in clear behind the command never runs, nothing that was known in clear is known behind it,
and nothing but TLS is taken from there on (HAZARDS 3, RFC3207:4.2, RFC 9051 §11.1, RFC 2595 §4). How relay meets a server that injects
replies is in test_relay_sessions."""
import base64
import re
import socket
import ssl

import pytest

import waypost as wp

ALICE = "alice@example.test"


class Door:
    def __init__(self, port, hello, start, ok, probe, answer):
        self.port, self.hello, self.start, self.ok, self.probe, self.answer = port, hello, start, ok, probe, answer


SMTP = (b"EHLO c.test\r\n", b"STARTTLS\r\n", b"220 ", b"NOOP\r\n", rb"250 2\.0\.0 [^\r\n]*\r\n")
DOORS = [Door("mx", *SMTP), Door("submission", *SMTP), Door("imap", b"a0 CAPABILITY\r\n", b"a STARTTLS\r\n", b"a OK", b"p NOOP\r\n", rb"p OK [^\r\n]*\r\n"),
         Door("pop3", b"", b"STLS\r\n", b"+OK", b"XYZZY\r\n", rb"-ERR [^\r\n]*\r\n")]
door = pytest.mark.parametrize("door", DOORS, ids=[d.port for d in DOORS])


def connect(w, door):
    s = socket.create_connection((w.address, w.ports[door.port]), timeout=wp.PATIENCE)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    f = s.makefile("rb", buffering=0)
    f.readline()
    if door.hello:
        s.sendall(door.hello)
        while not re.match(rb"250 |a0 OK", f.readline()):
            pass
    return s, f


def rest(s):
    """All that comes until the other side closes; None where TLS broke."""
    out = b""
    try:
        while True:
            d = s.recv(65536)
            if not d:
                return out
            out += d
    except OSError:
        return out


def injections(door):
    """What stands behind the command: whole commands, parts of one that the first bytes in TLS could complete, and much."""
    quit = {"imap": b"i LOGOUT\r\n"}.get(door.port, b"QUIT\r\n")
    return [door.probe, door.probe * 3 + quit, door.probe[:3], b"\r\n", door.start, b"\x16\x03\x01"[:2], door.probe * 2000]


@door
def test_what_came_in_clear_is_gone(server, door):
    for injected in injections(door):
        s, f = connect(server, door)
        s.sendall(door.start + injected)
        assert f.readline().startswith(door.ok), injected[:40]
        t = server.tls().wrap_socket(s, server_hostname=server.address)  # nothing in clear stands before the handshake
        t.sendall(door.probe + {"imap": b"q LOGOUT\r\n"}.get(door.port, b"QUIT\r\n"))
        answers = rest(t)
        first = re.match(door.answer, answers)
        assert first and len(re.findall(door.answer, answers)) == 1, (injected[:40], answers)
        t.close()


@door
def test_nothing_but_tls_is_taken_behind_the_answer(server, door):
    s, f = connect(server, door)
    s.sendall(door.start)
    assert f.readline().startswith(door.ok)
    s.sendall(door.probe * 3)
    assert not re.search(rb"250|OK|ERR|500", rest(s)), "an alert at most"
    s.close()


@door
def test_no_second_time(server, door):
    s, f = connect(server, door)
    s.sendall(door.start)
    f.readline()
    t = server.tls().wrap_socket(s, server_hostname=server.address)
    g = t.makefile("rb", buffering=0)
    t.sendall(door.start)
    assert re.match(rb"503 5\.5\.1|a BAD|-ERR", g.readline())
    t.sendall(door.probe)
    assert re.match(door.answer, g.readline())
    t.close()


def clear(instances):
    return instances("a", plaintext=True)


def plain(w):
    return base64.b64encode(b"\0%s\0%s" % (ALICE.encode(), w.accounts[ALICE].encode()))


def test_nothing_learned_in_clear_is_known_over_tls(instances):
    """A login, a name, half of a login: all of it has to come again."""
    w = clear(instances)
    by_name = {d.port: d for d in DOORS}
    # submission: EHLO and AUTH
    s, f = connect(w, by_name["submission"])
    s.sendall(b"AUTH PLAIN " + plain(w) + b"\r\n")
    assert f.readline().startswith(b"235 ")
    s.sendall(b"STARTTLS\r\n")
    assert f.readline().startswith(b"220 ")
    t = w.tls().wrap_socket(s, server_hostname=w.address)
    g = t.makefile("rb", buffering=0)
    t.sendall(b"MAIL FROM:<%s>\r\n" % ALICE.encode())
    assert g.readline().startswith(b"503 5.5.1")
    t.sendall(b"EHLO c.test\r\n")
    told = [g.readline()]
    while told[-1][3:4] == b"-":
        told.append(g.readline())
    assert b"250-STARTTLS\r\n" not in told and any(l.startswith(b"250-AUTH ") for l in told)
    t.sendall(b"MAIL FROM:<%s>\r\n" % ALICE.encode())
    assert g.readline().startswith(b"530 5.7.0")
    t.close()
    # POP3: USER
    s, f = connect(w, by_name["pop3"])
    s.sendall(b"USER %s\r\n" % ALICE.encode())
    assert f.readline().startswith(b"+OK")
    s.sendall(b"STLS\r\n")
    assert f.readline().startswith(b"+OK")
    t = w.tls().wrap_socket(s, server_hostname=w.address)
    g = t.makefile("rb", buffering=0)
    t.sendall(b"PASS %s\r\n" % w.accounts[ALICE].encode())
    assert g.readline().startswith(b"-ERR")
    t.close()
    # IMAP: who has logged in is past STARTTLS
    s, f = connect(w, by_name["imap"])
    s.sendall(b'b LOGIN %s "%s"\r\n' % (ALICE.encode(), w.accounts[ALICE].encode()))
    while not (line := f.readline()).startswith(b"b "):
        pass
    assert line.startswith(b"b OK")
    s.sendall(b"c STARTTLS\r\n")
    assert f.readline().startswith(b"c BAD")
    s.close()


@door
def test_a_handshake_that_fails_leaves_no_session(server, door):
    s, f = connect(server, door)
    s.sendall(door.start)
    assert f.readline().startswith(door.ok)
    with pytest.raises(OSError):
        ssl.create_default_context().wrap_socket(s, server_hostname=server.address)  # knows no such authority
    s.close()
    s, f = connect(server, door)  # the door is open to the next
    s.sendall(door.start)
    assert f.readline().startswith(door.ok)
    server.tls().wrap_socket(s, server_hostname=server.address).close()
