"""Heads of models and the questions that they allow: a softmax is peeled off, and one output has no classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from tfcert.errors import UsageError
from tfcert.language.spec.formula import ArgIn, ArgIs, Label, Output

if TYPE_CHECKING:
    from tfcert.language.spec.questions import Template
    from tfcert.network import Network


def check_declared(name: str, outputs: str, network: Network) -> None:
    """Checks that the outputs are what a specification says of them, if it says anything.

    Raises:
        UsageError: they are not.
    """
    head = "softmax" if network.peeled else "sigmoid" if _ends_in_sigmoid(network) else ""
    if head and outputs == "logits":
        raise UsageError(
            f"{name} is declared `outputs: logits`, but it ends in a {head}: write `outputs: probabilities`, or save "
            f"the model without its {head}"
        )
    if outputs == "probabilities" and not head:
        raise UsageError(
            f"{name} is declared `outputs: probabilities`, but it ends in neither a softmax nor a sigmoid: write "
            "`outputs: logits` if these are its outputs, or leave the word out"
        )


def _ends_in_sigmoid(network: Network) -> bool:
    """Tells whether every output is a sigmoid's, moved or scaled at most (as ``1 - p`` is)."""
    from tfcert.network.graph import Concatenate, Elementwise, Linear

    pending = [network.output]
    while pending:
        node = network.nodes[pending.pop()]
        passes = isinstance(node, Linear) and (node.map.moves or node.map.diagonal() is not None)
        if passes or isinstance(node, Concatenate):
            pending.extend(node.inputs)
        elif not isinstance(node, Elementwise) or node.activation.name not in ("sigmoid", "hard_sigmoid"):
            return False
    return True


def check_order(template: Template, network: Network, label: int | None) -> None:
    """Checks that a formula about a peeled softmax only orders its outputs: of anything else, logits are no stand-in.

    Raises:
        ValueError: it does not, or cannot be lowered.
    """
    (outputs,) = network.output_shape
    if network.peeled and not template.only_orders(outputs, label):
        raise ValueError(
            f"{template.model} ends in a softmax, and of its probabilities tfcert decides only which one is larger (as "
            "`argmax` does, or `f(z)[0] > f(z)[1]`), no thresholds, sums or multiples yet. Save the model without its "
            "softmax, declare `outputs: logits` (before the names, if it has any), and write the formula about logits: "
            "of two classes, a probability of 60% is a difference of logits of log(60/40) = 0.405"
        )


def label_is_class(formula: Any) -> bool:
    """Tells whether the formula compares the label with an ``argmax`` or ``argmin``, so that it must be a class."""
    return _has(formula, lambda part: isinstance(part, ArgIs | ArgIn) and _has(part, lambda p: p == Label()))


def asks_for_class(formula: Any) -> bool:
    """Tells whether the formula asks for a class, or for the output at the label."""
    return _has(formula, lambda part: isinstance(part, ArgIs | ArgIn) or part == Output(None))


def _has(formula: Any, wanted: Callable[[Any], bool]) -> bool:
    """Tells whether some part of a formula, itself included, is as wanted."""
    pending = [formula]
    while pending:
        part = pending.pop()
        if wanted(part):
            return True
        if is_dataclass(part):
            pending.extend(getattr(part, f.name) for f in fields(part))
        elif isinstance(part, tuple):
            pending.extend(part)
    return False
