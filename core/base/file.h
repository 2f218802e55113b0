/* SPDX-License-Identifier: Apache-2.0 */
/* file.h -- all file access of the program goes through here.
 *
 * lm_fault_file(k) makes the k-th operation from now fail with EIO (as
 * lm_fault_memory does for memory).  Errors name the path and the reason:
 * missing or unreadable input is LM_EINPUT, failed output LM_EIO.           */
#ifndef LM_BASE_FILE_H
#define LM_BASE_FILE_H
#include "base/err.h"

struct lm_map { const void *data; size_t n; };      /* read-only mapping */
enum lm_status lm_map_open(struct lm_map *m, const char *path, struct lm_err *e);
void lm_map_close(struct lm_map *m);

/* Whole file, NUL-terminated behind n bytes; lm_release() it. */
enum lm_status lm_read_file(const char *path, size_t limit, char **text, size_t *n,
                            struct lm_err *e);

/* A file that appears under its name only by commit (temporary, fsync,
 * rename); abandon removes the temporary.  Both free o.  A failed write or
 * commit leaves the old file as it was; commit frees o in any case.         */
struct lm_out;
enum lm_status lm_out_open(const char *path, struct lm_out **o, struct lm_err *e);
enum lm_status lm_out_write(struct lm_out *o, const void *p, size_t n, struct lm_err *e);
enum lm_status lm_out_commit(struct lm_out *o, struct lm_err *e);
void lm_out_abandon(struct lm_out *o);
enum lm_status lm_write_file(const char *path, const void *p, size_t n, struct lm_err *e);
/* Renames a file that is complete on disk, in place of `to`; both in one folder. */
enum lm_status lm_move_file(const char *from, const char *to, struct lm_err *e);

/* A file of n bytes mapped read-write (statistics).  Created as a temporary
 * beside path; commit renames it and leaves it mapped read-only in m.       */
enum lm_status lm_map_create(const char *path, size_t n, void **data, struct lm_err *e);
enum lm_status lm_map_commit(const char *path, void *data, size_t n, struct lm_map *m,
                             struct lm_err *e);
void lm_map_abandon(void *data, size_t n);

/* n zeroed bytes of a file in the folder that has no name and goes away with the
 * process: memory that the system may write out.  Its space is reserved, so that a
 * full disk is an error now (LM_EIO) and no fault later.                      [any] */
enum lm_status lm_scratch_open(const char *folder, size_t n, void **data,
                               struct lm_err *e);
void lm_scratch_close(void *data, size_t n);            /* NULL is fine */

bool lm_file_exists(const char *path);
bool lm_is_folder(const char *path);
bool lm_is_link(const char *path);                  /* a symbolic link, not followed */
bool lm_same_file(const char *a, const char *b);    /* by whatever names */
int64_t lm_file_size(const char *path);             /* -1 */
int64_t lm_disk_free(const char *path);             /* -1 */
enum lm_status lm_make_folder(const char *path, struct lm_err *e);  /* and parents */
bool lm_folder_is_empty(const char *path);          /* false: no folder */
enum lm_status lm_remove_file(const char *path, struct lm_err *e);
/* With the files in it; one that holds folders is left alone (LM_ECONFIG). */
enum lm_status lm_remove_folder(const char *path, struct lm_err *e);
/* Renames a complete folder; `to` may be a folder of files, which is set aside as
 * FROM.old and removed when the new one is in its place.                      */
enum lm_status lm_move_folder(const char *from, const char *to, struct lm_err *e);
/* A file, or a folder with all that is in it; links are not followed.  What is
 * not there is removed already.                                             */
enum lm_status lm_remove_tree(const char *path, struct lm_err *e);
/* Names in a folder, sorted; lm_free_names frees each and the array. */
enum lm_status lm_list_folder(const char *path, char ***names, size_t *n,
                              struct lm_err *e);
void lm_free_names(char **names, size_t n);
/* Of all files in a folder and the folders in it; links are not followed.  On
 * failure *bytes is of those that were seen.                                */
enum lm_status lm_folder_bytes(const char *path, int64_t *bytes, struct lm_err *e);
/* "DIR/NAME" into out of size n; false if it does not fit. */
bool lm_path_join(char *out, size_t n, const char *folder, const char *name);
/* $XDG_CACHE_HOME/lamina or ~/.cache/lamina; not created. */
enum lm_status lm_cache_folder(char *out, size_t n, struct lm_err *e);
void lm_fault_file(int64_t k);
bool lm_fault_file_fired(void);
/* For this layer: counts an operation; true (errno = EIO): it fails. */
bool lm_file_fault(void);
#endif
