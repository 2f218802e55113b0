/* SPDX-License-Identifier: Apache-2.0 */
/* check_pruners.c -- the genes that pruners declare and the plans they decode. */
#include <math.h>

#include "prune_rig.h"

enum { LAYERS = 5 };

/* Higher index, higher score. */
static enum lm_status give(void *ctx, uint32_t site, int32_t layer, const double **score,
                           int64_t *n, struct lm_err *err)
{
    static double rising[200];

    (void)ctx;
    (void)err;
    for (int i = 0; i < 200; i++)
        rising[i] = i;
    *score = rising;
    const struct lm_layer_shape *s = &lm_model_arch(model)->layer[layer < 0 ? 0 : layer];
    static double block[LAYERS] = { 4, 1, 3, 1, 2 };
    if (site == LM_SITE_LAYER || site == LM_SITE_ATTN || site == LM_SITE_MLP) {
        *score = &block[layer];
        *n = 1;
        return LM_OK;
    }
    *n = site == LM_SITE_HIDDEN ? TOY_HIDDEN : site == LM_SITE_KV_GROUP ? s->n_kv
       : site == LM_SITE_HEAD ? s->n_head : s->n_ff;
    return LM_OK;
}

static void begin(const char *name, const char *options, int32_t n_kv, int32_t n_ff)
{
    rig_begin(name, options, &(struct toy){ .n_layer = LAYERS, .n_head = 2 * n_kv,
                                            .n_kv = n_kv, .n_ff = n_ff });
}

static union lm_value *value_of(const char *name)
{
    const struct lm_gene *g = find(name);

    return g ? &genome[g->slot] : NULL;
}

static const struct lm_gene *gene(size_t i)
{
    return lm_space_genes(space, NULL)[i];
}

static size_t genes(void)
{
    size_t n;

    lm_space_genes(space, &n);
    return n;
}

/* The plan of the genome as text, without the first line. */
static void expect(const char *want)
{
    struct lm_plan *p;
    struct lm_str t = { 0 };

    ck_assert_ok(decode(&p), e);
    lm_plan_text(p, &t);
    ck_assert_str_eq(strchr(t.s, '\n') + 1, want);
    lm_str_free(&t);
    lm_plan_free(p);
}

START_TEST(layers_go)
{
    struct lm_plan *p;

    begin("layers", "min_keep=4", 2, 16);
    ck_assert_uint_eq(genes(), LAYERS - 2);
    ck_assert_ptr_null(value_of("layer[0]"));
    ck_assert_ptr_null(value_of("layer[4]"));
    ck_assert_int_eq(gene(0)->kind, LM_GENE_BOOL);
    expect("");
    value_of("layer[2]")->integer = 0;
    expect("layer 2: none\n");
    value_of("layer[3]")->integer = 0;
    ck_assert_int_eq(decode(&p), LM_EINFEASIBLE);
    end();
}
END_TEST

START_TEST(blocks_go)
{
    struct lm_plan *p;

    begin("blocks", "first=0,last=0,min_attn=2", 2, 16);
    ck_assert_uint_eq(genes(), 2 * LAYERS);
    ck_assert_str_eq(gene(0)->name, "attn[0]");
    ck_assert_str_eq(gene(1)->name, "mlp[0]");
    value_of("attn[1]")->integer = value_of("mlp[4]")->integer = 0;
    value_of("attn[3]")->integer = value_of("mlp[3]")->integer = 0;
    expect("layer 1: attn=none\nlayer 3: none\nlayer 4: mlp=none\n");
    value_of("attn[0]")->integer = value_of("attn[2]")->integer = 0;
    ck_assert_int_eq(decode(&p), LM_EINFEASIBLE);
    end();
    begin("blocks", "attn=false,first=2,last=2", 2, 16);
    ck_assert_uint_eq(genes(), 1);
    ck_assert_str_eq(gene(0)->name, "mlp[2]");
    end();
    inst_load(&pruner, "pruners", "blocks");
    ck_assert_int_eq(inst_create(&pruner, "attn=false,mlp=false", NULL, NULL, &e),
                     LM_ECONFIG);
    dlclose(pruner.dl);
}
END_TEST

