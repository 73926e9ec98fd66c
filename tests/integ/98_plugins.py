#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plug-ins: shared objects with filters that the daemon loads, and what is said of those that it does not."""
import json
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import BINARY, Skip, eq, has, main, ok, story  # noqa: E402

PLUGINS = os.path.abspath(os.environ.get("WEIR_PLUGINS") or os.path.join(os.path.dirname(BINARY), "plugins"))


def plugin(name):
    path = os.path.join(PLUGINS, "plugin_%s.so" % name)
    if not os.path.exists(path):
        raise Skip("%s is not built" % path)
    return path


def check(lab, plugins, filters=()):
    """What `weir check` says of a file with these, indented as json.dump does."""
    config = lab.config(lab.upstream(), route={"filters": list(filters)}, plugins=plugins)
    return lab.cli("check", "-c", lab.write("weir.yaml", json.dumps(config, indent=1)))


@story
def a_filter_of_a_plugin(lab):
    up = lab.upstream()
    w = lab.weir(up, route={"filters": [{"deny_agent": {"words": ["scraper", "bot"], "status": 429}}, {"headers": {"response": {"set": {"x-a": "1"}}}}]},
                 plugins=[plugin("deny_agent")])
    eq([w.ask("GET /", [("User-Agent", a)]).status for a in ("curl/8", "a scraper", "robot", "bo")], [200, 429, 429, 200], "by User-Agent")
    eq((len(up.requests), w.ask("GET /").status), (2, 200), "refused ones do not reach the upstream; no User-Agent")
    with w.client() as c:
        for i in range(50):
            c.send("GET /%d HTTP/1.1\r\nHost: a\r\nUser-Agent: %s\r\n\r\n" % (i, "bot" if i % 2 else "x"))
        eq([c.response().status for _ in range(50)], [200, 429] * 25, "pipelined")
    eq(w.cli("status", check=0)[0], 0, "the CLI finds the daemon")
    eq(lab.cli("status", "-c", w.file)[0], 0, "also by the file, of which it loads no plug-in")


@story
def relative_to_the_file(lab):
    os.makedirs(lab.path("d"))
    shutil.copy(plugin("deny_agent"), lab.path("d/deny.so"))
    lab.write("d/plugins.yaml", "plugins: deny.so\n")
    config = lab.config(lab.upstream(), route={"filters": [{"deny_agent": {"words": "x"}}]}, include="d/plugins.yaml")
    path = lab.write("weir.yaml", json.dumps(config))
    eq(lab.cli("check", "-c", path)[0], 0, "check")
    has(lab.cli("check", "--effective", "-c", path)[1], "plugins: [ %s ]" % lab.path("d/deny.so"), "--effective")


@story
def it_begins_and_ends(lab):
    w = lab.weir(lab.upstream(), route={"filters": [{"bad": {"value": 3}}]}, plugins=[plugin("good"), plugin("deny_agent")])
    eq(w.ask("GET /").status, 200, "a request")
    w.stop()
    has(w.log(), "the plug-in ends", "fini was called")


@story
def it_stays_over_a_reload(lab):
    # Loaded and begun once; its filters are made anew; it ends when the last snapshot that has it does.
    route = {"filters": [{"deny_agent": {"words": ["bot"], "status": 429}}, {"bad": {"value": 3}}]}
    w = lab.weir(lab.upstream(), route=route, plugins=[plugin("good"), plugin("deny_agent")])
    before = w.log().count("the plug-in ends")  # in the reader
    for i in range(5):
        route["filters"][0]["deny_agent"]["status"] = 400 + i
        w.config["listeners"]["web"]["routes"] = [{"name": "all", "to": "app", **route}]
        w.reload()
        eq(w.ask("GET /", [("User-Agent", "a bot")]).status, 400 + i, "its filter, anew")
        eq(w.ask("GET /").status, 200, "another one")
    eq(w.log().count("the plug-in ends"), before, "it has not ended")
    plugins = w.config["plugins"]
    w.config["plugins"] = plugins[:1]
    w.config["listeners"]["web"]["routes"][0]["filters"] = []
    told = w.reload(status=422)
    has(json.dumps(told["errors"]), "'plugins' is another one in what runs", "others need a restart")
    w.config["plugins"] = plugins
    w.reload()
    w.stop()
    eq(w.log().count("the plug-in ends"), before + 1, "it ends once")


