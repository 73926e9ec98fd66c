#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 clients that are too slow, too large or hostile; connections that are kept and ended; shutdown."""
import json
import os
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from h2lab import (CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, NO_ERROR, PING, PREFACE,  # noqa: E402
                   RST_STREAM, SETTINGS, WINDOW_UPDATE, Square, ask, block, frame, h2_client, h2_upstream, raw_client)
from weirlab import SLOW, Cut, answer, chunk, eq, main, ok, story, text_of, wait  # noqa: E402

LATE = 3 * SLOW


def took(function, least, what):
    """Runs it; it must take `least` seconds and not much more."""
    began = time.monotonic()
    value = function()
    seconds = time.monotonic() - began
    ok(least * 0.8 <= seconds <= least + LATE, "%s: %g s" % (what, least), seconds)
    return value


def ends(c):
    """Reads a raw client until its end; the code of the last GOAWAY, or None."""
    code = None
    while True:
        got = c.until_frame(GOAWAY)
        if got is None:
            return code
        code = int.from_bytes(got[3][4:8], "big")


@story
def heads_too_large(lab):
    # 431 where the head is too large, too many fields too; the connection goes on.
    up = lab.upstream()
    w = lab.weir(up, limits={"head": "8KiB", "headers": 50})
    with h2_client(w) as c:
        eq(c.request("GET /", [("x", "a" * 7000)]).response().status, 200, "a head within")
        for fields in ([("x", "a" * 9000)], [("x%d" % i, "a") for i in range(60)], [("x%d" % i, "a" * 100) for i in range(49)] + [("y", "b" * 4000)]):
            eq(c.request("GET /", fields).response().status, 431, "a head of %d fields" % len(fields))
        r = c.request("GET /" + "p" * 9000).response()
        ok(r.status in (414, 431), "a long target", r)
        eq(c.request("POST /", [("x", "a" * 9000)], body=b"b" * 100000).response().status, 431, "with a body")
        eq(c.request("GET /").response().status, 200, "the connection goes on")
    eq(len(up.requests), 2, "requests at the upstream")
    w.settle()
    lines = w.access(7)
    ok([line["status"] for line in lines].count(431) >= 4, "the log", [line["status"] for line in lines])


@story
def bodies_too_large(lab):
    # 413, told before or while it comes; the answer arrives; the connection goes on.
    sq = Square(lab, limits={"body": "10KiB"})
    for back in ("h1", "h2"):
        with h2_client(sq.w) as c:
            eq(c.request("POST /", body=b"b" * 10240, host=back + ".test").response().status, 200, "within")
            for length in (True, False):
                s = c.request("POST /", [("content-length", "300000")] if length else [], host=back + ".test", end=False)
                try:
                    for _ in range(30):
                        s.send(b"b" * 10000)
                        time.sleep(0.002)
                    s.end()
                except OSError:
                    pass
                r = s.response() if s.reset is None else s
                eq((r.status, r.ended), (413, True), "beyond, told: %s" % length)
            eq(c.request("GET /", host=back + ".test").response().status, 200, "the connection goes on")
    eq([r for r in sq.ups["h1"].requests if len(r.body) > 10240], [], "at the upstream")


@story
def slow_heads(lab):
    # A preface, a head that does not come whole: timeouts.head is a deadline, also on a connection in use.
    w = lab.weir(lab.upstream(), timeouts={"head": "400ms", "keepalive": "30s"})
    with w.client() as c:
        c.send(PREFACE[:10])
        took(c.rest, 0.4, "half a preface")
    with raw_client(w) as c:
        c.begin()
        time.sleep(0.8)
        c.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block(*ask())))
        eq(c.until_frame(HEADERS)[2], 1, "a pause between requests is no slow head")
        c.send(frame(HEADERS, END_STREAM, 3, block(*ask())[:5]))

        def drip():
            for _ in range(100):
                try:
                    c.send(frame(CONTINUATION, 0, 3, b""))
                except OSError:
                    break
                time.sleep(0.05)
                c.sock.settimeout(0.001)
                try:
                    if not c.more():
                        break
                except Exception:
                    pass
            c.sock.settimeout(10)
            return ends(c)
        took(drip, 0.4, "a header block that drips")
    with raw_client(w) as c:
        c.begin()
        c.send(frame(HEADERS, END_STREAM, 1, block(*ask())))
        took(lambda: ends(c), 0.4, "a header block whose end does not come")
    with raw_client(w) as c:
        c.begin().send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block(*ask()))[:12])
        took(lambda: ends(c), 0.4, "half a frame")
    eq(w.ask("GET /").status, 200, "others are served")


