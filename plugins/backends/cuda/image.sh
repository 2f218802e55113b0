#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# image.sh COMPILER FOLDER OUT: the kernels of FOLDER as arrays of bytes in OUT.c, or as
# OUT.ptx.  COMPILER is nvcc, clang, or "no": then kernels.ptx of the folder is taken.
#
# PTX is declared to be of version 6.4 (a compiler names its own, which older drivers
# refuse); with nvcc its assembler makes machine code of just that PTX, and so checks it.
set -e
compiler=$1 from=$2 out=$3
tmp=$out.tmp.d
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp"

with_clang()
{
    "$compiler" -x cuda --cuda-device-only -nocudainc -nocudalib --cuda-gpu-arch=sm_60 \
        -Xclang -target-feature -Xclang +ptx64 -Wno-unknown-cuda-version \
        -Wno-pass-failed -O3 -S -o "$tmp/made.ptx" "$from/kernels.cu"
}

# The checksum of the sources tells whether the distributed PTX is theirs.
ptx()
{
    case $(basename "$compiler") in
    no)     cat "$from/kernels.ptx"; return ;;
    clang*) with_clang ;;
    *)      "$compiler" -O3 -ptx -arch=compute_75 -o "$tmp/made.ptx" "$from/kernels.cu" ;;
    esac
    sed -e '/^[ 	]*\/\//d' -e '/^[ 	]*$/d' -e 's/^\.version .*/.version 6.4/' "$tmp/made.ptx"
    echo "// sources: $(cat "$from/../cuda_list.h" "$from"/*.cuh "$from/kernels.cu" | cksum)"
}

code()
{
    case $(basename "$compiler") in
    no | clang*) : >"$tmp/code" ;;
    *) "$compiler" -fatbin -gencode arch=compute_75,code=sm_80 \
           -gencode arch=compute_75,code=sm_90 -o "$tmp/code" "$tmp/kernels.ptx" ;;
    esac
}

bytes()     # bytes FILE: as elements of an array, 0 at the end
{
    od -An -v -tx1 "$1" | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g'
    echo 0
}

ptx >"$tmp/kernels.ptx"
case $out in
*.ptx)
    code
    mv "$tmp/kernels.ptx" "$out"
    exit ;;
esac
code
{
    echo "/* made by cuda/image.sh */"
    echo "#include \"cuda_driver.h\""
    echo "_Alignas(16) const unsigned char cuda_image[] = {"
    bytes "$tmp/code"
    echo "};"
    echo "const size_t cuda_image_size = $(wc -c <"$tmp/code");"
    echo "_Alignas(16) const unsigned char cuda_ptx[] = {"
    bytes "$tmp/kernels.ptx"
    echo "};"
} >"$tmp/out.c"
mv "$tmp/out.c" "$out"
