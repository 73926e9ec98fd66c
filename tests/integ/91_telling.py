#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What weir tells of itself unasked: the service manager that it is ready and ends, and a share of its requests."""
import os
import re
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from certs import Authority  # noqa: E402
from weirlab import PATIENCE, SLOW, address, dial, end_of, eq, has, main, ok, story, text_of, wait  # noqa: E402


class Manager:
    """The socket of a service manager (sd_notify), as the environment names it while weir starts."""

    def __init__(self, name):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.settimeout(PATIENCE)
        self.sock.bind("\0" + name[1:] if name.startswith("@") else name)
        self.name = name

    def __enter__(self):
        os.environ["NOTIFY_SOCKET"] = self.name
        return self

    def __exit__(self, *_):
        os.environ.pop("NOTIFY_SOCKET", None)
        self.sock.close()

    def told(self):
        """What is said; descriptors to keep are another matter (92_keeper)."""
        while True:
            word = self.sock.recv(4096).decode().split("\n")[0]
            if not word.startswith("FDSTORE"):
                return word

    def silent(self):
        self.sock.settimeout(0.2)
        try:
            return not self.told()
        except socket.timeout:
            return True
        finally:
            self.sock.settimeout(PATIENCE)


@story
def the_service_manager_is_told(lab):
    for name in (lab.path("notify"), "@weirlab-%d-notify" % os.getpid()):
        with Manager(name) as manager:
            w = lab.weir(lab.upstream(), shutdown={"announce": "300ms"})
            eq(manager.told(), "READY=1", "at the start (%s)" % name)
            eq(w.ask("GET /").status, 200, "and it is")
            ok(manager.silent(), "nothing more while it runs")
            w.kick(signal.SIGTERM)
            eq(manager.told(), "STOPPING=1", "at the end, already when it announces it")
            eq(w.ask("GET /").status, 200, "it still serves then")
            eq(w.join(), 0, "exit status")
            ok(manager.silent(), "once")


@story
def refused_clients_are_told(lab):
    # Who was refused, and by what name, also where weir has no request to show; and of a head that took too long.
    w = lab.weir(lab.upstream(), listener={"timeouts": {"head": "300ms"}})
    sent = ((b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505), (b"junk\r\n\r\n", 400), (b"GET /%s HTTP/1.1\r\n\r\n" % (b"x" * 20000), 414),
            (b"GET / HTTP/1.1\r\nHost:", 408))
    for bytes_, status in sent:
        with w.client() as c:
            r = c.send(bytes_).response()
            eq((r.status, r.get("connection"), c.ended()), (status, "close", True), "the answer")
    lines = w.access(len(sent))
    eq([(line["status"], line["client"]) for line in lines], [(status, "127.0.0.1") for _, status in sent], "the log")
    ok(len({line["id"] for line in lines}) == len(sent) and all(line["id"] for line in lines), "each has an id", lines)
    ok(not any(line.get("protocol") for line in lines), "which protocol it was is not known", lines)
    for _, status in sent:
        eq(w.metric("weir_requests_total", code=str(status)), 1, "counted: %d" % status)
    eq(w.metric("weir_errors_total", by="client", code="EHEADTIME"), 1, "the slow one, by its name")
    eq(w.metric("weir_requests_in_flight"), 0, "none is left")


@story
def logs_are_reopened_as_another_user(lab):
    # Without a keeper. Opened by root, they are the user's own from then on; where it cannot make them anew, that is said at
    # the start.
    if os.geteuid() != 0:
        return
    ours, theirs = lab.path("ours"), lab.path("theirs")
    for folder in (ours, theirs):
        os.mkdir(folder)
    os.chmod(os.path.dirname(ours), 0o755)
    os.chown(theirs, 65534, 65534)
    access, fixed = theirs + "/access.log", ours + "/fixed.log"
    w = lab.weir(lab.upstream(), user="nobody", run=["--single"], access_log={"to": {"file": access}},
                 routes=[{"name": "fixed", "match": {"path": "/fixed"}, "to": "app", "access_log": {"to": {"file": fixed}}},
                         {"name": "again", "match": {"path": "/again"}, "to": "app", "access_log": {"to": {"file": fixed}}},
                         {"name": "rest", "to": "app"}])
    eq((os.stat(access).st_uid, os.stat(fixed).st_uid), (65534, 65534), "whose the files are")
    has(w.log(), "'%s': user 'nobody' may not make files in its folder" % fixed, "a warning")
    eq(w.log().count("may not make files"), 1, "of the one alone, once")
    os.rename(access, access + ".1")
    w.kick(signal.SIGUSR1)  # the one that was not renamed is opened anew as well
    wait(lambda: os.path.exists(access), "a new file")
    w.ask("GET /three")
    wait(lambda: "/three" in open(access, encoding="utf-8").read(), "the new file gets lines")
    ok("anew" not in w.log().replace("cannot open it anew", ""), "no error", w.log())
    os.rename(fixed, fixed + ".1")
    w.kick(signal.SIGUSR1)
    wait(lambda: "its folder must be writable" in w.log(), "why it is not there")
    eq(w.log().count("cannot be opened anew"), 1, "once")


