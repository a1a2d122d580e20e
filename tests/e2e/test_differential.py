"""The same bytes to Postfix and to us. What each answers, by the class of each reply, whether it closes, what it accepts and what reaches the
mailbox must agree, except where a row of doc/conformance.md ("Where we differ from Postfix") says which words, what each answers, and why.
A difference belongs to the word with which it comes up: the shortest beginning of the stream that shows it ends with that word. Without that
word the rest of the stream is compared again. A row that no stream shows any more is an error too. Hand-written streams, and streams made from the same words with a fixed seed."""
import os
import random
import re
import socket

import pytest

import postfix
import waypost as wp
from waypost import until

pytestmark = pytest.mark.skipif(not postfix.available(), reason="Postfix needs root")
DOC = os.path.join(os.path.dirname(__file__), "../../doc/conformance.md")
STREAMS, SEED = 250, "differences"
UNCOUNTED = 999999  # the number of streams whose mail is not compared
END = b"NOOP\r\nQUIT\r\n"

# Words: a name for the table, and the bytes. {} is the number of the stream, and N the length of what follows it.
GREET = [("ehlo", b"EHLO c.test\r\n"), ("helo", b"HELO c.test\r\n"), ("ehlo-small", b"ehlo c.test\r\n"), ("ehlo-literal", b"EHLO [127.0.0.1]\r\n"), ("ehlo-v6-literal", b"EHLO [IPv6:::1]\r\n"),
         ("ehlo-empty", b"EHLO\r\n"), ("helo-empty", b"HELO\r\n"), ("ehlo-two", b"EHLO c test\r\n"), ("ehlo-space-behind", b"EHLO c.test \r\n"), ("ehlo-underscore", b"EHLO my_host\r\n"),
         ("ehlo-garbage", b"EHLO <script>\r\n"), ("ehlo-8bit", b"EHLO \xfc.test\r\n")]
MAIL = [("mail", b"MAIL FROM:<a@remote.test>\r\n"), ("mail-null", b"MAIL FROM:<>\r\n"), ("mail-small", b"mail from:<a@remote.test>\r\n"), ("mail-space", b"MAIL FROM: <a@remote.test>\r\n"),
        ("mail-space-behind", b"MAIL FROM:<a@remote.test> \r\n"), ("mail-bare", b"MAIL FROM:a@remote.test\r\n"), ("mail-open", b"MAIL FROM:<a@remote.test\r\n"), ("mail-twice-closed", b"MAIL FROM:<a@remote.test>>\r\n"),
        ("mail-route", b"MAIL FROM:<@x.test:a@remote.test>\r\n"), ("mail-quoted", b'MAIL FROM:<"a b"@remote.test>\r\n'), ("mail-literal", b"MAIL FROM:<a@[127.0.0.1]>\r\n"),
        ("mail-no-domain", b"MAIL FROM:<a>\r\n"), ("mail-empty", b"MAIL FROM:\r\n"), ("mail-nothing", b"MAIL\r\n"), ("mail-to", b"MAIL TO:<a@remote.test>\r\n"), ("mail-two-ats", b"MAIL FROM:<a@b@remote.test>\r\n"),
        ("mail-dots", b"MAIL FROM:<a..b@remote.test>\r\n"), ("mail-domain-dots", b"MAIL FROM:<a@remote..test>\r\n"), ("mail-dash", b"MAIL FROM:<a@-remote.test>\r\n"), ("mail-8bit", b"MAIL FROM:<\xc3\xa4@remote.test>\r\n"),
        ("mail-utf8", b"MAIL FROM:<\xc3\xa4@remote.test> SMTPUTF8\r\n"), ("size", b"MAIL FROM:<a@remote.test> SIZE=100\r\n"), ("size-huge", b"MAIL FROM:<a@remote.test> SIZE=99999999999\r\n"),
        ("size-word", b"MAIL FROM:<a@remote.test> SIZE=abc\r\n"), ("size-negative", b"MAIL FROM:<a@remote.test> SIZE=-1\r\n"), ("body-8bit", b"MAIL FROM:<a@remote.test> BODY=8BITMIME\r\n"),
        ("body-7bit", b"MAIL FROM:<a@remote.test> body=7bit\r\n"), ("body-other", b"MAIL FROM:<a@remote.test> BODY=9BIT\r\n"), ("parameter-unknown", b"MAIL FROM:<a@remote.test> XYZ=1\r\n"),
        ("dsn", b"MAIL FROM:<a@remote.test> RET=HDRS ENVID=abc\r\n"), ("ret-other", b"MAIL FROM:<a@remote.test> RET=SOME\r\n"), ("mail-tab", b"MAIL\tFROM:<a@remote.test>\r\n"), ("mail-control", b"MAIL FROM:<a\x01@remote.test>\r\n"),
        ("mail-long-local", b"MAIL FROM:<" + b"a" * 65 + b"@remote.test>\r\n"), ("mail-auth", b"MAIL FROM:<a@remote.test> AUTH=<>\r\n")]
