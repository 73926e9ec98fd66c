#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Too many connections, too little memory, and who may not connect at all."""
import os
import resource
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import SLOW, Wrong, address, answer, eq, has, main, ok, story, text_of, wait  # noqa: E402


def alive(c):
    """Does this connection serve a request?"""
    return alive_at(c, "/")


def alive_at(c, path):
    try:
        c.send(text_of("GET " + path))
        return c.response().status == 200
    except Exception:
        return False


def shut_out(w, **kw):
    """Is a new connection closed at once?"""
    try:
        with w.client(**kw) as c:
            c.sock.settimeout(0.3 * SLOW)
            return not c.more()
    except Wrong:  # nothing was said
        return False
    except OSError:
        return True


@story
def connections_oldest_idle_goes(lab):
    # The table is full: the oldest idle one makes room for a newcomer.
    w = lab.weir(lab.upstream(), workers=1, limits={"connections": 4})
    conns = []
    for _ in range(4):
        conns.append(w.client())
        ok(alive(conns[-1]), "served")
    ok(alive(w.client()), "a fifth is served")
    ok(conns[0].ended(), "the oldest has gone")
    ok(alive(conns[3]) and alive(conns[2]), "the others are served")
    ok(w.status()["connections"] <= 4, "connections", w.status()["connections"])


@story
def connections_all_busy(lab):
    # None is idle: the newcomer is refused, and counted.
    up = lab.upstream(lambda c, r: (time.sleep(1), c.send(answer(200, "x")))[0])
    w = lab.weir(up, workers=1, limits={"connections": 3})
    busy = [w.client() for _ in range(3)]
    for c in busy:
        c.send(text_of("GET /"))
    wait(lambda: len(up.requests) == 3, "all are busy")
    ok(shut_out(w), "a fourth is refused")
    eq(w.metric("weir_connections_refused_total", reason="limit"), 1, "counted")
    has(w.log(), "limits.connections is reached", "the log")
    eq([c.response().status for c in busy], [200] * 3, "the others end well")
    ok(alive(busy[0]), "and go on")


@story
def connections_of_one_listener(lab):
    # Its limits count its own connections, not those of its neighbours; and the top's hold for all together.
    up = lab.upstream()
    own = {"bind": address(), "to": "app", "limits": {"connections": 2, "connections_per_client": 1}}
    w = lab.weir(up, workers=2, listeners={"web": {"bind": address(), "to": "app"}, "own": own})
    others = [w.client("web", source="127.0.0.9") for _ in range(5)]
    ok(all(alive(c) for c in others), "another listener has many")
    mine = w.client("own", source="127.0.0.9")
    ok(alive(mine), "the first of this one is served")
    ok(shut_out(w, listener="own", source="127.0.0.9"), "a second of its client is not")
    ok(alive(w.client("own", source="127.0.0.10")), "of another client it is")
    ok(all(alive(c) for c in others), "nobody else had to go")


@story
def connections_idle_elsewhere(lab):
    # The idle ones are of another listener and other workers: they make room nevertheless.
    w = lab.weir(lab.upstream(), workers=2, limits={"connections": 12},
                 listeners={"a": {"bind": address(), "to": "app"}, "b": {"bind": address(), "to": "app"}})
    idle = [w.client("a") for _ in range(12)]
    ok(all(alive(c) for c in idle), "idle ones")
    fresh = [w.client("b") for _ in range(10)]
    eq([alive(c) for c in fresh], [True] * 10, "newcomers at the other listener are served")
    wait(lambda: w.status()["connections"] <= 12, "the limit holds")
    eq(w.metric("weir_connections_refused_total", reason="limit"), 0, "nobody was refused")


@story
def connections_per_client(lab):
    w = lab.weir(lab.upstream(), limits={"connections_per_client": 2})
    mine = [w.client(source="127.0.0.5") for _ in range(2)]
    ok(all(alive(c) for c in mine), "two are served")
    ok(shut_out(w, source="127.0.0.5"), "a third of one client is refused")
    ok(alive(w.client(source="127.0.0.6")), "another client is served")
    eq(w.metric("weir_connections_refused_total", reason="per_client"), 1, "counted")
    mine[0].close()
    wait(lambda: not shut_out(w, source="127.0.0.5"), "one that leaves makes room")
    for _ in range(10):  # refusals and departures must not wear the count out
        shut_out(w, source="127.0.0.5")
    for c in mine:
        c.close()
    wait(lambda: w.status()["connections"] <= 1, "they leave")
    again = [w.client(source="127.0.0.5") for _ in range(2)]
    ok(all(alive(c) for c in again), "two are served again")
    ok(shut_out(w, source="127.0.0.5"), "and not three")


