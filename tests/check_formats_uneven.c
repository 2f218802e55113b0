/* SPDX-License-Identifier: Apache-2.0 */
/* check_formats_uneven.c -- folders of Hugging Face whose layers differ: as they
 * are (model type lamina), and filled up with zeros, which must not change a
 * logit.  Logits come from a forward pass in double, written out naively here. */
#include "check_formats.h"

#include <math.h>

static char scratch[256];

static const char *in_scratch(const char *name)
{
    static char path[4][1024];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", scratch, name);
    return path[next];
}

static char *text_of(const char *path)
{
    char *text;
    size_t n;
    struct lm_err e;
    ck_assert_ok(lm_read_file(path, 1 << 24, &text, &n, &e), e);
    return text;
}

static void has_text(const char *path, const char *want)
{
    char *text = text_of(path);
    ck_assert_msg(strstr(text, want) != NULL, "no %s in %s", want, text);
    lm_release(text);
}

/* ---- a forward pass ------------------------------------------------------------ */
enum { T = 7, WIDE = 128 };             /* tokens; no width of a toy is larger  */

/* y = W x + b; an absent W gives 0 */
static void apply(const struct lm_model *m, uint32_t w, uint32_t b, int32_t l,
                  const double *x, double *y)
{
    const struct lm_tensor *t = lm_model_tensor(m, w, l);
    float *v = tensor_floats(m, w, l), *bias = b ? tensor_floats(m, b, l) : NULL;
    for (int64_t r = 0; t && r < t->rows; r++) {
        y[r] = bias ? bias[r] : 0;
        for (int64_t c = 0; c < t->cols; c++)
            y[r] += (double)v[r * t->cols + c] * x[c];
    }
    free(v);
    free(bias);
}

static void norm(const struct lm_model *m, uint32_t role, int32_t l, const double *x,
                 int64_t n, double *y)
{
    float *w = tensor_floats(m, role, l);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] / sqrt(sum / (double)n + lm_model_arch(m)->rms_eps) * w[i];
    free(w);
}

/* norm, if there is one, and rotation of the heads of a row */
static void heads(const struct lm_model *m, uint32_t role, int32_t l, int n, int pos,
                  double *x)
{
    const struct lm_arch *a = lm_model_arch(m);
    int h = a->head_dim;
    for (int i = 0; i < n; i++, x += h) {
        if (lm_model_tensor(m, role, l))
            norm(m, role, l, x, h, x);
        for (int j = 0; j < h / 2; j++) {
            double angle = pos * pow(a->rope_theta, -2.0 * j / h);
            double u = x[j], v = x[j + h / 2];
            x[j] = u * cos(angle) - v * sin(angle);
            x[j + h / 2] = v * cos(angle) + u * sin(angle);
        }
    }
}

static void attention(const struct lm_model *m, int32_t l, double x[T][WIDE])
{
    static double q[T][WIDE], k[T][WIDE], v[T][WIDE], y[WIDE], z[WIDE];
    const struct lm_layer_shape *s = &lm_model_arch(m)->layer[l];
    int h = lm_model_arch(m)->head_dim, d = lm_model_arch(m)->hidden;
    for (int t = 0; t < T; t++) {
        norm(m, LM_W_ATTN_NORM, l, x[t], d, y);
        apply(m, LM_W_Q, LM_B_Q, l, y, q[t]);
        apply(m, LM_W_K, LM_B_K, l, y, k[t]);
        apply(m, LM_W_V, LM_B_V, l, y, v[t]);
        heads(m, LM_W_Q_NORM, l, s->n_head, t, q[t]);
        heads(m, LM_W_K_NORM, l, s->n_kv, t, k[t]);
    }
    for (int t = T - 1; t >= 0; t--) {
        for (int i = 0; i < s->n_head; i++) {
            int g = i / (s->n_head / s->n_kv) * h;
            double p[T], sum = 0;
            for (int u = 0; u <= t; u++) {
                double dot = 0;
                for (int j = 0; j < h; j++)
                    dot += q[t][i * h + j] * k[u][g + j];
                sum += p[u] = exp(dot / sqrt(h) / 64);      /* tame: toys are wild */
            }
            for (int j = 0; j < h; j++) {
                y[i * h + j] = 0;
                for (int u = 0; u <= t; u++)
                    y[i * h + j] += p[u] / sum * v[u][g + j];
            }
        }
        apply(m, LM_W_O, LM_B_O, l, y, z);
        for (int j = 0; j < d; j++)
            x[t][j] += z[j];
    }
}

