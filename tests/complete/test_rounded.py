"""What solvers and branch and bound claim of rounded networks: checked by exact arithmetic and by executions."""

from fractions import Fraction

import keras
import numpy as np
import pytest
from sweeps import sweep_but

from complete.questions import keeps_class, mlp
from tfcert.clauses import Clauses
from tfcert.complete.bounds import LP
from tfcert.complete.encoding.encode import EncodingOptions, encode
from tfcert.complete.encoding.program import Program
from tfcert.complete.encoding.rounded import covers, layer_sizes, residuals
from tfcert.complete.prepare import Setup, prepared
from tfcert.complete.search.builder import QueryBuilder, flat_network
from tfcert.complete.search.query import margin_program
from tfcert.complete.search.tighten import propagated_bounds
from tfcert.complete.search.witness import Judge
from tfcert.network.cache import network_of
from tfcert.options import BoundOptions
from tfcert.propagation.disjunctions import clause_bounds
from tfcert.sets.balls import LpBall
from tfcert.verdict import Guarantee, Outcome

DEPLOYED, REAL, IGNORED = (BoundOptions(rounding=kind) for kind in ("deployed", "real", "ignore"))


def exact_dual(program: Program, prices: np.ndarray) -> Fraction:
    """The Lagrangian bound of prices (at most 0 on inequalities) in exact arithmetic."""
    total = Fraction(float(program.constant))
    reduced = [Fraction(float(c)) for c in program.objective]
    for row, price in enumerate(prices):
        price = Fraction(float(price if program.equal[row] else min(price, 0.0)))
        total += price * Fraction(float(program.right[row]))
        for k in range(program.starts[row], program.starts[row + 1]):
            reduced[program.columns[k]] -= price * Fraction(float(program.values[k]))
    for cost, low, high in zip(reduced, program.lower, program.upper, strict=True):
        total += cost * Fraction(float(low if cost > 0 else high))
    return total


def program_of(model: keras.Model, x: np.ndarray, eps: float, options: BoundOptions):
    """The relaxed program of the worst margin, and the query."""
    ball = LpBall(x, eps, "linf")
    builder = QueryBuilder(flat_network(network_of(model, x), "crown", options), model, "crown", options)
    query = builder.untightened(ball.astype(np.float64), Judge(model, ball, keeps_class(model, x)))
    return margin_program(query, query.asked[:1], relax=True).program, query


@pytest.mark.parametrize("size", [1e-300, 1e-3, 1.0, 1e12, 1e200, 1e306])
def test_no_prices_prove_more_than_exact_arithmetic_does(size, rng):
    """Catches an evaluation of prices that rounds the wrong way anywhere, forged prices included."""
    x = rng.normal(size=(1, 3)).astype(np.float32)
    program, _ = program_of(mlp(3, 5, 4, 3), x, 0.2, DEPLOYED)
    for _ in range(5):
        prices = size * rng.normal(size=len(program.right)) * rng.integers(0, 2, len(program.right))
        best = max(exact_dual(program, prices), exact_dual(program, -prices))
        found = program.dual_bound(prices)
        assert found == -np.inf or Fraction(found) <= best


