"""Attacks on robustness and on any property given as clauses. An attack that fails proves nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.attacks.conditions import different
from tfcert.attacks.gradient import AttackOptions, Left, Proposal, endless, trace
from tfcert.attacks.points import best_points, default_count
from tfcert.attacks.witness import Holds, differentiable, input_dtype, model_outputs, replay, rounded
from tfcert.catalog import ATTACKS
from tfcert.clauses import Clause, Clauses, keeps_label, misses_target, require_classes, target_classes
from tfcert.given import class_labels, samples
from tfcert.misfit import warn_of_misfit, warn_of_tiny_radius
from tfcert.network import inputs_of
from tfcert.sets.balls import Box, LpBall, Perturbation
from tfcert.sets.conditions import Conditions, moved_into
from tfcert.sets.fitting import require_steps_fixed
from tfcert.sets.region import region_of
from tfcert.showing import ShownResult, counted, spread
from tfcert.verdict import Guarantee


@dataclass(frozen=True)
class Attacks(ShownResult):
    """Witnesses that an attack found.

    Attributes:
        witness: ``[batch, *input]``, an input of the region on which the original model breaks the property; NaN
            where none was found. Of a model with several inputs :func:`attack` makes a dictionary of such.
        success: bool ``[batch]``.
        distance: ``[batch]``, from the centre to the witness in the region's norm, divided by the scale or the radii
            where these are uneven; NaN where there is no witness.
        margin: ``[batch]``, the property's margin that the original model reaches on the witness, in the unit of the
            model's own outputs (probabilities, where it ends in a softmax); NaN where none.
        gradients: ``[batch]``, how many were taken of each sample.
        late: whether the time was up before every start was made.
    """

    witness: Any
    success: np.ndarray
    distance: np.ndarray
    margin: np.ndarray
    gradients: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    late: bool = False

    @property
    def guarantee(self) -> list[Guarantee]:
        """``replayed`` for a success; ``estimate``, which is no guarantee at all, for a failure."""
        return [Guarantee.REPLAYED if broken else Guarantee.ESTIMATE for broken in self.success]

    def __repr__(self) -> str:
        count = int(self.success.sum())
        return (
            f"Attacks: witnesses for {count} of {counted(len(self.success), 'sample')}, distance "
            f"{spread(self.distance)} (replayed); finding none proves nothing"
        )

    def _columns(self) -> dict[str, Any]:
        outcome = ["witness" if broken else "none found" for broken in self.success]
        columns: dict[str, Any] = {"outcome": outcome, "distance": self.distance, "margin": self.margin}
        return columns | {"guarantee": [str(level) for level in self.guarantee]}


def attack(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    eps: Any,
    norm: str = "linf",
    clip: Any = None,
    free: Any = None,
    method: str = "pgd",
    targets: Any = None,
    network: Any = None,
    **options: Any,
) -> Attacks:
    """Looks for an input within ``eps`` of each ``x[i]`` that the model does not classify as ``y[i]``.

    A clean input that is already wrong is its own witness, at distance 0.

    Args:
        model: a Keras model (or a callable on tensors) with one output a class; probabilities do as well as logits,
            but see ``network``.
        x, y: samples and labels, in the forms that :func:`tfcert.certify` takes.
        eps: radius in the units of ``x``; one number (``0.03``, ``"8/255"``), one a sample, or uneven, as for
            :class:`tfcert.LpBall`.
        norm: ``linf``, ``l2`` or ``l1``.
        clip: the valid range ``(low, high)`` of an input, ``(0, 1)`` for images scaled so. None: any input within
            ``eps`` counts, so that a witness may leave the range of valid inputs.
        free: what may change, and nothing else, as for :class:`tfcert.LpBall`.
        method: ``pgd`` or ``fgsm``.
        targets: ``[batch]`` classes to reach, or ``"runner-up"``, ``"least"`` or ``"random"`` as for
            :func:`tfcert.certify`; None or ``"all"`` for any class but ``y``.
        network: the same classifier with logits for outputs, to take gradients of where ``model`` saturates.
        options: the other fields of :class:`AttackOptions` (``steps``, ``restarts``, ``step_size``, ``seed`` ...).

    Raises:
        ValueError: labels or targets that are no classes, a target that is the label, or an option out of range.
    """
    parts = inputs_of(model)
    x, y = samples(x, y, model=model, parts=parts)
    dtype = input_dtype(model, x.dtype if x.dtype == np.float64 else np.float32)
    perturbation = LpBall(x.astype(dtype), eps, norm, clip, free=free, parts=parts)
    require_steps_fixed(parts, perturbation)
    warn_of_tiny_radius(perturbation.eps, perturbation.x)
    outputs = model_outputs(model, perturbation.center[:1]).size
    require_classes(outputs)
    labels = class_labels(y, len(perturbation), classes=outputs)
    warn_of_misfit(lambda some: _predicted(model, some), perturbation.x, labels, outputs, stack=2)
    clauses, missed = _aims(model, perturbation, labels, targets, outputs)
    found = falsify(model, perturbation, clauses, network=network, holds=missed, method=method, **options)
    return found if parts is None else replace(found, witness=parts.split(found.witness))


def _aims(
    model: Any, perturbation: Perturbation, labels: np.ndarray, targets: Any, outputs: int
) -> tuple[Clauses, Holds | None]:
    """What an attack looks for: another class than the label, or a target."""
    if targets is None or (isinstance(targets, str) and targets == "all"):
        return keeps_label(labels, outputs), None
    if isinstance(targets, str):
        at = model_outputs(model, perturbation.center).reshape(len(labels), -1)
        targets = target_classes(at.astype(np.float64), labels, targets)
    wanted = class_labels(targets, len(perturbation), classes=outputs, what="target")
    if (wanted == labels).any():
        raise ValueError(f"the target of sample {int(np.argmax(wanted == labels))} is its own label")
    clauses = misses_target(wanted, outputs)

    def missed(outputs: np.ndarray, samples: np.ndarray) -> np.ndarray:
        # A tie with the target is not yet the target.
        return ~(clauses.take(samples).margin(outputs) < 0)

    return clauses, missed


def _predicted(model: Any, x: np.ndarray) -> np.ndarray:
    return model_outputs(model, x).reshape(len(x), -1).argmax(axis=1)


def falsify(
    model: Any,
    perturbation: Perturbation,
    clauses: Clauses | Sequence[Sequence[Clause]],
    *,
    network: Any = None,
    holds: Holds | None = None,
    left: Left = endless,
    conditions: Sequence[Conditions] = (),
    **options: Any,
) -> Attacks:
    """Looks for an input of each region on which the clauses do not all hold.

    The attack descends on the margin: least over the clauses of the best row of ``C y + d``. It also looks at random
    points, corners and points of faces, which see what gradients miss where inputs are few. A point counts as a
    witness when :func:`replay` says so.

    Args:
        model: the original model; every witness is replayed on it.
        perturbation: the regions.
        clauses: the property, one list of clauses a sample, or stacked.
        network: what gradients are taken of, if not ``model``: the logits where the model has a softmax head. The
            clauses are then read on both.
        holds: the property on the original model's outputs; by default the clauses' margin is positive (with
            ``network``: not negative, as probabilities may tie where logits do not).
        left: seconds that are left, by a clock of the caller's; it is asked between starts, and every few steps. What
            was found by then is the result.
        conditions: on the inputs that break each clause, see :func:`tfcert.attacks.conditions.limits`: candidates are
            moved into them. Nothing is taken on trust: a witness is one by its clauses.
        options: the fields of :class:`AttackOptions`.
    """
    settings = AttackOptions(**options)
    stacked = clauses if isinstance(clauses, Clauses) else Clauses.stack(clauses)
    perturbation = rounded(perturbation, input_dtype(model, perturbation.lower.dtype))
    if len(stacked) != len(perturbation):
        raise ValueError(f"{len(stacked)} lists of clauses for {len(perturbation)} samples")
    judge = holds or _judge(stacked, ties_count=network is None)
    task = _Task(model, network, perturbation, stacked, judge, settings, left, different(conditions))
    parts = [
        task.run(np.arange(first, min(first + settings.batch_size, len(perturbation))))
        for first in range(0, len(perturbation), settings.batch_size)
    ]
    witness = np.concatenate([p.witness for p in parts]) if parts else np.zeros(perturbation.lower.shape)
    attacks = _result(model, perturbation, stacked, witness)
    gradients = np.concatenate([p.gradients for p in parts]) if parts else np.zeros(0, int)
    return replace(attacks, gradients=gradients, late=any(p.late for p in parts))


def trace_attack(model: Any, perturbation: Perturbation, network: Any = None) -> None:
    """Traces what :func:`falsify` runs on regions of this kind, for any number of samples, clauses and steps."""
    dtype = input_dtype(model, perturbation.lower.dtype)
    trace(differentiable(model if network is None else network), region_of(rounded(perturbation, dtype).astype(dtype)))


def _judge(clauses: Clauses, ties_count: bool) -> Holds:
    """The property holds where its margin is positive. With a stand-in for a model whose own outputs saturate
    (probabilities), a tie on those may hide a positive margin, so it does not count against the property."""

    def holds(outputs: np.ndarray, samples: np.ndarray) -> np.ndarray:
        margin = clauses.take(samples).margin(outputs)
        return ~(margin <= 0) if ties_count else ~(margin < 0)

    return holds


Way = Callable[[Perturbation, Clauses, np.dtype, np.ndarray], Proposal]
"""``(regions, clauses, dtype, numbers of samples) ->`` a point of each region, worth replaying."""


@dataclass
class _Part:
    """Some samples' witnesses ``[batch, *input]`` (NaN: none), and the gradients that they took."""

    witness: np.ndarray
    gradients: np.ndarray
    late: bool = False


