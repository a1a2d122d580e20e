"""What the kernel says of each running program, against the table of the design: uid, capabilities, no-new-privileges, seccomp, root,
descriptors. Both ways of running. The plain build only: the sanitizers' runtime needs more."""
import grp
import os
import pwd
import re
import stat
import subprocess

import pytest

import waypost as wp
from waypost import message, until

pytestmark = pytest.mark.skipif(wp.SANITIZED, reason="sandbox tests use the plain build")
LOCKED = ("zygote", "authd", "tallyd", "qmgr", "relay", "policyd-judge", "keyd", "tokend", "smtpd-mx", "smtpd-submission", "smtpd-local", "imapd", "pop3d")
EMPTY_ROOT = ("relay", "policyd-judge", "keyd", "tokend", "smtpd-mx", "smtpd-submission", "smtpd-local", "imapd", "pop3d")
MAKE_USERS = os.path.join(os.path.dirname(__file__), "../../contrib/make-users")
CAP_SETGID, CAP_SETUID = 6, 7


def status(pid):
    return dict(l.rstrip("\n").split(":\t", 1) for l in open("/proc/%d/status" % pid) if ":\t" in l)


def services(w):
    out = {}
    for r in w.rows("status"):
        name = re.split(r"[/\[ ]", r["service"])[0]
        out.setdefault(name, []).append(r["pid"])
    return out


@pytest.fixture
def running(instances):
    """(instance, {name: [pid]}) with one account process at work."""
    server = instances("a", sections={"oauth": "introspection http://127.0.0.1:9/; audience mail;"})
    with server.smtp() as s:
        s.sendmail("c@remote.test", ["bob@example.test"], message("one"))
    c = server.imap("bob@example.test", mailbox="INBOX")
    found = services(server)
    found["mda"] = until(server.account_processes, "an account process")
    yield server, found
    c.logout()


def test_every_program_is_locked_in(running):
    w, found = running
    assert set(found) == set(LOCKED) | {"mda", "waypostd"}, "every program is looked at"
    for name in LOCKED + ("mda",):
        for pid in found[name]:
            st = status(pid)
            assert st["NoNewPrivs"] == "1", name
            assert st["Seccomp"] == "2", name
            caps = int(st["CapEff"], 16) | int(st["CapPrm"], 16)
            allowed = (1 << CAP_SETUID | 1 << CAP_SETGID) if name == "zygote" and wp.AS_ROOT else 0
            assert caps & ~allowed == 0, "%s has capabilities %x" % (name, caps)


def system_user(name):
    """The one of that program, as src/service/roles.c has it."""
    return "waypost-" + {"policyd-judge": "judge", "tokend": "token"}.get(name, name.removeprefix("smtpd-"))


@pytest.mark.skipif(not wp.AS_ROOT, reason="as root only: uids and empty roots")
def test_as_root_each_has_a_uid_of_its_own_and_an_empty_root(running):
    w, found = running
    listed = [l.split() for l in subprocess.run([MAKE_USERS, "--list"], text=True, capture_output=True).stdout.splitlines()]
    groups = {words[1]: words[2] for words in listed if words[0] == "user"}
    assert set(groups) == {system_user(name) for name in LOCKED}, "make-users makes those that programs have, and no other"
    for name in LOCKED:
        user = system_user(name)
        for pid in found[name]:
            st = status(pid)
            assert set(st["Uid"].split()) == {str(pwd.getpwnam(user).pw_uid)}, "%s runs with uids %s" % (name, st["Uid"])
            assert set(st["Gid"].split()) == {str(grp.getgrnam(groups[user]).gr_gid)}, "%s runs with gids %s" % (name, st["Gid"])
    uids = [pwd.getpwnam(user).pw_uid for user in groups]
    assert len(set(uids)) == len(uids) and 0 not in uids
    for name in LOCKED + ("mda",):
        assert not any(status(pid)["Groups"].split() for pid in found[name]), "%s has groups besides" % name
    for name in EMPTY_ROOT:
        for pid in found[name]:
            assert os.listdir("/proc/%d/root/" % pid) == [], name
    for key in ("Uid", "Gid"):
        mda = set(status(found["mda"][0])[key].split())
        assert len(mda) == 1 and 200000 <= int(mda.pop()) <= 299999
    boxes = [e for e in os.scandir(w.dir + "/state/mail") if e.is_dir()]
    assert boxes
    for e in boxes:
        st = e.stat()
        assert stat.S_IMODE(st.st_mode) == 0o700 and 200000 <= st.st_uid <= 299999


def test_descriptors_are_sockets_and_ones_own_files_only(running):
    w, found = running
    own = {"authd": "/state/directory", "tallyd": "/state/tally", "qmgr": "/state/queue", "mda": "/state/mail/"}
    for name in LOCKED + ("mda",):
        for pid in found[name]:
            if name == "keyd" and not wp.AS_ROOT:  # not even others of its uid look into it
                with pytest.raises(PermissionError):
                    os.listdir("/proc/%d/fd" % pid)
                continue
            for fd in os.listdir("/proc/%d/fd" % pid):
                try:
                    target = os.readlink("/proc/%d/fd/%s" % (pid, fd))
                except OSError:
                    continue
                if re.match(r"(socket|pipe|anon_inode|/memfd):?", target) or target == "/dev/null" or int(fd) <= 2:
                    continue
                ok = name in own and own[name] in target
                ok = ok or (name == "qmgr" and target.endswith("/state/mail"))  # for syncfs
                ok = ok or target in ("/dev/urandom", "/dev/random")
                ok = ok or (name in EMPTY_ROOT and re.search(r"\.(pem|crt)$", target)) or (name == "keyd" and target.endswith(".key"))
                ok = ok or target.startswith("/proc/self") or target.endswith("boot_id")
                assert ok, "%s (pid %d) holds %s" % (name, pid, target)


def test_files_of_the_state_are_for_their_owner_only(running):
    w, _ = running
    for root, dirs, files in os.walk(w.dir + "/state"):
        for f in files:
            mode = os.lstat(os.path.join(root, f)).st_mode
            assert not stat.S_IMODE(mode) & 0o077, "%s is open to others" % os.path.join(root, f)


def test_a_planted_symlink_is_not_followed(instances, tmp_path):
    """HAZARDS 32: an account's folder that is a link to elsewhere is refused, and the rest goes on."""
    w = instances("a")
    row = next(r for r in w.rows("account", "list") if r["account"] == "bob@example.test" or r.get("address") == "bob@example.test")
    box = "%s/state/mail/%s" % (w.dir, row["id"])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    if os.path.lexists(box):
        os.rename(box, box + ".moved")
    os.symlink(elsewhere, box)
    with w.smtp() as s:
        s.sendmail("c@remote.test", ["alice@example.test"], message("for alice"))
        s.sendmail("c@remote.test", ["bob@example.test"], message("for bob"))
    w.wait_inbox("alice@example.test", 1)
    assert list(elsewhere.iterdir()) == []
    os.unlink(box)
    if os.path.exists(box + ".moved"):
        os.rename(box + ".moved", box)
    w.waypost("queue", "retry", "--all")
    w.wait_inbox("bob@example.test", 1)
