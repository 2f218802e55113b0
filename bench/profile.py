#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""profile.py REPORT -- a report.json of candidates that were predicted and timed: how far
the predictions are off, and whether they rank alike."""
import json
import statistics
import sys

from race import spearman


def main():
    trials = json.load(open(sys.argv[1]))["trials"]
    for metric in "prefill_ms", "decode_ms":
        x, y = [], []
        for t in trials:
            m = t["metrics"]
            if t["status"] == "ok" and f"latency.{metric}" in m:
                x.append(m[f"latency_table.{metric}"]["value"])
                y.append(m[f"latency.{metric}"]["value"])
        if not x:                       # this workload was off
            continue
        error = [a / b - 1 for a, b in zip(x, y)]
        print(f"{metric}.candidates = {len(x)}")
        print(f"{metric}.least_ms = {min(y):.4g}")
        print(f"{metric}.most_ms = {max(y):.4g}")
        print(f"{metric}.median_error = {statistics.median(map(abs, error)):.4f}")
        print(f"{metric}.most_error = {max(map(abs, error)):.4f}")
        print(f"{metric}.bias = {statistics.median(error):+.4f}")
        print(f"{metric}.spearman = {spearman(x, y):.4f}")


main()
