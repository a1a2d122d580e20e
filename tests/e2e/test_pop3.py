"""POP3 over the whole chain with Python's poplib. RFC1939, RFC2449, RFC2595."""
import poplib

import pytest

from waypost import message

BOB = "bob@example.test"


def fill(w, n):
    with w.smtp() as s:
        for i in range(n):
            s.sendmail("c@remote.test", [BOB], message("m%d" % i, "line 1\r\n.dot\r\nline 3\r\n"))
    w.wait_inbox(BOB, n)


def test_the_whole_of_rfc1939(server):
    fill(server, 3)
    p = server.pop3(BOB)
    n, size = p.stat()
    assert n == 3
    listing = [l.split() for l in p.list()[1]]
    assert [int(a) for a, _ in listing] == [1, 2, 3] and sum(int(b) for _, b in listing) == size
    uids = [l.split()[1] for l in p.uidl()[1]]
    assert len(set(uids)) == 3 and all(1 <= len(u) <= 70 for u in uids)
    assert p.retr(2)[1][-2:] == [b".dot", b"line 3"]
    assert len(b"\r\n".join(p.retr(2)[1])) + 2 == int(listing[1][1])
    top = p.top(1, 1)[1]
    assert top[-1] == b"line 1" and b"" in top
    p.dele(1)
    with pytest.raises(poplib.error_proto):
        p.retr(1)
    assert p.stat()[0] == 2
    p.rset()
    assert p.stat()[0] == 3
    p.dele(1)
    p.noop()
    p.quit()
    p = server.pop3(BOB)
    assert p.stat()[0] == 2
    assert [l.split()[1] for l in p.uidl()[1]] == uids[1:]
    p.dele(1)
    p.close()  # no QUIT: nothing is deleted
    p = server.pop3(BOB)
    assert p.stat()[0] == 2
    p.quit()


def test_stls_and_capabilities(server):
    p = poplib.POP3(server.address, server.ports["pop3"], timeout=60)
    caps = p.capa()
    assert "STLS" in caps and "USER" not in caps
    with pytest.raises(poplib.error_proto):
        p.user(BOB)
    p.stls(server.tls())
    caps = p.capa()
    assert "STLS" not in caps and "USER" in caps and "PLAIN" in caps["SASL"] and {"UIDL", "TOP", "PIPELINING", "RESP-CODES"} <= set(caps)
    p.user(BOB)
    with pytest.raises(poplib.error_proto) as e:
        p.pass_("wrong")
    assert b"[AUTH]" in e.value.args[0]
    p.close()


def test_nothing_sent_before_stls_is_executed(server):
    """HAZARDS 3"""
    p = poplib.POP3(server.address, server.ports["pop3"], timeout=60)
    p.sock.sendall(b"STLS\r\nCAPA\r\n")
    assert p.file.readline().startswith(b"+OK")
    t = server.tls().wrap_socket(p.sock, server_hostname=server.address)
    t.sendall(b"QUIT\r\n")
    reply = t.recv(1000)
    assert reply.startswith(b"+OK") and b"USER" not in reply, "the injected CAPA is gone: %r" % reply
    t.close()


def test_sasl_plain(server):
    import base64
    p = server.pop3()
    assert p._shortcmd("AUTH PLAIN " + base64.b64encode(("\0%s\0%s" % (BOB, server.accounts[BOB])).encode()).decode()).startswith(b"+OK")
    p.stat()
    p.quit()
