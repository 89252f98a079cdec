"""From expressions to what they stand for: types, units, linearity, and definitions expanded within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from tfcert.language.check.calls import BUILTINS, call_builtin
from tfcert.language.check.classes import membership
from tfcert.language.check.params import resolve_param
from tfcert.language.check.scope import KINDS, Definition, Scope, did_you_mean
from tfcert.language.check.values import (
    MIXED,
    NORMS,
    NUMBERS,
    UNITS,
    Condition,
    Inputs,
    Items,
    Meaning,
    Norm,
    Numeric,
    Outputs,
    Winner,
    Words,
    describe,
    is_normal,
    product_unit,
    sum_unit,
    within_bounds,
)
from tfcert.language.spec.formula import (
    And,
    ArgIs,
    Atom,
    Constant,
    Formula,
    Label,
    Not,
    Or,
    Output,
    Term,
    Variable,
    variable_term,
)
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError, Span
from tfcert.language.text.names import written
from tfcert.language.text.slips import function_slip, value_slip

LABEL_TERM = variable_term(Label())
ONE = Term((), Fraction(1))
MOST = 2**31 - 1
"""The largest whole number that anything is counted with."""


@dataclass
class Elaborator:
    """Finds what expressions of one scope stand for.

    Attributes:
        scope: where names are looked up and problems reported.
        local: variables of the construct: samples, quantified variables, parameters of a ``let``.
        models: models applied so far, with the first place; shared with the expansions of definitions.
        hints: what to do about names that are not known here, but may be expected to be.
    """

    scope: Scope
    local: Mapping[str, Meaning] = field(default_factory=dict)
    models: dict[str, tuple[Definition, s.Node]] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)

    def elsewhere(self, scope: Scope) -> Elaborator:
        """An elaborator of another text, without local variables."""
        return Elaborator(scope)

    # What callers want

    def number(self, expression: s.Expr, what: str, unit: str = "") -> Fraction:
        """A constant of a dimension."""
        value = self.numeric(expression, what)
        if not value.term.is_constant:
            raise self.scope.problem("E206", f"{what} must be a constant", expression)
        if value.unit != unit and not (unit == "" and value.unit in NUMBERS):
            self._wrong_unit(what, value, unit, expression)
        return self.usable(value.term.constant, what, expression)

    def usable(self, number: Fraction, what: str, node: s.Node | Span) -> Fraction:
        """The number, if float64 can hold it (rounded): a number that is not only compared must fit into a tensor."""
        if not is_normal(number):
            message = f"{what} is beyond the range of float64"
            raise self.scope.problem("E247", message, node, "its size must be 0, or between 1e-307 and 1e308")
        return number

    def whole(self, expression: s.Expr, what: str, least: int = 0) -> int:
        """A whole constant that is not below ``least``, nor above ``MOST``."""
        number, unit = self.number(expression, what), self.numeric(expression, what).unit
        if unit or number.denominator != 1 or number < least:
            raise self.scope.problem("E206", f"{what} must be a whole number, at least {least}", expression)
        if number > MOST:
            raise self.scope.problem("E247", f"{what} must be a whole number, at most {MOST}", expression)
        return int(number)

    def numeric(self, expression: s.Expr, what: str) -> Numeric:
        """A number, constant or not."""
        value = self.value(expression)
        if not isinstance(value, Numeric):
            raise self.scope.problem("E206", f"{what} must be a number; this is {describe(value)}", expression)
        return value

    def formula(self, expression: s.Expr, what: str = "this") -> Formula:
        """A condition."""
        value = self.value(expression)
        if not isinstance(value, Condition):
            raise self.scope.problem("E206", f"{what} must be a condition; this is {describe(value)}", expression)
        return value.formula

    def _wrong_unit(self, what: str, value: Numeric, unit: str, node: s.Node) -> None:
        expected = {"": "a plain number", "px": "pixels", "s": "a time, e.g. `60s`"}[unit]
        raise self.scope.problem("E207", f"{what} must be {expected}, not {describe(value)}", node)

    # Expressions

    def value(self, expression: s.Expr) -> Meaning:
        """What an expression stands for."""
        with self.scope.step(expression):
            match expression:
                case s.Number(_, number, unit):
                    factor, dimension = UNITS[unit]
                    return Numeric(Term((), number * factor), dimension)
                case s.Text(text):
                    return Words(text)
                case s.Boolean(truth):
                    return Condition(Constant(truth))
                case s.Ref():
                    return self._ref(expression)
                case s.Call():
                    return self._call(expression)
                case s.Index():
                    return self._index(expression)
                case s.ListExpr(items):
                    return Items(tuple(self.value(i) for i in items))
                case s.Unary("not", operand):
                    return Condition(Not(self.formula(operand, "what follows `not`")))
                case s.Unary(_, operand):
                    inner = self.numeric(operand, "what follows `-`")
                    return Numeric(inner.term.times(Fraction(-1)), inner.unit)
                case s.Chain():
                    return self._chain(expression)
                case s.Member():
                    return membership(self, expression)
                case s.Quantified():
                    raise self.scope.problem(
                        "E211",
                        "a quantifier cannot stand inside a formula",
                        expression,
                        "write one `forall` or `exists` at the start",
                    )

    def _ref(self, ref: s.Ref) -> Meaning:
        if len(ref.parts) == 1 and ref.name in self.local:
            return self.local[ref.name]
        if ref.name in NORMS and ref.name not in self.scope.misnamed:
            return Norm(ref.name)
        found = self.scope.look_up(ref)
        if found is None:
            self.scope.leave_if_import_failed(ref)
            hint = self.hints.get(ref.name) or value_slip(ref.name) or did_you_mean(ref.name, [*self.local, *NORMS])
            hint = hint or self.scope.suggest(ref, ("param", "let"))
            raise self.scope.problem("E201", f"the name `{ref.name}` is not known", ref, hint)
        if found.kind == "param":
            return resolve_param(self, found)
        if found.kind == "let":
            if found.node.parameters:
                names = ", ".join(p.text for p in found.node.parameters)
                raise self.scope.problem("E205", f"`{ref.name}` needs arguments", ref, f"write `{ref.name}({names})`")
            return Elaborator(found.scope, {}, self.models).value(found.node.value)
        raise self.scope.problem("E204", f"`{ref.name}` is {KINDS[found.kind]}, not a value", ref)

    # Calls

    def _call(self, call: s.Call) -> Meaning:
        name = call.function.name
        if name in BUILTINS and not call.function.quoted:
            if name in self.scope.misnamed:
                raise AbortError("E246")
            return call_builtin(self, call)
        if name in self.local:
            raise self.scope.problem(
                "E204", f"`{name}` cannot be applied: it is {describe(self.local[name])}", call.function
            )
        found = self.scope.look_up(call.function)
        if found is None and name not in self.scope.session.bound:
            self.scope.leave_if_import_failed(call.function)
            hint = function_slip(name) or self.scope.suggest(
                call.function, ("model", "let"), BUILTINS, f"declare a network by `model {name} = keras(...)`"
            )
            raise self.scope.problem("E201", f"the name `{name}` is not known", call.function, hint)
        found = self.scope.find(call.function, ("model", "let"))
        return self._apply_let(call, found) if found.kind == "let" else self._apply_model(call, found)

    def positional(self, call: s.Call, least: int, most: int | None = None) -> list[s.Expr]:
        """The arguments of a call that takes no named ones."""
        name, most = call.function.name, least if most is None else most
        for argument in call.arguments:
            if argument.name is not None or isinstance(argument.value, s.Interval):
                raise self.scope.problem("E205", f"`{name}` takes no named argument", argument)
        if not least <= len(call.arguments) <= most:
            wanted = f"{least} argument{'s' * (least != 1)}" if least == most else f"at least {least} arguments"
            raise self.scope.problem("E205", f"`{name}` takes {wanted}, not {len(call.arguments)}", call)
        return [a.value for a in call.arguments if not isinstance(a.value, s.Interval)]

    def _apply_let(self, call: s.Call, found: Definition) -> Meaning:
        names = [p.text for p in found.node.parameters]
        values = [self.value(a) for a in self.positional(call, len(names))]
        return Elaborator(found.scope, dict(zip(names, values, strict=True)), self.models).value(found.node.value)

    def _apply_model(self, call: s.Call, found: Definition) -> Meaning:
        (argument,) = self.positional(call, 1)
        if isinstance(argument, s.Ref) and self._is_unknown(argument):
            fix = "apply the network to the variable of `forall` or `exists`"
            raise self.scope.problem("E201", f"the name `{argument.name}` is not known", argument, fix)
        value = self.value(argument)
        if not isinstance(value, Inputs):
            raise self.scope.problem("E206", f"a network is applied to an input; this is {describe(value)}", argument)
        if not value.quantified:
            raise self.scope.problem(
                "E911",
                f"the network at the unperturbed input `{value.name}` is not supported yet",
                call,
                "apply it to the quantified variable",
            )
        self.models.setdefault(found.full_name, (found, call))
        return Outputs(found)

    # Indexing

    def _index(self, node: s.Index) -> Meaning:
        base = self.value(node.base)
        match base:
            case Outputs(model):
                return Numeric(variable_term(self._output(model, node.index)))
            case Inputs(name, _):
                raise self.scope.problem(
                    "E906", f"conditions on single inputs (`{name}[...]`) are not supported yet", node
                )
            case Items(values):
                place = self.whole(node.index, "an index")
                if place >= len(values):
                    raise self.scope.problem("E224", f"the list has {len(values)} items, counted from 0", node.index)
                return values[place]
            case _:
                raise self.scope.problem(
                    "E206", f"only outputs and lists have indices; this is {describe(base)}", node.base
                )

    def _output(self, model: Definition, index: s.Expr) -> Output:
        names = listed_places(model, "outputs")
        place = self._named_output(model, index)
        if place is not None:
            return Output(place)
        if isinstance(index, s.Ref) and self._is_unknown(index):
            raise self._no_output(model, index, index.name)
        value = self.numeric(index, "the index of an output")
        if value.term == LABEL_TERM:
            return Output(None)
        place = self.whole(index, "the index of an output")
        if names and place >= len(names):
            raise self.scope.problem("E224", f"`{model.full_name}` has {len(names)} outputs, counted from 0", index)
        return Output(place)

    # Operators

    def _chain(self, chain: s.Chain) -> Meaning:
        match chain.operators[0]:
            case "+" | "-":
                return self._sum(chain)
            case "*" | "/":
                return self._product(chain)
            case "and":
                return Condition(And(self._conditions(chain)))
            case "or":
                return Condition(Or(self._conditions(chain)))
            case "=>":
                *premises, conclusion = self._conditions(chain)
                # `a => (b => c)`, flat: a chain may be longer than Python's stack.
                return Condition(Or((*map(Not, premises), conclusion)))
            case _:
                return self._comparison(chain)

    def _conditions(self, chain: s.Chain) -> tuple[Formula, ...]:
        return tuple(self.formula(o, f"what `{chain.operators[0]}` joins") for o in chain.operands)

    def bounded(self, number: Fraction, node: s.Node) -> Fraction:
        """The number, if it is small enough to go on exactly."""
        if not within_bounds(number):
            raise self.scope.problem("E004", "this number is too large or too long to be kept exact", node)
        return number

    def _sum(self, chain: s.Chain) -> Numeric:
        sums: dict[Variable, Fraction] = {}
        constant, unit = Fraction(0), None
        for operator, operand in zip(("+", *chain.operators), chain.operands, strict=True):
            part = self._operand(operand, "a part of a sum")
            joined = part.unit if unit is None else sum_unit(unit, part.unit)
            if joined is None:
                raise self.scope.problem(
                    "E207", f"{describe(Numeric(Term(), unit or ''))} and {describe(part)} cannot be added", operand
                )
            unit = joined
            sign = 1 if operator == "+" else -1
            constant = self.bounded(constant + sign * part.term.constant, chain)
            for variable, coefficient in part.term.coefficients:
                sums[variable] = self.bounded(sums.get(variable, Fraction(0)) + sign * coefficient, chain)
        return Numeric(Term(tuple((v, c) for v, c in sums.items() if c), constant), unit or "")

    def _product(self, chain: s.Chain) -> Numeric:
        # Constants first, the one factor that varies last: a long chain costs no more than its length.
        scale: Numeric | None = None
        varying = ONE
        for operator, operand in zip(("*", *chain.operators), chain.operands, strict=True):
            factor = self._operand(operand, "a factor")
            if not factor.term.is_constant:
                self._may_vary(operator, varying, operand)
                varying, factor = factor.term, Numeric(ONE, factor.unit)
            if scale is not None:
                factor = (self._times if operator == "*" else self._over)(scale, factor, operand)
            scale = factor
            self.bounded(scale.term.constant, chain)
        assert scale is not None
        product = varying.times(scale.term.constant)
        for _, number in (*product.coefficients, (None, product.constant)):
            self.bounded(number, chain)
        # A share of something that varies is a share of that.
        share_of_it = varying is not ONE and scale.unit in ("%", MIXED)
        return Numeric(product, "" if share_of_it else scale.unit)

    def _may_vary(self, operator: str, varying: Term, node: s.Expr) -> None:
        """Only one factor of a product may vary, and no divisor."""
        if operator == "/":
            raise self.scope.problem("E210", "this divides by a quantity that varies", node, "divide by a constant")
        if varying is not ONE:
            message = "this multiplies two quantities that both vary"
            raise self.scope.problem("E210", message, node, "a factor must be a constant")

    def _operand(self, operand: s.Expr, what: str) -> Numeric:
        value = self.value(operand)
        if isinstance(value, Inputs):
            raise self.scope.problem(
                "E907", "arithmetic on inputs is not supported yet", operand, "use `ball` or `box`"
            )
        if not isinstance(value, Numeric):
            raise self.scope.problem("E206", f"{what} must be a number; this is {describe(value)}", operand)
        return value

    def _times(self, a: Numeric, b: Numeric, node: s.Expr) -> Numeric:
        unit = product_unit(a.unit, b.unit)
        if unit is None:
            raise self.scope.problem("E207", f"{describe(a)} and {describe(b)} cannot be multiplied", node)
        self._divides_pixels(a if a.unit == "px" else b, b if a.unit == "px" else a, node)
        return Numeric(a.term.times(b.term.constant), unit)

    def _over(self, a: Numeric, b: Numeric, node: s.Expr) -> Numeric:
        if b.term.constant == 0:
            raise self.scope.problem("E225", "this divides by zero", node)
        unit = "" if a.unit == b.unit else product_unit(a.unit, b.unit) if b.unit in ("", "%", MIXED) else None
        if unit is None:
            raise self.scope.problem("E207", f"{describe(a)} cannot be divided by {describe(b)}", node)
        self._divides_pixels(a, Numeric(Term((), 1 / b.term.constant), b.unit), node)
        return Numeric(a.term.times(1 / b.term.constant), unit)

    def _divides_pixels(self, pixels: Numeric, factor: Numeric, node: s.Expr) -> None:
        """Refuses pixels over 255: a pixel is that step already."""
        if pixels.unit == "px" and factor.unit == "" and factor.term.constant in (Fraction(1, 255), Fraction(1, 256)):
            message = "a pixel is a 255th of the range already: this would be a 255th of a pixel"
            raise self.scope.problem("E207", message, node, "write `8px` or `8/255`, not `8px/255`")

    # Comparisons

    def _comparison(self, chain: s.Chain) -> Condition:
        model = next((m for o in chain.operands if (m := self._winner_model(o)) is not None), None)
        values = [self.value(o) if model is None else self.value_or_class(o, model) for o in chain.operands]
        parts = [
            self.compare(values[i], operator, values[i + 1], chain.operands[i + 1])
            for i, operator in enumerate(chain.operators)
        ]
        return Condition(parts[0] if len(parts) == 1 else And(tuple(parts)))

    def value_or_class(self, operand: s.Expr, model: Definition) -> Meaning:
        """What an operand stands for where it may also be the name of a class of a model."""
        place = self._named_output(model, operand)
        if place is not None:
            return Numeric(Term((), Fraction(place)))
        if isinstance(operand, s.Ref) and self._is_unknown(operand):
            raise self._no_output(model, operand, operand.name)
        return self.value(operand)

    def _is_unknown(self, node: s.Ref) -> bool:
        """Whether a lone name stands for nothing here."""
        known = len(node.parts) > 1 or node.name in self.local or node.name in NORMS
        return not known and self.scope.look_up(node) is None

    def _named_output(self, model: Definition, node: s.Expr) -> int | None:
        """The index of an output that is given by its name, perhaps in quotes; None if it is given otherwise."""
        places = listed_places(model, "outputs")
        if isinstance(node, s.Text):
            if node.value not in places:
                raise self._no_output(model, node, node.value)
            return places[node.value]
        if isinstance(node, s.Ref) and node.name in places and node.name not in self.local:
            other = self.scope.look_up(node)
            if other is not None and other.kind in ("param", "let") and other.scope is not model.scope:
                message = f"`{node.name}` is an output of `{model.full_name}` and {KINDS[other.kind]}"
                raise self.scope.problem("E202", message, node, "rename one of them, or write the output in quotes")
            return places[node.name]
        return None

    def _no_output(self, model: Definition, node: s.Expr, name: str) -> AbortError:
        names = output_names(model)
        hint = self.hints.get(name) or did_you_mean(name, names)
        if not hint and names:
            hint = f"the outputs are {', '.join(map(written, names[:8]))}"
        hint = hint or f"its outputs have no names: use numbers, or give the model `outputs: [{written(name)}, ...]`"
        return self.scope.problem("E201", f"`{model.full_name}` has no output `{name}`", node, hint)

    def _winner_model(self, operand: s.Expr) -> Definition | None:
        """The model whose argmax or argmin an operand is, to know the names its class may be compared with."""
        function = operand.function if isinstance(operand, s.Call) else None
        if function is None or function.quoted or function.name not in ("argmax", "argmin"):
            return None
        value = self.value(operand)
        return value.model if isinstance(value, Winner) else None

    def compare(self, a: Meaning, operator: str, b: Meaning, node: s.Expr) -> Formula:
        """``a operator b``; ``node`` is what problems are reported of."""
        if isinstance(a, Winner) or isinstance(b, Winner):
            winner, other = (a, b) if isinstance(a, Winner) else (b, a)
            assert isinstance(winner, Winner)
            return self._compare_winner(winner, operator, other, node)
        if not isinstance(a, Numeric) or not isinstance(b, Numeric):
            raise self.scope.problem("E206", f"{describe(a)} and {describe(b)} cannot be compared", node)
        if a.unit != b.unit and not (a.unit in NUMBERS and b.unit in NUMBERS):
            raise self.scope.problem("E207", f"{describe(a)} and {describe(b)} cannot be compared", node)
        difference = a.term.plus(b.term, Fraction(-1))
        for _, number in (*difference.coefficients, (None, difference.constant)):
            self.bounded(number, node)
        return compare_terms(difference, operator)

    def _compare_winner(self, winner: Winner, operator: str, other: Meaning, node: s.Expr) -> Formula:
        if operator not in ("==", "!="):
            raise self.scope.problem(
                "E206", f"classes have no order: `{operator}` says nothing", node, "use `==` or `!=`"
            )
        formula = ArgIs(winner.kind, self.class_term(winner, other, node))
        return formula if operator == "==" else Not(formula)

    def class_term(self, winner: Winner, other: Meaning, node: s.Expr) -> Term:
        """What an argmax is compared with, as a class: a constant or the label."""
        if isinstance(other, Winner):
            raise self.scope.problem("E911", "comparing two networks' classes is not supported yet", node)
        if not isinstance(other, Numeric) or other.unit:
            raise self.scope.problem(
                "E206", f"an {winner.kind} is compared with a class; this is {describe(other)}", node
            )
        if any(not isinstance(v, Label) for v, _ in other.term.coefficients):
            raise self.scope.problem("E206", f"an {winner.kind} is compared with a class, not with outputs", node)
        names = listed_places(winner.model, "outputs")
        target = other.term.constant
        beyond = target >= len(names) if names else target > MOST
        if other.term.is_constant and (target.denominator != 1 or target < 0 or beyond):
            many = f"`{winner.model.full_name}` has {len(names)}" if names else "they are whole numbers"
            raise self.scope.problem("E224", "this is no index of an output", node, f"{many}, counted from 0")
        return other.term


def compare_terms(difference: Term, operator: str) -> Formula:
    """``difference operator 0``."""
    negative = difference.times(Fraction(-1))
    match operator:
        case ">":
            return Atom(difference, True)
        case ">=":
            return Atom(difference, False)
        case "<":
            return Atom(negative, True)
        case "<=":
            return Atom(negative, False)
        case "==":
            return And((Atom(difference, False), Atom(negative, False)))
        case _:
            return Or((Atom(difference, True), Atom(negative, True)))


def output_names(model: Definition) -> tuple[str, ...]:
    """The names a model's declaration gives its outputs; unresolved models have none."""
    return tuple(listed_places(model, "outputs"))


def listed_name(item: s.Expr) -> str | None:
    """What an item of a list of names says; None if it is no name."""
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
    """What is said of outputs and how they are named: ``logits``, ``[cat, dog]`` or ``logits [cat, dog]``."""
    match value:
        case s.ListExpr(items):
            return None, items
        case s.Index(word, s.ListExpr(items)):
            return word, items
        case s.Index(word, name):
            return word, (name,)
        case s.Block() | s.Schedule() | s.Budget():
            return None, ()
        case _:
            return value, ()
