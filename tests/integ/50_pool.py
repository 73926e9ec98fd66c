#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Connections to upstreams: reuse, what makes one unusable, which server, and what is sent once more."""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import SLOW, answer, chunk, eq, has, main, ok, story, text_of, wait  # noqa: E402


def served_by(w, count, request="GET /", **kw):
    """How many of `count` requests each server answered."""
    seen = {}
    with w.client() as c:
        for _ in range(count):
            c.send(text_of(request, **kw))
            r = c.response()
            name = r.json()["server"] if r.status == 200 else r.status
            seen[name] = seen.get(name, 0) + 1
    return seen


@story
def reuse(lab):
    # Many clients one after the other, on any worker: one connection or two serve them all.
    up = lab.upstream()
    w = lab.weir(up)
    for _ in range(30):
        w.ask("GET /")
    ok(len(up.conns) <= 2, "connections to the upstream", len(up.conns))
    w.settle()
    opened = w.metric("weir_upstream_connections_opened_total", upstream="app")
    eq(opened, len(up.conns), "opened, as counted")
    eq(w.metric("weir_upstream_requests_total", upstream="app"), 30, "requests, as counted")
    pools = w.admin("/v1/pools").json()
    eq((pools[0]["idle"], pools[0]["active"]), (len(up.conns), 0), "show pools")
    eq([line["reused"] for line in w.access(30)].count(False), len(up.conns), "`reused` in the log")


@story
def limits_of_the_pool(lab):
    up = lab.upstream()
    w = lab.weir(up, workers=1, upstream={"pool": {"requests_max": 3}})
    eq(served_by(w, 9), {"up0": 9}, "answers")
    eq(len(up.conns), 3, "three requests a connection")
    up = lab.upstream()
    w = lab.weir(up, workers=1, upstream={"pool": {"idle_timeout": "100ms"}})
    w.ask("GET /")
    wait(lambda: up.open == 0, "an idle connection is closed")
    up = lab.upstream()
    w = lab.weir(up, workers=1, upstream={"pool": {"age_max": "200ms"}})
    w.ask("GET /")
    time.sleep(0.3)
    w.ask("GET /")
    eq(len(up.conns), 2, "an old connection gets no new request")


def stale(conn, request):
    """Answers the first request of a connection; the second is met by RST or FIN."""
    if conn.count == 2:
        if "rst" in request.target:
            conn.reset()
        return True
    conn.send(answer(200, '{"server": "%s"}' % conn.server.name))
    return False


@story
def stale_connection_get(lab):
    # The pool's connection ends as the request is sent: a GET is sent once more, on a fresh one.
    for how in ("fin", "rst"):
        up = lab.upstream(stale)
        w = lab.weir(up, workers=1, route={"retry": {"attempts": 1}})
        with w.client() as c:
            for i in range(4):
                c.send(text_of("GET /%s" % how))
                eq(c.response().status, 200, "request %d (%s)" % (i, how))
        eq((len(up.requests), w.metric("weir_retries_total", why="stale")), (7, 3), "requests at the upstream, retries")


@story
def stale_connection_post(lab):
    # A POST may have been processed: it is never sent twice.
    for how in ("fin", "rst"):
        up = lab.upstream(stale)
        w = lab.weir(up, workers=1, route={"retry": {"attempts": 5, "when": ["connect", "unprocessed", "reset", "timeout", 502]}})
        with w.client() as c:
            c.send(text_of("GET /"))
            eq(c.response().status, 200, "the first")
            c.send(text_of("POST /" + how, body=b"pay"))
            eq(c.response().status, 502, "a POST on a stale connection")
        eq([r.method for r in up.requests].count("POST"), 1, "POST at the upstream")


@story
def stale_only_once(lab):
    # A server that ends every connection without an answer is asked twice, not for ever.
    def reply(c, r):
        if len(up.requests) > 1:
            return True
        c.send(answer(200, "x"))
        return False
    up = lab.upstream(reply)
    w = lab.weir(up, workers=1, route={"retry": {"attempts": 1}})
    with w.client() as c:
        c.send(text_of("GET /"))
        eq(c.response().status, 200, "the first")
        c.send(text_of("GET /"))
        eq(c.response().status, 502, "then no answer any more")
    eq(len(up.requests), 3, "requests at the upstream")


