#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 to upstreams: connections shared by many requests, GOAWAY, refused streams, limits, bad answers, ALPN, idle and health."""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from certs import Authority  # noqa: E402
from h2lab import (CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, HEADER_TABLE_SIZE, HTTP_1_1_REQUIRED,  # noqa: E402
                   INITIAL_WINDOW_SIZE, INTERNAL_ERROR, MAX_CONCURRENT_STREAMS, NO_ERROR, PING, PROTOCOL_ERROR, PUSH_PROMISE, REFUSED_STREAM,
                   RST_STREAM, SETTINGS, WINDOW_UPDATE, RawPeer, ask, block, frame, h2_client, h2_upstream, never_indexed)
from weirlab import SLOW, Conn, Cut, answer, eq, main, ok, story, wait  # noqa: E402

H2 = {"upstream": {"protocol": "h2"}}
WAIT = 0.2 * SLOW


def slow(x):
    time.sleep(WAIT)
    x.reply(200, x.target)


def all_of(w, count, method="GET", body=None):
    """Answers of `count` requests at once on one h2 connection."""
    with h2_client(w) as c:
        streams = [c.request("%s /%d" % (method, i), body=body) for i in range(count)]
        return [s.response() for s in streams]


def check(answers, what):
    eq([(r.status, r.body) for r in answers], [(200, b"/%d" % i) for i in range(len(answers))], what)


@story
def one_connection_for_many(lab):  # 100 requests at once ── weir ── one connection
    up = h2_upstream(lab, slow)
    w = lab.weir(up, workers=1, **H2)
    began = time.monotonic()
    check(all_of(w, 100), "answers")
    took = time.monotonic() - began
    ok(took < 10 * WAIT + 2, "at once (s)", took)
    eq(len(up.conns), 1, "connections")
    w.settle()
    eq(w.metric("weir_upstream_connections_opened_total"), 1, "connections counted")
    reused = [line["reused"] for line in w.access(100)]
    ok(reused.count(False) <= 100 and w.access()[-1]["server"] == up.address, "the log", reused)
    for _ in range(3):
        eq(w.ask("GET /h1").body, b"/h1", "h1 clients share it")
    eq((len(up.conns), w.access(103)[-1]["reused"]), (1, True), "connections, then")


@story
def authority_of_a_client_without_host(lab):
    # HTTP/1.0 may name no host: an empty :authority is none (RFC 9113 8.3.1), so the server's own name is said.
    up = h2_upstream(lab, lambda x: x.reply(200, x.host or "-"))
    w = lab.weir(up, **H2)
    with w.client() as c:
        c.send("GET / HTTP/1.0\r\n\r\n")
        eq(c.response().body.decode(), up.address, ":authority")


@story
def fields_for_no_table(lab):
    # What a client wants kept in no table of HPACK goes on so (RFC 7541 6.2.3), and so does an id that never comes again.
    up = h2_upstream(lab)
    w = lab.weir(up, **H2)
    with h2_client(w) as c:
        for _ in range(3):
            c.open(ask("/") + [never_indexed("x-key", "secret"), ("x-open", "word")]).response()
    for x in up.requests:
        eq(sorted(x.never_indexed), ["x-key", "x-request-id"], "fields for no table")


@story
def max_concurrent_streams(lab):
    # What the peer allows is kept, and more connections are opened.
    for limit, least in ((1, 10), (4, 3), (100, 1)):
        up = h2_upstream(lab, slow, peer={"settings": {MAX_CONCURRENT_STREAMS: limit}})
        w = lab.weir(up, workers=1, **H2)
        eq(w.ask("GET /first").status, 200, "the first")
        check(all_of(w, 10), "answers with %d allowed" % limit)
        ok(len(up.conns) >= least, "connections with %d allowed" % limit, len(up.conns))
        eq([k.fault for k in up.conns], [None] * len(up.conns), "nobody is asked for more than it allows")
        check(all_of(w, 10), "again")
        ok(len(up.conns) <= 21, "connections are used again", len(up.conns))


