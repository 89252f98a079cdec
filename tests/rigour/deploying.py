"""Ways in which Keras runs a model: here, and in processes with other settings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

Run = Callable[[np.ndarray], np.ndarray]
SETTINGS: dict[str, dict[str, str]] = {
    "one thread": {"TF_NUM_INTRAOP_THREADS": "1"},
    "two threads": {"TF_NUM_INTRAOP_THREADS": "2"},
    "without oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "0"},
    "without vectors": {"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}
"""Of processes, by environment variables that TensorFlow reads once."""


def permuted(model: keras.Model, seed: int) -> keras.Model | None:
    """A copy of a stack of dense layers with the units of each hidden layer in another order; None of other models."""
    kinds = (keras.layers.Dense, keras.layers.BatchNormalization)
    layers = [layer for layer in model.layers if layer.weights]
    if not all(isinstance(layer, kinds) for layer in layers) or any(len(layer.output.shape) > 2 for layer in layers):
        return None
    copy, rng = keras.models.clone_model(model), np.random.default_rng(seed)
    order = None
    for number, (old, new) in enumerate(zip(layers, [w for w in copy.layers if w.weights], strict=True)):
        parts = old.get_weights()
        if isinstance(old, keras.layers.Dense):
            parts[0] = parts[0] if order is None else parts[0][order]
            last = number == len(layers) - 1
            order = np.arange(len(parts[1])) if last else rng.permutation(len(parts[1]))
            new.set_weights([parts[0][:, order], parts[1][order]])
        else:
            new.set_weights([part[order] for part in parts])
    return copy


def repeated(model: keras.Model, size: int) -> Run:
    """Runs points as part of a batch of so many."""
    return lambda x: np.concatenate(
        [model(np.resize(x[i : i + size], (size, *x.shape[1:]))).numpy()[: len(x) - i] for i in range(0, len(x), size)]
    )


def deployed(model: keras.Model, whole: bool) -> Iterator[tuple[str, Run]]:
    """Ways to run a model in this process; ``whole``: those that are compiled, too."""
    yield "alone", lambda x: np.concatenate([model(row[None]).numpy() for row in x])
    yield "together", lambda x: model(x).numpy()
    for size in (3, 64) if whole else (64,):
        yield f"batch of {size}", repeated(model, size)
    other = permuted(model, 0)
    if other is not None:
        yield "permuted", lambda x: other(x).numpy()
    if whole:
        compiled = tf.function(model, jit_compile=True)
        yield "predict", lambda x: model.predict(x, batch_size=7, verbose=0)
        yield "XLA", lambda x: compiled(tf.constant(x)).numpy()
        yield "XLA alone", lambda x: np.concatenate([compiled(tf.constant(row[None])).numpy() for row in x])


def elsewhere(models: Sequence[keras.Model], points: Sequence[np.ndarray], folder: Path) -> dict[str, list[np.ndarray]]:
    """What each of the settings computes of each model at its points: by name, the outputs of every model."""
    for number, (model, x) in enumerate(zip(models, points, strict=True)):
        model.save(folder / f"{number}.keras")
        np.save(folder / f"{number}.npy", x)
    found = {}
    for name, variables in SETTINGS.items():
        environment = os.environ | variables | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run([sys.executable, __file__, str(folder), str(len(models))], env=environment, check=True)
        found[name] = [np.load(folder / f"{number}.out.npy") for number in range(len(models))]
    return found


def main(folder: Path, count: int) -> None:
    """What runs in the other process."""
    for number in range(count):
        model, x = keras.models.load_model(folder / f"{number}.keras"), np.load(folder / f"{number}.npy")
        np.save(folder / f"{number}.out.npy", np.concatenate([model(x).numpy(), repeated(model, 64)(x)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
