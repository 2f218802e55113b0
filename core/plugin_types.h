/* SPDX-License-Identifier: Apache-2.0 */
/* lamina/plugin_types.h -- the data that cross between host and plugins.
 * Included by plugin.h, which has the rules; do not include it alone.        */
#ifndef LAMINA_PLUGIN_TYPES_H
#define LAMINA_PLUGIN_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Fills an out-struct: copies of `from` (size bytes, struct_size first) what the
 * caller of `to` has room for, and sets to->struct_size to that.            */
static inline void lm_fill_struct(void *to, const void *from, uint32_t size)
{
    uint32_t room;

    memcpy(&room, to, sizeof room);
    if (room > size)
        room = size;
    if (room < sizeof room)
        return;
    memcpy(to, from, room);
    memcpy(to, &room, sizeof room);
}

/* Has whoever made *p, which begins with struct_size, this member of it?     */
#define LM_HAS(p, member) \
    ((p)->struct_size >= (size_t)((const char *)(&(p)->member + 1) - (const char *)(p)))

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
    LM_F32 = 1, LM_F16, LM_BF16, LM_Q8_0, LM_Q4_0, LM_Q4_1,
    LM_Q5_0, LM_Q5_1, LM_Q2_K, LM_Q3_K, LM_Q4_K, LM_Q5_K, LM_Q6_K, LM_IQ4_NL,
                                        /* these eight are read, not written;
                                           since minor 2                       */
    LM_N_DTYPES
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
                                        /* NULL: the format is only read;
                                           since minor 2                      */
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
    const int32_t *eos_more;            /* [n_eos_more] further ids that end a
                                           text; none of them is eos          */
    uint32_t    n_eos_more;
    /* since minor 2 */
    int32_t     window;                 /* sliding attention: a token sees this
                                           many, itself included; 0: all      */
    /* LM_ROPE_YARN: rotations between which frequencies are blended, and what
     * cosines and sines are multiplied by.  rope_exact: the range of blended
     * pairs is not widened to whole numbers.                                 */
    double      rope_fast, rope_slow, rope_attention;
    bool        rope_exact;
    const char *generation;             /* generation_config.json; NULL: none */
};

/* ---- sites ------------------------------------------------------------------- */
enum lm_site_kind {
    LM_SITE_MODEL = 1, LM_SITE_LAYER, LM_SITE_ATTN, LM_SITE_MLP,
    LM_SITE_KV_GROUP, LM_SITE_HEAD, LM_SITE_FFN_CHANNEL, LM_SITE_HIDDEN,
    LM_SITE_MATRIX, LM_N_SITE_KINDS
};
#define LM_BIT(k) (UINT64_C(1) << (k))

/* layer: -1 for the kinds of the whole model.                         frozen */
struct lm_site { uint32_t kind; int32_t layer; int64_t index; };

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
                           and becomes a gene; in this version of repair
                           plugins only, elsewhere it has no effect           */
    LM_NO_HASH = 4,     /* cannot change any result                           */
    LM_EXPERT = 8
};

/* these five: frozen */
struct lm_reals   { const double  *v; size_t n; };
struct lm_ints    { const int64_t *v; size_t n; };
struct lm_strings { const char *const *v; size_t n; };
struct lm_instance { const void *ops; void *self; const char *name; };
struct lm_instances { const struct lm_instance *v; size_t n; };

struct lm_opt {                         /* elements of opt_size               */
    const char *name;                   /* [a-z][a-z0-9_]*                    */
    uint32_t    type, flags;
    size_t      offset;                 /* into the plugin's config struct    */
    const char *def;                    /* as written on the command line;
                                           NULL or "": none (0, NULL, empty)  */
    double      min, max;               /* INT, REAL and members of lists;
                                           PLUGINS: max of them, 0: any number */
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
    /* since minor 2 */
    LM_STAT_SUMABS,     /* [n] sum of |x| over tokens                         */
    LM_STAT_ALIGN,      /* [3] HSIC of block input with output, of the input with
                           itself, of the output with itself: linear kernels,
                           unbiased, summed over pieces of sequences          */
    /* since minor 3 */
    LM_STAT_STREAM,     /* [d][d] sum of y y^T over tokens, symmetric; y [d] = the
                           residual stream where it enters the block, divided by
                           its root mean square (sqrt(mean + rms_eps)): what the
                           block's norm makes before its weight.  Of LM_SITE_HIDDEN,
                           layer -1: what enters the final norm               */
    LM_STAT_CROSS,      /* [d][n] sum of t x^T over tokens, see lm_repair_site:
                           of finalists only, never in a file of statistics   */
    LM_N_STATS
};

/* ---- evaluation ---------------------------------------------------------------- */
enum lm_reduce {
    LM_REDUCE_MEAN = 1,     /* sum of values / sum of weights                 */
    LM_REDUCE_EXP_MEAN,     /* exp of that (perplexity)                       */
    LM_REDUCE_MEDIAN        /* median of value / weight over items            */
};

