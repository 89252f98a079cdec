"""From an objective's template to what Keras trains: model, objective, optimizer and callbacks."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfcert.driver.train.bind import Trainable
from tfcert.language import BallSpec, CosineRate, Named, RampSpec, Rate, Scheduled
from tfcert.network import with_preprocessing
from tfcert.network.keras.private import layers_within
from tfcert.training import (
    IBP,
    MTLIBP,
    AdvIBP,
    CertifiedModel,
    ConstrainedIBP,
    CrownIBP,
    DualLP,
    IntervalWidth,
    LossLandscapeMatters,
    Objective,
    Regularizer,
    ReluBalance,
    Tightness,
    ibp_initialize,
    schedules,
)
from tfcert.training.callbacks import CertifiedEvaluation, IntervalWidths
from tfcert.training.tuner import GranularityTuner

_OBJECTIVES: dict[str, type[Objective]] = {
    "ibp": IBP, "constrained_ibp": ConstrainedIBP, "crown_ibp": CrownIBP, "dual_lp": DualLP, "mtl_ibp": MTLIBP,
    "adv_ibp": AdvIBP, "loss_landscape_matters": LossLandscapeMatters,
}  # fmt: skip
_SEEDED = ("mtl_ibp", "adv_ibp", "loss_landscape_matters")
_REGULARIZERS: dict[str, type[Regularizer]] = {
    "interval_width": IntervalWidth, "tightness": Tightness, "relu_balance": ReluBalance,
}  # fmt: skip
_OPTIMIZERS: dict[str, type[keras.Optimizer]] = {
    "adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD,
}  # fmt: skip


def starting_model(bound: Trainable) -> keras.Model:
    """The model with the weights that training starts from; it is the one that was loaded."""
    model, how = bound.model.model, bound.objective.initialize
    if how != "keep":
        draw_afresh(model)
    if how == "ibp":
        ibp_initialize(model, bound.objective.seed)
    return model


def draw_afresh(model: keras.Model) -> None:
    """New weights by each layer's own initialisers; what a Normalization layer was adapted to stays."""
    adapted = {
        id(variable)
        for layer in layers_within(model)
        if isinstance(layer, keras.layers.Normalization)
        for variable in layer.variables
    }
    for variable, fresh in zip(model.variables, keras.models.clone_model(model).variables, strict=True):
        if id(variable) not in adapted:
            variable.assign(fresh)


def certified_model(bound: Trainable, model: keras.Model, steps_per_epoch: int) -> CertifiedModel:
    """The model as it is trained, compiled: behind its normalisation where training takes place before that."""
    trained = model
    if bound.normalization is not None:
        mean, std = bound.normalization
        trained = with_preprocessing(model, mean=mean, std=std)
    certified = CertifiedModel(trained, _objective(bound))
    rate = learning_rate(bound.objective.learning_rate, steps_per_epoch, bound.objective.epochs)
    certified.compile(optimizer(bound.objective.optimizer, rate), metrics=["accuracy"])
    return certified


def _objective(bound: Trainable) -> Objective:
    template = bound.objective
    options = _plain(template.bound)
    if template.mixture is not None:
        options["beta" if template.bound.name == "crown_ibp" else "alpha"] = _schedule(template.mixture)
    if template.bound.name in _SEEDED:
        options["seed"] = template.seed
    return _OBJECTIVES[template.bound.name](
        _schedule(template.eps, bound.eps),
        kappa=_schedule(template.natural_weight),
        clip=bound.clip,
        regularizers=[_REGULARIZERS[r.name](**_plain(r)) for r in template.regularizers],
        eps_factor=float(template.eps_factor),
        batch_norm=template.batch_norm,
        **options,
    )


def _plain(named: Named) -> dict[str, Any]:
    """Options as Python's numbers, texts and truth values."""
    return {name: float(value) if isinstance(value, Fraction) else value for name, value in named.options}


