#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The keeper and its proxy: who has which rights, and what outlives whom."""
import fcntl
import json
import os
import re
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from certs import Authority  # noqa: E402
from weirlab import HOST, PATIENCE, SLOW, Cut, Weir, address, dial, end_of, eq, folders, free_port, has, lives, main, ok, story, text_of, wait  # noqa: E402

ROOT = os.geteuid() == 0


def proc_status(pid):
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        return dict(re.findall(r"^(\w+):\s*(.*?)\s*$", f.read(), re.M))


def state_of(pid, task):
    with open("/proc/%d/task/%s/stat" % (pid, task), encoding="ascii", errors="replace") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


def open_files(pid):
    for fd in os.listdir("/proc/%d/fd" % pid):
        try:
            yield os.readlink("/proc/%d/fd/%s" % (pid, fd))
        except OSError:
            pass  # closed meanwhile


def served(w, what="served"):
    """A request on a new connection, which may have to wait for a proxy."""
    eq(w.ask("GET /").status, 200, what)


def killed(w):
    """The proxy, by SIGKILL; returns the pid of the next."""
    old = w.pid
    end_of(old)
    wait(lambda: w.pid not in (old, w.process.pid), "there is another proxy")
    return w.pid


@story
def children_of_others_are_reaped(lab):
    # Of the script that executed weir, and every orphan of a container whose first process weir is.
    w = lab.weir(lab.upstream(), wrap=["sh", "-c", 'sleep 0.3 & exec "$@"', "sh"])
    wait(lambda: len(w.children()) == 1, "the proxy alone is left")
    served(w)


@story
def signals_that_were_ignored(lab):
    # By who started weir: the ends of its children are told all the same.
    w = lab.weir(lab.upstream(), wrap=["env", "--ignore-signal=CHLD"])
    killed(w)
    served(w)


@story
def two_processes(lab):
    w = lab.weir(lab.upstream())
    status = w.status()
    eq((w.children(), status["pid"]), ([status["pid"]], w.pid), "the keeper's one child serves")
    eq(status["keeper"], {"pid": w.process.pid, "alive": True, "starts": 1}, "the keeper")
    eq((w.metric("weir_keeper_up"), w.metric("weir_proxy_starts_total")), (1, 1), "metrics")
    ok(not any(name.startswith("/memfd:weir") for name in open_files(w.pid)), "what was read of files is closed")
    # Signals are for the keeper: a terminal, or who ends a whole group, tells both.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(w.pid, number)
    served(w, "after signals to the proxy")
    proxy = w.pid
    w.stop()
    ok(not lives(proxy), "it has ended before its keeper")
    ok(not os.path.exists(w.socket), "the admin socket is gone")
    ok(not any(map(os.path.exists, folders(w.instance))), "and the lock")