START_TEST(groups_go_by_score)
{
    begin("kv_groups", "first=1", 3, 16);
    ck_assert_uint_eq(genes(), LAYERS - 1);
    ck_assert(gene(0)->min == 1 && gene(0)->max == 3 && gene(0)->initial == 3);
    value_of("kv[2]")->integer = 1;
    value_of("kv[4]")->integer = 2;
    expect("layer 2: kv=1/3:2\nlayer 4: kv=2/3:1-2\n");
    end();
    begin("kv_groups", "min=0", 3, 16);
    value_of("kv[0]")->integer = 0;
    expect("layer 0: attn=none\n");
    end();
    begin("kv_groups", "min=3", 3, 16);
    ck_assert_uint_eq(genes(), 0);
    end();
}
END_TEST

START_TEST(groups_go_alike)
{
    begin("kv_groups", "uniform=true,first=3", 3, 16);
    ck_assert_uint_eq(genes(), 1);
    ck_assert(gene(0)->min == 1 && gene(0)->max == 3 && gene(0)->initial == 3);
    value_of("kv")->integer = 2;
    expect("layer 3: kv=2/3:1-2\nlayer 4: kv=2/3:1-2\n");
    end();
    inst_load(&pruner, "pruners", "kv_groups");
    ck_assert_int_eq(inst_create(&pruner, "uniform=true,select=search", NULL, NULL, &e),
                     LM_ECONFIG);
    dlclose(pruner.dl);
}
END_TEST

START_TEST(groups_are_searched)
{
    begin("kv_groups", "select=search,last=1", 5, 16);
    ck_assert_uint_eq(genes(), LAYERS - 1);
    ck_assert(gene(0)->kind == LM_GENE_SUBSET && gene(0)->n == 5 && gene(0)->min == 1);
    ck_assert(gene(0)->score[4] == 4);
    value_of("kv[1]")->bits = 0x15;
    expect("layer 1: kv=3/5:0,2,4\n");
    end();
}
END_TEST

START_TEST(heads_go_by_score)
{
    begin("heads", "first=1", 3, 16);
    ck_assert_uint_eq(genes(), LAYERS - 1);
    ck_assert_str_eq(gene(0)->name, "heads[1]");
    ck_assert(gene(0)->min == 1 && gene(0)->max == 2 && gene(0)->initial == 2);
    ck_assert_uint_eq(gene(0)->site.kind, LM_SITE_HEAD);
    expect("");
    value_of("heads[2]")->integer = 1;
    expect("layer 2: heads=3/6:1,3,5\n");
    ck_assert_uint_eq(((const struct lm_pruner *)pruner.ops)->shapes(pruner.opt.config),
                      LM_SHAPE_UNEVEN_HEADS);
    end();
    begin("heads", "uniform=true", 2, 16);
    ck_assert_uint_eq(genes(), 1);
    value_of("heads")->integer = 1;
    expect("layer 0: heads=2/4:1,3\nlayer 1: heads=2/4:1,3\nlayer 2: heads=2/4:1,3\n"
           "layer 3: heads=2/4:1,3\nlayer 4: heads=2/4:1,3\n");
    ck_assert_uint_eq(((const struct lm_pruner *)pruner.ops)->shapes(pruner.opt.config),
                      0);
    end();
    begin("heads", "min=2", 3, 16);
    ck_assert_uint_eq(genes(), 0);
    end();
}
END_TEST

