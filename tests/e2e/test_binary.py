"""BINARYMIME (RFC 3030): from the door as it is, to hosts that take it as it is, to others and into mailboxes in base64, or back."""
import email
import email.policy

import waypost as wp
from mtasink import Sink
from test_extensions import ALICE, FAST, PORT, notice, zone  # noqa: F401: zone is a fixture
from waypost import until

OCTETS = bytes(range(256)) * 40
FRONT = b"From: <alice@example.test>\r\nSubject: octets\r\nMessage-ID: <octets@example.test>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"


def binary(octets, kind=b"mixed"):
    return (FRONT + b"Content-Type: multipart/" + kind + b"; boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\ntext\r\n"
            b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n" + octets + b"\r\n--b--\r\n")


def give(c, sender, rcpt, content, chunk=30000):
    c.ehlo_or_helo_if_needed()
    assert c.has_extn("BINARYMIME")
    assert c.mail(sender, ["BODY=BINARYMIME"])[0] == 250
    assert c.rcpt(rcpt)[0] == 250
    for at in range(0, len(content), chunk):
        piece = content[at:at + chunk]
        c.send(b"BDAT %d%s\r\n" % (len(piece), b" LAST" if at + chunk >= len(content) else b"") + piece)
        assert c.getreply()[0] == 250


def octets_of(content):
    m = email.message_from_bytes(content, policy=email.policy.default)
    return [p.get_payload(decode=True) for p in m.walk() if p.get_content_type() == "application/octet-stream"]


def test_into_a_mailbox(server):
    """What IMAP and POP3 give is lines, and the octets are all there; small and spooled."""
    for n, octets in enumerate((OCTETS, OCTETS * 20)):
        with server.smtp() as c:
            give(c, "someone@remote.test", "bob@example.test", binary(octets))
        got = server.wait_inbox("bob@example.test", n + 1)[n]
        assert octets_of(got) == [octets] and b"\0" not in got and got.isascii()
        assert all(line.endswith(b"\r") for line in got.split(b"\n")[:-1])
    p = server.pop3("bob@example.test")
    assert octets_of(b"\r\n".join(p.retr(2)[1])) == [OCTETS * 20]
    p.quit()


def test_what_is_signed_is_not_changed(server):
    with server.submit(ALICE) as c:
        give(c, ALICE, "bob@example.test", binary(OCTETS, b"signed"))
    told, m, _ = notice(server)
    assert told["bob@example.test"]["Status"] == "5.6.3" and not server.inbox("bob@example.test")
    assert "\0" not in m.as_string()


def test_to_other_hosts(instances, zone):
    """RFC3030:3: as it is, by BDAT; in base64 by DATA; signed content back."""
    new, old = wp.fresh_address(), wp.fresh_address()
    extensions = ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "SIZE 10000000")
    with Sink(new, PORT, extensions=extensions + ("CHUNKING", "BINARYMIME")) as a, Sink(old, PORT, extensions=extensions) as b:
        w = instances("a", relay_port=PORT, dns=zone("new.test. A " + new, "old.test. A " + old), sections=FAST)
        for n, octets in enumerate((OCTETS, OCTETS * 20)):
            content = binary(octets)
            with w.submit(ALICE) as c:
                give(c, ALICE, "x@new.test", content)
            with w.submit(ALICE) as c:
                give(c, ALICE, "x@old.test", content)
            m = until(lambda: a.messages()[n:], lambda: w.logged()[-3000:])[0]
            assert m.data.endswith(content) and "BODY=BINARYMIME" in m.params
            m = until(lambda: b.messages()[n:], lambda: w.logged()[-3000:])[0]
            assert octets_of(m.data) == [octets] and m.raw.isascii() and "BODY=8BITMIME" in m.params
            assert int(m.params.split("SIZE=")[1].split()[0]) == len(m.data)
        with w.submit(ALICE) as c:
            give(c, ALICE, "x@old.test", binary(OCTETS, b"signed"))
        told, _, _ = notice(w)
        assert told["x@old.test"]["Status"] == "5.6.2"
        w.wait_queue_empty()
        assert not a.sessions[0].said("DATA") and len(b.messages()) == 2
