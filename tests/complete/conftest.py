"""Solver processes that the tests of complete verification share."""

from collections.abc import Iterator

import pytest
import tensorflow as tf

from tfcert.complete import branching
from tfcert.complete.processes import SolverProcess, SolverSettings


@pytest.fixture(scope="session")
def cbc() -> Iterator[SolverProcess]:
    with SolverProcess(SolverSettings("cbc")) as process:
        yield process


@pytest.fixture(scope="session")
def highs() -> Iterator[SolverProcess]:
    pytest.importorskip("highspy")
    with SolverProcess(SolverSettings("highs")) as process:
        yield process


@pytest.fixture(params=["cbc", "highs"])
def solver(request: pytest.FixtureRequest) -> SolverProcess:
    """Each solver in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs TensorFlow's functions step by step: for a tiny model they are not worth compiling. Few steps do there."""
    monkeypatch.setattr(branching, "_FIRST", 12)
    monkeypatch.setattr(branching, "_STEPS", 6)
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
