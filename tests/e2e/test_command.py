"""The operators' command: domains, accounts, aliases; exit codes; --json."""
import imaplib
import os
import poplib
import re
import smtplib
import subprocess

import pytest

import waypost as wp
from waypost import message, until


def test_domains_accounts_aliases(server):
    w = server
    assert [r["domain"] for r in w.rows("domain", "list")] == ["example.test"]
    w.waypost("domain", "add", "second.test")
    assert {r["domain"] for r in w.rows("domain", "list")} == {"example.test", "second.test"}
    w.waypost("account", "add", "dora@second.test", "--password-stdin", input="first-pw-1\n")
    w.accounts["dora@second.test"] = "first-pw-1"
    with w.smtp() as s:
        s.sendmail("c@remote.test", ["dora@second.test"], message("hello"))
    w.wait_inbox("dora@second.test", 1)
    w.waypost("account", "passwd", "dora@second.test", "--password-stdin", input="second-pw-2\n")
    with pytest.raises(imaplib.IMAP4.error):
        w.imap("dora@second.test")
    w.accounts["dora@second.test"] = "second-pw-2"
    w.imap("dora@second.test").logout()
    w.waypost("account", "disable", "dora@second.test")
    with pytest.raises(imaplib.IMAP4.error):
        w.imap("dora@second.test")
    w.waypost("account", "enable", "dora@second.test")
    w.imap("dora@second.test").logout()
    assert w.waypost("domain", "remove", "second.test", check=False).returncode != 0, "a domain with accounts stays"
    w.waypost("account", "remove", "dora@second.test")
    with w.smtp() as s:
        s.ehlo()
        s.mail("c@remote.test")
        assert s.rcpt("dora@second.test")[0] == 550
    w.waypost("domain", "remove", "second.test")


def test_a_removed_account_keeps_its_mail_until_purged(server):
    w = server
    with w.smtp() as s:
        s.sendmail("c@remote.test", ["bob@example.test"], message("keep me"))
    w.wait_inbox("bob@example.test", 1)
    before = set(os.listdir(w.dir + "/state/mail"))
    w.waypost("account", "remove", "bob@example.test")
    assert set(os.listdir(w.dir + "/state/mail")) == before
    w.waypost("account", "add", "bob@example.test", "--password-stdin", input=w.accounts["bob@example.test"] + "\n")
    assert w.inbox("bob@example.test") == [], "a new account of the same name does not see the old one's mail"


def test_purge_takes_the_mail_away(server):
    import os
    w = server
    with w.smtp() as s:
        s.sendmail("c@remote.test", ["bob@example.test"], message("burn after reading"))
    w.wait_inbox("bob@example.test", 1)
    w.waypost("account", "remove", "bob@example.test", "--purge")

    def gone():
        for root, _, files in os.walk(w.dir + "/state/mail"):
            for f in files:
                if b"burn after reading" in open(os.path.join(root, f), "rb").read():
                    return False
        return True
    until(gone, "the mail is gone")


def test_app_passwords(server):
    w, alice = server, "alice@example.test"
    main = w.accounts[alice]
    phone = w.rows("account", "app-password", "add", alice, "my phone", "imap", "smtp")[0]
    assert phone["name"] == "my phone" and phone["protocols"] == "smtp imap"
    printer = w.rows("account", "app-password", "add", alice, "printer", "smtp")[0]["password"]
    for row in w.rows("account", "app-password", "list", alice):
        assert not row["last-use"] and "password" not in row
    assert w.waypost("account", "app-password", "add", alice, "printer", "pop3", check=False).returncode == 1
    for bad in ([], ["imap", "gopher"]):
        assert w.waypost("account", "app-password", "add", alice, "x", *bad, check=False).returncode == 2
    w.accounts[alice] = phone["password"]
    w.imap(alice).logout()
    with w.submit(alice) as s:
        s.sendmail(alice, ["bob@example.test"], message("by phone", sender=alice))
    with pytest.raises(poplib.error_proto):
        w.pop3(alice)
    w.accounts[alice] = printer
    w.submit(alice).quit()
    with pytest.raises(imaplib.IMAP4.error):
        w.imap(alice)
    assert all(row["last-use"] for row in w.rows("account", "app-password", "list", alice))
    w.waypost("account", "passwd", alice, "--password-stdin", input="another-word-4\n")
    w.submit(alice).quit()  # is not the main one's business
    w.waypost("account", "app-password", "remove", alice, "printer")
    assert w.waypost("account", "app-password", "remove", alice, "printer", check=False).returncode == 3
    with pytest.raises(smtplib.SMTPAuthenticationError):
        w.submit(alice)
    w.accounts[alice] = phone["password"]
    w.imap(alice).logout()
    w.accounts[alice] = main
    assert phone["password"] not in w.logged() and printer not in w.logged()


