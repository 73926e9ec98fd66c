/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tls_names.c: which certificates answer for which name. For every name the first certificate of
 * each kind (RSA, EC, others) that has it is taken; names with the same choice are one group, and a
 * group becomes one SSL_CTX. So an RSA and an ECDSA certificate for one name are both there for
 * OpenSSL to choose from. Group 0 is the default.
 */
#include "net/tls_impl.h"

#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>

enum { TLS_CERTS_MAX = 4096, TLS_KINDS = 3 };

static int kind_of(const struct tls_cert *cert)
{
    return cert->kind == EVP_PKEY_RSA ? 0 : cert->kind == EVP_PKEY_EC ? 1 : 2;
}

/* ---- loading ---- */

static int names_add(struct tls_names *names, struct weir_files *files, struct weir_str file,
                     struct weir_str key, struct weir_tls_fault *fault)
{
    int err;

    if (names->cert_count == TLS_CERTS_MAX)
        return tls_fault(fault, false, "more than %d certificates", TLS_CERTS_MAX);
    if (names->cert_count == names->cert_room) {
        size_t room = names->cert_room ? names->cert_room * 2 : 4;
        struct tls_cert *certs = realloc(names->certs, room * sizeof(*certs));

        if (!certs)
            return tls_fault(fault, false, "out of memory");
        names->certs = certs;
        names->cert_room = room;
    }
    err = tls_cert_load(&names->certs[names->cert_count], files, file, key, fault);
    if (!err)
        names->cert_count++;
    return err;
}

static bool is_cert_file(const char *entry)
{
    struct weir_str name = weir_str(entry);

    return entry[0] != '.' &&
           (weir_str_ends(name, WEIR_STR(".pem")) || weir_str_ends(name, WEIR_STR(".crt")));
}

static int names_add_entry(struct tls_names *names, struct weir_files *files, const char *dir,
                           const char *entry, struct weir_tls_fault *fault)
{
    char file[4096], key[4096];
    bool slash = *dir && dir[strlen(dir) - 1] == '/';
    int n = snprintf(file, sizeof(file), "%s%s%s", dir, slash ? "" : "/", entry);

    if (n < 0 || (size_t)n >= sizeof(file))
        return tls_fault(fault, false, "%s: a path that is too long", dir);
    if (weir_str_ends(weir_str(entry), WEIR_STR(".pem")))
        return names_add(names, files, weir_str(file), (struct weir_str){ 0 }, fault);
    memcpy(key, file, (size_t)n + 1);
    memcpy(key + n - 3, "key", 3);
    return names_add(names, files, weir_str(file), weir_str(key), fault);
}

static int names_add_dir(struct tls_names *names, struct weir_files *files, struct weir_str dir,
                         struct weir_tls_fault *fault)
{
    char *path = weir_str_dup(dir);
    int err = 0, seen, count = 0;
    struct weir_file entries;
    const char *entry;
    size_t at = 0;

    if (!path)
        return tls_fault(fault, false, "out of memory");
    seen = weir_files_list(files, path, &entries);
    if (seen)
        err =
            tls_fault(fault, false, "%s: cannot read the folder: %s", path, weir_files_fault(seen));
    while (!err && (entry = weir_file_next(&entries, &at))) {
        if (!is_cert_file(entry))
            continue;
        count++;
        err = names_add_entry(names, files, path, entry, fault);
    }
    if (!err && count == 0)
        err = tls_fault(fault, false,
                        "%s: holds no certificate; put NAME.pem (certificate and key), or NAME.crt "
                        "and NAME.key there",
                        path);
    weir_file_drop(&entries);
    free(path);
    return err;
}

/* ---- names ---- */

struct claim {
    char *text;
    int cert;
};

struct claims {
    struct claim *at;
    size_t count, room;
    int cert;
    bool failed;
};

static void claim_add(void *arg, struct weir_str name)
{
    struct claims *claims = arg;
    char *text;

    if (name.len == 0 || name.len > TLS_NAME_BYTES_MAX || memchr(name.ptr, 0, name.len))
        return;
    if (claims->count == claims->room) {
        size_t room = claims->room ? claims->room * 2 : 16;
        struct claim *at = realloc(claims->at, room * sizeof(*at));

        if (!at) {
            claims->failed = true;
            return;
        }
        claims->at = at;
        claims->room = room;
    }
    text = weir_str_dup(name);
    if (!text) {
        claims->failed = true;
        return;
    }
    for (char *c = text; *c; c++)
        *c = weir_lower(*c);
    claims->at[claims->count++] = (struct claim){ text, claims->cert };
}

static int claim_order(const void *a, const void *b)
{
    const struct claim *left = a, *right = b;
    int order = strcmp(left->text, right->text);

    return order ? order : left->cert - right->cert;
}

static int group_find(struct tls_names *names, const int choice[TLS_KINDS])
{
    for (size_t i = 0; i < names->group_count; i++)
        if (memcmp(names->groups[i], choice, sizeof(names->groups[i])) == 0)
            return (int)i;
    memcpy(names->groups[names->group_count], choice, sizeof(names->groups[0]));
    return (int)names->group_count++;
}

