/* SPDX-License-Identifier: Apache-2.0 */
/**
 * control_workers.c: what only the workers know: their connections.
 *
 * Asking a worker blocks, and a worker may be stuck. So a thread asks, and the admin's loop waits
 * with a deadline: those who asked get 503 then, while the thread goes on waiting. There is one
 * such thread at a time; who asks meanwhile shares its answer.
 *
 *   GET ─▶ query (thread: each_worker) ─mail─▶ loop: answers
 *              └─ CONTROL_QUERY_MS over ─▶ 503, the query stays until its thread is back
 */
#include "daemon/control_internal.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdlib.h>

struct session_row {
    struct weir_session_status status; /* texts are in the query's arena */
    unsigned worker;
};

struct control_query {
    struct weir_control *control;
    struct weir_service *service;
    struct weir_mail mail;
    pthread_t thread;
    struct weir_timer timer;
    struct weir_list calls;
    /* of the thread, until the mail: */
    struct weir_arena arena;
    struct session_row *rows;
    size_t count, room;
    uint64_t total;
    unsigned worker;
    _Atomic bool done;
};

/* ---- on the workers' threads, one after the other ----------------------------------------- */

static void on_session(void *arg, const struct weir_session_status *status)
{
    struct control_query *query = arg;
    struct weir_session_status *to;

    query->total++;
    if (query->count == CONTROL_SESSIONS_MAX)
        return;
    if (query->count == query->room) {
        size_t room = query->room ? query->room * 2 : 64;
        void *rows = realloc(query->rows, room * sizeof(*query->rows));

        if (!rows)
            return;
        query->rows = rows;
        query->room = room;
    }
    query->rows[query->count] = (struct session_row){ *status, query->worker };
    to = &query->rows[query->count++].status;
    struct weir_str *texts[] = { &to->listener, &to->client, &to->protocol, &to->tls,
                                 &to->state,    &to->route,  &to->upstream, &to->server };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (!weir_str_absent(*texts[i]))
            *texts[i] = weir_arena_copy(&query->arena, *texts[i]);
    }
}

static void on_worker(struct weir_worker *worker, void *arg)
{
    struct control_query *query = arg;

    query->worker = weir_worker_id(worker);
    weir_worker_each_session(worker, on_session, query);
}

/* ---- the thread --------------------------------------------------------------------------- */

static void *query_run(void *arg)
{
    struct control_query *query = arg;

    weir_service_each_worker(query->service, on_worker, query);
    atomic_store(&query->done, true);
    weir_loop_post(query->control->opts.loop, &query->mail);
    return NULL;
}

/* ---- the admin's loop --------------------------------------------------------------------- */

static json_t *session_json(const struct session_row *row)
{
    const struct weir_session_status *s = &row->status;
    json_t *one = json_object();

    json_object_set_new(one, "id", control_u64(s->id));
    json_object_set_new(one, "worker", json_integer(row->worker));
    json_object_set_new(one, "listener", control_str(s->listener));
    json_object_set_new(one, "client", control_str(s->client));
    json_object_set_new(one, "protocol", control_str(s->protocol));
    json_object_set_new(one, "tls", control_str(s->tls));
    json_object_set_new(one, "state", control_str(s->state));
    json_object_set_new(one, "route", control_str(s->route));
    json_object_set_new(one, "upstream", control_str(s->upstream));
    json_object_set_new(one, "server", control_str(s->server));
    json_object_set_new(one, "requests", control_u64(s->requests));
    json_object_set_new(one, "bytes_in", control_u64(s->bytes_in));
    json_object_set_new(one, "bytes_out", control_u64(s->bytes_out));
    json_object_set_new(one, "age_ms", control_u64(s->age_ms));
    json_object_set_new(one, "idle_ms", control_u64(s->idle_ms));
    return one;
}

/* One way of a connection's bytes. */
static json_t *way_json(const struct weir_session_status *s, unsigned dir)
{
    json_t *one = json_object();

    json_object_set_new(one, "mover", json_string(s->moves.mover[dir]));
    json_object_set_new(one, "bytes", control_u64(s->moves.bytes[dir]));
    if (s->moves.text[dir][0]) {
        json_object_set_new(one, "why", json_string(s->moves.why[dir]));
        json_object_set_new(one, "text", json_string(s->moves.text[dir]));
    }
    return one;
}

