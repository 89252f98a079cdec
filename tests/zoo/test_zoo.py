"""The zoo's networks have the printed sizes, are what tfcert can bound, and are trained by their recipes."""

import keras
import numpy as np
import pytest

import tfcert
from tfcert import zoo
from tfcert.objectives import ConstrainedIBP
from tfcert.zoo import cnn_cert, constrained_ibp

PRINTED = {
    "mnist_cnn_4layer_5_3_relu": 8680,
    "mnist_cnn_4layer_20_3_relu": 34720,
    "mnist_cnn_5layer_5_3_relu": 10680,
    "cifar_cnn_7layer_5_3_relu": 19100,
    "cifar_cnn_5layer_10_3_relu": 29360,
    "cifar_cnn_5layer_5_3_sigmoid": 14680,
    "fnn1": 48,
    "fnn2": 60,
    "fnn3": 1024,
    "fnn4": 500,
    "fnn5": 48,
    "fnn6": 60,
}
"""Hidden nodes in CNN-Cert's table 3, DeepCert's table 1 and Agrify's table II."""
ROUNDED = {"small": 8.3e3, "medium": 47e3, "large": 230e3}
"""Hidden units that Gowal et al. print for CIFAR-10."""


def shapes_alone(name: str) -> keras.Model:
    """A network without numbers in its weights, of which AlexNet has 60 million."""
    with keras.StatelessScope(initialize_variables=False):
        return zoo.build(name)


@pytest.mark.parametrize("name", zoo.names())
def test_every_network_has_the_hidden_nodes_inputs_and_name_that_its_description_says(name):
    network, model = zoo.describe(name), shapes_alone(name)
    assert network.name == name and set(network.papers) <= set(zoo.PAPERS)
    assert zoo.hidden_nodes(model) == network.hidden_nodes
    assert model.input_shape == (None, *network.input_shape)
    assert str(network).startswith(f"{name}: inputs") and f"{network.hidden_nodes:,} hidden nodes" in str(network)
    assert network.recipe.data in str(network)


@pytest.mark.parametrize(("name", "nodes"), PRINTED.items())
def test_hidden_nodes_are_the_printed_ones(name, nodes):
    network = zoo.describe(name)
    assert network.hidden_nodes == nodes and network.printed == str(nodes)


@pytest.mark.parametrize("name", ["mnist_cnn_4layer_5_3_relu", "mnist_resnet_5_sigmoid", "mnist_lenet5_avg_tanh"])
def test_tfcert_counts_the_same_nodes_and_the_logits(name):
    assert tfcert.from_keras(zoo.build(name)).neurons() == zoo.describe(name).hidden_nodes + 10


def test_the_eight_layer_network_counts_its_logits_as_the_paper_does():
    found = tfcert.from_keras(zoo.build("mnist_cnn_8layer_5_3_relu")).neurons()
    assert found == 14570 == zoo.describe("mnist_cnn_8layer_5_3_relu").hidden_nodes + 10


@pytest.mark.parametrize("size", ROUNDED)
def test_gowals_networks_have_the_printed_thousands(size):
    assert zoo.describe(f"cifar10_dm_{size}").hidden_nodes == pytest.approx(ROUNDED[size], rel=0.01)


def test_tiny_imagenets_network_has_two_hundred_classes_and_332_248_neurons():
    name = "tinyimagenet_cnn_7layer_relu"
    model = shapes_alone(name)
    assert model.input_shape == (None, 64, 64, 3) and model.output_shape == (None, 200)
    assert zoo.hidden_nodes(model) + 200 == 332_248


def test_every_network_of_cnn_cert_can_be_built_with_every_activation_and_saved(tmp_path):
    listed = {cnn_cert.split(name)[0] for name in cnn_cert.NAMES}
    for family in sorted(listed):
        for activation in cnn_cert.ACTIVATIONS:
            assert shapes_alone(f"{family}_{activation}").name == f"{family}_{activation}"
    assert zoo.describe("mnist_resnet_2_arctan").where.endswith("but not with arctan")
    model = zoo.build("mnist_2layer_fc_20_arctan")
    model.save(tmp_path / "m.keras")
    x = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    np.testing.assert_array_equal(tfcert.load_model(tmp_path / "m.keras")(x), model(x))


