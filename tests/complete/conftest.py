"""Solver processes that the tests of complete verification share."""

from collections.abc import Iterator

import pytest

from tfcert.complete.search import branch as branching
from tfcert.complete.solver.process import SolverProcess, SolverSettings


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
def eager(eager: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared fixture; few steps of branch and bound do as well."""
    monkeypatch.setattr(branching, "_FIRST", 12)
    monkeypatch.setattr(branching, "STEPS", 6)
