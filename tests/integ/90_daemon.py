#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon and the command line: signals, drain, configuration, the admin, metrics, logs."""
import json
import os
import re
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import SLOW, Cut, address, answer, chunk, dial, eq, has, main, ok, story, text_of, wait  # noqa: E402

TERM, INT, HUP, USR1, USR2 = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2


def refused(w):
    try:
        w.client().close()
    except OSError:
        return True
    return False


def slow_up(lab, seconds=0.5):
    return lab.upstream(lambda c, r: (time.sleep(seconds if r.target == "/slow" else 0), c.send(answer(200, "done")))[0])


# --- signals and drain -----------------------------------------------------------------------------------------------

@story
def sigterm_drains(lab):
    # announce: readyz 503, still accepting; then no new connections; what is in flight ends; exit 0.
    up = slow_up(lab, 1.2)
    w = lab.weir(up, shutdown={"announce": "600ms", "drain": "20s"}, admin={"listen": address()})
    tcp = w.config["admin"]["listen"]
    idle, busy = w.client(), w.client()
    idle.send(text_of("GET /"))
    eq(idle.response().status, 200, "before")
    with dial(tcp) as c:
        c.send(text_of("GET /readyz"))
        eq(c.response().status, 200, "readyz before")
    busy.send(text_of("GET /slow"))
    wait(lambda: len(up.requests) == 2, "a request is in flight")
    w.kick(TERM)
    wait(lambda: w.admin("/readyz").status == 503, "readyz says 503")
    with dial(tcp) as c:
        c.send(text_of("GET /readyz") + text_of("GET /healthz"))
        eq([c.response().status, c.response().status], [503, 200], "over TCP; healthz stays")
    eq(w.ask("GET /").status, 200, "still accepting")
    wait(lambda: refused(w), "no new connections")
    ok(idle.ended(), "idle connections end")
    r = busy.response()
    eq((r.status, r.body, r.get("connection")), (200, b"done", "close"), "what was in flight ends well")
    eq(w.join(), 0, "exit status")


@story
def sigint_does_not_announce(lab):
    w = lab.weir(lab.upstream(), shutdown={"announce": "30s"})
    started = time.monotonic()
    w.kick(INT)
    eq(w.join(), 0, "exit status")
    ok(time.monotonic() - started < 5 * SLOW, "at once", time.monotonic() - started)


@story
def the_second_signal(lab):
    # Stop now, whatever is in flight; in the announcement and in the drain.
    for first, wait_for in ((TERM, "announce"), (INT, "drain")):
        up = lab.upstream(script=lambda c: (c.head(), c.rest()))
        w = lab.weir(up, shutdown={"announce": "60s", "drain": "60s"})
        c = w.client()
        c.send(text_of("GET /"))
        wait(lambda: up.conns, "a request is in flight")
        w.kick(first)
        wait(lambda: "SIG" in w.log(), "the first signal")
        time.sleep(0.2)
        ok(w.process.poll() is None, "it waits in the %s" % wait_for)
        w.kick(TERM)
        eq(w.join(), 0, "exit status")
        try:
            ok(not c.more(), "cut")
        except OSError:
            pass


@story
def drain_has_an_end(lab):
    up = lab.upstream(script=lambda c: (c.head(), c.rest()))
    w = lab.weir(up, shutdown={"drain": "500ms"})
    c = w.client()
    c.send(text_of("GET /"))
    wait(lambda: up.conns, "a request is in flight")
    started = time.monotonic()
    w.kick(TERM)
    eq(w.join(), 0, "exit status")
    ok(0.4 < time.monotonic() - started < 5 * SLOW, "after shutdown.drain", time.monotonic() - started)


@story
def a_drain_without_an_end(lab):
    # `drain: off` waits for requests, also when tunnels have a limit that is over.
    up = slow_up(lab, 1.2)
    w = lab.weir(up, shutdown={"announce": "off", "drain": "off", "tunnels": "100ms"})
    c = w.client()
    c.send(text_of("GET /slow"))
    wait(lambda: up.requests, "a request is in flight")
    w.kick(TERM)
    eq(c.response().status, 200, "it ends well")
    eq(w.join(), 0, "exit status")


@story
def drain_does_not_wait_for_silence(lab):
    # Connected, and not a byte of a request: it does not hold a drain to its limit, nor gets a RST.
    w = lab.weir(lab.upstream(), shutdown={"drain": "60s"})
    silent = w.client()
    wait(lambda: w.status()["connections"] == 1, "it is there")
    w.kick(TERM)
    ok(silent.ended(), "a clean end")
    eq(w.join(10 * SLOW), 0, "exit status")


@story
def drain_in_the_middle_of_bodies(lab):
    # Upload and download in flight at SIGTERM: both end whole.
    def reply(c, r):
        if r.method == "POST":
            c.send(answer(200, str(len(r.body))))
            return
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(10):
            c.send(chunk("x" * 100))
            time.sleep(0.1)
        c.send(b"0\r\n\r\n")
    up = lab.upstream(reply)
    w = lab.weir(up, shutdown={"drain": "20s"})
    down, upload = w.client(), w.client()
    down.send(text_of("GET /"))
    upload.send(text_of("POST /", [("Content-Length", "1000")]) + b"y" * 400)
    down.take(50)
    w.kick(TERM)
    wait(lambda: refused(w), "no new connections")
    upload.send(b"y" * 600)
    eq(upload.response().body, b"1000", "the upload")
    eq(len(re.findall(b"x{100}", down.rest())), 10, "the download")
    eq(w.join(), 0, "exit status")


