/* SPDX-License-Identifier: Apache-2.0 */
/* knapsack.c -- multiple-choice knapsack by dynamic programming.
 *
 * With sizes in whole bins above each class's smallest, w_gl >= 0,
 *
 *   F_0(c) = 0,   F_g(c) = min over l of F_{g-1}(c - w_gl) + loss_gl,  c = 0 .. bins-1
 *
 * (Kellerer, Pferschy & Pisinger, Knapsack Problems, 2004, section 11.5).  One
 * table serves all capacities.  Everett's multipliers (1963) find only the convex
 * hull of these solutions; the table finds all and is just as quick here: 150
 * classes of 20 levels in 16384 bins take about 50 ms.
 *
 * Where all sizes are whole numbers (bytes, parameters) with a large enough common
 * divisor, that divisor is the bin and the result is exact.  Otherwise sizes are
 * rounded to the nearest bin, for always rounding up would give away up to half a
 * bin per class; then the choices around the wanted bin are checked with their true
 * sizes, the best that fits is taken, and what is left of the capacity is filled
 * greedily.  So a choice never exceeds its capacity (but for a relative 1e-9, which
 * is the rounding of sums).                                                     */
#include "knapsack.h"

#include <math.h>
#include <string.h>

enum { BINS = 16384, EXACT_BINS = 65536, CELLS = 1 << 25 };

struct knapsack {
    const struct lm_host *h;
    const struct knapsack_class *cls;
    size_t    n, bins;
    double    unit, smallest, slop;     /* slop: rounding allowed in sums         */
    bool      exact;
    uint16_t *smallest_level;           /* [n]                                    */
    uint16_t *choice;                   /* [n][bins]                              */
    uint16_t *scratch;                  /* [n]                                    */
};

/* ---- bins ------------------------------------------------------------------ */
static double floor_of(const struct knapsack *k, size_t g)
{
    return k->cls[g].size[k->smallest_level[g]];
}

static void find_smallest(struct knapsack *k)
{
    for (size_t g = 0; g < k->n; g++) {
        const struct knapsack_class *c = &k->cls[g];
        uint32_t best = c->n;
        for (uint32_t l = 0; l < c->n; l++)
            if (c->allowed[l] && (best == c->n || c->size[l] < c->size[best]))
                best = l;
        k->smallest_level[g] = (uint16_t)best;
        k->smallest += c->size[best];
    }
}

/* Greatest common divisor of all sizes above the smallest; 0: not all whole. */
static double common_divisor(const struct knapsack *k)
{
    double divisor = 0;

    for (size_t g = 0; g < k->n; g++) {
        const struct knapsack_class *c = &k->cls[g];
        for (uint32_t l = 0; l < c->n; l++) {
            double a = c->allowed[l] ? c->size[l] - floor_of(k, g) : 0, b = divisor;
            if (fabs(a - floor(a + .5)) > 1e-6 || a > 9e15)
                return 0;
            for (a = floor(a + .5); a > 0;) {
                double rest = fmod(b, a);
                b = a;
                a = rest;
            }
            divisor = b;
        }
    }
    return divisor;
}

static void choose_bins(struct knapsack *k, double limit)
{
    double largest = k->smallest, span, gcd = common_divisor(k);
    size_t most = CELLS / k->n > 1024 ? CELLS / k->n : 1024;

    for (size_t g = 0; g < k->n; g++) {
        double top = floor_of(k, g);
        for (uint32_t l = 0; l < k->cls[g].n; l++)
            if (k->cls[g].allowed[l])
                top = fmax(top, k->cls[g].size[l]);
        largest += top - floor_of(k, g);
    }
    k->slop = 1e-9 * (fabs(largest) + fabs(k->smallest));
    span = fmax(fmin(limit, largest) - k->smallest, 0);
    k->exact = gcd > 0 && span / gcd < (double)(most < EXACT_BINS ? most : EXACT_BINS);
    if (k->exact || span == 0) {
        k->exact = true;
        k->unit = gcd > 0 ? gcd : 2 * k->slop + 1e-300;
        k->bins = (size_t)floor(span / k->unit + 1e-6) + 1;
    } else {
        size_t bins = most < BINS ? most : BINS;
        k->unit = span / (double)bins;
        k->bins = bins + k->n + 1;      /* room for choices whose bins round up */
    }
}

/* ---- the table ------------------------------------------------------------- */
static size_t weight(const struct knapsack *k, size_t g, uint32_t l)
{
    double w = floor((k->cls[g].size[l] - floor_of(k, g)) / k->unit + .5);
    return w < (double)k->bins ? (size_t)w : k->bins;
}

