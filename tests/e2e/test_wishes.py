"""What a sender may ask of a message's way: REQUIRETLS, DELIVERBY, FUTURERELEASE, MT-PRIORITY; from the door to the next host and into
notifications. Peers announce each of them, or don't."""
import re
import time

import pytest

import waypost as wp
from dnssigned import start_signed_dns
from mtasink import Sink
from test_extensions import ALICE, FAST, PORT, notice, zone  # noqa: F401: zone is a fixture
from waypost import until

PLAIN = ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES")


def submit(w, rcpt, *options, subject="asking", extra=""):
    """Returns the reply to MAIL."""
    with w.submit(ALICE) as c:
        c.ehlo_or_helo_if_needed()
        for keyword in ("REQUIRETLS", "DELIVERBY", "FUTURERELEASE", "MT-PRIORITY"):
            assert c.has_extn(keyword), keyword
        reply = c.mail(ALICE, options)
        assert reply[0] == 250, reply
        assert c.rcpt(rcpt)[0] == 250
        assert c.data(wp.message(subject, sender=ALICE, extra=extra))[0] == 250
    return reply[1].decode()


def secured(sections, ca):
    return dict(sections, relay="trust-file %s;" % ca.cert)


@pytest.mark.parametrize("what,host,extensions,status", [
    ("taken", "far.test", PLAIN + ("REQUIRETLS",), None),
    ("not promised", "far.test", PLAIN, "5.7.30"),
    ("another name", "other.test", PLAIN + ("REQUIRETLS",), "5.7.10"),
    ("no TLS", None, PLAIN, "5.7.10"),
])
def test_tls_is_required(instances, zone, tmp_path, what, host, extensions, status):
    """RFC8689:4.2.1: a host without MX (its name is the domain's), with and without what is asked for."""
    there, ca = wp.fresh_address(), wp.Authority(tmp_path / "far-ca")
    cert, key = ca.issue("far", [host]) if host else (None, None)
    with Sink(there, PORT, cert=cert, key=key, extensions=extensions) as sink:
        w = instances("a", relay_port=PORT, dns=zone("far.test. A " + there), sections=secured(FAST, ca))
        submit(w, "carol@far.test", "REQUIRETLS")
        if status is None:
            m = until(sink.messages, lambda: w.logged()[-3000:])[0]
            assert m.params.split().count("REQUIRETLS") == 1 and m.tls
            w.wait_queue_empty()
            submit(w, "carol@far.test")
            assert "REQUIRETLS" not in until(lambda: sink.messages()[1:], "the second")[0].params
        else:
            told, _, _ = notice(w)
            assert told["carol@far.test"]["Status"] == status
            w.wait_queue_empty()
            assert not sink.messages()


@pytest.mark.parametrize("what,certified,status", [
    ("signed", "mx.post.test", None),
    ("the certificate is the domain's, not the host's", "far.test", "5.7.10"),
    ("no anchor", "mx.post.test", "5.7.30"),
    ("forged", "mx.post.test", "unanswered"),
])
def test_tls_is_required_of_a_mail_host_elsewhere(instances, tmp_path, what, certified, status):
    """RFC8689:4.2.1: DNSSEC proves which host it is that the certificate has to name."""
    there, ca = wp.fresh_address(), wp.Authority(tmp_path / "far-ca")
    cert, key = ca.issue("far", [certified])
    dns = start_signed_dns(tmp_path / "dns", ["far.test. MX 10 mx.post.test.", "mx.post.test. A " + there], forged=["far.test. MX"] if what == "forged" else [])
    try:
        with Sink(there, PORT, cert=cert, key=key, extensions=PLAIN + ("REQUIRETLS",)) as sink:
            anchor = "" if what == "no anchor" else "trust-anchor %s;" % dns.anchor
            w = instances("a", relay_port=PORT, dns="127.0.0.1@%d" % dns.port, sections=dict(secured(FAST, ca), dns=anchor))
            submit(w, "carol@far.test", "REQUIRETLS")
            if status is None:
                m = until(sink.messages, lambda: w.logged()[-3000:])[0]
                assert m.params.split().count("REQUIRETLS") == 1 and m.tls
                w.wait_queue_empty()
            elif status == "unanswered":
                w.wait_log(r" deferred .*DNSSEC")
            else:
                told, _, _ = notice(w)
                assert told["carol@far.test"]["Status"] == status
            assert bool(sink.messages()) == (status is None)
    finally:
        dns.stop()


