/* SPDX-License-Identifier: Apache-2.0 */
/* race.c -- see race.h for the rule and its formulas. */
#include "study/race.h"

#include <math.h>

#include "base/mem.h"

struct standing {                       /* of a contender */
    bool   racing;                      /* neither stopped nor at its end */
    size_t rung;                        /* that it has seen, or is being run to */
    struct lm_race_end end;
};

/* Racers are numbered members first, then contenders. */
struct lm_race {
    struct lm_race_rules rules;
    const struct lm_racer *member, *contender;
    size_t n_member, n_contender;
    struct standing *state;             /* [n_contender] */
    bool   *whole;                      /* [racers] seen to the end: may be opponents */
    double *mean;                       /* [racers][n_sampled] of the whole ones, of all
                                           items, smaller is better */
    double *gap, *error;                /* [n_contender][n_sampled] of the stopped */
    size_t *rival;                      /* [racers] opponents of one test */
};

/* Abramowitz and Stegun, Handbook of Mathematical Functions, eqs. 26.7.3, 26.7.4. */
double lm_student_tail(double t, int64_t n)
{
    double angle = atan(t / sqrt((double)n)), c = cos(angle), sum = 0, term;

    if (n < 1 || isnan(t))
        return 1;
    if (isinf(t))
        return t > 0 ? 0 : 1;
    term = n % 2 ? c : 1;
    for (int64_t k = n % 2 ? 3 : 2; k <= n; k += 2) {
        sum += term;
        term *= c * c * (double)(k - 1) / (double)k;
    }
    double within = n % 2 ? 2 / 3.14159265358979323846 * (angle + sin(angle) * sum)
                          : sin(angle) * sum;
    return fmin(fmax((1 - within) / 2, 0), 1);
}

/* ---- two racers ------------------------------------------------------------------ */

static const struct lm_racer *racer(const struct lm_race *r, size_t i)
{
    return i < r->n_member ? &r->member[i] : &r->contender[i - r->n_member];
}

static int64_t seen_at(const struct lm_race *r, size_t rung, size_t objective)
{
    return r->rules.seen[rung * r->rules.n_sampled + objective];
}

static double ratio(const struct lm_sum *s, int64_t n, double *weight)
{
    double v = 0, w = 0;

    for (int64_t i = 0; i < n; i++) {
        v += s[i].value;
        w += s[i].weight;
    }
    *weight = w;
    return v / w;
}

/* Probability that c is not worse than d over all items; gap > 0: it is worse on
 * those seen.                                                                     */
static double doubt(const struct lm_race *r, size_t k, const struct lm_racer *c,
                    const struct lm_racer *d, int64_t n, double *gap, double *error)
{
    const struct lm_sum *x = c->sum[k], *y = d->sum[k];
    double wx, wy, rest = 0;
    double rx = ratio(x, n, &wx), ry = ratio(y, n, &wy);
    double unseen = 1 - (double)n / (double)seen_at(r, r->rules.n_rung, k);

    *gap = r->rules.maximise[k] ? ry - rx : rx - ry;
    *error = NAN;
    if (n < 2 || !(wx > 0) || !(wy > 0) || !(*gap > 0))
        return 1;
    for (int64_t i = 0; i < n; i++) {
        double z = (x[i].value - rx * x[i].weight) / wx -
                   (y[i].value - ry * y[i].weight) / wy;
        rest += z * z;
    }
    *error = sqrt(fmax(unseen, 0) * (double)n / (double)(n - 1) * rest);
    return rest > 0 ? lm_student_tail(*gap / *error, n - 1) : pow(0.5, (double)n);
}

/* May d beat c, as far as exact numbers say? */
static bool may_beat(const struct lm_race *r, const struct lm_racer *d,
                     const struct lm_racer *c)
{
    for (size_t k = 0; k < r->rules.n_exact; k++)
        if (!(d->exact[k] <= c->exact[k]))
            return false;
    for (size_t b = 0; b < r->rules.n_bound; b++)   /* what c will break is not known */
        if (!(d->excess[b] <= (isnan(c->excess[b]) ? 0 : c->excess[b])))
            return false;
    return true;
}

