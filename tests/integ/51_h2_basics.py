#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 and HTTP/1 on either side, one request at a time: methods, bodies, trailers, 1xx, cookies, hosts, fields, the log."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from h2lab import Square, exchange, h2_client, h2_upstream, tell  # noqa: E402
from weirlab import Cut, eq, main, ok, story, wait  # noqa: E402


def on_h2(kind):
    return kind.startswith("h2")


@story
def get_post_head(lab):  # h1, h2, h1 over TLS, h2 over TLS ── weir ── h1, h2, h2 over TLS
    sq = Square(lab)
    for front, back in sq.pairs():
        what = "%s to %s: " % (front, back)
        r = sq.ask(front, back, "GET /a?b=c")
        told = r.json()
        eq((r.status, told["method"], told["target"], told["host"]), (200, "GET", "/a?b=c", back + ".test"), what + "GET")
        eq((r.version, told["version"]), ("HTTP/2" if on_h2(front) else "HTTP/1.1", "HTTP/2" if on_h2(back) else "HTTP/1.1"), what + "versions")
        r = sq.ask(front, back, "HEAD /a")
        ok(r.status == 200 and r.body == b"" and int(r.get("content-length")) > 50, what + "HEAD", r)
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"):
            r = sq.ask(front, back, method + " /a", body=b"hello")
            eq((r.status, r.json()["method"], r.json()["body"]), (200, method, "hello"), what + method)
            eq(dict(r.json()["fields"])["content-length"], "5", what + "the length")


@story
def one_connection(lab):
    # Requests one after the other on a connection; the upstream's connection is kept too.
    sq = Square(lab, workers=1)
    for front, back in sq.pairs():
        with sq.connect(front) as c:
            for i in range(10):
                eq(exchange(c, back + ".test", "GET /%d" % i).json()["target"], "/%d" % i, "%s to %s: the answer" % (front, back))
    eq([len(up.conns) for up in sq.ups.values()], [1, 1, 1], "connections to the upstreams")


@story
def bodies_with_and_without_length(lab):
    sq = Square(lab)
    for front, back in sq.pairs():
        what = "%s to %s: " % (front, back)
        for size in (0, 1, 70000):
            for length in (True, False):
                r = sq.ask(front, back, "POST /a", body=b"b" * size, length=length)
                told = r.json()
                fields = dict(told["fields"])
                eq((r.status, len(told["body"])), (200, size), what + "a body of %d, length told: %s" % (size, length))
                ok("transfer-encoding" not in fields or back == "h1", what + "no Transfer-Encoding on h2", fields)
                if length:
                    eq(fields.get("content-length"), str(size), what + "the length that was told")
                elif size:
                    eq(fields.get("content-length"), None, what + "a length that nobody told")
        for method in ("GET", "DELETE"):
            fields = dict(sq.ask(front, back, method + " /a").json()["fields"])
            eq((fields.get("content-length"), fields.get("transfer-encoding")), (None, None), what + "no body is no body")


@story
def answers_with_and_without_length(lab):
    def reply(x):
        size, length = (int(n) for n in x.target[1:].split("/"))
        x.reply(200, b"a" * size, length=bool(length))
    sq = Square(lab, reply)
    for front, back in sq.pairs():
        with sq.connect(front) as c:
            for size in (0, 1, 70000):
                for length in (1, 0):
                    r = exchange(c, back + ".test", "GET /%d/%d" % (size, length))
                    what = "%s to %s: an answer of %d, length told: %d" % (front, back, size, length)
                    eq((r.status, len(r.body)), (200, size), what)
                    if length:
                        eq(r.get("content-length"), str(size), what)
                    ok(r.get("transfer-encoding") is None or not on_h2(front), what, r)


