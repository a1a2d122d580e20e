"""Notifications through the whole server: texts of an operator, many recipients, what comes back of the message, double bounces, two servers
whose notifications meet."""
import email
import email.policy
import os
import shutil

import pytest

import dnszone
import waypost as wp
from mtasink import Sink
from waypost import until

ALICE, POST = "alice@example.test", "post@example.test"
TEXTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../etc/notices")
KINDS = ("failed", "delayed", "delivered", "relayed", "expanded", "double-bounce", "account-held", "account-held-operator")


def smart(sink, **sections):
    return dict({"relay": "smarthost %s:%d; tls never;" % (sink.address, sink.port), "queue": "retry-min 1s; retry-max 1s;"}, **sections)


def send(w, rcpts, content, options=()):
    with w.submit(ALICE) as c:
        c.ehlo_or_helo_if_needed()
        assert c.mail(ALICE, list(options))[0] == 250
        for r in rcpts:
            assert c.rcpt(r)[0] == 250, r
        assert c.data(content)[0] == 250


def letter(subject, size=100):
    line = "x" * 70 + "\r\n"
    return ("From: <%s>\r\nSubject: %s\r\nMessage-ID: <%d@example.test>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\n" % (ALICE, subject, size)
            + line * (size // len(line) + 1)).encode()


def notices(w, who=ALICE, count=1):
    """The notifications to that account so far, when there are so many; each with its report: recipient -> fields."""
    def found():
        all_ = [email.message_from_bytes(m, policy=email.policy.default) for m in w.inbox(who)]
        all_ = [m for m in all_ if m.get_content_type() == "multipart/report"]
        return len(all_) >= count and all_
    return until(found, lambda: "%d notifications:\n%s" % (count, w.logged()[-3000:]), pause=0.1)


def report(m):
    part = next(p for p in m.iter_parts() if p.get_content_type() in ("message/delivery-status", "message/global-delivery-status"))
    return {str(g["Final-Recipient"]).split(";")[1].strip(): g for g in part.get_payload()[1:]}


def refusing(names):
    return Sink(wp.fresh_address(), rcpt={n: ["550 5.1.1 gone"] * 9 for n in names})


def test_texts_in_german(instances):
    """The shipped German texts, as an operator would use them."""
    with refusing(["weg@far.test"]) as sink:
        w = instances("a", start=False, sections=smart(sink, notices="".join("%s texte/%s; " % (k, k) for k in KINDS) + "language de;"))
        w.write_conf()
        shutil.copytree(TEXTS + "/de", os.path.dirname(w.conf) + "/texte")
        w.start()
        send(w, ["weg@far.test"], letter("=?utf-8?q?Gr=C3=BC=C3=9Fe?="))
        m = notices(w)[0]
        assert m["Subject"] == "Ihre Nachricht konnte nicht zugestellt werden"
        text = m.get_body(("plain",))
        assert text["Content-Language"] == "de"
        words = text.get_content().replace("\r\n", "\n")
        assert "Ihre Nachricht vom 20" in words and "\n  „Grüße“\nkonnte nicht zugestellt werden an:\n\n  weg@far.test\n    " in words
        assert " antwortete: 550 gone\n" in words and "\nUnser Zeichen: " in words and "could not" not in words
        assert report(m)["weg@far.test"]["Status"] == "5.1.1"
        with w.submit(ALICE) as c:
            c.ehlo_or_helo_if_needed()
            c.mail(ALICE)
            assert c.rcpt("da@far.test", ["NOTIFY=SUCCESS"])[0] == 250
            assert c.data(letter("noch eine"))[0] == 250
        m = notices(w, count=2)[1]
        assert m["Subject"] == "Ihre Nachricht wurde weitergegeben" and "„noch eine“" in m.get_body(("plain",)).get_content()
        # other words by a reload; a mistake is named with its line and changes nothing
        path = os.path.dirname(w.conf) + "/texte/failed"
        with open(path) as f:
            good = f.read()
        with open(path, "w") as f:
            f.write(good.replace("{reference}", "{reverence}"))
        for command in ("check", "reload"):
            r = w.waypost(command, check=False)
            said = r.stdout + r.stderr
            assert r.returncode and "texte/failed:%d: there is no {reverence} here, write one of {host}, " % (good[:good.index("{reference}")].count("\n") + 1) in said, said
        with open(path, "w") as f:
            f.write(good.replace("Hier ist der Mailserver", "Hier spricht"))
        w.waypost("reload")
        send(w, ["weg@far.test"], letter("dritte"))
        assert notices(w, count=3)[2].get_body(("plain",)).get_content().startswith("Hier spricht ")


@pytest.mark.parametrize("n", (60, 600), ids=("inline", "spooled"))
def test_every_recipient_is_named(instances, n):
    """RFC3461:5.2.6; a notice that is too large for a frame is a spool file."""
    names = ["u%03d@far.test" % i for i in range(n)]
    with refusing(names) as sink:
        w = instances("a", sections=smart(sink))
        send(w, names, letter("many"))
        until(lambda: sum(len(report(m)) for m in notices(w)) == n, lambda: "all of them:\n" + w.logged()[-3000:], pause=0.1)
        all_ = notices(w)
        assert sorted(r for m in all_ for r in report(m)) == names
        if n == 60:
            assert len(all_) == 1 and "and 10 more, who are all named" in all_[0].get_body(("plain",)).get_content()
        w.wait_queue_empty()
        assert os.listdir(w.dir + "/state/queue/spool") == []


def test_what_comes_back(instances):
    """RFC3461:4.3: all of it up to return-max, inline or spooled, by a mailbox or another host; else its header."""
    sizes = (1000, 60000, 90000, 120000)
    names = ["s%d@far.test" % s for s in sizes]
    with refusing(names) as sink:
        w = instances("a", sections=smart(sink, queue="retry-min 1s; retry-max 1s; return-max 100K;"))
        for i, (name, size) in enumerate(zip(names, sizes)):
            content = letter("number %d" % size, size)
            send(w, [name], content, ["RET=FULL"])
            m = notices(w, count=i + 1)[i]
            back = list(m.iter_parts())[2]
            assert list(report(m)) == [name]
            if size < 100000:
                assert back.get_content_type() == "message/rfc822"
                whole = back.get_payload(0)
                assert whole["Subject"] == "number %d" % size and whole.get_payload().replace("\r\n", "\n") == content.decode().split("\r\n\r\n", 1)[1].replace("\r\n", "\n")
            else:
                assert back.get_content_type() == "text/rfc822-headers" and "Subject: number %d" % size in back.get_content()
            assert "\"number %d\"" % size in m.get_body(("plain",)).get_content()
        # without RET=FULL, and with another cap
        send(w, [names[1]], letter("plain", 60000))
        assert list(notices(w, count=5)[4].iter_parts())[2].get_content_type() == "text/rfc822-headers"
        with open(w.conf) as f:
            text = f.read()
        with open(w.conf, "w") as f:
            f.write(text.replace("return-max 100K;", "return-max 0;"))
        w.waypost("reload")
        send(w, [names[0]], letter("none", 1000), ["RET=FULL"])
        assert list(notices(w, count=6)[5].iter_parts())[2].get_content_type() == "text/rfc822-headers"
        w.wait_queue_empty()
        assert os.listdir(w.dir + "/state/queue/spool") == []


def test_an_international_original_recipient(instances):
    """RFC6533:4: a UTF-8 ORCPT of an ASCII address."""
    with refusing(["gone@far.test"]) as sink:
        w = instances("a", sections=smart(sink))
        with w.submit(ALICE) as c:
            c.ehlo_or_helo_if_needed()
            assert c.docmd("MAIL FROM:<%s> SMTPUTF8" % ALICE)[0] == 250
            c.command_encoding = "utf-8"
            assert c.docmd("RCPT TO:<gone@far.test> ORCPT=utf-8;j\u00f6rg@far.test")[0] == 250
            assert c.data(letter("orcpt"))[0] == 250
        m = notices(w)[0]
        part = list(m.iter_parts())[1]
        assert part.get_content_type() == "message/global-delivery-status" and part["Content-Transfer-Encoding"] == "8bit"
        raw = next(x for x in w.inbox(ALICE) if b"multipart/report" in x)
        assert "Original-Recipient: utf-8;j\u00f6rg@far.test\r\n".encode() in raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def test_a_double_bounce_is_told_to_its_postmaster(instances):
    with refusing(["gone@far.test", "forged@far.test"]) as sink:
        w = instances("a", accounts={ALICE: "secret-words", POST: "secret-words"}, sections=smart(sink, queue="retry-min 1s; retry-max 1s; double-bounce-to %s;" % POST))
        w.waypost("alias", "add", "list@example.test", "gone@far.test")
        with w.smtp() as c:
            c.ehlo()
            c.sendmail("forged@far.test", ["list@example.test"], letter("outside"))
        m = notices(w, POST)[0]
        assert m["Subject"] == "A notification could not be delivered" and list(report(m)) == ["forged@far.test"]
        inner = list(m.iter_parts())[2]
        assert inner.get_content_type() == "message/rfc822" and inner.get_payload(0)["Subject"] == "Your message could not be delivered"
        w.wait_queue_empty()
        assert len(w.inbox(POST)) == 1 and not w.inbox(ALICE)


@pytest.fixture
def two(instances, tmp_path):
    """two(queue settings of a, of b) -> servers of a.test and b.test, each the other's next host."""
    at, zones = {"a": wp.fresh_address(), "b": wp.fresh_address()}, []
    port = 25025  # the same on both addresses, as 25 is in the world

    def make(**queue):
        zones.append(dnszone.start_dns(tmp_path / "dns", [r % {"n": n, "at": at[n]} for n in at for r in ("%(n)s.test. MX 10 mail.%(n)s.test.", "mail.%(n)s.test. A %(at)s")]))
        return [instances(n, domains=["%s.test" % n], accounts={"post@%s.test" % n: "secret-words"}, address=at[n], ports={"mx": port}, relay_port=port,
                          dns="127.0.0.1@%d" % zones[0].port, sections={"queue": "retry-min 1s; retry-max 1s; " + queue[n]}) for n in ("a", "b")]

    yield make
    for z in zones:
        z.stop()


HOPS_MAX = 100


@pytest.mark.parametrize("told", (True, False), ids=("told", "dropped"))
def test_two_servers_bounce_at_each_other(instances, two, told):
    """HAZARDS 17: a notification that the other server refuses, that it passes on to an address of ours that is not there, and that runs in a circle of
    aliases of both: each ends, at the postmaster of double-bounce-to or nowhere, and there are as many messages as there should be."""
    a, b = two(**{n: "double-bounce-to post@%s.test;" % n if told else "" for n in "ab"})
    for w, here, there in ((a, "a", "b"), (b, "b", "a")):
        w.waypost("alias", "add", "on@%s.test" % here, "gone@%s.test" % there)
        w.waypost("alias", "add", "round@%s.test" % here, "round@%s.test" % there)
    for sender in ("gone", "on", "round"):
        for w, here, there in ((a, "a", "b"), (b, "b", "a")):
            with w.smtp() as c:
                c.ehlo()
                c.sendmail("%s@%s.test" % (sender, there), ["%s@%s.test" % ("round" if sender == "round" else "on", here)], letter(sender))
    # what each server has to do in the end; a message that never ended would make more of all of it
    due = {
        "queued": 1 + 2 + 2 * (HOPS_MAX + 1),  # of which HOPS_MAX + 1 notifications, each the same one again in its circle, and the one to an alias
        "bounced": 3 + told,  # the three, and of the first the notification that the other refused
        "not-bounced": 3 - told,  # of the others the other's notifications that ended here
        "expired": 0,
    }

    def done(w):
        return {k: len([l for l in w.logged().splitlines() if " %s qid=" % k in l]) for k in due}
    until(lambda: all(done(w)[k] >= n for w in (a, b) for k, n in due.items()), lambda: "%s twice: %s, %s" % (due, done(a), done(b)), pause=0.1)
    for w in (a, b):
        w.wait_queue_empty()
    assert [done(a), done(b)] == [due, due]
    for w, here, there in ((a, "a", "b"), (b, "b", "a")):
        found = w.inbox("post@%s.test" % here)
        assert len(found) == told
        if told:
            m = notices(w, "post@%s.test" % here)[0]
            assert m["Subject"] == "A notification could not be delivered" and list(report(m)) == ["gone@%s.test" % there] and m["Return-Path"] == "<>"
