"""Recipes of training: how the learning rate changes, and how images are changed at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from tfcert.catalog import SOURCES, Option
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.reading import read_arguments, read_option
from tfcert.language.check.scope import did_you_mean
from tfcert.language.check.values import Items, Numeric, describe
from tfcert.language.spec import objective as t
from tfcert.language.spec.declarations import Dataset
from tfcert.language.text import syntax as s

DECAY, COSINE = "`decay(1e-3, factor=0.1, epochs=[10, 15])`", "`cosine(1e-3, warmup=5)`"


def read_rate(e: Elaborator, node: s.Expr) -> t.Rate:
    """A positive number, ``decay(number, factor=..., epochs=[...])`` or ``cosine(number, warmup=..., final=...)``."""
    if isinstance(node, s.Call) and node.function.name == "decay":
        return _decay(e, node)
    if isinstance(node, s.Call) and node.function.name == "cosine":
        return _cosine(e, node)
    return t.LearningRate(_number(e, node, "positive", "`learning_rate`"))


def _decay(e: Elaborator, node: s.Call) -> t.LearningRate:
    given = _given(node)
    units = [unit for unit in ("epochs", "steps") if unit in given]
    if len(given) != len(node.arguments) or set(given) - {None, "factor", *units} or len(units) != 1:
        fix = f"write {DECAY}, or `steps=[...]`"
        raise e.scope.problem("E205", "`decay` takes a rate, a factor, and epochs or steps", node, fix)
    initial = _first(e, node, given)
    factor = _number(e, given["factor"], "share", "`factor`") if "factor" in given else Fraction(1, 10)
    return t.LearningRate(initial, factor, _moments(e, given[units[0]]), units[0])


def _cosine(e: Elaborator, node: s.Call) -> t.CosineRate:
    given = _given(node)
    if len(given) != len(node.arguments) or set(given) - {None, "warmup", "final"}:
        message = "`cosine` takes a rate, the epochs of its warm-up and the rate that it ends with"
        raise e.scope.problem("E205", message, node, f"write {COSINE}, perhaps with `final=1e-5`")
    peak = _first(e, node, given)
    warmup = _number(e, given["warmup"], "amount", "`warmup`") if "warmup" in given else Fraction(0)
    final = _number(e, given["final"], "amount", "`final`") if "final" in given else Fraction(0)
    if final > peak:
        message = f"`final` is above the rate, {float(peak):g}, that the cosine falls from"
        raise e.scope.problem("E220", message, given["final"])
    return t.CosineRate(peak, warmup, final)


def _given(node: s.Call) -> dict[str | None, s.Expr]:
    """The arguments by name, None for the first; intervals are left out."""
    return {a.name: a.value for a in node.arguments if not isinstance(a.value, s.IntervalNode)}


def _first(e: Elaborator, node: s.Call, given: Mapping[str | None, s.Expr]) -> Fraction:
    if None not in given:
        name = node.function.name
        what = "begins with" if name == "decay" else "rises to"
        raise e.scope.problem("E205", f"`{name}` needs the rate that it {what} first", node)
    return _number(e, given[None], "positive", "`learning_rate`")


def _number(e: Elaborator, node: s.Expr, kind: str, what: str) -> Fraction:
    return Fraction(read_option(e, node, Option(kind), what))


def _moments(e: Elaborator, node: s.Expr) -> tuple[int, ...]:
    value = e.value(node)
    found: list[int] = []
    for item in value.values if isinstance(value, Items) else (value,):
        whole = isinstance(item, Numeric) and not item.unit and item.term.is_constant
        number = item.term.constant if whole and isinstance(item, Numeric) else Fraction(-1)
        if number.denominator != 1 or number < 1 or (found and number <= found[-1]):
            told = "" if isinstance(item, Numeric) else f"; this is {describe(item)}"
            message = f"the moments of `decay` must be whole numbers that rise, at least 1{told}"
            raise e.scope.problem("E206", message, node)
        found.append(int(number))
    return tuple(found)


def read_augmentations(e: Elaborator, value: s.BlockValue, train: Dataset | None) -> tuple[t.Named, ...]:
    """``flip``, ``shift(4)`` or a list of such, held against what is known of the samples to train on."""
    items = value.items if isinstance(value, s.ListExpr) else (value,)
    found: dict[str, t.Named] = {}
    for item in items:
        term = _augmentation(e, item, train)
        if term.name in found:
            raise e.scope.problem("E202", f"`{term.name}` is given twice", item)
        found[term.name] = term
    return tuple(found.values())


def _augmentation(e: Elaborator, node: s.BlockValue, train: Dataset | None) -> t.Named:
    ref = node.function if isinstance(node, s.Call) else node
    if not isinstance(ref, s.Ref) or ref.name not in t.AUGMENTATIONS:
        hint = did_you_mean(ref.name, t.AUGMENTATIONS) if isinstance(ref, s.Ref) else ""
        raise e.scope.problem("E220", "`augment` must be `flip`, `shift(4)`, or a list of such", ref, hint)
    arguments = node.arguments if isinstance(node, s.Call) else ()
    if ref.name == "shift" and arguments and arguments[0].name is None:
        arguments = (replace(arguments[0], name="pixels"), *arguments[1:])
    found = t.Named(ref.name, read_arguments(e, arguments, t.AUGMENTATIONS[ref.name], ref.name))
    if ref.name == "shift" and found.option("pixels") is None:
        raise e.scope.problem(
            "E205", "`shift` needs the most pixels that it moves an image by", node, "write `shift(4)`"
        )
    _require_image(e, node, found, train)
    return found


def _require_image(e: Elaborator, node: s.BlockValue, found: t.Named, train: Dataset | None) -> None:
    """Reports an augmentation of what is known to be no image, or one that moves an image out of itself.

    What is not known here is looked at once the samples are loaded.
    """
    if train is None or train.bound:
        return
    source = SOURCES.find(train.source)
    if source.columns:
        message = f"`{found.name}` changes images, and `{train.name}` is a table"
        raise e.scope.problem("E220", message, node)
    size = source.images.get(train.path)
    if size is not None and found.option("pixels", 0) >= min(size):
        message = f"`shift` must be smaller than the images of `{train.name}`, {size[0]} by {size[1]} pixels"
        raise e.scope.problem("E220", message, node)
