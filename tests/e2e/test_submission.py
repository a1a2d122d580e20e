"""What a submission server does for its users' messages, and what it refuses. RFC6409:5, RFC6409:6.3, RFC6409:8."""
import email
import re

import pytest

ALICE, BOB = "alice@example.test", "bob@example.test"
HEADER = "From: alice@example.test\nSubject: x\n"


@pytest.fixture
def server(instances):
    return instances("a", check_from=True)


def send(s, text, options=(), sender=ALICE, to=BOB):
    assert s.mail(sender, options)[0] == 250
    assert s.rcpt(to)[0] == 250
    code, reply = s.data(text.replace("\n", "\r\n").encode() if isinstance(text, str) else text)
    return code, reply.decode()


def test_what_is_missing_is_added(server):
    """RFC6409:8.1, RFC6409:8.2, RFC6409:8.3."""
    server.waypost("account", "delegate", "add", ALICE, "team@example.test")
    with server.submit(ALICE) as s:
        assert send(s, HEADER + "\nbare\n")[0] == 250
        assert send(s, HEADER + "Date: Mon, 23 Nov 2026 10:00:00 +0000\nMessage-ID: <1@example.test>\n\nfull\n")[0] == 250
        assert send(s, HEADER + "Date: yesterday\nMessage-ID:\n\nwrong\n")[0] == 250
        assert send(s, "From: alice@example.test, team@example.test\n\ntwo\n")[0] == 250
        assert send(s, "From: alice@example.test, team@example.test\nSender: team@example.test\n\nsent\n")[0] == 250
        assert send(s, HEADER + "BCC: secret@example.test,\n other@example.test\nResent-Bcc: third@example.test\nReturn-Path: <fourth@example.test>\nX-Last: y\n\nblind\n")[0] == 250
    by = {m.get_payload().strip(): m for m in map(email.message_from_bytes, server.wait_inbox(BOB, 6))}
    for word in ("bare", "wrong"):
        date, = by[word].get_all("Date")
        ident, = by[word].get_all("Message-ID")
        assert re.fullmatch(r"\w{3}, \d+ \w{3} \d{4} \d\d:\d\d:\d\d [-+]\d{4}", date), word
        assert re.fullmatch(r"<[0-9a-f]{32}@mail\.example\.test>", ident), word
    assert by["full"].get_all("Date") == ["Mon, 23 Nov 2026 10:00:00 +0000"] and by["full"].get_all("Message-ID") == ["<1@example.test>"]
    assert by["two"].get_all("Sender") == ["<alice@example.test>"] and by["sent"].get_all("Sender") == ["team@example.test"]
    assert by["bare"]["Sender"] is None
    assert by["blind"]["X-Last"] == "y" and "third" not in str(by["blind"]) and "other@" not in str(by["blind"]) and "secret" not in str(by["blind"])
    assert by["blind"].get_all("Return-Path") == ["<%s>" % ALICE]


def test_what_can_not_be_mended_is_refused(server):
    """RFC6409:6.3: 554 and what is wrong."""
    with server.submit(ALICE) as s:
        for text, want in (("Subject: x\n\nHello.\n", "5.6.0 The message has no From field"),
                           (HEADER + "Date: 1 Jan 2026 00:00 +0000\nDate: 2 Jan 2026 00:00 +0000\n\nHello.\n", "5.6.0 The message has more than one Date field"),
                           (HEADER + "Subject: y\n\nHello.\n", "5.6.0 The message has more than one Subject field"),
                           (HEADER + "no field\n\nHello.\n", "5.6.0 The header has a line that is no field"),
                           (HEADER + "To: \u00e9@example.test\n\nHello.\n", "5.6.7 The header has characters beyond ASCII"),
                           ("Hello.\n", "5.6.0 The message has no From field"),
                           (b"From: alice@example.test\nX: y\r\n", "5.6.0 The message holds a CR or LF alone")):
            code, reply = send(s, text)
            assert code == 554 and reply.startswith(want), (text, reply)
        s.ehlo()
        code, reply = send(s, (HEADER + "To: \u00e9@example.test\n\nHello.\n"), ["SMTPUTF8"])
        assert code == 250, reply
        latin = HEADER.replace("\n", "\r\n").encode() + b"X: \xe9\r\n\r\nHello.\r\n"
        assert send(s, latin, ["SMTPUTF8"]) == (554, "5.6.7 The header is not UTF-8")
        # RFC6409:5.1, RFC6409:8: a name without a domain is nobody's, and none is guessed
        assert s.mail("alice")[0] in (501, 553)
        assert s.mail(ALICE)[0] == 250
        assert s.rcpt("bob")[0] in (501, 553)


def test_the_client_is_hidden_where_asked(instances):
    w = instances("a", check_from=True, top="")
    with w.submit(ALICE) as s:
        assert send(s, HEADER + "\nshown\n")[0] == 250
    conf = open(w.conf).read()
    with open(w.conf, "w") as f:
        f.write(conf.replace("protocol submission;", "protocol submission; hide-client yes;"))
    w.waypost("reload")
    with w.submit(ALICE, "submissions") as s:
        assert send(s, HEADER + "\nhidden\n")[0] == 250
    by = {m.get_payload().strip(): m for m in map(email.message_from_bytes, w.wait_inbox(BOB, 2))}
    assert "[127." in by["shown"]["Received"] and "client.test" in by["shown"]["Received"]
    assert re.match(r"from unknown\s+by mail\.example\.test with ESMTPSA ", by["hidden"]["Received"]), by["hidden"]["Received"]
    assert "127." not in str(by["hidden"]) and "client.test" not in str(by["hidden"])
