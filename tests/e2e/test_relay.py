"""Mail to other hosts: MX and addresses, TLS, temporary and permanent answers, notifications, holds, loops; and Postfix at the other end
in both directions. RFC5321:5.1, RFC3464, RFC7505."""
import email
import re
import ssl

import pytest

import dnszone
import postfix
import waypost as wp
from mtasink import Sink
from waypost import message, until

PORT = 25025  # the same on every address of a test, as 25 is in the world; each test has addresses of its own
ALICE = "alice@example.test"
FAST = {"queue": "retry-min 1s; retry-max 2s;"}


@pytest.fixture
def zone(tmp_path):
    """zone(records) → "ADDRESS@PORT" of a DNS server (unbound) that serves them."""
    servers = []

    def make(*records):
        s = dnszone.start_dns(tmp_path / ("dns%d" % len(servers)), list(records))
        servers.append(s)
        return "127.0.0.1@%d" % s.port

    yield make
    for s in servers:
        s.stop()


def send(w, to, subject="out", sender=ALICE):
    with w.submit(ALICE) as s:
        s.sendmail(sender, [to] if isinstance(to, str) else to, message(subject, sender=sender, to=to if isinstance(to, str) else to[0]))


def bounce(w, user=ALICE):
    """The first notification in that inbox, as (outer message, status part as list of field blocks)."""
    def find():
        for raw in w.inbox(user):
            m = email.message_from_bytes(raw)
            if m.get_content_type() == "multipart/report":
                return m
    m = until(find, lambda: "a notification:\n" + w.logged()[-5000:], pause=0.1)
    status = next(p for p in m.walk() if p.get_content_type() == "message/delivery-status")
    return m, status.get_payload()


def test_mx_preference_and_the_next_host_when_one_is_down(instances, zone):
    good, dead = wp.fresh_address(), wp.fresh_address()
    dns = zone("far.test. MX 10 first.far.test.", "far.test. MX 20 second.far.test.", "first.far.test. A " + dead, "second.far.test. A " + good)
    with Sink(good, PORT) as sink:
        w = instances("a", relay_port=PORT, dns=dns, sections=FAST)
        send(w, "carol@far.test")
        m = until(sink.messages, "the message")[0]
        assert m.sender == ALICE and m.rcpts == ["carol@far.test"]
        assert b"\r\nSubject: out\r\n" in m.data
        w.wait_queue_empty()
        w.wait_log(r" relayed .*second\.far\.test\[%s\]" % re.escape(good))


def test_an_address_record_serves_where_no_mx_is(instances, zone):
    good = wp.fresh_address()
    with Sink(good, PORT) as sink:
        w = instances("a", relay_port=PORT, dns=zone("plain.test. A " + good), sections=FAST)
        send(w, "carol@plain.test")
        until(sink.messages, "the message")


@pytest.mark.parametrize("records,status", [
    (["null.test. MX 0 ."], "5.1.10"),
    ([], "5.1.2"),
], ids=["null-mx", "no-such-domain"])
def test_domains_that_take_no_mail_fail_at_once(instances, zone, records, status):
    w = instances("a", relay_port=PORT, dns=zone(*records, "other.test. A 127.0.0.1"), sections=FAST)
    send(w, "carol@null.test")
    m, blocks = bounce(w)
    assert m["From"] and "Auto-Submitted" in m and m["Auto-Submitted"].startswith("auto-")
    assert blocks[1]["Action"] == "failed" and blocks[1]["Status"] == status
    assert "carol@null.test" in blocks[1]["Final-Recipient"]
    assert m["Return-Path"] == "<>"
    w.wait_queue_empty()


def test_own_host_in_mx_is_a_loop(instances, zone):
    address = wp.fresh_address()
    dns = zone("loop.test. MX 10 mail.example.test.", "mail.example.test. A " + address)
    w = instances("a", address=address, ports={"mx": PORT}, relay_port=PORT, dns=dns, sections=FAST)
    send(w, "carol@loop.test")
    _, blocks = bounce(w)
    assert blocks[1]["Status"] == "5.4.6"


def test_servfail_is_a_retry(instances, tmp_path):
    good = wp.fresh_address()
    dns = dnszone.start_dns(tmp_path / "dns", ["mx.late.test. A " + good], servfail=["late.test."])
    try:
        w = instances("a", relay_port=PORT, dns="127.0.0.1@%d" % dns.port, sections=FAST)
        send(w, "carol@late.test")
        w.wait_log(r" deferred .*4\.4\.3")
        assert [r for r in w.queue()], "still queued"
        with Sink(good, PORT) as sink:
            dns.set(["late.test. MX 10 mx.late.test.", "mx.late.test. A " + good])
            until(sink.messages, "delivered after the zone came back")
    finally:
        dns.stop()