START_TEST(least_blocks_go_first)
{
    begin("depth", "first=0,last=0,min=2", 2, 16);
    ck_assert_uint_eq(genes(), 1);
    ck_assert(gene(0)->min == 2 && gene(0)->max == LAYERS && gene(0)->initial == LAYERS);
    expect("");
    value_of("depth")->integer = 4;
    expect("layer 3: none\n");          /* of equals the later one */
    value_of("depth")->integer = 2;
    expect("layer 1: none\nlayer 3: none\nlayer 4: none\n");
    end();
    begin("depth", "unit=mlp", 2, 16);
    value_of("depth")->integer = 1;     /* of the three in the middle */
    expect("layer 1: mlp=none\nlayer 3: mlp=none\n");
    ck_assert_uint_eq(((const struct lm_pruner *)pruner.ops)->shapes(pruner.opt.config),
                      LM_SHAPE_NO_MLP);
    ck_assert_uint_eq(((const struct lm_pruner *)pruner.ops)->ranks(pruner.opt.config),
                      LM_BIT(LM_SITE_MLP));
    end();
    begin("depth", "first=0,last=0,min=2,step=2", 2, 16);  /* 5, 3 */
    ck_assert(gene(0)->min == 3 && gene(0)->max == LAYERS && gene(0)->step == 2);
    value_of("depth")->integer = 3;
    expect("layer 1: none\nlayer 3: none\n");
    end();
    begin("depth", "unit=attn,min=3", 2, 16);
    ck_assert_uint_eq(genes(), 0);
    expect("");
    end();
}
END_TEST

START_TEST(widths_lie_on_steps)
{
    begin("ffn", "step=32,min=40,first=1,last=2", 2, 160);
    ck_assert_uint_eq(genes(), 2);
    ck_assert_str_eq(gene(0)->name, "ffn[1]");
    ck_assert(gene(0)->min == 64 && gene(0)->max == 160 && gene(0)->step == 32);
    value_of("ffn[1]")->integer = 96;
    expect("layer 1: ffn=96/160:64-159\n");
    end();
    begin("ffn", "step=10,multiple=5,min=0.5", 2, 75);      /* top is n_ff exactly */
    ck_assert(gene(0)->min == 45 && gene(0)->max == 75 && gene(0)->step == 10);
    ck_assert(gene(0)->initial == 75);
    end();
}
END_TEST

START_TEST(widths_off_the_multiple)
{
    begin("ffn", "step=32,multiple=32,min=0.1", 2, 100);    /* 100, 64, 32 */
    ck_assert(gene(0)->min == 0 && gene(0)->max == 2 && gene(0)->initial == 2);
    value_of("ffn[0]")->integer = 0;
    value_of("ffn[1]")->integer = 1;
    expect("layer 0: ffn=32/100:68-99\nlayer 1: ffn=64/100:36-99\n");
    end();
}
END_TEST

START_TEST(widths_from_a_list)
{
    begin("ffn", "levels=[0.5,0.05,0.7333,0],multiple=8,zero=true", 2, 64);
    /* 0, 8 (at least one unit), 32, 48, 64 */
    ck_assert(gene(0)->min == 0 && gene(0)->max == 4 && gene(0)->initial == 4);
    for (int32_t i = 0; i < LAYERS; i++)
        genome[i].integer = i;
    expect("layer 0: mlp=none\nlayer 1: ffn=8/64:56-63\nlayer 2: ffn=32/64:32-63\n"
           "layer 3: ffn=48/64:16-63\n");
    end();
    begin("ffn", "step=32,min=64,zero=true", 2, 128);       /* 0, 64, 96, 128 */
    ck_assert(gene(0)->max == 3);
    genome[0].integer = 1;
    expect("layer 0: ffn=64/128:64-127\n");
    end();
}
END_TEST

START_TEST(one_gene_for_all)
{
    begin("ffn", "uniform=true,levels=[0.733333],multiple=1", 2, 150);
    ck_assert_uint_eq(genes(), 1);
    ck_assert_str_eq(gene(0)->name, "ffn");
    genome[0].integer = 0;
    expect("layer 0: ffn=110/150:40-149\nlayer 1: ffn=110/150:40-149\n"
           "layer 2: ffn=110/150:40-149\nlayer 3: ffn=110/150:40-149\n"
           "layer 4: ffn=110/150:40-149\n");
    end();
}
END_TEST

START_TEST(neighbours_share_a_gene)
{
    begin("ffn", "group=2,first=1,step=50,multiple=50", 2, 150);    /* 1 2, 3 4 */
    ck_assert_uint_eq(genes(), 2);
    ck_assert_str_eq(gene(0)->name, "ffn[1]");
    ck_assert_str_eq(gene(1)->name, "ffn[3]");
    ck_assert_int_eq(gene(1)->site.layer, 3);
    value_of("ffn[1]")->integer = 100;
    value_of("ffn[3]")->integer = 50;
    expect("layer 1: ffn=100/150:50-149\nlayer 2: ffn=100/150:50-149\n"
           "layer 3: ffn=50/150:100-149\nlayer 4: ffn=50/150:100-149\n");
    end();
}
END_TEST

