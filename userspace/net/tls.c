/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tls.c: a TLS stream over another stream: its making, the calls of its holder, its end, parcels.
 * What comes from below is in tls_flow.c.
 *
 *   HANDSHAKE ──steps──▶ OPEN ──close──▶ CLOSING ──on_closed of the lower──▶ gone
 *       └───────┬──────────┘               ▲
 *               └──error──▶ DEAD ──close───┘
 */
#include "net/tls_impl.h"

#include "net/tcp.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <unistd.h>

static const struct weir_stream_ops tls_ops;

static struct weir_tls *tls_of(const struct weir_stream *stream)
{
    return weir_cast(struct weir_tls, (struct weir_tls *)stream, TLS_MAGIC);
}

void tls_put(struct weir_tls *tls)
{
    if (tls->ssl) {
        /* the session stays good whatever the connection ended by, and no lock of the context is
         * taken */
        SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(tls->ssl);
    }
    if (!tls->released) {
        if (tls->server)
            weir_tls_server_put(tls->server);
        if (tls->out)
            weir_tls_client_put(tls->out);
    }
    if (tls->sessions)
        weir_tls_sessions_free(tls->sessions);
    weir_later_cancel(&tls->later);
    weir_timer_stop(&tls->stream.loop->wheel, &tls->quiet);
    weir_buf_clear(&tls->held);
    free(tls->owed);
    free((char *)tls->info.client_subject.ptr);
    free(tls->sni);
    weir_slab_put(&tls->stream.loop->tlss, tls);
}

/* ---- calls of the holder ---- */

static void tls_read(struct weir_stream *stream, bool on)
{
    struct weir_tls *tls = tls_of(stream);

    tls->reading = on;
    if (tls->state != TLS_OPEN || tls->pumping)
        return;
    if (on && tls->stalled && !tls->peer_closed) {
        weir_later_cancel(&tls->later); /* a ticket can wait for the first data */
        weir_loop_defer(stream->loop, &tls->later, tls_resume, tls);
    }
    tls_want(tls);
}

static void tls_pace(struct weir_stream *stream, size_t bytes)
{
    weir_stream_pace(tls_of(stream)->lower, bytes);
}

/* Nothing of a record can be read before its last byte is there, and the first flight of TCP is less than one of 16 KiB: a
 * client would wait a round trip longer for the first byte of an answer. So what goes out after a pause, in which TCP has
 * forgotten how much it may send, goes in records of one segment each; what flows then, in whole ones. */
static size_t record_room(struct weir_tls *tls, size_t len)
{
    if (tls->client || tls->flow_bytes >= TLS_START_BYTES) /* servers are near */
        return len < INT32_MAX ? len : INT32_MAX;
    if (len > TLS_SEGMENT_BYTES)
        len = TLS_SEGMENT_BYTES;
    tls->flow_bytes += (uint32_t)len;
    return len;
}

static void note_pause(struct weir_tls *tls)
{
    uint32_t now = (uint32_t)tls->stream.loop->now_ms;

    if (now - tls->wrote_ms >= TLS_PAUSE_MS)
        tls->flow_bytes = 0;
    tls->wrote_ms = now;
}

static int tls_encrypt(struct weir_tls *tls, const void *data, size_t len)
{
    while (len) {
        int n = SSL_write(tls->ssl, data, (int)record_room(tls, len));

        if (n <= 0)
            return WEIR_ENOMEM;
        data = (const char *)data + n;
        len -= (size_t)n;
    }
    return 0;
}

/* Small pieces become one record; what fills records of its own is encrypted from where it lies. */
static int tls_encrypt_iov(struct weir_tls *tls, struct tls_scratch *scratch,
                           const struct iovec *iov, int count)
{
    size_t kept = 0;
    int err = 0;

    for (int i = 0; i < count && !err; i++) {
        const char *at = iov[i].iov_base;
        size_t left = iov[i].iov_len;

        while (left && !err) {
            size_t n = i + 1 == count ? left : left - left % TLS_RECORD_BYTES;

            if (!kept && n) {
                err = tls_encrypt(tls, at, n);
            } else {
                n = sizeof(scratch->gather) - kept < left ? sizeof(scratch->gather) - kept : left;
                memcpy(scratch->gather + kept, at, n);
                kept += n;
                if (kept == sizeof(scratch->gather)) {
                    err = tls_encrypt(tls, scratch->gather, kept);
                    kept = 0;
                }
            }
            at += n;
            left -= n;
        }
    }
    return err ? err : tls_encrypt(tls, scratch->gather, kept);
}

