/* SPDX-License-Identifier: Apache-2.0 */
/**
 * plugin_deny_agent.c: a plug-in: the daemon loads it and has one more filter to name. It refuses clients whose
 * User-Agent holds one of some words.
 *
 *   cc -shared -fPIC plugin_deny_agent.c $(pkg-config --cflags weir) -o deny_agent.so
 *
 *   plugins: [ deny_agent.so ]
 *   routes:
 *     main:
 *       - { name: all, to: app, filters: [ deny_agent: { words: [ scraper ], status: 429 } ] }
 */
#include <weir/weir.h>

#include <stdio.h>

/* What the rows fill: also the filter's `self`, it does not change. */
struct deny_agent {
    struct weir_strs words;
    int64_t status;
};

static bool holds(struct weir_str text, struct weir_str word)
{
    for (size_t i = 0; i + word.len <= text.len; i++)
        if (memcmp(text.ptr + i, word.ptr, word.len) == 0)
            return true;
    return false;
}

static enum weir_verdict deny_agent_request(struct weir_req *req, void *self)
{
    struct weir_str agent = weir_message_get(weir_req_request(req), "user-agent");
    const struct deny_agent *deny = self;

    for (size_t i = 0; i < deny->words.count; i++)
        if (holds(agent, deny->words.at[i]))
            return weir_req_reply(req, (int)deny->status, WEIR_STR("not for you\n"));
    return WEIR_NEXT;
}

static void *deny_agent_create(const void *conf, char *fault, size_t fault_bytes)
{
    const struct deny_agent *deny = conf;

    for (size_t i = 0; i < deny->words.count; i++) {
        if (deny->words.at[i].len == 0) {
            snprintf(fault, fault_bytes, "an empty word would refuse everybody");
            return NULL;
        }
    }
    return (void *)conf;
}

static const struct weir_filter deny_agent = {
    .size = sizeof(struct weir_filter),
    .name = "deny_agent",
    .request = deny_agent_request,
};

static const struct weir_conf_item deny_agent_rows[] = {
    { .name = "words",
      .type = WEIR_CONF_STRS,
      .offset = offsetof(struct deny_agent, words),
      .text = "a User-Agent that holds one of these is refused",
      .flags = WEIR_CONF_REQUIRED },
    { .name = "status",
      .type = WEIR_CONF_INT,
      .offset = offsetof(struct deny_agent, status),
      .min = 400,
      .max = 499,
      .def = "403",
      .text = "of the refusal" },
    { 0 },
};

static const struct weir_filter_type deny_agent_type = {
    .size = sizeof(struct weir_filter_type),
    .name = "deny_agent",
    .text = "refuses clients by their User-Agent",
    .rows = deny_agent_rows,
    .bytes = sizeof(struct deny_agent),
    .filter = &deny_agent,
    .create = deny_agent_create,
};

static const struct weir_filter_type *const filters[] = { &deny_agent_type, NULL };

const struct weir_plugin weir_plugin = {
    WEIR_PLUGIN_HEAD,
    .name = "deny_agent",
    .filters = filters,
};
