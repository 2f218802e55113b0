#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What breaks: files, disks, folders, options that contradict each other.  Each
# ends with its exit status and one sentence, and loses nothing that was computed.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
text=$tiny/test.txt
small_pipeline | sed 's/budget = 40/budget = 16/' >small.cfg

# exactly N 'SENTENCE' args...: status N, that one line on stderr, nothing on stdout
exactly()
{
    want=$1 sentence=$2; shift 2
    lamina "$@"
    show
    test "$rc" = "$want" && test ! -s "$tmp/out" && test "$(cat "$tmp/err")" = "$sentence"
}

# ---- config.json ------------------------------------------------------------------
cp -R "$tiny" bad
chmod -R u+w bad
# config SED 'SENTENCE': inspect and eval refuse the model, both in these words
config()
{
    sed -e "$1" "$tiny/config.json" >bad/config.json
    cmp -s "$tiny/config.json" bad/config.json &&
        { echo "the edit changed nothing"; return 1; }
    exactly 3 "lamina: $2" eval bad --metric size && exactly 3 "lamina: $2" inspect bad
}
whole() { echo "bad/config.json: '$1' must be a whole number from 1 to $2"; }
ok "no attention heads" config 's/"num_attention_heads": 6/"num_attention_heads": 0/' \
    "$(whole num_attention_heads 16777216)"
ok "heads that KV heads do not divide" \
    config 's/"num_key_value_heads": 2/"num_key_value_heads": 4/' \
    'bad/config.json: 6 attention heads are no multiple of 4 key-value heads'
for v in 0 -96 96.5 '"96"' 1e300 99999999999999999999 '[96]' '{}' true; do
    ok "hidden_size $v" config "s/\"hidden_size\": 96/\"hidden_size\": $v/" \
        "$(whole hidden_size 16777216)"
done
ok "2^31 layers" config 's/"num_hidden_layers": 6/"num_hidden_layers": 2147483648/' \
    "$(whole num_hidden_layers 4096)"
ok "one layer too few" config 's/"num_hidden_layers": 6/"num_hidden_layers": 5/' \
    "bad/model.safetensors: tensor 'model.layers.5.input_layernorm.weight' "\
"belongs to no part of a llama model of 5 layers"
ok "a head dimension that the tensors contradict" \
    config 's/"head_dim": 16/"head_dim": 32/' \
    "bad: tensor 'model.layers.0.self_attn.k_proj.weight' is 32 x 96; "\
"the architecture says 64 x 96"
ok "no context" config 's/"max_position_embeddings": 512/"max_position_embeddings": 0/' \
    "$(whole max_position_embeddings 1073741824)"
ok "an epsilon below 0" config 's/"rms_norm_eps": 1e-05/"rms_norm_eps": -1/' \
    "bad/config.json: 'rms_norm_eps' must be a number above 0"
ok "NaN is no JSON" config 's/"rms_norm_eps": 1e-05/"rms_norm_eps": NaN/' \
    "bad/config.json: line 23: invalid token near 'NaN'"
ok "a key that is there twice" \
    config 's/"use_cache": true/"use_cache": true, "use_cache": true/' \
    "bad/config.json: line 30: duplicate object key near '\"use_cache\"'"
ok "a token outside the vocabulary" config 's/"bos_token_id": 1/"bos_token_id": 768/' \
    'bad: bos_token_id 768 is outside the vocabulary of 768'
ok "EOS tokens that are none" config 's/"eos_token_id": 0/"eos_token_id": [0, "x"]/' \
    'bad/config.json: eos_token_id holds what is no id of a vocabulary of 768'
ok "a negative RoPE factor" \
    config 's/"rope_type": "default"/"rope_type": "linear", "factor": -8.0/' \
    "bad/config.json: 'factor' must be a number above 0"
ok "RoPE scaling in parts" \
    config 's/"rope_type": "default"/"rope_type": "llama3", "factor": 8.0/' \
    "bad/config.json: 'low_freq_factor' is missing"

# ---- JSON ---------------------------------------------------------------------------
# json_file 'SENTENCE': what bad/config.json holds is refused so
json_file() { exactly 3 "lamina: bad/config.json: $1" inspect bad; }
awk 'BEGIN { for (i = 0; i < 100000; i++) printf "[" }' >bad/config.json
ok "JSON: 100000 brackets" json_file 'line 1: nested deeper than 200 levels'
awk 'BEGIN { printf "{\n\"a\": "; for (i = 0; i < 250; i++) printf "{\"a\":"
    printf "1"; for (i = 0; i < 251; i++) printf "}" }' >bad/config.json
