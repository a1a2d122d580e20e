"""Mail that its domain asks for: ETRN, ATRN over the customer's own connection, TURN."""
import os
import select
import signal
import smtplib
import socket
import threading

import pytest

import dnszone
import waypost as wp
from mtasink import Sink

PORT = 25025

ACCOUNTS = {"alice@example.test": "wonder-1", "bob@example.test": "builder-2", "relay@example.test": "customer-3"}
DOMAINS = {"domain customer.test": 'on-demand yes; pull-by "alice@other.test relay@example.test";', "domain branch.customer.test": "on-demand yes; pull-by relay@example.test;",
           "domain rival.test": "on-demand yes; pull-by alice@example.test;"}


@pytest.fixture
def provider(instances):
    address = wp.fresh_address()
    port = wp.free_port(address)
    return instances("a", address=address, ports={"odmr": port}, accounts=ACCOUNTS,
                     sections={"listen odmr": "protocol odmr; address %s; port %d;" % (address, port), "smtp": "etrn yes;", **DOMAINS})


def send(w, *recipients, body="Hello.\r\n"):
    with w.smtp() as s:
        for r in recipients:
            s.sendmail("someone@remote.test", [r], wp.message("to " + r, body=body, to=r))


def wait_states(w, *states):
    wp.until(lambda: sorted(r["state"] for r in w.queue()) == sorted(states), lambda: "%r: %r" % (states, w.queue()))


class Customer:
    """The customer's host: asks by ATRN, then is the server on the same connection."""

    def __init__(self, w, user="relay@example.test", verb="ATRN", port="odmr"):
        self.s = wp.Smtp(w.address, w.ports[port], local_hostname="customer.test", timeout=wp.PATIENCE)
        self.s.starttls(context=w.tls())
        self.s.ehlo()
        if user:
            self.s.login(user, w.accounts[user])
        self.verb = verb
        self.messages, self.refuse, self.break_at = [], {}, None

    def ask(self, names=""):
        code, text = self.s.docmd(self.verb, names)
        return code, text.decode()

    def ask_until_there_is_mail(self):
        """What a lost connection had is on its way back to the disk for a moment."""
        wp.until(lambda: self.ask()[0] == 250, "mail")

    def serve(self):
        """Until QUIT, or the end: what the other side said."""
        sock, f = self.s.sock, self.s.file or self.s.sock.makefile("rb")
        said = []

        def say(line):
            sock.sendall(line.encode() + b"\r\n")
        say("220 customer.test ready")
        rcpts = []
        while True:
            line = f.readline().decode().rstrip("\r\n")
            said.append(line)
            verb = line.split(" ")[0].upper()
            if not line:
                return said
            if self.break_at == verb:
                sock.shutdown(socket.SHUT_RDWR)
                sock.close()
                return said
            if verb == "EHLO":
                say("250-customer.test\r\n250 SIZE")
            elif verb == "RCPT":
                address = line[line.index("<") + 1:line.index(">")]
                if address in self.refuse:
                    say(self.refuse[address])
                    continue
                rcpts.append(address)
                say("250 Ok")
            elif verb == "DATA":
                if not rcpts:
                    say("554 no recipients")
                    continue
                say("354 go on")
                body = b""
                while not body.endswith(b"\r\n.\r\n"):
                    body += f.readline()
                self.messages.append((rcpts, body))
                rcpts = []
                say("250 Ok")
            elif verb == "QUIT":
                say("221 bye")
                assert f.read(100) == b""
                return said
            else:
                rcpts = [] if verb in ("MAIL", "RSET") else rcpts
                say("250 Ok")


def test_mail_waits_and_goes_over_the_reversed_connection(provider):
    w = provider
    send(w, "one@customer.test", "two@branch.customer.test", "three@rival.test")
    wait_states(w, "pickup", "pickup", "pickup")
    row = [r for r in w.queue() if r["recipient"] == "one@customer.test"][0]
    assert row["attempts"] == 0 and "asks for it" in row["reason"]
    assert "by ATRN" in w.waypost("queue", "why", row["id"]).stdout
    c = Customer(w)
    assert c.s.has_extn("atrn") and not c.s.has_extn("size") and c.s.docmd("MAIL", "FROM:<>")[0] == 502
    assert c.ask() == (250, "2.0.0 OK now reversing the connection")
    said = c.serve()
    assert said[0].startswith("EHLO mail.example.test") and said[-1] == "QUIT"
    assert sorted(r for rs, _ in c.messages for r in rs) == ["one@customer.test", "two@branch.customer.test"]
    assert any(b"Subject: to one@customer.test" in m for _, m in c.messages)
    wait_states(w, "pickup")
    assert w.queue()[0]["recipient"] == "three@rival.test"
    assert Customer(w).ask() == (453, "4.0.0 You have no mail")


