"""Granularity tuning without training anew: cells become finer as training goes on."""

from __future__ import annotations

import math
from typing import Any

import keras

from tfcert.given import radius
from tfcert.network.abstraction import abstraction_of, one_width, simplest
from tfcert.training.abstraction import abstraction_error, end_gradients
from tfcert.training.granularity import lowest
from tfcert.training.samples import arrays

_BEST = {"max": ("accuracy", "acc", "radius"), "min": ("loss", "error")}
"""How the keys of figures end whose largest value is best, and of those whose least is."""


class GranularityTuner(keras.callbacks.Callback):
    """Makes the cells of the model's abstraction finer while it trains, and restores the best weights in the end.

    The warm-start variant of :func:`tfcert.tune_granularity` (AbsCert, Algorithm 3, trains from scratch for each
    granularity). After every ``every``-th epoch, and the last, it computes the abstraction error of held-out samples
    (no guarantee, see :func:`tfcert.abstraction_error`) and remembers weights and granularity where it is least, or
    where the figure named by ``monitor`` is best, the first of several. The next epoch begins with a granularity that
    is ``step`` smaller, unless that is below the floor, or the mean gradients of the loss say that it falls as cells
    grow at both ends; then the granularity stays for the rest of this ``fit``. At the end of training the best weights
    and their granularity are restored; the optimizer stays as it is.

    Writes ``granularity`` and ``val_abstraction_error`` to the logs, the latter as NaN in epochs in between.
    ``fit`` of a CertifiedModel calls it before EarlyStopping, ModelCheckpoint and the like, wherever it stands in the
    list; with another model, put it first. The granularity is a weight: a ModelCheckpoint holds the one that it was
    written with, and BackupAndRestore goes on with it. A run that goes on knows the best of its own epochs only; one
    that begins an epoch again, from a backup made in the middle of it, lowers the granularity again.

    Args:
        data: held-out ``(x, y)``, labels as classes or one-hot, or a ``tf.data.Dataset`` of batches of such pairs.
        eps: the radius, in the units of x.
        step: how much the granularity falls each time.
        floor: the least granularity; by default ``2 * eps``. The layer's ``finest`` must not be above it.
        every: epochs at each granularity.
        stop_on_gradient: False to go on to the floor whatever the gradients say.
        train: ``(x, y)``, samples of training for the gradients, labels as the loss takes them; by default the
            held-out ones.
        limit: use the first so many held-out samples only.
        monitor: the key of the log whose best value is kept. By default the paper's figure. Where bounds are trained
            that figure is no aim: ``"val_verified_accuracy"``, which a CertifiedEvaluation before this callback
            writes, or ``"val_ibp_verified_accuracy"``, which a CertifiedModel's validation data bring, is.
        mode: ``"max"`` if the largest value is best, ``"min"`` if the least is; ``"auto"`` tells by the end of the key:
            the largest of an accuracy (``acc``) or a radius, the least of a loss or an error.

    Attributes:
        best: ``(granularity, value of the monitored figure)`` so far; infinite before the first.
        stopped: whether gradients have ended the descent.

    Raises:
        ValueError: numbers that are not positive, a floor below ``2 * eps``; in ``fit``: no abstraction, or one whose
            ``finest`` is above the floor; logs without the figure that is monitored; a mode that is none of the
            three, or ``"auto"`` for a key that does not tell.
    """

    writes_logs = True

    def __init__(
        self,
        data: Any,
        eps: float | str,
        step: float,
        floor: float | None = None,
        every: int = 1,
        stop_on_gradient: bool = True,
        train: Any = None,
        limit: int | None = None,
        monitor: str = "val_abstraction_error",
        mode: str = "auto",
    ):
        super().__init__()
        eps = float(radius(eps))
        for name, number in (("eps", eps), ("step", step)):
            if not (math.isfinite(number) and number > 0):
                raise ValueError(f"{name} must be a finite number above 0, not {number}")
        if every < 1 or (limit is not None and limit < 1):
            raise ValueError(f"every and limit must be at least 1, not {every} and {limit}")
        self.x, self.y = arrays(data, limit)
        self.train = (self.x, self.y) if train is None else train
        self.eps, self.step, self.every = eps, simplest(float(step)), every
        self.stop_on_gradient = stop_on_gradient
        self.floor = lowest(eps, floor)
        self.monitor = monitor
        self._sign = _sign(monitor, mode)
        self._begin()

    def _begin(self) -> None:
        self.best = (math.inf, self._sign * math.inf)
        self.stopped = False
        self._weights: list[Any] | None = None
        self._begun = False

    def on_train_begin(self, logs: Any = None) -> None:
        self._begin()
        layer = abstraction_of(self.model)
        one_width(layer)  # raises where there are several
        if simplest(layer.finest) > self.floor:
            raise ValueError(
                f"layer {layer.name!r} has room for cells of {layer.finest} and wider, but the floor is "
                f"{float(self.floor)}: make it with finest={float(self.floor)}, or give a higher floor"
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # Not at the end of the epoch before: what other callbacks evaluate and save there is of that granularity.
        if epoch == 0 or epoch % self.every or self.stopped:
            return
        layer = abstraction_of(self.model)
        width = simplest(layer.granularity) - self.step
        if width < self.floor:
            return
        self.stopped = self.stop_on_gradient and end_gradients(self.model, *self.train).ask_for_wider_cells
        if not self.stopped:
            layer.granularity = float(width)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        final = epoch + 1 == (self.params or {}).get("epochs")
        logs = {} if logs is None else logs
        figures = {"granularity": abstraction_of(self.model).granularity, "val_abstraction_error": math.nan}
        if not self._begun or (epoch + 1) % self.every == 0 or final:
            self._begun = True
            figures["val_abstraction_error"] = abstraction_error(self.model, self.x, self.y).error
            self._compare(logs | figures)
        logs.update(figures)

    def _compare(self, logs: dict[str, Any]) -> None:
        """Remembers weights and granularity if they are the best so far."""
        if self.monitor not in logs:
            raise ValueError(
                f"GranularityTuner is to keep the best {self.monitor!r}, which the logs do not have: they have "
                f"{', '.join(sorted(logs))}. Put the callback that writes it first, or give fit validation_data"
            )
        value = float(logs[self.monitor])
        if self._sign * value < self._sign * self.best[1]:
            self.best = (logs["granularity"], value)
            self._weights = self.model.get_weights()

    def on_train_end(self, logs: Any = None) -> None:
        if self._weights is not None:
            self.model.set_weights(self._weights)


def _sign(monitor: str, mode: str) -> float:
    """By what a figure is multiplied so that less is better."""
    if mode not in ("auto", *_BEST):
        raise ValueError(f"mode must be auto, min or max, not {mode!r}")
    told = [direction for direction, ends in _BEST.items() if monitor.endswith(ends)] if mode == "auto" else [mode]
    if not told:
        raise ValueError(
            f"the key {monitor!r} does not tell whether more of it is better: give mode='max' if it is, or mode='min'"
        )
    return -1.0 if told == ["max"] else 1.0
