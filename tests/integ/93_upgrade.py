#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Another binary and another configuration, under load: with nothing lost, or nothing changed."""
import json
import os
import shutil
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from certs import Authority  # noqa: E402
from h2lab import h2_client  # noqa: E402
from weirlab import BINARY, PATIENCE, SLOW, Cut, address, dial, end_of, eq, folders, has, lives, main, ok, story, text_of, wait  # noqa: E402

FOLDER = os.path.dirname(os.path.abspath(BINARY))
NEXT = os.environ.get("WEIR_NEXT", os.path.join(FOLDER, "tools/weir_next"))
STUCK = os.environ.get("WEIR_STUCK", os.path.join(FOLDER, "tools/weir_stuck"))
TARRIES = os.environ.get("WEIR_TARRIES_BINARY", os.path.join(FOLDER, "tools/weir_tarries"))
CHILDREN = 64  # of a keeper, at most
TIMES = 20 if os.environ.get("WEIR_LONG") else 6
DRAIN = {"announce": 0, "drain": "20s", "tunnels": "60s"}


def put(lab, binary):
    """Puts a binary in place, as a package manager does: a new file under the old name."""
    path, fresh = lab.path("weir"), lab.path("weir.new")
    shutil.copy(binary, fresh)
    os.rename(fresh, path)
    return path


def version(binary):
    import subprocess
    return json.loads(subprocess.run([binary, "version", "-j"], capture_output=True, text=True, check=True).stdout)["version"]


def start(lab, *ups, run=(), **kw):
    return lab.weir(*ups, binary=put(lab, BINARY), run=run, shutdown=DRAIN, **kw)


def upgraded(w, binary, count):
    """Waits for all of the `count`-th one: the proxy, and the keeper."""
    wait(lambda: w.status()["version"] == version(binary), "the new version serves")
    wait(lambda: w.log().count("the keeper is weir") == count, "the keeper is the new one as well", PATIENCE * 3)
    eq(os.readlink("/proc/%d/exe" % w.process.pid), os.readlink("/proc/%d/exe" % w.pid), "both are of one binary")


class Load:
    """Clients that keep their connections and clients that do not; each request has to be answered whole and right. A client
    goes on with a new connection where the answer said that it was the last."""

    def __init__(self, w, kinds=("keep", "keep", "new", "new", "slow")):
        self.w, self.going, self.count, self.faults = w, True, 0, []
        self.threads = [threading.Thread(target=self.run, args=(kind,)) for kind in kinds]
        for t in self.threads:
            t.start()

    def run(self, kind):
        conn = None
        while self.going:
            try:
                conn = conn or dial(self.w.address)
                fields = [("Connection", "close")] if kind == "new" else []
                r = conn.send(text_of("GET /%s" % kind, fields)).response()
                if r.status != 200 or r.body != b"right":
                    raise Cut("%d %r" % (r.status, r.body))
                self.count += 1
                if r.get("connection") == "close":
                    conn.close()
                    conn = None
                if kind == "slow":
                    time.sleep(0.05)
            except (OSError, Cut) as e:
                self.faults.append("%s: %r" % (kind, e))
                conn = None
        if conn:
            conn.close()

    def more(self, n=200):
        before = self.count
        wait(lambda: self.count >= before + n or self.faults, "%d requests more" % n, PATIENCE * 3)

    def end(self):
        self.going = False
        for t in self.threads:
            t.join()
        eq(self.faults[:5], [], "requests that failed, of %d" % self.count)


def right(c, r):
    c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright")


