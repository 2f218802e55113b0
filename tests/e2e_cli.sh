#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every command as its user meets it: what it prints where, how it ends, and
# what it says about mistakes.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
text=$tiny/test.txt

# ---- usage -----------------------------------------------------------------------
ok "no command: status 2" says 2 'name a command'
ok "unknown command: the nearest one is named" says 2 "did you mean 'eval'" evla x
ok "unknown option: the nearest one is named" says 2 "did you mean '--metric'" \
    eval "$tiny" --metrik size
ok "an option without its value" says 2 'needs a value' eval "$tiny" --metric
ok "a number that is none" says 2 "'two'" eval "$tiny" --metric size --threads two
ok "--name=value" exits 0 eval "$tiny" --metric=size --threads=1
ok "too many arguments" says 2 'unexpected' eval "$tiny" "$tiny" --metric size
ok "--plugin-path alone" says 2 'needs a folder' --plugin-path
ok "--version" prints '^lamina [0-9]' --version
for c in shrink run check list help inspect eval generate tokenize export convert report \
    cache doctor selftest new-plugin; do
    ok "help $c" prints "lamina $c" help $c
done
documented()        # every option that the usage of a command names exists
{
    lamina help "$1"
    sed -n 1p "$tmp/out" | grep -o -e '--[a-z-]*' | sort -u | while read -r o; do
        grep -q "^  $o" "$tmp/out" || echo "$1: $o is in the usage, not among the options"
    done >"$tmp/undocumented"
    cat "$tmp/undocumented"
    test ! -s "$tmp/undocumented"
}
for c in shrink run check eval generate tokenize export convert report selftest \
    new-plugin; do
    ok "$c has the options that its usage shows" documented $c
done
for p in search/random scorer/random chain greedy nsga2 nsga3 linas mask_mutation tpe bayes \
    lagrangian \
    layers blocks depth \
    kv_groups heads ffn mask ranked magnitude wanda activation flap inverse_hessian cka \
    block_influence none \
    least_squares admm perplexity kl size macs memory latency command cpu reference hf gguf \
    table json csv html; do
    ok "help $p" prints "^${p#*/} " help $p
done
ok "help of what is not there" says 2 'wand' help wand
ok "list" prints '^  least_squares' list
ok "list KIND" prints '^  wanda' list scorer
ok "list of no kind" says 2 'scorer' list scorrer

# ---- models that are not there, damaged ------------------------------------------
spoil() { rm -rf bad; cp -R "$golden/llama-mha" bad; chmod -R u+w bad; }
ok "missing model: status 3" says 3 '/nowhere' eval /nowhere --metric size
ok "missing model, inspect" says 3 '/nowhere' inspect /nowhere
mkdir empty
ok "a folder without a model" says 3 'empty' inspect empty
printf 'not a model' >text.gguf
ok "a file that is no model" says 3 'text.gguf' inspect text.gguf
spoil; head -c 5000 "$golden/llama-mha/model.safetensors" >bad/model.safetensors
ok "truncated safetensors: eval" says 3 'model.safetensors' eval bad --metric size
ok "truncated safetensors: inspect" says 3 'model.safetensors' inspect bad
spoil; : >bad/model.safetensors
ok "empty safetensors" says 3 'model.safetensors' inspect bad
spoil; printf '\377\377\377\377\377\377\377\177{}' >bad/model.safetensors
ok "safetensors with an impossible header" says 3 'model.safetensors' inspect bad
spoil; tr '{' '(' <"$golden/llama-mha/model.safetensors" >bad/model.safetensors
ok "safetensors whose header is no JSON" says 3 'model.safetensors' inspect bad
spoil
sed 's/"hidden_size": 32/"hidden_size": 33/' "$golden/llama-mha/config.json" \
    >bad/config.json
ok "config and tensors disagree" says 3 'bad' inspect bad
spoil; sed 's/"llama"/"frobnicator"/; s/LlamaForCausalLM/FrobForCausalLM/' \
    "$golden/llama-mha/config.json" >bad/config.json
ok "an unsupported architecture" says 3 '[Ff]rob' inspect bad
spoil; echo '{ "model_type": "llama", ' >bad/config.json
ok "a damaged config.json" says 3 'config.json' inspect bad
spoil; rm bad/config.json
ok "no config.json" says 3 'bad' inspect bad
cp -R "$tiny" worse; chmod -R u+w worse
head -c 9000 "$tiny/tokenizer.json" >worse/tokenizer.json
ok "a damaged tokenizer: inspect" says 3 'tokenizer.json' inspect worse
ok "a damaged tokenizer: generate" says 3 'tokenizer.json' generate worse --prompt Hi
ok "inspect a model" prints '6 layers' inspect "$tiny"
ok "inspect counts parameters" prints '664800 parameters' inspect "$tiny"

