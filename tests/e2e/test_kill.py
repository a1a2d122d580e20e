"""kill -9 at random moments under load: what was acknowledged is there, local mail exactly once; a relayed duplicate only where the
peer's acceptance was not yet recorded. RFC5321:4.2.5, RFC5321:4.5.4

Each round sends WAYPOST_KILL_MESSAGES messages (half to a local account, half to a relayed domain) and kills the service some times
meanwhile. WAYPOST_KILL_ROUNDS (2; the full run is 20), WAYPOST_KILL_SEED (random, printed).
"""
import collections
import json
import os
import queue
import random
import re
import signal
import smtplib
import threading
import time

import pytest

import waypost as wp
from waypost import message, until

ROUNDS = int(os.environ.get("WAYPOST_KILL_ROUNDS", "2"))
MESSAGES = int(os.environ.get("WAYPOST_KILL_MESSAGES", "200"))
SEED = os.environ.get("WAYPOST_KILL_SEED") or str(random.SystemRandom().getrandbits(32))
TARGETS = ("smtpd-mx", "authd", "qmgr", "relay", "zygote", "mda", "imapd", "pop3d", "smtpd-submission", "keyd", "tallyd", "policyd-judge", "waypostd", "all")
SENDERS = 10
NO_LIMITS = "exempt none; connection-rate 0; message-rate 0; refused-recipients 0; errors 0; failed-logins 0;"  # yet each client is asked about


class Load:
    """Sends messages to the MX from several threads; every attempt has an id of its own, and what got 250 is remembered."""

    def __init__(self, server, total, tag):
        self.server, self.tag = server, tag
        self.work = queue.Queue()
        for i in range(total):
            self.work.put(i)
        self.acked, self.unsure, self.lock = [], [], threading.Lock()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(SENDERS)]

    def start(self):
        [t.start() for t in self.threads]
        return self

    def over(self):
        return not any(t.is_alive() for t in self.threads)

    def join(self):
        [t.join(300) for t in self.threads]
        assert not any(t.is_alive() for t in self.threads), "a sender hangs"

    def run(self):
        s = None
        while True:
            try:
                i = self.work.get_nowait()
            except queue.Empty:
                break
            for attempt in range(600):
                ident = "%s-%d-%d" % (self.tag, i, attempt)
                sent = False
                try:
                    if s is None:
                        s = self.server.smtp("mx")
                        s.timeout = 120
                    s.ehlo_or_helo_if_needed()
                    local = i % 2 == 0
                    code, _ = s.mail("carol@elsewhere.test")
                    if code == 250:
                        code, _ = s.rcpt("bob@example.test" if local else "fwd@example.test")
                    if code == 250:
                        code, _ = s.docmd("DATA")
                    if code == 354:
                        sent = True
                        body = "x" * 60 + "\r\n"
                        s.send(message(ident, body * (1500 if i % 25 == 0 else 20)) + b".\r\n")
                        code, _ = s.getreply()
                        if code == 250:
                            with self.lock:
                                self.acked.append(ident)
                            break
                    if code >= 500:
                        raise AssertionError("refused for good: %s %s" % (code, _))
                    s.rset()
                except (OSError, smtplib.SMTPException):
                    if s is not None:
                        s.close()
                    s = None
                    if sent:
                        with self.lock:
                            self.unsure.append(ident)
                time.sleep(0.05)
            else:
                raise AssertionError("never accepted: " + ident)
        if s is not None:
            try:
                s.quit()
            except (OSError, smtplib.SMTPException):
                pass


def subjects(messages):
    out = collections.Counter()
    for m in messages:
        found = re.search(rb"^Subject: (\S+)\r?$", m, re.M)
        out[found.group(1).decode()] += 1
    return out


def descendants(pid):
    """All processes below that one, from /proc: quicker than asking, and needs no answer from whom we are about to kill."""
    children = collections.defaultdict(list)
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % p) as f:
                name, rest = f.read().split("(", 1)[1].rsplit(")", 1)
            children[int(rest.split()[1])].append((int(p), name))
        except OSError:
            pass
    out, todo = [], [pid]
    while todo:
        for child in children[todo.pop()]:
            out.append(child)
            todo.append(child[0])
    return out


def victims(server, target):
    """The pids; both roles of smtpd bear the same name, so those are told apart by their arguments."""
    below = descendants(server.proc.pid)
    if target == "all":
        return [p for p, _ in below]
    if target.startswith("smtpd-"):
        return [p for p, name in below if name == "smtpd" and target.encode() in open("/proc/%d/cmdline" % p, "rb").read().split(b"\0")]
    return [p for p, name in below if name == target.removesuffix("-judge")]


