"""SCRAM-SHA-256 and -PLUS over every door, with a client of our own. RFC5802, RFC7677, RFC5929, RFC9266."""
import base64
import hashlib
import imaplib

import pytest

from scram import OpenSSL, Scram, end_point

ALICE = "alice@example.test"


@pytest.fixture
def server(instances):
    return instances("a", sections={"accounts": "scram yes;"})


def smtp_auth(s, mechanism, scram):
    code, text = s.docmd("AUTH", "%s %s" % (mechanism, base64.b64encode(scram.first()).decode()))
    while code == 334:
        code, text = s.docmd(base64.b64encode(scram.step(base64.b64decode(text))).decode())
    return code, text


def test_submission(server):
    pw = server.accounts[ALICE]
    with server.smtp("submission") as s:
        s.starttls(context=server.tls())
        s.ehlo()
        assert set(s.esmtp_features["auth"].split()) == {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"}
        code, text = smtp_auth(s, "SCRAM-SHA-256", Scram(ALICE, "wrong"))
        assert code == 535 and text.startswith(b"5.7.8"), text
        scram = Scram(ALICE, pw)
        assert smtp_auth(s, "SCRAM-SHA-256", scram)[0] == 235 and scram.verified and scram.iterations >= 100000
        assert s.mail(ALICE)[0] == 250
    with server.smtp("submission") as s:
        s.starttls(context=server.tls())
        s.ehlo()
        bound = end_point(s.sock)
        # the right password through somebody in the middle, who has another certificate: HAZARDS 24
        assert smtp_auth(s, "SCRAM-SHA-256-PLUS", Scram(ALICE, pw, "p=tls-server-end-point", hashlib.sha256(b"his").digest()))[0] == 535
        assert smtp_auth(s, "SCRAM-SHA-256", Scram(ALICE, pw, "y"))[0] == 535, "somebody hid -PLUS from the client"
        assert smtp_auth(s, "SCRAM-SHA-256-PLUS", Scram(ALICE, pw, "p=tls-server-end-point", bound))[0] == 235


def test_imap(server):
    pw = server.accounts[ALICE]
    c = server.imap()
    assert {"AUTH=SCRAM-SHA-256-PLUS", "AUTH=SCRAM-SHA-256"} <= set(c.capabilities)
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        c.authenticate("SCRAM-SHA-256", Scram(ALICE, "wrong").step)
    scram = Scram(ALICE, pw, "p=tls-server-end-point", end_point(c.sock))
    assert c.authenticate("SCRAM-SHA-256-PLUS", scram.step)[0] == "OK" and scram.verified
    assert c.select()[0] == "OK"
    c.logout()


def test_pop3(server):
    p = server.pop3()
    assert "SCRAM-SHA-256-PLUS" in p.capa()["SASL"]
    scram = Scram(ALICE, server.accounts[ALICE], "p=tls-server-end-point", end_point(p.sock))
    r = p._shortcmd("AUTH SCRAM-SHA-256-PLUS " + base64.b64encode(scram.first()).decode())
    while r.startswith(b"+ "):
        r = p._shortcmd(base64.b64encode(scram.step(base64.b64decode(r[2:]))).decode())
    assert r.startswith(b"+OK") and scram.verified
    assert p.stat()[0] == 0
    p.quit()


def test_the_exporter_binds(server):
    """RFC9266: both sides derive the same bytes; those of another session are refused."""
    pw = server.accounts[ALICE]
    other = OpenSSL(server.address, server.ports["imaps"])
    foreign = other.exporter
    other.close()
    for binding, want in ((foreign, b"a NO [AUTHENTICATIONFAILED]"), (None, b"a OK")):
        o = OpenSSL(server.address, server.ports["imaps"])
        try:
            o.wait(b"* OK")
            scram = Scram(ALICE, pw, "p=tls-exporter", binding or o.exporter)
            o.say(b"a AUTHENTICATE SCRAM-SHA-256-PLUS " + base64.b64encode(scram.first()))
            o.say(base64.b64encode(scram.final(base64.b64decode(o.wait(b"+ ")[2:]))))
            if want == b"a OK":
                scram.verify(base64.b64decode(o.wait(b"+ ")[2:]))
                o.say(b"")
            assert o.wait(b"a ").startswith(want)
        finally:
            o.close()


def salt(server, user):
    with server.smtp("submission") as s:
        s.starttls(context=server.tls())
        s.ehlo()
        code, text = s.docmd("AUTH", "SCRAM-SHA-256 " + base64.b64encode(Scram(user, "x").first()).decode())
        assert code == 334
        assert s.docmd("*")[0] == 501
        return base64.b64decode(text).split(b",", 1)[1]


def test_names_that_are_not_there_look_the_same(server):
    one = salt(server, "nobody@example.test")
    assert len(one) == len(salt(server, ALICE))
    assert one == salt(server, "Nobody@example.TEST") and one != salt(server, "other@example.test")
    # nor does anybody see when an account of that name is made, changes its password, and is removed
    server.waypost("account", "add", "nobody@example.test", "--password-stdin", input="somebody-1\n")
    assert salt(server, "nobody@example.test") == one
    server.waypost("account", "passwd", "nobody@example.test", "--password-stdin", input="somebody-2\n")
    assert salt(server, "nobody@example.test") == one
    server.waypost("account", "remove", "nobody@example.test")
    assert salt(server, "nobody@example.test") == one


def test_switched_off_and_on(instances):
    w = instances("a", sections={"accounts": "scram no;"})
    pw = w.accounts[ALICE]
    with w.smtp("submission") as s:
        s.starttls(context=w.tls())
        s.ehlo()
        assert set(s.esmtp_features["auth"].split()) == {"PLAIN", "LOGIN"}
        assert smtp_auth(s, "SCRAM-SHA-256", Scram(ALICE, pw))[0] == 504
    with open(w.conf) as f:
        conf = f.read()
    with open(w.conf, "w") as f:
        f.write(conf.replace("scram no", "scram yes"))
    w.waypost("reload")
    for want in (535, 235):  # no verifier was kept; the login with PLAIN in between makes one
        with w.smtp("submission") as s:
            s.starttls(context=w.tls())
            s.ehlo()
            assert smtp_auth(s, "SCRAM-SHA-256", Scram(ALICE, pw))[0] == want
            s.quit()
        w.imap(ALICE).logout()
    w.waypost("account", "passwd", ALICE, "--password-stdin", input="new-word-3\n")
    for word, want in ((pw, 535), ("new-word-3", 235)):
        with w.smtp("submission") as s:
            s.starttls(context=w.tls())
            s.ehlo()
            assert smtp_auth(s, "SCRAM-SHA-256", Scram(ALICE, word))[0] == want


def test_sha_1_where_it_is_switched_on(instances):
    """RFC5802: offered when configured, right for the accounts it is switched on for, and for no other."""
    w = instances("a", sections={"accounts": "scram yes; scram-sha-1 yes;"})
    bob = "bob@example.test"

    def attempt(user, mechanism="SCRAM-SHA-1", flag="n", bind=False):
        with w.smtp("submission") as s:
            s.ehlo()
            assert "auth" not in s.esmtp_features
            s.starttls(context=w.tls())
            s.ehlo()
            assert set(s.esmtp_features["auth"].split()) == {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "PLAIN", "LOGIN"}
            scram = Scram(user, w.accounts[user], flag, end_point(s.sock) if bind else b"", digest="sha1")
            code = smtp_auth(s, mechanism, scram)[0]
            return code, scram
    assert attempt(ALICE)[0] == 535
    assert "SCRAM-SHA-1 works" in w.waypost("account", "scram-sha-1", "on", ALICE).stdout
    assert attempt(ALICE)[0] == 535, "there is no password yet that a verifier could be made of"
    w.waypost("account", "passwd", ALICE, "--password-stdin", input=w.accounts[ALICE] + "\n")
    w.waypost("account", "passwd", bob, "--password-stdin", input=w.accounts[bob] + "\n")
    code, scram = attempt(ALICE)
    assert code == 235 and scram.verified and scram.iterations >= 100000 and len(scram.salt) == 16
    assert attempt(ALICE, "SCRAM-SHA-1-PLUS", "p=tls-server-end-point", True)[0] == 235
    assert attempt(ALICE, flag="y")[0] == 535, "somebody hid -PLUS from the client"
    code, scram = attempt(bob)
    assert code == 535 and len(scram.salt) == 16, "the exchange looks the same"
    w.waypost("account", "scram-sha-1", "off", ALICE)
    assert attempt(ALICE)[0] == 535
    assert w.waypost("account", "scram-sha-1", "on", "nobody@example.test", check=False).returncode == 3
    c = w.imap()
    assert "AUTH=SCRAM-SHA-1" in c.capabilities
    c.logout()


def test_passwords_beyond_ascii(instances):
    """RFC5802:2.2, RFC4013: one password, however its letters are put together; what can't be prepared is for PLAIN alone."""
    composed, apart, newer = "p\u00e4ssword-\u2168", "pa\u0308ssword-IX", "smile-\U0001f600"
    w = instances("a", sections={"accounts": "scram yes;"}, accounts={ALICE: composed, "bob@example.test": newer})

    def attempts(user, word):
        codes = []
        for scram in (True, False):
            with w.smtp("submission") as s:
                s.starttls(context=w.tls())
                s.ehlo()
                plain = base64.b64encode(("\0%s\0%s" % (user, word)).encode()).decode()
                codes.append(smtp_auth(s, "SCRAM-SHA-256", Scram(user, word))[0] if scram else s.docmd("AUTH PLAIN " + plain)[0])
        return codes
    prepared = "p\u00e4ssword-IX"  # what a client makes of both
    assert attempts(ALICE, prepared) == [235, 235]
    assert attempts(ALICE, composed)[1] == attempts(ALICE, apart)[1] == 235
    assert attempts(ALICE, "password-IX") == [535, 535]
    w.wait_log("scram-not-kept account=2 ")
    assert attempts("bob@example.test", newer) == [535, 235]