# ---- eval ------------------------------------------------------------------------
ok "eval --json is one document" json eval "$tiny" --json --metric size --metric macs \
    --metric "perplexity:text=$text,window=256" \
    --metric "kl:text=$text,window=128,windows=2" \
    --metric latency:prefill=16,decode=4@8,runs=3
cp "$tmp/out" eval.json
for m in perplexity.ppl perplexity.nats kl.nats size.bytes size.params size.body_params \
    macs.per_token latency.prefill_ms latency.decode_ms; do
    ok "eval: $m with its members" "$json_get" eval.json "metrics/name=$m/value" \
        "metrics/name=$m/stderr" "metrics/name=$m/unit" "metrics/name=$m/protocol" \
        "metrics/name=$m/items"
done
field() { "$json_get" eval.json "metrics/name=$1/$2"; }
ok "eval: the model is named" same "$("$json_get" eval.json model)" "$tiny"
ok "reference perplexity within 0.01 %" near "$(field perplexity.ppl value)" \
    1.6540663697650275 1e-4
ok "ppl = exp(nats)" near "$(field perplexity.ppl value)" \
    "$(calc "exp($(field perplexity.nats value))")" 1e-9
ok "59 windows" same "$(field perplexity.ppl items)" 59
ok "with their sums" same "$("$json_get" eval.json 'metrics/name=perplexity.nats/sums/#')" 59
ok "which the value is the quotient of" near "$(metric perplexity.nats "$tiny" \
    "perplexity:text=$text,window=256,windows=1")" \
    "$(calc "$(field perplexity.nats sums/0/0) / $(field perplexity.nats sums/0/1)")" 1e-9
ok "kl of the model to itself is nothing" less "$(field kl.nats value)" 1e-5
ok "size.params" same "$(field size.params value)" 664800
ok "size.body_params" same "$(field size.body_params value)" 589824
# per token: every matrix of the body once, and the head
ok "macs.per_token" same "$(field macs.per_token value)" "$(calc '589824+768*96')"
ok "latency takes time" less 0 "$(field latency.decode_ms value)"
ok "runs of latency" same "$(field latency.decode_ms items)" 3
ppl="perplexity:text=$text"
ok "reference backend: the same perplexity" near \
    "$(metric perplexity.nats "$tiny" "$ppl,window=128,windows=2" --backend reference)" \
    "$(metric perplexity.nats "$tiny" "$ppl,window=128,windows=2")" 2e-5
ok "threads do not change a number" same \
    "$(metric perplexity.nats "$tiny" "$ppl,window=128,windows=6" --threads 1)" \
    "$(metric perplexity.nats "$tiny" "$ppl,window=128,windows=6" --threads 2)"
ok "no metric: status 2" says 2 '--metric' eval "$tiny"
ok "unknown metric: the nearest one is named" says 2 "did you mean 'perplexity'" \
    eval "$tiny" --metric perplexityy
ok "unknown option of a metric" says 2 "did you mean 'text'" eval "$tiny" \
    --metric perplexity:txt=x
ok "window out of range" says 2 'window' eval "$tiny" --metric "$ppl,window=1"
ok "stride beyond the window" says 2 'stride' eval "$tiny" \
    --metric "$ppl,window=64,stride=65"
ok "missing text: status 3" says 3 '/nowhere' eval "$tiny" \
    --metric perplexity:text=/nowhere
echo short >short.txt
ok "text shorter than a window: status 3" says 3 'short.txt' eval "$tiny" \
    --metric perplexity:text=short.txt,window=64
ok "unknown backend" says 2 'available: cpu' eval "$tiny" --metric size \
    --backend gpu
ok "a bad workload" says 2 'decode' eval "$tiny" --metric latency:decode=x

# ---- protocols: each against a sum of others -------------------------------------
nats() { metric perplexity.nats "$tiny" "perplexity:$1"; }
items() { metric perplexity.nats "$tiny" "perplexity:$1" >/dev/null &&
    "$json_get" "$tmp/metric.json" metrics/0/items; }
all=$(nats "text=$text,window=256,windows=1")
ok "second_half scores the targets window/2+1 .. window-1" near \
    "$(calc "(128 * $(nats "text=$text,window=129,windows=1") + 127 * \
        $(nats "text=$text,window=256,windows=1,score=second_half")) / 255")" "$all" 1e-5
