/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tls_flow.c: what comes from below: the handshake, the data, the ends.
 *
 * Handshake: ciphertext is kept until whole records are there (waiting costs nothing), then a step
 * runs as a heavy task, few in a turn of the loop; the last flight of a client is cheap and runs at
 * once. Open: ciphertext is decrypted straight from the borrowed buffer, as many records as fit
 * into the worker's plaintext buffer for one on_data; when the holder stops reading in between, the
 * rest is kept, and taken up by a deferred call. Nothing here calls the holder from inside one of
 * the holder's calls.
 */
#include "net/tls_impl.h"

#include "base/str.h"

#include <openssl/err.h>
#include <stdlib.h>

static void tls_pump(struct weir_tls *tls, const uint8_t *data, size_t len);

/* The lower stream reads while we have use for more. */
void tls_want(struct weir_tls *tls)
{
    bool want = false;

    if (tls->state == TLS_HANDSHAKE)
        want = tls->lower_open && !tls->lower_eof && tls->held.len < TLS_HELD_BYTES_MAX;
    else if (tls->state == TLS_OPEN)
        want = tls->reading && !tls->stalled && !tls->peer_closed && !tls->lower_eof;
    if (want == tls->lower_reading)
        return;
    tls->lower_reading = want;
    weir_stream_read(tls->lower, want);
}

static void tls_fail(struct weir_tls *tls, enum weir_err err, int sys)
{
    if (tls->state >= TLS_DEAD)
        return;
    tls->state = TLS_DEAD;
    weir_later_cancel(&tls->later);
    weir_timer_stop(&tls->stream.loop->wheel, &tls->quiet);
    weir_buf_clear(&tls->held);
    tls_want(tls);
    tls->stream.sink->on_error(tls->stream.arg, err, sys);
}

/* After a failed call of OpenSSL: its words for those who debug, and an empty queue for the next
 * one. */
void tls_complain(struct weir_tls *tls)
{
    struct weir_log *log = tls->stream.loop->log;

    if (log && weir_log_level(log) >= WEIR_LOG_DEBUG) {
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());

        weir_log(log, WEIR_LOG_DEBUG, "tls: %s", reason ? reason : "no reason given");
    }
    ERR_clear_error();
}

/* ---- handshake ---- */

/* The subject of a client certificate that was verified, RFC 2253. */
static void info_subject(struct weir_tls *tls)
{
    X509 *peer;
    BIO *text;
    char *at;
    long len;

    if (tls->client || !tls_server_asks_cert(tls->server) ||
        SSL_get_verify_result(tls->ssl) != X509_V_OK)
        return;
    peer = SSL_get0_peer_certificate(tls->ssl);
    text = peer ? BIO_new(BIO_s_mem()) : NULL;
    if (!text)
        return;
    X509_NAME_print_ex(text, X509_get_subject_name(peer), 0, XN_FLAG_RFC2253);
    len = BIO_get_mem_data(text, &at);
    free((char *)tls->info.client_subject.ptr);
    tls->info.client_subject = (struct weir_str){ 0 };
    if (len > 0) {
        char *copy = weir_str_dup((struct weir_str){ at, (size_t)len });

        if (copy)
            tls->info.client_subject = (struct weir_str){ copy, (size_t)len };
    }
    BIO_free(text);
}

void tls_info_fill(struct weir_tls *tls)
{
    struct weir_tls_info *info = &tls->info;
    const char *sni = SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name);
    const unsigned char *alpn;
    unsigned alpn_len;

    info->version = weir_str(SSL_get_version(tls->ssl));
    info->cipher = weir_str(SSL_get_cipher_name(tls->ssl));
    info->resumed = SSL_session_reused(tls->ssl);
    SSL_get0_alpn_selected(tls->ssl, &alpn, &alpn_len);
    if (alpn_len)
        info->alpn = (struct weir_str){ (const char *)alpn, alpn_len };
    if (sni && !tls->sni)
        tls->sni = strdup(sni);
    info->sni = weir_str(tls->sni);
    if (!tls->client)
        info->policy = tls_server_group_of(tls->ssl);
    info_subject(tls);
}

