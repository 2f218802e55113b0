# SPDX-License-Identifier: Apache-2.0
"""Hypervolume over trials: hypervolume.py LABEL REPORT.json...

Each report is a study with the objectives perplexity.nats and size.bytes, trial
0 the dense model.  The reference point is (ln(vocabulary), 1.05 * dense size);
the volume is given as a share of the box between it and the origin, so 1 cannot
be reached.  The dense model belongs to every front."""
import json
import math
import statistics
import sys

STEPS = (25, 50, 75, 100)


def hypervolume(points, ref):
    """Area that points [(loss, size)] dominate below ref, divided by the box."""
    area, low = 0.0, ref[1]
    for loss, size in sorted(points):
        if loss < ref[0] and size < low:
            area += (ref[0] - loss) * (low - size)
            low = size
    return area / (ref[0] * ref[1])


def read(path):
    with open(path) as f:
        report = json.load(f)
    points = []
    for trial in sorted(report["trials"], key=lambda t: t["id"]):
        m = trial["metrics"]
        loss = m.get("perplexity.nats", {}).get("value")
        size = m.get("size.bytes", {}).get("value")
        points.append((math.inf if loss is None else loss,
                       math.inf if size is None else size))
    return points, (math.log(report["arch"]["vocab"]), 1.05 * points[0][1])


def main():
    label, paths = sys.argv[1], sys.argv[2:]
    table = []
    for path in paths:
        points, ref = read(path)
        last = len(points) - 1
        steps = sorted({n for n in STEPS if n < last} | {last})
        table.append({n: hypervolume(points[:n + 1], ref) for n in steps})
    for seed, row in enumerate(table, 1):
        for n, value in row.items():
            print(f"hv.{label}.seed{seed}.at{n} = {value:.5f}")
    for n in table[0]:
        if all(n in row for row in table):
            print(f"hv.{label}.median.at{n} = "
                  f"{statistics.median(row[n] for row in table):.5f}")


if __name__ == "__main__":
    main()
