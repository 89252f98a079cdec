"""The protocol by which the parts of elaboration ask for the meaning of an expression, in whatever file they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tfcert.language.check.scope import Scope
from tfcert.language.check.values import Inputs, Meaning, Numeric
from tfcert.language.text import syntax as s


class Evaluator(Protocol):
    """Finds what expressions of one scope stand for; a problem is reported in the scope and raised.

    Attributes:
        scope: where names are looked up and problems reported.
        local: variables of the construct: samples, quantified variables, parameters of a ``let``.
        hints: what to do about names that are not known here, but may be expected to be.
    """

    scope: Scope
    local: Mapping[str, Meaning]
    hints: Mapping[str, str]

    def elsewhere(self, scope: Scope) -> Evaluator:
        """An evaluator of another text, without local variables."""

    def also(self, name: str, value: Meaning) -> Evaluator:
        """An evaluator with one more local variable."""

    def value(self, expression: s.Expr) -> Meaning:
        """The meaning of an expression."""

    def numeric(self, expression: s.Expr, what: str) -> Numeric:
        """The number, constant or not, that an expression stands for; errors call it ``what``."""

    def place(self, of: Inputs, index: s.Expr) -> int:
        """What stands for one number of an input, by its name or place, until all networks are known."""

    def whole(self, expression: s.Expr, what: str, least: int = 0) -> int:
        """A whole constant that is not below ``least``."""

    def positional(self, call: s.Call, least: int, most: int | None = None) -> list[s.Expr]:
        """The arguments of a call that takes no named ones, as many as there may be."""
