#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The PTX of the backend cuda that is distributed is of the kernels as they are; NVIDIA's
# assembler takes it, where there is one; clang compiles the same kernels.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
from=$(cd "$LAMINA_SRCDIR/plugins/backends/cuda" && pwd)
ptx=$from/kernels.ptx
names=$(sed -n 's/^    X([A-Z]*, *\([a-z]*\), .*/\1/p' "$from/../cuda_list.h")

# Not so: run `make cuda-ptx`, which needs nvcc.
is_current()
{
    sum=$(cat "$from/../cuda_list.h" "$from"/*.cuh "$from/kernels.cu" | cksum)
    test "$(tail -n 1 "$1")" = "// sources: $sum"
}

has_kernels()
{
    test "$(echo "$names" | wc -l)" -eq 12 || return 1
    for n in $names; do
        grep -q "\.entry lamina_$n(" "$1" || { echo "no $n"; return 1; }
    done
    ! grep '^\.extern\|^call' "$1"
}

reads_as() { grep '^\.version 6\.4$' "$1"; }

assembles()
{
    for sm in 75 80 90; do
        ptxas -arch=sm_$sm -o /dev/null "$1" || return 1
    done
}

ok "the distributed PTX is of these sources" is_current "$ptx"
ok "it has all kernels and calls nothing" has_kernels "$ptx"
ok "older drivers read it" reads_as "$ptx"
if command -v ptxas >/dev/null; then ok "it assembles" assembles "$ptx"
else skip "it assembles" "no ptxas"; fi
if sh "$from/image.sh" clang "$from" "$tmp/clang.ptx" >"$tmp/clang.log" 2>&1; then
    ok "clang's has all kernels and calls nothing" has_kernels "$tmp/clang.ptx"
    ok "and is current" is_current "$tmp/clang.ptx"
    if command -v ptxas >/dev/null; then ok "and assembles" assembles "$tmp/clang.ptx"
    else skip "and assembles" "no ptxas"; fi
else
    skip "clang's has all kernels" "no clang for this"
fi
finish
