"""Bounds of what enters each layer, over the set that is encoded: the fewer neurons stay open, the fewer binaries.

``catalog.BOUNDS`` names the ways. All begin with bound propagation, a batch at a time; ``lp`` and ``progressive`` go on
from there neuron by neuron with a solver: the linear relaxation, then (progressive: Tjeng et al. 2019, section 4.3) the
integer program itself for what is still open.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tfcert.clauses import Clauses
from tfcert.complete.encoding.encode import ArrayInterval, EncodingOptions, encode
from tfcert.complete.encoding.piecewise import PiecewiseLinear, PiecewiseNetwork
from tfcert.complete.encoding.program import Program
from tfcert.complete.solver.process import SolverError, SolverProcess
from tfcert.network.shared import held
from tfcert.options import BoundOptions
from tfcert.propagation.engine import joint_bounds
from tfcert.propagation.supported import as_given
from tfcert.sets.balls import Perturbation

_OBJECTIVES = 1 << 20
"""Coefficients of all objectives that are sent at a time: what was answered before a solver failed is kept."""
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


def propagated_bounds(
    net: PiecewiseNetwork,
    region: Perturbation,
    method: str,
    clauses: Clauses | None = None,
    options: BoundOptions | None = None,
) -> tuple[LayerBounds, np.ndarray, np.ndarray]:
    """Bounds of layers and of clauses' rows over one sample's set, by one pass of a method for all.

    Returns:
        The layers' bounds, and lower and upper bounds ``[clauses, rows]`` of the rows; of padding, its offset.

    Raises:
        ValueError: a method that does not propagate bounds, or not through such a network.
    """
    outputs = net.output.size
    clauses = clauses or Clauses(np.zeros((1, 0, 1, outputs)), np.zeros((1, 0, 1)))
    each = (np.eye(outputs)[None], np.zeros((1, outputs)))
    rows = [np.concatenate([*parts, *(-part for part in parts)], 1) for parts in zip(each, clauses.rows(), strict=True)]
    ends, layers = joint_bounds(
        held(net.network),
        region.astype(np.float64),
        *rows,
        method=method,
        options=as_given(net.network, options),
    )
    lower, upper = np.split(ends, 2, axis=1)
    lower, upper = np.minimum(lower, -upper), np.maximum(lower, -upper)  # those of a constant may cross by rounding
    bounds = LayerBounds(net.entering(layers), (lower[0, :outputs], upper[0, :outputs]))
    return bounds, clauses.settled(lower[:, outputs:])[0], clauses.settled(upper[:, outputs:], np.inf)[0]


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
    """
    known = list(bounds.layers)
    for number, layer in enumerate(net.layers):
        exact = set(layer.before.matrices) == {0} and region.norm == "linf"
        if isinstance(layer.kind, PiecewiseLinear) and not exact:
            part = replace(net, layers=net.layers[:number], output=layer.before, targets=layer.sources)
            for relax in (True, False) if integer else (True,):
                if time.monotonic() >= until:
                    break
                with contextlib.suppress(TimeoutError):  # looser, and as sound as before
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
    encoding = encode(part, region, known[:-1], known[-1], EncodingOptions(relax=relax, until=until))
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
    count, until = len(columns), time.monotonic() + seconds
    found = np.full(2 * count, -np.inf)
    at_once = max(1, _OBJECTIVES // len(program.lower))
    for first in range(0, 2 * count, at_once):
        left = until - time.monotonic()
        if left <= 0:
            break
        which = np.arange(first, min(first + at_once, 2 * count))
        objectives = np.zeros((len(which), len(program.lower)))
        objectives[np.arange(len(which)), columns[which % count]] = np.where(which < count, 1.0, -1.0)
        try:
            answers = solver.solve_many(program, objectives, left, relax=relax)
        except SolverError:
            break  # what is known by then counts
        for i, answer, objective in zip(which, answers, objectives, strict=True):
            if relax:
                found[i] = answer.proven_bound(objective)
            elif answer.bound is not None:
                found[i] = answer.bound
    return found[:count], -found[count:]
