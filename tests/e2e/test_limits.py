"""Limits of clients in tallyd: across fronts, restarts and crashes; the tarpit; what an operator sees and lifts. Clients of other
networks come through the PROXY protocol."""
import json
import os
import re
import signal
import socket

import waypost as wp
from waypost import until


def limited(instances, limits="", **kw):
    """An instance that counts every client but its own loopback ones, which name others in a PROXY header."""
    sections = dict(kw.pop("sections", {}), limits=limits)
    w = instances("a", start=False, sections=sections, **kw)
    w.write_conf()
    with open(w.conf) as f:
        text = f.read()
    with open(w.conf, "w") as f:
        f.write(re.sub(r"(listen \w+ \{)", r"\1 proxy yes; proxy-from 127.0.0.0/8;", text))
    return w.start()


class Client:
    def __init__(self, w, who, port="mx"):
        self.s = socket.create_connection((w.address, w.ports[port]), timeout=wp.PATIENCE)
        family = "TCP6 %s 2001:db8::1" if ":" in who else "TCP4 %s 198.51.100.1"
        self.s.sendall(("PROXY " + family % who + " 40000 25\r\n").encode())
        self.f = self.s.makefile("rb", buffering=0)
        self.greeting = self.f.readline().decode()

    def say(self, text):
        self.s.sendall((text + "\r\n").encode())
        while True:
            line = self.f.readline().decode()
            if line[3:4] != "-":
                return line

    def close(self):
        self.f.close()
        self.s.close()


def shown(w, who):
    r = w.waypost("--json", "client", "show", who, check=False)
    return json.loads(r.stdout)[0] if r.returncode == 0 else None


def sessions(w, who):
    return (shown(w, who) or {"sessions": -1})["sessions"]


def change(w, old, new):
    with open(w.conf) as f:
        text = f.read()
    assert old in text
    with open(w.conf, "w") as f:
        f.write(text.replace(old, new))
    w.waypost("reload")


def test_sessions_at_a_time_are_counted_over_both_smtp_fronts(instances):
    w = limited(instances, "tarpit 0;", sections={"smtp": "max-connections-per-client 2;"})
    who = "192.0.2.1"
    a, b = Client(w, who), Client(w, who, "submission")
    assert a.greeting[:4] == b.greeting[:4] == "220 "
    for port in ("mx", "submission"):
        c = Client(w, who, port)
        assert c.greeting == "421 4.7.0 Too many connections from your address at a time\r\n" and c.f.readline() == b""
        c.close()
    assert Client(w, "192.0.2.2").greeting.startswith("220 ")
    imap = Client(w, who, "imap")  # another kind
    assert imap.greeting.startswith("* OK")
    assert sessions(w, who) == 3
    row = shown(w, who)
    assert row["client"] == who and row["state"] == "refused" and row["turned-away"] == 2 and "at a time" in row["why"]
    assert [r["client"] for r in w.rows("client", "list")] == [who]
    assert who in w.waypost("client", "list").stdout
    a.close()
    until(lambda: sessions(w, who) == 2, "the place of the one that left")
    again = Client(w, who, "submission")
    assert again.greeting.startswith("220 ")
    # an IPv6 /64 is one client
    six = [Client(w, "2001:db8:1:2::%d" % i) for i in range(3)]
    assert [c.greeting[:3] for c in six] == ["220", "220", "421"]
    assert Client(w, "2001:db8:1:3::1").greeting.startswith("220 ")
    for text in ("2001:db8:1:2::7", "2001:db8:1:2::/64"):
        assert shown(w, text)["client"] == "2001:db8:1:2::/64"


def pids(w):
    return sorted(r["pid"] for r in w.rows("status") if r["service"].startswith("smtpd-mx") and r["state"] == "ready")


