"""FGSM and PGD on a property's margin, in graph mode, a batch of samples at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfcert.attacks import geometry
from tfcert.attacks.clauses import Clauses
from tfcert.perturbations import Region
from tfcert.propagation.kernels import traced

Model = Callable[[tf.Tensor], tf.Tensor]
METHODS = ("pgd", "fgsm")


@dataclass(frozen=True)
class AttackOptions:
    """How hard to try.

    Attributes:
        method: ``pgd`` (projected gradient descent, Madry et al. 2018) or ``fgsm`` (its first step, to the boundary;
            Goodfellow et al. 2015).
        steps: gradient steps of each start.
        restarts: starts; the first from the centre, the others from random points, every other one of which goes for
            a single clause (another class each time) instead of the easiest.
        step_size: length of a step in the units of the input; None for a length that falls from 0.6 eps to 0.
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
    points: int | None = None
    seed: int = 0
    jit: bool = False
    batch_size: int = 512

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"unknown attack {self.method!r}: one of {', '.join(METHODS)}")
        for name in ("steps", "restarts", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.points is not None and self.points < 0:
            raise ValueError(f"points must not be negative, not {self.points}")
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(f"step_size must be positive, not {self.step_size}")


_FIRST_STEP = 0.6


def candidates(model: Model, region: Region, clauses: Clauses, restart: int, options: AttackOptions) -> np.ndarray:
    """The best point that one start of the attack finds for each sample, ``[batch, *input]``.

    "Best" is the lowest margin. The point lies in the region up to rounding; whether it is a witness, a replay decides.
    """
    shape = region.center.shape
    flat = region._replace(**{k: tf.reshape(getattr(region, k), [shape[0], -1]) for k in ("center", "lower", "upper")})
    dtype = region.center.dtype
    rows = [tf.constant(a, dtype) for a in clauses]
    chased = (restart + 1) // 2 if restart % 2 else -1
    run = _compiled(model, (*shape[1:],), dtype, (region.norm, region.clipped), options.jit)
    found = run(
        flat.center, flat.lower, flat.upper, flat.eps, *rows,
        tf.constant([options.seed, restart]), tf.constant(chased), tf.constant(0 if restart else 1),
        tf.constant(0 if options.method == "fgsm" else options.steps), _step_size(flat, options),
    )  # fmt: skip
    return found.numpy().reshape(shape)


def _step_size(region: Region, options: AttackOptions) -> tf.Tensor:
    """``[batch, 1]``: the first step relative to the radius; negative where steps keep their length."""
    radius = tf.reduce_max(region.upper - region.lower, axis=1) / 2 if region.is_box else region.eps
    if options.step_size is None:
        return tf.fill([radius.shape[0], 1], tf.constant(_FIRST_STEP, radius.dtype))
    return -tf.math.divide_no_nan(tf.constant(options.step_size, radius.dtype), radius)[:, None]


@functools.lru_cache(maxsize=8)
def _compiled(
    model: Model, shape: tuple[int, ...], dtype: tf.DType, kind: tuple[str, bool], jit: bool
) -> Callable[..., tf.Tensor]:
    """One start of the attack as a compiled function of tensors alone; any batch size, any number of steps.

    ``kind`` is the region's norm and whether it is clipped. The last few functions are kept, with their models.
    """

    def run(
        center: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor, eps: tf.Tensor, coefficients: tf.Tensor,
        offsets: tf.Tensor, seed: tf.Tensor, chased: tf.Tensor, jump: tf.Tensor, steps: tf.Tensor,
        size: tf.Tensor,
    ) -> tf.Tensor:  # fmt: skip
        region = Region(*kind, center, lower, upper, eps)

        def margins(z: tf.Tensor) -> tf.Tensor:
            outputs = model(tf.reshape(z, [-1, *shape]))
            outputs = tf.cast(tf.reshape(outputs, [tf.shape(z)[0], -1]), z.dtype)
            return tf.reduce_max(tf.einsum("bcro,bo->bcr", coefficients, outputs) + offsets, axis=2)

        target = _clause_in_rank(margins(center), chased)
        start = tf.cond(jump > 0, lambda: center, lambda: geometry.random_point(region, seed))
        return _descend(region, margins, target, (start, jump), (steps, size))

    point, number = tf.TensorSpec([None, int(np.prod(shape))], dtype), tf.TensorSpec([], tf.int32)
    signature = [
        point, point, point, tf.TensorSpec([None], dtype), tf.TensorSpec([None] * 4, dtype),
        tf.TensorSpec([None] * 3, dtype), tf.TensorSpec([2], tf.int32), number, number, number,
        tf.TensorSpec([None, 1], dtype),
    ]  # fmt: skip
    return traced(run, input_signature=signature, jit_compile=jit)


def _clause_in_rank(margins: tf.Tensor, rank: tf.Tensor) -> tf.Tensor:
    """``[batch]``: the clause whose margin is ``rank``-th lowest (from 0); -1 for a rank below 0."""
    order = tf.argsort(margins, axis=1)
    clause = order[:, tf.maximum(rank, 0) % tf.shape(margins)[1]]
    return tf.where(rank < 0, -tf.ones_like(clause), clause)


def _descend(
    region: Region,
    margins: Callable[[tf.Tensor], tf.Tensor],
    target: tf.Tensor,
    first: tuple[tf.Tensor, tf.Tensor],
    path: tuple[tf.Tensor, tf.Tensor],
) -> tf.Tensor:
    """Descends on the margin; the best point seen of each sample. It ends early once every margin is below zero."""

    def look(z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(z)
            every = margins(z)
            least = tf.reduce_min(every, axis=1)
            chased = tf.gather(every, tf.maximum(target, 0), axis=1, batch_dims=1)
            aim = tf.where(target < 0, least, chased)
        gradient = tape.gradient(aim, z, unconnected_gradients="zero")
        least = tf.where(tf.math.is_finite(least), least, tf.fill(tf.shape(least), least.dtype.max))
        return least, tf.where(tf.math.is_finite(gradient), -gradient, tf.zeros_like(gradient))

    def keep(z: tf.Tensor, margin: tf.Tensor, best: tf.Tensor, lowest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.where((margin < lowest)[:, None], z, best), tf.minimum(margin, lowest)

    def open_(i: tf.Tensor, z: tf.Tensor, uphill: tf.Tensor, best: tf.Tensor, lowest: tf.Tensor) -> tf.Tensor:
        return (i < steps) & tf.reduce_any(lowest >= 0)

    def body(i: tf.Tensor, z: tf.Tensor, uphill: tf.Tensor, best: tf.Tensor, lowest: tf.Tensor) -> tuple:
        progress = tf.cast(i, z.dtype) / tf.cast(steps, z.dtype)
        length = tf.where(size < 0, -size, size * (1 - progress))
        z = geometry.ascend(region, z, uphill, length, progress)
        margin, uphill = look(z)
        return i + 1, z, uphill, *keep(z, margin, best, lowest)

    (start, jump), (steps, size) = first, path
    lowest, uphill = look(start)
    # From the centre, the first step goes all the way (FGSM, exact on a linear model); the others start from there.
    z = tf.cond(jump > 0, lambda: geometry.furthest(region, uphill), lambda: start)
    margin, uphill = look(z)
    best, lowest = keep(z, margin, start, lowest)
    return tf.while_loop(open_, body, (tf.constant(0), z, uphill, best, lowest))[3]
