/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* ---- what is said ------------------------------------------------------------------------- */

int weir_tunnels_add(struct weir_manifest *to, const char *name,
                     const struct weir_tunnel_given *one)
{
    int err = weir_manifest_add(to, WEIR_GIVEN_TUNNEL, name, one->record, -1);

    if (!err)
        err = weir_manifest_add(to, WEIR_GIVEN_TUNNEL, name, (struct weir_str){ "", 0 }, -1);
    if (err)
        return err;
    for (unsigned side = 0; side < 2; side++)
        to->at[to->count - 2 + side].fd = one->fd[side];
    return 0;
}

void weir_tunnels_return(struct weir_manifest *manifest)
{
    for (size_t i = 0; i < manifest->count; i++)
        manifest->at[i].fd = -1;
    weir_manifest_fini(manifest);
}

bool weir_tunnels_next(struct weir_manifest *from, struct weir_entry **at, const char *name,
                       struct weir_tunnel_given *one)
{
    struct weir_entry *down = weir_manifest_next(from, *at, WEIR_GIVEN_TUNNEL, name), *up;

    up = down ? weir_manifest_next(from, down, WEIR_GIVEN_TUNNEL, name) : NULL;
    if (!up || down->fd < 0 || up->fd < 0 || down->value_len > WEIR_TUNNEL_RECORD_MAX ||
        up->value_len)
        return false;
    *at = up;
    one->record = (struct weir_str){ down->value, down->value_len };
    one->fd[0] = weir_entry_take(down);
    one->fd[1] = weir_entry_take(up);
    return true;
}

/* ---- the proxy's end ---------------------------------------------------------------------- */

/* Descriptors in it are lent. */
static int post(const struct weir_kept_line *line, enum weir_word word, struct weir_manifest *body,
                int err)
{
    if (!err)
        err = weir_manifest_post(line->fd, word, body);
    weir_tunnels_return(body);
    return err == -ETOOMANYREFS || err == -ENOMEM || err == -ENOBUFS ? -EAGAIN : err;
}

static int give(void *arg, enum weir_word word, const struct weir_kept *at, unsigned count)
{
    struct weir_manifest body = { 0 };
    int err = 0;

    for (unsigned i = 0; i < count && !err; i++) {
        const struct weir_tunnel_given one = {
            { at[i].fd[0], at[i].fd[1] }, { (const char *)&at[i].record, sizeof(at[i].record) }
        };

        err = weir_tunnels_add(&body, "", &one);
    }
    return post(arg, word, &body, err);
}

static int hold(void *arg, const struct weir_kept *at, unsigned count)
{
    return give(arg, WEIR_SAYS_HOLD, at, count);
}

static int hand(void *arg, const struct weir_kept *at, unsigned count)
{
    return give(arg, WEIR_SAYS_HAND, at, count);
}

static int let_go(void *arg, const uint64_t *cookies, unsigned count, bool cut)
{
    struct weir_str all = { (const char *)cookies, count * sizeof(*cookies) };
    struct weir_manifest body = { 0 };
    int err = weir_manifest_add(&body, WEIR_GIVEN_TUNNEL, cut ? WEIR_TUNNELS_CUT : "", all, -1);

    return post(arg, WEIR_SAYS_LET_GO, &body, err);
}

bool weir_kept_open(struct weir_kept_line *line, const struct weir_link *link)
{
    line->fd = link->held_max > 0 ? fcntl(link->fd, F_DUPFD_CLOEXEC, 3) : -1;
    line->keeping = (struct weir_keeping){ hold, hand, let_go, line, (unsigned)link->held_max };
    return line->fd >= 0;
}

void weir_kept_close(struct weir_kept_line *line)
{
    if (line->fd >= 0)
        close(line->fd);
    line->fd = -1;
}

unsigned weir_kept_take(struct weir_manifest *body, struct weir_kept *kept, unsigned max)
{
    struct weir_tunnel_given one;
    struct weir_entry *at = NULL;
    unsigned count = 0;

    while (count < max && weir_tunnels_next(body, &at, NULL, &one)) {
        kept[count].fd[0] = one.fd[0];
        kept[count].fd[1] = one.fd[1];
        memset(&kept[count].record, 0, sizeof(kept[count].record));
        if (one.record.len == sizeof(kept[count].record)) /* else of another version: refused */
            memcpy(&kept[count].record, one.record.ptr, one.record.len);
        count++;
    }
    return count;
}
