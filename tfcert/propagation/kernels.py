"""The loops over coefficients that take most of the time, as functions that XLA may fuse one by one.

On a CPU the matrix products and gathers run fastest as TensorFlow's own operations, while the elementwise passes
between them are bound by memory and gain from fusion (measured: 2 to 3 times; see benchmarks/README.md). So on a CPU a
pass is a graph whose kernels are compiled; inside a whole-pass XLA compilation, and at first in eager mode, they run as
written.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

from tfcert.tracing import is_steady, is_timed, traced

_FUSING: ContextVar[bool] = ContextVar("fusing", default=False)
_COMPILING: ContextVar[bool] = ContextVar("compiling", default=False)
_LANES, _LONG = 16, 80
"""See :func:`_total`: numbers added at once, and entries from which on that pays."""
_WORTH_COMPILING = 1 << 15
"""Numbers read for one sample below which a kernel is not worth its compilation (which takes 0.2 seconds)."""
_SELECTED = 256
"""So many groups of selected neurons a sample is taken to have, where their number is not known."""
_WORTH_COMPILING_NOW = 1 << 26
"""Numbers read by all calls so far above which that holds in eager mode, too: so many take as long as a compilation."""
Kernel = Callable[..., Any]


def kind_of(value: Any) -> Any:
    """Shape and type of a tensor, or the value itself: what a trace depends on."""
    return (tuple(value.shape), value.dtype) if isinstance(value, tf.Tensor) else value


@contextlib.contextmanager
def fused_kernels(fuse: bool) -> Iterator[None]:
    """Within this context (while a graph is traced) each kernel is compiled on its own."""
    token = _FUSING.set(fuse)
    try:
        yield
    finally:
        _FUSING.reset(token)


def are_fused() -> bool:
    """Tells whether kernels are compiled on their own here, for each shape once."""
    return _FUSING.get()


def are_few(values: tf.Tensor, groups: int) -> bool:
    """Tells whether rows ``[samples or 1, groups or 1, rows, entries]`` have so few numbers for one sample that passes
    over them are cheap, and so is what a gradient keeps of them."""
    _, own, *rest = (n or 1 for n in values.shape)
    return max(own, groups) * math.prod(rest) <= _WORTH_COMPILING


def worth_fusing(values: tf.Tensor, entries: int) -> bool:
    """Tells whether a kernel is compiled that reads so many entries of each row ``[samples, groups, rows, ...]``."""
    return _FUSING.get() and _numbers(values.shape[:3]) * entries > _WORTH_COMPILING


def _numbers(shape: tf.TensorShape) -> int:
    """The numbers that ``[samples, groups, ...]`` has for one sample."""
    return math.prod(_SELECTED if n is None else n for n in shape[1:])


def kernel(passes: int = 1) -> Callable[[Kernel], Kernel]:
    """Marks a function of tensors that reads its first argument ``passes`` times as one that is worth fusing.

    In a graph it is compiled where its argument is large; in eager mode, which may end with this call, not before as
    much has been spent on arguments of these shapes.
    """

    def mark(function: Kernel) -> Kernel:
        read: Counter[tuple[Any, ...]] = Counter()

        def written(*arguments: Any) -> Any:
            token = _COMPILING.set(True)
            try:
                return function(*arguments)
            finally:
                _COMPILING.reset(token)

        @functools.cache
        def compiled(*kinds: Any) -> Kernel:
            return traced(written, jit_compile=True)

        @functools.wraps(function)
        def run(values: tf.Tensor, *others: Any) -> Any:
            shape = values.shape
            if others and isinstance(others[0], tf.Tensor):
                shape = tf.broadcast_static_shape(shape[:-1], others[0].shape[:-1]).concatenate(shape[-1:])
            size = _numbers(shape) * passes
            if not _FUSING.get() or size <= _WORTH_COMPILING:
                return function(values, *others)
            kinds = tuple(kind_of(v) for v in (values, *others))
            if tf.executing_eagerly():
                read[kinds] += size * shape[0]
                if read[kinds] <= _WORTH_COMPILING_NOW or is_timed() or is_steady():
                    return function(values, *others)
            return compiled(*kinds)(values, *others)

        return run

    return mark


def row_sums(values: tf.Tensor) -> tf.Tensor:
    """The sum over the last axis.

    In a kernel that is compiled it is a product with ones: XLA makes a chain of additions of a sum on a CPU, and
    vectors of a product. TensorFlow's own sums are faster than its products.
    """
    if not _COMPILING.get():
        return tf.reduce_sum(values, axis=-1)
    return tf.linalg.matvec(values, tf.ones([values.shape[-1]], values.dtype))


def _total(values: tf.Tensor) -> tf.Tensor:
    """The sum over the last axis. Where a kernel is compiled, and the axis is long, in lanes that are added up first:
    XLA stores what it is asked to sum, and does not store what it adds (measured: half the time at 125 entries)."""
    entries = values.shape[-1]
    if not _COMPILING.get() or entries < _LONG:
        return tf.reduce_sum(values, axis=-1)
    count = max(_LANES, entries // _LANES)  # long rows are cut into no more parts than compile fast
    lanes, rest = values[..., :count], entries % count
    for first in range(count, entries - rest, count):
        lanes += values[..., first : first + count]
    if rest:
        lanes += tf.pad(values[..., -rest:], [[0, 0]] * (values.shape.rank - 1) + [[0, count - rest]])
    return tf.reduce_sum(lanes, axis=-1)


def fused(function: Kernel, *tensors: tf.Tensor, passes: int) -> Any:
    """What a function of tensors returns that is made for this call: in a graph, a kernel on the same terms."""
    worth = _FUSING.get() and _numbers(tensors[0].shape) * passes > _WORTH_COMPILING
    return (traced(function, jit_compile=True) if worth and not tf.executing_eagerly() else function)(*tensors)


@kernel()
def weighted_sum(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """``sum values * weights`` over the last axis."""
    return _total(values * weights)


def _by_sign(values: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(values) * positive + tf.minimum(values, 0) * negative


@kernel()
def by_sign(values: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
    """Each value times the weight of its sign."""
    return _by_sign(values, positive, negative)


@kernel()
def by_sign_sum(values: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
    """The sum of :func:`by_sign` over the last axis."""
    return _total(_by_sign(values, positive, negative))


@kernel(passes=2)
def by_sign_both(values: tf.Tensor, *weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """:func:`by_sign` with the first and third weights and :func:`by_sign_sum` with the others, in few operations."""
    if not _COMPILING.get() and all(_are_vectors(values, weight) for weight in weights):
        positive, negative = tf.nn.relu(values), tf.minimum(values, 0)
        summed = _product(positive, weights[1]) + _product(negative, weights[3])
        return positive * weights[0] + negative * weights[2], summed
    is_positive = values > 0  # choosing a weight takes two thirds of what relu, minimum, products and their sum do
    charged = values * tf.where(is_positive, weights[1], weights[3])
    return values * tf.where(is_positive, weights[0], weights[2]), _total(charged)


def _are_vectors(values: tf.Tensor, weights: tf.Tensor) -> bool:
    """Tells whether sums of rows times weights are products of a matrix and a vector for each sample.

    Not where samples share weights but not rows: TensorFlow's product (oneDNN's, 2.21) crashes on broadcasting these.
    """
    return weights.shape[1:3] == (1, 1) and values.shape[1] == 1 and (weights.shape[0] != 1 or values.shape[0] == 1)


def _product(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """``sum values * weights`` over the last axis; a product reads its operands once and is vectorised."""
    return tf.linalg.matmul(values, weights, transpose_b=True)[..., 0]


@kernel(passes=6)
def by_sign_gradients(
    values: tf.Tensor, d_values: tf.Tensor, d_sum: tf.Tensor, *weights: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Gradients of :func:`by_sign` with the first and third weights and :func:`by_sign_sum` with the others.

    Args:
        values: as there.
        d_values: the gradient of the first result, d_sum: of the second.
        weights: four.

    Returns:
        The gradients of the values and of the four weights, shaped like them.
    """
    sources = (values, *weights)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(sources)
        found = (
            _by_sign(values, weights[0], weights[2]),
            tf.reduce_sum(_by_sign(values, weights[1], weights[3]), axis=-1),
        )
    return tuple(tape.gradient(found, sources, output_gradients=(d_values, d_sum)))


