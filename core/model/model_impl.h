/* SPDX-License-Identifier: Apache-2.0 */
/* model_impl.h -- what is inside a model; for model.c and builder.c only.
 *
 * Tensors lie in slots: first the roles that a model has once, then those of
 * layer 0, of layer 1, ...  The order is that of enum lm_role and so does not
 * depend on the order in which a file names them.                             */
#ifndef LM_MODEL_MODEL_IMPL_H
#define LM_MODEL_MODEL_IMPL_H
#include <pthread.h>
#include <stdatomic.h>

#include "model/model.h"

enum {
    FIRST_LAYER_ROLE = LM_W_ATTN_NORM,
    N_GLOBAL_ROLES = FIRST_LAYER_ROLE - LM_W_EMBED,
    N_LAYER_ROLES = LM_N_ROLES - FIRST_LAYER_ROLE
};

struct slot {
    struct lm_tensor t;             /* data NULL: absent                       */
    char *name;                     /* in the file, for messages               */
    _Atomic(float *) floats;        /* decoded copy, or NULL                   */
    _Atomic bool finite;            /* floats used in place were looked at     */
    pthread_mutex_t lock;           /* held while it is decoded                */
};

struct lm_model {
    char *source;
    struct lm_arch arch;            /* family, name and layer are own copies   */
    struct slot *slot;              /* [n_slot]; NULL before the architecture  */
    size_t n_slot;
    struct lm_vocabulary *vocabulary;   /* a copy, or NULL                     */
    char *vocabulary_text;          /* bytes of all its tokens                 */
    struct lm_map *map;             /* files the tensors lie in                */
    size_t n_map, cap_map;
    void **kept;                    /* memory the tensors lie in               */
    size_t n_kept, cap_kept;
    pthread_mutex_t hash_lock;
    _Atomic bool hashed;
    _Atomic uint64_t hash;
};

/* The slot of a role, NULL if there can be none. */
struct slot *lm_model_slot(const struct lm_model *m, uint32_t role, int32_t layer);
/* "tensor 'model.norm.weight'" or "tensor down of layer 3" into out. */
void lm_slot_describe(const struct lm_model *m, const struct slot *s, char *out,
                      size_t n);
/* First value that is NaN or infinite: row and column; false: none.  buffer
 * holds `cols` floats.                                                        */
bool lm_tensor_bad(const struct lm_tensor *t, float *buffer, int64_t *row, int64_t *col);
#endif
