/* SPDX-License-Identifier: Apache-2.0 */
/**
 * message.h: the head of a request or an answer, or a trailer section, whatever protocol carried it.
 *
 * A message lives in the arena of its request: names and values given to the setters are copied there, those that are
 * handed out are borrowed until the request ends or the field is changed. Field names compare without case. Fields that
 * frame a message or belong to one hop (Content-Length, Transfer-Encoding, Connection, TE, Trailer, Upgrade, Keep-Alive,
 * Proxy-Connection) are weir's own: the setters refuse them with WEIR_EFRAMING. One thread: the request's worker.
 */
#ifndef WEIR_MESSAGE_H
#define WEIR_MESSAGE_H

#include "weir/error.h"
#include "weir/types.h"

WEIR_BEGIN

struct weir_message;

/** The first field of that name; {NULL, 0} when there is none. */
WEIR_API struct weir_str weir_message_get(const struct weir_message *msg, const char *name);
/** Replaces every field of that name by one. 0, WEIR_EINVAL (bytes that RFC 9110 5.5 forbids), WEIR_EFRAMING, WEIR_ENOMEM. */
WEIR_API int weir_message_set(struct weir_message *msg, const char *name,
                              struct weir_str value) WEIR_MUST_CHECK;
/** Adds a field after those that are there. Errors as weir_message_set. */
WEIR_API int weir_message_add(struct weir_message *msg, const char *name,
                              struct weir_str value) WEIR_MUST_CHECK;
/** Removes every field of that name; returns how many there were, or WEIR_EFRAMING. */
WEIR_API int weir_message_remove(struct weir_message *msg, const char *name);
/** Visits fields in order: start with *at = 0; false at the end. */
WEIR_API bool weir_message_next(const struct weir_message *msg, size_t *at, struct weir_str *name,
                                struct weir_str *value);

/** Requests. The path begins with '/' (or is "*"), without the query; the query is without '?', absent when there is none. */
WEIR_API struct weir_str weir_message_method(const struct weir_message *msg);
WEIR_API struct weir_str weir_message_path(const struct weir_message *msg);
WEIR_API struct weir_str weir_message_query(const struct weir_message *msg);
/** Host as the client sent it, with the port if it had one. */
WEIR_API struct weir_str weir_message_host(const struct weir_message *msg);
WEIR_API int weir_message_set_method(struct weir_message *msg,
                                     struct weir_str method) WEIR_MUST_CHECK;
/** `path` begins with '/'; bytes outside RFC 3986 are refused with WEIR_EBADPATH. `query` absent: none. */
WEIR_API int weir_message_set_path(struct weir_message *msg, struct weir_str path,
                                   struct weir_str query) WEIR_MUST_CHECK;
WEIR_API int weir_message_set_host(struct weir_message *msg, struct weir_str host) WEIR_MUST_CHECK;

/** Answers. */
WEIR_API int weir_message_status(const struct weir_message *msg);
/** 200 to 599; WEIR_EINVAL otherwise. */
WEIR_API int weir_message_set_status(struct weir_message *msg, int status) WEIR_MUST_CHECK;

WEIR_END
#endif
