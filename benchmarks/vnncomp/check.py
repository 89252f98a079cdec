"""Counterexample files, checked without tolerance: in exact arithmetic, by onnxruntime alone, without TensorFlow."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np

from tfcert.language.spec.formula import evaluate
from tfcert.language.vnnlib.reader import read_vnnlib

_ASSIGNED = re.compile(r"\(([XY])_(\d+)\s+([^\s()]+)\)")


def complaint(model: Path, query: Path, text: str) -> str:
    """A sentence that says why an assignment refutes nothing; "" where it does.

    The inputs are taken as the decimal numbers that they are written as, and must lie in a box of the file; onnxruntime
    is run on what it reads them as. The outputs of the file must be onnxruntime's, and satisfy what is asked.
    """
    question = read_vnnlib(query)
    written = {(kind, int(place)): number for kind, place, number in _ASSIGNED.findall(text)}
    counts = {"X": question.inputs, "Y": question.outputs}
    if set(written) != {(kind, i) for kind, count in counts.items() for i in range(count)}:
        return (
            f"it assigns {len(written)} numbers, and the file has {question.inputs} inputs, {question.outputs} outputs"
        )
    x, y = ([Fraction(written[kind, i]) for i in range(count)] for kind, count in counts.items())
    boxes = [case for case in question.cases if _inside(x, case.bounds)]
    if not boxes:
        return "its inputs lie in no box of the file"
    found = answers(model, [float(written["X", i]) for i in range(question.inputs)])
    if [float(v) for v in found] != [float(v) for v in y]:
        return "its outputs are not onnxruntime's"
    exact = [Fraction(float(v)) for v in found]
    return "" if any(evaluate(case.formula, exact) for case in boxes) else "its outputs do not satisfy what is asked"


def _inside(x: list[Fraction], bounds: tuple[tuple[Fraction, Fraction], ...]) -> bool:
    return all(low <= value <= high for value, (low, high) in zip(x, bounds, strict=True))


def answers(model: Path, x: list[float]) -> np.ndarray:
    """What onnxruntime computes of one sample, flat."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in given.shape]
    kind = np.float64 if given.type == "tensor(double)" else np.float32
    (found, *_) = session.run(None, {given.name: np.array(x, kind).reshape(shape)})
    return np.asarray(found).ravel()
