/* SPDX-License-Identifier: Apache-2.0 */
/* engine_of_numbers.h -- plays the engine below core/study: a segment is a key, and
 * losses are sums over the keys of a network, so that each value is known.      */
#ifndef LM_TESTS_ENGINE_OF_NUMBERS_H
#define LM_TESTS_ENGINE_OF_NUMBERS_H
#include "study/evaluate.h"

struct lm_engine { int unused; };
struct lm_segment { struct lm_segment_spec spec; };
struct lm_model { struct lm_arch arch; };

enum { SEGMENTS = 4, LOG = 4096 };
extern struct lm_engine engine;
extern struct lm_model model;
extern struct lm_segment dense_segment[SEGMENTS];
extern bool streams;

/* What happened, in order. */
struct event { char what; size_t candidate; int64_t item; };
extern struct event events[LOG];
extern int n_event, decoders, runners;
void note(char what, size_t candidate, int64_t item);

/* Of the item that a window begins with. */
uint32_t precision_of(const int32_t *ids);
/* All keys of a network, later ones count more. */
double weight_of(const struct lm_network *net);
#endif
