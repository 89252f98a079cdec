"""NeuralSAT's side of the Agrify benchmark: one question in a process of the peers' environment.

Run as ``python neuralsat.py NETWORK.npz``: reads and writes what ``marabou.py`` does. The network becomes an ONNX file
and the question one VNN-LIB file (is there an input of the box at which some class's logit is at least the label's?),
which NeuralSAT's own program takes, as in the field's competition. Its package wants torchvision for one operator that
these networks do not have, so an empty module stands in for it. The asker replays.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import sys
import tempfile
import time
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import sortedcontainers  # NeuralSAT needs it: better missing here than in the middle of a question

Layers = list[tuple[np.ndarray, np.ndarray]]


def write_network(layers: Layers, path: Path) -> None:
    """Dense layers with ReLUs between them as an ONNX file."""
    nodes, weights, value = [], [], "x"
    for number, (kernel, bias) in enumerate(layers):
        for name, array in ((f"kernel{number}", kernel), (f"bias{number}", bias)):
            weights.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
        nodes.append(onnx.helper.make_node("Gemm", [value, f"kernel{number}", f"bias{number}"], [f"sum{number}"]))
        value = f"sum{number}"
        if number < len(layers) - 1:
            nodes.append(onnx.helper.make_node("Relu", [value], [f"relu{number}"]))
            value = f"relu{number}"
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size])
        for name, size in (("x", len(layers[0][0])), (value, len(layers[-1][1])))
    ]
    graph = onnx.helper.make_graph(nodes, "network", ends[:1], ends[1:], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))


def write_question(question: dict[str, Any], outputs: int, path: Path) -> None:
    """The question as a VNN-LIB file: satisfied by a point that is no longer the label's alone."""
    lines = [f"(declare-const X_{i} Real)" for i in range(len(question["lower"]))]
    lines += [f"(declare-const Y_{i} Real)" for i in range(outputs)]
    for i, (low, high) in enumerate(zip(question["lower"], question["upper"], strict=True)):
        lines += [f"(assert (>= X_{i} {low!r}))", f"(assert (<= X_{i} {high!r}))"]
    reached = "".join(f"(and (>= Y_{other} Y_{question['label']}))" for other in question["others"])
    path.write_text("\n".join([*lines, f"(assert (or {reached}))"]) + "\n")


def ask(layers: Layers, question: dict[str, Any]) -> dict[str, Any]:
    """What NeuralSAT's program says of the question, and its point."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        network, spec, result = (Path(folder) / name for name in ("network.onnx", "question.vnnlib", "result"))
        write_network(layers, network)
        write_question(question, len(layers[-1][1]), spec)
        _run(["--net", str(network), "--spec", str(spec), "--timeout", str(question["seconds"]), "--device", "cpu",
              "--verbosity", "0", "--result_file", str(result), "--export_cex"])  # fmt: skip
        said, _, point = result.read_text().partition("\n")
    answer = {"outcome": said.strip(), "seconds": time.perf_counter() - start}
    values = re.findall(r"\(X_\d+ (\S+?)\)", point)
    return answer | ({"x": [float(value) for value in values]} if values else {})


def _run(arguments: list[str]) -> None:
    """NeuralSAT's ``main.py`` with these arguments, in this process."""
    (main,) = (Path(folder) / "src" / "main.py" for folder in sys.path if (Path(folder) / "src" / "main.py").exists())
    sys.path.insert(0, str(main.parent))
    sys.modules["torchvision"] = types.ModuleType("torchvision")
    sys.argv = [str(main), *arguments]
    runpy.run_path(str(main), run_name="__main__")


def main() -> None:
    """Answers one question. NeuralSAT writes its progress to standard output, so that is kept for the answer alone."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    arrays = np.load(sys.argv[1])
    layers = [(arrays[f"kernel{i}"], arrays[f"bias{i}"]) for i in range(len(arrays.files) // 2)]
    print(json.dumps(ask(layers, json.loads(sys.stdin.readline()))), file=answers, flush=True)


if __name__ == "__main__":
    assert sortedcontainers
    main()
