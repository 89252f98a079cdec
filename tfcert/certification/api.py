"""Bounds, margins, certificates and certified radii of a model: the functions that users call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tfcert.catalog import METHODS, method_name, with_fallback
from tfcert.certification.certificates import Certificate, CertificateWriter
from tfcert.certification.softmax import softmax_bounds
from tfcert.clauses import Clauses, differences, other_classes
from tfcert.given import radius
from tfcert.misfit import warn_of_tiny_radius
from tfcert.network import Elementwise, Network
from tfcert.network.cache import ModelOrNetwork, network_of
from tfcert.options import BoundOptions
from tfcert.propagation.question import asked, asked_ball, labels_of, target_clauses
from tfcert.rigour.radius import CertifyingMethod, Reach, margins_of, proven_radius, rows_below
from tfcert.sets.balls import LpBall, Perturbation
from tfcert.sets.fitting import fitted, require_moving
from tfcert.showing import ShownResult, counted, spread
from tfcert.verdict import Guarantee, is_proof


@dataclass(frozen=True)
class Bounds(ShownResult):
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
class Certification(ShownResult):
    """Tells whether each sample is proven robust.

    Attributes:
        verified: bool ``[batch]``: the margin is finite and above ``rounding``.
        margin: ``[batch]``, the certified lower bound of ``f_y - f_j`` over the targets j and the whole set; of
            logits, where the model ends in a softmax.
        guarantee: what the margin promises.
        method, relaxation: how it was obtained.
        rounding: ``[batch]``, what the rounding of the model's own arithmetic may take from the margin: twice its
            estimated standard deviation, or 0 where the margin is charged for it already (the guarantees
            ``float32-any-order`` and ``real``). A positive margin that is not above it proves nothing.
        certificates: where they were asked for, one a sample: a :class:`~tfcert.Certificate`, None where nothing is
            verified, or the reason why the proof has none, in a sentence.
    """

    verified: np.ndarray
    margin: np.ndarray
    guarantee: Guarantee
    method: str
    relaxation: str
    rounding: np.ndarray
    certificates: tuple[Certificate | str | None, ...] = ()

    def __repr__(self) -> str:
        return (
            f"Certification: {int(self.verified.sum())} of {counted(len(self.verified), 'sample')} verified by "
            f"{self.method}, margin {spread(self.margin)} ({self.guarantee})"
        )

    def _columns(self) -> dict[str, Any]:
        return {"verified": self.verified, "margin": self.margin}


@dataclass(frozen=True)
class Radii(ShownResult):
    """Certified radii.

    Attributes:
        radius: ``[batch]``, the largest eps that was evaluated and certified; 0 if the sample is misclassified.
        margin: ``[batch]``, the margin certified at that radius.
        evaluations: bound evaluations a sample, on average, rounded up.
        guarantee: what the radius promises.
        certificates: where they were asked for, one a sample, as of :class:`Certification`: of its radius.
    """

    radius: np.ndarray
    margin: np.ndarray
    evaluations: int
    guarantee: Guarantee
    method: str
    relaxation: str
    certificates: tuple[Certificate | str | None, ...] = ()

    def __repr__(self) -> str:
        found = np.asarray(self.radius) > 0
        return (
            f"Radii: {int(found.sum())} of {counted(len(found), 'sample')} certified by {self.method}, radius "
            f"{spread(self.radius)} ({self.guarantee})"
        )

    def _columns(self) -> dict[str, Any]:
        return {"radius": self.radius, "margin": self.margin}


def bounds(
    model: ModelOrNetwork,
    perturbation: Perturbation,
    *,
    method: str = "crown",
    relaxation: str | None = None,
    fallback: str | None = None,
    outputs: str = "model",
    options: BoundOptions | None = None,
) -> Bounds:
    """Lower and upper bounds of every output over each set.

    Args:
        relaxation: a rule for the lines of activations (docs/bounds.md lists them); None for each activation's default.
        fallback: ``"adaptive"``: activations for which the relaxation has no rule get their default lines, and results
            name both (``deepcert+adaptive``); None refuses such a model.
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
    perturbation = fitted(perturbation, network.parts, network.input_shape)
    relaxation = with_fallback(relaxation, fallback)
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
            return rows_below(network, perturbation, rows, CertifyingMethod(method, relaxation, options))

        return Bounds(*softmax_bounds(network.output_shape[-1], differences), METHODS.find(method).guarantee)
    eye = np.eye(network.output_shape[-1])
    rows = np.broadcast_to(np.concatenate([eye, -eye]), (len(perturbation), 2 * len(eye), len(eye)))
    how = CertifyingMethod(method, relaxation, options)
    found = rows_below(network, perturbation, rows, how)
    return Bounds(found[:, : len(eye)], -found[:, len(eye) :], how.guarantee(network))


