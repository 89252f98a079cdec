"""From a Keras model to a network: walks Sequential and functional models, and refuses what it does not know.

Layers are found by exact type in one table (:data:`CONVERTERS`); a subclass is another layer, since it may compute
anything. ``register_layer`` adds to the table.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcert.network.builder import Builder, Tensor
from tfcert.network.copies import without_copies
from tfcert.network.errors import UnsupportedLayerError
from tfcert.network.graph import Network
from tfcert.network.keras.advice import of_another_type, unsupported
from tfcert.network.keras.fixed import FixedValue, fixed_outputs
from tfcert.network.keras.inputs import in_order, keras_inputs, keras_output, outputs_of
from tfcert.network.keras.private import Functional, calls, functional_graph, operation_of
from tfcert.network.keras.validation import Checkpoint, validate
from tfcert.network.linear import Shape
from tfcert.parts import NamedParts

Convert = Callable[[Any, Builder, Any], Any]
"""``(layer, builder, inputs) -> output``: one small function per layer."""

CONVERTERS: dict[type, Convert] = {}
TAKES_CONSTANTS: set[type] = set()
"""The operations whose operands may be constants as well as tensors."""
TAKES_NAMES: set[type] = set()
"""The layers whose converters get the arguments of the call by their names, instead of a list of operands."""
Arguments = Mapping[str, Any]
"""What a layer is called with: tensors, and constants as they were given; without what was left at its default."""


def converter(*types: type, constants: bool = False, named: bool = False) -> Callable[[Convert], Convert]:
    """Puts a converter of tfcert's own into the table."""

    def enter(convert: Convert) -> Convert:
        for kind in types:
            CONVERTERS[kind] = convert
            if constants:
                TAKES_CONSTANTS.add(kind)
            if named:
                TAKES_NAMES.add(kind)
        return convert

    return enter


def register_layer(layer_class: type[keras.layers.Layer], convert: Convert) -> None:
    """Teaches tfcert a layer of your own.

    ``convert(layer, builder, inputs) -> output`` writes the layer with the methods of :class:`~tfcert.network.Builder`:
    ``linear`` and ``scale`` (weights, biases), ``reshape``, ``transpose``, ``take``, ``index``, ``broadcast``,
    ``repeat``, ``tile`` and ``concatenate`` (moves), ``add``, ``subtract``, ``sum`` and ``mean``, ``product``,
    ``divide``, ``power`` and ``contract`` (sums of products), ``activation`` (any registered function), ``maximum``,
    ``minimum``, ``reduce_max`` and ``max_pool``, ``logsumexp``, ``softmax``. ``inputs`` are its input tensors,
    ``builder.constant(variable)`` reads a weight live, and ``builder.fixed`` makes a tensor of one; a layer of several
    outputs makes a list of them, in the order of ``keras.tree.flatten``. The result is checked against the model like
    everything else.

    Args:
        layer_class: the class, matched exactly: its subclasses are not covered.
        convert: the converter.

    Raises:
        ValueError: the class has a converter already.

    Example:
        >>> class Shift(keras.layers.Layer):
        ...     def build(self, input_shape):
        ...         self.offset = self.add_weight(shape=(input_shape[-1],), initializer="ones")
        ...     def call(self, x):
        ...         return keras.ops.relu(x + self.offset)
        >>> def convert_shift(layer, builder, inputs):
        ...     one = lambda: tf.ones([], builder.dtype)
        ...     shifted = builder.scale(inputs[0], one, builder.constant(layer.offset))
        ...     return builder.activation(shifted, "relu", part="relu")
        >>> register_layer(Shift, convert_shift)
        >>> network = from_keras(keras.Sequential([keras.Input((3,)), Shift()]))
        >>> network(tf.constant([[-2.0, 0.0, 1.0]])).numpy()
        array([[0., 1., 2.]], dtype=float32)
    """
    if not isinstance(layer_class, type):
        raise TypeError(f"register_layer takes a layer class, not {layer_class!r}")
    if layer_class in CONVERTERS:
        raise ValueError(f"{layer_class.__name__} has a converter already")
    CONVERTERS[layer_class] = convert