def test_several_programs_at_one_port_count_together(instances):
    """A client is counted over all instances of a role, and the places that one of them held come back when it dies."""
    w = limited(instances, "connection-rate 5; rate-window 1d; tarpit 0;", sections={"smtp": "instances 2; max-connections-per-client 4;"})
    one, two = running = pids(w)
    who = "192.0.2.1"

    def through(other, count):
        """Connections that one takes because the other one is held still."""
        os.kill(other, signal.SIGSTOP)
        try:
            return [Client(w, who) for _ in range(count)]
        finally:
            os.kill(other, signal.SIGCONT)
    a, b = through(two, 2), through(one, 2)
    assert all(c.greeting.startswith("220 ") for c in a + b) and sessions(w, who) == 4
    for other in (one, two):
        assert through(other, 1)[0].greeting == "421 4.7.0 Too many connections from your address at a time\r\n"
    os.kill(one, signal.SIGKILL)
    assert all(c.f.readline() == b"" for c in a)
    until(lambda: sessions(w, who) == 2, lambda: "the places of the one that died: %s" % shown(w, who))
    assert all(c.say("NOOP").startswith("250") for c in b)
    until(lambda: len(pids(w)) == 2 and pids(w) != running, "it is back")
    # so far four came in: one more, whoever takes it, and the rate of both together is reached
    assert shown(w, who)["smtp-connections"] == 4 and shown(w, who)["turned-away"] == 2
    assert Client(w, who).greeting.startswith("220 ")
    assert Client(w, who).greeting == "421 4.7.0 Too many connections from your address, try again later\r\n"


def test_places_of_a_front_that_died_are_given_back_and_a_new_tallyd_learns_who_is_there(instances):
    w = limited(instances, "tarpit 0;", sections={"smtp": "max-connections-per-client 2;"})
    who = "192.0.2.1"
    mx, sub = Client(w, who), Client(w, who, "submission")
    assert sessions(w, who) == 2
    os.kill(w.services()["smtpd-mx"]["pid"], signal.SIGKILL)
    assert mx.f.readline() == b""
    until(lambda: sessions(w, who) == 1, "the dead front's session given back")
    until(lambda: w.services()["smtpd-mx"]["state"] == "ready", "smtpd-mx again")
    fresh = Client(w, who)
    assert fresh.greeting.startswith("220 ")
    os.kill(w.services()["tallyd"]["pid"], signal.SIGKILL)
    until(lambda: sessions(w, who) == 2, "the new tallyd learns of both")
    late = Client(w, who)
    assert late.greeting.startswith("421 4.7.0 ")
    assert sub.say("NOOP").startswith("250") and fresh.say("NOOP").startswith("250")


def test_without_tallyd_the_door_stays_open(instances):
    w = limited(instances, "connection-rate 1; tarpit 0;")
    who = "192.0.2.1"
    assert Client(w, who).greeting.startswith("220 ")
    assert Client(w, who).greeting == "421 4.7.0 Too many connections from your address, try again later\r\n"
    pid = w.services()["tallyd"]["pid"]
    os.kill(pid, signal.SIGSTOP)  # late
    c = Client(w, who)
    assert c.greeting.startswith("220 ")
    for line in ("HELO c.test", "MAIL FROM:<c@remote.test>", "RCPT TO:<bob@example.test>"):
        assert c.say(line).startswith("250"), line
    assert c.say("DATA").startswith("354") and c.say("Subject: open\r\n\r\nx\r\n.").startswith("250 2.0.0 ")
    w.wait_log('tally-silent why="tallyd is late"')
    os.kill(pid, signal.SIGKILL)  # gone
    until(lambda: w.services()["tallyd"]["pid"] not in (0, pid) and w.services()["tallyd"]["state"] == "ready", "tallyd again")
    w.wait_queue_empty()
    until(lambda: shown(w, who), "who is there is known")


