#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bodies where HTTP/2 is on one side or both: long ones, slow ones, cut ones, answers that come early, clients that go away."""
import hashlib
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from h2lab import (CANCEL, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, NO_ERROR, PROTOCOL_ERROR, Peer, Square, exchange, h2_client,  # noqa: E402
                   h2_upstream)
from weirlab import SLOW, Cut, chunk, eq, main, ok, story, text_of, wait  # noqa: E402

BIG = (4 << 20) + 12345 if SLOW == 1 else (1 << 20) + 12345
HELD_MAX = 8 << 20  # of one connection: kernels' buffers on the way are more than what the proxy holds


def noise(size):
    return random.Random(size).randbytes(size)


def on_h2(kind):
    return kind.startswith("h2")


def cut(function, what):
    """What was received must not look whole: what there was of it."""
    try:
        r = function()
    except Cut as e:
        return e.response
    except ConnectionError:
        return None
    if r.status in (502, 504):
        return r  # nothing of it was sent on: better than a cut
    raise AssertionError("%s: a false end: %r" % (what, r))


def begin_upload(sq, c, back, length=None, fields=()):
    """The head of a POST; returns (send, end, abort, answer) for its body."""
    host = back + ".test"
    if isinstance(c, Peer):
        s = c.request("POST /", list(fields) + ([("content-length", str(length))] if length is not None else []), host=host, end=False)
        return s.send, s.end, s.rst, s.response
    fields = [("Host", host), *fields, ("Content-Length", str(length)) if length is not None else ("Transfer-Encoding", "chunked")]
    c.send(text_of("POST /", fields))
    send = c.send if length is not None else (lambda data: c.send(chunk(data)))
    return send, (lambda: None if length is not None else c.send("0\r\n\r\n")), c.reset, c.response


@story
def long_both_ways(lab):  # megabytes up and down at once, told by their length or not
    def reply(x):
        x.whole()
        x.reply(200, hashlib.sha256(x.body).hexdigest().encode() + noise(BIG), length=x.target == "/length")
    sq = Square(lab, reply)
    body = noise(BIG + 1)
    wanted = hashlib.sha256(body).hexdigest().encode()
    down = hashlib.sha256(noise(BIG)).digest()
    for front, back in sq.pairs():
        for length in (True, False):
            r = sq.ask(front, back, "POST " + ("/length" if length else "/"), body=body, length=length)
            what = "%s to %s, length told: %s: " % (front, back, length)
            eq((r.status, r.body[:64], hashlib.sha256(r.body[64:]).digest()), (200, wanted, down), what + "what came")


@story
def echo_as_it_comes(lab):
    # Full duplex: each piece is answered before the next is sent.
    def reply(x):
        x.begin(200)
        taken = 0
        while True:
            x.wait(lambda: x.ended or x.size > taken, "more")
            data, taken = x.body[taken:], x.size
            if data:
                x.send(data)
            elif x.ended:
                return x.end()
    sq = Square(lab, reply, early=True)
    for front, back in sq.pairs():
        if not (on_h2(front) and on_h2(back)):
            continue
        with sq.connect(front) as c:
            s = c.request("POST /", host=back + ".test", end=False)
            for i in range(20):
                piece = b"%d," % i * (1 + 1000 * (i % 3))
                s.send(piece)
                eq(s.take(len(piece)), piece, "piece %d" % i)
            s.end()
            ok(s.response().ended, "the end")


@story
def windows_and_frames_of_any_size(lab):
    # Clients and upstreams with tiny and huge windows, padding, frames of one byte.
    size = 30000
    for window, frame_size in ((1, 16384), (100, 16384), (65535, 16384), ((1 << 31) - 1, (1 << 24) - 1)):
        up = h2_upstream(lab, lambda x: x.reply(200, x.body), peer={"settings": {INITIAL_WINDOW_SIZE: window, MAX_FRAME_SIZE: frame_size}})
        w = lab.weir(up, upstream={"protocol": "h2"})
        n = size if window > 99 else 100
        with h2_client(w, settings={INITIAL_WINDOW_SIZE: window, MAX_FRAME_SIZE: frame_size}) as c:
            r = c.request("POST /", body=b"x" * n).response()
            eq((r.status, r.body[:100], r.size), (200, b"x" * min(n, 100), n), "window %d" % window)
    with h2_client(w) as c:
        s = c.request("POST /", end=False)
        for i in range(300):
            s.send(b"y", pad=255 if i % 2 else None)
        s.end()
        eq(s.response().body, b"y" * 300, "pieces of one byte, padded")


