#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Everything at once: peers on both sides do any of the things of the other tests, at random. Nothing may be left behind."""
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from certs import Authority  # noqa: E402
from weirlab import SLOW, Cut, Wrong, answer, chunk, eq, has, main, ok, story, text_of, wait  # noqa: E402

SECONDS = 4
WEBSOCKET = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def server(rng):
    """A script for connections of an upstream."""
    def script(c):
        c.sock.settimeout(2)
        while True:
            if not c.buffer and not c.more():
                return
            r = c.head()
            act = rng.choice(("good",) * 8 + ("early", "cut", "rst", "junk", "silent", "late", "hints", "stray", "close", "busy", "old"))
            if act == "early":
                c.send(answer(200, "early"))
            elif act == "rst":
                c.reset()
                return
            elif act == "silent":
                time.sleep(0.2)
                return
            if r.get("upgrade") and act == "good":
                c.send(SWITCH + b"hello")
                while c.more():
                    c.send(c.buffer)
                    c.buffer = b""
                return
            if r.get("expect"):
                c.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            c.body(r)
            if act == "hints":
                c.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3)
            elif act == "late":
                time.sleep(rng.random() * 0.1)
            elif act == "junk":
                c.send(rng.choice((b"\x00\x01\x02\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 200")))
                return
            elif act == "old":
                c.send(b"HTTP/1.0 200 OK\r\n\r\nold" + b"o" * rng.randrange(100000))
                return
            size = rng.choice((0, 5, 1000, 100000))
            if act == "busy":
                c.send(answer(503, "busy"))
            elif act == "cut":
                c.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (size + 5) + b"b" * size)
                return
            elif act == "stray":  # in one piece: later, it could not be told from the answer to the next request
                c.send(answer(200, b"" if r.method == "HEAD" else b"good") + answer(200, "EVIL"))
            elif act != "early":
                if rng.random() < 0.5:
                    c.send(answer(200, b"" if r.method == "HEAD" else b"b" * size))
                else:
                    c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    if r.method != "HEAD":
                        c.send(chunk("c" * 10) + (chunk(b"d" * size) if size else b"") + b"0\r\nX-T: 1\r\n\r\n")
            if act == "close":
                return
    return script


def client(rng, connect, seen):
    """One connection of a client, from its beginning to its end."""
    with connect() as c:
        c.sock.settimeout(4 * SLOW)
        for _ in range(rng.randrange(1, 6)):
            method = rng.choice(("GET", "GET", "HEAD", "POST", "PUT", "DELETE"))
            fields, body = [], b""
            if method in ("POST", "PUT"):
                body = b"x" * rng.choice((0, 1, 3000, 90000, 400000))
                if rng.random() < 0.5:
                    fields.append(("Content-Length", str(len(body))))
                else:
                    fields.append(("Transfer-Encoding", "chunked"))
                    body = b"".join(chunk(body[at:at + 7777]) for at in range(0, len(body), 7777)) + b"0\r\n\r\n"
                if rng.random() < 0.2:
                    fields.append(("Expect", "100-continue"))
            if rng.random() < 0.2:
                fields.append(("TE", "trailers"))
            if method == "GET" and rng.random() < 0.15:
                fields += WEBSOCKET
            data = text_of("%s /%s" % (method, rng.choice(("a", "reply", "limited", "x?y=1"))), fields) + body
            act = rng.choice(("good",) * 10 + ("rst", "fin", "half", "junk", "pipeline", "sips"))
            if act == "pipeline" and len(fields) > 3:
                act = "good"  # what follows a switch is the tunnel's
            if act in ("rst", "fin", "half", "junk"):
                data = data[:rng.randrange(len(data) + 1)]
            if act == "junk":
                data += os.urandom(20)
            if act == "pipeline":
                data = data * 3
            if act == "sips":
                for at in range(0, min(len(data), 200), 10):
                    c.send(data[at:at + 10])
                    time.sleep(0.001)
                data = data[200:]
            c.send(data)
            if act == "rst" or act == "fin":
                if rng.random() < 0.5:
                    time.sleep(rng.random() * 0.02)
                c.reset() if act == "rst" else c.close()
                return
            if act == "half" or act == "junk":
                c.half()
                c.rest()
                return
            for _ in range(3 if act == "pipeline" else 1):
                r = c.response(method)
                seen.append(r.status)
                if b"EVIL" in r.body:
                    raise AssertionError("an answer that nobody asked for: %r" % r)
                if r.status == 101:
                    c.send(b"ping")
                    eq(c.take(9), b"helloping", "the tunnel")
                    c.reset() if rng.random() < 0.3 else c.half()
                    return


