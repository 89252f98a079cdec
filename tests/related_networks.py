"""Networks that are related to others, for tests of their differences."""

import keras
import numpy as np
from keras import layers as L

from tfcert.network import from_keras
from tfcert.network.joint import Applied, joint


def dense(widths=(6, 5), outputs=2, activation="relu", bias=True):
    inner = [L.Dense(n, activation, use_bias=bias, bias_initializer="normal") for n in widths]
    return keras.Sequential([keras.Input((3,)), *inner, L.Dense(outputs, use_bias=bias)])


def residual(activation="relu"):
    x = keras.Input((3,))
    h = L.Dense(4, activation)(x)
    h = L.Add()([h, L.Dense(4)(L.Dense(5, activation)(h))])
    h = L.Concatenate()([L.Activation(activation)(h), L.BatchNormalization()(L.Dense(2)(x))])
    return keras.Model(x, L.Dense(2)(L.Dense(4, activation)(h)))


def convolutional():
    return keras.Sequential([
        keras.Input((3,)), L.Dense(16), L.Reshape((4, 4, 1)), L.Conv2D(2, 3, padding="same", activation="relu"),
        L.AveragePooling2D(2), L.Conv2D(3, 2, activation="relu"), L.Flatten(), L.Dense(2),
    ])  # fmt: skip


def pooled():
    return keras.Sequential([
        keras.Input((3,)), L.Dense(16, "relu"), L.Reshape((4, 4, 1)), L.MaxPooling2D(2), L.Flatten(),
        L.Dense(3, "relu"), L.Dense(2),
    ])  # fmt: skip


def near(model, size=1e-3, seed=0):
    """A copy of a model with weights that are off by so much."""
    rng, other = np.random.default_rng(seed), keras.models.clone_model(model)
    other.set_weights([w + (size * rng.normal(size=w.shape)).astype(w.dtype) for w in model.get_weights()])
    return other


def absorbing(model, giant=1e4):
    """The model with biases that cancel: what it computes in between is large, and rounds."""
    weights = model.get_weights()
    weights[1] = weights[1] + np.float32(giant)
    weights[3] = weights[3] - np.float32(giant) * weights[2].sum(axis=0)
    model.set_weights(weights)
    return model


SAME = ([0, 1, 2], [0, 1, 2])
APART = ([0, 1, 2], [3, 4, 5])
AGREEING = ([0, 1, 2], [0, 3, 2])


def together(one, other, places=SAME, shown=()):
    """Both models at their points, as one network of all numbers."""
    networks = [from_keras(one)]
    networks.append(networks[0] if other is one else from_keras(other))
    applied = [Applied(network, np.array(p)) for network, p in zip(networks, places, strict=True)]
    return joint(applied, 1 + max(map(max, places)), shown)


BUILDS = {
    "dense": dense,
    "tanh": lambda: dense(activation="tanh"),
    "no bias": lambda: dense(bias=False),
    "one output": lambda: dense(outputs=1),
    "one neuron": lambda: dense((1, 1), 1),
    "residual": residual,
    "convolutional": convolutional,
}
