#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""WebSocket and CONNECT where HTTP/2 is on one side or both (RFC 8441, RFC 9113 8.5), and server-sent events."""
import base64
import hashlib
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from certs import Authority  # noqa: E402
from h2lab import (CANCEL, ENABLE_CONNECT_PROTOCOL, NO_ERROR, PROTOCOL_ERROR, Exchange1, Peer, Square, h2_client,  # noqa: E402
                   h2_upstream)
from weirlab import SLOW, Conn, Cut, answer, eq, main, ok, story, text_of, wait  # noqa: E402

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ASK = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", KEY)]
TAKES = {"settings": {ENABLE_CONNECT_PROTOCOL: 1}}


def accept_of(key):
    return base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


class Chat:
    """An upstream's side of a tunnel, the same on both protocols; the lab's reply functions get it after it has switched."""

    def __init__(self, x, protocol="websocket"):
        self.x, self.conn = x, getattr(x, "conn", None)
        self.asked = dict(x.fields)
        if self.conn:
            eq((x.method, self.asked.get("upgrade"), self.asked.get("connection", "").lower()), ("GET", protocol, "upgrade"), "what h1 is asked")
            if protocol == "websocket":
                eq(len(base64.b64decode(self.asked["sec-websocket-key"])), 16, "a key")
                self.conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n"
                               "Sec-WebSocket-Protocol: chat\r\n\r\n" % accept_of(self.asked["sec-websocket-key"]))
        else:
            eq((x.method, x.protocol), ("CONNECT", protocol), "what h2 is asked")
            ok(not {"upgrade", "connection", "sec-websocket-key", "sec-websocket-accept"} & set(self.asked), "fields on h2", self.asked)
            x.begin(200, [("sec-websocket-protocol", "chat")])

    def more(self):
        """What has come since; b"" at the end."""
        if self.conn:
            if not self.conn.buffer and not self.conn.more():
                return b""
            data, self.conn.buffer = self.conn.buffer, b""
            return data
        x = self.x
        x.wait(lambda: x.ended or x.size > x.taken, "more")
        return x.take(x.size - x.taken)

    def send(self, data):
        (self.conn or self.x).send(data)

    def half(self):
        if self.conn:
            self.conn.half()
        else:
            self.x.end()

    def reset(self):
        if self.conn:
            self.conn.reset()
        else:
            self.x.rst(CANCEL)


class Talk:
    """A client's side of a tunnel."""

    def __init__(self, c, host, path="/chat", fields=()):
        self.c, self.stream = c, None
        if isinstance(c, Peer):
            self.stream = c.websocket(path, host, fields=[("sec-websocket-version", "13"), *fields])
            self.answer = self.stream.head()
        else:
            c.send(text_of("GET " + path, [("Host", host), *ASK, *fields]))
            self.answer = c.response()
        self.status = self.answer.status

    def opened(self, what):
        eq(self.status, 200 if self.stream else 101, what)
        eq(self.answer.get("sec-websocket-accept"), None if self.stream else accept_of(KEY), what + ": Accept")
        eq(self.answer.get("sec-websocket-protocol"), "chat", what + ": the protocol")
        return self

    def send(self, data):
        (self.stream or self.c).send(data)

    def take(self, n):
        return (self.stream or self.c).take(n)

    def half(self):
        if self.stream:
            self.stream.end()
        else:
            self.c.half()

    def rest(self):
        if not self.stream:
            return self.c.rest()
        self.stream.response()
        return self.stream.take(self.stream.size - self.stream.taken)

    def reset(self):
        if self.stream:
            self.stream.rst(CANCEL)
        else:
            self.c.reset()


def square(lab, chat, **top):
    """Every combination, with an upstream that runs chat(Chat) for what asks for a WebSocket."""
    chats = []

    def reply(x):
        if x.get("upgrade") or x.protocol:
            mine = Chat(x)
            chats.append(mine)
            chat(mine)
            if mine.conn:
                mine.conn.close()
        else:
            x.reply(200, "plain")
    sq = Square(lab, reply, early=True, peer=TAKES, **top)
    sq.chats = chats
    return sq


