# SPDX-License-Identifier: Apache-2.0
# common.sh -- sourced by the other scripts: packages, build, downloads.
# shellcheck shell=dash

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck disable=SC2034     # of quickstart
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lamina
jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)     # nproc obeys OMP_NUM_THREADS

say() { printf '%s\n' "== $*" >&2; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

packages='gcc g++ make autoconf automake libtool pkg-config libconfig-dev libltdl-dev
libopenblas-dev libjansson-dev libpcre2-dev libsqlite3-dev check'

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

missing_packages() {
    for p in $packages; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' ||
            printf '%s ' "$p"
    done
}

# Debian packages that are not there yet; says what it installs.
install_packages() {
    # shellcheck disable=SC2086
    command -v dpkg-query >/dev/null ||
        { say "no dpkg here: packages are yours to install:" $packages; return; }
    want=$(missing_packages)
    [ -n "$want" ] || return 0
    say "installing Debian packages: $want"
    # shellcheck disable=SC2015,SC2086
    as_root apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends $want >/dev/null ||
        die "could not install: $want (see apt-get's message above)"
}

# configure and make in the folder $1, with further arguments to configure.
build_in() {
    folder=$1
    shift
    mkdir -p "$folder"
    if [ ! -x "$top/configure" ] || [ "$top/configure.ac" -nt "$top/configure" ]; then
        say "autoreconf"
        (cd "$top" && autoreconf -fi >"$folder/autoreconf.log" 2>&1) ||
            { cat "$folder/autoreconf.log" >&2; die "autoreconf failed"; }
    fi
    if [ ! -f "$folder/Makefile" ] || [ "$top/configure" -nt "$folder/Makefile" ]; then
        say "configure"
        (cd "$folder" && "$top/configure" -q "$@") || die "configure failed"
    fi
    say "make"
    make -s -C "$folder" -j"$jobs" || die "make failed"
}

checksum_is() { [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]; }
