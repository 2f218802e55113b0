/* SPDX-License-Identifier: Apache-2.0 */
/* chat.h -- conversations as text, in the way of a model's chat template.
 *
 * Templates are programs (Jinja); none is run.  The family is recognised by the
 * marks in the template's text, and the conversation written by code of ours.  */
#ifndef LM_MODEL_CHAT_H
#define LM_MODEL_CHAT_H
#include "base/str.h"
#include "model/model.h"

enum lm_chat_family {
    LM_CHAT_CHATML = 1, LM_CHAT_LLAMA2, LM_CHAT_LLAMA3, LM_CHAT_MISTRAL
};

struct lm_chat {
    enum lm_chat_family family;
    const char *template;           /* borrowed from the model                 */
    struct { const char *s; int n; } bos, eos, preset;  /* texts; preset: the
                                       system message that stands for none     */
    int32_t end;                    /* id that ends a turn, or -1              */
    bool    puts_bos, thinks, dates;    /* of the template: begins with BOS;
                                       has <think>; dates the system message   */
};
struct lm_message { const char *role, *text; };    /* system, user, assistant */

/* LM_EINPUT: the model has no template, or none of a known family.  v (or
 * NULL) and a must outlive c.                                                 */
enum lm_status lm_chat_open(const struct lm_vocabulary *v, const struct lm_arch *a,
                            struct lm_chat *c, struct lm_err *e);
/* Appends the conversation; answer: up to where the assistant begins to speak.
 * LM_EINPUT: the family has no place for such a conversation.  The text's ids are
 * those of lm_tokenize with special, without another BOS.                [any] */
enum lm_status lm_chat_render(const struct lm_chat *c, const struct lm_message *m,
                              size_t n, bool answer, struct lm_str *out,
                              struct lm_err *e);
/* One JSON object: {"messages": [{"role", "content"}]} or {"instruction", "input",
 * "output"} (input may be missing).  where stands in front of what is wrong.   */
enum lm_status lm_chat_json(const struct lm_chat *c, const char *text, size_t n,
                            const char *where, struct lm_str *out, struct lm_err *e);
#endif
