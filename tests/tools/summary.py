#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""summary.py FOLDER: what ran plain, under asan and under tsan, where they differ and why; the last line counts all.

Reads FOLDER/{plain,release,asan,tsan,fuzz}.xml (JUnit, by ctest), FOLDER/trust/SUITE/weir-*.{json,txt}, and
FOLDER/failed and FOLDER/skipped (a line for each run that could not be judged by its results, or be run). Exit status 1
when anything failed, when a test is left out under a sanitizer for no reason that stands in REASONS, or when a case of
EXCUSED does not fail.
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
EXCUSED = {  # cases of the suites of others that are to fail, and why weir is right
    "trust.h2spec.http2/3.5/2": "the port also speaks HTTP/1: what begins as no HTTP/2 is a bad request line, which gets its "
                                "400 (RFC 9112 3) and the end of the connection; h2spec reads that answer as a frame",
    "trust.h2spec.http2/5.3.1/2": "PRIORITY that depends on itself: an error of RFC 7540 5.3.1, which RFC 9113 5.3.2 took away",
    "trust.h2spec-tls.http2/5.3.1/2": "the same",
}
IN_KERNEL = r"unit\.loader\.|integ\.\d+-kern|integ\..*-by-sockmap"  # need BPF: may be skipped only where that is not permitted
CAPS_OF_BPF = (12, 21, 39)  # CAP_NET_ADMIN, CAP_SYS_ADMIN (for namespaces), CAP_BPF
H2SPEC_PARTS = {"Generic": "generic", "Hypertext": "http2", "HPACK:": "hpack"}  # the first word of a heading


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


def recorded(path):
    """{case: state} of a suite that writes JSON."""
    with open(path, encoding="utf-8") as f:
        states = {True: "passed", False: "failed", "skip": "skipped"}
        return {case: states[verdict["ok"]] for case, verdict in json.load(f).items()}


def printed(text):
    """{case: state} of a suite that prints a line for each."""
    return {case: {"ok": "passed", "FAIL": "failed"}[verdict] for verdict, case in re.findall(r"^(ok|FAIL) +(.+)", text, re.M)}


def specified(text):
    """{case: state} of h2spec, named as its own command line does; what its last line counts must all be there."""
    results, part, section = {}, "", ""
    for line in text.split("\nFailures:")[0].split("\n"):
        line = line.rpartition("\r")[2]  # it writes over what it wrote when the case began
        heading, case = re.match(r" *([\d.]+)\. ", line), re.match(r" *([✔×]?) *(\d+): ", line)
        if line[:1].strip():
            part = H2SPEC_PARTS.get(line.split()[0], part)
        elif heading:
            section = heading[1]
        elif case:
            state = {"✔": "passed", "×": "failed", "": "skipped"}[case[1]]
            results["%s/%s/%s" % (part, section, case[2])] = state
    total = re.search(r"^(\d+) tests, ", text, re.M)
    if not total or int(total[1]) != len(results):
        results["whole"] = "failed"
    return results


def trust(folder):
    results = {}
    for path in sorted(glob.glob(os.path.join(folder, "trust", "*", "weir-*.txt"))):
        suite = os.path.basename(os.path.dirname(path))
        judged = path[:-4] + ".json"
        with open(path, encoding="utf-8", errors="replace") as f:
            text = f.read()
        if os.path.exists(judged):
            cases = recorded(judged)
        else:
            cases = specified(text) if suite.startswith("h2spec") else printed(text)
        results.update(("trust.%s.%s" % (suite, case), state) for case, state in cases.items())
    return results


def excuse(results):
    """Marks what fails and is to; prints why. Returns how many are excused and pass all the same."""
    wrong = 0
    for name, why in EXCUSED.items():
        if results.get(name) == "failed":
            results[name] = "excused"
            print("EXCUSED %s: %s" % (name, why))
        elif results.get(name):
            wrong += 1
            print("FAILED %s: is excused in tests/tools/summary.py, and %s" % (name, results[name]))
    return wrong


def is_told(line, runs):
    """Is there a failed test that says what this line of FOLDER/failed says?"""
    name = line.split()[0]
    return any(state in ("failed", "excused") and (run == name or test.startswith(name + "."))
               for run, results in runs.items() for test, state in results.items())


def may_use_bpf(status="/proc/self/status"):
    with open(status, encoding="ascii") as f:
        caps = int(re.search(r"^CapEff:\s*(\w+)", f.read(), re.M)[1], 16)
    return all(caps >> cap & 1 for cap in CAPS_OF_BPF) and os.path.exists("/sys/kernel/btf/vmlinux")


def for_another_reason(name, results):
    """Is it skipped with the mover that needs nothing, too?"""
    story, by, _ = name.partition("-by-sockmap")
    return bool(by) and results.get(story + "-by-copy") == "skipped"


def shirked(runs):
    """Tests that were skipped on a machine that can run them."""
    return [(run, name) for run, results in runs.items() for name, state in results.items()
            if state == "skipped" and re.match(IN_KERNEL, name) and may_use_bpf() and not for_another_reason(name, results)]


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
    wrong = differences(runs) + excuse(runs["trust"])
    for run, title in (("release", "of the release preset"), ("fuzz", "fuzzers, 20 s each"), ("trust", "black-box cases")):
        if runs[run]:
            print("%s: %d" % (title, len(runs[run])))
    count = collections.Counter(state for results in runs.values() for state in results.values())
    for run, results in runs.items():
        for name, state in sorted(results.items()):
            if state not in ("passed", "excused"):
                print("%s %s: %s" % (state.upper(), run, name))
    for run, name in shirked(runs):
        wrong += 1
        print("FAILED %s: %s was skipped, but this machine permits BPF" % (run, name))
    lost = [line for line in lines(folder, "failed") if not is_told(line, runs)]
    for line in lost:
        print("FAILED %s" % line)
    for line in lines(folder, "skipped"):
        count["skipped"] += 1
        print("SKIPPED %s" % line)
    failed = count["failed"] + wrong + len(lost)
    if not count["passed"]:
        print("no test ran")
    print("%d passed, %d failed, %d skipped" % (count["passed"], failed, count["skipped"]))
    return 1 if failed or not count["passed"] else 0


sys.exit(main())