static void mlp(const struct lm_model *m, int32_t l, double x[T][WIDE])
{
    static double y[WIDE], gate[WIDE], up[WIDE];
    const struct lm_arch *a = lm_model_arch(m);
    for (int t = 0; t < T; t++) {
        norm(m, LM_W_MLP_NORM, l, x[t], a->hidden, y);
        apply(m, LM_W_GATE, LM_B_GATE, l, y, gate);
        apply(m, LM_W_UP, LM_B_UP, l, y, up);
        for (int j = 0; j < a->layer[l].n_ff; j++)
            up[j] *= gate[j] / (1 + exp(-gate[j]));
        apply(m, LM_W_DOWN, LM_B_DOWN, l, up, y);
        for (int j = 0; j < a->hidden; j++)
            x[t][j] += y[j];
    }
}

static void logits(const struct lm_model *m, double out[T][WIDE])
{
    static double x[T][WIDE];
    const struct lm_arch *a = lm_model_arch(m);
    float *table = tensor_floats(m, LM_W_EMBED, -1);
    for (int t = 0; t < T; t++)
        for (int j = 0; j < a->hidden; j++)
            x[t][j] = table[(t * 5 + 1) % a->vocab * a->hidden + j];
    for (int32_t l = 0; l < a->n_layer; l++) {
        if (a->layer[l].n_head)
            attention(m, l, x);
        if (a->layer[l].n_ff)
            mlp(m, l, x);
    }
    for (int t = 0; t < T; t++) {
        norm(m, LM_W_FINAL_NORM, -1, x[t], a->hidden, x[t]);
        apply(m, LM_W_HEAD, 0, -1, x[t], out[t]);
    }
    free(table);
}

static void same_logits(const struct lm_model *a, const struct lm_model *b)
{
    static double x[T][WIDE], y[T][WIDE];
    double largest = 0;
    logits(a, x);
    logits(b, y);
    for (int t = 0; t < T; t++)
        for (int i = 0; i < lm_model_arch(a)->vocab; i++) {
            ck_assert_double_eq_tol(x[t][i], y[t][i], 1e-10);
            largest = fmax(largest, fabs(x[t][i]));
        }
    ck_assert_double_gt(largest, 0.1);
}

/* ---- round trips --------------------------------------------------------------- */
#define QKV (LM_BIT(LM_B_Q) | LM_BIT(LM_B_K) | LM_BIT(LM_B_V))
#define NORMS (LM_BIT(LM_W_Q_NORM) | LM_BIT(LM_W_K_NORM))
static const uint64_t extras[] = { 0, LM_BIT(LM_B_O) | LM_BIT(LM_B_DOWN), QKV | NORMS };

/* groups and heads of all kinds: fewer groups, fewer heads in each, both gone */
static const struct lm_layer_shape cut[6] = { { 0, 0, 64, 0 }, { 4, 2, 0, 0 },
    { 0, 0, 0, 0 }, { 2, 1, 96, 0 }, { 2, 2, 33, 0 }, { 1, 1, 64, 0 } };
static const int32_t kept[5] = { 0, 1, 3, 4, 5 };

static struct lm_model *cut_model(uint64_t extra)
{
    const struct toy t = { 6, 32, 8, 12, cut, extra, 0, true };
    return toy_model(&t);
}

