"""Objectives of the loss at an attack's points and of the loss at interval bounds."""

from __future__ import annotations

from typing import Any, Unpack

import keras
import tensorflow as tf

from tfcert.sets.region import Region
from tfcert.training.balance import GradientBalance, trained_size
from tfcert.training.batch import BoundedBatch
from tfcert.training.objectives import Common, Objective, interval_loss
from tfcert.training.schedules import Schedule, loaded, saved, schedule


def ascent(batch: BoundedBatch, factor: float, steps: int, seed: int) -> tf.Tensor:
    """Points of the boxes at which the classification loss is high, ``[batch, *input]``, without gradient.

    A random start and ``steps`` signed gradient steps (PGD, Madry et al. 2018; one step: FGSM with a random start, Wong
    et al. 2020) on the network that is bounded: dropout is off, and batch normalisation uses the statistics that the
    bounds use. The start depends on ``seed`` and the step of training only, so that a resumed run draws the same.

    Args:
        batch: the batch.
        factor: the size of the attacked boxes as a part of the bounded ones, at most 1.
        steps: gradient steps, a single one of 1.25 radii, several of ``2.5 / steps`` radii each.
        seed: of the starts.
    """
    x = batch.region.center
    lower, upper = _shrunk(batch.region, factor)
    noise = tf.random.stateless_uniform(
        tf.shape(x), tf.stack([tf.constant(seed, tf.int64), tf.cast(batch.step, tf.int64)]), dtype=x.dtype
    )
    point = tf.stop_gradient(lower + (upper - lower) * noise)
    length = (1.25 if steps == 1 else 2.5 / steps) * 0.5 * tf.stop_gradient(upper - lower)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(point)
            loss = batch.classify(batch.network(point))
        uphill = tf.sign(tape.gradient(loss, point))
        point = tf.stop_gradient(tf.clip_by_value(point + length * uphill, lower, upper))
    return point


def _shrunk(region: Region, factor: float) -> tuple[tf.Tensor, tf.Tensor]:
    """The boxes with each side ``factor`` times as far from the centre."""
    down, up = region.center - region.lower, region.upper - region.center
    return region.center - factor * down, region.center + factor * up


class _Attacking(Objective):
    """An objective with the loss at an attack's points."""

    def __init__(
        self,
        eps: float | Schedule,
        *,
        attack_steps: int = 1,
        attack_factor: float = 1.0,
        seed: int = 0,
        **common: Unpack[Common],
    ):
        super().__init__(eps, **common)
        if attack_steps < 1 or not 0 < attack_factor <= 1:
            raise ValueError(
                f"an attack needs at least one step and a factor in (0, 1], not {attack_steps} and {attack_factor}"
            )
        self.attack_steps, self.attack_factor, self.seed = int(attack_steps), float(attack_factor), int(seed)

    def attacked(self, batch: BoundedBatch) -> tf.Tensor:
        """The loss at the attack's points."""
        return batch.classify(batch.network(ascent(batch, self.attack_factor, self.attack_steps, self.seed)))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "attack_steps": self.attack_steps,
            "attack_factor": self.attack_factor,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("tfcert")
class MTLIBP(_Attacking):
    """MTL-IBP (De Palma et al. 2024, "Expressive losses for verified robustness via convex combinations").

    ``(1 - alpha) * L(logits at an attack's points) + alpha * L(worst-case logits by IBP)``; the kappa of
    :class:`Objective` mixes the nominal loss in as well and is 0 by default. Small alphas leave bounds that IBP does
    not verify but tighter methods do.

    Args:
        eps, common: see :class:`Objective`.
        alpha: the weight of the IBP loss, in [0, 1]; a number or a schedule.
        attack_steps: gradient steps of the attack (:func:`ascent`); 1 is FGSM with a random start.
        attack_factor: the attack's radius as a part of the training radius, at most 1.
        seed: of the attack's random starts.
    """

    def __init__(
        self,
        eps: float | Schedule,
        *,
        alpha: float | Schedule = 0.5,
        attack_steps: int = 1,
        attack_factor: float = 1.0,
        seed: int = 0,
        **common: Unpack[Common],
    ):
        super().__init__(eps, attack_steps=attack_steps, attack_factor=attack_factor, seed=seed, **common)
        self.alpha = schedule(loaded(alpha))
        for value in (self.alpha.final, float(getattr(self.alpha, "start", self.alpha.final))):
            if not 0 <= value <= 1:
                raise ValueError(f"alpha must stay in [0, 1], but reaches {value}")

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        return (*super().schedules, self.alpha)

    def robust(self, batch: BoundedBatch) -> tf.Tensor:
        alpha = tf.cast(self.alpha(batch.step, self.steps_per_epoch), batch.network.dtype)
        return (1.0 - alpha) * self.attacked(batch) + alpha * interval_loss(batch)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"alpha": saved(self.alpha)}


@keras.saving.register_keras_serializable("tfcert")
class AdvIBP(_Attacking):
    """AdvIBP (Fan & Li 2021, "Adversarial training and provable robustness: a tale of two objectives").

    Two losses are lowered together: that at an attack's points (FGSM with a random start) and that of the worst-case
    logits by IBP. How much either counts in a step is not given but found from moving averages of their gradients: see
    :class:`~tfcert.training.balance.GradientBalance`. The loss in the logs is ``kappa * L(logits) + (1 - kappa) *
    (adversarial + IBP)``, unweighted; the gradient is that of ``kappa * L(logits) + (1 - kappa) * (c1 * adversarial +
    c2 * IBP)``. A step takes a backward pass more than MTL-IBP's.

    What the authors' program has besides: a phase of adversarial training alone before the IBP loss comes in (here
    both radii follow ``eps``), a switch of the two roles by how well the attack has converged, which most of its
    settings leave off, and further rounds that train from a later layer on.

    Args:
        eps, common: see :class:`Objective`.
        attack_steps, attack_factor, seed: as for :class:`MTLIBP`.
        decay: of the moving averages, in [0, 1).
    """

    def __init__(
        self,
        eps: float | Schedule,
        *,
        attack_steps: int = 1,
        attack_factor: float = 1.0,
        seed: int = 0,
        decay: float = 0.9,
        **common: Unpack[Common],
    ):
        super().__init__(eps, attack_steps=attack_steps, attack_factor=attack_factor, seed=seed, **common)
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, not {decay}")
        self.decay = float(decay)

    def parts(self, batch: BoundedBatch) -> tuple[tf.Tensor, tf.Tensor]:
        return self.attacked(batch), interval_loss(batch)

    def robust(self, batch: BoundedBatch) -> tf.Tensor:
        return tf.add_n(list(self.parts(batch)))

    def balance(self, model: keras.Model) -> GradientBalance:
        return GradientBalance(trained_size(model), self.decay, name="balance")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"decay": self.decay}
