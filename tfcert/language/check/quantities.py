"""Quantities about the results: from expressions to combinations of them, with their units."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from tfcert.catalog import DISTANCES, Option
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.reading import as_ref
from tfcert.language.check.resources import resolve_resource
from tfcert.language.check.scope import Definition, Scope, did_you_mean
from tfcert.language.check.setting import Setting
from tfcert.language.check.templates import QUESTIONS, asked_question
from tfcert.language.check.values import MIXED, describe, within_bounds
from tfcert.language.spec.declarations import Dataset, ModelDeclaration
from tfcert.language.spec.quantities import (
    MEASURE_QUANTITIES,
    PROPERTY_QUANTITIES,
    SPELLINGS,
    Combination,
    Quantity,
    Quotient,
    Side,
)
from tfcert.language.spec.questions import (
    AnyTemplate,
    DistanceTemplate,
    MeasureTemplate,
    PropertyTemplate,
    ShareTemplate,
    Template,
    ValueTemplate,
)
from tfcert.language.spec.regions import balls_of
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError
from tfcert.language.text.printer import print_expression

QUANTITIES = (*PROPERTY_QUANTITIES, *MEASURE_QUANTITIES, *SPELLINGS, "share", "accuracy")
SHOWN: dict[str, dict[str, Option]] = {"histogram": {"bins": Option("whole", least=1)}, "curve": {}, "table": {}}
"""Pictures and tables of a measure, with their options."""


@dataclass(frozen=True)
class QuantitySum:
    """A linear combination of quantities; ``pixels`` and ``shares`` wait for a measure to say how wide its range is.

    Shares are plain numbers where no measure is compared. ``widths`` are those of the measures' ranges.
    """

    terms: tuple[tuple[Quantity | Quotient, Fraction], ...] = ()
    constant: Fraction = Fraction(0)
    pixels: Fraction = Fraction(0)
    shares: Fraction = Fraction(0)
    widths: frozenset[Fraction | None] = frozenset()

    def plus(self, other: QuantitySum, factor: Fraction) -> QuantitySum:
        sums = dict(self.terms)
        for quantity, coefficient in other.terms:
            sums[quantity] = sums.get(quantity, Fraction(0)) + factor * coefficient
        return QuantitySum(
            tuple(sums.items()),
            self.constant + factor * other.constant,
            self.pixels + factor * other.pixels,
            self.shares + factor * other.shares,
            self.widths | other.widths,
        )

    @property
    def combined(self) -> Combination:
        """Without pixels and shares."""
        return Combination(self.terms, self.constant)


@dataclass
class QuantityReader:
    """Reads quantities of one text, and notes what they are about.

    Attributes:
        scope: where names are looked up.
        questions: the checked properties and measures by name; those with problems are missing.
        asked: the names of all that are asked.
        properties, measures, accuracies: what was named so far.
        per_class: whether the quantities are told of each class by itself.
    """

    scope: Scope
    questions: Mapping[str, AnyTemplate]
    asked: Collection[str]
    properties: set[str] = field(default_factory=set)
    measures: set[str] = field(default_factory=set)
    accuracies: set[tuple[str, str]] = field(default_factory=set)
    per_class: bool = False

    def resolved(self, linear: QuantitySum, node: s.Expr) -> QuantitySum:
        """Pixels and shares of the range converted with the size they have in the measure's space."""
        if not linear.pixels and not (linear.shares and linear.widths):
            return QuantitySum(linear.terms, linear.constant + linear.shares)
        width = next(iter(linear.widths)) if len(linear.widths) == 1 else None
        if width is None:
            what = "pixels can" if linear.pixels else "a percentage, which is a share of the range, can"
            message = f"{what} only be compared with measures `in unit` or `in raw`, of data with a range"
            raise self.scope.problem("E207", message, node, "write a plain number in the measure's space")
        return QuantitySum(linear.terms, linear.constant + (linear.pixels / 255 + linear.shares) * width)

    # Numbers

    def linear(self, node: s.Expr, proves: bool) -> QuantitySum:
        """A side of a comparison; ``proves`` if what it says must be provable."""
        with self.scope.step(node):
            match node:
                case s.Ref() | s.Text() | s.Call() if (ref := self._measure(node)) is not None:
                    return self._value(ref, proves)
                case s.Call() | s.OfCorrect():
                    quantity, widths = self._quantity(node, proves)
                    return QuantitySum(((quantity, Fraction(1)),), widths=widths)
                case s.Unary("-", operand):
                    return QuantitySum().plus(self.linear(operand, proves), Fraction(-1))
                case s.Chain(operands, operators) if operators[0] in ("+", "-"):
                    signs = [1, *(1 if operator == "+" else -1 for operator in operators)]
                    parts = [self.linear(o, proves) for o in operands]
                    return self._sum([(p, Fraction(sign)) for p, sign in zip(parts, signs, strict=True)], node)
                case s.Chain(operands, operators) if operators[0] in ("*", "/"):
                    return self._product(node, proves)
                case _:
                    return self._constant(node)

    def _constant(self, node: s.Expr) -> QuantitySum:
        value = Elaborator(self.scope).numeric(node, "a side of a comparison")
        if value.unit == "s":
            raise self.scope.problem("E207", "a time cannot be compared with results", node)
        if value.unit == MIXED:
            message = f"a side of a comparison must not be {describe(value)}"
            raise self.scope.problem("E207", message, node, "write one percentage, or a plain number")
        number = value.term.constant
        match value.unit:
            case "px":
                return QuantitySum(pixels=number)
            case "%":
                return QuantitySum(shares=number)
        return QuantitySum(constant=number)

    def _product(self, node: s.Chain, proves: bool) -> QuantitySum:
        scale, varying, share = Fraction(1), None, False
        for place, (operator, operand) in enumerate(zip(("*", *node.operators), node.operands, strict=True)):
            factor = self.linear(operand, proves)
            if factor.terms and operator == "/":
                top = self._sum([(varying or QuantitySum(constant=Fraction(1)), scale)], node)
                written = print_expression(s.Chain(node.operands[: place + 1], node.operators[:place]))
                varying, scale, share = self._quotient(top, factor, written, operand), Fraction(1), False
                continue
            if factor.terms or factor.pixels:
                if varying is not None or operator == "/":
                    message = "quantities can be scaled by plain numbers, and divided by each other"
                    raise self.scope.problem("E210", message, operand)
                varying = factor
                continue
            number, share = factor.constant + factor.shares, share or bool(factor.shares)
            if operator == "/" and number == 0:
                raise self.scope.problem("E225", "this divides by zero", operand)
            scale = scale * number if operator == "*" else scale / number
            self._bounded(QuantitySum(constant=scale), node)
        one = QuantitySum(shares=Fraction(1)) if share else QuantitySum(constant=Fraction(1))
        return self._sum([(varying or one, scale)], node)

    def _quotient(self, top: QuantitySum, below: QuantitySum, written: str, node: s.Expr) -> QuantitySum:
        """One quantity as a multiple of another; a plain number."""
        if top.widths and below.widths and top.widths != below.widths:
            message = "these are not measured in the same space, so that one is no multiple of the other"
            raise self.scope.problem("E207", message, node, "measure both in one space")
        parts = [self.resolved(replace(part, widths=top.widths | below.widths), node).combined for part in (top, below)]
        return QuantitySum(((Quotient(parts[0], parts[1], written), Fraction(1)),))

    def _sum(self, parts: list[tuple[QuantitySum, Fraction]], node: s.Expr) -> QuantitySum:
        sums: dict[Quantity | Quotient, Fraction] = {}
        rest = QuantitySum()
        for part, factor in parts:
            for quantity, coefficient in part.terms:
                sums[quantity] = sums.get(quantity, Fraction(0)) + factor * coefficient
            # The quantities are added up apart from this: a long sum costs no more than its length.
            rest = self._bounded(rest.plus(replace(part, terms=()), factor), node)
        return self._bounded(replace(rest, terms=tuple(sums.items())), node)

    def _bounded(self, linear: QuantitySum, node: s.Expr) -> QuantitySum:
        if not all(map(within_bounds, (linear.constant, linear.pixels, linear.shares, *(c for _, c in linear.terms)))):
            raise self.scope.problem("E004", "this number is too large or too long to be kept exact", node)
        return linear

    # Quantities

    def _quantity(self, node: s.Call | s.OfCorrect, proves: bool) -> tuple[Quantity, frozenset[Fraction | None]]:
        """The quantity, and for a measure the width of its range in its space."""
        if isinstance(node, s.OfCorrect):
            quantity, widths = self._of_all(node.base, proves)
            self._has_labels(quantity, node)
            return replace(quantity, correct=True), widths
        quantity, widths = self._of_all(node, proves)
        if self.per_class:
            self._has_labels(quantity, node)
        return quantity, widths

    def _has_labels(self, quantity: Quantity, node: s.Expr) -> None:
        """Refuses to tell samples by their labels where there are none."""
        what = "which of them are classified right" if isinstance(node, s.OfCorrect) else "what class they have"
        if quantity.kind == "accuracy":
            if isinstance(node, s.OfCorrect):
                raise self.scope.problem("E206", "the accuracy of the correctly classified is 1", node, "leave it out")
            return
        template = self.questions[quantity.names[0]]
        if template.dataset is None or template.label is None:
            message = f"`{template.name}` does not say {what}: its samples have no label"
            raise self.scope.problem("E206", message, node, "write `(x, y in data)` after its name")

    def _of_all(self, call: s.Call, proves: bool) -> tuple[Quantity, frozenset[Fraction | None]]:
        kind = SPELLINGS.get(call.function.name, call.function.name)
        if kind == "share":
            return self._share(call, proves)
        if call.function.name not in QUANTITIES:
            known = (*QUANTITIES, *([] if proves else SHOWN))
            kind = call.function.name
            hint = did_you_mean(kind, known) or "there are " + ", ".join(known)
            found = self.scope.look_up(call.function)
            if found is not None and found.kind in ("property", "measure"):
                hint = f"write `{'verified_accuracy' if found.kind == 'property' else 'median'}({kind})`"
            raise self.scope.problem("E201", f"there is no quantity `{kind}`", call.function, hint)
        given = Elaborator(self.scope).positional(call, 2 if kind in ("accuracy", "percentile") else 1)
        arguments = [as_ref(a) for a in given]
        refs = arguments if kind == "accuracy" else arguments[:1]
        for ref in refs:
            if not isinstance(ref, s.Ref) and (kind == "accuracy" or not isinstance(ref, s.Call)):
                raise self.scope.problem("E206", f"`{kind}` is of something named", ref)
        if kind == "accuracy":
            return self._accuracy([r for r in refs if isinstance(r, s.Ref)]), frozenset()
        names = [r for r in refs if isinstance(r, s.Ref | s.Call)]
        template = self.question(names[0], "property" if kind in PROPERTY_QUANTITIES else "measure")
        measured = not isinstance(template, PropertyTemplate)
        if proves and (measured or (kind in ("verified_accuracy", "verified_share") and not template.existential)):
            self._can_prove(template, names[0])
        if kind == "attack_accuracy" and template.existential:
            message = f"`{template.name}` asks for some input: no attack refutes that"
            raise self.scope.problem("E206", message, names[0], "use `verified_accuracy`")
        if kind == "nominal_accuracy" and not balls_of(template.region):
            message = f"`{template.name}` is about a box, which is around no unperturbed input"
            raise self.scope.problem("E206", message, names[0], "use `verified_accuracy`")
        if isinstance(template, PropertyTemplate):
            self.properties.add(template.name)
            return Quantity(kind, (template.name,)), frozenset()
        percent = self._percent(arguments[1]) if kind == "percentile" else Fraction(50)
        return replace(self._measured(template), kind=kind, percent=percent), _widths(template)

    def _measured(self, template: AnyTemplate) -> Quantity:
        """A quantity of a measure, with the interval that its values lie in."""
        self.measures.add(template.name)
        if isinstance(template, DistanceTemplate):
            return Quantity("value", (template.name,), ceiling=None, estimate=template.info.estimates)
        if isinstance(template, ShareTemplate):
            return Quantity("value", (template.name,), ceiling=Fraction(1))
        if isinstance(template, ValueTemplate):
            low = -math.inf if template.lower is None else template.lower
            return Quantity("value", (template.name,), floor=low, ceiling=template.upper)
        assert isinstance(template, MeasureTemplate)
        floor = template.lower if template.existential else Fraction(0)
        return Quantity("value", (template.name,), floor=floor, ceiling=template.upper)

    def _measure(self, node: s.Expr) -> s.Ref | s.Call | None:
        """The name of a measure, with its arguments if it is a template; None for any other."""
        found = self._named(node)
        return found[0] if found is not None and found[1].kind == "measure" else None

    def _named(self, node: s.Expr) -> tuple[s.Ref | s.Call, Definition] | None:
        """The name of a property or a measure, with its arguments if it is a template, and what it stands for."""
        given = as_ref(node)
        ref = given.function if isinstance(given, s.Call) else given
        found = self.scope.look_up(ref) if isinstance(ref, s.Ref) else None
        if found is None or found.kind not in QUESTIONS or not isinstance(given, s.Ref | s.Call):
            return None
        return given, found

    def _value(self, ref: s.Ref | s.Call, proves: bool) -> QuantitySum:
        """The answer of a measure without samples, which has one."""
        template = self.question(ref, "measure")
        if template.dataset is not None:
            name = print_expression(ref)
            message = f"`{name}` has a value for each sample of `{template.dataset}`"
            fix = f"write `median({name})`, `min({name})` or `share({name} >= ...)`"
            raise self.scope.problem("E206", message, ref, fix)
        if proves:
            self._can_prove(template, ref)
        return QuantitySum(((self._measured(template), Fraction(1)),), widths=_widths(template))

    # Shares of samples

    def _share(self, call: s.Call, proves: bool) -> tuple[Quantity, frozenset[Fraction | None]]:
        """``share(m >= v)``: of how many samples the measure is on these sides of numbers."""
        (node,) = Elaborator(self.scope).positional(call, 1)
        parts = node.operands if isinstance(node, s.Chain) and node.operators[0] == "and" else (node,)
        sides: list[Side] = []
        about: dict[str, AnyTemplate] = {}
        for part in parts:
            if not isinstance(part, s.Chain) or not set(part.operators) <= {"<", "<=", ">", ">="}:
                fix = "compare a measure with numbers, e.g. `share(m >= 0.1)` or `share(0.1 <= m and m < 0.2)`"
                raise self.scope.problem("E206", "`share` counts the samples whose measure is in a range", part, fix)
            for left, operator, right in zip(part.operands, part.operators, part.operands[1:], strict=False):
                sides.append(self._side(left, operator, right, about))
        if len(about) != 1:
            raise self.scope.problem("E206", "`share` counts the values of one measure", node, "name one measure")
        ((name, template),) = about.items()
        if proves:
            self._can_prove(template, call)
        written = print_expression(call)
        quantity = replace(self._measured(template), kind="share", sides=tuple(sides), written=written)
        if quantity.estimate:
            raise self.scope.problem("E206", f"`{name}` is an estimate, which is on no side for certain", node)
        return quantity, frozenset()

    def _side(self, left: s.Expr, operator: str, right: s.Expr, about: dict[str, AnyTemplate]) -> Side:
        """One comparison of a measure's value with a number."""
        reads: list[QuantitySum | None] = []
        found: AnyTemplate | None = None
        for operand in (left, right):
            named = self._named(operand)
            if named is not None:
                found = self.question(named[0], "measure")
                about[found.name] = found
                reads.append(None)
            else:
                reads.append(self._constant(operand))
        if found is None or reads.count(None) != 1:
            raise self.scope.problem("E206", "`share` compares a measure with numbers", right, "e.g. `share(m >= 0.1)`")
        number = next(r for r in reads if r is not None)
        widths = _widths(found)
        constant = self.resolved(replace(number, widths=widths), right).constant
        sign = 1 if (reads[0] is None) == (operator in (">", ">=")) else -1
        return Side(Fraction(sign), -sign * constant, operator in ("<", ">"))

    def _percent(self, node: s.Expr) -> Fraction:
        """The number of a percentile: 5 and 5% are the 5th."""
        value = Elaborator(self.scope).numeric(node, "the percentage")
        percent = Elaborator(self.scope).number(node, "the percentage") * (100 if value.unit == "%" else 1)
        if value.unit not in ("", "%"):
            raise self.scope.problem(
                "E207", f"a percentile must be a number or a percentage, not {describe(value)}", node
            )
        if not 0 <= percent <= 100:
            raise self.scope.problem("E220", "a percentile is between 0 and 100", node)
        if 0 < percent < 1:
            message = f"this is the {float(percent):g}th percentile, of 100"
            self.scope.report("W012", message, node, f"write `{float(100 * percent):g}%` if that share is meant")
        return percent

    # Accuracies, names

    def _accuracy(self, refs: list[s.Ref]) -> Quantity:
        model: ModelDeclaration = resolve_resource(self.scope.find(refs[0], ("model",)))
        dataset: Dataset = resolve_resource(self.scope.find(refs[1], ("dataset",)))
        if Setting(dataset, model).normalises_twice:
            message = f"both `{dataset.name}` and `{model.name}` normalise"
            raise self.scope.problem("E226", message, refs[1], "keep `normalize` in one of them")
        self.accuracies.add((model.name, dataset.name))
        return Quantity("accuracy", (model.name, dataset.name))

    def question(self, node: s.Ref | s.Call, kind: str) -> AnyTemplate:
        found = asked_question(self.scope, node, (kind,))
        template = self.questions.get(found.full_name)
        if template is None:
            if found.full_name not in self.asked:
                name = print_expression(node)
                message = f"`{name}` is imported, and nothing here asks it"
                raise self.scope.problem("E204", message, node, f"write `check {name}`")
            raise AbortError("E201")
        return template

    def _can_prove(self, template: AnyTemplate, node: s.SyntaxNode) -> None:
        if isinstance(template, DistanceTemplate):
            info = template.info
            if info.estimates:
                message = f"`{template.name}` is a {info.title}, {info.promise}: it decides no assertion"
                bounds = " or ".join(f"`{word}`" for word, other in DISTANCES.words().items() if other.proves)
                fix = f"show it in a `report`; an assertion can rest on {bounds}"
                self.scope.report("E215", message, node, fix)
            return
        if all(stage.attacks for stage in template.strategy.stages):
            self.scope.report(
                "E215",
                f"the strategy `{template.strategy.name}` only attacks: it can never prove `{template.name}`",
                node,
                "add a stage that proves, e.g. `-> crown`",
            )


def _widths(template: Template) -> frozenset[Fraction | None]:
    """The width of the declared range where pixels and shares of it mean something: not after normalisation.

    None of a measure that is no distance between inputs.
    """
    return frozenset() if isinstance(template, ValueTemplate | ShareTemplate) else frozenset([_width(template)])


def _width(template: Template) -> Fraction | None:
    return None if template.region.space == "net" and template.transform.normalises else template.width