def capitals(chat):
    while True:
        data = chat.more()
        if not data:
            return chat.half()
        chat.send(data.upper())


@story
def both_ways(lab):  # a WebSocket in every combination
    sq = square(lab, capitals)
    for front, back in sq.pairs():
        what = "%s to %s" % (front, back)
        with sq.connect(front) as c:
            t = Talk(c, back + ".test", fields=[("origin", "http://a"), ("cookie", "a=1")]).opened(what)
            for text in (b"hello", b"x" * 200000, b"\x00\x81\xff"):
                t.send(text)
                eq(t.take(len(text)), text.upper(), what + ": what comes back")
            asked = sq.chats[-1].asked
            eq((asked["origin"], asked["cookie"], asked["sec-websocket-version"]), ("http://a", "a=1", "13"), what + ": fields")
            eq(sq.w.admin("/v1/connections").json()["connections"][0]["state"], "tunnel", what + ": show connections") if front == "h1" else None
            if front != "h1s":  # Python's TLS has no half close
                t.half()
                eq(t.rest(), b"", what + ": the end")
    sq.w.settle(True)
    for line, (front, back) in zip(sq.w.access(12), sq.pairs()):
        eq((line["status"], line["bytes_in"], line["bytes_out"], line["protocol"]),
           (200 if front.startswith("h2") else 101, 200008, 200008, "HTTP/2" if front.startswith("h2") else "HTTP/1.1"), "the log, %s to %s" % (front, back))


@story
def many_beside_requests(lab):
    # Tunnels and plain requests on one connection.
    sq = square(lab, capitals)
    for back in ("h1", "h2", "h2s"):
        with h2_client(sq.w) as c:
            talks = [Talk(c, back + ".test", "/%d" % i).opened("tunnel %d" % i) for i in range(20)]
            for k in range(3):
                for i, t in enumerate(talks):
                    t.send(b"message %d of %d" % (k, i))
                eq(c.request("GET /", host=back + ".test").response().body, b"plain", "a request beside them")
                for i, t in enumerate(talks):
                    wanted = b"MESSAGE %d OF %d" % (k, i)
                    eq(t.take(len(wanted)), wanted, "what comes back")
            for t in talks[::2]:
                t.reset()
            for t in talks[1::2]:
                t.half()
                eq(t.rest(), b"", "the end")
    sq.w.settle(True)


@story
def half_close(lab):
    # The end goes through in its direction, after the bytes before it; the other direction goes on.
    def count(chat):
        n = 0
        while True:
            data = chat.more()
            if not data:
                break
            n += len(data)
        time.sleep(0.1)
        chat.send(b"%d bytes" % n)
        chat.half()
    sq = square(lab, count)
    for front, back in sq.pairs():
        if front.endswith("1s"):
            continue  # Python's TLS has no half close
        with sq.connect(front) as c:
            t = Talk(c, back + ".test").opened(front)
            t.send(b"y" * 300000)
            t.half()
            eq(t.rest(), b"300000 bytes", "%s to %s: the answer after the end" % (front, back))
    got = []

    def first(chat):
        chat.send(b"bye")
        chat.half()
        data = b""
        while True:
            more = chat.more()
            if not more:
                break
            data += more
        got.append(data)
    sq = square(lab, first)
    for front, back in sq.pairs():
        if front.endswith("1s"):
            continue
        with sq.connect(front) as c:
            t = Talk(c, back + ".test").opened(front)
            eq(t.take(3), b"bye", "what came before the end")
            if t.stream:
                t.stream.wait(lambda t=t: t.stream.ended, "the end")
            else:
                ok(c.ended(), "the end")
            t.send(b"still here")
            t.half()
            wait(lambda: got, "it arrives")
            eq(got.pop(), b"still here", "%s to %s: the other direction" % (front, back))


