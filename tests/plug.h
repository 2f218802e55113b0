/* SPDX-License-Identifier: Apache-2.0 */
/* plug.h -- a plugin in a test without the loader and the pipeline: the built
 * module, its options from "key=value" strings, and the beginnings of a host. */
#ifndef LM_TESTS_PLUG_H
#define LM_TESTS_PLUG_H
#include <dlfcn.h>

#include "testing.h"

/* $LAMINA_PLUGIN_PATH/KIND/.libs/NAME.so, opened for good. */
static inline const struct lm_module *plug_open(const char *kind, const char *name)
{
    const char *folder = getenv("LAMINA_PLUGIN_PATH");
    const struct lm_module *(*entry)(void);
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/.libs/%s.so", folder ? folder : "plugins", kind,
             name);
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(so != NULL, "%s: %s", path, dlerror());
    *(void **)&entry = dlsym(so, "lm_plugin");
    ck_assert_ptr_nonnull(entry);
    ck_assert_str_eq(entry()->name, name);
    return entry();
}

static inline void plug_set(const struct lm_module *m, void *config, const char *name,
                            const char *value)
{
    for (const struct lm_opt *o = m->opt; o && o->name; o++) {
        char *to = (char *)config + o->offset;
        if (strcmp(o->name, name) != 0)
            continue;
        if (o->type == LM_OPT_INT)
            *(int64_t *)(void *)to = strtoll(value, NULL, 10);
        else if (o->type == LM_OPT_REAL)
            *(double *)(void *)to = strtod(value, NULL);
        else if (o->type == LM_OPT_BOOL)
            *(bool *)to = !strcmp(value, "true");
        else if (o->type == LM_OPT_CHOICE)
            for (int64_t i = 0; o->choices[i]; i++) {
                if (!strcmp(o->choices[i], value))
                    *(int64_t *)(void *)to = i;
            }
        else
            *(const char **)(void *)to = value;
        return;
    }
    ck_abort_msg("%s has no option %s", m->name, name);
}

/* Defaults, then pairs of name and value up to NULL; free() it. */
static inline void *plug_config(const struct lm_module *m, const char *const *pair)
{
    void *config = calloc(1, m->config_size + 1);
    for (const struct lm_opt *o = m->opt; o && o->name; o++)
        if (o->def)
            plug_set(m, config, o->name, o->def);
    for (; pair && pair[0]; pair += 2)
        plug_set(m, config, pair[0], pair[1]);
    return config;
}

LM_PRINTF(3, 4)
static inline void plug_log(struct lm_run *r, enum lm_level level, const char *fmt, ...)
{
    (void)r, (void)level, (void)fmt;
}

static inline struct lm_host plug_host(void)
{
    return (struct lm_host){ .struct_size = sizeof(struct lm_host), .version = "test",
                             .alloc = lm_alloc, .resize = lm_resize,
                             .release = lm_release, .fail = lm_fail, .log = plug_log };
}
#endif