def test_a_rate_is_refused_and_lifted(instances):
    w = limited(instances, "connection-rate 3; rate-window 1d; tarpit 0;")
    who = "192.0.2.1"
    for _ in range(3):
        assert Client(w, who).greeting.startswith("220 ")
    c = Client(w, who)
    assert c.greeting == "421 4.7.0 Too many connections from your address, try again later\r\n"
    w.wait_log("client-refused client=192.0.2.1 front=smtpd-mx ")
    assert Client(w, who, "imap").greeting.startswith("* OK"), "kinds count apart"
    row = shown(w, who)
    assert row["state"] == "refused" and row["smtp-connections"] == 3 and row["turned-away"] == 1
    # an operator lifts it
    assert "forgotten" in w.waypost("client", "forget", who).stdout
    assert Client(w, who).greeting.startswith("220 ")
    for _ in range(2):
        Client(w, who)
    assert Client(w, who).greeting.startswith("421 ")
    # other settings, at once
    change(w, "connection-rate 3;", "connection-rate 3; exempt 127.0.0.0/8 192.0.2.0/24;")
    for _ in range(5):
        assert Client(w, who).greeting.startswith("220 ")
    r = w.waypost("client", "show", who, check=False)
    assert r.returncode == 3 and "exempt" in r.stderr
    for bad in ("x", "192.0.2", "192.0.2.1/8", "mail.example.test"):
        assert w.waypost("client", "show", bad, check=False).returncode == 2
    assert w.waypost("client", "show", "203.0.113.200", check=False).returncode == 3
    assert w.waypost("client", "list", "x", check=False).returncode == 2


def hand_in(c, n):
    for _ in range(n):
        for line in ("MAIL FROM:<c@remote.test>", "RCPT TO:<bob@example.test>"):
            assert c.say(line).startswith("250 "), line
        assert c.say("DATA").startswith("354 ") and c.say("Subject: many\r\n\r\nx\r\n.").startswith("250 ")


def test_messages_of_a_session_count_while_it_lasts(instances):
    w = limited(instances, "message-rate 50; rate-window 1d; tarpit 0;")
    who = "192.0.2.1"
    a, b = Client(w, who), Client(w, who)
    for c in (a, b):
        assert c.say("HELO c.test").startswith("250 ")
    hand_in(a, 20)
    until(lambda: shown(w, who)["messages"] == 20, "its messages, told while it is there")
    hand_in(a, 5)
    hand_in(b, 20)
    until(lambda: shown(w, who)["messages"] == 40, "those of both")
    assert Client(w, who).greeting.startswith("220 ")
    hand_in(b, 5)
    until(lambda: shown(w, who)["messages"] == 45, "told sooner where the limit is near")
    a.say("QUIT"), b.say("QUIT")
    until(lambda: shown(w, who)["messages"] == 50, "each once")
    assert Client(w, who).greeting == "421 4.7.0 Too many messages from your address, try again later\r\n"
    assert Client(w, "192.0.2.2").greeting.startswith("220 ")


def test_open_sessions_are_held_to_the_rate_of_messages(instances):
    """At the limit an open session is put off at MAIL, whatever it has open goes on, and it may go on when there is room again."""
    w = limited(instances, "message-rate 6; rate-window 1d; tarpit 50ms;")
    who = "192.0.2.1"
    a, b = Client(w, who), Client(w, who)
    said = []

    def mail(c):
        said.append(c.say("MAIL FROM:<c@remote.test>"))
        if said[-1].startswith("250 "):
            assert c.say("RCPT TO:<bob@example.test>").startswith("250 ") and c.say("DATA").startswith("354 ")
            assert c.say("Subject: many\r\n\r\nx\r\n.").startswith("250 ")
        return said[-1]
    for c in (a, b):
        assert c.say("HELO c.test").startswith("250 ")
    until(lambda: mail(a)[:3] == "450", "the limit")
    assert said[-1] == "450 4.7.0 Too many messages from your address, try again later\r\n"
    assert 6 <= sum(s.startswith("250 ") for s in said) <= 8 and {s[:3] for s in said} == {"250", "450"}
    assert "Too many messages" in w.wait_log("client-slowed client=192.0.2.1 ", 1)[0]  # before that
    assert a.say("NOOP").startswith("250 ") and a.say("RCPT TO:<bob@example.test>").startswith("503 ")
    # the other session of that client learns of it with what it hands in
    del said[:]
    until(lambda: mail(b)[:3] == "450", "the other session's turn")
    assert 1 <= len([s for s in said if s.startswith("250 ")]) <= 8
    assert Client(w, "192.0.2.2").say("HELO c.test").startswith("250 ")
    change(w, "rate-window 1d; tarpit 50ms;", "rate-window 10s; tarpit 0;")
    w.waypost("client", "forget", who)
    c = Client(w, who)
    assert c.say("HELO c.test").startswith("250 ")
    until(lambda: mail(c)[:3] == "450", "the limit")
    until(lambda: mail(c)[:3] == "250", "room again, in the same session")


