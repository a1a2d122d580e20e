"""What happened to my mail: `waypost trace`."""
import re

from mtasink import Sink

import waypost as wp
from waypost import message, until

REFUSED = {"mx": ("127.0.0.1", 1), "sections": {"queue": "retry-min 60s; retry-max 120s;"}}


def submit(w, *rcpts):
    """Returns its Message-ID."""
    content = message("traced", sender="alice@example.test")
    with w.submit("alice@example.test") as s:
        s.sendmail("alice@example.test", list(rcpts), content)
    return re.search(r"Message-ID: (<.*>)", content.decode()).group(1)


def events(rows, name):
    return [r for r in rows if r["event"] == name]


def test_trace_of_what_was_delivered_relayed_and_refused(instances):
    with Sink(wp.fresh_address(), rcpt={"no@far.test": ["550 5.1.1 no such user here"]}) as sink:
        w = instances("a", mx=(sink.address, sink.port))
        mid = submit(w, "bob@example.test", "yes@far.test", "no@far.test")
        w.wait_queue_empty()
        w.wait_inbox("alice@example.test", 1)
    rows = until(lambda: (lambda r: r if events(r, "told") else None)(w.rows("trace", mid)), "all of it")
    assert len({r["id"] for r in rows}) == 1 and len(rows) == 5, rows
    accepted, = events(rows, "accepted")
    assert accepted == rows[-1] and accepted["login"] == "alice@example.test" and accepted["tls"].startswith("TLSv1.3") and accepted["recipients"] == 3
    assert accepted["message-id"] == mid and accepted["client"] and accepted["origin"] == "submission"
    assert [r["recipient"] for r in events(rows, "delivered")] == ["bob@example.test"]
    relayed, = events(rows, "relayed")
    assert relayed["recipient"] == "yes@far.test" and sink.address in relayed["host"] and relayed["reply"].startswith("250")
    failed, = events(rows, "failed")
    assert failed["recipient"] == "no@far.test" and "550 5.1.1" in failed["reply"] and "no such user" in failed["reply"]
    told, = events(rows, "told")
    notice = w.rows("trace", told["related"])
    assert events(notice, "accepted")[0]["related"] == told["id"] and events(notice, "delivered")[0]["recipient"] == "alice@example.test"
    assert w.rows("trace", told["id"].lower()) == rows and w.rows("trace", mid.strip("<>")) == rows
    mine = w.rows("trace", "NO@far.test")
    assert {r["recipient"] for r in mine} == {"no@far.test"} and {r["event"] for r in mine} == {"failed", "told"}
    why = w.rows("queue", "why", told["id"])
    assert [r["event"] for r in why] == [r["event"] for r in reversed(rows)], "gone from the queue, known to history"
    assert "no such user" in w.waypost("queue", "why", told["id"]).stdout
    words = w.waypost("trace", told["id"]).stdout
    assert re.search(r"\(said: .*MAIL -> 250 .* \| RCPT -> 550 5.1.1 no such user here\)", words) and "RCPT -> 550 5.1.1" in failed["dialogue"]
    assert b"      RCPT -> 550 5.1.1 no such user here\r\n" in w.inbox("alice@example.test")[0], "the sender has it, too"
    assert "no such user" in words and "logged in as alice@example.test" in words and "notification " + told["related"] in words
    assert len(w.rows("trace", "alice@example.test", "--limit", "2")) == 2
    assert len(w.rows("trace", told["id"], "--since", "1h")) == 5
    assert w.waypost("trace", told["id"], "--since", "2999-01-01", check=False).returncode == 3
    assert w.waypost("trace", "stranger@example.test", check=False).returncode == 3
    for wrong in (["word"], ["--since", "1h"], ["a@b", "--since", "2020-1-x"], ["a@b", "--limit", "0"], ["a@b", "c@d"]):
        assert w.waypost("trace", *wrong, check=False).returncode == 2, wrong


def test_trace_of_what_waits_and_of_what_operators_did(instances):
    w = instances("a", **REFUSED)
    submit(w, "x@far.test")
    until(lambda: [r for r in w.queue() if r["attempts"] and not r["activity"]], "deferred")
    qid = w.queue()[0]["id"]
    w.waypost("queue", "hold", qid)
    rows = w.rows("trace", "x@far.test")
    assert [r["event"] for r in rows[1:]] == ["held", "deferred"] and rows[1]["by-operator"] and rows[2]["next-attempt"], rows
    assert "in the queue" in w.waypost("trace", qid).stdout
    w.stop(kill=True)
    w.start()
    w.waypost("queue", "remove", qid)
    w.wait_queue_empty()
    assert [r["event"] for r in w.rows("trace", qid)][0] == "removed"


def test_without_history_only_the_queue_is_known(instances):
    sections = {"queue": REFUSED["sections"]["queue"] + "history no;"}
    w = instances("a", mx=REFUSED["mx"], sections=sections)
    submit(w, "x@far.test")
    until(lambda: [r for r in w.queue() if r["attempts"] and not r["activity"]], "deferred")
    assert len(w.rows("trace", "x@far.test")) == 1
    qid = w.queue()[0]["id"]
    assert len(w.rows("queue", "why", qid)) == 2
    w.waypost("queue", "remove", "--all", "--yes")
    w.wait_queue_empty()
    assert w.waypost("trace", "x@far.test", check=False).returncode == 3
    assert w.waypost("queue", "why", qid, check=False).returncode == 3
