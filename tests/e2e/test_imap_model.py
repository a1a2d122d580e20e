"""Several IMAP sessions on one account do random things at the same time; each is checked against what RFC 3501 lets a client rely on.
RFC3501:2.3.1.1 (uids ascend and are never used again), RFC3501:5.2 and RFC3501:7.4.1 (EXISTS and EXPUNGE; no EXPUNGE during FETCH, STORE,
SEARCH or between commands), RFC4315:3, RFC6851:3.3. HAZARDS 6, 20."""
import collections
import os
import random
import re
import socket
import ssl
import time

from waypost import message

SEED = int(os.environ.get("WAYPOST_TEST_SEED", 0)) or random.getrandbits(32)
SECONDS = float(os.environ.get("WAYPOST_MODEL_SECONDS", 8))
SESSIONS = 5
ALICE = "alice@example.test"
BOXES = ["INBOX", "one", "two"]
ROAMING = ["here", "there"]  # one mailbox, renamed from one to the other and back
FLAGS = ["\\Seen", "\\Flagged", "\\Answered", "\\Draft", "\\Deleted", "$Label1", "Junk"]


class World:
    """What all sessions together know. A message is (uidvalidity, uid); its token is in its subject."""

    def __init__(self):
        self.tokens = {}
        self.given = set()   # told by APPENDUID or COPYUID: each once
        self.may_go = set()  # somebody marked it \\Deleted or moved it, or it is a copy of such a one
        self.gone = set()    # EXPUNGE was told
        self.counts = collections.Counter()
        self.serial = 0
        self.end = False

    def token(self, message, token):
        assert self.tokens.setdefault(message, token) == token, "uid of another message: %s was %s, is %s" % (message, self.tokens[message], token)

    def give(self, message):
        assert message not in self.given, "uid given twice: %s" % (message,)
        self.given.add(message)


def numbers(text):
    out = []
    for part in text.split(","):
        a, _, b = part.partition(":")
        out += range(int(a), int(b or a) + 1)
    return out


