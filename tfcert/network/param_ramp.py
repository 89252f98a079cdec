"""ParamRamp as a Keras layer: the second bend of each neuron is trained (Lyu et al. 2021)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfcert.activations import activation
from tfcert.activations.ramp import LEAST
from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.graph import converter


@keras.saving.register_keras_serializable("tfcert")
class AtLeast(keras.constraints.Constraint):
    """A constraint that keeps weights at a number or above."""

    def __init__(self, least: float):
        self.least = float(least)

    def __call__(self, w: Any) -> Any:
        return keras.ops.maximum(w, self.least)

    def get_config(self) -> dict[str, Any]:
        return {"least": self.least}


@keras.saving.register_keras_serializable("tfcert")
class ParamRamp(keras.layers.Layer):
    """The activation of "LBP & Ramp" (Lyu et al. 2021, "Towards evaluating and training verifiably robust neural
    networks", section 5): ``x`` between 0 and r, and lines of slope ``slope`` outside, with an r for each neuron that
    is trained with the weights.

    The paper trains networks of it by IBP or CROWN-IBP (:class:`tfcert.objectives.CrownIBP`), and verifies them by
    linear bounds that go forward (LBP: ``method="forward"``), or forward to the last layer and then back (CROWN-LBP:
    ``"forward+backward"``). What its code does beyond that is left to the caller: it sets r to the mean of each
    neuron's positive values after the first epochs, and lets ``slope`` fall from 0.01 to 0 while training
    (``layer.slope = ...`` sets it; functions and networks that were made see it at once).

    Args:
        slope: outside of [0, r], from 0 to below 1.
        right: r of every neuron to begin with.

    Raises:
        ValueError: a slope or an r that is not so.

    Example:
        >>> layer = ParamRamp(slope=0.1)
        >>> layer(np.array([[-1.0, 0.5, 3.0]])).numpy().round(3)
        array([[-0.1,  0.5,  1.2]], dtype=float32)
    """

    def __init__(self, slope: float = 0.01, right: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        activation("param_ramp", right=float(right), slope=float(slope))  # raises where they are no such numbers
        self.begin = float(right)
        self._slope = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(slope), trainable=False, name="slope"
        )

    def build(self, input_shape: Any) -> None:
        self.right = self.add_weight(
            shape=tuple(input_shape[1:]),
            initializer=keras.initializers.Constant(self.begin),
            constraint=AtLeast(LEAST),
            name="right",
        )

    @property
    def slope(self) -> float:
        """The slope outside of [0, r]."""
        return float(self._slope.numpy())

    @slope.setter
    def slope(self, value: float) -> None:
        activation("param_ramp", slope=float(value))
        self._slope.assign(value)

    def call(self, inputs: Any) -> Any:
        x = tf.convert_to_tensor(inputs)
        right, slope = (tf.cast(tf.convert_to_tensor(weight), x.dtype) for weight in (self.right, self._slope))
        return activation("param_ramp", right=lambda: right, slope=lambda: slope).function(x)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"slope": self.slope, "right": self.begin}


@converter(ParamRamp)
def trained_ramp(layer: ParamRamp, builder: Builder, inputs: list[Tensor]) -> Tensor:
    right, slope = builder.constant(layer.right), builder.constant(layer._slope)
    return builder.activation(inputs[0], "param_ramp", right=right, slope=slope)  # type: ignore[arg-type]
