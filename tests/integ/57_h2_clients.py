#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that others wrote, and `weir echo`: curl, nghttp and h2load where they are installed."""
import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from h2lab import Peer, Square, connect, h2_client  # noqa: E402
from weirlab import BINARY, PATIENCE, Skip, address, dial, eq, has, main, ok, story, text_of, wait  # noqa: E402


def program(name):
    if not shutil.which(name):
        raise Skip("%s is not installed" % name)
    return name


def run(*args, stdin=None):
    done = subprocess.run(args, capture_output=True, timeout=PATIENCE * 4, input=stdin, check=False)
    return done.returncode, done.stdout, done.stderr.decode("latin-1")


def urls(sq, back, path):
    """The URL at the plain and at the TLS listener, with what curl needs for the name."""
    for listener, scheme in (("web", "http"), ("tls", "https")):
        host, _, port = sq.w.config["listeners"][listener]["bind"].rpartition(":")
        name = back + ".test"
        yield scheme, "%s://%s:%s%s" % (scheme, name, port, path), ["--resolve", "%s:%s:%s" % (name, port, host), "--cacert", sq.ca.cert]


@story
def curl(lab):
    program("curl")
    sq = Square(lab)
    big = lab.write("big", "u" * 3000000)
    for back in ("h1", "h2", "h2s"):
        for scheme, url, args in urls(sq, back, "/a?b"):
            for how in (["--http2-prior-knowledge"] if scheme == "http" else ["--http2"], ["--http1.1"]):
                what = "curl %s %s" % (how[0], url)
                version = "1.1" if how == ["--http1.1"] else "2"
                for more, body in (([], ""), (["-d", "hello"], "hello"), (["-T", big], "u" * 3000000), (["-T", "-"], "from a pipe"), (["-X", "POST"], "")):
                    status, out, err = run("curl", "-sS", "-m", "20", "-w", "\n%{http_code} %{http_version}", *how, *args, *more, url, stdin=b"from a pipe")
                    eq(status, 0, "%s %s: %s" % (what, more, err))
                    told, _, last = out.decode().rpartition("\n")
                    eq((last, json.loads(told)["body"] == body), ("200 " + version, True), "%s %s" % (what, more))
                status, out, err = run("curl", "-sSI", "-m", "20", *how, *args, url)
                eq((status, out.split()[1]), (0, b"200"), what + " -I")
    # h1 with `Upgrade: h2c`, as curl --http2 does on plaintext: the offer is not taken, the request is served.
    for _, url, args in list(urls(sq, "h1", "/"))[:1]:
        status, out, err = run("curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code} %{http_version}", "--http2", *args, url)
        eq((status, out), (0, b"200 1.1"), "curl --http2 without TLS")


@story
def curl_answered_early(lab):
    # The answer comes while the body is on its way: 7.88 fails if it reads the RST_STREAM together with it.
    program("curl")
    sq = Square(lab, limits={"body": "10KiB"})
    big = lab.write("big", "u" * 3000000)
    for _, url, args in urls(sq, "h1", "/"):
        how = ["--http2-prior-knowledge"] if url.startswith("http:") else ["--http2"]
        for _ in range(5):
            status, out, err = run("curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code} %{http_version}", *how, *args, "-T", big, url)
            eq((status, out, err), (0, b"413 2", ""), "an upload that is too large: %s" % url)


@story
def curl_in_parallel(lab):  # over TLS: with prior knowledge curl 7.88 fails by itself, whatever the server
    program("curl")
    sq = Square(lab, lambda x: x.reply(200, x.target * 100))
    for back in ("h1", "h2"):
        _, url, args = list(urls(sq, back, "/[1-200]"))[1]
        status, out, err = run("curl", "-sS", "-m", "30", "-Z", "--parallel-max", "50", "--http2", "-o", os.path.join(lab.dir, "out-#1"), *args, url)
        eq(status, 0, err[-300:])
        for i in range(1, 201):
            with open(lab.path("out-%d" % i), encoding="ascii") as f:
                eq(f.read(), "/%d" % i * 100, "answer %d" % i)
            os.remove(lab.path("out-%d" % i))
        ok(len(sq.ups["h2"].conns) <= 2, "connections to the upstream")


@story
def nghttp(lab):
    program("nghttp")
    sq = Square(lab, lambda x: x.reply(200, "n" * 100000))
    plain, tls = (sq.w.config["listeners"][name]["bind"] for name in ("web", "tls"))
    for url in ("http://" + plain, "https://" + tls):
        for host in ("h1.test", "h2.test"):
            status, out, err = run("nghttp", "-nv", "-m", "20", "-H", ":authority: " + host, url + "/a")
            eq((status, len(re.findall(rb":status: 200", out)), b"GOAWAY" in re.sub(rb"(?s)send GOAWAY.*", b"", out)), (0, 20, False), "nghttp " + url)
            status, out, err = run("nghttp", "-n", "-s", "-p", "32", "--no-dep", "-W", "20", "-w", "15", "-H", ":authority: " + host, url + "/a")
            eq(status, 0, "nghttp with other windows: " + err)


