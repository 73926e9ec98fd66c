#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who moves the bytes of tunnels: copy and pipes, which is chosen when, and what is told of it."""
import hashlib
import os
import resource
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from certs import Authority  # noqa: E402
from weirlab import SLOW, Skip, answer, eq, has, main, mirror, ok, story, text_of, wait  # noqa: E402

TCP = {"protocol": "tcp"}
BLOCK = os.urandom(1 << 16)


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
    up = lab.upstream(script=mirror)
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
    w = lab.weir(lab.upstream(script=mirror), listener=TCP)
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
    w = lab.weir(lab.upstream(script=mirror), listener={**TCP, "tls": {"cert": pair[0], "key": pair[1]}}, kernel={"splice": "pipe"})
    with w.client(tls=ca.client(), sni="a.test") as c:
        c.send(BLOCK * 8)
        eq(c.take(len(BLOCK) * 8), BLOCK * 8, "what comes back")
    eq(w.access(1)[0]["mover"], "copy", "the log")
    eq(w.metric("weir_splice_fallback_total", reason="tls"), 2, "why")


@story
def shown(lab):
    # Who moves each connection's bytes, and why: the admin and the command.
    w = lab.weir(lab.upstream(script=mirror), listener=TCP)
    with w.client() as c:
        c.send(b"hello")
        c.take(5)
        row = w.admin("/v1/splice").json()["connections"][0]
        eq((row["what"], row["in"]["mover"], row["in"]["why"], row["in"]["bytes"], row["out"]["bytes"]), ("tunnel", "copy", "few", 5, 5), "a young one")
        c.send(BLOCK * 32)
        eq(c.take(len(BLOCK) * 32), BLOCK * 32, "much")
        row = w.admin("/v1/splice").json()["connections"][0]
        eq([row[way]["mover"] for way in ("in", "out")], ["pipe", "pipe"], "by pipe")
        ok("why" not in row["in"], "there is nobody better", row)
        status, out = w.cli("show", "splice")[:2]
        ok(status == 0 and "pipe" in out, "weir show splice", out)
        eq(w.cli("set", "kernel.splice", "off")[0], 0, "weir set")
        wait(lambda: w.admin("/v1/splice").json()["connections"][0]["in"].get("why") == "off", "it takes effect on what runs")
        c.send(BLOCK * 32)
        eq(c.take(len(BLOCK) * 32), BLOCK * 32, "and all goes on")
        eq(w.cli("show", "config", "--diff", "-j")[1].count("kernel.splice"), 1, "show config --diff")
        eq(w.admin("/v1/splice", "PUT", {"splice": "fast"}).status, 400, "a wrong word")
        eq(w.cli("set", "kernel.splice", "pipes")[0], 2, "likewise")


@story
def changed_under_load(lab):
    # The mover changes again and again while bytes go both ways: nothing is lost, doubled or overtaken.
    w = lab.weir(lab.upstream(script=mirror), listener=TCP)
    done, seen = threading.Event(), []

    def client():
        with w.client() as c:
            seen.append(pour(c, 1024))
    threads = [threading.Thread(target=client) for _ in range(4)]
    for t in threads:
        t.start()

    def change():
        words = ("pipe", "copy", "auto", "off")
        for i in range(100000):
            if done.is_set():
                return i
            w.admin("/v1/splice", "PUT", {"splice": words[i % 4]})
            time.sleep(0.1)  # workers look five times a second
    changer = threading.Thread(target=change)
    changer.start()
    for t in threads:
        t.join()
    done.set()
    changer.join()
    eq(len(seen), 4, "clients that came to the end")
    for sent, got in seen:
        eq(got, sent, "what comes back")


@story
def bodies(lab):
    # Of known length, plain, unread by filters: they pass by the codecs, up and down; the connections go on as ever.
    size = 5 << 20
    block = BLOCK * (size >> 16)
    want = hashlib.sha256(block).hexdigest()
    got = []

    def reply(c, r):
        got.append(hashlib.sha256(r.body).hexdigest() if r.body else None)
        c.send(answer(200, block if r.target == "/big" else b"ok"))
    up = lab.upstream(reply)
    for policy in ("auto", "pipe", "copy"):
        w = lab.weir(up, kernel={"splice": policy}, workers=1)
        opened = len(up.conns)
        with w.client() as c:
            for i in range(3):
                c.send(text_of("GET /big", []))
                r = c.response()
                eq((r.status, hashlib.sha256(r.body).hexdigest()), (200, want), policy + ": down")
                c.send(text_of("POST /up", [], block) + text_of("GET /big", []))  # one behind the other
                eq(c.response().body, b"ok", policy + ": up")
                eq(hashlib.sha256(c.response().body).hexdigest(), want, policy + ": the next one")
                eq([d for d in got if d], [want] * (i + 1), policy + ": what the upstream got")
        got.clear()
        eq(len(up.conns) - opened, 1, policy + ": one connection to the server for all")
        lines = w.access(9)
        eq([line.get("mover") for line in lines], [None if policy == "copy" else "pipe"] * 9, policy + ": the log")
        eq((lines[0]["bytes_out"], lines[1]["bytes_in"]), (size, size), policy + ": bytes")
        w.settle(True)
        total = [sum(w.metric("weir_bytes_total", side=s, direction=d, mover=m) for m in ("copy", "pipe"))
                 for s, d in (("down", "in"), ("up", "out"), ("up", "in"), ("down", "out"))]
        eq(total, [3 * size] * 2 + [6 * size + 6] * 2, policy + ": counted")
        eq(w.metric("weir_bytes_total", mover="pipe") > 15 * size, policy != "copy", policy + ": by whom")
        eq(w.metric("weir_splice_active"), 0, policy + ": nothing is left")


