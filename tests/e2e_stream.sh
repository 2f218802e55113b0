#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A model that is larger than run.memory: the run says so, and finds and writes what the
# run finds and writes that has the memory: statistics, scores, repair, search with and
# without races, number formats, exports.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
small_pipeline >plain.cfg
run() { lamina run "$@"; show; test "$rc" = 0; }
streamed() { grep -q 'more than 1.0 MB: they are decoded block by block' "$tmp/err"; }
mine() { trials "$1/report.json" >"$1.txt"; }

ok "a run that has the memory" run plain.cfg --set run.out=all
nok "streams nothing" grep -q 'decoded block by block' "$tmp/err"
XDG_CACHE_HOME=$tmp/other
ok "a run that has not" run plain.cfg --set run.out=few --set run.memory=1000000
ok "says so" streamed
mine all; mine few
ok "it finds the same" cmp all.txt few.txt
ok "it writes the same" cmp all/export/knee-f16.gguf few/export/knee-f16.gguf
ok "its statistics are the same" sh -c 'cmp cache/lamina/stats-*.bin other/lamina/stats-*.bin'
ok "nothing but them is left in the cache" \
    sh -c 'test "$(ls -A other/lamina)" = "$(cd other/lamina && echo stats-*.bin)"'
ok "one thread" run plain.cfg --set run.out=one --set run.memory=1000000 --set run.threads=1
mine one
ok "finds the same" cmp all.txt one.txt

# races, in a lower precision, with number formats
sed 's/window = 128; windows = 4;/window = 64; windows = 12; precision = "bf16";/
    s/^search: .*/search: { use = "random"; budget = 24; spread = true; };/
    s/^repair: .*/&\nquantize = ( { use = "int4"; group = 32; } );/' plain.cfg >race.cfg
echo 'race: { risk = 0.05; first = 4; };' >>race.cfg
ok "races in bf16, with number formats" run race.cfg --set run.out=r_all
ok "and without memory" run race.cfg --set run.out=r_few --set run.memory=1000000
ok "says so, too" streamed
mine r_all; mine r_few
ok "they find the same" cmp r_all.txt r_few.txt
for file in r_all/export/*; do
    ok "and write the same ($(basename "$file"))" cmp "$file" "r_few/export/$(basename "$file")"
done

ok "resumed, it is the same run" run --resume few
mine few
ok "to the last digit" cmp all.txt few.txt
# ---- what it takes -------------------------------------------------------------------
# 118 MB of floats in 40 MB, and what a process is without them.
ok "a larger model" "$LAMINA_BUILDDIR/bench/big_model" big 8 512 8 8 1376 4000
sed 's/first = 29/first = 5/' "$LAMINA_SRCDIR/bench/larger.cfg" >larger.cfg
larger()
{
    "$LAMINA_BUILDDIR/bench/peak" big "$LAMINA" run larger.cfg --set run.out=big-run \
        --set run.memory=40000000 --set run.threads=2 --set model.path=big \
        --set data.calibration.path="$tiny/test.txt" \
        --set data.search.path="$tiny/test.txt" >peak.txt 2>"$tmp/err"
}
ok "an estimate of its run" prints 'weights take 11[0-9]\.[0-9] MB as floats' run larger.cfg \
    --set run.memory=40000000 --set model.path=big --dry-run \
    --set data.calibration.path="$tiny/test.txt" --set data.search.path="$tiny/test.txt"
said=$(sed -n 's/^ *memory *about \([0-9.]*\) MB .*/\1/p' "$tmp/out")
stays=$(sed -n 's/^ *disk *\([0-9.]*\) MB in the cache folder, \([0-9.]*\) MB .*/\1 - \2/p' "$tmp/out")
ok "it goes through" larger
anon=$(sed -n 's/^big.anon_mb = //p' peak.txt)
if grep -q -e '^CFLAGS = .*-fsanitize' "$LAMINA_BUILDDIR/Makefile"; then
    skip "in the memory it has" "sanitizers have memory of their own"
else
    ok "in the memory it has" less "$anon" 100
    ok "which was said before" less "$anon" "$said"
fi
kept=$(du -k "$XDG_CACHE_HOME"/lamina/stats-*.bin | sort -n | awk 'END { print $1 * 1024 / 1e6 }')
ok "as was the disk" near "$(calc "$stays")" "$kept" 0.02
finish
