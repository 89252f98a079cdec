"""What public results print: a line of summary, and a table of a few samples, however many there are."""

from __future__ import annotations

import numpy as np
import pytest

from tfcert import Attacks, Bounds, Box, Certification, LpBall, MinimumPerturbations, Radii
from tfcert.datasets import Samples
from tfcert.estimates.results import AttackDistances
from tfcert.objectives import IBP, ReluBalance
from tfcert.report import Asked, ExitCode, Record, Report
from tfcert.report.attacks import AttackReport
from tfcert.schedules import Ramp
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
