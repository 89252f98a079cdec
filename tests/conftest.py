"""What the tests share: a quiet TensorFlow, the reference data where it is mounted, and fixed seeds."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core: threads of their own would only get in each other's way
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``shared`` beside the repository, with reference models and data."""
    if not SHARED.is_dir():
        pytest.skip("the reference data (../shared) is not here")
    return SHARED


@pytest.fixture
def seed() -> int:
    """Seeds Keras, TensorFlow and NumPy, and returns the seed."""
    import keras

    keras.utils.set_random_seed(0)
    return 0


@pytest.fixture
def eager() -> Iterator[None]:
    """Runs TensorFlow's functions step by step: for a tiny model they are not worth compiling."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(0)
