"""Recurrent layers and wrappers of steps: the network is what Keras computes, with every option that changes it."""

import keras
import numpy as np
import pytest
from keras import layers as L

from tfcert.network import Linear, UnsupportedLayerError, from_keras


def sequential(*made, shape=(3, 2)):
    return keras.Sequential([keras.Input(shape), *made])


def functional(shape, function, **options):
    inputs = keras.Input(shape, **options)
    return keras.Model(inputs, function(inputs))


OPTIONS = [
    {"return_sequences": True},
    {"go_backwards": True, "return_sequences": True, "unroll": True},
    {"use_bias": False, "dropout": 0.3, "recurrent_dropout": 0.2},
    {"activation": None},
]
CELLS = [
    (L.LSTM, {"recurrent_activation": "hard_sigmoid", "implementation": 1}),
    (L.LSTM, {"recurrent_activation": None, "unit_forget_bias": False}),
    (L.GRU, {"reset_after": False}),
    (L.GRU, {"reset_after": False, "use_bias": False}),
    (L.GRU, {"implementation": 1, "activation": "relu"}),
    (L.GRU, {"implementation": 1, "reset_after": False, "recurrent_activation": "hard_sigmoid"}),
]
CASES = [*CELLS, *((kind, options) for kind in (L.SimpleRNN, L.LSTM, L.GRU) for options in OPTIONS)]


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_every_option_means_what_it_means_in_keras(check, kind, options):
    check(sequential(kind(2, **options)))


@pytest.mark.parametrize("kind", [L.SimpleRNN, L.LSTM, L.GRU])
def test_recurrent_layers_one_after_another_read_each_others_steps(check, kind):
    network = check(sequential(kind(3, return_sequences=True), L.Dropout(0.5), kind(2), L.Dense(2)))
    sliced = [n for n in network.nodes if isinstance(n, Linear) and n.map.moves and n.inputs == (0,)]
    assert len(sliced) == 3  # the steps of the input; those of the first layer are not taken out of a stack
    assert not any(isinstance(n, Linear) and n.map.in_shape == (3, 3) and n.inputs != (0,) for n in network.nodes)


def test_all_steps_share_the_weights_that_they_read():
    network = from_keras(sequential(L.SimpleRNN(5), shape=(30, 3)))
    assert len(network.weights) <= 3  # the first step's kernel, all others', and the bias


@pytest.mark.parametrize(
    "inner",
    [
        lambda: L.Dense(2, activation="relu"),
        lambda: L.Activation("tanh"),
        lambda: L.PReLU(),
        lambda: L.BatchNormalization(),
        lambda: L.Dropout(0.5),
        lambda: L.Reshape((4, 3)),
        lambda: L.Conv1D(2, 2, padding="same", activation="relu"),
        lambda: L.DepthwiseConv2D(2),
        lambda: L.AveragePooling1D(2),
        lambda: L.Flatten(),
        lambda: L.MaxPooling1D(2),
        lambda: L.SimpleRNN(2, return_sequences=True),
        lambda: sequential(L.Conv1D(2, 2), L.ReLU(), L.Flatten(), L.Dense(2), shape=(6, 2)),
        lambda: functional((6, 2), lambda x: L.Concatenate()([L.ReLU()(x), L.Add()([x, L.Dense(2)(x)])])),
        lambda: L.TimeDistributed(L.Dense(3)),
    ],
    ids=lambda make: type(make()).__name__,
)
def test_a_layer_at_every_step(check, inner):
    layer = inner()
    shape = (5, 6, 2, 3) if isinstance(layer, L.DepthwiseConv2D) else (5, 6, 2)
    network = check(sequential(L.TimeDistributed(layer), shape=shape))
    alone = from_keras(sequential(layer, shape=shape[1:]))
    together = not isinstance(layer, L.MaxPooling1D)  # a maximum over windows is written for each step
    assert (len(network.nodes) == len(alone.nodes)) == together


def test_the_steps_of_a_distributed_layer_are_those_of_the_recurrent_layer_after_it(check):
    check(
        sequential(L.TimeDistributed(L.Dense(2)), L.SimpleRNN(3, return_sequences=True), L.TimeDistributed(L.Dense(1)))
    )


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("merge", ["concat", "sum", "ave", "mul"])
@pytest.mark.parametrize("kind", [L.SimpleRNN, L.LSTM, L.GRU])
def test_both_directions(check, kind, merge, sequences):
    check(sequential(L.Bidirectional(kind(3, return_sequences=sequences), merge_mode=merge)))