@story
def memory(lab):
    # Heads that do not end fill the memory: 503 for new work, idle connections go, what runs goes on; when they have gone,
    # all is well again.
    if SLOW > 1:
        return  # with a sanitizer the process is above any such limit from the start
    go = threading.Event()

    def reply(c, r):
        if r.target == "/slow":
            go.wait(20)
        c.send(answer(200, "x"))
    w = lab.weir(lab.upstream(reply), limits={"memory": "16MiB"}, timeouts={"head": "60s"})
    slow, idle = w.client(), w.client()
    slow.send(text_of("GET /slow"))
    ok(alive(idle), "before")
    crowd = []
    while len(crowd) < 1500 or w.rss() < 20 << 20:  # enough of them that pieces stay between what is freed
        ok(len(crowd) < 3000, "heads that wait take memory", w.rss())
        for _ in range(100):
            crowd.append(w.client().send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 31000))
    wait(lambda: w.status()["memory_over"], "the limit is passed")
    r = w.ask("GET /")
    eq((r.status, bool(r.get("retry-after"))), (503, True), "new work meanwhile")
    has(w.log(), "limits.memory", "the log")
    ok(idle.ended(), "the idle connection has gone")
    eq(w.admin("/healthz").status, 200, "the admin answers")
    go.set()
    eq(slow.response().body, b"x", "what ran goes on")
    for c in crowd:
        c.reset()
    wait(lambda: not w.status()["memory_over"], "the pressure is gone")
    eq(w.ask("GET /").status, 200, "after")
    ok("EOVERLOAD" in [line["error"]["code"] for line in w.access() if line.get("error")], "the log of requests")


@story
def access_lists(lab):
    deny = lab.write("deny.txt", "# bad people\n127.0.0.20\n127.0.0.32/28  # a street\n\n")
    w = lab.weir(lab.upstream(), access={"deny": ["127.0.0.10/32"], "deny_file": deny, "never_ban": ["127.0.0.33/32"]})
    for source, good in (("127.0.0.1", True), ("127.0.0.10", False), ("127.0.0.11", True), ("127.0.0.20", False), ("127.0.0.40", False),
                         ("127.0.0.33", True), ("127.0.0.48", True)):
        eq(not shut_out(w, source=source) if not good else alive(w.client(source=source)), good, "deny: " + source)
    eq(w.metric("weir_connections_refused_total", reason="denied"), 3, "counted")
    w = lab.weir(lab.upstream(), access={"allow": ["127.0.0.0/28"], "deny": ["127.0.0.7/32"]})
    for source, good in (("127.0.0.1", True), ("127.0.0.7", False), ("127.0.0.15", True), ("127.0.0.16", False)):
        eq(not shut_out(w, source=source) if not good else alive(w.client(source=source)), good, "allow: " + source)


@story
def bans(lab):
    w = lab.weir(lab.upstream(), access={"never_ban": ["127.0.0.80/32"]})
    ok(alive(w.client(source="127.0.0.60")), "before")
    w.cli("ban", "add", "127.0.0.60/32", "--why", "test \"it\"", check=0)
    ok(shut_out(w, source="127.0.0.60"), "banned")
    ok(alive(w.client(source="127.0.0.61")), "its neighbour is not")
    eq(w.metric("weir_connections_refused_total", reason="banned"), 1, "counted")
    rows = w.admin("/v1/bans").json()
    eq([(r["prefix"], r["why"], r["hits"]) for r in rows], [("127.0.0.60/32", "test \"it\"", 1)], "the list")
    has(w.cli("ban", "list", check=0)[1], "127.0.0.60", "ban list")
    w.cli("ban", "del", "127.0.0.60/32", check=0)
    ok(alive(w.client(source="127.0.0.60")), "after it was deleted")
    w.cli("ban", "del", "127.0.0.60/32", check=1)
    w.cli("ban", "add", "127.0.0.80/32", check=1)
    w.cli("ban", "add", "127.0.0.64/27", check=1)  # never_ban is in it
    w.cli("ban", "add", "127.0.0.999", check=2)
    w.cli("ban", "add", "127.0.0.60/32", "--for", "soon", check=2)
    w.cli("ban", "add", check=2)
    eq(w.admin("/v1/bans").json(), [], "nothing is banned")


