#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The files that stand for other systems run, and what they say of themselves holds.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
cp -r "$LAMINA_SRCDIR/examples" .
chmod -R u+w examples
report() { "$json_get" "$1/report.json" "$2"; }
of() { report "$1" "trials/$2/metrics/$3/value"; }

# ---- one ranking, one budget: trials 2, 3 and 4 have 60, 80 and 90 % ----------------------
for name in flap wanda-sp slimgpt; do
    ok "$name runs" exits 0 run examples/$name.cfg --set run.out=$name \
        --set 'evaluate[0].windows=2'
    for pair in 2:0.6 3:0.8 4:0.9; do
        trial=${pair%:*}
        ok "trial $trial of $name has ${pair#*:} of the body" near \
            "$(of $name "$trial" size.body_params)" \
            "$(calc "${pair#*:} * $(of $name 0 size.body_params)")" 0.02
    done
done
widths()            # how many different widths the layers of a trial have
{
    report "$1" "trials/$2/plan" | grep -o 'ffn=[0-9]*' | sort -u | wc -l
}
ok "layers of wanda-sp are alike" same 1 "$(calc "$(widths wanda-sp 2)")"
ok "those of flap are not" less 1 "$(widths flap 2)"
ok "slimgpt, which repairs, is better than wanda-sp" less \
    "$(of slimgpt 2 perplexity.nats)" "$(of wanda-sp 2 perplexity.nats)"
ok "shortgpt runs" exits 0 run examples/shortgpt.cfg --set run.out=shortgpt \
    --set 'evaluate[0].windows=2'
ok "its smallest model has three layers of six" same 3 \
    "$(report shortgpt trials/2/plan | grep -o 'none' | wc -l | tr -d ' ')"
ok "slicegpt runs" exits 0 run examples/slicegpt.cfg --set run.out=slicegpt \
    --set 'evaluate[0].windows=2' --set 'evaluate[1].windows=2'
ok "with all of its widths" same "64 72 80" "$(grep -o 'hidden=[0-9]*' slicegpt/report.json |
    sort -u | sed 's/.*=//' | tr '\n' ' ' | sed 's/ $//')"

# ---- searches -------------------------------------------------------------------------------
search="examples/search-llm.cfg --set search.population=16 --set search.budget=40"
ok "search-llm runs" exits 0 run $search --set run.out=masks
ok "in one thread, too" exits 0 run $search --set run.out=again --set run.threads=1
ok "with the same trials" same "$(trials masks/report.json)" "$(trials again/report.json)"
bound=$(calc "0.8 * $(of masks 0 size.params)")
within=0
for i in $(seq 20 40); do       # prices are known by then
    test "$(awk -v a="$(of masks "$i" size.params)" -v b="$bound" \
        'BEGIN { print (a <= b && a > 0.97 * b) }')" = 1 && within=$((within + 1))
done
ok "most later trials are at the bound ($within of 21)" less 14 "$within"
keeps()             # the best of a run has at most a share of the body
{
    less "$(of "$1" "$(report "$1" best)" size.body_params)" \
        "$(calc "$2 * $(of "$1" 0 size.body_params) + 1")"
}
for name in sleb blockpruner; do
    ok "$name runs" exits 0 run examples/$name.cfg --set run.out=$name \
        --set 'evaluate[0].windows=1' --set search.lazy=2
    ok "$name keeps 0.8 of the body" keeps $name 0.8
done
ok "evopress runs" exits 0 run examples/evopress.cfg --set run.out=evopress \
    --set 'evaluate[0].windows=16' --set 'search.inner[0].budget=96'
ok "it keeps 0.75 of the body" keeps evopress 0.75
ok "llama-nas-search runs" exits 0 run examples/llama-nas-search.cfg --set run.out=nas \
    --set 'evaluate[0].windows=1' --set search.population=10 --set search.budget=24
ok "whittle-search runs" exits 0 run examples/whittle-search.cfg --set run.out=whittle \
    --set search.budget=8
finish
