/* SPDX-License-Identifier: Apache-2.0 */
/* stats_file.c -- what sections a file of statistics has, and reading them. */
#include <string.h>

#include "base/mem.h"
#include "model/stats_file.h"

enum { VERSION = 1, ALIGN = 64 };
static const char magic[8] = "LMSTATS";

int64_t lm_stats_width(const struct lm_arch *a, uint32_t site, int32_t layer)
{
    const struct lm_layer_shape *s = &a->layer[layer];
    if (site == LM_SITE_ATTN)
        return (int64_t)s->n_head * a->head_dim;
    return site == LM_SITE_MLP ? s->n_ff : 0;
}

/* Doubles of a section; 0: there is no such section. */
static uint64_t section_size(const struct lm_arch *a, uint32_t stat, uint32_t site,
                             int32_t layer)
{
    uint64_t k = (uint64_t)lm_stats_width(a, site, layer);
    if (stat == LM_STAT_COSINE)
        return site == LM_SITE_LAYER || k > 0;
    if (stat == LM_STAT_ALIGN)
        return site == LM_SITE_LAYER || k > 0 ? 3 : 0;
    return stat == LM_STAT_GRAM ? k * k : k;
}

/* Lays the sections out from `at` on; section may be NULL (to count). */
static uint64_t lay_out(const struct lm_arch *a, uint64_t needs, uint64_t sites,
                        uint64_t at, struct stats_section *section, uint64_t *count)
{
    static const uint32_t site[] = { LM_SITE_ATTN, LM_SITE_MLP, LM_SITE_LAYER };
    *count = 0;
    for (int32_t layer = 0; layer < a->n_layer; layer++)
        for (size_t i = 0; i < sizeof site / sizeof *site; i++)
            for (uint32_t stat = LM_STAT_SUM; stat < LM_N_STATS; stat++) {
                uint64_t n = section_size(a, stat, site[i], layer);
                if (!n || !(needs & LM_BIT(stat)) || !(sites & LM_BIT(site[i])))
                    continue;
                at = (at + ALIGN - 1) / ALIGN * ALIGN;
                if (section)
                    section[*count] = (struct stats_section){ stat, site[i], layer, 0,
                                                              at, n };
                at += n * sizeof(double);
                ++*count;
            }
    return at;
}

int64_t lm_stats_bytes(const struct lm_arch *a, uint64_t needs, uint64_t sites)
{
    uint64_t n;
    lay_out(a, needs, sites, 0, NULL, &n);
    return (int64_t)lay_out(a, needs, sites, sizeof(struct stats_head)
                            + n * sizeof(struct stats_section), NULL, &n);
}

enum lm_status lm_stats_plan(const struct lm_arch *a, uint64_t needs, uint64_t sites,
                             uint64_t key, int64_t tokens, struct stats_layout *out,
                             struct lm_err *e)
{
    uint64_t n, first;
    *out = (struct stats_layout){ 0 };
    lay_out(a, needs, sites, 0, NULL, &n);
    out->section = lm_alloc_array((size_t)n + 1, sizeof *out->section, "statistics");
    if (!out->section)
        return lm_fail_memory(e, (size_t)n * sizeof *out->section, "statistics");
    first = sizeof out->head + n * sizeof *out->section;
    out->head = (struct stats_head){ .version = VERSION, .order = 0x01020304, .key = key,
                                     .tokens = tokens, .n_section = n };
    memcpy(out->head.magic, magic, sizeof magic);
    out->head.bytes = lay_out(a, needs, sites, first, out->section, &n);
    return LM_OK;
}

void lm_stats_plan_free(struct stats_layout *l)
{
    lm_release(l->section);
    *l = (struct stats_layout){ 0 };
}

const struct stats_section *lm_stats_find(const struct stats_layout *l, uint32_t stat,
                                          uint32_t site, int32_t layer)
{
    for (uint64_t i = 0; i < l->head.n_section; i++)
        if (l->section[i].stat == stat && l->section[i].site == site
            && l->section[i].layer == layer)
            return &l->section[i];
    return NULL;
}

static size_t table_bytes(const struct stats_layout *l)
{
    return (size_t)l->head.n_section * sizeof *l->section;
}

void lm_stats_put_head(const struct stats_layout *l, void *data)
{
    memcpy(data, &l->head, sizeof l->head);
    memcpy((char *)data + sizeof l->head, l->section, table_bytes(l));
}

bool lm_stats_head_fits(const struct stats_layout *l, const struct lm_map *m)
{
    return m->n == l->head.bytes && m->n >= sizeof l->head + table_bytes(l)
        && memcmp(m->data, &l->head, sizeof l->head) == 0
        && memcmp((const char *)m->data + sizeof l->head, l->section,
                  table_bytes(l)) == 0;
}

/* ---- reading -------------------------------------------------------------------- */
void lm_stats_close(struct lm_stats *s)
{
    if (!s)
        return;
    lm_map_close(&s->map);
    lm_stats_plan_free(&s->layout);
    lm_release(s);
}

enum lm_status lm_stats_get(const struct lm_stats *s, uint32_t stat, uint32_t site,
                            int32_t layer, const double **out, int64_t *n,
                            struct lm_err *e)
{
    const struct stats_section *x = s ? lm_stats_find(&s->layout, stat, site, layer)
                                      : NULL;
    if (!x)
        return lm_fail(e, LM_EBUG, "statistic %u of site kind %u of layer %d was not "
                       "asked for when statistics were collected", (unsigned)stat,
                       (unsigned)site, layer);
    *out = (const double *)(const void *)((const char *)s->map.data + x->offset);
    *n = (int64_t)x->n;
    return LM_OK;
}

int64_t lm_stats_tokens(const struct lm_stats *s)
{
    return s ? s->layout.head.tokens : 0;
}

uint64_t lm_stats_key(const struct lm_stats *s)
{
    return s->layout.head.key;
}
