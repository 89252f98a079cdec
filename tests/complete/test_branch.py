"""Branch and bound: right where it must split, whatever half the witness lies in, and honest where it cannot."""

import keras
import numpy as np
import pytest

from complete.questions import keeps_class, mlp, question
from tfcert.clauses import Clauses
from tfcert.complete.search import branch as branching
from tfcert.complete.search.branch import branch, can_branch
from tfcert.complete.search.query import Solvers
from tfcert.sets.balls import LpBall

pytestmark = pytest.mark.usefixtures("eager")

X = np.array([[0.3, -0.2]], np.float32)


def asked(seed: int, above: float):
    """One clause about a network of two hidden layers, moved so that its least margin on a fine grid is ``above``."""
    model, region = mlp(2, 10, 10, 2, seed=seed), LpBall(X, 2.0)
    base = keeps_class(model, X)
    ticks = np.linspace(-2, 2, 201)
    grid = X + np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    margins = base.take([0] * len(grid)).margin(np.asarray(model(grid.astype(np.float32))))
    clauses = base.less(margins.min() - above)
    return question(model, region, clauses, bounds="interval"), clauses


@pytest.mark.parametrize("above", [-0.02, 0.05])
def test_it_is_right_where_it_must_split(above, cbc):
    pieces = []
    for seed in (0, 3, 7):
        query, clauses = asked(seed, above)
        found = branch(query, 0, Solvers(cbc))
        pieces.append(found.pieces)
        if above > 0:
            assert found.witness is None and 0 < found.bound <= above + 1e-6 and not found.reason
        else:
            assert found.witness is not None, f"seed {seed}"
            assert clauses.margin(np.asarray(query.judge.model(found.witness[None])))[0] < 0
    assert min(pieces) > 2


def test_without_linear_programs_it_proves_by_splitting_alone(cbc, monkeypatch):
    monkeypatch.setattr(branching, "_SMALL", -1.0)
    query, _ = asked(2, 0.5)
    found = branch(query, 0, Solvers(None, until=float("inf")))  # type: ignore[arg-type]
    assert found.bound > 0 and found.pieces > 2


def test_what_it_is_told_only_rises_and_never_passes_the_truth(cbc):
    query, _ = asked(2, 0.05)
    told = []
    found = branch(query, 0, Solvers(cbc), lambda bound, pieces: told.append((bound, pieces)))
    bounds, counts = zip(*told, strict=True)
    assert list(bounds) == sorted(bounds) and list(counts) == sorted(counts)
    assert max(*bounds, found.bound) <= 0.05 + 1e-6


def test_without_time_it_says_how_far_it_came(cbc):
    query, _ = asked(1, 0.05)
    found = branch(query, 0, Solvers(cbc, until=0.0))
    assert found.witness is None and "budget" in found.reason and not found.bound > 0


def test_networks_without_anything_to_split_are_not_for_it(cbc):
    affine = mlp(2, 3, 2, activation=None)
    assert not can_branch(question(affine, LpBall(X, 0.1), keeps_class(affine, X)))
    for activation in ("relu", "tanh"):
        model = mlp(2, 3, 2, activation=activation)
        assert can_branch(question(model, LpBall(X, 0.1), keeps_class(model, X)))


CURVED = {"sigmoid": ("sigmoid", 3.0), "square": (keras.ops.square, 1.0), "exp": ("exponential", 1.0)}


@pytest.mark.parametrize("above", [-0.02, 0.05])
@pytest.mark.parametrize(("activation", "eps"), CURVED.values(), ids=CURVED)
def test_curves_are_split_until_it_is_decided(activation, eps, above, cbc, monkeypatch):
    """Two layers of curves, where neither bounds nor a few steps decide: the least margin is known from a grid."""
    monkeypatch.setattr(branching, "_FIRST", 10)
    monkeypatch.setattr(branching, "STEPS", 10)
    model, region = mlp(2, 3, 2, 2, seed=3, activation=activation), LpBall(X, eps)
    base, ticks = keeps_class(model, X), np.linspace(-eps, eps, 201)
    grid = X + np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    margins = base.take([0] * len(grid)).margin(np.asarray(model(grid.astype(np.float32))))
    above *= float(np.ptp(margins))
    clauses = base.less(margins.min() - above)
    query = question(model, region, clauses, bounds="interval")
    found = branch(query, 0, Solvers(cbc))
    if above > 0:
        assert found.witness is None and 0 < found.bound <= above + 1e-4 and not found.reason
    else:
        assert found.witness is not None
        assert clauses.margin(np.asarray(query.judge.model(found.witness[None])))[0] < 0


def test_any_row_of_a_clause_may_prove_a_piece(cbc):
    """A disjunction that no row alone proves: ``y0 > y1`` or ``y1 > y0 - 0.3`` on a set where both signs occur."""
    query, base = asked(3, -0.3)
    coefficients = np.concatenate([base.coefficients, -base.coefficients], axis=2)
    offsets = np.concatenate([base.offsets, 0.1 - base.offsets], axis=2)
    both = question(query.judge.model, LpBall(X, 2.0), Clauses(coefficients, offsets), bounds="interval")
    found = branch(both, 0, Solvers(cbc))
    assert found.witness is None and 0 < found.bound <= 0.05 + 1e-6 and not found.reason
    assert branch(query, 0, Solvers(cbc)).witness is not None
