"""Whatever the text, loading ends in a specification or in diagnostics: never in another exception."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tfcert.language import CODES, SpecError, load

HERE = Path(__file__).parent
CORPUS = [(HERE / "everything.prop").read_text("utf-8")]
CORPUS += [p.read_text("utf-8") for p in sorted((HERE / "golden").glob("*.prop")) if p.stat().st_size < 2000]
WORDS = {t for text in CORPUS for t in re.findall(r"\w+|\S", text)}
TOKENS = [*sorted(WORDS), "\0", "é", "\u2028", "1e400", '"']
STATEMENTS = [line for text in CORPUS for line in re.split(r"\n(?=[a-z])", text)[1:]]


def mutated(r: random.Random) -> str:
    """A few changed, removed, repeated or swapped words of some statements."""
    lines = r.sample(STATEMENTS, r.randint(1, 5))
    words = re.findall(r"\w+|\s+|\S", "prop 1\n" + "\n".join(lines))
    for _ in range(r.randint(0, 4)):
        i = r.randrange(len(words))
        match r.randrange(5):
            case 0:
                words[i] = r.choice(TOKENS)
            case 1:
                del words[i]
                words = words or ["prop"]
            case 2:
                words.insert(i, r.choice(TOKENS))
            case 3:
                j = r.randrange(len(words))
                words[i], words[j] = words[j], words[i]
            case _:
                words[i:i] = words[i : i + r.randint(1, 12)]
    return "".join(words)


def soup(r: random.Random) -> str:
    """Random words."""
    return "prop 1\n" + " ".join(r.choices(TOKENS, k=r.randint(1, 30)))


def noise(r: random.Random) -> str:
    """Random characters."""
    return "".join(chr(r.choice([r.randrange(128), r.randrange(0x3000)])) for _ in range(r.randint(0, 60)))


@pytest.mark.parametrize("seed", range(10))
def test_a_thousand_random_texts_end_in_a_spec_or_a_diagnostic(seed: int) -> None:
    r = random.Random(seed)
    for _ in range(1000):
        text = r.choices([mutated, soup, noise], weights=[7, 2, 1])[0](r)
        try:
            load(text, filename="fuzz.prop", params=r.choice([{}, {}, {"eps": r.choice(TOKENS)}]))
        except SpecError as error:
            assert error.diagnostics and any(d.is_error for d in error.diagnostics)
            assert all(d.code in CODES and d.line >= 1 and d.column >= 1 for d in error.diagnostics)
            assert error.render()
