"""What can go wrong in a run, told apart by whose mistake it is."""

from __future__ import annotations


class UsageError(ValueError):
    """The user can put it right: a missing file, data that do not fit the network, options that contradict."""


class JournalError(UsageError):
    """A journal that cannot be resumed."""


class ContradictionError(RuntimeError):
    """A query that was verified has a witness that replays: a bug in tfcert, or a solver it believed.

    The message says which. If it is tfcert itself, no verdict of the run can stand; if it is a solver, none that rests
    on its word.
    """
