/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/**
 * sockmap.bpf.c: moves the bytes of a tunnel from one TCP socket to the other, inside the kernel.
 *
 * The verdict runs for every piece that a source receives, in order, one at a time for each source. It redirects a piece to
 * the egress of the target, or passes it to user space; what was passed once is latched: all that follows is passed too, so
 * that the order holds, until user space has sent on what it was passed and says so by another epoch. A piece goes whole or
 * not at all.
 *
 * The kernel gives a piece as it came, also where its beginning was received before (a segment sent again together with what
 * follows it): recv(2) skips that by sequence numbers, a verdict does not. So the program follows them: they are what TCP
 * keeps in skb->cb. Such a piece is passed, and its owner ends the tunnel: the kernel counts those bytes as read twice, too.
 *
 * Always holds, for each direction: held_bytes >= what was redirected and is not in the target's own queue (where tcp_mem
 * counts it), held_bytes <= the bound, and the sum of all <= the ceiling. Without CAP_PERFMON the kernel lets no program
 * read write_seq: then what user space has seen taken counts (credit), and the rest is the same.
 */
#include "kernel.h"
#include "weir/abi.h"

#define SOCKETS_MAX (2 * WEIR_SP_PAIRS_MAX)

/* A setting, before the load. */
const volatile __u64 weir_bound = WEIR_SP_BOUND_BYTES;

struct {
    __uint(type, BPF_MAP_TYPE_SOCKHASH);
    __uint(max_entries, SOCKETS_MAX);
    __type(key, struct weir_sp_key);
    __type(value, __u64);
} weir_sp_src SEC(".maps");

/* Has no program: who is only redirected to must not be judged. */
struct {
    __uint(type, BPF_MAP_TYPE_SOCKHASH);
    __uint(max_entries, SOCKETS_MAX);
    __type(key, struct weir_sp_key);
    __type(value, __u64);
} weir_sp_dst SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, SOCKETS_MAX);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct weir_sp_key);
    __type(value, struct weir_sp_pair);
} weir_sp_pair SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, SOCKETS_MAX);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct weir_sp_key);
    __type(value, struct weir_sp_flow);
} weir_sp_flow SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __uint(map_flags, BPF_F_MMAPABLE);
    __type(key, __u32);
    __type(value, struct weir_sp_held);
} weir_sp_held SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, WEIR_SP_WHYS_COUNT);
    __type(key, __u32);
    __type(value, struct weir_sp_count);
} weir_sp_count SEC(".maps");

/* A ring for each worker of user space. */
struct weir_ring {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, WEIR_SP_RINGS_MAX);
    __type(key, __u32);
    __array(values, struct weir_ring);
} weir_sp_ring SEC(".maps");

static __always_inline void count(enum weir_sp_why why, __u32 len)
{
    __u32 key = why;
    struct weir_sp_count *what = bpf_map_lookup_elem(&weir_sp_count, &key);

    if (!what)
        return;
    what->skbs++;
    what->bytes += len;
    what->why = why;
}

/* How far the target has come, and how much more it takes at once. False: it is not there. */
static __always_inline bool target_at(__u64 peer, __u32 *seq, __u64 *room)
{
    struct weir_sp_key key = { peer };
    struct tcp_sock *tcp;
    struct bpf_sock *sk;
    bool there = false;

    sk = bpf_map_lookup_elem(&weir_sp_dst, &key);
    if (!sk)
        return false;
    tcp = bpf_skc_to_tcp_sock(sk);
    if (tcp) {
        int queued = tcp->inet_conn.icsk_inet.sk.sk_wmem_queued;
        int most = tcp->inet_conn.icsk_inet.sk.sk_sndbuf;

        *seq = tcp->write_seq;
        *room = most > queued ? most - queued : 0;
        there = true;
    }
    bpf_sk_release(sk);
    return there;
}

/* So much less is held: of this direction, and of all. */
static __always_inline void give_back(struct weir_sp_flow *flow, struct weir_sp_held *all,
                                      __u64 bytes)
{
    if (bytes > flow->held_bytes)
        bytes = flow->held_bytes;
    flow->held_bytes -= bytes;
    __sync_fetch_and_sub(&all->held_bytes, bytes);
}

/* Where the first piece is to begin: behind what was read. Without looking, where it does begin. */
static __always_inline void first_seq(struct __sk_buff *skb, struct weir_sp_flow *flow, bool looks)
{
    struct bpf_sock *sk = skb->sk;
    struct tcp_sock *tcp;

    flow->next = skb->cb[0];
    flow->known = 1;
    if (!looks || !sk)
        return;
    tcp = bpf_skc_to_tcp_sock(sk);
    if (tcp)
        flow->next = tcp->copied_seq;
}

/* Does it begin where the one before has ended? */
static __always_inline bool follows(struct __sk_buff *skb, struct weir_sp_flow *flow, bool looks)
{
    __u32 seq = skb->cb[0];

    if (!flow->known)
        first_seq(skb, flow, looks);
    if (seq != flow->next)
        flow->broken = 1;
    flow->next = seq + skb->len;
    return !flow->broken;
}

/* User space has sent on all that it was passed, and the target has taken all: nothing is held. */
static __always_inline void begin_anew(struct weir_sp_flow *flow, const struct weir_sp_pair *pair,
                                       struct weir_sp_held *all, bool looks)
{
    __u64 room;

    give_back(flow, all, flow->held_bytes);
    flow->epoch = pair->epoch;
    flow->latched = 0;
    flow->told = 0;
    if (looks && !target_at(pair->peer, &flow->seq, &room))
        flow->latched = WEIR_SP_GONE;
}

