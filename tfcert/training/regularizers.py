"""Terms of a training loss that are made of intervals. Each goes with every objective."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import keras
import tensorflow as tf

from tfcert.network.graph import Add, Elementwise, Linear, MaxPool, Multivariate, Network
from tfcert.training.batch import BoundedBatch

LAYERS = ("all", "hidden")
REDUCTIONS = ("log", "mean", "sum")


class Regularizer(ABC):
    """A term of the loss; called with a :class:`~tfcert.training.batch.BoundedBatch` for a scalar, weighted."""

    weight: float

    @abstractmethod
    def __call__(self, batch: BoundedBatch) -> tf.Tensor:
        """The term, a scalar."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Regularizer:
        """The inverse of :meth:`get_config`."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items())})"


def bounded_layers(network: Network, layers: str = "all") -> list[int]:
    """The nodes whose widths count: outputs of affine maps and of activations, with (``all``) or without the logits.

    Nodes that only move numbers (reshape, padding, permutation, concatenation) repeat a width and do not count, nor
    does an abstraction of the inputs, whose widths no weight can change.
    """
    chosen = [
        index
        for index, node in enumerate(network.nodes)
        if isinstance(node, MaxPool | Multivariate | Add)
        or (isinstance(node, Elementwise) and node.activation.edges is None)
        or (isinstance(node, Linear) and not node.map.moves)
    ]
    return chosen if layers == "all" else [index for index in chosen if index != network.output]


@keras.saving.register_keras_serializable("tfcert")
class IntervalWidth(Regularizer):
    """The squared widths of the intervals of every layer (after Morawiecki et al. 2020, constrained IBP, section 3.3).

    With ``w_k = upper_k - lower_k`` over the outputs k of affine maps and activations, the term is ``weight`` times

    - ``"log"``: the mean over k of ``log(1 + mean(w_k^2))``, the mean over values and samples;
    - ``"mean"``: the sum over k of ``mean(w_k^2)``, which the paper's figures show (of hidden layers);
    - ``"sum"``: the sum over k of ``|w_k|^2``, the paper's formula (its weight is 1, its last layer the logits).

    Where widths are small all of these are squares; the logarithm bounds what wide layers weigh: scaling all widths
    changes the term by at most 2 a unit of the scale's logarithm. Squares have no such bound. In the first steps of a
    ramp they are more than a hundred times the cross-entropy, most of it the logits', and pull weights to zero until
    the network is a constant (``benchmarks/training`` has the figures, and what else was tried).

    Args:
        weight: a factor.
        layers: ``"all"``, or ``"hidden"`` to leave out the logits.
        reduction: ``"log"``, ``"mean"`` or ``"sum"``. Samples are averaged with their weights.

    Raises:
        ValueError: an unknown option, or a weight below zero.
    """

    def __init__(self, weight: float = 1.0, layers: str = "all", reduction: str = "log"):
        self.weight = _weight(weight)
        if layers not in LAYERS:
            raise ValueError(f"layers must be one of {', '.join(LAYERS)}, not {layers!r}")
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}")
        self.layers, self.reduction = layers, reduction

    def __call__(self, batch: BoundedBatch) -> tf.Tensor:
        terms = []
        for index in bounded_layers(batch.network, self.layers):
            lower, upper = batch.ranges[index]
            size = math.prod(lower.shape[1:])
            squares = batch.mean(tf.reduce_sum(tf.reshape(tf.square(upper - lower), [-1, size]), axis=1))
            terms.append(squares if self.reduction == "sum" else squares / size)
        if not terms:
            return tf.zeros([], batch.network.dtype)
        if self.reduction == "log":
            return self.weight * tf.add_n([tf.math.log1p(term) for term in terms]) / len(terms)
        return self.weight * tf.add_n(terms)

    def get_config(self) -> dict[str, Any]:
        return {"weight": self.weight, "layers": self.layers, "reduction": self.reduction}


class _Balanced(Regularizer):
    """The base of the terms of Shi et al. 2021: a tolerance, and a weight that fades while eps grows to its end."""

    def __init__(self, weight: float = 0.5, tolerance: float = 0.5, fade: bool = True):
        self.weight = _weight(weight)
        if not 0 < tolerance <= 1:
            raise ValueError(f"tolerance must be in (0, 1], not {tolerance!r}")
        self.tolerance, self.fade = float(tolerance), bool(fade)

    def __call__(self, batch: BoundedBatch) -> tf.Tensor:
        pairs = [
            batch.ranges[node.inputs[0]]
            for node in batch.network.nodes
            if isinstance(node, Elementwise) and self._covers(node)
        ]
        if not pairs:
            return tf.zeros([], batch.network.dtype)
        total = tf.add_n([self._layer(batch, *pair) for pair in pairs]) / (self.tolerance * len(pairs))
        return self.weight * self._faded(batch) * total

    def _faded(self, batch: BoundedBatch) -> tf.Tensor | float:
        if not self.fade or batch.final_eps == 0:
            return 1.0
        return tf.maximum(0.0, 1.0 - tf.cast(batch.eps, batch.network.dtype) / batch.final_eps)

    def _short(self, ratio: tf.Tensor) -> tf.Tensor:
        """The amount by which a ratio falls short of the tolerance."""
        return tf.nn.relu(self.tolerance - ratio)

    def _covers(self, node: Elementwise) -> bool:
        return node.activation.edges is None

    @abstractmethod
    def _layer(self, batch: BoundedBatch, lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
        """A layer's term, given the range of what enters its activation."""

    def get_config(self) -> dict[str, Any]:
        return {"weight": self.weight, "tolerance": self.tolerance, "fade": self.fade}


