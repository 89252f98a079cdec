"""Schedules: numbers that change as training goes on, as functions of the optimizer's steps alone.

No schedule has a state of its own, so training that is resumed (a restored backup, a loaded model, ``initial_epoch``)
finds each number where it was left.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import keras
import tensorflow as tf

from tfcert.given import radius

UNITS = ("epochs", "steps")
SHAPES = ("linear", "smooth")
_JOIN, _POWER = 0.25, 4
"""A smooth ramp grows with this power up to this fraction of its length, and linearly from there (CROWN-IBP's code)."""


class Schedule(ABC):
    """A number as a function of the steps that the optimizer has taken.

    Attributes:
        final: the value that is reached in the end.
        in_epochs: whether the schedule needs to know how many steps make an epoch.
    """

    final: float
    in_epochs: bool = False

    @abstractmethod
    def __call__(self, step: Any, steps_per_epoch: float | None = None) -> tf.Tensor:
        """The value for the step that follows ``step`` steps: a float32 scalar.

        Args:
            step: steps taken so far, an integer or a scalar tensor.
            steps_per_epoch: optimizer steps in an epoch.

        Raises:
            ValueError: the schedule is in epochs, and the steps per epoch are not known.
        """

    def starts_at(self, value: float, steps_per_epoch: float | None = None) -> float:
        """The last step at which the schedule still has, exactly, the ``value`` that it starts with; -1 if none."""
        return -1.0

    def ends_at(self, value: float, steps_per_epoch: float | None = None) -> float:
        """The steps after which the schedule has the ``value`` that it ends with for good; infinity if none."""
        return math.inf

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Schedule:
        """The inverse of :meth:`get_config`."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), tuple(sorted(self.get_config().items()))))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({shown})"


@keras.saving.register_keras_serializable("tfcert")
class Constant(Schedule):
    """The same number at every step.

    Raises:
        ValueError: the value is not a finite number.
    """

    def __init__(self, value: float):
        self.final = _finite("a constant schedule's value", value)

    def __call__(self, step: Any, steps_per_epoch: float | None = None) -> tf.Tensor:
        return tf.constant(self.final, tf.float32)

    def ends_at(self, value: float, steps_per_epoch: float | None = None) -> float:
        return 0.0 if value == self.final else math.inf

    def get_config(self) -> dict[str, Any]:
        return {"value": self.final}


@keras.saving.register_keras_serializable("tfcert")
class Ramp(Schedule):
    """From ``start`` to ``stop`` between ``begin`` and ``end``; ``start`` before (a warm-up), ``stop`` after.

    Args:
        start, stop: the values at the ends.
        begin, end: when the ramp begins and ends, counted from the start of training in ``unit``. Epoch 1 ends at 1.0;
            fractions are allowed. With ``begin == end`` the value jumps there.
        unit: ``"epochs"`` or ``"steps"`` (steps of the optimizer). Epochs are turned into steps with the length of the
            data set given to ``fit``.
        shape: ``"linear"``; or ``"smooth"``, which begins with a fourth power and goes over into a line of the same
            slope after a quarter of the way (Zhang et al. 2020, CROWN-IBP, whose published code introduced it; used by
            Shi et al. 2021 too).

    Raises:
        ValueError: an unknown unit or shape, an end before the beginning, or a number that is not finite.
    """

    def __init__(
        self, start: float, stop: float, begin: float, end: float, unit: str = "epochs", shape: str = "linear"
    ):
        self.start, self.final = _finite("a ramp's start", start), _finite("a ramp's stop", stop)
        self.begin, self.end = _finite("a ramp's begin", begin), _finite("a ramp's end", end)
        if self.begin < 0 or self.end < self.begin:
            raise ValueError(f"a ramp needs 0 <= begin <= end, not begin={begin} and end={end}")
        if unit not in UNITS:
            raise ValueError(f"a ramp's unit must be one of {', '.join(UNITS)}, not {unit!r}")
        if shape not in SHAPES:
            raise ValueError(f"a ramp's shape must be one of {', '.join(SHAPES)}, not {shape!r}")
        self.unit, self.shape = unit, shape
        self.in_epochs = unit == "epochs"

    def __call__(self, step: Any, steps_per_epoch: float | None = None) -> tf.Tensor:
        scale = self._scale(steps_per_epoch)
        begin, end = self.begin * scale, self.end * scale
        here = tf.cast(step, tf.float32)
        if end > begin:
            progress = tf.clip_by_value((here - begin) / (end - begin), 0.0, 1.0)
        else:
            progress = tf.cast(here >= begin, tf.float32)
        if self.shape == "smooth":
            progress = _smooth(progress)
        # Exact at both ends, which a sum of start and a difference is not.
        value = self.start * (1.0 - progress) + self.final * progress
        return tf.where(progress >= 1.0, tf.constant(self.final, tf.float32), value)

    def starts_at(self, value: float, steps_per_epoch: float | None = None) -> float:
        return self.begin * self._scale(steps_per_epoch) if value == self.start else -1.0

    def ends_at(self, value: float, steps_per_epoch: float | None = None) -> float:
        return self.end * self._scale(steps_per_epoch) if value == self.final else math.inf

    def _scale(self, steps_per_epoch: float | None) -> float:
        """Steps in a unit."""
        if not self.in_epochs:
            return 1.0
        if not steps_per_epoch:
            raise ValueError(
                f"{self!r} counts epochs, and the number of steps in an epoch is not known (the data set has no known "
                'length): give the schedule in steps (unit="steps"), or steps_per_epoch to fit'
            )
        return float(steps_per_epoch)

    def get_config(self) -> dict[str, Any]:
        return {
            "start": self.start, "stop": self.final, "begin": self.begin, "end": self.end, "unit": self.unit,
            "shape": self.shape,
        }  # fmt: skip


def _smooth(progress: tf.Tensor) -> tf.Tensor:
    """``a p^4`` up to ``p = 1/4`` and the line through ``(1, 1)`` from there, with the ``a`` that makes slopes meet."""
    height = 1.0 / (_JOIN ** (_POWER - 1) * (_POWER * (1.0 - _JOIN) + _JOIN))
    joined = height * _JOIN**_POWER
    line = joined + (1.0 - joined) * (progress - _JOIN) / (1.0 - _JOIN)
    return tf.where(progress < _JOIN, height * tf.pow(progress, _POWER), line)


def schedule(value: Schedule | float | str) -> Schedule:
    """A schedule as it is, a number (or the text of one, ``"8/255"``) as a constant.

    Raises:
        TypeError: neither a number nor a schedule.
        ValueError: a text that is no number.
    """
    if isinstance(value, Schedule):
        return value
    number = radius(value, "the text")
    if isinstance(number, bool) or not hasattr(number, "__float__"):
        raise TypeError(f"expected a number or a schedule such as tfcert.schedules.Ramp, not {value!r}")
    return Constant(number)


def saved(value: Schedule | float) -> Any:
    """A schedule for a configuration; see :func:`loaded`."""
    return keras.saving.serialize_keras_object(schedule(value))


def loaded(value: Any) -> Any:
    """The inverse of :func:`saved`; numbers and schedules stay as they are."""
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value


def _finite(what: str, value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{what} must be a finite number, not {value!r}")
    return number
