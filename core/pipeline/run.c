/* SPDX-License-Identifier: Apache-2.0 */
/* run.c -- see run.h. */
#include "pipeline/run.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "model/chat.h"
#include "model/stats.h"

enum { TEXT_LIMIT = 1 << 30, MAX_TEXTS = 64 };

struct text {
    char   *name, *path, *origin;
    bool    chat;
    double  from, to;
    int64_t sequences, length, seed;
    int64_t *start;                     /* [sequences] in the slice; NULL: by seed */
    int32_t *ids;                       /* the whole file; NULL: not read yet */
    bool    shared;                     /* ids are another slice's */
    uint64_t hash;                      /* of the file's bytes */
    size_t  first, n, n_file;           /* the slice; tokens of the file */
};

struct lm_run {
    uint64_t seed;
    struct lm_tokenizer *tokenizer;
    const struct lm_model *model;
    pthread_mutex_t lock;
    struct text text[MAX_TEXTS];
    size_t n_text;
    char *folder;
    lm_price *price;
    lm_weigh *weigh;
    void *price_ctx;
};

enum lm_status lm_run_open(uint64_t seed, struct lm_run **r, struct lm_err *e)
{
    struct lm_run *run = lm_alloc(sizeof *run, "run");
    if (!run)
        return lm_fail_memory(e, sizeof *run, "the run");
    run->seed = seed;
    pthread_mutex_init(&run->lock, NULL);
    *r = run;
    return LM_OK;
}

void lm_run_close(struct lm_run *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_text; i++) {
        lm_release(r->text[i].name);
        lm_release(r->text[i].path);
        lm_release(r->text[i].origin);
        lm_release(r->text[i].start);
        if (!r->text[i].shared)
            lm_release(r->text[i].ids);
    }
    lm_release(r->folder);
    lm_tokenizer_close(r->tokenizer);
    pthread_mutex_destroy(&r->lock);
    lm_release(r);
}

enum lm_status lm_run_set_folder(struct lm_run *r, const char *path, struct lm_err *e)
{
    char real[PATH_MAX];
    if (!realpath(path, real))
        return lm_fail(e, LM_EIO, "%s: cannot be resolved", path);
    lm_release(r->folder);
    r->folder = lm_strdup(real, "run");
    return r->folder ? LM_OK : lm_fail_memory(e, strlen(real) + 1, "the run folder");
}

const char *lm_run_folder(const struct lm_run *r)
{
    return r ? r->folder : NULL;
}

void lm_run_set_price(struct lm_run *r, lm_price *price, lm_weigh *weigh, void *ctx)
{
    r->price = price;
    r->weigh = weigh;
    r->price_ctx = ctx;
}

enum lm_status lm_run_price(struct lm_run *r, const union lm_value *const *value,
                            size_t n, double *share, struct lm_err *e)
{
    if (!r || !r->price)
        return lm_fail(e, LM_EUNAVAILABLE, "genomes have no price outside of a search");
    return r->price(r->price_ctx, value, n, share, e);
}

enum lm_status lm_run_weigh(struct lm_run *r, const union lm_value *value,
                            struct lm_cost *out, struct lm_err *e)
{
    if (!r || !r->weigh)
        return lm_fail(e, LM_EUNAVAILABLE, "genomes have no size outside of a search");
    return r->weigh(r->price_ctx, value, out, e);
}

uint64_t lm_run_seed(const struct lm_run *r)
{
    return r->seed;
}

static struct text *find(const struct lm_run *r, const char *name)
{
    for (size_t i = 0; i < r->n_text; i++)
        if (!strcmp(r->text[i].name, name))
            return (struct text *)&r->text[i];
    return NULL;
}

