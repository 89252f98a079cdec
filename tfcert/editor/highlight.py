"""Colours for specifications: a lexer for Pygments, and the TextMate grammar that editors read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

from pygments.lexer import RegexLexer, words
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Text

from tfcert.language.text.names import BEGINNINGS, RESERVED

CALLED = ("argmax", "argmin", "abs", "min", "max", "clip", "agree", "ball", "box", "top", "ramp")
NORMS = ("linf", "l2", "l1", "l0")
SPACES = ("raw", "unit", "net")
KINDS = ("real", "int", "bool", "norm")
CONSTANTS = ("true", "false")
_OTHERS = {*BEGINNINGS, *CALLED, *NORMS, *SPACES, *KINDS, *CONSTANTS}
LINKING = (*sorted(RESERVED - _OTHERS), "largest", "smallest", "share", "of", "over", "abstracted", "skip", "anything")
"""Words between the parts of a statement."""
NUMBER = r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?:ms|min|mm|mi|m|cm|km|kt|ft|nmi|px|deg|rad|s|h|%)?"


class PropLexer(RegexLexer):
    """A lexer of ``.prop`` files for Pygments: ``pygmentize -l prop``, Sphinx and notebooks find it by its name."""

    name = "tfcert property language"
    aliases: ClassVar[list[str]] = ["prop"]
    filenames: ClassVar[list[str]] = ["*.prop"]
    url = ""
    tokens: ClassVar[dict[str, Any]] = {
        "root": [
            (r"\s+", Text),
            (r"#[^\n]*", Comment.Single),
            (r'"[^"\n]*"', String.Double),
            (NUMBER, Number),
            (words(("prop", "needs", *BEGINNINGS), prefix=r"\b", suffix=r"\b"), Keyword.Declaration),
            (words((*KINDS, *SPACES, *NORMS), prefix=r"\b", suffix=r"\b"), Keyword.Type),
            (words(CONSTANTS, prefix=r"\b", suffix=r"\b"), Keyword.Constant),
            (words(CALLED, prefix=r"\b", suffix=r"\b"), Name.Builtin),
            (words(LINKING, prefix=r"\b", suffix=r"\b"), Keyword),
            (r"[A-Za-z_][A-Za-z0-9_]*(?=\()", Name.Function),
            (r"[A-Za-z_][A-Za-z0-9_]*", Name),
            (r"=>|->|==|!=|<=|>=|\.\.|[-+*/^=<>]", Operator),
            (r"[()\[\]{}:,.]", Punctuation),
        ]
    }


def textmate_grammar() -> dict[str, Any]:
    """The TextMate grammar of specifications, as ``editors/vscode/syntaxes/prop.tmLanguage.json`` has it."""

    def words_of(scope: str, *given: str) -> dict[str, str]:
        return {"name": f"{scope}.prop", "match": rf"\b(?:{'|'.join(map(re.escape, given))})\b"}

    return {
        "$schema": "https://raw.githubusercontent.com/martinring/tmlanguage/master/tmlanguage.json",
        "name": "tfcert property language",
        "scopeName": "source.prop",
        "fileTypes": ["prop"],
        "patterns": [
            {"name": "comment.line.number-sign.prop", "match": "#.*$"},
            {"name": "string.quoted.double.prop", "match": '"[^"]*"'},
            {"name": "constant.numeric.prop", "match": rf"\b{NUMBER}"},
            words_of("keyword.declaration", "prop", "needs", *BEGINNINGS),
            words_of("support.type", *KINDS, *SPACES, *NORMS),
            words_of("constant.language", *CONSTANTS),
            words_of("support.function", *CALLED),
            words_of("keyword.other", *LINKING),
            {"name": "entity.name.function.prop", "match": r"\b[A-Za-z_][A-Za-z0-9_]*(?=\()"},
            {"name": "keyword.operator.prop", "match": r"=>|->|==|!=|<=|>=|\.\.|[-+*/^=<>]"},
        ],
    }


def write_textmate(path: Path) -> None:
    """Writes the TextMate grammar."""
    path.write_text(json.dumps(textmate_grammar(), indent=2) + "\n", encoding="utf-8")
