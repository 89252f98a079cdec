"""Small networks, and interval arithmetic in NumPy's double precision."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfcert
from tfcert.training.step import Labelled, StepResult

CLASSES = 3


def dense_net(*between: Any, hidden: int = 6, seed: int = 0) -> keras.Sequential:
    """Four inputs, a hidden layer with ReLU (``between`` comes before the ReLU), three logits."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    net = [keras.Input((4,)), layers.Dense(hidden), *between, layers.ReLU(), layers.Dense(CLASSES)]
    model = keras.Sequential(net)
    for layer in (model.layers[0], model.layers[-1]):
        layer.bias.assign(np.linspace(-0.2, 0.3, layer.units))
    return model


def certified(model: keras.Model, objective: Any, **compiled: Any) -> tfcert.CertifiedModel:
    found = tfcert.CertifiedModel(model, objective)
    found.compile(**({"optimizer": keras.optimizers.SGD(0.1)} | compiled))
    return found


def robust_step(model: tfcert.CertifiedModel, x: Any, y: Any, sample_weight: Any = None) -> StepResult:
    """One robust step, executed eagerly, at the first step's eps and kappa; no weight changes."""
    eps, kappa = model.objective.at(0)
    labelled = Labelled(tf.constant(x), tf.constant(y), None if sample_weight is None else tf.constant(sample_weight))
    return model._stepper.robust(labelled, eps, kappa, tf.constant(0, tf.int64))


class Intervals:
    """The intervals of ``dense_net`` over boxes, in float64; ``scale`` and ``shift`` stand for what is in between."""

    def __init__(self, model: keras.Model, x: np.ndarray, eps: float, clip: Any = None, scale: Any = 1, shift: Any = 0):
        first, last = model.layers[0], model.layers[-1]
        w, b = (v.numpy().astype(np.float64) for v in (first.kernel, first.bias))
        w, b = w * scale, b * scale + shift
        self.w, self.b = (v.numpy().astype(np.float64) for v in (last.kernel, last.bias))
        x = x.astype(np.float64)
        lower, upper = x - eps, x + eps
        if clip is not None:
            lower, upper = np.maximum(lower, clip[0]), np.minimum(upper, clip[1])
        self.input = lower, upper
        self.affine = self.through(w, b, lower, upper)
        self.hidden = np.maximum(self.affine[0], 0), np.maximum(self.affine[1], 0)
        self.logits = self.through(self.w, self.b, *self.hidden)
        self.nominal = np.maximum(x @ w + b, 0) @ self.w + self.b

    @staticmethod
    def through(w: np.ndarray, b: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        up, down = np.maximum(w, 0), np.minimum(w, 0)
        return lower @ up + upper @ down + b, upper @ up + lower @ down + b

    def margins(self, y: np.ndarray) -> np.ndarray:
        """Lower bounds of ``f_y - f_j`` with the difference multiplied into the last layer; 0 for the label."""
        rows = np.stack([self.w[:, [label]] - self.w for label in y])
        offsets = np.stack([self.b[label] - self.b for label in y])
        middle, radius = (self.hidden[0] + self.hidden[1]) / 2, (self.hidden[1] - self.hidden[0]) / 2
        return np.einsum("bh,bhj->bj", middle, rows) - np.einsum("bh,bhj->bj", radius, np.abs(rows)) + offsets

    def worst(self, y: np.ndarray) -> np.ndarray:
        """The label's lower and the others' upper bounds."""
        label = np.eye(CLASSES)[y]
        return label * self.logits[0] + (1 - label) * self.logits[1]


def crossentropies(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """One number a sample, in float64."""
    return np.log(np.exp(logits - logits[np.arange(len(y)), y][:, None]).sum(axis=1))
