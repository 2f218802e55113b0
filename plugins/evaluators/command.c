/* SPDX-License-Identifier: Apache-2.0 */
/* command -- metrics from a program of the user, which gets the candidate as a
 * file and prints JSON.
 *
 * A metric is declared as "NAME[=PATH] [unit=U] [noisy] [maximise]".  PATH is a
 * member of the printed object, or, with a slash in front, a JSON pointer
 * (RFC 6901: "/0/avg_ts" is member avg_ts of the first element; ~1 stands for
 * a slash, ~0 for a tilde).  Whatever is wrong with the program or with what
 * it prints is a failure of this candidate.                                 */
#include "plugin.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_METRICS = 32, MAX_ARGS = 256, MAX_OUTPUT = 1 << 20 };

struct config {
    struct lm_strings command, metrics;
    const char *format;
    int64_t dtype;
    double timeout;
};

/* Index: enum lm_dtype; 0: what the pipeline exports. */
static const char *const dtypes[] = { "export", "f32", "f16", "bf16", "q8_0", "q4_0",
                                      "q4_1", NULL };

static const struct lm_opt options[] = {
    LM_STRINGLIST(struct config, command, NULL, LM_REQUIRED,
                  "Program and arguments; {model} stands for the candidate's file, "
                  "{plan} for 16 digits that name it, {run} for the run folder."),
    LM_STRINGLIST(struct config, metrics, NULL, LM_REQUIRED,
                  "Numbers in the JSON it prints, each \"NAME[=PATH] [unit=U] [noisy] "
                  "[maximise]\"; PATH is a member or a JSON pointer as /0/avg_ts."),
    LM_STRING(struct config, format, "gguf", 0, "Format of the candidate's file."),
    LM_PICK(struct config, dtype, "export", dtypes, 0,
            "Number format of its matrices; export: that of the first export."),
    LM_REAL(struct config, timeout, "600", 0.1, 1e6, "s", 0,
            "Time limit of one call; the program and all that it started are stopped."),
    LM_OPT_END
};

static const struct lm_metric none[] = { { NULL, NULL, NULL, 0, false, false } };

struct state {
    const struct lm_host *host;
    struct lm_run *run;
    const struct config *config;
    const char *instance;
};

/* ---- metrics ---------------------------------------------------------------------- */

struct wish { struct lm_own_metric m; char path[256]; };

/* The word at *p, which moves behind it. */
static size_t next_word(const char **p, const char **word)
{
    *p += strspn(*p, " ");
    *word = *p;
    size_t n = strcspn(*p, " ");
    *p += n;
    return n;
}

static bool copy(char *out, size_t size, const char *from, size_t n)
{
    if (n == 0 || n >= size)
        return false;
    memcpy(out, from, n);
    out[n] = 0;
    return true;
}

static bool is(const char *word, size_t n, const char *what)
{
    return strlen(what) == n && !memcmp(word, what, n);
}

static const char letters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";

static bool read_wish(const char *text, struct wish *w)
{
    const char *word;
    size_t n = next_word(&text, &word), name = 0;

    memset(w, 0, sizeof *w);
    w->m.reduce = LM_REDUCE_MEAN;
    snprintf(w->m.help, sizeof w->m.help, "What the program prints.");
    while (name < n && word[name] != '=')
        name++;
    if (!copy(w->m.name, sizeof w->m.name, word, name)
        || w->m.name[strspn(w->m.name, letters)])
        return false;
    if (name < n ? !copy(w->path, sizeof w->path, word + name + 1, n - name - 1)
                 : !copy(w->path, sizeof w->path, word, n))
        return false;
    while ((n = next_word(&text, &word)) > 0) {
        if (is(word, n, "noisy"))
            w->m.noisy = true;
        else if (is(word, n, "maximise"))
            w->m.maximise = true;
        else if (n < 5 || memcmp(word, "unit=", 5)
                 || !copy(w->m.unit, sizeof w->m.unit, word + 5, n - 5))
            return false;
    }
    return true;
}

static bool metric_of(const void *config, size_t i, struct lm_own_metric *out)
{
    const struct config *c = config;
    struct wish w;

    if (i >= c->metrics.n || !read_wish(c->metrics.v[i], &w))
        return false;
    w.m.struct_size = sizeof w.m;
    lm_fill_struct(out, &w.m, sizeof w.m);
    return true;
}

static void exports(const void *config, const char **format, uint32_t *dtype)
{
    const struct config *c = config;

    *format = c->format;
    *dtype = (uint32_t)c->dtype;
}

static enum lm_status check(const struct lm_host *h, const void *config, struct lm_err *e)
{
    const struct config *c = config;
    struct wish w, other;
    bool named = false;

