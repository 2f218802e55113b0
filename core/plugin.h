/* SPDX-License-Identifier: Apache-2.0 */
/* lamina/plugin.h -- all that a plugin includes; the rules, the kinds and the
 * descriptor are here, data in plugin_types.h, services in plugin_host.h.
 * `lamina new-plugin` begins one, `lamina selftest` holds it to these rules.
 *
 * A plugin is one shared object that exports one function, lm_plugin(), which
 * returns a constant descriptor.  It links against nothing of Lamina: services
 * come through struct lm_host.  Data flows one way:
 *
 *   options -> space (genes) -> genome -> plan (edits) -> candidate -> metrics
 *
 * Compatibility.  (1) LM_ABI_MAJOR is the frame (descriptor, options, host
 * table); another major is refused.  Each kind has a revision of its own; a
 * plugin of another revision of its kind is refused, the other kinds are not
 * touched by it.  (2) A struct that starts with struct_size only grows at its
 * end.  Who makes one for another to read sets struct_size to its sizeof; the
 * reader treats what lies beyond as 0.  Who makes one for another to fill (an
 * `out` parameter) zeroes it and sets struct_size to its sizeof: that is its
 * capacity.  The filler writes at most so many bytes and sets struct_size to
 * what it filled; lm_fill_struct() does just that.  (3) Such structs cross in
 * arrays only as arrays of pointers or with an explicit element size, as
 * struct lm_opt (opt_size) and struct lm_metric (metric_size) do, which grow
 * at their ends.  All other structs without struct_size are frozen for the
 * life of the major.  (4) Enum values are never renumbered.  (5) No public
 * struct depends on a build option.  (6) What was not there from the beginning
 * says "since minor N": the first LM_ABI_MINOR that has it.  The host's own
 * readers see 0 where an older plugin has no such member.  A plugin that shall
 * load into older programs asks LM_HAS(p, member) before it touches such a member
 * of what it got, the host table included, and otherwise does without or fails in
 * create() with LM_EUNSUPPORTED; of later enum values it asks host->abi_minor.
 *
 * Ownership.  What a host call returns by const pointer stays the host's and
 * lives as long as the instance, unless its comment says otherwise.  Output
 * buffers are allocated by the caller.  Memory of a plugin comes from
 * host->alloc and goes back to host->release.
 *
 * Threads, in brackets: [main] the pipeline thread; [worker] one thread at a
 * time for each instance; [any] concurrent calls allowed.
 *
 * Never in a plugin: printing, exit, abort, signals, longjmp, C++ exceptions
 * across the boundary, changing locale, directory or floating-point mode.
 */
#ifndef LAMINA_PLUGIN_H
#define LAMINA_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LM_ABI_MAJOR 0u
#define LM_ABI_MINOR 4u
#define LM_MAGIC     0x4c414d31u        /* "LAM1" */

enum lm_status {
    LM_OK = 0,
    LM_ECONFIG,       /* usage or configuration is wrong                    */
    LM_EINPUT,        /* model, text or study missing, damaged, unsupported */
    LM_ENOMEM,
    LM_EIO,           /* reading or writing failed                          */
    LM_EUNSUPPORTED,  /* this plugin cannot do that combination             */
    LM_EINFEASIBLE,   /* this genome cannot be built; the search goes on    */
    LM_EUNAVAILABLE,  /* no such hardware or library here                   */
    LM_ECANCELED,
    LM_EFAILED,       /* the work failed for another reason                 */
    LM_EBUG           /* a contract was violated                            */
};

enum lm_kind {
    LM_SEARCH = 1, LM_PRUNER, LM_SCORER, LM_REPAIR, LM_QUANTIZER, LM_TUNER,
    LM_EVALUATOR, LM_BACKEND, LM_FORMAT, LM_REPORTER, LM_N_KINDS
};

/* Revision of each kind's table; 0: no plugin of that kind can exist yet. */
enum {
    LM_SEARCH_REV = 1, LM_PRUNER_REV = 1, LM_SCORER_REV = 1, LM_REPAIR_REV = 1,
    LM_QUANTIZER_REV = 1, LM_TUNER_REV = 0, LM_EVALUATOR_REV = 1,
    LM_BACKEND_REV = 1, LM_FORMAT_REV = 2, LM_REPORTER_REV = 1
};

#include "plugin_types.h"               /* tensors, genes, programs, ...        */
#include "plugin_host.h"                /* struct lm_host                       */

