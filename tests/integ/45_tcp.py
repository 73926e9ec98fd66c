#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`protocol: tcp`: bytes passed on unread, by the same machine that serves requests."""
import hashlib
import os
import select
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from certs import Authority  # noqa: E402
from weirlab import HOST, MOVER, SLOW, Upstream, Wrong, address, dial, eq, free_port, has, main, mirror, ok, story, wait  # noqa: E402

TCP = {"protocol": "tcp"}


def shout(c):
    """Sends back what comes, in capitals; answers FIN by FIN."""
    while c.more():
        data, c.buffer = c.buffer, b""
        c.send(data.upper())
    c.half()


def named(name):
    """A server that says its name first, and then shouts."""
    def script(c):
        c.send(name)
        shout(c)
    return script


def cut(c, what):
    """It must end by RST, with nothing before."""
    try:
        more = c.more()
    except ConnectionError:
        return
    raise Wrong("%s: wanted a reset, saw %s" % (what, repr(c.buffer) if more else "a clean end"))


def is_cut(w, what):
    """A connection to w: likewise; the RST may come before connect() has returned."""
    try:
        c = w.client()
    except ConnectionError:
        return
    with c:
        cut(c, what)


@story
def both_ways(lab):  # client ── weir ── up
    up = lab.upstream(script=shout)
    w = lab.weir(up, listener=TCP)
    with w.client() as c:
        for text in (b"hello", b"x" * 100000, b"\x16\x03\x01\xff", b"GET / HTTP/1.1\r\n\r\n", b"PROXY UNKNOWN\r\n"):
            c.send(text)
            eq(c.take(len(text)), text.upper(), "what comes back")
        told = w.admin("/v1/connections").json()["connections"][0]
        eq((told["state"], told["protocol"], told["upstream"], told["server"]), ("tunnel", "tcp", "app", up.address), "show connections")
        eq(w.metrics()['weir_connections{listener="web"}'], 1, "a gauge")
    wait(lambda: up.open == 0, "the upstream's connection ends")
    line = w.access(1)[0]
    eq((line["protocol"], line["status"], line["mover"], line["route"], line["upstream"], line["server"], line["attempts"]),
       ("tcp", 200, MOVER or "copy", "app", "app", up.address, 1), "the log")
    ok(line["rtt_us"] > 0 and line["retrans"] == 0, "what TCP has measured", line)
    eq((line["bytes_in"], line["bytes_out"]), (100042, 100042), "bytes")
    ok("method" not in line and "path" not in line and "error" not in line, "nothing of HTTP", line)
    w.settle(True)
    m = w.metrics()
    eq(m['weir_requests_total{listener="web",route="app",code="200"}'], 1, "a connection counts as a request")
    eq(m['weir_upstream_connections_opened_total{upstream="app"}'], 1, "opened")
    eq(m['weir_upstream_connections{upstream="app",state="idle"}'], 0, "nothing of it is pooled")


@story
def the_server_speaks_first(lab):
    up = lab.upstream(script=named(b"220 ready\r\n"))
    w = lab.weir(up, listener=TCP)
    with w.client() as c:
        eq(c.take(11), b"220 ready\r\n", "a greeting")
        c.send(b"quit")
        eq(c.take(4), b"QUIT", "and then")
    # said and closed before the client says anything
    up.script = lambda c: c.send(b"bye")
    with w.client() as c:
        eq(c.rest(), b"bye", "a server that only speaks")


@story
def half_close(lab):
    # FIN goes through in its direction, after the bytes before it; the other direction goes on.
    def script(c):
        data = c.rest()
        time.sleep(0.2)
        c.send(b"%d bytes" % len(data))
    w = lab.weir(lab.upstream(script=script), listener=TCP)
    with w.client() as c:
        c.send(b"y" * 3000000)
        c.half()
        eq(c.rest(), b"3000000 bytes", "the answer after FIN")
    got = []

    def first(c):
        c.send(b"bye")
        c.half()
        got.append(c.rest())
    w2 = lab.weir(lab.upstream(script=first), listener=TCP)
    with w2.client() as c:
        eq(c.rest(), b"bye", "the upstream's FIN")
        c.send(b"still here")
        c.half()
        wait(lambda: got, "it arrives")
        eq(got, [b"still here"], "the other direction")
    with w.client() as c:  # FIN at once, before there is a connection to the server
        c.half()
        eq(c.rest(), b"0 bytes", "an early FIN")
    for weir in (w, w2):
        wait(lambda weir=weir: weir.status()["connections"] == 0, "it is over")


