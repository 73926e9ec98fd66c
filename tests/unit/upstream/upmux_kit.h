/* SPDX-License-Identifier: Apache-2.0 */
/** upmux_kit.h: one worker's view of one server that speaks HTTP/2, and calls to it. */
#ifndef UPMUX_KIT_H
#define UPMUX_KIT_H

#include "h2_kit.h"

static struct h2s *server;
static struct weir_loop loop;
static struct weir_h2_shared shared;
static struct kit kit;
static struct weir_cluster_view *view;
static struct weir_server_view *sv;
static struct call calls[300];

static void kit_begin(void)
{
    server = calloc(1, sizeof(*server));
    memset(calls, 0, sizeof(calls));
    call_opts = (struct weir_acquire_opts){ 0 };
    kit_init(&kit, 1);
}

/* After the server's address was given to the kit. */
static void begin(void)
{
    kit_open(&kit);
    assert_int_equal(weir_loop_init(&loop, 0, NULL), 0);
    assert_int_equal(weir_h2_shared_init(&shared, &loop.bufs, &loop.now_ms), 0);
    view = weir_cluster_view_new(kit.cluster, &loop, 0, &shared);
    assert_non_null(view);
    sv = &view->servers[0];
}

static int tear_down(void **state)
{
    kit_view_end(view, &loop);
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        if (calls[i].path)
            call_fini(&calls[i]);
    weir_h2_shared_fini(&shared);
    weir_loop_fini(&loop);
    weir_cluster_free(kit.cluster);
    h2s_stop(server);
    free(server);
    return 0;
}

#endif
