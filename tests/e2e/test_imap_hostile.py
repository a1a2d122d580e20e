"""What a hostile client or a hostile message makes of IMAP: protocol lines that parse back to what went in, work and memory that stay
within bounds. HAZARDS 7, 22, 23."""
import random
import re
import time

import pytest

from waypost import message

ALICE = "alice@example.test"


class Raw:
    def __init__(self, server):
        c = server.imap(ALICE)
        self.s, self.f, self.n = c.sock, c.sock.makefile("rb"), 0
        self.s.settimeout(30)
        self.keep = c

    def cmd(self, *parts):
        """parts: str as it stands, bytes as a literal. Returns (status line, [tokens of each untagged response])."""
        self.n += 1
        tag = b"t%d" % self.n
        out = tag + b" "
        for p in parts:
            out += p.encode() if isinstance(p, str) else b"{%d+}\r\n%s" % (len(p), p)
        self.s.sendall(out + b"\r\n")
        untagged = []
        while True:
            tokens = self.response()
            if tokens[0] == tag:
                return b" ".join(t for t in tokens[1:3] if isinstance(t, bytes)).decode(), untagged
            assert tokens[0] == b"*", tokens
            untagged.append(tokens[1:])

    def response(self):
        """One response as tokens: atoms, strings as ("s", bytes), parentheses. Whatever doesn't parse is a failure."""
        out = []
        line = self.f.readline()
        assert line, "the server hung up"
        while True:
            assert line.endswith(b"\r\n"), line
            text, at = line[:-2], 0
            assert b"\r" not in text and b"\0" not in text
            while at < len(text):
                if text[at:at + 1] in b"()":
                    out.append(text[at:at + 1])
                    at += 1
                elif text[at:at + 1] == b" ":
                    at += 1
                elif text[at:at + 1] == b'"':
                    m = re.compile(rb'"((?:[^"\\]|\\["\\])*)"').match(text, at)
                    if out[1:2] in ([b"OK"], [b"NO"], [b"BAD"]) and not m:
                        break  # free text
                    assert m, text
                    out.append(("s", re.sub(rb"\\(.)", rb"\1", m.group(1))))
                    at = m.end()
                elif m := re.compile(rb"~?\{(\d+)\}$").match(text, at):
                    out.append(("s", self.f.read(int(m.group(1)))))
                    line = self.f.readline()
                    break
                else:
                    m = re.compile(rb'[^ ()"{]+').match(text, at)
                    if not m:
                        break
                    out.append(m.group(0))
                    at = m.end()
            else:
                return out
            if not (out and isinstance(out[-1], tuple)):
                return out


def balanced(tokens):
    depth = 0
    for t in tokens:
        depth += (t == b"(") - (t == b")")
        assert depth >= 0, tokens
    assert depth == 0, tokens


def odd_bytes(rnd, n):
    return bytes(rnd.choice(b'abc/."\\{}()*%&- \r\n\t\x00\x7f\x80\xc3\xa9\xff]~+') for _ in range(n))


def test_names_come_back_as_they_went_in_or_not_at_all(server):
    """Mailbox names and names of header fields are data on every line that carries them."""
    seed = random.getrandbits(32)
    print("seed %d" % seed)
    rnd, c = random.Random(seed), Raw(server)
    assert c.cmd("APPEND INBOX ", message("x"))[0].startswith("OK")
    assert c.cmd("SELECT INBOX")[0].startswith("OK")
    made = 0
    for _ in range(150):
        name = odd_bytes(rnd, rnd.randint(1, 8))
        status, _ = c.cmd("CREATE ", name)
        assert status[:2] in ("OK", "NO", "BA"), status
        if status.startswith("OK"):
            made += 1
            status, got = c.cmd('STATUS ', name, " (MESSAGES)")
            assert status.startswith("OK")
            assert got[-1][1] in (name.rstrip(b"/"), ("s", name.rstrip(b"/"))) or name.upper().startswith(b"INBOX"), (name, got)
    assert made > 5
    status, got = c.cmd('LIST "" "*"')
    assert status.startswith("OK") and len(got) >= made
    for _ in range(100):
        field = odd_bytes(rnd, rnd.randint(1, 8))
        status, got = c.cmd("FETCH 1 BODY.PEEK[HEADER.FIELDS (", field, " Subject)]")
        if status.startswith("OK"):
            balanced(got[0])
            assert ("s", b"Subject: x\r\n\r\n") in got[0], got
    assert c.cmd("NOOP")[0].startswith("OK")


