/* SPDX-License-Identifier: Apache-2.0 */
/* json.c -- reading JSON through jansson, which only this file knows.
 *
 * A document lives in an arena: jansson's many small allocations are cut from
 * chunks of lm_alloc, its free does nothing, and close drops the chunks.  That
 * is fast (a tokenizer has 200,000 nodes), and puts jansson under the memory
 * limit and the fault injection of mem.c.  A struct lm_json is a json_t; the
 * arena of a document is found by its root in the list of open documents.    */
#include "base/json.h"

#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"

enum { MAX_DEPTH = 200, FIRST_CHUNK = 1 << 14, LAST_CHUNK = 1 << 22 };
enum { FLAGS = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY };
#define MAX_TEXT ((size_t)256 << 20)

struct chunk { struct chunk *next; };

struct arena {
    struct chunk *chunks;
    char  *at;                          /* free part of the newest chunk     */
    size_t left, grow;                  /* its bytes; size of the next chunk */
    bool   failed;
    json_t *root;
    struct arena *next;                 /* open documents                    */
};

/* Place in an object that member() walks; see there. */
struct cursor { const json_t *object; void *iter; size_t i; uint64_t epoch; };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct arena *documents;                     /* under lock            */
static atomic_uint_least64_t epoch;                 /* documents closed      */
static _Thread_local struct arena *filling;         /* by jansson, just now  */
static _Thread_local struct cursor cursor;

/* ---- memory --------------------------------------------------------------- */

static void *arena_alloc(size_t n)
{
    struct arena *a = filling;
    const size_t head = 64;             /* keeps chunk contents aligned      */
    if (a == NULL || n > MAX_TEXT * 8)
        return NULL;
    n = (n + 15) / 16 * 16;
    if (n > a->left) {
        size_t size = n > a->grow / 4 ? n : a->grow;
        struct chunk *c = lm_alloc(head + size, "JSON document");
        if (c == NULL) {
            a->failed = true;
            return NULL;
        }
        c->next = a->chunks;
        a->chunks = c;
        if (size == n)                  /* a chunk of its own */
            return (char *)c + head;
        a->at = (char *)c + head;
        a->left = size;
        if (a->grow < LAST_CHUNK)
            a->grow *= 2;
    }
    void *p = a->at;
    a->at += n;
    a->left -= n;
    return p;
}

static void arena_free(void *p)
{
    (void)p;
}

static void arena_drop(struct arena *a)
{
    for (struct chunk *c = a->chunks, *next; c != NULL; c = next) {
        next = c->next;
        lm_release(c);
    }
    lm_release(a);
}

static void hook(void)
{
    json_set_alloc_funcs(arena_alloc, arena_free);
}

/* ---- parsing -------------------------------------------------------------- */

/* jansson allows a nesting of 2048.  Brackets outside strings are counted; in
 * text that is no JSON the count means nothing, but then parsing fails.      */
static enum lm_status check_depth(const char *text, size_t n, const char *what,
                                  struct lm_err *e)
{
    int depth = 0, line = 1;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        line += c == '\n';
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '[' || c == '{'))
            depth++;
        else if (!quoted && (c == ']' || c == '}'))
            depth--;
        if (depth > MAX_DEPTH)
            return lm_fail(e, LM_EINPUT, "%s: line %d: nested deeper than %d levels",
                           what, line, MAX_DEPTH);
    }
    return LM_OK;
}

static enum lm_status parse(const char *text, size_t n, const char *what,
                            struct lm_json **root, struct lm_err *e)
{
    json_error_t error;
    *root = NULL;
    if (n > MAX_TEXT)
        return lm_fail(e, LM_EINPUT, "%s: JSON text of %zu MiB is too long (at most "
                       "%zu)", what, n >> 20, MAX_TEXT >> 20);
    enum lm_status s = check_depth(text, n, what, e);
    if (s != LM_OK)
        return s;
    pthread_once(&once, hook);
    struct arena *a = lm_alloc(sizeof *a, "JSON document");
    if (a == NULL)
        return lm_fail_memory(e, sizeof *a, what);
    a->grow = FIRST_CHUNK;
    filling = a;
    a->root = json_loadb(text, n, FLAGS, &error);
    /* model_max_length of some tokenizers has 31 digits: then all numbers are reals */
    if (!a->root && !a->failed && json_error_code(&error) == json_error_numeric_overflow)
        a->root = json_loadb(text, n, FLAGS | JSON_DECODE_INT_AS_REAL, &error);
    filling = NULL;
    if (a->failed)
        s = lm_fail(e, LM_ENOMEM, "%s: out of memory while reading JSON", what);
    else if (a->root == NULL)
        s = lm_fail(e, LM_EINPUT, "%s: line %d: %s", what,
                    error.line > 0 ? error.line : 1, error.text);
    if (s != LM_OK) {
        arena_drop(a);
        return s;
    }
    pthread_mutex_lock(&lock);
    a->next = documents;
    documents = a;
    pthread_mutex_unlock(&lock);
    *root = (struct lm_json *)a->root;
    return LM_OK;
}

