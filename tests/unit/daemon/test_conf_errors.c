/* SPDX-License-Identifier: Apache-2.0 */
/* What is refused, where, and in which words. Each row adds one wrong line to a good configuration. */
#include "conf_text.h"

#include <jansson.h>

#define GOOD                                              \
    "listeners: { web: { bind: ':80', routes: main } }\n" \
    "upstreams: { app: { servers: [ 10.0.0.1:80 ] } }\n"
#define ROUTE(text) GOOD "routes: { main: [ { " text " } ] }\n"
#define MATCH(text) ROUTE("to: app, match: { " text " }")
#define SHADOW(first, second)                                    \
    GOOD "routes: { main: [ { name: a, to: app, match: { " first \
         " } }, { name: b, to: app, match: { " second " } } ] }\n"
#define UP(text)                                     \
    "listeners: { web: { bind: ':80', to: app } }\n" \
    "upstreams: { app: { " text " } }\n"
#define LISTENER(text)                   \
    "listeners: { web: { " text " } }\n" \
    "upstreams: { app: { servers: [ 10.0.0.1:80 ] } }\n"
#define TCP(text)                                                    \
    "listeners: { web: { bind: ':80', protocol: tcp, " text " } }\n" \
    "upstreams: { app: { servers: [ 10.0.0.1:80 ] } }\n"
#define TOP(text) LISTENER("bind: ':80', to: app") text "\n"

