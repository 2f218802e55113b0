#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A search over the tiny model from pipeline to exported models: the same seed
# gives the same trials, what is written is what was measured, and the parts do
# what they are for.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
small_pipeline >small.cfg
run() { lamina run small.cfg "$@"; show; test "$rc" = 0; }
report() { "$json_get" "$1/report.json" "$2"; }

# ---- a run and what it leaves ----------------------------------------------------
ok "run" run
cp "$tmp/out" table.txt
for f in report.json report.html export/knee-f16.gguf; do
    ok "the run folder holds $f" test -s r/$f
done
ok "report.json is one document" "$json_get" r/report.json
ok "the table is printed" grep -q 'kl.nats' table.txt
ok "the table marks the best trial" grep -q '\*  *[0-9]' table.txt
ok "the first trial is the dense model" same \
    "$(report r trials/0/metrics/size.body_params/value)" 589824
ok "its divergence from itself is nothing" less \
    "$(report r trials/0/metrics/kl.nats/value)" 1e-5
ok "all trials are there" less 40 "$(report r 'trials/#')"
on_front()
{
    n=$("$json_get" r/report.json 'front/#') best=$(report r best) i=0
    while test $i -lt "$n"; do
        test "$(report r front/$i)" = "$best" && return 0
        i=$((i + 1))
    done
    echo "best is trial $best, which is not on the front"
    return 1
}
ok "the best trial is on the front" on_front
with_protocol()
{
    n=$(report r 'metrics/#') i=0
    while test $i -lt "$n"; do
        test -n "$(report r metrics/$i/protocol)" ||
            { report r metrics/$i/name; return 1; }
        i=$((i + 1))
    done
}
ok "every metric has its protocol in the report" with_protocol
ok "final metrics of finalists are in the report" report r \
    "trials/$(report r best)/metrics/perplexity.ppl/value"
no_network()
{
    ! grep -Eoi '(src|href)="?(https?:)?//[^ ">]*|@import|url\(http' r/report.html
}
ok "the HTML report loads nothing" no_network
ok "the HTML report has the model's hash" grep -q "$(report r model_hash)" r/report.html
ok "a second run into the folder is refused" says 2 'resume' run small.cfg
ok "a finished run can be resumed" exits 0 run --resume r
ok "the trials of it are as before" test "$(report r 'trials/#')" = 41

# ---- texts that share passages ------------------------------------------------------
ok "texts that share nothing are not warned of" test "$(report r notes)" = null
small_pipeline | sed 's|out = "r"|out = "overlap"|; s|budget = 40|budget = 4|
    s|part = \[0.5, 1.0\]|part = [0.25, 0.75]|' >overlap.cfg
lamina run overlap.cfg
ok "a final text that was searched on is told" grep -q \
    "[45][0-9.]* % of the final text 'final' also stands in the search text 'search'" "$tmp/err"
ok "the report says so" grep -q "also stands in the search text" overlap/report.html
ok "so does the one for programs" sh -c "'$json_get' overlap/report.json notes |
    grep -q 'also stands in'"

# ---- where calibration sequences start ---------------------------------------------
# The first two outputs of mt19937 for seed 5489, from the C++ standard: what `seed`
# draws, named with `starts`.
ok "a start behind the text" says 3 'data.calibration: starts: 9999999 and 128 tokens' \
    run small.cfg --set run.out=behind --set 'data.calibration.starts=[0, 9999999]'
room=$(($(sed -n 's/.*beyond the \([0-9]*\) tokens.*/\1/p' "$tmp/err") - 128 - 1))
sampled()           # sampled RUN SETTING...: trials of a run on some calibration
{
    folder=$1
    shift
    for set in "$@"; do set -- "$@" --set "data.calibration.$set"; shift; done
    run --set run.out="$folder" --set search.budget=4 "$@" >&2 &&
        trials "$folder/report.json"
}
drawn=$(sampled drawn seed=5489 sequences=2)
ok "starts can be named" same "$(sampled named \
    "starts=[$((3499211612 % room)), $((581869302 % room))]" | md5sum)" \
    "$(echo "$drawn" | md5sum)"
shifted() { test "$(sampled shifted 'starts=[0, 128]')" != "$drawn"; }
ok "other starts, other trials" shifted

