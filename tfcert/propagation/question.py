"""Questions of users about samples, as clauses over the outputs of a network."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcert.attacks.gradient import clause_margins
from tfcert.clauses import Clauses, differences, keeps_label, require_classes
from tfcert.given import class_labels, samples
from tfcert.misfit import warn_of_misfit
from tfcert.network import Network, require_one_input
from tfcert.network.cache import ModelOrNetwork, network_of
from tfcert.sets.balls import DUAL_ORDER, Perturbation


def asked(model: ModelOrNetwork, x: Any, y: Any) -> tuple[Network, np.ndarray, Any]:
    """The network of a model, the samples as an array ``[batch, *input]``, and their labels in whatever form.

    Warns where the samples are not what the model seems to expect, see :mod:`tfcert.misfit`.

    Raises:
        ValueError: a model with several inputs, samples that are no array of numbers, or labels that are no classes.
    """
    if isinstance(model, keras.Model):
        require_one_input(model)
    x, y = samples(x, y, model=model)
    network = network_of(model, x)
    classes = network.output_shape[-1]
    if model is not network and y is not None and classes > 1 and x.shape[1:] == network.input_shape:
        y = class_labels(y, len(x), classes=classes)
        warn_of_misfit(lambda some: _predicted(network, some), x, y, classes)
    return network, x, y


def _predicted(network: Network, x: np.ndarray) -> np.ndarray:
    return np.asarray(network(tf.constant(x, network.dtype))).argmax(axis=1)


def require_same_shape(network: Network, perturbation: Perturbation) -> None:
    """Raises a ValueError for sets of inputs that the network does not take."""
    if perturbation.input_shape != network.input_shape:
        raise ValueError(f"samples of shape {perturbation.input_shape} for a model of {network.input_shape} inputs")


def first_order(network: Network, x: np.ndarray, clauses: Clauses, norm: str) -> tuple[np.ndarray, np.ndarray]:
    """The margins at x, and how fast their linear approximations fall with eps (the gradient's dual norm).

    Where a search for a radius begins; it proves nothing.

    Args:
        x: points ``[batch, *input]``.
        clauses: of the outputs.

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
    return margins.numpy(), np.linalg.norm(gradient, DUAL_ORDER[norm], axis=1)


def target_clauses(network: Network, sets: Perturbation, y: Any, targets: Any) -> Clauses:
    """``f_y - f_j > 0`` for each sample's targets j, chosen at the set's centre: a clause of one row each."""
    labels, classes = labels_of(y, len(sets), network), network.output_shape[-1]
    if isinstance(targets, str) and targets == "all":
        return keeps_label(labels, classes)
    if isinstance(targets, str):
        if targets not in ("runner-up", "least"):
            raise ValueError(f"targets must be 'all', 'runner-up', 'least' or integers, not {targets!r}")
        logits = network(tf.constant(sets.center, network.dtype)).numpy().astype(np.float64)
        logits[np.arange(len(labels)), labels] = -np.inf if targets == "runner-up" else np.inf
        chosen = logits.argmax(axis=1) if targets == "runner-up" else logits.argmin(axis=1)
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
