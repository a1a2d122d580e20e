"""The queue as its operator sees it: what waits and why, held, released, removed; a full disk; a crash with large messages; a backlog larger
than memory may hold."""
import contextlib
import json
import os
import pty
import re
import subprocess
import time

import pytest

import waypost as wp
from waypost import message, until

REFUSED = {"mx": ("127.0.0.1", 1), "sections": {"queue": "retry-min 60s; retry-max 120s;"}}


@pytest.fixture
def deferring(instances):
    """An instance whose mail to others stays in the queue."""
    return instances("a", **REFUSED)


def submit(w, *rcpts, subject="queued", body="text\r\n"):
    with w.submit("alice@example.test") as s:
        s.sendmail("alice@example.test", list(rcpts), message(subject, body, sender="alice@example.test"))


def deferred(w, n):
    return until(lambda: (lambda q: q if len(q) == n and all(r["attempts"] and not r["activity"] for r in q) else None)(w.queue()), lambda: "%d deferred: %s" % (n, w.queue()))


def test_list_show_and_why(deferring):
    w = deferring
    submit(w, "x@far.test", "y@other.test")
    rows = deferred(w, 2)
    qid = rows[0]["id"]
    assert {r["recipient"] for r in rows} == {"x@far.test", "y@other.test"} and {r["id"] for r in rows} == {qid}
    assert rows[0]["state"] == "waiting" and "refused" in rows[0]["reason"].lower() and rows[0]["sender"] == "alice@example.test"
    assert [r["recipient"] for r in w.rows("queue", "list", "other.test")] == ["y@other.test"]
    assert [r["recipient"] for r in w.rows("queue", "list", "--recipient", "X@Far.Test")] == ["x@far.test"]
    assert len(w.rows("queue", "list", "--limit", "1")) == 1
    assert w.rows("queue", "list", "--sender", "nobody@example.test") == []
    shown = w.rows("queue", "show", qid)
    assert shown[0]["origin"] == "submission" and shown[0]["account"] > 0
    assert [r["recipient"] for r in shown[1:3]] == [r["recipient"] for r in rows] and [r["event"] for r in shown[3:]] == ["accepted", "deferred", "deferred"]
    facts, *why = w.rows("queue", "why", qid)
    assert facts["login"] == "alice@example.test" and facts["tls"].startswith("TLSv1.3") and facts["expires"]
    assert [r["event"] for r in why[2:]] == ["accepted", "deferred", "deferred"] and "Next attempt in" in why[0]["why"] and "refused" in why[0]["last-response"].lower()
    assert w.waypost("queue", "show", "1K000000000", check=False).returncode == 3
    assert w.waypost("queue", "remove", check=False).returncode == 2


