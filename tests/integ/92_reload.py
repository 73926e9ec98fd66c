#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reload: another configuration while everything goes on. What changes, what stays, what is refused."""
import copy
import json
import os
import re
import resource
import signal
import socket
import ssl
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from certs import Authority  # noqa: E402
from h2lab import h2_client  # noqa: E402
from weirlab import HOST, SLOW, Conn, Cut, address, answer, dial, eq, folders, has, main, ok, story, text_of, wait  # noqa: E402

ASK = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]
YES = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"


def replying(text, name="all"):
    return [{"name": name, "reply": {"status": 200, "body": text}}]


def says(conn, path="/"):
    conn.send(text_of("GET " + path))
    return conn.response().body


def named(text):
    """An upstream that says its name, and waits when asked to."""
    def reply(conn, request):
        m = re.match("/wait/([0-9.]+)", request.target)
        time.sleep(float(m[1]) if m else 0)
        conn.send(answer(200, text))
    return reply


def alone(w):
    """Nothing of the snapshots before is left."""
    wait(lambda: w.status()["snapshots"] == 1, "old snapshots are freed")


def refuses(to):
    try:
        dial(to).close()
    except ConnectionRefusedError:
        return True
    return False


# --- what is read, and what is refused -------------------------------------------------------------------------------

@story
def a_reply(lab):
    # The next request of a connection that is kept finds the new one; nothing else changes hands.
    w = lab.weir(routes=replying("one"))
    c = w.client()
    eq(says(c), b"one", "before")
    w.config["listeners"]["web"]["routes"] = replying("two")
    told = w.reload()
    eq((told["reloaded"], told["listeners"]["changed"], told["listeners"]["added"], told["listeners"]["removed"]), (True, ["web"], [], []), "what it tells")
    eq(says(c), b"two", "after, on the same connection")
    eq(w.ask("GET /").body, b"two", "on another one")
    eq(w.metric("weir_config_reloads_total", result="done"), 1, "counted")
    alone(w)
    told = w.reload()
    eq((told["listeners"]["changed"], told["sections"]), ([], []), "the same file again")
    has(w.admin("/v1/config").json()["effective"], "two", "what is in force is told")


@story
def what_is_wrong_is_refused(lab):
    # Whole: all errors with their places, to who asks, to the log; and nothing has changed.
    w = lab.weir(routes=replying("one"))
    good = copy.deepcopy(w.config)
    w.config["listeners"]["web"]["helth"] = 1
    w.config["listeners"]["web"]["routes"] = replying("two") + [{"name": "x", "to": "nobody"}]
    w.config["listeners"]["more"] = {"bind": address(), "routes": replying("more"), "tls": {"cert": lab.write("bad.pem", "nothing")}}
    told = w.reload(status=422)
    lines = open(w.file, encoding="utf-8").read().split("\n")
    places = sorted(lines[e["line"] - 1].strip().split('"')[1] for e in told["errors"])
    eq(places, ["cert", "helth", "to"], "the places of all errors: %r" % told["errors"])
    ok(all(e["column"] > 1 for e in told["errors"]), "with columns", told["errors"])
    has(w.log(), "unknown key 'helth'", "the log")
    has(w.log(), "the configuration that runs goes on", "the log")
    status, out, err = w.cli("reload")
    eq((status, out), (2, ""), "weir reload")
    has(err, "unknown key 'helth'", "weir reload")
    has(err, "3 errors", "weir reload")
    has(err, "not reloaded", "weir reload")
    status, out, _ = w.cli("reload", "-j")
    eq((status, len(json.loads(out)["errors"])), (2, 3), "weir reload -j")
    eq(w.ask("GET /").body, b"one", "the old one goes on")
    ok(refuses(w.config["listeners"]["more"]["bind"]), "nothing new listens")
    eq(w.metric("weir_config_reloads_total", result="refused"), 3, "counted")
    w.configure(good)
    status, out, err = w.cli("reload", check=0)
    has(out, "reloaded in", "weir reload: %s" % err)
    with open(w.file, "w", encoding="utf-8") as f:
        f.write("listeners: [")
    eq(w.admin("/v1/reload", "POST").status, 422, "no YAML")
    os.unlink(w.file)
    eq(w.admin("/v1/reload", "POST").status, 422, "no file")
    eq(w.ask("GET /").body, b"one", "the old one goes on")
    w.configure(good)
    w.reload()
    alone(w)


@story
def what_needs_a_restart(lab):
    # Is refused by its name, at its place, and so is all else of that file.
    w = lab.weir(routes=replying("one"))
    good = copy.deepcopy(w.config)
    changes = {"workers": 3, "instance": good["instance"] + "-b", "io": "epoll", "user": "nobody", "dns": {"ttl_min": "2s"},
               "admin": {"socket": lab.path("other.sock")}, "log": {"format": "json"}}
    names = {"dns": "dns.ttl_min", "admin": "admin.socket", "log": "log.format"}
    for key, value in changes.items():
        config = copy.deepcopy(good)
        config[key] = value
        config["listeners"]["web"]["routes"] = replying("two")
        told = w.reload(config, status=422)
        if key == "instance":  # the keeper's reader has said it before
            has(json.dumps(told), "stays while it runs", key)
            ok(not any(map(os.path.exists, folders(value))), "no folder is made for it")
        else:
            has(json.dumps(told["errors"]), "'%s' is another one in what runs" % names.get(key, key), key)
        ok(all(e["line"] for e in told["errors"] if "another one" in e["message"]), "with its place", told["errors"])
        eq(w.ask("GET /").body, b"one", "nothing has changed")
    del good["workers"]
    told = w.reload(good, status=422)
    has(json.dumps(told["errors"]), "'workers' is another one", "a key that is gone")


