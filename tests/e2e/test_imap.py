"""IMAP over the whole chain (front, directory, account process, store) with Python's imaplib and raw sessions. RFC3501, RFC2177, RFC4315."""
import imaplib
import re
import socket
import ssl

import pytest

from waypost import message, until

ALICE = "alice@example.test"


def ok(reply):
    typ, data = reply
    assert typ == "OK", reply
    return data


def append(c, box, subject, flags=None, body="text\r\n"):
    return ok(c.append(box, flags, '"23-Nov-2026 10:00:00 +0000"', message(subject, body)))


def test_capabilities_before_and_after_tls_and_login(server):
    c = server.imap(port="imap") if server.plaintext else imaplib.IMAP4(server.address, server.ports["imap"])
    before = set(c.capabilities)
    assert "STARTTLS" in before and "LOGINDISABLED" in before
    assert not [x for x in before if x.startswith("AUTH=")]
    with pytest.raises(imaplib.IMAP4.error) as e:
        c.login(ALICE, server.accounts[ALICE])
    assert "PRIVACYREQUIRED" in str(e.value)
    c.starttls(server.tls())
    between = set(ok(c.capability())[0].decode().split())
    assert "AUTH=PLAIN" in between and "LOGINDISABLED" not in between and "STARTTLS" not in between
    c.login(ALICE, server.accounts[ALICE])
    after = set(ok(c.capability())[0].decode().split())
    assert {"IMAP4rev1", "IDLE", "UIDPLUS", "NAMESPACE", "LITERAL+", "SPECIAL-USE", "UNSELECT", "ID"} <= after
    assert not [x for x in after if x.startswith("AUTH=") or x in ("STARTTLS", "LOGINDISABLED")]
    c.logout()


def test_wrong_passwords_and_unknown_users_look_alike(server):
    texts = []
    for user, pw in ((ALICE, "wrong"), ("nobody@example.test", "wrong")):
        c = server.imap()
        with pytest.raises(imaplib.IMAP4.error) as e:
            c.login(user, pw)
        texts.append(str(e.value))
        c.shutdown()
    assert texts[0] == texts[1] and "AUTHENTICATIONFAILED" in texts[0]
    server.wait_log(r"login.*(fail|refus).*%s" % re.escape("nobody@example.test"))


def test_authenticate_plain(server):
    c = server.imap()
    ok(c.authenticate("PLAIN", lambda _: ("\0%s\0%s" % (ALICE, server.accounts[ALICE])).encode()))
    ok(c.select())
    c.logout()


def test_mailboxes_of_a_new_account(server):
    c = server.imap(ALICE)
    found = {}
    for line in ok(c.list()):
        m = re.match(rb'\(([^)]*)\) "/" "?([^"]*)"?$', line)
        found[m.group(2).decode()] = m.group(1).decode().split()
    for box, use in (("Sent", r"\Sent"), ("Drafts", r"\Drafts"), ("Trash", r"\Trash"), ("Junk", r"\Junk"), ("Archive", r"\Archive")):
        assert use in found[box], found
    assert "INBOX" in found
    assert ok(c.namespace()) == [b'(("" "/")) NIL NIL']
    c.logout()


def test_append_fetch_store_copy_expunge(server):
    c = server.imap(ALICE)
    m = re.search(rb"APPENDUID (\d+) (\d+)", append(c, "INBOX", "first", r"(\Seen)")[0])
    assert m, "UIDPLUS answers APPENDUID"
    append(c, "INBOX", "second")
    assert ok(c.select()) == [b"2"]
    data = ok(c.fetch("1:2", "(FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"))
    assert rb"\Seen" in data[0] and b'"first"' in data[0] and b'"23-Nov-2026 10:00:00 +0000"' in data[0]
    assert b'("TEXT" "PLAIN"' in data[0].upper()
    assert ok(c.search(None, "UNSEEN")) == [b"2"]
    head = ok(c.fetch("2", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))[0][1]
    assert head == b"Subject: second\r\n\r\n"
    assert ok(c.fetch("2", "(BODY[TEXT]<1.2>)"))[0][1] == b"ex"
    assert ok(c.search(None, "UNSEEN")) == [b""], "BODY[] sets \\Seen"
    ok(c.create("Work/2026"))
    reply = ok(c.copy("1:2", "Work/2026"))
    assert b"COPYUID" in reply[0]
    ok(c.store("1", "+FLAGS", r"(\Deleted keyword1)"))
    assert ok(c.expunge()) == [b"1"]
    assert ok(c.search(None, "ALL")) == [b"1"]
    ok(c.select("Work/2026"))
    assert len(ok(c.search(None, "ALL"))[0].split()) == 2
    ok(c.rename("Work", "Play"))
    assert b"Play/2026" in b"".join(ok(c.list('""', '"*"')))
    ok(c.select("INBOX"))
    ok(c.delete("Play/2026"))
    assert c.select("Play/2026")[0] == "NO"
    c.logout()


def test_two_sessions_see_each_other(server):
    a, b = server.imap(ALICE, mailbox="INBOX"), server.imap(ALICE, mailbox="INBOX")
    append(a, "INBOX", "shared")
    ok(b.noop())
    assert b.untagged_responses.get("EXISTS", [None])[-1] == b"1"
    ok(a.noop())
    ok(a.store("1", "+FLAGS", r"\Flagged"))
    ok(b.noop())
    assert any(rb"\Flagged" in x for x in b.untagged_responses.get("FETCH", []))
    ok(a.store("1", "+FLAGS", r"\Deleted"))
    ok(a.expunge())
    ok(b.noop())
    assert b.untagged_responses.get("EXPUNGE") == [b"1"]
    a.logout()
    b.logout()


