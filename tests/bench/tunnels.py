#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory of tunnels that do nothing: PSS of the process with N TCP tunnels after one echo each, less that of before, for each.

  tests/bench/tunnels.py [-n 5000] [--weir build/release/weir] [--settle 3] [--nginx]
"""
import argparse
import asyncio
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HOST = "127.24.0.1"


def pss(pid):
    """Of a process and its children, in bytes."""
    total = 0
    for child in [pid, *map(int, open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii").read().split())]:
        with open("/proc/%d/smaps_rollup" % child, encoding="ascii") as f:
            total += int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M)[1]) * 1024
    return total


async def echo(reader, writer):
    try:
        while data := await reader.read(4096):
            writer.write(data)
    except ConnectionError:
        pass
    writer.close()


async def wait_for(port):
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()
            return
        except ConnectionError:
            await asyncio.sleep(0.05)
    sys.exit("the proxy does not listen")


async def measure(args, pid, port):
    await wait_for(port)
    await asyncio.sleep(1)
    before = pss(pid)
    held = []
    for i in range(0, args.n, 100):
        batch = await asyncio.gather(*(asyncio.open_connection(HOST, port, limit=256) for _ in range(min(100, args.n - i))))
        for _, writer in batch:
            writer.write(b"x" * 64)
        for reader, _ in batch:
            await reader.readexactly(64)
        held += batch
    await asyncio.sleep(args.settle)
    after = pss(pid)
    for _, writer in held:
        writer.close()
    return before, after


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=5000)
    parser.add_argument("--weir", default="build/release/weir")
    parser.add_argument("--settle", type=float, default=3)
    parser.add_argument("--port", type=int, default=24000)
    parser.add_argument("--nginx", action="store_true", help="nginx instead")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    folder = tempfile.mkdtemp(prefix="weir-tunnels-")
    up = await asyncio.start_server(echo, HOST, args.port + 1, backlog=4096, limit=256)
    if args.nginx:
        text = ("load_module /usr/lib/nginx/modules/ngx_stream_module.so; daemon off; worker_processes 1; pid %s/pid; error_log stderr crit;"
                "events { worker_connections 30000; } stream { server { listen %s:%d backlog=4096; proxy_pass %s:%d; } }"
                % (folder, HOST, args.port, HOST, args.port + 1))
        command = ["nginx", "-c", folder + "/conf"]
    else:
        text = ("instance: tunnels-%d\nworkers: 1\naccess_log: off\nadmin: { socket: %s/socket }\nlisteners:\n  a: { bind: '%s:%d', protocol: tcp, to: b }\n"
                "upstreams:\n  b: { servers: ['%s:%d'] }\n" % (os.getpid(), folder, HOST, args.port, HOST, args.port + 1))
        command = [args.weir, "run", "-c", folder + "/conf"]
    with open(folder + "/conf", "w", encoding="ascii") as f:
        f.write(text)
    proxy = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        before, after = await measure(args, proxy.pid, args.port)
        print("%d tunnels: %.1f MiB before, %.1f MiB with them: %d bytes each" % (args.n, before / 2**20, after / 2**20, (after - before) / args.n))
    finally:
        proxy.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        proxy.kill()
        proxy.wait()
        up.close()
        shutil.rmtree(folder)
        sys.stdout.flush()
        os._exit(0)  # thousands of connections have nothing more to say


asyncio.run(main())