/* ---- what every instance is created with ------------------------------------------ */
struct lm_args {
    uint32_t struct_size;
    const struct lm_host  *host;
    struct lm_run         *run;
    const void            *config;      /* the struct opt[].offset points in    */
    const char            *instance;    /* its id in the pipeline file          */
    const struct lm_model *model;       /* the dense model; NULL for formats,
                                           searches and reporters               */
    const struct lm_stats *stats;       /* scorers and repairs, where something
                                           needs statistics; else NULL          */
};

/* ---- one table per kind; self comes from lm_module.create ------------------------- */

struct lm_search {
    uint32_t struct_size, max_objectives;       /* 0: any number                */
    uint64_t genes;                             /* LM_BIT(gene kinds) handled   */
    /* The problem lives until destroy.                                  [main] */
    enum lm_status (*begin)(void *self, const struct lm_problem *p, struct lm_err *e);
    /* Up to max proposals; *n == 0: finished, for good.  Every proposal is told before
     * the next ask, in the same order.  A resumed run replays asks and tells,
     * so both must depend on nothing but seed, options and outcomes.    [main] */
    enum lm_status (*ask)(void *self, struct lm_proposal *out, size_t max,
                          size_t *n, struct lm_err *e);
    enum lm_status (*tell)(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e);
    /* Upper bound of the proposals to come, for estimates; also asked before
     * begin().                                                          [main] */
    size_t (*budget)(void *self);
};

struct lm_pruner {
    uint32_t struct_size, reserved;
    uint64_t edits;                     /* LM_BIT(site kinds) it may remove     */
    uint64_t needs_scores;              /* LM_BIT(site kinds) it ranks by       */
    /* Declares its genes through host->add_gene.                        [main] */
    enum lm_status (*genes)(void *self, struct lm_space *s, struct lm_err *e);
    /* value[0] is the first slot of its first gene, all its genes follow.
     * A pure function of its inputs; values that stand for "uncompressed" make
     * no edit.                                                          [main] */
    enum lm_status (*decode)(void *self, const union lm_value *value,
                             struct lm_plan *p, struct lm_err *e);
    /* LM_SHAPE_* features that plans may have under these options.  Optional:
     * NULL stands for all that `edits` can make.                        [any] */
    uint64_t (*shapes)(const void *config);
    /* Those of `needs_scores` that it ranks by under these options; others are
     * neither asked of scorers nor computed, and of whole blocks (LAYER, ATTN, MLP)
     * nothing else is measured.  Optional, since minor 2: all.             [any] */
    uint64_t (*ranks)(const void *config);
};

struct lm_scorer {
    uint32_t struct_size, reserved;
    uint64_t sites;                     /* LM_BIT(site kinds) it can score      */
    uint64_t needs;                     /* LM_BIT(enum lm_stat)                 */
    /* out[n]: importance of each site of the kind in the layer; higher is
     * kept longer.  LM_SITE_LAYER, _ATTN, _MLP: n == 1.  layer is -1 for the
     * kinds of the whole model: LM_SITE_MODEL, LM_SITE_HIDDEN.           [any] */
    enum lm_status (*score)(void *self, uint32_t site, int32_t layer,
                            double *out, int64_t n, struct lm_err *e);
    /* Those of `needs` that scores of these sites (LM_BIT(site kinds)) take under
     * these options.  Optional, since minor 3: all.                      [any] */
    uint64_t (*needs_for)(const void *config, uint64_t sites);
};

/* The consumer matrix of a pruned site.  Columns are ordered so that the kept
 * ones come first: repair to a width m keeps the columns 0..m-1.               */
struct lm_repair_site {
    uint32_t struct_size;
    int32_t  layer;
    uint32_t site;                      /* LM_SITE_ATTN or LM_SITE_MLP          */
    int64_t  n, k;                      /* rows and columns                     */
    const float  *w;                    /* [n][k]                               */
    const double *gram;                 /* [k][k], same order; NULL unless needed */
    const double *sum;                  /* [k]; NULL unless needed              */
    int64_t  tokens;
    /* Since minor 3, for repairs that need LM_STAT_CROSS.  They come last, for the
     * finalists of a search, block by block: the columns are the kept ones alone, w
     * is what the repair of the search made of them, x what they read in the
     * candidate whose earlier blocks are as they will be exported, and gram is of
     * these x.  t [n] is what w x would have to be for the candidate's residual stream
     * to be the dense model's behind this block.                               */
    const double *cross;                /* [n][k] sum of t x^T; NULL unless needed */
};