def test_both_directions_of_layers_that_differ_stacked(check):
    back = L.GRU(2, return_sequences=True, go_backwards=True, activation="relu")
    both = L.Bidirectional(L.LSTM(2, return_sequences=True), backward_layer=back)
    check(sequential(both, L.Bidirectional(L.SimpleRNN(2)), L.Dense(2)))


def test_stacked_cells(check):
    cells = [L.LSTMCell(3), L.GRUCell(2, reset_after=False), L.SimpleRNNCell(4)]
    check(sequential(L.RNN(cells, return_sequences=True), L.RNN(L.StackedRNNCells([L.GRUCell(2)]))))


def test_a_state_given_as_a_constant(check, rng):
    given = rng.normal(size=(1, 3)).astype("float32")
    for kind in (L.SimpleRNN, L.GRU):
        check(functional((4, 2), lambda x, k=kind: k(3, unroll=True)(x, initial_state=given)))
    check(functional((4, 2), lambda x: L.LSTM(3, unroll=True)(x, initial_state=[given, 2 * given])))


def test_a_state_that_a_layer_makes_of_no_input(check):
    def learned(x):
        state = L.Dense(3)(keras.ops.ones_like(x)[:, 0])
        return L.GRU(3)(x, initial_state=L.SimpleRNN(3)(keras.ops.zeros_like(x), initial_state=state))

    check(functional((3, 2), learned))


def test_a_state_that_depends_on_the_input(check):
    def two(x):
        first = L.Dense(3)(L.Flatten()(x))
        return L.GRU(3)(x, initial_state=L.SimpleRNN(3)(x, initial_state=first))

    check(functional((4, 2), two))
    check(functional((4, 2), lambda x: L.LSTM(3)(x, initial_state=[L.Dense(3)(L.Flatten()(x))] * 2)))


@pytest.mark.parametrize("kind", [L.SimpleRNN, L.LSTM, L.GRU])
def test_float64(check, kind):
    both = L.Bidirectional(kind(3, dtype="float64"), dtype="float64")
    check(functional((3, 2), both, dtype="float64"))


def test_open_lengths_are_those_of_the_inputs_that_are_given(check, rng):
    check(sequential(L.SimpleRNN(3), shape=(None, 2)), rng.normal(size=(2, 5, 2)).astype("float32"))


def refused(model, match):
    with pytest.raises(UnsupportedLayerError, match=match):
        from_keras(model)


def test_what_is_refused():
    stateful = keras.Sequential([keras.Input((4, 2), batch_size=1), L.SimpleRNN(3, stateful=True)])
    refused(stateful, "is stateful.*stateful=False")
    refused(sequential(L.Masking(), L.SimpleRNN(3)), "Masking.*depends on the numbers of the input.*constant mask")

    class Cell(L.SimpleRNNCell):
        pass

    refused(sequential(L.RNN(Cell(2))), "a cell of the class Cell.*SimpleRNNCell, LSTMCell")
    refused(sequential(L.SimpleRNN(3, activation=lambda x: keras.ops.relu(x))), "not one of Keras's own functions")
    refused(sequential(L.RNN(L.SimpleRNNCell(2, dtype="float64"))), "dtype policy 'float64'|cell")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_sequences": True},
        {"go_backwards": True, "return_sequences": True},
        {"zero_output_for_mask": True, "return_sequences": True},
    ],
    ids=str,
)
def test_a_constant_mask_skips_steps(check, options):
    shown = np.array([[False, True, True, False, True]])
    for given in (shown, shown[:, ::-1].copy()):
        check(functional((5, 2), lambda x, given=given: L.SimpleRNN(3, **options)(x, mask=given)))
    check(functional((5, 2), lambda x: L.Bidirectional(L.SimpleRNN(3, return_sequences=True))(x, mask=shown)))


def test_states_are_outputs(check):
    def states(x):
        sequence, *first = L.RNN([L.SimpleRNNCell(2), L.SimpleRNNCell(3)], return_sequences=True, return_state=True)(x)
        both, *more = L.Bidirectional(L.SimpleRNN(2, return_state=True))(sequence)
        *pair, last, other = L.Bidirectional(L.SimpleRNN(2, return_state=True), merge_mode=None)(x, initial_state=more)
        return L.Concatenate()([*first, both, *more, *pair, last, other])

    check(functional((4, 2), states))
