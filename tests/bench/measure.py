"""What the benchmarks measure with: a cgroup around each server, smtp-source as the load, smtp-sink as the far end, syncs counted by strace,
memory as PSS. Everything on loopback; every load is bounded."""
import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE + "/../e2e")
PEERS = os.environ.get("WAYPOST_TEST_PEERS", "")
POSTFIX_ENV = dict(os.environ, LD_LIBRARY_PATH=PEERS + "/usr/lib/postfix")


class Cgroup:
    """A cgroup of its own, so that CPU time, also of children that ended, and the list of processes are exact. Version 2, or the cpuacct group
    of version 1. Where none can be made nothing can be measured: that is an error, not a missing figure."""
    BASES = (("/sys/fs/cgroup/unified", "0::"), ("/sys/fs/cgroup", "0::"), ("/sys/fs/cgroup/cpuacct", ":cpuacct:"), ("/sys/fs/cgroup/cpu,cpuacct", ":cpu,cpuacct:"))

    def __init__(self, name):
        why = "no cgroup is mounted"
        for self.base, self.mark in self.BASES:
            if not os.path.exists(self.base + "/cgroup.procs"):
                continue
            self.path = "%s/waypost-bench-%s-%d" % (self.base, name, os.getpid())
            try:
                os.makedirs(self.path, exist_ok=True)
                return
            except OSError as e:
                why = str(e)
        raise SystemExit("bench: no cgroup can be made for a server, so its CPU time can't be measured (%s): run it as root, where cgroups can be written" % why)

    def _move(self, path):
        with open(path + "/cgroup.procs", "w") as f:
            f.write(str(os.getpid()))

    def __enter__(self):
        """The calling process moves in, so that what it starts now is in it, and out again at the end."""
        with open("/proc/self/cgroup") as f:
            self.home = next(l.split(":", 2)[2].strip() for l in f if self.mark in l)
        self._move(self.path)
        return self

    def __exit__(self, *_):
        self._move(self.base + (self.home if self.home != "/" else ""))

    def cpu(self):
        if self.mark != "0::":
            with open(self.path + "/cpuacct.usage") as f:
                return int(f.read()) / 1e9
        with open(self.path + "/cpu.stat") as f:
            return next(int(l.split()[1]) for l in f if l.startswith("usage_usec")) / 1e6

    def pids(self):
        with open(self.path + "/cgroup.procs") as f:
            found = [int(p) for p in f]
        if not found:
            raise RuntimeError("no process in %s" % self.path)
        return found

    def kill(self):
        """What is left in it, when a server that is somebody else's does not end by itself."""
        for _ in range(200):
            with open(self.path + "/cgroup.procs") as f:
                left = [int(p) for p in f]
            for p in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(p, signal.SIGKILL)
            if not left:
                return
            time.sleep(0.05)

    def remove(self):
        with contextlib.suppress(OSError):
            os.rmdir(self.path)


def pss_kb(pids):
    total = 0
    for p in pids:
        try:
            for line in open("/proc/%d/smaps_rollup" % p):
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            pass
    return total


def answers(address, port):
    try:
        socket.create_connection((address, port), timeout=5).close()
        return True
    except OSError:
        return False


def peak_kb(pid):
    """The most that process ever held in memory."""
    return next((int(l.split()[1]) for l in open("/proc/%d/status" % pid) if l.startswith("VmHWM:")), 0)


def command(pid):
    return open("/proc/%d/comm" % pid).read().strip()


class Sink:
    """smtp-sink, counting what it swallowed."""

    def __init__(self, address, port):
        self.n, self.address, self.port = 0, address, port
        as_root = ["-u", "nobody"] if os.geteuid() == 0 else []
        self.p = subprocess.Popen([PEERS + "/usr/sbin/smtp-sink", *as_root, "-c", "-m", "1000", "%s:%d" % (address, port), "1024"], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, env=POSTFIX_ENV)
        threading.Thread(target=self._read, daemon=True).start()
        wait_for(lambda: self.p.poll() is not None or answers(address, port))

    def _read(self):
        tail = b""
        while True:
            d = os.read(self.p.stdout.fileno(), 65536)
            if not d:
                return
            found = re.findall(rb"mesg=(\d+)\s", tail + d)
            if found:
                self.n = int(found[-1])
            tail = (tail + d)[-60:]

    def close(self):
        self.p.terminate()
        self.p.wait()


def _source(address, port, rcpt, count, sessions=20, size=4096, reuse=False, lmtp=False):
    return [PEERS + "/usr/sbin/smtp-source", "-l", str(size), "-f", "sender@bench.test", "-M", "client.bench.test", "-s", str(min(sessions, count)), "-m", str(count),
            "-t", rcpt] + (["-d"] if reuse else []) + (["-L"] if lmtp else []) + ["%s:%d" % (address, port)]


