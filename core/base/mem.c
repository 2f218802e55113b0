/* SPDX-License-Identifier: Apache-2.0 */
/* mem.c -- the one place that calls malloc.
 *
 * A block is [raw ... | header | user bytes], user bytes at a multiple of 64
 * (a cache line, and the widest vector).  calloc gives the zeroes, because for
 * large blocks it gets untouched pages and writes nothing.  Live blocks form a
 * list, so that a test can say by tag what leaked; blocks are large and few
 * (json.c, which wants many small ones, takes them from chunks).            */
#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN 64
#define MAX_BLOCK ((size_t)PTRDIFF_MAX - 4 * ALIGN)

struct header {
    void *raw;                          /* what malloc returned              */
    size_t size;
    const char *tag;
    struct header *prev, *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct header *live;             /* under lock, as their number        */
static int64_t blocks;

static atomic_int_least64_t fault_in;
static atomic_bool fault_fired;

_Static_assert(sizeof(struct header) <= ALIGN, "a header fits before a block");

static struct header *header_of(void *p)
{
    return (struct header *)(void *)((char *)p - sizeof(struct header));
}

/* Offset of the user bytes in a raw block, leaving room for the header. */
static size_t offset_in(const void *raw)
{
    uintptr_t at = (uintptr_t)raw + sizeof(struct header);
    return (size_t)((at + ALIGN - 1) / ALIGN * ALIGN - (uintptr_t)raw);
}

static void enter(struct header *h)
{
    pthread_mutex_lock(&lock);
    h->prev = NULL;
    h->next = live;
    if (live != NULL)
        live->prev = h;
    live = h;
    blocks++;
    pthread_mutex_unlock(&lock);
}

static void leave(struct header *h)
{
    pthread_mutex_lock(&lock);
    if (h->prev != NULL)
        h->prev->next = h->next;
    else
        live = h->next;
    if (h->next != NULL)
        h->next->prev = h->prev;
    blocks--;
    pthread_mutex_unlock(&lock);
}

/* Counts down to the failing allocation.  Positive counts fire once; negative
 * ones reach -1 and stay there. */
static bool fault(void)
{
    int64_t k = atomic_load(&fault_in), next;
    do {
        if (k == 0)
            return false;
        next = k > 0 ? k - 1 : k < -1 ? k + 1 : -1;
    } while (!atomic_compare_exchange_weak(&fault_in, &k, next));
    if (k != 1 && k != -1)
        return false;
    atomic_store(&fault_fired, true);
    return true;
}

void *lm_alloc(size_t n, const char *tag)
{
    if (n > MAX_BLOCK || fault())
        return NULL;
    void *raw = calloc(1, n + sizeof(struct header) + ALIGN);
    if (raw == NULL)
        return NULL;
    void *p = (char *)raw + offset_in(raw);
    struct header *h = header_of(p);
    h->raw = raw;
    h->size = n;
    h->tag = tag != NULL ? tag : "?";
    enter(h);
    return p;
}

void *lm_alloc_array(size_t n, size_t size, const char *tag)
{
    size_t bytes;
    return lm_mul_size(n, size, &bytes) ? lm_alloc(bytes, tag) : NULL;
}

void *lm_resize(void *p, size_t n)
{
    if (p == NULL)
        return lm_alloc(n, "resize");
    if (n > MAX_BLOCK || fault())
        return NULL;
    struct header *h = header_of(p), kept = *h;
    size_t before = offset_in(kept.raw);
    leave(h);
    void *raw = realloc(kept.raw, n + sizeof(struct header) + ALIGN);
    if (raw == NULL) {
        enter(h);
        return NULL;
    }
    /* The new place may be aligned differently. */
    size_t after = offset_in(raw);
    void *q = (char *)raw + after;
    if (after != before)
        memmove(q, (char *)raw + before, n < kept.size ? n : kept.size);
    h = header_of(q);
    h->raw = raw;
    h->size = n;
    h->tag = kept.tag;
    enter(h);
    return q;
}

void lm_release(void *p)
{
    if (p == NULL)
        return;
    struct header *h = header_of(p);
    leave(h);
    free(h->raw);
}

char *lm_strdup(const char *s, const char *tag)
{
    size_t n = strlen(s) + 1;
    char *copy = lm_alloc(n, tag);
    if (copy != NULL)
        memcpy(copy, s, n);
    return copy;
}

int64_t lm_mem_blocks(void)
{
    pthread_mutex_lock(&lock);
    int64_t n = blocks;
    pthread_mutex_unlock(&lock);
    return n;
}

void lm_mem_each(void (*see)(void *ctx, const char *tag, size_t n), void *ctx)
{
    pthread_mutex_lock(&lock);
    for (const struct header *h = live; h != NULL; h = h->next)
        see(ctx, h->tag, h->size);
    pthread_mutex_unlock(&lock);
}

void lm_fault_memory(int64_t k)
{
    atomic_store(&fault_fired, false);
    atomic_store(&fault_in, k);
}

bool lm_fault_memory_fired(void)
{
    return atomic_load(&fault_fired);
}

bool lm_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool lm_mul_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
