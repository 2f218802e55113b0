#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Devices: they are listed whatever a driver does, auto takes the right one, results say
# what they were measured on; want of a device's memory costs candidates, the loss of one
# costs a worker, or the run until it is resumed.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
mkdir -p mine/backends/.libs
cp "$LAMINA_BUILDDIR/tests/plugins/frail.la" mine/backends/ 2>/dev/null
cp "$LAMINA_BUILDDIR/tests/plugins/.libs/frail.so" mine/backends/.libs/ 2>/dev/null
plain=$LAMINA_PLUGIN_PATH
LAMINA_PLUGIN_PATH=$LAMINA_PLUGIN_PATH:$tmp/mine
unset FRAIL FRAIL_DRIVER LAMINA_CPU
run() { lamina run "$@"; show; test "$rc" = 0; }
report() { "$json_get" "$1/report.json" "$2"; }
with() { FRAIL=$1; export FRAIL; shift; "$@"; with_rc=$?; unset FRAIL; return $with_rc; }
model=$golden/llama-mha

# ---- the list ------------------------------------------------------------------------
ok "the processor is a device" prints '^      0: cpu, .*, driver C, [0-9.]+ GB$' list backends
ok "what only plays one says so" prints '^      0: reference, .*, driver C \(software\)$' \
    list backend
ok "no device: the reason" prints '^      no frail device \(FRAIL names none\)$' list backends
ok "two of them" with software,gpu prints '^      1: Frail gpu, driver 2.5, 8.0 GB$' \
    list backends
ok "the first one marked" with software,gpu prints \
    '^      0: Frail software, driver 2.5, 8.0 GB \(software\)$' list backends
ok "a driver that crashes" with crash prints '^      its driver crashed \(SIGSEGV\)$' \
    list backends
ok "a list without devices" prints '^  frail  ' list
ok "asks none" sh -c "! grep -q '^      ' '$tmp/out'"
ok "names alone" with crash prints '^frail$' list --names backend
ok "not by hand" says 2 'not by hand' devices

# ---- auto ----------------------------------------------------------------------------
auto() { lamina eval "$model" --backend auto --metric size "$@"; show; test "$rc" = 0; }
took() { grep -q "backend: auto takes $1" "$tmp/err"; }
ok "auto without a GPU" auto
ok "takes cpu" took 'cpu, device 0: cpu, '
ok "with one that is software" with software auto
ok "takes cpu" took 'cpu, device 0'
ok "with a crash" with crash auto
ok "takes cpu" took 'cpu, device 0'
ok "with a GPU" with software,gpu auto
ok "takes it" took 'frail, device 1: Frail gpu, driver 2.5'
ok "the result says so" grep -q '^on Frail gpu, driver 2.5, 8.0 GB (backend frail)$' out
ok "in JSON, too" with gpu json eval "$model" --backend auto --metric size --json
ok "its name" same "$(get device/name)" 'Frail gpu'
ok "and that it is none of software" same "$(get device/software)" false
ok "options do not go with it" says 2 'options belong to a backend' eval "$model" \
    --backend auto:kernels=avx2 --metric size
ok "other commands" with gpu prints . generate "$model" --backend auto --ids 1,2 --tokens 2 \
    --greedy
small_pipeline | sed 's/budget = 40/budget = 8/; s/population = 8/population = 4/
    s/ffn"; step = 32/ffn"; step = 64/' >small.cfg
{ cat small.cfg; echo 'backend: { use = "auto"; };'; } >auto.cfg
sed 's/use = "auto"/&; kernels = "avx2"/' auto.cfg >wrong.cfg
ok "options in a file: the line" says 2 "wrong.cfg:[0-9]+: error: backend: option 'kernels'" \
    check wrong.cfg
ok "what it stands for" with software,gpu prints 'use = "frail"' check auto.cfg --effective
ok "the device, too" with software,gpu prints 'device = 1' check auto.cfg --effective
ok "doctor tells" with gpu prints '^backend auto +takes frail, device 0: Frail gpu' doctor
ok "without it" prints '^backend auto +takes cpu, device 0' doctor
ok "every backend with its devices" grep -q '^backend frail  *no frail device' out