@kernel()
def fold(patches: tf.Tensor, strides: tuple[int, int]) -> tf.Tensor:
    """The sum of patches where they lie: ``[batch, h, w, window height, window width, channels]`` to an image.

    The patch of grid position (i, j) begins at pixel ``(i, j) * strides``; the image ends where the last patch does.
    """
    columns = _overlaid(tf.unstack(patches, axis=4), 2, strides[1])
    return _overlaid(tf.unstack(columns, axis=3), 1, strides[0])


def _overlaid(parts: list[tf.Tensor], axis: int, stride: int) -> tf.Tensor:
    """The sum of tensors spread by a stride along an axis, each one place farther along it than the one before."""
    total = None
    for place, part in enumerate(parts):
        if stride > 1:
            lead, length = tf.shape(part)[:1], part.shape[axis]
            pads = [[0, 0] for _ in part.shape]
            pads.insert(axis + 1, [0, stride - 1])
            shape = [*part.shape[1:axis], length * stride, *part.shape[axis + 1 :]]
            part = tf.reshape(tf.pad(tf.expand_dims(part, axis + 1), pads), tf.concat([lead, shape], axis=0))
            part = tf.split(part, [length * stride - stride + 1, stride - 1], axis=axis)[0]
        pads = [[0, 0] for _ in part.shape]
        pads[axis] = [place, len(parts) - 1 - place]
        part = tf.pad(part, pads)
        total = part if total is None else total + part
    assert total is not None
    return total


