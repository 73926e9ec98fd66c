#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tunnels: WebSocket by Upgrade, and CONNECT."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import MOVER, SLOW, answer, eq, main, ok, story, text_of, wait  # noqa: E402

ASK = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]
YES = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"


def pong(c):
    """Switches, and sends back what comes, in capitals."""
    c.seen = c.head()
    c.send(YES)
    while c.more():
        data, c.buffer = c.buffer, b""
        c.send(data.upper())
    c.half()


@story
def both_ways(lab):  # client ── weir ── up, after 101
    up = lab.upstream(script=pong)
    w = lab.weir(up)
    with w.client() as c:
        c.send(text_of("GET /chat", ASK))
        r = c.response()
        eq((r.status, r.get("upgrade"), r.get("sec-websocket-accept")), (101, "websocket", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "101")
        for text in (b"hello", b"x" * 100000, b"\x00\x81\xff"):
            c.send(text)
            eq(c.take(len(text)), text.upper(), "what comes back")
        seen = up.conns[0].seen
        eq((seen.get("upgrade"), seen.get("connection").lower()), ("websocket", "upgrade"), "what the upstream was asked")
        eq(w.admin("/v1/connections").json()["connections"][0]["state"], "tunnel", "show connections")
    wait(lambda: up.open == 0, "the upstream's connection ends")
    line = w.access(1)[0]
    eq((line["status"], line["mover"]), (101, MOVER or "copy"), "the log")
    ok(line["bytes_in"] == line["bytes_out"] == 100008, "bytes", line)
    eq([w.metric("weir_bytes_total", side="up", direction=way) for way in ("in", "out")], [100008, 100008], "bytes, counted")


@story
def early_frames(lab):
    # What comes together with the heads is not lost, on either side.
    def script(c):
        c.head()
        c.send(YES + b"first")
        got = c.take(5)
        c.send(got)
        c.rest()
    w = lab.weir(lab.upstream(script=script))
    with w.client() as c:
        c.send(text_of("GET /", ASK) + b"early")
        eq(c.response().status, 101, "101")
        eq(c.take(10), b"firstearly", "what came early")


@story
def after_another_request(lab):
    # Keep-alive before it; pipelined bytes behind it belong to the tunnel.
    def script(c):
        while True:
            r = c.request()
            if not r:
                return
            if r.get("upgrade"):
                break
            c.send(answer(200, "plain"))
        c.send(YES)
        c.send(c.take(4))
        c.rest()
    w = lab.weir(lab.upstream(script=script), workers=1)
    with w.client() as c:
        c.send(text_of("GET /") + text_of("GET /", ASK) + b"GET ")
        eq((c.response().body, c.response().status), (b"plain", 101), "answers")
        eq(c.take(4), b"GET ", "bytes behind it are not a request")


@story
def half_close(lab):
    # FIN goes through in its direction, after the bytes before it; the other direction goes on.
    def script(c):
        c.head()
        c.send(YES)
        data = c.rest()
        time.sleep(0.2)
        c.send(b"%d bytes" % len(data))
    up = lab.upstream(script=script)
    w = lab.weir(up)
    with w.client() as c:
        c.send(text_of("GET /", ASK))
        eq(c.response().status, 101, "101")
        c.send(b"y" * 300000)
        c.half()
        eq(c.rest(), b"300000 bytes", "the answer after FIN")
    wait(lambda: w.status()["connections"] == 0, "it is over")

    def first(c):
        c.head()
        c.send(YES + b"bye")
        c.half()
        got.append(c.rest())
    got = []
    w = lab.weir(lab.upstream(script=first))
    with w.client() as c:
        c.send(text_of("GET /", ASK))
        eq(c.response().status, 101, "101")
        eq(c.rest(), b"bye", "the upstream's FIN")
        c.send(b"still here")
        c.half()
        wait(lambda: got, "it arrives")
        eq(got, [b"still here"], "the other direction")


@story
def reset(lab):
    # RST on one side is the end of the other, and no clean one.
    up = lab.upstream(script=pong)
    w = lab.weir(up)
    before = w.fds()
    c = w.client()
    c.send(text_of("GET /", ASK))
    c.response()
    c.reset()
    wait(lambda: up.open == 0, "the upstream's connection ends")

    def script(c):
        c.head()
        c.send(YES)
        time.sleep(0.1)
        c.reset()
    w2 = lab.weir(lab.upstream(script=script))
    with w2.client() as c:
        c.send(text_of("GET /", ASK))
        eq(c.response().status, 101, "101")
        try:
            ok(c.more(), "a clean end")
            raise AssertionError("bytes from nowhere")
        except OSError:
            pass
        except Exception as e:
            ok("clean end" in str(e), "how it ended", e)
            raise
    wait(lambda: w.fds() <= before, "descriptors are back")


@story
def refused_by_the_upstream(lab):
    # It answers something else than 101: an ordinary answer, and the connection goes on.
    up = lab.upstream(lambda c, r: c.send(answer(426 if r.get("upgrade") else 200, "no")))
    w = lab.weir(up)
    with w.client() as c:
        c.send(text_of("GET /", ASK))
        eq(c.response().status, 426, "the upstream's answer")
        c.send(text_of("GET /"))
        eq(c.response().status, 200, "the next request")


@story
def not_allowed_is_stripped(lab):
    up = lab.upstream()
    w = lab.weir(up, routes=[{"name": "off", "match": {"path": "/off"}, "to": "app", "upgrade": "off"}, {"name": "rest", "to": "app"}])
    for path, fields in (("/off", ASK), ("/", [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAA")])):
        r = w.ask("GET " + path, [(n, v + ", close" if n == "Connection" else v) for n, v in fields])
        names = [n for n, _ in r.json()["fields"]]
        ok(r.status == 200 and "upgrade" not in names and "connection" not in names, "stripped at " + path, r)
    with w.client() as c:
        c.send(text_of("GET /off", ASK))
        eq(c.response().status, 200, "an ordinary answer")
        c.send(text_of("GET /"))
        eq(c.response().status, 200, "and another")


@story
def switched_without_being_asked(lab):
    def script(c):
        c.head()
        c.send(YES + b"evil")
        try:
            c.rest()
        except OSError:
            pass
    w = lab.weir(lab.upstream(script=script))
    eq(w.ask("GET /").status, 502, "101 to a plain request")
    with w.client() as c:
        c.send(text_of("GET /", [("Connection", "Upgrade"), ("Upgrade", "h2c")]))
        eq(c.response().status, 502, "101 to an upgrade that was stripped")


@story
def a_bad_handshake(lab):
    up = lab.upstream()
    w = lab.weir(up)
    eq(w.ask("GET /", [("Connection", "Upgrade, close"), ("Upgrade", "websocket")]).status in (200, 400), True, "no key")
    with w.client() as c:
        c.send(text_of("GET /", ASK[:3] + [("Sec-WebSocket-Key", "short")]))
        eq(c.response().status, 400, "a bad key")
    with w.client() as c:  # by POST it is no WebSocket: a body must not become frames
        c.send(text_of("POST /", ASK, b"12345"))
        ok(c.response().status in (200, 400), "by POST")
    for r in up.requests:
        ok(not r.get("upgrade"), "nothing was asked to switch", r)


@story
def idle(lab):
    up = lab.upstream(script=pong)
    w = lab.weir(up, timeouts={"tunnel": "500ms", "idle": "200ms", "receive": "200ms", "request": "300ms"})
    with w.client() as c:
        c.send(text_of("GET /", ASK))
        eq(c.response().status, 101, "101")
        for _ in range(5):
            time.sleep(0.3)
            c.send(b"a")
            eq(c.take(1), b"A", "alive: no other deadline counts in a tunnel")
        started = time.monotonic()
        try:
            c.rest()
        except OSError:
            pass
        ok(0.3 < time.monotonic() - started < 3 * SLOW, "closed after timeouts.tunnel", time.monotonic() - started)
    wait(lambda: up.open == 0, "the upstream's connection too")


@story
def back_pressure(lab):
    # 32 MiB to a client that does not read for a while: kept at the upstream.
    sent = [0]

    def script(c):
        c.head()
        c.send(YES)
        c.sock.settimeout(30)
        while sent[0] < 32 << 20:
            sent[0] += c.sock.send(b"w" * 65536)
    w = lab.weir(lab.upstream(script=script))
    before = w.rss()
    with w.client(rcvbuf=65536) as c:
        c.send(text_of("GET /", ASK))
        c.response()
        time.sleep(0.7)
        ok(sent[0] < 20 << 20, "the upstream is held back", sent[0])
        if SLOW == 1:
            ok(w.rss() - before < 2 << 20, "memory", w.rss() - before)
        got = len(c.buffer)
        c.buffer = b""
        while got < 32 << 20:
            part = len(c.sock.recv(1 << 20))
            ok(part, "all of it", got)
            got += part


@story
def drain_ends_tunnels(lab):
    up = lab.upstream(script=pong)
    w = lab.weir(up, shutdown={"drain": "5s", "tunnels": "500ms"})
    c = w.client()
    c.send(text_of("GET /", ASK))
    eq(c.response().status, 101, "101")
    started = time.monotonic()
    w.kick(15)
    time.sleep(0.2)
    c.send(b"a")
    eq(c.take(1), b"A", "it goes on for a while")
    eq(w.join(), 0, "exit status")
    ok(time.monotonic() - started < 3 * SLOW, "after shutdown.tunnels", time.monotonic() - started)


@story
def tunnels_may_outlive_requests(lab):
    # shutdown.drain cuts a request that hangs; a tunnel goes on until shutdown.tunnels.
    up = lab.upstream(script=lambda c: pong(c) if c.index == 1 else c.rest())
    w = lab.weir(up, shutdown={"drain": "300ms", "tunnels": "1500ms"})
    tunnel, request = w.client(), w.client()
    tunnel.send(text_of("GET /", ASK))
    eq(tunnel.response().status, 101, "101")
    request.send(text_of("GET /"))
    wait(lambda: len(up.conns) == 2, "a request is in flight")
    started = time.monotonic()
    w.kick(15)
    try:
        ok(not request.more(), "the request is cut")
    except OSError:
        pass
    ok(0.2 < time.monotonic() - started < 1.2, "after shutdown.drain", time.monotonic() - started)
    tunnel.send(b"a")
    eq(tunnel.take(1), b"A", "the tunnel goes on")
    eq(w.join(), 0, "exit status")
    ok(1.3 < time.monotonic() - started < 3 * SLOW, "after shutdown.tunnels", time.monotonic() - started)


def connect_script(c):
    r = c.head()
    c.seen = r
    while "no" in r.target:
        c.send(answer(403, "no", reason="Forbidden"))
        if not c.more():
            return
        r = c.head()
    c.send(b"HTTP/1.1 200 Fine\r\n\r\n")
    while c.more():
        data, c.buffer = c.buffer, b""
        c.send(data[::-1])


@story
def connect(lab):
    up = lab.upstream(script=connect_script)
    w = lab.weir(up, route={"connect": "on"})
    with w.client() as c:
        c.send(b"CONNECT far.test:443 HTTP/1.1\r\nHost: far.test:443\r\n\r\n")
        r = c.response("CONNECT")
        eq((r.status, r.get("content-length"), r.get("transfer-encoding")), (200, None, None), "2xx")
        c.send(b"abc")
        eq(c.take(3), b"cba", "both ways")
        eq(up.conns[0].seen.line, "CONNECT far.test:443 HTTP/1.1", "what the upstream was asked")
    with w.client() as c:
        c.send(b"CONNECT no.test:443 HTTP/1.1\r\nHost: no.test:443\r\n\r\n")
        eq(c.response("CONNECT").body, b"no", "a refusal has a body")
        ok(c.ended(), "and ends the connection")
    with w.client() as c:  # bytes behind the head wait for the answer
        c.send(b"CONNECT far.test:443 HTTP/1.1\r\nHost: far.test:443\r\n\r\nearly")
        eq(c.response("CONNECT").status, 200, "2xx")
        eq(c.take(5), b"ylrae", "what came early")
    for head in (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT a:99999 HTTP/1.1\r\nHost: a:99999\r\n\r\n",
                 b"CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"):
        with w.client() as c:
            c.send(head)
            eq(c.response("CONNECT").status, 400, "answer to %r" % head)


@story
def connect_off(lab):
    up = lab.upstream()
    w = lab.weir(up)
    with w.client() as c:
        c.send(b"CONNECT far.test:443 HTTP/1.1\r\nHost: far.test:443\r\n\r\n" + text_of("GET /smuggled"))
        r = c.response("CONNECT")
        eq((r.status, bool(r.get("allow"))), (405, True), "off")
        ok(c.ended(), "then the end: what follows may be bytes for a tunnel, chosen by somebody else")
    eq(up.requests, [], "nothing for the upstream")


@story
def over_tls(lab):
    from certs import Authority
    ca = Authority(lab)
    pair = ca.issue("a.test")
    up = lab.upstream(script=pong, tls=ca.server(ca.issue("up.test")))
    w = lab.weir(up, listener={"tls": {"cert": pair[0], "key": pair[1]}}, upstream={"tls": {"ca": ca.cert, "sni": "up.test"}})
    with w.client(tls=ca.client(), sni="a.test") as c:
        c.send(text_of("GET /", [("Host", "a.test")] + ASK) + b"early")
        eq(c.response().status, 101, "101")
        eq(c.take(5), b"EARLY", "what came early")
        for _ in range(20):  # a thread each way is too much for Python's ssl
            data = os.urandom(60000)
            c.send(data)
            eq(c.take(len(data)), data.upper(), "1 MB there and back")


main()
