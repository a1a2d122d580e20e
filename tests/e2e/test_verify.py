"""`waypost queue verify`: nothing is wrong in a queue at work; what was broken by hand is named and mended."""
import contextlib
import json
import os
import pty
import sqlite3
import subprocess

import waypost as wp
from waypost import message, until

REFUSED = {"mx": ("127.0.0.1", 1), "sections": {"queue": "retry-min 60s; retry-max 120s;"}}


def test_a_broken_queue_is_named_and_mended(instances):
    w = instances("a", **REFUSED)
    with w.submit("alice@example.test") as s:
        s.sendmail("alice@example.test", ["x@far.test", "y@other.test"], message("one", sender="alice@example.test"))
        s.sendmail("alice@example.test", ["z@far.test"], message("two", ("w" * 70 + "\r\n") * 2000, sender="alice@example.test"))
        s.sendmail("alice@example.test", ["bob@example.test"], message("delivered", sender="alice@example.test"))
    until(lambda: len([r for r in w.queue() if r["attempts"] and not r["activity"]]) == 3, "three deferred")
    w.wait_inbox("bob@example.test", 1)
    until(lambda: len(w.queue()) == 3, "his row is gone: it stays until the mailbox is on the disk")
    assert "as it should be" in w.waypost("queue", "verify").stdout and w.rows("queue", "verify") == []
    first, second = sorted({r["id"] for r in w.queue()})
    w.stop()
    with sqlite3.connect(w.dir + "/state/queue/queue.db") as db:
        db.execute("UPDATE recipient SET next = NULL WHERE address = 'x@far.test'")
        db.execute("UPDATE recipient SET domain = 'wrong.test' WHERE address = 'y@other.test'")
        columns = [c[1] for c in db.execute("PRAGMA table_info(recipient)")]
        other = {"message": "message + 1", "address": "'lost@far.test'"}
        db.execute("INSERT INTO recipient SELECT %s FROM recipient WHERE address = 'x@far.test'" % ", ".join(other.get(c, c) for c in columns))
    db.close()
    spool = w.dir + "/state/queue/spool/"
    open(spool + second, "ab").write(b"more than there should be")
    w.start()
    stray = spool + "0123456789A"
    open(stray, "w").close()
    os.chown(stray, os.stat(spool).st_uid, os.stat(spool).st_gid)
    r = w.waypost("--json", "queue", "verify", check=False)
    assert r.returncode == 1 and "5 problems, --repair mends 4" in r.stderr, r.stderr
    found = lambda *more: {x["problem"]: x for x in json.loads(w.waypost("--json", "queue", "verify", *more, check=False).stdout)}
    before = found()
    assert len(before) == 5 and not any(x["repaired"] for x in before.values()) and os.path.exists(stray)
    damaged = next(x for p, x in before.items() if "file is missing or damaged" in p)
    assert damaged["id"] == second and damaged["repair"] == "none"
    assert {x["detail"] for x in before.values()} == {"x@far.test", "y@other.test", "lost@far.test", "0123456789A", damaged["detail"]}
    after = found("--repair")
    assert {p: x["repaired"] for p, x in after.items()} == {p: x is not damaged for p, x in before.items()}
    assert not os.path.exists(stray) and list(found()) == [damaged["problem"]]
    w.wait_log("queue-mended", 4)
    until(lambda: [r for r in w.queue() if r["recipient"] == "x@far.test" and r["attempts"] > 1], "due now, and attempted")
    assert len(w.rows("queue", "list", "other.test")) == 1
    w.waypost("queue", "remove", second)
    assert w.waypost("queue", "verify").returncode == 0
    assert w.waypost("queue", "verify", "everything", check=False).returncode == 2


def on_terminal(w, *args):
    """(what was shown on stderr, a terminal; what came to stdout, none)"""
    master, slave = pty.openpty()
    with subprocess.Popen([wp.PROGRAMS + "/waypost", "-c", w.conf, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave, text=True) as p:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while True:
                shown += os.read(master, 1000)
        os.close(master)
        said = p.stdout.read()
        assert p.wait() == 0
    return shown, said


def test_progress_is_shown_on_a_terminal_only(instances):
    w = instances("a", mx=("127.0.0.1", 1), sections={"queue": "retry-min 1h; retry-max 2h;"})
    with w.submit("alice@example.test") as s:
        for n in range(6):
            s.sendmail("alice@example.test", ["u%d@far.test" % i for i in range(900)], message("n%d" % n, sender="alice@example.test"))
    shown, said = on_terminal(w, "queue", "verify")
    assert b" recipients\x1b[K" in shown and shown.endswith(b"\r\x1b[K") and "as it should be" in said, shown
    shown, said = on_terminal(w, "queue", "list", "--sender", "nobody@example.test")
    assert b"\r5,000 recipients looked at\x1b[K" in shown and not said, shown
    shown, said = on_terminal(w, "queue", "hold", "--all")
    assert b" recipients changed\x1b[K" in shown and said == "5400 recipients\n", shown
    assert w.waypost("queue", "release", "--all").stderr == ""


def test_what_operators_do_leaves_the_queue_as_it_should_be(instances):
    w = instances("a", **REFUSED)
    w.waypost("alias", "add", "many@example.test", "x@far.test", "y@far.test", "alice@example.test")
    with w.submit("alice@example.test") as s:
        for i in range(6):
            s.sendmail("alice@example.test", ["many@example.test", "z%d@other.test" % i], message("n%d" % i, sender="alice@example.test"))
    until(lambda: len([r for r in w.queue() if r["state"] == "waiting" and not r["activity"]]) == 18, "all wait, some for their destination")
    ids = sorted({r["id"] for r in w.queue()})
    for verb in (["hold", ids[0]], ["route", ids[1], "127.0.0.1:2"], ["redirect", "z2@other.test", "--to", "bob@example.test", "--yes"], ["bounce", ids[3], "--yes"],
                 ["remove", ids[4], "--yes"], ["retry", "--all"], ["release", "--all"], ["route", ids[1], "none"], ["flush"]):
        w.waypost("queue", *verb)
        assert w.rows("queue", "verify") == [], verb
    w.wait_inbox("bob@example.test", 1)
    w.stop()
    w.start()
    assert w.rows("queue", "verify") == []
