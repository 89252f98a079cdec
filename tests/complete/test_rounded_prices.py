"""Programs about rounded networks with curves, other balls, products and differences: every row holds, exactly, of
what a program computes; and what `milp(prove=true)` claims holds of every run."""

import math
from fractions import Fraction

import numpy as np
import pytest
from related_networks import dense, near, together
from rigour.simulated import drawn, simulated, values
from sweeps import sweep_but

from complete.questions import around, mlp
from tfcert.clauses import Clauses
from tfcert.complete.bounds import LP
from tfcert.complete.encoding.encode import EncodingOptions, encode
from tfcert.complete.encoding.piecewise import PiecewiseLinear
from tfcert.complete.encoding.rounded import covers
from tfcert.complete.prepare import Setup, prepared
from tfcert.complete.search.builder import flat_network
from tfcert.complete.search.tighten import propagated_bounds
from tfcert.complete.search.witness import Judge
from tfcert.network.cache import network_of
from tfcert.options import BoundOptions
from tfcert.sets.balls import Box, LpBall
from tfcert.verdict import Guarantee, Outcome

DEPLOYED, IGNORED = (BoundOptions(rounding=kind) for kind in ("deployed", "ignore"))


def exactly(numbers) -> list[Fraction]:
    return [Fraction(float(x)) for x in np.ravel(numbers)]


def steps_of(region, encoding, program, point) -> list[Fraction]:
    """The exact values of a set's own variables at a point, which follow the inputs'."""
    size = len(encoding.inputs)
    away = [x - c for x, c in zip(exactly(point), exactly(region.center[0]), strict=True)]
    if region.norm == "l1":
        return [abs(step) for step in away]
    if region.norm != "l2":
        return []
    units = [-float(program.values[program.starts[k] : program.starts[k + 1]].min()) for k in range(size)]
    roots = [step / Fraction(unit) for step, unit in zip(away, units, strict=True)]
    return [*roots, *(root * root for root in roots)]


ROWS = [
    ("tanh", "linf"), ("relu", "l1"), ("relu", "l2"), ("leaky_relu", "linf"), ("sigmoid", "l2"), ("softplus", "linf"),
    ("hard_sigmoid", "linf"),
]  # fmt: skip


@pytest.mark.parametrize(("activation", "norm"), sweep_but(ROWS[:4], ROWS))
@pytest.mark.parametrize("giant", [0.0, 1e4])
def test_rows_hold_exactly_of_what_is_computed(activation, norm, giant, rng):
    """Catches curves and other pieces without their kernels' ulps, and sets whose exact steps miss a row by one."""
    model = mlp(3, 5, 4, 2, activation=activation)
    model.layers[-1].bias.assign([giant, -giant])
    x = rng.normal(size=(1, 3)).astype(np.float32)
    ball = LpBall(x, 0.3, norm)
    region, network = ball.astype(np.float64), network_of(model, x)
    net = flat_network(network, "crown", DEPLOYED)
    assert covers(net, region)
    bounds, _, _ = propagated_bounds(net, region, "crown", options=DEPLOYED)
    encoding = encode(net, region, bounds.layers, bounds.output, EncodingOptions(relax=True))
    program = encoding.builder.program((encoding.inputs, np.zeros(3)))
    if norm == "l2":
        tangents = [[root, square, p] for root, square in program.squares for p in (-0.7, 0.1, 1.3)]
        program = program.with_tangents(np.array(tangents, float))
    for seed in range(6):
        point = ball.project(rng.uniform(ball.lower, ball.upper).astype(np.float32))
        found = values(network, point, drawn(seed))
        v = [*exactly(point), *steps_of(region, encoding, program, point)]
        for layer, (low, high) in zip(net.layers, bounds.layers, strict=True):
            before, after = found[layer.sources[0]][0], found[layer.index][0]
            if not (isinstance(layer.kind, PiecewiseLinear) and layer.kind.is_ramp):
                v += exactly(after) + exactly(before)
            else:
                v += exactly(before[high > 0]) + exactly(after[(low < 0) & (high > 0)])
        v += exactly(found[-1])
        assert len(v) == len(program.lower)
        for row in range(len(program.right)):
            entries = range(program.starts[row], program.starts[row + 1])
            left = sum(Fraction(float(program.values[k])) * v[program.columns[k]] for k in entries)
            right = Fraction(float(program.right[row]))
            assert left == right if program.equal[row] else left <= right
        assert all(Fraction(float(low)) <= at <= Fraction(float(high)) for low, at, high in
                   zip(program.lower, v, program.upper, strict=True))  # fmt: skip


