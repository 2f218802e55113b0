#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""race_replay.py STUDY.DB METRIC SIZE [BATCH [ORDERS [RISK]]] -- the rule of
core/study/race.h, written a second time, on the sums that a run without races left: what
it would have saved and lost with the windows in their order, and in ORDERS random orders
of them, which is how often it errs on real data.  One sampled and one exact objective."""
import math
import random
import sqlite3
import struct
import sys

FIRST = 3
RISK = float(sys.argv[6]) if len(sys.argv) > 6 else 0.05


def load(path, metric, size):
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    sums, sizes = {}, {}
    for trial, name, value, blob in db.execute(
            "SELECT trial, metric, value, sums FROM measure ORDER BY trial"):
        if name == metric and blob:
            x = struct.unpack(f"<{len(blob) // 8}d", blob)
            sums[trial] = list(zip(x[::2], x[1::2]))
        elif name == size:
            sizes[trial] = value
    return [(sizes[i], sums[i]) for i in sorted(sums)]


def tail(t, n):
    """P(T > t): Simpson's rule on the density, x = sqrt(n) tan(u)."""
    f = [math.cos(u) ** (n - 1) for u in (math.atan(t / math.sqrt(n)) + k *
         (math.pi / 2 - math.atan(t / math.sqrt(n))) / 200 for k in range(201))]
    area = (f[0] + f[200] + 4 * sum(f[1:200:2]) + 2 * sum(f[2:200:2])) / 600
    c = math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2)) / math.sqrt(math.pi)
    return c * area * (math.pi / 2 - math.atan(t / math.sqrt(n)))


def mean(s, n):
    return sum(v for v, _ in s[:n]) / sum(w for _, w in s[:n])


def beaten(c, d, n, total, alpha):
    rc, rd = mean(c, n), mean(d, n)
    wc, wd = (sum(w for _, w in s[:n]) for s in (c, d))
    z = [(a - rc * u) / wc - (b - rd * v) / wd for (a, u), (b, v) in zip(c[:n], d[:n])]
    se = math.sqrt((1 - n / total) * n / (n - 1) * sum(x * x for x in z))
    return rc > rd and (tail((rc - rd) / se, n - 1) if se else 0.5 ** n) < alpha


def race(trials, batch):
    """Items seen, and stopped or not, of each trial; trial 0 is measured to the end."""
    total = len(trials[0][1])
    rungs = [FIRST]
    while 2 * rungs[-1] <= total - (total + 7) // 8:
        rungs.append(2 * rungs[-1])
    rungs.append(total)
    whole = {0: mean(trials[0][1], total)}
    seen, stopped = [total] + [0] * (len(trials) - 1), set()

    def behind(c, d):
        n = min(seen[c], seen[d])
        a, b = (mean(trials[i][1], n) for i in (c, d))
        sc, sd = trials[c][0], trials[d][0]
        return sd <= sc and (b < a or b == a and (sd < sc or d < c))

    for first in range(1, len(trials), batch):
        left = list(range(first, min(first + batch, len(trials))))
        for c in left:
            seen[c] = rungs[0]
        while left:
            lead = [c for c in left
                    if not any(behind(c, d) for d in left if d != c)] or left
            for c in list(lead):
                rival = min((d for d in whole if trials[d][0] <= trials[c][0]),
                            key=whole.get, default=None)
                if rival is not None and beaten(trials[c][1], trials[rival][1], seen[c],
                                                total, RISK / (len(rungs) - 1)):
                    stopped.add(c)
                else:
                    seen[c] = rungs[rungs.index(seen[c]) + 1]
            for c in lead:
                if seen[c] == total:
                    whole[c] = mean(trials[c][1], total)
            left = [c for c in left if c not in stopped and seen[c] < total]
    return seen, stopped


def front(trials):
    m = [mean(s, len(s)) for _, s in trials]
    n = range(len(trials))
    return {i for i in n if not any(
        trials[j][0] <= trials[i][0] and m[j] <= m[i] and
        (trials[j][0] < trials[i][0] or m[j] < m[i]) for j in n)}


def main():
    trials = load(*sys.argv[1:4])
    batch = int(sys.argv[4]) if len(sys.argv) > 4 else 32
    orders = int(sys.argv[5]) if len(sys.argv) > 5 else 20
    total, best = len(trials[0][1]), front(trials)
    print(f"replay.trials = {len(trials) - 1}\nreplay.front = {len(best)}")
    seen, stopped = race(trials, batch)
    saved = 1 - sum(seen[1:]) / (total * (len(trials) - 1))
    print(f"replay.saved = {saved:.4f}\nreplay.stopped = {len(stopped)}\n"
          f"replay.lost = {len(stopped & best)}")
    saved, lost, rng = [], 0, random.Random(1)
    for _ in range(orders):
        order = rng.sample(range(total), total)
        seen, stopped = race([(s, [x[i] for i in order]) for s, x in trials], batch)
        saved.append(1 - sum(seen[1:]) / (total * (len(trials) - 1)))
        lost += len(stopped & best)
    print(f"replay.orders = {orders}\n"
          f"replay.orders.saved = {min(saved):.4f} to {max(saved):.4f}\n"
          f"replay.orders.lost = {lost} of {orders * len(best)} members of the front")


main()
