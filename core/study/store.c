/* SPDX-License-Identifier: Apache-2.0 */
/* store.c -- a study in one SQLite database; nothing else knows SQLite.
 *
 * Durability.  WAL with synchronous = NORMAL: a commit is a write to the log
 * that the system owns from then on, so kill -9 loses nothing committed; a
 * power cut may lose the last trials but can't damage the file.
 *
 * The database is input like any other: application_id and user_version name
 * the kind and version of the file, the schema must be ours to the letter (a
 * foreign trigger or view is never run), quick_check must pass, and each
 * value's type and size is checked when it is read.
 *
 * Numbers in blobs are little-endian: genomes [n_slot] of 8 bytes, sums
 * [n_sum] of value and weight, 8 bytes each.  Hashes are stored as the signed
 * integers of the same bits.  NaN is NULL.                                   */
#include "study/store.h"

#include "base/file.h"
#include "base/mem.h"

#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

enum {
    APPLICATION = 0x4c414d53, SCHEMA_VERSION = 1,       /* "LAMS" */
    BUSY_MS = 5000,
    MAX_VALUE = 1 << 28                 /* bytes of one text or blob */
};

enum { PUT, GET, ADD_TRIAL, ADD_MEASURE, TRIAL, MEASURES, N_STATEMENTS };

static const char *const statement_text[N_STATEMENTS] = {
    [PUT] = "INSERT INTO fact(key, value) VALUES(?1, ?2) "
            "ON CONFLICT(key) DO UPDATE SET value = excluded.value",
    [GET] = "SELECT value FROM fact WHERE key = ?1",
    [ADD_TRIAL] = "INSERT INTO trial VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    [ADD_MEASURE] = "INSERT INTO measure VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [TRIAL] = "SELECT genome, plan, value, plan_text, reason, status, fidelity, seconds, "
              "(SELECT count(*) FROM measure WHERE trial = ?1) FROM trial WHERE id = ?1",
    [MEASURES] = "SELECT metric, value, error, sums FROM measure WHERE trial = ?1 "
                 "ORDER BY place"
};

/* In order of name, as verify_schema() reads them back. */
static const struct { const char *name, *sql; } schema[] = {
    { "fact", "CREATE TABLE fact(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)" },
    { "measure", "CREATE TABLE measure(trial INTEGER NOT NULL, place INTEGER NOT NULL, "
      "metric TEXT NOT NULL, value REAL, error REAL, sums BLOB NOT NULL, "
      "PRIMARY KEY(trial, place))" },
    { "trial", "CREATE TABLE trial(id INTEGER PRIMARY KEY, genome INTEGER NOT NULL, "
      "plan INTEGER NOT NULL, value BLOB NOT NULL, plan_text TEXT NOT NULL, "
      "reason TEXT NOT NULL, status INTEGER NOT NULL, fidelity REAL NOT NULL, "
      "seconds REAL NOT NULL)" },
    { "trial_plan", "CREATE INDEX trial_plan ON trial(plan)" },
};
enum { N_SCHEMA = sizeof schema / sizeof *schema };

struct held { struct held *next; double data[]; };  /* memory of the last trial read */

struct lm_store {
    sqlite3 *db;
    sqlite3_stmt *statement[N_STATEMENTS];
    struct held *held;
    int64_t count, settled;             /* trials; those before the open group */
    bool grouped;
    char *path;
};

/* ---- SQLite's memory through lm_alloc ----------------------------------------- */

/* SQLite asks for the size of a block, so each carries it in front. */
enum { PREFIX = 16 };

static void *mem_alloc(int n)
{
    unsigned char *p = n > 0 ? lm_alloc((size_t)n + PREFIX, "sqlite") : NULL;
    if (!p)
        return NULL;
    memcpy(p, &n, sizeof n);
    return p + PREFIX;
}

static void mem_free(void *p)
{
    if (p)
        lm_release((unsigned char *)p - PREFIX);
}

