#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""fidelity.py F32 OTHER NAME -- two report.json of the same genomes: rank correlation
of the losses, and how far they are apart."""
import json
import sys

from race import spearman


def main():
    f32, other = (json.load(open(p)) for p in sys.argv[1:3])
    name = sys.argv[3]
    x, y, dense = [], [], None
    assert len(f32["trials"]) == len(other["trials"])
    for a, b in zip(f32["trials"], other["trials"]):
        assert a["plan"] == b["plan"], a["id"]
        if a["status"] != "ok" or b["status"] != "ok":
            continue
        p, q = (t["metrics"]["perplexity.nats"]["value"] for t in (a, b))
        if a["plan"] == f32["trials"][0]["plan"]:   # the dense model, also as a start
            dense = q - p
            continue
        x.append(p)
        y.append(q)
    off = [b - a for a, b in zip(x, y)]
    print(f"fidelity.{name}.trials = {len(x)}")
    print(f"fidelity.{name}.spearman = {spearman(x, y):.5f}")
    print(f"fidelity.{name}.most = {max(map(abs, off)):.4f}")
    print(f"fidelity.{name}.mean = {sum(off) / len(off):.4f}")
    print(f"fidelity.{name}.dense = {dense:.4f}")
    print(f"fidelity.{name}.least_loss = {min(x):.4f}")
    print(f"fidelity.{name}.largest_loss = {max(x):.4f}")


main()
