# SPDX-License-Identifier: Apache-2.0
"""devices.py REPORT REPORT -- the same complete space on two devices.

Chosen: the front of divergence and time.  Of what one device chose, on the other: how many
are on its front; how many per cent slower the others are than what it has that is as good
(the fastest trial of no more divergence)."""
import json
import re
import statistics
import sys

from race import spearman

TIMES = ("prefill_ms", "decode_ms")


def read(path):
    with open(path) as f:
        report = json.load(f)
    trials = {}
    for t in report["trials"]:
        m = t["metrics"]
        if t["status"] == "ok" and "latency.decode_ms" in m:
            # which channels are kept may differ in ties: scores are of the device
            trials[re.sub(":x[0-9a-f]+", "", t["plan"])] = {k: v["value"] for k, v in m.items()}
    return trials


def front(trials, time):
    def beats(a, b):
        return (a["kl.nats"] <= b["kl.nats"] and a[time] <= b[time]
                and (a["kl.nats"] < b["kl.nats"] or a[time] < b[time]))
    return [p for p, t in trials.items()
            if not any(beats(o, t) for o in trials.values())]


def loss(plan, trials, time):
    """of a plan, in time, to the fastest trial that is no worse"""
    mine = trials[plan]
    best = min(t[time] for t in trials.values() if t["kl.nats"] <= mine["kl.nats"])
    return mine[time] / best - 1


def cross(name, chosen, trials, time):
    losses = [loss(p, trials, time) for p in chosen]
    print(f"{name}.{time}.chosen = {len(chosen)}")
    print(f"{name}.{time}.on_front = {sum(x < 1e-9 for x in losses)}")
    print(f"{name}.{time}.median_loss = {statistics.median(losses):.4f}")
    print(f"{name}.{time}.most_loss = {max(losses):.4f}")


def tables(name, trials):
    for time in TIMES:
        real = [t[f"latency.{time}"] for t in trials.values()]
        said = [t[f"latency_table.{time}"] for t in trials.values()]
        error = [abs(s / r - 1) for s, r in zip(said, real)]
        print(f"{name}.{time}.least = {min(real):.4g}")
        print(f"{name}.{time}.most = {max(real):.4g}")
        print(f"{name}.{time}.table_median_error = {statistics.median(error):.4f}")
        print(f"{name}.{time}.table_spearman = {spearman(said, real):.4f}")


def main(first, second):
    a, b = read(first), read(second)
    plans = a.keys() & b.keys()
    a, b = ({p: t[p] for p in sorted(plans)} for t in (a, b))
    print(f"plans = {len(plans)}")
    difference = max(abs(a[p]["kl.nats"] - b[p]["kl.nats"]) for p in plans)
    print(f"most_kl_difference = {difference:.2g}")
    tables("first", a)
    tables("second", b)
    for time in TIMES:
        name = f"latency.{time}"
        print(f"{time}.spearman = "
              f"{spearman([a[p][name] for p in a], [b[p][name] for p in a]):.4f}")
        cross("first_on_second", front(a, name), b, name)
        cross("second_on_first", front(b, name), a, name)


if __name__ == "__main__":
    main(*sys.argv[1:])