@story
def logs_are_reopened_by_the_keeper(lab):
    # Which may do so where the proxy's user may not; each line goes to the old file or to the new one.
    if os.geteuid() != 0:
        return
    folder = lab.path("logs")
    os.mkdir(folder)
    os.chmod(folder, 0o700)
    os.chmod(os.path.dirname(folder), 0o700)
    one, two, log = (folder + "/" + name for name in ("one.log", "two.log", "weir.log"))
    w = lab.weir(lab.upstream(), user="nobody", wait_ready=False, access_log={"to": {"file": one}}, log={"to": {"file": log}},
                 routes=[{"name": "two", "match": {"path": "/two"}, "to": "app", "access_log": {"to": {"file": two}}},
                         {"name": "rest", "to": "app"}])
    wait(lambda: os.path.exists(log) and "is ready" in open(log, encoding="utf-8").read(), "ready, in the file")
    w.ask("GET /one")
    w.ask("GET /two")
    for path, text in ((one, "/one"), (two, "/two")):
        wait(lambda: text in open(path, encoding="utf-8").read(), "a line of " + path)
        os.rename(path, path + ".1")
    os.rename(log, log + ".1")
    os.mkdir(two)  # no file can be made there
    w.kick(signal.SIGUSR1)
    wait(lambda: os.path.exists(one) and os.path.exists(log), "new files")
    w.ask("GET /one/more")
    w.ask("GET /two/more")
    wait(lambda: "/one/more" in open(one, encoding="utf-8").read(), "the new file gets lines")
    ok("/one/more" not in open(one + ".1", encoding="utf-8").read(), "and the old one none")
    wait(lambda: "/two/more" in open(two + ".1", encoding="utf-8").read(), "where there is none, the old one is kept")
    wait(lambda: "'%s' cannot be opened anew: Is a directory" % two in open(log + ".1", encoding="utf-8").read() + open(log, encoding="utf-8").read(), "and that is told")
    end_of(w.pid)  # the next proxy has the new file too
    wait(lambda: open(log, encoding="utf-8").read().count("is ready") == 1, "another one serves")
    w.ask("GET /one/third")
    wait(lambda: "/one/third" in open(one, encoding="utf-8").read(), "the new file gets lines")


@story
def why_upstreams_fail(lab):
    # The reason is in the log and in `show upstreams`: what the kernel said, or what is wrong with the certificate.
    ca = Authority(lab)
    dead, secret = lab.upstream(listen=False), lab.upstream(tls=ca.server(ca.issue("weir.test")))
    w = lab.weir(lab.upstream(), upstreams={"dead": {"servers": [dead.address]}, "gone": {"servers": ["unix:" + lab.path("gone.sock")]},
                                            "tls": {"servers": [secret.address], "tls": {"sni": "weir.test"}}},
                 routes=[{"name": n, "match": {"path": "/" + n}, "to": n, "retry": {"attempts": 1}} for n in ("dead", "gone", "tls")])
    for name, why in (("dead", "Connection refused"), ("gone", "No such file or directory"), ("tls", "unable to get local issuer certificate")):
        eq(w.ask("GET /" + name).status, 502, "the answer of " + name)
        has(wait(lambda: [line for line in w.log().splitlines() if "upstream %s: server" % name in line], "a line")[0], why, "the log")
        fault = [s["last_fault"] for u in w.admin("/v1/upstreams").json() if u["name"] == name for s in u["servers"]][0]
        has(fault, why, "its last fault")


@story
def refusals_are_told_apart(lab):
    # One line for each listener and reason, which counts its own alone.
    more = {name: {"bind": address(), "to": "app", "limits": {"connections_per_client": 1}} for name in ("one", "two")}
    w = lab.weir(lab.upstream(), listeners=more, workers=1)
    with dial(more["one"]["bind"]) as one, dial(more["two"]["bind"]) as two:
        for held in (one, two):
            eq(held.send(text_of("GET /")).response().status, 200, "the first")
        for name in more:
            with dial(more[name]["bind"]) as c:
                try:
                    ok(c.send(text_of("GET /")).ended(), "the second is refused")
                except OSError:
                    pass
    for name in more:
        line = wait(lambda: [line for line in w.log().splitlines() if "listener '%s'" % name in line and "refused" in line], "a line of " + name)[0]
        has(line, "(1 since the last line)", "its count")