def test_hostile_headers_make_no_lines(server):
    """ENVELOPE and BODYSTRUCTURE of messages made of quotes, parentheses, NULs and broken lines still parse, and nothing follows them."""
    seed = random.getrandbits(32)
    print("seed %d" % seed)
    rnd, c = random.Random(seed), Raw(server)
    assert c.cmd("SELECT INBOX")[0].startswith("OK")
    fields = (b"Subject", b"From", b"To", b"Date", b"Message-ID", b"In-Reply-To", b"Content-Type", b"Content-Disposition", b"Content-Description")
    for _ in range(60):
        head = b"".join(b"%s: %s%s\r\n" % (f, rnd.choice((b"", b"multipart/mixed; boundary=", b'"a\\" <', b"=?utf-8?q?=0D=0A* BYE?= <x@y>")),
                                           odd_bytes(rnd, rnd.randint(0, 30)).replace(b"\0", b"")) for f in rnd.sample(fields, 5))
        assert c.cmd("APPEND INBOX ", head + b"\r\nbody\r\n")[0].startswith("OK")
    status, got = c.cmd("FETCH 1:* (UID ENVELOPE BODYSTRUCTURE BODY)")
    assert status.startswith("OK")
    fetched = [g for g in got if g[1:2] == [b"FETCH"]]
    assert len(fetched) == 60
    for g in fetched:
        balanced(g)


def peak_kib(server):
    (pid,) = server.account_processes()
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1))


NEST = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (i, i) for i in range(20000))
BOMBS = {
    "many parts": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 100000 + b"--b--\r\n",
    "deep nesting": NEST,
    "message in message": b"Content-Type: message/rfc822\r\n\r\n" * 20000,
    "long header": b"Subject: " + b"a" * 2000000 + b"\r\n\r\n",
    "many header fields": b"X: y\r\n" * 300000 + b"\r\n",
    "many addresses": b"To: " + b"<a@b.test>," * 100000 + b"\r\n\r\n",
    "nested comments": b"To: " + b"(" * 500000 + b"\r\n\r\n",
    "many parameters": b"Content-Type: text/plain" + b"; a*0*=utf-8''x" * 100000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("bomb", sorted(BOMBS))
def test_bombs_cost_little(server, bomb):
    c = Raw(server)
    assert c.cmd("SELECT INBOX")[0].startswith("OK")
    before, start = peak_kib(server), time.monotonic()
    assert c.cmd("APPEND INBOX ", BOMBS[bomb])[0].startswith("OK")
    for what in ("ENVELOPE", "BODYSTRUCTURE", "BODY", "BODY.PEEK[%s]" % ".".join(["1"] * 50), "BODY.PEEK[HEADER.FIELDS (Subject X)]", "BODY.PEEK[1.MIME]"):
        status, got = c.cmd("FETCH 1 " + what)
        assert status.startswith("OK"), (what, status)
        balanced(got[0])
    for what in ("SUBJECT zz", "TEXT zz", "HEADER X zz", "TO zz"):
        assert c.cmd("SEARCH " + what)[0].startswith("OK")
    took, grew = time.monotonic() - start, peak_kib(server) - before
    print("%s: %.2f s, %d KiB" % (bomb, took, grew))
    assert took < 5 and grew < 60000


def test_command_bombs(server):
    """Parentheses, NOTs and sets without end are refused or answered in bounded work."""
    c = Raw(server)
    assert c.cmd("APPEND INBOX ", message("x"))[0].startswith("OK")
    assert c.cmd("SELECT INBOX")[0].startswith("OK")
    before, start = peak_kib(server), time.monotonic()
    for command in ("SEARCH " + "(" * 30000 + "ALL" + ")" * 30000, "SEARCH " + "NOT " * 15000 + "ALL", "SEARCH " + "OR ALL " * 8000 + "ALL",
                    "UID FETCH " + ",".join(["1:*"] * 15000) + " UID", "FETCH 1 (" + "BODY.PEEK[] " * 4000 + "UID)", "LIST \"\" " + "*%" * 20000,
                    "FETCH 1 BODY.PEEK[" + ".".join(["1"] * 20000) + "]", "STORE 1 FLAGS (" + " ".join("k%d" % i for i in range(5000)) + ")"):
        status, _ = c.cmd(command)
        assert re.match("(OK|NO|BAD) ", status), status
    assert time.monotonic() - start < 5 and peak_kib(server) - before < 30000
    assert c.cmd("NOOP")[0].startswith("OK")
