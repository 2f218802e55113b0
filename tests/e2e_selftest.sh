#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# selftest: every plugin of ours keeps the contract; each that breaks a rule ends
# in one sentence that names it and the rule; a run ends so as well.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"

for p in $(cd "$LAMINA_BUILDDIR/plugins" && ls -d */*.la); do
    with=
    test $p != search/linas.la || with=:inner=500,budget=90     # else 10 s
    ok "${p%.la} keeps the contract" exits 0 selftest "$LAMINA_BUILDDIR/plugins/$p$with"
done
ok "a plugin by name" prints "^ok .*search 'chain'" selftest chain
ok "a plugin by kind and name, with options" prints '^ok' selftest search/random:budget=9
ok "several plugins" prints "^ok .*repair 'none'" selftest wanda repair/none
ok "a name that two kinds have" says 2 'search/random, scorer/random' selftest random
ok "an option that holds a path" prints '^ok' selftest "perplexity:text=$PWD/x.txt"
ok "options with lists; programs are not run" prints "^ok .*'command'" \
    selftest 'command:command=["a,b","{model}"],metrics=["m=/a/b"]'
ok "an unknown plugin" says 2 "did you mean 'random'" selftest randon
ok "a file that is not there" says 3 'no such file' selftest ./nothing.so
ok "an option that it does not have" says 2 'budgett' selftest search/random:budgett=9
ok "no seconds" says 2 'seconds' selftest chain --seconds 0

evil=$LAMINA_BUILDDIR/tests/evil/.libs
if test ! -f "$evil/search_sins.so"; then
    skip "plugins that break rules" "they are built with the Check tests only"
    finish
    exit 0
fi
mkdir sins

# broken KIND SIN SENTENCE: exactly this one sentence, behind kind, name and file
broken()
{
    cp "$evil/$1_sins.so" "sins/$2.so" || return 1
    lamina selftest --seconds 2 "./sins/$2.so"
    show
    echo "lamina: $1 '$2' ($PWD/sins/$2.so): $3" >want
    test "$rc" = 1 && test ! -s "$tmp/out" && cmp want "$tmp/err"
}

b() { ok "$1 $2: $3" broken "$@"; }
cp "$evil/search_sins.so" sins/virtuous.so
ok "the same module without a sin" prints "^ok .*'virtuous'" selftest ./sins/virtuous.so
b search gene_range "ask() proposes a genome that is out of range: gene 'gene1[1]' has \
the value 2, which is not between 0 and 1 on steps of 1"
b search beyond_slots 'ask() writes beyond the 4 slots of a genome'
b search too_many 'ask() proposes 8 genomes where 7 were asked for'
b search over_budget 'proposes 7 genomes, more than the 3 that budget() promised'
b search bad_fidelity 'ask() proposes a fidelity of 0; it must lie in (0, 1]'
b search never_ends 'ask() goes on after it had ended with no proposal'
b search prints "prints ('twenty genomes to go'); use host->log"
b search deaf \
    'goes on for more than 2 s after the run was canceled (ask() after a cancel); '\
'poll host->canceled at least every 100 ms'
b search endless 'does not end: more than 2 s in the check of proposals'
b search leaves 'ends the program (exit status 0) in the check of its first instance'
b search unlike 'the same seed gives other proposals: proposal 0 is another one (a plain '\
'problem); a strategy may depend on seed, options and outcomes only'
cp "$evil/search_sins.so" sins/by_the_clock.so   # the first may be the same by chance
ok "search by_the_clock" says 1 'the same seed gives other proposals: proposal [0-9] is another one' \
    selftest --seconds 2 ./sins/by_the_clock.so
b search new_folder "changes the current folder, to '/'"
b search rounds 'changes the floating-point mode'
b search catches 'changes what signal 15 does'
b search leaks 'leaks 1 blocks of memory in the check of ask() after a cancel'
b search poor "answers 'failed' when its allocation number 1 fails, not LM_ENOMEM"
b search mute 'ask() failed (failed) without a message; use host->fail'
b search refuses 'begin() refuses every problem of the kinds of genes and objectives it '\
'declares: it is not the day for it'
b pruner same_gene "genes() failed: gene 'sin[0]' is declared twice: two entries of the \
pipeline decide the same thing"
b pruner bad_gene "genes() failed: gene 'sin[0]': the initial value must be 0 or 1"
b pruner no_gene 'genes() declares no gene for a model of 4 layers'
b pruner other_edit 'edits attention blocks, which its `edits` does not declare'
b pruner other_scores 'ranks FFN channels, which its `needs_scores` does not declare'
b pruner impure 'decode() makes different plans of the same values'
b pruner cuts_always \
    'decode() edits the model where all genes have their uncompressed value'
b pruner by_slot \
    'decode() reads values of other pruners; value[0] is its own first one, '\
'whatever `slot` its gene has'
b scorer not_finite \
    'score() gives site 2 of layer 0 (site kind 7) a value that is not finite'
b scorer forgets 'score() leaves site 7 of layer 0 (site kind 7) without a value'
b scorer writes_on 'score() writes beyond the 256 sites of layer 0'
b scorer moody 'score() gives other values the second time (layer 0, site kind 7)'
b scorer undeclared 'asks for statistics of kind 2, which its `needs` does not declare'
b repair changes \
    'the full width does not give the weights back: one is off, or a bias is, by '\
'1 (more tokens than columns)'
b repair bias_changes \
    'the full width does not give the weights back: one is off, or a bias '\
'is, by 99 (more tokens than columns)'
b repair past_end 'apply() writes beyond the 640 numbers it was asked for'
b repair bias_past_end 'bias() writes beyond the 16 numbers it was asked for'
b quantizer past_end 'encode() writes beyond the 1632 bytes it was asked for'
b quantizer not_finite 'encode() gives a value that is not finite (even weights)'
b quantizer lossy 'encode() loses 1 of the squared weights, more than 0.000122, '\
'which 8 bits allow (even weights)'
b quantizer no_zeros 'encode() does not keep zeros'
b quantizer no_blocks 'dtype() is no number format of blocks that the host can write'
b quantizer other_needs 'needs() names statistics that quantizers are not given'
b quantizer moody 'encode() gives other bytes for the same matrix'
b quantizer writes_back 'encode() changes the matrix it is given'
b evaluator no_items 'items() says there are 0 items'
b evaluator two_lines 'protocol() does not write one line of text'
b evaluator no_number "eval() of item 0 gives inf with weight 1 for 'share'"
b evaluator no_weight 'eval() gives every sum the weight 0'
b evaluator drifts \
    'eval() gives other sums for item 0 the second time, but its metrics are '\
'not declared noisy'
b evaluator runs_all 'calls host->token_losses, which its `needs` does not declare'
b evaluator needs_more 'its `needs` (0x40) hold bits that mean nothing'
b reporter no_json \
    "report() of a study without trials is not JSON: report: line 1: string or \
'}' expected near 'trials'"
b reporter no_text 'report() of a study without trials is empty'

# says_of KIND SIN PATTERN: status 1 and nothing but a sentence that matches
says_of()
{
    cp "$evil/$1_sins.so" "sins/$2.so" || return 1
    says 1 "$3" selftest "./sins/$2.so" && test "$(wc -l <"$tmp/err")" = 1
}
interrupted()       # while a plugin that never polls is tested
{
    cp "$evil/search_sins.so" sins/deaf.so || return 1
    "$LAMINA" selftest --seconds 60 ./sins/deaf.so >/dev/null 2>&1 &
    sleep 1
    kill -INT $! && wait $!
    test $? = 130
}
ok "Ctrl-C ends a selftest" interrupted
crashes="^lamina: search 'crashes' .*: (crashes \\(SIG|ends the program).* in the check "\
'of ask\(\)'
mkdir left
leaves_nothing() { TMPDIR=$PWD/left says_of search crashes "$crashes" && rmdir left; }
ok "search crashes" says_of search crashes "$crashes"
ok "and leaves no files" leaves_nothing
for sin in worse bias_worse; do
    ok "repair $sin" says_of repair $sin \
        "^lamina: repair '$sin' .*: apply\\(\\) to 39 of 40 columns is worse than no "\
"repair"
done
ok "quantizer drifts" says_of quantizer drifts \
    "^lamina: quantizer 'drifts' .*: encode\\(\\) of what it made before gives other weights"
ok "evaluator same_metric" says_of evaluator same_metric \
    "sins/same_metric.so: broken plugin: two metrics are called 'share'"
ok "reporter elsewhere" says_of reporter elsewhere \
    "sins/elsewhere.so: broken plugin: its report '../x.json' is no plain file name"
two()
{
    lamina selftest chain ./sins/mute.so
    show
    test "$rc" = 1 && grep -q "^FAIL .*mute" "$tmp/out" &&
        grep -q "1 of 2 plugins break" "$tmp/err"
}
ok "a bad one among good ones" two

# ---- a run with such a plugin ------------------------------------------------------
cat >base.cfg <<END
lamina = 1;
run: { out = "r"; seed = 1; threads = 2; };
model: { path = "$tiny"; };
data: {
  calibration: { path = "$tiny/calibration.txt"; sequences = 4; length = 64; };
  search: { path = "$tiny/test.txt"; };
};
score = ( { use = "magnitude"; } );
prune = ( { use = "layers"; } );
repair: { use = "none"; };
evaluate = ( { use = "perplexity"; text = "search"; window = 64; windows = 2; },
             { use = "size"; } );
objectives = ( { metric = "size.body_params"; } );
search: { use = "random"; budget = 6; };
END

# run_ends KIND SIN 'PATTERN' --set...: status 1, one sentence that names the plugin
run_ends()
{
    sin_kind=$1 sin=$2 pattern=$3; shift 3
    rm -rf r alone && mkdir alone
    cp "$evil/${sin_kind}_sins.so" "alone/$sin.so" || return 1
    says 1 "$sin_kind '$sin'.*$pattern" --quiet --plugin-path alone run base.cfg "$@" &&
        test "$(wc -l <"$tmp/err")" = 1
}
r() { ok "a run with $1 $2" run_ends "$@"; }
for sin in gene_range too_many bad_fidelity mute; do
    case $sin in
    gene_range) why='has the value 2, which is not between 0 and 1' ;;
    too_many) why='proposed [0-9]+ genomes where [0-9]+ were asked for' ;;
    bad_fidelity) why='proposed a fidelity of 0' ;;
    mute) why='failed without a message' ;;
    esac
    r search $sin "$why" --set "search={use=\"$sin\";}"
done
r pruner same_gene "gene 'sin\\[0\\]' is declared twice" \
    --set 'prune=({use="same_gene";})'
r pruner bad_gene 'the initial value must be 0 or 1' --set 'prune=({use="bad_gene";})'
r pruner other_edit 'edits attention blocks, which its `edits` does not declare' \
    --set 'prune=({use="other_edit";})'
r pruner cuts_always \
    'edits the model where all of its genes have their uncompressed value' \
    --set 'prune=({use="cuts_always";})'
r scorer not_finite 'the score of site 2 is not a number' \
    --set 'score=({use="not_finite";})' --set 'prune=({use="ffn";step=32;})'
r scorer undeclared 'statistic 2 of site kind 4' --set 'score=({use="undeclared";})' \
    --set 'prune=({use="ffn";step=32;})'
r evaluator no_items 'has 0 items' --set 'evaluate=({use="no_items";},{use="size";})'
r evaluator two_lines 'does not say in one line how it measures' \
    --set 'evaluate=({use="two_lines";},{use="size";})'
run_of()        # SIN PATTERN: the same, named by its metric
{
    rm -rf r alone && mkdir alone
    cp "$evil/evaluator_sins.so" "alone/$1.so" || return 1
    says 1 "$2" --quiet --plugin-path alone run base.cfg \
        --set "evaluate=({use=\"$1\";},{use=\"size\";})"
}
ok "a run with evaluator runs_all" run_of runs_all \
    'runs_all: an evaluator runs candidates without declaring it'
ok "a run with evaluator no_number" run_of no_number \
    'no_number.share: item 0 gives no finite number'
finish
