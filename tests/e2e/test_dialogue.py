"""The dialogues of tests/dialogue/smtp, played against the real daemon; tests/dialogue/README says what the steps mean."""
import fnmatch
import os
import re
import socket

import pytest

import waypost as wp

FOLDER = os.path.join(os.path.dirname(__file__), "..", "dialogue", "smtp")
SCRIPTS = sorted(os.listdir(FOLDER))
ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("dialogue")
    for d in (tmp, tmp.parent):
        os.chmod(d, 0o755)
    w = wp.Instance(tmp / "a", accounts={"alice@example.test": "secret-words", "bob@example.test": "builder-2"})
    w.start()
    yield w
    assert w.stop() == 0


def unescape(text):
    return re.sub(rb"\\(x[0-9a-fA-F]{2}|.)", lambda m: bytes([int(m[1][1:], 16)]) if m[1][:1] == b"x" else ESCAPES[m[1].decode()], text.encode())


class Play:
    def __init__(self, server, name):
        self.server, self.name, self.say, self.line, self.commits = server, name, b"", 0, 0

    def where(self):
        return "%s:%d" % (self.name, self.line)

    def role(self, what):
        port = {"mx": "mx", "submission": "submission"}[what]
        self.sock = socket.create_connection((self.server.address, self.server.ports[port]), timeout=wp.PATIENCE)
        self.file = self.sock.makefile("rb", buffering=0)

    def hear(self):
        line = self.file.readline()
        assert line.endswith(b"\r\n"), "%s: heard %r" % (self.where(), line)
        self.commits += line.startswith(b"250 2.0.0 Ok: queued as ")
        return line[:-2].decode("latin-1")

    def step(self, verb, rest):
        if verb == ">":
            self.say += rest.encode() + b"\r\n"
        elif verb == ">>":
            self.say += unescape(rest)
        else:
            self.sock.sendall(self.say)
            self.say = b""
            getattr(self, {"<": "line_", "<<": "reply", "tls": "tls", "closed": "closed", "stored": "stored"}[verb])(rest)

    def line_(self, pattern):
        got = self.hear()
        assert fnmatch.fnmatchcase(got, pattern.replace("[", "[[]")), "%s: heard %s" % (self.where(), got)

    def reply(self, code):
        got = self.hear()
        while got[3:4] == "-":
            got = self.hear()
        assert got.startswith(code), "%s: heard %s" % (self.where(), got)

    def tls(self, _):
        self.sock = self.server.tls().wrap_socket(self.sock, server_hostname=self.server.address)
        self.file = self.sock.makefile("rb", buffering=0)

    def closed(self, _):
        try:
            rest = self.file.read(100)
        except (ConnectionResetError, OSError):
            rest = b""
        assert not rest, "%s: heard %r" % (self.where(), rest)

    def stored(self, n):
        assert self.commits == int(n), self.where()


@pytest.mark.parametrize("script", SCRIPTS)
def test_dialogue(server, script):
    play = Play(server, script)
    with open(os.path.join(FOLDER, script)) as f:
        for line in f:
            play.line += 1
            verb, _, rest = line.strip().partition(" ")
            if verb == "role":
                play.role(rest)
            elif verb and verb != "whole" and not verb.startswith("#"):
                play.step(verb, rest)
    play.sock.close()
