/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

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
