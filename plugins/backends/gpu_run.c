/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_run.c -- programs compiled and run.
 *
 * A run looks whether its stream has a recording of the same program over the same
 * buffers and as many rows; else it lowers the program and has the driver record it.  So
 * decoding, which repeats one program, replays one recording for every position.
 *
 * A launch waits for those before it where it reads or writes what one of them, since
 * the last wait, has written, or writes what one has read.                          */
#include <string.h>

#include "gpu.h"

enum lm_status gpu_compile(void *self, const struct lm_program *p, struct lm_exe **x,
                           struct lm_err *e)
{
    struct gpu *g = self;

    *x = NULL;
    enum lm_status st = program_copy(g->host, p, sizeof **x, x, e);
    for (size_t i = 0; !st && i < (*x)->n_op; i++) {
        const struct lm_op *o = &(*x)->op[i];
        bool bytes = (*x)->precision == LM_AS_INT8
            && (o->code == LM_OP_LINEAR || program_is_head(o->code));

        if (o->code == LM_OP_ATTENTION && o->head_dim > GPU_MAX_HEAD)
            st = g->host->fail(e, LM_EUNSUPPORTED, "heads of %d channels: this backend "
                               "has room for %d", (int)o->head_dim, GPU_MAX_HEAD);
        else if (bytes && o->k > GPU_MOST_BYTES)
            st = g->host->fail(e, LM_EUNSUPPORTED, "int8 sums over %d factors: this "
                               "backend has room for %d", (int)o->k, GPU_MOST_BYTES);
        else if (bytes)
            st = gpu_round(g, o->w, e);
    }
    if (st) {
        if (*x)
            gpu_exe_free(g, *x);
        *x = NULL;
    } else {
        (*x)->id = ++g->serial;
    }
    return st;
}

void gpu_exe_free(void *self, struct lm_exe *x)
{
    struct gpu *g = self;

    program_free(g->host, x);
}

/* ---- which launches wait ----------------------------------------------------------- */

static bool overlap(const struct gpu_span *a, const struct gpu_span *b)
{
    return a->slab && a->slab == b->slab && a->at < b->at + b->size
        && b->at < a->at + a->size;
}

static bool conflict(const struct gpu_launch *a, const struct gpu_launch *b)
{
    for (uint32_t i = 0; i < a->n_bind; i++)
        for (uint32_t j = 0; j < b->n_bind; j++)
            if (((a->writes >> i | b->writes >> j) & 1)
                && overlap(&a->bind[i], &b->bind[j]))
                return true;
    return false;
}

static void find_waits(struct gpu_launch *l, size_t n)
{
    for (size_t i = 0, first = 0; i < n; i++) {
        l[i].waits = false;
        for (size_t j = first; j < i && !l[i].waits; j++)
            l[i].waits = conflict(&l[i], &l[j]);
        if (l[i].waits)
            first = i;
    }
}

/* ---- recordings -------------------------------------------------------------------- */

static struct gpu_key key_of(const struct lm_stream *s, const struct lm_exe *x,
                             const struct lm_exec *a)
{
    struct gpu_key k;

    memset(&k, 0, sizeof k);            /* keys are compared as bytes */
    k.exe = x->id;
    k.shape = s->shape;
    k.rows = (uint64_t)a->rows;
    k.hidden = a->hidden->id;
    k.teacher = a->teacher ? a->teacher->id : 0;
    k.kv = a->kv ? a->kv->id : 0;
    for (int i = 0; i < LM_N_TAPS; i++)
        k.tap[i] = a->tap[i] ? a->tap[i]->id : 0;
    return k;
}

static struct gpu_note *find_note(struct lm_stream *s, const struct gpu_key *k)
{
    for (int i = 0; i < GPU_KEPT; i++)
        if (s->note[i].r && !memcmp(&s->note[i].key, k, sizeof *k))
            return &s->note[i];
    return NULL;
}

/* A place for one more: that which was not used for longest. */
static struct gpu_note *make_place(struct gpu *g, struct lm_stream *s)
{
    struct gpu_note *n = &s->note[0];

    for (int i = 1; i < GPU_KEPT; i++)
        if (s->note[i].used < n->used)
            n = &s->note[i];
    if (n->r)
        g->driver->discard(g->device, n->r);
    *n = (struct gpu_note){ .r = NULL };
    return n;
}

static enum lm_status find_recording(struct gpu *g, struct lm_stream *s,
                                     const struct lm_exe *x, const struct lm_exec *a,
                                     struct gpu_recording **out, struct lm_err *e)
{
    struct gpu_key key = key_of(s, x, a);
    struct gpu_note *note = g->replays ? find_note(s, &key) : NULL;
    enum lm_status st = LM_OK;

    if (!note) {
        note = make_place(g, s);
        s->n_launch = 0;
        st = gpu_lower(g, s, x, a, e);
        if (!st) {
            find_waits(s->launch, s->n_launch);
            st = g->driver->record(g->device, s->launch, s->n_launch, &note->r, e);
        }
        note->key = key;
    }
    note->used = ++s->clock;
    *out = note->r;
    return st;
}

/* ---- a run ------------------------------------------------------------------------- */

static enum lm_status put_args(struct gpu *g, struct lm_stream *s,
                               const struct lm_exec *a, struct lm_err *e)
{
    size_t rows = (size_t)a->rows;
    uint32_t *v = s->host_args;

    v[0] = (uint32_t)a->pos;
    memset(v + 1, 0, rows * 4);
    if (a->token)
        memcpy(v + 1, a->token, rows * 4);
    if (a->target)
        memcpy(v + 1 + rows, a->target, rows * 4);
    return gpu_put(g, &s->args, 0, v,
                   (a->target ? 1 + 2 * rows : a->token ? 1 + rows : 1) * 4, e);
}

/* Where nothing is replayed, a recording is of one run. */
static void drop_recordings(struct gpu *g, struct lm_stream *s)
{
    for (int i = 0; i < GPU_KEPT; i++)
        if (s->note[i].r) {
            g->driver->discard(g->device, s->note[i].r);
            s->note[i].r = NULL;
        }
}

static enum lm_status get_results(struct gpu *g, struct lm_stream *s,
                                  const struct lm_exe *x, const struct lm_exec *a,
                                  struct lm_err *e)
{
    for (size_t i = x->n_op; i-- > 0;)
        if (program_is_head(x->op[i].code)) {
            int32_t n = x->op[i].code == LM_OP_LOGITS ? x->op[i].n : a->rows;

            return gpu_get(g, &s->out, 0, a->out, (uint64_t)n * 4, e);
        }
    return LM_OK;
}

enum lm_status gpu_run(void *self, struct lm_stream *s, const struct lm_exe *x,
                       const struct lm_exec *a, struct lm_time *t, struct lm_err *e)
{
    struct gpu *g = self;
    struct gpu_recording *r = NULL;
    double start = g->host->clock(), device = 0;
    enum lm_status st = program_call_check(g->host, x, a, e);

    if (!st && g->host->canceled(g->run))
        st = g->host->fail(e, LM_ECANCELED, "interrupted");
    if (!st)
        st = gpu_stream_reserve(g, s, x, a, e);
    if (!st)
        st = find_recording(g, s, x, a, &r, e);
    if (!st)
        st = put_args(g, s, a, e);
    if (!st)
        st = g->driver->replay(g->device, r, &device, e);
    if (!st)
        st = get_results(g, s, x, a, e);
    if (!g->replays)
        drop_recordings(g, s);
    if (t)
        *t = (struct lm_time){ g->host->clock() - start, device };
    return st;
}
