/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

size_t weir_stream_unacked(const struct weir_stream *stream)
{
    int queued = 0;

    if (ioctl(weir_stream_fd(stream), SIOCOUTQ, &queued) || queued < 0)
        queued = 0;
    return weir_stream_pending(stream) + (size_t)queued;
}
