#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""race.py FULL RACED -- two report.json of the same genomes: what a race saved, what it
lost, and how well its values rank the trials."""
import json
import sys


def ranks(x):
    order = sorted(range(len(x)), key=lambda i: x[i])
    out = [0.0] * len(x)
    i = 0
    while i < len(x):
        j = i
        while j + 1 < len(x) and x[order[j + 1]] == x[order[i]]:
            j += 1
        for k in range(i, j + 1):
            out[order[k]] = (i + j) / 2
        i = j + 1
    return out


def spearman(x, y):
    a, b = ranks(x), ranks(y)
    n, m = len(a), (len(a) - 1) / 2
    cov = sum((p - m) * (q - m) for p, q in zip(a, b))
    va, vb = (sum((p - m) ** 2 for p in v) for v in (a, b))
    return cov / (va * vb) ** 0.5 if n > 1 and va and vb else float("nan")


def main():
    full, raced = (json.load(open(p)) for p in sys.argv[1:3])
    metric = next(m["name"] for m in full["metrics"] if m["objective"])
    x, y, own, stopped, items = [], [], [], [], 0.0
    assert len(full["trials"]) == len(raced["trials"])
    for f, r in zip(full["trials"][1:], raced["trials"][1:]):
        assert f["plan"] == r["plan"], f["id"]
        if f["status"] != "ok":
            continue
        m = r["metrics"][metric]
        x.append(f["metrics"][metric]["value"])
        y.append(m.get("estimate", m["value"]))
        own.append(m["value"])
        items += r["fidelity"]
        if "estimate" in m:
            stopped.append(f["id"])
    front = set(full["front"])
    lost = [i for i in stopped if i in front]
    print(f"trials = {len(x)}")
    print(f"stopped = {len(stopped)}")
    print(f"items_saved = {1 - items / len(x):.4f}")
    print(f"front_full = {len(front)}")
    print(f"front_lost = {len(lost)} {lost}")
    print(f"front_equal = {front == set(raced['front'])}")
    print(f"spearman_told = {spearman(x, y):.4f}")
    print(f"spearman_measured = {spearman(x, own):.4f}")


if __name__ == "__main__":
    main()
