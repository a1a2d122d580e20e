"""IPv6: every door on ::1, relaying by AAAA, the addresses that are listened on by default, and a machine that has no IPv6."""
import re
import smtplib
import subprocess
import sys

import pytest

import dnszone
import waypost as wp
from mtasink import Sink
from waypost import message, until

ALICE, BOB = "alice@example.test", "bob@example.test"

# The program that stands behind it, in a network of its own, with nothing but a loopback interface.
ALONE = ["unshare", "-n", sys.executable, "-c", """
import fcntl, os, socket, struct, sys
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 0x41))  # SIOCSIFFLAGS: UP, RUNNING
os.execv(sys.argv[1], sys.argv[1:])
"""]

# The program that stands behind it, by a kernel that knows no IPv6.
WITHOUT_IPV6 = [sys.executable, "-c", """
import ctypes, errno, os, socket, sys
class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]
lib = ctypes.CDLL("libseccomp.so.2")
lib.seccomp_init.restype = ctypes.c_void_p
filter = ctypes.c_void_p(lib.seccomp_init(0x7fff0000))
SCMP_CMP_EQ = 4
assert lib.seccomp_rule_add_array(filter, 0x00050000 | errno.EAFNOSUPPORT, lib.seccomp_syscall_resolve_name(b"socket"), 1,
                                  ctypes.byref(Compare(0, SCMP_CMP_EQ, socket.AF_INET6, 0))) == 0
assert lib.seccomp_load(filter) == 0
try:
    socket.socket(socket.AF_INET6)
except OSError:
    os.execv(sys.argv[1], sys.argv[1:])
"""]


@pytest.fixture
def zone(tmp_path):
    """zone(records) → "ADDRESS@PORT" of a DNS server."""
    servers = []

    def make(*records):
        servers.append(dnszone.start_dns(tmp_path / "dns", list(records)))
        return "127.0.0.1@%d" % servers[0].port

    yield make
    for s in servers:
        s.stop()


def test_every_door_and_the_way_out(instances, zone):
    with Sink("::1", wp.free_port("::1")) as sink:
        w = instances("a", address="::1", relay_port=sink.port, dns=zone("far.test. MX 10 mx.far.test.", "mx.far.test. AAAA ::1"))
        with w.smtp() as s:
            s.sendmail("c@remote.test", [BOB], message("by six"))
        for port in ("submission", "submissions"):
            with w.submit(ALICE, port) as s:
                s.sendmail(ALICE, ["x@far.test"], message("out", sender=ALICE))
        for port in ("imap", "imaps"):
            c = w.imap(BOB, port)
            until(lambda: c.select("INBOX")[1] == [b"1"], "the message", pause=0.1)
            raw = c.fetch("1", "(BODY[])")[1][0][1]
            assert re.search(rb"Received: from client\.test \(\S*\[?IPv6:::1\]?\)", raw), raw
            c.logout()
        for port in ("pop3", "pop3s"):
            c = w.pop3(BOB, port)
            assert c.stat()[0] == 1
            c.quit()
        until(lambda: len(sink.messages()) == 2, "both, by AAAA")
        assert sink.sessions[0].peer[0] == "::1"
        w.wait_log(r" relayed .*mx\.far\.test\[(IPv6:)?::1\]")


def test_a_host_with_both_kinds_of_address(instances, zone):
    """The one of IPv6 does not answer; the other one does."""
    good = wp.fresh_address()
    with Sink(good, wp.free_port("::1")) as sink:
        w = instances("a", relay_port=sink.port, dns=zone("far.test. MX 10 mx.far.test.", "mx.far.test. AAAA ::1", "mx.far.test. A " + good))
        with w.submit(ALICE) as s:
            s.sendmail(ALICE, ["x@far.test"], message("out", sender=ALICE))
        until(sink.messages, "the message")
        w.wait_queue_empty()


@pytest.mark.skipif(not wp.AS_ROOT, reason="as root only: a network of its own")
def test_the_addresses_of_a_listener_that_names_none(instances):
    w = instances("a", start=False, wrap=ALONE)
    w.write_conf()
    with open(w.conf) as f:
        text = f.read()
    with open(w.conf, "w") as f:
        f.write(text.replace("address %s; " % w.address, ""))
    w.start()
    for address in ("127.0.0.1", "::1"):
        r = subprocess.run(["nsenter", "-n", "-t", str(w.proc.pid), sys.executable, "-c", """
import smtplib, sys
with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), "client.test", timeout=60) as s:
    print(s.ehlo()[0])
""", address, str(w.ports["mx"])], text=True, capture_output=True)
        assert r.stdout == "250\n", address + r.stderr


def test_a_machine_without_ipv6(instances, zone):
    """Listeners on addresses of both kinds serve those that are there, and say which are not; AAAA records are passed over."""
    good = wp.fresh_address()
    with Sink(good) as sink:
        w = instances("a", start=False, wrap=WITHOUT_IPV6, relay_port=sink.port,
                      dns=zone("far.test. MX 10 mx.far.test.", "mx.far.test. AAAA ::1", "mx.far.test. A " + good))
        w.write_conf()
        with open(w.conf) as f:
            text = f.read()
        with open(w.conf, "w") as f:
            f.write(text.replace("address %s; " % w.address, "address %s ::1; " % w.address))
        w.start()
        assert len(w.wait_log(r" no-ipv6 listen=\w+ address=::1 ")) == len(w.LISTENERS)
        with w.submit(ALICE) as s:
            s.sendmail(ALICE, ["x@far.test", BOB], message("out", sender=ALICE))
        until(sink.messages, "the message")
        w.wait_inbox(BOB, 1)
        with pytest.raises(OSError):
            smtplib.SMTP("::1", w.ports["mx"], timeout=wp.PATIENCE)
        w.waypost("reload")
        with w.smtp() as s:
            assert s.ehlo()[0] == 250
