"""Bounds of what enters each layer, over the set that is encoded: the fewer neurons stay open, the fewer binaries.

``interval`` and ``crown`` are bound propagation, a batch at a time; ``lp`` and ``progressive`` go on
from them neuron by neuron with a solver: the linear relaxation, then (progressive: Tjeng et al. 2019, section 4.3) the
integer program itself for what is still open.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.complete.encoding.encode import ArrayInterval, EncodingOptions, encode
from tfcert.complete.encoding.piecewise import PiecewiseLinear, PiecewiseNetwork
from tfcert.complete.encoding.program import Program
from tfcert.complete.solver.process import SolverProcess
from tfcert.network.graph import Network
from tfcert.options import BoundOptions
from tfcert.propagation.bounds import pre_activation_bounds
from tfcert.propagation.engine import full_precision
from tfcert.propagation.interval import both_sides
from tfcert.propagation.plan import passes_plan
from tfcert.propagation.preactivation import Passes, by_name, nonlinear, relax_before
from tfcert.sets.balls import Perturbation
from tfcert.sets.region import Region, region_of
from tfcert.tracing import traced

BOUNDS = ("interval", "crown", "lp", "progressive")
_EACH = 5.0
"""Seconds that the programs of one neuron may take."""
_ROUNDING = 1e-7
"""Bounds that a solver finds are widened by this much: ten times its tolerances, and more than float64 loses."""


@dataclass(frozen=True)
class LayerBounds:
    """Bounds of one sample: ``layers``, of what enters each layer, and ``output``; float64 pairs ``[size]``.

    Attributes:
        believed: whether some rest on a solver's word.
    """

    layers: tuple[ArrayInterval, ...]
    output: ArrayInterval
    believed: bool = False

    def open(self, net: PiecewiseNetwork) -> int:
        """The number of neurons of straight pieces with a kink within their bounds."""
        found = 0
        for layer, (lower, upper) in zip(net.layers, self.layers, strict=True):
            if isinstance(layer.kind, PiecewiseLinear):
                kinks = layer.kind.kinks[:, None]
                found += int(((lower < kinks) & (kinks < upper)).sum())
        return found


_RUNS: weakref.WeakKeyDictionary[Network, dict[Any, Any]] = weakref.WeakKeyDictionary()


def propagated_bounds(
    net: PiecewiseNetwork, region: Perturbation, method: str, options: BoundOptions | None = None
) -> list[LayerBounds]:
    """Bounds by propagation (``interval`` or ``crown``), one for each sample.

    Raises:
        ValueError: another method.
    """
    if method not in ("interval", "crown"):
        raise ValueError(f"bounds are propagated by interval or crown, not by {method!r}")
    wide = region.astype(np.float64)
    sets = region_of(wide)
    plan = passes_plan(net.network, 1, (options or BoundOptions()).memory_mb, sets.is_box)
    run = _compiled(net.network, method, sets, plan.parts)
    found: list[LayerBounds] = []
    for first in range(0, len(wide), plan.samples):
        some = slice(first, first + plan.samples)
        with full_precision():
            pairs = run(sets.center[some], sets.lower[some], sets.upper[some], sets.eps[some])
        flat = [tuple(end.numpy().reshape(end.shape[0], -1) for end in pair) for pair in pairs]
        for i in range(len(flat[0][0])):
            *layers, output = [(low[i], high[i]) for low, high in flat]
            found.append(LayerBounds(tuple(layers), output))
    return found


def _compiled(network: Network, method: str, sets: Region, parts: Any) -> Any:
    known = _RUNS.setdefault(network, {})
    key = (method, sets.norm, sets.clipped, str(parts))
    if key in known:
        return known[key]
    norm, clipped, owner = sets.norm, sets.clipped, weakref.ref(network)
    passes = Passes(parts, select=True)

    def run(center, lower, upper, eps):  # type: ignore[no-untyped-def]
        net = owner()
        assert net is not None
        inputs = Region(norm, clipped, center, lower, upper, eps)
        bounds = pre_activation_bounds(net, inputs, "ibp" if method == "interval" else method, None, passes)
        output = both_sides(net, net.output, relax_before(net, net.output, by_name(net, None), bounds), inputs)
        sources = [net.nodes[i].inputs[0] for i in nonlinear(net)]
        return [*(bounds[i] for i in sources), output]

    shape = [None, *network.input_shape]
    signature = [tf.TensorSpec(shape, tf.float64)] * 3 + [tf.TensorSpec([None], tf.float64)]
    known[key] = traced(run, input_signature=signature)
    return known[key]


def tightened(
    net: PiecewiseNetwork,
    region: Perturbation,
    bounds: LayerBounds,
    solver: SolverProcess,
    until: float,
    *,
    integer: bool,
) -> LayerBounds:
    """Bounds of the open neurons met with those that a solver finds, layer by layer, as far as time allows.

    Linear relaxations bound by their dual prices (guarantee ``numeric``), integer programs by the solver's word.

    Args:
        region: one sample's set, in float64.
        until: ``time.monotonic()`` at which to stop; bounds not reached stay as they were.
        integer: whether neurons that the relaxation leaves open get their integer program (progressive tightening).

    Raises:
        SolverError: the solver gave no usable answer.
    """
    known = list(bounds.layers)
    for number, layer in enumerate(net.layers):
        exact = set(layer.before.matrices) == {0} and region.norm == "linf"
        if isinstance(layer.kind, PiecewiseLinear) and not exact:
            part = replace(net, layers=net.layers[:number], output=layer.before)
            for relax in (True, False) if integer else (True,):
                if time.monotonic() < until:
                    known[number] = _layer(part, layer.kind, region, known[: number + 1], (solver, until, relax))
    return replace(bounds, layers=tuple(known), believed=integer)


def _layer(
    part: PiecewiseNetwork,
    kind: PiecewiseLinear,
    region: Perturbation,
    known: Sequence[ArrayInterval],
    how: tuple[SolverProcess, float, bool],
) -> ArrayInterval:
    """Bounds of the output of ``part``, whose layers and output have the bounds ``known``: open neurons only."""
    solver, until, relax = how
    lower, upper = known[-1]
    encoding = encode(part, region, known[:-1], known[-1], EncodingOptions(relax=relax))
    open_ = ((lower < kind.kinks[:, None]) & (kind.kinks[:, None] < upper)).any(axis=0)
    which = np.flatnonzero(open_ & (encoding.outputs.column >= 0))
    if not len(which):
        return lower, upper
    values = encoding.outputs.take(which)
    program = encoding.builder.program((values.column[:0], np.zeros(0)))
    seconds = min(until - time.monotonic(), _EACH * len(which))
    low, high = _ends(solver, program, values.column, seconds, relax=relax)
    ends = values.scale * low + values.shift, values.scale * high + values.shift
    new_lower, new_upper = lower.copy(), upper.copy()
    new_lower[which] = np.maximum(lower[which], np.minimum(*ends) - _ROUNDING)
    new_upper[which] = np.minimum(upper[which], np.maximum(*ends) + _ROUNDING)
    met = new_lower <= new_upper
    return np.where(met, new_lower, lower), np.where(met, new_upper, upper)


def _ends(
    solver: SolverProcess, program: Program, columns: np.ndarray, seconds: float, *, relax: bool
) -> ArrayInterval:
    """Below and above what each variable stays, as far as the solver gets."""
    count = len(columns)
    objectives = np.zeros((2 * count, len(program.lower)))
    objectives[np.arange(count), columns] = 1.0
    objectives[count + np.arange(count), columns] = -1.0
    found = np.full(2 * count, -np.inf)
    for i, answer in enumerate(solver.solve_many(program, objectives, seconds, relax=relax)):
        if relax:
            found[i] = answer.proven_bound(objectives[i])
        elif answer.bound is not None:
            found[i] = answer.bound
    return found[:count], -found[count:]