@story
def bodies_that_break(lab):
    # Cut, reset, stopped and timed out in the middle: the same with each mover.
    def script(c):
        r = c.head()
        if r.target == "/up":
            c.take(1 << 20)
            c.send(answer(413, b"too much"))
            return
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (8 << 20))
        c.send(BLOCK * 32)
        if r.target == "/reset":
            time.sleep(0.2)
            c.reset()
        if r.target == "/stall":
            c.rest()
    for policy in ("pipe", "copy"):
        w = lab.weir(lab.upstream(script=script), kernel={"splice": policy}, timeouts={"idle": "%dms" % (700 * SLOW), "send": "%dms" % (700 * SLOW)})
        for path, code in (("/cut", "EUPBODY"), ("/reset", None), ("/stall", "EUPIDLE")):
            with w.client() as c:
                c.send(text_of("GET " + path, []))
                eq(c.head().status, 200, path)
                n = len(c.buffer)
                c.buffer = b""
                try:
                    while c.more():
                        n += len(c.buffer)
                        c.buffer = b""
                    raise AssertionError("%s, %s: a clean end" % (policy, path))
                except ConnectionError:
                    pass
                ok(n <= 32 << 16, "no more than came", n)
            line = w.access()[-1]
            ok(line["error"]["by"] == "upstream" and (not code or line["error"]["code"] == code), "%s, %s: the log" % (policy, path), line)
        with w.client() as c:  # refused early: the answer arrives
            sender = threading.Thread(target=lambda: swallow(lambda: c.send(text_of("POST /up", [], BLOCK * 256))))
            sender.start()
            eq(c.response().status, 413, policy + ": an early answer")
            sender.join()
        # a client that does not read is timed, one that leaves ends it
        w2 = lab.weir(lab.upstream(lambda c, r: c.send(answer(200, BLOCK * 512))), kernel={"splice": policy}, timeouts={"send": "%dms" % (700 * SLOW)})
        with w2.client(rcvbuf=65536) as c:
            c.send(text_of("GET /", []))
            eq(w2.access(1)[0]["error"]["code"], "ESENDTIME", policy + ": a client that does not read")
        c = w2.client(rcvbuf=65536)
        c.send(text_of("GET /", []))
        c.head()
        c.reset()
        eq(w2.access(2)[1]["error"]["by"], "client", policy + ": one that leaves")
        for x in (w, w2):
            x.settle(True)
            eq(x.metric("weir_splice_active"), 0, policy + ": nothing is left")


def swallow(fn):
    try:
        fn()
    except OSError:
        pass


@story
def levels(lab):
    # A listener and a route may say otherwise; off at the top is off everywhere.
    up = lab.upstream(script=mirror)
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


HOARD = """import os, time
os.setgroups([]); os.setgid(65534); os.setuid(65534)
pipes = [os.pipe() for _ in range(%d)]
print("full", flush=True)
time.sleep(120)"""


@story
def rule_18_a_user_with_too_many_pipes(lab):
    # Beyond fs.pipe-user-pages-soft a user gets pipes of 8 KiB, which would cost more than they save: copied, and said why.
    with open("/proc/sys/fs/pipe-user-pages-soft", encoding="ascii") as f:
        pages = int(f.read())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    pipes = pages // 16 + 8
    if os.geteuid() != 0 or not pages or 2 * pipes + 16 > hard:
        raise Skip("needs root, and room for %d descriptors" % (2 * pipes))
    resource.prlimit(0, resource.RLIMIT_NOFILE, (hard, hard))
    hoard = subprocess.Popen([sys.executable, "-c", HOARD % pipes], stdout=subprocess.PIPE)
    try:
        eq(hoard.stdout.readline(), b"full\n", "the user has as many as it may")
        w = lab.weir(lab.upstream(script=mirror), listener=TCP, user="nobody", kernel={"splice": "pipe"})
        with w.client() as c:
            sent, got = pour(c, 64)
            eq(got, sent, "what comes back")
        eq(w.access(1)[0]["mover"], "copy", "the log")
        ok(w.metric("weir_splice_fallback_total", reason="pipe_size") > 0, "why")
    finally:
        hoard.kill()
        hoard.wait()


@story
def the_doctor_tries_a_pipe(lab):
    def line(*args):
        return next(text for text in lab.cli("doctor", *args)[1].splitlines() if "splice: pipe" in text)
    has(line(), "good here, by pipes of 64 KiB", "the doctor's finding")
    path = lab.write("much.yaml", "listeners: { a: { bind: '127.0.0.1:1', to: b } }\nupstreams: { b: { servers: ['127.0.0.1:1'] } }\n"
                                  "kernel: { splice_memory: 1TiB }\n")
    has(line("-c", path), "beyond that it is copied", "more than a user may have")


main()
