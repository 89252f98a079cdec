"""What ``compare.py`` times: by name, functions that prepare a case and return the work of one turn.

Networks are untrained, from a fixed seed, or those in ``examples/``, so that nothing has to be downloaded. Only the
public API is used, and tfcert and TensorFlow are imported where a case needs them: the names alone cost nothing. The
first turn of a process includes tracing and compilation; ``first pass`` is what a new model costs in every turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
IMAGES = 20
_NETWORKS = {"mlp": "mnist_4layer_fc_100_relu", "cnn": "mnist_cnn_4layer_5_3_relu", "resnet": "mnist_resnet_2_relu"}
_EPS = {"linf": 0.01, "l2": 0.1}

Work = Callable[[], float]


def _network(kind: str) -> Any:
    import keras

    from benchmarks.common import architectures

    keras.utils.set_random_seed(0)
    return architectures.build(_NETWORKS[kind])


def _batch(model: Any) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (IMAGES, 28, 28, 1)).astype(np.float32)
    return x, np.asarray(model(x)).argmax(axis=1)


def _least_margins(model: Any, x: np.ndarray, y: np.ndarray, norm: str, **how: Any) -> float:
    import tfcert

    margins = tfcert.margins(model, tfcert.LpBall(x, _EPS[norm], norm), y, **how)
    return float(np.min(margins, axis=1).sum())


def _pass(kind: str, norm: str, method: str = "crown") -> Work:
    import tfcert

    model = _network(kind)
    options = tfcert.BoundOptions(iterations=10)
    return partial(_least_margins, model, *_batch(model), norm, method=method, options=options)


def _first_pass(kind: str) -> Work:
    def work() -> float:
        model = _network(kind)
        return _least_margins(model, *_batch(model), "linf")

    return work


def _split() -> Work:
    import tfcert
    from tfcert.datasets import mnist5k

    model = tfcert.load_model(EXAMPLES / "mnist_mlp.keras")
    samples = mnist5k(split="test")
    x = (samples.x[:2] / 255).astype(np.float32).reshape(2, *model.input_shape[1:])

    def work() -> float:
        nearest = tfcert.minimum_perturbation(model, x, samples.y[:2], clip=(0, 1), upper=15 / 255)
        return float(np.sum(nearest.lower))

    return work


def _training_steps(steps: int = 20, batch: int = 100) -> Work:
    import keras

    import tfcert
    from tfcert.objectives import IBP

    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(steps * batch, 28, 28, 1)).astype(np.float32), rng.integers(0, 10, steps * batch)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 4, 2, activation="relu"),
            layers.Conv2D(32, 4, 1, activation="relu"),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(10),
        ]
    )
    certified = tfcert.CertifiedModel(model, IBP(0.1, kappa=0.5, clip=(0, 1)))
    certified.compile("adam", jit_compile=False)

    def work() -> float:
        return certified.fit(x, y, batch_size=batch, shuffle=False, verbose=0).history["loss"][-1]

    return work


CASES: dict[str, Callable[[], Work]] = {
    **{f"crown {kind} {norm}": partial(_pass, kind, norm) for kind in _NETWORKS for norm in _EPS},
    "alpha-crown mlp linf": partial(_pass, "mlp", "linf", "alpha-crown"),
    **{f"first pass {kind}": partial(_first_pass, kind) for kind in ("mlp", "cnn")},
    "split mlp": _split,
    "training ibp": _training_steps,
}
