/* SPDX-License-Identifier: Apache-2.0 */
/* Several files, the environment, secrets, certificates: what a configuration reads besides itself. */
#include "conf_text.h"

#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/weir-conf-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int set_up(void **state)
{
    if (!mkdtemp(dir))
        return -1;
    return mkdir(path_of("d"), 0700);
}

static int tear_down(void **state)
{
    static const char *const names[] = {
        "main.yaml", "secret", "deny", "d/1.yaml", "d/2.yaml", "d"
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        remove(path_of(names[i]));
    return rmdir(dir);
}

static void test_include(void **state)
{
    struct conf_test t;

    write_file("main.yaml", "include: d/*.yaml\nlisteners: { web: { bind: ':1', to: one } }\n");
    write_file("d/1.yaml",
               "upstreams: { one: { servers: [ 'a:1' ] } }\nlog: { to: { file: x.log } }\n");
    write_file("d/2.yaml",
               "upstreams: { two: { servers: [ 'b:1' ] } }\naccess: { deny_file: ../secret }\n");
    write_file("secret", "10.0.0.0/8\n");
    if (conf_test_load(&t, path_of("main.yaml"), NULL))
        fail_msg("%s", t.said);
    assert_int_equal(t.conf->proxy.upstreams.count, 2);
    assert_str(t.conf->log.file, path_of("d/x.log"));
    conf_test_end(&t);

    write_file("d/2.yaml", "upstreams: { one: { servers: [ 'b:1' ] } }\n");
    assert_int_equal(conf_test_load(&t, path_of("main.yaml"), NULL), WEIR_ECONFIG);
    assert_non_null(strstr(t.said, "d/2.yaml:1:14: error: 'one' is there twice; first at "));
    assert_non_null(strstr(t.said, "d/1.yaml:1\n"));
    conf_test_end(&t);
}

static void test_include_wrong(void **state)
{
    struct conf_test t;

    write_file("main.yaml",
               "include: [ main.yaml, gone.yaml, d ]\nlisteners: { web: { bind: ':1', to: a } }\n"
               "upstreams: { a: { servers: [ 'a:1' ] } }\n");
    assert_int_equal(conf_test_load(&t, path_of("main.yaml"), NULL), WEIR_ECONFIG);
    assert_non_null(strstr(t.said, "includes itself"));
    assert_non_null(strstr(t.said, "gone.yaml': No such file"));
    assert_non_null(strstr(t.said, "Is a directory"));
    assert_int_equal(t.diags.errors, 3);
    conf_test_end(&t);
    assert_int_equal(conf_test_load(&t, "/nonexistent.yaml", NULL), WEIR_ECONFIG);
    assert_non_null(strstr(t.said, "/nonexistent.yaml: error: cannot read"));
    conf_test_end(&t);
    assert_int_equal(conf_test_load(&t, "/dev/null", NULL), WEIR_ECONFIG);
    assert_non_null(strstr(t.said, "cannot read '/dev/null': it is not a regular file"));
    conf_test_end(&t);
}

static void test_environment_and_secret(void **state)
{
    const struct weir_route_conf *route;
    struct conf_test t;
    char *effective;

    setenv("WEIR_TEST_PORT", "8080", 1);
    setenv("WEIR_TEST_TEXT", "5$ ", 1);
    write_file("secret", "s3cret $path\n");
    write_file(
        "main.yaml",
        "user: 'a$${X}$$'\n"
        "listeners: { web: { bind: ':${WEIR_TEST_PORT}', routes: [ { name: a, match: { path: /a }, "
        "reply: { body: { "
        "file: secret } } }, { name: b, reply: { body: '${WEIR_TEST_TEXT}$path' } } ] } }\n");
    if (conf_test_load(&t, path_of("main.yaml"), NULL))
        fail_msg("%s", t.said);
    assert_str(t.conf->user, "a${X}$");
    assert_str(((struct weir_listener_conf *)t.conf->proxy.listeners.at)->bind.at[0], ":8080");
    route = ((struct weir_listener_conf *)t.conf->proxy.listeners.at)->routes.at;
    assert_str(route[0].reply_body, "s3cret $$path"); /* what a file says is no template */
    assert_str(route[1].reply_body, "5$$ $path");     /* a variable's value is no template */
    effective = conf_test_effective(t.conf);
    assert_null(strstr(effective, "s3cret"));
    assert_non_null(strstr(effective, "/secret"));
    free(effective);
    conf_test_end(&t);
}

/* What an error quotes is what the file says: a value of the environment may be a secret that got to a wrong place. */
static void test_errors_tell_no_secrets(void **state)
{
    static const struct {
        const char *text, *said;
    } cases[] = {
        { "workers: '${WEIR_TEST_TOKEN}'\n", "'${WEIR_TEST_TOKEN}' is no value of 'workers'" },
        { "timeouts: { head: '${WEIR_TEST_TOKEN}s' }\n", "'${WEIR_TEST_TOKEN}s' is no value of" },
        { "limits: { memory: '${WEIR_TEST_SHORT}' }\n", "'${WEIR_TEST_SHORT}' is no value of" },
        { "log: { level: '${WEIR_TEST_TOKEN}' }\n", "'${WEIR_TEST_TOKEN}' is no value of 'level'" },
        { "listeners: { b: { bind: '${WEIR_TEST_TOKEN}', to: a } }\n", "'${WEIR_TEST_TOKEN}'" },
        { "listeners: { b: { bind: ':2', to: '${WEIR_TEST_TOKEN}' } }\n", "'${WEIR_TEST_TOKEN}'" },
        { "upstreams: { b: { servers: [ '${WEIR_TEST_TOKEN}:x' ] } }\n", "'${WEIR_TEST_TOKEN}:x'" },
        { "access: { deny: [ '${WEIR_TEST_TOKEN}' ] }\n", "'${WEIR_TEST_TOKEN}'" },
        { "access: { deny_file: '${WEIR_TEST_TOKEN}' }\n", "read '${WEIR_TEST_TOKEN}': No such" },
        { "include: [ 'x-${WEIR_TEST_TOKEN}.yaml' ]\n",
          "read 'x-${WEIR_TEST_TOKEN}.yaml': No such" },
        { "log: { to: { file: 'no/${WEIR_TEST_TOKEN}' } }\n",
          "write 'no/${WEIR_TEST_TOKEN}': its" },
        { "access_log: { format: '$${WEIR_TEST_TOKEN} ${WEIR_TEST_DOLLAR}$x' }\n", "no '$x'" },
        { "listeners: { b: { bind: ':2', to: a, access_log: { redact: [ '${WEIR_TEST_TOKEN}' ] } } "
          "}\n",
          "'${WEIR_TEST_TOKEN}'" }, /* the words of another room */
        { "listeners: { b: { bind: ':2', routes: [ { match: { path: '~(${WEIR_TEST_TOKEN}' }, to: "
          "a } "
          "] } }\n",
          "pattern '~(${WEIR_TEST_TOKEN}'" },
        { "listeners: { b: { bind: ':2', routes: [ { to: a, filters: [ headers: { request: { "
          "remove: [ "
          "'${WEIR_TEST_TOKEN} x' ] } } ] } ] } }\n",
          "'${WEIR_TEST_TOKEN} x' is not a field name" }, /* of a filter */
    };

    setenv("WEIR_TEST_TOKEN", "s3cr3t-t0ken", 1);
    setenv("WEIR_TEST_SHORT", "q+", 1);
    setenv("WEIR_TEST_DOLLAR", "d011ar", 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct conf_test t;
        char text[1024];

        snprintf(
            text, sizeof(text), "%s%s%s", cases[i].text,
            strstr(cases[i].text, "listeners:") ? "" : "listeners: { w: { bind: ':1', to: a } }\n",
            strstr(cases[i].text, "upstreams:") ? ""
                                                : "upstreams: { a: { servers: [ 'a:1' ] } }\n");
        write_file("main.yaml", text);
        if (!conf_test_load(&t, path_of("main.yaml"), NULL) || !strstr(t.said, cases[i].said) ||
            strstr(t.said, "s3cr3t") || strstr(t.said, "q+") || strstr(t.said, "t0ken"))
            fail_msg("%s: %s", cases[i].text, t.said);
        conf_test_end(&t);
    }
}

/* Wherever a text may be a secret, its file is read, and what is in it is told nowhere. */
static void test_secrets_in_maps(void **state)
{
    const struct weir_route_conf *route;
    struct conf_test t;
    char *effective;

    write_file("secret", "s3cret $5\n");
    write_file("main.yaml",
               "listeners: { web: { bind: ':1', routes: [ { to: a,\n"
               "  match: { header: { x-key: { file: secret }, x-there: },\n"
               "           cookie: { k: { file: secret } }, query: { q: { file: secret } } },\n"
               "  filters: [ headers: { request: { set: { authorization: { file: secret } } },\n"
               "                        response: { add: { x: { file: secret }, y: '$$5' } } } ]\n"
               "} ] } }\n"
               "upstreams: { a: { servers: [ 'a:1' ] } }\n");
    if (conf_test_load(&t, path_of("main.yaml"), NULL))
        fail_msg("%s", t.said);
    route = ((struct weir_listener_conf *)t.conf->proxy.listeners.at)->routes.at;
    assert_str(route->match.header.at[0].value, "s3cret $5");
    assert_str(route->match.cookie.at[0].value, "s3cret $5");
    assert_str(route->match.query.at[0].value, "s3cret $5");
    effective = conf_test_effective(t.conf);
    assert_null(strstr(effective, "s3cret"));
    assert_non_null(strstr(effective, "authorization: { file: "));
    assert_non_null(strstr(effective, "x-key: { file: "));
    assert_non_null(strstr(effective, "y: \"$$5\""));
    free(effective);
    conf_test_end(&t);

    write_file("secret", "~s3cret(\n");
    assert_int_equal(conf_test_load(&t, path_of("main.yaml"), NULL), WEIR_ECONFIG);
    assert_non_null(strstr(t.said, "/secret }': missing closing parenthesis"));
    assert_null(strstr(t.said, "s3cret"));
    conf_test_end(&t);
}

static void test_files_that_are_missing(void **state)
{
    struct conf_test t;

    write_file("main.yaml",
               "listeners: { web: { bind: ':1', to: a, tls: { cert: c, key: d, alpn: [ h3 ] } } }\n"
               "upstreams: { a: { servers: [ 'a:1' ] } }\naccess: { deny_file: gone }\n");
    assert_int_equal(conf_test_load(&t, path_of("main.yaml"), NULL), WEIR_ECONFIG);
    assert_int_equal(t.diags.errors, 4);
    assert_non_null(strstr(t.said, "/c': No such file"));
    assert_non_null(strstr(t.said, "'h3' is no value of 'alpn'"));
    conf_test_end(&t);

    write_file("secret", "no certificate\n");
    write_file("main.yaml", "listeners: { web: { bind: ':1', to: a, tls: { cert: secret } } }\n"
                            "upstreams: { a: { servers: [ 'a:1' ] } }\nworkers: 0\n");
    assert_int_equal(conf_test_load(&t, path_of("main.yaml"), NULL), WEIR_ECONFIG);
    assert_non_null(strstr(t.said, "main.yaml:1:47: error: ")); /* at `cert` */
    assert_int_equal(t.diags.errors, 2);
    conf_test_end(&t);
}

/* What would fail at the start is said by the check. */
static void test_files_of_the_start(void **state)
{
    struct conf_test t;

    write_file("deny", "10.0.0.0/8\n# all\nnonsense\n10.0.0.1/8\n");
    write_file("main.yaml",
               "listeners: { web: { bind: ':1', to: a, access_log: { to: { file: no/a.log } } } }\n"
               "upstreams: { a: { servers: [ 'a:1' ] } }\n"
               "access: { deny_file: deny }\n"
               "log: { to: { file: no/b.log } }\n"
               "access_log: { to: { file: d } }\n"
               "admin: { socket: no/x.sock }\n");
    assert_int_equal(conf_test_load(&t, path_of("main.yaml"), NULL), WEIR_ECONFIG);
    assert_int_equal(t.diags.errors, 5);
    assert_non_null(strstr(t.said, "main.yaml:1:66: error: cannot write '"));
    assert_non_null(strstr(t.said, "no/a.log': its folder does not exist"));
    assert_non_null(strstr(t.said, "deny:3: 'nonsense' is not a prefix (and 1 more)"));
    assert_non_null(strstr(t.said, "no/b.log': its folder does not exist"));
    assert_non_null(strstr(t.said, "/d': Is a directory"));
    assert_non_null(strstr(t.said, "no/x.sock': its folder does not exist"));
    conf_test_end(&t);

    write_file("deny", "10.0.0.0/8\n");
    write_file("main.yaml", "listeners: { web: { bind: ':1', to: a } }\n"
                            "upstreams: { a: { servers: [ 'a:1' ] } }\n"
                            "access: { deny_file: deny }\n"
                            "log: { to: { file: d/b.log } }\n"
                            "access_log: { to: { file: a.log } }\n");
    if (conf_test_load(&t, path_of("main.yaml"), NULL))
        fail_msg("%s", t.said);
    conf_test_end(&t);
}

/* What this host lacks is said by the check, where the start would fail with it. */
static void test_host_of_the_start(void **state)
{
    struct conf_test t;

    write_file("secret", "");
    write_file("main.yaml", "user: weir-none\n"
                            "listeners:\n"
                            "  a: { bind: '192.0.2.1:1', to: a }\n"
                            "  b: { bind: 'unix:/nonexistent/x', to: a }\n"
                            "  c: { bind: ':2', device: weir-none0, to: a }\n"
                            "  d: { bind: '192.0.2.1:3', freebind: on, to: a }\n"
                            "  e: { bind: 'unix:${WEIR_TEST_DIR}/secret', to: a }\n"
                            "upstreams: { a: { servers: [ 'a:1' ] } }\n"
                            "admin: { group: weir-none, listen: '192.0.2.1:4' }\n");
    setenv("WEIR_TEST_DIR", dir, 1);
    assert_int_equal(conf_test_load(&t, path_of("main.yaml"), NULL), WEIR_ECONFIG);
    assert_int_equal(t.diags.errors, 6);
    assert_non_null(strstr(t.said, "main.yaml:3:14: error: '192.0.2.1:1': no interface of this "
                                   "host has this address; 'freebind: on'"));
    assert_non_null(strstr(t.said, "main.yaml:4:14: error: cannot write '/nonexistent/x': its "
                                   "folder does not exist"));
    assert_non_null(strstr(t.said, "main.yaml:5:28: error: there is no network interface "
                                   "'weir-none0'"));
    assert_non_null(strstr(t.said, "/secret' is there, and is no socket"));
    assert_non_null(strstr(t.said, "main.yaml:9:17: error: there is no group 'weir-none'"));
    assert_non_null(strstr(t.said, "main.yaml:9:36: error: '192.0.2.1:4': no interface"));
    if (geteuid() == 0)
        assert_non_null(strstr(t.said, "main.yaml:1:7: warning: there is no user 'weir-none'"));
    conf_test_end(&t);
}

/* What is not here now may be later: it is no error. */
static void test_source_here(void **state)
{
    struct conf_test t;

    write_file("main.yaml", "listeners: { web: { bind: ':1', to: a } }\n"
                            "upstreams:\n"
                            "  a: { servers: [ '127.0.0.1:1' ], source: 192.0.2.1 }\n"
                            "  b: { servers: [ '127.0.0.1:1' ], source: 127.0.0.1 }\n"
                            "  c: { servers: [ '[::1]:1' ], source: '2001:db8::1' }\n"
                            "routes: { x: [ { match: { path: /b }, to: b }, { to: c } ] }\n");
    if (conf_test_load(&t, path_of("main.yaml"), NULL))
        fail_msg("%s", t.said);
    assert_non_null(strstr(t.said, "main.yaml:3:44: warning: '192.0.2.1' is not an address of this "
                                   "host now: until it is, nothing reaches upstream 'a'"));
    assert_null(strstr(t.said, "'127.0.0.1' is not"));
    conf_test_end(&t);
}

/* What one process has read, another parses to the same, warnings included, where the files are gone. */
static void test_bundle(void **state)
{
    struct weir_conf_opts opts = { .size = sizeof(opts), .files = weir_files_new() };
    char *before, *after, *said;
    struct conf_test t;
    int fd, err;

    write_file("main.yaml",
               "include: d/*.yaml\nuser: root\nlisteners:\n  web: { bind: ':1', routes: [\n"
               "    { match: { path: /a }, reply: { body: { file: secret } } },\n"
               "    { to: one }, { to: one } ] }\n");
    write_file("d/1.yaml", "upstreams: { one: { servers: [ 'a:1' ] } }\n");
    write_file("d/2.yaml", "access: { deny_file: ../deny }\n");
    write_file("deny", "192.0.2.0/24\n");
    write_file("secret", "hush\n");
    weir_diags_init(&t.diags);
    assert_int_equal(weir_conf_load_opts(path_of("main.yaml"), &opts, &t.conf, &t.diags), 0);
    assert_ptr_equal(t.conf->proxy.access.files, opts.files);
    t.said = said = conf_test_print(&t.diags, false);
    assert_non_null(strstr(said, "warning")); /* the third route can never match */
    before = conf_test_effective(t.conf);
    t.said = NULL;
    conf_test_end(&t);
    fd = weir_files_save(opts.files);
    weir_files_free(opts.files);
    for (const char *const *name =
             (const char *const[]){ "main.yaml", "d/1.yaml", "d/2.yaml", "deny", "secret", NULL };
         *name; name++)
        remove(path_of(*name));

    opts.files = weir_files_load(fd, &err);
    close(fd);
    assert_non_null(opts.files);
    weir_diags_init(&t.diags);
    assert_int_equal(weir_conf_load_opts(path_of("main.yaml"), &opts, &t.conf, &t.diags), 0);
    t.said = conf_test_print(&t.diags, false);
    assert_string_equal(t.said, said);
    after = conf_test_effective(t.conf);
    assert_string_equal(after, before);
    conf_test_end(&t);
    weir_files_free(opts.files);
    free(before);
    free(after);
    free(said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_include),
        cmocka_unit_test(test_source_here),
        cmocka_unit_test(test_host_of_the_start),
        cmocka_unit_test(test_include_wrong),
        cmocka_unit_test(test_environment_and_secret),
        cmocka_unit_test(test_errors_tell_no_secrets),
        cmocka_unit_test(test_secrets_in_maps),
        cmocka_unit_test(test_files_that_are_missing),
        cmocka_unit_test(test_files_of_the_start),
        cmocka_unit_test(test_bundle),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