# ---- determinism -----------------------------------------------------------------
trials r/report.json >first.txt
ok "run again" run --set run.out=again
trials again/report.json >again.txt
ok "the same seed finds the same" cmp first.txt again.txt
ok "one thread" run --set run.out=one --set run.threads=1
trials one/report.json >one.txt
ok "threads change nothing" cmp first.txt one.txt
ok "exported files are the same, byte for byte" cmp r/export/knee-f16.gguf \
    one/export/knee-f16.gguf
ok "another seed" run --set run.out=other --set run.seed=4
trials other/report.json >other.txt
nok "another seed finds other trials" cmp first.txt other.txt

# ---- inspect, report, export -----------------------------------------------------
ok "inspect a run" prints '41 trials' inspect r
rm r/report.json r/report.html
ok "report writes the reports again" exits 0 report r
trials r/report.json >later.txt
ok "and they say the same" cmp first.txt later.txt
ok "no run: status 3" says 3 'study' report "$tiny"
ok "no run to export from: status 3" says 3 nowhere export /nowhere best x.gguf
for pick in best knee smallest 7; do
    ok "export $pick" exits 0 export r $pick $pick.gguf --dtype f32
done
for dtype in f16 bf16 q8_0 q4_0 q4_1; do
    ok "export in $dtype" exits 0 export r smallest $dtype.gguf --dtype $dtype
    ok "inspect reads it" prints "$dtype" inspect $dtype.gguf
done
for dtype in f32 f16 bf16; do
    ok "the dense trial as hf in $dtype" exits 0 export r 0 hf-$dtype --format hf \
        --dtype $dtype
done
ok "a model card comes with it" grep -q "$(report r model_hash)" hf-f16/README.md
ok "tokenizer and generation files come along" test -s hf-f16/tokenizer.json -a \
    -s hf-f16/generation_config.json
ok "hf in q8_0 is refused" says 2 q8_0 export r 0 hf-q8 --format hf --dtype q8_0
ok "uneven layers as hf" exits 0 export r knee hf-knee --format hf --dtype f32
ok "they are said to be ours" grep -q '"model_type": "lamina"' hf-knee/config.json
ok "a modelling file comes along" cmp "$LAMINA_SRCDIR/plugins/formats/hf_modeling.py" \
    hf-knee/modeling_lamina.py
ok "filled up with zeros" exits 0 export r knee hf-pad --format hf:pad=true --dtype f32
ok "they are said to be a llama" grep -q '"model_type": "llama"' hf-pad/config.json
nok "without a modelling file" test -e hf-pad/modeling_lamina.py
ok "no such option of a format" says 2 "'pat'" export r knee hf-x --format hf:pat=true
ok "no such trial" says 2 41 export r 41 x.gguf
ok "no such pick" says 2 worst export r worst x.gguf
ok "no such dtype" says 2 'q8_0' export r best x.gguf --dtype q5
ok "a dtype that is only read" says 2 "'q4_k' can be read but not written" \
    export r best x.gguf --dtype q4_k
cp 7.gguf there.gguf
before=$(cksum <there.gguf)
ok "a file that is there is not overwritten" says 2 'exists; --force replaces it' \
    export r 0 there.gguf --dtype f32
ok "it is as it was" same "$(cksum <there.gguf)" "$before"
ok "--force replaces it" exits 0 export r 0 there.gguf --dtype f32 --force
nok "it is another one then" same "$(cksum <there.gguf)" "$before"
mkdir holiday && touch holiday/photo
ok "a folder that is no model stays" says 2 'no model that --force may replace' \
    export r 0 holiday --format hf --force
ok "unwritable place: status 1" says 1 '/proc' export r best /proc/x.gguf

search="text=half.txt,window=128,windows=4"
head -c 30000 "$tiny/test.txt" >half.txt    # the pipeline's slice begins so, too
kept()
{
    metric perplexity.ppl "$1" "perplexity:text=$tiny/test.txt,window=256,windows=2"
}
ok "the dense f32 export measures as the model" near "$(kept hf-f32)" "$(kept "$tiny")" \
    1e-6
ok "an uneven folder measures as the GGUF file" near "$(kept hf-knee)" \
    "$(kept knee.gguf)" 1e-6
