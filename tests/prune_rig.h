/* SPDX-License-Identifier: Apache-2.0 */
/* prune_rig.h -- a pruner on a toy model: its space, and what genomes decode to.  A test
 * says what members score: give().  */
#ifndef LM_TESTS_PRUNE_RIG_H
#define LM_TESTS_PRUNE_RIG_H
#include "inst.h"
#include "toy.h"

enum { RIG_SLOTS = 128 };
static struct lm_err e;
static struct lm_model *model;
static struct lm_space *space;
static struct inst pruner;
static union lm_value genome[RIG_SLOTS];

static enum lm_status give(void *ctx, uint32_t site, int32_t layer, const double **score,
                           int64_t *n, struct lm_err *err);

/* genome becomes the initial one. */
static inline void rig_begin(const char *name, const char *options, const struct toy *t)
{
    const struct lm_pruner *ops;

    model = toy_model(t);
    ck_assert_ok(lm_space_open(give, NULL, &space, &e), e);
    inst_open(&pruner, "pruners", name, options, model, NULL);
    ops = pruner.ops;
    ck_assert_ok(ops->genes(pruner.self, space, &e), e);
    ck_assert_uint_le(lm_space_slots(space), RIG_SLOTS);
    lm_genome_initial(space, genome);
}

static inline void end(void)
{
    inst_close(&pruner);
    lm_space_close(space);
    lm_model_free(model);
    ck_assert_int_eq(lm_mem_blocks(), 0);
}

/* *p is the caller's on LM_OK only. */
static inline enum lm_status decode(struct lm_plan **p)
{
    const struct lm_pruner *ops = pruner.ops;
    enum lm_status st;

    ck_assert_ok(lm_genome_check(space, genome, &e), e);
    ck_assert_ok(lm_plan_open(lm_model_arch(model), space, p, &e), e);
    if (!(st = ops->decode(pruner.self, genome, *p, &e)))
        st = lm_plan_canonical(*p, &e);
    if (st)
        lm_plan_free(*p);
    return st;
}

/* NULL: there is none. */
static inline const struct lm_gene *find(const char *name)
{
    size_t n;
    const struct lm_gene *const *g = lm_space_genes(space, &n);

    for (size_t i = 0; i < n; i++)
        if (!strcmp(g[i]->name, name))
            return g[i];
    return NULL;
}

/* From create() to destroy() on the open model: lm_alloc may fail anywhere.  vary()
 * changes the initial genome of a space.  */
struct rig_life { const char *options; void (*vary)(const struct lm_space *s); };

static inline enum lm_status rig_live(void *ctx)
{
    const struct rig_life *life = ctx;
    const struct lm_pruner *ops = pruner.ops;
    struct lm_space *s = NULL;
    struct lm_plan *p = NULL;
    enum lm_status st = inst_create(&pruner, life->options, model, NULL, &e);

    if (st)
        return st;
    if (!(st = lm_space_open(give, NULL, &s, &e)))
        st = ops->genes(pruner.self, s, &e);
    if (!st)
        st = lm_plan_open(lm_model_arch(model), s, &p, &e);
    if (!st) {
        lm_genome_initial(s, genome);
        life->vary(s);
        st = ops->decode(pruner.self, genome, p, &e);
    }
    lm_plan_free(p);
    lm_space_close(s);
    inst_destroy(&pruner);
    return st;
}

/* Pruners [n] get through any allocation that fails. */
static inline void rig_starve(const char *const *names, size_t n, const struct toy *t,
                              struct rig_life life)
{
    model = toy_model(t);
    for (size_t i = 0; i < n; i++) {
        inst_load(&pruner, "pruners", names[i]);
        ck_assert_int_gt(fail_every_allocation(rig_live, &life), 5);
        dlclose(pruner.dl);
    }
    lm_model_free(model);
}
#endif
