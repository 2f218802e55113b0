/* SPDX-License-Identifier: Apache-2.0 */
/* knapsack.h -- the multiple-choice knapsack problem of the plugin lagrangian:
 * from each class take exactly one level, so that the sum of losses is least
 * and the sum of sizes at most a capacity.  Losses and sizes may be negative. */
#ifndef KNAPSACK_H
#define KNAPSACK_H
#include "plugin.h"

struct knapsack_class {
    const double *loss, *size;          /* [n], finite where allowed            */
    const bool   *allowed;              /* [n], at least one                    */
    uint32_t n;
};
struct knapsack;

/* Solves for every capacity up to `limit` at once.  cls must live until close. */
enum lm_status knapsack_open(const struct lm_host *h, const struct knapsack_class *cls,
                             size_t n, double limit, struct knapsack **out,
                             struct lm_err *e);
void knapsack_close(struct knapsack *k);
/* The least sum of sizes there is. */
double knapsack_smallest(const struct knapsack *k);
/* level[n] of the best choice within capacity; false: nothing is so small. */
bool knapsack_pick(const struct knapsack *k, double capacity, uint16_t *level);
/* level[n] of the smallest choice. */
void knapsack_pick_smallest(const struct knapsack *k, uint16_t *level);
#endif
