"""Models, data sets, strategies and abstractions: from statements to plain declarations."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from tfcert.catalog import FORMATS, ROUNDINGS, SOURCES, STAGES, FormatInfo, Option, SourceInfo, Table
from tfcert.language.check.abstractions import read_abstraction
from tfcert.language.check.declared import described_names, listed_name
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.reading import (
    named_arguments,
    read_arguments,
    read_columns,
    read_entries,
    read_numbers,
    read_option,
)
from tfcert.language.check.scope import KINDS, Definition, Piece, Scope, did_you_mean
from tfcert.language.spec.choice import Choice, ChoiceStep
from tfcert.language.spec.declarations import Columns, Dataset, ModelDeclaration, StageSpec, Strategy, Value
from tfcert.language.spec.spaces import IDENTITY, Transform
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError

Numbers = tuple[Fraction, ...]
JOINED = "joined"
"""The source of a data set that is made of others."""
MAX_STAGES = 64
"""Stages of one strategy, those of the strategies that it names included."""


def resolve_resource(definition: Definition) -> Any:
    """The declaration that a definition of these kinds stands for; found once, AbortError if it cannot be used."""
    finders: dict[str, Callable[[Definition], Any]] = {
        "model": _model, "dataset": _dataset, "strategy": _strategy, "abstraction": read_abstraction,
    }  # fmt: skip
    if definition.state == "busy":
        message = f"`{definition.name}` is made of itself"
        raise definition.scope.problem("E006", message, definition.node.name, "break the circle")
    if definition.state == "new":
        definition.state = "busy"
        try:
            definition.result = finders[definition.kind](definition)
        except AbortError:
            definition.state = "failed"
            raise
        definition.state = "done"
    if definition.state != "done":
        raise AbortError(definition.kind)
    return definition.result


def _is_bound(definition: Definition) -> bool:
    session = definition.scope.session
    if definition.full_name not in session.bound:
        return False
    session.used_bindings.add(definition.full_name)
    return True


def check_path(scope: Scope, node: s.Expr, *, folder: bool = False) -> str:
    """A path inside the folder of the specification that names a file or ``folder`` (as far as that can be known)."""
    if not isinstance(node, s.Text):
        raise scope.problem("E206", "a path is a text in quotes", node)
    path = node.value
    parts = PurePosixPath(path).parts
    if "\\" in path:
        raise scope.problem("E221", f'the path "{path}" has a backslash', node, "write `/` between folders")
    absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive
    leaves = ".." in parts and scope.session.confines is None
    if not parts or absolute or leaves or path.startswith("~"):
        fix = "copy the file there, or bind the name on the command line"
        fix = "give `--root` the folder that holds both, or bind the name on the command line" if leaves else fix
        raise scope.problem("E221", f'the path "{path}" leads outside the folder of the specification', node, fix)
    if scope.root is None:
        return path
    limit = os.path.realpath(scope.folder)
    real = os.path.realpath(os.path.join(scope.root, path))
    if os.path.commonpath([limit, real]) != limit:
        what, whose = ("path", "that `--root` names") if ".." in parts else ("link", "of the specification")
        raise scope.problem("E221", f'the {what} "{path}" leads outside the folder {whose}', node)
    _require_there(scope, node, real, folder)
    return path if scope.session.confines is None else os.path.relpath(real, limit)


def _require_there(scope: Scope, node: s.Text, real: str, folder: bool) -> None:
    """Reports a path that leads to nothing, or to something of another kind."""
    path = node.value
    if not os.path.exists(real):
        fix = "create it, or bind the name on the command line"
        kind = "folder" if folder else "file"
        raise scope.problem("E222", f'there is no {kind} "{path}" beside the specification', node, fix)
    if folder and not os.path.isdir(real):
        raise scope.problem("E248", f'"{path}" is no folder', node, "write the path of a folder of images")
    if not folder and not os.path.isfile(real):
        # To read a pipe or a device may never end.
        message = f'"{path}" is no regular file'
        raise scope.problem("E248", message, node, "write the path of a file, not of a folder, a pipe or a device")


def _source(
    e: Elaborator, call: s.Call, sources: Table[SourceInfo] | Table[FormatInfo], kind: str, bound: bool
) -> tuple[str, str, tuple[tuple[str, Value | Columns], ...]]:
    """The source's name, its first argument and its options."""
    name = call.function.name
    schema = sources.words().get(name)
    if schema is None:
        known = [*sources.words(), *([JOINED] if kind == "dataset" else ())]
        hint = did_you_mean(name, known) or "it can be " + ", ".join(f"`{n}`" for n in known)
        raise e.scope.problem("E201", f"{KINDS[kind]} cannot come from `{name}`", call.function, hint)
    if not schema.supported:
        fix = "convert it to Keras, and write `keras(...)`"
        raise e.scope.problem("E249", f"{KINDS[kind]} cannot be read from `{name}`", call, fix)
    arguments = list(call.arguments)
    first = ""
    if schema.positional:
        if not arguments or arguments[0].name is not None or isinstance(arguments[0].value, s.IntervalNode):
            what = "a path" if schema.positional in ("path", "folder") else "a name"
            raise e.scope.problem("E205", f"`{name}` needs {what} in quotes first", call)
        node = arguments.pop(0).value
        assert not isinstance(node, s.IntervalNode)
        if schema.positional == "choice":
            first = str(read_option(e, node, Option("choice", schema.choices), f"the first argument of `{name}`"))
        elif bound or schema.positional == "text":
            first = node.value if isinstance(node, s.Text) else ""
        else:
            first = check_path(e.scope, node, folder=schema.positional == "folder")
    found: dict[str, Value | Columns] = {}
    for option, value in named_arguments(e, arguments, schema.options, name).items():
        listed = schema.options[option].kind == "columns"
        with suppress(AbortError):
            found[option] = (
                read_columns(e, value, f"`{option}`")
                if listed
                else read_option(e, value, schema.options[option], f"`{option}`")
            )
    return name, first, tuple(found.items())


