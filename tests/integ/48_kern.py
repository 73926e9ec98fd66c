#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tunnels that the kernel moves: who gets there and who does not, what is told of it, and that nothing of it is left."""
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from certs import Authority  # noqa: E402
from weirlab import SLOW, eq, has, main, may_use_bpf, mirror, ok, story, wait  # noqa: E402

TCP = {"protocol": "tcp"}
SOCKMAP = {"splice": "sockmap"}
AT_ONCE = {"splice": "sockmap", "sockmap_after": 0}
BLOCK = os.urandom(1 << 16)


def moving(w, count):
    wait(lambda: w.metric("weir_splice_active", mover="sockmap") == count, "%d directions in the kernel" % count)


def say(c, text):
    c.send(text)
    eq(c.take(len(text)), text, "what comes back")


@story
def rule_14_only_what_lasts(lab):
    # A short connection is copied; one that stays goes into the kernel, and is told as such.
    w = lab.weir(lab.upstream(script=mirror), listener=TCP, kernel=SOCKMAP)
    has(w.log(), "splice: sockmap: loaded", "the log")
    with w.client() as c:
        say(c, b"short")
    eq(w.access(1)[0]["mover"], "copy", "a short one")
    with w.client() as c:
        say(c, b"first")
        moving(w, 2)
        for i in range(50):
            say(c, b"%d" % i * 100)
        say(c, BLOCK)
    line = w.access(2)[1]
    eq((line["mover"], line["bytes_in"], line["bytes_out"]), ("sockmap", len(BLOCK) + 9005, len(BLOCK) + 9005), "a long one")
    ok("error" not in line, "a clean end", line)
    w.settle(True)
    eq(w.metric("weir_splice_active", mover="sockmap"), 0, "nothing is left")
    eq(w.metric("weir_bytes_total", mover="sockmap", side="down", direction="in"), len(BLOCK) + 9000, "counted")


@story
def hashed_both_ways_and_a_slow_reader(lab):
    # Rules 1, 9: a client that stands for a while gets every byte, and a clean end behind the last.
    def script(c):
        sent = hashlib.sha256()

        def send():
            for i in range(400):
                c.send(BLOCK[i:])
                sent.update(BLOCK[i:])
            c.half()
        writer = threading.Thread(target=send)
        writer.start()
        got = hashlib.sha256()
        while c.more():
            got.update(c.buffer)
            c.buffer = b""
        writer.join()
        digests.append((sent.hexdigest(), got.hexdigest()))
    digests = []
    w = lab.weir(lab.upstream(script=script), listener=TCP, kernel=AT_ONCE)
    for pause in (0, 1):
        sent, got = hashlib.sha256(), hashlib.sha256()
        with w.client(rcvbuf=65536) as c:
            c.sock.settimeout(60 * SLOW)

            def send():
                for i in range(300):
                    c.send(BLOCK[i * 7:])
                    sent.update(BLOCK[i * 7:])
            writer = threading.Thread(target=send)
            writer.start()
            time.sleep(pause)
            more = True
            while more:
                more = c.more()
                got.update(c.buffer)
                c.buffer = b""
            writer.join()
            c.half()
            wait(lambda: len(digests) == pause + 1, "the server's end", 60 * SLOW)
        eq((got.hexdigest(), sent.hexdigest()), digests[pause], "both hashes, pause %d" % pause)
    lines = w.access(2)
    eq([line["mover"] for line in lines], ["sockmap"] * 2, "who moved them")
    ok(not any("error" in line for line in lines), "clean ends", lines)


@story
def per_listener_and_route(lab):
    up = lab.upstream(script=mirror)
    w = lab.weir(up, listener={**TCP, "splice": "sockmap"}, kernel={"sockmap_after": 0})
    with w.client() as c:
        say(c, b"by the listener")
        moving(w, 2)
    w = lab.weir(up, listener={**TCP, "splice": "sockmap"}, route={"splice": "copy"}, kernel=AT_ONCE)
    with w.client() as c:
        say(c, b"not by this route")
        time.sleep(0.5)
        say(c, b"still not")
    eq(w.access(1)[0]["mover"], "copy", "the route's word counts")


@story
def tls_is_not_moved(lab):
    ca = Authority(lab)
    pair = ca.issue("a.test")
    w = lab.weir(lab.upstream(script=mirror), listener={**TCP, "tls": {"cert": pair[0], "key": pair[1]}}, kernel=AT_ONCE)
    with w.client(tls=ca.client(), sni="a.test") as c:
        say(c, b"secret")
    eq(w.access(1)[0]["mover"], "copy", "TLS")
    ok(w.metric("weir_splice_fallback_total", reason="tls") > 0, "and why")


