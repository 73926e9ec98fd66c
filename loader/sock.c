/* SPDX-License-Identifier: Apache-2.0 */
/**
 * sock.c: what is asked of the sockets themselves: no BPF, no capability.
 *
 * The verdict runs when TCP says that data is ready, and TCP says so only when SO_RCVLOWAT bytes are there: a large one
 * holds it back (freeze), setting it to 1 runs it for what is queued (kick, thaw).
 */
#include "kern_priv.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

enum {
    FREEZE_BYTES = 1 << 20,
    LOOKS_MAX = 8,
    STATE_ESTABLISHED = 1, /* tcpi_state: the kernel's tcp_states.h, part of its ABI */
    STATE_TIME_WAIT = 6,
    STATE_CLOSE_WAIT = 8,
    STATE_LAST_ACK = 9,
    STATE_CLOSING = 11,
};

static int set_int(int fd, int name, int value)
{
    return setsockopt(fd, SOL_SOCKET, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

static int get_int(int fd, int name, int *value)
{
    socklen_t len = sizeof(*value);

    return getsockopt(fd, SOL_SOCKET, name, value, &len) == 0 ? 0 : -errno;
}

uint64_t kern_sock_cookie(int fd)
{
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);

    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

int kern_sock_kick(int fd)
{
    return set_int(fd, SO_RCVLOWAT, 1);
}

int kern_sock_freeze(int fd, struct weir_splice_frost *frost)
{
    int err = get_int(fd, SO_RCVBUF, &frost->rcvbuf);

    if (err)
        return err;
    if (get_int(fd, SO_BUF_LOCK, &frost->locks))
        frost->locks = -1; /* before 5.14 */
    return set_int(fd, SO_RCVLOWAT, FREEZE_BYTES);
}

/* SO_RCVLOWAT has let the buffer grow for what it might have to hold, up to 33 MB where pieces are small. Setting it fixes
 * the size, so that TCP would not tune it any more: that is undone as well. */
static void shrink(int fd, const struct weir_splice_frost *frost)
{
    int now;

    if (frost->locks < 0 || get_int(fd, SO_RCVBUF, &now) || now <= frost->rcvbuf)
        return;
    (void)set_int(fd, SO_RCVBUF, frost->rcvbuf / 2); /* the kernel doubles it */
    (void)set_int(fd, SO_BUF_LOCK, frost->locks);
}

int kern_sock_thaw(int fd, const struct weir_splice_frost *frost)
{
    shrink(fd, frost);
    return kern_sock_kick(fd);
}

int kern_sock_widen(int fd, int bytes)
{
    return setsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &bytes, sizeof(bytes)) == 0 ? 0 : -errno;
}

/* What was announced stays so: TCP takes no window back (RFC 9293 3.8.6). */
int kern_sock_narrow(int fd)
{
    int bytes = 0;
    socklen_t len = sizeof(bytes);
    int err;

    if (getsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &bytes, &len) != 0)
        return -errno;
    err = kern_sock_widen(fd, 1); /* the least that the kernel takes */
    return err ? err : bytes;
}

/* What is acknowledged, and what is queued: one after the other, so what is acknowledged in between is looked at again. Where
 * that never ends the sum is too small, never too large: it decides whether a FIN may go. */
static int asked(int fd, struct tcp_info *info, int *queued)
{
    struct tcp_info later = { 0 };
    socklen_t len = sizeof(*info);

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &later, &len) != 0)
        return -errno;
    for (int i = 0; i < LOOKS_MAX; i++) {
        *info = later;
        len = sizeof(later);
        if (ioctl(fd, SIOCOUTQ, queued) != 0 ||
            getsockopt(fd, IPPROTO_TCP, TCP_INFO, &later, &len) != 0)
            return -errno;
        if (later.tcpi_bytes_acked == info->tcpi_bytes_acked)
            break;
    }
    return 0;
}

int kern_sock_path(int fd, struct weir_splice_path *path)
{
    struct tcp_info info = { 0 };
    int queued = 0, err = asked(fd, &info, &queued);

    if (err)
        return err;
    path->established = info.tcpi_state == STATE_ESTABLISHED;
    path->fin_received = info.tcpi_state == STATE_CLOSE_WAIT || info.tcpi_state == STATE_LAST_ACK ||
                         info.tcpi_state == STATE_CLOSING || info.tcpi_state == STATE_TIME_WAIT;
    path->received =
        info.tcpi_bytes_received - (path->fin_received ? 1 : 0); /* it counts the FIN */
    path->written = info.tcpi_bytes_acked + (uint64_t)queued;
    return 0;
}
