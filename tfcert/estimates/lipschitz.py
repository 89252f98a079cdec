"""Radii from a global Lipschitz constant: the oldest certificate and the loosest (Szegedy et al. 2013, section 4.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.estimates.activations import activation_constant
from tfcert.estimates.operators import MapChain, chain_norm, in_float64
from tfcert.estimates.question import DistanceAnswer, DistanceQuestion
from tfcert.estimates.results import LipschitzRadii
from tfcert.estimates.samples import TargetedSamples, read_samples
from tfcert.network import Add, Concatenate, Elementwise, Input, Linear, MaxPool, Multivariate, Network
from tfcert.network.windows import window_table
from tfcert.rigour.margins import rounding
from tfcert.sets.balls import DUAL_ORDER, ORDER, LpBall
from tfcert.verdict import NO_REASON, Reason, is_proof

_ROUNDING = 1e-9
"""Relative: float64 sums of the final rows and products of a few hundred norms are off by less."""


def global_lipschitz_radius(
    model: Any, x: Any, y: Any = None, *, norm: str = "linf", targets: Any = "all"
) -> LipschitzRadii:
    """The radius that a global Lipschitz constant certifies: ``min_j (f_y - f_j)(x) / L_j``.

    ``L_j`` bounds how fast ``f_y - f_j`` changes anywhere: the dual norm of its row (carried back to the last
    nonlinearity) times the product of the norms of what lies before. Between nonlinearities the affine layers count
    as one operator; residual branches add up, concatenated ones add up (L1), add up squared (L2) or count as the
    largest (L-inf); a max-pooling counts the windows that share an input.

    Args:
        model: a Keras model or a network; x, y: samples and labels, as for :func:`tfcert.certify`.
        norm: ``linf``, ``l2`` or ``l1``, in the units of x.
        targets: as for :func:`tfcert.certified_radius`.

    Raises:
        ValueError: as for :func:`tfcert.certified_radius`, or an activation that has no finite Lipschitz constant or
            none that is known.

    Guarantee: ``numeric``. The constants are upper bounds (:mod:`tfcert.estimates.spectral`); the margins at x are
    the network's own floating-point values, of which as much has to be left at the radius as rounding may take (see
    :class:`tfcert.Certification`).
    """
    network, samples = read_samples(model, x, y, norm, targets)
    margin = samples.margins(network)
    constant = margin_constants(network, samples)
    lost = rounding(network, LpBall(samples.x, 0.0), samples.rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        radius = np.where(is_proof(margin, lost), (margin - lost) / constant, 0.0)
    return LipschitzRadii(np.min(radius, axis=1) * (1 - _ROUNDING), margin, constant, norm)


def lipschitz_answers(question: DistanceQuestion) -> Iterator[DistanceAnswer]:
    """The radius that a global Lipschitz constant certifies for each sample: lower bounds of its distance."""
    found = global_lipschitz_radius(
        question.model, question.x, question.y, norm=question.norm, targets=question.targets
    )
    for radius in found.radius.tolist():
        proven = radius > 0
        reason = NO_REASON if proven else Reason.NOTHING_PROVEN.because(said="the margin is within rounding")
        yield DistanceAnswer(radius, guarantee=found.guarantee, reason=reason)


def margin_constants(network: Network, samples: TargetedSamples) -> np.ndarray:
    """Upper bounds of the Lipschitz constants of each sample's rows ``f_y - f_j``: ``[batch, targets]``."""
    count, targets, outputs = samples.rows.shape
    rows, place = np.unique(samples.rows.reshape(-1, outputs), axis=0, return_inverse=True)
    return Constants(network, samples.norm).of_rows(rows)[place.reshape(count, targets)]