@story
def a_ban_expires(lab):
    w = lab.weir(lab.upstream())
    w.cli("ban", "add", "127.0.0.60", "--for", "1s", check=0)
    ok(shut_out(w, source="127.0.0.60"), "banned")
    wait(lambda: not shut_out(w, source="127.0.0.60"), "it is over", 4)
    eq(w.admin("/v1/bans").json(), [], "and not listed")


@story
def who_asks_does_not_ban_himself(lab):
    w = lab.weir(lab.upstream())
    os.environ["SSH_CLIENT"] = "127.0.0.70 5000 22"
    try:
        w.cli("ban", "add", "127.0.0.64/26", check=1)
    finally:
        del os.environ["SSH_CLIENT"]
    w.cli("ban", "add", "127.0.0.64/26", check=0)


@story
def no_descriptors(lab):
    # EMFILE: who is served is served on, the log says so, nothing spins, and newcomers are served when there is room again.
    go = threading.Event()

    def reply(c, r):
        if r.target == "/slow":
            go.wait(20)
        c.send(answer(200, "x"))
    w = lab.weir(lab.upstream(reply), workers=1)
    first = w.client().send(text_of("GET /slow"))
    wait(lambda: w.metric("weir_requests_in_flight") == 1, "it is on its way")
    resource.prlimit(w.pid, resource.RLIMIT_NOFILE, (w.fds() + 6, w.fds() + 6))
    conns = [w.client() for _ in range(12)]  # which say nothing: they are not idle
    wait(lambda: "no file descriptor is free" in w.log(), "the log says so")
    for _ in range(3):
        ok(w.metric("weir_connections_refused_total", reason="descriptors") > 0, "the admin answers, just now")
    cpu = cpu_seconds(w)
    time.sleep(1)
    ok(cpu_seconds(w) - cpu < 0.4 * SLOW, "it does not spin", cpu_seconds(w) - cpu)
    ok(w.status()["memory_bytes"] > 1 << 20, "memory is still known", w.status())
    go.set()
    eq(first.response().status, 200, "what ran has ended well")
    for c in conns[1:]:
        c.close()
    wait(lambda: alive(w.client()), "newcomers are served again")


@story
def no_descriptors_but_idle_ones(lab):
    # What holds them all only waits for its next request, on both sides: newcomers are served at once.
    w = lab.weir(lab.upstream(), workers=2)
    resource.prlimit(w.pid, resource.RLIMIT_NOFILE, (w.fds() + 40, w.fds() + 40))
    idle = []
    for _ in range(60):
        idle.append(w.client())
        if not alive(idle[-1]):
            raise Wrong("newcomer %d was not served" % len(idle))


@story
def descriptors_bound_connections(lab):
    # `ulimit -n` allows less than limits.connections: no more are accepted than can be served.
    bound = ["prlimit", "--nofile=128:128"]
    if os.geteuid() == 0:  # which could raise it again
        bound = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", *bound]
    w = lab.weir(lab.upstream(), workers=2, wrap=bound)
    crowd = [w.client() for _ in range(120)]  # they say nothing yet, so none can go for another
    wait(lambda: w.metric("weir_connections_accepted_total") + w.metric("weir_connections_refused_total") >= 120, "all came")
    accepted = w.metric("weir_connections_accepted_total")
    ok(10 < accepted < 60, "as many as descriptors allow", accepted)
    eq(sum(alive(c) for c in crowd), accepted, "each of them is served")
    ok(all(alive(w.client()) for _ in range(60)), "and newcomers, now that those are idle")


def cpu_seconds(w):
    with open("/proc/%d/stat" % w.pid, encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


main()
