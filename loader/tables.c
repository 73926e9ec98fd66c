/* SPDX-License-Identifier: Apache-2.0 */
/** tables.c: descriptors in, table of functions out (weir/kern.h). Needs no capability. */
#include "kern_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct ring {
    struct ring_buffer *buffer;
    void (*fn)(void *arg, const struct weir_sp_event *event);
    void *arg;
};

struct table {
    struct weir_splice_kern pub;
    struct weir_splice_fds fds;
    struct weir_sp_held *held; /* shared with the program */
    int cpus;
    struct ring rings[];
};

static struct table *table_of(struct weir_splice_kern *kern)
{
    return (struct table *)kern;
}

/* ---- sockets ------------------------------------------------------------------------------ */

static bool in_map(int map, const struct weir_sp_key *key)
{
    __u64 value;

    return bpf_map_lookup_elem(map, key, &value) == 0;
}

static int socket_add(int map, uint64_t cookie, int fd)
{
    struct weir_sp_key key = { cookie };
    __u64 value = (__u64)fd;

    return bpf_map_update_elem(map, &key, &value, BPF_NOEXIST);
}

static int target_add(struct weir_splice_kern *kern, uint64_t cookie, int fd)
{
    return socket_add(table_of(kern)->fds.dst, cookie, fd);
}

static void target_del(struct weir_splice_kern *kern, uint64_t cookie)
{
    struct weir_sp_key key = { cookie };

    (void)bpf_map_delete_elem(table_of(kern)->fds.dst, &key); /* it may have been closed */
}

static void entries_del(struct table *table, const struct weir_sp_key *key)
{
    struct weir_sp_flow flow;

    if (bpf_map_lookup_elem(table->fds.flow, key, &flow) == 0)
        __atomic_sub_fetch(&table->held->held_bytes, flow.held_bytes, __ATOMIC_RELAXED);
    (void)bpf_map_delete_elem(table->fds.flow, key);
    (void)bpf_map_delete_elem(table->fds.pair, key);
}

/* The entries first: the program must find them with the first piece. */
static int source_add(struct weir_splice_kern *kern, uint64_t cookie, int fd,
                      const struct weir_sp_pair *pair)
{
    struct table *table = table_of(kern);
    struct weir_sp_key key = { cookie };
    struct weir_sp_flow flow = { .epoch = pair->epoch - 1 }; /* the program begins anew */
    int err = bpf_map_update_elem(table->fds.flow, &key, &flow, BPF_NOEXIST);

    if (err)
        return err == -EEXIST ? -EBUSY : err;
    err = bpf_map_update_elem(table->fds.pair, &key, pair, BPF_ANY);
    if (!err)
        err = socket_add(table->fds.src, cookie, fd);
    if (err)
        entries_del(table, &key);
    return err;
}

static int source_set(struct weir_splice_kern *kern, uint64_t cookie,
                      const struct weir_sp_pair *pair)
{
    struct weir_sp_key key = { cookie };

    return bpf_map_update_elem(table_of(kern)->fds.pair, &key, pair, BPF_EXIST);
}

static int source_del(struct weir_splice_kern *kern, uint64_t cookie, struct weir_sp_flow *last)
{
    struct table *table = table_of(kern);
    struct weir_sp_key key = { cookie };
    int err = bpf_map_delete_elem(table->fds.src, &key);

    if (err && err != -ENOENT) /* it was closed, or reset */
        return err;
    err = last ? bpf_map_lookup_elem(table->fds.flow, &key, last) : 0;
    entries_del(table, &key);
    return err;
}

static void source_forget(struct weir_splice_kern *kern, uint64_t cookie)
{
    struct weir_sp_key key = { cookie };

    entries_del(table_of(kern), &key);
}

static int source_get(struct weir_splice_kern *kern, uint64_t cookie, struct weir_sp_pair *pair,
                      struct weir_sp_flow *flow)
{
    struct table *table = table_of(kern);
    struct weir_sp_key key = { cookie };
    int err = pair ? bpf_map_lookup_elem(table->fds.pair, &key, pair) : 0;

    if (!err && flow)
        err = bpf_map_lookup_elem(table->fds.flow, &key, flow);
    return err;
}

static bool source_is(struct weir_splice_kern *kern, uint64_t cookie)
{
    struct weir_sp_key key = { cookie };

    return in_map(table_of(kern)->fds.src, &key);
}

uint32_t weir_splice_id(int pair)
{
    struct bpf_map_info info = { 0 };
    __u32 len = sizeof(info);

    return bpf_obj_get_info_by_fd(pair, &info, &len) == 0 ? info.id : 0;
}

static uint32_t id(struct weir_splice_kern *kern)
{
    return weir_splice_id(table_of(kern)->fds.pair);
}

/* ---- rings -------------------------------------------------------------------------------- */

static int on_event(void *arg, void *data, size_t size)
{
    struct ring *ring = arg;

    if (size >= sizeof(struct weir_sp_event))
        ring->fn(ring->arg, data);
    return 0;
}

/* The index is that of the whole map; this table may have only some. NULL: not this. */
static struct ring *ring_of(struct table *table, unsigned index)
{
    unsigned at = index - table->fds.ring_base;

    return index >= table->fds.ring_base && at < table->fds.ring_count ? &table->rings[at] : NULL;
}

static int ring_fd(struct weir_splice_kern *kern, unsigned index)
{
    struct table *table = table_of(kern);
    struct ring *ring = ring_of(table, index);

    return ring ? table->fds.ring[ring - table->rings] : -ENOENT;
}

