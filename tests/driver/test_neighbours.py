"""Balls around quantified points, of normalised data, from text to verdict: by brute force."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from sweeps import sweep_but
from test_inputs_in_formulas import HEAD, SAMPLES, F, out, run

from tfcert.language import SpecError, load
from tfcert.language.spec.membership import lies_in

pytestmark = pytest.mark.usefixtures("eager")

STEPS = np.linspace(-1, 1, 9)
REGIONS = {
    "box": (
        "a in box(age in [3, 5], pay in [2, 4]) in raw, b in ball(a, linf, eps=[age: 1, pay: 0.5]) in raw",
        (1, 0.5),
    ),
    "held": ("a in ball(x, linf, 1) in raw, b in ball(a, linf, 1, free=[pay]) within [0, 10] in raw", (0, 1)),
}


def gap(name: str) -> float:
    """The largest change of the first output between two such points of a grid."""
    reach, middle = np.array(REGIONS[name][1]), np.array([4, 3]) if name == "box" else SAMPLES[0]
    grid = np.stack(np.meshgrid(STEPS, STEPS), -1).reshape(-1, 2)
    a = middle + grid
    b = (a[:, None] + grid * reach).clip(*((0, 10) if name == "held" else (-99, 99)))
    return float(np.abs(out(F, a)[:, None, 0] - out(F, b.reshape(-1, 2))[:, 0].reshape(b.shape[:2])).max())


STAGES = ("milp", "crown", "pgd -> crown -> split")


@pytest.mark.parametrize(("name", "stage"), sweep_but([("held", "milp")], itertools.product(REGIONS, STAGES)))
def test_two_near_points_are_told_apart_as_a_grid_tells_them(name, stage):
    """Claims beyond what the grid finds hold, those within are refuted by two points that lie near each other."""
    room, text = gap(name), REGIONS[name][0]
    body = "\n".join(  # that of the box, too, is asked of the data set, which says how inputs are normalised
        f"property p{k}(x in d take 1) using s {{ forall {text}: abs(f(a)[0] - f(b)[0]) <= {t:.6f} }}"
        for k, t in enumerate((room + 0.1, room - 0.02))
    )
    records = run(stage, body).records
    wide, narrow = (record.outcome.value for record in records)
    assert wide != "falsified" and narrow != "verified"
    if stage == "crown":
        return
    assert (wide, narrow) == ("verified", "falsified")
    other = load(f"{HEAD}strategy s = {stage}\n{body}\n", bound=("f", "d")).properties["p1"].points[1]
    z = records[1].verdict.witness.reshape(-1)
    held = ([z[0], z[1]], [z[0], z[-1]] if name == "held" else [z[2], z[3]])
    moves = [other.transform.stored(place) for place in (0, 1)]
    a, b = ([f * Fraction(float(v)) + o for (f, o), v in zip(moves, point, strict=True)] for point in held)
    assert lies_in(other.region, other.transform, (2,), b, a)


def test_what_is_no_interval_around_a_variable_is_refused():
    for region, said in (
        ("a in box([0, 1]), b in ball(a, l2, 1)", "an linf ball"),
        ("a in box([0, 1]), b in patch(a, 1, 1)", "an linf ball"),
        ("a in box([0, 1]) or box([2, 3]), b in ball(a, linf, 1)", "several pieces"),
        ("a in box([0, 1]), b in ball(a, linf, 1) or box([0, 1])", "stands alone"),
        ("b in ball(a, linf, 1), a in box([0, 1])", "around the sample"),
    ):
        with pytest.raises(SpecError, match=said):
            load(f'prop 1\nmodel f = keras("f.keras")\nproperty p {{ forall {region}: f(a)[0] <= f(b)[0] + 1 }}\n')
