"""FGSM and PGD on a property's margin, in graph mode, a batch of samples at a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.attacks import geometry
from tfcert.catalog import ATTACKS
from tfcert.clauses import Clauses
from tfcert.sets.conditions import Conditions
from tfcert.sets.region import Region
from tfcert.tracing import traced

TensorFunction = Callable[[tf.Tensor], tf.Tensor]
Margins = Callable[[tf.Tensor], tf.Tensor]
"""Points ``[batch, size]`` to the margins of their clauses ``[batch, clauses]``."""


LOSSES = ("margin", "cross_entropy")
"""What an attack descends on."""


@dataclass(frozen=True)
class AttackOptions:
    """Options of attacks: how hard they try.

    Attributes:
        method: ``pgd`` (projected gradient descent, Madry et al. 2018) or ``fgsm`` (its first step, to the boundary;
            Goodfellow et al. 2015).
        steps: gradient steps of each start.
        restarts: starts; the first from the centre, the others from random points, every other one of which goes for
            a single clause (another class each time) instead of the easiest.
        step_size: length of a step in the units of the input; None for a length that falls from 0.6 eps to 0.
        loss: what steps descend on: ``margin``, the least of the property's margins; or ``cross_entropy``, over its
            clauses ``-log(1 + sum of exp(-margin))``, which for "keeps its class" is the cross-entropy of the logits,
            less than zero (the loss of Madry et al. 2018). The best point is the one with the least margin either way.
        points: how many random points, corners and points of faces of each region are looked at beside (batched, one
            pass); None for a number by the size of the input: 512 of up to 16 inputs, 16 of an image. 0 for none.
        seed: of the random starts and points.
        jit: compile with XLA (each batch size is compiled anew).
        batch_size: most samples attacked at once.

    Raises:
        ValueError: an unknown method or a value that is not positive.
    """

    method: str = "pgd"
    steps: int = 40
    restarts: int = 3
    step_size: float | None = None
    loss: str = "margin"
    points: int | None = None
    seed: int = 0
    jit: bool = False
    batch_size: int = 512

    def __post_init__(self) -> None:
        ATTACKS.find(self.method)
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be {' or '.join(LOSSES)}, not {self.loss!r}")
        for name in ("steps", "restarts", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.points is not None and self.points < 0:
            raise ValueError(f"points must not be negative, not {self.points}")
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(f"step_size must be positive, not {self.step_size}")


_FIRST_STEP = 0.6
_LOOKS = 2
"""Gradients that a start takes before its first step."""
Left = Callable[[], float]
"""The seconds that are left by a clock of the caller's; infinite for no limit."""


def endless() -> float:
    """No limit."""
    return math.inf


class Proposal(NamedTuple):
    """A point of each region, ``[batch, *input]``: the best that one way of looking found.

    ``gradients`` is how many were taken of each sample, ``late`` whether the time was up before the end.
    """

    points: np.ndarray
    gradients: int = 0
    late: bool = False


def pgd(
    model: TensorFunction,
    region: Region,
    clauses: Clauses,
    restart: int,
    options: AttackOptions,
    left: Left = endless,
    conditions: Conditions | None = None,
) -> Proposal:
    """The best point that one start of the attack finds for each sample.

    "Best" is the lowest margin. The point lies in the region up to rounding; whether it is a witness, a replay decides.

    Args:
        left: is asked between runs of steps, whose number is what half of the time that is left is expected to do.
        conditions: on the inputs, into which every step is moved back.
    """
    shape = region.center.shape
    vectors = ("center", "lower", "upper", "eps") if region.uneven else ("center", "lower", "upper")
    flat = region._replace(**{k: tf.reshape(getattr(region, k), [shape[0], -1]) for k in vectors})
    dtype = region.center.dtype
    given: tuple[tf.Tensor, ...] = (
        *flat[2:],
        tf.constant(clauses.coefficients, dtype),
        tf.constant(clauses.offsets, dtype),
    )
    if conditions is not None:
        given += tf.constant(conditions.rows, dtype), tf.constant(conditions.offsets, dtype)
    chased = (restart + 1) // 2 if restart % 2 else -1
    kind = *region.kind, options.loss, conditions is not None
    begin, descend = _compiled(model, (*shape[1:],), dtype, kind, options.jit)
    size = _step_size(flat, options)
    before, done, late = left(), 0, False
    target, path = begin(
        *given, tf.constant([options.seed, restart]), tf.constant(chased), tf.constant(0 if restart else 1)
    )
    pace = (before - left()) / _LOOKS
    while done < options.steps and not (path.lowest.numpy() < 0).all():
        more = _affordable(before := left(), pace, options.steps - done)
        if not more:
            late = True
            break
        ends = tf.constant([done, done + more, options.steps])
        path = descend(*given, target, path, ends, size)
        pace, done = (before - left()) / more, done + more
    best = flat.center + flat.eps * path.best if region.uneven else path.best
    return Proposal(best.numpy().reshape(shape), _LOOKS + done, late)