ok "JSON: 250 objects in each other" json_file 'line 2: nested deeper than 200 levels'
printf '{"a": 1e999}' >bad/config.json
ok "JSON: a number beyond all" json_file "line 1: real number overflow near '1e999'"
printf '{"a": "x\0y"}' >bad/config.json
ok "JSON: a NUL in a string" says 3 'bad/config.json: line 1: ' inspect bad
printf '{"a": "x\\u0000y"}' >bad/config.json
ok "JSON: an escaped NUL" says 3 'bad/config.json: line 1: .u0000 is not allowed' \
    inspect bad
printf '{\n"a": "\300\200"}' >bad/config.json
ok "JSON: overlong UTF-8" says 3 'bad/config.json: line 2: unable to decode byte 0xc0' \
    inspect bad
printf '[1, 2]' >bad/config.json
ok "JSON: an array" json_file 'expected a JSON object'
: >bad/config.json
ok "JSON: nothing" says 3 'bad/config.json: line 1: ' inspect bad

# ---- texts of strangers on a terminal -----------------------------------------------
no_escapes() { ! LC_ALL=C grep -q "$(printf '[\001-\010\013-\037\177]')" "$1"; }
sed 's/"model_type": "llama"/"model_type": "\\u001b]0;owned\\u0007\\u009b31m"/' \
    "$tiny/config.json" >bad/config.json
ok "an escape sequence as model type" exits 3 inspect bad
ok "does not reach the terminal" no_escapes "$tmp/err"
ok "the rest of it does" grep -q "model_type '?]0;owned?" "$tmp/err"
escape=$(printf '\033[31m')
ok "an escape sequence in a name" exits 3 inspect "/no/$escape"
ok "does not reach the terminal, either" no_escapes "$tmp/err"
if script -qec true /dev/null >/dev/null 2>&1 </dev/null; then
    cp "$tiny/config.json" bad/config.json
    mv bad "a${escape}b"
    script -qec "'$LAMINA' inspect 'a${escape}b'" /dev/null </dev/null >typescript 2>&1
    ok "nor in results on a terminal" grep -q 'a?\[31mb' typescript
    "$LAMINA" inspect "a${escape}b" >plain
    ok "in a file they are what they are" grep -qF "a${escape}b" plain
    mv "a${escape}b" bad
else
    skip "results on a terminal" "no script program"
fi

# ---- texts --------------------------------------------------------------------------
printf 'good \303\244 text, then \377 no more' >latin.txt
ok "a text that is not UTF-8: where it ends to be" says 3 \
    '^lamina: .*latin.txt: the text is not UTF-8: byte 19 \(0xff\) does not '\
'belong there' \
    eval "$tiny" --metric perplexity:text=latin.txt,window=8
printf 'cut off in a character \342\202' >cut.txt
ok "a text that ends in the middle of a character" \
    says 3 'cut.txt: the text is not UTF-8: byte 23' \
    eval "$tiny" --metric perplexity:text=cut.txt,window=8
ok "in a pipeline, too" says 3 'latin.txt: the text is not UTF-8' run small.cfg \
    --set run.out=latin --set 'data.search.path="latin.txt"'
ok "and it leaves no run folder" test ! -e latin
: >empty.txt
ok "an empty text" says 3 'empty.txt' eval "$tiny" \
    --metric perplexity:text=empty.txt,window=64
echo 'a few words only' >few.txt
ok "a text shorter than a window says how long both are" \
    says 3 'few.txt.*[0-9]+ tokens.*64' \
    eval "$tiny" --metric perplexity:text=few.txt,window=64
ok "a calibration text shorter than a sequence" says 3 'tokens' run small.cfg \
    --set run.out=few --set 'data.calibration.path="few.txt"'
ok "a folder as text" says 3 "a folder" eval "$tiny" \
    --metric perplexity:text="$tmp",window=64

# ---- options ------------------------------------------------------------------------
ppl="perplexity:text=$text"
ok "an option that is given twice" says 2 'window.*twice' eval "$tiny" \
    --metric "$ppl,window=8,window=9"