@story
def resets(lab):
    # A reset on one side is one on the other, and no clean end.
    ends = []

    def until_end(chat):
        try:
            while chat.more():
                pass
            ends.append("clean")
        except (Cut, OSError):
            ends.append("reset")
    sq = square(lab, until_end)
    for front, back in sq.pairs():
        with sq.connect(front) as c:
            t = Talk(c, back + ".test").opened(front)
            t.send(b"a")
            t.reset()
            wait(lambda: ends, "%s to %s: the upstream hears of it" % (front, back))
            eq(ends.pop(), "reset", "%s to %s: as" % (front, back))

    def breaks(chat):
        chat.send(b"abc")
        time.sleep(0.1)
        chat.reset()
    sq = square(lab, breaks)
    for front, back in sq.pairs():
        if front == "h1s":
            continue  # Python's TLS takes every end for a clean one
        with sq.connect(front) as c:
            t = Talk(c, back + ".test").opened(front)
            eq(t.take(3), b"abc", "what came")
            try:
                raise AssertionError("a clean end: %r" % t.rest())
            except (Cut, OSError):
                pass
            if t.stream:
                ok(t.stream.reset not in (None, NO_ERROR), "the code", t.stream)
                eq(c.request("GET /", host=back + ".test").response().body, b"plain", "the connection goes on")


@story
def refused(lab):
    # The upstream answers something else: an ordinary answer, with its body.
    sq = Square(lab, lambda x: x.reply(403, "not for you"), early=True, peer=TAKES)
    for front, back in sq.pairs():
        with sq.connect(front) as c:
            if isinstance(c, Peer):
                s = c.websocket("/", back + ".test")
                s.wait(lambda s=s: s.ended, "the answer")
                eq((s.status, s.body), (403, b"not for you"), "%s to %s" % (front, back))
            else:
                c.send(text_of("GET /", [("Host", back + ".test"), *ASK]))
                r = c.response()
                eq((r.status, r.body), (403, b"not for you"), "%s to %s" % (front, back))


@story
def a_peer_that_does_not_know_it(lab):
    # An h2 upstream without SETTINGS_ENABLE_CONNECT_PROTOCOL: refused, nothing is asked that it would misread.
    up = h2_upstream(lab)
    w = lab.weir(up, upstream={"protocol": "h2"})
    with w.client() as c:
        c.send(text_of("GET /", ASK))
        ok(c.response().status in (501, 502), "an h1 client's WebSocket")
    with h2_client(w) as c:
        eq(c.peer_setting(ENABLE_CONNECT_PROTOCOL), 1, "we know it")
        s = c.websocket()
        s.wait(lambda: s.ended or s.reset is not None, "an answer")
        ok(s.status in (501, 502), "an h2 client's WebSocket", s)
        eq(c.request("GET /").response().status, 200, "the connection goes on")
    eq([r.method for r in up.requests], ["GET"], "what came")


