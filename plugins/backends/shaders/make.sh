#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make.sh COMPILER FOLDER OUT: all variants of all kernels as arrays of SPIR-V words, and
# a table of them.  COMPILER is glslangValidator; only who changes a kernel needs one.
set -e
compiler=$1 from=$2 out=$3
kernels="embed norm matrix vector bytes round rope attention pair fold share finish"
tmp=$out.tmp
trap 'rm -f "$tmp" "$tmp.one"' EXIT

one()       # one KERNEL NAME [-D...]
{
    kernel=$1 name=$2
    shift 2
    "$compiler" -V --target-env vulkan1.1 --quiet "$@" --vn "$name" -o "$tmp.one" \
        "$from/$kernel.comp" >"$tmp.log" || { cat "$tmp.log" >&2; exit 1; }
    rm -f "$tmp.log"
    sed -n '/^const\|^	0x\|^};/p' "$tmp.one" | sed 's/^const/static const/' >>"$tmp"
}

echo "/* SPDX-License-Identifier: Apache-2.0 */" >"$tmp"
echo "/* made by shaders/make.sh */" >>"$tmp"
for k in $kernels; do
    special=
    case $k in
    vector) special=-DSUBGROUP ;;
    bytes) special=-DDOT ;;
    esac
    one "$k" "${k}_spv"
    one "$k" "${k}_half_spv" -DHALF
    if [ "$special" ]; then
        one "$k" "${k}_more_spv" $special
        one "$k" "${k}_half_more_spv" -DHALF $special
    fi
done
mv "$tmp" "$out"