static void tls_opened(struct weir_tls *tls)
{
    tls->state = TLS_OPEN;
    ERR_clear_error();
    tls_info_fill(tls);
    if (!tls->client)
        tls->ticket_due = tls_server_owes_ticket(tls->server, tls->ssl);
    tls->stalled = tls->held.len > 0 || tls->lower_eof;
    tls->pumping = true; /* a read(true) in on_open needs no deferred call */
    if (tls->stream.sink->on_open)
        tls->stream.sink->on_open(tls->stream.arg);
    tls->pumping = false;
    if (tls->state != TLS_OPEN)
        return;
    /* When the request that came along is on its way upstream. Something else is queued only where
     * what the holder wrote is lost. */
    if (tls->ticket_due && !weir_later_queued(&tls->later))
        weir_loop_heavy(tls->stream.loop, &tls->later, tls_ticket, tls);
    if (tls->reading && tls->stalled)
        tls_pump(tls, NULL, 0);
    else
        tls_want(tls);
}

static void tls_handshake_failed(struct weir_tls *tls)
{
    enum weir_err err = tls->client ? tls_client_why(tls->ssl) : WEIR_ETLS;

    tls->info.fault = err == WEIR_EUPVERIFY
                          ? X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl))
                          : ERR_reason_error_string(ERR_peek_last_error());
    tls_complain(tls);
    tls_fail(tls, err, 0);
}

/* How many bytes of `held` are whole records. Bytes that cannot be a record are all handed to
 * OpenSSL, which refuses them. */
static size_t tls_whole(struct weir_tls *tls)
{
    size_t at = 0;

    while (!tls->unframed && tls->held.len - at >= SSL3_RT_HEADER_LENGTH) {
        struct iovec iov[SSL3_RT_HEADER_LENGTH];
        uint8_t head[SSL3_RT_HEADER_LENGTH] = { 0 };
        int count = weir_buf_peek(&tls->held, at, iov, SSL3_RT_HEADER_LENGTH);
        size_t n = 0;
        size_t len;

        for (int i = 0; i < count; i++)
            for (size_t k = 0; k < iov[i].iov_len && n < sizeof(head); k++)
                head[n++] = ((const uint8_t *)iov[i].iov_base)[k];
        len = (size_t)head[3] << 8 | head[4];
        if (head[0] < SSL3_RT_CHANGE_CIPHER_SPEC || head[0] > SSL3_RT_APPLICATION_DATA ||
            head[1] != 3 || len > TLS_RECORD_WIRE_MAX)
            tls->unframed = true;
        else if (tls->held.len - at >= SSL3_RT_HEADER_LENGTH + len)
            at += SSL3_RT_HEADER_LENGTH + len;
        else
            break;
    }
    return tls->unframed ? tls->held.len : at;
}

/* What follows our own Finished is a few microseconds of work, unless a client certificate has to
 * be verified. */
static bool tls_step_is_cheap(const struct weir_tls *tls)
{
    uint8_t none;

    return !tls->client && tls->ssl && !tls_server_asks_cert(tls->server) &&
           SSL_get_finished(tls->ssl, &none, 0) > 0;
}

/* All that came has been used, and our flight, if there is one, has left. */
static void tls_flight_sent(struct weir_tls *tls)
{
    tls->flight_ms = (uint32_t)tls->stream.loop->now_ms ?: 1;
}

/* The first bytes that follow a flight are its answer. */
static void tls_flight_answered(struct weir_tls *tls)
{
    if (tls->flight_ms)
        tls->info.rtt_ms = (uint32_t)tls->stream.loop->now_ms - tls->flight_ms + 1;
    tls->flight_ms = 0;
}

/* In an event of the lower stream: go on when there is something to go on with. */
static void tls_advance(struct weir_tls *tls)
{
    if (!weir_later_queued(&tls->later) && (tls->lower_eof || tls_whole(tls))) {
        if (tls->lower_eof || tls_step_is_cheap(tls)) {
            tls_step(tls);
            return;
        }
        weir_loop_heavy(tls->stream.loop, &tls->later, tls_step, tls);
    }
    tls_want(tls);
}

static int tls_ssl_make(struct weir_tls *tls)
{
    if (tls->ssl)
        return 0;
    tls->ssl = tls_server_ssl(tls->server);
    if (!tls->ssl)
        return WEIR_ENOMEM;
    tls_bio_bind(tls->stream.loop, tls->ssl);
    return 0;
}

