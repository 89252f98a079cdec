"""CLEVER: an estimate of the smallest adversarial distance from sampled gradients (Weng et al., ICLR 2018)."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.estimates.question import DistanceAnswer, DistanceQuestion
from tfcert.estimates.results import CleverScores
from tfcert.estimates.samples import read_samples
from tfcert.estimates.weibull import fit_reverse_weibull
from tfcert.network import Network
from tfcert.sets.balls import DUAL_ORDER
from tfcert.tracing import traced
from tfcert.verdict import Reason

_COMPILED: weakref.WeakKeyDictionary[Network, dict[tuple[str, int, int], Callable[..., tf.Tensor]]] = (
    weakref.WeakKeyDictionary()
)


RADII = {"linf": 5.0, "l2": 5.0, "l1": 40.0}
"""The balls sampled where nothing is said. An L1 distance adds up what many inputs change by: of images of digits it is
above 5, which would then be everybody's score."""


@dataclass(frozen=True)
class CleverOptions:
    """Options of CLEVER: how much it samples.

    Attributes:
        radius: of the ball that gradients are sampled in, in the units of x; no score exceeds it. None: 5, in L1 40.
        batches: maxima that the distribution is fitted to (the paper's N_b; it uses 500).
        samples: points that each maximum is taken over (the paper's N_s; it uses 1024).
        seed: of the points.

    Raises:
        ValueError: a value that is not positive, or fewer than 10 batches.
    """

    radius: float | None = None
    batches: int = 100
    samples: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.radius is not None and not (self.radius > 0 and math.isfinite(self.radius)):
            raise ValueError(f"radius must be a positive number, not {self.radius!r}")
        if self.batches < 10 or self.samples < 1:
            raise ValueError(
                f"at least 10 batches of at least 1 sample make a fit, not {self.batches} of {self.samples}"
            )

    def reach(self, norm: str) -> float:
        """The radius of the balls in a norm."""
        return RADII[norm] if self.radius is None else self.radius


def clever_score(
    model: Any, x: Any, y: Any = None, *, norm: str = "l2", targets: Any = "all", **options: Any
) -> CleverScores:
    """The CLEVER score of each sample: ``min_j min((f_y - f_j)(x) / L_j, radius)`` with an estimated ``L_j``.

    ``L_j`` is the location of a reverse Weibull distribution fitted to the largest dual norms of the gradient of
    ``f_y - f_j`` in batches of points that are uniform in the ball (Weng et al. 2018, algorithms 1 and 2).

    Args:
        model: a Keras model or a network (gradients are the logits'); x, y: samples and labels, as for
            :func:`tfcert.certify`.
        norm: ``linf``, ``l2`` or ``l1``, in the units of x. The balls are not clipped.
        targets: as for :func:`tfcert.certified_radius`; the score is the least over them.
        options: the fields of :class:`CleverOptions` (``radius``, ``batches``, ``samples``, ``seed``).

    Raises:
        ValueError: as for :func:`tfcert.certified_radius`, or an option out of range.

    Guarantee: ``estimate``, which is none: the score may lie above the distance to an adversarial example.
    """
    return _scores(model, x, y, (norm, targets, CleverOptions(**options)))


def clever_answers(question: DistanceQuestion) -> Iterator[DistanceAnswer]:
    """The CLEVER score of each sample: an estimate. One that is cut at the ball's radius says so."""
    options = CleverOptions(**{name: value for name, value in question.options.items() if name != "targets"})
    how = question.norm, question.targets, options
    found = _scores(question.model, question.x, question.y, how, question.places)
    for score in found.score.tolist():
        cut = Reason.AT_CAP.because(radius=found.limit) if score >= found.limit else Reason.ESTIMATED.because()
        yield DistanceAnswer(estimate=score, reason=cut)


