/* SPDX-License-Identifier: Apache-2.0 */
/* child.h -- a process of our own over a socket pair, and framed messages on it.
 *
 * A message is a head of 16 bytes and a body: magic and kind (32 bits each), then
 * the number of bytes of the body (64 bits), all in this machine's byte order: both
 * ends are the same program.  A head that is not one, or a body of more than
 * LM_FRAME_MOST bytes, is refused before anything is kept of it.            */
#ifndef LM_BASE_CHILD_H
#define LM_BASE_CHILD_H
#include "base/err.h"
#include "base/str.h"

enum { LM_CHILD_FD = 3 };               /* the child's end of the pair */
#define LM_FRAME_MOST ((size_t)1 << 28)

struct lm_child { int pid, fd; };       /* pid 0: none; fd: this end, does not block */
/* Starts argv in a process group of its own; its standard input and output are
 * /dev/null, its standard error is that of this process.             [main] */
enum lm_status lm_child_start(const char *const *argv, struct lm_child *c,
                              struct lm_err *e);
/* Ends it with its group and waits for it.  patience: seconds that it gets to end by
 * itself first, once the pair is closed.  how: "killed by signal 11 (SIGSEGV)",
 * "ended with status 3".                                              [main] */
void lm_child_end(struct lm_child *c, double patience, char how[64]);

/* What came and was not taken yet; zero-initialised is empty. */
struct lm_frames { struct lm_str in; size_t at; };
/* All that is there to be read; where the descriptor blocks, it waits for something to
 * be there.  *open: more may come.  LM_EIO: it cannot be read; LM_EINPUT: what
 * came is no message.                                                        */
enum lm_status lm_frames_read(struct lm_frames *f, int fd, bool *open, struct lm_err *e);
/* The next whole message; valid until the next read.  false: there is none. */
bool lm_frames_next(struct lm_frames *f, uint32_t *kind, const void **body, size_t *n);
void lm_frames_free(struct lm_frames *f);
/* A message in `out`: begin, append the body, end with what begin returned. */
size_t lm_frame_begin(struct lm_str *out, uint32_t kind);
void lm_frame_end(struct lm_str *out, size_t begun);
/* Writes from t->s + *at on; *at == t->n: all of it.  A descriptor that does not block
 * takes what it has room for.  LM_EIO: nobody reads any more.               */
enum lm_status lm_frame_write(int fd, const struct lm_str *t, size_t *at,
                              struct lm_err *e);
#endif