@story
def slow_readers_stop_the_upstream(lab):
    # Who does not read is not sent to: the upstream feels it. Then all of it comes.
    size, sent = 32 << 20, {}

    def reply(x):
        x.begin(200)
        for i in range(size >> 16):
            x.send(b"z" * 65536)
            sent[x.host] = (i + 1) << 16
        x.end()
    sq = Square(lab, reply, early=True)
    for front, back in sq.pairs():
        if front.endswith("s") or not (on_h2(front) or on_h2(back)):
            continue
        what, host = "%s to %s" % (front, back), back + ".test"
        sent[host] = 0
        if on_h2(front):
            with h2_client(sq.w, reads=False) as c:
                s = c.request("GET /", host=host)
                wait(lambda: sent[host] and settled(lambda: sent[host]), what + ": the upstream stops")
                held, got = sent[host] - s.size, s.size
                ok(got <= 65535, what + ": the stream's window", got)
                s.read()
                eq(s.response().size, size, what)
        else:
            with sq.connect(front, rcvbuf=65536) as c:
                c.send(text_of("GET /", [("Host", host)]))
                wait(lambda: sent[host] and settled(lambda: sent[host]), what + ": the upstream stops")
                held = sent[host]
                eq(len(c.response().body), size, what)
        ok(held <= HELD_MAX, what + ": bytes between the upstream and who does not read", held)


def settled(value):
    before = value()
    time.sleep(0.2 * SLOW)
    return value() == before


@story
def slow_upstreams_stop_the_client(lab):
    size, go = 32 << 20, threading.Event()

    def late(x):
        go.wait(30)
        if x.version == "HTTP/2":
            x.peer.read()
        x.whole()
        x.reply(200, str(len(x.body)))
    up1 = lab.upstream(script=lambda c: (setattr(c, "h", c.head()), go.wait(30), c.body(c.h), c.send(
        "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n%8d" % len(c.h.body))), rcvbuf=65536)
    up2 = h2_upstream(lab, late, early=True, peer={"reads": False})
    w1, w2 = lab.weir(up1), lab.weir(up2, upstream={"protocol": "h2"})
    for w, front in ((w1, "h2"), (w2, "h2"), (w2, "h1")):
        go.clear()
        sent = [0]

        def pour():
            for _ in range(size >> 16):
                send(b"u" * 65536)
                sent[0] += 65536
            end()
        with h2_client(w) if front == "h2" else w.client() as c:
            send, end, _, answer = begin_upload(None, c, "weir", size)
            sender = threading.Thread(target=pour, daemon=True)
            sender.start()
            wait(lambda: sent[0] and settled(lambda: sent[0]), "the client stops")
            ok(sent[0] <= HELD_MAX, "bytes between a client and an upstream that does not read", sent[0])
            go.set()
            for s in up2.requests:
                s.read()
            eq(int(answer().body), size, "all of it comes")
            sender.join(20)


@story
def cut_answers(lab):
    # An upstream that breaks off in the middle of its body: a client never sees a clean end.
    def reply(x):
        fields = [("content-length", "1000")] if x.target == "/length" else []
        x.begin(200, fields)
        x.send(b"a" * 500)
        time.sleep(0.05)
        x.cut()
    sq = Square(lab, reply)
    for front, back in sq.pairs():
        for target in ("/length", "/pieces"):
            what = "%s to %s, %s" % (front, back, target)
            r = cut(lambda: sq.ask(front, back, "GET " + target), what)
            ok(r is None or r.status == 502 or len(r.body) <= 500, what + ": what there was of it", r)
            if on_h2(front) and r.status == 200:
                ok(r.reset not in (None, NO_ERROR), what + ": the reset", r)
    for line in sq.w.access(len(sq.pairs()) * 2):
        eq(line["error"]["by"], "upstream", "who is to blame")


