"""smtpd as a daemon: what the engine's own tests and the dialogues can't show."""
import contextlib
import os
import re
import signal
import smtplib
import socket
import subprocess
import threading

import pytest

import waypost as wp
from waypost import message


def pids(w, service):
    return [r["pid"] for r in w.rows("status") if r["service"].startswith(service)]


def connect(w, port="mx"):
    s = socket.create_connection((w.address, w.ports[port]), timeout=wp.PATIENCE)
    return s, s.makefile("rb", buffering=0)


def test_port_25_sends_no_session_tickets(server):
    """HAZARDS 26: a large sender aborts on them; on submission they save its clients a handshake."""
    def tickets(port):
        r = subprocess.run(["openssl", "s_client", "-connect", "%s:%d" % (server.address, server.ports[port]), "-starttls", "smtp", "-tls1_3", "-msg", "-ign_eof", "-CAfile", server.ca.cert],
                           input=b"EHLO c\r\nQUIT\r\n", capture_output=True, timeout=wp.PATIENCE)
        assert b"Verify return code: 0" in r.stdout, r.stdout + r.stderr
        return r.stdout.count(b"NewSessionTicket")
    assert tickets("mx") == 0
    assert tickets("submission") > 0


def test_early_talkers_are_sent_away(server):
    """HAZARDS 5: who has spoken before the greeting is no mail server. The daemon is held still so that the words are there first."""
    pid = pids(server, "smtpd-mx")[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        s, f = connect(server)
        s.sendall(b"EHLO early.test\r\n")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert f.readline().startswith(b"554 5.5.1 ")
    assert f.read(100) == b""


def test_connection_limits(instances):
    w = instances("a", sections={"smtp": "max-connections 4; max-connections-per-client 2;"})
    held = [connect(w) for _ in range(2)]
    assert all(f.readline().startswith(b"220 ") for _, f in held)
    s, f = connect(w)
    assert f.readline().startswith(b"421 4.7.0 ")
    w.wait_log("turned-away client=")
    for s, f in held:
        s.sendall(b"QUIT\r\n")
        assert f.readline().startswith(b"221 ")
        assert f.read(10) == b""
    with w.smtp() as c:
        assert c.noop()[0] == 250


def test_idle_sessions_end(instances):
    w = instances("a", sections={"smtp": "command-timeout 1s; data-timeout 1s;"})
    s, f = connect(w)
    assert f.readline().startswith(b"220 ")
    assert f.readline().startswith(b"421 4.4.2 ")  # RFC5321:4.5.3.2.7
    assert f.read(10) == b""
    s, f = connect(w)
    f.readline()
    s.sendall(b"HELO c.test\r\nMAIL FROM:<c@remote.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
    assert [f.readline()[:3] for _ in range(4)] == [b"250", b"250", b"250", b"354"]
    s.sendall(b"Subject: cut short\r\n\r\n")
    assert f.readline().startswith(b"421 4.4.2 ")


def test_single_bytes_win_no_time(instances):
    """RFC5321:4.5.3.2: a command has to become whole, content has to flow; also when the line is too long to be one."""
    w = instances("a", sections={"smtp": "command-timeout 1s; data-timeout 1s; data-least 1M;"})

    def trickle(s, f):
        got = []
        reader = threading.Thread(target=lambda: got.append(f.readline()), daemon=True)
        reader.start()
        while not got:
            try:
                s.sendall(b"x")
            except OSError:
                break
            reader.join(0.05)
        reader.join(wp.PATIENCE)
        return got[0]

    s, f = connect(w)
    assert f.readline().startswith(b"220 ")
    assert trickle(s, f).startswith(b"421 4.4.2 ")
    s, f = connect(w)
    f.readline()
    s.sendall(b"NOOP " + b"y" * 5000)
    assert trickle(s, f).startswith(b"421 4.4.2 ")
    s, f = connect(w)
    f.readline()
    s.sendall(b"HELO c.test\r\nMAIL FROM:<c@remote.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
    assert [f.readline()[:3] for _ in range(4)] == [b"250", b"250", b"250", b"354"]
    assert trickle(s, f).startswith(b"421 4.4.2 ")


def test_out_of_descriptors_and_back(instances):
    """HAZARDS 10: who is inside goes on, who comes waits or is sent away, the log has one line, and all is well again by itself."""
    w = instances("a", wrap=["sh", "-c", 'ulimit -n 100; exec "$@"', "sh"])
    old, second = w.smtp(), w.smtp()
    old.ehlo()
    second.ehlo()
    assert second.mail("c@remote.test")[0] == 250
    outside = [connect(w) for _ in range(120)]
    w.wait_log(r"smtpd\[.*accept-failed ")
    old.sendmail("c@remote.test", ["bob@example.test"], message("while there are none"))
    old.sendmail("c@remote.test", ["bob@example.test"], message("one that needs a file", "0123456789\r\n" * 17000))
    w.wait_inbox("bob@example.test", 2)
    assert second.rcpt("bob@example.test")[0] == 250
    assert second.data(message("in the middle of it", "0123456789\r\n" * 17000))[0] == 250
    w.wait_inbox("bob@example.test", 3)
    for s, f in outside:
        f.close()
        s.close()
    with w.smtp() as new:
        assert new.noop()[0] == 250
    w.wait_log("accept-again")
    assert len([l for l in w.logged().splitlines() if "accept-failed" in l]) == 1
    assert all(r["restarts"] == 0 for r in w.rows("status"))
    old.quit()


@contextlib.contextmanager
def no_descriptors(pid):
    """Not one more fits into that process."""
    owner = os.stat("/proc/%d" % pid)
    as_itself = dict(user=owner.st_uid, group=owner.st_gid, extra_groups=[]) if wp.AS_ROOT else {}  # root alone may not, in a container

    def prlimit(*args):
        return subprocess.run(["prlimit", "--pid", str(pid), *args], check=True, capture_output=True, text=True, **as_itself).stdout
    was = prlimit("--nofile", "--noheadings", "--raw", "--output", "SOFT").strip()
    prlimit("--nofile=3:")
    try:
        yield
    finally:
        prlimit("--nofile=%s:" % was)


def test_a_descriptor_that_finds_no_room_costs_one_message(server):
    """RFC3463:3.4: not even one descriptor left: who needs it is told 451, everybody else goes on, and so does the program."""
    big = message("one that needs a file", "0123456789\r\n" * 17000)
    with server.smtp() as s, server.smtp() as other:
        s.ehlo()
        other.ehlo()
        assert other.mail("c@remote.test")[0] == 250
        assert [s.mail("c@remote.test")[0], s.rcpt("bob@example.test")[0]] == [250, 250]
        with no_descriptors(pids(server, "smtpd-mx")[0]):
            code, text = s.data(big)
            assert (code, text[:6]) == (451, b"4.3.0 "), text
            server.wait_log("smtpd.*descriptor-lost .*message=spool_file")
            assert other.rcpt("bob@example.test")[0] == 250
            assert other.data(message("a small one"))[0] == 250
        s.sendmail("c@remote.test", ["bob@example.test"], big)
    server.wait_inbox("bob@example.test", 2)
    assert all(r["restarts"] == 0 for r in server.rows("status"))


def test_a_channel_that_finds_no_room_comes_later(server):
    """A program that has no descriptor for the fresh end of a channel asks for another one, instead of ending with all its sessions."""
    with server.smtp() as s:
        s.ehlo()
        front = pids(server, "smtpd-mx")[0]
        with no_descriptors(front):
            os.kill(pids(server, "authd")[0], signal.SIGKILL)
            server.wait_log("smtpd.*descriptor-lost .*message=peer_end")
        wp.until(lambda: s.mail("c@remote.test")[0] == 250 and s.rcpt("bob@example.test")[0] == 250 or s.rset()[0] != 250, "a recipient is welcome again")
        assert s.data(message("later"))[0] == 250
    server.wait_inbox("bob@example.test", 1)
    assert pids(server, "smtpd-mx")[0] == front


@pytest.mark.parametrize("front", ["imap", "pop3"])
def test_a_readers_front_out_of_descriptors_and_back(instances, front):
    """HAZARDS 10: who is at the door of a front that has none left still gets to his mail."""
    w = instances("a", wrap=["sh", "-c", 'ulimit -n 100; exec "$@"', "sh"])
    waiting = getattr(w, front)()
    outside = []
    while "accept-failed" not in w.logged():
        outside.append(connect(w, front))
        assert len(outside) < 1000
    if front == "imap":
        assert waiting.login("alice@example.test", "wonder-1")[0] == "OK"
    else:
        waiting.user("alice@example.test")
        waiting.pass_("wonder-1")
    for s, f in outside:
        f.close()
        s.close()
    getattr(w, front)("bob@example.test").noop()
    assert waiting.noop()
    assert all(r["restarts"] == 0 for r in w.rows("status"))


def test_out_of_memory_for_more_and_back(instances):
    """RFC3463:3.4: what sessions hold is bounded for all of them together; who is inside gets through, and all is well again by itself."""
    w = instances("a", sections={"smtp": "max-memory 1M; max-recipients 1000; command-timeout 10m;"})
    long = "rfc822;" + "x" * 480
    greedy = [w.smtp() for _ in range(4)]
    taken = []
    for s in greedy:
        s.ehlo()
        codes = [s.mail("c@remote.test")]
        if codes[0][0] == 250:
            s.send("".join("RCPT TO:<bob@example.test> ORCPT=%s\r\n" % long for _ in range(1000)))
            codes += [s.getreply() for _ in range(1000)]
            taken.append(s)
        refused = [c for c in codes if c[0] != 250]
        assert all(c[0] == 452 and c[1].startswith(b"4.3.1 ") for c in refused)
    assert refused, "the last one is too many"
    w.wait_log("memory-short ")
    with w.smtp() as s:
        s.ehlo()
        assert s.mail("c@remote.test")[0] == 452
    assert taken[0].data(message("while there is none"))[0] == 250, "who has begun goes on"
    w.wait_inbox("bob@example.test", 1)
    for s in greedy:
        s.close()
    w.wait_log("memory-again ")
    with w.smtp() as s:
        s.sendmail("c@remote.test", ["bob@example.test"], message("room again"))
    assert not re.search("service-died", w.logged())


def test_a_reload_keeps_sessions_and_changes_new_ones(server):
    old = server.smtp()
    old.ehlo()
    old.mail("carol@remote.test")
    text = open(server.conf).read()
    with open(server.conf, "w") as f:
        f.write(text + "\nsmtp { max-message-size 128K; }\n")
    server.waypost("reload")
    with server.smtp() as new:
        new.ehlo()
        assert new.esmtp_features["size"] == str(128 * 1024)
    assert old.rcpt("bob@example.test")[0] == 250
    code, text = old.data(message("begun before the reload"))
    assert code == 250, text
    old.quit()


def test_who_is_welcome_changes_at_once(server):
    """Also in a session that has asked before, when the operator's command is over; what smtpd may keep of the answers is its own business."""
    with server.smtp() as s, server.smtp() as other:
        def rcpt(c):
            c.mail("carol@remote.test")
            code = c.rcpt("team@example.test")[0]
            c.rset()
            return code
        s.ehlo()
        other.ehlo()
        for _ in range(10):
            assert rcpt(s) == rcpt(other) == 550
            server.waypost("alias", "add", "team@example.test", "bob@example.test")
            assert [rcpt(c) for c in (s, other, s, other)] == [250] * 4
            server.waypost("alias", "remove", "team@example.test")


def test_qmgr_and_authd_die_and_sessions_go_on(server):
    """Requests that were open when a peer died are asked again, or answered 4xx; the session lives."""
    with server.smtp() as s:
        s.ehlo()
        for service in ("qmgr", "authd", "qmgr"):
            pid = pids(server, service)[0]
            os.kill(pid, signal.SIGKILL)
            accepted = False
            for _ in range(50):
                try:
                    s.sendmail("carol@remote.test", ["bob@example.test"], message("after the death of " + service))
                    accepted = True
                    break
                except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as e:
                    code = e.smtp_code if hasattr(e, "smtp_code") else list(e.recipients.values())[0][0]
                    assert 400 <= code < 500, e
            assert accepted, service


def test_several_large_messages_at_once_take_bounded_memory(instances):
    w = instances("a", sections={"smtp": "max-message-size 40M;"})
    pid = pids(w, "smtpd-mx")[0]

    def high():
        return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/%d/status" % pid).read())[1])

    before = high()
    body = ("x" * 76 + "\r\n") * 200000  # about 15 MB each
    codes = []

    def send(i):
        with w.smtp() as s:
            s.ehlo()
            s.mail("c@remote.test")
            s.rcpt("bob@example.test")
            codes.append(s.data(message("large %d" % i, body))[0])

    threads = [threading.Thread(target=send, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert codes == [250] * 4
    if not wp.SANITIZED:  # what was freed is kept in quarantine there
        assert high() - before < 8192, "kilobytes for 60 MB of mail"
