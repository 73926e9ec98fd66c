/* SPDX-License-Identifier: Apache-2.0 */
/* conf_check_tls.c: TLS is checked by building it: what OpenSSL refuses now would fail at the
 * start. */
#include "daemon/conf_internal.h"

static void check_alpn(struct conf_load *load, const struct weir_listener_conf *listener)
{
    const struct weir_strs *alpn = &listener->tls.alpn;

    if (listener->protocol == WEIR_PROTOCOL_TCP) { /* whatever is spoken behind it */
        for (size_t i = 0; i < alpn->count; i++)
            if (alpn->at[i].len == 0 || alpn->at[i].len > 255)
                conf_error(load, conf_at_item(load, alpn, "alpn", i),
                           "a name in 'alpn' has 1 to 255 bytes");
        return;
    }
    for (size_t i = 0; i < alpn->count; i++)
        if (!weir_str_eq(alpn->at[i], WEIR_STR("h2")) &&
            !weir_str_eq(alpn->at[i], WEIR_STR("http/1.1")))
            conf_error(load, conf_at_item(load, alpn, "alpn", i),
                       "'%.*s' is no value of 'alpn': it must be h2 or http/1.1",
                       CONF_QUOTE(alpn->at[i]));
}

/* Builds it: true when that works. What is wrong, or worth a warning, is told at `mark`. */
static bool build(struct conf_load *load, const struct weir_tls_server_conf *conf,
                  struct weir_str name, const struct conf_mark *mark)
{
    struct weir_tls_fault fault = { "" };
    struct weir_tls_server *server = weir_tls_server_new(conf, name, &fault);

    if (!server)
        conf_error(load, mark, "%s", fault.text);
    else if (fault.text[0]) /* a certificate that has expired */
        conf_warn(load, mark, "%s", fault.text);
    if (server)
        weir_tls_server_put(server);
    return server != NULL;
}

/* Each certificate by itself; false when one is wrong. */
static bool check_certs(struct conf_load *load, const struct weir_listener_conf *listener)
{
    const struct weir_tls_cert_conf *certs = listener->tls.certs.at;
    bool good = true;

    for (size_t i = 0; i < listener->tls.certs.count; i++) {
        struct weir_tls_server_conf one = { .certs = { (void *)&certs[i], 1 },
                                            .files = load->door };
        const struct conf_pair *element = conf_place(load, &certs[i], "");

        good &= build(load, &one, listener->name,
                      element ? &element->mark : conf_at(load, &listener->tls, "tls"));
    }
    return good;
}

/* Each setting apart, on certificates that are good, so that none hides another. False when one is
 * wrong. */
static bool check_settings(struct conf_load *load, const struct weir_listener_conf *listener)
{
    const struct weir_tls_server_conf *tls = &listener->tls;
    const struct weir_tls_cert_conf *certs = tls->certs.at;
    struct weir_tls_server_conf ca = { .client_ca = tls->client_ca },
                                ciphers = { .tickets = false }, keys = { .tickets = tls->tickets };
    bool good = true;

    ciphers.ciphers = tls->ciphers;
    keys.ticket_keys = tls->ticket_keys;
    ca.certs = ciphers.certs = keys.certs = (struct weir_conf_list){ (void *)certs, 1 };
    ca.client_verify = tls->client_verify;
    ca.files = ciphers.files = keys.files = load->door;
    if (tls->client_ca.ptr)
        good &= build(load, &ca, listener->name, conf_at(load, &tls->client_ca, "client_ca"));
    if (tls->ciphers.ptr)
        good &= build(load, &ciphers, listener->name, conf_at(load, &tls->ciphers, "ciphers"));
    if (tls->ticket_keys.ptr)
        good &= build(load, &keys, listener->name, conf_at(load, &tls->ticket_keys, "ticket_keys"));
    return good;
}

static void check_listener(struct conf_load *load, const struct weir_listener_conf *listener)
{
    struct weir_tls_fault fault = { "" };
    struct weir_tls_server *server;

    if (listener->tls.certs.count == 0 || !check_certs(load, listener) ||
        !check_settings(load, listener))
        return;
    server = weir_tls_server_new(&listener->tls, listener->name, &fault); /* all of it together */
    if (server)
        weir_tls_server_put(server);
    else
        conf_error(load, conf_at(load, &listener->tls, "tls"), "%s", fault.text);
}

static void check_client(struct conf_load *load, const struct weir_tls_client_conf *conf,
                         const struct conf_mark *mark)
{
    struct weir_tls_fault fault = { "" };
    struct weir_tls_client *client = weir_tls_client_new(conf, &fault);

    if (!client)
        conf_error(load, mark, "%s", fault.text);
    else if (fault.text[0])
        conf_warn(load, mark, "%s", fault.text);
    if (client)
        weir_tls_client_put(client);
}

/* Whom we believe, and who we are: neither hides the other. */
static void check_upstream(struct conf_load *load, const struct weir_cluster_conf *cluster)
{
    struct weir_tls_client_conf them = cluster->tls, us = { .cert = cluster->tls.cert };
    const struct conf_mark *tls = conf_at(load, &cluster->tls, "tls");

    us.key = cluster->tls.key;
    us.files = load->door;
    them.cert = them.key = (struct weir_str){ NULL, 0 };
    check_client(load, &them, conf_at(load, &cluster->tls.ca, "ca") ?: tls);
    if (us.cert.ptr && us.key.ptr)
        check_client(load, &us, conf_at(load, &cluster->tls.cert, "cert") ?: tls);
}

void conf_check_tls(struct conf_load *load)
{
    const struct weir_listener_conf *listeners = load->conf->proxy.listeners.at;
    const struct weir_cluster_conf *upstreams = load->conf->proxy.upstreams.at;

    for (size_t i = 0; i < load->conf->proxy.listeners.count; i++)
        check_alpn(load, &listeners[i]);
    if (load->no_files)
        return;
    for (size_t i = 0; i < load->conf->proxy.listeners.count; i++)
        if (listeners[i].tls_on && conf_place(load, &listeners[i].tls, CONF_TLS_READ))
            check_listener(load, &listeners[i]);
    for (size_t i = 0; i < load->conf->proxy.upstreams.count; i++)
        if (upstreams[i].tls_on && conf_place(load, &upstreams[i].tls, CONF_TLS_READ))
            check_upstream(load, &upstreams[i]);
}
