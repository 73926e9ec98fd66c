#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""p99 of small requests beside a 1 GiB stream on the same HTTP/2 connection, against nginx and HAProxy.

  h2_beside.py [--bench ../shared/bench] [--out DIR] [-n ROUNDS] [-p PEERS] [--print]

One curl takes the long answer and, one after the other, 1500 of 128 bytes over one connection: it says so itself (one
connect, HTTP/2). Its time of a request begins when the one before it has ended. Over TLS: curl 7.88 breaks when it does
this over plaintext HTTP/2. Run it as root from the repository root, with a release build; about 10 s a round.
"""
import os, subprocess, sys
import contest

GIB, SMALL = 1 << 30, 1500
PEERS, BAR, AIM = "weir,nginx,haproxy", .5, .25


def measure(b, peer):
    from bench import PORTS
    url = "https://%s:%d/b/" % (b.ip, PORTS["tlsec"])
    p = b.spawn("client", ["curl", "-sk", "-Z", "--parallel-max", "2", "--http2", "-m", "60", "-o", "/dev/null", "-o", "/dev/null",
                           "-w", "%{size_download} %{http_version} %{num_connects} %{time_total}\n", url + str(GIB), "%s128?[1-%d]" % (url, SMALL)],
                b.far, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ, OPENSSL_CONF=str(b.work / "openssl.cnf")))
    try: out = p.communicate(timeout=90)[0].decode()
    except subprocess.TimeoutExpired:
        p.kill()
        raise RuntimeError("curl did not end")
    rows = [line.split() for line in out.splitlines()]
    long, small = [r for r in rows if r[0] == str(GIB)], [r for r in rows if r[0] == "128"]
    if p.returncode or len(long) != 1 or len(small) != SMALL: raise RuntimeError("curl %d: %d long, %d small answers" % (p.returncode, len(long), len(small)))
    if any(r[1] != "2" for r in rows) or sum(int(r[2]) for r in rows) != 1: raise RuntimeError("not one connection of HTTP/2")
    ms = [float(r[3]) * 1e3 for r in rows if r[0] == "128"]
    # the first waited for the handshake; those after the end of the stream were beside nothing
    beside = rows.index(long[0])
    ms = sorted(ms[1:beside])
    return dict(p50=ms[len(ms) // 2], p99=ms[len(ms) * 99 // 100], beside=beside, stream_s=float(long[0][3]))


def table(rows):
    """Lines of docs/performance.md's table: what, scenario, against, ratio, bar, aim, verdict."""
    med = contest.medians(rows, "p99")
    for base in med:
        if base != "weir" and "weir" in med:
            v = med["weir"] / med[base]
            print("| p99 beside a 1 GiB stream | one h2 connection | %s | %.2f | %.2f | %.2f | %s %.1f ms : %.1f ms |" % (
                base, v, BAR, AIM, "aim" if v <= AIM else "bar" if v <= BAR else "**short**", med["weir"], med[base]))


if __name__ == "__main__":
    a = contest.options(__doc__, 7)
    good = a.show or contest.run(a, "h2_beside", PEERS, "tlsec", measure)
    table(contest.load(a.out, "h2_beside"))
    sys.exit(not good)
