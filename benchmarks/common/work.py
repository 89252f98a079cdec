"""What ``compare.py`` times: by name, functions that prepare a case and return the work of one turn.

Networks are untrained, from a fixed seed, or those in ``examples/``, so that nothing has to be downloaded. Only the
public API is used, and tfcert and TensorFlow are imported where a case needs them: the names alone cost nothing. The
first turn of a process includes what is left of tracing and compilation. A ``crown`` pass has run often before, so that
every turn of it is a traced one; ``first pass`` is what a new model costs in every turn.
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
_EPS = {"linf": 0.01, "l2": 0.1, "l1": 0.5}
_ITERATIONS = {"mlp": 10, "cnn": 3}
"""Of alpha-CROWN: so many that a turn takes about a second."""
_EARLY = 12
"""CROWN passes before the first turn: so many may run op by op, until tracing pays."""

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
    options = tfcert.BoundOptions(iterations=_ITERATIONS.get(kind, 10))
    work = partial(_least_margins, model, *_batch(model), norm, method=method, options=options)
    for _ in range(_EARLY if method == "crown" else 0):
        work()
    return work


def _first_pass(kind: str) -> Work:
    def work() -> float:
        model = _network(kind)
        return _least_margins(model, *_batch(model), "linf")

    return work


def _radius(norm: str, clip: tuple[float, float] | None = None) -> Work:
    import tfcert

    model = _network("cnn")
    x, y = (values[: IMAGES // 2] for values in _batch(model))

    def work() -> float:
        found = tfcert.certified_radius(model, x, y, norm=norm, clip=clip, tolerance=1e-2)
        return float(np.sum(found.radius))

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


def _training_steps(objective: str, steps: int = 20, batch: int = 100) -> Work:
    import keras

    import tfcert

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
    how = getattr(tfcert.objectives, objective)
    certified = tfcert.CertifiedModel(model, how(0.1, kappa=0.5, clip=(0, 1)))
    certified.compile("adam", jit_compile=False)

    def work() -> float:
        return certified.fit(x, y, batch_size=batch, shuffle=False, verbose=0).history["loss"][-1]

    return work


CASES: dict[str, Callable[[], Work]] = {
    **{f"crown {kind} {norm}": partial(_pass, kind, norm) for kind in _NETWORKS for norm in ("linf", "l2")},
    "crown mlp l1": partial(_pass, "mlp", "l1"),
    **{f"alpha-crown {kind} linf": partial(_pass, kind, "linf", "alpha-crown") for kind in _ITERATIONS},
    "radius linf": partial(_radius, "linf"),
    "radius l2 clipped": partial(_radius, "l2", (-0.5, 0.5)),
    **{f"first pass {kind}": partial(_first_pass, kind) for kind in _NETWORKS},
    "split mlp": _split,
    "training ibp": partial(_training_steps, "IBP"),
    "training crown-ibp": partial(_training_steps, "CrownIBP", 4),
}