/* Where the residual stream is read: inputs of blocks, and of the final norm.  Since
 * minor 3.                                                                     */
struct lm_stream_site {
    uint32_t struct_size;
    int32_t  n;                         /* places that one basis is for         */
    int64_t  d;                         /* channels                             */
    const double *const *gram;          /* [n] of [d][d]: LM_STAT_STREAM        */
    int64_t  tokens;
};

struct lm_repair {
    uint32_t struct_size, reserved;
    uint64_t needs;                     /* LM_BIT(enum lm_stat), whatever the
                                           options say; of a repair that holds
                                           others (LM_PLUGINLIST) the host adds
                                           theirs, and the biases that they make */
    /* Once per site and column order: factorizations for all widths.
     * NULL members of site are not needed.  Site lives until release.    [any] */
    enum lm_status (*prepare)(void *self, const struct lm_repair_site *site,
                              void **prepared, struct lm_err *e);
    /* out [n][m]: the weights of the m kept columns.  m == k gives w back (and a
     * bias of 0); over the calibration tokens no m is worse than leaving the
     * columns as they are.  With LM_STAT_CROSS m is k, and sum |t - out x|^2 is
     * no worse than sum |t - w x|^2; such repairs make no biases.        [any] */
    enum lm_status (*apply)(void *self, const void *prepared, int64_t m,
                            float *out, struct lm_err *e);
    /* Frees what prepare() made, once, when nothing uses it.             [any] */
    void (*release)(void *self, void *prepared);
    /* Biases that it makes under these options, for any value of those that are
     * searched: LM_SHAPE_ATTN_BIAS for the matrix of LM_SITE_ATTN,
     * LM_SHAPE_MLP_BIAS for that of LM_SITE_MLP.  Optional, since minor 2: none.
     *                                                                    [any] */
    uint64_t (*shapes)(const void *config);
    /* Where shapes() says so, for every width behind apply(), whose result is w
     * [n][m].  out [n]: what is added to the bias of the matrix, which is 0
     * where the dense model has none.  NULL only where shapes is.  Since minor 2.
     *                                                                    [any] */
    enum lm_status (*bias)(void *self, const void *prepared, int64_t m,
                           const float *w, float *out, struct lm_err *e);
    /* Optional, since minor 3.  out [d][d], its columns orthonormal: directions of
     * the residual stream, those to be kept longest first.  A stream of width m is
     * the first m of them in place of the m channels that the plan names.  One basis
     * serves the whole model; with LM_SHAPE_TURNED in shapes() each place has its
     * own, and the model can be run but not written.                     [any] */
    enum lm_status (*basis)(void *self, const struct lm_stream_site *s, float *out,
                            struct lm_err *e);
};

/* A matrix of a candidate, cut and repaired, on its way to a number format.
 * The kind is there since minor 2.                                             */
struct lm_quant_site {
    uint32_t struct_size;
    uint32_t role;                      /* LM_W_Q ... LM_W_O, LM_W_GATE ... _DOWN */
    int32_t  layer;                     /* of the dense model                   */
    int64_t  rows, cols, stride;        /* stride: floats from row to row       */
    const float  *w;                    /* finite                               */
    const double *sumsq;                /* [cols] sum of x^2 of each input over
                                           the calibration tokens: the diagonal
                                           of the Gram matrix; NULL unless needed
                                           and known, which it is for LM_W_O and
                                           LM_W_DOWN                            */
    int64_t  tokens;                    /* behind sumsq                         */
};

struct lm_quantizer {
    uint32_t struct_size, reserved;
    /* The number format of what it makes under these options: one that the host
     * has a codec for, of blocks.                                        [any] */
    uint32_t (*dtype)(const void *config);
    /* out: rows * cols / block * bytes of that format, row behind row; cols is a
     * multiple of its block.  What a candidate is judged by, what is exported
     * and what other programs read are these bytes, decoded by the format's
     * rule: a scale counts as it is stored.  A pure function of its inputs; a
     * matrix that it made once comes out the same.                       [any] */
    enum lm_status (*encode)(void *self, const struct lm_quant_site *site, void *out,
                             struct lm_err *e);
    /* LM_BIT(LM_STAT_SUMSQ), or 0, under these options.  Optional: none. [any] */
    uint64_t (*needs)(const void *config);
};

