"""The second opinion: rational arithmetic decides what floating point must leave open, and never differs from it."""

import keras
import numpy as np
import pytest

from proof import small
from tfcert.proof.check import check
from tfcert.proof.errors import ProofError
from tfcert.proof.exact import opinion


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    model = small.dense()
    return model, small.saved(model, tmp_path_factory.mktemp("exact"))[1]


def least(model, center, eps, row, norm="linf"):
    """Nearly the least value of a row on a ball, by many points."""
    rng = np.random.default_rng(0)
    step = rng.choice([-1.0, 1.0, rng.random()], (4000, 3)) * rng.random((4000, 1)) ** 0.2
    step /= np.maximum(1.0, np.linalg.norm(step, {"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1, keepdims=True))
    return float((model((center + eps * step).astype(np.float32)).numpy().astype(np.float64) @ row).min())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_proves_what_holds_and_refutes_what_fails(made, norm):
    """At the same margin above and below the least value that is met; nothing that the checker proves is refuted."""
    model, graph = made
    rng = np.random.default_rng(5)
    for _ in range(4):
        center, row = rng.random(3).astype(np.float32), rng.normal(size=3)
        bottom = least(model, center, 0.05, row, norm)
        wide = 0.2 * abs(bottom) + 0.05
        held = small.claim(graph, center, "1/20", ([row], [-bottom + wide]), norm=norm)
        assert opinion(held, graph).proven or not check(held, graph).proven
        if norm == "linf":
            assert opinion(held, graph).proven
        middle = float(model(center[None]).numpy()[0] @ row)
        broken = small.claim(graph, center, "1/20", ([row], [-middle - 0.01]), norm=norm)
        assert opinion(broken, graph).proven is False and not check(broken, graph).proven


def test_it_divides_sets_that_one_pass_leaves_open(made):
    model, graph = made
    center, row = np.full(3, 0.4, np.float32), np.array([1.0, -1.0, 0.5])
    bottom = least(model, center, 0.4, row)
    found = opinion(small.claim(graph, center, "2/5", ([row], [-bottom + 0.05])), graph)
    assert found.proven and found.pieces > 1


def test_it_computes_without_rounding(tmp_path):
    """A margin of 2**-60, which neither float32 nor float64 sees beside numbers of size 1."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    model.layers[0].set_weights([np.array([[1, 1]], np.float32), np.array([0, -(2.0**-60)], np.float32)])
    _, graph = small.saved(model, tmp_path)
    rows = [[1.0, -1.0]], [0.0]
    claim = small.claim(graph, np.array([1], np.float32), "0", rows)
    assert opinion(claim, graph).proven and not check(claim, graph).proven
    worse = small.claim(graph, np.array([1], np.float32), "0", (rows[0], [-(2.0**-60)]))
    assert opinion(worse, graph).proven is False


def test_what_it_does_not_know_is_refused(tmp_path):
    _, graph = small.saved(small.image(), tmp_path)
    claim = small.claim(graph, np.full((6, 6, 2), 0.5, np.float32), "1/100", ([[1, -1, 0.0]], [0.0]))
    with pytest.raises(ProofError, match="exact arithmetic"):
        opinion(claim, graph)
