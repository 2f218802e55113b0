#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Repair that makes biases: refused before anything is read where the export
# holds none, measured as it is written where it does.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
mkdir -p mine/formats/.libs
cp "$LAMINA_BUILDDIR"/tests/plugins/plain.la mine/formats/
cp "$LAMINA_BUILDDIR"/tests/plugins/.libs/plain.so mine/formats/.libs/
LAMINA_PLUGIN_PATH=$tmp/mine:$LAMINA_PLUGIN_PATH
small_pipeline >small.cfg

# ---- what the export cannot hold -------------------------------------------------
plain='export=( { use = "plain"; } )'
sed 's/use = "gguf"/use = "plain"/' small.cfg >plain.cfg
ok "without biases it is sound" prints sound check plain.cfg
ok "the bias repair needs a format with biases" \
    says 2 '^plain.cfg:17: error: .*plain.*biases of o_proj.*repair \(bias\)' \
    check plain.cfg --set 'repair={ use = "bias"; }'
sed 's/^repair.*/repair: { use = "least_squares"; bias = true; };/' plain.cfg >affine.cfg
ok "and so does affine least squares" \
    says 2 '^affine.cfg:17: error: .*biases of o_proj.*least_squares' check affine.cfg
sed 's/{ use = "kv_groups"; min = 1; }, //' affine.cfg >mlp.cfg
ok "where only MLPs are cut, it is their bias" says 2 'biases of down_proj' check mlp.cfg
ok "run refuses what check refuses" says 2 '^affine.cfg:17: ' run affine.cfg
ok "and makes no folder" test ! -e r
# heads of a plain llama, but not of this model: known when the model is open
ok "what depends on the model is refused before the search" \
    says 2 '^plain.cfg:17: error: .*different head counts of this model.*kv_groups' \
    run plain.cfg --set run.out=p
ok "without a trial" test ! -e p/study.db -o ! -s p/report.json

# ---- what was measured is what was written ---------------------------------------
search="text=half.txt,window=128,windows=4"
head -c 30000 "$tiny/test.txt" >half.txt    # the pipeline's slice begins so, too
sed 's/{ use = "size"; }/{ use = "size"; }, '\
'{ use = "perplexity"; text = "search"; window = 128; windows = 4; }/
    s/path = "\(.*\)test.txt"; part = \[0.0, 0.5\]/path = "half.txt"/; /^final/d
    s/budget = 40/budget = 24/' small.cfg >judged.cfg
as_measured()   # RUN TRIAL FILE: nats of the file and of the trial
{
    near "$(metric perplexity.nats "$3" "perplexity:$search")" \
        "$(report "$1" "trials/$2/metrics/perplexity.nats/value")" 1e-5
}
report() { "$json_get" "$1/report.json" "$2"; }
for repair in bias affine; do
    case $repair in
    bias) set -- --set 'repair={ use = "bias"; }' ;;
    affine) set -- --set 'repair={ use = "least_squares"; bias = true; }' ;;
    esac
    # uneven layers: deci
    ok "a run with repair $repair" exits 0 run judged.cfg --set run.out=$repair "$@"
    for id in 0 9 23; do
        exits 0 export $repair $id $repair$id.gguf --dtype f32 >/dev/null
        ok "$repair: trial $id measures as its GGUF file" as_measured $repair $id \
            $repair$id.gguf
    done
    ok "$repair: the size is that of the file" same \
        "$(metric size.params $repair"9.gguf" size)" \
        "$(report $repair trials/9/metrics/size.params/value)"
    # even layers: llama, and a stock folder
    ok "an even run with repair $repair" exits 0 run judged.cfg \
        --set run.out=even-$repair --set 'prune=( { use = "ffn"; uniform = true; '\
'levels = [0.25, 0.5, 0.75, 1.0]; } )' \
        --set 'search={ use = "random"; budget = 4; }' "$@"
    for id in 1 2 3; do
        exits 0 export even-$repair $id e$id.gguf --dtype f32 >/dev/null
        exits 0 export even-$repair $id e$id --format hf --dtype f32 >/dev/null
        ok "$repair: even trial $id measures as its GGUF file" as_measured even-$repair \
            $id e$id.gguf
        ok "$repair: even trial $id measures as its folder" as_measured even-$repair $id \
            e$id
        # trial 1 is the model as it is
        ok "and config.json says so" grep -q \
            "\"mlp_bias\": $(test $id -gt 1 && echo true || echo false)" e$id/config.json
        rm -rf e$id e$id.gguf
    done
done
ok "export names what a format cannot hold" says 2 'plain.*trial 9' export bias 9 x \
    --format plain

# ---- it helps ---------------------------------------------------------------------
# All FFNs cut to half: divergence without repair, with a bias alone, affine.
half()
{
    lamina run judged.cfg --set run.out="h$1" --set "repair={ use = \"$2\"; $3 }" \
        --set 'prune=( { use = "ffn"; uniform = true; levels = [0.5, 1.0]; } )' \
        --set 'search={ use = "random"; budget = 8; }' --set 'export=( )'
    test "$rc" = 0 || { show >&2; return 1; }
    "$json_get" "h$1/report.json" trials/1/metrics/size.body_params/value \
        trials/2/metrics/size.body_params/value trials/1/metrics/kl.nats/value \
        trials/2/metrics/kl.nats/value | awk '{ v[NR] = $1 }
        END { print (v[1] + 0 < v[2] + 0) ? v[3] : v[4] }'
}
none=$(half 1 none)
flap=$(half 2 bias)
affine=$(half 3 least_squares 'bias = true;')
ok "affine least squares helps" less "$affine" "$(calc "0.5 * $none")"
ok "far more than biases alone" less "$affine" "$(calc "0.5 * $flap")"
finish
