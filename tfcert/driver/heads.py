"""Heads of models, and what questions need of them: a softmax is peeled off, and one output has no classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcert.clauses import Clauses
from tfcert.driver.task import Lowered, Task
from tfcert.errors import UsageError
from tfcert.language.spec.formula import ArgIn, ArgIs, InTop, Label, Output, SameClass, SampleOutput

if TYPE_CHECKING:
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


def with_heads(task: Task) -> Task:
    """The task about a network that has what its clauses need of a softmax.

    Where they only order outputs, the logits before the softmax do, and the task stays as it is.
    """
    from tfcert.network.probabilities import Heads, Softmax

    network = task.model.network
    if not network.peeled:
        return task
    heads = task.model.heads or Heads.of(network, [Softmax(0, task.model.num_outputs)])
    asked: dict[bytes, np.ndarray] = {}
    for given in set() if task.template.is_robustness else set(task.given):
        rows = _rows(task.lowered.stacked([given]))
        asked |= {row.tobytes(): row for row in rows[~heads.keeps(rows)]}
    if not asked:
        return task
    heads = heads.fitted(asked.values())
    model = replace(task.model, network=heads.network(network), heads=heads)
    return replace(task, model=model, lowered=Lowered(task.template, task.lowered.layout, heads))


def _rows(clauses: Clauses) -> np.ndarray:
    """The rows of clauses that are no padding, each with its offset last."""
    together = np.concatenate([clauses.coefficients, clauses.offsets[..., None]], axis=-1)
    return np.asarray(together[np.isfinite(clauses.offsets)])


def label_is_class(formula: Any, of: int = 0) -> bool:
    """Tells whether the formula compares the label with an ``argmax`` or ``argmin`` of an application, so that it must
    be a class."""
    return _has(
        formula,
        lambda part: isinstance(part, ArgIs | ArgIn | InTop) and part.of == of and _has(part, lambda p: p == Label()),
    )


def asks_for_class(formula: Any, of: int = 0) -> bool:
    """Tells whether the formula asks for a class of an application, or for its output at the label."""

    def asks(part: Any) -> bool:
        either = isinstance(part, SameClass) and of in part.of
        return either or (isinstance(part, ArgIs | ArgIn | InTop) and part.of == of) or part in _at_label(of)

    return _has(formula, asks)


def _at_label(of: int) -> tuple[Output, SampleOutput]:
    return Output(None, of), SampleOutput(None, of)


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
