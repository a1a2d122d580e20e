"""EXTERNAL: a client's certificate logs in. RFC4422:A, RFC4422:A.1, RFC8446:4.3.2, RFC5280:4.2.1.6, RFC9598:3."""
import base64
import imaplib
import poplib
import smtplib

import pytest

from waypost import PATIENCE, Authority, until

ALICE, BOB = "alice@example.test", "bob@example.test"


@pytest.fixture
def server(instances):
    return serve(instances)


def serve(instances, **kw):
    """Every listener with TLS asks for certificates of the clients' authority."""
    w = instances("a", start=False, **kw)
    w.clients = Authority(w.dir + "/clients")
    w.write_conf()
    edit(w, "tls starttls;", "tls starttls; client-ca %s;" % w.clients.cert)
    edit(w, "tls implicit;", "tls implicit; client-ca %s;" % w.clients.cert)
    edit(w, "protocol smtp; tls starttls; client-ca %s;" % w.clients.cert, "protocol smtp; tls starttls;")
    return w.start()


def edit(w, old, new):
    with open(w.conf) as f:
        text = f.read()
    assert old in text
    with open(w.conf, "w") as f:
        f.write(text.replace(old, new))


def tls(w, certificate=None):
    c = w.tls()
    if certificate:
        c.load_cert_chain(*certificate)
    return c


def b64(text):
    return base64.b64encode(text.encode()).decode() or "="


def submission(w, certificate, authzid="", initial=True):
    """(announced, code of AUTH EXTERNAL)"""
    with w.smtp("submission") as s:
        s.ehlo()
        assert "auth" not in s.esmtp_features
        s.starttls(context=tls(w, certificate))
        s.ehlo()
        announced = "EXTERNAL" in s.esmtp_features["auth"].split()
        if initial:
            code = s.docmd("AUTH", "EXTERNAL " + b64(authzid))[0]
        else:
            code, text = s.docmd("AUTH", "EXTERNAL")
            if code == 334:
                assert text == b""
                code = s.docmd(base64.b64encode(authzid.encode()).decode())[0]
        if code == 235:
            assert s.mail(authzid or ALICE)[0] == 250
        return announced, code


def test_whose_fingerprint_it_is(server):
    w = server
    mine = w.clients.client("mine")
    assert submission(w, None) == (False, 504)
    assert submission(w, mine) == (True, 535), "nobody's yet"
    row, = w.rows("account", "certificate", "add", ALICE, mine[0])  # RFC7468:5.1
    fingerprint = row["fingerprint"]
    assert len(fingerprint) == 64
    for authzid, initial in (("", True), ("", False), (ALICE, True), ("Alice@Example.TEST", False)):
        assert submission(w, mine, authzid, initial) == (True, 235)
    assert submission(w, mine, BOB) == (True, 535), "it may not act for another"
    assert submission(w, mine, "no address") == (True, 535)
    assert submission(w, None) == (False, 504)
    assert w.rows("account", "certificate", "list", ALICE)[0]["last-use"]
    assert w.waypost("account", "certificate", "add", BOB, mine[0], check=False).returncode == 1, "one certificate, one account"
    assert w.waypost("account", "certificate", "add", BOB, w.clients.dir + "/mine.key", check=False).returncode == 2
    w.waypost("account", "disable", ALICE)
    assert submission(w, mine) == (True, 535)
    w.waypost("account", "enable", ALICE)
    w.waypost("account", "certificate", "remove", ALICE, ":".join(fingerprint[i:i + 2].upper() for i in range(0, 64, 2)))
    assert submission(w, mine) == (True, 535)
    assert w.rows("account", "certificate", "list", ALICE) == []


