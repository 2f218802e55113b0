#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Scorers, heads, memory and csv as a user meets them: each scorer beats chance,
# models with fewer query heads measure as files as they did in the search.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
small_pipeline >small.cfg
report() { "$json_get" "$1/report.json" "$2"; }

# ---- scorers of channels: half of each MLP, without repair ---------------------------
cat >one.cfg <<'END'
base = "small.cfg";
prune = ( { use = "ffn"; uniform = true; levels = [0.5, 1.0]; } );
search: { use = "random"; budget = 8; };
repair: { use = "none"; };
report = ( { use = "json"; } );
export = ( );
final = ( );
END
sed -i 's/population = 8; //' small.cfg     # random has none
# smaller RUN: kl.nats of that of trials 1 and 2 that is smaller
smaller()
{
    "$json_get" "$1/report.json" trials/1/metrics/size.body_params/value \
        trials/2/metrics/size.body_params/value trials/1/metrics/kl.nats/value \
        trials/2/metrics/kl.nats/value | awk '{ v[NR] = $1 }
        END { print (v[1] + 0 < v[2] + 0) ? v[3] : v[4] }'
}
cut()               # cut SCORER [RUN]
{
    lamina run one.cfg --set run.out="${2:-$1}" --set score="( { use = \"$1\"; } )"
    test "$rc" = 0 || { show >&2; return 1; }
    smaller "${2:-$1}"
}
chance=$(cut random)
for scorer in activation flap inverse_hessian; do
    ok "$scorer is better than chance" less "$(cut $scorer)" "$(calc "0.8 * $chance")"
done
ok "chance is the same again" same "$chance" "$(cut random twice)"
ok "another seed, other channels" exits 0 run one.cfg --set run.out=again \
    --set 'score=( { use = "random"; seed = 1; } )'
other() { echo "$chance, $(smaller again)"; test "$(smaller again)" != "$chance"; }
ok "and another loss" other
ok "a scorer of blocks cannot rank channels" says 2 'no scorer' run one.cfg \
    --set run.out=none --set 'score=( { use = "cka"; } )'

# ---- scorers of blocks: the least MLP goes --------------------------------------------
# depth SCORER: mean of kl.nats over all depths
depth()
{
    lamina run one.cfg --set run.out="d$1" --set score="( { use = \"$1\"; } )" \
        --set 'prune=( { use = "depth"; unit = "mlp"; first = 0; last = 0; min = 3; } )' \
        --set search.budget=16
    test "$rc" = 0 || { show >&2; return 1; }
    for i in 1 2 3; do report "d$1" trials/$i/metrics/kl.nats/value; done |
        awk '{ s += $1 } END { print s / NR }'
}
cka=$(depth cka)
ok "cka is better than chance" less "$cka" "$(depth random)"
ok "and not far from block_influence" less "$cka" "$(calc "2 * $(depth block_influence)")"
ok "depths are nested plans" grep -q 'mlp=none' dcka/report.json
# of layers it wants no statistics but those, though the repair would want more of MLPs
small()
{
    XDG_CACHE_HOME=$tmp/layers "$LAMINA" run one.cfg --set run.out=dlayer \
        --set 'score=( { use = "cka"; } )' --set 'repair={ use = "least_squares"; }' \
        --set 'prune=( { use = "depth"; first = 0; last = 0; } )' --set search.budget=2 ||
        return 1
    bytes=$(cat layers/lamina/stats-* | wc -c)
    less 0 "$bytes" && less "$bytes" 10000
}
ok "depth of layers measures no more than layers" small

# ---- query heads ---------------------------------------------------------------------
cat >heads.cfg <<'END'
base = "small.cfg";
prune = ( { use = "heads"; }, { use = "kv_groups"; }, { use = "ffn"; step = 64; } );
search: { use = "random"; budget = 12; };
evaluate = ( { use = "kl"; text = "search"; window = 128; windows = 4; }, { use = "size"; },
             { use = "memory"; context = 1024; tokens = 64; },
             { use = "perplexity"; text = "search"; window = 128; windows = 4; } );
report = ( { use = "json"; }, { use = "csv"; } );
final = ( );
END
head -c 30000 "$tiny/test.txt" >half.txt    # the pipeline's slice begins so, too
ok "heads, groups and channels together" exits 0 run heads.cfg --set run.out=h \
    --set 'data.search={ path = "half.txt"; }'
