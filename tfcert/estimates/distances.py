"""Distances of adversarial examples: the attacks of a library, their finds replayed and drawn nearer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.attacks import replay
from tfcert.attacks.witness import input_dtype
from tfcert.catalog import distance_attacks
from tfcert.clauses import Clauses
from tfcert.errors import UsageError
from tfcert.estimates.question import DistanceAnswer, DistanceQuestion
from tfcert.estimates.results import AttackDistances
from tfcert.estimates.samples import read_samples
from tfcert.network import Network
from tfcert.sets.balls import ORDER, Clip, LpBall
from tfcert.tracing import traced
from tfcert.verdict import Guarantee, Reason

DEFAULT_ATTACKS = {"linf": ("fmn",), "l2": ("cw",), "l1": ("ead",)}
_STRETCHES = (1.0, 1.0001, 1.001, 1.01, 1.1)
"""An attack stops at the decision boundary, where rounding may undo its find: it is also tried a little farther out."""
_HALVINGS = 20
_ROUNDING = 1e-11
_START = 1.0
"""The constant that the search begins with: margins and distances of inputs in [0, 1] are about 1 each."""


@dataclass(frozen=True)
class DistanceOptions:
    """Options of distances: the attacks that run, and for how long.

    Attributes:
        attacks: names out of ``cw`` (Carlini and Wagner 2017; L2), ``ead`` (elastic net with the L1 rule, Chen et al.
            2018; L1) and ``fmn`` (fast minimum norm, Pintor et al. 2021; any norm). The nearest find counts, in the
            norm that was asked for, whichever attack it comes from. None: ``cw`` for L2, ``ead`` for L1, ``fmn`` for
            L-inf.
        steps: gradient steps, for ``cw`` and ``ead`` of each round of their search for a constant.
        searches: rounds of that search. Each step is run op by op, some 9 ms whatever the number of samples: the
            defaults take ``cw`` about 8 seconds a batch. ``steps=300, searches=9`` take three times as long and find
            examples up to 8% nearer (eight digits, ``mnist_small.keras``).
        batch_size: samples attacked at once.

    Raises:
        ValueError: an unknown attack, none at all, or a value that is not positive.
    """

    attacks: tuple[str, ...] | None = None
    steps: int = 150
    searches: int = 6
    batch_size: int = 100

    def __post_init__(self) -> None:
        if self.attacks is not None and (not self.attacks or not set(self.attacks) <= set(distance_attacks())):
            raise ValueError(f"attacks must be some of {', '.join(distance_attacks())}, not {self.attacks!r}")
        for name in ("steps", "searches", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


def attack_distance(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    norm: str = "l2",
    clip: Clip | None = None,
    targets: Any = "all",
    **options: Any,
) -> AttackDistances:
    """The distance to the nearest adversarial example that attacks find for each sample.

    The attacks are those of the library foolbox, run on the logits; what they find counts when it replays on
    ``model`` itself (:func:`tfcert.attacks.replay`), and is then drawn nearer along the line to the sample.

    Args:
        model: a Keras model; x, y: samples and labels, as for :func:`tfcert.certify`.
        norm: ``linf``, ``l2`` or ``l1``, in the units of x.
        clip: the valid range ``(low, high)`` of an input. None: any input, though the attacks look no farther than
            half of the samples' range beyond its ends.
        targets: as for :func:`tfcert.certified_radius`; with a single target the example must raise it above y.
        options: the fields of :class:`DistanceOptions`.

    Raises:
        UsageError: foolbox is not installed.
        ValueError: as for :func:`tfcert.certified_radius`, or an option out of range.

    Guarantee: ``replayed``: no radius at or above a distance can be certified. Nothing found proves nothing.
    """
    settings = DistanceOptions(**options)
    network, samples = read_samples(model, x, y, norm, targets, clip)
    points = samples.x.astype(input_dtype(model, samples.x.dtype))
    search = _Search(model, points, samples.clauses, norm, clip)
    search.settle("", points)
    label = samples.rows[:, 0].argmax(axis=1)
    target = None if isinstance(targets, str) and targets == "all" else samples.rows[:, 0].argmin(axis=1)
    names = settings.attacks or DEFAULT_ATTACKS[norm]
    scaled = _Scaled(network, points, clip)
    for name in names:
        for first in range(0, len(points), settings.batch_size):
            part = np.arange(first, min(first + settings.batch_size, len(points)))
            part = part[search.distance[part] > 0]
            if part.size:
                goal = None if target is None else target[part]
                proposals = scaled.run(_library_attack(name, norm, settings), points[part], label[part], goal)
                search.settle(name, proposals, part)
    return AttackDistances(search.distance, search.witness, tuple(search.found_by), norm, "+".join(names))


def attack_answers(question: DistanceQuestion) -> Iterator[DistanceAnswer]:
    """The distance of the nearest input of another class that the attack of the question's name finds: upper bounds."""
    options = {name: value for name, value in question.options.items() if name != "targets"}
    how: dict[str, Any] = {"norm": question.norm, "clip": question.clip, "targets": question.targets}
    found = attack_distance(question.model, question.x, question.y, attacks=(question.name,), **how, **options)
    for distance, witness, guarantee in zip(found.distance.tolist(), found.witness, found.guarantee, strict=True):
        if np.isfinite(distance):
            reason = Reason.UPPER_BOUND.because()
            yield DistanceAnswer(upper=distance, guarantee=guarantee, witness=witness, reason=reason)
        else:
            yield DistanceAnswer(guarantee=Guarantee.ESTIMATE, reason=Reason.NOT_FOUND.because())


