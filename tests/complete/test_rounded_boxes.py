"""Cuts of inputs on rounded networks: against simulated float32 programs, without slack."""

from fractions import Fraction

import keras
import numpy as np
import pytest
from rigour.deceiving import absorption, linear, order, ordinary
from rigour.simulated import drawn, simulated

from complete.questions import mlp
from tfcert.clauses import Clause, Clauses
from tfcert.complete.search import boxes
from tfcert.complete.search.builder import QueryBuilder, flat_network
from tfcert.complete.search.decide import decide
from tfcert.complete.search.halving import Batches
from tfcert.complete.search.query import Solvers
from tfcert.complete.search.witness import Judge
from tfcert.complete.solver.process import SolverProcess
from tfcert.network.cache import network_of
from tfcert.options import BoundOptions
from tfcert.sets.balls import Box
from tfcert.verdict import Guarantee, Outcome, Reason

pytestmark = pytest.mark.usefixtures("eager")
DEPLOYED, REAL, IGNORED = (BoundOptions(rounding=kind) for kind in ("deployed", "real", "ignore"))
LABEL_1 = np.array([[-1.0, 1.0]])


def asked(model, region, clauses, options=DEPLOYED):
    """The query about a box, of the network as it is deployed; nothing is estimated where rounding is left out."""
    net, rounded = flat_network(network_of(model), "crown", options), options is not IGNORED
    builder = QueryBuilder(net, model, "crown", options, rounded)
    return builder.untightened(region.astype(np.float64), Judge(model, region, clauses))


def around(x, half, moving):
    """A box in which only so many inputs may move."""
    half = np.where(np.arange(x.size) < moving, np.float32(half), np.float32(0)).reshape(x.shape)
    return Box(x - half, x + half)


def decided(query):
    return decide(query, Solvers(SolverProcess()), ways=("inputs",))


def runs(model, points, count=12):
    """Outputs of simulated programs ``[programs, points, outputs]``, float64 of float32."""
    network = network_of(model)
    return np.stack([simulated(network, drawn(seed))(points) for seed in range(count)]).astype(np.float64)


def inside(rng, low, high, count):
    """Float32 points of a box, its corners among them."""
    share = np.where(rng.random((count, 1)) < 0.5, rng.integers(0, 2, (count, len(low))), rng.random((count, len(low))))
    points = (low + share * (high - low)).astype(np.float32)
    return points[((low <= points) & (points <= high)).all(axis=1)]


def spots(case, rng, count, half):
    """Small boxes around points of a case's set, and the clause of label 1 moved so that it breaks on some."""
    x = case.ball.x[0].astype(np.float64)
    low = x + rng.uniform(-half, half, (count, x.size)) - half
    return low, low + 2 * half * rng.random((count, x.size))


@pytest.mark.parametrize("bias", [1.0, 1e4])
def test_planes_are_below_what_any_program_computes(bias, rng):
    """Catches planes without the rounding of the network: in exact arithmetic these are the network itself."""
    case, below = linear(bias), 0
    for options in (DEPLOYED, IGNORED):
        query = asked(
            case.model, around(case.ball.x, 1e-3, 16), Clauses.stack([[Clause(LABEL_1, np.zeros(1))]]), options
        )
        batches = Batches(query)
        low, high = spots(case, rng, 4, 1e-4)
        rows, layers = batches.bounds(low, high)
        none = np.zeros(4, int)
        planes = batches.planes(low, high, (none, none), layers)
        assert (planes.least <= rows[:, 0, 0] + 1e-6 * bias).all() and (planes.slopes != 0).all()
        for i in range(4):
            points = inside(rng, low[i], high[i], 20)
            values = runs(case.model, points) @ LABEL_1[0]
            for k, point in enumerate(points):
                away = np.where(planes.slopes[i] > 0, point - low[i], high[i] - point)
                exact = Fraction(float(planes.least[i])) + sum(
                    Fraction(abs(float(a))) * Fraction(float(d)) for a, d in zip(planes.slopes[i], away, strict=True)
                )
                fair = Fraction(float(values[:, k].min())) >= exact * (1 - Fraction(1, 2**48))
                assert fair or options is IGNORED
                below += not fair
    assert below, "no program is below the planes that leave rounding out: nothing could be caught"


@pytest.mark.parametrize("bias", [1.0, 100.0])
def test_no_program_answers_otherwise_where_a_box_was_cut_off(bias, rng):
    """Catches a box that is shrunk by a plane without room for rounding, or rounded inward."""
    case, outside = linear(bias), 0
    x = case.ball.x[0].astype(np.float64)
    middle = float((runs(case.model, case.ball.x)[:, 0] @ LABEL_1[0]).mean())
    for options in (DEPLOYED, IGNORED):
        clause = Clauses.stack([[Clause(LABEL_1, np.array([-middle]))]])  # breaks on about half of each box
        query = asked(case.model, around(case.ball.x, 0.1, 16), clause, options)
        tree, moving = boxes._Tree(query, [0]), rng.integers(0, 16, 6)
        low, high = np.repeat(x[None], 6, axis=0), np.repeat(x[None], 6, axis=0)
        low[np.arange(6), moving] -= 0.1
        high[np.arange(6), moving] += 0.1
        rows, layers = tree.batches.bounds(low, high)
        none = np.zeros(6, int)
        some = boxes._Open(low, high, rows.max(axis=2), high - low, none, tree.nothing(len(low)))
        less = tree._shrunk(some, tree.batches.planes(low, high, (none, none), layers), none)
        assert ((less.upper - less.lower).sum(axis=1) < 0.9 * (high - low).sum(axis=1)).any()
        for i, k in enumerate(moving):
            ends = less.lower[i, k], less.upper[i, k]
            points = np.repeat(case.ball.x, 60, axis=0)
            near = np.concatenate([end + 10.0 ** rng.uniform(-9, -4, 30) * rng.choice([-1, 1], 30) for end in ends])
            points[:, k] = np.clip(near, low[i, k], high[i, k])
            breaks = (runs(case.model, points) @ LABEL_1[0] - middle <= 0).any(axis=0)
            off = ((points[:, k] < ends[0]) | (points[:, k] > ends[1])) & (low[i, k] <= points[:, k])
            off &= points[:, k] <= high[i, k]  # float32 points near an end may be beyond it
            assert options is IGNORED or not (breaks & off).any()
            outside += int((breaks & off).sum())
    assert outside, "without rounding nothing is cut off too far: nothing could be caught"