@story
def closed_while_idle(lab):
    # The upstream closes an idle connection: it is noticed at once, and no request is tried on it.
    def reply(c, r):
        c.send(answer(200, "x"))
        time.sleep(0.05)
        return True
    up = lab.upstream(reply)
    w = lab.weir(up, workers=1)
    with w.client() as c:
        for _ in range(5):
            c.send(text_of("POST /", body=b"x"))
            eq(c.response().status, 200, "a POST")
            time.sleep(0.15)
    eq(w.metric("weir_retries_total"), 0, "retries")


@story
def stray_bytes_on_idle(lab):
    # Bytes without a request are no answer to the next one.
    def reply(c, r):
        c.send(answer(200, "good"))
        if c.index == 1:
            time.sleep(0.05)
            c.send(answer(200, "EVIL"))
        return False
    up = lab.upstream(reply)
    w = lab.weir(up, workers=1)
    with w.client() as c:
        for i in range(3):
            c.send(text_of("GET /%d" % i))
            eq(c.response().body, b"good", "answer %d" % i)
            time.sleep(0.15)
    eq(len(up.conns), 2, "the connection was given up")
    # and together with the answer
    up = lab.upstream(lambda c, r: c.send(answer(200, "good") + (answer(200, "EVIL") if c.index == 1 else b"")))
    w = lab.weir(up, workers=1)
    with w.client() as c:
        c.send(text_of("GET /") * 3)
        eq([c.response().body for _ in range(3)], [b"good"] * 3, "pipelined")


@story
def connect_failover(lab):
    # A server that refuses: the next one, for a POST as well (nothing was sent).
    dead, good = lab.upstream(listen=False), lab.upstream()
    w = lab.weir(dead, good)
    for i in range(6):
        r = w.ask("POST /%d" % i, body=b"once")
        eq((r.status, r.json()["server"]), (200, "up1"), "request %d" % i)
    eq(len(good.requests), 6, "requests")
    ok(any(line["attempts"] == 2 for line in w.access(6)), "attempts in the log")
    w = lab.weir(dead, good, route={"retry": {"attempts": 1}})
    eq(sorted(w.ask("GET /").status for _ in range(4)), [200, 200, 502, 502], "without a second attempt")


@story
def all_refuse(lab):
    w = lab.weir(lab.upstream(listen=False), lab.upstream(listen=False), route={"retry": {"attempts": 3}})
    eq(w.ask("GET /").status, 502, "status")
    eq(w.access(1)[0]["error"]["code"], "ECONNREFUSED", "the log")


@story
def weights_and_backup(lab):
    a, b, c = lab.upstream(), lab.upstream(), lab.upstream()
    w = lab.weir(workers=1, servers=[{"address": a.address, "weight": 3}, b.address, {"address": c.address, "backup": "on"}])
    eq(served_by(w, 40), {"up0": 30, "up1": 10}, "by weight")
    a.close()
    b.close()
    seen = served_by(w, 6)
    eq(seen.get("up2", 0) + seen.get(502, 0), 6, "nobody else answers: %s" % seen)
    w = lab.weir(workers=1, servers=[{"address": c.address, "weight": 0}, a.address])
    a.listen()
    eq(served_by(w, 4), {"up0": 4}, "weight 0 gets nothing")


@story
def set_at_run_time(lab):
    a, b = lab.upstream(), lab.upstream()
    w = lab.weir(a, b, workers=1)
    eq(served_by(w, 10), {"up0": 5, "up1": 5}, "both")
    w.cli("set", "upstream", "app/" + a.address, "drain", check=0)
    eq(served_by(w, 6), {"up1": 6}, "one is drained")
    has(w.cli("show", "upstreams", check=0)[1], "drain", "show upstreams")
    has(w.cli("show", "config", "--diff", check=0)[1], a.address, "the difference to the file")
    w.cli("set", "upstream", "app/" + a.address, "ready", check=0)
    w.cli("set", "upstream", "app/" + a.address, "weight", "3", check=0)
    eq(served_by(w, 8), {"up0": 6, "up1": 2}, "ready again, with another weight")
    w.cli("set", "upstream", "app/9.9.9.9:1", "drain", check=1)
    w.cli("set", "upstream", "app/" + a.address, "weight", "many", check=2)