# Models


def _model(definition: Definition) -> ModelDeclaration:
    node: s.Resource | None = definition.node
    if definition.part is not None:
        return _piece(definition.full_name, definition.part)
    bound = _is_bound(definition)
    if node is None:
        return ModelDeclaration(definition.full_name, "bound", "", True)
    e = Elaborator(definition.scope)
    entries = read_entries(e, node.block, ("outputs", "output", "inputs", "normalize"), "a model")
    outputs, names = _outputs(e, entries["outputs"]) if "outputs" in entries else ("", ())
    inputs = _inputs(e, entries["inputs"]) if "inputs" in entries else ()
    mean, std = _normalise(e, entries.get("normalize"))
    source, path, _ = _source(e, node.source, FORMATS, "model", bound)
    return ModelDeclaration(
        definition.full_name,
        source,
        path,
        bound,
        outputs,
        names,
        inputs,
        mean,
        std,
        definition.scope.folder,
        node.name.span,
        _output(e, entries["output"]) if "output" in entries else "",
    )


def _piece(name: str, piece: Piece) -> ModelDeclaration:
    """One output or layer of a declared model, as a model of its own."""
    whole: ModelDeclaration = resolve_resource(piece.model)
    scope = piece.model.scope
    if piece.word == "head" and whole.output:
        message = f"`{whole.name}` is declared `output: {whole.output}`, which is one output already"
        raise scope.problem("E206", message, piece.node, "leave `output` out of its declaration")
    if not piece.name.strip():
        raise scope.problem("E206", "this is no name", piece.node, f"write that of the {piece.word} in quotes")
    output, layer = (piece.name, "") if piece.word == "head" else ("", piece.name)
    return replace(whole, name=name, base=whole.name, outputs="", output_names=(), output=output, layer=layer)


