/* SPDX-License-Identifier: Apache-2.0 */
#include "net/watch.h"

#include <stdlib.h>

struct weir_watch {
    uv_poll_t uv;
    void (*fn)(void *arg);
    void *arg;
};

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct weir_watch *watch = handle->data;

    (void)status;
    (void)events;
    watch->fn(watch->arg);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

struct weir_watch *weir_watch_start(struct weir_loop *loop, int fd, void (*fn)(void *arg),
                                    void *arg)
{
    struct weir_watch *watch = calloc(1, sizeof(*watch));

    if (!watch)
        return NULL;
    if (uv_poll_init(&loop->uv, &watch->uv, fd)) {
        free(watch);
        return NULL;
    }
    watch->uv.data = watch;
    watch->fn = fn;
    watch->arg = arg;
    if (uv_poll_start(&watch->uv, UV_READABLE, on_poll))
        weir_watch_stop(&watch);
    return watch;
}

void weir_watch_stop(struct weir_watch **watchp)
{
    struct weir_watch *watch = *watchp;

    *watchp = NULL;
    if (!watch)
        return;
    uv_poll_stop(&watch->uv);
    uv_close((uv_handle_t *)&watch->uv, on_closed);
}