def test_an_open_session_that_finds_the_tarpit_full_goes_on(instances):
    """Without room to be slowed it is served to its limit, and put off there as the others."""
    w = limited(instances, "message-rate 6; rate-window 1d; tarpit 50ms; tarpit-sessions 1;")
    for who in ("192.0.2.1", "192.0.2.2"):  # the first one stays in the tarpit
        c = Client(w, who)
        assert c.say("HELO c.test").startswith("250 ")
        said = []
        while not said or said[-1] != "450":
            said.append(c.say("MAIL FROM:<c@remote.test>")[:3])
            assert said[-1] in ("250", "450") and len(said) < 50, said
            if said[-1] == "250":
                assert c.say("RCPT TO:<bob@example.test>").startswith("250 ") and c.say("DATA").startswith("354 ")
                assert c.say("Subject: many\r\n\r\nx\r\n.").startswith("250 ")
        assert 6 <= said.count("250") <= 8, said
        w.first = getattr(w, "first", c)


def test_faults_of_sessions_beside_each_other_count_while_they_last(instances):
    """Guessing names in many sessions at once: what one has learned is held against all."""
    w = limited(instances, "refused-recipients 30; errors 30; window 1d; tarpit 0;", sections={"smtp": "max-refused 1000; max-errors 1000;"})
    who = "192.0.2.1"
    a, b, c = [Client(w, who) for _ in range(3)]
    for x in (a, b, c):
        assert x.say("HELO c.test").startswith("250 ") and x.say("MAIL FROM:<c@remote.test>").startswith("250 ")
    said = [a.say("RCPT TO:<n%d@example.test>" % i) for i in range(20)]
    assert {s[:3] for s in said} == {"550"}
    until(lambda: shown(w, who)["refused-recipients"] == 20, "those of the session that is there")
    until(lambda: b.say("RCPT TO:<guess@example.test>")[:3] != "550", "the limit")
    until(lambda: "client-refused client=192.0.2.1" in w.logged(), "the log says so")
    assert 30 <= shown(w, who)["refused-recipients"] <= 60 and "wrong recipients" in w.wait_log("client-refused client=192.0.2.1")[0]
    assert Client(w, who).greeting == "421 4.7.0 Too many wrong recipients from your address, try again later\r\n"
    # the other one may finish its message, and learns of it with its own faults
    assert c.say("RCPT TO:<bob@example.test>").startswith("250 ") and c.say("DATA").startswith("354 ") and c.say("x\r\n.").startswith("250 ")
    other = Client(w, "192.0.2.2")
    assert other.say("HELO c.test").startswith("250 ")
    last = []
    until(lambda: last.append(other.say("NONSENSE")) or last[-1][:3] != "500", "the limit of errors")
    assert 30 <= len(last) <= 60 and last[-1] == "421 4.7.0 Too many errors from your address, try again later\r\n"


def test_sessions_at_a_time_are_slowed_before_they_are_refused(instances):
    w = limited(instances, "tarpit 100ms;", sections={"smtp": "max-connections-per-client 4;"})
    who = "192.0.2.1"
    clients = [Client(w, who) for _ in range(4)]
    assert [c.greeting[:3] for c in clients] == ["220"] * 4
    lines = w.wait_log("client-slowed client=192.0.2.1 ", 2)
    assert [int(re.search(r"slow_ms=(\d+)", l).group(1)) for l in lines] == [50, 100]
    assert all("at a time" in l for l in lines)
    assert Client(w, who).greeting.startswith("421 ")


def test_a_full_bucket_leaks(instances):
    w = limited(instances, "connection-rate 2; rate-window 1d; tarpit 0;")
    who = "192.0.2.1"
    assert [Client(w, who).greeting[:3] for _ in range(3)] == ["220", "220", "421"]
    change(w, "rate-window 1d;", "rate-window 1s;")
    until(lambda: Client(w, who).greeting.startswith("220 "), "the rate is allowed again")