search="text=half.txt,window=128,windows=4"
as_measured()   # RUN TRIAL FILE: nats of the file and of the trial
{
    near "$(metric perplexity.nats "$3" "perplexity:$search")" \
        "$(report "$1" "trials/$2/metrics/perplexity.nats/value")" 1e-5
}
n=0
for id in 3 6 11; do
    report h trials/$id/plan | grep -q 'heads=' && n=$((n + 1))
    exits 0 export h $id h$id.gguf --dtype f32 >/dev/null
    exits 0 export h $id h$id --format hf --dtype f32 >/dev/null
    exits 0 export h $id p$id --format hf:pad=true --dtype f32 >/dev/null
    ok "trial $id measures as its GGUF file" as_measured h $id h$id.gguf
    ok "trial $id measures as its folder" as_measured h $id h$id
    ok "trial $id measures as its padded folder" as_measured h $id p$id
    ok "trial $id takes the memory that its file says" same \
        "$(metric memory.cache_bytes h$id.gguf memory:context=1024,tokens=64)" \
        "$(report h trials/$id/metrics/memory.cache_bytes/value)"
    rm -rf h$id h$id.gguf p$id
done
ok "they have fewer query heads" less 2 "$n"
# 6 layers * 2 * 2 groups * 16 * 2 bytes for a token; weights as exported; 768 logits;
# 96 + 96 + 256 + 256 + 32 + 96 floats for a row
ok "memory of the dense model" same "$(report h trials/0/metrics/memory.bytes/value)" \
    "$(calc "$(report h trials/0/metrics/size.bytes/value) + 1024 * 768 + 64 * 4 * 832 + 4 * 768")"
ok "report.csv has a line for each trial" same "$(grep -c "$(printf '\r')" h/report.csv)" \
    "$(($(grep -c '^ {"id"' h/report.json) + 1))"
ok "and names the metrics" grep -q '^id,status,.*,kl.nats,kl.nats error,' h/report.csv

# even: a stock llama with fewer heads
ok "one number for all layers" exits 0 run heads.cfg --set run.out=even \
    --set 'data.search={ path = "half.txt"; }' --set 'prune=( { use = "heads"; uniform = true; } )'
exits 0 export even 2 even.gguf --dtype f32 >/dev/null
exits 0 export even 2 even2 --format hf --dtype f32 >/dev/null
ok "is a stock model" grep -q '"model_type": "llama"' even2/config.json
ok "with fewer heads in each group" grep -Eq '"num_attention_heads": [24],' even2/config.json
ok "it measures as its GGUF file" as_measured even 2 even.gguf
ok "and as its folder" as_measured even 2 even2
sed 's/use = "gguf"/use = "plain"/' small.cfg >plain.cfg
mkdir -p mine/formats/.libs
cp "$LAMINA_BUILDDIR"/tests/plugins/plain.la mine/formats/
cp "$LAMINA_BUILDDIR"/tests/plugins/.libs/plain.so mine/formats/.libs/
LAMINA_PLUGIN_PATH=$tmp/mine:$LAMINA_PLUGIN_PATH
ok "a format of equal layers is refused before the search" \
    says 2 'plain.*different head counts of this model.*\(heads\)' run plain.cfg \
    --set run.out=refused --set 'prune=( { use = "heads"; } )'
ok "unless all layers go alike" exits 0 check plain.cfg \
    --set 'prune=( { use = "heads"; uniform = true; } )'
ok "KV groups, too" exits 0 check plain.cfg \
    --set 'prune=( { use = "kv_groups"; uniform = true; } )'
# keys and values stay, so o_proj alone makes up for what went
lost() { report "$1" "trials/$2/metrics/kl.nats/value"; }
ok "without repair" exits 0 run heads.cfg --set run.out=bare \
    --set 'data.search={ path = "half.txt"; }' --set repair.use=none \
    --set 'prune=( { use = "heads"; uniform = true; } )'
helped=0
for i in 1 2; do
    report bare "trials/$i/plan" | grep -q heads= || continue      # the model as it is
    ok "trial $i: least squares behind fewer heads helps" \
        less "$(lost even $i)" "$(calc "0.9 * $(lost bare $i)")"
    helped=$((helped + 1))
done
ok "in some trial" less 0 $helped
finish