RCPT = [("rcpt", b"RCPT TO:<bob@example.test>\r\n"), ("rcpt-small", b"rcpt to:<BOB@EXAMPLE.TEST>\r\n"), ("rcpt-unknown", b"RCPT TO:<nobody@example.test>\r\n"), ("rcpt-relay", b"RCPT TO:<x@far.test>\r\n"),
        ("rcpt-percent", b"RCPT TO:<x%far.test@example.test>\r\n"), ("rcpt-bang", b"RCPT TO:<far.test!x@example.test>\r\n"), ("rcpt-route", b"RCPT TO:<@x.test:bob@example.test>\r\n"), ("rcpt-route-out", b"RCPT TO:<@example.test:x@far.test>\r\n"),
        ("rcpt-quoted", b'RCPT TO:<"bob"@example.test>\r\n'), ("rcpt-bare", b"RCPT TO:bob@example.test\r\n"), ("rcpt-open", b"RCPT TO:<bob@example.test\r\n"), ("rcpt-null", b"RCPT TO:<>\r\n"), ("rcpt-empty", b"RCPT TO:\r\n"),
        ("rcpt-nothing", b"RCPT\r\n"), ("rcpt-space", b"RCPT TO: <bob@example.test>\r\n"), ("rcpt-two", b"RCPT TO:<bob@example.test>,<x@far.test>\r\n"), ("rcpt-postmaster", b"RCPT TO:<postmaster@example.test>\r\n"),
        ("notify", b"RCPT TO:<bob@example.test> NOTIFY=FAILURE,DELAY\r\n"), ("notify-never", b"RCPT TO:<bob@example.test> NOTIFY=NEVER\r\n"), ("notify-both", b"RCPT TO:<bob@example.test> NOTIFY=NEVER,DELAY\r\n"),
        ("notify-other", b"RCPT TO:<bob@example.test> NOTIFY=SOMETIMES\r\n"), ("orcpt", b"RCPT TO:<bob@example.test> ORCPT=rfc822;b@x.test\r\n"), ("orcpt-bad", b"RCPT TO:<bob@example.test> ORCPT=nothing\r\n"),
        ("rcpt-parameter-unknown", b"RCPT TO:<bob@example.test> XYZ=1\r\n"), ("rcpt-final-dot", b"RCPT TO:<bob@example.test.>\r\n")]
