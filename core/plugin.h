/* SPDX-License-Identifier: Apache-2.0 */
/* lamina/plugin.h -- everything a plugin may include.
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
 * end; the filler sets struct_size, the reader treats what lies beyond as 0.
 * (3) Such structs cross in arrays only as arrays of pointers or with an
 * explicit element size.  Structs without struct_size are frozen for the life
 * of the major.  (4) Enum values are never renumbered.  (5) No public struct
 * depends on a build option.
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
#define LM_ABI_MINOR 1u
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
    LM_QUANTIZER_REV = 0, LM_TUNER_REV = 0, LM_EVALUATOR_REV = 1,
    LM_BACKEND_REV = 1, LM_FORMAT_REV = 1, LM_REPORTER_REV = 1
};

/* ---- opaque objects of the host ------------------------------------------ */
struct lm_run;        /* one command: seed, threads, cancel flag, progress    */
struct lm_err;        /* where the text of a failure goes                     */
struct lm_model;      /* immutable architecture + tensors + tokenizer         */
struct lm_builder;    /* a model while a format reads it                      */
struct lm_stats;      /* what the calibration pass left behind                */
struct lm_space;      /* the genes of a pipeline, in order                    */
struct lm_plan;       /* a canonical set of edits                             */
struct lm_subject;    /* a candidate on a backend, while it is evaluated      */
struct lm_study;      /* trials and their metrics                             */
struct lm_out;        /* a file being written; appears only when complete     */
struct lm_json;       /* a node of a parsed JSON document                     */

/* ---- tensors ---------------------------------------------------------------- */
enum lm_dtype {
    LM_F32 = 1, LM_F16, LM_BF16, LM_Q8_0, LM_Q4_0, LM_Q4_1, LM_N_DTYPES
};

struct lm_tensor {                      /* frozen; row-major [rows][cols]     */
    const void *data;                   /* little-endian, maybe unaligned     */
    int64_t     rows, cols;             /* a vector has one row               */
    uint32_t    dtype, reserved;
};

/* One number format: encodes and decodes whole rows.  cols must be a multiple
 * of `block`; a row then takes cols / block * bytes.                    [any] */
struct lm_codec {
    uint32_t    struct_size, dtype;
    const char *name;                   /* "f32", "q4_1" ...                  */
    uint32_t    block, bytes;           /* elements, and bytes, of one block  */
    void (*decode)(const void *in, float *out, int64_t cols);
    void (*encode)(const float *in, void *out, int64_t cols);
};

/* ---- architecture ------------------------------------------------------------ */
enum lm_role {          /* shape [rows, cols]; d = hidden, h = head_dim       */
    LM_W_EMBED = 1,     /* [vocab, d]                                         */
    LM_W_HEAD,          /* [vocab, d]; absent when tied                       */
    LM_W_FINAL_NORM,    /* [1, d]                                             */
    LM_W_ATTN_NORM, LM_W_Q, LM_W_K, LM_W_V, LM_W_O,
                        /* [1, d] [n_head*h, d] [n_kv*h, d] x2 [d, n_head*h]  */
    LM_W_MLP_NORM, LM_W_GATE, LM_W_UP, LM_W_DOWN,
                        /* [1, d] [n_ff, d] [n_ff, d] [d, n_ff]               */
    LM_B_Q, LM_B_K, LM_B_V, LM_B_O, LM_B_GATE, LM_B_UP, LM_B_DOWN,
                        /* biases, [1, rows of the matrix]; usually absent    */
    LM_W_Q_NORM, LM_W_K_NORM,           /* [1, h]; usually absent             */
    LM_N_ROLES
};

struct lm_layer_shape {                 /* frozen                             */
    int32_t n_head, n_kv;               /* both 0: no attention block         */
    int32_t n_ff;                       /* 0: no MLP block                    */
    int32_t reserved;
};

enum lm_rope { LM_ROPE_PLAIN = 0, LM_ROPE_LINEAR, LM_ROPE_LLAMA3, LM_ROPE_YARN };

/* Weights of q and k are in the rotate-half layout of Hugging Face. */
struct lm_arch {
    uint32_t    struct_size;
    int32_t     n_layer, hidden, head_dim, vocab, context;
    const char *family;                 /* "llama", "mistral", ...            */
    const char *name;                   /* for people; may be ""              */
    double      rms_eps, rope_theta;
    int32_t     rope;                   /* enum lm_rope                       */
    bool        tied;                   /* the head is the embedding          */
    double      rope_factor, rope_low, rope_high, rope_context;
    int32_t     bos, eos, pad;          /* -1: none                           */
    bool        add_bos;                /* the tokenizer's own setting        */
    const struct lm_layer_shape *layer; /* [n_layer]                          */
};

