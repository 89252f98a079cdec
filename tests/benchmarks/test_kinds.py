"""Networks of other kinds against auto_LiRPA: what is exported is what Keras computes; stored rows are in the table."""

import json

import keras
import numpy as np
import pytest

from benchmarks.peers import kinds
from benchmarks.peers.export import export
from benchmarks.peers.tables import PEER, US


@pytest.mark.parametrize("name", kinds.NETWORKS)
def test_every_network_has_a_plain_form_of_its_weights(name, tmp_path):
    build, view, eps = kinds.NETWORKS[name]
    model = build()
    x = view(np.zeros((2, 28, 28, 1), np.float32))
    assert model(x).shape == (2, 10) and eps > 0
    export(model, x, tmp_path / "network.npz")
    with np.load(tmp_path / "network.npz") as stored:
        nodes = json.loads(str(stored["nodes"]))
        weights = sum(stored[key].size for key in stored.files if key not in ("x", "nodes"))
    assert weights == model.count_params()
    assert all(source <= number for number, node in enumerate(nodes) for source in node["inputs"])


def test_digits_are_cut_into_patches_strips_and_halves():
    digit = np.arange(784, dtype=np.float32).reshape(1, 28, 28, 1)
    np.testing.assert_array_equal(kinds.patches(digit)[0, 5].reshape(7, 7), digit[0, 7:14, 7:14, 0])
    np.testing.assert_array_equal(kinds.strips(digit)[0, 1].reshape(4, 28), digit[0, 4:8, :, 0])
    assert kinds.halved(digit)[0, 3, 4, 0] == digit[0, 6:8, 8:10].mean()


def test_the_stored_rows_are_margins_that_are_not_below_the_peers():
    rows = kinds.STORE.read("kinds")["cases"]
    text = kinds.table(rows)
    for row in rows:
        assert f"| {row['network']} | {row['method']} |" in text
        assert row["mean_margin"][US] - row["mean_margin"][PEER] == pytest.approx(row["gain"]["mean"], abs=1e-3)
        assert ("passes" in row) == ("first_pass_seconds" in row)


def test_attention_with_heads_side_by_side_is_keras(tmp_path):
    """What the peer's side is told of a projection, put together by hand."""
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
    inputs = keras.Input((4, 6))
    model = keras.Model(inputs, keras.layers.MultiHeadAttention(2, 3)(inputs, inputs))
    export(model, x, tmp_path / "network.npz")
    stored = np.load(tmp_path / "network.npz")
    query, key, value = (
        x @ stored[f"1.{part}_kernel"] + stored[f"1.{part}_bias"] for part in ("query", "key", "value")
    )
    heads = []
    for own in (slice(0, 3), slice(3, 6)):
        sizes = np.exp(query[..., own] @ key[..., own].transpose(0, 2, 1) / 3**0.5)
        heads.append(sizes / sizes.sum(-1, keepdims=True) @ value[..., own])
    found = np.concatenate(heads, axis=-1) @ stored["1.output_kernel"] + stored["1.output_bias"]
    np.testing.assert_allclose(found, model(x), atol=1e-5)