TEXT = b"Subject: s{}\r\nFrom: a@remote.test\r\n\r\n"
DATA = [("data", b"DATA\r\n" + TEXT + b"hello\r\n.\r\n"), ("data-dots", b"DATA\r\n" + TEXT + b"..\r\n...\r\n.. x\r\n.\r\n"), ("data-empty", b"DATA\r\n.\r\n"), ("data-argument", b"DATA x\r\n"),
        ("data-no-header", b"DATA\r\nhello {}\r\n.\r\n"), ("data-8bit", b"DATA\r\n" + TEXT + b"\xc3\xa4\xff\r\n.\r\n"), ("data-bare-lf", b"DATA\r\n" + TEXT + b"a\nb\r\n.\r\n"), ("data-bare-cr", b"DATA\r\n" + TEXT + b"a\rb\r\n.\r\n"),
        ("data-nul", b"DATA\r\n" + TEXT + b"a\0b\r\n.\r\n"), ("end-lf-dot-lf", b"DATA\r\n" + TEXT + b"a\n.\nNOOP\r\n.\r\n"), ("end-lf-dot-crlf", b"DATA\r\n" + TEXT + b"a\n.\r\nNOOP\r\n.\r\n"),
        ("end-crlf-dot-lf", b"DATA\r\n" + TEXT + b"a\r\n.\nNOOP\r\n.\r\n"), ("end-cr-dot-cr", b"DATA\r\n" + TEXT + b"a\r.\rNOOP\r\n.\r\n"), ("data-long-line", b"DATA\r\n" + TEXT + b"x" * 990 + b"\r\n.\r\n"),
        ("data-longer-line", b"DATA\r\n" + TEXT + b"x" * 3000 + b"\r\n.\r\n"), ("bdat", b"BDAT N LAST\r\n" + TEXT + b"hello\r\n"), ("bdat-parts", b"BDAT 10\r\n0123456789BDAT 4 LAST\r\nab\r\n"),
        ("bdat-empty-last", b"BDAT 7\r\nhello\r\nBDAT 0 LAST\r\n"), ("bdat-word", b"BDAT x\r\n"), ("bdat-nothing", b"BDAT\r\n"), ("bdat-negative", b"BDAT -1\r\n"), ("bdat-other-end", b"BDAT 2 FIRST\r\nab"),
        ("bdat-then-data", b"BDAT 4\r\nab\r\nDATA\r\n"), ("bdat-then-rset", b"BDAT 4\r\nab\r\nRSET\r\n"), ("bdat-bare-lf", b"BDAT 8 LAST\r\nA: b\n\na\n")]
OTHER = [("rset", b"RSET\r\n"), ("rset-argument", b"RSET x\r\n"), ("noop", b"NOOP\r\n"), ("noop-argument", b"NOOP x y\r\n"), ("vrfy", b"VRFY bob@example.test\r\n"), ("vrfy-unknown", b"VRFY nobody@example.test\r\n"),
         ("vrfy-nothing", b"VRFY\r\n"), ("expn", b"EXPN list\r\n"), ("help", b"HELP\r\n"), ("unknown", b"XYZZY\r\n"), ("empty", b"\r\n"), ("spaces", b"  NOOP\r\n"), ("octets", b"\x80\x81\xff\r\n"), ("nul", b"NO\0OP\r\n"),
         ("long-command", b"NOOP " + b"x" * 1500 + b"\r\n"), ("longer-command", b"NOOP " + b"x" * 9000 + b"\r\n"), ("command-lf", b"NOOP\n"), ("command-cr-cr", b"NOOP\r\r\n"), ("turn", b"TURN\r\n"), ("send", b"SEND FROM:<a@remote.test>\r\n"),
         ("soml", b"SOML FROM:<a@remote.test>\r\n"), ("etrn", b"ETRN far.test\r\n"), ("auth", b"AUTH PLAIN AGEAYg==\r\n"), ("http", b"GET / HTTP/1.0\r\n"), ("xclient", b"XCLIENT NAME=x\r\n"), ("header", b"Subject: x\r\n"),
         ("quit-argument", b"QUIT now\r\n")]
GOOD = [GREET[0], MAIL[0], RCPT[0], DATA[0]]
ALL = GREET + MAIL + RCPT + DATA + OTHER


