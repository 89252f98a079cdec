"""Lines of activations that are chosen for each entry of rows, and steps through nodes by what is chosen.

A choice is a number in [0, 1]: where a slope lies between the least and greatest worth taking
(:meth:`~tfcert.activations.Activation.slope_ranges`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import tensorflow as tf

from tfcert.activations import lines
from tfcert.activations.registry import Activation, Ranges, Slopes
from tfcert.network.graph import Elementwise, Linear, MaxPool, Multivariate, Network
from tfcert.propagation import kernels
from tfcert.propagation.affine import AffinePart, affine_nodes
from tfcert.propagation.ascent import CURVED
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.errors import share_of_sum
from tfcert.propagation.folding import only_reader
from tfcert.propagation.kinds import multivariate_kind
from tfcert.propagation.multivariate import ChosenStep, OpenPlanes
from tfcert.propagation.pooling import pool_lines
from tfcert.propagation.stepping import NodeLines, Step
from tfcert.roundoff import Rounding


class OpenLines(NamedTuple):
    """What an activation's lines are chosen from on its neurons' bounds, or (:meth:`over`) for each entry of rows.

    Pairs are of the lower and the upper line.

    Attributes:
        activation: the function.
        slopes: those that the named relaxation has.
        ranges: the least slope worth taking, and how far the greatest lies above it; None where there is no choice.
        intercepts: of a hinge, whose lines all have those of the named ones; None for other functions.
        ends: the bounds; None for hinges.
        bias: of the linear node before, or None if its own step adds it; of an affine node, its value in the middle.
        biased: that node.
        rounding: of a rounded network: sums of intercepts and biases with rows are charged.
    """

    activation: Activation
    slopes: Slopes
    ranges: Ranges
    intercepts: Slopes | None
    ends: TensorInterval | None
    bias: tf.Tensor | None
    biased: int | None
    rounding: Rounding | None = None

    @property
    def fast(self) -> OpenLines:
        """The same without a charge for rounding: to be searched, not claimed."""
        return self._replace(rounding=None)

    @property
    def pace(self) -> float:
        return 1.0 if self.ends is None else CURVED

    def over(self, rows: Coefficients) -> OpenLines:
        """The same for each entry of coefficients, 0 outside the image."""

        def pair(ends: Any) -> Any:
            return None if ends is None else tuple(map(rows.unfold, ends))

        found = self._replace(
            slopes=pair(self.slopes),
            ranges=(pair(self.ranges[0]), pair(self.ranges[1])),
            intercepts=pair(self.intercepts),
            ends=pair(self.ends),
            bias=None if self.bias is None else rows.unfold(self.bias),
        )
        if found.intercepts is None or self.rounding is None:
            return found
        steepest = [
            tf.abs(slope) if between is None else tf.maximum(tf.abs(between[0]), tf.abs(between[0] + between[1]))
            for slope, between in zip(found.slopes, found.ranges, strict=True)
        ]
        return found._replace(intercepts=found._charged(rows, found.intercepts, (steepest[0], steepest[1])))

    def _charged(self, rows: Coefficients, intercepts: Slopes, slopes: Slopes) -> Slopes:
        """Intercepts that may be summed with rows over the activation, and a bias with rows before it."""
        if self.rounding is None:
            return intercepts
        share, bias = share_of_sum(2 * rows.values.shape[3], self.rounding, 16), self.bias
        below, above = (
            share * (tf.abs(part) + (0.0 if bias is None else tf.abs(slope * bias)))
            for part, slope in zip(intercepts, slopes, strict=True)
        )
        return intercepts[0] - below, intercepts[1] + above

    def first(self, shape: Sequence[int | tf.Tensor]) -> list[tf.Tensor]:
        """The choices that give the named relaxation to coefficients of a shape."""
        found = []
        for slope, between in zip(self.slopes, self.ranges, strict=True):
            if between is not None:
                place = tf.math.divide_no_nan(slope - between[0], between[1])
                place = tf.clip_by_value(tf.where(tf.math.is_finite(place), place, tf.zeros_like(place)), 0, 1)
                found.append(tf.broadcast_to(place, shape))
        return found

    def back(self, rows: Coefficients, choices: Sequence[tf.Tensor]) -> tuple[Coefficients, tf.Tensor]:
        """A step through the activation by the lines chosen for each entry of the rows."""
        if self.ends is not None:
            rows = rows.masked()  # their intercepts are not 0 outside the image

        @tf.custom_gradient
        def step(values: tf.Tensor, *choices: tf.Tensor):  # type: ignore[no-untyped-def]
            parts = iter(choices)
            free = [None if between is None else next(parts) for between in self.ranges]
            # Of each line: its least slope, and a range and the place in it, or None.
            sides = [
                (slope, None, None) if between is None else (*between, place)
                for slope, between, place in zip(self.slopes, self.ranges, free, strict=True)
            ]
            turns, intercepts = (None, None), self.intercepts
            if self.ends is not None:
                slopes, intercepts, turns = _chosen(self.activation, self.rounding)(
                    *(*choices, None)[:2], *sides[0][:2], *sides[1][:2], *self.ends
                )
                intercepts = self._charged(rows, intercepts, slopes)
                sides = [(slope, None, None) for slope in slopes]
            assert intercepts is not None

            def gradient(d_values: tf.Tensor, d_constant: tf.Tensor, variables: Any = None) -> Any:
                first, *others = _bent_gradients(
                    values, d_values, d_constant, *sides[0], *sides[1], *intercepts, *turns, self.bias
                )
                pairs = zip(others, self.ranges, strict=True)
                found = [first, *(d * between[1] for d, between in pairs if between is not None)]
                # An activation may read a weight, which is not what is searched.
                return found if variables is None else (found, [None for _ in variables])

            return _bent(values, *sides[0], *sides[1], *intercepts, self.bias), gradient

        values, constant = step(rows.values, *choices)
        return replace(rows, values=values, zero_outside=True), constant


def _slope(least: tf.Tensor, width: tf.Tensor | None, place: tf.Tensor | None) -> tf.Tensor:
    return least if width is None or place is None else least + place * width


@kernels.kernel(passes=2)
def _bent(values: tf.Tensor, *parts: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows through lines, and their constant: see :meth:`OpenLines.back`."""
    below, above, bias = parts[6:]
    positive, negative = tf.nn.relu(values), tf.minimum(values, 0)
    bent = positive * _slope(*parts[:3]) + negative * _slope(*parts[3:6])
    constant = positive * below + negative * above
    return bent, tf.reduce_sum(constant if bias is None else constant + bent * bias, axis=-1)


