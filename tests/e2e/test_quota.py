"""How much an account may hold: at RCPT by the hint, at delivery for good."""
from waypost import message, until


def rcpt(w, to, size=None):
    with w.smtp() as s:
        s.ehlo()
        s.mail("c@remote.test", ["SIZE=%d" % size] if size else [])
        return s.rcpt(to)


def deliver(w, to, name, body):
    with w.smtp() as s:
        s.sendmail("c@remote.test", to, message(name, body))


def row(w, account):
    return [r for r in w.rows("account", "list") if r["account"] == account][0]


def test_a_full_mailbox(instances):
    w = instances("a", sections={"queue": "retry-min 1s; retry-max 1s;"})
    body = ("x" * 76 + "\r\n") * 500
    w.waypost("account", "quota", "bob@example.test", "100K")
    assert row(w, "bob@example.test")["quota"] == 100 * 1024
    assert rcpt(w, "bob@example.test", 99 * 1024)[0] == 250
    code, text = rcpt(w, "bob@example.test", 101 * 1024)
    assert code == 552 and text.startswith(b"5.2.2 "), "it can never fit"
    deliver(w, "bob@example.test", "one", body)
    deliver(w, "bob@example.test", "two", body)
    w.wait_inbox("bob@example.test", 2)
    # the third was accepted before the hint was there, or its size was not declared: delivery decides
    deliver(w, ["alice@example.test", "bob@example.test"], "three", body)
    w.wait_inbox("alice@example.test", 1)
    w.wait_log("not-stored .*mailbox is full")
    assert len(w.inbox("bob@example.test")) == 2
    code, text = until(lambda: (lambda r: r if r[0] == 452 else None)(rcpt(w, "bob@example.test", 40000)), "the hint at RCPT")
    assert text.startswith(b"4.2.2 ")
    assert rcpt(w, "alice@example.test", 40000)[0] == 250
    w.waypost("account", "quota", "bob@example.test", "none")
    w.wait_inbox("bob@example.test", 3)
    w.wait_queue_empty()
    assert rcpt(w, "bob@example.test", 40000)[0] == 250


def test_domains_and_the_default(instances):
    w = instances("a", sections={"accounts": "quota 50K;"})
    assert row(w, "bob@example.test")["quota"] == 50 * 1024
    assert rcpt(w, "bob@example.test", 60 * 1024)[0] == 552
    w.waypost("domain", "quota", "example.test", "1M")
    assert rcpt(w, "bob@example.test", 60 * 1024)[0] == 250
    w.waypost("account", "quota", "bob@example.test", "10K")
    assert rcpt(w, "bob@example.test", 60 * 1024)[0] == 552
    w.waypost("account", "quota", "bob@example.test", "default")
    w.waypost("domain", "quota", "example.test", "default")
    assert rcpt(w, "bob@example.test", 60 * 1024)[0] == 552
    for wrong in ("", "-1", "5X", "K", "1.5G", "99999999999T"):
        assert w.waypost("account", "quota", "bob@example.test", wrong, check=False).returncode == 2, wrong
    assert w.waypost("account", "quota", "nobody@example.test", "1M", check=False).returncode == 3
    assert w.waypost("domain", "quota", "nowhere.test", "1M", check=False).returncode == 3
