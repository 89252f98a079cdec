"""IntervalAbstraction: the first layer of a network that is trained on intervals (AbsCert, Zhang et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcert.activations import cell_ends, cells
from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.graph import converter
from tfcert.network.keras.private import layers_within
from tfcert.network.moves import CopiesMap
from tfcert.showing import several

_SIMPLE = 10**6
"""The largest denominator of a fraction that a float is taken to stand for."""
Width = float | Sequence[Any] | np.ndarray
_NOISE = Fraction(1, 10**9)
"""By so much of a cell floats may leave a range that its cells are meant to fill."""


@keras.saving.register_keras_serializable("tfcert")
class IntervalAbstraction(keras.layers.Layer):
    """Replaces each number by the two ends of its cell: ``[..., c] -> [..., 2 c]``, first the lower, then the upper.

    ``value_range`` = (a, b) is cut into cells of width d = ``granularity``: cell k is ``[a + k d, a + (k + 1) d)``, and
    the top cell is closed. If d does not divide the range the top cell hangs over its end. Numbers outside the range
    belong to the outermost cells, and NaN stays NaN. The ends of cells are exact, rounded once to the layer's type, and
    a number is compared with these: 0.3 is in the cell that begins at 0.3. A float stands for the simplest fraction
    that rounds to it (0.1 for 1/10, ``2 / 255`` for 2/255).

    This is the abstraction of AbsCert (Zhang et al. 2023, section 3.2): for ``eps <= d / 2`` their abstraction phi of
    the ball of radius eps around x is the cell of x (Algorithm 1), which is what this layer computes. Training a
    network behind it in the ordinary way is their ABSTRAIN (Algorithm 2). A ball around x may reach cells other than
    that of x, so the deployed classifier (this layer and what follows) is not robust because the cell of x is
    classified correctly: see :func:`tfcert.abstraction_error`. :func:`tfcert.certify` bounds it over all reachable
    cells, and the objectives of :mod:`tfcert.objectives` train for that.

    Put it first, and give range and granularity in the units of the inputs: nothing but moving numbers (reshaping,
    padding) may come before it, since a rounding error at an edge would be a whole cell. Its gradient is that of the
    identity for both ends, so that attacks find their way through it.

    A granularity may differ from number to number, the paper's vector ``(d_1, ..., d_n)``: one for each channel (the
    last axis), or any array that broadcasts against one input.

    Args:
        granularity: d, the width of a cell, in the units of the inputs: a number, or an array ``[c]`` or ``[*input]``.
        value_range: (a, b), what inputs are taken to lie in.
        finest: the smallest granularity that may be set later, shaped like it; by default ``granularity``.

    Raises:
        ValueError: a granularity that is not positive, or below ``finest``; a range that is empty or not finite.

    Example:
        >>> layer = IntervalAbstraction(0.25, (0, 1))
        >>> layer(np.array([[0.1, 0.25], [1.0, -3.0]])).numpy()
        array([[0.  , 0.25, 0.25, 0.5 ],
               [0.75, 0.  , 1.  , 0.25]], dtype=float32)
    """

    def __init__(
        self,
        granularity: Width,
        value_range: tuple[float, float] = (0.0, 1.0),
        finest: Width | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        low, high = value_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"value_range must be two finite numbers, the lower first, not {value_range}")
        self.value_range = (float(low), float(high))
        self.finest = _width(granularity if finest is None else finest)
        if not (np.isfinite(self.finest).all() and np.all(np.asarray(self.finest) > 0)):
            raise ValueError(f"the granularity must be a positive number, not {several(self.finest)}")
        initial = self._checked(granularity)
        shape = np.shape(self.finest)
        size = max(map(self._cells, np.ravel(self.finest))) + 1
        self.edges = self.add_weight(shape=(*shape, size), initializer="zeros", trainable=False, name="edges")
        # The granularity is a weight, so that weights alone restore a layer that was tuned.
        self._granularity = self.add_weight(shape=shape, dtype="float64", trainable=False, name="granularity")
        self.built = True
        self.granularity = initial

    @property
    def granularity(self) -> Any:
        """The width of a cell, a float, or an array ``[c]`` or ``[*input]`` of widths where they differ.

        It can be set, to no less than ``finest``; networks that were read see it at once.
        """
        return _width(self._granularity.numpy())

    @granularity.setter
    def granularity(self, value: Width) -> None:
        value = self._checked(value)
        edges = self.edges_of(value)
        self._granularity.assign(value)
        self.edges.assign(edges)

    def edges_of(self, granularity: Width) -> np.ndarray:
        """The ends of cells of this width, as ``edges`` holds them: infinite at the end where ``finest`` leaves room.

        Raises:
            ValueError: neighbouring ends are the same in the layer's type.
        """
        widths, place = np.unique(np.asarray(granularity, np.float64), return_inverse=True)
        rows = np.stack([self._row(float(width)) for width in widths])
        return rows[place.ravel()].reshape(tuple(self.edges.shape))

    def _row(self, granularity: float) -> np.ndarray:
        low, width = simplest(self.value_range[0]), simplest(granularity)
        found = np.full(self.edges.shape[-1], np.inf)
        count = self._cells(granularity) + 1
        found[:count] = [float(low + k * width) for k in range(count)]
        found = found.astype(self.edges.dtype)
        if not (np.diff(found[:count]) > 0).all():
            raise ValueError(f"cells of width {granularity} between {self.value_range} vanish in {self.edges.dtype}")
        return found

    def _checked(self, value: Width) -> Any:
        value = _width(value)
        if np.shape(value) != np.shape(self.finest):
            raise ValueError(
                f"the granularity and finest must have one shape, not {np.shape(value)} and {np.shape(self.finest)}"
            )
        if not (np.isfinite(value).all() and np.all(np.asarray(value) >= self.finest)):
            least, given = several(self.finest), several(value)
            raise ValueError(f"the granularity must be at least {least} (finest), not {given}")
        return value

    def _cells(self, granularity: float) -> int:
        low, high = map(simplest, self.value_range)
        return math.ceil((high - low) / simplest(float(granularity)) - _NOISE)

    def edges_for(self, shape: tuple[int, ...]) -> tf.Tensor:
        """The ends of cells as :func:`tfcert.activations.cells` reads them, for inputs of this shape.

        Raises:
            ValueError: the granularity does not broadcast against such an input.
        """
        edges = tf.convert_to_tensor(self.edges)
        own = tuple(self.edges.shape[:-1])
        if not own:
            return edges
        if len(own) > len(shape) or any(a not in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False)):
            raise ValueError(
                f"layer {self.name!r} has granularities of shape {own}, which do not broadcast against an input of "
                f"shape {tuple(shape)}: give one for each channel (the last axis), or one for each value"
            )
        return tf.broadcast_to(edges, [*shape, self.edges.shape[-1]])

    def call(self, inputs: Any) -> Any:
        return tf.concat(cell_ends(inputs, self.edges_for(tuple(inputs.shape[1:]))), axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        last = input_shape[-1]
        return (*input_shape[:-1], None if last is None else 2 * last)

    def get_config(self) -> dict[str, Any]:
        granularity, finest = (np.asarray(width).tolist() for width in (self.granularity, self.finest))
        return super().get_config() | {"granularity": granularity, "value_range": self.value_range, "finest": finest}


def abstractions(model: Any) -> list[IntervalAbstraction]:
    """The IntervalAbstractions of a model, those in nested models too.

    Raises:
        TypeError: not a Keras model.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"expected a Keras model that begins with an IntervalAbstraction, got {type(model).__name__}")
    return [layer for layer in layers_within(model, itself=True) if isinstance(layer, IntervalAbstraction)]