enum lm_status lm_run_text(struct lm_run *r, const char *name,
                           const struct lm_text_options *o, struct lm_err *e)
{
    if (r->n_text == MAX_TEXTS)
        return lm_fail(e, LM_ECONFIG, "more than %d texts", MAX_TEXTS);
    struct text *t = &r->text[r->n_text];
    *t = (struct text){ .name = lm_strdup(name, "run"), .path = lm_strdup(o->path, "run"),
        .from = o->part.n == 2 ? o->part.v[0] : 0,
        .to = o->part.n == 2 ? o->part.v[1] : 1,
        .sequences = lm_text_sequences(o), .length = o->length, .seed = o->seed,
        .start = o->starts.n ? lm_alloc_array(o->starts.n, sizeof *t->start,
                                              "run") : NULL,
        .chat = o->chat, .origin = lm_strdup(o->origin ? o->origin : "", "run") };
    if (!t->name || !t->path || !t->origin || (o->starts.n && !t->start)) {
        lm_release(t->name);
        lm_release(t->path);
        lm_release(t->origin);
        lm_release(t->start);
        return lm_fail_memory(e, strlen(o->path), "a text's name");
    }
    if (t->start)
        memcpy(t->start, o->starts.v, o->starts.n * sizeof *t->start);
    r->n_text++;
    return LM_OK;
}

bool lm_run_has_text(const struct lm_run *r, const char *name)
{
    return find(r, name) || lm_file_exists(name);
}

const char *lm_run_near_text(const struct lm_run *r, const char *name)
{
    const char *names[MAX_TEXTS];
    for (size_t i = 0; i < r->n_text; i++)
        names[i] = r->text[i].name;
    return lm_nearest(name, names, r->n_text);
}

enum lm_status lm_run_model(struct lm_run *r, const struct lm_model *m, struct lm_err *e)
{
    const struct lm_vocabulary *v = lm_model_vocabulary(m);
    r->model = m;
    enum lm_status s = v ? lm_tokenizer_open(v, &r->tokenizer, e) : LM_OK;
    return s && s != LM_ENOMEM ? lm_err_prefix(e, "%s: ", lm_model_source(m)) : s;
}

const struct lm_tokenizer *lm_run_tokenizer(const struct lm_run *r)
{
    return r->tokenizer;
}

static void slice(struct text *t, size_t n)
{
    t->n_file = n;
    t->first = (size_t)(t->from * (double)n);
    t->n = (size_t)(t->to * (double)n) - t->first;
}

/* The conversations of a file, written out; bytes are freed. */
static enum lm_status converse(struct lm_run *r, const struct text *t, char **bytes,
                               size_t *n, struct lm_err *e)
{
    struct lm_chat chat;
    struct lm_str out = { 0 };
    enum lm_status s = lm_chat_open(lm_model_vocabulary(r->model),
                                    lm_model_arch(r->model), &chat, e);
    size_t line = 1;
    if (s)
        return lm_err_prefix(e, "%s%sdata.%s: chat: %s: ", t->origin,
                             *t->origin ? ": error: " : "", t->name,
                             lm_model_source(r->model));
    for (size_t at = 0; at < *n && !s; line++) {
        const char *from = *bytes + at, *end = memchr(from, '\n', *n - at);
        size_t size = end ? (size_t)(end - from) : *n - at;
        char where[4096];
        snprintf(where, sizeof where, "%s:%zu", t->path, line);
        size_t blank = 0;
        while (blank < size && strchr(" \t\r", from[blank]) && from[blank])
            blank++;
        if (blank < size)
            s = lm_chat_json(&chat, from, size, where, &out, e);
        at += size + 1;
    }
    if (!s && !out.n)
        s = lm_fail(e, LM_EINPUT, "%s: there is no conversation in this file", t->path);
    if (s) {
        lm_str_free(&out);
        return s;
    }
    lm_release(*bytes);
    *bytes = out.s;
    *n = out.n;
    return LM_OK;
}

/* Tokenizes the file of t, or borrows the ids of another slice of it. */
static enum lm_status load(struct lm_run *r, struct text *t, struct lm_err *e)
{
    char *bytes;
    size_t n_bytes, n;
    if (!r->tokenizer)
        return lm_fail(e, LM_EINPUT, "%s: the model has no tokenizer, so it cannot read "
                       "text", t->path);
    for (size_t i = 0; i < r->n_text; i++) {
        const struct text *o = &r->text[i];
        if (o->ids && !o->shared && o->chat == t->chat && !strcmp(o->path, t->path)) {
            t->ids = o->ids;
            t->shared = true;
            t->hash = o->hash;
            slice(t, o->n_file);
            return LM_OK;
        }
    }
    enum lm_status s = lm_read_file(t->path, TEXT_LIMIT, &bytes, &n_bytes, e);
    if (s)
        return s;
    t->hash = lm_hash(bytes, n_bytes, t->chat);
    if (t->chat && (s = converse(r, t, &bytes, &n_bytes, e))) {
        lm_release(bytes);
        return s;
    }
    s = lm_tokenize(r->tokenizer, bytes, n_bytes, t->chat, &t->ids, &n, e);
    lm_release(bytes);
    if (s)
        return lm_err_prefix(e, "%s: ", t->path);
    slice(t, n);
    return LM_OK;
}

