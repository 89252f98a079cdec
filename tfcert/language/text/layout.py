"""The layout of a specification: lines stay as their author broke them; indents, blanks, empty lines follow rules.

What stands between brackets is indented by two blanks, and so is a line that goes on with the one before. Operators of
a formula have blanks on both sides or on none, as they were written; all other blanks are settled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tfcert.language.text.diagnostics import Diagnostics, SourceText
from tfcert.language.text.names import BEGINNINGS, RESERVED
from tfcert.language.text.parser import parse_module
from tfcert.language.text.printer import print_module

INDENT = 2
_TOKEN = re.compile(
    r"(?P<comment>#[^\n]*)|(?P<text>\"[^\"\n]*\")|(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?:%|[A-Za-z]+)?)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign>=>|->|==|!=|<=|>=|\.\.|[^\s])"
)
_OPEN, _CLOSED = frozenset("([{"), frozenset(")]}")
_CALLED = frozenset(
    {"argmax", "argmin", "abs", "min", "max", "clip", "agree", "ball", "box", "linf", "l2", "l1", "ramp"}
)
_BEFORE_BRACKETS = (RESERVED - _CALLED) | {"skip", "over", "of", "such", "that"}
"""Words that are no names of what stands in the brackets after them."""
_AS_WRITTEN = frozenset({"+", "-", "*", "/", ".."})
_SPACED = frozenset({"=>", "->", "==", "!=", "<=", ">=", "<", ">"})


@dataclass(frozen=True)
class _Token:
    """A word or a sign: its text, its kind, and whether blanks stood before it."""

    text: str
    kind: str
    spaced: bool


def formatted(source: SourceText, diagnostics: Diagnostics) -> str | None:
    """The text in the layout of this language; None for one that does not parse, which goes to ``diagnostics``.

    Its meaning and its comments are unchanged, and formatting it again changes nothing.

    Raises:
        AssertionError: the new text would not mean the same: a mistake of this function.
    """
    before = parse_module(source, diagnostics)
    if before is None or diagnostics.failed:
        return None
    lines = [_tokens(line) for line in source.text.splitlines()]
    text = "\n".join(_settled(lines)) + "\n"
    after = parse_module(SourceText(source.filename, text), Diagnostics())
    if after is None or print_module(after) != print_module(before) or _comments(text) != _comments(source.text):
        raise AssertionError("the formatted text would not mean the same")
    return text


def _comments(text: str) -> list[str]:
    return [t.text.rstrip() for line in text.splitlines() for t in _tokens(line) if t.kind == "comment"]


def _tokens(line: str) -> list[_Token]:
    found = []
    for match in _TOKEN.finditer(line):
        start = match.start()
        found.append(_Token(match.group(), str(match.lastgroup), start > 0 and line[start - 1].isspace()))
    return found


def _settled(lines: Sequence[list[_Token]]) -> Iterator[str]:
    """The lines, with at most one empty line between two, and none at the ends of a block."""
    depth: list[str] = []
    last, empty, inside = "", False, False
    for tokens in lines:
        if not tokens:
            empty = True
            continue
        closing = tokens[0].text in _CLOSED
        if empty and last and last not in _OPEN and not closing:
            yield ""
        empty = False
        leading = 0
        while leading < len(tokens) and tokens[leading].text in _CLOSED:
            leading += 1
        level = max(0, len(depth) - leading)
        code = [t for t in tokens if t.kind != "comment"]
        goes_on = bool(code) and not closing and inside and not _begins(code, depth, last)
        yield " " * (INDENT * (level + goes_on)) + _line(tokens, depth)
        if code:
            last, inside = code[-1].text, True


def _begins(code: Sequence[_Token], depth: Sequence[str], last: str) -> bool:
    """Tells whether a line begins something, rather than going on with the line before it."""
    if code[0].text in BEGINNINGS and (not depth or depth[-1] == "{"):
        return True
    if not depth:
        return code[0].text == "prop"
    entry = len(code) > 1 and code[1].text == ":" and depth[-1] == "{"
    return entry or last in _OPEN or last == "," or (last == "}" and depth[-1] == "{")


def _line(tokens: Sequence[_Token], depth: list[str]) -> str:
    """One line without its indent; ``depth`` is brought up to date."""
    text, previous, before = "", None, None
    for token in tokens:
        if previous is not None:
            text += "  " if token.kind == "comment" else " " * _blank(before, previous, token, tokens, depth)
        if token.text in _OPEN:
            depth.append(token.text)
        elif token.text in _CLOSED and depth:
            depth.pop()
        text += token.text.rstrip()
        before, previous = previous, token
    return text


def _blank(
    before: _Token | None, left: _Token, right: _Token, tokens: Sequence[_Token], depth: Sequence[str]
) -> bool:  # fmt: skip
    """Tells whether a blank stands between two words or signs of a line."""
    if left.text == "-" and _is_sign_of_a_number(before):
        return False
    if right.text in {",", ":", ")", "]", "."} or left.text in {"(", "[", "."}:
        return False
    if "^" in (left.text, right.text):
        return False
    if "{" in (left.text, right.text) or "}" in (left.text, right.text):
        return (left.text, right.text) != ("{", "}")
    if left.text in {",", ":"} or left.text in _SPACED or right.text in _SPACED:
        return True
    inside = bool(depth) and depth[-1] in {"(", "["}
    for sign in (right, left):
        if sign.text in _AS_WRITTEN or (sign.text == "=" and inside):
            return _written_with_blanks(tokens, _place(tokens, sign))
    if right.text == "(":
        return left.text in _BEFORE_BRACKETS or left.text in _SPACED or left.text == "="
    if right.text == "[":
        return right.spaced or (left.kind == "sign" and left.text not in _CLOSED)
    return True


def _place(tokens: Sequence[_Token], token: _Token) -> int:
    return next(i for i, t in enumerate(tokens) if t is token)


def _written_with_blanks(tokens: Sequence[_Token], place: int) -> bool:
    """Tells whether an operator had a blank on either side; an indent is none."""
    return (place > 0 and tokens[place].spaced) or (place + 1 < len(tokens) and tokens[place + 1].spaced)


def _is_sign_of_a_number(before: _Token | None) -> bool:
    """Tells whether a minus after this belongs to what follows, and takes nothing away."""
    if before is None:
        return True
    if before.kind == "word":
        return before.text in RESERVED
    return before.kind == "sign" and before.text not in _CLOSED