def verify(server):
    """All that must be so in the queue is so, whatever died. Who answers may be on his way back."""
    def answered():
        r = server.waypost("--json", "queue", "verify", check=False)
        problems = json.loads(r.stdout) if r.stdout.strip().endswith("]") else []
        assert not problems, problems
        return r.returncode == 0
    until(answered, "queue verify")


def kill(server, target, load):
    """True: somebody was killed. An account's process that died comes back with the next mail only, and there may be no more."""
    pids = []
    if target != "waypostd":
        until(lambda: pids.extend(victims(server, target)) or pids or (target == "mda" and load.over()), "a process named " + target, pause=0.001)
    if target in ("waypostd", "all"):
        os.kill(server.proc.pid, signal.SIGKILL)
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if target in ("waypostd", "all"):
        server.stop(kill=True)
        server.start(setup=False)
    return bool(pids) or target == "waypostd"


@pytest.mark.timeout(300 + 120 * ROUNDS)
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_acknowledged_is_lost(instances, target, tmp_path):
    from mtasink import Sink
    rnd = random.Random("%s/%s" % (SEED, target))
    print("WAYPOST_KILL_SEED=%s" % SEED)
    with Sink(wp.fresh_address()) as sink:
        w = instances("a", sections={"queue": "retry-min 1s; retry-max 2s;", "relay": "smarthost %s:%d; tls never;" % (sink.address, sink.port),
                                     "smtp": "max-transactions 100000; max-errors 1000;", "limits": NO_LIMITS if target in ("tallyd", "policyd-judge") else ""})
        w.waypost("alias", "add", "fwd@example.test", "someone@far.test")
        acked, unsure, under_load, rounds = [], [], 0, 0
        while rounds < ROUNDS or (under_load < ROUNDS and rounds < ROUNDS + 60):  # a load may be over before its kill
            load = Load(w, MESSAGES, "r%d" % rounds).start()
            rounds += 1
            kills = rnd.randint(1, 3) if target not in ("all", "waypostd") else 1
            for moment in sorted(rnd.randrange(MESSAGES // 2) for _ in range(kills)):
                while len(load.acked) < moment and not load.over():
                    time.sleep(0.0005)
                time.sleep(rnd.uniform(0, 0.003))
                busy = len(load.acked) < MESSAGES
                under_load += kill(w, target, load) and busy
            load.join()
            acked += load.acked
            unsure += load.unsure
            verify(w)
        assert under_load >= ROUNDS, "hardly any kill came under load"
        if target not in ("waypostd", "all"):
            died = set(re.findall(r"service-died service=\"?([\w-]+)", w.logged()))
            assert died <= {target}, "others died with it: %s" % died
        w.wait_queue_empty(patience=180)
        local = subjects(w.inbox("bob@example.test"))
        far = subjects(m.data for m in sink.messages())
        lost = [i for i in acked if not local[i] and not far[i]]
        assert not lost, "lost %d of %d (seed %s): %s" % (len(lost), len(acked), SEED, lost[:5])
        assert len(acked) == MESSAGES * rounds
        twice = [i for i, n in local.items() if n > 1]
        assert not twice, "local duplicates (seed %s): %s" % (SEED, twice[:5])
        assert set(local) <= set(acked) | set(unsure)
        log = w.logged()
        again = [i for i, n in far.items() if n > 1]
        if target not in ("relay", "qmgr", "all", "waypostd"):
            assert not again, "relayed twice although neither relay nor queue died (seed %s): %s" % (SEED, again[:5])
        for ident in again:
            data = next(m.data for m in sink.messages() if ("Subject: %s\r\n" % ident).encode() in m.data)
            msgid = re.search(rb"^Message-ID: (\S+)", data, re.M).group(1).decode()
            recorded = [l for l in log.splitlines() if " relayed " in l and msgid in l]
            assert len(recorded) <= 1, "relayed again after its acceptance was recorded: %s" % recorded
        died = len(re.findall(r"died|supervisor-gone|mda-failed|mda-gone", log))
        print("%s: %d deaths in the log, %d acknowledged, %d unsure, %d local, %d relayed, %d relayed twice before it was recorded" %
              (target, died, len(acked), len(unsure), sum(local.values()), sum(far.values()), len(again)))
