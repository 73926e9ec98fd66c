/* SPDX-License-Identifier: Apache-2.0 */
/** h1_pass.c: body bytes that pass by: whoever has the socket moves them, the codec counts. */
#include "http/h1_priv.h"

uint64_t weir_h1_pass_in(struct weir_hstream *hs, uint64_t bytes)
{
    struct weir_h1 *h1 = weir_h1_of(hs->codec);

    if (h1->hs != hs || h1->dead || h1->in != H1_IN_LENGTH)
        return 0;
    weir_assert(bytes <= h1->left_in);
    h1->left_in -= bytes;
    if (h1->left_in)
        return h1->left_in;
    h1->in = H1_IN_DONE;
    hs->sink->on_end(hs->arg);
    return 0;
}

uint64_t weir_h1_pass_out(struct weir_hstream *hs, uint64_t bytes)
{
    struct weir_h1 *h1 = weir_h1_of(hs->codec);

    if (h1->hs != hs || h1->dead || h1->out != H1_OUT_BODY || h1->out_body != WEIR_BODY_LENGTH)
        return 0;
    weir_assert(bytes <= h1->left_out);
    h1->left_out -= bytes;
    return h1->left_out;
}
