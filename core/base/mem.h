/* SPDX-License-Identifier: Apache-2.0 */
/* mem.h -- all heap memory of the program goes through here.
 *
 * Blocks are zeroed and 64-byte aligned.  Tags name the owner in leak reports
 * of tests.  lm_fault_memory(k) makes the k-th allocation from now fail
 * (k = 1 the next), once; -k makes it and all later ones fail; 0 disarms.   */
#ifndef LM_BASE_MEM_H
#define LM_BASE_MEM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void  *lm_alloc(size_t n, const char *tag);         /* NULL when there is none */
void  *lm_alloc_array(size_t n, size_t size, const char *tag);  /* checks n*size */
void  *lm_resize(void *p, size_t n);                /* new part is not zeroed  */
void   lm_release(void *p);                         /* NULL is fine            */
char  *lm_strdup(const char *s, const char *tag);
int64_t lm_mem_blocks(void);                        /* live blocks             */
/* Shows every live block; see() must not allocate. */
void   lm_mem_each(void (*see)(void *ctx, const char *tag, size_t n), void *ctx);
void   lm_fault_memory(int64_t k);
bool   lm_fault_memory_fired(void);
/* false on overflow */
bool   lm_mul_size(size_t a, size_t b, size_t *out);
bool   lm_mul_i64(int64_t a, int64_t b, int64_t *out);
#endif
