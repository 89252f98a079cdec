"""What takes the deployed program out of the model of rounding is seen, and nothing else is."""

import keras
import pytest
import tensorflow as tf

from tfcert.network.cache import network_of
from tfcert.propagation.deployed import DEPARTURES, MATH_MODES, not_modelled

L = keras.layers


def network(*layers, shape=(6, 6, 2), dtype="float32"):
    x = z = keras.Input(shape, dtype=dtype)
    for layer in layers:
        z = layer(z)
    return network_of(keras.Model(x, z))


@pytest.fixture(scope="module")
def networks():
    return {
        "3x3": network(L.Conv2D(2, 3), L.Flatten()),
        "3x3 by 2": network(L.Conv2D(2, 3, strides=2), L.Flatten()),
        "5x5": network(L.Conv2D(2, 5), L.Flatten()),
        "float64": network(L.Conv2D(2, 3, dtype="float64"), L.Flatten(dtype="float64"), dtype="float64"),
        "dense": network(L.Dense(3, "relu"), shape=(4,)),
        "moves": network(L.Flatten()),
    }


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """A machine without a GPU, an Arm processor or settings."""
    for name in ("TF_USE_DEEP_CONV2D", "XLA_FLAGS", *MATH_MODES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])


def marked(networks):
    return {name for name, net in networks.items() if not_modelled(net)}


def test_nothing_is_marked_down_as_a_cpu_runs_it_by_default(networks):
    assert not marked(networks)


def test_winograd_by_tensorflow_takes_its_setting_a_window_of_3_and_steps_of_1(networks, monkeypatch):
    monkeypatch.setenv("TF_USE_DEEP_CONV2D", "0")
    assert not marked(networks)
    monkeypatch.setenv("TF_USE_DEEP_CONV2D", "1")
    assert marked(networks) == {"3x3"} and "Winograd" in not_modelled(networks["3x3"])


def test_winograd_on_arm_cannot_be_ruled_out(networks, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert marked(networks) == {"3x3"}


@pytest.mark.parametrize("tf32", [False, True])
def test_a_gpu_chooses_its_convolutions_and_tf32_shortens_every_product(networks, monkeypatch, tf32):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["gpu"])
    monkeypatch.setattr(tf.config.experimental, "tensor_float_32_execution_enabled", lambda: tf32)
    assert marked(networks) == {"3x3", "3x3 by 2", "5x5", "float64"} | ({"dense"} if tf32 else set())
    assert ("TF32" in not_modelled(networks["dense"])) == tf32


@pytest.mark.parametrize("name", MATH_MODES)
def test_onednn_may_be_told_to_round_operands(networks, monkeypatch, name):
    monkeypatch.setenv(name, "strict")
    assert not marked(networks)
    monkeypatch.setenv(name, "BF16")
    assert marked(networks) == set(networks) - {"moves"}


def test_fast_math_and_rewritten_graphs_touch_everything(networks, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    assert marked(networks) == set(networks)
    monkeypatch.delenv("XLA_FLAGS")
    monkeypatch.setattr(tf.config.optimizer, "get_experimental_options", lambda: {"auto_mixed_precision_mkl": True})
    assert marked(networks) == set(networks)


def test_every_departure_says_what_is_computed_otherwise():
    assert all(each.name and each.when and each.what for each in DEPARTURES)
    assert len({each.name for each in DEPARTURES}) == len(DEPARTURES)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_fewer_bits_are_refused_when_a_network_is_made(policy):
    with pytest.raises(ValueError, match=r"computes in b?float16 but the model"):
        network(L.Dense(3, dtype=policy), shape=(4,))


def test_quantised_layers_are_refused_when_a_network_is_made():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    model.layers[0].quantize("int8")
    with pytest.raises(ValueError, match="quantized"):
        network_of(model)
