"""From an ONNX model to a network, node by node; whatever is not known is refused, and the result is compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.network.builder import Builder, Tensor
from tfcert.network.errors import FrontendMismatchError, UnsupportedLayerError
from tfcert.network.graph import Elementwise, Multivariate, Network, Node
from tfcert.network.keras.advice import nearest
from tfcert.network.keras.validation import Checkpoint, compare_nodes
from tfcert.network.onnx import arithmetic, rearranging, windows  # noqa: F401  (they enter their operators)
from tfcert.network.onnx.model import Attributes, OnnxModel, Operation, session
from tfcert.network.onnx.values import OPERATORS, Known, OnnxNode, Varying, inner
from tfcert.network.product import Contraction, Product

_DRAWN = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")


def from_onnx(model: OnnxModel, x: np.ndarray | None = None) -> Network:
    """The network that a model computes, with its outputs as one vector; compared with onnxruntime, node by node.

    Inputs keep the file's order and shape. A softmax at the end is peeled off, as of Keras models.

    Args:
        model: the model.
        x: inputs of the user's; a few of them join the probes of the comparison.

    Raises:
        UnsupportedLayerError: an operator, or an option of it, has no exact translation.
        FrontendMismatchError: the network computes something else than the model.
    """
    if len(model.outputs) > 1 and not model.as_one:
        raise UnsupportedLayerError(
            f"{model.name} has the outputs {', '.join(map(repr, model.outputs))}; choose one, or all as one vector, by "
            f'tfcert.with_output(model, {model.outputs[0]!r}) or tfcert.with_output(model, "all")'
        )
    x = x if x is None or model.parts is None else model.parts.join(x)
    builder = Builder(tf.as_dtype(model.dtype))
    values: dict[str, Known] = {**model.constants, **_starts(model, builder)}
    kinds = {}
    for operation in model.operations:
        with builder.scope(operation.name, operation.kind):
            found = _converted(operation, values, builder, model)
        values.update((name, value) for name, value in zip(operation.outputs, found, strict=False) if name)
        kinds.update(dict.fromkeys(operation.outputs, operation.name))
    with builder.scope("output", "Flatten"):
        last = _last(model, values, builder)
    network, place = builder.network(last)
    network = replace(network, nodes=tuple(map(_marked, network.nodes)), parts=model.parts)
    checkpoints = [
        Checkpoint(kinds[name], place[value.tensor.index], name, value.tensor.softmax is not None)
        for name, value in values.items()
        if isinstance(value, Varying) and name in kinds and value.tensor.index in place
    ]
    _compared(network, model, checkpoints, x)
    return network


def _starts(model: OnnxModel, builder: Builder) -> dict[str, Known]:
    """The inputs by name: the network's input, or slices of it."""
    source = builder.input(model.input_shape, model.given[0].name if model.parts is None else "inputs")
    if model.parts is None:
        (given,) = model.given
        return {given.name: Varying(builder.reshape(source, inner(given.shape)), given.shape)}
    found: dict[str, Known] = {}
    for given, part in zip(model.given, model.parts, strict=True):
        with builder.scope(given.name, "Input"):
            piece = builder.index(source, np.arange(part.start, part.stop).reshape(inner(given.shape)))
            found[given.name] = Varying(piece, given.shape)
    return found


def _last(model: OnnxModel, values: dict[str, Known], builder: Builder) -> Tensor:
    """The outputs as one vector."""
    flat = []
    for name in model.outputs:
        output = values.get(name)
        if not isinstance(output, Varying):
            raise UnsupportedLayerError(f"the output {name!r} of {model.name} does not depend on its input")
        shape = (int(np.prod(output.shape)),)
        flat.append(output.tensor if output.tensor.shape == shape else builder.reshape(output.tensor, shape))
    return builder.concatenate(flat, 0)


def _marked(node: Node) -> Node:
    """A node; of a function with the reason why its rounding is not bounded: TensorFlow's were measured, not these."""
    accuracy = node.activation.accuracy if isinstance(node, Elementwise) else None
    exact = accuracy is not None and not accuracy.ulps
    if exact or not isinstance(node, Elementwise | Multivariate) or isinstance(node, Product | Contraction):
        return node
    return replace(node, uncharged="nothing is known of how onnxruntime rounds a function")


def _compared(network: Network, model: OnnxModel, checkpoints: list[Checkpoint], x: np.ndarray | None) -> None:
    """Compares values within the model, and the outputs of the model as it is deployed, with the network's."""
    names = [checkpoint.tensor for checkpoint in checkpoints]
    whole = Checkpoint("output", network.output, "the outputs", network.peeled)

    def answers(inputs: tf.Tensor) -> list[Any]:
        found = [*model.values(names, inputs.numpy()), model.run(inputs.numpy())]
        nodes = [*(checkpoint.node for checkpoint in checkpoints), network.output]
        shapes = [network.nodes[node].shape for node in nodes]
        for name, value, shape in zip([*names, "the outputs"], found, shapes, strict=True):
            if value.shape[1] != np.prod(shape):
                raise FrontendMismatchError(
                    f"{model.name} computes {value.shape[1]} numbers in {name!r}, and the network {int(np.prod(shape))}"
                )
        return [tf.reshape(tf.constant(value), [-1, *shape]) for value, shape in zip(found, shapes, strict=True)]

    compare_nodes(network, model.name, [*checkpoints, whole], answers, x)


def _converted(operation: Operation, values: dict[str, Known], builder: Builder, model: OnnxModel) -> list[Known]:
    unknown = [name for name in operation.inputs if name and name not in values]
    if unknown:
        raise builder.refuse(f"reads {unknown[0]!r}, a value that is not computed, or an output that is not supported")
    inputs = [values[name] if name else None for name in operation.inputs]
    if operation.kind in _DRAWN:
        raise builder.refuse("draws random numbers")
    if not any(isinstance(value, Varying) for value in inputs):
        return list(_folded(operation, values, builder, model))
    convert = OPERATORS.get(operation.kind)
    if convert is None:
        raise builder.refuse(f"is an operator that tfcert cannot bound yet; {nearest(operation.kind, OPERATORS)}")
    attributes = Attributes(operation.attributes)
    call = OnnxNode(builder, operation.kind, inputs, attributes, len(operation.outputs), model.opset)
    found = convert(call)
    if attributes.unread:
        raise builder.refuse(f"has the attribute {attributes.unread[0]!r}, which tfcert does not know")
    return [found] if isinstance(found, Varying | np.ndarray) else list(found)


def _folded(operation: Operation, values: dict[str, Known], builder: Builder, model: OnnxModel) -> list[np.ndarray]:
    """What constants alone enter, computed by onnxruntime."""
    import onnx

    inputs = [
        onnx.numpy_helper.from_array(np.asarray(values[name]), name) for name in dict.fromkeys(operation.inputs) if name
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in operation.outputs if name]
    graph = onnx.helper.make_graph([operation.proto], "constant", [], outputs, inputs)
    proto = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", model.opset)], ir_version=model.proto.ir_version
    )
    found = iter(session(proto.SerializeToString(), f"{model.name}, {builder.where}").run(None, {}))
    return [np.asarray(next(found)) if name else np.zeros(0) for name in operation.outputs]