    if (!c->command.n || !*c->command.v[0] || c->command.n > MAX_ARGS)
        return h->fail(e, LM_ECONFIG, "command: give the program and its arguments as a "
                       "list of 1 to %d, like [ \"python3\", \"score.py\", \"{model}\" ]",
                       MAX_ARGS);
    for (size_t i = 0; i < c->command.n; i++)
        named |= strstr(c->command.v[i], "{model}") != NULL;
    if (!named)
        return h->fail(e, LM_ECONFIG, "command: no argument holds {model}, so the "
                       "program would never see a candidate");
    if (!c->metrics.n || c->metrics.n > MAX_METRICS)
        return h->fail(e, LM_ECONFIG, "metrics: name 1 to %d numbers to read",
                       MAX_METRICS);
    for (size_t i = 0; i < c->metrics.n; i++) {
        if (!read_wish(c->metrics.v[i], &w))
            return h->fail(e, LM_ECONFIG, "metrics: '%s' is not \"NAME[=PATH] [unit=U] "
                           "[noisy] [maximise]\" with a NAME of letters, digits and _",
                           c->metrics.v[i]);
        for (size_t k = 0; k < i; k++)
            if (read_wish(c->metrics.v[k], &other) && !strcmp(w.m.name, other.m.name))
                return h->fail(e, LM_ECONFIG, "metrics: '%s' is named twice", w.m.name);
    }
    return LM_OK;
}

static enum lm_status create(const struct lm_args *a, void **self, struct lm_err *e)
{
    struct state *s;

    if (!LM_HAS(a->host, call))
        return a->host->fail(e, LM_EUNSUPPORTED, "this version of Lamina runs no "
                             "programs of the user");
    if (!(s = a->host->alloc(sizeof *s, "command")))
        return a->host->fail(e, LM_ENOMEM, "out of memory for command");
    *s = (struct state){ a->host, a->run, a->config, a->instance };
    *self = s;
    return LM_OK;
}

static void destroy(void *self)
{
    struct state *s = self;

    s->host->release(s);
}

static enum lm_status items(void *self, int64_t *n, struct lm_err *e)
{
    (void)self, (void)e;
    *n = 1;
    return LM_OK;
}

static enum lm_status protocol(void *self, char *out, size_t size, struct lm_err *e)
{
    const struct state *s = self;
    const struct config *c = s->config;
    size_t at = 0;

    (void)e;
    for (size_t i = 0; i < c->command.n && at < size; i++) {
        int n = snprintf(out + at, size - at, "%s%s", i ? " " : "runs: ",
                         c->command.v[i]);
        at += n > 0 ? (size_t)n : 0;
    }
    for (size_t i = 0; i < size && out[i]; i++)
        if ((unsigned char)out[i] < ' ')
            out[i] = ' ';               /* one line, whatever the arguments hold */
    if (at < size)
        snprintf(out + at, size - at, "; on %s in %s, at most %g s", c->format,
                 c->dtype ? dtypes[c->dtype] : "the dtype of the export", c->timeout);
    return LM_OK;
}

/* ---- arguments ------------------------------------------------------------------ */

struct fill { const char *name, *value; };

/* Bytes of text with the placeholders filled in; to may be NULL. */
static size_t expand(const char *text, const struct fill *fill, char *to)
{
    size_t n = 0;

    while (*text) {
        const struct fill *f = fill;
        while (f->name && strncmp(text, f->name, strlen(f->name)) != 0)
            f++;
        const char *from = f->name ? f->value : text;
        size_t len = f->name ? strlen(f->value) : 1;
        if (to)
            memcpy(to + n, from, len);
        n += len;
        text += f->name ? strlen(f->name) : 1;
    }
    if (to)
        to[n] = 0;
    return n;
}

/* argv [n + 1] and its texts in one block. */
static char **arguments(const struct state *s, const struct fill *fill, struct lm_err *e)
{
    const struct lm_strings *c = &s->config->command;
    size_t n = (c->n + 1) * sizeof(char *);

    for (size_t i = 0; i < c->n; i++)
        n += expand(c->v[i], fill, NULL) + 1;
    char **argv = s->host->alloc(n, "command");
    if (!argv) {
        s->host->fail(e, LM_ENOMEM, "out of memory for the arguments of a command");
        return NULL;
    }
    char *to = (char *)(argv + c->n + 1);
    for (size_t i = 0; i < c->n; i++) {
        argv[i] = to;
        to += expand(c->v[i], fill, to) + 1;
    }
    return argv;
}