def _scores(
    model: Any, x: Any, y: Any, how: tuple[str, Any, CleverOptions], numbers: Sequence[int] | None = None
) -> CleverScores:
    """The scores; points are drawn by the samples' numbers: as they are counted, where none are given."""
    norm, targets, settings = how
    network, samples = read_samples(model, x, y, norm, targets)
    margin = samples.margins(network)
    right = np.flatnonzero((margin > 0).all(axis=1))
    constant, largest, score = np.full(margin.shape, np.nan), np.full(margin.shape, np.nan), np.zeros(len(samples))
    if right.size:
        maxima = gradient_maxima(network, norm, settings)
        norms = np.stack(
            [maxima(samples.x[i], samples.rows[i], int(i) if numbers is None else numbers[int(i)]) for i in right]
        )
        constant[right], largest[right] = fit_reverse_weibull(norms).location, norms.max(axis=2)
        with np.errstate(divide="ignore"):
            score[right] = np.minimum((margin[right] / constant[right]).min(axis=1), settings.reach(norm))
    return CleverScores(score, constant, largest, settings.reach(norm), norm)


def gradient_maxima(
    network: Network, norm: str, options: CleverOptions
) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """A compiled function ``(x, rows, sample) -> maxima``: ``[*input], [targets, outputs] -> [targets, batches]``.

    Each maximum is the largest dual norm of the gradient of ``rows @ outputs`` over one batch of points, which are
    others for every number ``sample``.
    """
    dtype = network.dtype

    def maxima(x: np.ndarray, rows: np.ndarray, sample: int) -> np.ndarray:
        run = _compiled(network, norm, options.samples, len(rows))
        seeds = [[options.seed, sample * options.batches + batch] for batch in range(options.batches)]
        radius = tf.constant(options.reach(norm), dtype)
        return run(tf.constant(x), tf.constant(rows, dtype), radius, tf.constant(seeds)).numpy().T

    return maxima


def _compiled(network: Network, norm: str, count: int, targets: int) -> Callable[..., tf.Tensor]:
    """``(x, rows, radius, seeds [batches, 2]) -> [batches, targets]``, traced once for a network."""
    known = _COMPILED.setdefault(network, {})
    key = (norm, count, targets)
    if key in known:
        return known[key]
    shape, dtype = network.input_shape, network.dtype
    size = math.prod(shape)
    owner = weakref.ref(network)  # what is kept for a network must not keep it alive

    def one_batch(x: tf.Tensor, rows: tf.Tensor, radius: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        steps = uniform_in_ball(norm, count, size, seed, dtype)
        points = x + radius * tf.reshape(steps, [-1, *shape])
        net = owner()
        assert net is not None
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(points)
            margins = tf.unstack(tf.linalg.matmul(net(points), rows, transpose_b=True), targets, axis=1)
        gradients = [tape.gradient(margin, points, unconnected_gradients="zero") for margin in margins]
        lengths = [tf.norm(tf.reshape(g, [-1, size]), DUAL_ORDER[norm], axis=1) for g in gradients]
        return tf.stack([tf.reduce_max(length) for length in lengths])

    def run(x: tf.Tensor, rows: tf.Tensor, radius: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        signature = tf.TensorSpec([targets], dtype)
        return tf.map_fn(
            lambda seed: one_batch(x, rows, radius, seed), seeds, fn_output_signature=signature, parallel_iterations=1
        )

    rows, seeds = tf.TensorSpec([targets, *network.output_shape], dtype), tf.TensorSpec([None, 2], tf.int32)
    known[key] = traced(run, input_signature=[tf.TensorSpec(shape, dtype), rows, tf.TensorSpec([], dtype), seeds])
    return known[key]


def uniform_in_ball(norm: str, count: int, size: int, seed: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Points ``[count, size]`` that are uniform in the unit ball; the same for the same seed (two integers)."""
    if norm == "linf":
        return tf.random.stateless_uniform([count, size], seed, -1, 1, dtype)
    seeds = tf.random.split(seed, 2)
    direction = tf.random.stateless_normal([count, size], seeds[0], dtype=dtype)
    if norm == "l2":
        length = tf.random.stateless_uniform([count, 1], seeds[1], dtype=dtype) ** (1 / size)
        return direction / tf.norm(direction, axis=1, keepdims=True) * length
    # The first n of n + 1 exponential variables, divided by the sum of all, are uniform in the simplex.
    uniform = tf.random.stateless_uniform([count, size + 1], seeds[1], np.finfo(np.float32).tiny, 1, dtype)
    exponential = -tf.math.log(uniform)
    return tf.sign(direction) * exponential[:, :size] / tf.reduce_sum(exponential, axis=1, keepdims=True)
