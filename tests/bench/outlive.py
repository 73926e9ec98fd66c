#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The proxy is killed by SIGKILL under load: what do tunnels in the kernel, and requests, know of it?

  outlive.py [-n KILLS] [--tunnels N] [--rate R] [BINARY]     a minute; prints one line for docs/performance.md

Half of the tunnels go to and fro in small pieces, half pour hashed bytes both ways and read slowly. Requests come at a steady
rate, each on a connection of its own, in a process of their own. Needs root (BPF).
"""
import argparse
import asyncio
import hashlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests/tools"))
options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("-n", type=int, default=5)
options.add_argument("--tunnels", type=int, default=200)
options.add_argument("--rate", type=int, default=500)
options.add_argument("binary", nargs="?", default=os.path.join(TOP, "build/release/weir"))
args = options.parse_args()
os.environ["WEIR"] = args.binary
from weirlab import Lab, address, wait  # noqa: E402

REQUEST = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup"
AHEAD = 4 << 20  # bytes that are on their way, of a tunnel that pours: more than the kernel may hold of both directions
STEADY = float(os.environ.get("STEADY", "11"))  # seconds: then a proxy that is killed is none that crashes at its start


def place(text):
    host, port = text.split(":")
    return host, int(port)


async def mirror(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        pass


async def web(reader, writer):
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(ANSWER)
    except (OSError, asyncio.IncompleteReadError):
        writer.close()


def upstream(where, serve):
    async def run():
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for name in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            listener.setsockopt(socket.SOL_SOCKET, name, 262144)
        listener.bind(place(where))
        async with await asyncio.start_server(serve, sock=listener, limit=1 << 16, backlog=1024) as server:
            await server.serve_forever()
    asyncio.run(run())


# ---- tunnels, in a process of their own ----

async def exact(reader, writer, data):
    writer.write(data)
    got = await reader.readexactly(len(data))
    if got != data:
        raise ValueError("another answer")


async def ping_pong(reader, writer, until):
    while not until.is_set():
        await exact(reader, writer, os.urandom(128))
        await asyncio.sleep(0.01)


async def pour(reader, writer, until):
    sent, got, block = hashlib.sha256(), hashlib.sha256(), os.urandom(16384)

    async def write():
        while not until.is_set():
            if count[0] - count[1] > AHEAD:
                await asyncio.sleep(0.01)
                continue
            writer.write(block)
            sent.update(block)
            count[0] += len(block)
            await writer.drain()
        writer.write_eof()
    count = [0, 0]
    writing = asyncio.create_task(write())
    while data := await reader.read(16384):
        got.update(data)
        count[1] += len(data)
        if not until.is_set():
            await asyncio.sleep(0.05)
    await writing
    if sent.digest() != got.digest():
        raise ValueError("another hash")


async def tunnel(i, where, until, out):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262144)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 262144)
    sock.connect(place(where))
    sock.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=sock, limit=16384)
    await exact(reader, writer, b"hello")
    out.append(None)
    while not until.go:
        await asyncio.sleep(0.05)
    try:
        await (pour if i % 2 else ping_pong)(reader, writer, until)
        if not i % 2:
            writer.write_eof()
            if await reader.read():
                raise ValueError("more bytes")
    except (OSError, ValueError, asyncio.IncompleteReadError) as e:
        return "tunnel %d: %r" % (i, e)
    finally:
        writer.close()
    return None


class Until(asyncio.Event):
    go = False


def tunnels(where, ready, go, stop, faults):
    async def run():
        until, out = Until(), []
        tasks = [asyncio.create_task(tunnel(i, where, until, out)) for i in range(args.tunnels)]
        while len(out) < args.tunnels:
            await asyncio.sleep(0.05)
        ready.set()
        while not go.is_set():
            await asyncio.sleep(0.05)
        until.go = True
        while not stop.is_set():
            await asyncio.sleep(0.05)
        until.set()
        faults.put([fault for fault in await asyncio.gather(*tasks) if fault])
    asyncio.run(run())


# ---- requests, in another one ----

def ask(where, rows):
    begun = time.monotonic()
    what = "refused"
    try:
        with socket.create_connection(where, timeout=10) as s:
            what = "reset"
            s.sendall(REQUEST)
            data = b""
            while more := s.recv(4096):
                data += more
            what = "ok" if data.startswith(b"HTTP/1.1 200 ") and data.endswith(b"up") else "cut" if data else "reset"
    except OSError:
        pass
    rows.append((begun, time.monotonic(), what))


def requests(where, stop, out):
    rows, lanes = [], 16

    def lane(k):
        due = time.monotonic() + k / args.rate
        while not stop.is_set():
            due += lanes / args.rate
            time.sleep(max(0, due - time.monotonic()))
            ask(where, rows)
    threads = [threading.Thread(target=lane, args=(k,)) for k in range(lanes)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    out.put(rows)


def spawn(target, *rest):
    process = multiprocessing.Process(target=target, args=rest, daemon=True)
    process.start()
    return process


def back(rows, at):
    """Milliseconds from the kill to the first answer to who came after it."""
    return min(end - at for begun, end, what in rows if begun > at and what == "ok") * 1000


def run(lab):
    far, near, raw = address(), address(), address()
    processes = [spawn(upstream, far, mirror), spawn(upstream, near, web)]
    w = lab.weir(servers=[near], access_log="off", kernel={"sockmap_after": 0}, listeners={
        "raw": {"bind": raw, "protocol": "tcp", "splice": "sockmap", "to": "far"}}, upstreams={"far": {"servers": [far]}})
    ready, go, stop = (multiprocessing.Event() for _ in range(3))
    faults, out = multiprocessing.Queue(), multiprocessing.Queue()
    processes += [spawn(tunnels, raw, ready, go, stop, faults), spawn(requests, place(w.address), stop, out)]
    kills = []
    ready.wait(60)
    wait(lambda: w.metric("weir_splice_kept") == args.tunnels, "all are in the kernel, and kept", 30)
    go.set()
    time.sleep(STEADY)
    for _ in range(args.n):
        kills.append(time.monotonic())
        os.kill(w.pid, signal.SIGKILL)
        time.sleep(STEADY)
        print("killed: %d tunnels go on, %d are in the kernel" % (w.metric("weir_splice_kept"), w.metric("weir_splice_active", mover="sockmap") / 2))
    left = w.metric("weir_splice_kept")
    stop.set()
    rows, cut = out.get(timeout=60), faults.get(timeout=120)
    for process in processes:
        process.terminate()
    for fault in cut[:5]:
        print("fault:", fault)
    count = {what: sum(row[2] == what for row in rows) for what in ("ok", "refused", "reset", "cut")}
    print("%d tunnels, %d requests/s, killed %d times: %d tunnels cut (%d kept at the end), %d connections refused, %d requests "
          "reset that were under way of %d; back in %s ms" % (
              args.tunnels, args.rate, args.n, len(cut), left, count["refused"], count["reset"] + count["cut"], len(rows),
              ", ".join("%.0f" % back(rows, at) for at in kills)))
    w.settle(True)


def main():
    lab = Lab()
    try:
        run(lab)
    finally:
        lab.end(False)


main()