@story
def rows_are_rows_like_others(lab):
    status, _, err = check(lab, [plugin("deny_agent")], [{"deny_agent": {"words": [], "statsu": 1}}])
    eq(status, 2, "check")
    has(err, "unknown key 'statsu' in filter 'deny_agent' of route 'all' of listener 'web'; did you mean 'status'?", "a key")
    err = check(lab, [plugin("deny_agent")], [{"deny_agent": {"words": "a", "status": 200}}])[2]
    has(err, "'status' must be from 400 to 499", "a range")
    err = check(lab, [plugin("deny_agent")], [{"deny_agent": {"words": ""}}])[2]
    has(err, "filter 'deny_agent': an empty word would refuse everybody", "its own check")
    err = check(lab, [plugin("deny_agent")], ["deny_agents"])[2]
    has(err, "unknown filter 'deny_agents'; did you mean 'deny_agent'?", "its name")
    path = lab.write("good.yaml", json.dumps(lab.config(lab.upstream(), plugins=[plugin("deny_agent")])))
    has(lab.cli("config", "explain", "routes.*.filters.deny_agent.status", "-c", path, check=0)[1], "number from 400 to 499; default 403", "explain")
    wrong = lab.write("wrong.yaml", "plugins: [ '%s' ]\nlisteners: { web: { bnd: 1 } }\nworkers: many\n" % plugin("deny_agent"))
    has(lab.cli("config", "explain", "routes.*.filters.deny_agent.status", "-c", wrong, check=0)[1], "default 403", "explain, of a file with errors")
    kinds = json.loads(lab.cli("config", "schema", "-c", path, check=0)[1])["$defs"]["filters"]["items"]["anyOf"]
    ok(any("deny_agent" in k.get("properties", {}) for k in kinds), "the schema has it")


@story
def wrong_ones_are_told_by_their_place(lab):
    text = lab.write("text.so", "no object\n")
    for path, said in ((lab.path("gone.so"), "cannot read '%s': No such file or directory" % lab.path("gone.so")),
                       (lab.dir, "cannot read '%s': Is a directory" % lab.dir),
                       (text, "cannot load '%s': file too short" % text),
                       (plugin("symbol"), "is no plug-in: it exports no 'weir_plugin'"),
                       (plugin("abi"), "is of ABI 2, this weir has ABI 1"),
                       (plugin("clash"), "the plug-in 'bad': the filter 'headers' is there already, built in"),
                       (plugin("init"), "the plug-in 'bad' does not start: no licence"),
                       (plugin("row"), "filter 'bad': a row fills more than the struct that it belongs to"),
                       (plugin("type"), "filter 'bad': a row has a type that is not for plug-ins"),
                       (plugin("list"), "filter 'bad': the default of 'words': the list has no ']'"),
                       (plugin("element"), "filter 'bad': the default of 'value': 'value' must be from 1 to 9"),
                       (plugin("flags"), "filter 'bad': a row of flags has more than 32 words"),
                       (plugin("table"), "filter 'bad': a row of a type that has no default says one"),
                       (plugin("twice"), "the plug-in 'bad': there are two filters 'bad'")):
        status, _, err = check(lab, ["%s" % plugin("deny_agent"), path], ["bad"])
        eq(status, 2, "check (%s)" % err)
        has(err, said, "what is said")
        with open(lab.path("weir.yaml"), encoding="utf-8") as f:
            line = [i for i, l in enumerate(f, 1) if path in l and ".so" in l or l.strip() == json.dumps(path)][-1]
        has(err, "weir.yaml:%d:3: error: " % line, "where")
        has(err, "1 error\n", "its filter is not complained about as well")
    err = check(lab, [plugin("good"), plugin("good")])[2]
    has(err, "the filter 'bad' is there already, of the plug-in 'bad'", "twice")
    err = check(lab, [plugin("good")] * 65, ["bad"])[2]
    has(err, "more than 64 plug-ins", "too many")
    has(err, "1 error\n", "and nothing of their filters")


main()
