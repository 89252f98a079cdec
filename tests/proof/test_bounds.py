"""The checker's bounds hold for every float32 program, for any choice of lines, and are as tight as they should be."""

from fractions import Fraction

import keras
import numpy as np
import pytest
from rigour.deceiving import BUILDERS, cases, margins
from rigour.simulated import drawn, simulated

from proof import small
from tfcert.network.cache import network_of
from tfcert.proof.bounds import Bounds
from tfcert.proof.check import check
from tfcert.proof.errors import ProofError
from tfcert.proof.region import Inputs, read_inputs
from tfcert.proof.rows import Choice

UNITS = [np.eye(3), -np.eye(3)]


def ball(center, eps, norm="linf", clip=None, scale=None):
    arrays = {"region/center": center} | ({} if scale is None else {"region/scale": scale})
    if clip is not None:
        arrays |= {"region/low": np.array([clip[0]], np.float64), "region/high": np.array([clip[1]], np.float64)}
    return read_inputs({"kind": "ball", "norm": norm, "eps": eps}, arrays, center.shape)


def points(inputs: Inputs, count: int, seed: int = 0):
    """Corners of the box and points between, drawn into the ball."""
    rng = np.random.default_rng(seed)
    share = rng.choice([0.0, 1.0, rng.random()], (count, *inputs.low.shape))
    x = inputs.low + (inputs.high - inputs.low) * share
    if np.isfinite(inputs.radius):
        step = (x - inputs.center).reshape(count, -1)
        size = np.abs(step).sum(axis=1) if inputs.norm == "l1" else np.sqrt((step**2).sum(axis=1))
        step *= np.minimum(1.0, inputs.radius * (1 - 1e-6) / size)[:, None]
        x = inputs.center + step.reshape(x.shape)
    return x.astype(np.float32)


def all_bounds(graph, inputs, seed, backward=True):
    """Lower bounds of the outputs and of their negatives, by the rule and by slopes drawn at random."""
    bounds, rng = Bounds(graph, inputs, backward=backward), np.random.default_rng(seed)
    last, rows = len(graph.places) - 1, np.concatenate(UNITS)
    for stops in (bounds.bends, *bounds.pools):
        yield bounds.least(last, rows, stops=stops)
    yield bounds.least(last, rows)
    for extreme in (False, True):
        slopes = {
            i: np.rint(rng.random((6, *p.shape))) if extreme else rng.random((6, *p.shape))
            for i, p in enumerate(graph.places)
            if type(p).__name__ in ("Bent", "Largest")
        }
        yield bounds.least(last, rows, chosen=Choice(slopes))


@pytest.mark.parametrize("build", [small.image, small.dense, small.flat, small.curved])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_nothing_that_a_model_computes_lies_below_its_bounds(build, norm, tmp_path, seed):
    model = build()
    _, graph = small.saved(model, tmp_path)
    center = np.random.default_rng(2).random(model.input_shape[1:]).astype(np.float32)
    logits = (
        keras.Model(model.inputs, model.layers[-1].input)
        if isinstance(model.layers[-1], keras.layers.Softmax)
        else model
    )
    if graph.softmax and logits is model:
        model.layers[-1].activation = keras.activations.linear
    for eps in ("1/1000", "3/10"):
        inputs = ball(center, eps, norm, clip=(0, 1))
        found = logits(points(inputs, 200)).numpy().astype(np.float64)
        reached = np.concatenate([found.min(axis=0), -found.max(axis=0)])
        for least in [*all_bounds(graph, inputs, 0), *all_bounds(graph, inputs, 0, backward=False)]:
            assert (least <= reached).all()


