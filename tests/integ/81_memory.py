#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""limits.memory and bodies: above it nothing more is read where bytes wait, and all arrives that is then taken."""
import base64
import hashlib
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from h2lab import h2_client, h2_upstream  # noqa: E402
from weirlab import SLOW, eq, main, ok, story, text_of, wait  # noqa: E402

COUNT, PIECE, PIECES = 640, 4096, 40
FILLED = 65535 // PIECE  # what a window of HTTP/2 takes; the others wait in the proxy
TICK = 0.3  # longer than the proxy takes to see that memory is short


class Senders:
    """Whoever sends the bodies, in step: each has sent as many pieces as the others, or is held back."""

    def __init__(self, sends):
        self.allowed, self.changed, self.done = 0, threading.Condition(), [0] * len(sends)
        for i, send in enumerate(sends):
            threading.Thread(target=self.run, args=(i, send), daemon=True).start()

    def run(self, i, send):
        for n in range(PIECES):
            with self.changed:
                self.changed.wait_for(lambda n=n: self.allowed > n)
            try:
                send(bytes([(i + n) % 256]) * PIECE)
            except OSError:
                return
            self.done[i] += 1

    def step(self, pieces):
        with self.changed:
            self.allowed = pieces
            self.changed.notify_all()
        wait(lambda: min(self.done) >= pieces, "%d pieces of each are with the kernel" % pieces, 30)


def body_of(i):
    return b"".join(bytes([(i + n) % 256]) * PIECE for n in range(PIECES))


def downloads(lab):
    """h1 servers to clients of h2 that do not read; one in four is a WebSocket."""
    conns, lock, hold = {}, threading.Lock(), threading.Event()

    def reply(c, r):
        if r.get("upgrade"):
            key = base64.b64encode(hashlib.sha1(r.get("sec-websocket-key").encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            c.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + key + b"\r\n\r\n")
        else:
            c.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (PIECE * PIECES))
        with lock:
            conns[int(r.target[1:])] = c
        hold.wait(100)
        return True

    def begin(w):
        conns.clear()
        clients = [h2_client(w, reads=False) for _ in range(COUNT // 80)]
        streams = [clients[i // 80].websocket("/%d" % i) if i % 4 == 0 else clients[i // 80].request("GET /%d" % i) for i in range(COUNT)]
        for s in streams:
            eq(s.head().status, 200, "a head")
        wait(lambda: len(conns) == COUNT, "all are with the server")

        def take():
            for s in streams:
                s.read()
            for i, s in enumerate(streams):
                s.wait(lambda s=s: s.size == PIECE * PIECES, "body %d" % i, 60)
                eq(s.body == body_of(i), True, "body %d" % i)
            hold.set()
            for c in clients:
                c.close()
            hold.clear()
        return Senders([conns[i].send for i in range(COUNT)]), streams, take
    return lab.upstream(reply), {}, begin


def uploads(lab):
    """h1 clients to a server of h2 that does not read."""
    def reply(x):
        x.wait(lambda: x.ended, "the end of the request", 100)
        x.reply(200, hashlib.md5(x.body).hexdigest())
    up = h2_upstream(lab, reply, early=True, peer={"reads": False})

    def begin(w):
        up.requests.clear()
        up.conns.clear()
        clients = [w.client() for _ in range(COUNT)]
        for i, c in enumerate(clients):
            c.sock.settimeout(60)  # all bodies come at once in the end
            c.send(text_of("POST /%d" % i, [("Content-Length", str(PIECE * PIECES))]))
        wait(lambda: len(up.requests) == COUNT, "all are with the server")

        def take():
            for x in up.requests:
                x.read()
            for i, c in enumerate(clients):
                eq(c.response().body.decode(), hashlib.md5(body_of(i)).hexdigest(), "body %d" % i)
        return Senders([c.send for c in clients]), list(up.requests), take
    return up, {"upstream": {"protocol": "h2"}}, begin


def grow(w, begin, ceiling=1 << 40):
    """Lets all bodies begin and fill the windows of who does not read; then piece after piece, slowly: once they are above
    `ceiling`, when the proxy has seen that. The resident memory at first and in the end, and what takes the bodies."""
    senders, streams, take = begin(w)
    senders.step(FILLED)
    wait(lambda: min(s.size for s in streams) == FILLED * PIECE, "the windows are almost full, and nothing waits", 30)
    time.sleep(4 * TICK)  # what the beginning needed is given back
    first = w.rss()
    for n in range(FILLED + 3, PIECES, 3):
        senders.step(n)
        time.sleep(TICK)
        if w.rss() > ceiling:
            wait(lambda: w.status()["memory_over"], "it is seen that memory is short")
            time.sleep(TICK)
    senders.step(PIECES)
    time.sleep(TICK)
    return first, w.rss(), take


def bounded(lab, make):
    up, options, begin = make(lab)
    limits = {"replay": "off"}  # which would be given back just when memory is to grow
    timeouts = {"request": "off", "idle": "60s", "send": "60s", "receive": "60s", "first_byte": "60s"}
    w = lab.weir(up, workers=1, timeouts=timeouts, limits=limits, **options)
    first, last, take = grow(w, begin)
    take()
    w.stop()
    free = last - first
    print("      without a ceiling: %d KiB, then %d KiB more" % (first >> 10, free >> 10))
    ok(free > COUNT * 6000, "bodies that wait take memory", free)
    ceiling = max(first + free // 4, 16 << 20) >> 10  # no less is allowed
    w = lab.weir(up, workers=1, timeouts=timeouts, limits={"memory": "%dKiB" % ceiling, **limits}, **options)
    first, last, take = grow(w, begin, ceiling << 10)
    print("      ceiling %d KiB: %d KiB, then %d KiB more" % (ceiling, first >> 10, (last - first) >> 10))
    ok(w.status()["memory_over"], "the ceiling is passed")
    ok(last - (ceiling << 10) < free // 2, "and not by much", (last >> 10, ceiling))
    eq(w.ask("GET /").status, 503, "new work meanwhile")
    take()
    wait(lambda: not w.status()["memory_over"], "the pressure is gone")
    w.settle()


@story
def answers_that_nobody_reads(lab):
    if SLOW == 1:  # with a sanitizer memory is not what it is
        bounded(lab, downloads)


@story
def requests_that_nobody_reads(lab):
    if SLOW == 1:
        bounded(lab, uploads)


main()
