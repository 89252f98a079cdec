"""What the frontend refuses, and why."""

from __future__ import annotations


class UnsupportedLayerError(ValueError):
    """A layer, or an option of it, that has no exact translation: nothing is guessed."""


class FrontendMismatchError(ValueError):
    """The network built from a model computes something else than the model: a bug, so it must not be used."""


class NonFiniteWeightError(ValueError):
    """A layer holds a NaN or an infinity, or one arises from its weights (a negative variance, say)."""


class ModelLoadError(ValueError):
    """A file that cannot be loaded, or that it would be unsafe to load."""


SINGLE_OUTPUT = (
    "the model has a single output, so there is no other class to tell a label from; give a binary classifier two: "
    "p = model.output; keras.Model(model.input, keras.ops.concatenate([1 - p, p], axis=-1)), with -p for 1 - p where p "
    "is a logit; or ask for a threshold, `f(z)[0] < 50%` in a specification, or tfcert.bounds"
)


def require_classes(outputs: int) -> None:
    """Raises a ValueError where there are no two outputs, of which one could be larger."""
    if outputs < 2:
        raise ValueError(SINGLE_OUTPUT)
