/* SPDX-License-Identifier: Apache-2.0 */
/* loader.c -- finding and opening plugins; the only file that knows libltdl.
 *
 * Every path handed to libltdl is absolute and ends in .so or .la: given a bare
 * name it would look through the system's library folders and might open
 * something unrelated.  Its messages say "file not found" for everything, so
 * dlopen is asked first, which also binds all symbols at once: libltdl binds
 * lazily, and a plugin with a missing symbol would die in the middle of a run.
 * Handles are never closed: what a plugin returned stays valid, and sanitizers
 * can name its functions.                                                     */
#include <dlfcn.h>
#include <ltdl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "config/opt.h"
#include "loader/loader_check.h"

enum { MAX_FOLDERS = 32 };

static struct {
    char  *folder[MAX_FOLDERS];         /* absolute                             */
    size_t n;
    struct lm_loaded *first;
} loader;

/* ---- folders ---------------------------------------------------------------------- */

/* As root, nothing is loaded that any user could have put there. */
static enum lm_status check_owner(const char *path, struct lm_err *e)
{
    struct stat st;
    if (geteuid() == 0 && stat(path, &st) == 0 && (st.st_mode & S_IWOTH))
        return lm_fail(e, LM_ECONFIG, "%s: anyone may write there; plugins are not "
                       "loaded from such a place as root", path);
    return LM_OK;
}

/* Missing folders are skipped unless they must be there; doubles always. */
static enum lm_status add_folder(const char *path, bool must, struct lm_err *e)
{
    char real[PATH_MAX];
    if (!realpath(path, real) || !lm_is_folder(real))
        return must ? lm_fail(e, LM_ECONFIG, "plugin folder '%s' does not exist", path)
                    : LM_OK;
    for (size_t i = 0; i < loader.n; i++)
        if (!strcmp(loader.folder[i], real))
            return LM_OK;
    enum lm_status s = check_owner(real, e);
    if (s)
        return s;
    if (loader.n == MAX_FOLDERS)
        return lm_fail(e, LM_ECONFIG, "more than %d plugin folders", MAX_FOLDERS);
    if (!(loader.folder[loader.n] = lm_strdup(real, "plugins")))
        return lm_fail_memory(e, strlen(real) + 1, "plugin folders");
    loader.n++;
    return LM_OK;
}

/* "DIR:DIR"; empty members are skipped, they would mean the current folder. */
static enum lm_status add_folders(const char *list, bool must, struct lm_err *e)
{
    enum lm_status s = LM_OK;
    while (list && *list && !s) {
        char path[PATH_MAX];
        size_t n = strcspn(list, ":");
        if (n >= sizeof path)
            return lm_fail(e, LM_ECONFIG, "a plugin folder has a path of %zu bytes", n);
        memcpy(path, list, n);
        path[n] = 0;
        if (n)
            s = add_folder(path, must, e);
        list += n + (list[n] == ':');
    }
    return s;
}

/* plugins/ of the build tree that this program runs in.  config.status tells a
 * build tree from anything else; .libs is where libtool puts the program.     */
static bool in_tree(char *out, size_t n)
{
    char exe[PATH_MAX], mark[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (len <= 0)
        return false;
    exe[len] = 0;
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(exe, '/');
        if (!slash)
            return false;
        *slash = 0;
        slash = strrchr(exe, '/');
        if (up || !slash || strcmp(slash, "/.libs"))
            break;
    }
    return lm_path_join(mark, sizeof mark, exe, "config.status") && lm_file_exists(mark)
        && lm_path_join(out, n, exe, "plugins") && lm_is_folder(out);
}

enum lm_status lm_loader_start(const char *plugin_path, struct lm_err *e)
{
    char tree[PATH_MAX];
    lm_loader_stop();
    if (lt_dlinit())
        return lm_fail(e, LM_EFAILED, "libltdl does not start: %s", lt_dlerror());
    enum lm_status s = add_folders(plugin_path, true, e);
    if (!s)
        s = add_folders(getenv("LAMINA_PLUGIN_PATH"), false, e);
    if (!s)
        s = add_folder(in_tree(tree, sizeof tree) ? tree : LM_PLUGINDIR, false, e);
    if (s)
        lm_loader_stop();
    return s;
}

void lm_loader_stop(void)
{
    while (loader.first) {
        struct lm_loaded *next = loader.first->next;
        lm_release(loader.first->ops);
        lm_release(loader.first->path);
        lm_release(loader.first);
        loader.first = next;
    }
    while (loader.n)
        lm_release(loader.folder[--loader.n]);
}