enum {
    LM_NEEDS_RUN = 1, LM_NEEDS_DENSE = 2, LM_NEEDS_QUIET = 4,
    LM_NEEDS_COMMANDS = 8               /* since minor 2                        */
};

/* An option `precision` of type CHOICE whose first choice is "f32" is known to the
 * host (since minor 2): it says what eval() hands to host->precision().  Where the
 * pipeline sets another choice, `final` gets the same evaluator once more, as
 * ID_f32 with precision = "f32" and the other options as they are.  That one
 * measures the dense model and the whole front, and front, picks and constraints go
 * by its metrics in place of those of the same name, which is why `metric` must not
 * depend on the precision.  Of an option with another name, or another first choice,
 * the host knows nothing: what such an evaluator finds is not confirmed.       */
struct lm_evaluator {
    uint32_t struct_size, needs;        /* LM_NEEDS_*: runs the candidate; its
                                           dense parent too; nothing beside it;
                                           programs of the user, on its file    */
    const struct lm_metric *metric;
    size_t   metric_size;               /* sizeof *metric as the plugin sees it */
    /* How many items there are; texts are read here.                    [main] */
    enum lm_status (*items)(void *self, int64_t *n, struct lm_err *e);
    /* What a number means, in one line: window, stride, BOS, text, ...  [main] */
    enum lm_status (*protocol)(void *self, char *out, size_t size, struct lm_err *e);
    /* sum[n_metrics] of one item.  A function of its inputs, not of how often it was
     * called: to learn what it asks (for estimates, and of models larger than
     * memory) it is rehearsed, any number of calls more in which all losses and
     * divergences are 0 and whose sums and failures do not count.  What it asks for
     * only on seeing other numbers is answered all the same, but costs more. [any] */
    enum lm_status (*eval)(void *self, struct lm_subject *s, int64_t item,
                           struct lm_sum *sum, struct lm_err *e);
    /* Optional, since minor 2.  Metric i of an instance with these options, in
     * place of `metric`, which may be empty then; false behind the last (64 are
     * the most).  The options have passed check().                       [any] */
    bool (*metric_of)(const void *config, size_t i, struct lm_own_metric *out);
    /* Optional, since minor 2, with LM_NEEDS_COMMANDS.  What it will ask
     * subject_file() for, so that candidates that cannot be written that way
     * are not searched.  dtype as in subject_file().                     [any] */
    void (*exports)(const void *config, const char **format, uint32_t *dtype);
    /* Optional, since minor 4.  It predicts what another evaluator measures: that one
     * as NAME:key=value,... into out.  `final` gets it, as ID_measured, unless it has
     * one with these options; reports compare metrics of the same name.  The
     * options have passed check().                                      [main] */
    enum lm_status (*measured_by)(const struct lm_host *h, const void *config, char *out,
                                  size_t size, struct lm_err *e);
};

struct lm_device {
    uint32_t struct_size;
    char     name[96], driver[64];      /* NUL-terminated                       */
    int64_t  memory;                    /* bytes; 0: unknown                    */
    bool     software;                  /* computes on the processor, slowly    */
};

struct lm_time { double host, device; };    /* seconds; device 0: unknown; frozen */

/* Bytes of the device that an instance has taken, alignment included: its own account,
 * which nobody else moves.  Since minor 4.                                         */
struct lm_device_use {
    uint32_t struct_size, reserved;
    int64_t  weights, cache, states, scratch;   /* now: uploaded; lm_kv; lm_buffer;
                                           registers, arguments and what operators need */
    int64_t  most;                      /* the most that these were together         */
};

/* A backend with a memory of its own answers want of it with LM_EINFEASIBLE: what can be
 * is let go of and the call made once more; then the candidate does not fit, the search
 * goes on; and the loss of its device, for good, with LM_EUNAVAILABLE: a worker ends and
 * another one opens the device anew.                                              */
