"""kill -9 at random moments under load: what was acknowledged is there, local mail exactly once, also what was appended over IMAP; what was
deleted over POP3 stays away; a relayed duplicate only where the peer's acceptance was not yet recorded. RFC5321:4.2.5, RFC5321:4.5.4

Each round sends WAYPOST_KILL_MESSAGES messages through the doors that the killed program has to do with (half to a local account, half to a
relayed domain) and kills it some times meanwhile. WAYPOST_KILL_ROUNDS (2; the full run is 20), WAYPOST_KILL_SEED (random, printed).
"""
import collections
import datetime
import json
import os
import random
import re
import signal
import time

import pytest

import dnszone
import waypost as wp
from introspection import AUDIENCE, CLIENT, SECRET, Endpoint
from load import ALICE, BOB, ByCommand, ByImap, ByMx, BySubmission, ByToken, Load, Pop3Reader, subject
from mtasink import Sink
from waypost import until

ROUNDS = int(os.environ.get("WAYPOST_KILL_ROUNDS", "2"))
MESSAGES = int(os.environ.get("WAYPOST_KILL_MESSAGES", "200"))
SEED = os.environ.get("WAYPOST_KILL_SEED") or str(random.SystemRandom().getrandbits(32))
EVERYWHERE = ((ByMx, BySubmission, ByImap, ByCommand), (Pop3Reader,))
TARGETS = {  # who sends and who reads while it is killed
    "smtpd-mx": ((ByMx,), ()), "smtpd-submission": ((BySubmission,), ()), "smtpd-local": ((ByCommand,), ()),
    "imapd": ((ByImap,), ()), "pop3d": ((ByMx,), (Pop3Reader,)), "mda": ((ByMx, ByImap), (Pop3Reader,)), "zygote": ((ByMx, ByImap), (Pop3Reader,)),
    "authd": EVERYWHERE, "keyd": ((ByMx, BySubmission, ByImap), (Pop3Reader,)), "qmgr": ((ByMx, BySubmission, ByCommand), ()), "relay": ((ByMx,), ()),
    "tallyd": ((ByMx, BySubmission, ByImap), (Pop3Reader,)), "policyd-judge": ((ByMx,), ()), "tokend": ((ByToken,), ()), "waypostd": EVERYWHERE, "all": EVERYWHERE}
NO_LIMITS = "exempt none; connection-rate 0; message-rate 0; refused-recipients 0; errors 0; failed-logins 0;"  # yet each client is asked about


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


