/* SPDX-License-Identifier: Apache-2.0 */
/**
 * reply.c: the filters `reply` and `redirect`: a route that answers by itself, or sends the client
 * elsewhere. The last of their chain: what limits and checks comes first. Public headers alone.
 */
#include "template.h"

#include "weir/builtin.h"

#include <stdio.h>
#include <stdlib.h>

enum { REPLY_STATUS = 200, REDIRECT_STATUS = 308 };

struct answer {
    int status;
    struct weir_template text; /* the body, or where to */
};

static void answer_fini(void *self)
{
    struct answer *answer = self;

    weir_template_fini(&answer->text);
    free(answer);
}

static struct answer *answer_new(int64_t status, struct weir_str text, char *fault,
                                 size_t fault_bytes)
{
    struct answer *answer = calloc(1, sizeof(*answer));

    if (!answer) {
        snprintf(fault, fault_bytes, "out of memory");
        return NULL;
    }
    answer->status = (int)status;
    if (weir_template_init(&answer->text, text, fault, fault_bytes))
        return answer;
    answer_fini(answer);
    return NULL;
}

/* ---- reply ---- */

static void *reply_create(const void *arg, char *fault, size_t fault_bytes)
{
    const struct weir_reply_conf *conf = arg;
    int64_t status = conf->status ? conf->status : REPLY_STATUS;

    if (status < 200 || status > 599) {
        snprintf(fault, fault_bytes, "'status' must be from 200 to 599");
        return NULL;
    }
    return answer_new(status, conf->body, fault, fault_bytes);
}

static enum weir_verdict reply_request(struct weir_req *req, void *self)
{
    const struct answer *answer = self;
    struct weir_str body = weir_template_expand(&answer->text, req);

    if (!body.ptr)
        return weir_req_fail(req, WEIR_ENOMEM, WEIR_BY_US);
    return weir_req_reply(req, answer->status, body);
}

static const struct weir_filter reply_filter = {
    .size = sizeof(struct weir_filter),
    .name = "reply",
    .request = reply_request,
    .fini = answer_fini,
};

#define REPLY_ROW(field, ...) .offset = offsetof(struct weir_reply_conf, field), __VA_ARGS__
static const struct weir_conf_item reply_rows[] = {
    { "status", REPLY_ROW(status, .type = WEIR_CONF_INT, .min = 200, .max = 599, .def = "200",
                          .text = "the status") },
    { "body", REPLY_ROW(body, .type = WEIR_CONF_STR, .flags = WEIR_CONF_TEMPLATE | WEIR_CONF_SECRET,
                        .text = "the body, with $path $query $host $client $id; or { file: "
                                "PATH }, as it is") },
    { 0 },
};

const struct weir_filter_type weir_filter_reply_type = {
    .size = sizeof(struct weir_filter_type),
    .name = "reply",
    .text = "answers every request that comes to it",
    .rows = reply_rows,
    .bytes = sizeof(struct weir_reply_conf),
    .filter = &reply_filter,
    .create = reply_create,
};

/* ---- redirect ---- */

static bool redirect_status_ok(int64_t status)
{
    return (status >= 301 && status <= 303) || status == 307 || status == 308;
}

static bool url_ok(struct weir_str url)
{
    for (size_t i = 0; i < url.len; i++)
        if ((unsigned char)url.ptr[i] < 0x20 || url.ptr[i] == 0x7f)
            return false;
    return url.len > 0;
}

static void *redirect_create(const void *arg, char *fault, size_t fault_bytes)
{
    const struct weir_redirect_conf *conf = arg;
    int64_t status = conf->status ? conf->status : REDIRECT_STATUS;

    if (!redirect_status_ok(status))
        snprintf(fault, fault_bytes, "'status' must be 301, 302, 303, 307 or 308");
    else if (!url_ok(conf->to))
        snprintf(fault, fault_bytes, "'to' is no URL");
    else
        return answer_new(status, conf->to, fault, fault_bytes);
    return NULL;
}

static enum weir_verdict redirect_request(struct weir_req *req, void *self)
{
    const struct answer *answer = self;
    struct weir_str to = weir_template_expand(&answer->text, req);
    enum weir_verdict verdict;
    int err;

    if (!to.ptr)
        return weir_req_fail(req, WEIR_ENOMEM, WEIR_BY_US);
    verdict = weir_req_reply(req, answer->status, WEIR_STR(""));
    if (verdict != WEIR_DONE)
        return verdict;
    err = weir_message_set(weir_req_response(req), "location", to);
    return err ? weir_req_fail(req, (enum weir_err)err, WEIR_BY_US) : WEIR_DONE;
}

static const struct weir_filter redirect_filter = {
    .size = sizeof(struct weir_filter),
    .name = "redirect",
    .request = redirect_request,
    .fini = answer_fini,
};

#define REDIRECT_ROW(field, ...) .offset = offsetof(struct weir_redirect_conf, field), __VA_ARGS__
static const struct weir_conf_item redirect_rows[] = {
    { "status", REDIRECT_ROW(status, .type = WEIR_CONF_INT, .min = 301, .max = 308, .def = "308",
                             .text = "301, 302, 303, 307 or 308") },
    { "to",
      REDIRECT_ROW(to, .type = WEIR_CONF_STR, .flags = WEIR_CONF_TEMPLATE | WEIR_CONF_REQUIRED,
                   .text = "the URL, with $path $query $host $client $id") },
    { 0 },
};

const struct weir_filter_type weir_filter_redirect_type = {
    .size = sizeof(struct weir_filter_type),
    .name = "redirect",
    .text = "sends the client to another URL",
    .rows = redirect_rows,
    .bytes = sizeof(struct weir_redirect_conf),
    .filter = &redirect_filter,
    .create = redirect_create,
};
