"""Logins line by line, as mail programs say them, for each mechanism and door. RFC4954:4, RFC4959:3, RFC5034:4, RFC4422:A."""
import base64
import imaplib
import poplib
import shutil
import smtplib
import subprocess

import pytest

from jwt import Issuer
from scram import OpenSSL, Scram
from waypost import PATIENCE, Authority, SmtpSsl

ALICE, BOB = "alice@example.test", "bob@example.test"


def b64(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


@pytest.fixture
def server(instances):
    """Everything that can be switched on is."""
    w = instances("a", start=False, check_from=True)
    w.issuer, w.clients = Issuer(w.dir), Authority(w.dir + "/clients")
    w.sections = {"accounts": "scram yes; scram-sha-1 yes;", "oauth": w.issuer.section()}
    w.write_conf()
    with open(w.conf) as f:
        conf = f.read()
    with open(w.conf, "w") as f:
        f.write("\n".join(l if "protocol smtp;" in l else l.replace("; tls ", "; client-ca %s; tls " % w.clients.cert) for l in conf.splitlines()) + "\n")
    w.start()
    w.certificate = w.clients.client("alices")
    w.waypost("account", "certificate", "add", ALICE, w.certificate[0])
    w.waypost("account", "scram-sha-1", "on", ALICE)
    w.waypost("account", "passwd", ALICE, "--password-stdin", input=w.accounts[ALICE] + "\n")
    return w


def connect(w, certified=False):
    """EHLO, STARTTLS, EHLO, as every program begins."""
    s = w.smtp("submission")
    s.ehlo()
    assert "auth" not in s.esmtp_features and s.docmd("AUTH PLAIN")[0] == 538 and s.mail(ALICE)[0] == 530
    context = w.tls()
    if certified:
        context.load_cert_chain(*w.certificate)
    s.starttls(context=context)
    s.ehlo()
    s.announced = s.esmtp_features["auth"].split()
    assert ("EXTERNAL" in s.announced) == certified
    return s


def plain(w, word=None):
    return "\0%s\0%s" % (ALICE, word or w.accounts[ALICE])


def one_step(w):
    """{mechanism: (what is said, whether a certificate is shown)} of those with one message of the client's."""
    t = w.issuer.token(ALICE)
    return {"PLAIN": (plain(w), False), "EXTERNAL": ("", True), "OAUTHBEARER": ("n,a=%s,\1auth=Bearer %s\1\1" % (ALICE, t), False),
            "XOAUTH2": ("user=%s\1auth=Bearer %s\1\1" % (ALICE, t), False)}


def test_submission_with_and_without_initial_response(server):
    w = server
    for mechanism, (said, certified) in one_step(w).items():
        for case in (mechanism, mechanism.lower()):
            with connect(w, certified) as s:
                assert s.docmd("AUTH %s %s" % (case, b64(said) or "=")) == (235, b"2.7.0 Welcome"), case
                assert s.docmd("AUTH PLAIN " + b64(plain(w)))[0] == 503
                s.ehlo()
                assert "auth" not in s.esmtp_features
                assert s.mail(ALICE)[0] == 250
        with connect(w, certified) as s:
            # two steps, given up and taken up again, as Thunderbird does when its owner closes the dialog
            assert s.docmd("AUTH " + mechanism) == (334, b"")
            assert s.docmd("*") == (501, b"5.7.0 Login cancelled")
            assert s.docmd("AUTH " + mechanism) == (334, b"")
            assert s.docmd("not base64!") == (501, b"5.5.2 That is not base64")
            assert s.mail(ALICE)[0] == 530
            assert s.docmd("AUTH " + mechanism) == (334, b"")
            assert s.docmd(b64(said))[0] == 235
            assert s.mail(ALICE)[0] == 250 and s.docmd("AUTH PLAIN")[0] == 503


def test_login_as_outlook_says_it(server):
    w = server
    word = w.accounts[ALICE]
    with connect(w) as s:
        assert s.docmd("AUTH LOGIN") == (334, b64("Username:").encode())
        assert s.docmd(b64(ALICE)) == (334, b64("Password:").encode())
        assert s.docmd(b64(word))[0] == 235
    with connect(w) as s:
        assert s.docmd("AUTH login " + b64(ALICE)) == (334, b64("Password:").encode())
        assert s.docmd("*")[0] == 501
        assert s.docmd("AUTH LOGIN")[0] == 334 and s.docmd(b64(ALICE))[0] == 334 and s.docmd(b64("wrong"))[0] == 535
        assert s.docmd("AUTH LOGIN " + b64(ALICE))[0] == 334 and s.docmd(b64(word))[0] == 235
    with connect(w) as s:
        assert s.docmd("AUTH LOGIN =")[0] == 535, "no name"
        assert s.docmd("AUTH LOGIN %s %s" % (b64(ALICE), b64(word)))[0] == 501
        assert s.docmd("AUTH")[0] in (501, 504) and s.docmd("AUTH CRAM-MD5")[0] == 504


def scram_of(w, mechanism):
    return Scram(ALICE, w.accounts[ALICE], digest="sha1" if mechanism == "SCRAM-SHA-1" else "sha256")


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
def test_scram_cancelled_at_each_step(server, mechanism):
    w = server
    with connect(w) as s:
        for give_up_after in (0, 1, 2, None):
            scram = scram_of(w, mechanism)
            code, text = s.docmd("AUTH " + mechanism)
            step = 0
            while code == 334 and step != give_up_after:
                code, text = s.docmd(b64(scram.step(base64.b64decode(text))))
                step += 1
            assert code == (235 if give_up_after is None else 334)
            if code == 334:
                assert s.docmd("*")[0] == 501 and s.mail(ALICE)[0] == 530
        assert s.mail(ALICE)[0] == 250


def test_imap_and_pop3(server):
    w = server
    for mechanism, (said, certified) in one_step(w).items():
        for initial in (True, False):
            context = w.tls()
            if certified:
                context.load_cert_chain(*w.certificate)
            c = imaplib.IMAP4_SSL(w.address, w.ports["imaps"], ssl_context=context, timeout=PATIENCE)
            assert "AUTH=" + mechanism in c.capabilities and "SASL-IR" in c.capabilities
            c.send(b"x1 AUTHENTICATE %s\r\n*\r\n" % mechanism.encode())
            assert c.readline() == b"+ \r\n" and c.readline().startswith(b"x1 BAD ")
            c.send(b"x2 AUTHENTICATE %s%s\r\n" % (mechanism.encode(), b" " + (b64(said) or "=").encode() if initial else b""))
            if not initial:
                assert c.readline() == b"+ \r\n"
                c.send(b64(said).encode() + b"\r\n")
            assert c.readline().startswith(b"x2 OK ")
            c.shutdown()
            p = poplib.POP3_SSL(w.address, w.ports["pop3s"], context=context, timeout=PATIENCE)
            assert mechanism in p.capa()["SASL"]
            p._putline(b"AUTH %s" % mechanism.encode())
            assert p._getline()[0] == b"+ "
            with pytest.raises(poplib.error_proto):
                p._shortcmd("*")
            p._putline(b"AUTH %s%s" % (mechanism.encode(), b" " + (b64(said) or "=").encode() if initial else b""))
            if not initial:
                assert p._getline()[0] == b"+ "
                p._putline(b64(said).encode())
            assert p._getresp().startswith(b"+OK")
            p.quit()


def test_app_passwords_and_their_last_use(server):
    w = server
    made, = w.rows("account", "app-password", "add", ALICE, "printer", "smtp")
    word = made["password"]

    def used():
        return w.rows("account", "app-password", "list", ALICE)[0]["last-use"]
    assert not used()
    with pytest.raises(imaplib.IMAP4.error):
        w.imap().login(ALICE, word)
    assert not used()
    with connect(w) as s:
        assert s.docmd("AUTH PLAIN " + b64(plain(w, word)))[0] == 235
    assert used()
    with connect(w) as s:
        assert s.docmd("AUTH LOGIN " + b64(ALICE))[0] == 334 and s.docmd(b64(word))[0] == 235


def test_app_passwords_by_scram(server):
    """RFC5802:3: one name, several passwords: each is good by itself, for its protocols, whatever becomes of the others."""
    w = server
    word = w.rows("account", "app-password", "add", ALICE, "printer", "smtp")[0]["password"]
    with pytest.raises(imaplib.IMAP4.error):
        w.imap().authenticate("SCRAM-SHA-256", Scram(ALICE, word).step)
    assert not w.rows("account", "app-password", "list", ALICE)[0]["last-use"]
    for own in (w.accounts[ALICE], "builder-9"):
        w.waypost("account", "passwd", ALICE, "--password-stdin", input=own + "\n")
        for spoken, want in ((word, 235), (word[:-1] + "l", 535), (own, 235)):
            with connect(w) as s:
                scram = Scram(ALICE, spoken)
                code, text = s.docmd("AUTH SCRAM-SHA-256 " + b64(scram.first()))
                assert code == 334
                code, text = s.docmd(b64(scram.final(base64.b64decode(text))))
                if want == 235:
                    scram.verify(base64.b64decode(text))
                    code, text = s.docmd("")
                assert code == want, spoken
    assert w.rows("account", "app-password", "list", ALICE)[0]["last-use"]
    w.waypost("account", "app-password", "remove", ALICE, "printer")
    with connect(w) as s:
        scram = Scram(ALICE, word)
        code, text = s.docmd("AUTH SCRAM-SHA-256 " + b64(scram.first()))
        assert s.docmd(b64(scram.final(base64.b64decode(text))))[0] == 535


def test_msmtp(server, tmp_path):
    w = server
    msmtp = shutil.which("msmtp")
    if not msmtp:
        pytest.skip("msmtp is not installed: contrib/packages names it")
    text = "From: %s\r\nTo: %s\r\nSubject: by msmtp\r\n\r\nHello.\r\n" % (ALICE, BOB)
    words = {"plain": w.accounts[ALICE], "login": w.accounts[ALICE], "scram-sha-1": w.accounts[ALICE], "scram-sha-256": w.accounts[ALICE], "oauthbearer": w.issuer.token(ALICE), "xoauth2": w.issuer.token(ALICE), "external": ""}
    done = 0
    for mechanism, word in words.items():
        (tmp_path / "word").write_text(word + "\n")
        args = [msmtp, "--file=/dev/null", "--host=" + w.address, "--port=%d" % w.ports["submission"], "--tls=on", "--tls-starttls=on", "--tls-trust-file=" + w.ca.cert,
                "--auth=" + mechanism, "--user=" + ALICE, "--passwordeval=cat %s" % (tmp_path / "word"), "--from=" + ALICE, "--domain=client.test", BOB]
        if mechanism == "external":
            args[1:1] = ["--tls-cert-file=" + w.certificate[0], "--tls-key-file=" + w.certificate[1]]
        r = subprocess.run(args, input=text, text=True, capture_output=True, timeout=60)
        assert r.returncode == 0, (mechanism, r.stderr)
        done += 1
    assert len(w.wait_inbox(BOB, done)) == done


def test_swaks(server):
    w = server
    base = ["swaks", "--server", w.address, "--port", str(w.ports["submission"]), "-tls", "--auth-user", ALICE, "--auth-password", w.accounts[ALICE], "--from", ALICE, "--to", BOB]
    implicit = ["swaks", "--server", w.address, "--port", str(w.ports["submissions"]), "-tlsc"] + base[6:]
    for how in (base, implicit):
        for mechanism in ("PLAIN", "LOGIN"):  # what swaks and we both know
            r = subprocess.run(how + ["--auth", mechanism], capture_output=True, text=True, timeout=60)
            assert r.returncode == 0, r.stdout + r.stderr
    r = subprocess.run(base + ["--auth", "CRAM-MD5"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 28 and "Auth not attempted" in r.stdout + r.stderr, r.stdout + r.stderr
    r = subprocess.run(base + ["--auth", "PLAIN", "--auth-password", "wrong"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 28 and "535 5.7.8" in r.stdout
    assert len(w.wait_inbox(BOB, 4)) == 4


def test_curl_by_each_mechanism_it_has(server, tmp_path):
    w = server
    curl = shutil.which("curl")
    if not curl:
        pytest.skip("curl is not installed: contrib/packages names it")
    mail = tmp_path / "mail"
    mail.write_text("From: %s\r\nTo: %s\r\nSubject: by curl\r\n\r\nHello.\r\n" % (ALICE, BOB))
    password, token = ["--user", "%s:%s" % (ALICE, w.accounts[ALICE])], ["--user", ALICE, "--oauth2-bearer", w.issuer.token(ALICE)]
    certificate = ["--user", ALICE + ":", "--cert", w.certificate[0], "--key", w.certificate[1]]
    ways = {"PLAIN": password, "LOGIN": password, "OAUTHBEARER": token, "EXTERNAL": certificate}  # with a token it takes OAUTHBEARER, whatever it is told
    if "gsasl" in subprocess.run([curl, "--version"], capture_output=True, text=True).stdout:
        ways.update({"SCRAM-SHA-256": password, "SCRAM-SHA-1": password})
    done = 0
    for mechanism, login in ways.items():
        for url, ir in (("smtp://%s:%d" % (w.address, w.ports["submission"]), []), ("smtps://%s:%d" % (w.address, w.ports["submissions"]), ["--sasl-ir"])):
            r = subprocess.run([curl, "-v", "-sS", "--max-time", str(PATIENCE), "--cacert", w.ca.cert, "--ssl-reqd", "--login-options", "AUTH=" + mechanism, "--url", url, "--mail-from", ALICE, "--mail-rcpt", BOB,
                                "-T", str(mail), *ir, *login], capture_output=True, text=True, timeout=PATIENCE)
            assert r.returncode == 0 and "> AUTH %s" % mechanism in r.stderr and "235 2.7.0" in r.stderr, r.stderr
            done += 1
    assert len(w.wait_inbox(BOB, done)) == done


def test_python_by_each_mechanism_it_has(server):
    w = server
    for mechanism in ("plain", "login"):
        for initial in (True, False):
            for port in ("submission", "submissions"):
                with (w.smtp(port) if port == "submission" else SmtpSsl(w.address, w.ports[port], context=w.tls(), timeout=PATIENCE)) as s:
                    if port == "submission":
                        s.starttls(context=w.tls())
                    s.ehlo()
                    s.user, s.password = ALICE, "wrong"
                    with pytest.raises(smtplib.SMTPAuthenticationError) as e:
                        s.auth(mechanism.upper(), getattr(s, "auth_" + mechanism), initial_response_ok=initial)
                    assert e.value.smtp_code == 535
                    s.password = w.accounts[ALICE]
                    assert s.auth(mechanism.upper(), getattr(s, "auth_" + mechanism), initial_response_ok=initial)[0] == 235
                    assert s.mail(ALICE)[0] == 250


def test_as_thunderbird_says_it(server):
    """It takes what is announced one after the other: the dialog for the password is closed once, then it is mistyped, then right; and a token
    that is too old is asked for again, after the empty line that ends a refused XOAUTH2."""
    w = server
    with connect(w) as s:
        assert s.docmd("AUTH PLAIN") == (334, b"")
        assert s.docmd("*")[0] == 501
        assert s.docmd("AUTH PLAIN " + b64(plain(w, "mistyped")))[0] == 535
        assert s.docmd("AUTH LOGIN") == (334, b64("Username:").encode())
        assert s.docmd(b64(ALICE)) == (334, b64("Password:").encode())
        assert s.docmd(b64("mistyped"))[0] == 535
        assert s.rset()[0] == 250 and s.mail(ALICE)[0] == 530
        assert s.docmd("AUTH PLAIN " + b64(plain(w)))[0] == 235
        assert s.mail(ALICE, ["BODY=8BITMIME", "SIZE=200"])[0] == 250 and s.rcpt(BOB)[0] == 250
        assert s.data("From: %s\r\nTo: %s\r\nSubject: by Thunderbird\r\n\r\nHello.\r\n" % (ALICE, BOB))[0] == 250
    w.wait_inbox(BOB, 1)
    with connect(w) as s:
        old = w.issuer.token(ALICE, exp=1000000000)
        code, text = s.docmd("AUTH XOAUTH2 " + b64("user=%s\1auth=Bearer %s\1\1" % (ALICE, old)))
        assert code == 334 and b"status" in base64.b64decode(text)
        assert s.docmd("")[0] == 535
        assert s.docmd("AUTH XOAUTH2 " + b64("user=%s\1auth=Bearer %s\1\1" % (ALICE, w.issuer.token(ALICE))))[0] == 235
        assert s.mail(ALICE)[0] == 250


def test_the_exporter_binds_over_submission(server):
    """RFC9266, RFC5802:6."""
    w = server
    other = OpenSSL(w.address, w.ports["submissions"])
    foreign = other.exporter
    other.close()
    for binding, want in ((foreign, b"535 5.7.8"), (None, b"235 2.7.0")):
        o = OpenSSL(w.address, w.ports["submissions"])
        try:
            o.wait(b"220 ")
            o.say(b"EHLO client.test")
            o.wait(b"250 ")
            scram = Scram(ALICE, w.accounts[ALICE], "p=tls-exporter", binding or o.exporter)
            o.say(b"AUTH SCRAM-SHA-256-PLUS " + base64.b64encode(scram.first()))
            o.say(base64.b64encode(scram.final(base64.b64decode(o.wait(b"334 ")[4:]))))
            if want == b"235 2.7.0":
                scram.verify(base64.b64decode(o.wait(b"334 ")[4:]))
                o.say(b"")
            assert o.wait(want[:3]).startswith(want)
        finally:
            o.close()
