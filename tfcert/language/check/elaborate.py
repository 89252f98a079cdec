"""From expressions to what they stand for: types, units, linearity, and definitions expanded within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from tfcert.catalog import NORMS
from tfcert.language.check.arithmetic import number_of, power_of, product_of, sum_of
from tfcert.language.check.asked import Mentions, NamedNumber
from tfcert.language.check.calls import BUILTINS, ORDINARY, call_builtin
from tfcert.language.check.classes import among, membership
from tfcert.language.check.declared import listed_places
from tfcert.language.check.heads import called_part, named_part
from tfcert.language.check.lists import list_of
from tfcert.language.check.operators import (
    MOST,
    class_group,
    class_terms,
    comparison,
    is_unknown,
    named_output,
    no_output,
)
from tfcert.language.check.params import resolve_param
from tfcert.language.check.scope import KINDS, Definition, Scope, did_you_mean
from tfcert.language.check.values import (
    MEASURED,
    NUMBERS,
    UNITS,
    Agreed,
    ClassSet,
    Condition,
    Inputs,
    Items,
    Meaning,
    Norm,
    Numeric,
    Outputs,
    Words,
    describe,
    is_normal,
)
from tfcert.language.spec.formula import (
    And,
    Feature,
    Formula,
    Label,
    Not,
    Or,
    Output,
    SampleFeature,
    SampleOutput,
    Term,
    TruthConstant,
    variable_term,
)
from tfcert.language.spec.points import AppliedTo, AtAnswer, AtPoint, AtSample
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError, Span
from tfcert.language.text.slips import function_slip, value_slip

LABEL_TERM = variable_term(Label())


@dataclass
class Elaborator:
    """Finds what expressions of one scope stand for.

    Attributes:
        scope: where names are looked up and problems reported.
        local: variables of the construct: samples, quantified variables, parameters of a ``let``.
        asked: the networks applied and the numbers of inputs named so far; shared with the expansions of definitions.
        hints: what to do about names that are not known here, but may be expected to be.
    """

    scope: Scope
    local: Mapping[str, Meaning] = field(default_factory=dict)
    asked: Mentions = field(default_factory=Mentions)
    hints: Mapping[str, str] = field(default_factory=dict)

    def elsewhere(self, scope: Scope) -> Elaborator:
        """An elaborator of another text, without local variables."""
        return Elaborator(scope)

    def also(self, name: str, value: Meaning) -> Elaborator:
        """An elaborator with one more local variable."""
        return replace(self, local={**self.local, name: value})

    # What callers want

    def number(self, expression: s.Expr, what: str, unit: str = "") -> Fraction:
        """A constant of a dimension."""
        value = self.numeric(expression, what)
        if not value.term.is_constant:
            raise self.scope.problem("E206", f"{what} must be a constant", expression)
        if value.unit != unit and not (unit == "" and value.unit in NUMBERS):
            self._wrong_unit(what, value, unit, expression)
        return self.usable(value.term.constant, what, expression)

    def usable(self, number: Fraction, what: str, node: s.SyntaxNode | Span) -> Fraction:
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

    def whole_numbers(self, expression: s.Expr, what: str) -> list[int]:
        """The items of a list, each a whole constant that is not negative, nor above ``MOST``."""
        value = self.value(expression)
        found: list[int] = []
        for item in value.values if isinstance(value, Items) else (value,):
            whole = isinstance(item, Numeric) and not item.unit and item.term.is_constant
            number = item.term.constant if whole and isinstance(item, Numeric) else Fraction(-1)
            if number.denominator != 1 or number < 0:
                raise self.scope.problem("E206", f"{what} must be a whole number, at least 0", expression)
            if number > MOST:
                raise self.scope.problem("E247", f"{what} must be a whole number, at most {MOST}", expression)
            found.append(int(number))
        return found

    def numeric(self, expression: s.Expr, what: str) -> Numeric:
        """A number, constant or not."""
        value = number_of(self, self.value(expression), expression)
        if not isinstance(value, Numeric):
            raise self.scope.problem("E206", f"{what} must be a number; this is {describe(value)}", expression)
        return value

    def formula(self, expression: s.Expr, what: str = "this") -> Formula:
        """A condition."""
        value = self.value(expression)
        if isinstance(value, Agreed):
            fix = "write it after `where` of the quantified inputs, joined to other conditions by `and`"
            raise self.scope.problem("E206", f"{what} cannot be an agreement of two inputs", expression, fix)
        if not isinstance(value, Condition):
            raise self.scope.problem("E206", f"{what} must be a condition; this is {describe(value)}", expression)
        return value.formula

    def _wrong_unit(self, what: str, value: Numeric, unit: str, node: s.SyntaxNode) -> None:
        expected = {"": "a plain number", "px": "pixels", "s": "a time, e.g. `60s`"}[unit]
        fix = MEASURED.get(value.unit, "") if unit == "" else ""
        raise self.scope.problem("E207", f"{what} must be {expected}, not {describe(value)}", node, fix)

    # Expressions

    def value(self, expression: s.Expr) -> Meaning:
        """The value of an expression."""
        with self.scope.step(expression):
            match expression:
                case s.Number(_, number, unit):
                    factor, dimension = UNITS[unit]
                    return Numeric(Term((), number * factor), dimension)
                case s.Text(text):
                    return Words(text)
                case s.Boolean(truth):
                    return Condition(TruthConstant(truth))
                case s.Ref():
                    return self._ref(expression)
                case s.Call():
                    return self._call(expression)
                case s.CalledPart():
                    part, call = called_part(self, expression)
                    return self._apply_model(call, part)
                case s.OutputPart():
                    part, call = named_part(self, expression)
                    return self._apply_model(call, part)
                case s.Index():
                    return self._index(expression)
                case s.ListExpr() | s.Comprehension():
                    return list_of(self, expression)
                case s.RangeNode():
                    raise self.scope.problem("E206", "a range is a part of a list", expression, "write `[1 .. 9]`")
                case s.Shares():
                    message = "`[name: value]` says what each input has, and this is asked of no input"
                    raise self.scope.problem("E205", message, expression, "write it after `eps=` in a `ball`")
                case s.OfCorrect():
                    message = "`of correct` is about results: it stands in assertions and reports"
                    fix = "which samples are asked about is said by `where` after the data set"
                    raise self.scope.problem("E206", message, expression, fix)
                case s.Unary("not", operand):
                    return Condition(Not(self.formula(operand, "what follows `not`")))
                case s.Unary(_, operand):
                    inner = self.numeric(operand, "what follows `-`")
                    return Numeric(inner.term.times(Fraction(-1)), inner.unit)
                case s.Chain():
                    return self._chain(expression)
                case s.Member():
                    return membership(self, expression)
                case s.Among():
                    return among(self, expression)
                case s.SetExpr(members):
                    return ClassSet(members, self)
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
            return Elaborator(found.scope, {}, self.asked).value(found.node.value)
        raise self.scope.problem("E204", f"`{ref.name}` is {KINDS[found.kind]}, not a value", ref)

    # Calls

    def _call(self, call: s.Call) -> Meaning:
        name = call.function.name
        if name in ORDINARY and not self._is_defined(call.function):
            return call_builtin(self, call)
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

    def _is_defined(self, function: s.Ref) -> bool:
        """Tells whether a name stands for something that can be applied, or for a variable."""
        found = self.scope.look_up(function)
        known = function.name in self.local or function.name in self.scope.session.bound
        return known or function.quoted or (found is not None and found.kind in ("model", "let"))

    def positional(self, call: s.Call, least: int, most: int | None = None) -> list[s.Expr]:
        """The arguments of a call that takes no named ones."""
        name, most = call.function.name, least if most is None else most
        for argument in call.arguments:
            if argument.name is not None or isinstance(argument.value, s.IntervalNode):
                raise self.scope.problem("E205", f"`{name}` takes no named argument", argument)
        if not least <= len(call.arguments) <= most:
            wanted = f"{least} argument{'s' * (least != 1)}" if least == most else f"at least {least} arguments"
            raise self.scope.problem("E205", f"`{name}` takes {wanted}, not {len(call.arguments)}", call)
        return [a.value for a in call.arguments if not isinstance(a.value, s.IntervalNode)]

    def _apply_let(self, call: s.Call, found: Definition) -> Meaning:
        names = [p.text for p in found.node.parameters]
        values = [self.value(a) for a in self.positional(call, len(names))]
        return Elaborator(found.scope, dict(zip(names, values, strict=True)), self.asked).value(found.node.value)

    def _apply_model(self, call: s.Call, found: Definition) -> Meaning:
        given = self.positional(call, 1, max(1, len(listed_places(found, "inputs"))))
        arguments = tuple(self._argument(node) for node in given)
        inputs = listed_places(found, "inputs")
        if 1 < len(arguments) < len(inputs):
            message = f"`{found.full_name}` has the inputs {', '.join(inputs)}, and is applied to {len(arguments)}"
            raise self.scope.problem("E205", message, call, "apply it to one for each, or to one that holds all")
        number = self.asked.apply(self.scope, found, arguments, call)
        return Outputs(found, number, self.asked.is_fixed(number))

    def _argument(self, argument: s.Expr) -> AppliedTo:
        """What a network is applied to: a point, the sample, or what another network answers."""
        if isinstance(argument, s.Ref) and is_unknown(self, argument):
            fix = "apply the network to the variable of `forall` or `exists`"
            raise self.scope.problem("E201", f"the name `{argument.name}` is not known", argument, fix)
        match value := self.value(argument):
            case Inputs(_, None):
                return AtSample()
            case Inputs(_, int(point)):
                return AtPoint(point)
            case Outputs():
                return AtAnswer(value.of)
            case _:
                message = f"a network is applied to an input; this is {describe(value)}"
                raise self.scope.problem("E206", message, argument)

    # Indexing

    def _index(self, node: s.Index) -> Meaning:
        base = self.value(node.base)
        match base:
            case Outputs(model, of, fixed):
                group = class_group(self, node.index) if named_output(self, model, node.index) is None else None
                if group is not None:
                    return self._outputs_of(base, group, node.index)
                index = self._output(model, node.index)
                return Numeric(variable_term(SampleOutput(index, of) if fixed else Output(index, of)))
            case Inputs(_, point):
                place = self.place(base, node.index)
                return Numeric(variable_term(SampleFeature(place) if point is None else Feature(place, point)))
            case Items(values):
                place = self.whole(node.index, "an index")
                if place >= len(values):
                    raise self.scope.problem("E224", f"the list has {len(values)} items, counted from 0", node.index)
                return values[place]
            case _:
                raise self.scope.problem(
                    "E206", f"only outputs and lists have indices; this is {describe(base)}", node.base
                )

    def place(self, of: Inputs, index: s.Expr) -> int:
        """What stands for one number of an input, by its name or place, until all networks are known."""
        if isinstance(index, s.Text):
            return self.asked.number(NamedNumber(of.point, index.value, self.scope, index))
        name = index.name if isinstance(index, s.Ref) and index.name not in self.local else ""
        if isinstance(index, s.Ref) and name and is_unknown(self, index):
            return self.asked.number(NamedNumber(of.point, name, self.scope, index))
        place = self.whole(index, f"a place in `{of.name}`")
        return self.asked.number(NamedNumber(of.point, place, self.scope, index, name))

    def _outputs_of(self, outputs: Outputs, group: ClassSet, node: s.Expr) -> Items:
        """Some of a network's outputs: ``f(z)[animals]``."""
        terms = dict.fromkeys(class_terms(self, group, outputs.model, outputs.of))
        if not all(t.is_constant for t in terms):
            message = "which outputs these are depends on the label"
            raise self.scope.problem("E206", message, node, "name the label's output by itself, `f(z)[y]`")
        kind = SampleOutput if outputs.fixed else Output
        return Items(tuple(Numeric(variable_term(kind(int(t.constant), outputs.of))) for t in terms))

    def _output(self, model: Definition, index: s.Expr) -> int | None:
        """The place of an output, None for that at the label."""
        names = listed_places(model, "outputs")
        place = named_output(self, model, index)
        if place is not None:
            return place
        if isinstance(index, s.Ref) and is_unknown(self, index):
            raise no_output(self, model, index, index.name)
        value = self.numeric(index, "the index of an output")
        if value.term == LABEL_TERM:
            return None
        place = self.whole(index, "the index of an output")
        if names and place >= len(names):
            raise self.scope.problem("E224", f"`{model.full_name}` has {len(names)} outputs, counted from 0", index)
        return place

    # Operators

    def _chain(self, chain: s.Chain) -> Meaning:
        match chain.operators[0]:
            case "+" | "-":
                return sum_of(self, chain)
            case "*" | "/":
                return product_of(self, chain)
            case "^":
                return power_of(self, chain)
            case "and":
                return Condition(And(self._conditions(chain)))
            case "or":
                return Condition(Or(self._conditions(chain)))
            case "=>":
                *premises, conclusion = self._conditions(chain)
                # `a => (b => c)`, flat: a chain may be longer than Python's stack.
                return Condition(Or((*map(Not, premises), conclusion)))
            case _:
                return comparison(self, chain)

    def _conditions(self, chain: s.Chain) -> tuple[Formula, ...]:
        return tuple(self.formula(o, f"what `{chain.operators[0]}` joins") for o in chain.operands)
