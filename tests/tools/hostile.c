/* SPDX-License-Identifier: Apache-2.0 */
/**
 * hostile.c: a proxy that an intruder has taken: it says that it serves, and then does its worst to the keeper. What else a
 * binary is asked to be, it leaves to $HOSTILE_WEIR; so it does with the proxy, once the file $HOSTILE is gone, which says
 * what to do:
 *   flood    says things without an end, and hears nothing
 *   ask      asks for upgrades without an end, and hears nothing
 *   linger   gives sockets away, each of which takes an hour to close
 *   deaf     hears nothing, and does not end
 *   closed   ends the listening of its sockets, and dies
 *   silent   closes its channel, and does not end
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHANNEL = 3, SAYS_READY = 3, SAYS_UPGRADE = 8, SAYS_WHAT = 99 };

struct head {
    uint32_t magic;
    uint16_t version, word, flags, zero;
    uint32_t entries, bytes;
};

static void say(uint16_t word, int fd)
{
    struct head head = { 0x52494557, 1, word, 1, 0, 0, 0 };
    struct iovec iov = { &head, sizeof(head) };
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } rights = { { 0 } };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (fd >= 0) {
        msg.msg_control = &rights;
        msg.msg_controllen = sizeof(rights);
        CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
        CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
        CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(fd));
    }
    if (sendmsg(CHANNEL, &msg, MSG_NOSIGNAL) < 0)
        usleep(1000);
}

/* A connection whose other end does not read, with bytes that wait, and an hour for them. */
static int lingering(void)
{
    struct linger hour = { 1, 3600 };
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(addr);
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
    static char bytes[65536];

    if (bind(listener, (struct sockaddr *)&addr, len) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&addr, &len) != 0 ||
        connect(fd, (struct sockaddr *)&addr, len) != 0)
        abort();
    (void)!accept(listener, NULL, NULL);
    while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
        ;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hour, sizeof(hour));
    close(listener);
    return fd;
}

static void act(const char *what)
{
    if (strcmp(what, "linger") == 0) {
        int fd = lingering();

        say(SAYS_WHAT, fd);
        fputs("given\n", stderr);
        close(fd); /* lasts as long when the keeper has closed it already */
    }
    for (int fd = CHANNEL + 1; fd < 256 && strcmp(what, "closed") == 0; fd++)
        shutdown(fd, SHUT_RDWR);
    if (strcmp(what, "closed") == 0)
        _exit(7);
    if (strcmp(what, "silent") == 0)
        close(CHANNEL);
    for (;;) {
        if (strcmp(what, "flood") == 0)
            say(SAYS_WHAT, -1);
        else if (strcmp(what, "ask") == 0)
            say(SAYS_UPGRADE, -1);
        else
            pause();
    }
}

int main(int argc, char **argv)
{
    const char *order = getenv("HOSTILE"), *weir = getenv("HOSTILE_WEIR");
    FILE *file =
        order && argc > 0 && strcmp(argv[0], "weir: proxy") == 0 ? fopen(order, "r") : NULL;
    static char bytes[65536], what[32];
    union {
        char room[CMSG_SPACE(253 * sizeof(int))];
        struct cmsghdr align;
    } rights;
    struct iovec iov = { bytes, sizeof(bytes) };
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof(rights)
    };

    if (!weir || argc < 1 || strcmp(argv[0], "weir: probe") == 0)
        return 1;
    if (!file || fscanf(file, "%31s", what) != 1) {
        execv(weir, argv);
        return 1;
    }
    fclose(file);
    signal(SIGPIPE, SIG_IGN);
    if (recvmsg(CHANNEL, &msg, 0) <= 0)
        return 1;
    say(SAYS_READY, -1);
    act(what);
}
