"""Least perturbations: equal to brute force, within their ball, and honest about what they do not know."""

import functools

import keras
import numpy as np
import pytest
from sweeps import sweep_but
from unrounded import IGNORED

import tfcert
from complete.brute_force import least_distance
from complete.questions import keeps_class, mlp, points, search_around
from tfcert.catalog import BOUNDS
from tfcert.clauses import Clauses, keeps_label
from tfcert.complete.search.decide import Decision
from tfcert.complete.search.minimum import _Best, _Bracket, minimum, plain_minimum
from tfcert.complete.search.query import Solvers
from tfcert.sets.balls import ORDER, LpBall
from tfcert.verdict import Guarantee, Outcome

minimum_perturbation = functools.partial(tfcert.minimum_perturbation, options=IGNORED)

pytestmark = pytest.mark.usefixtures("eager")

X = np.array([[0.3, -0.2]], np.float32)


@functools.cache
def model(seed: int = 22) -> keras.Model:
    return mlp(2, 3, 3, 3, seed=seed)


def label(x: np.ndarray = X, seed: int = 22) -> np.ndarray:
    return np.asarray(model(seed)(x)).argmax(axis=-1)


@functools.cache
def truth(norm: str, seed: int = 22) -> float:
    return least_distance(model(seed), X[0], keeps_class(model(seed), X), norm)


def assert_strict(net: keras.Model, witness: np.ndarray, x: np.ndarray, y: int, norm: str, distance: float) -> None:
    """The witness is misclassified with a margin, as near as it is said to be."""
    outputs = np.asarray(net(witness[None]))[0]
    assert np.delete(outputs, y).max() > outputs[y]
    step = (witness.astype(np.float64) - x.astype(np.float64)).ravel()
    assert np.linalg.norm(step, ORDER[norm]) <= distance


@pytest.mark.parametrize("norm", ["linf", "l1", "l2"])
@pytest.mark.parametrize("how", [minimum, plain_minimum])
def test_minima_are_those_of_all_activation_patterns(norm, how, solver, eager):
    for seed in (22, 9):
        net, exact = model(seed), truth(norm, seed)
        for known in (True, False):
            found = how(search_around(net, LpBall(X, 3.0, norm), known=known), Solvers(solver))
            assert found.optimal(1e-5) and found.reason == ""
            assert exact * (1 - 1e-5) <= found.lower <= exact * (1 + 1e-6)
            assert exact * (1 - 1e-6) <= found.upper <= exact * (1 + 2e-5)
            assert_strict(net, found.witness, X[0], label(seed=seed)[0], norm, found.upper)


