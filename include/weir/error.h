/* SPDX-License-Identifier: Apache-2.0 */
/**
 * error.h: everything that can go wrong, one row each.
 *
 * A row gives the name, the code, the HTTP status that a client gets when the error ends its request, the gRPC status
 * (https://grpc.github.io/grpc/core/md_doc_statuscodes.html), the log level and the sentence for people. The enum, the
 * texts, the statuses and the manual are made of these rows.
 */
#ifndef WEIR_ERROR_H
#define WEIR_ERROR_H

#include "weir/log.h"
#include "weir/types.h"

WEIR_BEGIN

/* clang-format off */
#define WEIR_ERRORS(X)                                                                                    \
    /* ours */                                                                                            \
    X(EINTERNAL,     -1000, 500, 13, ERROR, "internal error")                                             \
    X(ENOMEM,        -1001, 503,  8, WARN,  "out of memory")                                              \
    X(EOVERLOAD,     -1002, 503,  8, WARN,  "the memory limit is reached; new work is refused")           \
    X(ECANCELED,     -1003, 499,  1, DEBUG, "cancelled")                                                  \
    X(ESHUTDOWN,     -1004, 503, 14, INFO,  "shutting down")                                              \
    X(EINVAL,        -1005, 500, 13, ERROR, "invalid argument")                                           \
    X(ESYS,          -1006, 500, 13, ERROR, "a system call failed")                                       \
    X(EFILTER,       -1007, 500, 13, WARN,  "a filter ended the request")                                 \
    X(EFRAMING,      -1008, 500, 13, ERROR, "framing fields are set by weir alone")                       \
    X(EMATCHLIMIT,   -1009, 500, 13, WARN,  "a pattern needed more steps than its limit")                 \
    X(ENOSPACE,      -1010, 500, 13, WARN,  "a fixed-size buffer is full")                                \
    X(EAGAIN,        -1011, 500, 13, DEBUG, "more bytes are needed")                                      \
    /* the client's request */                                                                            \
    X(EBADREQ,       -1100, 400,  3, INFO,  "malformed request")                                          \
    X(EBADLINE,      -1101, 400,  3, INFO,  "malformed request line")                                     \
    X(EBADHEADER,    -1102, 400,  3, INFO,  "malformed header field")                                     \
    X(EBADHOST,      -1103, 400,  3, INFO,  "Host is missing, repeated or malformed")                     \
    X(EBADTE,        -1104, 400,  3, INFO,  "Transfer-Encoding is malformed or not allowed here")         \
    X(EBADCL,        -1105, 400,  3, INFO,  "Content-Length is malformed, repeated or not allowed here")  \
    X(EBADCHUNK,     -1106, 400,  3, INFO,  "malformed chunk")                                            \
    X(EBADTRAILER,   -1107, 400,  3, INFO,  "malformed or forbidden trailer field")                       \
    X(EBADPATH,      -1108, 400,  3, INFO,  "the path has a byte or an escape that is not allowed")       \
    X(EBADTARGET,    -1109, 400,  3, INFO,  "the request target has a form that is not allowed here")     \
    X(EHDRSIZE,      -1110, 431,  3, INFO,  "the header section is too large")                            \
    X(EHDRCOUNT,     -1111, 431,  3, INFO,  "there are too many header fields")                           \
    X(EURISIZE,      -1112, 414,  3, INFO,  "the request target is too long")                             \
    X(EVERSION,      -1113, 505,  3, INFO,  "this HTTP version is not spoken here")                       \
    X(ETENOTIMPL,    -1114, 501, 12, INFO,  "this transfer coding is not implemented")                    \
    X(EMETHOD,       -1115, 405, 12, INFO,  "this method is not allowed here")                            \
    X(EBODYSIZE,     -1116, 413,  8, INFO,  "the body is larger than allowed")                            \
    X(EEXPECT,       -1117, 417,  3, INFO,  "this expectation is not supported")                          \
    X(EUNDERSCORE,   -1118, 400,  3, INFO,  "a header name with an underscore")                           \
    X(EMISDIRECTED,  -1119, 421,  3, INFO,  "this host is not served on this TLS connection")             \
    X(ENOROUTE,      -1120, 404, 12, INFO,  "no route matches")                                           \
    X(EDENIED,       -1121, 403,  7, INFO,  "denied")                                                     \
    X(ERATE,         -1122, 429,  8, INFO,  "rate limit exceeded")                                        \
    X(EHEADTIME,     -1123, 408,  4, INFO,  "the request head did not arrive in time")                    \
    X(EBODYTIME,     -1124, 408,  4, INFO,  "the request body did not arrive in time")                    \
    X(ESENDTIME,     -1125, 408,  4, INFO,  "the client does not read")                                   \
    X(ECLIENTGONE,   -1126, 499,  1, INFO,  "the client closed the connection")                           \
    X(ETRUNCATED,    -1127, 400, 13, INFO,  "the TLS connection ended without close_notify")              \
    X(EUPGRADE,      -1128, 400,  3, INFO,  "a malformed request to upgrade")                             \
    X(EBADFRAME,     -1129, 400, 13, INFO,  "a malformed HTTP/2 frame, or one that is not allowed here")  \
    X(EFLOOD,        -1130, 429,  8, WARN,  "more frames of one kind than allowed")                       \
    X(ENOUPGRADE,    -1131, 501, 12, INFO,  "this upgrade is not allowed here")                           \
    /* the upstream */                                                                                    \
    X(ENOPEER,       -1200, 503, 14, WARN,  "no server of the upstream is usable")                        \
    X(ECONNREFUSED,  -1201, 502, 14, WARN,  "the upstream refused the connection")                        \
    X(ECONNECT,      -1202, 502, 14, WARN,  "the connection to the upstream failed")                      \
    X(ECONNTIME,     -1203, 504, 14, WARN,  "the upstream did not accept the connection in time")         \
    X(EUPTLS,        -1204, 502, 14, WARN,  "the TLS handshake with the upstream failed")                 \
    X(EUPVERIFY,     -1205, 502, 14, WARN,  "the certificate of the upstream was not accepted")           \
    X(EUPRESET,      -1206, 502, 14, WARN,  "the upstream reset the connection")                          \
    X(EUPCLOSED,     -1207, 502, 14, WARN,  "the upstream closed the connection before its answer")       \
    X(EUPBODY,       -1208, 502, 14, WARN,  "the upstream ended in the middle of the body")               \
    X(EUPHEAD,       -1209, 502, 14, WARN,  "the upstream sent a malformed head")                         \
    X(EUPFRAMING,    -1210, 502, 14, WARN,  "the upstream sent malformed framing")                        \
    X(EUPTIME,       -1211, 504,  4, WARN,  "the upstream did not answer in time")                        \
    X(EUPIDLE,       -1212, 504,  4, WARN,  "the upstream stopped in the middle of the body")             \
    X(EUPSIZE,       -1213, 502, 14, WARN,  "the head of the upstream's answer is too large")             \
    X(EQUEUE,        -1214, 503,  8, WARN,  "no connection to the upstream became free in time")          \
    X(EREQTIME,      -1215, 504,  4, WARN,  "the request took longer than allowed")                       \
    X(EDNS,          -1216, 502, 14, WARN,  "the name of the upstream has no usable address")             \
    X(EUPSWITCH,     -1217, 502, 14, WARN,  "the upstream switched protocols without being asked")        \
    X(EUPREFUSED,    -1218, 503, 14, WARN,  "the upstream did not take the request (REFUSED_STREAM, GOAWAY)") \
    X(EUPNOUPGRADE,  -1219, 502, 14, WARN,  "the upstream does not take this upgrade")                    \
    X(EUPHTTP1,      -1220, 502, 13, WARN,  "the upstream wants HTTP/1.1 for this (HTTP_1_1_REQUIRED)")   \
    X(EUPSTREAM,     -1221, 502, 13, WARN,  "the upstream reset the stream")                              \
    X(EUPCANCEL,     -1222, 502,  1, WARN,  "the upstream reset the stream (CANCEL)")                     \
    X(EUPCALM,       -1223, 502,  8, WARN,  "the upstream reset the stream (ENHANCE_YOUR_CALM)")          \
    /* connections in general */                                                                          \
    X(ERESET,        -1300, 502, 14, DEBUG, "connection reset by the peer")                               \
    X(ECLOSED,       -1301, 502, 14, DEBUG, "connection closed by the peer")                              \
    X(ETIMEDOUT,     -1302, 504,  4, DEBUG, "timed out")                                                  \
    X(ETLS,          -1303, 400, 14, INFO,  "the TLS handshake failed")                                   \
    X(ETLSTIME,      -1304, 408,  4, INFO,  "the TLS handshake took too long")                            \
    X(EMFILE,        -1305, 503,  8, WARN,  "no file descriptor is free")                                 \
    X(EADDRINUSE,    -1306, 500, 13, ERROR, "the address is in use")                                      \
    X(EADDR,         -1307, 500, 13, ERROR, "not an address")                                             \
    X(EACCESS,       -1308, 500, 13, ERROR, "permission denied")                                          \
    X(ENOENT,        -1309, 404,  5, INFO,  "there is no such thing")                                     \
    X(EEXISTS,       -1310, 409,  6, INFO,  "exists already")                                             \
    X(ECONFIG,       -1311, 500, 13, ERROR, "the configuration has errors")                               \
    X(ELIMIT,        -1312, 503,  8, WARN,  "a limit is reached")                                         \
    X(ENOPORT,       -1313, 503,  8, WARN,  "no local port is free")                                      \
    X(ETWICE,        -1315, 502, 14, INFO,  "the peer has sent bytes again in a way that a sockmap cannot follow (splice: sockmap)")     \
    X(EORPHAN,       -1316, 502, 14, INFO,  "the process that served it before was ended while it had bytes of it") \
    X(ENOSOURCE,     -1314, 503,  8, WARN,  "the source address of the upstream is not an address of this host")
