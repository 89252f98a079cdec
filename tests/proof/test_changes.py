"""Single random changes of certificates and models: each is refused, or leaves what exact arithmetic proves."""

import json

import keras
import numpy as np
import pytest

from proof import small
from proof.test_trees import found_trees
from tfcert.proof.check import check, claim_of
from tfcert.proof.errors import ProofError
from tfcert.proof.exact import opinion
from tfcert.proof.graph import Nonlinear

EVERYWHERE = ("row", "offset", "clause", "center", "limit", "eps", "norm", "slope", "digest", "bounds", "weight")


def lines():
    """Two clauses on a ball within limits, by lines."""
    rows = np.array([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]]), np.array([5.0, 5.0])
    return small.dense(), lambda graph: small.claim(graph, np.full(3, 0.5, np.float32), "1/100", rows, clip=(0, 1))


def tree():
    """A claim that lines leave open, by a tree over inputs with slopes a leaf."""

    def claim(graph):
        center, row = np.full(3, 0.4, np.float32), np.array([[1.0, -1.0, 0.5], [-0.5, 1.0, 1.0]])
        x = center + 0.3 * np.random.default_rng(0).choice([-1.0, 1.0, 0.3, -0.4], (20000, 3))
        offsets = 0.05 - (small.values(graph, x) @ row.T).min(axis=0)
        return found_trees(small.claim(graph, center, "3/10", (row, offsets), clip=(0, 1)), graph)[0]

    return small.dense(), claim


def pooled():
    """One clause of two rows over maxima, sums and means, and a combination of them."""
    layers = keras.layers
    x = start = keras.Input((3, 2, 1))
    x = layers.Conv2D(2, 2, padding="same", activation="relu")(x)
    x = layers.Add()([x, layers.MaxPooling2D(2, strides=1, padding="same")(x)])
    model = small.scattered(keras.Model(start, layers.Dense(3)(layers.Flatten()(layers.AveragePooling2D((1, 2))(x)))))

    def claim(graph):
        center, rows = np.full((3, 2, 1), 0.5, np.float32), np.array([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]])
        offsets = 0.3 - (small.values(graph, center[None]) @ rows.T)[0]
        more = {"rows/clause": np.zeros(2, np.int64), "weights": np.array([0.5, 0.25])}
        return small.claim(graph, center, "1/100", (rows, offsets), clip=(0, 1), **more)

    return model, claim


def curved():
    """One clause on a box, through curves."""
    layers = keras.layers
    hidden = [layers.Dense(3, activation=name) for name in ("tanh", "gelu", "sigmoid")]
    model = small.scattered(keras.Sequential([keras.Input((2,)), *hidden, layers.Dense(3)]))

    def claim(graph):
        center, row = np.full(2, 0.5, np.float32), np.array([[1.0, -1.0, 0.0]])
        offsets = 0.1 - (small.values(graph, center[None]) @ row.T)[0]
        return small.claim(graph, center, "1/20", (row, offsets), clip=(0, 1))

    return model, claim


@pytest.fixture(scope="module", params=[lines, tree, pooled, curved], ids=lambda build: build.__name__)
def made(request, tmp_path_factory):
    model, claim = request.param()
    folder = tmp_path_factory.mktemp("changes")
    _, graph = small.saved(model, folder)
    proven = claim(graph)
    assert check(proven, graph).proven and opinion(proven, graph).proven
    return model, graph, proven, folder


