#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""TLS to clients and to upstreams: certificates by SNI, versions, client certificates, resumption, truncation, verification."""
import json
import os
import socket
import ssl
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from certs import Authority, tuned  # noqa: E402
from weirlab import Cut, answer, dial, eq, has, main, ok, story, text_of, wait  # noqa: E402

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def tls(pair, **more):
    return {"tls": {"cert": pair[0], "key": pair[1], **more}}


def names_of(conn):
    return sorted(v for _, v in conn.sock.getpeercert()["subjectAltName"])


def refused(function, what):
    try:
        function()
    except (ssl.SSLError, OSError, Cut) as e:
        return e
    raise AssertionError(what + ": it was accepted")


def ask(w, context, sni, host=None, request="GET /"):
    with w.client(tls=context, sni=sni) as c:
        c.send(text_of(request, [("Host", host or sni), ("Connection", "close")]))
        return c.response(), c


@story
def check_tells_all_of_it(lab):
    # No error of TLS hides another, and what clients will refuse is a warning at its certificate.
    ca = Authority(lab)
    pair, old, bad = ca.issue("a.test"), ca.issue("old.test", days=-1), lab.write("bad.pem", "nothing")
    config = lab.config(lab.upstream(), listener=tls(pair, alpn=["h3"], ciphers="nope", ticket_keys=bad, client_ca=bad))
    config["upstreams"]["app"]["tls"] = {"sni": "a.test", "ca": bad, "cert": bad, "key": bad}
    path = lab.write("weir.yaml", json.dumps(config, indent=1))
    status, _, err = lab.cli("check", "-j", "-c", path)
    lines = open(path, encoding="utf-8").read().split("\n")
    told = sorted(lines[e["line"] - 1].split('"')[1] for e in json.loads(err) if e["severity"] == "error")
    # alpn's own is in a line of its list
    eq((status, told), (2, sorted(["ca", "cert", "ciphers", "client_ca", "h3", "ticket_keys"])), "all of them: %s" % err)
    config = lab.config(lab.upstream(), listener={"tls": {"certs": [{"cert": c, "key": k} for c, k in (pair, old)]}})
    status, _, err = lab.cli("check", "-j", "-c", lab.write("weir.yaml", json.dumps(config)))
    ok(status == 0 and any(e["severity"] == "warning" and "old_test.pem: the certificate expired on" in e["message"] for e in json.loads(err)), "expired", err)


@story
def a_folder_with_a_slash(lab):
    ca = Authority(lab)
    cert, key = ca.issue("a.test")
    os.mkdir(lab.path("certs"))
    os.rename(cert, lab.path("certs/a.crt"))
    os.rename(key, lab.path("certs/a.key"))
    w = lab.weir(lab.upstream(), listener={"tls": {"dir": lab.path("certs") + "/"}})
    out = w.cli("show", "certs", check=0)[1]
    has(out, "certs/a.crt", "the file")
    ok("//" not in out, "one slash", out)


@story
def one_request(lab):
    ca = Authority(lab)
    up = lab.upstream()
    w = lab.weir(up, listener=tls(ca.issue("a.test")))
    for version in (V12, V13):
        with w.client(tls=ca.client(version, version), sni="a.test") as c:
            for i in range(3):
                c.send(text_of("POST /%d" % i, [("Host", "a.test")], b"x" * 20000))
                r = c.response()
                eq((r.status, len(r.json()["body"])), (200, 20000), "answer")
    eq(dict(up.requests[0].fields)["x-forwarded-proto"], "https", "X-Forwarded-Proto")
    line = w.access(1)[0]
    eq((line["tls"]["version"], line["tls"]["sni"], line["tls"]["resumed"]), ("TLSv1.2", "a.test", False), "the log")
    eq((w.metric("weir_tls_handshakes_total"), w.metric("weir_tls_handshakes_total", version="TLSv1.3")), (2, 1), "handshakes counted")


