"""Private keys are keyd's: no front holds one, both kinds of key serve every protocol, and neither the death of keyd nor a renewal is noticed
by sessions that are up."""
import os
import signal
import socket
import ssl
import subprocess

import pytest

import waypost as wp
from waypost import message, until

FRONTS = ("smtpd-mx", "smtpd-submission", "imapd", "pop3d")
IMPLICIT = ("submissions", "imaps", "pop3s")


def pids(w, *names):
    return [r["pid"] for r in w.rows("status") if r["service"] in names]


def shake(w, port, version=None):
    """One handshake; the certificate that was shown."""
    ctx = w.tls()
    if version:
        ctx.minimum_version = ctx.maximum_version = version
    raw = socket.create_connection((w.address, w.ports[port]), timeout=wp.PATIENCE)
    with ctx.wrap_socket(raw, server_hostname=w.hostname) as s:
        return s.getpeercert(binary_form=True)


def rsa_certificate(w):
    """server.pem and server.key with RSA, of the instance's authority."""
    run = lambda args: subprocess.run(["openssl"] + args.split(), cwd=w.ca.dir, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(w.ca.dir + "/rsa.ext", "w") as f:
        f.write("subjectAltName=DNS:%s,DNS:%s,IP:%s\n" % (w.hostname, w.address, w.address))
    run("req -newkey rsa:2048 -nodes -subj /CN=%s -keyout rsa.key -out rsa.csr" % w.hostname)
    run("x509 -req -in rsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile rsa.ext -out rsa.pem")
    os.replace(w.ca.dir + "/rsa.pem", w.dir + "/server.pem")
    os.replace(w.ca.dir + "/rsa.key", w.dir + "/server.key")


def everything_is_served(w):
    for port in IMPLICIT:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            shake(w, port, version)
    with w.smtp() as s:
        s.starttls(context=w.tls())
        s.ehlo("c.test")
        s.sendmail("c@remote.test", ["bob@example.test"], message("over TLS"))
    w.wait_inbox("bob@example.test", 1)


def test_ecdsa_serves_every_protocol(server):
    everything_is_served(server)


def test_rsa_serves_every_protocol_after_a_reload(server):
    before = shake(server, "imaps")
    c = server.imap("bob@example.test", mailbox="INBOX")
    rsa_certificate(server)
    server.waypost("reload")
    for port in IMPLICIT:
        until(lambda: shake(server, port) != before, "the new certificate on " + port)
    assert c.noop()[0] == "OK", "sessions go on"
    c.logout()
    everything_is_served(server)
    threads = len(os.listdir("/proc/%d/task" % pids(server, "keyd")[0]))
    assert threads == 1 + max(1, os.cpu_count() // 2), "signatures are made on half of the processors"
    assert all(r["restarts"] == 0 for r in server.rows("status"))


@pytest.mark.skipif(not wp.AS_ROOT, reason="as root only: keyd can't be looked into by others")
def test_the_key_is_open_in_keyd_alone(server):
    key = os.stat(server.dir + "/server.key")
    def holders(names):
        found = set()
        for pid in pids(server, *names):
            for fd in os.listdir("/proc/%d/fd" % pid):
                st = os.stat("/proc/%d/fd/%s" % (pid, fd))
                if (st.st_dev, st.st_ino) == (key.st_dev, key.st_ino):
                    found.add(pid)
        return found
    assert holders(("keyd",)) == set(pids(server, "keyd"))
    assert not holders(FRONTS)


@pytest.mark.skipif(not wp.AS_ROOT, reason="as root only: another's memory is read")
def test_no_front_has_the_key_in_its_memory(server):
    """The secret number of the key, as OpenSSL prints it, in no writable mapping of a front; it is found in keyd, so the search works."""
    everything_is_served(server)
    text = subprocess.run(["openssl", "ec", "-in", server.dir + "/server.key", "-text", "-noout"], capture_output=True, text=True, check=True).stdout
    secret = bytes.fromhex("".join(text.split("priv:")[1].split("pub:")[0].split()).replace(":", "")).lstrip(b"\0")
    forms = (secret, secret[::-1])
    def has(pid):
        with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as mem:
            for line in maps:
                span, mode = line.split()[:2]
                start, end = (int(x, 16) for x in span.split("-"))
                if "w" not in mode or end - start > 1 << 28:
                    continue
                try:
                    mem.seek(start)
                    held = mem.read(end - start)
                except (OSError, ValueError):
                    continue
                if any(f in held for f in forms):
                    return True
        return False
    assert has(pids(server, "keyd")[0])
    assert not [pid for pid in pids(server, *FRONTS) if has(pid)]


def test_handshakes_wait_for_a_keyd_that_died(server):
    c = server.imap("bob@example.test", mailbox="INBOX")
    for _ in range(3):
        old = pids(server, "keyd")[0]
        os.kill(old, signal.SIGKILL)
        for port in IMPLICIT:
            shake(server, port)
        assert c.noop()[0] == "OK", "sessions that are up need no keyd"
        until(lambda: pids(server, "keyd")[0] not in (0, old), "keyd anew")
    c.logout()
    assert all(r["restarts"] == 0 for r in server.rows("status") if r["service"] != "keyd")


def test_a_stopped_keyd_holds_up_handshakes_and_nothing_else(server):
    c = server.imap("bob@example.test", mailbox="INBOX")
    pid = pids(server, "keyd")[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        raw = socket.create_connection((server.address, server.ports["imaps"]), timeout=wp.PATIENCE)
        ctx = server.tls()
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        half = ctx.wrap_bio(into, out, server_hostname=server.hostname)
        with pytest.raises(ssl.SSLWantReadError):
            half.do_handshake()
        raw.sendall(out.read())
        assert c.noop()[0] == "OK"
        with server.smtp() as s:
            s.sendmail("c@remote.test", ["bob@example.test"], message("in clear"))
    finally:
        os.kill(pid, signal.SIGCONT)
    raw.settimeout(wp.PATIENCE)
    while True:
        into.write(raw.recv(65536))
        try:
            half.do_handshake()
            break
        except ssl.SSLWantReadError:
            pass
    raw.close()
    c.logout()


def test_a_key_of_another_certificate_is_refused(server):
    before = shake(server, "imaps")
    other, _ = wp.Authority(server.dir + "/other").issue("x", [server.hostname])
    chain = server.dir + "/server.pem"
    kept = open(chain).read()
    with open(other) as f, open(chain, "w") as g:
        g.write(f.read())
    r = server.waypost("reload", check=False)
    assert r.returncode != 0 and "keyd: listen" in r.stdout + r.stderr and "the private key is not the one of the certificate" in r.stdout + r.stderr
    assert shake(server, "imaps") == before
    with open(chain, "w") as f:
        f.write(kept)
