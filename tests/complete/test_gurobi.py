"""Gurobi by way of python-mip: a sentence where it cannot be used, the same optima where it can."""

import numpy as np
import pytest

from complete.questions import mlp
from tfcert import minimum_perturbation
from tfcert.complete.solver import backends
from tfcert.complete.solver.process import SolverSettings
from tfcert.errors import UsageError

X = np.array([[0.3, -0.2]], np.float32)
CANNOT = backends.gurobi_complaint()


def test_without_a_library_or_a_licence_a_sentence_says_what_is_needed(monkeypatch):
    if CANNOT:
        with pytest.raises(UsageError, match="GUROBI_HOME names, and a licence that GRB_LICENSE_FILE names"):
            SolverSettings("gurobi")
        with pytest.raises(UsageError, match="gurobi cannot be used here"):
            SolverSettings("cbc", confirm="gurobi")
    monkeypatch.setattr(backends, "gurobi_complaint", lambda: "no licence")
    with pytest.raises(UsageError, match="no licence"):
        minimum_perturbation(mlp(2, 3, 3), X, [0], upper=1.0, solver="gurobi")


@pytest.mark.skipif(bool(CANNOT), reason=f"no Gurobi: {CANNOT}")
def test_its_minimum_is_cbc_s():
    model = mlp(2, 3, 3, 3, seed=22)
    y = np.asarray(model(X)).argmax(axis=-1)
    found, other = (minimum_perturbation(model, X, y, upper=3.0, search="milp", solver=s) for s in ("gurobi", "cbc"))
    assert found.optimal[0]
    assert found.lower[0] == pytest.approx(other.lower[0], rel=2e-5)
