"""A small SMTP server for tests: it takes mail into memory, answers as it is told to, and remembers what was said.

    with Sink("127.8.8.8", rcpt={"gone@far.test": ["550 5.1.1 no such user"]}, replies={"dot": ["451 4.3.0 later", "250 ok"]}) as sink:
        ...
        sink.messages()[0].rcpts

An answer is a line (or several, with newlines), or one of the words "close" (the connection is closed without a word), "hang"
(silence until the client goes) and, of a stage, "wait" (silence until `gate` is set, and then what is usual). Of a list of answers each use takes the first, and the last one stays.
Stages for `replies`: greeting, ehlo, helo, starttls, auth, mail, rcpt, data, dot, rset, quit, noop.
"""
import base64
import contextlib
import re
import socket
import ssl
import threading
import time


class Message:
    """A message that was accepted. data: the content with transparency dots taken away; raw: as it came, without the final dot; at: the time (of
    time.time()) when all of it was there, just before the answer."""

    def __init__(self, sender, rcpts, raw, params, session):
        self.at = time.time()
        self.sender, self.rcpts, self.raw, self.params = sender, list(rcpts), raw, params
        self.data = re.sub(rb"(^|(?<=\r\n))\.", b"", raw)
        self.tls, self.login, self.helo, self.session = session.tls, session.login, session.helo, session


class Session:
    """One connection: lines holds (who, line) pairs, who being "C" or "S"."""

    def __init__(self, peer):
        self.peer, self.lines, self.tls, self.login, self.helo, self.ended = peer, [], "", "", "", False

    def said(self, prefix):
        return [l for who, l in list(self.lines) if who == "C" and l.upper().startswith(prefix.upper())]


class Gone(Exception):
    pass


class Sink:
    def __init__(self, address="127.0.0.1", port=0, rcpt=None, replies=None, cert=None, key=None, break_tls=False, implicit=False, auth=None,
                 extensions=("PIPELINING", "8BITMIME", "SIZE 100000000", "ENHANCEDSTATUSCODES"), name="sink.test", auth_mechanisms="PLAIN LOGIN", max_rcpts=1000):
        self.address, self.name, self.auth, self.break_tls, self.implicit = address, name, auth, break_tls, implicit
        self.extensions, self.auth_mechanisms, self.max_rcpts = tuple(extensions), auth_mechanisms, max_rcpts
        self.rcpt_replies = {k: list(v) for k, v in (rcpt or {}).items()}
        self.replies = {k: list(v) for k, v in (replies or {}).items()}
        self.context = None
        if cert:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(cert, key)
        self.lock = threading.Lock()
        self.taken, self.sessions, self.open = [], [], set()
        self.stopping = False
        self.gate = threading.Event()
        self.listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen(200)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def messages(self):
        with self.lock:
            return list(self.taken)

    def stop(self):
        self.stopping = True
        self.gate.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            socks = list(self.open)
        for s in socks:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        if self.thread.is_alive():
            self.thread.join(10)

    def drop(self):
        """Closes every connection that is open, as a host that restarts does."""
        with self.lock:
            socks = list(self.open)
        for s in socks:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while not self.stopping:
            try:
                sock, peer = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = Session(peer)
            with self.lock:
                self.open.add(sock)
                self.sessions.append(session)
            threading.Thread(target=self._serve, args=(sock, session), daemon=True).start()

    def _serve(self, sock, session):
        c = _Conversation(self, sock, session)
        try:
            c.run()
        except (OSError, Gone, ssl.SSLError):
            pass
        finally:
            session.ended = True
            with self.lock:
                self.open.discard(sock)
            with contextlib.suppress(OSError):
                c.sock.close()
            with contextlib.suppress(OSError):
                sock.close()

    def _next(self, replies, default):
        with self.lock:
            if not replies:
                return default
            return replies.pop(0) if len(replies) > 1 else replies[0]