ok "an option without a value" says 2 'window' eval "$tiny" --metric "$ppl,window"
ok "an option without a name" says 2 '.' eval "$tiny" --metric "$ppl,=8"
ok "a number beyond 64 bits" says 2 '99999999999999999999 does not fit 64 bits' \
    eval "$tiny" --metric "$ppl,window=99999999999999999999"
ok "a metric without a name" says 2 '.' eval "$tiny" --metric ':window=8'
ok "a goal too many" says 2 'one of --to, --max-size, --max-latency' shrink "$tiny" \
    --to 0.8 --max-size 1MB
ok "a share above 1" says 2 'share' shrink "$tiny" --to 1.5 --text "$text"
ok "a share of 0" says 2 'share' shrink "$tiny" --to 0 --text "$text"
ok "100000 threads" says 2 '100000 threads are too many; at most 1024' eval "$tiny" \
    --metric size --threads 100000
ok "a size that is none" says 2 "'12parsecs' is not a size" shrink "$tiny" \
    --max-size 12parsecs
ok "a time that is none" says 2 "'soon' is not a time" shrink "$tiny" --max-latency soon
for v in run.seed=1 run.workers 'run={ workers = 2; }' run.workersx=1; do
    ok "--resume with --set $v" says 2 'keeps its pipeline' run --resume r --set "$v"
done
ok "a pipeline and --resume, too" says 2 'run: give a pipeline file, or --resume DIR' \
    run small.cfg --resume r
for v in 'run' '=1' 'run.=1' 'run..seed=1' 'run[x]=1' 'prune[=1' 'prune[7].step=1' \
    'run.seed=' 'run.seed=1;lamina=2' 'run.seed="x' 'run.seed[0].x=1' \
    'base=other.cfg' 'lamina=2' \
    'data=${run.nothing}' 'run.name="${run.name}"' 'prune=( { use = "ffn"; ' 'model=5'; do
    ok "--set $v" says 2 ': error: ' check small.cfg --set "$v"
done
long=$(awk 'BEGIN { for (i = 0; i < 2000; i++) printf "a." }')
ok "--set with a path of 4000 bytes" says 2 'the path is too long' check small.cfg \
    --set "${long}a=1"
ok "65 times --set" says 2 '64' check small.cfg \
    $(awk 'BEGIN { for (i = 0; i < 65; i++) print "--set run.seed=1" }')

# ---- where nothing can be written ---------------------------------------------------
: >file
ok "a file where the run folder should be" says 1 "'file'.*a file has that name" \
    run small.cfg --set run.out=file
ok "a run folder below a file" \
    says 1 "cannot create folder 'file': a file has that name" run small.cfg \
    --set run.out=file/r
ok "a cache folder below a file" env XDG_CACHE_HOME="$tmp/file" sh -c \
    "'$LAMINA' run small.cfg --set run.out=nocache 2>err; test \$? = 1 && "\
"grep -q 'cannot create folder' err"
ok "which leaves no run folder" test ! -e nocache
mkdir taken; ln -s "$tmp/elsewhere" taken/lock
ok "a lock that leads elsewhere is not followed" says 1 'taken/lock: cannot be written' \
    run small.cfg --set run.out=taken
ok "nothing was made there" test ! -e elsewhere
for command in "inspect $tiny" list "help run" --version; do
    # shellcheck disable=SC2086
    ok "$command: standard output is full" sh -c \
        "'$LAMINA' $command >/dev/full 2>err; test \$? = 1 && "\
"grep -q 'No space left on device' err"
done

# ---- a disk that fills up, a limit of file sizes --------------------------------------
lamina run small.cfg --set run.out=whole
show >whole.txt
ok "the run that nothing disturbs" test "$rc" = 0
trials whole/report.json >whole.trials
count_trials()
{
    lamina inspect "$1"
    sed -n 's/.*[^0-9]\([0-9][0-9]*\) trials.*/\1/p' "$tmp/out" | head -n 1
}
alike()             # FOLDER: it ends where the undisturbed run ends
{
    trials "$1/report.json" >now.trials
    cmp whole.trials now.trials && cmp whole/export/knee-f16.gguf \
        "$1/export/knee-f16.gguf"
}
# Status 1 and one sentence; what was recorded stays; resuming without the limit
# ends like the undisturbed run.
limited()           # BLOCKS of 512 bytes
{
    (
        ulimit -f "$1" || exit 77
        "$LAMINA" run small.cfg --set "run.out=limit$1" >out 2>err
        echo $? >rc
    )
    cat err
    test "$(cat rc)" = 1 && grep -q '^lamina: ' err || return 1
    if test -e "limit$1/study.db"; then
        exits 0 run --resume "limit$1"
    else
        exits 0 run small.cfg --set "run.out=limit$1"
    fi && alike "limit$1"
}
for blocks in 8 40 120 300; do
    ok "files of at most $blocks blocks, then no limit" limited $blocks
