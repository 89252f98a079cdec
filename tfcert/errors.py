"""What can go wrong in a run, told apart by whose mistake it is."""

from __future__ import annotations


class UsageError(ValueError):
    """The user can put it right: a missing file, data that do not fit the network, options that contradict."""


class JournalError(UsageError):
    """A journal that cannot be resumed."""


class ContradictionError(RuntimeError):
    """A query that was verified beyond rounding has a witness that replays: a bug in tfcert.

    A witness against a proof that does not claim so much (guarantee ``numeric``, or a solver's word) is a verdict.
    """