/* Beaten in every sampled objective?  gap and error [n_sampled] say by how much. */
static bool is_beaten(const struct lm_race *r, size_t c, const struct lm_racer *d,
                      double alpha, double *gap, double *error)
{
    for (size_t k = 0; k < r->rules.n_sampled; k++)
        if (!(doubt(r, k, &r->contender[c], d, seen_at(r, r->state[c].rung, k), &gap[k],
                    &error[k]) < alpha))
            return false;
    return true;
}

/* Is contender c behind contender d, by the items that both have seen? */
static bool is_behind(const struct lm_race *r, size_t c, size_t d)
{
    const struct lm_racer *x = &r->contender[c], *y = &r->contender[d];
    size_t rung = r->state[c].rung < r->state[d].rung ? r->state[c].rung
                                                      : r->state[d].rung;
    bool better = d < c;                /* of two equal ones the first leads */

    if (!may_beat(r, y, x))
        return false;
    for (size_t k = 0; k < r->rules.n_exact; k++)
        better |= y->exact[k] < x->exact[k];
    for (size_t k = 0; k < r->rules.n_sampled; k++) {
        double weight, a = ratio(x->sum[k], seen_at(r, rung, k), &weight);
        double b = ratio(y->sum[k], seen_at(r, rung, k), &weight);
        bool ahead = r->rules.maximise[k] ? b > a : b < a;

        if (!ahead && b != a)
            return false;
        better |= ahead;
    }
    return better;
}

/* ---- opponents ------------------------------------------------------------------- */

/* Whole racers that may beat c and are not behind another of them in all means: with
 * one sampled objective the best one.  Means are of all items, so that the choice has
 * nothing to do with what is seen of c.                                            */
static size_t choose_rivals(struct lm_race *r, const struct lm_racer *c)
{
    size_t n = 0, m = r->rules.n_sampled, *out = r->rival;

    for (size_t i = 0; i < r->n_member + r->n_contender; i++) {
        const double *a = r->mean + i * m;
        bool behind = false;
        size_t kept = 0;

        if (!r->whole[i] || !may_beat(r, racer(r, i), c))
            continue;
        for (size_t j = 0; j < n; j++) {
            const double *b = r->mean + out[j] * m;
            size_t less = 0, more = 0;

            for (size_t k = 0; k < m; k++) {
                less += a[k] < b[k];
                more += !(a[k] <= b[k]);
            }
            behind |= !less;
            if (more || !less)          /* the new one makes out[j] superfluous else */
                out[kept++] = out[j];
        }
        n = kept;
        if (!behind)
            out[n++] = i;
    }
    return n;
}

static void make_whole(struct lm_race *r, size_t i)
{
    size_t m = r->rules.n_sampled;

    r->whole[i] = true;
    for (size_t k = 0; k < m; k++) {
        double weight, x = ratio(racer(r, i)->sum[k], seen_at(r, r->rules.n_rung, k),
                                 &weight);

        r->mean[i * m + k] = r->rules.maximise[k] ? -x : x;
    }
}

enum lm_status lm_race_open(const struct lm_race_rules *rules,
                            const struct lm_racer *member, size_t n_member,
                            const struct lm_racer *contender, size_t n_contender,
                            struct lm_race **out, struct lm_err *e)
{
    size_t m = rules->n_sampled, n = n_member + n_contender;
    struct lm_race *r = lm_alloc(sizeof *r, "race");