def _output(e: Elaborator, entry: s.EntryNode) -> str:
    """The name of the output that is asked about, of a model with several."""
    name = None if isinstance(entry.value, s.Block | s.ScheduleNode | s.Budget) else listed_name(entry.value)
    if name is None:
        message = "`output` is the name of one output, or `all`"
        raise e.scope.problem("E206", message, entry.value, "write `output: grade`; `outputs` describes its numbers")
    if name in ("logits", "probabilities"):
        message = f"`output` is the name of one of several outputs, and `{name}` says what an output holds"
        raise e.scope.problem("E220", message, entry, f"did you mean `outputs: {name}`?")
    return name


def _outputs(e: Elaborator, entry: s.EntryNode) -> tuple[str, tuple[str, ...]]:
    """The kind of the outputs, "" where that is not said, and their names."""
    kinds = ("logits", "probabilities")
    said, items = described_names(entry.value)
    for item in items if items else ():
        e.scope.refuse_clash(listed_name(item) or "", item, ("param", "let"))
    if said is None and isinstance(entry.value, s.ListExpr):
        return "", _names(e, items, entry.value, "outputs")
    if isinstance(said, s.Ref) and said.name in kinds:
        return said.name, () if said is entry.value else _names(e, items, entry.value, "outputs")
    hint = did_you_mean(said.name, kinds) if isinstance(said, s.Ref) else ""
    message = "`outputs` must be `logits`, `probabilities`, a list of names, or a word and a list"
    raise e.scope.problem("E220", message, entry.value, hint)


def _inputs(e: Elaborator, entry: s.EntryNode) -> tuple[str, ...]:
    said, items = described_names(entry.value)
    return _names(e, () if said is not None else items, entry.value, "inputs")


def _names(e: Elaborator, items: tuple[s.Expr, ...], value: s.SyntaxNode, what: str) -> tuple[str, ...]:
    if not items:
        raise e.scope.problem("E206", f"`{what}` must be a list of names", value)
    names: dict[str, None] = {}
    for item in items:
        name = listed_name(item)
        if name is None:
            raise e.scope.problem("E206", f"`{what}` must be a list of names", item)
        if isinstance(item, s.Ref):
            e.scope.refuse_word(s.Name(name, span=item.span), quotable=True)
        if name in names:
            e.scope.report("E202", f"`{name}` is listed twice", item)
        names[name] = None
    return tuple(names)


def _normalise(e: Elaborator, entry: s.EntryNode | None) -> tuple[Numbers, Numbers]:
    """Mean and std of a ``normalize`` block; empty tuples if there is none."""
    if entry is None:
        return (), ()
    if not isinstance(entry.value, s.Block):
        raise e.scope.problem("E206", "write `normalize: { mean: [...] std: [...] }`", entry)
    parts = read_entries(e, entry.value, ("mean", "std"), "`normalize`")
    mean = read_numbers(e, parts["mean"].value, "`mean`") if "mean" in parts else (Fraction(0),)
    std = read_numbers(e, parts["std"].value, "`std`") if "std" in parts else (Fraction(1),)
    if any(v <= 0 for v in std):
        raise e.scope.problem("E220", "every `std` must be positive", parts["std"].value)
    if len(mean) != len(std) and 1 not in (len(mean), len(std)):
        raise e.scope.problem("E205", f"`mean` has {len(mean)} numbers and `std` has {len(std)}", entry.value)
    return mean, std


# Data sets


