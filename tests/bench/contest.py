# SPDX-License-Identifier: Apache-2.0
"""Contenders in turns, for what the comparison harness beside the repository has no scenario for.

The harness (bench.py, imported from --bench) brings its upstream, its contenders with their configurations, a network
namespace and cgroups of its own, and takes them all down again; a measurement brings one function and its rows.
"""
import argparse, json, os, resource, signal, statistics, sys
from pathlib import Path
from types import SimpleNamespace


def options(doc, rounds):
    ap = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--bench", default="../shared/bench"); ap.add_argument("--out", default="/tmp/weir-measure")
    ap.add_argument("-n", "--rounds", type=int, default=rounds); ap.add_argument("-p", "--peers", help="contenders, instead of all")
    ap.add_argument("--print", action="store_true", dest="show", help="only the table of an earlier run")
    return ap.parse_args()


def run(a, name, peers, port, measure):
    """measure(harness, peer) -> dict, in the order A B C, C B A, ...; all of it lies in OUT/NAME.json then."""
    sys.path.insert(0, os.path.abspath(a.bench))
    import bench
    bench.NOFILE = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    signal.signal(signal.SIGTERM, lambda *x: sys.exit(143))
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    found = bench.find_peers((a.peers or peers).split(","), out)
    rows = []
    with bench.Bench(SimpleNamespace(out=out / name, lock=None, netns=False, host_net=False)) as b:
        for rep in range(a.rounds):
            for peer in found if rep % 2 == 0 else found[::-1]:
                row, proc = dict(peer=peer.name, rep=rep), None
                try:
                    proc = b.start(peer, 1, port)
                    row.update(measure(b, peer))
                except (RuntimeError, OSError, ValueError) as x:
                    row["failed"] = str(x)[:300]
                finally:
                    b.stop(proc)
                rows.append(row)
                print("  %-10s" % peer.name, row.get("failed") or "  ".join("%s %.2f" % kv for kv in row.items() if kv[0] not in ("peer", "rep")), flush=True)
    (out / (name + ".json")).write_text(json.dumps(rows, indent=1))
    return all("failed" not in r for r in rows)


def load(out, name):
    try: return json.loads((Path(out) / (name + ".json")).read_text())
    except OSError: return []


def medians(rows, key):
    """{peer: the median over its rounds}"""
    return {p: statistics.median(v) for p in dict.fromkeys(r["peer"] for r in rows) if (v := [r[key] for r in rows if r["peer"] == p and key in r])}
