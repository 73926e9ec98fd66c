/* SPDX-License-Identifier: Apache-2.0 */
/** health_ask.c: the exchange of a check: its codec, and bytes in and out. */
#include "upstream/health.h"

static void on_output(void *arg, const struct iovec *iov, int count)
{
    struct weir_health *health = weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC);

    if (!health->ended && weir_stream_write(health->stream, iov, count))
        weir_health_end(health, weir_err_text(WEIR_ENOMEM));
}

static size_t on_pending(void *arg)
{
    return 0;
}

static void on_pause(void *arg, bool pause)
{
}

/* It is flushed after whatever may have been gathered. */
static void on_wanted(void *arg)
{
}

static const struct weir_codec_sink codec_sink = {
    .on_output = on_output,
    .on_pending = on_pending,
    .on_pause = on_pause,
    .on_wanted = on_wanted,
};

/* What the servers' worker on this loop has of HTTP/2. */
static struct weir_h2_shared *shared_of(const struct weir_health *health)
{
    const struct weir_cluster *cluster = health->server->cluster;

    for (unsigned i = 0; i < cluster->workers; i++)
        if (cluster->views[i] && cluster->views[i]->loop == health->loop)
            return cluster->views[i]->h2;
    return NULL;
}

/* Which protocol is spoken? False: not the one that it must be. */
static bool choose(const struct weir_health *health, bool *h2)
{
    const struct weir_cluster_conf *conf = health->server->cluster->conf;
    const struct weir_tls_info *tls = weir_stream_tls(health->stream);
    bool must = conf->protocol == WEIR_UPSTREAM_H2 || conf->health.type == WEIR_HEALTH_GRPC;

    *h2 = tls ? weir_str_is(tls->alpn, "h2") : must;
    return *h2 || !must;
}

static int codec_begin(struct weir_health *health, bool h2)
{
    const struct weir_cluster *cluster = health->server->cluster;
    struct weir_h2_shared *shared;

    if (!h2) {
        weir_h1_init_client(&health->h1, cluster->limits, &codec_sink, health);
        health->codec = &health->h1.codec;
        return 0;
    }
    shared = shared_of(health);
    health->h2 = shared
                     ? weir_h2_new_client(shared, cluster->limits, cluster->h2, &codec_sink, health)
                     : NULL;
    if (!health->h2)
        return WEIR_ENOMEM;
    weir_h2_secure(health->h2, cluster->tls != NULL);
    health->codec = weir_h2_codec(health->h2);
    return 0;
}

static int send_request(struct weir_health *health)
{
    struct weir_str body = { NULL, 0 };
    struct weir_message msg;
    struct iovec iov;
    int err;

    weir_message_init(&msg, &health->arena, true);
    err = health->kind->request(health, &msg, &body);
    if (!err)
        err = weir_codec_open(health->codec, &health->hs);
    iov = (struct iovec){ (void *)body.ptr, body.len };
    return err ?: weir_hstream_send(&health->hs, &msg, &iov, body.len ? 1 : 0, NULL, WEIR_SEND_END);
}

static void flush(struct weir_health *health)
{
    if (health->ended)
        return;
    weir_codec_flush(health->codec);
    if (health->h2 && weir_codec_over(health->codec))
        weir_health_end(health, weir_err_text(WEIR_EUPFRAMING));
}

void weir_health_ask(struct weir_health *health)
{
    bool h2;
    int err;

    health->opened = true;
    if (!choose(health, &h2)) {
        weir_health_end(health, "it does not speak h2: ALPN has not chosen it");
        return;
    }
    health->kind =
        weir_health_conf(health)->type == WEIR_HEALTH_GRPC ? &weir_health_grpc : &weir_health_http;
    health->grpc_status = -1;
    health->answered = 0;
    weir_arena_init(&health->arena, &health->loop->arenas);
    health->asking = true;
    health->hs = (struct weir_hstream){ .sink = &health->kind->sink,
                                        .arg = health,
                                        .arena = &health->arena };
    err = codec_begin(health, h2);
    if (!err)
        err = send_request(health);
    if (err) {
        weir_health_end(health, weir_err_text((enum weir_err)err));
        return;
    }
    flush(health);
    if (!health->ended)
        weir_stream_read(health->stream, true);
}

void weir_health_feed(struct weir_health *health, const uint8_t *data, size_t len)
{
    if (weir_codec_feed(health->codec, data, len) < 0)
        weir_health_end(health, weir_err_text(WEIR_EUPHEAD)); /* unless on_reset has said more */
    flush(health);
}

void weir_health_drained(struct weir_health *health)
{
    if (!health->asking || health->ended)
        return;
    weir_codec_drained(health->codec);
    flush(health);
}

void weir_health_ask_fini(struct weir_health *health)
{
    if (!health->asking)
        return;
    if (health->h2)
        weir_h2_free(health->h2);
    else if (health->codec)
        weir_h1_fini(&health->h1);
    health->h2 = NULL;
    health->codec = NULL;
    weir_arena_fini(&health->arena);
    health->asking = false;
}
