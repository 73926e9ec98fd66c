#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One request after the other: methods, keep-alive, pipelining, chunks, trailers, 1xx, Expect, versions, close."""
import os
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import answer, chunk, eq, has, main, ok, story, text_of, wait  # noqa: E402


@story
def get_post_head(lab):  # client ── weir ── up
    w = lab.weir(lab.upstream())
    r = w.ask("GET /a?b=c")
    eq((r.status, r.json()["method"], r.json()["target"], r.json()["version"]), (200, "GET", "/a?b=c", "HTTP/1.1"), "GET")
    r = w.ask("POST /a", body=b"hello")
    eq((r.status, r.json()["body"]), (200, "hello"), "POST")
    r = w.ask("HEAD /a")
    eq((r.status, r.body), (200, b""), "HEAD")
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        r = w.ask(method + " /a", body=b"x")
        eq((r.status, r.json()["method"], r.json()["body"]), (200, method, "x"), method)


@story
def head_has_the_length_but_no_body(lab):
    # The connection stays usable after an answer to HEAD that tells a length.
    w = lab.weir(lab.upstream(lambda c, r: c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" if r.method == "HEAD"
                                                  else answer(200, "next"))))
    with w.client() as c:
        c.send(text_of("HEAD /"))
        eq(c.response("HEAD").get("content-length"), "1000", "the length of what GET would give")
        c.send(text_of("GET /"))
        eq(c.response().body, b"next", "the answer after it")


@story
def no_body_statuses(lab):
    def reply(c, r):
        status = int(r.target[1:])
        c.send(b"HTTP/1.1 %d X\r\n%s\r\n" % (status, b"Content-Length: 55\r\nETag: \"a\"\r\n" if status == 304 else b""))
    w = lab.weir(lab.upstream(reply))
    with w.client() as c:
        for status in (204, 304, 204):
            c.send(text_of("GET /%d" % status))
            r = c.response()
            eq((r.status, r.body, r.get("transfer-encoding")), (status, b"", None), "an answer that has no body")


@story
def keep_alive(lab):
    up = lab.upstream()
    w = lab.weir(up, workers=1)
    with w.client() as c:
        for i in range(20):
            c.send(text_of("GET /%d" % i))
            eq(c.response().json()["target"], "/%d" % i, "the answer to this request")
    eq(len(up.conns), 1, "connections to the upstream")


@story
def pipelined_in_order(lab):
    # The first is answered last by the upstream; the client still gets them in order.
    def reply(c, r):
        time.sleep({"/0": 0.2, "/1": 0.1}.get(r.target, 0))
        c.send(answer(200, r.target))
    w = lab.weir(lab.upstream(reply))
    with w.client() as c:
        c.send(b"".join(text_of("GET /%d" % i) for i in range(10)))
        eq([c.response().body.decode() for _ in range(10)], ["/%d" % i for i in range(10)], "answers in order")


def mixed_pipeline():
    return b"".join([
        text_of("POST /0", body=b"a" * 10),
        text_of("GET /1"),
        text_of("POST /2", [("Transfer-Encoding", "chunked")]) + chunk("bcd") + chunk("e" * 300) + b"0\r\n\r\n",
        text_of("HEAD /3"),
        text_of("PUT /4", body=b"f" * 5000),
        b"\r\n" + text_of("GET /5"),
    ])


def check_mixed(c):
    got = []
    for method in ("POST", "GET", "POST", "HEAD", "PUT", "GET"):
        r = c.response(method)
        got.append(None if method == "HEAD" else (r.json()["target"], len(r.json()["body"])))
    eq(got, [("/0", 10), ("/1", 0), ("/2", 303), None, ("/4", 5000), ("/5", 0)], "answers of a mixed pipeline")


@story
def mixed_pipeline_at_once(lab):
    w = lab.weir(lab.upstream())
    with w.client() as c:
        c.send(mixed_pipeline())
        check_mixed(c)


