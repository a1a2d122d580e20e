"""`waypost queue stats` and `waypost queue top`: the queue added up, and as it lives."""
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

import waypost as wp
from waypost import message, until

REFUSED = {"mx": ("127.0.0.1", 1), "sections": {"queue": "retry-min 60s; retry-max 120s;"}}


@pytest.fixture
def waiting(instances):
    """Two messages of three recipients that wait, and one that was delivered."""
    w = instances("a", **REFUSED)
    with w.submit("alice@example.test") as s:
        s.sendmail("alice@example.test", ["x@Far.test", "y@far.test"], message("one", sender="alice@example.test"))
        s.sendmail("alice@example.test", ["z@near.test", "bob@example.test"], message("two", sender="alice@example.test"))
    until(lambda: len([r for r in w.queue() if r["attempts"] and not r["activity"]]) == 3, "three deferred")
    w.wait_inbox("bob@example.test", 1)
    until(lambda: len(w.queue()) == 3, "his row is gone: it stays until the mailbox is on the disk")
    return w


def test_the_queue_added_up(waiting):
    w = waiting
    sizes = {r["id"]: r["size"] for r in w.queue()}
    first, second = sorted(sizes)
    w.waypost("queue", "hold", "z@near.test")
    until(lambda: w.rows("queue", "list", "--state", "held"), "one is held")
    states, rates = [], []
    for row in w.rows("queue", "stats"):
        (rates if "event" in row else states).append(row)
    assert [(r["state"], r["messages"], r["recipients"], r["size"]) for r in states] == [
        ("waiting", 1, 2, sizes[first]), ("held", 1, 1, sizes[second]), ("all", 2, 3, sum(sizes.values()))]
    assert states[2]["oldest"] == w.queue()[0]["received"]
    assert {r["event"]: r["since-start"] for r in rates} == {"in": 2, "delivered": 1, "relayed": 0, "deferred": 3, "bounced": 0}
    assert all(re.fullmatch(r"\d+\.\d", r[k]) for r in rates for k in ("per-minute", "over-5-minutes", "over-60-minutes"))
    assert {r["event"]: float(r["over-60-minutes"]) > 0 for r in rates} == {"in": True, "delivered": True, "relayed": False, "deferred": True, "bounced": False}
    groups = lambda by, *more: [(r[by], r["messages"], r["recipients"]) for r in w.rows("queue", "stats", "--by", by, *more)]
    assert groups("domain") == [("far.test", 1, 2), ("near.test", 1, 1), ("all", 2, 3)]
    assert groups("destination")[0][0] == "far.test"
    assert groups("sender") == [("alice@example.test", 2, 3), ("all", 2, 3)]
    assert groups("domain", "--limit", "1") == [("far.test", 1, 2), ("all", 2, 3)]
    assert "The first 1 of 2 are shown" in w.waypost("queue", "stats", "--by", "domain", "--limit", "1").stdout
    assert w.waypost("queue", "stats", "--by", "colour", check=False).returncode == 2
    w.waypost("queue", "remove", "--all", "--yes")
    w.wait_queue_empty()
    assert groups("domain") == [("all", 0, 0)]


class Screen:
    """`waypost queue top` on a terminal of its own."""

    def __init__(self, w, *args, rows=24, columns=100):
        self.master, slave = pty.openpty()
        self.slave = slave
        self.resize(rows, columns)
        self.was = termios.tcgetattr(slave)
        self.proc = subprocess.Popen([wp.PROGRAMS + "/waypost", "-c", w.conf, "queue", "top", *args], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        self.text = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        if select.select([self.master], [], [], 0.1)[0]:
            self.text += os.read(self.master, 65536).decode().replace("\r", "")

    def await_text(self, pattern):
        """Reads until what was shown since the last call matches."""
        end = time.monotonic() + wp.PATIENCE
        while not (m := re.search(pattern, self.text, re.S)):
            assert time.monotonic() < end, "never shown: %s in %r" % (pattern, self.text[-2000:])
            self.read()
        self.text = self.text[m.end():]
        return m

    def key(self, k):
        os.write(self.master, k)

    def end(self):
        end = time.monotonic() + wp.PATIENCE
        while self.proc.poll() is None:
            assert time.monotonic() < end
            self.read()
        with contextlib.suppress(OSError):
            self.read()
        assert termios.tcgetattr(self.slave) == self.was, "the terminal is as it was"
        assert self.text.endswith("\x1b[?7h\x1b[?25h\x1b[?1049l"), self.text[-200:]
        os.close(self.master)
        os.close(self.slave)
        return self.proc.returncode


def test_a_live_view(waiting):
    w = waiting
    s = Screen(w, "--interval", "1")
    s.await_text(r"\x1b\[\?1049h")
    s.await_text(r"q ends.*due 0   later 3   parked 0   held 0 .*\ndeferred +3 .*DESTINATION.*far\.test")
    w.waypost("queue", "hold", "--all")
    s.await_text(r"later 0   parked 0   held 3 ")
    s.key(b"x")  # nothing
    s.resize(5, 20)
    os.kill(s.proc.pid, signal.SIGWINCH)
    s.await_text(r"\x1b\[H[^\n]{0,20}\x1b\[K\ndue 0   later 0   pa\x1b\[K\n\x1b\[K\n[^\n]{20}\x1b\[K\nin [^\n]{17}\x1b\[K\x1b\[J")
    s.key(b"q")
    assert s.end() == 0
    for how in (lambda s: s.key(b"\x03"), lambda s: os.kill(s.proc.pid, signal.SIGTERM)):
        s = Screen(w)
        s.await_text("DESTINATION")
        how(s)
        assert s.end() == 0


def test_a_live_view_outlives_the_queue_manager(waiting):
    w = waiting
    s = Screen(w, "--interval", "1")
    s.await_text("later 3")
    os.kill(w.services()["qmgr"]["pid"], signal.SIGKILL)
    s.await_text(r"deferred +0 .*(?=\x1b\[H)")  # counting began anew
    s.key(b"q")
    assert s.end() == 0


def test_no_live_view_without_a_terminal(waiting):
    w = waiting
    for args in (["queue", "top"], ["--json", "queue", "top"]):
        r = w.waypost(*args, check=False)
        assert r.returncode == 2 and "draws on a terminal" in r.stderr and not r.stdout
    master, slave = pty.openpty()
    r = subprocess.run([wp.PROGRAMS + "/waypost", "-c", w.conf, "--json", "queue", "top"], stdin=slave, stdout=slave, stderr=subprocess.PIPE, text=True)
    assert r.returncode == 2
    r = subprocess.run([wp.PROGRAMS + "/waypost", "-c", w.conf, "queue", "top", "--interval", "0"], stdin=slave, stdout=slave, stderr=subprocess.PIPE, text=True)
    assert r.returncode == 2 and "usage" in r.stderr
    os.close(master)
    os.close(slave)
