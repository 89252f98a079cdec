"""Objectives: what a certified network is trained for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfcert.given import valid_range
from tfcert.showing import spread
from tfcert.training.balance import GradientBalance
from tfcert.training.batch import BoundedBatch
from tfcert.training.regularizers import IntervalWidth, Regularizer
from tfcert.training.schedules import Constant, Schedule, loaded, saved, schedule

STATISTICS = ("batch", "moving")


class Common(TypedDict, total=False):
    """The options that every objective takes; see :class:`Objective`."""

    kappa: float | Schedule
    natural_weight: float | Schedule
    clip: Any
    regularizers: Sequence[Regularizer]
    eps_factor: float
    batch_norm: str
    scale: Any


class Objective(ABC):
    """The loss ``kappa * L(logits) + (1 - kappa) * robust + regularizers`` of a :class:`CertifiedModel`.

    L is the classification loss that the model was compiled with. Where ``kappa`` is 1 and nothing is regularized, a
    step is exactly a step of plain training.

    Args:
        eps: the radius of the L-infinity ball around each input, in the units of the model's input; a number or a
            schedule.
        kappa: the weight of the nominal loss, in [0, 1]; a number or a schedule. ``natural_weight``, its name in
            specifications, is taken as well.
        clip: the valid range ``(low, high)`` of an input: numbers, or lists that broadcast against one input; or a
            dictionary of such by the names of a model's inputs.
        scale: where radii are uneven, what ``eps`` is multiplied with, number by number: a list of the shape of one
            input, or a dictionary of numbers and lists by the names of a model's inputs (0 for one held fixed).
        regularizers: further terms of the loss.
        eps_factor: training bounds are over ``eps_factor * eps`` (Gowal et al. 2018 train on somewhat more than they
            test). Evaluation is over the final ``eps`` itself.
        batch_norm: which statistics bounds use in layers that normalise batches: ``"batch"``, the mean and variance
            that the nominal pass of the same step has (and gradients flow through them), or ``"moving"``, the moving
            averages as they stand after that pass. Evaluation uses moving averages always, as the model does.

    Raises:
        ValueError: an eps below zero, a kappa outside [0, 1] or under both names, an empty clip range, or an unknown
            option.
        TypeError: something that is no number, schedule or regularizer.
    """

    default_kappa = 0.0
    method = "ibp"
    """The method of ``certify`` whose bounds are trained: a network that it is not defined for is refused."""

    def __init__(
        self,
        eps: float | Schedule,
        kappa: float | Schedule | None = None,
        clip: Any = None,
        regularizers: Sequence[Regularizer] = (),
        eps_factor: float = 1.0,
        batch_norm: str = "batch",
        natural_weight: float | Schedule | None = None,
        scale: Any = None,
    ):
        if natural_weight is not None:
            if kappa is not None:
                raise ValueError("kappa and natural_weight are two names of one weight: give one of them")
            kappa = natural_weight
        self.eps = schedule(loaded(eps))
        self.kappa = schedule(self.default_kappa if kappa is None else loaded(kappa))
        for value in _ends(self.eps):
            if value < 0:
                raise ValueError(f"eps must not be negative, but reaches {value}")
        for value in _ends(self.kappa):
            if not 0 <= value <= 1:
                raise ValueError(f"kappa must stay in [0, 1], but reaches {value}")
        self.clip: Any = _checked_clip(clip)
        self.scale = scale
        self.regularizers = tuple(loaded(term) for term in regularizers)
        for term in self.regularizers:
            if not isinstance(term, Regularizer):
                raise TypeError(f"{term!r} is no regularizer; tfcert.objectives has IntervalWidth and others")
        if not (np.isfinite(eps_factor) and eps_factor > 0):
            raise ValueError(f"eps_factor must be a positive number, not {eps_factor!r}")
        if batch_norm not in STATISTICS:
            raise ValueError(f"batch_norm must be one of {', '.join(STATISTICS)}, not {batch_norm!r}")
        self.eps_factor, self.batch_norm = float(eps_factor), batch_norm
        self.steps_per_epoch: float | None = None
        """Optimizer steps in an epoch, taken from the data at ``fit`` and saved with the objective."""

    def __repr__(self) -> str:
        clip = "" if self.clip is None else f", clip={_told(self.clip)}"
        terms = f", regularizers={list(self.regularizers)}" if self.regularizers else ""
        return f"{type(self).__name__}(eps={self.eps!r}, kappa={self.kappa!r}{clip}{terms})"

    @abstractmethod
    def robust(self, batch: BoundedBatch) -> tf.Tensor:
        """The robust part of the loss, a scalar."""

    def parts(self, batch: BoundedBatch) -> tuple[tf.Tensor, tf.Tensor]:
        """The two losses whose sum is the robust part, where :meth:`balance` says how much they count."""
        raise NotImplementedError

    def balance(self, model: keras.Model) -> GradientBalance | None:
        """What weighs the gradients of the two :meth:`parts` in each step; None where the robust part is one loss."""
        return None

    def lines_until(self) -> float:
        """The number of steps after which no bound by lines has a weight; infinity where none is taken either way."""
        return math.inf

    def at(self, step: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """eps (without ``eps_factor``) and kappa for the step that follows ``step`` steps: float32 scalars."""
        return self.eps(step, self.steps_per_epoch), self.kappa(step, self.steps_per_epoch)

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """Every schedule that the objective reads."""
        return self.eps, self.kappa

    @property
    def terms(self) -> tuple[Regularizer, ...]:
        """The regularizers that have a weight."""
        return tuple(term for term in self.regularizers if term.weight > 0)

    def is_plain(self) -> bool:
        """Tells whether every step is one of plain training."""
        return self.kappa == Constant(1.0) and not self.terms

    def is_always_robust(self) -> bool:
        """Tells whether no step is one of plain training."""
        return bool(self.terms) or (isinstance(self.kappa, Constant) and self.kappa.final < 1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, and the steps per epoch."""
        return {
            "eps": saved(self.eps),
            "kappa": saved(self.kappa),
            "clip": None if self.clip is None else _lists(self.clip),
            "scale": None if self.scale is None else _lists(self.scale),
            "regularizers": [keras.saving.serialize_keras_object(term) for term in self.regularizers],
            "eps_factor": self.eps_factor,
            "batch_norm": self.batch_norm,
            "steps_per_epoch": self.steps_per_epoch,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Objective:
        """The inverse of :meth:`get_config`."""
        config = dict(config)
        steps = config.pop("steps_per_epoch", None)
        objective = cls(**config)
        objective.steps_per_epoch = steps
        return objective


@keras.saving.register_keras_serializable("tfcert")
class IBP(Objective):
    """Interval bound propagation (Gowal et al. 2018, "On the effectiveness of interval bound propagation").

    ``kappa * L(logits) + (1 - kappa) * L(worst-case logits)``. With elision the last linear layers are multiplied with
    the differences ``f_y - f_j`` before they are bounded, which is tighter (section 3 there); the worst-case logits are
    then 0 for the label and minus the margin's bound for each other class, which a loss that reads differences of
    logits (cross-entropy) does not tell apart from logits.

    Args:
        eps, common: see :class:`Objective`; ``kappa`` is 0.5 by default, where the paper's ramp ends.
        elide: whether to fold the last linear layers with the specification.

    Example:
        >>> from tfcert.schedules import Ramp
        >>> ramped = IBP(Ramp(0.0, 0.1, 1, 10), kappa=Ramp(1.0, 0.5, 1, 10), clip=(0, 1))
    """

    default_kappa = 0.5

    def __init__(self, eps: float | Schedule, *, elide: bool = True, **common: Unpack[Common]):
        super().__init__(eps, **common)
        self.elide = bool(elide)

    def robust(self, batch: BoundedBatch) -> tf.Tensor:
        return interval_loss(batch, self.elide)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"elide": self.elide}


