#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A proxy that somebody has taken: what it does to its keeper comes to nothing. It stops, and starts another one."""
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import BINARY, end_of, eq, has, lives, main, ok, story, wait  # noqa: E402

FOLDER = os.path.dirname(os.path.abspath(BINARY))
HOSTILE = os.environ.get("WEIR_HOSTILE", os.path.join(FOLDER, "tools/weir_hostile"))


def taken(lab, what):
    """A daemon whose proxy is hostile; and the file whose removal makes the next one a good one."""
    order = lab.path("order")
    os.environ.update(HOSTILE=order, HOSTILE_WEIR=os.path.abspath(BINARY))
    w = lab.weir(lab.upstream(), run=["--exe", HOSTILE])
    with open(order, "w", encoding="ascii") as f:
        f.write(what)
    os.chmod(lab.dir, 0o755)
    w.kick(signal.SIGUSR2)
    wait(lambda: "serves now" in w.log(), "the hostile one is in force")
    return w, order


def recovers(w, order, ends=True):
    """The hostile one ends, and the next one serves."""
    os.unlink(order)
    if ends:
        end_of(int(re.search(r"serves now, pid (\d+)", w.log())[1]))
    wait(lambda: w.log().count("is ready") >= 2, "another one")
    eq(w.ask("GET /").status, 200, "it serves")
    w.stop()


@story
def says_without_an_end(lab):
    recovers(*taken(lab, "flood"))


@story
def asks_without_an_end(lab):
    w, order = taken(lab, "ask")
    recovers(w, order)
    lines = w.log().count("under way") + w.log().count("cannot be told")
    ok(lines < 10, "the log is not filled", lines)


@story
def gives_what_takes_long_to_close(lab):
    w, order = taken(lab, "linger")
    wait(lambda: "given" in w.log(), "it is given away")
    wait(lambda: "is not understood" in w.log(), "it is refused")
    recovers(w, order, ends=False)


@story
def does_not_end(lab):
    # Told twice to end, it does not: it is ended.
    w, _ = taken(lab, "deaf")
    pid = int(re.search(r"serves now, pid (\d+)", w.log())[1])
    wait(lambda: w.children() == [pid], "alone")
    w.kick(signal.SIGTERM)
    w.kick(signal.SIGINT)
    eq(w.join(), 1, "the keeper ends, and not well")
    w.stopped = True
    ok(not lives(pid), "the proxy has ended before")
    has(w.log(), "it did not end when it was told to", "it is told")


@story
def lets_go_of_its_channel(lab):
    # And lives on: no signal would reach it, so it is ended.
    recovers(*taken(lab, "silent"), ends=False)
    w, _ = taken(lab, "silent")
    w.kick(signal.SIGTERM)
    eq(w.join(), 1, "the keeper ends all the same")
    w.stopped = True


@story
def listening_that_was_ended(lab):
    recovers(*taken(lab, "closed"), ends=False)


main()
