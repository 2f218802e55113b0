#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Worker processes: the values are those of a run without; what breaks a worker costs
# its trial and nothing else; nobody outlives the run; times are taken alone.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
mkdir -p mine/evaluators/.libs
for name in shaky still; do
    cp "$LAMINA_BUILDDIR/tests/plugins/$name.la" mine/evaluators/ 2>/dev/null
    cp "$LAMINA_BUILDDIR/tests/plugins/.libs/$name.so" mine/evaluators/.libs/ 2>/dev/null
done
LAMINA_PLUGIN_PATH=$LAMINA_PLUGIN_PATH:$tmp/mine
run() { lamina run "$@"; show; test "$rc" = 0; }
report() { "$json_get" "$1/report.json" "$2"; }
children() { ps -o pid= --ppid "$1" 2>/dev/null; }
alike() { trials "$1/report.json" >"$1.trials"; cmp "$2.trials" "$1.trials"; }

# ---- the same values ---------------------------------------------------------------
small_pipeline | sed 's/window = 128; windows = 4;/window = 32; windows = 32;/
    s/^search: .*/search: { use = "nsga2"; population = 12; budget = 60; };/
    s/^run: { /&batch = 12; /' >race.cfg
echo 'race: { risk = 0.05; first = 4; };' >>race.cfg
ok "without workers" run race.cfg --set run.out=w0
trials w0/report.json >w0.trials
for n in 1 2 3; do
    ok "$n workers" run race.cfg --set run.out=w$n --set run.workers=$n
    ok "$n workers: the same values, races and ranks" alike w$n w0
    ok "$n workers: the same export" cmp w0/export/knee-f16.gguf w$n/export/knee-f16.gguf
done
ok "little memory, hidden states not shared" run race.cfg --set run.out=few \
    --set run.workers=2 --set run.memory=1000000 --set run.share=false
ok "the same values" alike few w0
ok "what is shared is told all the same" sh -c "$LAMINA run race.cfg --set run.out=told \
    --set run.workers=2 2>&1 >/dev/null | grep -Eq 'shared prefixes: [0-9.]+ %'"

# programs of the user; less than f32, confirmed in f32
cat >score.sh <<'END'
#!/bin/sh
printf '{ "x": %d }\n' "$(wc -c <"$1")"
END
chmod +x score.sh
small_pipeline | sed 's/use = "kl";/use = "kl"; precision = "bf16";/; s/budget = 40/budget = 8/
    s|{ use = "size"; } );|{ use = "size"; }, { use = "command"; metrics = [ "x" ]; \
        command = [ "./score.sh", "{model}" ]; } );|' >score.cfg
for n in 0 2; do
    ok "programs of the user, $n workers" run --allow-commands score.cfg --set run.out=s$n \
        --set run.workers=$n
    trials s$n/report.json >s$n.trials
done
ok "the same values" cmp s0.trials s2.trials
ok "and logs" test "$(ls s0/commands | wc -l)" = "$(ls s2/commands | wc -l)"
# a program that kills the worker that started it, and notes how many models it finds
victim=$(report s0 'trials/3/metrics/command.x/value')
cat >score.sh <<END
#!/bin/sh
ls "\${1%/*}" | grep -c '^model-' >>"$tmp/models"
test "\$(wc -c <"\$1")" = "$victim" && kill -9 \$PPID
printf '{ "x": %d }\n' "\$(wc -c <"\$1")"
END
ok "a program that kills its worker" run --allow-commands score.cfg --set run.out=s4 \
    --set run.workers=2
ok "costs its trial" grep -q 'SIGKILL) while running a command for this trial' s4/report.json
ok "there is one model at a time" same "$(sort -u models)" 1
ok "and none at the end" test -z "$(ls s4/commands | grep '^model-')"
ok "they are not run unless that was said" says 2 'allow-commands' run score.cfg \
    --set run.out=s3 --set run.workers=2

