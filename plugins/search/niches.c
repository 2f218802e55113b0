/* SPDX-License-Identifier: Apache-2.0 */
/* niches.c -- see niches.h.
 *
 * Normalisation: objective j becomes (f_j - ideal_j) / scale_j.  The extreme point of
 * axis j is the one with the least max_k (f_k - ideal_k) / w_k, w = 1 on the axis and
 * 1e-6 elsewhere; scale are the intercepts of the plane through all of them.  Where
 * these are on no plane, or it cuts an axis behind the ideal point or beyond all
 * points, scale is the extent of the front, and where that is nothing, 1.        */
#include "niches.h"

#include <math.h>
#include <string.h>

size_t niches_count(size_t n_obj, size_t divisions)
{
    double n = 1;

    for (size_t i = 1; i < n_obj; i++)
        n = floor(n * (double)(divisions + i) / (double)i + 0.5);
    return n < 1e15 ? (size_t)n : SIZE_MAX;
}

static size_t most_divisions(size_t n_obj, size_t most)
{
    size_t p = 1;

    while (n_obj > 1 && niches_count(n_obj, p + 1) <= most)
        p++;
    return p;
}

/* All points with multiples of 1 / divisions, in lexicographic order, drawn towards
 * the centre by 1 - reach.  part [n_obj] is scratch.                             */
static void fill(double *out, size_t n_obj, size_t divisions, double reach,
                 double *part)
{
    size_t n = niches_count(n_obj, divisions);
    double p = (double)divisions, left;

    memset(part, 0, n_obj * sizeof *part);
    part[n_obj - 1] = p;
    for (size_t i = 0; i < n; i++, out += n_obj) {
        double length = 0;
        size_t k = n_obj - 1;
        for (size_t j = 0; j < n_obj; j++) {
            out[j] = reach * part[j] / p + (1 - reach) / (double)n_obj;
            length += out[j] * out[j];
        }
        for (size_t j = 0; j < n_obj; j++)
            out[j] /= sqrt(length);
        while (k > 0 && part[k] == 0)           /* the last that is not 0 gives one */
            k--;
        if (k == 0)
            return;
        left = part[k] - 1;
        part[k] = 0;
        part[k - 1]++;
        part[n_obj - 1] = left;
    }
}

enum lm_status niches_open(struct niches *s, size_t divisions, size_t inner, size_t most,
                           struct lm_err *e)
{
    size_t m = s->n_obj, p = divisions ? divisions : most_divisions(m, most), layer;

    layer = niches_count(m, p);
    s->n = inner ? niches_count(m, inner) : 0;
    if (layer > most || s->n > most - layer)
        return s->h->fail(e, LM_ECONFIG, "search '%s': %zu divisions of %zu objectives "
                          "give more directions than the population of %zu; lower "
                          "divisions or raise population", s->tag, p, m, most);
    s->n += layer;
    s->direction = s->h->alloc(s->n * m * sizeof *s->direction, s->tag);
    s->ideal = s->h->alloc(m * sizeof *s->ideal, s->tag);
    s->scale = s->h->alloc(m * sizeof *s->scale, s->tag);
    s->extreme = s->h->alloc(m * m * sizeof *s->extreme, s->tag);
    s->work = s->h->alloc(m * (m + 1) * sizeof *s->work, s->tag);
    if (!s->direction || !s->ideal || !s->scale || !s->extreme || !s->work)
        return s->h->fail(e, LM_ENOMEM, "out of memory for %zu directions", s->n);
    for (size_t j = 0; j < m; j++) {
        s->ideal[j] = INFINITY;
        s->scale[j] = 1;
    }
    for (size_t j = 0; j < m * m; j++)
        s->extreme[j] = INFINITY;
    fill(s->direction, m, p, 1, s->work);
    if (inner)
        fill(s->direction + layer * m, m, inner, 0.5, s->work);
    return LM_OK;
}

