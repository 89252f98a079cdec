"""Guides: whichever attack confines a search, the minimum is the same; witnesses count by the distance asked about."""

import functools

import keras
import numpy as np
import pytest
from sweeps import sweep_but
from unrounded import IGNORED

import tfcert
from complete.questions import keeps_class, mlp
from tfcert.attacks import falsify
from tfcert.attacks.minimal import _affordable, nearest_by
from tfcert.catalog import BOUNDS, GUIDES
from tfcert.sets.balls import ORDER, LpBall

minimum_perturbation = functools.partial(tfcert.minimum_perturbation, options=IGNORED)

pytestmark = pytest.mark.usefixtures("eager")

X = np.array([[0.3, -0.2]], np.float32)
MODEL = mlp(2, 3, 3, 3, seed=22)
Y = np.asarray(MODEL(X)).argmax(axis=-1)


@pytest.fixture(scope="module")
def truth() -> dict[str, float]:
    found = {n: minimum_perturbation(MODEL, X, Y, norm=n, upper=3.0, search="plain").lower[0] for n in ("linf", "l1")}
    return {norm: float(lower) for norm, lower in found.items()}


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_every_guide_leads_to_the_minimum_and_is_named(guide, norm, truth):
    pytest.importorskip("foolbox")
    found = minimum_perturbation(MODEL, X, Y, norm=norm, upper=3.0, guide=guide, search="milp", bounds="symbolic")
    assert found.optimal[0] and found.lower[0] == pytest.approx(truth[norm], rel=2e-5)
    assert (found.search, found.bounds, found.guide, found.target) == ("milp", "symbolic", guide, "all")
    assert f"search milp, guided by {guide}, symbolic bounds" in repr(found)


BALLS = [("linf", 1.5), ("l2", 2.0), ("linf", 0.05)]


@pytest.mark.parametrize(
    ("name", "norm", "eps"),
    sweep_but(
        [("cw", "l2", 2.0), ("ead", "linf", 1.5), *(("fmn", *ball) for ball in BALLS)],
        [(name, *ball) for name in ("cw", "ead", "fmn") for ball in BALLS],
    ),
)
def test_what_a_library_s_attack_finds_is_a_strict_witness_in_its_ball_whatever_its_norm(name, norm, eps):
    pytest.importorskip("foolbox")
    (witness,), (gradients,) = nearest_by(name, MODEL, LpBall(X, eps, norm), keeps_class(MODEL, X))
    assert gradients > 0
    if eps == 0.05:  # nothing is that near: what is found beyond the ball is no witness of it
        assert np.isnan(witness).all()
        return
    assert np.asarray(MODEL(witness[None])).argmax() != Y[0]
    assert np.linalg.norm((witness - X[0]).ravel(), ORDER[norm]) <= eps


def test_a_guide_without_time_finds_nothing_and_takes_no_step():
    (witness,), (gradients,) = nearest_by("cw", MODEL, LpBall(X, 1.0), keeps_class(MODEL, X), left=lambda: 0.0)
    assert np.isnan(witness).all() and gradients == 0
    assert _affordable(0.001, 0.01) is None
    some, all_ = _affordable(2.0, 0.01), _affordable(1e6, 0.01)
    assert some.steps * some.searches <= 160 and (all_.steps, all_.searches) == (150, 6)


@pytest.mark.parametrize(("option", "value"), [("guide", "fgsm"), ("bounds", "symbolics")])
def test_an_unknown_name_is_refused_with_those_that_there_are(option, value):
    known = ", ".join(GUIDES if option == "guide" else BOUNDS)
    with pytest.raises(ValueError, match=f"unknown {option} '{value}': one of {known}"):
        minimum_perturbation(MODEL, X, Y, upper=1.0, **{option: value})


def test_a_plain_search_has_no_guide():
    found = minimum_perturbation(MODEL, X, Y, upper=3.0, search="plain", bounds="interval", targets="runner-up")
    assert found.guide == "" and "not guided, interval bounds; towards runner-up alone" in repr(found)


def test_cross_entropy_follows_all_classes_where_the_margin_follows_one():
    """Two classes are about as near: the margin's gradient has the nearer one, that of the cross-entropy both."""
    layer = keras.layers.Dense(3)
    model = keras.Sequential([keras.Input((2,)), layer])
    layer.set_weights([np.array([[0, 1, 0], [0, 0, 1.0]]), np.array([1.0, 0, -0.05])])
    x, ball = np.zeros((1, 2), np.float32), LpBall(np.zeros((1, 2), np.float32), 0.7, "l2")
    for loss, both in (("margin", False), ("cross_entropy", True)):
        clauses = keeps_class(model, x)
        found = falsify(model, ball, clauses, steps=1, restarts=1, points=0, loss=loss, holds=lambda o, _: o[:, 0] > 9)
        moved = np.abs(tfcert.attack(model, x, [0], eps=2.0, norm="l2", steps=1, points=0, loss=loss).witness[0]) > 0.1
        assert bool(moved.all()) is both
        assert found.success[0]
    with pytest.raises(ValueError, match="loss must be margin or cross_entropy, not 'hinge'"):
        tfcert.attack(model, x, [0], eps=1.0, loss="hinge")
