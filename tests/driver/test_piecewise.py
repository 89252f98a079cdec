"""Regions of several pieces, and of some values only: stages against all points of a lattice, by exact membership."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from tfcert.driver.piecewise import on_all
from tfcert.driver.stages.opened import OpenStages
from tfcert.driver.verify import verify
from tfcert.errors import UsageError
from tfcert.language import SpecError, load
from tfcert.language.spec.membership import lies_in
from tfcert.verdict import Guarantee, Outcome, Reason, Verdict

HEAD = """prop 1
model f = keras("f.keras") { inputs: [age, income, sex] outputs: [no, yes] }
dataset d = npz("d.npz")
domain adult = box(age in integers [0, 5], income in [0, 4], sex in {0, 1})
domain two = box(age in [0, 1], income in [0, 1], sex in [0, 1]) or box(age in [3, 4], income in [2, 4], sex in [0, 1])
"""
AROUND = {
    "listed": "ball(x, linf, eps=[1, 0.5, 0]) within anything",
    "fixed": "ball(x, l1, 0.75, fixed=[sex])",
    "free": "ball(x, l2, 1, free=[age, income])",
    "share": "ball(x, linf, eps=[age: 1, income: 25%, sex: 1]) within adult",
    "few": "ball(x, l0, 1) within adult",
    "union": "ball(x, linf, 0.5) or ball(x, l1, 1.5, free=income)",
    "cut": "ball(x, linf, 1.5) and box(sex in {0, 1}, age in integers [0, 5])",
    "round": "ball(x, l2, 1.5) and ball(x, linf, 1) and box(income in [0, 4])",
    "sliced": "ball(x, l2, 1.5) within adult",
    "sliced_l1": "ball(x, l1, eps=[2, 1.5, 1]) within adult",
    "one_hot": "ball(x, linf, 4) and box(one_hot(age, sex))",
}
WAYS = {"largest": np.max, "smallest": np.min}
BOXES = {"adult": "adult", "two": "two", "whole": "box(age in integers [1, 2], income in [0, 1], sex in {0, 1})"}
LATTICE = [
    tuple(map(Fraction, point))
    for point in itertools.product(np.arange(-1, 6.5, 0.5), np.arange(-0.5, 5, 0.25), (-0.5, 0, 0.25, 0.5, 1, 1.5))
]


@pytest.fixture(scope="module")
def model():
    import keras

    keras.utils.set_random_seed(3)
    layers = [keras.Input((3,)), keras.layers.Dense(6, activation="relu"), keras.layers.Dense(2)]
    made = keras.Sequential(layers)
    outputs = np.asarray(made(np.array(LATTICE, np.float32)))
    made.layers[-1].bias.assign(-np.median(outputs, axis=0))  # both classes are met
    return made


@pytest.fixture(scope="module")
def people(model):
    """Samples on the lattice, among them one that each region of ``AROUND`` takes apart."""
    x = np.array([[2, 1, 0], [4, 3.5, 1], [1, 2.25, 0], [0, 0.5, 1]], np.float32)
    return x, np.asarray(model(x)).argmax(axis=1)


def asked(regions: dict[str, str], formula: str, samples: str = "(x, y in d)") -> str:
    parts = (f"property {n}{samples} using s {{ forall z in {r}: {formula} }}" for n, r in regions.items())
    return "\n".join(parts) + "\n"


def answers(model, points) -> np.ndarray:
    return np.asarray(model(np.array(points, np.float32))).argmax(axis=1)


def agrees(record, region, broken, sample) -> None:
    """A verdict holds what a lattice of points and exact membership say."""
    found = lies_in_lattice(region, sample)
    breaks = any(bad and inside for bad, inside in zip(broken, found, strict=True))
    assert any(found), "the lattice says nothing of this region"
    if breaks:
        assert record.outcome is not Outcome.VERIFIED
    if record.outcome is Outcome.FALSIFIED:
        point = tuple(Fraction(float(v)) for v in record.verdict.witness.ravel())
        assert lies_in(region.region, region.transform, (3,), point, sample)


def lies_in_lattice(template, sample) -> list[bool]:
    return [lies_in(template.region, template.transform, (3,), point, sample) for point in LATTICE]


@pytest.mark.parametrize(
    ("stages", "names"),
    [
        ("pgd -> ibp -> crown -> milp", tuple(name for name in AROUND if not name.startswith("sliced"))),
        ("crown -> milp", ("sliced", "sliced_l1")),
        ("alpha_crown(iterations=1)", ("round",)),
        ("split", ("share",)),
        ("lp", ("few", "union")),
    ],
    ids=["all", "sliced", "round", "share", "few"],
)
def test_verdicts_agree_with_all_points_of_a_lattice(stages, names, model, people, eager, tmp_path):
    """Complete stages decide every region, and no verdict contradicts a point of it."""
    x, y = (part[: 4 if len(names) > 2 else 2] for part in people)
    text = HEAD + f"strategy s = {stages}\n" + asked({n: AROUND[n] for n in names}, "argmax(f(z)) == y")
    report = verify(text, bindings={"f": model, "d": (x, y)}, out=tmp_path, verbose=0)
    templates, where = load(text, bound=("f", "d")).properties, answers(model, LATTICE)
    for record in report.records:
        sample = tuple(Fraction(float(v)) for v in x[record.sample])
        agrees(record, templates[record.property], where != y[record.sample], sample)
        if "milp" in stages:
            assert record.outcome in (Outcome.VERIFIED, Outcome.FALSIFIED), (record.property, record.verdict.reason)
    assert len(report.records) == len(names) * len(x)
    assert any(record.outcome is Outcome.VERIFIED for record in report.records)


def test_boxes_of_some_values_agree_with_a_lattice(model, eager, tmp_path):
    """Around no sample: a union of boxes, whole numbers and listed values, for all inputs and for some."""
    text = (
        HEAD
        + "strategy s = pgd -> crown -> milp\n"
        + asked({f"all_{n}": r for n, r in BOXES.items()}, "f(z)[yes] < f(z)[no] + 0.4", "")
    )
    text += asked({f"some_{n}": r for n, r in BOXES.items()}, "f(z)[yes] > f(z)[no]", "").replace("forall", "exists")
    report = verify(text, bindings={"f": model}, out=tmp_path, verbose=0)
    templates, outputs = load(text, bound=("f",)).properties, np.asarray(model(np.array(LATTICE, np.float32)))
    for record in report.records:
        some = record.property.startswith("some_")
        broken = outputs[:, 1] > outputs[:, 0] if some else outputs[:, 1] >= outputs[:, 0] + np.float32(0.4)
        found = lies_in_lattice(templates[record.property], None)
        breaks = any(bad and inside for bad, inside in zip(broken, found, strict=True))
        refuted = Outcome.VERIFIED if some else Outcome.FALSIFIED
        assert record.outcome in (Outcome.VERIFIED, Outcome.FALSIFIED)
        assert not breaks or record.outcome is refuted
        if record.outcome is refuted:
            point = tuple(Fraction(float(v)) for v in record.verdict.witness.ravel())
            assert lies_in(templates[record.property].region, templates[record.property].transform, (3,), point)


def test_the_verdict_on_a_union_has_the_least_margin_and_the_weakest_guarantee():
    strong = Verdict(Outcome.VERIFIED, guarantee=Guarantee.NUMERIC, margin=0.1)
    weak = Verdict(Outcome.VERIFIED, guarantee=Guarantee.SOLVER, margin=0.3)
    for pieces in ([strong, weak], [weak, strong]):
        together = on_all(pieces)
        assert (together.outcome, together.margin, together.guarantee) == (Outcome.VERIFIED, 0.1, Guarantee.SOLVER)


def test_what_is_open_of_a_union_tells_of_one_piece():
    """Margin and reason are those of the piece of which least is known: nothing at all, or the least margin."""
    loose = Verdict(Outcome.UNKNOWN, Reason.LOOSE.because(known="-0.2"), margin=-0.2)
    late = Verdict(Outcome.TIMEOUT, Reason.TIME_LIMIT.because(said="late"), margin=-0.1)
    never = Verdict(Outcome.TIMEOUT, Reason.TOTAL_BUDGET.because(seconds=1), margin=math.nan)
    proven = Verdict(Outcome.VERIFIED, margin=1.0)
    for pieces, told in (([late, proven, loose], loose), ([loose, late], loose), ([loose, never, proven], never)):
        together = on_all(pieces)
        assert together.margin is told.margin and together.outcome is told.outcome
        assert together.reason.startswith(str(told.reason)) and "2 pieces of" in together.reason


def test_a_sample_outside_of_its_domain_is_an_error(model, tmp_path):
    text = HEAD + "strategy s = ibp\n" + asked({"p": AROUND["share"]}, "argmax(f(z)) == y")
    for sample in ([2.5, 1, 0], [2, 4.5, 0], [2, 1, 0.5]):
        with pytest.raises(UsageError, match=r"outside of the domain"):
            verify(text, bindings={"f": model, "d": (np.array([sample], np.float32), [0])}, out=tmp_path, verbose=0)


def test_an_empty_region_is_an_error(model, tmp_path):
    text = HEAD + "strategy s = ibp\n"
    text += asked({"p": "ball(x, linf, 0.25) and box(age in integers [0, 5])"}, "argmax(f(z)) == y")
    data = np.array([[2, 1, 0], [2.5, 1, 0]], np.float32), [0, 0]
    with pytest.raises(UsageError, match=r"place 1 .*an empty region would prove nothing"):
        verify(text, bindings={"f": model, "d": data}, out=tmp_path, verbose=0)


def test_within_leaves_out_values_of_a_group(model, tmp_path):
    """Nothing is 1 in [0, 0.5]: without the bound an empty region would be proven, or a point outside be a witness."""
    region = "box(age in [0, 1], one_hot(income, sex)) within [0, {}]"
    text = HEAD + "strategy s = ibp\n" + asked({"p": region.format("0.5")}, "f(z)[yes] < f(z)[no] + 1000", "")
    with pytest.raises(SpecError, match=r"E209.*nothing lies in this region"):
        load(text, bound=("f",))
    text = HEAD + "strategy s = ibp\n" + asked({"p": region.format("1")}, "f(z)[yes] < f(z)[no] + 1000", "")
    assert verify(text, bindings={"f": model}, out=tmp_path, verbose=0).records[0].outcome is Outcome.VERIFIED


@pytest.mark.parametrize("stages", ["pgd -> crown", "milp"])
def test_a_listed_value_at_the_edge_of_a_ball_around_a_rounded_centre_counts(stages, eager, tmp_path):
    """0.1 is no float32: -0.3 is 0.4 away from what is stored, and a little more from what arrives."""
    import keras

    f = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    f.set_weights([np.array([[0, -1], [0, 0], [0, 0]], np.float32), np.zeros(2, np.float32)])  # yes is -age
    data = np.array([[0.1, 0, 0]]), [0]
    text = HEAD + f"strategy s = {stages}\n"
    text += asked({"edge": "ball(x, linf, 0.4) and box(age in {-0.3, 0.1, 0.5})"}, "f(z)[yes] <= 0.2")
    text += asked({"fixed": "ball(x, linf, 1, fixed=[age]) and box(age in {0.1, 0.5})"}, "f(z)[yes] <= -0.05")
    edge, fixed = verify(text, bindings={"f": f, "d": data}, out=tmp_path, verbose=0).records
    assert edge.outcome is not Outcome.VERIFIED
    assert fixed.outcome is Outcome.VERIFIED


def test_values_over_pieces_some_of_which_hold_nothing_around_a_sample(model, people, eager, tmp_path):
    """The largest and the smallest value are those of the pieces that hold something: bounds meet a lattice's."""
    x, _ = people
    region = "ball(x, linf, 1) and box(age in integers [0, 5])"
    text = HEAD + "strategy s = pgd -> crown -> milp\n"
    text += "".join(f"measure {way}(x in d) = {way} f(z)[yes] over z in {region} using s\n" for way in WAYS)
    report = verify(text, bindings={"f": model, "d": x}, out=tmp_path, verbose=0)
    outputs = np.asarray(model(np.array(LATTICE, np.float32)))[:, 1].astype(float)
    points = np.array(LATTICE, float)
    for record in report.records:
        inside = (np.abs(points - x[record.sample]) <= 1).all(axis=1) & np.isin(points[:, 0], range(6))
        end = WAYS[record.property](outputs[inside])
        low, high = record.measured.lower, record.measured.upper
        assert record.outcome is Outcome.VERIFIED
        assert end <= high + 1e-4 if record.property == "largest" else low - 1e-4 <= end
        assert high - low <= 1e-3 * max(1, abs(low))


