"""The last gate of the frontend: the network must agree with its model, layer by layer, on probe inputs.

The tolerance is what rounding can explain for this network and these inputs, not a constant. Worst-case error terms
grow with every layer until they would excuse anything, so rounding is imitated instead: the network is evaluated
``RUNS`` times with random errors at every node, and the tolerance of a value is ``SAFETY`` times the root mean
square of its deviations. With unit roundoff ``u``, the standard deviation of the error is

* linear: ``sqrt(n + 8) u (|W| |x| + |b|)`` for dot products of length ``n`` (what a plain loop over summands of one
  sign makes; the 8 covers weights that are themselves computed, as batch normalisation's scale); of a convolution,
  which libraries compute tile by tile (Winograd's algorithm), the largest nearby;
* activation: ``4 u (|f(x)| + |x| + t)``, where ``t`` is the size of the numbers that it may be computed through: 1 for
  a curve (``exp(x) - 1``), the farthest kink, up to ``8``, for straight pieces;
* sum: ``u`` times the sum of magnitudes; maximum and concatenation: none.

Where a probe overflows, it is scaled down until it does not. What is not finite in both is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcert.activations import Activation
from tfcert.network.errors import FrontendMismatchError
from tfcert.network.graph import Add, Elementwise, Linear, Multivariate, Network, Node, evaluate_node
from tfcert.network.keras.inputs import arguments, outputs_at, taken_apart
from tfcert.network.keras.private import functional_graph
from tfcert.parts import NamedParts
from tfcert.roundoff import unit_roundoff

PROBE_SCALE = 255.0
"""The largest magnitude of a corner probe: pixels that were never rescaled."""

RUNS = 8
SAFETY = 8.0
_SHRINK, _SHRINKS = 1 / 16, 40
"""What a probe that overflows is multiplied by, and how often at most."""
_FARTHEST = 8.0
"""Kinks farther out leave the pieces between them as they are (a clip to 1e9), and must not excuse what follows."""
_TILE = 9
"""How far tiles of a convolution reach, in pixels."""
_LARGEST = 1 << 26
"""So many values of probes' runs are looked at together, if one probe has not more."""


@dataclass(frozen=True)
class Checkpoint:
    """A value of the model that a node must reproduce: a layer's output, or its softmax's input where ``softmax``."""

    layer: str
    node: int
    tensor: Any
    softmax: bool = False


def validate(network: Network, model: keras.Model, checkpoints: Sequence[Checkpoint], x: Any = None) -> None:
    """Compares a network with its model, ``model(x, training=False)``, on the inputs of :func:`probes`.

    Layers are compared one by one, so that a fault is found, and named, even where later weights hide it.

    Args:
        network: what was built.
        model: what it was built from.
        checkpoints: the layers to compare, in the order of the graph; the last is the model's output.
        x: inputs of the user's; a few of them join the probes.

    Raises:
        FrontendMismatchError: a value differs by more than :func:`tolerances`, or is finite in the network alone; or a
            value that the model has could be judged on no probe but zero.
    """
    inner = _inner_model(model, checkpoints)

    def answers(inputs: tf.Tensor) -> list[tf.Tensor]:
        apart = [inputs] if network.parts is None else taken_apart(inputs, network.parts)
        return [*outputs_at(inner, apart), _output(model, inputs, network.parts)]

    compare_nodes(network, f"model {model.name!r}", [*checkpoints, checkpoints[-1]], answers, x)


