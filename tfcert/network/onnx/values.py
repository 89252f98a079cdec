"""Values of an ONNX graph on its way to a network, and the operators that are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfcert.network.builder import Builder, Tensor
from tfcert.network.graph import Linear
from tfcert.network.linear import Shape, Source
from tfcert.network.onnx.model import Attributes


@dataclass(frozen=True)
class Varying:
    """A value that depends on the input.

    Attributes:
        tensor: in the network, of the shape :func:`inner` makes of this one.
        shape: as ONNX has it, for a batch of one.
    """

    tensor: Tensor
    shape: Shape


Known = Varying | np.ndarray
"""A value, or numbers that are the same for every input."""
Converter = Callable[["OnnxNode"], Known | Sequence[Known]]
OPERATORS: dict[str, Converter] = {}
"""How operators are translated, by ONNX's names."""


def operator(*kinds: str) -> Callable[[Converter], Converter]:
    """Marks a function as the translation of some operators."""

    def enter(convert: Converter) -> Converter:
        OPERATORS.update(dict.fromkeys(kinds, convert))
        return convert

    return enter


def inner(shape: Sequence[int]) -> Shape:
    """The shape of a value in the network: without a first axis of one, which is mostly the batch."""
    if len(shape) > 1 and shape[0] == 1:
        return tuple(shape[1:])
    return tuple(shape) or (1,)


@dataclass
class OnnxNode:
    """One node of the graph while it is translated.

    Attributes:
        kind: the operator.
        inputs: None for those that are left out.
        outputs: how many outputs have a name.
        opset: the version of the operators.
    """

    builder: Builder
    kind: str
    inputs: Sequence[Known | None]
    attributes: Attributes
    outputs: int
    opset: int

    def refuse(self, reason: str) -> Exception:
        """The error that says why the node is refused."""
        return self.builder.refuse(reason)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute of the node."""
        return self.attributes.get(name, default)

    def given(self, place: int) -> Known | None:
        """An input; None where it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def known(self, place: int) -> Known:
        """An input that must be there."""
        found = self.given(place)
        if found is None:
            raise self.refuse(f"has no input {place}")
        return found

    def value(self, place: int = 0) -> Varying:
        """An input as a value; what is the same for every input becomes one, too."""
        found = self.known(place)
        return found if isinstance(found, Varying) else self.fixed(found)

    def fixed(self, numbers: np.ndarray) -> Varying:
        """Numbers as a value of the network."""
        source = self.builder.constant(numbers.reshape(inner(numbers.shape)))
        return Varying(self.builder.fixed(source, inner(numbers.shape), part="constant"), tuple(numbers.shape))

    def numbers(self, place: int) -> np.ndarray:
        """An input that must be the same for every input of the network."""
        found = self.known(place)
        if isinstance(found, Varying):
            raise self.refuse(f"computes its input {place} from the model's input; only constants are supported there")
        return found

    def setting(self, name: str, place: int, default: Any = None) -> Any:
        """Whole numbers that are an attribute, or in newer versions an input; a list, or ``default``."""
        given = self.given(place)
        if given is not None:
            return [int(n) for n in self.numbers(place).ravel()]
        return self.get(name, default)

    def constant(self, numbers: np.ndarray) -> Source:
        """Reads numbers in the network's type."""
        return self.builder.constant(numbers)

    def plus(self, x: Varying, numbers: np.ndarray) -> Varying:
        """A value and numbers that fit it in the network: the bias of the product that it is, if it is one."""
        node, bias = self.builder.node(x.tensor), self.constant(numbers)
        if isinstance(node, Linear) and node.bias is None and not node.map.moves and x.tensor.softmax is None:
            source = self.builder.node(node.inputs[0])
            return Varying(self.builder.linear(Tensor(node.inputs[0], source.shape), node.map, bias), x.shape)
        return Varying(self.builder.add([x.tensor, self.builder.fixed(bias, x.tensor.shape, part="constant")]), x.shape)

    def whole(self, x: Varying) -> Tensor:
        """A value in the shape that ONNX has."""
        return self.builder.reshape(x.tensor, x.shape or (1,))

    def held(self, x: Tensor, shape: Sequence[int]) -> Varying:
        """A tensor as a value of a shape of as many numbers."""
        flat = x if x.shape == inner(shape) else self.builder.reshape(x, inner(shape))
        return Varying(flat, tuple(shape))

    def axis(self, axis: int, rank: int) -> int:
        """An axis, counted from the front."""
        if not -rank <= axis < max(rank, 1):
            raise self.refuse(f"reads the axis {axis} of a tensor of {rank}")
        return axis % max(rank, 1)

    def along(self, x: Varying, axes: Sequence[int]) -> tuple[Tensor, list[int], Shape]:
        """A tensor with some axes of a value in it: where these are, and what stands before its shape in ONNX's."""
        found = [self.axis(axis, len(x.shape)) for axis in axes]
        if len(x.shape) > 1 and x.shape[0] == 1 and 0 not in found:
            return x.tensor, [axis - 1 for axis in found], (1,)
        return self.whole(x), found, ()

    def aligned(self, numbers: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Numbers that broadcast against a shape of ONNX's, for the same value in the network."""
        spare = numbers.ndim - len(inner(shape))
        return numbers.reshape(numbers.shape[spare:]) if spare > 0 else numbers

    def broadcast(self, x: Varying, shape: Sequence[int]) -> Varying:
        """A value repeated to a shape, by NumPy's rules."""
        if tuple(shape) == x.shape:
            return x
        try:
            if np.broadcast_shapes(x.shape, tuple(shape)) != tuple(shape):
                raise ValueError
        except ValueError:
            raise self.refuse(f"repeats a tensor of shape {x.shape} to {tuple(shape)}") from None
        return self.held(self.builder.broadcast(self.whole(x), tuple(shape)), shape)
