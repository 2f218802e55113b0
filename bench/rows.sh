# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# rows.sh -- rows of a table of perplexities: sourced behind common.sh by scripts
# that set $dir, the folder of their results.
train=$LAMINA_DATA/lm/wikitext2.train.part.txt
test=$LAMINA_DATA/lm/wikitext2.test.first_half.raw

# measure ROW MODEL: losses of the first 12 windows of 2048 tokens and sizes of a
# file, into ROW.json.
measure() {
    [ ! -f "$dir/$1.json" ] || return 0
    say "measuring $1"
    "$lamina" eval "$2" --json --metric size \
        --metric "perplexity:text=$test,window=2048,windows=12" >"$dir/$1.json.new" ||
        die "eval of $2 failed"
    mv "$dir/$1.json.new" "$dir/$1.json"
}

# measure_trial ROW STUDY TRIAL: a trial as the file a user gets, in f32.
measure_trial() {
    [ ! -f "$dir/$1.json" ] || return 0
    rm -rf "$dir/$1.gguf"
    "$lamina" --quiet export "$2" "$3" "$dir/$1.gguf" --format gguf --dtype f32 >&2 ||
        die "export of trial $3 of $2 failed"
    measure "$1" "$dir/$1.gguf"
    rm -f "$dir/$1.gguf"
}

# default_pipeline SHARE MINUTES FILE: what `shrink` makes is taken from itself, so
# that the default that is measured is the default.
default_pipeline() {
    [ ! -f "$3" ] || return 0
    "$lamina" --quiet shrink "$model" --to "$1" --text "$train" --minutes "$2" \
        --dry-run >"$3.new" ||
        die "shrink made no pipeline"
    mv "$3.new" "$3"
}

# by_default ROW SHARE MINUTES TEXTS: that pipeline with the protocol's TEXTS.
# What is measured at its end is measured here, on text of its own.
by_default() {
    default_pipeline "$2" "$3" "$dir/$1.base.cfg"
    { echo "base = \"$1.base.cfg\";"; cat "$4"; } >"$dir/$1.cfg"
    run_study "$dir/$1" "$dir/$1.cfg"
    measure_trial "$1" "$dir/$1" best
}

# at_random ROW OF TEXTS: random search over the space of the default row OF, repaired
# alike, that evaluates as many tokens: budgets of the stages times their fidelities.
at_random() {
    budget=$(awk '
        match($0, /budget = [0-9]+/) {
            b = substr($0, RSTART + 9, RLENGTH - 9); f = 1
            if (match($0, /fidelity = [0-9.]+/)) f = substr($0, RSTART + 11, RLENGTH - 11)
            sum += b * f }
        END { printf "%d", sum }' "$dir/$2.base.cfg")
    [ "$budget" -gt 1 ] || die "$dir/$2.base.cfg: no budgets found"
    {
        echo "base = \"$2.base.cfg\";"
        cat "$3"
        echo "search: { use = \"random\"; budget = $budget; spread = true; };"
    } >"$dir/$1.cfg"
    run_study "$dir/$1" "$dir/$1.cfg"
    measure_trial "$1" "$dir/$1" best
}

# print_row ROW: its keys, as far as it is measured.
print_row() {
    [ -f "$dir/$1.json" ] || return 0
    python3 "$here/rows.py" print "$dir" "$1"
    [ ! -f "$dir/$1.seconds" ] || echo "seconds.$1 = $(seconds_of "$dir/$1")"
}
