#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Pipeline files: what is wrong is said with file:line before anything is
# computed, and what is right means what it says.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
small_pipeline >good.cfg

# bad LINE PATTERN SED: the edited pipeline is refused by `check`, naming line
bad()
{
    sed -e "$3" good.cfg >bad.cfg
    cmp -s good.cfg bad.cfg && { echo "the edit changed nothing"; return 1; }
    says 2 "^bad.cfg:$1: error: .*$2" check bad.cfg
}

ok "a good pipeline" prints 'sound' check good.cfg
cd "$LAMINA_SRCDIR" || exit 1
for c in examples/*.cfg; do
    ok "$c is sound" prints 'sound' check "$c"
done
cd "$tmp" || exit 1
ok "unknown option, nearest name" bad 14 "population" 's/population = 8/populaton = 8/'
ok "unknown plugin, available ones" bad 14 "available: .*random.*did you mean 'nsga2'" \
    's/nsga2/nsga22/'
ok "unknown group, nearest name" bad 11 "did you mean 'repair'" 's/^repair:/repiar:/'
ok "unknown option of run" bad 2 "did you mean 'seed'" 's/seed = 3/sead = 3/'
ok "unknown option of data" bad 5 "did you mean 'length'" 's/length = 128/lenght = 128/'
ok "value below its range" bad 14 'population' 's/population = 8/population = 2/'
ok "value above its range" bad 11 'lambda' \
    's/"least_squares"/"least_squares"; lambda = 101.0/'
ok "value of another type" bad 14 'population' 's/population = 8/population = "many"/'
ok "a real for an integer" bad 14 'population' 's/population = 8/population = 8.0/'
ok "unknown choice" bad 17 'f16' 's/dtype = "f16"/dtype = "f17"/'
ok "unknown metric of an objective" bad 13 "did you mean 'kl.nats'" \
    's/"kl.nats"/"kl.nat"/'
ok "a metric that nothing measures" bad 13 'latency' \
    's/"size.body_params"/"latency.decode_ms"/'
ok "a constraint on what nothing measures" bad 13 'latency' \
    's/^objectives/constraints = ( { metric = "latency.decode_ms"; max = 1.0; } ); '\
'objectives/'
ok "an id of two words" bad 12 'id: expected' 's/use = "kl";/use = "kl"; id = "my kl";/'
ok "a text that there is not" bad 12 'serch' 's/text = "search"/text = "serch"/'
ok "a text file that there is not" bad 5 'nowhere' 's#calibration.txt#nowhere.txt#'
ok "a model that there is not" bad 3 'nowhere' \
    's#^model.*#model: { path = "/nowhere"; };#'
for with in '' ' pad = true;'; do
    sed "s/use = \"gguf\";/use = \"hf\";$with/" good.cfg >hf.cfg
    ok "hf writes uneven layers:$with" prints 'sound' check hf.cfg
done
ok "unknown option of a format" bad 17 "did you mean 'pad'" \
    's/use = "gguf";/use = "hf"; padd = true;/'
ok "hf cannot write q8_0" bad 17 'q8_0' \
    's/use = "gguf"; dtype = "f16"/use = "hf"; dtype = "q8_0"/'
ok "no scorer for a pruner" bad '10' 'score' 's/^score.*//'
for group in model evaluate objectives search; do
    sed "/^$group/d" good.cfg >bad.cfg
    ok "no $group" says 2 "^bad.cfg:.*$group" check bad.cfg
done
ok "no format version" bad 1 'lamina = 1' 's/^lamina = 1;//'
ok "another format version" bad 1 '2' 's/^lamina = 1/lamina = 2/'
ok "a syntax error" bad '1[45]' '' 's/budget = 40; }/budget = 40; /'
ok "two plugins of one name" bad 12 'twice' \
    's/evaluate = (/evaluate = ( { use = "size"; },/'
ok "a part that is empty" bad 6 'part' 's/part = \[0.0, 0.5\]/part = [0.5, 0.5]/'

# libconfig 1.5 reads these as other numbers, without a word
ok "5000000000 without L" bad 2 '5000000000L' 's/seed = 3/seed = 5000000000/'
ok "-3000000000 without L" bad 2 '3000000000' 's/seed = 3/seed = -3000000000/'
ok "0x80000000 without L" bad 2 '0x80000000' 's/seed = 3/seed = 0x80000000/'
ok "beyond 64 bits" bad 2 '64 bits' 's/seed = 3/seed = 9223372036854775808L/'
ok "in --set, too" says 2 '5000000000' check good.cfg --set run.seed=5000000000
ok "100000000L is fine" prints sound check good.cfg \
    --set 'constraints=( { metric = "size.bytes"; max = 100000000L; } )'
ok "5000000000L is what it says" prints 'seed = 5000000000L' check good.cfg \
    --set run.seed=5000000000L --effective
ok "# 5000000000 in comments and strings is no number" prints sound check good.cfg \
    --set 'run.name="5000000000"'

# ---- --set, base, substitution, --effective --------------------------------------
ok "--set overrides" prints 'budget = 7; *# --set' check good.cfg --set search.budget=7 \
    --effective
ok "--set of a bare word" prints 'use = "none"' check good.cfg --effective \
    --set repair.use=none
ok "--set of a member of a list" prints 'step = 64' check good.cfg --effective \
    --set 'prune[1].step=64'
