"""Comparisons, and the classes and sets of classes that they are of."""

from __future__ import annotations

from fractions import Fraction

from tfcert.catalog import NORMS
from tfcert.language.check.arithmetic import bounded, number_of
from tfcert.language.check.declared import listed_places, output_names
from tfcert.language.check.evaluator import Evaluator
from tfcert.language.check.scope import KINDS, Definition, did_you_mean
from tfcert.language.check.values import (
    MEASURED,
    MIXED,
    NUMBERS,
    ClassSet,
    Condition,
    Meaning,
    Numeric,
    TopOutputs,
    Winner,
    describe,
)
from tfcert.language.spec.formula import (
    And,
    ArgIs,
    Atom,
    Feature,
    Formula,
    InTop,
    Label,
    Not,
    Or,
    SameClass,
    SampleFeature,
    Term,
)
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError
from tfcert.language.text.names import written

MOST = 2**31 - 1
"""The largest whole number that anything is counted with."""


def comparison(e: Evaluator, chain: s.Chain) -> Condition:
    """The condition of a chain of comparisons: all of them."""
    model = next((m for o in chain.operands if (m := _winner_model(e, o)) is not None), None)
    values = [e.value(o) if model is None else value_or_class(e, o, model) for o in chain.operands]
    parts = [
        compare(e, values[i], operator, values[i + 1], chain.operands[i + 1])
        for i, operator in enumerate(chain.operators)
    ]
    return Condition(parts[0] if len(parts) == 1 else And(tuple(parts)))


def value_or_class(e: Evaluator, operand: s.Expr, model: Definition) -> Meaning:
    """The meaning of an operand that may also be the name of a class of a model."""
    place = named_output(e, model, operand)
    if place is not None:
        return Numeric(Term((), Fraction(place)))
    if isinstance(operand, s.Ref) and is_unknown(e, operand):
        raise no_output(e, model, operand, operand.name)
    return e.value(operand)


def is_unknown(e: Evaluator, node: s.Ref) -> bool:
    """True for a lone name that stands for nothing here."""
    known = len(node.parts) > 1 or node.name in e.local or node.name in NORMS
    return not known and e.scope.look_up(node) is None


def named_output(e: Evaluator, model: Definition, node: s.Expr) -> int | None:
    """The index of an output that is given by its name, perhaps in quotes; None if it is given otherwise."""
    places = listed_places(model, "outputs")
    if isinstance(node, s.Text):
        if node.value not in places:
            raise no_output(e, model, node, node.value)
        return places[node.value]
    if isinstance(node, s.Ref) and node.name in places and node.name not in e.local:
        other = e.scope.look_up(node)
        if other is not None and other.kind in ("param", "let") and other.scope is not model.scope:
            message = f"`{node.name}` is an output of `{model.full_name}` and {KINDS[other.kind]}"
            raise e.scope.problem("E202", message, node, "rename one of them, or write the output in quotes")
        return places[node.name]
    return None


def no_output(e: Evaluator, model: Definition, node: s.Expr, name: str) -> AbortError:
    """Reports that a model has no output of that name; to be raised."""
    names = output_names(model)
    hint = e.hints.get(name) or did_you_mean(name, names)
    if not hint and names:
        hint = f"the outputs are {', '.join(map(written, names[:8]))}"
    hint = hint or f"its outputs have no names: use numbers, or give the model `outputs: [{written(name)}, ...]`"
    return e.scope.problem("E201", f"`{model.full_name}` has no output `{name}`", node, hint)


def _winner_model(e: Evaluator, operand: s.Expr) -> Definition | None:
    """The model whose argmax or argmin an operand is, to know the names its class may be compared with."""
    function = operand.function if isinstance(operand, s.Call) else None
    if function is None or function.quoted or function.name not in ("argmax", "argmin"):
        return None
    value = e.value(operand)
    return value.model if isinstance(value, Winner) else None


def set_members(group: ClassSet) -> list[tuple[Evaluator, s.Expr]]:
    """The members of a set, each with the evaluator of the text that it stands in; sets within it are opened."""
    found: list[tuple[Evaluator, s.Expr]] = []
    for member in group.members:
        home: Evaluator = group.home
        inner = home.value(member) if isinstance(member, s.SetExpr) or _names_value(home, member) else None
        found += set_members(inner) if isinstance(inner, ClassSet) else [(home, member)]
    return found


def _names_value(e: Evaluator, node: s.Expr) -> bool:
    """Tells whether a lone name stands for a value here: a variable, a parameter or a definition without arguments."""
    if not isinstance(node, s.Ref):
        return False
    found = e.scope.look_up(node)
    if len(node.parts) == 1 and node.name in e.local:
        return True
    return found is not None and (found.kind == "param" or (found.kind == "let" and not found.node.parameters))


def class_group(e: Evaluator, node: s.Expr) -> ClassSet | None:
    """The set that an index is, if it is one."""
    if isinstance(node, s.SetExpr) or _names_value(e, node):
        value = e.value(node)
        return value if isinstance(value, ClassSet) else None
    return None