static const struct refusal {
    const char *text, *said;
} refusals[] = {
    { "", "the configuration is empty" },
    { "- a\n", "t.yaml:1:1: error: a configuration is a map of sections, not a list" },
    { "a: 1\n--- \nb: 1\n", "only one YAML document" },
    { "a: !x 1\n", "tags are not allowed" },
    { "a: *b\n", "there is no anchor 'b'" },
    { "a: &b [ *b ]\n", "inside of its own anchor" },
    { "<<: { a: 1 }\n", "merge keys" },
    { "a: \xff\n", "t.yaml:1:4: error: not UTF-8 text" },
    { "a: [ 1\n", "YAML syntax: " },
    { "[a]: 1\n", "a key must be a text" },
    { TOP("helth: 1"), "t.yaml:3:1: error: unknown key 'helth'" },
    { TOP("acess: {}"), "unknown key 'acess'; did you mean 'access'?" },
    { TOP("workers: 0"), "t.yaml:3:10: error: 'workers' must be from 1 to 256" },
    { TOP("workers: many"), "'many' is no value of 'workers': it must be a whole number, or auto" },
    { TOP("io: io-uring"), "'io-uring' is no value of 'io': it must be one of auto, epoll" },
    { TOP("instance: a/b"), "'instance' may have letters" },
    { TOP("timeouts: { connect: 5 }"), "'5' is no value of 'connect': it must be a duration" },
    { TOP("timeouts: { connect: 0s }"), "'connect' must not be 0; to switch it off write 'off'" },
    { TOP("timeouts: { connect: 99999999999999999999h }"), "no value of 'connect'" },
    { TOP("timeouts: [ a ]"), "'timeouts' must be a map (KEY: VALUE), not a list" },
    { TOP("limits: { head: off }"), "'off' is no value of 'head'" },
    { TOP("limits: { streems: 100 }"), "unknown key 'streems' in 'limits'" },
    { TOP("limits: { memory: 3 }"), "'3' is no value of 'memory'" },
    { TOP("director: {}"), "unknown key 'director'" },
    { TOP("access: { deny: [ 10.0.0.1/8 ] }"), "t.yaml:3:19: error: '10.0.0.1/8' is no prefix" },
    { TOP("dns: { servers: [ ns.test ] }"), "'ns.test' is no name server" },
    { TOP("dns: { ttl_min: 10m }"), "'ttl_min' is longer than 'ttl_max'" },
    { TOP("admin: { listen: ':80' }"), "listener 'web' has this address as well" },
    { TOP("log: { to: x }"),
      "'x' is no value of 'to': it must be one of stderr, syslog, journal, or { file: PATH }" },
    { TOP("access_log: { format: plain }"), "'plain' is no value of 'format'" },
    { TOP("access_log: { sample: 120% }"), "'sample' must be from 0% to 100%" },
    { TOP("user: ${WEIR_TEST_UNDEFINED}"),
      "the environment has no variable 'WEIR_TEST_UNDEFINED'" },
    { TOP("user: ${x"), "needs a name and '}'" },
    { "listeners: {}\n", "there are no listeners" },
    { "upstreams: {}\n", "the configuration needs 'listeners'" },
    { "listeners: { a: { bind: ':1', to: u }, b: { bind: ':1', to: u } }\nupstreams: { u: { "
      "servers: 'x:1' } }\n",
      "t.yaml:1:51: error: the address ':1' is bound twice; first at t.yaml:1" },
    { "listeners: { a: { bind: ':1', to: u }, b: { bind: '0.0.0.0:1', to: u } }\nupstreams: { u: { "
      "servers: 'x:1' } }\n",
      "bound twice" },
    /* what the kernel would refuse, as one address covers the other; ports and families apart do not */
    { LISTENER("bind: [ ':1', '127.0.0.1:1' ], to: app"),
      "t.yaml:1:35: error: the address '127.0.0.1:1' is bound twice; ':1' at t.yaml:1 has it" },
    { LISTENER("bind: [ '[::1]:1', ':1' ], to: app"), "the address ':1' is bound twice" },
    { LISTENER("bind: [ '127.0.0.1:1', '0.0.0.0:1' ], to: app"), "'0.0.0.0:1' is bound twice" },
    { LISTENER("bind: [], to: app"), "t.yaml:1:27: error: listener 'web' has no address" },
    { TOP("access_log: { format: '$nope' }"),
      "t.yaml:3:23: error: access_log: format: there is no '$nope'" },
    { TOP("access_log: { redact: [ query, qurey ] }"),
      "t.yaml:3:23: error: access_log: redact: 'qurey' is not one of query" },
    { LISTENER("bind: ':80', to: app, access_log: { redact: pth }"), "redact: 'pth' is not one" },
    { "listeners: { a: 1, a: 2 }\n", "the key 'a' is there twice; first at t.yaml:1" },
    { LISTENER("to: app"), "listener 'web' needs 'bind'" },
    { LISTENER("bind: ':80'"), "listener 'web' needs 'to' or 'routes'" },
    { LISTENER("bind: ':80', to: app, routes: x"), "has both 'to' and 'routes'" },
    { LISTENER("bind: ':80', to: ap"), "there is no upstream 'ap'; did you mean 'app'?" },
    { LISTENER("bind: ':80', routes: []"), "a list of routes must not be empty" },
    { LISTENER("bind: ':80', routes: none"), "there are no routes 'none'" },
    { LISTENER("bind: '192.0.2.0/24:1-9', to: app"), "is no address to listen on" },
    { LISTENER("bind: 'unix:x', to: app"), "must begin with '/'" },
    { LISTENER("bind: ':80', to: app, protocol: udp"),
      "'udp' is no value of 'protocol': it must be one of http, tcp" },
    { TCP("to: app, via: me"), "t.yaml:1:58: error: 'via' is about requests of HTTP: a listener of "
                               "'protocol: tcp' has none" },
    { TCP("routes: [ { match: { path: /a }, to: app } ]"),
      "'path' is matched in requests of HTTP; of a connection to a tcp listener only 'client', "
      "'port' and 'sni' are known" },
    { TCP("routes: [ { match: { sny: a.test }, to: app } ]"),
      "unknown key 'sny' in 'match' of route '1' of listener 'web'; did you mean 'sni'?" },
    { TCP("routes: [ { reply: { status: 200 } } ]"),
      "'reply' answers a request of HTTP: a route of a tcp listener needs 'to'" },
    { TCP("routes: [ { redirect: { to: '/' } } ]"), "'redirect' answers a request of HTTP" },
    { TCP("routes: [ { to: app, upgrade: [ websocket, x ] } ]"),
      "'upgrade' is about requests of HTTP" },
    { TCP("routes: [ { to: app, connect: on } ]"),
      "'connect' is about requests of HTTP: a tcp listener has none" },
    { TCP("routes: [ { to: app, filters: [ { headers: {} } ] } ]"),
      "filter 'headers' is about messages of HTTP: a tcp listener has none" },
    { TCP("routes: main") "routes: { main: [ { match: { host: a.test }, to: app } ] }\n",
      "'host' is matched in requests of HTTP" },
    { "listeners: { web: { bind: ':80', protocol: tcp, to: app } }\nupstreams: { app: { servers: [ "
      "10.0.0.1:80 ], protocol: h2 } }\n",
      "upstream 'app' has a 'protocol', which clients of a tcp listener would have to speak" },
    { LISTENER("bind: ':80', to: app, proxy_protocol: on"),
      "'on' is no value of 'proxy_protocol': it must be one of off, accept, require" },
    { LISTENER("bind: ':80', to: app, proxy_protocol: require"),
      "t.yaml:1:59: error: nobody could connect: 'require' needs 'trusted_proxies'" },
    { UP("servers: [ 'a:1' ], protocol: h2, proxy_protocol: v2"),
      "'proxy_protocol' needs 'protocol: h1'" },
    { UP("servers: [ 'a:1' ], proxy_protocol: v3"),
      "'v3' is no value of 'proxy_protocol': it must be one of off, v1, v2" },
    { TCP("to: 'listener:wb'"), "there is no listener 'wb'; did you mean 'web'?" },
    { TCP("to: 'listener:web'"),
      "listener 'web' hands connections on as well: only one that does not can be handed any" },
    { LISTENER("bind: ':80', to: 'listener:web'"),
      "a connection is handed to another listener by a listener of 'protocol: tcp' alone" },
    { LISTENER("bind: ':80', to: app, mode: 888"), "octal permissions" },
    { LISTENER("bind: ':80', to: app, device: abcdefghijklmnopq"), "network interface" },
    { LISTENER("bind: ':80', to: app, request_id: 'a b'"), "'a b' is no name of a header" },
    { LISTENER("bind: ':80', to: app, tls: on"), "'tls' must be off, { cert: FILE" },
    { LISTENER("bind: ':80', to: app, tls: {}"), "'tls' of listener 'web' needs a certificate" },
    { LISTENER("bind: ':80', to: app, tls: { cert: a, alpn: [ h3 ] }"),
      "'h3' is no value of 'alpn'" },
    { LISTENER("bind: ':80', to: app, tls: { certs: [ { key: a } ] }"),
      "a certificate needs 'cert' or 'dir'" },
    { LISTENER("bind: ':80', to: app, tls: { certs: [], cert: a }"),
      "'cert' and 'certs' say the same" },
    { LISTENER("bind: ':80', to: app, tls: { cert: a, client_verify: require }"),
      "t.yaml:1:59: error: 'client_verify' needs 'client_ca'" },
    { LISTENER("bind: ':80', to: app, tls: { cert: a, client_ca: b, client_verify: on }"),
      "'on' is no value of 'client_verify': it must be one of require, optional" },
    /* a key without a value is no default: each of these would let more through than was meant */
    { LISTENER("bind: ':80', to: app, tls: "), "t.yaml:1:43: error: 'tls' has no value: give it" },
    { LISTENER("bind: ':80', to: app, tls: { cert: a, client_ca: }"), "'client_ca' has no value" },
    { LISTENER("bind: ':80', to: "), "'to' has no value" },
    { LISTENER("bind: , to: app"), "'bind' has no value" },
    { LISTENER("bind: ':80', to: app, access_log: ~"), "'access_log' has no value" },
    { MATCH("path: "), "'path' has no value" },
    { MATCH("client: null"), "'client' has no value" },
    { MATCH("path: [ ~ ]"), "an element of 'path' has no value" },
    { ROUTE("to: app, match: "), "'match' has no value" },
    { ROUTE("to: app, filters: [ headers: ]"), "filter 'headers' has no value" },
    { TOP("limits: "), "'limits' has no value" },
    { TOP("include: "), "'include' has no value" },
    { "listeners: \nupstreams: \n", "t.yaml:1:1: error: 'listeners' has no value" },
    { UP("servers: []"), "upstream 'app' has no servers" },
    { UP("balance: round-robin"), "upstream 'app' needs 'servers'" },
    { "listeners:\n\tweb: 1\n", "t.yaml:2:1: error: YAML syntax: a tab: indent by spaces alone" },
    { ROUTE("to: app, retry: { when: [ always ] }"), "reset, timeout, or a status like 503" },
    { UP("servers: [ 'a:1', 'a:1' ]"), "server 'a:1' is there twice" },
    { UP("servers: [ 10.0.0.300:1 ]"), "'10.0.0.300:1' is no address of a server" },
    { UP("servers: [ 'a' ]"), "'a' is no address of a server" },
    { UP("servers: [ { weight: 1 } ]"), "needs 'address'" },
    { UP("servers: [ { address: 'a:1', weight: 1001 } ]"), "'weight' must be from 0 to 1000" },
    { UP("servers: [ 10.0.0.1:1 ], tls: on"), "has no name to verify" },
    { UP("servers: [ 'a:1' ], tls: { verify: off }, verify: on"), "'verify' is there twice" },
    { UP("servers: [ 'a:1' ], tls: { cert: c }"), "'cert' needs 'key'" },
    { UP("servers: [ 'a:1' ], protocol: h3"),
      "'h3' is no value of 'protocol': it must be one of h1, h2, auto" },
    { UP("servers: [ 'a:1' ], balance: p2c"), "'p2c' is no value of 'balance'" },
    { UP("servers: [ 'a:1' ], ejection: {}"), "unknown key 'ejection' in upstream 'app'" },
    { UP("servers: [ 'a:1' ], helth: {}"),
      "unknown key 'helth' in upstream 'app'; did you mean 'health'?" },
    { UP("servers: [ 'a:1' ], health: { expect: 2xx }"), "'2xx' is no list of statuses" },
    { UP("servers: [ 'a:1' ], health: { evry: 2s }"),
      "unknown key 'evry' in 'health' of upstream 'app'" },
    { UP("servers: [ 'a:1' ], health: { type: grpc }"),
      "'type: grpc' needs an upstream of 'protocol: h2' or 'auto'" },
    { UP("servers: [ 'a:1' ], health: { service: a.B }"),
      "'service' is asked for by 'type: grpc' alone" },
    { UP("servers: [ 'a:1' ], health: { path: x }"), "'path' must begin with '/'" },
    { UP("servers: [ 'a:1', 10.0.0.1:1 ], source: '::1'"),
      "'::1' is an IPv6 address, and server '10.0.0.1:1' has one of IPv4" },
    { UP("servers: [ '[::1]:1' ], source: 127.0.0.1"), "'127.0.0.1' is an IPv4 address" },
    { UP("servers: [ 'a:1' ], source: '1.2.3.4:5'"), "'1.2.3.4:5' is no address" },
    /* what connections have is not for a route to say: it would do nothing */
    { ROUTE("to: app, name: r, limits: { head: 1KiB }"),
      "unknown key 'head' in 'limits' of route 'r' of routes 'main'" },
    { ROUTE("to: app, limits: { connections: 1 }"), "unknown key 'connections'" },
    { ROUTE("to: app, timeouts: { keepalive: 1s }"), "unknown key 'keepalive'" },
    { ROUTE("to: app, timeouts: { handshake: 1s }"), "unknown key 'handshake'" },
    { ROUTE("reply: { body: 'a $nope' }"),
      "t.yaml:3:36: error: reply: there is no '$nope'; there are $client $id $host $path $query" },
    { ROUTE("redirect: { to: 'https://a.test$pathx' }"), "redirect: there is no '$pathx'" },
    { ROUTE("reply: { status: 204, body: x }"), "an answer of status 204 has no body" },
    { LISTENER("bind: ':80', to: app, mode: 0660"),
      "t.yaml:1:43: error: 'mode' is for UNIX sockets: listener 'web' has none" },
    { TOP("access: { scope: host }"), "'host' is no value of 'scope': it must be listeners" },
    { TOP("limits: { replay: 0 }"), "'replay' must not be 0; to switch it off write 'off'" },
    { ROUTE("name: x"), "a route needs one of 'to', 'reply' and 'redirect'" },
    { ROUTE("to: app, reply: { status: 200 }"), "a route has only one of" },
    { ROUTE("reply: { status: 99 }"), "'status' must be from 200 to 599" },
    { ROUTE("redirect: { status: 305, to: x }"), "must be 301, 302, 303, 307 or 308" },
    { ROUTE("redirect: {}"), "needs 'to'" },
    { ROUTE("to: app, host: 'a b'"), "is no value of 'host'" },
    { ROUTE("to: app, retry: { when: [ 99 ] }"), "a status in 'when'" },
    { ROUTE("to: app, filters: [ haeders: {} ]"),
      "unknown filter 'haeders'; did you mean 'headers'?" },
    { ROUTE("to: app, filters: [ headers: { requst: {} } ]"),
      "unknown key 'requst' in filter 'headers' of route" },
    { ROUTE("to: app, filters: [ grpc_web: { text: on } ]"),
      "unknown key 'text' in filter 'grpc_web' of route" },
    { ROUTE("to: app, filters: [ grpc_web: yes ]"), "filter 'grpc_web' of route" },
    { ROUTE("to: app, filters: [ rate_limit: { rate: 5 } ]"), "'5' is no value of 'rate'" },
    { ROUTE("to: app, filters: [ rate_limit: { key: x } ]"), "filter 'rate_limit': " },
    { MATCH("path: ping"), "'ping' is no path" },
    { MATCH("path: '~('"), "pattern '(': missing closing parenthesis at offset 1" },
    { MATCH("path: []"), "'path' matches nothing" },
    { MATCH("host: 'a:80'"), "a host is matched without its port" },
    { MATCH("method: 'G T'"), "'G T' is no method" },
    { MATCH("header: { 'a b': x }"), "'a b' is no name of a header" },
    { MATCH("header: [ a ]"), "'header' must be a map" },
    { MATCH("client: x"), "'x' is no prefix" },
    { MATCH("port: 0"), "'0' is no port" },
    { GOOD "routes: { main: [ { name: a, to: app }, { name: a, to: app } ] }\n",
      "route 'a' is there twice" },
};