@story
def no_descriptor_is_free(lab):
    # For what the keeper has read: it is refused, and both go on.
    w = lab.weir(routes=replying("one"))
    w.config["listeners"]["web"]["routes"] = replying("two")
    before = resource.prlimit(w.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(w.pid, resource.RLIMIT_NOFILE, (w.fds() + 3, before[1]))
    for _ in range(3):
        has(w.reload(status=422)["error"], "no file descriptor free", "why")
    w.kick(signal.SIGUSR1)
    eq((w.ask("GET /").body, w.metric("weir_keeper_up")), (b"one", 1), "nothing has changed")
    resource.prlimit(w.pid, resource.RLIMIT_NOFILE, before)
    w.reload()
    eq(w.ask("GET /").body, b"two", "with more of them")


@story
def more_sockets_than_the_soft_limit(lab):
    # `ulimit -Sn` is no bound: neither for who binds them, nor for who keeps them.
    binds = [address() for _ in range(40)]
    w = lab.weir(routes=replying("one"), listener={"bind": binds}, wrap=["prlimit", "--nofile=64:4096"])
    w.reload()
    w.cli("upgrade", check=0)
    eq([dial(at).send(text_of("GET /")).response().body for at in binds], [b"one"] * 40, "all of them serve")


@story
def all_connections_that_fit(lab):
    # What a reload comes with, its sockets above all, has room beside them.
    wrap = ["prlimit", "--nofile=256:256"]
    if os.geteuid() == 0:  # which could raise it again
        wrap = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", *wrap]
    up = lab.upstream(lambda c, r: c.server.go.wait(20) and c.send(answer(200, "x")))
    up.go = threading.Event()
    w = lab.weir(up, listener={"bind": [address() for _ in range(20)]}, wrap=wrap)
    crowd = [w.client().send(text_of("GET /")) for _ in range(120)]
    wait(lambda: w.metric("weir_connections_refused_total", reason="descriptors") > 10, "more came than fit")
    wait(lambda: len(up.requests) == w.status()["in_flight"] > 10, "all that fit have their request at the server")
    w.config["timeouts"] = {"idle": "50s"}
    w.reload()
    up.go.set()
    w.settle()
    ok(len(crowd) > len(up.requests), "some were refused")


@story
def a_port_that_is_taken(lab):
    # What cannot be bound is refused whole: what could be is let go again.
    taken = socket.socket()
    taken.bind((HOST, 0))
    taken.listen(1)
    w = lab.weir(routes=replying("one"))
    good = copy.deepcopy(w.config)
    free = address()
    w.config["listeners"]["a"] = {"bind": free, "routes": replying("a")}
    w.config["listeners"]["b"] = {"bind": "%s:%d" % taken.getsockname(), "routes": replying("b")}
    told = w.reload(status=422)
    has(told["error"], "listener 'b': %s:%d: Address already in use" % taken.getsockname(), "why")
    ok(refuses(free), "nothing new listens")
    eq(w.ask("GET /").body, b"one", "the old one goes on")
    w.reload(good)
    taken.close()
    alone(w)


@story
def by_signals(lab):
    # SIGHUP, also several at a time and before the first was served: the last file counts.
    w = lab.weir(routes=replying("0"))
    for i in range(1, 6):
        w.config["listeners"]["web"]["routes"] = replying(str(i))
        w.configure()
        w.kick(signal.SIGHUP)
        w.kick(signal.SIGHUP)
    wait(lambda: w.ask("GET /").body == b"5", "the last one is in force")
    has(w.log(), "SIGHUP: reading the configuration anew", "the log")
    wait(lambda: w.metric("weir_config_reloads_total", result="done") >= 1, "counted")
    alone(w)


@story
def by_many_at_once(lab):
    # Who asks while one is coming into force gets the next one.
    w = lab.weir(routes=replying("one"))
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(w.admin("/v1/reload", "POST").status)) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    eq(answers, [200] * 8, "all are answered")
    with dial(w.socket) as c:  # and one that does not wait
        c.send(text_of("POST /v1/reload"))
    eq(w.ask("GET /").body, b"one", "it lives")
    alone(w)


@story
def not_while_it_ends(lab):
    up = lab.upstream(named("x"))
    w = lab.weir(up, shutdown={"announce": "1s"})
    w.kick(signal.SIGTERM)
    wait(lambda: w.admin("/readyz").status == 503, "it announces")
    eq(w.admin("/v1/reload", "POST").status, 409, "no reload")
    w.kick(signal.SIGHUP)
    eq(w.join(), 0, "exit status")
    has(w.log(), "no reload, the daemon is at its end", "the log")


@story
def stopped_in_the_middle(lab):
    # Whatever has not ended of the snapshots before when it stops, ends with it.
    for i in range(8):
        up = lab.upstream(named("up"))
        w = lab.weir(up, listeners={"more": {"bind": address(), "to": "app"}}, shutdown={"drain": "100ms"})
        c, t = w.client(), w.client("more")
        eq((says(c), says(t)), (b"up", b"up"), "it serves")
        c.send(text_of("GET /wait/2"))
        wait(lambda: len(up.requests) == 3, "in flight")
        del w.config["listeners"]["more"]
        for k in range(3):
            w.config["upstreams"]["app"]["pool"] = {"idle_max": k + 1}
            w.reload()
        time.sleep(i * 0.02)
        if i % 2:
            w.kick(signal.SIGHUP)
        w.stop(signal.SIGINT if i < 4 else signal.SIGTERM)


