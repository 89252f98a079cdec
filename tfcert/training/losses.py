"""The classification loss: the default, and what is refused."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfcert")
def crossentropy(y_true: Any, y_pred: Any) -> Any:
    """Cross-entropy of logits ``[batch, classes]``, a number a sample.

    Labels are classes, ``[batch]`` or ``[batch, 1]``, or distributions over classes (one-hot), ``[batch, classes]``.
    """
    if is_one_hot(y_true, y_pred.shape[-1]):
        return keras.losses.categorical_crossentropy(y_true, y_pred, from_logits=True)
    return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


def is_one_hot(labels: Any, classes: int) -> bool:
    """Tells whether labels come as one row of ``classes`` numbers a sample."""
    return len(labels.shape) == 2 and labels.shape[-1] == classes and classes > 1


def one_hot(labels: Any, classes: int, dtype: tf.DType) -> tf.Tensor:
    """The class of each label, ``[batch, classes]`` with a single 1; of a distribution the likeliest."""
    return tf.one_hot(class_indices(labels, classes), classes, dtype=dtype)


def class_indices(labels: Any, classes: int) -> tf.Tensor:
    """The class of each label, ``[batch]``; of a distribution the likeliest."""
    return tf.argmax(labels, axis=1) if is_one_hot(labels, classes) else tf.cast(tf.reshape(labels, [-1]), tf.int64)


def is_crossentropy(loss: Any) -> bool:
    """Tells whether a loss is the cross-entropy of logits: the default, or Keras's own without label smoothing."""
    known = keras.losses.SparseCategoricalCrossentropy, keras.losses.CategoricalCrossentropy
    return loss is crossentropy or (type(loss) in known and not loss.get_config().get("label_smoothing"))


def check_loss(loss: Any) -> None:
    """Refuses a loss that would take the logits for probabilities.

    Raises:
        ValueError: a cross-entropy without ``from_logits=True``, or several losses.
    """
    if isinstance(loss, list | tuple | dict):
        if len(loss) != 1:
            raise ValueError("a CertifiedModel has one output and takes one loss")
        loss = next(iter(loss.values())) if isinstance(loss, dict) else loss[0]
    name = loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", "")
    words = str(name).lower().replace("_", "")
    known = isinstance(loss, str | keras.losses.Loss) or loss in (
        keras.losses.categorical_crossentropy,
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.binary_crossentropy,
    )
    if not known or not ("crossentropy" in words or words in ("ce", "cce")):
        return
    if isinstance(loss, keras.losses.Loss):
        config = loss.get_config()
        if config.get("from_logits", True):
            return
    raise ValueError(
        f"the loss {name!r} reads probabilities, but the outputs that bounds are of are logits: leave the loss out, or "
        "give keras.losses.SparseCategoricalCrossentropy(from_logits=True) or its like"
    )
