"""What combinations of a clause's rows are worth: `python -m benchmarks.complete.combinations`.

A random network of two layers of 12 ReLUs over boxes around random points, asked about clauses of several rows: one or
two conditions on inputs, an equation, or no condition and three rows. The exact least margin (of the rows that are no
conditions, where conditions are met) is an integer program's; of the gap between it and the bound of the best row alone
the table has the share that each method's combination closes, on average, and for how many questions it closes half of
it: so many are proven if their margin is half of what the best row loses.
"""

from __future__ import annotations

import argparse

import keras
import numpy as np

from tfcert.attacks.conditions import condition_rows, within_limits
from tfcert.clauses import Clause, Clauses
from tfcert.complete.bounds import row_bounds
from tfcert.complete.encoding.piecewise import flatten
from tfcert.complete.search.builder import QueryBuilder
from tfcert.complete.search.query import Solvers
from tfcert.complete.solver.process import SolverProcess
from tfcert.network import Network
from tfcert.network.cache import network_of
from tfcert.propagation.disjunctions import clause_bounds
from tfcert.sets.balls import Box

INPUTS, OUTPUTS, WIDTH = 4, 3, 12
KINDS = {"one condition": (1, 1), "two conditions": (1, 2), "an equation": (1, -1), "three rows": (3, 0)}
"""For each kind of clause its rows over outputs and its conditions; -1 for the two of an equation."""
METHODS = ("ibp", "crown", "alpha-crown")


def showing(seed: int) -> keras.Model:
    """A random network whose outputs are followed by its inputs."""
    keras.utils.set_random_seed(seed)
    x = hidden = keras.Input((INPUTS,))
    for _ in range(2):
        hidden = keras.layers.Dense(WIDTH, "relu", bias_initializer="random_normal")(hidden)
    return keras.Model(x, keras.layers.Concatenate()([keras.layers.Dense(OUTPUTS)(hidden), x]))


def asked(kind: str, x: np.ndarray, radius: float, rng: np.random.Generator) -> Clause:
    """A clause about the neighbourhood of a point; conditions cut through it."""
    rows, limits = KINDS[kind]
    over = [np.append(rng.normal(size=OUTPUTS), np.zeros(INPUTS)) for _ in range(rows)]
    offsets = [0.0] * rows
    for _ in range(abs(limits)):
        cut = rng.normal(size=INPUTS)
        through = float(-cut @ x + 0.2 * radius * rng.normal())
        for sign in (1, -1)[: 2 if limits < 0 else 1]:
            over.append(sign * np.append(np.zeros(OUTPUTS), cut))
            offsets.append(sign * through)
    return Clause(np.stack(over), np.array(offsets))


def exact_margins(network: Network, region: Box, clauses: Clauses, solver: SolverProcess) -> np.ndarray:
    """The least margin of each sample by an integer program."""
    builder = QueryBuilder(flatten(network), network, rounded=False)
    found = []
    for i in range(len(region)):
        _, margin = row_bounds(builder, region.take([i]), clauses.take([i]), Solvers(solver), (60.0, True))
        assert margin is not None
        found.append(margin[0])
    return np.array(found)


def table(questions: int, radius: float, seed: int) -> list[str]:
    """The lines of the table."""
    lines = ["| clauses | questions | method | gap closed, mean | half of it |", "|---|---|---|---|---|"]
    rng, network = np.random.default_rng(seed), network_of(showing(seed), np.zeros((1, INPUTS), np.float32))
    with SolverProcess() as solver:
        for kind in KINDS:
            x = rng.normal(size=(questions, INPUTS)).astype(np.float32)
            region = Box(x - np.float32(radius), x + np.float32(radius))
            clauses = Clauses.stack([[asked(kind, center, radius, rng)] for center in x])
            exact = exact_margins(network, region, clauses, solver)
            others = ~condition_rows(network, clauses)[:, 0]
            for method in METHODS:
                rows, _ = clause_bounds(network, region, clauses, method=method)
                alone = np.where(others, rows, -np.inf).max(axis=1)
                narrow = within_limits(network, region, clauses)
                again, combined = clause_bounds(network, narrow, clauses, method=method)
                assert combined is not None
                best = np.maximum(np.where(others, again, -np.inf).max(axis=1), combined[:, 0])
                some = exact - alone > 1e-3
                closed = (best - alone)[some] / (exact - alone)[some]
                share = f"{closed.mean():.0%} | {np.mean(closed >= 0.5):.0%}"
                lines.append(f"| {kind} | {int(some.sum())} | {method} | {share} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--radius", type=float, default=0.2, help="half the width of the boxes")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("\n".join(table(given.questions, given.radius, given.seed)))