static void test_refusals(void **state)
{
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct conf_test t;
        int err = conf_test_load(&t, NULL, refusals[i].text);

        if (err != WEIR_ECONFIG || !strstr(t.said, refusals[i].said))
            fail_msg("%s\nwanted: %s\nsaid: %s", refusals[i].text, refusals[i].said, t.said);
        conf_test_end(&t);
    }
}

/* What has no value is told once, at its key. */
static void test_no_value(void **state)
{
    struct conf_test t;

    assert_int_equal(conf_test_load(&t, NULL,
                                    "listeners:\n"
                                    "  web: { bind: ':80', tls: , to: }\n"
                                    "  api: { bind: , routes: [ { reply: } ] }\n"
                                    "upstreams: { app: { servers: } }\n"),
                     WEIR_ECONFIG);
    assert_int_equal(t.diags.errors, 5);
    for (size_t i = 0; i < t.diags.count; i++)
        assert_non_null(strstr(t.diags.at[i].message.ptr, "' has no value"));
    conf_test_end(&t);
}

static void test_form(void **state)
{
    struct conf_test t;

    assert_int_equal(
        conf_test_load(&t, NULL,
                       "listeners:\n  web: { bind: ':80', to: app }\nupstreams:\n  app:\n"
                       "    servers: [ 10.0.0.1:80 ]\n    helth: { path: / }\n    balance: p2c\n"),
        WEIR_ECONFIG);
    assert_string_equal(
        t.said, "t.yaml:6:5: error: unknown key 'helth' in upstream 'app'; did you mean 'health'?\n"
                "    6 |     helth: { path: / }\n"
                "      |     ^~~~~\n"
                "t.yaml:7:14: error: 'p2c' is no value of 'balance': it must be round-robin\n"
                "    7 |     balance: p2c\n"
                "      |              ^~~\n"
                "2 errors\n");
    conf_test_end(&t);
}