def from_keras(model: keras.Model, x: Any = None, *, output: str | int | None = None) -> Network:
    """The network that a Keras model computes at inference (``training=False``), reading its weights live.

    Args:
        model: a Sequential or functional model, nested and shared models included; or a wrapper whose ``plain_model``
            is one (a ``CertifiedModel``). A model with several inputs is a network of one vector, its inputs side by
            side as ``network.parts`` says.
        x: inputs: an array ``[batch, *input]``, or a list or dictionary of arrays where the model has several inputs;
            it fixes the dimensions that a single input leaves open.
        output: which of several outputs the network has, as :func:`tfcert.with_output` takes it.

    Returns:
        The network. A softmax that the model ends in is not part of it: its outputs are the logits, ``peeled`` is True
        and ``notes`` say so.

    Raises:
        UnsupportedLayerError: a layer or an option of it has no exact translation, or the model has several outputs
            and ``output`` does not choose.
        NonFiniteWeightError: a weight is NaN or infinite.
        FrontendMismatchError: the network disagrees with the model on the inputs of ``validation.probes``.
        ValueError: an input dimension is unknown and ``x`` is not given, or ``x`` does not fit the model.
    """
    model = getattr(model, "plain_model", model)
    with tf.init_scope():
        if output is not None:
            model = keras_output(model, output)
        graph = _graph(model, x)
        parts = keras_inputs(model)
        x = x if x is None or parts is None else parts.join(x)
        builder = Builder(_dtype(model, graph))
        with builder.scope(model.name, type(model).__name__):
            check_dtype(model, builder)
        values = _convert_graph(graph, builder, _starts(model, graph, builder, parts, x))
        output_value = values[id(graph.outputs[0])]
        network, place = builder.network(output_value)
        network = network if parts is None else replace(network, parts=parts)
        checkpoints = _checkpoints(graph, values, place)
        validate(network, model, checkpoints, x)
        folded = without_copies(network)
        if folded is not network:
            validate(folded, model, [replace(checkpoints[-1], node=folded.output)], x)
        return folded


def _dtype(model: keras.Model, graph: keras.Model) -> tf.DType:
    """What the model takes; of several inputs, what those take that may be perturbed."""
    kinds = [tf.as_dtype(source.dtype) for source in graph.inputs]
    found = sorted({kind.name for kind in kinds if kind.is_floating} or {kinds[0].name})
    dtype = tf.as_dtype(found[0])
    if dtype not in (tf.float32, tf.float64) or len(found) > 1:
        readers = {type(node.operation) for node in calls(graph)}
        raise UnsupportedLayerError(of_another_type(model.name, found, graph.inputs[0].shape[1:], readers))
    return dtype


def _starts(model: keras.Model, graph: keras.Model, builder: Builder, parts: NamedParts | None, x: Any) -> list[Tensor]:
    """Our tensors for the inputs of a graph: the network's input, or slices of it."""
    if parts is None:
        source = graph.inputs[0]
        return [builder.input(_input_shape(model, source.shape[1:], x), operation_of(source).name)]
    flat = builder.input((parts.size,), "inputs")
    starts = []
    for part in parts:
        with builder.scope(part.name, "InputLayer"):
            starts.append(builder.index(flat, np.arange(part.start, part.stop).reshape(part.shape)))
    return starts


def _checkpoints(graph: keras.Model, values: dict[int, Tensor], place: dict[int, int]) -> list[Checkpoint]:
    """The layers of a graph that the network holds, the output last."""
    tensors = [tensor for node in calls(graph) for tensor in node.outputs]
    tensors = [t for t in tensors if t is not graph.outputs[0]] + [graph.outputs[0]]
    return [
        Checkpoint(operation_of(t).name, place[value.index], t, value.softmax is not None)
        for t, value in ((t, values[id(t)]) for t in tensors if id(t) in values)
        if value.index in place
    ]


