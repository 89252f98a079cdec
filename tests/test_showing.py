"""What public results print: a line of summary, and a table of a few samples, however many there are."""

from __future__ import annotations

import html
import inspect

import numpy as np
import pytest

import tfcert
from tfcert import Attacks, Bounds, Box, Certification, LpBall, MinimumPerturbations, Radii
from tfcert.datasets import Samples
from tfcert.estimates.results import AttackDistances
from tfcert.objectives import IBP, ReluBalance
from tfcert.report import Asked, ExitCode, Record, Report
from tfcert.report.attacks import AttackReport
from tfcert.schedules import Ramp
from tfcert.showing import ShownResult
from tfcert.verdict import Guarantee, Outcome, Verdict

N = 300
NUMBERS = np.linspace(0.1, 0.9, N)
IMAGES = np.full((N, 28, 28, 1), 0.25, np.float32)
HALF = np.arange(N) < N // 2
HOW = (Guarantee.NUMERIC, "crown", "adaptive")
RECORDS = tuple(Record("attack", i, Verdict(Outcome.VERIFIED), Asked()) for i in range(N))
RESULTS = [
    (LpBall(IMAGES, NUMBERS, "l2", (0, 1)), ["300 samples", "(28, 28, 1)", "l2", "0.1 to 0.9", "[0, 1]", "x 0.25"]),
    (Box(IMAGES, IMAGES + 0.5), ["300 samples", "lower 0.25", "width 0.5"]),
    (Bounds(-np.ones((N, 10)), np.ones((N, 10))), ["10 outputs", "300 samples", "width 2", "numeric"]),
    (Certification(HALF, NUMBERS, *HOW, np.zeros(N)), ["150 of 300 samples verified by crown", "numeric"]),
    (Radii(NUMBERS * HALF, NUMBERS, 7, *HOW), ["150 of 300 samples certified", "numeric"]),
    (Attacks(IMAGES, HALF, NUMBERS, NUMBERS), ["150 of 300 samples", "median 0.5", "replayed", "proves nothing"]),
    (
        MinimumPerturbations(
            NUMBERS, NUMBERS, HALF, IMAGES, NUMBERS, HALF, HALF, [Guarantee.SOLVER] * N, ["the time was used up"] * N
        ),
        ["150 of 300 samples optimal", "0.1 to 0.9", "solver"],
    ),
    (AttackDistances(NUMBERS, IMAGES, ("pgd",) * N, "l2", "nearest"), ["300 of 300 samples", "replayed"]),
    (Samples(IMAGES, np.arange(N) % 10), ["(300, 28, 28, 1)", "float32", "0.25", "labels median 4.5, 0 to 9"]),
    (Samples(IMAGES, None), ["no labels"]),
    (IBP(Ramp(0, 0.1, 2, 20), clip=(0, 1), regularizers=[ReluBalance()]), ["IBP(", "stop=0.1", "0..1", "ReluBalance"]),
    (Report({}, RECORDS, ExitCode.PASS, ("attack",)), ["attack", "300 verdicts"]),
    (AttackReport({}, RECORDS, ExitCode.PASS, ("attack",)), ["attack", "300 verdicts"]),
]


@pytest.mark.parametrize(("result", "words"), RESULTS, ids=lambda value: type(value).__name__)
def test_a_result_is_summed_up_in_a_line_and_printed_in_a_few(result, words):
    assert len(repr(result)) < 250 and "\n" not in repr(result)
    for word in words:
        assert word in repr(result)
    lines = str(result).splitlines()
    assert len(lines) <= 14 and max(map(len, lines)) <= 250
    assert lines == [line.rstrip() for line in lines]


def test_a_table_says_outcome_distance_and_guarantee_of_each_sample():
    found = Attacks(IMAGES[:2], np.array([True, False]), np.array([0.125, np.nan]), np.array([-1.0, np.nan]))
    assert [line.split() for line in str(found).splitlines()[1:]] == [
        ["sample", "outcome", "distance", "margin", "guarantee"],
        ["0", "witness", "0.125", "-1", "replayed"],
        ["1", "none", "found", "-", "-", "estimate"],
    ]
    assert "1 of 2 samples" in repr(found) and "of 1 sample of" in repr(LpBall(IMAGES[:1], 0.1))


@pytest.mark.parametrize("result", [r for r, _ in RESULTS if hasattr(r, "_repr_html_")], ids=lambda r: type(r).__name__)
def test_a_notebook_shows_the_line_and_the_rows_that_print_shows(result):
    shown = result._repr_html_()
    assert "<script" not in shown and len(shown) < 20_000
    if isinstance(result, Report):
        return
    assert html.escape(repr(result)) in shown
    rows = str(result).splitlines()[1:]
    assert shown.count("<tr>") == sum(not row.startswith("...") for row in rows)


def test_every_result_of_a_public_function_is_shown_by_notebooks():
    results = [value for name in tfcert.__all__ if inspect.isclass(value := getattr(tfcert, name))]
    inputs = {"BoundOptions", "Box", "LocalWorkers", "LpBall", "SolverSettings", "CertifiedModel", "Guarantee",
              "Outcome", "SpecError", "UnsupportedLayerError"}  # fmt: skip
    assert [c.__name__ for c in results if c.__name__ not in inputs and not hasattr(c, "_repr_html_")] == []


def test_what_is_shown_as_html_cannot_be_markup():
    class Named(ShownResult):
        def __repr__(self) -> str:
            return "<b>1</b>"

        def _columns(self):
            return {"layer": ["<i>a</i>"]}

    assert "<b>" not in Named()._repr_html_() and "&lt;i&gt;a" in Named()._repr_html_()