def test_who_may_and_what_is_wrong(provider):
    w = provider
    send(w, "one@customer.test", "three@rival.test")
    wait_states(w, "pickup", "pickup")
    assert Customer(w, user=None).ask("customer.test") == (530, "5.7.0 Log in first")
    c = Customer(w)
    assert c.ask("rival.test") == c.ask("customer.test,rival.test") == c.ask("nowhere.test") == (550, "5.7.1 That mail is not yours to take")
    assert c.ask("customer.test,") == c.ask("a b") == c.ask("[127.0.0.1]") == (501, "5.5.4 ATRN takes names of domains with commas between, or none")
    assert c.ask("branch.customer.test") == (453, "4.0.0 You have no mail")
    assert Customer(w, user="bob@example.test").ask()[0] == 550
    assert c.ask("Customer.Test") == (250, "2.0.0 OK now reversing the connection")
    assert c.serve()[-1] == "QUIT" and len(c.messages) == 1
    # RFC5321:F.1: TURN is ATRN for whom the login entitles, and unknown to the others
    for user, port in ((None, "submission"), ("bob@example.test", "submission")):
        t = Customer(w, user=user, verb="TURN", port=port)
        assert t.ask()[0] == 502
    with w.smtp() as s:
        s.ehlo()
        assert s.docmd("TURN")[0] == 502 and s.docmd("ATRN")[0] == 502
    t = Customer(w, user="alice@example.test", verb="TURN", port="submission")
    assert t.ask()[0] == 250
    t.serve()
    assert [rs for rs, _ in t.messages] == [["three@rival.test"]]
    w.wait_queue_empty()


def test_what_the_customer_refuses_and_lost_connections(provider):
    w = provider
    send(w, "one@customer.test", "no@customer.test", "later@customer.test")
    wait_states(w, "pickup", "pickup", "pickup")
    c = Customer(w)
    c.refuse = {"no@customer.test": "550 5.1.1 nobody", "later@customer.test": "450 4.2.1 not now"}
    assert c.ask()[0] == 250
    # later@ would be offered again in the next round: its answer was for this connection
    thread = threading.Thread(target=c.serve)
    thread.start()
    wp.until(lambda: [r for r in w.queue() if r["attempts"]], "an attempt")
    thread.join(wp.PATIENCE)
    assert not thread.is_alive()
    assert [rs for rs, _ in c.messages] == [["one@customer.test"]]
    wp.until(lambda: [(r["recipient"], r["state"]) for r in w.queue() if r["recipient"].endswith("customer.test")] == [("later@customer.test", "pickup")], lambda: str(w.queue()))
    for at in ("EHLO", "MAIL", "DATA"):
        c = Customer(w)
        c.break_at = at
        c.ask_until_there_is_mail()
        c.serve()
    c = Customer(w)
    c.ask_until_there_is_mail()
    c.serve()
    assert [rs for rs, _ in c.messages] == [["later@customer.test"]]
    w.wait_queue_empty()


@pytest.fixture
def zone(tmp_path):
    servers = []

    def make(*records):
        servers.append(dnszone.start_dns(tmp_path / ("dns%d" % len(servers)), list(records)))
        return "127.0.0.1@%d" % servers[-1].port

    yield make
    for s in servers:
        s.stop()


def etrn(w, name):
    with w.smtp() as s:
        s.ehlo()
        assert s.has_extn("etrn")
        code, text = s.docmd("ETRN", name)
        return code, text.decode()


def test_etrn_starts_the_queue(instances, zone):
    far = wp.fresh_address()
    dns = zone("customer.test. MX 10 mx.customer.test.", "branch.customer.test. MX 10 mx.customer.test.", "slow.test. MX 10 mx.customer.test.", "mx.customer.test. A " + far)
    w = instances("a", relay_port=PORT, dns=dns, sections={"smtp": "etrn yes;", "domain customer.test": "on-demand yes; pull-from 127.0.0.0/8;", "domain branch.customer.test": "on-demand yes; pull-from 127.0.0.0/8;",
                                                           "domain other.customer.test": "on-demand yes; pull-from 192.0.2.0/24;", "domain slow.test": "pull-by alice@example.test;"})
    send(w, "one@customer.test", "two@branch.customer.test", "three@other.customer.test")
    wait_states(w, "pickup", "pickup", "pickup")
    for name, answer in (("other.customer.test", (459, "4.7.1 not allowed for you")), ("nowhere.test", (459, "4.7.1 not allowed for you")), ("#customer.test", (458, "4.4.0 Unable to queue messages: there are no queues but those of domains")),
                         ("-x", (501, "5.5.4 ETRN takes the name of a domain, with @ before it for all below")), ("@", (501, "5.5.4 ETRN takes the name of a domain, with @ before it for all below"))):
        assert etrn(w, name) == answer
    # nobody is there: it waits again, for the next ETRN
    assert etrn(w, "Customer.Test") == (253, "2.0.0 OK, 1 pending messages started")
    wp.until(lambda: [r for r in w.queue() if r["recipient"] == "one@customer.test" and r["attempts"] == 1 and r["state"] == "pickup"], lambda: str(w.queue()))
    with Sink(far, PORT) as sink:
        assert etrn(w, "@customer.test") == (253, "2.0.0 OK, 2 pending messages started")
        wp.until(lambda: len(sink.messages()) == 2, "both messages")
        wait_states(w, "pickup")
        assert etrn(w, "customer.test") == (251, "2.0.0 OK, no messages waiting")
        # within a transaction it is out of order (RFC1985:5)
        with w.smtp() as s:
            s.ehlo()
            s.mail("c@remote.test")
            assert s.docmd("ETRN", "customer.test")[0] == 503
    # a domain that is only slow: what was deferred is due now; and the account entitles where the address does not
    with w.submit("alice@example.test") as s:
        s.sendmail("alice@example.test", ["four@slow.test"], wp.message("slow", sender="alice@example.test"))
        wp.until(lambda: [r for r in w.queue() if r["recipient"] == "four@slow.test" and r["attempts"]], lambda: str(w.queue()))
        assert etrn(w, "slow.test")[0] == 459
        with Sink(far, PORT) as sink:
            s.ehlo()
            assert s.docmd("ETRN", "slow.test") == (253, b"2.0.0 OK, 1 pending messages started")
            wp.until(sink.messages, "the message")


