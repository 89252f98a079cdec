"""Abstraction-based training (AbsCert, Zhang et al. 2023): networks, schedule, and what a run is judged by.

Images are in [-1, 1] here, as in the paper, and so are eps and d: an eps of 0.1 in [0, 1] is one of 0.2.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfcert
from benchmarks.common.unrounded import UNROUNDED
from benchmarks.training import certified
from tfcert.layers import IntervalAbstraction, ParamRamp
from tfcert.objectives import IBP, AdvIBP, CrownIBP, LossLandscapeMatters, Objective
from tfcert.schedules import Ramp
from tfcert.zoo import abscert, constrained_ibp

RANGE = abscert.RANGE
COMPETITORS = ("llm", "lbp", "adv_ibp")
"""The methods of AbsCert's table 1, as they are here: bounds of a network that receives pixels, no cells."""
_MLP = (256, 128)
"""Hidden layers of ``mlp``, which is ours; the other networks are AbsCert's."""
_WARM_UP = 0.1
_JUDGED = 1000
_PGD = {"steps": 40, "restarts": 3}


@dataclass(frozen=True)
class Run:
    """One training behind an abstraction.

    Attributes:
        network: ``dm_small``, ``dm_medium``, ``dm_large``, ``fc3``, ``fc5`` or ``mlp``.
        activation: ``relu``, ``sigmoid`` or ``tanh``.
        granularity: d, in [-1, 1].
        eps: the radius that is attacked and certified, in [-1, 1]; trained for where ``training`` is ``reachable``.
        training: ``abstrain`` (the paper's Algorithm 2: plain training on cells), ``reachable`` (IBP over the cells
            that the ball reaches; eps and kappa ramp for a third of the epochs), or one of ``COMPETITORS`` (no cells,
            and eps ramps for half of the epochs).
        epochs, seed, batch, rate: of Adam, whose rate warms up linearly for a tenth of the steps, then falls as a
            cosine to 0.
    """

    network: str
    granularity: float
    eps: float
    training: str = "abstrain"
    activation: str = "relu"
    epochs: int = 30
    seed: int = 0
    batch: int = 128
    rate: float = 1e-3
    kappa: float = 0.0


def data(name: str) -> certified.Data:
    """All images of ``mnist`` or ``cifar``, in [-1, 1]."""
    found = certified.data(name)
    return certified.Data(2 * found.x - 1, found.y, 2 * found.x_test - 1, found.y_test)


def network(run: Run, shape: tuple[int, ...], granularity: float | None = None) -> keras.Model:
    """The network behind its abstraction, untrained; a competitor's has none."""
    if run.training in COMPETITORS:
        plain = constrained_ibp.dm_network(run.network.removeprefix("dm_"), shape, activation=run.activation)
        return ramped(plain) if run.training == "lbp" else plain
    width = granularity or run.granularity
    if run.network != "mlp":
        return abscert.cell_network(run.network, shape, width, activation=run.activation)
    first: list[keras.layers.Layer] = [IntervalAbstraction(width, RANGE)]
    return abscert.perceptron(_MLP, shape, first=first, activation=run.activation, name="mlp")


def ramped(model: keras.Model) -> keras.Model:
    """The same layers with ParamRamp for every activation (LBP & Ramp, Lyu et al. 2021)."""
    layers: list[Any] = [keras.Input(model.input_shape[1:])]
    for layer in model.layers:
        config = layer.get_config()
        bends = config.get("activation") not in (None, "linear")
        layers.append(type(layer).from_config(config | ({"activation": "linear"} if bends else {})))
        layers += [ParamRamp(0.01)] if bends else []
    return keras.Sequential(layers, name=model.name)


class Annealed(keras.callbacks.Callback):
    """Takes the slopes of ParamRamps from 0.01 to 0 in the last third of the training, as the paper does."""

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        left = min(1.0, 3 * (1 - (epoch + 1) / self.epochs))
        for layer in getattr(self.model, "plain_model", self.model).layers:
            if isinstance(layer, ParamRamp):
                layer.slope = 0.01 * left


