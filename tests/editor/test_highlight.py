"""Colours: no text of the language has a piece that the lexer does not know, and the grammar of editors is this one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("pygments", reason="Pygments is not installed")

from pygments.token import Token

from tfcert.editor.highlight import PropLexer, textmate_grammar

ROOT = Path(__file__).parents[2]


def test_all_pieces_of_the_examples_are_known():
    for path in sorted((ROOT / "examples").rglob("*.prop")):
        tokens = list(PropLexer().get_tokens(path.read_text()))
        assert not [text for kind, text in tokens if kind in Token.Error], path
        assert "".join(text for _, text in tokens).strip() == path.read_text().strip()


def test_words_have_their_kinds():
    tokens = {text: str(kind) for kind, text in PropLexer().get_tokens('property p(x in d) { "a" <= 8/255 } # forall')}
    assert tokens["property"] == "Token.Keyword.Declaration" and tokens["in"] == "Token.Keyword"
    assert tokens["p"] == "Token.Name.Function" and tokens["# forall"] == "Token.Comment.Single"


def test_the_grammar_of_editors_is_written_from_the_same_words():
    """`tfcert.editor.highlight.write_textmate` writes the file anew."""
    kept = ROOT / "editors/vscode/syntaxes/prop.tmLanguage.json"
    assert json.loads(kept.read_text()) == textmate_grammar()
