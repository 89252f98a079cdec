"""What the tests share: a quiet TensorFlow, the reference data where it is mounted, and fixed seeds."""

import math
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core: threads of their own would only get in each other's way
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

sys.path.append(str(Path(__file__).parents[1]))  # for benchmarks; last, where it hides no other copy of tfcert

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from benchmarks.common import data

_BEGAN = time.monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--sweep-seconds",
        type=float,
        default=math.inf,
        help="begin no long sweep after so many seconds: the rest of them is skipped, and said to be",
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a long sweep for which there is no time."""
    limit = item.config.getoption("--sweep-seconds")
    if item.get_closest_marker("sweep") and time.monotonic() - _BEGAN > limit:
        pytest.skip(f"the {limit:g} s for long sweeps are used up (`make sweeps` runs them all)")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference networks and records: the one that ``TFCERT_DATA`` names, else ``../shared``."""
    if not data.has("reference"):
        pytest.skip("the reference networks are not here (benchmarks/README.md says where they are looked for)")
    return data.root()


@pytest.fixture(scope="session")
def mnist() -> tuple[np.ndarray, np.ndarray]:
    """MNIST's 10,000 test images, uint8 ``[images, 28, 28]``, and their labels."""
    try:
        x, y = data.pixels("mnist", "test")
    except data.MissingDataError as missing:
        pytest.skip(str(missing))
    return x[..., 0], y


@pytest.fixture
def seed() -> int:
    """Seeds Keras, TensorFlow and NumPy, and returns the seed."""
    import keras

    keras.utils.set_random_seed(0)
    return 0


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs TensorFlow's functions step by step: for a tiny model they are not worth compiling.

    Attacks stay compiled: they repeat one step hundreds of times, and what is traced is kept with the model. Few steps
    towards the best combination of a clause's rows do as well.
    """
    import tensorflow as tf

    from tfcert.attacks import gradient
    from tfcert.propagation import combined

    for name, value in {"_SECTIONS": 8, "_ROUNDS": 1, "_STEPS": 16}.items():
        monkeypatch.setattr(combined, name, value)
    pgd = gradient.pgd

    def compiled(*arguments: Any) -> Any:
        before = tf.config.functions_run_eagerly()
        tf.config.run_functions_eagerly(False)
        try:
            return pgd(*arguments)
        finally:
            tf.config.run_functions_eagerly(before)

    monkeypatch.setattr(gradient, "pgd", compiled)
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(0)
