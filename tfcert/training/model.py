"""CertifiedModel: a Keras model that is trained for a certified-training objective."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcert.network.errors import UnsupportedLayerError
from tfcert.network.keras.graph import from_keras
from tfcert.network.keras.inputs import joined
from tfcert.network.keras.private import loss_tracker, step_function, unscale_loss, validates
from tfcert.propagation.bounds import check_names
from tfcert.sets.uneven import read_clip, read_scale
from tfcert.training.batch import strays
from tfcert.training.callbacks import arranged
from tfcert.training.constancy import Differing, is_constant
from tfcert.training.losses import check_loss, class_indices, crossentropy, is_one_hot
from tfcert.training.metrics import Owned, VerifiedAccuracy
from tfcert.training.objectives import Objective
from tfcert.training.schedules import Constant
from tfcert.training.step import Labelled, Stepper, StepResult

HELD_OUT = "ibp_verified_accuracy"
"""What the model's own figure of validation data is called, with Keras's ``val_`` before it."""


@keras.saving.register_keras_serializable("tfcert")
class CertifiedModel(keras.Model):
    """A model and an objective: ``compile``, ``fit``, ``evaluate``, ``predict``, ``save`` as with any Keras model.

    Training follows ``objective``; the bounds come from the engine that certifies. Logs have the loss, the metrics
    given to ``compile`` (of the nominal logits), ``verified_accuracy`` by interval bounds (what ``tfcert.certify`` with
    ``method="ibp"`` finds: a finite margin above zero and, outside of training, above rounding) and, in training,
    ``eps``, ``kappa`` and ``constant``: 1 after an epoch in which every batch got one class for all of its samples,
    though labels differ, 0 after others, NaN where labels hardly differ or batches are single samples. Once that has
    held for 50 steps, a ``ConstantNetworkWarning`` says since when.

    In training bounds are over ``eps_factor * eps`` as scheduled; ``evaluate`` and validation use the final values of
    the schedules and no ``eps_factor``, so that validation figures compare from epoch to epoch. What
    ``fit(validation_data=...)`` finds by intervals is logged as ``val_ibp_verified_accuracy``:
    ``val_verified_accuracy`` is the figure of a :class:`~tfcert.callbacks.CertifiedEvaluation`, by the method and at
    the radius that it is given.

    Schedules go by the steps that the optimizer has taken, and by those of optimizers before it: ``compile`` once more
    (for another learning rate, say) does not send eps back to its start. To begin anew, make a new CertifiedModel.
    ``load_weights`` restores the optimizer's steps where the file has them, and warns where it has not.

    A file saved by ``save`` or a checkpoint needs tfcert's classes to be loaded: :func:`tfcert.load_model` brings them
    (``compile=True`` to train on); before ``keras.models.load_model`` write ``import tfcert.training``.

    Args:
        model: a built Sequential or functional model with inputs of known shape and one output of logits
            ``[batch, classes]``, of layers that tfcert knows. It shares its weights with the CertifiedModel.
        objective: an objective, see :mod:`tfcert.objectives`.

    Attributes:
        model: the plain inner model. ``certified.model.save(path)`` saves it alone as a plain Keras model. After
            ``fit`` it is compiled, if it was not, for ``certified.model.evaluate``: with the loss of training (where
            that is Keras's own or the default), the metric ``accuracy``, and SGD.
        steps_before: the steps of training that optimizers before the present one took.
        network: the network that bounds are computed of; it reads the model's weights live.

    Raises:
        UnsupportedLayerError: the model has a layer or an option that tfcert does not know, or ends in a softmax.
        ValueError: the model's input shape is open, its output is not a row of logits, or the objective is not defined
            for its activations.

    Example:
        >>> inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> certified = CertifiedModel(inner, IBP(eps=0.1))
        >>> certified.compile("adam", metrics=["accuracy"])
        >>> history = certified.fit(x, y, epochs=2, verbose=0)
        >>> sorted(history.history)
        ['accuracy', 'constant', 'eps', 'kappa', 'loss', 'verified_accuracy']
    """

    train_function: Any

    def __init__(self, model: keras.Model, objective: Objective, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(objective, Objective):
            raise TypeError(f"expected an objective such as tfcert.objectives.IBP(eps=0.1), got {objective!r}")
        network = from_keras(model)
        if network.peeled:
            raise UnsupportedLayerError(
                f"model {model.name!r} ends in a softmax, and certified training needs the logits before it: make the "
                "last layer linear, and let the loss have from_logits=True (the default loss does)"
            )
        if len(network.output_shape) != 1 or network.output_shape[0] < 2:
            raise ValueError(
                f"model {model.name!r} has outputs of shape {network.output_shape}; certified training needs one row "
                "of logits, with at least two classes: of a binary classifier, let the last layer be Dense(2), linear, "
                "for the labels 0 and 1"
            )
        check_names(network, objective.method, None)
        self.model = model
        self.objective = objective
        self.network = network
        self.clip = None if objective.clip is None else read_clip(objective.clip, network.parts)
        self.scale = objective.scale and self._shares(objective.scale)
        self.built = True
        self.balance = objective.balance(model)
        self._stepper = Stepper(self)
        self._functions: dict[str, Any] = {}
        self.steps_before = 0
        self._takes_rows = False
        self._verified = VerifiedAccuracy()
        self._owned = Owned([self._verified, VerifiedAccuracy(HELD_OUT)], name="certified")
        self._strays = keras.metrics.Sum(name="strays")
        self._differing = Differing()

    def _shares(self, scale: Any) -> np.ndarray:
        """What eps is multiplied with, ``[*input]``."""
        return read_scale(scale, (1, *self.network.input_shape), self.network.parts).high[0]

    def inputs_of_network(self, x: Any) -> tf.Tensor:
        """A batch of inputs, in the model's structure, as the network takes it: ``[batch, *input]``."""
        several = self.network.parts is not None
        whole = joined(self.model, x) if several else keras.tree.flatten(x)[0]
        return tf.ensure_shape(tf.cast(whole, self.network.dtype), [None, *self.network.input_shape])

    @property
    def plain_model(self) -> keras.Model:
        """The model that bounds, attacks and reports are about."""
        return self.model

    @property
    def steps_taken(self) -> int:
        """The steps of training so far, which schedules go by."""
        return int(self._steps())

    def _steps(self) -> tf.Tensor:
        # A variable that replicas mirror is no number, but reads as a tensor.
        return tf.convert_to_tensor(self.optimizer.iterations) + self.steps_before

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The logits ``[batch, classes]`` of the inner model."""
        return self.model(inputs, training=training)

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **kwargs: Any) -> None:
        """As in Keras; without a loss, cross-entropy of logits for labels as classes or as one-hot rows.

        A loss of your own sees nominal and worst-case logits in turn. It should fall as the label's logit grows beside
        the others (label smoothing does not always), and with elision it must depend on differences of logits only.

        Raises:
            ValueError: a loss that reads probabilities.
        """
        if loss is not None:
            check_loss(loss)
        before = getattr(self, "optimizer", None)
        super().compile(optimizer, crossentropy if loss is None else loss, *args, **kwargs)
        if before is not None and before is not self.optimizer and int(self.optimizer.iterations) == 0:
            self.steps_before += int(before.iterations)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as loading does; Keras asks a model that overrides ``compile`` for it."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def load_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """As in Keras; the optimizer's state is restored too where the file has it, for schedules to go on."""
        if self.compiled:
            self.optimizer.build(self.trainable_variables)
        super().load_weights(filepath, *args, **kwargs)
        constant = all(isinstance(schedule, Constant) for schedule in self.objective.schedules)
        if self.compiled and not constant and self.steps_taken == 0:
            warnings.warn(
                f"{filepath} has no steps of this optimizer, so that the schedules of the objective begin at their "
                "start: set steps_before of the CertifiedModel to the steps that were taken, if they are to go on",
                stacklevel=2,
            )

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """As in Keras. Callbacks that write into the logs are called before those that read them.

        Raises:
            ValueError: a schedule counts epochs, and the length of the data set is not known; or samples (of training
                or validation) leave the ``clip`` range of the objective.
        """
        bound = inspect.signature(super().fit).bind(*args, **kwargs)
        bound.arguments["callbacks"] = arranged(bound.arguments.get("callbacks"), self)
        return super().fit(*bound.args, **bound.kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As in Keras.

        Raises:
            ValueError: samples leave the ``clip`` range of the objective.
        """
        in_fit = validates(kwargs)
        logs = super().evaluate(*args, **kwargs)
        self.require_inside()
        if in_fit:
            logs[HELD_OUT] = logs.pop(self._verified.name)
        return logs

    def require_inside(self) -> None:
        """Requires that no sample since metrics were reset has left the valid range of the objective.

        Raises:
            ValueError: some have.
        """
        count = int(self._strays.result())
        if count:
            low, high = (np.unique(end).tolist() for end in self.clip or ())
            raise ValueError(
                f"{count} samples hold values outside the clip range of the objective (low {low}, high {high}), so "
                "that balls around them are not what was asked for: scale the inputs to that range (pixels: x / 255), "
                "np.clip them, or give the objective the range that they have"
            )

    def get_metrics_result(self) -> dict[str, Any]:
        """As in Keras, without what is counted for :meth:`require_inside` and :meth:`constant`."""
        inner = self._strays.name, self._differing.name
        return {name: value for name, value in super().get_metrics_result().items() if name not in inner}

    def constant(self) -> float:
        """1 where every batch since metrics were reset got one class for all of its samples, though labels differed.

        0 where some batch got two, NaN where labels hardly differ.
        """
        return is_constant(*(float(count) for count in self._differing.result()))

    def compile_inner(self) -> None:
        """Compiles the inner model with the loss of training, for its own ``evaluate``, if nobody has compiled it."""
        loss = self.loss
        if loss is crossentropy:
            kind = "CategoricalCrossentropy" if self._takes_rows else "SparseCategoricalCrossentropy"
            loss = getattr(keras.losses, kind)(from_logits=True)
        # Files of the inner model must load where nobody registered a class of the user's, or of tfcert's; and plain
        # SGD has no state that they would have to hold.
        if type(loss).__module__.startswith("keras.") and not self.model.compiled:
            self.model.compile("sgd", loss, metrics=["accuracy"])

    def take_steps(self, batches: int | None) -> None:
        """Tells the objective how long an epoch is; a run that goes on keeps the length it began with.

        Raises:
            ValueError: the length is unknown (None), and a schedule counts epochs.
        """
        known = self.objective.steps_per_epoch
        steps = None if batches is None else batches / (self.optimizer.gradient_accumulation_steps or 1)
        if steps is None or known == steps:
            self.objective.at(0)  # raises where the length is needed
            return
        counted = any(schedule.in_epochs for schedule in self.objective.schedules)
        if known is not None and counted and self.steps_taken > 0:
            warnings.warn(
                f"the objective's schedules go on with {known:g} steps in an epoch, as training began, though the data "
                f"set now has {steps:g}; set objective.steps_per_epoch to change that",
                stacklevel=2,
            )
            return
        self.objective.steps_per_epoch = steps
        if counted:
            self.make_train_function(force=True)

    def make_train_function(self, force: bool = False) -> Any:
        """As in Keras. There are further functions for steps with less to do, see :meth:`choose_train_function`."""
        if self.train_function is None or force:
            steps = {"robust": self.train_step, "plain": self.plain_step, "intervals": self.interval_step}
            self._functions = {name: step_function(self, step) for name, step in steps.items()}
            self.train_function = self._functions["robust"]
        return self.train_function

    def choose_train_function(self) -> bool:
        """Picks the function for the steps that come next; True once it can no longer change in this run."""
        objective, first = self.objective, self.steps_taken
        if objective.is_always_robust():
            plain = False
        else:
            last = first + self.steps_per_execution - 1
            plain = objective.is_plain() or last <= objective.kappa.starts_at(1.0, objective.steps_per_epoch)
        intervals = first >= objective.lines_until()
        self.train_function = self._functions["plain" if plain else "intervals" if intervals else "robust"]
        return objective.is_plain() or (not plain and (intervals or math.isinf(objective.lines_until())))

    def train_step(self, data: Any) -> dict[str, Any]:
        return self.plain_step(data) if self.objective.is_plain() else self._robust_step(data, by_lines=True)

    def interval_step(self, data: Any) -> dict[str, Any]:
        """A training step once no bound by lines has a weight any more."""
        return self._robust_step(data, by_lines=False)

    def _robust_step(self, data: Any, by_lines: bool) -> dict[str, Any]:
        labelled = Labelled(*keras.utils.unpack_x_y_sample_weight(data))
        step = self._steps()
        eps, kappa = self.objective.at(step)
        return self._trained(labelled, self._stepper.robust(labelled, eps, kappa, step, by_lines), eps, kappa)

    def plain_step(self, data: Any) -> dict[str, Any]:
        """A training step at ``kappa = 1``: exactly Keras's own, and bounds for the metric."""
        labelled = Labelled(*keras.utils.unpack_x_y_sample_weight(data))
        step = self._steps()
        eps, kappa = self.objective.at(step)
        return self._trained(labelled, self._stepper.plain(labelled, eps, step), eps, kappa)

    def _trained(self, labelled: Labelled, outcome: StepResult, eps: tf.Tensor, kappa: tf.Tensor) -> dict[str, Any]:
        if self.trainable_weights:
            self.optimizer.apply_gradients(zip(outcome.gradients, self.trainable_weights, strict=True))
        return self._logs(labelled, outcome) | {"eps": eps, "kappa": kappa}

    def test_step(self, data: Any) -> dict[str, Any]:
        labelled = Labelled(*keras.utils.unpack_x_y_sample_weight(data))
        return self._logs(labelled, self._stepper.test(labelled))

    def _logs(self, labelled: Labelled, outcome: StepResult) -> dict[str, Any]:
        count = tf.shape(keras.tree.flatten(labelled.x)[0])[0]
        loss_tracker(self).update_state(unscale_loss(outcome.loss), sample_weight=count)
        self._verified.update_state(outcome.margin, rounding=outcome.rounding)
        self._takes_rows = is_one_hot(labelled.y, self.network.output_shape[0])
        self._differing.update_state(class_indices(labelled.y, self.network.output_shape[0]), outcome.logits)
        if self.clip is not None:
            x = self.inputs_of_network(labelled.x)
            self._strays.update_state(tf.cast(strays(x, self.clip), tf.float32))
        return self.compute_metrics(labelled.x, labelled.y, outcome.logits, sample_weight=labelled.sample_weight)

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super(keras.Model, self).get_config()
        return config | {
            "model": keras.saving.serialize_keras_object(self.model),
            "objective": keras.saving.serialize_keras_object(self.objective),
            "steps_before": self.steps_before,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> CertifiedModel:
        """Makes the model again of what ``get_config`` said, as Keras asks when it loads one."""
        config = dict(config)
        load: Callable[..., Any] = keras.saving.deserialize_keras_object
        model = load(config.pop("model"), custom_objects=custom_objects)
        steps = config.pop("steps_before", 0)
        wrapper = cls(model, load(config.pop("objective"), custom_objects=custom_objects), **config)
        wrapper.steps_before = steps
        return wrapper
