#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `lamina shrink` on the tiny model: its goals are met by what it writes.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
text=$tiny/calibration.txt
shrink() { exits 0 shrink "$tiny" --text "$text" --minutes 0.03 "$@"; }
best()
{
    "$json_get" "$1/report.json" \
        "trials/$("$json_get" "$1/report.json" best)/metrics/$2/value"
}

ok "goals exclude each other" says 2 '--max-size' shrink "$tiny" --to 0.8 --max-size 1MB
ok "a share above 1" says 2 '--to' shrink "$tiny" --to 1.5
ok "a size that is none" says 2 '100MB' shrink "$tiny" --max-size big
ok "a time that is none" says 2 '20ms' shrink "$tiny" --max-latency 20MB
ok "a model that there is not" says 3 '/nowhere' shrink /nowhere --text "$text"
ok "a text that there is not" says 3 '/none' shrink "$tiny" --text /none
echo short >short.txt
ok "a text that is too short" says 3 'short.txt' shrink "$tiny" --text short.txt
ok "an unwritable folder" says 1 '/proc' shrink "$tiny" --text "$text" --out /proc/x
ok "--max-latency beyond the model's context" says 2 'context' shrink "$tiny" \
    --text "$text" --max-latency 1ms

shrink --to 0.7 --dry-run
ok "in little time nothing is refined" sh -c "! grep -q '^refine' '$tmp/out'"
ok "--to 0.7, with time" exits 0 shrink "$tiny" --text "$text" --minutes 3 --to 0.7
cp "$tmp/out" printed.txt
ok "the run folder is ./lamina-out" test -d lamina-out
for f in pipeline.cfg report.html report.json study.db; do
    ok "it holds $f" test -s lamina-out/$f
done
head -n "$(wc -l <lamina-out/pipeline.cfg)" printed.txt >head.txt
ok "the pipeline is printed" cmp head.txt lamina-out/pipeline.cfg
ok "the best is refined in it" grep -q '^refine: { use = "sequential"' head.txt
ok "and it is one" prints sound check lamina-out/pipeline.cfg
ok "the front is printed" grep -q 'dense' printed.txt
ok "what was chosen keeps at most 0.7 of the body" less \
    "$(best lamina-out size.body_params)" "$(calc '0.7 * 589824 + 1')"
ok "and not much less" less "$(calc '0.6 * 589824')" "$(best lamina-out size.body_params)"
model=$(echo lamina-out/export/*)
ok "one model was written" test -s "$model"
ok "it has the size of the best trial" same "$(metric size.body_params "$model" size)" \
    "$(best lamina-out size.body_params)"
ppl="perplexity:text=$tiny/test.txt,window=256,windows=8"
ok "it still knows its language" less "$(metric perplexity.ppl "$model" "$ppl")" 3
ok "it generates" prints . generate "$model" --prompt 'One morning Mia' --tokens 8
ok "a second run into the folder is refused" says 2 'resume' shrink "$tiny" --text "$text"

ok "--max-size 1MB" shrink --max-size 1MB --out small
ok "the written file is no larger" less "$(cat small/export/* | wc -c)" 1000001
ok "and not much smaller" less 800000 "$(cat small/export/* | wc -c)"
ok "a goal below what embedding and tokenizer take" says 2 '--max-size' shrink "$tiny" \
    --text "$text" --max-size 100kB --out none
ok "a goal that no trial meets: status 1" exits 1 shrink "$tiny" --text "$text" \
    --minutes 0.03 --max-size 220kB --out none
ok "it says so" grep -qi 'constraint' "$tmp/err"
finish