def test_prices_bound_differences_of_related_networks(rng):
    """Catches facets without room, and residuals that a program leaves out: biases of 1e4 that cancel."""
    one = dense((4, 3), 1)
    weights = one.get_weights()
    weights[1] = weights[1] + np.float32(1e4)
    weights[3] = weights[3] - np.float32(1e4) * weights[2].sum(axis=0)
    one.set_weights(weights)
    network = together(one, near(one, 1e-6))
    center = rng.normal(size=(1, 3)).astype(np.float32)
    region = Box(center - np.float32(1e-3), center + np.float32(1e-3))
    points = np.concatenate([region.lower, region.upper, *region.sample(6)]).astype(np.float32)
    runs = [simulated(network, drawn(seed))(points).astype(np.float64) for seed in range(16)]
    least = min(float((run[:, 0] - run[:, 1]).min()) for run in runs)
    rows, zero = np.array([[[1.0, -1.0]]]), np.zeros((1, 1))
    found = {
        options.rounding: float(LP.bounds(network, region, rows, zero, options)[0, 0])
        for options in (DEPLOYED, IGNORED)
    }
    assert math.isfinite(found["deployed"]) and found["deployed"] <= least
    assert found["deployed"] < found["ignore"] and found["deployed"] > found["ignore"] - 1.0


KINDS = [
    ("leaky_relu", "linf", 2), ("tanh", "l1", 2), ("relu", "linf", 2), ("relu", "l2", 2), ("relu", "box", 1),
    ("tanh", "linf", 1), ("hard_sigmoid", "l2", 1),
]  # fmt: skip


@pytest.mark.parametrize(("activation", "norm", "outputs"), sweep_but(KINDS[:2], KINDS))
def test_what_milp_proves_again_holds_of_every_run(activation, norm, outputs, rng):
    """Catches a claim about the exact network: the threshold is put to either side of the least that runs reach."""
    model = mlp(2, 5, 4, outputs, seed=5, activation=activation)
    x = np.array([[0.2, -0.3]], np.float32)
    region, network = around(norm, x, 0.4), network_of(model, x)
    row = np.ones((1, 1, 1)) if outputs == 1 else np.array([[[1.0, -1.0]]])
    points = np.concatenate([region.project(p.astype(np.float32)) for p in (x, *region.sample(150), *_ends(region))])
    runs = np.stack([simulated(network, drawn(seed))(points) for seed in range(6)]).astype(np.float64) @ row[0, 0]
    levels = []
    for above in (0.02, -0.02):
        clauses = Clauses.all_of(row, np.array([[above - runs.min()]]))
        setup = Setup(("milp",), options=DEPLOYED, prove=True)
        with prepared(network, model, region, clauses, setup) as ready:
            found = ready.decide(region, Judge(model, region, clauses), 60.0)
        if found.outcome is Outcome.VERIFIED:
            assert above > 0 and (runs + above - runs.min() > 0).all()
            levels.append(found.guarantee)
            assert found.guarantee is Guarantee.FLOAT32_ANY_ORDER or found.believed
        elif found.outcome is Outcome.FALSIFIED:
            assert float(clauses.margin(np.asarray(model(found.witness[None])))[0]) < 0
            assert region.contains(found.witness[None]).all()
    assert Guarantee.FLOAT32_ANY_ORDER in levels


def _ends(region):
    low, high = region.interval()
    return [low, high, np.where([[True, False]], low, high), np.where([[True, False]], high, low)]
