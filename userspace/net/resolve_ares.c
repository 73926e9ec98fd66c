/* SPDX-License-Identifier: Apache-2.0 */
/**
 * resolve_ares.c: c-ares on a loop: its sockets in uv_poll handles (they come and go with the
 * questions), its timeouts on the loop's wheel. Two channels: one reads the hosts file only, one
 * asks the network only, because what the operator wrote into the hosts file is trusted more than
 * what came by the network.
 */
#include "net/resolve_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

struct resolve_poll {
    uv_poll_t uv;
    struct weir_list link;
    struct weir_resolver *resolver;
    ares_socket_t fd;
};

static void resolver_put(struct weir_resolver *resolver)
{
    if (--resolver->handles)
        return;
    ares_library_cleanup();
    free(resolver);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct resolve_poll *poll = handle->data;
    struct weir_resolver *resolver = poll->resolver;

    free(poll);
    resolver_put(resolver);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct resolve_poll *poll = handle->data;
    struct weir_resolver *resolver = poll->resolver;
    ares_socket_t fd = poll->fd;

    if (status < 0)
        events = UV_READABLE | UV_WRITABLE;
    ares_process_fd(resolver->dns, events & UV_READABLE ? fd : ARES_SOCKET_BAD,
                    events & UV_WRITABLE ? fd : ARES_SOCKET_BAD);
    weir_resolve_ares_arm(resolver);
}

static void poll_close(struct resolve_poll *poll)
{
    weir_list_remove(&poll->link);
    uv_poll_stop(&poll->uv);
    uv_close((uv_handle_t *)&poll->uv, on_poll_closed);
}

static struct resolve_poll *poll_find(struct weir_resolver *resolver, ares_socket_t fd)
{
    weir_list_each(pos, tmp, &resolver->polls)
    {
        struct resolve_poll *poll = weir_list_entry(pos, struct resolve_poll, link);

        if (poll->fd == fd)
            return poll;
    }
    return NULL;
}

static struct resolve_poll *poll_open(struct weir_resolver *resolver, ares_socket_t fd)
{
    struct resolve_poll *poll = calloc(1, sizeof(*poll));

    if (!poll)
        return NULL;
    if (uv_poll_init(&resolver->loop->uv, &poll->uv, fd)) {
        free(poll);
        return NULL;
    }
    poll->uv.data = poll;
    poll->resolver = resolver;
    poll->fd = fd;
    weir_list_push_back(&resolver->polls, &poll->link);
    resolver->handles++;
    return poll;
}

/* A socket that can not be watched is as one that never answers: the question times out. */
static void on_socket(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct weir_resolver *resolver = arg;
    struct resolve_poll *poll = poll_find(resolver, fd);

    if (!readable && !writable) {
        if (poll)
            poll_close(poll);
        return;
    }
    if (!poll)
        poll = poll_open(resolver, fd);
    if (poll)
        uv_poll_start(&poll->uv, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0),
                      on_poll);
}

static void on_timeout(struct weir_timer *timer, void *arg)
{
    struct weir_resolver *resolver = arg;

    ares_process_fd(resolver->dns, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    weir_resolve_ares_arm(resolver);
}

void weir_resolve_ares_arm(struct weir_resolver *resolver)
{
    struct timeval tv;
    uint64_t ms;

    if (!ares_timeout(resolver->dns, NULL, &tv)) {
        weir_timer_stop(&resolver->loop->wheel, &resolver->timer);
        return;
    }
    ms = (uint64_t)tv.tv_sec * 1000 + (uint64_t)tv.tv_usec / 1000 + 1;
    weir_loop_timer(resolver->loop, &resolver->timer, ms, on_timeout, resolver);
}

/* "192.0.2.1,192.0.2.2:5353,[2001:db8::1]:53": what c-ares reads. A bare v6 address needs brackets
 * there. */
static int set_servers(struct weir_resolver *resolver)
{
    const struct weir_strs *servers = &resolver->conf.servers;
    char csv[4096];
    size_t n = 0;

    if (!servers->count)
        return 0;
    for (size_t i = 0; i < servers->count; i++) {
        struct weir_str s = servers->at[i];
        struct weir_prefix bare;
        bool v6 = !weir_prefix_parse(&bare, s) && memchr(s.ptr, ':', s.len);
        int len = snprintf(csv + n, sizeof(csv) - n, v6 ? "%s[%.*s]:53" : "%s%.*s", i ? "," : "",
                           WEIR_FMT(s));

        if (len < 0 || (size_t)len >= sizeof(csv) - n)
            return WEIR_EINVAL;
        n += (size_t)len;
    }
    return ares_set_servers_ports_csv(resolver->dns, csv) == ARES_SUCCESS ? 0 : WEIR_EINVAL;
}

/* When the file was changed; 0 when there is none. */
static struct timespec system_time(const struct weir_resolver *resolver)
{
    struct stat st;

    return stat(resolver->system_file, &st) ? (struct timespec){ 0 } : st.st_mtim;
}

static int open_dns(struct weir_resolver *resolver, ares_channel *channel)
{
    struct ares_options opts = {
        .timeout = RESOLVE_QUERY_MS,
        .tries = RESOLVE_TRIES,
        .lookups = (char *)"b",
        .resolvconf_path = (char *)resolver->system_file,
        .sock_state_cb = on_socket,
        .sock_state_cb_data = resolver,
    };
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_RESOLVCONF |
               ARES_OPT_SOCK_STATE_CB;

    resolver->system_time = system_time(resolver);
    return ares_init_options(channel, &opts, mask) == ARES_SUCCESS ? 0 : WEIR_ENOMEM;
}

void weir_resolve_ares_reread(struct weir_resolver *resolver)
{
    struct timespec now = system_time(resolver);
    ares_channel old = resolver->dns, fresh;

    if (resolver->conf.servers.count || (now.tv_sec == resolver->system_time.tv_sec &&
                                         now.tv_nsec == resolver->system_time.tv_nsec))
        return;
    if (open_dns(resolver, &fresh))
        return;
    resolver->dns = fresh;
    ares_destroy(old); /* what was asked there fails, and is asked again */
}

int weir_resolve_ares_open(struct weir_resolver *resolver)
{
    struct ares_options hosts = { .lookups = (char *)"f" };

    weir_list_init(&resolver->polls);
    resolver->system_file = "/etc/resolv.conf";
    if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
        return WEIR_ENOMEM;
    resolver->handles = 1;
    if (ares_init_options(&resolver->hosts, &hosts, ARES_OPT_LOOKUPS) != ARES_SUCCESS)
        goto library;
    if (open_dns(resolver, &resolver->dns))
        goto hosts;
    if (!set_servers(resolver))
        return 0;
    ares_destroy(resolver->dns);
hosts:
    ares_destroy(resolver->hosts);
library:
    ares_library_cleanup();
    return WEIR_EINVAL;
}

void weir_resolve_ares_close(struct weir_resolver *resolver)
{
    weir_timer_stop(&resolver->loop->wheel, &resolver->timer);
    ares_destroy(resolver->dns); /* questions end with ARES_EDESTRUCTION, sockets by on_socket */
    ares_destroy(resolver->hosts);
    weir_list_each(pos, tmp, &resolver->polls)
        poll_close(weir_list_entry(pos, struct resolve_poll, link));
    resolver_put(resolver);
}