@story
def slow_uploads(lab):
    # A client that stops in the middle of a body: 408 or a reset; other streams go on.
    sq = Square(lab, timeouts={"receive": "400ms"}, early=True, reply=lambda x: (x.whole(), x.reply(200, "x"))[1])
    for back in ("h1", "h2"):
        with h2_client(sq.w) as c:
            s = c.request("POST /", [("content-length", "1000")], host=back + ".test", end=False)
            s.send(b"half")
            took(lambda: s.wait(lambda: s.ended or s.reset is not None, "the end"), 0.4, "an upload that stops")
            ok(s.status == 408 or s.reset not in (None, NO_ERROR), "how", s)
            eq(c.request("POST /", body=b"x", host=back + ".test").response().status, 200, "the connection goes on")
            if back == "h2":
                ok(sq.ups["h2"].requests[0].until_reset() is not None, "the upstream's stream is reset")


@story
def slow_downloads(lab):
    # A client whose window stays shut for timeouts.send: that stream is reset; the others go on.
    sq = Square(lab, timeouts={"send": "500ms"}, reply=lambda x: x.reply(200, b"z" * (int(x.target[1:]))))
    for back in ("h1", "h2"):
        with h2_client(sq.w, reads=False) as c:
            s = c.request("GET /3000000", host=back + ".test")
            s.head()
            for _ in range(4):
                time.sleep(0.1)
                eq(c.request("GET /1000", host=back + ".test").response().status, 200, "another")
            code = s.until_reset(5 * SLOW)
            ok(code not in (None, NO_ERROR), "reset", s)
            eq(c.request("GET /1000", host=back + ".test").response().status, 200, "another")
    with h2_client(sq.w, settings={INITIAL_WINDOW_SIZE: 1 << 26}, window=1 << 26) as c:
        c.ping()
        c.read(False)
        s = c.request("GET /30000000", host="h1.test")
        wait(lambda: sq.w.status()["in_flight"] == 1, "it is there")
        wait(lambda: sq.w.status()["in_flight"] == 0, "a client that reads nothing is given up", 10 * SLOW)
        c.read()
        ok(s.until_reset() not in (None, NO_ERROR) and not s.ended, "no clean end", s)


@story
def a_shut_stream_beside_one_that_moves(lab):
    # What a client takes of others on the connection does not keep one alive whose window it keeps shut. Two shut ones: that
    # on the connection on which another moves was first, and ends first.
    up = lab.upstream(lambda c, r: c.send(answer(200, b"z" * int(r.target[1:]))))
    w = lab.weir(up, workers=1, timeouts={"send": "1s"})
    with h2_client(w, settings={INITIAL_WINDOW_SIZE: 0}, window=1 << 24, rcvbuf=65536) as busy, h2_client(w, settings={INITIAL_WINDOW_SIZE: 0}) as quiet:
        busy.ping()
        quiet.ping()
        busy.read(False)
        moves = busy.request("GET /400000")
        with busy.lock:
            busy.h2.increment_flow_control_window(1 << 20, moves.id)
            busy.flush()
        wait(lambda: len(up.requests) == 1, "it is at the upstream")
        time.sleep(0.2)  # the kernel is full of it
        shut = busy.request("GET /300001")
        wait(lambda: len(up.requests) == 2, "the first one that is shut")
        time.sleep(0.2)
        other = quiet.request("GET /300002")
        wait(lambda: len(up.requests) == 3, "the second")
        busy.read()
        for s in (shut, other):
            ok(s.until_reset(10 * SLOW) not in (None, NO_ERROR), "given up", s)
    w.access(3)
    with open(os.path.join(w.dir, "out"), encoding="utf-8") as f:
        late = [line["path"] for line in map(json.loads, f) if (line.get("error") or {}).get("code") == "ESENDTIME"]
    eq([path for path in late if path != "/400000"], ["/300001", "/300002"], "given up, in this order")