def _graph(model: Any, x: Any, nested: bool = False) -> keras.Model:
    """The functional graph behind a model."""
    if type(model) is keras.Sequential:
        if not model.built and x is not None:
            model.build((None, *np.shape(x)[1:]))
        graph = functional_graph(model)
        if graph is None:
            raise ValueError(
                f"model {model.name!r} has no input shape yet: begin it with keras.Input(shape), or pass x"
            )
    elif type(model) is Functional:
        graph = model
    else:
        raise UnsupportedLayerError(
            f"{type(model).__name__} {getattr(model, 'name', '')!r} is neither a keras.Sequential nor a functional "
            "model, and the code of a subclass cannot be read; build the same layers functionally "
            "(inputs = keras.Input(shape); model = keras.Model(inputs, subclassed.call(inputs))), "
            "or teach tfcert the class with tfcert.register_layer if it is used as a layer"
        )
    parts = outputs_of(model)
    if parts is not None and not nested:
        raise UnsupportedLayerError(
            f"model {model.name!r} has {len(parts)} outputs ({parts}); choose one, or all as one vector, by "
            f'tfcert.with_output(model, {parts.names[0]!r}) or tfcert.with_output(model, "all")'
        )
    return graph


def _input_shape(model: keras.Model, declared: Sequence[int | None], x: Any) -> Shape:
    if x is None:
        if None in declared:
            raise ValueError(
                f"model {model.name!r} takes inputs of shape {tuple(declared)}, with unknown dimensions (None): "
                "pass x, a batch of inputs, to fix them"
            )
        return tuple(int(size) for size in declared if size is not None)
    shape = tuple(int(size) for size in np.shape(x)[1:])
    if len(shape) != len(declared) or any(d not in (None, size) for d, size in zip(declared, shape, strict=True)):
        raise ValueError(f"x holds inputs of shape {shape}; model {model.name!r} takes {tuple(declared)}")
    return shape


def _convert_graph(graph: keras.Model, builder: Builder, starts: Sequence[Tensor]) -> dict[int, Tensor]:
    """Our tensors for Keras's, by the identity of the latter."""
    values: dict[int, Tensor | FixedValue] = {}
    for source, start in zip(graph.inputs, starts, strict=True):
        declared = source.shape[1:]
        if len(declared) != len(start.shape) or any(
            d not in (None, size) for d, size in zip(declared, start.shape, strict=True)
        ):
            raise builder.refuse(f"takes inputs of shape {tuple(declared)} and is given {start.shape}")
        values[id(source)] = start
    for node in calls(graph):
        if type(node.operation) is keras.layers.Masking:  # before the operations on its mask, which come first
            with builder.scope(node.operation.name, "Masking"):
                raise builder.refuse(unsupported(keras.layers.Masking, CONVERTERS))
    for node in calls(graph):
        operation = node.operation
        with builder.scope(operation.name, type(operation).__name__):
            found: Sequence[Tensor | FixedValue] | None = fixed_outputs(node, values, builder)
            if found is None:
                if type(operation) not in (keras.Sequential, Functional):
                    find_converter(operation, builder)  # what it is called with matters only where there is one
                found = convert_call(operation, builder, _operands(node, values, builder), node.outputs)
            values |= {id(tensor): value for tensor, value in zip(node.outputs, found, strict=True)}
    fixed = [(id(t), value) for t in graph.outputs if isinstance(value := values[id(t)], FixedValue)]
    made = {key: value.tensor(builder) for key, value in fixed}
    return {key: value for key, value in (values | made).items() if isinstance(value, Tensor)}


