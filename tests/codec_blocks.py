# SPDX-License-Identifier: Apache-2.0
"""Writes codec_blocks.h: blocks of the formats that are only read and what the
Python package gguf makes of them.
    python3 tests/codec_blocks.py >tests/codec_blocks.h"""
import sys

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

# where a block has its f16 scales: one gets 0.0999, the second 0.3999
SCALES = {"Q5_0": (0,), "Q5_1": (0, 2), "Q2_K": (80, 82), "Q3_K": (108,),
          "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,)}
MANY = 256


def random_bytes(n, seed):
    out = np.empty(n, np.uint8)
    for i in range(n):
        seed = (seed * 1664525 + 1013904223) & 0xffffffff
        out[i] = seed >> 24
    return out


def fnv(values):
    values = np.where(np.isnan(values), np.float32("nan"), values)
    h = 0xcbf29ce484222325
    for u in values.astype(np.float32).ravel().view(np.uint32).tolist():
        h = (h ^ u) * 0x100000001b3 & 0xffffffffffffffff
    return h


def words(name, values, form, per_line):
    print(f"static const {name}[] = {{")
    for i in range(0, len(values), per_line):
        print("    " + " ".join(form % v + "," for v in values[i:i + per_line]))
    print("};")


np.seterr(all="ignore")
print("/* SPDX-License-Identifier: Apache-2.0 */")
print("/* codec_blocks.h -- made by codec_blocks.py, which says how. */")
table = []
for name, at in SCALES.items():
    kind = GGMLQuantizationType[name]
    values, size = GGML_QUANT_SIZES[kind]
    block = random_bytes(size, 1)
    for k, scale in zip(at, (0.1, 0.4)):
        block[k:k + 2] = np.array([scale], np.float16).view(np.uint8)
    floats = dequantize(block, kind)
    low = name.lower()
    words(f"unsigned char {low}_block", block.tolist(), "%d", 16)
    words(f"uint32_t {low}_floats", floats.view(np.uint32).tolist(), "0x%08x", 7)
    many = dequantize(random_bytes(size * MANY, 2).reshape(MANY, size), kind)
    if np.isfinite(many).all() or not (abs(many) > 1e5).any():
        sys.exit(f"{name}: no extreme scales among the {MANY} blocks")
    table.append(f"    {{ LM_{name}, {low}_block, {low}_floats, "
                 f"UINT64_C(0x{fnv(many):016x}) }},")
print(f"enum {{ MANY_BLOCKS = {MANY} }};\n"
      "static const struct {\n    uint32_t dtype;\n    const unsigned char *block;\n"
      "    const uint32_t *floats;\n    uint64_t many;      "
      "/* hash of the floats of MANY_BLOCKS blocks */\n} expected_block[] = {")
print("\n".join(table))
print("};")