@story
def a_trickle_to_a_shut_stream(lab):
    # What comes for it from its upstream does not make the client one that reads, whichever of its windows is shut.
    def script(c):
        first = int(c.request().target[1:])
        c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        c.send(chunk(b"a" * first))
        try:
            while True:
                c.send(chunk(b"event"))
                time.sleep(0.05)
        except OSError:
            pass
    w = lab.weir(lab.upstream(script=script), workers=1, timeouts={"send": "1s"})
    for window, first in ((0, 1), (1 << 20, 70000)):  # its own, and that of the connection
        with raw_client(w) as c:
            c.begin(struct.pack(">HI", INITIAL_WINDOW_SIZE, window))
            c.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(*ask("/%d" % first))))
            ok(c.until_frame(RST_STREAM), "given up with a window of %d" % window)


@story
def deadline_of_a_request(lab):
    up = h2_upstream(lab, lambda x: None)
    w = lab.weir(up, upstream={"protocol": "h2"}, timeouts={"request": "400ms"})
    with h2_client(w) as c:
        r = took(lambda: c.request("GET /").response(), 0.4, "timeouts.request")
        eq(r.status, 504, "status")


@story
def keepalive(lab):
    # An idle connection gets GOAWAY and ends; PING does not keep it; requests do.
    w = lab.weir(lab.upstream(lambda c, r: (time.sleep(0.6), c.send(answer(200, "x")))[1]), timeouts={"keepalive": "500ms"})
    with h2_client(w) as c:
        for _ in range(2):
            eq(c.request("GET /").response().status, 200, "a request longer than timeouts.keepalive")
            time.sleep(0.2)
        took(c.until_over, 0.3, "an idle connection")
        eq([g[0] for g in c.goaways], [NO_ERROR] * len(c.goaways), "a goodbye")
        ok(c.goaways, "a goodbye")
    with h2_client(w) as c:
        took(c.until_over, 0.5, "a connection without any request")


@story
def keepalive_requests(lab):
    w = lab.weir(lab.upstream(), limits={"keepalive_requests": 5})
    with h2_client(w) as c:
        streams = [c.request("GET /%d" % i) for i in range(5)]
        eq([s.response().status for s in streams], [200] * 5, "five")
        c.until_over()
        eq(c.goaways[-1][:2], (NO_ERROR, 9), "the last id")


@story
def shutdown_with_requests(lab):
    # SIGTERM: GOAWAY 2^31-1, a PING, GOAWAY with the last id; what came until then is answered; then the end.
    gate = threading.Event()
    up = lab.upstream(lambda c, r: (gate.wait(20), c.send(answer(200, r.target)))[1])
    w = lab.weir(up, shutdown={"drain": "10s"})
    with h2_client(w) as c, h2_client(w) as idle:
        idle.ping()
        streams = [c.request("GET /%d" % i) for i in range(3)]
        wait(lambda: len(up.requests) == 3, "they are at the upstream")
        w.kick(15)
        c.wait(lambda: c.goaways, "GOAWAY")
        eq(c.goaways[0][:2], (NO_ERROR, 0x7fffffff), "the first")
        idle.until_over("an idle connection ends at once", 3 * SLOW)
        c.wait(lambda: len(c.goaways) > 1, "the second GOAWAY")
        code, last, _ = c.goaways[1]
        ok((code, last) == (NO_ERROR, 5), "the second", c.goaways)
        eq(c.over, None, "it goes on while requests are in flight")
        gate.set()
        eq([s.response().body for s in streams], [b"/%d" % i for i in range(3)], "answers")
        c.until_over()
    eq(w.join(), 0, "exit status")