/* ---- sites ------------------------------------------------------------------- */
enum lm_site_kind {
    LM_SITE_MODEL = 1, LM_SITE_LAYER, LM_SITE_ATTN, LM_SITE_MLP,
    LM_SITE_KV_GROUP, LM_SITE_HEAD, LM_SITE_FFN_CHANNEL, LM_SITE_HIDDEN,
    LM_SITE_MATRIX, LM_N_SITE_KINDS
};
#define LM_BIT(k) (UINT64_C(1) << (k))

struct lm_site { uint32_t kind; int32_t layer; int64_t index; };    /* frozen */

/* ---- genes and genomes --------------------------------------------------------- */
enum lm_gene_kind {
    LM_GENE_BOOL = 1, LM_GENE_INT, LM_GENE_REAL, LM_GENE_CHOICE, LM_GENE_SUBSET
};

union lm_value { double real; int64_t integer; uint64_t bits; };    /* frozen */

/* A gene takes `slots` consecutive values of a genome, from `slot` on: one for
 * scalars (BOOL, INT and CHOICE use .integer, REAL uses .real), one per 64
 * members for SUBSET (.bits, member i is bit i % 64 of word i / 64).  INT and
 * REAL values lie on min + i * step; step 0 is continuous (REAL).  CHOICE is
 * 0 .. n-1.  SUBSET has between min and max of its n bits set.               */
struct lm_gene {
    uint32_t    struct_size, kind;
    const char *name;                   /* "ffn[7]"; unique in a space        */
    double      min, max, step;
    bool        log_scale, ordered;     /* ordered: CHOICE has a sense of far */
    uint32_t    n;                      /* members of CHOICE or SUBSET        */
    const char *const *choice;          /* [n] names, CHOICE only             */
    const double *score;                /* [n] SUBSET: importance, or NULL    */
    double      initial;                /* the uncompressed value; for SUBSET
                                           all bits are set                   */
    struct lm_site site;                /* what it acts on                    */
    uint32_t    slot, slots;            /* set by the host                    */
};

/* ---- options: one table, read by the core for validation, defaults, help,
 *      cache keys and genes ------------------------------------------------------ */
enum lm_opt_type {
    LM_OPT_BOOL = 1,    /* bool                                               */
    LM_OPT_INT,         /* int64_t                                            */
    LM_OPT_REAL,        /* double                                             */
    LM_OPT_STRING,      /* const char *                                       */
    LM_OPT_CHOICE,      /* int64_t: index into choices                        */
    LM_OPT_PATH,        /* const char *: an existing file or folder           */
    LM_OPT_TEXT,        /* const char *: entry of `data`, or a text file      */
    LM_OPT_INTS, LM_OPT_REALS, LM_OPT_STRINGS,  /* struct lm_ints ...         */
    LM_OPT_PLUGINS      /* struct lm_instances: plugins of the own kind       */
};
enum {
    LM_REQUIRED = 1,    /* must be given                                      */
    LM_TUNABLE = 2,     /* may be written { min; max; step; } or { choice; }
                           and becomes a gene                                 */
    LM_NO_HASH = 4,     /* cannot change any result                           */
    LM_EXPERT = 8
};

struct lm_reals   { const double  *v; size_t n; };
struct lm_ints    { const int64_t *v; size_t n; };
struct lm_strings { const char *const *v; size_t n; };
struct lm_instance { const void *ops; void *self; const char *name; };
struct lm_instances { const struct lm_instance *v; size_t n; };

struct lm_opt {
    const char *name;                   /* [a-z][a-z0-9_]*                    */
    uint32_t    type, flags;
    size_t      offset;                 /* into the plugin's config struct    */
    const char *def;                    /* as written on the command line;
                                           NULL or "": none (0, NULL, empty)  */
    double      min, max;               /* INT, REAL and members of lists     */
    const char *const *choices;         /* CHOICE: NULL-terminated            */
    const char *unit, *help;            /* help: one sentence, no newline     */
    const char *alias;                  /* a former name, or NULL             */
};

#define LM_OFF(T, f, ctype) \
    (offsetof(T, f) + 0 * sizeof(&((T *)0)->f == (ctype *)0))