def storm(lab, connect, w, ups, seed):
    seen, faults, until = [], [], time.monotonic() + SECONDS

    def loop(k):
        rng = random.Random(seed * 1000 + k)
        while time.monotonic() < until:
            try:
                client(rng, connect, seen)
            except (Cut, OSError, ValueError):
                pass  # much is cut here
            except Exception as e:
                faults.append(e)
                return
    threads = [threading.Thread(target=loop, args=(k,)) for k in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print("      seed %d: %s" % (seed, {s: seen.count(s) for s in sorted(set(seen))}))
    eq(faults, [], "faults (seed %d)" % seed)
    ok(seen.count(200) > 50, "most is well", len(seen))
    for up in ups:
        up.stop()
    wait(lambda: w.status()["connections"] == 0, "no connection is left", 8 * SLOW)
    eq(w.status()["in_flight"], 0, "no request is left")
    wait(lambda: sum(u["active"] for u in w.status()["upstreams"]) == 0, "no connection to an upstream is in use")
    has(w.log(), "ready", "log")
    w.access()  # every line is JSON


def config(lab, ups, **more):
    return lab.weir(*ups, timeouts={"head": "2s", "receive": "1s", "first_byte": "600ms", "idle": "600ms", "tunnel": "1s", "keepalive": "1s"},
                    upstream={"pool": {"idle_timeout": "500ms"}, "connections_max": 8}, limits={"body": "300KiB"},
                    routes=[{"name": "reply", "match": {"path": "/reply"}, "reply": {"body": "$path"}},
                            {"name": "limited", "match": {"path": "/limited"}, "to": "app", "filters": [{"rate_limit": {"rate": "50/s", "burst": 10}}]},
                            {"name": "app", "to": "app", "retry": {"attempts": 3, "when": ["connect", "reset", 503]},
                             "filters": [{"headers": {"response": {"set": {"x-by": "weir"}}}}]}], **more)


@story
def plain(lab):
    seed = int(os.environ.get("WEIR_SEED", "0")) or random.randrange(1, 1 << 30)
    ups = [lab.upstream(script=server(random.Random(seed + i))) for i in range(3)]
    w = config(lab, ups)
    before = w.fds()
    storm(lab, w.client, w, ups, seed)
    wait(lambda: w.fds() <= before + 2, "descriptors are back", 5 * SLOW)


@story
def tls(lab):
    seed = int(os.environ.get("WEIR_SEED", "0")) or random.randrange(1, 1 << 30)
    ca = Authority(lab)
    pair, context = ca.issue("weir.test"), ca.client()
    ups = [lab.upstream(script=server(random.Random(seed + i)), tls=ca.server(ca.issue("up.test"))) for i in range(2)]
    w = config(lab, ups, listener={"tls": {"cert": pair[0], "key": pair[1]}})
    w.stop()
    cfg = w.config
    cfg["instance"] += "t"
    cfg["upstreams"]["app"]["tls"] = {"ca": ca.cert, "sni": "up.test"}
    from weirlab import Weir
    w = Weir(lab, cfg)
    before = w.fds()
    storm(lab, lambda: w.client(tls=context, sni="weir.test"), w, ups, seed)
    wait(lambda: w.fds() <= before + 2, "descriptors are back", 5 * SLOW)


@story
def stopped_in_the_middle(lab):
    # SIGTERM, and then a second one, while all of it goes on.
    seed = random.randrange(1, 1 << 30)
    for second in (False, True):
        ups = [lab.upstream(script=server(random.Random(seed + i))) for i in range(2)]
        w = config(lab, ups, shutdown={"drain": "2s", "tunnels": "2s"})
        going = [True]

        def loop(k):
            rng = random.Random(seed + k)
            while going[0]:
                try:
                    client(rng, w.client, [])
                except (Cut, OSError, ValueError, Wrong):
                    pass
        threads = [threading.Thread(target=loop, args=(k,), daemon=True) for k in range(8)]
        for t in threads:
            t.start()
        time.sleep(0.5)
        w.kick(15)
        if second:
            time.sleep(0.05)
            w.kick(15)
        status = w.join()
        going[0] = False
        eq(status, 0, "exit status")
        for t in threads:
            t.join()


main()