@pytest.mark.parametrize("bounds", [name for name in BOUNDS if name != "crown"])
def test_minima_do_not_hang_on_the_bounds(bounds, cbc, eager):
    found = minimum(search_around(model(), LpBall(X, 2.0), known=True, bounds=bounds), Solvers(cbc))
    assert found.optimal(1e-5) and found.lower == pytest.approx(truth("linf"), rel=2e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("search", ["split", "milp"])
def test_the_public_function_finds_them_with_its_own_attack(norm, search):
    found = minimum_perturbation(model(), X, label(), norm=norm, upper=2.0, search=search)
    assert found.optimal[0] and found.lower[0] == pytest.approx(truth(norm), rel=2e-5)
    assert_strict(model(), found.witness[0], X[0], label()[0], norm, found.upper[0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_minima_of_the_network_as_deployed_are_known_but_for_its_rounding(norm):
    """Catches descents that use up the room that rows leave for rounding: their points are no witnesses."""
    found, exact = tfcert.minimum_perturbation(model(), X, label(), norm=norm, upper=2.0), truth(norm)
    assert found.guarantee[0] is Guarantee.FLOAT32_ANY_ORDER or found.guarantee[0] is Guarantee.SOLVER
    assert exact * (1 - 1e-3) <= found.lower[0] < exact <= found.upper[0] * (1 + 1e-6) <= exact * (1 + 1e-4)
    assert found.optimal[0] or "rounding" in found.reason[0]


def test_default_cbc_claims_nothing_above_the_truth():
    found = minimum_perturbation(model(), X, label(), upper=2.0, solver="cbc-default")
    assert found.lower[0] <= truth("linf") * (1 + 1e-6) and found.upper[0] == pytest.approx(truth("linf"), rel=2e-5)


def test_nothing_outside_the_clip_counts():
    free = truth("linf")
    for clip in ((-0.6, 0.6), (-0.3, 0.35)):
        exact = least_distance(model(), X[0], keeps_class(model(), X), "linf", clip)
        assert exact > free * 1.01
        found = minimum_perturbation(model(), X, label(), clip=clip)
        if np.isfinite(exact):
            assert found.lower[0] == pytest.approx(exact, rel=2e-5)
            assert (clip[0] <= found.witness[0]).all() and (found.witness[0] <= clip[1]).all()
        else:
            assert np.isinf(found.upper[0]) and np.isnan(found.witness).all()
            assert found.lower[0] == pytest.approx(np.abs(np.array(clip)[:, None] - X).max())


def test_nothing_within_a_ball_without_witness_is_proven():
    found = minimum_perturbation(model(), X, label(), upper=0.8)
    assert found.lower[0] == 0.8 and np.isinf(found.upper[0]) and found.reason[0] == ""
    assert not found.optimal[0] and np.isnan(found.witness).all()


def test_a_given_class_has_its_own_minimum_and_all_classes_the_least():
    y = label()
    exact = {}
    for target in {0, 1, 2} - {int(y[0])}:
        pairs = keeps_label(y, 3)
        some = [k for k in range(2) if pairs.coefficients[0, k, 0, target] == -1]
        pair = Clauses(pairs.coefficients[:, some], pairs.offsets[:, some])
        exact[target] = least_distance(model(), X[0], pair, "linf")
    assert min(exact.values()) == pytest.approx(truth("linf"), rel=1e-9)
    assert np.diff(list(exact.values()))[0] != 0
    outputs = np.asarray(model()(X))[0]
    runner_up = max(exact, key=lambda k: outputs[k])
    least = min(exact, key=lambda k: outputs[k])
    for targets, target, name in (("runner-up", runner_up, "runner-up"), (np.array([least]), least, "one class")):
        found = minimum_perturbation(model(), X, y, targets=targets, upper=3.0)
        assert found.target == name
        assert found.lower[0] == pytest.approx(min(3.0, exact[target]), rel=2e-5)
        assert found.optimal[0] == (exact[target] < 3.0)


def test_a_misclassified_sample_is_its_own_witness():
    x = np.concatenate([X, X])
    wrong = (label() + 1) % 3
    found = minimum_perturbation(model(), x, np.concatenate([wrong, label()]), upper=2.0)
    assert found.lower[0] == found.upper[0] == 0.0 and found.guarantee[0] is Guarantee.REPLAYED
    assert np.array_equal(found.witness[0], X[0]) and found.optimal[0]
    assert found.upper[1] == pytest.approx(truth("linf"), rel=2e-5)


@pytest.mark.parametrize("search", ["split", "milp", "plain"])
@pytest.mark.parametrize("limit", ["time_limit", "total_limit"])
def test_without_time_the_answer_is_sound_and_says_why(search, limit):
    found = minimum_perturbation(model(), X, label(), upper=2.0, search=search, **{limit: 0.0})
    assert found.lower[0] <= truth("linf") <= found.upper[0] * (1 + 1e-6)
    assert not found.optimal[0] and "budget" in found.reason[0]


def test_progress_narrows_and_ends_with_the_answer():
    told = []
    found = minimum_perturbation(model(), X, label(), upper=2.0, progress=told.append)
    assert all(p.lower <= truth("linf") * (1 + 1e-6) and p.upper >= truth("linf") * (1 - 1e-6) for p in told)
    assert [p.upper for p in told] == sorted((p.upper for p in told), reverse=True)
    assert [p.done for p in told] == [False] * (len(told) - 1) + [True]
    assert (told[-1].lower, told[-1].upper) == (found.lower[0], found.upper[0])


@pytest.mark.parametrize("activation", sweep_but(["sigmoid"], ["tanh", "sigmoid"]))
def test_minima_of_curved_networks_are_sound(activation):
    net = mlp(2, 3, 3, seed=22, activation=activation)
    y = np.asarray(net(X)).argmax(axis=-1)
    found = minimum_perturbation(net, X, y, upper=4.0, time_limit=6)
    assert 0 < found.lower[0] <= found.upper[0]
    inside = points(LpBall(X, float(found.lower[0]) * (1 - 1e-6)), 3000)
    assert (np.asarray(net(inside)).argmax(axis=-1) == y).all()
    if np.isfinite(found.upper[0]):
        assert_strict(net, found.witness[0], X[0], y[0], "linf", found.upper[0])


def test_how_far_to_look_must_be_known():
    for options in ({}, {"upper": -1.0}, {"upper": 0.0}, {"clip": (-np.inf, np.inf)}):
        with pytest.raises(ValueError, match=r"upper|how far"):
            minimum_perturbation(model(), X, label(), **options)


def test_a_nearer_witness_that_rounding_takes_back_is_no_progress():
    """Then a proof is tried farther inside, as often as there is such a step; the search does not go round for ever."""
    search = search_around(model(), LpBall(X, 2.0), known=True)
    best = _Best(search.judge, search.judge.distance(search.witness), search.witness)
    bracket, same = _Bracket(best), Decision(Outcome.FALSIFIED, witness=search.witness)
    radii = [bracket.radius()]
    while bracket.learn(same, radii[-1]):
        radii.append(bracket.radius())
        assert radii[-1] < radii[-2] and len(radii) < 20
    assert bracket.best is best and radii[0] > best.distance * (1 - 1e-5) and radii[-1] < 0.5 * best.distance


@pytest.mark.parametrize("taken", [2e-5, 7e-4, 5e-2])
def test_a_search_ends_as_near_as_rounding_leaves_it(taken):
    """Catches steps inward that stop far beyond what rounding takes, and steps that prove nothing for long."""
    search = search_around(model(), LpBall(X, 2.0), known=True)
    best = _Best(search.judge, search.judge.distance(search.witness), search.witness)
    bracket, lost = _Bracket(best, proven_at=Guarantee.FLOAT32_ANY_ORDER), (1 - taken) * best.distance
    radii, more = [], True
    while more:
        radii.append(bracket.radius())
        assert bracket.low < radii[-1] < bracket.lost and len(radii) <= 9
        outcome = Outcome.UNKNOWN if radii[-1] > lost else Outcome.VERIFIED
        more = bracket.learn(Decision(outcome, "within rounding"), radii[-1])
    assert bracket.low >= (1 - 1.5 * taken) * best.distance


@pytest.mark.parametrize("nearest", [5.250005529, 0.7, 1e-3, 123.4])
def test_a_radius_that_was_lost_in_rounding_is_not_tried_again(nearest):
    """Catches a search that decides one radius over and over, for its share of the distance is off by a last bit."""
    bracket = _Bracket(_Best(None, nearest, np.zeros(1)), certified=0.3 * nearest)
    for _ in range(6):
        radius = bracket.radius()
        assert 0.3 * nearest < radius < bracket.lost
        bracket.lost = radius
