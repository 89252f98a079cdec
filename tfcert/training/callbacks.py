"""Callbacks of certified training, for ``fit`` of a CertifiedModel and, where it makes sense, of any Keras model."""

from __future__ import annotations

import importlib
import math
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcert.attacks import attack
from tfcert.catalog import check_method, method_name
from tfcert.certification import certify
from tfcert.clauses import strictly_right
from tfcert.given import class_labels, radius
from tfcert.misfit import unsaid
from tfcert.network.keras.inputs import structured
from tfcert.propagation.bounds import check_names
from tfcert.propagation.centered import sweep
from tfcert.sets.uneven import read_clip
from tfcert.training.batch import boxes
from tfcert.training.constancy import KEY, ConstancyWatch, ConstantNetworkWarning
from tfcert.training.regularizers import bounded_layers
from tfcert.training.samples import arrays

_WIDTH = "interval_width"
KEYS = ("val_nominal_accuracy", "val_attack_accuracy", "val_verified_accuracy")


class _Length(keras.callbacks.Callback):
    """Tells a certified model how many batches make an epoch, and lets it choose its step while that may change.

    It also asks, after the first batch and once an epoch, whether samples stayed in the valid range, and once an epoch
    whether the network has become constant.
    """

    settled = False
    seen = False
    constant: float | None = None
    first = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.settled = self.seen = False
        self.watch = ConstancyWatch()
        self.model.take_steps(self.params.get("steps"))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.constant, self.first = None, self.model.steps_taken

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if not self.settled:
            self.settled = self.model.choose_train_function()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not self.seen:
            self.model.require_inside()
            self.seen = True

    def on_test_begin(self, logs: Any = None) -> None:
        self._look()  # before validation counts anew

    def _look(self) -> float:
        self.model.require_inside()
        self.constant = self.model.constant()
        return self.constant

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        constant = self._look() if self.constant is None else self.constant
        if logs is not None:
            logs[KEY] = constant
        said = self.watch.epoch(epoch, self.model.steps_taken - self.first, constant)
        if said is not None:
            warnings.warn(said, ConstantNetworkWarning, stacklevel=2)

    def on_train_end(self, logs: Any = None) -> None:
        self.model.compile_inner()


def arranged(callbacks: Any, model: Any) -> Any:
    """Callbacks in the order in which ``fit`` must call them: those that write logs before those that read them."""
    whole = callbacks if isinstance(callbacks, keras.callbacks.CallbackList) else None
    given = whole.callbacks if whole is not None else callbacks or []
    given = list(given) if isinstance(given, list | tuple) else [given]
    rest = [callback for callback in given if not isinstance(callback, _Length)]
    first = _Length()
    ordered = [first, *sorted(rest, key=lambda callback: not getattr(callback, "writes_logs", False))]
    if whole is None:
        return ordered
    first.set_params(whole.params)
    first.set_model(model)
    whole.callbacks[:] = ordered
    return whole


class ObjectiveScheduler(keras.callbacks.Callback):
    """Publishes the schedules of a CertifiedModel: ``eps`` and ``kappa`` of the last step, in each epoch's logs.

    The objective owns its schedules and follows them without this callback; the model's own logs have the two numbers
    as well. It is for logs at the end of epochs that other models or wrappers produce, and for ``verbose=1``, which
    prints them.

    Args:
        verbose: 1 to print them at the end of an epoch.
    """

    writes_logs = True

    def __init__(self, verbose: int = 0):
        super().__init__()
        self.verbose = verbose

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        objective = getattr(self.model, "objective", None)
        if objective is None:
            raise ValueError("ObjectiveScheduler is for the fit of a tfcert.CertifiedModel, which has an objective")
        last = max(0, self.model.steps_taken - 1)
        eps, kappa = (float(value) for value in objective.at(last))
        if logs is not None:
            logs.update(eps=eps, kappa=kappa)
        if self.verbose:
            print(f"\nEpoch {epoch + 1}: eps {eps:g}, kappa {kappa:g}")


