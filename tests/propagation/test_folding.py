"""Steps taken as one, and shortcuts of single steps, give the numbers of the steps written out."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from soundness import networks
from soundness.networks import Sketch

from tfcert.activations import image
from tfcert.network.graph import Elementwise, Network
from tfcert.network.linear import ConvMap
from tfcert.propagation import backward, coefficients, kernels, preactivation, stepping
from tfcert.propagation.backward import selected
from tfcert.propagation.bounds import output_bounds, pre_activation_bounds
from tfcert.propagation.coefficients import Coefficients, Patches
from tfcert.propagation.interval import both_sides
from tfcert.propagation.preactivation import Passes, by_name, relax_before
from tfcert.sets.balls import LpBall
from tfcert.sets.region import Region, region_of

NONE = ((0, 0), (0, 0))


def pooled(window: tuple[int, int] = (2, 2), padding=NONE, scale: tuple[int, ...] = (3,)) -> Sketch:
    """Convolution, batch-norm, activation, maximum; convolution, batch-norm; and a shortcut around the second."""
    s = Sketch(np.random.default_rng(4))
    x = s.conv(s.input((6, 6, 2)), 3, (3, 3), padding=((1, 1), (1, 1)))
    x = s.scale(x, s.weights(*scale), s.weights(3))
    x = s.max_pool(s.activate(x), window, window, padding)
    y = s.scale(s.conv(x, 3, (3, 3), padding=((1, 1), (1, 1))), s.weights(*scale), s.weights(3))
    s.dense(networks.flatten(s, s.activate(s.sum(x, y))), 4)
    return s


def small_region(s: Sketch, norm: str = "linf") -> Region:
    return region_of(LpBall(s.rng.uniform(0, 1, (3, *s.shapes[0])), [0.1, 0.02, 0.3], norm))


def margins(network: Network, region: Region, passes: Passes) -> np.ndarray:
    rows = tf.constant(np.concatenate([np.eye(4), -np.eye(4)])[None], network.dtype)
    return output_bounds(network, region, (rows, tf.zeros([1, 8], rows.dtype)), "crown", "crown", passes).numpy()


@pytest.fixture(params=["patches", "dense", "by cost"])
def layout(request, monkeypatch):
    if request.param != "by cost":
        monkeypatch.setattr(stepping, "patches_pay", lambda *_: request.param == "patches")


@pytest.mark.parametrize("scale", [(3,), (1, 1, 3), (1,)])
def test_folded_steps_give_the_bounds_of_single_steps(monkeypatch, layout, scale):
    s = pooled(scale=scale)
    network, region = s.network(), small_region(s)
    folded = margins(network, region, Passes())
    with monkeypatch.context() as patch:
        patch.setattr(backward, "only_reader", lambda _: {})
        single = margins(network, region, Passes())
    np.testing.assert_allclose(folded, single, rtol=1e-10, atol=1e-10)


def test_a_scaling_by_pixel_is_not_taken_for_one_by_channel(monkeypatch):
    s = Sketch(np.random.default_rng(5))
    x = s.conv(s.input((3, 4, 2)), 3, (2, 2))
    s.dense(networks.flatten(s, s.activate(s.sum(s.scale(x, s.weights(2, 3, 1), s.weights(3))))), 4)
    network, region = s.network(), small_region(s)
    folded = margins(network, region, Passes())
    monkeypatch.setattr(backward, "only_reader", lambda _: {})
    np.testing.assert_allclose(folded, margins(network, region, Passes()), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("window, padding", [((2, 2), NONE), ((2, 3), ((0, 0), (1, 2))), ((4, 1), ((1, 1), (0, 0)))])
def test_windows_apart_are_passed_as_windows_that_overlap(monkeypatch, layout, window, padding):
    s = pooled(window, padding)
    network, region = s.network(), small_region(s, "l2")
    apart = margins(network, region, Passes(select=True))
    monkeypatch.setattr(stepping, "_apart", stepping._overlapping)
    np.testing.assert_allclose(apart, margins(network, region, Passes(select=True)), rtol=1e-10, atol=1e-10)


def test_selected_rows_go_through_windows_apart_as_all_rows_do(layout):
    s = pooled()
    network, region = s.network(), small_region(s)
    bounds = pre_activation_bounds(network, region, "crown-ibp")
    target = network.bounded()[-1]
    relaxed = relax_before(network, target, by_name(network, "crown"), bounds)
    full = [end.numpy().reshape(3, -1) for end in both_sides(network, target, relaxed, region)]
    sample, neuron = s.rng.integers(3, size=9), s.rng.integers(full[0].shape[1], size=9)
    rows = selected(network.nodes[target].shape, network.dtype, tf.constant(sample), tf.constant(neuron))
    found = backward.linear_lower_bounds(network, target, rows, relaxed, region).numpy().reshape(9, 2)
    expected = np.stack([full[0][sample, neuron], -full[1][sample, neuron]], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_bounds_of_selected_neurons_before_a_maximum_are_those_of_all(monkeypatch):
    s = pooled()
    network, region = s.network(), small_region(s, "l2")
    all_of_them = margins(network, region, Passes())
    monkeypatch.setattr(preactivation, "_FEW", 1.0)
    np.testing.assert_allclose(margins(network, region, Passes(select=True)), all_of_them, rtol=1e-10, atol=1e-10)


def test_a_pass_to_an_activation_finds_no_more_than_the_image_of_what_enters_it():
    s = pooled()
    network, region = s.network(), small_region(s)
    bounds = pre_activation_bounds(network, region, "crown", "crown")
    (target,) = (i for i in network.bounded() if isinstance(network.nodes[i], Elementwise))
    relaxed = relax_before(network, target, by_name(network, "crown"), bounds)
    lower, upper = both_sides(network, target, relaxed, region)
    inside = image(network.nodes[target].activation, *bounds[network.nodes[target].inputs[0]])
    assert (inside[0] >= lower - 1e-12).numpy().all() and (inside[1] <= upper + 1e-12).numpy().all()
    np.testing.assert_array_equal(bounds[target][0], inside[0])
    np.testing.assert_array_equal(bounds[target][1], inside[1])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 2), (5, 1)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (3, 2)])
def test_the_bands_of_a_toeplitz_matrix_carry_patches_as_the_whole_matrix_does(monkeypatch, size, strides):
    rng = np.random.default_rng(6)
    kernel = tf.constant(rng.normal(size=(*size, 2, 3)))
    for window, dilation in itertools.product([(1, 2), (4, 3)], [(1, 1), (1, 2)]):
        conv = ConvMap(lambda: kernel, kernel.shape, (40, 40, 2), strides=strides, dilation=dilation)
        values = tf.constant(rng.normal(size=(2, 1, 3, window[0] * window[1] * 3)))
        rows = Coefficients(values, conv.out_shape, Patches((1, 1), window))
        monkeypatch.setattr(coefficients, "_BANDED", np.inf)
        whole = coefficients.carried(rows, conv).values
        monkeypatch.setattr(coefficients, "_BANDED", 0.0)
        for fused in (False, True):  # a transposed convolution; a product and a compiled kernel
            monkeypatch.setattr(kernels, "worth_fusing", lambda *_, fused=fused: fused)
            np.testing.assert_allclose(coefficients.carried(rows, conv).values, whole, rtol=0, atol=1e-12)


def test_coefficients_on_padding_do_not_reach_through_two_convolutions_before_an_activation(monkeypatch):
    s = Sketch(np.random.default_rng(7))
    x = s.conv(s.input((4, 4, 2)), 2, (3, 3), padding=((1, 1), (1, 1)))
    x = s.activate(s.conv(x, 2, (3, 2), padding=((1, 1), (1, 0))))
    s.dense(networks.flatten(s, s.activate(s.conv(x, 2, (2, 2)))), 4)
    network, region = s.network(), small_region(s)
    found = []
    for patched in (True, False):
        monkeypatch.setattr(stepping, "patches_pay", lambda *_, patched=patched: patched)
        found.append(margins(network, region, Passes()))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-10, atol=1e-10)


def test_a_pass_to_the_first_pooling_spares_passes_to_the_input_and_costs_no_margin(monkeypatch):
    s = Sketch(np.random.default_rng(9))
    x = s.max_pool(s.activate(s.conv(s.input((8, 8, 2)), 3, (3, 3))), (2, 2), (2, 2), NONE)
    x = s.activate(s.conv(x, 4, (2, 2)))
    s.dense(s.activate(s.dense(networks.flatten(s, x), 12)), 4)
    network, region = s.network(), small_region(s)
    monkeypatch.setattr(preactivation, "_FEW", 1.0)
    chosen, plain = [], preactivation._some_only
    monkeypatch.setattr(
        preactivation, "_some_only", lambda *a: chosen.append(int(tf.math.count_nonzero(a[5]))) or plain(*a)
    )
    found = [margins(network, region, Passes(select=True))]
    monkeypatch.setattr(preactivation, "_to_the_first_pooling", lambda *a: a[4])
    found.append(margins(network, region, Passes(select=True)))
    assert (found[0] >= found[1] - 1e-10).all()
    half = len(chosen) // 2
    assert sum(chosen[:half]) < sum(chosen[half:])
