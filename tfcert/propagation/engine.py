"""Bound computations as they are run: one pass per (network, method, kind of region), for neurons and rows at once.

Its first runs go op by op, later ones through a function that is traced once and run at a few batch sizes. Weights are
read live, so it sees a model that has been trained on since.
"""

from __future__ import annotations

import contextlib
import math
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf

from tfcert.catalog import METHODS, optimises
from tfcert.network import Network
from tfcert.network.graph import Elementwise
from tfcert.network.related import Related, related
from tfcert.options import BoundOptions
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.bounds import bounded_outputs, check_names, method_of
from tfcert.propagation.combined import Together
from tfcert.propagation.kernels import fused_kernels
from tfcert.propagation.methods.base import SolvedMethod
from tfcert.propagation.plan import Plan
from tfcert.propagation.preactivation import Passes, greater
from tfcert.propagation.supported import not_charged, with_charges
from tfcert.sets.balls import Perturbation
from tfcert.sets.region import Region, region_of
from tfcert.sets.rounding import round_down
from tfcert.tracing import expected, is_steady, kept, pays, traced

_LARGEST_BATCH = 1024
_COMPILATION = 4e8
"""What it takes to compile the kernels for one more number of samples, in the unit of :attr:`Plan.floats`: as long as a
pass over so many coefficients (about two seconds on two cores)."""
_PASS = 4e6
"""The same for the start of one pass."""
_FEW_ROWS = 8
"""A pass traced for up to twice as many rows and so many more is run with rows to spare rather than traced anew."""
_SAMPLES, _LONG = 25, 5e6
"""On a CPU a pass is for at most so many samples, or as many as have so many coefficients: that is long enough to be
worth its start, and the last few samples of a search are not padded to hundreds."""


