"""Marabou's side of the Agrify benchmark: one question in a process of its own environment (NumPy and maraboupy only).

Run as ``python agrify_marabou.py NETWORK.npz``: reads one line of JSON (``lower``, ``upper``: the box of the inputs;
``label``; ``seconds``) and writes one: ``outcome`` (``sat``, ``unsat`` or what Marabou says instead), ``x`` where it is
``sat``, ``seconds`` with building the queries. One query for each other class: is there an input whose logit of that
class is at least the label's? Marabou knows no strict inequality, so ties count as found, and the asker replays.
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


def network(layers: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Any, list[int], list[int]]:
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


def ask(layers: list[tuple[np.ndarray, np.ndarray]], question: dict[str, Any]) -> dict[str, Any]:
    """Class after class, until one is reachable or the time is used up."""
    start, label = time.perf_counter(), question["label"]
    for other in range(len(layers[-1][1])):
        left = question["seconds"] - (time.perf_counter() - start)
        if other == label:
            continue
        if left < 1:
            return {"outcome": "TIMEOUT", "seconds": time.perf_counter() - start}
        net, inputs, outputs = network(layers)
        for variable, low, high in zip(inputs, question["lower"], question["upper"], strict=True):
            net.setLowerBound(variable, low)
            net.setUpperBound(variable, high)
        net.addInequality([outputs[label], outputs[other]], [1.0, -1.0], 0.0)
        options = Marabou.createOptions(timeoutInSeconds=int(left), verbosity=0)
        outcome, found, _ = net.solve(verbose=False, options=options)
        if outcome != "unsat":
            answer = {"outcome": outcome, "seconds": time.perf_counter() - start, "target": other}
            return answer | ({"x": [found[v] for v in inputs]} if outcome == "sat" else {})
    return {"outcome": "unsat", "seconds": time.perf_counter() - start}


def main() -> None:
    """Answers one question. Marabou writes its statistics to standard output, so that is kept for the answer alone."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    arrays = np.load(sys.argv[1])
    layers = [(arrays[f"kernel{i}"], arrays[f"bias{i}"]) for i in range(len(arrays.files) // 2)]
    print(json.dumps(ask(layers, json.loads(sys.stdin.readline()))), file=answers, flush=True)


if __name__ == "__main__":
    main()
