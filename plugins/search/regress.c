/* SPDX-License-Identifier: Apache-2.0 */
/* regress.c -- see regress.h.
 *
 * Ridge with an intercept, in its dual form: with K the centred Gram matrix of n rows,
 * a = (K + alpha I)^-1 (y - mean y), and a row with products k to the others has the
 * prediction mean y + sum_i a_i (k_i - mean_i).  Householder's reduction K = Q T Q^T
 * costs 4/3 n^3 once; then each alpha costs a tridiagonal solve, and predictions are
 * made of rows turned by Q^T: u^T (Q^T k), u = Q^T a.
 *
 * Support vectors (Smola & Scholkopf 2004): sequential minimal optimisation.  With
 * F = y - K beta the solution has a b with F_i = b where |beta_i| < c, F_i >= b where
 * beta_i = c and F_i <= b where beta_i = -c.  While the largest F among those that may
 * grow exceeds the least among those that may shrink by more than 1e-3, the pair moves
 * that gains most to second order (Fan, Chen & Lin 2005).  A box that grows keeps the
 * solution feasible, so a path over c starts each from the last.                 */
#include "regress.h"

#include <math.h>
#include <string.h>

#define TOLERANCE 1e-3
#define FLAT 1e-12                      /* least curvature along a move */

/* ---- ridge ----------------------------------------------------------------- */
void regress_centre(double *k, size_t n, double *mean)
{
    double all = 0;

    for (size_t i = 0; i < n; i++) {
        mean[i] = 0;
        for (size_t j = 0; j < n; j++)
            mean[i] += k[i * n + j];
        mean[i] /= (double)n;
        all += mean[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            k[i * n + j] += all - mean[i] - mean[j];
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum[4] = { 0 };
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        for (size_t k = 0; k < 4; k++)
            sum[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        sum[0] += a[i] * b[i];
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

/* x becomes the unit vector v of the reflection I - 2 v v^T that takes it to a multiple
 * of the first axis, which is returned; v is 0 where nothing is to be done.      */
static double reflector(double *x, size_t n)
{
    double tail = dot(x + 1, x + 1, n - 1), to, length;

    if (tail == 0) {
        to = x[0];
        memset(x, 0, n * sizeof *x);
        return to;
    }
    to = -copysign(sqrt(tail + x[0] * x[0]), x[0]);
    x[0] -= to;
    length = sqrt(tail + x[0] * x[0]);
    for (size_t i = 0; i < n; i++)
        x[i] /= length;
    return to;
}

/* With q = 2 A v and w = q - (v^T q) v the reflected A is A - v w^T - w v^T. */
void regress_tridiagonal(double *a, size_t n, double *diag, double *off, double *work)
{
    for (size_t k = 0; k < n; k++) {
        double *v = a + k * n + k + 1, along;
        size_t m = n - k - 1;

        diag[k] = a[k * n + k];
        if (m == 0)
            return;
        off[k] = reflector(v, m);
        for (size_t i = 0; i < m; i++)
            work[i] = 2 * dot(a + (k + 1 + i) * n + k + 1, v, m);
        along = dot(work, v, m);
        for (size_t i = 0; i < m; i++)
            work[i] -= along * v[i];
        for (size_t i = 0; i < m; i++) {
            double *row = a + (k + 1 + i) * n + k + 1, vi = v[i], wi = work[i];
            for (size_t j = 0; j < m; j++)
                row[j] -= vi * work[j] + wi * v[j];
        }
    }
}

void regress_turn(const double *a, size_t n, double *x)
{
    for (size_t k = 0; k + 1 < n; k++) {
        const double *v = a + k * n + k + 1;
        double *part = x + k + 1, along = 2 * dot(v, part, n - k - 1);
        for (size_t i = 0; i < n - k - 1; i++)
            part[i] -= along * v[i];
    }
}

void regress_solve(const double *diag, const double *off, size_t n, double alpha,
                   const double *z, double *u, double *work)
{
    for (size_t i = 0; i < n; i++) {        /* L D L^T: work holds D, u L^-1 z */
        double factor = i ? off[i - 1] / work[i - 1] : 0;
        work[i] = diag[i] + alpha - (i ? factor * off[i - 1] : 0);
        u[i] = z[i] - (i ? factor * u[i - 1] : 0);
    }
    for (size_t i = n; i-- > 0;)
        u[i] = (u[i] - (i + 1 < n ? off[i] * u[i + 1] : 0)) / work[i];
}

/* ---- support vectors ------------------------------------------------------- */
void svr_start(struct svr *s)
{
    memset(s->beta, 0, s->n * sizeof *s->beta);
    memcpy(s->rest, s->y, s->n * sizeof *s->rest);
}

/* Who has the largest rest among those that may grow; *low: the least of those that may
 * shrink.  Takes t times the difference of two rows off all rests first.         */
static size_t advance(struct svr *s, double t, const double *ki, const double *kj,
                      double *low)
{
    double high = -INFINITY, least = INFINITY, c = s->c;
    size_t up = s->n;

    for (size_t r = 0; r < s->n; r++) {
        double x = s->rest[r] -= t * (ki[r] - kj[r]);
        if (s->beta[r] < c && x > high) {
            high = x;
            up = r;
        }
        if (s->beta[r] > -c && x < least)
            least = x;
    }
    *low = least;
    return up;
}

/* Who shrinks while i grows. */
static size_t partner(const struct svr *s, size_t i)
{
    const double *k = s->k + i * s->n;
    double gain = -1, high = s->rest[i], c = s->c;
    size_t best = s->n;

    for (size_t j = 0; j < s->n; j++) {
        double d = high - s->rest[j], bend = 2 - 2 * k[j];
        if (s->beta[j] <= -c || d <= 0)
            continue;
        bend = bend > FLAT ? bend : FLAT;
        if (d * d > gain * bend) {
            gain = d * d / bend;
            best = j;
        }
    }
    return best;
}

void svr_solve(struct svr *s)
{
    size_t most = 20000 + 200 * s->n, n = s->n;
    double low, high, t;
    size_t i = advance(s, 0, s->k, s->k, &low);

    for (size_t step = 0; i < n && s->rest[i] - low > TOLERANCE && step < most; step++) {
        size_t j = partner(s, i);
        const double *ki = s->k + i * n, *kj = s->k + j * n;

        t = fmin((s->rest[i] - s->rest[j]) / fmax(2 - 2 * ki[j], FLAT),
                 fmin(s->c - s->beta[i], s->beta[j] + s->c));
        s->beta[i] = t == s->c - s->beta[i] ? s->c : s->beta[i] + t;
        s->beta[j] = t == s->beta[j] + s->c ? -s->c : s->beta[j] - t;
        i = advance(s, t, ki, kj, &low);
    }
    high = i < n ? s->rest[i] : low;
    s->b = isfinite(low) ? (low + high) / 2 : high;
    s->inside = true;
    for (size_t k = 0; k < n; k++)
        s->inside &= fabs(s->beta[k]) < s->c;
}