@story
def certificates_by_sni(lab):
    ca = Authority(lab)
    a, b, wild = ca.issue("a.test", "www.a.test"), ca.issue("b.test"), ca.issue("*.w.test", file="wild")
    os.mkdir(ca.path("more"))
    for name, pair in (("d", ca.issue("d.test")),):
        with open(ca.path("more/%s.pem" % name), "w", encoding="ascii") as f:
            f.write(open(pair[0], encoding="ascii").read() + open(pair[1], encoding="ascii").read())
    w = lab.weir(lab.upstream(), listener={"tls": {"certs": [{"cert": c, "key": k} for c, k in (a, b, wild)] + [{"dir": ca.path("more")}]}})
    for sni, names in (("a.test", ["a.test", "www.a.test"]), ("www.a.test", ["a.test", "www.a.test"]), ("b.test", ["b.test"]), ("B.TEST", ["b.test"]),
                       ("x.w.test", ["*.w.test"]), ("d.test", ["d.test"])):
        with w.client(tls=ca.client(), sni=sni) as c:
            eq(names_of(c), names, "the certificate for " + sni)
    lax = ca.client()
    lax.check_hostname = False
    for sni in (None, "nobody.test", "x.y.w.test"):
        with w.client(tls=lax, sni=sni) as c:
            eq(names_of(c), ["a.test", "www.a.test"], "the first is the default, for %s" % sni)
    has(w.cli("show", "certs")[1], "d.test", "show certs")
    ok(all(v > 0 for k, v in w.metrics().items() if k.startswith("weir_certificate_expiry")), "expiry is told")


@story
def misdirected(lab):
    # A host that this connection's name does not serve: 421, so that the client asks on a connection of its own.
    ca = Authority(lab)
    pairs = [ca.issue("a.test", "www.a.test"), ca.issue("b.test")]
    w = lab.weir(lab.upstream(), listener={"tls": {"certs": [{"cert": c, "key": k} for c, k in pairs]}})
    eq(ask(w, ca.client(), "a.test")[0].status, 200, "the host that was asked for")
    eq(ask(w, ca.client(), "a.test", "www.a.test")[0].status, 200, "another name of its certificate")
    eq(ask(w, ca.client(), "a.test", "A.test:443")[0].status, 200, "case and port")
    eq(ask(w, ca.client(), "a.test", "b.test")[0].status, 421, "a name of another certificate")


@story
def versions_and_alpn(lab):
    ca = Authority(lab)
    pair = ca.issue("a.test")
    w = lab.weir(lab.upstream(), listener=tls(pair, min_version="1.3"))
    refused(lambda: w.client(tls=ca.client(V12, V12), sni="a.test"), "TLS 1.2 where 1.3 is the least")
    eq(ask(w, ca.client(V13), "a.test")[0].status, 200, "TLS 1.3")
    w = lab.weir(lab.upstream(), listener=tls(pair))
    with w.client(tls=ca.client(alpn=["h2", "http/1.1"]), sni="a.test") as c:
        eq(c.sock.selected_alpn_protocol(), "h2", "ALPN")
    with w.client(tls=ca.client(alpn=["http/1.1"]), sni="a.test") as c:
        eq(c.sock.selected_alpn_protocol(), "http/1.1", "ALPN of a client without HTTP/2")
    old = ca.client()
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    refused(lambda: w.client(tls=tuned(old, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1), sni="a.test"), "TLS 1.1")
    # no common protocol: a fatal alert, not a protocol that was not asked for
    refused(lambda: w.client(tls=ca.client(alpn=["h3"]), sni="a.test"), "ALPN without a common protocol")
    wait(lambda: w.metric("weir_connections_refused_total", reason="handshake") == 2, "failed handshakes are counted")