# ---- what breaks ---------------------------------------------------------------------
small_pipeline | sed 's/^search: .*/search: { use = "random"; budget = 24; spread = true; };/
    s/{ use = "size"; } );/{ use = "size"; }, { use = "shaky"; } );/
    s/^run: { /&batch = 12; workers = 2; worker_timeout = 60.0; /
    s/^final = .*/final = ( );/; s/^export = .*//' >shaky.cfg
ok "a plugin that behaves" run shaky.cfg --set run.out=calm
trials calm/report.json >calm.trials
victim=$(report calm 'trials/7/metrics/size.body_params/value')

# Trials of the size that breaks failed with that reason, all others are as they were.
# (Who is on the front depends on those that failed.)
lines() { sed -n '/^ {"id"/{s/"front": [a-z]*//;p;}' "$1.trials"; }
cost_one()
{
    trials "$1/report.json" >"$1.trials"
    lines calm >calm.lines
    lines "$1" >"$1.lines"
    awk -v size="\"size.body_params\": {\"value\": $victim," -v reason="$2" '
        FNR == NR { was[FNR] = $0; next }
        index(was[FNR], size) { failed++; print
            if ($0 !~ reason || !/"status": "infeasible"/) bad = 1; next }
        $0 != was[FNR] { print; bad = 1 }
        END { print failed " of " FNR; exit bad || failed < 1 || failed > 3 || FNR != 25 }' \
        calm.lines "$1.lines"
}
breaks()            # NAME PATTERN [SECONDS]
{
    ok "$1: the run goes on to its end" run shaky.cfg --set run.out="$1" \
        --set "evaluate[2].sin=$1" --set "evaluate[2].at=$victim" \
        --set "run.worker_timeout=${3:-60.0}"
    ok "$1: the trial failed with its reason, the others are as they were" cost_one "$1" \
        "worker $2 while evaluating this trial"
}
breaks crash 'killed by signal 11 [(]SIGSEGV[)]'
ok "the log tells that it was tried again" grep -q 'it is tried again' "$tmp/err"
breaks hang 'gave no sign of life for 3 s and was killed' 3.0
breaks leave 'ended with status 7'
breaks garbage 'was killed because what it sent is no message.*'
breaks stop 'gave no sign of life for 3 s and was killed' 3.0
ok "a crash that does not come again" run shaky.cfg --set run.out=once \
    --set evaluate[2].sin=crash --set "evaluate[2].at=$victim" \
    --set "evaluate[2].once=$tmp/was"
ok "costs no trial" alike once calm
ok "a crash in this process ends the run" sh -c "! $LAMINA run shaky.cfg \
    --set run.out=alone --set run.workers=0 --set evaluate[2].sin=crash \
    --set evaluate[2].at=$victim >/dev/null 2>&1"
ok "what was measured before is kept" prints 'trials' inspect alone

# ---- from outside --------------------------------------------------------------------
# Starts a run that takes seconds, sets $child, waits for its workers.
slowly()
{
    "$LAMINA" run shaky.cfg --set run.out="$1" --set evaluate[2].pause=0.02 \
        >"$tmp/out" 2>"$tmp/err" &
    child=$!
    i=0
    while test "$(children $child | wc -l)" -lt 2 && test $i -lt 100; do
        sleep 0.05
        i=$((i + 1))
    done
    sleep "$2"
    workers=$(children $child)
    echo "$child with $workers"
}
none_left()
{
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        left=
        for p in $workers; do
            kill -0 "$p" 2>/dev/null && left="$left $p"
        done
        test -z "$left" && return 0
        sleep 1                         # the machine may be busy
    done
    echo "left: $left"
    return 1
}
survives()
{
    slowly "$1" 0.4
    kill -9 $(echo $workers | cut -d' ' -f1) || return 1
    wait $child
    rc=$?
    show
    test $rc = 0 && grep -Eq 'worker killed by signal 9' "$tmp/err" && alike "$1" calm
}
ok "SIGKILL of a worker costs nothing" survives shot
slowly orphans 0.5
kill -9 $child
wait $child 2>/dev/null
ok "SIGKILL of the run ends its workers" none_left
ok "there were two" test "$(echo $workers | wc -w)" = 2
lamina run --resume orphans --set run.workers=3 --set run.memory=1000000
show >"$tmp/resumed"
ok "the run goes on, with another number of workers" test "$rc" = 0
ok "to the same end" alike orphans calm
slowly broken 0.5
begin=$(date +%s%N)
kill -INT $child
wait $child
rc=$?
ok "SIGINT: status 130" same "$rc" 130
ok "soon" less "$(awk -v a="$begin" -v b="$(date +%s%N)" 'BEGIN { print (b - a) / 1e9 }')" 20
ok "and no worker is left" none_left
ok "it goes on, too, without workers" exits 0 run --resume broken --set run.workers=0 \
    --set run.threads=1
ok "to the same end" alike broken calm

# ---- alone -----------------------------------------------------------------------------
# No line of the second diary overlaps one of the first, nor another of its own process.
apart()
{
    wc -l "$1" "$2"
    sort -n -k2 "$1" | awk '$2 < end { exit 1 } { end = $3 }' &&
        return 1                # nothing at all was at the same time: it shows nothing
    awk 'FNR == NR { a[++n] = $2; b[n] = $3; next }
         { for (i = 1; i <= n; i++) if ($2 < b[i] && a[i] < $3) bad = 1
             if ($2 < end) bad = 1
           end = $3; one[$1] }
         END { for (p in one) k++; exit bad || !FNR || n < 10 || k > 1 }' "$1" "$2"
}
sed 's/{ use = "shaky"; } );/{ use = "shaky"; pause = 0.01; diary = "busy.txt"; }, \
    { use = "still"; pause = 0.005; diary = "still.txt"; } );/' shaky.cfg >still.cfg
ok "an evaluator that wants quiet" run still.cfg --set run.out=still --set search.budget=16 \
    --set run.threads=4
ok "is alone, in one process" apart busy.txt still.txt
ok "latency, too, is measured" run race.cfg --set run.out=latency --set run.workers=2 \
    --set 'evaluate[+]={ use = "latency"; prefill = 8; decode = ""; runs = 3; }' \
    --set search.budget=12
ok "of the dense model" report latency trials/0/metrics/latency.prefill_ms/value
ok "a crash while it is timed" run still.cfg --set run.out=loud --set evaluate[3].sin=crash \
    --set "evaluate[3].at=$victim"
ok "costs its trial" grep -q 'SIGSEGV) while timing this trial' loud/report.json

# ---- what finalists were measured by is not measured again -------------------------------
ok "a run with a diary of its end" run shaky.cfg --set run.out=ended --set search.budget=12 \
    --set 'final[+]={ use = "shaky"; id = "late"; diary = "late.txt"; }'
lines=$(wc -l <late.txt)
cp ended/report.json ended.json
ok "which is not empty" less 5 "$lines"
ok "resumed, it ends" exits 0 run --resume ended
ok "and measures nothing again" same "$lines" "$(wc -l <late.txt)"
ok "with the same report" same "$(trials ended.json)" "$(trials ended/report.json)"

# ---- refused ---------------------------------------------------------------------------
ok "too many workers: status 2" says 2 'workers.*above the maximum 64' check race.cfg \
    --set run.workers=65
ok "of a resumed run, too" says 2 'workers.*above the maximum 64' run --resume calm \
    --set run.workers=65
ok "no worker by hand" says 2 'worker: is started by' worker
ok "nor in the list of commands" sh -c "! $LAMINA help 2>&1 | grep -q '^ *worker'"
finish
