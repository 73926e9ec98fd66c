/* SPDX-License-Identifier: Apache-2.0 */
/** doctor_kern.c: loads what the kernel would have to take, tries it over loopback, and leaves nothing of it. */
#include "cli/doctor.h"

#include "loader/loader.h"

/* "good: both directions, half-close, ...; FIONREAD: why not" */
static void tell(struct finding *f, const struct weir_splice_finding *findings, int count,
                 const char *note)
{
    char text[sizeof(f->why)] = "", others[sizeof(f->why)] = "";
    size_t len = 0, more = 0;

    for (int i = 0; i < count; i++) {
        const struct weir_splice_finding *one = &findings[i];

        if (one->good && len < sizeof(text))
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", len ? ", " : "",
                                    one->name);
        else if (!one->good && more < sizeof(others))
            more += (size_t)snprintf(others + more, sizeof(others) - more, "; %s", one->why);
    }
    doctor_say(f, FINDING_OK, "good here: %s%s%s%s", text, others, note[0] ? "; " : "", note);
}

void weir_doctor_sockmap(const struct doctor *doctor, struct finding *f)
{
    struct weir_splice_finding findings[WEIR_SPLICE_FINDINGS_MAX] = { { NULL } };
    const struct weir_splice_finding *bad;
    struct weir_kern_opts opts = { .size = sizeof(opts) };
    struct weir_kern_fault fault = { "", "" };
    struct weir_splice_kern *table = NULL;
    struct weir_kern_state state;
    struct weir_kern *kern;
    int count;

    (void)doctor;
    if (weir_kern_open(&kern, &opts, &fault)) {
        doctor_say(f, FINDING_OFF, "%s; tunnels are copied", fault.text);
        doctor_todo(f, fault.todo);
        return;
    }
    weir_kern_state(kern, &state);
    count = weir_splice_use(weir_kern_splice_fds(kern), &table);
    if (!count)
        count = weir_splice_selftest(table, 0, findings);
    bad = count < 0 ? NULL : weir_splice_refuted(findings, count);
    if (count < 0)
        doctor_say(f, FINDING_OFF, "it cannot be tried: %s; tunnels are copied", strerror(-count));
    else if (bad)
        doctor_say(f, FINDING_OFF, "%s: %s; tunnels are copied", bad->name, bad->why);
    else if (!state.looks)
        doctor_say(f, FINDING_OFF, "it needs CAP_PERFMON as well; tunnels are copied");
    else
        tell(f, findings, count, state.note);
    if (table)
        weir_splice_done(&table);
    weir_kern_close(&kern, true);
}
