/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_study.c -- a study's database as a file: opened, viewed, picked from. */
#include "fuzz.h"
#include "pipeline/view.h"

#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct lm_store *store;
    struct lm_study *view;
    struct lm_err e = { 0 };
    int64_t begun = fuzz_begin();
    unlink(fuzz_path("study.db-wal"));
    unlink(fuzz_path("study.db-shm"));
    enum lm_status s = lm_store_open(fuzz_file("study.db", data, n), false, &store, &e);
    fuzz_status(s, &e);
    if (s == LM_OK) {
        s = lm_view_load(store, &view, &e);
        fuzz_status(s, &e);
        if (s == LM_OK) {
            (void)lm_view_pick(view, LM_PICK_KNEE);
            (void)lm_view_pick(view, LM_PICK_SMALLEST);
            (void)lm_view_text(view, "protocol:kl.nats");
            lm_view_free(view);
        }
        lm_store_close(store);
    }
    fuzz_end(begun);
    return 0;
}
