"""What users call: bounds, margins, certificates and certified radii of a Keras model."""

from __future__ import annotations

import json
import math
import weakref
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from tfcert.attacks.gradient import clause_margins
from tfcert.catalog import method_name
from tfcert.certification.softmax import softmax_bounds
from tfcert.clauses import Clauses, differences, keeps_label, other_classes, require_classes
from tfcert.given import class_labels, radius, samples
from tfcert.misfit import warn_of_misfit, warn_of_tiny_radius
from tfcert.network import Elementwise, Network, from_keras, require_one_input
from tfcert.network.keras.private import layers_within
from tfcert.options import BoundOptions
from tfcert.propagation.engine import guarantee_of, lower_bounds
from tfcert.propagation.radius import first_guess, largest_radius
from tfcert.rigour.margins import rounding
from tfcert.sets.balls import DUAL_ORDER, ORDER, LpBall, Perturbation
from tfcert.showing import counted, spread, table
from tfcert.verdict import Guarantee, is_proof

ModelOrNetwork: TypeAlias = "keras.Model | Network"
_NETWORKS: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Bounds:
    """Bounds of the outputs (of which, see :func:`bounds`) over each set: ``lower``, ``upper`` ``[batch, outputs]``."""

    lower: np.ndarray
    upper: np.ndarray
    guarantee: Guarantee = Guarantee.NUMERIC

    def __repr__(self) -> str:
        samples, outputs = (*self.lower.shape, 1)[:2]
        wide = spread(np.asarray(self.upper, np.float64) - self.lower)
        return (
            f"Bounds of {counted(outputs, 'output')} for {counted(samples, 'sample')}: lower {spread(self.lower)}; "
            f"upper {spread(self.upper)}; width {wide} ({self.guarantee})"
        )


@dataclass(frozen=True)
class Certification:
    """Whether each sample is proven robust.

    Attributes:
        verified: bool ``[batch]``: the margin is finite and above ``rounding``.
        margin: ``[batch]``, the certified lower bound of ``f_y - f_j`` over the targets j and the whole set; of
            logits, where the model ends in a softmax.
        guarantee: what the margin promises.
        method, relaxation: how it was obtained.
        rounding: ``[batch]``, what the rounding of the model's own arithmetic may take from the margin: twice its
            estimated standard deviation. A positive margin that is not above it proves nothing.
    """

    verified: np.ndarray
    margin: np.ndarray
    guarantee: Guarantee
    method: str
    relaxation: str
    rounding: np.ndarray

    def __repr__(self) -> str:
        return (
            f"Certification: {int(self.verified.sum())} of {counted(len(self.verified), 'sample')} verified by "
            f"{self.method}, margin {spread(self.margin)} ({self.guarantee})"
        )

    def __str__(self) -> str:
        return f"{self!r}\n{table({'verified': self.verified, 'margin': self.margin})}"


@dataclass(frozen=True)
class Radii:
    """Certified radii.

    Attributes:
        radius: ``[batch]``, the largest eps that was evaluated and certified; 0 if the sample is misclassified.
        margin: ``[batch]``, the margin certified at that radius.
        evaluations: bound evaluations a sample, on average, rounded up.
        guarantee: what the radius promises.
    """

    radius: np.ndarray
    margin: np.ndarray
    evaluations: int
    guarantee: Guarantee
    method: str
    relaxation: str

    def __repr__(self) -> str:
        found = np.asarray(self.radius) > 0
        return (
            f"Radii: {int(found.sum())} of {counted(len(found), 'sample')} certified by {self.method}, radius "
            f"{spread(self.radius)} ({self.guarantee})"
        )

    def __str__(self) -> str:
        return f"{self!r}\n{table({'radius': self.radius, 'margin': self.margin})}"


def network_of(model: ModelOrNetwork, x: Any = None) -> Network:
    """The network of a model, built once for a model as it stands (its weights stay live).

    ``x`` fixes dimensions that the model leaves open.
    """
    if isinstance(model, Network):
        return model
    if not isinstance(model, keras.Model):
        raise TypeError(f"expected a Keras model, got {type(model).__name__}; tfcert.load_model reads one from a file")
    require_one_input(model)
    shape = None if x is None else tuple(np.shape(x)[1:])
    declared = tuple(getattr(model, "input_shape", None) or (None,))  # a Sequential that was never built has none
    # What a network is built from: the layers' options, and the objects (kept alive here) that hold its numbers.
    held = _held(model)
    key = (_options(model), tuple(map(id, held)), shape if None in declared[1:] else None)
    known = _NETWORKS.get(model)
    if known is None or known.key != key:
        known = _NETWORKS[model] = _Known(key, held, from_keras(model, x))
    return known.network


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


@dataclass(frozen=True)
class _Known:
    key: tuple[Any, ...]
    held: list[Any]
    network: Network


def _options(model: keras.Model) -> str:
    """Every option of every layer, nested models included, as text."""
    return json.dumps(model.get_config(), default=repr, sort_keys=True)


