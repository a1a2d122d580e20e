"""Sections hold of the configuration: mail that waits for an operator."""
import os
import signal
import smtplib

import waypost as wp
from waypost import message, until

RULES = {"hold invoices": 'header "Subject: *invoice*"; recipient bob@*; reason "looked at by hand";',
         "hold door": 'header "Authentication-Results: *x-helo=fail*";'}


def parked(w, n):
    return until(lambda: (lambda r: r if len(r) == n and not any(x["activity"] for x in r) else None)(w.rows("queue", "list", "--state", "parked")), "held mail")


def test_mail_is_held_by_its_header_and_released(instances):
    w = instances("a", sections=RULES)
    with w.smtp() as s:
        s.sendmail("c@remote.test", ["bob@example.test", "alice@example.test"], message("Your INVOICE of\r\n\ttoday"))
        s.sendmail("c@remote.test", ["bob@example.test"], message("nothing", "invoice\r\n" * 20000))
        s.sendmail("c@remote.test", ["bob@example.test"], message("invoice, large", ("x" * 70 + "\r\n") * 2000))
    w.wait_inbox("alice@example.test", 1)
    w.wait_inbox("bob@example.test", 1)
    rows = parked(w, 2)
    assert {r["recipient"] for r in rows} == {"bob@example.test"}
    with open(w.conf) as f:
        line = next(n for n, text in enumerate(f, 1) if "hold invoices" in text)
    said = "held by rule invoices (%s:%d): looked at by hand" % (w.conf, line)
    assert all(r["reason"] == said for r in rows), rows
    facts, why = w.rows("queue", "why", rows[0]["id"])[:2]
    assert said in why["why"] and facts["marks"] == "invoices", (facts, why)
    assert said in w.waypost("trace", rows[0]["id"]).stdout
    w.stop(kill=True)
    w.start()
    assert len(parked(w, 2)) == 2
    w.waypost("queue", "release", "--state", "parked")
    w.wait_inbox("bob@example.test", 3)
    w.wait_queue_empty()


def test_what_the_door_found_is_a_condition(instances):
    door = {"limits": "exempt none;", "door": "helo header; reverse-dns off;"}
    w = instances("a", sections=dict(RULES, **door))
    with smtplib.SMTP(w.address, w.ports["mx"], local_hostname="oneword", timeout=wp.PATIENCE) as s:
        s.sendmail("c@remote.test", ["bob@example.test"], message("hello"))
    assert "held by rule door" in parked(w, 1)[0]["reason"]
    w.sections = door
    w.write_conf()
    w.waypost("reload")
    w.wait_inbox("bob@example.test", 1)


def test_what_is_held_goes_into_the_queue_as_held(instances):
    """By a rule or by its domain: known when it is accepted, so the directory is not asked again, and the queue is written once."""
    w = instances("a", domains=["example.test", "kept.test"], accounts={"bob@example.test": "pw-bob-1", "carol@kept.test": "pw-carol-1"},
                  sections=dict(RULES, **{"domain kept.test": "hold yes;"}))
    with w.smtp() as s:
        s.ehlo()
        s.mail("c@remote.test")
        for rcpt in ("bob@example.test", "carol@kept.test"):
            assert s.rcpt(rcpt)[0] == 250
        authd = next(r["pid"] for r in w.rows("status") if r["service"] == "authd")
        os.kill(authd, signal.SIGSTOP)
        try:
            assert s.data(message("invoice"))[0] == 250
            rows = w.rows("queue", "list")
        finally:
            os.kill(authd, signal.SIGCONT)
    reasons = {r["recipient"]: r["reason"] for r in rows}
    assert {r["state"] for r in rows} == {"parked"} and not any(r["activity"] for r in rows), rows
    assert reasons["bob@example.test"].startswith("held by rule invoices") and reasons["carol@kept.test"] == "its domain is held by the configuration (hold yes)"
    qid = rows[0]["id"]
    until(lambda: w.logged().count(" held qid=") == 2, "both are logged")
    assert w.waypost("trace", qid).stdout.count("held") >= 2
    w.waypost("queue", "release", qid)
    w.wait_inbox("bob@example.test", 1)
    w.wait_inbox("carol@kept.test", 1)
    w.wait_queue_empty()
