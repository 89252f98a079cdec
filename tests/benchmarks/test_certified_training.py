"""Benchmarks of certified training: the papers' networks, schedules in proportion, and runs that repeat exactly."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.training import certified
from benchmarks.training import mnist as train_mnist
from benchmarks.training import run as train_constrained

HIDDEN = {"small": 8.3e3, "medium": 47e3, "large": 230e3}
"""Hidden units that Gowal et al. print for CIFAR-10."""


@pytest.mark.parametrize("size", HIDDEN)
def test_networks_have_the_printed_hidden_units(size):
    layers = [layer for layer in certified.network(size, (32, 32, 3)).layers if layer.weights]
    assert sum(math.prod(layer.output.shape[1:]) for layer in layers[:-1]) == pytest.approx(HIDDEN[size], rel=0.01)


@pytest.fixture
def few(rng) -> certified.Data:
    x, y = rng.random((24, 28, 28, 1), np.float32), rng.integers(0, 10, 24)
    return certified.Data(x, y, x[:8], y[:8])


@pytest.mark.sweep
def test_a_run_repeats_to_the_last_bit_and_another_seed_differs(few):
    run = replace(train_mnist.planned(0.1, 2, 0), batch=8)
    first, result = certified.fitted(run, few, validation=8, verbose=0)
    again, other = (certified.fitted(replace(run, seed=s), few, verbose=0)[0] for s in (0, 1))
    for a, b, c in zip(first.model.get_weights(), again.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.ndim == 1 or (a != c).any()
    assert result["history"]["eps"][-1] == pytest.approx(0.1, rel=1e-3)
    assert len(result["history"]["val_verified_accuracy"]) == 2
    judged = certified.judged(first.model, few, 0.1)
    assert 0 <= judged["verified"] <= judged["accuracy"] <= 1


def test_the_full_schedules_are_the_papers_in_steps():
    run = train_constrained.EXPERIMENTS["cifar-small"].run("sum", 0, None, 50_000)
    assert (run.epochs, run.ramp, run.warm_up) == (350, 150, 5)
    assert [round(share * 350) for share in run.drops] == [200, 250, 300]
    fast, slow = (
        train_constrained.EXPERIMENTS[n].run("ibp", 0, None, 60_000) for n in ("mnist-fast-ramp", "mnist-small")
    )
    assert slow.ramp == pytest.approx(2.5 * fast.ramp)


def test_a_shortened_run_of_cifar_has_its_phases_in_proportion_and_one_of_mnist_its_ramp():
    cifar, mnist = (train_constrained.EXPERIMENTS[name] for name in ("cifar-small", "mnist-fast-ramp"))
    full, short = (cifar.run("ibp", 0, epochs, 50_000) for epochs in (None, 35))
    assert short.ramp == pytest.approx(full.ramp / 10) and short.drops == full.drops
    assert mnist.run("ibp", 0, 16, 60_000).ramp == mnist.run("ibp", 0, None, 60_000).ramp


def test_augmented_images_are_moved_copies_of_the_same_labels(rng):
    x, y = rng.random((6, 32, 32, 3), np.float32), np.arange(6)
    run = certified.Run("small", 0.1, 1, augment=True, batch=6)
    ((moved, labels),) = certified.batches(run, certified.Data(x, y, x, y)).as_numpy_iterator()
    assert sorted(labels) == list(range(6)) and moved.shape == x.shape
    middle = moved[:, 12:20, 12:20]
    for image, label in zip(middle, labels, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(x[label], (8, 8, 3))[:, :, 0]
        assert (
            np.isclose(windows, image).all((2, 3, 4)) | np.isclose(windows[..., ::-1, :], image).all((2, 3, 4))
        ).any()
