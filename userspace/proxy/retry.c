/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/retry.h"

static unsigned when_of(const struct weir_error *error, enum weir_retried *why)
{
    if (error->code == WEIR_EQUEUE) /* under load a second wait would make it worse for all */
        return 0;
    if (error->retry == WEIR_RETRY_UNSENT) { /* there was no connection to send it on */
        *why = WEIR_RETRIED_connect;
        return WEIR_RETRY_ON_CONNECT;
    }
    switch (error->code) {
    case WEIR_EUPTIME:
    case WEIR_EUPIDLE:
        *why = WEIR_RETRIED_timeout;
        return WEIR_RETRY_ON_TIMEOUT;
    case WEIR_EUPRESET:
    case WEIR_EUPSTREAM:
    case WEIR_EUPCANCEL:
    case WEIR_EUPCALM:
    case WEIR_EUPCLOSED:
    case WEIR_EUPHEAD:
    case WEIR_EUPFRAMING:
    case WEIR_EUPBODY:
        *why = WEIR_RETRIED_reset;
        return WEIR_RETRY_ON_RESET;
    default:
        return 0; /* the same again would end the same way */
    }
}

static bool status_retried(const struct weir_retry_conf *conf, int status)
{
    if (!(conf->when & WEIR_RETRY_ON_STATUS))
        return false;
    for (unsigned i = 0;
         i < sizeof(conf->statuses) / sizeof(conf->statuses[0]) && conf->statuses[i]; i++)
        if (conf->statuses[i] == status)
            return true;
    return false;
}

/* May it be sent again without being run twice against the client's will? */
static bool safe_again(const struct weir_retry_input *in, enum weir_retry class)
{
    switch (class) {
    case WEIR_RETRY_UNSENT:
    case WEIR_RETRY_UNPROCESSED:
        return true;
    case WEIR_RETRY_IDEMPOTENT_ONLY:
        return in->idempotent || in->conf->any_method;
    default:
        return false;
    }
}

enum weir_retry_verdict weir_retry_decide(const struct weir_retry_input *in, enum weir_retried *why)
{
    unsigned when;

    *why = WEIR_RETRIED_connect;
    if (in->head_sent || !in->replayable)
        return WEIR_AGAIN_NO;
    if (!in->error) {
        *why = WEIR_RETRIED_status;
        return status_retried(in->conf, in->status) && in->attempts < in->conf->attempts &&
                       (in->idempotent || in->conf->any_method)
                   ? WEIR_AGAIN
                   : WEIR_AGAIN_NO;
    }
    if (in->reused && !in->first_byte && !in->stale_retried &&
        (in->idempotent || in->error->retry >= WEIR_RETRY_UNPROCESSED) &&
        (in->error->code == WEIR_EUPRESET || in->error->code == WEIR_EUPCLOSED)) {
        *why = WEIR_RETRIED_stale;
        return WEIR_AGAIN_FRESH;
    }
    if (in->attempts >= in->conf->attempts || !safe_again(in, in->error->retry))
        return WEIR_AGAIN_NO;
    when = when_of(in->error, why);
    if (in->error->retry == WEIR_RETRY_UNPROCESSED) {
        when = WEIR_RETRY_ON_UNPROCESSED;
        *why = WEIR_RETRIED_unprocessed;
    }
    return in->conf->when & when ? WEIR_AGAIN : WEIR_AGAIN_NO;
}

enum { TOKENS_MAX = 1000 };

static void budget_fill(struct weir_budget *budget, uint64_t now_ms)
{
    double grown;

    if (!budget->filled_ms) {
        budget->tokens = WEIR_RETRY_BUDGET_FLOOR;
        budget->filled_ms = now_ms;
    }
    if (now_ms <= budget->filled_ms)
        return;
    grown = budget->tokens + (double)(now_ms - budget->filled_ms) * WEIR_RETRY_BUDGET_FLOOR / 1000;
    budget->filled_ms = now_ms;
    if (budget->tokens < WEIR_RETRY_BUDGET_FLOOR) /* what is always allowed is not saved up */
        budget->tokens = grown < WEIR_RETRY_BUDGET_FLOOR ? grown : WEIR_RETRY_BUDGET_FLOOR;
}

void weir_budget_earn(struct weir_budget *budget, double share, uint64_t now_ms)
{
    budget_fill(budget, now_ms);
    if (budget->tokens < TOKENS_MAX)
        budget->tokens += share;
}

bool weir_budget_spend(struct weir_budget *budget, uint64_t now_ms)
{
    budget_fill(budget, now_ms);
    if (budget->tokens < 1)
        return false;
    budget->tokens -= 1;
    return true;
}
