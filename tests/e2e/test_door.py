"""What port 25 makes of a client itself: the name of its address, the name it gives itself, whether it waits for the greeting."""
import os
import re
import signal
import socket

import pytest

import waypost as wp
from dnszone import start_dns
from waypost import fresh_address, message


class Client:
    """A line of SMTP after the other, from an address of its own."""

    def __init__(self, w, source=None, early=b"", port="mx"):
        self.source = source or fresh_address()
        self.s = socket.create_connection((w.address, w.ports[port]), timeout=wp.PATIENCE, source_address=(self.source, 0))
        if early:
            self.s.sendall(early)
        self.f = self.s.makefile("rb")

    def reply(self):
        lines = [self.f.readline()]
        while lines[-1][3:4] == b"-":
            lines.append(self.f.readline())
        return b"".join(lines).decode()

    def say(self, line):
        self.s.sendall(line.encode() + b"\r\n")
        return self.reply()

    def hello(self, name="client.test"):
        assert self.reply().startswith("220 ")
        assert self.say("EHLO " + name).startswith("250")
        assert self.say("MAIL FROM:<c@remote.test>").startswith("250")
        return self

    def rcpt(self, to="bob@example.test"):
        return self.say("RCPT TO:<%s>" % to)

    def data(self, text):
        assert self.say("DATA").startswith("354")
        self.s.sendall(text + b"\r\n.\r\n")
        return self.reply()

    def close(self):
        self.f.close()
        self.s.close()


def reverse(address):
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa."


class World:
    """Four clients: one with a good name, one whose name leads elsewhere, one without, one whose zone fails."""

    def __init__(self, tmp):
        self.good, self.liar, self.none, self.broken = (fresh_address() for _ in range(4))
        self.dns = start_dns(tmp / "dns", [reverse(self.good) + " PTR good.test.", "good.test. A " + self.good,
                                           reverse(self.liar) + " PTR liar.test.", "liar.test. A 127.9.9.9",
                                           "client.test. A " + self.good], servfail=[reverse(self.broken)])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    w = World(tmp_path_factory.mktemp("door"))
    yield w
    w.dns.stop()


def start(instances, world, door):
    return instances("a", dns="127.0.0.1@%d" % world.dns.port, sections={"limits": "exempt none;", "door": door})


def top(text):
    """The lines in front of the first field that came with the message."""
    return text.split(b"From: ")[0].decode()


def test_reverse_dns_refuses_with_a_clear_text(instances, world):
    """RFC7372:3.3."""
    w = start(instances, world, "reverse-dns reject;")
    c = Client(w, world.good).hello()
    assert c.rcpt().startswith("250 ")
    c = Client(w, world.none).hello()
    answer = c.rcpt()
    assert answer.startswith("550 5.7.25 ") and world.none in answer and "PTR" in answer, answer
    assert c.rcpt("postmaster@example.test").startswith("250 "), "RFC5321:4.5.1"
    answer = Client(w, world.liar).hello().rcpt()
    assert answer.startswith("550 5.7.25 ") and "lead back" in answer, answer
    answer = Client(w, world.broken).hello().rcpt()
    assert answer.startswith("451 4.4.3 "), "what DNS did not say is never a refusal for good: " + answer
    w.wait_log(r'reverse-dns client=%s name=liar.test finding="leads elsewhere"' % re.escape(world.liar))


def test_reverse_dns_defers(instances, world):
    w = start(instances, world, "reverse-dns defer;")
    assert Client(w, world.none).hello().rcpt().startswith("450 4.7.25 ")
    # several at once, written before anything is known: answered in their order
    c = Client(w, world.liar).hello()
    c.s.sendall(b"RCPT TO:<a@example.test>\r\nRCPT TO:<postmaster@example.test>\r\nRCPT TO:<bob@example.test>\r\nNOOP\r\n")
    assert [c.reply()[:10] for _ in range(4)] == ["450 4.7.25", "250 2.1.5 ", "450 4.7.25", "250 2.0.0 "]


