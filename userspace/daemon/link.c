/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/link.h"

#include "base/str.h"
#include "daemon/lock.h"
#include "weir/error.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the start ---------------------------------------------------------------------------- */

int weir_link_open(struct weir_link *link, int fd)
{
    unsigned word = 0;
    int n = 0, bundle, err = 0;

    *link = (struct weir_link){ .fd = fd, .lock = -1 };
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return -errno;
    while (n == 0)
        n = weir_manifest_recv(fd, 0, &link->inbox, &word, &link->estate);
    if (n < 0)
        return n;
    if (word != WEIR_SAYS_ESTATE)
        return -EBADMSG;
    link->keeper = weir_manifest_number(&link->estate, WEIR_SET_KEEPER, 0);
    link->starts = weir_manifest_number(&link->estate, WEIR_SET_STARTS, 1);
    link->held_max = weir_manifest_number(&link->estate, WEIR_SET_HELD_MAX, 0);
    link->lock = weir_link_take(link, WEIR_GIVEN_LOCK);
    bundle = weir_link_take(link, WEIR_GIVEN_BUNDLE);
    link->files = weir_files_load(bundle, &err);
    if (bundle >= 0)
        close(bundle);
    return err;
}

int weir_link_take(struct weir_link *link, enum weir_given kind)
{
    struct weir_entry *entry = weir_manifest_next(&link->estate, NULL, kind, NULL);

    return entry ? weir_entry_take(entry) : -1;
}

int weir_link_bind(void *arg, const struct weir_addr *addr, const struct weir_listen_opts *opts,
                   int *fds, unsigned count)
{
    struct weir_link *link = arg;
    char key[WEIR_BIND_KEY_BYTES];
    unsigned found;

    weir_bind_key(addr, opts, key);
    found = weir_estate_sockets(&link->estate, key, fds, count);
    if (found == count)
        return 0;
    while (found > 0)
        close(fds[--found]);
    return -ENOTSOCK; /* the keeper and we do not mean the same */
}

int weir_link_log(void *arg, struct weir_str to)
{
    struct weir_link *link = arg;
    const struct weir_entry *entry = NULL;
    struct weir_str name = to.len ? to : WEIR_STR("stdout");
    int fd;

    while ((entry = weir_manifest_next(&link->estate, entry, WEIR_GIVEN_LOG, NULL))) {
        if (entry->fd < 0 || !weir_str_is(name, entry->name))
            continue;
        fd = fcntl(entry->fd, F_DUPFD_CLOEXEC, 3);
        return fd < 0 ? -errno : fd;
    }
    return -ENOENT;
}

/* ---- the run ------------------------------------------------------------------------------ */

/* What is given at a reload is kept as what was given at the start, until it is taken. */
static void take_config(struct weir_link *link, struct weir_manifest *body)
{
    int bundle, err = 0;

    weir_manifest_fini(&link->estate);
    link->estate = *body;
    *body = (struct weir_manifest){ 0 };
    bundle = weir_link_take(link, WEIR_GIVEN_BUNDLE);
    weir_files_free(link->files);
    link->files = weir_files_load(bundle, &err);
    if (bundle >= 0)
        close(bundle);
    link->sink->on_config(link->arg);
}