@story
def retry_by_status(lab):
    a = lab.upstream(lambda c, r: c.send(answer(503, "busy", reason="Busy")))
    b = lab.upstream()
    w = lab.weir(a, b, workers=1, route={"retry": {"when": ["connect", 503]}})
    for i in range(4):
        eq(w.ask("PUT /", body=b"x%d" % i).json()["body"], "x%d" % i, "PUT is sent again, with its body")
    ok(w.metric("weir_retries_total", why="status") >= 1, "counted")
    eq(sorted(w.ask("POST /", body=b"x").status for _ in range(2)), [200, 503], "POST is not")
    w = lab.weir(a, lab.upstream(lambda c, r: c.send(answer(503, "busy too", reason="Busy"))), route={"retry": {"when": [503]}})
    has(w.ask("GET /").body.decode(), "busy", "the last answer is the client's when all say so")


@story
def retry_not_with_a_cut_body(lab):
    # More body than the replay buffer holds: no second attempt with half of it.
    def reply(c, r):
        c.reset()
        return True
    a, b = lab.upstream(reply), lab.upstream()
    conf = {"retry": {"when": ["connect", "reset"]}, "limits": {"replay": "1KiB"}}
    w = lab.weir(a, b, workers=1, route=conf)
    seen = sorted(w.ask("PUT /", body=b"y" * 5000).status for _ in range(4))
    ok(502 in seen, "no second attempt", seen)
    for r in b.requests:
        eq(len(r.body), 5000, "bodies are whole")
    seen = [w.ask("PUT /", body=b"y" * 500) for _ in range(4)]
    eq([(r.status, len(r.json()["body"])) for r in seen], [(200, 500)] * 4, "a small body is sent again, whole")
    for top, route in (("off", None), (None, "off"), ("off", "1KiB")):  # nothing is kept
        limits = {"limits": {"replay": route}} if route else {}
        w = lab.weir(a, b, workers=1, route={"retry": conf["retry"], **limits}, **({"limits": {"replay": top}} if top else {}))
        seen = sorted(w.ask("PUT /", body=b"y" * 500).status for _ in range(4))
        ok(502 in seen, "no second attempt with replay %s, %s" % (top, route), seen)


@story
def retry_while_the_body_still_comes(lab):
    # The first server breaks off in the middle of an upload: what came is replayed, the rest follows.
    def script(c):
        c.head()
        c.take(100)
        c.reset()
    a, b = lab.upstream(script=script), lab.upstream()
    w = lab.weir(workers=1, servers=[a.address, {"address": b.address, "backup": "on"}], route={"retry": {"when": ["reset"]}})
    with w.client() as c:
        c.send(text_of("PUT /", [("Transfer-Encoding", "chunked")]) + chunk(b"1" * 300))
        wait(lambda: b.conns or a.open == 0 and a.conns, "the first breaks off")
        time.sleep(0.1)
        c.send(chunk(b"2" * 300) + b"0\r\n\r\n")
        r = c.response()
    if r.status == 200:
        eq(r.json()["body"], "1" * 300 + "2" * 300, "the body is whole")
    else:
        eq(r.status, 502, "status")


@story
def retry_budget(lab):
    # A share of requests, and 10 a second: a broken server does not double the load.
    def reply(c, r):
        c.reset()
        return True
    a = lab.upstream(reply)
    w = lab.weir(a, workers=1, route={"retry": {"attempts": 2, "when": ["reset"], "budget": "0%"}})
    started = time.monotonic()
    for _ in range(60):
        w.ask("GET /")
    allowed = 10 + 10 * (time.monotonic() - started) + 1
    retries = w.metric("weir_retries_total")
    ok(5 <= retries <= allowed, "retries (at most %d)" % allowed, retries)
    eq(len(a.requests), 60 + retries, "requests at the upstream")


