"""Products of tensors: layers, operators and operations agree with Keras (checked on load), and are no constants."""

import keras
import numpy as np
import pytest

import tfcert
from tfcert.network import Product, from_keras

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
    assert any(isinstance(node, Product) for node in network.nodes)
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (2, *shape)).astype("float32")
    label = model(x).numpy().argmax(axis=1)
    found = tfcert.certify(model, x, label, eps=0.05).margin
    points = np.clip(x + rng.uniform(-0.05, 0.05, (50, *x.shape)), x - 0.05, x + 0.05).astype("float32")
    outputs = np.stack([model(p).numpy() for p in points])
    margins = [(outputs[:, n, k] - outputs[:, n, 1 - k]).min() for n, k in enumerate(label)]
    assert np.isfinite(found).all() and (found <= np.array(margins) + 1e-5).all()