@story
def cut_by_end_of_connection(lab):
    # The upstream's connection ends, with and without GOAWAY, at every moment.
    def reply(x):
        if x.target != "/head":
            x.begin(200, [("content-length", "1000")])
        if x.target == "/body":
            x.send(b"a" * 500)
        time.sleep(0.05)
        if x.get("x-how") == "rst":
            x.peer.cut()
        else:
            x.peer.close()
    up = h2_upstream(lab, reply)
    w = lab.weir(up, upstream={"protocol": "h2"}, route={"retry": {"attempts": 1}})
    for target in ("/head", "/begun", "/body"):
        for how in ("fin", "rst"):
            with h2_client(w) as c:
                cut(lambda: c.request("POST " + target, [("x-how", how)]).response(), target + " " + how)
            cut(lambda: w.ask("POST " + target, [("x-how", how)]), target + " " + how)


@story
def lengths_that_lie(lab):
    # More or less DATA than Content-Length said (RFC 9113 8.1.1): refused, on both sides.
    sq = Square(lab, early=False)
    for back in ("h1", "h2"):
        for told, sent in ((10, 5), (10, 15), (0, 5), (5, 0)):
            with h2_client(sq.w) as c:
                s = c.request("POST /", [("content-length", str(told))], host=back + ".test", end=False)
                s.send(b"x" * sent, end=True)
                s.wait(lambda: s.ended or s.reset is not None, "the answer")
                # A head that says 0 is whole for an upstream: it may have answered before the first byte too many came.
                ok(s.reset == PROTOCOL_ERROR or s.status == 400 or (not told and s.status == 200), "%d told, %d sent" % (told, sent), s)
                eq(c.request("GET /", host=back + ".test").response().status, 200, "the connection goes on")
    # A head that says 0 is whole for an upstream before the first byte too many has come.
    eq([r for up in (sq.ups["h1"], sq.ups["h2"]) for r in up.requests if r.method == "POST" and getattr(r, "ended", True) and
        r.get("content-length") != "0"], [], "whole ones at the upstreams")

    def reply(x):
        told, sent = (int(n) for n in x.target[1:].split("/"))
        x.begin(200, [("content-length", str(told))])
        x.send(b"y" * sent, end=True)
    w = lab.weir(h2_upstream(lab, reply), upstream={"protocol": "h2"})
    for told, sent in ((10, 5), (10, 15), (0, 5), (5, 0)):
        with h2_client(w) as c:
            cut(lambda: c.request("GET /%d/%d" % (told, sent)).response(), "an answer of %d told, %d sent, to h2" % (told, sent))
        if told:
            cut(lambda: w.ask("GET /%d/%d" % (told, sent)), "an answer of %d told, %d sent, to h1" % (told, sent))


@story
def cut_uploads(lab):
    # A client that goes away while it uploads: the upstream never has a whole request, and hears it at once.
    sq = Square(lab, lambda x: x.reply(200, "whole"))
    for front, back in sq.pairs():
        for length in (100000, None):
            what = "%s to %s, length %s" % (front, back, length)
            up = sq.ups[back]
            before = len(up.requests)
            with sq.connect(front) as c:
                send, _, abort, _ = begin_upload(sq, c, back, length)
                send(b"u" * 50000)
                if on_h2(back):
                    wait(lambda: len(up.requests) > before and up.requests[-1].size == 50000, what + ": the upstream has some")
                else:
                    wait(lambda: up.open and any(len(k.buffer) > 1000 or k.count == 0 for k in up.conns), what + ": the upstream has some")
                    time.sleep(0.1)
                abort()
                if on_h2(back):
                    code = up.requests[-1].until_reset()
                    ok(code not in (None, NO_ERROR) and not up.requests[-1].ended, what + ": the reset", up.requests[-1])
                else:
                    wait(lambda: up.open == 0, what + ": the upstream's connection ends")
                    eq(len(up.requests), before, what + ": whole requests")
    for line in sq.w.access(len(sq.pairs()) * 2):
        eq(line["error"]["by"], "client", "who is to blame")


