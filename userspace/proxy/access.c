/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/access.h"

#include "base/clock.h"
#include "base/str.h"
#include "proxy/ban_table.h"
#include "proxy/prefix_set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { FILE_LINE_BYTES_MAX = 1024, DENY_FILE_BYTES_MAX = 256 * 1024 * 1024 };

struct weir_access {
    struct weir_prefix_set allow, deny, never_ban;
    struct weir_ban_table *bans;
};

/* Text of a fault shows at most this much of what was wrong. */
#define SHOWN(s) (int)((s).len < 64 ? (s).len : 64), (s).ptr

static bool add_text(struct weir_prefix_set *set, struct weir_str text, int *err)
{
    struct weir_prefix prefix;

    *err = weir_prefix_parse(&prefix, text);
    if (!*err)
        *err = weir_prefix_set_add(set, &prefix);
    return !*err;
}

static bool add_list(struct weir_prefix_set *set, const struct weir_strs *list, const char *name,
                     struct weir_tls_fault *fault)
{
    int err;

    for (size_t i = 0; i < list->count; i++) {
        if (add_text(set, list->at[i], &err))
            continue;
        if (err == WEIR_ENOMEM)
            snprintf(fault->text, sizeof(fault->text), "access: out of memory");
        else
            snprintf(fault->text, sizeof(fault->text),
                     "access: %s: '%.*s' is not a prefix such as 192.0.2.0/24 (the bits after the "
                     "length must be 0)",
                     name, SHOWN(list->at[i]));
        return false;
    }
    weir_prefix_set_seal(set);
    return true;
}

/* One line: what stands before '#', without spaces. Returns how many faults it has. */
static unsigned add_line(struct weir_prefix_set *set, const char *path, unsigned number, char *line,
                         struct weir_tls_fault *fault, unsigned faults)
{
    struct weir_str text = weir_str(line), comment;
    int err;

    if (text.len && text.ptr[text.len - 1] == '\n')
        text.len--;
    if (text.len && text.ptr[text.len - 1] == '\r')
        text.len--;
    text = weir_str_trim(weir_str_cut(text, '#', &comment));
    if (!text.len || add_text(set, text, &err))
        return 0;
    if (!faults)
        snprintf(fault->text, sizeof(fault->text), "%s:%u: '%.*s' is not a prefix%s", path, number,
                 SHOWN(text), err == WEIR_ENOMEM ? " (out of memory)" : "");
    return 1;
}

static bool add_file(struct weir_prefix_set *set, struct weir_files *files, struct weir_str file,
                     struct weir_tls_fault *fault)
{
    char *path = weir_str_dup(file), line[FILE_LINE_BYTES_MAX];
    FILE *in = path ? weir_files_fopen(files, path, DENY_FILE_BYTES_MAX) : NULL;
    unsigned faults = 0, number = 0;

    if (!in) {
        snprintf(fault->text, sizeof(fault->text), "access: deny_file: %s: %s", path ? path : "",
                 path ? weir_files_fault(-errno) : "out of memory");
        free(path);
        return false;
    }
    while (fgets(line, sizeof(line), in)) { /* an overlong line is read, and refused, in parts */
        number++;
        faults += add_line(set, path, number, line, fault, faults);
    }
    if (ferror(in) && !faults++)
        snprintf(fault->text, sizeof(fault->text), "%s: %s", path, strerror(errno));
    if (faults > 1) {
        size_t at = strlen(fault->text);

        snprintf(fault->text + at, sizeof(fault->text) - at, " (and %u more)", faults - 1);
    }
    fclose(in);
    free(path);
    weir_prefix_set_seal(set);
    return !faults;
}

struct weir_access *weir_access_new(const struct weir_access_conf *conf,
                                    struct weir_ban_table *bans, struct weir_tls_fault *fault)
{
    struct weir_access *access = calloc(1, sizeof(*access));

    if (!access) {
        snprintf(fault->text, sizeof(fault->text), "access: out of memory");
        return NULL;
    }
    access->bans = bans;
    if (add_list(&access->allow, &conf->allow, "allow", fault) &&
        add_list(&access->deny, &conf->deny, "deny", fault) &&
        add_list(&access->never_ban, &conf->never_ban, "never_ban", fault) &&
        (!conf->deny_file.len || add_file(&access->deny, conf->files, conf->deny_file, fault)))
        return access;
    weir_access_free(access);
    return NULL;
}

void weir_access_free(struct weir_access *access)
{
    if (!access)
        return;
    weir_prefix_set_fini(&access->allow);
    weir_prefix_set_fini(&access->deny);
    weir_prefix_set_fini(&access->never_ban);
    free(access);
}

enum weir_access_verdict weir_access_check(struct weir_access *access,
                                           const struct weir_addr *client, uint64_t now_ms)
{
    uint8_t addr[16];

    if (!weir_addr_bytes(client, addr)) /* a UNIX socket has its own permissions */
        return WEIR_ACCESS_OK;
    if (access->allow.count && !weir_prefix_set_has(&access->allow, addr))
        return WEIR_ACCESS_DENIED;
    if (weir_prefix_set_has(&access->deny, addr))
        return weir_prefix_set_has(&access->never_ban, addr) ? WEIR_ACCESS_OK : WEIR_ACCESS_DENIED;
    if (weir_ban_table_has(access->bans, addr, now_ms))
        return weir_prefix_set_has(&access->never_ban, addr) ? WEIR_ACCESS_OK : WEIR_ACCESS_BANNED;
    return WEIR_ACCESS_OK;
}

int weir_access_client_prefix(const struct weir_addr *client, struct weir_prefix *prefix)
{
    static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

    if (!weir_addr_bytes(client, prefix->addr))
        return WEIR_EADDR;
    prefix->bits = 128;
    if (memcmp(prefix->addr, mapped, sizeof(mapped)) != 0) {
        prefix->bits = 64;
        memset(prefix->addr + 8, 0, 8);
    }
    return 0;
}

int weir_access_ban(struct weir_access *access, const struct weir_prefix *prefix, uint64_t for_ms,
                    struct weir_str why, const struct weir_addr *asker, uint64_t now_ms)
{
    uint64_t until_ms = for_ms && for_ms < UINT64_MAX - now_ms ? now_ms + for_ms : UINT64_MAX;
    uint8_t addr[16];

    if (weir_prefix_set_meets(&access->never_ban, prefix))
        return WEIR_EDENIED;
    if (asker && weir_addr_bytes(asker, addr) && weir_prefix_has(prefix, addr))
        return WEIR_EDENIED;
    return weir_ban_table_add(access->bans, prefix, until_ms, why, now_ms);
}

int weir_access_unban(struct weir_access *access, const struct weir_prefix *prefix)
{
    return weir_ban_table_remove(access->bans, prefix, weir_clock_us() / 1000);
}

void weir_access_bans(struct weir_access *access, uint64_t now_ms,
                      void (*fn)(void *arg, const struct weir_prefix *prefix, uint64_t left_ms,
                                 struct weir_str why, uint64_t hits),
                      void *arg)
{
    weir_ban_table_each(access->bans, now_ms, fn, arg);
}

uint64_t weir_access_bans_refused(const struct weir_access *access)
{
    return atomic_load_explicit(&access->bans->refused, memory_order_relaxed);
}
