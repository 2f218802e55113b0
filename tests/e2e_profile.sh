#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A table of what operators cost, and a search that predicts with it; no time is judged,
# only what the figures are of.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
has() { grep -q -- "$1" "$2"; }

# ---- the table -------------------------------------------------------------------------
ok "it is measured" exits 0 profile "$tiny" --prefill 8 --decode 4@8 --narrow --out t.json
ok "the table says of what it is" test "$("$json_get" t.json format)" = "lamina latency table"
ok "and of which model" test "$("$json_get" t.json model/hidden)" = 96
ok "and of which workloads" test "$("$json_get" t.json decode/context)" = 8
ok "no part of it is left" test "$(ls | grep -c '^t.json')" = 1
ok "a workload must be one" says 2 '--prefill N and --decode T@C' profile "$tiny" --decode 4@x
ok "one of them is wanted" says 2 'neither prefill nor decode' \
    profile "$tiny" --decode 0 --prefill 0
ok "formats must be known" says 2 "q9" profile "$tiny" --formats q8_0,q9
cp t.json before.json
interrupted()
{
    rc=0
    timeout -s INT 0.5 "$LAMINA" profile "$tiny" --out t.json >out 2>err || rc=$?
    show
    cmp t.json before.json && test ! -e t.json.tmp
}
ok "Ctrl-C leaves the former table" interrupted
rm -f before.json

# ---- one model ---------------------------------------------------------------------------
ok "it predicts" prints 'latency_table.decode_ms.*predicted from table' \
    eval "$tiny" --metric latency_table:table=t.json
cp out first
ok "the same again" exits 0 eval "$tiny" --metric latency_table:table=t.json
ok "to the last digit" cmp out first
ok "on other threads, too" exits 0 eval "$tiny" --threads 2 --metric latency_table:table=t.json
ok "to the last digit" cmp out first
ok "another model is told" says 2 'of another model: one of 6 layers' \
    eval "$golden/llama-mha" --metric latency_table:table=t.json
head -c 2000 t.json >cut.json
ok "half a table is none" says 3 'cut.json' eval "$tiny" --metric latency_table:table=cut.json

# ---- a search --------------------------------------------------------------------------------
sed "s|examples/tiny|$tiny|; s|base = .*|base = \"$LAMINA_SRCDIR/examples/tiny.cfg\";|
    s|$tiny/latency.json|t.json|; s|^run:.*|run: { out = \"r\"; }; model: { path = \"$tiny\"; };|
    s|^final.*|final = ( );|" "$LAMINA_SRCDIR/examples/latency-table.cfg" >p.cfg
cat >>p.cfg <<END
data: { calibration: { path = "$tiny/calibration.txt"; part = [0.0, 0.8]; sequences = 4;
                       length = 64; };
        search: { path = "$tiny/calibration.txt"; part = [0.8, 1.0]; }; };
search: { use = "nsga2"; population = 4; generations = 2; };
sample: { tokens = 0; };
END
ok "finalists will be measured" prints 'id = "latency_table_measured"' check p.cfg --effective
ok "with the workloads of the table" prints 'decode = "4@8"' check p.cfg --effective
sed 's/"threads":1,/"threads":3,/' t.json >wide.json
sed 's/t\.json/wide.json/' p.cfg >wide.cfg
ok "a table of more threads than the run has: told before the search" says 2 \
    "what 'latency_table' predicts is measured on finalists with 3 threads" \
    run wide.cfg --set run.threads=2
ok "it runs" exits 0 run p.cfg
ok "and says what it adds" has "finalists are measured by 'latency_table_measured'" err
ok "predictions stand beside measurements" \
    has 'latency_table.decode_ms -> latency_table_measured.decode_ms' out
ok "with their errors" has 'median error' out
ok "on the page, too" has 'Predicted and measured' r/report.html
ok "it can be resumed" exits 0 run --resume r
ok "and adds nothing again" test "$(grep -c 'finalists are measured' err)" = 0
sed 's/"us":\[/"us":[ /' t.json >u.json
mv u.json t.json
ok "with another table it is another study" says 3 't.json was changed since' run --resume r
same='final=( { use = "latency"; prefill = 8; decode = "4@8"; } )'
lamina check p.cfg --effective --set "$same"
ok "an evaluator of these workloads is enough" test "$(grep -c _measured out)" = 0
ok "one of others is not" prints '_measured' check p.cfg --effective \
    --set 'final=( { use = "latency"; prefill = 16; decode = "4@8"; } )'
finish