/* Sorted claims become names, each with its group. */
static void names_group(struct tls_names *names, struct claims *claims)
{
    for (size_t i = 0; i < claims->count;) {
        int choice[TLS_KINDS] = { -1, -1, -1 };
        size_t first = i;

        for (; i < claims->count && strcmp(claims->at[i].text, claims->at[first].text) == 0; i++) {
            int kind = kind_of(&names->certs[claims->at[i].cert]);

            if (choice[kind] < 0)
                choice[kind] = claims->at[i].cert;
        }
        names->names[names->name_count++] =
            (struct tls_name){ claims->at[first].text, group_find(names, choice) };
        claims->at[first].text = NULL;
        for (size_t k = first + 1; k < i; k++) {
            free(claims->at[k].text);
            claims->at[k].text = NULL;
        }
    }
}

/* The first certificate and those that share its first name are the default: they become group 0.
 */
static void names_default(struct tls_names *names, const char *first)
{
    int found = first ? tls_names_find(names, weir_str(first)) : -1;
    int keep[TLS_KINDS], choice[TLS_KINDS] = { -1, -1, -1 };

    if (found < 0) {
        choice[kind_of(&names->certs[0])] = 0;
        found = group_find(names, choice);
    }
    if (found == 0)
        return;
    memcpy(keep, names->groups[0], sizeof(keep));
    memcpy(names->groups[0], names->groups[found], sizeof(keep));
    memcpy(names->groups[found], keep, sizeof(keep));
    for (size_t i = 0; i < names->name_count; i++) {
        int *group = &names->names[i].group;

        *group = *group == 0 ? found : *group == found ? 0 : *group;
    }
}

static int names_sort(struct tls_names *names, struct weir_tls_fault *fault)
{
    struct claims claims = { 0 };
    char *first = NULL;
    int err = 0;

    for (size_t i = 0; i < names->cert_count; i++) {
        claims.cert = (int)i;
        tls_cert_names(&names->certs[i], claim_add, &claims);
        if (i == 0 && claims.count)
            first = strdup(claims.at[0].text);
    }
    if (claims.count)
        qsort(claims.at, claims.count, sizeof(*claims.at), claim_order);
    names->names = calloc(claims.count + 1, sizeof(*names->names));
    names->groups = calloc(claims.count + 1, sizeof(*names->groups));
    if (claims.failed || !names->names || !names->groups) {
        err = tls_fault(fault, false, "out of memory");
        for (size_t i = 0; i < claims.count; i++)
            free(claims.at[i].text);
    } else {
        names_group(names, &claims);
        names_default(names, first);
    }
    free(claims.at);
    free(first);
    return err;
}

int tls_names_load(struct tls_names *names, struct weir_files *files,
                   const struct weir_conf_list *conf, struct weir_tls_fault *fault)
{
    const struct weir_tls_cert_conf *certs = conf->at;
    int err = 0;

    *names = (struct tls_names){ 0 };
    if (conf->count == 0)
        return tls_fault(fault, false,
                         "no certificate is given; say `tls: { cert: FILE, key: FILE }`");
    for (size_t i = 0; i < conf->count && !err; i++)
        err = weir_str_absent(certs[i].dir) || certs[i].dir.len == 0
                  ? names_add(names, files, certs[i].cert, certs[i].key, fault)
                  : names_add_dir(names, files, certs[i].dir, fault);
    if (!err)
        err = names_sort(names, fault);
    if (err)
        tls_names_fini(names);
    return err;
}

void tls_names_fini(struct tls_names *names)
{
    for (size_t i = 0; i < names->cert_count; i++)
        tls_cert_fini(&names->certs[i]);
    for (size_t i = 0; i < names->name_count; i++)
        free(names->names[i].text);
    free(names->certs);
    free(names->names);
    free(names->groups);
    *names = (struct tls_names){ 0 };
}

/* ---- finding ---- */

static int name_order(const void *key, const void *element)
{
    return strcmp(key, ((const struct tls_name *)element)->text);
}

static int names_lookup(const struct tls_names *names, const char *text)
{
    const struct tls_name *name =
        bsearch(text, names->names, names->name_count, sizeof(*names->names), name_order);

    return name ? name->group : -1;
}

int tls_names_find(const struct tls_names *names, struct weir_str host)
{
    char text[TLS_NAME_BYTES_MAX + 1];
    char *dot;
    int group;

    if (host.len && host.ptr[host.len - 1] == '.')
        host.len--;
    if (host.len == 0 || host.len > TLS_NAME_BYTES_MAX || memchr(host.ptr, 0, host.len))
        return -1;
    for (size_t i = 0; i < host.len; i++)
        text[i] = weir_lower(host.ptr[i]);
    text[host.len] = 0;
    group = names_lookup(names, text);
    if (group >= 0)
        return group;
    dot = strchr(text, '.'); /* "*." stands for one whole label (RFC 6125 6.4.3) */
    if (!dot || dot == text)
        return -1;
    *--dot = '*';
    return names_lookup(names, dot);
}