@keras.saving.register_keras_serializable("tfcert")
class Tightness(_Balanced):
    """Keeps intervals from growing through the layers (Shi et al. 2021, "Fast certified robust training", bound
    tightness regularizer).

    ``weight / (tolerance m) * sum_i max(0, tolerance - E(r_0) / E(r_i))`` over the m layers that enter an activation:
    r_i are the radii of their intervals, r_0 of the input's, E the mean over the batch and the layer.

    Args:
        weight: a factor (the paper's is 0.5).
        tolerance: the ratio below which a layer is charged.
        fade: whether the weight falls to zero as eps goes to the end of its schedule, as in the paper.

    Raises:
        ValueError: a weight below zero, or a tolerance outside (0, 1].
    """

    def _layer(self, batch: BoundedBatch, lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
        first = tf.reduce_mean(batch.region.upper - batch.region.lower)
        return self._short(_ratio(first, tf.reduce_mean(upper - lower)))


@keras.saving.register_keras_serializable("tfcert")
class ReluBalance(_Balanced):
    """Keeps the active and the inactive ReLUs of a layer in balance (Shi et al. 2021, ReLU activation states balance).

    ``weight / (tolerance m) * sum_i [max(0, tolerance - min(a_i, 1/a_i)) + max(0, tolerance - min(b_i, 1/b_i))]``, with
    ``a_i`` the mean of the intervals' middles over the active neurons (lower bound above 0) to minus that over the
    inactive ones (upper bound below 0), and ``b_i`` the same for squared deviations from the layer's mean. A layer
    without either kind has no balance to speak of and is not charged.

    Args: as for :class:`Tightness`. Only ReLUs and leaky ReLUs are covered.
    """

    def _covers(self, node: Elementwise) -> bool:
        return node.activation.piecewise_linear

    def _layer(self, batch: BoundedBatch, lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
        middle = 0.5 * (lower + upper)
        active, inactive = (tf.cast(mask, middle.dtype) for mask in (lower > 0, upper < 0))
        spread = tf.square(middle - tf.reduce_mean(middle))
        means = tf.reduce_mean(middle * active), -tf.reduce_mean(middle * inactive)
        spreads = tf.reduce_mean(spread * active), tf.reduce_mean(spread * inactive)
        both = (tf.reduce_max(active) > 0) & (tf.reduce_max(inactive) > 0)
        total = tf.zeros([], middle.dtype)
        for left, right in (means, spreads):
            # Twice where: the ratio of an empty side must not reach the gradient.
            one = tf.ones_like(left)
            left, right = tf.where(both, left, one), tf.where(both, right, one)
            total += self._short(tf.minimum(_ratio(left, right), _ratio(right, left)))
        return tf.where(both, total, tf.zeros_like(total))


def _ratio(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    return left / tf.maximum(right, 1e-12)


def _weight(weight: float) -> float:
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"a regularizer's weight must be a finite number that is not negative, not {weight!r}")
    return float(weight)
