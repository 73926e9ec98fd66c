#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which servers there are, and which of them work: health checks, and names followed by their TTL."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import HOST, SLOW, answer, echo, eq, has, main, ok, story, wait  # noqa: E402


def states(w):
    return {s["name"]: s["state"] for u in w.admin("/v1/upstreams").json() for s in u["servers"]}


def by(w, count=4):
    return {r.json()["server"] if r.status == 200 else r.status for r in (w.ask("GET /") for _ in range(count))}


class Sick:
    """A server whose health can be set."""

    def __init__(self, lab):
        self.status, self.asked, self.delay = 200, [], 0
        self.up = lab.upstream(self.reply)

    def reply(self, c, r):
        if r.target != "/healthz":
            return echo(c, r)
        self.asked.append(r)
        time.sleep(self.delay)
        return c.send(answer(self.status, "", reason="X"))


FAST = {"type": "http", "path": "/healthz", "every": "%dms" % (50 * SLOW), "timeout": "%dms" % (200 * SLOW), "rise": 2, "fall": 2}


@story
def http_checks(lab):
    a, b = Sick(lab), Sick(lab)
    w = lab.weir(a.up, b.up, upstream={"health": FAST})
    wait(lambda: len(a.asked) >= 2 and len(b.asked) >= 2, "both are checked")
    eq(by(w), {"up0", "up1"}, "both serve")
    a.status = 500
    wait(lambda: states(w)[a.up.address] == "down", "one goes down")
    eq(by(w), {"up1"}, "the other serves")
    eq(w.metric("weir_upstream_up", server=a.up.address), 0, "the metric")
    has(w.log(), "is down", "the log")
    a.status = 204
    wait(lambda: states(w)[a.up.address] == "up", "and up")
    eq(by(w), {"up0", "up1"}, "both serve")
    b.status = 404
    wait(lambda: states(w)[b.up.address] == "down", "an answer that was not expected")
    b.status, b.delay = 200, 1 * SLOW
    time.sleep(0.5)
    eq(states(w)[b.up.address], "down", "too slow is not healthy")
    b.delay = 0
    wait(lambda: states(w)[b.up.address] == "up", "up when it is fast again")


@story
def all_are_down(lab):
    a = Sick(lab)
    w = lab.weir(a.up, upstream={"health": FAST})
    a.status = 500
    wait(lambda: states(w)[a.up.address] == "down", "down")
    r = w.ask("GET /")
    eq((r.status, bool(r.get("retry-after"))), (503, True), "nobody is left")
    eq(w.access(1)[0]["error"]["code"], "ENOPEER", "the log")
    b = Sick(lab)
    w = lab.weir(b.up, upstream={"health": {**FAST, "panic": "50%"}})
    b.status = 500
    wait(lambda: states(w)[b.up.address] == "down", "down")
    eq(w.ask("GET /").status, 200, "with `panic` all are used")


@story
def tcp_checks_and_backup(lab):
    a, b = lab.upstream(), lab.upstream()
    w = lab.weir(servers=[a.address, {"address": b.address, "backup": "on"}],
                 upstream={"health": {"type": "tcp", "every": "%dms" % (50 * SLOW), "fall": 2, "rise": 1}})
    eq(by(w), {"up0"}, "the backup waits")
    a.stop()
    wait(lambda: states(w)[a.address] == "down", "down")
    eq(by(w), {"up1"}, "the backup serves")
    a.listen()
    wait(lambda: states(w)[a.address] == "up", "up")
    eq(by(w), {"up0"}, "the backup waits again")


@story
def checks_that_hang(lab):
    # A server that accepts and says nothing, and one that answers without end.
    silent = lab.upstream(script=lambda c: c.rest())

    def endless(c):
        try:
            while True:
                c.send(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 5000)
        except OSError:
            pass
    loud = lab.upstream(script=endless)
    w = lab.weir(silent, loud, upstream={"health": {**FAST, "timeout": "100ms"}})
    wait(lambda: set(states(w).values()) == {"down"}, "both are down")
    fds = w.fds()
    time.sleep(0.5)
    ok(w.fds() <= fds + 4, "descriptors of checks do not add up", (fds, w.fds()))


@story
def a_name_is_followed(lab):
    # app.test is 127.x first; the record changes, and requests follow within its TTL.
    dns = lab.names(app_test=(1, [HOST]))
    a = lab.upstream()
    w = lab.weir(servers=[{"address": "app.test:%d" % a.port, "resolve": "on"}], dns={"servers": [dns.address], "allow_local": "on", "ttl_min": "1s"})
    wait(lambda: w.ask("GET /").status == 200, "the name is known")
    eq(w.ask("GET /").json()["fields"][0], ["host", "weir.test"], "Host")
    dns.names["app.test"] = (1, ["127.0.0.254"])  # nobody listens there
    wait(lambda: w.ask("GET /").status == 502, "the new address is used", 5 * SLOW)
    dns.names["app.test"] = (1, ["127.0.0.254", HOST])
    wait(lambda: all(w.ask("GET /").status == 200 for _ in range(4)), "two addresses: a retry finds the good one", 5 * SLOW)
    asked = [t for t, n, k in dns.asked if k == 1]
    ok(len(asked) <= (asked[-1] - asked[0]) * 2 + 3, "it is asked once a TTL", len(asked))


