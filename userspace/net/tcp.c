/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp.c: a stream over a socket of the io backend.
 *
 * An open connection that is idle is struct weir_tcp and nothing else. What it needs for a while, a
 * deadline while it connects and a queue while bytes are pending, stands in an extra that comes and
 * goes.
 *
 * A write goes to the kernel at once when nothing is pending; only what it does not take is copied.
 * A failed send is not told from inside the write: the backend says on_fail in a later turn, and
 * until then bytes are dropped.
 */
#include "net/tcp.h"

#include "base/panic.h"
#include "weir/limits.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <unistd.h>

enum {
    TCP_MAGIC = 0x7463703a,
    FLUSH_IOVS = 16,
    SEND_IOVS_MAX = 64, /* in one call; the kernel refuses more than 1024 */
    TRIES_MAX = 8,      /* of a call that was interrupted */
    TRIES_SETSOCKOPT = 3,
};

struct tcp_extra {
    struct weir_buf out;
    struct weir_timer deadline; /* while connecting */
};

struct weir_tcp {
    struct weir_stream stream; /* first: a stream is a tcp */
    uint32_t magic;
    bool shut : 1; /* no more writes: FIN after what is pending */
    bool dead : 1; /* on_error was called */
    bool
        shared : 1; /* another process has it open too: closing it here does not end its registration with the backend */
    struct weir_sock sock;
    struct tcp_extra *extra; /* NULL: open and nothing pending */
};

_Static_assert(sizeof(struct weir_tcp) <= 80, "an idle connection is small");

static const struct weir_stream_ops tcp_ops;
static const struct weir_sock_sink tcp_sock_sink;

static struct weir_tcp *tcp_of(const struct weir_stream *stream)
{
    return weir_cast(struct weir_tcp, (void *)stream, TCP_MAGIC);
}

static struct weir_tcp *tcp_of_sock(struct weir_sock *sock)
{
    struct weir_tcp *tcp = weir_container(sock, struct weir_tcp, sock);

    weir_assert(tcp->magic == TCP_MAGIC);
    return tcp;
}

void weir_tcp_loop_init(struct weir_loop *loop)
{
    weir_slab_init(&loop->tcps, sizeof(struct weir_tcp));
    weir_slab_init(&loop->tcp_extras, sizeof(struct tcp_extra));
}

void weir_tcp_loop_fini(struct weir_loop *loop)
{
    weir_slab_fini(&loop->tcps);
    weir_slab_fini(&loop->tcp_extras);
}

static struct tcp_extra *tcp_need_extra(struct weir_tcp *tcp)
{
    struct weir_loop *loop = tcp->stream.loop;

    if (!tcp->extra) {
        tcp->extra = weir_slab_get(&loop->tcp_extras);
        if (tcp->extra)
            weir_buf_init(&tcp->extra->out, &loop->bufs);
    }
    return tcp->extra;
}

static void tcp_drop_extra(struct weir_tcp *tcp)
{
    struct weir_loop *loop = tcp->stream.loop;

    if (!tcp->extra)
        return;
    weir_timer_stop(&loop->wheel, &tcp->extra->deadline);
    weir_buf_clear(&tcp->extra->out);
    weir_slab_put(&loop->tcp_extras, tcp->extra);
    tcp->extra = NULL;
}

static void tcp_fail(struct weir_tcp *tcp, enum weir_err err, int sys)
{
    tcp_drop_extra(tcp);
    tcp->dead = true;
    tcp->stream.sink->on_error(tcp->stream.arg, err, sys);
}

static enum weir_err tcp_connect_err(int sys)
{
    switch (sys) {
    case ECONNREFUSED:
        return WEIR_ECONNREFUSED;
    case ETIMEDOUT:
        return WEIR_ECONNTIME;
    case EMFILE:
    case ENFILE:
        return WEIR_EMFILE;
    case ENOMEM:
    case ENOBUFS:
        return WEIR_ENOMEM;
    default:
        return WEIR_ECONNECT;
    }
}

static void tcp_send_fin(struct weir_tcp *tcp)
{
    shutdown(tcp->sock.fd, SHUT_WR); /* fails only where the peer is gone, which is told anyway */
}

static bool tcp_broken(const struct weir_tcp *tcp)
{
    return tcp->dead || tcp->sock.broken || tcp->sock.failed;
}

