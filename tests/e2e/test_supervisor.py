"""Supervision as the operator sees it: status, restarts, reload, graceful stop, renewed certificates, readiness; and what the kernel says of each program."""
import os
import re
import signal
import smtplib
import socket
import ssl
import stat
import time

import pytest

import waypost as wp
from waypost import message, until

SERVICES = ("zygote", "authd", "tallyd", "qmgr", "relay", "policyd-judge", "keyd", "smtpd-mx", "smtpd-submission", "imapd", "pop3d")


def pids(w, name):
    return [r["pid"] for r in w.rows("status") if r["service"].split("/")[0].split("[")[0] == name]


def test_status_lists_every_service(server):
    rows = server.rows("status")
    names = {r["service"].split("/")[0].split("[")[0] for r in rows}
    assert names >= set(SERVICES)
    for r in rows:
        assert r["pid"] > 0 and r["restarts"] == 0 and "uptime" in r and "uid" in r
    text = server.waypost("status").stdout
    if not wp.AS_ROOT:
        assert "Landlock only" in text


@pytest.mark.parametrize("name", SERVICES)
def test_a_killed_service_comes_back_and_mail_flows(server, name):
    for pid in pids(server, name):
        os.kill(pid, signal.SIGKILL)
    server.wait_log(r"died-by-signal|died.*sig|signal=(9|SIGKILL|KILL)")
    until(lambda: all(r["restarts"] >= 1 and r["pid"] > 0 and r["state"] in ("ready", "running") for r in server.rows("status") if r["service"].startswith(name)), name + " is back")

    def delivered():
        try:
            with server.smtp() as s:
                s.sendmail("carol@remote.test", ["bob@example.test"], message("after the death of " + name))
            return True
        except (OSError, smtplib.SMTPException):
            return False

    until(delivered, "mail accepted again")
    server.wait_inbox("bob@example.test", 1)


def test_a_session_stays_while_others_are_restarted(server):
    s = server.smtp()
    s.ehlo()
    for name in ("authd", "qmgr"):
        for pid in pids(server, name):
            os.kill(pid, signal.SIGKILL)
    s.sendmail("carol@remote.test", ["bob@example.test"], message("through it all"))
    s.quit()
    server.wait_inbox("bob@example.test", 1)


def test_reload_changes_settings_and_drops_nobody(server):
    s = server.smtp()
    s.ehlo()
    s.mail("carol@remote.test")
    conf = open(server.conf).read()
    open(server.conf, "w").write(conf + "smtp { max-message-size 77K; }\n")
    server.waypost("reload")
    assert s.rcpt("bob@example.test")[0] == 250
    assert s.data(message("across a reload"))[0] == 250
    s.quit()
    with server.smtp() as t:
        t.ehlo()
        assert t.esmtp_features["size"] == str(77 * 1024)
    assert all(r["restarts"] == 0 for r in server.rows("status"))
    server.wait_inbox("bob@example.test", 1)


def test_a_bad_configuration_is_refused_whole_at_reload(server):
    conf = open(server.conf).read()
    open(server.conf, "w").write(conf + "smpt { max-message-size 77K; }\nlog-levle info;\n")
    r = server.waypost("reload", check=False)
    assert r.returncode != 0
    lines = conf.count("\n")
    assert "waypost.conf:%d: " % (lines + 1) in r.stdout + r.stderr and "waypost.conf:%d: " % (lines + 2) in r.stdout + r.stderr
    assert "smtp" in r.stdout + r.stderr and "log-level" in r.stdout + r.stderr, "the nearest key is named"
    with server.smtp() as s:
        assert s.ehlo()[0] == 250


def test_check_names_every_mistake_with_its_line(server, tmp_path):
    bad = tmp_path / "bad.conf"
    bad.write_text(open(server.conf).read() + "\nqueue {\n  expire tomorrow;\n  comit-wait 2ms;\n}\nsmtp { max-recipients -5; }\nrelay { port 99999; }\nlisten extra { port 2500; protocol smpt; }\n")
    import subprocess
    r = subprocess.run([wp.PROGRAMS + "/waypost", "-c", str(bad), "check"], text=True, capture_output=True)
    assert r.returncode != 0
    found = re.findall(r"bad\.conf:(\d+): (.*)", r.stdout + r.stderr)
    base = open(server.conf).read().count("\n") + 1
    assert [int(n) - base for n, _ in found] == [2, 3, 5, 6, 7], r.stdout + r.stderr
    assert "commit-wait" in found[1][1]
    r = subprocess.run([wp.PROGRAMS + "/waypost", "-c", server.conf, "check"], text=True, capture_output=True)
    assert r.returncode == 0, r.stdout + r.stderr


