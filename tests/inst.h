/* SPDX-License-Identifier: Apache-2.0 */
/* inst.h -- a plugin instance whose host table is made of the core's own
 * functions, with options checked by the core's schema engine ("key=value,..").
 *
 * Statistics come from the test where it sets inst_stat, else from lm_stats. */
#ifndef LM_TESTS_INST_H
#define LM_TESTS_INST_H
#include "base/linalg.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/rng.h"
#include "config/opt.h"
#include "model/codec.h"
#include "model/stats.h"
#include "plan/plan.h"
#include "testing.h"

#include <dlfcn.h>

typedef enum lm_status inst_stat_fn(const struct lm_stats *s, uint32_t stat,
                                    uint32_t site, int32_t layer, const double **out,
                                    int64_t *n, struct lm_err *e);
static inst_stat_fn *inst_stat;
static int64_t inst_tokens;             /* of inst_stat's statistics */
static int inst_cholesky_failures;      /* so many calls fail first */

static inline enum lm_status inst_stats(const struct lm_stats *s, uint32_t stat,
                                        uint32_t site, int32_t layer, const double **out,
                                        int64_t *n, struct lm_err *e)
{
    return inst_stat ? inst_stat(s, stat, site, layer, out, n, e)
                     : lm_stats_get(s, stat, site, layer, out, n, e);
}

static inline int64_t inst_stat_tokens(const struct lm_stats *s)
{
    return inst_stat ? inst_tokens : lm_stats_tokens(s);
}

static inline uint64_t inst_seed(struct lm_run *r, const char *purpose, uint64_t index)
{
    (void)r;
    return lm_seed(1, purpose, index);
}

static inline enum lm_status inst_cholesky(double *a, int64_t n, int64_t lda,
                                           struct lm_err *e)
{
    if (inst_cholesky_failures > 0) {
        inst_cholesky_failures--;
        return lm_fail(e, LM_EFAILED, "the test wants this factorization to fail");
    }
    return lm_cholesky(a, n, lda, e);
}

static inline bool inst_canceled(struct lm_run *r)
{
    (void)r;
    return lm_canceled();
}

static inline enum lm_status inst_parallel(struct lm_run *r, int64_t n,
                                           void (*body)(void *, int64_t, uint32_t),
                                           void *ctx)
{
    (void)r;
    return lm_parallel(n, body, ctx);
}

static inline const struct lm_host *inst_host(void)
{
    static const struct lm_host host = {
        .struct_size = sizeof host, .abi_major = LM_ABI_MAJOR, .abi_minor = LM_ABI_MINOR,
        .version = "test", .alloc = lm_alloc, .resize = lm_resize, .release = lm_release,
        .fail = lm_fail, .canceled = inst_canceled, .parallel = inst_parallel,
        .seed = inst_seed, .clock = lm_clock, .gemm = lm_gemm, .gemm64 = lm_gemm64,
        .gemv = lm_gemv,
        .cholesky = inst_cholesky, .cholesky_solve = lm_cholesky_solve,
        .eigen = lm_eigen,
        .codec = lm_codec, .arch = lm_model_arch, .tensor = lm_model_tensor,
        .rows = lm_model_rows, .vocabulary = lm_model_vocabulary,
        .source = lm_model_source, .model_hash = lm_model_hash, .stat = inst_stats,
        .stat_tokens = inst_stat_tokens, .add_gene = lm_space_add,
        .scores = lm_space_scores, .edit_drop = lm_plan_drop, .edit_keep = lm_plan_keep,
        .edit_keep_top = lm_plan_keep_top
    };

    return &host;
}

struct inst {
    void *dl, *self;
    const struct lm_module *m;
    const void *ops;
    struct lm_options opt;
};

/* The module only; fails the test when there is none. */
static inline void inst_load(struct inst *p, const char *kind, const char *name)
{
    const char *build = getenv("LAMINA_BUILDDIR");
    const struct lm_module *(*entry)(void);
    char path[1024];

    memset(p, 0, sizeof *p);
    snprintf(path, sizeof path, "%s/plugins/%s/.libs/%s.so", build ? build : ".", kind,
             name);
    p->dl = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(p->dl != NULL, "%s: %s", path, dlerror());
    *(void **)&entry = dlsym(p->dl, "lm_plugin");
    ck_assert_ptr_nonnull(entry);
    p->m = entry();
    p->ops = p->m->ops;
    ck_assert_str_eq(p->m->name, name);
}

/* The plugin's own check runs too. */
static inline enum lm_status inst_create(struct inst *p, const char *options,
                                         const struct lm_model *model,
                                         const struct lm_stats *stats, struct lm_err *e)
{
    struct lm_conf *group = NULL;
    struct lm_args a = { .struct_size = sizeof a, .host = inst_host(),
                         .instance = p->m->name, .model = model, .stats = stats };
    enum lm_status st = lm_options_group(p->m, options, "test", &group, e);

    if (!st)
        st = lm_options_fill(p->m, group, "test", NULL, NULL, &p->opt, e);
    lm_conf_free(group);
    if (st)
        return st;
    a.config = p->opt.config;
    st = p->m->check ? p->m->check(inst_host(), a.config, e) : LM_OK;
    if (!st)
        st = p->m->create(&a, &p->self, e);
    if (st)
        lm_options_free(&p->opt);
    return st;
}

static inline void inst_destroy(struct inst *p)
{
    p->m->destroy(p->self);
    p->self = NULL;
    lm_options_free(&p->opt);
}

static inline void inst_open(struct inst *p, const char *kind, const char *name,
                             const char *options, const struct lm_model *model,
                             const struct lm_stats *stats)
{
    struct lm_err e = { LM_OK, "" };

    inst_load(p, kind, name);
    ck_assert_ok(lm_options_lint(p->m, &e), e);
    ck_assert_ok(inst_create(p, options, model, stats, &e), e);
}

static inline void inst_close(struct inst *p)
{
    inst_destroy(p);
    dlclose(p->dl);
}
#endif