def test_a_dns_server_that_is_not_there_is_a_retry(instances, zone):
    good = wp.fresh_address()
    closed = "127.0.0.1@%d" % wp.free_port("127.0.0.1")
    w = instances("a", relay_port=PORT, dns=closed, sections=FAST)
    send(w, "carol@late.test")
    w.wait_log(r" deferred .*4\.4\.3")
    with Sink(good, PORT) as sink:
        conf = open(w.conf).read().replace(closed, zone("late.test. A " + good))
        open(w.conf, "w").write(conf)
        w.waypost("reload")
        until(sink.messages, "delivered with another server")


def test_temporary_answers_are_retried_and_permanent_ones_bounce(instances, zone):
    good = wp.fresh_address()
    with Sink(good, PORT, rcpt={"busy@far.test": ["451 4.7.1 come back", "250 ok"], "gone@far.test": ["550 5.1.1 no such user here"]}) as sink:
        w = instances("a", relay_port=PORT, dns=zone("far.test. A " + good), sections=FAST)
        send(w, ["busy@far.test", "gone@far.test", "fine@far.test"], "mixed")
        m, blocks = bounce(w)
        failed = [b for b in blocks[1:] if b["Action"] == "failed"]
        assert len(failed) == 1 and "gone@far.test" in failed[0]["Final-Recipient"]
        assert failed[0]["Status"] == "5.1.1" and "no such user here" in failed[0]["Diagnostic-Code"]
        assert "no such user here" in m.get_payload()[0].get_payload()
        until(lambda: sorted(r for m in sink.messages() for r in m.rcpts) == ["busy@far.test", "fine@far.test"], "both others")
        w.wait_queue_empty()


def test_no_notification_for_a_null_sender(instances, zone):
    good = wp.fresh_address()
    with Sink(good, PORT, rcpt={"gone@far.test": ["550 5.1.1 no"]}):
        w = instances("a", relay_port=PORT, dns=zone("far.test. A " + good), sections=FAST)
        w.waypost("alias", "add", "out@example.test", "gone@far.test")
        with w.smtp() as s:
            s.sendmail("", ["out@example.test"], message("from nobody"))
        w.wait_queue_empty()
        assert w.inbox(ALICE) == [] and w.inbox("bob@example.test") == []


def test_expired_mail_comes_back(instances, zone):
    w = instances("a", relay_port=PORT, dns=zone("far.test. A " + wp.fresh_address()), sections={"queue": "retry-min 1s; retry-max 1s; expire 3s;"})
    send(w, "carol@far.test")
    _, blocks = bounce(w)
    assert blocks[1]["Action"] == "failed" and re.match(r"[45]\.4\.[17]", blocks[1]["Status"])
    w.wait_queue_empty()


def test_starttls_when_offered_and_clear_text_when_it_fails(instances, zone, tmp_path):
    good, broken = wp.fresh_address(), wp.fresh_address()
    cert, key = wp.Authority(tmp_path / "ca2").issue("far", ["far.test"])
    with Sink(good, PORT, cert=cert, key=key) as secure, Sink(broken, PORT, cert=cert, key=key, break_tls=True) as odd:
        w = instances("a", relay_port=PORT, dns=zone("far.test. A " + good, "odd.test. A " + broken), sections=FAST)
        send(w, "carol@far.test")
        assert until(secure.messages, "the message")[0].tls
        send(w, "carol@odd.test")
        assert not until(odd.messages, "the message in clear")[0].tls
        w.wait_log(r" relayed .*TLSv1\.[23]")


def test_a_smarthost_with_login(instances, tmp_path):
    good = wp.fresh_address()
    ca = wp.Authority(tmp_path / "ca3")
    cert, key = ca.issue("smart", [good, "smart.test"])
    (tmp_path / "password").write_text("s3cret words\n")
    (tmp_path / "password").chmod(0o600)
    with Sink(good, wp.free_port(good), cert=cert, key=key, auth={"waypost": "s3cret words"}) as sink:
        w = instances("a", sections=dict(FAST, relay="smarthost %s:%d; tls must; ca-file %s; smarthost-user waypost; smarthost-password-file %s;" % (
            good, sink.port, ca.cert, tmp_path / "password")))
        send(w, "carol@anywhere.test")
        m = until(sink.messages, "the message")[0]
        assert m.tls and m.login == "waypost"


