"""The questions: an ACAS-Xu network and a perturbed copy, a box of inputs, and by how much one output may differ."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np

from benchmarks.common import data

SIZES = (5, 50, 50, 50, 50, 50, 50, 5)
PERTURBED = 1e-3
"""The standard deviation of what is added to each weight of the copy, relative to that of its layer's weights."""
_SHARES = (0.5, 1.5, 2.0, 3.0, 5.0)
"""How much may lie between the outputs, relative to the largest distance seen: below 1 the answer is known to be no."""


@dataclass(frozen=True)
class PairQuestion:
    """Whether ``|f(z)_j - g(z)_j| < delta`` on a box.

    Attributes:
        number: which of the questions; it is also the seed that everything is drawn with.
        name: the network's file.
        weights, changed: of both networks, kernel and bias in turn.
        lower, upper: the box ``[5]``, float32.
        output, delta: j, and the most that it may differ.
    """

    number: int
    name: str
    weights: list[np.ndarray]
    changed: list[np.ndarray]
    lower: np.ndarray
    upper: np.ndarray
    output: int
    delta: float


def questions(count: int) -> Iterator[PairQuestion]:
    """The first so many questions, each of its own seed."""
    files = sorted((data.root() / "vnncomp" / "acasxu").glob("*.onnx"))
    if not files:
        raise SystemExit("the ACAS-Xu networks are not here (vnncomp/acasxu beside the reference networks)")
    for number in range(count):
        rng = np.random.default_rng(number)
        path = files[rng.integers(len(files))]
        weights = _weights(path.read_bytes())
        changed = [w + (PERTURBED * w.std() * rng.normal(size=w.shape)).astype(np.float32) for w in weights]
        center, half = rng.uniform(-0.4, 0.4, 5), 10 ** rng.uniform(-2.5, -1, 5)
        lower, upper = (np.clip(center + sign * half, -0.5, 0.5).astype(np.float32) for sign in (-1, 1))
        points = rng.uniform(lower, upper, (4000, 5)).astype(np.float32)
        output = int(rng.integers(5))
        seen = np.abs(_values(weights, points) - _values(changed, points))[:, output].max()
        delta = float(np.float32(rng.choice(_SHARES) * seen))
        yield PairQuestion(number, path.name, weights, changed, lower, upper, output, delta)


def empty_model() -> keras.Model:
    """A Keras model of this architecture, its weights still to be set."""
    inner = [keras.layers.Dense(size, "relu") for size in SIZES[1:-1]]
    return keras.Sequential([keras.Input((SIZES[0],)), *inner, keras.layers.Dense(SIZES[-1])])


def _values(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    for number in range(0, len(weights), 2):
        x = x @ weights[number] + weights[number + 1]
        x = x if number + 2 == len(weights) else np.maximum(x, 0)
    return x


def _weights(file: bytes) -> list[np.ndarray]:
    """Kernels ``[in, out]`` and biases of a network of this architecture, from the tensors that its file holds raw.

    Raises:
        ValueError: the file holds other tensors.
    """
    shapes = [shape for pair in itertools.pairwise(SIZES) for shape in (pair, pair[1:])]
    arrays = [tensor for tensor in _tensors(file) if tensor.ndim < 3]  # the other one is subtracted from the input: 0
    if [array.shape for array in arrays] != shapes:
        raise ValueError(f"tensors of shapes {[array.shape for array in arrays]}, not {shapes}")
    return arrays


def _fields(buffer: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of a protobuf message: numbers and bytes."""
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = buffer[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(buffer):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or number()
            yield key >> 3, buffer[place : place + size]
            place += size


def _tensors(file: bytes) -> Iterator[np.ndarray]:
    """The float32 tensors of an ONNX file's graph (fields 7 and 5), which are stored raw (field 9)."""
    for field, graph in _fields(file):
        if field != 7 or not isinstance(graph, bytes):
            continue
        for inner, tensor in _fields(graph):
            if inner != 5 or not isinstance(tensor, bytes):
                continue
            shape, raw, kind = [], b"", 1
            for part, value in _fields(tensor):
                if part == 1:
                    shape.append(value) if isinstance(value, int) else shape.extend(v for v in value)
                elif part == 2:
                    kind = value
                elif part == 9:
                    raw = value
            if kind == 1 and raw:
                yield np.frombuffer(raw, np.float32).reshape(shape)
