"""What rounding adds to differences of related networks' affine nodes.

Statement. Let ``y = W x + b + r`` and ``z = V x' + c + s`` be what the program computes of two nodes of one kind, and
``|x|, |x'| <= m``. Then ``y - z = W (x - x') + (W - V) x' + (b - c) + (r - s)``, with ``|r| <= gamma_k (|W| m + |b|)``
and the same of s: the errors of :mod:`tfcert.propagation.errors`, of both nodes, whatever the two programs' orders of
summation. So the affine part of the difference is a formula that nothing computes, of differences as small as they
are, and what is charged for the program's rounding does not depend on it.

Our own rounding of the weights ``W - V`` and ``b - c`` is relative to these where W and V are read as they are, and
charged where the formula is evaluated; where they are computed (a scale of batch normalisation, with at most 12
roundings each), it is at most ``12 u (|W| + |V|) m <= 12 u |W - V| m + 24 u |V| m``, and that of ``W (x - x')`` is
``12 u |W| 2 m``: 64 u of ``|W| m + |b|`` and of ``|V| m + |c|`` are charged for all of it, and more in proportion where
the node says that there are more roundings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from tfcert.network.difference import Residuals
from tfcert.network.graph import Linear
from tfcert.network.linear import ScaleMap
from tfcert.propagation import kernels
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import Plane, Planes, TensorInterval
from tfcert.propagation.errors import charged, linear_error, sizes, sum_error
from tfcert.propagation.multivariate import Carried, Facet, Kind, MultivariatePlanes
from tfcert.roundoff import Rounding

_READ, _COMPUTED = 4, 64
"""Own roundings of a term, of weights that are read and of such as are computed."""


@dataclass(frozen=True, eq=False)
class Room(MultivariatePlanes):
    """The residuals lie within ``[-error, error]``, ``[samples, *shape]``, whatever the inputs."""

    error: tf.Tensor
    rounding: Rounding | None

    def back(self, rows: Coefficients) -> Carried:
        if self.rounding is None:
            return [], -kernels.weighted_size(rows.values, rows.unfold(self.error))
        return [], -charged(rows, self.error, self.rounding)

    def advance(self, inputs: Sequence[Planes]) -> Planes:
        count, slack = inputs[0].lower.slopes.shape[1], inputs[0].slack
        flat = Plane(tf.zeros([1, count, *self.error.shape[1:]], self.error.dtype), tf.zeros_like(self.error[:1]))
        return Planes(flat, flat, None if slack is None else slack._replace(amount=self.error, units=False))


class _ResidualsKind(Kind):
    keeps_patches = True
    charges_rounding = True

    def interval(self, node: Residuals, inputs: Sequence[TensorInterval]) -> TensorInterval:
        error = _error(node, inputs)
        return -error, error

    def relax(
        self,
        node: Residuals,
        bounds: Sequence[TensorInterval],
        relaxation: str | None,
        choices: Sequence[tf.Tensor] = (),
    ) -> Room:
        return Room(_error(node, bounds), node.rounding)

    def choices(
        self, node: Residuals, bounds: Sequence[TensorInterval], relaxation: str | None
    ) -> tuple[tf.Tensor, ...]:
        return ()

    def opened(self, node: Residuals, bounds: Sequence[TensorInterval], relaxation: str | None) -> None:
        return None

    def facets(self, node: Residuals, bounds: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Facet]:
        return []  # its interval says all


def _error(node: Residuals, inputs: Sequence[TensorInterval]) -> tf.Tensor:
    """The errors of both nodes together, ``[samples, *shape]``; zero where rounding is left out of account."""
    rounding, half = node.rounding, len(inputs) // 2
    size = [tf.maximum(sizes(ours), sizes(theirs)) for ours, theirs in zip(inputs[:half], inputs[half:], strict=True)]
    if rounding is None:
        return tf.zeros([tf.shape(size[0])[0], *node.shape], size[0].dtype)
    total: tf.Tensor = 0.0
    for part in node.pair:
        charged_part = replace(part, rounding=rounding)
        if isinstance(charged_part, Linear):
            is_read = not isinstance(charged_part.map, ScaleMap) and charged_part.size_of_bias is None
            computed = charged_part.computed * max(1.0, rounding.weights / rounding.own)
            own = _READ if is_read and not computed else max(_COMPUTED, 6 * computed)
            total += linear_error(charged_part, size[0], own)
        else:
            total += sum_error(charged_part, tf.add_n(size))
    return tf.broadcast_to(total * (1.0 + 8.0 * rounding.own), [tf.shape(size[0])[0], *node.shape])


RESIDUALS = _ResidualsKind()
