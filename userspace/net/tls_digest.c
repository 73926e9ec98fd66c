/* SPDX-License-Identifier: Apache-2.0 */
/** tls_digest.c: what is in the files that a configuration names, as a digest: has one of them changed? */
#include "net/tls_impl.h"

#include "base/files.h"
#include "base/str.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>

/* One that cannot be read is told by whoever uses it; here it is like an empty one. */
static bool add_file(EVP_MD_CTX *md, struct weir_files *files, struct weir_str path)
{
    char *name = weir_str_absent(path) || !path.len ? NULL : weir_str_dup(path);
    struct weir_file file = { 0 };
    bool done = EVP_DigestUpdate(md, name ? "+" : "-", 1) == 1;

    if (name && weir_files_read(files, name, WEIR_PEM_BYTES_MAX, &file) == 0) {
        done = done && EVP_DigestUpdate(md, &file.len, sizeof(file.len)) == 1 &&
               EVP_DigestUpdate(md, file.data, file.len) == 1;
        weir_file_drop(&file);
    }
    free(name);
    return done;
}

int tls_digest(struct weir_files *files, const struct weir_str *paths, size_t count,
               uint8_t out[TLS_DIGEST_BYTES])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool done = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;

    for (size_t i = 0; i < count && done; i++)
        done = add_file(md, files, paths[i]);
    done = done && EVP_DigestFinal_ex(md, out, NULL) == 1;
    EVP_MD_CTX_free(md);
    ERR_clear_error();
    return done ? 0 : WEIR_EINTERNAL;
}

uint64_t weir_tls_client_stamp(const struct weir_tls_client_conf *conf)
{
    const struct weir_str paths[] = { conf->ca, conf->cert, conf->key };
    uint8_t digest[TLS_DIGEST_BYTES];
    uint64_t stamp;

    if (tls_digest(conf->files, paths, sizeof(paths) / sizeof(paths[0]), digest))
        return 0;
    memcpy(&stamp, digest, sizeof(stamp));
    return stamp;
}