def compare_nodes(
    network: Network,
    whose: str,
    checkpoints: Sequence[Checkpoint],
    answers: Callable[[tf.Tensor], Sequence[tf.Tensor]],
    x: Any = None,
) -> None:
    """Compares nodes of a network with ``answers`` to the inputs of :func:`probes`, one a checkpoint.

    Raises:
        FrontendMismatchError: as for :func:`validate`.
    """
    with tf.device("/CPU:0"):  # The error model does not cover the 10-bit products of some accelerators.
        every = probes(network, x)
        at_once = max(1, _LARGEST // (RUNS * sum(int(np.prod(node.shape)) for node in network.nodes)))
        seen = [_Seen(f"layer {checkpoint.layer!r} of {whose}") for checkpoint in checkpoints]
        for first in range(0, len(every), at_once):
            inputs, computed = _within_range(network, tf.constant(every[first : first + at_once]))
            allowed = tolerances(network, computed, inputs, {checkpoint.node for checkpoint in checkpoints})
            for known, checkpoint, wanted in zip(seen, checkpoints, answers(inputs), strict=True):
                value, slack = computed[checkpoint.node], allowed[checkpoint.node]
                if checkpoint.softmax:
                    value, slack = _softmax(value, slack, unit_roundoff(network.dtype.as_numpy_dtype))
                known.compare(value, wanted, slack, after=int(first == 0), last=first + at_once >= len(every))


def _within_range(network: Network, inputs: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The probes, those scaled down that make a value overflow (if that helps), and the values of all nodes."""
    first = found = inputs
    steps = _in_steps(network)
    for _ in range(_SHRINKS):
        computed = network.values(found)
        parts = [tf.reduce_all(tf.reshape(tf.math.is_finite(value), [len(found), -1]), axis=1) for value in computed]
        finite = tf.reshape(tf.reduce_all(parts, axis=0), [-1, *[1] * len(network.input_shape)])
        if bool(tf.reduce_all(finite)):
            return found, computed
        found = tf.where(finite | steps, found, found * _SHRINK)
    found = tf.where(finite, found, first)
    return found, network.values(found)


class _Seen:
    """A value of the model, as far as probes have shown it."""

    def __init__(self, what: str):
        self.what = what
        self.judged = self.known = np.zeros((), bool)

    def compare(self, value: tf.Tensor, wanted: tf.Tensor, slack: tf.Tensor, after: int, last: bool) -> None:
        """Compares some probes; what was judged on none but the first ``after`` of all of them is refused at last."""
        ours, theirs, allowed = value.numpy(), wanted.numpy(), slack.numpy()
        finite = np.isfinite(ours) & np.isfinite(theirs)
        # A node that is not finite in both has overflowed (or is no number there); which of the two, rounding decides.
        judged = np.isfinite(allowed) & (np.isfinite(ours) | np.isfinite(theirs))
        with np.errstate(invalid="ignore", over="ignore"):
            difference = np.abs(theirs - ours)
        agrees = ~judged | (finite & ((theirs == ours) | (difference <= allowed)))
        self.judged = self.judged | judged[after:].any(axis=0)
        self.known = self.known | np.isfinite(theirs[after:]).any(axis=0)
        unseen = ~self.judged
        if last and (unseen.all() or (unseen & self.known).any()):
            raise FrontendMismatchError(
                f"the network cannot be compared with {self.what}: {int(unseen.sum())} of its {unseen.size} values are "
                "not finite on any probe; pass x, inputs on which the model is finite"
            )
        if agrees.all():
            return
        worst = np.unravel_index(np.argmax(np.where(agrees, 0.0, np.nan_to_num(difference, nan=np.inf))), agrees.shape)
        raise FrontendMismatchError(
            f"the network disagrees with {self.what} on {int((~agrees).sum())} of {agrees.size} probe values: "
            f"{float(ours[worst])} instead of {float(theirs[worst])}, where rounding explains "
            f"{float(allowed[worst]):.3g}; the layer computes something else than its class says, or tfcert (or a "
            "converter of yours) misreads one of its options"
        )


def _softmax(logits: tf.Tensor, slack: tf.Tensor, roundoff: float) -> tuple[tf.Tensor, tf.Tensor]:
    """The softmax and its slack: ``softmax(z + e)`` lies within a factor ``exp(2 max|e|)`` of ``softmax(z)``."""
    value = tf.nn.softmax(logits)
    error = tf.minimum(tf.reduce_max(slack, axis=-1, keepdims=True), 20.0)
    return value, value * tf.math.expm1(2.0 * error) + 16.0 * roundoff


def _inner_model(model: keras.Model, checkpoints: Sequence[Checkpoint]) -> keras.Model:
    """A model whose outputs are the checkpoints."""
    graph = functional_graph(model)
    return keras.Model(graph.inputs, [checkpoint.tensor for checkpoint in checkpoints], name="probe")


def _output(model: keras.Model, inputs: tf.Tensor, parts: NamedParts | None) -> tf.Tensor:
    """The model's only output, whatever structure (a list, a dictionary) its inputs and output are wrapped in."""
    return outputs_at(model, arguments(model, inputs, parts))[0]


def _in_steps(network: Network) -> np.ndarray:
    """Which numbers of the network's input the model takes as integers or booleans."""
    found = np.zeros(network.input_shape, bool)
    for part in network.parts or ():
        found[part.start : part.stop] = part.in_steps
    return found


def probes(network: Network, x: Any = None) -> np.ndarray:
    """Zeros, ones, large corners of both signs, checkered corners, uniform and normal noise, and up to two of ``x``.

    Where the model takes integers or booleans they are 0 and 1.
    """
    generator = np.random.default_rng(0)
    shape = network.input_shape
    signs = generator.choice([-1.0, 1.0], shape)
    corners = [np.zeros(shape), np.ones(shape), -np.ones(shape), PROBE_SCALE * np.ones(shape)]
    corners += [PROBE_SCALE * signs, (signs > 0).astype(float)]
    noise = [generator.uniform(size=shape), generator.normal(size=shape), 4.0 * generator.normal(size=shape)]
    drawn = np.stack([*corners, *noise])
    drawn = np.where(_in_steps(network), drawn > 0, drawn)
    given = [] if x is None else [np.asarray(sample) for sample in x[:2] if np.isfinite(sample).all()]
    return np.stack([*drawn, *given]).astype(network.dtype.as_numpy_dtype)


def tolerances(
    network: Network, clean: Sequence[tf.Tensor], x: tf.Tensor, wanted: Collection[int]
) -> dict[int, tf.Tensor]:
    """Bounds of what rounding moves the values ``clean`` of the ``wanted`` nodes by, as in the module's docstring."""
    generator = tf.random.Generator.from_seed(0)
    runs = tf.repeat(x, RUNS, axis=0)
    found: dict[int, tf.Tensor] = {}
    last = {source: index for index, node in enumerate(network.nodes) for source in node.inputs}
    allowed = {}
    for index, node in enumerate(network.nodes):
        value = evaluate_node(node, [found[i] for i in node.inputs], runs)
        scale = _error_scale(node, [clean[i] for i in node.inputs], clean[index])
        if scale is not None:
            value += tf.repeat(unit_roundoff(network.dtype.as_numpy_dtype) * scale, RUNS, axis=0) * generator.normal(
                tf.shape(value), dtype=network.dtype
            )
        found[index] = value
        if index in wanted:
            deviation = tf.reshape(value, [-1, RUNS, *node.shape]) - clean[index][:, None]
            largest = tf.reduce_max(tf.abs(deviation), axis=1)  # squares of it may overflow, or vanish
            share = tf.math.divide_no_nan(deviation, largest[:, None])
            allowed[index] = SAFETY * largest * tf.sqrt(tf.reduce_mean(tf.square(share), axis=1))
        for source in {i for i in node.inputs if last[i] == index}:
            del found[source]
    return allowed


def _error_scale(node: Node, inputs: list[tf.Tensor], value: tf.Tensor) -> tf.Tensor | None:
    """The standard deviation of a node's own rounding error, in units of the roundoff; None where it makes none."""
    match node:
        case Linear():
            size = node.map.abs_apply(tf.abs(inputs[0]))
            if node.bias is not None:
                size = size + tf.abs(node.bias())
            if node.map.window is not None and node.map.window.reach != (1, 1):
                for tile in ((_TILE, 1), (1, _TILE)):
                    size = tf.nn.max_pool2d(size, tile, 1, "SAME")
            return float(np.sqrt(node.map.terms() + 8)) * size
        case Elementwise():
            return 4.0 * (tf.abs(value) + tf.abs(inputs[0]) + _through(node.activation))
        case Add():
            return tf.add_n([tf.abs(term) for term in inputs])
        case Multivariate():
            return node.deviation(inputs, value)
    return None


def _through(activation: Activation) -> float:
    """The size of the numbers that a function may be computed through, however small its argument and its value."""
    if activation.edges is not None:
        return 0.0
    return 1.0 if activation.kinks is None else min(_FARTHEST, max(map(abs, activation.kinks)))
