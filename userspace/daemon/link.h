/* SPDX-License-Identifier: Apache-2.0 */
/**
 * link.h: the proxy's end of what joins it to its keeper. First it is given what it works with; then it says that it serves;
 * then each hears from the other, on the daemon's loop. When the keeper dies the proxy serves on, and is told so.
 */
#ifndef DAEMON_LINK_H
#define DAEMON_LINK_H

#include "daemon/estate.h"
#include "net/loop.h"

/** What the keeper says. Borrowed for the call. */
struct weir_link_sink {
    void (*on_signal)(void *arg, int number);
    void (*on_log)(void *arg, const char *name, int fd);            /* opened anew */
    void (*on_retire)(void *arg, int64_t successor, uint32_t kern); /* weir_kernel_id */
    void (*on_done)(void *arg, bool ok, const char *text); /* what was asked for by the admin */
    void (*on_config)(void *arg); /* the configuration, read anew: link->files, link->estate */
    void (*on_reloaded)(void *arg, bool ok, const char *text);
    void (*on_missed)(void *arg,
                      unsigned word); /* no room for the descriptors of WEIR_SAYS_CONFIG, LOGS */
    void (*on_tunnels)(void *arg,
                       struct weir_manifest *body); /* kept.h; descriptors may be taken */
    void (*on_orphan)(void *arg);                   /* the keeper is gone */
};

struct weir_link {
    int fd; /* -1: the keeper is gone */
    struct weir_manifest estate;
    struct weir_files *files; /* until the start, or a reload, is over */
    struct weir_inbox inbox;
    struct weir_loop *loop;
    uv_poll_t poll;
    bool polled;
    int lock; /* so that a second daemon does not start while this one serves */
    int64_t keeper, starts, held_max;
    const struct weir_link_sink *sink;
    void *arg;
};

/** Waits for the estate on `fd`, which it takes, and opens the bundle. 0 or -errno. */
int weir_link_open(struct weir_link *link, int fd) WEIR_MUST_CHECK;
/** For weir_service_opts: sockets and logs of the estate. `arg` is the link. */
int weir_link_bind(void *arg, const struct weir_addr *addr, const struct weir_listen_opts *opts,
                   int *fds, unsigned count);
int weir_link_log(void *arg, struct weir_str to);
/** Takes the descriptor of an entry; -1: there is none. */
int weir_link_take(struct weir_link *link, enum weir_given kind);
/** What is left of files and descriptors goes; from now on it listens to the keeper. 0 or an error. */
int weir_link_start(struct weir_link *link, struct weir_loop *loop,
                    const struct weir_link_sink *sink, void *arg) WEIR_MUST_CHECK;
/** A word to the keeper. False: it is gone. */
bool weir_link_say(struct weir_link *link, enum weir_word word);
/** WEIR_SAYS_TAKEN; what on_config gave, and nobody has taken, goes. */
bool weir_link_say_taken(struct weir_link *link, bool ok);
static inline bool weir_link_alive(const struct weir_link *link)
{
    return link->fd >= 0;
}
/** Turn the loop afterwards. */
void weir_link_close(struct weir_link *link);

#endif
