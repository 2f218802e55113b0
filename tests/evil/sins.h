/* SPDX-License-Identifier: Apache-2.0 */
/* sins.h -- for plugins that break one rule of their kind each.  There is one
 * module for each kind; a test copies it to SIN.so, and it goes by that name: what
 * is("SIN") guards happens in that copy alone.                               */
#ifndef LM_TESTS_SINS_H
#define LM_TESTS_SINS_H
#include "plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

struct self {
    const struct lm_host *host;
    struct lm_run *run;
    const struct lm_model *model;
    const struct lm_stats *stats;
    const struct lm_problem *problem;
    int64_t asked;
    uint64_t state;
};

/* The name of the file that this module was loaded from. */
static inline const char *sin_name(void)
{
    static char name[64];
    const struct lm_module *(*entry)(void) = lm_plugin;
    void *at;
    Dl_info info;

    memcpy(&at, &entry, sizeof at);
    if (!name[0] && dladdr(at, &info)) {
        const char *base = strrchr(info.dli_fname, '/');
        snprintf(name, sizeof name, "%s", base ? base + 1 : info.dli_fname);
        name[strcspn(name, ".")] = 0;
    }
    return name;
}

static inline bool is(const char *sin)
{
    return !strcmp(sin_name(), sin);
}

static inline enum lm_status sin_create(const struct lm_args *a, void **self,
                                        struct lm_err *e)
{
    struct self *s = a->host->alloc(sizeof *s, "sin");

    if (!s)
        return a->host->fail(e, LM_ENOMEM, "out of memory");
    *s = (struct self){ .host = a->host, .run = a->run, .model = a->model,
                        .stats = a->stats };
    *self = s;
    return LM_OK;
}

static inline void sin_destroy(void *self)
{
    ((const struct self *)self)->host->release(self);
}

/* spoil: statements that change the table. */
#define SIN_MODULE(KIND, create_fn, table, spoil) \
    const struct lm_module *lm_plugin(void) \
    { \
        static struct lm_module m = { LM_MODULE_HEAD(KIND), .version = "1", \
            .license = "Apache-2.0", .author = "Lamina", \
            .summary = "A plugin for tests.", .create = create_fn, \
            .destroy = sin_destroy, .ops = &table }; \
        m.name = sin_name(); \
        spoil \
        return &m; \
    }
#endif