class _Conversation:
    def __init__(self, sink, sock, session):
        self.sink, self.sock, self.session = sink, sock, session
        self.buffer = b""
        self.out = b""
        self.reset()

    def reset(self):
        self.sender, self.rcpts, self.params, self.chunks = None, [], "", b""

    # ---- bytes ----

    def read(self):
        self.flush()
        more = self.sock.recv(65536)
        if not more:
            raise Gone()
        self.buffer += more

    def line(self):
        while b"\n" not in self.buffer:
            self.read()
        line, self.buffer = self.buffer.split(b"\n", 1)
        text = line.rstrip(b"\r").decode("utf-8", "replace")
        self.session.lines.append(("C", text))
        return text

    def flush(self):
        if self.out:
            out, self.out = self.out, b""
            self.sock.sendall(out)

    def answer(self, text):
        """The word or line, and its first digit."""
        if text == "close":
            self.flush()
            raise Gone()
        if text == "hang":
            self.flush()
            while self.sock.recv(65536):
                pass
            raise Gone()
        for line in text.split("\n"):
            self.session.lines.append(("S", line))
            self.out += line.encode() + b"\r\n"
        return text[:1]

    def stage(self, name, default):
        text = self.sink._next(self.sink.replies.get(name), default)
        if text == "wait":
            self.flush()
            self.sink.gate.wait()
            text = default
        return self.answer(text)

    # ---- the session ----

    def start_tls(self):
        self.flush()
        self.buffer = b""
        if self.sink.break_tls:
            self.sock.recv(65536)
            self.sock.sendall(b"this is not TLS\r\n")
            raise Gone()
        plain = self.sock
        self.sock = self.sink.context.wrap_socket(plain, server_side=True)
        with self.sink.lock:
            self.sink.open.discard(plain)
            self.sink.open.add(self.sock)
        self.session.tls = self.sock.version()

    def run(self):
        try:
            if self.sink.implicit:
                self.start_tls()
            if self.stage("greeting", "220 %s ready" % self.sink.name) != "2":
                self.flush()
                self.line()
                return
            while self.command(self.line()):
                pass
            self.flush()
        finally:
            with self.sink.lock:
                self.sink.open.discard(self.sock)

    def command(self, line):
        verb, _, rest = line.partition(" ")
        fn = getattr(self, "do_" + verb.lower(), None)
        if not fn:
            self.answer("500 5.5.1 unknown command")
            return True
        return fn(rest) is not False

    def do_ehlo(self, rest):
        ext = list(self.sink.extensions)
        if self.sink.context and not self.session.tls:
            ext.append("STARTTLS")
        if self.sink.auth is not None and (self.session.tls or not self.sink.context):
            ext.append("AUTH " + self.sink.auth_mechanisms)
        lines = [self.sink.name] + ext
        text = "\n".join("250%s%s" % ("-" if i < len(lines) - 1 else " ", l) for i, l in enumerate(lines))
        if self.stage("ehlo", text) == "2":
            self.session.helo = rest
            self.reset()

    def do_helo(self, rest):
        if self.stage("helo", "250 " + self.sink.name) == "2":
            self.session.helo = rest
            self.reset()

    def do_starttls(self, _):
        if not self.sink.context or self.session.tls:
            self.answer("503 5.5.1 not now")
        elif self.stage("starttls", "220 go on") == "2":
            self.start_tls()
            self.reset()

    def do_auth(self, rest):
        words = rest.split(" ")
        if self.sink.auth is None or words[0].upper() not in self.sink.auth_mechanisms.split():
            self.answer("504 5.5.4 no such mechanism")
            return
        if words[0].upper() == "PLAIN":
            if len(words) < 2:
                self.answer("334 ")
                words.append(self.line())
            _, user, password = base64.b64decode(words[1]).decode().split("\0")
        else:
            self.answer("334 " + base64.b64encode(b"Username:").decode())
            user = base64.b64decode(self.line()).decode()
            self.answer("334 " + base64.b64encode(b"Password:").decode())
            password = base64.b64decode(self.line()).decode()
        good = self.sink.auth.get(user) == password
        if self.stage("auth", "235 2.7.0 welcome" if good else "535 5.7.8 wrong") == "2":
            self.session.login = user

    @staticmethod
    def path(rest):
        m = re.match(r"(?:FROM|TO):<([^>]*)>\s*(.*)$", rest, re.I)
        return m.groups() if m else (None, "")

    def do_mail(self, rest):
        address, params = self.path(rest)
        if address is None or self.sender is not None:
            self.answer("503 5.5.1 bad MAIL")
        elif self.stage("mail", "250 2.1.0 ok") == "2":
            self.sender, self.params = address, params

    def do_rcpt(self, rest):
        address, _ = self.path(rest)
        if address is None or self.sender is None:
            self.answer("503 5.5.1 bad RCPT")
            return
        room = len(self.rcpts) < self.sink.max_rcpts
        default = self.sink._next(self.sink.replies.get("rcpt"), "250 2.1.5 ok" if room else "452 4.5.3 too many recipients")
        if self.answer(self.sink._next(self.sink.rcpt_replies.get(address), default)) == "2":
            self.rcpts.append(address)

    def do_data(self, _):
        if not self.rcpts:
            self.answer("554 5.5.1 no valid recipients")
            return
        if self.stage("data", "354 go on") != "3":
            return
        while not (self.buffer.startswith(b".\r\n") or b"\r\n.\r\n" in self.buffer):
            self.read()
        if self.buffer.startswith(b".\r\n"):
            raw, self.buffer = b"", self.buffer[3:]
        else:
            raw, self.buffer = self.buffer.split(b"\r\n.\r\n", 1)
            raw += b"\r\n"
        m = Message(self.sender, self.rcpts, raw, self.params, self.session)
        text = self.sink._next(self.sink.replies.get("dot"), "250 2.0.0 taken")
        if text[:1] == "2":
            with self.sink.lock:
                self.sink.taken.append(m)
        self.reset()
        self.answer(text)

    def do_bdat(self, rest):
        size, _, last = rest.partition(" ")
        while len(self.buffer) < int(size):
            self.read()
        self.chunks += self.buffer[:int(size)]
        self.buffer = self.buffer[int(size):]
        if not self.rcpts:
            self.answer("503 5.5.1 bad BDAT")
        elif last.upper() != "LAST":
            self.answer("250 2.0.0 %s octets" % size)
        else:
            m = Message(self.sender, self.rcpts, self.chunks, self.params, self.session)
            m.data = self.chunks
            text = self.sink._next(self.sink.replies.get("dot"), "250 2.0.0 taken")
            if text[:1] == "2":
                with self.sink.lock:
                    self.sink.taken.append(m)
            self.reset()
            self.answer(text)

    def do_rset(self, _):
        self.stage("rset", "250 2.0.0 ok")
        self.reset()

    def do_noop(self, _):
        self.stage("noop", "250 2.0.0 ok")

    def do_quit(self, _):
        self.stage("quit", "221 2.0.0 bye")
        self.flush()
        return False
