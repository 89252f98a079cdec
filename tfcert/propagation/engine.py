"""Compiled bound computations: one function per (network, method, kind of region), run at a few batch sizes.

Weights are captured as variables, so a compiled function sees a model that has been trained on since.
"""

from __future__ import annotations

import contextlib
import math
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.activations.registry import WHOLE
from tfcert.catalog import METHODS
from tfcert.network import Network
from tfcert.network.graph import Elementwise
from tfcert.options import BoundOptions
from tfcert.propagation.bounds import check_names, method_of, output_bounds
from tfcert.propagation.kernels import fused_kernels
from tfcert.propagation.methods.base import SolvedMethod
from tfcert.propagation.optimised import Ascent
from tfcert.propagation.plan import Plan
from tfcert.propagation.preactivation import Passes
from tfcert.sets.balls import Perturbation
from tfcert.sets.region import Region, region_of
from tfcert.sets.rounding import round_down
from tfcert.tracing import traced
from tfcert.verdict import Guarantee

_LARGEST_BATCH = 1024
_COMPILATION = 4e8
"""What it takes to compile the kernels for one more number of samples, in the unit of :attr:`Plan.floats`: as long as a
pass over so many coefficients (about two seconds on two cores)."""
_PASS = 4e6
"""The same for the start of one pass."""
_SAMPLES, _LONG = 25, 5e6
"""On a CPU a pass is for at most so many samples, or as many as have so many coefficients: that is long enough to be
worth its start, and the last few samples of a search are not padded to hundreds."""


