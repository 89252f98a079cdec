"""What is kept of a paper's network, and how its hidden nodes are counted."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field, fields

import keras

from tfcert.zoo.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class ZooNetwork:
    """A network of a paper: layers and recipe, not weights.

    Attributes:
        name: by which :func:`tfcert.zoo.build` makes it.
        papers: whose it is: ``cnn-cert``, ``deepcert``, ``constrained-ibp``, ``agrify``, ``abscert``.
        where: where in the papers it is asked about.
        input_shape: of an image, channels last, without the batch.
        hidden_nodes: the values that enter an activation function, in the network as it is built by default.
        printed: the size as the paper prints it; "" where it does not.
        recipe: how the paper trains it.
        builder: makes it, untrained; what it takes is optional.
    """

    name: str
    papers: tuple[str, ...]
    where: str
    input_shape: tuple[int, ...]
    hidden_nodes: int
    printed: str = ""
    recipe: Recipe
    builder: Callable[..., keras.Model] = field(repr=False, compare=False)

    def __str__(self) -> str:
        size = f"{self.hidden_nodes:,} hidden nodes" + (f" (printed: {self.printed})" if self.printed else "")
        head = f"{self.name}: inputs {self.input_shape}, {size}; {self.where}."
        defaults = {f.name: f.default for f in fields(Recipe)}
        kept = {name: value for name, value in vars(self.recipe).items() if value != defaults[name] and name != "note"}
        told = "Recipe: " + ", ".join(f"{name}={value!r}" for name, value in kept.items()) + "."
        lines = [head, told, *([self.recipe.note] if self.recipe.note else [])]
        return "\n".join(textwrap.fill(line, 110, subsequent_indent="  ") for line in lines)


def hidden_nodes(model: keras.Model) -> int:
    """The values ``[batch, ...]`` of a Keras model that enter an activation function, for one sample."""
    return sum(math.prod(layer.output.shape[1:]) for layer in model.layers if _activates(layer))


def _activates(layer: keras.Layer) -> bool:
    if isinstance(layer, keras.layers.ReLU):
        return True
    function = getattr(layer, "activation", None)
    return function is not None and function is not keras.activations.linear
