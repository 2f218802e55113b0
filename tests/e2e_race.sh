#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Races: trials that another one beats stop early, the front is measured to the end and
# is the one that a run without a race finds; nothing depends on threads, on what
# candidates share, or on a SIGKILL in between.  And what genomes cost.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
small_pipeline | sed 's/window = 128; windows = 4;/window = 32; windows = 32;/
    s/^search: .*/search: { use = "random"; budget = 60; spread = true; };/' >full.cfg
{ cat full.cfg; echo 'race: { risk = 0.05; first = 4; };'; } >race.cfg
run() { lamina run "$@"; show; test "$rc" = 0; }
report() { "$json_get" "$1/report.json" "$2"; }
plugin()            # KIND NAME: a plugin of the tests
{
    mkdir -p "mine/$1/.libs"
    cp "$LAMINA_BUILDDIR/tests/plugins/$2.la" "mine/$1/" 2>/dev/null
    cp "$LAMINA_BUILDDIR/tests/plugins/.libs/$2.so" "mine/$1/.libs/" 2>/dev/null
}
LAMINA_PLUGIN_PATH=$LAMINA_PLUGIN_PATH:$tmp/mine
mkdir mine

ok "a run with races" run race.cfg --set run.out=race
cp "$tmp/out" table.txt
cp "$tmp/err" log.txt
ok "a run without" run full.cfg --set run.out=full
ok "the table tells how many stopped" grep -Eq '[0-9]+ trials lost a race and stopped after [0-9]+ %' table.txt
ok "the program tells what was saved" grep -Eq 'race: [0-9]+ of 60 trials stopped early; [0-9.]+ % of all items' log.txt
ok "and what was shared" grep -Eq 'shared prefixes: [0-9.]+ %' log.txt
ok "inspect tells, too" prints "[0-9]+ lost a race" inspect race

# A tenth of the items at the least; of those that stopped, what it says is so.
stopped_well()
{
    n=$(report race 'trials/#') i=1 stopped=0 saved=0
    while test $i -lt "$n"; do
        f=$(report race trials/$i/fidelity)
        if test "$f" != 1; then
            stopped=$((stopped + 1))
            saved=$(calc "$saved + 1 - $f")
            report race trials/$i/reason | grep -q 'stopped after [0-9]* of 32 items: trial [0-9]* is better' || return 1
            report race "trials/$i/metrics/kl.nats/estimate" >/dev/null || return 1
            test "$(report race trials/$i/front)" = false || return 1
            by=$(report race trials/$i/reason | sed 's/.*trial \([0-9]*\) is.*/\1/')
            less "$(report full "trials/$by/metrics/kl.nats/value")" \
                "$(report full "trials/$i/metrics/kl.nats/value")" || return 1
            less "$(report full "trials/$by/metrics/size.body_params/value")" \
                "$(calc "$(report full "trials/$i/metrics/size.body_params/value") + 1")" || return 1
        fi
        i=$((i + 1))
    done
    echo "$stopped of $n stopped, $saved trials' worth of items saved"
    less "$(calc "0.1 * $n")" "$saved"
}
ok "trials stop early, each behind one that is better on all items" stopped_well
front() { sed -n '/"front": \[/p' "$1/report.json" | head -n 1; }
ok "the front is that of the run without" same "$(front race)" "$(front full)"
ok "what is exported, too" cmp race/export/knee-f16.gguf full/export/knee-f16.gguf

trials race/report.json >race.txt
ok "one thread" run race.cfg --set run.out=one --set run.threads=1
trials one/report.json >one.txt
ok "threads change nothing" cmp race.txt one.txt
ok "three threads" run race.cfg --set run.out=three --set run.threads=3
trials three/report.json >three.txt
ok "nor do three" cmp race.txt three.txt
ok "nothing shared" run race.cfg --set run.out=alone --set run.share=false
# the dense model's own predictions are the start of a candidate's way
ok "it says so" grep -q 'shared prefixes: [0-9]\.[0-9] %' "$tmp/err"
trials alone/report.json >alone.txt
ok "shared prefixes change nothing" cmp race.txt alone.txt
ok "memory for few hidden states" run race.cfg --set run.out=few --set run.memory=1000000
trials few/report.json >few.txt
ok "nor does their memory" cmp race.txt few.txt

