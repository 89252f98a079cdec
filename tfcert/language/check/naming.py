"""What statements define, and texts of the values that loops and templates give names."""

from __future__ import annotations

from fractions import Fraction

from tfcert.language.check.scope import Scope
from tfcert.language.check.values import UNITS, Condition, Items, Meaning, Norm, Numeric, Words
from tfcert.language.spec.formula import Term, TruthConstant
from tfcert.language.text import syntax as s

_DIGITS, _PLACES = 24, 8
_KINDS: dict[type, str] = {
    s.Import: "import",
    s.ParamStatement: "param",
    s.StrategyStatement: "strategy",
    s.DomainStatement: "domain",
    s.Let: "let",
    s.PropertyStatement: "property",
    s.MeasureStatement: "measure",
    s.ShareStatement: "measure",
    s.DistanceStatement: "measure",
    s.ObjectiveStatement: "objective",
}


def defined_kind(statement: s.Statement) -> str | None:
    """The kind of thing that a statement defines; None where it defines nothing."""
    return statement.kind if isinstance(statement, s.Resource) else _KINDS.get(type(statement))


def define_all(scope: Scope, statements: tuple[s.Statement, ...]) -> None:
    """Defines the names of some statements of a scope."""
    scope.statements = statements
    for statement in statements:
        kind = defined_kind(statement)
        if kind is not None:
            scope.define(kind, statement.name, statement)  # type: ignore[union-attr]


def as_written(value: Meaning) -> str | None:
    """A constant as one would write it; None of anything else. Exact, but for numbers of very many digits."""
    match value:
        case Numeric(Term((), number), unit):
            return _number(number, unit)
        case Condition(TruthConstant(truth)):
            return "true" if truth else "false"
        case Norm(name):
            return name
        case Words(text):
            return f'"{text}"'
        case Items(values):
            parts = [as_written(v) for v in values]
            return None if None in parts else "{" + ", ".join(map(str, parts)) + "}"
    return None


def _number(number: Fraction, unit: str) -> str:
    word = {"%": "%", "px": "px", "deg": "deg", "s": "s", "m": "m", "kt": "kt"}.get(unit, "")
    number = number / UNITS[word][0]
    if word not in ("%", "px", "deg", "s", "m", "kt") and unit:
        return f"{_plain(number)} of a percentage"
    text = _plain(number)
    return f"{text}{word}" if "/" not in text or not word else f"({text}){word}"


def _plain(number: Fraction) -> str:
    """A number as a decimal where that is exact and short, as a fraction where that is short, else cut off."""
    text = str(number)
    places = next((n for n in range(1, _PLACES + 1) if 10**n % number.denominator == 0), None)
    if number.denominator > 1 and places is not None:
        digits = str(abs(number.numerator) * 10**places // number.denominator).rjust(places + 1, "0")
        text = f"{'-' if number < 0 else ''}{digits[:-places]}.{digits[-places:]}"
    return text if len(text) <= _DIGITS else text[:_DIGITS] + "~"