@story
def stale_answers(lab):
    # The name server falls silent, or says that there is no such name: the old answer is kept.
    dns = lab.names(app_test=(1, [HOST]))
    a = lab.upstream()
    w = lab.weir(servers=[{"address": "app.test:%d" % a.port, "resolve": "on"}], dns={"servers": [dns.address], "allow_local": "on"})
    wait(lambda: w.ask("GET /").status == 200, "the name is known")
    dns.silent = True
    time.sleep(2.5)
    eq(w.ask("GET /").status, 200, "the old answer is kept")


@story
def start_without_dns(lab):
    # No answer at the start: the server is down, the daemon is not.
    dns = lab.names()
    dns.silent = True
    a, b = lab.upstream(), lab.upstream()
    w = lab.weir(servers=[{"address": "late.test:%d" % a.port, "resolve": "on"}], dns={"servers": [dns.address], "allow_local": "on"},
                 upstreams={"other": {"servers": [b.address]}},
                 routes=[{"name": "o", "match": {"path": "/other"}, "to": "other"}, {"name": "a", "to": "app"}])
    ok(w.ask("GET /").status in (502, 503), "nobody knows the name")
    eq(w.ask("GET /other").status, 200, "others are served")
    dns.names["late.test"] = (1, [HOST])
    dns.silent = False
    wait(lambda: w.ask("GET /").status == 200, "served when the name is known", 30)


@story
def a_name_resolved_once(lab):
    dns = lab.names(app_test=(1, [HOST]))
    a = lab.upstream()
    w = lab.weir(servers=["app.test:%d" % a.port], dns={"servers": [dns.address], "allow_local": "on"})
    wait(lambda: w.ask("GET /").status == 200, "the name is known")
    asked = len(dns.asked)
    dns.names["app.test"] = (1, ["127.0.0.254"])
    time.sleep(2.2)
    eq((w.ask("GET /").status, len(dns.asked)), (200, asked), "without `resolve` it is not asked for again")


@story
def local_answers_are_refused(lab):
    # A name that suddenly is a loopback or metadata address is an attack, unless it was allowed.
    dns = lab.names(app_test=(1, [HOST, "169.254.169.254"]))
    a = lab.upstream()
    w = lab.weir(servers=[{"address": "app.test:%d" % a.port, "resolve": "on"}], dns={"servers": [dns.address]})
    wait(lambda: dns.asked, "the name is asked for")
    time.sleep(0.2)
    ok(w.ask("GET /").status in (502, 503), "refused")
    eq(a.requests, [], "requests")


def srv_lab(lab, *records):
    """A name server that knows _http._tcp.app.test, and a weir that follows it."""
    dns = lab.names(a_test=(60, [HOST]), b_test=(60, [HOST]))
    dns.srv["_http._tcp.app.test"] = (1, list(records))
    w = lab.weir(servers=[{"address": "srv:_http._tcp.app.test", "resolve": "on"}], dns={"servers": [dns.address], "allow_local": "on", "ttl_min": "1s"},
                 route={"retry": {"attempts": 1}})
    return dns, w


def once(c, r):
    """Answers with its name on a connection that ends: the next request chooses an address anew."""
    c.send(answer(200, c.server.name, [("Connection", "close")]))
    return True


def seen_by(w, count=12):
    return {w.ask("GET /").body.decode() for _ in range(count)}


@story
def a_service_is_followed(lab):
    # srv: gives the ports too; what has the best priority is used, all of it; a change within its TTL.
    a, b, c = lab.upstream(once), lab.upstream(once), lab.upstream(once)
    dns, w = srv_lab(lab, (1, 5, a.port, "a.test"), (1, 5, b.port, "b.test"), (9, 5, c.port, "a.test"))
    wait(lambda: w.ask("GET /").status == 200, "the service is known")
    eq(seen_by(w), {a.name, b.name}, "both of the best priority, at their ports")
    dns.srv["_http._tcp.app.test"] = (1, [(9, 5, c.port, "a.test")])
    wait(lambda: seen_by(w, 4) == {c.name}, "the change is followed", 6 * SLOW)
    ok(33 in {k for _, n, k in dns.asked if n == "_http._tcp.app.test"}, "it was asked for SRV")


@story
def a_service_that_has_gone(lab):
    # "." is "not here" (RFC 2782); what was known stays for a while, and comes back when it does.
    a = lab.upstream()
    dns, w = srv_lab(lab, (0, 0, 0, ""))
    wait(lambda: any(k == 33 for _, _, k in dns.asked), "it is asked for")
    ok(w.ask("GET /").status in (502, 503), "nobody offers it")
    dns.srv["_http._tcp.app.test"] = (1, [(1, 0, a.port, "gone.test"), (1, 0, a.port, "a.test")])
    wait(lambda: w.ask("GET /").status == 200, "a target without an address is passed over", 30)
    del dns.srv["_http._tcp.app.test"]
    time.sleep(2.2)
    eq(w.ask("GET /").status, 200, "the old answer is kept when there is none")


main()