def class_terms(e: Evaluator, group: ClassSet, model: Definition, of: int) -> list[Term]:
    """The classes of a model, constants or the label, that are in a set."""
    winner = Winner("argmax", model, of)
    return [class_term(e, winner, value_or_class(home, m, model), m) for home, m in set_members(group)]


def _compare_top(e: Evaluator, top: TopOutputs, operator: str, other: Meaning, node: s.Expr) -> Formula:
    """``top(f(z), 2) == {a, b}``."""
    if not isinstance(other, ClassSet) or operator not in ("==", "!="):
        message = f"the largest outputs are compared with a set of classes by `==` or `!=`; this is {describe(other)}"
        raise e.scope.problem("E206", message, node, "write `top(f(z), 2) == {a, b}`, or `y in top(f(z), 2)`")
    targets = tuple(dict.fromkeys(class_terms(e, other, top.model, top.of)))
    known = sum(t.is_constant for t in targets)
    if known > top.count or (known == len(targets) < top.count):
        message = f"a set of {len(targets)} is never that of the {top.count} largest outputs"
        raise e.scope.problem(
            "E206", message, node, f"name {top.count}, or ask for each: `a in top(f(z), {top.count})`"
        )
    formula = InTop(targets, top.count, top.of, exactly=True)
    return formula if operator == "==" else Not(formula)


def compare(e: Evaluator, a: Meaning, operator: str, b: Meaning, node: s.Expr) -> Formula:
    """``a operator b``; ``node`` is what problems are reported of."""
    if isinstance(a, TopOutputs) or isinstance(b, TopOutputs):
        top, group = (a, b) if isinstance(a, TopOutputs) else (b, a)
        assert isinstance(top, TopOutputs)
        return _compare_top(e, top, operator, group, node)
    if isinstance(a, Winner) or isinstance(b, Winner):
        winner, other = (a, b) if isinstance(a, Winner) else (b, a)
        assert isinstance(winner, Winner)
        return _compare_winner(e, winner, operator, other, node)
    a, b = number_of(e, a, node), number_of(e, b, node)
    if not isinstance(a, Numeric) or not isinstance(b, Numeric):
        raise e.scope.problem("E206", f"{describe(a)} and {describe(b)} cannot be compared", node)
    if a.unit != b.unit and not (a.unit in NUMBERS and b.unit in NUMBERS):
        fix = next((MEASURED[n.unit] for n in (a, b) if n.unit in MEASURED), "")
        raise e.scope.problem("E207", f"{describe(a)} and {describe(b)} cannot be compared", node, fix)
    difference = a.term.plus(b.term, Fraction(-1))
    if {a.unit, b.unit} & {"%", MIXED} and any(
        isinstance(v, Feature | SampleFeature) for v, _ in difference.coefficients
    ):
        message = "a percentage is no value of an input"
        raise e.scope.problem("E207", message, node, "write a plain number, in the units in which inputs are stored")
    for _, number in (*difference.coefficients, (None, difference.constant)):
        bounded(e, number, node)
    return _compare_terms(difference, operator)


def _compare_winner(e: Evaluator, winner: Winner, operator: str, other: Meaning, node: s.Expr) -> Formula:
    if operator not in ("==", "!="):
        raise e.scope.problem("E206", f"classes have no order: `{operator}` says nothing", node, "use `==` or `!=`")
    if isinstance(other, Winner):
        formula: Formula = _same_class(e, winner, other, node)
    else:
        formula = ArgIs(winner.kind, class_term(e, winner, other, node), winner.of)
    return formula if operator == "==" else Not(formula)


def _same_class(e: Evaluator, one: Winner, other: Winner, node: s.Expr) -> Formula:
    """``argmax(f(z)) == argmax(g(z))``, of networks that do not name their classes differently."""
    names = [output_names(w.model) for w in (one, other)]
    if all(names) and names[0] != names[1]:
        message = f"`{one.model.full_name}` and `{other.model.full_name}` name their outputs differently"
        raise e.scope.problem("E206", message, node, "give both the same names in the same order, or leave them out")
    return SameClass((one.kind, other.kind), (one.of, other.of))


def class_term(e: Evaluator, winner: Winner, other: Meaning, node: s.Expr) -> Term:
    """The class, a constant or the label, that an argmax is compared with."""
    if isinstance(other, Winner):
        message = f"a set of classes has constants and labels; this is {describe(other)}"
        raise e.scope.problem("E206", message, node, "write `==`, and join alternatives by `or`")
    if not isinstance(other, Numeric) or other.unit:
        raise e.scope.problem("E206", f"an {winner.kind} is compared with a class; this is {describe(other)}", node)
    if any(not isinstance(v, Label) for v, _ in other.term.coefficients):
        raise e.scope.problem("E206", f"an {winner.kind} is compared with a class, not with outputs", node)
    names = listed_places(winner.model, "outputs")
    target = other.term.constant
    beyond = target >= len(names) if names else target > MOST
    if other.term.is_constant and (target.denominator != 1 or target < 0 or beyond):
        many = f"`{winner.model.full_name}` has {len(names)}" if names else "they are whole numbers"
        raise e.scope.problem("E224", "this is no index of an output", node, f"{many}, counted from 0")
    return other.term


def _compare_terms(difference: Term, operator: str) -> Formula:
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
