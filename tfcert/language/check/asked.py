"""What a question asks of: the networks that it applies to points, and the numbers of points that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tfcert.language.check.declared import listed_places
from tfcert.language.check.scope import Definition, Scope, did_you_mean
from tfcert.language.spec.formula import (
    Extreme,
    Feature,
    Formula,
    Output,
    SampleFeature,
    SampleOutput,
    Variable,
)
from tfcert.language.spec.named import rewritten
from tfcert.language.spec.points import Application, AppliedTo, AtAnswer, AtPoint, AtSample
from tfcert.language.text import syntax as s


@dataclass(frozen=True)
class Met:
    """An application as it was first met: the model's definition, what it is applied to, and where."""

    model: Definition
    arguments: tuple[AppliedTo, ...]
    fixed: bool
    scope: Scope
    node: s.SyntaxNode

    @property
    def single(self) -> AppliedTo | None:
        """What a network with one input is applied to."""
        return self.arguments[0] if len(self.arguments) == 1 else None


@dataclass(frozen=True)
class NamedNumber:
    """A number of a point (None for the sample) as it was first written; ``taken`` if its name stands for a value."""

    point: int | None
    key: str | int
    scope: Scope
    node: s.SyntaxNode
    taken: str = ""


@dataclass
class Mentions:
    """The applications and numbers of one question, in the order in which they are met.

    While a question is read, its numbers are not known by their places, since a point's names are those of the networks
    that are applied to it anywhere: they are counted -1, -2, ... until :meth:`settled`.
    """

    applied: dict[tuple[str, tuple[AppliedTo, ...]], Met] = field(default_factory=dict)
    numbers: dict[tuple[int | None, str | int, str], NamedNumber] = field(default_factory=dict)

    def apply(self, scope: Scope, model: Definition, arguments: tuple[AppliedTo, ...], node: s.SyntaxNode) -> int:
        """The number of an application, new or met before."""
        key = model.full_name, arguments
        fixed = all(isinstance(a, AtSample) or (isinstance(a, AtAnswer) and self.is_fixed(a.number)) for a in arguments)
        self.applied.setdefault(key, Met(model, arguments, fixed, scope, node))
        return list(self.applied).index(key)

    def is_fixed(self, number: int) -> bool:
        """Tells whether an application is one to the sample alone."""
        return list(self.applied.values())[number].fixed

    def number(self, found: NamedNumber) -> int:
        """What stands for a number of a point until its place is known."""
        key = found.point, found.key, found.taken
        self.numbers.setdefault(key, found)
        return -1 - list(self.numbers).index(key)

    def names(self, point: int | None) -> tuple[str, ...]:
        """The names of a point's numbers; those of the sample are those of any point if no network takes it alone.

        Reports networks that name them differently, and leaves.
        """
        wanted = AtSample() if point is None else AtPoint(point)
        found = [met for met in self.applied.values() if met.single == wanted]
        if point is None and not found:
            found = [met for met in self.applied.values() if isinstance(met.single, AtPoint)]
        named = {tuple(names): met for met in found if (names := listed_places(met.model, "inputs"))}
        if len(named) > 1:
            one, other = list(named.values())[:2]
            message = f"`{one.model.full_name}` and `{other.model.full_name}` name their inputs differently"
            raise other.scope.problem("E202", message, other.node, "give both the same `inputs: [...]`")
        return next(iter(named), ())

    def settled(self) -> Settled:
        """The applications and numbers by their places, once all are met; reports those that there are not.

        What a network says of the sample is a constant of the sample where a formula names it, and once more a part of
        the one network where another takes it beside a point, as ``g(f(x), z)`` does.
        """
        applications: list[Application] = []
        placed: dict[tuple[int, bool], int] = {}
        every = range(len(self.applied))
        for old in sorted(every, key=lambda n: (self.is_fixed(n), n)):
            self._place_application(old, self.is_fixed(old), applications, placed)
        renumbered = {old: placed[old, self.is_fixed(old)] for old in every}
        places = {-1 - k: self._place(number) for k, number in enumerate(self.numbers.values())}
        return Settled(tuple(applications), renumbered, places)

    def _place_application(
        self, old: int, fixed: bool, applications: list[Application], placed: dict[tuple[int, bool], int]
    ) -> int:
        """The number of an application among those in order, behind those whose answers it takes."""
        if (old, fixed) not in placed:
            met = list(self.applied.values())[old]
            arguments = tuple(
                AtAnswer(self._place_application(a.number, fixed, applications, placed))
                if isinstance(a, AtAnswer)
                else a
                for a in met.arguments
            )
            placed[old, fixed] = len(applications)
            applications.append(Application(met.model.full_name, arguments, fixed))
        return placed[old, fixed]

    def _place(self, number: NamedNumber) -> int:
        """The place of a number among those of its point."""
        names, scope, node, key = self.names(number.point), number.scope, number.node, number.key
        model = self._model_of(number.point)
        if isinstance(key, int):
            if number.taken and number.taken in names:
                message = f"`{number.taken}` is an input of `{model}` and stands for a value"
                raise scope.problem("E202", message, node, "rename one of them, or write the input in quotes")
            if names and key >= len(names):
                raise scope.problem("E224", f"`{model}` has {len(names)} inputs, counted from 0", node)
            return key
        if key in names:
            return names.index(key)
        if not names:
            message = f"the inputs of `{model}` have no names"
            raise scope.problem("E201", message, node, "give the model `inputs: [...]`, or write a number's place")
        hint = did_you_mean(key, names) or f"the inputs are {', '.join(names[:8])}"
        raise scope.problem("E201", f"`{model}` has no input `{key}`", node, hint)

    def _model_of(self, point: int | None) -> str:
        wanted = AtSample() if point is None else AtPoint(point)
        of = [met for met in self.applied.values() if met.single == wanted] or list(self.applied.values())
        return of[0].model.full_name if of else "the network"


@dataclass(frozen=True)
class Settled:
    """Applications in order, those to the sample alone last, and the places of numbers."""

    applications: tuple[Application, ...]
    renumbered: Mapping[int, int]
    places: Mapping[int, int]

    def formula(self, formula: Formula) -> Formula:
        """A formula with the numbers that applications and features have."""
        return rewritten(formula, self._variable, self.renumbered.__getitem__)

    def _variable(self, variable: Variable) -> Variable:
        match variable:
            case Output(_, of) | SampleOutput(_, of) | Extreme(_, _, of):
                return replace(variable, of=self.renumbered[of])
            case Feature(index, _) | SampleFeature(index):
                return replace(variable, index=self.places[index])
            case _:
                return variable
