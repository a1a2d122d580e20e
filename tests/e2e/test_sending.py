"""Limits of what an account may send: first slow, then held; its owner and the operator are told once; release, discard, restarts."""
import email.policy
import os
import shutil
import sqlite3
import time
from email import message_from_bytes

import pytest

from waypost import message, until

ALICE, BOB, POST = "alice@example.test", "bob@example.test", "post@example.test"
ACCOUNTS = {POST: "post-1-secret", ALICE: "wonder-1", BOB: "builder-2"}


@pytest.fixture
def server(instances):
    return instances("a", accounts=ACCOUNTS, sections={"limits": "tarpit 50ms;"})


def send(w, n, to=BOB, first=0, user=ALICE):
    with w.submit(user) as s:
        for i in range(first, first + n):
            s.sendmail(user, to, message("m%d" % i, sender=user))


def subjects(w, user):
    return sorted(message_from_bytes(m)["Subject"] for m in w.inbox(user))


def mine(w, user):
    return [s for s in subjects(w, user) if s.startswith("m")]


def held(w):
    return {r["account"]: r for r in w.rows("account", "held", "list")}


def notices(w, user, what):
    return [m for m in map(message_from_bytes, w.inbox(user)) if what in m["Subject"]]


OWNER, OPERATOR = "The mail that you send is being held", "An account sends too much"


def test_a_burst_is_held_and_released(server):
    w = server
    w.waypost("account", "limit", ALICE, "messages-hour", "4")
    assert {r["limit"]: (r["most"], r["from"]) for r in w.rows("account", "limit", ALICE)}["messages-hour"] == (4, "account")
    send(w, 7)
    w.wait_log("event=sending-limit|sending-limit .*alice")
    until(lambda: len(mine(w, BOB)) == 4, "four of seven are there")
    row = held(w)[ALICE]
    assert (row["messages"], row["recipients"], row["state"], row["why"]) == (3, 3, "held", "more than 4 messages in an hour")
    assert [(r["state"], r["recipient"]) for r in w.queue()] == [("limited", BOB)] * 3
    assert [r["status"] for r in w.rows("queue", "sql", "SELECT status FROM v1_recipient WHERE state = 'limited'")] == ["4.7.1"] * 3  # RFC3463:3.8
    qid = w.queue()[0]["id"]
    assert "account held release alice@example.test" in w.waypost("queue", "why", qid).stdout
    # once each, however much follows, over a restart, too
    until(lambda: notices(w, ALICE, OWNER) and notices(w, POST, OPERATOR), "both are told")
    for m in notices(w, ALICE, OWNER) + notices(w, POST, OPERATOR):  # RFC3834:2, RFC3834:5
        assert m["Auto-Submitted"] == "auto-generated" and m["Return-Path"] == "<>"
    text = notices(w, ALICE, OWNER)[0].get_payload()
    assert "more messages in an hour than 4" in text and "password" in text and "postmaster@example.test" in text
    assert "waypost account held discard alice@example.test --yes" in notices(w, POST, OPERATOR)[0].get_payload()
    w.stop(kill=True)
    w.start()
    send(w, 2, first=7)
    assert held(w)[ALICE]["messages"] == 5
    send(w, 1, first=100, user=BOB, to=POST)  # nobody else is concerned
    until(lambda: "m100" in subjects(w, POST), "another account's mail")
    assert len(mine(w, BOB)) == 4
    # one of the batch by itself, then the rest
    w.waypost("queue", "release", qid)
    until(lambda: len(mine(w, BOB)) == 5, "one of them")
    assert held(w)[ALICE]["messages"] == 4
    w.waypost("account", "held", "release", ALICE)
    until(lambda: len(mine(w, BOB)) >= 9, "all of them")
    w.wait_queue_empty()
    assert mine(w, BOB) == ["m%d" % i for i in range(9)]
    assert held(w) == {} and w.waypost("account", "held", "release", ALICE, check=False).returncode == 3
    # the counts begin anew, and another time is told again
    send(w, 4, first=20)
    until(lambda: len(mine(w, BOB)) == 13, "four more")
    assert len(notices(w, ALICE, OWNER)) == 1 and len(notices(w, POST, OPERATOR)) == 1
    send(w, 1, first=30)
    assert held(w)[ALICE]["messages"] == 1
    until(lambda: len(notices(w, ALICE, OWNER)) == 2, "told again")


