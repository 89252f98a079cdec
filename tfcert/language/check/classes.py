"""Sets of classes: what ``argmax(f) in {a, b}`` stands for, and which formulas are read as such.

``argmax(f) == a or argmax(f) == b`` taken literally is false where a and b tie above all other outputs, although the
network answers one of the two there. On a region that such a tie crosses it could be neither proven nor refuted in
earnest, so it is read as the set ``{a, b}``; ``argmax(f) != a and argmax(f) != b``, its exact negation, is likewise.
"""

from __future__ import annotations

from collections.abc import Iterator

from tfcert.language.check.evaluator import Evaluator
from tfcert.language.check.operators import class_term, class_terms, compare, set_members, value_or_class
from tfcert.language.check.values import ClassSet, Condition, Outputs, TopOutputs, Winner, describe
from tfcert.language.spec.formula import And, ArgIn, ArgIs, Formula, InTop, Not, Or, Term, negation
from tfcert.language.text import syntax as s


def membership(e: Evaluator, node: s.Member) -> Condition:
    """Reads ``... in {...}``: a set of classes of an argmax, or equality with one of some numbers."""
    formula = _in_set(e, node.operand, ClassSet(node.members, e))
    return Condition(Not(formula) if node.negated else formula)


def among(e: Evaluator, node: s.Among) -> Condition:
    """Reads ``... in animals`` and ``... in top(f(z), 3)``."""
    group = e.value(node.group)
    match group:
        case ClassSet():
            formula = _in_set(e, node.operand, group)
        case TopOutputs(model, count, of):
            value = value_or_class(e, node.operand, model)
            if isinstance(value, Winner):
                message = f"an {value.kind} cannot be looked for among the largest outputs"
                fix = "say it of a class, as `y in top(f(z), 3)`, or of each of some"
                raise e.scope.problem("E206", message, node.operand, fix)
            formula = InTop((class_term(e, Winner("argmax", model, of), value, node.operand),), count, of)
        case _:
            message = f"what follows `in` must be a set of classes; this is {describe(group)}"
            fix = "write `in {2, 3}`, the name of a set (`let animals = {2, 3}`), or `in top(f(z), 3)`"
            raise e.scope.problem("E206", message, node.group, fix)
    return Condition(Not(formula) if node.negated else formula)


def _in_set(e: Evaluator, operand: s.Expr, group: ClassSet) -> Formula:
    value = e.value(operand)
    if isinstance(value, Outputs):
        fix = "write `argmax(f(z)) in {...}` for the class"
        raise e.scope.problem("E206", "all outputs of a network are in no set of classes", operand, fix)
    if isinstance(value, Winner):
        return _arg_in(value.kind, value.of, class_terms(e, group, value.model, value.of))
    return Or(tuple(compare(e, value, "==", home.value(m), m) for home, m in set_members(group)))


def _arg_in(kind: str, of: int, targets: list[Term]) -> Formula:
    distinct = tuple(dict.fromkeys(targets))
    return ArgIs(kind, distinct[0], of) if len(distinct) == 1 else ArgIn(kind, distinct, of)


def merge_classes(formula: Formula) -> Formula:
    """The formula with alternatives of classes joined to sets, also within negations.

    Among the parts of a disjunction, those that say in which class the network is become one set; among the parts of a
    conjunction, those that say in which class it is not. Where no two outputs tie, nothing changes.
    """
    match formula:
        case Not(part):
            return negation(merge_classes(part))
        case And() | Or():
            return _merged(formula)
        case _:
            return formula


def _merged(formula: And | Or) -> Formula:
    conjunction = isinstance(formula, And)
    targets: dict[tuple[str, int], list[Term]] = {}
    parts: list[Formula | tuple[str, int]] = []
    for part in _parts(formula, conjunction):
        said = negation(part) if conjunction else part
        if not isinstance(said, ArgIs | ArgIn):
            parts.append(part)
            continue
        key = said.kind, said.of
        if key not in targets:
            parts.append(key)
        targets.setdefault(key, []).extend(said.targets if isinstance(said, ArgIn) else [said.target])
    sets = {key: _arg_in(*key, found) for key, found in targets.items()}
    joined = {key: negation(found) if conjunction else found for key, found in sets.items()}
    kept = tuple(joined[part] if isinstance(part, tuple) else part for part in parts)
    if len(kept) == 1:
        return kept[0]
    return And(kept) if conjunction else Or(kept)


def _parts(formula: And | Or, conjunction: bool) -> Iterator[Formula]:
    """The parts, merged; in place of a nested formula of the same kind that speaks of classes, its parts.

    By De Morgan's laws, a negated formula of the other kind is one of the same kind.
    """
    for part in formula.parts:
        merged = merge_classes(part)
        inner: tuple[Formula, ...] = ()
        if isinstance(merged, And if conjunction else Or):
            inner = merged.parts
        elif isinstance(merged, Not) and isinstance(merged.part, Or if conjunction else And):
            inner = tuple(map(negation, merged.part.parts))
        classes = (negation(p) if conjunction else p for p in inner)
        if any(isinstance(p, ArgIs | ArgIn) for p in classes):
            yield from inner
        else:
            yield merged
