#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A plugin exports lm_plugin and nothing else, and needs nothing of ours.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
NM=${NM:-nm}
plugins=$(ls "${LAMINA_PLUGIN_PATH:-plugins}"/*/.libs/*.so 2>/dev/null)
test -n "$plugins" || skip_all "no plugin was built"

exports_one()
{
    $NM -D --defined-only "$1" | sed 's/.* //' >"$tmp/exports"
    cat "$tmp/exports"
    test "$(cat "$tmp/exports")" = lm_plugin
}

imports_none()
{
    $NM -D --undefined-only "$1" | grep ' lm_' >"$tmp/imports"
    cat "$tmp/imports"
    test ! -s "$tmp/imports"
}

for p in $plugins; do
    name=$(basename "$(dirname "$(dirname "$p")")")/$(basename "$p" .so)
    ok "$name exports lm_plugin only" exports_one "$p"
    ok "$name links nothing of the core" imports_none "$p"
done
finish
