/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tls_bio.c: one BIO a worker, shared by all its TLS streams. OpenSSL reads ciphertext straight
 * from the borrowed read buffer (or from what a stream had to keep) and writes into the worker's
 * output buffer, which goes to the lower stream in one write. A stream therefore owns no BIO and no
 * buffer.
 */
#include "net/tls_impl.h"

#include <stdlib.h>

/* The next chunk of what the current stream has kept. */
static bool bio_refill(struct tls_scratch *scratch)
{
    struct weir_tls *tls = scratch->current;
    struct iovec iov;

    if (!scratch->held_budget)
        return false;
    weir_buf_consume(&tls->held, scratch->held_span);
    scratch->held_span = 0;
    if (weir_buf_peek(&tls->held, 0, &iov, 1) == 0)
        return false;
    if (iov.iov_len > scratch->held_budget)
        iov.iov_len = scratch->held_budget;
    scratch->in = iov.iov_base;
    scratch->in_len = scratch->held_span = iov.iov_len;
    scratch->held_budget -= iov.iov_len;
    return true;
}

static int bio_read(BIO *bio, char *out, size_t len, size_t *done)
{
    struct tls_scratch *scratch = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (!scratch->in_len && !bio_refill(scratch)) {
        BIO_set_retry_read(bio);
        *done = 0;
        return -1;
    }
    if (len > scratch->in_len)
        len = scratch->in_len;
    memcpy(out, scratch->in, len);
    scratch->in += len;
    scratch->in_len -= len;
    *done = len;
    return 1;
}

int tls_bio_pay(struct weir_tls *tls, struct tls_scratch *scratch)
{
    if (!tls->owed)
        return 0;
    if (tls->owed_len > sizeof(scratch->out) - scratch->out_len && tls_bio_flush(tls, scratch))
        return WEIR_ENOMEM;
    memcpy(scratch->out + scratch->out_len, tls->owed, tls->owed_len);
    scratch->out_len += tls->owed_len;
    free(tls->owed);
    tls->owed = NULL;
    weir_timer_stop(&tls->stream.loop->wheel, &tls->quiet);
    return 0;
}