enum { LM_MAX_METRICS = 64 };           /* of an evaluator, and of a study    */

struct lm_metric {                      /* ends with name == NULL; elements
                                           of metric_size                     */
    const char *name, *unit, *help;     /* "ppl"; shown as "perplexity.ppl".
                                           name: 1 to 63 letters, digits, _;
                                           unit: "" or at most 31 printable
                                           ASCII characters, no space         */
    uint32_t    reduce;                 /* enum lm_reduce                     */
    bool        noisy;                  /* repeated calls differ              */
    bool        maximise;
};

struct lm_own_metric {                  /* a metric that options define; since
                                           minor 2                            */
    uint32_t struct_size;
    uint32_t reduce;                    /* as in struct lm_metric             */
    bool     noisy, maximise;
    char     name[64], unit[32], help[128];     /* NUL-terminated, as above   */
};

struct lm_sum { double value, weight; };                            /* frozen */

struct lm_call {                        /* one run of a program of the user;
                                           since minor 2                      */
    uint32_t struct_size;
    const char *const *argv;            /* ends with NULL; argv[0] is a path or
                                           is looked up in PATH; no shell     */
    double      seconds;                /* time limit                         */
    size_t      most;                   /* bytes of standard output           */
    const char *log;                    /* file in RUN/commands that keeps what
                                           it printed; NULL: none             */
};

/* What a candidate costs, counted from its shapes and formats. */
struct lm_cost {
    uint32_t struct_size;
    int64_t  params;                    /* all weights                        */
    int64_t  body_params;               /* weights of the layers' matrices: no
                                           norms, embedding, head             */
    int64_t  bytes;                     /* weights as they would be exported  */
    int64_t  macs;                      /* multiply-adds per token, linear
                                           layers and head, no attention      */
    int64_t  kv_bytes;                  /* per cached token, f16              */
    int64_t  row_bytes;                 /* of activations for each token that is
                                           computed at once, f32: residual
                                           stream and registers of the widest
                                           layer; attention's scores are not
                                           held.  Since minor 2               */
};

enum lm_phase { LM_PREFILL = 1, LM_DECODE };
struct lm_workload {                                                /* frozen */
    uint32_t phase;                     /* enum lm_phase                      */
    int32_t  tokens;                    /* computed (decode: one by one)      */
    int32_t  context;                   /* tokens in the cache before         */
    int32_t  threads;
};

/* What host->timing() finds: seconds as host->time() has them; those by the device's own
 * clock, 0: unknown; and those that the anchor took at the same time, as measured, 0: the
 * candidate is the anchor.  Since minor 4.                                         */
struct lm_timing {
    uint32_t struct_size, reserved;
    double   seconds, device, anchor;
};

/* An operator of the runs that a workload makes: its shape as in struct lm_op.  code 0
 * is the run itself.  In arrays: pointers only.  Since minor 4.                   */
struct lm_use {
    uint32_t struct_size;
    uint32_t code;                      /* enum lm_opcode                     */
    uint32_t dtype;                     /* of its matrix; what the backend does not
                                           read in this number format it reads as
                                           floats; 0: it has none             */
    uint32_t flags;                     /* LM_OPF_ACC                         */
    int32_t  n, k;                      /* RMSNORM on heads: n is head_dim    */
    int32_t  n_head, n_kv, head_dim;    /* 0 where there are no heads         */
    bool     again;                     /* LINEAR: of the same input as the LINEAR
                                           before it                          */
    int32_t  rows, pos;                 /* tokens at once, tokens before them */
    int32_t  times;                     /* in one run                         */
    int32_t  runs;                      /* that are alike, each of them `rows` tokens
                                           further                            */
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
    double   fidelity;
    bool     stopped;                   /* it lost a race and was measured on this
                                           share of the items only: something is
                                           better in all objectives; they are
                                           estimates for all items.  Since
                                           minor 2                            */
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

/* What the factors of LINEAR and of the heads are rounded to; sums are f32 or
 * better, registers stay floats.  BF16: both, halves to even.  INT8: each row of
 * w to -127 .. 127 times its largest |w| / 127, and each row of a likewise; the
 * products are exact.  KL and EXPECT use the rounded a and w everywhere.  With
 * either, ATTENTION may round its factors to bf16.                            */
enum lm_precision { LM_AS_F32 = 0, LM_AS_BF16, LM_AS_INT8, LM_N_PRECISIONS };

struct lm_program {
    uint32_t struct_size;
    const struct lm_op *op;
    size_t   n_op;
    const int32_t *width;               /* [n_reg] floats per row             */
    size_t   n_reg;
    uint32_t precision;                 /* since minor 2: enum lm_precision   */
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
    float   *out;                       /* host memory: CE, KL and EXPECT write
                                           [rows], LOGITS writes [n]; NULL in
                                           programs without these             */
};

#endif