# ---- a study -------------------------------------------------------------------------
timed='evaluate[+]={ use = "latency"; prefill = 4; decode = "2@2"; runs = 3; }'
ok "a run on auto" with gpu run auto.cfg --set run.out=a --set "$timed"
ok "its backend" same "$(report a backend)" 'frail (taken by auto)'
ok "its device" same "$(report a device)" 'Frail gpu, driver 2.5, 8.0 GB'
ok "the protocol of times names it" sh -c \
    "'$json_get' a/report.json metrics/name=latency.decode_ms/protocol | grep -q \
    '; on Frail gpu, driver 2.5, 8.0 GB; times of candidates are divided by the drift of'"
ok "in the table" grep -q '^Backend frail (taken by auto), device: Frail gpu' out
ok "in the page" grep -q 'Frail gpu, driver 2.5, 8.0 GB' a/report.html
ok "device seconds are half of the host's, as frail has it" sh -c \
    "'$json_get' a/report.json trials/0/metrics/latency.decode_device_ms/value |
    awk -v host=$(report a trials/0/metrics/latency.decode_ms/value) \
    '{ exit !(\$1 > 0.2 * host && \$1 < 0.6 * host) }'"
ok "a candidate's anchor" less 0 "$(report a trials/2/metrics/latency.decode_anchor_ms/value)"
ok "the dense model has none: it is the anchor" sh -c \
    "! '$json_get' a/report.json trials/0/metrics/latency.decode_anchor_ms"
ok "how steady it was" sh -c "'$json_get' a/report.json timing | grep -q 'repetitions, '"
ok "resumed, it takes the same" with gpu exits 0 run --resume a
FRAIL_DRIVER=2.6
export FRAIL_DRIVER
ok "and with another driver" with gpu exits 0 run --resume a
ok "which is noted" grep -q 'began on Frail gpu, driver 2.5, .* resumed on .*, driver 2.6, ' err
unset FRAIL_DRIVER
ok "another device: refused, and said" with software says 3 \
    'began on Frail gpu, driver 2.5, 8.0 GB, which is not' run --resume a
ok "no device: said" with none says 1 'began on Frail gpu.*cannot be used now' run --resume a
ok "the processor writes no device seconds" run small.cfg --set run.out=c --set "$timed"
ok "in no trial" sh -c \
    "! '$json_get' c/report.json trials/1/metrics/latency.decode_device_ms"
ok "and the table has no empty column" sh -c "! grep -q device_ms '$tmp/out'"