def test_hold_release_and_why(instances, zone):
    good = wp.fresh_address()
    with Sink(good, PORT) as sink:
        w = instances("a", relay_port=PORT, dns=zone("far.test. A " + good), sections=dict(FAST, **{"domain far.test": "hold yes;"}))
        send(w, "carol@far.test", "parked")
        row = until(lambda: [r for r in w.queue() if "hold" in str(r).lower() or "held" in str(r).lower()], "held")[0]
        qid = row.get("id") or row.get("qid")
        text = w.waypost("queue", "why", qid).stdout
        assert "hold" in text.lower() or "held" in text.lower()
        assert "carol@far.test" in w.waypost("queue", "show", qid).stdout
        w.waypost("queue", "release", qid)
        until(sink.messages, "released")
        w.wait_queue_empty()
        send(w, "carol@far.test", "removed")
        qid = until(w.queue, "queued again")[0]
        w.waypost("queue", "remove", qid.get("id") or qid.get("qid"))
        w.wait_queue_empty()
        assert len(sink.messages()) == 1


def test_queue_retry_now(instances, zone):
    good = wp.fresh_address()
    dns = zone("far.test. A " + good)
    w = instances("a", relay_port=PORT, dns=dns, sections={"queue": "retry-min 1h; retry-max 2h;"})
    send(w, "carol@far.test")
    w.wait_log(r" deferred ")
    with Sink(good, PORT) as sink:
        row = w.queue()[0]
        w.waypost("queue", "retry", row.get("id") or row.get("qid"))
        until(sink.messages, "retried")


def test_too_many_hops_end_a_loop(instances):
    w = instances("a")
    extra = "".join("Received: from a by b; Mon, 23 Nov 2026 10:00:00 +0000\r\n" for _ in range(120))
    with w.smtp() as s:
        s.ehlo()
        s.mail("c@remote.test")
        s.rcpt("bob@example.test")
        code, text = s.data(message("looping", extra=extra))
    assert code == 554 and text.startswith(b"5.4.6"), text


def test_an_alias_loop_across_deliveries_ends(instances):
    """Delivered-To met again stops a forwarding loop."""
    w = instances("a")
    with w.smtp() as s:
        s.sendmail(ALICE, ["bob@example.test"], message("again", extra="Delivered-To: bob@example.test\r\n"))
    _, blocks = bounce(w)
    assert blocks[1]["Status"] == "5.4.6"


def test_leading_dots_and_long_lines_arrive_unchanged(instances, zone):
    good = wp.fresh_address()
    with Sink(good, PORT) as sink:
        w = instances("a", relay_port=PORT, dns=zone("far.test. A " + good), sections=FAST)
        body = ".\r\n..\r\n...three\r\n" + "x" * 990 + "\r\nlast\r\n"
        with w.submit(ALICE) as s:
            s.sendmail(ALICE, ["carol@far.test"], message("dots", body, sender=ALICE))
        assert until(sink.messages, "it")[0].data.endswith(body.encode())


needs_postfix = pytest.mark.skipif(not postfix.available(), reason="Postfix needs root")


@needs_postfix
def test_postfix_and_we_exchange_mail(instances, zone, tmp_path):
    ours, theirs = wp.fresh_address(), wp.fresh_address()
    dns = zone("remote.test. MX 10 mail.remote.test.", "mail.remote.test. A " + theirs)
    p = postfix.Postfix(tmp_path / "pf", theirs, PORT, "remote.test", ["carol"])
    p.route({"example.test": (ours, PORT)})
    p.start()
    try:
        w = instances("a", address=ours, ports={"mx": PORT}, relay_port=PORT, dns=dns, sections=FAST)
        send(w, "carol@remote.test", "to postfix")
        m = until(lambda: p.messages("carol"), lambda: "at Postfix:\n" + p.logged()[-3000:] + w.logged()[-3000:])[0]
        assert m["Subject"] == "to postfix" and len(m.get_all("Received")) == 2
        p.send("carol@remote.test", ["bob@example.test"], b"Subject: from postfix\nFrom: carol@remote.test\n\nhello\n")
        raw = w.wait_inbox("bob@example.test", 1)[0]
        assert b"Subject: from postfix" in raw
        send(w, "nobody@remote.test", "to nobody")
        _, blocks = bounce(w)
        assert blocks[1]["Status"] == "5.1.1"
        big = "".join("%06d %s\r\n" % (i, "y" * 60) for i in range(20000))
        with w.submit(ALICE) as s:
            s.sendmail(ALICE, ["carol@remote.test"], message("big", big, sender=ALICE))
        until(lambda: len(p.messages("carol")) == 2, "the big one")
        w.wait_queue_empty()
    finally:
        p.stop()
