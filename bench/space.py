# SPDX-License-Identifier: Apache-2.0
"""space.py REPORT.csv > space.csv

The trials of a run of space.cfg as a table for bench/propose: for each of the six groups
of five layers the level of its MLPs (0: a quarter of the channels, 3: all), then the
divergence from the dense model in nats and the parameters of the layers' matrices."""
import csv
import re
import sys

LAYERS, GROUP, FULL = 30, 5, 1536


def levels(plan):
    width = [FULL] * LAYERS
    for layer, ffn in re.findall(r"layer (\d+): ffn=(\d+)/", plan):
        width[int(layer)] = int(ffn)
    groups = [width[i:i + GROUP] for i in range(0, LAYERS, GROUP)]
    assert all(len(set(g)) == 1 for g in groups)
    return tuple(g[0] * 4 // FULL - 1 for g in groups)


csv.field_size_limit(1 << 24)
rows = {}
with open(sys.argv[1], newline="") as f:
    for t in csv.DictReader(f):
        rows[levels(t["plan"])] = (float(t["kl.nats"]), int(float(t["size.body_params"])))
assert len(rows) == 4 ** (LAYERS // GROUP)
print(",".join(f"g{i}" for i in range(LAYERS // GROUP)) + ",kl,body_params")
for key, (kl, size) in sorted(rows.items()):
    print(",".join(map(str, key)) + f",{kl:.6g},{size}")
