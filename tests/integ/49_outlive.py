#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tunnels that the kernel moves outlive their proxy: it is killed in the middle, and the next one goes on with them."""
import hashlib
import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import SLOW, eq, lives, main, may_use_bpf, mirror, ok, story, wait  # noqa: E402

TCP = {"protocol": "tcp"}
AT_ONCE = {"splice": "sockmap", "sockmap_after": 0}
BLOCK = os.urandom(1 << 16)


def say(c, text):
    c.send(text)
    eq(c.take(len(text)), text, "what comes back")


def kept(w, count):
    wait(lambda: w.metric("weir_splice_kept") == count, "%d tunnels are kept" % count)


def kill(w):
    """The proxy, in the middle of whatever it does; and the next one serves."""
    old, starts = w.pid, w.log().count("is ready")
    os.kill(old, signal.SIGKILL)
    wait(lambda: w.log().count("is ready") > starts and w.pid not in (old, w.process.pid), "another proxy")


def rows(w):
    return [row for row in w.admin("/v1/splice").json()["connections"] if row["what"] == "tunnel"]


@story
def goes_on(lab):
    # Idle in the kernel: bytes pass before the next one is there, and behind that; it is shown, and logged, as one.
    w = lab.weir(lab.upstream(script=mirror), listener=TCP, kernel=AT_ONCE)
    with w.client() as c:
        say(c, b"before")
        kept(w, 1)
        os.kill(w.pid, signal.SIGKILL)
        say(c, b"between" * 1000)
        wait(lambda: w.log().count("is ready") == 2, "another proxy")
        kept(w, 1)
        say(c, b"behind")
        wait(lambda: len(rows(w)) == 1 and rows(w)[0]["in"]["bytes"] == 7012, "it is shown, with all its bytes")
        row = rows(w)[0]
        eq([row[way]["mover"] for way in ("in", "out")], ["sockmap"] * 2, "in the kernel")
        eq(w.metric("weir_requests_in_flight"), 1, "it counts")
    line = w.access(1)[0]
    eq((line["mover"], line["bytes_in"], line["bytes_out"], line["upstream"], line["route"]), ("sockmap", 7012, 7012, "app", "app"), "the log")
    ok("error" not in line, "a clean end", line)
    w.settle(True)
    kept(w, 0)
    eq(w.metric("weir_splice_active", mover="sockmap"), 0, "nothing is left")


def reset(c):
    """It ends by RST, and not by an end that could be taken for one."""
    try:
        ok(not c.more(), "nothing more comes")
    except ConnectionError:
        return
    raise AssertionError("a clean end")


@story
def ends(lab):
    # FIN behind it, of either side, and in between, when nobody has the sockets; half-closed before, either way.
    got = []

    def script(c):
        first = c.take(6)
        if first == b"upfin.":
            c.half()
            got.append(c.rest())
            return
        c.send(first)
        while c.more():
            c.send(c.buffer)
            c.buffer = b""
        if first == b"halfd.":
            wait(lambda: w.log().count("is ready") == 2, "another proxy")
        c.send(b"last words")
        c.half()
    w = lab.weir(lab.upstream(script=script), listener=TCP, kernel=AT_ONCE)
    clients = {name: w.client() for name in (b"behind", b"betwee", b"halfd.")}
    for name, c in clients.items():
        say(c, name)
        say(c, BLOCK)
    up = w.client()
    kept(w, 4)
    up.send(b"upfin.")
    ok(not up.more(), "the upstream's end, and the client goes on")
    clients[b"halfd."].half()
    time.sleep(0.3)
    os.kill(w.pid, signal.SIGKILL)
    clients[b"betwee"].half()
    wait(lambda: w.log().count("is ready") == 2, "another proxy")
    eq(clients[b"betwee"].rest(), b"last words", "FIN when nobody was there")
    eq(clients[b"halfd."].rest(), b"last words", "half-closed before")
    say(clients[b"behind"], BLOCK)
    clients[b"behind"].half()
    eq(clients[b"behind"].rest(), b"last words", "FIN behind it")
    lines = w.access(3)
    ok(not any("error" in line for line in lines), "clean ends", lines)
    eq(sorted(line["bytes_out"] for line in lines), [len(BLOCK) + 16] * 2 + [2 * len(BLOCK) + 16], "bytes, counted on")


@story
def half_closed_by_the_upstream(lab):
    got = []

    def script(c):
        c.send(c.take(5))
        time.sleep(0.6)
        c.send(b"all")
        c.half()
        got.append(c.rest())
    w = lab.weir(lab.upstream(script=script), listener=TCP, kernel=AT_ONCE)
    with w.client() as c:
        say(c, b"hello")
        kept(w, 1)
        eq(c.rest(), b"all", "its end")
        c.send(b"before ")
        kill(w)
        kept(w, 1)
        c.send(b"behind")
        c.half()
        wait(lambda: got == [b"before behind"], "all of it")
    line = w.access(1)[0]
    eq((line["bytes_in"], line["bytes_out"], line.get("error")), (18, 8, None), "the log")


