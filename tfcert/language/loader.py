"""From text to a checked specification."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tfcert.catalog import NORMS
from tfcert.language.check.abstractions import report_unused
from tfcert.language.check.asking import what_is_asked
from tfcert.language.check.asserting import Asserter
from tfcert.language.check.calls import BUILTINS, ORDINARY
from tfcert.language.check.declared import output_names
from tfcert.language.check.distances import check_distance
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.heads import PIECES
from tfcert.language.check.loops import expand_loops
from tfcert.language.check.naming import define_all
from tfcert.language.check.objectives import check_objective
from tfcert.language.check.params import check_overrides, resolve_param
from tfcert.language.check.questions import check_question
from tfcert.language.check.regions import check_domain
from tfcert.language.check.resources import check_path, resolve_resource
from tfcert.language.check.scope import MAX_IMPORTS, Definition, Scope, Session, did_you_mean
from tfcert.language.check.templates import report_unasked
from tfcert.language.check.values import Condition, Meaning, Norm, Numeric
from tfcert.language.spec.assertions import Assertion, ReportItem
from tfcert.language.spec.declarations import GivenValue, Param, Value
from tfcert.language.spec.formula import TruthConstant
from tfcert.language.spec.questions import AnyTemplate, PropertyTemplate
from tfcert.language.spec.specification import Spec
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError, Diagnostics, SourceText, Span, SpecError, TooManyProblemsError
from tfcert.language.text.parser import MAX_BYTES, parse_module
from tfcert.language.text.slips import value_slip


def load(
    source: str,
    *,
    filename: str = "<text>",
    params: Mapping[str, Value | float | GivenValue] | None = None,
    bound: Collection[str] = (),
    root: str | Path | None = None,
    confines: str | Path | None = None,
    shared: bool = False,
) -> Spec:
    """Check a specification given as text.

    Args:
        source: the text.
        filename: under which to report it.
        params: values that override parameters: exact texts such as ``"2/255"``, or numbers (a float means its
            shortest decimal).
        bound: names of models and data sets that the caller binds; their paths are not checked, and they need not
            be declared.
        root: the folder to which paths and imports are relative and confined. None: paths are only checked for
            staying inside, imports are refused.
        confines: a folder around ``root`` that paths are confined to instead; they may have ``..`` then.
        shared: whether ``params`` and ``bound`` may name what this specification does not have: others have it.

    Raises:
        SpecError: with everything that is wrong.
        ValueError: ``root`` is not in ``confines``.
    """
    diagnostics = Diagnostics()
    around = None if confines is None else Path(confines).resolve()
    if around is not None and (root is None or not Path(root).resolve().is_relative_to(around)):
        raise ValueError(f"the specification is not in {around}")
    session = Session(diagnostics, frozenset(bound), dict(params or {}), around, shared)
    scope = Scope(SourceText(filename, source), session, root=None if root is None else Path(root))
    if scope.root is not None:
        session.importing.append(os.path.realpath(scope.root / filename))
    spec: Spec | None = None
    with suppress(TooManyProblemsError):
        module = _read(scope)
        spec = None if module is None else _check(scope)
    if spec is None or diagnostics.failed:
        raise diagnostics.errors()
    return spec


def load_file(
    path: str | Path,
    *,
    params: Mapping[str, Value | float | GivenValue] | None = None,
    bound: Collection[str] = (),
    confines: str | Path | None = None,
    shared: bool = False,
) -> Spec:
    """Check a specification in a file; its folder is the root. Arguments and errors as for ``load``."""
    path = Path(path)
    diagnostics = Diagnostics()
    text = _text_of(path, str(path), diagnostics)
    if text is None:
        raise diagnostics.errors()
    folder = path.resolve().parent
    return load(text, filename=str(path), params=params, bound=bound, root=folder, confines=confines, shared=shared)


def _text_of(path: Path, shown: str, diagnostics: Diagnostics) -> str | None:
    """The text of a file within the size limit, or None with the problem reported."""
    nowhere = SourceText(shown, "")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            diagnostics.add("E001", f"the file is longer than {MAX_BYTES} bytes", Span(), nowhere)
            return None
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            diagnostics.add("E005", f"the file is not UTF-8 (byte {error.start})", Span(), nowhere)
        else:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            diagnostics.add("E007", f"the file cannot be read: {reason}", Span(), nowhere)
    return None


# Reading and importing


def _read(scope: Scope) -> s.Module | None:
    """Parse a text, define its names and read what it imports."""
    data = scope.source.text.encode("utf-8", "replace")
    scope.session.digest.update(len(data).to_bytes(8, "big") + data)
    module = parse_module(scope.source, scope.session.diagnostics)
    if module is None:
        return None
    _require_version(scope, module)
    define_all(scope, module.statements)
    for statement in module.statements:
        if isinstance(statement, s.Import):
            with suppress(AbortError):
                _import(scope, statement)
    return module


def _require_version(scope: Scope, module: s.Module) -> None:
    """Reports a text that needs a newer tfcert than this one."""
    if module.needs is None:
        return
    wanted, installed = (re.fullmatch(r"\d+(\.\d+)*", v) for v in (module.needs.value, version("tfcert")))
    if wanted is None:
        message = f'"{module.needs.value}" is no version of tfcert'
        scope.report("E264", message, module.needs, f'write e.g. `prop 1 needs "{version("tfcert")}"`')
    elif installed is not None and _numbers(installed.group()) < _numbers(wanted.group()):
        message = f"this needs tfcert {wanted.group()} or a later one, and this is {installed.group()}"
        scope.report("E264", message, module.needs, "pip install --upgrade tfcert")


def _numbers(text: str) -> list[int]:
    return [int(part[:9]) for part in text.split(".")]


def _import(scope: Scope, node: s.Import) -> None:
    session = scope.session
    if scope.root is None:
        raise scope.problem("E007", "only a specification in a file can import others", node)
    path = check_path(scope, node.path)
    real = os.path.realpath(os.path.join(scope.folder, path))
    if real in session.importing:
        raise scope.problem("E223", f'"{path}" imports this specification in turn', node.path)
    session.imports += 1
    if session.imports > MAX_IMPORTS:
        raise scope.problem("E223", f"there are more than {MAX_IMPORTS} imports", node.path)
    text = _text_of(Path(real), path, session.diagnostics)
    if text is None:
        raise AbortError("E007")
    inner = Scope(SourceText(path, text), session, f"{scope.prefix}{node.name.text}.", Path(real).parent)
    session.importing.append(real)
    try:
        module = _read(inner)
    finally:
        session.importing.pop()
    if module is None:
        raise AbortError("E101")
    inner.given = _given(scope, node, inner)
    scope.imports[node.name.text] = inner


def _given(scope: Scope, node: s.Import, inner: Scope) -> dict[str, tuple[Scope, s.Expr]]:
    """The values that an import gives parameters of the imported text, by name."""
    known = [name for name, d in inner.definitions.items() if d.kind == "param"]
    found: dict[str, tuple[Scope, s.Expr]] = {}
    for argument in node.arguments:
        name, value = argument.name, argument.value
        if name is None or isinstance(value, s.IntervalNode | s.Shares):
            scope.report("E260", "an import takes values of parameters, written `name=value`", argument)
        elif name not in known:
            hint = did_you_mean(name, known) or f"it has {', '.join(f'`{n}`' for n in known[:8]) or 'none'}"
            scope.report("E260", f'"{node.path.value}" has no parameter `{name}`', argument, hint)
        elif name in found:
            scope.report("E260", f"`{name}` is given twice", argument, "leave one out")
        else:
            found[name] = scope, value
    return found


# Checking


def _check(scope: Scope) -> Spec:
    texts = list(_texts(scope))
    for text in texts:
        expand_loops(text)
    scopes = [each for text in texts for each in text.with_turns()]
    for each in scopes:
        for definition in list(each.own.values()):
            with suppress(AbortError):
                _check_definition(definition)
    asked = what_is_asked(scope)
    report_unasked(scope)
    questions = {n: template for n, d in asked.questions.items() if (template := _question(d)) is not None}
    objectives = {
        d.full_name: objective
        for d in list(scope.definitions.values())
        if d.kind == "objective" and (objective := check_objective(d, questions)) is not None
    }
    assertions: list[Assertion] = []
    reports: list[ReportItem] = []
    for home, statement in asked.judged:
        asserter = Asserter(home, questions, asked.questions.keys())
        if isinstance(statement, s.AssertStatement) and (found := asserter.assertion(statement)):
            assertions.append(found)
        if isinstance(statement, s.ReportStatement):
            per_class = statement.per_class is not None
            reports += [item for node in statement.items if (item := asserter.report_item(node, per_class))]
    report_unused(scope)
    _require_own_judgement(asked.questions, questions, assertions)
    check_overrides(scope)
    _check_bindings(scope)
    return Spec(
        scope.source.filename,
        scope.session.digest.hexdigest(),
        {d.full_name: _param(d) for d in _usable(scopes, "param")},
        {d.full_name: d.result for d in _usable(scopes, "model")},
        {d.full_name: d.result for d in _usable(scopes, "dataset")},
        {d.full_name: d.result for d in _usable(scopes, "strategy")},
        {d.full_name: d.result for d in _usable(scopes, "abstraction")},
        {n: q for n, q in questions.items() if isinstance(q, PropertyTemplate)},
        {n: q for n, q in questions.items() if not isinstance(q, PropertyTemplate)},
        objectives,
        tuple(assertions),
        tuple(reports),
        scope.session.diagnostics.warnings(),
        str(scope.root) if scope.root is not None else "",
        scope.source.text,
    )


def _question(definition: Definition) -> AnyTemplate | None:
    """The template of a property or a measure; None if there are problems, which are then reported."""
    if isinstance(definition.node, s.DistanceStatement):
        return check_distance(definition)
    return check_question(definition)


def _require_own_judgement(
    definitions: Mapping[str, Definition], questions: Mapping[str, AnyTemplate], assertions: Iterable[Assertion]
) -> None:
    """Reports properties that are expected to fail, and are judged by assertions alone."""
    judged = {name for assertion in assertions for name in assertion.judged}
    for name, template in questions.items():
        if isinstance(template, PropertyTemplate) and template.expect_fail and name in judged:
            definition = definitions[name]
            message = f"`{name}` is expected to fail, and is judged by an assertion"
            fix = "write `expected fail` before the assertion instead"
            definition.scope.report("E263", message, definition.node.name, fix)


def _texts(scope: Scope) -> Iterator[Scope]:
    """The scope of a text and those of the texts that it imports."""
    yield scope
    for inner in scope.imports.values():
        yield from _texts(inner)


def _usable(scopes: list[Scope], kind: str) -> list[Definition]:
    return [d for scope in scopes for d in scope.own.values() if d.kind == kind and d.state == "done"]


def _check_definition(definition: Definition) -> None:
    """Check one definition on its own; properties and measures come later."""
    scope, node = definition.scope, definition.node
    match definition.kind:
        case "param":
            resolve_param(Elaborator(scope), definition)
        case "model" | "dataset" | "strategy" | "abstraction":
            resolve_resource(definition)
        case "domain":
            check_domain(Elaborator(scope), node)
        case "let":
            _check_let(scope, node)


def _check_let(scope: Scope, node: s.Let) -> None:
    """A definition without parameters is worked out; of others the names are checked."""
    if not node.parameters:
        Elaborator(scope).value(node.value)
        return
    names = [p.text for p in node.parameters]
    for parameter in node.parameters:
        scope.refuse_word(parameter)
        scope.refuse_clash(parameter.text, parameter)
    if len(set(names)) < len(names):
        raise scope.problem("E202", "two parameters have the same name", node.parameters[0])
    outputs = {n for d in scope.definitions.values() if d.kind == "model" for n in output_names(d)}
    for parameter in node.parameters:
        if parameter.text in outputs:
            message = f"`{parameter.text}` is already an output of a model"
            scope.report("E202", message, parameter, "choose another name")
    known = {*names, *BUILTINS, *ORDINARY, *NORMS, *outputs, *scope.session.bound}
    for ref in _refs(node.value):
        if ref.parts[-1] in PIECES and scope.look_up(s.Ref(ref.parts[:-1])) is not None:
            continue
        if ref.name not in known and ref.name not in scope.misnamed and scope.look_up(ref) is None:
            hint = value_slip(ref.name) or did_you_mean(ref.name, sorted({*known, *scope.definitions}))
            scope.report("E201", f"the name `{ref.name}` is not known", ref, hint)


def _refs(root: Any) -> Iterator[s.Ref]:
    pending: list[Any] = [root]
    while pending:
        item = pending.pop()
        if isinstance(item, s.Ref):
            yield item
        elif isinstance(item, tuple):
            pending.extend(reversed(item))
        elif isinstance(item, s.SyntaxNode):
            pending.extend(reversed([getattr(item, f.name) for f in fields(item) if f.name != "span"]))


def _check_bindings(scope: Scope) -> None:
    session = scope.session
    if session.shared:
        return
    known = [d.full_name for d in scope.definitions.values() if d.kind in ("model", "dataset")]
    for name in session.bound:
        # What could not be understood may use it, if it is named anywhere.
        if name not in session.used_bindings and not (session.diagnostics.failed and name in scope.source.text):
            outside = Scope(SourceText("--bind", name), session)
            hint = did_you_mean(name, known) or "nothing in the specification uses it"
            span = Span(1, 1, 1, 1 + max(1, len(name)))
            outside.report("E201", f"there is no model or data set `{name}`", span, hint)


def _param(definition: Definition) -> Param:
    value: Meaning = definition.result
    overridden = definition.full_name in definition.scope.session.overrides
    result: Value
    match value:
        case Numeric(term, unit):
            whole = definition.node.type == "int"
            result = int(term.constant) if whole else Fraction(term.constant)
            return Param(definition.full_name, definition.node.type, result, unit, overridden)
        case Condition(TruthConstant(truth)):
            result = truth
        case Norm(name):
            result = name
        case _:
            raise AssertionError("parameters are numbers, truth values or norms")
    return Param(definition.full_name, definition.node.type, result, "", overridden)


__all__ = ["SpecError", "load", "load_file"]
