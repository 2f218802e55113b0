#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A narrower residual stream, from the pipeline file to what was exported: measured
# as it is written, in both formats, with other cuts, repair and number formats.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"

search="text=half.txt,window=128,windows=4"
head -c 30000 "$tiny/test.txt" >half.txt
cat >hidden.cfg <<END
lamina = 1;
run: { name = "hidden"; seed = 3; threads = 2; out = "r"; };
model: { path = "$tiny"; };
data: {
  calibration: { path = "$tiny/calibration.txt"; sequences = 16; length = 128; };
  search: { path = "half.txt"; };
};
score = ( { use = "magnitude"; } );
prune = ( { use = "hidden"; multiple = 8; } );
repair: { use = "none"; };
evaluate = ( { use = "kl"; text = "search"; window = 128; windows = 4; }, \
{ use = "size"; }, { use = "perplexity"; text = "search"; window = 128; windows = 4; } );
objectives = ( { metric = "kl.nats"; }, { metric = "size.body_params"; } );
search: { use = "random"; budget = 4; };
report = ( { use = "json"; } );
export = ( { use = "gguf"; dtype = "f16"; } );
END
report() { "$json_get" "$1/report.json" "$2"; }
as_measured()   # RUN TRIAL FILE: nats of the file and of the trial
{
    near "$(metric perplexity.nats "$3" "perplexity:$search")" \
        "$(report "$1" "trials/$2/metrics/perplexity.nats/value")" 1e-5
}
# both formats say what was measured, and how large it is
check_exports() # RUN TRIAL
{
    exits 0 export "$1" "$2" x.gguf --dtype f32 >/dev/null
    exits 0 export "$1" "$2" x --format hf --dtype f32 >/dev/null
    ok "$1: trial $2 measures as its GGUF file" as_measured "$1" "$2" x.gguf
    ok "$1: trial $2 measures as its folder" as_measured "$1" "$2" x
    test "$1" = c ||                    # a stock folder has all biases if it has one
        ok "$1: trial $2 has the parameters of its folder" same "$(metric size.params x \
            size)" "$(report "$1" "trials/$2/metrics/size.params/value")"
    rm -rf x x.gguf
}

# ---- channels ----------------------------------------------------------------------
ok "without a text it is sound" prints sound check hidden.cfg
ok "a run" exits 0 run hidden.cfg
for id in 2 3; do
    check_exports r $id
done
exits 0 export r 2 x --format hf --dtype f32 >/dev/null
ok "the folder says how wide it is" grep -Eq '"hidden_size": (48|56|64|72|80|88),' \
    x/config.json
ok "and stays tied" grep -q '"tie_word_embeddings": true' x/config.json
rm -rf x
ok "scores by activations need the text" exits 0 run hidden.cfg --set run.out=a \
    --set 'score=( { use = "activation"; } )'
ok "which matters" test "$(report a trials/2/metrics/kl.nats/value)" \
    != "$(report r trials/2/metrics/kl.nats/value)"
ok "one that cannot score channels is refused" says 2 \
    '^hidden.cfg:9: error: .*hidden.* ranks hidden channels' check hidden.cfg \
    --set 'score=( { use = "wanda"; } )'
ok "widths must fit the number format" says 2 'multiples of 32' run hidden.cfg \
    --set run.out=q --set 'export=( { use = "gguf"; dtype = "q8_0"; } )'

# ---- directions --------------------------------------------------------------------
directions='prune=( { use = "hidden"; multiple = 8; rank = false; } )'
ok "without directions or importance nothing says what stays" says 2 \
    "prune\[0\] \(hidden\) does not rank .* repair 'none' has no basis" check hidden.cfg \
    --set "$directions" --set 'repair={ use = "none"; }'
ok "a run with directions" exits 0 run hidden.cfg --set run.out=d --set "$directions" \
    --set 'score=( )' --set 'repair={ use = "pca"; }'
for id in 2 3; do
    check_exports d $id
done
exits 0 export d 2 x --format hf --dtype f32 >/dev/null
ok "a tied model gets a head" grep -q '"tie_word_embeddings": false' x/config.json
rm -rf x
ok "they lose less than channels" less "$(report d trials/2/metrics/kl.nats/value)" \
    "$(report a trials/2/metrics/kl.nats/value)"
ok "those of each block cannot be exported" \
    says 2 '^hidden.cfg:15: error: .*gguf.*turn the residual stream.*repair \(pca\)' \
    check hidden.cfg --set "$directions" --set 'score=( )' \
    --set 'repair={ use = "pca"; per_block = true; }'
ok "but run and measured" exits 0 run hidden.cfg --set run.out=t --set "$directions" \
    --set 'score=( )' --set 'repair={ use = "pca"; per_block = true; }' \
    --set 'export=( )'
ok "they too lose less than channels" less "$(report t trials/2/metrics/kl.nats/value)" \
    "$(report a trials/2/metrics/kl.nats/value)"
ok "export refuses one of them" says 2 'turn the residual stream|no format can hold' \
    export t 2 x.gguf
ok "without narrowing nothing is turned" prints sound check hidden.cfg \
    --set 'prune=( { use = "ffn"; } )' --set 'score=( { use = "magnitude"; } )' \
    --set 'data.calibration={ path = "half.txt"; }' \
    --set 'repair={ use = "pca"; per_block = true; }'
ok "a range is not searched in a repair of columns" says 2 'range is not searched' \
    check hidden.cfg --set "$directions" --set 'repair={ use = "pca"; columns = ( { '\
'use = "least_squares"; lambda = { min = 0.001; max = 0.1; }; } ); }'

# ---- with all the rest --------------------------------------------------------------
all="prune=( { use = \"hidden\"; multiple = 32; }, { use = \"blocks\"; first = 0; \
last = 0; }, { use = \"kv_groups\"; min = 1; }, { use = \"ffn\"; step = 32; } )"
ok "with blocks, heads, channels, repair and formats" exits 0 run hidden.cfg \
    --set run.out=b --set 'score=( { use = "activation"; } )' --set "$all" \
    --set 'repair={ use = "least_squares"; }' --set 'search={ use = "random"; budget = 8; }' \
    --set 'quantize=( { use = "int8"; } )'
for id in 6 8; do
    check_exports b $id
done
ok "with directions, and affine least squares of columns" exits 0 run hidden.cfg \
    --set run.out=c --set 'score=( { use = "activation"; } )' --set "$all" --set 'repair={ '\
'use = "pca"; columns = ( { use = "least_squares"; bias = true; } ); }' \
    --set 'search={ use = "random"; budget = 8; }' --set 'quantize=( { use = "int8"; } )'
for id in 6 8; do
    check_exports c $id
done
finish
