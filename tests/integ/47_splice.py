#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who moves the bytes of tunnels: copy and pipes, which is chosen when, and what is told of it."""
import hashlib
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from certs import Authority  # noqa: E402
from weirlab import SLOW, eq, main, ok, story, wait  # noqa: E402

TCP = {"protocol": "tcp"}
BLOCK = os.urandom(1 << 16)


def echo(c):
    while c.more():
        data, c.buffer = c.buffer, b""
        c.send(data)
    c.half()


def pour(c, blocks):
    """Sends so many blocks and the end, and reads what comes meanwhile: the digests of both."""
    sent, got = hashlib.sha256(), hashlib.sha256()
    c.sock.settimeout(60 * SLOW)

    def send():
        for _ in range(blocks):
            c.send(BLOCK)
            sent.update(BLOCK)
        c.half()
    writer = threading.Thread(target=send)
    writer.start()
    while c.more():
        got.update(c.buffer)
        c.buffer = b""
    writer.join()
    return sent.hexdigest(), got.hexdigest()


@story
def by_each(lab):
    # Both ways at once: the same bytes, whoever moves them; and they are counted as moved by him.
    up = lab.upstream(script=echo)
    for policy, mover in (("off", "copy"), ("copy", "copy"), ("pipe", "pipe"), ("auto", "pipe")):
        w = lab.weir(up, listener=TCP, kernel={"splice": policy})
        with w.client() as c:
            sent, got = pour(c, 256)
            eq(got, sent, policy + ": what comes back")
        line = w.access(1)[0]
        eq((line["mover"], line["bytes_in"], line["bytes_out"]), (mover, 256 << 16, 256 << 16), policy + ": the log")
        w.settle(True)
        moved = {m: [w.metric("weir_bytes_total", mover=m, side=side, direction=way) for side, way in
                     (("down", "in"), ("up", "out"), ("up", "in"), ("down", "out"))] for m in ("copy", "pipe")}
        eq([a + b for a, b in zip(moved["copy"], moved["pipe"])], [256 << 16] * 4, policy + ": bytes, counted")
        eq(min(moved["pipe"]) > 8 << 20, mover == "pipe", policy + ": by whom")
        eq(sum(v for k, v in w.metrics().items() if k.startswith("weir_splice_active")), 0, policy + ": nothing is left")
        eq(w.metric("weir_splice_fallback_total", reason="off"), 2 if mover == "copy" else 0, policy + ": why not")


@story
def what_is_small_is_copied(lab):
    w = lab.weir(lab.upstream(script=echo), listener=TCP)
    with w.client() as c:
        for _ in range(2000):
            c.send(b"x" * 100)
            c.take(100)
        eq(w.metric("weir_splice_active", mover="copy"), 2, "both directions")
        c.send(BLOCK * 16)
        eq(c.take(len(BLOCK) * 16), BLOCK * 16, "much")
        ok(w.metric("weir_splice_active", mover="pipe") >= 1, "now by pipe")
        for _ in range(20):
            c.send(b"x" * 100)
            c.take(100)
        eq(w.metric("weir_splice_active", mover="copy"), 2, "and back")
    line = w.access(1)[0]
    eq(line["mover"], "pipe", "the log")
    ok(w.metric("weir_splice_fallback_total", reason="small") >= 1, "why")
    with w.client() as c:
        c.send(b"hello")
        c.take(5)
    eq(w.access(2)[1]["mover"], "copy", "a little one")
    ok(w.metric("weir_splice_fallback_total", reason="few") >= 2, "why")


@story
def what_cannot_be(lab):
    # TLS on one side is enough: copied, and said why; also where a pipe is asked for.
    ca = Authority(lab)
    pair = ca.issue("a.test")
    w = lab.weir(lab.upstream(script=echo), listener={**TCP, "tls": {"cert": pair[0], "key": pair[1]}}, kernel={"splice": "pipe"})
    with w.client(tls=ca.client(), sni="a.test") as c:
        c.send(BLOCK * 8)
        eq(c.take(len(BLOCK) * 8), BLOCK * 8, "what comes back")
    eq(w.access(1)[0]["mover"], "copy", "the log")
    eq(w.metric("weir_splice_fallback_total", reason="tls"), 2, "why")


@story
def levels(lab):
    # A listener and a route may say otherwise; off at the top is off everywhere.
    up = lab.upstream(script=echo)
    for top, listener, route, mover in (("copy", "pipe", None, "pipe"), ("pipe", "pipe", "copy", "copy"), ("auto", None, "pipe", "pipe"),
                                        ("off", "pipe", "pipe", "copy")):
        says = lambda value: {"splice": value} if value else {}
        w = lab.weir(up, listener={**TCP, **says(listener)}, routes=[{"name": "all", "to": "app", **says(route)}], kernel={"splice": top})
        with w.client() as c:
            for _ in range(20):
                c.send(b"x")
                c.take(1)
        eq(w.access(1)[0]["mover"], mover, "%s, %s, %s" % (top, listener, route))


@story
def stopped_readers(lab):
    # Each direction before a reader that has stopped is bounded, all of them by splice_memory; the streams stay intact.
    blocks, count = 160, 12

    def script(c):
        c.sock.settimeout(60 * SLOW)
        for _ in range(blocks):
            c.send(BLOCK)
        c.half()
        c.rest()
    want = hashlib.sha256(BLOCK * blocks).hexdigest()
    w = lab.weir(lab.upstream(script=script), listener=TCP, workers=1, kernel={"splice": "pipe", "splice_memory": "1MiB"})
    before, rss = w.fds(), w.rss()
    clients = [w.client(rcvbuf=65536) for _ in range(count)]
    time.sleep(1)
    ok(w.metric("weir_splice_fallback_total", reason="pipes") >= 1, "more than fit into splice_memory")
    pipes = w.fds() - before - 2 * count
    ok(0 < pipes <= 2 * 4 + 2, "descriptors of pipes", pipes)
    if SLOW == 1:
        ok(w.rss() - rss < 4 << 20, "memory", w.rss() - rss)
    for c in clients:
        c.sock.settimeout(60 * SLOW)
        eq(hashlib.sha256(c.rest()).hexdigest(), want, "all of it")
        c.close()
    wait(lambda: w.fds() <= before, "descriptors are back")


main()
