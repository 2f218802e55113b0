#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Conversations as their user meets them: `generate --chat`, texts of conversations
# in a pipeline, tokenizers that cannot be read.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"

# the tiny model with a chat template
with_template()
{
    rm -rf chat
    cp -R "$tiny" chat
    chmod -R u+w chat
    printf '{"bos_token": "<|bos|>", "eos_token": "<|endoftext|>", '\
'"chat_template": "%s"}\n' \
        "$1" >chat/tokenizer_config.json
}
llama2='{{ bos_token }}[INST] <<SYS>> {{ message }} [/INST]'

# ---- generate --chat -------------------------------------------------------------
same_ids()      # MESSAGE TEXT: --chat asks the ids that the written text has
{
    lamina generate chat --chat --prompt "$1" --tokens 4 --json
    show
    asked=$(sed 's/^{"ids":\([^]]*]\).*/\1/' "$tmp/out")
    lamina tokenize chat "$2" --special --json
    show
    same "$asked" "$(cat "$tmp/out")"
}
with_template "$llama2"
ok "a message is written as its template wants it" same_ids "Good day" \
    '<|bos|>[INST] Good day [/INST]'
ok "with a system message" prints '"text"' generate chat --chat --system "Be brief." \
    --prompt "Good day" --tokens 4 --json
ok "the answer is shown as text" prints '.' generate chat --chat --prompt "Good day" \
    --tokens 4
ok "--chat wants a prompt" says 2 '^lamina: .*--chat needs --prompt' \
    generate chat --chat --ids 1,2
ok "--system wants --chat" says 2 '--system needs --chat' generate chat --system x \
    --prompt y
ok "no template" says 3 'examples/tiny: the model has no chat template' generate "$tiny" \
    --chat --prompt x
with_template '<start_of_turn>'
ok "an unknown template is refused by saying so" says 3 \
    'chat: the chat template is of no family that is known, only ChatML' generate chat \
    --chat --prompt x
ok "inspect says so too" prints 'byte-level BPE, .*a chat template of unknown family' \
    inspect chat

# ---- texts of conversations ------------------------------------------------------
with_template "$llama2"
talk()
{
    i=0
    while test $i -lt 400; do
        printf '{"instruction": "Number %d, good morning", "output": '\
'"The kettle is on."}\n\n' $i
        i=$((i + 1))
    done
}
talk >talk.jsonl
pipeline()      # the small pipeline with conversations for calibration and search
{
    small_pipeline |
        sed -e "s|model: { path = \"$tiny\"; };|model: { path = \"chat\"; };|" \
        -e "s|calibration: { path = \"$tiny/calibration.txt\";|"\
"calibration: { path = \"talk.jsonl\"; chat = true;|" \
        -e "s|search: { path = \"$tiny/test.txt\"; part = .0.0, 0.5.;|"\
"search: { path = \"talk.jsonl\"; chat = true;|"
}
pipeline >chat.cfg
ok "a pipeline with conversations runs" exits 0 run chat.cfg
ok "its effective text says so" prints 'chat = true' check chat.cfg --effective
printf '%s\n%s\n' '{"instruction": "a", "output": "b"}' '{"question": "a"}' >talk.jsonl
ok "a line that is no conversation: file and line" says 3 \
    "talk.jsonl:2: there are neither 'messages' nor 'instruction' and 'output'" \
    run chat.cfg --set run.out=r2
printf '{"messages": [{"role": "robot", "content": ""}]}\n' >talk.jsonl
ok "a role that is not known" says 3 "talk.jsonl:1: message 1 has the role 'robot'" \
    run chat.cfg --set run.out=r3
echo '[' >talk.jsonl
ok "a line that is not JSON" says 3 "talk.jsonl:1: line 1: " run chat.cfg --set run.out=r4
echo >talk.jsonl
ok "a file without conversations" says 3 'talk.jsonl: there is no conversation' \
    run chat.cfg --set run.out=r5
with_template '<start_of_turn>'
talk >talk.jsonl
ok "a template that is not known: the line of the pipeline" says 3 \
    'chat.cfg:[0-9]+: error: data.calibration: chat: .*no family that is known' \
    run chat.cfg --set run.out=r6
pipeline | sed 's/chat = true/chat = "yes"/' >bad.cfg
ok "chat of another type: the line of the pipeline" says 2 \
    'bad.cfg:5: error: data.calibration: chat: expected true or false, not "yes"' \
    check bad.cfg

# ---- tokenizers ------------------------------------------------------------------
spoil()         # FROM TO: one place of the tokenizer changed
{
    rm -rf bad
    cp -R "$tiny" bad
    chmod -R u+w bad
    sed "s/$1/$2/" "$tiny/tokenizer.json" >bad/tokenizer.json
    ! cmp -s "$tiny/tokenizer.json" bad/tokenizer.json
}
ok "(a tokenizer is changed)" spoil '"type": *"BPE"' '"type": "WordPiece"'
ok "WordPiece is refused by name" says 3 \
    "bad/tokenizer.json: tokenizer model 'WordPiece' is not supported" inspect bad
ok "(and another)" spoil '"merges": *\[' '"merges": ["<|bos|> <|bos|>", '
ok "a merge without result names the model" says 3 \
    'bad: merge 0 of the tokenizer joins tokens [0-9]+ and [0-9]+, but their text is no '\
'token' \
    inspect bad
finish
