/* SPDX-License-Identifier: Apache-2.0 */
/* activity.c -- scorer: the root mean square of what a site puts out.
 *
 * The calibration pass leaves for each layer the sum of squares of every input of
 * the consumer matrix: LM_SITE_MLP has one for each FFN channel, LM_SITE_ATTN
 * head_dim for each query head, heads of a KV group side by side.  A site that is
 * rarely active matters little, whatever reads it; `wanda` also looks at that.
 *
 * What to learn here: `needs` declares statistics, so that the calibration pass
 * makes them; n tells how many sites there are, so the numbers of a site are
 * simply its share of the row.                                               */
#include "plugin.h"

#include <math.h>

struct scorer { const struct lm_host *host; const struct lm_stats *stats; };

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct scorer *s = a->host->alloc(sizeof *s, "activity");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    *s = (struct scorer){ a->host, a->stats };
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct scorer *s = self;

    s->host->release(s);
}

static enum lm_status score(void *self, uint32_t site, int32_t layer, double *out,
                            int64_t n, struct lm_err *e)
{
    const struct scorer *s = self;
    uint32_t where = site == LM_SITE_FFN_CHANNEL ? LM_SITE_MLP : LM_SITE_ATTN;
    const double *sum;
    int64_t width;
    enum lm_status st =
        s->host->stat(s->stats, LM_STAT_SUMSQ, where, layer, &sum, &width, e);

    if (st)
        return st;
    if (n < 1 || width % n)
        return s->host->fail(e, LM_EBUG, "layer %d: %lld numbers for %lld sites",
                             (int)layer, (long long)width, (long long)n);
    for (int64_t i = 0; i < n; i++) {
        double all = 0;

        for (int64_t j = i * (width / n); j < (i + 1) * (width / n); j++)
            all += sum[j];
        out[i] = sqrt(all / (double)s->host->stat_tokens(s->stats));
    }
    return LM_OK;
}

static const struct lm_scorer ops = { .struct_size = sizeof ops,
                                      .sites = LM_BIT(LM_SITE_FFN_CHANNEL) |
                                               LM_BIT(LM_SITE_KV_GROUP) |
                                               LM_BIT(LM_SITE_HEAD),
                                      .needs = LM_BIT(LM_STAT_SUMSQ),
                                      .score = score };

const struct lm_module *lm_plugin(void)
{
    static const struct lm_module module = {
        LM_MODULE_HEAD(SCORER), .name = "activity", .version = "1.0",
        .license = "Apache-2.0", .author = "Lamina",
        .summary = "how active a site is on the calibration text",
        .create = create, .destroy = destroy, .ops = &ops
    };

    return &module;
}