@keras.saving.register_keras_serializable("tfcert")
class ConstrainedIBP(IBP):
    """IBP with the widths of the intervals as a further term (after Morawiecki et al. 2020, section 3.3).

    :class:`IBP` with :class:`~tfcert.training.regularizers.IntervalWidth` among its regularizers: logarithms of squared
    widths by default. The paper's formula is ``ConstrainedIBP(eps, reduction="sum")``, and then, as with ``"mean"``,
    the logits are bounded as they are, without elision; its figures speak of means over hidden layers
    (``reduction="mean", layers="hidden"``). With either of these a short ramp of eps turns a network into a constant,
    by the default it does not: ``benchmarks/training`` measures all three, beside IBP.

    Args:
        eps, common: see :class:`Objective`.
        weight, layers, reduction: of the width term, see ``IntervalWidth``.
        elide: see :class:`IBP`; by default only the reduction ``"log"`` elides.
    """

    def __init__(
        self,
        eps: float | Schedule,
        *,
        weight: float = 1.0,
        layers: str = "all",
        reduction: str = "log",
        elide: bool | None = None,
        **common: Unpack[Common],
    ):
        super().__init__(eps, elide=reduction == "log" if elide is None else elide, **common)
        self.width = IntervalWidth(weight, layers, reduction)

    @property
    def terms(self) -> tuple[Regularizer, ...]:
        return (*((self.width,) if self.width.weight > 0 else ()), *super().terms)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | self.width.get_config()


