"""The stages of a task's strategy while it runs: each is prepared when it is first needed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from tfcert.driver.budget import Clock
from tfcert.driver.stages.base import stage_of
from tfcert.driver.task import Task
from tfcert.language import StageSpec
from tfcert.options import BoundOptions

Preparing = Callable[[str], AbstractContextManager[None]]
"""A context in which something is prepared, whose name is shown."""


class OpenStages:
    """A context that holds the prepared stages of one strategy.

    Attributes:
        seconds: that the preparation of each stage took, by its name.
    """

    def __init__(
        self, clock: Clock, options: BoundOptions, preparing: Preparing = lambda name: contextlib.nullcontext()
    ):
        self.clock, self._options, self._preparing = clock, options, preparing
        self.seconds: dict[str, float] = {}
        self._stack = contextlib.ExitStack()
        self._running: dict[tuple[StageSpec, object], Any] = {}

    def get(self, spec: StageSpec, task: Task, kind: object = None) -> Any:
        """The prepared stage; ``task`` has the samples that are left to it, in sets of a ``kind``.

        The strategy's clock stands still while it is prepared.
        """
        if (spec, kind) not in self._running:
            began = time.monotonic()
            with self.clock.paused(), self._preparing(spec.name):
                self._running[spec, kind] = self._stack.enter_context(stage_of(spec).open(task, self._options))
            self.seconds[spec.name] = self.seconds.get(spec.name, 0.0) + time.monotonic() - began
        return self._running[spec, kind]

    def others(self) -> OpenStages:
        """Another context, for another question about the same samples, on the same clock."""
        found = OpenStages(self.clock, self._options, self._preparing)
        found.seconds = self.seconds
        return found

    def __enter__(self) -> OpenStages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
