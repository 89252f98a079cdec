"""The text of VNN-LIB files: expressions in brackets, numbers that are exact, and where each of them stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

_TOKEN = re.compile(r"[()]|[^\s();]+|;[^\n]*|\n")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
MAX_DEPTH = 64
MAX_EXPONENT = 400


class VnnlibError(ValueError):
    """A file that is no VNN-LIB, or says something that is not supported; the text says where."""


@dataclass(frozen=True)
class Expression:
    """A word, or expressions in brackets.

    Attributes:
        word: "" for brackets.
        line: where it begins, from 1.
    """

    word: str
    parts: tuple[Expression, ...]
    line: int

    @property
    def head(self) -> str:
        """The word that brackets begin with; "" where they do not."""
        return self.parts[0].word if self.parts else ""

    def __str__(self) -> str:
        return self.word or f"({' '.join(map(str, self.parts))})"


def read_expressions(text: str) -> Iterator[Expression]:
    """The expressions of a text, one after the other.

    Raises:
        VnnlibError: brackets that do not match, or a word outside of any.
    """
    stack: list[tuple[int, list[Expression]]] = []
    line = 1
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token == "\n":
            line += 1
        elif token == "(":
            if len(stack) >= MAX_DEPTH:
                raise VnnlibError(f"line {line}: brackets are nested more than {MAX_DEPTH} deep")
            stack.append((line, []))
        elif token == ")":
            if not stack:
                raise VnnlibError(f"line {line}: this bracket was never opened")
            began, parts = stack.pop()
            found = Expression("", tuple(parts), began)
            if stack:
                stack[-1][1].append(found)
            else:
                yield found
        elif token[0] != ";":
            if not stack:
                raise VnnlibError(f"line {line}: {token!r} stands outside of brackets")
            stack[-1][1].append(Expression(token, (), line))
    if stack:
        raise VnnlibError(f"line {stack[-1][0]}: this bracket is never closed")


def exact_number(expression: Expression) -> Fraction | None:
    """The number that a word is, exactly; None for any other word, and for brackets.

    Raises:
        VnnlibError: an exponent beyond any float.
    """
    match = _NUMBER.fullmatch(expression.word)
    if match is None:
        return None
    if match.group(2) and abs(int(match.group(2)[1:])) > MAX_EXPONENT:
        raise VnnlibError(f"line {expression.line}: {expression.word} is beyond the range of numbers")
    return Fraction(expression.word)
