"""OAUTHBEARER (RFC7628) and XOAUTH2 with tokens of a key that the configuration names. RFC7519, RFC6750."""
import base64
import imaplib
import json
import os
import subprocess
import time

import pytest

from jwt import Issuer

ALICE, BOB = "alice@example.test", "bob@example.test"
# RFC7628:3.2.2, RFC6750:3.1
REFUSAL = {"status": "invalid_token", "scope": "mail", "openid-configuration": "https://issuer.test/.well-known/openid-configuration"}


@pytest.fixture
def server(instances):
    w = instances("a", start=False)
    w.issuer = Issuer(w.dir)
    w.sections["oauth"] = w.issuer.section(scope="mail", discovery=REFUSAL["openid-configuration"])
    return w.start()


def token(w, email=ALICE, **kw):
    return w.issuer.token(email, **dict({"scope": "openid mail"}, **kw))


def bearer(t, user=""):
    return ("n,%s,\1host=mail\1port=587\1auth=Bearer %s\1\1" % ("a=" + user if user else "", t)).encode()


def xoauth2(t, user=ALICE):
    return ("user=%s\1auth=Bearer %s\1\1" % (user, t)).encode()


def submission(w, mechanism, response, initial=True):
    """(code, what was said of the refusal or None)"""
    with w.smtp("submission") as s:
        s.ehlo()
        assert "auth" not in s.esmtp_features
        s.starttls(context=w.tls())
        s.ehlo()
        assert {"OAUTHBEARER", "XOAUTH2"} <= set(s.esmtp_features["auth"].split())
        said = base64.b64encode(response).decode()
        if initial:
            code, text = s.docmd("AUTH", "%s %s" % (mechanism, said))
        else:
            assert s.docmd("AUTH", mechanism)[0] == 334
            code, text = s.docmd(said)
        refusal = None
        if code == 334:
            refusal = json.loads(base64.b64decode(text))
            code = s.docmd(base64.b64encode(b"\1").decode() if mechanism == "OAUTHBEARER" else "")[0]
        elif code == 235:
            assert s.mail(ALICE)[0] == 250
        return code, refusal


def test_submission(server):
    w, t = server, token(server)
    for mechanism, response in (("OAUTHBEARER", bearer(t)), ("OAUTHBEARER", bearer(t, ALICE)), ("XOAUTH2", xoauth2(t)), ("XOAUTH2", xoauth2(t, "Alice@Example.TEST"))):
        assert submission(w, mechanism, response) == (235, None)
        assert submission(w, mechanism, response, initial=False) == (235, None)
    later, rest = int(time.time()) + 600, t.split(".", 1)[1]
    bad = {"another's": bearer(token(w, BOB), ALICE), "for another": bearer(t, BOB), "nobody's": bearer(token(w, "nobody@example.test")),
           "expired": bearer(token(w, exp=later - 1200)), "early": bearer(token(w, nbf=later)), "of another issuer": bearer(token(w, iss="https://evil.test")),
           "for another service": bearer(token(w, aud="web")), "without the scope": bearer(token(w, scope="openid")),
           "unsigned": bearer(base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=") + "." + rest), "garbage": bearer("x")}
    for what, response in bad.items():
        assert submission(w, "OAUTHBEARER", response) == (535, REFUSAL), what
    assert submission(w, "XOAUTH2", xoauth2(token(w, BOB))) == (535, REFUSAL)
    assert submission(w, "OAUTHBEARER", b"n,,\1\1") == (535, None), "not even a token"
    w.waypost("account", "disable", ALICE)
    assert submission(w, "OAUTHBEARER", bearer(t)) == (535, REFUSAL)
    assert w.wait_log(r"login-failed .*mechanism=XOAUTH2 .*the token is another's.* user=alice@example.test")
    assert t.split(".")[2] not in w.logged()


def test_imap_and_pop3(server):
    w, t = server, token(server)
    c = w.imap()
    assert {"AUTH=OAUTHBEARER", "AUTH=XOAUTH2"} <= set(c.capabilities)
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        c.authenticate("OAUTHBEARER", lambda said: b"\1" if said else bearer(token(w, BOB), ALICE))
    assert c.authenticate("XOAUTH2", lambda said: xoauth2(t))[0] == "OK"
    assert c.select()[0] == "OK"
    c.logout()
    c = w.imap()
    assert c._simple_command("AUTHENTICATE", "OAUTHBEARER", base64.b64encode(bearer(t)).decode())[0] == "OK"
    c.state = "AUTH"
    c.logout()
    p = w.pop3()
    assert {"OAUTHBEARER", "XOAUTH2"} <= set(p.capa()["SASL"])
    assert p._shortcmd("AUTH OAUTHBEARER " + base64.b64encode(bearer(t)).decode()).startswith(b"+OK")
    assert p.stat()[0] == 0
    p.quit()


def test_curl(server):
    """curl's own client side of both, over IMAP and submission."""
    w, t = server, token(server)
    for word in (t, token(w, BOB)):
        for mechanism in ("OAUTHBEARER", "XOAUTH2"):
            r = subprocess.run(["curl", "-sS", "--cacert", w.ca.cert, "--user", ALICE + ":", "--login-options", "AUTH=" + mechanism, "--oauth2-bearer", word,
                                "imaps://%s:%d/INBOX" % (w.address, w.ports["imaps"]), "-X", "NOOP"], capture_output=True, timeout=60)
            assert (r.returncode == 0) == (word == t), r.stderr


def test_new_keys_and_none(server):
    w, old = server, token(server)
    os.rename(w.issuer.public, w.issuer.public + ".old")
    w.issuer = Issuer(w.dir)
    w.waypost("reload")
    assert submission(w, "OAUTHBEARER", bearer(old))[0] == 535
    assert submission(w, "OAUTHBEARER", bearer(token(w)))[0] == 235
    with open(w.issuer.public, "w") as f:
        f.write("nonsense\n")
    r = w.waypost("reload", check=False)
    assert r.returncode and "oauth: keys: no public key in it" in r.stdout + r.stderr
    with open(w.conf) as f:
        text = f.read()
    with open(w.conf, "w") as f:
        f.write("\n".join(l for l in text.splitlines() if not l.startswith("oauth {")) + "\n")
    w.waypost("reload")
    with w.smtp("submission") as s:
        s.starttls(context=w.tls())
        s.ehlo()
        assert set(s.esmtp_features["auth"].split()) == {"PLAIN", "LOGIN"}
        assert s.docmd("AUTH", "OAUTHBEARER")[0] == 504


def test_bad_tokens_wait_for_those_before_them(instances):
    w = instances("a", start=False, sections={"limits": "exempt none; connection-rate 0; message-rate 0; refused-recipients 0; errors 0; failed-logins 0;"})
    w.issuer = Issuer(w.dir)
    w.sections["oauth"] = w.issuer.section()
    w.start()
    for user in ("", BOB):
        for _ in range(2):
            assert submission(w, "OAUTHBEARER", bearer("x", user))[0] == 535
        before = w.logged().count(" login-slowed ")
        assert submission(w, "OAUTHBEARER", bearer("x", user))[0] == 535
        assert w.logged().count(" login-slowed ") == before + 1
    assert submission(w, "OAUTHBEARER", bearer(token(w)))[0] == 235