ok "--set of what there is not" says 2 "set.*did you mean 'budget'" check good.cfg \
    --set search.budgt=4
ok "--set without a value" says 2 'set' check good.cfg --set search.budget
cat >child.cfg <<'END'
lamina = 1;
base = "good.cfg";
run: { seed = 11; out = "runs/${run.name}"; };
search: { budget = 9; };
END
lamina check child.cfg --effective
cp "$tmp/out" effective.cfg
ok "base is read first" grep -q 'population = 8' effective.cfg
ok "the child goes over it" grep -q 'seed = 11' effective.cfg
ok "groups merge" grep -q 'name = "small"' effective.cfg
ok "values are substituted" grep -q 'out = "runs/small"' effective.cfg
ok "every value has its origin" grep -Eq 'budget = 9; *# child.cfg:4' effective.cfg
ok "--effective is a pipeline" prints sound check effective.cfg
lamina check effective.cfg --effective
strip() { sed 's/ *#.*//' "$1"; }
ok "--effective of it is the same" same "$(strip effective.cfg)" "$(strip "$tmp/out")"
ok "--effective shows the defaults, too" grep -q 'crossover' effective.cfg
printf 'lamina = 1;\nbase = "loop.cfg";\n' >loop.cfg
ok "a base that is its own" says 2 'loop.cfg' check loop.cfg
printf 'lamina = 1;\nbase = "none.cfg";\n' >child.cfg
ok "a base that there is not" says 2 'child.cfg:2: .*none.cfg' check child.cfg
ok "a pipeline that there is not" says 2 'none.cfg' check none.cfg
mkdir folder
ok "a folder is no pipeline" says 2 'folder' check folder
head -c 300 /dev/urandom >noise.cfg
ok "noise is no pipeline" says 2 'noise.cfg' check noise.cfg

# ---- --dry-run -------------------------------------------------------------------
ok "--dry-run estimates trials" prints 'trials.* 4[01]' run good.cfg --dry-run
for what in search memory disk; do
    ok "--dry-run estimates $what" grep -q "$what  *.*[0-9]" "$tmp/out"
done
ok "--dry-run makes no folder" test ! -e r

# said WORD: what the last estimate says on the line that begins so, in seconds
said()
{
    awk -v word="$1" '
        $1 == word { print $2 * ($3 ~ /^ms/ ? 0.001 : $3 == "min" ? 60 : 1) }' "$tmp/out"
}
# spilled: bytes of disk that the last estimate gives back
spilled()
{
    awk '/ disk / { print $8 * ($9 == "GB" ? 1e9 : $9 == "MB" ? 1e6 : 1e3) }' "$tmp/out"
}
# dry NAME LINES: an estimate of good.cfg with these lines in place of its own, on one
# thread, little calibration and without memory, so that all that is derived is on disk
dry()
{
    printf 'lamina = 1;\nbase = "good.cfg";\n%s\n' "$2" >"$1.cfg"
    prints 'estimated' run "$1.cfg" --dry-run --set run.threads=1 --set run.memory=1000000 \
        --set data.calibration.sequences=2 --set data.calibration.length=16
}
heads='prune = ( { use = "heads"; } );'
ok "an estimate without formats" dry plain "$heads final = ();"
ok "has no line for them" same '' "$(said formats)"
ok "none for finalists" same '' "$(said final)"
ok "opening takes time" less 0 "$(said opening)"
# 6 layers: 2 and 4 of 6 heads kept; q, k, v, and o, of 96 x 16 columns a head
ok "query heads take disk" near "$(spilled)" $((6 * 4 * 96 * 16 * (2 + 4 + 2 + 4 + 4 + 4))) 0.02
before=$(said processors)
ok "number formats" dry formats 'prune = ();
quantize = ( { use = "int8"; }, { use = "int4"; } );
final = ();'
ok "take time" less 0 "$(said formats)"
# all matrices of all layers twice, as floats and in 34 and 18 bytes for 32 weights
ok "and disk" near "$(spilled)" $((6 * 98304 * (2 * 128 + 34 + 18) / 32)) 0.02
ok "finalists" dry final "$heads
final = ( { use = \"perplexity\"; text = \"$tiny/test.txt\"; window = 256; } );"
# dense, best, knee and 4 more
ok "are counted" grep -q 'final .* of 7 trials, if a third' "$tmp/out"
ok "and take time" less 0 "$(said final)"
ok "of which the sum knows" less "$before" "$(said processors)"
ok "a search in int8" dry low "$heads
$(grep '^evaluate' good.cfg | sed 's/use = "kl";/& precision = "int8";/')"
ok "is confirmed in f32" grep -q 'final .* of 7 trials, and f32 of 15, if a' "$tmp/out"
# the model's widths are known when it is opened, still before the search
sed -e 's/step = 32; multiple = 32/step = 5; multiple = 1/' \
    -e 's/dtype = "f16"/dtype = "q8_0"/' good.cfg >bad.cfg
ok "blocks of q8_0 need widths in multiples" says 2 '^bad.cfg:17: error: .*32' \
    run bad.cfg --set run.out=q8
ok "what check refuses, run refuses" says 2 "did you mean 'population'" run good.cfg \
    --set search.populaton=8
ok "and makes no folder" test ! -e r
finish