/* What the target has taken since the last look is held no more. */
static __always_inline bool look(struct weir_sp_flow *flow, const struct weir_sp_pair *pair,
                                 struct weir_sp_held *all, __u64 *room, bool looks)
{
    __u32 seq;

    *room = weir_bound;
    if (looks) {
        if (!target_at(pair->peer, &seq, room))
            return false;
        give_back(flow, all, (__u32)(seq - flow->seq));
        flow->seq = seq;
    } else if (flow->moved_bytes - pair->taken_bytes < flow->held_bytes) {
        give_back(flow, all, flow->held_bytes - (flow->moved_bytes - pair->taken_bytes));
    }
    return true;
}

static __always_inline enum weir_sp_why judge(struct weir_sp_flow *flow,
                                              const struct weir_sp_pair *pair,
                                              struct weir_sp_held *all, __u32 len, bool looks)
{
    __u64 room;

    if (flow->latched)
        return WEIR_SP_LATCHED;
    if (pair->state != WEIR_SP_MOVING)
        return WEIR_SP_ASKED;
    if (flow->moved_bytes + len > pair->limit_bytes)
        return WEIR_SP_LIMIT;
    if (!look(flow, pair, all, &room, looks))
        return WEIR_SP_GONE;
    if (flow->held_bytes + len > weir_bound || flow->held_bytes + len > room)
        return WEIR_SP_BOUND;
    if (__sync_fetch_and_add(&all->held_bytes, len) + len > all->ceiling_bytes) {
        __sync_fetch_and_sub(&all->held_bytes, len);
        return WEIR_SP_MEMORY;
    }
    flow->held_bytes += len;
    return WEIR_SP_MOVED;
}

/* Its owner is told once; when the ring is full, with the next piece, or the owner looks by itself. The event is not made on
 * the stack: before 6.8 halves of a slot may not be written one after the other without CAP_PERFMON. */
static __always_inline void tell(struct weir_sp_flow *flow, const struct weir_sp_pair *pair,
                                 __u64 cookie)
{
    __u32 index = pair->ring;
    void *ring = bpf_map_lookup_elem(&weir_sp_ring, &index);
    struct weir_sp_event *event = ring ? bpf_ringbuf_reserve(ring, sizeof(*event), 0) : NULL;

    if (!event)
        return;
    *event = (struct weir_sp_event){ pair->token, cookie, flow->latched, pair->epoch };
    bpf_ringbuf_submit(event, BPF_RB_FORCE_WAKEUP);
    flow->told = 1;
}

static __always_inline void pass(struct weir_sp_flow *flow, const struct weir_sp_pair *pair,
                                 __u64 cookie, enum weir_sp_why why, __u32 len)
{
    flow->passed_bytes += len;
    if (why != WEIR_SP_ASKED && why != WEIR_SP_LATCHED)
        flow->latched = why;
    if (flow->latched && !flow->told)
        tell(flow, pair, cookie);
}

/* What was judged to be moved goes, or the target has left in between. */
static __always_inline enum weir_sp_why move(struct __sk_buff *skb, struct weir_sp_flow *flow,
                                             const struct weir_sp_pair *pair,
                                             struct weir_sp_held *all)
{
    struct weir_sp_key to = { pair->peer };
    __u32 len = skb->len;

    if (bpf_sk_redirect_hash(skb, &weir_sp_dst, &to, 0) != SK_PASS) {
        give_back(flow, all, len);
        return WEIR_SP_GONE;
    }
    flow->moved_bytes += len;
    flow->moved_skbs++;
    return WEIR_SP_MOVED;
}

static __always_inline int splice(struct __sk_buff *skb, bool looks)
{
    struct weir_sp_key key = { bpf_get_socket_cookie(skb) };
    __u32 zero = 0, len = skb->len;
    struct weir_sp_held *all = bpf_map_lookup_elem(&weir_sp_held, &zero);
    struct weir_sp_pair *pair;
    struct weir_sp_flow *flow;
    enum weir_sp_why why;

    if (!len) {
        count(WEIR_SP_FIN, 0);
        return SK_DROP;
    }
    pair = bpf_map_lookup_elem(&weir_sp_pair, &key);
    flow = bpf_map_lookup_elem(&weir_sp_flow, &key);
    if (!pair || !flow || !all) {
        count(WEIR_SP_UNPAIRED, len);
        return SK_PASS;
    }
    if (flow->epoch != pair->epoch) {
        if (flow->passed_bytes == pair->read_bytes)
            begin_anew(flow, pair, all, looks);
        else
            flow->told = 0; /* something was passed at the last moment: its owner does not know */
    }
    if (follows(skb, flow, looks) || flow->latched)
        why = judge(flow, pair, all, len, looks);
    else
        why = WEIR_SP_DOUBLED;
    if (why == WEIR_SP_MOVED)
        why = move(skb, flow, pair, all);
    count(why, len);
    if (why != WEIR_SP_MOVED)
        pass(flow, pair, key.cookie, why, len);
    return SK_PASS;
}

SEC("sk_skb/stream_verdict")
int weir_splice(struct __sk_buff *skb)
{
    return splice(skb, true);
}

/* Without CAP_PERFMON. A program of its own: with one that is told by a setting, kernels before 6.16 look also at the branch
 * that is never taken, as a processor might, and refuse it. */
SEC("sk_skb/stream_verdict")
int weir_credit(struct __sk_buff *skb)
{
    return splice(skb, false);
}

char weir_licence[] SEC("license") = "Dual BSD/GPL";