START_TEST(the_stream_gets_narrower)
{
    const struct lm_pruner *ops;

    begin("hidden", "multiple=8,min=0.3", 2, 64);       /* of 32: 16, 24, 32 */
    ops = pruner.ops;
    ck_assert_uint_eq(ops->ranks(pruner.opt.config), LM_BIT(LM_SITE_HIDDEN));
    ck_assert(genes() == 1 && gene(0)->min == 16 && gene(0)->step == 8);
    ck_assert_str_eq(gene(0)->name, "hidden");
    expect("");
    genome[0].integer = 24;
    expect("model: hidden=24/32:8-31\n");
    end();
    begin("hidden", "multiple=8,levels=[0.5,0.1,1],rank=false", 2, 64);
    ops = pruner.ops;
    ck_assert_uint_eq(ops->ranks(pruner.opt.config), 0);
    ck_assert(gene(0)->min == 0 && gene(0)->max == 2);
    expect("");
    genome[0].integer = 0;                              /* at least one unit */
    expect("model: hidden=8/32:0-7\n");
    end();
    begin("hidden", "multiple=5,min=20", 2, 64);        /* 20, 25, 30, 32 */
    ck_assert(gene(0)->max == 3);
    genome[0].integer = 1;
    expect("model: hidden=25/32:7-31\n");
    end();
}
END_TEST

START_TEST(no_narrower_stream_is_an_error)
{
    const struct toy t = { .n_layer = 1, .n_head = 2, .n_kv = 2, .n_ff = 8 };

    model = toy_model(&t);
    inst_load(&pruner, "pruners", "hidden");
    ck_assert_int_eq(inst_create(&pruner, "multiple=64", model, NULL, &e), LM_ECONFIG);
    ck_assert_int_eq(inst_create(&pruner, "levels=[0]", model, NULL, &e), LM_ECONFIG);
    dlclose(pruner.dl);
    lm_model_free(model);
}
END_TEST

START_TEST(senseless_options_are_refused)
{
    static const char *const bad[] = { "step=48", "levels=[0.5,0]", "levels=[1.5]",
                                       "step=0" };

    inst_load(&pruner, "pruners", "ffn");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(inst_create(&pruner, bad[i], NULL, NULL, &e) == LM_ECONFIG,
                      "accepted: %s", bad[i]);
    dlclose(pruner.dl);
}
END_TEST

static void vary(const struct lm_space *s)
{
    genome[1].integer = genome[1].integer == 96 ? 32 : 1;
    genome[0].integer = lm_space_slots(s) == 1 ? 1 : genome[0].integer;
}

START_TEST(memory_may_run_out)
{
    static const char *const names[] = { "layers", "blocks", "kv_groups", "ffn", "heads",
                                         "depth" };

    rig_starve(names, 6, &(struct toy){ .n_layer = LAYERS, .n_head = 4, .n_kv = 2,
                                        .n_ff = 96 }, (struct rig_life){ "", vary });
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pruners");
    TCase *t = tcase_create("pruners");

    tcase_add_test(t, layers_go);
    tcase_add_test(t, blocks_go);
    tcase_add_test(t, groups_go_by_score);
    tcase_add_test(t, groups_go_alike);
    tcase_add_test(t, groups_are_searched);
    tcase_add_test(t, heads_go_by_score);
    tcase_add_test(t, least_blocks_go_first);
    tcase_add_test(t, widths_lie_on_steps);
    tcase_add_test(t, widths_off_the_multiple);
    tcase_add_test(t, widths_from_a_list);
    tcase_add_test(t, one_gene_for_all);
    tcase_add_test(t, neighbours_share_a_gene);
    tcase_add_test(t, the_stream_gets_narrower);
    tcase_add_test(t, no_narrower_stream_is_an_error);
    tcase_add_test(t, senseless_options_are_refused);
    tcase_add_test(t, memory_may_run_out);
    suite_add_tcase(s, t);
    return run_suites(&s, 1);
}