def _dataset(definition: Definition) -> Dataset:
    node: s.Resource | None = definition.node
    bound = _is_bound(definition)
    if node is None:
        return Dataset(definition.full_name, "bound", "", True)
    e = Elaborator(definition.scope)
    choice = read_choice(e, node.choice)
    if node.source.function.name == JOINED:
        return _joined(definition, e, node, choice, bound)
    entries = read_entries(e, node.block, ("range", "scale", "normalize"), "a data set")
    schema = SOURCES.words().get(node.source.function.name)
    limits = schema.range if schema else None
    if "range" in entries:
        ends = read_numbers(e, entries["range"].value, "`range`")
        if len(ends) != 2 or ends[0] >= ends[1]:
            raise e.scope.problem("E209", "`range` must be `[low, high]` with low < high", entries["range"].value)
        limits = ends[0], ends[1]
    scale = Fraction(1)
    if "scale" in entries:
        (scale, *more) = read_numbers(e, entries["scale"].value, "`scale`")
        if more or scale <= 0:
            raise e.scope.problem("E220", "`scale` must be one positive number", entries["scale"].value)
    mean, std = _normalise(e, entries.get("normalize"))
    transform = Transform(scale, mean or IDENTITY.mean, std or IDENTITY.std)
    source, path, options = _source(e, node.source, SOURCES, "dataset", bound)
    return Dataset(
        definition.full_name,
        source,
        path,
        bound,
        options,
        choice,
        limits,
        transform,
        definition.scope.folder,
        node.name.span,
    )


def read_choice(e: Elaborator, steps: tuple[s.StepNode, ...]) -> Choice:
    """Which samples are chosen, by steps."""
    read: list[ChoiceStep] = []
    for node in steps:
        if node.kind != "indices":
            read.append(
                ChoiceStep(
                    node.kind,
                    e.whole(
                        node.value,
                        f"`{node.kind.replace('per class', 'take')}`",
                        int(node.kind in ("take", "per class")),
                    ),
                )
            )
            continue
        indices = tuple(e.whole_numbers(node.value, "an index of a sample"))
        if not indices:
            raise e.scope.problem("E205", "`indices` holds no number", node, "write `indices [0, 7, 12]`")
        twice = next((i for i, index in enumerate(indices) if index in indices[:i]), None)
        if twice is not None:
            items = node.value.items if isinstance(node.value, s.ListExpr) else ()
            place = items[twice] if len(items) == len(indices) else node.value
            raise e.scope.problem("E202", f"sample {indices[twice]} is listed twice", place)
        read.append(ChoiceStep(node.kind, indices=indices))
    return tuple(read)


def _joined(definition: Definition, e: Elaborator, node: s.Resource, choice: Choice, bound: bool) -> Dataset:
    """Several data sets one after another, of one range and scale."""
    if node.block is not None and node.block.entries:
        message = "data sets that are joined keep their own range and scale"
        raise e.scope.problem("E219", message, node.block, "write the options at the data sets that are joined")
    parts: list[Dataset] = []
    for argument in node.source.arguments:
        if argument.name is not None or not isinstance(argument.value, s.Ref):
            raise e.scope.problem(
                "E206", f"`{JOINED}` takes names of data sets", argument, "write `joined(one, other)`"
            )
        parts.append(resolve_resource(e.scope.find(argument.value, ("dataset",))))
        for what, one, other in (
            ("range", parts[0].range, parts[-1].range),
            ("scale or normalisation", parts[0].transform, parts[-1].transform),
        ):
            if one != other:
                message = f"`{parts[0].name}` and `{parts[-1].name}` differ in their {what}"
                raise e.scope.problem("E250", message, argument, "values that are joined must mean the same")
    if len(parts) < 2:
        raise e.scope.problem("E205", f"`{JOINED}` takes two data sets or more", node.source)
    return Dataset(
        definition.full_name, JOINED, "", bound, (), choice, parts[0].range, parts[0].transform,
        definition.scope.folder, node.name.span, () if bound else tuple(parts),
    )  # fmt: skip


# Strategies


