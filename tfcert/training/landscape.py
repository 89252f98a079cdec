"""The objective of Lee et al. 2021: CROWN-IBP with the lower lines of ReLUs that make the loss smallest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

import keras
import tensorflow as tf

from tfcert.activations import Lines
from tfcert.network.graph import Elementwise
from tfcert.propagation.bounds import relaxed_by_lines
from tfcert.training.batch import BoundedBatch
from tfcert.training.objectives import Common, Objective
from tfcert.training.schedules import Schedule

_FAR = 2.0
"""The length of the one step that slopes take: across [0, 1], whatever the gradient's size."""


@keras.saving.register_keras_serializable("tfcert")
class LossLandscapeMatters(Objective):
    """The method of Lee et al. 2021, "Towards better understanding of training certifiably robust models against
    adversarial examples" (LLM in the AbsCert paper, after the name of its code).

    ``kappa * L(logits) + (1 - kappa) * L(-m)`` with the margins m of CROWN-IBP, as :class:`CrownIBP` with ``beta=1``
    has them, but for the lower line of a ReLU that may switch. There CROWN-IBP takes the slope 0 or 1 by which side of
    the interval is longer, which jumps as weights change. Here a slope is drawn from [0, 1] for each sample and neuron,
    and goes one step against the sign of the loss's gradient, to 0 or 1 where that is not zero: the bound is tighter,
    and the paper finds its loss smoother. No gradient flows through the choice. Any slope is sound.

    Args:
        eps, common: see :class:`Objective`; ``kappa`` is 0 by default, where the paper's schedule ends.
        seed: of the draws, which follow from it and the step of training alone.
    """

    def __init__(self, eps: float | Schedule, *, seed: int = 0, **common: Unpack[Common]):
        super().__init__(eps, **common)
        self.seed = int(seed)

    def robust(self, batch: BoundedBatch) -> tf.Tensor:
        hinges = _Hinges(batch)
        drawn = hinges.drawn(self.seed)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(drawn)
            loss = batch.classify(-hinges.margins(drawn))
        uphill = tape.gradient(loss, drawn, unconnected_gradients="zero")
        places = [
            tf.stop_gradient(tf.clip_by_value(place - _FAR * tf.sign(slope), 0.0, 1.0))
            for place, slope in zip(drawn, uphill, strict=True)
        ]
        return batch.classify(-hinges.margins(places))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"seed": self.seed}


class _Hinges:
    """The ReLUs (and leaky ones) of a batch's network, whose lower lines are chosen."""

    def __init__(self, batch: BoundedBatch):
        self.batch = batch
        self.relaxed = relaxed_by_lines(batch.network, batch.ranges)
        self.slopes = {}
        for index, node in enumerate(batch.network.nodes):
            if isinstance(node, Elementwise) and node.activation.closed_form is not None:
                between, _ = node.activation.slope_ranges(*batch.ranges[node.inputs[0]])
                assert between is not None  # so it is of a convex function of two pieces
                self.slopes[index] = between

    def drawn(self, seed: int) -> list[tf.Tensor]:
        """A place in [0, 1] for each sample and neuron, node by node."""
        step, first = tf.cast(self.batch.step, tf.int64), tf.constant(seed, tf.int64)
        found = []
        for place, (least, _) in enumerate(self.slopes.values()):
            own = tf.stack([first, step * len(self.slopes) + place])
            found.append(tf.random.stateless_uniform(tf.shape(least), own, dtype=least.dtype))
        return found

    def margins(self, places: list[tf.Tensor]) -> tf.Tensor:
        """The margins ``[batch, classes]`` with each lower slope at its place between the least and the greatest."""
        lines = dict(self.relaxed.lines)
        for (index, (least, most)), place in zip(self.slopes.items(), places, strict=True):
            line = lines[index]
            assert isinstance(line, Lines)
            lines[index] = line._replace(lower_slope=tf.stop_gradient(least) + place * tf.stop_gradient(most - least))
        return self.batch.line_margins(replace(self.relaxed, lines=lines))