def test_an_operators_texts(instances):
    """The shipped German ones."""
    w = instances("a", start=False, accounts=ACCOUNTS, sections={"limits": "tarpit 0;", "sending": "recipients-day 1;",
                                                                 "notices": "account-held texte/account-held; account-held-operator texte/account-held-operator; language de;"})
    w.write_conf()
    shutil.copytree(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../etc/notices/de"), os.path.dirname(w.conf) + "/texte")
    w.start()
    send(w, 2)
    told = lambda user: [m for m in (message_from_bytes(m, policy=email.policy.default) for m in w.inbox(user)) if m["Auto-Submitted"]]
    until(lambda: told(ALICE) and told(POST), "both are told")
    for user, subject, words in ((ALICE, "Was Sie verschicken, wird zurückgehalten", "Ihr Postmaster: postmaster@example.test"),
                                 (POST, "Ein Konto verschickt zu viel: seine Nachrichten werden zurückgehalten", "kam von 127.")):
        m, = told(user)
        assert m["Subject"] == subject and m["Content-Language"] == "de" and m["From"] == "Mail-Zustellung <MAILER-DAEMON@mail.example.test>"
        text = m.get_content().replace("\r\n", "\n")
        assert "mehr Empfänger an einem Tag als 1.\n" in text and words in text and ALICE in text and "{" not in text and "than" not in text


def test_discard(server):
    w = server
    w.waypost("domain", "limit", "example.test", "recipients-day", "3", "messages-day", "100")
    w.waypost("account", "limit", BOB, "recipients-day", "none")
    send(w, 1, to=[BOB, POST])
    send(w, 1, to=[BOB, POST], first=1)
    send(w, 5, to=[ALICE], user=BOB, first=50)
    until(lambda: len(mine(w, ALICE)) == 5, "an account without that limit")
    assert held(w)[ALICE]["recipients"] == 2
    r = w.waypost("account", "held", "discard", ALICE, check=False)
    assert r.returncode == 2 and "--yes" in r.stderr
    assert w.rows("account", "held", "discard", ALICE, "--count") == [{"messages": 1, "recipients": 2}]
    assert w.waypost("account", "held", "discard", BOB, "--count", check=False).returncode == 3
    r = w.waypost_at_terminal("n\n", "account", "held", "discard", ALICE)
    assert "discard: 2 recipients of 1 message. Do it?" in r.stderr and "nothing was done" in r.stderr
    assert held(w)[ALICE]["recipients"] == 2
    r = w.waypost_at_terminal("y\n", "account", "held", "discard", ALICE)
    assert r.returncode == 0 and "its mail is deleted" in r.stdout + r.stderr, r
    w.wait_queue_empty()
    assert held(w) == {} and mine(w, BOB) == ["m0"] and mine(w, POST) == ["m0"]
    send(w, 1, to=[BOB], first=2)
    until(lambda: mine(w, BOB) == ["m0", "m2"], "it may send again")
    for wrong in (["messages-hour"], ["messages-hour", "x"], ["nonsense", "1"], ["messages-hour", "0"]):
        assert w.waypost("account", "limit", ALICE, *wrong, check=False).returncode == 2, wrong
    assert w.waypost("account", "limit", "nobody@example.test", "messages-hour", "1", check=False).returncode == 3
    assert w.waypost("domain", "limit", "nowhere.test", "messages-hour", "1", check=False).returncode == 3


def test_new_recipients(instances):
    """Whom the account knows is remembered over a restart; strangers count."""
    w = instances("a", accounts=ACCOUNTS, sections={"sending": "new-recipients-day 3; notify post@example.test;", "limits": "tarpit 0;"})
    for i in range(4):
        send(w, 1, to=[BOB, POST], first=i)
    until(lambda: len(mine(w, BOB)) == 4, "known ones")
    w.stop()
    w.start()
    send(w, 1, to=[BOB, POST, ALICE], first=4)
    until(lambda: len(mine(w, ALICE)) == 1, "one more stranger")
    send(w, 1, to=["abuse@example.test"], first=5)
    until(lambda: ALICE in held(w), "that is one too many")
    assert held(w)[ALICE]["why"] == "more than 3 new recipients in a day"
    until(lambda: notices(w, POST, OPERATOR), "who is named in the configuration is told")
    # what parallel sessions send at that time is held, too, and nothing is refused
    with w.submit(ALICE) as one, w.submit(ALICE) as two:
        for s in (one, two):
            assert s.mail(ALICE)[0] == 250 and s.rcpt(BOB)[0] == 250
        for s in (one, two):
            assert s.data(message("mx", sender=ALICE))[0] == 250
    assert held(w)[ALICE]["messages"] == 3
    w.waypost("account", "held", "release", ALICE)
    w.wait_queue_empty()
    assert held(w) == {}


def test_a_message_too_many_at_once(server):
    """Parallel sessions: as many as may, no more."""
    w = server
    w.waypost("account", "limit", ALICE, "messages-hour", "5")
    sessions = [w.submit(ALICE) for _ in range(8)]
    for i, s in enumerate(sessions):
        assert s.mail(ALICE)[0] == 250 and s.rcpt(BOB)[0] == 250
        s.putcmd("data")
        assert s.getreply()[0] == 354
    for i, s in enumerate(sessions):
        s.send(message("m%d" % i, sender=ALICE) + b"\r\n.\r\n")
    assert [s.getreply()[0] for s in sessions] == [250] * 8
    for s in sessions:
        s.quit()
    until(lambda: len(mine(w, BOB)) == 5, "five")
    assert held(w)[ALICE]["messages"] == 3
    w.waypost("account", "held", "release", ALICE)
    until(lambda: len(mine(w, BOB)) == 8, "all")


def test_slowed_before_held(instances):
    """From half of a limit on, replies to the account wait; to exempt clients, too, and to nobody else."""
    w = instances("a", accounts=ACCOUNTS, sections={"limits": "tarpit 1s;", "sending": "messages-hour 4;"})
    took = []
    for i in range(3):
        with w.submit(ALICE) as s:
            s.mail(ALICE), s.rcpt(BOB), s.putcmd("data"), s.getreply()
            s.send(message("m%d" % i, sender=ALICE) + b"\r\n.\r\n")
            begin = time.monotonic()
            assert s.getreply()[0] == 250
            took.append(time.monotonic() - begin)
    assert took[2] > 0.45, took  # half of a second: three quarters of the limit
    until(lambda: len(mine(w, BOB)) == 3, "nothing is held")
    assert held(w) == {}


def test_what_a_restart_interrupted_goes_on(server):
    w = server
    w.waypost("account", "limit", ALICE, "messages-hour", "1")
    w.waypost("account", "limit", POST, "messages-hour", "1")
    send(w, 3)
    send(w, 3, user=POST, first=10)
    assert {a: r["messages"] for a, r in held(w).items()} == {ALICE: 2, POST: 2}
    w.stop()
    with sqlite3.connect(w.dir + "/state/queue/queue.db") as db:  # as if it had been said just before
        db.execute("UPDATE limited SET ending = iif(login = ?, 1, 2)", (ALICE,))
    db.close()
    w.start()
    until(lambda: held(w) == {}, "both ended")
    w.wait_queue_empty()
    assert mine(w, BOB) == ["m0", "m1", "m10", "m2"]


def test_notices_find_who_is_meant_behind_aliases(instances):
    """The account's owner is told, by whatever address it sent; the operator's address may stand for several people."""
    w = instances("a", accounts=ACCOUNTS, sections={"sending": "messages-hour 2; notify ops@example.test;", "limits": "tarpit 0;"})
    w.waypost("alias", "add", "ops@example.test", BOB, POST)
    w.waypost("alias", "add", "sales@example.test", ALICE)
    with w.submit(ALICE) as s:
        for i in range(4):
            s.sendmail("sales@example.test", BOB, message("m%d" % i, sender="sales@example.test"))
    until(lambda: notices(w, ALICE, OWNER) and notices(w, BOB, OPERATOR) and notices(w, POST, OPERATOR), "all of them are told")
    assert held(w)[ALICE]["messages"] == 2
    until(lambda: {r["state"] for r in w.queue()} == {"limited"}, "nothing but what is held waits")
    for user, what in ((ALICE, OWNER), (BOB, OPERATOR), (POST, OPERATOR)):
        assert len(notices(w, user, what)) == 1
    assert not notices(w, ALICE, OPERATOR) and not notices(w, BOB, OWNER)