void tls_step(void *arg)
{
    struct weir_tls *tls = weir_cast(struct weir_tls, arg, TLS_MAGIC);
    size_t whole = tls_whole(tls);
    struct tls_scratch *scratch;
    bool waits;
    int done, err;

    if (tls->lower_eof && !whole) {
        tls_fail(tls, tls->client ? WEIR_EUPTLS : WEIR_ECLOSED, 0);
        return;
    }
    if (tls_ssl_make(tls)) {
        tls_complain(tls);
        tls_fail(tls, WEIR_ENOMEM, 0);
        return;
    }
    scratch = tls_bio_enter(tls);
    tls_bio_lend_held(scratch, whole);
    ERR_clear_error();
    done = SSL_do_handshake(tls->ssl);
    waits = done <= 0 && SSL_get_error(tls->ssl, done) == SSL_ERROR_WANT_READ &&
            tls_bio_left(scratch) == 0;
    err = tls_bio_settle(tls, scratch);
    if (tls_bio_flush(tls, scratch) || err)
        tls_fail(tls, WEIR_ENOMEM, 0);
    else if (done == 1)
        tls_opened(tls);
    else if (!waits)
        tls_handshake_failed(tls);
    else {
        tls_flight_sent(tls);
        tls_advance(tls);
    }
}

/* ---- data ---- */

enum tls_fill { TLS_FILL_DRY, TLS_FILL_MORE, TLS_FILL_EOF, TLS_FILL_FAIL };

/* SSL_read returned nothing: why? SSL_get_error would look at the error queue, which is ours only
 * after a clearing call; after an error OpenSSL is `in init`, as it is in the middle of a handshake
 * message, and only then the queue is asked. */
static enum tls_fill tls_why(struct weir_tls *tls, struct tls_scratch *scratch, bool have)
{
    size_t left = tls_bio_left(scratch);
    bool in_init = SSL_in_init(tls->ssl);

    if (SSL_get_shutdown(tls->ssl) & SSL_RECEIVED_SHUTDOWN)
        return in_init ? TLS_FILL_FAIL : TLS_FILL_EOF; /* a fatal alert sets it too */
    if (SSL_want(tls->ssl) != SSL_READING || scratch->out_failed || (in_init && ERR_peek_error()))
        return TLS_FILL_FAIL;
    /* a handshake message was read (without SSL_MODE_AUTO_RETRY that returns), or half a record is
     * there */
    if (left || (!have && !SSL_has_pending(tls->ssl))) {
        if (++tls->messages > TLS_MESSAGES_MAX)
            return TLS_FILL_FAIL;
    }
    return left ? TLS_FILL_MORE : TLS_FILL_DRY;
}

/* Decrypts as many records as there are and as fit. */
static enum tls_fill tls_fill(struct weir_tls *tls, struct tls_scratch *scratch, size_t *have)
{
    *have = 0;
    for (;;) {
        int n = SSL_read(tls->ssl, scratch->plain + *have, (int)(sizeof(scratch->plain) - *have));

        if (n > 0) {
            *have += (size_t)n;
            tls->messages = 0;
            tls->asked = true;
            if (!tls_bio_left(scratch) && !SSL_has_pending(tls->ssl))
                return TLS_FILL_DRY;
            if (sizeof(scratch->plain) - *have < TLS_RECORD_BYTES)
                return TLS_FILL_MORE;
        } else {
            enum tls_fill why = tls_why(tls, scratch, *have > 0);

            if (why != TLS_FILL_MORE)
                return why;
        }
    }
}

/* Nothing is left to decrypt. */
static void tls_ended(struct weir_tls *tls, enum tls_fill how)
{
    if (how == TLS_FILL_FAIL) {
        enum weir_err err = tls->client ? WEIR_EUPTLS : WEIR_ETLS;

        tls_complain(tls);
        tls_fail(tls, err, 0);
    } else if (how == TLS_FILL_EOF) {
        tls->peer_closed = true;
        weir_buf_clear(&tls->held);
        tls_want(tls);
        tls->stream.sink->on_eof(tls->stream.arg);
    } else if (tls->lower_eof) {
        tls_fail(tls, WEIR_ETRUNCATED, 0);
    } else {
        tls_want(tls);
    }
}

