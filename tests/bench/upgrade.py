#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Twenty upgrades under load between two binaries, then a broken binary and a broken configuration: does any request fail, is
any plaintext tunnel cut?

  upgrade.py [-n UPGRADES] [--clients N] [--tunnels N] [BINARY OTHER]      about a minute; prints a line for docs/performance.md

client processes (kept connections, new ones; tunnels) ── weir ── upstream processes
After each the other version is to be seen in /v1/status within two seconds. Tunnels say something all the time, and what comes
back is what they said.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests/tools"))
options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
options.add_argument("-n", type=int, default=20)
options.add_argument("--clients", type=int, default=3)
options.add_argument("--tunnels", type=int, default=50)
options.add_argument("--splice", default="auto", help="kernel.splice of the tunnels")
options.add_argument("binary", nargs="?", default=os.path.join(TOP, "build/release/weir"))
options.add_argument("other", nargs="?", default=os.path.join(TOP, "build/release/tools/weir_next"))
args = options.parse_args()
os.environ["WEIR"] = args.binary
from load import Load, main, mirror, spawn, tunnels, upstream  # noqa: E402
from weirlab import address  # noqa: E402


def put(lab, binary):
    """As a package manager does: a new file under the old name."""
    shutil.copy(binary, lab.path("weir.new"))
    os.rename(lab.path("weir.new"), lab.path("weir"))
    return lab.path("weir")


def version(binary):
    return json.loads(subprocess.run([binary, "version", "-j"], capture_output=True, text=True, check=True).stdout)["version"]


def serves(w, want, seconds):
    """Milliseconds until that version answers."""
    started = time.monotonic()
    while w.status()["version"] != want:
        if time.monotonic() - started > seconds:
            raise SystemExit("version %s is not seen within %d s" % (want, seconds))
        time.sleep(0.005)
    return (time.monotonic() - started) * 1000


def broken(lab, w, before):
    """A binary that is none and a configuration that is wrong: refused, and the same process serves."""
    pid = w.status()["pid"]
    with open(lab.path("weir.new"), "wb") as f:
        f.write(os.urandom(4096))
    os.chmod(f.name, 0o755)
    os.rename(f.name, lab.path("weir"))
    said = [w.cli("upgrade")[0]]
    put(lab, before)
    with open(w.file, encoding="utf-8") as f:
        good = f.read()
    with open(w.file, "w", encoding="utf-8") as f:
        f.write(good.replace("workers", "wrokers"))
    said.append(w.cli("upgrade")[0])
    with open(w.file, "w", encoding="utf-8") as f:
        f.write(good)
    return said == [1, 1] and w.status()["pid"] == pid


def run(lab):
    ups = [address() for _ in range(2)]
    port = lambda a: (a.split(":")[0], int(a.split(":")[1]))  # noqa: E731
    workers = [spawn(upstream, port(ups[0])), spawn(mirror, port(ups[1]))]
    plain, through, binaries = address(), address(), [args.other, args.binary]
    w = lab.weir(binary=put(lab, args.binary), access_log="off", shutdown={"announce": 0, "drain": "5s", "tunnels": "10m"},
                 kernel={"splice": args.splice, "sockmap_after": 0},
                 upstreams={"app": {"servers": [ups[0]]}, "far": {"servers": [ups[1]]}},
                 listeners={"web": {"bind": plain, "to": "app"}, "tcp": {"bind": through, "protocol": "tcp", "to": "far"}})
    load = Load([(plain, False, True), (plain, False, False)] * args.clients)
    held = Load([(through, args.tunnels)], tunnels)
    time.sleep(1)
    asked, seen = [], []
    for i in range(args.n):
        started = time.monotonic()
        put(lab, binaries[i % 2])
        w.cli("upgrade", check=0)
        asked.append((time.monotonic() - started) * 1000)
        seen.append(asked[-1] + serves(w, version(binaries[i % 2]), 2))
    refused = broken(lab, w, binaries[(args.n - 1) % 2])
    load.end()
    held.end()
    for process in workers:
        process.terminate()
    seen.sort()
    print("%d upgrades, %d requests (%d/s) meanwhile: %d failed; %d tunnels, %d answers: %d cut; the other version is seen after %d ms "
          "(median), %d ms (slowest); a broken binary and a broken configuration change %s" %
          (args.n, load.count, load.rate, load.faults, args.tunnels, held.count, held.faults, seen[len(seen) // 2], seen[-1],
           "nothing" if refused else "SOMETHING"))
    return not load.faults and not held.faults and refused


if __name__ == "__main__":
    main(run)
