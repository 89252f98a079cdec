"""Original models at the points of one vector, run as one program: what a joint network is the network of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

Sources = tuple["np.ndarray | int", ...]
"""What a model is applied to, side by side: places of a vector, or the answer of an earlier application."""


@dataclass(frozen=True, eq=False)
class AppliedModel:
    """A model at a point.

    Attributes:
        model: in any format that there is a frontend of.
        shape: of its input.
        sources: what that is, piece by piece.
    """

    model: Any
    shape: tuple[int, ...]
    sources: Sources


@dataclass(frozen=True, eq=False)
class JoinedModels:
    """Several models, or one at several points, as one function of a vector ``[batch, size]``.

    It answers as :func:`tfcert.network.joint.joint` does: with what each model answers, in order, and then the inputs
    that are shown. Each model is run by itself, as it is deployed.

    Attributes:
        applied: the applications.
        shown: places of the vector.
        dtype: what all models take.
    """

    applied: tuple[AppliedModel, ...]
    shown: tuple[int, ...]
    dtype: Any

    def run(self, x: np.ndarray, run: Callable[[Any, np.ndarray], np.ndarray]) -> np.ndarray:
        """The answers ``[batch, outputs]`` where each model is run by a function of it and its inputs."""
        answers: list[np.ndarray] = []
        for part in self.applied:
            pieces = [x[:, source] if isinstance(source, np.ndarray) else answers[source] for source in part.sources]
            given = np.concatenate(pieces, axis=1).reshape(len(x), *part.shape)
            answers.append(np.asarray(run(part.model, given)).reshape(len(x), -1))
        return np.concatenate([*answers, x[:, list(self.shown)].astype(answers[0].dtype)], axis=1)

    def through(self, function: Callable[[Any], Callable[[tf.Tensor], tf.Tensor]]) -> DifferentiableModels:
        """The same as a function of tensors, made of one of each model."""
        if "made" not in self._kept:
            self._kept["made"] = DifferentiableModels(self, [function(part.model) for part in self.applied])
        return self._kept["made"]

    @cached_property
    def _kept(self) -> dict[str, DifferentiableModels]:
        return {}


class DifferentiableModels:
    """Tensors ``[batch, size]`` to ``[batch, outputs]``; one object for one set of joined models."""

    def __init__(self, joined: JoinedModels, functions: Sequence[Callable[[tf.Tensor], tf.Tensor]]):
        self._joined, self._functions = joined, functions

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        answers: list[tf.Tensor] = []
        for part, function in zip(self._joined.applied, self._functions, strict=True):
            pieces = [
                tf.gather(x, source, axis=1) if isinstance(source, np.ndarray) else answers[source]
                for source in part.sources
            ]
            given = tf.reshape(tf.concat(pieces, axis=1), [-1, *part.shape])
            answer = function(given)
            answers.append(tf.reshape(answer, [-1, int(np.prod(answer.shape[1:]))]))
        shown = [tf.gather(x, list(self._joined.shown), axis=1)] if self._joined.shown else []
        return tf.concat([*answers, *shown], axis=1)
