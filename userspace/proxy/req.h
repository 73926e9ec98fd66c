/* SPDX-License-Identifier: Apache-2.0 */
/**
 * req.h: one request as the machine sees it (read req.c first: it begins with the table of steps
 * and the state graph).
 */
#ifndef PROXY_REQ_H
#define PROXY_REQ_H

#include "proxy/filters.h"
#include "proxy/retry.h"
#include "proxy/session.h"
#include "upstream/pool.h"
#include "weir/filter.h"

enum weir_step {
    WEIR_STEP_EARLY,
    WEIR_STEP_REQUEST,
    WEIR_STEP_PEER,
    WEIR_STEP_CONNECT,
    WEIR_STEP_EXCHANGE,
    WEIR_STEP_FAIL,
    WEIR_STEP_FINISH,
    WEIR_STEPS,
};

enum weir_flow { WEIR_FLOW_MORE, WEIR_FLOW_WAIT, WEIR_FLOW_GONE };

enum { WEIR_PIECES_MAX = 8, WEIR_TRIED_MAX = 8 };

/** What waits before a body filter (body.c). */
struct weir_stage {
    struct weir_buf bytes;
    bool last; /* the end of the body comes after them */
};

/**
 * One direction of an exchange: what came from one side and goes to the other. Pieces are borrowed
 * until the feed ends; what could not leave by then is copied to `held`. `owed`: bytes whose credit
 * the sender gets back when the other side has drained.
 */
struct weir_flow_dir {
    struct iovec pieces[WEIR_PIECES_MAX];
    int piece_count;
    struct weir_buf held;
    struct weir_stage *stages; /* of its body filters, and one behind them; NULL: no filters */
    struct weir_message *trailer;
    uint64_t bytes; /* of the body, as received */
    uint64_t sent;  /* as sent on */
    size_t owed;
    bool head_due;     /* a head is ready and not sent yet */
    bool ended;        /* the sender's message is whole */
    bool filtered_end; /* and the filters have seen it */
    bool end_sent;
    bool begun;        /* filters see what comes (body.c) */
    bool waiting;      /* a body filter waits */
    bool blocked;      /* the other side has too much unsent */
    bool trailer_seen; /* by the filters */
    uint8_t stage_count;
};

struct weir_pass;

struct weir_req {
    uint32_t magic;
    uint8_t step;
    uint16_t pins; /* who still uses the arena: offloaded work, a caller that looks again */
    bool started;  /* the machine has seen it */
    bool running;  /* inside weir_req_run */
    bool moved;    /* a step was set from inside an event: it is to be run, also the same one */
    bool over;     /* finished; freed when the pins are gone */
    bool client_gone;
    bool head_sent;        /* the client has got (some of) a final head */
    bool own_answer;       /* `out` is weir's own */
    bool answering;        /* it is being sent, and the upstream was let go */
    bool response_ready;   /* response filters have run */
    bool response_started; /* a final head has come from the upstream */
    bool tunnel_due;
    bool fresh; /* a stale pooled connection was met: the next one is new */
    bool http1; /* HTTP/2 was refused for it: the next one is not */
    bool stale_retried;
    bool up_open;                 /* the exchange with the upstream is open */
    bool up_sent;                 /* bytes of this attempt were handed to the connection */
    bool replayable;              /* `replay` holds all of the body that was taken so far */
    bool close_after;             /* the client's connection ends with this answer */
    bool broken;                  /* the answer cannot be finished */
    bool policy_again;            /* step fail: the retry policy's word */
    bool again;                   /* and that of the filters */
    bool was_reused;              /* the connection of the last attempt */
    bool blocked_ever;            /* the client once was not to send more: its rate says nothing */
    struct weir_session *session; /* NULL: the client is gone */
    struct weir_req *session_next, *session_prev; /* its other requests */
    struct weir_worker *worker;
    const struct weir_listener *listener; /* of the snapshot that it began with, which it holds */
    struct weir_hstream *down;            /* NULL: bytes alone, a tunnel from its beginning */
    struct weir_arena arena;
    struct weir_message in;      /* the client's request */
    struct weir_message up_head; /* as it goes to the upstream */
    struct weir_message out;     /* the answer to the client */
    struct weir_str own_body;
    const struct weir_route *route;
    const struct weir_target *target; /* NULL: none */
    struct weir_server *server_chosen;
    struct weir_peer_choice choice;
    const struct weir_server *tried[WEIR_TRIED_MAX];
    struct weir_acquire acquire;
    struct weir_upconn *conn;
    struct weir_flow_dir to_up, to_down;
    struct weir_buf replay;
    struct weir_error error; /* the first one */
    struct weir_error attempt_error;
    unsigned attempts;
    /* filters */
    void *filter_state;
    uint8_t cursor_phase, cursor_next;
    uint8_t use_now; /* index of the filter that was called last */
    enum weir_verdict wake_verdict;
    uint64_t parked; /* generation of the token, 0: not parked */
    struct weir_list parked_link;
    weir_cancel_fn on_cancel;
    void *cancel_arg;
    struct weir_timer sleep;
    /* time, µs and ms of the loop */
    struct weir_timer timer;
    uint64_t timer_ms; /* when it fires */
    uint64_t began_us, wall_us, first_byte_us, sent_us, connect_us;
    uint64_t rate_ms; /* body_rate_min counts from here; 0: not yet */
    uint64_t left;    /* of the answer, when the client's reading began to be timed: what is gone */
    int64_t acked;    /* and of the connection what the client has */
    uint64_t recv_ms, send_ms, up_ms, request_end_ms; /* last progress */
    struct weir_str id, client;
    struct weir_str sni; /* of a ClientHello that is passed on; absent: none */
    char client_text[48];
    struct weir_addr client_addr;
    uint64_t grpc_until_us; /* what its grpc-timeout allows; 0: none */
    uint16_t grpc_said;     /* grpc-status of the trailer, and 1; 0: none */
    struct weir_tunnel *tunnel;
    struct weir_pass *passes; /* two, by direction; NULL: no body has passed by */
};
#define WEIR_REQ_MAGIC 0x77726571u