def margins(
    model: ModelOrNetwork,
    perturbation: Perturbation,
    y: Any,
    *,
    method: str = "crown",
    relaxation: str | None = None,
    fallback: str | None = None,
    options: BoundOptions | None = None,
) -> np.ndarray:
    """Lower bounds of ``f_y - f_j`` over each set, for every class j: ``[batch, classes]``; column y is +inf.

    Of a model that ends in a softmax these are differences of logits (of logarithms of probabilities, which is the
    same); their sign says which probability is larger.

    Args:
        y: labels: classes ``[batch]`` or ``[batch, 1]``, or one-hot rows ``[batch, classes]``.
        relaxation, fallback: as for :func:`bounds`.

    Raises:
        ValueError: as for :func:`bounds`, or a label that is not a class.
    """
    network, method = network_of(model, perturbation.lower), method_name(method)
    perturbation = fitted(perturbation, network.parts, network.input_shape)
    relaxation = with_fallback(relaxation, fallback)
    labels = labels_of(y, len(perturbation), network)
    classes = network.output_shape[-1]
    others = other_classes(labels, classes)
    found = rows_below(
        network, perturbation, differences(labels, others, classes), CertifyingMethod(method, relaxation, options)
    )
    full = np.full((len(labels), classes), np.inf, found.dtype)
    np.put_along_axis(full, others, found, axis=1)
    return full


def certify(
    model: ModelOrNetwork,
    x: Any,
    y: Any = None,
    *,
    eps: Any,
    norm: str = "linf",
    clip: Any = None,
    free: Any = None,
    method: str = "crown",
    relaxation: str | None = None,
    fallback: str | None = None,
    targets: Any = "all",
    certificate: bool = False,
    options: BoundOptions | None = None,
) -> Certification:
    """Certifies that no input within ``eps`` of ``x`` (and within ``clip``) reaches a target class.

    Only the order of the outputs counts, so that a model that ends in a softmax is decided by its logits.

    Args:
        x: samples ``[batch, *input]`` in the model's input space: an array, lists, a tensor, a DataFrame, or a
            ``tf.data.Dataset`` of ``(x, y)`` (without ``y`` then); for a model with several inputs a dictionary of
            such by their names, or a list in their order.
        y: labels: classes ``[batch]`` or ``[batch, 1]``, or one-hot rows ``[batch, classes]``.
        eps: radius in the units of x, one number (``0.03``, ``"8/255"``), one a sample, one a number of the input, or
            by the names of inputs, as for :class:`tfcert.LpBall`.
        clip: the valid range ``(low, high)`` of an input; None: every input counts.
        free: what may change, and nothing else: a mask of the input's shape, or names of inputs.
        relaxation, fallback: as for :func:`bounds`.
        targets: ``"all"``; ``"runner-up"`` or ``"least"`` (the most or least likely other class at x); ``"random"``
            (neither of these two, see :func:`tfcert.choose_targets`); or integers ``[batch]``. With one target the
            claim is about that class only.
        certificate: whether each proof is to be written as a certificate, which ``python -m tfcert.proof`` checks.

    Raises:
        ValueError: as for :func:`margins`, or a centre outside ``clip``.
    """
    deployed = model
    network, x, y = asked(model, x, y)
    method, relaxation = method_name(method), with_fallback(relaxation, fallback)
    ball = asked_ball(network, x, eps, norm, clip, free)
    if model is not network:
        warn_of_tiny_radius(ball.eps, ball.x)
    clauses = target_clauses(network, ball, y, targets)
    how = CertifyingMethod(method, relaxation, options)
    margin, lost = margins_of(network, ball, clauses, how)
    guarantee, verified = how.guarantee(network, clauses), is_proof(margin, lost)
    found = _certificates(deployed, ball, clauses, method, verified) if certificate else ()
    return Certification(verified, margin, guarantee, method, relaxation or "adaptive", lost, found)


