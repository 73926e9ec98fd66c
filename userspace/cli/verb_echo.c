/* SPDX-License-Identifier: Apache-2.0 */
/** verb_echo.c: `weir echo`: the demo upstream as a process of its own. */
#include "cli/cli.h"
#include "cli/echo.h"

#include "base/str.h"
#include "daemon/privilege.h"
#include "net/addr.h"
#include "net/listener.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONNS_MAX = 100000, END_TURNS_MAX = 300, END_TURN_MS = 10 };

struct echo_main {
    struct weir_loop loop;
    struct weir_tls_server *tls;
    struct weir_echo *echo;
    uv_signal_t signals[2];
    unsigned signals_open;
};

static void on_signal(uv_signal_t *handle, int number)
{
    struct echo_main *echo = handle->data;

    (void)number;
    weir_loop_stop(&echo->loop);
}

static int signals_open(struct echo_main *echo)
{
    static const int numbers[] = { SIGTERM, SIGINT };

    for (unsigned i = 0; i < 2; i++) {
        if (uv_signal_init(&echo->loop.uv, &echo->signals[i]) != 0)
            return -1;
        echo->signals[i].data = echo;
        echo->signals_open++;
        if (uv_signal_start(&echo->signals[i], on_signal, numbers[i]) != 0)
            return -1;
    }
    return 0;
}

static int tls_open(const struct weir_cli *cli, struct echo_main *echo)
{
    const char *cert = weir_cli_value(cli, "tls-cert"), *key = weir_cli_value(cli, "tls-key");
    struct weir_str alpn[] = { WEIR_STR("h2"), WEIR_STR("http/1.1") };
    struct weir_tls_cert_conf pair = { .cert = weir_str(cert), .key = weir_str(key ? key : cert) };
    struct weir_tls_server_conf conf = {
        .certs = { &pair, 1 },
        .alpn = { alpn, 2 },
        .tickets = true,
    };
    struct weir_tls_fault fault = { "" };

    if (key && !cert)
        return weir_cli_misuse(cli, "--tls-key needs --tls-cert");
    if (!cert)
        return 0;
    echo->tls = weir_tls_server_new(&conf, WEIR_STR("echo"), &fault);
    if (echo->tls)
        return 0;
    fprintf(cli->err, "weir: %s\n", fault.text);
    return WEIR_EXIT_USAGE;
}

/* The address in force: port 0 is the kernel's choice. */
static void say_listening(const struct weir_cli *cli, int fd, bool tls)
{
    struct weir_addr addr = { .len = sizeof(struct sockaddr_un) };
    char text[WEIR_ADDR_TEXT_MAX];
    size_t len;

    if (getsockname(fd, &addr.sa, &addr.len) != 0)
        return;
    len = weir_addr_print(&addr, text);
    fprintf(cli->err, "weir echo: listening on %.*s%s\n", (int)len, text, tls ? " (TLS)" : "");
}

static int listen_one(const struct weir_cli *cli, struct echo_main *echo, struct weir_str text)
{
    struct weir_addr addr;
    int fd;

    if (weir_addr_parse(&addr, text) != 0)
        return weir_cli_misuse(cli, "--listen: '%.*s' is not an address", WEIR_FMT(text));
    fd = weir_echo_listen(echo->echo, &addr);
    if (fd < 0) {
        fprintf(cli->err, "weir: %.*s: %s\n", WEIR_FMT(text), strerror(-fd));
        return WEIR_EXIT_FAILED;
    }
    say_listening(cli, fd, echo->tls != NULL);
    return 0;
}

static int echo_open(const struct weir_cli *cli, struct echo_main *echo, const char *listen)
{
    struct weir_echo_opts opts = { .loop = &echo->loop, .conns_max = CONNS_MAX };
    struct weir_str rest = weir_str(listen), element;
    int status = tls_open(cli, echo);

    if (status)
        return status;
    opts.tls = echo->tls;
    echo->echo = weir_echo_new(&opts);
    if (!echo->echo)
        return WEIR_EXIT_FAILED;
    while (!status && weir_str_next_element(&rest, &element))
        status = listen_one(cli, echo, element);
    if (!status && signals_open(echo) != 0)
        status = WEIR_EXIT_FAILED;
    return status;
}

static void echo_end(struct echo_main *echo)
{
    if (echo->echo) {
        weir_echo_close(echo->echo);
        for (int i = 0; i < END_TURNS_MAX && weir_echo_conns(echo->echo) > 0; i++)
            weir_loop_turn(&echo->loop, END_TURN_MS);
        weir_echo_free(echo->echo);
    }
    for (unsigned i = 0; i < echo->signals_open; i++)
        uv_close((uv_handle_t *)&echo->signals[i], NULL);
    weir_loop_turn(&echo->loop, 0);
    weir_loop_turn(&echo->loop, 0);
    weir_loop_fini(&echo->loop);
    if (echo->tls)
        weir_tls_server_put(echo->tls);
}

int weir_verb_echo(struct weir_cli *cli)
{
    const char *listen = weir_cli_value(cli, "listen");
    struct weir_log_opts log_opts = { .size = sizeof(log_opts), .level = WEIR_LOG_ERROR };
    struct echo_main echo = { 0 };
    struct weir_log *log;
    int status;

    if (!listen)
        return weir_cli_misuse(cli, "say --listen");
    signal(SIGPIPE, SIG_IGN);
    log = weir_log_new(&log_opts);
    weir_nofile_raise(CONNS_MAX, log);
    if (weir_loop_init(&echo.loop, 0, log) != 0) {
        weir_log_free(log);
        return WEIR_EXIT_FAILED;
    }
    status = echo_open(cli, &echo, listen);
    if (!status)
        weir_loop_run(&echo.loop);
    echo_end(&echo);
    weir_log_free(log);
    return status;
}