static void test_json(void **state)
{
    struct conf_test t;
    json_t *all, *one;
    char *text;

    conf_test_load(&t, NULL, TOP("acess: {}"));
    text = conf_test_print(&t.diags, true);
    all = json_loads(text, 0, NULL);
    assert_int_equal(json_array_size(all), 1);
    one = json_array_get(all, 0);
    assert_string_equal(json_string_value(json_object_get(one, "file")), "t.yaml");
    assert_int_equal(json_integer_value(json_object_get(one, "line")), 3);
    assert_int_equal(json_integer_value(json_object_get(one, "column")), 1);
    assert_string_equal(json_string_value(json_object_get(one, "severity")), "error");
    assert_string_equal(json_string_value(json_object_get(one, "message")), "unknown key 'acess'");
    assert_string_equal(json_string_value(json_object_get(one, "hint")), "did you mean 'access'?");
    json_decref(all);
    free(text);
    conf_test_end(&t);
}

static void test_warnings(void **state)
{
    static const struct refusal warnings[] = {
        { UP("servers: [ 'a:1' ], protocol: auto"), "'auto' needs 'tls'" },
        { GOOD
          "routes: { main: [ { name: a, to: app }, { name: b, match: { path: /x }, to: app } ] }\n",
          "route 'b' can never match: 'a' before it matches everything" },
        { SHADOW("path: /a/", "path: /a/b"),
          "route 'b' can never match: 'a' before it matches all" },
        { SHADOW("path: /a", "path: =/a"), "route 'b' can never match" },
        { SHADOW("path: /a, method: [ GET, PUT ]", "path: /a/b, method: PUT, header: { x: }"),
          "route 'b' can never match" },
        { SHADOW("header: { x: y }", "header: { x: y, z: }"), "route 'b' can never match" },
        { SHADOW("host: a.test", "host: a.test, path: ~x"), "route 'b' can never match" },
        { MATCH("path: '=/a\\b'"),
          "'=/a\\b' can never match: listener 'web' refuses such a path with 400" },
        { MATCH("path: /a%00"), "'/a%00' can never match" },
        { "listeners: { web: { bind: ':80', paths: strict, routes: [ { to: app, match: { path: "
          "/a/../b } } ] } }\nupstreams: { app: { servers: [ 10.0.0.1:80 ] } }\n",
          "t.yaml:1:85: warning: '/a/../b' can never match" },
        { LISTENER("bind: ':80', to: app") "routes: { x: [ { to: app } ] }\n",
          "no listener uses the routes 'x'" },
        { MATCH("method: get"), "case matters" },
        { LISTENER("bind: ':80', to: app, proxy_protocol: accept"),
          "without 'trusted_proxies' nobody's header is believed" },
        { UP("servers: [ 'a:1', { address: 'b:1', backup: on } ]"), "without 'health'" },
        { LISTENER("bind: ':80', to: app, limits: { connections: 200000 }"),
          "'connections' is above that at the top" },
    };

    for (size_t i = 0; i < sizeof(warnings) / sizeof(warnings[0]); i++) {
        struct conf_test t;

        if (conf_test_load(&t, NULL, warnings[i].text) || !strstr(t.said, warnings[i].said) ||
            !strstr(t.said, "\n1 warning\n"))
            fail_msg("wanted: %s\nsaid: %s", warnings[i].said, t.said);
        conf_test_end(&t);
    }
}