@kernel()
def overlaid(parts: tf.Tensor, entries: int) -> tf.Tensor:
    """Lines that are sums of parts, each of which begins a line later than the one before.

    Args:
        parts: ``[samples, groups, rows, lines, parts, length]``.
        entries: how many numbers of all lines are kept.

    Returns:
        ``[samples, groups, rows, entries]``, or the same numbers as lines where all are kept.
    """
    lines = _overlaid(tf.unstack(parts, axis=4), 3, 1)
    height, length = lines.shape[3:]
    if height * length == entries:
        return lines  # arranged as entries here, they are computed one by one
    return tf.reshape(lines, tf.concat([tf.shape(lines)[:3], [height * length]], axis=0))[..., :entries]


@kernel()
def box_least(values: tf.Tensor, middle: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
    """The least value of ``values . x`` with each x within ``radius`` of ``middle``, over the last axis."""
    return _total(values * middle - tf.abs(values) * radius)


def weighted_size(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """``sum |values| * weights`` over the last axis."""
    if _are_vectors(values, weights):
        return _product(tf.abs(values), weights)
    return _weighted_size(values, weights)


@kernel()
def _weighted_size(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    return _total(tf.abs(values) * weights)


@kernel()
def _size_gradient(values: tf.Tensor, weights: tf.Tensor, d_size: tf.Tensor) -> tf.Tensor:
    return d_size[..., None] * tf.sign(values) * weights


@tf.custom_gradient
def size_by_fixed_weights(values: tf.Tensor, weights: tf.Tensor):  # type: ignore[no-untyped-def]
    """:func:`weighted_size` by weights without a gradient, where the gradient keeps nothing but the values."""
    return weighted_size(values, weights), lambda d_size: (_size_gradient(values, weights, d_size), None)


@kernel()
def by_sign_windows(values: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
    """:func:`by_sign`, each value with all the weights of its window.

    Args:
        values: ``[samples, groups, rows, h, 1, w, 1, channels]``.
        positive: ``[samples, groups, 1, h, window height, w, window width, channels]``.
        negative: the same.

    Returns:
        ``[samples, groups, rows, entries]``, the pixels in order.
    """
    _, _, _, _, height, width, across, channels = positive.shape
    full = tf.tile(tf.reshape(values, [-1, 1, width, 1, channels]), [1, height, 1, across, 1])
    entries = math.prod(positive.shape[3:])
    lead = [[-1 if n is None else n for n in part.shape[:3]] for part in (values, positive)]
    full = tf.reshape(full, [*lead[0], entries])
    weights = (tf.reshape(part, [*lead[1], entries]) for part in (positive, negative))
    return _by_sign(full, *weights)
