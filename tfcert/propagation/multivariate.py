"""What bound propagation asks of a nonlinearity of several numbers: a product, a softmax.

A kind is a node class (:class:`~tfcert.network.graph.Multivariate`), which says what is computed; a :class:`Kind` in a
file of its own, which says how that is bounded; and a line in the table of :mod:`tfcert.propagation.kinds`. Every pass
goes through these few functions, so that a kind that has them is bounded by every method.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.network.sparse import Entries
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import Planes, TensorInterval

Carried = tuple[list[Coefficients], tf.Tensor]
"""Rows over each input of a node, and a constant ``[samples or 1, groups or 1, rows]``."""


class MultivariatePlanes(ABC):
    """Two affine functions of a node's inputs for each of its values, below and above it on the inputs' bounds."""

    @abstractmethod
    def back(self, rows: Coefficients) -> Carried:
        """Functions of the inputs below rows over the node."""

    @abstractmethod
    def advance(self, inputs: Sequence[Planes]) -> Planes:
        """The node's planes over the network's input, given those of its inputs."""


class ChosenStep(NamedTuple):
    """A step through a node by planes that differ by row: the first half of :class:`MultivariatePlanes`."""

    back: Callable[[Coefficients], Carried]


class OpenPlanes(ABC):
    """What the planes of a node are chosen from, on its inputs' bounds or (:meth:`over`) for each entry of rows.

    A choice is a number in [0, 1]; any choice gives sound planes.

    Attributes:
        pace: how long steps of the choices are, relative to those of a hinge's slopes.
    """

    pace = 1.0

    @abstractmethod
    def over(self, rows: Coefficients) -> OpenPlanes:
        """The same for each entry of coefficients, arranged once for the many passes of a search."""

    @abstractmethod
    def first(self, shape: Sequence[int | tf.Tensor]) -> list[tf.Tensor]:
        """The choices that give the default planes to coefficients ``[samples, groups, rows, entries]``."""

    @abstractmethod
    def back(self, rows: Coefficients, choices: Sequence[tf.Tensor]) -> Carried:
        """Functions of the inputs below rows, by the planes chosen for each entry; differentiable in the choices."""


class Facet(NamedTuple):
    """A side of what encloses a node: ``sign * (value - slopes @ inputs - intercept) >= 0`` on the inputs' bounds.

    Attributes:
        sign: 1 for a plane below the node, -1 for one above it, 0 for one that the node's values lie in.
        slopes: a matrix ``[values, numbers]``, the numbers of all inputs one after another.
        intercept: ``[values]``.
    """

    sign: int
    slopes: Entries
    intercept: np.ndarray


class Kind(ABC):
    """How a kind of nodes is bounded. Bounds are pairs ``[samples, *shape]``, one for each input, and may be infinite.

    Attributes:
        keeps_patches: whether patches over the node are patches over each input, of the same layout.
        charges_rounding: whether what it says of nodes of a rounded network holds for their deployed values, and
            although it is computed with rounding itself: its interval, the planes, and passing rows and planes through
            these.
    """

    keeps_patches = False
    charges_rounding = False

    def held(self, node: Any) -> int:
        """How many numbers a pass may hold at the node for one sample, rows left out."""
        return math.prod(node.shape)

    @abstractmethod
    def interval(self, node: Any, inputs: Sequence[TensorInterval]) -> TensorInterval:
        """The range of the node, given ranges of its inputs: infinite where nothing is known, never NaN."""

    @abstractmethod
    def relax(
        self, node: Any, bounds: Sequence[TensorInterval], relaxation: str | None, choices: Sequence[tf.Tensor] = ()
    ) -> MultivariatePlanes:
        """The planes of a named relaxation, or those of ``choices``, shaped as :meth:`choices` has them."""

    @abstractmethod
    def choices(self, node: Any, bounds: Sequence[TensorInterval], relaxation: str | None) -> tuple[tf.Tensor, ...]:
        """The choices that give the named relaxation to all rows, ``[samples, ...]`` each; () where there are none."""

    @abstractmethod
    def opened(self, node: Any, bounds: Sequence[TensorInterval], relaxation: str | None) -> OpenPlanes | None:
        """What planes are chosen from where each row may choose; None where there is no choice."""

    @abstractmethod
    def facets(self, node: Any, bounds: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Facet]:
        """Planes that enclose the node for a solver, on finite bounds of a single sample, float64 ``[*shape]``."""
