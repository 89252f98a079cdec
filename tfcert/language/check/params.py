"""Parameters: their values from the text or from outside, their types and intervals."""

from __future__ import annotations

from fractions import Fraction

from tfcert.language.check.evaluator import Evaluator
from tfcert.language.check.scope import Definition, Scope
from tfcert.language.check.values import NUMBERS, Condition, Meaning, Norm, Numeric, describe
from tfcert.language.spec.declarations import GivenValue
from tfcert.language.spec.formula import Term, TruthConstant, evaluate
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError, SourceText, Span
from tfcert.language.text.parser import parse_expression

_TYPES = {"real": "a number", "int": "a whole number", "bool": "`true` or `false`", "norm": "`linf`, `l2` or `l1`"}


def resolve_param(e: Evaluator, definition: Definition) -> Meaning:
    """The value of a parameter; found once. Problems are reported, and then AbortError is raised each time."""
    if definition.state == "busy":
        raise definition.scope.problem(
            "E006", f"the value of `{definition.name}` depends on itself", definition.node.name, "break the circle"
        )
    if definition.state == "failed":
        raise AbortError("E216")
    if definition.state == "new":
        definition.state = "busy"
        try:
            definition.result = _find_value(e, definition)
        except AbortError:
            definition.state = "failed"
            raise
        definition.state = "done"
    result: Meaning = definition.result
    return result


def _find_value(e: Evaluator, definition: Definition) -> Meaning:
    node: s.ParamStatement = definition.node
    session = definition.scope.session
    if definition.full_name in session.overrides:
        session.used_overrides.add(definition.full_name)
        given = session.overrides[definition.full_name]
        outside = Scope(SourceText(_origin(given, f"--set {definition.full_name}"), _as_text(given)), session)
        expression = parse_expression(outside.source, session.diagnostics)
        if expression is None:
            raise AbortError("E101")
        inner = e.elsewhere(outside)
    elif definition.name in definition.scope.given:
        home, expression = definition.scope.given[definition.name]
        inner = e.elsewhere(home)
    elif node.value is None:
        raise definition.scope.problem(
            "E217",
            f"the parameter `{node.name.text}` has no value",
            node.name,
            f"write `= ...`, or give `--set {definition.full_name}=...`",
        )
    else:
        expression, inner = node.value, e.elsewhere(definition.scope)
    value = of_type(inner.value(expression), node.type, inner.scope, expression)
    if node.interval is not None:
        require_in_interval(e.elsewhere(definition.scope), value, node.interval, (inner.scope, expression))
    return value


def _as_text(given: object) -> str:
    """A value given from Python as the text one would write; a float means its shortest decimal."""
    return ("true" if given else "false") if isinstance(given, bool) else str(given)


def _origin(given: object, otherwise: str) -> str:
    return given.origin if isinstance(given, GivenValue) else otherwise


def of_type(value: Meaning, kind: str, scope: Scope, node: s.Expr) -> Meaning:
    """The value, if it is of a type; reports and leaves otherwise."""
    match value:
        case Numeric(Term((), number), unit) if kind == "real" or (kind == "int" and number.denominator == 1):
            if unit == "s":
                raise scope.problem("E207", f"a parameter of type `{kind}` cannot be a time", node)
            return value
        case Condition(formula) if kind == "bool":
            return Condition(TruthConstant(evaluate(formula, (), None)))
        case Norm() if kind == "norm":
            return value
    raise scope.problem("E206", f"a parameter of type `{kind}` must be {_TYPES[kind]}; this is {describe(value)}", node)


def require_in_interval(e: Evaluator, value: Meaning, interval: s.IntervalNode, place: tuple[Scope, s.Expr]) -> None:
    """Reports and leaves where a value lies outside of its interval, whose ends ``e`` knows."""
    scope, node = place
    if not isinstance(value, Numeric):
        raise e.scope.problem("E206", "only numbers have an interval", interval, "remove it")
    ends = [e.numeric(end, "an end of the interval") for end in (interval.low, interval.high)]
    for end, written in zip(ends, (interval.low, interval.high), strict=True):
        if not end.term.is_constant:
            raise e.scope.problem("E206", "an end of the interval must be a constant", written)
        if end.unit != value.unit and not (end.unit in NUMBERS and value.unit in NUMBERS):
            message = f"the value is {describe(value)}, but an end of its interval is {describe(end)}"
            raise scope.problem("E207", message, node)
    low, high = (end.term.constant for end in ends)
    if low > high:
        raise e.scope.problem("E209", "this interval is empty", interval)
    if not low <= value.term.constant <= high:
        message = f"the value {short(value.term.constant)} is outside [{short(low)}, {short(high)}]"
        raise scope.problem("E216", message, node, "choose a value inside, or widen the interval")


def short(number: Fraction) -> str:
    """A number for a message: exact if that is short."""
    text = str(number)
    if len(text) <= 12:
        return text
    try:
        return f"{float(number):.6g}"
    except OverflowError:
        return "a huge number" if number > 0 else "a hugely negative number"


def check_overrides(scope: Scope) -> None:
    """Report values given for parameters that do not exist, unless they may be for other specifications."""
    session = scope.session
    if session.shared:
        return
    names = [d.name for d in scope.definitions.values() if d.kind == "param"]
    for name in session.overrides:
        if name not in session.used_overrides:
            given = session.overrides[name]
            outside = Scope(SourceText(_origin(given, "--set"), f"{name}={_as_text(given)}"), session)
            hint = f"the parameters are {', '.join(names[:8])}" if names else "the specification has no parameter"
            outside.report("E201", f"there is no parameter `{name}`", Span(1, 1, 1, 1 + max(1, len(name))), hint)
