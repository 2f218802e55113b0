/* SPDX-License-Identifier: Apache-2.0 */
/* loader_check.h -- what a module must be before anything in it is used. */
#ifndef LM_LOADER_LOADER_CHECK_H
#define LM_LOADER_LOADER_CHECK_H
#include "loader/loader.h"

/* Checks a descriptor and copies it and its table, padded, into out.  Nothing
 * of it is read before it is known to be there: magic, major and size come
 * first.  name: of the file, without folder and suffix.  On failure out->ops
 * is NULL.                                                                   */
enum lm_status lm_module_check(const struct lm_module *from, const char *name,
                               struct lm_loaded *out, struct lm_err *e);
/* "quantizer", for messages; the pipeline key, "quantize"; the folder, "quant". */
const char *lm_kind_word(enum lm_kind k);
const char *lm_kind_key(enum lm_kind k);
const char *lm_kind_folder(enum lm_kind k);
#endif
