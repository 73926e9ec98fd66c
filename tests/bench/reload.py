#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A hundred reloads under load: does any request fail, and does memory stay?

  reload.py [-n RELOADS] [--clients N] [BINARY]        about a minute; prints one line for docs/performance.md

client processes (kept connections, new ones, TLS) ── weir ── an upstream process
Each reload changes an answer of weir's own, adds a listener and takes away the one before, changes the servers of the
upstream and the certificate; a client then sees each of them. Memory is the resident set when all snapshots but one are gone.
"""
import argparse
import multiprocessing
import os
import socket
import ssl
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests/tools"))
options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("-n", type=int, default=100)
options.add_argument("--clients", type=int, default=3)
options.add_argument("binary", nargs="?", default=os.path.join(TOP, "build/release/weir"))
args = options.parse_args()
os.environ["WEIR"] = args.binary
from certs import Authority  # noqa: E402
from weirlab import Cut, Lab, address, dial, text_of, wait  # noqa: E402


def upstream(port):
    """Answers everything by `up`, on a kept connection."""
    import selectors
    chooser, listener = selectors.DefaultSelector(), socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(port)
    listener.listen(1024)
    chooser.register(listener, selectors.EVENT_READ)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup"
    while True:
        for key, _ in chooser.select():
            if key.fileobj is listener:
                conn, _ = listener.accept()
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                chooser.register(conn, selectors.EVENT_READ)
                continue
            try:
                data = key.fileobj.recv(65536)
                if data:
                    key.fileobj.sendall(answer * data.count(b"\r\n\r\n"))
            except OSError:
                data = b""
            if not data:
                chooser.unregister(key.fileobj)
                key.fileobj.close()


def client(where, tls, keep, stop, out):
    """Asks until it is stopped; every fault is one."""
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    count, faults, conn, text = 0, [], None, text_of("GET /")
    while not stop.is_set():
        try:
            conn = conn or dial(where, tls=context, sni="a.test" if tls else None)
            conn.send(text)
            r = conn.response()
            if r.status != 200 or r.body != b"up":
                faults.append("%d %r" % (r.status, r.body[:80]))
            count += 1
            if not keep or r.get("connection") == "close":
                conn.close()
                conn = None
        except (OSError, Cut) as e:
            faults.append(repr(e))
            conn = None
    out.put((count, faults[:3], len(faults)))


def spawn(target, *rest):
    process = multiprocessing.Process(target=target, args=rest, daemon=True)
    process.start()
    return process


def seen(lab_ca, w, i, reply, extra, secure):
    """A client sees the answer, the listener and the certificate of reload i."""
    for where, body in ((reply, b"r%d" % i), (extra, b"e%d" % i)):
        with dial(where) as c:
            if c.send(text_of("GET /")).response().body != body:
                raise SystemExit("reload %d is not seen at %s" % (i, where))
    with dial(secure, tls=lab_ca.client(), sni="a.test") as c:
        names = [v for _, v in c.sock.getpeercert()["subjectAltName"]]
        if "n%d.test" % (i % 4) not in names:
            raise SystemExit("reload %d: its certificate is not seen: %r" % (i, names))


def rest(w):
    wait(lambda: w.status()["snapshots"] == 1, "old snapshots are freed", 30)
    time.sleep(1)
    return w.rss()


def run(lab):
    ups = [address() for _ in range(3)]
    workers = [spawn(upstream, tuple([a.split(":")[0], int(a.split(":")[1])])) for a in ups]
    ca = Authority(lab)
    pairs = [ca.issue("a.test", "n%d.test" % i, file="n%d" % i) for i in range(4)]
    secure, reply = address(), address()
    own = lambda text: [{"name": "all", "reply": {"status": 200, "body": text}}]  # noqa: E731
    w = lab.weir(servers=ups[:2], access_log="off", listeners={
        "secure": {"bind": secure, "tls": {"cert": pairs[0][0], "key": pairs[0][1]}, "to": "app"},
        "reply": {"bind": reply, "routes": own("r0")}})
    stop, out = multiprocessing.Event(), multiprocessing.Queue()
    kinds = [(w.address, False, True), (w.address, False, False), (secure, True, True), (secure, True, False)]
    clients = [spawn(client, *kinds[i % 4], stop, out) for i in range(args.clients * 4)]
    took, memory, started = [], {}, time.monotonic()
    for i in range(1, args.n + 1):
        extra = address()
        w.config["listeners"]["reply"]["routes"] = own("r%d" % i)
        w.config["listeners"]["secure"]["tls"] = dict(zip(("cert", "key"), pairs[i % 4]))
        w.config["listeners"].pop("extra%d" % (i - 1), None)
        w.config["listeners"]["extra%d" % i] = {"bind": extra, "routes": own("e%d" % i)}
        w.config["upstreams"]["app"]["servers"] = [ups[i % 3], ups[(i + 1) % 3]]
        took.append(w.reload()["took_ms"])
        seen(ca, w, i, reply, extra, secure)
        if i in (args.n // 5, args.n):
            memory[i] = rest(w)
    seconds = time.monotonic() - started
    stop.set()
    ends = [out.get(timeout=30) for _ in clients]
    for process in clients + workers:
        process.terminate()
    count, faults = sum(e[0] for e in ends), sum(e[2] for e in ends)
    for _, first, _ in ends:
        for fault in first:
            print("fault:", fault)
    took.sort()
    first, last = memory[args.n // 5] / 1024, memory[args.n] / 1024
    print("%d reloads, %d requests (%d/s) meanwhile: %d failed; a reload %d ms (median), %d ms (slowest); resident %.0f KiB after %d, "
          "%.0f KiB after %d (%+.1f %%)" % (args.n, count, count / seconds, faults, took[len(took) // 2], took[-1], first, args.n // 5,
                                           last, args.n, (last / first - 1) * 100))
    return faults == 0


def main():
    lab, good = Lab(), False
    try:
        good = run(lab)
    finally:
        lab.end(not good)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