def _schedule(value: Scheduled, convert: Callable[[Fraction], float] = float) -> schedules.Schedule:
    if not isinstance(value, RampSpec):
        return schedules.Constant(convert(value))
    ends = convert(value.start), convert(value.stop)
    return schedules.Ramp(*ends, float(value.begin), float(value.end), unit=value.unit, shape=value.shape)


def learning_rate(rate: Rate, steps_per_epoch: int, epochs: int) -> Any:
    """A number, steps down at the moments that are given, or a cosine to the end of the training."""
    if isinstance(rate, CosineRate):
        warm = round(rate.warmup * steps_per_epoch)
        falling = max(1, epochs * steps_per_epoch - warm)
        share = float(rate.final / rate.peak)
        if not warm:
            return keras.optimizers.schedules.CosineDecay(float(rate.peak), falling, share)
        return keras.optimizers.schedules.CosineDecay(
            0.0, falling, share, warmup_target=float(rate.peak), warmup_steps=warm
        )
    if not rate.at:
        return float(rate.initial)
    size = steps_per_epoch if rate.unit == "epochs" else 1
    values = [float(rate.initial * rate.factor**i) for i in range(len(rate.at) + 1)]
    # Keras changes the rate after the boundary's step, counted from 0.
    boundaries = [moment * size - 1 for moment in rate.at]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


def optimizer(named: Named, rate: Any) -> keras.Optimizer:
    options = _plain(named)
    clip = options.pop("clip_norm", None)
    return _OPTIMIZERS[named.name](rate, global_clipnorm=clip, **options)


def held_out_callbacks(
    bound: Trainable, tensorboard: Path | None = None, widths: bool = False
) -> list[keras.callbacks.Callback]:
    """Callbacks that look at held-out samples while training goes on, and TensorBoard's where it is asked for."""
    objective, asked = bound.objective, bound.asked
    assert isinstance(asked.region, BallSpec)
    attack = None
    if objective.attack is not None:
        attack = {"method": objective.attack.method} | _plain(Named("attack", objective.attack.options))
    held_out = bound.held_out.x, bound.held_out.y
    eps = bound.eps(asked.region.eps)
    evaluation = CertifiedEvaluation(
        held_out,
        eps=eps,
        method=objective.verify.method,
        every=objective.verify_every,
        attack=attack,
        clip=bound.clip,
    )
    written = None if tensorboard is None else tensorboard / "widths"
    looking = [evaluation, *_tuner(bound), IntervalWidths(held_out, written, eps=eps, layers=widths)]
    if tensorboard is None:
        return looking
    return [*looking, keras.callbacks.TensorBoard(str(tensorboard))]


def paper_eps(bound: Trainable) -> float:
    """The property's radius, for comparison with half of a granularity.

    That no floor is below two eps was checked exactly; rounded, the two must not seem to break that.
    """
    assert isinstance(bound.asked.region, BallSpec)
    return float(np.nextafter(bound.eps(bound.asked.region.eps), 0.0))


def _tuner(bound: Trainable) -> list[keras.callbacks.Callback]:
    """The callback that lowers the abstraction's granularity while training goes on, if the specification says so."""
    asked = bound.asked
    tuning = None if asked.abstraction is None else asked.abstraction.tuning
    if tuning is None or tuning.name != "descend":
        return []
    held_out = bound.held_out.x, bound.held_out.y
    tuner = GranularityTuner(
        held_out,
        eps=paper_eps(bound),
        step=float(tuning.step),
        floor=float(tuning.floor),
        every=bound.objective.verify_every,
        stop_on_gradient=tuning.stop_on_gradient,
        train=(bound.train.x, bound.labels),
        # Training with bounds has no aim in the abstraction error, which is least where bounds count little.
        monitor="val_verified_accuracy" if bound.objective.trains_bounds else "val_abstraction_error",
    )
    return [tuner]
