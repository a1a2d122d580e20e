"""Bearer tokens that only their issuer can judge: tokend asks its introspection endpoint. RFC7662, RFC7628."""
import base64
import imaplib
import os
import signal

import pytest

import waypost as wp
from dnszone import start_dns
from introspection import AUDIENCE, CLIENT, SCOPE, SECRET, Endpoint
from jwt import Issuer
from test_oauth import ALICE, BOB, bearer, submission, xoauth2

NAME = "login.issuer.test"


def section(w, endpoint, host=None, **more):
    secret = w.dir + "/secret"
    with open(secret, "w") as f:
        f.write(SECRET + "\n")
    os.chmod(secret, 0o600)
    settings = dict({"introspection": '"%s"' % endpoint.url(host), "introspection-client": '"%s"' % CLIENT, "introspection-secret-file": secret,
                     "introspection-ca": w.ca.cert, "audience": AUDIENCE, "scope": SCOPE}, **{k.replace("_", "-"): v for k, v in more.items()})
    w.sections["oauth"] = " ".join("%s %s;" % kv for kv in settings.items())


@pytest.fixture
def world(instances, tmp_path):
    """An instance whose endpoint is found by its name, over TLS."""
    stops = []
    w = instances("a", start=False)
    w.endpoint = Endpoint(w.address, w.ca.issue("endpoint", [NAME]))
    stops.append(w.endpoint)
    dns = start_dns(tmp_path / "dns", ["%s. A %s" % (NAME, w.address)])
    stops.append(dns)
    w.dns = "127.0.0.1@%d" % dns.port
    section(w, w.endpoint, NAME)
    yield w
    for s in stops:
        s.stop()


def reload(w):
    os.unlink(w.conf)
    w.write_conf()
    w.waypost("reload")


def test_submission(world):
    w = world.start()
    for mechanism, response in (("OAUTHBEARER", bearer("good.alice")), ("OAUTHBEARER", bearer("good.alice", ALICE)), ("XOAUTH2", xoauth2("good.alice")), ("XOAUTH2", xoauth2("also.alice"))):
        assert submission(w, mechanism, response) == (235, None)
    assert w.endpoint.asked == ["good.alice", "also.alice"], "a good answer is remembered, by the whole token"
    refusal = {"status": "invalid_token", "scope": SCOPE}
    for what in ("inactive", "otheraud", "noaud", "noscope", "expired", "early", "unverified", "noname", "badexp", "unheardof"):
        assert submission(w, "OAUTHBEARER", bearer(what + ".alice")) == (535, refusal), what
    assert submission(w, "OAUTHBEARER", bearer("good.bob", ALICE)) == (535, refusal), "another's"
    assert submission(w, "OAUTHBEARER", bearer("good.nobody")) == (535, refusal)
    asked = len(w.endpoint.asked)
    assert submission(w, "OAUTHBEARER", bearer("inactive.alice")) == (535, refusal)
    assert len(w.endpoint.asked) == asked + 1, "only good answers are kept"
    for what in ("large", "garbage", "list", "silent", "redirect", "broken", "cut"):
        assert submission(w, "OAUTHBEARER", bearer(what + ".alice")) == (454, None), what
    assert w.endpoint.trespassed == [], "a redirect is not followed"
    w.wait_log(r"login-deferred .*protocol=submission why=\"the introspection endpoint says HTTP 503\"")
    w.wait_log(r"login-deferred .*why=\"the introspection endpoint: the answer is too large\"")
    w.wait_log(r"login-failed .*mechanism=OAUTHBEARER .*why=\"the issuer says that the token is not active\"")
    assert "good.alice" not in w.logged() and SECRET not in w.logged()


def test_imap_and_pop3(world):
    w = world.start()
    c = w.imap()
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        c.authenticate("OAUTHBEARER", lambda said: b"\1" if said else bearer("good.bob", ALICE))
    with pytest.raises(imaplib.IMAP4.error, match="UNAVAILABLE"):
        c.authenticate("XOAUTH2", lambda said: xoauth2("broken.alice"))
    assert c.authenticate("XOAUTH2", lambda said: xoauth2("good.alice"))[0] == "OK"
    assert c.select()[0] == "OK"
    c.logout()
    p = w.pop3()
    assert {"OAUTHBEARER", "XOAUTH2"} <= set(p.capa()["SASL"])
    with pytest.raises(Exception, match="SYS/TEMP"):
        p._shortcmd("AUTH OAUTHBEARER " + base64.b64encode(bearer("garbage.alice")).decode())
    assert p._shortcmd("AUTH OAUTHBEARER " + base64.b64encode(bearer("good.alice")).decode()).startswith(b"+OK")
    p.quit()


