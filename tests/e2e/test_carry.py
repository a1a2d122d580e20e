"""`waypost queue export` and `import`: a queue goes to another machine with nothing lost and nothing twice."""
import os
import re
import subprocess

import pytest

import waypost as wp
from mtasink import Sink
from waypost import message, until

REFUSED = {"relay": "smarthost 127.0.0.1:1; tls never;", "queue": "retry-min 1000s; retry-max 2000s;"}
FACTS = ("sender", "recipient", "state", "attempts", "next-attempt", "reason")
INBOXES = ("x@far.test", "y@far.test", "z@far.test", "h@other.test")


@pytest.fixture
def old(instances):
    """Mail to others waits there: one small, one in a spool file, one to an alias, one held."""
    w = instances("old", sections=REFUSED)
    w.waypost("alias", "add", "all@example.test", "x@far.test", "z@far.test")
    for rcpts, subject, body in ((["x@far.test"], "small", "text\r\n"), (["y@far.test"], "large", ("w" * 70 + "\r\n") * 3000), (["all@example.test"], "alias", "text\r\n"),
                                 (["h@other.test"], "held", "text\r\n")):
        with w.submit("alice@example.test") as s:
            s.sendmail("alice@example.test", rcpts, message(subject, body, sender="alice@example.test"))
    settled = lambda q: len(q) == 6 and all(r["reason"] or r["state"] == "expanded" for r in q) and not any(r["activity"] for r in q)
    until(lambda: settled(w.queue()), lambda: "five deferred, one alias: %s" % w.queue())
    w.waypost("queue", "hold", "h@other.test")
    return w


def facts(w):
    return sorted(tuple(str(r[f]) for f in FACTS) for r in w.queue())


def subject(m):
    return re.search(rb"^Subject: (\w+)", m, re.M).group(1).decode()


def spooled(w):
    return len(os.listdir(w.dir + "/state/queue/spool"))


def test_a_queue_moves_and_is_delivered_once(old, instances, tmp_path):
    new = instances("new", domains=["far.test", "other.test"], accounts={a: "secret-%s-1" % a[0] for a in INBOXES})
    file = str(tmp_path / "queue.file")
    done = old.waypost("queue", "export", file, "--move").stdout
    assert "5 recipients of 4 messages are in the file, and here no longer" in done
    assert old.queue() == [] and os.stat(file).st_mode & 0o777 == 0o600
    until(lambda: spooled(old) == 0, "the spool file goes with its row")
    assert "5 recipients of 4 messages imported" in new.waypost("queue", "import", file).stdout
    assert len([r for r in new.queue() if r["state"] == "held"]) == 1, "what was held stays held"
    assert new.rows("queue", "verify") == old.rows("queue", "verify") == []
    new.waypost("queue", "retry", "--all")
    new.waypost("queue", "release", "h@other.test")
    new.wait_queue_empty()
    assert "0 recipients of 0 messages imported; 5 had been before" in new.waypost("queue", "import", file).stdout
    assert new.queue() == [] and spooled(new) == 0
    got = {a[0]: sorted(subject(m) for m in new.inbox(a)) for a in INBOXES}
    assert got == {"x": ["alias", "small"], "y": ["large"], "z": ["alias"], "h": ["held"]}
    assert new.inbox("y@far.test")[0].count(b"w" * 70) == 3000


def test_facts_stay_and_the_queue_that_is_copied_too(old, instances):
    new = instances("new", sections=REFUSED)
    before = facts(old)
    out = subprocess.Popen([wp.PROGRAMS + "/waypost", "-c", old.conf, "queue", "export", "-"], stdout=subprocess.PIPE)
    put = subprocess.run([wp.PROGRAMS + "/waypost", "-c", new.conf, "queue", "import", "-"], stdin=out.stdout, capture_output=True, text=True, timeout=wp.PATIENCE)
    out.stdout.close()
    assert out.wait(wp.PATIENCE) == 0 and put.returncode == 0, put.stderr
    assert facts(old) == before and len(before) == 6
    assert facts(new) == before
    new.stop()
    new.start()
    assert facts(new) == before, "also after a restart"
    assert new.rows("queue", "verify") == [], "and nothing is wrong with it"
    assert {r["id"] for r in new.queue()}.isdisjoint({r["id"] for r in old.queue()})