/** Begins a request on a session; `hs` NULL: of a raw one. NULL without memory. */
struct weir_req *weir_req_new(struct weir_session *session, struct weir_hstream *hs);
/** Runs steps until one waits. The request may be gone afterwards. */
void weir_req_run(struct weir_req *req);
/** Goes to `step` and runs: for events (a connection came, an exchange ended). */
void weir_req_goto(struct weir_req *req, enum weir_step step);
/** The attempt failed: the machine decides what next. First error wins for the log. */
void weir_req_fault(struct weir_req *req, const struct weir_error *error);
/** Keeps the request's memory, for one who has to look at it after something that may end it. */
static inline void weir_req_pin(struct weir_req *req)
{
    req->pins++;
}
/** Undoes a pin; the memory may go. Is the request still in progress? */
bool weir_req_unpin(struct weir_req *req);
/** What it was for goes on without it: only its memory goes, nothing is counted or logged. It is parted from its session, and
 * has no connection. */
void weir_req_drop(struct weir_req *req);
/** Has it done nothing but to find out which other listener the connection is for? Then that one logs it. */
bool weir_req_handed_over(const struct weir_req *req);
/** The client has gone: everything is let go. */
void weir_req_client_gone(struct weir_req *req, enum weir_err why);
/** Remembers the first error. */
void weir_req_note_error(struct weir_req *req, enum weir_err code, enum weir_by by,
                         enum weir_retry retry, int sys, const char *where);
/** weir_bytes_total{side="up"}: of a body, `len` bytes more. */
static inline void weir_count_up(struct weir_req *req, int direction, uint64_t len)
{
    if (len)
        weir_count(&req->worker->stats.bytes[WEIR_SIDE_UP][direction], len);
}

/** What retries towards its upstream may spend. */
static inline struct weir_budget *weir_req_budget(const struct weir_req *req)
{
    return &req->target->tally->at[req->worker->id].budget;
}
static inline void weir_req_retried(const struct weir_req *req, enum weir_retried why)
{
    weir_count(&req->target->tally->at[req->worker->id].retries[why], 1);
}

/** Timers: looks which deadline is next. */
void weir_req_watch(struct weir_req *req);
/** The client does not take all: timeouts.send counts from here, unless it does so already and nothing has left since. */
void weir_req_await_client(struct weir_req *req);
const struct weir_timeouts *weir_req_timeouts(const struct weir_req *req);
const struct weir_limit_conf *weir_req_limits(const struct weir_req *req);
/** Who may move its bytes: its route, its listener, the top. Off at the top is off everywhere. */
enum weir_splice_policy weir_req_splice(const struct weir_req *req);

