/* SPDX-License-Identifier: Apache-2.0 */
/* search_sins.c -- random search over two-valued genes, 20 genomes; see sins.h.
 *
 * Sins: virtuous, gene_range, beyond_slots, too_many, over_budget, bad_fidelity,
 * never_ends, prints, deaf, endless, crashes, leaves, unlike, by_the_clock,
 * new_folder, rounds, catches, leaks, poor, mute, refuses.  */
#include "sins.h"

#include <fenv.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>


static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    if (is("leaves"))
        exit(0);
    if (is("rounds"))
        fesetround(FE_UPWARD);
    if (is("catches"))
        signal(SIGTERM, SIG_IGN);
    if (is("new_folder") && chdir("/"))
        return LM_EIO;
    enum lm_status s = sin_create(a, self, e);
    if (s)
        return is("poor") ? a->host->fail(e, LM_EFAILED, "nothing works") : s;
    ((struct self *)*self)->state = a->host->seed(a->run, "sin", 0);
    if (is("by_the_clock"))
        ((struct self *)*self)->state = (uint64_t)(a->host->clock() * 1e9);
    return LM_OK;
}

static enum lm_status begin(void *self, const struct lm_problem *p, struct lm_err *e)
{
    struct self *s = self;

    if (is("refuses"))
        return s->host->fail(e, LM_ECONFIG, "it is not the day for it");
    s->problem = p;
    return LM_OK;
}

static void draw(struct self *s, union lm_value *v)
{
    static uint64_t calls;

    for (size_t i = 0; i < s->problem->n_slot; i++) {
        s->state = s->state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        v[i].integer = (int64_t)((s->state >> 40) + (is("unlike") ? calls++ / 7 : 0)) & 1;
    }
    if (is("gene_range"))
        v[1].integer = 2;
    if (is("beyond_slots"))
        v[s->problem->n_slot].integer = 0;
}

static enum lm_status ask(void *self, struct lm_proposal *out, size_t max, size_t *n,
                          struct lm_err *e)
{
    struct self *s = self;
    volatile int *nowhere = NULL;

    if (is("mute"))
        return LM_EFAILED;
    if (is("prints"))
        printf("twenty genomes to go\n");
    if (is("leaks"))
        s->host->alloc(100, "leak");
    while (is("deaf"))
        (void)e;
    if (is("crashes"))
        *nowhere = 1;
    for (*n = 0; *n < max && (s->asked < 20 || is("never_ends")); s->asked++) {
        if (is("bad_fidelity"))
            out[*n].fidelity = 0;
        draw(s, out[(*n)++].value);
    }
    if (is("too_many"))
        *n = max + 1;
    if (is("never_ends") && *n && s->asked > 40) {
        s->asked = 0;
        *n = 0;
    }
    return LM_OK;
}

static enum lm_status tell(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e)
{
    (void)self; (void)o; (void)n;
    while (is("endless"))
        (void)e;
    return LM_OK;
}

static size_t budget(void *self)
{
    const struct self *s = self;
    return is("over_budget") ? 3 : is("never_ends") ? 1000000 : (size_t)(20 - s->asked);
}

static const struct lm_search ops = {
    .struct_size = sizeof ops, .genes = LM_BIT(LM_GENE_BOOL),
    .begin = begin, .ask = ask, .tell = tell, .budget = budget };

SIN_MODULE(SEARCH, create, ops, )
