/* SPDX-License-Identifier: Apache-2.0 */
/* sweep.h -- a pipeline file with a group `sweep`: many runs that differ in what it
 * says, and what they show together.
 *
 * A variant is the file with one value in other places (one_at_a_time) or with one
 * in each of several (product); the first is the file as it is, the baseline.  Each
 * variant is run once for each seed, in OUT/TAG/SEED, where OUT is the file's
 * `run.out`.                                                                   */
#ifndef LM_PIPELINE_SWEEP_H
#define LM_PIPELINE_SWEEP_H
#include "config/opt.h"
#include "pipeline/view.h"

enum { LM_SWEEP_FACTORS = 16, LM_SWEEP_VARIANTS = 1000, LM_SWEEP_SEEDS = 100,
       LM_SWEEP_TAG = 200, LM_SWEEP_METRICS = LM_MAX_METRICS + 1 };

struct lm_sweep_options {               /* group `sweep` */
    int64_t mode;                       /* enum lm_sweep_mode */
    struct lm_ints seeds;
};
enum lm_sweep_mode { LM_SWEEP_ONE, LM_SWEEP_PRODUCT };
struct lm_vary_options {                /* a member of `vary`, besides its values */
    const char *path, *tag;
    bool drop;
};
struct lm_compare_options {
    struct lm_strings metric;
    int64_t test, correct;              /* 0: the test; Holm's correction */
};

struct lm_sweep_factor {
    const struct lm_conf *at, *values;  /* its group; NULL: it is dropped */
    struct lm_options opt;
    const struct lm_vary_options *o;
    size_t n;                           /* variants it alone makes */
};
struct lm_sweep_variant {
    char tag[LM_SWEEP_TAG];
    size_t level[LM_SWEEP_FACTORS];     /* 0: as in the file; k: the k-th value */
};

struct lm_sweep {
    const char *file;                   /* borrowed, as set */
    const char *const *set;
    size_t n_set;
    struct lm_conf *conf;               /* with --set; values point into it */
    const struct lm_conf *at;           /* its group `sweep` */
    struct lm_options opt, compare_opt;
    const struct lm_sweep_options *o;
    const struct lm_compare_options *compare;
    struct lm_sweep_factor factor[LM_SWEEP_FACTORS];
    size_t n_factor;
    struct lm_sweep_variant *variant;   /* [n_variant] */
    size_t n_variant;
    char *out;
};

/* Schemas of `sweep`, `vary` and `compare`, for help; NULL behind the last. */
const struct lm_module *lm_sweep_group(size_t i);
/* Reads a file and validates every variant of it.  A file without a group `sweep` is
 * LM_ECONFIG.  file and set are borrowed.                                      */
enum lm_status lm_sweep_open(const char *file, const char *const *set, size_t n_set,
                             struct lm_sweep **s, struct lm_err *e);
void lm_sweep_close(struct lm_sweep *s);
/* The pipeline of one run, and its folder. */
enum lm_status lm_sweep_conf(const struct lm_sweep *s, size_t variant, size_t seed,
                             struct lm_conf **conf, struct lm_err *e);
enum lm_status lm_sweep_folder(const struct lm_sweep *s, size_t variant, size_t seed,
                               char out[4096], struct lm_err *e);

/* Does what is left to do, one run after the other, and writes OUT/sweep.csv, .html
 * and .tex of all that is finished; text: the table.  A failed run is among them with
 * its reason; LM_EFAILED then, behind the last run.  LM_ECANCELED: interrupted; the
 * same call goes on.                                              sweep_run.c */
enum lm_status lm_sweep_run(struct lm_sweep *s, struct lm_str *text, struct lm_err *e);
/* The runs and what they will take, as text. */
enum lm_status lm_sweep_estimate(struct lm_sweep *s, struct lm_str *text,
                                 struct lm_err *e);

/* ---- what the runs show ---------------------------------------------------------- */
enum lm_sweep_state { LM_SWEEP_WAITING, LM_SWEEP_DONE, LM_SWEEP_FAILED };
struct lm_sweep_result {                /* one run */
    enum lm_sweep_state state;
    char *reason;                       /* why it failed, or NULL */
    double value[LM_SWEEP_METRICS];     /* of its best trial; NAN: none */
    double *point;                      /* [n_point][2]: objectives of its front, as
                                           minimised; two objectives only */
    size_t n_point;
};
struct lm_sweep_cell {                  /* one variant, one metric */
    size_t n;                           /* runs that have it, ... */
    double median, mad, min, max;       /* ... over these */
    size_t pairs;                       /* with the baseline, by seed */
    double p, corrected;                /* NAN: not compared */
};
struct lm_sweep_metric {
    char name[96], unit[32];
    bool objective, maximise, final;
    bool compared, shown;               /* in the short table */
};
struct lm_sweep_table {
    const struct lm_sweep *sweep;
    size_t n_seed, n_metric, n_compared;
    struct lm_sweep_metric metric[LM_SWEEP_METRICS];
    struct lm_sweep_result *result;     /* [n_variant][n_seed] */
    struct lm_sweep_cell *cell;         /* [n_variant][n_metric] */
    char objective[2][96];              /* of the front; "": no hypervolume */
    double ideal[2], reference[2];      /* its corners, as minimised */
    bool mixed;                         /* runs have different objectives */
};

enum lm_status lm_sweep_table_open(const struct lm_sweep *s, struct lm_sweep_table **t,
                                   struct lm_err *e);
void lm_sweep_table_close(struct lm_sweep_table *t);
/* What a finished run holds, from its study. */
enum lm_status lm_sweep_collect(struct lm_sweep_table *t, size_t variant, size_t seed,
                                const struct lm_study *v, struct lm_err *e);
/* Medians, spreads, hypervolumes and tests of what was collected. */
enum lm_status lm_sweep_judge(struct lm_sweep_table *t, struct lm_err *e);
static inline const struct lm_sweep_cell *lm_sweep_cell(const struct lm_sweep_table *t,
                                                        size_t variant, size_t metric)
{
    return &t->cell[variant * t->n_metric + metric];
}
/* "0.1234", "107.4 M": short, with the unit's prefix where it counts things. */
void lm_sweep_number(char out[48], double v, const char *unit);
/* What the columns mean, a sentence a line: the reference point, the test, and whether
 * the seeds are enough for it.                                                 */
void lm_sweep_notes(const struct lm_sweep_table *t, struct lm_str *out);
/* Where the seeds of a sweep are too few for any p below 0.05, a line that says so. */
void lm_sweep_note_power(const struct lm_sweep *s, struct lm_str *out);
void lm_sweep_text(const struct lm_sweep_table *t, struct lm_str *out);
void lm_sweep_csv(const struct lm_sweep_table *t, struct lm_str *out);
void lm_sweep_latex(const struct lm_sweep_table *t, struct lm_str *out);
void lm_sweep_html(const struct lm_sweep_table *t, struct lm_str *out);
#endif