def trace(model: TensorFunction, region: Region) -> None:
    """Traces what :func:`pgd` runs on regions of this kind, down the margin."""
    kind = (*region.kind, AttackOptions.loss, False)
    for function in _compiled(model, (*region.center.shape[1:],), region.center.dtype, kind, False):
        function.get_concrete_function()


def fgsm(
    model: TensorFunction,
    region: Region,
    clauses: Clauses,
    restart: int,
    options: AttackOptions,
    left: Left = endless,
    conditions: Conditions | None = None,
) -> Proposal:
    """The same of the first step alone: there is never time for another. Arguments and results as for :func:`pgd`."""
    return pgd(model, region, clauses, restart, options, lambda: 0.0, conditions)._replace(late=False)


def _affordable(left: float, pace: float, wanted: int) -> int:
    """The number of the ``wanted`` steps, of ``pace`` seconds each, that are taken before the clock is looked at."""
    if math.isinf(left):
        return wanted
    if left <= max(0.0, pace):
        return 0
    return wanted if wanted * pace <= left / 2 else max(1, int(left / 2 / pace))


def _step_size(region: Region, options: AttackOptions) -> tf.Tensor:
    """``[batch, 1]``: the first step relative to the radius; negative where steps keep their length."""
    radius = tf.reduce_max(region.upper - region.lower, axis=1) / 2 if region.is_box else region.eps
    if region.uneven:
        radius = tf.reduce_max(radius, axis=1)
    if options.step_size is None:
        return tf.fill([radius.shape[0], 1], tf.constant(_FIRST_STEP, radius.dtype))
    return -tf.math.divide_no_nan(tf.constant(options.step_size, radius.dtype), radius)[:, None]


class MarginLoss(NamedTuple):
    """The margins of points, ``every``, the loss by which they are lowered, and what moves them into conditions."""

    every: Margins
    loss: str
    into: TensorFunction

    def aim(self, every: tf.Tensor) -> tf.Tensor:
        """What a start descends on that goes for no single clause: one number a point, of its clauses' margins."""
        if self.loss == "margin":
            return tf.reduce_min(every, axis=1)
        return -tf.reduce_logsumexp(tf.pad(-every, [[0, 0], [1, 0]]), axis=1)


class Path(NamedTuple):
    """One start of the attack: its state for each sample.

    Attributes:
        point, uphill: ``[batch, size]``: the last point, and where the margin falls from there.
        best, lowest: ``[batch, size]`` and ``[batch]``: the point with the lowest margin so far, and that margin.
    """

    point: tf.Tensor
    uphill: tf.Tensor
    best: tf.Tensor
    lowest: tf.Tensor


@functools.lru_cache(maxsize=8)
def _compiled(
    model: TensorFunction, shape: tuple[int, ...], dtype: tf.DType, kind: tuple[Any, bool, bool, str, bool], jit: bool
) -> tuple[Any, Any]:
    """The beginning of a start and some of its steps, as compiled functions of tensors; for any batch size.

    ``kind`` is that of the region, the loss, and whether there are conditions on inputs. The last functions are kept,
    with their models. On an uneven region points are in units of its radii.
    """
    norm, clipped, uneven, loss, limited = kind

    def asked(given: Sequence[tf.Tensor]) -> tuple[Region, MarginLoss]:
        sets, (coefficients, offsets, *limits) = given[:4], given[4:]
        region = Region(norm, clipped, *sets)
        around = region.in_units() if uneven else region

        def margins(z: tf.Tensor) -> tf.Tensor:
            if uneven:
                z = region.center + region.eps * z
            outputs = model(tf.reshape(z, [-1, *shape]))
            outputs = tf.cast(tf.reshape(outputs, [tf.shape(z)[0], -1]), z.dtype)
            return clause_margins(outputs, coefficients, offsets)

        def into(z: tf.Tensor) -> tf.Tensor:
            if not limited:
                return z
            conditions = geometry.Halfspaces(*limits)
            return geometry.into(around, conditions.in_units(region) if uneven else conditions, z)

        return around, MarginLoss(margins, loss, into)

    def begin(*arguments: tf.Tensor) -> tuple[tf.Tensor, Path]:
        *given, seed, chased, jump = arguments
        region, margins = asked(given)
        target = _clause_in_rank(margins.every(region.center), chased)
        start = tf.cond(jump > 0, lambda: region.center, lambda: geometry.random_point(region, seed))
        return target, _first(region, margins, target, (start, jump))

    def descend(*arguments: Any) -> Path:
        *given, target, path, ends, size = arguments
        return _descend(*asked(given), target, path, (ends, size))

    point, number = tf.TensorSpec([None, int(np.prod(shape))], dtype), tf.TensorSpec([], tf.int32)
    each = tf.TensorSpec([None], dtype)
    given = [
        point,
        point,
        point,
        point if uneven else each,
        tf.TensorSpec([None] * 4, dtype),
        tf.TensorSpec([None] * 3, dtype),
    ]
    if limited:
        given += [tf.TensorSpec([None, None, int(np.prod(shape))], dtype), tf.TensorSpec([None, None], dtype)]
    path = Path(point, point, point, each)
    first = [*given, tf.TensorSpec([2], tf.int32), number, number]
    target, ends, size = (
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([3], tf.int32),
        tf.TensorSpec([None, 1], dtype),
    )
    return (
        traced(begin, input_signature=first, jit_compile=jit),
        traced(descend, input_signature=[*given, target, path, ends, size], jit_compile=jit),
    )


