#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every fuzz target over its corpus, and over damaged versions of each file.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
: "${LAMINA_BUILDDIR:=.}"
: "${LAMINA_FUZZ:=}"
export LAMINA_SRCDIR
programs=$LAMINA_BUILDDIR/tests/fuzz
corpora=$LAMINA_SRCDIR/tests/fuzz/corpus
options='-m 300'
test -z "$LAMINA_FUZZ" || options='-runs=0'     # libFuzzer's own main
for folder in "$corpora"/*; do
    name=${folder##*/}
    # shellcheck disable=SC2086
    ok "$name: $(ls "$folder" | wc -l | tr -d ' ') files" "$programs/fuzz_$name" \
        $options "$folder"
done
finish