@story
def without_a_file(lab):
    w = lab.weir(routes=replying("x"))
    where, sock = address(), lab.path("proxy.sock")
    eq(lab.cli("proxy", "--listen", where, "--to", w.address, "--socket", sock)[0], 2, "--socket needs -i")


# --- listeners -------------------------------------------------------------------------------------------------------

def inodes(where):
    """The sockets that listen there."""
    host, port = where.rsplit(":", 1)
    wanted = "%08X:%04X" % (int.from_bytes(socket.inet_aton(host), "little"), int(port))
    with open("/proc/net/tcp", encoding="ascii") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return sorted(r[9] for r in rows if r[1] == wanted and r[3] == "0A")


@story
def sockets_stay(lab):
    # Those of an address that is listened on before and after are the same, whatever else of the listener changes, and also
    # when it is another listener's.
    w = lab.weir(routes=replying("one"))
    before = inodes(w.address)
    eq(len(before), 2, "a socket a worker")
    w.config["listeners"]["web"].update(routes=replying("two"), limits={"connections": 7}, timeouts={"head": "3s"}, backlog=17)
    w.reload()
    eq(inodes(w.address), before, "the same sockets")
    w.config["listeners"] = {"other": {"bind": [address(), w.address], "routes": replying("three")}}
    w.reload()
    eq(inodes(w.address), before, "of another listener")
    eq(w.ask("GET /").body, b"three", "and it answers")
    alone(w)


@story
def listeners_come_and_go(lab):
    up = lab.upstream(named("up"))
    w = lab.weir(up, listeners={"gone": {"bind": address(), "to": "app"}})
    gone = w.config["listeners"]["gone"]["bind"]
    idle, busy, silent, stays = dial(gone), dial(gone), dial(gone), w.client()
    eq(says(idle), b"up", "before")
    eq(says(stays), b"up", "before")
    busy.send(text_of("GET /wait/0.7"))
    wait(lambda: len(up.requests) == 3, "a request is in flight")
    wait(lambda: w.status()["connections"] == 4, "all are there")
    new = address()
    del w.config["listeners"]["gone"]
    w.config["listeners"]["new"] = {"bind": [new, "unix:" + lab.path("new.sock")], "routes": replying("new")}
    told = w.reload()
    eq((told["listeners"]["added"], told["listeners"]["removed"], told["listeners"]["changed"]), (["new"], ["gone"], []), "what it tells")
    eq(dial(new).send(text_of("GET /")).response().body, b"new", "the new one")
    eq(dial(lab.path("new.sock")).send(text_of("GET /")).response().body, b"new", "by a UNIX socket")
    ok(refuses(gone), "the old one listens no more")
    ok(idle.ended(), "its idle connections end")
    r = busy.response()
    eq((r.status, r.body, r.get("connection")), (200, b"up", "close"), "what was in flight ends, and its connection")
    ok(busy.ended(), "the end")
    ok(silent.ended(), "who says nothing is not waited for")
    eq(says(stays), b"up", "others stay")
    alone(w)
    del w.config["listeners"]["new"]
    w.config["listeners"]["again"] = {"bind": ["unix:" + lab.path("new.sock")], "routes": replying("again")}
    w.reload()
    eq(dial(lab.path("new.sock")).send(text_of("GET /")).response().body, b"again", "the same path")
    del w.config["listeners"]["again"]
    w.reload()
    ok(not os.path.exists(lab.path("new.sock")), "the path is gone")
    alone(w)


@story
def another_port(lab):
    w = lab.weir(routes=replying("x"))
    old, w.config["listeners"]["web"]["bind"] = w.address, address()
    w.reload()
    ok(refuses(old), "the old port")
    eq(dial(w.config["listeners"]["web"]["bind"]).send(text_of("GET /")).response().body, b"x", "the new one")
    w.address = w.config["listeners"]["web"]["bind"]
    alone(w)


@story
def what_waits_in_a_queue_is_served(lab):
    # Connections that the kernel has accepted for a listener that goes: they are served. One may come between the last look
    # into the queue and its end.
    w = lab.weir(routes=replying("x"), listeners={"gone": {"bind": address(), "routes": replying("y")}})
    gone = w.config["listeners"]["gone"]["bind"]
    del w.config["listeners"]["gone"]
    w.configure()
    stop, results = threading.Event(), {"served": 0, "refused": 0, "reset": 0}

    def load():
        while not stop.is_set():
            try:
                with dial(gone) as c:
                    eq(says(c), b"y", "the answer")
                    results["served"] += 1
            except ConnectionRefusedError:
                results["refused"] += 1
                return
            except (ConnectionResetError, Cut):
                results["reset"] += 1
    threads = [threading.Thread(target=load) for _ in range(8)]
    for t in threads:
        t.start()
    wait(lambda: results["served"] > 50, "load")
    eq(w.admin("/v1/reload", "POST").status, 200, "reload")
    for t in threads:
        t.join(20 * SLOW)
    stop.set()
    eq(results["refused"], 8, "each ends by a refusal: %r" % results)
    ok(results["reset"] <= 1, "and not by a reset", results)
    alone(w)


