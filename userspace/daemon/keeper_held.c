/* SPDX-License-Identifier: Apache-2.0 */
/**
 * keeper_held.c: tunnels that outlive their proxy. The kernel moves their bytes as long as somebody has their two sockets: so
 * the keeper has them too, and gives them to the next proxy when theirs has crashed. It reads nothing of them.
 *
 * They belong to who has given them. What is not two connections, or is here already, is not taken; nor is more than fits:
 * such a tunnel ends with its proxy. A tunnel that nobody will go on with ends by RST: what it lacks must not look whole.
 */
#include "daemon/keeper_internal.h"

#include "daemon/kept.h"
#include "daemon/privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- what fits ---------------------------------------------------------------------------- */

/* Each entry of a manifest may be a socket. They are copied when the keeper becomes another binary: four a tunnel. */
void keeper_held_open(struct keeper *keeper)
{
    uint64_t have = weir_nofile_try(WEIR_MANIFEST_ENTRIES_MAX);

    have = have > KEEPER_HELD_RESERVE ? (have - KEEPER_HELD_RESERVE) / 4 : 0;
    keeper->tunnel_max = have < KEEPER_HELD_MAX ? (unsigned)have : KEEPER_HELD_MAX;
}

static bool fits(struct keeper *keeper)
{
    bool full = keeper->tunnel_count >= keeper->tunnel_max;

    if (full && !keeper->tunnels_full)
        weir_log(keeper->log, WEIR_LOG_WARN,
                 "%u tunnels outlive a crash of their proxy; more are not held (file descriptors: "
                 "`ulimit -n`)",
                 keeper->tunnel_max);
    keeper->tunnels_full = full;
    return !full;
}

/* ---- one tunnel --------------------------------------------------------------------------- */

static int option(int fd, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);

    return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

static bool connection(int fd)
{
    return option(fd, SO_PROTOCOL) == IPPROTO_TCP && option(fd, SO_ACCEPTCONN) == 0;
}

/* 0: it has none. */
static uint64_t cookie_of(int fd)
{
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);

    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

static struct keeper_tunnel **place_of(struct keeper *keeper, uint64_t cookie)
{
    struct keeper_tunnel **at = &keeper->tunnels[cookie % KEEPER_HELD_ROWS];

    while (*at && (*at)->cookie != cookie)
        at = &(*at)->next;
    return at;
}

