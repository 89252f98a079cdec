"""Tiny ONNX models: a graph is written as its nodes, and every array is a weight."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="ONNX models need the package onnx")
pytest.importorskip("onnxruntime", reason="ONNX models need the package onnxruntime")

from tfcert.network.onnx.model import OnnxModel  # noqa: E402

FLOAT, DOUBLE = 1, 11


def node(kind, inputs, output="", **attributes):
    """A node; ``inputs`` are names or arrays."""
    return kind, inputs, output, attributes


def build(shape, *nodes, opset=13, kind=FLOAT, outputs=None):
    """The model's proto: nodes in order, each reads ``x`` first unless it names its inputs."""
    made, weights, last = [], [], "x"
    for number, (op, inputs, output, attributes) in enumerate(nodes):
        names = []
        for place, value in enumerate(inputs):
            if isinstance(value, str):
                names.append(last if value == "@" else value)
                continue
            dtype = value.dtype if value.dtype.kind in "iub" else np.float32 if kind == FLOAT else np.float64
            weights.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), f"w{number}_{place}"))
            names.append(f"w{number}_{place}")
        last = output or f"v{number}"
        several = last.split()
        made.append(onnx.helper.make_node(op, names, several, name=f"n{number}", **attributes))
        last = several[0]
    given = onnx.helper.make_tensor_value_info("x", kind, shape)
    result = onnx.helper.make_tensor_value_info(last, kind, outputs)
    graph = onnx.helper.make_graph(made, "g", [given], [result], weights)
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9 if opset < 21 else 10)


def model(shape, *nodes, **options):
    return OnnxModel(build(shape, *nodes, **options))


def rng(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)
