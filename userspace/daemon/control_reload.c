/* SPDX-License-Identifier: Apache-2.0 */
/** control_reload.c: POST /v1/reload. The answer comes when the reload is over. */
#include "daemon/control_internal.h"

#include <stdio.h>
#include <stdlib.h>

static json_t *diags_json(const struct weir_diags *diags, enum weir_severity severity)
{
    json_t *array = json_array();

    for (size_t i = 0; i < diags->count; i++) {
        const struct weir_diag *diag = &diags->at[i];

        if (diag->severity != severity)
            continue;
        json_array_append_new(array,
                              json_pack("{s:o,s:i,s:i,s:o,s:o}", "file", control_str(diag->file),
                                        "line", (int)diag->line, "column", (int)diag->column,
                                        "message", control_str(diag->message), "hint",
                                        diag->hint.len ? control_str(diag->hint) : json_null()));
    }
    return array;
}

/* {"added": [names], "removed": …, "changed": …} of one section. */
static json_t *changes_json(const struct weir_reload_result *result, const char *key)
{
    static const char *const words[] = { "added", "removed", "changed" };
    json_t *object = json_object();

    for (int change = 0; change < 3; change++) {
        json_t *names = json_array();

        for (size_t i = 0; i < result->change_count; i++)
            if ((int)result->changes[i].change == change &&
                strcmp(result->changes[i].key, key) == 0)
                json_array_append_new(names, control_str(result->changes[i].name));
        json_object_set_new(object, words[change], names);
    }
    return object;
}

static json_t *sections_json(const struct weir_reload_result *result)
{
    json_t *array = json_array();

    for (size_t i = 0; i < result->change_count; i++)
        if (weir_str_absent(result->changes[i].name))
            json_array_append_new(array, json_string(result->changes[i].key));
    return array;
}

/* As `weir check` would say it. */
static json_t *diags_text(const struct weir_diags *diags)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    json_t *json;

    if (!out)
        return json_null();
    weir_diags_print(diags, out, false);
    fclose(out);
    json = control_str((struct weir_str){ text, text ? len : 0 });
    free(text);
    return json;
}

static void on_result(void *arg, const struct weir_reload_result *result)
{
    struct control_call *call = arg;
    json_t *json = json_object();

    json_object_set_new(json, "reloaded", json_boolean(result->done));
    if (!result->done) {
        json_object_set_new(json, "error", control_str(weir_str(result->why)));
        json_object_set_new(json, "errors", diags_json(result->diags, WEIR_DIAG_ERROR));
    } else {
        json_object_set_new(json, "listeners", changes_json(result, "listeners"));
        json_object_set_new(json, "upstreams", changes_json(result, "upstreams"));
        json_object_set_new(json, "sections", sections_json(result));
    }
    json_object_set_new(json, "warnings", diags_json(result->diags, WEIR_DIAG_WARNING));
    json_object_set_new(json, "text", diags_text(result->diags));
    json_object_set_new(json, "took_ms", control_u64(result->took_ms));
    control_reply_json(call, result->done ? 200 : 422, json);
}

void control_post_reload(struct control_call *call)
{
    struct weir_control *control = call->control;

    if (!control->opts.reload || control->state != WEIR_CONTROL_READY)
        control_fail(call, 409, "this daemon cannot be reloaded now");
    else if (weir_reload_ask(control->opts.reload, "admin", on_result, call))
        control_fail(call, 503, "out of memory");
}
