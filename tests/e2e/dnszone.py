"""DNS for tests: zones served by a real unbound, unpacked (never installed) under WAYPOST_TEST_PEERS, on an ephemeral port of 127.0.0.1.

    dns = start_dns(tmp_path / "dns", ["far.test. MX 10 mx.far.test.", "mx.far.test. A 127.1.2.3"])
    ... "server 127.0.0.1@%d" % dns.port ...
    dns.stop()

A record is "NAME [TTL] TYPE DATA"; the TTL is 1 second when none is given, so that changed zones are seen. A name that is not there does
not exist (NXDOMAIN), one that has other types only has no data. set(records) serves other records from then on, and SERVFAIL for no name.
Names in `servfail` are answered SERVFAIL, they and all below them.
all_test_at(directory, address): every domain of .test has an MX that leads to that address.
"""
import os
import socket
import struct
import subprocess
import threading
import time

PEERS = os.environ.get("WAYPOST_TEST_PEERS", "")


def _full(record):
    words = record.split(None, 2)
    if len(words) != 3:
        raise ValueError("not NAME [TTL] TYPE DATA: " + record)
    if words[1].isdigit():
        return record
    return "%s 1 IN %s %s" % tuple(words)


def _free_port():
    """A port of 127.0.0.1 that is free for UDP and TCP."""
    while True:
        with socket.socket() as t, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
            t.bind(("127.0.0.1", 0))
            port = t.getsockname()[1]
            try:
                u.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class _Failing:
    """A server that answers SERVFAIL to everything."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            query, peer = self.sock.recvfrom(1500)
            self.sock.sendto(query[:2] + b"\x81\x82" + query[4:], peer)


class Dns:
    def __init__(self, directory, records, servfail, zones=('"test." nodefault',)):
        self.dir = str(directory)
        os.makedirs(self.dir, exist_ok=True)
        self.records, self.servfail, self.proc, self.port = list(records), list(servfail), None, 0
        self.zones = "".join("  local-zone: %s\n" % z for z in zones)
        self.failing = _Failing() if self.servfail else None
        self.log = self.dir + "/log"

    def _write(self):
        local = "".join("  local-data: '%s'\n" % _full(r) for r in self.records)
        refuse = "".join('forward-zone:\n  name: "%s"\n  forward-addr: 127.0.0.1@%d\n' % (n, self.failing.port) for n in self.servfail)
        transparent = "".join('  local-zone: "%s" always_transparent\n' % n for n in self.servfail)
        with open(self.dir + "/unbound.conf", "w") as f:
            f.write("server:\n  interface: 127.0.0.1@%d\n  access-control: 127.0.0.0/8 allow\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n"
                    "  directory: \"%s\"\n  pidfile: \"\"\n  use-syslog: no\n  logfile: \"\"\n  module-config: \"iterator\"\n  num-threads: 1\n"
                    "  do-not-query-localhost: no\n  do-ip6: no\n  so-rcvbuf: 0\n  so-sndbuf: 0\n  outgoing-range: 32\n  num-queries-per-thread: 16\n"
                    "  msg-cache-size: 64k\n  rrset-cache-size: 64k\n"
                    "%s  local-zone: \"localhost.\" nodefault\n  local-zone: \"127.in-addr.arpa.\" nodefault\n"
                    "  local-zone: \".\" static\n%s%sremote-control:\n  control-enable: no\n%s" % (self.port, self.dir, self.zones, transparent, local, refuse))

    def _alive(self):
        """Whether it answers a question over UDP."""
        query = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + b"\x04live\x05check\x00" + struct.pack(">HH", 1, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.2)
            try:
                s.sendto(query, ("127.0.0.1", self.port))
                return s.recv(512)[:2] == query[:2]
            except OSError:
                return False

    def start(self):
        program = PEERS + "/usr/sbin/unbound"
        if not PEERS or not os.path.exists(program):
            raise RuntimeError("no unbound under WAYPOST_TEST_PEERS=%r (contrib/install-packages --peers DIR)" % PEERS)
        env = dict(os.environ, LD_LIBRARY_PATH=PEERS + "/usr/lib/x86_64-linux-gnu")
        for _ in range(5):  # another process may take the port between our look and its bind
            self.port = self.port or _free_port()
            self._write()
            with open(self.log, "ab") as log:
                self.proc = subprocess.Popen([program, "-d", "-c", self.dir + "/unbound.conf"], stdout=log, stderr=log, env=env)
            end = time.monotonic() + 20
            while self.proc.poll() is None and time.monotonic() < end:
                if self._alive():
                    return self
                time.sleep(0.02)
            self.stop()
            self.port = 0
        raise RuntimeError("unbound did not start: " + open(self.log, errors="replace").read()[-2000:])

    def set(self, records):
        """Serves these records instead, on the same port."""
        self.records, self.servfail = list(records), []
        self.stop()
        self.start()

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(10)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        self.proc = None


def all_test_at(directory, address):
    return Dns(directory, ["test. MX 10 mx.of.all.", "mx.of.all. A " + address], (), ('"test." redirect',)).start()


def start_dns(directory, records, servfail=()):
    return Dns(directory, records, servfail).start()