@dataclass
class _Compiled:
    """A pass, run op by op at first and then as a function traced once for all batch sizes.

    The traced function's kernels are compiled for each number of samples. So a batch is padded, or cut, to a size that
    was run before, until what that has wasted in all would have paid for a compilation. Rows are padded to a number
    that was traced before, where ``pads_rows``.

    Attributes:
        function: the pass: arguments of :class:`PreparedBounds` to the rows' bounds, whether all weights are finite,
            and lower and upper bounds of what enters each nonlinearity.
        trace: ``tf.function`` of it for a number of rows.
        floats: coefficients of one sample, see :class:`Plan`.
        usual: samples of a pass at most.
        is_traced: whether passes go through a traced function, from the first on or from now on.
        pads_rows: whether the bounds of rows do not depend on what other rows there are.
        any_size: whether nothing is compiled for a number of samples, so that no batch is padded.
        passes: run so far.
    """

    function: Callable[..., list[tf.Tensor]]
    trace: Callable[[int], Callable[..., list[tf.Tensor]]]
    floats: float
    usual: int
    is_traced: bool = False
    pads_rows: bool = True
    any_size: bool = False
    passes: int = 0
    sizes: set[int] = field(default_factory=set)
    wasted: float = 0.0
    _traced: dict[int, Callable[..., list[tf.Tensor]]] = field(default_factory=dict)

    def __call__(
        self, tensors: list[tf.Tensor], iterations: tuple[tf.Tensor, ...], limit: int, layers: bool
    ) -> list[np.ndarray]:
        """Runs on a batch, in passes of at most ``limit`` samples, padding included.

        Returns:
            The bounds of rows (and after them of clauses, where rows make up such) and, with ``layers``, lower and
            upper bounds of what enters each nonlinearity.
        """
        count, rows = (int(n) for n in tensors[5].shape)
        size = -(-count // -(-count // min(limit, self.usual)))  # the fewest passes, alike in size
        self.passes += -(-count // size) + expected()
        self.is_traced = self.is_traced or pays(self.passes)
        run, wide = self.function, rows
        if self.is_traced:
            size, wide = size if self.any_size else self._size(count, limit, size), self._rows(rows)
            run = self.traced(wide)
        batch = [*tensors[:4], *(_padded(t, wide - rows, 1) for t in tensors[4:6]), *tensors[6:]]
        parts: list[list[np.ndarray]] = []
        for first in range(0, count, size):
            some = batch if count <= size else [t[first : first + size] for t in batch]
            here = int(some[0].shape[0]) if self.any_size else size
            missing = here - int(some[0].shape[0])
            bounds, finite, *ends = run(*[_padded(t, missing, 0) for t in some], *iterations)
            if not finite:
                raise ValueError("a weight of the model is NaN or infinite: nothing can be certified")
            found = bounds[:, : rows + int(bounds.shape[1]) - wide].numpy()
            found = np.where(np.isnan(found), -np.inf, found)  # a bound that overflowed says nothing
            whole = [found, *(end.numpy() for end in (ends if layers else ()))]
            parts.append([np.broadcast_to(part, (here, *part.shape[1:])) for part in whole])
        return [part[:count] for part in _joined(parts)]

    def traced(self, rows: int) -> Callable[..., list[tf.Tensor]]:
        """The function traced for exactly so many rows."""
        if rows not in self._traced:
            self._traced[rows] = self.trace(rows)
        return self._traced[rows]

    def _rows(self, count: int) -> int:
        """For how many rows a function is run that bounds so many."""
        if not self.pads_rows or count == 0 or is_steady():
            return count
        return min((n for n in self._traced if count <= n <= 2 * count + _FEW_ROWS), default=count)

    def _size(self, count: int, limit: int, fresh: int) -> int:
        """The number of samples that each pass takes."""
        if is_steady():  # the next power of two: few sizes, and the same whatever came before
            return min(1 << (fresh - 1).bit_length(), max(fresh, min(limit, self.usual)))

        def waste(size: int) -> float:
            passes = -(-count // size)
            return (passes * size - count) * self.floats + (passes - 1) * _PASS

        size = min((s for s in self.sizes if s <= limit), key=waste, default=fresh)
        self.wasted += waste(size)
        if self.wasted > _COMPILATION:
            size, self.wasted = fresh, 0.0
        self.sizes.add(size)
        return size


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
        ``[batch, rows]``; -inf or NaN where nothing is known (overflow). Guarantee: see
        :func:`~tfcert.propagation.supported.guarantee_of`.

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
    found = question.run()
    bounds = found[0] if found else np.zeros(np.shape(offsets), network.dtype.as_numpy_dtype)
    warn_of_domains(network, bounds)
    return bounds


def joint_bounds(
    network: Network,
    perturbation: Perturbation,
    coefficients: np.ndarray,
    offsets: np.ndarray,
    *,
    method: str = "crown",
    options: BoundOptions | None = None,
) -> tuple[np.ndarray, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """Bounds of rows and of neurons by one pass for both.

    Args as for :func:`lower_bounds`, of at least one sample; ``method`` propagates.

    Returns:
        What :func:`lower_bounds` returns; and for each of ``network.bounded()`` lower and upper bounds of its values,
        ``[batch, *shape]``, which the rows' bounds were found with. Guarantee: see
        :func:`~tfcert.propagation.supported.guarantee_of`.

    Raises:
        ValueError: as for :func:`lower_bounds`, or a method that asks a solver.
    """
    question = prepared_bounds(network, perturbation, coefficients, offsets, method=method, options=options)
    bounds, *ends = question.run(layers=True)
    warn_of_domains(network, bounds)
    layers = dict(zip(question.computed.bounded(), zip(ends[::2], ends[1::2], strict=True), strict=True))
    return bounds, {index: layers[index] for index in network.bounded()}


def warn_of_domains(network: Network, bounds: np.ndarray) -> None:
    """Says where activations are declared if nothing is known of some rows, which may be why."""
    if np.isfinite(bounds).all():
        return
    bent = [(node.activation, node.name) for node in network.nodes if isinstance(node, Elementwise)]
    limits = [f"{act.name!r} {act.reach} (layer {layer!r})" for act, layer in bent if act.limited]
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
        computed: the network that it is computed over: with differences where rows are bounded by these.
        compiled: the pass.
        arguments: for all samples: the region's center, lower and upper ends and radius, the rows' coefficients and
            offsets.
        limit: how many of them go in one pass at most.
        iterations: of an optimising method, where that is an argument of the pass, too.
    """

    computed: Network
    compiled: _Compiled
    arguments: list[tf.Tensor]
    limit: int
    iterations: tuple[tf.Tensor, ...]

    @property
    def usual(self) -> int:
        """The number of samples that a pass takes where there are enough."""
        return min(self.limit, self.compiled.usual)

    def run(self, layers: bool = False) -> list[np.ndarray]:
        """The rows' bounds of all samples and, with ``layers``, a lower and an upper bound of each of
        ``computed.bounded()``; nothing where there are no samples."""
        count = int(self.arguments[0].shape[0])
        if not count:
            return []
        size = math.ceil(count / math.ceil(count / self.limit))
        with full_precision():
            parts = [[a[i : i + size] for a in self.arguments] for i in range(0, count, size)] if size < count else None
            chunks = parts or [self.arguments]  # slicing takes as long as a small pass
            return _joined([self.compiled(chunk, self.iterations, self.limit, layers) for chunk in chunks])


def _joined(parts: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Results of parts of a batch, one after another, for each of their outputs."""
    return [whole[0] if len(whole) == 1 else np.concatenate(whole) for whole in zip(*parts, strict=True)]


def prepared_bounds(
    network: Network,
    perturbation: Perturbation,
    coefficients: np.ndarray,
    offsets: np.ndarray,
    *,
    method: str = "crown",
    relaxation: str | None = None,
    options: BoundOptions | None = None,
    together: Together | None = None,
    signs: np.ndarray | None = None,
) -> PreparedBounds:
    """The function that :func:`lower_bounds` runs; arguments and errors as there.

    Args:
        together: the clauses that the rows make up, whose combinations are bounded, too.
        signs: what is known of neurons, ``[batch, neurons]``, int8, for all of ``computed.bounded()`` one after
            another: see :class:`~tfcert.propagation.preactivation.Passes`.
    """
    options = options or BoundOptions()
    _check(network, perturbation, coefficients, offsets, (method, relaxation))
    network = with_charges(network, method, relaxation, options, together is not None)
    perturbation = perturbation.astype(network.dtype.as_numpy_dtype)
    rows = np.shape(coefficients)[1]
    region = region_of(perturbation)
    how = (method, relaxation, options, together is not None)
    pairs = differences_for(network, coefficients, how)
    computed, count = (network, rows) if pairs is None else (pairs.network, 2 * rows)
    plan = method_of(method, relaxation)[0].plan(computed, count, options.memory_mb, region.is_box)
    limit = min(plan.samples, options.batch_size or _LARGEST_BATCH)
    per_clause = 0 if together is None else together.rows
    asked = (method, relaxation, pairs is not None, per_clause, signs is not None)
    run = _compiled(network, asked, region, plan, options)
    arrays = [region.center, region.lower, region.upper, region.eps]
    # A threshold is rounded so that its row is not easier to prove; C is rounded to nearest, which rows over a rounded
    # network are charged for.
    arrays += [_as(coefficients, network), _as(round_down(offsets, network.dtype.as_numpy_dtype), network)]
    if together is not None:
        arrays.append(_as(round_down(together.offsets, network.dtype.as_numpy_dtype), network))
        arrays += [_as(together.counts, network), _as(together.weighs, network)]
    if signs is not None:
        arrays.append(tf.constant(signs, tf.int8))
    # XLA is told how many iterations there are; else that is an argument, so that fewer of them are no other function.
    return PreparedBounds(computed, run, arrays, limit, () if use_jit(options) else (tf.constant(options.iterations),))


def differences_for(
    network: Network, coefficients: np.ndarray, how: tuple[str, str | None, BoundOptions, bool]
) -> Related | None:
    """The differences that rows of a network are bounded by, too; None where there are none, or not of these rows.

    ``how``: method, relaxation, options, and whether combinations of rows are bounded.
    """
    pairs = related(network) if how[2].differences else None
    if pairs is None or not pairs.concerns(coefficients):
        return None
    return None if network.rounding is not None and not_charged(pairs.network, *how) else pairs


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


def _compiled(
    network: Network, asked: tuple[str, str | None, bool, int, bool], region: Region, plan: Plan, options: BoundOptions
) -> _Compiled:
    """The pass for a kind of region, made once for a network.

    ``asked`` is the method, the relaxation, whether rows are bounded by differences, too, how many rows make up a
    clause (0: each is one), and whether signs of neurons are given.
    """
    parts = tuple(
        sorted((node, tuple((p.start, p.stop) if p else None for p in cut)) for node, cut in plan.parts.items())
    )
    jit = use_jit(options)
    method, relaxation, differs, per_clause, signed = asked
    fixed, rate = options.iterations if jit else None, options.learning_rate
    # Under XLA shapes are fixed, so the unstable neurons cannot be picked out there.
    passes = Passes(plan.parts, not jit, plan.rows, plan.inputs)
    norm, clipped, uneven = region.kind
    owner = weakref.ref(network)

    def run(center, lower, upper, eps, coefficients, offsets, *more):  # type: ignore[no-untyped-def]
        together = Together(per_clause, *more[:3]) if per_clause else None
        iterations = fixed if jit else more[-1]
        live = owner()
        assert live is not None
        pairs = related(live) if differs else None
        net = (live if pairs is None else pairs.network).with_weights_read()
        rows = (coefficients, offsets) if pairs is None else both_ways(pairs, coefficients, offsets)
        together = together if together is None or pairs is None else together.twice()
        inputs, ascent = Region(norm, clipped, center, lower, upper, eps), Ascent(iterations, rate)
        known = replace(passes, signs=_by_node(net, more[3 if per_clause else 0])) if signed else passes
        with fused_kernels(options.jit is None and not jit):
            bounded = bounded_outputs(net, inputs, rows, method, relaxation, known, ascent, together)
        found = [part if pairs is None else greater(*tf.split(part, 2, axis=1)) for part in bounded.of_rows()]
        layers = [bounded.pre_activation[i] for i in net.bounded()]
        best = found[0]
        if together is not None:
            whole = [tf.broadcast_to(part, [tf.shape(center)[0], tf.shape(part)[1]]) for part in found]
            best = tf.concat(whole, axis=1)
        return [best, net.finite(), *(end for pair in layers for end in pair)]

    inputs, outputs, dtype = network.input_shape, network.output_shape, network.dtype

    def trace(rows: int) -> Callable[..., list[tf.Tensor]]:
        shapes = [inputs, inputs, inputs, inputs if uneven else (), (rows, *outputs), (rows,)]
        shapes += [(rows,)] * 3 if per_clause else []
        signature = [tf.TensorSpec([None, *shape], dtype) for shape in shapes]
        signature += [tf.TensorSpec([None, None], tf.int8)] if signed else []
        signature += [] if jit else [tf.TensorSpec([], tf.int32)]
        return traced(run, input_signature=signature, jit_compile=jit)

    searches = optimises(method, relaxation)
    usual = plan.samples if jit else max(_SAMPLES, int(_LONG / plan.floats))
    # A search for better relaxations or combinations is a loop that a graph runs faster from its first round on.
    is_traced = options.jit is not None or jit or searches or per_clause > 0
    return kept(
        network,
        ("bounds", asked, *region.kind, parts, plan.rows, plan.inputs, options.jit, fixed, rate),
        lambda: _Compiled(
            run, trace, plan.floats, usual, is_traced, not searches and not per_clause, any_size=options.jit is False
        ),
    )


def _by_node(network: Network, flat: tf.Tensor) -> dict[int, tf.Tensor]:
    """Data of all neurons that enter a nonlinearity ``[samples, neurons]`` by node, ``[samples, *shape]``."""
    shapes = {i: network.nodes[i].shape for i in network.bounded()}
    if not shapes:
        return {}
    parts = tf.split(flat, [math.prod(shape) for shape in shapes.values()], axis=1)
    return {i: tf.reshape(part, [-1, *shapes[i]]) for i, part in zip(shapes, parts, strict=True)}


def both_ways(pairs: Related, coefficients: tf.Tensor, offsets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows over related networks as they are, and after them the same rows over differences."""
    rows = tf.concat([pairs.plain(coefficients), pairs.matched(coefficients)], axis=1)
    return rows, tf.concat([offsets, offsets], axis=1)


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
    """Tells whether XLA compiles a whole pass: as asked; else on accelerators, while a CPU compiles its kernels."""
    return bool(tf.config.list_physical_devices("GPU")) if options.jit is None else options.jit


def _as(array: np.ndarray, network: Network) -> tf.Tensor:
    return tf.constant(np.asarray(array), network.dtype)


def _padded(tensor: tf.Tensor, missing: int, axis: int) -> tf.Tensor:
    """Repeats the last sample (axis 0) or row (axis 1) as often as such are missing."""
    if missing == 0:
        return tensor
    last = tensor[-1:] if axis == 0 else tensor[:, -1:]
    return tf.concat([tensor, tf.repeat(last, missing, axis=axis)], axis=axis)