static enum lm_status call(const struct state *s, struct lm_subject *subject, char **text,
                           size_t *n, struct lm_err *e)
{
    const struct lm_host *h = s->host;
    const struct config *c = s->config;
    const char *path, *run = h->run_folder(s->run);
    char plan[24], log[160];
    enum lm_status st = h->subject_file(subject, c->format, (uint32_t)c->dtype, &path, e);

    if (st != LM_OK)
        return st;
    snprintf(plan, sizeof plan, "%016" PRIx64, h->subject_plan(subject));
    snprintf(log, sizeof log, "%.100s-%s.txt", s->instance, plan);
    for (char *p = log; *p; p++)
        if (*p == '/')
            *p = '_';
    const struct fill fill[] = { { "{model}", path }, { "{plan}", plan },
                                 { "{run}", run ? run : "." }, { NULL, NULL } };
    char **argv = arguments(s, fill, e);
    if (!argv)
        return LM_ENOMEM;
    struct lm_call x = { .struct_size = sizeof x, .argv = (const char *const *)argv,
                         .seconds = c->timeout, .most = MAX_OUTPUT, .log = log };
    st = h->call(s->run, &x, text, n, e);
    h->release(argv);
    return st;
}

/* ---- the answer ------------------------------------------------------------------ */

/* One reference of a pointer, up to the next slash, with ~1 and ~0 undone. */
static const char *token(const char *p, char *out, size_t size)
{
    size_t n = 0;

    for (; *p && *p != '/'; p++) {
        char c = *p;
        if (c == '~' && (p[1] == '0' || p[1] == '1'))
            c = *++p == '0' ? '~' : '/';
        if (n + 1 < size)
            out[n++] = c;
    }
    out[n] = 0;
    return p;
}

static const struct lm_json *step(const struct lm_json_api *j, const struct lm_json *at,
                                  const char *key)
{
    size_t i = 0;

    if (j->type(at) == 'o')
        return j->get(at, key);
    if (j->type(at) != 'a' || !*key || strlen(key) > 9 || key[strspn(key, "0123456789")])
        return NULL;
    for (; *key; key++)
        i = 10 * i + (size_t)(*key - '0');
    return i < j->size(at) ? j->at(at, i) : NULL;
}

static const struct lm_json *look_up(const struct lm_json_api *j,
                                     const struct lm_json *root, const char *path)
{
    char key[256];
    const struct lm_json *at = root;

    if (*path != '/')
        return step(j, root, path);
    while (at && *path == '/') {
        path = token(path + 1, key, sizeof key);
        at = step(j, at, key);
    }
    return at;
}

static enum lm_status read_numbers(const struct state *s, const struct lm_json *root,
                                   struct lm_sum *sum, struct lm_err *e)
{
    const struct lm_json_api *j = s->host->json;

    for (size_t i = 0; i < s->config->metrics.n; i++) {
        struct wish w;
        double v = 0;
        read_wish(s->config->metrics.v[i], &w);         /* checked before */
        const struct lm_json *at = look_up(j, root, w.path);
        if (!at)
            return s->host->fail(e, LM_EFAILED, "'%s' printed JSON without '%s'",
                                 s->config->command.v[0], w.path);
        if (!j->real(at, &v) || !isfinite(v))
            return s->host->fail(e, LM_EFAILED, "'%s' printed no number at '%s'",
                                 s->config->command.v[0], w.path);
        sum[i] = (struct lm_sum){ v, 1 };
    }
    return LM_OK;
}

static enum lm_status eval(void *self, struct lm_subject *subject, int64_t item,
                           struct lm_sum *sum, struct lm_err *e)
{
    struct state *s = self;
    struct lm_json *root = NULL;
    char *text = NULL;
    size_t n = 0;
    enum lm_status st = call(s, subject, &text, &n, e);

    (void)item;
    if (st != LM_OK)
        return st;
    st = s->host->json->parse(text, n, "output", &root, NULL);
    if (st == LM_OK)
        st = read_numbers(s, root, sum, e);
    else if (st == LM_ENOMEM)
        s->host->fail(e, st, "out of memory for the output of a command");
    else
        st = s->host->fail(e, LM_EFAILED, "'%s' printed no JSON; its output begins with "
                           "\"%.*s\"", s->config->command.v[0],
                           (int)(strcspn(text, "\n") < 60 ? strcspn(text, "\n") : 60),
                           text);
    if (root)
        s->host->json->close(root);
    s->host->release(text);
    return st;
}

static const struct lm_evaluator evaluator = {
    .struct_size = sizeof evaluator, .needs = LM_NEEDS_COMMANDS,
    .metric = none, .metric_size = sizeof *none,
    .items = items, .protocol = protocol, .eval = eval,
    .metric_of = metric_of, .exports = exports
};

static const struct lm_module module = {
    LM_MODULE_HEAD(EVALUATOR), .name = "command", .version = "1.0",
    .license = "Apache-2.0", .author = "Lamina",
    .summary = "what a program of yours prints about the candidate's file",
    .opt = options, .config_size = sizeof(struct config),
    .check = check, .create = create, .destroy = destroy, .ops = &evaluator
};

const struct lm_module *lm_plugin(void)
{
    return &module;
}