def _held(model: keras.Model) -> list[Any]:
    """Variables, and the statistics that a Normalization layer replaces when it is adapted again."""
    statistics = [
        tensor
        for layer in layers_within(model)
        if isinstance(layer, keras.layers.Normalization)
        for tensor in (layer.mean, layer.variance)
    ]
    return [*model.variables, *statistics]


def _same_shape(network: Network, perturbation: Perturbation) -> None:
    if perturbation.input_shape != network.input_shape:
        raise ValueError(f"samples of shape {perturbation.input_shape} for a model of {network.input_shape} inputs")


def bounds(
    model: ModelOrNetwork,
    perturbation: Perturbation,
    *,
    method: str = "crown",
    relaxation: str | None = None,
    outputs: str = "model",
    options: BoundOptions | None = None,
) -> Bounds:
    """Lower and upper bounds of every output over each set.

    Args:
        outputs: ``"model"``: what the model returns. Of a model that ends in a softmax these are probabilities,
            bounded through the differences of all pairs of logits: with hundreds of classes that takes long.
            ``"logits"``: what goes into that softmax (of a model that ends in a linear layer, its outputs). A network
            that :func:`tfcert.from_keras` made is bounded as it is: it ends in the logits.

    Raises:
        UnsupportedLayerError: the model has a layer that tfcert does not know.
        ValueError: shapes that do not fit, an unknown method or relaxation, NaN or infinite weights, or logits of a
            model that ends in another activation than softmax.
    """
    network, method = network_of(model, perturbation.lower), method_name(method)
    if outputs not in ("model", "logits"):
        raise ValueError(f"outputs must be 'model' or 'logits', not {outputs!r}")
    last = network.nodes[-1]
    if outputs == "logits" and isinstance(last, Elementwise):
        raise ValueError(
            f"the model ends in {last.activation.name}, which belongs to its outputs; outputs='logits' is for models "
            "that end in a softmax or a linear layer"
        )
    if network.peeled and outputs == "model" and not isinstance(model, Network):

        def differences(some: np.ndarray) -> np.ndarray:
            rows = np.broadcast_to(some, (len(perturbation), *some.shape))
            return _rows(network, perturbation, rows, method, relaxation, options)

        return Bounds(*softmax_bounds(network.output_shape[-1], differences), guarantee_of(method))
    eye = np.eye(network.output_shape[-1])
    rows = np.broadcast_to(np.concatenate([eye, -eye]), (len(perturbation), 2 * len(eye), len(eye)))
    found = _rows(network, perturbation, rows, method, relaxation, options)
    return Bounds(found[:, : len(eye)], -found[:, len(eye) :], guarantee_of(method))


def margins(
    model: ModelOrNetwork,
    perturbation: Perturbation,
    y: Any,
    *,
    method: str = "crown",
    relaxation: str | None = None,
    options: BoundOptions | None = None,
) -> np.ndarray:
    """Lower bounds of ``f_y - f_j`` over each set, for every class j: ``[batch, classes]``; column y is +inf.

    Of a model that ends in a softmax these are differences of logits (of logarithms of probabilities, which is the
    same); their sign says which probability is larger.

    Args:
        y: labels: classes ``[batch]`` or ``[batch, 1]``, or one-hot rows ``[batch, classes]``.

    Raises:
        ValueError: as for :func:`bounds`, or a label that is not a class.
    """
    network, method = network_of(model, perturbation.lower), method_name(method)
    labels = _labels(y, len(perturbation), network)
    classes = network.output_shape[-1]
    others = other_classes(labels, classes)
    lower = _rows(network, perturbation, differences(labels, others, classes), method, relaxation, options)
    full = np.full((len(labels), classes), np.inf, lower.dtype)
    np.put_along_axis(full, others, lower, axis=1)
    return full


def certify(
    model: ModelOrNetwork,
    x: Any,
    y: Any = None,
    *,
    eps: Any,
    norm: str = "linf",
    clip: Any = None,
    method: str = "crown",
    relaxation: str | None = None,
    targets: Any = "all",
    options: BoundOptions | None = None,
) -> Certification:
    """Certifies that no input within ``eps`` of ``x`` (and within ``clip``) reaches a target class.

    Only the order of the outputs counts, so that a model that ends in a softmax is decided by its logits.

    Args:
        x: samples ``[batch, *input]`` in the model's input space: an array, lists, a tensor, a DataFrame, or a
            ``tf.data.Dataset`` of ``(x, y)`` (without ``y`` then).
        y: labels: classes ``[batch]`` or ``[batch, 1]``, or one-hot rows ``[batch, classes]``.
        eps: radius in the units of x, one number (``0.03``, ``"8/255"``) or one a sample.
        clip: the valid range ``(low, high)`` of an input; None: every input counts.
        targets: ``"all"``; ``"runner-up"`` or ``"least"`` (the most or least likely other class at x); or integers
            ``[batch]``. With one target the claim is about that class only.

    Raises:
        ValueError: as for :func:`margins`, or a centre outside ``clip``.
    """
    network, x, y = asked(model, x, y)
    method = method_name(method)
    ball = LpBall(x, eps, norm, clip).astype(network.dtype.as_numpy_dtype)
    _same_shape(network, ball)
    if model is not network:
        warn_of_tiny_radius(ball.eps, ball.x)
    clauses = target_clauses(network, ball, y, targets)
    margin, lost = _margins(network, ball, clauses, (method, relaxation, options))
    verified = is_proof(margin, lost)
    return Certification(verified, margin, guarantee_of(method), method, relaxation or "adaptive", lost)