bool lm_run_text_at(const struct lm_run *r, size_t i, const char **name, uint64_t *hash)
{
    size_t k = 0;
    while (k < r->n_text && (!r->text[k].ids || i--))
        k++;
    if (k == r->n_text)
        return false;
    *name = r->text[k].name;
    *hash = r->text[k].hash;
    return true;
}

static enum lm_status get(struct lm_run *r, const char *name, struct text **out,
                          struct lm_err *e)
{
    struct text *t = find(r, name);
    if (!t) {
        struct lm_text_options o = { .path = name, .sequences = 128, .length = 512 };
        if (!lm_file_exists(name))
            return lm_fail(e, LM_EINPUT, "%s: no such file, and no entry of `data` has "
                           "that name", name);
        enum lm_status s = lm_run_text(r, name, &o, e);
        if (s)
            return s;
        t = find(r, name);
    }
    if (!t->ids) {
        enum lm_status s = load(r, t, e);
        if (s)
            return s;
    }
    *out = t;
    return LM_OK;
}

enum lm_status lm_run_ids(struct lm_run *r, const char *name, const int32_t **ids,
                          size_t *n, struct lm_err *e)
{
    struct text *t;
    pthread_mutex_lock(&r->lock);
    enum lm_status s = get(r, name, &t, e);
    if (!s) {
        *ids = t->ids + t->first;
        *n = t->n;
    }
    pthread_mutex_unlock(&r->lock);
    return s;
}

/* Where the sequences of a sample start in the slice. */
static enum lm_status find_starts(const struct text *t, int64_t *start, struct lm_err *e)
{
    if (!t->start) {
        lm_sample_starts((uint32_t)t->seed, (int64_t)t->n, t->length, t->sequences,
                         start);
        return LM_OK;
    }
    for (int64_t i = 0; i < t->sequences; i++) {
        if (t->start[i] > (int64_t)t->n - t->length)
            return lm_fail(e, LM_EINPUT, "%s%sdata.%s: starts: %lld and %lld tokens from "
                           "there are beyond the %zu tokens of %s", t->origin,
                           *t->origin ? ": error: " : "", t->name, (long long)t->start[i],
                           (long long)t->length, t->n, t->path);
        start[i] = t->start[i];
    }
    return LM_OK;
}

enum lm_status lm_run_sample(struct lm_run *r, const char *name, int32_t **ids,
                             int64_t *n_seq, int64_t *length, struct lm_err *e)
{
    struct text *t;
    enum lm_status s = get(r, name, &t, e);
    if (s)
        return s;
    if ((int64_t)t->n < t->length + 2)
        return lm_fail(e, LM_EINPUT, "%s: %zu tokens are too few for sequences of %lld; "
                       "give a longer text or a smaller `length`", t->path, t->n,
                       (long long)t->length);
    int64_t *start = lm_alloc_array((size_t)t->sequences, sizeof *start, "run");
    int32_t *out = lm_alloc_array((size_t)(t->sequences * t->length), sizeof *out, "run");
    if (!start || !out) {
        lm_release(start);
        lm_release(out);
        return lm_fail_memory(e, (size_t)(t->sequences * t->length) * 4,
                              "calibration text");
    }
    s = find_starts(t, start, e);
    for (int64_t i = 0; !s && i < t->sequences; i++)
        memcpy(out + i * t->length, t->ids + t->first + start[i],
               (size_t)t->length * sizeof *out);
    lm_release(start);
    if (s) {
        lm_release(out);
        return s;
    }
    *ids = out;
    *n_seq = t->sequences;
    *length = t->length;
    return LM_OK;
}
