"""Sets and what they are asked about: a model's several inputs, in its order, and integers held fixed."""

from __future__ import annotations

from typing import TypeVar, cast

import numpy as np

from tfcert.parts import NamedParts
from tfcert.sets.balls import LpBall, Perturbation

Sets = TypeVar("Sets", bound=Perturbation)


def fitted(sets: Sets, parts: NamedParts | None, shape: tuple[int, ...]) -> Sets:
    """The sets as a network of these inputs takes them.

    Sets of vectors, and of lists of arrays, are in the order of the inputs; those of dictionaries go by names.

    Args:
        sets: what the user asks about.
        parts: the inputs of a model with several; None where it has one.
        shape: of the network's input.

    Raises:
        ValueError: sets of another shape or of other names, or integers and booleans that are not held fixed.
    """
    if sets.parts is not None and parts is not None:
        sets = _in_order(sets, sets.parts, parts)
    elif sets.parts is not None:
        raise ValueError(f"the sets are of several inputs, {sets.parts}; the model takes one of shape {shape}")
    if sets.input_shape != shape:
        takes = f"a model of {shape} inputs" if parts is None else f"a model of the inputs {parts}"
        raise ValueError(f"samples of shape {sets.input_shape} for {takes}")
    require_steps_fixed(parts, sets)
    return sets


def _in_order(sets: Sets, given: NamedParts, parts: NamedParts) -> Sets:
    by_place = given.names == [str(i) for i in range(len(given))]
    order = list(given) if by_place else parts.leaves({part.name: part for part in given}, "the set")
    if [part.shape for part in order] != [part.shape for part in parts]:
        raise ValueError(f"the sets are of inputs {given}; the model's are {parts}")
    places = np.concatenate([np.arange(part.start, part.stop) for part in order])
    return sets if (places == np.arange(len(places))).all() else cast(Sets, sets.arranged(places))


def require_steps_fixed(parts: NamedParts | None, sets: Perturbation) -> None:
    """Requires that integers and booleans do not change.

    Raises:
        ValueError: they do; says how to hold them fixed.
    """
    loose = [part for part in parts or () if part.in_steps and sets.moving()[:, part.start : part.stop].any()]
    if loose:
        names = [part.name for part in parts or () if not part.in_steps]
        raise ValueError(
            f"input {loose[0].name!r} holds {loose[0].dtype}, which changes in steps and has no radius: "
            f"hold it fixed, e.g. by free={names!r}"
        )


def require_moving(balls: LpBall) -> LpBall:
    """The balls, if something of every sample may change.

    Raises:
        ValueError: nothing may, so that no radius is the largest.
    """
    fixed = np.zeros(0, bool) if balls.scale is None else (balls.scale.high == 0).reshape(len(balls), -1).all(axis=1)
    if fixed.any():
        raise ValueError(f"nothing of sample {int(np.argmax(fixed))} may change (scale, free): any radius holds")
    return balls