@story
def queue(lab):
    # connections_max: the others wait for their turn, then 503.
    running, most = [0], [0]
    lock = threading.Lock()

    def reply(c, r):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.1 if r.target == "/" else 1.5 * SLOW)
        with lock:
            running[0] -= 1
        c.send(answer(200, "x"))
    up = lab.upstream(reply)
    w = lab.weir(up, upstream={"connections_max": 2}, timeouts={"queue": "%dms" % (500 * SLOW)})
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(w.ask("GET /").status)) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    eq((seen, most[0]), ([200] * 6, 2), "six requests, two at a time")
    seen.clear()
    threads = [threading.Thread(target=lambda: seen.append(w.ask("GET /long").status)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    eq(sorted(seen), [200, 200, 503, 503], "those that wait too long")
    late = [line for line in w.access(10) if line.get("error")]
    eq([(line["error"]["code"], line["attempts"]) for line in late], [("EQUEUE", 1)] * 2, "the log: each has waited once")


@story
def a_queued_client_goes_away(lab):
    # Its place in the line is given up, and the next one is served.
    def reply(c, r):
        time.sleep(0.4)
        c.send(answer(200, r.target))
    up = lab.upstream(reply)
    w = lab.weir(up, upstream={"connections_max": 1}, timeouts={"queue": "20s"})
    with w.client() as a, w.client() as c:
        a.send(text_of("GET /a"))
        wait(lambda: len(up.requests) == 1, "the first is at the upstream")
        gone = [w.client() for _ in range(5)]
        for g in gone:
            g.send(text_of("GET /gone"))
        time.sleep(0.1)
        c.send(text_of("GET /c"))
        for g in gone:
            g.reset()
        eq((a.response().body, c.response().body), (b"/a", b"/c"), "answers")
    eq([r.target for r in up.requests], ["/a", "/c"], "requests at the upstream")


@story
def ntlm_is_not_shared(lab):
    # A connection that was authenticated belongs to its client.
    def reply(c, r):
        c.send(answer(401, "", [("WWW-Authenticate", "NTLM abc")], "No") if r.target == "/ntlm" else answer(200, "%d" % c.index))
    up = lab.upstream(reply)
    w = lab.weir(up, workers=1)
    eq(w.ask("GET /").body, b"1", "the first connection")
    eq(w.ask("GET /ntlm").status, 401, "it is authenticated")
    eq(w.ask("GET /").body, b"2", "others get another")
    eq(w.ask("GET /", [("Authorization", "Negotiate abc")]).body, b"2", "a client that authenticates")
    eq(w.ask("GET /").body, b"3", "and again others get another")


@story
def keep_alive_upstream_that_says_close(lab):
    # It says close but does not: no request goes there any more.
    up = lab.upstream(lambda c, r: c.send(answer(200, "%d" % c.index, [("Connection", "close")])))
    w = lab.weir(up, workers=1)
    eq([w.ask("GET /").body for _ in range(3)], [b"1", b"2", b"3"], "a connection each")
    wait(lambda: up.open == 0, "all are closed")


@story
def many_workers_many_servers(lab):
    ups = [lab.upstream() for _ in range(4)]
    w = lab.weir(*ups, workers=4)
    faults = []

    def client():
        try:
            with w.client() as c:
                for i in range(40):
                    c.send(text_of("GET /%d" % i))
                    eq(c.response().status, 200, "status")
        except Exception as e:
            faults.append(e)
    threads = [threading.Thread(target=client) for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    eq(faults, [], "faults")
    counts = [len(up.requests) for up in ups]
    eq(sum(counts), 480, "requests")
    ok(min(counts) >= 80, "each server has its share", counts)
    ok(sum(len(up.conns) for up in ups) <= 48, "connections", [len(up.conns) for up in ups])


main()
