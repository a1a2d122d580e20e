"""JSON Web Tokens signed with the openssl command, for tests. RFC 7515."""
import base64
import json
import subprocess
import time


def url64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Issuer:
    """A P-256 key in a directory, and tokens of its making."""
    name, audience = "https://issuer.test", "mail"

    def __init__(self, directory):
        self.key, self.public = str(directory) + "/issuer.key", str(directory) + "/issuer.pub"
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.key], check=True)
        subprocess.run(["openssl", "ec", "-in", self.key, "-pubout", "-out", self.public], check=True, stderr=subprocess.DEVNULL)

    def sign(self, said):
        der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=said.encode(), check=True, capture_output=True).stdout
        rest, raw = der[2:], b""
        while rest:  # two integers
            number, rest = rest[2:2 + rest[1]], rest[2 + rest[1]:]
            raw += number.lstrip(b"\0").rjust(32, b"\0")
        return raw

    def token(self, email, header=None, **claims):
        all_claims = dict({"iss": self.name, "aud": self.audience, "exp": int(time.time()) + 600, "email": email}, **claims)
        said = url64(json.dumps(header or {"alg": "ES256"}).encode()) + "." + url64(json.dumps(all_claims).encode())
        return said + "." + url64(self.sign(said))

    def section(self, **more):
        return "keys %s; issuer %s; audience %s; " % (self.public, self.name, self.audience) + " ".join("%s %s;" % (k, v) for k, v in more.items())
