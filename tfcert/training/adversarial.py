"""Objectives that mix the loss at an attack's points with the loss at interval bounds."""

from __future__ import annotations

from typing import Any, Unpack

import keras
import tensorflow as tf

from tfcert.sets.region import Region
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
    """``robust = (1 - alpha) * L(logits at the attack's points) + alpha * L(worst-case logits by IBP)``."""

    default_alpha = 0.5

    def __init__(
        self,
        eps: float | Schedule,
        *,
        alpha: float | Schedule | None = None,
        attack_steps: int = 1,
        attack_factor: float = 1.0,
        seed: int = 0,
        **common: Unpack[Common],
    ):
        super().__init__(eps, **common)
        self.alpha = schedule(self.default_alpha if alpha is None else loaded(alpha))
        for value in (self.alpha.final, float(getattr(self.alpha, "start", self.alpha.final))):
            if not 0 <= value <= 1:
                raise ValueError(f"alpha must stay in [0, 1], but reaches {value}")
        if attack_steps < 1 or not 0 < attack_factor <= 1:
            raise ValueError(
                f"an attack needs at least one step and a factor in (0, 1], not {attack_steps} and {attack_factor}"
            )
        self.attack_steps, self.attack_factor, self.seed = int(attack_steps), float(attack_factor), int(seed)

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        return (*super().schedules, self.alpha)

    def robust(self, batch: BoundedBatch) -> tf.Tensor:
        alpha = tf.cast(self.alpha(batch.step, self.steps_per_epoch), batch.network.dtype)
        points = ascent(batch, self.attack_factor, self.attack_steps, self.seed)
        attacked = batch.classify(batch.network(points))
        return (1.0 - alpha) * attacked + alpha * interval_loss(batch)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "alpha": saved(self.alpha),
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


@keras.saving.register_keras_serializable("tfcert")
class AdvIBP(_Attacking):
    """Adversarial and IBP losses, mixed, after AdvIBP (Fan & Li 2021, "Adversarial training and provable robustness: a
    tale of two objectives"), a competitor in the AbsCert paper.

    What is here: the adversarial loss by FGSM with a random start over the whole ball, the robust loss by IBP, and
    ``(1 - alpha) * adversarial + alpha * robust`` with an ``alpha`` that is given (0.5, or a schedule). What is left
    out: the paper's own rule, which balances the two gradients anew at each step, and everything latent (no attack on
    hidden layers). AbsCert's other competitors, LLM (Lee et al. 2021, loss landscape) and LBP (Lyu et al. 2021, linear
    bounds with a ramped ReLU), are left out altogether: neither their bounds nor their losses are part of this class.
    Results are therefore not those of the paper's code.

    Args: as for :class:`MTLIBP`.
    """
