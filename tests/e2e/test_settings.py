"""Limits of the configuration file, from the key to what a client or another server meets: each row sets one and sees it at work. Where a time is
set, what is awaited would not come with the default within the patience of the tests, or comes in another order."""
import imaplib
import poplib
import smtplib
import socket
import ssl

import pytest

import dnszone
import waypost as wp
from mtasink import Sink
from waypost import message, until

ALICE = "alice@example.test"
PORT = 25026  # of other servers; each test has addresses of its own


class Raw:
    """A connection over TLS, line by line."""

    def __init__(self, w, port):
        self.s = w.tls().wrap_socket(socket.create_connection((w.address, w.ports[port]), timeout=wp.PATIENCE), server_hostname=w.address)
        self.f = self.s.makefile("rb")
        self.greeting = self.f.readline()

    def say(self, line, tag=b""):
        """The reply that begins with the tag."""
        self.s.sendall(line.encode() + b"\r\n")
        while True:
            reply = self.f.readline()
            if not reply or reply.startswith(tag):
                return reply

    def rest(self):
        """What comes until the other side has closed."""
        try:
            return self.f.read()
        except ConnectionResetError:
            return b""


def envelope(w):
    s = w.smtp()
    s.ehlo()
    assert s.mail("c@remote.test")[0] == 250 and s.rcpt("bob@example.test")[0] == 250
    return s


def command_line(w):
    with w.smtp() as s:
        assert s.docmd("NOOP " + "x" * (1200 - 7))[0] == 250
        assert s.docmd("NOOP " + "x" * (1200 - 6))[0] == 500
        assert s.noop()[0] == 250


def text_line(w):
    for length, code in ((998, 250), (999, 554)):
        s = envelope(w)
        assert s.data(message("line", "x" * length + "\r\n"))[0] == code, length
        s.quit()


def header(w):
    for size, code in ((15, 250), (17, 552)):
        s = envelope(w)
        assert s.data(message("header", extra="".join("X-%d: %s\r\n" % (i, "x" * 1000) for i in range(size))))[0] == code, size
        s.quit()


def refused(w):
    s = w.smtp()
    s.ehlo()
    s.mail("c@remote.test")
    assert [s.docmd("RCPT TO:<nobody%d@example.test>" % i)[0] for i in range(3)] == [550, 550, 550]
    assert s.getreply()[0] == 421 and s.sock.recv(1) == b""


def smtp_logins(w):
    s = w.smtp("submission")
    s.starttls(context=w.tls())
    s.ehlo()
    codes = []
    for _ in range(2):
        with pytest.raises(smtplib.SMTPAuthenticationError) as e:
            s.user, s.password = ALICE, "wrong"
            s.auth("PLAIN", s.auth_plain)
        codes.append(e.value.smtp_code)
    assert codes == [535, 421] and s.sock.recv(1) == b""


def imap_logins(w):
    c = Raw(w, "imaps")
    assert c.say("a LOGIN %s wrong" % ALICE, b"a").startswith(b"a NO") and c.rest().startswith(b"* BYE")


def pop3_logins(w):
    c = Raw(w, "pop3s")
    assert c.say("USER " + ALICE).startswith(b"+OK") and c.say("PASS wrong").startswith(b"-ERR")
    c.rest()


def imap_before_login(w):
    c = Raw(w, "imaps")
    assert c.greeting.startswith(b"* OK") and c.rest().startswith(b"* BYE")


def pop3_before_login(w):
    c = Raw(w, "pop3s")
    assert c.greeting.startswith(b"+OK")
    c.rest()


def imap_idle(w):
    c = Raw(w, "imaps")
    assert c.say("a LOGIN %s %s" % (ALICE, w.accounts[ALICE]), b"a").startswith(b"a OK") and b"* BYE" in c.rest()


def pop3_idle(w):
    c = Raw(w, "pop3s")
    assert c.say("USER " + ALICE).startswith(b"+OK") and c.say("PASS " + w.accounts[ALICE]).startswith(b"+OK")
    c.rest()


def at_a_time(w, connect, failures):
    c = connect(ALICE)
    with pytest.raises(failures):
        connect(ALICE)
    assert c.noop()
    getattr(c, "logout", getattr(c, "quit", None))()

    def again():
        try:
            return connect(ALICE)
        except failures:
            return None
    until(again, "its place is free again")


def imap_at_a_time(w):
    at_a_time(w, w.imap, (imaplib.IMAP4.error, OSError))


def pop3_at_a_time(w):
    at_a_time(w, w.pop3, (poplib.error_proto, OSError))


def tls_version(w):
    for port in ("imaps", "submissions"):
        for version, good in ((ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)):
            context = w.tls()
            context.minimum_version = context.maximum_version = version
            with socket.create_connection((w.address, w.ports[port]), timeout=wp.PATIENCE) as s:
                if good:
                    assert context.wrap_socket(s, server_hostname=w.address).version() == "TLSv1.3"
                else:
                    with pytest.raises(ssl.SSLError):
                        context.wrap_socket(s, server_hostname=w.address)


