"""What the frontend of ONNX reads, as the standard's interface of verifiers asks for it."""

from __future__ import annotations

from tfcert.activations import activation
from tfcert.network.onnx import arithmetic, rearranging, windows  # noqa: F401  (they enter their operators)
from tfcert.network.onnx.arithmetic import FUNCTIONS
from tfcert.network.onnx.model import TYPES
from tfcert.network.onnx.values import OPERATORS

ROUNDED = frozenset({"Celu", "Div", "Elu", "Gelu", "LeakyRelu", "LogSoftmax", "PRelu", "Pow", "Selu", "Softmax"})
"""Operators, beside functions, of which nothing is known of how onnxruntime rounds them, at least with some options."""


def element_types() -> tuple[str, ...]:
    """The types of numbers that proofs are about."""
    return (*(kind.__name__ for kind in TYPES.values()), "real")


def operators() -> dict[str, tuple[str, ...]]:
    """The operators, each with the types of numbers that proofs about a network with it are about."""
    every = element_types()
    return {kind: ("real",) if rounds(kind) else every for kind in sorted(OPERATORS)}


def rounds(kind: str) -> bool:
    """Tells whether onnxruntime's rounding of an operator is not bounded, so that proofs are about real numbers."""
    if kind not in FUNCTIONS:
        return kind in ROUNDED
    accuracy = activation(FUNCTIONS[kind]).accuracy
    return accuracy is None or bool(accuracy.ulps)