@story
def statuses_without_a_body(lab):
    def reply(x):
        status = int(x.target[1:])
        x.begin(status, [("etag", '"a"'), ("content-length", "55")] if status == 304 or x.method == "HEAD" else [], end=True)
    sq = Square(lab, reply)
    for front, back in sq.pairs():
        with sq.connect(front) as c:
            for status, method in ((204, "GET"), (304, "GET"), (200, "HEAD"), (204, "POST"), (304, "HEAD"), (404, "HEAD")):
                r = exchange(c, back + ".test", "%s /%d" % (method, status))
                what = "%s to %s: %s, %d" % (front, back, method, status)
                eq((r.status, r.body, r.get("transfer-encoding")), (status, b"", None), what)
                eq(r.get("content-length"), "55" if status == 304 or method == "HEAD" else None, what + ": the length of what GET would give")


@story
def trailers_both_ways(lab):
    def reply(x):
        x.reply(200, x.body + repr(sorted(tuple(t) for t in x.trailers)).encode(), trailers=[("x-sum", "42"), ("x-more", "yes")])
    sq = Square(lab, reply)
    for front, back in sq.pairs():
        for body in (b"hello", b""):
            r = sq.ask(front, back, "POST /", [("TE", "trailers")] + ([] if on_h2(front) else [("Connection", "TE")]), body, trailers=[("x-check", "7")])
            what = "%s to %s, body %r: " % (front, back, body)
            eq(r.body, body + b"[('x-check', '7')]", what + "body and trailers of the request")
            eq(sorted(r.trailers), [("x-more", "yes"), ("x-sum", "42")], what + "trailers of the answer")


@story
def informational(lab):
    def reply(x):
        x.early_hint(103, [("link", "</a>")])
        x.early_hint(103, [("link", "</b>")])
        x.early_hint(102)
        x.reply(200, "done")
    sq = Square(lab, reply)
    for front, back in sq.pairs():
        with sq.connect(front) as c:
            for _ in range(2):
                r = exchange(c, back + ".test", "GET /")
                eq(([(e.status, e.get("link")) for e in r.early], r.status, r.body), ([(103, "</a>"), (103, "</b>"), (102, None)], 200, b"done"),
                   "%s to %s: 1xx before the answer" % (front, back))


@story
def informational_without_end(lab):
    def reply(x):
        for _ in range(500):
            x.early_hint(102)
        x.reply(200, "done")
    sq = Square(lab, reply)
    for front, back in sq.pairs():
        r = sq.ask(front, back, "GET /")
        eq(r.status, 502, "%s to %s: status" % (front, back))
        ok(len(r.early) <= 16, "1xx that came through", len(r.early))


@story
def expect(lab):
    # 100 comes from the upstream, the body follows it.
    def reply(x):
        eq((x.get("expect"), x.body), ("100-continue", b""), "what the upstream has before it answers")
        x.early_hint(100)
        x.whole()
        x.reply(200, x.body)
    sq = Square(lab, reply, early=True)
    for front, back in sq.pairs():
        what = "%s to %s: " % (front, back)
        with sq.connect(front) as c:
            if on_h2(front):
                s = c.request("POST /", [("expect", "100-continue"), ("content-length", "4")], host=back + ".test", end=False)
                s.wait(lambda s=s: s.early, "100")
                s.send("body", end=True)
                r = s.response()
                eq(([e.status for e in r.early], r.body), ([100], b"body"), what + "answer")
            else:
                c.send("POST / HTTP/1.1\r\nHost: %s.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n" % back)
                eq(c.head().status, 100, what + "go on")
                c.send("body")
                r = c.response()
                eq((r.status, r.body, r.early), (200, b"body", []), what + "answer")


@story
def cookies(lab):
    # Split on h2 (RFC 9113 8.2.3), one field on h1; in order, whatever they look like.
    sq = Square(lab)
    for front, back in sq.pairs():
        fields = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3; d=4")] if on_h2(front) else [("Cookie", "a=1; b=2; c=3; d=4")]
        crumbs = [v for n, v in sq.ask(front, back, "GET /", fields).json()["fields"] if n == "cookie"]
        eq("; ".join(crumbs), "a=1; b=2; c=3; d=4", "%s to %s: cookies" % (front, back))
        ok(len(crumbs) == 1 or on_h2(back), "one field on h1", crumbs)

    def reply(x):
        x.reply(200, "", [("set-cookie", "a=1"), ("set-cookie", "b=2, x")])
    sq = Square(lab, reply)
    for front, back in sq.pairs():
        eq(sq.ask(front, back, "GET /").all("set-cookie"), ["a=1", "b=2, x"], "%s to %s: each Set-Cookie by itself" % (front, back))


