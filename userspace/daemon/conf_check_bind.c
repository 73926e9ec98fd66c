/* SPDX-License-Identifier: Apache-2.0 */
/* conf_check_bind.c: where listeners are bound: what the kernel would refuse at the start is said
 * here, with its place. Whether another process has the address is not looked at: it may be the
 * daemon itself. */
#include "daemon/conf_internal.h"

#include "net/addr.h"

#include <net/if.h>
#include <sys/stat.h>

enum { MODE_DEFAULT = 0600 }; /* what --effective prints of any listener */

struct bound {
    struct weir_addr addr;
    struct weir_str text, device;
    const struct conf_mark *mark;
};

static bool is_v4(const uint8_t bytes[16])
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

    return !memcmp(bytes, mapped, 12);
}

static bool is_any(const uint8_t bytes[16])
{
    static const uint8_t zeros[16];

    return is_v4(bytes) ? !memcmp(bytes + 12, zeros, 4) : !memcmp(bytes, zeros, 16);
}

bool conf_addr_overlap(const struct weir_addr *a, const struct weir_addr *b)
{
    uint8_t left[16], right[16];

    if (!weir_addr_bytes(a, left) || !weir_addr_bytes(b, right))
        return weir_addr_eq(a, b);
    if (weir_addr_port(a) == 0 || weir_addr_port(a) != weir_addr_port(b))
        return false;
    if (a->dual || b->dual) /* any address of both families */
        return true;
    return is_v4(left) == is_v4(right) &&
           (is_any(left) || is_any(right) || !memcmp(left, right, 16));
}

void conf_check_unix_path(struct conf_load *load, const struct conf_mark *mark,
                          struct weir_str address)
{
    if (weir_str_starts(address, WEIR_STR("unix:")) &&
        !weir_str_starts(address, WEIR_STR("unix:/")))
        conf_error(load, mark, "'%.*s': the path of a socket must begin with '/'",
                   CONF_QUOTE(address));
}

/* A socket that is there is replaced, when nobody serves it; anything else stays. */
static void check_unix(struct conf_load *load, const struct conf_mark *mark,
                       const struct weir_addr *addr)
{
    struct weir_str path = weir_str(addr->un.sun_path);
    struct stat st;

    if (load->no_host)
        return;
    if (!lstat(path.ptr, &st) && !S_ISSOCK(st.st_mode))
        conf_error(load, mark, "'%.*s' is there, and is no socket", CONF_QUOTE(path));
    else
        conf_check_writable(load, mark, path);
}

static void check_here(struct conf_load *load, const struct conf_mark *mark,
                       const struct weir_listener_conf *listener, struct weir_str text,
                       const struct weir_addr *addr)
{
    if (!listener->freebind && !conf_addr_here(load, addr))
        conf_error(load, mark,
                   "'%.*s': no interface of this host has this address; 'freebind: on' binds it "
                   "all the same",
                   CONF_QUOTE(text));
}

/* Sockets of two devices do not meet. */
static bool meet(const struct bound *a, const struct bound *b)
{
    return conf_addr_overlap(&a->addr, &b->addr) &&
           (!a->device.len || !b->device.len || weir_str_eq(a->device, b->device));
}

static void check_free(struct conf_load *load, const struct bound *mine,
                       const struct weir_conf_list *bound)
{
    const struct bound *others = bound->at;

    for (size_t i = 0; i < bound->count; i++) {
        if (!meet(mine, &others[i]))
            continue;
        if (weir_str_eq(mine->text, others[i].text))
            conf_error(load, mine->mark, "the address '%.*s' is bound twice; first at %s",
                       CONF_QUOTE(mine->text), conf_mark_text(load, others[i].mark));
        else
            conf_error(load, mine->mark, "the address '%.*s' is bound twice; '%.*s' at %s has it",
                       CONF_QUOTE(mine->text), CONF_QUOTE(others[i].text),
                       conf_mark_text(load, others[i].mark));
        return;
    }
}

static void check_one(struct conf_load *load, const struct weir_listener_conf *listener,
                      const struct bound *mine)
{
    if (mine->addr.sa.sa_family == AF_UNIX)
        check_unix(load, mine->mark, &mine->addr);
    else
        check_here(load, mine->mark, listener, mine->text, &mine->addr);
}

static void check_device(struct conf_load *load, const struct weir_listener_conf *listener)
{
    const struct conf_mark *mark = conf_at(load, &listener->device, "device");
    char name[IFNAMSIZ];

    if (listener->device.len >= IFNAMSIZ) {
        conf_error(load, mark, "'%.*s' is no name of a network interface",
                   CONF_QUOTE(listener->device));
        return;
    }
    snprintf(name, sizeof(name), "%.*s", WEIR_FMT(listener->device));
    if (listener->device.len && !load->no_host && !if_nametoindex(name))
        conf_error(load, mark, "there is no network interface '%.*s'",
                   CONF_QUOTE(listener->device));
}

static void check_mode(struct conf_load *load, const struct weir_listener_conf *listener)
{
    const struct conf_mark *mark = conf_at_key(load, &listener->mode, "mode");
    bool any = false;

    for (size_t i = 0; i < listener->bind.count; i++)
        any |= weir_str_starts(listener->bind.at[i], WEIR_STR("unix:"));
    if (mark && !any && listener->mode != MODE_DEFAULT)
        conf_error(load, mark, "'mode' is for UNIX sockets: listener '%.*s' has none",
                   CONF_QUOTE(listener->name));
}

void conf_check_bind(struct conf_load *load, const struct weir_listener_conf *listener,
                     struct weir_conf_list *bound)
{
    const struct conf_pair *pair = conf_place(load, &listener->bind, "bind");

    if (pair && pair->value->kind == CONF_LIST && pair->value->count == 0)
        conf_error(load, &pair->value->mark, "listener '%.*s' has no address",
                   CONF_QUOTE(listener->name));
    check_device(load, listener);
    check_mode(load, listener);
    for (size_t i = 0; i < listener->bind.count; i++) {
        struct bound mine = { .text = listener->bind.at[i],
                              .device = listener->device,
                              .mark = conf_at_item(load, &listener->bind, "bind", i) };
        struct bound *added;

        conf_check_unix_path(load, mine.mark, mine.text);
        if (weir_addr_parse(&mine.addr, mine.text)) {
            conf_error(load, mine.mark,
                       "'%.*s' is no address to listen on: write :80, 192.0.2.1:80, "
                       "[2001:db8::1]:80 or unix:/path",
                       CONF_QUOTE(mine.text));
            continue;
        }
        check_free(load, &mine, bound);
        check_one(load, listener, &mine);
        added = conf_list_add(load, bound, sizeof(*added));
        if (added)
            *added = mine;
    }
}