static void *mem_resize(void *p, int n)
{
    unsigned char *q = lm_resize((unsigned char *)p - PREFIX, (size_t)n + PREFIX);
    if (!q)
        return NULL;
    memcpy(q, &n, sizeof n);
    return q + PREFIX;
}

static int mem_size(void *p)
{
    int n = 0;
    if (p)
        memcpy(&n, (unsigned char *)p - PREFIX, sizeof n);
    return n;
}

static int mem_round(int n)
{
    return (n + 7) & ~7;
}

static int mem_init(void *ctx)
{
    (void)ctx;
    return SQLITE_OK;
}

static void mem_shutdown(void *ctx)
{
    (void)ctx;
}

static int n_open;          /* stores open: the library is started by the first
                               and shut down with the last, and leaves no block */

static int library_start(void)
{
    static const sqlite3_mem_methods methods = {
        mem_alloc, mem_free, mem_resize, mem_size, mem_round, mem_init, mem_shutdown, NULL
    };
    int rc = SQLITE_OK;
    if (n_open == 0 && ((rc = sqlite3_config(SQLITE_CONFIG_MALLOC, &methods)) ||
                        (rc = sqlite3_initialize())))
        sqlite3_shutdown();
    if (rc == SQLITE_OK)
        n_open++;
    return rc;
}

static void library_stop(void)
{
    if (--n_open == 0)
        sqlite3_shutdown();
}

/* ---- failures ------------------------------------------------------------------- */

static enum lm_status damaged(const struct lm_store *s, struct lm_err *e,
                              const char *what)
{
    return lm_fail(e, LM_EINPUT, "%s: the study is damaged: %s; restore it from a copy "
                   "or start a new run", s->path, what);
}

/* Turns a result code of SQLite into one of ours. */
static enum lm_status fail(const struct lm_store *s, int rc, struct lm_err *e,
                           const char *doing)
{
    const char *why = s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc);
    if (rc == SQLITE_IOERR_NOMEM)
        rc = SQLITE_NOMEM;
    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return lm_fail(e, LM_ENOMEM, "%s: out of memory while %s", s->path, doing);
    case SQLITE_FULL:
        return lm_fail(e, LM_EIO, "%s: the disk is full (%s); free some space and resume",
                       s->path, doing);
    case SQLITE_IOERR: case SQLITE_READONLY: case SQLITE_PERM: case SQLITE_CANTOPEN:
    case SQLITE_AUTH:
        return lm_fail(e, LM_EIO, "%s: %s failed: %s; check space and permissions of its "
                       "folder", s->path, doing, why);
    case SQLITE_NOTADB:
        return lm_fail(e, LM_EINPUT, "%s is not a study (no SQLite database)", s->path);
    case SQLITE_CORRUPT: case SQLITE_MISMATCH: case SQLITE_TOOBIG: case SQLITE_FORMAT:
        return damaged(s, e, why);
    case SQLITE_BUSY: case SQLITE_LOCKED:
        return lm_fail(e, LM_EFAILED, "%s: another process is writing this study; wait "
                       "for it or stop it", s->path);
    default:
        return lm_fail(e, LM_EFAILED, "%s: %s failed: %s", s->path, doing, why);
    }
}

/* ---- opening ---------------------------------------------------------------------- */

static enum lm_status run_sql(struct lm_store *s, const char *sql, struct lm_err *e,
                              const char *doing)
{
    int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? LM_OK : fail(s, rc, e, doing);
}

static enum lm_status read_int(struct lm_store *s, const char *sql, int64_t *out,
                               struct lm_err *e)
{
    sqlite3_stmt *q = NULL;
    enum lm_status st = LM_OK;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(q, 0);
    else
        st = fail(s, rc, e, "reading the study");
    sqlite3_finalize(q);
    return st;
}