/* Sends what is pending. */
static void tcp_flush(struct weir_tcp *tcp)
{
    struct weir_buf *out = &tcp->extra->out;

    while (out->len) {
        struct iovec iov[FLUSH_IOVS];
        int count = weir_buf_peek(out, 0, iov, FLUSH_IOVS);
        ssize_t n = weir_sock_send(tcp->stream.loop, &tcp->sock, iov, count);

        if (n < 0) {
            tcp_drop_extra(tcp); /* on_fail will tell */
            return;
        }
        weir_buf_consume(out, (size_t)n);
        if (tcp->sock.blocked)
            return;
    }
    tcp_drop_extra(tcp);
    if (tcp->shut)
        tcp_send_fin(tcp);
    if (tcp->stream.sink->on_drained)
        tcp->stream.sink->on_drained(tcp->stream.arg);
}

/* Connected: what was written meanwhile goes first, so that its end is told after on_open. */
static void tcp_opened(struct weir_tcp *tcp)
{
    bool pending = tcp->extra->out.len > 0;

    weir_timer_stop(&tcp->stream.loop->wheel, &tcp->extra->deadline);
    if (!pending) {
        tcp_drop_extra(tcp);
        if (tcp->shut)
            tcp_send_fin(tcp);
    }
    if (tcp->stream.sink->on_open)
        tcp->stream.sink->on_open(tcp->stream.arg);
    if (pending && tcp->extra && !tcp->sock.going && !tcp_broken(tcp))
        tcp_flush(tcp);
}

static void on_sock_recv(struct weir_sock *sock, const uint8_t *data, size_t len)
{
    struct weir_tcp *tcp = tcp_of_sock(sock);

    tcp->stream.sink->on_data(tcp->stream.arg, data, len);
}

static void on_sock_eof(struct weir_sock *sock)
{
    struct weir_tcp *tcp = tcp_of_sock(sock);

    tcp->stream.sink->on_eof(tcp->stream.arg);
}

static void on_sock_writable(struct weir_sock *sock)
{
    struct weir_tcp *tcp = tcp_of_sock(sock);

    if (!tcp->extra) { /* what a splice_out has left has room now */
        if (tcp->stream.sink->on_drained)
            tcp->stream.sink->on_drained(tcp->stream.arg);
        return;
    }
    if (weir_timer_armed(&tcp->extra->deadline))
        tcp_opened(tcp);
    else
        tcp_flush(tcp);
}

static void on_sock_fail(struct weir_sock *sock, int sys)
{
    struct weir_tcp *tcp = tcp_of_sock(sock);
    bool opening = tcp->extra && weir_timer_armed(&tcp->extra->deadline);

    if (tcp->dead)
        return;
    tcp_fail(tcp, opening ? tcp_connect_err(sys) : weir_err_from_errno(sys), sys);
}

static void on_sock_readable(struct weir_sock *sock)
{
    struct weir_tcp *tcp = tcp_of_sock(sock);

    tcp->stream.sink->on_readable(tcp->stream.arg);
}

static void on_sock_released(struct weir_sock *sock)
{
    struct weir_tcp *tcp = tcp_of_sock(sock);
    struct weir_loop *loop = tcp->stream.loop;

    if (tcp->shared)
        close(sock->fd);
    tcp->stream.sink->on_closed(tcp->stream.arg);
    weir_slab_put(&loop->tcps, tcp);
}

static const struct weir_sock_sink tcp_sock_sink = {
    .on_recv = on_sock_recv,
    .on_eof = on_sock_eof,
    .on_writable = on_sock_writable,
    .on_fail = on_sock_fail,
    .on_released = on_sock_released,
    .on_readable = on_sock_readable,
};

static void on_connect_deadline(struct weir_timer *timer, void *arg)
{
    struct weir_tcp *tcp = weir_cast(struct weir_tcp, arg, TCP_MAGIC);

    weir_sock_recv(tcp->stream.loop, &tcp->sock, false); /* should it connect after all */
    tcp_fail(tcp, WEIR_ECONNTIME, ETIMEDOUT);
}

static void tcp_read(struct weir_stream *stream, bool on)
{
    struct weir_tcp *tcp = tcp_of(stream);

    if (!tcp->dead)
        weir_sock_recv(stream->loop, &tcp->sock, on);
}

static void tcp_pace(struct weir_stream *stream, size_t bytes)
{
    weir_assert(bytes >= 1024);
    tcp_of(stream)->sock.recv_kib = bytes < WEIR_READ_BUFFER_BYTES ? (bytes >> 10) & 63 : 0;
}

/* To the kernel, directly; *sent is what it took. False when the stream has failed. */
static bool tcp_send_now(struct weir_tcp *tcp, const struct iovec *iov, int count, size_t *sent)
{
    while (count > 0) {
        int some = count < SEND_IOVS_MAX ? count : SEND_IOVS_MAX;
        ssize_t n = weir_sock_send(tcp->stream.loop, &tcp->sock, iov, some);

        if (n < 0)
            return false;
        *sent += (size_t)n;
        if (tcp->sock.blocked)
            return true;
        iov += some;
        count -= some;
    }
    return true;
}

