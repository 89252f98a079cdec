"""Questions about small models, and points that try to refute the answers."""

import math
import time
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from soundness.networks import randomize

from tfcert.clauses import Clauses, keeps_label
from tfcert.complete.encoding.piecewise import flatten
from tfcert.complete.search.builder import QueryBuilder
from tfcert.complete.search.decide import decide
from tfcert.complete.search.minimum import NearestSearch
from tfcert.complete.search.query import Query, Solvers
from tfcert.complete.search.witness import Judge
from tfcert.complete.solver.process import SolverProcess
from tfcert.network import Network
from tfcert.network.cache import network_of
from tfcert.sets.balls import Box, LpBall, Perturbation
from tfcert.verdict import Outcome

REGIONS = ("linf", "l1", "l2", "box")


def mlp(*widths: int, seed: int = 0, activation: Any = "relu", dtype: str = "float32") -> keras.Model:
    """A random dense network: inputs, hidden widths, outputs."""
    layers = [keras.Input((widths[0],), dtype=dtype)]
    layers += [keras.layers.Dense(n, activation=activation, dtype=dtype) for n in widths[1:-1]]
    model = keras.Sequential([*layers, keras.layers.Dense(widths[-1], dtype=dtype)])
    randomize(model, np.random.default_rng(seed))
    return model


def around(kind: str, x: np.ndarray, eps: float, clip: Any = None) -> Perturbation:
    """One of ``REGIONS`` around samples ``[batch, *input]``."""
    return Box(x - eps, x + eps) if kind == "box" else LpBall(x, eps, kind, clip)


def question(
    model: Any,
    region: Perturbation,
    clauses: Clauses,
    *,
    bounds: str = "crown",
    solver: SolverProcess | None = None,
    rounded: bool = True,
) -> Query:
    """The query about one sample's set; without ``rounded`` about the rows as they are."""
    network = model if isinstance(model, Network) else network_of(model, region.lower)
    builder, solvers = (
        QueryBuilder(flatten(network), model, bounds, rounded=rounded),
        Solvers(solver or SolverProcess()),
    )
    return builder.query(region.astype(np.float64), Judge(model, region, clauses), solvers)


def keeps_class(model: Any, x: np.ndarray) -> Clauses:
    """That each sample keeps the class that it has."""
    outputs = np.asarray(model(x))
    return keeps_label(outputs.argmax(axis=-1), outputs.shape[-1])


def points(region: Perturbation, count: int = 40, seed: int = 0) -> np.ndarray:
    """Members of a sample's set ``[points, *input]``: its centre, corners (projected) and random ones."""
    rng = np.random.default_rng(seed)
    ends = [np.where(rng.random(region.lower.shape) < 0.5, region.lower, region.upper) for _ in range(count)]
    spikes = []
    for index in np.ndindex(*region.input_shape):
        for end in (region.lower, region.upper):
            spike = region.center.copy()
            spike[0][index] = end[0][index]
            spikes.append(spike)
    found = [region.center, *spikes, *ends, *region.sample(count, seed)]
    return np.concatenate([region.project(p.astype(region.lower.dtype)) for p in found])


def search_around(model: Any, ball: LpBall, *, known: bool, bounds: str = "crown") -> NearestSearch:
    """A search for the least distance at which the centre's class is lost, with a witness to begin with or without."""
    clauses = keeps_class(model, ball.x)
    judge = Judge(model, ball, clauses)
    confirmed = (judge.confirm(x) for x in points(ball)) if known else iter(())
    witness = next((w for w in confirmed if w is not None), None)
    assert known == (witness is not None)

    def ask(some: LpBall) -> Query:
        return replace(question(model, some, clauses, bounds=bounds), judge=judge)

    return NearestSearch(ask, judge, ball.astype(np.float64), witness)


def assert_decisions_are_right(
    model: Any, region: LpBall, base: Clauses, solver: SolverProcess, seconds: float = math.inf
) -> tuple[float, float]:
    """The margin is moved to either side of the least that a fine grid of two inputs has: nothing that is broken is
    verified, and nothing that holds is falsified; where it is broken, or holds, by far, it is decided.

    Returns:
        The least margin on the grid, and between which its margins lie: the width.
    """
    ticks = np.linspace(-region.eps[0], region.eps[0], 101)
    grid = (region.x + np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)).astype(np.float32)
    margins = base.take([0] * len(grid)).margin(np.asarray(model(grid)))
    least, width = margins.min(), np.ptp(margins)
    for ways in (("split", "milp"), ("milp",)):
        found = {}
        for above in (-0.5, -0.02, 0.02, 10.0):
            query = question(model, region, base.less(least - above * width))
            found[above] = decide(query, Solvers(solver, until=time.monotonic() + seconds), ways=ways).outcome
        assert found[-0.5] is Outcome.FALSIFIED and found[10.0] is Outcome.VERIFIED
        assert found[-0.02] is not Outcome.VERIFIED and found[0.02] is not Outcome.FALSIFIED
    return least, width
