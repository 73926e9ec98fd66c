#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a slow peer costs: a long body through a proxy whose other side is slow is not kept in the proxy."""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import SLOW, eq, main, ok, story, text_of, wait  # noqa: E402

STREAMS = 8
LENGTH = 200 << 20 if SLOW == 1 else 48 << 20
HELD_MAX = 256 << 10  # bytes a stream that the proxy may hold
# Beside what streams hold: pages that the allocator touches once (and, under a sanitizer, its shadow and quarantine).
NOISE = (1 << 20) if SLOW == 1 else 256 << 20
BLOCK = b"z" * (1 << 20)


class Watch(threading.Thread):
    """The highest resident size while it runs."""

    def __init__(self, w):
        super().__init__(daemon=True)
        self.w, self.before, self.peak, self.going = w, w.rss(), 0, True
        self.start()

    def run(self):
        while self.going:
            self.peak = max(self.peak, self.w.rss())
            time.sleep(0.01)

    def end(self, what):
        self.going = False
        self.join()
        grown = self.peak - self.before
        print("      %s: %d KiB grown, %d KiB a stream" % (what, grown >> 10, grown / STREAMS / 1024))
        ok(grown <= STREAMS * HELD_MAX + NOISE, "%s: memory of %d slow streams (bytes)" % (what, STREAMS), grown)


def crowd(function):
    """Runs it STREAMS times at once; returns what went wrong."""
    faults = []

    def one():
        try:
            function()
        except Exception as e:
            faults.append(e)
    threads = [threading.Thread(target=one) for _ in range(STREAMS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return faults


def skim(sock, total):
    """Reads slowly at first (a second of nothing, then small sips), then as fast as it can."""
    buffer, got = bytearray(1 << 20), 0
    time.sleep(1)
    for _ in range(50):
        got += sock.recv_into(buffer, min(16384, total - got))
        time.sleep(0.01)
    while got < total:
        n = sock.recv_into(buffer, min(len(buffer), total - got))
        if not n:
            break
        got += n
    return got


def pour(sock, total):
    sent = 0
    while sent < total:
        sent += sock.send(BLOCK[:min(len(BLOCK), total - sent)])


@story
def uploads_to_a_slow_upstream(lab):  # 8 clients ── weir ── up, which reads late
    got = []

    def script(c):
        c.head()
        c.sock.settimeout(60)
        got.append(len(c.buffer) + skim(c.sock, LENGTH - len(c.buffer)))
        c.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    w = lab.weir(lab.upstream(script=script))

    def upload():
        with w.client() as c:
            c.sock.settimeout(60)
            c.send(text_of("POST /", [("Content-Length", str(LENGTH))]))
            pour(c.sock, LENGTH)
            eq(c.response().status, 200, "answer")
    watch = Watch(w)
    eq(crowd(upload), [], "faults")
    eq(got, [LENGTH] * STREAMS, "bytes at the upstream")
    watch.end("uploads")


@story
def downloads_to_slow_clients(lab):  # 8 clients, which read late ── weir ── up
    def script(c):
        c.head()
        c.sock.settimeout(60)
        c.send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LENGTH)
        pour(c.sock, LENGTH)
    w = lab.weir(lab.upstream(script=script))

    def download():
        with w.client() as c:
            c.sock.settimeout(60)
            c.send(text_of("GET /"))
            eq(c.head().status, 200, "answer")
            eq(len(c.buffer) + skim(c.sock, LENGTH - len(c.buffer)), LENGTH, "bytes at the client")
    watch = Watch(w)
    eq(crowd(download), [], "faults")
    watch.end("downloads")


@story
def many_idle_connections(lab):
    # Idle costs next to nothing, and all of it is given back.
    w = lab.weir(lab.upstream())
    w.ask("GET /")
    before, conns = w.rss(), []
    for _ in range(2000):
        c = w.client()
        conns.append(c)
    for c in conns:
        c.send(text_of("GET /"))
        eq(c.response().status, 200, "answer")
    grown = w.rss() - before
    print("      2000 idle: %d KiB grown, %d bytes each" % (grown >> 10, grown / 2000))
    ok(grown < 2000 * (4096 if SLOW == 1 else 65536), "memory of 2000 idle connections", grown)
    eq(w.status()["connections"], 2000, "connections")
    for c in conns:
        c.close()
    wait(lambda: w.status()["connections"] == 0, "all are gone")


main()
