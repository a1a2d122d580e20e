"""VRFY and EXPN against the real directory; XCLIENT."""
import waypost as wp


def ask(s, line):
    code, text = s.docmd(line)
    return code, text.decode()


def test_vrfy_and_expn_say_nothing_by_default(server):
    with server.smtp() as s:
        s.ehlo()
        assert not s.has_extn("vrfy") and not s.has_extn("expn")
        assert ask(s, "VRFY alice@example.test") == ask(s, "VRFY nobody@example.test") == (252, "2.5.0 Addresses are not verified here; send the message and see")
        assert ask(s, "EXPN all@example.test") == ask(s, "EXPN nothing@example.test") == (252, "2.5.0 Lists are not expanded here; send the message and see")


def test_vrfy_and_expn_answer_where_they_may(instances):
    w = instances("a", domains=["example.test", "second.test"], accounts={"alice@example.test": "wonder-1", "bob@example.test": "builder-2", "bob@second.test": "builder-3", "gone@example.test": "was-here-1"},
                  sections={"smtp": "vrfy on; expn authenticated;"})
    w.waypost("alias", "add", "all@example.test", "alice@example.test", "bob@second.test", "carol@remote.test")
    w.waypost("alias", "add", "moved@example.test", "carol@remote.test")
    w.waypost("alias", "add", "many@example.test", *["m%d@remote.test" % i for i in range(60)])
    w.waypost("alias", "add", "many@example.test", *["n%d@remote.test" % i for i in range(41)])
    w.waypost("alias", "add", "j\u00fcrgens@example.test", "alice@example.test", "j\u00fcrgen@example.test")
    w.waypost("account", "disable", "gone@example.test")
    with w.smtp() as s:
        s.ehlo()
        assert s.has_extn("vrfy") and not s.has_extn("expn")
        for name, answer in (("alice@example.test", (250, "2.1.5 <alice@example.test>")), ("<ALICE@Example.test>", (250, "2.1.5 <alice@example.test>")),
                             ("alice+tag@example.test", (250, "2.1.5 <alice@example.test>")), ("alice", (250, "2.1.5 <alice@example.test>")),
                             ("bob", (553, "5.1.4 ambiguous, it may be one of\n5.1.4 <bob@example.test>\n5.1.4 <bob@second.test>")),
                             ("nobody", (550, "5.1.1 no such user here")), ("nobody@example.test", (550, "5.1.1 no such address here")),
                             ("gone@example.test", (550, "5.2.1 this mailbox is disabled")), ("gone", (550, "5.1.1 no such user here")),
                             ("all@example.test", (250, "2.1.5 <all@example.test>")), ("moved@example.test", (251, "2.1.5 User not local; will forward to <carol@remote.test>")),
                             ("x@remote.test", (252, "2.5.0 that domain is not served here, who knows")), ("Postmaster", (250, "2.1.5 <alice@example.test>"))):
            assert ask(s, "VRFY " + name) == answer, name
        assert ask(s, "EXPN all@example.test") == (252, "2.5.0 Lists are not expanded here; send the message and see")
    with w.submit("alice@example.test") as s:
        s.ehlo()
        assert s.has_extn("vrfy") and s.has_extn("expn")
        assert ask(s, "EXPN <all@example.test>") == (250, "2.1.5 <alice@example.test>\n2.1.5 <bob@second.test>\n2.1.5 <carol@remote.test>")
        assert ask(s, "EXPN many@example.test") == (252, "2.5.0 it has more members than are shown; mail to it is taken")
        assert ask(s, "EXPN alice@example.test") == (550, "5.2.4 that is the name of a user, not of a list")
        assert ask(s, "EXPN no@example.test") == (550, "5.1.1 no such list here")
        assert ask(s, "EXPN all") == (550, "5.1.1 no such list here: NAME@DOMAIN")
        s.sock.sendall("EXPN j\u00fcrgens@example.test SMTPUTF8\r\n".encode())
        assert s.getreply() == (250, "2.1.5 <alice@example.test>\n2.1.5 <j\u00fcrgen@example.test>".encode())
        s.sock.sendall("EXPN j\u00fcrgens@example.test\r\n".encode())
        assert s.getreply()[0] == 553


def test_a_login_is_needed_where_the_setting_says_so(instances):
    w = instances("a", sections={"smtp": "vrfy authenticated;"})
    with w.smtp("submission") as s:
        s.starttls(context=w.tls())
        s.ehlo()
        assert not s.has_extn("vrfy") and ask(s, "VRFY alice")[0] == 252
        s.login("alice@example.test", "wonder-1")
        s.ehlo()
        assert s.has_extn("vrfy") and ask(s, "VRFY bob") == (250, "2.1.5 <bob@example.test>")
    with w.smtp() as s:
        assert ask(s, "VRFY bob")[0] == 252


def test_xclient_speaks_for_its_client(instances):
    w = instances("a", sections={"smtp": "xclient-from 127.0.0.0/8; max-connections-per-client 2;"})
    with w.smtp() as s:
        s.ehlo("front.test")
        assert s.esmtp_features["xclient"] == "NAME ADDR PORT PROTO HELO"
        assert ask(s, "XCLIENT NAME=client.test ADDR=IPV6:2001:db8::7 PORT=4711 PROTO=ESMTP HELO=said.test")[0] == 220
        s.ehlo("front.test")
        s.sendmail("c@remote.test", ["bob@example.test"], wp.message("by a front"))
        assert ask(s, "XCLIENT LOGIN=alice@example.test") == (501, "5.5.4 XCLIENT takes NAME ADDR PORT PROTO HELO with values in xtext")
    m, = w.wait_inbox("bob@example.test", 1)
    assert m.split(b"\r\n")[2].startswith(b"Received: from said.test (client.test [IPv6:2001:db8::7])"), m
    w.wait_log("accepted .*client=2001:db8::7 helo=said.test")
    # the limits count the client
    with w.smtp() as s, w.smtp() as t:
        s.ehlo(), t.ehlo()
        assert ask(s, "XCLIENT ADDR=192.0.2.9")[0] == ask(t, "XCLIENT ADDR=192.0.2.9")[0] == 220
        with w.smtp() as u:
            u.ehlo()
            assert ask(u, "XCLIENT ADDR=192.0.2.9")[0] == 421


def test_xclient_behind_tls_and_for_strangers(instances):
    w = instances("a", sections={"smtp": "xclient-from 127.0.0.0/8;"})
    with w.submit("alice@example.test", "submissions") as s:
        assert ask(s, "XCLIENT ADDR=192.0.2.9")[0] == 220
        s.ehlo()
        assert ask(s, "MAIL FROM:<alice@example.test>")[0] == 530
        s.login("alice@example.test", "wonder-1")
        w.wait_log("login user=alice@example.test remote=192.0.2.9 ")
    b = instances("b")
    with b.smtp() as s:
        s.ehlo()
        assert not s.has_extn("xclient")
        assert ask(s, "XCLIENT ADDR=192.0.2.9") == (550, "5.7.0 You may speak for nobody else here")