def changed(rng, claim, graph, what):
    """A claim's head and arrays with one thing in them changed at random."""
    arrays, head = {k: np.array(v) for k, v in claim.arrays.items()}, json.loads(json.dumps(claim.head))
    wild = rng.choice([0.0, -0.0, np.nan, np.inf, -np.inf, 1e30, -1e30, 1.0, -1.0, rng.normal()])

    def put(name, value):
        arrays[name].flat[rng.integers(arrays[name].size)] = value

    match what:
        case "row":
            put("rows/C", wild)
        case "offset":
            put("rows/d", wild)
        case "clause":
            put("rows/clause", rng.integers(-1, 3))
        case "center":
            put("region/center", wild)
        case "limit":
            put(f"region/{rng.choice(['low', 'high'])}", wild)
        case "eps":
            head["region"]["eps"] = str(rng.choice(["0", "1/10", "1/2", "1", "-1", "10", "1/100000"]))
        case "norm":
            head["region"]["norm"] = str(rng.choice(["linf", "l2", "l1", "l0"]))
        case "slope":
            bent = int(rng.choice([i for i, place in enumerate(graph.places) if isinstance(place, Nonlinear)]))
            shape = list(graph.places[bent].shape)
            shape[0] += int(rng.integers(-1, 2)) if rng.random() < 0.2 else 0
            rows = (len(arrays["rows/d"]) + ("weights" in arrays) * len(claim.clauses),)
            rows = ((arrays["tree/place"] == -1).sum(), 1) if "tree/place" in arrays else rows
            arrays[f"slopes/{bent}"] = rng.integers(0, 256, (*rows, *shape), np.uint8)
        case "digest":
            place = int(rng.integers(64))
            old = head["model"]["digest"]
            head["model"]["digest"] = old[:place] + "0123456789abcdef"[rng.integers(16)] + old[place + 1 :]
        case "bounds":
            head["bounds"][str(rng.choice(["neurons", "rows"]))] = str(
                rng.choice(["lines", "intervals", "leaves", "no"])
            )
        case "dropped":
            drop = int(rng.integers(len(arrays["tree/place"])))
            arrays |= {name: np.delete(part, drop) for name, part in arrays.items() if name.startswith("tree/")}
        case "leaf":
            arrays["tree/place"][rng.integers(len(arrays["tree/place"]))] = rng.integers(-2, 5)
        case "moved":
            put("tree/at", rng.choice([wild, rng.normal()]))
        case "swapped":
            put("tree/number", rng.integers(-1, 4))
        case "multiplier":
            like = (arrays["tree/place"] == -1).sum(), 1, int(rng.integers(1, 4))
            arrays["multipliers"] = np.full(like, wild)
        case "share":
            put("weights", rng.choice([wild, abs(rng.normal())]))
    return head, arrays


@pytest.mark.parametrize("count", [25, pytest.param(500, marks=pytest.mark.sweep)])
def test_a_change_is_refused_or_leaves_what_exact_arithmetic_proves(count, made):
    """A weight is changed in the model's file: with the old digest the certificate is refused, and with the new one it
    is a claim like any other."""
    model, graph, claim, folder = made
    rng, kinds, refused = np.random.default_rng(count), set(), 0
    tree = ("dropped", "leaf", "moved", "swapped", "multiplier") if "tree/at" in claim.arrays else ()
    shares = ("share",) if "weights" in claim.arrays else ()
    old = model.get_weights()
    for _ in range(count):
        what, about = str(rng.choice([*EVERYWHERE, *tree, *shares])), graph
        head, arrays = changed(rng, claim, graph, what)
        if what == "weight":
            new = [part.copy() for part in old]
            part = new[rng.integers(len(new))]
            part.flat[rng.integers(part.size)] += rng.choice([1e-3, 0.1, 1.0]) * rng.normal()
            model.set_weights(new)
            about = small.saved(model, folder, "changed.keras")[1]
            model.set_weights(old)
            with pytest.raises(ProofError, match="another model"):
                check(claim, about)
            head["model"]["digest"] = about.digest
        try:
            found = claim_of(head, arrays)
            proven = check(found, about).proven
        except ProofError:
            refused += 1
            continue
        if proven:
            kinds.add(what)
            assert opinion(found, about, 3000).proven, what
    assert refused and kinds & {"slope", "bounds", "weight", "clause", "moved", "share"}