static int tcp_write(struct weir_stream *stream, const struct iovec *iov, int count)
{
    struct weir_tcp *tcp = tcp_of(stream);
    size_t len = weir_iov_len(iov, count), sent = 0;
    struct tcp_extra *extra;
    int err;

    weir_assert(!tcp->sock.going);
    if (WEIR_UNLIKELY(tcp->shut))
        return WEIR_EINVAL;
    if (WEIR_UNLIKELY(tcp_broken(tcp)) || len == 0)
        return 0;
    if (WEIR_LIKELY(!tcp->extra)) {
        if (!tcp_send_now(tcp, iov, count, &sent) || sent == len)
            return 0;
    }
    extra = tcp_need_extra(tcp);
    if (!extra)
        return WEIR_ENOMEM;
    err = weir_buf_append_iov(&extra->out, iov, count, sent);
    if (err && extra->out.len == 0 && !tcp->sock.connecting)
        tcp_drop_extra(tcp);
    return err;
}

static size_t tcp_pending(const struct weir_stream *stream)
{
    const struct weir_tcp *tcp = tcp_of(stream);

    return tcp->extra ? tcp->extra->out.len : 0;
}

static void tcp_shutdown(struct weir_stream *stream)
{
    struct weir_tcp *tcp = tcp_of(stream);

    if (tcp->shut || tcp->sock.going)
        return;
    tcp->shut = true;
    if (!tcp->extra && !tcp_broken(tcp))
        tcp_send_fin(tcp);
}

static void tcp_set_reset(int fd)
{
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };

    for (int i = 0; i < TRIES_SETSOCKOPT; i++)
        if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0)
            return;
}

static void tcp_close(struct weir_stream *stream, bool reset)
{
    struct weir_tcp *tcp = tcp_of(stream);

    tcp_drop_extra(tcp);
    if (reset)
        tcp_set_reset(tcp->sock.fd);
    weir_sock_leave(stream->loop, &tcp->sock, tcp->shared);
}

static bool tcp_release(struct weir_stream *stream, struct weir_parcel *parcel)
{
    struct weir_tcp *tcp = tcp_of(stream);
    const struct weir_sock *sock = &tcp->sock;

    if (tcp->extra || tcp->shut || tcp->shared || tcp_broken(tcp) || sock->readable || sock->eof ||
        sock->going)
        return false;
    *parcel = (struct weir_parcel){ .fd = sock->fd };
    weir_sock_leave(stream->loop, &tcp->sock, true);
    return true;
}

