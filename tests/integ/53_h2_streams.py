#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many requests on one HTTP/2 connection of a client, and what a connection is made of: settings, windows, frames by hand."""
import os
import select
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from h2lab import (ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE,  # noqa: E402
                   MAX_CONCURRENT_STREAMS, PING, PREFACE, PRIORITY, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE,
                   Square, ask, block, frame, frames, h2_client, h2_upstream, raw_client, reply1)
from weirlab import SLOW, answer, eq, main, ok, story, text_of, wait  # noqa: E402


def sizes(x):
    """/N: N bytes."""
    x.reply(200, b"s" * int(x.target[1:].partition("?")[0]))


@story
def a_hundred_at_once(lab):
    sq = Square(lab, lambda x: (time.sleep(0.2 * SLOW), x.reply(200, x.target * 1000 + x.body.decode()))[1])
    for front in ("h2", "h2s"):
        for back in ("h1", "h2", "h2s"):
            with sq.connect(front) as c:
                began = time.monotonic()
                streams = [c.request("POST /%d" % i, body=b"b" * i * 10, host=back + ".test") for i in range(100)]
                for i, s in enumerate(streams):
                    eq(s.response().body.decode(), "/%d" % i * 1000 + "b" * i * 10, "own answer")
                took = time.monotonic() - began
                ok(took < 5 * SLOW, "%s to %s: 100 at once, not one after the other" % (front, back), took)
    eq(sq.w.metric("weir_requests_total", code="200"), 600, "requests counted")


@story
def who_does_not_read_holds_nobody_back(lab):
    # 20 streams whose windows stay shut; others on the same connection are served, again and again.
    def reply(x):
        if x.target == "/endless":
            x.begin(200)
            for _ in range(200):
                x.send(b"e" * 65536)
            x.end()
        else:
            sizes(x)
    sq = Square(lab, reply)
    for back in ("h1", "h2", "h2s"):
        with h2_client(sq.w) as c:
            c.reads = False
            stuck = [c.request("GET /endless", host=back + ".test") for _ in range(20)]
            c.reads = True
            for s in stuck:
                s.wait(lambda s=s: s.size == 65535, "a full window of %r" % s)
            began = time.monotonic()
            for _ in range(20):
                eq(c.request("GET /100000", host=back + ".test").response().size, 100000, "another stream")
            took = time.monotonic() - began
            ok(took < 5 * SLOW, "20 others took (s)", took)
            before = sq.w.rss()
            eq([s.size for s in stuck], [65535] * 20, "the others wait")
            for s in stuck[:10]:
                s.rst(CANCEL)
            for s in stuck[10:]:
                s.read()
            eq([s.response().size for s in stuck[10:]], [200 * 65536] * 10, "and come whole")
            if SLOW == 1:  # a sanitizer keeps what was freed
                ok(sq.w.rss() - before < 64 << 20, "memory", sq.w.rss() - before)


# Bytes of memory that a stream costs which stands still; of HTTP/2 a first window of 64 KiB may come, and its record.
HELD_MAX = 64 << 10
ALONE = 512 << 10  # what else a proxy touches meanwhile


def still(value):
    before = value()
    time.sleep(0.3 * SLOW)
    return value() == before


@story
def memory_of_streams_that_stand_still(lab):
    # 100 endless answers whose windows stay shut, or are never opened, or that nobody reads from the socket; and a 101st.
    def reply(x):
        if x.target != "/endless":
            return sizes(x)
        x.begin(200)
        for _ in range(1 << 14):
            x.send(b"e" * 65536)
    ups = {"h1": lab.upstream(**reply1(reply, early=True)), "h2": h2_upstream(lab, reply, peer={"settings": {MAX_CONCURRENT_STREAMS: 200}})}
    for back, up in ups.items():
        for kind, window in (("shut", 65535), ("closed", 0), ("unread", 65535)):
            what = "%s, %s: " % (back, kind)
            w = lab.weir(up, upstream={"protocol": back}, limits={"streams": 200}, workers=1)
            with h2_client(w) as c:
                eq(c.request("GET /1000000").response().size, 1000000, what + "before")
            before, seen = w.rss(), len(up.requests)
            with h2_client(w, settings={INITIAL_WINDOW_SIZE: window}) as c:
                c.reads = False
                for _ in range(100):
                    c.request("GET /endless")
                c.drained()
                c.read(kind != "unread")
                wait(lambda: len(up.requests) == seen + 100, what + "all are at the upstream")
                wait(lambda: still(lambda: (SLOW > 1 or w.rss(), sum(s.size for s in c.streams.values()))), what + "all stands still")
                grown = w.rss() - before
                print("      %s%d KiB a stream" % (what, grown / 100 / 1024))
                if SLOW == 1:  # a sanitizer has memory of its own
                    ok(grown <= 100 * HELD_MAX + ALONE, what + "memory", grown)
                if kind != "unread":
                    s = c.request("GET /200000")
                    with c.lock:
                        c.h2.increment_flow_control_window(1 << 20, s.id)
                        c.flush()
                    eq(s.response().size, 200000, what + "one more stream")
            w.stop()


