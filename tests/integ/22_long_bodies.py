#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bodies of 10 GiB, each way and both framings: every byte arrives, and the proxy holds none of them for long. Too long
for every time: with $WEIR_LONG, which scripts/test --long sets."""
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import SLOW, Skip, eq, main, ok, story, text_of  # noqa: E402

LENGTH = 10 << 30  # more than 32 bits count
WARM = 64 << 20  # code and buffers are touched once before it is measured
GROWN_MAX = 256 << 10  # bytes of resident memory
SECONDS_MAX = 180
PIECE = 1 << 20
BLOCK = bytes(range(256)) * (PIECE // 256)


def long_story(function):
    def run(lab):
        if not os.environ.get("WEIR_LONG"):
            raise Skip("WEIR_LONG is not set")
        if SLOW > 1:
            raise Skip("a sanitizer's memory says nothing")
        function(lab)
    run.__name__ = function.__name__
    return story(run)


def pour(sock, total, chunked=False):
    """Sends that many bytes of the pattern."""
    left = total
    while left:
        piece = memoryview(BLOCK)[:min(PIECE, left)]
        if chunked:
            sock.sendall(b"%x\r\n" % len(piece))
        sock.sendall(piece)
        if chunked:
            sock.sendall(b"\r\n")
        left -= len(piece)
    if chunked:
        sock.sendall(b"0\r\n\r\n")


def drink(sock, begun, total):
    """Reads that many bytes, those of `begun` first; each is looked at in one piece of 64."""
    buffer, view, got, pieces = bytearray(PIECE), None, len(begun), 0
    eq(begun, (BLOCK * 2)[:len(begun)], "the first bytes")
    view = memoryview(buffer)
    while got < total:
        n = sock.recv_into(view, min(PIECE, total - got))
        if not n:
            break
        if pieces % 64 == 0 or got + n == total:
            at = got % 256
            ok(buffer[:n] == (BLOCK + BLOCK[:256])[at:at + n], "the bytes at %d are those that were sent" % got)
        got += n
        pieces += 1
    return got


class Memory:
    """The highest resident size since it was made, above that of before (the kernel keeps it)."""

    def __init__(self, w):
        self.w, self.before = w, w.rss()
        with open("/proc/%d/clear_refs" % w.pid, "w", encoding="ascii") as f:
            f.write("5")

    def grown(self):
        with open("/proc/%d/status" % self.w.pid, encoding="ascii") as f:
            return int(re.search(r"VmHWM:\s+(\d+)", f.read())[1]) * 1024 - self.before


def measure(what, w, transfer):
    transfer(WARM)
    w.settle()
    memory, started = Memory(w), time.monotonic()
    transfer(LENGTH)
    seconds = time.monotonic() - started
    grown = memory.grown()
    print("      %s: %.1f s, %.2f GiB/s, %d KiB grown" % (what, seconds, LENGTH / seconds / (1 << 30), grown >> 10))
    ok(grown <= GROWN_MAX, "%s: memory (bytes)" % what, grown)
    ok(seconds <= SECONDS_MAX, "%s: time (s)" % what, seconds)


@long_story
def an_upload(lab):
    got = []

    def script(c):
        while True:
            try:
                length = int(c.head().get("content-length"))
            except Exception:
                return
            begun, c.buffer = c.buffer, b""
            got.append(drink(c.sock, begun, length))
            c.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    w = lab.weir(lab.upstream(script=script), workers=1)
    with w.client() as c:
        c.sock.settimeout(60)

        def transfer(length):
            c.send(text_of("POST /", [("Content-Length", str(length))]))
            pour(c.sock, length)
            eq(c.response().status, 200, "answer")
        measure("upload", w, transfer)
    eq(got, [WARM, LENGTH], "bytes at the upstream")
    eq(w.access(2)[1]["bytes_in"] >= LENGTH, True, "the log counts beyond 32 bits")


@long_story
def a_download(lab):
    def reply(c, r):
        length = int(r.target[1:])
        c.send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
        pour(c.sock, length)
    w = lab.weir(lab.upstream(reply), workers=1)
    with w.client() as c:
        c.sock.settimeout(60)

        def transfer(length):
            c.send(text_of("GET /%d" % length))
            eq(c.head().get("content-length"), str(length), "Content-Length")
            begun, c.buffer = c.buffer, b""
            eq(drink(c.sock, begun, length), length, "bytes at the client")
        measure("download", w, transfer)
    eq(w.access(2)[1]["bytes_out"] >= LENGTH, True, "the log counts beyond 32 bits")


@long_story
def an_upload_in_chunks(lab):
    # Framing is undone and done again; the upstream counts what comes, chunk heads and all.
    counted = []

    def script(c):
        while True:
            try:
                c.head()
            except Exception:
                return
            total, tail = len(c.buffer), c.buffer[-5:]
            buffer = bytearray(PIECE)
            while tail != b"0\r\n\r\n":
                n = c.sock.recv_into(buffer, PIECE)
                if not n:
                    return
                total += n
                tail = (tail + bytes(buffer[max(0, n - 5):n]))[-5:]
            c.buffer = b""
            counted.append(total)
            c.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    w = lab.weir(lab.upstream(script=script), workers=1)
    with w.client() as c:
        c.sock.settimeout(60)

        def transfer(length):
            c.send(text_of("POST /", [("Transfer-Encoding", "chunked")]))
            pour(c.sock, length, chunked=True)
            eq(c.response().status, 200, "answer")
        measure("upload in chunks", w, transfer)
    ok(LENGTH < counted[1] < LENGTH * 1.01, "bytes at the upstream, with their framing", counted)


main()
