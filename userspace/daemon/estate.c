/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/estate.h"

#include "net/addr.h"

#include <stdio.h>
#include <stdlib.h>

void weir_bind_key(const struct weir_addr *addr, const struct weir_listen_opts *opts,
                   char out[WEIR_BIND_KEY_BYTES])
{
    char text[WEIR_ADDR_TEXT_MAX];
    size_t len = weir_addr_print(addr, text);

    snprintf(out, WEIR_BIND_KEY_BYTES, "%.*s%s%.*s", (int)len, text, opts->device.len ? " on " : "",
             WEIR_FMT(opts->device));
}

unsigned weir_estate_sockets(struct weir_manifest *estate, const char *key, int *fds,
                             unsigned count)
{
    struct weir_entry *entry = NULL;
    unsigned found = 0;

    while (found < count &&
           (entry = weir_manifest_next(estate, entry, WEIR_GIVEN_SOCKET, key)) != NULL)
        if (entry->fd >= 0)
            fds[found++] = weir_entry_take(entry);
    return found;
}

/* ---- the user ---- */

int weir_estate_add_user(struct weir_manifest *estate, const struct weir_user *user)
{
    char groups[WEIR_USER_GROUPS_MAX * 12 + 1] = "";
    size_t n = 0;
    int err;

    if (!user->change)
        return 0;
    for (int i = 0; i < user->groups_count; i++)
        n += (size_t)snprintf(groups + n, sizeof(groups) - n, "%s%u", n ? " " : "",
                              (unsigned)user->groups[i]);
    err = weir_manifest_set(estate, WEIR_SET_USER, user->name);
    if (!err)
        err = weir_manifest_set_number(estate, WEIR_SET_UID, user->uid);
    if (!err)
        err = weir_manifest_set_number(estate, WEIR_SET_GID, user->gid);
    return err ?: weir_manifest_set(estate, WEIR_SET_GROUPS, groups);
}

void weir_estate_user(const struct weir_manifest *estate, struct weir_user *user)
{
    const char *name = weir_manifest_get(estate, WEIR_SET_USER),
               *groups = weir_manifest_get(estate, WEIR_SET_GROUPS);

    *user = (struct weir_user){ .change = name != NULL };
    if (!name)
        return;
    snprintf(user->name, sizeof(user->name), "%s", name);
    user->uid = (uid_t)weir_manifest_number(estate, WEIR_SET_UID, 65534);
    user->gid = (gid_t)weir_manifest_number(estate, WEIR_SET_GID, 65534);
    while (groups && *groups && user->groups_count < WEIR_USER_GROUPS_MAX) {
        char *end;
        unsigned long group = strtoul(groups, &end, 10);

        if (end == groups) /* no number: none of which could become group 0 */
            return;
        user->groups[user->groups_count++] = (gid_t)group;
        groups = *end == ' ' ? end + 1 : "";
    }
}

/* ---- the log ---- */

int weir_estate_add_log(struct weir_manifest *estate, const struct weir_log_conf *conf)
{
    char file[WEIR_ENTRY_NAME_MAX + 1];
    int err = weir_manifest_set_number(estate, WEIR_SET_LOG_TO, conf->to);

    if (!err)
        err = weir_manifest_set_number(estate, WEIR_SET_LOG_LEVEL, conf->level);
    if (!err)
        err = weir_manifest_set_number(estate, WEIR_SET_LOG_FORMAT, conf->format);
    if (err || conf->to != WEIR_LOG_TO_FILE)
        return err;
    snprintf(file, sizeof(file), "%.*s", WEIR_FMT(conf->file));
    return weir_manifest_set(estate, WEIR_SET_LOG_FILE, file);
}

void weir_estate_log(const struct weir_manifest *estate, struct weir_log_conf *conf)
{
    *conf = (struct weir_log_conf){
        .to = (int)weir_manifest_number(estate, WEIR_SET_LOG_TO, WEIR_LOG_TO_STDERR),
        .level = (int)weir_manifest_number(estate, WEIR_SET_LOG_LEVEL, WEIR_LOG_INFO),
        .format = (int)weir_manifest_number(estate, WEIR_SET_LOG_FORMAT, WEIR_LOG_TEXT),
        .file = weir_str(weir_manifest_get(estate, WEIR_SET_LOG_FILE)),
    };
}
