"""SMTP's service extensions through the whole server: from the door to the mailbox, to the next host, and into notifications."""
import email
import socket

import pytest

import dnszone
import waypost as wp
from mtasink import Sink
from waypost import until

PORT = 25025
ALICE = "alice@example.test"
FAST = {"queue": "retry-min 1s; retry-max 2s;"}


@pytest.fixture
def zone(tmp_path):
    """zone(records) → "ADDRESS@PORT" of a DNS server (unbound) that serves them."""
    servers = []

    def make(*records):
        servers.append(dnszone.start_dns(tmp_path / ("dns%d" % len(servers)), list(records)))
        return "127.0.0.1@%d" % servers[-1].port

    yield make
    for s in servers:
        s.stop()


def bdat(c, content, size):
    """Gives the content in chunks, one reply at a time."""
    for at in range(0, len(content), size):
        piece = content[at:at + size]
        c.send(b"BDAT %d%s\r\n" % (len(piece), b" LAST" if at + size >= len(content) else b"") + piece)
        code, text = c.getreply()
        assert code == 250, (code, text)


def begin(c, sender, *rcpts):
    c.ehlo_or_helo_if_needed()
    assert c.has_extn("CHUNKING")
    assert c.mail(sender)[0] == 250
    for r in rcpts:
        assert c.rcpt(r)[0] == 250


CONTENT = b"From: <alice@example.test>\r\nSubject: chunks\r\nMessage-ID: <chunks@example.test>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\n" \
          b".\r\nMAIL FROM:<evil@remote.test>\r\n..\r\n.leading dot\r\n"


@pytest.mark.parametrize("size,more", [(7, 0), (50, 400), (65536, 40000)])
def test_chunks_arrive_as_they_were_sent(server, size, more):
    """RFC3030:2: in one piece or many, in the frame or spooled; what looks like DATA's end is content."""
    content = CONTENT + b"".join(b"line %060d\r\n" % i for i in range(more))
    with server.smtp() as c:
        begin(c, "someone@remote.test", "bob@example.test")
        bdat(c, content, size)
    assert server.wait_inbox("bob@example.test", 1)[0].endswith(content)


def test_pipelined_chunks(server):
    """RFC3030:4.2: everything at once; one message, the command inside of the chunk never runs."""
    with socket.create_connection((server.address, server.ports["mx"]), timeout=wp.PATIENCE) as s:
        f = s.makefile("rb")
        assert f.readline().startswith(b"220 ")
        s.sendall(b"EHLO c.test\r\n")
        while f.readline()[3:4] == b"-":
            pass
        s.sendall(b"MAIL FROM:<a@remote.test>\r\nRCPT TO:<bob@example.test>\r\nBDAT %d\r\n%sBDAT 5 LAST\r\nend\r\nBDAT 6 LAST\r\nRSET\r\nQUIT\r\n" % (len(CONTENT), CONTENT))
        assert [f.readline()[:3] for _ in range(6)] == [b"250", b"250", b"250", b"250", b"503", b"221"]
    assert server.wait_inbox("bob@example.test", 1)[0].endswith(CONTENT + b"end\r\n")


def test_chunks_go_on_by_data(instances, zone):
    """The next host gets DATA with its dots, and one message (HAZARDS 1)."""
    there = wp.fresh_address()
    with Sink(there, PORT) as sink:
        w = instances("a", relay_port=PORT, dns=zone("far.test. A " + there), sections=FAST)
        with w.submit(ALICE) as c:
            begin(c, ALICE, "carol@far.test")
            bdat(c, CONTENT, 33)
        m = until(sink.messages, "the message")
        w.wait_queue_empty()
        assert len(sink.messages()) == 1 and m[0].data.endswith(CONTENT)
        assert b"\r\n..\r\nMAIL FROM:" in m[0].raw


def notice(w, user=ALICE, count=1):
    """The fields of the newest notification in that inbox: {recipient: action}, the whole message, and the fields of the message."""
    def find():
        found = [m for m in map(email.message_from_bytes, w.inbox(user)) if m.get_content_type() == "multipart/report"]
        return found if len(found) >= count else None
    m = until(find, lambda: "a notification:\n" + w.logged()[-5000:], pause=0.1)[-1]
    blocks = next(p for p in m.walk() if p.get_content_type() == "message/delivery-status").get_payload()
    return {b["Final-Recipient"].split(";")[1]: b for b in blocks[1:]}, m, blocks[0]


def send(w, rcpts, mail_options=()):
    with w.submit(ALICE) as c:
        c.ehlo_or_helo_if_needed()
        assert c.has_extn("DSN")
        assert c.mail(ALICE, mail_options)[0] == 250
        for address, options in rcpts:
            assert c.rcpt(address, options)[0] == 250, address
        assert c.data(wp.message("asking", sender=ALICE))[0] == 250


