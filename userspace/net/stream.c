/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

size_t weir_stream_unacked(const struct weir_stream *stream)
{
    int queued = 0;

    if (ioctl(weir_stream_fd(stream), SIOCOUTQ, &queued) || queued < 0)
        queued = 0;
    return weir_stream_pending(stream) + (size_t)queued;
}

bool weir_stream_path_info(const struct weir_stream *stream, struct weir_path_info *info)
{
    struct tcp_info told;
    socklen_t len = sizeof(told);
    int fd = weir_stream_fd(stream);

    if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &told, &len))
        return false;
    *info = (struct weir_path_info){ told.tcpi_rtt, told.tcpi_total_retrans };
    return true;
}

/* tcpi_state: the kernel's tcp_states.h, part of its ABI. */
enum {
    STATE_FIN_WAIT1 = 4,
    STATE_FIN_WAIT2,
    STATE_TIME_WAIT,
    STATE_CLOSE,
    STATE_CLOSE_WAIT,
    STATE_LAST_ACK,
    STATE_CLOSING = 11,
};
enum { UNREAD_MAX = 1 << 30, ASKS_MAX = 16 };

static bool either(unsigned state, unsigned states)
{
    return 1u << state & states;
}

/* linux/tcp.h has more than netinet/tcp.h, and they exclude each other: these stand at the same place in all kernels. */
struct told {
    struct tcp_info info;
    uint64_t pacing[2], acked, received;
};
_Static_assert(sizeof(struct tcp_info) == 104, "the beginning of the kernel's struct tcp_info");

static bool ask(int fd, struct told *told)
{
    socklen_t len = sizeof(*told);

    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, told, &len) == 0 && len == sizeof(*told);
}

/* Closed without an error: both FINs have been, and what is unread still is. */
static bool failed(int fd)
{
    int sys = 0;
    socklen_t len = sizeof(sys);

    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &sys, &len) != 0 || sys;
}

/* What is acknowledged between the two questions would be counted by neither: then they are asked anew. Each counts a FIN as
 * a byte. */
bool weir_stream_reach(const struct weir_stream *stream, struct weir_stream_reach *reach)
{
    const unsigned both =
        1u << STATE_TIME_WAIT | 1u << STATE_LAST_ACK | 1u << STATE_CLOSING | 1u << STATE_CLOSE;
    int fd = weir_stream_fd(stream), queued = 0;
    struct told told = { 0 }, later = { 0 };
    unsigned state;

    if (fd < 0 || !ask(fd, &later))
        return false;
    for (int i = 0; i < ASKS_MAX && (i == 0 || told.acked != later.acked); i++) {
        told = later;
        if (ioctl(fd, SIOCOUTQ, &queued) || !ask(fd, &later))
            return false;
    }
    state = told.info.tcpi_state;
    *reach = (struct weir_stream_reach){
        .fin_received = either(state, both | 1u << STATE_CLOSE_WAIT),
        .fin_sent = either(state, both | 1u << STATE_FIN_WAIT1 | 1u << STATE_FIN_WAIT2),
        .failed = state == STATE_CLOSE && failed(fd),
    };
    reach->received = told.received - reach->fin_received;
    reach->written = told.acked + (uint64_t)queued - reach->fin_sent;
    return true;
}

uint64_t weir_stream_cookie(const struct weir_stream *stream)
{
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);

    return getsockopt(weir_stream_fd(stream), SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie
                                                                                         : 0;
}

/* TCP counts, and copies nothing. FIONREAD answers 0 on sockets in a sockmap on some kernels. By its number, since the thread
 * sanitizer's recv takes the bytes for written. */
ssize_t weir_stream_waiting(const struct weir_stream *stream)
{
    ssize_t n = syscall(SYS_recvfrom, weir_stream_fd(stream), NULL, UNREAD_MAX,
                        MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT, NULL, NULL);

    return n < 0 && errno == EAGAIN ? 0 : n;
}

void weir_stream_limit_unsent(struct weir_stream *stream, unsigned bytes)
{
    (void)setsockopt(weir_stream_fd(stream), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof(bytes));
}

static void set_option(int fd, int level, int name, unsigned value)
{
    (void)setsockopt(fd, level, name, &value, sizeof(value));
}

void weir_stream_watch(struct weir_stream *stream, unsigned quiet_s)
{
    int fd = weir_stream_fd(stream);

    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, quiet_s);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, quiet_s);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 2 * quiet_s * 1000);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}