void niches_close(struct niches *s)
{
    if (!s->h)
        return;
    s->h->release(s->direction);
    s->h->release(s->ideal);
    s->h->release(s->scale);
    s->h->release(s->extreme);
    s->h->release(s->work);
}

/* How far from axis j. */
static double off_axis(const struct niches *s, const double *f, size_t j)
{
    double worst = -INFINITY;

    for (size_t k = 0; k < s->n_obj; k++)
        worst = fmax(worst, (f[k] - s->ideal[k]) * (k == j ? 1 : 1e6));
    return worst;
}

/* Solves for the plane sum_k x_k a_k = 1 through the extreme points and puts 1 / a
 * into scale; Gaussian elimination with row pivots.                              */
static bool plane(struct niches *s)
{
    size_t m = s->n_obj, w = m + 1;
    double *a = s->work;

    for (size_t i = 0; i < m; i++) {
        for (size_t k = 0; k < m; k++)
            a[i * w + k] = s->extreme[i * m + k] - s->ideal[k];
        a[i * w + m] = 1;
    }
    for (size_t i = 0; i < m; i++) {
        size_t pivot = i;
        for (size_t r = i + 1; r < m; r++)
            if (fabs(a[r * w + i]) > fabs(a[pivot * w + i]))
                pivot = r;
        for (size_t k = 0; k < w; k++) {
            double t = a[i * w + k];
            a[i * w + k] = a[pivot * w + k];
            a[pivot * w + k] = t;
        }
        if (!(fabs(a[i * w + i]) > 1e-300))
            return false;
        for (size_t r = 0; r < m; r++) {
            double factor = r == i ? 0 : a[r * w + i] / a[i * w + i];
            for (size_t k = i; k < w && factor != 0; k++)
                a[r * w + k] -= factor * a[i * w + k];
        }
    }
    for (size_t i = 0; i < m; i++)
        s->scale[i] = a[i * w + i] / a[i * w + m];
    return true;
}

static double extent(const struct niches *s, const double *const *f, size_t n, size_t j)
{
    double top = s->ideal[j];

    for (size_t i = 0; i < n; i++)
        top = fmax(top, f[i][j]);
    return top - s->ideal[j];
}

void niches_update(struct niches *s, const double *const *f, size_t n, size_t n_front)
{
    size_t m = s->n_obj;
    bool sound;

    for (size_t i = 0; i < n_front; i++)
        for (size_t j = 0; j < m; j++)
            s->ideal[j] = fmin(s->ideal[j], f[i][j]);
    for (size_t j = 0; j < m; j++)
        for (size_t i = 0; i < n; i++)
            if (off_axis(s, f[i], j) < off_axis(s, s->extreme + j * m, j))
                memcpy(s->extreme + j * m, f[i], m * sizeof *s->extreme);
    sound = n > 0 && plane(s);
    for (size_t j = 0; sound && j < m; j++)
        sound = s->scale[j] > 1e-9 * extent(s, f, n, j)
             && s->scale[j] <= extent(s, f, n, j) * (1 + 1e-9);
    for (size_t j = 0; !sound && j < m; j++) {
        s->scale[j] = extent(s, f, n_front, j);
        if (!(s->scale[j] > 0))
            s->scale[j] = 1;
    }
}

size_t niches_nearest(const struct niches *s, const double *f, double *distance)
{
    size_t best = 0, m = s->n_obj;
    double *x = s->work, length = 0, most = -INFINITY;

    for (size_t j = 0; j < m; j++) {
        x[j] = (f[j] - s->ideal[j]) / s->scale[j];
        length += x[j] * x[j];
    }
    for (size_t i = 0; i < s->n; i++) {
        const double *w = s->direction + i * m;
        double along = 0;
        for (size_t j = 0; j < m; j++)
            along += x[j] * w[j];
        if (along > most) {
            most = along;
            best = i;
        }
    }
    *distance = sqrt(fmax(length - most * most, 0));
    return best;
}
