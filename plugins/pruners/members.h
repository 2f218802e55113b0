/* SPDX-License-Identifier: Apache-2.0 */
/* members.h -- what of a layer may go, for pruners that choose among the members of all
 * layers: options, and what follows from them.  */
#ifndef PRUNERS_MEMBERS_H
#define PRUNERS_MEMBERS_H

#include <math.h>

#include "plugin.h"

enum attn { NO_ATTN, BY_GROUP, BY_HEAD };

struct members {                        /* first in a plugin's options */
    double  min;                        /* see MEMBER_OPTIONS */
    int64_t min_attn, multiple, attn, first, last;
    bool    ffn;
};

#define MEMBER_SITES (LM_BIT(LM_SITE_FFN_CHANNEL) | LM_BIT(LM_SITE_KV_GROUP) \
                      | LM_BIT(LM_SITE_HEAD))

static const char *const attns[] = { "none", "kv_groups", "heads", NULL };

/* Rows of a table of options. */
#define MEMBER_OPTIONS                                                                  \
    LM_FLAG(struct members, ffn, "true", 0,                                             \
            "FFN channels may go."),                                                    \
    LM_PICK(struct members, attn, "none", attns, 0,                                     \
            "What of attention may go: KV groups with their query heads, or query "     \
            "heads, as many of each group."),                                           \
    LM_REAL(struct members, min, "0.0625", 0, 1000000, NULL, 0,                         \
            "Least width of an MLP: a share of the full width up to 1, above that "     \
            "channels; rounded up to a multiple."),                                     \
    LM_INT(struct members, min_attn, "1", 1, 1000000, NULL, 0,                          \
           "KV groups that a layer keeps at least, or query heads that each of its "    \
           "groups keeps at least."),                                                   \
    LM_INT(struct members, multiple, "32", 1, 65536, "channels", 0,                     \
           "Every width but the full one is a multiple of this, the block of the "      \
           "export format; 1 where that has none."),                                    \
    LM_INT(struct members, first, "0", 0, 1000000, "layers", 0,                         \
           "The first so many layers stay whole."),                                     \
    LM_INT(struct members, last, "0", 0, 1000000, "layers", 0,                          \
           "The last so many layers stay whole.")

/* lm_module.check, where nothing else is to be checked. */
static inline enum lm_status check_members(const struct lm_host *h, const void *config,
                                           struct lm_err *e)
{
    const struct members *m = config;

    return m->ffn || m->attn != NO_ATTN ? LM_OK
        : h->fail(e, LM_ECONFIG, "ffn = false and attn = \"none\" leave nothing to cut; "
                  "set one of them");
}

/* Channels that an MLP of n_ff keeps at least. */
static inline int32_t least_width(const struct members *m, int32_t n_ff)
{
    double least = m->min <= 1 ? m->min * n_ff : m->min, unit = (double)m->multiple;

    return (int32_t)fmin(fmax(ceil(least / unit - 1e-9), 1) * unit, 1e9);
}

/* lm_pruner.ranks: the sites that may lose members. */
static inline uint64_t member_sites(const void *config)
{
    const struct members *m = config;

    return (m->ffn ? LM_BIT(LM_SITE_FFN_CHANNEL) : 0)
         | (m->attn == BY_GROUP ? LM_BIT(LM_SITE_KV_GROUP) : 0)
         | (m->attn == BY_HEAD ? LM_BIT(LM_SITE_HEAD) : 0);
}

/* lm_pruner.shapes, where layers lose different numbers of members. */
static inline uint64_t member_shapes(const void *config)
{
    const struct members *m = config;

    return (m->ffn ? LM_SHAPE_UNEVEN_FF : 0)
         | (m->attn != NO_ATTN ? LM_SHAPE_UNEVEN_HEADS : 0);
}

#endif
