"""`waypost queue sql`: reads the views, and nothing else can be done with it."""
import contextlib
import os
import subprocess

import pytest

import waypost as wp
from waypost import message, until

REFUSED = {"mx": ("127.0.0.1", 1), "sections": {"queue": "retry-min 60s; retry-max 120s;"}}


@pytest.fixture
def waiting(instances):
    w = instances("a", **REFUSED)
    with w.submit("alice@example.test") as s:
        s.sendmail("alice@example.test", ["x@Far.test", "y@far.test", "bob@example.test"], message("asked", sender="alice@example.test"))
    until(lambda: len([r for r in w.queue() if r["attempts"] and not r["activity"]]) == 2, "two deferred")
    return w


def test_views_answer(waiting):
    w = waiting
    qid = w.queue()[0]["id"]
    sql = lambda text, *more: w.rows("queue", "sql", text, *more)
    assert sql("SELECT domain, count(*) AS n, max(attempts) AS most FROM v1_recipient GROUP BY domain") == [{"domain": "far.test", "n": 2, "most": 1}]
    one, = sql("SELECT * FROM v1_message;")
    assert one["id"] == qid and one["login"] == "alice@example.test" and one["origin"] == "submission" and one["tls"].startswith("TLSv1.3")
    rows = sql("SELECT r.address, m.sender, r.state, r.reason, r.next_attempt FROM v1_recipient r JOIN v1_message m USING (message) ORDER BY r.address")
    assert [(r["address"], r["sender"], r["state"]) for r in rows] == [("x@Far.test", "alice@example.test", "waiting"), ("y@far.test", "alice@example.test", "waiting")]
    assert "refused" in rows[0]["reason"].lower() and rows[0]["next_attempt"] > 0
    events = sql("SELECT event, count(*) AS n FROM v1_event WHERE id = '%s' GROUP BY event ORDER BY event" % qid)
    assert events == [{"event": "accepted", "n": 1}, {"event": "deferred", "n": 2}, {"event": "delivered", "n": 1}]
    assert sql("SELECT * FROM v1_destination WHERE name = 'nowhere'") == []
    assert sql("SELECT -3 AS a, 1.5 AS b, NULL AS c, 'x' AS d") == [{"a": "-3", "b": "1.5", "c": "", "d": "x"}]
    assert len(sql("SELECT address FROM v1_recipient", "--limit", "1")) == 1
    assert "There is more" in w.waypost("queue", "sql", "SELECT address FROM v1_recipient", "--limit", "1").stdout


def test_it_can_only_read_and_not_for_long(waiting):
    w = waiting
    for hostile in ("DELETE FROM message", "UPDATE recipient SET next = 0", "ATTACH '/etc/passwd' AS x", "PRAGMA query_only=0", "SELECT body FROM content",
                    "SELECT load_extension('x')", "SELECT 1 AS a; DELETE FROM message", "CREATE TEMP TABLE t(a)", "SELECT * FROM sqlite_schema", "", "nonsense"):
        assert w.waypost("queue", "sql", hostile, check=False).returncode == 2, hostile
    r = w.waypost("queue", "sql", "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) AS n FROM c", check=False)
    assert r.returncode == 1 and "stopped after" in r.stderr
    assert len(w.rows("queue", "sql", "SELECT address FROM v1_recipient")) == 2, "and it goes on"
    with w.submit("alice@example.test") as s:
        s.sendmail("alice@example.test", ["bob@example.test"], message("goes on", sender="alice@example.test"))
    w.wait_inbox("bob@example.test", 2)


FOREVER = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) AS n FROM c"


def policies(pid):
    """[(thread's name, scheduling policy)]"""
    out = []
    for task in os.listdir("/proc/%d/task" % pid):
        with contextlib.suppress(OSError):
            name, rest = open("/proc/%d/task/%s/stat" % (pid, task)).read().split("(", 1)[1].rsplit(")", 1)
            out.append((name, int(rest.split()[38])))  # proc(5): field 41
    return out


def test_questions_stand_behind_mail(waiting):
    """However many ask, two are answered at a time, by threads that run when nobody else wants to; mail is accepted meanwhile."""
    w = waiting
    qmgr = w.services()["qmgr"]["pid"]
    ask = lambda: subprocess.Popen([wp.PROGRAMS + "/waypost", "-c", w.conf, "queue", "sql", FOREVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    asked = [ask() for _ in range(4)]
    try:
        until(lambda: [n for n, _ in policies(qmgr)].count("question") == 2, "two questions")
        until(lambda: sum(p.poll() is not None for p in asked) >= 2, "the others' refusal")
        refused = [p for p in asked if p.poll() == 4]
        assert len(refused) == 2 and "2 questions like this one are being answered" in refused[0].stderr.read()
        for name, policy in policies(qmgr):
            assert (policy == os.SCHED_IDLE) == (name == "question"), (name, policy)
        accepted = 0
        with w.smtp() as s:
            while any(p.poll() is None for p in asked) and accepted < 20:
                s.sendmail("carol@remote.test", ["bob@example.test"], message("m%d" % accepted))
                accepted += 1
        assert accepted == 20, "the questions ended before twenty messages were accepted"
    finally:
        [p.kill() for p in asked]
        [p.communicate() for p in asked]


def test_who_leaves_or_stops_the_server_leaves_no_question_behind(waiting):
    w = waiting
    qmgr = w.services()["qmgr"]["pid"]
    ask = lambda *more: subprocess.Popen([wp.PROGRAMS + "/waypost", "-c", w.conf, "queue", "sql", *more], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    asking = lambda: [n for n, _ in policies(qmgr)].count("question")
    rows = FOREVER.replace("count(*) AS n", "x, 'some words to fill a buffer with' AS t")
    readers = [ask(rows, "--limit", "1000000") for _ in range(2)]  # who don't read on
    for p in readers:
        p.stdout.readline()
    assert asking() == 2
    for p in readers:
        p.kill()
        p.communicate()
    until(lambda: asking() == 0, "nobody is asked any more")
    assert w.rows("queue", "sql", "SELECT 1 AS n") == [{"n": 1}]
    p = ask(FOREVER)
    until(lambda: asking() == 1, "asked")
    assert w.stop() == 0
    assert p.wait() == 1
