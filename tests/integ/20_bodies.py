#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bodies that end early, late or not at all: a cut is seen as a cut, and nothing is left behind."""
import hashlib
import os
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import Cut, answer, chunk, eq, has, main, ok, story, text_of, wait  # noqa: E402


def cut(c, what):
    """The answer that comes must not look whole."""
    try:
        r = c.response()
    except Cut as e:
        return e.response
    except ConnectionError:
        return None
    if r.status == 502:
        return r  # nothing of it was sent on: better than a cut
    raise AssertionError("%s: a false end: %r" % (what, r))


@story
def upstream_cuts_the_body(lab):
    # By length, by chunks, in the middle of a chunk, by FIN and by RST; for a 1.1 client.
    cuts = {
        "/length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 50,
        "/chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("x" * 50),
        "/chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nabc",
        "/last": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("x") + b"0\r\nA: b\r\n",
        "/junk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("x") + b"zz\r\n\r\n",
        "/until": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 50,
    }

    def reply(c, r):
        path, _, how = r.target.partition("?")
        c.send(cuts[path])
        time.sleep(0.05)
        if how == "rst":
            c.reset()
        return True
    w = lab.weir(lab.upstream(reply))
    for path in cuts:
        for how in ("fin", "rst"):
            if (path, how) == ("/until", "fin"):
                continue  # that is its end
            with w.client() as c:
                c.send(text_of("GET %s?%s" % (path, how)))
                if path == "/junk":  # known before the head has left: an answer of its own
                    eq(c.response().status, 502, "junk")
                    continue
                r = cut(c, path + " " + how)
                ok(r is None or r.status in (200, 502), "what there was of it", r)
    log = w.access(11)
    ok(all(line["error"]["by"] == "upstream" for line in log), "who is to blame", [line.get("error") for line in log])


@story
def bytes_behind_an_answer(lab):
    # What a server sends behind the end of a body is the answer to no request: not to the next of this client, nor to
    # another's who has waited for the connection.
    def reply(c, r):
        size = int(r.target[1:])
        c.send(answer(200, b"x" * size) + answer(200, "stray"))
    w = lab.weir(lab.upstream(reply), workers=1, upstream={"connections_max": 1}, timeouts={"queue": "10s"})
    for size in (100, 65536, 131072, 300000, 1000000):
        first = w.client().send(text_of("GET /%d" % size) * 3)
        others = [w.client().send(text_of("GET /%d" % size)) for _ in range(3)]
        for c in (first, first, first, *others):
            r = c.response()
            eq((r.status, len(r.body)), (200, size), "the answer of %d bytes: %r" % (size, r.body[:9]))
    w.settle()


@story
def cut_for_a_10_client(lab):
    # A body until close can show a cut only by RST.
    for head in (b"Content-Length: 100\r\n", b"Transfer-Encoding: chunked\r\n"):
        def reply(c, r):
            c.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + (b"x" * 50 if b"Len" in head else chunk("x" * 50)))
            time.sleep(0.05)
            return True
        w = lab.weir(lab.upstream(reply))
        with w.client() as c:
            c.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            cut(c, "a 1.0 client")


