#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lamina convert: what returns, what it refuses, and that a failure leaves what was
# there as it was.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"

hash_of() { lamina inspect "$1"; sed -n 's/^  hash //p' "$tmp/out"; }
quiet() { test "$(ls -A | grep -c 'partial\|\.old')" = 0; }

# ---- there and back ----------------------------------------------------------------
for g in llama-gqa-tied-bf16 llama3-rope-f16 mistral-gqa qwen2-bias-tied qwen3-qknorm \
    llama-yarn; do
    ok "$g to GGUF" exits 0 convert "$golden/$g" "$g.gguf"
    ok "$g back" exits 0 convert "$g.gguf" "$g"
    was=$(hash_of "$golden/$g")
    ok "$g: the same hash in GGUF" same "$(hash_of "$g.gguf")" "$was"
    ok "$g: the same hash again" same "$(hash_of "$g")" "$was"
    ok "$g: the same generation_config.json" \
        cmp "$golden/$g/generation_config.json" "$g/generation_config.json"
done
ok "the converted model says what it is" prints 'qwen3, 3 layers' \
    inspect qwen3-qknorm.gguf
ok "RoPE scaling is named" prints 'scaled \(yarn\) by 4' inspect llama-yarn.gguf
ok "shards become one file" exits 0 convert "$golden/mistral-gqa" one
ok "and the model is the same" same "$(hash_of one)" "$(hash_of "$golden/mistral-gqa")"

# ---- a tokenizer -------------------------------------------------------------------
ids() { lamina tokenize "$1" 'The quick <|im_start|>  12345 fox'; cat "$tmp/out"; }
ok "a model with a tokenizer to GGUF" exits 0 convert "$tiny" tiny.gguf
ok "and back" exits 0 convert tiny.gguf tiny
want=$(ids "$tiny")
ok "GGUF: the same token ids" same "$(ids tiny.gguf)" "$want"
ok "back: the same token ids" same "$(ids tiny)" "$want"
text() { lamina generate "$1" --prompt 'Once upon' --tokens 12; cat "$tmp/out"; }
ok "back: the same text" same "$(text tiny)" "$(text "$tiny")"

# ---- number formats ----------------------------------------------------------------
ok "q8_0" exits 0 convert "$tiny" small.gguf --dtype q8_0
ok "it is q8_0" prints 'q8_0' inspect small.gguf
ok "blocks do not go into a folder on their own" says 2 \
    'q8_0, which format hf cannot hold; choose dtype f32, f16 or bf16' \
    convert small.gguf x
ok "and nothing is left of it" test ! -e x
ok "no traces" quiet
ok "but decoded they do" exits 0 convert small.gguf x --dtype f16
ok "GGUF to GGUF keeps blocks" exits 0 convert small.gguf again.gguf
ok "bit for bit" same "$(hash_of again.gguf)" "$(hash_of small.gguf)"
ok "a number format that hf cannot write" \
    says 2 'format hf cannot write q8_0; it writes f32 f16 bf16' \
    convert "$tiny" y --dtype q8_0
ok "no such number format" says 2 "did you mean 'q8_0'" convert "$tiny" y.gguf \
    --dtype q8-0
ok "one that is only read" says 2 "'q4_k' can be read but not written; there are f32" \
    convert "$tiny" y.gguf --dtype q4_k
ok "no such format" says 2 'hff' convert "$tiny" y --format hff

# ---- what is there -----------------------------------------------------------------
ok "a file that is there" says 2 'exists; --force replaces it' convert "$tiny" small.gguf
before=$(hash_of small.gguf)
ok "is left as it was" same "$(hash_of small.gguf)" "$before"
ok "--force replaces it" exits 0 convert "$tiny" small.gguf --force
ok "with the new model" same "$(hash_of small.gguf)" "$(hash_of "$tiny")"
ok "a folder that is there" says 2 'exists; --force' convert "$golden/llama-mha" x
touch x/stale
ok "--force replaces it, too" exits 0 convert "$golden/llama-mha" x --force
ok "and what was in it" test ! -e x/stale
ok "with the new model" same "$(hash_of x)" "$(hash_of "$golden/llama-mha")"
ok "a slash at the end" exits 0 convert "$golden/llama-mha" x/ --force
ok "no traces" quiet
mkdir photos && touch photos/one.jpg
ok "a folder that is no model stays" says 2 'no model that --force may replace' \
    convert "$tiny" photos --force
ok "with what is in it" test -e photos/one.jpg
mkdir x/inner
ok "a model's folder with folders in it stays" says 2 "a folder 'inner' in it" \
    convert "$tiny" x --force
ok "as it was" same "$(hash_of x)" "$(hash_of "$golden/llama-mha")"
ok "no traces" quiet
mkdir new
ok "an empty folder is no obstacle" exits 0 convert "$tiny" new
ok "a file where a folder is" says 2 'is a folder, but the format writes a file' \
    convert "$tiny" photos --format gguf --force
ok "a folder where a file is" says 2 'is no folder' convert "$tiny" again.gguf \
    --format hf --force
ok "onto itself" says 2 'overwrite the model that is read' convert again.gguf again.gguf \
    --force
ok "into the folder that is read" says 2 'overwrite the model that is read' \
    convert new new --force
cp again.gguf new/
ok "from inside of what is replaced" says 2 'overwrite the model that is read' \
    convert new/again.gguf new --force
ln -s tiny.gguf link.gguf
ok "onto itself by another name" says 2 'overwrite' convert tiny.gguf link.gguf --force

# ---- failures ----------------------------------------------------------------------
ok "no such model" says 3 'nowhere' convert nowhere z.gguf
ok "no such folder to write to" says 1 'nowhere' convert "$tiny" nowhere/z.gguf
head -c 30000 tiny.gguf >cut.gguf
ok "a damaged model: status 3" says 3 'cut.gguf' convert cut.gguf z
ok "a damaged model leaves the old one" says 3 'cut.gguf' convert cut.gguf new --force
ok "which still is a model" prints '6 layers' inspect new
ok "no traces" quiet
ok "a format with an option" exits 0 convert "$tiny" padded --format hf:pad=true
lamina inspect "$tiny"; grep parameters "$tmp/out" >parameters
ok "equal layers need no filling up" prints "$(cat parameters)" inspect padded
ok "an unknown option of a format" says 2 "did you mean 'pad'" convert "$tiny" x \
    --format hf:padd=1
finish
