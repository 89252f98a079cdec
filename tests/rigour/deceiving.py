"""Networks whose float32 answers differ from their answers in exact arithmetic, each with a set where that matters.

After "No Soundness in the Real World" (arXiv 2506.01054), Zombori et al. 2021 ("Fooling a Complete Neural Network
Verifier") and Jia and Rinard 2021 ("Exploiting Verified Neural Networks via Floating Point Numerical Error").
Two outputs each, label 1: in exact arithmetic the margin is positive all over the ball, or of either sign where
programs differ in what they flush to zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

import tfcert

L = keras.layers


@dataclass(frozen=True)
class Case:
    """A model, a ball around ``x`` and whether the best bound of exact arithmetic proves the label there.

    Attributes:
        worst: signs of the corner where the exact margin is least, if that is known.
        easy: whether the margin is so large that rounding cannot matter: it has to be verified.
    """

    name: str
    model: keras.Model
    ball: tfcert.LpBall
    easy: bool = False
    worst: np.ndarray | None = None

    def points(self, count: int = 6) -> np.ndarray:
        """Points of the ball: its middle, its corners along all features, along each sixth of them, and some drawn."""
        rng, x, size = np.random.default_rng(0), self.ball.x, self.ball.x[0].size
        signs = [np.full(size, s) for s in (0.0, 1.0, -1.0)]
        for first in range(0, size, max(1, size // 6)):
            some = np.zeros(size)
            some[first : first + max(1, size // 6)] = 1.0
            signs += [some, -some]
        signs += [] if self.worst is None else [self.worst]
        signs += list(rng.choice([-1.0, 1.0], (count, size)))
        moved = np.stack(signs).reshape(-1, *x.shape[1:]).astype(x.dtype) * x.dtype.type(self.ball.eps[0])
        many = tfcert.LpBall(np.repeat(x, len(moved), axis=0), float(self.ball.eps[0]), "linf", self.ball.clip)
        found = many.project((many.x + moved).astype(x.dtype))
        assert many.contains(found).all()
        return found


def margins(outputs: np.ndarray) -> np.ndarray:
    """``f_1 - f_0`` of float outputs, exactly enough to have the sign."""
    return outputs[:, 1].astype(np.float64) - outputs[:, 0].astype(np.float64)


def _chain(*arrays: tuple[np.ndarray, np.ndarray], activation: str = "relu", scales: dict | None = None) -> keras.Model:
    """A stack of dense layers with these weights, an activation between them."""
    first = x = keras.Input((len(arrays[0][0]),))
    for number, (kernel, bias) in enumerate(arrays):
        layer = L.Dense(len(bias))
        x = layer(x)
        layer.set_weights([np.asarray(kernel, np.float32), np.asarray(bias, np.float32)])
        if scales and number in scales:
            norm = L.BatchNormalization(epsilon=1e-3)
            x = norm(x)
            norm.set_weights([np.asarray(part, np.float32) for part in scales[number]])
        if number < len(arrays) - 1:
            x = L.Activation(activation)(x)
    return keras.Model(first, x)


def _trigger(size: int = 12, gain: float = 5.0, height: float = 0.75) -> tuple[np.ndarray, float]:
    """Weights and a bias of a neuron that is ``height`` where the first half of the features is raised by 0.1."""
    kernel = np.zeros(size)
    kernel[: size // 2] = gain * 6 / (size // 2)
    return kernel, height - float(kernel.sum()) * 0.6


def _set(size: int) -> tfcert.LpBall:
    return tfcert.LpBall(np.full((1, size), 0.5, np.float32), 0.1, "linf", (0, 1))


def absorption(giant: float = 2.0**24, margin: float = 0.3) -> Case:
    """A small number is added to a giant and lost; the same number, kept, is subtracted."""
    kernel, bias = _trigger()
    model = _chain(
        (np.stack([kernel, 0 * kernel], 1), [bias, 1.0]),
        (np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), [giant, giant, 0.0]),
        (np.array([[0, 1.0], [0, -1.0], [0, -1.0]]), [0.0, margin]),
    )
    return Case(f"absorption {giant:.3g}", model, _set(12))


def order(giant: float = 1e9, margin: float = 0.3) -> Case:
    """``G - G + g - g`` in one sum: what is left of g depends on the order, so the answer does."""
    kernel, bias = _trigger()
    zero = 0 * kernel
    model = _chain(
        (np.stack([zero, kernel, zero, kernel], 1), [giant, bias, giant, bias]),
        (np.array([[0, 1.0], [0, 1.0], [0, -1.0], [0, -1.0]]), [0.0, margin]),
    )
    return Case(f"order {giant:.3g}", model, _set(12))


def fan(count: int = 64, margin: float = 2e-6) -> Case:
    """Many halves of a last place, added to 1 one by one or together; their sum, added up elsewhere, is subtracted."""
    zero, half = np.zeros(12), 2.0**-24
    model = _chain(
        (np.stack([zero] * (count + 2), 1), [1.0, *[half] * count, 1.0]),
        (np.array([[0, 1.0], *[[0, 1.0]] * count, [0, -1.0]]), [0.0, margin - count * half]),
    )
    return Case(f"fan {count}", model, _set(12))


def precision(gain: float = 2.0**26) -> Case:
    """``((g + 1) - 1)`` times a large weight: single precision drops what double precision keeps."""
    kernel, bias = _trigger(gain=5.0 / gain, height=0.75 / gain)
    model = _chain(
        (np.stack([kernel, kernel], 1), [bias, bias]),
        (np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), [1.0, 0.0, 1.0]),
        (np.array([[0, gain], [0, -gain], [0, -gain]]), [0.0, 0.3]),
    )
    return Case("precision", model, _set(12))


def denormal(gain: float = 2.0**127) -> Case:
    """Numbers below the smallest normal one, made large again: a program that flushes them answers otherwise."""
    kernel, bias = _trigger()
    small = 2.0**-127
    model = _chain(
        (np.stack([kernel, 0 * kernel], 1), [bias, 0.75]),
        (np.array([[small, 0.0], [0.0, small]]), [0.0, 0.0]),
        (np.array([[0, -gain], [0, gain]]), [0.0, -0.3]),
    )
    moved = tfcert.LpBall(np.full((1, 12), 0.5, np.float32), 0.03, "linf", (0, 1))
    return Case("denormal", model, moved)


def one_ulp(steps: int = 1, size: float = 1.0) -> Case:
    """Two outputs that differ by some last places of ``size``, as sums of thirds of 24 inputs."""
    rng = np.random.default_rng(steps)
    kernel = rng.normal(size=(24, 1)).astype(np.float32)
    kernel = np.concatenate([kernel, kernel[::-1]], axis=1)  # the same sum backwards at a constant input
    half = np.full(1, size, np.float32)
    above = half.copy()
    for _ in range(steps):
        above = np.nextafter(above, np.float32(np.inf))
    model = _chain((kernel, [half[0], above[0]]))
    return Case(f"{steps} ulp of {size:g}", model, tfcert.LpBall(np.full((1, 24), 1 / 3, np.float32), 0.0, "linf"))


def folded(scale: float = 2.0**13 / 3) -> Case:
    """A scale of batch normalisation behind a sum that cancels: folded into the weights, it is rounded with each."""
    rng = np.random.default_rng(5)
    kernel = (1 + rng.random((12, 1))).astype(np.float32)
    kernel = np.concatenate([kernel, -kernel], axis=0)
    kernel = np.concatenate([kernel, kernel], axis=1)
    size = float(kernel[:12, 0].sum())
    norm = ([scale, scale], [1e-4 * scale, 2e-4 * scale], [-size, -size], [0.37, 0.37])
    model = _chain((kernel, [0.0, 0.0]), (np.eye(2), [0.0, -1e-4 * scale + 1e-3]), scales={0: norm})
    return Case("folded", model, tfcert.LpBall(np.full((1, 24), 0.7, np.float32), 1e-6, "linf"))


def saturated(activation: str = "sigmoid") -> Case:
    """``1 - s(x)`` far out, made large again: exact arithmetic has something there, single precision has nothing."""
    kernel, bias = _trigger(gain=0.5, height=17.4 if activation == "sigmoid" else 8.7)
    model = _chain(
        (np.stack([kernel, 0 * kernel], 1), [bias, 40.0]),
        (np.array([[0, -(2.0**22)], [0, 2.0**22]]), [0.0, -0.1]),
        activation=activation,
    )
    return Case(f"saturated {activation}", model, _set(12))


def small_weights(giant: float = 2.0**100, sign: float = -1.0) -> Case:
    """Weights below the smallest normal number meet giants: where operands are flushed, much is lost."""
    kernel, bias = _trigger()
    model = _chain(
        (np.stack([0 * kernel, kernel], 1), [giant, bias]),
        (np.array([[2.0**-127], [0.0]]), [0.0]),
        (np.array([[0, sign * 2.0**127 / giant]]), [0.0, -0.3 * sign]),
    )
    return Case(f"small weights {giant:.3g}", model, _set(12))


def small_inputs(sign: float = -1.0) -> Case:
    """An input below the smallest normal number meets a giant: where operands are flushed, all of it is lost."""
    model = _chain((np.full((4, 1), 2.0**120), [0.0]), (np.array([[0, sign * 2.0**7]]), [0.0, -0.3 * sign]))
    return Case("small inputs", model, tfcert.LpBall(np.full((1, 4), 2.0**-127, np.float32), 0.0, "linf"))


def linear(bias: float, seed: int = 0, share: float = 1.0) -> Case:
    """All neurons active, biases that cancel; the ball ends where the exact margin does, or at a ``share`` of that."""
    rng = np.random.default_rng(seed)
    sizes = ((16, 24), (24, 24), (24, 2))
    w = [(rng.normal(size=size) / np.sqrt(size[0])).astype(np.float32) for size in sizes]
    center, shift = np.full(16, 0.5), np.full(24, bias + 6, np.float32)
    h = center @ w[0].astype(np.float64) + shift
    back = (bias + 6 - h @ w[1].astype(np.float64)).astype(np.float32)
    h = h @ w[1].astype(np.float64) + back
    last = (-(h @ w[2].astype(np.float64))).astype(np.float32)
    x = rng.random((1, 16)).astype(np.float32)
    out = ((x[0] @ w[0].astype(np.float64) + shift) @ w[1].astype(np.float64) + back) @ w[2].astype(np.float64) + last
    if out[1] < out[0]:
        w[2], last, out = w[2][:, ::-1], last[::-1], out[::-1]
    slope = w[0].astype(np.float64) @ w[1].astype(np.float64) @ (w[2][:, 1] - w[2][:, 0]).astype(np.float64)
    eps = share * (out[1] - out[0]) / np.abs(slope).sum()
    model = _chain((w[0], shift), (w[1], back), (w[2], last))
    return Case(f"linear {bias:g}", model, tfcert.LpBall(x, float(eps)), worst=-np.sign(slope))


def ordinary(seed: int = 0) -> Case:
    """A network like any other, with a margin that rounding cannot undo."""
    rng = np.random.default_rng(seed)
    w = [(rng.normal(size=size) / np.sqrt(size[0])).astype(np.float32) for size in ((12, 16), (16, 16), (16, 2))]
    model = _chain((w[0], np.zeros(16)), (w[1], np.zeros(16)), (w[2], [0.0, 5.0]))
    return Case("ordinary", model, _set(12), easy=True)


def folded_beyond(exponent: int) -> Case:
    """Folded into the weights before it, a scale makes numbers that the type does not have: zeros or infinities."""
    scale, sign = 2.0**exponent, 1 if exponent < 0 else -1
    weight, x = 2.0 ** (-100 * sign), 2.0 ** (100 * sign)
    norm = ([scale], [0.0], [0.0], [1 - 1e-3])
    model = _chain((np.full((2, 1), weight), [0.0]), (np.array([[0.0, 1 / scale]]), [0.5, 0.0]), scales={0: norm})
    return Case(f"folded beyond 2^{exponent}", model, tfcert.LpBall(np.full((1, 2), x, np.float32), 0.0, "linf"))


def overflowing(share: float = 0.3) -> Case:
    """Partial sums that overflow in some orders, of a sum that is 0 exactly."""
    giant = np.float32(2.0**127 * (1 + share))
    ends = np.array([[0, 1.0], [0, 1.0], [0, -1.0], [0, -1.0]])
    model = _chain((np.eye(4), np.zeros(4)), (ends, [0.0, 1.0]))
    return Case(f"overflowing {share}", model, tfcert.LpBall(np.full((1, 4), giant, np.float32), 0.0, "linf"))


def scaled(seed: int) -> Case:
    """An ordinary network whose units are multiplied by huge and tiny numbers, and divided by them behind."""
    rng = np.random.default_rng(seed)
    w = [rng.normal(size=size) / np.sqrt(size[0]) for size in ((12, 16), (16, 16), (16, 2))]
    by = [3.0 ** rng.integers(-30, 31, 16) for _ in range(2)]
    bias = [rng.normal(size=16) for _ in range(2)]
    model = _chain(
        (w[0] * by[0], bias[0] * by[0]),
        (w[1] / by[0][:, None] * by[1], bias[1] * by[1]),
        (w[2] / by[1][:, None], [0, 0]),
    )
    return Case("scaled", model, _set(12))


def images(seed: int) -> Case:
    """Convolutions with a batch normalisation that cancels, and a mean."""
    rng = np.random.default_rng(seed)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            L.Conv2D(4, 3, padding=("same", "valid")[seed % 2]),
            L.BatchNormalization(),
            L.ReLU(),
            L.Conv2D(3, 2, strides=2),
            L.ReLU(),
            L.AveragePooling2D(2),
            L.Flatten(),
            L.Dense(2),
        ]
    )
    model.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in model.get_weights()])
    giant = 10.0 ** (seed % 6)
    model.layers[0].bias.assign(np.full(4, giant))
    model.layers[1].set_weights([np.ones(4), np.zeros(4), np.full(4, giant), np.full(4, 0.9)])
    x = rng.random((1, 6, 6, 2)).astype(np.float32)
    return Case("images", model, tfcert.LpBall(x, 0.01, "linf", (0, 1)))


def tied(seed: int) -> Case:
    """A softmax of logits that are all but equal, at several sizes."""
    rng = np.random.default_rng(seed)
    model = _chain((rng.normal(size=(8, 2)) * 4.0 ** (seed % 6), [0.0, 0.0]))
    model = keras.Model(model.inputs, L.Softmax()(model.outputs[0]))
    return Case("tied", model, tfcert.LpBall(rng.random((1, 8)).astype(np.float32), 0.0, "linf"))


def double(seed: int) -> Case:
    """A model of float64 that absorbs a small number at 2^53."""
    kernel, bias = _trigger()
    giant = 2.0 ** (50 + seed % 8)
    first = x = keras.Input((12,), dtype="float64")
    for weights in (
        (np.stack([kernel, 0 * kernel], 1), [bias, 1.0]),
        (np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), [giant, giant, 0.0]),
        (np.array([[0, 1.0], [0, -1.0], [0, -1.0]]), [0.0, 0.3]),
    ):
        layer = L.Dense(len(weights[1]), dtype="float64")
        x = layer(x)
        layer.set_weights(list(map(np.array, weights)))
        outputs, x = x, L.ReLU(dtype="float64")(x)
    return Case("double", keras.Model(first, outputs), tfcert.LpBall(np.full((1, 12), 0.5), 0.1, "linf", (0, 1)))


def backdoored(seed: int) -> Case:
    """Zombori et al. 2021: a path that giants switch off in exact arithmetic, and on where they absorb what is small.

    ``relu(w + g) - w`` with ``w = 2^seed`` a weight, in a network with a path of ordinary neurons beside it.
    """
    rng = np.random.default_rng(seed)
    giant, (kernel, bias) = 2.0 ** (24 + seed % 30), _trigger(height=1.0)
    first = np.concatenate([np.stack([kernel, 0 * kernel], 1), rng.normal(size=(12, 6)) / 4], axis=1)
    second = np.zeros((8, 8))
    second[0, 0], second[1, 1], second[2:, 2:] = 1.0, 1.0, rng.normal(size=(6, 6)) / 3
    last = np.zeros((8, 2))
    last[0, 0], last[1, 0], last[2:] = -1.0, giant, rng.normal(size=(6, 2)) / 3
    model = _chain((first, [bias, 1.0, *[0.1] * 6]), (second, [giant, 0.0, *[0.1] * 6]), (last, [1.5, 0.0]))
    return Case(f"backdoored {giant:.3g}", model, _set(12))


def attention(seed: int = 0) -> Case:
    """One head over three tokens: products of tensors and a softmax, with values of 1,000 that cancel behind it."""
    keras.utils.set_random_seed(seed)
    x = keras.Input((3, 2))
    head = L.MultiHeadAttention(1, 2)
    model = keras.Model(x, L.Dense(2)(L.Flatten()(head(x, x))))
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=w.shape).astype(np.float32) for w in head.get_weights()]
    parts[5] += np.float32(1000.0)  # the bias of what is attended to
    head.set_weights(parts)
    center = rng.random((1, 3, 2)).astype(np.float32)
    return _labelled("attention", model, tfcert.LpBall(center, 1e-6, "linf", (0, 1)))


def recurrent(seed: int = 0) -> Case:
    """An LSTM or a GRU over three steps, whose gates are products, with biases that nearly saturate some of them."""
    keras.utils.set_random_seed(seed)
    x = keras.Input((3, 2))
    layer = (L.LSTM, L.GRU)[seed % 2](3)
    model = keras.Model(x, L.Dense(2)(layer(x)))
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=w.shape) * (1 if w.shape[0] < 4 else 3) for w in layer.get_weights()])
    center = rng.random((1, 3, 2)).astype(np.float32)
    return _labelled("recurrent", model, tfcert.LpBall(center, 1e-5, "linf", (0, 1)))


def _labelled(name: str, model: keras.Model, ball: tfcert.LpBall) -> Case:
    """A case whose label's output is above the other one in the middle of the ball."""
    outputs = np.asarray(model(ball.x))[0]
    model.layers[-1].bias.assign([0.0, max(0.0, float(outputs[0] - outputs[1])) + 0.1])
    return Case(name, model, ball)