class CertifiedEvaluation(keras.callbacks.Callback):
    """Nominal, attack and verified accuracy on held-out data, in the logs of every ``every``-th epoch and the last.

    Writes ``val_nominal_accuracy``, ``val_attack_accuracy`` (with ``attack``) and ``val_verified_accuracy``, fractions
    of the samples. A sample is verified where :func:`tfcert.certify` verifies it; it counts for the
    attack accuracy where it is classified correctly and no attack succeeded. The first epoch is always evaluated;
    epochs in between write NaN, so that the columns of a CSV file and the places in a history stay the same and nothing
    looks measured that was not. EarlyStopping and ModelCheckpoint see no improvement in a NaN; patience counts every
    epoch. What a CertifiedModel finds of its own validation data, by intervals at its final eps, is another figure:
    ``val_ibp_verified_accuracy``. ``fit`` of a CertifiedModel calls it before EarlyStopping, ModelCheckpoint, CSVLogger
    and the like, wherever it stands in the list; with another model, put it first.

    Args:
        data: ``(x, y)``, in the forms that :func:`tfcert.certify` takes, or a ``tf.data.Dataset`` of such pairs.
        eps: the radius, a number or the text of one; by default the final eps of the model's objective.
        method: as for :func:`tfcert.certify`.
        every: epochs from one evaluation to the next.
        attack: the name of an attack (``"pgd"``, ``"fgsm"``), a dictionary of options for :func:`tfcert.attack`, True
            for PGD, or None.
        limit: evaluate the first so many samples only.
        clip: the valid range ``(low, high)``; by default that of the model's objective.

    Raises:
        ValueError: ``every`` or ``limit`` below 1, no samples, an unknown method, or no eps for a model without an
            objective. When training begins: a method that is not defined for the model.
    """

    writes_logs = True

    def __init__(
        self,
        data: Any,
        eps: float | str | None = None,
        method: str = "crown-ibp",
        every: int = 1,
        attack: Any = None,
        limit: int | None = None,
        clip: Any = None,
    ):
        super().__init__()
        if every < 1 or (limit is not None and limit < 1):
            raise ValueError(f"every and limit must be at least 1, not {every} and {limit}")
        check_method(method_name(method), None)
        self.x, self.y = arrays(data, limit, several=True)
        self.eps, self.method, self.every, self.clip = radius(eps), method, every, clip
        self.attack = _attack_options(attack)
        self.keys: tuple[str, ...] = ()

    def on_train_begin(self, logs: Any = None) -> None:
        self.keys = ()
        network = getattr(self.model, "network", None)
        if network is not None:
            check_names(network, method_name(self.method), None)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        final = epoch + 1 == (self.params or {}).get("epochs")
        figures = dict.fromkeys(self.keys, math.nan)
        if not self.keys or (epoch + 1) % self.every == 0 or final:
            figures = self.evaluate()
            self.keys = tuple(figures)
        if logs is not None:
            logs.update(figures)

    def evaluate(self) -> dict[str, float]:
        """The accuracies of the model as it stands, by log key."""
        with unsaid():  # a model that is being trained may do no better than guessing
            return self._evaluated()

    def _evaluated(self) -> dict[str, float]:
        model: Any = getattr(self.model, "plain_model", self.model)
        objective = getattr(self.model, "objective", None)
        eps = self.eps if self.eps is not None else getattr(getattr(objective, "eps", None), "final", None)
        if eps is None:
            raise ValueError("give CertifiedEvaluation an eps: the model has no objective to take it from")
        clip = self.clip if self.clip is not None else getattr(objective, "clip", None)
        x = structured(model, self.x)
        outputs = model.predict(x, verbose=0)
        right = strictly_right(outputs, class_labels(self.y, len(self.y), classes=outputs.shape[-1]))
        scale = getattr(self.model, "scale", None)
        eps = eps if scale is None else float(eps) * scale[None]
        figures = {KEYS[0]: float(right.mean())}
        if self.attack is not None:
            # A sample that is misclassified is its own witness.
            attacked = attack(model, x, self.y, eps=eps, clip=clip, **self.attack)
            figures[KEYS[1]] = float((right & ~attacked.success).mean())
        verified = certify(model, x, self.y, eps=eps, clip=clip, method=self.method).verified
        return figures | {KEYS[2]: float(verified.mean())}