@story
def a_connection_that_was_just_accepted(lab):
    # Its request comes after the drain began: it is answered, then closed; or it is closed without one byte of an answer.
    w = lab.weir(lab.upstream(), shutdown={"drain": "5s"})
    c = w.client()
    wait(lambda: w.status()["connections"] == 1, "it is there")
    w.kick(TERM)
    wait(lambda: refused(w), "no new connections")
    try:
        c.send(text_of("GET /"))
        r = c.response()
        eq((r.status, r.get("connection")), (200, "close"), "answered")
    except (Cut, OSError):
        pass
    eq(w.join(), 0, "exit status")


@story
def sigusr2_survives(lab):
    w = lab.weir(lab.upstream())
    w.kick(USR2)
    wait(lambda: "upgrade" in w.log(), "it says so")
    eq(w.ask("GET /").status, 200, "and goes on")


@story
def sigusr1_reopens_logs(lab):
    log, access = lab.path("weir.log"), lab.path("access.log")
    w = lab.weir(lab.upstream(), wait_ready=False, log={"to": {"file": log}}, access_log={"to": {"file": access}})
    wait(lambda: os.path.exists(log) and "is ready" in open(log, encoding="utf-8").read(), "ready, in the file")
    w.ask("GET /one")
    wait(lambda: "/one" in open(access, encoding="utf-8").read(), "the first line")
    os.rename(log, log + ".1")
    os.rename(access, access + ".1")
    w.ask("GET /two")
    wait(lambda: "/two" in open(access + ".1", encoding="utf-8").read(), "the old file still gets lines")
    w.kick(USR1)
    wait(lambda: os.path.exists(log) and os.path.exists(access), "new files")
    w.ask("GET /three")
    wait(lambda: "/three" in open(access, encoding="utf-8").read(), "the new file gets lines")
    ok("/three" not in open(access + ".1", encoding="utf-8").read(), "and the old one none")


@story
def drain_by_command(lab):
    w = lab.weir(lab.upstream())
    status, out, _ = w.cli("drain", "-j", check=0)
    eq((json.loads(out)["drained"], w.join()), (True, 0), "drained, and ended")
    up = lab.upstream(script=lambda c: (c.head(), c.rest()))
    w = lab.weir(up, shutdown={"drain": "300ms"})
    w.client().send(text_of("GET /"))
    wait(lambda: up.conns, "a request is in flight")
    w.cli("drain", check=1)
    eq(w.join(), 0, "exit status of the daemon")


# --- starting --------------------------------------------------------------------------------------------------------

@story
def a_second_instance(lab):
    w = lab.weir(lab.upstream())
    other = dict(w.config, listeners={"web": {"bind": address(), "to": "app"}}, admin={"socket": lab.path("x.sock")})
    status, _, err = lab.cli("run", "-c", lab.write("second.yaml", json.dumps(other)))
    eq(status, 1, "exit status")
    has(err, str(w.process.pid), "the pid of the first")
    eq(w.ask("GET /").status, 200, "the first goes on")


@story
def after_a_crash(lab):
    # The socket and the lock of one that was killed are in nobody's way.
    w = lab.weir(lab.upstream())
    w.kill()
    w.stopped = True
    config = dict(w.config)
    from weirlab import Weir
    again = Weir(lab, config)
    eq(again.ask("GET /").status, 200, "served")
    eq(again.admin("/healthz").status, 200, "the admin answers")


@story
def an_address_in_use(lab):
    up = lab.upstream()
    config = lab.config(up, listener={"bind": lab.upstream().address})
    status, _, err = lab.cli("run", "-c", lab.write("weir.yaml", json.dumps(config)))
    eq(status, 1, "exit status")
    has(err, "in use", "why")


