/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/door.h"

#include "base/str.h"
#include "proxy/worker.h"

#include <stdlib.h>

struct weir_door *weir_door_new(struct weir_str name, struct weir_worker *all, unsigned workers)
{
    struct weir_door *door = calloc(1, sizeof(*door) + workers * sizeof(door->at[0]));

    if (!door)
        return NULL;
    door->refs = 1;
    door->workers = workers;
    weir_list_init(&door->rows);
    for (unsigned w = 0; w < workers; w++) {
        struct weir_wlistener *wl = &door->at[w];

        wl->worker = &all[w];
        wl->door = door;
        weir_list_init(&wl->link);
        for (int state = 0; state < WEIR_SESSION_STATES; state++)
            weir_list_init(&wl->sessions[state]);
    }
    door->name = weir_str_dup(name);
    if (!door->name || weir_gate_init(&door->gate, 0, 0)) {
        weir_door_put(door);
        return NULL;
    }
    return door;
}

void weir_door_put(struct weir_door *door)
{
    if (--door->refs)
        return;
    weir_assert(weir_list_empty(&door->rows));
    weir_gate_fini(&door->gate);
    free(door->name);
    free(door);
}

struct weir_route_row *weir_door_row(struct weir_door *door, struct weir_str name, unsigned nth)
{
    struct weir_route_row *row;

    weir_list_each(pos, next, &door->rows)
    {
        row = weir_list_entry(pos, struct weir_route_row, link);
        if (row->nth != nth || !weir_str_eq(weir_str(row->name), name))
            continue;
        row->refs++;
        return row;
    }
    row = calloc(1, sizeof(*row) + door->workers * sizeof(row->at[0]));
    if (!row)
        return NULL;
    row->refs = 1;
    row->nth = nth;
    row->name = weir_str_dup(name);
    if (!row->name) {
        free(row);
        return NULL;
    }
    weir_list_push_back(&door->rows, &row->link);
    return row;
}

void weir_route_row_put(struct weir_route_row *row)
{
    if (--row->refs)
        return;
    weir_list_remove(&row->link);
    free(row->name);
    free(row);
}
