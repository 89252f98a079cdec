"""Attacks of a library that look for the nearest adversarial example, and their finds replayed and drawn nearer.

They are those of foolbox: ``cw`` (Carlini and Wagner 2017; L2), ``ead`` (elastic net with the L1 rule, Chen et al.
2018; L1) and ``fmn`` (fast minimum norm, Pintor et al. 2021; any norm). What they find is a claim until it replays.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.attacks.gradient import Left, clause_margins, endless
from tfcert.attacks.witness import differentiable, input_dtype, replay
from tfcert.clauses import Clauses
from tfcert.errors import UsageError
from tfcert.sets.balls import ORDER, Clip, LpBall
from tfcert.tracing import traced

_STRETCHES = (1.0, 1.0001, 1.001, 1.01, 1.1)
"""An attack stops at the decision boundary, where rounding may undo its find: it is also tried a little farther out."""
_HALVINGS = 20
_ROUNDING = 1e-11
_START = 1.0
"""The constant that the search begins with: margins and distances of inputs in [0, 1] are about 1 each."""


@dataclass(frozen=True)
class Effort:
    """How hard an attack tries: gradient ``steps``, for ``cw`` and ``ead`` in each of so many ``searches``."""

    steps: int = 150
    searches: int = 6


def _foolbox() -> Any:
    try:
        import foolbox
    except ImportError as error:
        raise UsageError(
            "the attacks cw, ead and fmn need the library foolbox, which is not installed: "
            "pip install 'tfcert[attacks]'"
        ) from error
    return foolbox


def library_attack(name: str, norm: str, effort: Effort) -> Any:
    """One of ``cw``, ``ead`` and ``fmn``, the last for a norm.

    Raises:
        UsageError: foolbox is not installed.
    """
    attacks = _foolbox().attacks
    if name == "cw":
        # The attack moves in the inverse of tanh, where the range of inputs is some 15 long: far enough to cross it.
        size = max(0.01, 10 / effort.steps)
        return attacks.L2CarliniWagnerAttack(
            binary_search_steps=effort.searches, steps=effort.steps, stepsize=size, initial_const=_START
        )
    if name == "ead":
        return attacks.EADAttack(
            binary_search_steps=effort.searches, steps=effort.steps, initial_const=_START, decision_rule="L1"
        )
    kinds = {"linf": attacks.LInfFMNAttack, "l2": attacks.L2FMNAttack, "l1": attacks.L1FMNAttack}
    return kinds[norm](steps=effort.steps)


class Scaled:
    """A network on inputs scaled to [0, 1], the units that the library's step sizes are meant for."""

    def __init__(self, network: Callable[[tf.Tensor], tf.Tensor], x: np.ndarray, clip: Clip | None):
        if clip is None:
            low, high = float(np.min(x, initial=np.inf)), float(np.max(x, initial=-np.inf))
            beyond = 0.5 * (high - low) or 1.0
            self.low, self.width = low - beyond, high - low + 2 * beyond
        else:
            self.low = float(np.min(clip[0]))
            self.width = float(np.max(clip[1])) - self.low
        self.dtype = tf.as_dtype(x.dtype)
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


class NearestFinds:
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


_PILOT = Effort(2, 1)
"""Two steps, by which the pace is measured."""
_FEWEST = 20
"""Steps fewer than these find nothing worth the time."""
_AT_ONCE = 100


def nearest_by(
    name: str, model: Any, ball: LpBall, clauses: Clauses, *, network: Any = None, left: Left = endless
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest strict witnesses that an attack of the library finds in balls, by the balls' norm.

    The attack sees two outputs: the clauses' margin and 0, so it looks where the margin falls below zero.

    Args:
        name: ``cw``, ``ead`` or ``fmn``.
        model: judges what is found.
        ball: how far to look, one ball a sample.
        clauses: what must hold of the outputs.
        network: what gradients are taken of where the model's own outputs saturate.
        left: seconds that are left, by a clock of the caller's: as many steps are taken as they are expected to do.

    Returns:
        Witnesses ``[batch, *input]`` in the model's dtype (NaN where none), and how many gradients were taken of each
        sample.

    Raises:
        UsageError: foolbox is not installed.
    """
    parts = [
        _nearest_by(name, model, ball.take(part), clauses.take(part), differentiable(network or model), left)
        for part in (np.arange(i, min(i + _AT_ONCE, len(ball))) for i in range(0, len(ball), _AT_ONCE))
    ]
    if not parts:
        return np.full(ball.x.shape, np.nan, ball.x.dtype), np.zeros(0, int)
    return np.concatenate([w for w, _ in parts]), np.concatenate([g for _, g in parts])


def _nearest_by(
    name: str, model: Any, ball: LpBall, clauses: Clauses, outputs: Callable[[tf.Tensor], tf.Tensor], left: Left
) -> tuple[np.ndarray, np.ndarray]:
    points = ball.x.astype(input_dtype(model, ball.x.dtype))
    rows = tf.constant(clauses.coefficients, points.dtype), tf.constant(clauses.offsets, points.dtype)

    def against(z: tf.Tensor) -> tf.Tensor:
        found = tf.cast(tf.reshape(outputs(z), [tf.shape(z)[0], -1]), z.dtype)
        margin = tf.reduce_min(clause_margins(found, *rows), axis=1)
        return tf.stack([margin, tf.zeros_like(margin)], axis=1)

    far = float(ball.eps.max())
    scaled = Scaled(against, points, ball.clip or (float(points.min()) - far, float(points.max()) + far))
    search = NearestFinds(model, points, clauses, ball.norm, ball.clip)
    label = np.zeros(len(points), np.int64)
    taken = 0

    def run(effort: Effort) -> np.ndarray:
        nonlocal taken
        taken += effort.steps * (1 if name == "fmn" else effort.searches)
        return scaled.run(library_attack(name, ball.norm, effort), points, label, None)

    effort: Effort | None = Effort()
    if math.isfinite(left()):
        effort = None
        for _ in range(2):  # the first one traces
            if left() <= 0:
                break
            began = time.monotonic()
            run(_PILOT)
            effort = _affordable(left(), (time.monotonic() - began) / _PILOT.steps)
    if effort is not None:
        search.settle(name, run(effort))
    inside = search.distance <= ball.eps
    search.witness[~inside] = np.nan
    return search.witness, np.full(len(points), taken)


def _affordable(seconds: float, pace: float) -> Effort | None:
    """The effort that so many seconds are expected to suffice for, at ``pace`` seconds a step; None for none."""
    usual = Effort()
    steps = min(usual.steps * usual.searches, int(0.8 * seconds / max(pace, 1e-9)))
    if steps < _FEWEST:
        return None
    searches = max(1, min(usual.searches, steps // usual.steps))
    return Effort(min(usual.steps, steps // searches), searches)


CW, EAD = functools.partial(nearest_by, "cw"), functools.partial(nearest_by, "ead")
FMN = functools.partial(nearest_by, "fmn")
"""Guides of a search for least perturbations; see ``tfcert.complete.starts``."""