/* Every object of the schema must be one of ours, word for word. */
static enum lm_status verify_schema(struct lm_store *s, struct lm_err *e)
{
    sqlite3_stmt *q = NULL;
    size_t i = 0;
    int rc = sqlite3_prepare_v2(s->db, "SELECT name, sql FROM sqlite_schema "
                                "WHERE sql IS NOT NULL ORDER BY name", -1, &q, NULL);

    if (rc == SQLITE_OK)
        while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
            const char *name = (const char *)sqlite3_column_text(q, 0);
            const char *sql = (const char *)sqlite3_column_text(q, 1);

            if (i == N_SCHEMA || !name || !sql || strcmp(name, schema[i].name) != 0
                || strcmp(sql, schema[i].sql) != 0)
                break;
            i++;
        }
    enum lm_status st = LM_OK;
    if (rc == SQLITE_ROW && sqlite3_errcode(s->db) == SQLITE_NOMEM)
        st = fail(s, SQLITE_NOMEM, e, "reading the study");
    else if (rc == SQLITE_ROW || (rc == SQLITE_DONE && i != N_SCHEMA))
        st = damaged(s, e, "its tables are not those of a study");
    else if (rc != SQLITE_DONE)
        st = fail(s, rc, e, "reading the study");
    sqlite3_finalize(q);
    return st;
}

static enum lm_status quick_check(struct lm_store *s, struct lm_err *e)
{
    int64_t sound = 0;
    enum lm_status st = read_int(s, "SELECT quick_check = 'ok' FROM "
                                 "pragma_quick_check(1)", &sound, e);

    return st != LM_OK || sound ? st : damaged(s, e, "its pages contradict each other");
}

static enum lm_status identify(struct lm_store *s, bool create, struct lm_err *e)
{
    int64_t application = 0, version = 0, objects = 0;
    if (read_int(s, "PRAGMA application_id", &application, e) != LM_OK
        || read_int(s, "PRAGMA user_version", &version, e) != LM_OK
        || read_int(s, "SELECT count(*) FROM sqlite_schema", &objects, e) != LM_OK)
        return e->code;
    bool blank = application == 0 && version == 0 && objects == 0;
    if (create)
        return blank ? LM_OK
            : lm_fail(e, LM_ECONFIG, "%s exists already; resume that run or choose "
                      "another folder", s->path);
    if (blank)
        return lm_fail(e, LM_EINPUT, "%s holds no study: its run was interrupted before "
                       "the start; run it anew", s->path);
    if (application != APPLICATION)
        return lm_fail(e, LM_EINPUT, "%s is not a study, but a database of another "
                       "program", s->path);
    if (version != SCHEMA_VERSION)
        return lm_fail(e, LM_EINPUT, "%s is a study of version %lld, this program reads "
                       "version %d; use the program that wrote it", s->path,
                       (long long)version, SCHEMA_VERSION);
    return LM_OK;
}

static enum lm_status make_schema(struct lm_store *s, struct lm_err *e)
{
    struct lm_str sql = { 0 };

    lm_str_add(&sql, "BEGIN IMMEDIATE;");
    for (size_t i = 0; i < N_SCHEMA; i++)
        lm_str_add(&sql, "%s;", schema[i].sql);
    lm_str_add(&sql, "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
               APPLICATION, SCHEMA_VERSION);
    enum lm_status st = sql.failed ? lm_fail_memory(e, sql.n, "the study's tables")
        : run_sql(s, sql.s, e, "creating the study");
    lm_str_free(&sql);
    return st;
}

/* Trials are numbered without gaps. */
static enum lm_status count_trials(struct lm_store *s, struct lm_err *e)
{
    int64_t bad = 0;
    if (read_int(s, "SELECT count(*) FROM trial", &s->count, e) != LM_OK
        || read_int(s, "SELECT count(*) FROM trial WHERE id < 0 "
                    "OR id >= (SELECT count(*) FROM trial)", &bad, e) != LM_OK)
        return e->code;
    return bad ? damaged(s, e, "trials are missing") : LM_OK;
}