@story
def ends_that_are_waited_for(lab):
    # Idle ones end by timeouts.tunnel, in the kernel as elsewhere; bytes that the kernel moves are no idleness.
    w = lab.weir(lab.upstream(script=mirror), listener=TCP, kernel=AT_ONCE, timeouts={"tunnel": "%dms" % (900 * SLOW)})
    with w.client() as c:
        for _ in range(12):
            time.sleep(0.2 * SLOW)
            say(c, b"alive")
        try:
            ok(not c.more(), "nothing more")
            clean = True
        except ConnectionError:
            clean = False
        ok(not clean, "RST, no clean end")
    line = w.access(1)[0]
    eq((line["mover"], line["error"]["code"], line["bytes_in"]), ("sockmap", "ETIMEDOUT", 60), "the log")


@story
def many_and_a_stop(lab):
    # A stop in the middle ends them by RST, and nothing is left in the kernel (stop() of the lab looks at bugs).
    up = lab.upstream(script=mirror)
    w = lab.weir(up, listener=TCP, kernel=AT_ONCE, shutdown={"tunnels": "200ms", "drain": "200ms"})
    clients = [w.client() for _ in range(40)]
    for c in clients:
        say(c, b"x" * 1000)
    moving(w, 80)
    for c in clients:
        say(c, b"y" * 1000)
    w.stop()
    for c in clients:
        try:
            ok(not c.more(), "nothing more")
        except ConnectionError:
            pass
        c.close()


@story
def pins_and_who_comes_after(lab):
    # The keeper holds it: a proxy that died is followed by one that has it too, an upgrade's has rings of its own, and a
    # stop leaves nothing. In a mount namespace with a BPF filesystem that nobody else sees.
    mount = ("unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount -t bpf bpf /sys/fs/bpf && exec "$0" "$@"')
    w = lab.weir(lab.upstream(script=mirror), listener=TCP, kernel=AT_ONCE, wrap=mount)
    has(w.log(), "pins are in /sys/fs/bpf/weir/", "the log")
    space = os.open("/proc/%d/ns/mnt" % w.process.pid, os.O_RDONLY)

    def there(*command):
        return subprocess.run(["nsenter", "--mount=/proc/self/fd/%d" % space, *command], pass_fds=[space], capture_output=True, text=True,
                              check=False)

    def pinned(version="v1"):
        found = there("find", "/sys/fs/bpf/weir", "-type", "f").stdout.split()
        return sorted(path.split("/%s/" % version)[1] for path in found if "/%s/" % version in path)

    def moves(what):
        with w.client() as c:
            say(c, what)
            moving(w, 2)
            say(c, what * 100)
        wait(lambda: w.metric("weir_splice_active", mover="sockmap") == 0, "it ends")
    try:
        eq(pinned(), ["links/weir_splice"] + ["maps/weir_sp_" + name for name in ("count", "dst", "flow", "held", "pair", "ring", "src")] +
           ["progs/weir_splice"], "the pins")
        moves(b"the first proxy")
        old = w.pid
        os.kill(old, signal.SIGKILL)
        wait(lambda: w.pid not in (old, w.process.pid), "another proxy")
        moves(b"the second proxy")
        of_another_abi = "/sys/fs/bpf/weir/%s/v0" % w.instance  # as if what is upgraded were of another version
        there("mkdir", "-p", of_another_abi + "/maps")
        there("bpftool", "map", "create", of_another_abi + "/maps/old", "type", "hash", "key", "4", "value", "4", "entries", "1", "name", "old")
        with w.client() as c:
            say(c, b"before the upgrade")
            moving(w, 2)
            before = w.pid
            w.kick(signal.SIGUSR2)
            wait(lambda: w.pid not in (before, w.process.pid) and "serves now" in w.log(), "the upgrade")
            say(c, b"the old proxy's tunnel goes on")
            moves(b"the new proxy's")
            eq((len(pinned()), pinned("v0")), (9, ["maps/old"]), "the pins stay, those of its ABI too")
        wait(lambda: not pinned("v0"), "they go with the last process that may need them")
        eq(len(pinned()), 9, "and no others")
        w.stop()
        eq(pinned(), [], "and go with the end")
    finally:
        os.close(space)


@story
def without_rights(lab):
    # It says what it does without, and does it.
    if os.geteuid() != 0:
        return
    up = lab.upstream(script=mirror)
    w = lab.weir(up, listener=TCP, kernel=AT_ONCE,
                 wrap=("setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin", "--inh-caps=-bpf,-perfmon,-sys_admin"))
    has(w.log(), "splice: sockmap: the sockmap program is not loaded", "why")
    with w.client() as c:
        say(c, b"copied")
    eq(w.access(1)[0]["mover"], "copy", "all the same")
    ok(w.metric("weir_splice_fallback_total", reason="no_kernel") > 0, "and counted")


@story
def the_doctor_tries_it(lab):
    status, out, _ = lab.cli("doctor")
    line = next(text for text in out.splitlines() if "splice: sockmap" in text)
    ok(line.startswith("ok"), "the doctor's finding", line)
    for word in ("both directions", "bytes queued before", "poll wake-up", "half-close", "large transfer", "bound held", "leaving"):
        has(line, word, "a self-test")
    has(lab.cli("kern", "status", "-i", "nobody", check=0)[1], "nothing of weir is pinned", "kern status")


if not may_use_bpf():
    print("skipped: this process may not use BPF")
    sys.exit(77)
main()
