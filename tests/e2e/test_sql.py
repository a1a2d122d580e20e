"""`waypost queue sql`: reads the views, and nothing else can be done with it."""
import contextlib
import os
import re
import sqlite3
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
    settled = lambda q: len(q) == 2 and all(r["attempts"] and not r["activity"] for r in q)
    until(lambda: settled(w.queue()), "two deferred, one delivered")
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
    ten_thousand = lambda c: "replace(replace(replace('%s', '%s', '%s'), '%s', '%s'), '%s', '%s')" % ((10 * c, c, 10 * c) + 2 * (c, 10 * c))
    wide, = sql("SELECT %s" % ", ".join("%s AS %s" % (ten_thousand(c), c) for c in "abcdefg"))  # a row of several frames
    assert wide == {c: 10000 * c for c in "abcdefg"}
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
        until(lambda: [p for n, p in policies(qmgr) if n == "question"] == [os.SCHED_IDLE] * 2, "two questions, which have waited for history")
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


VIEWS = ("v1_message", "v1_recipient", "v1_destination", "v1_event")


def test_a_copy_answers_as_the_views_do(waiting, tmp_path):
    w = waiting
    file = str(tmp_path / "copy of the queue.db")
    w.waypost("dest", "suspend", "down.test")
    done = w.waypost("queue", "export", "--db", file).stdout
    assert re.search(r"2 recipients of 1 messages and \d+ events are in the file", done), done
    assert os.stat(file).st_mode & 0o777 == 0o600
    shown = lambda v: "" if v is None else v if isinstance(v, str) or isinstance(v, int) and v >= 0 else str(v)
    with contextlib.closing(sqlite3.connect("file:%s?mode=ro" % file, uri=True)) as db:
        db.row_factory = sqlite3.Row
        assert [r[0] for r in db.execute("PRAGMA integrity_check")] == ["ok"]
        assert {r[0] for r in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")} == set(VIEWS)
        questions = ["SELECT * FROM " + v for v in VIEWS] + [
            "SELECT domain, count(*) AS waiting, min(received) AS oldest FROM v1_recipient GROUP BY domain ORDER BY waiting DESC",
            "SELECT r.address, m.sender, r.state, r.reason FROM v1_recipient r JOIN v1_message m USING (message) ORDER BY r.address",
            "SELECT e.event, e.address, e.status FROM v1_event e JOIN v1_message m USING (message) ORDER BY e.time, e.recipient, e.event",
            "SELECT count(*) AS n FROM v1_message WHERE size > '100' AND message > '0'"]
        for question in questions:
            there = w.rows("queue", "sql", question)
            here = [{k: shown(r[k]) for k in r.keys()} for r in db.execute(question)]
            key = lambda r: sorted((k, str(v)) for k, v in r.items())
            assert there and sorted(here, key=key) == sorted(there, key=key), question
            assert [list(r) for r in here] == [list(r) for r in there], question
    assert not os.path.exists(w.dir + "/state/queue/copy.db")


def test_a_copy_goes_to_a_new_file_or_a_pipe_only(waiting, tmp_path):
    w = waiting
    file = tmp_path / "there"
    file.write_text("mine")
    r = w.waypost("queue", "export", "--db", str(file), check=False)
    assert r.returncode == 2 and "is there already" in r.stderr and file.read_text() == "mine"
    for args in ((), (str(tmp_path / "x"), "--all")):
        assert w.waypost("queue", "export", "--db", *args, check=False).returncode == 2
    assert not (tmp_path / "x").exists()
    piped = subprocess.run([wp.PROGRAMS + "/waypost", "-c", w.conf, "queue", "export", "--db", "-"], capture_output=True, timeout=wp.PATIENCE)
    assert piped.returncode == 0 and b"are in the file" in piped.stderr
    (tmp_path / "piped").write_bytes(piped.stdout)
    with contextlib.closing(sqlite3.connect(str(tmp_path / "piped"))) as db:
        assert [r[0] for r in db.execute("SELECT address FROM v1_recipient ORDER BY 1")] == ["x@Far.test", "y@far.test"]


def test_who_leaves_ends_the_copy_and_a_crash_leaves_none(waiting):
    """A reader of the pipe who goes away; a file that a crash left."""
    w = waiting
    qmgr = w.services()["qmgr"]["pid"]
    p = subprocess.Popen([wp.PROGRAMS + "/waypost", "-c", w.conf, "queue", "export", "--db", "-"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pipesize=4096)
    assert p.stdout.read(16) == b"SQLite format 3\0"  # the rest waits
    assert [n for n, _ in policies(qmgr)].count("question") == 1
    second = w.waypost("queue", "export", "--db", "-", check=False)
    assert second.returncode == 4 and "1 questions like this one" in second.stderr
    p.kill()
    p.communicate()
    until(lambda: [n for n, _ in policies(qmgr)].count("question") == 0, "nobody writes to it any more")
    left = w.dir + "/state/queue/copy.db"
    assert not os.path.exists(left)
    w.stop()
    open(left, "w").close()
    w.start()
    assert not os.path.exists(left)
    w.wait_log("queue-copy-removed")
