"""The small networks and data that the specifications of this folder ask about: ``python models.py`` here.

Each network has random hidden layers and an output layer fitted by least squares, so that all are made in seconds and
come out the same everywhere. They are written beside this file, as are ``shapes.npz`` (images of 8 x 8 pixels: crosses,
rings and bars) and ``people.csv`` (applicants for a credit).
"""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

HERE = Path(__file__).parent
SHAPES = ("cross", "ring", "bar")


def shapes(count, seed):
    """Images ``[count, 8, 8, 1]`` uint8, labels ``[count]`` and positions of their middles ``[count]``."""
    random = np.random.default_rng(seed)
    x, y = np.zeros((count, 8, 8, 1)), np.arange(count) % len(SHAPES)
    position = random.integers(2, 6, count)
    for image, label, at in zip(x, y, position, strict=True):
        rows = slice(1, 7)
        if label == 0:
            image[at - 1 : at + 1, 1:7] = image[rows, at - 1 : at + 1] = 1
        elif label == 1:
            image[1:7, at - 2 : at + 2] = 1
            image[3:5, at - 1 : at + 1] = 0
        else:
            image[rows, at - 1 : at + 1] = 1
    return np.clip(200 * x + random.normal(20, 12, x.shape), 0, 255).astype(np.uint8), y, position


def people(count, seed):
    """Features age (years), income and debt (thousands), sex (0 or 1) ``[count, 4]``, and grades 0 or 1 ``[count]``."""
    random = np.random.default_rng(seed)
    age, income, debt = random.uniform(18, 80, count), random.uniform(10, 120, count), random.uniform(0, 60, count)
    x = np.stack([age.round(), income.round(1), debt.round(1), random.integers(0, 2, count)], axis=1)
    return x, (x[:, 1] - 0.8 * x[:, 2] > 35).astype(int)


def fitted(inputs, x, target, hidden=(24,), seed=0, ends=None, pull=1e-2):
    """A ReLU network of the scaled samples ``x`` whose output layer fits ``target`` ``[count, outputs]``."""
    random = np.random.default_rng(seed)
    layer = keras.layers.Flatten()(inputs)
    for width in hidden:
        layer = keras.layers.Dense(width, activation="relu")(layer)
    layer = keras.layers.Dense(target.shape[1], activation=ends)(layer)
    model = keras.Model(inputs, layer)
    values = x.reshape(len(x), -1)
    dense = [found for found in model.layers if isinstance(found, keras.layers.Dense)]
    for found in dense[:-1]:
        kernel = random.normal(0, 1 / np.sqrt(values.shape[1]), found.kernel.shape)
        bias = random.normal(0, 0.3, found.bias.shape)
        found.set_weights([kernel, bias])
        values = np.maximum(values @ kernel + bias, 0)
    values = np.concatenate([values, np.ones((len(values), 1))], axis=1)
    solved = np.linalg.solve(values.T @ values + pull * len(values) * np.eye(values.shape[1]), values.T @ target)
    dense[-1].set_weights([solved[:-1], solved[-1]])
    return model


def one_hot(y, classes, scale=4.0):
    return scale * (np.eye(classes)[y] - 1 / classes)


def classifiers():
    """Of shapes: ``shapes``, its large and rounded versions, one with a softmax, a sigmoid, two heads."""
    x, y, position = shapes(600, 1)
    z, target = x / 255, one_hot(y, 3)
    yield "shapes", fitted(keras.Input([8, 8, 1]), z, target, (40, 24))
    yield "shapes_large", fitted(keras.Input([8, 8, 1]), z, target, (48, 32), seed=0)
    rounded = fitted(keras.Input([8, 8, 1]), z, target, (40, 24))
    rounded.set_weights([np.round(w * 64) / 64 for w in rounded.get_weights()])
    yield "shapes_rounded", rounded
    yield "shapes_softmax", fitted(keras.Input([8, 8, 1]), z, target, (24,), seed=2, ends="softmax")
    ring = 6.0 * (y == 1)[:, None] - 3
    yield "is_ring", fitted(keras.Input([8, 8, 1]), z, ring, (24,), seed=3, ends="sigmoid")
    image = keras.Input([8, 8, 1], name="image")
    kind = fitted(image, z, target, (24,), seed=4)
    place = fitted(image, z, position[:, None] / 8, (24,), seed=5)
    outputs = {"kind": kind.output, "place": place.output}
    yield "two_heads", keras.Model(image, outputs)


