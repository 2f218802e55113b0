#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# new-plugin: for each kind, the folder it writes builds without a warning, its
# plugin keeps the contract untouched, its own test passes, and it installs.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
${PKG_CONFIG:-pkg-config} --version >/dev/null 2>&1 || skip_all "there is no pkg-config"
PKG_CONFIG_PATH=$LAMINA_BUILDDIR${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
export PKG_CONFIG_PATH
unset MAKEFLAGS MFLAGS MAKELEVEL MODEL TEXT PLUGINDIR DESTDIR CFLAGS LIBS
strict='CFLAGS=-O1 -Wall -Wextra -Wshadow -Wpedantic -Wstrict-prototypes -Werror'

ok "lamina.pc tells of the program" test -x "$(pkg-config --variable=program lamina)"
for kind in search pruner scorer repair evaluator reporter; do
    dir=work/my_$kind
    ok "$kind: a folder" exits 0 new-plugin $kind my_$kind --out work
    ok "$kind: it builds without a warning" make -s -C $dir "$strict"
    ok "$kind: it keeps the contract" exits 0 selftest ./$dir/my_$kind.so
    ok "$kind: its own test, with a pipeline" make -s -C $dir check MODEL="$tiny" \
        TEXT="$tiny/calibration.txt"
    ok "$kind: it installs" make -s -C $dir install PLUGINDIR="$tmp/plugins"
    ok "$kind: and is found there" prints "^my_$kind " --plugin-path plugins help my_$kind
    ok "$kind: its name is taken then" says 2 'already' --plugin-path plugins new-plugin \
        $kind my_$kind --out other
    ok "$kind: no template word is left" test -z "$(grep -l '@[A-Z]*@' $dir/*)"
done
ok "uninstall" make -s -C work/my_search uninstall PLUGINDIR="$tmp/plugins"
ok "nothing is left of it" test ! -e plugins/search/my_search.so

echo mine >work/my_search/my_search.c
ok "nothing is overwritten" says 2 'work/my_search is there already' new-plugin search \
    my_search --out work
ok "not even in part" grep -q mine work/my_search/my_search.c
ok "a kind that cannot be" says 2 "'format' is none of" new-plugin format mine
ok "a kind that is none" says 2 "'serch' is none of" new-plugin serch mine
for name in Mine 9mine my-plugin '' ../mine _mine; do
    ok "the name '$name'" says 2 'is no name of a plugin' new-plugin scorer "$name"
done
ok "the name of a plugin of ours" says 2 "a scorer 'wanda' already" new-plugin scorer \
    wanda
ok "the name of another kind's is free" exits 0 new-plugin scorer nsga2 --out work
: >file
ok "a place where nothing can be" says 1 'file' new-plugin scorer mine --out file
ok "which leaves nothing" test -f file
finish