enum lm_status lm_loader_export(struct lm_err *e)
{
    struct lm_str list = { 0 };
    for (size_t i = 0; i < loader.n; i++)
        lm_str_add(&list, "%s%s", i ? ":" : "", loader.folder[i]);
    bool bad = list.failed || setenv("LAMINA_PLUGIN_PATH", list.s ? list.s : "", 1);
    lm_str_free(&list);
    return bad ? lm_fail_memory(e, 4096, "the environment") : LM_OK;
}

/* ---- one file --------------------------------------------------------------------- */

/* "ffn" of "/usr/lib/lamina/0/pruners/ffn.so". */
static bool name_of(const char *path, char *out, size_t n)
{
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    size_t len = strlen(base);
    if (len < 4 || (strcmp(base + len - 3, ".so") && strcmp(base + len - 3, ".la")) ||
        len - 3 >= n)
        return false;
    memcpy(out, base, len - 3);
    out[len - 3] = 0;
    return true;
}

/* The shared object itself: a .la describes one, in .libs before it is
 * installed.                                                                  */
static bool object_of(const char *path, char *out, size_t n)
{
    size_t len = strlen(path);
    if (strcmp(path + len - 3, ".la"))
        return snprintf(out, n, "%s", path) < (int)n;
    const char *base = strrchr(path, '/') + 1;
    int k = snprintf(out, n, "%.*s.libs/%.*s.so", (int)(base - path), path,
                     (int)(strlen(base) - 3), base);
    return k > 0 && k < (int)n && lm_file_exists(out);
}

static enum lm_status open_handle(const char *path, lt_dlhandle *out, struct lm_err *e)
{
    char object[PATH_MAX];
    lt_dladvise advise;
    if (object_of(path, object, sizeof object) &&
        !dlopen(object, RTLD_NOW | RTLD_LOCAL)) {
        const char *why = dlerror();
        return lm_fail(e, LM_EUNAVAILABLE, "cannot be opened: %s",
                       why ? why : "no reason given");
    }
    if (lt_dladvise_init(&advise))
        return lm_fail(e, LM_ENOMEM, "cannot be opened: %s", lt_dlerror());
    lt_dlhandle h = lt_dladvise_local(&advise) ? NULL : lt_dlopenadvise(path, advise);
    const char *why = h ? NULL : lt_dlerror();
    lt_dladvise_destroy(&advise);
    *out = h;
    return h ? LM_OK : lm_fail(e, LM_EUNAVAILABLE, "cannot be opened: %s",
                               why ? why : "no reason given");
}

static enum lm_status load(const char *path, const char *name, struct lm_loaded *out,
                           struct lm_err *e)
{
    lt_dlhandle h;
    const struct lm_module *(*entry)(void);
    enum lm_status s = open_handle(path, &h, e);
    if (s)
        return s;
    void *symbol = lt_dlsym(h, "lm_plugin");
    if (!symbol)
        return lm_fail(e, LM_EUNAVAILABLE, "not a plugin of Lamina: it has no function "
                       "lm_plugin");
    memcpy(&entry, &symbol, sizeof entry);      /* ISO C has no cast for this */
    const struct lm_module *m = entry();
    if (!m)
        return lm_fail(e, LM_EBUG, "broken plugin: lm_plugin returned NULL");
    return lm_module_check(m, name, out, e);
}

/* path is absolute. */
static enum lm_status open_file(const char *path, const struct lm_loaded **out,
                                struct lm_err *e)
{
    char name[128], folder[PATH_MAX];
    for (struct lm_loaded *l = loader.first; l; l = l->next)
        if (!strcmp(l->path, path)) {
            *out = l;
            return LM_OK;
        }
    if (!name_of(path, name, sizeof name))
        return lm_fail(e, LM_ECONFIG, "%s: the file of a plugin is called NAME.so", path);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    enum lm_status s = check_owner(folder, e);
    if (!s)
        s = check_owner(path, e);
    if (s)
        return s;
    struct lm_loaded *l = lm_alloc(sizeof *l, "plugin");
    if (!l || !(l->path = lm_strdup(path, "plugin"))) {
        lm_release(l);
        return lm_fail_memory(e, sizeof *l + strlen(path), "a plugin");
    }
    if ((s = load(path, name, l, e))) {
        lm_err_prefix(e, "%s: ", path);
        lm_release(l->path);
        lm_release(l);
        return s;
    }
    l->next = loader.first;
    *out = loader.first = l;
    return LM_OK;
}

enum lm_status lm_loader_open(const char *path, const struct lm_loaded **out,
                              struct lm_err *e)
{
    char folder[PATH_MAX], real[PATH_MAX], full[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash + 1 - path) : 2,
             slash ? path : "./");
    if (!lm_file_exists(path) || !realpath(folder, real))
        return lm_fail(e, LM_EINPUT, "%s: no such file", path);
    if (!lm_path_join(full, sizeof full, real, slash ? slash + 1 : path))
        return lm_fail(e, LM_EINPUT, "%s: the path is too long", path);
    return open_file(full, out, e);
}

