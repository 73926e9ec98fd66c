/* SPDX-License-Identifier: Apache-2.0 */
/** list.h: a circular doubly linked list whose links live in the structs. A link that is in no list
 * points to itself. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/panic.h"

#include <stdbool.h>

struct weir_list {
    struct weir_list *next, *prev;
};

static inline void weir_list_init(struct weir_list *list)
{
    list->next = list->prev = list;
}

static inline bool weir_list_empty(const struct weir_list *list)
{
    return list->next == list;
}

static inline void weir_list_insert_(struct weir_list *link, struct weir_list *prev,
                                     struct weir_list *next)
{
    link->prev = prev;
    link->next = next;
    prev->next = link;
    next->prev = link;
}

static inline void weir_list_push_front(struct weir_list *list, struct weir_list *link)
{
    weir_list_insert_(link, list, list->next);
}

static inline void weir_list_push_back(struct weir_list *list, struct weir_list *link)
{
    weir_list_insert_(link, list->prev, list);
}

/** Out of its list; harmless when it is in none. */
static inline void weir_list_remove(struct weir_list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    weir_list_init(link);
}

static inline struct weir_list *weir_list_pop_front(struct weir_list *list)
{
    struct weir_list *first = list->next;

    if (first == list)
        return NULL;
    weir_list_remove(first);
    return first;
}

/** Moves all of `from` to the (empty) `to`. */
static inline void weir_list_take_all(struct weir_list *to, struct weir_list *from)
{
    weir_list_init(to);
    if (weir_list_empty(from))
        return;
    weir_list_insert_(to, from->prev, from->next);
    weir_list_init(from);
}

#define weir_list_entry(link, type, member) weir_container(link, type, member)
/** The loop body may remove the current link. */
#define weir_list_each(pos, tmp, list)                                          \
    for (struct weir_list *pos = (list)->next, *tmp = pos->next; pos != (list); \
         pos = tmp, tmp = pos->next)

#endif
