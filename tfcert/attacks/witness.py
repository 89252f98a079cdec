"""The last word on a witness: it lies in the region, exactly, and the original model breaks the property on it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcert.clauses import keeps_label
from tfcert.network.cache import network_of
from tfcert.network.frontend import find_frontend
from tfcert.network.joined import JoinedModels
from tfcert.network.keras.inputs import arguments, one_by_one
from tfcert.sets.balls import LpBall, Perturbation

Holds = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``(outputs [n, ...], samples [n]) -> bool [n]``: whether the property holds on the outputs of these samples."""


def replay(model: Any, perturbation: Perturbation, witness: np.ndarray, property_: Holds | np.ndarray) -> np.ndarray:
    """Tells whether each witness counts: a member of its region that the model, as it stands, gets wrong.

    The model is run eagerly in its own dtype on exactly these inputs, twice, in batches of different sizes (products
    round differently then): a model that does not repeat itself, or that answers with NaN or infinity, proves nothing.
    Nothing here is approximate: membership is decided in exact arithmetic (``perturbation.contains``), and a witness
    just outside does not count.

    Args:
        model: the original Keras model (any callable on tensors).
        perturbation: the regions.
        witness: ``[batch, *input]``, already in the model's dtype; NaN where there is none.
        property_: the labels ``[batch]`` that the outputs' argmax must keep, or a predicate
            ``(outputs, samples) -> holds``.

    Returns:
        bool ``[batch]``.
    """
    witness = np.asarray(witness)
    counts = np.zeros(len(witness), bool)
    received = witness.astype(input_dtype(model, witness.dtype))
    (inside,) = np.nonzero(_all(np.isfinite(witness) & (received == witness)))
    if inside.size:
        inside = inside[perturbation.take(inside).contains(witness[inside])]
    if not inside.size:
        return counts
    holds = property_ if callable(property_) else _keeps(np.asarray(property_))
    points = witness[inside]
    outputs = [model_outputs(model, points), model_outputs(model, np.repeat(points, 2, axis=0))[::2]]
    broken = [~np.asarray(holds(o, inside), bool) & _all(np.isfinite(o)) for o in outputs]
    counts[inside] = broken[0] & broken[1]
    return counts


def _all(mask: np.ndarray) -> np.ndarray:
    return np.asarray(mask.all(axis=tuple(range(1, mask.ndim))))


def _keeps(y: np.ndarray) -> Holds:
    return lambda outputs, samples: keeps_label(y[samples], outputs.shape[-1]).margin(outputs) > 0


def input_dtype(model: Any, default: Any = np.float32) -> np.dtype:
    """The floating-point type that the model takes its input in.

    Raises:
        ValueError: the model takes integers, which have no gradient and no small perturbation.
    """
    inputs = getattr(model, "inputs", None) or []
    kinds = [tensor.dtype for tensor in inputs if tf.as_dtype(tensor.dtype).is_floating] or [t.dtype for t in inputs]
    declared = kinds[0] if kinds else getattr(model, "compute_dtype", None) or getattr(model, "dtype", None)
    dtype = np.dtype(tf.as_dtype(declared or default).as_numpy_dtype)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"this model's input is {dtype}; attacks and replay take float32 and float64 models")
    return dtype


def model_outputs(model: Any, x: np.ndarray) -> np.ndarray:
    """The deployed program's outputs, ``[batch, ...]``: the model at inference, as its frontend runs it."""
    if isinstance(model, JoinedModels):
        return model.run(np.asarray(x, model.dtype), model_outputs)
    x, frontend = np.asarray(x, input_dtype(model, x.dtype)), find_frontend(model)
    return np.asarray(inference(model)(tf.constant(x))) if frontend is None else frontend.run(model, x)


def predicted_outputs(model: Any, x: np.ndarray) -> np.ndarray | None:
    """The outputs ``[batch, ...]`` by the function that Keras compiles for ``predict``, once for a model.

    None where Keras runs the model one sample at a time, and for models that are not Keras's own.
    """
    if not isinstance(model, keras.Model) or one_by_one(model):
        return None
    given = arguments(model, np.asarray(x, input_dtype(model, x.dtype)))
    return np.asarray(keras.tree.flatten(model.predict_on_batch(given))[0])


XLA_OPERATIONS = 600
"""A model of more operations than these is not compiled by XLA for a witness: that takes long."""
_COMPILED: weakref.WeakKeyDictionary[keras.Model, Callable[[tf.Tensor], Any] | None] = weakref.WeakKeyDictionary()


def compiled_outputs(model: Any, x: np.ndarray) -> np.ndarray | None:
    """The outputs ``[1, ...]`` of one sample by XLA's program (``jit_compile``), compiled once for a model.

    None where XLA cannot compile the model, or takes long over it (``XLA_OPERATIONS``), where functions are run
    eagerly, and as for :func:`predicted_outputs`.
    """
    runs = XLA_OPERATIONS and isinstance(model, keras.Model) and not tf.config.functions_run_eagerly()
    if not runs or one_by_one(model):
        return None
    point = tf.constant(np.asarray(x, input_dtype(model, x.dtype)))
    if model not in _COMPILED:
        _COMPILED[model] = _compiled(model, point)
    run = _COMPILED[model]
    try:
        return None if run is None else np.asarray(run(point))
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):  # XLA lacks an operation
        _COMPILED[model] = None
        return None


def _compiled(model: keras.Model, point: tf.Tensor) -> Callable[[tf.Tensor], Any] | None:
    """XLA's program of a model for one sample, which reads weights live; None of a model that it takes long over."""
    owner = weakref.ref(model)

    def run(z: tf.Tensor) -> tf.Tensor:
        whole = owner()
        assert whole is not None
        return keras.tree.flatten(whole(arguments(whole, z), training=False))[0]

    traced = tf.function(run, jit_compile=True).get_concrete_function(tf.TensorSpec(point.shape, point.dtype))
    return traced if len(traced.graph.get_operations()) <= XLA_OPERATIONS else None


def inference(model: Any) -> Any:
    """The model as a function of one tensor, dropout and batch statistics switched off."""
    if isinstance(model, keras.layers.Layer):
        return _Inference(model)
    return model


def differentiable(model: Any) -> Any:
    """The program whose gradients an attack follows: the model, or its network where Keras cannot run it in batches."""
    if isinstance(model, JoinedModels):
        return model.through(differentiable)
    if find_frontend(model) is None or (isinstance(model, keras.Model) and not one_by_one(model)):
        return inference(model)
    return network_of(model)


class _Inference:
    """``model(x, training=False)``, equal for equal models so that compiled functions can be found again."""

    def __init__(self, model: Any):
        self.model = model

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return self.model(arguments(self.model, x) if isinstance(self.model, keras.Model) else x, training=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Inference) and other.model is self.model

    def __hash__(self) -> int:
        return hash(id(self.model))


def rounded(perturbation: Perturbation, dtype: np.dtype) -> Perturbation:
    """The set as the model can receive it: a ball's centre is rounded to the model's dtype; a box stays as it is."""
    return perturbation.astype(dtype) if isinstance(perturbation, LpBall) else perturbation
