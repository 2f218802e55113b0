# SPDX-License-Identifier: Apache-2.0
"""strategies_peers.py PROBLEM TRIALS SEEDS LABEL FOLDER
   strategies_peers.py overhead

Other programs on the problems of propose.c: pymoo's and Optuna's NSGA-II, Optuna's TPE,
whittle's local search.  Writes FOLDER/LABEL-SEED, the two objectives of each trial on a
line; files that are there are kept.  Every variable is an integer, the index on the grid
of 1/100 or the level of the table.  The first genome is the uncompressed one; NSGA-II has
a population of 25; all else is as each program has it, but for pymoo, whose operators for
integers are those of its real variables, rounded (its documentation's advice), and
whittle, which on zdt and dtlz2 goes without its initial design of corners, as `local`.

`overhead` prints the processor time of a proposal, without evaluation."""
import math
import os
import sys
import time

POPULATION = 25


class Problem:
    def __init__(self, name):
        self.name, self.table = name.split(":")[0], None
        self.f = {"zdt1": self.zdt, "zdt2": self.zdt, "zdt3": self.zdt,
                  "dtlz2": self.dtlz2}.get(self.name, self.look_up)
        self.spent = 0.0
        if self.f == self.look_up:
            rows = [line.split(",") for line in open(name).read().split()[1:]]
            self.table = {tuple(map(int, r[:-2])): (float(r[-2]), float(r[-1]))
                          for r in rows}
            self.top = [max(column) for column in zip(*self.table)]
        else:
            n = int(name.split(":")[1]) if ":" in name else \
                12 if self.name == "dtlz2" else 30
            self.top = [100] * n

    def zdt(self, x):
        f1, g = x[0], 1 + 9 * sum(x[1:]) / (len(x) - 1)
        if self.name == "zdt1":
            return f1, g * (1 - math.sqrt(f1 / g))
        if self.name == "zdt2":
            return f1, g * (1 - (f1 / g) ** 2)
        return f1, g * (1 - math.sqrt(f1 / g) - f1 / g * math.sin(10 * math.pi * f1))

    def dtlz2(self, x):
        g = sum((v - 0.5) ** 2 for v in x[1:])
        return ((1 + g) * math.cos(x[0] * math.pi / 2),
                (1 + g) * math.sin(x[0] * math.pi / 2))

    def look_up(self, x):
        return self.table[tuple(x)]

    def __call__(self, levels):
        start = time.process_time()
        levels = [int(v) for v in levels]
        f = self.f(levels if self.table else [v / 100 for v in levels])
        self.spent += time.process_time() - start
        return f


def pymoo_nsga2(problem, trials, seed, population=POPULATION):
    import numpy as np
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.optimize import minimize

    told = []

    class Wrapped(ElementwiseProblem):
        def __init__(self):
            super().__init__(n_var=len(problem.top), n_obj=2, xl=0,
                             xu=np.array(problem.top), vtype=int)

        def _evaluate(self, x, out, *args, **kwargs):
            told.append(problem(x))
            out["F"] = told[-1]

    first = np.random.default_rng(seed).integers(
        0, np.array(problem.top) + 1, (population, len(problem.top)))
    first[0] = problem.top
    minimize(Wrapped(), NSGA2(
        pop_size=population, sampling=first, eliminate_duplicates=True,
        crossover=SBX(prob=0.9, eta=15, vtype=float, repair=RoundingRepair()),
        mutation=PM(eta=20, vtype=float, repair=RoundingRepair())),
        ("n_eval", trials), seed=seed, verbose=False)
    return told[:trials]


def optuna_study(problem, trials, sampler, watch=None):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    study.enqueue_trial({f"x{i}": top for i, top in enumerate(problem.top)})
    told = []
    for _ in range(trials):
        start = time.process_time()
        trial = study.ask()
        x = [trial.suggest_int(f"x{i}", 0, top) for i, top in enumerate(problem.top)]
        start -= time.process_time()
        told.append(problem(x))
        start += time.process_time()
        study.tell(trial, told[-1])
        if watch is not None:
            watch.append(time.process_time() - start)
    return told


def optuna_nsga2(problem, trials, seed):
    from optuna.samplers import NSGAIISampler

    return optuna_study(problem, trials,
                        NSGAIISampler(population_size=POPULATION, seed=seed))


def optuna_tpe(problem, trials, seed, watch=None):
    from optuna.samplers import TPESampler

    return optuna_study(problem, trials, TPESampler(seed=seed), watch)


def whittle_local(problem, trials, seed):
    import numpy as np
    from syne_tune.config_space import randint
    from whittle.search import search
    from whittle.search.baselines import methods
    from whittle.search.local_search import LS

    space = {f"x{i}": randint(0, top) for i, top in enumerate(problem.top)}
    np.random.seed(seed)                # of start points; whittle does not seed them
    if not problem.table:
        methods["local_search"] = lambda a: LS(
            config_space=a.config_space, metric=a.metrics, mode=a.mode,
            random_seed=a.random_seed,
            points_to_evaluate=[{f"x{i}": top for i, top in enumerate(problem.top)}])
    found = search.multi_objective_search(
        lambda config: problem([config[f"x{i}"] for i in range(len(problem.top))]),
        space, "local_search", num_samples=trials, seed=seed, verbose=False)
    return [tuple(c) for c in found["costs"]]


PEERS = {"pymoo.nsga2": pymoo_nsga2, "optuna.nsga2": optuna_nsga2,
         "optuna.tpe": optuna_tpe, "whittle.local": whittle_local}


def overhead():
    problem = Problem("zdt1:150")
    pymoo_nsga2(problem, 80, 1, 40)     # imports are not counted
    start, problem.spent = time.process_time(), 0.0
    pymoo_nsga2(problem, 2000, 1, 40)
    took = time.process_time() - start - problem.spent
    print(f"microseconds.pymoo.nsga2.150_genes = {1e6 * took / 2000:.1f}")
    watch = []
    optuna_tpe(Problem("zdt1:30"), 600, 1, watch)
    print(f"microseconds.optuna.tpe.30_genes.600_trials = "
          f"{1e6 * sum(watch) / 600:.1f}, last {1e6 * sum(watch[-20:]) / 20:.1f}")


def main():
    if sys.argv[1] == "overhead":
        overhead()
        return
    name, trials, seeds, label, folder = sys.argv[1:6]
    for seed in range(1, int(seeds) + 1):
        path = os.path.join(folder, f"{label}-{seed}")
        if os.path.exists(path):
            continue
        told = PEERS[label](Problem(name), int(trials), seed)
        with open(path + ".part", "w") as f:
            f.writelines(f"{a:.9g} {b:.9g}\n" for a, b in told)
        os.rename(path + ".part", path)


main()