static enum lm_status connect(struct lm_store *s, bool create, struct lm_err *e)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = sqlite3_open_v2(s->path, &s->db, create ? flags | SQLITE_OPEN_CREATE : flags,
                             NULL);

    if (rc != SQLITE_OK)
        return fail(s, rc, e, "opening the study");
    sqlite3_busy_timeout(s->db, BUSY_MS);
    sqlite3_limit(s->db, SQLITE_LIMIT_LENGTH, MAX_VALUE);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    enum lm_status st = identify(s, create, e);
    if (st == LM_OK)
        st = run_sql(s, "PRAGMA cell_size_check = 1; PRAGMA mmap_size = 0; "
                     "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL", e,
                     "opening the study");
    if (st == LM_OK)
        st = create ? make_schema(s, e) : verify_schema(s, e);
    if (st == LM_OK && !create)
        st = quick_check(s, e);
    for (int i = 0; st == LM_OK && i < N_STATEMENTS; i++) {
        rc = sqlite3_prepare_v3(s->db, statement_text[i], -1, SQLITE_PREPARE_PERSISTENT,
                                &s->statement[i], NULL);
        if (rc != SQLITE_OK)
            st = fail(s, rc, e, "opening the study");
    }
    return st == LM_OK ? count_trials(s, e) : st;
}

enum lm_status lm_store_open(const char *path, bool create, struct lm_store **out,
                             struct lm_err *e)
{
    char journal[4200];
    *out = NULL;
    snprintf(journal, sizeof journal, "%s-journal", path);
    if (!create && (!lm_file_exists(path) || lm_is_folder(path)))
        return lm_fail(e, LM_EINPUT, "%s: there is no study here", path);
    /* SQLite would obey a stranger's rollback journal, which can name any file to be
     * removed; a study has a log (WAL) instead. */
    if (!create && (lm_file_exists(journal) || lm_is_link(journal)))
        return lm_fail(e, LM_EINPUT, "%s: no study has such a file; remove it if you "
                       "trust the study", journal);
    struct lm_store *s = lm_alloc(sizeof *s, "store");
    if (!s)
        return lm_fail_memory(e, sizeof *s, "the study");
    s->path = lm_strdup(path, "store");
    if (!s->path || library_start() != SQLITE_OK) {
        lm_release(s->path);
        lm_release(s);
        return lm_fail_memory(e, 0, "the study");
    }
    enum lm_status st = connect(s, create, e);
    if (st != LM_OK) {
        lm_store_close(s);
        return st;
    }
    *out = s;
    return LM_OK;
}

static void drop_held(struct lm_store *s)
{
    while (s->held) {
        struct held *next = s->held->next;

        lm_release(s->held);
        s->held = next;
    }
}

void lm_store_close(struct lm_store *s)
{
    if (!s)
        return;
    drop_held(s);
    for (int i = 0; i < N_STATEMENTS; i++)
        sqlite3_finalize(s->statement[i]);
    sqlite3_close(s->db);
    library_stop();
    lm_release(s->path);
    lm_release(s);
}

enum lm_status lm_store_settle(struct lm_store *s, struct lm_err *e)
{
    int rc = sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL,
                                       NULL);
    return rc == SQLITE_OK ? LM_OK : fail(s, rc, e, "completing the study");
}

int64_t lm_store_count(struct lm_store *s)
{
    return s->count;
}

/* ---- facts ---------------------------------------------------------------------- */

static void finish(sqlite3_stmt *q)
{
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
}

static int bind_text(sqlite3_stmt *q, int i, const char *text)
{
    return sqlite3_bind_text64(q, i, text ? text : "", text ? strlen(text) : 0,
                               SQLITE_STATIC, SQLITE_UTF8);
}

enum lm_status lm_store_put(struct lm_store *s, const char *key, const char *value,
                            struct lm_err *e)
{
    sqlite3_stmt *q = s->statement[PUT];
    int rc = bind_text(q, 1, key);
    if (rc == SQLITE_OK)
        rc = bind_text(q, 2, value);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    enum lm_status st = rc == SQLITE_DONE ? LM_OK : fail(s, rc, e, "recording a fact");
    finish(q);
    return st;
}

