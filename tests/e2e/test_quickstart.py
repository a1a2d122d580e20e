"""contrib/quickstart.py on the programs of this build: the show, what its env file says (proven by logins through every door), what a
second start keeps, and how it ends."""
import imaplib
import os
import poplib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys

import pytest

import waypost as wp
from waypost import message, until

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KEYS = set("HOST SMTP_PORT SUBMISSION_PORT SUBMISSIONS_PORT IMAP_PORT IMAPS_PORT POP3_PORT POP3S_PORT CA_FILE USER1 PASSWORD1 USER2 PASSWORD2 CONFIG".split())


def command(folder, *options):
    return [sys.executable, "-B", SOURCE + "/contrib/quickstart.py", str(folder), "--programs", wp.PROGRAMS, *options]


def environment(folder):
    lines = open(folder / "env").read().splitlines()
    assert all(re.fullmatch(r"[A-Z0-9_]+=\S+", l) for l in lines), lines
    return dict(l.split("=", 1) for l in lines)


def once(folder):
    r = subprocess.run(command(folder, "--once"), text=True, capture_output=True, timeout=3 * wp.PATIENCE)
    assert r.returncode == 0, r.stdout + r.stderr
    assert [l[:4] for l in r.stdout.splitlines() if l.startswith("  ")] == ["  1.", "  2.", "  3."], r.stdout
    return environment(folder)


class Foreground:
    def __init__(self, folder):
        self.folder, self.path = folder, folder / "out"
        with open(self.path, "w") as out:  # SIGINT is ignored, as in a script's background job
            self.proc = subprocess.Popen(command(folder), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))

    def said(self):
        return open(self.path).read()

    def env(self):
        try:
            return open(self.folder / "env").read()
        except FileNotFoundError:
            return ""

    def __enter__(self):
        until(lambda: self.proc.poll() is not None or "to stop." in self.said(), self.said, 3 * wp.PATIENCE)
        assert self.proc.poll() is None, self.said()
        return self

    def end(self, signo):
        self.proc.send_signal(signo)
        return self.proc.wait(wp.PATIENCE)

    def __exit__(self, *_):
        if self.proc.poll() is None:
            self.end(signal.SIGTERM)


@pytest.fixture
def folder(tmp_path):
    """The quickstart's folder. Ports that an earlier start has written down are taken again when they are free: here, none that another test uses."""
    for part in [tmp_path, *tmp_path.parents]:
        if os.stat(part).st_uid == os.geteuid() and not os.stat(part).st_mode & 0o001:
            os.chmod(part, os.stat(part).st_mode & 0o777 | 0o055)
    with open(tmp_path / "env", "w") as f:
        for key in sorted(k for k in KEYS if k.endswith("_PORT")):
            f.write("%s=%d\n" % (key, wp.free_port("127.0.0.1")))
    return tmp_path


def log_in_everywhere(e):
    """Every port of the env file with the values of that file alone. The certificate is checked against HOST."""
    tls, host, wait = ssl.create_default_context(cafile=e["CA_FILE"]), e["HOST"], wp.PATIENCE
    for user, password in ((e["USER1"], e["PASSWORD1"]), (e["USER2"], e["PASSWORD2"])):
        with smtplib.SMTP(host, int(e["SUBMISSION_PORT"]), timeout=wait) as s:
            s.starttls(context=tls)
            assert s.login(user, password)[0] == 235
        with smtplib.SMTP_SSL(host, int(e["SUBMISSIONS_PORT"]), context=tls, timeout=wait) as s:
            assert s.login(user, password)[0] == 235
        c = imaplib.IMAP4(host, int(e["IMAP_PORT"]), timeout=wait)
        c.starttls(tls)
        assert c.login(user, password)[0] == "OK"
        c.logout()
        c = imaplib.IMAP4_SSL(host, int(e["IMAPS_PORT"]), ssl_context=tls, timeout=wait)
        assert c.login(user, password)[0] == "OK"
        c.logout()
        p = poplib.POP3(host, int(e["POP3_PORT"]), timeout=wait)
        p.stls(tls)
        p.user(user)
        assert p.pass_(password).startswith(b"+OK")
        p.quit()
        p = poplib.POP3_SSL(host, int(e["POP3S_PORT"]), context=tls, timeout=wait)
        p.user(user)
        assert p.pass_(password).startswith(b"+OK")
        p.quit()
    with smtplib.SMTP(host, int(e["SMTP_PORT"]), timeout=wait) as s:
        s.starttls(context=tls)
        assert s.sendmail("someone@remote.test", [e["USER2"]], message("by the env file", to=e["USER2"])) == {}


def messages_of(e, user, password):
    c = imaplib.IMAP4_SSL(e["HOST"], int(e["IMAPS_PORT"]), ssl_context=ssl.create_default_context(cafile=e["CA_FILE"]), timeout=wp.PATIENCE)
    c.login(user, password)
    count = int(c.select("INBOX", readonly=True)[1][0])
    c.logout()
    return count


def test_a_deep_folder(folder):
    """A socket's address has room for 107 bytes."""
    deep = folder / "/".join(["a-folder-of-thirty-characters."] * 4)
    deep.mkdir(parents=True)
    shutil.copy(folder / "env", deep / "env")
    once(deep)


