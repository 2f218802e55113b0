/* SPDX-License-Identifier: Apache-2.0 */
/* round.h -- proposals made a round at a time and handed out as the host asks, so that
 * what a strategy does depends on its rounds alone, not on how many proposals the host
 * takes at a time.  No genome is proposed twice.                                */
#ifndef ROUND_H
#define ROUND_H
#include "genes.h"

struct round {
    struct genes *g;
    union lm_value *queue;              /* [size][n_slot]                       */
    size_t  size, n, next, started;     /* started: of the problem's start      */
    int64_t budget, asked;              /* in all                               */
    bool    exhausted;                  /* a round stayed empty                 */
};

/* Behind genes_open(); size: the most proposals of a round. */
enum lm_status round_open(struct round *r, struct genes *g, size_t size, int64_t budget,
                          struct lm_err *e);
void round_close(struct round *r);
/* false: the round is full, or the genome was proposed before. */
bool round_add(struct round *r, const union lm_value *genome);
/* Room for a genome in the making; what is below uses it, too. */
union lm_value *round_spare(struct round *r);
/* As many of the problem's start genomes as have not had their turn and fit, or the
 * uncompressed genome where there are none; false: all have had it.             */
bool round_add_starts(struct round *r);
/* What make() gives, up to `until`, or until `tries` in a row bring nothing new: false, or
 * a genome that was proposed before.  child [n_slot] holds anything.            */
enum { ROUND_CHILDREN = 100, ROUND_DRAWS = 1000 };  /* tries: of children; at random */
typedef bool round_child(void *ctx, union lm_value *child);
void round_add_made(struct round *r, size_t until, int tries, round_child *make,
                    void *ctx);
/* Random genomes up to `until`, or until ROUND_DRAWS in a row bring nothing new. */
void round_add_random(struct round *r, size_t until);

/* Makes a round by round_add(), once all of the last one were told. */
typedef enum lm_status round_fill(void *ctx, struct lm_err *e);
/* lm_search.ask and .budget; all: what is left before round_open(). */
enum lm_status round_ask(struct round *r, round_fill *fill, void *ctx,
                         struct lm_proposal *out, size_t max, size_t *n,
                         struct lm_err *e);
size_t round_left(const struct round *r, size_t all);
#endif
