"""Words and signs of other languages and notations, and what to write here instead."""

from __future__ import annotations

import difflib
import re

from tfcert.catalog import NORMS
from tfcert.language.text.names import STATEMENTS

_COMMENT = "a comment begins with `#`"
_SIGNS = {
    "&&": "write `and`", "||": "write `or`", "**": "write `^`", "==>": "write `=>`", "<=>": "write `=>` both ways",
    "<>": "write `!=`", "=<": "write `<=`", "//": _COMMENT, "/*": _COMMENT, "--": _COMMENT,
    "&": "write `and`", "|": "write `or`, or `abs(...)`", "!": "write `not`", "¬": "write `not`",
    "∧": "write `and`", "\u2228": "write `or`", "⇒": "write `=>`", "→": "write `=>`", "∀": "write `forall`",
    "∃": "write `exists`", "∈": "write `in`", "≠": "write `!=`", "≤": "write `<=`", "≥": "write `>=`",
    "∞": "write `linf`", "\u00d7": "write `*`", "·": "write `*`", "'": "write texts in double quotes",
    ";": "leave it out: a statement ends by itself",
    "%": "`%` stands right behind a number, as in `5%`; there is no remainder",
}  # fmt: skip
_IF = "write `condition => condition`"
_WORDS = {
    "if": _IF, "then": _IF, "else": _IF, "implies": "write `=>`", "iff": "write `=>` both ways",
    "forall": "write `forall`",
    "all": "write `forall`", "exists": "write `exists`", "and": "write `and`", "or": "write `or`", "not": "write `not`",
    "for": "a loop is a statement: `for NAME in [a, b] { ... }`",
    "lambda": "write `let NAME(a) = ...`", "mod": "there is no remainder",
    "using": "it stands after the samples of a property or a measure, or at its end",
    "abstracted": "it stands after the samples of a property or a measure, or at its end",
}  # fmt: skip
_BEGINNINGS = {
    "const": "param", "constant": "param", "var": "param", "parameter": "param", "def": "let", "define": "let",
    "function": "let", "data": "dataset", "network": "model", "require": "assert", "goal": "assert", "show": "report",
    "print": "report", "plot": "report", "include": "import", "from": "import", "theorem": "property",
    "foreach": "for", "loop": "for",
}  # fmt: skip
_MEASURED = re.compile(r"\bmeasure\b[^=\n]*=[ \t]*[A-Za-z_]+[ \t]+$")
"""Before a radius: a measure, and some other word than those for an end of its interval."""
*_FIRST, _LAST = (f"`{norm}`" for norm in NORMS)
_NORMS = f"the norms are {', '.join(_FIRST)} and {_LAST}"
_VALUES = {
    "inf": _NORMS, "l0": _NORMS, "linfinity": _NORMS, "l_inf": _NORMS, "true": "write `true`", "false": "write `false`",
    "none": "leave it out", "null": "leave it out", "pi": "write it out: 3.14159265", "nan": "there is no such number",
    "ball": "a region stands behind `in`; a `let` names expressions, and `domain NAME = box(...)` a box",
    "box": "a region stands behind `in`; a `let` names expressions, and `domain NAME = box(...)` a box",
}  # fmt: skip
_LINEAR = "conditions are linear; there are `abs`, `min`, `max`, `argmax` and `argmin`"
_FUNCTIONS = {
    "mean": "write `sum(f(z))/10`, where there are ten",
    "len": "write the number of outputs", "range": "write the numbers, as in `{0, 1, 2}`",
    "softmax": "outputs are probabilities where the model ends in a softmax",
    **dict.fromkeys(
        ("verified_accuracy", "verified_share", "attack_accuracy", "nominal_accuracy", "accuracy", "median"),
        "results of a run stand in `assert` and `report` alone",
    ),
    **dict.fromkeys(("exp", "log", "sqrt", "pow", "norm", "sigmoid", "tanh", "round", "dist"), _LINEAR),
}  # fmt: skip


def sign_slip(text: str, place: int) -> str:
    """Advice what to write instead of the sign of another notation at this place of a text; "" if there is none."""
    for sign, fix in _SIGNS.items():
        if any(text.startswith(sign, start) for start in range(max(0, place - len(sign) + 1), place + 1)):
            return fix
    if re.match(r"\.\d", text[place : place + 2]):
        digits = re.match(r"\.\d+", text[place : place + 40])
        return f"write `0{digits.group() if digits else ''}`"
    before = text[max(0, place - 1) : place]
    if before.isdigit() and text[place : place + 1] in (".", "_"):
        return "a number is written `1000`, `1.5` or `1e-3`"
    if text[place : place + 1].isalpha() and not text[place].isascii():
        return "names have letters a to z, digits and `_`; other names of inputs and outputs stand in quotes"
    return ""


def word_slip(found: str, text: str, place: int) -> str:
    """Advice what to write instead of a word of another language, at this place or right before it."""
    before = re.search(r"([A-Za-z_]+)[ \t]*$", text[max(0, place - 40) : place])
    # A word of this language in its place is no slip: only what comes before a name is.
    for word in (found, before.group(1) if before else ""):
        fix = _WORDS.get(word.lower())
        if fix is not None and word not in ("forall", "exists", "and", "or", "not"):
            return fix
    if _MEASURED.search(text[max(0, place - 200) : place]):
        return f"write `largest {found} in ...` or `smallest {found} in ...`, or a distance, e.g. `clever(clf, l2)`"
    return ""


def statement_slip(word: str) -> str:
    """The statement that was meant by a word where a statement begins; "" if none is like it."""
    lower = word.lower()
    if lower in _BEGINNINGS:
        return f"write `{_BEGINNINGS[lower]}`"
    close = difflib.get_close_matches(lower[:20], STATEMENTS, n=1, cutoff=0.75)
    return f"did you mean `{close[0]}`?" if close else ""


def value_slip(name: str) -> str:
    """Advice what to write instead of a name that other languages have for a value."""
    return _VALUES.get(name.lower(), "")


def function_slip(name: str) -> str:
    """Advice what to write instead of a function that other languages have; "" if it is none."""
    return value_slip(name) or _FUNCTIONS.get(name.lower(), "")