class Session:
    def __init__(self, world, server, rnd, name):
        self.world, self.rnd, self.name = world, rnd, name
        context = ssl.create_default_context(cafile=server.ca.cert)
        self.s = context.wrap_socket(socket.create_connection((server.address, server.ports["imaps"]), timeout=30), server_hostname=server.address)
        self.buf, self.n, self.log = b"", 0, collections.deque(maxlen=60)
        self.pending = collections.deque()  # (tag, command name, uid form, data)
        self.box, self.view, self.flags, self.validity = None, [], {}, 0
        self.wait_line()
        self.send("LOGIN", "LOGIN %s %s" % (ALICE, server.accounts[ALICE]))
        self.drain()

    # ---- bytes ----

    def send(self, name, line, uid=False, data=None, sure=True):
        """sure: no command before it can change what its numbers mean."""
        self.n += 1
        tag = "%s%d" % (self.name, self.n)
        self.log.append("C: %s %s" % (tag, line[:200]))
        self.pending.append((tag, name, uid, data, sure))
        self.s.sendall(("%s %s\r\n" % (tag, line)).encode())

    def recv(self):
        got = self.s.recv(65536)
        assert got, "the server hung up"
        self.buf += got

    def take(self):
        """One response with its literals, or None."""
        at = 0
        while True:
            end = self.buf.find(b"\r\n", at)
            if end < 0:
                return None
            literal = re.search(rb"\{(\d+)\}$", self.buf[at:end])
            if not literal:
                out, self.buf = self.buf[:end], self.buf[end + 2:]
                return out.decode()
            at = end + 2 + int(literal.group(1))

    def wait_line(self):
        while (line := self.take()) is None:
            self.recv()
        self.log.append("S: " + line[:300])
        return line

    def at_hand(self, seconds):
        """Answers what has come, waiting so long for the first of it."""
        self.s.settimeout(seconds)
        try:
            while True:
                while (line := self.take()) is not None:
                    self.log.append("S: " + line[:300])
                    self.response(line)
                self.recv()
                self.s.settimeout(0.0005)
        except (TimeoutError, ssl.SSLWantReadError):
            pass
        finally:
            self.s.settimeout(30)

    def drain(self):
        while self.pending:
            self.response(self.wait_line())

    # ---- what is said ----

    def response(self, line):
        if line.startswith("* "):
            self.untagged(line[2:])
        elif line.startswith("+ "):
            assert self.pending and self.pending[0][1] == "IDLE", line
        else:
            self.tagged(line)

    def untagged(self, text):
        m = re.match(r"(\d+) (EXISTS|EXPUNGE|RECENT|FETCH)(?: (.*))?$", text, re.S)
        current = self.pending[0] if self.pending else None
        if m:
            self.world.counts[m.group(2)] += 1
            getattr(self, "on_" + m.group(2).lower())(int(m.group(1)), m.group(3), current)
        elif text.startswith("SEARCH"):
            self.on_search([int(x) for x in text.split()[1:]], current)
        elif m := re.match(r"OK \[UIDVALIDITY (\d+)\]", text):
            self.on_validity(int(m.group(1)))
        elif m := re.match(r"OK \[COPYUID (\d+) (\S+) (\S+)\]", text):
            self.on_copyuid(m, current)
        else:
            assert not text.startswith(("BYE", "BAD", "NO")), text

    def on_validity(self, validity):
        if self.view and self.validity:  # renamed under us: the uids stay
            assert validity > self.validity
            for uid in filter(None, self.view):
                if (self.validity, uid) in self.world.tokens:
                    self.world.token((validity, uid), self.world.tokens[self.validity, uid])
                if (self.validity, uid) in self.world.may_go:
                    self.world.may_go.add((validity, uid))
        self.validity = validity

    def on_exists(self, n, _, current):
        if current and current[1] == "SELECT":
            self.view, self.flags = [None] * n, {}
            return
        assert n >= len(self.view), "EXISTS %d although there are %d" % (n, len(self.view))
        self.view += [None] * (n - len(self.view))

    def on_recent(self, n, _, current):
        assert n <= len(self.view)

    def on_expunge(self, n, _, current):
        assert current, "EXPUNGE while no command runs"
        assert current[2] or current[1] not in ("FETCH", "STORE", "SEARCH"), "EXPUNGE during %s" % current[1]
        assert 1 <= n <= len(self.view), "EXPUNGE %d of %d" % (n, len(self.view))
        uid = self.view.pop(n - 1)
        self.flags.pop(uid, None)
        if uid and self.box not in ROAMING:
            self.world.gone.add((self.validity, uid))

    def on_fetch(self, n, text, current):
        assert 1 <= n <= len(self.view), "FETCH %d of %d" % (n, len(self.view))
        uid = re.search(r"\bUID (\d+)", text)
        uid = int(uid.group(1)) if uid else None
        if uid:
            self.know(n, uid)
        uid = self.view[n - 1]
        flags = re.search(r"FLAGS \(([^)]*)\)", text)
        if uid and flags:
            self.flags[uid] = set(flags.group(1).split()) - {"\\Recent"}
        token = re.search(r"Subject: (\S+)", text)
        if uid and token:
            self.world.token((self.validity, uid), token.group(1))
        if current and current[1] == "FETCH" and current[3] is not None:
            current[3]["got"].append(n)

    def know(self, n, uid):
        known = self.view[n - 1]
        assert known in (None, uid), "message %d had uid %s, now %d" % (n, known, uid)
        self.view[n - 1] = uid
        before = [u for u in self.view[:n - 1] if u]
        after = [u for u in self.view[n:] if u]
        assert (not before or before[-1] < uid) and (not after or after[0] > uid), "uids do not ascend: %s" % self.view

    def on_search(self, found, current):
        assert current and current[1] == "SEARCH"
        assert found == sorted(set(found))
        if not current[2]:
            assert not found or found[-1] <= len(self.view)

    def on_copyuid(self, m, current):
        validity, source, target = int(m.group(1)), numbers(m.group(2)), numbers(m.group(3))
        assert len(source) == len(target) and target == sorted(target)
        for a, b in zip(source, target):
            self.world.give((validity, b))
            if (self.validity, a) in self.world.tokens:
                self.world.token((validity, b), self.world.tokens[self.validity, a])
            if (self.validity, a) in self.world.may_go:
                self.world.may_go.add((validity, b))

    def tagged(self, line):
        tag, status, text = line.split(" ", 2)
        want, name, uid, data, sure = self.pending[0]
        assert tag == want, "%s answered before %s" % (tag, want)
        assert status != "BAD" or not sure, line
        if m := re.match(r"\[APPENDUID (\d+) (\d+)\]", text):
            self.world.give((int(m.group(1)), int(m.group(2))))
            self.world.token((int(m.group(1)), int(m.group(2))), data)
        elif m := re.match(r"\[COPYUID (\d+) (\S+) (\S+)\]", text):
            self.on_copyuid(m, self.pending[0])
        elif name == "SELECT":
            self.box = data if status == "OK" else None
        elif name == "FETCH" and status == "OK" and data is not None and not uid:
            assert len(data["got"]) >= data["there"], "%d of %d messages" % (len(data["got"]), data["there"])
        self.world.counts[name + " " + status] += 1
        self.pending.popleft()

    # ---- what is done ----

    def step(self):
        actions = ["append"] * 2 + ["select"] + ["status"]
        if self.box:
            actions += ["fetch"] * 3 + ["store"] * 4 + ["copy"] * 2 + ["move"] * 2 + ["expunge"] * 2 + ["search"] * 2 + ["noop"] * 2 + ["idle"] * 2
        if self.name == "a":
            actions += ["rename"]
        for _ in range(self.rnd.choice((1, 1, 1, 2, 4))):
            action = self.rnd.choice(actions)
            getattr(self, "do_" + action)(not self.pending)
            if action in ("select", "idle"):
                break

    def some(self):
        n = len(self.view)
        a, b = self.rnd.randint(1, n), self.rnd.randint(1, n)
        return self.rnd.choice(["%d" % a, "%d:%d" % (min(a, b), max(a, b)), "%d,%d" % (a, b), "1:*", "*"])

    def known(self):
        uids = [u for u in self.view if u]
        return sorted(self.rnd.sample(uids, min(len(uids), self.rnd.randint(1, 4))))

    def do_noop(self, first):
        self.send("NOOP", self.rnd.choice(("NOOP", "CHECK")))

    def do_status(self, first):
        self.send("STATUS", "STATUS %s (MESSAGES UNSEEN UIDNEXT UIDVALIDITY RECENT)" % self.rnd.choice(BOXES))

    def do_select(self, first):
        self.drain()
        box = self.rnd.choice(BOXES + ROAMING)
        self.box, self.view, self.flags, self.validity = None, [], {}, 0
        self.send("SELECT", "SELECT " + box, data=box)
        self.drain()
        if self.box:
            self.do_fetch(True, everything=True)

    def do_append(self, first):
        self.world.serial += 1
        token = "t%d" % self.world.serial
        text = message(token, "x" * self.rnd.choice((10, 1000, 70000)) + "\r\n").decode()
        self.send("APPEND", "APPEND %s (%s) {%d+}\r\n%s" % (self.rnd.choice(BOXES), self.rnd.choice(["", "\\Seen", "$Label1"]), len(text), text), data=token)

    def do_fetch(self, first, everything=False):
        what = "(UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])" if everything or self.rnd.random() < .7 else "(UID FLAGS BODY[TEXT])"
        if everything or (first and self.rnd.random() < .5 and self.view):
            if self.view:
                self.send("FETCH", "FETCH 1:* " + what, data={"there": len(self.view), "got": []})
        elif self.view and self.rnd.random() < .5:
            self.send("FETCH", "FETCH %s %s" % (self.some(), what), sure=first)
        else:
            self.send("FETCH", "UID FETCH 1:* " + what, uid=True)

    def do_store(self, first):
        uids = self.known()
        if not uids:
            return
        flag, how = self.rnd.choice(FLAGS), self.rnd.choice(("+FLAGS", "-FLAGS", "+FLAGS.SILENT", "FLAGS"))
        if flag == "\\Deleted" and how != "-FLAGS":
            self.world.may_go.update((self.validity, u) for u in uids)
        if how.endswith("SILENT"):
            for u in uids:
                self.flags.pop(u, None)
        self.send("STORE", "UID STORE %s %s (%s)" % (",".join(map(str, uids)), how, flag), uid=True)

    def do_copy(self, first):
        if self.view:
            some = self.some() if len(self.view) < 30 else str(self.rnd.randint(1, len(self.view)))
            self.send("COPY", "COPY %s %s" % (some, self.rnd.choice(BOXES)), sure=first)

    def do_move(self, first):
        uids = self.known()
        if uids:
            self.world.may_go.update((self.validity, u) for u in uids)
            self.send("MOVE", "UID MOVE %s %s" % (",".join(map(str, uids)), self.rnd.choice(BOXES)), uid=True)

    def do_expunge(self, first):
        self.send("EXPUNGE", "EXPUNGE")

    def do_search(self, first):
        if self.rnd.random() < .5:
            self.send("SEARCH", "SEARCH " + self.rnd.choice(("ALL", "UNSEEN", "DELETED", "KEYWORD $Label1", "SUBJECT t1")))
        else:
            self.send("SEARCH", "UID SEARCH " + self.rnd.choice(("ALL", "FLAGGED", "NOT DELETED", "BODY xx")), uid=True)

    def do_rename(self, first):
        a, b = self.rnd.sample(ROAMING, 2)
        self.send("RENAME", "RENAME %s %s" % (a, b))

    def do_idle(self, first):
        self.drain()
        self.send("IDLE", "IDLE")
        while not self.wait_and_answer().startswith("+"):
            pass
        self.idling = True

    idling = False

    def wait_and_answer(self):
        line = self.wait_line()
        self.response(line)
        return line

    def pump(self):
        """Some of what the server says; starts something new when all is answered."""
        if self.idling:
            self.at_hand(0.001)
            if self.rnd.random() < .3:
                self.idling = False
                self.s.sendall(b"DONE\r\n")
            return
        if not self.pending:
            self.step()
        else:
            self.at_hand(0.001)

    # ---- the end ----

    def settle(self):
        if self.idling:
            self.idling = False
            self.s.sendall(b"DONE\r\n")
        self.drain()

    def told(self):
        """After NOOP the view is what the mailbox is, and the flags that were told are its flags."""
        self.send("NOOP", "NOOP")
        self.drain()
        believed, view = {u: f for u, f in self.flags.items() if u in self.view}, list(self.view)
        if not view:
            return
        self.send("FETCH", "FETCH 1:* (UID FLAGS)", data={"there": len(self.view), "got": []})
        self.drain()
        assert len(view) == len(self.view)
        wrong = {u: (f, self.flags[u]) for u, f in believed.items() if f != self.flags[u]}
        assert not wrong, "flags changed and nobody told: %s" % wrong
        assert None not in self.view


