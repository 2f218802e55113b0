/* SPDX-License-Identifier: Apache-2.0 */
/* race.c -- see race.h for the rule and its formulas. */
#include "study/race.h"

#include <math.h>

#include "base/mem.h"

struct standing {                       /* of a contender */
    bool   racing, raced;               /* now; before this look */
    struct lm_race_end end;
    size_t first, n;                    /* its opponents among the members: rival[] */
};

struct lm_race {
    struct lm_race_rules rules;
    const struct lm_racer *member, *contender;
    size_t n_member, n_contender;
    struct standing *state;            /* [n_contender] */
    size_t *rival, n_rival;
    double *mean;                       /* [n_member][n_sampled] of all items, smaller is
                                           better */
    double *gap, *error;                /* [n_contender][n_sampled] of the stopped */
    double alpha_member, alpha_contender;
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
    double unseen = 1 - (double)n / (double)r->rules.items[k];

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
static bool is_beaten(const struct lm_race *r, const struct lm_racer *c,
                      const struct lm_racer *d, const int64_t *seen, double alpha,
                      double *gap, double *error)
{
    for (size_t k = 0; k < r->rules.n_sampled; k++)
        if (!(doubt(r, k, c, d, seen[k], &gap[k], &error[k]) <= alpha))
            return false;
    return true;
}

/* ---- opponents ------------------------------------------------------------------- */

/* Members that may beat c and are not behind another of them in all means: with one
 * sampled objective the best one.  Means are of all items, so that the choice has
 * nothing to do with what is seen of c.                                            */
static size_t choose_rivals(const struct lm_race *r, const struct lm_racer *c,
                            size_t *out)
{
    size_t n = 0, m = r->rules.n_sampled;

    for (size_t i = 0; i < r->n_member; i++) {
        const double *a = r->mean + i * m;
        bool behind = false;
        size_t kept = 0;

        if (!may_beat(r, &r->member[i], c))
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

static void count_tests(struct lm_race *r)
{
    double member = 0, contender = 0, looks = (double)r->rules.looks;

    for (size_t i = 0; i < r->n_contender; i++) {
        member += (double)r->state[i].n;
        for (size_t j = 0; j < r->n_contender; j++)
            contender += j != i && may_beat(r, &r->contender[j], &r->contender[i]);
    }
    double share = contender > 0 ? 0.8 : 1;
    if (member > 0)
        r->alpha_member = share * r->rules.risk / (looks * member);
    else
        share = 0;
    if (contender > 0)
        r->alpha_contender = (1 - share) * r->rules.risk / (looks * contender);
}

static enum lm_status find_rivals(struct lm_race *r, struct lm_err *e)
{
    size_t *out = lm_alloc_array(r->n_member + 1, sizeof *out, "race"), cap = 0;
    enum lm_status st = out ? LM_OK : lm_fail_memory(e, r->n_member * 8, "a race");

    for (size_t i = 0; !st && i < r->n_contender; i++) {
        size_t n = choose_rivals(r, &r->contender[i], out);

        if (r->n_rival + n > cap) {
            cap = 2 * (r->n_rival + n);
            size_t *more = lm_resize(r->rival, cap * sizeof *more);

            if (!more) {
                st = lm_fail_memory(e, cap * sizeof *more, "a race");
                break;
            }
            r->rival = more;
        }
        for (size_t k = 0; k < n; k++)
            r->rival[r->n_rival + k] = out[k];
        r->state[i].first = r->n_rival;
        r->state[i].n = n;
        r->n_rival += n;
    }
    lm_release(out);
    return st;
}

enum lm_status lm_race_open(const struct lm_race_rules *rules,
                            const struct lm_racer *member, size_t n_member,
                            const struct lm_racer *contender, size_t n_contender,
                            struct lm_race **out, struct lm_err *e)
{
    size_t m = rules->n_sampled;
    struct lm_race *r = lm_alloc(sizeof *r, "race");

    *out = NULL;
    if (!r)
        return lm_fail_memory(e, sizeof *r, "a race");
    *r = (struct lm_race){ .rules = *rules, .member = member, .n_member = n_member,
        .contender = contender, .n_contender = n_contender,
        .state = lm_alloc_array(n_contender + 1, sizeof *r->state, "race"),
        .mean = lm_alloc_array(n_member * m + 1, sizeof(double), "race"),
        .gap = lm_alloc_array(n_contender * m + 1, sizeof(double), "race"),
        .error = lm_alloc_array(n_contender * m + 1, sizeof(double), "race") };
    if (!r->state || !r->mean || !r->gap || !r->error) {
        lm_race_close(r);
        return lm_fail_memory(e, (n_contender + n_member) * m * 8, "a race");
    }
    for (size_t i = 0; i < n_contender; i++)
        r->state[i].racing = true;
    for (size_t i = 0; i < n_member; i++)
        for (size_t k = 0; k < m; k++) {
            double weight, x = ratio(member[i].sum[k], rules->items[k], &weight);

            r->mean[i * m + k] = rules->maximise[k] ? -x : x;
        }
    enum lm_status st = find_rivals(r, e);
    if (st) {
        lm_race_close(r);
        return st;
    }
    count_tests(r);
    *out = r;
    return LM_OK;
}

void lm_race_close(struct lm_race *r)
{
    if (!r)
        return;
    lm_release(r->state);
    lm_release(r->rival);
    lm_release(r->mean);
    lm_release(r->gap);
    lm_release(r->error);
    lm_release(r);
}

/* ---- the race -------------------------------------------------------------------- */

void lm_race_leave(struct lm_race *r, size_t contender)
{
    r->state[contender].racing = false;
}

/* If b beats c and a beats b, then a is the best of the three: nobody is lost when b
 * and c stop at once, so that all who raced before this look are opponents in it.  */
static void judge(struct lm_race *r, size_t c, const int64_t *seen)
{
    struct standing *s = &r->state[c];
    const struct lm_racer *x = &r->contender[c];
    double *gap = r->gap + c * r->rules.n_sampled;
    double *error = r->error + c * r->rules.n_sampled;

    for (size_t k = 0; k < s->n && s->racing; k++) {
        size_t i = r->rival[s->first + k];

        if (is_beaten(r, x, &r->member[i], seen, r->alpha_member, gap, error)) {
            s->end = (struct lm_race_end){ true, true, i };
            s->racing = false;
        }
    }
    for (size_t j = 0; j < r->n_contender && s->racing; j++) {
        const struct lm_racer *y = &r->contender[j];

        if (j != c && r->state[j].raced && may_beat(r, y, x) &&
            is_beaten(r, x, y, seen, r->alpha_contender, gap, error)) {
            s->end = (struct lm_race_end){ true, false, j };
            s->racing = false;
        }
    }
}

void lm_race_look(struct lm_race *r, const int64_t *seen)
{
    for (size_t i = 0; i < r->n_contender; i++)
        r->state[i].raced = r->state[i].racing;
    for (size_t i = 0; i < r->n_contender; i++)
        if (r->state[i].raced)
            judge(r, i, seen);
}

struct lm_race_end lm_race_end(const struct lm_race *r, size_t contender)
{
    return r->state[contender].end;
}

void lm_race_estimate(const struct lm_race *r, size_t contender, size_t objective,
                      double *mean, double *error)
{
    size_t m = r->rules.n_sampled, c = contender, k = objective;
    double sum = 0, variance = 0, weight;

    for (;; c = r->state[c].end.by) {   /* ends: every opponent is better than the last */
        const struct standing *s = &r->state[c];

        if (!s->end.stopped) {          /* NAN for one that failed */
            sum += s->racing ? ratio(r->contender[c].sum[k], r->rules.items[k], &weight) *
                               (r->rules.maximise[k] ? -1 : 1) : NAN;
            break;
        }
        sum += r->gap[c * m + k];
        variance += r->error[c * m + k] * r->error[c * m + k];
        if (s->end.by_member) {
            sum += r->mean[s->end.by * m + k];
            break;
        }
    }
    *mean = r->rules.maximise[k] ? -sum : sum;
    *error = sqrt(variance);
}
