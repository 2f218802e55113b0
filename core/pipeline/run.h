/* SPDX-License-Identifier: Apache-2.0 */
/* run.h -- one command of the program: its seed and its texts.
 *
 * A text is a UTF-8 file tokenized whole, or a slice of one; or a file of
 * conversations, one JSON object on a line, which are written in the way of the
 * model's chat template and tokenized one behind the other.  Entries of the
 * pipeline's `data` group have names; any other name is a path.             */
#ifndef LM_PIPELINE_RUN_H
#define LM_PIPELINE_RUN_H
#include "base/err.h"
#include "config/conf.h"
#include "model/model.h"
#include "model/tokenizer.h"

/* Options of an entry of `data`. */
struct lm_text_options {
    const char *path;
    struct lm_reals part;           /* [from, to) as shares of the tokens */
    int64_t sequences, length, seed;    /* a calibration sample of it */
    struct lm_ints starts;          /* where its sequences start: instead of those */
    bool chat;                      /* JSON lines of conversations */
    const char *origin;             /* "run.cfg:14" of the entry, or NULL */
};

/* Sequences of a calibration sample of the text. */
static inline int64_t lm_text_sequences(const struct lm_text_options *o)
{
    return o->starts.n ? (int64_t)o->starts.n : o->sequences;
}

struct lm_run;
enum lm_status lm_run_open(uint64_t seed, struct lm_run **r, struct lm_err *e);
void lm_run_close(struct lm_run *r);
/* The run folder of a command that has one: absolute, NULL before. */
enum lm_status lm_run_set_folder(struct lm_run *r, const char *path, struct lm_err *e);
const char *lm_run_folder(const struct lm_run *r);
uint64_t lm_run_seed(const struct lm_run *r);
/* What a batch of genomes costs: see host.price.  While a search is on, it says so. */
typedef enum lm_status lm_price(void *ctx, const union lm_value *const *value, size_t n,
                                double *share, struct lm_err *e);
/* The size of what one stands for: see host.weigh. */
typedef enum lm_status lm_weigh(void *ctx, const union lm_value *value,
                                struct lm_cost *out, struct lm_err *e);
void lm_run_set_price(struct lm_run *r, lm_price *price, lm_weigh *weigh, void *ctx);
                                                                    /* NULL: none */
enum lm_status lm_run_price(struct lm_run *r, const union lm_value *const *value,
                            size_t n, double *share, struct lm_err *e);
enum lm_status lm_run_weigh(struct lm_run *r, const union lm_value *value,
                            struct lm_cost *out, struct lm_err *e);
/* Names a text; o is copied. */
enum lm_status lm_run_text(struct lm_run *r, const char *name,
                           const struct lm_text_options *o, struct lm_err *e);
/* Is it an entry or an existing file? */
bool lm_run_has_text(const struct lm_run *r, const char *name);
/* The entry of `data` whose name is nearest, or NULL. */
const char *lm_run_near_text(const struct lm_run *r, const char *name);
/* The tokenizer is that of the model; it must outlive the run. */
enum lm_status lm_run_model(struct lm_run *r, const struct lm_model *m, struct lm_err *e);
const struct lm_tokenizer *lm_run_tokenizer(const struct lm_run *r);    /* or NULL */
/* Token ids of a text, kept by the run.  [any] */
enum lm_status lm_run_ids(struct lm_run *r, const char *name, const int32_t **ids,
                          size_t *n, struct lm_err *e);
/* Texts read so far: name and hash of the file's bytes; false behind the last. */
bool lm_run_text_at(const struct lm_run *r, size_t i, const char **name, uint64_t *hash);
/* Sequences of the entry's sample, [sequences][length]; lm_release it. */
enum lm_status lm_run_sample(struct lm_run *r, const char *name, int32_t **ids,
                             int64_t *n_seq, int64_t *length, struct lm_err *e);
#endif