static json_t *splice_json(const struct session_row *row)
{
    const struct weir_session_status *s = &row->status;
    json_t *one = json_object();

    json_object_set_new(one, "id", control_u64(s->id));
    json_object_set_new(one, "listener", control_str(s->listener));
    json_object_set_new(one, "client", control_str(s->client));
    json_object_set_new(one, "route", control_str(s->route));
    json_object_set_new(one, "server", control_str(s->server));
    json_object_set_new(one, "what", control_str(s->moves.what));
    json_object_set_new(one, "in", way_json(s, 0));
    json_object_set_new(one, "out", way_json(s, 1));
    json_object_set_new(one, "age_ms", control_u64(s->age_ms));
    json_object_set_new(one, "idle_ms", control_u64(s->idle_ms));
    return one;
}

static void query_answer(struct control_query *query, struct control_call *call)
{
    bool splice = call->route->fn == control_get_splice;
    struct weir_str text = control_param(call, "limit");
    uint64_t limit = 1000;
    json_t *array;

    if (!weir_str_absent(text) && !weir_str_to_u64(text, &limit)) {
        control_fail(call, 400, "limit is a number");
        return;
    }
    array = json_array();
    for (size_t i = 0; i < query->count && json_array_size(array) < limit; i++)
        if (!splice)
            json_array_append_new(array, session_json(&query->rows[i]));
        else if (!weir_str_absent(query->rows[i].status.moves.what))
            json_array_append_new(array, splice_json(&query->rows[i]));
    control_reply_json(
        call, 200,
        json_pack("{s:o,s:o}", "total", control_u64(query->total), "connections", array));
}

static void query_free(struct control_query *query)
{
    weir_arena_fini(&query->arena);
    free(query->rows);
    free(query);
}

static void on_answer(struct weir_loop *loop, void *arg)
{
    struct control_query *query = arg;

    pthread_join(query->thread, NULL);
    weir_timer_stop(&loop->wheel, &query->timer);
    query->control->query = NULL;
    weir_list_each(pos, tmp, &query->calls)
    {
        weir_list_remove(pos);
        query_answer(query, weir_list_entry(pos, struct control_call, link));
    }
    query_free(query);
}

static void on_deadline(struct weir_timer *timer, void *arg)
{
    struct control_query *query = arg;

    (void)timer;
    weir_list_each(pos, tmp, &query->calls)
    {
        weir_list_remove(pos);
        control_fail(weir_list_entry(pos, struct control_call, link), 503,
                     "a worker has not answered within %d ms; /v1/status and /metrics do not ask "
                     "the workers",
                     CONTROL_QUERY_MS);
    }
}

static struct control_query *query_start(struct weir_control *control)
{
    struct control_query *query = calloc(1, sizeof(*query));

    if (!query)
        return NULL;
    query->control = control;
    query->service = control->opts.service;
    query->mail.fn = on_answer;
    query->mail.arg = query;
    weir_arena_init(&query->arena, NULL);
    weir_list_init(&query->calls);
    if (pthread_create(&query->thread, NULL, query_run, query) != 0) {
        free(query);
        return NULL;
    }
    weir_loop_timer(control->opts.loop, &query->timer, CONTROL_QUERY_MS, on_deadline, query);
    return query;
}

void control_get_connections(struct control_call *call)
{
    struct weir_control *control = call->control;

    if (!control->query)
        control->query = query_start(control);
    if (!control->query) {
        control_fail(call, 503, "out of memory");
        return;
    }
    if (!weir_timer_armed(&control->query->timer)) { /* its deadline is over already */
        control_fail(call, 503, "a worker still has not answered an earlier question");
        return;
    }
    weir_list_push_back(&control->query->calls, &call->link);
}

/* The same question, told otherwise. */
void control_get_splice(struct control_call *call)
{
    control_get_connections(call);
}

bool weir_control_quiesce(struct weir_control *control, unsigned ms)
{
    uint64_t until = weir_clock_us() + (uint64_t)ms * 1000;

    while (control->query && weir_clock_us() < until)
        weir_loop_turn(control->opts.loop, 5);
    return control->query == NULL;
}

void control_query_end(struct weir_control *control)
{
    weir_assert(control->query == NULL); /* weir_control_quiesce said so */
}
