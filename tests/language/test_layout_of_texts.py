"""The layout of specifications: `tfcert fmt` changes blanks and nothing else, and the second time nothing at all."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tfcert.cli.main import main
from tfcert.language.text.diagnostics import Diagnostics, SourceText
from tfcert.language.text.layout import _tokens, formatted

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.prop"))

UNTIDY = """

prop   1
#   a comment stays
param eps:real in [ 0,1 ]=8/255   # so does this


model   clf=keras( "a.keras" ){outputs:logits}
strategy quick = pgd( steps = 40,restarts=3 )->crown-ibp  -> forward+backward
property p (x,y in test) using quick {

forall z in ball(x,linf,eps) within [0,1] in unit :
argmax(clf(z))==y and - clf(z)[ 0 ] <= -  2*eps ^ 2
      or not(clf(z)[1]>=1)

}
check p
"""
TIDY = """prop 1
# a comment stays
param eps: real in [0, 1] = 8/255  # so does this

model clf = keras("a.keras") { outputs: logits }
strategy quick = pgd(steps = 40, restarts=3) -> crown-ibp -> forward+backward
property p(x, y in test) using quick {
  forall z in ball(x, linf, eps) within [0, 1] in unit:
    argmax(clf(z)) == y and -clf(z)[0] <= -2*eps^2
    or not (clf(z)[1] >= 1)
}
check p
"""


def laid_out(text: str) -> str:
    found = formatted(SourceText("a.prop", text), Diagnostics())
    assert found is not None
    return found


def test_an_untidy_text_gets_tidy():
    assert laid_out(UNTIDY).replace("#   a", "# a") == TIDY


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_text_torn_apart_means_the_same_and_is_laid_out_once(path):
    """`formatted` compares meanings and comments itself: here lines and blanks are anywhere."""
    chance = random.Random(path.name)
    for _ in range(3):
        torn = ""
        for line in path.read_text().splitlines():
            for token in _tokens(line):
                gap = chance.choice([" ", "  ", "\n", "\n\n", "\t"]) if token.spaced or chance.random() < 0.1 else ""
                torn += gap + token.text
            torn += "\n"
        settled = laid_out(torn)
        assert laid_out(settled) == settled


def test_the_verb_writes_checks_and_shows(tmp_path, capsys, monkeypatch):
    path = tmp_path / "a.prop"
    path.write_text(UNTIDY)
    assert main(["fmt", str(tmp_path), "--check"]) == 1 and path.read_text() == UNTIDY
    assert "1 file of 1 would change" in capsys.readouterr().err
    assert main(["fmt", str(path), "--diff"]) == 0 and path.read_text() == UNTIDY
    assert "-prop   1" in capsys.readouterr().out
    assert main(["fmt", str(path)]) == 0 and main(["fmt", str(path), "--check"]) == 0
    assert "property p(x, y in test)" in path.read_text()


def test_a_text_that_does_not_parse_is_left_alone_with_all_others(tmp_path, capsys):
    (tmp_path / "a.prop").write_text(UNTIDY)
    (tmp_path / "b.prop").write_text("prop 1\nproperty {")
    assert main(["fmt", str(tmp_path)]) == 4
    assert "error[E101]" in capsys.readouterr().err and (tmp_path / "a.prop").read_text() == UNTIDY