@story
def limit_is_known_late(lab):
    # A burst before SETTINGS have come: what is beyond the peer's limit it refuses, and it is sent again at once: this is
    # no fault that a retry budget should keep small. Later connections take what the server allows.
    active, lock = {}, threading.Lock()

    def reply(x):
        with lock:
            active[x.peer] = active.get(x.peer, 0) + 1
            late = active[x.peer] > 2
        if late:
            x.rst(REFUSED_STREAM)
        else:
            slow(x)
        with lock:
            active[x.peer] -= 1
    up = h2_upstream(lab, reply, peer={"settings": {MAX_CONCURRENT_STREAMS: 2}})
    serve = up.serve
    up.serve = lambda sock: (time.sleep(WAIT), serve(sock))  # its SETTINGS come late
    w = lab.weir(up, workers=1, timeouts={"queue": "20s"}, **H2)
    check(all_of(w, 80, "POST", b"p" * 100), "answers")
    refused = w.metric("weir_retries_total", why="unprocessed")
    ok(refused > 30, "more than a budget has tokens at first", refused)
    check(all_of(w, 80, "POST", b"p" * 100), "answers")
    eq(w.metric("weir_retries_total", why="unprocessed"), refused, "once its limit is known it refuses nothing")


@story
def refused_streams_are_sent_again(lab):
    # REFUSED_STREAM: unprocessed, so that even POST goes again; with its body.
    seen = set()

    def reply(x):
        if x.target not in seen:
            seen.add(x.target)
            return x.rst(REFUSED_STREAM)
        x.whole()
        x.reply(200, x.target + x.body.decode())
    up = h2_upstream(lab, reply, early=True)
    w = lab.weir(up, **H2)
    for method, body in (("GET", None), ("POST", b"body" * 1000), ("POST", b"")):
        seen.clear()
        with h2_client(w) as c:
            r = c.request(method + " /a", body=body).response()
            eq((r.status, r.body), (200, b"/a" + (body or b"")), method)
        seen.clear()
        r = w.ask(method + " /a", body=body)
        eq((r.status, r.body), (200, b"/a" + (body or b"")), method + " of h1")
    w.settle()
    eq(w.metric("weir_retries_total", why="unprocessed"), 6, "retries counted")
    always = lab.weir(h2_upstream(lab, lambda x: x.rst(REFUSED_STREAM)), **H2)
    ok(always.ask("GET /").status in (502, 503), "refused for ever")


@story
def other_resets_are_not(lab):
    # Any other code may have been processed: POST is not sent twice.
    for code in (CANCEL, INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR, ENHANCE_YOUR_CALM, HTTP_1_1_REQUIRED):
        up = h2_upstream(lab, lambda x, code=code: x.rst(code))
        w = lab.weir(up, **H2)
        eq(w.ask("POST /", body=b"x").status, 502, "reset with %d" % code)
        eq(len(up.requests), 1, "requests at the upstream, with %d" % code)
        line = w.access(1)[0]
        eq(line["error"]["by"], "upstream", "who is to blame")


@story
def goaway_with_a_last_id(lab):
    # Streams beyond the last id are sent again at once, on another connection; those before it end where they are.
    def reply(x):
        if x.peer.index > 1 or x.id <= 5:
            x.whole()
            time.sleep(WAIT)
            x.reply(200, x.target)
    up = h2_upstream(lab, reply, early=True)
    w = lab.weir(up, workers=1, **H2)
    with h2_client(w) as c:
        streams = [c.request("POST /%d" % i, body=b"x" * 1000) for i in range(10)]
        wait(lambda: len(up.requests) == 10, "all are at the upstream")
        up.conns[0].goaway(5)
        check([s.response() for s in streams], "answers")
    eq([r.peer.index for r in up.requests], [1] * 10 + [2] * 7, "where they were")
    wait(lambda: up.conns[0].over, "the first connection ends")
    w.settle()
    ok(all(line["status"] == 200 for line in w.access(10)), "the log")


@story
def goaway_of_many(lab):
    # A server that restarts with a hundred requests on it has not failed: none of them does.
    def reply(x):
        if x.peer.index > 1:
            x.whole()
            x.reply(200, x.target)
    up = h2_upstream(lab, reply, early=True)
    w = lab.weir(up, workers=1, **H2)
    with h2_client(w) as c:
        streams = [c.request("POST /%d" % i, body=b"x" * 100) for i in range(100)]
        wait(lambda: len(up.requests) == 100, "all are at the upstream")
        up.conns[0].goaway(0)
        check([s.response() for s in streams], "answers")


