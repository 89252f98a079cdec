"""Bounds whose relaxations are found by gradient: alpha-CROWN and FROWN.

Any slopes, and any levels of pooling planes, give sound lines, so they may be chosen to make the rows' bounds as large
as possible: projected gradient ascent on all of them at once, differentiating through every backward pass (alpha-CROWN,
Xu et al. 2021, "Fast and complete", section 3.1; S-shaped activations and pooling by the same means). FROWN (Lyu et al.
2020, "Fastened CROWN", section 4) is the restriction to one pair of lines a neuron, whatever the pass.

A choice is a number in [0, 1]: where a slope lies between the least and greatest worth taking
(:meth:`~tfcert.activations.Activation.slope_ranges`). For the last pass the bound is concave in the slopes, which it is
not in points of tangency.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

from tfcert.activations import Lines, lines
from tfcert.activations.registry import Ranges, Slopes
from tfcert.network.graph import Elementwise, MaxPool, Network
from tfcert.propagation.backward import Relaxed, TensorInterval, linear_lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.interval import exact_intervals
from tfcert.propagation.pooling import PoolLines, default_height, pool_lines
from tfcert.propagation.preactivation import (
    Passes,
    Relaxer,
    backward_bounds,
    by_name,
    floor,
    greater,
    nonlinear,
    relax,
    relax_before,
)
from tfcert.sets.region import Region

_EVERY = -1
"""Stands for every target."""
_CURVED = 0.1
"""Steps of an activation that is no hinge, relative to those of one: its lines turn as the slopes move (measured on
sigmoids: a tenth ends 6% higher after 20 steps, on ReLU it ends lower)."""
_DECAY = 0.98
_ADAM = (0.9, 0.999, 1e-8)
"""Shares kept of the mean and of the mean square, and what is added to its root."""
Place = tuple[int, int]
"""A nonlinear node, and the target of the pass that goes through it."""
Choices = dict[Place, tuple[tf.Tensor, ...]]
"""Of an ``Elementwise`` node its lower and upper slope, those that are free; of a ``MaxPool`` node its height."""


@dataclass(frozen=True)
class Ascent:
    """Options of the ascent to better relaxations; each is sound, and the best bound of each row is kept.

    Attributes:
        iterations: gradient steps, a number or a scalar tensor.
        learning_rate: of Adam, in units of each choice's range; a tenth of it for activations that are no hinges.
        shared: one pair of lines a neuron, for all rows of all passes (FROWN).
    """

    iterations: int | tf.Tensor = 20
    learning_rate: float = 0.5
    shared: bool = False


def optimised_bounds(
    network: Network,
    region: Region,
    rows: Coefficients,
    relaxation: str | None,
    passes: Passes,
    ascent: Ascent,
) -> tuple[tf.Tensor, dict[int, TensorInterval]]:
    """Lower bounds of rows over the output, never below those of the named relaxation that the search starts from.

    Args as for :func:`~tfcert.propagation.bounds.output_bounds`.

    Returns:
        ``[samples, rows]``, guarantee ``numeric``; and the pre-activation bounds that the search starts from.
    """
    start = by_name(network, relaxation)
    bounds = backward_bounds(network, region, start, passes)
    best = _last_pass(network, region, rows, relax_before(network, network.output, start, bounds))
    best = greater(best, floor(network, region, rows, bounds))
    first = _first_choices(network, region, relaxation, bounds, _lanes(network, rows, passes, ascent))
    if not first:
        return best, bounds
    every = Passes(passes.parts)  # a pass over selected rows has no lanes

    def evaluate(choices: Choices) -> tf.Tensor:
        relaxer = chosen_lines(network, relaxation, choices)
        bounds = backward_bounds(network, region, relaxer, every)
        return _last_pass(network, region, rows, relax_before(network, network.output, relaxer, bounds))

    return _ascend(evaluate, first, best, ascent, _paces(network, first)), bounds


def _last_pass(network: Network, region: Region, rows: Coefficients, relaxed: Relaxed) -> tf.Tensor:
    found = linear_lower_bounds(network, network.output, rows, relaxed, region)
    found = tf.broadcast_to(found, [tf.shape(region.center)[0], rows.values.shape[2]])
    return tf.where(tf.math.is_nan(found), tf.constant(-float("inf"), found.dtype), found)


def _paces(network: Network, first: Choices) -> list[float]:
    """For each choice, place by place, how long its steps are."""
    found = []
    for (index, _), choices in first.items():
        node = network.nodes[index]
        curved = isinstance(node, Elementwise) and not node.activation.piecewise_linear
        found += [_CURVED if curved else 1.0] * len(choices)
    return found


def _ascend(
    evaluate: Callable[[Choices], tf.Tensor], first: Choices, best: tf.Tensor, ascent: Ascent, paces: list[float]
) -> tf.Tensor:
    """The best value of each row seen while all choices climb."""
    places = list(first)
    sizes = [len(first[place]) for place in places]

    def unflat(flat: list[tf.Tensor]) -> Choices:
        parts = iter(flat)
        return {place: tuple(next(parts) for _ in range(size)) for place, size in zip(places, sizes, strict=True)}

    def step(count: tf.Tensor, best: tf.Tensor, flat, mean, square):  # type: ignore[no-untyped-def]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(flat)
            found = evaluate(unflat(flat))
            total = tf.reduce_sum(tf.where(tf.math.is_finite(found), found, tf.zeros_like(found)))
        slopes = tape.gradient(total, flat, unconnected_gradients="zero")
        time = tf.cast(count + 1, best.dtype)
        rate = ascent.learning_rate * _DECAY ** (time - 1)
        moves, mean, square = adam(slopes, mean, square, time, _ADAM)
        flat = [tf.clip_by_value(c + pace * rate * m, 0, 1) for c, m, pace in zip(flat, moves, paces, strict=True)]
        return count + 1, tf.maximum(best, found), flat, mean, square

    flat = [choice for place in places for choice in first[place]]
    zeros = [tf.zeros_like(choice) for choice in flat]
    state = (tf.constant(0), best, flat, zeros, zeros)
    _, best, flat, _, _ = tf.while_loop(
        lambda count, *_: count < ascent.iterations, step, state, maximum_iterations=ascent.iterations
    )
    return tf.maximum(best, evaluate(unflat(flat)))


def adam(
    gradients: Sequence[tf.Tensor],
    mean: Sequence[tf.Tensor],
    square: Sequence[tf.Tensor],
    time: tf.Tensor,
    how: tuple[float, float, float],
) -> tuple[list[tf.Tensor], list[tf.Tensor], list[tf.Tensor]]:
    """Adam's moves for a rate of 1, and the new moments; gradients that are not finite count as 0.

    Args:
        time: how many steps were taken, this one included.
        how: shares kept of the mean and of the mean square, and what is added to its root.
    """
    keep, keep2, tiny = how
    known = [tf.where(tf.math.is_finite(g), g, tf.zeros_like(g)) for g in gradients]
    mean = [keep * m + (1 - keep) * g for m, g in zip(mean, known, strict=True)]
    square = [keep2 * v + (1 - keep2) * g * g for v, g in zip(square, known, strict=True)]
    bias = tf.sqrt(1 - keep2**time) / (1 - keep**time)
    return [bias * m / (tf.sqrt(v) + tiny) for m, v in zip(mean, square, strict=True)], mean, square


def _lanes(network: Network, rows: Coefficients, passes: Passes, ascent: Ascent) -> Mapping[int, int]:
    """For each target of a pass, how many choices its rows have for each neuron.

    Each row of the output and of a dense layer has its own (they take as much memory as its coefficients), the rows of
    a convolution are shared by position: one for each channel's lower bounds and one for its upper. A dense layer whose
    passes are cut for lack of memory has two, one for all lower bounds and one for all upper.
    """
    if ascent.shared:
        return {_EVERY: 1}
    found = {network.output: int(rows.values.shape[2])}
    for target in network.bounded():
        shape = network.nodes[target].shape
        cut = passes.parts.get(target, (None,)) != (None,)
        found[target] = 2 if len(shape) == 1 and cut else 2 * shape[-1]
    return found


def _first_choices(
    network: Network,
    region: Region,
    relaxation: str | None,
    bounds: Mapping[int, TensorInterval],
    lanes: Mapping[int, int],
) -> Choices:
    """The choices that give the named relaxation."""
    if _EVERY in lanes:
        return {(i, _EVERY): c for i in nonlinear(network) if (c := named_choices(network, i, relaxation, bounds, 1))}
    exact = exact_intervals(network, region.is_box)
    found: Choices = {}
    passed = {i for i in network.bounded() if not isinstance(network.nodes[i], Elementwise)} | {network.output}
    for target in sorted(passed - exact):
        for node in nonlinear(network):
            if node in network.ancestors(target):
                choice = named_choices(network, node, relaxation, bounds, lanes[target])
                if choice:
                    found[node, target] = choice
    return found


def named_choices(
    network: Network, index: int, relaxation: str | None, bounds: Mapping[int, TensorInterval], lanes: int
) -> tuple[tf.Tensor, ...]:
    node = network.nodes[index]
    here = bounds[node.inputs[0]]
    if isinstance(node, MaxPool):
        return (tf.stop_gradient(default_height(node, *here)),)
    assert isinstance(node, Elementwise)
    slopes = node.activation.slopes(relaxation, *here)
    found = []
    for slope, ends in zip(slopes, node.activation.slope_ranges(*here), strict=True):
        if ends is not None:
            place = tf.math.divide_no_nan(slope - ends[0], ends[1] - ends[0])
            place = tf.clip_by_value(tf.where(tf.math.is_finite(place), place, tf.zeros_like(place)), 0, 1)
            found.append(tf.repeat(tf.stop_gradient(place)[:, None], lanes, axis=1))
    return tuple(found)


def chosen_lines(
    network: Network,
    relaxation: str | None,
    choices: Choices,
    known: Mapping[int, tuple[Slopes, Ranges]] | None = None,
) -> Relaxer:
    """Relaxes by the choices made for a node and a target; ``known`` has :func:`open_slopes` where bounds are fixed."""

    def relaxer(index: int, target: int, bounds: Mapping[int, TensorInterval]) -> Lines | PoolLines:
        node = network.nodes[index]
        here = bounds[node.inputs[0]]
        chosen = choices.get((index, target), choices.get((index, _EVERY), ()))
        if not chosen:
            return relax(network, index, here, relaxation)
        if isinstance(node, MaxPool):
            return pool_lines(node, *here, relaxation, *chosen)
        assert isinstance(node, Elementwise)
        named, ranges = open_slopes(node, here, relaxation) if known is None else known[index]
        rest, slopes = iter(chosen), []
        for slope, ends in zip(named, ranges, strict=True):
            if ends is None:
                slopes.append(slope)
            else:
                least, most = (tf.stop_gradient(end) for end in ends)
                slopes.append(least + next(rest) * (most - least))
        return lines(node.activation, (slopes[0], slopes[1]), *(end[:, None] for end in here))

    return relaxer


def open_slopes(node: Elementwise, bounds: TensorInterval, relaxation: str | None) -> tuple[Slopes, Ranges]:
    """The slopes of a named relaxation, and between which slopes there is a choice, ``[samples, 1, *shape]`` each."""
    lower, upper = (end[:, None] for end in bounds)
    return node.activation.slopes(relaxation, lower, upper), node.activation.slope_ranges(lower, upper)