def test_a_filter_takes_its_part_and_files_overlap(old, instances, tmp_path):
    new = instances("new", sections=REFUSED)
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    old.waypost("queue", "export", a, "--recipient", "z@far.test")
    old.waypost("queue", "export", b, "--move", "--all")
    assert old.queue() == []
    new.waypost("queue", "import", a)
    assert [r["recipient"] for r in new.queue() if r["state"] != "expanded"] == ["z@far.test"]
    assert "4 recipients of 4 messages imported; 1 had been before" in new.waypost("queue", "import", b).stdout
    assert sorted(r["recipient"] for r in new.queue() if r["state"] != "expanded") == ["h@other.test", "x@far.test", "x@far.test", "y@far.test", "z@far.test"]


def test_what_is_cut_off_or_changed_is_refused_and_what_was_whole_stays(old, instances, tmp_path):
    new = instances("new", sections=REFUSED)
    file = tmp_path / "queue.file"
    old.waypost("queue", "export", str(file))
    whole = file.read_bytes()
    (tmp_path / "cut").write_bytes(whole[:len(whole) // 2])
    bad = new.waypost("queue", "import", str(tmp_path / "cut"), check=False)
    assert bad.returncode == 1 and "at byte %d" % (len(whole) // 2) in bad.stderr and "cut off" in bad.stderr and "1 recipients of 1 messages were imported and stay" in bad.stderr
    assert len(new.queue()) == 1 and spooled(new) == 0
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    (tmp_path / "changed").write_bytes(changed)
    bad = new.waypost("queue", "import", str(tmp_path / "changed"), check=False)
    assert bad.returncode == 1 and "checksum is wrong" in bad.stderr and "0 recipients of 0 messages were imported" in bad.stderr
    assert len(new.queue()) == 1 and spooled(new) == 0
    assert "4 recipients of 3 messages imported; 1 had been before" in new.waypost("queue", "import", str(file)).stdout
    (tmp_path / "mail").write_text("From: x\n\nnot a queue\n")
    bad = new.waypost("queue", "import", str(tmp_path / "mail"), check=False)
    assert bad.returncode == 1 and "at byte 0: not a file of 'waypost queue export'" in bad.stderr


def test_wrong_use_is_told(old, tmp_path):
    file = tmp_path / "there"
    file.write_text("mine")
    assert "is there already" in old.waypost("queue", "export", str(file), check=False).stderr and file.read_text() == "mine"
    r = old.waypost("queue", "export", str(tmp_path / "x"), "--nonsense", check=False)
    assert r.returncode == 2 and not (tmp_path / "x").exists()
    assert old.waypost("queue", "import", str(tmp_path / "missing"), check=False).returncode == 2
    r = subprocess.run([wp.PROGRAMS + "/waypost", "-c", old.conf, "queue", "export", "-", "--move"], capture_output=True, text=True, timeout=wp.PATIENCE)
    assert r.returncode == 2 and "needs a file" in r.stderr and len(old.queue()) == 6


def test_a_move_waits_for_what_is_under_way_and_takes_over_what_came_of_it(instances, tmp_path):
    """Two attempts hang in DATA while the queue moves: one ends well and is in the file no more, the other fails and moves with the rest."""
    file = str(tmp_path / "queue.file")
    with Sink(wp.fresh_address(), rcpt={"z@late.test": ["451 4.3.0 later"]}, replies={"data": ["wait", "hang"]}) as sink:
        old = instances("old", mx=(sink.address, sink.port), sections={"queue": "retry-min 1000s; retry-max 2000s;"})
        said = lambda verb: [line for s in list(sink.sessions) for line in s.said(verb)]
        for n, rcpt in enumerate(("x@good.test", "y@bad.test", "z@late.test")):
            with old.submit("alice@example.test") as s:
                s.sendmail("alice@example.test", [rcpt], message(rcpt[0], sender="alice@example.test"))
            until(lambda: len(said("DATA")) == n + 1, "%d attempts" % (n + 1))
        row = lambda rcpt: next((r for r in old.queue() if r["recipient"] == rcpt), None)
        until(lambda: row("z@late.test")["reason"] and not row("z@late.test")["activity"], "one deferred")
        p = subprocess.Popen([wp.PROGRAMS + "/waypost", "-c", old.conf, "queue", "export", file, "--move"], stdout=subprocess.PIPE, text=True)
        until(lambda: row("z@late.test")["state"] == "held", "what is not attempted is held")
        assert row("x@good.test")["activity"] and row("y@bad.test")["activity"] and p.poll() is None
        sink.gate.set()
        until(lambda: row("x@good.test") is None, "the one that ends well leaves")
        assert p.poll() is None
        sink.drop()
        out, _ = p.communicate(timeout=wp.PATIENCE)
        assert p.returncode == 0 and "2 recipients of 2 messages are in the file, and here no longer" in out
        assert old.queue() == [] and old.rows("queue", "verify") == []
        assert [m.rcpts for m in sink.messages()] == [["x@good.test"]] and len(said("RCPT")) == 3, "nothing is attempted again here"
        sink.replies["data"], sink.rcpt_replies = [], {}
        new = instances("new", mx=(sink.address, sink.port))
        assert "2 recipients of 2 messages imported" in new.waypost("queue", "import", file).stdout
        new.waypost("queue", "retry", "--all")
        new.wait_queue_empty()
        assert sorted(r for m in sink.messages() for r in m.rcpts) == ["x@good.test", "y@bad.test", "z@late.test"], "each once"


def test_a_move_leaves_what_is_under_way_all_the_time(instances, tmp_path):
    """Its time is over while an attempt still hangs: that one stays, and is not held when it has failed."""
    file = str(tmp_path / "queue.file")
    with Sink(wp.fresh_address(), rcpt={"z@late.test": ["451 4.3.0 later"]}, replies={"data": ["hang"]}) as sink:
        old = instances("old", mx=(sink.address, sink.port), sections={"queue": "retry-min 1000s; retry-max 2000s;"})
        for rcpt, verb in (("x@stuck.test", "DATA"), ("z@late.test", "RCPT")):
            with old.submit("alice@example.test") as s:
                s.sendmail("alice@example.test", [rcpt], message(rcpt[0], sender="alice@example.test"))
            until(lambda: any(s.said(verb) and any(rcpt in l for l in s.said("RCPT")) for s in list(sink.sessions)), "an attempt for " + rcpt)
        row = lambda rcpt: next((r for r in old.queue() if r["recipient"] == rcpt), None)
        until(lambda: row("z@late.test")["reason"] and not row("z@late.test")["activity"], "one deferred")
        assert old.waypost("queue", "export", file, "--move", "--wait", "soon", check=False).returncode == 2 and len(old.queue()) == 2
        os.unlink(file)  # as a move that failed leaves it
        done = old.waypost("queue", "export", file, "--move", "--wait", "1s").stdout
        assert "1 recipients of 1 messages are in the file, and here no longer; 1 more were being attempted all the time and stay" in done
        assert [(r["recipient"], r["state"], bool(r["activity"])) for r in old.queue()] == [("x@stuck.test", "waiting", True)]
        sink.drop()
        until(lambda: row("x@stuck.test")["reason"] and not row("x@stuck.test")["activity"], "its attempt has failed")
        assert row("x@stuck.test")["state"] == "waiting"
        sink.replies["data"] = []
        old.waypost("queue", "retry", "--all")
        old.wait_queue_empty()
        assert [m.rcpts for m in sink.messages()] == [["x@stuck.test"]]


def test_who_leaves_in_mid_import_leaves_what_came_in(old, instances, tmp_path):
    new = instances("new", sections=REFUSED)
    file = tmp_path / "queue.file"
    old.waypost("queue", "export", str(file))
    whole = file.read_bytes()
    p = subprocess.Popen([wp.PROGRAMS + "/waypost", "-c", new.conf, "queue", "import", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    p.stdin.write(whole[:len(whole) // 2])  # one message, and a part of one whose content is a file
    p.stdin.flush()
    until(lambda: len(new.queue()) == 1 and spooled(new) == 1, "the first of them")
    p.kill()
    p.wait()
    new.wait_log("queue-imported .*messages=1 recipients=1 .*failed=stopped")  # though the file could still go on
    p.stdin.close()
    assert len(new.queue()) == 1 and spooled(new) == 0
    assert new.rows("queue", "verify") == []
    assert "4 recipients of 3 messages imported; 1 had been before" in new.waypost("queue", "import", str(file)).stdout
    assert facts(new) == facts(old) and spooled(new) == 1
    assert "0 recipients of 0 messages imported; 5 had been before" in new.waypost("queue", "import", str(file)).stdout
    assert facts(new) == facts(old)
