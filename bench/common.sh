# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# common.sh -- sourced by the measuring scripts.
#   LAMINA_BUILD   folder of the built tree (default: build, else the clone itself)
#   LAMINA_BENCH   folder of all results (default ./bench-out); keep it and start
#                  a script again to go on where it was stopped
#   LAMINA_DATA    folder with lm/wikitext2.*
#   LAMINA_MODEL   SmolLM2-135M-Instruct (default: what scripts/quickstart fetched)
#   PEERS_PYTHON   a Python with torch, transformers and llama_cpp (optional)
set -u
top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
here=$top/bench
name=$(basename -- "$0")

# OpenBLAS shall choose its kernels and threads itself.
for v in $(env | sed -n 's/^\(OPENBLAS_[A-Z0-9_]*\)=.*/\1/p'); do
    unset "$v"
done
unset OMP_NUM_THREADS
export LC_ALL=C

say() { printf '== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "$name" "$*" >&2; exit 1; }

build=${LAMINA_BUILD:-$top/build}
[ -x "$build/lamina" ] || build=${LAMINA_BUILD:-$top}
[ -x "$build/lamina" ] ||
    die "no program in $build; build the tree, or set LAMINA_BUILD"
build=$(CDPATH='' cd -- "$build" && pwd)
lamina=$build/lamina
[ -n "${LAMINA_PLUGIN_PATH:-}" ] || export LAMINA_PLUGIN_PATH="$build/plugins"

out=${LAMINA_BENCH:-./bench-out}
mkdir -p "$out" || die "$out: cannot be made"
out=$(CDPATH='' cd -- "$out" && pwd)

cache=${XDG_CACHE_HOME:-$HOME/.cache}/lamina
model=${LAMINA_MODEL:-$cache/models/SmolLM2-135M-Instruct.Q4_1.gguf}
export LAMINA_MODEL="$model"

need_model() {
    [ -e "$model" ] ||
        die "$model: missing; scripts/quickstart fetches it, or set LAMINA_MODEL"
}
need_data() {
    [ -f "${LAMINA_DATA:-}/lm/wikitext2.valid.raw" ] ||
        die "set LAMINA_DATA to the folder that holds lm/wikitext2.*"
    export LAMINA_DATA
}

# run_study FOLDER FILE [--set ...]: a finished one is skipped, an interrupted
# one resumed.  The seconds of all attempts are added up in FOLDER.seconds.
run_study() {
    folder=$1
    shift
    [ ! -f "$folder.done" ] || return 0
    t0=$(date +%s)
    if [ -f "$folder/study.db" ]; then
        say "resuming $folder"
        "$lamina" run --resume "$folder" >"$folder.log"
    else
        say "running $folder"
        rm -rf "$folder"
        "$lamina" run "$@" --set run.out="\"$folder\"" >"$folder.log"
    fi
    rc=$?
    echo $(($(date +%s) - t0)) >>"$folder.seconds"
    [ $rc = 0 ] || die "$folder failed (exit $rc); start this script again to resume it"
    : >"$folder.done"
}

seconds_of() { awk '{ s += $1 } END { print s + 0 }' "$1.seconds"; }

# Machine and versions, for the head of every result.
print_machine() {
    echo "cpu = $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
    echo "cpus = $(nproc)"
    echo "kernel = $(uname -sr)"
    echo "load = $(cut -d' ' -f1 /proc/loadavg)"
    echo "lamina = $("$lamina" --version 2>/dev/null | head -n 1)"
    echo "commit = $(git -C "$top" describe --always --dirty 2>/dev/null || echo unknown)"
    echo "date = $(date -u +%Y-%m-%dT%H:%MZ)"
}
