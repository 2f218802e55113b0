/* SPDX-License-Identifier: Apache-2.0 */
/* check_chat.c -- conversations in the way of chat templates, against what
 * transformers writes with them; conversations out of JSON; Unicode normalization
 * form C.                                                                     */
#include "model/chat.h"
#include "model/tokenizer.h"
#include "testing.h"
#include "chat_cases.h"

static struct lm_err err;

#define TOKEN(s, k) { s, sizeof s - 1, k }
static const struct lm_token token[] = {
    TOKEN("a", LM_TOKEN_NORMAL), TOKEN("<s>", LM_TOKEN_SPECIAL),
    TOKEN("</s>", LM_TOKEN_SPECIAL), TOKEN("<b>", LM_TOKEN_SPECIAL),
    TOKEN("<e>", LM_TOKEN_SPECIAL), TOKEN("<|im_end|>", LM_TOKEN_SPECIAL),
    TOKEN("<|eot_id|>", LM_TOKEN_SPECIAL),
};
enum { CHATML, QWEN3, LLAMA2, LLAMA3, LLAMA31, MISTRAL1, MISTRAL3, N_TEMPLATES };

static struct lm_vocabulary vocabulary;
static struct lm_arch arch;

static enum lm_status open_chat(const char *template, bool llama3, struct lm_chat *c)
{
    vocabulary = (struct lm_vocabulary){ .struct_size = sizeof vocabulary,
        .token = token, .n_token = sizeof token / sizeof *token,
        .chat_template = template };
    arch = (struct lm_arch){ .struct_size = sizeof arch, .bos = llama3 ? 3 : 1,
                             .eos = llama3 ? 4 : 2 };
    return lm_chat_open(&vocabulary, &arch, c, &err);
}

static const struct { size_t n; bool answer; struct lm_message m[4]; } talk[] = {
    { 1, true, { { "user", "Hi there" } } },
    { 4, true, { { "system", "Be brief. " }, { "user", " What? " },
                 { "assistant", "Yes. " }, { "user", "Why?\n" } } },
    { 2, false, { { "user", "2+2?" }, { "assistant", "4" } } },
    { 4, false, { { "user", "2+2?" }, { "assistant", "<think>\nsum\n</think>\n\n4" },
                  { "user", "sure?" }, { "assistant", "<think>hm</think>yes" } } },
};

START_TEST(equal_transformers)
{
    struct lm_chat c;
    ck_assert_ok(open_chat(written[_i][0], _i == LLAMA3 || _i == LLAMA31, &c), err);
    ck_assert_int_eq(c.end, _i <= QWEN3 ? 5 : _i == LLAMA3 || _i == LLAMA31 ? 6 : -1);
    for (size_t k = 0; k < sizeof talk / sizeof *talk; k++) {
        struct lm_str out = { 0 };
        enum lm_status s = lm_chat_render(&c, talk[k].m, talk[k].n, talk[k].answer, &out,
                                          &err);
        if (written[_i][k + 1]) {
            ck_assert_ok(s, err);
            ck_assert_str_eq(out.s, written[_i][k + 1]);
        } else {
            ck_assert_int_eq(s, LM_EINPUT);
            ck_assert_str_eq(err.text, "this chat template has no place for a system "
                             "message");
        }
        lm_str_free(&out);
    }
}
END_TEST

/* The default of Qwen2.5 stands in quotes with \n spelt out, behind another. */
START_TEST(system_message_of_the_template)
{
    static const char template[] = "{{- '<|im_start|>system\\n' + m.content }}"
        "{{- '<|im_start|>system\\nYou are here.<|im_end|>\\n' }}";
    struct lm_chat c;
    struct lm_str out = { 0 };
    ck_assert_ok(open_chat(template, false, &c), err);
    ck_assert_ok(lm_chat_render(&c, talk[0].m, 1, true, &out, &err), err);
    ck_assert_str_eq(out.s, "<|im_start|>system\nYou are here.<|im_end|>\n"
                     "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n");
    lm_str_free(&out);
}
END_TEST

START_TEST(unknown_templates)
{
    struct lm_chat c;
    ck_assert_int_eq(open_chat("{{ '<start_of_turn>' + role }}", false, &c), LM_EINPUT);
    ck_assert_str_eq(err.text, "the chat template is of no family that is known, only "
                     "ChatML (SmolLM2, Qwen2, Qwen3), Llama 2, Llama 3 and Mistral "
                     "([INST])");
    ck_assert_int_eq(open_chat(NULL, false, &c), LM_EINPUT);
    ck_assert_str_eq(err.text, "the model has no chat template");
    ck_assert_int_eq(lm_chat_open(NULL, &arch, &c, &err), LM_EINPUT);
    ck_assert_str_eq(err.text, "the model has no tokenizer");
}
END_TEST

/* ---- JSON -------------------------------------------------------------------------- */