def competitor(run: Run) -> Objective:
    """The objective of a competitor."""
    ramp = run.epochs / 2
    eps, falling = Ramp(0.0, run.eps, 0, ramp), Ramp(1.0, 0.0, 0, ramp)
    if run.training == "adv_ibp":
        return AdvIBP(eps, clip=RANGE)
    if run.training == "llm":
        return LossLandscapeMatters(eps, kappa=falling, clip=RANGE)
    return CrownIBP(eps, kappa=falling, beta=falling, clip=RANGE)


def rate(run: Run, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """The paper's schedule for so many steps in all."""
    warm = max(1, round(_WARM_UP * steps))
    return keras.optimizers.schedules.CosineDecay(0.0, steps - warm, warmup_target=run.rate, warmup_steps=warm)


def compiled(run: Run, images: certified.Data, granularity: float | None = None) -> keras.Model:
    """The model, ready to be fitted with :func:`batches`; draws from Keras's seed."""
    keras.utils.set_random_seed(run.seed)
    model: Any = network(run, images.x.shape[1:], granularity)
    steps = run.epochs * certified.steps(run, images)
    if run.training == "reachable":
        tfcert.ibp_initialize(model, run.seed)
        ramp = run.epochs / 3
        objective = IBP(Ramp(0.0, run.eps, 0, ramp), kappa=Ramp(1.0, run.kappa, 0, ramp), clip=RANGE)
        model = tfcert.CertifiedModel(model, objective)
    elif run.training in COMPETITORS:
        model = tfcert.CertifiedModel(model, competitor(run))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate(run, steps)), loss, metrics=["accuracy"], jit_compile=False)
    return model


def fitted(run: Run, images: certified.Data, verbose: int = 0) -> tuple[keras.Model, dict[str, Any]]:
    """Trains; returns the plain model, and what is stored of the run."""
    model = compiled(run, images)
    start = time.perf_counter()
    whole = tf.data.Dataset.from_tensor_slices((images.x, images.y))
    batches = whole.shuffle(len(images.x), seed=run.seed, reshuffle_each_iteration=True).batch(run.batch).prefetch(2)
    callbacks = [Annealed(run.epochs)] if run.training == "lbp" else []
    model.fit(batches, epochs=run.epochs, shuffle=False, verbose=verbose, callbacks=callbacks)
    each = (time.perf_counter() - start) / run.epochs
    return getattr(model, "plain_model", model), {"run": asdict(run), "seconds_per_epoch": round(each, 2)}


def judged(model: keras.Model, run: Run, images: certified.Data, count: int = 1000) -> dict[str, Any]:
    """Errors of the test images: the paper's figure, and beside it an attack's and certified ones.

    Interval bounds are of all test images; the attack and CROWN take the first ``count``.
    """
    x, y, found = images.x_test, images.y_test, {}
    found["test_error"] = float((model.predict(x, batch_size=_JUDGED, verbose=0).argmax(axis=1) != y).mean())
    model.predict(x[:_JUDGED], batch_size=_JUDGED, verbose=0)
    start = time.perf_counter()
    if run.training not in COMPETITORS:
        eps = run.eps if 2 * run.eps <= run.granularity else None
        found["abstraction_error"] = tfcert.abstraction_error(model, x, y, eps=eps).error
        found["abstraction_seconds"] = round(time.perf_counter() - start, 3)
    some = x[:count], y[:count]
    attack = tfcert.attack(model, *some, eps=run.eps, clip=RANGE, **_PGD)
    found |= {"attack_error": float(np.mean(attack.success)), "count": count}
    for method, (inputs, labels) in {"ibp": (x, y), "crown": some}.items():
        options = replace(UNROUNDED, batch_size=_JUDGED if method == "ibp" else 100)
        tfcert.certify(model, inputs[:100], labels[:100], eps=run.eps, clip=RANGE, method=method, options=options)
        start = time.perf_counter()
        proof = tfcert.certify(model, inputs, labels, eps=run.eps, clip=RANGE, method=method, options=options)
        found[f"{method}_seconds"] = round(time.perf_counter() - start, 3)
        found[f"{method}_error"] = float(1 - proof.verified.mean())
    return found