@story
def protocol_of_a_listener(lab):
    # From HTTP to bytes: connections that were made for the one do not go on as the other.
    up = lab.upstream(named("up"))
    w = lab.weir(up)
    c = w.client()
    eq(says(c), b"up", "before")
    w.config["listeners"]["web"]["protocol"] = "tcp"
    w.reload()
    ok(c.ended(), "the old connection ends")
    with w.client() as t:
        eq(says(t), b"up", "through a tunnel")
    w.config["listeners"]["web"]["protocol"] = "http"
    w.reload()
    eq(w.ask("GET /").body, b"up", "and back")
    alone(w)


# --- requests in flight ----------------------------------------------------------------------------------------------

def stamped(text):
    return [{"name": "all", "to": "app", "filters": [{"headers": {"response": {"set": {"x-of": text}}}}]}]


@story
def in_flight_ends_as_it_began(lab):
    # Its route, its filters and its upstream are those that it began with.
    old, new = lab.upstream(named("old")), lab.upstream(named("new"))
    w = lab.weir(old, routes=stamped("one"))
    c = w.client()
    c.send(text_of("GET /wait/0.8"))
    wait(lambda: old.requests, "it is in flight")
    w.config["listeners"]["web"]["routes"] = stamped("two")
    w.config["upstreams"]["app"]["servers"] = [new.address]
    w.reload()
    eq(w.status()["snapshots"], 2, "both are there")
    other = w.ask("GET /")
    eq((other.body, other.get("x-of")), (b"new", "two"), "a new request")
    r = c.response()
    eq((r.body, r.get("x-of"), r.get("connection")), (b"old", "one", None), "the one in flight")
    c.send(text_of("GET /"))
    r = c.response()
    eq((r.body, r.get("x-of")), (b"new", "two"), "the next one of its connection")
    alone(w)
    eq([u["servers"] for u in w.status()["upstreams"]], [1], "one server")


@story
def a_tunnel_without_a_request(lab):
    # A TCP tunnel that has lasted a moment keeps the snapshot that it began with, also when its listener and upstream are gone.
    echo = socket.create_server((HOST, 0), backlog=64)

    def serve():
        while True:
            conn, _ = echo.accept()
            threading.Thread(target=copy_back, args=(conn,), daemon=True).start()

    def copy_back(conn):
        with conn:
            while data := conn.recv(65536):
                conn.sendall(data)
    threading.Thread(target=serve, daemon=True).start()
    upstream = {"servers": ["%s:%d" % echo.getsockname()]}
    where = address()
    w = lab.weir(routes=replying("x"), upstreams={"raw": upstream}, listeners={"raw": {"bind": where, "protocol": "tcp", "routes": [{"name": "r", "to": "raw"}]}})
    conns = [dial(where) for _ in range(20)]

    def all_ask(text):
        for conn in conns:
            conn.send(text)
        for conn in conns:
            eq(conn.take(len(text)), text, "echo")
    all_ask(b"a")
    time.sleep(1)  # their requests go after 250 ms
    for i in range(3):
        w.config["listeners"]["raw"]["routes"][0]["name"] = "r%d" % i
        w.reload()
        all_ask(b"b%d" % i)
    eq(w.status()["snapshots"], 2, "the first one is held")
    del w.config["listeners"]["raw"], w.config["upstreams"]["raw"]
    w.reload()
    all_ask(b"c")
    for conn in conns:
        conn.close()
    alone(w)


@story
def a_retry_stays_where_it_began(lab):
    # The server of a request in flight dies after the upstream was changed: the next of the old ones is tried.
    def dies(conn, request):
        time.sleep(0.6)
        return True
    first, second, new = lab.upstream(dies), lab.upstream(named("second")), lab.upstream(named("new"))
    w = lab.weir(first, second, route={"retry": {"when": ["reset"]}}, workers=1)
    c = w.client()
    c.send(text_of("GET /"))
    if not first.requests:
        wait(lambda: first.requests or second.requests, "it is somewhere")
        if second.requests:
            c.response()
            c.send(text_of("GET /"))
            wait(lambda: first.requests, "now it is")
    w.config["upstreams"]["app"]["servers"] = [new.address]
    w.reload()
    eq(c.response().body, b"second", "of the old ones")
    eq(says(c), b"new", "the next one")
    alone(w)


@story
def bodies_go_on(lab):
    # An upload and a download across ten reloads that change everything around them.
    def reply(c, r):
        if r.method == "POST":
            c.send(answer(200, str(len(r.body))))
            return
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n")
        for _ in range(20):
            c.send(b"x" * 10000)
            time.sleep(0.03)
    up = lab.upstream(reply)
    w = lab.weir(up)
    down, upload = w.client(), w.client()
    down.send(text_of("GET /"))
    upload.send(text_of("POST /", [("Content-Length", "100000")]))
    down.head()
    for i in range(10):
        upload.send(b"y" * 10000)
        w.config["upstreams"]["app"]["pool"] = {"idle_max": i + 1}
        w.config["listeners"]["web"]["timeouts"] = {"idle": "%ds" % (50 + i)}
        w.config["listeners"]["more%d" % i] = {"bind": address(), "to": "app"}
        w.config["listeners"].pop("more%d" % (i - 1), None)
        w.reload()
    eq(upload.response().body, b"100000", "the upload")
    eq(len(down.take(200000)), 200000, "the download")
    alone(w)


