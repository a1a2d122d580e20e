"""Destinations as their operator sees them: suspended, resumed, probed; down ones come back; all of it over restarts."""
import pytest

import mtasink
import waypost as wp
from waypost import message, until


def submit(w, *rcpts, subject="queued"):
    with w.submit("alice@example.test") as s:
        s.sendmail("alice@example.test", list(rcpts), message(subject, "text\r\n", sender="alice@example.test"))


def start(instances, smarthost=False):
    address = wp.fresh_address()
    port = wp.free_port(address)
    sections = {"queue": "retry-min 60s; retry-max 120s;"}
    if smarthost:
        w = instances("a", sections=dict(sections, relay="smarthost %s:%d; tls never;" % (address, port)))
    else:
        w = instances("a", mx=(address, port), sections=sections)
    w.sink_at = (address, port)
    w.destination = "%s:%d" % (address, port) if smarthost else "far.test"
    return w


@pytest.fixture(params=["mx", "smarthost"])
def relaying(instances, request):
    """An instance whose mail to others reaches a sink that listens only when told to."""
    return start(instances, request.param == "smarthost")


def state(w, name):
    return w.rows("dest", "show", name)[0]


def test_a_suspended_destination_gets_nothing_until_it_is_resumed(relaying):
    w = relaying
    with mtasink.Sink(*w.sink_at) as sink:
        w.waypost("dest", "suspend", "Far.Test", "they", "move")
        submit(w, "x@far.test", "y@other.test")
        until(lambda: len(sink.messages()) == 1, "the other one goes")
        until(lambda: state(w, "far.test")["waits-on-disk"], "it waits on disk")
        assert state(w, "far.test")["state"] == "suspended" and state(w, "far.test")["on-disk"] == 1
        w.stop(kill=True)
        w.start()
        row = state(w, "far.test")
        assert row["state"] == "suspended" and row["reason"] == "suspended by an operator: they move" and row["on-disk"] == 1
        assert [r["destination"] for r in w.rows("dest", "list", "--state", "suspended")] == ["far.test"]
        why = w.rows("queue", "why", w.queue()[0]["id"])[1]["why"]
        assert "far.test is suspended" in why and "waypost dest resume far.test" in why, why
        submit(w, "z@far.test")
        until(lambda: state(w, "far.test")["on-disk"] == 2, "both wait")
        assert [m.rcpts for m in sink.messages()] == [["y@other.test"]]
        w.waypost("queue", "resume", "far.test")
        w.wait_queue_empty()
        assert sorted(r for m in sink.messages() for r in m.rcpts) == ["x@far.test", "y@other.test", "z@far.test"]
        assert w.waypost("dest", "resume", "far.test", check=False).returncode == 3
        assert w.waypost("dest", "suspend", "a@b", check=False).returncode == 2


def test_a_probe_makes_one_attempt(relaying):
    w = relaying
    w.waypost("queue", "suspend", "far.test")
    submit(w, "x@far.test", subject="one")
    submit(w, "y@far.test", subject="two")
    until(lambda: state(w, "far.test")["on-disk"] == 2, "both wait")
    row = w.rows("dest", "probe", "far.test")[0]
    assert not row["reached"] and "refused" in row["answer"].lower()
    with mtasink.Sink(*w.sink_at) as sink:
        row = w.rows("dest", "probe", "far.test")[0]
        assert row["reached"] and row["destination"] == "far.test"
        until(lambda: len(w.queue()) == 1, "one is through")
        assert len(sink.messages()) == 1 and state(w, "far.test")["state"] == "suspended"
    assert w.waypost("dest", "probe", "nothing.test", check=False).returncode == 3


def test_a_destination_that_is_down_comes_back(relaying):
    w = relaying
    for i in range(8):
        submit(w, "r%d@far.test" % i)
    until(lambda: w.rows("dest", "list", "--state", "down"), "down")
    row = state(w, w.destination)
    assert row["failures"] >= 3 and "refused" in row["reason"].lower() and row["until"]
    w.stop(kill=True)
    w.start()
    assert state(w, w.destination)["state"] == "down", "still so after a crash"
    with mtasink.Sink(*w.sink_at) as sink:
        until(lambda: not [r for r in w.queue() if r["activity"]], "all at rest")
        w.waypost("queue", "retry", "--all")
        w.wait_queue_empty()
        assert len(sink.messages()) == 8
    assert w.rows("dest", "list", "--state", "down") == []


def test_a_smarthost_is_one_destination_and_a_reload_takes_its_mail_elsewhere(instances):
    w = start(instances, smarthost=True)
    smarthost = w.destination
    for i in range(6):
        submit(w, "a@d%d.test" % i, "b@e%d.test" % i)
    until(lambda: state(w, smarthost)["state"] == "down", "down")
    submit(w, "late@f.test")
    until(lambda: len(w.queue()) == 13 and not any(r["activity"] for r in w.queue()), "all at rest")
    down = w.rows("dest", "list", "--state", "down")
    assert [r["destination"] for r in down] == [smarthost], "found down once, not once for each domain"
    assert down[0]["failures"] <= 8, "a few attempts were enough"
    late = next(r for r in w.queue() if r["recipient"] == "late@f.test")
    assert smarthost in w.rows("queue", "why", late["id"])[1]["why"] and late["attempts"] == 0
    with mtasink.Sink(wp.fresh_address()) as sink, mtasink.Sink(wp.fresh_address()) as inside:
        w.sections["relay"] = "smarthost %s:%d; tls never;" % (sink.address, sink.port)
        w.sections["domain d0.test"] = "route %s:%d;" % (inside.address, inside.port)
        w.write_conf()
        w.waypost("reload")
        until(lambda: any("late@f.test" in m.rcpts for m in sink.messages()), "what waited for the old one goes to the new one at once")
        w.waypost("queue", "retry", "--all")
        w.wait_queue_empty()
        assert sorted(r for m in inside.messages() for r in m.rcpts) == ["a@d0.test"]
        submit(w, "a@g.test", "b@h.test", "c@i.test", subject="together")
        w.wait_queue_empty()
        assert sorted(sink.messages()[-1].rcpts) == ["a@g.test", "b@h.test", "c@i.test"], "one transaction for all domains"


