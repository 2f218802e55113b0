/* SPDX-License-Identifier: Apache-2.0 */
/* lamina/plugin_host.h -- the services that a plugin gets from the host.
 * Included by plugin.h, which has the rules; do not include it alone.        */
#ifndef LAMINA_PLUGIN_HOST_H
#define LAMINA_PLUGIN_HOST_H

#include "plugin_types.h"

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
    /* Since minor 2.  Of a trial that lost a race and was stopped: what its
     * objectives are likely to be, NAN for other metrics; NULL for all other trials.
     * `value` is of the items it has seen, `fidelity` their share, `reason` what
     * beat it.                                                               */
    const double *estimate;
    /* Since minor 3.  By how much it breaks constraints, as the search was told: the
     * excesses relative to their bounds, added up; 0: it keeps all of them, INFINITY:
     * not measured, or not built.                                            */
    double violation;
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
    const char *text;                   /* of BYTES in the GPT-2 byte alphabet,
                                           of other models with U+2581 for a
                                           space; literal text if ADDED or
                                           SPECIAL; "<0x0A>" if BYTE          */
    uint32_t    length;
    uint32_t    kind;                   /* enum lm_token_kind                 */
};
enum lm_token_kind { LM_TOKEN_NORMAL = 1, LM_TOKEN_SPECIAL, LM_TOKEN_ADDED,
                     LM_TOKEN_UNUSED, LM_TOKEN_BYTE };
/* how text is cut into words; of LM_TOKENIZER_BYTES only                     */
enum lm_pretokenizer { LM_PRE_GPT2 = 1, LM_PRE_SMOLLM, LM_PRE_LLAMA3, LM_PRE_QWEN2 };
struct lm_merge { uint32_t left, right; };  /* token ids; rank = position; frozen */

enum lm_tokenizer_model {
    LM_TOKENIZER_BYTES,     /* byte-pair encoding of bytes (GPT-2)            */
    LM_TOKENIZER_CHARS,     /* of characters, by a list of merges             */
    LM_TOKENIZER_SCORES,    /* of characters: the neighbours whose text is the
                               token of highest score (SentencePiece "bpe")   */
    LM_TOKENIZER_UNIGRAM    /* the tokens of highest total score              */
};
/* When a space is put in front of a text (all models but BYTES).             */
enum lm_space_prefix {
    LM_PREFIX_NONE,
    LM_PREFIX_ALWAYS,       /* also behind each special or added token        */
    LM_PREFIX_MISSING,      /* likewise, unless a space is there              */
    LM_PREFIX_FIRST         /* at the start of the whole text, unless there   */
};

struct lm_vocabulary {
    uint32_t struct_size;
    uint32_t pre;                       /* enum lm_pretokenizer               */
    const struct lm_token *token;       /* [n_token]                          */
    size_t   n_token;
    const struct lm_merge *merge;       /* [n_merge], most frequent first     */
    size_t   n_merge;
    bool     ignore_merges;             /* whole words in the vocabulary win  */
    const char *chat_template;          /* or NULL                            */
    /* since minor 2 */
    uint32_t model;                     /* enum lm_tokenizer_model            */
    uint32_t prefix;                    /* enum lm_space_prefix               */
    const double *score;                /* [n_token] of SCORES and UNIGRAM    */
    uint32_t unk;                       /* id of what is in no token; counts
                                           only with has_unk                  */
    bool     has_unk, fuse_unk;         /* fuse: neighbours become one        */
    bool     split_spaces;              /* no token reaches across the
                                           beginning of a space               */
    bool     nfc;                       /* text is brought into that form     */
};

struct lm_host {
    uint32_t struct_size, abi_major, abi_minor, reserved;
    const char *version;

    /* memory: zeroed, 64-byte aligned; NULL when there is none.          [any] */
    void *(*alloc)(size_t n, const char *tag);
    void *(*resize)(void *p, size_t n); /* the new part is not zeroed; NULL: p
                                           is as it was                       */
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
     * LM_SITE_MLP (x: input of down_proj), LM_SITE_LAYER (cosine, alignment) or
     * LM_SITE_HIDDEN (layer -1: the stream).                             [any] */
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
    /* keep exactly these (any order), or the k of highest score; of query heads
     * (LM_SITE_HEAD) the k of each KV group, since all groups of a layer must
     * keep as many                                                             */
    enum lm_status (*edit_keep)(struct lm_plan *p, uint32_t site, int32_t layer,
                                const int32_t *index, int64_t n, struct lm_err *e);
    enum lm_status (*edit_keep_top)(struct lm_plan *p, uint32_t site,
                                    int32_t layer, int64_t k, struct lm_err *e);

    /* texts, tokenized whole; the first call for a text does the work.   [any] */
    enum lm_status (*text_ids)(struct lm_run *r, const char *text,
                               const int32_t **ids, size_t *n, struct lm_err *e);