def _many(address, port, rcpts, count, sessions, size=4096, lmtp=False):
    domain = rcpts[0].partition("@")[2]
    if rcpts != ["u%d@%s" % (i + 1, domain) for i in range(len(rcpts))]:
        raise ValueError("a load for many is for u1, u2 and so on of one domain")
    return [os.environ["WAYPOST_BUILD"] + "/tests/bench/source", *(["-L"] if lmtp else []), str(min(sessions, count)), str(count), str(size), str(len(rcpts)), address, str(port), domain]


def send(address, port, rcpts, count, timeout=120, sessions=20, **kw):
    """Sends `count` messages spread over the recipients; seconds until the last one was acknowledged. With many, by our own source: smtp-source takes a
    process for each, which costs more than most servers do."""
    command = _source(address, port, rcpts[0], count, sessions=sessions, **kw) if len(rcpts) == 1 else _many(address, port, rcpts, count, sessions, **kw)
    t0 = time.perf_counter()
    p = subprocess.run(command, env=POSTFIX_ENV, stderr=subprocess.PIPE, timeout=timeout)
    took = time.perf_counter() - t0
    if p.returncode:
        raise RuntimeError("%s: %s" % (os.path.basename(command[0]), p.stderr.decode(errors="replace")[-300:]))
    return took


class Lines:
    """How often a text stands in a log that grows: what was read once is not read again."""

    def __init__(self, path, text):
        self.path, self.text, self.at, self.n, self.rest = path, text, 0, 0, b""

    def count(self):
        if not os.path.exists(self.path):
            return 0  # nothing was said yet
        with open(self.path, "rb") as f:
            f.seek(self.at)
            new = f.read()
        self.at += len(new)
        whole, nl, self.rest = (self.rest + new).rpartition(b"\n")
        self.n += (whole + nl).count(self.text)
        return self.n


class SlowHost:
    """A mail host that takes its time for each answer. n: recipients that it took."""

    def __init__(self, address, port, wait):
        self.n, self.wait = 0, wait
        self.listener = socket.create_server((address, port), backlog=100)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._session, args=(self.listener.accept()[0],), daemon=True).start()

    def _session(self, sock):
        with contextlib.suppress(OSError), sock, sock.makefile("rwb") as f:
            def say(text):
                time.sleep(self.wait)
                f.write(text + b"\r\n")
                f.flush()
            say(b"220 slow")
            for line in f:
                verb = line[:4].upper()
                if verb == b"DATA":
                    say(b"354 go on")
                    while f.readline() not in (b".\r\n", b""):
                        pass
                self.n += verb == b"RCPT"
                say(b"221 bye" if verb == b"QUIT" else b"250 ok")
                if verb == b"QUIT":
                    return

    def close(self):
        self.listener.close()


def mass(c, sender, domain, recipients):
    """One mailing over a session of smtplib: messages to 1,000 recipients each, pipelined."""
    for first in range(0, recipients, 1000):
        names = range(first, min(first + 1000, recipients))
        assert c.mail(sender)[0] == 250
        c.send(b"".join(b"RCPT TO:<r%d@%s>\r\n" % (i, domain.encode()) for i in names))
        for _ in names:
            code, text = c.getreply()
            assert code == 250, text
        code, text = c.data(b"Subject: to all\r\n\r\nhello\r\n")
        assert code == 250, text


def wait_for(fn, timeout=120, pause=0.01):
    end = time.perf_counter() + timeout
    while not fn():
        if time.perf_counter() > end:
            raise RuntimeError("timed out")
        time.sleep(pause)


class SyncCount:
    """Counts what waits for the disk, by strace around the server: with its seccomp filter only these calls stop, so that batches are those
    of a server that runs freely. wrap goes before the server's command."""

    def __init__(self, out):
        self.out = out
        self.wrap = ["strace", "-f", "-qq", "-y", "--seccomp-bpf", "-e", "trace=fsync,fdatasync,syncfs,sync_file_range,msync,sync", "-e", "signal=none", "-o", out]

    def _lines(self):
        with open(self.out, errors="replace") as f:
            return [line for line in f if "resumed" not in line and "sync" in line]

    def total(self):
        return len(self._lines())

    def checkpoints(self):
        """Of the queue: the write-ahead log goes into the database file, which is synced by nothing else."""
        return sum("/queue.db>" in line for line in self._lines())


def spread(values, fmt="%.0f"):
    return "%s..%s" % (fmt % min(values), fmt % max(values))


def median(values):
    return statistics.median(values)