def test_what_goes_wrong_counts_beyond_the_session_and_a_restart(instances):
    w = limited(instances, "errors 4; refused-recipients 3; window 30d; tarpit 0;")
    who, other = "192.0.2.1", "2001:db8:5::1"
    c = Client(w, who)
    for _ in range(4):
        assert c.say("NONSENSE").startswith("500 ")
    c.close()
    until(lambda: (shown(w, who) or {"errors": 0})["errors"] == 4, "its errors")
    d = Client(w, other)
    d.say("HELO c.test"), d.say("MAIL FROM:<c@remote.test>")
    for i in range(3):
        assert d.say("RCPT TO:<nobody%d@example.test>" % i).startswith("550 ")
    d.say("QUIT")
    until(lambda: (shown(w, other) or {"refused-recipients": 0})["refused-recipients"] == 3, "its recipients")
    want = {who: "421 4.7.0 Too many errors from your address, try again later\r\n",
            other: "421 4.7.0 Too many wrong recipients from your address, try again later\r\n"}
    assert {k: Client(w, k).greeting for k in want} == want
    assert w.stop() == 0
    w.start()
    assert {k: Client(w, k).greeting for k in want} == want
    assert {r["client"] for r in w.rows("client", "list")} == {who, "2001:db8:5::/64"}
    w.waypost("client", "forget", other)
    assert w.stop() == 0
    w.start()
    assert {k: Client(w, k).greeting[:3] for k in want} == {who: "421", other: "220"}


def test_a_broken_file_is_set_aside(instances):
    w = limited(instances)
    w.stop()
    path = w.dir + "/state/tally/tally.db"
    with open(path, "r+b") as f:
        f.write(b"\0" * 8192)
    w.start()
    assert os.path.exists(path + ".broken") and "tally-file" in w.logged()
    assert Client(w, "192.0.2.1").greeting.startswith("220 ")


def test_the_tarpit_slows_then_sheds(instances):
    w = limited(instances, "connection-rate 4; rate-window 1d; tarpit 300ms; tarpit-sessions 2;")
    who = "192.0.2.1"
    clients = [Client(w, who) for _ in range(4)]
    assert [c.greeting[:3] for c in clients] == ["220"] * 4
    lines = w.wait_log("client-slowed client=192.0.2.1 ", 2)
    delays = [int(re.search(r"slow_ms=(\d+)", l).group(1)) for l in lines]
    assert len(delays) == 2 and 0 < delays[0] < delays[1] <= 300
    for c in clients:  # slowed ones are served, too
        assert c.say("HELO c.test").startswith("250 ") and c.say("MAIL FROM:<c@remote.test>").startswith("250 ")
        assert c.say("RCPT TO:<bob@example.test>").startswith("250 ") and c.say("DATA").startswith("354 ")
        assert c.say("Subject: slow\r\n\r\nx\r\n.").startswith("250 ")
    assert shown(w, who)["messages"] == 0, "so few are told at the end of a session"
    w.waypost("client", "forget", who)
    other = "192.0.2.9"
    full = [Client(w, other) for _ in range(4)]  # the last two would have to be slowed, and both places are taken
    assert [c.greeting for c in full[2:]] == ["421 4.7.0 Too many clients are being slowed down, try again later\r\n"] * 2
    for c in clients:
        c.say("QUIT")
    until(lambda: shown(w, who)["messages"] == 4, "its messages")


def test_errors_within_a_session_are_slowed(instances):
    w = limited(instances, "tarpit 100ms; tarpit-sessions 1;", sections={"smtp": "max-errors 6;"})
    c = Client(w, "192.0.2.1")
    assert [c.say("NONSENSE")[:3] for _ in range(7)] == ["500"] * 6 + ["421"]
    assert c.f.readline() == b""
    d, e = Client(w, "192.0.2.2"), Client(w, "192.0.2.3")
    assert [d.say("NONSENSE")[:3] for _ in range(4)] == ["500"] * 4
    assert [e.say("NONSENSE")[:3] for _ in range(4)] == ["500"] * 4  # the only place is d's:
    assert e.f.readline().startswith(b"421 4.7.0 ") and e.f.readline() == b""
    assert d.say("NOOP").startswith("250 ")