@story
def not_ready_when_it_does_not_start(lab):
    with Manager(lab.path("notify")) as manager:
        first = lab.weir(lab.upstream())
        eq(manager.told(), "READY=1", "the first")
        taken = lab.weir(lab.upstream(), listener={"bind": first.address}, wait_ready=False)
        eq(taken.join(), 1, "an address that is taken")
        taken.stopped = True
        ok(manager.silent(), "is not told to be ready")


@story
def a_manager_that_is_not_there(lab):
    for name in (lab.path("nobody"), "@nobody-%d" % os.getpid(), "vsock:2:1", "x", "/" + "y" * 200):
        os.environ["NOTIFY_SOCKET"] = name
        try:
            w = lab.weir(lab.upstream())
        finally:
            del os.environ["NOTIFY_SOCKET"]
        eq(w.ask("GET /").status, 200, "weir runs all the same (%s)" % name[:20])
        w.stop()


@story
def the_system_is_quoted(lab):
    # The access log has what the system said, by its name, where the system said something.
    w = lab.weir(lab.upstream(listen=False), listener={"timeouts": {"head": "300ms"}})
    eq(w.ask("GET /").status, 502, "nobody listens there")
    with w.client() as c:
        eq(c.send(b"GET / HTTP/1.1\r\nHost:").response().status, 408, "a slow head")
    refused, slow = (line["error"] for line in w.access(2))
    eq((refused["by"], refused["sys"]), ("upstream", "ECONNREFUSED"), "of a call of the system")
    eq(slow, {"code": "EHEADTIME", "by": "client"}, "of our own")


@story
def steps_are_traced(lab):
    # At `trace` each step of a request is a line, and at any other level none.
    def steps():
        lines = [line.split(" trace: request ", 1)[1] for line in w.log().splitlines() if " trace: request " in line]
        return [re.fullmatch(r"(\S+): (\w+): (more|wait|gone)(?:, then (\w+))?, \d+ us \(\d+ us since it began\)", line).groups() for line in lines]

    w = lab.weir(lab.upstream(), routes=[{"match": {"path": "/a"}, "to": "app"}])
    eq(w.ask("GET /a").status, 200, "an answer")
    w.settle()
    eq(steps(), [], "steps at level info")
    eq(w.cli("set", "log-level", "trace")[0], 0, "set log-level")
    eq(w.ask("GET /a").status, 200, "an answer")
    eq(w.ask("GET /b").status, 404, "one of weir's own")
    wait(lambda: sum(flow == "gone" for _, _, flow, _ in steps()) >= 2, "the requests end")
    seen = {}
    for id, step, flow, then in steps():
        seen.setdefault(id, []).append((step, flow, then))
    ids = [line["id"] for line in w.access(3)][1:]
    ok(set(ids) <= set(seen), "by the ids of the access log", (ids, seen))
    first, second = seen[ids[0]], seen[ids[1]]
    eq(first[:4], [("early", "more", "request"), ("request", "more", "peer"), ("peer", "more", "connect"), first[3]], "the way of a request")
    ok(("connect", "more", "exchange") in first and ("exchange", "wait", None) in first, "and on", first)
    eq(first[-1], ("finish", "gone", None), "to its end")
    ok(("fail", "more", "exchange") in second, "one that is refused", second)
    eq(w.cli("set", "log-level", "info")[0], 0, "set log-level")
    before = len(steps())
    eq(w.ask("GET /a").status, 200, "an answer")
    w.settle()
    eq(len(steps()), before, "steps at level info again")


@story
def a_share_of_the_requests(lab):
    # 25 % of 2000: 500, give or take 5 standard deviations of 19.4.
    w = lab.weir(lab.upstream(), access_log={"sample": "25%"})
    count = 2000
    with w.client() as c:
        for first in range(0, count, 50):
            c.send(b"".join(text_of("GET /%d" % (first + i)) for i in range(50)))
            for _ in range(50):
                eq(c.response().status, 200, "status")
    w.settle()
    time.sleep(0.2 * SLOW)
    lines = w.access()
    ok(400 <= len(lines) <= 600, "a quarter of them", len(lines))
    paths = {line["path"] for line in lines}
    eq(len(paths), len(lines), "each once")
    halves = sum(int(p[1:]) < count // 2 for p in paths)
    ok(len(lines) * 0.35 < halves < len(lines) * 0.65, "all along, not only at the beginning", halves)
    eq(w.metric("weir_requests_total"), count, "metrics count all of them")


@story
def all_or_none_of_the_requests(lab):
    for sample, lines in (("100%", 40), ("0%", 0)):
        w = lab.weir(lab.upstream(), access_log={"sample": sample})
        for i in range(40):
            w.ask("GET /%d" % i)
        w.settle()
        time.sleep(0.2 * SLOW)
        eq(len(w.access()), lines, "sample: %s" % sample)


main()