def clause_margins(outputs: tf.Tensor, coefficients: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    """The clauses' margins ``[batch, clauses]`` at outputs ``[batch, outputs]``, where gradients are wanted.

    Args:
        coefficients, offsets: of :class:`~tfcert.clauses.Clauses`, padded as there: a clause that is only
            padding has the margin ``+inf``.
    """
    return tf.reduce_max(tf.einsum("bcro,bo->bcr", coefficients, outputs) + offsets, axis=2)


def _clause_in_rank(margins: tf.Tensor, rank: tf.Tensor) -> tf.Tensor:
    """``[batch]``: the clause whose margin is ``rank``-th lowest (from 0, and again), padding apart; -1 for a rank
    below 0."""
    order = tf.argsort(margins, axis=1)
    real = tf.reduce_sum(tf.cast(margins < margins.dtype.max, tf.int32), axis=1)
    clause = tf.gather(order, tf.maximum(rank, 0) % tf.maximum(real, 1), axis=1, batch_dims=1)
    return tf.where(rank < 0, -tf.ones_like(clause), clause)


def _first(region: Region, margins: MarginLoss, target: tf.Tensor, first: tuple[tf.Tensor, tf.Tensor]) -> Path:
    """The path once its first two points have been looked at: ``first`` is where it starts, and whether it jumps."""
    start, jump = margins.into(first[0]), first[1]
    lowest, uphill = _look(margins, target, start)
    # From the centre, the first step goes all the way (FGSM, exact on a linear model); the others start from there.
    z = tf.cond(jump > 0, lambda: margins.into(geometry.furthest(region, uphill)), lambda: start)
    margin, uphill = _look(margins, target, z)
    return _kept(Path(z, uphill, start, lowest), margin)


def _look(margins: MarginLoss, target: tf.Tensor, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The least margin of each point, the largest number where it is not finite, and where the chased one falls."""
    with tf.GradientTape() as tape:
        tape.watch(z)
        every = margins.every(z)
        least = tf.reduce_min(every, axis=1)
        chased = tf.gather(every, tf.maximum(target, 0), axis=1, batch_dims=1)
        aim = tf.where(target < 0, margins.aim(every), chased)
    gradient = tape.gradient(aim, z, unconnected_gradients="zero")
    least = tf.where(tf.math.is_finite(least), least, tf.fill(tf.shape(least), least.dtype.max))
    return least, tf.where(tf.math.is_finite(gradient), -gradient, tf.zeros_like(gradient))


def _kept(path: Path, margin: tf.Tensor) -> Path:
    """The path with its last point, which has this margin, as the best if it is."""
    best = tf.where((margin < path.lowest)[:, None], path.point, path.best)
    return path._replace(best=best, lowest=tf.minimum(margin, path.lowest))


def _descend(
    region: Region, margins: MarginLoss, target: tf.Tensor, path: Path, how: tuple[tf.Tensor, tf.Tensor]
) -> Path:
    """Descends on the margin; it ends early once every margin is below zero.

    ``how`` are the first step, the one to stop before and the number of all steps; and the first step's length.
    """
    ends, size = how

    def open_(i: tf.Tensor, path: Path) -> tf.Tensor:
        return (i < ends[1]) & tf.reduce_any(path.lowest >= 0)

    def body(i: tf.Tensor, path: Path) -> tuple[tf.Tensor, Path]:
        progress = tf.cast(i, path.point.dtype) / tf.cast(ends[2], path.point.dtype)
        length = tf.where(size < 0, -size, size * (1 - progress))
        z = margins.into(geometry.ascend(region, path.point, path.uphill, length, progress))
        margin, uphill = _look(margins, target, z)
        return i + 1, _kept(path._replace(point=z, uphill=uphill), margin)

    return tf.while_loop(open_, body, (ends[0], path))[1]