    *out = NULL;
    if (!r)
        return lm_fail_memory(e, sizeof *r, "a race");
    *r = (struct lm_race){ .rules = *rules, .member = member, .n_member = n_member,
        .contender = contender, .n_contender = n_contender,
        .state = lm_alloc_array(n_contender + 1, sizeof *r->state, "race"),
        .whole = lm_alloc_array(n + 1, sizeof *r->whole, "race"),
        .mean = lm_alloc_array(n * m + 1, sizeof(double), "race"),
        .gap = lm_alloc_array(n_contender * m + 1, sizeof(double), "race"),
        .error = lm_alloc_array(n_contender * m + 1, sizeof(double), "race"),
        .rival = lm_alloc_array(n + 1, sizeof *r->rival, "race") };
    if (!r->state || !r->whole || !r->mean || !r->gap || !r->error || !r->rival) {
        lm_race_close(r);
        return lm_fail_memory(e, n * m * sizeof(double), "a race");
    }
    for (size_t i = 0; i < n_contender; i++)
        r->state[i].racing = true;
    for (size_t i = 0; i < n_member; i++)
        make_whole(r, i);
    *out = r;
    return LM_OK;
}

void lm_race_close(struct lm_race *r)
{
    if (!r)
        return;
    lm_release(r->state);
    lm_release(r->whole);
    lm_release(r->mean);
    lm_release(r->gap);
    lm_release(r->error);
    lm_release(r->rival);
    lm_release(r);
}

/* ---- the race -------------------------------------------------------------------- */

void lm_race_leave(struct lm_race *r, size_t contender)
{
    r->state[contender].racing = false;
    r->whole[r->n_member + contender] = false;
}

/* The test of a contender at its rung. */
static bool is_hopeless(struct lm_race *r, size_t c)
{
    struct standing *s = &r->state[c];
    size_t m = r->rules.n_sampled, n = choose_rivals(r, &r->contender[c]);
    double alpha = r->rules.risk / (double)(r->rules.n_rung * (n ? n : 1));

    for (size_t k = 0; k < n; k++) {
        size_t i = r->rival[k];

        if (is_beaten(r, c, racer(r, i), alpha, r->gap + c * m, r->error + c * m)) {
            bool member = i < r->n_member;

            s->end = (struct lm_race_end){ true, member, member ? i : i - r->n_member,
                                           s->rung };
            return true;
        }
    }
    return false;
}

/* Who is behind nobody else in the race goes on or is stopped.  `behind` can be a ring,
 * since each two have items of their own in common; then everybody leads.            */
static bool send_leaders(struct lm_race *r, bool *go)
{
    size_t n = r->n_contender, leaders = 0;
    bool any = false;

    for (size_t i = 0; i < n; i++) {
        go[i] = r->state[i].racing;
        for (size_t j = 0; go[i] && j < n; j++)
            go[i] = j == i || !r->state[j].racing || !is_behind(r, i, j);
        leaders += go[i];
    }
    for (size_t i = 0; i < n; i++) {
        if (!leaders)
            go[i] = r->state[i].racing;
        if (go[i] && is_hopeless(r, i))
            go[i] = r->state[i].racing = false;
        any |= go[i];
    }
    return any;
}

bool lm_race_go(struct lm_race *r, bool *go)
{
    bool left = false;

    for (size_t i = 0; i < r->n_contender; i++) {
        struct standing *s = &r->state[i];

        go[i] = false;
        if (s->racing && s->rung == r->rules.n_rung) {
            make_whole(r, r->n_member + i);
            s->racing = false;
        }
        left |= s->racing;
    }
    while (left && !send_leaders(r, go)) {      /* all of them were stopped: the next */
        left = false;
        for (size_t i = 0; i < r->n_contender; i++)
            left |= r->state[i].racing;
    }
    for (size_t i = 0; i < r->n_contender; i++)
        r->state[i].rung += go[i];
    return left;
}

struct lm_race_end lm_race_end(const struct lm_race *r, size_t contender)
{
    return r->state[contender].end;
}

void lm_race_estimate(const struct lm_race *r, size_t contender, size_t objective,
                      double *mean, double *error)
{
    const struct lm_race_end *end = &r->state[contender].end;
    size_t m = r->rules.n_sampled, by = end->by + (end->by_member ? 0 : r->n_member);
    double x = r->mean[by * m + objective] + r->gap[contender * m + objective];

    *mean = r->rules.maximise[objective] ? -x : x;
    *error = r->error[contender * m + objective];
}