@pytest.mark.parametrize("lines", [3, 3000], ids=["in the database", "in a file"])
def test_the_content_on_request(deferring, lines):
    w = deferring
    body = "".join("line %d J\u00f6rg \x1b[2J\t|\r\n" % i for i in range(lines)).encode() + b"zero\x00 and \xff here\r\n" + b"long " * 20000 * (lines > 1000) + b"\r\n"
    with w.submit("alice@example.test") as s:
        s.mail("alice@example.test", ["BODY=BINARYMIME"])
        s.rcpt("x@far.test")
        content = message("shown", "", sender="alice@example.test") + body
        s.putcmd("BDAT %d LAST" % len(content))
        s.send(content)
        assert s.getreply()[0] == 250
    qid = deferred(w, 1)[0]["id"]
    show = lambda *a: subprocess.run([wp.PROGRAMS + "/waypost", "-c", w.conf, "queue", "show", qid, *a], check=True, capture_output=True).stdout
    raw = show("--raw")
    assert raw.endswith(body) and b"\r\nSubject: shown\r\n" in raw and raw.startswith(b"Received: ")
    clean = body.replace(b"\r\n", b"\n").replace(b"\x1b", b"\\x1b").replace(b"\x00 and \xff", b"\\x00 and \\xff")
    headers = raw[:len(raw) - len(body) - 2].replace(b"\r\n", b"\n")
    assert show("--headers") == headers and headers.endswith(b">\n") and b"Subject: shown\n" in headers
    assert show("--body") == clean
    master, slave = pty.openpty()
    p = subprocess.Popen([wp.PROGRAMS + "/waypost", "-c", w.conf, "queue", "show", qid, "--raw"], stdout=slave)
    os.close(slave)
    seen = b""
    with contextlib.suppress(OSError):
        while True:
            seen += os.read(master, 65536)
    os.close(master)
    assert p.wait() == 0 and seen.replace(b"\r\n", b"\n") == headers + b"\n" + clean, "nothing that a terminal obeys"
    assert len(w.rows("queue", "show", qid, "--body")) == (1 if lines == 3 else len(body) // 32768 + 1 + (b"long" in body))
    assert len(w.wait_log(r"content-shown qid=%s what=\S+ uid=%d" % (qid, os.geteuid()), 5)) == 5
    for bad in (["--body", "--raw"], ["--body"], [qid, qid], [qid, "--tail"]):
        assert w.waypost("queue", "show", *bad, check=False).returncode == 2, bad
    assert w.waypost("queue", "show", "1K000000000", "--body", check=False).returncode == 3


def test_pages_and_filters(deferring):
    w = deferring
    submit(w, *["u%d@far.test" % i for i in range(5)])
    submit(w, "big@far.test", "x@other.test", body=("w" * 70 + "\r\n") * 2000)
    deferred(w, 7)
    whole = [r["recipient"] for r in w.queue()]
    for limit, which in ((2, []), (3, ["--domain", "far.test"]), (1, ["far.test"]), (1, ["--state", "waiting"])):
        want = [r["recipient"] for r in w.rows("queue", "list", *which)]
        assert want == ([r for r in whole if r.endswith("@far.test")] if which and "far.test" in which else whole)
        got, more = [], []
        while True:
            said = w.waypost("queue", "list", *which, "--limit", str(limit), *more).stdout
            rows = w.rows("queue", "list", *which, "--limit", str(limit), *more)
            got += [r["recipient"] for r in rows]
            assert len(rows) <= limit
            if "There is more" not in said:
                break
            more = ["--after", re.search(r"--after (\S+)", said).group(1)]
        assert got == want, which
    first = w.queue()[0]["id"]
    listed = lambda *which: sorted({r["recipient"] for r in w.rows("queue", "list", *which)})
    assert listed("--after", first) == listed("--larger", "100K") == ["big@far.test", "x@other.test"] and len(listed("--smaller", "100K")) == 5
    assert listed("--older", "1h") == [] and len(listed("--newer", "1h")) == 7 and listed("--older", "2020-01-01") == []
    for bad in (["--older", "soon"], ["--larger", "x"], ["--after", "0"], ["--after", first + "."], ["--older"]):
        assert w.waypost("queue", "list", *bad, check=False).returncode == 2, bad
    w.waypost("queue", "remove", "--smaller", "100K", "--yes")
    assert listed() == ["big@far.test", "x@other.test"]


def test_hold_release_retry_remove(deferring):
    w = deferring
    submit(w, "x@far.test", "y@other.test")
    qid = deferred(w, 2)[0]["id"]
    w.waypost("queue", "hold", "y@other.test")
    held = w.rows("queue", "list", "--state", "held")
    assert [r["recipient"] for r in held] == ["y@other.test"]
    w.waypost("queue", "retry", qid)
    until(lambda: [r for r in w.queue() if r["recipient"] == "x@far.test" and r["attempts"] == 2], "a second attempt")
    assert w.rows("queue", "list", "--state", "held")[0]["attempts"] == 1, "held is held"
    w.waypost("queue", "release", "--all")
    until(lambda: [r for r in w.queue() if r["recipient"] == "y@other.test" and r["attempts"] == 2], "attempted after its release")
    w.waypost("queue", "remove", qid)
    w.wait_queue_empty()
    assert not os.listdir(w.dir + "/state/queue/spool")
    w.wait_log(r" removed .*qid=%s" % qid, 2)
    assert not [l for l in w.logged().splitlines() if " bounced " in l], "nobody is told"


def test_held_mail_survives_a_restart_and_stays_held(deferring):
    w = deferring
    submit(w, "x@far.test", body="z" * 70 + "\r\n")
    deferred(w, 1)
    w.waypost("queue", "hold", "--all")
    w.stop()
    w.start()
    assert [r["state"] for r in w.queue()] == ["held"]


def test_large_messages_wait_in_files_that_go_with_them(deferring):
    w = deferring
    body = ("w" * 70 + "\r\n") * 2000
    submit(w, "x@far.test", body=body)
    qid = deferred(w, 1)[0]["id"]
    assert os.listdir(w.dir + "/state/queue/spool") == [qid]
    open(w.dir + "/state/queue/spool/0123456789A", "w").close()  # what a crash before a commit leaves
    w.stop(kill=True)
    w.start()
    assert os.listdir(w.dir + "/state/queue/spool") == [qid]
    os.unlink(w.dir + "/state/queue/spool/" + qid)  # a damaged disk: the sender hears of it
    w.waypost("queue", "retry", qid)
    raw = w.wait_inbox("alice@example.test", 1)[0]
    assert b"Status: 5.3.0" in raw and b"content was lost" in raw
    w.wait_queue_empty()


def test_a_full_disk_closes_the_door_and_opens_it_again(instances):
    w = instances("a", sections={"queue": "min-free 1000G;"}, start=False)
    w.write_conf()
    w.start()
    code, text = smtp_mail(w)
    assert code == 452 and text.startswith(b"4.3.1"), (code, text)
    conf = open(w.conf).read()
    with open(w.conf, "w") as f:
        f.write(conf.replace("min-free 1000G", "min-free 1M"))
    w.waypost("reload")
    until(lambda: smtp_mail(w)[0] == 250, "open again")


def smtp_mail(w):
    with w.smtp() as s:
        s.ehlo()
        return s.mail("carol@remote.test")


def test_a_backlog_larger_than_memory_may_hold_is_worked_off(instances):
    from mtasink import Sink
    with Sink(wp.fresh_address(), replies={"greeting": ["421 4.3.2 not now"] * 3 + ["220 sink"]}) as sink:
        w = instances("a", mx=(sink.address, sink.port), sections={"queue": "max-active 20; retry-min 1s; retry-max 2s;"})
        rcpts = ["u%d@d%d.test" % (i, i % 7) for i in range(150)]
        submit(w, *rcpts)
        w.wait_queue_empty(patience=90)
        got = [r for m in sink.messages() for r in m.rcpts]
        assert sorted(got) == sorted(rcpts), "each once"


def test_a_slow_destination_does_not_hold_up_another(instances):
    from mtasink import Sink
    with Sink(wp.fresh_address(), rcpt={"slow%d@far.test" % i: ["hang"] for i in range(8)}) as sink:
        w = instances("a", mx=(sink.address, sink.port))
        for i in range(8):
            submit(w, "slow%d@far.test" % i, subject="slow%d" % i)
        began = time.monotonic()
        submit(w, "x@near.test", subject="quick")
        until(lambda: [m for m in sink.messages() if "x@near.test" in m.rcpts], "the other destination's message")
        assert time.monotonic() - began < 20
        w.waypost("queue", "remove", "--all", "--yes")


def test_several_queries_at_once(instances):
    """Each sees the whole queue, while others read it, too, one of them does not read what it is told, and some of it changes."""
    w = instances("a", sections={"domain far.test": "hold yes;"})
    rcpts = ["u%d@far.test" % i for i in range(1500)]
    submit(w, *rcpts[:750])
    submit(w, *rcpts[750:])
    until(lambda: len(w.rows("queue", "list", "--state", "parked")) == 1500, "all of them wait")
    command = [wp.PROGRAMS + "/waypost", "-c", w.conf]
    stuck = subprocess.Popen(command + ["queue", "list"], stdout=subprocess.PIPE)
    lists = [subprocess.Popen(command + ["--json", "queue", "list"], stdout=subprocess.PIPE) for _ in range(5)]
    w.waypost("queue", "hold", "u7@far.test")
    for p in lists:
        rows = json.loads(p.communicate(timeout=wp.PATIENCE)[0])
        assert p.returncode == 0 and sorted(r["recipient"] for r in rows) == sorted(rcpts)
    assert [r["recipient"] for r in w.rows("queue", "list", "--state", "held")] == ["u7@far.test"]
    said = stuck.communicate(timeout=wp.PATIENCE)[0].decode()
    assert stuck.returncode == 0 and all(" %s" % r in said for r in rcpts)


def test_a_mailing_to_a_slow_host_does_not_hold_up_another(instances):
    """Ten times as many recipients as there is room for, of which none gets through: a message of the same sender to another host does, and
    then one of a sender outside to an account."""
    from mtasink import Sink
    with Sink(wp.fresh_address(), rcpt={"r%d@slow.test" % i: ["hang"] for i in range(2000)}) as sink:
        w = instances("a", mx=(sink.address, sink.port), sections={"queue": "max-active 200;"})
        for first in (0, 1000):
            submit(w, *["r%d@slow.test" % i for i in range(first, first + 1000)], subject="mailing")
        submit(w, "x@near.test", subject="one")
        until(lambda: [m for m in sink.messages() if "x@near.test" in m.rcpts], "the other host's message")
        with w.smtp() as s:
            s.sendmail("carol@remote.test", ["bob@example.test"], message("in"))
        w.wait_inbox("bob@example.test", 1)
        until(lambda: all("slow.test" in r["recipient"] for r in w.queue()), "the two are done with")
        assert len(w.queue()) == 2000, "all of the mailing waits"
        w.waypost("queue", "remove", "--all", "--yes")


def test_what_can_not_be_taken_back_is_asked_about(deferring):
    w = deferring
    submit(w, "x@far.test", "y@far.test")
    qid = deferred(w, 2)[0]["id"]
    refused = w.waypost("queue", "remove", "--all", check=False)
    assert refused.returncode == 2 and "--yes" in refused.stderr
    assert w.rows("queue", "remove", "--all", "--count") == [{"messages": 1, "recipients": 2}] and len(w.queue()) == 2
    for command, word, left in ((["remove", "--all"], "n", 2), (["redirect", "--recipient", "y@far.test", "--to", "z@far.test"], "y", 2),
                                (["bounce", "--all", "--reason", "not wanted here"], "y", 0)):
        said = w.waypost_at_terminal(word + "\n", "queue", *command)
        assert said.returncode == 0, said.stderr
        assert re.search(r"\d recipients? of 1 message\. Do it\?", said.stderr), said.stderr
        waiting = lambda: [r for r in w.queue() if r["state"] != "expanded" and r["id"] == qid]
        until(lambda: len(waiting()) == left, "%s: %d are left" % (command[0], left))
        assert command[0] != "redirect" or sorted(r["recipient"] for r in waiting()) == ["x@far.test", "z@far.test"]
    w.wait_log(r" bounced .*qid=%s" % qid, 2)
    events = [e for e in w.rows("trace", qid) if e["event"] in ("redirected", "failed")]
    assert sorted((e["event"], e["recipient"]) for e in events) == [("failed", "x@far.test"), ("failed", "z@far.test"), ("redirected", "y@far.test")]
    assert all(e["by-operator"] for e in events) and "returned by the operator: not wanted here" in events[0]["reply"] + events[-1]["reply"]


def test_an_alias_that_changes_reaches_the_next_attempt(instances):
    """What is queued are addresses: whom they lead to is asked at each attempt, not remembered."""
    w = instances("a", mx=REFUSED["mx"], sections=dict(REFUSED["sections"], **{"domain held.test": "hold yes;"}))
    w.waypost("domain", "add", "held.test")
    w.waypost("alias", "add", "team@held.test", "x@far.test")
    submit(w, "team@held.test")
    until(lambda: [r["state"] for r in w.queue()] == ["parked"], "it waits, not looked into")
    w.waypost("alias", "remove", "team@held.test")
    w.waypost("alias", "add", "team@held.test", "y@far.test")
    w.waypost("queue", "release", "--all")
    tried = lambda: sorted(r["recipient"] for r in w.queue() if r["attempts"])
    until(lambda: tried() == ["y@far.test"], lambda: "deferred where the alias leads now: %s" % w.queue())
    w.waypost("domain", "add", "far.test")
    w.waypost("alias", "add", "y@far.test", "bob@example.test")
    w.waypost("queue", "retry", "--all")
    w.wait_queue_empty()
    assert len(w.inbox("bob@example.test")) == 1
