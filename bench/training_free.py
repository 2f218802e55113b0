# SPDX-License-Identifier: Apache-2.0
"""Reads what bench/training-free measured: training_free.py FOLDER "ROW..."

Of a study of several sizes a row is the measured trial nearest to its size, of a search
what it chose, whose size is at most that: body_share says what it is.  Log-perplexity increases are those over the dense model; medians over seeds.
"""
import json
import math
import os
import statistics
import sys

MOST_OFF = 0.015                        # of sizes, as shares of the body
COMPETITORS = ("flap", "wanda-sp", "slicegpt", "shortgpt", "sleb", "blockpruner",
               "slimgpt")
MOST_OF_BEST, PPL_AT_60 = 0.7, 38.0


def value(trial, metric):
    m = trial["metrics"].get(metric)
    return m["value"] if m else None


def read_row(folder, row):
    """perplexity, KL, share of the body, trials, dense perplexity; None: not measured"""
    method, size, *seed = row.split(".")
    name = f"{method}.{size}.{seed[0] if seed else 1}"
    searched = os.path.exists(f"{folder}/{name}.done")
    name = name if searched else method
    if not os.path.exists(f"{folder}/{name}.done"):
        return None
    with open(f"{folder}/{name}/report.json") as f:
        trials = json.load(f)["trials"]
    body = value(trials[0], "size.body_params")
    share = float(f"0.{size}")
    measured = [t for t in trials[1:] if value(t, "test.ppl")]
    if not measured:
        return None
    t = min(measured, key=lambda t: abs(value(t, "size.body_params") / body - share))
    off = value(t, "size.body_params") / body - share
    if off > MOST_OFF or (off < -MOST_OFF and not searched):
        return None
    seconds = 0
    if os.path.exists(f"{folder}/{name}.seconds"):
        with open(f"{folder}/{name}.seconds") as f:
            seconds = sum(int(line) for line in f)
    return {"ppl": value(t, "test.ppl"), "kl": value(t, "test_kl.nats"),
            "body_share": value(t, "size.body_params") / body, "trials": len(trials) - 1,
            "seconds": seconds, "dense": value(trials[0], "test.ppl")}


def check(name, ok, text):
    print(f"target.{name} = {'met' if ok else 'MISSED'} ({text})")
    return not ok


def targets(found, dense):
    """found: {size: {method: median perplexity}}"""
    missed = 0
    for size, rows in sorted(found.items()):
        if "lamina" not in rows:
            continue
        others = {m: p for m, p in rows.items() if m != "lamina"}
        if others:
            best = min(others, key=others.get)
            missed += check(f"first.{size}", rows["lamina"] < others[best],
                            f"{rows['lamina']:.4g}; next {best} {others[best]:.4g}")
        theirs = {m: p for m, p in rows.items() if m in COMPETITORS}
        if size == "80" and theirs:
            best = min(theirs.values())
            ratio = math.log(rows["lamina"] / dense) / math.log(best / dense)
            missed += check("increase.80", ratio <= MOST_OF_BEST,
                            f"{ratio:.3f} of the best competitor's, {best:.4g}")
        if size == "60":
            missed += check("ppl.60", rows["lamina"] <= PPL_AT_60,
                            f"{rows['lamina']:.4g}, at most {PPL_AT_60}")
    for size, rows in sorted(found.items()):
        if "search-llm" in rows and "flap-uniform" in rows:
            missed += check(f"search-llm.{size}", rows["search-llm"] < rows["flap-uniform"],
                            f"{rows['search-llm']:.4g}, uniform FLAP "
                            f"{rows['flap-uniform']:.4g}")
    return missed


def main(folder, rows):
    found, dense = {}, None
    for row in rows.split():
        r = read_row(folder, row)
        if not r:
            continue
        dense = r.pop("dense")
        for key, v in r.items():
            print(f"{key}.{row} = {v:.5g}")
        method, size, *_ = row.split(".")
        found.setdefault(size, {}).setdefault(method, []).append(r["ppl"])
    if dense is None:
        return 0
    print(f"ppl.dense = {dense:.5g}")
    medians = {s: {m: statistics.median(v) for m, v in rows.items()}
               for s, rows in found.items()}
    return targets(medians, dense) > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