/* What a later route still gets. */
static void test_not_shadowed(void **state)
{
    static const char *const good[] = {
        SHADOW("path: /a/b", "path: /a/"),
        SHADOW("path: =/a", "path: /a"),
        SHADOW("path: /a, method: GET", "path: /a/b"),
        SHADOW("path: /a", "path: /ab"),
        SHADOW("path: /a", "path: [ /a/b, /c ]"),
        SHADOW("header: { x: y }", "header: { x: }"),
        SHADOW("host: a.test", "host: '*.a.test'"),
        SHADOW("path: ~a", "path: /a"),
    };

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct conf_test t;

        if (conf_test_load(&t, NULL, good[i]) || t.diags.count)
            fail_msg("%s\nsaid: %s", good[i], t.said);
        conf_test_end(&t);
    }
}

/* The README shows it: a mistyped key is not told to be missing as well. */
static void test_misspelt(void **state)
{
    struct conf_test t;

    assert_int_equal(conf_test_load(&t, NULL, UP("severs: [ 'a:1' ]")), WEIR_ECONFIG);
    assert_non_null(
        strstr(t.said, "unknown key 'severs' in upstream 'app'; did you mean 'servers'?"));
    assert_non_null(strstr(t.said, "\n1 error\n"));
    conf_test_end(&t);
}

