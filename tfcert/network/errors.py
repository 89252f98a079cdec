"""Refusals of the frontend."""

from __future__ import annotations


class UnsupportedLayerError(ValueError):
    """A layer, or an option of it, that has no exact translation: nothing is guessed."""


class FrontendMismatchError(ValueError):
    """The network built from a model computes something else than the model: a bug, so it must not be used."""


class NonFiniteWeightError(ValueError):
    """A layer holds a NaN or an infinity, or one arises from its weights (a negative variance, say)."""


class KerasVersionError(RuntimeError):
    """The installed Keras lacks something that tfcert reads of its inside."""


class ModelLoadError(ValueError):
    """A file that cannot be loaded, or that it would be unsafe to load."""