@pytest.mark.parametrize("build", [order, pytest.param(absorption, marks=pytest.mark.sweep)])
def test_what_rounding_undoes_is_not_proven_and_the_search_ends(build, monkeypatch):
    """Catches proofs by bounds that leave rounding out, and a search that cuts on where no cut can prove anything."""
    monkeypatch.setattr(boxes, "_MORE", 1)
    case = build()
    region = around(case.ball.x, 0.1, 12)
    found = decided(asked(case.model, region, Clauses.stack([[Clause(LABEL_1, np.zeros(1))]])))
    assert found.outcome in (Outcome.UNKNOWN, Outcome.FALSIFIED) and found.work.pieces < 500
    if found.outcome is Outcome.UNKNOWN:
        assert found.reason.reason is Reason.ROUNDING


def test_a_margin_below_what_rounding_takes_ends_the_search(monkeypatch):
    """The worst margin is a tenth of what the bound of a point alone loses: no cut proves it, whatever it costs."""
    monkeypatch.setattr(boxes, "_MORE", 1)
    model = mlp(2, 4, 2, seed=3)
    model.layers[-1].bias.assign([1e4, 1e4])
    region = Box(np.full((1, 2), -0.5, np.float32), np.full((1, 2), 0.5, np.float32))
    network = network_of(model)
    points = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 101, dtype=np.float32)] * 2), -1).reshape(-1, 2)
    least = float((network.astype("float64")(points.astype(np.float64)).numpy() @ LABEL_1[0]).min())
    clause = Clauses.stack([[Clause(LABEL_1, np.array([-least + 2e-4]))]])
    found = decided(asked(model, region, clause))
    assert found.outcome is not Outcome.VERIFIED and found.work.pieces < 2000
    far = Clauses.stack([[Clause(LABEL_1, np.array([-least + 0.1]))]])
    assert decided(asked(model, region, far)).outcome is Outcome.VERIFIED


LEVELS = {"deployed": Guarantee.FLOAT32_ANY_ORDER, "real": Guarantee.REAL, "ignore": Guarantee.NUMERIC}


@pytest.mark.parametrize("options", [DEPLOYED, REAL, IGNORED], ids=["deployed", "real", "ignore"])
@pytest.mark.parametrize(
    "kind",
    ["one output", "fixed", *(pytest.param(k, marks=pytest.mark.sweep) for k in ("one", "several", "either", "tanh"))],
)
def test_proofs_by_cuts_have_the_level_of_their_rounding(kind, options, rng):
    """Catches a level that was not earned or that is given away; nothing proven is broken by any program."""
    model = mlp(2, 6, 5, 1 if kind == "one output" else 2, seed=3, activation="tanh" if kind == "tanh" else "relu")
    region = Box(np.full((1, 2), -0.5, np.float32), np.full((1, 2), 0.5, np.float32))
    if kind == "fixed":
        region = Box(np.array([[0.25, -0.5]], np.float32), np.array([[0.25, 0.5]], np.float32))
    rows = {"several": [LABEL_1, np.array([[0.0, 1.0]])], "either": [np.array([[1.0, -1.0], [0.5, 1.0]])]}
    rows = rows.get(kind, [np.ones((1, 1)) if kind == "one output" else LABEL_1])
    points = inside(rng, region.lower[0].astype(float), region.upper[0].astype(float), 300)
    points = (
        np.concatenate([points, region.lower, region.upper])
        if kind != "fixed"
        else region.lower + np.linspace(0, 1, 100, dtype=np.float32)[:, None] * np.array([[0.0, 1.0]], np.float32)
    )
    outputs = runs(model, points)
    above = [0.02 - (outputs @ r.T).max(axis=2).min() for r in rows]
    clauses = Clauses.stack([[Clause(r, np.full(len(r), offset)) for r, offset in zip(rows, above, strict=True)]])
    found = decided(asked(model, region, clauses, options))
    if found.outcome is Outcome.VERIFIED:
        assert found.guarantee is LEVELS[options.rounding] and not found.believed
        every = np.stack([(outputs @ r.T + offset).max(axis=2) for r, offset in zip(rows, above, strict=True)])
        assert (every > 0).all() and (options is not DEPLOYED or found.margin <= every.min())
    else:
        assert found.outcome is Outcome.FALSIFIED and kind != "fixed"


def test_an_ordinary_network_stays_proven():
    case = ordinary()
    region = around(case.ball.x, 0.1, 3)
    query = asked(case.model, region, Clauses.stack([[Clause(LABEL_1, np.zeros(1))]]))
    found = boxes.by_halves(query, [0], Solvers(SolverProcess()))
    assert found.proven == (0,) and isinstance(case.model, keras.Model)
