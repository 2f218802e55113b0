/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_view.c -- the texts inside a sound database: metrics, architecture,
 * bounds, a metric of a finalist, the plan of a trial, with "%%" lines between. */
#include "fuzz.h"
#include "pipeline/view.h"

#include <unistd.h>

static void fill(struct lm_store *store, char **part, size_t n)
{
    static const char *const key[] = { "metrics", "arch", "bounds", "final/0/a.b" };
    struct lm_err e = { 0 };
    const struct lm_sum sum = { 1, 2 };
    const struct lm_measure measure[2] = { { "a.b", 1.5, 0.1, &sum, 1 },
                                           { "size.bytes", 7, 0, NULL, 0 } };
    const union lm_value value = { .integer = 3 };
    for (size_t i = 0; i < n && i < 4; i++)
        FUZZ_CHECK(lm_store_put(store, key[i], part[i], &e) == LM_OK);
    for (int64_t i = 0; i < 2; i++) {
        const struct lm_record r = { .id = i, .genome = 1, .plan = (uint64_t)i,
            .value = &value, .n_slot = 1, .plan_text = i > 0 && n > 4 ? part[4] : "",
            .reason = "", .fidelity = 1, .measure = measure, .n_measure = 2 };
        FUZZ_CHECK(lm_store_record(store, &r, &e) == LM_OK);
    }
}

static void look(struct lm_study *view)
{
    struct lm_trial t = { .struct_size = sizeof t };
    struct lm_err e = { 0 };
    for (int64_t i = 0; i < lm_view_n_trials(view); i++)
        FUZZ_CHECK(lm_view_trial(view, i, &t, &e) == LM_OK);
    for (int64_t i = 0; i < lm_view_n_metrics(view); i++)
        FUZZ_CHECK(lm_view_metric(view, i, NULL, NULL) != NULL);
    (void)lm_view_pick(view, LM_PICK_KNEE);
    (void)lm_view_pick(view, LM_PICK_SMALLEST);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = fuzz_text(data, n), *part[5], path[512];
    size_t parts = fuzz_parts(text, part, 5);
    struct lm_store *store;
    struct lm_study *view;
    struct lm_err e = { 0 };
    int64_t begun = fuzz_begin();
    snprintf(path, sizeof path, "%s", fuzz_path("study.db"));
    unlink(path);
    FUZZ_CHECK(lm_store_open(path, true, &store, &e) == LM_OK);
    fill(store, part, parts);
    enum lm_status s = lm_view_load(store, &view, &e);
    fuzz_status(s, &e);
    if (s == LM_OK) {
        look(view);
        lm_view_free(view);
    }
    lm_store_close(store);
    free(text);
    fuzz_end(begun);
    return 0;
}
