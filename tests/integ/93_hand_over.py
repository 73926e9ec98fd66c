#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An upgrade hands plaintext tunnels over: whoever serves now goes on with them, whoever moved their bytes before."""
import os
import signal
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from certs import Authority  # noqa: E402
from weirlab import SLOW, Skip, eq, lives, main, may_use_bpf, mirror, ok, story, wait  # noqa: E402

TCP = {"protocol": "tcp"}
LONG = {"drain": "60s", "tunnels": "60s"}
BLOCK = os.urandom(1 << 16)
# A BPF filesystem that nobody else sees: pins are shared by both proxies.
MOUNT = ("unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount -t bpf bpf /sys/fs/bpf && exec "$0" "$@"')


def say(c, text):
    c.send(text)
    eq(c.take(len(text)), text, "what comes back")


def upgrade(w):
    """The pid of the proxy before."""
    old, count = w.pid, w.log().count("draining")
    w.kick(signal.SIGUSR2)
    wait(lambda: w.log().count("draining") > count, "the upgrade")
    return old


def rows(w):
    return [row for row in w.admin("/v1/splice").json()["connections"] if row["what"] == "tunnel"]


def handed(lab, mover, kernel, wrap=()):
    w = lab.weir(lab.upstream(script=mirror), listener=TCP, kernel=kernel, shutdown=LONG, wrap=wrap)
    clients = [w.client() for _ in range(10)]
    for c in clients:
        say(c, BLOCK * 4)
    wait(lambda: w.metric("weir_splice_active", mover=mover) >= 10, "moved by it")
    half = clients[0]
    half.half()
    eq(half.rest(), b"", "the end of the one that is over")
    old = upgrade(w)
    wait(lambda: not lives(old), "nothing is left there")
    eq(w.access(1)[1:], [], "none has ended")
    for c in clients[1:]:
        say(c, b"behind")
    eq(len(rows(w)), 9, "the new one has them")
    for c in clients[1:]:
        say(c, BLOCK * 4)
    ok(w.metric("weir_splice_kept") >= 9, "they are kept, too")
    lines = w.access(1)
    for c in clients[1:]:
        c.half()
        eq(c.rest(), b"", "the end")
        c.close()
    lines = w.access(10)
    ok(not any("error" in line for line in lines), "clean ends", lines)
    eq(sorted(line["bytes_in"] for line in lines)[1:], [8 * len(BLOCK) + 6] * 9, "all their bytes, in one line")
    wait(lambda: w.metric("weir_splice_kept") == 0, "nothing is kept")
    w.stop()


@story
def copied(lab):
    handed(lab, "copy", {"splice": "copy"})


@story
def by_pipe(lab):
    handed(lab, "pipe", {"splice": "pipe"})


@story
def in_the_kernel(lab):
    if not may_use_bpf():
        raise Skip("this process may not use BPF")
    handed(lab, "sockmap", {"splice": "sockmap", "sockmap_after": 0}, wrap=MOUNT)


@story
def in_the_kernel_by_maps_of_its_own(lab):
    # Nothing is pinned: they come back into the process first.
    if not may_use_bpf():
        raise Skip("this process may not use BPF")
    handed(lab, "sockmap", {"splice": "sockmap", "sockmap_after": 0})


@story
def tls_lives_on(lab):
    ca = Authority(lab)
    pair = ca.issue("a.test")
    w = lab.weir(lab.upstream(script=mirror), listener={**TCP, "tls": {"cert": pair[0], "key": pair[1]}}, shutdown=LONG)
    with w.client(tls=ca.client(), sni="a.test") as c:
        say(c, b"hello")
        old = upgrade(w)
        say(c, b"through the old process")
        ok(lives(old), "which is there for it")
    wait(lambda: not lives(old), "and ends with it")


@story
def under_load(lab):
    # Small pieces to and fro all the time, and four upgrades.
    w = lab.weir(lab.upstream(script=mirror), listener=TCP, shutdown=LONG)
    until, failed, clients = threading.Event(), [], [w.client() for _ in range(16)]

    def talk(c):
        c.sock.settimeout(60 * SLOW)
        try:
            while not until.is_set():
                say(c, BLOCK[:500])
        except Exception as e:  # pylint: disable=broad-except
            failed.append(repr(e))
    threads = [threading.Thread(target=talk, args=(c,)) for c in clients]
    for t in threads:
        t.start()
    for n in range(4):
        old = upgrade(w)
        wait(lambda pid=old: not lives(pid), "all are handed over")
        wait(lambda count=n + 1: w.log().count("the keeper is weir") == count, "the keeper, too")
    until.set()
    for t in threads:
        t.join()
    eq(failed, [], "none is cut")
    eq(len(rows(w)), 16, "they are all here")
    for c in clients:
        c.close()


main()