def test_success_and_failure_are_told_as_asked(instances, zone):
    """RFC3461:5.2: a mailbox, a host without DSN, a host with it, refusals, and who wants to hear nothing."""
    old, new = wp.fresh_address(), wp.fresh_address()
    plain = ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES")
    refuse = {"gone@old.test": ["550 5.1.1 gone"], "silent@old.test": ["550 5.1.1 gone"]}
    with Sink(old, PORT, extensions=plain, rcpt=refuse) as a, Sink(new, PORT, extensions=plain + ("DSN",)) as b:
        w = instances("a", relay_port=PORT, dns=zone("old.test. A " + old, "new.test. A " + new), sections=FAST)
        send(w, [("bob@example.test", ["NOTIFY=SUCCESS"])], ["ENVID=local+2B1"])
        told, m, head = notice(w)
        assert told["bob@example.test"]["Action"] == "delivered" and head["Original-Envelope-Id"] == "local+1"
        send(w, [("carol@old.test", ["NOTIFY=SUCCESS", "ORCPT=rfc822;first+2Bname@old.test"])], ["RET=FULL"])
        told, m, _ = notice(w, count=2)
        assert told["carol@old.test"]["Action"] == "relayed" and told["carol@old.test"]["Original-Recipient"] == "rfc822;first+name@old.test"
        assert "message/rfc822" not in [p.get_content_type() for p in m.walk()]  # RFC3461:4.3: of failures only
        assert "NOTIFY" not in "".join(a.sessions[-1].said("RCPT"))
        send(w, [("gone@old.test", []), ("silent@old.test", ["NOTIFY=SUCCESS,DELAY"])], ["RET=FULL"])
        told, m, _ = notice(w, count=3)
        assert list(told) == ["gone@old.test"] and told["gone@old.test"]["Action"] == "failed"
        whole = next(p for p in m.walk() if p.get_content_type() == "message/rfc822").get_payload(0)
        assert whole["Subject"] == "asking" and "Hello." in whole.get_payload()
        send(w, [("dave@new.test", ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;d+2Be@new.test"]), ("eve@new.test", ["NOTIFY=NEVER"])], ["RET=HDRS", "ENVID=QQ314"])
        until(b.messages, "the message")
        w.wait_queue_empty()
        assert b.messages()[0].params.endswith("RET=HDRS ENVID=QQ314")
        assert sorted(b.sessions[0].said("RCPT")) == ["RCPT TO:<dave@new.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;d+2Be@new.test", "RCPT TO:<eve@new.test> NOTIFY=NEVER"]
        assert len(w.inbox(ALICE)) == 3  # the next host tells


def test_a_delay_is_told_once(instances, zone):
    """RFC3461:5.2.5: the sender is from here, so it need not ask; it can ask not to be told."""
    there = wp.fresh_address()
    later = ["451 4.3.0 later"] * 3 + ["250 2.1.5 ok"]
    with Sink(there, PORT, rcpt={"late@far.test": later, "quiet@far.test": later}) as sink:
        w = instances("a", relay_port=PORT, dns=zone("far.test. A " + there), sections={"queue": "retry-min 1s; retry-max 1s; delay-warning 1s;"})
        send(w, [("late@far.test", []), ("quiet@far.test", ["NOTIFY=FAILURE"])])
        told, m, _ = notice(w)
        assert list(told) == ["late@far.test"] and told["late@far.test"]["Action"] == "delayed" and told["late@far.test"]["Status"] == "4.3.0"
        assert m["Subject"] == "Your message is delayed" and told["late@far.test"]["Will-Retry-Until"]
        until(lambda: sum(len(x.rcpts) for x in sink.messages()) == 2, "both recipients")
        w.wait_queue_empty()
        assert len(w.inbox(ALICE)) == 1


JOERG, JOERG_FAR = "j\u00f6rg@example.test", "j\u00f6rg@d\u00f6rf.test"
UTF8_CONTENT = ("From: <%s>\r\nTo: <%s>\r\nSubject: Gr\u00fc\u00dfe\r\n\r\nHallo.\r\n" % (JOERG_FAR, JOERG)).encode()


def test_one_rule_for_domains(instances):
    """RFC6531:3.3: a name without an A-label is refused where it is said; an underscore, which DNS has nothing against, is good at each door."""
    with Sink(wp.fresh_address()) as sink:
        w = instances("a", sections=dict(FAST, relay="smarthost %s:%d; tls never;" % (sink.address, sink.port)))
        with w.smtp() as c:
            c.ehlo()
            c.command_encoding = "utf-8"
            assert c.docmd("MAIL FROM:<a@\u202e.test> SMTPUTF8")[0] == 501
            assert c.docmd("MAIL FROM:<a@my_host.test> SMTPUTF8")[0] == 250
            assert c.docmd("RCPT TO:<x@\u202e.test>")[0] == 501
        with w.submit(ALICE) as c:
            c.sendmail(ALICE, ["x@my_host.test"], wp.message("underscore", sender=ALICE))
        assert until(sink.messages, lambda: w.logged()[-3000:])[0].rcpts == ["x@my_host.test"]
        w.wait_queue_empty()


def test_internationalized_mail_arrives(instances):
    """RFC6531: an account whose name is not ASCII, and a domain written in both ways."""
    w = instances("a", accounts={ALICE: "secret-words", JOERG: "secret-words"})
    with w.smtp() as c:
        c.ehlo()
        assert c.has_extn("SMTPUTF8")
        c.command_encoding = "utf-8"
        assert c.docmd("MAIL FROM:<%s>" % JOERG_FAR)[0] == 553
        assert c.docmd("MAIL FROM:<%s> SMTPUTF8 BODY=8BITMIME" % JOERG_FAR)[0] == 250
        assert c.docmd("RCPT TO:<%s>" % JOERG)[0] == 250
        assert c.docmd("RCPT TO:<jorg@example.test>")[0] == 550
        assert c.data(UTF8_CONTENT)[0] == 250
    box = w.imap()  # imaplib's LOGIN takes ASCII only
    box.authenticate("PLAIN", lambda _: ("\0%s\0secret-words" % JOERG).encode())

    def fetch():
        box.select("INBOX")
        return box.fetch("1", "(BODY[])")[1][0]
    got = until(fetch, "the message")[1]
    box.logout()
    assert got.endswith(UTF8_CONTENT) and ("Return-Path: <%s>" % JOERG_FAR).encode() in got
    assert b" with UTF8SMTP" in got


def test_internationalized_mail_needs_a_host_that_takes_it(instances, zone):
    """RFC6531:3.5, RFC6531:3.2: 5.6.7 for a header or an address that the next host can't take; what is ASCII goes through."""
    old, new = wp.fresh_address(), wp.fresh_address()
    with Sink(old, PORT) as a, Sink(new, PORT, extensions=("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN")) as b:
        w = instances("a", relay_port=PORT, dns=zone("old.test. A " + old, "xn--drf-sna.test. A " + new), sections=FAST)

        def submit(rcpt, content):
            with w.submit(ALICE) as c:
                c.ehlo_or_helo_if_needed()
                c.command_encoding = "utf-8"
                assert c.docmd("MAIL FROM:<%s> SMTPUTF8" % ALICE)[0] == 250
                assert c.docmd("RCPT TO:<%s>" % rcpt)[0] == 250
                assert c.data(content)[0] == 250
        submit(JOERG_FAR, UTF8_CONTENT)
        m = until(b.messages, "the message")[0]
        assert m.rcpts == [JOERG_FAR] and " SMTPUTF8" in m.params and m.data.endswith(UTF8_CONTENT)
        submit("plain@old.test", wp.message("plain", sender=ALICE))
        assert until(a.messages, "the message")[0].rcpts == ["plain@old.test"]
        for n, (rcpt, content) in enumerate([("plain@old.test", UTF8_CONTENT), ("j\u00f6rg@old.test", wp.message("plain", sender=ALICE))]):
            submit(rcpt, content)
            until(lambda: len(w.inbox(ALICE)) == n + 1, w.logged, pause=0.1)
            assert b"Status: 5.6.7" in w.inbox(ALICE)[n]
        w.wait_queue_empty()
        assert len(a.messages()) == 1


def test_limits_are_announced_and_kept(instances):
    """RFC9422: what EHLO says is what happens."""
    w = instances("a", sections={"smtp": "max-recipients 100; max-transactions 3;"})
    with w.smtp() as c:
        c.ehlo()
        assert c.esmtp_features["limits"] == "MAILMAX=3 RCPTMAX=100"
        for n in range(3):
            assert c.mail("a@remote.test")[0] == 250
            assert [c.rcpt("bob@example.test")[0] for _ in range(130)] == [250] * 100 + [452] * 30
            assert c.data(wp.message("limits"))[0] == 250
        assert c.docmd("MAIL FROM:<a@remote.test>")[0] == 421


DORF = "d\u00f6rf.test"


def test_a_domain_is_the_same_in_both_spellings(instances):
    """RFC6531:3.2, RFC5890:2.3.2.4: A-labels and U-labels name one domain, at RCPT, at the sender's check, and on delivery."""
    w = instances("a", domains=("example.test", DORF), accounts={ALICE: "secret-words", "bob@" + DORF: "secret-words"})
    with w.smtp() as c:
        c.ehlo()
        c.command_encoding = "utf-8"
        for subject, rcpt, option in (("one", "bob@xn--drf-sna.test", ""), ("two", "bob@XN--DRF-SNA.TEST", " SMTPUTF8"), ("three", "bob@D\u00d6RF.test", " SMTPUTF8")):
            assert c.docmd("MAIL FROM:<someone@remote.test>" + option)[0] == 250
            assert c.docmd("RCPT TO:<%s>" % rcpt)[0] == 250, rcpt
            assert c.docmd("RCPT TO:<nobody@%s>" % rcpt.split("@")[1])[0] == 550
            assert c.data(wp.message(subject))[0] == 250

    def fetch():
        box = w.imap()
        box.authenticate("PLAIN", lambda _: ("\0bob@%s\0secret-words" % DORF).encode())
        box.select("INBOX")
        n = len(box.search(None, "ALL")[1][0].split())
        box.logout()
        return n == 3
    until(fetch, w.logged, pause=0.1)
