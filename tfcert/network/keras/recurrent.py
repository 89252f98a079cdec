"""Converters of recurrent layers: every step is written out, and all steps read the same weights.

A state is a tensor of the network, a constant (a ``Source``), or None where it is zero, as most begin: nothing is
multiplied by zero then, so a first step is bounded as the dense layer that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.activations import apply_activation
from tfcert.network.keras.fixed import FixedValue
from tfcert.network.keras.graph import Arguments, check_dtype, convert_call, converter, find_converter
from tfcert.network.keras.layers import constant_for
from tfcert.network.keras.steps import backwards, each, stack, unstack
from tfcert.network.linear import DenseMap, Source

State = Tensor | Source | None
CellStep = Callable[[Tensor, list[Any]], tuple[Tensor, list[Any]]]
"""``(input, states) -> (output, states)``; the states of stacked cells are lists within the list."""

CELLS: dict[type, Callable[[Any, Builder], CellStep]] = {}
"""Cells by exact type; what is the same at all steps is made when a step is asked for, once."""


@converter(layers.RNN, layers.SimpleRNN, layers.LSTM, layers.GRU, named=True)
def recurrent(layer: Any, builder: Builder, given: Arguments) -> Tensor | list[Tensor]:
    if layer.stateful:
        raise builder.refuse(
            "is stateful, so what it computes depends on the batches before; make it with stateful=False, and give "
            "initial_state where a state matters"
        )
    sequence = given["sequences"]
    entries = unstack(builder, sequence.tensor(builder) if isinstance(sequence, FixedValue) else sequence)
    step = _step_of(layer.cell, builder)
    states = _initial(layer, builder, given.get("initial_state"))
    outputs: list[Tensor] = []
    shown = _shown(given.get("mask"), builder, len(entries))
    zero: Tensor | None = None
    for number in range(len(entries))[:: -1 if layer.go_backwards else 1]:
        with builder.scope(f"step{number}", builder.kind):
            if shown[number]:
                output, states = step(entries[number], states)
            elif layer.zero_output_for_mask or not outputs:
                zero = output = zero or builder.index(entries[0], np.full(layer.cell.output_size, -1), part="zero")
        outputs.append(output)
    result = stack(builder, outputs) if layer.return_sequences else outputs[-1]
    return [result, *keras.tree.flatten(states)] if layer.return_state else result


def _shown(mask: Any, builder: Builder, steps: int) -> list[bool]:
    """Tells which steps a mask lets through."""
    if mask is None:
        return [True] * steps
    if isinstance(mask, Tensor | keras.KerasTensor):
        raise builder.refuse(
            "is called with a mask that is computed from the input, so which steps it skips depends on that; a "
            "constant mask is supported: leave the Masking layer out and call the layer with mask=..., or cut the steps"
        )
    found = np.asarray(mask).reshape(-1, steps)
    if len(found) != 1:
        raise builder.refuse(f"is called with a mask of shape {np.shape(mask)}; one for all samples is supported")
    return [bool(one) for one in found[0]]


def _initial(layer: Any, builder: Builder, given: Any) -> list[Any]:
    """The states that a layer begins with, in the structure of its cells, of those that it is given."""
    sizes = keras.tree.flatten(layer.state_size)
    found = [None] * len(sizes) if given is None else keras.tree.flatten(given)
    if len(found) != len(sizes):
        raise builder.refuse(f"has {len(sizes)} states and is given {len(found)}")
    leaves = [_state(x, builder, size) for x, size in zip(found, sizes, strict=True)]
    states: list[Any] = keras.tree.pack_sequence_as(layer.state_size, leaves)
    return states


def _state(given: Any, builder: Builder, size: int) -> State:
    match given:
        case None | Tensor():
            return given
        case FixedValue():
            return lambda: given()[0]
    return constant_for(builder, given, (size,))


def _step_of(cell: Any, builder: Builder) -> CellStep:
    kind = type(cell)
    if kind not in CELLS:
        raise builder.refuse(
            f"has a cell of the class {kind.__name__}, whose step tfcert cannot read; SimpleRNNCell, LSTMCell, GRUCell "
            "and StackedRNNCells of these are supported: write other steps out in a functional model"
        )
    check_dtype(cell, builder)
    return CELLS[kind](cell, builder)


def of_cell(kind: type) -> Callable[[Callable[[Any, Builder], CellStep]], Callable[[Any, Builder], CellStep]]:
    """Puts the steps of a class of cells into the table."""

    def enter(make: Callable[[Any, Builder], CellStep]) -> Callable[[Any, Builder], CellStep]:
        CELLS[kind] = make
        return make

    return enter


class _Read(NamedTuple):
    """What a step reads: its input, the state before, and both side by side where the state is a tensor."""

    x: Tensor
    h: State
    joined: Tensor | None


def _read(builder: Builder, x: Tensor, h: State) -> _Read:
    return _Read(x, h, builder.concatenate([x, h], 0, part="read") if isinstance(h, Tensor) else None)


class _Gate:
    """``W x + U h + b``, where W, U and b are some blocks of a cell's weights, of ``units`` columns each."""

    def __init__(
        self, builder: Builder, cell: Any, blocks: Sequence[int], bias: Source | None, size: Source | None = None
    ):
        self.size = None if size is None else _blocks(size, cell.units, blocks)
        self.builder, self.units, self.width = builder, cell.units, cell.units * len(blocks)
        self.bias = None if bias is None else _blocks(bias, cell.units, blocks)
        kernel = _blocks(builder.constant(cell.kernel), cell.units, blocks)
        recurrent = _blocks(builder.constant(cell.recurrent_kernel), cell.units, blocks)
        self.kernel, self.recurrent = kernel, recurrent
        self.both: Source = lambda: tf.concat([kernel(), recurrent()], axis=0)

    def __call__(self, read: _Read, part: str) -> Tensor:
        if read.joined is not None:
            kernel = DenseMap(self.both, read.joined.shape, self.width)
            return self.builder.linear(read.joined, kernel, self.bias, size=self.size, part=part)
        bias = self.of_constant(read.h, self.bias) if callable(read.h) else self.bias
        return self.of_input(read.x, bias, part)

    def of_input(self, x: Tensor, bias: Source | None, part: str) -> Tensor:
        """``W x + b`` with another bias."""
        return self.builder.linear(x, DenseMap(self.kernel, x.shape, self.width), bias, size=self.size, part=part)

    def of_state(self, h: State, bias: Source | None, part: str) -> State:
        """``U h + b`` with another bias."""
        if isinstance(h, Tensor):
            return self.builder.linear(h, DenseMap(self.recurrent, h.shape, self.width), bias, part=part)
        return bias if h is None else self.of_constant(h, bias)

    def of_constant(self, h: Source, bias: Source | None) -> Source:
        self.builder.has_precomputed("an initial state was multiplied with its weights beforehand")

        def read() -> tf.Tensor:
            value = tf.linalg.matvec(self.recurrent(), tf.broadcast_to(h(), [self.units]), transpose_a=True)
            return value if bias is None else value + bias()

        return read