enum lm_status lm_store_get(struct lm_store *s, const char *key, char **value,
                            struct lm_err *e)
{
    sqlite3_stmt *q = s->statement[GET];
    enum lm_status st = LM_OK;
    int rc = bind_text(q, 1, key);
    *value = NULL;
    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    if (rc == SQLITE_ROW && sqlite3_column_type(q, 0) != SQLITE_TEXT) {
        st = damaged(s, e, "a fact is no text");
    } else if (rc == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(q, 0);

        *value = text ? lm_strdup(text, "fact") : NULL;
        if (!*value)
            st = lm_fail_memory(e, 0, "a fact of the study");
    } else if (rc != SQLITE_DONE) {
        st = fail(s, rc, e, "reading a fact");
    }
    finish(q);
    return st;
}

/* ---- recording -------------------------------------------------------------------- */

/* Words of 8 bytes between memory and blobs, which are little-endian. */
static void swap_words(void *to, const void *from, size_t n)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    const uint16_t probe = 1;
    bool little = *(const unsigned char *)&probe == 1;

    for (size_t i = 0; i < n * 8; i++)
        t[i] = f[little ? i : (i & ~(size_t)7) + 7 - (i & 7)];
}

/* Hands a blob of n little-endian words to the statement, which releases it. */
static int bind_words(sqlite3_stmt *q, int i, const void *words, size_t n)
{
    void *blob;

    if (n == 0)
        return sqlite3_bind_zeroblob(q, i, 0);
    blob = n <= MAX_VALUE / 8 ? lm_alloc(n * 8, "blob") : NULL;
    if (!blob)
        return SQLITE_NOMEM;
    swap_words(blob, words, n);
    return sqlite3_bind_blob64(q, i, blob, n * 8, lm_release);
}

/* A bind fails for want of memory only: sizes are checked before. */
static int step_trial(sqlite3_stmt *q, const struct lm_record *r)
{
    bool bound = sqlite3_bind_int64(q, 1, r->id) == SQLITE_OK
        && sqlite3_bind_int64(q, 2, (int64_t)r->genome) == SQLITE_OK
        && sqlite3_bind_int64(q, 3, (int64_t)r->plan) == SQLITE_OK
        && bind_words(q, 4, r->value, r->n_slot) == SQLITE_OK
        && bind_text(q, 5, r->plan_text) == SQLITE_OK
        && bind_text(q, 6, r->reason) == SQLITE_OK
        && sqlite3_bind_int64(q, 7, r->status) == SQLITE_OK
        && sqlite3_bind_double(q, 8, r->fidelity) == SQLITE_OK
        && sqlite3_bind_double(q, 9, r->seconds) == SQLITE_OK;
    int rc = bound ? sqlite3_step(q) : SQLITE_NOMEM;
    finish(q);
    return rc;
}

static int step_measure(sqlite3_stmt *q, int64_t trial, size_t place,
                        const struct lm_measure *m)
{
    bool bound = sqlite3_bind_int64(q, 1, trial) == SQLITE_OK
        && sqlite3_bind_int64(q, 2, (int64_t)place) == SQLITE_OK
        && bind_text(q, 3, m->metric) == SQLITE_OK
        && sqlite3_bind_double(q, 4, m->value) == SQLITE_OK     /* NaN becomes NULL */
        && sqlite3_bind_double(q, 5, m->error) == SQLITE_OK
        && bind_words(q, 6, m->sum, m->n_sum * 2) == SQLITE_OK;
    int rc = bound ? sqlite3_step(q) : SQLITE_NOMEM;
    finish(q);
    return rc;
}