/* Has the header of a record been read, and its body not? It counts as nothing pending, and before
 * OpenSSL 3.0.14 SSL_free_buffers takes the header away under it (CVE-2024-4741). */
static bool tls_in_record(const SSL *ssl)
{
    return strcmp(SSL_rstate_string(ssl), "RH") != 0;
}

/* A ticket, in the worker's output buffer. The handshake that makes it takes a buffer for reading,
 * which only a read would give back. */
static int tls_encrypt_ticket(struct weir_tls *tls)
{
    int err = 0;

    tls->ticket_due = false;
    if (!SSL_new_session_ticket(tls->ssl))
        ERR_clear_error(); /* the next handshake will be a full one */
    else if (SSL_do_handshake(tls->ssl) != 1)
        err = WEIR_ENOMEM;
    if (!SSL_has_pending(tls->ssl) && !tls_in_record(tls->ssl))
        SSL_free_buffers(tls->ssl);
    return err;
}

/* A client that is quiet after its handshake gets the ticket now and has time for it. Of one that has
 * asked it would be a write of its own; it comes with the answer. */
static void on_quiet(struct weir_timer *timer, void *arg)
{
    struct weir_tls *tls = weir_cast(struct weir_tls, arg, TLS_MAGIC);

    if (tls->owed && !tls->asked && !tls->stalled && !tls->lost) {
        struct tls_scratch *scratch = tls_bio_enter(tls);

        if (tls_bio_pay(tls, scratch) || tls_bio_flush(tls, scratch))
            tls->lost = true;
    }
    tls_resume(tls);
}

void tls_ticket(void *arg)
{
    struct weir_tls *tls = weir_cast(struct weir_tls, arg, TLS_MAGIC);

    if (tls->ticket_due && !tls->shut && !tls->lost) {
        struct tls_scratch *scratch = tls_bio_enter(tls);

        if (tls_encrypt_ticket(tls) || tls_bio_owe(tls, scratch)) {
            tls_complain(tls);
            tls->lost = true;
        }
        if (tls->owed)
            weir_loop_timer(tls->stream.loop, &tls->quiet, TLS_QUIET_MS, on_quiet, tls);
    }
    tls_resume(tls);
}

static int tls_write(struct weir_stream *stream, const struct iovec *iov, int count)
{
    struct weir_tls *tls = tls_of(stream);
    struct tls_scratch *scratch;
    int err, flush;

    weir_assert(tls->state != TLS_HANDSHAKE);
    if (tls->state != TLS_OPEN)
        return 0;
    if (tls->shut)
        return WEIR_EINVAL;
    if (tls->lost)
        return WEIR_ENOMEM;
    note_pause(tls);
    scratch = tls_bio_enter(tls);
    err = tls->ticket_due ? tls_encrypt_ticket(tls) : 0;
    if (!err)
        err = tls_encrypt_iov(tls, scratch, iov, count);
    flush = tls_bio_cork(tls, scratch);
    if (err)
        tls_complain(tls);
    return err || flush ? WEIR_ENOMEM : 0;
}

static size_t tls_pending(const struct weir_stream *stream)
{
    return weir_stream_pending(tls_of(stream)->lower);
}

static void tls_say_goodbye(struct weir_tls *tls)
{
    struct tls_scratch *scratch = tls_bio_enter(tls);

    tls->shut = true;
    if (SSL_shutdown(tls->ssl) < 0)
        tls_complain(tls);
    if (tls_bio_flush(tls, scratch))
        tls_complain(tls); /* nobody is left to be told: the peer will see a truncation */
}

static void tls_shutdown(struct weir_stream *stream)
{
    struct weir_tls *tls = tls_of(stream);

    if (tls->state != TLS_OPEN || tls->shut)
        return;
    tls_say_goodbye(tls);
    tls->lower_shut = true;
    weir_stream_shutdown(tls->lower);
}

