#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gRPC: what weir itself says to it and knows of it. Here over HTTP/1.1, where every byte is scripted: the machine does
not know which protocol carries a request."""
import base64
import os
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import SLOW, answer, chunk, eq, main, ok, story, text_of, wait  # noqa: E402

TYPE = [("Content-Type", "application/grpc"), ("Transfer-Encoding", "chunked")]
FRAME = b"\0\0\0\0\2hi"


def call(path="/pkg.S/Do", fields=(), end=True):
    return text_of("POST " + path, TYPE + list(fields)) + chunk(FRAME) + (b"0\r\n\r\n" if end else b"")


def trailers(status=0, fields=()):
    """An answer of a server: one message, then its status."""
    lines = "".join("%s: %s\r\n" % f for f in [("grpc-status", str(status))] + list(fields))
    return (b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(FRAME) +
            b"0\r\n" + lines.encode() + b"\r\n")


def says(data, after=0):
    """A server that answers by this."""
    def reply(conn, request):
        time.sleep(after)
        conn.send(data(request) if callable(data) else data)
    return reply


def ask(w, *args, **kw):
    with w.client() as c:
        c.send(call(*args, **kw))
        return c.response("POST")


@story
def passes(lab):
    # The trailer reaches the client, also one that did not say TE; the upstream is told that trailers are taken.
    up = lab.upstream(says(trailers(0, [("x-trail", "t")])))
    w = lab.weir(up, route={"name": "api"})
    r = ask(w)
    eq((r.status, r.body, r.trailers), (200, FRAME, [("grpc-status", "0"), ("x-trail", "t")]), "answer")
    eq(up.requests[0].get("te"), "trailers", "TE for the upstream")
    eq(w.access(1)[0]["grpc"], {"service": "pkg.S", "method": "Do", "status": 0}, "the log")
    eq(w.metric("weir_grpc_requests_total", route="api", status="0"), 1, "the metric")
    with w.client() as c:  # what is not gRPC is neither logged so nor counted
        c.send(text_of("POST /pkg.S/Do", [("Content-Type", "application/grpcx")], b"x"))
        c.response("POST")
    ok("grpc" not in w.access(2)[1], "no gRPC in the log")
    ok(not up.requests[1].get("te"), "no TE of ours")
    w.settle()
    eq(w.metric("weir_grpc_requests_total"), 1, "the metric")


@story
def outcomes(lab):
    # The status is that of the trailer, of the head of a trailers-only answer, or by the HTTP status.
    answers = {
        "/S/trailer": trailers(5),
        "/S/head": answer(200, b"", [("Content-Type", "application/grpc"), ("grpc-status", "7"), ("grpc-message", "no")]),
        "/S/odd": trailers(77),
        "/S/bad": trailers("x"),
        "/S/none": answer(200, b"", [("Content-Type", "application/grpc")]),
        "/S/http": answer(401, b"who?", reason="Unauthorized"),
        "/path": trailers(0),
    }
    up = lab.upstream(says(lambda r: answers[r.target]))
    w = lab.weir(up, route={"name": "api"})
    for path in answers:
        ask(w, path)
    seen = {line["path"]: line["grpc"] for line in w.access(len(answers))}
    eq({p: g["status"] for p, g in seen.items()},
       {"/S/trailer": 5, "/S/head": 7, "/S/odd": 77, "/S/bad": 2, "/S/none": 2, "/S/http": 16, "/path": 0}, "statuses")
    eq(seen["/path"], {"status": 0}, "a path that is no method")
    w.settle()
    counted = {s: w.metric("weir_grpc_requests_total", route="api", status=s) for s in ("0", "2", "5", "7", "16", "other")}
    eq(counted, {"0": 1, "2": 2, "5": 1, "7": 1, "16": 1, "other": 1}, "the metric")


@story
def own_errors(lab):
    # What weir itself has to say comes as gRPC says it: 200, a status, a sentence, no body.
    up = lab.upstream(listen=False)
    w = lab.weir(up, routes=[{"name": "gone", "to": "app", "match": {"path": "/pkg.S/"}},
                             {"name": "said", "match": {"path": "/said"}, "reply": {"status": 403, "body": "no"}}])
    r = ask(w)
    eq((r.status, r.get("content-type"), r.get("grpc-status"), r.body), (200, "application/grpc", "14", b""), "no server")
    eq(r.get("grpc-message"), "the upstream refused the connection", "the sentence")
    eq(r.get("retry-after"), None, "no field of HTTP")
    r = ask(w, "/other.S/Do")
    eq((r.status, r.get("grpc-status"), r.get("grpc-message")), (200, "12", "no route matches"), "no route")
    r = ask(w, "/said")
    eq((r.status, r.body, r.get("grpc-status")), (403, b"no", None), "what a route replies is as it is")
    lines = w.access(3)
    eq([(line["status"], line["grpc"]["status"]) for line in lines], [(200, 14), (200, 12), (403, 7)], "the log")
    eq(lines[0]["error"], {"code": "ECONNREFUSED", "by": "upstream", "sys": "ECONNREFUSED"}, "the error")
    eq(w.metric("weir_grpc_requests_total", route="", status="12"), 1, "the metric")


@story
def cut(lab):
    # A broken answer is never a clean end; what it is called is in the log.
    up = lab.upstream(lambda c, r: c.send(trailers()[:-30]) and c.reset())
    w = lab.weir(up, route={"name": "api"})
    try:
        ok(False, "a cut answer", ask(w))
    except Exception as e:
        ok("Wrong" not in type(e).__name__, "the answer is cut", e)
    eq(w.access(1)[0]["grpc"]["status"], 14, "the log")


def timed(w, least, most, **kw):
    started = time.monotonic()
    r = ask(w, **kw)
    seconds = time.monotonic() - started
    ok(least <= seconds <= most * SLOW, "%g s" % least, seconds)
    return r


@story
def timeout(lab):
    # grpc-timeout is a deadline of the whole request, and is passed on less what has passed here.
    up = lab.upstream(says(trailers(), 1.5 * SLOW))
    w = lab.weir(up, route={"name": "api"})
    r = timed(w, 0.29, 1.2, fields=[("grpc-timeout", "300m")])
    eq((r.status, r.get("grpc-status")), (200, "4"), "too late")
    eq(r.get("grpc-message"), "the request took longer than allowed", "the sentence")
    told = up.requests[0].all("grpc-timeout")
    ok(len(told) == 1 and told[0].endswith("u") and 200000 < int(told[0][:-1]) <= 300000, "what is left", told)
    r = ask(w, fields=[("grpc-timeout", "0m")])
    eq(r.get("grpc-status"), "4", "over before it began")
    eq(len(up.requests), 1, "and not passed on")
    wait(lambda: w.metric("weir_grpc_requests_total", route="api", status="4") == 2, "the metric")


@story
def timeout_longer(lab):
    up = lab.upstream(says(trailers()))
    w = lab.weir(up)
    for value, unit, low in (("99999999H", "H", 99999990), ("2H", "m", 7190000), ("90S", "u", 80000000)):
        r = ask(w, fields=[("grpc-timeout", value)])
        eq(r.trailers[0], ("grpc-status", "0"), "answer")
        told = up.requests[-1].get("grpc-timeout")
        ok(told[-1] == unit and low <= int(told[:-1]), "what is left of %s" % value, told)
    for value in ("soon", "1s", "999999999S"):  # not ours to judge
        ask(w, fields=[("grpc-timeout", value)])
        eq(up.requests[-1].get("grpc-timeout"), value, "a malformed one")
    ask(w)
    eq(up.requests[-1].get("grpc-timeout"), None, "none")


@story
def timeout_of_the_route(lab):
    # The shorter one wins.
    up = lab.upstream(lambda c, r: time.sleep(1.5 * SLOW))
    w = lab.weir(up, timeouts={"request": "300ms"})
    r = timed(w, 0.29, 1.2, fields=[("grpc-timeout", "10S")])
    eq(r.get("grpc-status"), "4", "timeouts.request")


@story
def quiet(lab):
    # A stream may be quiet both ways for longer than any timeout that others have.
    short = {"receive": "200ms", "first_byte": "200ms", "idle": "200ms", "body_rate_min": "1MiB"}

    def slowly(conn, _):
        time.sleep(0.8 * SLOW)  # before the head, and in the middle
        conn.send(trailers()[:-40])
        time.sleep(0.8 * SLOW)
        conn.send(trailers()[-40:])

    up = lab.upstream(slowly)
    w = lab.weir(up, timeouts=short)
    r = ask(w)
    eq((r.body, r.trailers), (FRAME, [("grpc-status", "0")]), "a slow server")
    with w.client() as c:  # and a slow client
        c.send(call(end=False))
        time.sleep(0.8 * SLOW)
        c.send(chunk(FRAME) + b"0\r\n\r\n")
        eq(c.response("POST").trailers, [("grpc-status", "0")], "a slow client")
    with w.client() as c:  # others are as strict as ever
        c.send(text_of("POST /", [("Content-Length", "9")]) + b"a")
        eq(c.response("POST").status, 408, "what is not gRPC")


@story
def quiet_too_long(lab):
    # Where that is too generous, timeouts.grpc_idle says how long.
    up = lab.upstream(lambda c, r: time.sleep(1.5 * SLOW))
    w = lab.weir(up, route={"timeouts": {"grpc_idle": "300ms"}})
    eq(timed(w, 0.29, 1.2).get("grpc-status"), "4", "both are quiet")
    with w.client() as c:
        c.send(call(end=False))
        for _ in range(5):
            time.sleep(0.15)
            c.send(chunk(FRAME))
        started = time.monotonic()
        eq(c.response("POST").get("grpc-status"), "4", "answer")
        ok(time.monotonic() - started >= 0.2, "from the last byte on", time.monotonic() - started)


# --- gRPC-Web ---------------------------------------------------------------------------------------------------------

def web_frames(body):
    """The messages of a body of gRPC-Web, and the fields of its trailer."""
    messages, fields = [], None
    while body:
        kind, size = struct.unpack(">BI", body[:5])
        ok(fields is None, "the trailer is the last frame")
        if kind == 0x80:
            fields = [tuple(line.split(":", 1)) for line in body[5:5 + size].decode().splitlines()]
        else:
            messages.append(body[5:5 + size])
        body = body[5 + size:]
    return messages, fields


def text_bytes(text):
    """Base64 that is padded wherever the sender has flushed."""
    return b"".join(base64.b64decode(text[i:i + 4]) for i in range(0, len(text), 4))


WEB = {"route": {"name": "web", "filters": [{"grpc_web": "on"}]}}


@story
def web_binary(lab):
    up = lab.upstream(says(trailers(9, [("grpc-message", "not now")])))
    w = lab.weir(up, **WEB)
    r = w.ask("POST /pkg.S/Do", [("Content-Type", "application/grpc-web+proto")], FRAME)
    eq((r.status, r.get("content-type")), (200, "application/grpc-web"), "answer")
    eq(web_frames(r.body), ([b"hi"], [("grpc-status", "9"), ("grpc-message", "not now")]), "its frames")
    eq(r.trailers, [], "no trailer but that")
    q = up.requests[0]
    eq((q.get("content-type"), q.get("te"), q.body), ("application/grpc+proto", "trailers", FRAME), "for the upstream")
    eq(w.access(1)[0]["grpc"], {"service": "pkg.S", "method": "Do", "status": 9}, "the log")


@story
def web_text(lab):
    def slowly(conn, _):
        whole = trailers(0)
        conn.send(whole[:-30])
        time.sleep(0.2)
        conn.send(whole[-30:])

    up = lab.upstream(slowly)
    w = lab.weir(up, **WEB)
    sent = base64.b64encode(FRAME[:2]) + base64.b64encode(FRAME[2:])  # padded in the middle
    for size in (1, 3, 5, len(sent)):
        with w.client() as c:
            c.send(text_of("POST /pkg.S/Do", [("Content-Type", "application/grpc-web-text"), ("Transfer-Encoding", "chunked")]))
            for i in range(0, len(sent), size):
                c.send(chunk(sent[i:i + size]))
                time.sleep(0.005)
            c.send(b"0\r\n\r\n")
            r = c.response("POST")
        eq(up.requests[-1].body, FRAME, "for the upstream")
        eq(r.get("content-type"), "application/grpc-web-text", "answer")
        eq(web_frames(text_bytes(r.body)), ([b"hi"], [("grpc-status", "0")]), "its frames")
    r = w.ask("POST /pkg.S/Do", [("Content-Type", "application/grpc-web-text")], b"AAA")
    eq((r.status, r.get("content-type"), r.get("grpc-status")), (200, "application/grpc-web-text", "3"), "no base64")


@story
def web_errors(lab):
    # A trailers-only answer has its status in the head, one of weir's own too; what is not gRPC stays as it is.
    answers = {
        "/S/head": answer(200, b"", [("Content-Type", "application/grpc"), ("grpc-status", "7")]),
        "/S/html": answer(404, b"<p>", [("Content-Type", "text/html")]),
        "/S/plain": trailers(0),
    }
    up = lab.upstream(says(lambda r: answers[r.target]))
    w = lab.weir(up, **WEB)
    web = [("Content-Type", "application/grpc-web")]
    r = w.ask("POST /S/head", web, FRAME)
    eq((r.get("content-type"), r.get("grpc-status"), r.body), ("application/grpc-web", "7", b""), "trailers-only")
    r = w.ask("POST /S/html", web, FRAME)
    eq((r.status, r.get("content-type"), r.body), (404, "text/html", b"<p>"), "not gRPC")
    eq(ask(w, "/S/plain").trailers, [("grpc-status", "0")], "gRPC itself passes")
    up.close()
    r = w.ask("POST /S/plain", web, FRAME)
    eq((r.status, r.get("content-type"), r.get("grpc-status")), (200, "application/grpc-web", "14"), "weir's own")


main()