@story
def resets_and_idle_ones(lab):
    idle = 1.5 * SLOW
    w = lab.weir(lab.upstream(script=mirror), listener=TCP, kernel=AT_ONCE, timeouts={"tunnel": "%dms" % (idle * 1000)})
    silent, gone, there = w.client(), w.client(), w.client()
    for c in (silent, gone, there):
        say(c, b"hello")
    kept(w, 3)
    os.kill(w.pid, signal.SIGKILL)
    gone.reset()
    wait(lambda: w.log().count("is ready") == 2, "another proxy")
    for _ in range(4):
        time.sleep(idle / 4)
        say(there, b"alive")
    reset(silent)
    say(there, b"alive")
    there.close()
    codes = sorted(line.get("error", {}).get("code", "") for line in w.access(3))
    eq(codes[0::2], ["", "ETIMEDOUT"], "what the log says of them: %s" % codes)
    ok(codes[1] in ("ERESET", "ECLIENTGONE"), "of the one that was reset", codes)
    silent.close()
    kept(w, 0)


def ping_pong(c, until, failed):
    dice = random.Random(id(c))
    try:
        while not until.is_set():
            say(c, BLOCK[:dice.choice((1, 100, 5000))])
            time.sleep(dice.random() * 0.01)
        c.half()
        eq(c.rest(), b"", "the end")
    except Exception as e:  # pylint: disable=broad-except
        failed.append("ping-pong: %r" % e)


def pour(c, until, failed, slow):
    """Hashed both ways, until told: what the mirror sends back is what it was sent. It reads more slowly than it sends."""
    sent, got, cut = hashlib.sha256(), hashlib.sha256(), []

    def write():
        try:
            while not until.is_set():
                c.send(BLOCK)
                sent.update(BLOCK)
            c.half()
        except OSError as e:
            cut.append("bulk, sending: %r" % e)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        while c.more():
            got.update(c.buffer)
            c.buffer = b""
            if slow and not until.is_set():
                time.sleep(0.002)
    except OSError as e:
        cut.append("bulk: %r" % e)
    writer.join()
    if not cut and sent.digest() != got.digest():
        cut.append("bulk: another hash")
    failed.extend(cut[:1])


@story
def many_and_often(lab):
    # Three times in the middle of all that can be in the middle.
    w = lab.weir(lab.upstream(script=mirror, rcvbuf=65536), listener=TCP, kernel=AT_ONCE)
    until, failed, clients = threading.Event(), [], []
    for i in range(32):
        c = w.client(rcvbuf=65536 if i % 2 else None)
        c.sock.settimeout(60 * SLOW)
        clients.append(c)
        say(c, b"hello")
    kept(w, 32)  # who never pauses would not get into the kernel
    threads = [threading.Thread(target=pour if i % 2 else ping_pong, args=(c, until, failed, *((i % 4 == 1,) if i % 2 else ())))
               for i, c in enumerate(clients)]
    for t in threads:
        t.start()
    loose = 0  # tunnels that are not in the kernel when their proxy is killed: those are cut

    def out():
        return max(0, int(w.metric("weir_requests_in_flight") - w.metric("weir_splice_kept")))
    for _ in range(3):
        end = time.monotonic() + 5 * SLOW
        while out() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
        loose += out()
        kill(w)
    time.sleep(0.5)
    until.set()
    for t in threads:
        t.join()
    ended = [line["error"]["code"] for line in w.access() if "error" in line]
    eq([text for text in failed if "hash" in text], [], "every byte is right")
    eq(set(ended) - {"ETWICE"}, set(), "none was cut, but where TCP has sent again (19)")
    ok(len(ended) + loose <= 2 and bool(failed) <= bool(ended or loose), "nor many", (failed, ended, loose))
    for c in clients:
        c.close()
    kept(w, 0)
    eq(w.metric("weir_splice_active"), 0, "nothing is left")


@story
def a_stop_ends_them(lab):
    w = lab.weir(lab.upstream(script=mirror), listener=TCP, kernel=AT_ONCE, shutdown={"tunnels": "300ms", "drain": "300ms"})
    with w.client() as c:
        say(c, b"hello")
        kept(w, 1)
        kill(w)
        kept(w, 1)
        w.stop()
        reset(c)


@story
def one_that_crashes_again_and_again(lab):
    # Tunnels may be why: they are let go, by RST.
    w = lab.weir(lab.upstream(script=mirror), listener=TCP, kernel=AT_ONCE)
    with w.client() as c:
        say(c, b"hello")
        for _ in range(3):
            kept(w, 1)
            kill(w)
        say(c, b"still there")
        kept(w, 1)
        kill(w)
        reset(c)


@story
def the_keeper_becomes_another_binary(lab):
    w = lab.weir(lab.upstream(script=mirror), listener=TCP, kernel=AT_ONCE, shutdown={"tunnels": "60s"})
    old = w.pid
    with w.client() as c:
        say(c, b"of the old one")
        kept(w, 1)
        w.kick(signal.SIGUSR2)
        wait(lambda: "the keeper is weir" in w.log() and not lives(old), "the upgrade")
        kept(w, 1)
        d = w.client()
        say(d, b"of the new one")
        kept(w, 2)
        kill(w)
        say(d, b"goes on")
        say(c, b"and that one, too")
        d.close()


if not may_use_bpf():
    print("skipped: this process may not use BPF")
    sys.exit(77)
main()
