"""Who submits writes as himself: reverse-path, From and Sender. RFC6409:6.1, RFC5322:3.6.2; delegated addresses."""
import smtplib

import pytest

from waypost import message

ALICE, BOB, VICTIM = "alice@example.test", "bob@example.test", "boss@bank.test"


@pytest.fixture
def server(instances):
    return instances("a", check_from=True)


@pytest.fixture
def alice(server):
    with server.submit(ALICE) as s:
        yield s


def send(s, text, sender=ALICE, options=()):
    """The reply to the content."""
    assert s.mail(sender, options)[0] == 250
    assert s.rcpt(BOB)[0] == 250
    code, reply = s.data(text.replace("\n", "\r\n").encode())
    return code, reply.decode()


def test_from_and_sender(server, alice):
    for ok in ("From: alice@example.test", "From: Alice <ALICE@Example.Test>", "From: alice+x@example.test", "from:\n =?utf-8?q?=C3=84?=\n <alice@example.test>",
               "From: us: alice@example.test, Alice <alice+y@example.test>;\nSender: alice@example.test", "From: alice@example.test (the @ one)",
               "From: \"boss@bank.test\" <alice@example.test>"):
        assert send(alice, ok + "\nSubject: x\n\nHello.\n")[0] == 250, ok
    for bad, named in (("From: boss@bank.test", "From names boss@bank.test"), ("From: bob@example.test", "From names bob@example.test"),
                       ("From: alice@example.test, boss@bank.test", "From names boss@bank.test"),
                       ("From: alice@example.test\nSender: boss@bank.test", "Sender names boss@bank.test"),
                       ("From: boss@bank.test\nSender: alice@example.test", "From names boss@bank.test"),
                       ("From: <alice@example.test> <boss@bank.test>", "From names boss@bank.test"),
                       ("From: boss@bank.test <alice@example.test>", "From names boss@bank.test"),
                       ("FROM\t:\n\t(c) boss@bank.test", "From names boss@bank.test"), ("From: all: boss@bank.test;", "From names boss@bank.test"),
                       ("From: \"a\\\"b\" <boss@bank.test>", "From names boss@bank.test"),
                       ("From: alice@[127.0.0.1]", "From names alice@[127.0.0.1]")):
        code, reply = send(alice, bad + "\nSubject: x\n\nHello.\n")
        assert (code, reply) == (550, "5.7.1 %s, which is no address of yours" % named), bad
    for broken in ("From: alice@example.test\nFrom: boss@bank.test", "From:", "From: Alice", "From: us:;", "From: alice@example.test\nSender: x", "From: <>"):
        code, reply = send(alice, broken + "\nSubject: x\n\nHello.\n")
        assert code == 554 and reply.startswith("5.6.0 "), (broken, reply)
    assert send(alice, "From: b\u00f6ss@bank.test\n\nHello.\n", options=["SMTPUTF8"]) == (550, "5.7.1 From names b??ss@bank.test, which is no address of yours")
    alice.rset()
    assert alice.mail(VICTIM) == (550, b"5.7.1 this sender address is not yours")
    # a client's own notification (RFC8098:2.1): nobody's reverse-path, its author's From
    assert send(alice, "From: alice@example.test\nSubject: x\n\nRead.\n", sender="")[0] == 250
    assert send(alice, "From: boss@bank.test\nSubject: x\n\nRead.\n", sender="")[0] == 550
    assert send(alice, "From: alice@example.test\nSubject: x\n\nLast.\n")[0] == 250, "the session goes on"
    assert len(server.wait_inbox(BOB, 9)) == 9


def test_large_messages_and_chunks(server, alice):
    """Content over the size that travels in a frame is read to its end, then refused; BDAT likewise."""
    body = ("x" * 70 + "\n") * 6000
    assert send(alice, "From: boss@bank.test\nSubject: x\n\n" + body)[0] == 550
    assert send(alice, "From: alice+big@example.test\nSubject: x\n\n" + body)[0] == 250
    for author, want in (("boss@bank.test", 550), (ALICE, 250)):
        text = ("From: %s\n\n" % author + body).replace("\n", "\r\n").encode()
        assert alice.mail(ALICE)[0] == 250 and alice.rcpt(BOB)[0] == 250
        alice.send(b"BDAT %d\r\n" % 9 + text[:9])
        assert alice.getreply()[0] == 250
        alice.send(b"BDAT %d LAST\r\n" % (len(text) - 9) + text[9:])
        code, reply = alice.getreply()
        assert code == want, reply
    assert len(server.wait_inbox(BOB, 2)) == 2
    server.wait_log("from=alice@example.test")


def test_what_else_is_owned(server, alice):
    w = server
    for address in ("team@example.test", "anything@example.test", VICTIM, "any@club.test"):
        assert send(alice, "From: %s\n\nHello.\n" % address)[0] == 550, address
    w.waypost("alias", "add", "team@example.test", ALICE)
    w.waypost("alias", "add", "@example.test", ALICE)
    w.waypost("account", "delegate", "add", ALICE, VICTIM)
    w.waypost("account", "delegate", "add", ALICE, "@CLUB.test")
    assert [r["address"] for r in w.rows("account", "delegate", "list", ALICE)] == ["@club.test", VICTIM]
    for address in ("team@example.test", "anything@example.test", VICTIM, "any@club.test"):
        assert send(alice, "From: %s\n\nHello.\n" % address, sender=address)[0] == 250, address
    assert send(alice, "From: bob@example.test\n\nHello.\n")[0] == 550, "the catch-all is behind the accounts"
    w.waypost("account", "delegate", "remove", ALICE, VICTIM)
    assert send(alice, "From: %s\n\nHello.\n" % VICTIM)[0] == 550
    assert w.waypost("account", "delegate", "add", ALICE, "nonsense", check=False).returncode == 2
    assert w.waypost("account", "delegate", "remove", ALICE, VICTIM, check=False).returncode == 3


def test_mail_from_elsewhere_is_not_asked(server):
    with server.smtp("mx") as s:
        s.sendmail("x@remote.test", [BOB], message("hello", sender=VICTIM))
    assert len(server.wait_inbox(BOB, 1)) == 1


def test_switched_off(instances):
    w = instances("a", check_from=False)
    with w.submit(ALICE) as s:
        assert send(s, "From: %s\n\nHello.\n" % VICTIM)[0] == 250
        with pytest.raises(smtplib.SMTPSenderRefused):
            s.sendmail(VICTIM, [BOB], b"x")
