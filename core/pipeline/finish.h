/* SPDX-License-Identifier: Apache-2.0 */
/* finish.h -- after the search: finalists measured, samples, exports, reports. */
#ifndef LM_PIPELINE_FINISH_H
#define LM_PIPELINE_FINISH_H
#include "pipeline/session.h"
#include "pipeline/view.h"

enum { LM_FINALISTS_AT_ONCE = 8 };      /* that are open, and share what they can */
/* Final evaluators on the dense model, the picks and the front. */
enum lm_status lm_finish_measure(struct lm_session *s, struct lm_study *v,
                                 struct lm_err *e);
/* Sample text of the dense and the best model into the store. */
enum lm_status lm_finish_sample(struct lm_session *s, struct lm_study *v,
                                struct lm_err *e);
/* Every `export` into folder/export; paths are logged. */
enum lm_status lm_finish_export(struct lm_session *s, struct lm_study *v,
                                const char *folder, struct lm_err *e);
/* Reports into the folder; those for the terminal are appended to text. */
enum lm_status lm_finish_report(struct lm_pipeline *p, struct lm_study *v,
                                const char *folder, struct lm_str *text,
                                struct lm_err *e);
/* One trial to one file or folder. */
enum lm_status lm_export_trial(struct lm_session *s, struct lm_study *v, int64_t trial,
                               struct lm_stage *format, uint32_t dtype, const char *path,
                               bool verify, struct lm_err *e);
/* Measures what was exported, as an object of the JSON list that the store keeps
 * as "exports": { "file", "trial", "format", "plan", "written" }, the last two
 * with "bytes" (of the weights; on disk, all files of a folder), "parameters" and
 * what evaluators of time say: of the plan in the study, and of the file, loaded
 * by its format.  What was not measured is missing.                         */
struct lm_jsonw;
enum lm_status lm_exported(struct lm_session *s, const struct lm_study *v, int64_t trial,
                           const struct lm_export_stage *x, const char *path,
                           struct lm_jsonw *w, struct lm_err *e);
/* n tokens continuing ids [n_ids], greedy or sampled; *out lm_release'd.
 * temperature 0: greedy.  Stops behind every id that ends a text, and behind those
 * of `stop`, unless ignore_eos; each token is shown to see() if that is not NULL. */
struct lm_generate {
    int64_t tokens;
    double temperature, top_p;
    uint64_t seed;
    bool ignore_eos;
    int32_t threads;
    const int32_t *stop;
    size_t n_stop;
    enum lm_status (*see)(void *ctx, int32_t id, struct lm_err *e);
    void *ctx;
};
enum lm_status lm_generate(struct lm_engine *g, const struct lm_network *net,
                           const struct lm_generate *o, const int32_t *ids, size_t n_ids,
                           int32_t **out, size_t *n_out, struct lm_err *e);
#endif