@story
def memory_of_uploads_that_nobody_takes(lab):
    # Servers of HTTP/1 whose kernels take the first megabytes as fast as they come, and nothing then.
    count, hold = 40, threading.Event()
    w = lab.weir(lab.upstream(script=lambda c: hold.wait(60), rcvbuf=16384), limits={"streams": 200}, workers=1)
    w.status()
    before = w.rss()
    with h2_client(w) as c:
        streams = [c.request("PUT /", [("content-length", str(1 << 30))], end=False) for _ in range(count)]
        taken, still_turns = 0, 0
        while still_turns < 3:
            with c.lock:
                rooms = [c.h2.local_flow_control_window(s.id) for s in streams]
            for s, room in zip(streams, rooms):
                if room:
                    s.send(b"u" * min(room, 65536))
                    taken += min(room, 65536)
            c.drained()
            still_turns = 0 if any(rooms) else still_turns + 1
            if not any(rooms):
                time.sleep(0.2 * SLOW)
        grown = w.rss() - before
        print("      %d KiB a stream, of %d that were taken" % (grown / count / 1024, taken / count / 1024))
        ok(taken > count * 4 * HELD_MAX, "that was enough for windows to grow on", taken)
        if SLOW == 1:  # a sanitizer has memory of its own
            ok(grown <= count * HELD_MAX + ALONE, "memory", grown)
    hold.set()


@story
def a_busy_upstream_is_not_far_away(lab):
    # One that acknowledges SETTINGS late, and no PING: its windows do not grow as over a way that is so long.
    sent, hold = [0], threading.Event()

    def script(c):
        rooms, got, stream = {0: 65535}, b"", None
        c.send(frame(SETTINGS))
        while len(c.buffer) < len(PREFACE):
            c.more()
        got, c.buffer = c.buffer[len(PREFACE):], b""
        while not hold.is_set():
            came, got = frames(got)
            for kind, _, number, payload in came:
                if kind == HEADERS:
                    stream, rooms[number] = number, 49152
                    time.sleep(0.3)
                    c.send(frame(SETTINGS, ACK) + frame(HEADERS, END_HEADERS, number, block((":status", "200"))))
                elif kind == WINDOW_UPDATE and number in rooms:
                    rooms[number] += int.from_bytes(payload, "big")
            n = min(rooms[0], rooms.get(stream, 0), 16384)
            if n:
                c.send(frame(DATA, 0, stream, b"d" * n))
                rooms[0], rooms[stream], sent[0] = rooms[0] - n, rooms[stream] - n, sent[0] + n
            if select.select([c.sock], [], [], 0 if n else 0.1)[0]:
                if not c.more():
                    return
                got, c.buffer = got + c.buffer, b""
    w = lab.weir(lab.upstream(script=script), upstream={"protocol": "h2"}, workers=1)
    with w.client() as c:
        c.send(text_of("GET /", [("Host", "weir.test")]))
        wait(lambda: sent[0] > 1 << 20, "it sends what is taken")
        before = -1
        while before != sent[0]:
            before = sent[0]
            time.sleep(0.5 * SLOW)
        print("      %d KiB between an upstream and a client that does not read" % (before >> 10))
        ok(before <= 12 << 20, "most of it in kernels", before)
        hold.set()