@story
def tunnels_go_on(lab):
    # Under the snapshot that they began with, which they alone keep; also when their listener goes.
    def pong(c):
        c.head()
        c.send(YES)
        while c.more():
            data, c.buffer = c.buffer, b""
            c.send(data.upper())
        c.half()
    up = lab.upstream(script=pong)
    w = lab.weir(up, listeners={"gone": {"bind": address(), "to": "app"}})
    c, g = w.client(), dial(w.config["listeners"]["gone"]["bind"])
    for t in (c, g):
        t.send(text_of("GET /", ASK))
        eq(t.response().status, 101, "a tunnel")
    del w.config["listeners"]["gone"]
    other = lab.upstream(named("other"))
    for i in range(5):
        w.config["upstreams"]["app"] = {"servers": [other.address], "pool": {"idle_max": i + 1}}
        w.reload()
        for t in (c, g):
            t.send(b"abc%d" % i)
            eq(t.take(4), b"ABC%d" % i, "through the tunnel")
    eq(w.ask("GET /").body, b"other", "new requests")
    eq(w.status()["snapshots"], 2, "those between are gone")
    wait(lambda: w.status()["upstreams"][0]["active"] == 2, "the tunnels are told")
    for t in (c, g):
        t.half()
        ok(t.ended(), "the end")
    alone(w)


@story
def http2(lab):
    # A connection of HTTP/2 goes on: streams in flight as they began, the next ones under the new snapshot.
    up = lab.upstream(named("old"))
    w = lab.weir(up, routes=stamped("one"), listeners={"gone": {"bind": address(), "to": "app"}})
    with h2_client(w) as c, h2_client(w, listener="gone") as g:
        slow, leaving = c.request("GET /wait/0.8"), g.request("GET /wait/0.8")
        eq(c.request("GET /").response().get("x-of"), "one", "before")
        wait(lambda: len(up.requests) == 3, "in flight")
        w.config["listeners"]["web"]["routes"] = stamped("two")
        gone = w.config["listeners"].pop("gone")
        w.config["upstreams"]["app"]["servers"] = [lab.upstream(named("new")).address]
        w.reload()
        r = c.request("GET /").response()
        eq((r.get("x-of"), r.body), ("two", b"new"), "a new stream")
        r = slow.response()
        eq((r.get("x-of"), r.body), ("one", b"old"), "a stream in flight")
        eq(leaving.response().body, b"old", "a stream in flight of the listener that goes")
        g.until_over()
        eq(c.request("GET /").response().body, b"new", "and on")
        ok(refuses(gone["bind"]), "it is gone")
    alone(w)


# --- certificates ----------------------------------------------------------------------------------------------------

def shown(w, context, sni, session=None):
    """The certificate's names and the connection."""
    raw = socket.create_connection(tuple(w.address.rsplit(":", 1)), 10)
    sock = context.wrap_socket(raw, server_hostname=sni, session=session)
    return sorted(v for _, v in sock.getpeercert()["subjectAltName"]), Conn(sock)


@story
def certificates(lab):
    # The file's content, or another file: new handshakes get it; connections that are there go on, also by HTTP's rules.
    ca = Authority(lab)
    first, second = ca.issue("a.test", "b.test"), ca.issue("a.test", "c.test", file="second")
    for name, source in (("live.pem", first[0]), ("live.key", first[1])):
        lab.write(name, open(source, encoding="ascii").read())
    w = lab.weir(routes=replying("x"), listener={"tls": {"cert": lab.path("live.pem"), "key": lab.path("live.key")}})
    names, old = shown(w, ca.client(), "a.test")
    eq(names, ["a.test", "b.test"], "before")
    for name, source in (("live.pem", second[0]), ("live.key", second[1])):
        lab.write(name, open(source, encoding="ascii").read())
    w.reload()
    names, new = shown(w, ca.client(), "a.test")
    eq(names, ["a.test", "c.test"], "after")
    for conn in (old, new):
        conn.send(text_of("GET /", [("Host", "a.test")]))
        r = conn.response()
        eq((r.status, r.body), (200, b"x"), "a request")
    old.send(text_of("GET /", [("Host", "c.test")]))
    eq(old.response().status, 200, "asked of the certificates that it was made with")
    lab.write("live.key", open(first[1], encoding="ascii").read())
    told = w.reload(status=422)
    has(json.dumps(told["errors"]), "live.pem", "a key that does not fit")
    eq(shown(w, ca.client(), "a.test")[0], ["a.test", "c.test"], "the old one goes on")


@story
def tickets(lab):
    # A session of before is resumed after: the keys are those of the listener, not of its snapshot.
    ca = Authority(lab)
    pair = ca.issue("a.test")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        w = lab.weir(routes=replying("x"), listener={"tls": {"cert": pair[0], "key": pair[1]}})
        context = ca.client(version, version)
        _, c = shown(w, context, "a.test")
        eq(says(c), b"x", "before")
        session = c.sock.session
        w.config["listeners"]["web"]["routes"] = replying("y")
        w.reload()
        w.reload()
        _, c = shown(w, context, "a.test", session)
        eq(says(c), b"y", "after")
        ok(c.sock.session_reused, "the session was resumed")