static void hear(struct weir_link *link, unsigned word, struct weir_manifest *body)
{
    const struct weir_entry *entry = NULL;
    const char *text;

    switch (word) {
    case WEIR_SAYS_SIGNAL:
        link->sink->on_signal(link->arg, (int)weir_manifest_number(body, WEIR_SET_SIGNAL, 0));
        break;
    case WEIR_SAYS_LOGS:
        while ((entry = weir_manifest_next(body, entry, WEIR_GIVEN_LOG, NULL)))
            if (entry->fd >= 0)
                link->sink->on_log(link->arg, entry->name, entry->fd);
        break;
    case WEIR_SAYS_RETIRE:
        link->sink->on_retire(link->arg, weir_manifest_number(body, WEIR_SET_BY, 0),
                              (uint32_t)weir_manifest_number(body, WEIR_SET_KERN, 0));
        break;
    case WEIR_SAYS_DONE:
        text = weir_manifest_get(body, WEIR_SET_TEXT);
        link->sink->on_done(link->arg, weir_manifest_number(body, WEIR_SET_OK, 0) == 1,
                            text ? text : "");
        break;
    case WEIR_SAYS_CONFIG:
        take_config(link, body);
        break;
    case WEIR_SAYS_RELOADED:
        text = weir_manifest_get(body, WEIR_SET_TEXT);
        link->sink->on_reloaded(link->arg, weir_manifest_number(body, WEIR_SET_OK, 0) == 1,
                                text ? text : "");
        break;
    case WEIR_SAYS_TUNNELS:
        link->sink->on_tunnels(link->arg, body);
        break;
    default: /* a newer keeper may say more */
        break;
    }
}

/* Of what is told with descriptors there was no room for them: the keeper knows, and goes on. */
static int missed(struct weir_link *link, unsigned word)
{
    if (word == WEIR_SAYS_CONFIG)
        (void)!weir_link_say_taken(link, false);
    link->sink->on_missed(link->arg, word);
    return 0;
}

static void orphaned(struct weir_link *link)
{
    weir_link_close(link);
    if (link->lock >= 0) /* who comes second is told whom it has to stop */
        (void)!weir_lock_name(link->lock, getpid());
    link->sink->on_orphan(link->arg);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct weir_link *link = poll->data;
    struct weir_manifest body = { 0 };
    unsigned word;
    int n = 0;

    (void)status;
    (void)events;
    while (n >= 0 && weir_link_alive(link)) {
        n = weir_manifest_recv(link->fd, MSG_DONTWAIT, &link->inbox, &word, &body);
        if (n > 0)
            hear(link, word, &body);
        else if (n == -EMFILE)
            n = missed(link, word);
        weir_manifest_fini(&body);
    }
    if (n < 0 && n != -EAGAIN && weir_link_alive(link))
        orphaned(link);
}

int weir_link_start(struct weir_link *link, struct weir_loop *loop,
                    const struct weir_link_sink *sink, void *arg)
{
    weir_files_free(link->files);
    link->files = NULL;
    weir_manifest_fini(&link->estate);
    link->loop = loop;
    link->sink = sink;
    link->arg = arg;
    if (uv_poll_init(&loop->uv, &link->poll, link->fd) != 0)
        return WEIR_ESYS;
    link->poll.data = link;
    link->polled = true;
    return uv_poll_start(&link->poll, UV_READABLE, on_poll) == 0 ? 0 : WEIR_ESYS;
}

bool weir_link_say(struct weir_link *link, enum weir_word word)
{
    return weir_link_alive(link) && weir_manifest_send(link->fd, word, NULL) == 0;
}

bool weir_link_say_taken(struct weir_link *link, bool ok)
{
    struct weir_manifest body = { 0 };
    int err = weir_link_alive(link) ? weir_manifest_set_number(&body, WEIR_SET_OK, ok) : -EPIPE;

    weir_files_free(link->files);
    link->files = NULL;
    weir_manifest_fini(&link->estate);
    if (!err)
        err = weir_manifest_send(link->fd, WEIR_SAYS_TAKEN, &body);
    weir_manifest_fini(&body);
    return err == 0;
}

static void on_poll_closed(uv_handle_t *handle)
{
    close((int)(intptr_t)handle->data);
}

void weir_link_close(struct weir_link *link)
{
    weir_inbox_fini(&link->inbox);
    weir_manifest_fini(&link->estate);
    weir_files_free(link->files);
    link->files = NULL;
    if (link->polled) { /* its descriptor stays until the loop has let it go */
        link->poll.data = (void *)(intptr_t)link->fd;
        uv_close((uv_handle_t *)&link->poll, on_poll_closed);
    } else if (link->fd >= 0) {
        close(link->fd);
    }
    link->polled = false;
    link->fd = -1;
}
