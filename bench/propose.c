/* SPDX-License-Identifier: Apache-2.0 */
/* propose.c -- search strategies on problems whose values are known.
 *
 *   bench/propose PROBLEM TRIALS SEED STRATEGY[:key=value,...]
 *
 * PROBLEM is zdt1, zdt2 or zdt3 (Zitzler, Deb & Thiele, Evolutionary Computation 8(2),
 * 2000; 30 variables, or as many as follow a colon), dtlz2 (Deb, Thiele, Laumanns &
 * Zitzler, CEC 2002; 12 variables, two objectives), or the path of a table: a head line,
 * then lines "g1,...,gN,f1,f2", one for each genome of a complete space.
 *
 * Variables of zdt and dtlz2 are REAL genes on a grid of 1/100; the uncompressed genome
 * is 1 everywhere, far from every front.  Genes of a table are INT from 0 to the largest
 * value in their column, which is the uncompressed one.  Strategies come through the
 * loader, the option schema and the host table of the program itself; nothing is bounded
 * and all fidelities are 1.
 *
 * Prints the two objectives of each trial, in order, then one line
 * "seconds ALL LAST": processor time of begin, ask and tell per proposal, of all trials
 * and of the last 20.                                                           */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/linalg.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/process.h"
#include "pipeline/stage.h"
#include "space/space.h"

enum { MOST_GENES = 256, LAST = 20, LEVELS = 64 };

struct problem {
    size_t n_gene;
    void (*f)(const struct problem *p, const double *x, double out[2]);
    int64_t top[MOST_GENES];            /* of a table: largest levels           */
    double (*row)[2];                   /* of a table: first gene counts most;
                                           NAN where no line was                */
};

/* ---- problems ---------------------------------------------------------------------- */

static double rest(const struct problem *p, const double *x)
{
    double sum = 0;

    for (size_t i = 1; i < p->n_gene; i++)
        sum += x[i];
    return 1 + 9 * sum / (double)(p->n_gene - 1);
}

static void zdt1(const struct problem *p, const double *x, double out[2])
{
    double g = rest(p, x);

    out[0] = x[0];
    out[1] = g * (1 - sqrt(x[0] / g));
}

static void zdt2(const struct problem *p, const double *x, double out[2])
{
    double g = rest(p, x);

    out[0] = x[0];
    out[1] = g * (1 - x[0] / g * (x[0] / g));
}

static void zdt3(const struct problem *p, const double *x, double out[2])
{
    double g = rest(p, x);

    out[0] = x[0];
    out[1] = g * (1 - sqrt(x[0] / g) - x[0] / g * sin(10 * acos(-1) * x[0]));
}

static void dtlz2(const struct problem *p, const double *x, double out[2])
{
    double g = 0, angle = x[0] * acos(-1) / 2;

    for (size_t i = 1; i < p->n_gene; i++)
        g += (x[i] - 0.5) * (x[i] - 0.5);
    out[0] = (1 + g) * cos(angle);
    out[1] = (1 + g) * sin(angle);
}

static void of_table(const struct problem *p, const double *x, double out[2])
{
    size_t at = 0;

    for (size_t i = 0; i < p->n_gene; i++)
        at = at * (size_t)(p->top[i] + 1) + (size_t)x[i];
    memcpy(out, p->row[at], sizeof *p->row);
}

/* "1,0,3,2.5,100" into numbers; how many. */
static size_t numbers(const char *line, double *out)
{
    size_t n = 0;
    char *end;

    for (; n < MOST_GENES + 2; line = end + 1) {
        out[n] = strtod(line, &end);
        if (end == line)
            return 0;
        n++;
        if (*end != ',')
            break;
    }
    return n;
}

