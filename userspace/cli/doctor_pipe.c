/* SPDX-License-Identifier: Apache-2.0 */
/** doctor_pipe.c: splice(2) through a pipe, tried between two connections over loopback; and how many pipes a user may have. */
#include "cli/doctor.h"

#include "accel/pipes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TRIED_BYTES = 48 * 1024, PATTERN = 251, SECONDS = 2 };

static void connected(int fds[2])
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct timeval most = { .tv_sec = SECONDS };
    socklen_t len = sizeof(addr);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[1] = -1;
    if (bind(listener, (struct sockaddr *)&addr, len) == 0 && listen(listener, 1) == 0 &&
        getsockname(listener, (struct sockaddr *)&addr, &len) == 0 &&
        connect(fds[0], (struct sockaddr *)&addr, len) == 0)
        fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    for (int i = 0; i < 2; i++)
        (void)setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &most, sizeof(most));
    close(listener);
}

static ssize_t splice_all(int from, int to, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = splice(from, NULL, to, NULL, len - done, SPLICE_F_MOVE);

        if (n <= 0)
            return n;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* NULL: all of it has come as it was. */
static const char *refuted(const int client[2], const int server[2], const int pipe[2])
{
    uint8_t sent[TRIED_BYTES], came[TRIED_BYTES] = { 0 };

    for (size_t i = 0; i < sizeof(sent); i++)
        sent[i] = (uint8_t)(i % PATTERN);
    if (send(client[0], sent, sizeof(sent), MSG_NOSIGNAL) != sizeof(sent))
        return strerror(errno);
    for (size_t done = 0;
         done < sizeof(sent);) { /* what is in the pipe has left before more comes */
        ssize_t n = splice(client[1], NULL, pipe[1], NULL, sizeof(sent) - done, SPLICE_F_MOVE);

        if (n <= 0 || splice_all(pipe[0], server[0], (size_t)n) != n)
            return strerror(errno);
        done += (size_t)n;
    }
    if (recv(server[1], came, sizeof(came), MSG_WAITALL) != sizeof(came))
        return strerror(errno);
    return memcmp(sent, came, sizeof(sent)) == 0 ? NULL : "other bytes came out than went in";
}

static long pages_soft(void)
{
    FILE *file = fopen("/proc/sys/fs/pipe-user-pages-soft", "re");
    long pages = 0;

    if (file && fscanf(file, "%ld", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return pages; /* 0: no limit, or not known */
}

/* A user without CAP_SYS_RESOURCE gets small pipes beyond so many pages (rule 18). */
static void tell(const struct doctor *doctor, struct finding *f, int size)
{
    int64_t memory = doctor->conf ? doctor->conf->proxy.kernel.splice_memory : (int64_t)256 << 20;
    long pages = pages_soft(), asked = (long)(memory / 2 / WEIR_PIPE_BYTES),
         allowed = pages / (size / sysconf(_SC_PAGESIZE));

    if (!pages || allowed >= asked) {
        doctor_say(f, FINDING_OK, "good here, by pipes of %d KiB; kernel.splice_memory allows %ld",
                   size >> 10, asked);
        return;
    }
    doctor_say(f, FINDING_WARN,
               "good here, by pipes of %d KiB; fs.pipe-user-pages-soft allows %ld of them, "
               "kernel.splice_memory %ld: beyond that it is copied",
               size >> 10, allowed, asked);
    doctor_todo(f,
                "a larger fs.pipe-user-pages-soft (in pages), or a smaller kernel.splice_memory");
}

void weir_doctor_pipe(const struct doctor *doctor, struct finding *f)
{
    int client[2], server[2], pipe[2] = { -1, -1 }, size;
    const char *why = "a pipe or connections over loopback cannot be had";

    connected(client);
    connected(server);
    if (client[1] >= 0 && server[1] >= 0 && pipe2(pipe, O_CLOEXEC) == 0)
        why = refuted(client, server, pipe);
    size = fcntl(pipe[0], F_GETPIPE_SZ);
    if (why)
        doctor_say(f, FINDING_OFF, "%s; tunnels and bodies are copied", why);
    else
        tell(doctor, f, size);
    for (int i = 0; i < 2; i++) {
        close(client[i]);
        close(server[i]);
        close(pipe[i]);
    }
}
