#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Whatever interrupts a run, `run --resume` goes on and ends where a run ends
# that nothing interrupted.  SIGKILL comes at 20 moments drawn from a fixed seed
# and at the first moments of a study; SIGINT ends a run in good order.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
seed=${LAMINA_KILL_SEED:-1}
small_pipeline | sed 's/^search: .*/search: { use = "chain"; stages = (\
    { use = "lagrangian"; budget = 36; fidelity = 0.5; targets = [0.9, 0.8, 0.7, 0.6]; },\
    { use = "nsga2"; population = 12; budget = 48; } ); };/' >kill.cfg

lamina run kill.cfg --set run.out=whole
show >whole.txt
ok "the run that nothing interrupts" test "$rc" = 0
trials whole/report.json >whole.trials

# go FOLDER: resumes, or runs where no study has begun, as the program says
go()
{
    if test -e "$1/study.db"; then
        go_rc=0
        "$LAMINA" run --resume "$1" >"$tmp/out" 2>"$tmp/err" || go_rc=$?
        test $go_rc = 3 && grep -q 'run it anew' "$tmp/err" || return $go_rc
    fi
    "$LAMINA" run kill.cfg --set "run.out=$1" >"$tmp/out" 2>"$tmp/err"
}

# Starts or goes on, kills it after $2 seconds; tells whether it was alive.
strike()
{
    go "$1" &
    child=$!
    sleep "$2"
    # the program is a child of the shell that runs go(), or that shell itself
    victims="$(ps -o pid= --ppid $child) $child"
    kill -9 $victims 2>/dev/null
    wait $child 2>/dev/null
    test $? -gt 128
}

ends_alike()        # whatever was left of the run in $1
{
    rc=0
    go "$1" || rc=$?
    show
    test "$rc" = 0 || return 1
    trials "$1/report.json" >"$1.trials"
    cmp whole.trials "$1.trials" && cmp whole/export/knee-f16.gguf \
        "$1/export/knee-f16.gguf"
}

# 20 moments: 4 runs, each killed 5 times
moments=$(awk -v s="$seed" 'BEGIN { srand(s); for (i = 0; i < 20; i++)
    printf "%.3f\n", 0.01 + rand() * rand() * 0.7 }')
n=0 hits=0
for t in $moments; do
    folder=run$((n / 5))
    strike $folder "$t" && hits=$((hits + 1))
    n=$((n + 1))
    test $((n % 5)) = 0 && ok "5 times SIGKILL, the last after $t s: the same end" \
        ends_alike $folder
done
echo "# $hits of 20 found the run alive"
ok "SIGKILL found the runs alive" test "$hits" -ge 10

# The moment the study appears: it must be whole or not there.
for i in 1 2 3 4; do
    folder=early$i
    "$LAMINA" run kill.cfg --set run.out=$folder >"$tmp/out" 2>"$tmp/err" &
    child=$!
    while ! test -e $folder/study.db && kill -0 $child 2>/dev/null; do :; done
    test $i = 1 || sleep 0.00$((i * 2))
    kill -9 $child 2>/dev/null
    wait $child 2>/dev/null
    ok "SIGKILL right behind the study's first byte ($i): the same end" ends_alike $folder
done

# ---- SIGINT ------------------------------------------------------------------------
interrupted()       # SIGNAL FOLDER SECONDS
{
    begin=$(date +%s%N)
    timeout --preserve-status -s "$1" "$3" "$LAMINA" run kill.cfg --set run.out="$2" \
        --set 'final=( )' --set search.stages[1].budget=100000 >"$tmp/out" 2>"$tmp/err"
    rc=$?
    took=$(awk -v a="$begin" -v b="$(date +%s%N)" -v t="$3" \
        'BEGIN { print (b - a) / 1e9 - t }')
    show
    echo "it went on for $took s"
    test "$rc" = 130 && less "$took" 2
}
if command -v timeout >/dev/null; then
    ok "SIGINT while it calibrates: status 130 within 2 s" interrupted INT int0 0.05
    ok "SIGINT while it searches: status 130 within 2 s" interrupted INT int1 0.7
    ok "it says how to go on" grep -q -e '--resume' "$tmp/err"
    ok "SIGTERM, too" interrupted TERM int2 0.5
    timeout --preserve-status -s INT 0.4 "$LAMINA" run kill.cfg --set run.out=int3 \
        >"$tmp/out" 2>"$tmp/err"
    ok "a run that was interrupted goes on to the same end" ends_alike int3
else
    skip "SIGINT" "no timeout program"
fi

# ---- one at a time -------------------------------------------------------------------
"$LAMINA" run kill.cfg --set run.out=busy --set search.stages[1].budget=100000 \
    >/dev/null 2>&1 &
child=$!
while ! "$LAMINA" inspect busy >/dev/null 2>&1 && kill -0 $child 2>/dev/null; do
    sleep 0.05
done
ok "two at work in one folder: the second ends with status 1" says 1 'another' \
    run --resume busy
ok "reading is no work: inspect" exits 0 inspect busy
kill -9 $child
wait $child 2>/dev/null
finish
