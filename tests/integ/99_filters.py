#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Built-in filters, through the configuration."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
from weirlab import SLOW, answer, eq, has, main, ok, story, text_of, wait  # noqa: E402


@story
def headers(lab):
    up = lab.upstream(lambda c, r: c.send(answer(200, "x", [("X-Old", "1"), ("Server", "up"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])))
    w = lab.weir(up, route={"filters": [{"headers": {
        "request": {"set": {"x-env": "prod", "x-client": "$client"}, "add": {"x-many": "2"}, "remove": ["cookie", "x-gone"]},
        "response": {"set": {"server": "gate"}, "add": {"x-served-by": "weir"}, "remove": ["x-old"]}}}]})
    r = w.ask("GET /", [("Cookie", "a=1"), ("X-Env", "forged"), ("X-Env", "twice"), ("X-Many", "1"), ("X-Gone", "x"), ("X-Stays", "y")])
    seen = up.requests[0]
    eq((seen.all("x-env"), seen.all("x-many"), seen.get("cookie"), seen.get("x-gone"), seen.get("x-stays")), (["prod"], ["1", "2"], None, None, "y"), "the request")
    eq((r.all("server"), r.get("x-served-by"), r.get("x-old"), r.all("set-cookie")), (["gate"], "weir", None, ["a=1", "b=2"]), "the answer")


@story
def headers_can_not_touch_framing(lab):
    for name in ("content-length", "transfer-encoding", "connection", "host:", "bad name"):
        status, _, err = lab.cli("check", "-c", lab.write("weir.yaml", __import__("json").dumps(
            lab.config(lab.upstream(), route={"filters": [{"headers": {"request": {"set": {name: "5"}}}}]}))))
        eq(status, 2, "setting %r is an error (%s)" % (name, err[:200]))
    for value in ("a\r\nx: y", "a\x00b"):
        status, _, err = lab.cli("check", "-c", lab.write("weir.yaml", __import__("json").dumps(
            lab.config(lab.upstream(), route={"filters": [{"headers": {"request": {"set": {"x-a": value}}}}]}))))
        eq(status, 2, "a value with %r is an error (%s)" % (value, err[:200]))


@story
def headers_on_own_answers(lab):
    # Answers of our own pass the response filters too.
    add = {"headers": {"response": {"set": {"x-frame-options": "deny"}}}}
    w = lab.weir(lab.upstream(listen=False), routes=[{"name": "r", "match": {"path": "/r"}, "reply": {"body": "x"}, "filters": [add]},
                                                     {"name": "u", "to": "app", "filters": [add]}])
    eq((w.ask("GET /r").get("x-frame-options"), w.ask("GET /u").status), ("deny", 502), "a reply; an error")
    eq(w.ask("GET /u").get("x-frame-options"), "deny", "an error's answer")


def limited(lab, up, **conf):
    return lab.weir(up, route={"filters": [{"rate_limit": conf}]})


@story
def rate_limit(lab):
    up = lab.upstream()
    w = limited(lab, up, rate="2/s", burst=5)
    seen = [w.ask("GET /") for _ in range(8)]
    eq([r.status for r in seen[:5]], [200] * 5, "the burst")
    refused = [r for r in seen if r.status == 429]
    ok(len(refused) >= 2, "then 429", [r.status for r in seen])
    ok(all(1 <= int(r.get("retry-after")) <= 2 for r in refused), "Retry-After", [r.get("retry-after") for r in refused])
    eq(len(up.requests), 8 - len(refused), "requests at the upstream")
    eq(w.ask("GET /", source="127.0.0.9").status, 200, "another client")
    time.sleep(1.1)
    eq(w.ask("GET /").status, 200, "it is refilled")


@story
def rate_limit_by_header(lab):
    w = limited(lab, lab.upstream(), key="header:x-key", rate="1/m", burst=2, status=503)
    eq([w.ask("GET /", [("X-Key", "a")]).status for _ in range(4)], [200, 200, 503, 503], "one key")
    eq([w.ask("GET /", [("X-Key", "b")]).status for _ in range(3)], [200, 200, 503], "another key")
    eq([w.ask("GET /").status for _ in range(3)], [200, 200, 503], "no key: the client's address")


@story
def rate_limit_by_route(lab):
    w = limited(lab, lab.upstream(), key="route", rate="1/m", burst=3)
    eq([w.ask("GET /", source="127.0.0.%d" % i).status for i in range(2, 7)], [200, 200, 200, 429, 429], "all clients together")


@story
def rate_limit_keeps_the_connection(lab):
    # 429 is an answer like others: keep-alive goes on, also behind a request with a body.
    w = limited(lab, lab.upstream(), rate="1/m", burst=1)
    with w.client() as c:
        c.send(text_of("POST /", body=b"x" * 1000) + text_of("POST /", body=b"y" * 1000) + text_of("GET /"))
        eq([c.response().status for _ in range(3)], [200, 429, 429], "pipelined")


@story
def rate_limit_bans(lab):
    w = limited(lab, lab.upstream(), rate="1/m", burst=2, ban="1s")
    seen = []
    for _ in range(3):
        seen.append(w.ask("GET /", source="127.0.0.44").status)
    eq(seen, [200, 200, 429], "the third is too much")

    def shut():
        try:
            with w.client(source="127.0.0.44") as c:
                c.sock.settimeout(0.3 * SLOW)
                return not c.more()
        except OSError:
            return True
        except AssertionError:
            return False
    ok(shut(), "it is banned")
    has(w.log(), "listener 'web': 127.0.0.44/32 is banned for 1 s: rate_limit (1 since the last line)", "the log")
    eq(w.ask("GET /", source="127.0.0.45").status, 200, "others are not")
    has(w.cli("ban", "list", check=0)[1], "127.0.0.44", "ban list")
    wait(lambda: not shut(), "the ban ends", 4 * SLOW)


@story
def filters_in_order(lab):
    up = lab.upstream()
    w = lab.weir(up, route={"filters": [{"headers": {"request": {"set": {"x-a": "1"}}}}, {"headers": {"request": {"remove": ["x-a"], "set": {"x-b": "2"}}}}]})
    w.ask("GET /")
    eq((up.requests[0].get("x-a"), up.requests[0].get("x-b")), (None, "2"), "one after the other")


main()
