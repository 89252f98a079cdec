"""The benchmarks' networks are those of the papers and of the reference, by their hidden nodes and weights."""

import importlib
from pathlib import Path

import keras
import numpy as np
import pytest

import benchmarks
import tfcert
from benchmarks.common import architectures
from benchmarks.peers.flops import crown_pass
from tfcert.sets.region import region_of


def test_weights_have_the_reference_networks_shapes(shared: Path) -> None:
    found = {path.stem.removesuffix("_s0"): path for path in (shared / "reference" / "models").glob("*.keras")}
    assert set(found) <= set(architectures.NAMES)
    for name, path in found.items():
        reference = [weight.shape for weight in tfcert.load_model(path).weights]
        assert [weight.shape for weight in architectures.build(name).weights] == reference, name


@pytest.mark.parametrize("name", ["mnist_lenet_nopool_relu", "mnist_lenet5_avg_tanh", "mnist_resnet_5_sigmoid"])
def test_families_without_a_reference_network_are_understood(name: str) -> None:
    model = architectures.build(name)
    assert tfcert.from_keras(model).neurons() == architectures.hidden_nodes(model) + 10


def test_every_module_of_the_benchmarks_imports() -> None:
    root = Path(benchmarks.__file__).parent
    own_environments = {"peers.worker", "peers.torch_kinds", "complete.marabou", "complete.neuralsat"}
    names = {".".join(path.relative_to(root).with_suffix("").parts) for path in root.glob("*/*.py")} - own_environments
    assert len(names) > 35
    for name in names:
        importlib.import_module(f"benchmarks.{name}")


def test_flops_of_a_pass_that_needs_no_bounds_inside_are_those_of_its_products(seed) -> None:
    layers = keras.layers
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(2)])
    point = region_of(tfcert.LpBall(np.ones((5, 4), np.float32), 0.0))
    counted = crown_pass(tfcert.from_keras(model), point, 1)
    assert counted.useful == counted.with_padding == 2 * 5 * (3 * 2 + 4 * 3)
