/* SPDX-License-Identifier: Apache-2.0 */
/**
 * replace.c: replaces a text in streamed answers, also where it lies across the pieces in which a
 * body comes. Nothing is buffered: what was held back of a piece is the beginning of the text
 * itself (Knuth, Morris, Pratt).
 *
 *   cc replace.c $(pkg-config --cflags --libs weir) -o replace && ./replace 127.0.0.1:8080
 * 127.0.0.1:9001 hello goodbye
 */
#include <weir/weir.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

struct replace {
    struct weir_str from, to;
    size_t *back; /* back[m]: the longest proper end of the first m bytes of `from` that also begins
                     it */
};

struct state {
    size_t matched; /* bytes of `from` at the end of what has come; not handed on yet */
};

static struct weir_proxy *proxy;

/* Compressed bytes hold no text, and a part of a body is not to be changed on its own. */
static enum weir_verdict replace_upstream_request(struct weir_req *req, void *self,
                                                  struct weir_message *upstream)
{
    if (weir_message_remove(upstream, "accept-encoding") < 0 ||
        weir_message_remove(upstream, "range") < 0)
        return weir_req_fail(req, WEIR_EINTERNAL, WEIR_BY_US);
    return WEIR_NEXT;
}

static int emit(struct weir_body_out *out, const char *bytes, size_t len)
{
    return len ? weir_body_emit(out, (struct weir_str){ bytes, len }) : 0;
}

static enum weir_verdict replace_response_body(struct weir_req *req, void *self,
                                               struct weir_str data, bool last,
                                               struct weir_body_out *out)
{
    const struct replace *replace = self;
    const struct weir_str from = replace->from;
    struct state *state = weir_filter_state(req, self);
    const char *at = data.ptr, *end = data.ptr + data.len, *next;
    size_t m = state->matched;
    int err = 0;

    while (at < end && !err) {
        if (m == 0) { /* hand on, in one piece and without a copy, what cannot be a beginning */
            next = memchr(at, from.ptr[0], (size_t)(end - at));
            next = next ? next : end;
            err = emit(out, at, (size_t)(next - at));
            at = next;
        } else if (*at != from.ptr[m]) { /* no match: the first bytes that were held back go on */
            err = emit(out, from.ptr, m - replace->back[m]);
            m = replace->back[m];
        }
        if (at < end && *at == from.ptr[m]) {
            at++;
            m++;
        }
        if (m == from.len) {
            err = err ? err : emit(out, replace->to.ptr, replace->to.len);
            m = 0;
        }
    }
    if (last && !err)
        err = emit(out, from.ptr, m);
    state->matched = m;
    return err ? weir_req_fail(req, (enum weir_err)err, WEIR_BY_US) : WEIR_NEXT;
}

static const struct weir_filter replace_filter = {
    .size = sizeof(struct weir_filter),
    .name = "replace",
    .state_bytes = sizeof(struct state),
    .upstream_request = replace_upstream_request,
    .response_body = replace_response_body,
};

static int replace_init(struct replace *replace, const char *from, const char *to)
{
    replace->from = weir_str(from);
    replace->to = weir_str(to);
    replace->back = calloc(replace->from.len + 1, sizeof(size_t));
    if (!replace->from.len || !replace->back)
        return WEIR_EINVAL;
    for (size_t m = 1, k = 0; m < replace->from.len; m++) {
        while (k && from[m] != from[k])
            k = replace->back[k];
        k += from[m] == from[k];
        replace->back[m + 1] = k;
    }
    return 0;
}

static int set_up(struct replace *replace, const char *bind, const char *server)
{
    const struct weir_filter_ref use = { &replace_filter, replace };
    int err;

    err = weir_proxy_add_upstream(
        proxy, &(struct weir_upstream_opts){ WEIR_SIZE(weir_upstream_opts), .name = "app",
                                             .servers = (const char *[]){ server, NULL } });
    if (!err)
        err = weir_proxy_add_route(
            proxy, &(struct weir_route_opts){ WEIR_SIZE(weir_route_opts), .name = "all",
                                              .to = "app", .filters = &use, .filter_count = 1 });
    if (!err)
        err = weir_proxy_add_listener(proxy,
                                      &(struct weir_listener_opts){ WEIR_SIZE(weir_listener_opts),
                                                                    .name = "web", .bind = bind });
    return err ? err : weir_proxy_start(proxy);
}

static void on_signal(int number)
{
    weir_proxy_quit(proxy);
}

int main(int argc, char **argv)
{
    struct replace replace;
    int err;

    if (argc != 5)
        return fprintf(stderr, "usage: replace BIND SERVER FROM TO\n"), 2;
    proxy = weir_proxy_new(NULL);
    err = proxy ? replace_init(&replace, argv[3], argv[4]) : WEIR_ENOMEM;
    if (!err)
        err = set_up(&replace, argv[1], argv[2]);
    if (err) {
        fprintf(stderr, "replace: %s: %s\n", weir_err_text((enum weir_err)err),
                proxy ? weir_proxy_fault(proxy) : "");
        return 1;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    printf("listening on port %u\n", weir_proxy_port(proxy, "web"));
    fflush(stdout);
    err = weir_proxy_run(proxy);
    weir_proxy_free(proxy);
    free(replace.back);
    return err != 0;
}
