"""Proofs by cases: trees over neurons and inputs, multipliers of cuts, combinations of a clause's rows."""

import numpy as np
import pytest

from proof import small
from tfcert.certification.trees import AskedClause, Limits, TreeSearch, arrays_of_trees, trees_from
from tfcert.proof.bounds import Bounds, Cut
from tfcert.proof.check import check, claim_of
from tfcert.proof.errors import ProofError
from tfcert.proof.exact import opinion
from tfcert.proof.region import read_inputs
from tfcert.proof.rows import Choice

LIMITS = Limits(300, 60.0)


def found_trees(claim, graph, start=None, limits=LIMITS):
    """The claim with a tree for each clause, and the trees."""
    search = TreeSearch(graph, read_inputs(claim.head["region"], claim.arrays, graph.places[0].shape), limits)
    asked = [AskedClause(claim.rows[some], claim.offsets[some]) for some in claim.clauses]
    trees = [search.tree(each, None if start is None else start[n]) for n, each in enumerate(asked)]
    assert None not in trees
    head = dict(claim.head) | {"bounds": {"neurons": "leaves", "rows": "lines"}}
    return claim_of(head, dict(claim.arrays) | arrays_of_trees(trees, claim.clauses)), trees


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
    return graph, claim, found_trees(claim, graph)


def test_a_tree_proves_what_lines_leave_open(made):
    graph, claim, (proven, trees) = made
    assert not check(claim, graph).proven
    assert max(len(tree.leaves) for tree in trees) > 1
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
        if here.empty:
            assert not inside.any()
            continue
        slopes = {i: rng.random((2, *p.shape)) for i, p in enumerate(graph.places) if type(p).__name__ == "Bent"}
        chosen = Choice(slopes, cuts, rng.exponential(1, (2, 2)))
        anew = Bounds(graph, inputs, True, [*cuts, Cut(0, 0, float(np.median(x[:, 0])), True)])
        for known, some in ((here, inside), (anew, inside & (x[:, 0] >= np.median(x[:, 0])))):
            if known.empty:
                assert not some.any()
            elif some.any():
                checked += 1
                least = known.least(len(graph.places) - 1, claim.rows, chosen=chosen)
                assert (least <= (outputs[some] @ claim.rows.T).min(axis=0)).all()
    assert checked > 5


TREES = {
    "no end": ([1, -1], [0, 0], [0.0, 0.0]),
    "more trees than clauses": ([-1] * 3, [0] * 3, [0.0] * 3),
    "a second tree without an end": ([-1, 1, -1], [0] * 3, [0.0] * 3),
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


def test_a_leaf_that_is_left_out_is_no_proof(made):
    """Its tree has no end then, or takes its leaves from the next one; nor does one that is there twice stand."""
    graph, _, (proven, _) = made
    arrays, names = dict(proven.arrays), ("tree/place", "tree/number", "tree/at")
    for leaf in np.flatnonzero(arrays["tree/place"] == -1):
        fewer = arrays | {name: np.delete(arrays[name], leaf) for name in names}
        with pytest.raises(ProofError):
            check(claim_of(proven.head, fewer), graph)
        twice = arrays | {name: np.insert(arrays[name], leaf, arrays[name][leaf]) for name in names}
        with pytest.raises(ProofError):
            check(claim_of(proven.head, twice), graph)


def test_each_clause_is_proven_by_its_own_tree(made):
    """Not by the tree of another: with trees in another order the open clause has one leaf alone."""
    graph, _, (proven, trees) = made
    sizes = [len(tree.leaves) for tree in trees]
    assert min(sizes) == 1 < max(sizes)
    swapped = arrays_of_trees(trees[::-1], proven.clauses)
    assert not check(claim_of(proven.head, dict(proven.arrays) | swapped), graph).proven


def test_a_search_begins_with_the_tree_that_is_known(made):
    """By its own choices nothing has to be cut; where these are lost, its leaves are still the first pieces."""
    graph, claim, (proven, trees) = made
    known = trees_from(dict(proven.arrays), proven.clauses)
    again, same = found_trees(claim, graph, known, Limits(0, 60.0))
    assert [tree.places for tree in same] == [tree.places for tree in trees]
    assert check(again, graph).margin == check(proven, graph).margin
    harder = claim_of(claim.head, dict(claim.arrays) | {"rows/d": claim.offsets - 0.75 * check(proven, graph).margin})
    mended, more = found_trees(harder, graph, known)
    assert check(mended, graph).proven
    for new, old in zip(more, trees, strict=True):
        assert set(zip(old.places, old.numbers, strict=True)) <= set(zip(new.places, new.numbers, strict=True))
    assert trees_from({}, proven.clauses) == []


def test_forged_choices_of_trees_are_refused(made):
    graph, _, (proven, trees) = made
    arrays = dict(proven.arrays)
    leaves = sum(len(tree.leaves) for tree in trees)
    slopes = next(name for name in arrays if name.startswith("slopes/"))
    for name, array in (
        (slopes, arrays[slopes][:-1]), (slopes, np.repeat(arrays[slopes], 2, axis=1)), ("slopes/0", arrays[slopes]),
        ("multipliers", np.full((leaves, 1, 199), np.nan)), ("multipliers", -np.ones((leaves, 1, 199))),
        ("weights", np.full((leaves, 1), np.inf)), ("weights", np.ones((leaves + 1, 1))),
    ):  # fmt: skip
        with pytest.raises(ProofError):
            check(claim_of(proven.head, arrays | {name: array}), graph)
