"""Balls before a normalisation by unequal std, patches of images, values that are normalised, and measures of these."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from tfcert.driver.arrivals import to_net
from tfcert.driver.regions import build_regions
from tfcert.driver.verify import verify
from tfcert.errors import JournalError, UsageError
from tfcert.language import load
from tfcert.language.spec.membership import lies_in
from tfcert.verdict import Outcome

MEAN, STD = [0.5, 2.0, 1.0], [0.5, 2.0, 0.25]
TABLE = """prop 1
model f = keras("f.keras") {{ inputs: [a, b, c] }}
dataset d = npz("d.npz") {{ scale: 1/2 normalize: {{ mean: [0.5, 2, 1] std: [0.5, 2, 0.25] }} }}
strategy s = {stages}
{asked}
"""
WEIGHTS = np.array([1.0, -2.0, 0.5])


@pytest.fixture(scope="module")
def linear():
    """Of two classes, the second wins where ``WEIGHTS z > 1`` on normalised inputs."""
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.layers[-1].set_weights([np.stack([0 * WEIGHTS, WEIGHTS], axis=1), np.array([1.0, 0.0])])
    return model


def distance(x: np.ndarray, norm: str) -> float:
    """How far a stored input of the first class is from the second one: a closed form."""
    net = (x / 2 - MEAN) / STD
    slope = WEIGHTS / STD / 2
    return float((1 - WEIGHTS @ net) / np.linalg.norm(slope, {"linf": 1, "l2": 2, "l1": np.inf}[norm]))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("space", ["raw", "unit"])
def test_members_of_an_ellipsoid_are_those_of_the_ball(norm, space):
    """Whether a normalised point lies in the set is whether what was stored lies in the ball."""
    text = f"property p(x in d) {{ forall z in ball(x, {norm}, 1) in {space}: f(z)[0] > 0 }}"
    template = load(TABLE.format(stages="ibp", asked=text), bound=("f", "d")).properties["p"]
    x = np.array([[1.0, 2.0, 3.0]])
    points = x + np.array(list(itertools.product((-2.125, -0.625, 0, 0.25, 1), repeat=3)))
    centers = np.repeat(to_net(template.transform, x, np.float64), len(points), axis=0)
    sets = build_regions(template, centers, (3,), np.float64)
    moved, sample = to_net(template.transform, points, np.float64), tuple(map(Fraction, x[0]))
    exact = [lies_in(template.region, template.transform, (3,), tuple(map(Fraction, p)), sample) for p in points]
    assert sets.witness.contains(moved).tolist() == exact
    assert 0 < sum(exact) < len(exact)
    inside = sets.proof.take(np.flatnonzero(exact))
    assert ((inside.lower <= moved[exact]) & (moved[exact] <= inside.upper)).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_measures_before_unequal_std_are_closed_forms(norm, linear, eager, tmp_path):
    x = np.array([[1.0, 4.0, 2.0], [0.5, 6.0, 2.5]], np.float32)
    text = f"measure m(x in d) = largest r in [0, 9] such that forall z in ball(x, {norm}, r) in raw: "
    text = TABLE.format(stages="pgd -> crown -> milp", asked=text + "f(z)[0] > f(z)[1] using s")
    report = verify(text, bindings={"f": linear, "d": x}, out=tmp_path, verbose=0)
    for record in report.records:
        wanted = distance(x[record.sample].astype(float), norm)
        assert record.measured.lower <= wanted * (1 + 1e-6) and record.measured.upper >= wanted * (1 - 1e-6)
        assert record.measured.upper - record.measured.lower <= 2e-3 * wanted


def test_distances_before_unequal_std_are_closed_forms(linear, tmp_path):
    x = np.array([[1.0, 4.0, 2.0], [0.5, 6.0, 2.5]], np.float32)
    asked = "measure near(x, y in d) = fmn(f, l2) within anything in raw\n"
    asked += "measure least(x, y in d) = minimum(f, linf, upper=9) within anything in raw\n"
    text = TABLE.format(stages="ibp", asked=asked + "measure safe(x, y in d) = global_lipschitz(f, l2) in raw")
    report = verify(text, bindings={"f": linear, "d": (x, [0, 0])}, out=tmp_path, verbose=0)
    for record in report.records:
        norm = "linf" if record.property == "least" else "l2"
        wanted = distance(x[record.sample].astype(float), norm)
        if record.property != "near":
            assert 0.6 * wanted <= record.measured.lower <= wanted * (1 + 1e-5)
        if record.property != "safe":
            assert wanted * (1 - 1e-5) <= record.measured.upper <= wanted * 1.05


def test_witnesses_of_normalised_values_are_stored_values(linear, eager, tmp_path):
    """Whole numbers of the raw table, as the network receives them: what comes back from a witness is whole."""
    asked = (
        "domain w = box(a in integers [0, 300], b in [2, 9], c in {0, 2, 5})\n"
        "property p using s { forall z in w in raw: f(z)[0] > f(z)[1] }\n"
        "property q using s { forall z in w and box(a in integers [0, 2], b in [7, 9], c in {0, 2}) in raw: "
        "f(z)[0] > f(z)[1] }"
    )
    text = TABLE.format(stages="pgd -> crown -> milp", asked=asked)
    whole = "{ inputs: [a, b, c] normalize: { mean: [1, 4, 2] std: [1, 4, 0.5] } }"
    text = text.replace("{ inputs: [a, b, c] }", whole)
    report = verify(text, bindings={"f": linear}, out=tmp_path, verbose=0)
    found = {record.property: record for record in report.records}
    assert found["p"].outcome is Outcome.FALSIFIED
    stored = found["p"].verdict.witness.ravel() * [1, 4, 0.5] + [1, 4, 2]
    assert abs(stored[0] - round(stored[0])) < 1e-3 and min(abs(stored[2] - v) for v in (0, 2, 5)) < 1e-6
    value = lambda a, b, c: ((np.array([a, b, c]) - [1, 4, 2]) / [1, 4, 0.5]) @ WEIGHTS  # noqa: E731
    worst = max(value(a, b, c) for a in range(3) for b in (7, 9) for c in (0, 2))
    assert (found["q"].outcome is Outcome.VERIFIED) == (worst < 1)


@pytest.fixture(scope="module")
def images():
    """A linear classifier of images of 3 x 4 pixels, and two that it takes for class 0."""
    import keras

    rng = np.random.default_rng(2)
    weights = rng.normal(size=(3, 4))
    model = keras.Sequential([keras.Input((3, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.layers[-1].set_weights([np.stack([0 * weights.ravel(), weights.ravel()], axis=1), np.array([1.2, 0.0])])
    x = np.clip(0.5 - 0.3 * np.sign(weights) + 0.1 * rng.random((2, 3, 4)), 0, 1)[..., None].astype(np.float32)
    return model, weights, x


@pytest.mark.parametrize(
    ("region", "places"),
    [
        ("patch(x, 2, 2)", [(range(i, i + 2), range(j, j + 2)) for i in range(2) for j in range(3)]),
        ("patch(x, 2, 3, stride=2)", [(range(i, i + 2), range(j, j + 3)) for i in range(2) for j in range(2)]),
        ("patch(x, rows=[0, 1], columns=[3, 3])", [(range(2), range(3, 4))]),
    ],
)
def test_patches_are_as_bad_as_their_worst_place(region, places, images, eager, tmp_path):
    """The least margin of a linear classifier over all patches of any values is a sum over the worst one."""
    model, weights, x = images
    text = (
        'prop 1\nmodel f = keras("f.keras")\ndataset d = npz("d.npz") { range: [0, 1] }\nstrategy s = crown -> pgd\n'
        f"property p(x in d) using s {{ forall z in {region}: f(z)[0] > f(z)[1] }}\n"
    )
    report = verify(text, bindings={"f": model, "d": x}, out=tmp_path, verbose=0)
    for record in report.records:
        at, worst = x[record.sample, ..., 0].astype(float), np.inf
        for rows, columns in places:
            mask = np.zeros((3, 4), bool)
            mask[np.ix_(rows, columns)] = True
            moved = np.where(mask, (weights > 0).astype(float), at)
            worst = min(worst, 1.2 - (weights * moved).sum())
        assert record.outcome is (Outcome.VERIFIED if worst > 0 else Outcome.FALSIFIED)
        if worst > 0:
            assert record.verdict.margin == pytest.approx(worst, abs=1e-4)
        else:
            changed = np.argwhere(record.verdict.witness != x[record.sample])
            assert any(set(map(tuple, changed[:, :2])) <= set(itertools.product(*place)) for place in places)


def test_a_mask_is_read_from_its_file(images, eager, tmp_path):
    model, weights, x = images
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = mask[0, 0] = True
    np.savez(tmp_path / "m.npz", mask=mask)
    np.savez(tmp_path / "d.npz", x=x)
    model.save(tmp_path / "f.keras")
    ball = 'ball(x, linf, 0.25, mask="m.npz") within anything'
    text = 'prop 1\nmodel f = keras("f.keras")\ndataset d = npz("d.npz")\nstrategy s = crown\n'
    text += f"property p(x in d) using s {{ forall z in {ball}: f(z)[0] > f(z)[1] }}"
    (tmp_path / "p.prop").write_text(text, "utf-8")
    report = verify(tmp_path / "p.prop", out=tmp_path / "out", verbose=0)
    for record in report.records:
        wanted = 1.2 - (weights * x[record.sample, ..., 0]).sum() - 0.25 * np.abs(weights[mask]).sum()
        assert record.verdict.margin == pytest.approx(wanted, abs=1e-4)
    np.savez(tmp_path / "m.npz", mask=~mask)
    with pytest.raises(JournalError, match=r"the mask m.npz changed since"):
        verify(tmp_path / "p.prop", out=None, resume=tmp_path / "out", verbose=0)
    np.savez(tmp_path / "m.npz", mask=np.ones((2, 2), bool))
    with pytest.raises(UsageError, match=r"the mask m.npz has shape \(2, 2\)"):
        verify(tmp_path / "p.prop", out=tmp_path / "out", verbose=0)


def test_a_measure_over_a_union_is_the_least_of_its_pieces(linear, eager, tmp_path):
    """Of an L1 and an L-inf ball of half the radius, the answer is the smaller closed form."""
    x = np.array([[1.0, 4.0, 2.0], [9.0, 6.0, 2.5]], np.float32)
    text = (
        "measure m(x, y in d) = largest r in [0, 9] such that forall z in ball(x, l1, r) or ball(x, linf, r/2) in raw: "
    )
    text = TABLE.format(stages="pgd -> crown -> milp", asked=text + "f(z)[0] > f(z)[1] using s")
    report = verify(text, bindings={"f": linear, "d": (x, [0, 0])}, out=tmp_path, verbose=0)
    first, wrong = report.records
    wanted = min(distance(x[0].astype(float), "l1"), 2 * distance(x[0].astype(float), "linf"))
    assert first.measured.lower <= wanted * (1 + 1e-6) and first.measured.upper >= wanted * (1 - 1e-6)
    assert first.measured.upper - first.measured.lower <= 2e-3 * wanted
    assert wrong.outcome is Outcome.FALSIFIED  # as it is, by a clean input


def test_a_measure_within_a_box_grows_only_where_the_box_lets_it(linear, eager, tmp_path):
    """The second number may only grow, which helps no witness: the closed form is that of the other two."""
    x = np.array([[1.0, 4.0, 2.0]], np.float32)
    text = "measure m(x, y in d) = largest r in [0, 9] such that "
    text += "forall z in ball(x, linf, r) and box(b in [4, 20]) in raw: "
    text = TABLE.format(stages="pgd -> crown -> milp", asked=text + "f(z)[0] > f(z)[1] using s")
    (record,) = verify(text, bindings={"f": linear, "d": (x, [0])}, out=tmp_path, verbose=0).records
    slope = np.abs(WEIGHTS / STD / 2)[[0, 2]].sum()
    wanted = (1 - WEIGHTS @ ((x[0] / 2 - MEAN) / STD)) / slope
    assert record.measured.lower <= wanted * (1 + 1e-6) and record.measured.upper >= wanted * (1 - 1e-6)
    assert record.measured.upper - record.measured.lower <= 2e-3 * wanted