    /* candidates.  nll[t] and kl[t] are in nats; nll[t] is of ids[t+1] given
     * ids[0..t], t < n-1; kl[t] is KL(dense || candidate) at t < n.  For
     * evaluators with LM_NEEDS_RUN only, token_kl with LM_NEEDS_DENSE as well;
     * others get LM_EBUG.                                             [worker] */
    enum lm_status (*token_losses)(struct lm_subject *s, const int32_t *ids,
                                   size_t n, float *nll, struct lm_err *e);
    enum lm_status (*token_kl)(struct lm_subject *s, const int32_t *ids,
                               size_t n, float *kl, struct lm_err *e);
    enum lm_status (*cost)(struct lm_subject *s, struct lm_cost *out,
                           struct lm_err *e);
    /* seconds of one run of the whole model; alone on the machine, so for
     * evaluators with LM_NEEDS_QUIET only, others get LM_EBUG.  When all items are
     * measured eval() is called again with the same subjects and items, and told the
     * seconds that it was told, divided by the machine's drift; these sums count.
     *                                                                   [main] */
    enum lm_status (*time)(struct lm_subject *s, const struct lm_workload *w,
                           double *seconds, struct lm_err *e);

    /* studies (reporters).  Keys of study_text: "pipeline", "model",
     * "model_hash", "version", "plugins", "seed", "started", "sample_dense",
     * "sample_best", "prompt", "exports" (JSON: what was exported, as planned and
     * as found in the file), "notes" (since minor 3: what makes figures doubtful, a
     * sentence a line), "backend", "device", "timing", "clocks" (since minor 4: what it
     * was measured on and how steady that was), "predictions" (since minor 4: names of
     * two metrics a line, what is predicted and what measures it), "protocol:METRIC"; ""
     * when unknown.
     *                                                                   [main] */
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

    /* ---- since minor 2, which LM_HAS(host, call) tells of each -------------- */

    /* For evaluators with LM_NEEDS_COMMANDS, in eval().                 [main]
     * The candidate as a file or folder that a format wrote; dtype 0: that of
     * the pipeline's exports.  Written once, gone after the last of these
     * evaluators has seen the candidate.                                       */
    enum lm_status (*subject_file)(struct lm_subject *s, const char *format,
                                   uint32_t dtype, const char **path,
                                   struct lm_err *e);
    uint64_t (*subject_plan)(const struct lm_subject *s);   /* hash of its plan */
    /* The run folder, absolute; NULL in commands that have none.               */
    const char *(*run_folder)(const struct lm_run *r);
    /* Runs a program to its end; *out, to be released, is its standard output,
     * NUL-terminated behind n bytes.  LM_EFAILED says how else it ended: exit
     * status, signal, time, too much output, with the last line of its standard
     * error.  LM_ECONFIG: the user did not allow commands.                     */
    enum lm_status (*call)(struct lm_run *r, const struct lm_call *c, char **out,
                           size_t *n, struct lm_err *e);

    /* For search strategies, from begin() to destroy(); LM_EUNAVAILABLE elsewhere.
     * What evaluating n genomes in one batch costs: share[i] of evaluating the
     * uncompressed model, in multiply-adds, is what genome i adds to those before
     * it.  Blocks that two have in common from the embedding on are run once (with
     * `run.share = false` more often, but the price is the same); a genome that
     * cannot be built or whose plan was measured costs 0.              [main] */
    enum lm_status (*price)(struct lm_run *r, const union lm_value *const *value,
                            size_t n, double *share, struct lm_err *e);
    /* What token_losses and token_kl of this subject compute in from now on (enum
     * lm_precision); f32 at first, in each call of eval().  See struct lm_evaluator
     * on the option of that name.  token_kl compares with the dense model in
     * the same precision.  LM_EUNSUPPORTED: the backend does not.     [worker] */
    enum lm_status (*precision)(struct lm_subject *s, uint32_t precision,
                                struct lm_err *e);

    /* ---- since minor 3 --------------------------------------------------------- */

    /* Of a symmetric A [n][n], one thread, the same for the same A: value [n], falling,
     * and in place of A the orthonormal eigenvectors, row i that of value[i].
     * LM_EFAILED: a number in A is not finite.                           [any] */
    enum lm_status (*eigen)(double *a, int64_t n, double *value, struct lm_err *e);
    /* For search strategies, as price: the size of what a genome stands for, as exported
     * without one in f32.  Nothing is built.  LM_EINFEASIBLE: it cannot be.   [main] */
    enum lm_status (*weigh)(struct lm_run *r, const union lm_value *value,
                            struct lm_cost *out, struct lm_err *e);

    /* ---- since minor 4 --------------------------------------------------------- */

    /* As time(), and what else is known of that run.                          [main] */
    enum lm_status (*timing)(struct lm_subject *s, const struct lm_workload *w,
                             struct lm_timing *out, struct lm_err *e);
    /* What a decoder would run of this workload, without running it: shows each
     * operator of different shape once, and the runs.  From shapes and number formats
     * alone, so neither backend nor machine matter; w->threads is not looked at.
     *                                                                     [any] */
    enum lm_status (*operators)(struct lm_subject *s, const struct lm_workload *w,
                                void (*see)(void *ctx, const struct lm_use *u),
                                void *ctx, struct lm_err *e);
};

#endif