@story
def rights_of_the_proxy(lab):
    # A port that only root may bind, a key that only root may read; and the one who serves is nobody.
    if not ROOT:
        return
    ca = Authority(lab)
    cert, key = ca.issue("weir.test")
    os.chmod(key, 0o600)
    low = "%s:%d" % (HOST, 99)
    w = lab.weir(lab.upstream(), user="nobody", listeners={"web": {"bind": low, "to": "app"},
                                                           "tls": {"bind": address(), "to": "app", "tls": {"cert": cert, "key": key}}})
    keeper, proxy = proc_status(w.process.pid), proc_status(w.pid)
    eq((keeper["Uid"].split()[0], set(proxy["Uid"].split())), ("0", {"65534"}), "who they are")
    eq([int(proxy[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")], [0] * 5, "capabilities")
    eq((proxy["NoNewPrivs"], proxy["Groups"] in ("", "65534")), ("1", True), "no new privileges, no group of root's")
    if "not wholly confined" not in w.log():  # a sanitizer, a kernel without
        eq(proxy["Seccomp"], "2", "system calls are filtered")
        has(w.log(), "confined: system calls by seccomp, files by Landlock", "it is told")
    served(w, "at the low port")

    def tls():
        with w.client("tls", tls=ca.client(), sni="weir.test") as c:
            eq(c.send(text_of("GET /")).response().status, 200, "by TLS")
    tls()
    # The next one has what was read at the start, whatever has become of it.
    os.unlink(key)
    os.unlink(cert)
    with open(w.file, "w", encoding="utf-8") as f:
        f.write("listeners: [")
    killed(w)
    served(w, "again")
    tls()


@story
def without_confinement(lab):
    w = lab.weir(lab.upstream(), confine="off")
    eq(proc_status(w.pid)["Seccomp"], "0", "no filter")
    ok("onfined" not in w.log(), "and nothing is told", w.log())
    w = lab.weir(lab.upstream(), confine="require", wait_ready=False)
    wait(lambda: "is ready" in w.log() or w.process.poll() is not None, "it starts, or not")
    if w.process.poll() is not None:
        has(w.log(), "`confine: require` asks for both", "why")
        w.stopped = True
        eq(w.process.returncode, 3, "this host lacks something")
    else:
        eq(proc_status(w.pid)["Seccomp"], "2", "a filter")


@story
def a_proxy_that_is_killed(lab):
    # Under load, by both kinds of listeners: no connection is refused. What was in flight is cut; all that comes later is served.
    path = "unix:" + lab.path("web.sock")
    w = lab.weir(lab.upstream(), listeners={"web": {"bind": [address(), path], "to": "app"}}, workers=2)
    going, refused, cut, good = True, [], [], []

    def load(to):
        while going:
            try:
                with dial(to) as c:
                    c.sock.settimeout(PATIENCE)
                    good.append(c.send(text_of("GET /", [("Connection", "close")])).response().status)
            except ConnectionRefusedError as e:
                refused.append(e)
            except (OSError, Cut) as e:
                cut.append(e)
    threads = [threading.Thread(target=load, args=(to,)) for to in (w.address, w.address, w.address, lab.path("web.sock"))]
    for t in threads:
        t.start()
    try:
        for n in range(4):
            before = len(good)
            wait(lambda: len(good) > before + 50, "requests are served")
            killed(w)
            wait(lambda: w.log().count("is ready") == n + 2, "another one is ready")
    finally:
        going = False
        for t in threads:
            t.join()
    eq(refused, [], "connections refused")
    ok(set(good) == {200}, "what was answered was right", set(good))
    ok(len(cut) <= 4 * len(threads) + 8, "only what was in flight was cut", len(cut))
    eq(w.log().count("was killed by signal 9"), 4, "it is told")
    eq((w.status()["keeper"]["starts"], w.metric("weir_proxy_starts_total")), (5, 5), "and counted")


@story
def what_waits_is_served(lab):
    # A connection that came while there was no proxy waits in the listener's queue.
    w = lab.weir(lab.upstream(), workers=1)
    os.kill(w.pid, signal.SIGSTOP)
    wait(lambda: all(state_of(w.pid, task) == "T" for task in os.listdir("/proc/%d/task" % w.pid)), "it has stopped")
    clients = [w.client().send(text_of("GET /")) for _ in range(10)]
    end_of(w.pid)
    eq([c.response().status for c in clients], [200] * 10, "served by the next one")


@story
def crashes_in_a_row(lab):
    # At once, then after 100, 200, 400 ms; and it is served in the end.
    w = lab.weir(lab.upstream())
    for n in range(4):
        end_of(w.pid)
        wait(lambda: w.log().count("is ready") == n + 2, "another one is ready")
    eq(re.findall(r"starting another one in (\d+) ms", w.log()), ["0", "100", "200", "400"], "delays")
    served(w)
    eq(w.status()["keeper"]["starts"], 5, "starts")
    end_of(w.pid)  # it stops while there is none
    wait(lambda: "in 800 ms" in w.log(), "the next delay")
    w.stop()


@story
def a_stop_between_two_proxies(lab):
    # One was killed, the next one starts: a stop then is as clean as any.
    for delay in (0, 2, 5, 10, 20):
        w = lab.weir(lab.upstream())
        os.kill(w.pid, signal.SIGKILL)
        wait(lambda: "starting another one" in w.log(), "it is known")
        time.sleep(delay / 1000 * SLOW)
        w.kick(signal.SIGTERM)  # at once: w.stop() asks the admin first, which waits for the next proxy
        eq(w.join(), 0, "exit status, %d ms later" % delay)
        w.stopped = True


@story
def a_keeper_that_is_killed(lab):
    # The proxy serves on and says so, a second daemon is refused with its pid; SIGTERM ends it, and then all is as before.
    w = lab.weir(lab.upstream(), user="nobody") if ROOT else lab.weir(lab.upstream())
    proxy = w.pid
    w.process.kill()
    w.process.wait()
    w.stopped = True
    try:
        wait(lambda: "the keeper is gone" in w.log(), "it is told")
        eq((w.metric("weir_keeper_up"), w.status()["keeper"]["alive"], w.status()["pid"]), (0, False, proxy), "in the admin too")
        served(w)
        status, _, err = w.cli("upgrade")
        eq(status, 1, "nobody upgrades it")
        has(err, "the keeper is gone", "why")
        status, _, err = lab.cli("run", "-c", w.file)
        eq(status, 1, "a second one")
        has(err, "runs already, with pid %d" % proxy, "whom to stop")
        os.kill(proxy, signal.SIGTERM)
        wait(lambda: not lives(proxy), "SIGTERM ends it")
        has(w.log(), "drained", "and drains it")
    finally:
        if lives(proxy):
            end_of(proxy)
    again = Weir(lab, w.config)
    served(again, "the next daemon")


@story
def one_process(lab):
    w = lab.weir(lab.upstream(), run=["--single"])
    eq((w.children(), w.status()["pid"], w.status()["keeper"]), ([], w.process.pid, None), "no keeper")
    eq([name for name in w.metrics() if "keeper" in name], [], "nor metrics of one")
    served(w)
    status, _, err = w.cli("upgrade")
    eq(status, 1, "upgrade")
    has(err, "no keeper", "why")
    w.kick(signal.SIGUSR2)
    wait(lambda: "no keeper that could upgrade" in w.log(), "by a signal")


@story
def a_start_that_fails(lab):
    # Nothing is left: no process, no lock, no socket; and the exit status says what kind of failure it was.
    path, admin = lab.path("web.sock"), lab.path("admin9.sock")
    taken = lab.upstream().address
    config = lab.config(lab.upstream(), listener={"bind": ["unix:" + path, taken]}, admin={"socket": admin})
    status, _, err = lab.cli("run", "-c", lab.write("weir.yaml", json.dumps(config)))
    eq(status, 1, "an address in use")
    has(err, "in use", "why")
    ok(not os.path.exists(path) and not os.path.exists(admin), "no socket is left")
    ok(not os.path.exists("/run/weir/" + config["instance"]), "no lock is left")
    eq(lab.cli("run", "--ready-timeout", "soon", "-c", lab.path("weir.yaml"))[0], 2, "no time")
    eq(lab.cli("run", "--ready-timeout", "2h", "-c", lab.path("weir.yaml"))[0], 2, "too long a time")


@story
def many_listeners(lab):
    # More sockets than one message takes: 80 addresses with 4 workers.
    first = free_port()
    binds = ["%s:%d" % (HOST, port) for port in range(20000 + first % 10000, 20000 + first % 10000 + 80)]
    w = lab.weir(lab.upstream(), listener={"bind": binds}, workers=4)
    killed(w)
    for bind in binds[::7]:
        with dial(bind) as c:
            eq(c.send(text_of("GET /")).response().status, 200, bind)


class Systemd:
    """What systemd does for a service: it hears what is told, keeps descriptors, and starts it anew with them."""

    def __init__(self, lab):
        self.name, self.told, self.kept = lab.path("notify.sock"), [], {}
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.name)
        threading.Thread(target=self.hear, daemon=True).start()

    def hear(self):
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.sock, 4096, 4)
            except OSError:
                return
            words = dict(line.partition("=")[::2] for line in data.decode().split("\n"))
            if "FDSTORE" in words:
                self.kept[words["FDNAME"]] = fds[0]
            elif "FDSTOREREMOVE" in words:
                for fd in [self.kept.pop(words["FDNAME"], None)]:
                    if fd is not None:
                        os.close(fd)
            self.told.append(words)

    def environment(self):
        """For who is started anew: the descriptors go to 3 and on, before it is executed."""
        names = list(self.kept)
        fds = [fcntl.fcntl(self.kept[n], fcntl.F_DUPFD, 500) for n in names]
        script = "import os, sys\nfor i in range(%d): os.dup2(500 + i, 3 + i, True)\nos.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='%d', LISTEN_FDNAMES=%r)\nos.execv(sys.argv[1], sys.argv[1:])"
        eq(fds, list(range(500, 500 + len(fds))), "free numbers")
        return fds, [sys.executable, "-c", script % (len(fds), len(fds), ":".join(names))]

    def close(self):
        self.sock.close()
        for fd in self.kept.values():
            os.close(fd)


@story
def systemd_keeps_the_sockets(lab):
    # The keeper is killed, and what is left of it: connections that come then are served by those who are started anew.
    systemd = Systemd(lab)
    os.environ["NOTIFY_SOCKET"] = systemd.name
    try:
        w = lab.weir(lab.upstream(), listeners={"web": {"bind": [address(), "unix:" + lab.path("web.sock")], "to": "app"}}, workers=2)
        wait(lambda: "weir-manifest" in systemd.kept, "the sockets are kept")
        eq(sum("READY" in words for words in systemd.told), 1, "READY")
        eq(len(systemd.kept), 6, "two of each address, the admin's, and what they are: %s" % systemd.kept)
        w.kill()
        w.stopped = True
        waiting = [dial(w.address).send(text_of("GET /", [("Connection", "close")])) for _ in range(5)]
        fds, wrap = systemd.environment()
        for fd in fds:
            os.set_inheritable(fd, True)
        again = Weir(lab, w.config, wrap=wrap, close_fds=False)
        for fd in fds:
            os.close(fd)
        eq([c.response().status for c in waiting], [200] * 5, "those who waited")
        has(again.log(), "systemd has kept the listening sockets", "it says so")
        eq((again.admin("/healthz").status, again.ask("GET /").status), (200, 200), "and the others")
        wait(lambda: len(systemd.kept) == 6 and systemd.told[-1].get("FDNAME") == "weir-manifest", "they are kept anew")
        again.stop()
    finally:
        del os.environ["NOTIFY_SOCKET"]
        systemd.close()


@story
def systemd_is_told(lab):
    # READY when it serves, by the keeper, which is who it has started; STOPPING at the end.
    name = lab.path("notify.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(name)
        notify.settimeout(PATIENCE)
        os.environ["NOTIFY_SOCKET"] = name
        try:
            w = lab.weir(lab.upstream())
        finally:
            del os.environ["NOTIFY_SOCKET"]
        has(notify.recv(4096).decode().split("\n"), "READY=1", "at the start")
        with open("/proc/%d/environ" % w.pid, "rb") as f:
            ok(b"NOTIFY_SOCKET" not in f.read(), "the proxy can not speak in its name")
        killed(w)
        served(w)
        w.kick(signal.SIGTERM)
        wait(lambda: "STOPPING=1" in notify.recv(4096).decode().split("\n"), "at the end")
        eq(w.join(), 0, "exit status")


main()
