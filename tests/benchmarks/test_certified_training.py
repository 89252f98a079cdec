"""Benchmarks of certified training: the papers' networks, schedules in proportion, and runs that repeat exactly."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.training import certified, tables
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


def test_svhn_is_read_from_its_public_files_where_ten_is_zero(rng, tmp_path, monkeypatch):
    scipy_io = pytest.importorskip("scipy.io")
    for split, labels in (("train", [10, 1, 9, 10]), ("test", [2, 10])):
        pixels = rng.integers(0, 256, (32, 32, 3, len(labels)), np.uint8)
        scipy_io.savemat(tmp_path / f"{split}_32x32.mat", {"X": pixels, "y": np.array(labels)[:, None]})
    monkeypatch.setenv("TFCERT_DATA", str(tmp_path))
    images = certified.data("svhn", 3)
    assert images.x.shape == (3, 32, 32, 3) and images.x_test.shape == (2, 32, 32, 3) and images.x.max() <= 1
    assert images.y.tolist() == [0, 1, 9] and images.y_test.tolist() == [2, 0]
    np.testing.assert_allclose(images.x_test[1], pixels[..., 1] / 255, rtol=1e-6)
    run = train_constrained.EXPERIMENTS["svhn-small"].run("log", 0, 24, 73_257)
    assert run.augment and run.normalize and run.eps == pytest.approx(8 / 255)


def test_every_figure_of_the_paper_has_experiments_and_its_curves(tmp_path, monkeypatch):
    assert list(tables.FIGURES) == [3, 4, 5, 6, 7]
    history = {"val_verified_accuracy": [0.2, 0.4], "val_accuracy": [0.9, 0.8], "interval_width": [3.0, 1.0]}
    experiment = train_constrained.EXPERIMENTS["mnist-fast-ramp"]
    result = {"experiment": "mnist-fast-ramp", "run": vars(experiment.run("log", 0, 2, 60_000)), "history": history}
    assert tables.curve(result, "mean of both") == pytest.approx([0.45, 0.4])
    assert tables.curve(result, "verified error") == pytest.approx([0.8, 0.6])
    monkeypatch.setenv("TFCERT_RESULTS", str(tmp_path))
    for number, figure in tables.FIGURES.items():
        assert set(figure.experiments) <= set(train_constrained.EXPERIMENTS)
        rows = {name: [result] for name in figure.experiments}
        assert "<svg" in tables.draw(f"figure_{number}", figure.title, figure.panels, rows).read_text()


def test_methods_are_told_apart_and_stored_runs_without_a_reduction_are_means():
    runs = {
        name: vars(train_constrained.EXPERIMENTS["mnist-short"].run(name, 0, None, 10_000)) for name in tables.METHODS
    }
    assert {name: tables.method_of(run) for name, run in runs.items()} == {name: name for name in runs}
    assert tables.method_of({"objective": "constrained"}) == "mean"
    objectives = {name: certified.objective(certified.Run(**run)) for name, run in runs.items()}
    assert objectives["sum"].width.reduction == "sum" and not objectives["sum"].elide
    assert objectives["log"].get_config() | {"eps": 0} == type(objectives["log"])(
        0, kappa=objectives["log"].kappa, clip=(0, 1)
    ).get_config() | {"eps": 0}