static void tls_close(struct weir_stream *stream, bool reset)
{
    struct weir_tls *tls = tls_of(stream);

    weir_assert(tls->state != TLS_CLOSING);
    if (tls->state == TLS_OPEN && !reset && !tls->shut && weir_stream_pending(tls->lower) == 0)
        tls_say_goodbye(tls);
    else
        tls_bio_uncork(tls);
    tls->state = TLS_CLOSING;
    weir_later_cancel(&tls->later);
    weir_timer_stop(&tls->stream.loop->wheel, &tls->quiet);
    weir_buf_clear(&tls->held);
    weir_stream_close(tls->lower, reset);
}

static bool tls_release(struct weir_stream *stream, struct weir_parcel *parcel)
{
    struct weir_tls *tls = tls_of(stream);

    if (tls->state == TLS_OPEN && tls->owed && tls_bio_pay(tls, tls_bio_enter(tls))) {
        tls_bio_lose(tls);
        return false;
    }
    tls_bio_uncork(tls);
    if (tls->state != TLS_OPEN || tls->lost || tls->pumping || tls->stalled || tls->peer_closed ||
        tls->lower_eof || tls->shut || tls->held.len || SSL_has_pending(tls->ssl) ||
        !weir_stream_release(tls->lower, parcel))
        return false;
    SSL_set_bio(tls->ssl, NULL, NULL); /* the BIO belongs to this worker */
    parcel->tls = tls->ssl;
    tls->ssl = NULL;
    tls->released = true; /* with the count of the policy */
    tls->state = TLS_CLOSING;
    weir_later_cancel(&tls->later);
    return true;
}

static const struct weir_tls_info *tls_tell(struct weir_stream *stream)
{
    struct weir_tls *tls = tls_of(stream);

    return tls->info.version.ptr || tls->info.fault ? &tls->info : NULL;
}

static int tls_fd(const struct weir_stream *stream)
{
    return weir_stream_fd(tls_of(stream)->lower);
}

static const struct weir_stream_ops tls_ops = {
    .read = tls_read,
    .pace = tls_pace,
    .write = tls_write,
    .pending = tls_pending,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .release = tls_release,
    .tls_info = tls_tell,
    .fd = tls_fd,
};

/* ---- construction ---- */

static struct weir_tls *tls_make(struct weir_loop *loop, const struct weir_stream_sink *sink,
                                 void *arg)
{
    struct weir_tls *tls = weir_slab_get(&loop->tlss);

    if (!tls)
        return NULL;
    tls->magic = TLS_MAGIC;
    tls->stream = (struct weir_stream){ .ops = &tls_ops, .sink = sink, .arg = arg, .loop = loop };
    weir_buf_init(&tls->held, &loop->bufs);
    return tls;
}

/* A stream without anyone to tell: it goes when it has closed. */
static void on_nothing(void *arg)
{
    (void)arg;
}

static void on_no_data(void *arg, const uint8_t *data, size_t len)
{
    (void)arg;
    (void)data;
    (void)len;
}

static void on_no_error(void *arg, enum weir_err err, int sys)
{
    (void)arg;
    (void)err;
    (void)sys;
}

static const struct weir_stream_sink nobody = { on_nothing, on_no_data,  on_nothing,
                                                on_nothing, on_no_error, on_nothing };

static void tls_abandon(struct weir_stream *lower)
{
    weir_stream_set_sink(lower, &nobody, NULL);
    weir_stream_close(lower, true);
}

struct weir_stream *weir_tls_accept(struct weir_tls_server *policy, struct weir_stream **lowerp,
                                    const struct weir_stream_sink *sink, void *arg)
{
    struct weir_stream *lower = weir_take(lowerp);
    struct weir_tls *tls = tls_make(lower->loop, sink, arg);

    if (!tls) {
        tls_abandon(lower);
        return NULL;
    }
    tls_server_get(policy);
    tls->server = policy;
    tls->lower = lower;
    tls->lower_open = true;
    weir_stream_set_sink(lower, &tls_lower_sink, tls);
    tls_want(tls);
    return &tls->stream;
}

