/* SPDX-License-Identifier: Apache-2.0 */
/* chat.c -- see chat.h.
 *
 * ChatML (SmolLM2, Qwen2, Qwen3): <|im_start|>ROLE, a line break, the text,
 *   <|im_end|>, a line break.  A conversation without system message gets the one
 *   that the template holds, if it holds one.  Qwen3 keeps what the assistant
 *   thought only behind the last question.
 * Llama 3: <|start_header_id|>ROLE<|end_header_id|>, an empty line, the text,
 *   <|eot_id|>.  Since 3.1 a system message with dates begins every conversation;
 *   the day is the one that the template has for programs without a clock, so that
 *   the same conversation is the same text tomorrow.
 * Llama 2 and Mistral: [INST] question [/INST] answer, EOS; turns alternate.  Where
 *   spaces stand differs between Mistral's versions and is read off the template.  */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "model/chat.h"

enum { MAX_MESSAGES = 4096 };

static bool has(const struct lm_chat *c, const char *mark)
{
    return strstr(c->template, mark) != NULL;
}

/* What stands between `from` and `to` in the template's own quoted text. */
static void preset(struct lm_chat *c, const char *from, const char *to)
{
    for (const char *p = c->template; (p = strstr(p, from)); ) {
        p += strlen(from);
        p += *p == '\n' ? 1 : p[0] == '\\' && p[1] == 'n' ? 2 : 0;
        const char *end = strstr(p, to);
        size_t n = end ? (size_t)(end - p) : 0;
        if (n && n < 4096 && strcspn(p, "'\"{}\\") >= n) {
            c->preset.s = p;
            c->preset.n = (int)n;
            return;
        }
    }
}

static void token_text(const struct lm_vocabulary *v, int32_t id, const char **s, int *n)
{
    bool known = id >= 0 && (size_t)id < v->n_token && v->token[id].length < 4096;
    *s = known ? v->token[id].text : "";
    *n = known ? (int)v->token[id].length : 0;
}

static int32_t token_named(const struct lm_vocabulary *v, const char *text)
{
    size_t n = text ? strlen(text) : 0;
    for (size_t i = 0; n && i < v->n_token; i++)
        if (v->token[i].length == n && !memcmp(v->token[i].text, text, n))
            return (int32_t)i;
    return -1;
}

enum lm_status lm_chat_open(const struct lm_vocabulary *v, const struct lm_arch *a,
                            struct lm_chat *c, struct lm_err *e)
{
    const char *end = NULL;
    *c = (struct lm_chat){ .template = v ? v->chat_template : NULL };
    if (!c->template)
        return lm_fail(e, LM_EINPUT, "the model has no %s", v ? "chat template"
                                                                   : "tokenizer");
    if (has(c, "<|im_start|>") && has(c, "<|im_end|>")) {
        c->family = LM_CHAT_CHATML;
        end = "<|im_end|>";
        preset(c, "<|im_start|>system", end);
    } else if (has(c, "<|start_header_id|>") && has(c, "<|eot_id|>")) {
        c->family = LM_CHAT_LLAMA3;
        end = "<|eot_id|>";
    } else if (has(c, "[INST]") && has(c, "<<SYS>>")) {
        c->family = LM_CHAT_LLAMA2;
    } else if (has(c, "[INST]") && !has(c, "[SYSTEM_PROMPT]")) {
        c->family = LM_CHAT_MISTRAL;
    } else {
        return lm_fail(e, LM_EINPUT, "the chat template is of no family that is "
                       "known, only ChatML (SmolLM2, Qwen2, Qwen3), Llama 2, Llama 3 and "
                       "Mistral ([INST])");
    }
    token_text(v, a->bos, &c->bos.s, &c->bos.n);
    token_text(v, a->eos, &c->eos.s, &c->eos.n);
    c->end = token_named(v, end);
    c->puts_bos = has(c, "bos_token") || has(c, "<|begin_of_text|>");
    c->thinks = has(c, "<think>");
    c->dates = has(c, "Cutting Knowledge Date");
    return LM_OK;
}