@story
def reset(lab):
    up = lab.upstream(script=shout)
    w = lab.weir(up, listener=TCP)
    before = w.fds()
    c = w.client()
    c.send(b"a")
    eq(c.take(1), b"A", "it stands")
    c.reset()
    wait(lambda: up.open == 0, "the upstream's connection ends")
    eq(w.access(1)[0]["error"], {"code": "ECLIENTGONE", "by": "client"}, "whose fault")

    def script(c):
        c.take(1)
        c.reset()
    w2 = lab.weir(lab.upstream(script=script), listener=TCP)
    with w2.client() as c:
        c.send(b"a")
        cut(c, "RST of the server")
    eq(w2.access(1)[0]["error"], {"code": "EUPRESET", "by": "upstream"}, "whose fault")
    wait(lambda: w.fds() <= before, "descriptors are back")


@story
def another_server(lab):
    # The first refuses: the same connection of the client goes to the second.
    gone, up = lab.upstream(listen=False), lab.upstream(script=shout)
    w = lab.weir(gone, up, listener=TCP, workers=1)
    for i in range(4):
        with w.client() as c:
            c.send(b"abc")
            eq(c.take(3), b"ABC", "connection %d" % i)
    w.settle(True)
    ok(w.metrics()['weir_retries_total{upstream="app",why="connect"}'] >= 1, "a connect was retried")
    ok(any(line["attempts"] == 2 and line["server"] == up.address for line in w.access(4)), "attempts in the log", w.access())


@story
def nobody_there(lab):
    gone = lab.upstream(listen=False)
    w = lab.weir(gone, listener=TCP)
    is_cut(w, "no server: never a clean end")
    line = w.access(1)[0]
    eq((line["status"], line["error"], line["attempts"]), (502, {"code": "ECONNREFUSED", "by": "upstream", "sys": "ECONNREFUSED"}, 2), "the log")
    ok("mover" not in line, "nothing was moved", line)


@story
def connect_takes_too_long(lab):
    # A backlog that is full: SYNs are not answered.
    full = socket.socket()
    full.bind((HOST, 0))
    full.listen(0)
    fill = [socket.socket() for _ in range(4)]
    for s in fill:
        s.setblocking(False)
        s.connect_ex(full.getsockname())
    time.sleep(0.1)
    w = lab.weir("%s:%d" % full.getsockname(), listener=TCP, timeouts={"connect": "300ms"})
    started = time.monotonic()
    is_cut(w, "no connection in time")
    ok(time.monotonic() - started >= 0.3, "not before timeouts.connect")
    eq(w.access(1)[0]["error"]["code"], "ECONNTIME", "the log")
    # and a client that does not wait
    c = w.client()
    time.sleep(0.1)
    c.reset()
    eq(w.access(2)[1]["error"]["by"] in ("client", "upstream"), True, "the log")
    wait(lambda: w.status()["connections"] == 0, "nothing is left")
    for s in [full, *fill]:
        s.close()


@story
def idle(lab):
    up = lab.upstream(script=shout)
    w = lab.weir(up, listener=TCP, timeouts={"tunnel": "500ms", "idle": "100ms", "receive": "100ms", "head": "100ms", "request": "200ms"})
    with w.client() as c:
        for _ in range(5):
            time.sleep(0.3)
            c.send(b"a")
            eq(c.take(1), b"A", "alive: no other deadline counts")
        cut(c, "closed after timeouts.tunnel")
    wait(lambda: up.open == 0, "the upstream's connection too")
    eq(w.access(1)[0]["error"], {"code": "ETIMEDOUT", "by": "us"}, "the log")


@story
def half_closed(lab):
    # One side has ended, the other neither sends nor ends: not for as long as an open tunnel may be quiet.
    seen = []

    def script(c):
        c.send(c.take(1))
        seen.append(c.rest())
        c.send(b"b" * c.wanted)
        while c.wanted:
            time.sleep(0.2)
            c.send(b"c")
            c.wanted -= 1
        gone = select.poll()
        gone.register(c.sock, 0)
        gone.poll(20000 * SLOW)  # a reset

    def weir(wanted):
        def one(c):
            c.wanted = wanted
            script(c)
        return lab.weir(lab.upstream(script=one), listener=TCP, timeouts={"tunnel": "1h", "half_closed": "%dms" % (600 * SLOW)})
    w = weir(0)
    with w.client() as c:
        c.send(b"a")
        eq(c.take(1), b"a", "it stands")
        time.sleep(1.2 * SLOW)  # open, and quiet: longer than that
        c.half()
        started = time.monotonic()
        cut(c, "the client has ended, and gets nothing")
        ok(time.monotonic() - started >= 0.6 * SLOW, "not before half_closed", time.monotonic() - started)
    eq(seen, [b""], "the server saw the end")
    eq(w.access(1)[0]["error"], {"code": "ETIMEDOUT", "by": "us"}, "the log")
    w = weir(6)
    with w.client() as c:
        c.send(b"a")
        c.half()
        eq(c.take(13), b"a" + b"b" * 6 + b"c" * 6, "as long as the other side sends, it goes on")
        cut(c, "and then")


