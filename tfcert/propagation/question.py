"""Questions of users about samples, as clauses over the outputs of a network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.attacks.gradient import clause_margins
from tfcert.clauses import Clauses, differences, keeps_label, require_classes, strictly_right, target_classes
from tfcert.given import class_labels, samples
from tfcert.misfit import warn_of_misfit
from tfcert.network import Network, inputs_of
from tfcert.network.cache import ModelOrNetwork, network_of
from tfcert.sets.balls import DUAL_ORDER, LpBall, Perturbation
from tfcert.sets.fitting import fitted

_AT_ONCE = 256
"""Samples that are classified at a time."""


def asked(model: ModelOrNetwork, x: Any, y: Any) -> tuple[Network, np.ndarray, Any]:
    """The network of a model, the samples as an array ``[batch, *input]``, and their labels in whatever form.

    Samples of a model with several inputs are their vectors, see ``Network.parts``.

    Warns where the samples are not what the model seems to expect, see :mod:`tfcert.misfit`.

    Raises:
        ValueError: samples that are no arrays of numbers, or that do not fit the model's inputs, or labels that are no
            classes.
    """
    x, y = samples(x, y, model=model, parts=model.parts if isinstance(model, Network) else inputs_of(model))
    network = network_of(model, x)
    classes = network.output_shape[-1]
    if model is not network and y is not None and classes > 1 and x.shape[1:] == network.input_shape:
        y = class_labels(y, len(x), classes=classes)
        warn_of_misfit(lambda some: _predicted(network, some), x, y, classes)
    return network, x, y


def asked_ball(network: Network, x: np.ndarray, eps: Any, norm: str, clip: Any, free: Any) -> LpBall:
    """The balls around samples that a user asks about, in the network's type and shape.

    Raises:
        ValueError: as for :class:`tfcert.LpBall`.
    """
    ball = LpBall(x, eps, norm, clip, free=free, parts=network.parts).astype(network.dtype.as_numpy_dtype)
    return fitted(ball, network.parts, network.input_shape)


def choose_targets(
    model: ModelOrNetwork, x: Any, y: Any = None, targets: str = "random", *, seed: int = 0, numbers: Any = None
) -> np.ndarray:
    """The classes ``[batch]`` that ``targets="random"``, ``"runner-up"`` or ``"least"`` stand for.

    The name alone means ``seed=0`` and the samples' places in ``x``.

    Args:
        x, y: samples and labels, in the forms that :func:`tfcert.certify` takes.
        targets: of the classes other than the label, the most likely (``runner-up``), the least likely (``least``), or
            any but these two (``random``, the rule of CNN-Cert's and DeepCert's evaluations).
        seed: of what is drawn.
        numbers: ``[batch]`` numbers of the samples, with which the seed decides what is drawn: those in the whole data
            set, say, so that a sample's target is the same whichever others it is asked with.

    Raises:
        ValueError: as for :func:`tfcert.certify`, an unknown name, or random targets among fewer than four classes.
    """
    network, x, y = asked(model, x, y)
    labels = labels_of(y, len(x), network)
    parts = [slice(first, first + _AT_ONCE) for first in range(0, len(x), _AT_ONCE)]
    outputs = [np.asarray(network(tf.constant(x[part], network.dtype)), np.float64) for part in parts]
    numbers = None if numbers is None else np.asarray(numbers, int)
    return target_classes(np.concatenate(outputs), labels, targets, numbers, seed)


def first_correct(model: ModelOrNetwork, x: Any, y: Any = None, count: int | None = None) -> np.ndarray:
    """The places of the samples that the model classifies correctly, with no tie: the first ``count``, in order.

    The protocol of CNN-Cert and DeepCert asks about such samples alone: ``x[first_correct(model, x, y, 10)]``.

    Args:
        x, y: samples and labels, in the forms that :func:`tfcert.certify` takes.
        count: no more than so many; None for all.

    Raises:
        ValueError: as for :func:`tfcert.certify`, or a count that is not positive.
    """
    if count is not None and count < 1:
        raise ValueError(f"count must be at least 1, not {count!r}")
    network, x, y = asked(model, x, y)
    labels = labels_of(y, len(x), network)
    found: list[int] = []
    for first in range(0, len(x), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        outputs = np.asarray(network(tf.constant(x[part], network.dtype)))
        found += (first + np.flatnonzero(strictly_right(outputs, labels[part]))).tolist()
        if count is not None and len(found) >= count:
            break
    return np.array(found[:count], int)


def _predicted(network: Network, x: np.ndarray) -> np.ndarray:
    return np.asarray(network(tf.constant(x, network.dtype))).argmax(axis=1)


def first_order(
    network: Network, x: np.ndarray, clauses: Clauses, norm: str, scale: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The margins at x, and how fast their linear approximations fall with eps (the gradient's dual norm).

    Where a search for a radius begins; it proves nothing.

    Args:
        x: points ``[batch, *input]``.
        clauses: of the outputs.
        scale: ``[batch, *input]``, with which eps is multiplied; None for 1.

    Returns:
        ``[batch]`` each; the second is 0 where the outputs do not depend on the input.
    """
    point = tf.constant(x)
    rows = tf.constant(clauses.coefficients, network.dtype), tf.constant(clauses.offsets, network.dtype)
    with tf.GradientTape() as tape:
        tape.watch(point)
        margins = tf.reduce_min(clause_margins(network(point), *rows), axis=1)
    gradient = (
        tape.gradient(margins, point, unconnected_gradients="zero").numpy().reshape(len(x), math.prod(x.shape[1:]))
    )
    if scale is not None:
        gradient = gradient * scale.reshape(len(x), -1)
    return margins.numpy(), np.linalg.norm(gradient, DUAL_ORDER[norm], axis=1)


def target_clauses(network: Network, sets: Perturbation, y: Any, targets: Any) -> Clauses:
    """``f_y - f_j > 0`` for each sample's targets j, chosen at the set's centre: a clause of one row each.

    Targets with a name are those of :func:`~tfcert.clauses.target_classes`.
    """
    labels, classes = labels_of(y, len(sets), network), network.output_shape[-1]
    if isinstance(targets, str) and targets == "all":
        return keeps_label(labels, classes)
    if isinstance(targets, str):
        logits = network(tf.constant(sets.center, network.dtype)).numpy().astype(np.float64)
        chosen = target_classes(logits, labels, targets)
    else:
        chosen = labels_of(targets, len(sets), network, "target")
        if (chosen == labels).any():
            raise ValueError("a target equals the sample's label")
    return Clauses.all_of(differences(labels, chosen[:, None], classes))


def labels_of(y: Any, count: int, network: Network, what: str = "label") -> np.ndarray:
    """Labels as classes ``[batch]``, whatever form they were given in; a ValueError says what is wrong with them."""
    classes = network.output_shape[-1]
    require_classes(classes)
    return class_labels(y, count, classes=classes, what=what)