ok "an incomplete last window is dropped" same "$(items "text=$text,window=500")" 30
ok "windows=N are the first N" same "$(items "text=$text,window=500,windows=3")" 3
# Cut the text behind its first lines, K tokens; a window that starts there is
# the first one of the rest.  Stride K and window 2K+2: the second window scores
# its last K positions, which are those of second_half.
head -n 4 "$text" >head.txt
tail -n +5 "$text" >rest.txt
lamina tokenize "$tiny" "$(cat head.txt)
" --json
k=$(get '#')
w=$((2 * k + 2))
ok "overlapping windows score their last \`stride\` positions" near \
    "$(nats "text=$text,window=$w,stride=$k,windows=2")" \
    "$(calc "(($w - 1) * $(nats "text=$text,window=$w,windows=1") + $k * \
        $(nats "text=rest.txt,window=$w,windows=1,score=second_half")) / \
        ($w - 1 + $k)")" 1e-5
ok "stride = window is the default" same "$(nats "text=$text,window=256,stride=256")" \
    "$(nats "text=$text,window=256")"
differ() { echo "$1 $2"; test "$1" != "$2"; }
printf 'Z %s' "$(head -c 3000 "$text")" >z.txt
printf 'Q %s' "$(head -c 3000 "$text")" >q.txt
ok "bos=yes overwrites the first token of a window" same \
    "$(nats "text=z.txt,window=64,windows=1,bos=yes")" \
    "$(nats "text=q.txt,window=64,windows=1,bos=yes")"
ok "bos=no does not" differ \
    "$(nats "text=z.txt,window=64,windows=1")" "$(nats "text=q.txt,window=64,windows=1")"
ok "bos=yes of every window" differ "$(nats "text=$text,window=64,windows=2,bos=yes")" \
    "$(nats "text=$text,window=64,windows=2")"

# ---- tokenize --------------------------------------------------------------------
ok "tokenize --json is an array" json tokenize "$tiny" "Hi there" --json
lamina tokenize "$tiny" 'a<|endoftext|>b' --json; plain=$(tr -d '\n' <"$tmp/out")
lamina tokenize "$tiny" 'a<|endoftext|>b' --json --special
special=$(tr -d '\n' <"$tmp/out")
lamina tokenize "$tiny" 'a<|endoftext|>b' --json --special --bos
bos=$(tr -d '\n' <"$tmp/out")
ok "--special finds <|endoftext|>" same "$special" "$(printf '[66,0,67]')"
ok "without it the text is plain" differ "$plain" "$special"
ok "--bos puts BOS first" same "$bos" "[1,${special#[}"
ok "empty text" same "$(lamina tokenize "$tiny" '' --json; tr -d '\n ' <"$tmp/out")" '[]'
ok "no tokenizer: status 3" says 3 'tokenizer' tokenize "$golden/llama-mha" Hi
prompt=$("$json_get" "$tiny/reference.json" prompt)
lamina tokenize "$tiny" "$prompt" --json
ids=$(tr -d '[]\n ' <"$tmp/out")
want=$(sed -n '/"prompt_ids"/,/]/p' "$tiny/reference.json" | grep -o '[0-9]*' |
    paste -sd, -)
ok "ids of the reference" same "$ids" "$want"

# ---- generate --------------------------------------------------------------------
array() { sed -n 's/.*"'"$1"'": *\[\([^]]*\)\].*/\1/p' "$tmp/out" | tr -d ' '; }
ok "generate --json is one document" json generate "$tiny" --prompt "$prompt" --greedy \
    --tokens 24 --json
want=$(sed -n '/"greedy_ids"/,/]/p' "$tiny/reference.json" | grep -o '[0-9]*' |
    paste -sd, -)
ok "greedy ids of the reference" same "$(array new_ids)" "$want"
ok "ids are the prompt's" same "$(array ids)" "$ids"
ok "text is the new text only" same "$(get text)" \
    "$("$json_get" "$tiny/reference.json" greedy_text)"
lamina generate "$tiny" --ids "$ids" --tokens 24 --json
ok "--ids gives what --prompt gives" same "$(array new_ids)" "$want"
lamina generate "$tiny" --ids "$ids" --tokens 24 --json --backend reference --threads 2
ok "the reference backend, too" same "$(array new_ids)" "$want"
ok "without --json: the text" prints '^ She bought four more apples' generate "$tiny" \
    --prompt "$prompt" --tokens 24
