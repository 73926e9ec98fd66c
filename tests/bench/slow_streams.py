#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What 100 streams of HTTP/2 that stand still cost a proxy, and a 101st beside them.

  slow_streams.py [--proxy weir,nginx,haproxy] [--only memory,speed] [--rounds 7] [--base PORT]

One client connection, 100 streams of 1 GiB each, and nobody takes them:
  windows  the client reads its socket, and never opens a stream's window of 64 KiB again
  wide     the same, with stream windows of 1 MiB
  closed   the same, with stream windows of 0
  socket   the client does not read its socket
  upload   the client sends, and the upstream opens no window and reads no socket
Memory: growth of the proxy's PSS (smaps_rollup) from idle and warm to when nothing moves any more, a stream, and the
highest that was seen meanwhile. Speed: the 101st stream on that connection (256 MiB, by a client in C whose window is
always open) beside the 100, against the same stream on a connection that has no other: by turns, the median of the
ratios. $WEIR, or build/release/weir, is what is measured; its `echo` is the origin. Prints a Markdown table.
"""
import argparse
import os
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--proxy", default="weir")
ap.add_argument("--only", default="memory,speed")
ap.add_argument("--workers", default="1,2")
ap.add_argument("--rounds", type=int, default=7)
ap.add_argument("--streams", type=int, default=100)
ap.add_argument("--base", type=int, default=18500, help="the first of three ports")
a = ap.parse_args()
HERE = os.path.dirname(os.path.abspath(__file__))
WEIR = os.path.abspath(os.environ.get("WEIR", "build/release/weir"))
SLOW, FAST = "/bytes/%d" % (1 << 30), "/bytes/%d" % (256 << 20)
FRONT, ORIGIN, SINK = a.base, a.base + 1, a.base + 2
PATIENCE = 90
WINDOWS = {"windows": 65535, "wide": 1 << 20, "closed": 0, "socket": 65535, "upload": 65535}

CONFIG = {
    "weir": """
instance: slow
workers: %(workers)d
listeners:
  web: { bind: "127.0.0.1:%(front)d", to: up }
upstreams:
  up: { servers: [ "127.0.0.1:%(up)d" ], protocol: %(protocol)s }
limits: { streams: 200 }
access_log: off
shutdown: { announce: 0s, drain: 1s }
""",
    "nginx": """