@story
def uploads_that_nobody_takes(lab):
    # An upstream that does not take one upload does not stop the others of the same connection.
    go = threading.Event()

    def reply(x):
        if x.target == "/stuck":
            go.wait(30)
            getattr(x, "read", lambda: None)()
        x.whole()
        x.reply(200, str(len(x.body)))
    sq = Square(lab, reply, early=True, peer={"reads": True})
    original = sq.ups["h2"].on_stream

    def on_stream(s):
        s.reads = s.target != "/stuck"
        original(s)
    sq.ups["h2"].on_stream = sq.ups["h2s"].on_stream = on_stream
    for back in ("h1", "h2"):
        go.clear()
        with h2_client(sq.w) as c:
            stuck = c.request("POST /stuck", [("content-length", str(32 << 20))], host=back + ".test", end=False)
            sent = [0]

            def pour():
                for _ in range(512):
                    stuck.send(b"u" * 65536)
                    sent[0] += 65536
                stuck.end()
            sender = threading.Thread(target=pour, daemon=True)
            sender.start()
            before = -1
            while before != sent[0]:
                before = sent[0]
                time.sleep(0.3 * SLOW)
            ok(sent[0] < 16 << 20, "what was taken of it", sent[0])
            for _ in range(5):
                eq(c.request("POST /", body=b"x" * 200000, host=back + ".test").response().body, b"200000", "another upload")
            go.set()
            eq(stuck.response().body, b"%d" % (32 << 20), "the first comes whole")
            sender.join(10)


@story
def more_than_are_allowed(lab):
    # Streams beyond MAX_CONCURRENT_STREAMS are refused, unprocessed; the others are not touched.
    gate = threading.Event()
    up = lab.upstream(lambda c, r: (gate.wait(20), c.send(answer(200, "x")))[1])
    w = lab.weir(up, limits={"streams": 10})
    with h2_client(w) as c:
        eq(c.peer_setting(MAX_CONCURRENT_STREAMS), 10, "what we are told")
    with raw_client(w) as c:
        c.begin()
        for i in range(11):
            c.send(frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * i, block(*ask("/%d" % i))))
        kind, _, stream, payload = c.until_frame(RST_STREAM, HEADERS)
        eq((kind, stream, payload), (RST_STREAM, 21, bytes([0, 0, 0, REFUSED_STREAM])), "the 11th")
        gate.set()
        eq(sorted(c.until_frame(HEADERS)[2] for _ in range(10)), list(range(1, 20, 2)), "the others are answered")
    eq(len(up.requests), 10, "requests at the upstream")


@story
def windows_change_meanwhile(lab):
    # INITIAL_WINDOW_SIZE 0 at first, then raised, then lowered below what is out.
    w = lab.weir(h2_upstream(lab, sizes), upstream={"protocol": "h2"})
    with h2_client(w, settings={INITIAL_WINDOW_SIZE: 0}, reads=False) as c:
        streams = [c.request("GET /50000") for _ in range(5)]
        for s in streams:
            s.head()
        time.sleep(0.2)
        eq([s.size for s in streams], [0] * 5, "nothing without a window")
        with c.lock:
            c.h2.update_settings({INITIAL_WINDOW_SIZE: 20000})
            c.flush()
        for s in streams:
            s.wait(lambda s=s: s.size == 20000, "20000 bytes")
        with c.lock:
            c.h2.update_settings({INITIAL_WINDOW_SIZE: 10000})
            c.flush()
        c.ping()
        eq([s.size for s in streams], [20000] * 5, "no more")
        for s in streams:
            s.read()
        eq([s.response().size for s in streams], [50000] * 5, "then all")