@dataclass
class _Compiled:
    """A function traced once for all batch sizes, and the sizes that its kernels have been compiled for.

    Kernels are compiled for each size. So a batch is padded, or cut, to a size that was run before, until what that has
    wasted in all would have paid for a compilation.
    """

    run: Callable[..., tuple[tf.Tensor, tf.Tensor]]
    floats: float
    usual: int
    sizes: set[int] = field(default_factory=set)
    wasted: float = 0.0

    def __call__(self, tensors: list[tf.Tensor], iterations: tuple[tf.Tensor, ...], limit: int) -> np.ndarray:
        """Runs on a batch, in passes of at most ``limit`` samples, padding included."""
        count = int(tensors[0].shape[0])
        size = self._size(count, limit)
        parts = []
        for first in range(0, count, size):
            some = tensors if count <= size else [t[first : first + size] for t in tensors]
            bounds, finite = self.run(*[_padded(t, size - int(t.shape[0])) for t in some], *iterations)
            if not finite:
                raise ValueError("a weight of the model is NaN or infinite: nothing can be certified")
            parts.append(bounds.numpy())
        return (parts[0] if len(parts) == 1 else np.concatenate(parts))[:count]

    def _size(self, count: int, limit: int) -> int:
        """The number of samples that each pass takes."""

        def waste(size: int) -> float:
            passes = -(-count // size)
            return (passes * size - count) * self.floats + (passes - 1) * _PASS

        fresh = -(-count // -(-count // min(limit, self.usual)))  # the fewest passes, alike in size
        size = min((s for s in self.sizes if s <= limit), key=waste, default=fresh)
        self.wasted += waste(size)
        if self.wasted > _COMPILATION:
            size, self.wasted = fresh, 0.0
        self.sizes.add(size)
        return size


_COMPILED: weakref.WeakKeyDictionary[Network, dict[Any, _Compiled]] = weakref.WeakKeyDictionary()


def lower_bounds(
    network: Network,
    perturbation: Perturbation,
    coefficients: np.ndarray,
    offsets: np.ndarray,
    *,
    method: str = "crown",
    relaxation: str | None = None,
    options: BoundOptions | None = None,
) -> np.ndarray:
    """Lower bounds of linear functions ``C y + d`` of the outputs y over each sample's perturbation set.

    Args:
        network: the network.
        perturbation: one set a sample, ``[batch, *input]``.
        coefficients: C, ``[batch, rows, outputs]``.
        offsets: d, ``[batch, rows]``.
        method: one of ``catalog.METHODS``.
        relaxation: a named relaxation; None for each activation's default.
        options: memory, batch size, compilation.

    Returns:
        ``[batch, rows]``. Guarantee: see :func:`guarantee_of`. -inf or NaN where nothing is known (overflow).

    Raises:
        ValueError: shapes that do not fit, an unknown name, or a weight that is NaN or infinite.
    """
    info = METHODS.find(method)
    if info.asks_solver:
        _check(network, perturbation, coefficients, offsets, (method, relaxation))
        solved: SolvedMethod = info.load()
        return solved.bounds(network, perturbation, coefficients, offsets, options or BoundOptions())
    question = prepared_bounds(
        network, perturbation, coefficients, offsets, method=method, relaxation=relaxation, options=options
    )
    chunks = math.ceil(len(perturbation) / question.limit)
    size = max(1, math.ceil(len(perturbation) / max(1, chunks)))
    run, arrays = question.compiled, question.arguments
    with full_precision():
        starts = range(0, len(perturbation), size)
        parts = [
            run(arrays if chunks == 1 else [a[i : i + size] for a in arrays], question.iterations, question.limit)
            for i in starts
        ]
    found = np.concatenate(parts) if parts else np.zeros(np.shape(offsets), network.dtype.as_numpy_dtype)
    _warn_of_domains(network, found)
    return found


def _warn_of_domains(network: Network, bounds: np.ndarray) -> None:
    """Says where activations are declared if nothing is known of some rows, which may be why."""
    if np.isfinite(bounds).all():
        return
    bent = [(node.activation, node.name) for node in network.nodes if isinstance(node, Elementwise)]
    limits = [
        f"{act.name!r} from {act.domain[0]:.6g} to {act.domain[1]:.6g} (layer {layer!r})"
        for act, layer in bent
        if act.domain != WHOLE
    ]
    if limits:
        warnings.warn(
            f"nothing is known of {int((~np.isfinite(bounds)).sum())} of {bounds.size} bounds: activations are known "
            f"only where they are declared, {', '.join(limits)}, and an input of theirs may leave that; a smaller "
            "region, or a wider domain with every point where the function inflects, may help",
            stacklevel=3,
        )


@dataclass(frozen=True)
class PreparedBounds:
    """A question ready to be run.

    Attributes:
        compiled: a traced function.
        arguments: for all samples.
        limit: how many of them go in one pass at most.
        iterations: of an optimising method, where that is an argument of the function, too.
    """

    compiled: _Compiled
    arguments: list[tf.Tensor]
    limit: int
    iterations: tuple[tf.Tensor, ...]

    @property
    def usual(self) -> int:
        """How many samples a pass takes where there are enough."""
        return min(self.limit, self.compiled.usual)


def prepared_bounds(
    network: Network,
    perturbation: Perturbation,
    coefficients: np.ndarray,
    offsets: np.ndarray,
    *,
    method: str = "crown",
    relaxation: str | None = None,
    options: BoundOptions | None = None,
) -> PreparedBounds:
    """What :func:`lower_bounds` runs; arguments and errors as there."""
    options = options or BoundOptions()
    _check(network, perturbation, coefficients, offsets, (method, relaxation))
    perturbation = perturbation.astype(network.dtype.as_numpy_dtype)
    rows = np.shape(coefficients)[1]
    region = region_of(perturbation)
    plan = method_of(method, relaxation)[0].plan(network, rows, options.memory_mb, region.is_box)
    limit = min(plan.samples, options.batch_size or _LARGEST_BATCH)
    run = _compiled(network, (method, relaxation, rows), region, plan, options)
    arrays = [region.center, region.lower, region.upper, region.eps]
    # A threshold is rounded so that its row is not easier to prove; C is rounded to nearest (the guarantee is numeric).
    arrays += [_as(coefficients, network), _as(round_down(offsets, network.dtype.as_numpy_dtype), network)]
    # XLA is told how many iterations there are; else that is an argument, so that fewer of them are no other function.
    return PreparedBounds(run, arrays, limit, () if use_jit(options) else (tf.constant(options.iterations),))


def _check(
    network: Network,
    perturbation: Perturbation,
    coefficients: np.ndarray,
    offsets: np.ndarray,
    how: tuple[str, str | None],
) -> None:
    """Raises a ValueError for a question that does not fit the network."""
    check_names(network, *how)
    if perturbation.input_shape != network.input_shape:
        raise ValueError(f"inputs of shape {perturbation.input_shape} for a network of {network.input_shape}")
    if len(network.output_shape) != 1:
        raise ValueError(f"outputs of shape {network.output_shape}: bounds need a model with one axis of outputs")
    wanted = (len(perturbation), np.shape(coefficients)[1], *network.output_shape)
    if np.shape(coefficients) != wanted or np.shape(offsets) != wanted[:2]:
        raise ValueError(
            f"C and d of shapes {np.shape(coefficients)} and {np.shape(offsets)}, not {wanted}, {wanted[:2]}"
        )


def guarantee_of(method: str) -> Guarantee:
    """What the bounds of a method promise."""
    return METHODS.find(method).guarantee


def _compiled(
    network: Network, asked: tuple[str, str | None, int], region: Region, plan: Plan, options: BoundOptions
) -> _Compiled:
    parts = tuple(
        sorted((node, tuple((p.start, p.stop) if p else None for p in cut)) for node, cut in plan.parts.items())
    )
    jit = use_jit(options)
    method, relaxation, rows = asked
    fixed, rate = options.iterations if jit else None, options.learning_rate
    key = (asked, region.norm, region.clipped, parts, options.jit, fixed, rate)
    known = _COMPILED.setdefault(network, {})
    if key not in known:
        # Under XLA shapes are fixed, so the unstable neurons cannot be picked out there.
        passes = Passes(plan.parts, select=not jit)
        norm, clipped, owner = region.norm, region.clipped, weakref.ref(network)

        def run(center, lower, upper, eps, coefficients, offsets, iterations=fixed):  # type: ignore[no-untyped-def]
            net = owner()
            assert net is not None
            inputs, ascent = Region(norm, clipped, center, lower, upper, eps), Ascent(iterations, rate)
            with fused_kernels(options.jit is None and not jit):
                bounds = output_bounds(net, inputs, (coefficients, offsets), method, relaxation, passes, ascent)
            return bounds, net.finite()

        inputs, outputs = network.input_shape, network.output_shape
        shapes = [inputs, inputs, inputs, (), (rows, *outputs), (rows,)]
        signature = [tf.TensorSpec([None, *shape], network.dtype) for shape in shapes]
        signature += [] if jit else [tf.TensorSpec([], tf.int32)]
        function = traced(run, input_signature=signature, jit_compile=jit)
        usual = plan.samples if jit else max(_SAMPLES, int(_LONG / plan.floats))
        known[key] = _Compiled(function, plan.floats, usual)
    return known[key]


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Without TF32, which keeps 10 bits of a product on GPUs and would make bounds meaningless."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def use_jit(options: BoundOptions) -> bool:
    """Whether to compile a whole pass with XLA: as asked; else on accelerators, while a CPU compiles its kernels."""
    return bool(tf.config.list_physical_devices("GPU")) if options.jit is None else options.jit


def _as(array: np.ndarray, network: Network) -> tf.Tensor:
    return tf.constant(np.asarray(array), network.dtype)


def _padded(tensor: tf.Tensor, missing: int) -> tf.Tensor:
    """Repeats the last sample as often as samples are missing."""
    return tensor if missing == 0 else tf.concat([tensor, tf.repeat(tensor[-1:], missing, axis=0)], axis=0)