@story
def under_load(lab):
    # Again and again between two versions: no request fails, the pid stays, what served before ends.
    w = start(lab, lab.upstream(right), workers=2)
    keeper, pids = w.process.pid, [w.pid]
    load = Load(w)
    try:
        for n in range(TIMES):
            load.more()
            binary = (NEXT, BINARY)[n % 2]
            put(lab, binary)
            if n % 3 == 2:
                w.kick(signal.SIGUSR2)
            else:
                out = w.cli("upgrade", check=0)[1]
                has(out, "weir %s serves now, pid" % version(binary), "it answers when done")
            upgraded(w, binary, n + 1)
            pids.append(w.status()["pid"])
            load.more()
    finally:
        load.end()
    eq((w.process.pid, w.process.poll(), len(set(pids))), (keeper, None, TIMES + 1), "one keeper, and a proxy more than upgrades")
    wait(lambda: not any(lives(pid) for pid in pids[:-1]), "the old ones have ended", PATIENCE * 3)
    wait(lambda: w.children() == [pids[-1]], "one is left")
    ok("cut" not in w.log(), "nothing was cut", w.log()[-2000:])
    eq(w.status()["keeper"]["starts"], TIMES + 1, "they are counted on")


@story
def idle_connections(lab):
    # One that waits for its next request is not closed under it: the answer says that it was the last.
    w = start(lab, lab.upstream(right))
    idle, silent = w.client(), w.client()
    eq(idle.send(text_of("GET /")).response().status, 200, "before")
    old = w.pid
    put(lab, NEXT)
    w.cli("upgrade", check=0)
    upgraded(w, NEXT, 1)
    time.sleep(1.5 * SLOW)
    for c in (idle, silent):
        r = c.send(text_of("GET /")).response()
        eq((r.status, r.get("connection")), (200, "close"), "its next request")
        ok(c.ended(), "and its end")
    wait(lambda: not lives(old), "then the old one ends")


@story
def tunnels_live_on(lab):
    def echo(c):
        c.head()
        c.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        while c.buffer or c.more():
            c.send(c.buffer)
            c.buffer = b""
    w = start(lab, lab.upstream(script=echo))
    c = w.client()
    c.send(text_of("GET /", [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "MDEyMzQ1Njc4OTAxMjM0NQ=="),
                             ("Sec-WebSocket-Version", "13")]))
    eq(c.response().status, 101, "a tunnel")
    old = w.pid
    put(lab, NEXT)
    w.cli("upgrade", check=0)
    upgraded(w, NEXT, 1)
    for n in range(5):
        c.send(b"ping%d" % n)
        eq(c.take(5), b"ping%d" % n, "through the old process")
    ok(lives(old), "which is there for it")
    c.close()
    wait(lambda: not lives(old), "and ends with it")


