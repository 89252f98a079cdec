"""The page of the language's grammar, from ``grammar/prop.lark``: EBNF as text, and a diagram of each rule.

``make docs`` calls :func:`write`; the page is not kept, since it says nothing that the grammar does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import railroad
from lark import Token, Tree
from lark.load_grammar import load_grammar

GRAMMAR = Path(__file__).parents[1] / "grammar" / "prop.lark"
_WORDS = re.compile(r"/\(?(\w+(?:\|\w+)*)\)?/")
"""A regular expression that is one of several words."""
_DEFINED = re.compile(r"^[?!]?([A-Za-z_]+)(?:\.\d+)?:", re.MULTILINE)
_FIRST, _LAST = "A specification", "Words and signs"
_LINE = 110
"""A longer rule has a line for each alternative."""
_HEAD = """# The grammar

The grammar of the [property language](language.md), written from the file that the parser itself reads. `[ ]` may be
left out, `{ }` stands any number of times, `( )` groups, `|` separates what may stand instead of each other. Small
letters name rules, capitals name what is written as one word or sign, and slashes enclose a regular expression. Words
are read to their end: `inx` is no `in` before an `x`. Blanks, ends of lines and comments (from `#` on) may stand
between any two words. What a rule means, and what is refused although the grammar allows it, is in the
[reference](language.md).

<style>
svg.railroad-diagram { max-width: 100%; background: none; }
svg.railroad-diagram path { stroke: currentColor; stroke-width: 1.5; fill: none; }
svg.railroad-diagram text { font: 13px monospace; text-anchor: middle; fill: currentColor; }
svg.railroad-diagram rect { stroke: currentColor; stroke-width: 1.5; fill: none; }
p.rule { font: bold 14px monospace; margin: 1em 0 0; }
</style>
"""


@dataclass(frozen=True)
class Rule:
    """A rule or a terminal, and what the grammar says it is made of."""

    name: str
    body: Any


def rules(text: str) -> dict[str, Rule]:
    """All rules and terminals of a grammar for Lark, by name."""
    grammar, _ = load_grammar(text, "prop", [], False)
    found = [(definition[0], definition[2]) for definition in grammar.rule_defs]
    found += [(name, tree) for name, (tree, _) in grammar.term_defs if not name.startswith("__IGNORE")]
    return {str(name): Rule(str(name), _simple(tree)) for name, tree in found}


def sections(text: str) -> dict[str, list[str]]:
    """The names that are defined below each title: blank lines separate sections, and a comment is the title."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"\n\s*\n", text):
        first = part.partition("\n")[0]
        if names := _DEFINED.findall(part):
            title = _LAST if names[0].isupper() else _FIRST
            found.setdefault(first.removeprefix("// ") if first.startswith("//") else title, []).extend(names)
    return found


def ebnf(rule: Rule) -> str:
    """A rule as a line of EBNF, or as several if it is long."""
    alternatives = rule.body[1:] if rule.body[0] == "or" else (rule.body,)
    texts = [_text(part) for part in alternatives]
    line = f"{rule.name} = {' | '.join(texts)} ."
    if len(line) <= _LINE:
        return line
    joint = "\n" + " " * (len(rule.name) + 1) + "| "
    return f"{rule.name} = {joint.join(texts)} ."


def diagram(rule: Rule) -> str:
    """A rule as a picture in SVG."""
    written = StringIO()
    railroad.Diagram(_drawn(rule.body)).writeSvg(written.write)
    return re.sub(r"\n\s*\n", "\n", written.getvalue()).strip()  # Markdown ends raw text at a blank line


def page(text: str) -> str:
    """The page of a grammar, in Markdown."""
    found = rules(text)
    lines = [_HEAD]
    for title, names in sections(text).items():
        defined = [found[name] for name in names]
        lines += [f"## {title}", "", "```text", *map(ebnf, defined), "```", ""]
        drawn = [f'<p class="rule">{rule.name}</p>\n{diagram(rule)}' for rule in defined if rule.name.islower()]
        lines += ["```{raw} html", *drawn, "```", ""] if drawn else []
    return "\n".join(lines)