@dataclass(frozen=True)
class _Task:
    """One call of :func:`falsify`: what is attacked, and how."""

    model: Any
    network: Any
    perturbation: Perturbation
    clauses: Clauses
    holds: Holds
    options: AttackOptions
    left: Left
    conditions: Sequence[Conditions] = ()

    def run(self, samples: np.ndarray) -> _Part:
        """Attacks some samples; one with a witness takes no part in later starts."""
        dtype = input_dtype(self.model, self.perturbation.lower.dtype)
        ball, several = not isinstance(self.perturbation, Box), ATTACKS.find(self.options.method).restarts
        witness = np.full((len(samples), *self.perturbation.input_shape), np.nan, dtype)
        part = _Part(witness, np.zeros(len(samples), int))
        if ball:  # the clean input, before anything is computed
            self._settle(witness, samples, np.arange(len(samples)), self.perturbation.take(samples).center)
        ways = [self._by_gradient(restart) for restart in range(self.options.restarts if several else 1)]
        # The first start goes first, since its witnesses are the nearest; points cost less than the other starts.
        for way in (ways[0], self._by_points, *ways[1:]):
            (open_,) = np.nonzero(np.isnan(witness.reshape(len(samples), -1)).any(axis=1))
            if not open_.size:
                break
            if self.left() <= 0:
                part.late = True
                break
            some = self.perturbation.take(samples[open_])
            proposal = way(some, self.clauses.take(samples[open_]), dtype, samples[open_])
            part.gradients[open_] += proposal.gradients
            part.late |= proposal.late
            self._settle(witness, samples, open_, some.project(proposal.points.astype(dtype)))
            for conditions in self.conditions:
                left = open_[np.isnan(witness[open_].reshape(len(open_), -1)).any(axis=1)]
                if not len(left):
                    break
                near = proposal.points[np.isin(open_, left)].astype(dtype)
                moved = moved_into(self.perturbation.take(samples[left]), conditions.take(samples[left]), near)
                self._settle(witness, samples, left, moved)
        return part

    def _by_gradient(self, restart: int) -> Way:
        propose = ATTACKS.load(self.options.method)

        def find(some: Perturbation, clauses: Clauses, dtype: np.dtype, samples: np.ndarray) -> Proposal:
            region = region_of(some.astype(dtype))
            region = region._replace(center=tf.constant(some.center.astype(dtype)))
            attacked = differentiable(self.model if self.network is None else self.network)
            return propose(attacked, region, clauses, restart, self.options, self.left, self._shared(samples))

        return find

    def _shared(self, samples: np.ndarray) -> Conditions | None:
        """The conditions of some samples, where all clauses have the same."""
        return self.conditions[0].take(samples) if len(self.conditions) == 1 else None

    def _by_points(self, some: Perturbation, clauses: Clauses, dtype: np.dtype, samples: np.ndarray) -> Proposal:
        size = math.prod(some.input_shape)
        count = default_count(size) if self.options.points is None else self.options.points
        return best_points(self.model, some, clauses, (count, self.options.seed), self.left, self._shared(samples))

    def _settle(self, witness: np.ndarray, samples: np.ndarray, which: np.ndarray, points: np.ndarray) -> None:
        """Writes down those of the points that a replay confirms."""

        def holds(outputs: np.ndarray, index: np.ndarray) -> np.ndarray:
            return self.holds(outputs, samples[which[index]])

        confirmed = replay(self.model, self.perturbation.take(samples[which]), points, holds)
        witness[which[confirmed]] = points[confirmed]


def _result(model: Any, perturbation: Perturbation, clauses: Clauses, witness: np.ndarray) -> Attacks:
    count = len(perturbation)
    success = ~np.isnan(witness.reshape(count, -1)).any(axis=1)
    distance, margin = np.full(count, np.nan), np.full(count, np.nan)
    (places,) = np.nonzero(success)
    if places.size:
        margin[places] = clauses.take(places).margin(model_outputs(model, witness[places]))
        distance[places] = perturbation.take(places).lengths(witness[places])
    return Attacks(witness, success, distance, margin)