def written():
    """Each word where it belongs, before anything, and twice."""
    for word in GREET:
        yield [word, *GOOD[1:]]
    for word in MAIL:
        yield [GOOD[0], word, *GOOD[2:]]
    for word in RCPT:
        yield [*GOOD[:2], word, GOOD[3]]
        yield [*GOOD[:3], word, GOOD[3]]
    for word in DATA:
        yield [*GOOD[:3], word]
        yield [*GOOD[:2], word]
    for word in OTHER:
        yield [word, *GOOD]
        yield [GOOD[0], word, *GOOD[1:]]
        yield [*GOOD[:3], word, GOOD[3]]
    for word in (MAIL[0], RCPT[0], DATA[0], DATA[15]):
        yield [word]
    yield GOOD + GOOD
    yield [*GOOD[:2], *GOOD[:2], *GOOD[2:]]
    yield [*GOOD[:3], GREET[1], GOOD[3]]
    yield [*GOOD[:2], MAIL[1], *GOOD[2:]]


def made():
    dice = random.Random(SEED)
    for _ in range(STREAMS):
        out = [dice.choice(GREET) if dice.random() < .15 else GOOD[0]]
        for group in dice.choices((MAIL, RCPT, DATA, OTHER), k=dice.randint(1, 3)):
            out.append(dice.choice(group))
        for group, word in ((MAIL, GOOD[1]), (RCPT, GOOD[2]), (RCPT, GOOD[2]), (DATA, GOOD[3])):
            if dice.random() < .85:
                out.append(dice.choice(group) if dice.random() < .3 else word)
            if dice.random() < .1:
                out.append(dice.choice(ALL))
        yield out


def spell(number, words):
    """The bytes, in pieces: what stands for N is counted."""
    out = []
    for _, text in words:
        text = text.replace(b"{}", b"%d" % number)
        if text.startswith(b"BDAT N"):
            head, rest = text.split(b"\r\n", 1)
            text = head.replace(b"N", b"%d" % len(rest), 1) + b"\r\n" + rest
        out.append(text)
    return out


def ask(address, port, stream):
    """Codes of all replies until the server closes, which it does at the latest for QUIT."""
    with socket.create_connection((address, port), timeout=wp.PATIENCE) as s:
        f = s.makefile("rb")
        lines = [f.readline()]
        try:
            s.sendall(stream + END)
            while line := f.readline():
                lines.append(line)
        except ConnectionError:  # closed while there was more to read
            pass
    assert all(re.fullmatch(rb"[2-5][0-9][0-9][ -][^\r\n]*\r\n", x) for x in lines), lines
    return [x[:3].decode() for x in lines if x[3:4] == b" "]


def rows():
    """{(word, our answer, theirs)} of the table; an answer is a code, or "closed" beside "goes on". A word with " …" behind it changes what a
    later one is answered."""
    with open(DOC) as f:
        part = f.read().split("Where we differ from Postfix")[1].split("\n#")[0]
    found = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| [^|]{10,} \|$", part, re.M)
    out = set()
    for words, ours, theirs in found:
        for word in re.findall(r"`([^`]+)`", words):
            out.add((word, ours.strip(), theirs.strip()))
    return out


def first_difference(ours, theirs):
    for i in range(max(len(ours), len(theirs))):
        a, b = [x[i] if i < len(x) else "closed" for x in (ours, theirs)]
        if a[0] != b[0]:
            return a if b != "closed" else "goes on", b if a != "closed" else "goes on"
    return None


