#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures weir against its peers and prints the table of docs/performance.md.

  measure.py [--bench ../shared/bench] [--out DIR] [--quick] [--only NAME,..] [--print]

Every figure is a ratio within one run of the bench, or counted (bytes, system calls, connections), or a median of 20
starts. Run it as root from the repository root, with a release build, on a machine that does nothing else.
--print only prints what an earlier run left in DIR. Parts: cost rate storm idle reuse calls start h2, and pingora (its
contender is built by cargo, some minutes, the first time). h2 runs h2_beside.py and h2_far.py as well.
"""
import argparse, json, os, statistics, subprocess, sys, tempfile, time, socket

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--bench", default="../shared/bench"); ap.add_argument("--out", default="/tmp/weir-measure")
ap.add_argument("--quick", action="store_true"); ap.add_argument("--only"); ap.add_argument("--print", action="store_true", dest="show")
a = ap.parse_args()
import h2_beside, h2_far, contest
WEIR = os.path.abspath(os.environ.get("WEIR", "build/release/weir"))
COST = "h1-small h1-1k-64conn scale-1000 h1-body-64k h1-body-1m h1-close tls-h1-small tls-h1-1m tls-full-rsa tls-full-ecdsa tls-resumed"
RATE = "h1-small h1-1k-64conn h1-chunked-1k h1-body-64k h1-body-1m h1-close tls-h1-small tls-h1-1m tls-full-rsa tls-full-ecdsa tls-resumed h1-small-w2"
#       row, scenario, mode, key, base, bar, aim
ROWS = [
    ("CPU a request", "h1-small", "closed", "cost", "nginx", .85, .70), ("CPU a request", "h1-small", "closed", "cost", "haproxy", .85, .70),
    ("CPU a request", "h1-1k-64conn", "closed", "cost", "nginx", .85, .70), ("CPU a request", "h1-1k-64conn", "closed", "cost", "haproxy", .85, .70),
    ("CPU a request", "h1-small", "closed", "cost", "pingora", .42, .33), ("CPU a request", "h1-1k-64conn", "closed", "cost", "pingora", .42, .33),
    ("CPU a request", "scale-1000", "closed", "cost", "nginx", .85, .70), ("CPU a request", "scale-1000", "closed", "cost", "haproxy", .85, .70),
    ("CPU a request", "h1-body-64k", "closed", "cost", "nginx", 1.0, .85), ("CPU a GB", "h1-body-1m", "closed", "cost", "nginx", 1.0, .95),
    ("CPU a request", "h1-close", "closed", "cost", "h2o", 1.0, .95),
    ("CPU a request", "tls-h1-small", "closed", "cost", "nginx", .90, .75), ("CPU a request", "tls-h1-small", "closed", "cost", "haproxy", .90, .75),
    ("CPU a GB", "tls-h1-1m", "closed", "cost", "nginx", 1.0, .9),
    ("CPU a handshake", "tls-full-rsa", "closed", "cost", "nginx", 1.0, .95), ("CPU a handshake", "tls-full-ecdsa", "closed", "cost", "nginx", 1.0, .95),
    ("CPU a handshake", "tls-resumed", "closed", "cost", "nginx", .80, .72),
    ("CPU a request", "h2-m1", "closed", "h2", "haproxy", .95, .75), ("CPU a request", "h2-m10", "closed", "h2", "haproxy", .95, .75),
    ("CPU a request", "h2-m100", "closed", "h2", "haproxy", .95, .75), ("CPU a request", "h2-to-h2", "closed", "h2", "nghttpx", 1.0, .80),
    ("CPU a request", "grpc-unary", "closed", "h2", "haproxy", .95, .75),
    ("p99 of others", "storm-w1", "rate", "p99", "haproxy", 1.0, .5), ("p99 of others", "storm-w2", "rate", "p99", "haproxy", 1.0, .5),
] + [("p99 at a fixed rate", s, "rate", "p99", b, 1.2, .9) for s in RATE.split() for b in ("nginx", "haproxy")]


def bench(part, *args):
    out = os.path.join(a.out, part)
    cmd = [sys.executable, os.path.join(a.bench, "bench.py"), "-o", out, *args]
    print("$", " ".join(cmd), flush=True)
    tools = os.path.join(a.out, "tools")      # contenders are installed once for all parts
    os.makedirs(tools, exist_ok=True); os.makedirs(out, exist_ok=True)
    if not os.path.exists(os.path.join(out, "tools")): os.symlink(tools, os.path.join(out, "tools"))
    subprocess.run(cmd, check=True, env=dict(os.environ, WEIR=WEIR), stdout=subprocess.DEVNULL)


def rss_kib(pid): return int(next(l for l in open("/proc/%d/status" % pid) if l.startswith("VmRSS")).split()[1])


def children(pid): return [int(c) for c in open("/proc/%d/task/%d/children" % (pid, pid)).read().split()]


def start():
    """exec to the first whole 200, one plain and one TLS listener, and VmRSS of both processes then: 20 times."""
    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        up = subprocess.Popen([WEIR, "echo", "--listen", "127.0.0.1:18980"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=bench.test", "-keyout", d + "/k", "-out", d + "/c"], check=True, capture_output=True)
        os.chmod(d + "/k", 0o644)
        open(d + "/w.yaml", "w").write('instance: measure\nlisteners:\n  h1: { bind: "127.0.0.1:18981", to: up }\n  tls: { bind: "127.0.0.1:18982", to: up, tls: { cert: c, key: k } }\n'
                                       'upstreams:\n  up: { servers: ["127.0.0.1:18980"] }\naccess_log: off\nshutdown: { announce: 0s }\n')
        ms, rss = [], []
        time.sleep(.3)
        for _ in range(20):
            t = time.monotonic()
            p = subprocess.Popen([WEIR, "run", "--single", "-c", d + "/w.yaml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while True:
                try:
                    s = socket.create_connection(("127.0.0.1", 18981), 1); s.sendall(b"GET /status/200 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); got = b""
                    while (x := s.recv(65536)): got += x
                    s.close()
                    if got.startswith(b"HTTP/1.1 200"): break
                except OSError: time.sleep(.0005)
                if time.monotonic() - t > 10: sys.exit("weir did not answer within 10 s")
            ms.append((time.monotonic() - t) * 1e3)
            rss.append(sum(rss_kib(pid) for pid in (p.pid, *children(p.pid))))      # the keeper and its proxy
            p.terminate(); p.wait()
        up.terminate(); up.wait()
        return dict(ms=statistics.median(ms), rss_mib=statistics.median(rss) / 1024)


def summary(part, sub="results"):
    try: return {(d["scenario"], d["mode"], d["peer"]): d for d in json.load(open(os.path.join(a.out, part, sub, "summary.json")))}
    except OSError: return {}


def p99_ratio(part, scenario, base):
    """Median p99 over the rounds, as a ratio of medians."""
    try: rows = json.load(open(os.path.join(a.out, part, "results", scenario + ".json")))["rows"]
    except OSError: return None
    med = lambda p: statistics.median([r["p99"] for r in rows if r["peer"] == p and r["mode"] == "rate" and "failed" not in r] or [0])
    w, b = med("weir"), med(base)
    return (w / b, w, b) if w and b else None


def table():
    if os.path.isdir(os.path.join(a.out, "cost", "results")):     # one summary of what several runs have left
        subprocess.run([sys.executable, os.path.join(a.bench, "bench.py"), "report", "-o", os.path.join(a.out, "cost"), "-b", "nginx,haproxy,h2o,pingora"], check=True, stdout=subprocess.DEVNULL)
    cost, h2, calls = summary("cost"), summary("h2"), summary("calls", "syscalls")
    idle, reuse = summary("idle"), summary("reuse")
    print("| what | scenario | against | ratio | bar | aim | |\n|---|---|---|---|---|---|---|")
    for name, s, mode, key, base, bar, aim in ROWS:
        if key in ("cost", "h2"):
            d = (h2 if key == "h2" else cost).get((s, mode, "weir"), {})
            v, more = d.get("vs_" + base), ("±%.2f" % d["vs_%s_pm" % base]) if "vs_%s_pm" % base in d else ""
        else:
            r = p99_ratio("storm" if s.startswith("storm") else "rate", s, base)
            v, more = (r[0], "%.1f ms : %.1f ms" % (r[1] / 1e3, r[2] / 1e3)) if r else (None, "")
        if v is not None:
            print("| %s | %s | %s | %.2f | %.2f | %.2f | %s %s |" % (name, s, base, v, bar, aim, "aim" if v <= aim else "bar" if v <= bar else "**short**", more))
    for s, bar, aim in (("idle-h1", 512, 256), ("idle-tls", 15400, 14600), ("idle-h2", 26500, 24500)):
        w, n = ((h2 if s == "idle-h2" else idle).get((s, "closed", p), {}).get("pss_per_conn") for p in ("weir", "nginx"))
        if w: print("| bytes an idle connection | %s | (nginx %.0f) | %.0f | %d | %d | %s |" % (s, n or 0, w, bar, aim, "aim" if w <= aim else "bar" if w <= bar else "**short**"))
    for s, bar in (("reuse-w2", 2), ("reuse-many-w2", 2), ("reuse-sparse-w2", 8)):
        w, n = reuse.get((s, "closed", "weir"), {}).get("new_per_1k"), reuse.get((s, "closed", "nginx"), {}).get("new_per_1k")
        if w is not None: print("| upstream connections opened per 1000 requests | %s | (nginx %.1f) | %.1f | %d | 0 | %s |" % (s, n or 0, w, bar, "aim" if not w else "bar" if w <= bar else "**short**"))
    w, h = (calls.get(("h1-1k-64conn", "syscalls", p), {}).get("calls", {}).get("all") for p in ("weir", "haproxy"))
    if w and h: print("| system calls a request | h1-1k-64conn | haproxy (%.2f) | %.2f (%.2f) | 1.05 | 1.00 | %s |" % (h, w / h, w, "aim" if w <= h else "bar" if w <= 1.05 * h else "**short**"))
    h2_beside.table(contest.load(a.out, "h2_beside"))
    h2_far.table(contest.load(a.out, "h2_far"))
    try: s = json.load(open(os.path.join(a.out, "start.json")))
    except OSError: return
    print("| exec to the first 200 | plain and TLS | | %.1f ms | 100 | 30 | %s |" % (s["ms"], "aim" if s["ms"] <= 30 else "bar" if s["ms"] <= 100 else "**short**"))
    print("| VmRSS then | | | %.1f MiB | 12 | 9 | %s |" % (s["rss_mib"], "aim" if s["rss_mib"] <= 9 else "bar" if s["rss_mib"] <= 12 else "**short**"))


def main():
    parts = (a.only or "start,idle,reuse,calls,cost,storm,rate,h2").split(",")
    os.makedirs(a.out, exist_ok=True)
    q = ["--quick"] if a.quick else []
    n = lambda full, quick: ["-n", str(quick if a.quick else full)]
    for p in [] if a.show else parts:
        if p == "start": json.dump(start(), open(os.path.join(a.out, "start.json"), "w"))
        if p == "idle": bench(p, "-s", "idle-h1,idle-tls", "-p", "weir,nginx", "-b", "nginx", *n(3, 1))
        if p == "reuse": bench(p, "-s", "reuse-w2,reuse-many-w2,reuse-sparse-w2", "-p", "weir,nginx", "-b", "nginx", "-m", "closed", *n(3, 1))
        if p == "calls": bench(p, "-s", "h1-1k-64conn", "-p", "weir,haproxy", "--syscalls", *n(5, 2))
        if p == "cost": bench(p, "-s", ",".join(COST.split()), "-p", "weir,nginx,haproxy,h2o", "-b", "nginx,haproxy,h2o", "-m", "closed", *n(5, 3), *q)
        if p == "pingora": bench("cost", "-s", "h1-small,h1-1k-64conn", "-p", "weir,nginx,haproxy,h2o,pingora", "-b", "nginx,haproxy,h2o,pingora", "-m", "closed", *n(5, 3), *q)
        if p == "h2":
            bench(p, "-s", "h2-m1,h2-m10,h2-m100,h2-to-h2,grpc-unary,idle-h2", "-p", "weir,nginx,haproxy,nghttpx", "-b", "nginx,haproxy,nghttpx", "-m", "closed", *n(5, 2), *q)
            for part, rounds in (("h2_beside.py", n(7, 2)), ("h2_far.py", n(5, 1))):  # what failed in them is in their output
                subprocess.run([sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), part), "--bench", a.bench, "--out", a.out, *rounds], env=dict(os.environ, WEIR=WEIR))
        if p == "storm": bench(p, "-s", "storm-w1,storm-w2", "-p", "weir,haproxy", "-b", "haproxy", "-d", "3", *n(9, 3))
        if p == "rate": bench(p, "-s", ",".join(RATE.split()), "-p", "weir,nginx,haproxy", "-b", "nginx,haproxy", "-m", "rate", "-d", "3", "--retry", "0", *n(9, 3))
    table()


main()
