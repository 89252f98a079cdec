"""Options that every bound computation takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BoundOptions:
    """How to compute bounds; nothing here changes what is guaranteed.

    Attributes:
        memory_mb: memory that one pass may use for coefficients, in MiB; samples and rows are chunked to fit.
        iterations: steps of the optimising methods.
        learning_rate: step size of the optimising methods.
        jit: compile with XLA (True), run op by op in graph mode (False), or decide by the device (None).
        batch_size: largest number of samples in one pass; None lets ``memory_mb`` decide.

    Raises:
        ValueError: a value is not positive.
    """

    memory_mb: int = 1024
    iterations: int = 20
    learning_rate: float = 0.5
    jit: bool | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("memory_mb", "iterations", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.batch_size is not None and self.batch_size <= 0:
            raise ValueError(f"batch_size must be positive, not {self.batch_size}")
