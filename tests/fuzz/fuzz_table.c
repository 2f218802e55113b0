/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_table.c -- a table of latency, and predictions from what was read. */
#include <math.h>

#include "../plugins/evaluators/table.h"
#include "fuzz.h"
#include "pipeline/host.h"

/* Of each grid: its operator in shapes small and large. */
static void look_up(const struct table *t)
{
    static const int32_t width[] = { 1, 2, 7, 64, INT32_MAX };
    enum { N = sizeof width / sizeof *width };

    for (size_t i = 0; i < t->n; i++)
        for (int k = 0; k < N * N; k++) {
            const struct table_grid *g = &t->grid[i];
            struct lm_use u = { .struct_size = sizeof u, .code = g->code,
                .dtype = g->dtype, .flags = g->adds ? LM_OPF_ACC : 0, .again = g->again,
                .n = width[k / N], .k = width[k % N], .n_kv = width[k / N],
                .n_head = width[k % N], .head_dim = 1, .rows = g->rows, .pos = g->pos,
                .times = 1, .runs = 1 };
            struct lm_err e = { 0 };
            double s;
            enum lm_status st = table_seconds(t, &u, &s, &e);

            FUZZ_CHECK(st == LM_OK || (st == LM_EINFEASIBLE && *e.text));
            FUZZ_CHECK(st != LM_OK || (isfinite(s) && s >= 0));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct lm_err e = { 0 };
    struct table t;
    char *text = fuzz_text(data, n);
    int64_t begun = fuzz_begin();
    enum lm_status s = table_read(lm_host(), text, n, "table", &t, &e);

    fuzz_status(s, &e);
    if (s == LM_OK) {
        look_up(&t);
        table_free(&t);
    }
    free(text);
    fuzz_end(begun);
    return 0;
}