def certified_radius(
    model: ModelOrNetwork,
    x: Any,
    y: Any = None,
    *,
    norm: str = "linf",
    clip: Any = None,
    method: str = "crown",
    relaxation: str | None = None,
    targets: Any = "all",
    tolerance: float = 1e-4,
    upper: float | None = None,
    options: BoundOptions | None = None,
) -> Radii:
    """The largest radius around each sample that the method certifies, to a relative ``tolerance``.

    Args as for :func:`certify`, also of models that end in a softmax; ``upper`` is the largest radius of interest.

    Every radius returned was itself certified, with a margin above what the model's own rounding may take from it (see
    :class:`Certification`). Larger ones may be certifiable too: the margin need not fall monotonically with eps, so a
    few slightly larger radii are tried at the end.
    """
    network, x, y = asked(model, x, y)
    method = method_name(method)
    dtype = network.dtype.as_numpy_dtype
    upper = radius(upper, "upper")
    if not tolerance > 0 or not (upper is None or (np.ndim(upper) == 0 and upper > 0)):
        raise ValueError(f"tolerance and upper must be positive numbers, not {tolerance!r} and {upper!r}")
    center = LpBall(x, 0.0, norm, clip).astype(dtype)
    _same_shape(network, center)
    if not bool(network.finite()):
        raise ValueError("a weight of the model is NaN or infinite: nothing can be certified")
    clauses = target_clauses(network, center, y, targets)
    start, slope = first_order(network, center.x, clauses, norm)
    points = center.x.astype(np.float64)
    limit = np.inf if upper is None else float(upper)
    if clip is not None:  # no point of the clip range is farther away
        reach = np.maximum(np.asarray(clip[1]) - points, points - np.asarray(clip[0])).reshape(
            len(points), math.prod(points.shape[1:])
        )
        order = ORDER[norm]
        limit = min(limit, float(np.max(np.linalg.norm(reach, order, axis=1), initial=0.0)))

    def margin_at(index: np.ndarray, eps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        some = center.take(index)  # a clip may differ by sample
        ball = LpBall(some.x, list(map(float, eps)), norm, some.clip)
        return _margins(network, ball, clauses.take(index), (method, relaxation, options))

    found = largest_radius(
        margin_at,
        start,
        start_rounding=rounding(network, center, clauses.rows()[0]).min(axis=1),
        guesses=first_guess(start, slope, norm),
        slope=slope,
        upper=limit,
        tolerance=tolerance,
    )
    return Radii(found.radius, found.margin, found.evaluations, guarantee_of(method), method, relaxation or "adaptive")


def _rows(
    network: Network,
    perturbation: Perturbation,
    rows: np.ndarray,
    method: str,
    relaxation: str | None,
    options: BoundOptions | None,
) -> np.ndarray:
    offsets = np.zeros(rows.shape[:2])
    return lower_bounds(network, perturbation, rows, offsets, method=method, relaxation=relaxation, options=options)


def _margins(
    network: Network, sets: Perturbation, clauses: Clauses, how: tuple[str, str | None, BoundOptions | None]
) -> tuple[np.ndarray, np.ndarray]:
    """The certified margins, NaN where nothing is known, and what rounding may take from them."""
    rows, _ = clauses.rows()
    return clauses.certified(_rows(network, sets, rows, *how), rounding(network, sets, rows))


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
    labels, classes = _labels(y, len(sets), network), network.output_shape[-1]
    if isinstance(targets, str) and targets == "all":
        return keeps_label(labels, classes)
    if isinstance(targets, str):
        if targets not in ("runner-up", "least"):
            raise ValueError(f"targets must be 'all', 'runner-up', 'least' or integers, not {targets!r}")
        logits = network(tf.constant(sets.center, network.dtype)).numpy().astype(np.float64)
        logits[np.arange(len(labels)), labels] = -np.inf if targets == "runner-up" else np.inf
        chosen = logits.argmax(axis=1) if targets == "runner-up" else logits.argmin(axis=1)
    else:
        chosen = _labels(targets, len(sets), network, "target")
        if (chosen == labels).any():
            raise ValueError("a target equals the sample's label")
    return Clauses.all_of(differences(labels, chosen[:, None], classes))


def _labels(y: Any, count: int, network: Network, what: str = "label") -> np.ndarray:
    classes = network.output_shape[-1]
    require_classes(classes)
    return class_labels(y, count, classes=classes, what=what)