/* ---- by name ---------------------------------------------------------------------- */

/* FOLDER/NAME.so, else .la. */
static bool file_of(char *out, size_t n, const char *folder, const char *name)
{
    static const char *const suffix[] = { ".so", ".la" };
    for (int i = 0; i < 2; i++) {
        int k = snprintf(out, n, "%s/%s%s", folder, name, suffix[i]);
        if (k > 0 && (size_t)k < n && lm_file_exists(out))
            return true;
    }
    return false;
}

/* *out stays NULL when there is none. */
static enum lm_status lookup(enum lm_kind kind, const char *name,
                             const struct lm_loaded **out, struct lm_err *e)
{
    char sub[PATH_MAX], path[PATH_MAX];
    for (size_t i = 0; i < loader.n; i++) {
        const struct lm_loaded *l;
        enum lm_status s;
        if (lm_path_join(sub, sizeof sub, loader.folder[i], lm_kind_folder(kind)) &&
            file_of(path, sizeof path, sub, name)) {
            if ((s = open_file(path, &l, e)))
                return s;
            if (l->module.kind != kind)
                return lm_fail(e, LM_EBUG, "%s: broken plugin: its kind is %s, its "
                               "folder is for %s", path,
                               lm_kind_name((enum lm_kind)l->module.kind),
                               lm_kind_name(kind));
            *out = l;
            return LM_OK;
        }
        /* a folder of one's own may hold plugins of all kinds */
        if (!file_of(path, sizeof path, loader.folder[i], name))
            continue;
        if ((s = open_file(path, &l, e)))
            return s;
        if (l->module.kind == kind) {
            *out = l;
            return LM_OK;
        }
    }
    return LM_OK;
}

