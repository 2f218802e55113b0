#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Documents against the program: manual pages, completions, the description of
# pipeline files, the tutorial.  Whatever the program gains has to show up there.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
have() { command -v "$1" >/dev/null 2>&1; }
doc=$LAMINA_SRCDIR/doc

# Commands, one to a line; "COMMAND --option" for each option of each.
lamina help
sed -n 's/^lamina \([a-z-]*\) .*/\1/p' out >commands
ok "help lists commands" less 12 "$(wc -l <commands)"
while read -r c; do
    lamina help "$c"
    sed -n "s/^  \(--[a-z-]*\).*/$c \1/p" out
done <commands >options
ok "and they have options" less 20 "$(wc -l <options)"
lamina list
awk '/^  [a-z]/ { print $1 }' out >plugins

# ---- manual pages ------------------------------------------------------------------
ok "the pages are written" sh "$LAMINA_SRCDIR/scripts/make-docs" "$LAMINA" made
every()             # every FILE COMMAND...: succeeds for each line of FILE
{
    list=$1; shift
    while read -r line; do
        "$@" "$line" || { echo "$line"; return 1; }
    done <"$list"
}
has_page() { test -s "made/lamina-$1.7" || ls made/lamina-*-"$1".7; }
ok "each plugin has one" every plugins has_page
plain() { sed 's/\\-/-/g; s/\\f[BIR]//g' "$1"; }
plain made/lamina.1 >lamina.txt
has_term() { grep -q -e "^$1 " -e "^$1\$" lamina.txt; }
ok "lamina(1) has each command" every commands has_term
sed 's/.* //' options | sort -u >option_words
ok "and each option" every option_words has_term
"$LAMINA" help pipeline >pipeline.txt
plain made/lamina.cfg.5 >cfg.txt
in_cfg() { grep -q "^$1 = " cfg.txt; }
sed -n 's/^  \([a-z_][a-z_]*\)  .*/\1/p' pipeline.txt | sort -u >keys
ok "lamina.cfg(5) has each key" every keys in_cfg
cp "$doc/lamina-plugin.7" made
roff()              # roff COMMAND...: says nothing about any page
{
    for f in made/*.[157]; do
        "$@" "$f" >tap.roff 2>&1
        if test -s tap.roff; then echo "$f"; cat tap.roff; return 1; fi
    done
}
quiet_groff() { groff -man -ww -Tascii -z "$1"; }
quiet_mandoc() { mandoc -T lint -W warning "$1" | grep -v 'missing date'; }
quiet_man()
{
    LC_ALL=C.UTF-8 man --warnings=w -E UTF-8 -l -Tutf8 -Z "$1" 2>&1 >/dev/null
}
if have groff; then ok "groff has no warning" roff quiet_groff
else skip "groff has no warning" "no groff"; fi
if have mandoc; then ok "mandoc has no warning" roff quiet_mandoc
else skip "mandoc has no warning" "no mandoc"; fi
if man --version 2>/dev/null | grep -q '^man 2'; then
    ok "man has no warning" roff quiet_man
else skip "man has no warning" "no man-db"; fi

# ---- completions -------------------------------------------------------------------
in_bash()           # "COMMAND --option": in the line of the command
{
    grep "^  ${1% *})" made/lamina.bash | grep -q -e "${1#* }['\" ]"
}
ok "bash: each option of each command" every options in_bash
in_zsh()
{
    awk -v c="    ${1% *}) _arguments" \
        'index($0, c) == 1 { on = 1 } on; / ;;$/ { on = 0 }' \
        made/_lamina | grep -q -e "${1#* }\["
}
ok "zsh: each option of each command" every options in_zsh
in_fish() { grep -q "seen_subcommand_from ${1% *}' -l ${1#* --} " made/lamina.fish; }
ok "fish: each option of each command" every options in_fish
PATH=$LAMINA_BUILDDIR:$PATH; export PATH
in_words() { grep -qx -e "$1" words; }
if have bash; then
    cat >complete.bash <<'END'
. made/lamina.bash
COMP_WORDS=(lamina "$@") COMP_CWORD=$# COMPREPLY=()
_lamina
printf '%s\n' "${COMPREPLY[@]}"
END
    completes() { bash complete.bash "$@" >words; }
    completes ''
    ok "bash completes commands" every commands in_words
    completes eval --m
    ok "bash completes options" same "$(cat words)" --metric
    completes help ''
    ok "bash completes plugins" every plugins in_words
    completes eval x --metric p
    ok "bash completes evaluators" same "$(cat words)" perplexity
    completes --plugin-path x li
    ok "bash knows that --plugin-path has a value" same "$(cat words)" list
    touch 'a file'
    completes check a
    ok "bash completes files" same "$(cat words)" 'a file'
    completes run --resume ma
    ok "bash completes folders behind --resume" same "$(cat words)" made
    touch unlisted.so
    completes selftest unl
    ok "bash completes files to test" same "$(cat words)" unlisted.so
    completes selftest perp
    ok "bash completes plugins to test" same "$(cat words)" perplexity
    completes cache c
    ok "bash completes fixed words" same "$(cat words)" clear
else skip "completion in bash" "no bash"; fi
if have zsh; then ok "zsh takes its completion" zsh -n made/_lamina
else skip "zsh takes its completion" "no zsh"; fi
if have fish; then
    fish_words() { HOME=$tmp fish -N -c "source made/lamina.fish; complete -C '$1'" |
        sed 's/	.*//' >words; }
    fish_words 'lamina '
    ok "fish completes commands" every commands in_words
    fish_words 'lamina help '
    ok "fish completes plugins" every plugins in_words
    fish_words 'lamina eval --me'
    ok "fish completes options" same "$(cat words)" --metric
else skip "completion in fish" "no fish"; fi

# ---- doc/pipeline-format.md --------------------------------------------------------
# "GROUP KEY" for each option of each group
awk '/^[a-z, ]*: / { split($0, part, /[:,]/); group = part[1] }
    /^  [a-z_]+  / && group != "" { print group, $1 } /^$/ { group = "" }' \
    pipeline.txt >group_keys
ok "help pipeline tells keys" less 20 "$(wc -l <group_keys)"
described()         # in the section whose title names the group, in a table
{
    awk -v group="\`${1% *}\`" -v key="| \`${1#* }\` |" '
        /^## / { on = index($0, group) } on && index($0, key) == 1 { found = 1 }
        END { exit !found }' "$doc/pipeline-format.md"
}
ok "pipeline-format.md describes each key" every group_keys described
for group in score prune repair quantize evaluate final search backend report lamina; do
    ok "and the stage $group" grep -q "^| \`$group\` |" "$doc/pipeline-format.md"
done
awk '/^```cfg/ { on = 1; n++; next } /^```/ { on = 0 }
    on { print >("example" n ".cfg") }' \
    "$doc/pipeline-format.md"
ok "it has examples" test -s example3.cfg
cd "$LAMINA_SRCDIR" || exit 99
for f in "$tmp"/example*.cfg; do
    ok "valid: ${f##*/}" prints sound check "$f"
done
cd "$tmp" || exit 99

# ---- doc/plugin-tutorial.md ----------------------------------------------------------
awk '/^```/ { on = 0 } on { print >file }
    /^```c$/ { getline line; file = line; gsub(/[\/* ]/, "", file); on = 1
        print line >file }' \
    "$doc/plugin-tutorial.md"
awk '/^## All of them/ { here = 1 } /^```/ { if (on) exit; on = here; next } on' \
    "$doc/plugin-tutorial.md" >climbed.cfg
awk '/^## Does it help/ { here = 1 } /^```/ { if (on) exit; on = here; next } on' \
    "$doc/plugin-tutorial.md" >swept.cfg
awk '/^# score.py/ { on = 1 } /^```/ { on = 0 } on' "$doc/plugin-tutorial.md" >score.py
if have "${CC:-cc}"; then
    for p in middle gates million climb; do
        ok "the tutorial's $p compiles without a warning" "${CC:-cc}" -std=c11 -Wall \
            -Wextra -Werror -shared -fPIC -I"$LAMINA_SRCDIR/core" -o $p.so $p.c
    done
    ok "their options are explained" prints 'How many layers may go' --plugin-path . \
        help middle
    (cd "$LAMINA_SRCDIR" && "$LAMINA" --plugin-path "$tmp" run "$tmp/climbed.cfg" \
        --set "run.out=\"$tmp/climbed\"") >out 2>err
    rc=$?
    together() { show; test "$rc" = 0; }
    ok "they work together" together
    swept() { (cd "$LAMINA_SRCDIR" && "$LAMINA" --plugin-path "$tmp" check \
        "$tmp/swept.cfg") | grep 'a sweep of 3 variants, 21 runs'; }
    ok "and vary" swept
    ok "the constraint is met, and something is cut" grep -q '"feasible": true' \
        climbed/report.json
else skip "the tutorial's plugins" "no compiler"; fi
if have python3; then
    ok "the script of the tutorial" prints 'command.accuracy' eval "$tiny" \
        --allow-commands --metric "command:command=[python3,$tmp/score.py,{model}],"\
"metrics=[\"accuracy maximise\","\
"\"speed=/runs/0/tokens_per_second unit=1/s noisy maximise\"]"
else skip "the script of the tutorial" "no python3"; fi

# ---- the README names every command that there is -------------------------------------
in_readme() { grep -q "lamina $1" "$LAMINA_SRCDIR/README.md"; }
ok "README shows each command" every commands in_readme
finish