/* Nine levels of nine aliases: 387 million nodes when written out. */
static void test_laughs(void **state)
{
    char text[1024] = "a0: &a0 [ x, x, x, x, x, x, x, x, x ]\n";
    struct conf_test t;

    for (int i = 1; i < 9; i++) {
        char line[100];

        snprintf(line, sizeof(line),
                 "a%d: &a%d [ *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d ]\n", i, i,
                 i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
        strcat(text, line);
    }
    assert_int_equal(conf_test_load(&t, NULL, text), WEIR_ECONFIG);
    assert_non_null(strstr(t.said, "more than 200000 values"));
    conf_test_end(&t);
}

static void test_depth(void **state)
{
    char text[4096];
    struct conf_test t;

    memset(text, '[', 2000);
    memset(text + 2000, ']', 2000);
    text[4000] = 0;
    assert_int_equal(conf_test_load(&t, NULL, text), WEIR_ECONFIG);
    assert_non_null(strstr(t.said, "levels deep"));
    conf_test_end(&t);
}

static void test_many_errors(void **state)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct conf_test t;

    for (int i = 0; i < 1000; i++)
        fprintf(out, "key-%d: 1\n", i);
    fclose(out);
    assert_int_equal(conf_test_load(&t, NULL, text), WEIR_ECONFIG);
    assert_int_equal(t.diags.count, WEIR_DIAGS_MAX);
    assert_non_null(strstr(t.said, "more are not shown\n1001 errors\n"));
    free(text);
    conf_test_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),     cmocka_unit_test(test_no_value),
        cmocka_unit_test(test_not_shadowed), cmocka_unit_test(test_form),
        cmocka_unit_test(test_json),         cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_laughs),       cmocka_unit_test(test_depth),
        cmocka_unit_test(test_many_errors),  cmocka_unit_test(test_misspelt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