def _blocks(weight: Source, units: int, blocks: Sequence[int]) -> Source:
    """Reads blocks of so many columns of a matrix, or of so many entries of a vector."""

    def read() -> tf.Tensor:
        value = weight()
        return tf.concat([value[..., i * units : (i + 1) * units] for i in blocks], axis=-1)

    return read


def _times(builder: Builder, gate: Tensor, state: State, part: str) -> Tensor | None:
    """A gate times a state."""
    if isinstance(state, Tensor):
        return builder.product(gate, state, part=part)
    return None if state is None else builder.scale(gate, state, part=part)


def _plus(builder: Builder, x: Tensor, term: Tensor | None, part: str) -> Tensor:
    return x if term is None else builder.add([x, term], part=part)


def _split(builder: Builder, gates: Tensor, units: int) -> list[Tensor]:
    return [builder.index(gates, np.arange(i, i + units), part="gate") for i in range(0, gates.shape[0], units)]


def _bias(cell: Any, builder: Builder) -> Source | None:
    return None if cell.bias is None else builder.constant(cell.bias)


@of_cell(layers.SimpleRNNCell)
def simple_step(cell: Any, builder: Builder) -> CellStep:
    gate = _Gate(builder, cell, (0,), _bias(cell, builder))

    def step(x: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
        h = apply_activation(cell.activation, builder, gate(_read(builder, x, states[0]), "sum"))
        return h, [h]

    return step


@of_cell(layers.LSTMCell)
def lstm_step(cell: Any, builder: Builder) -> CellStep:
    bias = _bias(cell, builder)
    gates, candidate = _Gate(builder, cell, (0, 1, 3), bias), _Gate(builder, cell, (2,), bias)

    def step(x: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
        h, carry = states
        read = _read(builder, x, h)
        enter, keep, leave = _split(
            builder, apply_activation(cell.recurrent_activation, builder, gates(read, "gates")), cell.units
        )
        new = apply_activation(cell.activation, builder, candidate(read, "candidate"))
        carry = _plus(
            builder, builder.product(enter, new, part="entered"), _times(builder, keep, carry, "kept"), "carry"
        )
        h = builder.product(leave, apply_activation(cell.activation, builder, carry), part="output")
        return h, [h, carry]

    return step


@of_cell(layers.GRUCell)
def gru_step(cell: Any, builder: Builder) -> CellStep:
    of_gates, of_candidate, of_state = _gru_biases(cell, builder)
    gates, candidate = (
        _Gate(builder, cell, (0, 1), of_gates, _gru_size(cell, builder)),
        _Gate(builder, cell, (2,), of_candidate),
    )
    minus, one = builder.constant(-1.0), builder.constant(1.0)

    def step(x: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
        (h,) = states
        update, reset = _split(
            builder,
            apply_activation(cell.recurrent_activation, builder, gates(_read(builder, x, h), "gates")),
            cell.units,
        )
        if cell.reset_after:
            inner = _times(builder, reset, candidate.of_state(h, of_state, "inner"), "reset")
            total = _plus(builder, candidate.of_input(x, candidate.bias, "candidate"), inner, "sum")
        else:
            total = candidate(_read(builder, x, _times(builder, reset, h, "reset")), "candidate")
        new = apply_activation(cell.activation, builder, total)
        renewed = builder.product(builder.scale(update, minus, one, part="renewal"), new, part="renewed")
        h = _plus(builder, renewed, _times(builder, update, h, "kept"), "output")
        return h, [h]

    return step


def _gru_biases(cell: Any, builder: Builder) -> tuple[Source | None, Source | None, Source | None]:
    """What is added before the gates, to what the candidate reads of the input, and of the state."""
    bias = _bias(cell, builder)
    if bias is None or not cell.reset_after:
        return bias, bias, None

    def row(number: int) -> Source:
        return lambda: bias()[number]

    return lambda: tf.reduce_sum(bias(), axis=0), row(0), _blocks(row(1), cell.units, (2,))


def _gru_size(cell: Any, builder: Builder) -> Source | None:
    """The size of what is added before the gates, where that is a sum of two."""
    bias = _bias(cell, builder)
    return None if bias is None or not cell.reset_after else lambda: tf.reduce_sum(tf.abs(bias()), axis=0)


@of_cell(layers.StackedRNNCells)
def stacked_step(cell: Any, builder: Builder) -> CellStep:
    steps = [_step_of(inner, builder) for inner in cell.cells]

    def step(x: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
        found = []
        for number, (inner, state) in enumerate(zip(steps, states, strict=True)):
            with builder.scope(f"cell{number}", builder.kind):
                x, state = inner(x, state if isinstance(state, list) else [state])
            found.append(state)
        return x, found

    return step


@converter(layers.Bidirectional, named=True)
def bidirectional(layer: Any, builder: Builder, given: Arguments) -> Tensor | list[Tensor]:
    states = given.get("initial_state")
    half, results = 0 if states is None else len(states) // 2, []
    for inner, part in ((layer.forward_layer, slice(half)), (layer.backward_layer, slice(half, None))):
        check_dtype(inner, builder)
        convert = find_converter(inner, builder)
        if convert is not recurrent:
            raise builder.refuse(f"runs a {type(inner).__name__} both ways; RNN, SimpleRNN, LSTM and GRU are supported")
        with builder.scope(inner.name, type(inner).__name__):
            found = convert(inner, builder, {**given, "initial_state": None if states is None else states[part]})
        results.append(found if isinstance(found, list) else [found])
    (ahead, *first), (back, *second) = results
    if layer.return_sequences:
        back = backwards(builder, back)
    merged = _merged(layer.merge_mode, builder, ahead, back)
    return [*merged, *first, *second] if len(merged) > 1 or first else merged[0]


def _merged(mode: str | None, builder: Builder, ahead: Tensor, back: Tensor) -> list[Tensor]:
    match mode:
        case None:
            return [ahead, back]
        case "concat":
            return [builder.concatenate([ahead, back], len(ahead.shape) - 1)]
        case "mul":
            return [builder.product(ahead, back)]
        case "sum":
            return [builder.add([ahead, back])]
        case "ave":
            total = builder.add([ahead, back], part="sum")
            return [builder.scale(total, builder.constant(0.5))]
    raise builder.refuse(f"has merge_mode={mode!r}, which tfcert does not know")


@converter(layers.TimeDistributed)
def time_distributed(layer: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    inner, (x,) = layer.layer, inputs
    shape = layer.compute_output_shape((None, *x.shape))
    expected = keras.KerasTensor((None, *shape[2:]), inner.compute_dtype)

    def convert(some: Builder, entry: Tensor) -> Tensor:
        with some.scope(inner.name, type(inner).__name__):
            (output,) = convert_call(inner, some, [entry], [expected])
        return output

    return each(builder, x, convert)