#define LM_OPTION(T, f, ty, cty, d, lo, hi, list, unit, fl, h) \
    { #f, ty, fl, LM_OFF(T, f, cty), d, lo, hi, list, unit, h, NULL }
#define LM_INT(T, f, d, lo, hi, unit, fl, h) \
    LM_OPTION(T, f, LM_OPT_INT, int64_t, d, lo, hi, NULL, unit, fl, h)
#define LM_REAL(T, f, d, lo, hi, unit, fl, h) \
    LM_OPTION(T, f, LM_OPT_REAL, double, d, lo, hi, NULL, unit, fl, h)
#define LM_FLAG(T, f, d, fl, h) \
    LM_OPTION(T, f, LM_OPT_BOOL, bool, d, 0, 1, NULL, NULL, fl, h)
#define LM_PICK(T, f, d, list, fl, h) \
    LM_OPTION(T, f, LM_OPT_CHOICE, int64_t, d, 0, 0, list, NULL, fl, h)
#define LM_STRING(T, f, d, fl, h) \
    LM_OPTION(T, f, LM_OPT_STRING, const char *, d, 0, 0, NULL, NULL, fl, h)
#define LM_TEXTFILE(T, f, d, fl, h) \
    LM_OPTION(T, f, LM_OPT_TEXT, const char *, d, 0, 0, NULL, NULL, fl, h)
#define LM_REALLIST(T, f, d, lo, hi, unit, fl, h) \
    LM_OPTION(T, f, LM_OPT_REALS, struct lm_reals, d, lo, hi, NULL, unit, fl, h)
#define LM_INTLIST(T, f, d, lo, hi, unit, fl, h) \
    LM_OPTION(T, f, LM_OPT_INTS, struct lm_ints, d, lo, hi, NULL, unit, fl, h)
#define LM_STRINGLIST(T, f, d, fl, h) \
    LM_OPTION(T, f, LM_OPT_STRINGS, struct lm_strings, d, 0, 0, NULL, NULL, fl, h)
#define LM_PLUGINLIST(T, f, fl, h) \
    LM_OPTION(T, f, LM_OPT_PLUGINS, struct lm_instances, NULL, 0, 0, NULL, NULL, fl, h)
#define LM_OPT_END { NULL, 0, 0, 0, NULL, 0, 0, NULL, NULL, NULL, NULL }

/* ---- statistics ---------------------------------------------------------------- */
/* What the calibration pass measures for each layer; x is the input of the
 * consumer matrix (o_proj of an attention block, down_proj of an MLP block).   */
enum lm_stat {
    LM_STAT_SUM = 1,    /* [n] sum of x over tokens                           */
    LM_STAT_SUMSQ,      /* [n] sum of x^2 over tokens                         */
    LM_STAT_GRAM,       /* [n][n] sum of x x^T over tokens                    */
    LM_STAT_COSINE,     /* [1] mean cosine of block input and output          */
    LM_N_STATS
};

/* ---- evaluation ---------------------------------------------------------------- */
enum lm_reduce {
    LM_REDUCE_MEAN = 1,     /* sum of values / sum of weights                 */
    LM_REDUCE_EXP_MEAN,     /* exp of that (perplexity)                       */
    LM_REDUCE_MEDIAN        /* median of value / weight over items            */
};

struct lm_metric {                      /* ends with name == NULL             */
    const char *name, *unit, *help;     /* "ppl"; shown as "perplexity.ppl"   */
    uint32_t    reduce;                 /* enum lm_reduce                     */
    bool        noisy;                  /* repeated calls differ              */
    bool        maximise;
};

struct lm_sum { double value, weight; };                            /* frozen */

/* What a candidate costs, counted from its shapes and formats. */
struct lm_cost {
    uint32_t struct_size;
    int64_t  params;                    /* all weights                        */
    int64_t  body_params;               /* all but embedding and head         */
    int64_t  bytes;                     /* weights as they would be exported  */
    int64_t  macs;                      /* multiply-adds per token, linear
                                           layers and head, no attention      */
    int64_t  kv_bytes;                  /* per cached token, f16              */
};

enum lm_phase { LM_PREFILL = 1, LM_DECODE };
struct lm_workload {                                                /* frozen */
    uint32_t phase;                     /* enum lm_phase                      */
    int32_t  tokens;                    /* computed (decode: one by one)      */
    int32_t  context;                   /* tokens in the cache before         */
    int32_t  threads;
};

/* ---- search ---------------------------------------------------------------------- */
struct lm_objective {                   /* always minimised                   */
    uint32_t    struct_size;
    const char *metric;                 /* "kl.nats"                          */
    double      bound;                  /* max of a constraint on the same
                                           metric; +inf: none                 */
    double      reference;              /* value of the uncompressed model    */
    bool        noisy;
};

struct lm_problem {
    uint32_t struct_size;
    const struct lm_gene *const *gene;
    size_t   n_gene, n_slot;            /* n_slot: values in a genome         */
    const struct lm_objective *const *objective;
    size_t   n_objective, n_constraint;
    const union lm_value *const *start; /* genomes to begin with, best first  */
    size_t   n_start;
};

struct lm_proposal {                                                /* frozen */
    union lm_value *value;              /* [n_slot], the host's buffer        */
    double fidelity;                    /* share of the items, in (0, 1]; the
                                           host presets 1                     */
};

struct lm_outcome {
    uint32_t struct_size;
    uint32_t status;                    /* LM_OK or LM_EINFEASIBLE            */
    const union lm_value *value;        /* [n_slot]                           */
    const double *objective;            /* [n_objective], valid with LM_OK    */
    const double *violation;            /* [n_constraint]; <= 0 is satisfied,
                                           else the excess relative to bound  */
    double   fidelity, seconds;
};

/* ---- running models ---------------------------------------------------------------
 * A backend runs linear programs over registers.  A register holds one row of
 * `width` floats per token.  Register 0 is the residual stream: it is bound to
 * the buffer args.hidden and updated in place.  Weights are [n, k], row-major.
 * An operator may use less of a row than `width`; its own dimensions say how
 * much: n and k of EMBED (vocabulary, width of a row), LINEAR and the heads are
 * those of w; RMSNORM: groups of n in rows of k; SILU_MUL, ADD, COPY: n.
 * rows = tokens of this call, pos = tokens already in the cache.              */
enum lm_opcode {
    LM_OP_EMBED = 1,  /* y = w[token]                                          */
    LM_OP_RMSNORM,    /* y = a / sqrt(mean(a^2) + eps) * w; per group of n      */
    LM_OP_LINEAR,     /* y (+)= a w^T (+ bias); LM_OPF_ACC accumulates         */
    LM_OP_ROPE_KV,    /* rotate a (q) and b (k) by w = inverse frequencies
                         [head_dim/2], scaled by f; append b (k) and c (v) to
                         slot `slot` of the cache                              */
    LM_OP_ATTENTION,  /* y = causal attention of a (q) over that slot          */
    LM_OP_SILU_MUL,   /* y = silu(a) * b                                       */
    LM_OP_ADD,        /* y = a + b                                             */
    LM_OP_CE,         /* out[r] = logsumexp(a w^T) - (a w^T)[target[r]]        */
    LM_OP_KL,         /* out[r] = logsumexp(a w^T) - dot(a, teacher[r])        */
    LM_OP_EXPECT,     /* p = softmax(a w^T); y = p w; out[r] = sum p ln p      */
    LM_OP_LOGITS,     /* out = a w^T of the last row, [n]                      */
    LM_OP_COPY        /* tap[slot] = a                                         */
};
enum { LM_OPF_ACC = 1 };

struct lm_weight;     /* uploaded weights; the backend's                       */
struct lm_buffer;     /* floats on the device; the backend's                   */
struct lm_kv;         /* a key-value cache; the backend's                      */
struct lm_exe;        /* a compiled program; the backend's                     */
struct lm_stream;     /* registers of one thread; the backend's                */

struct lm_op {                                                      /* frozen */
    uint32_t code, flags;
    int32_t  y, a, b, c;                /* registers, -1: none                */
    const struct lm_weight *w, *bias;
    int32_t  n, k;                      /* outputs, inputs                    */
    int32_t  n_head, n_kv, head_dim, slot;
    float    eps, f;
};

struct lm_program {
    uint32_t struct_size;
    const struct lm_op *op;
    size_t   n_op;
    const int32_t *width;               /* [n_reg] floats per row             */
    size_t   n_reg;
};

enum { LM_N_TAPS = 4 };
struct lm_exec {                        /* arguments of one run               */
    uint32_t struct_size;
    int32_t  rows, pos;
    const int32_t *token, *target;      /* [rows]                             */
    struct lm_buffer *hidden;           /* register 0, [rows][width[0]]       */
    const struct lm_buffer *teacher;    /* LM_OP_KL, [rows][k]                */
    struct lm_buffer *tap[LM_N_TAPS];   /* targets of LM_OP_COPY              */
    struct lm_kv *kv;
    float   *out;                       /* host memory                        */
};

/* ---- services of the host -------------------------------------------------------- */
#if defined __GNUC__
# define LM_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
# define LM_PRINTF(f, a)
#endif

enum lm_level { LM_DEBUG, LM_INFO, LM_WARN, LM_ERROR };

struct lm_trial {                       /* for reporters                      */
    uint32_t struct_size;
    int64_t  id;
    uint32_t status;                    /* LM_OK or LM_EINFEASIBLE            */
    bool     feasible, front;
    double   fidelity, seconds;
    const char *reason;                 /* why it is infeasible, or ""        */
    const char *plan;                   /* text form                          */
    const double *value, *error;        /* [study metrics]; NAN: not measured;
                                           error: standard error              */
    const struct lm_layer_shape *layer; /* [n_layer of the dense model]       */
};

/* A JSON document, read-only.  Nodes live until close().  [worker]            */
struct lm_json_api {
    uint32_t struct_size;
    enum lm_status (*parse)(const char *text, size_t n, const char *what,
                            struct lm_json **root, struct lm_err *e);
    void        (*close)(struct lm_json *root);
    const struct lm_json *(*get)(const struct lm_json *object, const char *key);
    const struct lm_json *(*at)(const struct lm_json *array, size_t i);
    size_t      (*size)(const struct lm_json *array_or_object);
    /* i-th member of an object, in file order */
    const struct lm_json *(*member)(const struct lm_json *object, size_t i,
                                    const char **key);
    /* 'o' 'a' 's' 'i' 'r' 'b' 'n'; 0 for NULL */
    char        (*type)(const struct lm_json *node);
    const char *(*string)(const struct lm_json *node);  /* NULL: no string    */
    bool        (*integer)(const struct lm_json *node, int64_t *out);
    bool        (*real)(const struct lm_json *node, double *out);
    bool        (*boolean)(const struct lm_json *node, bool *out);
};

struct lm_token {                       /* one entry of a vocabulary, frozen  */
    const char *text;                   /* bytes in the GPT-2 byte alphabet,
                                           or literal text of an added token  */
    uint32_t    length;
    uint32_t    kind;                   /* enum lm_token_kind                 */
};
enum lm_token_kind { LM_TOKEN_NORMAL = 1, LM_TOKEN_SPECIAL, LM_TOKEN_ADDED,
                     LM_TOKEN_UNUSED };
enum lm_pretokenizer { LM_PRE_GPT2 = 1, LM_PRE_SMOLLM };
struct lm_merge { uint32_t left, right; };  /* token ids; rank = position      */

struct lm_vocabulary {
    uint32_t struct_size;
    uint32_t pre;                       /* enum lm_pretokenizer               */
    const struct lm_token *token;       /* [n_token]                          */
    size_t   n_token;
    const struct lm_merge *merge;       /* [n_merge], most frequent first     */
    size_t   n_merge;
    bool     ignore_merges;             /* whole words in the vocabulary win  */
    const char *chat_template;          /* or NULL                            */
};

struct lm_host {
    uint32_t struct_size, abi_major, abi_minor, reserved;
    const char *version;

    /* memory: zeroed, 64-byte aligned; NULL when there is none.          [any] */
    void *(*alloc)(size_t n, const char *tag);
    void *(*resize)(void *p, size_t n);
    void  (*release)(void *p);

    /* fail() records code and text and returns the code.                 [any] */
    enum lm_status (*fail)(struct lm_err *e, enum lm_status code,
                           const char *fmt, ...) LM_PRINTF(3, 4);
    void (*log)(struct lm_run *r, enum lm_level level, const char *fmt, ...)
        LM_PRINTF(3, 4);

    /* run control: poll canceled() at least every 100 ms.                [any] */
    bool (*canceled)(struct lm_run *r);
    void (*progress)(struct lm_run *r, double fraction, const char *what);
    /* body(ctx, i, worker) for i in 0..n-1; nested calls run inline.           */
    enum lm_status (*parallel)(struct lm_run *r, int64_t n,
        void (*body)(void *ctx, int64_t i, uint32_t worker), void *ctx);
    /* seed of the stream (run seed, purpose, index)                            */
    uint64_t (*seed)(struct lm_run *r, const char *purpose, uint64_t index);
    double (*clock)(void);              /* seconds, monotonic                   */

    /* linear algebra, one thread, fixed order.  C [m][n] (ldc) =
     * alpha op(A) op(B) + beta C; t: 'n' or 't'.                         [any] */
    void (*gemm)(char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha,
                 const float *a, int64_t lda, const float *b, int64_t ldb,
                 float beta, float *c, int64_t ldc);
    void (*gemm64)(char ta, char tb, int64_t m, int64_t n, int64_t k, double alpha,
                   const double *a, int64_t lda, const double *b, int64_t ldb,
                   double beta, double *c, int64_t ldc);
    void (*gemv)(char ta, int64_t m, int64_t n, float alpha, const float *a,
                 int64_t lda, const float *x, float beta, float *y);
    /* lower Cholesky factor of A [n][n] in place (upper part untouched);
     * LM_EFAILED when A is not positive definite                               */
    enum lm_status (*cholesky)(double *a, int64_t n, int64_t lda, struct lm_err *e);
    /* X <- X (L L^T)^-1 for the rows of X [m][n], leading n of L               */
    void (*cholesky_solve)(const double *l, int64_t n, int64_t ldl,
                           double *x, int64_t m, int64_t ldx);

    const struct lm_codec *(*codec)(uint32_t dtype);                    /* [any] */
    const struct lm_json_api *json;

    /* models are read-only to plugins.                                   [any] */
    const struct lm_arch   *(*arch)(const struct lm_model *m);
    const struct lm_tensor *(*tensor)(const struct lm_model *m, uint32_t role,
                                      int32_t layer);   /* NULL: absent         */
    /* decodes rows [first, first + n) to floats                                */
    enum lm_status (*rows)(const struct lm_model *m, uint32_t role, int32_t layer,
                           int64_t first, int64_t n, float *out, struct lm_err *e);
    const struct lm_vocabulary *(*vocabulary)(const struct lm_model *m);
    /* folder or file the model came from, for files carried over               */
    const char *(*source)(const struct lm_model *m);
    uint64_t (*model_hash)(const struct lm_model *m);

    /* building a model (formats).  Data of a tensor must outlive the model:
     * from map_file(), or keep() takes over memory of alloc().          [main] */
    enum lm_status (*set_arch)(struct lm_builder *b, const struct lm_arch *a,
                               struct lm_err *e);
    enum lm_status (*add_tensor)(struct lm_builder *b, uint32_t role, int32_t layer,
                                 const struct lm_tensor *t, const char *name,
                                 struct lm_err *e);
    enum lm_status (*set_vocabulary)(struct lm_builder *b,
                                     const struct lm_vocabulary *v, struct lm_err *e);
    enum lm_status (*map_file)(struct lm_builder *b, const char *path,
                               const void **data, size_t *n, struct lm_err *e);
    void (*keep)(struct lm_builder *b, void *memory);

    /* files.  An lm_out appears under its name only by commit.          [main] */
    enum lm_status (*read_file)(const char *path, size_t limit, char **text,
                                size_t *n, struct lm_err *e);   /* release() it */
    bool (*file_exists)(const char *path);
    enum lm_status (*make_folder)(const char *path, struct lm_err *e);
    enum lm_status (*out_open)(const char *path, struct lm_out **o, struct lm_err *e);
    enum lm_status (*out_write)(struct lm_out *o, const void *p, size_t n,
                                struct lm_err *e);
    enum lm_status (*out_commit)(struct lm_out *o, struct lm_err *e);
    void (*out_abandon)(struct lm_out *o);

    /* statistics and scores.  `site` is LM_SITE_ATTN (x: input of o_proj),
     * LM_SITE_MLP (x: input of down_proj) or LM_SITE_LAYER (cosine).     [any] */
    enum lm_status (*stat)(const struct lm_stats *s, uint32_t stat, uint32_t site,
                           int32_t layer, const double **out, int64_t *n,
                           struct lm_err *e);
    int64_t (*stat_tokens)(const struct lm_stats *s);

    /* genes (from lm_pruner.genes) and edits (from lm_pruner.decode).   [main] */
    enum lm_status (*add_gene)(struct lm_space *s, const struct lm_gene *g,
                               struct lm_err *e);
    /* importance of the n sites of a kind in a layer; higher is kept           */
    enum lm_status (*scores)(struct lm_space *s, uint32_t site, int32_t layer,
                             const double **score, int64_t *n, struct lm_err *e);
    enum lm_status (*edit_drop)(struct lm_plan *p, struct lm_site s,
                                struct lm_err *e);
    /* keep exactly these (any order), or the k of highest score                */
    enum lm_status (*edit_keep)(struct lm_plan *p, uint32_t site, int32_t layer,
                                const int32_t *index, int64_t n, struct lm_err *e);
    enum lm_status (*edit_keep_top)(struct lm_plan *p, uint32_t site,
                                    int32_t layer, int64_t k, struct lm_err *e);

    /* texts, tokenized whole; the first call for a text does the work.   [any] */
    enum lm_status (*text_ids)(struct lm_run *r, const char *text,
                               const int32_t **ids, size_t *n, struct lm_err *e);

    /* candidates.  nll[t] and kl[t] are in nats; nll[t] is of ids[t+1] given
     * ids[0..t], t < n-1; kl[t] is KL(dense || candidate) at t < n.   [worker] */
    enum lm_status (*token_losses)(struct lm_subject *s, const int32_t *ids,
                                   size_t n, float *nll, struct lm_err *e);
    enum lm_status (*token_kl)(struct lm_subject *s, const int32_t *ids,
                               size_t n, float *kl, struct lm_err *e);
    enum lm_status (*cost)(struct lm_subject *s, struct lm_cost *out,
                           struct lm_err *e);
    /* seconds of one run of the whole model; alone on the machine              */
    enum lm_status (*time)(struct lm_subject *s, const struct lm_workload *w,
                           double *seconds, struct lm_err *e);

    /* studies (reporters).  Keys of study_text: "pipeline", "model",
     * "model_hash", "version", "plugins", "seed", "started", "sample_dense",
     * "sample_best", "prompt", "protocol:METRIC"; "" when unknown.      [main] */
    int64_t (*study_n_trials)(const struct lm_study *s);
    enum lm_status (*study_trial)(const struct lm_study *s, int64_t i,
                                  struct lm_trial *out, struct lm_err *e);
    int64_t (*study_n_metrics)(const struct lm_study *s);
    const char *(*study_metric)(const struct lm_study *s, int64_t i,
                                const char **unit, bool *objective);
    int64_t (*study_best)(const struct lm_study *s);    /* index, -1: none      */
    const struct lm_arch *(*study_arch)(const struct lm_study *s);  /* dense    */
    const char *(*study_text)(const struct lm_study *s, const char *key);

    /* extension by name, NULL if absent: "org.example.thing/1"           [any] */
    const void *(*extension)(const char *name);
    /* append only below this line and raise LM_ABI_MINOR                       */
};

/* ---- what every instance is created with ------------------------------------------ */
struct lm_args {
    uint32_t struct_size;
    const struct lm_host  *host;
    struct lm_run         *run;
    const void            *config;      /* the struct opt[].offset points in    */
    const char            *instance;    /* its id in the pipeline file          */
    const struct lm_model *model;       /* the dense model; NULL for formats,
                                           searches and reporters               */
    const struct lm_stats *stats;       /* scorers; else NULL                   */
};

/* ---- one table per kind; self comes from lm_module.create ------------------------- */

struct lm_search {
    uint32_t struct_size, max_objectives;       /* 0: any number                */
    uint64_t genes;                             /* LM_BIT(gene kinds) handled   */
    /* The problem lives until destroy.                                  [main] */
    enum lm_status (*begin)(void *self, const struct lm_problem *p, struct lm_err *e);
    /* Up to max proposals; *n == 0: finished.  Every proposal is told before
     * the next ask, in the same order.  A resumed run replays asks and tells,
     * so both must depend on nothing but seed, options and outcomes.    [main] */
    enum lm_status (*ask)(void *self, struct lm_proposal *out, size_t max,
                          size_t *n, struct lm_err *e);
    enum lm_status (*tell)(void *self, const struct lm_outcome *const *o, size_t n,
                           struct lm_err *e);
    /* Upper bound of the proposals to come, for estimates.              [main] */
    size_t (*budget)(void *self);
};

struct lm_pruner {
    uint32_t struct_size, reserved;
    uint64_t edits;                     /* LM_BIT(site kinds) it may remove     */
    uint64_t needs_scores;              /* LM_BIT(site kinds) it ranks by       */
    /* Declares its genes through host->add_gene.                        [main] */
    enum lm_status (*genes)(void *self, struct lm_space *s, struct lm_err *e);
    /* value[0] is the first slot of its first gene, all its genes follow.
     * A pure function of its inputs.                                    [main] */
    enum lm_status (*decode)(void *self, const union lm_value *value,
                             struct lm_plan *p, struct lm_err *e);
    /* LM_SHAPE_* features that plans may have under these options.  Optional:
     * NULL stands for all that `edits` can make.                        [any] */
    uint64_t (*shapes)(const void *config);
};

struct lm_scorer {
    uint32_t struct_size, reserved;
    uint64_t sites;                     /* LM_BIT(site kinds) it can score      */
    uint64_t needs;                     /* LM_BIT(enum lm_stat)                 */
    /* out[n]: importance of each site of the kind in the layer; higher is
     * kept longer.  LM_SITE_LAYER, _ATTN, _MLP: n == 1.                  [any] */
    enum lm_status (*score)(void *self, uint32_t site, int32_t layer,
                            double *out, int64_t n, struct lm_err *e);
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
};

struct lm_repair {
    uint32_t struct_size, reserved;
    uint64_t needs;                     /* LM_BIT(enum lm_stat)                 */
    /* Once per site and column order: factorizations for all widths.
     * NULL members of site are not needed.  Site lives until release.    [any] */
    enum lm_status (*prepare)(void *self, const struct lm_repair_site *site,
                              void **prepared, struct lm_err *e);
    /* out [n][m]: the weights of the m kept columns.                     [any] */
    enum lm_status (*apply)(void *self, const void *prepared, int64_t m,
                            float *out, struct lm_err *e);
    void (*release)(void *self, void *prepared);
};

enum { LM_NEEDS_RUN = 1, LM_NEEDS_DENSE = 2, LM_NEEDS_QUIET = 4 };

struct lm_evaluator {
    uint32_t struct_size, needs;        /* LM_NEEDS_*: runs the candidate; its
                                           dense parent too; nothing beside it  */
    const struct lm_metric *metric;
    size_t   metric_size;               /* sizeof *metric as the plugin sees it */
    /* How many items there are; texts are read here.                    [main] */
    enum lm_status (*items)(void *self, int64_t *n, struct lm_err *e);
    /* What a number means, in one line: window, stride, BOS, text, ...  [main] */
    enum lm_status (*protocol)(void *self, char *out, size_t size, struct lm_err *e);
    /* sum[n_metrics] of one item.                                     [any] */
    enum lm_status (*eval)(void *self, struct lm_subject *s, int64_t item,
                           struct lm_sum *sum, struct lm_err *e);
};

struct lm_device { char name[96], driver[64]; int64_t memory; bool software; };

struct lm_time { double host, device; };        /* seconds; device 0: unknown   */

struct lm_backend {
    uint32_t struct_size, reserved;
    uint64_t dtypes;                    /* LM_BIT(enum lm_dtype) of weights     */
    enum lm_status (*device)(void *self, struct lm_device *out, struct lm_err *e);
    /* t->data stays valid until forget(); a backend may keep the pointer.
     * stride: elements from row to row.                                  [any] */
    enum lm_status (*upload)(void *self, const struct lm_tensor *t, int64_t stride,
                             struct lm_weight **w, struct lm_err *e);
    void (*forget)(void *self, struct lm_weight *w);
    /* buffers of n floats                                                [any] */
    enum lm_status (*buffer)(void *self, int64_t n, struct lm_buffer **b,
                             struct lm_err *e);
    void (*buffer_free)(void *self, struct lm_buffer *b);
    enum lm_status (*write)(void *self, struct lm_buffer *b, int64_t first,
                            const float *from, int64_t n, struct lm_err *e);
    enum lm_status (*read)(void *self, const struct lm_buffer *b, int64_t first,
                           float *to, int64_t n, struct lm_err *e);
    enum lm_status (*copy)(void *self, struct lm_buffer *to,
                           const struct lm_buffer *from, int64_t n, struct lm_err *e);
    /* n_slot caches of capacity rows, width[i] floats each for k and for v     */
    enum lm_status (*kv_open)(void *self, const int32_t *width, size_t n_slot,
                              int64_t capacity, struct lm_kv **kv, struct lm_err *e);
    void (*kv_close)(void *self, struct lm_kv *kv);
    /* The program may be freed after compile; weights must outlive it.   [any] */
    enum lm_status (*compile)(void *self, const struct lm_program *p,
                              struct lm_exe **x, struct lm_err *e);
    void (*exe_free)(void *self, struct lm_exe *x);
    /* A stream is used by one thread at a time; threads: how many it may
     * use inside one operator.                                          [any] */
    enum lm_status (*stream_open)(void *self, int32_t threads,
                                  struct lm_stream **s, struct lm_err *e);
    void (*stream_close)(void *self, struct lm_stream *s);
    enum lm_status (*run)(void *self, struct lm_stream *s, const struct lm_exe *x,
                          const struct lm_exec *args, struct lm_time *t,
                          struct lm_err *e);                            /* [any] */
};

enum {                                  /* features of a shape                  */
    LM_SHAPE_UNEVEN_FF = 1, LM_SHAPE_UNEVEN_HEADS = 2, LM_SHAPE_NO_ATTN = 4,
    LM_SHAPE_NO_MLP = 8, LM_SHAPE_BIAS = 16
};
struct lm_limits {                      /* what a format can write              */
    uint32_t struct_size;
    uint64_t features;                  /* LM_SHAPE_*                           */
    int32_t  multiple;                  /* of FFN widths, for this dtype        */
};
struct lm_export {
    uint32_t struct_size;
    const char *path;                   /* file, or folder                      */
    uint32_t    dtype;                  /* of matrices; vectors stay f32/f16... */
    const char *card;                   /* model card: parent, hash, plan       */
    const struct lm_model *parent;
};

struct lm_format {
    uint32_t struct_size, reserved;
    const char *suffix;                 /* ".gguf", or "" for a folder          */
    uint64_t dtypes;                    /* LM_BIT(enum lm_dtype) it writes      */
    /* 0: not mine, 100: certainly mine; looks at names and magic only.  [main] */
    int (*probe)(void *self, const char *path);
    enum lm_status (*read)(void *self, const char *path, struct lm_builder *b,
                           struct lm_err *e);
    enum lm_status (*limits)(void *self, uint32_t dtype, struct lm_limits *out,
                             struct lm_err *e);
    enum lm_status (*write)(void *self, const struct lm_model *m,
                            const struct lm_export *x, struct lm_err *e);
};

struct lm_reporter {
    uint32_t struct_size, reserved;
    const char *file;                   /* in the run folder; NULL: to `text`   */
    /* Writes the report through host->alloc'ed *text (the core stores or
     * prints it and releases it).                                       [main] */
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
#ifdef LM_NAME          /* in the tree: random_LTX_lm_plugin */
# define LM_CAT_(a, b) a##b
# define LM_CAT(a, b)  LM_CAT_(a, b)
# define lm_plugin     LM_CAT(LM_NAME, _LTX_lm_plugin)
#endif
LM_EXPORT const struct lm_module *lm_plugin(void);

#ifdef __cplusplus
}
#endif
#endif
