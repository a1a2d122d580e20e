"""make dist, make install, and what is in what they make: the tarball is the source, an instance runs from where it was installed, another mail
server's commands stay, the programs are hardened."""
import os
import re
import subprocess
import tarfile

import pytest

import waypost as wp
from waypost import message

pytestmark = pytest.mark.skipif(wp.SANITIZED, reason="the plain build is what is installed")
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMES = ("bin/mailq", "bin/newaliases", "sbin/sendmail")


def make(*args):
    r = subprocess.run(["make", "-s", *args], cwd=wp.BUILD, text=True, capture_output=True, timeout=4 * wp.PATIENCE)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout


@pytest.fixture
def installed(tmp_path):
    """(what make install said, the folder of prefix below DESTDIR)."""
    said = make("install", "DESTDIR=%s" % tmp_path)
    return said, tmp_path / "usr/local"


def test_an_instance_runs_from_where_it_was_installed(instances, installed, monkeypatch):
    _, prefix = installed
    for name in NAMES:
        assert os.readlink(prefix / name) == "/usr/local/bin/waypost"
    unit = (prefix / "lib/systemd/system/waypost.service").read_text()
    assert "\nExecStart=/usr/local/bin/waypost start\n" in unit and "@" not in unit
    assert (prefix / "share/doc/waypost/waypost.conf.example").exists()
    w = instances("i", start=False)
    w.command = [str(prefix / "libexec/waypost/waypostd"), "-c", w.conf]
    monkeypatch.setattr(wp, "PROGRAMS", str(prefix / "bin"))
    w.start()
    for row in w.rows("status"):
        if wp.AS_ROOT:
            assert os.readlink("/proc/%d/exe" % row["pid"]).startswith(str(prefix / "libexec/waypost")), row
    with w.smtp() as s:
        s.sendmail("c@remote.test", ["bob@example.test"], message("installed"))
    w.wait_inbox("bob@example.test", 1)
    w.waypost("stop")
    assert w.proc.wait(wp.PATIENCE) == 0


def test_uninstall_takes_away_what_install_brought(installed, tmp_path):
    make("uninstall", "DESTDIR=%s" % tmp_path)
    left = [os.path.join(folder, f) for folder, _, files in os.walk(tmp_path) for f in files]
    assert not left


@pytest.mark.parametrize("kind", ["a program", "a link", "a link that leads nowhere"])
def test_another_mail_servers_commands_stay(tmp_path, kind):
    prefix = tmp_path / "usr/local"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "sbin").mkdir()
    (prefix / "sbin/exim4").write_text("another's")
    for name in NAMES[1:]:
        if kind == "a program":
            (prefix / name).write_text("another's")
        else:
            os.symlink("../sbin/exim4" if kind == "a link" else "/nonexistent/exim4", prefix / name)
    was = [(os.lstat(prefix / name).st_ino, os.lstat(prefix / name).st_size) for name in NAMES[1:]]
    for _ in range(2):  # the second run finds our own link, too
        said = make("install", "DESTDIR=%s" % tmp_path)
        assert ["%s/%s" % (prefix, name) in said for name in NAMES] == [False, True, True], said
        assert os.readlink(prefix / NAMES[0]) == "/usr/local/bin/waypost"
    make("uninstall", "DESTDIR=%s" % tmp_path)
    assert not os.path.lexists(prefix / NAMES[0])
    assert [(os.lstat(prefix / name).st_ino, os.lstat(prefix / name).st_size) for name in NAMES[1:]] == was


def test_the_tarball_is_the_source_and_can_be_configured(tmp_path):
    name = re.search(r"^VERSION = (.*)$", open(wp.BUILD + "/Makefile").read(), re.M).group(1)
    top = tmp_path / ("waypost-" + name)
    make("dist", "distdir=%s" % top)
    with tarfile.open("%s.tar.xz" % top) as t:
        t.extractall(tmp_path / "out")
    out = tmp_path / "out" / str(top)[1:]
    have = {os.path.relpath(os.path.join(folder, f), out) for folder, _, files in os.walk(out) for f in files}
    subprocess.run([SOURCE + "/contrib/copy-source", SOURCE, str(tmp_path / "source")], check=True)
    want = {os.path.relpath(os.path.join(folder, f), tmp_path / "source") for folder, _, files in os.walk(tmp_path / "source") for f in files}
    made = {"configure", "aclocal.m4", "Makefile.in"}
    assert {f for f in have if not f.startswith("build-aux/")} == want | made
    (tmp_path / "b").mkdir()
    r = subprocess.run([out / "configure", "-q"], cwd=tmp_path / "b", text=True, capture_output=True)
    assert r.returncode == 0, r.stdout + r.stderr
    r = subprocess.run(["make", "-n"], cwd=tmp_path / "b", text=True, capture_output=True)
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr


def readelf(*args):
    return subprocess.run(["readelf", "-W", *args], text=True, capture_output=True, check=True).stdout


@pytest.mark.parametrize("program", sorted(os.listdir(wp.PROGRAMS)) if wp.BUILD else [])
def test_programs_are_hardened(program):
    path = wp.PROGRAMS + "/" + program
    if not os.access(path, os.X_OK) or os.path.isdir(path):
        return
    head, segments, dynamic, symbols = readelf("-h", path), readelf("-l", path), readelf("-d", path), readelf("--dyn-syms", path)
    assert re.search(r"Type:\s+DYN", head) and "PIE" in dynamic, "position-independent"
    assert "GNU_RELRO" in segments and re.search(r"BIND_NOW|Flags:.*\bNOW\b", dynamic), "relocations are read-only before main"
    assert re.search(r"GNU_STACK\s.*\sRW\s", segments), "the stack is not executable"
    assert not re.search(r"LOAD\s.*\sRWE\s", segments)
    assert "__stack_chk_fail" in symbols, "stack protector"
    assert re.search(r"__\w+_chk@", symbols), "_FORTIFY_SOURCE"
