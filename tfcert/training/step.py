"""One step of certified training: the nominal pass, the bounds, the loss and its gradients."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import tensorflow as tf

from tfcert.network.keras.layers import batch_statistics
from tfcert.network.keras.private import aggregated, compiled_loss
from tfcert.propagation.centered import sweep
from tfcert.rigour.margins import label_rounding
from tfcert.training.balance import filled
from tfcert.training.batch import BoundedBatch, boxes
from tfcert.training.losses import is_crossentropy, one_hot
from tfcert.training.normalization import recorded_statistics, same_in_training


class Labelled(NamedTuple):
    """A batch as Keras hands it to a step."""

    x: Any
    y: Any
    sample_weight: Any


class StepResult(NamedTuple):
    """Results of a step: the loss, the nominal logits, the certified margins ``[batch]`` and the gradients.

    And what rounding may take from the margins, which is left out of account while training.
    """

    loss: tf.Tensor
    logits: tf.Tensor
    margin: tf.Tensor
    gradients: tuple[Any, ...] = ()
    rounding: tf.Tensor | float = 0.0


class Stepper:
    """The steps of a certified model, without state of their own.

    Where nothing robust has a weight (``kappa`` is 1 and no regularizer has one) a step is Keras's own, operation by
    operation: bounds are computed for the metric alone, so that not even a NaN of theirs can reach a weight. Which kind
    of step is next is decided outside of the compiled step: XLA's convolutions inside a condition were seen to take 40
    times as long on a CPU.
    """

    def __init__(self, model: Any):
        self.model = model

    def plain(self, labelled: Labelled, eps: tf.Tensor, step: tf.Tensor) -> StepResult:
        """A step of plain training; gradients are of the loss as the optimizer scales it."""
        model = self.model
        radius = eps * model.objective.eps_factor
        with tf.GradientTape() as tape:
            logits, statistics = self._nominal(labelled.x)
            loss = model.compute_loss(labelled.x, labelled.y, logits, labelled.sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_weights)
        with batch_statistics(statistics):
            margin = self._batch(labelled, radius, step).least_margin()
        return StepResult(loss, logits, margin, tuple(gradients))

    def robust(
        self, labelled: Labelled, eps: tf.Tensor, kappa: tf.Tensor, step: tf.Tensor, by_lines: bool = True
    ) -> StepResult:
        """A step of certified training; gradients are of the loss as the optimizer scales it.

        Should ``kappa`` be 1 after all, and nothing be regularized, the boxes shrink to points: what is multiplied by
        zero is finite then. Nothing is verified in such a step.
        """
        model = self.model
        together = same_in_training(model.model)
        radius, counts = eps * model.objective.eps_factor, tf.constant(True)
        if not model.objective.is_always_robust():
            counts = kappa < 1.0
            radius = tf.where(counts, radius, tf.zeros_like(radius))
        with tf.GradientTape(persistent=model.balance is not None) as tape:
            logits, statistics = (None, {}) if together else self._nominal(labelled.x)
            with batch_statistics(statistics):
                batch = self._batch(labelled, radius, step, with_values=together, by_lines=by_lines)
                if together:
                    logits = tf.ensure_shape(batch.sweep.values[-1], [None, *model.network.output_shape])
                parts = model.objective.parts(batch) if model.balance else ()
                loss = self._loss(batch, labelled, logits, kappa, tf.zeros_like(parts[0]) if parts else None)
                margin = batch.least_margin()
            scaled, *each = (model.optimizer.scale_loss(part) for part in (loss, *parts))
        margin = tf.where(counts, margin, tf.fill(tf.shape(margin), tf.constant(float("nan"), margin.dtype)))
        gradients = tape.gradient(scaled, model.trainable_weights)
        if parts:
            share = 1.0 - tf.cast(kappa, loss.dtype)
            loss = loss + share * tf.add_n(list(parts))
            gradients = self._balanced(
                gradients, [tape.gradient(part, model.trainable_weights) for part in each], share
            )
        return StepResult(loss, logits, margin, tuple(gradients))

    def _balanced(self, rest: Any, pair: list[Any], share: tf.Tensor) -> list[tf.Tensor]:
        """The gradients of the rest of a loss, and ``share`` of what its two parts come to by their balance."""
        weights = self.model.trainable_weights
        first, second = (filled(gradients, weights) for gradients in pair)
        one, two = self.model.balance.coefficients(first, second)
        return [
            other + tf.cast(share, a.dtype) * (tf.cast(one, a.dtype) * a + tf.cast(two, a.dtype) * b)
            for other, a, b in zip(filled(rest, weights), first, second, strict=True)
        ]

    def test(self, labelled: Labelled) -> StepResult:
        """The loss and the margins at the schedules' final values; batch normalisation uses moving statistics."""
        model, objective = self.model, self.model.objective
        eps, kappa = tf.constant(objective.eps.final), tf.constant(objective.kappa.final)
        step = model._steps()
        logits = model(labelled.x, training=False)
        batch = self._batch(labelled, eps, step, by_lines=math.isinf(objective.lines_until()))
        rounding = label_rounding(model.network, batch.region, batch.labels)
        return StepResult(self._loss(batch, labelled, logits, kappa), logits, batch.least_margin(), rounding=rounding)

    def _nominal(self, x: Any) -> tuple[tf.Tensor, dict[int, tuple[Any, Any]]]:
        """The logits in training mode, and the statistics that bounds are to use."""
        if self.model.objective.batch_norm == "moving":
            return self.model(x, training=True), {}
        with recorded_statistics(self.model.model) as statistics:
            logits = self.model(x, training=True)
        return logits, statistics

    def _batch(
        self,
        labelled: Labelled,
        radius: tf.Tensor,
        step: tf.Tensor,
        with_values: bool = False,
        by_lines: bool = True,
    ) -> BoundedBatch:
        model, network, objective = self.model, self.model.network, self.model.objective
        x = model.inputs_of_network(labelled.x)
        region = boxes(x, tf.cast(radius, network.dtype), model.clip, model.scale)
        weights = labelled.sample_weight
        return BoundedBatch(
            network=network,
            region=region,
            sweep=sweep(network, region, x if with_values else None),
            labels=one_hot(labelled.y, network.output_shape[0], network.dtype),
            classify=lambda logits: self._classification(labelled, logits),
            weights=None if weights is None else tf.cast(tf.reshape(weights, [-1]), network.dtype),
            eps=radius,
            final_eps=objective.eps.final * objective.eps_factor,
            is_crossentropy=is_crossentropy(model.loss),
            by_lines=by_lines,
            step=step,
        )

    def _classification(self, labelled: Labelled, logits: tf.Tensor) -> tf.Tensor:
        # Bounds of a batch whose size is not known may have lost the number of classes, by which losses tell labels.
        logits = tf.ensure_shape(logits, [None, *self.model.network.output_shape])
        return compiled_loss(self.model, labelled.y, logits, labelled.sample_weight)

    def _loss(
        self,
        batch: BoundedBatch,
        labelled: Labelled,
        logits: tf.Tensor,
        kappa: tf.Tensor,
        known: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """``kappa * nominal + (1 - kappa) * robust``, the regularizers, and what the model's layers add.

        ``known`` stands for the robust part where it is given.
        """
        model, objective = self.model, self.model.objective

        def robust() -> tf.Tensor:
            return objective.robust(batch) if known is None else known

        kappa = tf.cast(kappa, logits.dtype)
        if objective.is_plain():
            total = self._classification(labelled, logits)
        elif tf.get_static_value(kappa) == 0.0:
            total = robust()
        elif tf.get_static_value(kappa) == 1.0:
            total = self._classification(labelled, logits)
        else:
            total = kappa * self._classification(labelled, logits) + (1.0 - kappa) * robust()
        added = [term(batch) for term in objective.terms] + list(model.losses)
        return tf.add_n([total, *(aggregated(model, loss) for loss in added)])
