"""Decisions about related networks: by programs, over neurons and over boxes, as sampling and solvers say."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from related_networks import APART, SAME, absorbing, dense, near, together
from rigour.simulated import drawn, simulated
from unrounded import IGNORED

from complete.questions import question
from tfcert.clauses import Clauses
from tfcert.complete.encoding.piecewise import Enclosed, flatten
from tfcert.complete.search import boxes
from tfcert.complete.search.builder import QueryBuilder, flat_network
from tfcert.complete.search.decide import decide
from tfcert.complete.search.halving import Batches
from tfcert.complete.search.query import Solvers, margin_program
from tfcert.complete.search.witness import Judge
from tfcert.network.related import related
from tfcert.options import BoundOptions
from tfcert.propagation.engine import lower_bounds
from tfcert.sets.balls import Box
from tfcert.verdict import Guarantee, Outcome

pytestmark = pytest.mark.usefixtures("eager")
DEPLOYED = BoundOptions(rounding="deployed")


def box_of(network, rng, radius=0.3):
    center = rng.normal(size=(1, *network.input_shape)).astype(np.float32)
    return Box(center - np.float32(radius), center + np.float32(radius))


def difference(network, offset=0.0):
    """``f(a)_0 - g(b)_0 + offset > 0``."""
    row = np.zeros((1, 1, network.output_shape[0]))
    row[0, 0, [0, network.applied[0]]] = 1, -1
    return row, np.full((1, 1), offset)


def least(network, region):
    """The exact least difference, by a solver on the stacked program."""
    row, zero = difference(network)
    stacked = replace(IGNORED, differences=False)
    return float(lower_bounds(network, region, row, zero, method="milp", options=stacked)[0, 0])


@pytest.mark.parametrize("places", ["same", "apart"])
def test_programs_are_exact_and_their_relaxations_no_looser_than_stacked(places, seed, rng):
    one = dense((5, 4), 1)
    network = together(one, near(one, 0.02)) if places == "same" else together(one, one, APART)
    region = box_of(network, rng)
    row, zero = difference(network)
    found = {}
    for method in ("lp", "milp"):
        for differs in (True, False):
            options = replace(IGNORED, differences=differs)
            found[method, differs] = float(
                lower_bounds(network, region, row, zero, method=method, options=options)[0, 0]
            )
    assert found["milp", True] == pytest.approx(found["milp", False], abs=1e-5)
    assert found["lp", True] >= found["lp", False] - 1e-6
    if places == "same":
        assert found["milp", True] - found["lp", True] < 0.3 * (found["milp", False] - found["lp", False])
    seen = network(tf.constant(region.sample(2000).reshape(-1, *network.input_shape))).numpy() @ row[0, 0]
    assert found["milp", True] <= seen.min() + 1e-5


def test_every_point_is_one_of_the_program(seed, rng):
    """No row of the encoding cuts off what the networks compute, and the outputs are theirs."""
    one = dense((5, 4), 2, activation="relu")
    network = together(one, near(one, 0.05))
    region = box_of(network, rng)
    query = question(network, region, Clauses.all_of(*difference(network)))
    assert any(isinstance(layer.kind, Enclosed) for layer in query.net.layers) and query.net.exact
    asked = margin_program(query, [0])
    for x in region.sample(50).reshape(50, -1):
        v = asked.encoding.point(x.astype(np.float64), asked.program)
        assert asked.program.violation(v) < 1e-7
        outputs = asked.encoding.outputs.at(v)
        np.testing.assert_allclose(
            outputs[:4], network.astype(tf.float64)(tf.constant(x[None], tf.float64))[0], atol=1e-7
        )


@pytest.mark.parametrize("ways", ["split", "milp"])
@pytest.mark.parametrize("differs", [True, False])
def test_a_difference_is_decided_on_either_side_of_its_least_value(ways, differs, cbc, seed, rng):
    one = dense((5, 4), 1)
    network = together(one, near(one, 0.02))
    region = box_of(network, rng)
    worst = least(network, region)
    for above in (0.003, -0.003):
        clauses = Clauses.all_of(*difference(network, above - worst))
        builder = QueryBuilder(flatten(network), network, "crown", BoundOptions(differences=differs), rounded=False)
        query = builder.query(region.astype(np.float64), Judge(network, region, clauses), Solvers(cbc))
        assert (query.asked_of is not None) == differs
        decision = decide(query, Solvers(cbc), ways=(ways,))
        assert decision.outcome is (Outcome.VERIFIED if above > 0 else Outcome.FALSIFIED)


def test_bounds_of_queries_are_never_looser_than_stacked(seed, rng):
    one = dense((6, 5), 2)
    network = together(one, near(one, 0.01))
    region = box_of(network, rng)
    row = np.zeros((1, 3, 4))
    row[0] = [[1, 0, -1, 0], [1, 0, 0, 0], [1, 0.5, -1, -1]]
    clauses = Clauses.all_of(row)
    queries = [question(net, region, clauses) for net in (network, replace(network, applied=()))]
    assert (queries[0].lower >= queries[1].lower - 1e-9).all() and (queries[0].upper <= queries[1].upper + 1e-9).all()
    assert queries[0].lower[0, 0] > 0.5 * queries[1].lower[0, 0]


def test_rows_about_one_network_alone_are_asked_of_the_network_as_it_is(seed, rng):
    network = together(one := dense(), near(one))
    row = np.array([[[1.0, -1, 0, 0]]])
    assert question(network, box_of(network, rng), Clauses.all_of(row)).asked_of is None


def test_bounds_that_a_solver_tightens_hold(cbc, seed, rng):
    network = together(one := dense((5, 4), 1), near(one, 0.02))
    region = box_of(network, rng)
    query = question(network, region, Clauses.all_of(*difference(network)), bounds="lp", solver=cbc)
    known = query.net.by_node(query.bounds.layers)
    values = related(network.astype(tf.float64)).network.values(tf.constant(region.sample(300)[:, 0], tf.float64))
    for index, (low, high) in known.items():
        assert (values[index].numpy() >= low - 1e-6).all() and (values[index].numpy() <= high + 1e-6).all()


@pytest.fixture
def many(monkeypatch):
    """Any network has too many neurons for splitting these."""
    monkeypatch.setattr(boxes, "_NEURONS", 0)


@pytest.mark.parametrize("differs", [True, False])
def test_boxes_decide_as_a_solver_does(differs, many, cbc, seed, rng):
    one = dense((5, 4), 1)
    network = together(one, near(one, 0.02))
    region = box_of(network, rng)
    worst = least(network, region)
    pieces = {}
    for above in (0.01, -0.003):
        clauses = Clauses.all_of(*difference(network, above - worst))
        builder = QueryBuilder(flatten(network), network, "crown", BoundOptions(differences=differs), rounded=False)
        query = builder.query(region.astype(np.float64), Judge(network, region, clauses), Solvers(cbc))
        assert boxes.can_divide(query)
        found = boxes.by_halves(query, [0], Solvers(cbc))
        pieces[above] = found.pieces
        if above > 0:
            assert not found.reason and found.proven == (0,) and 0 < found.bounds[0] <= above + 1e-6
        else:
            assert query.judge.margin(found.witness) <= 0 and not found.proven
            assert (region.lower[0] <= found.witness).all() and (found.witness <= region.upper[0]).all()


@pytest.mark.parametrize("ways", ["inputs", "neurons"])
def test_what_is_decided_of_two_programs_holds_of_every_run(ways, cbc, seed, rng):
    """Catches decisions over differences that leave out what either network rounds: each side has orders of its own."""
    network = together(one := dense((5, 4), 1), near(one, 1e-3))
    region = box_of(network, rng, 0.1)
    points = np.concatenate([region.lower, region.upper, *region.sample(100)]).astype(np.float32)
    runs = (
        np.stack([simulated(network, drawn(k))(points) for k in range(8)]).astype(np.float64)
        @ difference(network)[0][0, 0]
    )
    clauses = Clauses.all_of(*difference(network, 2e-4 - runs.min()))
    builder = QueryBuilder(flat_network(network, "crown", DEPLOYED), network, "crown", DEPLOYED)
    query = builder.query(region.astype(np.float64), Judge(network, region, clauses), Solvers(cbc))
    assert query.asked_of is not None and query.level is Guarantee.FLOAT32_ANY_ORDER
    decision = decide(query, Solvers(cbc), ways=(ways,))
    assert decision.outcome is Outcome.VERIFIED and decision.guarantee is Guarantee.FLOAT32_ANY_ORDER
    assert decision.margin <= 2e-4 and (runs + 2e-4 - runs.min() >= decision.margin).all()


def test_boxes_stop_in_time_and_say_how_far_they_came(many, cbc, seed, rng):
    network = together(one := dense((5, 4), 1), near(one, 0.02))
    region = box_of(network, rng)
    query = question(
        network, region, Clauses.all_of(*difference(network, -least(network, region) + 1e-4)), rounded=False
    )
    found = boxes.by_halves(query, [0], Solvers(cbc, until=0.0))
    assert found.late and "budget" in str(found.reason) and not found.proven and found.pieces == 0


def test_a_box_that_is_a_point_is_not_halved(many, cbc, seed, rng):
    network = together(one := dense((5, 4), 1), near(one, 0.02))
    center = rng.normal(size=(1, 3)).astype(np.float32)
    query = question(network, Box(center, center), Clauses.all_of(*difference(network)))
    assert not boxes.can_divide(query)


def asked(network, region, clauses, options=IGNORED):
    """The query, in exact arithmetic where rounding is ignored: bounds are over differences."""
    net = flat_network(network, "crown", options)
    builder = QueryBuilder(net, network, "crown", options, rounded=options is DEPLOYED)
    return builder.untightened(region.astype(np.float64), Judge(network, region, clauses))


@pytest.mark.parametrize("options", [pytest.param(IGNORED, marks=pytest.mark.sweep), DEPLOYED])
def test_planes_of_pieces_are_over_differences(options, seed, rng):
    """By these boxes are cut and witnesses are sought: of stacked planes they would be far below the bounds."""
    one = dense((8, 8, 6), 2)
    network = together(one, near(one, 0.002))
    row, zero = difference(network, 1.0)
    query = asked(network, box_of(network, rng), Clauses.all_of(row, zero), options)
    low = query.region.lower.reshape(1, -1) + rng.uniform(0, 0.1, (4, network.input_shape[0]))
    high, first = low + 0.4, np.zeros(4, int)
    batches = Batches(query)
    rows, layers = batches.bounds(low, high)
    planes = batches.planes(low, high, (first, first), layers)
    np.testing.assert_allclose(planes.least, rows[:, 0, 0], atol=1e-5)
    stacked = lower_bounds(network, Box(low, high), *(np.repeat(part, 4, axis=0) for part in (row, zero)),
                           options=replace(IGNORED, differences=False))[:, 0]  # fmt: skip
    assert (planes.least > stacked + 0.1 * np.abs(1 - stacked)).all() and (planes.falls > 0).any(axis=1).all()
    for i in range(4):
        x = low[i] + rng.uniform(size=(300, low.shape[1])) * (high - low)[i]
        away = np.where(planes.slopes[i] > 0, x - low[i], high[i] - x)
        values = query.about(x).numpy() @ row[0, 0] + 1.0
        assert (values >= planes.least[i] + away @ np.abs(planes.slopes[i]) - 1e-9).all()


@pytest.mark.parametrize("places", [SAME, pytest.param(APART, marks=pytest.mark.sweep)])
def test_planes_of_rounded_differences_are_below_every_run(places, seed, rng):
    """In exact rationals. Catches planes that leave out what either network rounds, and cuts by what rounding takes."""
    one = absorbing(dense((4, 3), 1))
    network = together(one, near(one, 1e-6) if places is SAME else one, places)
    (row, zero), count = difference(network), network.input_shape[0]
    low = np.resize(rng.normal(size=(1, 3)), (3, count)) + 1e-4 * rng.normal(size=(3, count))
    high, first, falls, below = low + 1e-4 * rng.uniform(size=low.shape), np.zeros(3, int), [], 0
    points = (low + rng.uniform(size=(20, *low.shape)) * (high - low)).astype(np.float32)
    runs = [simulated(network, drawn(k))(points.reshape(-1, count)).reshape(20, 3, -1) for k in range(8)]
    region = Box(low[:1].astype(np.float32), high[:1].astype(np.float32))
    for options in (DEPLOYED, IGNORED):
        batches = Batches(asked(network, region, Clauses.all_of(row, zero), options))
        rows, layers = batches.bounds(low, high)
        planes = batches.planes(low, high, (first, first), layers)
        assert (planes.least <= rows[:, 0, 0] + 1e-9).all()
        falls.append(planes.falls)
        for j, i in np.ndindex(points.shape[:2]):
            x = points[j, i].astype(np.float64)
            if ((x < low[i]) | (x > high[i])).any():
                continue
            ends = np.where(planes.slopes[i] > 0, low[i], high[i])
            parts = zip(planes.slopes[i], x, ends, strict=True)
            plane = Fraction(planes.least[i]) + sum(Fraction(a) * (Fraction(b) - Fraction(c)) for a, b, c in parts)
            for run in runs:
                value = Fraction(float(run[j, i, 0])) - Fraction(float(run[j, i, 1]))
                assert value >= plane or options is IGNORED
                below += value < plane
    assert below, "no run is below planes that leave rounding out: nothing could be caught"
    np.testing.assert_allclose(*falls, rtol=1e-2, atol=1e-9)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_bounds_of_few_neurons_are_those_of_all(activation, seed, rng):
    """Of differences only neurons that may bend are bounded by a pass: where both keep their sign nothing is lost."""
    one = dense((8, 8, 6), 2, activation=activation)
    network = together(one, near(one, 0.01))
    region, asked = box_of(network, rng, 0.1), difference(network)
    found = [float(lower_bounds(network, region, *asked, options=replace(IGNORED, jit=jit))[0, 0])
             for jit in (None, True)]  # fmt: skip
    assert found[0] == pytest.approx(found[1], abs=1e-5)