ok "a padded one as well" near "$(kept hf-pad)" "$(kept knee.gguf)" 1e-5
less_of() { less "$(metric size.params "$1" size)" "$(metric size.params "$2" size)"; }
ok "though it has more parameters" less_of hf-knee hf-pad
ok "f16 of f16 weights loses nothing" near "$(kept hf-f16)" "$(kept "$tiny")" 1e-6
ok "bf16 is near" near "$(kept hf-bf16)" "$(kept "$tiny")" 5e-3
f32=$(kept smallest.gguf)
for d in f16:1e-3 bf16:1e-2 q8_0:1e-2 q4_0:0.3 q4_1:0.3; do
    ok "${d%:*} is within ${d#*:} of f32" near "$(kept ${d%:*}.gguf)" "$f32" "${d#*:}"
done
body() { metric size.body_params "$1" size; }
for pick in knee smallest 7; do
    case $pick in
    knee) id=$(lamina inspect r; sed -n 's/^ *knee *trial \([0-9]*\).*/\1/p' \
        "$tmp/out") ;;
    smallest) id=$(lamina inspect r; sed -n 's/^ *smallest *trial \([0-9]*\).*/\1/p' \
        "$tmp/out") ;;
    *) id=$pick ;;
    esac
    ok "$pick has the size of its trial" same "$(body $pick.gguf)" \
        "$(report r "trials/$id/metrics/size.body_params/value")"
done
# size.bytes counts what the file holds, header and tokenizer apart
size=$(report r "trials/$(lamina inspect r; sed -n 's/^ *knee *trial \([0-9]*\).*/\1/p' \
    "$tmp/out")/metrics/size.bytes/value")
ok "size.bytes is what the file holds" less "$size" "$(wc -c <r/export/knee-f16.gguf)"
ok "and not much more" less "$(wc -c <r/export/knee-f16.gguf)" "$(calc "$size + 60000")"

# ---- what was exported is in the reports --------------------------------------------
ok "the table names the file" grep -q 'knee-f16.gguf (trial [0-9]*): bytes .* -> ' \
    table.txt
ok "its size on disk" same "$(report r exports/0/written/bytes)" \
    "$(wc -c <r/export/knee-f16.gguf)"
ok "its parameters" same "$(report r exports/0/written/parameters)" \
    "$(report r exports/0/plan/parameters)"
ok "the page has it" grep -q '<h2>Exported</h2>' r/report.html
sed 's/{ use = "size"; }/{ use = "size"; }, '\
'{ use = "latency"; prefill = 16; decode = "2@8"; runs = 2; }/
    s/^export.*/export = ( { use = "hf"; pad = true; file = "padded"; pick = "knee"; } );/
    /^final/d' small.cfg >timed.cfg
ok "a run with times and a padded export" exits 0 run timed.cfg --set run.out=timed \
    --set search.budget=8
for m in prefill_ms decode_ms; do
    ok "$m as planned" less 0 "$(report timed exports/0/plan/latency.$m)"
    ok "$m of the file" less 0 "$(report timed exports/0/written/latency.$m)"
done
ok "padding is told" less "$(report timed exports/0/plan/parameters)" \
    "$(report timed exports/0/written/parameters)"

# ---- what was measured is what was written ---------------------------------------
sed 's/{ use = "size"; }/{ use = "size"; }, '\
'{ use = "perplexity"; text = "search"; window = 128; windows = 4; }/
    s/path = "\(.*\)test.txt"; part = \[0.0, 0.5\]/path = "half.txt"/; /^final/d' \
    small.cfg >judged.cfg
ok "a run with perplexity" exits 0 run judged.cfg --set run.out=judged
for id in 7 20 40; do
    exits 0 export judged $id t$id.gguf --dtype f32 >/dev/null
    ok "trial $id measures as its export" near \
        "$(metric perplexity.nats t$id.gguf "perplexity:$search")" \
        "$(report judged trials/$id/metrics/perplexity.nats/value)" 1e-5
done