def tls_upstream(lab, peer=None):
    """A server that chooses h2, and speaks HTTP/1.1 to who offers no more: a chat on either, and what weir says to reach it."""
    ca = Authority(lab)
    context = ca.server(ca.issue("up.test"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    chats = []

    def talk(x):
        mine = Chat(x)
        chats.append(mine)
        capitals(mine)

    def reply(x):
        if x.protocol:
            talk(x)
        else:
            x.reply(200, "h2")

    def old(sock):
        conn = Conn(sock)
        talk(Exchange1(conn, conn.request()))
        conn.ended()
    up = h2_upstream(lab, reply, early=True, tls=context, fallback=old, peer=peer)
    up.chats = chats
    return up, {"protocol": "auto", "tls": {"ca": ca.cert, "sni": "up.test"}}


@story
def auto_falls_back(lab):
    # protocol: auto, and a server that chooses h2 and knows no RFC 8441 (most do): WebSockets reach it by HTTP/1.1.
    up, upstream = tls_upstream(lab)
    w = lab.weir(up, workers=1, upstream=upstream, route={"name": "api", "retry": {"attempts": 1}})
    for i in range(2):
        for connect in (w.client, lambda: h2_client(w)):
            with connect() as c:
                t = Talk(c, "a").opened("a WebSocket, %d" % i)
                t.send(b"hello")
                eq(t.take(5), b"HELLO", "what comes back")
                with h2_client(w) as beside:
                    eq(beside.request("GET /").response().body, b"h2", "a request beside it")
                t.reset()
    w.settle()
    eq([bool(chat.conn) for chat in up.chats], [True] * 4, "all are on HTTP/1.1")
    eq(len(up.conns), 1, "connections of HTTP/2")
    eq(w.metric("weir_retries_total", why="unprocessed"), 1, "it is known after the first one")
    eq([line["attempts"] for line in w.access(8)], [1] * 8, "attempts")


@story
def auto_stays(lab):
    # Where the server takes RFC 8441 they go by HTTP/2, as all else.
    up, upstream = tls_upstream(lab, TAKES)
    w = lab.weir(up, workers=1, upstream=upstream)
    for _ in range(3):
        with w.client() as c:
            t = Talk(c, "a").opened("a WebSocket")
            t.send(b"hello")
            eq(t.take(5), b"HELLO", "what comes back")
            t.reset()
    eq(([bool(chat.conn) for chat in up.chats], len(up.conns)), ([False] * 3, 1), "all are on one connection")


@story
def not_switched(lab):
    # An h1 upstream that passes over the upgrade and answers 200: to the client of h2 a 200 would grant the tunnel.
    w = lab.weir(lab.upstream(lambda c, r: c.send(answer(200, "a page"))))
    with h2_client(w) as c:
        s = c.websocket()
        eq(s.until_reset(), 10, "CONNECT_ERROR")
        eq(c.request("GET /").response().body, b"a page", "the connection goes on")
    eq([(line["status"], line["error"]["code"]) for line in w.access(2) if line.get("error")], [(502, "EUPNOUPGRADE")], "the log")


@story
def not_allowed(lab):
    up = lab.upstream()
    w = lab.weir(up, routes=[{"name": "off", "match": {"path": "/off"}, "to": "app", "upgrade": "off"}, {"name": "rest", "to": "app"}])
    with h2_client(w) as c:
        for path, protocol in (("/off", "websocket"), ("/", "other"), ("/", "connect-udp")):
            s = c.websocket(path, protocol=protocol)
            s.wait(lambda s=s: s.ended or s.reset is not None, "an answer")
            ok(s.reset is not None or 400 <= s.status < 600, "%s at %s" % (protocol, path), s)
        s = c.open([(":method", "GET"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", "a")])
        s.wait(lambda: s.ended or s.reset is not None, "an answer")
        ok(s.reset == PROTOCOL_ERROR or s.status == 400, ":protocol with GET", s)
        eq(c.request("GET /").response().status, 200, "the connection goes on")
    eq([r.target for r in up.requests if r.get("upgrade")], [], "nothing was asked to switch")


@story
def early_bytes(lab):
    # What comes together with the heads is not lost, on either side.
    def script(chat):
        chat.send(b"first")
        got = b""
        while len(got) < 5:
            got += chat.more()
        chat.send(got)
        chat.more()
    sq = square(lab, script)
    for back in ("h1", "h2", "h2s"):
        with h2_client(sq.w) as c:
            c.wait(lambda: c.settings_seen, "SETTINGS")
            s = c.websocket("/", back + ".test")
            s.send(b"early")
            eq(s.head().status, 200, "answer")
            eq(s.take(10), b"firstearly", "what came early, to %s" % back)
            s.end()
        with sq.w.client() as c:
            c.send(text_of("GET /", [("Host", back + ".test"), *ASK]) + b"early")
            eq(c.response().status, 101, "answer")
            eq(c.take(10), b"firstearly", "what came early, h1 to %s" % back)


@story
def back_pressure(lab):
    # 16 MiB to a client that does not read for a while, and to an upstream that does not.
    size, sent, go = 16 << 20, {}, threading.Event()

    def script(chat):
        if chat.x.target == "/down":
            for i in range(size >> 16):
                chat.send(b"w" * 65536)
                sent[chat.x.host] = (i + 1) << 16
            return chat.half()
        if not chat.conn:
            chat.x.read(False)
        go.wait(30)
        if not chat.conn:
            chat.x.read()
        n = 0
        while True:
            data = chat.more()
            if not data:
                break
            n += len(data)
        chat.send(b"%d" % n)
        return chat.half()
    sq = square(lab, script)
    for front, back in (("h2", "h1"), ("h2", "h2"), ("h1", "h2")):
        host = back + ".test"
        sent[host] = 0
        with (h2_client(sq.w, reads=False) if front == "h2" else sq.w.client(rcvbuf=65536)) as c:
            t = Talk(c, host, "/down").opened(front)
            time.sleep(0.5 * SLOW)
            ok(sent[host] < 12 << 20, "%s to %s: the upstream is held back" % (front, back), sent[host])
            if t.stream:
                t.stream.read()
            eq(len(t.rest()), size, "%s to %s: all of it" % (front, back))
        go.clear()
        with sq.connect(front) as c:
            t = Talk(c, host, "/up").opened(front)
            up = [0]

            def pour():
                for _ in range(size >> 16):
                    t.send(b"u" * 65536)
                    up[0] += 65536
                t.half()
            sender = threading.Thread(target=pour, daemon=True)
            sender.start()
            time.sleep(0.5 * SLOW)
            ok(up[0] < 12 << 20, "%s to %s: the client is held back" % (front, back), up[0])
            go.set()
            eq(t.rest(), b"%d" % size, "%s to %s: all of it" % (front, back))
            sender.join(10)


@story
def idle_tunnels_end(lab):
    sq = square(lab, capitals, timeouts={"tunnel": "500ms", "idle": "200ms", "receive": "200ms", "request": "300ms"})
    for front, back in (("h2", "h1"), ("h2", "h2"), ("h1", "h2")):
        with sq.connect(front) as c:
            t = Talk(c, back + ".test").opened(front)
            for _ in range(4):
                time.sleep(0.3)
                t.send(b"a")
                eq(t.take(1), b"A", "alive: no other deadline counts in a tunnel")
            began = time.monotonic()
            try:
                t.rest()
            except (Cut, OSError):
                pass
            ok(0.3 < time.monotonic() - began < 3 * SLOW, "ended after timeouts.tunnel", time.monotonic() - began)


@story
def drain_ends_tunnels(lab):
    sq = square(lab, capitals, shutdown={"drain": "5s", "tunnels": "500ms"})
    fronts = [("h2", "h1"), ("h2", "h2"), ("h1", "h2")]
    talks = [Talk(sq.connect(front), back + ".test").opened(front) for front, back in fronts]
    began = time.monotonic()
    sq.w.kick(15)
    time.sleep(0.2)
    for t in talks:
        t.send(b"a")
        eq(t.take(1), b"A", "they go on for a while")
    eq(sq.w.join(), 0, "exit status")
    ok(time.monotonic() - began < 3 * SLOW, "after shutdown.tunnels", time.monotonic() - began)


@story
def connect(lab):
    # CONNECT on h2 (RFC 9113 8.5): no scheme, no path; bytes both ways; a refusal is an ordinary answer.
    def script1(c):
        r = c.seen = c.head()
        if "no" in r.target:
            return c.send(answer(403, "no", [("Connection", "close")], "Forbidden"))
        c.send(b"HTTP/1.1 200 Fine\r\n\r\n")
        while c.more():
            data, c.buffer = c.buffer, b""
            c.send(data[::-1])
        return c.half()

    def script2(x):
        eq((x.method, x.target, x.scheme), ("CONNECT", None, None), "what h2 is asked")
        if "no" in x.host:
            return x.reply(403, "no")
        x.begin(200)
        while True:
            x.wait(lambda: x.ended or x.size > x.taken, "more")
            data = x.take(x.size - x.taken)
            if not data:
                return x.end()
            x.send(data[::-1])
    up1, up2 = lab.upstream(script=script1), h2_upstream(lab, script2, early=True)
    for up, conf in ((up1, {}), (up2, {"upstream": {"protocol": "h2"}})):
        w = lab.weir(up, route={"connect": "on"}, **conf)
        with h2_client(w) as c:
            s = c.open([(":method", "CONNECT"), (":authority", "far.test:443")], end=False)
            eq(s.head().status, 200, "2xx")
            for text in (b"abc", b"de"):
                s.send(text)
                eq(s.take(len(text)), text[::-1], "both ways")
            s.end()
            ok(s.response().ended, "the end")
            s = c.open([(":method", "CONNECT"), (":authority", "no.test:443")], end=False)
            s.wait(lambda s=s: s.ended, "an answer")
            eq((s.status, s.body), (403, b"no"), "a refusal")
            for headers in ([(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")], [(":method", "CONNECT"), (":authority", "a:1"), (":scheme", "http")],
                            [(":method", "CONNECT")], [(":method", "CONNECT"), (":authority", "a")]):
                s = c.open(headers, end=False)
                s.wait(lambda s=s: s.ended or s.reset is not None, "an answer")
                ok(s.reset == PROTOCOL_ERROR or s.status == 400, "refused: %r" % headers, s)
            eq(c.over, None, "the connection goes on")
        with w.client() as c:
            c.send(b"CONNECT far.test:443 HTTP/1.1\r\nHost: far.test:443\r\n\r\nearly")
            eq(c.response("CONNECT").status, 200, "2xx on h1")
            eq(c.take(5), b"ylrae", "both ways")
    eq(up1.conns[0].seen.line, "CONNECT far.test:443 HTTP/1.1", "what h1 was asked")
    w = lab.weir(up2, upstream={"protocol": "h2"})
    with h2_client(w) as c:
        s = c.open([(":method", "CONNECT"), (":authority", "far.test:443")], end=False)
        s.wait(lambda: s.ended or s.reset is not None, "an answer")
        eq(s.status, 405, "where it is off")


@story
def server_sent_events(lab):
    # Each event arrives when it is sent, while others wait; a client that leaves ends it at the upstream.
    def reply(x):
        x.begin(200, [("content-type", "text/event-stream")])
        try:
            for i in range(1000):
                x.send("data: %d\n\n" % i)
                time.sleep(0.05)
        except (OSError, Cut):
            gone.append(x.host)
    gone = []
    sq = Square(lab, reply, early=True)
    for front, back in sq.pairs():
        with sq.connect(front) as c:
            if isinstance(c, Peer):
                s = c.request("GET /", host=back + ".test")
                took = [(s.take(9), time.monotonic())[1] for _ in range(6)]
                s.rst(CANCEL)
            else:
                c.send(text_of("GET /", [("Host", back + ".test")]))
                eq(c.head().get("transfer-encoding"), "chunked", "a stream")
                took = [(c.until(b"\n\n\r\n"), time.monotonic())[1] for _ in range(6)]
            ok(0.1 < took[5] - took[0] < 3 * SLOW, "%s to %s: as they are sent" % (front, back), took)
            c.close()
            wait(lambda: gone, "the upstream hears that the client has gone")
            gone.clear()


main()
