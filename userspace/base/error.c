/* SPDX-License-Identifier: Apache-2.0 */
#include "weir/error.h"

#include <errno.h>

struct row {
    const char *name, *text;
    short code, http, grpc;
    enum weir_log_level level;
};

#define ROW(n, c, h, g, l, t) { #n, t, c, h, g, WEIR_LOG_##l },
static const struct row rows[] = { WEIR_ERRORS(ROW) };
#undef ROW

static const struct row *row_of(enum weir_err code)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].code == (int)code)
            return &rows[i];
    return NULL;
}

const char *weir_err_name(enum weir_err code)
{
    const struct row *row = row_of(code);
    return row ? row->name : code == WEIR_OK ? "OK" : "EUNKNOWN";
}

const char *weir_err_text(enum weir_err code)
{
    const struct row *row = row_of(code);
    return row ? row->text : code == WEIR_OK ? "no error" : "unknown error";
}

int weir_err_status(enum weir_err code)
{
    const struct row *row = row_of(code);
    return row ? row->http : 500;
}

int weir_err_grpc(enum weir_err code)
{
    const struct row *row = row_of(code);
    return row ? row->grpc : code == WEIR_OK ? 0 : 2;
}

enum weir_log_level weir_err_level(enum weir_err code)
{
    const struct row *row = row_of(code);
    return row ? row->level : WEIR_LOG_ERROR;
}

const char *weir_by_name(enum weir_by by)
{
    return by == WEIR_BY_CLIENT ? "client" : by == WEIR_BY_UPSTREAM ? "upstream" : "us";
}

enum weir_err weir_err_from_errno(int sys)
{
    switch (sys) {
    case ECONNREFUSED:
        return WEIR_ECONNREFUSED;
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
        return WEIR_ERESET;
    case ETIMEDOUT:
        return WEIR_ETIMEDOUT;
    case EMFILE:
    case ENFILE:
        return WEIR_EMFILE;
    case ENOMEM:
    case ENOBUFS:
        return WEIR_ENOMEM;
    case EADDRINUSE:
        return WEIR_EADDRINUSE;
    case EACCES:
    case EPERM:
        return WEIR_EACCESS;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EADDRNOTAVAIL:
        return WEIR_ECONNECT;
    case ENOENT:
        return WEIR_ENOENT;
    default:
        return WEIR_ESYS;
    }
}
