#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The include order of the core, what plugins may see, and the rule that each
# library is known to one file only.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
cd "$LAMINA_SRCDIR" || exit 99

layers="base config loader model space plan study pipeline cli"

# Quoted includes of the files of one folder that are not of a layer in $2.
foreign_includes()
{
    for f in "$1"/*.[ch]; do
        test -f "$f" || continue
        sed -n 's/^[ 	]*#[ 	]*include[ 	]*"\([^"]*\)".*/\1/p' "$f" |
        while read -r inc; do
            case " $2 " in
            *" ${inc%%/*} "*) ;;
            *) echo "$f includes \"$inc\"" ;;
            esac
        done
    done >"$tmp/foreign"
    cat "$tmp/foreign"
    test ! -s "$tmp/foreign"
}

# Files under core/ and plugins/ that include <$1>, other than $2.
confined()
{
    find core plugins -name '*.[ch]' -exec grep -l "include *[<\"]$1" {} + |
        grep -v "^$2\$" >"$tmp/foreign"
    cat "$tmp/foreign"
    test ! -s "$tmp/foreign"
}

allowed="plugin.h config.h"
for layer in $layers; do
    allowed="$allowed $layer"
    ok "core/$layer includes only layers to its left" \
        foreign_includes "core/$layer" "$allowed"
done

for folder in plugins/*/; do
    folder=${folder%/}
    own=$(cd "$folder" && ls | grep '\.h$' | tr '\n' ' ')
    ok "$folder includes only plugin.h and its own headers" \
        foreign_includes "$folder" "plugin.h vk_shaders.h $own"     # one is made
done

ok "plugin.h stands alone" foreign_includes core "plugin_types.h plugin_host.h"
ok "jansson is known to base/json.c only" confined jansson.h core/base/json.c
ok "BLAS is known to base/linalg.c only" confined cblas core/base/linalg.c
ok "libltdl is known to loader/loader.c only" confined ltdl.h core/loader/loader.c
ok "libconfig is known to config/conf.c only" confined libconfig core/config/conf.c
ok "PCRE2 is known to model/pretok.c only" confined pcre2 core/model/pretok.c
ok "SQLite is known to study/store.c only" confined sqlite3 core/study/store.c

heap()
{
    find core plugins -name '*.c' ! -path core/base/mem.c -exec \
        grep -nE '(^|[^a-zA-Z0-9_>.])(malloc|calloc|realloc|strdup|free) *\(' {} + \
        >"$tmp/foreign"
    cat "$tmp/foreign"
    test ! -s "$tmp/foreign"
}
ok "memory comes from base/mem.c only" heap

spdx()
{
    find core plugins tests scripts bench -name '*.[ch]' -o -name '*.sh' \
        2>/dev/null | while read -r f; do
        head -n 3 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' || echo "$f"
    done >"$tmp/foreign"
    cat "$tmp/foreign"
    test ! -s "$tmp/foreign"
}
ok "every source names its licence" spdx

# What no makefile names is missing from the tarball.  The generated ones are not here.
shipped()
{
    find core plugins tests bench -name '*.[ch]' | while read -r f; do
        grep -qs -F -e "${f##*/}" Makefile.am $(find . -name local.mk) || echo "$f"
    done >"$tmp/foreign"
    cat "$tmp/foreign"
    test ! -s "$tmp/foreign"
}
ok "every source is named by a makefile" shipped
finish
