"""The names that a model's declaration gives its outputs and inputs."""

from __future__ import annotations

from tfcert.language.check.scope import Definition
from tfcert.language.text import syntax as s


def output_names(model: Definition) -> tuple[str, ...]:
    """The names a model's declaration gives its outputs; unresolved models have none."""
    return tuple(listed_places(model, "outputs"))


def listed_name(item: s.Expr) -> str | None:
    """The name that an item of a list of names says; None if it is no name."""
    if isinstance(item, s.Text):
        return item.value if item.value.strip() else None
    return item.name if isinstance(item, s.Ref) and len(item.parts) == 1 else None


def listed_places(model: Definition, option: str) -> dict[str, int]:
    """The places of the names that a model's declaration lists as ``outputs`` or ``inputs``."""
    if option not in model.listed:
        names: list[str] = []
        block = model.node.block if model.node is not None else None
        for entry in block.entries if block else ():
            if entry.name.text == option:
                items = described_names(entry.value)[1]
                names = [name for i in items if (name := listed_name(i)) is not None]
        model.listed[option] = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return model.listed[option]


def described_names(value: s.BlockValue) -> tuple[s.Expr | None, tuple[s.Expr, ...]]:
    """Reads ``logits``, ``[cat, dog]`` or ``logits [cat, dog]``: the kind of outputs, and their names."""
    match value:
        case s.ListExpr(items):
            return None, items
        case s.Index(word, s.ListExpr(items)):
            return word, items
        case s.Index(word, name):
            return word, (name,)
        case s.Block() | s.ScheduleNode() | s.Budget():
            return None, ()
        case _:
            return value, ()
