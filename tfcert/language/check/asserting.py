"""Assertions and reports: from statements to conditions over results."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from tfcert.catalog import DISTANCES, Option
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.reading import as_ref, read_arguments
from tfcert.language.check.resources import resolve_resource
from tfcert.language.check.scope import Scope, did_you_mean
from tfcert.language.check.setting import Setting
from tfcert.language.check.values import MIXED, describe, within_bounds
from tfcert.language.spec.assertions import (
    JUDGING_QUANTITIES,
    MEASURE_QUANTITIES,
    PROPERTY_QUANTITIES,
    AssertedCondition,
    Assertion,
    Comparison,
    Junction,
    Quantity,
    ReportItem,
    Truth,
    judge_condition,
    open_quantities,
)
from tfcert.language.spec.declarations import Dataset, ModelDeclaration
from tfcert.language.spec.questions import AnyTemplate, BoxSpec, DistanceTemplate, PropertyTemplate, Template
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError, Span
from tfcert.language.text.printer import print_expression
from tfcert.sets.rounding import float_down

QUANTITIES = (*PROPERTY_QUANTITIES, *MEASURE_QUANTITIES, "accuracy")


@dataclass(frozen=True)
class _Linear:
    """A linear combination of quantities; ``pixels`` and ``shares`` wait for a measure to say how wide its range is.

    Shares are plain numbers where no measure is compared. ``widths`` are those of the measures' ranges.
    """

    terms: tuple[tuple[Quantity, Fraction], ...] = ()
    constant: Fraction = Fraction(0)
    pixels: Fraction = Fraction(0)
    shares: Fraction = Fraction(0)
    widths: frozenset[Fraction | None] = frozenset()

    def plus(self, other: _Linear, factor: Fraction) -> _Linear:
        sums = dict(self.terms)
        for quantity, coefficient in other.terms:
            sums[quantity] = sums.get(quantity, Fraction(0)) + factor * coefficient
        return _Linear(
            tuple(sums.items()),
            self.constant + factor * other.constant,
            self.pixels + factor * other.pixels,
            self.shares + factor * other.shares,
            self.widths | other.widths,
        )


@dataclass
class Asserter:
    """Checks assertions and reports against the templates of the same text.

    Attributes:
        scope: where names are looked up.
        questions: the checked properties and measures by name; those with problems are missing.
        asked: the names of all that are asked.
    """

    scope: Scope
    questions: Mapping[str, AnyTemplate]
    asked: Collection[str]
    properties: set[str] = field(default_factory=set)
    measures: set[str] = field(default_factory=set)
    accuracies: set[tuple[str, str]] = field(default_factory=set)
    outside: bool = False

    def assertion(self, node: s.AssertStatement) -> Assertion | None:
        """The checked assertion, or None with the problems reported."""
        self.properties, self.measures, self.accuracies, self.outside = set(), set(), set(), False
        try:
            condition = self._condition(node.condition)
        except AbortError:
            return None
        anyway = judge_condition(condition, Quantity.prior)
        if anyway is not None and not self.outside:
            message = f"this {'holds' if anyway else 'fails'} whatever is found"
            self.scope.report("W014", message, node.condition, "compare with a number that the results decide about")
        open_ = open_quantities(condition) if anyway is None else ()
        origin = f" (of {self.scope.prefix.removesuffix('.')})" if self.scope.prefix else ""
        return Assertion(
            print_expression(node.condition) + origin,
            condition,
            node.condition.span,
            frozenset(self.properties),
            frozenset(self.measures),
            frozenset(self.accuracies),
            frozenset(q.names[0] for q in open_ if q.kind in JUDGING_QUANTITIES),
        )

    def report_item(self, node: s.Expr) -> ReportItem | None:
        """The checked item of a report, or None with the problems reported."""
        try:
            if isinstance(node, s.Call) and node.function.name == "histogram":
                return self._histogram(node)
            if not isinstance(node, s.Call):
                fix = "e.g. `verified_accuracy(p)`, `median(m)` or `histogram(m)`"
                raise self.scope.problem("E206", "a report lists `histogram(...)` and quantities", node, fix)
            quantity, _ = self._quantity(node, proves=False)
            return ReportItem(quantity.kind, quantity.names, (), quantity, print_expression(node))
        except AbortError:
            return None

    def _histogram(self, node: s.Call) -> ReportItem:
        first = node.arguments[0] if node.arguments else None
        ref = None if first is None or isinstance(first.value, s.IntervalNode) or first.name else as_ref(first.value)
        if not isinstance(ref, s.Ref):
            raise self.scope.problem("E205", "`histogram` needs a measure first", node)
        template = self._question(ref, "measure")
        options = {"bins": Option("whole", least=1)}
        read = read_arguments(Elaborator(self.scope), node.arguments[1:], options, "histogram")
        return ReportItem("histogram", (template.name,), read, None, print_expression(node))

    # Conditions

    def _condition(self, node: s.Expr) -> AssertedCondition:
        with self.scope.step(node):
            match node:
                case s.Boolean(value):
                    return Truth(value)
                case s.Unary("not", operand):
                    return Junction("not", (self._condition(operand),))
                case s.Chain(operands, operators) if operators[0] in ("and", "or", "=>"):
                    parts = [self._condition(o) for o in operands]
                    if operators[0] != "=>":
                        return Junction(operators[0], tuple(parts))
                    conclusion = parts.pop()
                    for premise in reversed(parts):
                        conclusion = Junction("or", (Junction("not", (premise,)), conclusion))
                    return conclusion
                case s.Chain(operands, operators) if operators[0] not in ("+", "-", "*", "/"):
                    return self._comparisons(operands, operators)
                case s.Quantified():
                    raise self.scope.problem("E211", "an assertion is about results and has no quantifier", node)
                case _:
                    fix = "compare a quantity, e.g. `verified_accuracy(p) >= 0.9`"
                    raise self.scope.problem("E206", "an assertion must be a condition", node, fix)

    def _comparisons(self, operands: tuple[s.Expr, ...], operators: tuple[str, ...]) -> AssertedCondition:
        sides = [self._linear(o) for o in operands]
        parts: list[AssertedCondition] = []
        for i, operator in enumerate(operators):
            difference = self._resolved(sides[i].plus(sides[i + 1], Fraction(-1)), operands[i + 1])
            self._fraction_is_meant(difference, operands[i].span.to(operands[i + 1].span))
            if operator in ("<", "<="):
                difference = _Linear().plus(difference, Fraction(-1))
            negated = operator == "!="
            operator = {"<": ">", "<=": ">=", "!=": "=="}.get(operator, operator)
            part: AssertedCondition = Comparison(difference.terms, difference.constant, operator)
            parts.append(Junction("not", (part,)) if negated else part)
        return parts[0] if len(parts) == 1 else Junction("and", tuple(parts))

    def _fraction_is_meant(self, difference: _Linear, place: Span) -> None:
        """Warns where one accuracy is compared with a number outside [0, 1], which decides nothing."""
        accuracies = {"accuracy", *PROPERTY_QUANTITIES}
        if len(difference.terms) != 1 or difference.terms[0][0].kind not in accuracies or not difference.terms[0][1]:
            return
        threshold = -difference.constant / difference.terms[0][1]
        if not 0 <= threshold <= 1:
            message = f"an accuracy is a fraction between 0 and 1, and is compared with {float_down(threshold):g}"
            fix = f"write `{float_down(threshold):g}%`" if 1 < threshold <= 100 else ""
            self.scope.report("W003", message, place, fix)
            self.outside = True

    def _resolved(self, linear: _Linear, node: s.Expr) -> _Linear:
        """Pixels and shares of the range converted with the size they have in the measure's space."""
        if not linear.pixels and not (linear.shares and linear.widths):
            return _Linear(linear.terms, linear.constant + linear.shares)
        width = next(iter(linear.widths)) if len(linear.widths) == 1 else None
        if width is None:
            what = "pixels can" if linear.pixels else "a percentage, which is a share of the range, can"
            message = f"{what} only be compared with measures `in unit` or `in raw`, of data with a range"
            raise self.scope.problem("E207", message, node, "write a plain number in the measure's space")
        return _Linear(linear.terms, linear.constant + (linear.pixels / 255 + linear.shares) * width)

    # Numbers

    def _linear(self, node: s.Expr) -> _Linear:
        with self.scope.step(node):
            match node:
                case s.Call():
                    quantity, widths = self._quantity(node, proves=True)
                    return _Linear(((quantity, Fraction(1)),), widths=widths)
                case s.Unary("-", operand):
                    return _Linear().plus(self._linear(operand), Fraction(-1))
                case s.Chain(operands, operators) if operators[0] in ("+", "-"):
                    signs = [1, *(1 if operator == "+" else -1 for operator in operators)]
                    parts = [self._linear(o) for o in operands]
                    return self._sum([(p, Fraction(sign)) for p, sign in zip(parts, signs, strict=True)], node)
                case s.Chain(operands, operators) if operators[0] in ("*", "/"):
                    return self._product(node)
                case _:
                    return self._constant(node)

    def _constant(self, node: s.Expr) -> _Linear:
        value = Elaborator(self.scope).numeric(node, "a side of a comparison")
        if value.unit == "s":
            raise self.scope.problem("E207", "a time cannot be compared with results", node)
        if value.unit == MIXED:
            message = f"a side of a comparison must not be {describe(value)}"
            raise self.scope.problem("E207", message, node, "write one percentage, or a plain number")
        number = value.term.constant
        match value.unit:
            case "px":
                return _Linear(pixels=number)
            case "%":
                return _Linear(shares=number)
        return _Linear(constant=number)

    def _product(self, node: s.Chain) -> _Linear:
        scale, varying, share = Fraction(1), None, False
        for operator, operand in zip(("*", *node.operators), node.operands, strict=True):
            factor = self._linear(operand)
            if factor.terms or factor.pixels:
                if varying is not None or operator == "/":
                    raise self.scope.problem("E210", "quantities can only be scaled by plain numbers", operand)
                varying = factor
                continue
            number, share = factor.constant + factor.shares, share or bool(factor.shares)
            if operator == "/" and number == 0:
                raise self.scope.problem("E225", "this divides by zero", operand)
            scale = scale * number if operator == "*" else scale / number
            self._bounded(_Linear(constant=scale), node)
        one = _Linear(shares=Fraction(1)) if share else _Linear(constant=Fraction(1))
        return self._sum([(varying or one, scale)], node)

    def _sum(self, parts: list[tuple[_Linear, Fraction]], node: s.Expr) -> _Linear:
        sums: dict[Quantity, Fraction] = {}
        rest = _Linear()
        for part, factor in parts:
            for quantity, coefficient in part.terms:
                sums[quantity] = sums.get(quantity, Fraction(0)) + factor * coefficient
            # The quantities are added up apart from this: a long sum costs no more than its length.
            rest = self._bounded(rest.plus(replace(part, terms=()), factor), node)
        return self._bounded(replace(rest, terms=tuple(sums.items())), node)

    def _bounded(self, linear: _Linear, node: s.Expr) -> _Linear:
        if not all(map(within_bounds, (linear.constant, linear.pixels, linear.shares, *(c for _, c in linear.terms)))):
            raise self.scope.problem("E004", "this number is too large or too long to be kept exact", node)
        return linear

    # Quantities

    def _quantity(self, call: s.Call, proves: bool) -> tuple[Quantity, frozenset[Fraction | None]]:
        """The quantity, and for a measure the width of its range in its space."""
        kind = call.function.name
        if kind not in QUANTITIES:
            known = (*QUANTITIES, *([] if proves else ["histogram"]))
            hint = did_you_mean(kind, known) or "there are " + ", ".join(known)
            found = self.scope.look_up(call.function)
            if found is not None and found.kind in ("property", "measure"):
                hint = f"write `{'verified_accuracy' if found.kind == 'property' else 'median'}({kind})`"
            raise self.scope.problem("E201", f"there is no quantity `{kind}`", call.function, hint)
        given = Elaborator(self.scope).positional(call, 2 if kind in ("accuracy", "percentile") else 1)
        arguments = [as_ref(a) for a in given]
        refs = arguments if kind == "accuracy" else arguments[:1]
        for ref in refs:
            if not isinstance(ref, s.Ref):
                raise self.scope.problem("E206", f"`{kind}` is of something named", ref)
        names = [r for r in refs if isinstance(r, s.Ref)]
        if kind == "accuracy":
            return self._accuracy(names), frozenset()
        template = self._question(names[0], "property" if kind in PROPERTY_QUANTITIES else "measure")
        measured = not isinstance(template, PropertyTemplate)
        if proves and (measured or (kind in ("verified_accuracy", "verified_share") and not template.existential)):
            self._can_prove(template, names[0])
        if kind == "attack_accuracy" and template.existential:
            message = f"`{template.name}` asks for some input: no attack refutes that"
            raise self.scope.problem("E206", message, names[0], "use `verified_accuracy`")
        if kind == "nominal_accuracy" and isinstance(template.region, BoxSpec):
            message = f"`{template.name}` is about a box, which is around no unperturbed input"
            raise self.scope.problem("E206", message, names[0], "use `verified_accuracy`")
        if isinstance(template, PropertyTemplate):
            self.properties.add(template.name)
            return Quantity(kind, (template.name,)), frozenset()
        self.measures.add(template.name)
        percent = self._percent(arguments[1]) if kind == "percentile" else Fraction(50)
        widths = frozenset([_width(template)])
        if isinstance(template, DistanceTemplate):
            return Quantity(kind, (template.name,), percent, ceiling=None, estimate=template.info.estimates), widths
        floor = template.lower if template.existential else Fraction(0)
        return Quantity(kind, (template.name,), percent, floor, template.upper), widths

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

    def _accuracy(self, refs: list[s.Ref]) -> Quantity:
        model: ModelDeclaration = resolve_resource(self.scope.find(refs[0], ("model",)))
        dataset: Dataset = resolve_resource(self.scope.find(refs[1], ("dataset",)))
        if Setting(dataset, model).normalises_twice:
            message = f"both `{dataset.name}` and `{model.name}` normalise"
            raise self.scope.problem("E226", message, refs[1], "keep `normalize` in one of them")
        self.accuracies.add((model.name, dataset.name))
        return Quantity("accuracy", (model.name, dataset.name))

    def _question(self, ref: s.Ref, kind: str) -> AnyTemplate:
        found = self.scope.find(ref, (kind,))
        template = self.questions.get(found.full_name)
        if template is None:
            if found.full_name not in self.asked:
                fix = f"write `check {ref.name}`"
                raise self.scope.problem("E204", f"`{ref.name}` is imported, and nothing here asks it", ref, fix)
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


def _width(template: Template) -> Fraction | None:
    """The width of the declared range where pixels and shares of it mean something: not after normalisation."""
    return None if template.region.space == "net" and template.transform.normalises else template.width