START_TEST(layers_that_differ)
{
    struct lm_model *m = cut_model(extras[_i]), *a, *b;
    struct lm_err e;
    ck_assert_ok(formats_write("hf", m, in_scratch("hf"), LM_F16, &e), e);
    ck_assert_ok(formats_read("hf", in_scratch("hf"), &a, &e), e);
    ck_assert_int_eq(lm_model_arch(a)->n_layer, 5);
    ck_assert_str_eq(lm_model_arch(a)->family, "llama");
    for (int32_t l = 0; l < 5; l++) {
        ck_assert(!memcmp(&lm_model_arch(a)->layer[l], &cut[kept[l]], sizeof *cut));
        for (uint32_t r = LM_W_ATTN_NORM; r < LM_N_ROLES; r++)
            same_tensor(m, r, kept[l], a, l);
    }
    same_logits(m, a);
    same_vocabulary(m, a);
    ck_assert_ok(formats_write("hf", a, in_scratch("again"), LM_F32, &e), e);
    ck_assert_ok(formats_read("hf", in_scratch("again"), &b, &e), e);
    same_model(a, b);
    drop_folder(scratch, "hf");
    drop_folder(scratch, "again");
    lm_model_free(m);
    lm_model_free(a);
    lm_model_free(b);
}
END_TEST

START_TEST(config_says_how_they_differ)
{
    struct lm_model *m = cut_model(QKV | NORMS);
    struct lm_err e;
    ck_assert_ok(formats_write("hf", m, in_scratch("hf"), LM_F16, &e), e);
    const char *config = in_scratch("hf/config.json");
    has_text(config, "\"architectures\": [\"LaminaForCausalLM\"]");
    has_text(config, "\"model_type\": \"lamina\"");
    has_text(config, "\"AutoModelForCausalLM\": \"modeling_lamina.LaminaForCausalLM\"");
    has_text(config, "\"linear_biases\": [\"q_proj\", \"k_proj\", \"v_proj\"]");
    has_text(config, "\"qk_norm\": true");
    has_text(config, "\"num_hidden_layers\": 5,\n  \"num_attention_heads\": 4,\n"
             "  \"num_key_value_heads\": 2,");
    has_text(config, "\"intermediate_size\": 96,");
    has_text(config, "\"per_layer_config\": {\n"
             "    \"0\": {\"intermediate_size\": 64, \"skip\": [\"attention\"]},\n"
             "    \"1\": {\"skip\": [\"mlp\"]},\n"
             "    \"2\": {\"num_attention_heads\": 2, \"num_key_value_heads\": 1},\n"
             "    \"3\": {\"num_attention_heads\": 2, \"intermediate_size\": 33},\n"
             "    \"4\": {\"num_attention_heads\": 1, \"num_key_value_heads\": 1, "
             "\"intermediate_size\": 64}\n  },");
    char *there = text_of(in_scratch("hf/modeling_lamina.py"));
    char *here = text_of(source_path("plugins/formats/hf_modeling.py"));
    ck_assert_str_eq(there, here);
    lm_release(there);
    lm_release(here);
    lm_model_free(m);
    drop_folder(scratch, "hf");
}
END_TEST

static const bool pad = true;           /* the one option of the plugin         */

START_TEST(filled_up_with_zeros)
{
    static const char *const type[] = { "llama", "llama", "qwen3" };
    struct lm_model *m = cut_model(extras[_i]), *a;
    struct lm_err e;
    ck_assert_ok(formats_write_with("hf", &pad, m, in_scratch("hf"), LM_BF16, &e), e);
    ck_assert(!lm_file_exists(in_scratch("hf/modeling_lamina.py")));
    ck_assert_ok(formats_read("hf", in_scratch("hf"), &a, &e), e);
    ck_assert_str_eq(lm_model_arch(a)->family, type[_i]);
    ck_assert_int_eq(lm_model_arch(a)->n_layer, 5);
    for (int32_t l = 0; l < 5; l++) {
        ck_assert_int_eq(lm_model_arch(a)->layer[l].n_head, 4);
        ck_assert_int_eq(lm_model_arch(a)->layer[l].n_kv, 2);
        ck_assert_int_eq(lm_model_arch(a)->layer[l].n_ff, 96);
    }
    same_logits(m, a);
    lm_model_free(m);
    lm_model_free(a);
    drop_folder(scratch, "hf");
}
END_TEST