@story
def hop_by_hop_fields(lab):
    # What belongs to one h1 connection is not seen on h2 (python3-h2 would refuse it), nor on the other h1 connection.
    def reply(x):
        if x.version == "HTTP/2":
            return tell(x)
        x.reply(200, repr(x.fields), [("Connection", "x-hop, keep-alive"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "a"),
                                      ("Upgrade", "h2c"), ("X-UPPER", "kept")])
    sq = Square(lab, reply)
    for front, back in sq.pairs():
        fields = [("te", "trailers"), ("x-mine", "1")]
        if not on_h2(front):
            fields += [("Connection", "x-hop, te"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "a"), ("X-UPPER", "kept")]
        r = sq.ask(front, back, "GET /", fields)
        what = "%s to %s: " % (front, back)
        names = [n for n, _ in r.fields]
        eq((r.status, [n for n in ("x-hop", "keep-alive", "proxy-connection", "upgrade") if n in names]), (200, []), what + "the answer's fields")
        seen = [n for n, _ in (r.json()["fields"] if back != "h1" else eval(r.body))]
        ok(not {"x-hop", "keep-alive", "proxy-connection"} & set(seen) and ("host" in seen) == (back == "h1"), what + "the request's fields", seen)
        ok("x-mine" in seen, what + "others pass", seen)
        if back == "h1":
            eq(r.get("x-upper"), "kept", what + "upper case")


@story
def authority_and_host(lab):
    sq = Square(lab)
    w = sq.w

    def asked(headers):
        with h2_client(w) as c:
            return c.open(headers).response()
    base = [(":method", "GET"), (":scheme", "http"), (":path", "/")]
    for back in ("h1", "h2"):
        name = back + ".test"
        eq(asked(base + [(":authority", name)]).json()["host"], name, ":authority alone")
        eq(asked(base + [("host", name)]).json()["host"], name, "Host alone (RFC 9113 8.3.1)")
        told = asked(base + [(":authority", name), ("host", name)]).json()
        eq((told["host"], [v for n, v in told["fields"] if n == "host"]), (name, [name] if back == "h1" else []), "both, once")
    before = sum(len(up.requests) for up in sq.ups.values())
    for headers in (base + [(":authority", "h1.test"), ("host", "h2.test")], base, base + [("host", "h1.test"), ("host", "h1.test")],
                    base + [(":authority", "user@h1.test")], base + [(":authority", "h1.test/a")], base + [(":authority", "")]):
        try:
            eq(asked(headers).status, 400, "answer to %r" % headers)
        except Cut as e:
            eq(e.response.reset, 1, "answer to %r" % headers)
    eq(sum(len(up.requests) for up in sq.ups.values()), before, "nothing of those for an upstream")
    for target, path in (("http://h2.test/a?b", "/a?b"), ("http://h2.test", "/"), ("http://h2.test:80?q", "/?q")):
        with w.client() as c:
            c.send("GET %s HTTP/1.1\r\nHost: other\r\n\r\n" % target)
            told = c.response().json()
            eq((told["host"].partition(":")[0], told["target"], told["scheme"]), ("h2.test", path, "http"), "absolute form to h2: " + target)
    with w.client() as c:
        c.send("OPTIONS * HTTP/1.1\r\nHost: h2.test\r\n\r\n")
        eq(c.response().json()["target"], "*", "OPTIONS * to h2")
    with h2_client(w) as c:
        eq(c.request("OPTIONS *", host="h1.test").response().json()["target"], "*", "OPTIONS * from h2")
        eq(c.request("TRACE /", host="h1.test").response().status, 405, "TRACE")


