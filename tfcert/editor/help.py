"""What an editor shows: the meaning of what stands at a place, and what may stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tfcert.catalog import DISTANCES, FORMATS, SOURCES, STAGES
from tfcert.editor.symbols import Symbol, Symbols
from tfcert.entries import DistanceInfo, Option, SourceInfo, StageSchema
from tfcert.language.spec.specification import Spec
from tfcert.language.text import syntax as s
from tfcert.language.text.names import RESERVED, STATEMENTS, written
from tfcert.language.text.printer import print_statement

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SPACES = {
    "raw": "values as the data set stores them",
    "unit": "values after `scale`, as people speak of them: 0 to 1 for pixels",
    "net": "values as the network receives them",
}


@dataclass(frozen=True)
class Completion:
    """A word that may stand somewhere, what it is, and more to read about it."""

    word: str
    kind: str
    detail: str = ""


def hover(text: str, line: int, column: int, symbols: Symbols | None, spec: Spec | None) -> str | None:
    """What stands at a place, in Markdown; None where nothing is to be said.

    Args:
        text: the specification.
        line, column: the place, from 1.
        symbols: of the text, or of the last one that parsed.
        spec: what the text means, where it has no mistakes.
    """
    found = None if symbols is None else symbols.at(line, column)
    if found is not None:
        return _described(found[0], spec)
    word = word_at(text, line, column)
    if word is None:
        return None
    entry = _called().get(word)
    if entry is not None:
        return _entry(word, entry)
    return f"`{word}`: {SPACES[word]}" if word in SPACES else None


def word_at(text: str, line: int, column: int) -> str | None:
    """The word that a place is in or at the end of."""
    lines = text.splitlines()
    here = lines[line - 1] if 0 < line <= len(lines) else ""
    return next((m.group() for m in _WORD.finditer(here) if m.start() < column <= m.end() + 1), None)


def _described(symbol: Symbol, spec: Spec | None) -> str:
    said = [f"**{symbol.kind}** `{symbol.name}`"]
    if symbol.within is None:
        said.append(f"```prop\n{print_statement(symbol.node)}\n```")  # type: ignore[arg-type]
    param = None if spec is None or symbol.within is not None else spec.params.get(symbol.name)
    if param is not None:
        given = ", given from outside" if param.overridden else ""
        said.append(f"It is {param.shown}{given}.")
    return "\n\n".join(said)


def _called() -> Mapping[str, Any]:
    """What may stand before brackets, by its word: stages, sources, formats, ways to measure distances."""
    tables = (STAGES, SOURCES, FORMATS, DISTANCES)
    return {entry.word: entry for table in tables for entry in table.values() if entry.supported}


def _entry(word: str, entry: Any) -> str:
    said = [f"**{_kind(entry)}** `{word}`"]
    if isinstance(entry, StageSchema):
        said.append(f"norms: {', '.join(entry.norms)}")
    if isinstance(entry, DistanceInfo):
        said.append(f"{entry.title}: {entry.promise}")
    options = [f"- `{name}`: {_option(option)}" for name, option in entry.options.items()]
    return "\n\n".join([*said, *(["\n".join(options)] if options else [])])


def _kind(entry: Any) -> str:
    if isinstance(entry, StageSchema):
        return f"stage ({entry.kind})"
    if isinstance(entry, DistanceInfo):
        return "way to measure distances"
    return "source of samples" if type(entry) is SourceInfo else "format of models"


def _option(option: Option) -> str:
    words = {"whole": f"a whole number from {option.least}", "positive": "a number above 0", "amount": "at least 0"}
    kind = " | ".join(option.allowed) if option.kind == "choice" else words.get(option.kind, f"a {option.kind}")
    default = "" if option.default is None else f" (default: {option.default})"
    return f"{kind}{default}{f'; {option.about}' if option.about else ''}"


def completions(text: str, line: int, column: int, symbols: Symbols | None) -> list[Completion]:
    """What may stand at a place: the options inside of a call's brackets; else names, classes and words.

    Args:
        text: the specification.
        line, column: the place, from 1.
        symbols: of the text, or of the last one that parsed.
    """
    before = "\n".join([*text.splitlines()[: line - 1], (text.splitlines() or [""])[line - 1][: column - 1]])
    entry = _called().get(_open_call(before))
    if (entry is not None and before.rstrip()[-1] in "(,=") or (entry is not None and _naming_option(before)):
        return list(_options(entry, before))
    found = [] if symbols is None else [Completion(written(x.name), x.kind) for x in symbols.symbols]
    found += [] if symbols is None else [Completion(written(name), "class or output") for name in _classes(symbols)]
    found += [Completion(word, _kind(entry)) for word, entry in _called().items()]
    found += [Completion(word, "word") for word in (*STATEMENTS, *sorted(RESERVED - set(STATEMENTS)))]
    return list({completion.word: completion for completion in reversed(found)}.values())[::-1]


def _open_call(before: str) -> str:
    """The word before the last bracket that is still open; "" where none is."""
    depth = 0
    for place in range(len(before) - 1, -1, -1):
        if before[place] == ")":
            depth += 1
        elif before[place] == "(":
            if depth == 0:
                found = re.search(r"([A-Za-z_][A-Za-z0-9_]*)\s*$", before[:place])
                return found.group(1) if found else ""
            depth -= 1
        elif before[place] in "{}":
            return ""
    return ""


def _naming_option(before: str) -> bool:
    """Tells whether an option's name, or a choice, is being written."""
    return re.search(r"[(,=]\s*[A-Za-z_]*$", before) is not None


def _options(entry: Any, before: str) -> Iterator[Completion]:
    """The options of a call that are not given yet, or the choices of the one that is being given."""
    giving = re.search(r"([A-Za-z_][A-Za-z0-9_]*)\s*=\s*[A-Za-z_]*$", before)
    option = entry.options.get(giving.group(1)) if giving else None
    if option is not None:
        yield from (Completion(choice.replace("-", "_"), "choice") for choice in option.allowed)
        return
    call = before[before.rindex("(") :]
    for name, each in entry.options.items():
        if not re.search(rf"\b{name}\s*=", call):
            yield Completion(f"{name}=", "option", _option(each))


def _classes(symbols: Symbols) -> Iterator[str]:
    """The names that models give their outputs and inputs."""
    for statement in symbols.module.statements:
        if isinstance(statement, s.Resource) and statement.block is not None:
            for node in s.walk(statement.block):
                if isinstance(node, s.Ref) and node.name not in ("logits", "probabilities"):
                    yield node.parts[0]
