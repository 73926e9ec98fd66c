/* SPDX-License-Identifier: Apache-2.0 */
/**
 * splicer.h: what the splices of one worker share: which movers this host has, pipes, counters, the clock that looks at them.
 * All splices of a process share one budget of memory that is not seen in the process.
 */
#ifndef ACCEL_SPLICER_H
#define ACCEL_SPLICER_H

#include "base/metric.h"
#include "net/loop.h"

struct weir_splice;
struct weir_mover_ops;
struct weir_pipe;

enum weir_mover { WEIR_MOVER_COPY, WEIR_MOVER_PIPE, WEIR_MOVER_SOCKMAP, WEIR_MOVERS };

/* Why a direction is not moved by somebody better: the label `reason`, and what is told people. */
/* clang-format off */
#define WEIR_SPLICE_WHYS(X) \
    X(none,        "") \
    X(off,         "kernel.splice is off, or copy") \
    X(few,         "too few large pieces have gone this way") \
    X(small,       "it goes in small pieces, for which copying is cheaper") \
    X(waits,       "bytes still wait for the other side") \
    X(filter,      "a filter reads the body") \
    X(tls,         "TLS: the bytes are not those of the socket") \
    X(shared,      "an exchange of HTTP/2: its connection serves others") \
    X(ended,       "this side has sent its end") \
    X(memory,      "memory is short (limits.memory)") \
    X(pipes,       "kernel.splice_memory is used up, or no file descriptor is free") \
    X(pipe_size,   "the kernel gives no pipe of 64 KiB (fs.pipe-user-pages-soft)") \
    X(refused,     "the kernel has refused to splice these sockets") \
    X(no_kernel,   "this host cannot, or may not, load the program (weir doctor)") \
    X(not_tcp,     "not a TCP connection") \
    X(not_open,    "the connection is not established any more, or not yet") \
    X(ceiling,     "kernel.splice_memory is used up") \
    X(backlog,     "the other side reads too slowly for the kernel's bound") \
    X(quiet,       "no quiet point has come yet")
/* clang-format on */
#define WEIR_SPLICE_WHY_ENUM(name, text) WEIR_WHY_##name,
enum weir_splice_why { WEIR_SPLICE_WHYS(WEIR_SPLICE_WHY_ENUM) WEIR_WHYS_COUNT };
#undef WEIR_SPLICE_WHY_ENUM

/** "copy", "pipe", "sockmap". */
const char *weir_mover_name(enum weir_mover mover);
/** "few", and the sentence. */
const char *weir_splice_why_name(enum weir_splice_why why);
const char *weir_splice_why_text(enum weir_splice_why why);

/** Of a process: bytes that pipes and sockets of splices may hold in the kernel. Any thread. */
struct weir_splice_budget {
    _Atomic uint64_t used, max;
};
/** False when they would not fit. */
bool weir_splice_budget_take(struct weir_splice_budget *budget, uint64_t bytes);
void weir_splice_budget_put(struct weir_splice_budget *budget, uint64_t bytes);

enum {
    WEIR_SPLICE_LOOKS = 256,   /* buckets */
    WEIR_SPLICE_LOOK_MS = 250, /* each */
    WEIR_SPLICE_LOOK_MAX_MS = (WEIR_SPLICE_LOOKS - 2) * WEIR_SPLICE_LOOK_MS,
};

/** One writer, the worker. */
struct weir_splice_stats {
    weir_counter moved[WEIR_MOVERS]
                      [2]; /* bytes, by direction: of tunnels, and of bodies but by copy */
    weir_counter active[WEIR_MOVERS]; /* directions */
    weir_counter fallback
        [WEIR_WHYS_COUNT]; /* each time that a direction did not get somebody better, or lost him */
    weir_counter kept, unkept; /* tunnels that outlive this process; and that could not be kept */
};

/** Of a worker (pipes.c). */
struct weir_pipes {
    struct weir_pipe *free;
    unsigned waiting, waiting_least; /* on `free`; since the last trim */
    unsigned open;
    enum weir_splice_why why; /* the kernel has refused one; it is not asked before */
    uint64_t again_ms;
};

struct weir_splicer {
    struct weir_loop *loop;
    struct weir_splice_budget *budget;
    /** By enum weir_mover; NULL: this host has it not, for the reason beside it. Copy is always there. */
    const struct weir_mover_ops *movers[WEIR_MOVERS];
    enum weir_splice_why lacks[WEIR_MOVERS];
    bool tight; /* memory is short: who changes it presses every splice */
    struct weir_timer timer;
    uint64_t tick, count; /* splices in `looks` */
    struct weir_list looks[WEIR_SPLICE_LOOKS];
    struct weir_splice_stats *stats;
    struct weir_pipes pipes;
    uint64_t
        sockmap_after_ms; /* a tunnel that has chosen it goes there when it is so old; 0: at once */
    void *kern;           /* of mover_sockmap */
    uint32_t kern_id;     /* which maps it uses; 0: none, or not known */
};

/** `budget` and `stats` outlive it. It is the loop's from then on (loop->splicer). */
void weir_splicer_init(struct weir_splicer *splicer, struct weir_loop *loop,
                       struct weir_splice_budget *budget, struct weir_splice_stats *stats);
/** Every splice is gone. */
void weir_splicer_fini(struct weir_splicer *splicer);
/** Pipes that nobody needs go: call it a few times a second. */
void weir_splicer_trim(struct weir_splicer *splicer);

/* Between splicer.c and splice.c. */
/** Its time has come: it is in no bucket. */
void weir_splice_look(struct weir_splice *splice);
void weir_splicer_look(struct weir_splicer *splicer, struct weir_splice *splice, uint64_t after_ms);
void weir_splicer_unlook(struct weir_splicer *splicer, struct weir_splice *splice);

#endif