def test_utf8_names_and_odd_names(server):
    c = server.imap(ALICE)
    ok(c.create("Entw&APw-rfe"))  # modified UTF-7
    assert b"Entw&APw-rfe" in b"".join(ok(c.list('""', '"Entw*"')))
    for bad in ("&bad", "a//b", "..", "/x", "x" * 2000):
        assert c.create('"%s"' % bad)[0] in ("NO", "BAD"), bad
    c.logout()


def raw_session(server):
    s = socket.create_connection((server.address, server.ports["imaps"]), timeout=30)
    s = server.tls().wrap_socket(s, server_hostname=server.address)
    f = s.makefile("rb")
    assert f.readline().startswith(b"* OK")
    s.sendall(b'a LOGIN %s "%s"\r\n' % (ALICE.encode(), server.accounts[ALICE].encode()))
    while not (line := f.readline()).startswith(b"a "):
        assert line
    assert line.startswith(b"a OK"), line
    return s, f


def test_pipelined_commands_run_in_order(server):
    s, f = raw_session(server)
    mail = message("piped")
    s.sendall(b"b APPEND INBOX {%d+}\r\n%s\r\nc SELECT INBOX\r\nd STORE 1 +FLAGS (\\Deleted)\r\ne EXPUNGE\r\nf FETCH 1 FLAGS\r\ng LOGOUT\r\n" % (len(mail), mail))
    text = f.read()
    tags = re.findall(rb"^([b-g]) (OK|NO|BAD)", text, re.M)
    assert [t for t, _ in tags] == [b"b", b"c", b"d", b"e", b"f", b"g"]
    assert [r for _, r in tags][:4] == [b"OK"] * 4
    assert b"* 1 EXPUNGE" in text


def test_commands_sent_together_with_the_login_are_served(server):
    s = socket.create_connection((server.address, server.ports["imaps"]), timeout=30)
    s = server.tls().wrap_socket(s, server_hostname=server.address)
    s.sendall(b'a LOGIN %s "%s"\r\nb SELECT INBOX\r\nc LOGOUT\r\n' % (ALICE.encode(), server.accounts[ALICE].encode()))
    text = s.makefile("rb").read()
    assert re.findall(rb"^([abc]) (OK|NO|BAD)", text, re.M) == [(b"a", b"OK"), (b"b", b"OK"), (b"c", b"OK")], text


def test_nothing_sent_before_starttls_is_executed(server):
    s = socket.create_connection((server.address, server.ports["imap"]), timeout=30)
    f = s.makefile("rb", buffering=0)
    assert f.readline().startswith(b"* OK")
    s.sendall(b"a STARTTLS\r\nb NOOP\r\n")
    assert f.readline().startswith(b"a OK")
    ctx = ssl.create_default_context(cafile=server.ca.cert)
    t = ctx.wrap_socket(s, server_hostname=server.address)
    t.sendall(b"c NOOP\r\n")
    assert t.recv(1000).startswith(b"c OK"), "the injected b is gone"


def test_search_in_other_charsets(server):
    """The account's process has an empty root: what converts charsets was opened before."""
    c = server.imap(ALICE)
    for charset, text in (("iso-8859-2", "źdźbło"), ("gb2312", "中文信件"), ("iso-2022-jp", "日本語"), ("koi8-r", "письмо"), ("utf-8", "grün")):
        mail = b"Subject: x\r\nContent-Type: text/plain; charset=%s\r\n\r\n" % charset.encode() + text.encode(charset) + b"\r\n"
        ok(c.append("INBOX", None, None, mail))
    ok(c.select())
    for n, text in enumerate(("ŹDŹBŁO", "文信", "本語", "ПИСЬМО", "GRÜN"), 1):
        c.literal = text.encode()
        assert ok(c.uid("SEARCH", "CHARSET", "UTF-8", "BODY")) == [b"%d" % n], text
    assert c.search("X-UNKNOWN-SET", "ALL")[0] == "NO"
    c.logout()


def test_hundreds_of_messages_listed(server):
    c = server.imap(ALICE)
    s, f = raw_session(server)
    mail = message("bulk")
    n = 300
    s.sendall(b"".join(b"x%d APPEND INBOX {%d+}\r\n%s\r\n" % (i, len(mail), mail) for i in range(n)) + b"z NOOP\r\n")
    while not (line := f.readline()).startswith(b"z "):
        assert line and not re.match(rb"x\d+ (NO|BAD)", line), line
    assert ok(c.select()) == [b"%d" % n]
    uids = ok(c.uid("SEARCH", "ALL"))[0].split()
    assert len(uids) == n and uids == sorted(uids, key=int)
    assert len(ok(c.fetch("1:*", "(UID FLAGS)"))) == n
    c.logout()


def test_the_account_process_leaves_when_idle_and_comes_back(instances):
    w = instances("a", sections={"accounts": "idle-exit 1s;"})
    c = w.imap(ALICE, mailbox="INBOX")
    c.logout()
    until(lambda: not w.account_processes(), "the account's process is gone")
    c = w.imap(ALICE, mailbox="INBOX")
    append(c, "INBOX", "again")
    c.logout()
