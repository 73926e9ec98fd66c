/* SPDX-License-Identifier: Apache-2.0 */
/** doctor.h: what the checks of `weir doctor` share. */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

#include "daemon/conf.h"

enum finding_state { FINDING_OK, FINDING_WARN, FINDING_OFF, FINDING_BAD };

struct finding {
    enum finding_state state;
    char why[480], todo[320];
};

struct doctor {
    const struct weir_conf *conf; /* NULL: the defaults count */
};

void doctor_say(struct finding *f, enum finding_state state, const char *format, ...)
    WEIR_PRINTF(3, 4);
void doctor_todo(struct finding *f, const char *text);

/* doctor_pipe.c */
void weir_doctor_pipe(const struct doctor *doctor, struct finding *f);

/* doctor_kern.c */
void weir_doctor_sockmap(const struct doctor *doctor, struct finding *f);

#endif