def test_imap_and_pop3(server):
    w = server
    mine = w.clients.client("mine")
    w.waypost("account", "certificate", "add", ALICE, mine[0])
    c = imaplib.IMAP4_SSL(w.address, w.ports["imaps"], ssl_context=tls(w, mine), timeout=PATIENCE)
    assert {"AUTH=EXTERNAL", "SASL-IR"} <= set(c.capabilities)
    assert c._simple_command("AUTHENTICATE", "EXTERNAL", "=")[0] == "OK"
    c.state = "AUTH"
    assert c.select()[0] == "OK"
    c.logout()
    c = imaplib.IMAP4(w.address, w.ports["imap"], timeout=PATIENCE)
    assert "AUTH=EXTERNAL" not in c.capabilities
    c.starttls(tls(w, mine))
    assert "AUTH=EXTERNAL" in c.capabilities
    assert c.authenticate("EXTERNAL", lambda challenge: b"")[0] == "OK"
    c.logout()
    p = poplib.POP3_SSL(w.address, w.ports["pop3s"], context=tls(w, mine), timeout=PATIENCE)
    assert "EXTERNAL" in p.capa()["SASL"]
    assert p._shortcmd("AUTH EXTERNAL =").startswith(b"+OK")
    assert p.stat()[0] == 0
    p.quit()
    p = poplib.POP3_SSL(w.address, w.ports["pop3s"], context=tls(w), timeout=PATIENCE)
    assert "EXTERNAL" not in p.capa()["SASL"]
    with pytest.raises(poplib.error_proto):
        p._shortcmd("AUTH EXTERNAL =")
    p.quit()


def test_certificates_that_do_not_verify_are_none(server):
    """The handshake goes on, so that a client with whatever certificate can log in with its password."""
    w = server
    expired = w.clients.client("expired", days=0)
    w.waypost("account", "certificate", "add", ALICE, expired[0])
    foreign = Authority(w.dir + "/foreign").client("foreign")
    w.waypost("account", "certificate", "add", ALICE, foreign[0])
    servers = w.clients.client("servers", usage="serverAuth")
    w.waypost("account", "certificate", "add", ALICE, servers[0])
    until(lambda: submission(w, expired) == (False, 504), "a certificate valid for no day that is over")
    for certificate in (expired, foreign, servers):
        assert submission(w, certificate) == (False, 504)
        with w.smtp("submission") as s:
            s.starttls(context=tls(w, certificate))
            s.login(ALICE, w.accounts[ALICE])


def test_names_in_the_certificate(server):
    w = server
    w.waypost("domain", "add", "b\u00fccher.test")
    w.waypost("account", "add", "j\u00f6rg@b\u00fccher.test", "--password-stdin", input="wonder-3\n")
    alices, both = w.clients.client("alices", [ALICE]), w.clients.client("both", [BOB, ALICE, "other@elsewhere.test"])
    jorg = w.clients.client("jorg", ["j\u00f6rg@xn--bcher-kva.test"])
    assert submission(w, alices) == (True, 535), "the authority's word counts only where the operator says so"
    edit(w, "tls {", "accounts { certificate-names yes; }\ntls {")
    w.waypost("reload")
    assert submission(w, alices) == (True, 235)
    assert submission(w, alices, BOB) == (True, 535)
    assert submission(w, both) == (True, 535), "two accounts: the client must say which"
    assert submission(w, both, ALICE) == (True, 235)
    assert submission(w, both, BOB) == (True, 235)
    with w.smtp("submission") as s:
        s.starttls(context=tls(w, jorg))
        s.ehlo()
        assert s.docmd("AUTH", "EXTERNAL =")[0] == 235
    assert submission(w, w.clients.client("nobodys", ["nobody@example.test"])) == (True, 535)


def test_configurations_that_make_no_sense(server):
    w = server
    edit(w, "protocol smtp; tls starttls;", "protocol smtp; tls starttls; client-ca %s;" % w.clients.cert)
    r = w.waypost("check", check=False)
    assert r.returncode and "client-ca where nobody logs in" in r.stdout + r.stderr


def test_certificates_of_nobody_wait_for_those_before_them(instances):
    w = serve(instances, sections={"limits": "exempt none; connection-rate 0; message-rate 0; refused-recipients 0; errors 0; failed-logins 0;"})
    stranger = w.clients.client("stranger")
    for authzid in ("", BOB):
        for _ in range(2):
            assert submission(w, stranger, authzid) == (True, 535)
        before = w.logged().count(" login-slowed ")
        assert submission(w, stranger, authzid) == (True, 535)
        assert w.logged().count(" login-slowed ") == before + 1