@story
def who_may_by_certificate(lab):
    # Other authorities for clients: who was let in by the old ones is asked again, also with a ticket.
    ca, other = Authority(lab), Authority(lab, "other")
    pair, client = ca.issue("a.test"), ca.issue("client")
    w = lab.weir(routes=replying("x"), listener={"tls": {"cert": pair[0], "key": pair[1]}})
    _, free = shown(w, ca.client(), "a.test")
    eq(says(free), b"x", "without a certificate")
    w.config["listeners"]["web"]["tls"]["client_ca"] = ca.cert
    w.reload()
    ok(free.ended(), "who has shown none has to go")
    context = ca.client(cert=client)
    _, known = shown(w, context, "a.test")
    eq(says(known), b"x", "with one")
    session = known.sock.session
    w.config["listeners"]["web"]["routes"] = replying("y")
    w.reload()
    eq(says(known), b"y", "the same authority: the connection stays")
    w.config["listeners"]["web"]["tls"]["client_ca"] = other.cert
    w.reload()
    ok(known.ended(), "another authority")
    try:
        _, c = shown(w, context, "a.test", session)
        says(c)
        ok(False, "it was let in")
    except (ssl.SSLError, OSError, Cut):
        pass
    del w.config["listeners"]["web"]["tls"]
    w.reload()
    eq(w.ask("GET /").body, b"y", "without TLS at all")
    alone(w)


# --- upstreams -------------------------------------------------------------------------------------------------------

@story
def an_upstream_that_stays_keeps_all(lab):
    # Pool, counters, weights and states that were set at run time: reloads around it change nothing.
    up = lab.upstream(named("up"))
    w = lab.weir(up)
    for _ in range(3):
        w.ask("GET /")
    w.settle()
    opened = len(up.conns)
    name = "/v1/upstreams/app/servers/" + up.address
    eq(w.admin(name, "PUT", {"weight": 7}).status, 200, "set")
    for i in range(5):
        w.config["listeners"]["web"]["timeouts"] = {"idle": "%ds" % (10 + i)}
        told = w.reload()
        eq((told["upstreams"]["changed"], told["listeners"]["changed"]), ([], ["web"]), "what it tells")
        w.ask("GET /")
    ok(len(up.conns) - opened <= 1, "the pool is the same (a worker each)", (opened, len(up.conns)))
    w.settle()  # a request is counted behind its answer
    eq(w.metric("weir_upstream_requests_total", upstream="app"), 8, "counted on")
    eq(w.metric("weir_requests_total", listener="web", code="200"), 8, "routes, too")
    eq(w.metric("weir_connections_accepted_total", listener="web"), 8, "listeners, too")
    diff = w.admin("/v1/config?diff").json()
    eq([(d["file"], d["now"]) for d in diff], [(1, 7)], "what was set is told against the file")


@story
def servers_come_and_go(lab):
    # Idle connections to those that stay are used on; counters go on; what was set at run time is kept.
    ups = [lab.upstream(named("u%d" % i)) for i in range(3)]
    w = lab.weir(ups[0], ups[1], workers=1)
    for _ in range(4):
        w.ask("GET /")
    w.settle()
    eq([len(u.conns) for u in ups], [1, 1, 0], "a connection each")
    eq(w.admin("/v1/upstreams/app/servers/" + ups[0].address, "PUT", {"state": "drain"}).status, 200, "drain")
    w.config["upstreams"]["app"]["servers"] = [ups[1].address, ups[2].address, ups[0].address]
    told = w.reload()
    eq(told["upstreams"]["changed"], ["app"], "what it tells")
    eq(sorted(w.ask("GET /").body for _ in range(4)), [b"u1", b"u1", b"u2", b"u2"], "the drained one still is")
    w.settle()
    eq([len(u.conns) for u in ups], [1, 1, 1], "the connection of before is used on")
    servers = {s["name"]: s for s in w.admin("/v1/upstreams").json()[0]["servers"]}
    eq((servers[ups[1].address]["requests"], servers[ups[0].address]["state"]), (4, "drain"), "counted on, and drained on")
    eq(w.metric("weir_upstream_requests_total", upstream="app"), 8, "all in all")
    eq(w.metric("weir_upstream_connections_opened_total", upstream="app"), 3, "opened")
    w.config["upstreams"]["app"]["servers"] = [ups[2].address]
    w.reload()
    wait(lambda: ups[1].open == 0 and ups[0].open == 0, "idle connections to those that are gone end")
    alone(w)
    eq(w.metric("weir_upstream_requests_total", upstream="app"), 8, "nothing is lost")
    w.config["upstreams"]["b"] = w.config["upstreams"].pop("app")
    w.config["listeners"]["web"]["to"] = "b"
    w.reload()
    eq(w.ask("GET /").body, b"u2", "of another name")
    alone(w)
    eq([u["name"] for u in w.status()["upstreams"]], ["b"], "the old name is gone")


@story
def health_is_known(lab):
    # A server that is down is down for the next snapshot from its first request on; its checks go on.
    bad, good = lab.upstream(named("bad")), lab.upstream(named("good"))
    bad.stop()
    health = {"type": "tcp", "every": "50ms", "fall": 2, "rise": 2}
    w = lab.weir(bad, good, upstream={"health": health})

    def up():
        return sorted(s["state"] for s in w.admin("/v1/upstreams").json()[0]["servers"])
    wait(lambda: up() == ["down", "up"], "one is down")
    for i in range(5):
        w.config["upstreams"]["app"]["pool"] = {"idle_max": i + 1}
        w.reload()
        eq(up(), ["down", "up"], "it is known")
        eq(w.ask("GET /").body, b"good", "nobody is sent there")
    bad.listen()
    wait(lambda: up() == ["up", "up"], "checks go on")
    bad.stop()
    wait(lambda: up() == ["down", "up"], "down again")
    del w.config["upstreams"]["app"]["health"]
    w.reload()
    eq(up(), ["up", "up"], "without checks nobody knows better")
    alone(w)


