"""Distances of adversarial examples that the attacks of a library find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfcert.attacks.minimal import Effort, NearestFinds, Scaled, library_attack
from tfcert.attacks.witness import input_dtype
from tfcert.catalog import distance_attacks
from tfcert.estimates.question import DistanceAnswer, DistanceQuestion
from tfcert.estimates.results import AttackDistances
from tfcert.estimates.samples import read_samples
from tfcert.sets.balls import Clip
from tfcert.verdict import Guarantee, Reason

DEFAULT_ATTACKS = {"linf": ("fmn",), "l2": ("cw",), "l1": ("ead",)}


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
    search = NearestFinds(model, points, samples.clauses, norm, clip)
    search.settle("", points)
    label = samples.rows[:, 0].argmax(axis=1)
    target = None if isinstance(targets, str) and targets == "all" else samples.rows[:, 0].argmin(axis=1)
    effort = Effort(settings.steps, settings.searches)
    names = settings.attacks or DEFAULT_ATTACKS[norm]
    scaled = Scaled(network, points, clip)
    for name in names:
        for first in range(0, len(points), settings.batch_size):
            part = np.arange(first, min(first + settings.batch_size, len(points)))
            part = part[search.distance[part] > 0]
            if part.size:
                goal = None if target is None else target[part]
                proposals = scaled.run(library_attack(name, norm, effort), points[part], label[part], goal)
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
