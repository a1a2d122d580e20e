"""An introspection endpoint (RFC 7662) for tests: what it says of a token is in the token's name."""
import base64
import http.server
import json
import ssl
import threading
import time
import urllib.parse

from waypost import free_port

CLIENT, SECRET = "mail server", "s:e&c+ret%"
AUDIENCE, SCOPE = "mail", "mail"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, code, body, kind="application/json", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for k, v in headers.items():
            self.send_header(k, v)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.server.trespassed.append(self.path)
        self.answer(200, {"active": True, "aud": AUDIENCE, "scope": SCOPE, "email": "alice@example.test"})

    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode(), strict_parsing=True)
        if self.path != "/introspect":
            return self.do_GET()
        (token,) = form.pop("token")
        assert form == {"token_type_hint": ["access_token"]} and self.headers["Content-Type"] == "application/x-www-form-urlencoded"
        with self.server.lock:
            self.server.asked.append(token)
        kind, name = self.headers["Authorization"].split(None, 1)
        # RFC6749:2.3.1
        login = [urllib.parse.unquote_plus(x) for x in base64.b64decode(name).decode().split(":", 1)]
        if kind != "Basic" or login != [CLIENT, SECRET]:
            return self.answer(401, {"error": "invalid_client"})
        self.say(token.split(".")[0], token.split(".")[1] if "." in token else "alice")

    def say(self, what, who):
        good = {"active": True, "aud": [AUDIENCE, "web"], "scope": "openid " + SCOPE, "email": who + "@example.test", "exp": int(time.time()) + 600}
        changed = {"otheraud": {"aud": "web"}, "noaud": {"aud": None}, "noscope": {"scope": "openid"}, "expired": {"exp": int(time.time()) - 600},
                   "early": {"nbf": int(time.time()) + 600}, "unverified": {"email_verified": False}, "noname": {"email": None}, "badexp": {"exp": "soon"}}
        if what in ("good", "also"):
            self.answer(200, good)
        elif what in changed:
            self.answer(200, {k: v for k, v in dict(good, **changed[what]).items() if v is not None})
        elif what == "inactive":
            self.answer(200, {"active": False})
        elif what == "slow":
            self.server.release.wait(60)
            self.close_connection = True
        elif what == "large":
            self.answer(200, dict(good, padding="x" * 100000))
        elif what == "garbage":
            self.answer(200, b"\xff\x00 not JSON")
        elif what == "list":
            self.answer(200, [good])
        elif what == "silent":
            self.answer(200, {"aud": AUDIENCE})
        elif what == "redirect":
            self.answer(307, b"", Location="/elsewhere")
        elif what == "broken":
            self.answer(503, dict(good))
        elif what == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "500")
            self.end_headers()
            self.wfile.write(b'{"active": true, "aud": "mail"')
            self.close_connection = True
        else:
            self.answer(200, {"active": False})


class Endpoint(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address, certificate=None):
        """certificate: (chain, key) files for TLS."""
        super().__init__((address, free_port(address)), Handler)
        self.asked, self.trespassed, self.lock, self.release = [], [], threading.Lock(), threading.Event()
        self.tls = bool(certificate)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # handshakes that a test means to fail

    def url(self, host=None):
        return "http%s://%s:%d/introspect" % ("s" if self.tls else "", host or self.server_address[0], self.server_address[1])

    def stop(self):
        self.release.set()
        self.shutdown()
        self.server_close()