@pytest.mark.parametrize("section,key,behaviour", [
    ("smtp", "max-command-line 1200", command_line), ("smtp", "max-text-line 1000", text_line), ("smtp", "max-header 16K", header),
    ("smtp", "max-refused 2", refused), ("smtp", "max-login-failures 1", smtp_logins), ("imap", "max-login-failures 1", imap_logins),
    ("pop3", "max-login-failures 1", pop3_logins), ("imap", "login-timeout 1s", imap_before_login), ("pop3", "login-timeout 1s", pop3_before_login),
    ("imap", "idle-timeout 1s", imap_idle), ("pop3", "idle-timeout 1s", pop3_idle), ("imap", "instances 1; max-connections-each 1", imap_at_a_time),
    ("pop3", "max-connections-each 1", pop3_at_a_time), ("tls", "min-version 1.3", tls_version),
], ids=lambda v: v.replace(" ", "-").replace(";", "") if isinstance(v, str) else "")
def test_a_limit_of_clients(instances, section, key, behaviour):
    w = instances("a", start=False, sections={section: key + ";"} if section != "tls" else {})
    w.write_conf()
    if section == "tls":
        with open(w.conf) as f:
            text = f.read()
        with open(w.conf, "w") as f:
            f.write(text.replace("tls { ", "tls { %s; " % key, 1))
    w.start()
    behaviour(w)


# ---- towards other servers ----

@pytest.fixture
def world(instances, tmp_path):
    """world(records, sections) → an instance whose DNS (a real unbound) has these records."""
    servers = []

    def make(records, sections):
        servers.append(dnszone.start_dns(tmp_path / "dns", records))
        return instances("a", relay_port=PORT, dns="127.0.0.1@%d" % servers[0].port, sections=sections)

    yield make
    for s in servers:
        s.stop()


class Silent:
    """An address where connecting neither succeeds nor fails: nobody takes the connections that wait there, and there is no room for more."""

    def __init__(self, address):
        self.s = socket.socket()
        self.s.bind((address, PORT))
        self.s.listen(0)
        self.waiting = []
        while True:
            c = socket.socket()
            c.settimeout(0.3)
            self.waiting.append(c)
            try:
                c.connect((address, PORT))
            except socket.timeout:
                return

    def close(self):
        for s in self.waiting + [self.s]:
            s.close()


def test_connect_timeout(world):
    """A host that does not answer is given up after 1 s, long before one that does not reply (20 s); it would be 30 s."""
    silent, good, mute = wp.fresh_address(), wp.fresh_address(), wp.fresh_address()
    first = Silent(silent)
    try:
        with Sink(good, PORT) as sink, Sink(mute, PORT, replies={"greeting": ["hang"]}):
            w = world(["far.test. MX 10 a.far.test.", "far.test. MX 20 b.far.test.", "a.far.test. A " + silent, "b.far.test. A " + good,
                       "mute.test. MX 10 mx.mute.test.", "mx.mute.test. A " + mute], {"relay": "connect-timeout 1s; reply-timeout 20s;"})
            with w.submit(ALICE) as s:
                s.sendmail(ALICE, ["x@mute.test"], message("mute", sender=ALICE))
                s.sendmail(ALICE, ["x@far.test"], message("far", sender=ALICE))
            w.wait_log(r" deferred .*x@mute\.test")
            lines = [l for l in w.logged().splitlines() if " relayed " in l or " deferred " in l]
            assert "x@far.test" in lines[0] and len(sink.messages()) == 1, lines
    finally:
        first.close()


def test_bounce_expire(world):
    """What has a null sender is given up after 1 s, other mail is not."""
    w = world(["far.test. MX 10 mx.far.test.", "mx.far.test. A " + wp.fresh_address()], {"queue": "bounce-expire 1s; retry-min 1s; retry-max 2s;"})
    w.waypost("alias", "add", "out@example.test", "x@far.test")
    with w.smtp() as s:
        s.sendmail("", ["out@example.test"], message("a bounce"))
        s.sendmail("c@remote.test", ["out@example.test"], message("a letter"))
    until(lambda: {r["sender"] for r in w.queue()} == {"c@remote.test"}, lambda: "only the letter: %s" % w.queue())
    w.wait_log(" expired ")


@pytest.mark.parametrize("most,sessions", [(1, 1), (3, 3)])
def test_destination_concurrency(world, most, sessions):
    """Of mail that waits for one destination, so much is under way at a time: the other server keeps each of them waiting for its first answer."""
    good = wp.fresh_address()
    with Sink(good, PORT, replies={"greeting": ["hang"]}) as sink:
        w = world(["far.test. MX 10 mx.far.test.", "mx.far.test. A " + good], {"queue": "destination-concurrency %d; retry-min 1s; retry-max 2s;" % most})
        with w.submit(ALICE) as s:
            for i in range(6):
                s.sendmail(ALICE, ["x%d@far.test" % i], message("m%d" % i, sender=ALICE))
        until(lambda: len(sink.sessions) == sessions, lambda: "%d sessions, not %d" % (sessions, len(sink.sessions)))
        w.waypost("queue", "list")  # what else could be sent has had its chance
        assert len(sink.sessions) == sessions
        sink.replies.clear()
        sink.drop()
        until(lambda: len(sink.messages()) == 6, "all of them")
