/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h -- places at which the residual stream is read, for scores of its channels
 * (LM_SITE_HIDDEN): the input of each block, and of the head.  What reads channel j is
 * column j of W diag(g), with the matrices W behind a norm of weight g.      */
#ifndef LM_SCORERS_STREAM_H
#define LM_SCORERS_STREAM_H
#include "columns.h"

struct stream_place {
    uint32_t site;                      /* of its statistics */
    int32_t  layer;
    uint32_t norm, reader[3];           /* roles; 0: no more */
};

/* How many there may be, and number i; false: the model has no such block. */
static inline int stream_count(const struct columns *p)
{
    return 2 * p->arch->n_layer + 1;
}

static inline bool stream_find(const struct columns *p, int i, struct stream_place *out)
{
    static const struct stream_place kind[3] = {
        { LM_SITE_ATTN, 0, LM_W_ATTN_NORM, { LM_W_Q, LM_W_K, LM_W_V } },
        { LM_SITE_MLP, 0, LM_W_MLP_NORM, { LM_W_GATE, LM_W_UP, 0 } },
        { LM_SITE_HIDDEN, -1, LM_W_FINAL_NORM, { LM_W_HEAD, 0, 0 } }
    };
    bool last = i == stream_count(p) - 1;

    *out = kind[last ? 2 : i % 2];
    if (last)
        out->reader[0] = p->arch->tied ? LM_W_EMBED : LM_W_HEAD;
    else
        out->layer = i / 2;
    return last || (i % 2 ? p->arch->layer[i / 2].n_ff : p->arch->layer[i / 2].n_kv) > 0;
}

/* n: how many scores the host wants. */
static inline enum lm_status stream_check(const struct columns *p, int64_t n,
                                          struct lm_err *e)
{
    return n == p->arch->hidden ? LM_OK
         : p->host->fail(e, LM_EBUG, "%lld scores are wanted for %d channels of the "
                         "residual stream", (long long)n, p->arch->hidden);
}
#endif
