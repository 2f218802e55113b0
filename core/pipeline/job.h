/* SPDX-License-Identifier: Apache-2.0 */
/* job.h -- whole commands over a run folder: run, resume, estimate. */
#ifndef LM_PIPELINE_JOB_H
#define LM_PIPELINE_JOB_H
#include "pipeline/finish.h"

/* Takes over conf.  Makes the run folder, searches, measures, exports,
 * reports.  text: what reporters have for the terminal.  With resume the
 * folder must hold a study of this very pipeline and model.                 */
enum lm_status lm_job_run(struct lm_conf *conf, bool resume, struct lm_str *text,
                          struct lm_err *e);
/* Goes on with the study in a run folder.  set: as of lm_job_conf(). */
enum lm_status lm_job_resume(const char *folder, const char *const *set, size_t n,
                             struct lm_str *text, struct lm_err *e);
/* Does the folder hold a study?  One is there with its pipeline or not at all. */
bool lm_job_begun(const char *folder);
/* Has it been run to its end, reports and exports included? */
enum lm_status lm_job_finished(const char *folder, bool *yes, struct lm_err *e);
/* LM_EINPUT where the study in a folder is of another pipeline than conf, which is
 * taken over, or of another version; threads, memory and workers may differ.   */
enum lm_status lm_job_matches(const char *folder, struct lm_conf *conf,
                              struct lm_err *e);
/* One process at a time in a folder: LM_EFAILED where there is another.  close(*fd), or
 * the end of the process, lets it go.                                          */
enum lm_status lm_job_lock(const char *folder, int *fd, struct lm_err *e);
/* The pipeline of the study in a run folder.  set[n]: "run.workers=2" and others of how
 * a run is done, for this time; what results depend on is LM_ECONFIG.       */
enum lm_status lm_job_conf(const char *folder, const char *const *set, size_t n,
                           struct lm_conf **conf, struct lm_err *e);
/* Writes the reports of a run folder again: needs neither model nor texts. */
enum lm_status lm_job_report(const char *folder, struct lm_str *text, struct lm_err *e);
/* The study in a run folder, read-only use; close both. */
enum lm_status lm_job_study(const char *folder, struct lm_store **store,
                            struct lm_study **view, struct lm_err *e);
/* The study must be of the model and the texts as they are now. */
enum lm_status lm_job_same(struct lm_store *store, struct lm_session *s,
                           const char *folder, struct lm_err *e);
/* The same of the contents of files that options of evaluators name (inputs.c). */
enum lm_status lm_inputs_put(struct lm_store *store, const struct lm_pipeline *p,
                             struct lm_err *e);
enum lm_status lm_inputs_same(struct lm_store *store, const struct lm_pipeline *p,
                              struct lm_err *e);
/* Trials, time, memory and disk that a run will take, as text. */
enum lm_status lm_job_estimate(struct lm_conf *conf, struct lm_str *text,
                               struct lm_err *e);
/* The same in numbers: seconds of this machine's threads, bytes. */
struct lm_estimate { double trials, seconds, memory, cache, exports, programs; };
enum lm_status lm_job_foresee(struct lm_conf *conf, struct lm_estimate *out,
                              struct lm_err *e);

/* What `shrink` turns into a pipeline. */
struct lm_shrink {
    const char *model, *text, *out;
    double to;                  /* share of body parameters; 0: not given */
    double max_bytes, max_ms;   /* 0: not given */
    double minutes;             /* aim of the whole run; 0: 6 */
    int64_t seed, threads;
};
/* The pipeline file's text.  Reads the model's header, times it for max_ms. */
enum lm_status lm_shrink_text(const struct lm_shrink *o, struct lm_str *out,
                              struct lm_err *e);
#endif