def _certificates(
    model: Any, ball: LpBall, clauses: Clauses, method: str, proven: np.ndarray
) -> tuple[Certificate | str | None, ...]:
    """Of each sample with a proof its certificate, or the reason why it has none."""
    writer = CertificateWriter(model)
    return tuple(
        writer.certificate(ball.take([i]), clauses.take([i]), method, {"sample": i}) if some else None
        for i, some in enumerate(proven)
    )


def certified_radius(
    model: ModelOrNetwork,
    x: Any,
    y: Any = None,
    *,
    norm: str = "linf",
    clip: Any = None,
    free: Any = None,
    scale: Any = None,
    method: str = "crown",
    relaxation: str | None = None,
    fallback: str | None = None,
    targets: Any = "all",
    tolerance: float = 1e-4,
    absolute_tolerance: float = 0.0,
    start: float | None = None,
    upper: float | None = None,
    certificate: bool = False,
    options: BoundOptions | None = None,
) -> Radii:
    """The largest radius around each sample that the method certifies, to a relative ``tolerance``.

    Arguments are as for :func:`certify`, also of models that end in a softmax, and these:

    Args:
        scale: where radii are uneven, how they compare: a radius r says that nothing happens within ``r * scale``,
            number by number. An array of the input's shape, or a dictionary of numbers and arrays by the names of
            inputs, as ``eps`` of :class:`tfcert.LpBall`.
        tolerance: how near to where certification fails, as a share of the radius; 0 leaves it to the other.
        absolute_tolerance: the same as a distance, which is near enough whatever the radius. (CNN-Cert and DeepCert
            search with ``tolerance=0, absolute_tolerance=1e-5, start=0.05``.)
        start: the radius that is tried first; by default the gradient's guess, which saves evaluations.
        upper: the largest radius of interest.
        certificate: whether each proof is to be written as a certificate, which ``python -m tfcert.proof`` checks.

    Every radius returned was itself certified, with a margin above what the model's own rounding may take from it (see
    :class:`Certification`). Larger ones may be certifiable too: the margin need not fall monotonically with eps, so a
    few slightly larger radii are tried at the end.
    """
    deployed = model
    network, x, y = asked(model, x, y)
    method, relaxation = method_name(method), with_fallback(relaxation, fallback)
    dtype = network.dtype.as_numpy_dtype
    upper, start = radius(upper, "upper"), radius(start, "start")
    if not (tolerance >= 0 and absolute_tolerance >= 0 and tolerance + absolute_tolerance > 0):
        raise ValueError(
            f"one of tolerance and absolute_tolerance must be positive and neither negative, not {tolerance!r} and "
            f"{absolute_tolerance!r}"
        )
    for name, value in (("upper", upper), ("start", start)):
        if not (value is None or (np.ndim(value) == 0 and value > 0)):
            raise ValueError(f"{name} must be a positive number, not {value!r}")
    center = LpBall(x, 0.0, norm, clip, free=free, scale=scale, parts=network.parts).astype(dtype)
    center = require_moving(fitted(center, network.parts, network.input_shape))
    if not bool(network.finite()):
        raise ValueError("a weight of the model is NaN or infinite: nothing can be certified")
    clauses = target_clauses(network, center, y, targets)
    reach = Reach(np.inf if upper is None else float(upper), tolerance, absolute_tolerance, start and float(start))
    how = CertifyingMethod(method, relaxation, options)
    found = proven_radius(network, center, clauses, how, reach)
    guarantee = how.guarantee(network, clauses)
    files: tuple[Certificate | str | None, ...] = ()
    if certificate:
        files = _certificates(deployed, center.resized(found.radius), clauses, method, found.radius > 0)
    return Radii(found.radius, found.margin, found.evaluations, guarantee, method, relaxation or "adaptive", files)
