/* SPDX-License-Identifier: Apache-2.0 */
/* check_crew.c -- a crew of real processes: the sums of a run without, and want of memory
 * at every allocation of this side, after which no process is left.
 *
 * The workers are this program: called with `worker` it serves.             */
#include "testing.h"

#include <dirent.h>
#include <ftw.h>
#include <math.h>
#include <unistd.h>

#include "base/child.h"
#include "base/log.h"
#include "base/pool.h"
#include "loader/loader.h"
#include "pipeline/crew.h"
#include "pipeline/worker.h"

enum { CANDIDATES = 3, METRICS = 4, ITEMS = 8 };

static char root[256];
static struct lm_pipeline *pipeline;
static struct lm_session *session;
static struct lm_candidate candidate[CANDIDATES];

static int unlink_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st, (void)type, (void)f;
    return remove(path);
}

static enum lm_status open_conf(struct lm_conf **conf, struct lm_err *e)
{
    static const char form[] =
        "lamina = 1;\n"
        "run: { seed = 3; threads = 2; out = \"%s\"; workers = 1; };\n"
        "model: { path = \"%s\"; };\n"
        "data: { calibration: { path = \"%s\"; sequences = 2; length = 16; }; };\n"
        "score = ( { use = \"wanda\"; } );\n"
        "prune = ( { use = \"ffn\"; levels = [0.5]; } );\n"
        "repair: { use = \"least_squares\"; };\n"
        "evaluate = ( { use = \"kl\"; text = \"%s\"; window = 4; windows = 8; },\n"
        "             { use = \"size\"; } );\n"
        "objectives = ( { metric = \"kl.nats\"; }, { metric = \"size.bytes\"; } );\n"
        "search: { use = \"random\"; budget = 3; };\n";
    char text[4096], words[300];
    snprintf(words, sizeof words, "%s/text.txt", root);
    snprintf(text, sizeof text, form, root, source_path("examples/tiny"), words, words);
    return lm_conf_parse(text, "small.cfg", NULL, 0, conf, e);
}

static void setup(void)
{
    struct lm_err e = { 0 };
    struct lm_conf *conf;
    const char *in = getenv("TMPDIR");
    char path[300];
    static const char words[] = "The little river runs past the mill and the mill stands "
        "still, because the miller has gone to the town to sell what he had ground, and "
        "the children of the miller play in the wheat.\n";
    snprintf(root, sizeof root, "%s/lamina-crew.XXXXXX", in && *in ? in : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(root));
    ck_assert_int_eq(setenv("XDG_CACHE_HOME", root, 1), 0);
    snprintf(path, sizeof path, "%s/text.txt", root);
    ck_assert_ok(lm_write_file(path, words, sizeof words - 1, &e), e);
    lm_log_level(LM_ERROR);
    ck_assert_ok(lm_loader_start(NULL, &e), e);
    ck_assert_ok(open_conf(&conf, &e), e);
    ck_assert_ok(lm_pipeline_open(conf, &pipeline, &e), e);
    ck_assert_ok(lm_pool_start(2, &e), e);
    ck_assert_ok(lm_session_open(pipeline, &session, &e), e);
    for (int i = 0; i < CANDIDATES; i++) {
        struct lm_plan *p;
        ck_assert_ok(lm_plan_open(lm_model_arch(session->bench.model), NULL, &p, &e), e);
        if (i)
            ck_assert_ok(lm_plan_drop(p, (struct lm_site){ LM_SITE_MLP, i, 0 }, &e), e);
        ck_assert_ok(lm_plan_canonical(p, &e), e);
        candidate[i].plan = p;
    }
}