@story
def graceful_goaway(lab):
    # 2^31-1 first: nothing is lost, nothing new comes; then the last id; then the end.
    gate = threading.Event()

    def reply(x):
        if x.peer.index == 1:
            gate.wait(20)
        x.reply(200, x.target)
    up = h2_upstream(lab, reply)
    w = lab.weir(up, workers=1, **H2)
    with h2_client(w) as c:
        first = [c.request("GET /%d" % i) for i in range(5)]
        wait(lambda: len(up.requests) == 5, "all are at the upstream")
        up.conns[0].goaway(0x7fffffff)
        up.conns[0].ping()
        eq(c.request("GET /new").response().body, b"/new", "the next is sent elsewhere")
        eq([r.peer.index for r in up.requests], [1] * 5 + [2], "where they were")
        up.conns[0].goaway(9)
        gate.set()
        check([s.response() for s in first], "answers")
    wait(lambda: up.conns[0].over, "the first connection ends")


@story
def goaway_of_an_idle_connection(lab):
    up = h2_upstream(lab, lambda x: x.reply(200, x.target))
    w = lab.weir(up, workers=1, **H2)
    for i in range(5):
        eq(w.ask("POST /%d" % i, body=b"x").status, 200, "request %d" % i)
        up.conns[-1].goaway(1)
        if i % 2:
            up.conns[-1].close()
        up.conns[-1].until_over()
    eq(len(up.conns), 5, "connections")


@story
def server_that_dies(lab):
    # Its connection ends with requests on it: GET on a connection that was used before goes again, POST does not.
    def reply(x):
        if x.peer.index == 1 and x.target != "/first":
            if x.target == "/9":
                time.sleep(WAIT)
                x.peer.cut()
            return
        x.reply(200, x.target)
    for method, status in (("GET", 200), ("POST", 502)):
        up = h2_upstream(lab, reply)
        w = lab.weir(up, workers=1, **H2)
        eq(w.ask("GET /first").status, 200, "the first")
        eq([r.status for r in all_of(w, 10, method, b"x" if method == "POST" else None)], [status] * 10, method)
        eq(w.ask("GET /last").status, 200, "the last")
        w.settle()


@story
def slow_windows(lab):
    # An upstream that opens its windows late and little; many uploads at once.
    up = h2_upstream(lab, lambda x: x.reply(200, str(len(x.body))), peer={"settings": {INITIAL_WINDOW_SIZE: 100}, "window": 65535})
    w = lab.weir(up, workers=1, **H2)
    with h2_client(w) as c:
        streams = [c.request("POST /", body=b"x" * 20000) for _ in range(10)]
        eq([s.response().body for s in streams], [b"20000"] * 10, "uploads")
    up = h2_upstream(lab, lambda x: x.reply(200, str(len(x.body))), peer={"settings": {INITIAL_WINDOW_SIZE: 0}},
                     script=lambda p: (time.sleep(WAIT), p.h2.update_settings({INITIAL_WINDOW_SIZE: 1000}), p.flush()))
    w = lab.weir(up, workers=1, **H2)
    eq(w.ask("POST /", body=b"y" * 50000).body, b"50000", "a window that opens late")


@story
def fields_large_and_small(lab):
    # HPACK tables of any size, heads longer than a frame, both ways.
    for table in (0, 4096, 65536):
        up = h2_upstream(lab, lambda x: x.reply(200, str(len(x.get("x-big"))), [("x-back", "b" * 20000)] + [("x-%d" % i, "v") for i in range(50)]),
                         peer={"settings": {HEADER_TABLE_SIZE: table}})
        w = lab.weir(up, workers=1, **H2)
        with h2_client(w, settings={HEADER_TABLE_SIZE: table}) as c:
            for _ in range(5):
                r = c.request("GET /", [("x-big", "a" * 20000), ("x-some", "value")]).response()
                eq((r.body, r.get("x-back"), r.get("x-49")), (b"20000", "b" * 20000, "v"), "heads, with a table of %d" % table)


