"""Real clients of Debian's packages against a real server."""
import os
import shlex
import shutil
import subprocess

import pytest

from waypost import PATIENCE, message, until

USER = "bob@example.test"


def tool(name):
    path = shutil.which(name)
    if not path:
        pytest.skip("%s is not installed: contrib/packages names it" % name)
    return path


def run(args, **kw):
    r = subprocess.run(args, text=True, capture_output=True, timeout=PATIENCE, stdin=None if "input" in kw else subprocess.DEVNULL, **kw)
    assert r.returncode == 0, "%s: exit %d\n%s%s" % (args[0], r.returncode, r.stdout, r.stderr)
    return r.stdout


def deliver(server, *subjects, to=USER):
    before = len(server.inbox(to))
    with server.smtp() as s:
        for subject in subjects:
            s.sendmail("carol@remote.test", [to], message(subject))
    server.wait_inbox(to, before + len(subjects))


def test_swaks_submits_over_starttls_and_over_tls(server):
    for port, how in (("submission", "-tls"), ("submissions", "-tlsc")):
        out = run([tool("swaks"), "--server", server.address, "--port", str(server.ports[port]), how, "--tls-verify", "--tls-ca-path", server.ca.cert, "--auth", "PLAIN",
                   "--auth-user", "alice@example.test", "--auth-password", server.accounts["alice@example.test"],
                   "--from", "alice@example.test", "--to", USER, "--h-Subject", "by swaks " + port, "--body", "hello"])
        assert "queued as" in out
    assert len(server.wait_inbox(USER, 2)) == 2


def test_swaks_auth_login_and_pipelining(server):
    run([tool("swaks"), "--server", server.address, "--port", str(server.ports["submission"]), "-tls", "--auth", "LOGIN", "--pipeline",
         "--auth-user", "alice@example.test", "--auth-password", server.accounts["alice@example.test"], "--from", "alice@example.test", "--to", USER + ",alice@example.test"])
    server.wait_inbox(USER, 1)
    server.wait_inbox("alice@example.test", 1)


def test_curl_sends_and_reads_over_all_three_protocols(server, tmp_path):
    mail = tmp_path / "mail"
    mail.write_bytes(message("by curl", sender="alice@example.test"))
    login = ["--cacert", server.ca.cert, "-sS", "--max-time", str(PATIENCE)]
    run([tool("curl")] + login + ["--url", "smtps://%s:%d" % (server.address, server.ports["submissions"]), "--user", "alice@example.test:" + server.accounts["alice@example.test"],
                                  "--mail-from", "alice@example.test", "--mail-rcpt", USER, "-T", str(mail)])
    server.wait_inbox(USER, 1)
    user = ["--user", USER + ":" + server.accounts[USER]]
    out = run([tool("curl")] + login + user + ["imaps://%s:%d/INBOX;MAILINDEX=1" % (server.address, server.ports["imaps"])])
    assert "Subject: by curl" in out
    out = run([tool("curl")] + login + user + ["--ssl-reqd", "imap://%s:%d/" % (server.address, server.ports["imap"]), "-X", "LIST \"\" *"])
    for box in ("INBOX", "Sent", "Drafts", "Trash", "Junk", "Archive"):
        assert box in out
    out = run([tool("curl")] + login + user + ["pop3s://%s:%d/1" % (server.address, server.ports["pop3s"])])
    assert "Subject: by curl" in out
    out = run([tool("curl")] + login + user + ["--ssl-reqd", "pop3://%s:%d/" % (server.address, server.ports["pop3"])])
    assert out.split()[0] == "1"


def mbsync(server, tmp_path):
    conf = tmp_path / "mbsyncrc"
    box = tmp_path / "boxes"
    box.mkdir(exist_ok=True)
    conf.write_text("""IMAPAccount w
Host %s
Port %d
User %s
Pass %s
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account w

MaildirStore near
Path %s/
Inbox %s/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
""" % (server.address, server.ports["imaps"], USER, server.accounts[USER], server.ca.cert, box, box))
    return run([tool("mbsync"), "-c", str(conf), "-a"], env=dict(os.environ, HOME=str(tmp_path)))


