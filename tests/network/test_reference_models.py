"""The reference networks load, and compute the logits that were recorded for them."""

from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks.common import data
from tfcert.activations import names
from tfcert.loading import load_model
from tfcert.network import UnsupportedLayerError, from_keras

FOLDER = data.root() / "reference" / "models"
MODELS = sorted(path.stem for path in FOLDER.glob("*.keras")) or ["absent"]
ACTIVATIONS = ("relu", "tanh", "sigmoid", "arctan")


def activation_of(name: str) -> str:
    return next(activation for activation in ACTIVATIONS if f"_{activation}_" in name)


@pytest.fixture(scope="module")
def images(shared: Path, mnist: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    """The first test images, as the models take them."""
    digits = mnist[0][:50, :, :, None]
    with np.load(shared / "reference" / "cifar10_test200.npz") as stored:
        cifar = stored["x"][:50]
    return {"mnist": digits / np.float32(255) - 0.5, "cifar": cifar / np.float32(255) - 0.5}


@pytest.mark.parametrize("name", MODELS)
def test_recorded_logits(shared: Path, images: dict[str, np.ndarray], name: str) -> None:
    with keras.saving.custom_object_scope({"tfcert_ref>arctan": keras.ops.arctan}):
        model = load_model(FOLDER / f"{name}.keras")
    activation = activation_of(name)
    if activation not in names():
        with pytest.raises(UnsupportedLayerError, match=f"'{activation}', which tfcert cannot bound yet"):
            from_keras(model)
        return
    x = images[name.partition("_")[0]]
    with np.load(FOLDER / f"{name}_logits.npz") as recorded:
        np.testing.assert_allclose(from_keras(model)(x), recorded["logits"][:50], atol=2e-4)
