#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Peers that are too slow, and messages that are too large."""
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import SLOW, Cut, answer, chunk, eq, main, ok, story, text_of, wait  # noqa: E402

LATE = 3 * SLOW  # what 300 ms may become


def took(function, least, what):
    """Runs it; it must take `least` seconds and not much more."""
    started = time.monotonic()
    value = function()
    seconds = time.monotonic() - started
    ok(least * 0.8 <= seconds <= least + LATE, "%s: %g s" % (what, least), seconds)
    return value


@story
def head(lab):
    # A deadline: a byte now and then does not help.
    w = lab.weir(lab.upstream(), timeouts={"head": "400ms"})
    with w.client() as c:
        def drip():
            for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX: ":
                try:
                    c.sock.send(bytes([byte]))
                except OSError:
                    break
                time.sleep(0.05)
                c.sock.settimeout(0.001)
                try:
                    if c.more():
                        break
                except Exception:
                    pass
            c.sock.settimeout(10)
            return c.response()
        eq(took(drip, 0.4, "a head that drips").status, 408, "answer")
        ok(c.ended(), "then the end")
    with w.client() as c:
        ok(took(c.ended, 0.4, "a client that says nothing"), "no answer to nothing")
    with w.client() as c:  # between requests timeouts.keepalive counts, then head again
        c.send(text_of("GET /"))
        eq(c.response().status, 200, "answer")
        time.sleep(0.8)
        c.send(text_of("GET /"))
        eq(c.response().status, 200, "a pause between requests is no slow head")


@story
def keepalive(lab):
    w = lab.weir(lab.upstream(), timeouts={"keepalive": "400ms"})
    with w.client() as c:
        for _ in range(3):
            c.send(text_of("GET /"))
            c.response()
            time.sleep(0.15)
        ok(took(c.ended, 0.25, "an idle connection"), "a clean end")


@story
def receive(lab):
    # The client stops in the middle of its body.
    up = lab.upstream(script=lambda c: (c.head(), c.rest()))
    w = lab.weir(up, timeouts={"receive": "400ms"})
    for framing in ([("Content-Length", "100")], [("Transfer-Encoding", "chunked")]):
        with w.client() as c:
            c.send(text_of("POST /", framing) + (b"abc" if framing[0][1] == "100" else chunk("abc")))
            eq(took(c.response, 0.4, "a body that stops").status, 408, "answer")
            ok(c.ended(), "then the end")
        wait(lambda: up.open == 0, "the upstream's connection is closed")
    eq([line["error"]["code"] for line in w.access(2)], ["EBODYTIME"] * 2, "the log")


@story
def body_rate(lab):
    # Enough never to be silent, too little to be honest: after 10 s.
    if SLOW > 1:
        return
    up = lab.upstream(script=lambda c: (c.head(), c.rest()))
    w = lab.weir(up, timeouts={"body_rate_min": 500, "receive": "60s"})
    with w.client() as c:
        c.send(text_of("POST /", [("Content-Length", "100000")]))
        started = time.monotonic()
        c.sock.settimeout(0.2)
        while time.monotonic() - started < 16:
            try:
                c.send(b"x" * 20)
                if c.more():
                    break
            except Exception:
                pass
        c.sock.settimeout(10)
        seconds = time.monotonic() - started
        eq(c.response().status, 408, "answer")
        ok(9 < seconds < 15, "after 10 s", seconds)


@story
def first_byte(lab):
    up = lab.upstream(script=lambda c: (c.head(), c.rest()))
    w = lab.weir(up, timeouts={"first_byte": "300ms"})
    eq(took(lambda: w.ask("GET /"), 0.3, "an upstream that does not answer").status, 504, "answer")
    wait(lambda: up.open == 0, "its connection is closed")
    eq(w.access(1)[0]["error"], {"code": "EUPTIME", "by": "upstream"}, "the log")

    # It counts from the end of the request: a slow upload is not a slow upstream.
    def late(c, r):
        time.sleep(0.1)
        c.send(answer(200, "x"))
    w = lab.weir(lab.upstream(late), timeouts={"first_byte": "300ms"})
    with w.client() as c:
        c.send(text_of("POST /", [("Content-Length", "8")]))
        for _ in range(8):
            time.sleep(0.1)
            c.send(b"x")
        eq(c.response().status, 200, "answer to a slow upload")