# ---- two evaluators of one text --------------------------------------------------------
judge() { echo "{ use = \"$1\"; text = \"search\"; window = 128; windows = 8; precision = \"$2\"; }"; }
share()             # of the multiply-adds that a run with evaluators $2 shares
{
    run full.cfg --set run.out="$1" --set search.budget=4 --set 'final=( )' \
        --set "evaluate=( $2, { use = \"size\"; } )" \
        --set "objectives=( { metric = \"$3.nats\"; } )" >/dev/null || return 1
    sed -n 's/.*shared prefixes: \([0-9.]*\) %.*/\1/p' "$tmp/err"
}
one=$(share losses "$(judge perplexity f32)" perplexity)
both=$(share both "$(judge kl f32), $(judge perplexity f32)" kl)
ok "hidden states serve losses and divergence ($one, then $both %)" less \
    "$(calc "$one + 30")" "$both"
values() { trials "$1/report.json" | grep -o '"perplexity[.a-z]*": {"value[^}]*}'; }
ok "of five trials" same 10 "$(values losses | wc -l)"
ok "with the same losses" same "$(values losses)" "$(values both)"
both=$(share apart "$(judge kl bf16), $(judge perplexity f32)" kl)
ok "not those of another precision ($both %)" less "$both" "$(calc "$one + 20")"

# ---- killed ---------------------------------------------------------------------------
ends_alike()
{
    if test -e "$1/study.db"; then lamina run --resume "$1"
    else lamina run "$2" --set run.out="$1"; fi
    show
    test "$rc" = 0 || return 1
    trials "$1/report.json" >"$1.trials"
    cmp "$3" "$1.trials"
}
sed 's/^search: .*/search: { use = "nsga2"; population = 12; budget = 72; };/
    s/^run: { /&batch = 12; /
    s/{ use = "size"; } );/{ use = "size"; }, { use = "shaky"; } );/' race.cfg >nsga2.cfg
plugin evaluators shaky
ok "a strategy that learns from races" run nsga2.cfg --set run.out=learn \
    --set evaluate[2].diary=learn.diary
trials learn/report.json >learn.txt
ok "races stopped some of its trials" grep -q '"estimate"' learn.txt
# shaky writes a line for each item: so many sevenths of them are at hand
hits=0
for k in 1 2 3 4 5 6; do
    : >kill$k.diary
    "$LAMINA" run nsga2.cfg --set run.out=kill$k --set evaluate[2].pause=0.004 \
        --set evaluate[2].diary=kill$k.diary >"$tmp/out" 2>"$tmp/err" &
    child=$!
    while kill -0 $child 2>/dev/null &&
        test $((7 * $(wc -l <kill$k.diary))) -lt $((k * $(wc -l <learn.diary))); do
        sleep 0.02
    done
    kill -9 $child 2>/dev/null
    wait $child 2>/dev/null
    test $? = 137 && test -e kill$k/study.db && hits=$((hits + 1))
    ok "SIGKILL behind $k/7 of the search: the same end" ends_alike kill$k nsga2.cfg \
        learn.txt
done
ok "most found the search at work" test $hits -ge 3

# ---- what cannot race ------------------------------------------------------------------
{ cat race.cfg | sed 's/{ use = "size"; } );/{ use = "size"; }, { use = "latency"; prefill = 8; decode = ""; } );/
    s/^objectives = .*/objectives = ( { metric = "kl.nats"; }, { metric = "latency.prefill_ms"; } );/'; } >time.cfg
ok "times cannot race: status 2 with the line" says 2 "time.cfg:[0-9]+.*race: 'latency.prefill_ms' is neither" \
    run time.cfg --set run.out=time
ok "too few items: a warning" exits 0 run race.cfg --set run.out=small --set evaluate[0].windows=4 \
    --set search.budget=4
ok "it says what to do" grep -q 'race: no trial can stop early' "$tmp/err"
ok "a risk of 0: no race" exits 0 run race.cfg --set run.out=none --set race.risk=0 --set search.budget=12
nok "no trial stops" grep -q '"estimate"' none/report.json
ok "a risk above one half is refused" says 2 'risk' check race.cfg --set race.risk=0.6

# ---- prices ----------------------------------------------------------------------------
plugin search thrifty
ok "a strategy may ask what genomes cost" run full.cfg --set run.out=price \
    --set 'search={ use = "thrifty"; }'
ok "query heads make other blocks" run full.cfg --set run.out=price2 \
    --set 'search={ use = "thrifty"; }' --set 'prune=( { use = "heads"; } )'
ok "so do number formats" run full.cfg --set run.out=price3 --set 'search={ use = "thrifty"; }' \
    --set 'quantize=( { use = "int8"; per = "layer"; }, { use = "int4"; per = "layer"; } )'
finish
