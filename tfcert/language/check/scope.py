"""Names and their meaning: the definitions of one text and of those it imports, and where problems are reported."""

from __future__ import annotations

import difflib
import hashlib
from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError, Diagnostics, SourceText, Span
from tfcert.language.text.names import RESERVED, can_be_quoted

_MOST_ALIKE = 500
"""Names that are compared letter by letter with one that is not known."""
MAX_STEPS = 150_000
MAX_DEPTH = 150
MAX_IMPORTS = 64

KINDS = {
    "model": "a model",
    "dataset": "a data set",
    "strategy": "a strategy",
    "abstraction": "an abstraction",
    "domain": "a domain",
    "param": "a parameter",
    "let": "a definition",
    "property": "a property",
    "measure": "a measure",
    "objective": "an objective",
    "import": "an import",
}


@dataclass(frozen=True)
class Piece:
    """What a part of a model is a part of: a ``head`` or a ``layer`` of a name, written at a node."""

    model: Definition
    word: str
    name: str
    node: s.SyntaxNode


@dataclass
class Definition:
    """A named statement, or the part of a model; ``result`` and ``listed`` cache what it was found to mean.

    ``instances`` are those of a template, by the values that it is asked with.
    """

    kind: str
    name: str
    scope: Scope
    node: Any
    result: Any = None
    state: str = "new"
    listed: dict[str, dict[str, int]] = field(default_factory=dict)
    instances: dict[Any, Definition] = field(default_factory=dict)
    part: Piece | None = None

    @property
    def full_name(self) -> str:
        """The name as seen from the specification that is checked: with the import's prefix."""
        return self.scope.prefix + self.name


@dataclass
class Session:
    """State of one load, shared by all its texts.

    Attributes:
        bound, overrides: names that the caller binds, and values of parameters.
        confines: the folder that paths may not leave; None for that of each text.
        shared: whether what is given may be for other specifications than this one.
    """

    diagnostics: Diagnostics
    bound: Collection[str]
    overrides: Mapping[str, object]
    confines: Path | None = None
    shared: bool = False
    digest: Any = field(default_factory=hashlib.sha256)
    steps: int = 0
    depth: int = 0
    outermost: tuple[Scope, s.SyntaxNode] | None = None
    imports: int = 0
    expanded: int = 0
    questions: dict[str, Definition] = field(default_factory=dict)
    leaves: int = 0
    normalisations: dict[tuple[int, int], Any] = field(default_factory=dict)
    importing: list[str] = field(default_factory=list)
    used_overrides: set[str] = field(default_factory=set)
    used_bindings: set[str] = field(default_factory=set)


