/* SPDX-License-Identifier: Apache-2.0 */
/* search_rig.h -- a bench for search plugins: a small host, options by name, and
 * a driver that holds a strategy to the contract of plugin.h while it runs.  */
#ifndef LM_TESTS_SEARCH_RIG_H
#define LM_TESTS_SEARCH_RIG_H
#include <time.h>

#include "plugin.h"
#include "testing.h"

enum { RIG_GENES = 160, RIG_SLOTS = 192, RIG_OBJECTIVES = 5, RIG_STARTS = 64 };

struct lm_run { uint64_t seed; const struct rig_problem *problem; };

/* A problem that is built gene by gene. */
struct rig_problem {
    struct lm_gene gene[RIG_GENES];
    const struct lm_gene *gene_at[RIG_GENES];
    char name[RIG_GENES][16];
    struct lm_objective objective[RIG_OBJECTIVES];
    const struct lm_objective *objective_at[RIG_OBJECTIVES];
    const union lm_value *start[RIG_STARTS];
    double limit;                       /* of objective 1, as a constraint that no
                                           objective tells the bound of; 0: none */
    struct lm_problem p;
};
void rig_problem_init(struct rig_problem *r, size_t n_objective);
/* Fills name, slot, slots. */
struct lm_gene *rig_gene(struct rig_problem *r, struct lm_gene g);
struct lm_gene *rig_int(struct rig_problem *r, int32_t layer, double min, double max,
                        double step, double initial);
void rig_initial(const struct rig_problem *r, union lm_value *v);

/* What a trial costs: objectives; returns LM_OK or LM_EINFEASIBLE. */
typedef enum lm_status rig_eval(const struct rig_problem *r, const union lm_value *v,
                                double fidelity, double *objective);

/* A strategy with options "budget=40 population=8"; lists and plugins by pointer. */
struct rig {
    const char *name;                   /* "nsga2"                              */
    const char *options;
    const struct lm_instances *stages;  /* chain                                */
    const struct lm_reals *targets;     /* lagrangian                           */
    uint64_t seed;                      /* 0: 1                                 */
    size_t   max;                       /* proposals per ask; 0: 7              */
    bool     races;                     /* every third outcome lost one         */
    rig_eval *eval;
};
struct rig_made { const struct lm_module *m; const struct lm_search *ops; void *self;
                  void *config; struct lm_run *run; };

struct rig_trial {
    union lm_value value[RIG_SLOTS];
    double fidelity, objective[RIG_OBJECTIVES], violation;
    enum lm_status status;
};
/* ticks: processor time (clock) that the strategy itself took. */
struct rig_log { struct rig_trial *trial; size_t n, room; clock_t ticks; };

const struct lm_module *rig_module(const char *name);
enum lm_status rig_make(const struct rig *s, struct rig_made *out, struct lm_err *e);
void rig_unmake(struct rig_made *made);
/* Runs a made strategy to its end, asserting the contract. */
enum lm_status rig_drive(const struct rig *s, struct rig_made *made,
                         const struct rig_problem *p, struct rig_log *log,
                         struct lm_err *e);
/* make, drive, unmake. */
enum lm_status rig_run(const struct rig *s, const struct rig_problem *p,
                       struct rig_log *log, struct lm_err *e);
void rig_log_free(struct rig_log *log);
/* Lowest first objective among feasible trials of fidelity 1; index or n. */
size_t rig_best(const struct rig_log *log);
#endif
