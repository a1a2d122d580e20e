"""Listeners behind a load balancer: the PROXY protocol before SMTP, IMAP and implicit TLS; and who may not send it."""
import re
import socket
import struct

import waypost as wp

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x21" + struct.pack("!H", 36 + 7) + socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + struct.pack("!HH", 40000, 25) + b"\x04\x00\x04abcd"
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"


def proxied(instances, **kw):
    """An instance whose listeners all take the header from their own loopback address."""
    w = instances("a", start=False, **kw)
    w.write_conf()
    with open(w.conf) as f:
        text = f.read()
    with open(w.conf, "w") as f:
        f.write(re.sub(r"(listen \w+ \{)", r"\1 proxy yes; proxy-from 127.0.0.0/8;", text))
    return w.start()


def connect(w, port, *parts):
    s = socket.create_connection((w.address, w.ports[port]), timeout=wp.PATIENCE)
    for p in parts:
        s.sendall(p)
    return s, s.makefile("rb", buffering=0)


def test_every_front_sees_the_client(instances):
    w = proxied(instances)
    for header, client in ((V1, "192.0.2.7"), (V2, "2001:db8::7"), (LOCAL, "127"), (b"PROXY UNKNOWN\r\n", "127")):
        s, f = connect(w, "mx", header)
        assert f.readline().startswith(b"220 ")
        s.sendall(b"EHLO c.test\r\nMAIL FROM:<c@remote.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
        while not (line := f.readline()).startswith(b"354"):
            assert line.startswith(b"250"), line
        s.sendall(b"Subject: proxied\r\n\r\n.\r\nQUIT\r\n")
        assert f.readline().startswith(b"250 2.0.0 ")
        w.wait_log("accepted .*client=" + client + r"[0-9.]* ")
    # TLS from the first byte behind the header: the login's log line names the client
    for port, words in (("imaps", b"a LOGIN alice@example.test wonder-1\r\n"), ("pop3s", b"USER alice@example.test\r\nPASS wonder-1\r\n")):
        s, _ = connect(w, port, V2)
        t = w.tls().wrap_socket(s, server_hostname=w.address)
        f = t.makefile("rb", buffering=0)
        assert re.match(rb"\* OK|\+OK", f.readline())
        t.sendall(words)
        w.wait_log("login user=alice@example.test remote=2001:db8::7 protocol=%s " % port[:4])
        t.close()
    s, _ = connect(w, "submissions", V1)
    t = w.tls().wrap_socket(s, server_hostname=w.address)
    assert t.recv(100).startswith(b"220 ")
    t.close()
    s, f = connect(w, "imap", V1)
    assert f.readline().startswith(b"* OK")
    s.close()


def test_headers_in_pieces_and_with_words_behind(instances):
    w = proxied(instances)
    s, f = connect(w, "mx")
    for i in range(len(V2)):
        s.sendall(V2[i:i + 1])
    assert f.readline().startswith(b"220 ")
    s.close()
    # on submission the client may speak at once; not one byte of it is lost to the header
    for header in (V1, V2):
        s, f = connect(w, "submission", header + b"EHLO c.test\r\nQUIT\r\n")
        assert f.readline().startswith(b"220 ")
        while not (line := f.readline()).startswith(b"221"):
            assert line.startswith(b"250"), line


def test_bad_headers_and_strangers_are_closed(instances):
    w = proxied(instances)

    def closed(*parts):
        s, f = connect(w, "mx", *parts)
        try:
            assert f.read(100) == b""
        except ConnectionResetError:
            pass

    for bad in (b"EHLO c.test\r\n", V1.replace(b"TCP4", b"UDP4"), V2[:13] + b"\x22" + V2[14:], V2[:14] + b"\xff\xff", b"PROXY UNKNOWN " + b"x" * 120):
        closed(bad)
    w.wait_log("proxy-refused proxy=127[0-9.]+ why=\"what it sends begins with no PROXY header", count=5)
    s, f = connect(w, "mx", V1[:20])
    s.shutdown(socket.SHUT_WR)
    assert f.read(100) == b""
    w.wait_log("its header was whole")
    with open(w.conf) as f:
        text = f.read()
    with open(w.conf, "w") as f:
        f.write(text.replace("proxy-from 127.0.0.0/8", "proxy-from 192.0.2.0/24"))
    w.waypost("reload")
    closed()
    w.wait_log("it is not in proxy-from")


def test_the_limits_count_the_client_not_the_balancer(instances):
    w = proxied(instances, sections={"smtp": "max-connections-per-client 1;"})
    s, f = connect(w, "mx", V1)
    assert f.readline().startswith(b"220 ")
    s2, f2 = connect(w, "mx", V1)
    assert f2.readline().startswith(b"421 4.7.0 ")
    s3, f3 = connect(w, "mx", V2)
    assert f3.readline().startswith(b"220 ")
    for x in (s, s2, s3):
        x.close()


def test_the_configuration_names_the_balancers(instances):
    w = instances("a", start=False)
    w.write_conf()
    with open(w.conf) as f:
        text = f.read()
    for extra, why in (("proxy yes;", "proxy without proxy-from"), ("proxy-from 192.0.2.0/24;", "proxy-from without"), ("proxy yes; proxy-from 192.0.2.0/33;", "192.0.2.0/33")):
        with open(w.conf, "w") as f:
            f.write(text.replace("listen mx {", "listen mx { " + extra))
        r = w.waypost("check", check=False)
        assert r.returncode != 0 and why in r.stdout + r.stderr, r
