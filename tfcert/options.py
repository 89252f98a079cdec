"""Options that every bound computation takes."""

from __future__ import annotations

from dataclasses import dataclass

from tfcert.roundoff import ROUNDINGS


@dataclass(frozen=True)
class BoundOptions:
    """Options of bound computations; nothing here changes what is guaranteed, but ``rounding``.

    Attributes:
        memory_mb: memory that one pass may use for coefficients, in MiB; samples and rows are chunked to fit.
        iterations: steps of the optimising methods.
        learning_rate: step size of the optimising methods.
        jit: compile with XLA (True), run op by op in graph mode (False), or decide by the device and by how often a
            pass is run (None): on a CPU first passes need no graph.
        batch_size: largest number of samples in one pass; None lets ``memory_mb`` decide.
        solver: of the methods ``lp`` and ``milp``: ``cbc`` or ``highs``.
        solver_seconds: most time of a solver for one row, with what is known then; None for no limit.
        differences: whether rows about related networks, or about one at two points, are bounded by differences of
            their neurons, too (no bound gets looser by them; without them passes are shorter).
        rounding: what the bounds are about: the network as deployed in floating point, whatever the order of its sums
            (``"deployed"``), the network in exact arithmetic (``"real"``), or with rounding, the bounds' own as well,
            left out of account and estimated (``"ignore"``).

    Raises:
        ValueError: a value is not positive, or a rounding that there is not.
    """

    memory_mb: int = 1024
    iterations: int = 20
    learning_rate: float = 0.5
    jit: bool | None = None
    batch_size: int | None = None
    solver: str = "cbc"
    solver_seconds: float | None = None
    differences: bool = True
    rounding: str = "deployed"

    def __post_init__(self) -> None:
        for name in ("memory_mb", "iterations", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("batch_size", "solver_seconds"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be {', '.join(ROUNDINGS[:-1])} or {ROUNDINGS[-1]}, not {self.rounding!r}")


def options_of(rounding: str | None) -> BoundOptions:
    """The usual options, with what a strategy says of rounding; None: it says nothing."""
    return BoundOptions() if rounding is None else BoundOptions(rounding=rounding)
