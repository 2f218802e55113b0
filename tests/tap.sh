# SPDX-License-Identifier: Apache-2.0
# tap.sh -- to be sourced by shell tests:
#   . "${LAMINA_SRCDIR:-.}/tests/tap.sh"
#   ok "what holds" command args...       passes if the command succeeds
#   nok "what must fail" command args...  passes if it fails
#   skip "what" "why"                     counts as skipped
#   skip_all "why"                        ends the test
#   finish                                last line: writes the plan
# The output of a failed command is shown.  $tmp is a folder that goes away.
tap_n=0
tmp=$(mktemp -d "${TMPDIR:-/tmp}/lamina-test.XXXXXX") || exit 99
trap 'rm -rf "$tmp"' EXIT
trap 'exit 99' HUP INT TERM

tap_result()
{
    tap_n=$((tap_n + 1))
    echo "$1 $tap_n - $2"
    if test "$1" = "not ok" && test -s "$tmp/tap.out"; then
        sed 's/^/# /' "$tmp/tap.out" | head -n 40
    fi
}

ok()
{
    tap_what=$1; shift
    if "$@" >"$tmp/tap.out" 2>&1; then tap_result ok "$tap_what"
    else tap_result "not ok" "$tap_what"; fi
}

nok()
{
    tap_what=$1; shift
    if "$@" >"$tmp/tap.out" 2>&1; then tap_result "not ok" "$tap_what"
    else tap_result ok "$tap_what"; fi
}

skip()
{
    tap_n=$((tap_n + 1))
    echo "ok $tap_n - $1 # SKIP $2"
}

skip_all()
{
    echo "1..0 # SKIP $1"
    exit 0
}

finish()
{
    echo "1..$tap_n"
}
