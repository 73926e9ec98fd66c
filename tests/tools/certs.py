# SPDX-License-Identifier: Apache-2.0
"""certs: keys and certificates for a story, by the openssl program; and what OpenSSL 3 hides from Python's ssl."""
import os
import re
import ssl
import subprocess


def openssl(*args, **kw):
    done = subprocess.run(["openssl", *args], capture_output=True, timeout=60, check=False, **kw)
    if done.returncode:
        raise RuntimeError("openssl %s: %s" % (" ".join(args), done.stderr.decode(errors="replace")))
    return done.stdout


class Authority:
    """A certificate authority in a folder of the story."""

    def __init__(self, lab, name="ca"):
        self.dir, self.name = lab.path(name), name
        os.mkdir(self.dir)
        os.chmod(self.dir, 0o755)
        self.key, self.cert = self.path("ca.key"), self.path("ca.pem")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=" + name,
                "-keyout", self.key, "-out", self.cert)

    def path(self, name):
        return os.path.join(self.dir, name)

    def issue(self, *names, days=30, file=None):
        """(certificate, key) for these names; the first is the subject as well."""
        file = file or re.sub("[^a-z0-9]", "_", names[0])
        key, cert, request = self.path(file + ".key"), self.path(file + ".pem"), self.path(file + ".csr")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + names[0], "-keyout", key,
                "-out", request)
        with open(self.path(file + ".ext"), "w", encoding="ascii") as f:
            f.write("subjectAltName=" + ",".join(("IP:" if re.fullmatch("[0-9.]+", n) else "DNS:") + n for n in names))
        openssl("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-days", str(days),
                "-extfile", f.name, "-out", cert)
        os.chmod(key, 0o644)
        return cert, key

    def client(self, low=None, high=None, cert=None, alpn=None):
        """A context that trusts this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.cert)
        return tuned(context, low, high, cert, alpn)

    def server(self, pair, client_ca=None):
        """A context for a scripted upstream."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca)
        return context


def tuned(context, low=None, high=None, cert=None, alpn=None):
    if low:
        context.minimum_version = low
    if high:
        context.maximum_version = high
    if cert:
        context.load_cert_chain(*cert)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context