done

cat >disk.sh <<'END'
# KB: a run on a disk of so many, then the disk grows and the run goes on
mkdir -p disk && mount -t tmpfs -o "size=$1k" none disk || exit 77
"$LAMINA" run small.cfg --set run.out=disk/r >out 2>err
echo $? >rc
test -e disk/r/study.db && "$LAMINA" inspect disk/r >before 2>&1
mount -o remount,size=100m disk
if test -e disk/r/study.db; then "$LAMINA" run --resume disk/r >out 2>&1
else "$LAMINA" run small.cfg --set run.out=disk/r >out 2>&1
fi
echo $? >rc2
cp -R disk/r "grown$1"
END
export LAMINA
filled()            # KB
{
    unshare -m sh disk.sh "$1"
    cat err out
    test "$(cat rc)" = 1 &&
        grep -Eq '^lamina: .*(disk is full|No space left|disk I/O)' err &&
        test "$(cat rc2)" = 0 && alike "grown$1"
}
if unshare -m sh -c 'mkdir -p disk && mount -t tmpfs -o size=100k none disk' \
    2>/dev/null; then
    for kb in 20 48 100 150 300; do
        ok "a disk of $kb KB that is full, then larger" filled $kb
    done
else
    skip "a full disk" "no right to mount one"
fi

# ---- statistics in the cache -----------------------------------------------------------
stats=$(ls "$XDG_CACHE_HOME"/lamina/stats-*.bin | head -n 1)
again()             # the run as before, whatever is in the cache
{
    rm -rf again
    exits 0 run small.cfg --set run.out=again && trials again/report.json >now.trials &&
        cmp whole.trials now.trials
}
cp "$stats" sound.bin
head -c 5000 sound.bin >"$stats"
ok "truncated statistics are made anew" again
ok "and replaced" cmp sound.bin "$stats"
{ head -c 16 sound.bin; printf '\377\377\377\377\377\377\377\177'
    tail -c +25 sound.bin; } >"$stats"
ok "statistics of another model are made anew" again
: >"$stats"
ok "empty ones, too" again
rm "$stats"; mkdir "$stats"
ok "a folder in their place: status 3, by name" says 3 'stats-.*a folder' run small.cfg \
    --set run.out=again2
rmdir "$stats"

# ---- studies ---------------------------------------------------------------------------
study() { rm -rf s; cp -R whole s; rm -f s/study.db-wal s/study.db-shm; }
everywhere()        # STATUS PATTERN: resume, inspect, report, export refuse the study so
{
    says "$1" "$2" run --resume s && says "$1" "$2" inspect s &&
        says "$1" "$2" report s && says "$1" "$2" export s best x.gguf
}
study; head -c 3000 whole/study.db >s/study.db
ok "a truncated study" everywhere 3 's/study.db.*damaged'
study; : >s/study.db
ok "an empty one" everywhere 3 \
    's/study.db holds no study: its run was interrupted before the start'
study; cp "$tiny/config.json" s/study.db
ok "a file that is none" everywhere 3 's/study.db is not a study'
study; rm s/study.db; mkdir s/study.db
ok "a folder in its place" everywhere 3 's/study.db'
study; printf '\0\0\0\143' | dd of=s/study.db bs=1 seek=60 conv=notrunc 2>/dev/null
ok "a study of another version of the format" everywhere 3 \
    's/study.db is a study of version 99, this program reads version 1; '\
'use the program that wrote it'
study; printf 'XXXX' | dd of=s/study.db bs=1 seek=68 conv=notrunc 2>/dev/null
ok "a database of another program" everywhere 3 \
    's/study.db is not a study, but a database of another program'
study; echo journal >s/study.db-journal
ok "a rollback journal beside it" everywhere 3 \
    's/study.db-journal: no study has such a file'
echo precious >victim
for f in study.db-wal study.db-shm lock report.html; do
    study; rm -f s/$f; ln -s ../victim s/$f
    lamina inspect s
    lamina run --resume s
    ok "a link as $f leads to nothing that is written" grep -q '^precious$' victim
