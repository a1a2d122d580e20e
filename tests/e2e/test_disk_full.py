"""A disk that really fills up, under the queue: a small file system in a mount namespace of the instance's own. Mail is refused for now
before its DATA, what is queued stays readable and whole, and with the room the door opens again by itself. RFC5321:4.2.3, RFC3463:3.4"""
import os
import re
import shutil
import smtplib

import pytest

import waypost as wp
from waypost import message, until

pytestmark = pytest.mark.skipif(not wp.AS_ROOT, reason="run as a user; the run as root has it (a small file system needs a mount namespace)")

SMALL = 'mkdir -p "$1" && mount -t tmpfs -o size=24m,nr_inodes=2000,mode=755 tmpfs "$1" && shift && exec "$@"'


@pytest.fixture
def small(instances, tmp_path):
    """An instance with 24 MB for its state; mail to others waits in the queue."""
    def make(min_free):
        state = str(tmp_path / "a" / "state")
        return instances("a", mx=("127.0.0.1", 1), sections={"queue": "min-free %s; retry-min 60s; retry-max 120s;" % min_free},
                         wrap=["unshare", "-m", "--propagation", "private", "sh", "-c", SMALL, "sh", state])
    return make


def state_of(w):
    """The instance's own view of its state."""
    return "/proc/%d/root%s/state" % (w.proc.pid, w.dir)


def fill(w, leave):
    path = state_of(w) + "/filler"
    with open(path, "ab", buffering=0) as f:
        v = os.statvfs(path)
        while v.f_bavail * v.f_frsize > leave:
            try:
                f.write(b"f" * max(4096, min(1 << 20, v.f_bavail * v.f_frsize - leave)))
            except OSError:
                break
            v = os.statvfs(path)
    return path


def send(w, subject, body="text\r\n"):
    """The reply's code and text, and the command it came to."""
    with w.smtp() as s:
        s.ehlo()
        for verb, call in (("MAIL", lambda: s.mail("carol@remote.test")), ("RCPT", lambda: s.rcpt("fwd@example.test")), ("DATA", lambda: s.data(message(subject, body)))):
            try:
                code, text = call()
            except smtplib.SMTPDataError as e:
                code, text = e.smtp_code, e.smtp_error
            if code >= 400:
                break
        return verb, code, text


def refused_at_mail(w, acked):
    """What comes in before the server looks is accepted, and counts."""
    subject = "late-%d" % len(acked)
    verb, code, text = send(w, subject)
    if code == 250:
        acked.append(subject)
    return verb == "MAIL" and code == 452 and text.startswith(b"4.3.1")


def subjects_in_queue(w):
    return {r["message-id"] for q in {r["id"] for r in w.queue()} for r in w.rows("queue", "show", q) if r.get("message-id")}


def check_all_there(w, sent):
    ids = subjects_in_queue(w)
    for subject in sent:
        assert [i for i in ids if i.startswith("<%s." % subject)], "lost: %s of %s" % (subject, ids)
    assert len(ids) == len(sent)


def test_low_on_space_the_door_closes_and_opens_by_itself(small):
    w = small("8M")
    w.waypost("alias", "add", "fwd@example.test", "someone@far.test")
    assert send(w, "before")[1] == 250
    filler = fill(w, 4 << 20)
    acked = ["before"]
    until(lambda: refused_at_mail(w, acked), "452 at MAIL")
    check_all_there(w, acked)
    os.unlink(filler)
    until(lambda: send(w, "after")[1] == 250, "open again")
    check_all_there(w, acked + ["after"])


def use_files(w, leave):
    """Makes files until so few more can be made."""
    path = state_of(w) + "/files"
    os.mkdir(path)
    for i in range(os.statvfs(path).f_favail - leave):
        open("%s/%d" % (path, i), "x").close()
    return path


def test_low_on_files_the_door_closes_and_opens_by_itself(small):
    w = small("1M; min-free-files 900")
    w.waypost("alias", "add", "fwd@example.test", "someone@far.test")
    assert send(w, "before")[1] == 250
    path = use_files(w, 850)
    acked = ["before"]
    until(lambda: refused_at_mail(w, acked), "452 at MAIL")
    check_all_there(w, acked)
    shutil.rmtree(path)
    until(lambda: send(w, "after")[1] == 250, "open again")
    check_all_there(w, acked + ["after"])


def test_a_disk_that_is_full_to_the_last_block_loses_nothing(small):
    """No reserve at all: the writes themselves fail."""
    w = small("0")
    w.waypost("alias", "add", "fwd@example.test", "someone@far.test")
    assert send(w, "before")[1] == 250
    filler = fill(w, 0)
    acked, replies = ["before"], []
    for i in range(60):
        large = "w" * 70 + "\r\n"
        verb, code, text = send(w, "full-%d" % i, large * (1500 if i % 3 == 0 else 200))
        replies.append((verb, code, text))
        assert code == 250 or (code == 452 and text.startswith(b"4.3.1")), (verb, code, text)
        if code == 250:
            acked.append("full-%d" % i)
    assert [r for r in replies if r[1] == 452], "the disk was never full"
    ids = subjects_in_queue(w)
    assert all([x for x in ids if x.startswith("<%s." % a)] for a in acked), "readable meanwhile"
    os.unlink(filler)
    until(lambda: send(w, "after")[1] == 250, "open again")
    acked.append("after")
    until(lambda: {r["activity"] for r in w.queue()} == {""}, "outcomes recorded")
    check_all_there(w, acked)
    w.stop(kill=True)
    assert not re.search("service-died", w.logged()), "a full disk kills nobody"


def test_a_disk_without_a_file_left_loses_nothing(small):
    """What needs a file of its own is refused for now, by the write that fails; what needs none is taken, and all of it is whole."""
    w = small("0; min-free-files 0")
    w.waypost("alias", "add", "fwd@example.test", "someone@far.test")
    assert send(w, "before")[1] == 250
    path = use_files(w, 0)
    large = ("w" * 70 + "\r\n") * 1500
    verb, code, text = send(w, "large", large)
    assert code == 452 and text.startswith(b"4.3.1"), (verb, code, text)
    shutil.rmtree(path)
    until(lambda: send(w, "after", large)[1] == 250, "open again")
    check_all_there(w, ["before", "after"])
    assert len(os.listdir(state_of(w) + "/queue/spool")) == 1, "nothing is left of what was refused"
    w.stop(kill=True)
    assert not re.search("service-died", w.logged()), "a disk without files kills nobody"


def test_a_copy_for_sqlite3_leaves_room_for_mail(small, tmp_path):
    """Below twice min-free `queue export --db` stops, with nothing left of it, while the door is open."""
    w = small("4M")
    w.waypost("alias", "add", "fwd@example.test", "someone@far.test")
    assert send(w, "before")[1] == 250
    filler = fill(w, 6 << 20)
    refused = w.waypost("queue", "export", "--db", str(tmp_path / "x"), check=False)
    assert refused.returncode == 1 and "less free than twice what queue.min-free says" in refused.stderr
    assert not os.path.exists(tmp_path / "x") and "copy.db" not in os.listdir(state_of(w) + "/queue")
    assert send(w, "meanwhile")[1] == 250
    os.unlink(filler)
    assert " of 2 messages " in w.waypost("queue", "export", "--db", str(tmp_path / "x")).stdout