@story
def back_pressure(lab):
    # 32 MiB to a client that does not read for a while: kept at the server. Then all of it, and the other way round.
    block = os.urandom(1 << 16)
    want = hashlib.sha256(block * 512).hexdigest()
    sent, got = [0], []

    def script(c):
        c.sock.settimeout(30 * SLOW)
        for _ in range(512):
            c.sock.sendall(block)
            sent[0] += len(block)
        c.half()
        digest = hashlib.sha256()
        time.sleep(0.5)
        while c.more():
            digest.update(c.buffer)
            c.buffer = b""
        got.append(digest.hexdigest())
    w = lab.weir(lab.upstream(script=script), listener=TCP)
    before = w.rss()
    with w.client(rcvbuf=65536) as c:
        c.sock.settimeout(30 * SLOW)
        time.sleep(0.7)
        ok(sent[0] < 20 << 20, "the server is held back", sent[0])
        if SLOW == 1:
            ok(w.rss() - before < 2 << 20, "memory", w.rss() - before)
        digest = hashlib.sha256()
        while c.more():
            digest.update(c.buffer)
            c.buffer = b""
        eq(digest.hexdigest(), want, "all of it, down")
        c.send(block * 512)
        c.half()
        wait(lambda: got, "the server has all", 30 * SLOW)
    eq(got, [want], "all of it, up")