@story
def client_certificates(lab):
    ca, clients, others = Authority(lab), Authority(lab, "clients"), Authority(lab, "others")
    pair, mine, foreign = ca.issue("a.test"), clients.issue("me.test"), others.issue("me.test")
    for version in (V12, V13):
        w = lab.weir(lab.upstream(), listener=tls(pair, client_ca=clients.cert))
        eq(ask(w, ca.client(version, version, cert=mine), "a.test")[0].status, 200, "a good one")
        refused(lambda: ask(w, ca.client(version, version), "a.test"), "none where one is required")
        refused(lambda: ask(w, ca.client(version, version, cert=foreign), "a.test"), "one of somebody else")
        w = lab.weir(lab.upstream(), listener=tls(pair, client_ca=clients.cert, client_verify="optional"))
        eq(ask(w, ca.client(version, version), "a.test")[0].status, 200, "none where it is optional")
        eq(ask(w, ca.client(version, version, cert=mine), "a.test")[0].status, 200, "a good one")
        refused(lambda: ask(w, ca.client(version, version, cert=foreign), "a.test"), "a bad one where it is optional")


def resume(w, context, sni="a.test"):
    """Two connections, the second with the session of the first: was it resumed?"""
    session = None
    for _ in range(2):
        sock = socket.create_connection(w.address.rsplit(":", 1), 10)
        s = context.wrap_socket(sock, server_hostname=sni, session=session)
        s.sendall(text_of("GET /", [("Host", sni)]))
        s.recv(65536)  # tickets of 1.3 come with the answer
        session, reused = s.session, s.session_reused
        s.close()
    return reused


@story
def tickets(lab):
    ca = Authority(lab)
    pair = ca.issue("a.test")
    w = lab.weir(lab.upstream(), listener=tls(pair))
    for version in (V12, V13):
        ok(all(resume(w, ca.client(version, version)) for _ in range(6)), "resumed, whichever worker has it (%s)" % version)
    eq(w.metric("weir_tls_handshakes_total", resumed="true") + w.metric("weir_tls_handshakes_total", resumed="1") +
       w.metric("weir_tls_handshakes_total", resumed="yes"), 12, "counted as resumed")
    w = lab.weir(lab.upstream(), listener=tls(pair, tickets="off"))
    for version in (V12, V13):
        ok(not resume(w, ca.client(version, version)), "not resumed with tickets: off (%s)" % version)


@story
def tickets_do_not_cross_policies(lab):
    # A session of a listener that asks for no certificate must not open one that does.
    ca, clients = Authority(lab), Authority(lab, "clients")
    pair = ca.issue("a.test")
    from weirlab import address
    other = {"bind": address(), "to": "app", **tls(pair, client_ca=clients.cert)}
    w = lab.weir(lab.upstream(), listener=tls(pair), listeners={"strict": other})
    context = ca.client(V12, V12)
    sock = socket.create_connection(w.address.rsplit(":", 1), 10)
    s = context.wrap_socket(sock, server_hostname="a.test")
    s.sendall(text_of("GET /", [("Host", "a.test")]))
    s.recv(1000)
    session = s.session
    s.close()

    def strict():
        sock = socket.create_connection(other["bind"].rsplit(":", 1), 10)
        s = context.wrap_socket(sock, server_hostname="a.test", session=session)
        s.sendall(text_of("GET /", [("Host", "a.test")]))
        ok(b"200" not in s.recv(1000), "no answer")
        raise OSError("closed")
    refused(strict, "a session of another policy")


@story
def plaintext_to_the_tls_port(lab):
    ca = Authority(lab)
    w = lab.weir(lab.upstream(), listener=tls(ca.issue("a.test")))
    with w.client() as c:
        c.send(text_of("GET /", [("Host", "a.test")]))
        try:
            data = c.rest()
        except OSError:
            data = b""
        ok(b"200 OK" not in data, "no service", data)
    for junk in (b"\x16\x03\x01\xff\xff" + b"\0" * 100, b"\x80" * 500, b""):
        with w.client() as c:
            c.send(junk)
            c.half()
            try:
                c.rest()
            except OSError:
                pass
    eq(ask(w, ca.client(), "a.test")[0].status, 200, "others are served")
    eq(w.access(1)[0]["status"], 200, "only that one in the log")