@story
def bad_answers(lab):
    # What an upstream may not say: 502, and the others on the connection go on where the fault is a stream's.
    stream_faults = {
        "no status": [("x", "a")], "status twice": [(":status", "200"), (":status", "200")], "a request": [(":method", "GET"), (":path", "/")],
        "status 99": [(":status", "99")], "status text": [(":status", "abc")], "upper case": [(":status", "200"), ("Upper", "a")],
        "connection": [(":status", "200"), ("connection", "close")], "transfer-encoding": [(":status", "200"), ("transfer-encoding", "chunked")],
        "CR LF": [(":status", "200"), ("x", "a\r\nb: c")], "NUL": [(":status", "200"), ("x", "a\0")], "101": [(":status", "101")],
        "two lengths": [(":status", "200"), ("content-length", "1"), ("content-length", "2")], "after": [("x", "a"), (":status", "200")],
        "huge": [(":status", "200")] + [("x%d" % i, "a" * 10000) for i in range(20)], "many": [(":status", "200")] + [("x%d" % i, "a") for i in range(3000)],
    }

    def reply(x):
        if x.target == "/good":
            return x.reply(200, "good")
        x.headers(stream_faults[x.get("x-what")])
        try:
            x.send("x", end=True)
        except OSError:
            pass
    up = h2_upstream(lab, reply)
    w = lab.weir(up, workers=1, **H2)
    for what in stream_faults:
        eq(w.ask("POST /", [("x-what", what)], b"").status, 502, what)
        eq(w.ask("GET /good").status, 200, "and then, after " + what)
    w.settle()
    ok(all(line["error"]["by"] == "upstream" for line in w.access() if line["status"] == 502), "who is to blame")


@story
def bad_connections(lab):
    # Faults of a whole connection: GOAWAY to the upstream, 502 to who waits.
    faults = {"DATA on stream 0": frame(DATA, 0, 0, b"x"), "an even stream": frame(HEADERS, 5, 2, block((":status", "200"))),
              "a push": frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2" + block((":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a"))),
              "a huge frame": b"\xff\xff\xff" + frame(DATA, 0, 1)[3:], "HPACK junk": frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff"),
              "HTTP/1": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "SETTINGS of 5": frame(SETTINGS, 0, 0, b"12345"), "nothing": None,
              "PING of 3": frame(PING, 0, 0, b"abc")}
    now, goodbyes = [None], []

    def serve(c):
        peer = RawPeer(c.sock)
        peer.take(24)
        if now[0] is not None and not now[0].startswith(b"HTTP"):
            peer.send(frame(SETTINGS) + frame(SETTINGS, 1))
        if not peer.until_frame(HEADERS):
            return
        if now[0] is None:
            return
        peer.send(now[0])
        got = peer.until_frame(GOAWAY)
        goodbyes.append(got and int.from_bytes(got[3][4:8], "big"))
    up = lab.upstream(script=serve)
    w = lab.weir(up, workers=1, **H2)
    for what, data in faults.items():
        now[0] = data
        eq(w.ask("POST /", body=b"x").status, 502, what)
    wait(lambda: len(goodbyes) == len(faults) - 1, "goodbyes")
    ok(all(g for g in goodbyes), "GOAWAY tells a fault", goodbyes)
    up.faults.clear()


@story
def floods(lab):
    # A server that sends frames without end: GOAWAY, 502 to who waits, counted.
    def rst(i):
        return frame(RST_STREAM, 0, 1, b"\0\0\0\x08") * 10

    def answered(data):
        return lambda i: data if i else frame(HEADERS, END_HEADERS, 1, block((":status", "200"))) + data

    def headless(data):
        return lambda i: data if i else frame(HEADERS, 0, 1, block((":status", "200"))) + data
    kinds = {"pings": lambda i: frame(PING, 0, 0, b"12345678") * 10, "settings": lambda i: frame(SETTINGS) * 10, "resets": rst,
             "window_updates": lambda i: frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\x01") * 100, "unknown_frames": lambda i: frame(0x99, 0, 0, b"what") * 10,
             "empty_data": answered(frame(DATA, 0, 1) * 10), "continuations": headless(frame(CONTINUATION, 0, 1) * 10)}
    now, goodbyes = [None], []

    def serve(c):
        peer = RawPeer(c.sock)
        peer.take(24)
        peer.send(frame(SETTINGS) + frame(SETTINGS, 1))
        if not peer.until_frame(HEADERS):
            return
        try:
            for i in range(1000):
                peer.send(now[0](i))
        except OSError:
            pass
        try:
            got = peer.until_frame(GOAWAY)
            goodbyes.append(got and int.from_bytes(got[3][4:8], "big"))
        except OSError:
            goodbyes.append(ENHANCE_YOUR_CALM)  # it was reset away
    up = lab.upstream(script=serve)
    w = lab.weir(up, workers=1, **H2)
    for what, data in kinds.items():
        now[0] = data
        try:
            eq(w.ask("POST /", body=b"x").status, 502, what)
        except Cut:
            eq(what, "empty_data", "cut in the middle of the body")  # its head has come
        wait(lambda: w.metric("weir_upstream_h2_abuse_total", reason=what) == 1, what + " is counted")
    wait(lambda: len(goodbyes) == len(kinds), "goodbyes")
    eq(goodbyes, [ENHANCE_YOUR_CALM] * len(kinds), "GOAWAY tells why")
    eq(w.metric("weir_upstream_h2_abuse_total"), len(kinds), "nothing else is counted")
    up.faults.clear()


