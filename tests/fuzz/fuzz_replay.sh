#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every fuzz target over its corpus, and over damaged versions of each file.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
: "${LAMINA_BUILDDIR:=.}"
export LAMINA_SRCDIR
programs=$LAMINA_BUILDDIR/tests/fuzz
corpora=$LAMINA_SRCDIR/tests/fuzz/corpus
if "$programs/fuzz_plan" -help=1 2>&1 | grep -q max_total_time; then
    options='-runs=0'
else
    options='-m 100'
fi
for folder in "$corpora"/*; do
    name=${folder##*/}
    # shellcheck disable=SC2086
    ok "$name: $(ls "$folder" | wc -l | tr -d ' ') files" "$programs/fuzz_$name" $options "$folder"
done
finish