@story
def pseudo_fields_upstream(lab):
    # An h2 upstream is told the scheme of its own connection (some refuse another), and who the client is.
    sq = Square(lab)
    for front, scheme in (("h1", "http"), ("h2", "http"), ("h1s", "https"), ("h2s", "https")):
        for back in ("h2", "h2s"):
            told = sq.ask(front, back, "GET /").json()
            fields = dict(told["fields"])
            eq((told["scheme"], fields.get("x-forwarded-proto"), fields.get("x-forwarded-for")),
               ("https" if back == "h2s" else "http", scheme, "127.0.0.1"), "%s to %s: scheme" % (front, back))
            ok("via" not in fields or "2" in fields["via"] or not on_h2(front), "Via tells the version that came", fields.get("via"))


@story
def log_and_metrics(lab):
    sq = Square(lab)
    for front, back in sq.pairs():
        sq.ask(front, back, "POST /a?b", [("user-agent", "lab")], b"12345")
    sq.w.settle()
    lines = sq.w.access(len(sq.pairs()))
    eq([line["protocol"] for line in lines], ["HTTP/2" if on_h2(f) else "HTTP/1.1" for f, _ in sq.pairs()], "protocol in the log")
    ok(all((line["method"], line["path"], line["status"], line["bytes_in"], line["user_agent"]) == ("POST", "/a", 200, 5, "lab")
           for line in lines), "lines", lines[0])
    eq([line["upstream"] for line in lines], [b for _, b in sq.pairs()], "upstream in the log")
    eq([line["reused"] for line in lines if line["upstream"] == "h2"][0], False, "a new connection")
    eq(sq.w.metric("weir_requests_total", code="200"), 12, "requests")
    wait(lambda: sq.w.status()["connections"] == 0, "clients are gone")
    eq(sq.w.metric("weir_requests_in_flight"), 0, "in flight")


@story
def filters_and_replies(lab):
    # Filters, replies and redirects know no protocol.
    filters = [{"headers": {"request": {"set": {"x-env": "prod"}, "remove": ["x-secret"]}, "response": {"add": {"x-served-by": "weir"}}}}]
    sq = Square(lab, route={"filters": filters})
    for front, back in sq.pairs():
        r = sq.ask(front, back, "GET /", [("x-secret", "1"), ("x-env", "dev")])
        fields = [n for n in r.json()["fields"] if n[0] in ("x-env", "x-secret")]
        eq((fields, r.get("x-served-by")), ([["x-env", "prod"]], "weir"), "%s to %s: filters" % (front, back))
    w = lab.weir(routes=[{"name": "no", "match": {"path": "/no"}, "reply": {"status": 403, "body": "no $path"}},
                         {"name": "r", "match": {"path": "/r"}, "redirect": {"to": "https://$host$path", "status": 308}},
                         {"name": "few", "match": {"path": "/few"}, "reply": {"body": "ok"},
                          "filters": [{"rate_limit": {"key": "client", "rate": "1/m", "burst": 2}}]}])
    with h2_client(w) as c:
        r = c.request("GET /no/a").response()
        eq((r.status, r.body), (403, b"no /no/a"), "a reply")
        r = c.request("POST /no", body=b"x" * 100000).response()
        eq((r.status, r.body), (403, b"no /no"), "a reply to a body that nobody wants")
        r = c.request("HEAD /no").response()
        eq((r.status, r.body), (403, b""), "HEAD of a reply")
        r = c.request("GET /r/b").response()
        eq((r.status, r.get("location")), (308, "https://weir.test/r/b"), "a redirect")
        eq(c.request("GET /none").response().status, 404, "no route")
        eq([c.request("GET /few").response().status for _ in range(3)], [200, 200, 429], "a rate")
        eq(c.request("GET /no/b").response().status, 403, "the connection goes on")


@story
def no_upstream(lab):
    # Errors of ours are answers on h2 too, and the connection goes on.
    up = h2_upstream(lab, listen=False)
    w = lab.weir(up, upstream={"protocol": "h2"})
    with h2_client(w) as c:
        for _ in range(3):
            eq(c.request("GET /").response().status, 502, "nobody listens")
        eq(c.request("POST /", body=b"x" * 300000).response().status, 502, "an upload to nobody")
    eq(w.access(4)[0]["error"]["by"], "upstream", "who is to blame")


main()