# ---- no memory -----------------------------------------------------------------------
small_pipeline | sed 's/^search: .*/search: { use = "random"; budget = 14; spread = true; };/
    s/^run: { /&batch = 5; /; s/threads = 2/threads = 1/; s/windows = 4/windows = 2/
    s/^final = .*/final = ( );/; s/^export = .*//' >small.cfg
{ cat small.cfg; echo 'backend: { use = "frail"; };'; } >frail.cfg
ok "a backend that behaves" run frail.cfg --set run.out=calm
trials calm/report.json >calm.trials
alike() { trials "$1/report.json" >"$1.trials"; cmp calm.trials "$1.trials"; }
failed() { grep '"status": "infeasible"' "$1/report.json" | grep -c 'no memory is left'; }
# Trials with this width of some MLP failed for that reason, all others are as they were.
width=$(sed -n '/^ {"id"/s/.*"shape"//p' calm.trials | grep -o ',[0-9]*\]' | tr -d ',]' |
    sort | uniq -c | sort -n | awk '$2 < 256 { print $2; exit }')
cost_those()
{
    trials "$1/report.json" >"$1.trials"
    for f in calm "$1"; do
        sed -n '/^ {"id"/{s/"front": [a-z]*//;p;}' $f.trials >$f.lines
    done
    awk -v w=",$width\\]" 'FNR == NR { was[FNR] = $0; next }
        was[FNR] ~ w { n++; print; if ($0 !~ /infeasible.*no memory is left/) bad = 1; next }
        $0 != was[FNR] { print; bad = 1 }
        END { print n " of " FNR; exit bad || n < 1 || n > 12 || FNR != 15 }' \
        calm.lines "$1.lines"
}
ok "no memory for blocks of one width" run frail.cfg --set run.out=width \
    --set backend.call=upload --set backend.cols="$width"
ok "costs the trials that have one" cost_those width
ok "with workers" run frail.cfg --set run.out=width2 --set run.workers=2 --set run.threads=2 \
    --set backend.call=upload --set backend.cols="$width"
ok "the same ones" cost_those width2
for call in upload=280 buffer=8 run=150; do
    n=${call#*=} call=${call%=*}
    ok "$call: one call without memory" run frail.cfg --set run.out=one-$call \
        --set backend.call=$call --set backend.at=$n --set "backend.once=$tmp/did-$call"
    ok "$call: it failed" test -f did-$call
    ok "$call: is tried again and costs nothing" alike one-$call
done
# For eight states of 128 tokens; a path has twelve, and buffers beside them.
ok "no room for states of all blocks" run frail.cfg --set run.out=states \
    --set backend.states=393216
ok "costs nothing: fewer are kept" alike states
ok "two in a row" run frail.cfg --set run.out=two --set backend.call=run \
    --set backend.at=150 --set backend.calls=2
ok "cost one trial" same "$(failed two)" 1
ok "no memory for the uncompressed model: status 1" says 1 \
    'uncompressed model .*no memory is left' run frail.cfg --set run.out=none \
    --set backend.call=run --set run.out=none --set backend.at=1 --set backend.calls=1000000
sed 's/evaluate = ( { use = "kl"[^}]*}/evaluate = ( { use = "latency"; prefill = 4; \
    decode = ""; runs = 2; }/; s/metric = "kl.nats"/metric = "latency.prefill_ms"/' \
    frail.cfg >time.cfg
ok "no memory beside the dense model" run time.cfg --set run.out=makes \
    --set backend.call=kv_open --set backend.at=4 --set backend.calls=2
ok "which makes room" same "$(failed makes)" 0
ok "no memory while times are taken" run time.cfg --set run.out=timed \
    --set backend.call=kv_open --set backend.at=4 --set backend.calls=3
ok "costs a trial" same "$(failed timed)" 1

# finalists
sed 's/evaluate = ( { use = "kl"[^}]*}, /evaluate = ( /; s/metric = "kl.nats"/metric = "size.bytes"/
    s/^final = .*/final = ( { use = "latency"; prefill = 4; decode = ""; runs = 2; } );/' \
    frail.cfg >final.cfg
ok "no memory for a finalist" run final.cfg --set run.out=ended \
    --set backend.call=kv_open --set backend.at=2 --set backend.calls=2
ok "costs its times" grep -Eq 'trial [0-9]+ is not measured as a finalist: .*no memory' err
ok "not those of others" less 0 "$(report ended trials/0/metrics/latency.prefill_ms/value)"

# ---- operators' times ------------------------------------------------------------------
ok "a device is profiled" exits 0 profile "$model" --backend frail:record=1 --prefill 0 \
    --decode 1@0 --out t.json
ok "a run beside its operators" same "$("$json_get" t.json operators/0/op)" run
ok "without the 1000 us that its first one takes" less \
    "$("$json_get" t.json operators/0/us/0)" 900

# ---- the device is lost ----------------------------------------------------------------
ok "a device that is lost ends the run: status 1" says 1 \
    'the device is gone; once the device .* go on with .lamina run --resume lost' run \
    frail.cfg --set run.out=lost --set backend.call=run --set backend.how=lost \
    --set backend.at=150 --set "backend.once=$tmp/was"
ok "what was measured is kept" prints 'trials' inspect lost
ok "it goes on" exits 0 run --resume lost
ok "to the same end" alike lost
rm -f was
ok "with workers the run goes on" run frail.cfg --set run.out=lost2 --set run.workers=2 \
    --set run.threads=2 --set backend.call=run --set backend.how=lost \
    --set backend.at=100 --set "backend.once=$tmp/was"
ok "one was lost" test -f was
ok "and the log tells why" grep -q 'lost its device: .*the device is gone' err
ok "its trials are tried again" grep -Eq 'tried again' err
ok "and cost nothing" alike lost2

ok "a driver that hangs" with hang prints '^      its driver did not answer for 20 s$' \
    list backends
finish