@keras.saving.register_keras_serializable("tfcert")
class CrownIBP(Objective):
    """CROWN-IBP (Zhang et al. 2020, "Towards stable and efficient training of verifiably robust neural networks").

    ``kappa * L(logits) + (1 - kappa) * L(-m)`` with the margins ``m = beta * m_crown_ibp + (1 - beta) * m_ibp``, both
    lower bounds of ``f_y - f_j``. In the paper beta falls from 1 to 0 while eps grows.

    With loss fusion (Xu et al. 2020, "Automatic perturbation analysis for scalable certified robustness and beyond")
    the robust part is ``beta * F + (1 - beta) * L(-m_ibp)``: F is an upper bound of the robust cross-entropy by one
    CROWN-IBP row for each sample, instead of one for each class, see
    :meth:`~tfcert.training.batch.BoundedBatch.fused_logits`. Losses are mixed and not, as in that paper's code, the
    bounds of the sums of exponentials: both mixtures bound the robust loss, and this is the smaller one. F is above
    ``L(-m_crown_ibp)`` where exponentials bend within their intervals, and may be below it because one row is bounded
    at one point.

    Args:
        eps, common: see :class:`Objective`; ``kappa`` is 0 by default.
        beta: the weight of the CROWN-IBP bound, in [0, 1]; a number or a schedule. Once it is 0 for good the backward
            pass is not taken.
        fuse: whether to fuse the loss, which makes a step several times as fast. Only a cross-entropy can be fused: of
            any other loss that the model is compiled with, the margins are bounded one by one all the same. With the
            paper's beta both train as well; with ``beta=1`` throughout, margins one by one verify more by CROWN-IBP
            after as many epochs, and nothing by intervals.
    """

    def __init__(
        self, eps: float | Schedule, *, beta: float | Schedule = 1.0, fuse: bool = True, **common: Unpack[Common]
    ):
        super().__init__(eps, **common)
        self.beta, self.fuse = schedule(loaded(beta)), bool(fuse)
        for value in _ends(self.beta):
            if not 0 <= value <= 1:
                raise ValueError(f"beta must stay in [0, 1], but reaches {value}")

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        return (*super().schedules, self.beta)

    def robust(self, batch: BoundedBatch) -> tf.Tensor:
        by_intervals = interval_loss(batch)
        if self.beta == Constant(0.0) or not batch.by_lines:
            return by_intervals
        beta = tf.cast(self.beta(batch.step, self.steps_per_epoch), by_intervals.dtype)
        if self.fuse and batch.is_crossentropy:
            return beta * batch.classify(batch.fused_logits()) + (1.0 - beta) * by_intervals
        return batch.classify(-(beta * batch.line_margins() + (1.0 - beta) * batch.interval_margins))

    def lines_until(self) -> float:
        return self.beta.ends_at(0.0, self.steps_per_epoch)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"beta": saved(self.beta), "fuse": self.fuse}


def interval_loss(batch: BoundedBatch, elide: bool = True) -> tf.Tensor:
    """The classification loss of the worst-case logits by intervals."""
    return batch.classify(-batch.interval_margins if elide else batch.worst_logits())


def _ends(value: Schedule) -> tuple[float, ...]:
    return value.final, float(getattr(value, "start", value.final))


def _lists(value: Any) -> Any:
    """A range, or numbers, as a configuration holds them."""
    if isinstance(value, Mapping):
        return {str(name): _lists(part) for name, part in value.items()}
    return [_lists(part) for part in value] if isinstance(value, list | tuple) else np.asarray(value).tolist()


def _told(clip: Any) -> str:
    if isinstance(clip, Mapping):
        return "{" + ", ".join(f"{name!r}: {_told(ends)}" for name, ends in clip.items()) + "}"
    return "..".join(spread(np.asarray(end)) for end in clip)


def _checked_clip(clip: Any) -> Any:
    if clip is None:
        return None
    if isinstance(clip, Mapping):
        return {str(name): _checked_clip(ends) for name, ends in clip.items()}
    low, high = valid_range(clip)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError(f"clip must be a range of finite numbers (low, high), not {clip!r}")
    return low, high