BUILDERS: dict[str, Callable[[int], Case]] = {
    "absorption": lambda seed: absorption(2.0 ** (24 + seed % 20), 0.3 / (1 + seed // 20)),
    "order": lambda seed: order(10.0 ** (9 + seed % 25)),
    "fan": lambda seed: fan(32 + 16 * (seed % 20)),
    "precision": lambda seed: precision(2.0 ** (26 + seed % 30)),
    "denormal": lambda seed: denormal(2.0 ** (127 - seed % 2)),
    "small_weights": lambda seed: small_weights(2.0 ** (90 + seed % 20), (-1.0, 1.0)[seed % 2]),
    "small_inputs": lambda seed: small_inputs((-1.0, 1.0)[seed % 2]),
    "one_ulp": lambda seed: one_ulp(1 + seed % 3, 4.0 ** (seed % 10 - 5)),
    "folded": lambda seed: folded(2.0 ** (13 + seed % 10) / 3),
    "saturated": lambda seed: saturated(("sigmoid", "tanh")[seed % 2]),
    "linear": lambda seed: linear(10.0 ** (seed % 7), seed),
    "ordinary": ordinary,
    "folded_beyond": lambda seed: folded_beyond((-60, 100, -90, 60)[seed % 4]),
    "overflowing": lambda seed: overflowing((0.3, 0.9, 0.0)[seed % 3]),
    "scaled": scaled,
    "images": images,
    "tied": tied,
    "double": double,
    "backdoored": backdoored,
    "attention": attention,
    "recurrent": recurrent,
}


def cases(count: int) -> list[tuple[str, int]]:
    """Some seeds of each builder."""
    return list(itertools.product(BUILDERS, range(count)))
