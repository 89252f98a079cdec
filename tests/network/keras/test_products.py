"""Products of tensors: layers, operators and operations agree with Keras (checked on load), and are no constants."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfcert
from tfcert.network import Builder, Contraction, Product, from_keras

L, K = keras.layers, keras.ops


def halves(x):
    return x[:, :2], x[:, 2:]


MODELS = {
    "x[0] * x[1]": ((2,), lambda x: x[:, :1] * x[:, 1:]),
    "Multiply of three": ((6,), lambda x: L.Multiply()([x[:, :2], x[:, 2:4], x[:, 4:]])),
    "Multiply and a constant": ((4,), lambda x: L.Multiply()([*halves(x), np.array([[2.0, 3.0]], "float32")])),
    "broadcast": ((2, 3), lambda x: x * x[:, :1]),
    "matmul": ((4, 3), lambda x: K.matmul(x[:, :, :2], x[:, :2])),
    "matmul by pairs": ((2, 2, 2), lambda x: x @ x[:, :1]),
    "einsum": ((2, 3), lambda x: K.einsum("bij,bkj->bik", x, x)),
    "einsum with a sum": ((2, 3), lambda x: K.einsum("bij,bkj->bk", x, x)),
    "Dot along one axis": ((2, 3), lambda x: L.Dot(axes=2)([x, x])),
    "Dot along two": ((3, 3), lambda x: L.Dot(axes=(1, 2))([x, x])),
    "Dot of vectors": ((4,), lambda x: L.Dot(axes=-1)(list(halves(x)))),
}


@pytest.mark.parametrize("name", MODELS)
def test_products_of_tensors_are_bounded(name, eager):
    shape, build = MODELS[name]
    keras.utils.set_random_seed(0)
    i = keras.Input(shape)
    model = keras.Model(i, L.Dense(2)(L.Flatten()(build(i))))
    network = from_keras(model)
    assert any(isinstance(node, Product | Contraction) for node in network.nodes)
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (2, *shape)).astype("float32")
    label = model(x).numpy().argmax(axis=1)
    found = tfcert.certify(model, x, label, eps=0.05).margin
    points = np.clip(x + rng.uniform(-0.05, 0.05, (50, *x.shape)), x - 0.05, x + 0.05).astype("float32")
    outputs = np.stack([model(p).numpy() for p in points])
    margins = [(outputs[:, n, k] - outputs[:, n, 1 - k]).min() for n, k in enumerate(label)]
    assert np.isfinite(found).all() and (found <= np.array(margins) + 1e-5).all()


W = np.random.default_rng(2).normal(size=(3, 4)).astype("float32")
B = np.random.default_rng(3).normal(size=(2, 3, 4)).astype("float32")
BY_CONSTANTS = {
    "matrix on the right": lambda x: K.matmul(x, W),
    "vector on the right": lambda x: K.matmul(x, W[:, 0]),
    "matrix on the left": lambda x: K.matmul(W[:, :2], x),
    "vector on the left": lambda x: K.matmul(B[:, 0, 0], x),
    "a matrix for each row": lambda x: K.matmul(K.reshape(x, (-1, 2, 1, 3)), B),
    "dot": lambda x: K.dot(x, W),
    "dot of three axes": lambda x: K.dot(x, B),
    "tensordot": lambda x: K.tensordot(x, W, axes=1),
    "tensordot over two axes": lambda x: K.tensordot(x, B, axes=[[1, 2], [0, 1]]),
    "einsum": lambda x: K.einsum("bij,jk->bki", x, W),
    "einsum of an ellipsis": lambda x: K.einsum("...j,jk->...k", x, W),
    "einsum without a result": lambda x: K.einsum("bij,jk", x, W),
    "einsum that sums": lambda x: K.einsum("bij,jk->b", x, W)[:, None],
    "einsum of one": lambda x: K.einsum("bij->bj", x),
}
OF_THREE = {
    "three operands": lambda x: K.einsum("bij,bkj,jm->bikm", x, K.sin(x), W),
    "an ellipsis": lambda x: K.einsum("...ij,...kj->...ik", x, K.sin(x)),
    "all of one another": lambda x: K.einsum("bij,bkl->bijkl", x, K.sin(x)),
    "Dot of unit vectors": lambda x: L.Dot(-1, normalize=True)([x, K.sin(x)]),
    "Dot of matrices and vectors": lambda x: L.Dot((2, 1))([x, x[:, 0]]),
}


@pytest.mark.parametrize("build", [*BY_CONSTANTS.values(), *OF_THREE.values()], ids=[*BY_CONSTANTS, *OF_THREE])
def test_sums_of_products_are_what_keras_computes(build, rng):
    i = keras.Input((2, 3))
    model = keras.Model(i, build(i))
    network = from_keras(model)
    x = rng.normal(size=(20, 2, 3)).astype("float32")
    expected = model(x).numpy()
    np.testing.assert_allclose(network(tf.constant(x)), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert any(isinstance(node, Product | Contraction) for node in network.nodes) == (build in OF_THREE.values())


MIXED = {
    "einsum of the batch": (lambda x: K.einsum("bij,cij->bc", x, x), "the batch must be the first letter"),
    "a batch that is no first letter": (lambda x: K.einsum("bij,bij->ib", x, x), "the batch must be the first letter"),
    "a diagonal": (lambda x: K.einsum("bii->bi", x[:, :, :2]), "diagonal"),
    "dot of two": (lambda x: K.dot(x, K.transpose(x, (0, 2, 1))), "lines up the batch"),
    "tensordot of two": (lambda x: K.tensordot(x, K.sin(x), axes=[[1], [1]]), "einsum with a letter"),
    "tensordot over the batch": (lambda x: K.tensordot(x, np.ones((2, 2), "float32"), axes=[[0], [0]]), "samples"),
    "a matrix for each sample": (lambda x: K.matmul(np.ones((4, 2, 2), "float32"), x), "one for each"),
}


@pytest.mark.parametrize(("build", "message"), MIXED.values(), ids=MIXED)
def test_sums_that_mix_samples_are_refused(build, message):
    i = keras.Input((2, 3))
    with pytest.raises(tfcert.UnsupportedLayerError, match=message):
        from_keras(keras.Model(i, build(i)))


def test_a_factor_that_no_input_enters_makes_no_product(rng):
    """It scales, or is a matrix: what the model computes is affine, and its bounds are exact."""
    builder = Builder(tf.float64)
    weights = tf.Variable(rng.normal(size=(3, 4)))
    x = builder.input((2, 3), "input")
    with builder.scope("products", "Product"):
        fixed = builder.fixed(lambda: tf.convert_to_tensor(weights), (3, 4))
        scaled = builder.product(x, builder.fixed(lambda: tf.convert_to_tensor(weights)[:2, :3], (2, 3)))
        whole = builder.reshape(builder.contract("kj,ik->ij", fixed, scaled), (8,))
    network = builder.network(whole)[0]
    assert not any(isinstance(node, Product | Contraction) for node in network.nodes)
    x, matrix = rng.normal(size=(5, 2, 3)), weights.numpy()
    np.testing.assert_allclose(network(tf.constant(x)), ((x * matrix[:2, :3]) @ matrix).reshape(5, 8))
    weights.assign(2 * weights)
    np.testing.assert_allclose(network(tf.constant(x)), ((x * 2 * matrix[:2, :3]) @ (2 * matrix)).reshape(5, 8))