def test_check_compares_each_key_with_its_certificate(server, tmp_path):
    import subprocess
    _, other = wp.Authority(tmp_path / "other").issue("x", [server.hostname])
    empty, word = tmp_path / "empty.pem", tmp_path / "word.pem"
    for f, text in ((empty, ""), (word, "secret\n")):
        f.write_text(text)
        f.chmod(0o600)
    conf = tmp_path / "pairs.conf"
    text = open(server.conf).read().replace(server.dir + "/server.key;", other + ";", 1)
    mine = "certificate %s/server.pem;\n  key %%s;" % server.dir
    for port, key in enumerate((server.dir + "/server.key", empty, word), 1):
        text += "listen l%d { port %d; protocol imap;\n  %s }\n" % (port, port, mine % key)
    conf.write_text(text)
    r = subprocess.run([wp.PROGRAMS + "/waypost", "-c", str(conf), "check"], text=True, capture_output=True)
    lines = text.split("\n")
    at = [1 + next(i for i, l in enumerate(lines) if str(k) in l) for k in (other, empty, word)]
    found = re.findall(r"pairs\.conf:(\d+): key: (\S+) with the certificate \S+: (.*?), name", r.stdout + r.stderr)
    assert r.returncode == 1 and found == [
        (str(at[0]), other, "the private key is not the one of the certificate"), (str(at[1]), str(empty), "empty"),
        (str(at[2]), str(word), "no private key in it (a PEM file has BEGIN PRIVATE KEY)")], r.stdout + r.stderr


def test_a_second_start_on_the_same_state_is_refused(server):
    import subprocess
    r = subprocess.run([wp.PROGRAMS + "/waypost", "-c", server.conf, "start"], text=True, capture_output=True, timeout=wp.PATIENCE)
    assert r.returncode != 0 and "running" in (r.stdout + r.stderr)
    with server.smtp() as s:
        assert s.ehlo()[0] == 250


def test_a_graceful_stop_finishes_the_transaction_in_flight(instances):
    w = instances("a")
    s = w.smtp()
    s.ehlo()
    s.mail("carol@remote.test")
    s.rcpt("bob@example.test")
    assert s.docmd("DATA")[0] == 354
    os.kill(w.proc.pid, signal.SIGTERM)
    w.wait_log(r"stopping|drain")
    s.send(message("last one") + b".\r\n")
    assert s.getreply()[0] == 250
    s.close()
    assert w.stop() == 0
    w.start()
    w.wait_inbox("bob@example.test", 1)


def test_stop_command(instances):
    w = instances("a")
    w.waypost("stop")
    assert w.proc.wait(wp.PATIENCE) == 0


def test_the_supervisors_own_death_ends_everything_and_a_start_recovers(instances):
    w = instances("a")
    with w.smtp() as s:
        s.sendmail("carol@remote.test", ["bob@example.test"], message("kept"))
    everyone = [r["pid"] for r in w.rows("status")]
    w.stop(kill=True)
    until(lambda: not [p for p in everyone if os.path.exists("/proc/%d" % p) and "Z" not in open("/proc/%d/stat" % p).read().split(")")[1][:3]], "all programs gone")
    w.start()
    w.wait_inbox("bob@example.test", 1)


def serial(w, port):
    pem = ssl.get_server_certificate((w.address, w.ports[port]))
    return pem


@pytest.mark.parametrize("reload", [False, True])
def test_a_renewed_certificate_is_served_without_a_restart(server, reload):
    before = {p: serial(server, p) for p in ("imaps", "pop3s", "submissions")}
    c = server.imap("bob@example.test", mailbox="INBOX")
    server.ca.issue("server", [server.hostname, server.address], server.dir)
    if reload:
        server.waypost("reload")
    for p, old in before.items():
        until(lambda: serial(server, p) != old, "a new certificate on " + p)
    assert c.noop()[0] == "OK", "sessions go on"
    c.logout()
    assert all(r["restarts"] == 0 for r in server.rows("status"))


def test_no_session_tickets_on_port_25(server):
    """HAZARDS: a large sender aborts when TLS 1.3 tickets come after the handshake."""
    def tickets(port):
        ctx = server.tls()
        ctx.minimum_version = ssl.TLSVersion.TLSv1_3
        s = socket.create_connection((server.address, server.ports[port]), timeout=wp.PATIENCE)
        f = s.makefile("rb", buffering=0)
        if port == "mx":
            f.readline()
            s.sendall(b"EHLO c.test\r\n")
            while f.readline()[3:4] == b"-":
                pass
            s.sendall(b"STARTTLS\r\n")
            assert f.readline().startswith(b"220")
        t = ctx.wrap_socket(s, server_hostname=server.address)
        if port == "mx":
            t.sendall(b"EHLO c.test\r\n")
        t.recv(1000)  # whatever came behind the handshake has been read by now
        return t.session.has_ticket
    assert not tickets("mx")
    assert tickets("imaps")