# ---- the parts do what they are for ----------------------------------------------
# All FFNs cut to one width, ranked by a scorer: the divergence at 0.75 and 0.5.
cat >one.cfg <<END
lamina = 1;
base = "small.cfg";
prune = ( { use = "ffn"; uniform = true; levels = [0.5, 1.0]; } );
search: { use = "random"; budget = 8; };
repair: { use = "none"; };
export = ( );
END
sed -i 's/population = 8; //' small.cfg     # random has none
cut()           # kl.nats of the trial with half the channels
{
    lamina run one.cfg --set run.out="$1" --set score="( { use = \"$2\"; } )" \
        --set repair.use="$3"
    test "$rc" = 0 || { show >&2; return 1; }
    "$json_get" "$1/report.json" trials/1/metrics/size.body_params/value \
        trials/2/metrics/size.body_params/value trials/1/metrics/kl.nats/value \
        trials/2/metrics/kl.nats/value | awk '{ v[NR] = $1 }
        END { print (v[1] + 0 < v[2] + 0) ? v[3] : v[4] }'
}
mkdir -p mine/scorers
cp "$LAMINA_BUILDDIR"/tests/plugins/reversed.la mine/scorers/ 2>/dev/null
mkdir -p mine/scorers/.libs
cp "$LAMINA_BUILDDIR"/tests/plugins/.libs/reversed.so mine/scorers/.libs/ 2>/dev/null
LAMINA_PLUGIN_PATH=$tmp/mine:$LAMINA_PLUGIN_PATH
wanda=$(cut w wanda none)
magnitude=$(cut m magnitude none)
repaired=$(cut l wanda least_squares)
reversed=$(cut x reversed none)
ok "cutting half of the channels hurts" less 0.01 "$wanda"
ok "a scorer with reversed sign is far worse" less "$(calc "1.5 * $wanda")" "$reversed"
ok "magnitude is better than it, too" less "$magnitude" "$reversed"
ok "least squares repairs" less "$repaired" "$(calc "0.8 * $wanda")"
ok "a plugin of a stranger appears in the list" prints 'reversed' list scorer

# ---- ends that are no success ----------------------------------------------------
small_pipeline | sed 's/budget = 40/budget = 12/; s/pick = "knee"/pick = "best"/' \
    >small.cfg
ok "constraints that no trial meets: status 1" exits 1 run small.cfg --set run.out=none \
    --set 'constraints=( { metric = "size.bytes"; max = 1000; } )'
ok "and it says so" grep -qi 'constraint' "$tmp/err"
ok "how many proposals break one is logged" \
    grep -q 'of 12 proposals 0 could not be built, 12 break a constraint' "$tmp/err"
ok "and reported" same "$(report none proposals/break_constraint)" 12
ok "its trials can be inspected" prints trials inspect none
ok "there is no best to export: status 1" says 1 'constraint' export none best x.gguf
sed -i 's/pick = "best"/pick = "knee"/' small.cfg
ok "the same where the knee is asked for" exits 1 run small.cfg --set run.out=none2 \
    --set 'constraints=( { metric = "size.bytes"; max = 1000; } )'
ok "unwritable run folder: status 1" says 1 '/proc' run small.cfg --set run.out=/proc/none
ok "a text too short for its window: status 3" says 3 'tokens' run small.cfg \
    --set run.out=brief --set data.search.path="\"$tiny/config.json\"" \
    --set 'evaluate[0].window=500'
cp -R "$tiny" gone
chmod -R u+w gone
ok "a run of a copy" run --set run.out=moved --set 'model.path="gone"'
head -c 5000 "$tiny/model.safetensors" >gone/model.safetensors
ok "its model was damaged since: resume says so, status 3" says 3 'gone' \
    run --resume moved
ok "no study: status 3" says 3 'study' run --resume empty
head -c 200 /dev/zero >moved/study.db
ok "a damaged study: status 3" says 3 'moved' inspect moved
ok "a damaged study, resume: status 3" says 3 'moved' run --resume moved

ok "a range of repair without steps: every trial has a setting of its own" exits 0 run small.cfg \
    --set run.out=range --set 'repair={ use = "least_squares"; lambda = { min = 1e-6; max = 0.1; }; }' \
    --set 'search={ use = "random"; budget = 80; }' --set 'evaluate[0].windows=1' \
    --set 'prune=( { use = "ffn"; uniform = true; step = 32; multiple = 32; } )' --set 'final=( )'
nok "and none fails" grep -q '"infeasible"' range/report.json

# ---- cache -----------------------------------------------------------------------
ok "cache list has the statistics" prints 'stats' cache list
ok "cache clear" exits 0 cache clear
ok "then there are none" prints ' 0 files' cache list
finish