static bool tcp_unread(struct weir_stream *stream)
{
    const struct weir_sock *sock = &tcp_of(stream)->sock;
    char byte;

    return sock->readable &&
           (recv(sock->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN);
}

static int tcp_fd(const struct weir_stream *stream)
{
    return tcp_of(stream)->sock.fd;
}

static void tcp_hand(struct weir_stream *stream, bool on)
{
    struct weir_tcp *tcp = tcp_of(stream);

    weir_assert(!on || stream->sink->on_readable);
    if (!tcp->dead)
        weir_sock_hand(stream->loop, &tcp->sock, on);
}

static ssize_t tcp_take(struct weir_stream *stream, void *data, size_t len, int flags)
{
    struct weir_tcp *tcp = tcp_of(stream);

    return tcp->dead ? 0 : weir_sock_take(stream->loop, &tcp->sock, data, len, flags);
}

static ssize_t tcp_splice_in(struct weir_stream *stream, int pipe, size_t len)
{
    struct weir_tcp *tcp = tcp_of(stream);

    return tcp->dead ? 0 : weir_sock_splice_in(stream->loop, &tcp->sock, pipe, len);
}

static ssize_t tcp_splice_out(struct weir_stream *stream, int pipe, size_t len)
{
    struct weir_tcp *tcp = tcp_of(stream);

    weir_assert(!tcp->extra && !tcp->shut && !tcp->sock.going);
    return tcp->dead ? -EPIPE : weir_sock_splice_out(stream->loop, &tcp->sock, pipe, len);
}

static int tcp_mute(struct weir_stream *stream, bool in, bool out)
{
    struct weir_tcp *tcp = tcp_of(stream);

    return tcp->dead ? 0 : weir_sock_mute(stream->loop, &tcp->sock, in, out);
}

static void tcp_share(struct weir_stream *stream)
{
    tcp_of(stream)->shared = true;
}

static const struct weir_stream_ops tcp_ops = {
    .read = tcp_read,
    .pace = tcp_pace,
    .write = tcp_write,
    .pending = tcp_pending,
    .shutdown = tcp_shutdown,
    .close = tcp_close,
    .release = tcp_release,
    .fd = tcp_fd,
    .unread = tcp_unread,
    .hand = tcp_hand,
    .take = tcp_take,
    .splice_in = tcp_splice_in,
    .splice_out = tcp_splice_out,
    .mute = tcp_mute,
    .share = tcp_share,
};

static struct weir_tcp *tcp_new(struct weir_loop *loop, int fd, const struct weir_stream_sink *sink,
                                void *arg)
{
    struct weir_tcp *tcp = weir_slab_get(&loop->tcps);

    if (!tcp)
        return NULL;
    tcp->stream = (struct weir_stream){ .ops = &tcp_ops, .sink = sink, .arg = arg, .loop = loop };
    tcp->sock.sink = &tcp_sock_sink;
    tcp->sock.fd = fd;
    tcp->magic = TCP_MAGIC;
    return tcp;
}

struct weir_stream *weir_tcp_adopt(struct weir_loop *loop, int fd,
                                   const struct weir_stream_sink *sink, void *arg)
{
    struct weir_tcp *tcp = tcp_new(loop, fd, sink, arg);

    if (tcp && weir_sock_add(loop, &tcp->sock)) {
        weir_slab_put(&loop->tcps, tcp);
        tcp = NULL;
    }
    if (!tcp) {
        close(fd);
        return NULL;
    }
    return &tcp->stream;
}

/* connect() says EADDRNOTAVAIL when all local ports are taken, and also when we have no address from
 * which the other can be reached (IPv6 is off). A datagram socket has ports of its own; nothing is
 * sent by its connect(). */
static bool tcp_has_address_for(const struct weir_addr *addr)
{
    int fd = socket(addr->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool has = fd < 0 || connect(fd, &addr->sa, addr->len) == 0 || errno != EADDRNOTAVAIL;

    if (fd >= 0)
        close(fd);
    return has;
}

/* A socket that is connecting, or -errno; EADDRNOTAVAIL: no local port is free; ENXIO, which is none
 * of those that the kernel says here: `source` is not an address of this host. */
static int tcp_dial(const struct weir_addr *addr, const struct weir_addr *source)
{
    int one = 1, tries = 0, sys;
    int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (addr->sa.sa_family != AF_UNIX) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
                   sizeof(one)); /* without it: slower, not wrong */
        if (source) {
            setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
            if (bind(fd, &source->sa, source->len)) {
                sys = errno == EADDRNOTAVAIL ? ENXIO : errno;
                goto fail;
            }
        }
    }
    while (connect(fd, &addr->sa, addr->len)) {
        if (errno == EINPROGRESS || errno == EALREADY || errno == EISCONN)
            break;
        if (errno != EINTR || ++tries == TRIES_MAX) {
            sys = errno;
            goto fail;
        }
    }
    return fd;
fail:
    close(fd);
    if (sys == EADDRNOTAVAIL && !tcp_has_address_for(addr))
        sys = ENETUNREACH;
    return -sys;
}

struct weir_stream *weir_tcp_connect(struct weir_loop *loop, const struct weir_addr *addr,
                                     const struct weir_tcp_opts *opts,
                                     const struct weir_stream_sink *sink, void *arg, int *sys)
{
    uint32_t timeout_ms =
        opts && opts->connect_timeout_ms ? opts->connect_timeout_ms : WEIR_CONNECT_TIMEOUT_MS;
    int fd = tcp_dial(addr, opts ? opts->source : NULL);
    struct weir_tcp *tcp;

    if (fd < 0) {
        *sys = -fd;
        return NULL;
    }
    *sys = ENOMEM;
    tcp = tcp_new(loop, fd, sink, arg);
    if (!tcp)
        goto close_fd;
    if (!tcp_need_extra(tcp))
        goto put;
    if (opts && opts->first.len &&
        weir_buf_append(&tcp->extra->out, opts->first.ptr, opts->first.len))
        goto drop_extra;
    tcp->sock.connecting = true;
    if (weir_sock_add(loop, &tcp->sock))
        goto drop_extra;
    weir_loop_timer(loop, &tcp->extra->deadline, timeout_ms, on_connect_deadline, tcp);
    *sys = 0;
    return &tcp->stream;
drop_extra:
    tcp_drop_extra(tcp);
put:
    weir_slab_put(&loop->tcps, tcp);
close_fd:
    close(fd);
    return NULL;
}