def _foolbox() -> Any:
    try:
        import foolbox
    except ImportError as error:
        raise UsageError(
            "attack distances need the library foolbox, which is not installed: pip install 'tfcert[attacks]'"
        ) from error
    return foolbox


def _library_attack(name: str, norm: str, options: DistanceOptions) -> Any:
    attacks = _foolbox().attacks
    if name == "cw":
        # The attack moves in the inverse of tanh, where the range of inputs is some 15 long: far enough to cross it.
        size = max(0.01, 10 / options.steps)
        return attacks.L2CarliniWagnerAttack(
            binary_search_steps=options.searches, steps=options.steps, stepsize=size, initial_const=_START
        )
    if name == "ead":
        return attacks.EADAttack(
            binary_search_steps=options.searches, steps=options.steps, initial_const=_START, decision_rule="L1"
        )
    kinds = {"linf": attacks.LInfFMNAttack, "l2": attacks.L2FMNAttack, "l1": attacks.L1FMNAttack}
    return kinds[norm](steps=options.steps)


class _Scaled:
    """A network on inputs scaled to [0, 1], the units that the library's step sizes are meant for."""

    def __init__(self, network: Network, x: np.ndarray, clip: Clip | None):
        if clip is None:
            low, high = float(np.min(x, initial=np.inf)), float(np.max(x, initial=-np.inf))
            beyond = 0.5 * (high - low) or 1.0
            self.low, self.width = low - beyond, high - low + 2 * beyond
        else:
            self.low = float(np.min(clip[0]))
            self.width = float(np.max(clip[1])) - self.low
        self.dtype = network.dtype
        low, width = tf.constant(self.low, self.dtype), tf.constant(self.width, self.dtype)
        self.logits = traced(lambda z: network(low + width * z), reduce_retracing=True)

    def run(self, attack: Any, x: np.ndarray, y: np.ndarray, target: np.ndarray | None) -> np.ndarray:
        """The points ``[batch, *input]`` that an attack of the library proposes: adversarial or not."""
        library = _foolbox()
        # Named here, since the library would look for it by a function that TensorFlow warns of.
        device = "/GPU:0" if tf.config.list_physical_devices("GPU") else "/CPU:0"
        model = library.TensorFlowModel(self.logits, bounds=(0, 1), device=device)
        unit = tf.clip_by_value(tf.constant((x - self.low) / self.width, self.dtype), 0, 1)
        criterion = (
            library.criteria.Misclassification(tf.constant(y))
            if target is None
            else library.criteria.TargetedMisclassification(tf.constant(target))
        )
        raw, _, _ = attack(model, unit, criterion, epsilons=None)
        return self.low + self.width * raw.numpy().astype(np.float64)


class _Search:
    """The nearest examples so far."""

    def __init__(self, model: Any, x: np.ndarray, clauses: Clauses, norm: str, clip: Clip | None):
        self.model, self.x, self.clauses, self.norm, self.clip = model, x, clauses, norm, clip
        self.distance = np.full(len(x), np.inf)
        self.witness = np.full(x.shape, np.nan, x.dtype)
        self.found_by = [""] * len(x)

    def settle(self, name: str, proposals: np.ndarray, index: np.ndarray | None = None) -> None:
        """Writes down the proposals for some samples that replay, drawn nearer, where they are the nearest yet."""
        index = np.arange(len(self.x)) if index is None else index
        x = self.x[index].astype(np.float64)
        step = np.nan_to_num(proposals.astype(np.float64) - x, posinf=0.0, neginf=0.0)
        good = self._first(index, lambda scale: x + _each(scale, step))
        low = np.zeros(len(index))
        for _ in range(_HALVINGS if np.any(np.isfinite(good) & (good > 0)) else 0):
            middle = np.where(np.isfinite(good), 0.5 * (low + good), 0.0)
            broken = self._keep(name, index, x + _each(middle, step))
            good, low = np.where(broken, middle, good), np.where(broken, low, middle)
        finite = np.where(np.isfinite(good), good, 0.0)
        self._keep(name, index, x + _each(finite, step))

    def _first(self, index: np.ndarray, points: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The first stretch at which each proposal replays; infinite where none does."""
        first = np.full(len(index), np.inf)
        for stretch in _STRETCHES:
            broken, _ = self._broken(index, points(np.full(len(index), stretch)))
            first = np.where(broken & np.isinf(first), stretch, first)
        return first

    def _keep(self, name: str, index: np.ndarray, points: np.ndarray) -> np.ndarray:
        broken, (inside, distance) = self._broken(index, points)
        for i in np.flatnonzero(broken & (distance < self.distance[index])):
            self.distance[index[i]], self.witness[index[i]] = distance[i], inside[i]
            self.found_by[index[i]] = name
        return broken

    def _broken(self, index: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Marks points that replay as adversarial examples; with the points in the model's type, and distances."""
        if self.clip is not None:
            points = np.clip(points, *self.clip)
        inside, x = points.astype(self.x.dtype), self.x[index]
        difference = (inside.astype(np.float64) - x.astype(np.float64)).reshape(len(x), -1)
        distance = np.linalg.norm(difference, ORDER[self.norm], axis=1) * (1 + _ROUNDING)
        ball = LpBall(x, distance, self.norm, self.clip)

        def holds(outputs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
            # A tie is not yet another class: saturated probabilities tie far from the boundary of the logits.
            return ~(self.clauses.take(index[chosen]).margin(outputs) < 0)

        return replay(self.model, ball, inside, holds), (inside, distance)


def _each(scale: np.ndarray, step: np.ndarray) -> np.ndarray:
    return scale.reshape(-1, *[1] * (step.ndim - 1)) * step
