/* SPDX-License-Identifier: Apache-2.0 */
/** h1_send_kit.h: a codec whose holder writes down what it says, for the tests of sending. */
#ifndef H1_SEND_KIT_H
#define H1_SEND_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "http/h1.h"

#include <stdio.h>
#include <stdlib.h>

struct holder {
    struct weir_h1 h1;
    struct weir_hstream hs;
    struct weir_arena arena;
    char out[128 * 1024];
    size_t out_len, outputs, body;
    unsigned pauses, resumes, heads, ends, drained;
    size_t pace;
    enum weir_err reset;
    enum weir_by reset_by;
    enum weir_retry retry;
    bool reset_on_body, keep_unread;
};

static inline void on_head(void *arg, struct weir_message *msg)
{
    ((struct holder *)arg)->heads++;
}

static inline void on_body(void *arg, struct weir_str data)
{
    struct holder *h = arg;

    h->body += data.len;
    if (h->reset_on_body) {
        weir_hstream_reset(h->h1.hs, WEIR_EBODYSIZE);
        weir_arena_fini(&h->arena); /* the memory of the exchange may go at once */
    } else if (!h->keep_unread) {
        weir_hstream_consume(h->h1.hs, data.len);
    }
}

static inline void on_end(void *arg)
{
    ((struct holder *)arg)->ends++;
}

static inline void on_drained(void *arg)
{
    ((struct holder *)arg)->drained++;
}

static inline void on_reset(void *arg, const struct weir_error *why)
{
    struct holder *h = arg;

    h->reset = why->code;
    h->reset_by = why->by;
    h->retry = why->retry;
}

static const struct weir_hstream_sink stream_sink = {
    .on_head = on_head,
    .on_body = on_body,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_reset = on_reset,
};

static inline void on_output(void *arg, const struct iovec *iov, int count)
{
    struct holder *h = arg;

    h->outputs++;
    for (int i = 0; i < count; i++) {
        assert_true(h->out_len + iov[i].iov_len < sizeof(h->out));
        assert_true(iov[i].iov_len > 0);
        memcpy(h->out + h->out_len, iov[i].iov_base, iov[i].iov_len);
        h->out_len += iov[i].iov_len;
    }
}

static inline size_t on_pending(void *arg)
{
    return 0;
}

static inline void on_pause(void *arg, bool pause)
{
    struct holder *h = arg;

    if (pause)
        h->pauses++;
    else
        h->resumes++;
}

static inline void on_pace(void *arg, size_t bytes)
{
    ((struct holder *)arg)->pace = bytes;
}

static inline int on_begin(void *arg, struct weir_hstream *hs)
{
    struct holder *h = arg;

    hs->sink = &stream_sink;
    hs->arg = h;
    hs->arena = &h->arena;
    return 0;
}

static const struct weir_codec_sink codec_sink = { on_output, on_pending, on_pause, on_pace,
                                                   on_begin };

static inline struct holder *holder_new(bool server)
{
    struct holder *h = calloc(1, sizeof(*h));

    assert_non_null(h);
    weir_arena_init(&h->arena, NULL);
    if (server)
        weir_h1_init_server(&h->h1, NULL, &codec_sink, h);
    else
        weir_h1_init_client(&h->h1, NULL, &codec_sink, h);
    return h;
}

static inline void holder_free(struct holder *h)
{
    weir_h1_fini(&h->h1);
    weir_arena_fini(&h->arena);
    free(h);
}

static inline ssize_t feed(struct holder *h, const char *text)
{
    return weir_codec_feed(&h->h1.codec, (const uint8_t *)text, strlen(text));
}

static inline void expect_out(struct holder *h, const char *want)
{
    if (h->out_len != strlen(want) || memcmp(h->out, want, h->out_len) != 0)
        fail_msg("sent:\n%.*s\nnot:\n%s", (int)h->out_len, h->out, want);
    h->out_len = h->outputs = 0;
}

static inline struct weir_message answer(struct holder *h, int status, enum weir_body_kind body,
                                         uint64_t length)
{
    struct weir_message msg;

    weir_message_init(&msg, &h->arena, false);
    msg.status = status;
    msg.reason = weir_status_reason(status);
    msg.body = (uint8_t)body;
    msg.length = length;
    return msg;
}

static inline struct weir_message request(struct holder *h, const char *method,
                                          enum weir_body_kind body, uint64_t length)
{
    struct weir_message msg;

    weir_message_init(&msg, &h->arena, true);
    msg.method = weir_str(method);
    msg.method_id = (uint8_t)weir_method_id(msg.method);
    msg.host = WEIR_STR("a.test");
    msg.path = WEIR_STR("/x");
    msg.body = (uint8_t)body;
    msg.length = length;
    return msg;
}

static inline int send_text(struct holder *h, const struct weir_message *head, const char *text,
                            unsigned flags)
{
    struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };

    return weir_hstream_send(h->h1.hs, head, &iov, 1, NULL, flags);
}

static inline struct holder *server_with(const char *input)
{
    struct holder *h = holder_new(true);

    assert_int_equal(feed(h, input), strlen(input));
    return h;
}

#define GET   "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define GET10 "GET / HTTP/1.0\r\n\r\n"

#endif