@story
def a_port_that_is_not_allowed(lab):
    # What the host does not allow is exit status 3, for `run` and for `doctor`, which says it before.
    import ctypes
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as f:
        if int(f.read()) <= 99:
            return

    def without_right():
        ctypes.CDLL(None).prctl(24, 10, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE: root has it no more after exec
    low = "127.0.0.1:99"
    for where, config in (("listener", lab.config(lab.upstream(), listener={"bind": low})), ("admin", lab.config(lab.upstream(), admin={"listen": low}))):
        path = lab.write("weir.yaml", json.dumps(config))
        status, _, err = lab.cli("run", "-c", path, before=without_right)
        eq(status, 3, "exit status of run, " + where)
        has(err, low, "where")
        has(err.lower(), "permission denied", "why")
        status, out, _ = lab.cli("doctor", "-j", "-c", path, before=without_right)
        found = {row["check"]: row for row in json.loads(out)}
        eq((status, found["privileges"]["state"]), (3, "missing"), "doctor, " + where)
        has(found["privileges"]["why"], low, "what doctor says")
        if os.geteuid() == 0:
            eq(lab.cli("doctor", "-c", path)[0], 0, "doctor with the right")


@story
def doctor_looks_for_the_user(lab):
    if os.geteuid() != 0:
        return
    for user, state in (("no-such-user", "warn"), ("nobody", "ok")):
        path = lab.write("weir.yaml", json.dumps(lab.config(lab.upstream(), user=user)))
        found = {row["check"]: row for row in json.loads(lab.cli("doctor", "-j", "-c", path, check=0)[1])}
        eq(found["user"]["state"], state, user)
        has(found["user"]["why"], user, "why")


@story
def becomes_nobody(lab):
    if os.geteuid() != 0:
        return
    w = lab.weir(lab.upstream(), user="nobody")
    with open("/proc/%d/status" % w.pid, encoding="ascii") as f:
        status = f.read()
    ok(re.search(r"^Uid:\s+65534\s+65534\s+65534", status, re.M), "uid", status)
    ok(re.search(r"^CapEff:\s+0+$", status, re.M) and re.search(r"^CapPrm:\s+0+$", status, re.M), "capabilities", status)
    ok(re.search(r"^Groups:\s*(65534)?\s*$", status, re.M), "groups", status)
    eq(w.ask("GET /").status, 200, "served")
    eq(w.status()["uid"], 65534, "status")


# --- configuration ---------------------------------------------------------------------------------------------------

BAD = """listeners:
  web: { bind: "127.0.0.1:1", to: nowhere, helth: 1 }
  two: { bind: "127.0.0.1:1", to: app, timeouts: { idle: soon } }
upstreams:
  app:
    servers: [ "127.0.0.1:80" ]
    helth: { path: / }
limits: { headers: 0 }
"""


@story
def errors_of_a_file(lab):
    # All of them in one pass: place, sentence, the line, a caret; a suggestion where there is a near one.
    path = lab.write("bad.yaml", BAD)
    for verb in ("check", "run"):
        status, out, err = lab.cli(verb, "-c", path)
        text = err + out
        eq(status, 2, "exit status of " + verb)
        has(text, "bad.yaml:7:5: error: unknown key 'helth' in upstream 'app'; did you mean 'health'?\n    7 |     helth: { path: / }\n      |     ^~~~~\n",
            "an unknown key")
        for part in ("nowhere", "soon", "helth", "headers", "127.0.0.1:1"):
            has(text, part, "an error about it")
        ok(re.search(r"^[5-9] errors", text, re.M), "how many", text[-100:])
    status, out, err = lab.cli("check", "-j", "-c", path)
    rows = json.loads(out or err)
    eq(status, 2, "exit status of -j")
    ok(isinstance(rows, list) and len(rows) >= 5 and all({"file", "line", "column", "message"} <= set(r) for r in rows), "JSON", rows)


@story
def more_bad_files(lab):
    cases = [
        ("", "listeners"), ("listeners: [", "bad.yaml"), ("listeners: {}\n", "listener"), ("a: 1\n", "unknown key"),
        ("listeners: { web: { bind: ':0:0', to: app } }\nupstreams: { app: { servers: [ '1.2.3.4:5' ] } }\n", "bind"),
        ("listeners: { web: { bind: '127.0.0.1:1', to: app, tls: { cert: /nonexistent, key: /nonexistent } } }\nupstreams: { app: { servers: [ '1.2.3.4:5' ] } }\n", "nonexistent"),
        ("listeners: { web: { bind: '127.0.0.1:1', to: app, tls: { cert: a, key: b, alpn: [ h3 ] } } }\nupstreams: { app: { servers: [ '1.2.3.4:5' ] } }\n", "h3"),
        ("listeners: { web: { bind: '127.0.0.1:1', routes: [ { match: { path: '~(' }, to: app } ] } }\nupstreams: { app: { servers: [ '1.2.3.4:5' ] } }\n", "path"),
        ("listeners: { web: { bind: '127.0.0.1:1', to: app } }\nupstreams: { app: { servers: [ '1.2.3.4:5' ], tls: on } }\n", "verify"),
        ("listeners: { web: { bind: '127.0.0.1:1', to: app } }\nlisteners: { web: { bind: '127.0.0.1:1', to: app } }\n", "listeners"),
        ("listeners: &a { web: { bind: '127.0.0.1:1', to: *a } }\n", "bad.yaml"),
        ("\x00\xff", "bad.yaml"), ("x: " + "[" * 5000, "bad.yaml"),
        ("access: { deny: [ 10.0.0.1/8 ] }\nlisteners: { web: { bind: '127.0.0.1:1', to: app } }\nupstreams: { app: { servers: [ '1.2.3.4:5' ] } }\n", "10.0.0.1/8"),
        ("include: [ nothing-here.yaml ]\n", "nothing-here"), ("instance: ${WEIRLAB_NOT_SET}\nlisteners: { web: { bind: '127.0.0.1:1' } }\n", "WEIRLAB_NOT_SET"),
    ]
    for text, part in cases:
        path = lab.path("bad.yaml")
        with open(path, "w", encoding="latin-1") as f:
            f.write(text)
        status, out, err = lab.cli("check", "-c", path)
        eq(status, 2, "exit status for %.80r (%s)" % (text, err[:300]))
        has(err + out, part, "the error for %.80r" % text)
    good = lab.write("good.yaml", json.dumps(lab.config(lab.upstream())))
    eq((lab.cli("check", good)[0], lab.cli("check", "-c", good)[0], lab.cli("check", "-c", good, good)[0]), (0, 0, 2), "one file")
    eq(lab.cli("check", "-c", lab.path("no such file"))[0], 2, "no such file")
    eq(lab.cli("run", "-c", lab.path("no such file"))[0], 2, "no such file")


@story
def check_says_what_run_would(lab):
    # Nothing is good for `check` and refused by `run`: each has its line in the file.
    port = address().rsplit(":", 1)[1]
    for what in ({"bind": [":" + port, "127.0.0.1:" + port]}, {"bind": "unix:%s/none/x" % lab.path("")}, {"bind": "192.0.2.1:" + port},
                 {"device": "weir-none0"}, {"bind": []}, {"access_log": {"format": "$nope"}}, {"access_log": {"redact": ["qurey"]}}):
        path = lab.write("weir.yaml", json.dumps(lab.config(lab.upstream(), listener=what), indent=1))
        for verb in ("check", "run"):
            status, _, err = lab.cli(verb, "-c", path)
            eq(status, 2, "%s %s: %s" % (verb, what, err))
            ok(re.search(r"weir\.yaml:\d+:\d+: error: ", err), "with its place", err)


@story
def check_effective_reads_back(lab):
    # What --effective prints is a configuration that means the same.
    up = lab.upstream()
    config = lab.config(up, route={"retry": {"attempts": 3}, "filters": [{"headers": {"request": {"set": {"x-a": "b"}}}}]}, timeouts={"head": "3s"})
    first = lab.cli("check", "--effective", "-c", lab.write("a.yaml", json.dumps(config)), check=0)[1]
    second = lab.cli("check", "--effective", "-c", lab.write("b.yaml", first), check=0)[1]
    eq(second, first, "printed again")
    has(first, "3s", "what was set")
    # Also the default of the admin socket, whose folder is made by the start alone.
    del config["admin"]
    for instance in ([], ["-i", "lab-other-%d" % os.getpid()]):
        path = lab.write("a.yaml", json.dumps(config))
        first = lab.cli("check", "--effective", "-c", path, *instance, check=0)[1]
        has(first, "/%s/admin.sock" % (instance[1] if instance else config["instance"]), "the socket of the instance")
        second = lab.cli("check", "--effective", "-c", lab.write("b.yaml", first), check=0)[1]
        eq(second, first, "printed again")


@story
def includes_secrets_environment(lab):
    up = lab.upstream()
    secret = lab.write("secret.txt", "hush\n")
    lab.write("price.txt", "Bearer hush$5 $path\n")
    os.environ["WEIRLAB_BIND"] = bind = address()
    os.environ["WEIRLAB_TOKEN"] = "silence$7"
    lab.write("part.yaml", "upstreams: { app: { servers: [ '%s' ] } }\n" % up.address)
    path = lab.write("main.yaml", "include: part.yaml\ninstance: lab-inc-%d\nadmin: { socket: %s }\nshutdown: { announce: 0 }\n"
                     "listeners:\n  web:\n    bind: ${WEIRLAB_BIND}\n    routes:\n      - { match: { path: /s }, reply: { body: { file: secret.txt } } }\n"
                     "      - { match: { path: /h, header: { x-key: { file: secret.txt } } }, to: app,\n"
                     "          filters: [ headers: { request: { set: { authorization: { file: price.txt } } } } ] }\n"
                     "      - { match: { path: /h }, reply: { status: 403 } }\n"
                     "      - { match: { path: /e, header: { x-key: '${WEIRLAB_TOKEN}' } }, to: app,\n"
                     "          filters: [ headers: { request: { set: { authorization: 'Bearer ${WEIRLAB_TOKEN} $$5' } } } ] }\n"
                     "      - { match: { path: /e }, reply: { status: 403, body: 'no ${WEIRLAB_TOKEN}' } }\n"
                     "      - { to: app }\n" % (os.getpid(), lab.path("inc.sock")))
    from weirlab import Weir
    w = Weir(lab, {"instance": "lab-inc-%d" % os.getpid(), "admin": {"socket": lab.path("inc.sock")}, "listeners": {"web": {"bind": bind}}}, path=path)
    eq((w.ask("GET /").status, w.ask("GET /s").body.strip()), (200, b"hush"), "all three")
    eq(w.ask("GET /h", [("X-Key", "other")]).status, 403, "another key than the file's")
    eq(w.ask("GET /h", [("X-Key", "hush")]).status, 200, "the file's key")
    eq(up.requests[-1].get("authorization"), "Bearer hush$5 $path", "a field from a file, as it is there")
    eq((w.ask("GET /e").body, w.ask("GET /e", [("X-Key", "silence$7")]).status), (b"no silence$7", 200), "the environment's key")
    eq(up.requests[-1].get("authorization"), "Bearer silence$7 $5", "a field from the environment, as it is there")
    printed = lab.cli("check", "--effective", "-c", path, check=0)[1]
    for text in (w.cli("show", "config", check=0)[1], json.dumps(w.admin("/v1/config").json()), json.dumps(w.admin("/v1/routes").json()), printed):
        ok("hush" not in text and "silence" not in text, "no secret is shown", text)
        ok("secret.txt" in text and "${WEIRLAB_TOKEN}" in text, "but where it comes from", text)
    eq(lab.cli("check", "--effective", "-c", lab.write("again.yaml", printed), check=0)[1], printed, "which reads back")
    ok(os.path.exists(secret), "its file is there")


@story
def explain_and_schema(lab):
    has(lab.cli("config", "explain", "upstreams.*.health.every", check=0)[1], "2s", "explain")
    has(lab.cli("config", "explain", "timeouts", check=0)[1], "first_byte", "explain a section")
    ok(lab.cli("config", "explain", "upstreams.*.helth")[0] != 0, "explain an unknown key")
    schema = json.loads(lab.cli("config", "schema", check=0)[1])
    ok("2020-12" in schema["$schema"] and "listeners" in schema["properties"], "schema", list(schema))


@story
def verbs(lab):
    for verb in ("run", "check", "proxy", "echo", "doctor", "status", "show", "set", "reload", "drain", "upgrade", "ban", "kern", "config", "version", "help",
                 "completion"):
        has(lab.cli("help", verb, check=0)[1], verb, "help of " + verb)
        eq(lab.cli(verb, "--no-such-option")[0], 2, "an unknown option of " + verb)
    for verb in ("top", "nonsense"):
        eq(lab.cli("help", verb)[0], 2, "help of %s, which is not there" % verb)
        eq(lab.cli(verb)[0], 2, verb)
    ok(lab.cli()[0] in (0, 2), "no verb")
    has(lab.cli("version", check=0)[1], "weir 0.", "version")
    ok(json.loads(lab.cli("version", "-j", check=0)[1])["version"], "version -j")
    for key in ("timeouts.first_byte", "upstreams.*.health.every", "routes.*[].filters[].rate_limit.ban"):
        for shell in ("bash", "zsh", "fish"):
            has(lab.cli("completion", shell, check=0)[1], "\n%s\n" % key, "keys in the completion of " + shell)
        lab.cli("config", "explain", key, check=0)
        has(lab.cli("help", "--man", check=0)[1].replace("\\-", "-"), key + ": ", "keys in the manual page")
    if shutil.which("bash"):
        import subprocess
        script = lab.cli("completion", "bash", check=0)[1] + "COMP_WORDS=(weir config explain timeouts.fi) COMP_CWORD=3; _weir; echo ${COMPREPLY[*]}\n"
        eq(subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split(), ["timeouts.first_byte"], "config explain <TAB>")
    for shell in ("bash", "zsh", "fish"):
        has(lab.cli("completion", shell, check=0)[1], "doctor", "completion of " + shell)
    eq(lab.cli("completion", "tcsh")[0], 2, "completion of another shell")
    status, out, _ = lab.cli("doctor", "-j")
    ok(status in (0, 3) and all({"check", "state", "why"} <= set(row) for row in json.loads(out)), "doctor -j", out[:200])
    for verb in (("status",), ("show", "pools"), ("ban", "list"), ("drain",), ("upgrade",), ("set", "log-level", "debug")):
        status, _, err = lab.cli(*verb, "--socket", lab.path("nobody.sock"))
        eq(status, 1, "%s where nothing runs" % verb[0])
        has(err, "nobody.sock", "why")


@story
def socket_option(lab):
    # `run --socket` is where the admin is, whatever the file says; what cannot be one is wrong usage.
    import subprocess
    from weirlab import BINARY
    config, there = lab.config(lab.upstream()), lab.path("there.sock")
    path = lab.write("weir.yaml", json.dumps(config))
    has(lab.cli("check", "-c", path, "--socket", there, "--effective", check=0)[1], there, "check --effective")
    for run in (["run", "-c", path], ["proxy", "-i", config["instance"], "--listen", address(), "--to", "127.0.0.1:1"]):
        p = subprocess.Popen([BINARY, *run, "--socket", there], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            wait(lambda: lab.cli("status", "--socket", there)[0] == 0, "the admin answers there")
            ok(not os.path.exists(config["admin"]["socket"]), "and not where the file has it")
            p.send_signal(INT)
            eq(p.wait(20), 0, "exit status")
            ok(not os.path.exists(there), "it is taken away at the end")
        finally:
            p.kill()
            p.wait()
            shutil.rmtree("/run/weir/" + config["instance"], ignore_errors=True)  # root's, when it ended as nobody
    eq(lab.cli("run", "-c", path, "--socket", "x" * 108)[0], 2, "too long")
    eq(lab.cli("run", "-c", path, "--socket", "")[0], 2, "empty")
    eq(lab.cli("proxy", "--listen", address(), "--to", "127.0.0.1:1", "--socket", there)[0], 2, "proxy without an instance")


@story
def proxy_verb(lab):
    # `run` without a file: what it prints is what it runs.
    up, bind = lab.upstream(), address()
    text = lab.cli("proxy", "--listen", bind, "--to", up.address, "--print-config", check=0)[1]
    lab.cli("check", "-c", lab.write("printed.yaml", text), check=0)
    has(text, up.address, "the printed configuration")
    for to in ("a:1,,b:1", "a:1,", ",a:1"):
        has(lab.cli("proxy", "--listen", bind, "--to", to, "--print-config")[2], "no server between two commas", to)
    err = lab.cli("proxy", "--listen", bind, "--to", up.address, "--tls-cert", "/nonexistent")[2]
    eq(err.count("/nonexistent'"), 1, "told once")
    import subprocess
    from weirlab import BINARY
    p = subprocess.Popen([BINARY, "proxy", "--listen", bind, "--to", up.address], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        def reach():
            try:
                with dial(bind) as c:
                    c.send(text_of("GET /p"))
                    return c.response().status == 200
            except OSError:
                return False
        wait(reach, "it serves")
        p.send_signal(INT)
        eq(p.wait(20), 0, "exit status")
    finally:
        p.kill()
        p.communicate()


@story
def echo_verb(lab):
    import subprocess
    from weirlab import BINARY
    bind = address()
    p = subprocess.Popen([BINARY, "echo", "--listen", bind], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        def up():
            try:
                dial(bind).close()
                return True
            except OSError:
                return False
        wait(up, "echo listens")
        with dial(bind) as c:
            has(c.send(text_of("CONNECT a.test:80", [("Host", "a.test:80"), ("Connection", "close")])).rest().decode(), "CONNECT a.test:80 HTTP", "the target of CONNECT")
        w = lab.weir(servers=[bind])
        has(w.ask("POST /hello", [("X-Mine", "7")], b"body of it").body.decode(), "body of it", "what it received")
        eq((len(w.ask("GET /bytes/100000").body), w.ask("GET /status/418").status, w.ask("GET /delay/50").status), (100000, 418, 200), "bytes, status, delay")
    finally:
        p.send_signal(TERM)
        eq(p.wait(20), 0, "exit status")


# --- the admin -------------------------------------------------------------------------------------------------------

def get_at(door, path):
    with dial(door) as c:
        return c.send(text_of("GET " + path)).response()


@story
def admin_endpoints(lab):
    up = lab.upstream(lambda c, r: (time.sleep(0.5 if r.target == "/slow" else 0), c.send(answer(200, "x")))[0])
    tcp = address()
    w = lab.weir(up, admin={"listen": tcp}, listener={"limits": {"headers": 50}})
    c = w.client()
    c.send(text_of("GET /slow"))
    wait(lambda: up.requests, "a request is in flight")
    eq((w.status()["connections"], w.status()["in_flight"], w.status()["state"]), (1, 1, "ready"), "status")
    rows = w.admin("/v1/connections").json()["connections"]
    eq([(r["client"].rsplit(":", 1)[0], r["state"], r["listener"]) for r in rows], [("127.0.0.1", "active", "web")], "connections")
    with w.client() as other:
        other.send(text_of("GET /slow"))
        wait(lambda: len(up.requests) == 2, "another one")
        ids = [r["id"] for r in w.admin("/v1/connections").json()["connections"]]
        eq((len(set(ids)), max(ids) < 100), (2, True), "ids are counted: %s" % ids)
        other.response()
    for path in ("status", "connections", "upstreams", "pools", "routes", "certs", "bans", "config", "config?diff"):
        r = w.admin("/v1/" + path)
        eq((r.status, r.get("content-type")), (200, "application/json"), path)
        r.json()
        # Over TCP, where nobody is asked who they are, only what the page shows: no clients, no configuration.
        for door, status in ((w.socket, 200), (tcp, 200 if path in ("status", "upstreams") else 403)):
            for method in ("GET", "HEAD"):
                with dial(door) as a:
                    a.send(text_of("%s /v1/%s" % (method, path)))
                    eq(a.response(method).status, status, "%s %s at %s" % (method, path, door))
    eq(c.response().status, 200, "it ends")
    for method, path, status in (("GET", "/v1/nothing", 404), ("DELETE", "/v1/status", 405), ("POST", "/v1/bans", 400), ("PUT", "/v1/log-level", 400),
                                 ("PUT", "/v1/upstreams/app/servers/1.2.3.4:5", 404), ("PUT", "/v1/upstreams/none/servers/x", 404),
                                 ("DELETE", "/v1/bans", 400), ("DELETE", "/v1/bans?prefix=%zz", 400), ("GET", "/v1/../v1/status", 404)):
        r = w.admin(path, method, {} if method in ("POST", "PUT") else None)
        eq(r.status, status, "%s %s" % (method, path))
        ok(r.json()["error"], "says why")
    for method, path in (("POST", "/v1/drain"), ("POST", "/v1/bans"), ("PUT", "/v1/log-level")):
        with dial(tcp) as a:
            a.send(text_of("%s %s" % (method, path), [], b"{}"))
            eq(a.response().status, 403, "over TCP it only reads: %s" % path)
    for path in ("/", "/healthz", "/readyz", "/metrics"):
        with dial(tcp) as a:
            a.send(text_of("GET " + path))
            eq(a.response().status, 200, path)
    page = {door: get_at(door, "/").body.decode() for door in (w.socket, tcp)}
    for path in ("/v1/connections", "/v1/config", "/v1/bans", "/v1/drain", "/v1/log-level", "/v1/upstreams/*/servers/*"):
        eq((path in page[w.socket], path in page[tcp]), (True, False), "each page lists what its door leads to: " + path)
    has(page[tcp], "/v1/upstreams", "over TCP too")
    ok(page[tcp].endswith("</html>\n"), "the page is whole")
    eq(oct(os.stat(w.socket).st_mode & 0o777), "0o600", "mode of the socket")
    for what in ("connections", "upstreams", "pools", "routes", "certs", "bans", "config"):
        w.cli("show", what, check=0)
        json.loads(w.cli("show", what, "-j", check=0)[1])
    json.loads(w.cli("status", "-j", check=0)[1])
    has(w.cli("status", check=0)[1], "ready", "status")
    eq(w.cli("show", "nonsense")[0], 2, "show something else")
    w.cli("set", "log-level", "debug", check=0)
    eq(w.status()["log_level"], "debug", "the level")
    w.cli("set", "log-level", "loud", check=2)


@story
def admin_takes_abuse(lab):
    # Slow, large, broken requests to the admin hurt nobody.
    w = lab.weir(lab.upstream(), admin={"listen": address()})
    tcp = w.config["admin"]["listen"]
    held = [dial(tcp) for _ in range(20)]
    for c in held:
        c.send("GET / HT")
    with dial(w.socket) as c:
        c.send(text_of("POST /v1/bans", [("Content-Length", "100000000")]))
        eq(c.response().status, 413, "a large body")
    with dial(w.socket) as c:
        c.send(b"\x00\xff\r\n\r\n")
        eq(c.response().status, 400, "junk")
    for body in (b"[1]", b"{", b'{"prefix": 5}', b'{"prefix":"1.2.3.4","x":1}', b'{"prefix":"1.2.3.4","prefix":"1.2.3.5"}', b"\xff"):
        with dial(w.socket) as c:
            c.send(text_of("POST /v1/bans", [], body))
            eq(c.response().status, 400, "body %r" % body)
    with dial(w.socket) as c:
        c.send(text_of("GET /healthz") * 20)
        eq([c.response().status for _ in range(20)], [200] * 20, "pipelined")
    for c in held:
        c.reset()
    # Who holds as many connections as the door has keeps nobody out: the one that was idle for longest goes.
    held = [dial(tcp) for _ in range(64)]
    for c in held[:-1]:
        eq(c.send(text_of("GET /healthz")).response().status, 200, "one of many")
    held[-1].send("GET / HT")
    for _ in range(8):  # they stay: one that has left makes room by itself
        held.append(dial(tcp))
        eq(held[-1].send(text_of("GET /readyz")).response().status, 200, "one more")
    ok(held[0].ended(), "the oldest has gone")
    eq(held[60].send(text_of("GET /healthz")).response().status, 200, "a younger one stays")
    for c in held:
        c.close()
    eq(w.admin("/v1/bans").json(), [], "nothing was banned")


@story
def metrics_match(lab):
    # What was done is what is counted.
    up = lab.upstream()
    dead = lab.upstream(listen=False)
    w = lab.weir(up, upstreams={"dead": {"servers": [dead.address]}},
                 routes=[{"name": "dead", "match": {"path": "/dead"}, "to": "dead"}, {"name": "say", "match": {"path": "/say"}, "reply": {"body": "x"}},
                         {"name": 'q"uo\\te', "match": {"host": "q.test"}, "reply": {"status": 204}}, {"name": "app", "match": {"path": "/app/"}, "to": "app"}])
    for _ in range(5):
        body = w.ask("POST /app/", body=b"12345").body
    w.ask("GET /dead")
    w.ask("GET /say")
    w.ask("GET /", [("Host", "q.test")])
    w.ask("GET /none")
    with w.client() as c:
        c.send("junk\r\n\r\n")
        c.response()
    w.settle(connections=True)
    m = w.metrics()
    total = {k: v for k, v in m.items() if k.startswith("weir_requests_total")}
    eq(sum(total.values()), 10, "requests: %s" % total)
    eq(w.metric("weir_requests_total", route="app", code="200"), 5, "of the route")
    eq(w.metric("weir_requests_total", code="404"), 1, "no route")
    eq(w.metric("weir_requests_total", code="502"), 1, "502")
    eq(w.metric("weir_requests_total", code="400"), 1, "400")
    eq(w.metric("weir_upstream_requests_total", upstream="app"), 5, "to the upstream")
    eq(w.metric("weir_errors_total", by="upstream", code="ECONNREFUSED"), 1, "errors")
    eq(w.metric("weir_request_duration_seconds_count", route="app"), 5, "the histogram")
    buckets = [v for k, v in m.items() if k.startswith("weir_request_duration_seconds_bucket") and 'route="app"' in k]
    eq((buckets, buckets[-1]), (sorted(buckets), 5), "its buckets")
    eq(w.metric("weir_connections_accepted_total"), 10, "connections")
    eq((w.metric("weir_requests_in_flight"), w.metric("weir_connections")), (0, 0), "gauges")
    eq([w.metric("weir_bytes_total", side=side, direction=way) for side, way in (("down", "in"), ("up", "out"), ("up", "in"))],
       [25, sum(len(r.body) for r in up.requests), 5 * len(body)], "bytes of bodies: from the client, and as the server saw them")
    ok(w.metric("weir_bytes_total", side="down", direction="out") > 5 * len(body), "to the client, with weir's own answers")
    ok(any(k.startswith("weir_build_info") for k in m) and w.metric("weir_bugs_total") == 0, "build_info, bugs_total")
    ok(w.metric("weir_upstream_up", upstream="app") == 1, "upstream_up")


# --- the access log --------------------------------------------------------------------------------------------------

@story
def access_log_of_hostile_bytes(lab):
    # One line, valid JSON, whatever a client sends.
    w = lab.weir(lab.upstream(), listener={"paths": "raw"}, access_log={"redact": "off"})
    hostile = ['/a"b', "/a%0ab", "/\xff\xfe", "/\u00e9", "/a?q=\"\\", "/" + "x" * 9000, "/\x7f"]
    sent = 0
    for path in hostile:
        with w.client() as c:
            c.send("GET %s HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\"\\\t\xc3\xa9\xed\xa0\x80\r\nReferer: \xf0\x9f\x92\xa9\"\r\nConnection: close\r\n\r\n" % path)
            c.response()
            sent += 1
    with w.client() as c:
        c.send(b'G"T / HTTP/1.1\r\nHost: "\r\n\r\n')
        c.response()
    lines = w.access(sent)  # every line is parsed
    ok(all({"ts", "id", "listener", "route", "client", "method", "host", "path", "status", "bytes_in", "bytes_out", "duration_us"} <= set(line)
           for line in lines[:3] if line["status"] == 200), "fields", lines[0])
    ok(any("\\" in line["user_agent"] and '"' in line["user_agent"] for line in lines), "what it sent is told", lines[0])


@story
def access_log_fields(lab):
    up = lab.upstream()
    w = lab.weir(up)
    w.ask("POST /a/b?secret=1", [("User-Agent", "me"), ("Referer", "there")], b"12345")
    line = w.access(1)[0]
    eq((line["method"], line["path"], line["status"], line["bytes_in"], line["upstream"], line["server"], line["attempts"], line["reused"],
        line["user_agent"], line["referer"], line["protocol"], line["host"], line["client"]),
       ("POST", "/a/b", 200, 5, "app", up.address, 1, False, "me", "there", "HTTP/1.1", "weir.test", "127.0.0.1"), "the line")
    eq(line["query"], "secret=***", "the query's values are redacted")
    ok(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["ts"]), "ts", line["ts"])
    ok(0 <= line["first_byte_us"] <= line["duration_us"] < 10e6 * SLOW, "times", line)


@story
def access_log_formats(lab):
    paths = {n: lab.path(n + ".log") for n in ("combined", "own", "none")}
    w = lab.weir(lab.upstream(), access_log={"format": "combined", "to": {"file": paths["combined"]}},
                 routes=[{"name": "own", "match": {"path": "/own"}, "to": "app", "access_log": {"format": "$status $method $path $route|$user_agent", "to": {"file": paths["own"]}}},
                         {"name": "off", "match": {"path": "/off"}, "to": "app", "access_log": "off"}, {"name": "rest", "to": "app"}])
    w.ask("GET /x?y", [("User-Agent", 'a"b')])
    w.ask("GET /own", [("User-Agent", "line\tbreak")])
    w.ask("GET /off")
    wait(lambda: os.path.exists(paths["combined"]) and os.path.getsize(paths["combined"]), "a line")
    text = open(paths["combined"], encoding="utf-8").read()
    ok(re.fullmatch(r'127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET /x\S* HTTP/1\.1" 200 \d+ "[^"]*" ".*"\n', text), "combined", text)
    wait(lambda: os.path.exists(paths["own"]) and os.path.getsize(paths["own"]), "a line")
    has(open(paths["own"], encoding="utf-8").read(), "200 GET /own own|", "a format of its own")
    eq((text.count("\n"), w.access()), (1, []), "and no other lines")


@story
def log_as_json(lab):
    w = lab.weir(lab.upstream(), log={"format": "json"}, wait_ready=True)
    w.kick(HUP)
    wait(lambda: "reload" in w.log(), "a line")
    lines = [json.loads(line) for line in w.log().splitlines() if line]
    ok(len(lines) >= 2, "lines", lines)


@story
def nobody_reads_stdout(lab):
    # The access log goes to a pipe that nobody reads, and then has no reader at all: requests are served all the same.
    import subprocess
    from weirlab import BINARY
    bind = address()
    config = dict(lab.config(lab.upstream(), listener={"bind": bind}), workers=1)
    read, write = os.pipe()
    p = subprocess.Popen([BINARY, "run", "-c", lab.write("weir.yaml", json.dumps(config))], stdout=write, stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        def listens():
            try:
                return dial(bind)
            except OSError:
                return None
        with wait(listens, "it listens") as c:
            for _ in range(400):
                c.send(text_of("GET /"))
                eq(c.response().status, 200, "while the pipe is full")
            os.close(read)
            read = None
            c.send(text_of("GET /"))
            eq(c.response().status, 200, "without a reader")
    finally:
        if read is not None:
            os.close(read)
        p.terminate()
        eq(p.wait(20), 0, "exit status")


@story
def ipv6_and_any(lab):
    # ":PORT" is v4 and v6.
    port = address().split(":")[1]
    w = lab.weir(lab.upstream(), listener={"bind": ":" + port})
    with dial(("127.0.0.1", int(port))) as c:
        c.send(text_of("GET /"))
        eq(dict(c.response().json()["fields"])["x-forwarded-for"], "127.0.0.1", "by v4")
    import socket
    from weirlab import Conn
    s = socket.socket(socket.AF_INET6)
    s.settimeout(5)
    try:
        s.connect(("::1", int(port)))
    except OSError:
        return  # a host without IPv6
    with Conn(s) as c:
        c.send(text_of("GET /"))
        eq(dict(c.response().json()["fields"])["x-forwarded-for"], "::1", "by v6")


main()