def test_queued_mail_is_sent_to_another_host(instances):
    with mtasink.Sink(wp.fresh_address(), replies={"mail": ["451 4.3.0 not now"] * 9}) as first, mtasink.Sink(wp.fresh_address()) as second:
        w = instances("a", mx=(first.address, first.port), sections={"queue": "retry-min 1h; retry-max 1h;"})
        submit(w, "x@far.test", "y@other.test")
        until(lambda: [r["attempts"] for r in w.queue() if not r["activity"]] == [1, 1], "both deferred")
        host = "%s:%d" % (second.address, second.port)
        assert w.waypost("queue", "route", "far.test", "not a host", check=False).returncode == 2
        refused = w.waypost("queue", "route", "far.test", host, check=False)
        assert refused.returncode == 2 and "--yes" in refused.stderr and w.rows("queue", "route", "--all", host, "--count") == [{"messages": 1, "recipients": 2}]
        said = w.waypost_at_terminal("n\n", "queue", "route", "far.test", host)
        assert "route: 1 recipient of 1 message. Do it?" in said.stderr and not any(r["route"] for r in w.queue())
        assert w.waypost("queue", "route", "far.test", host, "--yes").stdout == "1 recipient\n"
        assert w.waypost_at_terminal("y\n", "queue", "route", "y@other.test", host).returncode == 0
        w.waypost("queue", "route", "y@other.test", "none", "--yes")
        qid = w.queue()[0]["id"]
        assert sorted((r["recipient"], r["route"]) for r in w.queue()) == [("x@far.test", host), ("y@other.test", "")]
        assert host in w.waypost("queue", "why", qid).stdout and [r["route"] for r in w.rows("queue", "sql", "SELECT route FROM v1_recipient WHERE route IS NOT NULL")] == [host]
        routed, = [r for r in w.rows("trace", qid) if r["event"] == "routed" and r["recipient"] == "x@far.test"]
        assert routed["reply"] == host and routed["by-operator"]
        assert not second.messages(), "its time has not come"
        w.waypost("queue", "retry", "far.test")
        until(lambda: len(w.queue()) == 1, "it is through")
        assert [m.rcpts for m in second.messages()] == [["x@far.test"]] and not first.messages()


def test_rate_and_waits_of_a_domain(instances):
    with mtasink.Sink(wp.fresh_address(), replies={"mail": ["451 4.7.1 greylisted", "450 4.2.0 busy", "250 2.1.0 ok"]}) as sink:
        w = instances("a", mx=(sink.address, sink.port), sections={
            "queue": "retry-min 1h; retry-max 1h; retry-soon 1s; retry-soon-for 451/4.7.*;", "domain far.test": "retry 1s 2s; rate 2/s;"})
        submit(w, "x@far.test")
        w.wait_queue_empty()
        assert [m.rcpts for m in sink.messages()] == [["x@far.test"]], "greylisted, busy, then taken; none of it waited for an hour"
        w.waypost("dest", "suspend", "far.test")  # it stays known
        assert state(w, "far.test")["rate"] == "2 in 1 s"


def test_an_account_is_a_destination_too(instances):
    """Suspended, over a restart, probed and resumed as a domain is; other accounts get their mail."""
    w = instances("a")
    bob = [r for r in w.rows("account", "list") if r["account"] == "bob@example.test"][0]["id"]
    name = "account:%d" % bob
    w.waypost("dest", "suspend", name, "its", "folder", "moves")
    submit(w, "bob@example.test", "alice@example.test", subject="one")
    w.wait_inbox("alice@example.test", 1)
    until(lambda: state(w, name)["on-disk"] == 1, "it waits on disk")
    assert state(w, name)["reason"] == "suspended by an operator: its folder moves"
    w.stop(kill=True)
    w.start()
    assert state(w, name)["state"] == "suspended"
    assert [r["destination"] for r in w.rows("dest", "list", "--state", "suspended")] == [name]
    submit(w, "bob@example.test", subject="two")
    until(lambda: state(w, name)["on-disk"] == 2, "both wait")
    assert "waypost dest resume " + name in w.rows("queue", "why", w.queue()[0]["id"])[1]["why"]
    assert w.inbox("bob@example.test") == []
    row = w.rows("dest", "probe", name)[0]
    assert row["reached"] and row["destination"] == name
    w.wait_inbox("bob@example.test", 1)
    until(lambda: len(w.queue()) == 1, "one is through")
    assert state(w, name)["state"] == "suspended"
    w.waypost("dest", "resume", name)
    w.wait_inbox("bob@example.test", 2)
    w.wait_queue_empty()
    assert len(w.inbox("bob@example.test")) == 2 and w.rows("dest", "list", "--state", "suspended") == []
