"""What the benchmarks measure with: a cgroup around each server, smtp-source as the load, smtp-sink as the far end, syncs counted by strace,
memory as PSS. Everything on loopback; every load is bounded."""
import os
import re
import shlex
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
    """A cgroup of its own (v2), so that CPU time, also of children that ended, is exact. None where none can be made."""

    def __init__(self, name):
        self.path = None
        for base in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
            if os.path.exists(base + "/cgroup.procs"):
                try:
                    self.path = "%s/waypost-bench-%s-%d" % (base, name, os.getpid())
                    os.makedirs(self.path, exist_ok=True)
                    break
                except OSError:
                    self.path = None

    def __enter__(self):
        """The calling process moves in, so that what it starts now is in it; leave() moves it out again."""
        if self.path:
            self.home = next(l.split(":", 2)[2].strip() for l in open("/proc/self/cgroup") if l.startswith("0::"))
            with open(self.path + "/cgroup.procs", "w") as f:
                f.write(str(os.getpid()))
        return self

    def __exit__(self, *_):
        if self.path:
            base = os.path.dirname(self.path)
            with open(base + (self.home if self.home != "/" else "") + "/cgroup.procs", "w") as f:
                f.write(str(os.getpid()))

    def cpu(self):
        if not self.path:
            return None
        for line in open(self.path + "/cpu.stat"):
            if line.startswith("usage_usec"):
                return int(line.split()[1]) / 1e6

    def pids(self):
        return [int(p) for p in open(self.path + "/cgroup.procs")] if self.path else []

    def remove(self):
        if self.path:
            try:
                os.rmdir(self.path)
            except OSError:
                pass


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


def _answers(address, port):
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
        wait_for(lambda: self.p.poll() is not None or _answers(address, port))

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


def source(address, port, rcpt, count, sessions=20, size=4096, reuse=False):
    cmd = [PEERS + "/usr/sbin/smtp-source", "-l", str(size), "-f", "sender@bench.test", "-M", "client.bench.test", "-s", str(min(sessions, count)), "-m", str(count),
           "-t", rcpt] + (["-d"] if reuse else []) + ["%s:%d" % (address, port)]
    return subprocess.Popen(cmd, env=POSTFIX_ENV, stderr=subprocess.PIPE)


def send(address, port, rcpts, count, timeout=120, **kw):
    """Sends `count` messages spread over the recipients; seconds until the last one was acknowledged."""
    t0 = time.perf_counter()
    if len(rcpts) == 1:
        procs = [source(address, port, rcpts[0], count, **kw)]
    else:  # one worker per session, each serving its share of the recipients in turn
        sessions = min(kw.pop("sessions", 20), len(rcpts))
        per = count // len(rcpts)
        shares = [rcpts[i::sessions] for i in range(sessions)]
        size = kw.get("size", 4096)
        procs = [subprocess.Popen(["sh", "-c", " && ".join(shlex.join([PEERS + "/usr/sbin/smtp-source", "-l", str(size), "-f", "sender@bench.test", "-M", "client.bench.test", "-s", "1", "-m",
                                                                      str(per), "-t", r, "%s:%d" % (address, port)]) for r in share)], env=POSTFIX_ENV, stderr=subprocess.PIPE) for share in shares]
    bad = []
    for p in procs:
        _, err = p.communicate(timeout=timeout)
        if p.returncode:
            bad.append(err.decode(errors="replace")[-300:])
    if bad:
        raise RuntimeError("smtp-source: " + "; ".join(bad))
    return time.perf_counter() - t0


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
        self.wrap = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=fsync,fdatasync,syncfs,sync_file_range,msync,sync", "-e", "signal=none", "-o", out]

    def total(self):
        with open(self.out) as f:
            return sum("resumed" not in line and "sync" in line for line in f)


def spread(values, fmt="%.0f"):
    return "%s..%s" % (fmt % min(values), fmt % max(values))


def median(values):
    return statistics.median(values)
