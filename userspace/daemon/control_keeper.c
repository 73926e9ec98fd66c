/* SPDX-License-Identifier: Apache-2.0 */
/** control_keeper.c: what the admin knows of the keeper, and asks of it. */
#include "daemon/control_internal.h"
#include "daemon/link.h"

#include <stdio.h>
#include <stdlib.h>

void control_post_upgrade(struct control_call *call)
{
    struct weir_control *control = call->control;
    struct weir_link *link = control->opts.link;

    if (!link) {
        control_fail(call, 409,
                     "there is no keeper that could do that: weir runs as one process (--single)");
        return;
    }
    if (control->state != WEIR_CONTROL_READY) {
        control_fail(call, 409, "this process is %s",
                     control->state == WEIR_CONTROL_STARTING ? "starting" : "draining");
        return;
    }
    weir_list_push_back(&control->upgrading, &call->link);
    if (!weir_link_say(link, WEIR_SAYS_UPGRADE))
        weir_control_changed(control, false, "the keeper is gone");
}

void weir_control_changed(struct weir_control *control, bool ok, const char *text)
{
    weir_list_each(pos, tmp, &control->upgrading)
    {
        struct control_call *call = weir_list_entry(pos, struct control_call, link);

        weir_list_remove(pos);
        if (ok)
            control_reply_json(
                call, 200, json_pack("{s:b,s:o}", "done", 1, "text", control_str(weir_str(text))));
        else
            control_fail(call, 409, "%s", text);
    }
}

json_t *control_keeper(const struct weir_control *control)
{
    const struct weir_link *link = control->opts.link;

    if (!link)
        return json_null();
    return json_pack("{s:I,s:b,s:I}", "pid", (json_int_t)link->keeper, "alive",
                     weir_link_alive(link), "starts", (json_int_t)link->starts);
}

char *control_keeper_metrics(const struct weir_control *control, char *text, size_t *len)
{
    const struct weir_link *link = control->opts.link;
    char more[512];
    char *all;
    int n;

    if (!link || !text)
        return text;
    n = snprintf(
        more, sizeof(more),
        "# HELP weir_keeper_up 1 while the keeper lives, which restarts and upgrades\n"
        "# TYPE weir_keeper_up gauge\n"
        "weir_keeper_up %d\n"
        "# HELP weir_proxy_starts_total processes that the keeper has started, with this one\n"
        "# TYPE weir_proxy_starts_total counter\n"
        "weir_proxy_starts_total %lld\n",
        weir_link_alive(link), (long long)link->starts);
    all = realloc(text, *len + (size_t)n + 1);
    if (!all) {
        free(text);
        return NULL;
    }
    memcpy(all + *len, more, (size_t)n + 1);
    *len += (size_t)n;
    return all;
}
