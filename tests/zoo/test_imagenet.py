"""AbsCert's ImageNet networks have the published sizes, and tfcert bounds them over the cells that a ball reaches."""

import functools

import keras
import numpy as np
import pytest

import tfcert
from tfcert.zoo import imagenet

FIRST = {
    "alexnet": 11 * 11 * 3 * 96,
    "vgg11": 3 * 3 * 3 * 64,
    "inception_v1": 7 * 7 * 3 * 64,
    "resnet18": 7 * 7 * 3 * 64,
}
"""Weights of the first convolution on three channels."""
GRANULARITY = 4 / 255
PIXELS = 16


@functools.cache
def small(name: str) -> keras.Model:
    """A network of small images and five classes."""
    keras.utils.set_random_seed(0)
    return imagenet.imagenet_network(name, GRANULARITY, input_shape=(PIXELS, PIXELS, 3), classes=5)


@pytest.mark.parametrize("name", imagenet.NAMES)
def test_parameters_are_the_published_ones_and_a_second_first_kernel(name):
    with keras.StatelessScope(initialize_variables=False):  # shapes alone: there are 200 million numbers
        model = imagenet.imagenet_network(name, GRANULARITY)
    assert model.output_shape == (None, 1000)
    found = sum(np.prod(weight.shape) for weight in model.trainable_variables)
    assert found == imagenet.PARAMETERS[name] + FIRST[name]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", ["inception_v1", "resnet18"])
def test_bounds_contain_the_outputs_around_an_image_and_are_exact_within_its_cells(name, rng):
    model = small(name)
    network = tfcert.from_keras(model)
    # In the middles of cells.
    x = (-1 + (rng.integers(0, 127, (1, PIXELS, PIXELS, 3)) + 0.5) * GRANULARITY).astype(np.float32)
    around = x + rng.uniform(-1.5, 1.5, (8, *x.shape[1:])).astype(np.float32) * np.float32(GRANULARITY)
    outputs = model(around).numpy()
    assert outputs.shape == (8, 5)
    wide = tfcert.bounds(network, tfcert.LpBall(x, 1.5 * GRANULARITY), method="ibp")
    assert np.isfinite(wide.lower).all() and np.isfinite(wide.upper).all()
    assert (wide.lower <= outputs).all() and (outputs <= wide.upper).all()
    one = tfcert.bounds(network, tfcert.LpBall(x, 0.45 * GRANULARITY), method="ibp")
    scale = np.abs(outputs).max()
    np.testing.assert_allclose(one.lower, model(x), rtol=0, atol=1e-3 * scale)
    np.testing.assert_allclose(one.upper, model(x), rtol=0, atol=1e-3 * scale)


def test_an_image_of_fewer_pixels_than_a_network_takes_is_refused():
    with pytest.raises(ValueError, match="output size"):
        imagenet.imagenet_network("alexnet", GRANULARITY, input_shape=(63, 63, 3), classes=5)


def test_kernels_decay_as_published():
    model = small("resnet18")
    kernels = [w for w in model.trainable_variables if w.name == "kernel"]
    published = sum(0.5 * 1e-4 * np.sum(np.square(kernel.numpy(), dtype=np.float64)) for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(published, rel=1e-5)


def rates_of(optimizer, callbacks, epochs: int) -> list[float]:
    """The learning rate of each epoch, while the validation loss stays."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    (lowered,) = callbacks
    lowered.set_model(model)
    lowered.on_train_begin()
    found = []
    for epoch in range(epochs):
        lowered.on_epoch_begin(epoch)
        found.append(float(optimizer.learning_rate))
        lowered.on_epoch_end(epoch, {"val_loss": 1.0})
    return found


def test_inceptions_rate_falls_by_a_twenty_fifth_every_eight_epochs_from_one_that_must_be_chosen():
    published = imagenet.RECIPES["inception_v1"]
    with pytest.raises(ValueError, match="no learning rate"):
        published.training()
    rates = rates_of(*published.training(rate=0.5), epochs=17)
    np.testing.assert_allclose(rates, [0.5] * 8 + [0.48] * 8 + [0.4608], rtol=1e-6)


def test_the_others_rate_is_divided_by_ten_when_the_validation_loss_stays():
    optimizer, lowered = imagenet.RECIPES["resnet18"].training()
    assert (float(optimizer.learning_rate), optimizer.momentum) == (pytest.approx(0.1), 0.9)
    rates = rates_of(optimizer, lowered, epochs=8)
    np.testing.assert_allclose(rates, [0.1] * 6 + [0.01] * 2)