static void fill_table(struct knapsack *k, double *before, double *now)
{
    for (size_t g = 0; g < k->n; g++) {
        const struct knapsack_class *cls = &k->cls[g];
        uint16_t *choice = k->choice + g * k->bins;
        double *t;

        for (size_t c = 0; c < k->bins; c++)
            now[c] = INFINITY;
        for (uint32_t l = 0; l < cls->n; l++) {
            size_t w = cls->allowed[l] ? weight(k, g, l) : k->bins;
            double loss = cls->allowed[l] ? cls->loss[l] : 0;
            for (size_t c = w; c < k->bins; c++)
                if (before[c - w] + loss < now[c]) {
                    now[c] = before[c - w] + loss;
                    choice[c] = (uint16_t)l;
                }
        }
        t = before;
        before = now;
        now = t;
    }
}

enum lm_status knapsack_open(const struct lm_host *h, const struct knapsack_class *cls,
                             size_t n, double limit, struct knapsack **out,
                             struct lm_err *e)
{
    struct knapsack *k = h->alloc(sizeof *k, "search/lagrangian");
    double *row = NULL;

    if (!k)
        return h->fail(e, LM_ENOMEM, "out of memory for the knapsack table");
    *k = (struct knapsack){ .h = h, .cls = cls, .n = n };
    k->smallest_level = h->alloc(n * sizeof *k->smallest_level, "search/lagrangian");
    k->scratch = h->alloc(n * sizeof *k->scratch, "search/lagrangian");
    if (k->smallest_level && k->scratch) {
        find_smallest(k);
        choose_bins(k, limit);
        k->choice = h->alloc(n * k->bins * sizeof *k->choice, "search/lagrangian");
        row = h->alloc(2 * k->bins * sizeof *row, "search/lagrangian");
    }
    if (!k->choice || !row) {
        h->release(row);
        knapsack_close(k);
        return h->fail(e, LM_ENOMEM, "out of memory for the knapsack table");
    }
    fill_table(k, row, row + k->bins);
    h->release(row);
    *out = k;
    return LM_OK;
}

void knapsack_close(struct knapsack *k)
{
    if (!k)
        return;
    k->h->release(k->smallest_level);
    k->h->release(k->choice);
    k->h->release(k->scratch);
    k->h->release(k);
}

/* ---- choices --------------------------------------------------------------- */
double knapsack_smallest(const struct knapsack *k)
{
    return k->smallest;
}

void knapsack_pick_smallest(const struct knapsack *k, uint16_t *level)
{
    memcpy(level, k->smallest_level, k->n * sizeof *level);
}

static void backtrack(const struct knapsack *k, size_t bin, uint16_t *level)
{
    for (size_t g = k->n; g-- > 0;) {
        level[g] = k->choice[g * k->bins + bin];
        bin -= weight(k, g, level[g]);
    }
}

static void sums(const struct knapsack *k, const uint16_t *level, double *loss,
                 double *size)
{
    *loss = *size = 0;
    for (size_t g = 0; g < k->n; g++) {
        *loss += k->cls[g].loss[level[g]];
        *size += k->cls[g].size[level[g]];
    }
}

/* Spends what is left of the capacity, the largest gain first. */
static void fill_up(const struct knapsack *k, double capacity, uint16_t *level)
{
    double loss, size;

    for (;;) {
        double gain = 0;
        size_t best = k->n;
        uint16_t to = 0;

        sums(k, level, &loss, &size);
        for (size_t g = 0; g < k->n; g++) {
            const struct knapsack_class *c = &k->cls[g];
            for (uint32_t l = 0; l < c->n; l++)
                if (c->allowed[l] && c->loss[level[g]] - c->loss[l] > gain
                    && size + c->size[l] - c->size[level[g]] <= capacity) {
                    gain = c->loss[level[g]] - c->loss[l];
                    best = g;
                    to = (uint16_t)l;
                }
        }
        if (best == k->n)
            return;
        level[best] = to;
    }
}

bool knapsack_pick(const struct knapsack *k, double capacity, uint16_t *level)
{
    double best = INFINITY, loss, size, top;
    size_t bin, centre;

    if (!(capacity + k->slop >= k->smallest))
        return false;
    top = floor((capacity + k->slop - k->smallest) / k->unit);
    centre = top < (double)(k->bins - 1) ? (size_t)top : k->bins - 1;
    if (k->exact) {
        backtrack(k, centre, level);
        return true;
    }
    knapsack_pick_smallest(k, level);
    bin = centre + k->n < k->bins ? centre + k->n : k->bins - 1;
    for (;; bin--) {
        backtrack(k, bin, k->scratch);
        sums(k, k->scratch, &loss, &size);
        if (size <= capacity + k->slop && loss < best) {
            best = loss;
            memcpy(level, k->scratch, k->n * sizeof *level);
        }
        if (bin == 0 || (bin <= centre && best < INFINITY))
            break;
    }
    fill_up(k, capacity, level);
    return true;
}
