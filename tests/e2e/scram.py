"""A client's side of SCRAM-SHA-256 and SCRAM-SHA-1, written after RFC 5802, for tests."""
import base64
import hashlib
import hmac
import os
import subprocess




class Scram:
    """s = Scram(user, password); s.first() -> s.final(server_first) -> s.verify(server_final)."""

    def __init__(self, user, password, flag="n", binding=b"", digest="sha256"):
        self.digest = digest
        self.gs2 = flag + ",,"
        self.binding = binding
        self.password = password.encode()
        self.nonce = base64.b64encode(os.urandom(18)).decode()
        self.bare = "n=%s,r=%s" % (user.replace("=", "=3D").replace(",", "=2C"), self.nonce)

    def _hmac(self, key, data):
        return hmac.new(key, data, self.digest).digest()

    def first(self):
        return (self.gs2 + self.bare).encode()

    def final(self, server_first):
        server_first = server_first.decode()
        fields = dict(f.split("=", 1) for f in server_first.split(","))
        assert fields["r"].startswith(self.nonce) and len(fields["r"]) >= len(self.nonce) + 18
        self.iterations = int(fields["i"])
        self.salt = base64.b64decode(fields["s"])
        salted = hashlib.pbkdf2_hmac(self.digest, self.password, self.salt, self.iterations)
        client = self._hmac(salted, b"Client Key")
        bare = "c=%s,r=%s" % (base64.b64encode(self.gs2.encode() + self.binding).decode(), fields["r"])
        said = ",".join((self.bare, server_first, bare)).encode()
        self.signature = self._hmac(self._hmac(salted, b"Server Key"), said)
        signature = self._hmac(hashlib.new(self.digest, client).digest(), said)
        return (bare + ",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(client, signature))).decode()).encode()

    def verify(self, server_final):
        assert server_final == b"v=" + base64.b64encode(self.signature), server_final

    def step(self, challenge):
        """For a client library: the answer to whatever comes, from the empty first challenge on."""
        if not challenge:
            return self.first()
        if challenge.startswith(b"r="):
            return self.final(challenge)
        self.verify(challenge)
        self.verified = True
        return b""


def end_point(tls_socket):
    """tls-server-end-point (RFC 5929) of our test certificates, which are signed with SHA-256."""
    return hashlib.sha256(tls_socket.getpeercert(binary_form=True)).digest()


class OpenSSL:
    """A line over `openssl s_client`, which can export keying material as Python's ssl can't; TLS 1.3, as for
    1.2 it gives no context where RFC 9266 wants an empty one."""

    def __init__(self, address, port):
        self.p = subprocess.Popen(["openssl", "s_client", "-tls1_3", "-connect", "%s:%d" % (address, port), "-keymatexport", "EXPORTER-Channel-Binding",
                                   "-keymatexportlen", "32"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        while True:
            l = self.p.stdout.readline()
            assert l, "no keying material"
            if b"Keying material: " in l:
                self.exporter = bytes.fromhex(l.split(b": ", 1)[1].strip().decode())
                break

    def wait(self, start):
        while True:
            l = self.p.stdout.readline()
            assert l, "the connection ended"
            if l.startswith(start):
                return l.rstrip(b"\r\n")

    def say(self, line):
        self.p.stdin.write(line + b"\r\n")
        self.p.stdin.flush()

    def close(self):
        self.p.kill()
        self.p.wait()
        self.p.stdin.close()
        self.p.stdout.close()
