/* SPDX-License-Identifier: Apache-2.0 */
/**
 * authz.c: asks a slow directory whether a request may pass, without holding up the worker. The
 * request is parked; a thread wakes it. A client that goes away meanwhile takes its question back
 * (on_cancel), and the directory forgets it.
 *
 *   cc authz.c $(pkg-config --cflags --libs weir) -o authz && ./authz 127.0.0.1:8080 127.0.0.1:9001
 *
 * (A look-up that is one blocking call is shorter: weir_req_offload runs it on a thread of the
 * pool, and its `done` may answer. This way suits a client library with threads or connections of
 * its own.)
 */
#include <weir/weir.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { LOOKUP_MS = 300 };

/* A question. It lives in the request: until the wake, or until on_cancel has returned. */
struct question {
    struct question *next;
    struct weir_wake wake;
    uint64_t number;
    char token[32];
    bool waiting, allowed;
};

static struct weir_proxy *proxy;
static struct {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct question *first, **last; /* in the order of asking */
    uint64_t numbers;
    unsigned asked, answered, cancelled;
    bool stop;
} directory = { .lock = PTHREAD_MUTEX_INITIALIZER,
                .more = PTHREAD_COND_INITIALIZER,
                .last = &directory.first };

/* Takes a question out of the list; with the lock. NULL: it was taken back. */
static struct question *take(uint64_t number)
{
    for (struct question **at = &directory.first; *at; at = &(*at)->next) {
        struct question *question = *at;

        if (question->number != number)
            continue;
        *at = question->next;
        if (directory.last == &question->next)
            directory.last = at;
        question->waiting = false;
        return question;
    }
    return NULL;
}

static void *answer_questions(void *arg)
{
    pthread_mutex_lock(&directory.lock);
    while (!directory.stop) {
        struct question *question = directory.first;
        struct weir_wake wake;
        uint64_t number;
        bool allowed;

        if (!question) {
            pthread_cond_wait(&directory.more, &directory.lock);
            continue;
        }
        number = question->number;
        allowed = strcmp(question->token, "Bearer good") == 0;
        pthread_mutex_unlock(&directory.lock);
        usleep(LOOKUP_MS * 1000); /* the question may be taken back now: only its number is ours */
        pthread_mutex_lock(&directory.lock);
        question = take(number);
        if (!question)
            continue;
        question->allowed = allowed;
        directory.answered++;
        wake = question->wake; /* plain data; after the unlock `question` may be gone */
        pthread_mutex_unlock(&directory.lock);
        weir_req_wake(wake, WEIR_REPEAT);
        pthread_mutex_lock(&directory.lock);
    }
    pthread_mutex_unlock(&directory.lock);
    return NULL;
}

static void on_cancel(struct weir_req *req, void *arg)
{
    struct question *question = arg;

    pthread_mutex_lock(&directory.lock);
    if (question->waiting)
        take(question->number);
    directory.cancelled++;
    pthread_mutex_unlock(&directory.lock);
}

static enum weir_verdict authz_request(struct weir_req *req, void *self)
{
    struct weir_str token = weir_message_get(weir_req_request(req), "authorization");
    struct question *question = weir_filter_state(req, self);

    if (question->number) /* called again, after the wake: the answer is there */
        return question->allowed ? WEIR_NEXT : weir_req_reply(req, 403, WEIR_STR("not for you\n"));
    if (!token.len || token.len >= sizeof(question->token))
        return weir_req_reply(req, 401, WEIR_STR("who are you?\n"));
    memcpy(question->token, token.ptr, token.len);
    pthread_mutex_lock(&directory.lock);
    question->wake = weir_req_park(req, on_cancel, question);
    question->number = ++directory.numbers;
    question->waiting = true;
    *directory.last = question;
    directory.last = &question->next;
    directory.asked++;
    pthread_cond_signal(&directory.more);
    pthread_mutex_unlock(&directory.lock);
    return WEIR_WAIT;
}

static const struct weir_filter authz = {
    .size = sizeof(struct weir_filter),
    .name = "authz",
    .state_bytes = sizeof(struct question),
    .request = authz_request,
};

static int set_up(const char *bind, const char *server)
{
    const struct weir_filter_ref use = { &authz, NULL };
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
    pthread_t thread;
    int err;

    if (argc != 3)
        return fprintf(stderr, "usage: authz BIND SERVER\n"), 2;
    proxy = weir_proxy_new(NULL);
    err = proxy ? set_up(argv[1], argv[2]) : WEIR_ENOMEM;
    if (err || pthread_create(&thread, NULL, answer_questions, NULL)) {
        fprintf(stderr, "authz: %s: %s\n", weir_err_text((enum weir_err)err),
                proxy ? weir_proxy_fault(proxy) : "");
        return 1;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    printf("listening on port %u\n", weir_proxy_port(proxy, "web"));
    fflush(stdout);
    err = weir_proxy_run(proxy);
    pthread_mutex_lock(&directory.lock);
    directory.stop = true;
    pthread_cond_signal(&directory.more);
    pthread_mutex_unlock(&directory.lock);
    pthread_join(thread, NULL);
    printf("asked %u answered %u cancelled %u waiting %d\n", directory.asked, directory.answered,
           directory.cancelled, directory.first != NULL);
    weir_proxy_free(proxy);
    return err != 0;
}
