/* SPDX-License-Identifier: Apache-2.0 */
/** keeper_internal.h: what the files of the keeper share; for daemon/keeper*.c alone. */
#ifndef DAEMON_KEEPER_INTERNAL_H
#define DAEMON_KEEPER_INTERNAL_H

#include "daemon/estate.h"
#include "daemon/keeper.h"
#include "daemon/log_target.h"
#include "daemon/service.h"

#include <sys/types.h>

enum {
    KEEPER_CHILDREN_MAX = 64,          /* mostly those that end their last tunnels */
    KEEPER_SAID_BYTES_MAX = 12 * 1024, /* of what a reader has to say, for who asked */
    KEEPER_SEND_MS = 5 * 1000,         /* a child that takes nothing for so long is given up */
    KEEPER_HEAR_MAX = 64,              /* messages of one child in a turn: the others have theirs */
    KEEPER_LAST_MAX = 64,              /* of an ended one, so many turns at once */
    KEEPER_END_MS = 5 * 1000,          /* to end at once in; then it is ended */
    KEEPER_CLOSE_MS = 10,              /* for what a child has given away to be closed */
    KEEPER_STEADY_MS = 10 * 1000,      /* who has served for so long did not crash at the start */
    KEEPER_BACKOFF_MS = 100, /* after the second crash in a row; then twice as long each time */
    KEEPER_BACKOFF_MAX_MS = 10 * 1000,
    KEEPER_FD_MIN = 10, /* what a child moves about is below */
};
enum {
    KEEPER_HELD_MAX = 16 * 1000, /* tunnels; two descriptors and about 200 bytes each */
    KEEPER_HELD_ROWS = 4096,
    KEEPER_HELD_RESERVE = 1024, /* descriptors for all else */
    KEEPER_HELD_CRASHES = 3,    /* in a row: then tunnels may be why */
};
#define KEEPER_STATE_ENV "WEIR_KEEPER_STATE" /* the descriptor of what the last binary has left */

enum keeper_role { CHILD_NONE, CHILD_READER, CHILD_PROXY, CHILD_PROBE };
enum keeper_proxy_state { PROXY_STARTING, PROXY_SERVING, PROXY_RETIRED };

struct keeper_child {
    enum keeper_role role;
    enum keeper_proxy_state state; /* of a proxy */
    pid_t pid;
    int channel; /* -1: closed */
    int err;     /* what it says on standard error; -1: that is ours */
    struct weir_inbox inbox;
    uint64_t deadline_ms; /* to be ready, or to end; 0: none */
    uint64_t ready_ms;
    bool late;     /* it was ended for that */
    bool given_up; /* its end is no news */
};

/* A tunnel that outlives its proxy. What is in the record is for the next one. */
struct keeper_tunnel {
    struct keeper_tunnel *next;
    struct keeper_child *owner; /* NULL: it has crashed, and nobody else has come yet */
    uint64_t cookie;            /* of the client's socket: its name */
    int fd[2];
    uint32_t len;
    char record[];
};

/* One at a time. */
enum keeper_task { TASK_NONE, TASK_START, TASK_UPGRADE, TASK_RELOAD };

struct keeper {
    const struct weir_keeper_opts *opts;
    struct weir_log_target target;
    struct weir_log *log; /* NULL until an estate says where to */
    int signals;
    int exe; /* the binary that runs */
    char exe_path[4096];
    struct weir_manifest estate; /* in force */
    struct keeper_child children[KEEPER_CHILDREN_MAX];
    struct keeper_child *current; /* the proxy that serves, or that is to; NULL: it has died */
    int64_t starts;
    unsigned crashes;    /* in a row */
    uint64_t restart_ms; /* when to start a proxy; 0: not */
    unsigned stops;      /* signals to end */
    int status;
    bool over;

    enum keeper_task task;
    struct keeper_child *candidate; /* the reader, then the proxy, of the task */
    bool candidate_reads;
    struct keeper_child *asker; /* NULL: a signal */
    struct weir_manifest next;  /* what the reader gave */
    int next_exe;
    struct keeper_child *probe; /* of the binary that runs; NULL: none */
    bool probe_due;             /* it ended in the middle of a task: anew, after that */
    char said[KEEPER_SAID_BYTES_MAX];
    size_t said_len;

    struct keeper_tunnel *tunnels[KEEPER_HELD_ROWS]; /* by cookie */
    unsigned tunnel_count, tunnel_max;
    bool tunnels_full; /* that was said */
};