class Scope:
    """The names of one text, or those of one turn of a loop or one instance of a template in it.

    Attributes:
        prefix: put before this text's names where they are seen from the main text ("" for the main text).
        root: the folder of the text, or None if it came from no file.
        misnamed: words of the language that were defined as names, which is reported.
        outer: the scope around a turn of a loop or an instance; None for a whole text.
        own: what the statements of this scope define; ``definitions`` has what is around it, too.
        bindings: names of this turn or instance and of those around it, and what they stand for, as one reads it.
        note: where problems were found, for their reports.
        turns: the turns of the loops of this scope, in order, by the place of their statement.
        given: values for parameters of an imported text, with the scope that they are written in.
    """

    def __init__(self, source: SourceText, session: Session, prefix: str = "", root: Path | None = None):
        self.source = source
        self.session = session
        self.prefix = prefix
        self.root = root
        self.outer: Scope | None = None
        self.own: dict[str, Definition] = {}
        self.definitions: MutableMapping[str, Definition] = self.own
        self.imports: dict[str, Scope] = {}
        self.statements: tuple[s.Statement, ...] = ()
        self.misnamed: set[str] = set()
        self.bindings: tuple[tuple[str, str], ...] = ()
        self.note = ""
        self.turns: dict[int, tuple[Scope, ...]] = {}
        self.given: Mapping[str, tuple[Scope, s.Expr]] = {}

    def inside(self, names: Mapping[str, tuple[Definition, str]]) -> Scope:
        """A scope of the same text in which names stand for something more, each with how one reads that."""
        inner = Scope(self.source, self.session, self.prefix, self.root)
        inner.outer, inner.imports, inner.misnamed = self, self.imports, self.misnamed
        outer = self.definitions.maps if isinstance(self.definitions, ChainMap) else [self.definitions]
        inner.definitions = ChainMap(inner.own, {name: found for name, (found, _) in names.items()}, *outer)
        inner.bindings = (*self.bindings, *((name, shown) for name, (_, shown) in names.items()))
        return inner

    def with_turns(self) -> Iterator[Scope]:
        """This scope and the turns of its loops, in order; not what it imports."""
        yield self
        for turns in self.turns.values():
            for turn in turns:
                yield from turn.with_turns()

    @property
    def folder(self) -> str:
        """The folder that paths of this text may not leave, and that checked paths are relative to; "" for none."""
        folder = self.root if self.session.confines is None else self.session.confines
        return "" if self.root is None or folder is None else str(folder)

    @property
    def bound(self) -> str:
        """What the names of this turn or instance stand for, as one reads it; "" of a whole text."""
        return ", ".join(f"{name}={shown}" for name, shown in self.bindings)

    # Reporting

    def report(self, code: str, message: str, node: s.SyntaxNode | Span, fix: str = "") -> None:
        """Record a problem of this text."""
        span = node if isinstance(node, Span) else node.span
        self.session.diagnostics.add(code, message, span, self.source, fix, self.note)

    def problem(self, code: str, message: str, node: s.SyntaxNode | Span, fix: str = "") -> AbortError:
        """Record a problem; raising the result leaves the construct."""
        self.report(code, message, node, fix)
        return AbortError(code)

    @contextmanager
    def step(self, node: s.SyntaxNode) -> Any:
        """Counts work and depth, so that definitions cannot be expanded without end."""
        session = self.session
        if session.depth == 0:
            session.outermost = (self, node)
        session.steps += 1
        session.depth += 1
        try:
            if session.steps > MAX_STEPS + 1:
                raise AbortError("E006")
            if session.steps > MAX_STEPS or session.depth > MAX_DEPTH:
                scope, place = session.outermost or (self, node)
                message = "this expands too often or too deeply"
                raise scope.problem("E006", message, place, "use fewer nested definitions")
            yield
        finally:
            session.depth -= 1

    # Names

    def define(self, kind: str, name: s.Name, node: Any) -> None:
        """Add a definition; a second one of the same name is reported and ignored."""
        first = self.definitions.get(name.text)
        # A name that cannot be used is defined all the same, so that its uses are no mistakes of their own.
        self.refuse_word(name, quotable=kind not in ("param", "let", "import"))
        if first is not None:
            line = first.node.name.span.line
            self.report(
                "E202",
                f"`{name.text}` is already defined in line {line}",
                name,
                "choose another name",
            )
        else:
            self.definitions[name.text] = Definition(kind, name.text, self, node)

    def refuse_word(self, name: s.Name, quotable: bool = False) -> None:
        """Report a word of the language, or a text in quotes that is no name, where a name is defined."""
        text = name.text
        if name.quoted and not can_be_quoted(text):
            message = f'"{text}" is no name: in quotes, a name has letters a to z, digits, `_` and `-`'
            self.report("E246", message, name, "choose another name")
        elif text in RESERVED and not name.quoted:
            self.misnamed.add(text)
            fix = f'write "{text}" in quotes, here and where it is used, or choose another name'
            self.report("E246", f"`{text}` is a word of the language", name, fix if quotable else "choose another name")

    def refuse_clash(
        self, name: str, node: s.SyntaxNode, kinds: Collection[str] = ("param", "let", "model", "domain")
    ) -> None:
        """Report a name of one construct that also stands for something in the whole text: one would hide the other."""
        first = self.definitions.get(name)
        if first is not None and first.kind in kinds:
            place = "" if first.node is None else f", defined in line {first.node.name.span.line}"
            self.report("E202", f"`{name}` is already {KINDS[first.kind]}{place}", node, "choose another name")

    def find(self, ref: s.Ref, kinds: Iterable[str]) -> Definition:
        """The definition a name stands for; reports and leaves if there is none or of another kind."""
        kinds = tuple(kinds)
        wanted = " or ".join(KINDS[k] for k in kinds)
        found = self.look_up(ref)
        self.leave_if_import_failed(ref)
        if found is None:
            found = self._bound_from_outside(ref, kinds)
        if found is None:
            raise self.problem("E201", f"the name `{ref.name}` is not known", ref, self.suggest(ref, kinds))
        if found.kind not in kinds:
            raise self.problem("E204", f"`{ref.name}` is {KINDS[found.kind]}, not {wanted}", ref)
        return found

    def look_up(self, ref: s.Ref) -> Definition | None:
        """The definition a name stands for, of any kind, or None."""
        scope: Scope | None = self
        for part in ref.parts[:-1]:
            scope = scope.imports.get(part) if scope else None
        return scope.definitions.get(ref.parts[-1]) if scope else None

    def leave_if_import_failed(self, ref: s.Ref) -> None:
        """Names of an import that was already reported need no second report."""
        first = self.definitions.get(ref.parts[0])
        if len(ref.parts) > 1 and first and first.kind == "import" and ref.parts[0] not in self.imports:
            raise AbortError("E007")

    def _bound_from_outside(self, ref: s.Ref, kinds: tuple[str, ...]) -> Definition | None:
        """A model or data set that only the caller knows."""
        kind = next((k for k in kinds if k in ("model", "dataset")), None)
        if kind is None or ref.name not in self.session.bound or len(ref.parts) > 1 or self.prefix:
            return None
        if self.outer is not None:
            return self.outer._bound_from_outside(ref, kinds)
        self.session.used_bindings.add(ref.name)
        definition = Definition(kind, ref.name, self, None)
        self.definitions[ref.name] = definition
        return definition

    def suggest(self, ref: s.Ref, kinds: Iterable[str], extra: Iterable[str] = (), otherwise: str = "") -> str:
        """A name that may have been meant, or what to do: ``otherwise``, or define it."""
        known = {name: d.kind for name, d in self.definitions.items()}
        for prefix, scope in self.imports.items():
            known.update({f"{prefix}.{name}": d.kind for name, d in scope.definitions.items()})
        kinds = tuple(kinds)
        fitting = [name for name, kind in known.items() if kind in kinds]
        meant = did_you_mean(ref.name, [*fitting, *extra])
        return meant or otherwise or f"define it first: `{kinds[0]} {ref.parts[-1]} ...`"


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """ "did you mean `...`?", or "" if nothing is close."""
    name = name[:100]
    alike = (c for c in candidates if abs(len(c) - len(name)) <= 2 + len(name) // 3)
    close = difflib.get_close_matches(name, list(islice(alike, _MOST_ALIKE)), n=1)
    return f"did you mean `{close[0]}`?" if close else ""
