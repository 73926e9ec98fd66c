#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is added to and taken from heads, paths, and which route a request takes."""
import email.utils
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import SLOW, address, answer, dial, eq, has, main, ok, story, text_of  # noqa: E402


def got(r):
    """The fields that the upstream saw: {name: [values]}."""
    eq(r.status, 200, "status")
    fields = {}
    for name, value in r.json()["fields"]:
        fields.setdefault(name, []).append(value)
    return fields


@story
def forwarded_for_an_untrusted_client(lab):
    # Whatever it claims is removed.
    w = lab.weir(lab.upstream())
    f = got(w.ask("GET /", [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil"),
                            ("X-Forwarded-Port", "1"), ("Forwarded", "for=6.6.6.6"), ("X-Forwarded-For", "7.7.7.7")],
                  source="127.0.0.9"))
    eq((f["x-forwarded-for"], f["x-forwarded-proto"], f["x-forwarded-host"]), (["127.0.0.9"], ["http"], ["weir.test"]), "X-Forwarded-*")
    eq((f.get("forwarded"), f.get("x-forwarded-port")), (None, None), "what it claimed")
    eq(w.access(1)[0]["client"], "127.0.0.9", "the client in the log")


@story
def forwarded_by_a_trusted_proxy(lab):
    # The list is continued; the client is the rightmost hop that is not trusted.
    w = lab.weir(lab.upstream(), listener={"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]})
    f = got(w.ask("GET /", [("X-Forwarded-For", "6.6.6.6, 198.51.100.7"), ("X-Forwarded-For", "10.1.2.3"), ("X-Forwarded-Proto", "https"),
                            ("X-Forwarded-Host", "outside.test")], source="127.0.0.9"))
    eq((f["x-forwarded-for"], f["x-forwarded-proto"], f["x-forwarded-host"]),
       (["6.6.6.6, 198.51.100.7, 10.1.2.3, 127.0.0.9"], ["https"], ["outside.test"]), "X-Forwarded-*")
    f = got(w.ask("GET /", [("X-Forwarded-For", "198.51.100.7, junk")]))
    got(w.ask("GET /", [("X-Forwarded-For", "2001:db8::7, 10.0.0.1")]))
    got(w.ask("GET /", [("X-Forwarded-For", "198.51.100.8:4711, 10.1.1.1:444")]))
    got(w.ask("GET /", [("Forwarded", 'for="[2001:db8::1]:4711";proto=https, for=10.0.0.1')]))
    eq([line["client"] for line in w.access(5)], ["198.51.100.7", "127.0.0.1", "2001:db8::7", "198.51.100.8", "2001:db8::1"], "the client in the log")


@story
def a_trusted_proxy_names_the_request(lab):
    up = lab.upstream()
    w = lab.weir(up, listener={"trusted_proxies": ["127.0.0.9/32"]})
    f = got(w.ask("GET /", [("X-Request-Id", "abc"), ("X-Forwarded-For", "198.51.100.7")], source="127.0.0.9"))
    eq(f["x-request-id"], ["abc"], "the id of a trusted proxy is kept")
    f = got(w.ask("GET /", [("X-Request-Id", "abc")], source="127.0.0.8"))
    ok(re.fullmatch("[0-9a-f]{32}", f["x-request-id"][0]) and len(f["x-request-id"]) == 1, "that of others is not", f)
    log = w.access(2)
    eq([line["id"] for line in log], ["abc", f["x-request-id"][0]], "ids in the log")


@story
def forwarded_rfc7239(lab):
    w = lab.weir(lab.upstream(), listener={"forwarded": "rfc7239", "trusted_proxies": ["127.0.0.9/32"]},
                 routes=[{"name": "v6", "match": {"path": "/who", "client": "2001:db8::/32"}, "reply": {"status": 200, "body": "v6"}}, {"name": "all", "to": "app"}])
    said = [("Forwarded", 'for="[2001:db8::1]"')]
    eq((w.ask("GET /who", said, source="127.0.0.9").body, w.ask("GET /who", said, source="127.0.0.8").status), (b"v6", 200), "who asks, to `client`")
    f = got(w.ask("GET /", [("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=7.7.7.7")], source="127.0.0.8"))
    eq((f["forwarded"], f.get("x-forwarded-for")), (['for=127.0.0.8;host="weir.test";proto=http'], None), "Forwarded")
    f = got(w.ask("GET /", [("Forwarded", "for=7.7.7.7")], source="127.0.0.9"))
    eq(f["forwarded"], ['for=7.7.7.7, for=127.0.0.9;host="weir.test";proto=http'], "continued for a trusted proxy")
    f = got(w.ask("GET /", [("Forwarded", "for=1.1.1.1"), ("X-A", "b"), ("Forwarded", "for=7.7.7.7, for=8.8.8.8")], source="127.0.0.9"))
    eq(f["forwarded"], ['for=1.1.1.1, for=7.7.7.7, for=8.8.8.8, for=127.0.0.9;host="weir.test";proto=http'], "several fields are one list")


@story
def forwarded_rfc7239_is_well_formed(lab):
    # Whatever a trusted proxy says is one value; nothing is cut.
    w = lab.weir(lab.upstream(), listener={"forwarded": "rfc7239", "trusted_proxies": ["127.0.0.9/32"], "bind": [address(), "unix:" + lab.path("web.sock")]})

    def said(*fields):
        return got(w.ask("GET /", fields, source="127.0.0.9"))["forwarded"]
    eq(said(("X-Forwarded-Proto", "https;for=6.6.6.6"), ("X-Forwarded-Host", 'a"b\\c, d')),
       ['for=127.0.0.9;host="a\\"b\\\\c, d";proto="https;for=6.6.6.6"'], "what is no token is quoted")
    long = "h" * 600
    eq(said(("X-Forwarded-Host", long), ("X-Forwarded-Proto", "p" * 300)), ['for=127.0.0.9;host="%s";proto=%s' % (long, "p" * 300)], "long ones")
    eq(said(("X-Forwarded-Host", "h" * 1025)), ["for=127.0.0.9;proto=http"], "too long: left out")
    eq(said(("X-Forwarded-Host", '"' * 1024), ("X-Forwarded-Proto", "\\" * 1024)),
       ['for=127.0.0.9;host="%s";proto="%s"' % ('\\"' * 1024, "\\\\" * 1024)], "the longest")
    with dial(lab.path("web.sock")) as c:
        c.send(text_of("GET /"))
        eq(got(c.response())["forwarded"], ['for=unknown;host="weir.test";proto=http'], "by a UNIX socket")
    with w.client() as c:
        c.send("GET / HTTP/1.0\r\n\r\n")
        eq(got(c.response())["forwarded"], ["for=127.0.0.1;proto=http"], "no Host")


@story
def forwarded_off(lab):
    w = lab.weir(lab.upstream(), listener={"forwarded": "off", "via": "off", "request_id": "off"})
    f = got(w.ask("GET /", [("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=7.7.7.7"), ("X-Request-Id", "mine")]))
    eq({n for n in f if "forward" in n or n == "via"}, set(), "nothing about forwarding")


@story
def forwarded_off_behind_a_trusted_proxy(lab):
    # Then we say nothing, and what it says goes on: it is not ours to take away.
    w = lab.weir(lab.upstream(), listener={"forwarded": "off", "trusted_proxies": ["127.0.0.9/32"]})
    said = [("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "a.test"), ("X-Forwarded-Port", "444"),
            ("Forwarded", "for=198.51.100.7"), ("Forwarded", "for=198.51.100.8")]
    f = got(w.ask("GET /", said, source="127.0.0.9"))
    eq({n: f[n] for n in f if "forward" in n},
       {"x-forwarded-for": ["198.51.100.7"], "x-forwarded-proto": ["https"], "x-forwarded-host": ["a.test"], "x-forwarded-port": ["444"],
        "forwarded": ["for=198.51.100.7", "for=198.51.100.8"]}, "as it came")
    f = got(w.ask("GET /", said, source="127.0.0.8"))
    eq({n for n in f if "forward" in n}, set(), "of another client it is removed")


@story
def via_and_request_id(lab):
    up = lab.upstream(lambda c, r: c.send(answer(200, "x", [("Via", "1.1 inner"), ("Server", "up")])))
    w = lab.weir(up, listener={"via": "gate", "request_id": "x-trace"})
    r = w.ask("GET /", [("Via", "1.0 outer"), ("X-Trace", "forged"), ("X-Request-Id", "kept")])
    eq([v.strip() for value in r.all("via") for v in value.split(",")], ["1.1 inner", "1.1 gate"], "Via of the answer")
    eq(r.get("server"), "up", "Server")
    fields = up.requests[0]
    eq([v.strip() for value in fields.all("via") for v in value.split(",")], ["1.0 outer", "1.1 gate"], "Via of the request")
    eq(fields.all("x-request-id"), ["kept"], "another header is no id")
    ok(len(fields.all("x-trace")) == 1 and fields.get("x-trace") != "forged", "the id", fields.all("x-trace"))


@story
def hop_by_hop(lab):
    up = lab.upstream(lambda c, r: c.send(answer(200, "x", [
        ("Connection", "X-Hop, keep-alive"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("Proxy-Authenticate", "Basic"),
        ("X-End", "2"), ("Upgrade", "h2c")])))
    w = lab.weir(up)
    with w.client() as c:
        c.send(text_of("GET /", [("Connection", "x-secret, close, te"), ("Connection", "X-Other"), ("X-Secret", "a"), ("X-Other", "b"),
                                 ("Keep-Alive", "5"), ("Proxy-Connection", "keep-alive"), ("TE", "gzip"), ("Upgrade", "h2c"),
                                 ("X-Stays", "c")]))
        r = c.response()
    names = [n for n, _ in up.requests[0].fields]
    for name in ("x-secret", "x-other", "keep-alive", "proxy-connection", "te", "upgrade", "connection"):
        ok(name not in names, "%s is not for the upstream" % name, names)
    ok("x-stays" in names, "what is end to end stays", names)
    eq([n for n, _ in r.fields if n in ("x-hop", "keep-alive", "upgrade", "x-end")], ["x-end"], "of the answer")


@story
def nominated_fields_that_must_stay(lab):
    # Connection can not be used to take away what frames, routes or tells who asks.
    up = lab.upstream()
    w = lab.weir(up)
    f = got(w.ask("POST /", [("Connection", "close, host, content-length, x-forwarded-for, via, x-request-id")], b"abc"))
    eq((f["host"], f["x-forwarded-for"], len(f["x-request-id"])), (["weir.test"], ["127.0.0.1"], 1), "fields at the upstream")
    eq(up.requests[0].body, b"abc", "body")


@story
def underscores(lab):
    sent = [("X_Forwarded_For", "6.6.6.6"), ("X_a", "1"), ("X-A", "2")]
    f = got(lab.weir(lab.upstream()).ask("GET /", sent))
    eq((f.get("x_a"), f.get("x_forwarded_for"), f.get("x-a")), (None, None, ["2"]), "drop")
    f = got(lab.weir(lab.upstream(), listener={"underscores": "pass"}).ask("GET /", sent))
    eq((f.get("x_a"), f.get("x-a")), (["1"], ["2"]), "pass")
    eq(lab.weir(lab.upstream(), listener={"underscores": "reject"}).ask("GET /", sent).status, 400, "reject")


@story
def paths_normalize(lab):
    w = lab.weir(lab.upstream())
    for path, seen in (("/a/../b", "/b"), ("/a/./b/", "/a/b/"), ("/%61%7E%2D", "/a~-"), ("/a%2fb", "/a%2Fb"), ("/../../x", "/x"),
                       ("/a//b", "/a//b"), ("/%2e%2e/secret", "/secret"), ("/a/%2E%2e/b?x=/../y", "/b?x=/../y"), ("/a;b=c", "/a;b=c")):
        r = w.ask("GET " + path)
        eq(r.json()["target"].replace("%2f", "%2F"), seen, "path " + path)
    for path in ("/%00", "/a%5cb", "/a\\b", "/%zz", "/%4", "/a%"):
        eq(w.ask("GET " + path).status, 400, "path " + path)


@story
def paths_strict_and_raw(lab):
    w = lab.weir(lab.upstream(), listener={"paths": "strict"})
    for path in ("/a//b", "/a%2fb", "/a/../b", "/./a", "/a/%2e%2e/b", "/%00"):
        eq(w.ask("GET " + path).status, 400, "strict: " + path)
    eq(w.ask("GET /a/b?c=//").json()["target"], "/a/b?c=//", "strict: a good one")
    w = lab.weir(lab.upstream(), listener={"paths": "raw"})
    for path in ("/a//b", "/a%2fb", "/a/../b", "/%61"):
        eq(w.ask("GET " + path).json()["target"], path, "raw: " + path)


@story
def what_is_matched_is_what_is_forwarded(lab):
    # A path that hides /admin from the router must not reach the upstream as /admin.
    up = lab.upstream()
    w = lab.weir(up, routes=[{"name": "no", "match": {"path": "/admin/"}, "reply": {"status": 403, "body": "no"}}, {"name": "app", "to": "app"}])
    for path in ("/admin", "/admin/", "/x/../admin/y", "/%61dmin", "/./admin", "/x/%2e%2e/admin", "/admin?x", "/admin/.."):
        r = w.ask("GET " + path)
        if r.status == 403:
            continue
        ok(not r.json()["target"].startswith("/admin"), "%s at the upstream" % path, r.json()["target"])
    eq(w.ask("GET /administrator").status, 200, "a prefix ends at a /")


@story
def host_for_the_upstream(lab):
    up = lab.upstream()
    w = lab.weir(up, routes=[{"name": "s", "match": {"path": "/server"}, "to": "app", "host": "server"},
                             {"name": "n", "match": {"path": "/name"}, "to": "app", "host": "inner.test"}, {"name": "p", "to": "app"}])
    eq(got(w.ask("GET /x"))["host"], ["weir.test"], "pass")
    eq(got(w.ask("GET /server"))["host"], [up.address], "server")
    f = got(w.ask("GET /name"))
    eq((f["host"], f["x-forwarded-host"]), (["inner.test"], ["weir.test"]), "a name")
    for path, host in (("/x", up.address), ("/server", up.address), ("/name", "inner.test")):
        with w.client() as c:  # a client of HTTP/1.0 may have none, a server of HTTP/1.1 refuses one that is empty
            c.send("GET %s HTTP/1.0\r\n\r\n" % path)
            f = got(c.response())
            eq((f["host"], f.get("x-forwarded-host")), ([host], None), "no Host, " + path)


def says(name):
    return {"status": 200, "body": name}


def picks(w, what, name, request="GET /", fields=(), **kw):
    r = w.ask(request, fields, **kw)
    eq((r.status, r.body.decode()), (404, "") if name is None and not r.body else (200 if name else 404, name or r.body.decode()), what)


@story
def routes_by_host(lab):
    w = lab.weir(routes=[{"name": "a", "match": {"host": ["a.test", "*.b.test"]}, "reply": says("a")},
                         {"name": "b", "match": {"host": "b.test"}, "reply": says("b")}])
    for host, name in (("a.test", "a"), ("A.TEST", "a"), ("a.test:8080", "a"), ("a.test.", "a"), ("x.b.test", "a"), ("x.y.b.test", "a"),
                       ("b.test", "b"), ("c.test", None), ("xb.test", None), ("xa.test", None), (".b.test", None)):
        r = w.ask("GET /", [("Host", host)])
        if name:
            eq((r.status, r.body.decode()), (200, name), "host " + host)
        else:
            ok(r.status in (400, 404), "host %s" % host, r)


@story
def routes_by_path(lab):
    w = lab.weir(routes=[{"name": "x", "match": {"path": "=/exact"}, "reply": says("exact")},
                         {"name": "v", "match": {"path": ["/v1/", "/v2"]}, "reply": says("prefix")},
                         {"name": "r", "match": {"path": "~\\.(png|jpg)$"}, "reply": says("pattern")}])
    for path, name in (("/exact", "exact"), ("/exact/", None), ("/exact?q", "exact"), ("/v1", "prefix"), ("/v1/", "prefix"), ("/v1/a/b", "prefix"),
                       ("/v12", None), ("/v2", "prefix"), ("/v2/x", "prefix"), ("/v22", None), ("/a/b.png", "pattern"), ("/b.pngx", None),
                       ("/a.png?x=1", "pattern"), ("/a?x=b.png", None), ("/V1/", None)):
        r = w.ask("GET " + path)
        eq((r.status, r.body.decode() if r.status == 200 else None), (200, name) if name else (404, None), "path " + path)


@story
def routes_by_the_rest(lab):
    w = lab.weir(routes=[
        {"name": "m", "match": {"method": ["PUT", "DELETE"]}, "reply": says("method")},
        {"name": "h", "match": {"header": {"x-tenant": "~^a[0-9]+$", "x-two": "2"}}, "reply": says("header")},
        {"name": "q", "match": {"query": {"debug": "1"}}, "reply": says("query")},
        {"name": "k", "match": {"cookie": {"user": "~^b"}}, "reply": says("cookie")},
        {"name": "c", "match": {"client": "127.0.0.77/32"}, "reply": says("client")},
        {"name": "there", "match": {"header": {"x-there": None}}, "reply": says("there")},
        {"name": "rest", "reply": says("rest")}])
    cases = (("PUT /", (), "method"), ("GET /", [("X-Tenant", "a1"), ("X-Two", "2")], "header"), ("GET /", [("X-Tenant", "a1")], "rest"),
             ("GET /", [("X-Tenant", "a1x"), ("X-Two", "2")], "rest"), ("GET /?a&debug=1&b", (), "query"), ("GET /?debug=11", (), "rest"),
             ("GET /?xdebug=1", (), "rest"), ("GET /", [("Cookie", "a=1; user=bob")], "cookie"), ("GET /", [("Cookie", "a=1"), ("Cookie", "user=bob")], "cookie"),
             ("GET /", [("Cookie", "user=alice")], "rest"), ("GET /", [("Cookie", "xuser=bob")], "rest"), ("GET /", [("X-There", "")], "there"))
    for request, fields, name in cases:
        eq(w.ask(request, fields).body.decode(), name, "%s %s" % (request, fields))
    eq(w.ask("GET /", source="127.0.0.77").body, b"client", "client")


@story
def routes_by_port(lab):
    other = address()
    w = lab.weir(listener={"bind": [address(), other]},
                 routes=[{"name": "p", "match": {"port": [other.split(":")[1]]}, "reply": says("other")}, {"name": "rest", "reply": says("rest")}])
    eq(w.ask("GET /").body, b"rest", "the first address")
    from weirlab import dial
    with dial(other) as c:
        c.send(text_of("GET /"))
        eq(c.response().body, b"other", "the second address")


@story
def a_pattern_that_explodes(lab):
    # A match limit, and 500: "no match" could let through what should not pass.
    w = lab.weir(routes=[{"name": "bad", "match": {"path": "~^/(a+)+$"}, "reply": says("bad")}, {"name": "rest", "reply": says("rest")}])
    eq(w.ask("GET /aaaa").body, b"bad", "a short one")
    eq(w.ask("GET /" + "a" * 5000 + "!").status, 500, "one that would take years")
    eq(w.access(2)[1]["error"]["code"], "EMATCHLIMIT", "the log says why")


@story
def replies_and_redirects(lab):
    w = lab.weir(routes=[{"name": "r", "match": {"path": "/r/"}, "reply": {"status": 418, "body": "$path|$query|$host|$client|$id|$5|$"}},
                         {"name": "o", "match": {"path": "/o/"}, "redirect": {"status": 301, "to": "https://new.test$path$query"}},
                         {"name": "d", "match": {"path": "/d/"}, "redirect": {"to": "https://$host/x"}}])
    r = w.ask("GET /r/a%20b?x=1&y", [("Host", "Shop.test:81")])
    parts = r.body.decode().split("|")
    eq((r.status, parts[:4], parts[5:]), (418, ["/r/a%20b", "?x=1&y", "Shop.test", "127.0.0.1"], ["$5", "$"]), "reply")
    ok(re.fullmatch("[0-9a-f]{32}", parts[4]), "$id", parts[4])
    eq(w.ask("GET /r").body.decode().split("|")[:2], ["/r", ""], "no query")
    r = w.ask("GET /o/p?q=/%0d")
    eq((r.status, r.get("location")), (301, "https://new.test/o/p?q=/%0d"), "redirect")
    eq(w.ask("GET //evil.test/o").status, 404, "not a route")
    r = w.ask("GET /d/")
    eq((r.status, r.get("location")), (308, "https://weir.test/x"), "308 by default")
    # $path always begins with one '/': no redirect to another host by //
    r = w.ask("GET /o/..//evil.test/o/")
    ok("//evil" not in (r.get("location") or "").replace("https://", ""), "no second authority", r)
    r = w.ask("POST /r/", body=b"x" * 100)
    eq(r.status, 418, "a reply to a request with a body")
    eq(w.ask("HEAD /r/").body, b"", "HEAD")


@story
def redirect_of_a_double_slash(lab):
    w = lab.weir(listener={"paths": "raw"}, routes=[{"name": "o", "redirect": {"status": 302, "to": "$path"}}])
    r = w.ask("GET //evil.test/x")
    ok(not r.get("location").startswith("//"), "$path begins with one slash", r.get("location"))


@story
def counts_by_route(lab):
    up = lab.upstream()
    w = lab.weir(up, routes=[{"name": "ping", "match": {"path": "=/ping"}, "reply": says("pong")}, {"name": "app", "to": "app"}],
                 listeners={})
    for _ in range(3):
        w.ask("GET /ping")
    w.ask("GET /x")
    w.settle()
    eq((w.metric("weir_requests_total", route="ping", code="200"), w.metric("weir_requests_total", route="app")), (3, 1), "requests by route")
    rows = w.admin("/v1/routes").json()
    eq([(r["name"], r["requests"]) for r in rows], [("ping", 3), ("app", 1)], "show routes")
    has(w.cli("show", "routes")[1], "ping", "the table")


@story
def date(lab):
    # RFC 9110 6.6.1: an answer that has none gets one, our own have one; one that is there stays.
    def reply(c, r):
        c.send(answer(200, "x", [("Date", "Sun, 06 Nov 1994 08:49:37 GMT")] if r.target == "/dated" else []))
    up = lab.upstream(reply)
    w = lab.weir(up, routes=[{"name": "own", "match": {"path": "=/own"}, "reply": {"status": 200, "body": "x"}},
                             {"name": "all", "match": {"path": "/a"}, "to": "app"}, {"name": "dated", "match": {"path": "/dated"}, "to": "app"}])
    eq(w.ask("GET /dated").all("date"), ["Sun, 06 Nov 1994 08:49:37 GMT"], "the server's")
    for target in ("/a", "/own", "/nowhere"):
        values = w.ask("GET " + target).all("date")
        eq(len(values), 1, target)
        ok(re.fullmatch(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT", values[0]), target, values)
        told = email.utils.parsedate_to_datetime(values[0]).timestamp()
        ok(abs(told - time.time()) < 5 * SLOW, "the time, " + target, values)


main()