def test_names_by_paper_are_a_part_of_all_and_each_paper_has_some():
    by_paper = {paper: zoo.names(paper) for paper in zoo.PAPERS}
    assert all(by_paper.values())
    # All but two wider or smaller networks, which are in no table, are some paper's.
    loose = set(zoo.names()) - set().union(*by_paper.values())
    assert loose == {"mnist_cnn_7layer_small_relu", "mnist_4layer_fc_100_relu", "mnist_4layer_fc_100_sigmoid"}
    assert {"mnist_resnet_5_tanh", "mnist_cnn_8layer_5_3_relu"} <= set(by_paper["deepcert"]) - set(by_paper["cnn-cert"])
    assert {"alexnet", "vgg11", "inception_v1", "resnet18"} <= set(by_paper["abscert"])
    with pytest.raises(ValueError, match="unknown paper 'crown': one of cnn-cert"):
        zoo.names("crown")


def test_an_unknown_network_and_an_unknown_option_are_said_with_what_there_is():
    with pytest.raises(ValueError, match="did you mean mnist_resnet_3_relu"):
        zoo.build("mnist_resnet3_relu")
    with pytest.raises(ValueError, match=r"tfcert.zoo.names\(\) lists them"):
        zoo.describe("?")
    with pytest.raises(ValueError, match="fnn1: got an unexpected keyword argument 'classes'"):
        zoo.build("fnn1", classes=3)
    assert zoo.build("mnist_2layer_fc_20_relu", classes=3).output_shape == (None, 3)


@pytest.mark.parametrize("net", ["fc3_sigmoid", "dm_small_relu"])
def test_abscerts_networks_see_cells_and_not_pixels(net, rng):
    model = zoo.build(f"abscert_mnist_{net}", granularity=0.5)
    x = rng.uniform(-1, 1, (3, 28, 28, 1)).astype(np.float32)
    middles = (np.floor((x + 1) / 0.5) + 0.5) * np.float32(0.5) - 1
    np.testing.assert_array_equal(model(x), model(middles.astype(np.float32)))


def test_recipes_make_the_papers_schedules():
    recipe = zoo.describe("cifar10_dm_large").recipe
    optimizer, callbacks = recipe.training()
    assert [float(optimizer.learning_rate)] == pytest.approx([1e-3]) and callbacks == []
    rate = optimizer._learning_rate
    np.testing.assert_allclose([rate(199_999), rate(200_001), rate(300_001)], [1e-3, 1e-4, 1e-6], rtol=1e-5)
    objective = recipe.objective(constrained=True, clip=(0, 1))
    assert isinstance(objective, ConstrainedIBP)
    config = objective.get_config()
    eps = keras.saving.deserialize_keras_object(config["eps"]) if isinstance(config["eps"], dict) else config["eps"]
    np.testing.assert_allclose([eps(5_000), eps(80_000), eps(155_000)], [0, 4 / 255, 8 / 255], rtol=1e-6)
    with pytest.raises(ValueError, match="does not train this network with bounds"):
        zoo.describe("alexnet").recipe.objective()
    with pytest.raises(ValueError, match="prints no optimizer"):
        zoo.describe("fnn1").recipe.training()


def test_abscerts_cosine_needs_the_number_of_steps_and_a_peak():
    recipe = zoo.describe("abscert_mnist_fc3_tanh").recipe
    with pytest.raises(ValueError, match="choose one"):
        recipe.training(100)
    with pytest.raises(ValueError, match="pass their number"):
        recipe.training(rate=1e-3)
    rate = recipe.training(100, rate=1e-3)[0]._learning_rate
    np.testing.assert_allclose([rate(5), rate(10), rate(55), rate(100)], [5e-4, 1e-3, 5e-4, 0], atol=1e-9)


@pytest.mark.usefixtures("eager", "seed")
def test_a_network_trains_by_its_recipe(rng):
    """The pieces fit together: a model, its optimizer and its objective go into ``fit``."""
    recipe = zoo.describe("mnist_dm_small").recipe
    assert constrained_ibp.RECIPES["mnist"] is recipe
    model = tfcert.CertifiedModel(zoo.build("mnist_dm_small"), recipe.objective(clip=(0, 1)))
    optimizer, callbacks = recipe.training()
    model.compile(optimizer, metrics=["accuracy"], jit_compile=False)
    x, y = rng.random((4, 28, 28, 1), np.float32), np.arange(4)
    history = model.fit(x, y, batch_size=2, epochs=1, verbose=0, callbacks=callbacks).history
    assert np.isfinite(history["loss"]).all()