@kernels.kernel(passes=4)
def _bent_gradients(
    values: tf.Tensor, d_bent: tf.Tensor, d_constant: tf.Tensor, *parts: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gradients of :func:`_bent` by the values and by the slopes; an intercept turns with its slope."""
    below, above, turn_below, turn_above, bias = parts[6:]
    d_constant = d_constant[..., None]
    d_bent = d_bent if bias is None else d_bent + d_constant * bias
    d_low, d_high = (d_bent if turn is None else d_bent + d_constant * turn for turn in (turn_below, turn_above))
    d_values = tf.where(
        values > 0,
        d_bent * _slope(*parts[:3]) + d_constant * below,
        d_bent * _slope(*parts[3:6]) + d_constant * above,
    )
    return d_values, tf.nn.relu(values) * d_low, tf.minimum(values, 0) * d_high


@functools.lru_cache(maxsize=32)
def _chosen(activation: Activation, rounding: Rounding | None) -> Callable[..., tuple[tuple[tf.Tensor, ...], ...]]:
    """The kernel of an activation that is no hinge: from places in ranges to lines.

    It takes the places of those lines that have a range, each line's least slope and range, and the bounds; it returns
    pairs: slopes, intercepts, and derivatives of these by those.
    """

    @kernels.kernel(passes=16)
    def chosen(first, second, least, width, upper_least, upper_width, *ends):  # type: ignore[no-untyped-def]
        high = first if width is None else second
        slopes = (_slope(least, width, first), _slope(upper_least, upper_width, high))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(slopes)
            _, below, _, above = lines(activation, slopes, ends[0], ends[1], rounding)
        turns = tape.gradient((below, above), slopes, unconnected_gradients="zero")
        return slopes, (below, above), tuple(turns)

    return chosen


Opened = OpenLines | OpenPlanes


def chosen_step(what: Opened, back: Callable[[Coefficients], Any]) -> Step | ChosenStep:
    """A step through a node by lines that are chosen for each entry of rows."""
    return Step(back, what.biased) if isinstance(what, OpenLines) else ChosenStep(back)


def opened(
    network: Network, index: int, bounds: Mapping[int, TensorInterval], relaxation: str | None, affine: AffinePart
) -> Opened | NodeLines:
    """What the lines of a nonlinear node are chosen from, or its lines if there is no choice."""
    node = network.nodes[index]
    if isinstance(node, Multivariate):
        kind, here = multivariate_kind(node), [bounds[source] for source in node.asked]
        return kind.opened(node, here, relaxation) or kind.relax(node, here, relaxation)
    ends = bounds[node.inputs[0]]
    if isinstance(node, MaxPool):
        return pool_lines(node, *ends, relaxation)
    assert isinstance(node, Elementwise)
    slopes, between = node.activation.slopes(relaxation, *ends), node.activation.slope_ranges(*ends)
    named = lines(node.activation, slopes, *ends, node.rounding)
    if between == (None, None):
        return named
    ranges = [None if pair is None else (pair[0], pair[1] - pair[0]) for pair in between]
    source = node.inputs[0]
    before, bias = network.nodes[source], None
    if source in affine_nodes(network):
        bias = affine.values[source]
    elif isinstance(before, Linear) and source in only_reader(network) and before.map.diagonal() is None:
        bias = None if before.bias is None else tf.broadcast_to(before.bias(), node.shape)[None]
    is_hinge = node.activation.piecewise_linear
    return OpenLines(
        node.activation,
        slopes,
        (ranges[0], ranges[1]),
        (named.lower_intercept, named.upper_intercept) if is_hinge else None,
        None if is_hinge else ends,
        bias,
        None if bias is None else source,
        node.rounding,
    )