def test_etrn_is_off_by_default(server):
    with server.smtp() as s:
        s.ehlo()
        assert not s.has_extn("etrn") and s.docmd("ETRN", "customer.test")[0] == 502


def test_only_the_customers_mail_is_taken(provider):
    with provider.smtp() as s:
        s.ehlo()
        s.mail("c@remote.test")
        assert s.rcpt("any@customer.test")[0] == 250
        assert s.rcpt("any@else.customer.test")[0] == 550


def test_waiting_mail_expires_and_operators_release_it(instances, zone):
    far = wp.fresh_address()
    dns = zone("customer.test. MX 10 mx.customer.test.", "mx.customer.test. A " + far)
    w = instances("a", relay_port=PORT, dns=dns, sections={"queue": "expire 1s;", "domain customer.test": "on-demand yes;"})
    with w.submit("alice@example.test") as s:
        s.sendmail("alice@example.test", ["one@customer.test"], wp.message("too long", sender="alice@example.test"))
    m, = w.wait_inbox("alice@example.test", 1)
    assert b"multipart/report" in m and b"one@customer.test" in m
    w.wait_queue_empty()


def test_a_restart_keeps_what_waits(provider):
    w = provider
    send(w, "one@customer.test", body="x" * 70 + "\r\n" + "y\r\n" * 40000)
    wait_states(w, "pickup")
    w.stop()
    w.start()
    c = Customer(w)
    assert c.ask()[0] == 250
    c.serve()
    assert len(c.messages) == 1 and len(c.messages[0][1]) > 100000
    w.wait_queue_empty()


def test_a_domain_is_the_same_in_both_spellings(instances):
    address = wp.fresh_address()
    port = wp.free_port(address)
    w = instances("a", address=address, ports={"odmr": port}, accounts=ACCOUNTS,
                  sections={"listen odmr": "protocol odmr; address %s; port %d;" % (address, port), "domain xn--bcher-kva.test": "on-demand yes; pull-by relay@example.test;"})
    with w.smtp() as s:
        s.ehlo()
        for n, domain in enumerate(("b\u00fccher.test", "B\u00dcCHER.test", "xn--bcher-kva.test")):
            assert s.mail("c@remote.test", ["SMTPUTF8"])[0] == 250
            s.send(("RCPT TO:<r%d@%s>\r\n" % (n, domain)).encode())
            assert s.getreply()[0] == 250
            assert s.data(wp.message("m%d" % n, to="r@x.test"))[0] == 250
    wait_states(w, "pickup", "pickup", "pickup")
    c = Customer(w)
    assert c.ask()[0] == 250
    c.serve()
    assert sorted(r for rs, _ in c.messages for r in rs) == ["r%d@xn--bcher-kva.test" % n for n in range(3)]
    w.wait_queue_empty()


def test_too_many_ask_at_once(provider):
    """While nobody says who may: the 65th is asked to come again, and the others get their answers after all."""
    w = provider
    authd = next(r["pid"] for r in w.rows("status") if r["service"] == "authd")
    customer, others = Customer(w), [w.smtp() for _ in range(65)]
    for s in others:
        assert s.ehlo()[0] == 250
    os.kill(authd, signal.SIGSTOP)
    try:
        for s in others:
            s.send(b"ETRN customer.test\r\n")
        ready, _, _ = select.select([s.sock for s in others], [], [], wp.PATIENCE)
        (refused,) = [s for s in others if s.sock in ready]
        assert refused.getreply() == (458, b"4.3.2 Too many ask at once, try again later")
        assert customer.ask() == (450, "4.3.2 Too many ask at once, try again later")
    finally:
        os.kill(authd, signal.SIGCONT)
    assert {s.getreply()[0] for s in others if s is not refused} == {459}
    for s in others:
        s.close()