def test_radii_by_input_in_a_union_of_a_model_with_several_inputs(eager, tmp_path):
    """Each part's radii are those of the model's inputs, each of which has numbers of its own."""
    import keras

    image, age = keras.Input((2,), name="image"), keras.Input((1,), name="age")
    f = keras.Model([image, age], keras.layers.Dense(1)(keras.layers.Concatenate()([image, age])))
    f.layers[-1].set_weights([np.ones((3, 1), np.float32), np.zeros(1, np.float32)])
    text = 'prop 1\nmodel f = keras("f.keras") { inputs: [image, age] }\ndataset d = npz("d.npz")\n'
    text += "strategy s = pgd -> crown\n"
    either = "ball(x, linf, eps=[image: 1, age: 0]) or ball(x, linf, eps=[image: 0, age: 3])"
    text += asked({"most": either, "less": either.replace("3", "4")}, "f(z) <= 3.5")
    x = {"image": np.zeros((1, 2), np.float32), "age": np.zeros((1, 1), np.float32)}
    most, less = verify(text, bindings={"f": f, "d": (x, [0])}, out=tmp_path, verbose=0).records
    assert most.outcome is Outcome.VERIFIED and less.outcome is Outcome.FALSIFIED


def test_points_that_agree_share_their_values(model, eager, tmp_path):
    """Two people of one age and income: what sex makes of them is at most so much, over all ages."""
    values = {point: out for point, out in zip(LATTICE, np.asarray(model(np.array(LATTICE, np.float32))), strict=True)}
    pairs = itertools.product(range(6), np.arange(0, 4.25, 0.25))
    most = max(abs(values[age, income, 1][1] - values[age, income, 0][1]) for age, income in pairs)
    fair = "forall a, b in adult where agree(a, b, except=[sex]): abs(f(a)[yes] - f(b)[yes]) <= {}"
    text = HEAD + "strategy s = pgd -> crown -> milp\n"
    text += f"property loose using s {{ {fair.format(round(float(most) * 1.5, 3))} }}\n"
    text += f"property tight using s {{ {fair.format(round(float(most) * 0.9, 3))} }}\n"
    loose, tight = verify(text, bindings={"f": model}, out=tmp_path, verbose=0).records
    assert loose.outcome is Outcome.VERIFIED and tight.outcome is Outcome.FALSIFIED
    assert {0, 1} <= set(tight.verdict.witness.tolist()) and any(v == round(v) for v in tight.verdict.witness.tolist())