def tables():
    """Of people: ``credit``; of an aircraft ``advice``; a ``plant``."""
    x, _ = people(2000, 2)
    scaled = x / np.array([100.0, 100, 100, 1])
    inputs = keras.Input([4])
    scale = keras.layers.Dense(4, use_bias=False, name="scale")
    model = fitted(inputs, scaled, 8 * (scaled[:, 1:2] - 0.8 * scaled[:, 2:3] - 0.35), (16,), seed=6)
    hidden, last = [found for found in model.layers if isinstance(found, keras.layers.Dense)]
    layer = keras.layers.Dense(16, activation="relu", name="facts")
    head = keras.layers.Dense(1, name="grant")
    credit = keras.Model(inputs, head(layer(scale(inputs))))
    scale.set_weights([np.diag([0.01, 0.01, 0.01, 1.0])])
    layer.set_weights(hidden.get_weights())
    head.set_weights(last.get_weights())
    yield "credit", credit
    random = np.random.default_rng(7)
    state = random.uniform(-1, 1, (3000, 5))
    distance, angle, _, own, other = state.T
    risk = 0.3 - distance - np.abs(angle)
    advice = np.stack([-2 + 3 * np.maximum(risk, 0), 0.5 * angle, -0.5 * angle, risk - 0.3, 0.2 * own - 0.1 * other], 1)
    yield "advice", fitted(keras.Input([5]), state, advice, (20, 20), seed=8)
    other = np.stack([risk - 0.2, 0.4 * angle, -0.4 * angle, risk - 0.3, 0.2 * own], 1)
    yield "advice_other", fitted(keras.Input([5]), state, other, (20, 20), seed=15)
    setting = random.uniform(0, 1, (2000, 2))
    power = 40 + 30 * setting[:, :1] - 20 * (setting[:, 1:] - 0.5) ** 2
    yield "plant", fitted(keras.Input([2]), setting, power, (12,), seed=9, pull=1e-4)