@story
def both_ways_at_once(lab):
    # Each direction has its own pressure: an echo of 16 MiB, written and read at the same time, on several connections.
    w = lab.weir(lab.upstream(script=mirror), listener=TCP)
    block = os.urandom(1 << 16)
    want, seen = hashlib.sha256(block * 256).hexdigest(), []

    def one():
        with w.client() as c:
            writer = threading.Thread(target=lambda: (c.send(block * 256), c.half()))
            writer.start()
            digest = hashlib.sha256()
            while c.more():
                digest.update(c.buffer)
                c.buffer = b""
            writer.join()
            seen.append(digest.hexdigest())
    threads = [threading.Thread(target=one) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    eq(seen, [want] * 4, "what came back")


@story
def limits_and_drain(lab):
    up = lab.upstream(script=shout)
    w = lab.weir(up, listener={**TCP, "limits": {"connections_per_client": 2}}, shutdown={"drain": "5s", "tunnels": "500ms"})
    a, b = w.client(), w.client()
    for c in (a, b):
        c.send(b"a")
        eq(c.take(1), b"A", "two")
    with w.client() as c:
        try:
            ok(not c.more(), "a third is refused")
        except ConnectionError:
            pass
    eq(w.metrics()['weir_connections_refused_total{listener="web",reason="per_client"}'], 1, "and counted")
    started = time.monotonic()
    w.kick(15)
    time.sleep(0.2)
    a.send(b"a")
    eq(a.take(1), b"A", "it goes on for a while")
    eq(w.join(), 0, "exit status")
    ok(time.monotonic() - started < 3 * SLOW, "after shutdown.tunnels", time.monotonic() - started)


@story
def connections_max(lab):
    # The queue of an upstream is the same for connections: one waits until another ends.
    up = lab.upstream(script=shout)
    w = lab.weir(up, listener=TCP, upstream={"connections_max": 1}, timeouts={"queue": "5s"})
    a = w.client()
    a.send(b"a")
    eq(a.take(1), b"A", "the first")
    b = w.client()
    b.send(b"b")
    time.sleep(0.2)
    eq(len(up.conns), 1, "the second waits")
    a.close()
    eq(b.take(1), b"B", "and then has its turn")


@story
def routes(lab):
    # By the client's address, by the local port; the first that matches.
    ups = [lab.upstream(script=named(b"%d" % i)) for i in range(3)]
    second = address()
    config_listener = {**TCP, "bind": [address(), second], "routes": [
        {"name": "trusted", "match": {"client": "127.0.0.9"}, "to": "u0"},
        {"name": "second", "match": {"port": int(second.rpartition(":")[2])}, "to": "u1"},
        {"name": "rest", "match": {"client": "127.0.0.0/8"}, "to": "u2"}]}
    w = lab.weir(ups[0], listeners={"web": config_listener},
                 upstreams={"u%d" % i: {"servers": [up.address]} for i, up in enumerate(ups)})
    for to, source, want in ((w.address, None, b"2"), (second, None, b"1"), (second, "127.0.0.9", b"0"), (w.address, "127.0.0.9", b"0")):
        with dial(to, source=source) as c:
            eq(c.take(1), want, "from %s to %s" % (source, to))
    w2 = lab.weir(ups[0], listener=TCP, routes=[{"name": "no", "match": {"client": "192.0.2.0/24"}, "to": "app"}])
    is_cut(w2, "no route")
    line = w2.access(1)[0]
    eq((line["status"], line["error"]["code"], line.get("route")), (404, "ENOROUTE", None), "the log")


@story
def tls_in_front(lab):
    # TLS ends here, bytes go on in the clear; the other direction of a half-close works in TLS 1.3.
    ca = Authority(lab)
    pair = ca.issue("a.test")
    seen = []

    def script(c):
        seen.append(c.take(5))
        c.send(b"answer")
        shout(c)
    w = lab.weir(lab.upstream(script=script), listener={**TCP, "tls": {"cert": pair[0], "key": pair[1]}})
    with w.client(tls=ca.client(), sni="a.test") as c:
        c.send(b"early")
        eq(c.take(6), b"answer", "both ways")
        c.send(b"z" * 200000)
        eq(c.take(200000), b"Z" * 200000, "much")
        eq(c.sock.selected_alpn_protocol(), None, "no ALPN of HTTP")
    eq(seen, [b"early"], "in the clear")
    line = w.access(1)[0]
    eq((line["tls"]["sni"], line["protocol"]), ("a.test", "tcp"), "the log")
    with w.client() as c:  # no TLS
        c.send(b"GET / HTTP/1.1\r\n\r\n")
        try:
            c.rest()
        except ConnectionError:
            pass
    wait(lambda: w.metrics()['weir_connections_refused_total{listener="web",reason="handshake"}'] == 1, "a refused handshake is counted")
    # routes by the name that TLS tells
    ups = [lab.upstream(script=named(b"%d" % i)) for i in range(2)]
    more = ca.issue("b.test")
    w2 = lab.weir(ups[0], ups[1], listener={**TCP, "tls": {"certs": [{"cert": p[0], "key": p[1]} for p in (pair, more)], "alpn": ["imap"]}},
                  routes=[{"name": "b", "match": {"sni": "*.test"}, "to": "u1"}, {"name": "rest", "to": "u0"}],
                  upstreams={"u%d" % i: {"servers": [up.address]} for i, up in enumerate(ups)})
    for sni, want in (("b.test", b"1"), ("a.test", b"1")):
        with w2.client(tls=ca.client(alpn=["imap"]), sni=sni) as c:
            eq((c.take(1), c.sock.selected_alpn_protocol()), (want, "imap"), "with SNI " + sni)
    lax = ca.client()
    lax.check_hostname = False
    with w2.client(tls=lax) as c:
        eq(c.take(1), b"0", "without SNI")


@story
def tls_to_the_server(lab):
    ca = Authority(lab)
    up = lab.upstream(script=named(b"hello"), tls=ca.server(ca.issue("up.test")))
    w = lab.weir(up, listener=TCP, upstream={"tls": {"ca": ca.cert, "sni": "up.test"}})
    with w.client() as c:
        eq(c.take(5), b"hello", "who speaks first, in TLS")
        c.send(b"x" * 100000)
        eq(c.take(100000), b"X" * 100000, "and back")
    eq(up.conns[0].sock.selected_alpn_protocol(), None, "no ALPN is offered")
    w = lab.weir(up, listener=TCP, upstream={"tls": {"ca": ca.cert, "sni": "other.test"}})
    is_cut(w, "a certificate for another name")
    eq(w.access(1)[0]["error"]["code"], "EUPVERIFY", "the log")


@story
def the_command(lab):
    # weir proxy --tcp
    status, out, _ = lab.cli("proxy", "--tcp", "--listen", "127.0.0.1:1", "--to", "tls://a.test:5432", "--print-config")
    eq(status, 0, "exit status")
    has(out, "protocol: tcp", "the YAML")
    has(out, "tls: on", "the YAML")
    status, _, err = lab.cli("proxy", "--tcp", "--listen", "127.0.0.1:1", "--to", "a.test", "--print-config")
    eq(status, 2, "without a port")
    has(err, "HOST:PORT", "the sentence")


main()