@story
def first_byte_after_1xx(lab):
    # 1xx are no answer: they do not put the deadline off for ever.
    def script(c):
        c.head()
        try:
            for _ in range(100):
                c.send(b"HTTP/1.1 102 Processing\r\n\r\n")
                time.sleep(0.1)
        except OSError:
            pass
    w = lab.weir(lab.upstream(script=script), timeouts={"first_byte": "600ms"})
    r = took(lambda: w.ask("GET /"), 0.6, "only 1xx")
    ok(r.status in (502, 504), "status", r)


@story
def half_a_head(lab):
    def script(c):
        c.head()
        c.send(b"HTTP/1.1 200 OK\r\nContent-")
        c.rest()
    w = lab.weir(lab.upstream(script=script), timeouts={"first_byte": "300ms"})
    eq(took(lambda: w.ask("GET /"), 0.3, "half a head").status, 504, "answer")


@story
def idle(lab):
    # The upstream stops in the middle of its body: the client sees a cut.
    def script(c):
        c.head()
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("abc"))
        time.sleep(0.2)
        c.send(chunk("def"))
        c.rest()
    up = lab.upstream(script=script)
    w = lab.weir(up, timeouts={"idle": "300ms"})
    with w.client() as c:
        c.send(text_of("GET /"))

        def cut():
            try:
                c.response()
            except (Cut, OSError):
                return True
            return False
        ok(took(cut, 0.5, "an upstream that stops"), "it is cut")
    eq(w.access(1)[0]["error"]["code"], "EUPIDLE", "the log")


@story
def connect(lab):
    # A server whose queue of connections is full: SYNs go unanswered.
    s = socket.socket()
    from weirlab import HOST
    s.bind((HOST, 0))
    s.listen(0)
    full = []
    for _ in range(4):
        f = socket.socket()
        f.setblocking(False)
        f.connect_ex(s.getsockname())
        full.append(f)
    time.sleep(0.1)
    good = lab.upstream()
    dead = "%s:%d" % s.getsockname()
    w = lab.weir(servers=[dead], timeouts={"connect": "400ms"}, route={"retry": {"attempts": 1}})
    eq(took(lambda: w.ask("GET /"), 0.4, "no connection").status, 504, "answer")
    eq(w.access(1)[0]["error"]["code"], "ECONNTIME", "the log")
    w = lab.weir(workers=1, servers=[dead, good.address], timeouts={"connect": "300ms"})
    eq([w.ask("POST /", body=b"x").status for _ in range(2)], [200, 200], "the next server serves")
    for f in full:
        f.close()
    s.close()


@story
def request(lab):
    # All of a request, with its retries.
    up = lab.upstream(script=lambda c: (c.head(), c.rest()))
    w = lab.weir(up, timeouts={"request": "500ms", "first_byte": "300ms"}, route={"retry": {"attempts": 5, "when": ["timeout"]}})
    eq(took(lambda: w.ask("GET /"), 0.5, "with retries").status, 504, "answer")
    ok(2 <= len(up.conns) <= 3, "attempts", len(up.conns))


@story
def send(lab):
    # A client that does not read: what it holds is given back.
    def script(c):
        c.head()
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        try:
            c.send(b"x" * 50000000)
        except OSError:
            pass
    up = lab.upstream(script=script)
    w = lab.weir(up, timeouts={"send": "500ms"})
    c = w.client(rcvbuf=4096)
    c.send(text_of("GET /"))
    wait(lambda: up.conns, "the upstream has it")
    wait(lambda: up.open == 0, "the upstream's connection is closed")
    wait(lambda: w.status()["connections"] == 0, "the client's too")
    eq(w.access(1)[0]["error"]["code"], "ESENDTIME", "the log")
    # One that reads in sips is served, however long all of it takes.
    w = lab.weir(lab.upstream(lambda c, r: c.send(answer(200, b"x" * 20000000))), timeouts={"send": "1s"})
    with w.client(rcvbuf=262144) as c:
        c.send(text_of("GET /"))
        c.head()
        got, started = len(c.buffer), time.monotonic()
        while got < 20000000:
            if time.monotonic() - started < 3:
                time.sleep(0.05)
            got += len(c.sock.recv(262144))
        eq(got, 20000000, "bytes")