/* Called twice: for the largest levels, then, with rows, for the values. */
static bool scan(const char *text, struct problem *p)
{
    double v[MOST_GENES + 2];
    const char *line = strchr(text, '\n');

    for (; line && line[1]; line = strchr(line + 1, '\n')) {
        size_t n = numbers(line + 1, v), at = 0;
        if (n < 3 || (p->n_gene && n != p->n_gene + 2))
            return false;
        p->n_gene = n - 2;
        for (size_t i = 0; i < p->n_gene; i++) {
            if (!(v[i] >= 0 && v[i] < LEVELS))
                return false;
            if ((int64_t)v[i] > p->top[i])
                p->top[i] = (int64_t)v[i];
            at = at * (size_t)(p->top[i] + 1) + (size_t)v[i];
        }
        if (p->row)
            memcpy(p->row[at], v + p->n_gene, sizeof *p->row);
    }
    return p->n_gene > 0;
}

static enum lm_status read_table(const char *path, struct problem *p, struct lm_err *e)
{
    char *text;
    size_t n_text, n = 1, known = 0;
    enum lm_status st = lm_read_file(path, 1 << 24, &text, &n_text, e);

    if (st)
        return st;
    bool sound = scan(text, p);
    for (size_t i = 0; sound && i < p->n_gene; i++)
        sound = (n *= (size_t)(p->top[i] + 1)) < 1 << 24;
    if (sound && !(p->row = lm_alloc(n * sizeof *p->row, "bench")))
        st = lm_fail_memory(e, n * sizeof *p->row, path);
    for (size_t i = 0; p->row && i < n; i++)
        p->row[i][0] = p->row[i][1] = NAN;
    if (p->row)
        scan(text, p);
    for (size_t i = 0; p->row && i < n; i++)
        known += isfinite(p->row[i][0]) && isfinite(p->row[i][1]);
    lm_release(text);
    p->f = of_table;
    return st || (sound && known == n) ? st
        : lm_fail(e, LM_EINPUT, "%s: neither a problem nor a complete table", path);
}

static enum lm_status find_problem(const char *name, struct problem *p, struct lm_err *e)
{
    static const struct {
        const char *name;
        void (*f)(const struct problem *p, const double *x, double out[2]);
        size_t n_gene;
    } known[] = { { "zdt1", zdt1, 30 }, { "zdt2", zdt2, 30 }, { "zdt3", zdt3, 30 },
                  { "dtlz2", dtlz2, 12 } };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = strlen(known[i].name);
        if (strncmp(name, known[i].name, n) != 0 || (name[n] && name[n] != ':'))
            continue;
        p->f = known[i].f;
        p->n_gene = name[n] ? strtoul(name + n + 1, NULL, 10) : known[i].n_gene;
        return p->n_gene > 1 && p->n_gene <= MOST_GENES ? LM_OK
            : lm_fail(e, LM_ECONFIG, "%s: 2 to %d variables", name, MOST_GENES);
    }
    return read_table(name, p, e);
}

static enum lm_status make_space(const struct problem *p, struct lm_space **out,
                                 struct lm_err *e)
{
    enum lm_status st = lm_space_open(NULL, NULL, out, e);

    for (size_t i = 0; !st && i < p->n_gene; i++) {
        char name[32];
        double top = p->row ? (double)p->top[i] : 1;
        struct lm_gene g = { .struct_size = sizeof g, .name = name, .max = top,
            .kind = p->row ? LM_GENE_INT : LM_GENE_REAL, .step = p->row ? 1 : 0.01,
            .initial = top, .site = { LM_SITE_MLP, (int32_t)i, 0 } };
        snprintf(name, sizeof name, "x[%zu]", i);
        st = lm_space_add(*out, &g, e);
    }
    return st;
}

/* ---- a search ---------------------------------------------------------------------- */

static void evaluate(const struct problem *p, const union lm_value *v, double out[2])
{
    double x[MOST_GENES];

    for (size_t i = 0; i < p->n_gene; i++)
        x[i] = p->row ? (double)v[i].integer : v[i].real;
    p->f(p, x, out);
}

/* Asks for one genome, evaluates, prints and tells it; *seconds grows by the time that
 * the strategy took.                                                              */
