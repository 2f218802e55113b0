#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `lamina sweep`: the runs of a file, in one go and in pieces; what it refuses, what it
# says of runs that fail.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"

small_pipeline | sed 's/windows = 4/windows = 2/; s/budget = 40/budget = 16/; /^final/d
    s/^report.*/report = ( { use = "json"; } );/; /^export/d' >base.cfg
cat >sweep.cfg <<'END'
lamina = 1;
base = "base.cfg";
run: { out = "whole"; };
sweep: {
  seeds = [1, 2];
  vary = ( { path = "search"; tag = "search"; values = ( { use = "random"; budget = 16; } ); },
           { path = "prune[0]"; tag = "no-kv"; drop = true; } );
  compare: { metric = ( "hypervolume", "kl.nats" ); };
};
END

ok "run refuses it, and says what does it" says 2 \
    '^sweep.cfg:4: error: .*lamina sweep' run sweep.cfg
ok "check validates it" prints 'sound \(a sweep of 3 variants, 6 runs\)' check sweep.cfg
ok "sweep refuses a file without the group" says 2 '^base.cfg:1: error: .*lamina run' \
    sweep base.cfg
ok "a mistake in one variant is an error before any run" says 2 \
    '^--set #1: error: .*members' sweep sweep.cfg --set 'prune[9].step=1'
nok "nothing was made for it" test -e whole
ok "--dry-run lists the runs" prints '^  no-kv +seed 2 ' sweep sweep.cfg --dry-run
dry() { grep -q '^6 runs (3 variants, 2 seeds), 6 to do' out && grep -q '^  time' out; }
ok "and adds them up" dry
ok "and says that the seeds are too few" grep -q 'no p below 0.05 is possible' out
nok "and makes nothing" test -e whole

# ---- in one go ---------------------------------------------------------------------
ok "a sweep" prints '^search +2 ' sweep sweep.cfg
cp out whole.out
ok "the table has a line for each variant" grep -q '^no-kv  *2 ' out
ok "a row for each run, and the names" same "$(wc -l <whole/sweep.csv)" 7
done_runs() { grep -c ',done,,' "$1"; }
ok "all of them done" same "$(done_runs whole/sweep.csv)" 6
ok "each run has its own folder and report" test -s whole/no-kv/2/report.json
fits()              # VARIANT SEED: the value of the report's best trial is in the row
{
    awk -F, -v v="$1" -v s="$2" 'NR == 1 { for (i = 1; i <= NF; i++) n[$i] = i }
        $1 == v && $2 == s { print $n["kl.nats"] }' whole/sweep.csv >cell
    "$LAMINA" inspect "whole/$1/$2" | sed -n 's/^  best .* kl.nats \([^ ]*\).*/\1/p' >best
    near "$(cat cell)" "$(cat best)" 1e-5
}
ok "with what the run has found" fits search 2
ok "the seed is the run's" grep -q 'seed 2' - <<END
$("$LAMINA" inspect whole/baseline/2)
END
well_formed()
{
    python3 - "$1" <<'END'
import sys
from html.parser import HTMLParser
class P(HTMLParser):
    stack = []
    def handle_starttag(self, tag, a):
        if tag != "meta": self.stack.append(tag)
    def handle_startendtag(self, tag, a): pass
    def handle_endtag(self, tag):
        assert self.stack.pop() == tag, tag
p = P(); p.feed(open(sys.argv[1]).read()); p.close()
assert not p.stack, p.stack
END
}
if command -v python3 >/dev/null; then
    ok "the page is well-formed" well_formed whole/sweep.html
else skip "the page is well-formed" "no python3"; fi
nok "and loads nothing" grep -Eq 'src=|href=|https?://|url\(' whole/sweep.html
ok "the LaTeX table has three rows" same "$(grep -c '^[a-z-]* & 2 &' whole/sweep.tex)" 3

# ---- again, and in pieces ------------------------------------------------------------
"$LAMINA" sweep sweep.cfg >again.out 2>again.err
ok "a finished sweep shows the same again" cmp whole.out again.out
nok "and runs nothing" grep -q 'sweep: run' again.err
alike()             # FOLDER: the files of the sweep are those of the whole one
{
    cmp "whole/sweep.csv" "$1/sweep.csv" && cmp whole/sweep.tex "$1/sweep.tex" &&
        sed 's/out = &#34;[a-z]*&/out = \&#34;whole\&/' "$1/sweep.html" | cmp whole/sweep.html -
}
cut_off()           # SIGNAL FOLDER: once a run of the second variant has begun
{
    "$LAMINA" sweep sweep.cfg --set run.out="$2" >cut.out 2>cut.err &
    child=$!
    while ! test -e "$2/search/1/study.db" && kill -0 $child 2>/dev/null; do
        sleep 0.01
    done
    kill -"$1" $child
    cut_rc=0
    wait $child 2>/dev/null || cut_rc=$?
    cat cut.err
}
# dash gives background jobs an ignored SIGINT; the program takes SIGTERM alike
cut_off TERM parts >cut.log
ok "a signal ends it in good order: status 130" same "$cut_rc" 130
ok "it says how to go on" grep -q 'go on with `lamina sweep sweep.cfg' cut.err
ok "and shows what there is" grep -q '^[23] of 6 runs are finished' cut.out
ok "in the files, too" grep -q '^no-kv,2,waiting,,' parts/sweep.csv
ok "--dry-run counts what is left" prints ' [34] to do' sweep sweep.cfg --dry-run \
    --set run.out=parts
ok "it goes on" exits 0 sweep sweep.cfg --set run.out=parts
ok "to the same files" alike parts
cut_off KILL killed >cut.log
ok "the same behind SIGKILL" exits 0 sweep sweep.cfg --set run.out=killed
ok "to the same files again" alike killed
ok "another number of threads, the same values" exits 0 sweep sweep.cfg \
    --set run.out=threads --set run.threads=1
ok "in the same files" cmp whole/sweep.csv threads/sweep.csv
ok "and they may change on the way" exits 0 sweep sweep.cfg --set run.out=threads \
    --set run.threads=2

# ---- what does not go -----------------------------------------------------------------
ok "runs of another pipeline are not gone on with" says 3 \
    "^sweep.cfg:4: error: .*another pipeline \('windows' differs\)" sweep sweep.cfg \
    --set 'evaluate[0].windows=3'
sed 's/vary = (/vary = ( { path = "constraints"; tag = "never"; values = (\
    ( { metric = "size.bytes"; max = 10; } ) ); },/; s/\[1, 2\]/[1]/' \
    sweep.cfg >never.cfg
echo 'export = ( { use = "gguf"; } );' >>never.cfg
ok "a run that fails does not end the sweep: status 1" exits 1 sweep never.cfg \
    --set run.out=never
ok "it is recorded, with its reason" grep -q '^never,1,failed,.*constraints' \
    never/sweep.csv
ok "the others are done" same "$(done_runs never/sweep.csv)" 3
ok "it says where the reasons are" grep -q '1 of 4 runs failed; never/sweep.csv' err
ok "a folder that holds a run is no place for a sweep" exits 0 run base.cfg --set run.out=one
ok "so it is refused" says 2 '^sweep.cfg:4: error: .*one, holds a run' sweep sweep.cfg \
    --set run.out=one
finish
