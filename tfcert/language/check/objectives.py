"""Objectives: from statements to templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil
from typing import TypeVar

from tfcert.catalog import SOURCES, Option
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.lengths import is_tiny, read_length, report_tiny, share_of_range
from tfcert.language.check.reading import as_ref, hyphenated, read_arguments, read_entries, read_option
from tfcert.language.check.recipes import COSINE, DECAY, read_augmentations, read_rate
from tfcert.language.check.resources import resolve_resource
from tfcert.language.check.scope import Definition, Scope, did_you_mean
from tfcert.language.check.setting import Setting
from tfcert.language.check.templates import asked_question
from tfcert.language.spec import objective as t
from tfcert.language.spec.choice import nothing_shared
from tfcert.language.spec.declarations import Dataset, ModelDeclaration, StageSpec
from tfcert.language.spec.questions import AnyTemplate, PropertyTemplate
from tfcert.language.spec.regions import BallSpec
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError
from tfcert.language.text.printer import print_expression, print_statement

NAMES = (
    "train", "bound", "eps", "natural_weight", "mixture", "eps_factor", "regularize", "augment", "batch_norm",
    "initialize", "epochs", "batch", "seed", "optimizer", "learning_rate", "verify", "verify_every", "attack",
)  # fmt: skip
EPOCHS, BATCH = 20, 100

T = TypeVar("T")


def check_objective(definition: Definition, questions: Mapping[str, AnyTemplate]) -> t.ObjectiveTemplate | None:
    """The template of an objective; None if there are problems, which are then reported.

    Args:
        questions: the checked properties and measures of the same text; those with problems are missing.
    """
    scope, node = definition.scope, definition.node
    try:
        target = asked_question(scope, node.target)
    except AbortError:
        target = None
    entries = read_entries(Elaborator(scope), node.block, NAMES, "an objective")
    asked = questions.get(target.full_name) if target is not None else None
    if target is not None and target.scope.prefix != scope.prefix and asked is None:
        name = print_expression(node.target)
        message = f"`{name}` is of another specification, and nothing here asks it"
        scope.report("E229", message, node.target, f"write the property here, or `check {name}`")
    if asked is None or not _covered(scope, node.target, asked):
        return None
    assert isinstance(asked, PropertyTemplate)
    return _Objective(definition, asked, entries).template()


def _covered(scope: Scope, node: s.Ref | s.Call, asked: AnyTemplate) -> bool:
    """Tells whether certified training can work towards a question; if not, the reason is reported."""
    wanted = "`forall z in ball(x, linf, eps): argmax(f(z)) == y`"
    model: ModelDeclaration = resolve_resource(_resource(scope, "model", asked.model))
    reason = ""
    if not isinstance(asked, PropertyTemplate):
        reason = "is a measure, and training needs one eps"
    elif asked.existential:
        reason = "asks for some input, and training bounds all of them"
    elif not isinstance(asked.region, BallSpec):
        reason = "is about another region than the ball around each sample that training takes"
    elif not asked.is_robustness:
        reason = "does not ask for the label's class, `argmax(f(z)) == y`, alone"
    elif model.outputs == "probabilities":
        reason = f"is about the probabilities of `{model.name}`, and training takes a model of logits"
    elif not asked.region.is_even:
        reason = "has a radius for each input or place, and training by a specification takes one eps (Python: `scale`)"
    elif asked.region.norm != "linf":
        reason = f"is about {asked.region.norm} balls, and training takes linf"
    elif asked.abstraction is not None and asked.region.space != "net" and asked.transform.channels > 1:
        # Training would take place before the normalisation, and cells must be the first thing in a network.
        reason = "is abstracted after channels are normalised apart, and training takes a ball `in net` there"
    if reason:
        scope.report("E229", f"`{print_expression(node)}` {reason}", node, f"certified training covers {wanted}")
    return not reason


@dataclass
class _Objective:
    """Reads the options of one objective; what cannot be read is reported and marks the whole as failed."""

    definition: Definition
    asked: PropertyTemplate
    entries: Mapping[str, s.EntryNode]
    failed: bool = False
    ramps: list[tuple[t.RampSpec | t.Rate, s.SyntaxNode]] = field(default_factory=list)

    @property
    def scope(self) -> Scope:
        return self.definition.scope

    @property
    def e(self) -> Elaborator:
        return Elaborator(self.scope)

    def template(self) -> t.ObjectiveTemplate | None:
        node: s.ObjectiveStatement = self.definition.node
        setting = self._setting()
        train, transform = self._train(setting)
        eps = self._get("eps", lambda v: self._scheduled(v, lambda n: self._eps(n, setting)), None)
        weight = self._get("natural_weight", lambda v: self._scheduled(v, self._share("natural_weight")), None)
        mixture = self._get("mixture", lambda v: self._scheduled(v, self._share("mixture")), None)
        optimizer = self._get("optimizer", lambda v: self._named(v, t.OPTIMIZERS, "`optimizer`"), t.Named("adam"))
        constant: t.Rate = t.LearningRate(t.RATES[optimizer.name])
        rate = self._get("learning_rate", self._rate, constant)
        epochs = self._option("epochs", Option("whole", least=1), self._usual_epochs())
        self._within(epochs)
        bound = self._get("bound", lambda v: self._named(v, t.OBJECTIVES, "`bound`"), t.Named("ibp"))
        attack = self._get("attack", lambda v: self._named(v, t.attacks(), "`attack`"), t.Named("pgd"))
        usual = t.Named(t.USUAL_VERIFIERS.get(bound.name, "ibp"))
        verify = self._get("verify", lambda v: self._named(v, t.verifiers(), "`verify`"), usual)
        assert isinstance(self.asked.region, BallSpec)
        if eps is not None:
            self._not_tiny(eps, setting)
        else:
            eps = _alongside(weight, Fraction(0), self.asked.region.eps, epochs)
        if weight is None:
            weight = _alongside(eps, Fraction(1), t.NATURAL_WEIGHTS.get(bound.name, Fraction(0)), epochs)
        found = t.ObjectiveTemplate(
            name=self.definition.full_name,
            property=self.asked.name,
            model=self.asked.model,
            train=train,
            train_transform=transform,
            bound=bound,
            eps=eps,
            natural_weight=weight,
            mixture=self._mixture(bound.name, mixture, eps),
            eps_factor=Fraction(self._option("eps_factor", Option("positive"), Fraction(1))),
            regularizers=self._get("regularize", self._regularizers, ()),
            augment=self._get("augment", lambda v: read_augmentations(self.e, v, train), ()),
            batch_norm=self._option("batch_norm", Option("choice", t.STATISTICS), "batch"),
            initialize=self._option("initialize", Option("choice", t.INITIALIZATIONS), "keep"),
            epochs=epochs,
            batch=self._option("batch", Option("whole", least=1), BATCH),
            seed=self._option("seed", Option("whole"), 0),
            optimizer=optimizer,
            learning_rate=rate,
            verify=StageSpec(verify.name, verify.options),
            verify_every=self._option("verify_every", Option("whole", least=1), 1),
            attack=None if attack.name == "none" else StageSpec(attack.name, attack.options),
            text=print_statement(node),
            span=node.name.span,
        )
        return None if self.failed else found

    # Options of any kind

    def _get(self, name: str, read: Callable[[s.BlockValue], T], default: T) -> T:
        """The value of an option, or ``default`` if it is missing or has problems."""
        if name not in self.entries:
            return default
        try:
            return read(self.entries[name].value)
        except AbortError:
            self.failed = True
            return default

    def _option(self, name: str, option: Option, default: T) -> T:
        """A plain value of the type that ``option`` says, which must be the default's."""
        return self._get(name, lambda v: read_option(self.e, self._plain(v, name), option, f"`{name}`"), default)  # type: ignore[arg-type, return-value]

    def _plain(self, value: s.BlockValue, name: str) -> s.Expr:
        if isinstance(value, s.ScheduleNode) and name == "learning_rate":
            message = "the learning rate falls in steps or as a cosine, not in a ramp"
            raise self.scope.problem("E206", message, value, f"write {DECAY}, or {COSINE}")
        if isinstance(value, s.Block | s.ScheduleNode | s.Budget):
            raise self.scope.problem("E206", f"`{name}` must be a plain value", value)
        return value

    def _named(self, value: s.BlockValue, known: Mapping[str, t.Options], what: str) -> t.Named:
        """A name of ``known``, with options in brackets if there are any."""
        value = hyphenated(value)
        ref = value.function if isinstance(value, s.Call) else value
        if not isinstance(ref, s.Ref) or ref.name not in known:
            hint = did_you_mean(ref.name, known) if isinstance(ref, s.Ref) else ""
            listed = ", ".join(f"`{name}`" for name in known)
            raise self.scope.problem("E220", f"{what} must be one of {listed}", ref, hint)
        arguments = value.arguments if isinstance(value, s.Call) else ()
        return t.Named(ref.name, read_arguments(self.e, arguments, known[ref.name], ref.name))

    # Schedules

    def _scheduled(self, value: s.BlockValue, number: Callable[[s.Expr], Fraction]) -> t.Scheduled:
        """A number, or a ramp between two."""
        if not isinstance(value, s.ScheduleNode):
            return number(self._plain(value, "a schedule"))
        first, last = (self._moment(node, value.unit) for node in (value.first, value.last))
        if first >= last:
            span = value.first.span.to(value.last.span)
            raise self.scope.problem("E209", "this ramp ends before it has begun", span, "write it `begin..end`")
        shape = "linear" if value.shape is None else value.shape.text
        if value.shape is not None and shape not in ("linear", "smooth"):
            hint = did_you_mean(shape, ("linear", "smooth"))
            raise self.scope.problem("E220", "the shape of a ramp is `linear` or `smooth`", value.shape, hint)
        ramp = t.RampSpec(number(value.start), number(value.end), first, last, value.unit, shape)
        self.ramps.append((ramp, value))
        return ramp

    def _moment(self, node: s.Expr, unit: str) -> Fraction:
        if unit == "steps":
            return Fraction(self.e.whole(node, "a moment of a ramp in steps"))
        moment = self.e.number(node, "a moment of a ramp")
        if moment < 0:
            raise self.scope.problem("E220", "a moment of a ramp must not be negative", node)
        return moment

    def _share(self, name: str) -> Callable[[s.Expr], Fraction]:
        """Reads a number between 0 and 1."""

        def read(node: s.Expr) -> Fraction:
            number = self.e.number(node, f"`{name}`")
            if not 0 <= number <= 1:
                raise self.scope.problem("E220", f"`{name}` must lie between 0 and 1", node)
            return number

        return read

    def _mixture(self, bound: str, given: t.Scheduled | None, eps: t.Scheduled) -> t.Scheduled | None:
        """The mixture; CROWN-IBP's falls from 1 to 0 while eps grows, as in the paper, if nothing is said."""
        if given is not None and bound not in t.MIXTURES:
            place, listed = self.entries["mixture"].name, ", ".join(f"`{name}`" for name in t.MIXTURES)
            self.scope.report("E219", f"`{bound}` mixes no two losses", place, f"only {listed} have a mixture")
        if given is None and bound == "crown_ibp" and isinstance(eps, t.RampSpec):
            return replace(eps, start=Fraction(1), stop=Fraction(0))
        return given

    def _eps(self, node: s.Expr, setting: Setting) -> Fraction:
        assert isinstance(self.asked.region, BallSpec)
        term = read_length(self.e, node, "`eps`", setting, self.asked.region.space)
        if term.constant < 0:
            raise self.scope.problem("E220", "`eps` must not be negative", node)
        return term.constant

    def _not_tiny(self, eps: t.Scheduled, setting: Setting) -> None:
        """Warns where training never perturbs more than a tiny share of the range."""
        largest, space = max(eps.start, eps.stop) if isinstance(eps, t.RampSpec) else eps, self.asked.region.space
        if is_tiny(largest, setting, space):
            share = share_of_range(largest, setting, space)
            report_tiny(self.e, self.entries["eps"].value, share, "the largest radius of training")

    def _rate(self, value: s.BlockValue) -> t.Rate:
        node = self._plain(value, "learning_rate")
        found = read_rate(self.e, node)
        self.ramps.append((found, node))
        return found

    def _usual_epochs(self) -> int:
        """The number of epochs if nothing is said: time to settle after the last change."""
        ends = [ramp.end for ramp, _ in self.ramps if isinstance(ramp, t.RampSpec) and ramp.unit == "epochs"]
        ends += [
            Fraction(m) for r, _ in self.ramps if isinstance(r, t.LearningRate) and r.unit == "epochs" for m in r.at
        ]
        ends += [r.warmup for r, _ in self.ramps if isinstance(r, t.CosineRate)]
        return max([EPOCHS, *(ceil(end * Fraction(3, 2)) for end in ends)])

    def _within(self, epochs: int) -> None:
        """Warn of what happens after the last epoch, as far as that is known without the data."""
        for ramp, node in self.ramps:
            if isinstance(ramp, t.CosineRate):
                if ramp.warmup >= epochs:
                    message = f"the warm-up takes {float(ramp.warmup):g} epochs, and the training has {epochs}"
                    self.scope.report("E220", message, node, f"write `epochs: {ceil(ramp.warmup) + 1}` or more")
                    self.failed = True
                continue
            end = ramp.end if isinstance(ramp, t.RampSpec) else Fraction(max(ramp.at, default=0))
            if ramp.unit == "epochs" and end > epochs:
                message = f"this goes on to epoch {float(end):g}, but training ends after {epochs}"
                self.scope.report("W005", message, node, f"write `epochs: {ceil(end)}` or more")

    # Regularisers and samples

    def _regularizers(self, value: s.BlockValue) -> tuple[t.Named, ...]:
        items = value.items if isinstance(value, s.ListExpr) else (value,)
        return tuple(self._named(item, t.REGULARIZERS, "a regulariser") for item in items)

    def _setting(self) -> Setting:
        """The setting of the property's region."""
        model: ModelDeclaration = resolve_resource(_resource(self.scope, "model", self.asked.model))
        return Setting(resolve_resource(_resource(self.scope, "dataset", str(self.asked.dataset))), model)

    def _train(self, setting: Setting) -> tuple[Dataset | None, t.Transform]:
        """The samples to train on and how they reach the network."""
        held_out = setting.dataset
        assert held_out is not None
        found = self._get("train", self._train_named, None)
        if found is None:
            if "train" in self.entries or held_out.bound:
                return None, setting.transform
            return self._other_split(held_out), setting.transform
        place = self.entries["train"].value
        transform = replace(setting, dataset=found).transform
        model = setting.model
        if model is not None and model.mean and found.transform.normalises:
            message = f"both `{found.name}` and `{model.name}` normalise"
            self.scope.report("E226", message, place, "keep `normalize` in one of them")
        elif (transform.mean, transform.std) != (setting.transform.mean, setting.transform.std):
            message = f"`{found.name}` and `{held_out.name}` are normalised in different ways"
            self.scope.report("E231", message, place, "give both the same `normalize`")
        if _source_of(found) == _source_of(held_out) and not nothing_shared(found.choice, held_out.choice):
            message = f"`{held_out.name}` is what `{self.asked.name}` is judged by: no sample is held out"
            self.scope.report("W004", message, place, 'train on others, e.g. `split="train"`')
        return found, transform

    def _train_named(self, value: s.BlockValue) -> Dataset | None:
        value = as_ref(value)
        if not isinstance(value, s.Ref):
            fix = "define one, `dataset NAME = ...`, and write `train: NAME`"
            raise self.scope.problem("E206", "`train` must be the name of a data set", value, fix)
        found: Dataset = resolve_resource(self.scope.find(value, ("dataset",)))
        return found

    def _other_split(self, held_out: Dataset) -> Dataset | None:
        """The training part of a data set that comes with one: of an npz the arrays named ``train`` for ``test``."""
        given = dict(held_out.options)
        if "split" in SOURCES[held_out.source].options:
            found = given | {"split": "train"}
            fits = given.get("split", "test") == "test"
        else:
            found = {name: str(key).replace("test", "train") for name, key in given.items()}
            fits = held_out.source == "npz" and all("test" in str(given.get(name, "")) for name in ("x", "y"))
        if not fits:
            message = f"nothing says what to train on: `{held_out.name}` is held out and has no part for training"
            fix = "write `train: NAME` with another data set"
            self.scope.report("E230", message, self.definition.node.name, fix)
            self.failed = True
            return None
        name = f"the training part of {held_out.name}"
        return replace(held_out, name=name, options=tuple(found.items()), choice=())


def _resource(scope: Scope, kind: str, full_name: str) -> Definition:
    """The model or data set that a checked question names."""
    return scope.find(s.Ref(tuple(full_name.split("."))), (kind,))


def _alongside(other: t.Scheduled | None, start: Fraction, stop: Fraction, epochs: int) -> t.RampSpec:
    """From one number to another while ``other`` changes; if it does not, in the first half of the training."""
    if isinstance(other, t.RampSpec):
        return replace(other, start=start, stop=stop)
    return t.RampSpec(start, stop, Fraction(0), Fraction(epochs, 2))


def _source_of(data: Dataset) -> tuple[object, ...]:
    return (
        (data.name,) if data.bound else (data.source, data.path, data.folder, dict(data.options).get("split", "test"))
    )
