# SPDX-License-Identifier: Apache-2.0
"""Medians of what bench/results measured: results.py FOLDER ROUNDS "NAME..."

NAME.KEY = value (size_mb: of a file; file_mb: of it and of libraries, in memory), and
NAME.KEY.ratio: the median over rounds of what the round has for NAME over what it has for
the dense model.  Memory of llama.cpp is without its interpreter's.
"""
import glob
import os
import statistics
import sys

KEPT = ("prefill_tok_s", "decode_tok_s", "anon_mb", "file_mb")


def read_round(folder, number, name):
    found = {}
    for path in glob.glob(f"{folder}/round-{number}.{name}.*"):
        with open(path) as f:
            for line in f:
                key, _, value = line.partition(" = ")
                if key.startswith(("lamina.", "llama.")) and value:
                    found[key] = value.strip()
    out = {}
    for key, value in found.items():
        stem, _, last = key.rpartition(".")
        if last in KEPT:
            out[key] = float(value) - float(found.get(f"{stem}.base_{last}", 0))
    return out


def main(folder, rounds, names):
    names = names.split()
    seen = {n: [read_round(folder, r + 1, n) for r in range(int(rounds))] for n in names}
    for n in names:
        for t in ("f16", "q8_0"):
            size = os.path.getsize(f"{folder}/{n}.{t}.gguf")
            print(f"{n}.{t}.size_mb = {size / 1e6:.1f}")
        for key in sorted(seen[n][0]):
            both = [(a[key], b[key]) for a, b in zip(seen[n], seen["dense"])]
            print(f"{n}.{key} = {statistics.median(a for a, _ in both):.5g}")
            if n != "dense":
                ratio = statistics.median(a / b if b else 1 for a, b in both)
                print(f"{n}.{key}.ratio = {ratio:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