def test_slow_dead_and_unknown_endpoints(world):
    """A late answer is nobody's fault, and others' logins go on meanwhile."""
    w = world
    section(w, w.endpoint, NAME, introspection_timeout="1s")
    w.start()
    assert submission(w, "OAUTHBEARER", bearer("slow.alice")) == (454, None)
    w.wait_log(r"login-deferred .*why=\"the introspection endpoint")
    w.submit(ALICE).quit()
    os.kill(w.services()["tokend"]["pid"], signal.SIGKILL)
    wp.until(lambda: submission(w, "OAUTHBEARER", bearer("good.alice")) == (235, None), "tokend is back")
    section(w, w.endpoint, "no-such-name.issuer.test")
    reload(w)
    assert submission(w, "OAUTHBEARER", bearer("good.alice")) == (454, None), "what was remembered is forgotten"
    w.wait_log(r"login-deferred .*why=\"the introspection endpoint: no-such-name.issuer.test: no such domain\"")
    w.endpoint.stop()
    section(w, w.endpoint, NAME)
    reload(w)
    assert submission(w, "OAUTHBEARER", bearer("good.alice")) == (454, None), "nobody listens"


def test_whom_we_trust(world, tmp_path):
    """Another authority's certificate, another host's, and a client that the endpoint does not know."""
    w = world
    other = wp.Authority(tmp_path / "other-ca")
    section(w, w.endpoint, NAME, introspection_ca=other.cert)
    w.start()
    assert submission(w, "OAUTHBEARER", bearer("good.alice")) == (454, None)
    section(w, w.endpoint)  # by its address, for which the certificate is not
    reload(w)
    assert submission(w, "OAUTHBEARER", bearer("good.alice")) == (454, None)
    assert w.endpoint.asked == [], "neither secret nor token was said"
    section(w, w.endpoint, NAME, introspection_client="stranger")
    reload(w)
    assert submission(w, "OAUTHBEARER", bearer("good.alice")) == (454, None)  # RFC7662:2.3
    w.wait_log(r"login-deferred .*does not let us ask \(HTTP 401\), check introspection-client")
    section(w, w.endpoint, NAME)
    reload(w)
    assert submission(w, "OAUTHBEARER", bearer("good.alice")) == (235, None)


def test_beside_a_key_and_without_tls_on_this_machine(instances):
    """A token that one of our keys signed is judged here, whatever comes of it; the endpoint is asked about all others."""
    w = instances("a", start=False)
    endpoint = Endpoint(w.address)
    w.issuer, stranger = Issuer(w.dir), Issuer(os.path.dirname(w.ca.cert))
    section(w, endpoint, keys=w.issuer.public, issuer=w.issuer.name)
    w.start()
    assert submission(w, "OAUTHBEARER", bearer(w.issuer.token(ALICE, scope=SCOPE))) == (235, None)
    assert submission(w, "OAUTHBEARER", bearer(w.issuer.token(ALICE)))[0] == 535, "without the scope"
    assert endpoint.asked == []
    theirs = stranger.token(ALICE, scope=SCOPE)
    assert submission(w, "OAUTHBEARER", bearer(theirs))[0] == 535
    assert submission(w, "OAUTHBEARER", bearer("good.alice")) == (235, None)
    assert endpoint.asked == [theirs, "good.alice"]
    assert w.services()["tokend"]["state"] == "ready"
    w.sections["oauth"] = w.issuer.section(scope=SCOPE)
    reload(w)
    wp.until(lambda: "tokend" not in w.services(), "it is not needed any more")
    assert submission(w, "OAUTHBEARER", bearer("good.alice"))[0] == 535
    endpoint.stop()


def test_what_the_configuration_must_say(instances):
    w = instances("a", start=False)
    endpoint = Endpoint(w.address)
    for more, said in (({"introspection": "http://login.issuer.test/x"}, "introspection without TLS"), ({"introspection": "login.issuer.test"}, "is no address of a service"),
                       ({"audience": '""', "scope": '""'}, "without audience and scope"), ({"introspection-client": '""'}, "go together"),
                       ({"introspection": '""'}, "a client of an endpoint that is not named"), ({"introspection-secret-file": "/nonexistent"}, "cannot be read")):
        section(w, endpoint, **more)
        w.write_conf()
        r = w.waypost("check", check=False)
        assert r.returncode and said in r.stdout + r.stderr, (more, r.stdout + r.stderr)
    endpoint.stop()