def _operands(node: Any, values: Mapping[int, Tensor | FixedValue], builder: Builder) -> Any:
    """The operands of a call, tensors replaced by ours; refuses arguments that change what a layer does."""
    keywords = dict(node.arguments.kwargs)
    # Layers that only augment default to training; a model run at inference calls them without all the same.
    default = inspect.signature(type(node.operation).call).parameters.get("training")
    if keywords.pop("training", None) not in (None, False, default and default.default):
        raise builder.refuse(
            "is called with training=True, so it is random or updates itself at inference; call it without"
        )
    if type(node.operation) in TAKES_NAMES:
        named = _by_name(node.operation, *node.arguments.args, **keywords)
        return keras.tree.map_structure(lambda leaf: values.get(id(leaf), leaf), named)
    if any(mask is not None for mask in keras.tree.flatten(keywords.pop("mask", None))):
        raise builder.refuse("is called with a mask; masks are not supported")
    arguments = node.arguments.args
    if type(node.operation) is Functional and arguments:
        arguments = (in_order(node.operation, arguments[0]), *arguments[1:])
    leaves = keras.tree.flatten((arguments, keywords))
    known = [values.get(id(leaf), leaf) if isinstance(leaf, keras.KerasTensor) else leaf for leaf in leaves]
    if type(node.operation) not in TAKES_CONSTANTS:
        known = [leaf.tensor(builder) if isinstance(leaf, FixedValue) else leaf for leaf in known]
    constant = [leaf for leaf in known if not isinstance(leaf, Tensor)]
    if constant and type(node.operation) not in TAKES_CONSTANTS:
        find_converter(node.operation, builder)
        raise builder.refuse(f"is called with {constant[0]!r} besides tensors, which is not supported")
    return known


def _by_name(operation: Any, *arguments: Any, **keywords: Any) -> dict[str, Any]:
    """The arguments of a call by their names."""
    bound = inspect.signature(type(operation).call).bind(operation, *arguments, **keywords)
    return dict(list(bound.arguments.items())[1:])


def convert_call(operation: Any, builder: Builder, inputs: Any, expected: Sequence[Any]) -> list[Tensor]:
    """The outputs of a layer, or of a nested model; ``expected`` are Keras's."""
    if type(operation) in TAKES_NAMES and isinstance(inputs, list):
        inputs = _by_name(operation, *inputs)
    strange = [tensor.dtype for tensor in expected if tensor.dtype != builder.dtype.name]
    if strange:
        raise builder.refuse(
            f"computes in {strange[0]} but the model's input is {builder.dtype.name}; "
            "use float32, or float64, throughout"
        )
    if type(operation) in (keras.Sequential, Functional):
        check_dtype(operation, builder)
        graph = _graph(operation, None, nested=True)
        values = _convert_graph(graph, builder, inputs)
        output = [values[id(tensor)] for tensor in graph.outputs]
    else:
        if isinstance(operation, keras.layers.Layer):
            check_dtype(operation, builder)
        output = find_converter(operation, builder)(operation, builder, inputs)
    outputs = output if isinstance(output, list) else [output]
    if len(outputs) != len(expected):
        raise builder.refuse(f"has {len(expected)} outputs, of which its converter knows {len(outputs)}")
    for tensor, wanted in zip(outputs, expected, strict=True):
        if any(d not in (None, size) for d, size in zip(wanted.shape[1:], tensor.shape, strict=True)):
            raise builder.refuse(f"has outputs of shape {tensor.shape} here but {tuple(wanted.shape[1:])} in Keras")
    return outputs


def find_converter(operation: Any, builder: Builder) -> Convert:
    """The converter of a layer or operation.

    Raises:
        UnsupportedLayerError: there is none.
    """
    kind = type(operation)
    if kind not in CONVERTERS:
        raise builder.refuse(unsupported(kind, CONVERTERS))
    return CONVERTERS[kind]


def check_dtype(layer: Any, builder: Builder) -> None:
    """Refuses layers that compute, or keep their weights, in another type than the network."""
    policy = layer.dtype_policy
    if policy.quantization_mode is not None or getattr(layer, "quantization_mode", None) is not None:
        raise builder.refuse(f"is quantized ({policy.name}); bounds need the weights in float32 or float64")
    if type(layer) is Functional:
        return  # A functional model does not cast: its layers speak for themselves.
    if {policy.compute_dtype, policy.variable_dtype} != {builder.dtype.name}:
        raise builder.refuse(
            f"has the dtype policy {policy.name!r} but the model's input is {builder.dtype.name}; mixed precision and "
            "half precision are not supported: use float32, or float64, throughout"
        )