def write(path: Path) -> None:
    """Writes the page, if it is another one than before."""
    new = page(GRAMMAR.read_text(encoding="utf-8"))
    if not path.is_file() or path.read_text(encoding="utf-8") != new:
        path.write_text(new, encoding="utf-8")


def _simple(tree: Any) -> tuple[Any, ...]:
    """What Lark read, as nested tuples: ``("or", ...)``, ``("and", ...)``, ``("maybe", x)``, ``("some", x, sign)``,
    ``("word", text)``, ``("sign", regular expression)`` and ``("name", name)``."""
    if isinstance(tree, Token):
        return ("name", str(tree))
    children = tree.children
    match tree.data:
        case "expansions" | "expansion":
            parts = [_simple(child) for child in children if child is not None]
            joined = "or" if tree.data == "expansions" else "and"
            return parts[0] if len(parts) == 1 else (joined, *parts)
        case "alias" | "template_usage":
            return _simple(children[0])
        case "maybe":
            return ("maybe", _simple(children[0]))
        case "expr":
            return ("some", _simple(children[0]), str(children[1]))
        case "literal":
            text = _without_lookahead(str(children[0]))
            if words := _WORDS.fullmatch(text):
                alternatives = [("word", f'"{word}"') for word in words[1].split("|")]
                return ("or", *alternatives) if len(alternatives) > 1 else alternatives[0]
            return ("sign" if children[0].type == "REGEXP" else "word", text)
        case "value":
            child = children[0]
            return _simple(child) if isinstance(child, Tree) else ("name", str(getattr(child, "name", child)))
    raise NotImplementedError(f"a grammar with {tree.data}")


def _without_lookahead(pattern: str) -> str:
    """A regular expression without its conditions on what follows."""
    while (begins := re.search(r"\(\?[=!]", pattern)) is not None:
        depth = 0
        for sign in re.finditer(r"\\.|\[(?:\\.|[^\]])*\]|.", pattern[begins.start() :]):
            depth += {"(": 1, ")": -1}.get(sign[0], 0)
            if depth == 0:
                break
        pattern = pattern[: begins.start()] + pattern[begins.start() + sign.end() :]
    return pattern


def _text(part: tuple[Any, ...]) -> str:
    """A part as EBNF."""
    kind, *inner = part
    if kind == "or":
        return "( " + " | ".join(map(_text, inner)) + " )"
    if kind == "and":
        return " ".join(map(_text, inner))
    if kind == "maybe":
        return f"[ {_bare(inner[0])} ]"
    if kind == "some":
        many = f"{{ {_bare(inner[0])} }}"
        return {"*": many, "+": f"{_text(inner[0])} {many}", "?": f"[ {_bare(inner[0])} ]"}[inner[1]]
    return inner[0]


def _bare(part: tuple[Any, ...]) -> str:
    """A part that stands in brackets anyway."""
    return " | ".join(map(_text, part[1:])) if part[0] == "or" else _text(part)


def _drawn(part: tuple[Any, ...]) -> Any:
    """A part as an element of a diagram."""
    kind, *inner = part
    if kind == "or":
        return railroad.Choice(0, *map(_drawn, inner))
    if kind == "and":
        return railroad.Sequence(*map(_drawn, inner))
    if kind == "maybe":
        return railroad.Optional(_drawn(inner[0]))
    if kind == "some":
        many = {"*": railroad.ZeroOrMore, "+": railroad.OneOrMore, "?": railroad.Optional}[inner[1]]
        return many(_drawn(inner[0]))
    if kind == "name":
        return railroad.NonTerminal(inner[0])
    return railroad.Terminal(inner[0].strip('"') if kind == "word" else inner[0])
