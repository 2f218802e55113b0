/* SPDX-License-Identifier: Apache-2.0 */
/* stats_file.c -- what sections a file of statistics has, and reading them. */
#include <string.h>

#include "base/linalg.h"
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

/* Columns of x; 0: the site has no such statistic. */
static uint64_t columns(const struct lm_arch *a, uint32_t stat, uint32_t site,
                        int32_t layer)
{
    bool stream = stat == LM_STAT_STREAM;
    if (site == LM_SITE_HIDDEN)
        return stream ? (uint64_t)a->hidden : 0;
    uint64_t k = (uint64_t)lm_stats_width(a, site, layer);
    return stream && k ? (uint64_t)a->hidden : k;
}

/* Doubles of a section; 0: there is no such section. */
static uint64_t section_size(const struct lm_arch *a, uint32_t stat, uint32_t site,
                             int32_t layer, int64_t tokens, int32_t *width)
{
    uint64_t k = columns(a, stat, site, layer);
    bool square = stat == LM_STAT_GRAM || stat == LM_STAT_STREAM;
    *width = square && tokens < 2 * (int64_t)k ? (int32_t)k : 0;
    if (*width)
        return ((uint64_t)tokens * k + 1) / 2;
    if (stat == LM_STAT_CROSS)
        return 0;
    if (stat == LM_STAT_COSINE)
        return site == LM_SITE_LAYER || k > 0;
    if (stat == LM_STAT_ALIGN)
        return site == LM_SITE_LAYER || k > 0 ? 3 : 0;
    return square ? k * k : k;
}

/* Lays the sections out from `at` on; section may be NULL (to count). */
static uint64_t lay_out(const struct lm_arch *a, uint64_t needs, uint64_t sites,
                        int64_t tokens, uint64_t at, struct stats_section *section,
                        uint64_t *count)
{
    static const uint32_t site[] = { LM_SITE_HIDDEN, LM_SITE_ATTN, LM_SITE_MLP,
                                     LM_SITE_LAYER };
    *count = 0;
    for (int32_t layer = -1; layer < a->n_layer; layer++)
        for (size_t i = 0; i < sizeof site / sizeof *site; i++)
            for (uint32_t stat = LM_STAT_SUM; stat < LM_N_STATS; stat++) {
                int32_t width;
                if ((site[i] == LM_SITE_HIDDEN) != (layer < 0))
                    continue;
                uint64_t n = section_size(a, stat, site[i], layer, tokens, &width);
                if (!n || !(needs & LM_BIT(stat)) || !(sites & LM_BIT(site[i])))
                    continue;
                at = (at + ALIGN - 1) / ALIGN * ALIGN;
                if (section)
                    section[*count] = (struct stats_section){ stat, site[i], layer,
                                                              width, at, n };
                at += n * sizeof(double);
                ++*count;
            }
    return at;
}

int64_t lm_stats_bytes(const struct lm_arch *a, uint64_t needs, uint64_t sites,
                       int64_t tokens)
{
    uint64_t n;
    lay_out(a, needs, sites, tokens, 0, NULL, &n);
    return (int64_t)lay_out(a, needs, sites, tokens, sizeof(struct stats_head)
                            + n * sizeof(struct stats_section), NULL, &n);
}

enum lm_status lm_stats_plan(const struct lm_arch *a, uint64_t needs, uint64_t sites,
                             uint64_t key, int64_t tokens, struct stats_layout *out,
                             struct lm_err *e)
{
    uint64_t n, first;
    *out = (struct stats_layout){ 0 };
    lay_out(a, needs, sites, tokens, 0, NULL, &n);
    out->section = lm_alloc_array((size_t)n + 1, sizeof *out->section, "statistics");
    if (!out->section)
        return lm_fail_memory(e, (size_t)n * sizeof *out->section, "statistics");
    first = sizeof out->head + n * sizeof *out->section;
    out->head = (struct stats_head){ .version = VERSION, .order = 0x01020304, .key = key,
                                     .tokens = tokens, .n_section = n };
    memcpy(out->head.magic, magic, sizeof magic);
    out->head.bytes = lay_out(a, needs, sites, tokens, first, out->section, &n);
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

/* ---- Gram matrices of rows --------------------------------------------------------- */
static void add_lower(double *to, const float *from, int64_t k)
{
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j <= i; j++)
            to[i * k + j] += (double)from[i * k + j];
}

static void mirror(double *g, int64_t k)
{
    enum { TILE = 32 };                 /* columns are read a cache line at a time */
    for (int64_t i0 = 0; i0 < k; i0 += TILE)
        for (int64_t j0 = i0; j0 < k; j0 += TILE)
            for (int64_t i = i0; i < i0 + TILE && i < k; i++)
                for (int64_t j = j0 > i ? j0 : i + 1; j < j0 + TILE && j < k; j++)
                    g[i * k + j] = g[j * k + i];
}