struct lm_backend {
    uint32_t struct_size, reserved;
    /* LM_BIT(enum lm_dtype) of weights.  Those that are not f32 are matrices of
     * EMBED, LINEAR and LOGITS in f32 programs; results are those of the decoded
     * values but for the order of sums (since minor 2; before, f32 alone).       */
    uint64_t dtypes;
    /* name must change with whatever changes results: it is part of the keys
     * of cached statistics.                                             [main] */
    enum lm_status (*device)(void *self, struct lm_device *out, struct lm_err *e);
    /* t->data stays valid until forget(); a backend may keep the pointer.
     * stride: elements from row to row, whole blocks.                    [any] */
    enum lm_status (*upload)(void *self, const struct lm_tensor *t, int64_t stride,
                             struct lm_weight **w, struct lm_err *e);
    void (*forget)(void *self, struct lm_weight *w);                    /* [any] */
    /* Buffers of n floats.  All five may be called from any thread; a buffer is
     * used by one thread at a time (the source of copy() may be read by
     * several).  They take effect before they return.                    [any] */
    enum lm_status (*buffer)(void *self, int64_t n, struct lm_buffer **b,
                             struct lm_err *e);
    void (*buffer_free)(void *self, struct lm_buffer *b);
    enum lm_status (*write)(void *self, struct lm_buffer *b, int64_t first,
                            const float *from, int64_t n, struct lm_err *e);
    enum lm_status (*read)(void *self, const struct lm_buffer *b, int64_t first,
                           float *to, int64_t n, struct lm_err *e);
    enum lm_status (*copy)(void *self, struct lm_buffer *to,
                           const struct lm_buffer *from, int64_t n, struct lm_err *e);
    /* n_slot caches of capacity rows, width[i] floats each for k and for v.  A
     * cache is used by one stream at a time.                             [any] */
    enum lm_status (*kv_open)(void *self, const int32_t *width, size_t n_slot,
                              int64_t capacity, struct lm_kv **kv, struct lm_err *e);
    void (*kv_close)(void *self, struct lm_kv *kv);
    /* The program may be freed after compile; weights must outlive it.   [any] */
    enum lm_status (*compile)(void *self, const struct lm_program *p,
                              struct lm_exe **x, struct lm_err *e);
    void (*exe_free)(void *self, struct lm_exe *x);                     /* [any] */
    /* A stream is used by one thread at a time; threads: how many it may
     * use inside one operator.  Closed by any thread, after its last run. [any] */
    enum lm_status (*stream_open)(void *self, int32_t threads,
                                  struct lm_stream **s, struct lm_err *e);
    void (*stream_close)(void *self, struct lm_stream *s);
    enum lm_status (*run)(void *self, struct lm_stream *s, const struct lm_exe *x,
                          const struct lm_exec *args, struct lm_time *t,
                          struct lm_err *e);                            /* [any] */
    /* Since minor 2: LM_BIT(enum lm_precision) of programs; F32 always.          */
    uint64_t precisions;
    /* The rest: optional, since minor 4.  Device i of this machine, as the option
     * `device` counts them; needs no instance.  LM_EUNAVAILABLE: there is none; of
     * device 0 it says why.                                                [main] */
    enum lm_status (*devices)(const struct lm_host *h, int64_t i, struct lm_device *out,
                              struct lm_err *e);
    /* The first `rows` rows of uploaded weights, which outlive it; no copy. forget()
     * ends it.                                                              [any] */
    enum lm_status (*view)(void *self, const struct lm_weight *of, int64_t rows,
                           struct lm_weight **w, struct lm_err *e);
    enum lm_status (*use)(void *self, struct lm_device_use *out, struct lm_err *e);
                                                                          /* [any] */
};

/* What a cut or a repair may add to a model; what it has anyway, such as biases
 * of q, k and v, is no feature.                                               */
enum {
    LM_SHAPE_UNEVEN_FF = 1, LM_SHAPE_UNEVEN_HEADS = 2, LM_SHAPE_NO_ATTN = 4,
    LM_SHAPE_NO_MLP = 8,
    /* since minor 2 */
    LM_SHAPE_ATTN_BIAS = 16,            /* of o_proj                            */
    LM_SHAPE_MLP_BIAS = 32,             /* of down_proj                         */
    LM_SHAPE_FORMATS = 64,              /* matrices in number formats of their own,
                                           see lm_export.own                    */
    /* since minor 3 */
    LM_SHAPE_TURNED = 128               /* blocks turn the residual stream: no
                                           format can hold that                 */
};
struct lm_limits {                      /* what a format can write              */
    uint32_t struct_size;
    uint64_t features;                  /* LM_SHAPE_*                           */
    int32_t  multiple;                  /* of FFN widths, for this dtype        */
};
struct lm_export {
    uint32_t struct_size;
    const char *path;                   /* file, or folder                      */
    /* Number format of the weight matrices.  A format may store vectors (norms,
     * biases) otherwise, tables (embedding, head) with more bits, and a matrix
     * whose rows are no whole number of blocks in f16.  hf: all tensors take
     * it.  gguf: vectors are f32; for q4_0 and q4_1 tables are q8_0.
     * 0: each tensor keeps its own, bit for bit; LM_EUNSUPPORTED names a tensor
     * whose number format this one cannot hold.                                */
    uint32_t    dtype;
    const char *card;                   /* model card: parent, hash, plan       */
    const struct lm_model *parent;
    /* Since minor 2, for formats that declare LM_SHAPE_FORMATS: [layers of the model
     * written][LM_N_ROLES]; a matrix whose entry is not 0 has this number format and
     * keeps it, bit for bit, whatever `dtype` says.  NULL: no such matrix.  Other
     * formats write the values as `dtype`.                                     */
    const uint32_t *own;
};