static const struct {
    int template; const char *json, *want; enum lm_status s;
} lines[] = {
    { CHATML, "{\"messages\": [{\"role\": \"user\", \"content\": \"2+2?\"}, "
      "{\"role\": \"assistant\", \"content\": \"4\"}]}", NULL, LM_OK },
    { CHATML, "{\"instruction\": \"2+2?\", \"output\": \"4\"}", NULL, LM_OK },
    { CHATML, "{\"instruction\": \"2+2?\", \"input\": \"\", \"output\": \"4\"}", NULL,
      LM_OK },
    { LLAMA2, "{\"instruction\": \"add\", \"input\": \"2+2\", \"output\": \"4\"}",
      "<s>[INST] add\n\n2+2 [/INST] 4 </s>", LM_OK },
    { CHATML, "{\"prompt\": \"x\"}", "t:7: there are neither 'messages' nor "
      "'instruction' and 'output'", LM_EINPUT },
    { CHATML, "{\"messages\": []}", "t:7: 'messages' must be a list of 1 to 4096 "
      "messages", LM_EINPUT },
    { CHATML, "{\"messages\": [{\"role\": \"user\"}]}", "t:7: message 1 has no 'role' or "
      "no 'content' that is text", LM_EINPUT },
    { CHATML, "{\"messages\": [{\"role\": \"tool\", \"content\": \"\"}]}", "t:7: message "
      "1 has the role 'tool'; user and assistant are supported, and system for the first",
      LM_EINPUT },
    { LLAMA2, "{\"messages\": [{\"role\": \"assistant\", \"content\": \"\"}]}", "t:7: "
      "message 1 is of the assistant, but this chat template wants user and assistant in "
      "turns", LM_EINPUT },
    { CHATML, "[1]", "t:7: expected a JSON object", LM_EINPUT },
    { CHATML, "{", "t:7: line 1: string or '}' expected near end of file", LM_EINPUT },
};

START_TEST(conversations_in_json)
{
    struct lm_chat c;
    struct lm_str out = { 0 };
    const char *want = lines[_i].want ? lines[_i].want : written[CHATML][3];
    ck_assert_ok(open_chat(written[lines[_i].template][0], false, &c), err);
    enum lm_status s = lm_chat_json(&c, lines[_i].json, strlen(lines[_i].json), "t:7",
                                    &out, &err);
    ck_assert_str_eq(s ? err.text : out.s, want);
    ck_assert_int_eq(s, lines[_i].s);
    lm_str_free(&out);
    ck_assert_int_eq(lm_mem_blocks(), 0);
}
END_TEST

static enum lm_status one_line(void *ctx)
{
    struct lm_str out = { 0 };
    enum lm_status s = lm_chat_json(ctx, lines[3].json, strlen(lines[3].json), "t", &out,
                                    &err);
    lm_str_free(&out);
    return s;
}

START_TEST(every_allocation_may_fail)
{
    struct lm_chat c;
    ck_assert_ok(open_chat(written[LLAMA2][0], false, &c), err);
    ck_assert_int_ge(fail_every_allocation(one_line, &c), 4);
}
END_TEST

/* ---- normal form C ----------------------------------------------------------------- */

/* From the standard's own examples and its charts; where two texts stand, the
 * second is the form of the first.                                            */
static const char *const forms[][2] = {
    { "plain \xc3\xa9t\xc3\xa9 \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\xa6\x99", NULL },
    { "e\xcc\x81", "\xc3\xa9" },
    { "a\xcc\xa3\xcc\x82 x", "\xe1\xba\xad x" },            /* marks in order     */
    { "a\xcc\x82\xcc\xa3 x", "\xe1\xba\xad x" },            /* and not in order   */
    { "q\xcc\x87\xcc\xa3", "q\xcc\xa3\xcc\x87" },           /* only sorted        */
    { "\xe2\x84\xab", "\xc3\x85" },                         /* Angstrom: A ring   */
    { "\xe2\x84\xa6", "\xce\xa9" },                         /* Ohm: Omega         */
    { "\xef\xa4\x80", "\xe8\xb1\x88" },                     /* CJK compatibility  */
    { "\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc" },         /* never put together */
    { "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c" },     /* Hangul     */
    { "\xed\x95\x98\xe1\x86\xab", "\xed\x95\x9c" },
    { "\xed\x95\x9c\xe1\x86\xab", NULL },
    { "\xcc\x81" "e", NULL },                               /* a mark comes first */
    { "e\xcc\x81\xcc\x81", "\xc3\xa9\xcc\x81" },
    { "\xe0\xa7\x87\xe0\xa6\xbe", "\xe0\xa7\x8b" },         /* joins, of class 0  */
    { "\xf0\x9d\x85\x9e", "\xf0\x9d\x85\x97\xf0\x9d\x85\xa5" },
};

START_TEST(normal_form_c)
{
    const char *text = forms[_i][0];
    char *out;
    size_t n;
    ck_assert_ok(lm_nfc(text, strlen(text), &out, &n, &err), err);
    ck_assert(!out == !forms[_i][1]);
    if (out)
        ck_assert(n == strlen(forms[_i][1]) && !memcmp(out, forms[_i][1], n));
    else
        ck_assert_uint_eq(n, strlen(text));
    lm_release(out);
}
END_TEST

/* A long run of marks takes no square of time. */
START_TEST(many_marks)
{
    enum { N = 200000 };
    char *text = malloc(N * 4 + 1), *out;
    size_t n;
    text[0] = 'a';
    for (size_t i = 0; i < N; i++)
        memcpy(text + 1 + 4 * i, "\xcc\x81\xcc\xa3", 4);
    ck_assert_ok(lm_nfc(text, 1 + 4 * N, &out, &n, &err), err);
    ck_assert_uint_eq(n, 4 * N + 1);            /* a and a dot below are one of 3 */
    ck_assert(!memcmp(out, "\xe1\xba\xa1\xcc\xa3", 5));
    lm_release(out);
    free(text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("chat");
    TCase *t = tcase_create("chat");
    tcase_add_loop_test(t, equal_transformers, 0, N_TEMPLATES);
    tcase_add_test(t, system_message_of_the_template);
    tcase_add_test(t, unknown_templates);
    tcase_add_loop_test(t, conversations_in_json, 0, sizeof lines / sizeof *lines);
    tcase_add_test(t, every_allocation_may_fail);
    tcase_add_loop_test(t, normal_form_c, 0, sizeof forms / sizeof *forms);
    tcase_add_test(t, many_marks);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
