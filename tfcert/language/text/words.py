"""Human words for the grammar's terminals, as syntax errors say them."""

from __future__ import annotations

from collections.abc import Iterable

from lark import Token

from tfcert.language.text.names import STATEMENTS

_EXPRESSION = {"NAME", "NUMBER", "QUANTITY", "LPAR", "LSQB", "LBRACE", "BOOLEAN", "STRING", "NOT", "MINUS"}
_OPERATORS = {"ADD", "MUL", "COMPARISON", "IN_SET", "IN_NAME", "AND", "OR", "IMPLIES", "OF", "POWER"}
STATEMENT_TERMINALS = tuple(word.upper() for word in STATEMENTS)
_WORDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "QUANTITY": "a number",
    "INT": "a whole number",
    "STRING": "a text in quotes",
    "BOOLEAN": "`true` or `false`",
    "TYPE": "a type (`real`, `int`, `bool` or `norm`)",
    "EXTREMUM": "`largest` or `smallest`",
    "RAMP": "`epochs` or `steps`",
    "SPACE": "a space (`raw`, `unit` or `net`)",
    "QUANTIFIER": "`forall` or `exists`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "DOT": "`.`",
    "DOTS": "`..`",
    "EQUAL": "`=`",
    "ARROW": "`->`",
    "MINUS": "`-`",
    "ADD": "`+` or `-`",
    "MUL": "`*` or `/`",
    "POWER": "`^`",
    "COMPARISON": "a comparison",
    "IMPLIES": "`=>`",
    "IN_SET": "`in {...}`",
    "__ANON_0": "`ramp`",
    "$END": "the end",
}
_LONGEST = 5


def expected_words(terminals: Iterable[str]) -> str:
    """The words that could have stood there, e.g. "expected an expression or `)`"; "" if that says nothing."""
    left = set(terminals)
    words: list[str] = []
    if {"NAME", "NUMBER", "LPAR"} <= left:
        words.append("a formula" if "QUANTIFIER" in left else "an expression")
        left -= {*_EXPRESSION, "QUANTIFIER", "__ANON_0"}
    if "NAME" in left:
        left.discard("STRING")
    if "IN_SET" in left and "NUMBER" not in left:
        left.discard("NOT")  # of `not in`
    if left.issuperset(STATEMENT_TERMINALS):
        words.append("a statement")
        left.difference_update(STATEMENT_TERMINALS)
    punctuation = sorted(_word(t) for t in left - _OPERATORS)
    operators = left & _OPERATORS
    # An operator can follow nearly everywhere: it is only worth saying when nothing else can.
    if operators and not punctuation and not words:
        words.append("an operator")
    words += list(dict.fromkeys(punctuation))
    if not words:
        return ""
    if len(words) > _LONGEST:
        words = [*words[:_LONGEST], "..."]
    return "expected " + (words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1])


def likely_slip(found: str, terminals: Iterable[str]) -> str:
    """Advice what to write instead of a sign that other languages have in this place; "" if it is no such sign."""
    left = set(terminals)
    if found == "`,`" and {"NAME", "RBRACE"} <= left:
        return "leave it out: between the options of a block there is no comma"
    if found == "`,`" and "ARROW" in left:
        return "write `->` between stages"
    if found == "`=`" and "COMPARISON" in left:
        return "write `==` to compare"
    if found == "`->`" and left.isdisjoint(("ARROW", "LBRACE", "LPAR")):
        return "write `=>`"
    if found == "`in`" and "WITHIN" in left:
        return "after a region `in` is followed by a space: `raw`, `unit` or `net`"
    if found in ("`in`", "the name `in`") and left & {"IN_SET", "RPAR", "RBRACE"}:
        return "a set stands in braces: write `in {3, 5}`"
    if found in ("`or`", "`and`") and {"WHERE", "COLON"} <= left and "OR" not in left:
        return (
            "regions with a `within` or a space of their own stand in brackets: `(ball(...) within [0, 1]) or box(...)`"
        )
    if left == {"PROP"}:
        return "a specification begins with `prop 1`"
    return ""


def _word(terminal: str) -> str:
    return _WORDS.get(terminal, f"`{terminal.lower()}`")


def found_words(token: Token) -> str:
    """The words that stood there instead."""
    if token.type == "$END":
        return "the end of the text"
    text = str(token)
    shown = text if len(text) <= 40 else text[:37] + "..."
    match token.type:
        case "NAME":
            return f"the name `{shown}`"
        case "NUMBER" | "QUANTITY" | "INT":
            return f"the number `{shown}`"
        case "STRING":
            return f"the text {shown}"
        case _:
            return f"`{shown}`"