def abstraction_of(model: Any) -> IntervalAbstraction:
    """The one IntervalAbstraction of a model, found in nested models too.

    Raises:
        ValueError: it has none, or several.
        TypeError: not a Keras model.
    """
    found = abstractions(model)
    if not found:
        raise ValueError(
            f"model {model.name!r} has no IntervalAbstraction: put tfcert.layers.IntervalAbstraction(granularity, "
            "value_range) first, before what was or will be trained on intervals"
        )
    if len(found) > 1:
        names = ", ".join(repr(layer.name) for layer in found)
        raise ValueError(
            f"model {model.name!r} has several IntervalAbstractions ({names}), and an abstraction of its inputs is one"
        )
    return found[0]


def one_width(layer: IntervalAbstraction) -> float:
    """The granularity of a layer that has one number for all of its inputs, as tuning needs.

    Raises:
        ValueError: it has several.
    """
    if np.ndim(layer.granularity):
        raise ValueError(
            f"layer {layer.name!r} has a granularity for each value ({several(layer.granularity)}), and tuning takes "
            "steps off one number: make it with one, or train with granularities that stay"
        )
    return float(layer.granularity)


def _width(width: Width) -> Any:
    """A granularity as a float, or as an array of floats."""
    found = np.array(width, np.float64)
    return found if found.ndim else float(found)


def simplest(number: float) -> Fraction:
    """The simplest fraction that rounds to the number: a decimal or a ratio, as it was most likely written."""
    short = Fraction(number).limit_denominator(_SIMPLE)
    return short if float(short) == number else Fraction(repr(number))


@converter(IntervalAbstraction)
def interval_abstraction(layer: IntervalAbstraction, builder: Builder, inputs: list[Tensor]) -> Tensor:
    """Middles of cells, and from them both ends, half a cell below and above: so the two move together."""
    x = inputs[0]
    if not builder.moves_only(x):
        raise builder.refuse(
            "reads numbers that were computed: rounding could move them over the edge of a cell unseen. Make it the "
            "first layer, with value_range and granularity in the units of the inputs, and rescale after it"
        )
    if not np.array_equal(layer.edges.numpy(), layer.edges_of(layer.granularity)):
        raise builder.refuse(
            f"has other edges than cells of width {several(layer.granularity)} on {layer.value_range} have: weights "
            "of another abstraction were loaded into it. Make it with the range and granularity that these belong to"
        )
    layer.edges_for(x.shape)  # raises where they do not suit the input
    middle = builder.elementwise(x, cells(lambda: layer.edges_for(x.shape)), part="cells")

    def offset() -> tf.Tensor:
        half = 0.5 * tf.broadcast_to(tf.cast(tf.convert_to_tensor(layer._granularity), builder.dtype), x.shape)
        return tf.concat([-half, half], axis=-1)

    return builder.linear(middle, CopiesMap(x.shape, 2), offset)