def test_the_time_of_a_sample_is_that_of_its_pieces(model, people, eager, tmp_path):
    """A budget that is used up leaves a sample open, whatever the number of its pieces; seconds are theirs together."""
    x, y = people
    text = HEAD + "strategy s = crown -> milp { budget: 1ms per sample }\n"
    text += asked({"few": AROUND["few"]}, "f(z)[yes] < f(z)[no] + 100")
    text += asked({"tight": AROUND["few"]}, "f(z)[yes] < f(z)[no] + 1")
    report = verify(text, bindings={"f": model, "d": (x, y)}, out=tmp_path, verbose=0)
    assert {record.outcome for record in report.records} <= {Outcome.TIMEOUT, Outcome.VERIFIED, Outcome.FALSIFIED}
    assert any(record.outcome is Outcome.TIMEOUT for record in report.records)


def test_inputs_of_integers_have_listed_values(eager, tmp_path):
    """A count that the model takes as an integer is no interval, but each of some values; `in integers` lists few."""
    import keras

    rate, count = keras.Input((2,), name="rate"), keras.Input((1,), dtype="int32", name="count")
    both = keras.layers.Concatenate()([rate, keras.layers.Rescaling(1.0, dtype="float32")(count)])
    out = keras.layers.Dense(1)(both)
    model = keras.Model([rate, count], out)
    model.layers[-1].set_weights([np.array([[1.0], [-1.0], [2.0]]), np.zeros(1)])
    head = 'prop 1\nmodel f = keras("f.keras") { inputs: [rate, count] }\nstrategy s = pgd -> crown\n'
    ask = "property p using s {{ forall z in box(rate in [0, 1], count in {}): f(z)[0] <= {} }}"
    for values, limit, outcome in (("{0, 1, 3}", 7.1, "verified"), ("integers [0, 3]", 6.9, "falsified")):
        report = verify(head + ask.format(values, limit), bindings={"f": model}, out=tmp_path, verbose=0)
        assert str(report.records[0].outcome) == outcome
    with pytest.raises(UsageError, match="changes in steps"):
        verify(head + ask.format("[0, 3]", 8), bindings={"f": model}, out=tmp_path, verbose=0)


def test_what_a_clean_input_settles_is_asked_no_more(model, people, eager, tmp_path, monkeypatch):
    """A misclassified sample is no work for any stage, in whichever piece it lies; others go on without a budget."""
    x, y = people
    labels = np.where(np.arange(len(x)) == 1, 1 - y, y)
    text = HEAD + "strategy s = ibp -> crown\n"
    region = "ball(x, linf, 0.01) or box(age in [0, 0.5], income in [0, 4], sex in [0, 1])"
    text += asked({"p": region}, "argmax(f(z)) == y")
    get, given = OpenStages.get, []

    def noted(stages, spec, task, kind=None):
        given.extend(task.samples.tolist())
        return get(stages, spec, task, kind)

    monkeypatch.setattr(OpenStages, "get", noted)
    report = verify(text, bindings={"f": model, "d": (x, labels)}, out=tmp_path, verbose=0)
    wrong = next(record for record in report.records if record.sample == 1)
    assert wrong.outcome is Outcome.FALSIFIED and wrong.verdict.stage == "clean"
    assert set(given) == set(range(len(x))) - {1}
