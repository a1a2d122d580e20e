"""A signed DNS (RFC 4033 to 4035) for tests: one zone, the root, with a key of its own (ECDSA P-256), served by the unbound of dnszone.py.

    dns = start_signed_dns(tmp_path / "dns", ["far.test. MX 10 mx.other.test.", ...], forged=["far.test. MX"])
    ... dns { server 127.0.0.1@PORT; trust-anchor dns.anchor; } ...

Records are written as for dnszone.start_dns(). The sets named in `forged` ("NAME TYPE") have signatures that are not good.
"""
import base64
import hashlib
import ipaddress
import os
import struct
import subprocess
import time

from dnszone import Dns

TYPES = {"A": 1, "NS": 2, "SOA": 6, "MX": 15, "AAAA": 28, "RRSIG": 46, "NSEC": 47, "DNSKEY": 48}
TTL = 60


def wire_name(name):
    return b"".join(bytes([len(l)]) + l.lower().encode() for l in name.strip(".").split(".") if l) + b"\0"


def wire_data(kind, data):
    words = data.split()
    if kind in ("A", "AAAA"):
        return ipaddress.ip_address(data).packed
    if kind == "NS":
        return wire_name(data)
    if kind == "MX":
        return struct.pack(">H", int(words[0])) + wire_name(words[1])
    if kind == "SOA":
        return wire_name(words[0]) + wire_name(words[1]) + struct.pack(">5I", *map(int, words[2:]))
    if kind == "DNSKEY":
        return struct.pack(">HBB", *map(int, words[:3])) + base64.b64decode(words[3])
    assert kind == "NSEC"
    bits = bytearray(8)  # RFC4034:4.1.2: window 0, types below 64
    for t in words[1:]:
        bits[TYPES[t] // 8] |= 0x80 >> TYPES[t] % 8
    bits = bytes(bits).rstrip(b"\0")
    return wire_name(words[0]) + bytes([0, len(bits)]) + bits


class Key:
    """The zone's only key: made and used by the openssl command."""

    def __init__(self, directory):
        self.file = directory + "/zone.key"
        self._run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.file)
        public = self._run("pkey", "-in", self.file, "-pubout", "-outform", "DER")[-64:]
        self.record = "257 3 13 " + base64.b64encode(public).decode()
        words = struct.unpack(">%dH" % 34, wire_data("DNSKEY", self.record))  # RFC4034:B
        self.tag = (sum(words) + (sum(words) >> 16)) & 0xffff

    @staticmethod
    def _run(*args, data=None):
        return subprocess.run(["openssl", *args], input=data, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout

    def sign(self, data):
        """RFC6605:4: r and s, 32 octets each; openssl gives them as DER."""
        der, at, out = self._run("dgst", "-sha256", "-sign", self.file, data=data), 2, b""
        for _ in range(2):
            n = der[at + 1]
            out += int.from_bytes(der[at + 2:at + 2 + n], "big").to_bytes(32, "big")
            at += 2 + n
        return out


def sorted_names(names):
    """RFC4034:6.1"""
    return sorted(names, key=lambda n: [l.encode() for l in reversed(n.strip(".").split("."))] if n != "." else [])


def sign_zone(directory, records, forged):
    """The zone's text, and the record that is its trust anchor."""
    key, sets = Key(directory), {(".", "SOA"): ["ns.dns.test. host.dns.test. 1 3600 600 86400 60"], (".", "NS"): ["ns.dns.test."],
                                 ("ns.dns.test.", "A"): ["127.0.0.1"]}
    sets[(".", "DNSKEY")] = [key.record]
    for r in records:
        name, kind, data = r.split(None, 2)
        sets.setdefault((name.lower(), kind), []).append(data)
    names = sorted_names({n for n, _ in sets})
    for name, following in zip(names, names[1:] + names[:1]):
        sets[(name, "NSEC")] = ["%s %s" % (following, " ".join(sorted([t for n, t in sets if n == name] + ["NSEC", "RRSIG"], key=TYPES.get)))]
    lines, now = [], int(time.time())
    for (name, kind), data in sets.items():
        labels = len([l for l in name.split(".") if l])
        fixed = struct.pack(">HBBIIIH", TYPES[kind], 13, labels, TTL, now + 86400, now - 86400, key.tag) + wire_name(".")
        text = fixed + b"".join(wire_name(name) + struct.pack(">HHIH", TYPES[kind], 1, TTL, len(d)) + d for d in sorted(wire_data(kind, d) for d in data))
        good = base64.b64encode(key.sign(text + (b"else" if "%s %s" % (name, kind) in forged else b""))).decode()
        stamp = [time.strftime("%Y%m%d%H%M%S", time.gmtime(t)) for t in (now + 86400, now - 86400)]
        lines += ["%s %d IN %s %s" % (name, TTL, kind, d) for d in data]
        lines.append("%s %d IN RRSIG %s 13 %d %d %s %s %d . %s" % (name, TTL, kind, labels, TTL, *stamp, key.tag, good))
    lines.sort(key=lambda l: " SOA " not in l.split("RRSIG")[0])  # SOA is first
    digest = hashlib.sha256(wire_name(".") + wire_data("DNSKEY", key.record)).hexdigest()
    return "\n".join(lines) + "\n", ". IN DS %d 13 2 %s\n" % (key.tag, digest)


class SignedDns(Dns):
    def __init__(self, directory, records, forged):
        super().__init__(directory, [], [])
        zone, anchor = sign_zone(self.dir, records, forged)
        self.anchor = self.dir + "/anchor"
        for path, text in ((self.dir + "/zone", zone), (self.anchor, anchor)):
            with open(path, "w") as f:
                f.write(text)
        os.chmod(self.anchor, 0o644)

    def _write(self):
        with open(self.dir + "/unbound.conf", "w") as f:
            f.write("server:\n  interface: 127.0.0.1@%d\n  access-control: 127.0.0.0/8 allow\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n"
                    "  directory: \"%s\"\n  pidfile: \"\"\n  use-syslog: no\n  logfile: \"\"\n  module-config: \"iterator\"\n  num-threads: 1\n"
                    "  do-ip6: no\n  so-rcvbuf: 0\n  so-sndbuf: 0\n  outgoing-range: 32\n  num-queries-per-thread: 16\n"
                    "  msg-cache-size: 64k\n  rrset-cache-size: 64k\n  local-zone: \"test.\" nodefault\n"
                    "auth-zone:\n  name: \".\"\n  zonefile: \"%s/zone\"\n  for-downstream: yes\n  for-upstream: no\n"
                    "remote-control:\n  control-enable: no\n" % (self.port, self.dir, self.dir))


def start_signed_dns(directory, records, forged=()):
    return SignedDns(directory, records, forged).start()