def test_random_sessions_against_a_model(server):
    print("seed %d" % SEED)
    rnd, world = random.Random(SEED), World()
    sessions = [Session(world, server, random.Random(rnd.random()), chr(ord("a") + i)) for i in range(SESSIONS)]
    current = sessions[0]
    try:
        for name in BOXES[1:] + ROAMING[:1]:
            current.send("CREATE", "CREATE " + name)
        current.drain()
        for box in BOXES + ROAMING[:1]:
            for _ in range(6):
                world.serial += 1
                text = message("t%d" % world.serial).decode()
                current.send("APPEND", "APPEND %s {%d+}\r\n%s" % (box, len(text), text), data="t%d" % world.serial)
        current.drain()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            current = rnd.choice(sessions)
            current.pump()
        for current in sessions:
            current.settle()
        for current in sessions:
            if current.box:
                current.told()
        assert world.gone <= world.may_go, "gone, and nobody deleted them: %s" % (world.gone - world.may_go)
        by_box = {}
        for current in sessions:  # all who look at the same mailbox see the same
            if current.box:
                assert by_box.setdefault(current.validity, current.view) == current.view
        for current in sessions:
            current.send("LOGOUT", "LOGOUT")
            while "BYE" not in current.wait_line():
                pass
            current.s.close()
    except (AssertionError, OSError) as e:
        raise AssertionError("%s\nseed %d, session %s in %s:\n%s" % (e, SEED, current.name, current.box, "\n".join(current.log))) from e
    print(dict(world.counts))
    for needed in ("EXISTS", "EXPUNGE", "FETCH", "MOVE OK", "COPY OK", "STORE OK", "APPEND OK", "IDLE OK", "SEARCH OK"):
        assert world.counts[needed] >= 5, world.counts
