"""Parameters of a test, most of which only its long sweep tries."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sweep_but(kept: Collection[Any], cases: Iterable[Any]) -> list[Any]:
    """Marks every case that is not in ``kept`` as one of the long sweeps, which ``make test`` leaves out.

    A case is what ``parametrize`` takes: a value, or a tuple of several.
    """
    cases = list(cases)
    missing = [case for case in kept if case not in cases]
    assert not missing, f"not among the cases: {missing}"
    plain = {True: (), False: pytest.mark.sweep}
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=plain[case in kept]) for case in cases]
