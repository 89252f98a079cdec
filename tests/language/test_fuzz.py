"""Whatever the text, loading ends in a specification or in diagnostics: never in another exception."""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from lark.grammar import Symbol
from lark.lexer import PatternStr

from tfcert.language import CODES, SpecError, load
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import Diagnostics, SourceText
from tfcert.language.text.parser import _parser, parse_module

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


# Sentences of the grammar itself: whatever it has is written here, without a list to be kept.

PARSER = _parser()
RULES: dict[str, list[Sequence[Symbol]]] = {}
for rule in PARSER.rules:
    RULES.setdefault(rule.origin.name, []).append(rule.expansion)
PATTERNS = {t.name: t.pattern for t in PARSER.terminals}
TEXTS = {
    "NAME": ["f", "g", "d", "s", "eps", "near", "cube", "half", "grid", "p", "m", "q", "x", "y", "z", "k", "clf", "a"],
    "NUMBER": ["0", "1", "2", "0.5", "1e-3", "3"],
    "QUANTITY": ["2px", "5%", "10s", "5deg", "1h"],
    "INT": ["1"],
    "STRING": ['"a b"', '"max"', '"a.npz"', '"1"'],
    "IN_SET": ["in"],
    "IN_NAME": ["in"],
    "COMPARISON": ["<=", ">", "==", "!="],
    "ADD": ["+", "-"],
    "MUL": ["*", "/"],
}
HEAD = """prop 1
param eps: real = 2px
model f = keras("f.keras") { inputs: [a, b] outputs: [cat, dog, bird] }
model g = keras("g.keras")
dataset d = csv("d.csv") { range: [0, 1] }
strategy s = pgd -> ibp
domain cube = box([0, 1])
let half = 1/2
let near(c, r) = abs(c - r)
property p(k: real = 1px, m: model = f)(x, y in d) { forall z in ball(x, linf, k): argmax(m(z)) == y }
measure q(x, y in d) = largest r in [0, 9px] such that forall z in ball(x, linf, r): argmax(f(z)) == y
"""


def depths() -> dict[str, int]:
    """How deep the shallowest tree of each rule is."""
    known: dict[str, int] = {}
    while len(known) < len(RULES):
        for name, expansions in RULES.items():
            found = [
                1 + max((0 if s.is_term else known[s.name] for s in e), default=0)
                for e in expansions
                if all(s.is_term or s.name in known for s in e)
            ]
            if found:
                known[name] = min(found)
    return known


DEPTHS = depths()


def cost(expansion: Sequence[Symbol]) -> int:
    return 1 + max((0 if s.is_term else DEPTHS[s.name] for s in expansion), default=0)


def sentence(r: random.Random, name: str, depth: int) -> Iterator[str]:
    """The words of a random tree of a rule, of at most this depth where there is such a tree."""
    fitting = [e for e in RULES[name] if cost(e) <= depth] or [min(RULES[name], key=cost)]
    # Inside of statements what is short comes more often, or sentences would be of expressions alone.
    plain = name != "statement" and r.random() < 0.6
    for symbol in min(fitting, key=cost) if plain else r.choice(fitting):
        if symbol.is_term:
            yield terminal(r, symbol.name)
        else:
            yield from sentence(r, symbol.name, depth - 1)


def terminal(r: random.Random, name: str) -> str:
    if name in TEXTS:
        return r.choice(TEXTS[name])
    pattern = PATTERNS[name]
    if isinstance(pattern, PatternStr):
        return pattern.value
    words = re.match(r"\(([A-Za-z|]+)\)", pattern.value)
    assert words is not None, f"say in TEXTS what {name} may be"
    return r.choice(words.group(1).split("|"))


def grammatical(r: random.Random) -> str:
    """A few random statements after definitions that they may use."""
    return HEAD + "\n".join(" ".join(sentence(r, "statement", r.randint(8, 30))) for _ in range(r.randint(1, 3)))


KINDS = {mutated: 5, grammatical: 5, soup: 2, noise: 1}


def check_one(r: random.Random) -> tuple[float, str]:
    """One random text is loaded; the seconds that took, and the text."""
    text = r.choices(list(KINDS), weights=list(KINDS.values()))[0](r)
    params = r.choice([{}, {}, {"eps": r.choice(TOKENS)}])
    start = time.process_time()
    try:
        load(text, filename="fuzz.prop", params=params)
    except SpecError as error:
        assert error.diagnostics and any(d.is_error for d in error.diagnostics)
        assert all(d.code in CODES and d.line >= 1 and d.column >= 1 for d in error.diagnostics)
        assert error.render()
    return time.process_time() - start, text


@pytest.mark.parametrize("seed", range(10))
def test_random_texts_end_in_a_spec_or_a_diagnostic(seed: int) -> None:
    r = random.Random(seed)
    for _ in range(100):
        check_one(r)


def test_sentences_of_the_grammar_are_read_and_have_every_statement() -> None:
    """Were they no sentences, nothing beyond the first error would be looked at."""
    r, kinds = random.Random(0), set[type]()
    for _ in range(300):
        text = "prop 1 " + " ".join(sentence(r, "statement", 24))
        if 'in "' not in text:  # The lexer wants a name without quotes there, or a brace.
            module = parse_module(SourceText("t", text), Diagnostics())
            assert module is not None, text
            kinds |= {type(statement) for statement in module.statements}
    assert kinds >= {s.For, s.PropertyStatement, s.MeasureStatement, s.AssertStatement, s.Import, s.ObjectiveStatement}


if __name__ == "__main__":
    # python tests/language/test_fuzz.py 10000: so many texts, and the slowest of them.
    slowest, shown = 0.0, ""
    for number in range(int(sys.argv[1])):
        seconds, written = check_one(random.Random(10_000 + number))
        if seconds > slowest:
            slowest, shown = seconds, written
    print(f"{sys.argv[1]} texts, each a specification or diagnostics; the slowest took {slowest:.3f} s:\n{shown}")
