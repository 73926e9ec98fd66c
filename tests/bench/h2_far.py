#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One HTTP/2 stream of 100 MiB over a way with a round trip of 50 ms, down and up, against nginx, HAProxy, H2O and Envoy.

  h2_far.py [--bench ../shared/bench] [--out DIR] [-n ROUNDS] [-p PEERS] [--print]

delay_relay.c, built here, stands between client and proxy and holds every byte for 25 ms each way, without a limit of
bandwidth: what counts is how much HTTP/2 lets be on its way. Down it is the client's window that bounds (h2load: 16 MiB for
the stream and for the connection), up the one that the proxy gives. Up goes curl, because it says how much it had sent when
its time was over: with a fixed window of 64 KiB 100 MiB take 80 s. The handshakes do not count. Run it as root from the
repository root, with a release build; about a minute a round.
"""
import os, subprocess, sys
from pathlib import Path
import contest

MIB, BYTES, RTT_MS, UP_S = 1 << 20, 100 << 20, 50, 10
RELAY = 18500
PEERS, BAR, AIM = "weir,nginx,haproxy,h2o,envoy", 1.0, 1.2


def ask(b, cmd):
    """The standard output of a client, which has half a minute."""
    p = b.spawn("client", cmd, b.far, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ, OPENSSL_CONF=str(b.work / "openssl.cnf")))
    try: return p.communicate(timeout=30)[0].decode()
    except subprocess.TimeoutExpired:
        p.kill()
        raise RuntimeError(cmd[0] + " did not end")


def down(b):
    """MiB/s of an answer, from its request on."""
    log = b.work / "h2load.log"
    log.unlink(missing_ok=True)
    said = ask(b, ["h2load", "-n1", "-c1", "-t1", "-w24", "-W24", "--log-file=%s" % log, "https://%s:%d/b/%d" % (b.ip, RELAY, BYTES)])
    if "1 succeeded" not in said or "(%d) data" % BYTES not in said: raise RuntimeError("h2load: " + said[-200:])
    return BYTES / MIB / (int(log.read_text().split("\t")[2]) / 1e6)


def up(b):
    """MiB/s of an upload that the upstream has checked, or of what was sent of it in UP_S seconds."""
    said = ask(b, ["curl", "-sk", "--http2", "-m", UP_S, "-T", b.work / "body", "-H", "Expect:", "-w", "\n%{http_version} %{http_code} %{size_upload} %{time_total} %{time_pretransfer}",
                   "https://%s:%d/up" % (b.ip, RELAY)]).split()
    version, code, size, total, before = said[-5:]     # without an answer the version is 0, and the code 000
    if version not in ("2", "0") or (code == "200" and said[:2] != ["ok", str(BYTES)]): raise RuntimeError("curl: " + " ".join(said))
    if code != "200" and float(total) < UP_S - .1: raise RuntimeError("curl: " + " ".join(said))
    return int(size) / MIB / (float(total) - float(before))


def prepare(b):
    """The relay, and a body as the upstream expects it."""
    exe = b.work / "delay_relay"
    subprocess.run(["cc", "-O2", "-pthread", "-o", exe, Path(__file__).with_name("delay_relay.c")], check=True)
    if not (b.work / "body").exists():
        from bench import UP
        subprocess.run(["curl", "-sf", "-o", b.work / "body", "http://%s:%d/b/%d" % (b.up, UP["up_h1"], BYTES)], check=True)
    return exe


def measure(b, peer):
    from bench import PORTS
    exe = prepare(b)
    relay = b.spawn("client", [exe, RELAY, PORTS["tlsec"], RTT_MS / 2], b.far)
    try:
        b.wait_ports(b.ip, [RELAY], "delay_relay", relay)
        return dict(down=down(b), up=up(b))
    finally:
        relay.kill()
        relay.wait()


def table(rows):
    """Lines of docs/performance.md's table: what, scenario, against, ratio, bar, aim, verdict."""
    for way, name in (("down", "100 MiB down"), ("up", "100 MiB up")):
        med = contest.medians(rows, way)
        others = {p: v for p, v in med.items() if p != "weir"}
        if not others or "weir" not in med: continue
        best = max(others, key=others.get)
        v = med["weir"] / med[best]
        print("| throughput of one h2 stream at an RTT of %d ms | %s | %s | %.2f | %.2f | %.2f | %s %s MiB/s |" % (
            RTT_MS, name, best, v, BAR, AIM, "aim" if v >= AIM else "bar" if v >= BAR else "**short**", ", ".join("%s %.0f" % (p, x) for p, x in med.items())))


if __name__ == "__main__":
    a = contest.options(__doc__, 5)
    good = a.show or contest.run(a, "h2_far", PEERS, "tlsec", measure)
    table(contest.load(a.out, "h2_far"))
    sys.exit(not good)