@story
def names_are_known(lab):
    # A name that was resolved is not asked for again by a reload, and where it is, no answer takes nothing away.
    up = lab.upstream(named("up"))
    port = up.address.split(":")[1]
    names = lab.names(up_test=(60, [HOST]), once_test=(60, [HOST]))
    servers = [{"address": "up.test:" + port, "resolve": True}, {"address": "once.test:" + port}]
    w = lab.weir(servers=servers, dns={"servers": [names.address], "allow_local": True})

    def addresses():
        return [s["addresses"] for s in w.admin("/v1/upstreams").json()[0]["servers"]]
    wait(lambda: addresses() == [1, 1], "resolved")
    asked = len(names.asked)
    w.config["listeners"]["web"]["timeouts"] = {"head": "9s"}
    w.reload()
    eq((addresses(), len(names.asked)), ([1, 1], asked), "an upstream that stays")
    names.silent = True
    w.config["upstreams"]["app"]["pool"] = {"idle_max": 3}
    w.reload()
    eq([w.ask("GET /").body for _ in range(4)], [b"up"] * 4, "one that was changed")
    wait(lambda: len(names.asked) > asked, "one of them is asked for")
    ok(all(name == "up.test" for _, name, _ in names.asked[asked:]), "that one", names.asked[asked:])
    eq(addresses(), [1, 1], "what is known stays")
    names.silent = False
    alone(w)


# --- who may, and how often ------------------------------------------------------------------------------------------

@story
def rate_limits_remember(lab):
    # The same limit goes on where it was; another one begins with the debts of the old.
    def limit(rate, burst):
        return [{"name": "all", "reply": {"body": "x"}, "filters": [{"rate_limit": {"rate": rate, "burst": burst}}]}]
    w = lab.weir(routes=limit("1/h", 5))
    eq([w.ask("GET /").status for _ in range(6)], [200] * 5 + [429], "before")
    w.config["listeners"]["web"]["timeouts"] = {"head": "5s"}
    w.reload()
    eq(w.ask("GET /").status, 429, "the same limit")
    w.config["listeners"]["web"]["routes"] = limit("2/h", 8)
    w.reload()
    eq([w.ask("GET /").status for _ in range(4)], [200] * 3 + [429], "another limit: five are spent")
    w.config["listeners"]["web"]["routes"][0]["filters"] = []
    w.reload()
    eq(w.ask("GET /").status, 200, "none")
    alone(w)


@story
def bans_and_access(lab):
    w = lab.weir(routes=replying("x"))
    eq(w.admin("/v1/bans", "POST", {"prefix": "192.0.2.0/24", "why": "x"}).status, 200, "ban")
    eq(w.admin("/v1/bans", "POST", {"prefix": "127.0.0.1"}).status, 200, "ban us")
    w.reload()
    eq(len(w.admin("/v1/bans").json()), 2, "bans stay")
    try:
        w.ask("GET /")
        ok(False, "we are banned")
    except (OSError, Cut):
        pass
    w.config["access"] = {"never_ban": ["127.0.0.1"]}
    w.reload()
    eq(w.ask("GET /").body, b"x", "never_ban counts at once")
    w.config["access"] = {"deny": ["127.0.0.0/8"]}
    w.reload()
    try:
        w.ask("GET /")
        ok(False, "we are denied")
    except (OSError, Cut):
        pass
    w.config["access"] = {"allow": ["127.0.0.0/8"], "never_ban": ["127.0.0.1"]}
    w.reload()
    eq(w.ask("GET /").body, b"x", "and allowed")
    alone(w)


@story
def limits_of_connections(lab):
    # Those who are there are counted on, under the new limits.
    w = lab.weir(routes=replying("x"))
    held = [w.client() for _ in range(3)]
    for c in held:
        eq(says(c), b"x", "there")
        c.send("GET / HTTP/1.1\r\n")  # not idle: nobody can take its place
    w.config["listeners"]["web"]["limits"] = {"connections": 4}
    w.reload()
    time.sleep(0.05)
    eq(w.ask("GET /").status, 200, "the fourth")
    more = w.client()
    more.send("GET / HTTP/1.1\r\n")
    wait(lambda: w.status()["connections"] == 4, "it is there")
    c = w.client()
    c.send(text_of("GET /"))
    try:
        ok(c.ended(), "the fifth is refused")
    except ConnectionError:
        pass
    del w.config["listeners"]["web"]["limits"]
    w.config["limits"] = {"connections_per_client": 6}
    w.reload()
    ok([w.ask("GET /").status for _ in range(3)] == [200] * 3, "other limits")
    alone(w)


@story
def run_time_log_level(lab):
    w = lab.weir(routes=replying("x"))
    w.config["log"] = {"level": "warn"}
    w.reload()
    eq(w.status()["log_level"], "warn", "the file's")
    eq(w.admin("/v1/log-level", "PUT", {"level": "debug"}).status, 200, "set at run time")
    w.config["log"] = {"level": "error"}
    w.reload()
    eq(w.status()["log_level"], "debug", "it stays")
    eq([(d["what"], d["file"], d["now"]) for d in w.admin("/v1/config?diff").json()], [("log-level", "error", "debug")], "and is told")