@story
def close_notify(lab):
    # A clean end has its close_notify: a client can tell it from a cut.
    ca = Authority(lab)
    w = lab.weir(lab.upstream(lambda c, r: (c.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"), True)[1]), listener=tls(ca.issue("a.test")))
    for version in (V12, V13):
        context = ca.client(version, version)
        sock = context.wrap_socket(socket.create_connection(w.address.rsplit(":", 1), 10), server_hostname="a.test", suppress_ragged_eofs=False)
        sock.sendall(b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n")
        data = b""
        while True:
            part = sock.recv(1000)  # raises SSLEOFError without close_notify
            if not part:
                break
            data += part
        has(data, b"until the end", "the answer")
        sock.close()


@story
def truncated_upload(lab):
    # FIN without close_notify in the middle of a body is not its end.
    ca = Authority(lab)
    seen = []

    def script(c):
        try:
            c.body(c.head())
            seen.append("whole")
        except (Cut, OSError):
            seen.append("cut")
    w = lab.weir(lab.upstream(script=script), listener=tls(ca.issue("a.test")))
    c = w.client(tls=ca.client(), sni="a.test")
    c.send(text_of("POST /", [("Host", "a.test"), ("Content-Length", "100")]) + b"abc")
    time.sleep(0.1)
    os.close(c.sock.detach())
    wait(lambda: seen, "the upstream sees the end")
    eq(seen, ["cut"], "what the upstream saw")
    eq(w.access(1)[0]["error"]["by"], "client", "the log")


def inside(lab, pair, ca, client_ca=None, **tls_conf):
    """weir in front of a TLS upstream."""
    up = lab.upstream(tls=ca.server(pair, client_ca))
    return up, lab.weir(up, upstream={"tls": {"ca": ca.cert, **tls_conf}})


@story
def upstream_verified(lab):
    ca = Authority(lab)
    up, w = inside(lab, ca.issue("up.test"), ca, sni="up.test")
    for _ in range(3):
        eq(w.ask("GET /").status, 200, "a good certificate")
    ok(len(up.conns) <= 2, "the connection is used again", len(up.conns))


@story
def upstream_refused(lab):
    ca, other = Authority(lab), Authority(lab, "other")
    cases = [("wrong name", ca.issue("else.test"), ca, {"sni": "up.test"}), ("unknown authority", other.issue("up.test"), ca, {"sni": "up.test"})]
    for what, pair, trusted, conf in cases:
        up = lab.upstream(tls=other.server(pair))
        w = lab.weir(up, upstream={"tls": {"ca": trusted.cert, **conf}})
        eq((w.ask("GET /").status, up.requests), (502, []), what)
        eq(w.access(1)[0]["error"]["code"], "EUPVERIFY", "the log: " + what)
    w = lab.weir(lab.upstream(tls=other.server(other.issue("x.test"))), upstream={"tls": {"sni": "up.test"}, "verify": "off"})
    eq(w.ask("GET /").status, 200, "verify: off")


@story
def upstream_wants_a_certificate(lab):
    ca, clients = Authority(lab), Authority(lab, "clients")
    pair, mine = ca.issue("up.test"), clients.issue("weir.test")
    up, w = inside(lab, pair, ca, clients.cert, sni="up.test", cert=mine[0], key=mine[1])
    eq(w.ask("GET /").status, 200, "with our certificate")
    up, w = inside(lab, pair, ca, clients.cert, sni="up.test")
    eq((w.ask("GET /").status, up.requests), (502, []), "without it")


@story
def upstream_speaks_no_tls(lab):
    ca = Authority(lab)
    up = lab.upstream(script=lambda c: c.send("SSH-2.0-OpenSSH\r\n"))
    w = lab.weir(up, upstream={"tls": {"ca": ca.cert, "sni": "up.test"}})
    eq(w.ask("GET /").status, 502, "an upstream that speaks something else")
    up = lab.upstream(script=lambda c: c.rest())
    w = lab.weir(up, upstream={"tls": {"ca": ca.cert, "sni": "up.test"}}, timeouts={"connect": "300ms"})
    eq(w.ask("GET /").status, 504, "one that says nothing")


@story
def upstream_truncates(lab):
    # An answer until close that ends without close_notify is cut.
    ca = Authority(lab)

    def script(c):
        c.head()
        c.send(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
        time.sleep(0.1)
        if mode == "clean":
            c.sock = c.sock.unwrap()
        else:
            c.sock = socket.socket(fileno=c.sock.detach())
    up = lab.upstream(script=script, tls=ca.server(ca.issue("up.test")))
    w = lab.weir(up, upstream={"tls": {"ca": ca.cert, "sni": "up.test"}})
    mode = "clean"
    eq(w.ask("GET /").body, b"half of it", "with close_notify it is whole")
    mode = "cut"
    refused(lambda: w.ask("GET /"), "without close_notify")


@story
def no_renegotiation(lab):
    import subprocess
    ca = Authority(lab)
    up = lab.upstream()
    w = lab.weir(up, listener=tls(ca.issue("a.test")))
    done = subprocess.run(["openssl", "s_client", "-tls1_2", "-connect", w.address, "-servername", "a.test", "-CAfile", ca.cert],
                          input=b"R\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", capture_output=True, timeout=30, check=False)
    ok(b"RENEGOTIATING" in done.stderr and b"no renegotiation" in done.stderr, "what openssl says", done.stderr[-300:])
    eq(up.requests, [], "requests")


@story
def a_key_that_does_not_fit(lab):
    import json
    ca = Authority(lab)
    a, b = ca.issue("a.test"), ca.issue("b.test")
    err = lab.cli("check", "-c", lab.write("bad.yaml", json.dumps(lab.config(lab.upstream(), listener=tls((a[0], b[1]))))), check=2)[2]
    has(err, "does not fit", "why")


@story
def health_checks_over_tls(lab):
    ca = Authority(lab)
    up, other = lab.upstream(tls=ca.server(ca.issue("up.test"))), lab.upstream(tls=ca.server(ca.issue("else.test")))
    w = lab.weir(up, other, upstream={"tls": {"ca": ca.cert, "sni": "up.test"}, "health": {"type": "http", "path": "/h", "every": "50ms", "rise": 1, "fall": 2}})
    wait(lambda: [s["state"] for s in w.admin("/v1/upstreams").json()[0]["servers"]] == ["up", "down"], "the wrong name is down, the good one is up")
    ok(any(r.target == "/h" for r in up.requests), "checks arrive", up.requests)


@story
def both_sides(lab):
    # client ══ weir ══ up, bodies both ways
    ca = Authority(lab)
    up = lab.upstream(lambda c, r: c.send(answer(200, r.body[::-1])), tls=ca.server(ca.issue("up.test")))
    w = lab.weir(up, listener=tls(ca.issue("a.test")), upstream={"tls": {"ca": ca.cert, "sni": "up.test"}})
    data = os.urandom(3000000)
    with w.client(tls=ca.client(), sni="a.test") as c:
        c.sock.settimeout(30)
        c.send(text_of("POST /", [("Host", "a.test")], data))
        eq(c.response().body == data[::-1], True, "3 MB there and back")


@story
def slow_handshake(lab):
    ca = Authority(lab)
    w = lab.weir(lab.upstream(), listener=tls(ca.issue("a.test")), timeouts={"handshake": "300ms"})
    with dial(w.address) as c:
        c.send(b"\x16\x03\x01")
        started = time.monotonic()
        try:
            c.rest()
        except OSError:
            pass
        ok(0.2 < time.monotonic() - started < 3, "closed after timeouts.handshake", time.monotonic() - started)


main()