/* ---- pieces ----------------------------------------------------------------------- */

struct part { const char *s; size_t n; };

/* Python's strip(): white space of ASCII */
static struct part strip(struct part p)
{
    static const char space[] = " \t\n\r\v\f\x1c\x1d\x1e\x1f";
    while (p.n && memchr(space, *p.s, sizeof space - 1))
        p.s++, p.n--;
    while (p.n && memchr(space, p.s[p.n - 1], sizeof space - 1))
        p.n--;
    return p;
}

static struct part strip_lines(struct part p, bool left, bool right)
{
    while (left && p.n && *p.s == '\n')
        p.s++, p.n--;
    while (right && p.n && p.s[p.n - 1] == '\n')
        p.n--;
    return p;
}

static struct part whole(const char *s)
{
    return (struct part){ s, strlen(s) };
}

static void put(struct lm_str *out, const char *s)
{
    lm_str_put(out, s, strlen(s));
}

static void put_part(struct lm_str *out, struct part p)
{
    lm_str_put(out, p.s, p.n);
}

static bool is(const struct lm_message *m, const char *role)
{
    return !strcmp(m->role, role);
}

/* Last place of needle in s, or NULL. */
static const char *last(const char *s, const char *needle)
{
    const char *found = NULL;
    for (; (s = strstr(s, needle)); s++)
        found = s;
    return found;
}

/* ---- families --------------------------------------------------------------------- */

/* Qwen3, an assistant's message: thoughts kept only behind the last question. */
static void chatml_thought(struct lm_str *out, const struct lm_message *m, bool behind,
                           bool at_end)
{
    static const char close[] = "</think>";
    const char *first = strstr(m->text, close), *end = last(m->text, close);
    struct part said = whole(m->text), thought = { "", 0 };
    if (first) {
        thought = strip_lines((struct part){ m->text, (size_t)(first - m->text) }, false,
                              true);
        for (size_t i = thought.n; i >= 7; i--)
            if (!memcmp(thought.s + i - 7, "<think>", 7)) {
                thought.n -= i;
                thought.s += i;
                break;
            }
        thought = strip_lines(thought, true, false);
        said = strip_lines(whole(end + sizeof close - 1), true, false);
    }
    if (behind && (at_end || thought.n)) {
        put(out, "<think>\n");
        put_part(out, strip_lines(thought, true, true));
        put(out, "\n</think>\n\n");
        said = strip_lines(said, true, false);
    }
    put_part(out, said);
}

static void chatml(const struct lm_chat *c, const struct lm_message *m, size_t n,
                   bool answer, struct lm_str *out)
{
    size_t question = n;
    for (size_t i = 0; i < n; i++)
        if (is(&m[i], "user"))
            question = i;
    if (c->preset.n && (!n || !is(m, "system")))
        lm_str_add(out, "<|im_start|>system\n%.*s<|im_end|>\n", c->preset.n, c->preset.s);
    for (size_t i = 0; i < n; i++) {
        lm_str_add(out, "<|im_start|>%s\n", m[i].role);
        if (c->thinks && is(&m[i], "assistant"))
            chatml_thought(out, &m[i], i > question, i + 1 == n);
        else
            put(out, m[i].text);
        put(out, "<|im_end|>\n");
    }
    if (answer)
        put(out, "<|im_start|>assistant\n");
}

