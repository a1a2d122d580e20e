"""The relay's connections: reuse, pipelining, logins at a smarthost, hosts that misbehave, large and 8-bit content.
RFC2920, RFC3207, RFC4954, RFC6152; HAZARDS 3."""
import email
import re

import pytest

import waypost as wp
from mtasink import Sink
from waypost import message, until

ALICE = "alice@example.test"


RETRY = "retry-min 1s; retry-max 2s;"


def smart(sink, more):
    """The sink is a smarthost."""
    return {"sections": {"queue": RETRY, "relay": "smarthost %s:%d; %s" % (sink.address, sink.port, more)}}


def far(sink, more="tls never;", queue=RETRY):
    """The sink is where the MX leads to."""
    return {"mx": (sink.address, sink.port), "sections": {"queue": queue, "relay": more}}


def send(w, to, subject="out", body="Hello.\r\n", options=()):
    with w.submit(ALICE) as s:
        s.sendmail(ALICE, to if isinstance(to, list) else [to], message(subject, sender=ALICE, to="x@far.test", body=body), mail_options=options)


def pid_of(w, service):
    return int(w.services()[service]["pid"])


def test_one_connection_takes_several_messages_pipelined(instances):
    with Sink(wp.fresh_address()) as sink:
        w = instances("a", **far(sink, "tls never; concurrency 1; reuse-time 30s;"))
        for i in range(6):
            send(w, ["a@far.test", "b@far.test"], "number %d" % i)
        until(lambda: len(sink.messages()) == 6, "six messages")
        w.wait_queue_empty()
        assert len(sink.sessions) == 1
        # MAIL, both RCPT and DATA leave in one piece: no answer stands between them
        lines = sink.sessions[0].lines
        at = next(i for i, (who, l) in enumerate(lines) if who == "C" and l.startswith("MAIL"))
        assert [l.split(":")[0] for who, l in lines if who == "C"][1:5] == ["MAIL FROM", "RCPT TO", "RCPT TO", "DATA"], lines[at:]
        assert all(re.search(r" SIZE=\d+", l) for l in sink.sessions[0].said("MAIL"))


def test_messages_per_connection_and_its_time(instances):
    with Sink(wp.fresh_address()) as sink:
        w = instances("a", **far(sink, "tls never; concurrency 1; reuse-time 1s; reuse-messages 2;"))
        for i in range(4):
            send(w, "a@far.test", "number %d" % i)
        until(lambda: len(sink.messages()) == 4, "four messages")
        assert max(len(s.said("DATA")) for s in sink.sessions) <= 2
        until(lambda: all(s.ended for s in sink.sessions), "QUIT after the idle time")
        assert all(s.said("QUIT") for s in sink.sessions)


def test_a_kept_connection_that_the_host_closed(instances):
    with Sink(wp.fresh_address()) as sink:
        w = instances("a", **far(sink, "tls never; reuse-time 60s;", queue="retry-min 1h; retry-max 2h;"))
        send(w, "a@far.test", "first")
        until(sink.messages, "the first")
        sink.drop()
        send(w, "a@far.test", "second")  # no retry for an hour: it must arrive at once
        until(lambda: len(sink.messages()) == 2, "the second")


@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN"])
def test_login_over_implicit_tls(instances, tmp_path, mechanisms):
    ca = wp.Authority(tmp_path / "ca4")
    address = wp.fresh_address()
    cert, key = ca.issue("smart", [address])
    with Sink(address, cert=cert, key=key, implicit=True, auth={"waypost": "s3cret"}, auth_mechanisms=mechanisms) as sink:
        (tmp_path / "pw").write_text("s3cret\n")
        (tmp_path / "pw").chmod(0o600)
        w = instances("a", **smart(sink, "tls implicit; ca-file %s; smarthost-user waypost; smarthost-password-file %s/pw;" % (ca.cert, tmp_path)))
        send(w, "a@far.test")
        m = until(sink.messages, "the message")[0]
        assert m.tls and m.login == "waypost"