@story
def head_in_pieces(lab):
    # A connection fed byte by byte; a header block in many frames; padding and priority; frames that nobody knows.
    up = lab.upstream()
    w = lab.weir(up)
    data = block(*ask("/pieces"), ("x-long", "v" * 3000))
    with raw_client(w) as c:
        c.begin()
        sent = frame(HEADERS, END_STREAM, 1, data[:10]) + b"".join(frame(CONTINUATION, 0, 1, data[i:i + 500]) for i in range(10, 2000, 500))
        sent += frame(CONTINUATION, END_HEADERS, 1, data[2010:])
        for i in range(len(sent)):
            c.send(sent[i:i + 1])
        kind, _, stream, payload = c.until_frame(HEADERS)
        eq((stream, c.decoder.decode(payload)[0]), (1, (":status", "200")), "answer to a head in pieces")
        padded = bytes([20]) + b"\0\0\0\0\xff" + block(*ask("/padded")) + b"\0" * 20
        c.send(frame(0x77, 0xff, 0, b"what") + frame(0x78, 1, 3, b"") + frame(HEADERS, END_STREAM | END_HEADERS | 8 | 32, 3, padded))
        eq(c.until_frame(HEADERS)[2], 3, "answer to a padded head with a priority")
        c.send(frame(PRIORITY, 0, 9, b"\0\0\0\x03\x10") + frame(PING, 0, 0, b"abcdefgh"))
        eq(c.until_frame(PING), (PING, ACK, 0, b"abcdefgh"), "PING is answered")
        c.send(frame(HEADERS, END_HEADERS, 11, block(*ask("/body", "POST"))) + frame(DATA, 8, 11, b"\x05hello\0\0\0\0\0"))
        c.send(frame(DATA, END_STREAM, 11))
        eq(c.until_frame(HEADERS)[2], 11, "answer to a padded body")
    eq([r.target for r in up.requests], ["/pieces", "/padded", "/body"], "requests")
    eq((dict(up.requests[0].fields)["x-long"], up.requests[2].body), ("v" * 3000, b"hello"), "what came")


@story
def faults_of_a_connection(lab):
    # GOAWAY with the right code, then the end; nothing for the upstream, and others do not feel it.
    up = lab.upstream()
    w = lab.weir(up)
    faults = {"DATA on stream 0": (frame(DATA, 0, 0, b"x"), 1), "a frame too large": (frame(DATA, 0, 1, b"x" * 20000), 6),
              "an even stream": (frame(HEADERS, 5, 2, block(*ask())), 1), "HPACK junk": (frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff"), 9),
              "SETTINGS of 5 bytes": (frame(SETTINGS, 0, 0, b"12345"), 6), "PING of 7 bytes": (frame(PING, 0, 0, b"1234567"), 6),
              "a window of 2^31": (frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), 3), "a naked CONTINUATION": (frame(CONTINUATION, 4, 1, b""), 1),
              "RST_STREAM of an idle stream": (frame(RST_STREAM, 0, 1, b"\0\0\0\0"), 1)}
    for what, (data, code) in faults.items():
        with raw_client(w) as c:
            c.begin().send(data)
            got = c.until_frame(GOAWAY)
            ok(got is None or int.from_bytes(got[3][4:8], "big") == code, what + ": GOAWAY", got)
            ok(got is not None, what + ": GOAWAY before the end")
            eq(c.until_frame(GOAWAY), None, what + ": the end")
    with raw_client(w) as c:
        c.send(PREFACE + b"GET / HTTP/1.1\r\n\r\n")
        while c.frame():
            pass
    eq(up.requests, [], "nothing for the upstream")
    eq(w.ask("GET /").status, 200, "others are served")


@story
def faults_of_a_stream(lab):
    # RST_STREAM (or 400) and the connection goes on: what an h1 upstream would misread never gets there.
    up = lab.upstream()
    w = lab.weir(up)
    bad = [ask() + [("connection", "close")], ask() + [("transfer-encoding", "chunked")], ask() + [("te", "gzip")], ask() + [("Upper", "x")],
           ask() + [("x", "a\r\nb: c")], ask() + [("x", "a\0b")], ask() + [("x y", "a")], ask() + [(":path", "/twice")], ask()[1:], ask()[:3],
           [("x", "before")] + ask(), ask() + [(":unknown", "x")], ask("") + [], ask("nosla\tsh"), ask("/a b"), ask(method="G T"), ask() + [("x", " a")],
           ask() + [("x", "a ")], ask() + [("content-length", "5")], ask() + [("content-length", "x")], ask() + [("", "x")], ask() + [(":status", "200")],
           ask() + [("content-length", "0"), ("content-length", "1")], ask() + [("host", "other")], ask() + [("keep-alive", "5")]]
    with h2_client(w) as c:
        for headers in bad:
            s = c.open(headers)
            s.wait(lambda s=s: s.ended or s.reset is not None or c.over, "the answer to %r" % headers)
            ok(s.reset == PROTOCOL_ERROR or s.status == 400, "refused: %r" % headers, s)
        s = c.request("POST /", end=False)
        s.send("x")
        s.headers([("x-trailer", "a"), (":path", "/evil")], end=True)
        s.wait(lambda: s.ended or s.reset is not None or c.over, "an answer")
        ok(s.reset == PROTOCOL_ERROR or s.status == 400, "pseudo fields in trailers", s)
        eq(c.request("GET /good").response().status, 200, "the connection goes on")
        eq(c.over, None, "the connection")
    eq([r.target for r in up.requests], ["/good"], "at the upstream")
    w.settle()
    lines = w.access()
    ok(all(line["error"]["by"] == "client" for line in lines if line["status"] != 200), "who is to blame", lines[0])