def float32_runs(weights: list[np.ndarray], x: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Pre-activations of a dense ReLU network at one input by float32 additions in some random order."""
    found, value = [], x.astype(np.float32)
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        sums = np.empty(len(bias), np.float32)
        for j in range(len(bias)):
            terms = np.append(value * kernel[:, j], bias[j]).astype(np.float32)
            total = np.float32(0)
            for k in rng.permutation(len(terms)):
                total = np.float32(total + terms[k])
            sums[j] = total
        found.append(sums)
        value = np.maximum(sums, np.float32(0))
    return found


def exactly(kernel: np.ndarray, bias: np.ndarray, x: np.ndarray) -> list[Fraction]:
    """``x W + b`` in exact arithmetic."""
    entries = [Fraction(float(v)) for v in x]
    return [
        Fraction(float(bias[j])) + sum(Fraction(float(w)) * v for w, v in zip(kernel[:, j], entries, strict=True))
        for j in range(len(bias))
    ]


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_what_a_layer_computes_is_within_the_residual_that_its_rows_have(scale, rng):
    """Catches an error term that is dropped, halved, or leaves out the bias: sums in random orders, biases that absorb
    and biases that cancel."""
    model = mlp(4, 6, 5, 3)
    model.layers[0].bias.assign(scale * rng.normal(size=6))
    weights, x = [np.array(w) for w in model.get_weights()], rng.normal(size=(1, 4)).astype(np.float32)
    region = LpBall(x, 0.5, "linf").astype(np.float64)
    net = flat_network(network_of(model, x), "crown", DEPLOYED)
    bounds, _, _ = propagated_bounds(net, region, "crown", options=DEPLOYED)
    sizes = layer_sizes(net, region, bounds.layers)
    off = [residuals(net, layer.sources, sizes[:k]) for k, layer in enumerate(net.layers, 1)]
    off.append(residuals(net, net.targets, sizes))
    used = 0.0
    for _ in range(40):
        point = rng.uniform(region.lower[0], region.upper[0]).astype(np.float32)
        values = float32_runs(weights, point, rng)
        entered = [point, *(np.maximum(value, 0) for value in values)]
        for kernel, bias, before, after, room in zip(
            weights[::2], weights[1::2], entered[:-1], values, off, strict=True
        ):
            for j, exact in enumerate(exactly(kernel, bias, before)):
                miss = abs(Fraction(float(after[j])) - exact)
                assert miss <= Fraction(float(room[j]))
                used = max(used, float(miss) / float(room[j]))
    assert used > 0.01, "the runs round nothing worth speaking of"


def absorbing() -> keras.Model:
    """Answers 0 in exact arithmetic, ``(x + 2^24) - 2^24 > 0.25`` for x about 0.4; float32 makes 0 of it."""
    model = keras.Sequential([keras.Input((1,)), *(keras.layers.Dense(n, activation="relu") for n in (1, 1))])
    model.add(keras.layers.Dense(2))
    weights = [[[1.0]], [2.0**24], [[1.0]], [-(2.0**24)], [[1.0, 0.0]], [0.0, 0.25]]
    model.set_weights([np.array(w, np.float32) for w in weights])
    return model


X = np.full((1, 1), 0.4, np.float32)
ROW = np.array([[[1.0, -1.0]]])


def test_lp_bounds_what_the_program_computes_and_not_what_the_formula_says():
    """Catches prices of a program without room for the network's own rounding: absorption at 2^24."""
    model = absorbing()
    network, ball = network_of(model, X), LpBall(X, 0.01, "linf")
    run = np.array([[1.0, -1.0]]) @ np.asarray(model(X))[0]
    exact, deployed = (float(LP.bounds(network, ball, ROW, np.zeros((1, 1)), o)[0, 0]) for o in (REAL, DEPLOYED))
    assert run < 0 < exact <= 0.15
    assert deployed <= run


@pytest.mark.parametrize("ways", [("split",), ("milp",)])
def test_absorption_is_not_verified(ways):
    """Catches leaves, prices and programs that speak of the exact network where the deployed one was asked about."""
    model = absorbing()
    ball = LpBall(X, 0.01, "linf")
    clauses = Clauses.all_of(ROW, np.zeros((1, 1)))
    with prepared(network_of(model, X), model, ball, clauses, Setup(ways, options=DEPLOYED, prove=True)) as ready:
        decision = ready.decide(ball, Judge(model, ball, clauses), 20.0)
    assert decision.outcome is not Outcome.VERIFIED


def decided(ways: tuple[str, ...], options: BoundOptions, *, prove: bool = False, disjunctive: bool = False):
    """The decision about a small network at a radius at which bounds do not suffice."""
    model = mlp(3, 8, 8, 3, seed=3)
    x = np.array([[0.3, -0.4, 0.2]], np.float32)
    clauses = keeps_class(model, x)
    outputs = np.asarray(model(x))[0]
    if disjunctive:  # one of two rows holds: neither bound alone, at this radius
        clauses = Clauses(clauses.coefficients.reshape(1, 1, 2, 3), clauses.offsets.reshape(1, 1, 2))
    assert outputs.argmax() >= 0
    network = network_of(model, x)
    radii = np.geomspace(0.02, 2.0, 25)
    for eps in radii:
        lower, _ = clause_bounds(network, LpBall(x, eps, "linf"), clauses, options=options)
        if lower.max() <= 0 or (not disjunctive and lower.min() <= 0):
            break
    ball = LpBall(x, eps, "linf")
    with prepared(network, model, ball, clauses, Setup(ways, options=options, prove=prove)) as ready:
        return ready.decide(ball, Judge(model, ball, clauses), 30.0)


@pytest.mark.parametrize("options", [DEPLOYED, REAL, IGNORED], ids=["deployed", "real", "ignore"])
def test_branch_and_bound_has_the_guarantee_of_its_rounding(options):
    """Catches a level that was not earned, and one that is given away."""
    levels = {"deployed": Guarantee.FLOAT32_ANY_ORDER, "real": Guarantee.REAL, "ignore": Guarantee.NUMERIC}
    decision = decided(("split",), options)
    assert decision.outcome is Outcome.VERIFIED
    assert decision.guarantee is levels[options.rounding] and not decision.believed
    assert decision.work.pieces > 0


def test_milp_rests_on_the_solver_unless_it_is_proven_again():
    """Catches a `prove` that does nothing, and one that believes the program."""
    believed, proven = decided(("milp",), DEPLOYED), decided(("milp",), DEPLOYED, prove=True)
    assert believed.outcome is proven.outcome is Outcome.VERIFIED
    if believed.believed:
        assert believed.guarantee is Guarantee.SOLVER
        assert proven.work.pieces > 0
    assert proven.guarantee is Guarantee.FLOAT32_ANY_ORDER and not proven.believed


def test_rounded_programs_are_looser_by_rounding_alone(rng):
    """Catches rows without room, and room without measure."""
    x = rng.normal(size=(1, 3)).astype(np.float32)
    model = mlp(3, 6, 5, 3)
    network, ball = network_of(model, x), LpBall(x, 0.2, "linf")
    row = np.array([[[1.0, -1.0, 0.0]]])
    deployed, real, ignored = (
        float(LP.bounds(network, ball, row, np.zeros((1, 1)), o)[0, 0]) for o in (DEPLOYED, REAL, IGNORED)
    )
    assert deployed < real
    assert abs(real - ignored) <= 1e-6
    assert real - deployed <= 1e-3 * max(1.0, abs(real))


@pytest.mark.parametrize("activation", sweep_but(["leaky_relu"], ["leaky_relu", "relu6"]))
def test_pieces_of_other_slopes_are_bounded_as_tightly_as_without_rounding(activation, rng):
    """Catches pieces that a program encloses by one pair of lines, of which two pieces know more."""
    x = rng.normal(size=(1, 3)).astype(np.float32)
    network = network_of(mlp(3, 6, 5, 2, activation=activation), x)
    region, row = LpBall(x, 0.4, "linf"), np.array([[[1.0, -1.0]]])
    net = flat_network(network, "crown", DEPLOYED)
    assert all(covers(net, LpBall(x, 0.1, norm)) for norm in ("linf", "l1", "l2"))
    deployed, ignored = (float(LP.bounds(network, region, row, np.zeros((1, 1)), o)[0, 0]) for o in (DEPLOYED, IGNORED))
    assert ignored - 1e-5 * max(1.0, abs(ignored)) <= deployed < ignored


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_computed_values_are_points_of_the_rounded_program(norm, rng):
    """Catches a row that an execution breaks: every row holds, exactly, of what float32 computes in any order."""
    x = rng.normal(size=(1, 3)).astype(np.float32)
    model = mlp(3, 5, 4, 2)
    weights, ball = [np.array(w) for w in model.get_weights()], LpBall(x, 0.3, norm)
    region = ball.astype(np.float64)
    net = flat_network(network_of(model, x), "crown", DEPLOYED)
    bounds, _, _ = propagated_bounds(net, region, "crown", options=DEPLOYED)
    encoding = encode(net, region, bounds.layers, bounds.output, EncodingOptions(relax=True))
    program = encoding.builder.program((encoding.inputs, np.zeros(3)))
    corners = [ball.project(x + np.float32(0.3) * unit)[0] for unit in np.eye(3, dtype=np.float32)]
    for point in [*ball.sample(10)[:, 0], *corners]:
        values = [*float32_runs(weights, point, rng)]
        steps = [np.abs(point.astype(np.float64) - x[0])] if norm == "l1" else []
        v = executed(encoding, bounds, [point, *steps], values, len(program.lower))
        for row in range(len(program.right)):
            entries = range(program.starts[row], program.starts[row + 1])
            left = sum(Fraction(float(program.values[k])) * Fraction(float(v[program.columns[k]])) for k in entries)
            assert not program.equal[row]
            assert left <= Fraction(float(program.right[row]))
        assert (program.lower <= v).all() and (v <= program.upper).all()


def executed(encoding, bounds, first: list[np.ndarray], values: list[np.ndarray], count: int) -> np.ndarray:
    """A program's point by what a dense ReLU network computed: after the input's variables, of each layer what enters
    open or active neurons has one, then what leaves open ones, then the outputs have."""
    parts = [*first]
    for (low, high), value in zip(bounds.layers, values, strict=False):
        parts += [value[high > 0], np.maximum(value, 0)[(low < 0) & (high > 0)]]
    v = np.concatenate([*parts, values[-1]]).astype(np.float64)
    assert len(v) == count
    return v


def test_points_are_looked_for_without_the_room_that_proofs_leave(cbc):
    """Catches points of a program that use up the room for rounding: the formula has a larger margin there."""
    ball = LpBall(X, 0.01, "linf")
    for biases in (1.0, 2.0**20):
        model = absorbing()
        model.layers[0].bias.assign([biases])
        model.layers[1].bias.assign([-biases])
        builder = QueryBuilder(flat_network(network_of(model, X), "crown", DEPLOYED), model, "crown", DEPLOYED)
        clauses = Clauses.all_of(-ROW, np.zeros((1, 1)))
        query = builder.untightened(ball.astype(np.float64), Judge(model, ball, clauses))
        found = [cbc.solve(margin_program(query, [0], room=room).program, 60.0).objective for room in (True, False)]
        assert found[1] == pytest.approx(0.25 - 0.41, abs=1e-6)
        assert found[0] < found[1] - 0.1 * biases * 2.0**-24