@story
def h2load(lab):
    program("h2load")
    sq = Square(lab, lambda x: x.reply(200, "l" * 500))
    plain, tls = (sq.w.config["listeners"][name]["bind"] for name in ("web", "tls"))
    body = lab.write("body", "b" * 50000)
    for url in ("http://" + plain, "https://" + tls):
        for host in ("h1.test", "h2.test"):
            for args in (["-c", "4", "-m", "10"], ["-c", "1", "-m", "100"], ["-c", "4", "-m", "5", "-d", body], ["-c", "4", "-m", "5", "-w", "10", "-W", "12"]):
                status, out, err = run("h2load", "-n", "400", "-t", "1", *args, "-H", ":authority: " + host, url + "/")
                eq(re.findall(rb"status codes: (\d+) 2xx", out), [b"400"], "h2load %s %s: %s" % (args, url, out[-800:]))


class Echo:
    """`weir echo`, until the block ends."""

    def __init__(self, lab, *args):
        self.lab, self.bind = lab, address()
        self.address = self.bind
        self.process = subprocess.Popen([BINARY, "echo", "--listen", self.bind, *args], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

        def up():
            try:
                dial(self.bind).close()
                return True
            except OSError:
                return False
        wait(up, "echo listens")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.process.terminate()
        status = self.process.wait(PATIENCE)
        if not kind:
            eq(status, 0, "exit status of echo")


def echo_stories(c, version):
    """What echo does, on a connection of HTTP/2."""
    r = c.request("POST /hello?x=1", [("x-mine", "7")], b"body of it").response()
    eq(r.status, 200, "told back")
    text = r.body.decode()
    for part in ("POST /hello?x=1 " + version, "x-mine: 7", "body of it"):
        has(text, part, "told back")
    told = c.request("PUT /j", [("accept", "application/json")], b"j" * 1000).response().json()
    eq((told["method"], told["target"], told["version"], told["body_bytes"]), ("PUT", "/j", version, 1000), "as JSON")
    eq([c.request("GET /status/%d" % n).response().status for n in (204, 304, 418, 503)], [204, 304, 418, 503], "status")
    streams = [c.request("GET /bytes/%d" % (i * 10000)) for i in range(20)] + [c.request("GET /delay/%d" % (20 * i)) for i in range(10)]
    eq([s.response().size for s in streams[:20]], [i * 10000 for i in range(20)], "bytes")
    eq([s.response().status for s in streams[20:]], [200] * 10, "delays, beside each other")
    eq(c.request("HEAD /bytes/5").response().get("content-length"), "5", "HEAD")
    s = c.request("POST /stream", end=False)
    for i in range(10):
        s.send(b"piece %d," % i * 100)
    s.end()
    has(s.response().body.decode(), "piece 9,", "a body without a length")
    c.request("GET /bytes/100000000").take(100000)
    s = c.request("GET /delay/60000")
    s.rst()
    c.streams[s.id - 2].rst()
    r = c.request("POST /t", [("te", "trailers")], b"x", trailers=[("x-sum", "1")]).response()
    eq(r.trailers, [("x-sum", "1")], "trailers")
    s = c.websocket("/ws")
    eq(s.head().status, 200, "a WebSocket")
    s.send(b"\x81\x82\0\0\0\0hi" + b"\x82\xfe\xff\xff\0\0\0\0" + b"w" * 65535)
    eq(s.take(4 + 4 + 65535), b"\x81\x02hi" + b"\x82\x7e\xff\xff" + b"w" * 65535, "its messages come back")
    s.send(b"\x88\x80\0\0\0\0")
    eq(s.take(2), b"\x88\x00", "Close")
    ok(s.wait(lambda: s.ended, "the end"), "the end")
    s = c.request("POST /big", body=b"b" * 3000000)
    ok(s.response().size > 3000000, "a long body", s)


@story
def echo_of_weir(lab):
    with Echo(lab) as e:
        with h2_client(e) as c:
            echo_stories(c, "HTTP/2")
        with dial(e.bind) as c:
            c.send(text_of("GET /bytes/5") * 2)
            eq([len(c.response().body) for _ in range(2)], [5, 5], "HTTP/1.1 on the same port")
        w = lab.weir(servers=[e.bind], upstream={"protocol": "h2"})
        with h2_client(w) as c:
            echo_stories(c, "HTTP/2")
        has(w.ask("POST /hello", [("X-Mine", "7")], b"body of it").body.decode(), "POST /hello HTTP/2", "from h1 to h2")


@story
def echo_by_alpn(lab):
    from certs import Authority
    ca = Authority(lab)
    cert, key = ca.issue("e.test")
    with Echo(lab, "--tls-cert", cert, "--tls-key", key) as e:
        for offered, chosen in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (None, None)):
            sock = connect(e, tls=ca.client(alpn=offered), sni="e.test")
            eq(sock.selected_alpn_protocol(), chosen, "ALPN of %s" % offered)
            if chosen == "h2":
                with Peer(sock) as c:
                    echo_stories(c, "HTTP/2")
        w = lab.weir(servers=[e.bind], upstream={"protocol": "auto", "tls": {"ca": ca.cert, "sni": "e.test"}})
        has(w.ask("GET /").body.decode(), "GET / HTTP/2", "h2, by ALPN")


@story
def echo_ends_with_streams(lab):
    # SIGTERM ends echo, whatever is open.
    with Echo(lab) as e:
        c = h2_client(e)
        c.request("GET /delay/30000")
        c.request("GET /bytes/1000000000").take(1000)
        e.process.terminate()
        eq(e.process.wait(PATIENCE), 0, "exit status")
        c.until_over()


main()
