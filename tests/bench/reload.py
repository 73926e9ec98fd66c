#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A hundred reloads under load: does any request fail, and does memory stay?

  reload.py [-n RELOADS] [--clients N] [BINARY]        about a minute; prints one line for docs/performance.md

client processes (kept connections, new ones, TLS) ── weir ── an upstream process
Each reload changes an answer of weir's own, adds a listener and takes away the one before, changes the servers of the
upstream and the certificate; a client then sees each of them. Memory is the resident set when all snapshots but one are gone.
"""
import argparse
import os
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
from load import Load, main, spawn, upstream  # noqa: E402
from weirlab import address, dial, text_of, wait  # noqa: E402


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
    load = Load([(w.address, False, True), (w.address, False, False), (secure, True, True), (secure, True, False)] * args.clients)
    took, memory = [], {}
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
    load.end()
    for process in workers:
        process.terminate()
    took.sort()
    first, last = memory[args.n // 5] / 1024, memory[args.n] / 1024
    print("%d reloads, %d requests (%d/s) meanwhile: %d failed; a reload %d ms (median), %d ms (slowest); resident %.0f KiB after %d, "
          "%.0f KiB after %d (%+.1f %%)" % (args.n, load.count, load.rate, load.faults, took[len(took) // 2], took[-1], first, args.n // 5,
                                           last, args.n, (last / first - 1) * 100))
    return load.faults == 0


if __name__ == "__main__":
    main(run)
