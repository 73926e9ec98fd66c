/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/notify.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

bool weir_notify_fd(const char *state, int with)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    size_t len = path ? strlen(path) : 0;
    struct iovec iov = { (void *)(uintptr_t)state, strlen(state) };
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } rights = { { 0 } };
    struct msghdr msg = { .msg_name = &addr, .msg_iov = &iov, .msg_iovlen = 1 };
    struct timeval wait = { .tv_usec = 200 * 1000 }; /* its queue may be full for a moment */
    bool sent;
    int fd;

    if (len < 2 || len >= sizeof(addr.sun_path) || (path[0] != '/' && path[0] != '@'))
        return false;
    memcpy(addr.sun_path, path, len);
    if (path[0] == '@') /* an abstract name */
        addr.sun_path[0] = '\0';
    msg.msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (with >= 0) {
        msg.msg_control = &rights;
        msg.msg_controllen = sizeof(rights);
        rights.align.cmsg_level = SOL_SOCKET;
        rights.align.cmsg_type = SCM_RIGHTS;
        rights.align.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&rights.align), &with, sizeof(with));
    }
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    sent = sendmsg(fd, &msg, MSG_NOSIGNAL) >= 0;
    close(fd);
    return sent;
}

void weir_notify(const char *state)
{
    (void)weir_notify_fd(state, -1);
}
