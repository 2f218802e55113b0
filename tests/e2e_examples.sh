#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The plugins of examples/plugin, built out of tree with pkg-config alone, keep
# the contract and run together in a pipeline.  Against the build tree in `make
# check`; against what is installed in `make installcheck`, which sets
#   INSTALLED_PROGRAM   the program
#   INSTALLED_PC        the folder of lamina.pc
#   INSTALLED_PLUGINS   the folder of plugins
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"
pc=${PKG_CONFIG:-pkg-config}
$pc --version >/dev/null 2>&1 || skip_all "there is no pkg-config"
unset MAKEFLAGS MFLAGS MAKELEVEL MODEL TEXT PLUGINDIR DESTDIR CFLAGS LIBS
if test -n "$INSTALLED_PROGRAM"; then
    LAMINA=$INSTALLED_PROGRAM
    PKG_CONFIG_PATH=$INSTALLED_PC
    PKG_CONFIG_DISABLE_UNINSTALLED=1
    export PKG_CONFIG_DISABLE_UNINSTALLED
    unset LAMINA_PLUGIN_PATH            # those that are installed, no others
    if test -n "$PKG_CONFIG_SYSROOT_DIR"; then          # DESTDIR: not in their place
        LAMINA_PLUGIN_PATH=$INSTALLED_PLUGINS
        export LAMINA_PLUGIN_PATH
    fi
    ok "the program is installed" prints '^lamina [0-9]' --version
    ok "its plugins are installed" prints '^  nsga2' list
else
    PKG_CONFIG_PATH=$LAMINA_BUILDDIR${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
fi
export PKG_CONFIG_PATH
ok "pkg-config knows lamina" $pc --exists lamina
strict='CFLAGS=-O1 -Wall -Wextra -Wshadow -Wpedantic -Wstrict-prototypes -Werror'

mkdir examples
ln -s "$tiny" examples/tiny
for dir in search pruner scorer evaluator; do
    mkdir $dir
    cp "$LAMINA_SRCDIR/examples/plugin/$dir"/Makefile \
        "$LAMINA_SRCDIR/examples/plugin/$dir"/*.c $dir
    chmod -R u+w $dir
    name=$(basename $dir/*.c .c)
    ok "$name builds without a warning" make -s -C $dir "$strict"
    ok "$name keeps the contract" make -s -C $dir check LAMINA="$LAMINA"
    ok "$name installs" make -s -C $dir install PLUGINDIR="$tmp/plugins"
    ok "$name has help" prints "^$name " --plugin-path plugins help $name
done
ok "a pipeline of all four" exits 0 --plugin-path plugins run \
    "$LAMINA_SRCDIR/examples/plugin/pipeline.cfg" --set run.out=run
ok "its report has the trials" grep -q 'tail.nats' run/report.json
ok "the same again, in another number of threads" exits 0 --plugin-path plugins run \
    "$LAMINA_SRCDIR/examples/plugin/pipeline.cfg" --set run.out=again --set run.threads=1
ok "the same trials" same "$(trials run/report.json)" "$(trials again/report.json)"

ok "a new plugin" exits 0 new-plugin scorer fresh
ok "its test passes" make -s -C fresh check LAMINA="$LAMINA" MODEL="$tiny" \
    TEXT="$tiny/calibration.txt"
finish