static void llama3(const struct lm_chat *c, const struct lm_message *m, size_t n,
                   bool answer, struct lm_str *out)
{
    static const char head[] = "<|start_header_id|>%s<|end_header_id|>\n\n";
    size_t i = 0;
    if (c->puts_bos)
        lm_str_put(out, c->bos.s, (size_t)c->bos.n);
    if (c->dates) {
        lm_str_add(out, head, "system");
        put(out, "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
        if (n && is(m, "system"))
            put_part(out, strip(whole(m[i++].text)));
        put(out, "<|eot_id|>");
    }
    for (; i < n; i++) {
        lm_str_add(out, head, m[i].role);
        put_part(out, strip(whole(m[i].text)));
        put(out, "<|eot_id|>");
    }
    if (answer)
        lm_str_add(out, head, "assistant");
}

static enum lm_status alternate(const struct lm_message *m, size_t n, struct lm_err *e)
{
    for (size_t i = 0; i < n; i++)
        if (!is(&m[i], i % 2 ? "assistant" : "user"))
            return lm_fail(e, LM_EINPUT, "message %zu is of the %s, but this chat "
                           "template wants user and assistant in turns", i + 1,
                           m[i].role);
    return LM_OK;
}

static void llama2(const struct lm_chat *c, const struct lm_message *system,
                   const struct lm_message *m, size_t n, struct lm_str *out)
{
    for (size_t i = 0; i < n; i++) {
        if (i % 2) {
            put(out, " ");
            put_part(out, strip(whole(m[i].text)));
            lm_str_add(out, " %.*s", c->eos.n, c->eos.s);
            continue;
        }
        lm_str_add(out, "%.*s[INST] ", c->bos.n, c->bos.s);
        if (system && !i) {
            struct lm_str all = { 0 };
            put(&all, "<<SYS>>\n");
            put(&all, system->text);
            put(&all, "\n<</SYS>>\n\n");
            put(&all, m[i].text);
            out->failed |= all.failed;
            put_part(out, strip((struct part){ all.s ? all.s : "", all.n }));
            lm_str_free(&all);
        } else {
            put_part(out, strip(whole(m[i].text)));
        }
        put(out, " [/INST]");
    }
}

/* Is a literal like this in the template, in quotes of either kind? */
static bool quoted(const struct lm_chat *c, const char *text)
{
    char s[64];
    snprintf(s, sizeof s, "'%s'", text);
    if (has(c, s))
        return true;
    snprintf(s, sizeof s, "\"%s\"", text);
    return has(c, s);
}

static void mistral(const struct lm_chat *c, const struct lm_message *system,
                    const struct lm_message *m, size_t n, struct lm_str *out)
{
    bool before = quoted(c, " [INST] "), after = before || quoted(c, "[INST] ");
    bool closing = quoted(c, " [/INST]");
    bool space = has(c, "' ' + message") || has(c, "\" \" + message");
    bool trail = has(c, "eos_token + ' '") || has(c, "eos_token + \" \"");
    bool late = has(c, "loop.last and system");     /* with the last message only */
    if (c->puts_bos)
        lm_str_put(out, c->bos.s, (size_t)c->bos.n);
    for (size_t i = 0; i < n; i++) {
        if (i % 2) {
            lm_str_add(out, "%s", space ? " " : "");
            put(out, m[i].text);
            lm_str_add(out, "%.*s%s", c->eos.n, c->eos.s, trail ? " " : "");
            continue;
        }
        lm_str_add(out, "%s[INST]%s", before ? " " : "", after ? " " : "");
        if (system && (late ? i + 1 == n : !i)) {
            put(out, system->text);
            put(out, "\n\n");
        }
        put(out, m[i].text);
        put(out, closing ? " [/INST]" : "[/INST]");
    }
}

/* Llama 2 and Mistral: the system message goes into a question. */
static enum lm_status in_turns(const struct lm_chat *c, const struct lm_message *m,
                               size_t n, struct lm_str *out, struct lm_err *e)
{
    const struct lm_message *system = n && is(m, "system") ? m : NULL;
    if (system && c->family == LM_CHAT_MISTRAL && !has(c, "system"))
        return lm_fail(e, LM_EINPUT, "this chat template has no place for a system "
                       "message");
    if (system)
        m++, n--;
    enum lm_status s = alternate(m, n, e);
    if (s)
        return s;
    (c->family == LM_CHAT_LLAMA2 ? llama2 : mistral)(c, system, m, n, out);
    return LM_OK;
}

enum lm_status lm_chat_render(const struct lm_chat *c, const struct lm_message *m,
                              size_t n, bool answer, struct lm_str *out,
                              struct lm_err *e)
{
    enum lm_status s = LM_OK;
    for (size_t i = 0; i < n; i++)
        if (!is(&m[i], "user") && !is(&m[i], "assistant") && (!is(&m[i], "system") || i))
            return lm_fail(e, LM_EINPUT, "message %zu has the role '%.40s'; user and "
                           "assistant are supported, and system for the first", i + 1,
                           m[i].role);
    if (c->family == LM_CHAT_CHATML)
        chatml(c, m, n, answer, out);
    else if (c->family == LM_CHAT_LLAMA3)
        llama3(c, m, n, answer, out);
    else
        s = in_turns(c, m, n, out, e);
    return !s && out->failed ? lm_fail_memory(e, out->n, "a conversation") : s;
}

/* ---- conversations out of JSON ---------------------------------------------------- */

static const char *member(const struct lm_json *o, const char *key)
{
    const struct lm_json *n = lm_json_api.get(o, key);
    return n ? lm_json_api.string(n) : NULL;
}

static enum lm_status messages(const struct lm_json *list, struct lm_message *m,
                               size_t *n, struct lm_err *e)
{
    const struct lm_json_api *j = &lm_json_api;
    *n = j->size(list);
    if (j->type(list) != 'a' || !*n || *n > MAX_MESSAGES)
        return lm_fail(e, LM_EINPUT, "'messages' must be a list of 1 to %d messages",
                       MAX_MESSAGES);
    for (size_t i = 0; i < *n; i++) {
        m[i].role = member(j->at(list, i), "role");
        m[i].text = member(j->at(list, i), "content");
        if (!m[i].role || !m[i].text)
            return lm_fail(e, LM_EINPUT, "message %zu has no 'role' or no 'content' that "
                           "is text", i + 1);
    }
    return LM_OK;
}

static enum lm_status instruction(const struct lm_json *o, struct lm_message *m,
                                  struct lm_str *question, struct lm_err *e)
{
    const char *task = member(o, "instruction"), *in = member(o, "input");
    const char *answer = member(o, "output");
    if (!task || !answer)
        return lm_fail(e, LM_EINPUT, "there are neither 'messages' nor 'instruction' and "
                       "'output'");
    put(question, task);
    if (in && *in) {
        put(question, "\n\n");
        put(question, in);
    }
    if (question->failed)
        return lm_fail_memory(e, question->n, "a conversation");
    m[0] = (struct lm_message){ "user", question->s ? question->s : "" };
    m[1] = (struct lm_message){ "assistant", answer };
    return LM_OK;
}

enum lm_status lm_chat_json(const struct lm_chat *c, const char *text, size_t n_text,
                            const char *where, struct lm_str *out, struct lm_err *e)
{
    struct lm_json *root;
    struct lm_str question = { 0 };
    size_t n = 2;
    enum lm_status s = lm_json_api.parse(text, n_text, where, &root, e);
    if (s)
        return s;
    struct lm_message *m = lm_alloc_array(MAX_MESSAGES, sizeof *m, "chat");
    const struct lm_json *list = lm_json_api.get(root, "messages");
    if (!m)
        s = lm_fail_memory(e, MAX_MESSAGES * sizeof *m, "a conversation");
    else if (lm_json_api.type(root) != 'o')
        s = lm_fail(e, LM_EINPUT, "expected a JSON object");
    else
        s = list ? messages(list, m, &n, e) : instruction(root, m, &question, e);
    if (!s)
        s = lm_chat_render(c, m, n, false, out, e);
    lm_str_free(&question);
    lm_release(m);
    lm_json_api.close(root);
    return s && s != LM_ENOMEM ? lm_err_prefix(e, "%s: ", where) : s;
}