@story
def connection_breaks_with_many(lab):
    # 50 requests in flight; then RST, FIN, or junk: everything is given back.
    up = h2_upstream(lab, lambda x: x.wait(lambda: False, "the end"))
    w = lab.weir(up, upstream={"protocol": "h2"})
    w1 = lab.weir(lab.upstream(script=lambda c: (c.head(), c.rest())), workers=1)
    before = w1.fds()
    for end in ("rst", "fin", "junk"):
        for at, to in ((w, up), (w1, None)):
            seen = len(up.requests)
            with h2_client(at) as c:
                streams = [c.request("GET /%d" % i) for i in range(50)]
                if to:
                    wait(lambda: len(up.requests) == seen + 50, "all are at the upstream")
                else:
                    wait(lambda: at.status()["in_flight"] == 50, "all are in flight")
                ok(not any(s.ended for s in streams), "they wait")
                if end == "rst":
                    c.cut()
                elif end == "junk":
                    c.raw(frame(DATA, 0, 0, b"junk"))
                    c.until_over()
            at.settle(True)
    wait(lambda: w1.fds() <= before, "descriptors are back")
    ok(all(s.reset is not None for s in up.requests), "each was cancelled")


@story
def h1_and_h2_on_one_port(lab):
    # The first bytes tell; a preface that comes slowly is one all the same.
    up = lab.upstream()
    w = lab.weir(up)
    for _ in range(3):
        eq(w.ask("GET /1").json()["version"], "HTTP/1.1", "h1")
        with h2_client(w) as c:
            eq(c.request("GET /2").response().status, 200, "h2")
    for step in (1, 3, 14, 23):
        with raw_client(w) as c:
            data = PREFACE + frame(SETTINGS) + frame(HEADERS, 5, 1, block(*ask("/slow")))
            for i in range(0, len(data), step):
                c.send(data[i:i + step])
                if i < 30:
                    time.sleep(0.005)
            eq(c.until_frame(HEADERS)[2], 1, "a preface in pieces of %d" % step)
    with w.client() as c:
        c.send("PRIVATE / HTTP/1.1\r\nHost: a\r\n\r\n")
        eq(c.response().json()["method"], "PRIVATE", "no preface")


@story
def alpn(lab):
    sq = Square(lab)
    from weirlab import dial
    to = sq.w.config["listeners"]["tls"]["bind"]
    for offered, chosen in ((["h2"], "h2"), (["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"), (None, None)):
        with dial(to, tls=sq.context(offered), sni="weir.test") as c:
            eq(c.sock.selected_alpn_protocol(), chosen, "ALPN of %s" % offered)
            if chosen != "h2":
                c.send(text_of("GET /", [("Host", "h1.test")]))
                eq(c.response().status, 200, "h1 then")


@story
def other_workers(lab):
    # Many connections with many streams each, on several workers.
    w = lab.weir(lab.upstream(lambda c, r: c.send(answer(200, r.target))), workers=2)
    faults = []

    def client(k):
        try:
            with h2_client(w) as c:
                for i in range(10):
                    streams = [c.request("GET /%d/%d/%d" % (k, i, j)) for j in range(10)]
                    for j, s in enumerate(streams):
                        eq(s.response().body, b"/%d/%d/%d" % (k, i, j), "own answer")
        except Exception as e:
            faults.append(e)
    threads = [threading.Thread(target=client, args=(k,)) for k in range(10)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    eq(faults, [], "faults")
    w.settle()
    eq(w.metric("weir_requests_total", code="200"), 1000, "requests counted")


main()
