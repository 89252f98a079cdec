"""What a search over pieces of a set finds out about one clause."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfcert.verdict import NO_REASON, Because

POSITIVE = 1e-9
"""A bound counts as positive above this share of the margins' size: far more than float64 loses."""


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
    """

    bound: float
    witness: np.ndarray | None
    pieces: int
    passes: int
    reason: Because = NO_REASON
    lost: bool = False
