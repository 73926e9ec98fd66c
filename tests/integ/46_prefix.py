#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What comes before a connection's own protocol: a PROXY header, in and out, and a ClientHello that is looked at and passed on."""
import os
import socket
import ssl
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from certs import Authority  # noqa: E402
from weirlab import HOST, Wrong, address, dial, eq, main, ok, story, text_of, wait  # noqa: E402

TCP = {"protocol": "tcp"}
TRUST = {"trusted_proxies": ["127.0.0.0/8"]}
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def named(name):
    """A server that says its name, and then sends back what comes."""
    def script(c):
        c.send(name)
        while c.buffer or c.more():
            data, c.buffer = c.buffer, b""
            c.send(data)
        c.half()
    return script


def v1(source="192.0.2.7", port=4711, to="198.51.100.9", to_port=443):
    return ("PROXY TCP%d %s %s %d %d\r\n" % (6 if ":" in source else 4, source, to, port, to_port)).encode()


def v2(source=(192, 0, 2, 7), port=4711, command=0x21, family=0x11, more=b""):
    rest = bytes([*source, 198, 51, 100, 9]) + port.to_bytes(2, "big") + (443).to_bytes(2, "big") + more if family else more
    return SIGNATURE + bytes([command, family]) + len(rest).to_bytes(2, "big") + rest