/* keeper.c */
uint64_t keeper_now_ms(void);
/* The log becomes that of the estate. */
void keeper_log_adopt(struct keeper *keeper);
/* The proxy in force, or the first, cannot be had: the end, with this status. */
void keeper_end(struct keeper *keeper, int status);

/* As told by a signal. */
void keeper_stop(struct keeper *keeper, int number);

/* keeper_child.c */
/* Starts one; NULL: why was said, and is in errno. `estate` is sent to it (NULL: nothing). */
struct keeper_child *keeper_spawn(struct keeper *keeper, enum keeper_role role, int exe,
                                  const struct weir_manifest *estate);
/* That errno in words. */
const char *keeper_spawn_fault(int err);
struct keeper_child *keeper_spawn_proxy(struct keeper *keeper, int exe,
                                        struct weir_manifest *estate);
void keeper_child_kill(struct keeper_child *child);
/* Closing what a child has given may take as long as it likes (SO_LINGER): not for us. Once, at the start. */
int keeper_closes_soon(void);
void keeper_child_fini(struct keeper_child *child);
/* A word with one setting (NULL: none). */
void keeper_tell(struct keeper *keeper, struct keeper_child *child, enum weir_word word,
                 const char *name, int64_t value);
/* With all of a manifest; `err`: that could not be made. */
void keeper_say(struct keeper *keeper, struct keeper_child *child, enum weir_word word,
                const struct weir_manifest *body, int err);
void keeper_hear(struct keeper *keeper, struct keeper_child *child);
void keeper_overhear(struct keeper *keeper, struct keeper_child *child);
/* "was killed by signal 9 (Killed)". Static. */
const char *keeper_how(int status);

/* keeper_task.c: the first start, and upgrades */
void keeper_task_begin(struct keeper *keeper, enum keeper_task task, struct keeper_child *asker);
void keeper_task_estate(struct keeper *keeper, struct weir_manifest *estate);
void keeper_task_ready(struct keeper *keeper);
/* Of a reload: the proxy that has asked can take what was read, or not; or it has ended. */
void keeper_task_taken(struct keeper *keeper, bool ok);
void keeper_task_deserted(struct keeper *keeper, const struct keeper_child *child);
/* Its child has ended. */
void keeper_task_ended(struct keeper *keeper, int status, bool late);
void keeper_task_fail(struct keeper *keeper, int status, const char *format, ...) WEIR_PRINTF(3, 4);
/* Removes the files that `gone` has made and `stays` has not. */
void keeper_forget(const struct weir_manifest *gone, const struct weir_manifest *stays);

/* keeper_held.c */
/* Room for descriptors: once, at the start. */
void keeper_held_open(struct keeper *keeper);
void keeper_held_take(struct keeper *keeper, struct keeper_child *child,
                      struct weir_manifest *body);
/* What a proxy that has retired hands over: it waits for who serves now. */
void keeper_held_hand(struct keeper *keeper, const struct keeper_child *child,
                      struct weir_manifest *body);
void keeper_held_let_go(struct keeper *keeper, const struct keeper_child *child,
                        const struct weir_manifest *body);
/* Its proxy has ended: they wait for the next one; or they end, by RST. NULL: those that wait. */
void keeper_held_orphan(struct keeper *keeper, const struct keeper_child *child);
void keeper_held_drop(struct keeper *keeper, const struct keeper_child *child);
/* Those that wait become this one's. */
void keeper_held_give(struct keeper *keeper, struct keeper_child *child);
/* Across an exec: copies into a manifest; and out of it, those of `child`, named by its pid there. 0 or -errno. */
int keeper_held_leave(const struct keeper *keeper, struct weir_manifest *all);
void keeper_held_resume(struct keeper *keeper, struct keeper_child *child, const char *pid,
                        struct weir_manifest *all);
/* While it is on, what waits in the kernel is interrupted: around what is closed for a child. */
void keeper_tick(bool on);

/* keeper_exec.c */
void keeper_probe_begin(struct keeper *keeper);
void keeper_probe_ended(struct keeper *keeper, const struct keeper_child *child, int status,
                        bool late);
/* All of it into `left`, descriptors open across an exec, and the environment says where. 0 or -errno. */
int keeper_leave(struct keeper *keeper, struct weir_manifest *left);
/* What the last binary has left; 0: nothing, 1: taken, or -errno. */
int keeper_resume(struct keeper *keeper);

#endif
