"""Proofs by cases: trees over neurons and inputs, multipliers of cuts, combinations of a clause's rows."""

import numpy as np
import pytest

from proof import small
from tfcert.certification.trees import Limits, tree_of
from tfcert.proof.bounds import Bounds, Cut
from tfcert.proof.check import check, claim_of
from tfcert.proof.errors import ProofError
from tfcert.proof.exact import opinion
from tfcert.proof.region import read_inputs


def found_tree(claim, graph):
    inputs = read_inputs(claim.head["region"], claim.arrays, graph.places[0].shape)
    tree = tree_of(graph, inputs, (claim.rows, claim.offsets, 0.0), lambda b: bool((b > 0).all()), Limits(300, 60.0))
    assert tree is not None
    return claim_of(claim.head, dict(claim.arrays) | tree.arrays(len(claim.rows))), tree


@pytest.fixture(scope="module", params=[(12, 10, 8, 3), (3, 5, 4, 3)], ids=["neurons", "inputs"])
def made(request, tmp_path_factory):
    """A claim that lines leave open, and the same with a tree that proves it."""
    model = small.dense(request.param)
    _, graph = small.saved(model, tmp_path_factory.mktemp("trees"))
    center, row = np.full(request.param[0], 0.4, np.float32), np.array([[1.0, -1.0, 0.5], [-0.5, 1.0, 1.0]])
    rng = np.random.default_rng(0)
    x = center + 0.3 * rng.choice([-1.0, 1.0, 0.3, -0.4], (20000, request.param[0]))
    least = (model(x.astype(np.float32)).numpy().astype(np.float64) @ row.T).min(axis=0)
    bounds = Bounds(
        graph,
        read_inputs({"kind": "ball", "norm": "linf", "eps": "3/10"}, {"region/center": center}, center.shape),
        True,
    )
    lines = bounds.least(len(graph.places) - 1, row)
    offsets = np.maximum(0.5 * (least - lines), 0.02) - least  # between what lines prove and what is met
    claim = small.claim(graph, center, "3/10", (row, offsets))
    return graph, claim, found_tree(claim, graph)


def test_a_tree_proves_what_lines_leave_open(made):
    graph, claim, (proven, tree) = made
    assert not check(claim, graph).proven
    assert len(tree.leaves) > 1
    assert check(proven, graph).proven
    if len(claim.arrays["region/center"]) == 3:
        assert opinion(claim, graph, 3000).proven


def test_bounds_with_multipliers_hold_where_the_cuts_do(made):
    """For any multipliers, any slopes, and cuts at any number: every input there has rows above the bounds."""
    graph, claim, _ = made
    inputs = read_inputs(claim.head["region"], claim.arrays, graph.places[0].shape)
    bounds, rng = Bounds(graph, inputs, True), np.random.default_rng(0)
    x = inputs.low + (inputs.high - inputs.low) * rng.random((5000, *inputs.low.shape))
    first = graph.places[1].map.forward(x) + graph.places[1].bias
    outputs = small.values(graph, x)
    checked = 0
    for _ in range(20):
        numbers = rng.integers(0, graph.places[1].count, 2)
        cuts = [Cut(1, int(n), float(np.quantile(first[:, n], rng.random())), bool(rng.integers(2))) for n in numbers]
        here = bounds.within(cuts)
        inside = np.all([(first[:, c.number] >= c.at) == c.above for c in cuts], axis=0)
        if here is None:
            assert not inside.any()
            continue
        slopes = {i: rng.random((2, *p.shape)) for i, p in enumerate(graph.places) if type(p).__name__ == "Bent"}
        least = here.least(len(graph.places) - 1, claim.rows, slopes, cuts=cuts, multipliers=rng.exponential(1, (2, 2)))
        if inside.any():
            checked += 1
            assert (least <= (outputs[inside] @ claim.rows.T).min(axis=0)).all()
    assert checked > 5


TREES = {
    "no end": ([1, -1], [0, 0], [0.0, 0.0]),
    "more": ([-1, -1], [0, 0], [0.0, 0.0]),
    "nothing": ([], [], []),
    "no such place": ([99, -1, -1], [0, 0, 0], [0.0] * 3),
    "no such number": ([1, -1, -1], [99, 0, 0], [0.0] * 3),
    "a negative number": ([1, -1, -1], [-1, 0, 0], [0.0] * 3),
    "a negative place": ([-2, -1, -1], [0, 0, 0], [0.0] * 3),
    "NaN": ([1, -1, -1], [0, 0, 0], [np.nan, 0.0, 0.0]),
    "infinity": ([1, -1, -1], [0, 0, 0], [np.inf, 0.0, 0.0]),
    "lengths": ([1, -1, -1], [0, 0], [0.0] * 3),
    "a chain": ([1] * 300 + [-1] * 301, [0] * 601, [0.0] * 601),
}


@pytest.mark.parametrize("what", TREES)
def test_trees_that_are_none_are_refused(made, what):
    graph, claim, _ = made
    arrays = zip(("tree/place", "tree/number", "tree/at"), TREES[what], (np.int64, np.int64, np.float64), strict=True)
    forged = dict(claim.arrays) | {name: np.array(values, dtype) for name, values, dtype in arrays}
    with pytest.raises(ProofError):
        check(claim_of(claim.head, forged), graph)


def test_a_clause_is_proven_by_a_combination_of_its_rows(tmp_path):
    """``x > 0`` or ``-x > -1``: neither row is positive everywhere, and their sum is 1."""
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    model.layers[0].set_weights([np.array([[1, -1]], np.float32), np.zeros(2, np.float32)])
    _, graph = small.saved(model, tmp_path)
    center = np.zeros(1, np.float32)
    rows = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0.0, 1.0])
    either = {"rows/clause": np.zeros(2, np.int64)}
    plain = small.claim(graph, center, "5", rows, **either)
    assert not check(plain, graph).proven
    found = check(small.claim(graph, center, "5", rows, weights=np.array([1.0, 1.0]), **either), graph)
    assert found.proven and 0.999 < found.margin < 1
    with pytest.raises(ProofError, match="negative"):
        check(small.claim(graph, center, "5", rows, weights=np.array([1.0, -1.0]), **either), graph)
    both = small.claim(graph, center, "5", rows, weights=np.array([1.0, 1.0]))
    assert not check(both, graph).proven
