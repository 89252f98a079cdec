"""From lark's trees to the syntax tree. Depth is bounded by the parser, so recursion is safe here."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from lark import Token, Tree

from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import Diagnostics, SourceText, Span
from tfcert.language.text.names import is_plain

MAX_EXPONENT = 400
MAX_DIGITS = 400

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(?:[eE]([+-]?\d+))?([a-z%]*)")


def span_of(item: Any) -> Span:
    """The place of a token or of a tree; a tree without any token stands at the start."""
    meta: Any = item if isinstance(item, Token) else item.meta
    if getattr(meta, "line", None) is None or getattr(meta, "end_line", None) is None:
        return Span()
    return Span(meta.line, meta.column, meta.end_line, meta.end_column)


def _unquoted(token: Any) -> tuple[str, bool]:
    """A name's text, and whether it is a name only in quotes: others mean the same with and without."""
    text = str(token)
    if not text.startswith('"'):
        return text, False
    return text[1:-1], not is_plain(text[1:-1])


class TreeBuilder:
    """Builds the syntax tree of one text; numbers beyond the limits are reported and read as 0."""

    def __init__(self, source: SourceText, diagnostics: Diagnostics):
        self.source = source
        self.diagnostics = diagnostics

    def build(self, tree: Any) -> Any:
        """The node for a tree; a token stays what it is and nothing stays None."""
        if tree is None or isinstance(tree, Token):
            return tree
        method: Callable[[Tree[Token], Span], Any] = getattr(self, "_" + str(tree.data))
        return method(tree, span_of(tree))

    def _all(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(self.build(item) for item in items)

    def _name(self, token: Any) -> s.Name:
        text, quoted = _unquoted(token)
        return s.Name(text, quoted, span=span_of(token))

    def _text_of(self, token: Any) -> s.Text:
        return s.Text(str(token)[1:-1], span=span_of(token))

    # Statements

    def _start(self, t: Tree[Token], span: Span) -> s.Module:
        version = str(t.children[0])
        number = int(version) if len(version) < 10 else 0
        needs = None if t.children[1] is None else self._text_of(t.children[1])
        return s.Module(number, self._all(t.children[2:]), needs, span_of(t.children[0]), span=span)

    def _import(self, t: Tree[Token], span: Span) -> s.Import:
        path, name, arguments = t.children
        return s.Import(self._text_of(path), self._name(name), self.build(arguments) or (), span=span)

    def _param(self, t: Tree[Token], span: Span) -> s.ParamStatement:
        name, kind, interval, value = t.children
        return s.ParamStatement(self._name(name), str(kind), self.build(interval), self.build(value), span=span)

    def _resource(self, kind: str, parts: list[Any], choice: Any, span: Span) -> s.Resource:
        name, source, block = parts
        return s.Resource(
            kind, self._name(name), self.build(source), self.build(choice) or (), self.build(block), span=span
        )

    def _model(self, t: Tree[Token], span: Span) -> s.Resource:
        return self._resource("model", t.children, None, span)

    def _abstraction(self, t: Tree[Token], span: Span) -> s.Resource:
        return self._resource("abstraction", t.children, None, span)

    def _dataset(self, t: Tree[Token], span: Span) -> s.Resource:
        name, source, choice, block = t.children
        return self._resource("dataset", [name, source, block], choice, span)

    def _choice(self, t: Tree[Token], _: Span) -> tuple[s.StepNode, ...]:
        return self._all(t.children)

    def _step(self, t: Tree[Token], span: Span) -> s.StepNode:
        first, *rest = t.children
        if isinstance(first, Token):
            return s.StepNode(str(first), self.build(rest[0]), span=span)
        return s.StepNode("take" if rest[0] is None else "per class", self.build(first), span=span)

    def _strategy(self, t: Tree[Token], span: Span) -> s.StrategyStatement:
        name, pipeline, block = t.children
        return s.StrategyStatement(self._name(name), self.build(pipeline), self.build(block), span=span)

    def _pipeline(self, t: Tree[Token], _: Span) -> tuple[s.StageCall | s.Ref, ...]:
        return self._all(t.children)

    def _stage(self, t: Tree[Token], span: Span) -> s.StageCall:
        *words, arguments = t.children
        name = s.Name("_".join(map(str, words[::2])), span=span_of(words[0]).to(span_of(words[-1])))
        return s.StageCall(name, self.build(arguments) or (), span=span)

    def _domain(self, t: Tree[Token], span: Span) -> s.DomainStatement:
        return s.DomainStatement(self._name(t.children[0]), self.build(t.children[1]), span=span)

    def _let(self, t: Tree[Token], span: Span) -> s.Let:
        name, parameters, value = t.children
        return s.Let(self._name(name), self.build(parameters) or (), self.build(value), span=span)

    def _property(self, t: Tree[Token], span: Span) -> s.PropertyStatement:
        (expected, name, formals, samples, formula), settings = self._settings(t)
        return s.PropertyStatement(
            self._name(name),
            self.build(samples),
            settings.get("using"),
            settings.get("abstracted"),
            self.build(formula),
            self.build(formals) or (),
            expected is not None,
            span=span,
        )

    def _measure(self, t: Tree[Token], span: Span) -> s.MeasureStatement:
        (name, formals, samples, extremum, radius, *rest), settings = self._settings(t)
        interval, tolerance, formula = self._all(rest)
        return s.MeasureStatement(
            self._name(name),
            self.build(samples),
            str(extremum),
            self._name(radius),
            interval,
            tolerance,
            formula,
            settings.get("using"),
            settings.get("abstracted"),
            self.build(formals) or (),
            span=span,
        )

    def _value_measure(self, t: Tree[Token], span: Span) -> s.MeasureStatement:
        (name, formals, samples, extremum, value, *binders, where, tolerance), settings = self._settings(t)
        built, bound = self.build(value), self._all(binders)
        asked = s.Quantified("exists", bound, self.build(where), built, span=built.span.to(bound[-1].span))
        return s.MeasureStatement(
            self._name(name),
            self.build(samples),
            str(extremum),
            None,
            None,
            self.build(tolerance),
            asked,
            settings.get("using"),
            settings.get("abstracted"),
            self.build(formals) or (),
            span=span,
        )

    def _share_measure(self, t: Tree[Token], span: Span) -> s.ShareStatement:
        (name, *rest), settings = self._settings(t)
        formals, samples, of, where, tolerance, formula = self._all(rest)
        binder = (
            of if isinstance(of, s.Binder) else s.Binder((), s.RegionNode(of, None, None, span=of.span), span=of.span)
        )
        asked = s.Quantified("forall", (binder,), where, formula, span=formula.span)
        return s.ShareStatement(
            self._name(name),
            samples,
            tolerance,
            asked,
            settings.get("using"),
            settings.get("abstracted"),
            formals or (),
            span=span,
        )

    def _tolerance(self, t: Tree[Token], span: Span) -> s.Tolerance:
        value, relation = t.children
        return s.Tolerance(self.build(value), "" if relation is None else str(relation), span=span)

    def _distance_measure(self, t: Tree[Token], span: Span) -> s.DistanceStatement:
        (name, formals, samples, distance), settings = self._settings(t)
        for place in settings.values():
            message = "a distance to another class has its own way: it takes no strategy and no abstraction"
            self.diagnostics.add("E205", message, place.span, self.source, "leave it out")
        built = self._name(name), self.build(samples), self.build(distance), self.build(formals) or ()
        return s.DistanceStatement(*built, span=span)

    def _settings(self, t: Tree[Token]) -> tuple[list[Any], dict[str, s.Ref]]:
        """The parts of a question without ``using`` and ``abstracted by``, which stand before or after its body."""
        found: dict[str, s.Ref] = {}
        parts: list[Any] = []
        for child in t.children:
            kind = str(child.data) if isinstance(child, Tree) else ""
            if kind not in ("using", "abstracted"):
                parts.append(child)
            elif kind in found:
                message = f"`{'using' if kind == 'using' else 'abstracted by'}` is given twice"
                self.diagnostics.add("E202", message, span_of(child), self.source, "keep one of them")
            else:
                found[kind] = self.build(child)
        return parts, found

    def _formals(self, t: Tree[Token], _: Span) -> tuple[s.Formal, ...]:
        return self._all(t.children)

    def _formal(self, t: Tree[Token], span: Span) -> s.Formal:
        name, kind, interval, default = t.children
        word = str(kind.children[0])  # type: ignore[union-attr]
        return s.Formal(self._name(name), word, self.build(interval), self.build(default), span=span)

    def _for(self, t: Tree[Token], span: Span) -> s.For:
        name, values, *body = t.children
        return s.For(self._name(name), self.build(values), self._all(body), span=span)

    def _among_set(self, t: Tree[Token], span: Span) -> s.ListExpr:
        return s.ListExpr(self._all(t.children[1:]), span=span)

    def _samples(self, t: Tree[Token], span: Span) -> s.SamplesNode:
        return s.SamplesNode(*self._all(t.children), span=span)

    def _using(self, t: Tree[Token], _: Span) -> s.Ref:
        return self.build(t.children[0])

    def _abstracted(self, t: Tree[Token], _: Span) -> s.Ref:
        return self.build(t.children[0])

    def _objective(self, t: Tree[Token], span: Span) -> s.ObjectiveStatement:
        name, target, block = t.children
        return s.ObjectiveStatement(self._name(name), self.build(target), self.build(block), span=span)

    def _check(self, t: Tree[Token], span: Span) -> s.Check:
        return s.Check(self._all(t.children), span=span)

    def _asked(self, t: Tree[Token], span: Span) -> s.Ref | s.Call:
        target, arguments = t.children
        # Brackets with nothing between them are a call, too.
        called = span.end_column > span_of(target).end_column or span.end_line > span_of(target).end_line
        ref: s.Ref = self.build(target)
        return s.Call(ref, self.build(arguments) or (), span=span) if called else ref

    def _assertion(self, t: Tree[Token], span: Span) -> s.AssertStatement:
        expected, per_class, condition = t.children
        return s.AssertStatement(self.build(condition), self.build(per_class), expected is not None, span=span)

    def _report(self, t: Tree[Token], span: Span) -> s.ReportStatement:
        per_class, *items = self._all(t.children)
        return s.ReportStatement(tuple(items), per_class, span=span)

    def _per_class(self, t: Tree[Token], _: Span) -> s.Name:
        return self._name(t.children[0])

    # Blocks

    def _block(self, t: Tree[Token], span: Span) -> s.Block:
        return s.Block(self._all(t.children), span=span)

    def _entry(self, t: Tree[Token], span: Span) -> s.EntryNode:
        return s.EntryNode(self._name(t.children[0]), self.build(t.children[1]), span=span)

    def _described(self, t: Tree[Token], span: Span) -> s.Index:
        word, *items = self._all(t.children)
        return s.Index(word, s.ListExpr(tuple(items), span=span), span=span)

    def _schedule(self, t: Tree[Token], span: Span) -> s.ScheduleNode:
        start, end, unit, first, last, shape = self._all(t.children)
        named = None if shape is None else self._name(shape)
        return s.ScheduleNode(start, end, str(unit), first, last, named, span=span)

    def _budget(self, t: Tree[Token], span: Span) -> s.Budget:
        first, *rest = self._all(t.children)
        if len(rest) == 1:
            return s.Budget(None, None, first, span=span)
        return s.Budget(first, str(rest[0]), rest[1], span=span)

    # Regions

    def _binder(self, t: Tree[Token], span: Span) -> s.Binder:
        return s.Binder(*self._all(t.children), span=span)

    def _region(self, t: Tree[Token], span: Span) -> s.RegionNode:
        base, within, space = self._all(t.children)
        return s.RegionNode(base, within, None if space is None else str(space), span=span)

    _distance = _region

    def _alternatives(self, t: Tree[Token], span: Span) -> s.RegionChain:
        return s.RegionChain("or", self._all(t.children), span=span)

    def _overlap(self, t: Tree[Token], span: Span) -> s.RegionChain:
        return s.RegionChain("and", self._all(t.children), span=span)

    def _interval(self, t: Tree[Token], span: Span) -> s.IntervalNode:
        return s.IntervalNode(*self._all(t.children), span=span)

    # Expressions

    def _quantified(self, t: Tree[Token], span: Span) -> s.Quantified:
        quantifier, *binders, where, body = self._all(t.children)
        return s.Quantified(str(quantifier), tuple(binders), where, body, span=span)

    def _chain(self, t: Tree[Token], span: Span) -> s.Chain:
        parts = self._all(t.children)
        return s.Chain(parts[::2], tuple(str(op) for op in parts[1::2]), span=span)

    _sum = _product = _comparison = _chain

    def _power(self, t: Tree[Token], span: Span) -> s.Expr:
        base, operator, exponent = self._all(t.children)
        return base if operator is None else s.Chain((base, exponent), ("^",), span=span)

    def _implication(self, t: Tree[Token], span: Span) -> s.Chain:
        return s.Chain(self._all(t.children), ("=>",) * (len(t.children) - 1), span=span)

    def _disjunction(self, t: Tree[Token], span: Span) -> s.Chain:
        return s.Chain(self._all(t.children), ("or",) * (len(t.children) - 1), span=span)

    def _conjunction(self, t: Tree[Token], span: Span) -> s.Chain:
        return s.Chain(self._all(t.children), ("and",) * (len(t.children) - 1), span=span)

    def _member(self, t: Tree[Token], span: Span) -> s.Member:
        operand, negated, _, *members = self._all(t.children)
        return s.Member(operand, negated is not None, tuple(members), span=span)

    def _among(self, t: Tree[Token], span: Span) -> s.Among:
        operand, negated, _, group = self._all(t.children)
        return s.Among(operand, negated is not None, group, span=span)

    def _set(self, t: Tree[Token], span: Span) -> s.SetExpr:
        return s.SetExpr(self._all(t.children), span=span)

    def _not_(self, t: Tree[Token], span: Span) -> s.Unary:
        return s.Unary("not", self.build(t.children[-1]), span=span)

    def _negate(self, t: Tree[Token], span: Span) -> s.Unary:
        # The grammar names the sign ADD or MINUS by state; only the operand is a tree.
        return s.Unary("-", self.build(t.children[-1]), span=span)

    def _index(self, t: Tree[Token], span: Span) -> s.Index:
        return s.Index(*self._all(t.children), span=span)

    def _of_correct(self, t: Tree[Token], span: Span) -> s.OfCorrect:
        return s.OfCorrect(self.build(t.children[0]), span=span)

    def _call(self, t: Tree[Token], span: Span) -> s.Call:
        return s.Call(self.build(t.children[0]), self.build(t.children[1]) or (), span=span)

    def _applied(self, t: Tree[Token], span: Span) -> s.CalledPart:
        return s.CalledPart(self.build(t.children[0]), self.build(t.children[1]) or (), span=span)

    def _part(self, t: Tree[Token], span: Span) -> s.OutputPart:
        return s.OutputPart(self.build(t.children[0]), self._name(t.children[1]), span=span)

    def _arguments(self, t: Tree[Token], _: Span) -> tuple[s.Argument, ...]:
        return self._all(t.children)

    def _argument(self, t: Tree[Token], span: Span) -> s.Argument:
        name, value = t.children
        return s.Argument(None if name is None else str(name), self.build(value), span=span)

    _shared = _argument

    def _shares(self, t: Tree[Token], span: Span) -> s.Shares:
        return s.Shares(tuple(self._all(t.children)), span=span)

    def _share(self, t: Tree[Token], span: Span) -> s.Share:
        return s.Share(self._name(t.children[0]), self.build(t.children[1]), span=span)

    def _slot(self, t: Tree[Token], span: Span) -> s.Argument:
        return s.Argument(_unquoted(t.children[0])[0], self.build(t.children[1]), span=span)

    def _whole_slot(self, t: Tree[Token], span: Span) -> s.Argument:
        interval = self.build(t.children[1])
        whole = s.WholeNode(interval.low, interval.high, span=interval.span)
        return s.Argument(_unquoted(t.children[0])[0], whole, span=span)

    def _anything(self, t: Tree[Token], span: Span) -> s.Anything:
        return s.Anything(span=span)

    def _range(self, t: Tree[Token], span: Span) -> s.RangeNode:
        return s.RangeNode(*self._all(t.children), span=span)

    def _clause(self, t: Tree[Token], span: Span) -> s.ForClause:
        return s.ForClause(self._name(t.children[0]), self.build(t.children[1]), span=span)

    def _comprehension(self, t: Tree[Token], span: Span) -> s.Comprehension:
        item, *clauses, where = self._all(t.children)
        return s.Comprehension(item, tuple(clauses), where, span=span)

    def _list(self, t: Tree[Token], span: Span) -> s.ListExpr:
        return s.ListExpr(tuple(self.build(c) for c in t.children if c is not None), span=span)

    def _ref(self, t: Tree[Token], span: Span) -> s.Ref:
        parts = [_unquoted(c) for c in t.children]
        return s.Ref(tuple(text for text, _ in parts), any(quoted for _, quoted in parts), span=span)

    _target = _quoted = _ref

    def _stages_of(self, t: Tree[Token], span: Span) -> s.StageCall | s.Ref:
        # A single name may be that of a stage or of a strategy, with quotes and without.
        ref = self._ref(t, span)
        single = len(ref.parts) == 1 and not ref.quoted
        return s.StageCall(s.Name(ref.name, span=span), (), span=span) if single else ref

    def _names(self, t: Tree[Token], _: Span) -> tuple[s.Name, ...]:
        return tuple(self._name(c) for c in t.children)

    def _boolean(self, t: Tree[Token], span: Span) -> s.Boolean:
        return s.Boolean(str(t.children[0]) == "true", span=span)

    def _text(self, t: Tree[Token], _: Span) -> s.Text:
        return self._text_of(t.children[0])

    def _number(self, t: Tree[Token], span: Span) -> s.Number:
        text = str(t.children[0])
        match = _QUANTITY.fullmatch(text)
        assert match is not None
        mantissa, exponent, unit = match.groups()
        power = int(exponent) if exponent and len(exponent.lstrip("+-0")) < 6 else (10**6 if exponent else 0)
        if abs(power) > MAX_EXPONENT or len(mantissa) > MAX_DIGITS:
            self.diagnostics.add(
                "E004",
                f"this number has more than {MAX_DIGITS} digits or an exponent beyond {MAX_EXPONENT}",
                span,
                self.source,
                "numbers are kept exact: write it shorter",
            )
            return s.Number("0" + unit, Fraction(0), unit, span=span)
        return s.Number(text, Fraction(mantissa) * Fraction(10) ** power, unit, span=span)