static enum lm_status one_trial(const struct problem *p, const struct lm_stage *s,
                                double *seconds, struct lm_err *e)
{
    const struct lm_search *ops = s->plugin->ops;
    union lm_value v[MOST_GENES];
    double f[2], start = lm_process_seconds(false);
    struct lm_proposal out = { v, 1 };
    struct lm_outcome o = { .struct_size = sizeof o, .status = LM_OK, .value = v,
                            .objective = f, .fidelity = 1 };
    const struct lm_outcome *at = &o;
    size_t n = 0;
    enum lm_status st = ops->ask(s->self, &out, 1, &n, e);

    *seconds += lm_process_seconds(false) - start;
    if (st || n == 0)
        return st ? st : lm_fail(e, LM_EFAILED, "%s: proposes nothing more", s->id);
    evaluate(p, v, f);
    printf("%.9g %.9g\n", f[0], f[1]);
    start = lm_process_seconds(false);
    st = ops->tell(s->self, &at, 1, e);
    *seconds += lm_process_seconds(false) - start;
    return st;
}

static enum lm_status drive(const struct problem *p, const struct lm_space *space,
                            const struct lm_stage *s, long trials, struct lm_err *e)
{
    const struct lm_search *ops = s->plugin->ops;
    struct lm_objective objective[2];
    const struct lm_objective *objective_at[2] = { &objective[0], &objective[1] };
    struct lm_problem told = { .struct_size = sizeof told, .objective = objective_at,
        .n_objective = 2, .n_slot = lm_space_slots(space) };
    union lm_value dense[MOST_GENES];
    double f[2], all = 0, last = 0;

    told.gene = lm_space_genes(space, &told.n_gene);
    lm_genome_initial(space, dense);
    evaluate(p, dense, f);
    for (int k = 0; k < 2; k++)
        objective[k] = (struct lm_objective){ sizeof *objective, k ? "f.two" : "f.one",
                                              INFINITY, f[k], false };
    enum lm_status st = ops->begin(s->self, &told, e);
    for (long i = 0; !st && i < trials; i++) {
        double t = 0;
        st = one_trial(p, s, &t, e);
        all += t;
        last += i + LAST >= trials ? t : 0;
    }
    if (!st)
        printf("seconds %.9f %.9f\n", all / (double)trials,
               last / (double)(trials < LAST ? trials : LAST));
    return st;
}

static enum lm_status search(const char *name, long trials, unsigned long long seed,
                             const char *strategy, struct lm_err *e)
{
    static struct problem p;
    struct lm_space *space = NULL;
    struct lm_run *run = NULL;
    struct lm_stage stage = { 0 };
    struct lm_conf *group = NULL;
    enum lm_status st = find_problem(name, &p, e);

    if (!st)
        st = make_space(&p, &space, e);
    if (!st)
        st = lm_run_open(seed, &run, e);
    if (!st)
        st = lm_stage_text(&stage, LM_SEARCH, strategy, &group, run, e);
    if (!st)
        st = lm_stage_create(&stage, NULL, NULL, e);
    if (!st)
        st = drive(&p, space, &stage, trials, e);
    lm_stage_close(&stage);
    lm_conf_free(group);
    lm_run_close(run);
    lm_space_close(space);
    lm_release(p.row);
    return st;
}

int main(int argc, char **argv)
{
    struct lm_err e = { 0 };
    enum lm_status st;

    if (argc != 5 || atol(argv[2]) < 1) {
        fprintf(stderr, "usage: %s PROBLEM TRIALS SEED STRATEGY[:key=value,...]\n",
                argv[0]);
        return 2;
    }
    lm_linalg_threads(1);
    st = lm_loader_start(NULL, &e);
    if (!st)
        st = lm_pool_start(1, &e);
    if (!st)
        st = search(argv[1], atol(argv[2]), strtoull(argv[3], NULL, 10), argv[4], &e);
    if (st)
        fprintf(stderr, "%s: %s\n", argv[0], e.text);
    lm_pool_stop();
    lm_loader_stop();
    return st ? 1 : 0;
}