def test_alias_loops_are_refused_when_made(server):
    w = server
    w.waypost("alias", "add", "a@example.test", "b@example.test")
    r = w.waypost("alias", "add", "b@example.test", "a@example.test", check=False)
    assert r.returncode != 0 and "loop" in (r.stdout + r.stderr).lower()
    rows = w.rows("alias", "list")
    assert any("a@example.test" in str(x) for x in rows)
    w.waypost("alias", "remove", "a@example.test")


def test_precedence(server):
    """HAZARDS 29: exact, then without +detail, then alias, then catch-all."""
    w = server
    w.waypost("alias", "add", "@example.test", "alice@example.test")
    with w.smtp() as s:
        for to in ("bob@example.test", "bob+x@example.test", "other@example.test"):
            s.sendmail("c@remote.test", [to], message("to " + to))
    assert len(w.wait_inbox("bob@example.test", 2)) == 2
    assert len(w.wait_inbox("alice@example.test", 1)) == 1
    text = w.waypost("address", "explain", "bob+x@example.test").stdout
    assert "bob@example.test" in text


FAILED, USAGE, NONE = 1, 2, 3  # EXIT STATUS of waypost(8)


@pytest.mark.parametrize("status,args", [
    (USAGE, "frobnicate"), (USAGE, "domain"), (USAGE, "domain add"), (USAGE, "domain add a.test b.test"), (USAGE, "domain add bad..name"),
    (USAGE, "account add not-an-address"), (NONE, "account add x@unknown-domain.test --password-stdin"),
    (FAILED, "account add alice@example.test --password-stdin"), (FAILED, "domain add example.test"), (FAILED, "domain remove example.test"),
    (NONE, "domain remove unknown-domain.test"), (NONE, "account remove nobody@example.test"), (NONE, "alias remove nobody@example.test"),
    (NONE, "queue show 1K000000000"), (NONE, "queue why 1K000000000"), (NONE, "queue remove 1K000000000"), (USAGE, "queue show NOSUCHID"), (USAGE, "queue show"), (USAGE, "status more")])
def test_mistakes_have_exit_codes_and_one_clear_line(server, status, args):
    r = server.waypost(*args.split(), check=False, input="password-1\n")
    assert r.returncode == status, r
    assert not r.stdout and 0 < len(r.stderr.strip().splitlines()) <= 25


def test_the_manual_has_every_command_and_no_other():
    """What `waypost help` lists stands in waypost.8 as the head of an entry, and the other way round."""
    text = subprocess.run([wp.PROGRAMS + "/waypost", "help"], text=True, capture_output=True).stdout
    helped = {re.match(r"  waypost ([a-z][a-z0-9 -]*[a-z0-9])", l)[1] for l in text.splitlines() if re.match(r"  waypost [a-z]", l)}
    manual = open(os.path.join(os.path.dirname(__file__), "../../doc/waypost.8")).read().split(".SH COMMANDS")[1].split(".SH EXIT STATUS")[0]
    heads = re.findall(r'^\.TP\n\.[BIR]+ (?:"([a-z].*?)"|([a-z][a-z ]*[a-z]))', manual, re.M)
    listed = {(quoted or bare).replace("\\", "") for quoted, bare in heads}
    listed |= set(re.findall(r'^\.B "?(.*?)"?\nis the same\.', manual, re.M))
    assert helped - {"help"} == listed


def test_json_and_help(server):
    assert server.rows("queue", "list") == []
    text = server.waypost("help", check=False).stdout + server.waypost("--help", check=False).stdout
    for word in ("domain add", "account add", "alias add", "queue list", "queue why", "status", "reload", "check", "start", "stop"):
        assert word in text, word