def test_bounds_of_a_linear_model_are_exact_but_for_rounding(tmp_path):
    model = small.scattered(keras.Sequential([keras.Input((7,)), keras.layers.Dense(3)]))
    _, graph = small.saved(model, tmp_path)
    kernel, bias = (part.astype(np.float64) for part in model.get_weights())
    center = np.linspace(0, 1, 7, dtype=np.float32)
    (least,) = [Bounds(graph, ball(center, "1/10"), True).least(1, np.eye(3))]
    exact = [
        sum((Fraction(c) * Fraction(w) - abs(Fraction(w)) / 10 for c, w in zip(center.tolist(), part, strict=True)), b)
        for part, b in zip(kernel.T.tolist(), map(Fraction, bias.tolist()), strict=True)
    ]  # fmt: skip
    size = (np.abs(kernel) * (center[:, None] + 0.1)).sum(axis=0) + np.abs(bias)
    for number in range(3):
        assert Fraction(least[number]) < exact[number]
        assert float(exact[number] - Fraction(least[number])) < 13 * 2.0**-24 * size[number]


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_balls_that_limits_cut_are_bounded_as_well_as_can_be(norm):
    """Against the least of many points; with two numbers these come near to every side of the set."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        center, row = rng.random(2), rng.normal(size=(1, 2))
        inputs = ball(center, "1/2", norm, clip=(0, 1))
        angle = np.linspace(0, 2 * np.pi, 20001)
        x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        x = center + 0.5 * x / (np.abs(x).sum(axis=1, keepdims=True) if norm == "l1" else 1)
        x = np.concatenate([x, rng.random((2000, 2)), [[0, 0], [0, 1], [1, 0], [1, 1]]])
        grid = np.clip(x, 0, 1)
        step = np.abs(grid - center)
        inside = step.sum(axis=1) <= 0.5 if norm == "l1" else (step**2).sum(axis=1) <= 0.25
        least = inputs.least(row)[0]
        best = (grid[inside] @ row[0]).min()
        assert best - 2e-3 < least <= best


def test_the_box_around_a_ball_is_nearly_exact():
    """A tenth is no float: the ends lie outside of it by less than three steps."""
    inputs = ball(np.array([0.5, 1.0, 0.25], np.float32), "1/10", clip=(0, 1))
    for low, high, x in zip(inputs.low, inputs.high, (0.5, 1.0, 0.25), strict=True):
        exact = Fraction(x) - Fraction(1, 10), min(Fraction(x) + Fraction(1, 10), Fraction(1))
        assert Fraction(low) <= exact[0] < Fraction(low + 3 * np.spacing(low))
        assert Fraction(high - 3 * np.spacing(high)) < exact[1] <= Fraction(high) or exact[1] == high == 1


def test_numbers_whose_scale_is_0_do_not_move():
    inputs = ball(np.array([0.5, 0.25], np.float32), "1/10", "l2", scale=np.array([0.0, 2.0]))
    assert inputs.low[0] == inputs.high[0] == 0.5
    np.testing.assert_allclose(inputs.least(np.array([[3.0, 1.0]])), 1.75 - 0.2, rtol=1e-12)


def test_rows_of_zeros_are_zero_through_images(tmp_path):
    _, graph = small.saved(small.image(), tmp_path)
    bounds = Bounds(graph, ball(np.full((6, 6, 2), 0.5, np.float32), "1/100", "l1"), backward=True)
    for stops in (bounds.bends, []):
        assert -1e-12 < bounds.least(len(graph.places) - 1, np.zeros((2, 3)), stops=stops).max() <= 0


def claims(case, folder):
    _, graph = small.saved(case.model, folder)
    rows = np.array([[-1.0, 1.0]]), np.zeros(1)
    eps, clip = case.ball.exact_eps[0], case.ball.clip
    low, high = (None, None) if clip is None else (float(np.min(clip[0])), float(np.max(clip[1])))
    clip = None if clip is None else (low, high)
    return graph, small.claim(graph, case.ball.x[0], str(eps), rows, clip=clip)


@pytest.mark.parametrize(("name", "seed"), cases(1))
def test_networks_made_to_deceive_deceive_no_checker(name, seed, tmp_path):
    """What the checker accepts holds at every point that is known to be bad, in every program; easy ones it accepts."""
    case = BUILDERS[name](seed)
    try:
        graph, claim = claims(case, tmp_path)
        proven = check(claim, graph).proven
    except ProofError:
        proven = False
    assert proven or not case.easy
    if not proven:
        return
    x, network = case.points(), network_of(case.model)
    for run in (lambda z: case.model(z).numpy(), *(simulated(network, drawn(seed)) for seed in range(12))):
        assert (margins(run(x)) > 0).all()