/* The sentence about an unknown name; kind 0: any. */
static enum lm_status unknown(enum lm_kind kind, const char *name, struct lm_err *e)
{
    const struct lm_loaded **all = NULL;
    const char **names = NULL;
    struct lm_str searched = { 0 }, available = { 0 };
    size_t n_all, n = 0;
    enum lm_status s = lm_loader_list(&all, &n_all, e);
    if (!s && !(names = lm_alloc_array(n_all + 1, sizeof *names, "plugins")))
        s = lm_fail_memory(e, n_all * sizeof *names, "a message");
    for (size_t i = 0; !s && i < n_all; i++)
        if (!kind || all[i]->module.kind == kind) {
            lm_str_add(&available, "%s%s", n ? " " : "", all[i]->module.name);
            names[n++] = all[i]->module.name;
        }
    for (size_t i = 0; i < loader.n; i++)
        lm_str_add(&searched, "%s%s", i ? ", " : "", loader.folder[i]);
    if (!s && (searched.failed || available.failed))
        s = lm_fail_memory(e, searched.n + available.n, "a message");
    if (!s) {
        const char *near = lm_nearest(name, names, n);
        s = lm_fail(e, LM_ECONFIG, "no %s '%.64s' (searched: %.500s); available: %.300s"
                    "%s%s%s", kind ? lm_kind_word(kind) : "plugin", name,
                    loader.n ? searched.s : LM_PLUGINDIR ", which is missing",
                    n ? available.s : "none",
                    near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    lm_str_free(&searched);
    lm_str_free(&available);
    lm_release(names);
    lm_release(all);
    return s;
}

enum lm_status lm_loader_find(enum lm_kind kind, const char *name,
                              const struct lm_conf *at, const struct lm_loaded **out,
                              struct lm_err *e)
{
    enum lm_status s;
    *out = NULL;
    if (!lm_plugin_name(name))
        s = lm_fail(e, LM_ECONFIG, "'%.64s' is no name of a plugin (a-z, 0-9 and _); "
                    "where plugins are is set by LAMINA_PLUGIN_PATH or --plugin-path",
                    name);
    else
        s = lookup(kind, name, out, e);
    if (!s && !*out)
        s = unknown(kind, name, e);
    if (s && at)
        lm_err_prefix(e, "%s: error: %s: ", at->origin, lm_kind_key(kind));
    return s;
}

/* "random", or "scorer/random" where several kinds have one. */
enum lm_status lm_loader_any(const char *name, const struct lm_loaded **out,
                             struct lm_err *e)
{
    const char *slash = strchr(name, '/'), *base = slash ? slash + 1 : name;
    const struct lm_loaded *found[LM_N_KINDS];
    size_t n = 0;
    *out = NULL;
    if (!lm_plugin_name(base))
        return lm_fail(e, LM_ECONFIG, "'%.64s' is no name of a plugin (a-z, 0-9 and _)",
                       name);
    for (int k = LM_SEARCH; k < LM_N_KINDS; k++) {
        const char *word = lm_kind_name((enum lm_kind)k);
        if (slash && (strlen(word) != (size_t)(slash - name) ||
                      strncmp(word, name, strlen(word))))
            continue;
        const struct lm_loaded *l = NULL;
        enum lm_status s = lookup((enum lm_kind)k, base, &l, e);
        if (s)
            return s;
        if (l)
            found[n++] = l;
    }
    if (!n)
        return unknown((enum lm_kind)0, name, e);
    if (n == 1) {
        *out = found[0];
        return LM_OK;
    }
    char list[512] = "";
    for (size_t i = 0, k = 0; i < n; i++)
        k += (size_t)snprintf(list + k, sizeof list - k, "%s%s/%s", i ? ", " : "",
                              lm_kind_name((enum lm_kind)found[i]->module.kind), base);
    return lm_fail(e, LM_ECONFIG, "several plugins are called '%s'; write one of %s",
                   base, list);
}

/* ---- all of them ------------------------------------------------------------------ */

struct all {
    const struct lm_loaded **v;
    size_t n;
    void (*see)(void *ctx, const char *why);    /* of broken ones */
    void *ctx;
};

/* The first of a kind and name wins, as in lookup. */
static enum lm_status add(struct all *a, const struct lm_loaded *l, struct lm_err *e)
{
    for (size_t i = 0; i < a->n; i++)
        if (a->v[i]->module.kind == l->module.kind &&
            !strcmp(a->v[i]->module.name, l->module.name))
            return LM_OK;
    const struct lm_loaded **more = lm_resize(a->v, (a->n + 1) * sizeof *more);
    if (!more)
        return lm_fail_memory(e, (a->n + 1) * sizeof *more, "plugins");
    a->v = more;
    a->v[a->n++] = l;
    return LM_OK;
}

/* kind 0: a folder of one's own, any kind. */
static enum lm_status add_from(struct all *a, const char *folder, enum lm_kind kind,
                               struct lm_err *e)
{
    char **file = NULL, name[128], path[PATH_MAX];
    size_t n = 0;
    if (!lm_is_folder(folder))
        return LM_OK;
    enum lm_status s = lm_list_folder(folder, &file, &n, e);
    for (size_t i = 0; !s && i < n; i++) {
        const struct lm_loaded *l;
        struct lm_err why = { 0 };
        if (name_of(file[i], name, sizeof name) && lm_plugin_name(name) &&
            file_of(path, sizeof path, folder, name)) {
            enum lm_status bad = open_file(path, &l, &why);
            if (bad == LM_ENOMEM)
                s = lm_fail(e, bad, "%s", why.text);
            else if (bad)
                a->see(a->ctx, why.text);
            else if (!kind || l->module.kind == kind)
                s = add(a, l, e);
        }
    }
    lm_free_names(file, n);
    return s;
}

static int by_kind_and_name(const void *a, const void *b)
{
    const struct lm_loaded *x = *(const struct lm_loaded *const *)a;
    const struct lm_loaded *y = *(const struct lm_loaded *const *)b;
    return x->module.kind != y->module.kind ? (x->module.kind < y->module.kind ? -1 : 1)
         : strcmp(x->module.name, y->module.name);
}

enum lm_status lm_loader_survey(const struct lm_loaded ***out, size_t *n,
                                void (*see)(void *ctx, const char *why), void *ctx,
                                struct lm_err *e)
{
    struct all a = { .see = see, .ctx = ctx };
    enum lm_status s = LM_OK;
    *out = NULL;
    *n = 0;
    for (size_t i = 0; i < loader.n && !s; i++) {
        char sub[PATH_MAX];
        for (int k = LM_SEARCH; k < LM_N_KINDS && !s; k++)
            if (lm_path_join(sub, sizeof sub, loader.folder[i],
                             lm_kind_folder((enum lm_kind)k)))
                s = add_from(&a, sub, (enum lm_kind)k, e);
        if (!s)
            s = add_from(&a, loader.folder[i], (enum lm_kind)0, e);
    }
    if (s) {
        lm_release(a.v);
        return s;
    }
    if (a.n)
        qsort(a.v, a.n, sizeof *a.v, by_kind_and_name);
    *out = a.v;
    *n = a.n;
    return LM_OK;
}

static void warn(void *ctx, const char *why)
{
    (void)ctx;
    lm_log(LM_WARN, "%s", why);
}

enum lm_status lm_loader_list(const struct lm_loaded ***out, size_t *n,
                              struct lm_err *e)
{
    return lm_loader_survey(out, n, warn, NULL, e);
}

const char *lm_loader_folder(size_t i)
{
    return i < loader.n ? loader.folder[i] : NULL;
}
