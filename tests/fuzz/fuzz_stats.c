/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_stats.c -- a file of statistics found in the cache folder. */
#include "fuzz.h"
#include "model/stats_file.h"

static const struct lm_layer_shape layer[2] = { { 2, 1, 5, 0 }, { 0, 0, 3, 0 } };
static const struct lm_arch arch = {
    .struct_size = sizeof arch, .n_layer = 2, .hidden = 4, .head_dim = 2, .vocab = 8,
    .context = 64, .family = "llama", .name = "", .layer = layer };

static double add_up(const struct lm_stats *st)
{
    static const uint32_t site[] = { LM_SITE_ATTN, LM_SITE_MLP, LM_SITE_LAYER };
    double sum = 0;
    for (int32_t l = 0; l < arch.n_layer; l++)
        for (size_t i = 0; i < sizeof site / sizeof *site; i++)
            for (uint32_t stat = 1; stat < LM_N_STATS; stat++) {
                const double *x;
                int64_t n;
                if (lm_stats_find(&st->layout, stat, site[i], l) == NULL)
                    continue;
                FUZZ_CHECK(lm_stats_get(st, stat, site[i], l, &x, &n, NULL) == LM_OK);
                for (int64_t k = 0; k < n; k++)
                    sum += x[k];
            }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint64_t needs = LM_BIT(LM_STAT_SUM) | LM_BIT(LM_STAT_GRAM);
    const uint64_t sites = LM_BIT(LM_SITE_ATTN) | LM_BIT(LM_SITE_MLP);
    struct lm_stats st = { .map.n = 0 };
    struct lm_err e = { 0 };
    volatile double sum = 0;
    int64_t begun = fuzz_begin();
    FUZZ_CHECK(lm_stats_plan(&arch, needs, sites, 0x5eed, 16, &st.layout, &e) == LM_OK);
    FUZZ_CHECK(lm_map_open(&st.map, fuzz_file("stats", data, n), &e) == LM_OK);
    if (lm_stats_head_fits(&st.layout, &st.map))
        sum = add_up(&st);
    (void)sum;
    lm_map_close(&st.map);
    lm_stats_plan_free(&st.layout);
    fuzz_end(begun);
    return 0;
}