static void close_document(struct lm_json *root)
{
    if (root == NULL)
        return;
    pthread_mutex_lock(&lock);
    struct arena **at = &documents;
    while (*at != NULL && (*at)->root != (json_t *)root)
        at = &(*at)->next;
    struct arena *a = *at;
    if (a != NULL)
        *at = a->next;
    pthread_mutex_unlock(&lock);
    if (a == NULL)
        return;
    atomic_fetch_add(&epoch, 1);
    arena_drop(a);
}

/* ---- the tree --------------------------------------------------------------- */

static json_t *node_of(const struct lm_json *j)
{
    return (json_t *)(uintptr_t)j;
}

static const struct lm_json *get(const struct lm_json *object, const char *key)
{
    return (const struct lm_json *)json_object_get(node_of(object), key);
}

static const struct lm_json *at(const struct lm_json *array, size_t i)
{
    return (const struct lm_json *)json_array_get(node_of(array), i);
}

static size_t size(const struct lm_json *j)
{
    const json_t *n = node_of(j);
    return json_is_array(n) ? json_array_size(n) : json_object_size(n);
}

/* jansson iterates in the order of the file, forwards only.  The place of the
 * last call is kept, so that walking an object by index is linear; a closed
 * document makes kept places invalid, as its address may be used again.      */
static const struct lm_json *member(const struct lm_json *object, size_t i,
                                    const char **key)
{
    json_t *o = node_of(object);
    struct cursor c = cursor;
    uint64_t now = atomic_load(&epoch);
    *key = NULL;
    if (!json_is_object(o) || i >= json_object_size(o))
        return NULL;
    if (c.object != o || c.epoch != now || c.iter == NULL || c.i > i)
        c = (struct cursor){ o, json_object_iter(o), 0, now };
    for (; c.i < i && c.iter != NULL; c.i++)
        c.iter = json_object_iter_next(o, c.iter);
    cursor = c;
    if (c.iter == NULL)
        return NULL;
    *key = json_object_iter_key(c.iter);
    return (const struct lm_json *)json_object_iter_value(c.iter);
}

static char type(const struct lm_json *j)
{
    if (j == NULL)
        return 0;
    switch (json_typeof(node_of(j))) {
    case JSON_OBJECT:  return 'o';
    case JSON_ARRAY:   return 'a';
    case JSON_STRING:  return 's';
    case JSON_INTEGER: return 'i';
    case JSON_REAL:    return 'r';
    case JSON_TRUE:
    case JSON_FALSE:   return 'b';
    case JSON_NULL:    return 'n';
    }
    return 0;
}

static const char *string(const struct lm_json *j)
{
    return json_string_value(node_of(j));
}

static bool integer(const struct lm_json *j, int64_t *out)
{
    if (type(j) == 'i') {
        *out = (int64_t)json_integer_value(node_of(j));
        return true;
    }
    /* A whole number written as a real ("2048.0"), where that is exact. */
    double r = type(j) == 'r' ? json_real_value(node_of(j)) : 0.5;
    if (!(fabs(r) < 0x1p53) || r != rint(r))
        return false;
    *out = (int64_t)r;
    return true;
}

static bool real(const struct lm_json *j, double *out)
{
    if (type(j) != 'i' && type(j) != 'r')
        return false;
    *out = json_number_value(node_of(j));
    return true;
}

static bool boolean(const struct lm_json *j, bool *out)
{
    if (type(j) != 'b')
        return false;
    *out = json_is_true(node_of(j));
    return true;
}

const struct lm_json_api lm_json_api = {
    .struct_size = sizeof lm_json_api,
    .parse = parse, .close = close_document, .get = get, .at = at, .size = size,
    .member = member, .type = type, .string = string, .integer = integer, .real = real,
    .boolean = boolean,
};
