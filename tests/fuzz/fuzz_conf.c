/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz_conf.c: any text as a configuration. One that is taken prints to one that is taken and prints
 * the same; diagnostics print in both forms. No file is opened.
 *
 * fuzz-room: daemon
 * covers: userspace/daemon/conf_node.c userspace/daemon/conf_fill.c userspace/daemon/conf_value.c
 */
#include "base/panic.h"
#include "daemon/conf.h"
#include "fuzz.h"

#include <stdlib.h>

struct text {
    char *at;
    size_t len;
};

static void print_diags(const struct weir_diags *diags)
{
    struct text text = { NULL, 0 };
    FILE *out = open_memstream(&text.at, &text.len);

    if (!out)
        return;
    weir_diags_print(diags, out, false);
    weir_diags_print(diags, out, true);
    fclose(out);
    free(text.at);
}

/* The effective configuration of a text; NULL when it has errors. */
static struct text effective(const char *data, size_t size)
{
    struct weir_conf_opts opts = { .size = sizeof(opts), .no_files = true };
    struct text text = { NULL, 0 };
    struct weir_diags diags;
    struct weir_conf *conf;
    FILE *out;
    int err;

    weir_diags_init(&diags);
    err = weir_conf_load_text("fuzz.yaml", data, size, &opts, &conf, &diags);
    weir_assert((err == 0) == (conf != NULL) && (err == 0 || diags.errors));
    print_diags(&diags);
    out = conf ? open_memstream(&text.at, &text.len) : NULL;
    if (out) {
        weir_conf_print_effective(conf, out);
        fclose(out);
    }
    weir_conf_free(conf);
    weir_diags_fini(&diags);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text first = effective((const char *)data, size), second;

    if (!first.at)
        return 0;
    second = effective(first.at, first.len);
    weir_assert(second.at != NULL);
    weir_assert(first.len == second.len && !memcmp(first.at, second.at, first.len));
    free(first.at);
    free(second.at);
    return 0;
}