@story
def shutdown_loses_no_last_frame(lab):
    # Answers that end during a drain by a frame without a byte of body: 204, 304, to HEAD, trailers behind the body.
    gate = threading.Event()

    def reply(x):
        if x.target == "/trailers":
            x.begin()
            x.send(b"abc")
        gate.wait(20)
        if x.target == "/trailers":
            x.end([("x-sum", "1")])
        else:
            x.reply(*{"/204": (204, None), "/304": (304, None), "/head": (200, None)}[x.target], length=False)
    up = h2_upstream(lab, reply)
    w = lab.weir(up, upstream={"protocol": "h2"}, shutdown={"drain": "10s"})
    clients = [(h2_client(w), request) for request in ("GET /204", "GET /304", "HEAD /head", "GET /trailers")]
    streams = [c.request(request, [("te", "trailers")]) for c, request in clients]
    wait(lambda: len(up.requests) == len(clients), "they are at the upstream")
    w.kick(15)
    for c, _ in clients:
        c.wait(lambda c=c: c.goaways, "GOAWAY")
    gate.set()
    for s, status in zip(streams, (204, 304, 200, 200)):
        eq(s.response().status, status, "%r" % s)
    eq(streams[3].trailers, [("x-sum", "1")], "trailers")
    for c, _ in clients:
        c.close()
    eq(w.join(), 0, "exit status")


@story
def a_goodbye_is_not_torn_away(lab):
    # What a client still sends when its idle connection has ended is read away: RST in answer to it would take the goodbye along.
    w = lab.weir(lab.upstream(), timeouts={"keepalive": "300ms"})
    with raw_client(w) as c:
        c.begin().send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(*ask())))
        ok(c.until_frame(GOAWAY), "a goodbye")
        eq(c.until_frame(), None, "and the end")
        for _ in range(3):
            c.send(frame(PING, 0, 0, b"12345678"))
        eq(c.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0, "no RST")
    wait(lambda: w.status()["connections"] == 0, "it goes with its client")


@story
def an_answer_that_waits_is_in_progress(lab):
    # The upstream is done, the client's window is not: the connection is not idle. Neither timeouts.keepalive, nor
    # limits.connections, nor a drain ends it while the client reads; timeouts.send does when it does not; nor is the answer
    # logged before it has left.
    body = b"z" * 60000
    up = lab.upstream(lambda c, r: c.send(answer(200, body if r.target == "/" else "x")))
    w = lab.weir(up, workers=1, timeouts={"keepalive": "300ms", "send": "2s"}, limits={"connections": 1}, shutdown={"drain": "20s"})
    with h2_client(w, reads=False, settings={INITIAL_WINDOW_SIZE: 1000}) as c:
        s = c.request("GET /")
        c.wait(lambda: s.size == 1000, "the first bytes")
        try:
            w.ask("GET /other")
            ok(False, "there is no room for another connection")
        except (OSError, Cut):
            pass
        for i in range(8):  # 1.2 s, a window at a time
            time.sleep(0.15)
            s.read()
            s.read(False)
            c.wait(lambda i=i: s.size >= 1000 * (i + 2), "and more")
        ok(w.status()["in_flight"] == 1 and not w.access(0), "it is in progress")
        w.kick(15)
        c.wait(lambda: c.goaways, "GOAWAY")
        s.read()
        eq(s.response().body, body, "the whole answer, during a drain")
    eq(w.join(), 0, "exit status")
    w = lab.weir(up, workers=1, timeouts={"send": "400ms"})
    with h2_client(w, reads=False, settings={INITIAL_WINDOW_SIZE: 1000}) as c:
        s = c.request("GET /")
        ok(s.until_reset(10 * SLOW) not in (None, NO_ERROR), "one that does not read is given up")
        eq(c.request("GET /other").response().status, 200, "another on the same connection")
    eq((w.access(2)[0]["error"] or {}).get("code"), "ESENDTIME", "its log")