def test_the_header_says_what_was_found(instances, world):
    w = start(instances, world, "reverse-dns header; helo header;")
    forged = "Authentication-Results: %s;\r\n\tiprev=pass policy.iprev=192.0.2.1\r\nAuthentication-Results: other.test; spf=pass\r\n" % w.hostname
    wants = [(world.good, "good.test", "iprev=pass policy.iprev=%s (good.test)", "x-helo=pass", "(good.test [%s])"),
             (world.liar, "nobody.test", "iprev=fail policy.iprev=%s (liar.test)", "x-helo=fail (no such name) smtp.helo=nobody.test", "([%s])"),
             (world.none, "[192.0.2.9]", "iprev=permerror policy.iprev=%s", "x-helo=fail smtp.helo=\"[192.0.2.9]\"", "([%s])"),
             (world.broken, "client.test", "iprev=temperror policy.iprev=%s", "x-helo=fail (leads elsewhere)", "([%s])")]
    for i, (source, helo, iprev, said, received) in enumerate(wants):
        c = Client(w, source).hello(helo)
        assert c.rcpt().startswith("250 ")
        body = "Hello.\r\n" if i else "x" * 70 + "\r\n"
        assert c.data(message("from %d" % i, body * (1 if i else 2000), extra=forged)).startswith("250 "), "also when it is large"
        w.wait_inbox("bob@example.test", i + 1)
        text = w.inbox("bob@example.test")[i]
        assert ("Authentication-Results: %s;\r\n\t" % w.hostname + iprev % source) in top(text), top(text)
        assert said in top(text), top(text)
        assert ("Received: from %s %s" % (helo, received % source)) in top(text), top(text)
        assert text.count(b"Authentication-Results: " + w.hostname.encode()) == 1, "RFC8601:5"
        assert b"Authentication-Results: other.test" in text
    with open(w.conf) as f:
        line = next(n for n, text in enumerate(f, 1) if "reverse-dns header" in text)
    policies = {w.rows("trace", r["id"])[-1]["policy"] for r in w.rows("trace", "bob@example.test")}
    assert any("iprev=fail (reverse-dns header, %s:%d)" % (w.conf, line) in p and "x-helo=fail (helo header, " in p for p in policies), policies


def test_helo_is_judged_by_what_the_rfc_allows(instances, world):
    w = start(instances, world, "helo reject; reverse-dns off;")
    for name in ("localhost", w.hostname, "[%s]" % w.address, "127.0.0.1", "under..dot"):
        answer = Client(w, world.good).hello(name).rcpt()
        assert answer.startswith("550 5.7.1 The name you gave in EHLO "), (name, answer)
    allowed = {name: Client(w, world.good).hello(name) for name in ("nobody.test", "liar.test", "[127.5.5.5]", "good.test")}
    for name, c in allowed.items():  # RFC5321:4.1.4
        assert c.rcpt().startswith("250 "), name
    w.wait_log('helo client=%s name=nobody.test finding="no such name"' % re.escape(world.good))
    c = Client(w, world.good).hello("localhost")
    assert c.rcpt().startswith("550 ")
    assert c.say("EHLO good.test").startswith("250"), "it may say it better"
    assert c.say("MAIL FROM:<>").startswith("250") and c.rcpt().startswith("250 ")


def test_the_exempt_are_not_checked(instances, world):
    w = instances("a", dns="127.0.0.1@%d" % world.dns.port,
                  sections={"limits": "exempt %s/32 192.0.2.0/24;" % world.none, "door": "helo reject; reverse-dns reject;"})
    assert Client(w, world.none).hello("localhost").rcpt().startswith("250 ")
    assert Client(w, world.liar).hello().rcpt().startswith("550 ")


def test_greet_pause(instances, world):
    """RFC5321:4.3.1: a sender waits for the greeting."""
    # long: the early talker is caught before it ends, however slow this machine is; the patient one is exempt from nothing
    w = start(instances, world, "greet-pause 60s; reverse-dns off; helo off;")
    c = Client(w, early=b"EHLO early.test\r\n")
    assert c.reply().startswith("554 5.5.1 ")
    assert c.f.read(100) == b""
    w.wait_log("early-talker client=")
    assert "policyd-judge" not in w.services(), "nothing asks DNS"
    waiting = Client(w)
    waiting.close()  # leaves in the pause
    text = open(w.conf).read()
    open(w.conf, "w").write(text.replace("greet-pause 60s;", "greet-pause 50ms; early-talker defer;"))
    w.waypost("reload")
    c = Client(w).hello()
    assert c.rcpt().startswith("250 ")
    c = Client(w, early=b"EHLO early.test\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\n")
    answers = [c.reply() for _ in range(4)]
    assert [a[:3] for a in answers[:3]] == ["220", "250", "250"], answers
    assert answers[3][:3] in ("250", "450"), answers  # its words may have come after the pause


def test_policyd_dies_and_mail_goes_on(instances, world):
    w = start(instances, world, "reverse-dns reject;")
    for _ in range(3):
        os.kill(w.services()["policyd-judge"]["pid"], signal.SIGKILL)
        assert Client(w, world.good).hello().rcpt()[:3] in ("250", "451")
    c = Client(w, world.good).hello()
    assert c.rcpt()[:3] in ("250", "451")
    wp.until(lambda: Client(w, world.good).hello().rcpt().startswith("250 "), "policyd answers again")


def test_checks_are_switched_by_a_reload(instances, world):
    w = start(instances, world, "reverse-dns off; helo off;")
    assert "policyd-judge" not in w.services()
    assert Client(w, world.none).hello().rcpt().startswith("250 ")
    text = open(w.conf).read()
    open(w.conf, "w").write(text.replace("reverse-dns off;", "reverse-dns reject;"))
    w.waypost("reload")
    assert Client(w, world.none).hello().rcpt().startswith("550 5.7.25")
    assert w.services()["policyd-judge"]["state"] == "ready"
    open(w.conf, "w").write(text)
    w.waypost("reload")
    wp.until(lambda: "policyd-judge" not in w.services(), "the judge is gone")
    assert Client(w, world.none).hello().rcpt().startswith("250 ")
