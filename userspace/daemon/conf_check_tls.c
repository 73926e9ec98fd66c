/* SPDX-License-Identifier: Apache-2.0 */
/* conf_check_tls.c: TLS is checked by building it: what OpenSSL refuses now would fail at the
 * start. */
#include "daemon/conf_internal.h"

static void check_alpn(struct conf_load *load, const struct weir_strs *alpn)
{
    for (size_t i = 0; i < alpn->count; i++)
        if (!weir_str_eq(alpn->at[i], WEIR_STR("h2")) &&
            !weir_str_eq(alpn->at[i], WEIR_STR("http/1.1")))
            conf_error(load, conf_at_item(load, alpn, "alpn", i),
                       "'%.*s' is no value of 'alpn': it must be h2 or http/1.1",
                       CONF_QUOTE(alpn->at[i]));
}

/* The element of `certs` at which the building stops: they are tried one more at a time. */
static const struct conf_mark *fault_mark(struct conf_load *load,
                                          const struct weir_listener_conf *listener)
{
    struct weir_tls_server_conf some = listener->tls;
    const struct weir_tls_cert_conf *certs = listener->tls.certs.at;
    const struct conf_pair *first = conf_place(load, certs, "");

    some.client_ca = (struct weir_str){ NULL, 0 };
    for (some.certs.count = 1; some.certs.count <= listener->tls.certs.count; some.certs.count++) {
        struct weir_tls_fault ignored;
        struct weir_tls_server *server = weir_tls_server_new(&some, listener->name, &ignored);
        const struct conf_pair *element = conf_place(load, &certs[some.certs.count - 1], "");

        if (!server)
            return element ? &element->mark : conf_at(load, &listener->tls, "tls");
        weir_tls_server_put(server);
    }
    if (listener->tls.client_ca.ptr)
        return conf_at(load, &listener->tls.client_ca, "client_ca");
    return first ? &first->mark : conf_at(load, &listener->tls, "tls");
}

static void check_listener(struct conf_load *load, const struct weir_listener_conf *listener)
{
    struct weir_tls_fault fault = { "" };
    struct weir_tls_server *server = weir_tls_server_new(&listener->tls, listener->name, &fault);

    if (server)
        weir_tls_server_put(server);
    else
        conf_error(load, fault_mark(load, listener), "%s", fault.text);
}

static void check_upstream(struct conf_load *load, const struct weir_cluster_conf *cluster)
{
    struct weir_tls_fault fault = { "" };
    struct weir_tls_client *client = weir_tls_client_new(&cluster->tls, &fault);

    if (client)
        weir_tls_client_put(client);
    else
        conf_error(load, conf_at(load, &cluster->tls, "tls"), "%s", fault.text);
}

void conf_check_tls(struct conf_load *load)
{
    const struct weir_listener_conf *listeners = load->conf->proxy.listeners.at;
    const struct weir_cluster_conf *upstreams = load->conf->proxy.upstreams.at;

    for (size_t i = 0; i < load->conf->proxy.listeners.count; i++)
        check_alpn(load, &listeners[i].tls.alpn);
    if (load->no_files)
        return;
    for (size_t i = 0; i < load->conf->proxy.listeners.count; i++)
        if (listeners[i].tls_on && conf_place(load, &listeners[i].tls, CONF_TLS_READ))
            check_listener(load, &listeners[i]);
    for (size_t i = 0; i < load->conf->proxy.upstreams.count; i++)
        if (upstreams[i].tls_on && conf_place(load, &upstreams[i].tls, CONF_TLS_READ))
            check_upstream(load, &upstreams[i]);
}