@story
def a_reset_request_is_not_answered(lab):
    up = lab.upstream(lambda c, r: (time.sleep(0.3), c.send(answer(200, "x")))[1])
    w = lab.weir(up)
    with h2_client(w) as c:
        s = c.request("GET /")
        wait(lambda: up.requests, "it is at the upstream")
        s.rst()
        line = w.access(1)[0]
        eq((line["status"], line["bytes_out"]), (499, 0), "the log")
    eq(w.metric("weir_requests_total", code="400"), 0, "counted as")


@story
def requests_during_the_goodbye(lab):
    # What a client sends before it has seen the first GOAWAY is served.
    gate = threading.Event()
    up = lab.upstream(lambda c, r: (gate.wait(20) if r.target == "/slow" else 0, c.send(answer(200, r.target)))[1])
    w = lab.weir(up, shutdown={"drain": "10s"})
    with raw_client(w) as c:
        c.begin().send(frame(HEADERS, 5, 1, block(*ask("/slow"))))
        wait(lambda: len(up.requests) == 1, "it is at the upstream")
        w.kick(15)
        kind, _, _, payload = c.until_frame(GOAWAY)
        eq(int.from_bytes(payload[:4], "big"), 0x7fffffff, "the first GOAWAY")
        ping = c.until_frame(PING)
        c.send(frame(HEADERS, 5, 3, block(*ask("/late"))))  # was on its way
        c.send(frame(PING, 1, 0, ping[3]))
        got = {}
        while 3 not in got:
            f = c.frame()
            ok(f, "the connection goes on", got)
            if f[0] == GOAWAY:
                got["last"] = int.from_bytes(f[3][:4], "big")
            elif f[0] == HEADERS:
                got[f[2]] = c.decoder.decode(f[3])[0]
        eq(got[3], (":status", "200"), "the late one is served")
        gate.set()
        while c.frame():
            pass
    eq(w.join(), 0, "exit status")


@story
def shutdown_is_not_waited_for_ever(lab):
    # shutdown.drain cuts what hangs, by a reset, never as a clean end.
    up = h2_upstream(lab, lambda x: (x.begin(200), x.send("half"))[1])
    w = lab.weir(up, upstream={"protocol": "h2"}, shutdown={"drain": "500ms"})
    with h2_client(w) as c:
        s = c.request("GET /")
        s.take(4)
        w.kick(15)
        began = time.monotonic()
        eq(w.join(), 0, "exit status")
        ok(0.3 < time.monotonic() - began < 0.5 + LATE, "after shutdown.drain", time.monotonic() - began)
        c.until_over()
        ok(not s.ended, "no clean end", s)


@story
def rapid_reset(lab):
    # Streams that are reset at once, over and over: ENHANCE_YOUR_CALM; others do not feel it; the upstream neither.
    up = h2_upstream(lab, lambda x: x.reply(200, "x"))
    w = lab.weir(up, upstream={"protocol": "h2"}, workers=1, limits={"resets": "50/m"})
    with h2_client(w) as other, raw_client(w) as c:
        c.begin()
        try:
            for i in range(1000):
                c.send(frame(HEADERS, 5, 1 + 2 * i, block(*ask())) + frame(RST_STREAM, 0, 1 + 2 * i, b"\0\0\0\x08"))
        except OSError:
            pass
        try:
            eq(ends(c), ENHANCE_YOUR_CALM, "GOAWAY")
        except OSError:
            pass
        eq(other.request("GET /").response().status, 200, "another connection")
    ok(len(up.requests) <= 60, "requests at the upstream", len(up.requests))
    w.settle()
    wait(lambda: w.metric("weir_h2_abuse_total", reason="resets") == 1, "counted")


def flood(w, data, what, limit=2000):
    """Sends it over and over; it must end in ENHANCE_YOUR_CALM."""
    with raw_client(w) as c:
        c.begin()
        code = None
        try:
            for i in range(limit):
                c.send(data(i) if callable(data) else data)
        except OSError:
            pass
        try:
            code = ends(c)
        except OSError:
            code = ENHANCE_YOUR_CALM  # the answer was reset away
        ok(code in (ENHANCE_YOUR_CALM,), what + ": GOAWAY", code)