@story
def mixed_pipeline_in_odd_pieces(lab):
    w = lab.weir(lab.upstream())
    data = mixed_pipeline()
    for step in (1, 7, 61, 1009):
        with w.client() as c:
            def feed():
                for at in range(0, len(data), step):
                    c.send(data[at:at + step])
                    if at < 800:
                        time.sleep(0.0005)
            feeder = threading.Thread(target=feed)
            feeder.start()
            check_mixed(c)
            feeder.join()


@story
def pipelined_then_half_closed(lab):
    # Everything that came before FIN is answered.
    w = lab.weir(lab.upstream(lambda c, r: (time.sleep(0.05), c.send(answer(200, r.target)))[0]))
    with w.client() as c:
        c.send(b"".join(text_of("GET /%d" % i) for i in range(5)))
        c.half()
        eq([c.response().body for _ in range(5)], [b"/%d" % i for i in range(5)], "all answers")
        ok(c.ended(), "then the connection ends")


@story
def chunked_both_ways_with_trailers(lab):
    def reply(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
        c.send(chunk("got ") + chunk(r.body) + b"0\r\nX-Sum: 42\r\nX-More: yes\r\n\r\n")
    up = lab.upstream(reply)
    w = lab.weir(up)
    with w.client() as c:
        c.send(text_of("POST /", [("Transfer-Encoding", "chunked"), ("TE", "trailers"), ("Connection", "TE")]))
        c.send(chunk("he") + chunk("llo") + b"0\r\nX-Check: 7\r\n\r\n")
        r = c.response()
        eq((r.body, r.trailers), (b"got hello", [("x-sum", "42"), ("x-more", "yes")]), "body and trailers of the answer")
        eq((up.requests[0].body, up.requests[0].trailers), (b"hello", [("x-check", "7")]), "body and trailers of the request")
        c.send(text_of("POST /", [("Transfer-Encoding", "chunked")]) + chunk("x") + b"0\r\n\r\n")
        eq(c.response().trailers, [], "no trailers for who does not ask for them")


@story
def forbidden_trailers(lab):
    # A trailer that would frame, route or authorise is no trailer: the request is refused.
    up = lab.upstream()
    w = lab.weir(up)
    for name in ("Content-Length: 5", "Transfer-Encoding: chunked", "Host: evil", "Authorization: x"):
        with w.client() as c:
            c.send(text_of("POST /", [("Transfer-Encoding", "chunked")]) + chunk("x") + b"0\r\n" + name.encode() + b"\r\n\r\n")
            eq(c.response().status, 400, "a trailer %s" % name)


@story
def http10_client(lab):
    def reply(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("abc") + chunk("def") + b"0\r\n\r\n")
    up = lab.upstream(reply)
    w = lab.weir(up)
    with w.client() as c:
        c.send(b"GET / HTTP/1.0\r\n\r\n")
        r = c.response()
        eq((r.body, r.get("transfer-encoding")), (b"abcdef", None), "no chunks for a 1.0 client")
        ok(c.ended(), "the connection ends")
    eq(up.requests[0].version, "HTTP/1.1", "what the upstream is told")
    up.reply = lambda c, r: c.send(answer(200, "hi"))
    with w.client() as c:
        for _ in range(3):
            c.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            r = c.response()
            eq((r.body, (r.get("connection") or "").lower()), (b"hi", "keep-alive"), "1.0 with keep-alive")


@story
def http10_upstream(lab):
    def reply(c, r):
        c.send(b"HTTP/1.0 200 OK\r\nX-Old: yes\r\n\r\nold body")
        return True
    up = lab.upstream(reply)
    w = lab.weir(up)
    with w.client() as c:
        for _ in range(2):
            c.send(text_of("GET /"))
            r = c.response()
            eq((r.version, r.body, r.get("transfer-encoding")), ("HTTP/1.1", b"old body", "chunked"), "an answer until close")
    eq(len(up.conns), 2, "a 1.0 answer ends the connection to the upstream")


@story
def informational(lab):
    def reply(c, r):
        c.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        time.sleep(0.05)
        c.send(b"HTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + answer(200, "done"))
    w = lab.weir(lab.upstream(reply))
    with w.client() as c:
        for _ in range(2):
            c.send(text_of("GET /"))
            r = c.response()
            eq(([(e.status, e.get("link")) for e in r.early], r.body),
               ([(103, "</a>"), (103, "</b>"), (102, None)], b"done"), "1xx before the answer")
    with w.client() as c:
        c.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        r = c.response()
        eq(([e.status for e in r.early], r.body), ([], b"done"), "no 1xx for a 1.0 client")


@story
def too_many_informational(lab):
    # 1xx without end: an end all the same.
    def script(c):
        c.head()
        for _ in range(2000):
            c.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        c.send(answer(200, "done"))
    w = lab.weir(lab.upstream(script=script))
    with w.client() as c:
        c.send(text_of("GET /"))
        r = c.response()
        eq(r.status, 502, "status")
        ok(len(r.early) <= 16, "1xx that came through", len(r.early))


@story
def expect_is_forwarded(lab):
    # 100 comes from the upstream, once; the body follows it.
    def script(c):
        r = c.head()
        eq(r.get("expect"), "100-continue", "Expect at the upstream")
        time.sleep(0.1)
        eq(c.buffer, b"", "the body has not come yet")
        c.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        c.send(answer(200, c.body(r).body))
    up = lab.upstream(script=script)
    w = lab.weir(up)
    with w.client() as c:
        c.send(text_of("POST /", [("Expect", "100-continue"), ("Content-Length", "4")]))
        eq(c.head().status, 100, "go on")
        c.send("body")
        r = c.response()
        eq((r.status, r.body, [e.status for e in r.early]), (200, b"body", []), "one 100 and the answer")


@story
def expect_refused_by_the_upstream(lab):
    # A final answer instead of 100: the client keeps its body, and the connection is not used with half a request on it.
    def script(c):
        c.head()
        c.send(answer(417, "no", reason="Expectation Failed"))
        c.rest()
    w = lab.weir(lab.upstream(script=script))
    with w.client() as c:
        c.send(text_of("POST /", [("Expect", "100-continue"), ("Content-Length", "4")]))
        r = c.response()
        eq((r.status, r.early), (417, []), "the answer")
        ok(c.ended(), "the connection ends, its body never came")


@story
def expect_anything_else(lab):
    up = lab.upstream()
    w = lab.weir(up)
    eq(w.ask("POST /", [("Expect", "200-ok")], b"x").status, 417, "an expectation that nobody knows")
    eq(up.requests, [], "nothing for the upstream")


@story
def absolute_form(lab):
    up = lab.upstream()
    w = lab.weir(up)
    r = w.ask("GET http://example.com/a?b", [("Host", "example.com")])
    eq((r.json()["target"], dict(r.json()["fields"])["host"]), ("/a?b", "example.com"), "origin form for the upstream")
    r = w.ask("GET http://example.com", [("Host", "example.com")])
    eq(r.json()["target"], "/", "no path is /")
    r = w.ask("GET http://example.com/", [("Host", "other.com")])
    eq([v for n, v in r.json()["fields"] if n == "host"], ["example.com"], "the target wins over Host (RFC 9112 3.2.2)")


@story
def options_asterisk(lab):
    w = lab.weir(lab.upstream())
    r = w.ask("OPTIONS *")
    eq((r.status, r.json()["target"]), (200, "*"), "OPTIONS *")
    eq(w.ask("GET *").status, 400, "GET *")


@story
def refused_methods(lab):
    w = lab.weir(lab.upstream())
    eq(w.ask("TRACE /").status, 405, "TRACE")
    eq(w.ask("CONNECT a.test:80", [("Host", "a.test:80")]).status, 405, "CONNECT where it is off")
    eq(w.ask("BREW /pot").json()["method"], "BREW", "a method that nobody knows passes")


@story
def connection_close(lab):
    w = lab.weir(lab.upstream())
    with w.client() as c:
        c.send(text_of("GET /", [("Connection", "close")]) + text_of("GET /never"))
        r = c.response()
        eq((r.status, r.get("connection")), (200, "close"), "the last answer says so")
        ok(c.ended(), "nothing after it")
    # The upstream's `Connection: close` is its own affair.
    up = lab.upstream(lambda c, r: (c.send(answer(200, "x", [("Connection", "close")])), True)[1])
    w = lab.weir(up)
    with w.client() as c:
        for _ in range(3):
            c.send(text_of("GET /"))
            eq(c.response().get("connection"), None, "the client's connection goes on")
    eq(len(up.conns), 3, "connections to the upstream")


@story
def keepalive_requests(lab):
    w = lab.weir(lab.upstream(), limits={"keepalive_requests": 3})
    with w.client() as c:
        c.send(text_of("GET /") * 5)
        said = [c.response().get("connection") for _ in range(3)]
        eq(said, [None, None, "close"], "the third is the last")
        ok(c.ended(), "then the connection ends")


def reads_the_answer(lab, w, status, what):
    """Uploads 8 MiB without looking; only then reads: the answer must be there and no RST may have taken it away."""
    with w.client() as c:
        c.send(text_of("POST /", [("Content-Length", str(8 << 20))]))
        sent = 0
        try:
            while sent < 8 << 20:
                sent += c.sock.send(b"x" * 65536)
        except OSError:
            pass
        time.sleep(0.1)
        r = c.response()
        eq(r.status, status, what)
        return r


@story
def lingering_close(lab):
    # A client that is still uploading reads the answer that came meanwhile (up to what is read away: 1 MiB, 2 s).
    def slow_client(w, status, what):
        with w.client() as c:
            c.send(text_of("POST /", [("Content-Length", "700000")]))
            for _ in range(10):
                c.send(b"x" * 50000)
                time.sleep(0.03)
            r = c.response()
            eq((r.status, r.get("connection")), (status, "close"), what)
    slow_client(lab.weir(lab.upstream(), limits={"body": "10KiB"}), 413, "413")
    slow_client(lab.weir(lab.upstream(listen=False)), 502, "502")

    def early(c):
        c.head()
        c.send(answer(403, "no", [("Connection", "close")], "Forbidden"))
        time.sleep(0.1)
    slow_client(lab.weir(lab.upstream(script=early)), 403, "an early answer")
    slow_client(lab.weir(routes=[{"name": "no", "reply": {"status": 401, "body": "no"}}]), 401, "a reply of ours")


@story
def error_then_pipeline(lab):
    # After 400 nothing more is read as a request: the next bytes may be anything.
    up = lab.upstream()
    w = lab.weir(up)
    with w.client() as c:
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" + text_of("GET /smuggled"))
        eq(c.response().status, 400, "two lengths")
        ok(c.ended(), "nothing after it")
    eq(up.requests, [], "nothing for the upstream")


@story
def garbage(lab):
    w = lab.weir(lab.upstream())
    for data, status in ((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 60 + b"\r\n\r\n", 400),
                         (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505), (b"GET / HTTP/1.1\r\n\r\n", 400),
                         (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400), (b"PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
                         (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501)):
        with w.client() as c:
            c.send(data)
            eq(c.response().status, status, "answer to %r" % data[:40])
            ok(c.ended(), "the connection ends")
    eq(w.ask("GET /").status, 200, "and others are served")


@story
def first_bytes_of_two_protocols(lab):
    # A request that begins like the preface of HTTP/2, in pieces, its last one together with the FIN.
    w = lab.weir(lab.upstream())
    whole = text_of("PUT /", body=b"abc")
    for cut in (1, 1, 1, 2, 3):
        with w.client() as c:
            c.send(whole[:cut])
            time.sleep(0.02)
            c.sock.setsockopt(socket.IPPROTO_TCP, 3, 1)  # TCP_CORK: what follows goes with the FIN
            c.send(whole[cut:])
            c.half()
            eq(c.response().status, 200, "cut at %d" % cut)
            ok(c.ended(), "then the end")
    for data in (b"P", b"PRI", b"PRI *"):
        with w.client() as c:
            c.send(data)
            c.half()
            c.rest()  # SETTINGS, perhaps, and the end


@story
def bad_answers(lab):
    # What an upstream may not say is a 502, and says why in the log.
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", b"hello\r\n\r\n",
               b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
               b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", b"HTTP/1.1 99 No\r\n\r\n", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
               b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40000 + b"\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Le"]

    def script(c):
        n = int(c.head().target[1:])
        c.send(answers[n])
        c.sock.settimeout(0.3)
        if n >= len(answers) - 2:
            c.half()
        try:
            c.rest()
        except Exception:
            pass
    w = lab.weir(lab.upstream(script=script))
    for n, what in enumerate(answers):
        eq(w.ask("GET /%d" % n).status, 502, "answer %d (%r)" % (n, what[:50]))
    log = w.access(len(answers))
    ok(all(line["error"]["by"] == "upstream" for line in log), "who is to blame", [line.get("error") for line in log])


@story
def unix_sockets(lab):
    # client ── unix:… ── weir ── unix:… ── up
    path = lab.path("up.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(8)
    up = lab.upstream(listen=False)
    threading.Thread(target=up.accept, args=(listener,), daemon=True).start()
    w = lab.weir("unix:" + path, listener={"bind": "unix:" + lab.path("web.sock")})
    from weirlab import dial
    with dial(lab.path("web.sock")) as c:
        c.send(text_of("GET /u"))
        eq(c.response().json()["target"], "/u", "through both sockets")
    eq(os.stat(lab.path("web.sock")).st_mode & 0o777, 0o600, "mode of the socket")
    listener.close()


@story
def pipelined_to_ourselves(lab):
    # Answers that need no upstream, hundreds at once, by a client that reads nothing until all is sent; errors among them.
    up = lab.upstream()
    w = lab.weir(up, routes=[{"name": "r", "match": {"path": "/r"}, "reply": {"body": "$path $query" + "." * 1000}},
                             {"name": "b", "match": {"path": "/big"}, "to": "app", "limits": {"body": "5"}}, {"name": "app", "match": {"path": "/up"}, "to": "app"}])
    kinds = [("GET /r?%d", None, 200), ("POST /up?%d", b"x" * 3000, 200), ("GET /none?%d", None, 404), ("GET /up?%d", None, 200), ("HEAD /r?%d", None, 200)]
    asked = [(kinds[i % 5][0] % i, kinds[i % 5][1], kinds[i % 5][2]) for i in range(600)]
    with w.client() as c:
        data = b"".join(text_of(request, (), body) for request, body, _ in asked)
        sender = threading.Thread(target=c.send, args=(data,), daemon=True)
        sender.start()
        time.sleep(0.3)
        for request, _, status in asked:
            r = c.response(request.split()[0])
            eq(r.status, status, request)
            if request.startswith("GET /r"):
                ok(r.body.startswith(request[4:].replace("?", " ?").encode() + b"."), "the answer to " + request, r.body[:40])
        sender.join()
        c.send(text_of("POST /big", (), b"123456") + text_of("GET /r"))
        eq(c.response().status, 413, "an error")
        ok(c.ended(), "is the last answer")


@story
def many_in_parallel(lab):
    up = lab.upstream()
    w = lab.weir(up)
    faults = []

    def client(k):
        try:
            with w.client() as c:
                for i in range(20):
                    c.send(text_of("POST /%d/%d" % (k, i), body=b"b" * (i * 37)))
                    r = c.response().json()
                    eq((r["target"], len(r["body"])), ("/%d/%d" % (k, i), i * 37), "own answer")
        except Exception as e:
            faults.append(e)
    threads = [threading.Thread(target=client, args=(k,)) for k in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    eq(faults, [], "faults")
    eq(len(up.requests), 320, "requests at the upstream")
    wait(lambda: w.metric("weir_requests_total", code="200") == 320, "requests counted")
    has(w.log(), "ready", "log")


main()
