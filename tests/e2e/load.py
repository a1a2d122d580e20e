"""Work for a server that may be killed at any moment: messages through its doors from several threads, and readers. What was acknowledged is
remembered, and what may have been taken.

    load = Load(server, 200, "r0", (ByMx, ByImap), (Pop3Reader,)).start(); ...; load.join()
    load.acked, load.unsure, load.read
"""
import base64
import collections
import imaplib
import itertools
import os
import poplib
import queue
import re
import smtplib
import subprocess
import threading
import time

import waypost as wp
from waypost import message

ALICE, BOB = "alice@example.test", "bob@example.test"
ABROAD = "fwd@example.test"  # an alias of ours that leads to another host
SENDERS = 10
ATTEMPTS = 600
FAILURES = (OSError, smtplib.SMTPException, imaplib.IMAP4.error, poplib.error_proto, EOFError)  # a connection's, not a test's


def subject(m):
    return re.search(rb"^Subject: (\S+)\r?$", m, re.M).group(1).decode()


class _Smtp:
    def __init__(self, server):
        self.s = self.connect(server)
        self.s.ehlo_or_helo_if_needed()

    def send(self, ident, i, body, at_risk):
        code, text = self.s.mail(self.SENDER)
        if code == 250:
            code, text = self.s.rcpt(ABROAD if i % 2 else BOB)
        if code == 250:
            code, text = self.s.docmd("DATA")
        if code == 354:
            at_risk()
            self.s.send(message(ident, body) + b".\r\n")
            code, text = self.s.getreply()
            if code == 250:
                return True
        self.said = code, text
        assert code < 500, "refused for good: %s %s" % (code, text)
        self.s.rset()
        return False

    def close(self):
        self.s.close()


class ByMx(_Smtp):
    SENDER = "carol@elsewhere.test"

    def connect(self, server):
        return server.smtp("mx")


class BySubmission(_Smtp):
    SENDER = ALICE

    def connect(self, server):
        return server.submit(ALICE)


class ByToken(_Smtp):
    """Each message in a session of its own, whose login only the issuer of its token can judge."""
    SENDER = ALICE
    numbers = itertools.count()

    def __init__(self, server):
        self.server, self.s = server, None

    def connect(self, server):
        s = server.smtp("submission")
        s.starttls(context=server.tls())
        s.ehlo()
        code, text = s.docmd("AUTH", "OAUTHBEARER " + base64.b64encode(b"n,,\1auth=Bearer good.alice.%d\1\1" % next(self.numbers)).decode())
        assert code < 500, "a good token was refused: %s %s" % (code, text)
        if code != 235:
            raise smtplib.SMTPAuthenticationError(code, text)
        return s

    def send(self, ident, i, body, at_risk):
        self.close()
        self.s = self.connect(self.server)
        return super().send(ident, i, body, at_risk)

    def close(self):
        if self.s:
            self.s.close()


class ByImap:
    """APPEND to alice's INBOX."""

    def __init__(self, server):
        self.c = server.imap(ALICE)

    def send(self, ident, i, body, at_risk):
        at_risk()
        return self.c.append("INBOX", None, None, message(ident, body))[0] == "OK"

    def close(self):
        self.c.shutdown()


class ByCommand:
    """sendmail: what it can't hand in is kept in the drop directory, and as good as handed in."""

    def __init__(self, server):
        self.env = dict(os.environ, WAYPOST_CONFIG=server.conf)

    def send(self, ident, i, body, at_risk):
        at_risk()
        r = subprocess.run(["sendmail", "-i", "-f", ALICE, ABROAD if i % 2 else BOB], executable=wp.PROGRAMS + "/waypost", env=self.env,
                           input=message(ident, body).replace(b"\r\n", b"\n"), capture_output=True, timeout=wp.PATIENCE)
        assert r.returncode in (0, 75), r.stderr
        return r.returncode == 0

    def close(self):
        pass


class Pop3Reader:
    """Takes bob's mail out of his mailbox. read: what came before its deletion was acknowledged; doubtful: was not answered."""

    def __init__(self, load):
        self.load = load

    def run(self):
        while not self.load.senders_are_through():
            try:
                self.once()
            except FAILURES:
                time.sleep(0.01)

    def once(self):
        c = self.load.server.pop3(BOB)
        got = []
        try:
            for n in range(1, min(c.stat()[0], 20) + 1):
                got.append(subject(b"\r\n".join(c.retr(n)[1])))
                c.dele(n)
            self.load.doubtful.update(got)
            c.quit()
            self.load.doubtful.subtract(got)
            self.load.read.update(got)
        finally:
            c.close()


class Load:
    """`total` messages, from SENDERS threads that take turns at the doors."""

    def __init__(self, server, total, tag, doors, readers=()):
        self.server, self.total, self.tag = server, total, tag
        self.work = queue.Queue()
        for i in range(total):
            self.work.put(i)
        self.acked, self.unsure, self.lock = [], [], threading.Lock()
        self.read, self.doubtful = collections.Counter(), collections.Counter()
        self.senders = [threading.Thread(target=self.run, args=(doors[k % len(doors)],), daemon=True) for k in range(SENDERS)]
        self.readers = [threading.Thread(target=r(self).run, daemon=True) for r in readers]

    def start(self):
        [t.start() for t in self.senders + self.readers]
        return self

    def senders_are_through(self):
        return not any(t.is_alive() for t in self.senders)

    def over(self):
        return not any(t.is_alive() for t in self.senders + self.readers)

    def join(self):
        [t.join(300) for t in self.senders + self.readers]
        assert self.over(), "a client hangs"
        assert len(self.acked) == self.total, "a sender gave up"

    def run(self, door):
        way = None
        while True:
            try:
                i = self.work.get_nowait()
            except queue.Empty:
                return
            body = ("x" * 60 + "\r\n") * (1500 if i % 25 == 0 else 20)
            last = None
            for attempt in range(ATTEMPTS):
                ident, sent = "%s-%d-%d" % (self.tag, i, attempt), []  # an attempt that may have succeeded is not made again
                try:
                    way = way or door(self.server)
                    if way.send(ident, i, body, lambda: sent.append(True)):
                        with self.lock:
                            self.acked.append(ident)
                        break
                except FAILURES as e:
                    last = e
                    if way:
                        way.close()
                    way = None
                if sent:
                    with self.lock:
                        self.unsure.append(ident)
                time.sleep(0.05)
            else:
                raise AssertionError("never accepted: %s by %s: %r, %s" % (ident, door.__name__, last, getattr(way, "said", "")))