enum lm_status lm_store_begin(struct lm_store *s, struct lm_err *e)
{
    int rc = sqlite3_exec(s->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    s->settled = s->count;
    s->grouped = rc == SQLITE_OK;
    return s->grouped ? LM_OK : fail(s, rc, e, "recording a trial");
}

enum lm_status lm_store_end(struct lm_store *s, bool keep, struct lm_err *e)
{
    int rc = s->grouped && keep ? sqlite3_exec(s->db, "COMMIT", NULL, NULL,
                                               NULL) : SQLITE_OK;
    enum lm_status st = rc == SQLITE_OK ? LM_OK : fail(s, rc, e, "recording a trial");
    if (s->grouped && (!keep || st != LM_OK)) {
        if (!sqlite3_get_autocommit(s->db))
            sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
        s->count = s->settled;
    }
    s->grouped = false;
    return st;
}

enum lm_status lm_store_record(struct lm_store *s, const struct lm_record *r,
                               struct lm_err *e)
{
    bool alone = !s->grouped;
    enum lm_status st = LM_OK;
    if (r->id != s->count)
        return lm_fail(e, LM_EBUG, "%s: trial %lld recorded when %lld was due", s->path,
                       (long long)r->id, (long long)s->count);
    if (alone && (st = lm_store_begin(s, e)))
        return st;
    int rc = step_trial(s->statement[ADD_TRIAL], r);
    for (size_t i = 0; rc == SQLITE_DONE && i < r->n_measure; i++)
        rc = step_measure(s->statement[ADD_MEASURE], r->id, i, &r->measure[i]);
    if (rc == SQLITE_DONE) {
        s->count++;
        return alone ? lm_store_end(s, true, e) : LM_OK;
    }
    st = (rc & 0xff) == SQLITE_CONSTRAINT
        ? lm_fail(e, LM_EFAILED, "%s: trial %lld was recorded by another process; "
                  "only one run may work on a study", s->path, (long long)r->id)
        : fail(s, rc, e, "recording a trial");
    lm_store_end(s, false, NULL);
    return st;
}

/* ---- reading -------------------------------------------------------------------- */

/* n bytes that live until the next lm_store_trial(). */
static void *hold(struct lm_store *s, size_t n)
{
    struct held *h = lm_alloc(sizeof *h + n, "trial");

    if (!h)
        return NULL;
    h->next = s->held;
    s->held = h;
    return h->data;
}

static enum lm_status take_text(struct lm_store *s, sqlite3_stmt *q, int i,
                                const char **out, struct lm_err *e)
{
    if (sqlite3_column_type(q, i) != SQLITE_TEXT)
        return damaged(s, e, "a text of a trial is none");
    const char *text = (const char *)sqlite3_column_text(q, i);
    size_t n = (size_t)sqlite3_column_bytes(q, i);
    char *copy = text ? hold(s, n + 1) : NULL;
    if (!copy)
        return lm_fail_memory(e, n + 1, "a trial of the study");
    memcpy(copy, text, n);
    *out = copy;
    return LM_OK;
}

/* *n: words; each element of the result is `per` of them. */
static enum lm_status take_words(struct lm_store *s, sqlite3_stmt *q, int i, size_t per,
                                 void **out, size_t *n, struct lm_err *e)
{
    if (sqlite3_column_type(q, i) != SQLITE_BLOB)
        return damaged(s, e, "the numbers of a trial are none");
    size_t bytes = (size_t)sqlite3_column_bytes(q, i);
    if (bytes % (8 * per) != 0)
        return damaged(s, e, "the numbers of a trial are cut off");
    const void *blob = sqlite3_column_blob(q, i);
    void *to = (blob || !bytes) ? hold(s, bytes + 8) : NULL;
    if (!to)
        return lm_fail_memory(e, bytes + 8, "a trial of the study");
    swap_words(to, blob, bytes / 8);
    *out = to;
    *n = bytes / (8 * per);
    return LM_OK;
}

static enum lm_status take_real(struct lm_store *s, sqlite3_stmt *q, int i, double *out,
                                struct lm_err *e)
{
    int type = sqlite3_column_type(q, i);
    if (type != SQLITE_FLOAT && type != SQLITE_NULL)
        return damaged(s, e, "a number of a trial is none");
    *out = type == SQLITE_NULL ? NAN : sqlite3_column_double(q, i);
    return LM_OK;
}

static enum lm_status take_trial(struct lm_store *s, sqlite3_stmt *q,
                                 struct lm_record *out, struct lm_err *e)
{
    void *value = NULL;