@story
def timeouts(lab):
    # No answer, an answer that stops: as on h1; the stream is reset, its connection goes on.
    def reply(x):
        if x.target == "/half":
            x.begin(200)
            x.send("half")
        if x.target in ("/half", "/never"):
            return None
        return x.reply(200, "x")
    up = h2_upstream(lab, reply)
    w = lab.weir(up, workers=1, timeouts={"first_byte": "300ms", "idle": "300ms"}, **H2)
    eq(w.ask("GET /").status, 200, "in time")
    for k in range(2):
        with h2_client(w) as c:
            eq(c.request("GET /never").response().status, 504, "never")
            try:
                raise AssertionError("a false end: %r" % c.request("GET /half").response())
            except Cut:
                pass
        eq(w.ask("GET /").status, 200, "in time again")
    eq([r.until_reset() for r in up.requests if r.target != "/"], [CANCEL] * 4, "streams are reset")
    eq(len(up.conns), 1, "connections")


@story
def idle_and_limits_of_the_pool(lab):
    up = h2_upstream(lab, lambda x: x.reply(200, "x"))
    w = lab.weir(up, workers=1, upstream={"protocol": "h2", "pool": {"idle_timeout": "300ms"}})
    w.ask("GET /")
    began = time.monotonic()
    up.conns[0].until_over()
    ok(0.2 <= time.monotonic() - began, "it was kept a while")
    eq(up.conns[0].goaways[-1:], [(NO_ERROR, 0, b"")], "a goodbye")
    w.ask("GET /")
    eq(len(up.conns), 2, "a new one")
    up = h2_upstream(lab, lambda x: x.reply(200, "x"))
    w = lab.weir(up, workers=1, upstream={"protocol": "h2", "pool": {"requests_max": 3}})
    for _ in range(7):
        eq(w.ask("GET /").status, 200, "answer")
    eq(len(up.conns), 3, "connections of 3 requests")
    up = h2_upstream(lab, slow, peer={"settings": {MAX_CONCURRENT_STREAMS: 2}})
    w = lab.weir(up, workers=1, upstream={"protocol": "h2", "connections_max": 2}, timeouts={"queue": "5s"})
    w.ask("GET /")
    check(all_of(w, 12), "answers that queue for 2 connections of 2 streams")
    ok(len(up.conns) <= 2, "connections", len(up.conns))


@story
def two_servers(lab):
    # Load is shared between servers, though one connection would do; one that is down is left out.
    ups = [h2_upstream(lab, lambda x: x.reply(200, x.target)) for _ in range(2)]
    w = lab.weir(*ups, workers=1, **H2)
    check(all_of(w, 20), "answers")
    ok(all(5 <= len(up.requests) <= 15 for up in ups), "requests of each", [len(up.requests) for up in ups])
    ups[0].close()
    check(all_of(w, 20), "answers of the other")


@story
def health_on_h2(lab):
    state = {"ok": True}

    def reply(x):
        x.reply(200 if state["ok"] or x.target != "/health" else 500, x.target)
    up = h2_upstream(lab, reply)
    w = lab.weir(up, upstream={"protocol": "h2", "health": {"type": "http", "path": "/health", "every": "100ms", "rise": 1, "fall": 1}})
    wait(lambda: any(r.target == "/health" for r in up.requests), "a check comes")
    eq(w.ask("GET /a").status, 200, "up")
    state["ok"] = False
    wait(lambda: w.ask("GET /a").status == 503, "down")
    state["ok"] = True
    wait(lambda: w.ask("GET /a").status == 200, "up again")