static int ring_read(struct weir_splice_kern *kern, unsigned index,
                     void (*fn)(void *arg, const struct weir_sp_event *event), void *arg)
{
    struct ring *ring = ring_of(table_of(kern), index);

    if (!ring)
        return -ENOENT;
    ring->fn = fn;
    ring->arg = arg;
    return ring_buffer__consume(ring->buffer);
}

/* ---- sums --------------------------------------------------------------------------------- */

static void set_ceiling(struct weir_splice_kern *kern, uint64_t bytes)
{
    __atomic_store_n(&table_of(kern)->held->ceiling_bytes, bytes, __ATOMIC_RELAXED);
}

static uint64_t held(struct weir_splice_kern *kern)
{
    return __atomic_load_n(&table_of(kern)->held->held_bytes, __ATOMIC_RELAXED);
}

static int counts(struct weir_splice_kern *kern, struct weir_sp_count sums[WEIR_SP_WHYS_COUNT])
{
    struct table *table = table_of(kern);
    struct weir_sp_count *each = calloc((size_t)table->cpus, sizeof(*each));
    int err = each ? 0 : -ENOMEM;

    memset(sums, 0, WEIR_SP_WHYS_COUNT * sizeof(*sums));
    for (__u32 why = 0; !err && why < WEIR_SP_WHYS_COUNT; why++) {
        sums[why].why = (enum weir_sp_why)why;
        err = bpf_map_lookup_elem(table->fds.count, &why, each);
        for (int i = 0; !err && i < table->cpus; i++) {
            sums[why].skbs += each[i].skbs;
            sums[why].bytes += each[i].bytes;
        }
    }
    free(each);
    return err;
}

const struct weir_splice_ops kern_splice_ops = {
    .target_add = target_add,
    .target_del = target_del,
    .source_add = source_add,
    .source_set = source_set,
    .source_del = source_del,
    .source_forget = source_forget,
    .source_is = source_is,
    .source_get = source_get,
    .cookie = kern_sock_cookie,
    .kick = kern_sock_kick,
    .freeze = kern_sock_freeze,
    .thaw = kern_sock_thaw,
    .narrow = kern_sock_narrow,
    .widen = kern_sock_widen,
    .path = kern_sock_path,
    .ring_fd = ring_fd,
    .ring_read = ring_read,
    .set_ceiling = set_ceiling,
    .held = held,
    .id = id,
    .counts = counts,
};

/* ---- the table's own life ----------------------------------------------------------------- */

void weir_splice_done(struct weir_splice_kern **kern)
{
    struct table *table = table_of(*kern);

    *kern = NULL;
    if (!table)
        return;
    for (unsigned i = 0; i < table->fds.ring_count; i++)
        ring_buffer__free(table->rings[i].buffer);
    if (table->held)
        munmap(table->held, (size_t)getpagesize());
    free(table);
}

static int rings_open(struct table *table)
{
    for (unsigned i = 0; i < table->fds.ring_count; i++) {
        table->rings[i].buffer =
            ring_buffer__new(table->fds.ring[i], on_event, &table->rings[i], NULL);
        if (!table->rings[i].buffer)
            return -errno;
    }
    return 0;
}

int weir_splice_use(const struct weir_splice_fds *fds, struct weir_splice_kern **kern)
{
    struct table *table = calloc(1, sizeof(*table) + fds->ring_count * sizeof(struct ring));
    struct weir_splice_kern *pub;
    void *map;
    int err;

    *kern = NULL;
    if (!table)
        return -ENOMEM;
    pub = &table->pub;
    pub->ops = &kern_splice_ops;
    table->fds = *fds;
    table->cpus = fds->cpus;
    map = mmap(NULL, (size_t)getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED, fds->held, 0);
    if (map == MAP_FAILED) {
        err = -errno;
        goto undo;
    }
    table->held = map;
    err = rings_open(table);
    if (err)
        goto undo;
    *kern = pub;
    return 0;
undo:
    weir_splice_done(&pub);
    return err;
}

uint64_t weir_splice_cookie(int fd)
{
    return kern_sock_cookie(fd);
}

const char *weir_sp_why_text(unsigned why)
{
#define TEXT(name, text) text,
    static const char *const texts[] = { WEIR_SP_WHYS(TEXT) };
#undef TEXT

    return why < WEIR_SP_WHYS_COUNT ? texts[why] : "?";
}

/* ---- after a crash ------------------------------------------------------------------------ */

void kern_splice_sweep(const struct weir_splice_fds *fds)
{
    struct weir_sp_key key, next;
    struct weir_sp_flow flow;
    struct weir_sp_held all;
    __u32 zero = 0;
    bool more = bpf_map_get_next_key(fds->flow, NULL, &next) == 0;

    if (bpf_map_lookup_elem(fds->held, &zero, &all))
        return;
    all.held_bytes = 0;
    while (more) {
        key = next;
        more = bpf_map_get_next_key(fds->flow, &key, &next) == 0;
        if (!in_map(fds->src, &key)) {
            (void)bpf_map_delete_elem(fds->flow, &key);
            (void)bpf_map_delete_elem(fds->pair, &key);
        } else if (bpf_map_lookup_elem(fds->flow, &key, &flow) == 0) {
            all.held_bytes += flow.held_bytes;
        }
    }
    (void)bpf_map_update_elem(fds->held, &zero, &all, BPF_ANY);
}
