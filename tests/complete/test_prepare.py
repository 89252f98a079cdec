"""Preparation: nothing is traced, flattened or bounded twice in a sample's time, and no limit is passed unseen."""

import time

import numpy as np
import pytest
import tensorflow as tf

from complete.questions import keeps_class, mlp, question
from tfcert.activations import activation
from tfcert.clauses import keeps_label
from tfcert.complete.encoding.piecewise import flatten
from tfcert.complete.prepare import Prepared, Setup, prepared
from tfcert.complete.search import tighten
from tfcert.complete.search.builder import QueryBuilder
from tfcert.complete.search.climber import Climber
from tfcert.complete.search.query import Solvers, margin_program
from tfcert.complete.search.witness import Judge
from tfcert.complete.solver.process import SolverError
from tfcert.network import shared
from tfcert.network.cache import network_of
from tfcert.network.graph import Elementwise, Input, Linear, Network
from tfcert.network.linear import DenseMap
from tfcert.sets.balls import LpBall
from tfcert.verdict import Outcome

X = np.array([[0.3, -0.2]], np.float32)


class Watched:
    """A network of one hidden layer that counts how often its weights are read while something is traced."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.traced = 0
        kernels = [rng.normal(size=s).astype(np.float32) for s in ((2, 6), (6, 2))]
        maps = [DenseMap(self.source(k), (len(k),), k.shape[1]) for k in kernels]
        nodes = (
            Input(name="in", shape=(2,)),
            Linear(name="first", inputs=(0,), shape=(6,), map=maps[0]),
            Elementwise(name="relu", inputs=(1,), shape=(6,), activation=activation("relu")),
            Linear(name="last", inputs=(2,), shape=(2,), map=maps[1]),
        )
        self.network = Network(nodes, weights=tuple(m.kernel for m in maps))

    def source(self, kernel: np.ndarray):
        def read() -> tf.Tensor:
            self.traced += tf.inside_function()
            return tf.constant(kernel)

        return read


class Silent:
    """A solver that must not be asked."""

    seconds = 0.0

    def solve(self, *_, **__):
        raise AssertionError("asked after its time")


def asked(model, eps: float):
    region, clauses = LpBall(X, eps), keeps_class(model, X)
    return region, Judge(model, region, clauses)


def test_nothing_is_traced_in_the_time_of_a_sample(monkeypatch):
    monkeypatch.setattr(shared, "_MOST", 0)  # weights that are held by variables are read in no trace
    watched = Watched()
    label = np.asarray(watched.network(tf.constant(X))).argmax(axis=1)
    region, clauses = LpBall(X, 0.4), keeps_label(label, 2)
    with prepared(watched.network, watched.network, region, clauses) as ready:
        assert watched.traced, "nothing was traced to begin with, so this test sees nothing"
        watched.traced = 0
        ball = LpBall(X, 0.3)
        assert ready.decide(ball, Judge(watched.network, ball, clauses)).work.pieces > 2
    assert not watched.traced
    with prepared(watched.network, watched.network, region, clauses):
        assert not watched.traced


def test_a_network_is_flattened_once_until_a_weight_changes():
    model = mlp(2, 3, 2)
    network = network_of(model, X)
    first, again = flatten(network), flatten(network)
    assert first.layers[0].before is again.layers[0].before and first.output is again.output
    kernel, bias = model.layers[0].get_weights()
    model.layers[0].set_weights([kernel, bias + 1])
    changed = flatten(network)
    np.testing.assert_allclose(changed.layers[0].before.offset, first.layers[0].before.offset + 1, atol=1e-6)


@pytest.mark.parametrize("ways", [("split",), ("milp",), ("split", "milp")])
def test_what_has_no_time_left_asks_nobody(ways, eager):
    model = mlp(2, 3, 3, 3, seed=22)
    ready = Prepared(QueryBuilder(flatten(network_of(model, X)), model), Silent(), (), Setup(ways))
    decision = ready.decide(*asked(model, 0.75), 0.0)
    assert decision.outcome is Outcome.TIMEOUT and "budget" in decision.reason
    query = question(model, asked(model, 0.75)[0], keeps_class(model, X), bounds="interval")
    late = ready.decide(*asked(model, 0.75), 0.0, known=query)
    assert late.outcome is Outcome.TIMEOUT and late.work.pieces == 0


def test_a_pass_that_takes_longer_than_is_left_is_not_begun(eager):
    model = mlp(2, 3, 2)
    builder = QueryBuilder(flatten(network_of(model, X)), model)
    region, judge = asked(model, 0.1)
    builder._pace.seconds = 10.0
    with pytest.raises(TimeoutError, match="bounds take about 10 s"):
        builder.query(region.astype(np.float64), judge, Solvers(Silent(), until=time.monotonic() + 5))
    builder.query(region.astype(np.float64), judge, Solvers(Silent(), until=time.monotonic() + 600))


def test_a_program_is_written_until_the_time_is_up_and_once_for_all_clauses(eager):
    model = mlp(2, 3, 3, 3, seed=22)
    query = question(model, asked(model, 0.75)[0], keeps_class(model, X), bounds="interval")
    with pytest.raises(TimeoutError):
        margin_program(query, [0], until=0.0)
    first, second = (margin_program(query, [k]).program for k in (0, 1))
    alone = question(model, asked(model, 0.75)[0], keeps_class(model, X), bounds="interval")
    for program, k in ((first, 0), (second, 1)):
        fresh = margin_program(alone.holding({}, believed=False), [k]).program
        assert program.to_bytes() == fresh.to_bytes()


def test_passes_are_as_large_as_the_time_that_is_left_allows():
    climber = Climber.__new__(Climber)
    climber._pace = {}
    assert climber.size(256, 1.0) == 256 and climber.steps(2, 200, 1.0) == climber.steps(2, 200, -1.0) == 200
    climber._pace = {2: 0.01, 16: 0.04}
    assert [climber.size(256, left) for left in (1.0, 5.0, 15.0, 1e9)] == [2, 2, 16, 256]
    assert climber.size(16, 1e9) == 16
    assert climber.steps(2, 200, 10.0) == 200 and climber.steps(2, 200, 1.0) == 50 and climber.steps(2, 200, 0.0) == 1


def test_what_one_stage_found_out_the_next_does_not_compute_again(cbc, eager):
    """Bounds are computed anew only where neurons are bounded in another way, and what is known to hold stays so."""
    model = mlp(2, 3, 3, 3, seed=22)
    ready = Prepared(QueryBuilder(flatten(network_of(model, X)), model, "interval"), cbc, (), Setup(("milp",)))
    region, judge = asked(model, 0.75)
    query = question(model, region, judge.clauses, bounds="interval")
    decision = ready.decide(region, judge, known=query)
    assert decision.outcome is Outcome.VERIFIED and decision.left is None
    assert decision.work.evaluations == 0 and decision.work.binaries and decision.work.solver_seconds > 0
    held = query.holding({k: 0.125 for k in query.open}, believed=True)
    assert query.open and not held.open
    other = Prepared(QueryBuilder(flatten(network_of(model, X)), model), Silent(), (), Setup(("split",)))
    for prepared_otherwise in (ready, other):
        decision = prepared_otherwise.decide(region, judge, known=held)
        assert decision.outcome is Outcome.VERIFIED and decision.believed and decision.margin >= 0.125
        assert decision.work.evaluations == (prepared_otherwise is other)


class Dying:
    """A solver that fails after some questions."""

    seconds = 0.0

    def __init__(self, process, answers: int):
        self._process, self.answers = process, answers

    def solve_many(self, *arguments, **options):
        self.answers -= 1
        if self.answers < 0:
            raise SolverError("died")
        return self._process.solve_many(*arguments, **options)


def test_bounds_that_a_solver_found_before_it_failed_are_kept(cbc, eager, monkeypatch):
    monkeypatch.setattr(tighten, "_OBJECTIVES", 1)
    model = mlp(2, 4, 4, 4, 2, seed=22)
    region, judge = asked(model, 0.75)
    widths = []
    for answers in (0, 2, 1000):
        builder = QueryBuilder(flatten(network_of(model, X)), model, "lp")
        query = builder.query(region.astype(np.float64), judge, Solvers(Dying(cbc, answers)))
        widths.append(sum(float((high - low).sum()) for low, high in query.bounds.layers))
    assert widths[0] > widths[1] >= widths[2]
