"""Certified training of the networks of Gowal et al. 2018: layers, data, schedules, and what a run is judged by."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np

import tfcert
from parts.networks import train_and_test
from tfcert.objectives import IBP, ConstrainedIBP, Objective
from tfcert.schedules import Ramp

_CONVOLUTIONS = {
    "small": ((16, 4, 2), (32, 4, 1)),
    "medium": ((32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 4, 2)),
    "large": ((64, 3, 1), (64, 3, 1), (128, 3, 2), (128, 3, 1), (128, 3, 1)),
}
"""Filters, size and stride (Gowal et al. 2018, table 2; Morawiecki et al. 2020, table 1); no padding."""
_DENSE = {"small": (100,), "medium": (512, 512), "large": (200,)}
_JUDGED = 1000
"""Images in one pass of the final verdicts."""


@dataclass(frozen=True)
class Run:
    """One training: everything that its result follows from, on one machine.

    Attributes:
        size: of the network: small, medium or large.
        eps: the radius in [0, 1] that is verified.
        epochs: in all; ``warm_up`` of them plain, then eps and kappa ramp for ``ramp`` epochs.
        objective: ``ibp``, ``constrained`` (with ``weight`` of the width term) or ``nominal``.
        kappa: where the ramp of the nominal loss's weight ends; it begins at 1.
        eps_factor: training is over so many times eps.
        initialize: whether kernels are drawn for intervals (Shi et al. 2021).
        rate, drops: Adam's learning rate, and after which shares of the epochs it is divided by ``divisor``.
    """

    size: str
    eps: float
    epochs: int
    seed: int = 0
    objective: str = "ibp"
    warm_up: float = 0.0
    ramp: float = 1.0
    kappa: float = 0.5
    eps_factor: float = 1.0
    weight: float = 1.0
    initialize: bool = True
    batch: int = 100
    rate: float = 1e-3
    drops: tuple[float, ...] = (0.7, 0.9)
    divisor: float = 5.0


@dataclass(frozen=True)
class Data:
    """Training and test images in [0, 1], channels last, and their labels."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def data(name: str) -> Data:
    """All images of ``mnist`` or ``cifar``."""
    train, test = train_and_test(name)
    half = np.float32(0.5)
    return Data(train.x + half, train.y, test.x + half, test.y)


def network(size: str, shape: tuple[int, ...]) -> keras.Model:
    """The network, untrained, with ten logits."""
    layers: list[Any] = [keras.Input(shape)]
    layers += [keras.layers.Conv2D(n, k, s, activation="relu") for n, k, s in _CONVOLUTIONS[size]]
    layers.append(keras.layers.Flatten())
    layers += [keras.layers.Dense(n, activation="relu") for n in _DENSE[size]]
    return keras.Sequential([*layers, keras.layers.Dense(10)], name=f"dm_{size}")


def objective(run: Run) -> Objective:
    """The objective of a run; ``nominal`` is IBP whose robust part has no weight."""
    if run.objective == "nominal":
        return IBP(run.eps, kappa=1.0, clip=(0, 1))
    end = run.warm_up + run.ramp
    eps = Ramp(0.0, run.eps, run.warm_up, end)
    kappa = Ramp(1.0, run.kappa, run.warm_up, end)
    common: dict[str, Any] = {"kappa": kappa, "clip": (0, 1), "eps_factor": run.eps_factor}
    if run.objective == "constrained":
        return ConstrainedIBP(eps, weight=run.weight, **common)
    return IBP(eps, **common)


def compiled(run: Run, shape: tuple[int, ...], steps: int) -> tfcert.CertifiedModel:
    """The model of a run, ready to be fitted with ``steps`` steps an epoch; draws from Keras's seed."""
    model = network(run.size, shape)
    if run.initialize:
        tfcert.ibp_initialize(model, run.seed)
    certified = tfcert.CertifiedModel(model, objective(run))
    ends = [round(share * run.epochs * steps) for share in run.drops]
    rates = [run.rate / run.divisor**k for k in range(len(ends) + 1)]
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(ends, rates) if ends else run.rate
    certified.compile(keras.optimizers.Adam(rate), metrics=["accuracy"], jit_compile=False)
    return certified


def steps(run: Run, images: Data) -> int:
    """Steps in an epoch."""
    return -(-len(images.x) // run.batch)


def fitted(
    run: Run, images: Data, *, validation: int = 0, verbose: int = 2, callbacks: list[Any] | None = None
) -> tuple[tfcert.CertifiedModel, dict[str, Any]]:
    """Trains; returns the model, and its settings, seconds, threads' settings left aside, and history.

    Args:
        validation: after each epoch the first so many test images are verified by intervals.
    """
    keras.utils.set_random_seed(run.seed)
    certified, start = compiled(run, images.x.shape[1:], steps(run, images)), time.perf_counter()
    held_out = (images.x_test[:validation], images.y_test[:validation]) if validation else None
    history = certified.fit(
        images.x, images.y, batch_size=run.batch, epochs=run.epochs, validation_data=held_out,
        validation_batch_size=_JUDGED, verbose=verbose, callbacks=callbacks,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    rows = {k: [round(float(v), 5) for v in values] for k, values in history.history.items()}
    return certified, {"run": asdict(run), "seconds": round(seconds, 1), "history": rows}


def seconds_per_step(run: Run, images: Data, count: int = 150) -> float:
    """Of a step where nothing else is compiled any more."""
    full = replace(run, epochs=1, warm_up=0.0, ramp=1e-6)  # every step with bounds
    robust = compiled(full, images.x.shape[1:], 1)
    some = slice(0, count * run.batch)
    robust.fit(images.x[: 5 * run.batch], images.y[: 5 * run.batch], batch_size=run.batch, verbose=0)
    start = time.perf_counter()
    robust.fit(images.x[some], images.y[some], batch_size=run.batch, verbose=0)
    return (time.perf_counter() - start) / count


def judged(model: keras.Model, images: Data, eps: float, limit: int | None = None) -> dict[str, float]:
    """Test accuracy and verified accuracy by intervals (``tfcert.certify``) of the plain model."""
    x, y = images.x_test[:limit], images.y_test[:limit]
    right = model.predict(x, batch_size=_JUDGED, verbose=0).argmax(axis=1) == y
    options = tfcert.BoundOptions(batch_size=_JUDGED)
    proof = tfcert.certify(model, x, y, eps=eps, clip=(0, 1), method="ibp", options=options)
    return {"accuracy": float(right.mean()), "verified": float(proof.verified.mean())}


def attacked(model: keras.Model, images: Data, eps: float, *, count: int, steps: int, restarts: int) -> float:
    """Accuracy of the first ``count`` test images under PGD."""
    x, y = images.x_test[:count], images.y_test[:count]
    found = tfcert.attack(model, x, y, eps=eps, clip=(0, 1), steps=steps, restarts=restarts)
    return float(1 - np.mean(found.success))