def arguments(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return f.read().split(b"\0")
    except OSError:  # gone by now
        return []


def victims(server, target):
    """The pids; both roles of smtpd bear the same name, so those are told apart by their arguments."""
    below = descendants(server.proc.pid)
    if target == "all":
        return [p for p, _ in below]
    if target.startswith("smtpd-"):
        return [p for p, name in below if name == "smtpd" and target.encode() in arguments(p)]
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


def time_of(line):
    """Of a log line, in seconds since 1970."""
    return datetime.datetime.fromisoformat(line.split(" ", 1)[0].replace("Z", "+00:00")).timestamp()


def copies_before_the_record(log, copies):
    """Each copy that the peer took came before its acceptance was recorded: only then might it be sent again."""
    msgid = re.search(rb"^Message-ID: (\S+)", copies[0].data, re.M).group(1).decode()
    recorded = [l for l in log.splitlines() if " relayed " in l and msgid in l]
    last = int(max(m.at for m in copies) * 1000) / 1000  # the log has milliseconds
    assert len(recorded) <= 1 and all(time_of(l) >= last for l in recorded), "relayed again after its acceptance was recorded: %s, copies at %s" % (
        recorded, [m.at for m in copies])


@pytest.fixture
def world(instances, tmp_path):
    """world(limits, tokens) → (server, the host that far.test's MX leads to). tokens: there is an issuer of such, too."""
    others = []

    def issuer():
        endpoint = Endpoint(wp.fresh_address())
        others.append(endpoint)
        secret = tmp_path / "secret"
        secret.write_text(SECRET + "\n")
        secret.chmod(0o600)
        return {"oauth": 'introspection %s; introspection-client "%s"; introspection-secret-file %s; audience %s;' % (endpoint.url(), CLIENT, secret, AUDIENCE)}

    def make(limits, tokens):
        address = wp.fresh_address()
        sink = Sink(address)
        dns = dnszone.start_dns(tmp_path / "dns", ["far.test. MX 10 mx.far.test.", "mx.far.test. A " + address])
        others.extend((dns, sink.__enter__()))
        w = instances("a", relay_port=sink.port, dns="127.0.0.1@%d" % dns.port, sections={
            "queue": "retry-min 1s; retry-max 2s;", "relay": "tls never;", "smtp": "max-transactions 100000; max-errors 1000; max-login-failures 100;",
            "local-submission": "domain example.test;", "limits": limits, **(issuer() if tokens else {})})
        w.waypost("alias", "add", "fwd@example.test", "someone@far.test")
        return w, sink

    yield make
    for s in others:
        s.stop()


@pytest.mark.timeout(300 + 120 * ROUNDS)
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_acknowledged_is_lost(world, target):
    rnd = random.Random("%s/%s" % (SEED, target))
    print("WAYPOST_KILL_SEED=%s" % SEED)
    w, sink = world(NO_LIMITS if target in ("tallyd", "policyd-judge") else "", tokens=target == "tokend")
    acked, unsure, read, doubtful, under_load, rounds = [], [], collections.Counter(), collections.Counter(), 0, 0
    while rounds < ROUNDS or (under_load < ROUNDS and rounds < ROUNDS + 60):  # a load may be over before its kill
        load = Load(w, MESSAGES, "r%d" % rounds, *TARGETS[target]).start()
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
        read += load.read
        doubtful += load.doubtful
        verify(w)
    assert under_load >= ROUNDS, "hardly any kill came under load"
    if target not in ("waypostd", "all"):
        died = set(re.findall(r"service-died service=\"?([\w-]+)", w.logged()))
        assert died <= {target}, "others died with it: %s" % died
    until(lambda: os.listdir(w.dir + "/state/drop") == [], "an empty drop directory")
    w.wait_queue_empty(patience=180)
    there = collections.Counter(subject(m) for user in (ALICE, BOB) for m in w.inbox(user))
    copies = collections.defaultdict(list)
    for m in sink.messages():
        copies[subject(m.data)].append(m)
    lost = [i for i in acked if not there[i] and not read[i] and not doubtful[i] and not copies[i]]
    assert not lost, "lost %d of %d (seed %s): %s" % (len(lost), len(acked), SEED, lost[:5])
    assert len(acked) == MESSAGES * rounds
    local = there + read
    twice = [i for i, n in local.items() if n > 1]
    assert not twice, "local duplicates, or deleted and there again (seed %s): %s" % (SEED, twice[:5])
    assert set(local) | set(copies) <= set(acked) | set(unsure)
    log = w.logged()
    again = [i for i, found in copies.items() if len(found) > 1]
    if target not in ("relay", "qmgr", "all", "waypostd"):
        assert not again, "relayed twice although neither relay nor queue died (seed %s): %s" % (SEED, again[:5])
    for ident in again:
        copies_before_the_record(log, copies[ident])
    died = len(re.findall(r"died|supervisor-gone|mda-failed|mda-gone", log))
    print("%s: %d rounds, %d deaths in the log, %d acknowledged, %d unsure, %d local (%d of them read over POP3), %d relayed, %d relayed twice before it was recorded" %
          (target, rounds, died, len(acked), len(unsure), sum(local.values()), sum(read.values()), sum(map(len, copies.values())), len(again)))


def test_the_check_of_copies_can_fail():
    """A copy that came after the record is found."""
    class Copy:
        data = b"Message-ID: <x@y>\r\n"

        def __init__(self, at):
            self.at = at

    log = "2026-11-26T10:00:05.500Z info qmgr[1] relayed qid=Q message_id=<x@y> host=z\n"
    record = time_of(log)
    copies_before_the_record(log, [Copy(record - 9), Copy(record - 0.2)])
    with pytest.raises(AssertionError):
        copies_before_the_record(log, [Copy(record - 9), Copy(record + 0.2)])
    with pytest.raises(AssertionError):
        copies_before_the_record(log + log, [Copy(record - 9), Copy(record - 8)])