def hello(name):
    """What a TLS client sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def in_records(data, size):
    """The same message in records of at most `size` bytes."""
    body = data[5:]
    return b"".join(data[:3] + len(body[i:i + size]).to_bytes(2, "big") + body[i:i + size] for i in range(0, len(body), size))


def refused(c):
    """It ends without a byte."""
    try:
        more = c.more()
    except ConnectionError:
        return
    if more:
        raise Wrong("not refused: %r" % c.buffer)


def reasons(w):
    return {k.split('reason="')[1][:-2]: v for k, v in w.metrics().items() if k.startswith("weir_connections_refused_total") and v}


# --- SNI -------------------------------------------------------------------------------------------------------------

def by_name(lab, **kw):
    """Three servers: db.test, *.web.test, and the rest."""
    ups = [lab.upstream(script=named(b"%d" % i)) for i in range(3)]
    routes = [{"name": "db", "match": {"sni": "db.test"}, "to": "u0"}, {"name": "web", "match": {"sni": ["*.web.test", "web.test"]}, "to": "u1"},
              {"name": "rest", "to": "u2"}]
    return lab.weir(ups[0], listener={**TCP, **kw.pop("listener", {})}, routes=routes, upstreams={"u%d" % i: {"servers": [up.address]} for i, up in enumerate(ups)}, **kw)


@story
def by_the_name_in_the_hello(lab):
    w = by_name(lab)
    for name, want in (("db.test", b"0"), ("DB.TEST", b"0"), ("a.web.test", b"1"), ("web.test", b"1"), ("xdb.test", b"2"), (None, b"2")):
        with w.client() as c:
            first = hello(name)
            c.send(first)
            eq(c.take(1), want, "the server for %s" % name)
            eq(c.take(len(first)), first, "which sees every byte of it")
    lines = w.access(6)
    eq([line["route"] for line in lines], ["db", "db", "web", "web", "rest", "rest"], "the log")
    eq([line.get("tls") for line in lines][::5], [{"sni": "db.test"}, None], "the name in the log")


@story
def hellos_in_pieces(lab):
    w = by_name(lab)
    whole = hello("db.test")
    for data in (whole, in_records(whole, 50), in_records(whole, len(whole) // 3)):
        for step in (1, 7, 100, len(data) - 1):
            with w.client() as c:
                for i in range(0, len(data), step):
                    c.send(data[i:i + step])
                    if i < 60 * step:
                        time.sleep(0.0005)
                c.send(b"and more")
                eq(c.take(1), b"0", "by steps of %d" % step)
                eq(c.take(len(data) + 8), data + b"and more", "every byte, once")
    with w.client() as c:  # together with a lot that comes behind it
        big = os.urandom(3000000)
        c.send(whole)
        c.send(big)
        c.half()
        eq(c.rest() == b"0" + whole + big, True, "a hello and 3 MB")


@story
def other_first_bytes(lab):
    w = by_name(lab, timeouts={"handshake": "500ms"})
    for first in (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", b"\x80\x2e\x01\x03\x01"):
        with w.client() as c:
            c.send(first)
            eq(c.take(1 + len(first)), b"2" + first, "no TLS goes to the default route")
    with w.client() as c:  # a hello that does not end; FIN: whatever it was goes to the default route
        c.send(hello("db.test")[:100])
        c.half()
        eq(len(c.rest()), 101, "as data")
    with w.client() as c:
        c.half()
        eq(c.rest(), b"2", "FIN alone")
    with w.client() as c:
        c.send(b"\x16\x03\x01\x00\x05\x02hello")
        refused(c)
    with w.client() as c:
        started = time.monotonic()
        c.send(hello("db.test")[:100])
        refused(c)
        ok(time.monotonic() - started >= 0.5, "a time limit: timeouts.handshake")
    eq(reasons(w), {"client_hello": 2}, "refused")


@story
def tls_passes_through(lab):
    # End to end: the certificate is the server's, weir has no key.
    ca = Authority(lab)
    ups = [lab.upstream(script=named(name), tls=ca.server(ca.issue(host))) for name, host in ((b"A", "a.test"), (b"B", "b.test"))]
    w = lab.weir(ups[0], listener=TCP, routes=[{"name": "b", "match": {"sni": "b.test"}, "to": "u1"}, {"name": "rest", "to": "app"}],
                 upstreams={"u1": {"servers": [ups[1].address]}})
    for sni, want in (("a.test", b"A"), ("b.test", b"B")):
        with w.client(tls=ca.client(), sni=sni) as c:
            eq(c.take(1), want, sni)
            for _ in range(10):
                data = os.urandom(50000)
                c.send(data)
                eq(c.take(len(data)), data, "both ways")


# --- PROXY -----------------------------------------------------------------------------------------------------------

@story
def http_behind_a_proxy(lab):
    up = lab.upstream()
    w = lab.weir(up, listener={**TRUST, "proxy_protocol": "require"})
    for header, client in ((v1(), "192.0.2.7"), (v2(), "192.0.2.7"), (v1("2001:db8::5", to="::1"), "2001:db8::5"),
                           (v2(more=b"\x02\0\x03a.b\xee\0\0"), "192.0.2.7"), (b"PROXY UNKNOWN\r\n", HOST), (v2(command=0x20, family=0), HOST),
                           (v2(family=0), HOST)):
        for cut in (None, 1, 5, 13, len(header) - 1):
            with w.client() as c:
                data = header + text_of("GET /a")
                if cut:
                    c.send(data[:cut])
                    time.sleep(0.002)
                c.send(data[cut or 0:])
                r = c.response()
                eq(r.status, 200, "status")
                told = dict(map(tuple, r.json()["fields"]))
                if client != HOST:
                    eq(told["x-forwarded-for"], client, "X-Forwarded-For after %r" % header)
                c.send(text_of("GET /b") + text_of("GET /c"))
                eq([c.response().json()["target"] for _ in range(2)], ["/b", "/c"], "keep-alive behind it")
    eq(w.access(1)[0]["client"], "192.0.2.7", "the log")
    # one that is trusted again, by X-Forwarded-For: the rightmost untrusted hop
    with w.client() as c:
        c.send(v1("127.3.3.3") + text_of("GET /", [("X-Forwarded-For", "203.0.113.1, 203.0.113.2")]))
        c.response()
    wait(lambda: w.access()[-1]["client"] == "203.0.113.2", "the hop before it")
    with w.client() as c:  # and one that is not: what it sends is not believed
        c.send(v1() + text_of("GET /", [("X-Forwarded-For", "203.0.113.1")]))
        eq(dict(map(tuple, c.response().json()["fields"]))["x-forwarded-for"], "192.0.2.7", "X-Forwarded-For")


@story
def refusals(lab):
    up = lab.upstream()
    w = lab.weir(up, listener={**TRUST, "proxy_protocol": "require"}, timeouts={"handshake": "500ms"})
    bad_crc = v2(more=b"\x03\0\x04abcd")
    for data in (text_of("GET /"), b"PROXY TCP4 1.2.3.4\r\n" + text_of("GET /"), bad_crc + text_of("GET /"), v2(command=0x22), b"PROXY " + b"x" * 200,
                 v2(more=b"\x02\0\x09a")):
        with w.client() as c:
            c.send(data)
            refused(c)
    with w.client() as c:  # not whole, and FIN
        c.send(v1()[:20])
        c.half()
        refused(c)
    eq(reasons(w), {"proxy_header": 7}, "refused")
    with w.client() as c:
        c.send(v1()[:20])
        refused(c)
    eq(reasons(w), {"proxy_header": 8}, "by timeouts.handshake")
    eq(up.requests, [], "nothing for the upstream")
    # from elsewhere
    w = lab.weir(up, listener={"trusted_proxies": ["127.0.0.9"], "proxy_protocol": "require"})
    for source, good in (("127.0.0.8", False), ("127.0.0.9", True)):
        try:
            with dial(w.address, source=source) as c:
                c.send(v1() + text_of("GET /"))
                if good:
                    eq(c.response().status, 200, "of a trusted proxy")
                else:
                    refused(c)
        except ConnectionError:
            ok(not good, "the trusted one is refused")
    eq(reasons(w), {"proxy_header": 1}, "refused")


@story
def accept(lab):
    # With and without a header; of one that is not trusted it is data.
    up = lab.upstream()
    w = lab.weir(up, listener={"trusted_proxies": ["127.0.0.9"], "proxy_protocol": "accept"})
    for source, header, status, client in (("127.0.0.9", v1(), 200, "192.0.2.7"), ("127.0.0.9", b"", 200, "127.0.0.9"), ("127.0.0.8", b"", 200, "127.0.0.8"),
                                           ("127.0.0.8", v1(), 400, None)):
        with dial(w.address, source=source) as c:
            c.send(header + text_of("GET /"))
            r = c.response()
            eq(r.status, status, "%r from %s" % (header, source))
            if client:
                eq(dict(map(tuple, r.json()["fields"]))["x-forwarded-for"], client, "the client")
    with dial(w.address, source="127.0.0.9") as c:
        c.half()
        eq(c.rest(), b"", "FIN alone")
    shout = lab.upstream(script=named(b""))
    w = lab.weir(shout, listener={**TCP, **TRUST, "proxy_protocol": "accept"})
    for data in (b"PROX", b"PROXX and so on", b"\r\n\r\n\0\r\n"):
        with w.client() as c:
            c.send(data)
            c.half()
            eq(c.rest(), data, "what began like one is data when it ends")


@story
def limits_count_the_client(lab):
    # connections_per_client, access and bans look at who is behind the proxy.
    up = lab.upstream(script=named(b"!"))
    w = lab.weir(up, listener={**TCP, **TRUST, "proxy_protocol": "require", "limits": {"connections_per_client": 2}}, access={"deny": ["192.0.2.66"]})
    held = []
    for source in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"):
        c = w.client()
        held.append(c)
        c.send(v1(source))
        eq(c.take(1), b"!", "of %s" % source)
    with w.client() as c:
        c.send(v1("192.0.2.1"))
        refused(c)
    with w.client() as c:
        c.send(v1("192.0.2.66"))
        refused(c)
    eq(w.admin("/v1/bans", "POST", {"prefix": "192.0.2.3/32", "for_ms": 60000}).status // 100, 2, "a ban")
    with w.client() as c:
        c.send(v1("192.0.2.3"))
        refused(c)
    eq(reasons(w), {"per_client": 1, "denied": 1, "banned": 1}, "refused")
    for c in held:
        c.close()
    wait(lambda: w.status()["connections"] == 0, "all have left")
    with w.client() as c:
        c.send(v1("192.0.2.1"))
        eq(c.take(1), b"!", "the count fell again")
    eq(sorted({line["client"] for line in w.access(5)}), ["192.0.2.1", "192.0.2.2"], "the log")


@story
def before_tls(lab):
    # The header comes before the handshake, also where its bytes come along with it.
    ca = Authority(lab)
    pair = ca.issue("a.test")
    up = lab.upstream()
    w = lab.weir(up, listener={**TRUST, "proxy_protocol": "require", "tls": {"cert": pair[0], "key": pair[1]}})
    for header in (v1(), v2()):
        for together in (True, False):
            c = w.client()
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = ca.client().wrap_bio(incoming, outgoing, server_hostname="a.test")
            data = header
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    if together:
                        c.send(data + outgoing.read())
                    else:
                        c.send(data)
                        time.sleep(0.01)
                        c.send(outgoing.read())
                    data = b""
                    c.more()
                    incoming.write(c.buffer)
                    c.buffer = b""
            tls.write(text_of("GET /", [("Host", "a.test")]))
            c.send(outgoing.read())
            answer = b""
            while b"\r\n\r\n" not in answer:
                try:
                    answer += tls.read()
                except ssl.SSLWantReadError:
                    c.more()
                    incoming.write(c.buffer)
                    c.buffer = b""
            ok(b"200 OK" in answer and b'["x-forwarded-for", "192.0.2.7"]' in answer, "answered, and told who asks", answer)
            c.close()
    line = w.access(4)[3]
    eq((line["client"], line["tls"]["sni"]), ("192.0.2.7", "a.test"), "the log")
    wait(lambda: w.metrics()['weir_tls_handshakes_total{listener="web",version="TLSv1.3",resumed="false"}'] == 4, "handshakes")


@story
def header_hello_and_routes(lab):
    # All together: PROXY, then a hello that is passed on; routes by the client and the port that the header tells.
    w = by_name(lab, listener={**TRUST, "proxy_protocol": "require"})
    first = hello("db.test")
    for data in (v2() + first, v1() + in_records(first, 90)):
        for step in (3, len(data)):
            with w.client() as c:
                for i in range(0, len(data), step):
                    c.send(data[i:i + step])
                eq(c.take(1), b"0", "by its name")
                rest = data[data.index(b"\x16\x03"):]
                eq(c.take(len(rest)), rest, "the header is gone, the hello is not")
    ups = [lab.upstream(script=named(b"%d" % i)) for i in range(3)]
    w = lab.weir(ups[0], listener={**TCP, **TRUST, "proxy_protocol": "require"}, upstreams={"u%d" % i: {"servers": [up.address]} for i, up in enumerate(ups)},
                 routes=[{"name": "a", "match": {"client": "192.0.2.7"}, "to": "u0"}, {"name": "b", "match": {"port": 8443}, "to": "u1"}, {"name": "c", "to": "u2"}])
    for header, want in ((v1(), b"0"), (v1("192.0.2.8", to_port=8443), b"1"), (v1("192.0.2.8"), b"2")):
        with w.client() as c:
            c.send(header)
            eq(c.take(1), want, repr(header))


@story
def over_a_unix_socket(lab):
    # Who may open it is trusted: its mode says who.
    up = lab.upstream()
    path = lab.path("front.sock")
    w = lab.weir(up, listener={"bind": "unix:" + path, "proxy_protocol": "require"})
    with dial(path) as c:
        c.send(v2() + text_of("GET /"))
        eq(dict(map(tuple, c.response().json()["fields"]))["x-forwarded-for"], "192.0.2.7", "the client")
    with dial(path) as c:
        c.send(text_of("GET /"))
        refused(c)
    eq(reasons(w), {"proxy_header": 1}, "refused")


@story
def http2_behind_a_proxy(lab):
    # The preface comes in the same bytes as the header.
    up = lab.upstream()
    w = lab.weir(up, listener={**TRUST, "proxy_protocol": "require"})
    with w.client() as c:
        c.send(v2() + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0")
        head = c.take(9)
        eq(head[3], 4, "SETTINGS of the server")


# --- PROXY to the servers --------------------------------------------------------------------------------------------

def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def take_header(c):
    """The header that a connection begins with: (source, its port, destination, its port, TLVs); None for what is our own."""
    first = c.take(6)
    if first == b"PROXY ":
        words = c.until(b"\r\n").decode().split(" ")
        return None if words[0] == "UNKNOWN" else (words[1], int(words[3]), words[2], int(words[4]), {})
    head = first + c.take(10)
    rest = c.take(int.from_bytes(head[14:16], "big"))
    eq(head[:12], SIGNATURE, "the signature")
    size = {0x11: 12, 0x21: 36, 0: 0}[head[13]]
    tlvs, at = {}, size
    while at < len(rest):
        n = int.from_bytes(rest[at + 1:at + 3], "big")
        tlvs[rest[at]] = rest[at + 3:at + 3 + n]
        at += 3 + n
    eq(int.from_bytes(tlvs.pop(3), "big"), crc32c(head + rest[:-4] + bytes(4)), "its CRC")
    if head[12] == 0x20 or not size:
        return None
    half = size // 2 - 2
    source, to = (socket.inet_ntop(socket.AF_INET if half == 4 else socket.AF_INET6, rest[i:i + half]) for i in (0, half))
    return source, int.from_bytes(rest[2 * half:2 * half + 2], "big"), to, int.from_bytes(rest[2 * half + 2:size], "big"), tlvs


class Told:
    """A server that reads a header before it serves; keeps what it was told."""

    def __init__(self, lab, then, tls=None):
        self.told, self.tls = [], tls

        def script(c):
            if tls:  # not a byte more than the header
                while not c.buffer.endswith(b"\n"):
                    c.buffer += c.sock.recv(1)
            told = take_header(c)
            if tls:
                c.sock = tls.wrap_socket(c.sock, server_side=True)
            self.told.append(told)
            then(c)
        self.up = lab.upstream(script=script)


def serve(c):
    c.count = 0
    c.server.loop(c)


@story
def servers_are_told(lab):
    for version in ("v1", "v2"):
        t = Told(lab, named(b"!"))
        w = lab.weir(t.up, listener=TCP, upstream={"proxy_protocol": version})
        with w.client() as c:
            here, there = c.sock.getsockname(), c.sock.getpeername()
            c.send(b"data")
            eq(c.take(5), b"!data", "through")
        source, port, to, to_port, tlvs = t.told[0]
        eq((source, port, to, to_port), (*here, *there), "who, and to where, by " + version)
        if version == "v2":
            eq(tlvs[5].decode(), w.access(1)[0]["id"], "the id")
    # what a proxy in front of us says goes on
    t = Told(lab, named(b"!"))
    w = lab.weir(t.up, listener={**TCP, **TRUST, "proxy_protocol": "require"}, upstream={"proxy_protocol": "v2"})
    for header, want in ((v1(), ("192.0.2.7", 4711, "198.51.100.9", 443)), (v1("2001:db8::5", to="2001:db8::6"), ("2001:db8::5", 4711, "2001:db8::6", 443))):
        with w.client() as c:
            c.send(header)
            eq(c.take(1), b"!", "through")
        eq(t.told.pop()[:4], want, "who, and to where")
    # the name in a hello that is passed on
    t = Told(lab, named(b"!"))
    w = lab.weir(t.up, listener=TCP, routes=[{"name": "a", "match": {"sni": "a.test"}, "to": "app"}], upstream={"proxy_protocol": "v2"})
    with w.client() as c:
        c.send(hello("a.test"))
        eq(c.take(1), b"!", "through")
    eq(t.told[0][4][2], b"a.test", "PP2_TYPE_AUTHORITY")


@story
def requests_tell_too(lab):
    # Such connections are never shared: one a request, each with its own client.
    t = Told(lab, serve)
    w = lab.weir(t.up, listener=TRUST, upstream={"proxy_protocol": "v2", "health": {"type": "http", "path": "/up", "every": "50ms"}}, workers=1)
    for i in range(6):
        with w.client() as c:
            for k in range(2):
                c.send(text_of("GET /%d" % i, [("X-Forwarded-For", "203.0.113.%d" % i)]))
                eq(c.response().status, 200, "status")
    w.settle()
    seen = [told[0] for told in t.told if told]
    eq(sorted(seen), sorted("203.0.113.%d" % i for i in range(6) for _ in range(2)), "a header a request")
    ok(None in t.told, "checks say that they are of our own")
    eq(w.metrics()['weir_upstream_connections{upstream="app",state="idle"}'], 0, "none is kept")
    eq(w.metrics().get('weir_upstream_requests_total{upstream="app",reused="true"}', 0), 0, "none is used again")
    # UPSTREAM that is told, over TLS: the header is in the clear before it
    ca = Authority(lab)
    t = Told(lab, serve, tls=ca.server(ca.issue("up.test")))
    w = lab.weir(t.up, upstream={"proxy_protocol": "v1", "tls": {"ca": ca.cert, "sni": "up.test"}})
    for _ in range(3):
        eq(w.ask("GET /").status, 200, "status")
    eq(len(t.told), 3, "three headers")


@story
def told_and_retried(lab):
    gone, t = lab.upstream(listen=False), Told(lab, named(b"!"))
    w = lab.weir(gone, t.up, listener=TCP, upstream={"proxy_protocol": "v1"}, workers=1)
    for _ in range(4):
        with w.client() as c:
            here = c.sock.getsockname()
            eq(c.take(1), b"!", "on another server")
            eq(t.told.pop()[:2], here, "the same header")


# --- to another listener ---------------------------------------------------------------------------------------------

@story
def terminated_here_instead(lab):
    # edge passes db.test on; the rest is handed to `web`, which ends TLS, speaks HTTP, and logs.
    ca = Authority(lab)
    pair = ca.issue("a.test", "b.test")
    db, up = lab.upstream(script=named(b"db")), lab.upstream()
    w = lab.weir(up, listeners={
        "edge": {"bind": address(), **TCP, **TRUST, "proxy_protocol": "accept", "limits": {"connections_per_client": 5},
                 "routes": [{"name": "db", "match": {"sni": "db.test"}, "to": "db"}, {"name": "rest", "to": "listener:web"}]},
        "web": {"bind": address(), "to": "app", "tls": {"cert": pair[0], "key": pair[1]}, "limits": {"connections_per_client": 3}}},
        upstreams={"db": {"servers": [db.address]}})
    edge = w.address
    with dial(edge, tls=ca.client(), sni="a.test") as c:
        for path in ("/1", "/2"):
            c.send(text_of("GET " + path, [("Host", "a.test")]))
            r = c.response()
            eq((r.status, r.json()["target"]), (200, path), "served here")
        told = [x for x in w.admin("/v1/connections").json()["connections"] if x["state"] != "tunnel"]
        eq((told[0]["listener"], told[0]["requests"]), ("web", 2), "it is one of web's")
    with dial(edge, tls=ca.client(alpn=["h2"]), sni="b.test") as c:
        eq(c.sock.selected_alpn_protocol(), "h2", "ALPN of web")
    with dial(edge) as c:
        c.send(hello("db.test"))
        eq(c.take(2), b"db", "passed on")
    with dial(edge) as c:  # no TLS: web's handshake fails
        c.send(b"GET / HTTP/1.1\r\n\r\n")
        try:
            c.rest()
        except ConnectionError:
            pass
    lines = w.access(3)
    eq([(line["listener"], line["route"]) for line in lines], [("web", "app")] * 2 + [("edge", "db")], "the log")
    wait(lambda: w.status()["connections"] == 0, "all have gone")
    m = w.metrics()
    eq([m['weir_connections{listener="%s"}' % name] for name in ("edge", "web")], [0, 0], "gauges")
    eq((m['weir_requests_total{listener="edge",route="rest",code="200"}'], m['weir_requests_in_flight{listener="edge"}']), (3, 0), "edge counts what it handed over")
    eq(m['weir_connections_refused_total{listener="web",reason="handshake"}'], 1, "web counts the handshake")
    # the limits are those of web, of whom the header tells
    held = []
    for _ in range(3):
        c = dial(edge)
        held.append(c)
        c.send(v1() + hello("a.test"))
        ok(c.more(), "web answers")
    with dial(edge) as c:
        c.send(v1() + hello("a.test"))
        refused(c)
    with dial(edge) as c:
        c.send(v1("192.0.2.8") + hello("a.test"))
        ok(c.more(), "another client")
    eq(w.metrics()['weir_connections_refused_total{listener="web",reason="per_client"}'], 1, "refused")
    for c in held:
        c.close()
    wait(lambda: w.status()["connections"] == 0, "all have gone")


@story
def handed_to_plain_http_and_tcp(lab):
    db, up = lab.upstream(script=named(b"db")), lab.upstream()
    ca = Authority(lab)
    pair = ca.issue("db.test")
    w = lab.weir(up, listeners={
        "web": {"bind": address(), **TCP,
                 "routes": [{"name": "db", "match": {"sni": "db.test"}, "to": "listener:ended"}, {"name": "rest", "to": "listener:plain"}]},
        "plain": {"bind": address(), "to": "app"},
        "ended": {"bind": address(), **TCP, "to": "db", "tls": {"cert": pair[0], "key": pair[1]}}}, upstreams={"db": {"servers": [db.address]}})
    with dial(w.address) as c:
        c.send(text_of("GET /1") + text_of("GET /2"))
        eq([c.response().json()["target"] for _ in range(2)], ["/1", "/2"], "HTTP")
        c.send(text_of("GET /3"))
        c.half()
        eq(c.response().json()["target"], "/3", "and FIN")
    with dial(w.address, tls=ca.client(), sni="db.test") as c:
        eq(c.take(2), b"db", "TLS ended, bytes passed on")
        c.send(b"x" * 100000)
        eq(c.take(100000), b"x" * 100000, "both ways")
    eq(w.access(4)[3]["listener"], "ended", "the log")
    for i in range(30):  # one after the other, and cut at any moment
        c = dial(w.address)
        c.send(hello("db.test")[:i * 20])
        c.reset()
    wait(lambda: w.status()["connections"] == 0, "all have gone")


main()