class IntervalWidths(keras.callbacks.Callback):
    """The widths of each layer's intervals after an epoch, in its logs (Morawiecki et al. 2020, figures 6 and 7).

    Writes ``interval_width/LAYER``, the mean width ``upper - lower`` over samples and values, in the units of that
    layer's outputs, and ``interval_width/total``, the sum over hidden layers of their mean *squared* widths, which is
    what the figures show. Layers are those of :class:`~tfcert.objectives.IntervalWidth`, by the names of the network's
    nodes, bounded by intervals over the final eps of the objective, in every epoch. History and CSVLogger have them
    from the logs: ``fit`` calls this callback before those that read logs, wherever it stands in the list. With a
    ``log_dir`` they go to TensorBoard as well, as scalars under the same names, with histograms
    ``interval_widths/LAYER`` of the mean width of each value.

    Args:
        data: the samples to bound: ``(x, y)``, ``x`` alone, or a ``tf.data.Dataset``.
        log_dir: where to write for TensorBoard, which reads it beside the logs of ``keras.callbacks.TensorBoard``; None
            for nowhere, and then TensorBoard need not be installed.
        eps, clip: by default those of the model's objective.
        limit: samples to bound, from the beginning.
        layers: whether the logs have each layer, or the total alone.

    Raises:
        TypeError: ``data`` is a folder, which belongs to ``log_dir``.
        ValueError: the model that is fitted has no intervals.
        ImportError: a ``log_dir``, and no TensorBoard.
    """

    writes_logs = True

    def __init__(
        self,
        data: Any,
        log_dir: str | Path | None = None,
        eps: float | str | None = None,
        clip: Any = None,
        limit: int = 256,
        layers: bool = True,
    ):
        super().__init__()
        if isinstance(data, str | Path):
            raise TypeError(f"IntervalWidths takes the samples first: IntervalWidths(data, log_dir={str(data)!r})")
        self.log_dir = None if log_dir is None else str(log_dir)
        pair = data if not hasattr(data, "shape") else (data, np.zeros(len(data), int))
        self.x = arrays(pair, limit, several=True)[0]
        self.eps, self.clip, self.layers = radius(eps), clip, layers
        self._writer: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        if getattr(self.model, "network", None) is None:
            raise ValueError("IntervalWidths is for the fit of a tfcert.CertifiedModel, whose intervals it shows")
        if self.log_dir is None:
            return
        try:
            importlib.import_module("tensorboard")
        except ImportError as error:
            raise ImportError(
                "a log_dir of IntervalWidths is for TensorBoard, which is not installed: pip install "
                "tfcert[tensorboard], or leave log_dir out, and find the widths in the logs"
            ) from error
        self._writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        widths = self.widths()
        figures = {self._named(index): float(width.mean()) for index, width in widths.items()}
        total = {f"{_WIDTH}/total": self.total(widths)}
        if logs is not None:
            logs.update((figures if self.layers else {}) | total)
        if self._writer is None:
            return
        with self._writer.as_default():
            for name, value in (figures | total).items():
                tf.summary.scalar(name, value, step=epoch)
            for index, width in widths.items():
                tf.summary.histogram(self._named(index, f"{_WIDTH}s"), width.mean(axis=0), step=epoch)
        self._writer.flush()

    def _named(self, index: int, what: str = _WIDTH) -> str:
        return f"{what}/{self.model.network.nodes[index].name}"

    def total(self, widths: dict[int, np.ndarray]) -> float:
        """The mean squared widths of the hidden layers, added up."""
        output = self.model.network.output
        return float(sum(np.square(width).mean() for index, width in widths.items() if index != output))

    def widths(self) -> dict[int, np.ndarray]:
        """The widths of each bounded layer by node, ``[samples, *shape]``."""
        objective, network = self.model.objective, self.model.network
        eps = objective.eps.final if self.eps is None else self.eps
        clip = self.model.clip if self.clip is None else read_clip(self.clip, network.parts)
        x = self.model.inputs_of_network(structured(self.model.model, self.x))
        ranges = sweep(network, boxes(x, tf.constant(eps, network.dtype), clip, self.model.scale)).ranges
        return {i: (ranges[i][1] - ranges[i][0]).numpy() for i in bounded_layers(network)}

    def on_train_end(self, logs: Any = None) -> None:
        if self._writer is not None:
            self._writer.close()


def _attack_options(attack: Any) -> dict[str, Any] | None:
    if attack is None or attack is False:
        return None
    if attack is True:
        return {}
    return {"method": attack} if isinstance(attack, str) else dict(attack)
