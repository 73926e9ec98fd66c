/* SPDX-License-Identifier: Apache-2.0 */
/**
 * server.h: a program's own proxy.
 *
 *     struct weir_proxy *proxy = weir_proxy_new(NULL);
 *     weir_proxy_add_upstream(proxy, &(struct weir_upstream_opts){ WEIR_SIZE(weir_upstream_opts), .name = "app", .servers = servers });
 *     weir_proxy_add_route(proxy, &(struct weir_route_opts){ WEIR_SIZE(weir_route_opts), .name = "all", .to = "app", .filters = uses, .filter_count = 1 });
 *     weir_proxy_add_listener(proxy, &(struct weir_listener_opts){ WEIR_SIZE(weir_listener_opts), .name = "web", .bind = "127.0.0.1:8080" });
 *     return weir_proxy_run(proxy);
 *
 * libweir never exits, changes no signal and keeps no mutable global. Options structs begin with their size; 0 is the
 * documented default; WEIR_UNLIMITED is no limit. Text is copied. The set-up functions are for one thread.
 */
#ifndef WEIR_SERVER_H
#define WEIR_SERVER_H

#include "weir/filter.h"
#include "weir/log.h"

WEIR_BEGIN

#define WEIR_SIZE(name) .size = sizeof(struct name)

struct weir_proxy;

struct weir_proxy_opts {
    size_t size;
    unsigned workers;     /* threads; 0: one a CPU that this process may use */
    struct weir_log *log; /* NULL: standard error, level info */
    uint32_t drain_ms;    /* how long requests may go on after weir_proxy_quit; 0: 30000 */
};

/** A filter of a route: the vtable, which outlives the proxy, and its `self`: weir_proxy_free ends it by filter->fini, once,
 * in however many routes it is. When weir_proxy_add_route has failed it is still the caller's. */
struct weir_filter_ref {
    const struct weir_filter *filter;
    void *self;
};

struct weir_upstream_opts {
    size_t size;
    const char *name;
    const char *const *servers; /* "10.0.0.1:80", NULL-terminated; "name:80" is resolved */
    bool tls;                   /* with verification by name unless tls_no_verify */
    bool tls_no_verify;
    const char *tls_sni, *tls_ca;
};

struct weir_route_opts {
    size_t size;
    const char *name;
    const char *listener; /* NULL: of every listener */
    const char *host;     /* NULL: any; "*.example.com": one label or more */
    const char *path; /* NULL: any; "/v1/" a prefix at a '/' boundary, "=/x" exact, "~re" PCRE2 */
    const char *to;   /* an upstream; NULL: one of the filters answers or sets one, or it is 404 */
    const struct weir_filter_ref *filters;
    size_t filter_count;
    int attempts; /* in all; 0: 2 */
    uint32_t connect_timeout_ms, first_byte_timeout_ms,
        idle_timeout_ms; /* 0: defaults of `weir config explain timeouts` */
};

struct weir_listener_opts {
    size_t size;
    const char *name;
    const char
        *bind; /* "127.0.0.1:8080", ":8080", "unix:/run/x.sock"; port 0: the kernel's choice */
    const char *tls_cert, *tls_key; /* PEM; NULL: plain */
    bool tcp; /* bytes are passed on unread; routes that say a host or a path match nothing there */
};

/** `opts` NULL: defaults. NULL without memory. */
WEIR_API struct weir_proxy *weir_proxy_new(const struct weir_proxy_opts *opts);
/** Each: 0, WEIR_EINVAL, WEIR_EEXISTS (the name is taken), WEIR_ENOMEM. Before weir_proxy_start. Routes match in the order of adding. */
WEIR_API int weir_proxy_add_upstream(struct weir_proxy *proxy,
                                     const struct weir_upstream_opts *opts) WEIR_MUST_CHECK;
WEIR_API int weir_proxy_add_route(struct weir_proxy *proxy,
                                  const struct weir_route_opts *opts) WEIR_MUST_CHECK;
WEIR_API int weir_proxy_add_listener(struct weir_proxy *proxy,
                                     const struct weir_listener_opts *opts) WEIR_MUST_CHECK;
/** Checks everything, binds, starts the workers, returns. 0 or an error; weir_proxy_fault says what in a sentence. */
WEIR_API int weir_proxy_start(struct weir_proxy *proxy) WEIR_MUST_CHECK;
/** The port of a listener after the start, 0 when there is none of that name. */
WEIR_API unsigned weir_proxy_port(const struct weir_proxy *proxy, const char *listener);
/** weir_proxy_start, unless that was done; then waits until another thread or a signal handler of the program calls weir_proxy_quit. */
WEIR_API int weir_proxy_run(struct weir_proxy *proxy) WEIR_MUST_CHECK;
/** Ends weir_proxy_run: requests in flight end first, within drain_ms. Any thread; async-signal-safe. A second call ends at once. */
WEIR_API void weir_proxy_quit(struct weir_proxy *proxy);
/** Stops what runs and frees everything; NULL is allowed. */
WEIR_API void weir_proxy_free(struct weir_proxy *proxy);
/** The last failure in a sentence; "" when there was none. Valid until the next call. */
WEIR_API const char *weir_proxy_fault(const struct weir_proxy *proxy);

WEIR_END
#endif