class Constants:
    """Lipschitz constants of a network's nodes as functions of its input, from above, in one norm."""

    def __init__(self, network: Network, norm: str):
        self.network, self.norm = network, norm
        self._maps: dict[int, MapChain] = {}
        self._known: dict[int, float] = {}

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """The constants of linear functions of the output, ``[rows, outputs] -> [rows]``.

        The rows are carried back through affine nodes, so they are exact for an affine network.
        """
        nodes = self.network.nodes
        arriving: dict[int, tf.Tensor] = {self.network.output: tf.constant(rows, tf.float64)}
        total = np.zeros(len(rows))
        for index in range(self.network.output, -1, -1):
            if index not in arriving:
                continue
            coefficients, node = arriving.pop(index), nodes[index]
            if not isinstance(node, Linear | Add | Concatenate):
                flat = coefficients.numpy().reshape(len(rows), -1)
                total += np.linalg.norm(flat, DUAL_ORDER[self.norm], axis=1) * self.of_node(index)
                continue
            for source, part in zip(node.inputs, self._back(index, coefficients), strict=True):
                arriving[source] = part if source not in arriving else arriving[source] + part
        return total * (1 + _ROUNDING)

    def _back(self, index: int, coefficients: tf.Tensor) -> list[tf.Tensor]:
        """The coefficients of an affine node's inputs."""
        node = self.network.nodes[index]
        match node:
            case Linear():
                for linear_map in reversed(self._float64(index)):
                    coefficients = linear_map.transpose(coefficients)
                return [coefficients]
            case Concatenate():
                sizes = [self.network.nodes[i].shape[node.axis] for i in node.inputs]
                return tf.split(coefficients, sizes, axis=node.axis + 1)
        return [coefficients] * len(node.inputs)

    def of_node(self, index: int) -> float:
        """The constant of a node."""
        if index not in self._known:
            self._known[index] = self._constant(index)
        return self._known[index]

    def _constant(self, index: int) -> float:
        node = self.network.nodes[index]
        inputs = node.inputs
        match node:
            case Input():
                return 1.0
            case Linear():
                chain, start = self._chain(index)
                return chain_norm(chain, self.norm) * self.of_node(start)
            case Elementwise():
                return activation_constant(node.activation, node.shape, self.network.dtype) * self.of_node(inputs[0])
            case MaxPool():
                return self._shared(node) * self.of_node(inputs[0])
            case Add():
                return sum(self.of_node(i) for i in inputs)
            case Concatenate():
                return self._beside(inputs)
            case Multivariate():
                own = node.lipschitz(self.norm)
                if own is None:
                    raise ValueError(
                        f"{node.name} is a {type(node).__name__.lower()}, which has no global Lipschitz constant: "
                        "bound the network over a set instead (tfcert.certify, tfcert.certified_radius)"
                    )
                return own * self._beside(inputs)
        raise TypeError(f"no Lipschitz constant is known of a {type(node).__name__} node")

    def _beside(self, inputs: tuple[int, ...]) -> float:
        """The constant of all inputs of a node together."""
        return float(np.linalg.norm([self.of_node(i) for i in inputs], ORDER[self.norm]))

    def _chain(self, index: int) -> tuple[MapChain, int]:
        """The linear maps that end in a node, and the node that they begin at."""
        chain: MapChain = ()
        while isinstance(self.network.nodes[index], Linear):
            chain = (*self._float64(index), *chain)
            index = self.network.nodes[index].inputs[0]
        return chain, index

    def _float64(self, index: int) -> MapChain:
        if index not in self._maps:
            node = self.network.nodes[index]
            assert isinstance(node, Linear)
            self._maps[index] = in_float64(node.map, self.network.dtype)
        return self._maps[index]

    def _shared(self, node: MaxPool) -> float:
        """A maximum changes by no more than its window does; an input counts once for each window it is in."""
        if self.norm == "linf":
            return 1.0
        height, width, _ = self.network.nodes[node.inputs[0]].shape
        offset = (node.padding[0][0], node.padding[1][0])
        table = window_table((height, width), (node.shape[0], node.shape[1]), node.window, node.strides, offset)
        windows = max(count for pixel, count in Counter(table.ravel().tolist()).items() if pixel < height * width)
        return float(np.sqrt(windows)) if self.norm == "l2" else float(windows)