class Both:
    """The two servers."""

    def __init__(self, ours, theirs):
        self.ours, self.theirs = ours, theirs

    def difference(self, number, words):
        """(the two answers, all replies of both)"""
        stream = b"".join(spell(number, words))
        ours, theirs = ask(*self.ours, stream), ask(*self.theirs, stream)
        d = first_difference(ours, theirs)
        if d and d[0] == "closed" and ours[-1][0] not in "45":
            d = ("nothing", d[1])  # whoever leaves says why
        return d, (ours, theirs)

    def culprit(self, number, words):
        """(how many words it takes, what they are answered)"""
        for n in range(1, len(words) + 1):
            d, _ = self.difference(number, words[:n])
            if d:
                return n, d
        raise AssertionError("a difference that did not come again: " + " ".join(n for n, _ in words))

    def explain(self, number, words, listed):
        """The rows that the stream shows, and the difference that none explains, or None."""
        shown = set()
        while True:
            d, replies = self.difference(number, words)
            if not d:
                return shown, None
            n, d = self.culprit(number, words)
            before = [i for i in range(n - 1) if (words[i][0] + " …", *d) in listed]
            if (words[n - 1][0], *d) in listed:
                at = n - 1
                shown.add((words[at][0], *d))
            elif before:
                at = before[-1]
                shown.add((words[at][0] + " …", *d))
            else:
                return shown, "%s at %s: %s %s\n  ours:    %s\n  Postfix: %s" % (" ".join(w for w, _ in words), words[n - 1][0], *d, *map(" ".join, replies))
            words = words[:at] + words[at + 1:]


def bodies(messages):
    """{number of the stream: {content below the header}}, without what the header section has been given. How many copies is not compared:
    Postfix gives one to each naming of an address with another parameter, we to each spelling of its local part."""
    out = {}
    for m in messages:
        head, _, body = m.replace(b"\r\n", b"\n").partition(b"\n\n")
        n = re.search(rb"^Subject: s(\d+)$", head, re.M) or re.search(rb"hello (\d+)", head + body)
        if n:
            out.setdefault(int(n[1]), set()).add(body.rstrip(b"\n"))
    return out


def test_the_same_bytes_to_postfix_and_to_us(instances, tmp_path):
    address, port = wp.fresh_address(), 25025
    p = postfix.Postfix(tmp_path / "pf", address, port, "example.test", ["bob", "postmaster"], extra="""mynetworks = 127.255.255.255/32
smtpd_helo_required = yes
smtpd_relay_restrictions = reject_unauth_destination
smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
message_size_limit = 52428800
virtual_mailbox_limit = 0
smtputf8_enable = yes
""")
    p.start()
    try:
        w = instances("a", accounts={"bob@example.test": "builder-2", "alice@example.test": "wonder-1"},
                      sections={"smtp": "max-errors 1000;", "limits": "exempt 127.0.0.0/8;"})
        both = Both((w.address, w.ports["mx"]), (address, port))
        listed, shown, wrong = rows(), set(), []
        streams = list(written()) + list(made())
        taken = {}
        for number, words in enumerate(streams):
            if both.difference(number, words)[0] is None:
                taken[number] = [n for n, _ in words]
                continue
            rows_shown, unexplained = both.explain(UNCOUNTED, words, listed)
            shown |= rows_shown
            if unexplained:
                wrong.append(unexplained)
        if wrong:
            pytest.fail("%d streams are answered in another way:\n%s" % (len(wrong), "\n".join(wrong[:40])))
        assert shown == listed, "rows that no stream shows: %s" % sorted(listed - shown)
        assert all(r["restarts"] == 0 for r in w.rows("status")), w.logged()[-3000:]
        w.wait_queue_empty()
        mine = bodies(w.inbox("bob@example.test"))
        want = {n for n in mine if n in taken}
        assert len(want) > 100
        got = until(lambda: (lambda b: b if want <= set(b) else None)(bodies(m.as_bytes() for m in (p.messages("bob") + p.messages("postmaster")))), 
                    lambda: "at Postfix: %s" % [(n, taken[n], mine[n]) for n in sorted(want - set(bodies(m.as_bytes() for m in (p.messages("bob") + p.messages("postmaster")))))][:9])
        differ = ["%s\n  ours:    %r\n  Postfix: %r" % (" ".join(taken[n]), mine.get(n), got.get(n)) for n in taken if mine.get(n) != got.get(n)]
        assert not differ, "%d messages differ:\n%s" % (len(differ), "\n".join(differ[:40]))
    finally:
        p.stop()