struct lm_format {
    uint32_t struct_size, reserved;
    const char *suffix;                 /* ".gguf", or "" for a folder          */
    uint64_t dtypes;                    /* LM_BIT(enum lm_dtype) it writes      */
    /* 0: not mine, 100: certainly mine; looks at names and magic only.  [main] */
    int (*probe)(void *self, const char *path);
    /* Fills b: set_arch first, then tensors and, if there is one, the
     * vocabulary.  The file is not trusted: LM_EINPUT says what is wrong with
     * it.  After a failure the host frees what b has.                   [main] */
    enum lm_status (*read)(void *self, const char *path, struct lm_builder *b,
                           struct lm_err *e);
    /* What can be written of models cut from parent, with this dtype (0: each
     * tensor's own, see struct lm_export); LM_EUNSUPPORTED: nothing.  parent
     * NULL: of a plain llama, asked before a model is read; asked again for the
     * model at hand.                                                    [main] */
    enum lm_status (*limits)(void *self, const struct lm_model *parent, uint32_t dtype,
                             struct lm_limits *out, struct lm_err *e);
    /* Writes a model within limits(), through out_open(): a failure leaves no
     * file that looks complete.                                         [main] */
    enum lm_status (*write)(void *self, const struct lm_model *m,
                            const struct lm_export *x, struct lm_err *e);
};

struct lm_reporter {
    uint32_t struct_size, reserved;
    const char *file;                   /* in the run folder; NULL: to `text`   */
    /* Writes the report through host->alloc'ed *text (the core stores or
     * prints it and releases it): UTF-8, the same for the same study.     [main] */
    enum lm_status (*report)(void *self, const struct lm_study *s, char **text,
                             size_t *n, struct lm_err *e);
};

/* ---- the descriptor ---------------------------------------------------------------- */
struct lm_module {
    /* these four never move and are read before anything else */
    uint32_t magic, struct_size, abi_major, abi_minor;

    uint32_t    kind, kind_rev;         /* enum lm_kind, LM_*_REV               */
    const char *name;                   /* == file name; [a-z][a-z0-9_]*        */
    const char *version, *license, *author;
    const char *summary;                /* one line                             */
    const char *reference;              /* paper, or NULL                       */

    const struct lm_opt *opt;           /* ends with name == NULL; may be NULL  */
    size_t opt_size;                    /* sizeof *opt as the plugin sees it    */
    size_t config_size;                 /* struct that the offsets point into   */
    /* Checks across options, after the core's own.  Optional.           [main] */
    enum lm_status (*check)(const struct lm_host *h, const void *config,
                            struct lm_err *e);
    /* Can it work here?  Cheap, keeps nothing.  Optional.               [main] */
    enum lm_status (*probe)(const struct lm_host *h, struct lm_err *e);
    /* On failure create() cleans up after itself.                       [main] */
    enum lm_status (*create)(const struct lm_args *a, void **self, struct lm_err *e);
    void (*destroy)(void *self);                                      /* [main] */

    const void *ops;                    /* the table of `kind`                  */
};

#define LM_MODULE_HEAD(KIND) \
    .magic = LM_MAGIC, .struct_size = sizeof(struct lm_module), \
    .abi_major = LM_ABI_MAJOR, .abi_minor = LM_ABI_MINOR, \
    .kind = LM_##KIND, .kind_rev = LM_##KIND##_REV, .opt_size = sizeof(struct lm_opt)

#if defined __GNUC__
# define LM_EXPORT __attribute__((visibility("default")))
#else
# define LM_EXPORT
#endif
LM_EXPORT const struct lm_module *lm_plugin(void);

#ifdef __cplusplus
}
#endif
#endif
