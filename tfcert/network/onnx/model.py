"""ONNX models in memory: what their files say as plain data, and their answers by onnxruntime.

The packages ``onnx`` and ``onnxruntime`` are needed where a file is read, and not before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.network.errors import ModelLoadError, UnsupportedLayerError
from tfcert.parts import NamedParts

_DOMAINS = ("", "ai.onnx")
OLDEST, NEWEST = 7, 28
"""The versions of ONNX's operators that are read: what they mean in others is not known."""
TYPES = {1: np.float32, 11: np.float64}
"""The numbers that inputs may be, by ONNX's codes."""


class Attributes:
    """The attributes of a node by name; it keeps count of those that were read, so that none is overlooked."""

    def __init__(self, values: dict[str, Any]):
        self._values, self._read = values, set[str]()

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or ``default`` where the node does not have it."""
        self._read.add(name)
        return self._values.get(name, default)

    @property
    def unread(self) -> list[str]:
        """Attributes that nothing has asked for."""
        return sorted(set(self._values) - self._read)


@dataclass(frozen=True)
class Operation:
    """A node of a file.

    Attributes:
        name: of the node, or made of its kind and number.
        kind: the operator.
        inputs, outputs: the names of values; "" for one that is left out.
        attributes: numbers, texts, lists of these and arrays.
        proto: the node as onnx holds it.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    proto: Any = field(repr=False)


@dataclass(frozen=True)
class OnnxInput:
    """An input of a model.

    Attributes:
        name: as the file has it.
        shape: of a batch of one sample, as the file has it.
        batched: whether the first of these axes is the batch.
        open: whether the batch may have any size.
    """

    name: str
    shape: tuple[int, ...]
    batched: bool
    open: bool

    @property
    def of_sample(self) -> tuple[int, ...]:
        """The shape of a sample, without the batch."""
        return self.shape[1:] if self.batched else self.shape


