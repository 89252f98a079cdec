"""Options that every bound computation takes."""

from __future__ import annotations

from dataclasses import dataclass

METHODS = ("ibp", "forward", "forward+backward", "crown-ibp", "crown", "alpha-crown")
SOLVED = ("lp", "milp")
"""Methods that ask a solver, which is not propagation: see ``tfcert.complete.bounds``."""
RELAXATIONS = ("fastlin", "crown", "cnncert", "deepcert", "frown", "adaptive")
_UNDERSCORED = {name.replace("-", "_").replace("+", "_"): name for name in METHODS}


def method_name(name: str) -> str:
    """A method's name as it is written here: ``crown_ibp``, as specifications write it, is ``crown-ibp``."""
    return _UNDERSCORED.get(name, name)


def check_method(method: str, relaxation: str | None) -> None:
    """That there is such a method, and that it takes the relaxation; whether activations define it is another matter.

    Raises:
        ValueError: not so.
    """
    if method not in (*METHODS, *SOLVED):
        raise ValueError(f"unknown method {method!r}: one of {', '.join((*METHODS, *SOLVED))}")
    if relaxation is None:
        return
    if method in SOLVED:
        raise ValueError(f"the method {method} takes no relaxation: it has the tightest of single neurons")
    if relaxation not in RELAXATIONS:
        raise ValueError(f"unknown relaxation {relaxation!r}: one of {', '.join(RELAXATIONS)}")
    if relaxation == "frown" and method not in ("crown", "alpha-crown"):
        raise ValueError(f"the relaxation frown is found by backward passes (method crown), not by {method}")


@dataclass(frozen=True)
class BoundOptions:
    """How to compute bounds; nothing here changes what is guaranteed.

    Attributes:
        memory_mb: memory that one pass may use for coefficients, in MiB; samples and rows are chunked to fit.
        iterations: steps of the optimising methods.
        learning_rate: step size of the optimising methods.
        jit: compile with XLA (True), run op by op in graph mode (False), or decide by the device (None).
        batch_size: largest number of samples in one pass; None lets ``memory_mb`` decide.
        solver: of the methods ``lp`` and ``milp``: ``cbc`` or ``highs``.
        solver_seconds: most time of a solver for one row, with what is known then; None for no limit.

    Raises:
        ValueError: a value is not positive.
    """

    memory_mb: int = 1024
    iterations: int = 20
    learning_rate: float = 0.5
    jit: bool | None = None
    batch_size: int | None = None
    solver: str = "cbc"
    solver_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("memory_mb", "iterations", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("batch_size", "solver_seconds"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