@story
def floods(lab):
    w = lab.weir(lab.upstream(), workers=1)
    before = w.rss()
    with h2_client(w) as other:
        flood(w, frame(PING, 0, 0, b"12345678") * 10, "PING")
        flood(w, frame(SETTINGS) * 10, "SETTINGS")
        flood(w, frame(2, 0, 1, b"\0\0\0\0\x10") * 10, "PRIORITY")
        flood(w, frame(0x10, 0, 0, b"\0\0\0\x01u=1") * 10, "PRIORITY_UPDATE")
        flood(w, frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\x01") * 100, "WINDOW_UPDATE")
        flood(w, frame(0x99, 0, 0, b"what") * 10, "unknown frames", 20000)
        flood(w, lambda i: frame(HEADERS, 4, 1, block(*ask("/", "POST"))) if not i else frame(DATA, 0, 1) * 10, "empty DATA")
        flood(w, lambda i: frame(HEADERS, 1, 1, block(*ask())) if not i else frame(CONTINUATION, 0, 1) * 10, "CONTINUATION")
        flood(w, lambda i: frame(HEADERS, 1, 1, block(*ask())) if not i else frame(CONTINUATION, 0, 1, block(*[("x%d" % i, "a" * 1000)] * 10)), "a head without end")
        for _ in range(5):
            eq(other.request("GET /").response().status, 200, "another connection")
    if SLOW == 1:
        ok(w.rss() - before < 16 << 20, "memory", w.rss() - before)


@story
def pings_that_measure(lab):
    # gRPC pings for what comes, to find its window: that is no flood, for as long as something comes.
    turn = threading.Semaphore(0)

    def reply(x):
        x.begin()
        for _ in range(40):
            turn.acquire(timeout=60)
            x.send(b"a message")
        x.end()
    w = lab.weir(h2_upstream(lab, reply), upstream={"protocol": "h2"}, workers=1, limits={"pings": "10/m"})
    with h2_client(w) as c:
        s = c.request("GET /")
        for i in range(40):
            turn.release()
            s.take(9)
            c.ping(b"ping%4d" % i)
        eq(len(s.response().body), 40 * 9, "the body")
        eq(c.goaways, [], "GOAWAY")
        for i in range(40):
            if not c.over:
                c.ping(b"more%4d" % i)
        eq([code for code, *_ in c.goaways], [ENHANCE_YOUR_CALM], "GOAWAY, when nothing comes")


@story
def streams_over_the_limit(lab):
    # In the first flight a client may open more than it is allowed: the rest is refused, and what was taken is answered.
    w = lab.weir(lab.upstream(), workers=1)
    with raw_client(w) as c:
        c.begin()
        c.send(b"".join(frame(HEADERS, 5, 1 + 2 * i, block(*ask())) for i in range(300)))
        served = set()
        while len(served) < 100:
            got = c.until_frame(HEADERS)
            ok(got is not None, "the connection goes on", len(served))
            served.add(got[2])
        eq(served, set(range(1, 200, 2)), "streams answered")
    # One that never says that it knows the limit, and reads nothing, makes answers wait: not without end.
    up = h2_upstream(lab, lambda x: x.reply(200, b"b" * (32 << 20)))
    w = lab.weir(up, upstream={"protocol": "h2"}, workers=1, timeouts={"send": "1s"})
    before = w.rss()
    with raw_client(w) as c:
        c.begin(b"\0\4\x7f\xff\xff\xff")
        c.send(frame(WINDOW_UPDATE, 0, 0, b"\x7f\xfe\x00\x00") + frame(HEADERS, 5, 1, block(*ask())))
        wait(lambda: up.requests, "the answer that is not read")
        head = block(*ask())
        try:
            for i in range(1, 200000, 100):
                c.send(b"".join(frame(HEADERS, 5, 1 + 2 * k, head) for k in range(i, i + 100)))
        except OSError:
            pass
        else:
            ok(False, "the connection is ended")
    if SLOW == 1:
        ok(w.rss() - before < 16 << 20, "memory", w.rss() - before)
    w.settle()
    wait(lambda: w.metric("weir_h2_abuse_total", reason="frames_unread") == 1, "counted")


@story
def hpack_bomb(lab):
    # A large entry named again and again: the decoded list is limited, not only the bytes.
    up = lab.upstream()
    w = lab.weir(up, workers=1)
    before = w.rss()
    with raw_client(w) as c:
        c.begin()
        import hpack
        encoder = hpack.Encoder()
        head = encoder.encode(ask() + [("x-bomb", "b" * 3900)], huffman=False)
        c.send(frame(HEADERS, 5, 1, head))
        eq(c.until_frame(HEADERS)[2], 1, "the first is a request like others")
        bomb = encoder.encode(ask() + [("x-bomb", "b" * 3900)] * 4000, huffman=False)
        ok(len(bomb) < 16384, "the bomb is small", len(bomb))
        c.send(frame(HEADERS, 5, 3, bomb))
        got = c.until_frame(HEADERS, RST_STREAM, GOAWAY)
        ok(got is None or got[0] != HEADERS or c.decoder.decode(got[3])[0] == (":status", "431"), "431, or the end", got)
    eq(len(up.requests), 1, "requests at the upstream")
    if SLOW == 1:
        ok(w.rss() - before < 8 << 20, "memory", w.rss() - before)


@story
def made_you_reset(lab):
    # Resets that the client provokes by faults of its own count like its own.
    up = h2_upstream(lab, lambda x: None)
    w = lab.weir(up, upstream={"protocol": "h2"}, workers=1, limits={"resets": "50/m"})
    with raw_client(w) as c:
        c.begin()
        try:
            for i in range(300):
                n = 1 + 2 * i
                c.send(frame(HEADERS, 4, n, block(*ask("/", "POST"))) + frame(WINDOW_UPDATE, 0, n, b"\x7f\xff\xff\xff"))
        except OSError:
            pass
        try:
            eq(ends(c), ENHANCE_YOUR_CALM, "GOAWAY")
        except OSError:
            pass
    ok(len(up.requests) <= 60, "requests at the upstream", len(up.requests))


@story
def retries_with_bodies(lab):
    # What was kept for a retry is sent again on h2 as on h1; more than limits.replay is not.
    count = {}

    def reply(x):
        n = count[x.get("x-id")] = count.get(x.get("x-id"), 0) + 1
        x.reply(503 if n == 1 else 200, str(len(x.body)))
    sq = Square(lab, reply, route={"retry": {"attempts": 2, "when": ["503"], "methods": "all", "budget": "100%"}, "limits": {"replay": "64KiB"}})
    for k, (front, back) in enumerate(sq.pairs()):
        for size, status in ((1000, 200), (60000, 200), (200000, 503)):
            r = sq.ask(front, back, "POST /", [("x-id", "%d-%d" % (k, size))], b"r" * size)
            eq((r.status, r.body), (status, b"%d" % size), "%s to %s, a body of %d" % (front, back, size))


@story
def memory_of_many_slow_streams(lab):
    # 100 streams that are not read: what the proxy holds is bounded (64 KiB a stream: what no one reads is given no more).
    def reply(x):
        x.begin(200)
        try:
            for _ in range(512):
                x.send(b"m" * 65536)
        except (OSError, Cut):
            pass
    sq = Square(lab, reply, early=True, workers=1, limits={"resets": "off"})
    for back in ("h1", "h2"):
        before = sq.w.rss()
        with h2_client(sq.w, reads=False, window=(1 << 31) - 1) as c:
            streams = [c.request("GET /%d" % i, host=back + ".test") for i in range(100)]
            for s in streams:
                s.wait(lambda s=s: s.size == 65535, "a full window")
            time.sleep(0.5 * SLOW)
            grown = sq.w.rss() - before
            print("      %s: %d KiB grown, %d KiB a stream" % (back, grown >> 10, grown / 102400))
            if SLOW == 1:  # with all else that a request and a connection to an upstream cost
                ok(grown < 12 << 20, "memory of 100 slow streams", grown)
            c.cut()
        sq.w.settle(True)


main()