@story
def http2_under_load(lab):
    # A connection says goodbye: what had begun is answered, and what comes too late was not begun, so it is asked anew.
    w = start(lab, lab.upstream(right))
    going, count, faults = True, [], []

    def ask(c):
        stream = c.request("GET /", [], None, host="weir.test")
        r = stream.response()
        eq((r.status, r.body), (200, b"right"), "an answer")

    def run():
        c = None
        while going:
            try:
                c = c if c and not c.goaways and not c.over else h2_client(w)
                ask(c)
                count.append(1)
            except Exception as e:
                if not (c and c.goaways):
                    faults.append(e)
                c = None
    threads = [threading.Thread(target=run) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        for n in range(3):
            before = len(count)
            wait(lambda: len(count) > before + 100 or faults, "requests", PATIENCE * 3)
            put(lab, (NEXT, BINARY)[n % 2])
            w.cli("upgrade", check=0)
            upgraded(w, (NEXT, BINARY)[n % 2], n + 1)
    finally:
        going = False
        for t in threads:
            t.join()
    eq(faults[:3], [], "requests that failed, of %d" % len(count))


def unchanged(w, pid, load, why, what):
    count = w.log().count("what served serves on") + 1
    status, out, err = w.cli("upgrade")
    eq(status, 1, what + ": exit status")
    has(out + err, why, what + ": why")
    eq((w.status()["pid"], w.pid, w.children()), (pid, pid, [pid]), what + ": the same process serves, and it alone")
    wait(lambda: w.log().count("what served serves on") == count, what + ": the log")
    load.more(20)


@story
def broken_ones(lab):
    # A binary that is none, that is cut short, that does nothing, that is gone; a configuration that is wrong, an address that is
    # taken: nothing has happened, and it is said why.
    w = start(lab, lab.upstream(right), run=["--ready-timeout", "%ds" % (3 * SLOW)])
    pid, taken = w.pid, lab.upstream().address
    good = json.dumps(w.config)
    load = Load(w, ("keep", "new"))
    try:
        load.more(20)
        with open(lab.path("weir.new"), "w", encoding="ascii") as f:
            f.write("#!/bin/false\n")
        os.chmod(f.name, 0o755)
        os.rename(f.name, lab.path("weir"))
        unchanged(w, pid, load, "cannot be executed", "a script")
        with open(BINARY, "rb") as whole, open(lab.path("weir.new"), "wb") as f:
            f.write(whole.read(100000))
        os.chmod(f.name, 0o755)
        os.rename(f.name, lab.path("weir"))
        unchanged(w, pid, load, "", "half a binary")
        put(lab, "/bin/false")
        unchanged(w, pid, load, "ended with status 1", "another program")
        put(lab, STUCK)
        unchanged(w, pid, load, "took longer than", "a binary that does nothing")
        os.unlink(lab.path("weir"))
        unchanged(w, pid, load, "No such file", "a binary that is gone")
        put(lab, NEXT)
        for text, why in ((good.replace('"workers"', '"wrokers"'), "did you mean 'workers'?"), ("listeners: [", "weir.yaml:2:1: error: YAML"),
                          (good.replace(w.address, taken), "in use"), (good.replace(w.instance, w.instance + "-other"), "the name of an instance stays")):
            with open(w.file, "w", encoding="utf-8") as f:
                f.write(text)
            unchanged(w, pid, load, why, why)
        ok(not any(map(os.path.exists, folders(w.instance + "-other"))), "no folder is made for another instance")
        with open(w.file, "w", encoding="utf-8") as f:
            f.write(good)
        w.cli("upgrade", check=0)  # and when all is right it is done
        upgraded(w, NEXT, 1)
    finally:
        load.end()


@story
def a_new_proxy_that_crashes(lab):
    # While it starts: nothing has happened. Later it is started again, from the new binary.
    w = start(lab, lab.upstream(right))
    put(lab, NEXT)
    w.cli("upgrade", check=0)
    upgraded(w, NEXT, 1)
    end_of(w.status()["pid"])
    wait(lambda: w.log().count("is ready") == 3, "another one")
    eq((w.status()["version"], w.ask("GET /").status), (version(NEXT), 200), "of the new version")


@story
def a_new_configuration(lab):
    # Listeners come, go and change; those that stay are never closed; a certificate is another one.
    ca = Authority(lab)
    pairs = [ca.issue(name) for name in ("one.test", "two.test")]
    gone, fresh, sock = address(), address(), lab.path("gone.sock")
    more = {"gone": {"bind": [gone, "unix:" + sock], "to": "app"},
            "tls": {"bind": address(), "to": "app", "tls": {"cert": pairs[0][0], "key": pairs[0][1]}}}
    w = start(lab, lab.upstream(right), listeners=more)
    load = Load(w)
    try:
        load.more()
        config = json.loads(json.dumps(w.config))
        del config["listeners"]["gone"]
        config["listeners"]["fresh"] = {"bind": fresh, "routes": [{"reply": {"body": "fresh"}}]}
        config["listeners"]["tls"]["tls"] = {"cert": pairs[1][0], "key": pairs[1][1]}
        config["workers"] = 3
        with open(w.file, "w", encoding="utf-8") as f:
            json.dump(config, f)
        w.cli("upgrade", check=0)
        load.more()
        with dial(fresh) as c:
            eq(c.send(text_of("GET /")).response().body, b"fresh", "the new listener")
        for to in (gone, sock):
            try:
                dial(to).close()
                ok(False, "%s is still there" % to)
            except OSError:
                pass
        ok(not os.path.exists(sock), "its file is gone")
        with w.client("tls", tls=ca.client(), sni="two.test") as c:
            eq(c.send(text_of("GET /")).response().status, 200, "the new certificate")
        eq(w.status()["workers"], 3, "workers")
    finally:
        load.end()


@story
def each_leaves_a_tunnel(lab):
    # An old process lives as long as its tunnel. That stands in the way of an upgrade only when there are very many of them, and
    # who is refused one is told so. Who was told that one is done may ask for the next at once.
    def echo(c):
        while c.more():
            c.send(c.take(len(c.buffer)))
    ca = Authority(lab)  # others are handed over
    pair = ca.issue("a.test")
    w = start(lab, lab.upstream(script=echo), listener={"protocol": "tcp", "to": "app", "tls": {"cert": pair[0], "key": pair[1]}})
    tunnels = []
    status = 0
    while status == 0 and len(tunnels) < 2 * CHILDREN:  # some are taken by the one before, as it lets go
        tunnels.append(w.client(tls=ca.client(), sni="a.test").send(b"a"))
        eq(tunnels[-1].take(1), b"a", "a tunnel")
        status, _, err = w.cli("upgrade")
    has(err, "too many processes of earlier upgrades have tunnels", "why")
    eq(status, 1, "one too many")
    ok(len(tunnels) >= CHILDREN - 4, "and no sooner: a few places are of those that try binaries, or end", len(tunnels))
    eq([c.send(b"b").take(1) for c in tunnels], [b"b"] * len(tunnels), "all of them live")
    for c in tunnels:
        c.close()
    wait(lambda: len(w.children()) == 1, "the old processes have ended", PATIENCE * 3)
    count = w.log().count("the keeper is weir")
    w.cli("upgrade", check=0)
    upgraded(w, BINARY, count + 1)


def tarrying(lab):
    """One that is upgraded to a binary which its keeper tries still, until the file of that name is gone."""
    file = lab.path("tarries")
    open(file, "w", encoding="ascii").close()
    w = start(lab, lab.upstream(right), wrap=["env", "WEIR_TARRIES=" + file], run=["--ready-timeout", "%ds" % (4 * SLOW)])
    old = w.pid
    put(lab, TARRIES)
    w.cli("upgrade", check=0)
    wait(lambda: not lives(old) and len(w.children()) == 2, "a proxy, and who tries the binary")
    return w, file


@story
def who_tries_an_earlier_binary(lab):
    # The keeper becomes what was tried, and nobody is left who tries what is not in force any more.
    w, file = tarrying(lab)
    put(lab, NEXT)
    w.cli("upgrade", check=0)
    upgraded(w, NEXT, 1)
    wait(lambda: len(w.children()) == 1, "the proxy alone is left")
    os.unlink(file)
    ok("the keeper stays" not in w.log(), "it is no news that it was given up", w.log()[-2000:])


@story
def tried_while_another_one_is_under_way(lab):
    # And that one fails: the keeper becomes the binary of the proxy all the same.
    w, file = tarrying(lab)
    put(lab, STUCK)
    w.kick(signal.SIGUSR2)
    wait(lambda: len(w.children()) == 3, "one is under way")
    os.unlink(file)
    wait(lambda: len(w.children()) == 2, "it was tried")
    wait(lambda: "what served serves on" in w.log(), "the other one fails")
    wait(lambda: "the keeper is weir" in w.log(), "the keeper is of the binary that serves")
    eq(os.readlink("/proc/%d/exe" % w.process.pid), os.readlink("/proc/%d/exe" % w.pid), "both are of one binary")


@story
def in_a_row(lab):
    # A second one while the first is under way is refused; a stop in the middle of one stops.
    w = start(lab, lab.upstream(right), run=["--ready-timeout", "%ds" % (4 * SLOW)])
    put(lab, STUCK)
    w.kick(signal.SIGUSR2)
    wait(lambda: "SIGUSR2" in w.log() and len(w.children()) == 2, "one is under way")
    status, _, err = w.cli("upgrade")
    eq(status, 1, "another one")
    has(err, "under way", "why")
    eq(w.ask("GET /").status, 200, "it is served meanwhile")
    children = w.children()
    w.kick(signal.SIGTERM)
    w.kick(signal.SIGTERM)
    eq(w.join(), 0, "exit status")
    w.stopped = True
    ok(not any(lives(pid) for pid in children), "nothing is left")


main()