def test_tls_is_not_required(instances, zone):
    """RFC8689:4.2.2: "TLS-Required: No" over `tls must`; other mail waits."""
    there = wp.fresh_address()
    with Sink(there, PORT, extensions=PLAIN) as sink:
        w = instances("a", relay_port=PORT, dns=zone("far.test. A " + there), sections=dict(FAST, relay="tls must;"))
        submit(w, "carol@far.test", extra="TLS-Required: No\r\n")
        until(sink.messages, lambda: w.logged()[-3000:])
        submit(w, "carol@far.test", subject="with TLS only")
        w.wait_log(r" deferred .*4\.7\.4")
        assert len(sink.messages()) == 1


def test_deliver_by_return(instances, zone):
    """RFC2852:4.1.4.1, RFC2852:4.1.3: to hosts alone that watch the time; back when it is over."""
    old, new, slow = wp.fresh_address(), wp.fresh_address(), wp.fresh_address()
    busy = {"rcpt": ["451 4.2.1 later"]}
    with Sink(old, PORT, extensions=PLAIN) as a, Sink(new, PORT, extensions=PLAIN + ("DELIVERBY 10",)) as b, \
            Sink(slow, PORT, extensions=PLAIN + ("DELIVERBY",), replies=busy) as c:
        names = zone("old.test. A " + old, "new.test. A " + new, "slow.test. A " + slow)
        w = instances("a", relay_port=PORT, dns=names, sections=dict(FAST, smtp="deliver-by-min 1s;"))
        submit(w, "x@new.test", "BY=3600;R")
        seconds = int(re.search(r"BY=(\d+);R\b", until(b.messages, "the message")[0].params).group(1))
        assert 3500 < seconds <= 3600
        submit(w, "x@old.test", "BY=3600;R")
        told, _, head = notice(w)
        assert told["x@old.test"]["Action"] == "failed" and told["x@old.test"]["Status"] == "5.3.3" and head["Deliver-By-Date"]
        submit(w, "x@slow.test", "BY=2;R")
        told, _, _ = notice(w, count=2)
        assert told["x@slow.test"]["Status"] == "5.4.7"
        w.wait_queue_empty()
        assert not a.messages() and not c.messages()


def test_deliver_by_notify(instances, zone):
    """RFC2852:4.1.4.2: a host that does not watch the time is told of, and is asked to tell delays."""
    old, new = wp.fresh_address(), wp.fresh_address()
    with Sink(old, PORT, extensions=PLAIN + ("DSN",)) as a, Sink(new, PORT, extensions=PLAIN + ("DELIVERBY",)) as b:
        w = instances("a", relay_port=PORT, dns=zone("old.test. A " + old, "new.test. A " + new), sections=FAST)
        submit(w, "x@new.test", "BY=-60;NT")
        assert re.search(r"BY=-6\d;NT\b", until(b.messages, "the message")[0].params)
        told, _, _ = notice(w)  # for the trace
        assert told["x@new.test"]["Action"] == "relayed"
        submit(w, "x@old.test", "BY=3600;N")
        assert "BY=" not in until(a.messages, "the message")[0].params
        assert a.sessions[0].said("RCPT") == ["RCPT TO:<x@old.test> NOTIFY=FAILURE,DELAY"]
        told, _, _ = notice(w, count=2)
        assert told["x@old.test"]["Action"] == "relayed"
        w.wait_queue_empty()


