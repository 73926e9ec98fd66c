#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""summary.py FOLDER: what ran plain, under asan and under tsan, where they differ and why; the last line counts all.

Reads FOLDER/{plain,release,asan,tsan,fuzz}.xml (JUnit, by ctest), FOLDER/trust/weir-SUITE.json, and FOLDER/failed and
FOLDER/skipped (a line for each run that could not be judged by its results, or be run). Exit status 1 when anything failed, or when a test is left out under
a sanitizer for no reason that stands in REASONS.
"""
import collections
import glob
import json
import os
import re
import sys
import xml.etree.ElementTree

RUNS = ["plain", "asan", "tsan"]
REASONS = [  # run (or both), test name, why it is not in that run
    ("asan|tsan", r"lint\.", "reads sources, runs no code of weir"),
    ("tsan", r"(integ|conf)\..*load", "a load test: under the thread sanitizer it would measure the sanitizer"),
    ("tsan", r"conf\.", "one connection after the other: nothing that integ does not do with threads"),
    ("tsan", r"fuzz\.", "replays into pure functions of one thread"),
]


def read(path):
    """{test: passed | failed | skipped}"""
    results = {}
    if os.path.exists(path):
        for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
            state = {"run": "passed", "fail": "failed"}.get(case.get("status"), "skipped")
            results[case.get("name")] = "failed" if case.find("failure") is not None else state
    return results


def table(runs):
    groups = sorted({name.split(".")[0] for run in RUNS for name in runs[run]})
    print("%-10s" % "" + "".join("%8s" % run for run in RUNS))
    for group in groups + [""]:
        counts = [sum(1 for name in runs[run] if name.startswith(group + ".") or not group) for run in RUNS]
        print("%-10s" % (group or "all") + "".join("%8d" % count for count in counts))


def differences(runs):
    """Prints what is not in every run, by reason; returns how many have none."""
    why, unexplained = collections.defaultdict(list), 0
    for run in RUNS[1:]:
        for name in sorted(set(runs["plain"]) - set(runs[run])):
            reason = next((text for where, pattern, text in REASONS if re.fullmatch(where, run) and re.match(pattern, name)), None)
            unexplained += reason is None
            why[(run, reason or "FOR NO REASON THAT IS KNOWN")].append(name)
        for name in sorted(set(runs[run]) - set(runs["plain"])):
            unexplained += 1
            why[(run, "ONLY HERE")].append(name)
    for (run, reason), names in why.items():
        print("not under %s (%s): %s" % (run, reason, " ".join(names)))
    if not why:
        print("the same tests ran plain, under asan and under tsan")
    return unexplained


def trust(folder):
    results = {}
    for path in sorted(glob.glob(os.path.join(folder, "trust", "weir-*.json"))):
        suite = os.path.basename(path)[5:-5]
        with open(path, encoding="utf-8") as f:
            for case, verdict in json.load(f).items():
                state = "skipped" if verdict["ok"] == "skip" else "passed" if verdict["ok"] is True else "failed"
                results["trust.%s.%s" % (suite, case)] = state
    return results


def lines(folder, name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        return [line.strip() for line in f]


def main():
    folder = sys.argv[1]
    runs = {run: read(os.path.join(folder, run + ".xml")) for run in RUNS + ["release", "fuzz"]}
    runs["trust"] = trust(folder)
    table(runs)
    unexplained = differences(runs)
    for run, title in (("release", "of the release preset"), ("fuzz", "fuzzers, 20 s each"), ("trust", "black-box cases")):
        if runs[run]:
            print("%s: %d" % (title, len(runs[run])))
    count = collections.Counter(state for results in runs.values() for state in results.values())
    for run, results in runs.items():
        for name, state in sorted(results.items()):
            if state != "passed":
                print("%s %s: %s" % (state.upper(), run, name))
    lost = [line for line in lines(folder, "failed") if not any(s == "failed" for s in runs.get(line.split()[0], {}).values())]
    for line in lost:
        print("FAILED %s" % line)
    for line in lines(folder, "skipped"):
        count["skipped"] += 1
        print("SKIPPED %s" % line)
    failed = count["failed"] + unexplained + len(lost)
    if not count["passed"]:
        print("no test ran")
    print("%d passed, %d failed, %d skipped" % (count["passed"], failed, count["skipped"]))
    return 1 if failed or not count["passed"] else 0


sys.exit(main())
