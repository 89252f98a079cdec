"""Marabou's side of the Agrify benchmark: one question in a process of its own environment (NumPy and maraboupy only).

Run as ``python agrify_marabou.py NETWORK.npz``: reads one line of JSON (``lower``, ``upper``: the box of the inputs;
``label``; ``others``: classes in the order to try them; ``seconds``) and writes one: ``outcome`` (``sat``, ``unsat``
or what Marabou says instead), ``x`` where it is ``sat``, ``seconds`` with building the queries. One query for each
class: is there an input whose logit of that class is at least the label's? Marabou knows no strict inequality and
mostly answers with a tie, so then it is asked again for a point that is clearly beyond; the tie is the answer if no
class has one. The asker replays.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from typing import Any

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # parsers of formats that are not used here
    from maraboupy import Marabou, MarabouNetwork


_DEMAND = 1e-4
"""By how much a logit must exceed the label's in the second question: more than float32 rounds."""
Layers = list[tuple[np.ndarray, np.ndarray]]


def network(layers: Layers) -> tuple[Any, list[int], list[int]]:
    """Marabou's network of dense layers with ReLUs between them, its input and its output variables."""
    net = MarabouNetwork.MarabouNetwork()
    inputs = values = [net.getNewVariable() for _ in range(len(layers[0][0]))]
    for number, (kernel, bias) in enumerate(layers):
        sums = [net.getNewVariable() for _ in bias]
        for j, variable in enumerate(sums):
            net.addEquality([*values, variable], [*kernel[:, j].tolist(), -1.0], -float(bias[j]))
        values = sums
        if number < len(layers) - 1:
            values = [net.getNewVariable() for _ in bias]
            for before, after in zip(sums, values, strict=True):
                net.addRelu(before, after)
    net.inputVars, net.outputVars = [np.array(inputs)], [np.array(values)]
    return net, inputs, values


def ask(layers: Layers, question: dict[str, Any]) -> dict[str, Any]:
    """Class after class, until one is clearly reached or the time is used up."""
    start, answer = time.perf_counter(), {"outcome": "unsat"}
    for other in question["others"]:
        for demand in (0.0, _DEMAND):
            left = question["seconds"] - (time.perf_counter() - start)
            outcome, x = _query(layers, question, (other, demand), int(left)) if left >= 1 else ("TIMEOUT", None)
            if outcome == "unsat":
                break
            if x is not None or answer["outcome"] == "unsat":
                answer = {"outcome": outcome, "target": other, **({} if x is None else {"x": x})}
            clear = x is not None and _margin(layers, x, question["label"], other) < -_DEMAND / 2
            if clear or outcome == "TIMEOUT":
                return answer | {"seconds": time.perf_counter() - start}
    return answer | {"seconds": time.perf_counter() - start}


def _query(
    layers: Layers, question: dict[str, Any], goal: tuple[int, float], seconds: int
) -> tuple[str, list[float] | None]:
    """What Marabou says of one class whose logit must exceed the label's by a demand, and its point."""
    other, demand = goal
    net, inputs, outputs = network(layers)
    for variable, low, high in zip(inputs, question["lower"], question["upper"], strict=True):
        net.setLowerBound(variable, low)
        net.setUpperBound(variable, high)
    net.addInequality([outputs[question["label"]], outputs[other]], [1.0, -1.0], -demand)
    options = Marabou.createOptions(timeoutInSeconds=seconds, verbosity=0)
    outcome, found, _ = net.solve(verbose=False, options=options)
    return outcome, [found[v] for v in inputs] if outcome == "sat" else None


def _margin(layers: Layers, x: list[float], label: int, other: int) -> float:
    values = np.array(x)
    for number, (kernel, bias) in enumerate(layers):
        values = (values if number == 0 else np.maximum(values, 0.0)) @ kernel + bias
    return float(values[label] - values[other])


def main() -> None:
    """Answers one question. Marabou writes its statistics to standard output, so that is kept for the answer alone."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    arrays = np.load(sys.argv[1])
    layers = [(arrays[f"kernel{i}"], arrays[f"bias{i}"]) for i in range(len(arrays.files) // 2)]
    print(json.dumps(ask(layers, json.loads(sys.stdin.readline()))), file=answers, flush=True)


if __name__ == "__main__":
    main()