/* Stock Llama refuses 3 heads at a hidden size of 32: then ours, or 4 heads. */
START_TEST(heads_that_do_not_divide)
{
    static const struct lm_layer_shape three[2] = { { 3, 3, 64, 0 }, { 3, 3, 64, 0 } };
    const struct toy t = { 2, 32, 8, 12, three, 0, 0, false };
    struct lm_model *m = toy_model(&t), *a;
    struct lm_err e;
    ck_assert_ok(formats_write("hf", m, in_scratch("hf"), LM_F32, &e), e);
    has_text(in_scratch("hf/config.json"), "\"model_type\": \"lamina\"");
    has_text(in_scratch("hf/config.json"), "\"per_layer_config\": {\n  },");
    ck_assert_ok(formats_read("hf", in_scratch("hf"), &a, &e), e);
    same_model(m, a);
    lm_model_free(a);
    drop_folder(scratch, "hf");
    ck_assert_ok(formats_write_with("hf", &pad, m, in_scratch("hf"), LM_F32, &e), e);
    ck_assert_ok(formats_read("hf", in_scratch("hf"), &a, &e), e);
    ck_assert_int_eq(lm_model_arch(a)->layer[1].n_head, 4);
    ck_assert_int_eq(lm_model_arch(a)->layer[1].n_kv, 4);
    same_logits(m, a);
    lm_model_free(a);
    lm_model_free(m);
    drop_folder(scratch, "hf");
}
END_TEST

/* ---- refusals ------------------------------------------------------------------ */
START_TEST(what_cannot_be_written)
{
    static const struct lm_layer_shape none[2] = { { 0, 0, 0, 0 }, { 0, 0, 0, 0 } };
    const struct toy t = { 2, 32, 8, 12, none, 0, 0, false };
    struct lm_model *m = toy_model(&t);
    struct lm_err e;
    ck_assert_int_eq(formats_write("hf", m, in_scratch("hf"), LM_F32, &e),
                     LM_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(e.text, "without any attention or MLP block"));
    lm_model_free(m);
    m = cut_model(NORMS | LM_BIT(LM_B_DOWN));       /* qwen3 has no biases there */
    ck_assert_int_eq(formats_write_with("hf", &pad, m, in_scratch("hf"), LM_F32, &e),
                     LM_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(e.text, "write without pad"));
    ck_assert(!lm_file_exists(in_scratch("hf/config.json")));
    ck_assert_ok(formats_write("hf", m, in_scratch("hf"), LM_F32, &e), e);
    lm_model_free(m);
    drop_folder(scratch, "hf");
}
END_TEST

/* config.json with `from` replaced */
static void patch(const char *original, const char *from, const char *to)
{
    const char *at = strstr(original, from);
    char text[8192];
    ck_assert_msg(at != NULL, "%s", from);
    int n = snprintf(text, sizeof text, "%.*s%s%s", (int)(at - original), original, to,
                     at + strlen(from));
    put_file(in_scratch("hf/config.json"), text, (size_t)n);
}