def chained():
    """``encode`` and ``decode`` of points in a plane within four dimensions; a controller; changed images; series."""
    random = np.random.default_rng(10)
    plane = np.linalg.qr(random.normal(size=(4, 2)))[0]
    code = random.uniform(-1, 1, (2000, 2))
    yield "encode", fitted(keras.Input([4]), code @ plane.T, code, (12,), seed=11, pull=1e-4)
    yield "decode", fitted(keras.Input([2]), code, code @ plane.T, (12,), seed=12, pull=1e-4)
    places = random.uniform(-2, 2, (2000, 2))
    yield (
        "wind",
        fitted(keras.Input([2]), places, -1.2 * (2 * places[:, :1] - places[:, 1:]), (12,), seed=13, pull=1e-4),
    )
    number = random.uniform(-1, 1, (1000, 1))
    yield "narrow", fitted(keras.Input([1]), number, 0.5 * number, (6,), seed=16, pull=1e-5)
    yield "widen", fitted(keras.Input([1]), number, 2 * number, (6,), seed=17, pull=1e-5)
    truth = random.uniform(0, 1, (2000, 2))
    both = np.clip(4 * truth.min(axis=1, keepdims=True) - 1.5, 0, 1)
    yield "both", fitted(keras.Input([2]), truth, both, (24,), seed=18, pull=1e-5)
    gap = random.uniform(-1, 1, (2000, 3))
    yield (
        "cruise",
        fitted(keras.Input([3]), gap, gap[:, 2:] - gap[:, 1:2] + 0.5 * gap[:, :1], (12,), seed=19, pull=1e-4),
    )
    image, gain, shift = (
        keras.Input([8, 8, 1], name="image"),
        keras.Input([1], name="gain"),
        keras.Input([1], name="shift"),
    )
    wide = keras.layers.Reshape([1, 1, 1])
    changed = keras.layers.Add()([wide(shift), keras.layers.Multiply()([wide(gain), image])])
    yield "brighten", keras.Model([image, gain, shift], keras.layers.ReLU(max_value=1.0)(changed))
    amount = keras.Input([1], name="amount")
    lit = keras.layers.Reshape([8, 8, 1])(keras.layers.Dense(64, use_bias=False)(amount))
    tilt = keras.Model([image, amount], keras.layers.Add()([image, lit]))
    tilt.set_weights([np.repeat(np.linspace(-1, 1, 8), 8)[None]])
    yield "tilt", tilt
    yield "turn", turning()
    series = keras.Input([6, 2])
    layer = keras.layers.Conv1D(4, 3, activation="relu")(series)
    model = keras.Model(series, keras.layers.Dense(2)(keras.layers.Flatten()(layer)))
    model.set_weights([random.normal(0, 0.5, w.shape) for w in model.get_weights()])
    yield "series", model


def turned(degrees):
    """The matrix ``[64, 64]`` that turns images around their middle; a pixel is mixed of four where it comes from."""
    angle, matrix = np.deg2rad(degrees), np.zeros((64, 64))
    for row in range(8):
        for column in range(8):
            down, right = row - 3.5, column - 3.5
            at = np.clip(3.5 + np.array([down * np.cos(angle) - right * np.sin(angle),
                                         down * np.sin(angle) + right * np.cos(angle)]), 0, 7)  # fmt: skip
            first = np.minimum(at.astype(int), 6)
            share = at - first
            for i in (0, 1):
                for j in (0, 1):
                    weight = (share[0] if i else 1 - share[0]) * (share[1] if j else 1 - share[1])
                    matrix[(first[0] + i) * 8 + first[1] + j, row * 8 + column] += weight
    return matrix


def turning():
    """An image turned by up to 10 degrees: mixed of itself and, to either side, of what it is when turned by all 10."""
    image, angle = keras.Input([8, 8, 1], name="image"), keras.Input([1], name="angle")
    flat, sides = keras.layers.Flatten()(image), []
    for side in (1, -1):
        share, change = keras.layers.Dense(1, "relu", use_bias=False), keras.layers.Dense(64, use_bias=False)
        sides.append(keras.layers.Multiply()([share(angle), change(flat)]))
        share.set_weights([np.array([[side / np.deg2rad(10)]])])
        change.set_weights([turned(10 * side) - np.eye(64)])
    return keras.Model([image, angle], keras.layers.Reshape([8, 8, 1])(keras.layers.Add()([flat, *sides])))


def main():
    for make in (classifiers, tables, chained):
        for name, model in make():
            model.save(HERE / f"{name}.keras")
    x, y, position = shapes(60, 100)
    np.savez_compressed(HERE / "shapes.npz", x=x, y=y, place=position / 8)
    np.savez_compressed(HERE / "days.npz", x=np.random.default_rng(20).uniform(0.1, 0.9, (20, 2)).astype(np.float32))
    np.savez_compressed(HERE / "series.npz", x=np.random.default_rng(14).normal(size=(20, 6, 2)).astype(np.float32))
    x, y = people(40, 101)
    rows = "\n".join(",".join(f"{value:g}" for value in (*row, grade)) for row, grade in zip(x, y, strict=True))
    (HERE / "people.csv").write_text(f"age,income,debt,sex,grade\n{rows}\n")


if __name__ == "__main__":
    main()