def test_a_smarthost_with_a_foreign_certificate_gets_nothing(instances, tmp_path):
    good, foreign = wp.Authority(tmp_path / "good"), wp.Authority(tmp_path / "foreign")
    address = wp.fresh_address()
    cert, key = foreign.issue("smart", [address])
    with Sink(address, cert=cert, key=key, auth={"waypost": "s3cret"}) as sink:
        (tmp_path / "pw").write_text("s3cret\n")
        (tmp_path / "pw").chmod(0o600)
        w = instances("a", **smart(sink, "tls may; ca-file %s; smarthost-user waypost; smarthost-password-file %s/pw;" % (good.cert, tmp_path)))
        send(w, "a@far.test")
        w.wait_log(r" deferred .*4\.\d+\.\d+")
        assert not sink.messages() and not any(s.said("AUTH") or s.said("MAIL") for s in sink.sessions)


def test_a_refused_login_keeps_the_mail(instances, tmp_path):
    ca = wp.Authority(tmp_path / "ca5")
    address = wp.fresh_address()
    cert, key = ca.issue("smart", [address])
    with Sink(address, cert=cert, key=key, auth={"waypost": "other"}) as sink:
        (tmp_path / "pw").write_text("s3cret\n")
        (tmp_path / "pw").chmod(0o600)
        w = instances("a", **smart(sink, "tls must; smarthost-user waypost; smarthost-password-file %s/pw;" % tmp_path))
        send(w, "a@far.test")
        w.wait_log(r" deferred .*4\.7\.8")
        assert w.queue() and not w.inbox(ALICE)
        sink.auth["waypost"] = "s3cret"
        until(sink.messages, "delivered once the login works")


def test_bytes_behind_the_220_of_starttls(instances, tmp_path):
    ca = wp.Authority(tmp_path / "ca6")
    cert, key = ca.issue("far", ["far.test"])
    with Sink(wp.fresh_address(), cert=cert, key=key, replies={"starttls": ["220 go\n250-injected\n250 AUTH PLAIN"]}) as sink:
        w = instances("a", **far(sink, "tls may;"))
        send(w, "a@far.test")
        w.wait_log(r" deferred .*4\.5\.0")
        assert not sink.messages() and not any(s.said("MAIL") for s in sink.sessions)


@pytest.mark.parametrize("replies", [
    {"greeting": ["421 4.3.2 busy", "220 sink.test"]},
    {"greeting": ["garbage", "220 sink.test"]},
    {"greeting": ["close", "220 sink.test"]},
    {"greeting": ["220 " + "x" * 100000, "220 sink.test"]},
    {"greeting": ["\n".join(["220-more"] * 5000), "220 sink.test"]},
    {"ehlo": ["421 no", "250 sink.test"]},
    {"mail": ["close", "250 ok"]},
    {"data": ["close", "354 go"]},
    {"dot": ["451 4.3.0 no room", "250 taken"]},
    {"greeting": ["hang", "220 sink.test"]},
], ids=["421", "garbage", "close", "long-line", "endless", "ehlo-421", "mail-close", "data-close", "dot-451", "hang"])
def test_hosts_that_misbehave_once(instances, replies):
    with Sink(wp.fresh_address(), replies=replies) as sink:
        w = instances("a", **far(sink, "tls never; reply-timeout 2s;"))
        send(w, "a@far.test")
        until(sink.messages, "the message, at last")
        w.wait_queue_empty()
        assert len(sink.messages()) == 1


def test_a_connection_lost_behind_the_final_dot(instances):
    """The host may have taken it: it is tried again later, and that is the one case of a duplicate."""
    with Sink(wp.fresh_address(), replies={"dot": ["close", "250 taken"]}) as sink:
        w = instances("a", **far(sink))
        send(w, "a@far.test")
        w.wait_log(r" deferred .*4\.4\.2")
        until(sink.messages, "the message")
        w.wait_queue_empty()


def eight_bit(kind):
    return ("MIME-Version: 1.0\r\nContent-Type: multipart/%s; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\nFrom: <%s>\r\nSubject: eight\r\nMessage-ID: <%s@eight.test>\r\n"
            "Date: Tue, 24 Nov 2026 10:00:00 +0000\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ncaf\u00e9\r\n"
            "--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n--b--\r\n" % (kind, ALICE, kind)).encode()


