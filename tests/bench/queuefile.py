"""A file as `waypost queue export` writes it (doc/queue-file.md), made without waypost: messages that wait for a later attempt."""
import hashlib
import struct
import sys
import time


def field(number, value):
    value = struct.pack("<q", value) if isinstance(value, int) else value
    return struct.pack("<BI", number, len(value)) + value


def record(kind, payload):
    return kind + struct.pack("<I", len(payload)) + payload


def write(out, count, domains, body, next_attempt, first=0, attempts=1):
    """`count` messages with one recipient each, spread over the domains; next_attempt: of the first, seconds since 1970; of each other a millisecond later."""
    now = int(time.time() * 1000)
    total = hashlib.blake2b(digest_size=16)
    begin = record(b"Q", field(1, b"bench.test") + field(2, now) + field(3, count))
    out.write(b"waypost queue 1\n" + begin)
    total.update(begin)
    content = record(b"C", body)
    facts = (field(2, b"sender@bench.test") + field(3, 1) + field(4, b"client.bench.test") + field(5, b"192.0.2.1") + field(6, now - 3600000) + field(7, len(body)) +
             field(8, body.index(b"\r\n\r\n") + 2))
    tail = field(14, now - 1800000) + field(15, 4) + field(16, 451) + field(17, 4) + field(18, 1) + field(19, b"try again later") + field(20, b"mx.test")
    n = 0
    # ids of an hour ago, so that an identical id of a queue of today is none of these
    for i in range(first, first + count):
        source = (now - 3600000) * 1000 + 2 * i
        address = b"u%d@%s" % (i, domains[i % len(domains)])
        message = (record(b"M", field(1, source) + facts + field(9, b"<%d@bench.test>" % i)) +
                   record(b"R", field(1, source + 1) + field(5, 1) + (field(8, attempts) if attempts else b"") + field(9, int(next_attempt * 1000) + i - first) +
                          field(10, address) + (tail if attempts else b"")) + content)
        sum_ = hashlib.blake2b(message, digest_size=16).digest()
        total.update(sum_)
        out.write(message + record(b"S", sum_))
        n += 1
    out.write(record(b"E", struct.pack("<QQ", n, n) + total.digest()))


def text(size):
    head = b"From: sender@bench.test\r\nTo: u@far.test\r\nSubject: waits\r\n\r\n"
    return head + b"x" * max(0, size - len(head) - 2) + b"\r\n"


if __name__ == "__main__":
    with open(sys.argv[1], "wb") as f:
        write(f, int(sys.argv[2]), [b"far%d.test" % i for i in range(100)], text(300), time.time() + 6 * 3600)