def _strategy(definition: Definition) -> Strategy:
    node: s.StrategyStatement = definition.node
    e = Elaborator(definition.scope)
    stages: list[StageSpec] = []
    failed = False
    for call in node.stages:
        try:
            stages += _stages(e, call)
        except AbortError:
            failed = True
    if failed:
        raise AbortError("strategy")
    if len(stages) > MAX_STAGES:
        message = f"this strategy has more than {MAX_STAGES} stages"
        raise e.scope.problem("E006", message, node.name, "leave out what is repeated")
    entries = read_entries(e, node.block, ("budget", "batch", "dtype", "rounding"), "a strategy")
    each, total = _budget(e, entries["budget"]) if "budget" in entries else (None, None)
    batch, dtype = None, "float32"
    if "batch" in entries:
        value = _plain(e, entries["batch"])
        automatic = isinstance(value, s.Ref) and value.name == "auto"
        batch = None if automatic else e.whole(value, "`batch`", 1)
    if "dtype" in entries:
        choice = Option("choice", ("float32", "float64"))
        dtype = str(read_option(e, _plain(e, entries["dtype"]), choice, "`dtype`"))
    rounding = None
    if "rounding" in entries:
        about = Option("choice", lambda: tuple(ROUNDINGS))
        rounding = str(read_option(e, _plain(e, entries["rounding"]), about, "`rounding`"))
    return Strategy(definition.full_name, tuple(stages), each, total, batch, dtype, rounding)


def _plain(e: Elaborator, entry: s.EntryNode) -> s.Expr:
    if isinstance(entry.value, s.Block | s.ScheduleNode | s.Budget):
        raise e.scope.problem("E206", f"`{entry.name.text}` must be a plain value", entry.value)
    return entry.value


def _stages(e: Elaborator, node: s.StageCall | s.Ref) -> tuple[StageSpec, ...]:
    """A stage, or those of the strategy that a name stands for; a name of a stage is the stage."""
    if isinstance(node, s.StageCall):
        ref = s.Ref((node.name.text,), span=node.name.span)
        found = None if node.name.text in STAGES.words() else e.scope.look_up(ref)
        if found is None or found.kind != "strategy":
            return (_stage(e, node),)
        if node.arguments:
            raise e.scope.problem("E205", f"`{ref.name}` is a strategy, and takes no options", node, "leave them out")
        node = ref
    strategy: Strategy = resolve_resource(e.scope.find(node, ("strategy",)))
    return strategy.stages


def _stage(e: Elaborator, call: s.StageCall) -> StageSpec:
    name = call.name.text
    stages = STAGES.words()
    schema = stages.get(name)
    if schema is None:
        hint = did_you_mean(name, stages) or "the stages are " + ", ".join(stages)
        raise e.scope.problem("E218", f"there is no stage `{name}`", call.name, hint)
    options = read_arguments(e, call.arguments, schema.options, name)
    stage = StageSpec(name, options)
    for place in (a for a in call.arguments if a.name == "fallback"):
        try:
            stage.relaxation  # noqa: B018
        except ValueError as error:
            raise e.scope.problem("E220", str(error), place) from error
    for one, other in (("tighten", "bounds"), ("guided", "guide")):
        if stage.option(one) is not None and stage.option(other) is not None and stage.option(one) is not True:
            (place,) = (a for a in call.arguments if a.name == one)
            message = f"`{one}` and `{other}` say different things about the same"
            raise e.scope.problem("E220", message, place, f"give `{other}` alone")
    if stage.option("confirm") == stage.option("solver", "cbc"):
        (place,) = (a for a in call.arguments if a.name == "confirm")
        fix = "choose a second solver"
        raise e.scope.problem("E220", f"`{stage.option('confirm')}` cannot confirm its own word", place, fix)
    return stage


def _budget(e: Elaborator, entry: s.EntryNode) -> tuple[Fraction | None, Fraction | None]:
    value = entry.value
    if not isinstance(value, s.Budget):
        raise e.scope.problem("E206", "a budget is written `60s per sample, 2h total`", value)
    if value.unit not in (None, "sample"):
        raise e.scope.problem("E220", "a budget is `per sample`", value)
    time = Option("time")
    each = read_option(e, value.each, time, "the budget per sample") if value.each else None
    total = read_option(e, value.total, time, "the total budget") if value.total else None
    return (None if each is None else Fraction(each)), (None if total is None else Fraction(total))