    if (take_words(s, q, 2, 1, &value, &out->n_slot, e) != LM_OK
        || take_text(s, q, 3, &out->plan_text, e) != LM_OK
        || take_text(s, q, 4, &out->reason, e) != LM_OK
        || take_real(s, q, 6, &out->fidelity, e) != LM_OK
        || take_real(s, q, 7, &out->seconds, e) != LM_OK)
        return e->code;
    if (sqlite3_column_type(q, 0) != SQLITE_INTEGER
        || sqlite3_column_type(q, 1) != SQLITE_INTEGER)
        return damaged(s, e, "a hash of a trial is none");
    int64_t status = sqlite3_column_int64(q, 5);
    if (status != LM_OK && status != LM_EINFEASIBLE)
        return damaged(s, e, "the status of a trial is none");
    if (!(out->fidelity > 0 && out->fidelity <= 1))
        return damaged(s, e, "the fidelity of a trial is not in (0, 1]");
    out->value = value;
    out->genome = (uint64_t)sqlite3_column_int64(q, 0);
    out->plan = (uint64_t)sqlite3_column_int64(q, 1);
    out->status = (uint32_t)status;
    out->n_measure = (size_t)sqlite3_column_int64(q, 8);
    return LM_OK;
}

static enum lm_status take_measures(struct lm_store *s, struct lm_record *out,
                                    struct lm_err *e)
{
    sqlite3_stmt *q = s->statement[MEASURES];
    struct lm_measure *m;
    enum lm_status st = LM_OK;
    size_t n = 0, bytes;
    int rc;
    if (!lm_mul_size(out->n_measure + 1, sizeof *m, &bytes) || !(m = hold(s, bytes)))
        return lm_fail_memory(e, 0, "a trial of the study");
    sqlite3_bind_int64(q, 1, out->id);
    while (st == LM_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        void *sum = NULL;

        if (n == out->n_measure) {
            st = damaged(s, e, "a trial changed while it was read");
            break;
        }
        if (take_text(s, q, 0, &m[n].metric, e) != LM_OK
            || take_real(s, q, 1, &m[n].value, e) != LM_OK
            || take_real(s, q, 2, &m[n].error, e) != LM_OK
            || take_words(s, q, 3, 2, &sum, &m[n].n_sum, e) != LM_OK)
            st = e->code;
        m[n++].sum = sum;
    }
    if (st == LM_OK && rc != SQLITE_DONE)
        st = fail(s, rc, e, "reading a trial");
    finish(q);
    out->measure = m;
    out->n_measure = n;
    return st;
}

enum lm_status lm_store_trial(struct lm_store *s, int64_t id, struct lm_record *out,
                              struct lm_err *e)
{
    sqlite3_stmt *q = s->statement[TRIAL];
    enum lm_status st;

    drop_held(s);
    memset(out, 0, sizeof *out);
    if (id < 0 || id >= s->count)
        return lm_fail(e, LM_EUNAVAILABLE, "%s: there is no trial %lld, only 0 to %lld",
                       s->path, (long long)id, (long long)s->count - 1);
    out->id = id;
    sqlite3_bind_int64(q, 1, id);
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        st = take_trial(s, q, out, e);
    else if (rc == SQLITE_DONE)
        st = damaged(s, e, "a trial is missing");
    else
        st = fail(s, rc, e, "reading a trial");
    finish(q);
    if (st == LM_OK)
        st = take_measures(s, out, e);
    if (st != LM_OK)
        memset(out, 0, sizeof *out);
    return st;
}