def test_8bit_content_where_it_is_not_taken(instances):
    """RFC6152:3: what a host takes 7-bit content of only is encoded, part by part; what is signed comes back as it was."""
    with Sink(wp.fresh_address(), extensions=()) as sink:
        w = instances("a", **far(sink))
        send(w, "a@far.test", "seven", options=("BODY=8BITMIME",))
        until(sink.messages, "7-bit content goes through")
        with w.submit(ALICE) as s:
            s.sendmail(ALICE, ["b@far.test"], eight_bit("mixed"), mail_options=("BODY=8BITMIME",))
        until(lambda: len(sink.messages()) == 2, lambda: "the encoded one:\n" + w.logged()[-3000:])
        got = sink.messages()[1].data
        assert got.isascii() and "BODY" not in str(sink.messages()[1].params)
        m = email.message_from_bytes(got)
        first, second = m.get_payload()
        assert m["Content-Transfer-Encoding"] == "7bit" and first["Content-Transfer-Encoding"] == "base64" and first.get_payload(decode=True) == b"caf\xc3\xa9"
        assert second["Content-Transfer-Encoding"] is None and second.get_payload() == "plain"
        with w.submit(ALICE) as s:
            s.sendmail(ALICE, ["b@far.test"], eight_bit("signed"), mail_options=("BODY=8BITMIME",))

        def returned():
            return [m for m in map(email.message_from_bytes, w.inbox(ALICE)) if m.get_content_type() == "multipart/report"]
        m = until(returned, lambda: "a notification:\n" + w.logged()[-3000:], pause=0.1)[0]
        status = next(p for p in m.walk() if p.get_content_type() == "message/delivery-status").get_payload()
        assert status[1]["Status"] == "5.6.2"
        assert len(sink.messages()) == 2


@pytest.mark.parametrize("lines", (10, 3000), ids=("inline", "spooled"))
def test_8bit_content_that_nobody_declared(instances, lines):
    """RFC6152:3: without BODY=8BITMIME, and with octets above 127 in its last line only: known by the end of the content."""
    text = b"".join(b"%05d %s\r\n" % (i, b"x" * 60) for i in range(lines)) + b"caf\xc3\xa9\r\n"
    header = ("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nFrom: <%s>\r\nSubject: late\r\n\r\n" % ALICE).encode()
    for name, extensions in (("a", ()), ("b", ("8BITMIME",))):
        with Sink(wp.fresh_address(), extensions=extensions) as sink:
            w = instances(name, **far(sink))
            with w.submit(ALICE) as s:
                s.sendmail(ALICE, ["a@far.test"], header + text)
            m = until(sink.messages, lambda: w.logged()[-3000:])[0]
            assert email.message_from_bytes(m.data).get_payload(decode=True).replace(b"\r\n", b"\n") == text.replace(b"\r\n", b"\n")
            assert m.data.isascii() == (not extensions) and ("BODY=8BITMIME" in m.params) == bool(extensions)
            w.wait_queue_empty()


def test_large_content_leaves_memory_alone(instances):
    body = "".join("%07d %s\r\n" % (i, "x" * 60) for i in range(150000)) + ".\r\n..\r\n"  # 10 MB
    with Sink(wp.fresh_address()) as sink:
        w = instances("a", **far(sink))
        send(w, "a@far.test", "small")
        until(sink.messages, "the small one")
        before = peak(w)
        send(w, "b@far.test", "large", body=body)
        until(lambda: len(sink.messages()) == 2, "the large one")
        assert sink.messages()[1].data.endswith(body.encode())
        if not wp.SANITIZED:
            assert peak(w) - before < 3000, "kB more at the peak"


def peak(w):
    with open("/proc/%d/status" % pid_of(w, "relay")) as f:
        return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1))


def test_many_recipients_in_turns(instances):
    """A host that takes three recipients at a time (RFC5321:4.5.3.1.10): the others follow in the same session, not after a retry."""
    with Sink(wp.fresh_address(), max_rcpts=3) as sink:
        w = instances("a", **far(sink, queue="retry-min 1h; retry-max 2h;"))
        to = ["r%d@far.test" % i for i in range(9)]
        send(w, to)
        until(lambda: sorted(r for m in sink.messages() for r in m.rcpts) == to, "everybody")
        w.wait_queue_empty()
        assert len(sink.sessions) == 1 and len(sink.messages()) == 3