/* Group by group, as the calibration pass adds them up.  out: zeros. */
static enum lm_status sum_rows(const struct lm_stats *s, const struct stats_section *x,
                               double *out, struct lm_err *e)
{
    const float *rows = (const void *)((const char *)s->map.data + x->offset);
    int64_t k = x->width, tokens = s->layout.head.tokens;
    float *part = lm_alloc_array((size_t)(k * k), sizeof *part, "statistics");
    if (!part)
        return lm_fail_memory(e, (size_t)(k * k) * sizeof *part, "statistics");
    for (int64_t at = 0; at < tokens; at += s->group) {
        int64_t n = tokens - at < s->group ? tokens - at : s->group;
        lm_syrk(n, k, rows + at * k, k, 0, part, k);
        add_lower(out, part, k);
    }
    mirror(out, k);
    lm_release(part);
    return LM_OK;
}

/* Under the lock; kept in a nameless file until the statistics are closed. */
static enum lm_status find_made(struct lm_stats *s, const struct stats_section *x,
                                const double **out, struct lm_err *e)
{
    size_t bytes = (size_t)x->width * (size_t)x->width * sizeof(double);
    struct stats_made *m = s->made;
    void *data;
    while (m && m->of != x)
        m = m->next;
    if (m) {
        *out = m->gram;
        return LM_OK;
    }
    if (!(m = lm_alloc(sizeof *m, "statistics")))
        return lm_fail_memory(e, sizeof *m, "statistics");
    enum lm_status st = lm_scratch_open(s->folder, bytes, &data, e);
    if (!st && (st = sum_rows(s, x, data, e)))
        lm_scratch_close(data, bytes);
    if (st) {
        lm_release(m);
        return st;
    }
    *m = (struct stats_made){ x, data, s->made };
    s->made = m;
    *out = m->gram;
    return LM_OK;
}

/* ---- reading -------------------------------------------------------------------- */
void lm_stats_close(struct lm_stats *s)
{
    if (!s)
        return;
    for (struct stats_made *m; (m = s->made);) {
        s->made = m->next;
        lm_scratch_close(m->gram, (size_t)m->of->width * (size_t)m->of->width
                                  * sizeof(double));
        lm_release(m);
    }
    pthread_mutex_destroy(&s->lock);
    lm_release(s->folder);
    lm_map_close(&s->map);
    lm_stats_plan_free(&s->layout);
    lm_release(s);
}

static enum lm_status find(const struct lm_stats *s, uint32_t stat, uint32_t site,
                           int32_t layer, const struct stats_section **x,
                           struct lm_err *e)
{
    *x = s ? lm_stats_find(&s->layout, stat, site, layer) : NULL;
    return *x ? LM_OK
              : lm_fail(e, LM_EBUG, "statistic %u of site kind %u of layer %d was not "
                        "asked for when statistics were collected", (unsigned)stat,
                        (unsigned)site, layer);
}

static const double *doubles(const struct lm_stats *s, const struct stats_section *x)
{
    return (const double *)(const void *)((const char *)s->map.data + x->offset);
}

enum lm_status lm_stats_get(const struct lm_stats *stats, uint32_t stat, uint32_t site,
                            int32_t layer, const double **out, int64_t *n,
                            struct lm_err *e)
{
    struct lm_stats *s = (struct lm_stats *)stats;      /* only what is made changes */
    const struct stats_section *x;
    enum lm_status st = find(s, stat, site, layer, &x, e);
    if (st)
        return st;
    if (!x->width) {
        *out = doubles(s, x);
        *n = (int64_t)x->n;
        return LM_OK;
    }
    *n = (int64_t)x->width * x->width;
    pthread_mutex_lock(&s->lock);
    st = find_made(s, x, out, e);
    pthread_mutex_unlock(&s->lock);
    return st;
}

enum lm_status lm_stats_gram(const struct lm_stats *s, uint32_t site, int32_t layer,
                             const int32_t *column, int64_t k, double *out,
                             struct lm_err *e)
{
    const struct stats_section *x;
    double *own = NULL;
    enum lm_status st = find(s, LM_STAT_GRAM, site, layer, &x, e);
    if (st)
        return st;
    if (x->width ? x->width != k : x->n != (uint64_t)(k * k))
        return lm_fail(e, LM_EBUG, "a Gram matrix of layer %d is not of %lld columns",
                       layer, (long long)k);
    if (x->width && !(own = lm_alloc_array((size_t)(k * k), sizeof *own, "statistics")))
        return lm_fail_memory(e, (size_t)(k * k) * sizeof *own, "statistics");
    if (own)
        st = sum_rows(s, x, own, e);
    const double *from = own ? own : doubles(s, x);
    for (int64_t i = 0; i < k && !st; i++)
        for (int64_t j = 0; j < k; j++)
            out[i * k + j] = from[column[i] * k + column[j]];
    lm_release(own);
    return st;
}

int64_t lm_stats_tokens(const struct lm_stats *s)
{
    return s ? s->layout.head.tokens : 0;
}

uint64_t lm_stats_key(const struct lm_stats *s)
{
    return s->layout.head.key;
}
