/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tls.h: TLS as a stream over a stream. OpenSSL is called in net/tls*.c alone.
 *
 * A policy (server) or client context is immutable and shared by all threads, counted. A TLS stream
 * owns its lower stream. Handshake steps go through weir_loop_heavy, so that others are served
 * between two of them. Ciphertext is fed from the borrowed read buffer and written through one
 * buffer of the worker: an idle connection holds no buffer.
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "base/files.h"
#include "net/stream.h"
#include "weir/conf.h"

struct weir_tls_cert_conf {
    struct weir_str cert, key; /* PEM files (chain, key; may be one file) */
    struct weir_str dir;       /* or a folder: NAME.pem with both, or NAME.crt and NAME.key */
};

enum { WEIR_TLS_1_2 = 0, WEIR_TLS_1_3 = 1 };

struct weir_tls_server_conf {
    struct weir_conf_list certs; /* struct weir_tls_cert_conf */
    struct weir_str client_ca;   /* PEM; absent: no client certificates */
    int client_verify;           /* 0 require, 1 optional */
    int min_version;             /* WEIR_TLS_1_2 … */
    struct weir_strs alpn;
    bool tickets;
    struct weir_str ticket_keys; /* absent or "auto": our own, rotated; else a file of 48 or 80 byte
                                    keys, first encrypts */
    struct weir_str ciphers;     /* absent: OpenSSL's */
    struct weir_files *files;    /* where they are read when a policy is made; NULL: the disk */
};

struct weir_tls_client_conf {
    bool verify;
    struct weir_str sni;       /* absent: the server's name, when it has one */
    struct weir_str ca;        /* PEM; absent: the system's */
    struct weir_str cert, key; /* client certificate; absent: none */
    struct weir_strs alpn;
    int min_version;
    struct weir_files *files; /* as above */
};

enum { WEIR_PEM_BYTES_MAX = 16 * 1024 * 1024 }; /* of a file of certificates */

struct weir_tls_server;
struct weir_tls_client;

/** One error of a configuration: what and which file. */
struct weir_tls_fault {
    char text[512];
};

/**
 * Loads and checks everything. NULL with *fault filled when something is wrong; otherwise
 * fault->text is empty, or a warning (a certificate that has expired, or is not valid yet).
 */
struct weir_tls_server *weir_tls_server_new(const struct weir_tls_server_conf *conf,
                                            struct weir_str name, struct weir_tls_fault *fault);
void weir_tls_server_put(struct weir_tls_server *policy);
/** Makes a new ticket key now; the two before it still decrypt. Any thread. By itself it happens
 * every hour. */
int weir_tls_server_rotate(struct weir_tls_server *policy);
/** Would a request for `host` (no port) be served by the same certificates as those that the SNI of this connection has
 * chosen? Asked of the policy that it was made under. Yes for clients without SNI. */
bool weir_tls_server_serves(const struct weir_tls_info *info, struct weir_str host);
/** It takes the place of `old`, which serves on: with our own keys both make and take the same tickets. Before it is used. */
void weir_tls_server_succeed(struct weir_tls_server *policy, struct weir_tls_server *old);
/** Do both ask the same of clients: no certificate, or one of the same authorities? Then a connection that the one has let
 * in would be let in by the other. */
bool weir_tls_server_admits_alike(const struct weir_tls_server *a, const struct weir_tls_server *b);
/** Visits the certificates: name, notAfter (seconds since 1970). */
void weir_tls_server_certs(const struct weir_tls_server *policy,
                           void (*fn)(void *arg, struct weir_str file, struct weir_str names,
                                      int64_t not_after),
                           void *arg);
/**
 * The server side over an accepted stream, which it takes: on_open after the handshake, on_error
 * (WEIR_ETLS, WEIR_ERESET …) when it fails. NULL without memory (the lower stream is then closed
 * and no event comes).
 */
struct weir_stream *weir_tls_accept(struct weir_tls_server *policy, struct weir_stream **lower,
                                    const struct weir_stream_sink *sink, void *arg);

/** The handshake begins with bytes that the holder has read from the lower stream: all of `first`. Right after
 * weir_tls_accept, in the same turn. */
void weir_tls_feed(struct weir_stream *stream, struct weir_buf *first);

/** Another number when a file that it names has another content. */
uint64_t weir_tls_client_stamp(const struct weir_tls_client_conf *conf);
struct weir_tls_client *weir_tls_client_new(const struct weir_tls_client_conf *conf,
                                            struct weir_tls_fault *fault);
void weir_tls_client_put(struct weir_tls_client *client);
/** Sessions of one server and one client context, for resumption; any thread. Streams that were
 * given them keep them alive. */
struct weir_tls_sessions;
struct weir_tls_sessions *weir_tls_sessions_new(void);
void weir_tls_sessions_free(struct weir_tls_sessions *sessions);
/**
 * Connects to `addr` and does the handshake: on_open when both are done. `name`: what the server's
 * certificate must be for (when conf.sni is absent). Errors WEIR_EUPTLS, WEIR_EUPVERIFY and those
 * of weir_tcp_connect. NULL as weir_tcp_connect.
 */
struct weir_tcp_opts;
struct weir_stream *weir_tls_connect(struct weir_tls_client *client, struct weir_loop *loop,
                                     const struct weir_addr *addr, const struct weir_tcp_opts *opts,
                                     struct weir_str name, struct weir_tls_sessions *sessions,
                                     const struct weir_stream_sink *sink, void *arg, int *sys);
/** The same over a stream that is open already, which it takes. NULL: no memory, or no name to
 * verify (*sys EINVAL). */
struct weir_stream *weir_tls_connect_over(struct weir_tls_client *client,
                                          struct weir_stream **lower, struct weir_str name,
                                          struct weir_tls_sessions *sessions,
                                          const struct weir_stream_sink *sink, void *arg, int *sys);
/** A released stream on a new loop; NULL without memory (and then all is closed). Works for plain
 * parcels as well. */
struct weir_stream *weir_parcel_adopt(struct weir_parcel *parcel, struct weir_loop *loop,
                                      const struct weir_stream_sink *sink, void *arg);
/** Closes what is in a parcel that nobody will adopt. */
void weir_parcel_drop(struct weir_parcel *parcel);

/** Scratch of a loop; called by weir_loop_init and _fini. */
int weir_tls_loop_init(struct weir_loop *loop);
void weir_tls_loop_fini(struct weir_loop *loop);

#endif
