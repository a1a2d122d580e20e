"""Sections hold of the configuration: mail that waits for an operator."""
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
