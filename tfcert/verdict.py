"""Guarantees, outcomes and verdicts: plain frozen data, no TensorFlow.

Everything that crosses a layer of the house (a specification, a verdict, a record of the journal) is one of the
classes below, so that any layer can be read, tested and replaced on its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any

import numpy as np


class Guarantee(StrEnum):
    """Levels of guarantee, strongest first."""

    FLOAT32_ANY_ORDER = "float32-any-order"
    """Holds for the network as executed in float32, in any summation order."""
    REAL = "real"
    """Holds for the exact-arithmetic network; bounds computed with rigorous rounding."""
    NUMERIC = "numeric"
    """Bounds computed in floating point; rounding is estimated (a margin within it proves nothing), not bounded."""
    SOLVER = "solver"
    """Rests on a MILP solver's word."""
    REPLAYED = "replayed"
    """A falsification: the witness was run on the original model."""
    ESTIMATE = "estimate"
    """No guarantee."""


class Outcome(StrEnum):
    """The four possible answers to one property on one sample. An error is never an outcome."""

    VERIFIED = "verified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Work:
    """The effort that a verdict took, as counts that do not depend on the machine, and a solver's seconds.

    Attributes:
        pieces: sub-domains that branch and bound bounded.
        binaries: integer variables of the largest program that a solver was given.
        evaluations: bounds that were computed; one for each pass that the sample took part in.
        gradients: gradient steps of attacks.
        solver_seconds: wall time that a solver's process took.
    """

    pieces: int = 0
    binaries: int = 0
    evaluations: int = 0
    gradients: int = 0
    solver_seconds: float = 0.0

    def __add__(self, other: Work) -> Work:
        """The work of both; of the two programs' binaries the larger number."""
        return Work(
            self.pieces + other.pieces,
            max(self.binaries, other.binaries),
            self.evaluations + other.evaluations,
            self.gradients + other.gradients,
            self.solver_seconds + other.solver_seconds,
        )


NO_WORK = Work()


@dataclass(frozen=True)
class Verdict:
    """The answer for one property on one sample, and how it was obtained.

    ``margin`` is the certified lower bound of the property's margin when verified, the margin reached by the
    witness when falsified, and the best lower bound known otherwise; NaN where there is none. ``contradicted`` is the
    level of a proof that a replayed witness refuted. ``work`` is that of all stages that looked at the sample.
    """

    outcome: Outcome
    reason: str = ""
    stage: str = ""
    method: str = ""
    relaxation: str = ""
    guarantee: Guarantee | None = None
    margin: float = float("nan")
    seconds: float = 0.0
    witness: np.ndarray | None = field(default=None, compare=False, repr=False)
    contradicted: Guarantee | None = None
    work: Work = NO_WORK


def is_proof(margin: Any, rounding: Any = 0.0) -> Any:
    """Marks the certified margins that are proofs: finite, and above what rounding may take from them.

    The one rule of the package. Numbers, arrays or tensors. NaN proves nothing, on either side.
    """
    return (abs(margin) < math.inf) & (margin > rounding)


TINY = Fraction(1, 1000)
"""A radius that is a smaller share of what values span is hardly meant in their unit."""