/**
 * Runs a phase that is not a body phase, from the filter at which it waited last, or from the
 * first. `arg` is the phase's own argument (message, choice, error). NEXT when all have said so;
 * WAIT: call again, in the same phase, after the wake. Inline: most phases of most routes are empty.
 */
static inline enum weir_verdict weir_filters_run(struct weir_req *req, enum weir_phase phase,
                                                 void *arg, bool *again)
{
    if (!req->route || !req->route->chains.phase[phase].count)
        return WEIR_NEXT;
    return weir_chain_run(req, phase, arg, again);
}

/* trace.c */
typedef enum weir_flow (*weir_step_fn)(struct weir_req *req);
/** Runs the step at which the request is, and logs a line about it. */
enum weir_flow weir_req_traced(struct weir_req *req, weir_step_fn run);

/* exchange.c: heads and bodies both ways. */
extern const struct weir_hstream_sink weir_req_down_sink;
/** `req->conn` is there: sends the request. */
enum weir_flow weir_exchange_start(struct weir_req *req);
/** After a wake in one of the exchange's phases. */
enum weir_flow weir_exchange_resume(struct weir_req *req);
/** Lets go of the upstream: its connection is pooled when it can be. */
void weir_exchange_release(struct weir_req *req);
/** A new attempt begins: what was taken of the body comes from the replay buffer. */
void weir_exchange_rewind(struct weir_req *req);
/** Sends `req->out` (own answer) with req->own_body. */
enum weir_flow weir_exchange_answer(struct weir_req *req);
void weir_dir_fini(struct weir_flow_dir *dir);
/** As it was before anything came. */
void weir_dir_reset(struct weir_flow_dir *dir);
/** Moves what can be moved. */
void weir_exchange_pump(struct weir_req *req);
/** Memory is short, or not any more (worker->tight; memory.c): who has no credit yet brings no more, or does again. Outside
 * of a feed, or in its on_flush: what has no credit then waits for the other side. */
void weir_exchange_press(struct weir_req *req);

/* forward.c: what is added to and taken from requests and answers. */
/** Who asks, and the request's id; also of one whose head was refused. */
void weir_forward_name(struct weir_req *req);
int weir_forward_begin(struct weir_req *req) __attribute__((warn_unused_result));
int weir_forward_request(struct weir_req *req, struct weir_message *up)
    __attribute__((warn_unused_result));
int weir_forward_answer(struct weir_req *req, struct weir_message *answer)
    __attribute__((warn_unused_result));
/** Gives an answer that has none a Date (RFC 9110 6.6.1: an origin and whoever forwards has to). */
int weir_forward_date(struct weir_req *req, struct weir_message *answer)
    __attribute__((warn_unused_result));

/* record.c */
/** One that is over is counted: by status, duration, error. */
void weir_req_stats(const struct weir_listener *listener, struct weir_worker *worker,
                    const struct weir_route *route, int status, uint64_t took_us,
                    const struct weir_error *error);
/** It is over: counters, and its line in the access log. `took_us`: since its head came. */
void weir_req_record(struct weir_req *req, int status, uint64_t took_us);

/* told.c */
/** The PROXY header for a connection to the chosen upstream, in the request's arena; absent: none is wanted. 0 or
 * WEIR_ENOMEM. */
int weir_req_proxy_header(struct weir_req *req, struct weir_str *header)
    __attribute__((warn_unused_result));

/* reply.c: weir's own answers. */
int weir_reply_make(struct weir_req *req, int status, struct weir_str body)
    __attribute__((warn_unused_result));
/** From the first error: status, Retry-After, a short text. */
int weir_reply_error(struct weir_req *req) __attribute__((warn_unused_result));

/* park.c: waits and wakes. A request that waits for a filter is parked, always. */
/** What a phase said, checked: a filter that says WAIT has parked; one that does not has not. */
enum weir_verdict weir_park_checked(struct weir_req *req, enum weir_verdict verdict);
/** Nobody waits any more; the one that did is told. */
void weir_park_cancel(struct weir_req *req);

/* tunnel.c */
void weir_tunnel_start(struct weir_req *req);
void weir_tunnel_stop(struct weir_tunnel *tunnel);
/** Who may move its bytes has been changed. */
void weir_tunnel_splice(struct weir_tunnel *tunnel);
/** As weir_exchange_press. */
void weir_tunnel_press(struct weir_tunnel *tunnel);

#endif
