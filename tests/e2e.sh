# SPDX-License-Identifier: Apache-2.0
# e2e.sh -- to be sourced, after tap.sh, by tests that run the built program.
# They judge what the program's user sees: exit status, stdout, stderr, files.
: "${LAMINA_BUILDDIR:=.}"
LAMINA_SRCDIR=$(cd "$LAMINA_SRCDIR" && pwd)
LAMINA_BUILDDIR=$(cd "$LAMINA_BUILDDIR" && pwd)
LAMINA=$LAMINA_BUILDDIR/lamina
test -x "$LAMINA" || skip_all "the program was not built"
LAMINA_PLUGIN_PATH=$LAMINA_BUILDDIR/plugins
XDG_CACHE_HOME=$tmp/cache               # never the user's
OPENBLAS_NUM_THREADS=1
LC_ALL=C
export LAMINA_PLUGIN_PATH XDG_CACHE_HOME OPENBLAS_NUM_THREADS LC_ALL
tiny=$LAMINA_SRCDIR/examples/tiny
golden=$LAMINA_SRCDIR/tests/golden
json_get=$LAMINA_BUILDDIR/tests/json_get
cd "$tmp" || exit 99

# lamina args...: stdout to $tmp/out, stderr to $tmp/err, status in $rc
lamina()
{
    rc=0
    "$LAMINA" "$@" >"$tmp/out" 2>"$tmp/err" || rc=$?
}

# What the last command printed, for failed tests.
show() { echo "exit status $rc"; cat "$tmp/err"; head -c 2000 "$tmp/out"; }

# exits N args...: the program ends with status N
exits()
{
    want=$1; shift
    lamina "$@"
    show
    test "$rc" = "$want"
}

# says N 'PATTERN' args...: status N, a line of stderr matches the extended
# regular expression, nothing on stdout
says()
{
    want=$1 pattern=$2; shift 2
    lamina "$@"
    show
    test "$rc" = "$want" && test ! -s "$tmp/out" && grep -Eq -e "$pattern" "$tmp/err" &&
        ! grep -q 'Segmentation' "$tmp/err"
}

# prints 'PATTERN' args...: status 0 and a line of stdout matches
prints()
{
    pattern=$1; shift
    lamina "$@"
    show
    test "$rc" = 0 && grep -Eq -e "$pattern" "$tmp/out"
}

# json args...: status 0 and stdout is exactly one JSON document
json()
{
    lamina "$@"
    show
    test "$rc" = 0 && "$json_get" "$tmp/out"
}

get() { "$json_get" "$tmp/out" "$@"; }      # of the last command's document

# metric NAME MODEL SPEC [more]: the value, to stdout
metric()
{
    metric_name=$1 metric_model=$2 metric_spec=$3; shift 3
    "$LAMINA" eval "$metric_model" --metric "$metric_spec" --json "$@" \
        >"$tmp/metric.json" || return 1
    "$json_get" "$tmp/metric.json" "metrics/name=$metric_name/value"
}

# near A B REL: |A - B| <= REL * |B|
near()
{
    echo "$1 and $2, within $3"
    awk -v a="$1" -v b="$2" -v r="$3" 'BEGIN {
        if (a !~ /^[-+0-9.eE]+$/ || b !~ /^[-+0-9.eE]+$/) exit 1
        d = a - b; if (d < 0) d = -d; m = b < 0 ? -b : b; exit !(d <= r * m) }'
}

# less A B
less()
{
    echo "$1 < $2"
    awk -v a="$1" -v b="$2" 'BEGIN {
        if (a !~ /^[-+0-9.eE]+$/ || b !~ /^[-+0-9.eE]+$/) exit 1
        exit !(a + 0 < b + 0) }'
}

# calc EXPRESSION: its value with all digits
calc() { awk "BEGIN { printf \"%.17g\\n\", $1 }"; }

same() { echo "'$1' and '$2'"; test "$1" = "$2"; }

# A pipeline over the tiny model that takes about a second.
small_pipeline()
{
    cat <<END
lamina = 1;
run: { name = "small"; seed = 3; threads = 2; out = "r"; };
model: { path = "$tiny"; };
data: {
  calibration: { path = "$tiny/calibration.txt"; sequences = 16; length = 128; };
  search: { path = "$tiny/test.txt"; part = [0.0, 0.5]; };
  final: { path = "$tiny/test.txt"; part = [0.5, 1.0]; };
};
score = ( { use = "wanda"; } );
prune = ( { use = "kv_groups"; min = 1; }, { use = "ffn"; step = 32; multiple = 32; } );
repair: { use = "least_squares"; };
evaluate = ( { use = "kl"; text = "search"; window = 128; windows = 4; }, \
{ use = "size"; } );
objectives = ( { metric = "kl.nats"; }, { metric = "size.body_params"; } );
search: { use = "nsga2"; population = 8; budget = 40; };
final = ( { use = "perplexity"; text = "final"; window = 256; windows = 4; } );
report = ( { use = "table"; }, { use = "json"; }, { use = "html"; } );
export = ( { use = "gguf"; dtype = "f16"; pick = "knee"; } );
END
}

# trials FILE: what a run found, without times and without the run's own name,
# folder and threads
trials() { sed -n '/"metrics": \[/,$p' "$1" | sed 's/"seconds": *[^,}]*//g'; }