def test_mbsync_two_ways(server, tmp_path):
    deliver(server, "one", "two", "three")
    mbsync(server, tmp_path)
    inbox = tmp_path / "boxes" / "INBOX"
    near = sorted(p for d in ("new", "cur") for p in (inbox / d).iterdir())
    assert len(near) == 3
    for box in ("Sent", "Drafts", "Trash", "Junk", "Archive"):
        assert (tmp_path / "boxes" / box).is_dir()
    # near → far: one read, one deleted, one new; a new mailbox
    name = near[0].name.split(":")[0]
    near[0].rename(inbox / "cur" / (name + ":2,S"))
    near[1].unlink()
    (inbox / "cur" / "1234.local.test:2,F").write_bytes(message("from near").replace(b"\r\n", b"\n"))
    for d in ("cur", "new", "tmp"):
        (tmp_path / "boxes" / "Projects" / d).mkdir(parents=True)
    (tmp_path / "boxes" / "Projects" / "cur" / "1.x:2,S").write_bytes(message("in a new box").replace(b"\r\n", b"\n"))
    mbsync(server, tmp_path)
    c = server.imap(USER, mailbox="INBOX")
    typ, data = c.search(None, "ALL")
    assert len(data[0].split()) == 3
    assert len(c.search(None, "SEEN")[1][0].split()) == 1
    assert len(c.search(None, "FLAGGED")[1][0].split()) == 1
    assert c.search(None, "SUBJECT", '"from near"')[1][0]
    c.select("Projects")
    assert c.search(None, "ALL")[1] == [b"1"]
    # far → near
    c.select("INBOX")
    c.store("1:*", "+FLAGS", r"\Deleted")
    c.expunge()
    c.logout()
    mbsync(server, tmp_path)
    assert [p for d in ("new", "cur") for p in (inbox / d).iterdir()] == []
    mbsync(server, tmp_path)  # nothing to do is fine too


def test_fetchmail_takes_the_mail_away(server, tmp_path):
    deliver(server, "fetch me", "and me")
    out = tmp_path / "mbox"
    rc = tmp_path / "fetchmailrc"
    rc.write_text('poll %s protocol POP3 port %d username "%s" password "%s" ssl sslcertck sslcertfile "%s" no rewrite mda "cat >> %s"\n' %
                  (server.address, server.ports["pop3s"], USER, server.accounts[USER], server.ca.cert, out))
    rc.chmod(0o600)
    run([tool("fetchmail"), "-f", str(rc), "--pidfile", str(tmp_path / "pid"), "-i", str(tmp_path / "ids"), "--nosyslog"], env=dict(os.environ, HOME=str(tmp_path), FETCHMAILHOME=str(tmp_path)))
    text = out.read_text()
    assert "Subject: fetch me" in text and "Subject: and me" in text
    assert server.inbox(USER) == []


def test_neomutt_reads_and_replies(server, tmp_path):
    deliver(server, "for mutt")
    rc = tmp_path / "muttrc"
    rc.write_text("""set folder="imaps://%(a)s:%(imaps)d/"
set spoolfile="+INBOX"
set imap_user="%(u)s"
set imap_pass="%(p)s"
set smtp_url="smtps://%(u)s@%(a)s:%(subs)d"
set smtp_pass="%(p)s"
set ssl_ca_certificates_file="%(ca)s"
set from="%(u)s"
set use_from=yes
set copy=no
set header_cache=""
set message_cachedir=""
""" % dict(a=server.address, imaps=server.ports["imaps"], subs=server.ports["submissions"], u=USER, p=server.accounts[USER], ca=server.ca.cert))
    env = dict(os.environ, HOME=str(tmp_path), TERM="dumb")
    run([tool("neomutt"), "-n", "-F", str(rc), "-s", "by mutt", "alice@example.test"], input="hello alice\n", env=env)
    assert b"Subject: by mutt" in server.wait_inbox("alice@example.test", 1)[0]
    # reading: tag everything, save it to another mailbox, quit; it wants a terminal
    keys = "set confirmappend=no delete=yes confirmcreate=no wait_key=no; push 'T.<enter>;s<kill-line>=Archive<enter><sync-mailbox><quit>'"
    run([tool("script"), "-qec", shlex.join([tool("neomutt"), "-n", "-F", str(rc), "-e", keys]), "/dev/null"], env=dict(env, TERM="xterm"))
    until(lambda: len(server.inbox(USER, "Archive")) == 1, "the message in Archive")
    assert server.inbox(USER) == []
