"""Loss landscapes: directions are as long as the filters, and the surface is the model's loss around its weights."""

import keras
import numpy as np
import pytest

from benchmarks.cells import directions as landscape
from benchmarks.cells import landscape as loss_landscape


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(4, 3, bias_initializer="normal"),
            keras.layers.BatchNormalization(gamma_initializer="normal"),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(3, bias_initializer="normal"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=False)
    return model


@pytest.fixture
def some(rng) -> tuple[np.ndarray, np.ndarray]:
    return rng.random((7, 6, 6, 2), np.float32), rng.integers(0, 3, 7)


def by_hand(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    logits = model(x).numpy().astype(np.float64)
    return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]))


def test_each_filter_moves_by_its_own_length_and_nothing_else_moves(model, rng):
    moves = landscape.direction(model, rng)
    moved = 0
    for weight, move in zip(model.trainable_variables, moves, strict=True):
        value = weight.numpy()
        assert move.shape == value.shape
        if weight.name != "kernel":
            assert not move.any()
            continue
        for channel in range(value.shape[-1]):
            length = np.linalg.norm(value[..., channel].ravel())
            assert np.linalg.norm(move[..., channel].ravel()) == pytest.approx(length, rel=1e-5)
            moved += 1
    assert moved == 4 + 3
    assert not np.allclose(moves[0], landscape.direction(model, rng)[0])


def test_the_middle_of_the_grid_is_the_models_loss_and_the_model_stays_as_it_is(model, some, rng):
    before = [weight.numpy() for weight in model.weights]
    directions = [landscape.direction(model, rng) for _ in range(2)]
    surface = landscape.losses(model, *some, directions, landscape.grid(3, 1.0)).reshape(3, 3)
    assert surface[1, 1] == pytest.approx(by_hand(model, *some), rel=1e-5)
    assert surface[1, 1] == pytest.approx(model.evaluate(*some, verbose=0), rel=1e-5)
    assert len(np.unique(surface)) == 9
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_a_corner_of_the_grid_is_the_loss_of_a_model_with_both_directions_added(model, some, rng):
    directions = [landscape.direction(model, rng) for _ in range(2)]
    surface = landscape.losses(model, *some, directions, landscape.grid(3, 0.5)).reshape(3, 3)
    moved = keras.models.clone_model(model)
    moved.set_weights(model.get_weights())
    for weight, first, second in zip(moved.trainable_variables, *directions, strict=True):
        weight.assign(weight.numpy() - 0.5 * first + 0.5 * second)
    assert surface[0, 2] == pytest.approx(by_hand(moved, *some), rel=1e-5)


def test_many_samples_go_through_in_batches_and_their_mean_is_that_of_all(model, some, rng, monkeypatch):
    directions = [landscape.direction(model, rng)]
    whole = landscape.losses(model, *some, directions, np.array([[0.3]]))
    monkeypatch.setattr(landscape, "_BATCH", 3)
    np.testing.assert_allclose(landscape.losses(model, *some, directions, np.array([[0.3]])), whole, rtol=1e-5)


def test_a_kernel_whose_filters_are_unknown_is_refused(rng):
    model = keras.Sequential([keras.Input((6, 6, 2)), keras.layers.DepthwiseConv2D(3)])
    with pytest.raises(ValueError, match="no known filters"):
        landscape.direction(model, rng)


def test_points_along_directions_lie_on_both_sides():
    points = landscape.along([0.5, 2.0], 3)
    assert points.shape == (2, 3, 2, 3)
    np.testing.assert_array_equal(points[1, 2], [[0, 0, 2], [0, 0, -2]])


@pytest.mark.parametrize(
    ("function", "share"),
    [
        (lambda a, b: a**2 + b**2, 0),
        (lambda a, b: a * b, 1),
        (lambda a, b: a**3 + b**2, 3 / 7),
        (lambda a, b: -a * a, 1),
    ],
)
def test_the_share_that_curves_down_is_that_of_negative_second_derivatives(function, share):
    line = np.arange(-4.0, 5.0)
    assert landscape.curved_down(function(*np.meshgrid(line, line, indexing="ij"))) == pytest.approx(share)


def test_equal_ends_are_pixels_twice_and_cells_contain_the_pixel(rng):
    x = rng.uniform(-1, 1, (2, 3, 3, 1)).astype(np.float32)
    np.testing.assert_array_equal(loss_landscape.inputs(x, 0.0), np.concatenate([x, x], axis=-1))
    lower, upper = np.split(loss_landscape.inputs(x, 0.025), 2, axis=-1)
    assert (lower <= x).all() and (x <= upper).all()
    np.testing.assert_allclose(upper - lower, 0.025, rtol=1e-5)