@story
def access_logs(lab):
    # Another file: each line is in the one of its snapshot, which may have another name by then; SIGUSR1 opens the new one anew.
    up = lab.upstream(named("up"))
    first, second = lab.path("first.log"), lab.path("second.log")
    w = lab.weir(up, access_log={"to": {"file": first}})
    slow = w.client()
    slow.send(text_of("GET /wait/0.6"))
    wait(lambda: up.requests, "in flight")
    w.config["access_log"] = {"to": {"file": second}}
    w.reload()
    w.ask("GET /new")
    wait(lambda: "/new" in open(second, encoding="utf-8").read(), "the line of the new one")
    os.rename(first, first + ".1")
    os.rename(second, second + ".1")
    w.kick(signal.SIGUSR1)
    wait(lambda: os.path.exists(second), "opened anew")
    slow.response()
    w.ask("GET /newer")
    wait(lambda: os.path.getsize(second) > 0, "the line of the new one")
    old = next(p for p in (first, first + ".1") if os.path.exists(p) and os.path.getsize(p))
    has(open(old, encoding="utf-8").read(), "/wait/0.6", "the old file")
    has(open(second, encoding="utf-8").read(), "/newer", "the new one, anew")
    alone(w)


# --- under load ------------------------------------------------------------------------------------------------------

class Load:
    """Clients that ask without a pause, on connections that are kept and on new ones; every fault is kept."""

    def __init__(self, where, allowed, tls=None, fresh=2, kept=4):
        self.where, self.allowed, self.tls, self.stop = where, allowed, tls, threading.Event()
        self.count, self.faults, self.closes = 0, [], 0
        self.threads = [threading.Thread(target=self.run, args=(i < kept,)) for i in range(kept + fresh)]
        for t in self.threads:
            t.start()

    def run(self, keep):
        conn = None
        while not self.stop.is_set():
            try:
                used = conn is not None
                conn = conn or dial(self.where, tls=self.tls, sni="a.test" if self.tls else None)
                conn.send(text_of("GET /", [("Host", "a.test")]))
                r = conn.response()
                if r.status != 200 or r.body not in self.allowed:
                    self.faults.append("%d %r" % (r.status, r.body[:80]))
                self.count += 1
                if not keep or r.get("connection") == "close":
                    conn.close()
                    conn = None
            except (OSError, Cut) as e:
                self.faults.append("%s (%s)" % (e, "kept" if used else "new"))
                conn = None
        if conn:
            conn.close()

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join()
        eq(self.faults[:3], [], "faults of %d requests" % self.count)
        return self.count


@story
def a_hundred_under_load(lab):
    # Each changes a reply, a listener, an upstream and a certificate that clients then see. No request fails; nothing stays.
    rounds = int(100 / SLOW)
    ca = Authority(lab)
    pairs = [ca.issue("a.test", "n%d.test" % i, file="n%d" % i) for i in range(4)]
    ups = [lab.upstream(named("up")) for _ in range(3)]
    secure = address()
    w = lab.weir(*ups[:2], listeners={
        "secure": {"bind": secure, "tls": {"cert": pairs[0][0], "key": pairs[0][1]}, "to": "app"},
        "reply": {"bind": address(), "routes": replying("r0")}})
    reply = w.config["listeners"]["reply"]["bind"]
    loads = [Load(w.address, [b"up"]), Load(secure, [b"up"], tls=ca.client(), fresh=1, kept=2)]
    replies = Load(reply, [b"r%d" % i for i in range(rounds + 1)], fresh=1, kept=1)
    fds = rows = None
    for i in range(1, rounds + 1):
        where = address()
        w.config["listeners"]["reply"]["routes"] = replying("r%d" % i)
        w.config["listeners"]["secure"]["tls"] = dict(zip(("cert", "key"), pairs[i % 4]))
        w.config["listeners"].pop("extra%d" % (i - 1), None)
        w.config["listeners"]["extra%d" % i] = {"bind": where, "routes": replying("e%d" % i)}
        w.config["upstreams"]["app"]["servers"] = [ups[i % 3].address, ups[(i + 1) % 3].address]
        w.reload()
        eq(dial(reply).send(text_of("GET /")).response().body, b"r%d" % i, "the reply")
        eq(dial(where).send(text_of("GET /")).response().body, b"e%d" % i, "the listener")
        c = dial(secure, tls=ca.client(), sni="a.test")
        ok("n%d.test" % (i % 4) in [v for _, v in c.sock.getpeercert()["subjectAltName"]], "the certificate")
        c.close()
        if i == rounds // 5:
            alone(w)
            rows = len(w.metrics())
    counts = [load.end() for load in loads + [replies]]
    ok(min(counts) > rounds, "there was load", counts)
    alone(w)
    w.settle(connections=True)
    eq(len(w.metrics()), rows, "no series more than after a fifth of them")
    eq(w.metric("weir_config_reloads_total", result="done"), rounds, "counted")
    # All that was asked of the upstream is told by its name, whichever cluster it was.
    seen = sum(len(u.requests) for u in ups)
    eq(w.metric("weir_upstream_requests_total", upstream="app"), seen, "requests of all clusters of that name")
    wait(lambda: w.fds() < 120, "descriptors are given back")


main()