void weir_tls_feed(struct weir_stream *stream, struct weir_buf *first)
{
    struct weir_tls *tls = tls_of(stream);

    if (!first->len)
        return;
    weir_buf_splice(&tls->held, first);
    weir_loop_heavy(stream->loop, &tls->later, tls_step, tls);
    tls_want(tls);
}

static struct weir_tls *tls_client_make(struct weir_tls_client *client, struct weir_loop *loop,
                                        struct weir_str name, struct weir_tls_sessions *sessions,
                                        const struct weir_stream_sink *sink, void *arg, int *sys)
{
    struct weir_tls *tls = tls_make(loop, sink, arg);

    *sys = ENOMEM;
    if (!tls)
        return NULL;
    tls_client_get(client);
    tls->client = true;
    tls->out = client;
    if (sessions)
        tls_sessions_get(sessions);
    tls->sessions = sessions;
    tls->ssl = tls_client_ssl(client, name, sessions, sys);
    if (!tls->ssl) {
        ERR_clear_error();
        tls_put(tls);
        return NULL;
    }
    tls_bio_bind(loop, tls->ssl);
    return tls;
}

struct weir_stream *weir_tls_connect(struct weir_tls_client *client, struct weir_loop *loop,
                                     const struct weir_addr *addr, const struct weir_tcp_opts *opts,
                                     struct weir_str name, struct weir_tls_sessions *sessions,
                                     const struct weir_stream_sink *sink, void *arg, int *sys)
{
    struct weir_tls *tls = tls_client_make(client, loop, name, sessions, sink, arg, sys);

    if (!tls)
        return NULL;
    if (opts && opts->http1)
        *sys = tls_client_http1(tls->ssl);
    if (!*sys)
        tls->lower = weir_tcp_connect(loop, addr, opts, &tls_lower_sink, tls, sys);
    if (!tls->lower) {
        tls_put(tls);
        return NULL;
    }
    return &tls->stream;
}

struct weir_stream *weir_tls_connect_over(struct weir_tls_client *client,
                                          struct weir_stream **lowerp, struct weir_str name,
                                          struct weir_tls_sessions *sessions,
                                          const struct weir_stream_sink *sink, void *arg, int *sys)
{
    struct weir_stream *lower = weir_take(lowerp);
    struct weir_tls *tls = tls_client_make(client, lower->loop, name, sessions, sink, arg, sys);

    if (!tls) {
        tls_abandon(lower);
        return NULL;
    }
    tls->lower = lower;
    tls->lower_open = true;
    weir_stream_set_sink(lower, &tls_lower_sink, tls);
    weir_loop_defer(lower->loop, &tls->later, tls_step, tls);
    return &tls->stream;
}

/* ---- parcels ---- */

static void parcel_free_ssl(SSL *ssl)
{
    if (SSL_is_server(ssl))
        weir_tls_server_put(tls_server_of(ssl));
    else
        weir_tls_client_put(tls_client_of(ssl));
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
}

struct weir_stream *weir_parcel_adopt(struct weir_parcel *parcel, struct weir_loop *loop,
                                      const struct weir_stream_sink *sink, void *arg)
{
    SSL *ssl = parcel->tls;
    int fd = parcel->fd;
    struct weir_tls *tls;

    *parcel = (struct weir_parcel){ .fd = -1 };
    if (!ssl)
        return weir_tcp_adopt(loop, fd, sink, arg);
    tls = tls_make(loop, sink, arg);
    if (!tls) {
        parcel_free_ssl(ssl);
        close(fd);
        return NULL;
    }
    tls->ssl = ssl;
    tls->client = !SSL_is_server(ssl);
    if (tls->client)
        tls->out = tls_client_of(ssl);
    else
        tls->server = tls_server_of(ssl);
    tls->state = TLS_OPEN;
    tls->lower_open = true;
    tls_bio_bind(loop, ssl);
    tls->lower = weir_tcp_adopt(loop, fd, &tls_lower_sink, tls);
    if (!tls->lower) {
        tls_put(tls);
        return NULL;
    }
    tls_info_fill(tls);
    return &tls->stream;
}

void weir_parcel_drop(struct weir_parcel *parcel)
{
    if (parcel->tls)
        parcel_free_ssl(parcel->tls);
    if (parcel->fd >= 0)
        close(parcel->fd);
    *parcel = (struct weir_parcel){ .fd = -1 };
}