@story
def cut_while_the_client_is_slow(lab):
    # The upstream breaks off while much is still on its way to a client that reads late: never a clean end.
    def reply(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x" * 3000000))
        return True
    w = lab.weir(lab.upstream(reply))
    with w.client(rcvbuf=4096) as c:
        c.send(text_of("GET /"))
        time.sleep(0.3)
        r = cut(c, "a slow client")
        ok(r is None or len(r.body) <= 3000000, "no more than there was")


@story
def client_goes_away_while_downloading(lab):
    gone = []

    def script(c):
        c.head()
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(2000):
                c.send(chunk(b"x" * 10000))
        except OSError:
            gone.append("reset")
    for how in ("fin", "rst"):
        up = lab.upstream(script=script)
        w = lab.weir(up)
        before = w.fds()
        c = w.client()
        c.send(text_of("GET /"))
        c.take(20000)
        c.reset() if how == "rst" else c.close()
        wait(lambda: up.open == 0, "the upstream's connection is closed after %s" % how)
        wait(lambda: w.fds() <= before, "descriptors are back")
        eq(w.access(1)[0]["error"]["by"], "client", "who is to blame")
    eq(len(gone), 2, "the upstream was told both times")


@story
def client_goes_away_while_uploading(lab):
    seen = []

    def script(c):
        r = c.head()
        try:
            c.body(r)
            seen.append("whole")
        except (Cut, OSError):
            seen.append("cut")
    for framing in ([("Content-Length", "100000")], [("Transfer-Encoding", "chunked")]):
        for how in ("fin", "rst", "half"):
            up = lab.upstream(script=script)
            w = lab.weir(up)
            before = w.fds()
            c = w.client()
            c.send(text_of("POST /", framing) + (chunk("abc") if "chunk" in framing[0][1] else b"abc"))
            wait(lambda: up.conns, "the upstream sees it")
            time.sleep(0.05)
            c.half() if how == "half" else c.reset() if how == "rst" else c.close()
            wait(lambda: up.open == 0, "the upstream's connection is closed after %s" % how)
            if how == "half":
                eq(c.response().status, 400, "half a body, then FIN")
                c.close()
            wait(lambda: w.fds() <= before, "descriptors are back")
    eq(seen, ["cut"] * 6, "the upstream never sees a whole body")


@story
def client_goes_away_while_waiting(lab):
    # Before the first byte of an answer: the upstream is let go (it may compute for nobody).
    heads = []

    def script(c):
        heads.append(c.head())
        c.rest()
    up = lab.upstream(script=script)
    w = lab.weir(up)
    c = w.client()
    c.send(text_of("GET /"))
    wait(lambda: heads, "the upstream has it")  # a connection that was made and not used would be kept
    c.reset()
    wait(lambda: up.open == 0, "the upstream's connection is closed")
    eq(w.access(1)[0]["status"], 499, "status in the log")


@story
def half_closed_client_gets_its_answer(lab):
    def reply(c, r):
        time.sleep(0.2)
        c.send(answer(200, "late"))
    w = lab.weir(lab.upstream(reply))
    with w.client() as c:
        c.send(text_of("POST /", body=b"abc"))
        c.half()
        eq(c.response().body, b"late", "the answer")
        ok(c.ended(), "then the end")


@story
def early_answer_while_uploading(lab):
    # The upstream answers before it has the body, reads all of it: the client gets the answer at once, and the rest flows.
    def script(c):
        r = c.head()
        c.take(10)
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
        c.take(int(r.get("content-length")) - 10)
        done.append(True)
        c.send(answer(200, "second")) if c.request() else None
    done = []
    w = lab.weir(lab.upstream(script=script), workers=1)
    with w.client() as c:
        c.send(text_of("POST /", [("Content-Length", "30000")]) + b"x" * 20000)
        eq(c.response().body, b"early", "the answer while uploading")
        # What follows is up to the proxy: it may read on, or close; it may not take the rest for a request.
        try:
            c.send(b"x" * 10000 + text_of("GET /second"))
            r = c.response()
            ok(r.status == 200, "the answer to the next request", r)
        except (Cut, OSError):
            pass


@story
def early_answer_and_close(lab):
    # The upstream answers and closes while the client is in the middle of a large body.
    def script(c):
        c.head()
        c.take(1000)
        c.send(answer(507, "full", [("Connection", "close")], "Insufficient Storage"))
    w = lab.weir(lab.upstream(script=script))
    for _ in range(5):
        with w.client() as c:
            c.send(text_of("POST /", [("Content-Length", "600000")]))
            try:
                for _ in range(12):
                    c.send(b"x" * 50000)
                    time.sleep(0.01)
            except OSError:
                pass
            r = c.response()
            eq((r.status, r.body), (507, b"full"), "the answer is not lost")


@story
def early_answer_then_reset(lab):
    # RST by the upstream with unread bytes: the answer that came before it counts.
    def script(c):
        c.head()
        c.send(answer(200, "ok"))
        time.sleep(0.05)
        c.reset()
    w = lab.weir(lab.upstream(script=script))
    with w.client() as c:
        c.send(text_of("POST /", [("Content-Length", "100000")]) + b"x" * 100000)
        eq(c.response().body, b"ok", "the answer")


@story
def big_and_odd(lab):
    # Bodies of odd sizes both ways, chunk sizes that never fit a buffer; digests must agree.
    data = bytes((i * 7 + i // 251) & 255 for i in range(1000003))

    def reply(c, r):
        eq(hashlib.sha256(r.body).digest(), hashlib.sha256(data).digest(), "what the upstream got")
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        at, size = 0, 1
        while at < len(data):
            c.send(chunk(data[at:at + size]))
            at += size
            size = size * 3 + 1 if size < 200000 else 17
        c.send(b"0\r\n\r\n")
    up = lab.upstream(reply)
    w = lab.weir(up)
    for body in ("length", "chunks"):
        with w.client() as c:
            if body == "length":
                c.send(text_of("POST /", body=data))
            else:
                c.send(text_of("POST /", [("Transfer-Encoding", "chunked")]))
                for at in range(0, len(data), 77777):
                    c.send(chunk(data[at:at + 77777]))
                c.send(b"0\r\n\r\n")
            eq(hashlib.sha256(c.response().body).digest(), hashlib.sha256(data).digest(), "what the client got")
    eq(up.faults, [], "faults of the upstream")


@story
def bad_chunks_of_a_client(lab):
    # After the request has begun at the upstream: it is cut there, and refused here.
    seen = []

    def script(c):
        try:
            c.body(c.head())
            seen.append("whole")
        except (Cut, OSError):
            seen.append("cut")
    w = lab.weir(lab.upstream(script=script))
    bad = [b"zz\r\n\r\n", b"5\nhello\n", b"-1\r\n\r\n", b"fffffffffffffffff\r\n", b"3\r\nabcX\r\n", b"0\r\nA B: c\r\n\r\n", b"0x3\r\nabc\r\n"]
    for n, junk in enumerate(bad):
        with w.client() as c:
            c.send(text_of("POST /", [("Transfer-Encoding", "chunked")]) + chunk("ok"))
            wait(lambda: len(w_up_conns(lab)) == n + 1, "the upstream sees it")
            time.sleep(0.02)
            c.send(junk)
            eq(c.response().status, 400, "answer to chunk %r" % junk)
    wait(lambda: len(seen) == len(bad), "the upstream sees the end")
    eq(seen, ["cut"] * len(bad), "never a whole body")


def w_up_conns(lab):
    return lab.peers[0].conns


@story
def back_pressure_up(lab):
    # The upstream does not read: the client can not go on sending either, and goes on when the upstream does.
    go = threading.Event()

    def script(c):
        r = c.head()
        go.wait(30)
        c.body(r)
        c.send(answer(200, str(len(r.body))))
    w = lab.weir(lab.upstream(script=script, rcvbuf=65536))
    total = 32 << 20
    with w.client() as c:
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        c.send(text_of("PUT /", [("Content-Length", str(total))]))
        c.sock.settimeout(1)
        sent = 0
        try:
            while sent < total:
                sent += c.sock.send(b"z" * min(65536, total - sent))
        except socket.timeout:
            pass
        ok(sent < 20 << 20, "the client is held back", sent)
        go.set()
        c.sock.settimeout(30)
        while sent < total:
            sent += c.sock.send(b"z" * min(65536, total - sent))
        eq(c.response().body, str(total).encode(), "all of it arrived")


@story
def back_pressure_down(lab):
    # The client does not read: the upstream can not go on sending.
    sent = [0]

    def script(c):
        c.head()
        total = 32 << 20
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        c.sock.settimeout(30)
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while sent[0] < total:
            sent[0] += c.sock.send(b"z" * min(65536, total - sent[0]))
    w = lab.weir(lab.upstream(script=script))
    with w.client(rcvbuf=65536) as c:
        c.send(text_of("GET /"))
        time.sleep(1)
        held = sent[0]
        ok(0 < held < 20 << 20, "the upstream is held back", held)
        time.sleep(0.3)
        ok(sent[0] - held < 1 << 20, "and stays so", sent[0] - held)
        eq(len(c.response().body), 32 << 20, "all of it arrives")


@story
def no_descriptor_is_lost(lab):
    # A hundred connections that end in every bad way.
    def script(c):
        r = c.request()
        while r and r.target == "/good":
            c.send(answer(200, "x"))
            r = c.request()
        if r and r.target == "/rst":
            c.reset()
        elif r and r.target == "/half":
            c.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        elif r:
            c.rest()
    w = lab.weir(lab.upstream(script=script), upstream={"pool": {"idle_timeout": "100ms"}})
    w.ask("GET /good")
    time.sleep(0.3)
    before = w.fds()
    for i in range(100):
        c = w.client()
        c.send(text_of("GET " + ("/rst", "/half", "/silent", "/good")[i % 4]))
        if i % 4 == 2:
            time.sleep(0.01)
        elif i % 8 > 3:
            try:
                c.response()
            except (Cut, OSError):
                pass
        c.reset() if i % 3 or i % 4 == 2 else c.close()  # FIN alone may be a half-close: its answer is waited for
    wait(lambda: w.fds() <= before, "descriptors are back to %d" % before)
    wait(lambda: w.status()["connections"] == 0, "no connection is counted")
    eq(w.status()["in_flight"], 0, "requests in flight")
    has(w.log(), "ready", "log")


main()
