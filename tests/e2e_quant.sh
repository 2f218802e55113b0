#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Number formats as genes: what is refused, with its line; what is judged is what
# is written; sizes are those of the file; every search finds its way.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
mkdir -p mine/formats/.libs
cp "$LAMINA_BUILDDIR"/tests/plugins/plain.la mine/formats/
cp "$LAMINA_BUILDDIR"/tests/plugins/.libs/plain.so mine/formats/.libs/
LAMINA_PLUGIN_PATH=$tmp/mine:$LAMINA_PLUGIN_PATH
head -c 30000 "$tiny/test.txt" >half.txt    # the pipeline's slice begins so, too
small_pipeline | sed 's/{ use = "size"; }/{ use = "size"; }, { use = "perplexity"; text = "search"; window = 128; windows = 4; }/
    s/path = "\(.*\)test.txt"; part = \[0.0, 0.5\]/path = "half.txt"/; /^final/d; s/body_params/bytes/
    s/{ use = "kv_groups"; min = 1; }, //; s/pick = "knee"/pick = "best"/; s/budget = 40/budget = 24/
    /^repair/a quantize = ( { use = "int8"; },\
    { use = "int4"; symmetric = false; weigh = true; } );' >q.cfg
report() { "$json_get" "$1/report.json" "$2"; }

# ---- what is refused ---------------------------------------------------------------
ok "it is sound" prints sound check q.cfg
ok "defaults are written out" prints 'per = "layer"' check q.cfg --effective
hf='export=( { use = "hf"; } )'
ok "a folder of Hugging Face has no place for them" \
    says 2 "error: export: format 'hf' cannot write matrices in number formats of their own, which quantize.0. \\(int8\\)" \
    check q.cfg --set "$hf"
ok "run refuses what check refuses" says 2 "quantize.0. .int8." run q.cfg --set "$hf"
ok "and makes no folder" test ! -e r
ok "nor has a format that does not know of them" says 2 "'plain' cannot write matrices" \
    check q.cfg --set 'export=( { use = "plain"; } )'
ok "per is one for all" says 2 '^q.cfg:1[0-9]: error: quantize.1.: per is "layer", but "role" in quantize' \
    check q.cfg --set 'quantize[0].per=role'
ok "names of formats go into plans" says 2 'quantize.0.: id: expected a string of at most 31 letters' \
    check q.cfg --set 'quantize[0].id="a b"'
ok "'none' is taken" says 2 "'none' cannot be the id" check q.cfg --set 'quantize[0].id=none'
ok "an id is used once" says 2 "the name 'int8' is used twice" check q.cfg --set 'quantize[1].id=int8'
ok "unknown quantizer" says 2 "quantize: no quantizer 'int9'.*available: int4 int8" check q.cfg --set 'quantize[0].use=int9'
ok "unknown option" says 2 "quantize.0. \\(int8\\).*'group'" check q.cfg --set 'quantize[0].group=64'
ok "a group of 48" says 2 "group = 48 is none of 32, 64, 128" check q.cfg --set 'quantize[1].group=48'
ok "options are no genes" says 2 "cannot be searched" check q.cfg --set 'quantize[1].group={ min = 32; max = 64; }'
sed '/^  calibration/d; s/use = "wanda"/use = "magnitude"/; s/least_squares/none/' q.cfg >w.cfg
ok "weighing needs a calibration text" says 2 'quantizers need calibration text' check w.cfg
ok "without weighing there is no need" prints sound check w.cfg --set 'quantize[1].weigh=false'
ok "widths are whole blocks" says 2 "quantize.0. \\(int8\\): q8_0 needs FFN widths in multiples of 32, but gene ffn.0. can make" \
    run q.cfg --set 'prune=( { use = "ffn"; step = 16; multiple = 16; } )'
rm -rf r
ok "without pruner or quantizer there is nothing" says 2 'nothing to search' \
    check q.cfg --set 'prune=()' --set 'quantize=()'
ok "help tells of it" prints 'per.*model \| role \| layer \| matrix' help pipeline

# ---- what is judged is what is written -----------------------------------------------
search="text=half.txt,window=128,windows=4"
as_measured()   # RUN TRIAL FILE: nats of the file and of the trial
{
    near "$(metric perplexity.nats "$3" "perplexity:$search")" \
        "$(report "$1" "trials/$2/metrics/perplexity.nats/value")" 1e-6
}
for per in model role layer matrix; do
    ok "a run, per $per" exits 0 run q.cfg --set run.out=$per --set "quantize[0].per=$per" \
        --set "quantize[1].per=$per"
    for id in 0 7 19; do
        exits 0 export $per $id $per$id.gguf --dtype f32 >/dev/null
        ok "per $per: trial $id measures as its file" as_measured $per $id $per$id.gguf
    done
done
quantized() { grep -o 'int[48]/q[48]_[01]' "$1/report.json" | sort -u | tr '\n' ' '; }
ok "both formats were tried" same "$(quantized matrix)" "int4/q4_1 int8/q8_0 "
exits 0 export layer 19 folder --format hf --dtype f32 >/dev/null
ok "a folder gets the values" as_measured layer 19 folder
ok "and the user is told" says 0 'no place for the plan.s number formats' \
    export layer 7 folder7 --format hf --dtype f16

# ---- without pruners; searches ---------------------------------------------------------
only='prune=()'
for s in '{ use = "random"; budget = 20; }' '{ use = "lagrangian"; budget = 120; }' \
    '{ use = "nsga2"; population = 8; budget = 24; }'; do
    name=$(echo "$s" | sed 's/.*use = "\([a-z0-9]*\)".*/\1/')
    ok "$name searches formats alone" exits 0 run q.cfg --set run.out="only-$name" --set "$only" \
        --set "search=$s" --set 'constraints=( { metric = "size.bytes"; share = 0.5; } )'
    best=$(report "only-$name" best)
    share=$(calc "$(report "only-$name" "trials/$best/metrics/size.bytes/value") / $(report "only-$name" trials/0/metrics/size.bytes/value)")
    ok "$name: the best is within the bound" less "$share" 0.5000001
done
ok "a scorer that has nothing to rank is no hindrance" exits 0 run q.cfg --set run.out=idle \
    --set "$only" --set 'quantize[1].weigh=false' --set search.budget=8
loss() { report "only-$1" "trials/$(report "only-$1" best)/metrics/kl.nats/value"; }
ok "lagrangian finds no worse than random" less "$(loss lagrangian)" "$(calc "$(loss random) * 1.0001")"

# ---- resuming --------------------------------------------------------------------------
cp -r layer again
ok "a finished run is replayed" exits 0 run --resume again
ok "to the same trials" same "$(trials layer/report.json)" "$(trials again/report.json)"
finish
