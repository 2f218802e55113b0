#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""race.py FULL RACED -- two report.json of the same genomes, of which FULL may have the
first ones only: what a race saved, which members of the front it lost, and how well its
values rank the trials."""
import json
import re
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


def precision(report):
    return re.search(r'precision = "(\w+)"', report["pipeline"]).group(1)


def front(points):
    return {i for i, p in points.items() if not any(
        q != p and q[0] <= p[0] and q[1] <= p[1] for q in points.values())}


def main():
    full, raced = (json.load(open(p)) for p in sys.argv[1:3])
    metric, size = [m["name"] for m in full["metrics"] if m["objective"]]

    def point(t):
        return tuple(t["metrics"][m]["value"] for m in (metric, size))

    x, y, own, points = [], [], [], {}
    ran = [t for t in raced["trials"][1:] if t["status"] == "ok"]
    for f, r in zip(full["trials"][1:], raced["trials"][1:]):
        assert f["plan"] == r["plan"], f["id"]
        if f["status"] != "ok":
            continue
        m = r["metrics"][metric]
        x.append(f["metrics"][metric]["value"])
        y.append(m.get("estimate", m["value"]))
        own.append(m["value"])
        points[f["id"]] = point(f)
    stopped = {t["id"] for t in ran if "estimate" in t["metrics"][metric]}
    same = precision(full) == precision(raced)
    for t in ran:                       # whatever else is known in full
        if same and t["id"] not in stopped:
            points.setdefault(t["id"], point(t))
    best = front(points) & {t["id"] for t in full["trials"][1:]}
    lost = sorted(best & stopped)
    print(f"trials = {len(ran)}")
    print(f"trials.full = {len(x)}")
    print(f"stopped = {len(stopped)}")
    print(f"items_saved = {1 - sum(t['fidelity'] for t in ran) / len(ran):.4f}")
    print(f"front = {len(front(points))}")
    print(f"front_full = {len(best)}")
    print(f"front_lost = {len(lost)} {lost}")
    print(f"spearman_told = {spearman(x, y):.4f}")
    print(f"spearman_measured = {spearman(x, own):.4f}")


if __name__ == "__main__":
    main()