def test_held_for_its_sender(instances, zone):
    """RFC4865:4.2; an operator sees it, a retry of all leaves it, a release lets it go."""
    w = instances("a", sections=FAST)
    submit(w, "bob@example.test", "HOLDFOR=3600")
    qid = until(w.queue, "the queue")[0]["id"]
    shown = w.rows("queue", "show", qid)[0]
    assert shown["held-until"] and shown["login"] == ALICE and shown["tls"].startswith("TLS") and shown["expires"] > shown["held-until"]
    assert "FUTURERELEASE" in w.waypost("queue", "why", qid).stdout
    w.waypost("queue", "retry", "--all")
    began = time.time()
    submit(w, "bob@example.test", "HOLDUNTIL=" + time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began + 2)), subject="soon")
    assert b"Subject: soon" in w.wait_inbox("bob@example.test", 1)[0] and time.time() >= int(began + 2)
    assert w.waypost("queue", "release", qid).stdout
    assert len(w.wait_inbox("bob@example.test", 2)) == 2
    w.wait_queue_empty()


def test_priority(instances, zone):
    """RFC6710:4.1, RFC6710:4.2: who is listed may hurry, everybody may step back; in Received, and to hosts that offer it."""
    there, without = wp.fresh_address(), wp.fresh_address()
    with Sink(there, PORT, extensions=PLAIN + ("MT-PRIORITY MIXER",)) as a, Sink(without, PORT, extensions=PLAIN) as b:
        names = zone("far.test. A " + there, "plain.test. A " + without)
        w = instances("a", relay_port=PORT, dns=names, sections=FAST)
        assert submit(w, "x@far.test", "MT-PRIORITY=5").startswith("2.3.6 0 ")
        assert submit(w, "y@far.test", "MT-PRIORITY=-4").startswith("2.1.0 ")
        until(lambda: len(a.messages()) == 2, "both")
        params = {m.rcpts[0]: m for m in a.messages()}
        assert "MT-PRIORITY=0" in params["x@far.test"].params and "MT-PRIORITY=-4" in params["y@far.test"].params
        assert b"\tpriority -4;" in params["y@far.test"].data and b"priority" not in params["x@far.test"].data
        submit(w, "z@plain.test", "MT-PRIORITY=-4")
        assert "PRIORITY" not in until(b.messages, "the message")[0].params
        w.sections["smtp"] = "priority-accounts %s;" % ALICE
        w.write_conf()
        w.waypost("reload")
        assert submit(w, "v@far.test", "MT-PRIORITY=5").startswith("2.1.0 ")
        assert "MT-PRIORITY=5" in until(lambda: a.messages()[2:], "the third")[0].params


def test_priority_decides_the_order(instances, zone):
    """RFC6710:5.2: what waits for one host leaves in the order of its priorities, and among equals in the order in which it came."""
    there = wp.fresh_address()
    with Sink(there, PORT, extensions=PLAIN) as sink:
        w = instances("a", relay_port=PORT, dns=zone("far.test. A " + there), sections=dict(FAST, **{"smtp": "priority-accounts %s;" % ALICE, "domain far.test": "concurrency 1;"}))
        w.waypost("dest", "suspend", "far.test")
        asked = (-4, 0, 5, -4, 5, 0, 2)
        for i, priority in enumerate(asked):
            submit(w, "p%d@far.test" % i, "MT-PRIORITY=%d" % priority)
        until(lambda: len(w.queue()) == len(asked) and all("suspended" in w.waypost("queue", "why", r["id"]).stdout for r in w.queue()), "all wait")
        w.waypost("dest", "resume", "far.test")
        got = until(lambda: (lambda m: m if len(m) == len(asked) else None)(sink.messages()), lambda: w.waypost("queue", "list").stdout)
        want = sorted(range(len(asked)), key=lambda i: -asked[i])
        assert [m.rcpts[0] for m in got] == ["p%d@far.test" % i for i in want]
        w.wait_queue_empty()


def test_not_offered_to_other_servers(server):
    """RFC4865:4.2 (2), RFC6710:3, RFC8689:2."""
    with server.smtp() as c:
        c.ehlo()
        assert c.has_extn("DELIVERBY") and not any(c.has_extn(k) for k in ("FUTURERELEASE", "MT-PRIORITY", "REQUIRETLS"))
        for option in ("HOLDFOR=60", "MT-PRIORITY=1", "REQUIRETLS"):
            assert c.mail("a@remote.test", [option])[0] == 555
        c.starttls(context=server.tls())
        c.ehlo()
        assert c.has_extn("REQUIRETLS") and c.mail("a@remote.test", ["REQUIRETLS"])[0] == 250