class OnnxModel:
    """An ONNX model.

    A sample is a batch of one: the first axis of an input is the batch where it is open or 1 and others follow. Several
    inputs make up one vector, side by side, as ``parts`` says.

    Attributes:
        name: of the file.
        opset: the version of ONNX's operators that the model was written with.
        given: its inputs.
        outputs: the names of its outputs.
        as_one: whether several outputs are taken side by side as one vector.
        dtype: ``float32`` or ``float64``.
        constants: the numbers that the file holds, by name.
        operations: those that the outputs need, in the file's order, in which they can be computed.
    """

    def __init__(self, proto: Any, name: str = "model.onnx", *, as_one: bool = False):
        self.proto, self.name, self.as_one = proto, name, as_one
        graph = proto.graph
        self.opset = _opset(proto, name)
        numpy_helper = _package("onnx.numpy_helper", name)
        self.constants = {part.name: numpy_helper.to_array(part) for part in graph.initializer}
        if graph.sparse_initializer or proto.functions:
            raise UnsupportedLayerError(f"{name} has sparse weights or functions of its own, which are not read")
        given = [value for value in graph.input if value.name not in self.constants]
        if not given or not graph.output:
            raise UnsupportedLayerError(f"{name} has {len(given)} inputs and {len(graph.output)} outputs")
        self.outputs = tuple(value.name for value in graph.output)
        kinds = {value.type.tensor_type.elem_type for value in given}
        if len(kinds) > 1 or not kinds <= set(TYPES):
            raise UnsupportedLayerError(
                f"{name} takes no float32 or float64 numbers alone (ONNX types {sorted(kinds)})"
            )
        self.dtype = np.dtype(TYPES[kinds.pop()])
        self.given = tuple(OnnxInput(v.name, *_sample(v.type.tensor_type.shape.dim, name)) for v in given)
        self.operations = _needed(tuple(_operations(graph.node, name)), self.outputs)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the model's serialised form."""
        return hashlib.sha256(self.proto.SerializeToString(deterministic=True)).hexdigest()

    @cached_property
    def parts(self) -> NamedParts | None:
        """The inputs as parts of one vector; None where there is one."""
        if len(self.given) == 1:
            return None
        return NamedParts.of([(g.name, g.of_sample) for g in self.given], [self.dtype.name] * len(self.given))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of a sample, without the batch."""
        return self.given[0].of_sample if self.parts is None else (self.parts.size,)

    @cached_property
    def output_sizes(self) -> tuple[tuple[str, int], ...]:
        """The outputs by name, with how many numbers each has."""
        zeros = np.zeros((1, *self.input_shape), self.dtype)
        found = self._answers(self._session, list(self.outputs), zeros, together=False)
        return tuple((name, part.shape[1]) for name, part in zip(self.outputs, found, strict=True))

    def with_outputs(self, names: Sequence[str]) -> OnnxModel:
        """The same model with other values of its graph for outputs, side by side as one vector.

        Raises:
            ValueError: it computes no such value.
        """
        kinds = {value.name: value for value in self.proto.graph.output}
        made = [output for operation in _operations(self.proto.graph.node, self.name) for output in operation.outputs]
        unknown = [name for name in names if name not in made]
        if unknown:
            raise ValueError(f"{self.name} computes no value {unknown[0]!r}; its outputs are {list(self.outputs)}")
        onnx = _package("onnx", self.name)
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        del proto.graph.output[:]
        proto.graph.output.extend(kinds.get(name) or onnx.ValueInfoProto(name=name) for name in names)
        return OnnxModel(proto, self.name, as_one=True)

    def value_of(self, layer: str) -> str:
        """The name of the value that a node, or a value of that name, stands for.

        Raises:
            ValueError: there is none, or the node has several.
        """
        nodes = list(_operations(self.proto.graph.node, self.name))
        values = [output for node in nodes for output in node.outputs if output == layer]
        values = values or [output for node in nodes if node.name == layer for output in node.outputs if output]
        if len(values) != 1:
            known = ", ".join(repr(node.name) for node in nodes[:12])
            raise ValueError(f"{self.name} has {len(values)} values of a layer {layer!r}; its layers are {known}")
        return values[0]

    @cached_property
    def _session(self) -> Any:
        return session(self.proto.SerializeToString(), self.name)

    @cached_property
    def together(self) -> bool:
        """Tells whether several samples go into one call: the batch is open, and two samples get two answers."""
        runs = self._session
        if not all(given.open for given in self.given):
            return False
        one, two = ({g.name: np.zeros((count, *g.of_sample), self.dtype) for g in self.given} for count in (1, 2))
        try:
            of_two = runs.run(list(self.outputs), two)
        except Exception:  # onnxruntime's errors have no common class; one sample at a time is right for any model
            return False
        of_one = runs.run(list(self.outputs), one)
        return all(b.ndim and b.shape == (2, *a.shape[1:]) for a, b in zip(of_one, of_two, strict=True))

    def run(self, x: np.ndarray) -> np.ndarray:
        """The answers ``[batch, outputs]`` of onnxruntime to inputs ``[batch, *input_shape]``, flattened."""
        found = self._answers(self._session, list(self.outputs), x, self.together)
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

    def values(self, names: Sequence[str], x: np.ndarray) -> list[np.ndarray]:
        """Values within the model by name, ``[batch, numbers]`` each; nothing is fused, so that each is computed."""
        onnx = _package("onnx", self.name)
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        known = {value.name for value in proto.graph.output}
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in known)
        runs = session(proto.SerializeToString(), self.name, plain=True)
        return self._answers(runs, list(names), x, together=False)

    def _answers(self, runs: Any, names: list[str], x: np.ndarray, together: bool) -> list[np.ndarray]:
        x = np.ascontiguousarray(x, self.dtype).reshape(-1, *self.input_shape)
        if not names:  # which onnxruntime would take for all outputs
            return []
        if not len(x):
            return [np.zeros((0, 0), self.dtype) for _ in names]
        if together:
            return [part.reshape(len(x), -1) for part in runs.run(names, self._apart(x, len(x)))]
        each = [runs.run(names, self._apart(x[i : i + 1], None)) for i in range(len(x))]
        return [np.stack([part.reshape(-1) for part in parts]) for parts in zip(*each, strict=True)]

    def _apart(self, x: np.ndarray, count: int | None) -> dict[str, np.ndarray]:
        """What is fed for samples: arrays by name, of a batch of so many, or as the file has them for one sample."""
        shapes = {g.name: g.shape if count is None else (count, *g.of_sample) for g in self.given}
        arrays = {self.given[0].name: x} if self.parts is None else self.parts.split(x)
        return {name: np.ascontiguousarray(array).reshape(shapes[name]) for name, array in arrays.items()}


def _needed(operations: tuple[Operation, ...], outputs: Sequence[str]) -> tuple[Operation, ...]:
    """The operations that outputs depend on."""
    wanted, kept = set(outputs), []
    for operation in reversed(operations):
        if wanted & set(operation.outputs):
            kept.append(operation)
            wanted |= set(operation.inputs)
    return tuple(reversed(kept))


def read_onnx(path: Path) -> OnnxModel:
    """The model in a file.

    Raises:
        ModelLoadError: it cannot be read, or the packages ``onnx`` and ``onnxruntime`` are not installed.
    """
    onnx = _package("onnx", str(path))
    _package("onnxruntime", str(path))
    try:
        proto = onnx.load(str(path))
    except Exception as error:  # protobuf's and onnx's errors have no common class
        raise ModelLoadError(f"onnx cannot load {str(path)!r}: {str(error).partition(chr(10))[0]}") from error
    model = OnnxModel(proto, path.name)
    model.together  # noqa: B018  (onnxruntime refuses here what it cannot run)
    return model


def session(model: bytes, name: str, *, plain: bool = False) -> Any:
    """A session of onnxruntime on the processor; ``plain`` without its rewriting of graphs.

    Raises:
        ModelLoadError: onnxruntime refuses the model.
    """
    runtime = _package("onnxruntime", name)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if plain:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class
        raise ModelLoadError(f"onnxruntime cannot run {name}: {str(error).partition(chr(10))[0]}") from error


def _package(module: str, what: str) -> Any:
    """A module of a package that only ONNX needs."""
    try:
        if module == "onnx":
            import onnx

            return onnx
        if module == "onnx.numpy_helper":
            from onnx import numpy_helper

            return numpy_helper
        import onnxruntime

        return onnxruntime
    except ImportError as error:
        raise ModelLoadError(
            f"{what}: ONNX models need the packages onnx and onnxruntime: pip install tfcert[onnx]"
        ) from error


def _opset(proto: Any, name: str) -> int:
    versions = {part.version for part in proto.opset_import if part.domain in _DOMAINS}
    if not versions:
        raise UnsupportedLayerError(f"{name} says no version of ONNX's operators")
    if min(versions) < OLDEST or max(versions) > NEWEST:
        raise UnsupportedLayerError(
            f"{name} was written with operators of version {min(versions)}; {OLDEST} to {NEWEST} are read"
        )
    if len(versions) > 1:
        raise UnsupportedLayerError(f"{name} says several versions of ONNX's operators: {sorted(versions)}")
    return int(versions.pop())


def _sample(dimensions: Any, name: str) -> tuple[tuple[int, ...], bool, bool]:
    """The shape of a batch of one, whether its first axis is the batch, and whether the batch is open."""
    sizes = [int(d.dim_value) for d in dimensions]
    if not sizes:
        raise UnsupportedLayerError(f"{name} takes a single number or a tensor of unknown rank, which is not supported")
    if any(size <= 0 for size in sizes[1:]):
        raise UnsupportedLayerError(f"{name} leaves dimensions of its input open beyond the batch: {sizes}")
    open_ = sizes[0] <= 0
    if len(sizes) == 1 and open_:
        raise UnsupportedLayerError(f"{name} leaves the only dimension of its input open")
    batched = len(sizes) > 1 and (open_ or sizes[0] == 1)
    return (1, *sizes[1:]) if batched else tuple(sizes), batched, open_


def _operations(nodes: Any, name: str) -> Iterator[Operation]:
    onnx = _package("onnx", name)
    for number, node in enumerate(nodes):
        called = node.name or f"{node.op_type}_{number}"
        if node.domain not in _DOMAINS:
            raise UnsupportedLayerError(
                f"layer {called!r} ({node.op_type}) is an operator of {node.domain!r}, not of ONNX"
            )
        read = {part.name: onnx.helper.get_attribute_value(part) for part in node.attribute}
        attributes = {key: _plain(value, onnx) for key, value in read.items()}
        yield Operation(called, node.op_type, tuple(node.input), tuple(node.output), attributes, node)


def _plain(value: Any, onnx: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return list(value) if isinstance(value, list | tuple) else value
