"""Names: which words are, and how others become names: in quotes."""

from __future__ import annotations

import re

STATEMENTS = (
    "import", "param", "model", "dataset", "strategy", "abstraction", "let", "domain", "property", "measure",
    "objective", "check", "assert", "report", "for",
)  # fmt: skip
"""The words that begin a statement; they are reserved everywhere."""
BEGINNINGS = (*STATEMENTS, "expected")
"""The words that a statement may begin with."""
RESERVED = frozenset(STATEMENTS) | frozenset(
    re.findall(
        r"\w+",
        "true false not and or in forall exists where within take per total ramp using by such that tol as "
        "argmax argmin abs min max clip agree ball box linf l2 l1 raw unit net",
    )
)
"""The words of the language: as names they stand in quotes."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTABLE = re.compile(r"[A-Za-z0-9_-]+")


def is_plain(text: str) -> bool:
    """Tells whether a name needs no quotes."""
    return text not in RESERVED and _NAME.fullmatch(text) is not None


def can_be_quoted(text: str) -> bool:
    """Tells whether a text in quotes may name a model, a property and so on: such names also name files."""
    return _QUOTABLE.fullmatch(text) is not None


def written(text: str) -> str:
    """A name as a specification writes it."""
    return text if is_plain(text) else f'"{text}"'
