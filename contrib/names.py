"""A small DNS server for a private world on loopback: each domain has one MX, mail.DOMAIN, and that name one address. RFC 1035.

As a program: names.py PORT-FILE DOMAIN=ADDRESS... writes the port that it got to PORT-FILE and serves until it is killed.
"""
import os
import socket
import struct
import sys
import threading


def wire(name):
    return b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0"


class Names(threading.Thread):
    def __init__(self, zones, address="127.0.0.1"):
        super().__init__(daemon=True)
        self.zones = zones
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((address, 0))
        self.port = self.sock.getsockname()[1]

    def run(self):
        while True:
            query, peer = self.sock.recvfrom(4096)
            try:
                self.sock.sendto(self.answer(query), peer)
            except (IndexError, struct.error, OSError):
                pass  # not a question that we understand

    def answer(self, q):
        labels, at = [], 12
        while q[at]:
            labels.append(q[at + 1:at + 1 + q[at]].decode("latin-1").lower())
            at += 1 + q[at]
        name, qtype = ".".join(labels), struct.unpack(">H", q[at + 1:at + 3])[0]
        zone = name[5:] if name.startswith("mail.") else name
        records = []
        if zone in self.zones and qtype == 15 and name == zone:
            records.append(struct.pack(">H", 10) + wire("mail." + zone))
        elif zone in self.zones and qtype == 1 and name != zone:
            records.append(socket.inet_aton(self.zones[zone]))
        known = zone in self.zones or "test".endswith(name)
        head = q[:2] + struct.pack(">HHHHH", 0x8580 | (0 if known else 3), 1, len(records), 0, 0)
        return head + q[12:at + 5] + b"".join(b"\xc0\x0c" + struct.pack(">HHIH", qtype, 1, 60, len(r)) + r for r in records)


if __name__ == "__main__":
    n = Names(dict(z.split("=") for z in sys.argv[2:]))
    with open(sys.argv[1] + ".new", "w") as f:
        f.write("%d\n" % n.port)
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    n.run()