static void teardown(void)
{
    for (int i = 0; i < CANDIDATES; i++)
        lm_plan_free(candidate[i].plan);
    lm_session_close(session);
    lm_pipeline_close(pipeline);
    lm_pool_stop();
    lm_loader_stop();
    nftw(root, unlink_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Processes whose parent this one is. */
static int children(void)
{
    int n = 0;
    struct dirent *d;
    DIR *proc = opendir("/proc");
    ck_assert_ptr_nonnull(proc);
    while ((d = readdir(proc))) {
        char path[300];
        int parent = 0;
        snprintf(path, sizeof path, "/proc/%s/stat", d->d_name);
        FILE *f = d->d_name[0] >= '1' && d->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        if (f && fscanf(f, "%*d (%*[^)]) %*c %d", &parent) == 1)
            n += parent == getpid();
        if (f)
            fclose(f);
    }
    closedir(proc);
    return n;
}

static struct lm_sum sum[CANDIDATES][METRICS][ITEMS];

/* A crew that does one chore. */
static enum lm_status one_chore(void *ctx)
{
    struct lm_crew *crew = NULL;
    struct lm_result result[CANDIDATES][METRICS];
    struct lm_err err[CANDIDATES] = { { 0 } }, e = { 0 };
    struct lm_work work = { 0, 0 };
    double from[CANDIDATES] = { 0 }, to[CANDIDATES] = { 1, 1, 0.5 };
    struct lm_chore chore = { .pass = LM_PASS_SAMPLE, .n = CANDIDATES,
        .candidate = candidate, .from = from, .to = to };
    (void)ctx;
    memset(sum, 0, sizeof sum);
    for (int i = 0; i < CANDIDATES; i++)
        for (int m = 0; m < METRICS; m++)
            result[i][m] = (struct lm_result){ NAN, NAN, sum[i][m], ITEMS };
    enum lm_status st = lm_crew_open(session, &crew, &e);
    if (!st)
        st = lm_crew_work(crew, &chore, result[0], err, &work, &e);
    lm_crew_close(crew);
    for (int i = 0; !st && i < CANDIDATES; i++)
        ck_assert_ok(err[i].code, err[i]);
    ck_assert(st || work.asked > 0);
    ck_assert_int_eq(children(), 0);
    return st;
}

START_TEST(sums_are_those_of_this_process)
{
    struct lm_err e = { 0 }, err[CANDIDATES] = { { 0 } };
    struct lm_plan *plan[CANDIDATES];
    struct lm_candidate c[CANDIDATES];
    struct lm_result result[CANDIDATES][METRICS];
    ck_assert_uint_eq(lm_evaluation_metrics(session->bench.evaluation), METRICS);
    ck_assert_int_eq(one_chore(NULL), LM_OK);
    lm_bench_dismiss(&session->bench);
    ck_assert_ok(lm_judges_open(&session->bench, pipeline->evaluate, pipeline->n_evaluate,
                                LM_F16, 1 << 20, &e), e);
    for (int i = 0; i < CANDIDATES; i++)
        plan[i] = candidate[i].plan;
    ck_assert_ok(lm_candidates_open(session->bench.workshop, plan, CANDIDATES, c, err,
                                    &e), e);
    ck_assert_ok(lm_evaluate(session->bench.evaluation, c, CANDIDATES, NULL, NULL,
                             result[0], err, &e), e);
    for (int i = 0; i < CANDIDATES; i++) {
        size_t n = i < 2 ? ITEMS : ITEMS / 2;
        ck_assert_uint_eq(result[i][0].n_sum, ITEMS);
        ck_assert_double_gt(sum[i][0][0].weight, 0);
        ck_assert_mem_eq(result[i][0].sum, sum[i][0], n * sizeof **sum[0]);
        lm_candidate_close(session->bench.workshop, &c[i]);
    }
    ck_assert_double_eq(sum[2][0][ITEMS / 2].weight, 0);        /* was not asked for */
    lm_results_free(result[0], CANDIDATES * METRICS);
}
END_TEST

START_TEST(want_of_memory)
{
    ck_assert_int_ge(fail_every_allocation(one_chore, NULL), 20);
}
END_TEST

int main(int argc, char **argv)
{
    struct lm_err e = { 0 };
    if (argc == 2 && !strcmp(argv[1], "worker")) {
        if (!lm_loader_start(NULL, &e))
            lm_worker_serve(LM_CHILD_FD, &e);
        lm_loader_stop();
        return e.code;
    }
    Suite *s = suite_create("crew");
    TCase *t = tcase_create("processes");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, sums_are_those_of_this_process);
    tcase_add_test(t, want_of_memory);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