def test_the_show_and_a_later_start_with_the_same_values_and_mail(folder):
    ports = environment(folder)
    first = once(folder)
    assert KEYS <= set(first)
    assert {k: first[k] for k in ports} == ports, "free ports that were written down are taken again"
    assert all(int(first[k]) > 1024 for k in ports)
    assert first["USER1"] == "alice@example.test" and first["USER2"] == "bob@example.test"
    assert os.stat(folder / "env").st_mode & 0o077 == 0, "it holds passwords"
    with Foreground(folder) as q:
        assert environment(folder) == first
        log_in_everywhere(first)
        assert messages_of(first, first["USER1"], first["PASSWORD1"]) == 2, "one of each start"
        r = subprocess.run(command(folder, "--once"), text=True, capture_output=True, timeout=wp.PATIENCE)
        assert r.returncode != 0 and "runs already" in r.stderr
        r = subprocess.run([wp.PROGRAMS + "/waypost", "-c", first["CONFIG"], "status"], text=True, capture_output=True, timeout=wp.PATIENCE)
        assert r.returncode == 0 and "smtpd-mx" in r.stdout
        assert q.end(signal.SIGINT) == 0, q.said()
    nobody_is_left(first)


def nobody_is_left(e):
    r = subprocess.run([wp.PROGRAMS + "/waypost", "-c", e["CONFIG"], "status"], text=True, capture_output=True, timeout=wp.PATIENCE)
    assert r.returncode != 0
    with pytest.raises(OSError):
        smtplib.SMTP(e["HOST"], int(e["SMTP_PORT"]), timeout=wp.PATIENCE)


def test_the_env_file_appears_when_everything_serves(folder):
    before = environment(folder)
    with socket.create_server(("127.0.0.1", 0)) as dead:  # a port that is taken: what an older env file says is not true any more
        with open(folder / "env", "a") as f:
            f.write("IMAP_PORT=%d\n" % dead.getsockname()[1])
        q = Foreground(folder)
        try:
            until(lambda: q.proc.poll() is not None or "IMAP_PORT=%d" % dead.getsockname()[1] not in q.env(), q.said)
            until(lambda: q.proc.poll() is not None or q.env(), q.said, 3 * wp.PATIENCE)
            log_in_everywhere(environment(folder))
            assert environment(folder)["SMTP_PORT"] == before["SMTP_PORT"]
            with q:
                assert q.end(signal.SIGTERM) == 0, q.said()
        finally:
            q.__exit__()


def test_it_ends_on_a_signal_and_takes_over_from_one_that_was_killed(folder):
    with Foreground(folder) as q:
        q.proc.kill()
        q.proc.wait(wp.PATIENCE)
    with Foreground(folder) as q:
        assert q.end(signal.SIGTERM) == 0, q.said()
    nobody_is_left(environment(folder))


# make, of which only the compiling is left out: the Makefile is read and judged, the programs are those of this build
MAKE = """#!/bin/sh
/usr/bin/make -n >/dev/null && ln -sfn %s programs
""" % wp.PROGRAMS


@pytest.mark.skipif(wp.SANITIZED, reason="the programs make no difference to it")
@pytest.mark.parametrize("state", ["fresh", pytest.param("built", marks=pytest.mark.skipif(not wp.AS_ROOT, reason="as root only: closed to the throw-away user"))])
def test_contrib_quickstart(folder, state, monkeypatch):
    """The script itself in a checkout of the caller's (as root it becomes a throw-away user): as it came, and in a folder that is closed to
    others, where ./bootstrap, ./configure and make were run."""
    closed = folder / "closed"
    closed.mkdir()
    top = closed / "waypost"
    subprocess.run([SOURCE + "/contrib/copy-source", SOURCE, str(top)], check=True)
    if state == "built":
        closed.chmod(0o700)
        for name in ("configure", "aclocal.m4", "Makefile.in", "build-aux"):  # as bootstrap left them
            made = os.path.join(SOURCE, name)
            (shutil.copytree if os.path.isdir(made) else shutil.copy2)(made, top / name)
        for name in ("config.status", "Makefile", "src/base/span.o", "libbase.a", "programs/waypost"):
            (top / name).parent.mkdir(exist_ok=True)
            (top / name).write_text("not for another folder\n")
    tools = folder / "tools"
    tools.mkdir()
    (tools / "make").write_text(MAKE)
    (tools / "make").chmod(0o755)
    monkeypatch.setenv("PATH", "%s:%s" % (tools, os.environ["PATH"]))
    (top / "quickstart.d").mkdir()
    shutil.copy(folder / "env", top / "quickstart.d/env")
    r = subprocess.run([top / "contrib/quickstart", "--once"], text=True, capture_output=True, timeout=4 * wp.PATIENCE)
    real = os.path.realpath(top / "quickstart.d")
    try:
        assert r.returncode == 0, r.stdout + r.stderr
        assert [l[:4] for l in r.stdout.splitlines() if l.startswith("  ")] == ["  1.", "  2.", "  3."], r.stdout
        assert os.path.exists(real + "/src/configure"), "the copy is what was built"
        assert environment(top / "quickstart.d")["SMTP_PORT"] == environment(folder)["SMTP_PORT"]
    finally:
        if not real.startswith(str(folder)):
            shutil.rmtree(real)