@story
def client_goes_away_while_downloading(lab):
    # RST_STREAM of the client is one of ours to the upstream, at once; other streams go on.
    def reply(x):
        x.begin(200)
        if x.target == "/short":
            return x.end()
        for _ in range(4000):
            x.send(b"d" * 10000)
    sq = Square(lab, reply, early=True, workers=1)
    for front, back in sq.pairs():
        what, up = "%s to %s: " % (front, back), sq.ups[back]
        c = sq.connect(front)
        if on_h2(front):
            s = c.request("GET /", host=back + ".test")
            s.take(30000)
            s.rst(CANCEL)
            eq(c.request("GET /short", host=back + ".test").response().status, 200, what + "another stream")
        else:
            c.send(text_of("GET /", [("Host", back + ".test")]))
            c.take(30000)
        if not on_h2(front):
            c.reset()
        if on_h2(back):
            stream = [r for r in up.requests if r.target == "/"][-1]
            code = stream.until_reset()
            ok(code in (CANCEL, NO_ERROR) or not on_h2(front), what + "the upstream's stream is reset", code)
            ok(up.conns[-1].over is None, what + "its connection lives")
        else:
            wait(lambda: up.open <= 1, what + "the upstream's connection ends")
        c.close()
        up.faults.clear()


@story
def client_goes_away_before_the_answer(lab):
    def reply(x):
        if x.target == "/wait":
            x.wait(lambda: False, "the reset")  # raises Cut when it comes
        x.reply(200, "x")
    up = h2_upstream(lab, reply)
    w = lab.weir(up, upstream={"protocol": "h2"}, workers=1)
    with h2_client(w) as c:
        streams = [c.request("GET /wait") for _ in range(20)]
        wait(lambda: len(up.requests) == 20, "all are at the upstream")
        for s in streams:
            s.rst()
        for s in list(up.requests):
            eq(s.until_reset(), CANCEL, "each is cancelled")
        eq(c.request("GET /").response().status, 200, "the connection goes on")
    eq(len(up.conns), 1, "connections to the upstream")
    with h2_client(w) as c:
        streams = [c.request("GET /wait") for _ in range(20)]
        wait(lambda: len(up.requests) == 41, "all are at the upstream")
        c.cut()
        for s in up.requests[21:]:
            eq(s.until_reset(), CANCEL, "each is cancelled")
    w.settle(True)
    lines = w.access(41)
    ok(all(line["error"]["by"] == "client" for line in lines if line["path"] == "/wait"), "who is to blame", lines[0])


@story
def early_answers(lab):
    # A whole answer before the request has ended: it arrives whole; the rest of the upload is not waited for.
    def reply(x):
        x.reply(403, b"no" * 1000)
        if x.version == "HTTP/2":
            x.rst(NO_ERROR)
    sq = Square(lab, reply, early=True)
    for front, back in sq.pairs():
        what = "%s to %s: " % (front, back)
        with sq.connect(front) as c:
            send, end, _, answer = begin_upload(sq, c, back, 300000)
            stop = threading.Event()

            def pour():
                try:
                    for _ in range(29):
                        if stop.wait(0.01):
                            return
                        send(b"u" * 10000)
                except OSError:
                    pass
            sender = threading.Thread(target=pour, daemon=True)
            sender.start()
            r = answer()
            eq((r.status, r.body), (403, b"no" * 1000), what + "the answer")
            stop.set()
            sender.join(10)
            if on_h2(front):
                eq(exchange(c, back + ".test", "GET /").status, 403, what + "the connection goes on")


@story
def answer_that_begins_early(lab):
    # The head of the answer comes while the request still flows, its end after: nothing is cut.
    def reply(x):
        x.begin(200)
        x.send("began ")
        x.whole()
        x.send(str(len(x.body)))
        x.end()
    sq = Square(lab, reply, early=True)
    for front, back in sq.pairs():
        with sq.connect(front) as c:
            send, end, _, answer = begin_upload(sq, c, back)
            for _ in range(10):
                send(b"u" * 10000)
                time.sleep(0.01)
            end()
            eq(answer().body, b"began 100000", "%s to %s" % (front, back))


main()
