"""Text to syntax tree, within limits, and with errors in human words.

After a syntax error the statement it stands in is blanked out and the rest is parsed again, so that one run reports
the errors of several statements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from lark import Lark, Token, Tree, UnexpectedInput, UnexpectedToken

from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError, Diagnostics, SourceText, Span
from tfcert.language.text.names import BEGINNINGS, STATEMENTS
from tfcert.language.text.slips import sign_slip, statement_slip, word_slip
from tfcert.language.text.tables import parser
from tfcert.language.text.tree import TreeBuilder
from tfcert.language.text.words import STATEMENT_TERMINALS, expected_words, found_words, likely_slip

VERSION = 1
MAX_BYTES = 1 << 20
MAX_TOKENS = 50_000
MAX_NESTING = 64
MAX_TREE_DEPTH = 128
MAX_SYNTAX_ERRORS = 10

_STATEMENT_START = re.compile(rf"^[ \t]*({'|'.join(BEGINNINGS)})(?![A-Za-z0-9_])", re.MULTILINE)
_LINE_START = re.compile(r"^[ \t]*([A-Za-z_]+)(?=[ \t])", re.MULTILINE)
_HEADER = re.compile(r"(?:\s|#[^\n]*\n)*prop\s+\d+(?![A-Za-z0-9_.])")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class _SyntaxProblemError(Exception):
    """A syntax error together with the terminals that could have stood there."""

    def __init__(self, error: UnexpectedInput, accepted: set[str]):
        super().__init__(str(error))
        self.error = error
        self.accepted = accepted


class _WordsEverywhere:
    """Lets every state's lexer see NAME and the statements' keywords.

    So ``inx`` is one word and never ``in x``, and an unfinished statement ends where the next one begins.
    """

    always_accept = ("NAME", *STATEMENT_TERMINALS)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        return stream


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return parser(_WordsEverywhere())


def parse_module(source: SourceText, diagnostics: Diagnostics) -> s.Module | None:
    """The syntax tree of a text, or None if that is impossible; problems go to ``diagnostics``.

    With syntax errors the tree is None.
    """
    tree = _parse(source, "start", diagnostics)
    if tree is None:
        return None
    module: s.Module = TreeBuilder(source, diagnostics).build(tree)
    if module.version != VERSION:
        diagnostics.add(
            "E102",
            f"version {module.version} of the language is not known",
            module.version_span,
            source,
            f"write `prop {VERSION}`",
        )
    return module


def parse_expression(source: SourceText, diagnostics: Diagnostics) -> s.Expr | None:
    """The syntax tree of a lone expression or formula (for ``--set``), or None."""
    tree = _parse(source, "formula", diagnostics)
    return None if tree is None else TreeBuilder(source, diagnostics).build(tree)


def _parse(source: SourceText, start: str, diagnostics: Diagnostics) -> Tree[Token] | None:
    if not _text_is_acceptable(source, diagnostics):
        return None
    text, failed = source.text, False
    header = _HEADER.match(text)
    for _ in range(MAX_SYNTAX_ERRORS):
        try:
            tree = _parse_once(text, start, source, diagnostics)
        except AbortError:
            return None
        except _SyntaxProblemError as problem:
            stray = _end_of_lost_loop(problem) if failed else None
            if stray is not None:
                text = text[:stray] + " " + text[stray + 1 :]
                continue
            failed = True
            span = _report(problem, source, diagnostics)
            rest = _rest(text, span, header.end()) if start == "start" and header else None
            if rest is None:
                return None
            text = rest
        else:
            return None if failed else tree
    return None


def _text_is_acceptable(source: SourceText, diagnostics: Diagnostics) -> bool:
    if len(source.text) > MAX_BYTES or len(source.text.encode("utf-8", "replace")) > MAX_BYTES:
        diagnostics.add("E001", f"the text is longer than {MAX_BYTES} bytes", Span(), SourceText(source.filename, ""))
        return False
    bad = _FORBIDDEN.search(source.text)
    if bad is not None:
        line = source.text.count("\n", 0, bad.start()) + 1
        column = bad.start() - source.text.rfind("\n", 0, bad.start())
        diagnostics.add(
            "E005",
            f"the character U+{ord(bad.group()):04X} cannot stand in a specification",
            Span(line, column, line, column + 1),
            source,
            "remove it",
        )
        return False
    return True


def _parse_once(text: str, start: str, source: SourceText, diagnostics: Diagnostics) -> Tree[Token]:
    """One pass over the text; raises _SyntaxProblemError on a syntax error and AbortError beyond a limit."""
    parser = _parser().parse_interactive(text, start=start)
    depth = count = 0
    token = Token("$END", "", line=1, column=1, end_line=1, end_column=1)
    try:
        for token in parser.iter_parse():
            count += 1
            depth += (token.type in ("LPAR", "LSQB", "LBRACE")) - (token.type in ("RPAR", "RSQB", "RBRACE"))
            if count > MAX_TOKENS:
                message = f"the text has more than {MAX_TOKENS} words and signs"
                _limit("E002", message, token, source, diagnostics)
            if depth > MAX_NESTING:
                message = f"brackets are nested more than {MAX_NESTING} deep"
                _limit("E003", message, token, source, diagnostics)
        tree: Tree[Token] = parser.feed_eof(token)
    except UnexpectedInput as error:
        raise _SyntaxProblemError(error, parser.accepts()) from error
    deep = _too_deep(tree)
    if deep is not None:
        _limit("E003", "operators are nested too deeply", deep, source, diagnostics)
    return tree


def _end_of_lost_loop(problem: _SyntaxProblemError) -> int | None:
    """The place of a `}` where a statement could begin: of a loop whose beginning was left out with an error in it."""
    token = getattr(problem.error, "token", None)
    if isinstance(token, Token) and token.type == "RBRACE" and problem.accepted.issuperset(STATEMENT_TERMINALS):
        return token.start_pos
    return None


def _limit(code: str, message: str, item: Any, source: SourceText, diagnostics: Diagnostics) -> None:
    meta = item if isinstance(item, Token) else item.meta
    line, column = getattr(meta, "line", None) or 1, getattr(meta, "column", None) or 1
    diagnostics.add(code, message, Span(line, column, line, column + 1), source, "split it with `let`")
    raise AbortError(code)


def _too_deep(tree: Tree[Token]) -> Tree[Token] | None:
    """Some subtree deeper than the limit; without recursion."""
    level = [tree]
    for _ in range(MAX_TREE_DEPTH):
        level = [c for t in level for c in t.children if isinstance(c, Tree)]
        if not level:
            return None
    return level[0]


def _report(problem: _SyntaxProblemError, source: SourceText, diagnostics: Diagnostics) -> Span:
    """Say what was found and what could have stood there."""
    error = problem.error
    if isinstance(error, UnexpectedToken):
        token = error.token
        if token.type == "$END":
            span = _end_of(source.text)
        else:
            line, column = token.line or 1, token.column or 1
            span = Span(line, column, token.end_line or line, token.end_column or column + 1)
        found = found_words(token)
    else:
        line, column = max(getattr(error, "line", 1), 1), max(getattr(error, "column", 1), 1)
        span = Span(line, column, line, column + 1)
        found = _bad_character(source, span)
    place = _place(source.text, span)
    fix = sign_slip(source.text, place) or likely_slip(found, problem.accepted) or _foreign(problem, source.text, place)
    fix = fix or expected_words(problem.accepted)
    diagnostics.add("E101", f"{found} cannot stand here", span, source, fix)
    return span


def _foreign(problem: _SyntaxProblemError, text: str, place: int) -> str:
    """Advice what to write instead of a foreign or misplaced word; "" if there is none."""
    token = getattr(problem.error, "token", None)
    word = str(token) if isinstance(token, Token) and token.type != "$END" else ""
    if word and problem.accepted.issuperset(STATEMENT_TERMINALS) and (fix := statement_slip(word)):
        return fix
    alone = not text[text.rfind("\n", 0, place) + 1 : place].strip()
    if word in STATEMENTS and not alone and problem.accepted & {"NAME", "STRING"}:
        return f'this is a word of the language: write "{word}" in quotes, or choose another name'
    return word_slip(word, text, place)


def _bad_character(source: SourceText, span: Span) -> str:
    character = source.line(span.line)[span.column - 1 : span.column]
    if character == '"':
        return "a text in quotes that does not end on its line"
    return f"the character `{character}`"


def _end_of(text: str) -> Span:
    """The place after the last thing that is not blank."""
    stripped = text.rstrip()
    line = stripped.count("\n") + 1
    column = len(stripped) - (stripped.rfind("\n") + 1) + 1
    return Span(line, column, line, column + 1)


def _place(text: str, span: Span) -> int:
    """The place where a span begins, counted from the start of the text."""
    offset = 0
    for _ in range(span.line - 1):
        offset = text.find("\n", offset) + 1
    return offset + span.column - 1


def _rest(text: str, span: Span, header: int) -> str | None:
    """The text with all up to the end of the statement that failed blanked out, or None if nothing is left.

    Where a statement's own keyword cannot stand, the statement before it did not end. What begins a line with a word
    like that of a statement is one, too.
    """
    place = _place(text, span)
    first = next((p for p in _starts(text) if p >= max(place, header)), None)
    # A statement that begins where the problem lies is read again if the one before did not end, not if it is misspelt.
    if first == place and _STATEMENT_START.match(text, text.rfind("\n", 0, place) + 1) is None:
        first = next((p for p in _starts(text) if p > place), None)
    if first is None:
        return None
    return text[:header] + re.sub(r"[^\n]", " ", text[header:first]) + text[first:]


def _starts(text: str) -> Iterator[int]:
    """The places where statements begin, or seem to."""
    for found in _LINE_START.finditer(text):
        word = found.group(1)
        if word in BEGINNINGS or (found.start() == found.start(1) and statement_slip(word)):
            yield found.start(1)
