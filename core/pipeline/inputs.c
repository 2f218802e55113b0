/* SPDX-License-Identifier: Apache-2.0 */
/* inputs.c -- files that options of evaluators name: a study is of their contents, as it
 * is of its texts.                                                           */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "pipeline/job.h"

typedef enum lm_status see_file(void *ctx, const char *key, const char *path,
                                const char *hash, struct lm_err *e);

static enum lm_status see_stage(const struct lm_stage *s, see_file *see, void *ctx,
                                struct lm_err *e)
{
    const struct lm_opt *o;
    enum lm_status st = LM_OK;

    for (size_t i = 0; !st && (o = lm_opt_at(&s->plugin->module, i)); i++) {
        const char *path = o->type != LM_OPT_PATH ? NULL
            : *(const char *const *)((const char *)s->opt.config + o->offset);
        char key[160], hash[24];
        struct lm_map map;

        if (!path || lm_is_folder(path))
            continue;
        if ((st = lm_map_open(&map, path, e)))
            return st;
        snprintf(hash, sizeof hash, "%016" PRIx64, lm_hash(map.data, map.n, 0));
        lm_map_close(&map);
        snprintf(key, sizeof key, "file_hash:%s.%s", s->id, o->name);
        st = see(ctx, key, path, hash, e);
    }
    return st;
}

static enum lm_status see_all(const struct lm_pipeline *p, see_file *see, void *ctx,
                              struct lm_err *e)
{
    enum lm_status st = LM_OK;

    for (size_t i = 0; !st && i < p->n_evaluate; i++)
        st = see_stage(&p->evaluate[i], see, ctx, e);
    for (size_t i = 0; !st && i < p->n_final; i++)
        st = see_stage(&p->final[i], see, ctx, e);
    return st;
}

static enum lm_status put(void *ctx, const char *key, const char *path, const char *hash,
                          struct lm_err *e)
{
    (void)path;
    return lm_store_put(ctx, key, hash, e);
}

static enum lm_status compare(void *ctx, const char *key, const char *path,
                              const char *hash, struct lm_err *e)
{
    char *was;
    enum lm_status st = lm_store_get(ctx, key, &was, e);

    if (!st && was && strcmp(was, hash))
        st = lm_fail(e, LM_EINPUT, "%s was changed since the study began; put the former "
                     "file back or start a new run", path);
    lm_release(was);
    return st;
}

enum lm_status lm_inputs_put(struct lm_store *store, const struct lm_pipeline *p,
                             struct lm_err *e)
{
    return see_all(p, put, store, e);
}

enum lm_status lm_inputs_same(struct lm_store *store, const struct lm_pipeline *p,
                              struct lm_err *e)
{
    return see_all(p, compare, store, e);
}
