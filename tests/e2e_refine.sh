#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Finalists repaired in sequence: refused where it cannot be, measured as they are
# exported, and never seen by the search.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
tail -c 30000 "$tiny/test.txt" >half.txt
small_pipeline | sed 's/budget = 40/budget = 16/; s/sequences = 16/sequences = 48/
    s/path = "[^"]*"; part = \[0.5, 1.0\]/path = "half.txt"/
    s/dtype = "f16"; pick = "knee"/dtype = "f32"/' >plain.cfg
sequential='refine: { use = "sequential"; };'
sed "s/^evaluate/$sequential\n&/" plain.cfg >refined.cfg
report() { "$json_get" "$1/report.json" "$2"; }

# ---- what is refused -------------------------------------------------------------
ok "a pipeline with it is sound" prints sound check refined.cfg
sed 's/least_squares/sequential/' plain.cfg >wrong.cfg
ok "one of finalists cannot repair the search's candidates" \
    says 2 "^wrong.cfg:11: error: repair: 'sequential' .*refine: \{" check wrong.cfg
sed '/calibration:/d; s/"wanda"/"magnitude"/; s/least_squares/none/' refined.cfg >bare.cfg
ok "it needs a calibration text" says 2 '^bare.cfg:11: .*calibration' check bare.cfg
sed 's/"sequential";/"sequential"; ridge = { min = 0.1; max = 0.3; };/' refined.cfg \
    >searched.cfg
ok "it cannot be searched" says 2 '^searched.cfg:12: .*ridge.*searched' check searched.cfg
sed 's/{ use = "kv_groups"; min = 1; }/{ use = "hidden"; }/' refined.cfg >narrow.cfg
ok "nor go with a narrower residual stream" \
    says 2 '^narrow.cfg:12: .*hidden.*narrower residual stream' check narrow.cfg
ok "nor be a part of the search's repair" says 2 "repair: 'sequential' is for finalists" \
    check plain.cfg --set 'repair={ use = "pca"; columns = ( { use = "sequential"; } ); }'
ok "or of another" says 2 "refine: 'sequential' .* cannot be a part of 'pca'" \
    check plain.cfg --set 'refine={ use = "pca"; columns = ( { use = "sequential"; } ); }'
ok "a model larger than memory is refused before the search" \
    says 2 '^refined.cfg:12: .*run.memory' run refined.cfg --set run.memory=1000000
ok "without a study" test ! -e r/study.db
ok "an estimate counts it" prints '^  refine .* of [0-9]+ trials' run --dry-run refined.cfg

# ---- what it changes --------------------------------------------------------------
ok "a run without" exits 0 run plain.cfg --set run.out=plain
ok "a run with it" exits 0 run refined.cfg --set run.out=refined
best=$(report refined best)
for m in kl.nats size.bytes; do
    all_same() {
        for i in 0 3 7 11 16; do
            same "$(report plain "trials/$i/metrics/$m/value")" \
                "$(report refined "trials/$i/metrics/$m/value")" || return 1
        done
    }
    ok "the search's $m are the same" all_same
done
final() { report "$1" "trials/$best/metrics/perplexity.nats/value"; }
ok "the best trial is the same" same "$(report plain best)" "$(report refined best)"
ok "refined it is another model" test "$(final plain)" != "$(final refined)"
ok "the dense model is the same" same "$(report plain trials/0/metrics/perplexity.nats/value)" \
    "$(report refined trials/0/metrics/perplexity.nats/value)"
ok "the report says what is measured" same yes "$(grep -q \
    'of candidates refined by .sequential' refined/report.json && echo yes)"
ok "and of the other run does not" same no "$(grep -q refined plain/report.json || echo no)"
as_exported()
{
    near "$(metric perplexity.nats "$1" 'perplexity:text=half.txt,window=256,windows=4')" \
        "$(final refined)" 1e-5
}
# A repair of the dense model may wait for the finalists: which trial is best does not
# depend on it where only sizes are compared.
sed 's/{ metric = "kl.nats"; }, //; s/pick = "knee"/pick = "best"/
    s/^evaluate = ( {[^}]*},/evaluate = (/' plain.cfg >sizes.cfg
sed 's/least_squares/none/; s/^evaluate/refine: { use = "least_squares"; };\n&/' \
    sizes.cfg >later.cfg
ok "a run by size" exits 0 run sizes.cfg --set run.out=sizes
ok "one that repairs at the end" exits 0 run later.cfg --set run.out=later
at_last() { report "$1" "trials/$(report "$1" best)/metrics/perplexity.nats/value"; }
ok "repaired late is repaired all the same" same "$(at_last sizes)" "$(at_last later)"
sed '/^refine/d' later.cfg >never.cfg
ok "a run without a repair" exits 0 run never.cfg --set run.out=never
ok "is of another model" test "$(at_last later)" != "$(at_last never)"
ok "the export measures as the finalist did" as_exported refined/export/best-f32.gguf
ok "it can be exported again" exits 0 export refined "$best" again.gguf --dtype f32
ok "the card of a folder says what was measured before" sh -c "'$LAMINA' --quiet export \
    refined $best card --format hf && grep -q '^| kl.nats, before that |' card/README.md &&
    grep -q '^| perplexity.nats |' card/README.md"
ok "to the same bytes" cmp again.gguf refined/export/best-f32.gguf

# ---- what makes no difference -------------------------------------------------------
ok "a run with one thread and a worker" \
    exits 0 run refined.cfg --set run.out=one --set run.threads=1 --set run.workers=1
ok "finds the same" same "$(trials refined/report.json)" "$(trials one/report.json)"
ok "and writes the same" cmp one/export/best-f32.gguf refined/export/best-f32.gguf
ok "resumed, it is finished again" exits 0 run --resume one
ok "with the same result" same "$(trials refined/report.json)" "$(trials one/report.json)"

# ---- a search in int8, confirmed in f32 ---------------------------------------------
for f in plain refined; do
    sed 's/use = "kl"; text/use = "kl"; precision = "int8"; text/' $f.cfg >low.cfg
    ok "a search in int8, $f" exits 0 run low.cfg --set run.out=low-$f
done
confirmed() { trials "low-$1/report.json" | grep -o 'kl_f32.nats[^}]*}'; }
ok "there is something to confirm" less 5 "$(confirmed plain | wc -l)"
ok "what confirms the search is of what the search saw" \
    same "$(confirmed plain)" "$(confirmed refined)"
ok "on the search's own text, which is no overlap" \
    sh -c "! grep -q 'also stands in the search text' low-plain/report.json"
protocols() { grep -c "refined by 'sequential'" low-refined/report.json; }
ok "only what else is measured says that it is of refined ones" same 2 "$(protocols)"

# ---- number formats -------------------------------------------------------------------
sed 's/^evaluate/quantize = ( { use = "int8"; } );\n&/' refined.cfg >formats.cfg
ok "a run with number formats" exits 0 run formats.cfg --set run.out=formats
best=$(report formats best)
fits()
{
    near "$(metric perplexity.nats formats/export/best-f32.gguf \
        'perplexity:text=half.txt,window=256,windows=4')" \
        "$(report formats "trials/$best/metrics/perplexity.nats/value")" 1e-5
}
ok "its export measures as the finalist did" fits
finish