static const struct { const char *from, *to, *message; } damage[] = {
    { "\"1\": {\"skip\": [\"mlp\"]}", "\"5\": {\"skip\": [\"mlp\"]}",
      "there is no layer '5'" },
    { "\"1\": {\"skip\"", "\"x\": {\"skip\"", "there is no layer 'x'" },
    { "\"1\": {\"skip\"", "\"-1\": {\"skip\"", "there is no layer '-1'" },
    { "{\"skip\": [\"mlp\"]}", "7", "'1': must be an object" },
    { "[\"mlp\"]", "\"mlp\"", "skip must be a list" },
    { "[\"mlp\"]", "[\"moe\"]", "not \"attention\" or \"mlp\"" },
    { "{\"skip\": [\"mlp\"]}", "{\"head_dim\": 4}", "'head_dim' is not supported" },
    { "\"intermediate_size\": 33", "\"intermediate_size\": 0", "at least 1" },
    { "\"intermediate_size\": 33", "\"intermediate_size\": 1e9", "at least 1" },
    { "\"intermediate_size\": 33", "\"intermediate_size\": 999999999", "at least 1" },
    { "\"num_attention_heads\": 2, \"num_key_value_heads\": 1",
      "\"num_attention_heads\": 3", "no multiple of the key-value heads" },
    { "\"intermediate_size\": 33", "\"intermediate_size\": 32", "" },
    { "[\"mlp\"]", "[]", "" },
    { "[\"q_proj\", \"k_proj\", \"v_proj\"]", "3", "'linear_biases' must be a list" },
    { "[\"q_proj\", ", "[\"z_proj\", ", "'z_proj' is no projection" },
    { "[\"q_proj\", ", "[null, ", "is no projection" },
    { "[\"q_proj\", ", "[", "has no tensor" },
    { "\"v_proj\"]", "\"v_proj\", \"o_proj\"]", "has a tensor" },
    { "\"qk_norm\": true", "\"qk_norm\": 1", "'qk_norm' must be true or false" },
    { "\"qk_norm\": true", "\"qk_norm\": false", "has no tensor" },
    { "\"family\": \"llama\"", "\"family\": \"gpt2\"", "'gpt2' is not supported" },
    { "\"family\": \"llama\"", "\"family\": null", "'family' must be a string" },
    { "\"LaminaForCausalLM\"]", "\"LlamaForCausalLM\"]", "only 'LaminaForCausalLM'" },
    { "\"model_type\": \"lamina\"", "\"model_type\": \"llama\"", "'per_layer_config'" },
};

START_TEST(damaged_configs)
{
    struct lm_model *m = cut_model(QKV | NORMS), *back;
    struct lm_err e;
    ck_assert_ok(formats_write("hf", m, in_scratch("hf"), LM_F16, &e), e);
    char *original = text_of(in_scratch("hf/config.json"));
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        patch(original, damage[i].from, damage[i].to);
        ck_assert_msg(formats_read("hf", in_scratch("hf"), &back, &e) == LM_EINPUT, "%s",
                      damage[i].to);
        ck_assert_msg(strstr(e.text, damage[i].message) != NULL, "%s: %s", damage[i].to,
                      e.text);
    }
    /* transformers writes the numbers of layers with leading zeros */
    patch(original, "\"1\": {", "\"0001\": {");
    ck_assert_ok(formats_read("hf", in_scratch("hf"), &back, &e), e);
    lm_model_free(back);
    lm_release(original);
    lm_model_free(m);
    drop_folder(scratch, "hf");
}
END_TEST

/* ---- failing allocations ------------------------------------------------------- */
static struct lm_model *shared;

static enum lm_status work(void *config)
{
    struct lm_model *m = NULL;
    struct lm_err e;
    enum lm_status s = formats_write_with("hf", config, shared, in_scratch("hf"), LM_F16,
                                          &e);
    if (!s)
        s = formats_read("hf", in_scratch("hf"), &m, &e);
    if (!s)
        lm_model_free(m);
    return s;
}

START_TEST(allocations_may_fail)
{
    static bool no = false, yes = true;
    shared = cut_model(QKV);
    ck_assert_int_gt(fail_every_allocation(work, &no), 20);
    ck_assert_int_gt(fail_every_allocation(work, &yes), 20);
    lm_model_free(shared);
    drop_folder(scratch, "hf");
}
END_TEST

static void setup(void)
{
    scratch_begin(scratch);
}

static void teardown(void)
{
    scratch_end(scratch);
}

Suite *formats_uneven_suite(void)
{
    Suite *s = suite_create("formats of uneven models");
    TCase *t = tcase_create("folders");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, layers_that_differ, 0, 3);
    tcase_add_test(t, config_says_how_they_differ);
    tcase_add_loop_test(t, filled_up_with_zeros, 0, 3);
    tcase_add_test(t, heads_that_do_not_divide);
    tcase_add_test(t, what_cannot_be_written);
    tcase_add_test(t, damaged_configs);
    tcase_add_test(t, allocations_may_fail);
    suite_add_tcase(s, t);
    return s;
}
