#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gRPC end to end over HTTP/2, with a client and a server of Google's library (Debian: python3-grpcio)."""
import os
import struct
import sys
import threading
import time
from concurrent import futures

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import HOST, SLOW, Skip, eq, free_port, main, ok, story, wait  # noqa: E402

DEBIANS = "/usr/bin/python3"  # for which the package is; the one that runs this may be another
try:
    import grpc
except ImportError:
    if os.path.realpath(sys.executable) != os.path.realpath(DEBIANS) and os.access(DEBIANS, os.X_OK):
        os.execv(DEBIANS, [DEBIANS, "-B", *sys.argv])
    grpc = None

SOON = 10 * SLOW  # seconds in which a call must have ended
SERVICE = "/t.T/"


def same(x):
    return x


class Server:
    """A service of all four kinds; and the health service, whose answer is `health`."""

    def __init__(self, port=None):
        self.port = port or free_port()
        self.address = "%s:%d" % (HOST, self.port)
        self.cancelled, self.calls, self.health, self.asked = threading.Event(), [], 1, []
        self.metadata = []
        handler = type("Handler", (grpc.GenericRpcHandler,), {"service": lambda _, details: self.service(details)})()
        self.server = grpc.server(futures.ThreadPoolExecutor(32), handlers=[handler])
        self.server.add_insecure_port(self.address)
        self.server.start()

    def service(self, details):
        service, _, method = details.method[1:].rpartition("/")
        self.calls.append(details.method)
        self.metadata.append(dict(details.invocation_metadata))
        if service == "grpc.health.v1.Health":
            return grpc.unary_unary_rpc_method_handler(self.check, same, same)
        kinds = {"unary": grpc.unary_unary_rpc_method_handler, "fail": grpc.unary_unary_rpc_method_handler,
                 "left": grpc.unary_unary_rpc_method_handler, "slow": grpc.unary_unary_rpc_method_handler,
                 "many": grpc.unary_stream_rpc_method_handler, "hang": grpc.unary_stream_rpc_method_handler,
                 "sum": grpc.stream_unary_rpc_method_handler, "pong": grpc.stream_stream_rpc_method_handler}
        return kinds[method](getattr(self, method), same, same) if method in kinds else None

    def check(self, request, context):
        self.asked.append(request)
        if self.health is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "what?")
        return b"\x08" + bytes([self.health]) if self.health else b""

    def unary(self, request, context):
        context.set_trailing_metadata((("x-trail", "t"), ("x_trail", "u")))
        return request

    def fail(self, request, context):
        context.set_trailing_metadata((("x-trail", "t"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: 100% \u00e9")

    def left(self, _, context):
        return b"%d" % int(context.time_remaining() * 1000)

    def slow(self, request, _):
        time.sleep(float(request))
        return request

    def many(self, request, _):
        for i in range(int(request)):
            yield b"%d" % i

    def hang(self, _, context):
        context.add_callback(self.cancelled.set)
        yield b"1"
        self.cancelled.wait(SOON)

    def sum(self, requests, _):
        return b"%d" % sum(len(r) for r in requests)

    def pong(self, requests, _):
        yield from requests

    def close(self):
        self.server.stop(0).wait(SOON)

    def stop(self):
        self.close()


class Caller:
    """A client of weir."""

    def __init__(self, lab, w):
        self.channel = grpc.insecure_channel(w.address, options=[("grpc.use_local_subchannel_pool", 1)])
        lab.closing.append(self)
        self.unary = lambda m: self.channel.unary_unary(SERVICE + m, same, same)
        self.out = lambda m: self.channel.unary_stream(SERVICE + m, same, same)
        self.into = lambda m: self.channel.stream_unary(SERVICE + m, same, same)
        self.both = lambda m: self.channel.stream_stream(SERVICE + m, same, same)

    def close(self):
        self.channel.close()


def pair(lab, count=1, **kw):
    """Servers, weir before them, and a client."""
    if not grpc:
        raise Skip("python3-grpcio is not installed")
    servers = [Server() for _ in range(count)]
    lab.peers.extend(servers)
    kw.setdefault("upstream", {}).setdefault("protocol", "h2")
    kw.setdefault("route", {"name": "api"})
    w = lab.weir(*servers, **kw)
    return (*servers, w, Caller(lab, w))


def status(function):
    """How a call ends that must not succeed: its code, number and text."""
    try:
        seen = function()
    except grpc.RpcError as e:
        return e.code().name, e.details()
    ok(False, "the call fails", seen)


@story
def kinds(lab):
    server, w, c = pair(lab)
    answer, call = c.unary("unary").with_call(b"hi", timeout=SOON, metadata=(("x-h", "v"), ("k-bin", b"\xff\0")))
    eq((answer, dict(call.trailing_metadata()).get("x-trail")), (b"hi", "t"), "unary")
    eq({k: v for k, v in server.metadata[0].items() if k in ("x-h", "k-bin")}, {"x-h": "v", "k-bin": b"\xff\0"}, "metadata")
    eq(c.unary("unary")(b"", timeout=SOON), b"", "an empty message")
    eq(len(c.unary("unary")(b"z" * 1000000, timeout=SOON)), 1000000, "a large one")
    eq(list(c.out("many")(b"500", timeout=SOON)), [b"%d" % i for i in range(500)], "from the server")
    eq(c.into("sum")((b"y" * 1000 for _ in range(300)), timeout=SOON), b"300000", "from the client")
    turn, got = threading.Semaphore(1), []

    def requests():
        for i in range(50):
            turn.acquire()
            yield b"%d" % i
    for answer in c.both("pong")(requests(), timeout=SOON):
        got.append(answer)
        turn.release()
    eq(got, [b"%d" % i for i in range(50)], "both at once")
    lines = w.access(6)
    eq([line["grpc"] for line in lines[:4:3]], [{"service": "t.T", "method": m, "status": 0} for m in ("unary", "many")], "the log")
    eq({line["protocol"] for line in lines}, {"HTTP/2"}, "the log")
    w.settle()
    eq(w.metric("weir_grpc_requests_total", route="api", status="0"), 6, "the metric")


@story
def metadata_with_underscores(lab):
    # They are dropped as in any request: the content type is the client's word, and must open no way for X_User to a CGI.
    for how, seen in (("drop", None), ("pass", "1")):
        server, _, c = pair(lab, listener={"underscores": how})
        _, call = c.unary("unary").with_call(b"x", timeout=SOON, metadata=(("x_key", "1"),))
        eq(server.metadata[0].get("x_key"), seen, "of the client: " + how)
        eq(dict(call.trailing_metadata()).get("x_trail"), "u", "of the server")
    server, _, c = pair(lab, listener={"underscores": "reject"})
    said = status(lambda: c.unary("unary").with_call(b"x", timeout=SOON, metadata=(("x_key", "1"),)))
    eq((said, server.calls), (("INVALID_ARGUMENT", "a header name with an underscore"), []), "reject")


@story
def failures(lab):
    server, w, c = pair(lab)
    eq(status(lambda: c.unary("fail")(b"", timeout=SOON)), ("FAILED_PRECONDITION", "no: 100% \u00e9"), "the server's")
    eq(status(lambda: c.unary("nope")(b"", timeout=SOON))[0], "UNIMPLEMENTED", "no such method")
    server.close()
    code, text = status(lambda: c.unary("unary")(b"", timeout=SOON))
    eq((code, text), ("UNAVAILABLE", "the upstream refused the connection"), "no server")
    eq([line["grpc"]["status"] for line in w.access(3)], [9, 12, 14], "the log")


@story
def no_route(lab):
    if not grpc:
        raise Skip("python3-grpcio is not installed")
    server = Server()
    lab.peers.append(server)
    w = lab.weir(server, routes=[{"name": "one", "match": {"path": "=/t.T/unary"}, "to": "app"}], upstream={"protocol": "h2"})
    c = Caller(lab, w)
    eq(c.unary("unary")(b"x", timeout=SOON), b"x", "the method that there is")
    eq(status(lambda: c.unary("sum")(b"x", timeout=SOON)), ("UNIMPLEMENTED", "no route matches"), "another one")


@story
def deadlines(lab):
    _, w, c = pair(lab)
    left = int(c.unary("left")(b"", timeout=20))
    ok(18000 < left <= 21000, "what is left", left)  # the library rounds its timeout up before it sends it
    started = time.monotonic()
    eq(status(lambda: c.unary("slow")(b"%d" % (3 * SLOW), timeout=0.4))[0], "DEADLINE_EXCEEDED", "too slow")
    ok(time.monotonic() - started < 2 * SLOW, "and in time", time.monotonic() - started)
    w = lab.weir(*w.config["upstreams"]["app"]["servers"], upstream={"protocol": "h2"}, timeouts={"request": "300ms"})
    c = Caller(lab, w)  # weir's own deadline
    eq(status(lambda: c.unary("slow")(b"%d" % (3 * SLOW), timeout=SOON)),
       ("DEADLINE_EXCEEDED", "the request took longer than allowed"), "timeouts.request")


@story
def cancel(lab):
    server, w, c = pair(lab)
    call = c.out("hang")(b"", timeout=SOON)
    eq(next(call), b"1", "a message")
    call.cancel()
    ok(server.cancelled.wait(SOON), "the server learns of it")
    eq(w.access(1)[0]["grpc"]["status"], 1, "the log")


@story
def quiet(lab):
    # Neither side says anything for longer than every timeout that others have.
    short = {"receive": "200ms", "first_byte": "200ms", "idle": "200ms", "body_rate_min": "1MiB"}
    _, w, c = pair(lab, timeouts=short)

    def requests():
        yield b"a"
        time.sleep(0.8 * SLOW)
        yield b"b"
        time.sleep(0.8 * SLOW)
    eq(list(c.both("pong")(requests(), timeout=60)), [b"a", b"b"], "both at once")
    eq(c.unary("slow")(b"%g" % (0.8 * SLOW), timeout=60), b"%g" % (0.8 * SLOW), "a slow server")


@story
def many_streams(lab):
    _, w, c = pair(lab)
    calls = [c.unary("unary").future(b"%d" % i * 3000, timeout=30 * SLOW) for i in range(150)]
    eq([f.result() for f in calls], [b"%d" % i * 3000 for i in range(150)], "answers")


@story
def failover(lab):
    # What no server has begun is sent to another one; what has begun is not.
    first, second, w, c = pair(lab, 2)
    for _ in range(4):
        c.unary("unary")(b"x", timeout=SOON)
    ok(first.calls and second.calls, "both serve")
    first.close()
    before = len(second.calls)
    for i in range(8):
        eq(c.unary("unary")(b"%d" % i, timeout=SOON), b"%d" % i, "answer")
    eq(len(second.calls), before + 8, "all by the other one")


@story
def codes_of_resets(lab):
    # RST_STREAM of a server: the status that gRPC has for its code, before and behind the head; and what the log says of it.
    if not grpc:
        raise Skip("python3-grpcio is not installed")
    from h2lab import CANCEL, ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR, h2_upstream
    wanted = [(CANCEL, "CANCELLED", 1), (INTERNAL_ERROR, "INTERNAL", 13), (ENHANCE_YOUR_CALM, "RESOURCE_EXHAUSTED", 8),
              (PROTOCOL_ERROR, "INTERNAL", 13), (NO_ERROR, "INTERNAL", 13)]
    for code, name, number in wanted:
        def reply(x, code=code):
            if x.target == "/t.T/many":
                x.headers([(":status", "200"), ("content-type", "application/grpc")])
                x.send(struct.pack(">BI", 0, 2) + b"hi")
            x.rst(code)
        up = h2_upstream(lab, reply)
        w = lab.weir(up, upstream={"protocol": "h2"}, route={"name": "api"})
        c = Caller(lab, w)
        eq(status(lambda c=c: c.unary("unary")(b"hi", timeout=SOON))[0], name, "before the head: %d" % code)
        eq(status(lambda c=c: list(c.out("many")(b"hi", timeout=SOON)))[0], name, "behind the head: %d" % code)
        eq([line["grpc"]["status"] for line in w.access(2)], [number] * 2, "the log: %d" % code)
        eq(len(up.requests), 2, "nothing is sent again")


@story
def unprocessed(lab):
    # A server that has not begun says so: the call, with its message, goes to it once more. UNAVAILABLE is an answer.
    if not grpc:
        raise Skip("python3-grpcio is not installed")
    from h2lab import REFUSED_STREAM, h2_upstream  # it needs python3-h2, and skips without
    seen = []

    def reply(x):
        seen.append(x.target)
        if len(seen) == 1:
            return x.rst(REFUSED_STREAM)
        x.whole()
        x.headers([(":status", "200"), ("content-type", "application/grpc")])
        x.send(x.body)
        x.end([("grpc-status", "0" if len(seen) == 2 else "14")])
    w = lab.weir(h2_upstream(lab, reply, early=True), upstream={"protocol": "h2"}, route={"name": "api"})
    c = Caller(lab, w)
    eq(c.unary("unary")(b"hi", timeout=SOON), b"hi", "the answer to what was sent again")
    eq(status(lambda: c.unary("unary")(b"hi", timeout=SOON))[0], "UNAVAILABLE", "what a server says")
    eq(len(seen), 3, "requests")
    eq([(line["attempts"], line["grpc"]["status"]) for line in w.access(2)], [(2, 0), (1, 14)], "the log")


@story
def health(lab):
    # Up and down by what grpc.health.v1.Health says, and it is asked for the service that is named.
    if not grpc:
        raise Skip("python3-grpcio is not installed")
    good, bad = Server(), Server()
    lab.peers += [good, bad]
    checks = {"type": "grpc", "service": "t.T", "every": "50ms", "rise": 1, "fall": 1, "timeout": "%ds" % (2 * SLOW)}
    w = lab.weir(good, bad, upstream={"protocol": "h2", "health": checks})

    def up():
        return [w.metric("weir_upstream_up", server=s.address) for s in (good, bad)]
    wait(lambda: len(good.asked) > 2 and len(bad.asked) > 2, "checks come")
    eq(good.asked[0], b"\x0a\x03t.T", "what is asked")
    eq(up(), [1, 1], "both are up")
    for answer, told in ((2, "it answers NOT_SERVING"), (None, "it answers NOT_FOUND (5)"), (0, "it answers UNKNOWN"),
                         (9, "it answers something else")):
        bad.health = answer
        wait(lambda: up() == [1, 0], "one is down")
        wait(lambda told=told: "is down: %s" % told in w.log(), "the log says why: %s" % told)
        bad.health = 1
        wait(lambda: up() == [1, 1], "and up again")
    good.close()
    wait(lambda: up() == [0, 1], "the other one is down")


@story
def health_of_the_whole(lab):
    if not grpc:
        raise Skip("python3-grpcio is not installed")
    server = Server()
    lab.peers.append(server)
    lab.weir(server, upstream={"protocol": "h2", "health": {"type": "grpc", "every": "50ms"}})
    wait(lambda: server.asked, "checks come")
    eq(server.asked[0], b"", "no service is named")


@story
def health_of_none(lab):
    # A server of HTTP/2 that has no health service, one of HTTP/1, and one that says nothing.
    if not grpc:
        raise Skip("python3-grpcio is not installed")
    none = Server()
    lab.peers.append(none)
    none.check = None
    none.service = lambda details: None
    old = lab.upstream()
    mute = lab.upstream(script=lambda c: c.rest())
    checks = {"type": "grpc", "every": "50ms", "rise": 1, "fall": 1, "timeout": "400ms"}
    w = lab.weir(none, old, mute, upstream={"protocol": "h2", "health": checks})
    wait(lambda: w.metric("weir_upstream_up") == 0, "all are down")
    ok("%s is down: it answers UNIMPLEMENTED (12)" % none.address in w.log(), "no such service", w.log())
    ok("%s is down: no answer in time" % mute.address in w.log(), "a mute one", w.log())
    status_, _, said = lab.cli("check", "-c", lab.write("h.yaml", """
listeners: { web: { bind: "%s:0", to: app } }
upstreams: { app: { servers: [ 127.0.0.1:1 ], health: { type: grpc } } }""" % HOST))
    eq(status_, 2, "exit status of check")
    ok("'type: grpc' needs an upstream of 'protocol: h2' or 'auto'" in said, "what check says", said)


@story
def health_malformed(lab):
    # What is no answer to a health check is none, whatever it looks like.
    from h2lab import h2_upstream
    serving, ok_ = b"\x08\x01", [("grpc-status", "0")]
    answers = [  # the head's status, the body, the trailer, and what the log says
        (200, struct.pack(">BI", 0, 2) + serving, [("x", "y")], "its answer has no grpc-status"),
        (200, struct.pack(">BI", 1, 2) + serving, ok_, "its answer is malformed"),
        (200, struct.pack(">BI", 0, 3) + serving, ok_, "its answer is malformed"),
        (200, struct.pack(">BI", 0, 1) + serving, ok_, "its answer is malformed"),
        (200, struct.pack(">BI", 0, 2) + b"\x08\xff", ok_, "its answer is malformed"),
        (200, b"\0\0", ok_, "its answer is malformed"),
        (200, b"", ok_, "its answer is malformed"),
        (200, b"\0" * 300, ok_, "its answer is too long"),
        (200, struct.pack(">BI", 0, 2) + serving, [("grpc-status", "soon")], "its answer has no grpc-status"),
        (503, b"later", None, "it answers 503"),
    ]
    at = [None]

    def reply(x):
        x.whole()
        code, body, trailer, _ = at[0] or (200, struct.pack(">BI", 0, 2) + serving, ok_, None)
        x.reply(code, body, [("content-type", "application/grpc")], trailer, length=False)
    checks = {"type": "grpc", "every": "30ms", "rise": 1, "fall": 1}
    w = lab.weir(h2_upstream(lab, reply), upstream={"protocol": "h2", "health": checks})
    for row in answers:
        at[0] = row
        wait(lambda: not w.metric("weir_upstream_up"), "it is down: %s" % row[3])
        ok("is down: %s" % row[3] in w.log().splitlines()[-1], "the log says why: %s" % row[3], w.log().splitlines()[-1])
        at[0] = None
        wait(lambda: w.metric("weir_upstream_up"), "it is up again")


@story
def web(lab):
    # gRPC-Web over HTTP/1.1 to a server of gRPC.
    server, w, _ = pair(lab, route={"name": "api", "filters": [{"grpc_web": "on"}]})
    frame = struct.pack(">BI", 0, 2) + b"hi"
    r = w.ask("POST /t.T/unary", [("Content-Type", "application/grpc-web+proto")], frame)
    eq((r.status, r.body[:7]), (200, frame), "answer")
    eq(r.body[7:8], b"\x80", "then the trailer")
    lines = dict(line.split(":", 1) for line in r.body[12:].decode().split("\r\n")[:-1])
    eq((lines["grpc-status"], lines["x-trail"]), ("0", "t"), "its fields")
    r = w.ask("POST /t.T/fail", [("Content-Type", "application/grpc-web")], frame)
    seen = r.get("grpc-status") or r.body.decode()
    ok("9" in seen, "a failure", (seen, r))
    eq(server.calls, ["/t.T/unary", "/t.T/fail"], "calls")


main()
