"""Exit codes of a run, and its errors, told apart by whose mistake they are."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The answer of a run to the shell."""

    PASS = 0
    FAIL = 1
    INTERRUPTED = 2
    INTERNAL_ERROR = 3
    USAGE_ERROR = 4
    NOTHING_TO_CHECK = 5
    INCONCLUSIVE = 6

    @property
    def words(self) -> str:
        """The code in words."""
        return self.name.lower().replace("_", " ")


class UsageError(ValueError):
    """The user can put it right: a missing file, data that do not fit the network, options that contradict."""


class JournalError(UsageError):
    """A run on disk that cannot be begun or resumed."""


class ExecutorGoneError(RuntimeError):
    """Those who answer the questions of a run are out of reach: what was answered is kept, and can be gone on from."""


class ContradictionError(RuntimeError):
    """A query that was verified beyond rounding has a witness that replays: a bug in tfcert.

    A witness against a proof that does not claim so much (guarantee ``numeric``, or a solver's word) is a verdict.
    """
