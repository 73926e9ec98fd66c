/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/pipes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SIZE_LEAST =
        64 *
        1024, /* 16 slots. Above fs.pipe-user-pages-soft the kernel gives less: 8 KiB, which would cost more calls than
                               they save */
    AGAIN_MS = 1000, /* after the kernel has refused one */
};

static void close_one(struct weir_splicer *splicer, struct weir_pipe *pipe)
{
    close(pipe->in);
    close(pipe->out);
    free(pipe);
    splicer->pipes.open--;
    weir_splice_budget_put(splicer->budget, WEIR_PIPE_BYTES);
}

static struct weir_pipe *pipe_new(enum weir_splice_why *why)
{
    struct weir_pipe *pipe = malloc(sizeof(*pipe));
    int fds[2], size;

    *why = WEIR_WHY_pipes;
    if (!pipe)
        return NULL;
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK)) {
        free(pipe);
        return NULL;
    }
    size = fcntl(fds[0], F_GETPIPE_SZ);
    if (size < SIZE_LEAST)
        size = fcntl(fds[0], F_SETPIPE_SZ, SIZE_LEAST);
    if (size < SIZE_LEAST) {
        *why = WEIR_WHY_pipe_size;
        close(fds[0]);
        close(fds[1]);
        free(pipe);
        return NULL;
    }
    *pipe = (struct weir_pipe){ .in = fds[1], .out = fds[0] };
    return pipe;
}

enum weir_splice_why weir_pipe_could(const struct weir_splicer *splicer)
{
    const struct weir_splice_budget *budget = splicer->budget;

    if (splicer->pipes.free)
        return WEIR_WHY_none;
    if (splicer->loop->now_ms < splicer->pipes.again_ms)
        return splicer->pipes.why;
    return atomic_load_explicit(&budget->used, memory_order_relaxed) + WEIR_PIPE_BYTES >
                   atomic_load_explicit(&budget->max, memory_order_relaxed)
               ? WEIR_WHY_pipes
               : WEIR_WHY_none;
}

struct weir_pipe *weir_pipe_get(struct weir_splicer *splicer, enum weir_splice_why *why)
{
    struct weir_pipes *pipes = &splicer->pipes;
    struct weir_pipe *pipe = pipes->free;

    if (pipe) {
        pipes->free = pipe->next;
        if (--pipes->waiting < pipes->waiting_least)
            pipes->waiting_least = pipes->waiting;
        return pipe;
    }
    if (splicer->loop->now_ms < pipes->again_ms) {
        *why = pipes->why;
        return NULL;
    }
    *why = WEIR_WHY_pipes;
    if (!weir_splice_budget_take(splicer->budget, WEIR_PIPE_BYTES))
        return NULL;
    pipe = pipe_new(why);
    if (pipe) {
        pipes->open++;
        return pipe;
    }
    weir_splice_budget_put(splicer->budget, WEIR_PIPE_BYTES);
    pipes->why = *why;
    pipes->again_ms = splicer->loop->now_ms + AGAIN_MS;
    return NULL;
}

void weir_pipe_put(struct weir_splicer *splicer, struct weir_pipe *pipe)
{
    struct weir_pipes *pipes = &splicer->pipes;

    if (pipe->fill) {
        close_one(splicer, pipe);
        return;
    }
    pipe->next = pipes->free;
    pipes->free = pipe;
    pipes->waiting++;
}

static void close_waiting(struct weir_splicer *splicer, unsigned count)
{
    struct weir_pipes *pipes = &splicer->pipes;

    while (count-- > 0 && pipes->free) {
        struct weir_pipe *pipe = pipes->free;

        pipes->free = pipe->next;
        pipes->waiting--;
        close_one(splicer, pipe);
    }
}

/* Half of those that were never needed since the last time. */
void weir_splicer_trim(struct weir_splicer *splicer)
{
    close_waiting(splicer, (splicer->pipes.waiting_least + 1) / 2);
    splicer->pipes.waiting_least = splicer->pipes.waiting;
}

void weir_pipes_fini(struct weir_splicer *splicer)
{
    close_waiting(splicer, splicer->pipes.waiting);
}
