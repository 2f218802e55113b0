# SPDX-License-Identifier: Apache-2.0
"""strategies.py PROBLEM TRIALS SEEDS FOLDER

The area that the trials so far dominate, below a reference point, of all files
FOLDER/LABEL-SEED (lines "f1 f2"), as a share of the box between the reference point and
the least values of both objectives, so that 1 cannot be reached.  The reference point is
1.05 * the worst value of each objective: of a table over all its rows, of zdt (1, 10), of
dtlz2 with 12 variables (3.75, 3.75).

Prints the median over the seeds at some numbers of trials, and the quartiles of the
last; then what the comparison was made for.  Mann-Whitney tests are two-sided; they need
scipy."""
import glob
import os
import statistics
import sys

BOX = {"zdt1": ((0, 0), (1, 10)), "zdt2": ((0, 0), (1, 10)),
       "zdt3": ((0, -0.7734), (1, 10)), "dtlz2": ((0, 0), (3.75, 3.75))}


def corners(problem):
    if problem in BOX:
        least, worst = BOX[problem]
    else:
        rows = [[float(v) for v in line.split(",")[-2:]]
                for line in open(problem).read().split()[1:]]
        least, worst = [[pick(column) for column in zip(*rows)] for pick in (min, max)]
    return least, [1.05 * v for v in worst]


def volume(points, least, ref):
    area, low = 0.0, ref[1]
    for a, b in sorted(points):
        if a < ref[0] and b < low:
            area += (ref[0] - a) * (low - b)
            low = b
    return area / ((ref[0] - least[0]) * (ref[1] - least[1]))


def read(path):
    with open(path) as f:
        return [tuple(map(float, line.split())) for line in f
                if not line.startswith("seconds")]


def p_value(a, b):
    try:
        from scipy.stats import mannwhitneyu
    except ImportError:
        return None
    return mannwhitneyu(a, b, alternative="two-sided").pvalue


def compare(name, what, a, b):
    p = p_value(a, b)
    test = "" if p is None else f", p = {p:.4f}"
    print(f"{name}.{what} = {statistics.median(a):.4f} against "
          f"{statistics.median(b):.4f}{test}")


def main():
    problem, trials, seeds, folder = (sys.argv[1], int(sys.argv[2]), int(sys.argv[3]),
                                      sys.argv[4])
    name = os.path.splitext(os.path.basename(problem))[0]
    least, ref = corners(problem)
    third = trials // 3
    steps = sorted({trials // 10, third, trials // 2, trials})
    at = {}
    for path in sorted(glob.glob(os.path.join(folder, "*-1"))):
        label = os.path.basename(path)[:-2]
        runs = [read(path[:-1] + str(s)) for s in range(1, seeds + 1)
                if os.path.exists(path[:-1] + str(s))]
        at[label] = {n: [volume(r[:n], least, ref) for r in runs] for n in steps}
    for label, v in sorted(at.items(), key=lambda i: -statistics.median(i[1][trials])):
        q = sorted(v[trials])
        print(f"hv.{name}.{label} = "
              + ", ".join(f"{statistics.median(v[n]):.4f} at {n}" for n in steps)
              + f", quartiles {q[len(q) // 4]:.4f} {q[-1 - len(q) // 4]:.4f}")
    nsga2 = at.get("lamina.nsga2")
    if nsga2 and "pymoo.nsga2" in at:
        compare(name, "nsga2_against_pymoo", nsga2[trials], at["pymoo.nsga2"][trials])
    if nsga2 and "lamina.linas" in at:
        compare(name, f"linas_at_{third}_against_nsga2", at["lamina.linas"][third],
                nsga2[trials])
    ours, peers = [[label for label in at if label.startswith("lamina.") == mine]
                   for mine in (True, False)]
    if ours and peers:
        best, other = [max(labels, key=lambda i: statistics.median(at[i][trials]))
                       for labels in (ours, peers)]
        compare(name, f"best.{best}.against.{other}", at[best][trials],
                at[other][trials])


main()