@story
def send_in_small_sips(lab):
    # A steady but slow reader: the kernel tells of room in its queue only when a third of it is free.
    w = lab.weir(lab.upstream(lambda c, r: c.send(answer(200, b"x" * 20000000))), timeouts={"send": "700ms"})
    with w.client(rcvbuf=65536) as c:
        c.send(text_of("GET /"))
        c.head()
        got, started = len(c.buffer), time.monotonic()
        while got < 20000000:
            if time.monotonic() - started < 4:
                time.sleep(0.1)
                got += len(c.sock.recv(16384))
            else:
                got += len(c.sock.recv(262144))
        eq(got, 20000000, "bytes")


@story
def by_route(lab):
    up = lab.upstream(lambda c, r: (time.sleep(0.5), c.send(answer(200, "x")))[0])
    w = lab.weir(up, timeouts={"first_byte": "200ms"}, listener={"timeouts": {"first_byte": "10s"}},
                 routes=[{"name": "s", "match": {"path": "/short"}, "to": "app", "timeouts": {"first_byte": "200ms"}}, {"name": "r", "to": "app"}])
    eq((w.ask("GET /short").status, w.ask("GET /").status), (504, 200), "a route's own, and the listener's")


@story
def body_limit(lab):
    up = lab.upstream()
    w = lab.weir(up, limits={"body": "1KiB"})
    eq(w.ask("POST /", body=b"x" * 1024).status, 200, "just right")
    eq(w.ask("POST /", body=b"x" * 1025).status, 413, "one byte more, told before")
    n = len(up.requests)
    with w.client() as c:
        c.send(text_of("POST /", [("Transfer-Encoding", "chunked")]) + chunk(b"x" * 1000))
        c.send(chunk(b"x" * 1000) + b"0\r\n\r\n")
        eq(c.response().status, 413, "more, by chunks")
    with w.client() as c:
        c.send(text_of("POST /", [("Transfer-Encoding", "chunked")]) + chunk(b"x" * 1024) + b"0\r\n\r\n")
        eq(c.response().status, 200, "just right, by chunks")
    eq(len(up.requests) - n, 1, "whole requests at the upstream")
    eq(sorted(line["status"] for line in w.access(4)), [200, 200, 413, 413], "the log, of whichever worker first")


@story
def head_limits(lab):
    up = lab.upstream()
    w = lab.weir(up, limits={"head": "4KiB", "headers": 20})
    eq(w.ask("GET /", [("X", "a" * 3000)]).status, 200, "a good one")
    eq(w.ask("GET /", [("X", "a" * 5000)]).status, 431, "a large head")
    eq(w.ask("GET /", [("X-%d" % i, "a") for i in range(30)]).status, 431, "many fields")
    eq(w.ask("GET /", [("X-%d" % i, "a") for i in range(17)]).status, 200, "not too many")
    eq(w.ask("GET /" + "a" * 6000).status in (414, 431), True, "a long target")
    with w.client() as c:  # without an end: not kept for ever
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        try:
            for _ in range(100):
                c.send(b"X: " + b"a" * 500 + b"\r\n")
                time.sleep(0.002)
        except OSError:
            pass
        eq(c.response().status, 431, "a head without end")
    w = lab.weir(up)
    eq(w.ask("GET /" + "a" * 20000).status, 414, "a target above 16 KiB")
    eq(w.ask("GET /" + "a" * 15000).status, 200, "one below")
    eq(up.faults, [], "faults")


@story
def large_answer_head(lab):
    w = lab.weir(lab.upstream(lambda c, r: c.send(answer(200, "x", [("X", "a" * 20000)]))), limits={"head": "4KiB"})
    eq(w.ask("GET /").status, 502, "the limit holds for answers")
    eq(w.access(1)[0]["error"]["code"], "EUPSIZE", "the log")


main()
