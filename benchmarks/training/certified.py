"""Certified training of the networks of Gowal et al. 2018: layers, data, schedules, and what a run is judged by."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfcert
from benchmarks.common.data import pixels
from benchmarks.common.unrounded import UNROUNDED
from tfcert.callbacks import IntervalWidths
from tfcert.objectives import IBP, ConstrainedIBP, Objective
from tfcert.schedules import Ramp
from tfcert.zoo.constrained_ibp import dm_network as network

_JUDGED = 1000
"""Images in one pass of the final verdicts."""


@dataclass(frozen=True)
class Run:
    """One training: everything that its result follows from, on one machine.

    Attributes:
        size: of the network: small, medium or large.
        eps: the radius in [0, 1] that is verified.
        epochs: in all; ``warm_up`` of them plain, then eps and kappa ramp for ``ramp`` epochs.
        objective: ``ibp``, ``unelided`` (IBP that bounds the logits themselves), ``constrained`` (IBP with the width
            term) or ``nominal``.
        kappa: where the ramp of the nominal loss's weight ends; it begins at 1.
        eps_factor: training is over so many times eps.
        initialize: whether kernels are drawn for intervals (Shi et al. 2021).
        rate, drops: Adam's learning rate, and after which shares of the epochs it is divided by ``divisor``.
        weight, layers, reduction: of the width term; by default means, which is what runs are that were stored before
            this could be chosen.
        images: how many of the training images, from the first; None for all.
        augment: whether images are flipped and moved by up to 4 pixels at random.
        normalize: whether a first layer normalises the channels.
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
    augment: bool = False
    normalize: bool = False
    layers: str = "all"
    reduction: str = "mean"
    images: int | None = None


@dataclass(frozen=True)
class Data:
    """Training and test images in [0, 1], channels last, and their labels."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def data(name: str, images: int | None = None) -> Data:
    """All images of ``mnist``, ``cifar`` (CIFAR-10) or ``svhn``, or the first ``images`` of those to train on."""
    (x, y), (x_test, y_test) = (pixels("cifar10" if name == "cifar" else name, split) for split in ("train", "test"))
    x, y, whole = x[:images], y[:images], np.float32(255)
    return Data(x.astype(np.float32) / whole, y, x_test.astype(np.float32) / whole, y_test)


def objective(run: Run) -> Objective:
    """The objective of a run; ``nominal`` is IBP whose robust part has no weight."""
    if run.objective == "nominal":
        return IBP(run.eps, kappa=1.0, clip=(0, 1))
    end = run.warm_up + run.ramp
    eps = Ramp(0.0, run.eps, run.warm_up, end)
    kappa = Ramp(1.0, run.kappa, run.warm_up, end)
    common: dict[str, Any] = {"kappa": kappa, "clip": (0, 1), "eps_factor": run.eps_factor}
    if run.objective == "constrained":
        return ConstrainedIBP(eps, weight=run.weight, layers=run.layers, reduction=run.reduction, **common)
    return IBP(eps, elide=run.objective != "unelided", **common)


def compiled(run: Run, images: Data, steps: int) -> tfcert.CertifiedModel:
    """The model of a run, ready to be fitted with ``steps`` steps an epoch; draws from Keras's seed."""
    x, first = images.x, []
    if run.normalize:
        first = [keras.layers.Normalization(mean=x.mean((0, 1, 2)), variance=x.var((0, 1, 2)))]
    model = network(run.size, x.shape[1:], first=first)
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


def batches(run: Run, images: Data) -> tf.data.Dataset:
    """Batches of an epoch, shuffled anew in each, and augmented as the run says."""
    whole = tf.data.Dataset.from_tensor_slices((images.x, images.y))
    found = whole.shuffle(len(images.x), seed=run.seed, reshuffle_each_iteration=True).batch(run.batch)
    if run.augment:
        draws = tf.data.Dataset.random(seed=run.seed, rerandomize_each_iteration=True).batch(2)
        found = tf.data.Dataset.zip(found, draws).map(_augmented)
    return found.prefetch(2)


def _augmented(pair: tuple[tf.Tensor, tf.Tensor], draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    x, y = pair
    x = tf.image.stateless_random_flip_left_right(x, draw)
    # One move for a batch: cheap, and over an epoch every image sees many.
    moved = tf.pad(x, [[0, 0], [4, 4], [4, 4], [0, 0]], "REFLECT")
    top, left = tf.unstack(tf.random.stateless_uniform([2], draw, 0, 9, tf.int32))
    return tf.ensure_shape(moved[:, top : top + 32, left : left + 32], x.shape), y


def fitted(
    run: Run, images: Data, *, validation: int = 0, verbose: int = 2
) -> tuple[tfcert.CertifiedModel, dict[str, Any]]:
    """Trains; returns the model, and what is stored of it: settings, seconds and history.

    Args:
        validation: after each epoch the first so many test images are verified by intervals, and the first 256
            measured.
    """
    keras.utils.set_random_seed(run.seed)
    certified, start = compiled(run, images, steps(run, images)), time.perf_counter()
    held_out = (images.x_test[:validation], images.y_test[:validation]) if validation else None
    history = certified.fit(
        batches(run, images), epochs=run.epochs, shuffle=False, validation_data=held_out, validation_batch_size=_JUDGED,
        verbose=verbose, callbacks=[IntervalWidths(images.x_test, layers=False)] if validation else [],
    )  # fmt: skip
    seconds = time.perf_counter() - start
    # Stored results name things as the first of them did.
    named = {k.replace("val_ibp_", "val_").removesuffix("/total"): values for k, values in history.history.items()}
    rows = {k: [float(f"{v:.5g}") for v in values] for k, values in named.items()}
    return certified, {"run": asdict(run), "seconds": round(seconds, 1), "history": rows}


def seconds_per_step(run: Run, images: Data, count: int = 200) -> float:
    """Of a step where everything is compiled and under way: what so many steps take longer than a few."""
    keras.utils.set_random_seed(run.seed)
    full = replace(run, epochs=1, warm_up=0.0, ramp=1e-6)  # every step with bounds
    robust = compiled(full, images, 1)
    few, seconds = 20, []
    for length in (few, few, few + count):
        # The schedules are not what is measured: they may keep the length of the first epoch.
        with warnings.catch_warnings(action="ignore"):
            some, start = slice(0, length * run.batch), time.perf_counter()
            robust.fit(images.x[some], images.y[some], batch_size=run.batch, verbose=0)
        seconds.append(time.perf_counter() - start)
    return (seconds[2] - seconds[1]) / count


def judged(model: keras.Model, images: Data, eps: float) -> dict[str, float]:
    """Test accuracy and verified accuracy by intervals (``tfcert.certify``) of the plain model."""
    x, y = images.x_test, images.y_test
    right = model.predict(x, batch_size=_JUDGED, verbose=0).argmax(axis=1) == y
    options = replace(UNROUNDED, batch_size=_JUDGED)
    proof = tfcert.certify(model, x, y, eps=eps, clip=(0, 1), method="ibp", options=options)
    return {"accuracy": float(right.mean()), "verified": float(proof.verified.mean())}


def attacked(model: keras.Model, images: Data, eps: float, *, count: int, steps: int, restarts: int) -> float:
    """Accuracy of the first ``count`` test images under PGD."""
    x, y = images.x_test[:count], images.y_test[:count]
    found = tfcert.attack(model, x, y, eps=eps, clip=(0, 1), steps=steps, restarts=restarts)
    return float(1 - np.mean(found.success))