/* clang-format on */

#define WEIR_ERROR_ENUM(name, code, http, grpc, level, text) WEIR_##name = (code),
enum weir_err { WEIR_OK = 0, WEIR_ERRORS(WEIR_ERROR_ENUM) };
#undef WEIR_ERROR_ENUM

/** Who is to blame. */
enum weir_by { WEIR_BY_US = 0, WEIR_BY_CLIENT, WEIR_BY_UPSTREAM };

/** Whether the same request may be sent again after this error (ARCHITECTURE, "Retry"). */
enum weir_retry {
    WEIR_RETRY_NO = 0,
    WEIR_RETRY_IDEMPOTENT_ONLY, /* it may have been processed */
    WEIR_RETRY_UNPROCESSED,     /* the protocol says that it was not processed */
    WEIR_RETRY_UNSENT,          /* not one byte left this host */
};

/** One failure, as it travels. The first one of a request wins. */
struct weir_error {
    enum weir_err code;
    enum weir_by by;
    enum weir_retry retry;
    int sys;           /* errno, or 0 */
    const char *where; /* static text: the phase or function; may be NULL */
};

/** The name of a code without its prefix ("ECONNREFUSED"), "OK" for 0, "EUNKNOWN" otherwise. Static. */
WEIR_API const char *weir_err_name(enum weir_err code);
/** The sentence of a code. Static. */
WEIR_API const char *weir_err_text(enum weir_err code);
/** The HTTP status that ends a request which failed so; 500 for an unknown code. */
WEIR_API int weir_err_status(enum weir_err code);
WEIR_API int weir_err_grpc(enum weir_err code);
WEIR_API enum weir_log_level weir_err_level(enum weir_err code);
/** "client", "upstream", "us". Static. */
WEIR_API const char *weir_by_name(enum weir_by by);
/** Translates errno of a socket call; unknown ones are WEIR_ESYS. */
WEIR_API enum weir_err weir_err_from_errno(int sys);

WEIR_END
#endif