done
# bytes of texts in place, so that the pages stay sound
replace()           # FROM TO, of one length
{
    study
    LC_ALL=C sed "s/$1/$2/g" whole/study.db >s/study.db
    ! cmp -s whole/study.db s/study.db &&
        test "$(wc -c <whole/study.db)" = "$(wc -c <s/study.db)"
}
version=$(lamina --version; sed 's/lamina //' "$tmp/out")
other=$(echo "$version" | sed 's/^./9/')
hash=$("$json_get" whole/report.json model_hash)
ok "(the hash in it becomes another one)" replace "$hash" 0123456789abcdef
ok "a study of another model" says 3 \
    "^lamina: .*/s: the study is of model 0123456789abcdef, this is $hash; "\
"start a new run" run --resume s
ok "can still be inspected" prints trials inspect s
ok "(the version in it becomes another one)" replace "version$version" "version$other"
ok "a study of another version" \
    says 3 "s: the study is of version $other, this is $version; start a new run" \
    run --resume s
ok "(plans in it become others)" replace 'plan 1 layers=6' 'plan 1 layers=7'
ok "plans of another model" \
    says 3 's/study.db: the plan was made for a model of 7 layers, this one has 6' \
    inspect s
ok "(metrics in it get an escape sequence)" replace 'kl\.nats' "kl$escape"
lamina inspect s
ok "it does not reach the terminal" no_escapes "$tmp/out"
ok "nor the errors" no_escapes "$tmp/err"
cp "$text" changed.txt
lamina run small.cfg --set run.out=texts --set 'data.search.path="changed.txt"' \
    --set search.budget=8
ok "(a run over a text)" test "$rc" = 0
sed 's/e/a/' "$text" >changed.txt
ok "whose text changed since" says 3 "texts: the study is of text 'search'" \
    run --resume texts

# ---- a model that would overwrite itself -----------------------------------------------
cp -R "$tiny" self
chmod -R u+w self
lamina run small.cfg --set run.out=selfish --set 'model.path="self"' --set search.budget=8
ok "(a run of a copy)" test "$rc" = 0
ln -s self alias
for name in self ./self/ self/../self alias "$tmp/self"; do
    ok "export to $name" says 2 'would overwrite the model that is read' \
        export selfish 0 "$name" --format hf --dtype f16 --force
done
ok "it is as it was" cmp "$tiny/model.safetensors" self/model.safetensors

# ---- names -----------------------------------------------------------------------------
odd='a"b\c ${HOME} $x'
ok "a run folder with quotes, dollars, backslashes" sh -c "'$LAMINA' shrink '$tiny' \
    --text '$text' --out '$odd' --dry-run >odd.cfg"
ok "its pipeline says so" prints sound check odd.cfg
cp -R whole "$odd"
ok "and is resumed there" exits 0 run --resume "$odd"
ok "nothing was written elsewhere" test -s "$odd/report.json"
ok "two exports to one file" says 2 'export.1. would overwrite export/x of export.0.' \
    check small.cfg --set 'export[0].file=x' \
    --set 'export[+]={ use = "gguf"; dtype = "f32"; file = "x"; }'
ok "and by default" says 2 'export.1. would overwrite export/knee-f16.gguf' \
    check small.cfg --set 'export[+]={ use = "gguf"; dtype = "f16"; pick = "knee"; }'
for use in ../search/random "$LAMINA_PLUGIN_PATH/search/random" random.so \
    './random' ''; do
    ok "a pipeline names plugins, not files: '$use'" says 2 ": error: " check small.cfg \
        --set "search={ use = \"$use\"; budget = 8; }"
done
ok "an export with a path as name" says 2 "'../x' is no plain name" check small.cfg \
    --set 'export[0].file="../x"'

# ---- reports ---------------------------------------------------------------------------
cp -R "$tiny" '<script>alert(1)<'
lamina run small.cfg --set run.out=xss --set 'model.path="<script>alert(1)<"' \
    --set search.budget=8 --set 'run.name="</pre><img src=x onerror=alert(2)>"'
ok "a model and a run whose names are markup" test "$rc" = 0
plain() { ! grep -q '<script>alert\|<img\|</pre><img' xss/report.html; }
ok "stay text in report.html" plain
ok "in full" grep -q '&#60;script&#62;alert(1)&#60;' xss/report.html
ok "and in report.json" "$json_get" xss/report.json
finish