def tls_upstream(lab, ca, alpn, reply=None):
    context = ca.server(ca.issue("up.test", file="up" + "".join(alpn or ["none"]).replace("/", "")))
    if alpn:
        context.set_alpn_protocols(alpn)
    seen = []

    def fallback(sock):
        conn = Conn(sock)
        seen.append(conn)
        while True:
            r = conn.request()
            if not r:
                return
            conn.send(answer(200, "h1 " + r.target))
    up = h2_upstream(lab, reply or (lambda x: x.reply(200, "h2 " + x.target)), tls=context, fallback=fallback)
    up.old = seen
    return up


@story
def alpn_decides(lab):
    # protocol: auto: h2 where the server chooses it, else h1, remembered.
    ca = Authority(lab)
    for alpn, wanted in ((["h2", "http/1.1"], b"h2"), (["http/1.1"], b"h1"), (None, b"h1")):
        up = tls_upstream(lab, ca, alpn)
        w = lab.weir(up, workers=1, upstream={"protocol": "auto", "tls": {"ca": ca.cert, "sni": "up.test"}})
        for i in range(3):
            eq(w.ask("POST /%d" % i, body=b"x").body, wanted + b" /%d" % i, "answer of a server that offers %s" % alpn)
        eq((len(up.conns), len(up.old)), (1, 0) if wanted == b"h2" else (0, 1), "connections")
        answers = all_of(w, 10)
        eq([r.body for r in answers], [wanted + b" /%d" % i for i in range(10)], "many at once")
    h2only = tls_upstream(lab, ca, ["http/1.1"])
    w = lab.weir(h2only, upstream={"protocol": "h2", "tls": {"ca": ca.cert, "sni": "up.test"}})
    eq(w.ask("GET /").status, 502, "protocol: h2 and a server that has none")
    plain = lab.upstream()
    w = lab.weir(plain, upstream={"protocol": "auto"})
    eq(w.ask("GET /").json()["version"], "HTTP/1.1", "auto without TLS")


@story
def http_1_1_required(lab):
    # RFC 9113 7: a server that chose h2 wants HTTP/1.1 for some requests. Nothing of them was done: they go there once more.
    ca = Authority(lab)

    def reply(x):
        if x.target == "/old":
            return x.rst(HTTP_1_1_REQUIRED)
        x.reply(200, "h2 " + x.target)
    up = tls_upstream(lab, ca, ["h2", "http/1.1"], reply)
    auto = {"protocol": "auto", "tls": {"ca": ca.cert, "sni": "up.test"}}
    w = lab.weir(up, workers=1, upstream=auto, route={"name": "api", "retry": {"attempts": 1}})
    for target, body in (("/new", b"h2 /new"), ("/old", b"h1 /old"), ("/new", b"h2 /new"), ("/old", b"h1 /old")):
        r = w.ask("POST " + target, body=b"x" * 2000)
        eq((r.status, r.body), (200, body), target)
    eq((len(up.conns), len(up.old)), (1, 2), "connections: those of HTTP/1.1 are for nobody else")
    eq([line["attempts"] for line in w.access(4)], [1] * 4, "attempts")


@story
def many_at_once_before_alpn_is_known(lab):
    # The first burst finds no connection: it waits for one or opens its own, and every one is answered.
    ca = Authority(lab)
    for alpn in (["h2", "http/1.1"], ["http/1.1"]):
        up = tls_upstream(lab, ca, alpn, lambda x: (time.sleep(WAIT), x.reply(200, x.target))[1])
        w = lab.weir(up, workers=1, upstream={"protocol": "auto", "tls": {"ca": ca.cert, "sni": "up.test"}})
        eq([r.status for r in all_of(w, 50)], [200] * 50, "answers of a server that offers %s" % alpn)


@story
def drained_with_streams(lab):
    # SIGTERM while upstream streams run: they end; then the upstream's connections get a goodbye.
    up = h2_upstream(lab, slow)
    w = lab.weir(up, workers=1, shutdown={"drain": "5s"}, **H2)
    with h2_client(w) as c:
        streams = [c.request("GET /%d" % i) for i in range(10)]
        wait(lambda: len(up.requests) == 10, "all are at the upstream")
        w.kick(15)
        check([s.response() for s in streams], "answers")
        c.until_over()
    eq(w.join(), 0, "exit status")
    up.conns[0].until_over()


main()
