"""The syntax tree as text again: parsing the text gives the same tree."""

from __future__ import annotations

from typing import assert_never

from tfcert.language.text import syntax as s
from tfcert.language.text.names import written

# How tightly an expression holds together; an operand that holds less tightly goes into brackets.
_QUANTIFIED, _IMPLIES, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _UNARY, _POWER, _POSTFIX = range(11)
_EXPECTED = "expected fail "
_LEVELS = {"=>": _IMPLIES, "or": _OR, "and": _AND, "+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "^": _POWER}


def print_module(module: s.Module) -> str:
    """A whole specification, one statement a line."""
    needs = f' needs "{module.needs.value}"' if module.needs else ""
    return "\n".join([f"prop {module.version}{needs}", *map(print_statement, module.statements)]) + "\n"


def print_statement(statement: s.Statement) -> str:
    """One statement on one line."""
    match statement:
        case s.Import(path, name, arguments):
            given = f"({', '.join(map(_argument, arguments))})" if arguments else ""
            return f'import "{path.value}" as {_name(name)}{given}'
        case s.ParamStatement(name, kind, interval, value):
            within = f" in {_interval(interval)}" if interval else ""
            return f"param {_name(name)}: {kind}{within}" + (f" = {_plain(value)}" if value else "")
        case s.Resource(kind, name, source, choice, block):
            return f"{kind} {_name(name)} = {_plain(source)}{_choice(choice)}{_block(block)}"
        case s.StrategyStatement(name, stages, block):
            return f"strategy {_name(name)} = {' -> '.join(map(_stage, stages))}{_block(block)}"
        case s.DomainStatement(name, region):
            return f"domain {_name(name)} = {_base(region)}"
        case s.Let(name, parameters, value):
            inner = f"({_names(parameters)})" if parameters else ""
            return f"let {_name(name)}{inner} = {_plain(value)}"
        case s.Check(targets):
            return f"check {', '.join(map(print_expression, targets))}"
        case s.AssertStatement(condition, per_class, expect_fail):
            expected = _EXPECTED if expect_fail else ""
            return f"{expected}assert {_per_class(per_class)}{print_expression(condition)}"
        case s.ReportStatement(items):
            return f"report {_per_class(statement.per_class)}{', '.join(map(_plain, items))}"
        case s.ObjectiveStatement(name, target, block):
            return f"objective {_name(name)} for {print_expression(target)}{_block(block)}"
        case s.DistanceStatement(distance=distance):
            return f"measure {_head(statement)} = {_region(distance)}"
        case s.For(name, values, body):
            return f"for {_name(name)} in {_plain(values)} {{ {' '.join(map(print_statement, body))} }}"
        case s.PropertyStatement() | s.MeasureStatement() | s.ShareStatement():
            return _question(statement)
        case _:
            assert_never(statement)


def _head(statement: s.Question) -> str:
    """The name of a question, with what it is asked with and its samples."""
    formals = f"({', '.join(map(_formal, statement.formals))})" if statement.formals else ""
    return _name(statement.name) + formals + (_samples(statement.samples) if statement.samples else "")


def _formal(formal: s.Formal) -> str:
    within = f" in {_interval(formal.interval)}" if formal.interval else ""
    return f"{_name(formal.name)}: {formal.kind}{within}" + (f" = {_plain(formal.default)}" if formal.default else "")


def _question(statement: s.PropertyStatement | s.MeasureStatement | s.ShareStatement) -> str:
    using = f" using {_ref(statement.strategy)}" if statement.strategy else ""
    by = f" abstracted by {_ref(statement.abstraction)}" if statement.abstraction else ""
    formula = print_expression(statement.formula)
    if isinstance(statement, s.PropertyStatement):
        return f"{_EXPECTED if statement.expect_fail else ''}property {_head(statement)}{using}{by} {{ {formula} }}"
    head, tolerance = f"measure {_head(statement)} =", ""
    if statement.tolerance:
        tolerance = f" tol {_plain(statement.tolerance.value)} {statement.tolerance.relation}".rstrip()
    if isinstance(statement, s.ShareStatement):
        (binder,), where, body = statement.formula.binders, statement.formula.where, statement.formula.body
        of = _binder(binder) if binder.names else _region(binder.region)
        condition = f" where {_plain(where)}" if where else ""
        return f"{head} share of {of}{condition}{tolerance} such that {print_expression(body)}{using}{by}"
    if statement.radius is None:
        asked = statement.formula
        assert isinstance(asked, s.Quantified)
        bound = ", ".join(map(_binder, asked.binders))
        condition = f" where {_plain(asked.where)}" if asked.where else ""
        return f"{head} {statement.extremum} {_plain(asked.body)} over {bound}{condition}{tolerance}{using}{by}"
    within = f" in {_interval(statement.interval)}" if statement.interval else ""
    return f"{head} {statement.extremum} {_name(statement.radius)}{within}{tolerance} such that {formula}{using}{by}"


def _binder(binder: s.Binder) -> str:
    return f"{_names(binder.names)} in {_region(binder.region)}"


def _samples(samples: s.SamplesNode) -> str:
    where = f" where {_plain(samples.where)}" if samples.where else ""
    return f"({_names(samples.names)} in {_ref(samples.dataset)}{where}{_choice(samples.choice)})"


def _choice(steps: tuple[s.StepNode, ...]) -> str:
    written_as = {"per class": "take {} per class", "shuffle": "shuffle({})"}
    return "".join(" " + written_as.get(step.kind, f"{step.kind} {{}}").format(_plain(step.value)) for step in steps)


def _name(name: s.Name) -> str:
    return written(name.text) if name.quoted else name.text


def _ref(ref: s.Ref) -> str:
    return ".".join(map(written, ref.parts)) if ref.quoted else ref.name


def _per_class(name: s.Name | None) -> str:
    return f"per class {_name(name)}: " if name else ""


def _names(names: tuple[s.Name, ...]) -> str:
    return ", ".join(map(_name, names))


def _stage(stage: s.StageCall | s.Ref) -> str:
    if isinstance(stage, s.Ref):
        return _ref(stage)
    return stage.name.text + (f"({', '.join(map(_argument, stage.arguments))})" if stage.arguments else "")


def _block(block: s.Block | None) -> str:
    if block is None:
        return ""
    return " {" + "".join(f" {e.name.text}: {_value(e.value)}" for e in block.entries) + " }"


def _value(value: s.BlockValue) -> str:
    match value:
        case s.Block():
            return _block(value).lstrip()
        case s.ScheduleNode(start, end, unit, first, last, shape):
            ramp = f"{_plain(start)} -> {_plain(end)}"
            shaped = f", {shape.text}" if shape else ""
            return f"ramp({ramp}, {unit} {_plain(first)} .. {_plain(last)}{shaped})"
        case s.Budget(each, unit, total):
            parts = [f"{_plain(each)} per {unit}"] if each else []
            parts += [f"{_plain(total)} total"] if total else []
            return ", ".join(parts)
        case s.Index(base, s.ListExpr() as names) if len(names.items) > 1:
            return f"{_within(base, _POSTFIX)} {_plain(names)}"
        case _:
            return _plain(value)


def _interval(interval: s.IntervalNode) -> str:
    return f"[{_plain(interval.low)}, {_plain(interval.high)}]"


def _argument(argument: s.Argument) -> str:
    if isinstance(argument.value, s.IntervalNode):
        whole = "integers " if isinstance(argument.value, s.WholeNode) else ""
        return f"{written(str(argument.name))} in {whole}{_interval(argument.value)}"
    value = _plain(argument.value)
    return value if argument.name is None else f"{argument.name}={value}"


def _region(region: s.RegionNode) -> str:
    match region.within:
        case None:
            within = ""
        case s.Anything():
            within = " within anything"
        case s.Ref():
            within = f" within {_ref(region.within)}"
        case _:
            within = f" within {_interval(region.within)}"
    return _base(region.base) + within + (f" in {region.space}" if region.space else "")


def _base(base: s.RegionBase) -> str:
    match base:
        case s.IntervalNode():
            return _interval(base)
        case s.RegionNode():
            return f"({_region(base)})"
        case s.RegionChain(operator, operands):
            return f" {operator} ".join(map(_base, operands))
        case _:
            return _plain(base)


def print_expression(expression: s.Expr) -> str:
    """An expression or a formula on one line."""
    match expression:
        case s.Number(text=text):
            return text
        case s.Text(value):
            return f'"{value}"'
        case s.Boolean(value):
            return "true" if value else "false"
        case s.Ref():
            return _ref(expression)
        case s.Call(function, arguments):
            return f"{_ref(function)}({', '.join(map(_argument, arguments))})"
        case s.Index(base, index):
            return f"{_within(base, _POSTFIX)}[{_plain(index)}]"
        case s.OfCorrect(base):
            return f"{print_expression(base)} of correct"
        case s.Unary("-", operand):
            return f"-{_within(operand, _UNARY)}"
        case s.Unary(operator, operand):
            return f"{operator} {_within(operand, _NOT)}"
        case s.Chain((base, exponent), ("^",)):
            return f"{_within(base, _POSTFIX)}^{_within(exponent, _UNARY)}"
        case s.Chain(operands, operators):
            level = _level(expression) + 1
            parts = [_within(operands[0], level)]
            parts += [f"{op} {_within(o, level)}" for op, o in zip(operators, operands[1:], strict=True)]
            return " ".join(parts)
        case s.CalledPart(called, arguments):
            return f"{print_expression(called)}({', '.join(map(_argument, arguments))})"
        case s.OutputPart(base, name):
            return f"{print_expression(base)}.{_name(name)}"
        case s.Among(operand, negated, group):
            return f"{_within(operand, _SUM)} {'not in' if negated else 'in'} {print_expression(group)}"
        case s.SetExpr(members):
            return f"{{{', '.join(map(_plain, members))}}}"
        case s.Member(operand, negated, members):
            how = "not in" if negated else "in"
            return f"{_within(operand, _SUM)} {how} {{{', '.join(map(_plain, members))}}}"
        case s.ListExpr(items):
            return f"[{', '.join(map(_plain, items))}]"
        case s.RangeNode(low, high, step):
            return f"{_plain(low)} .. {_plain(high)}{f' by {_plain(step)}' if step else ''}"
        case s.Comprehension(item, clauses, where):
            listed = " ".join(f"for {_name(c.name)} in {_plain(c.values)}" for c in clauses)
            return f"[{_plain(item)} {listed}{f' where {_plain(where)}' if where else ''}]"
        case s.Shares(items):
            return f"[{', '.join(f'{_name(share.name)}: {_plain(share.value)}' for share in items)}]"
        case s.Quantified(quantifier, binders, where, body):
            bound = ", ".join(map(_binder, binders))
            condition = f" where {_plain(where)}" if where else ""
            return f"{quantifier} {bound}{condition}: {print_expression(body)}"
        case _:
            assert_never(expression)


def _level(expression: s.Expr) -> int:
    match expression:
        case s.Quantified():
            return _QUANTIFIED
        case s.Unary(operator, _):
            return _NOT if operator == "not" else _UNARY
        case s.Member() | s.Among():
            return _COMPARE
        case s.Chain(_, operators):
            return _LEVELS.get(operators[0], _COMPARE)
        case _:
            return _POSTFIX


def _within(expression: s.Expr, least: int) -> str:
    text = print_expression(expression)
    return f"({text})" if _level(expression) < least else text


def _plain(expression: s.Expr) -> str:
    """For where the grammar takes an expression but no bare quantifier."""
    return _within(expression, _IMPLIES)
