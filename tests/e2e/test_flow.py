"""The main job: mail in from outside, submitted, delivered, read back; over every door, with Python's own clients."""
import smtplib
import threading

import pytest

from waypost import message, until


def test_mail_from_outside_is_read_back_over_imap_and_pop3(server):
    with server.smtp() as s:
        s.sendmail("carol@remote.test", ["bob@example.test"], message("from outside", "Line one.\r\n.leading dot\r\n"))
    raw = server.wait_inbox("bob@example.test", 1)[0]
    assert b"Subject: from outside\r\n" in raw
    assert raw.endswith(b"\r\n\r\nLine one.\r\n.leading dot\r\n")
    head = raw.split(b"\r\n\r\n", 1)[0]
    assert head.startswith(b"Return-Path: <carol@remote.test>\r\n")
    assert b"\r\nDelivered-To: bob@example.test\r\n" in head
    assert b"\r\nReceived: from client.test " in head and b"by " + server.hostname.encode() in head
    p = server.pop3("bob@example.test")
    assert p.stat()[0] == 1
    assert b"\r\n".join(p.retr(1)[1]) + b"\r\n" == raw
    p.quit()


@pytest.mark.parametrize("port", ["submission", "submissions"])
def test_submission_to_a_colleague(server, port):
    with server.submit("alice@example.test", port) as s:
        s.sendmail("alice@example.test", ["bob@example.test"], message("hi bob", sender="alice@example.test"))
    raw = server.wait_inbox("bob@example.test", 1)[0]
    assert b"Subject: hi bob" in raw and b"Return-Path: <alice@example.test>" in raw
    assert b" with ESMTPSA" in raw


def test_the_reply_names_the_queue_id_and_the_log_follows_it(server):
    with server.smtp() as s:
        s.ehlo()
        s.mail("carol@remote.test")
        s.rcpt("bob@example.test")
        code, text = s.data(message("traced"))
    assert code == 250 and text.startswith(b"2.0.0 ")
    qid = text.decode().split()[-1]
    server.wait_log(r"delivered .*qid=%s\b" % qid)
    server.wait_log(r" (accepted|queued) .*qid=%s\b" % qid)


def test_several_recipients_get_one_copy_each(server):
    with server.smtp() as s:
        s.sendmail("carol@remote.test", ["bob@example.test", "ALICE@Example.TEST", "bob+lists@example.test"], message("to several"))
    assert len(server.wait_inbox("alice@example.test", 1)) == 1
    assert len(server.wait_inbox("bob@example.test", 2)) == 2


def test_unknown_recipients_and_foreign_domains_are_refused_at_rcpt(server):
    with server.smtp() as s:
        s.ehlo()
        s.mail("carol@remote.test")
        code, text = s.rcpt("nobody@example.test")
        assert code == 550 and text.startswith(b"5.1.1 "), text
        code, text = s.rcpt("dave@elsewhere.test")
        assert code in (550, 554) and text.startswith(b"5.7.1 "), text
        for sneaky in ("dave%elsewhere.test@example.test", '"dave@elsewhere.test"@example.test', "@example.test:dave@elsewhere.test", "elsewhere.test!dave@example.test"):
            code, text = s.rcpt("<%s>" % sneaky)
            assert code >= 500, (sneaky, text)
        assert s.rcpt("bob@example.test")[0] == 250


def test_postmaster_is_always_there(server):
    with server.smtp() as s:
        s.ehlo()
        s.mail("carol@remote.test")
        for who in ("postmaster@example.test", "PostMaster@example.test", "abuse@example.test", "postmaster"):
            code, text = s.rcpt("<%s>" % who)
            assert code == 250, (who, text)