sample()
{
    lamina generate "$tiny" --ids "$ids" --tokens 30 --json --ignore-eos \
        --temperature 1.5 --top-p 0.95 "$@"
    array new_ids
}
ok "sampling: the same seed, the same text" same "$(sample --seed 7)" \
    "$(sample --seed 7 --threads 2)"
ok "sampling: another seed, another text" differ "$(sample --seed 7)" "$(sample --seed 8)"
lamina generate "$tiny" --ids "$ids" --tokens 24 --json --temperature 1 --top-p 1e-9
ok "a tiny nucleus is greedy" same "$(array new_ids)" "$want"
ok "--greedy excludes --temperature" says 2 'greedy' generate "$tiny" --ids 1 --greedy \
    --temperature 1
ok "--prompt or --ids" says 2 '--prompt' generate "$tiny"
ok "not both" says 2 '--prompt' generate "$tiny" --prompt a --ids 1
ok "ids out of the vocabulary" says 2 '768|767' generate "$tiny" --ids 1,768
ok "ids that are none" says 2 '1,,2' generate "$tiny" --ids 1,,2
ok "zero tokens" json generate "$tiny" --ids 1,2 --tokens 0 --json
ok "--prompt without a tokenizer: status 3" says 3 'ids' generate "$golden/llama-mha" \
    --prompt Hi
ok "text is null without a tokenizer" json generate "$golden/llama-mha" --ids 5,6,7 \
    --tokens 12 --ignore-eos --json
ok "null" same "$(get text)" null
long=$(array new_ids)
eos=$(echo "$long" | cut -d, -f5)
short=$(echo "$long" | awk -F, -v e="$eos" '{ for (i = 1; i <= NF; i++) {
    printf "%s%s", (i > 1 ? "," : ""), $i; if ($i == e) exit } }')
spoil
for f in config generation_config; do
    sed "s/\"eos_token_id\": *[0-9]*/\"eos_token_id\": $eos/" \
        "$golden/llama-mha/$f.json" >bad/$f.json
done
lamina generate bad --ids 5,6,7 --tokens 12 --json
ok "EOS ends generation and is the last id" same "$(array new_ids)" "$short"
lamina generate bad --ids 5,6,7 --tokens 12 --json --ignore-eos
ok "--ignore-eos goes on" same "$(array new_ids)" "$long"
cp "$tiny"/* worse/
sed 's/"bos_token":/"add_bos_token": true, "bos_token":/' "$tiny/tokenizer_config.json" \
    >worse/tokenizer_config.json
lamina generate worse --prompt "$prompt" --tokens 1 --json
ok "BOS where the tokenizer says so" same "$(array ids)" "1,$ids"

# ---- cache -----------------------------------------------------------------------
ok "cache list of nothing" prints ' 0 files' cache list
ok "cache clear of nothing" exits 0 cache clear
ok "cache does nothing else" says 2 'clear' cache burn

# ---- doctor ----------------------------------------------------------------------
ok "doctor" prints '^plugins  *[0-9]+, for ABI' doctor
ok "doctor has measured a product" prints '^sgemm  *[0-9.]+ GFLOP/s' doctor
ok "doctor knows the BLAS core" prints '^BLAS core ' doctor
ok "doctor says who uses a GPU's driver" \
    prints '^Vulkan .*(for the backend vulkan|no backend that is installed uses it)$' doctor
ok "doctor --json is one document" json doctor --json
ok "all is well" same "$(get facts/ok)" true
ok "as many plugins as listed" same "$(get facts/plugin_count)" \
    "$("$LAMINA" list | grep -c '^  ')"
mkdir -p own && printf 'no module' >own/ghost.so
ok "a broken plugin: its file and why" prints \
    'warning: .*own/ghost.so: cannot be opened' --plugin-path own doctor
ok "it is in the document" json --plugin-path own doctor --json
ok "as a warning" same "$(get complaints/0/level)" warning
: >nofolder
full_of_errors() { (XDG_CACHE_HOME=$tmp/nofolder; lamina doctor; show; test "$rc" = 1 &&
    grep -q '^error: the cache folder cannot be written: ' "$tmp/out"); }
ok "a cache folder that cannot be: status 1" full_of_errors
forced() { (OPENBLAS_CORETYPE=Haswell; export OPENBLAS_CORETYPE
    prints 'OPENBLAS_CORETYPE=Haswell is set' doctor); }
ok "a forced BLAS core is told" forced
finish
