"""What a search over pieces of a set finds out about one clause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tfcert.network.graph import Network
from tfcert.verdict import NO_REASON, Because

POSITIVE = 1e-9
"""A bound counts as positive above this share of the margins' size: far more than float64 loses."""


class Split(NamedTuple):
    """The inputs at which a neuron is at most (``above`` False) or at least some number.

    Attributes:
        node: its place among ``propagation.splitting.split_nodes``.
    """

    node: int
    neuron: int
    at: float
    above: bool


@dataclass(frozen=True, eq=False)
class ProvenPiece:
    """What a piece of a set is proven by.

    Attributes:
        path: the cuts that made it. The pieces of a clause are the leaves of the tree that these make up.
        slopes: of what enters hinges, by the place among ``propagation.splitting.split_nodes``: where lower lines lie,
            0 for the least slope and 255 for the greatest ``[*shape]``.
        multipliers: of the cuts, at least 0.
        weights: of the clause's rows, of which this combination is bounded; None where it is one row.
    """

    path: tuple[Split, ...]
    slopes: Mapping[int, np.ndarray]
    multipliers: np.ndarray
    weights: np.ndarray | None


@dataclass(frozen=True, eq=False)
class ProvenPieces:
    """What the clauses that branch and bound proved on a set are proven by, and the network that it split."""

    network: Network
    clauses: Mapping[int, tuple[ProvenPiece, ...]]


@dataclass(frozen=True)
class Branched:
    """Results of branch and bound on a clause.

    Attributes:
        bound: no input of the set has a lower margin, less what rounding may take (``numeric``); -inf where nothing
            is known.
        witness: an input of the original model that breaks the clause, or None.
        pieces: how many pieces were bounded.
        passes: in how many passes.
        reason: why the clause is neither proven nor broken; "" where it is.
        lost: whether that is what is charged for rounding and nothing else: no program proves more then.
        parts: where it is proven, what its pieces are proven by; none where they were too many to be kept.
    """

    bound: float
    witness: np.ndarray | None
    pieces: int
    passes: int
    reason: Because = NO_REASON
    lost: bool = False
    parts: tuple[ProvenPiece, ...] = ()