static int bio_write(BIO *bio, const char *data, size_t len, size_t *done)
{
    struct tls_scratch *scratch = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    *done = 0;
    if (tls_bio_pay(scratch->current, scratch))
        return -1;
    if (len > sizeof(scratch->out) - scratch->out_len && tls_bio_flush(scratch->current, scratch))
        return -1;
    if (len > sizeof(scratch->out))
        len = sizeof(scratch->out);
    memcpy(scratch->out + scratch->out_len, data, len);
    scratch->out_len += len;
    *done = len;
    return 1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

void tls_bio_bind(struct weir_loop *loop, SSL *ssl)
{
    BIO *bio = tls_scratch(loop)->bio;

    BIO_up_ref(bio); /* SSL_set_bio takes one reference when both ends are the same */
    SSL_set_bio(ssl, bio, bio);
}

struct tls_scratch *tls_bio_enter(struct weir_tls *tls)
{
    struct tls_scratch *scratch = tls_scratch(tls->stream.loop);

    if (scratch->out_len && scratch->current != tls)
        tls_bio_uncork(scratch->current);
    scratch->current = tls;
    scratch->out_failed = false;
    return scratch;
}

void tls_bio_lend(struct tls_scratch *scratch, const uint8_t *data, size_t len)
{
    scratch->in = data;
    scratch->in_len = len;
    scratch->held_span = scratch->held_budget = 0;
}

void tls_bio_lend_held(struct tls_scratch *scratch, size_t budget)
{
    weir_assert(budget <= scratch->current->held.len);
    tls_bio_lend(scratch, NULL, 0);
    scratch->held_budget = budget;
}

int tls_bio_settle(struct weir_tls *tls, struct tls_scratch *scratch)
{
    int err = 0;

    if (scratch->held_span)
        weir_buf_consume(&tls->held, scratch->held_span - scratch->in_len);
    else if (scratch->in_len)
        err = weir_buf_append(&tls->held, scratch->in, scratch->in_len);
    tls_bio_lend(scratch, NULL, 0);
    return err;
}

int tls_bio_flush(struct weir_tls *tls, struct tls_scratch *scratch)
{
    struct iovec iov = { scratch->out, scratch->out_len };

    if (scratch->out_len && !scratch->out_failed && !tls->lower_shut &&
        weir_stream_write(tls->lower, &iov, 1))
        scratch->out_failed = true;
    scratch->out_len = 0;
    return scratch->out_failed ? WEIR_ENOMEM : 0;
}

int tls_bio_owe(struct weir_tls *tls, struct tls_scratch *scratch)
{
    uint8_t *owed = NULL;

    if (!scratch->out_len)
        return 0;
    weir_assert(!tls->owed); /* paid by the writing of what is in out */
    if (!scratch->out_failed && scratch->out_len <= TLS_CORK_BYTES_MAX)
        owed = malloc(scratch->out_len);
    if (!owed)
        return tls_bio_flush(tls, scratch);
    memcpy(owed, scratch->out, scratch->out_len);
    tls->owed = owed;
    tls->owed_len = (uint32_t)scratch->out_len;
    scratch->out_len = 0;
    return 0;
}

void tls_bio_lose(struct weir_tls *tls)
{
    tls->lost = true;
    if (tls->state < TLS_DEAD && !weir_later_queued(&tls->later))
        weir_loop_defer(tls->stream.loop, &tls->later, tls_resume, tls);
}

void tls_bio_uncork(struct weir_tls *tls)
{
    struct tls_scratch *scratch = tls_scratch(tls->stream.loop);

    if (scratch->current == tls && scratch->out_len && tls_bio_flush(tls, scratch))
        tls_bio_lose(tls);
}

static void on_turn_end(void *arg)
{
    struct tls_scratch *scratch = arg;

    if (scratch->out_len)
        tls_bio_uncork(scratch->current);
}

int tls_bio_cork(struct weir_tls *tls, struct tls_scratch *scratch)
{
    if (scratch->out_failed || scratch->out_len > TLS_CORK_BYTES_MAX)
        return tls_bio_flush(tls, scratch);
    if (!weir_later_queued(&scratch->cork))
        weir_loop_defer_last(tls->stream.loop, &scratch->cork, on_turn_end, scratch);
    return 0;
}

int weir_tls_loop_init(struct weir_loop *loop)
{
    struct tls_scratch *scratch = malloc(sizeof(*scratch));
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "weir worker");

    weir_slab_init(&loop->tlss, sizeof(struct weir_tls));
    if (!scratch || !method)
        goto fail;
    memset(scratch, 0,
           offsetof(struct tls_scratch, plain)); /* the buffers cost no page before they are used */
    BIO_meth_set_read_ex(method, bio_read);
    BIO_meth_set_write_ex(method, bio_write);
    BIO_meth_set_ctrl(method, bio_ctrl);
    BIO_meth_set_create(method, bio_create);
    scratch->method = method;
    scratch->bio = BIO_new(method);
    if (!scratch->bio)
        goto fail;
    BIO_set_data(scratch->bio, scratch);
    loop->tls = scratch;
    return 0;
fail:
    BIO_meth_free(method);
    free(scratch);
    loop->tls = NULL;
    return WEIR_ENOMEM;
}

void weir_tls_loop_fini(struct weir_loop *loop)
{
    struct tls_scratch *scratch = tls_scratch(loop);

    if (!scratch)
        return;
    weir_later_cancel(&scratch->cork);
    weir_slab_fini(&loop->tlss);
    BIO_free(scratch->bio);
    BIO_meth_free(scratch->method);
    free(scratch);
    loop->tls = NULL;
}
