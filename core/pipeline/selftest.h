/* SPDX-License-Identifier: Apache-2.0 */
/* selftest.h -- does a plugin keep the contract of plugin.h?
 *
 * The checks call the plugin in this process, with broken memory, strange
 * problems and hostile texts, so a bad one may crash, hang or print: call this
 * in a process of its own and watch that (cli/cmd_selftest.c does).         */
#ifndef LM_PIPELINE_SELFTEST_H
#define LM_PIPELINE_SELFTEST_H
#include "base/err.h"
#include "loader/loader.h"

/* Told before each check: what it is about, and for how many seconds of
 * processor time it may run.                                                */
typedef void lm_selftest_note(void *ctx, const char *what, int seconds);

/* folder: an empty one, for files.  options: "key=value,...", or "".  LM_OK: all
 * checks hold.  LM_EFAILED: the text says which rule is broken.  LM_EUNAVAILABLE:
 * the plugin cannot be tested here, the text says why.  LM_ECONFIG: the options
 * are wrong.                                                          [main] */
enum lm_status lm_selftest(const struct lm_loaded *plugin, const char *options,
                           const char *folder, lm_selftest_note *note, void *ctx,
                           struct lm_err *e);
#endif
