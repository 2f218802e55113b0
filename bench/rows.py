# SPDX-License-Identifier: Apache-2.0
"""Helps rows.sh and methods: reads what `lamina eval --json` and studies left.

rows.py print FOLDER ROW             perplexities and size of a measured row
rows.py trial REPORT METRIC VALUE    the trial of a study whose METRIC is VALUE
rows.py compare FOLDER TABLE         rows beside the figures of a reference
"""
import json
import math
import os
import sys


def read(folder, row):
    with open(f"{folder}/{row}.json") as f:
        return {m["name"]: m for m in json.load(f)["metrics"]}


def perplexity(metrics, windows):
    sums = metrics["perplexity.nats"]["sums"][:windows]
    assert len(sums) == windows
    return math.exp(sum(v for v, _ in sums) / sum(w for _, w in sums))


def print_row(folder, row):
    m, dense = read(folder, row), read(folder, "dense")
    size = "size.body_params"
    print(f"ppl12.{row} = {perplexity(m, 12):.6g}")
    print(f"ppl4.{row} = {perplexity(m, 4):.6g}")
    print(f"body_share.{row} = {m[size]['value'] / dense[size]['value']:.4f}")
    if os.path.exists(f"{folder}/{row}/report.json"):
        with open(f"{folder}/{row}/report.json") as f:
            print(f"trials.{row} = {len(json.load(f)['trials']) - 1}")


def print_trial(report, metric, value):
    with open(report) as f:
        trials = json.load(f)["trials"]
    for i, t in enumerate(trials):
        m = t["metrics"].get(metric)
        if i > 0 and m and m["value"] == float(value):
            print(t["id"])
            return
    sys.exit(f"{report}: no trial has {metric} = {value}")


def compare(folder, table):
    """Lines ROW PPL4 PPL12 KIND; KIND match: within 1 %; most: not above."""
    missed = 0
    with open(table) as f:
        lines = [line.split() for line in f if line.strip() and line[0] != "#"]
    for row, ppl4, ppl12, kind in lines:
        if not os.path.exists(f"{folder}/{row}.json"):
            continue
        m = read(folder, row)
        for windows, text in ((4, ppl4), (12, ppl12)):
            if text == "-":
                continue
            ratio = perplexity(m, windows) / float(text)
            ok = ratio <= 1 if kind == "most" else abs(ratio - 1) <= 0.01
            missed += not ok
            print(f"ratio{windows}.{row} = {ratio:.4f} {'ok' if ok else 'MISSED'} "
                  f"({perplexity(m, windows):.5g}, "
                  f"{'at most' if kind == 'most' else 'reference'} {text})")
    print(f"missed = {missed}")
    return missed > 0


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    sys.exit({"print": print_row, "trial": print_trial, "compare": compare}[verb](*rest))