user root; daemon off; worker_processes %(workers)d; pid %(dir)s/pid; error_log %(dir)s/log crit;
events { worker_connections 4096; }
http {
    access_log off; client_max_body_size 0; http2_max_concurrent_streams 200;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_max_temp_file_size 0; proxy_request_buffering off;
    client_body_temp_path %(dir)s/1; proxy_temp_path %(dir)s/2; fastcgi_temp_path %(dir)s/3; uwsgi_temp_path %(dir)s/4; scgi_temp_path %(dir)s/5;
    upstream up { server 127.0.0.1:%(up)d; keepalive 200; }
    server { listen 127.0.0.1:%(front)d http2; location / { proxy_pass http://up; } }
}
""",
    "haproxy": """
global
    nbthread %(workers)d
    tune.h2.max-concurrent-streams 200
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option http-keep-alive
    http-reuse always
frontend web
    bind 127.0.0.1:%(front)d proto h2
    default_backend up
backend up
    server a 127.0.0.1:%(up)d %(proto)s
""",
}
COMMAND = {"weir": [WEIR, "run", "--single", "-c"], "nginx": ["nginx", "-c"], "haproxy": ["haproxy", "-db", "-f"]}


def wait_for(port):
    end = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > end:
                sys.exit("nobody listens on port %d" % port)
            time.sleep(0.02)


class Process:
    def __init__(self, command, port=None, **kw):
        self.p = subprocess.Popen(command, start_new_session=True, **{"stderr": subprocess.DEVNULL, **kw})
        if port:
            wait_for(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.terminate()
        try:
            self.p.wait(10)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()

    def pids(self):
        """It and its children."""
        try:
            children = open("/proc/%d/task/%d/children" % (self.p.pid, self.p.pid)).read().split()
        except OSError:
            children = []
        return [self.p.pid] + [int(c) for c in children]

    def pss(self):
        """Bytes that are its own, in proportion where shared."""
        total = 0
        for pid in self.pids():
            for line in open("/proc/%d/smaps_rollup" % pid):
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
        return total


class Sink:
    """An origin for uploads that takes nothing: its HTTP/1 reads no socket, its HTTP/2 opens no stream's window."""

    def __init__(self, protocol):
        self.listener, self.conns = socket.create_server(("127.0.0.1", SINK), backlog=500), []
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.protocol, self.going = protocol, True
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while self.going:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self.conns.append(conn)
            if self.protocol == "h2":
                threading.Thread(target=self.talk, args=(conn,), daemon=True).start()

    def talk(self, conn):
        sys.path.append("/usr/lib/python3/dist-packages")
        import h2.config
        import h2.connection
        import h2.events
        h = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        h.initiate_connection()
        h.increment_flow_control_window(1 << 30)
        try:
            conn.sendall(h.data_to_send())
            while data := conn.recv(1 << 16):
                h.receive_data(data)
                conn.sendall(h.data_to_send())
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.going = False
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for conn in self.conns:
            conn.close()


class Client(Process):
    def __init__(self, count, path, kind):
        mode = {"socket": "deaf", "upload": "put"}.get(kind, "get")
        super().__init__([os.path.join(scratch, "h2_stall"), "127.0.0.1", str(FRONT), str(count), path, str(WINDOWS[kind]), mode],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None, text=True)

    def line(self, meanwhile=lambda: None):
        end = time.monotonic() + PATIENCE
        while not select.select([self.p.stdout], [], [], 0.02)[0]:
            meanwhile()
            if time.monotonic() > end:
                sys.exit("the client says nothing")
        words = self.p.stdout.readline().split()
        if not words:
            sys.exit("the client has failed")
        return words

    def get(self, path):
        """One stream as fast as it comes: (bytes, seconds)."""
        self.p.stdin.write(path + "\n")
        self.p.stdin.flush()
        status, size, seconds = self.line()
        if status != "200" or int(size) != int(path.rpartition("/")[2]):
            sys.exit("a wrong answer: %s, %s bytes" % (status, size))
        return int(size), float(seconds)


def proxy(name, protocol, workers, up):
    config = os.path.join(scratch, name + ".conf")
    with open(config, "w") as f:
        f.write(CONFIG[name] % dict(front=FRONT, up=up, protocol=protocol, workers=workers, dir=scratch,
                                    proto="proto h2" if protocol == "h2" else ""))
    return Process(COMMAND[name] + [config], FRONT, stdout=subprocess.DEVNULL, cwd=scratch)


def memory(name, protocol, workers, kind):
    """(held, highest) bytes a stream."""
    origin = Sink(protocol) if kind == "upload" else Process([WEIR, "echo", "--listen", "127.0.0.1:%d" % ORIGIN], ORIGIN, stdout=subprocess.DEVNULL)
    with origin, proxy(name, protocol, workers, SINK if kind == "upload" else ORIGIN) as p:
        if kind != "upload":  # pages that the first requests touch
            for _ in range(2 * workers):
                with Client(0, SLOW, "windows") as warm:
                    warm.line()
                    warm.get("/bytes/%d" % (8 << 20))
        time.sleep(1)
        before, peak = p.pss(), 0

        def look():
            nonlocal peak
            peak = max(peak, p.pss())
        with Client(a.streams, SLOW, kind) as c:
            c.line(look)
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                look()
                time.sleep(0.02)
            return (p.pss() - before) / a.streams, (peak - before) / a.streams


def speed(name, protocol, workers):
    """Ratios, and MB/s alone."""
    # An origin of weir's takes 100 streams on a connection: with 99 the fast one is on the same.
    slow = a.streams - (protocol == "h2")
    ratios, alones = [], []
    with Process([WEIR, "echo", "--listen", "127.0.0.1:%d" % ORIGIN], ORIGIN, stdout=subprocess.DEVNULL), proxy(name, protocol, workers, ORIGIN):
        for i in range(a.rounds):
            rate = {}
            for count in (0, slow) if i % 2 else (slow, 0):
                with Client(count, SLOW, "windows") as c:
                    c.line()
                    c.get("/bytes/%d" % (16 << 20))
                    size, seconds = c.get(FAST)
                    rate[count] = size / seconds / 1e6
            ratios.append(rate[slow] / rate[0])
            alones.append(rate[0])
    return ratios, alones


def spread(values):
    return (max(values) - min(values)) / 2


scratch = tempfile.mkdtemp(prefix="slow_streams-")
try:
    os.chmod(scratch, 0o755)
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", scratch + "/h2_stall", HERE + "/h2_stall.c", "-lnghttp2"], check=True)
    print("| proxy | upstream | workers | what | measured | bar |\n|---|---|---|---|---|---|", flush=True)
    for name in a.proxy.split(","):
        if not shutil.which(COMMAND[name][0]):
            print("| %s | | | not installed | | |" % name)
            continue
        for protocol in ("h1", "h2") if name != "nginx" else ("h1",):
            for workers in [int(n) for n in a.workers.split(",")]:
                for kind in WINDOWS if "memory" in a.only else ():
                    held, peak = memory(name, protocol, workers, kind)
                    print("| %s | %s | %d | memory, %s | %.0f KiB a stream, %.1f MiB in all (at most %.0f KiB) | 64, 8 |" % (
                        name, protocol, workers, kind, held / 1024, held * a.streams / (1 << 20), peak / 1024), flush=True)
                if "speed" in a.only:
                    ratios, alone = speed(name, protocol, workers)
                    print("| %s | %s | %d | speed of the 101st | %.2f ±%.2f of %.0f MB/s alone | 0.90 |" % (
                        name, protocol, workers, statistics.median(ratios), spread(ratios), statistics.median(alone)), flush=True)
finally:
    shutil.rmtree(scratch)