/* Decrypts and hands on while the holder reads: `data`, or what was kept. */
static void tls_pump(struct weir_tls *tls, const uint8_t *data, size_t len)
{
    struct tls_scratch *scratch = tls_bio_enter(tls);
    enum tls_fill how = TLS_FILL_MORE;
    size_t have;
    int err = 0;

    weir_assert(!tls->pumping);
    tls->pumping = true;
    tls->stalled = false;
    if (data)
        tls_bio_lend(scratch, data, len);
    else
        tls_bio_lend_held(scratch, tls->held.len);
    while (tls->reading && how == TLS_FILL_MORE) {
        tls_bio_enter(tls);
        how = tls_fill(tls, scratch, &have);
        err = tls_bio_flush(tls, scratch);
        if (err)
            break;
        if (!have)
            continue;
        tls->stream.sink->on_data(tls->stream.arg, scratch->plain, have);
        if (tls->state != TLS_OPEN) {
            tls_bio_lend(scratch, NULL, 0);
            tls->pumping = false;
            return;
        }
    }
    if (tls_bio_settle(tls, scratch))
        err = WEIR_ENOMEM;
    tls->pumping = false;
    if (err) {
        tls_fail(tls, WEIR_ENOMEM, 0);
    } else if (!tls->reading) {
        tls->stalled = how != TLS_FILL_DRY || tls->lower_eof;
        tls_want(tls);
    } else {
        tls_ended(tls, how);
    }
}

void tls_resume(void *arg)
{
    struct weir_tls *tls = weir_cast(struct weir_tls, arg, TLS_MAGIC);

    if (tls->lost)
        tls_fail(tls, WEIR_ENOMEM, 0);
    else if (tls->state == TLS_OPEN && tls->reading && tls->stalled)
        tls_pump(tls, NULL, 0);
}

/* ---- events of the lower stream ---- */

static void on_lower_open(void *arg)
{
    struct weir_tls *tls = weir_cast(struct weir_tls, arg, TLS_MAGIC);

    tls->lower_open = true;
    tls_step(tls); /* the first flight of a client: a key pair and a hello */
}

static void on_lower_data(void *arg, const uint8_t *data, size_t len)
{
    struct weir_tls *tls = weir_cast(struct weir_tls, arg, TLS_MAGIC);
    bool handshake = tls->state == TLS_HANDSHAKE;

    if (tls->state >= TLS_DEAD || tls->peer_closed || len == 0)
        return;
    if (!handshake && tls->reading && !tls->stalled) {
        tls_pump(tls, data, len);
        return;
    }
    if (weir_buf_append(&tls->held, data, len)) {
        tls_fail(tls, WEIR_ENOMEM, 0);
        return;
    }
    if (!handshake) {
        tls->stalled = true;
        return;
    }
    tls_flight_answered(tls);
    tls_advance(tls);
}

static void on_lower_eof(void *arg)
{
    struct weir_tls *tls = weir_cast(struct weir_tls, arg, TLS_MAGIC);

    tls->lower_eof = true;
    if (tls->state == TLS_HANDSHAKE)
        tls_advance(tls);
    else if (tls->state == TLS_OPEN && !tls->peer_closed) {
        if (tls->reading && !tls->stalled)
            tls_pump(tls, NULL, 0);
        else
            tls->stalled = true;
    }
}

static void on_lower_drained(void *arg)
{
    struct weir_tls *tls = weir_cast(struct weir_tls, arg, TLS_MAGIC);

    if (tls->state == TLS_OPEN && tls->stream.sink->on_drained)
        tls->stream.sink->on_drained(tls->stream.arg);
}

static void on_lower_error(void *arg, enum weir_err err, int sys)
{
    struct weir_tls *tls = weir_cast(struct weir_tls, arg, TLS_MAGIC);

    tls_fail(tls, err, sys);
}

static void on_lower_closed(void *arg)
{
    struct weir_tls *tls = weir_cast(struct weir_tls, arg, TLS_MAGIC);

    weir_assert(tls->state == TLS_CLOSING);
    tls->stream.sink->on_closed(tls->stream.arg);
    tls_put(tls);
}

const struct weir_stream_sink tls_lower_sink = {
    .on_open = on_lower_open,
    .on_data = on_lower_data,
    .on_eof = on_lower_eof,
    .on_drained = on_lower_drained,
    .on_error = on_lower_error,
    .on_closed = on_lower_closed,
};