def test_submission_needs_authentication_and_ones_own_address(server):
    with server.smtp("submission") as s:
        s.ehlo()
        assert "auth" not in s.esmtp_features, "no AUTH before TLS"
        code, text = s.docmd("MAIL FROM:<alice@example.test>")
        assert code == 530, text
        s.starttls(context=server.tls())
        s.ehlo()
        assert set(s.esmtp_features["auth"].split()) >= {"PLAIN", "LOGIN"}
        assert "starttls" not in s.esmtp_features
        with pytest.raises(smtplib.SMTPAuthenticationError) as e:
            s.login("alice@example.test", "wrong")
        assert e.value.smtp_code == 535 and e.value.smtp_error.startswith(b"5.7.8")
        s.login("alice@example.test", server.accounts["alice@example.test"])
        code, text = s.mail("bob@example.test")
        assert code == 550 and text.startswith(b"5.7.1"), text
        assert s.mail("alice@example.test")[0] == 250


def test_large_messages_travel_through_the_spool(server):
    body = "".join("%07d %s\r\n" % (i, "x" * 60) for i in range(60000))  # about 4 MB
    with server.submit("alice@example.test") as s:
        s.sendmail("alice@example.test", ["bob@example.test"], message("large", body, sender="alice@example.test"))
    raw = server.wait_inbox("bob@example.test", 1)[0]
    assert raw.endswith(body.encode())
    server.wait_queue_empty()


def test_the_size_limit_is_announced_and_kept(instances):
    w = instances("a", sections={"smtp": "max-message-size 100K;"})
    with w.smtp() as s:
        s.ehlo()
        assert s.esmtp_features["size"] == str(100 * 1024)
        code, text = s.docmd("MAIL FROM:<c@remote.test> SIZE=200000")
        assert code == 552 and text.startswith(b"5.3.4"), text
        s.mail("c@remote.test")
        s.rcpt("bob@example.test")
        code, text = s.data(message("too big", "y" * 70 + "\r\n" + ("z" * 70 + "\r\n") * 3000))
        assert code == 552 and text.startswith(b"5.3.4"), text
        assert s.noop()[0] == 250, "the session goes on"


def test_an_idling_client_hears_of_new_mail(server):
    c = server.imap("bob@example.test", mailbox="INBOX")
    c.send(b"x1 IDLE\r\n")
    assert c.readline().startswith(b"+ ")
    with server.smtp() as s:
        s.sendmail("carol@remote.test", ["bob@example.test"], message("wake up"))
    assert c.readline() == b"* 1 EXISTS\r\n"
    c.send(b"DONE\r\n")
    while not (line := c.readline()).startswith(b"x1 "):
        assert line.startswith(b"* "), line
    assert line.startswith(b"x1 OK"), line
    c.shutdown()


def test_many_senders_at_once_lose_nothing(server):
    per, workers = 25, 8

    def send(k):
        with server.smtp() as s:
            for i in range(per):
                s.sendmail("carol@remote.test", ["bob@example.test" if i % 2 else "alice@example.test"], message("w%d-%d" % (k, i)))

    threads = [threading.Thread(target=send, args=(k,)) for k in range(workers)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    got = until(lambda: (lambda m: m if len(m) >= per * workers else None)(server.inbox("bob@example.test") + server.inbox("alice@example.test")), "all messages", pause=0.2)
    subjects = [next(l for l in m.split(b"\r\n") if l.startswith(b"Subject: ")) for m in got]
    assert len(subjects) == len(set(subjects)) == per * workers


def test_mail_survives_a_restart(server):
    with server.smtp() as s:
        s.sendmail("carol@remote.test", ["bob@example.test"], message("before"))
    server.wait_inbox("bob@example.test", 1)
    assert server.stop() == 0
    server.start()
    assert len(server.inbox("bob@example.test")) == 1
    with server.smtp() as s:
        s.sendmail("carol@remote.test", ["bob@example.test"], message("after"))
    server.wait_inbox("bob@example.test", 2)


def test_aliases_and_catch_all(instances):
    w = instances("a")
    w.waypost("alias", "add", "team@example.test", "alice@example.test", "bob@example.test")
    w.waypost("alias", "add", "@example.test", "bob@example.test")
    with w.smtp() as s:
        s.sendmail("carol@remote.test", ["team@example.test"], message("to the team"))
        s.sendmail("carol@remote.test", ["whoever@example.test"], message("caught"))
    w.wait_inbox("alice@example.test", 1)
    assert len(w.wait_inbox("bob@example.test", 2)) == 2
