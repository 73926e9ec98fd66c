#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A path that loses segments: what is sent again may begin with bytes that have come before, and a verdict is given those
too. Such a tunnel ends by RST: a byte that is wrong never comes out. Between two network namespaces, joined by a veth pair that drops 4 of 100 packets each way; they go with this process.

  client, upstream (here): 10.77.0.2 ── veth ── 10.77.0.1: weir
"""
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
import weirlab  # noqa: E402
from weirlab import SLOW, eq, free_port, main, may_use_bpf, ok, story, wait  # noqa: E402

HERE, THERE = "10.77.0.2", "10.77.0.1"
weirlab.HOST = HERE

DROP = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int drop(struct xdp_md *ctx) { return bpf_get_prandom_u32() % 100 < 4 ? XDP_DROP : XDP_PASS; }
char licence[] SEC("license") = "GPL";
"""


def echo(c):
    c.sock.settimeout(60 * SLOW)  # what is lost again and again comes late
    try:
        while c.more():
            data, c.buffer = c.buffer, b""
            c.send(data)
        c.half()
    except OSError:
        pass  # its tunnel was ended


def talk(c, seconds, seed, results):
    """Pieces of many sizes, some after a pause: then TCP makes segments of several of them when it sends again."""
    sent, got, dice = hashlib.sha256(), hashlib.sha256(), random.Random(seed)
    end, reset = time.monotonic() + seconds, []

    def write():
        try:
            while time.monotonic() < end:
                data = os.urandom(dice.choice((17, 100, 900, 1448, 3000, 20000)))
                c.send(data)
                sent.update(data)
                if dice.random() < 0.3:
                    time.sleep(dice.random() * 0.004)
            c.half()
        except OSError:  # the kernel tells it once: to this thread or to the other
            reset.append(True)
    c.sock.settimeout(60 * SLOW)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        while c.more():
            got.update(c.buffer)
            c.buffer = b""
    except ConnectionError:
        reset.append(True)
    writer.join()
    results.append("cut" if reset else "whole" if sent.hexdigest() == got.hexdigest() else "wrong")


@story
def rule_19_a_path_that_loses(lab):
    w = lab.weir(lab.upstream(script=echo), listener={"protocol": "tcp", "bind": "%s:%d" % (THERE, free_port())},
                 kernel={"splice": "sockmap", "sockmap_after": 0}, wrap=("nsenter", "--net=/proc/%d/ns/net" % FAR.pid))
    results, clients = [], [w.client() for _ in range(12)]
    threads = [threading.Thread(target=talk, args=(c, 6, seed, results)) for seed, c in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for c in clients:
        c.close()
    lines = w.access(12)
    eq({line.get("error", {}).get("code") for line in lines} - {None, "ETWICE"}, set(), "why any was ended")
    ok(sum(line["retrans"] for line in lines) > 20, "segments were lost", lines)
    ok("whole" in results and "wrong" not in results, "every byte in order, or a reset", results)
    eq(sum(line.get("error") is not None for line in lines), results.count("cut"), "as many in the log")
    print("      %d of 12 were ended" % results.count("cut"))
    wait(lambda: w.metric("weir_splice_active", mover="sockmap") == 0, "nothing is left")


def lossy():
    """This process, in such a namespace."""
    if not may_use_bpf() or os.geteuid() != 0:
        print("skipped: this process may not use BPF")
        sys.exit(77)
    if os.environ.get("WEIR_TEST_LOSSY") != "yes":  # of mounts, too: ip mounts a BPF filesystem where there is none
        os.environ["WEIR_TEST_LOSSY"] = "yes"
        os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, "-B", *sys.argv])
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/drop.c", "w", encoding="ascii") as f:
            f.write(DROP)
        machine = subprocess.run(["cc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
        subprocess.run(["clang", "-target", "bpf", "-O2", "-g", "-idirafter", "/usr/include/" + machine, "-c", folder + "/drop.c",
                        "-o", folder + "/drop.o"], check=True)
        far = subprocess.Popen(["unshare", "--net", "sleep", "600"])
        wait(lambda: os.readlink("/proc/%d/ns/net" % far.pid) != os.readlink("/proc/self/ns/net"), "another namespace")
        there = ["nsenter", "--net=/proc/%d/ns/net" % far.pid]
        subprocess.run(["ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(far.pid)], check=True)
        for enter, name, address in (([], "near", HERE), (there, "far", THERE)):
            for command in (["link", "set", "lo", "up"], ["addr", "add", address + "/24", "dev", name], ["link", "set", name, "up"],
                            ["link", "set", name, "xdp", "obj", folder + "/drop.o", "sec", "xdp"]):
                subprocess.run([*enter, "ip", *command], check=True)
    return far


FAR = lossy()
try:
    main()
finally:
    FAR.kill()