static void close_both(const int fd[2], bool cut)
{
    struct linger reset = { .l_onoff = 1 };

    for (int i = 0; i < 2; i++) {
        if (cut)
            (void)setsockopt(fd[i], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(fd[i]);
    }
}

static void tunnel_end(struct keeper *keeper, struct keeper_tunnel **at, bool cut)
{
    struct keeper_tunnel *tunnel = *at;

    *at = tunnel->next;
    close_both(tunnel->fd, cut);
    free(tunnel);
    keeper->tunnel_count--;
}

/* False: the descriptors stay the caller's. */
static bool tunnel_add(struct keeper *keeper, struct keeper_child *owner,
                       const struct weir_tunnel_given *given)
{
    uint64_t cookie = cookie_of(given->fd[0]);
    struct keeper_tunnel **at = place_of(keeper, cookie), *tunnel = NULL;

    if (cookie && !*at && connection(given->fd[0]) && connection(given->fd[1]) && fits(keeper))
        tunnel = malloc(sizeof(*tunnel) + given->record.len);
    if (!tunnel)
        return false;
    *tunnel = (struct keeper_tunnel){ .owner = owner,
                                      .cookie = cookie,
                                      .fd = { given->fd[0], given->fd[1] },
                                      .len = (uint32_t)given->record.len };
    memcpy(tunnel->record, given->record.ptr, given->record.len);
    *at = tunnel;
    keeper->tunnel_count++;
    return true;
}

/* What a child moves about is below (keeper_child.c). */
static bool lift(struct weir_tunnel_given *given)
{
    for (int i = 0; i < 2; i++) {
        int high = fcntl(given->fd[i], F_DUPFD_CLOEXEC, KEEPER_FD_MIN);

        if (high < 0)
            return false;
        close(given->fd[i]);
        given->fd[i] = high;
    }
    return true;
}

/* ---- as their proxy says ------------------------------------------------------------------ */

void keeper_held_take(struct keeper *keeper, struct keeper_child *child, struct weir_manifest *body)
{
    struct weir_tunnel_given given;
    struct weir_entry *at = NULL;

    keeper_tick(true);
    while (weir_tunnels_next(body, &at, NULL, &given))
        if (!lift(&given) || !tunnel_add(keeper, child, &given))
            close_both(given.fd, false);
    keeper_tick(false);
}

/* What cannot be held is closed by its proxy in the belief that it is: its end must be no clean one. */
static void hand_one(struct keeper *keeper, const struct keeper_child *child,
                     struct weir_tunnel_given *given)
{
    struct keeper_tunnel **at = place_of(keeper, cookie_of(given->fd[0]));

    if (*at && (*at)->owner == child) /* what it was has changed */
        tunnel_end(keeper, at, false);
    if (!lift(given) || !tunnel_add(keeper, NULL, given))
        close_both(given->fd, true);
}

void keeper_held_hand(struct keeper *keeper, const struct keeper_child *child,
                      struct weir_manifest *body)
{
    struct weir_tunnel_given given;
    struct weir_entry *at = NULL;

    keeper_tick(true);
    while (weir_tunnels_next(body, &at, NULL, &given))
        hand_one(keeper, child, &given);
    keeper_tick(false);
    if (keeper->stops)
        keeper_held_drop(keeper, NULL);
    else if (keeper->current && keeper->current->state == PROXY_SERVING)
        keeper_held_give(keeper, keeper->current);
}

void keeper_held_let_go(struct keeper *keeper, const struct keeper_child *child,
                        const struct weir_manifest *body)
{
    const struct weir_entry *entry = NULL;

    keeper_tick(true);
    while ((entry = weir_manifest_next(body, entry, WEIR_GIVEN_TUNNEL, NULL)))
        for (size_t i = 0; i + sizeof(uint64_t) <= entry->value_len; i += sizeof(uint64_t)) {
            struct keeper_tunnel **at;
            uint64_t cookie;

            memcpy(&cookie, entry->value + i, sizeof(cookie));
            at = place_of(keeper, cookie);
            if (*at && (*at)->owner == child)
                tunnel_end(keeper, at, strcmp(entry->name, WEIR_TUNNELS_CUT) == 0);
        }
    keeper_tick(false);
}

/* ---- when it has ended -------------------------------------------------------------------- */

void keeper_held_orphan(struct keeper *keeper, const struct keeper_child *child)
{
    for (unsigned row = 0; row < KEEPER_HELD_ROWS; row++)
        for (struct keeper_tunnel *one = keeper->tunnels[row]; one; one = one->next)
            if (one->owner == child)
                one->owner = NULL;
}

void keeper_held_drop(struct keeper *keeper, const struct keeper_child *child)
{
    keeper_tick(true);
    for (unsigned row = 0; row < KEEPER_HELD_ROWS && keeper->tunnel_count; row++)
        for (struct keeper_tunnel **at = &keeper->tunnels[row]; *at;)
            if ((*at)->owner == child)
                tunnel_end(keeper, at, true);
            else
                at = &(*at)->next;
    keeper_tick(false);
}

/* ---- the next one ------------------------------------------------------------------------- */

/* One message; descriptors are sent as copies. */
static int tell(struct keeper_child *child, struct weir_manifest *body)
{
    int err = body->count ? weir_manifest_send(child->channel, WEIR_SAYS_TUNNELS, body) : 0;

    weir_tunnels_return(body);
    return err;
}

static int add(struct weir_manifest *to, const char *name, const struct keeper_tunnel *tunnel,
               const int fd[2])
{
    struct weir_tunnel_given given = { { fd[0], fd[1] }, { tunnel->record, tunnel->len } };

    return weir_tunnels_add(to, name, &given);
}

static int give_all(struct keeper *keeper, struct keeper_child *child)
{
    struct weir_manifest body = { 0 };
    int err = 0, more;

    for (unsigned row = 0; row < KEEPER_HELD_ROWS && !err; row++)
        for (struct keeper_tunnel *one = keeper->tunnels[row]; one && !err; one = one->next) {
            if (one->owner)
                continue;
            one->owner = child;
            err = add(&body, "", one, one->fd);
            if (!err && body.count >= 2 * WEIR_KEPT_MESSAGE_MAX)
                err = tell(child, &body);
        }
    more = tell(child, &body);
    return err ?: more;
}

/* All of it, which may be more than a socket holds: until it takes nothing for KEEPER_SEND_MS. */
void keeper_held_give(struct keeper *keeper, struct keeper_child *child)
{
    int err;

    if (!keeper->tunnel_count || child->channel < 0)
        return;
    (void)fcntl(child->channel, F_SETFL, 0);
    err = give_all(keeper, child);
    (void)fcntl(child->channel, F_SETFL, O_NONBLOCK);
    if (!err || err == -EPIPE) /* it ends, which is told then */
        return;
    weir_log(keeper->log, WEIR_LOG_ERROR, "the proxy, pid %d, does not take its tunnels: %s",
             (int)child->pid, strerror(-err));
    keeper_child_kill(child);
}

/* ---- across an exec ----------------------------------------------------------------------- */

static int leave_one(struct weir_manifest *all, const struct keeper_tunnel *one)
{
    int fd[2], err;
    char pid[24];

    snprintf(pid, sizeof(pid), "%d", one->owner ? (int)one->owner->pid : 0);
    fd[0] = fcntl(one->fd[0], F_DUPFD_CLOEXEC, KEEPER_FD_MIN);
    fd[1] = fd[0] < 0 ? -1 : fcntl(one->fd[1], F_DUPFD_CLOEXEC, KEEPER_FD_MIN);
    err = fd[1] < 0 ? -EMFILE : add(all, pid, one, fd);
    for (int i = 0; i < 2 && err; i++)
        if (fd[i] >= 0)
            close(fd[i]);
    return err;
}

int keeper_held_leave(const struct keeper *keeper, struct weir_manifest *all)
{
    int err = 0;

    for (unsigned row = 0; row < KEEPER_HELD_ROWS && !err; row++)
        for (const struct keeper_tunnel *one = keeper->tunnels[row]; one && !err; one = one->next)
            err = leave_one(all, one);
    return err;
}

void keeper_held_resume(struct keeper *keeper, struct keeper_child *child, const char *pid,
                        struct weir_manifest *all)
{
    struct weir_tunnel_given given;
    struct weir_entry *at = NULL;

    while (weir_tunnels_next(all, &at, pid, &given))
        if (!tunnel_add(keeper, child, &given))
            close_both(given.fd, true);
}
