"""SMTP smuggling (CVE-2023-51764, -51765, -51766, HAZARDS 1) through the whole server: what comes in by DATA, in pieces over TLS, or by
BDAT, with anything that some server may take for the end of data, is refused or stays one message: in the mailbox, at a next host that
reads strictly, and at a Postfix of before the fix, which does not."""
import itertools
import re
import socket

import pytest

import dnszone
import postfix
import waypost as wp
from mtasink import Sink
from waypost import until

PORT = 25025  # of the next hosts; their addresses differ
BODY = b"Subject: outer %d\r\nFrom: c@remote.test\r\n\r\nbody"
INNER = b"MAIL FROM:<admin@remote.test>\r\nRCPT TO:<carol@remote.test>\r\nRCPT TO:<x@sink.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nforged"
LINES = (b"\r", b"\n", b"\r\n", b"\0\r\n", b"\r\r\n", b"\n\r")
PATTERNS = [a + b"." + b for a, b in itertools.product(LINES, LINES)] + [b"\r\n..\r\n", b"\r\n. \r\n", b"\r\n.\0\r\n", b"\n\n.\n\n", b"\r\n.\r\n.\r\n", b"\r\n.\r\r\n", b"", b"."]
WAYS = ("data", "tls", "bdat")


def alone(s):
    """CR or LF without the other in it."""
    return re.search(rb"\r(?!\n)|(?<!\r)\n", s) is not None


def refused(content, normalised):
    if b"\0" in content:
        return True
    return b"\r\r" in content if normalised else alone(content)


class Client:
    def __init__(self, w, way):
        self.s = socket.create_connection((w.address, w.ports["mx"]), timeout=wp.PATIENCE)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.f = self.s.makefile("rb")
        self.reply()
        self.say(b"EHLO c.test")
        if way == "tls":
            assert self.say(b"STARTTLS") == b"220"
            self.s = w.tls().wrap_socket(self.s, server_hostname=w.address)
            self.f = self.s.makefile("rb")
            self.say(b"EHLO c.test")

    def reply(self):
        while True:
            line = self.f.readline()
            assert line, "the connection is closed"
            if line[3:4] != b"-":
                return line[:3]

    def say(self, line):
        self.s.sendall(line + b"\r\n")
        return self.reply()

    def close(self):
        self.f.close()
        self.s.close()


def send(w, way, number, pattern):
    """One message with the pattern in it: the content, and the reply; the session must have taken it for one."""
    c = Client(w, way)
    head, content = BODY % number, BODY % number + pattern + INNER
    assert c.say(b"MAIL FROM:<c@remote.test>") == b"250" and c.say(b"RCPT TO:<out@example.test>") == b"250"
    if way == "bdat":
        c.s.sendall(b"BDAT %d\r\n" % (len(head) + 1) + content[:len(head) + 1])
        code = c.reply()
        if code == b"250":
            rest = content[len(head) + 1:]
            c.s.sendall(b"BDAT %d LAST\r\n" % len(rest) + rest)
            code = c.reply()
    else:
        assert c.say(b"DATA") == b"354"
        if way == "tls":  # each octet in a record of its own
            c.s.sendall(head)
            for i in range(len(pattern)):
                c.s.sendall(pattern[i:i + 1])
            c.s.sendall(INNER)
        else:
            c.s.sendall(content)
        c.s.sendall(b"\r\n.\r\n")
        code = c.reply()
    assert c.say(b"NOOP") == b"250" and c.say(b"QUIT") == b"221"  # nothing is answered beside these
    assert c.f.read() == b""
    c.close()
    return code


def send_all(w, normalised):
    """Every pattern in each way; the numbers of the messages that were taken."""
    taken, number = [], 0
    for pattern, way in itertools.product(PATTERNS, WAYS):
        content = BODY % 0 + pattern + INNER
        if way != "bdat" and b"\r\n.\r\n" in pattern:
            continue  # that is the end, by right
        number += 1
        code = send(w, way, number, pattern)
        assert code == (b"554" if refused(content, normalised) else b"250"), (pattern, way, code)
        if code == b"250":
            taken.append(number)
    return taken


def numbers(messages):
    """Of the messages, by their only header section."""
    out = []
    for m in messages:
        head = m.split(b"\r\n\r\n")[0]
        assert b"smuggled" not in head, m
        out.append(int(re.search(rb"^Subject: outer (\d+)\r?$", head, re.M)[1]))
    return sorted(out)


@pytest.fixture
def world(instances, tmp_path):
    """make(settings, postfix) → our server, in front of a sink, perhaps of a Postfix, with one address that leads to both and to bob."""
    made = []

    def make(smtp, theirs=None):
        sink = Sink(wp.fresh_address(), PORT)
        sink.thread.start()
        made.append(sink)
        dns = dnszone.start_dns(tmp_path / "dns", ["sink.test. MX 10 mx.sink.test.", "mx.sink.test. A " + sink.address,
                                                   "remote.test. MX 10 mx.remote.test.", "mx.remote.test. A " + (theirs or sink.address)])
        made.append(dns)
        w = instances("a", relay_port=PORT, dns="127.0.0.1@%d" % dns.port, sections={"smtp": smtp, "queue": "retry-min 1s; retry-max 2s;"})
        w.waypost("alias", "add", "out@example.test", "bob@example.test", "x@sink.test", *(["carol@remote.test"] if theirs else []))
        return w, sink

    yield make
    for m in reversed(made):
        m.stop()


def check(w, sink, taken):
    until(lambda: len(sink.messages()) >= len(taken), lambda: "%d messages at the sink, not %d:\n%s" % (len(sink.messages()), len(taken), w.logged()[-3000:]))
    w.wait_queue_empty()
    assert numbers(m.data for m in sink.messages()) == taken
    assert not any(alone(m.raw) or b"\0" in m.raw or b"\r\n.\r\n" in m.raw for m in sink.messages())
    assert {m.sender for m in sink.messages()} == {"c@remote.test"}
    mine = w.wait_inbox("bob@example.test", len(taken))
    assert numbers(mine) == taken and not any(alone(m) or b"\0" in m for m in mine)


def test_no_pattern_makes_two_messages(world):
    w, sink = world("max-errors 1000;")
    taken = send_all(w, False)
    assert 0 < len(taken) < len(PATTERNS)
    check(w, sink, taken)


needs_postfix = pytest.mark.skipif(not postfix.available(), reason="Postfix needs root")


@needs_postfix
def test_postfix_behind_us_is_told_of_one_message(world, tmp_path):
    theirs = wp.fresh_address()
    p = postfix.Postfix(tmp_path / "pf", theirs, PORT, "remote.test", ["carol", "admin"])
    p.start()
    try:
        w, sink = world("bare-line-ends normalise;", theirs)
        taken = send_all(w, True)
        assert len(taken) > len(PATTERNS)
        check(w, sink, taken)
        got = until(lambda: (lambda m: m if len(m) >= len(taken) else None)(p.messages("carol")), lambda: "all at Postfix:\n" + p.logged()[-3000:])
        assert sorted(int(m["Subject"].split()[1]) for m in got) == taken
        assert {m["Return-Path"] for m in got} == {"<c@remote.test>"}
    finally:
        p.stop()


def test_normalised_content_stays_one_message(world):
    w, sink = world("bare-line-ends normalise;")
    check(w, sink, send_all(w, True))
