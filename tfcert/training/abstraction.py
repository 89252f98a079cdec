"""AbsCert's own figure of a classifier that was trained on intervals, and the gradients that tune its granularity."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.clauses import strictly_right
from tfcert.given import radius
from tfcert.network.abstraction import IntervalAbstraction, abstraction_of, simplest
from tfcert.showing import ShownResult, several
from tfcert.training.samples import arrays
from tfcert.verdict import Guarantee


@dataclass(frozen=True)
class AbstractionErrors(ShownResult):
    """AbsCert's "verified error": not a guarantee for the deployed classifier, see :func:`abstraction_error`.

    Attributes:
        wrong: bool ``[batch]``: the abstracted sample is misclassified; a tie is an error.
        granularity: of the abstraction, a float or an array.
    """

    wrong: np.ndarray
    granularity: Any
    method: str = "abstraction"
    guarantee: Guarantee = Guarantee.ESTIMATE

    @property
    def error(self) -> float:
        """The share of samples that are misclassified."""
        return float(self.wrong.mean())

    def __repr__(self) -> str:
        return (
            f"abstraction error {self.error:.2%} ({self.wrong.sum()} of {len(self.wrong)} samples, granularity "
            f"{several(self.granularity)}; {self.guarantee.value}): AbsCert's figure of clean samples, NOT a guarantee "
            "for the deployed classifier, whose inputs reach other cells; tfcert.certify bounds it over all of those"
        )


def abstraction_error(
    model: Any, x: Any, y: Any = None, *, eps: Any = None, batch_size: int = 256
) -> AbstractionErrors:
    """The share of samples whose abstracted clean image is misclassified: AbsCert's VERIFY, their "verified error".

    VERIFY (Zhang et al. 2023, section 4.1) abstracts the ball around a sample by phi (Algorithm 1) and classifies the
    interval vector that results. For ``eps <= d / 2`` phi of the ball is the cell of the sample, whatever eps is, so
    the figure depends on the granularity d alone. It says how clean samples are classified. It guarantees nothing for
    the deployed classifier, to which a perturbed input is given: with d = 0.2, eps = 0.1 and x = 0.05 the ball reaches
    -0.01, whose cell is [-0.2, 0], an interval that was never looked at. :func:`tfcert.certify` bounds the classifier
    over all reachable cells.

    Args:
        model: a Keras model or a CertifiedModel with one :class:`~tfcert.layers.IntervalAbstraction`.
        x, y: samples and labels, in the forms that :func:`tfcert.certify` takes.
        eps: the radius that the paper's figure is said to be for, in the units of x: checked, and nothing else.
        batch_size: samples in one pass.

    Returns:
        An :class:`AbstractionErrors`: ``wrong`` ``[batch]``, ``error``, and that it is an estimate.

    Raises:
        ValueError: the model has no abstraction, or several; ``eps`` is above d / 2, where phi is not defined; samples
            that do not fit labels, or a label that is no class.
    """
    layer = abstraction_of(model)
    if eps is not None:
        eps = float(radius(eps))
        check_eps(simplest(float(np.min(layer.granularity))), eps)
    x, labels = arrays((x, y))
    outputs = model.predict(x, batch_size=batch_size, verbose=0)
    return AbstractionErrors(~strictly_right(outputs, labels), layer.granularity)


def check_eps(granularity: Fraction, eps: float) -> None:
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps must be a number from 0 on, not {eps}")
    least = 2 * simplest(float(eps))
    if granularity < least:
        enough = float(least)
        if simplest(enough) < least:
            enough = math.nextafter(enough, math.inf)
        raise ValueError(
            f"AbsCert abstracts balls of radius eps into cells of width d >= 2 eps, but {float(granularity)} is "
            f"below 2 * {eps}: train with a granularity of at least {enough}, or leave eps out, on which the figure "
            "does not depend"
        )


@dataclass(frozen=True)
class EndGradients:
    """The gradients of the loss with respect to the ends of cells: means over samples and values.

    Attributes:
        upper, lower: of a sample's loss, by one value's upper and lower end.
    """

    upper: float
    lower: float

    @property
    def ask_for_wider_cells(self) -> bool:
        """Tells whether the loss falls as cells grow at both ends: where Algorithm 3 stops.

        The paper's text says ``upper <= 0`` and ``lower >= 0``, which is taken here; its Algorithm 3 prints ``<`` and
        ``>``. NaN asks for nothing.
        """
        return self.upper <= 0 <= self.lower


def end_gradients(model: Any, x: Any, y: Any, *, batch_size: int = 256) -> EndGradients:
    """Means, over samples and values, of the gradients of each sample's loss with respect to the ends of its cells.

    The paper (Algorithm 3, line 10) leaves open how the gradients of many samples and values become two signs; here
    they are means. The loss is the one that the model was compiled with, whose mean over a batch is taken for the mean
    of the samples' losses; of a CertifiedModel it is the classification loss of nominal logits. Layers are in their
    mode of inference.

    Args:
        model: a compiled model with one IntervalAbstraction.
        x: samples ``[batch, *input]``; y: labels, as the loss takes them.

    Raises:
        ValueError: the model was not compiled, has no abstraction or several, or there are no samples.
    """
    layer = abstraction_of(model)
    if not model.compiled:
        raise ValueError(f"model {model.name!r} has no loss to take gradients of: compile it first")
    if len(x) == 0:
        raise ValueError("the gradients of the loss are means over samples, and there are none")
    totals = np.zeros(2)
    for first in range(0, len(x), batch_size):
        part = slice(first, first + batch_size)
        with tf.GradientTape(watch_accessed_variables=False) as tape, _watched(layer, tape) as ends:
            outputs = model(tf.convert_to_tensor(x[part]), training=False)
            loss = model.compute_loss(y=tf.convert_to_tensor(y[part]), y_pred=outputs, training=False)
        lower, upper = tf.split(tape.gradient(loss, ends[0], unconnected_gradients="zero"), 2, axis=-1)
        # The loss is a mean of samples' losses: times their number, gradients are of each sample's own.
        count = len(x[part])
        totals += [count**2 * float(tf.reduce_mean(gradient)) for gradient in (upper, lower)]
    return EndGradients(*(totals / len(x)).tolist())


@contextmanager
def _watched(layer: IntervalAbstraction, tape: tf.GradientTape) -> Iterator[list[tf.Tensor]]:
    """The layer's inner values, watched by the tape."""
    outputs: list[tf.Tensor] = []
    original = layer.call

    def call(inputs: Any) -> Any:
        outputs.append(original(inputs))
        tape.watch(outputs[-1])
        return outputs[-1]

    try:
        object.__setattr__(layer, "call", call)
        yield outputs
    finally:
        layer.__dict__.pop("call", None)
