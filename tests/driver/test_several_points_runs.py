"""Runs of questions about several points and networks: what they are bound to, refuse, save, and resume."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcert.cli.main import main
from tfcert.driver.bind import bind
from tfcert.driver.explain import explain
from tfcert.driver.verify import verify
from tfcert.errors import JournalError, UsageError
from tfcert.language import load

pytestmark = pytest.mark.usefixtures("eager")

HEAD = """prop 1
model f = keras("f.keras") { inputs: [age, pay] }
model g = keras("g.keras") { inputs: [age, pay] }
dataset d = npz("d.npz")
"""
BOX = "box(age in [0, 1], pay in [0, 1])"


def linear(*rows: list[float], bias: list[float] | None = None) -> keras.Model:
    """A model whose outputs are these rows times its two inputs."""
    model = keras.Sequential([keras.Input((len(rows[0]),)), keras.layers.Dense(len(rows))])
    model.set_weights([np.array(rows, "float32").T, np.array(bias or [0.0] * len(rows), "float32")])
    return model


F, G = linear([1, 2], [2, -1]), linear([1, 2], [1.5, -1])
X = np.array([[0.25, 0.5], [0.75, 0.25], [0.5, 1.0]], np.float32)
DATA = (X, np.array([0, 0, 1]))
NAMES = {"f": F, "g": G, "d": DATA}


def run(body: str, tmp_path: Path, stages: str = "pgd -> crown", **bindings: Any) -> Any:
    text = f"{HEAD}strategy s = {stages}\n{body}\n"
    return verify(text, bindings={**NAMES, **bindings}, verbose=0, out=tmp_path / "out")


def outcomes(report: Any) -> list[str]:
    return [str(record.outcome) for record in report.records]


def bound(body: str, **bindings: Any) -> Any:
    names = {**NAMES, **bindings}
    return bind(load(f"{HEAD}{body}\n", bound=tuple(names)), names).tasks[0]


def test_a_witness_is_saved_point_by_point_and_breaks_the_formula_on_the_models(tmp_path):
    body = f"property p using s {{ forall a, b in {BOX} where agree(a, b, except=[pay]): f(a)[0] - g(b)[1] <= 2 }}"
    (record,) = run(body, tmp_path).records
    saved = np.load(tmp_path / "out" / record.witness)
    a, b = saved["a"], saved["b"]
    assert str(record.outcome) == "falsified" and saved["witness"].shape == (3,) and a[0] == b[0]
    assert all(((z >= 0) & (z <= 1)).all() for z in (a, b))
    assert float(F(a[None])[0, 0]) - float(G(b[None])[0, 1]) > 2


def test_points_around_a_sample_are_saved_beside_it(tmp_path):
    body = "property p(witness, y in d) using s { forall z in ball(witness, linf, 0.1): f(z)[0] == g(z)[1] }"
    record = run(body, tmp_path).records[0]
    saved = np.load(tmp_path / "out" / record.witness)
    assert (saved["original"] == X[0]).all() and saved["label"] == 0 and saved["z"].shape == (2,)


def test_a_condition_that_no_input_meets_is_an_error_and_no_pass():
    for body in (
        f"property p {{ forall z in {BOX} where z[age] + z[pay] >= 3: f(z)[0] >= 0 }}",
        "property p(x, y in d) { forall z in ball(x, linf, 0.1) where z[age] >= x[age] + 0.5: f(z)[0] >= 0 }",
        # No float64 tells these two numbers apart.
        f"property p {{ forall z in {BOX} where z[age] >= 0.1 and z[age] <= 0.1 - 1e-19: f(z)[0] >= -9 }}",
        f"property p {{ forall z in {BOX} where 3*z[age] + z[pay] >= 0.7 and 6*z[age] + 2*z[pay] <= 1.4 - 1e-17: "
        "f(z)[0] >= -9 }",
    ):
        with pytest.raises(UsageError, match=r"p: no input of the region.* meets? the conditions"):
            bound(body)
    with pytest.raises(UsageError, match="empty: points that share a number"):
        bound(f"property p {{ forall a in {BOX}, b in box([2, 3]) where agree(a, b): f(a)[0] >= f(b)[1] }}")


@pytest.mark.parametrize("stages", ["pgd", "crown", "split", "milp"])
def test_an_equality_of_two_points_holds_for_all_of_what_they_share(stages, tmp_path):
    """``f(a) - g(b)`` is 0.5 age in output 1, where both points are one: only the shared number is left."""
    same = f"forall a, b in {BOX} where agree(a, b): f(a)[1] - g(b)[1]"
    body = f"property p using s {{ {same} <= 0.51 }}\nproperty q using s {{ {same} <= 0.49 }}"
    first, second = outcomes(run(body, tmp_path, stages))
    assert (first, second) == {
        "pgd": ("unknown", "falsified"), "crown": ("verified", "unknown"),
    }.get(stages, ("verified", "falsified"))  # fmt: skip


def test_some_point_is_asked_for_with_the_answers_exchanged(tmp_path):
    some = f"exists a, b in {BOX} where b[pay] >= a[pay] + 0.5: f(a)[0] - f(b)[0]"
    body = f"property p using s {{ {some} >= -0.01 }}\nproperty q using s {{ {some} >= 0.01 }}"
    assert outcomes(run(body, tmp_path, "pgd -> split")) == ["verified", "falsified"]


def test_samples_are_chosen_by_their_numbers_and_by_what_networks_say(tmp_path):
    """f says class 1 of the second sample alone: 1.25 against 1.25 is a tie, and none of the two."""
    ball = "forall z in ball(x, linf, 0): f(z)[0] >= -9"
    chosen = {
        "x[age] >= 0.5": [1, 2],
        "argmax(f(x)) == 0": [0, 2],
        "argmax(f(x)) == 0 and x[pay] < 1": [0],
        "argmax(f(x)) == y": [0],
        "f(x)[0] > 2": [2],
    }
    for where, samples in chosen.items():
        assert bound(f"property p(x, y in d where {where}) {{ {ball} }}").samples.tolist() == samples


def test_what_the_sample_gives_is_exact():
    task = bound("property p(x, y in d) { forall z in ball(x, linf, 0.1): f(z)[0] - f(x)[1] <= x[pay] + z[age] }")
    facts = task.facts[1]
    assert facts.features == (Fraction(3, 4), Fraction(1, 4)) and facts.outputs[1] == (Fraction(5, 4), Fraction(5, 4))
    assert task.holds(1, np.array([1.25, 1.25, 0.75])) and not task.holds(1, np.array([2.5, 0, 0.5]))


def test_a_measure_of_two_points_is_closed_in_on(tmp_path):
    """``f(a) - f(b)`` in output 0 is at most (1 + 2) 2 r on two balls of radius r: 0.6 is reached at 0.1."""
    body = (
        "measure m(x, y in d) = largest r in [0, 1] tol 1% such that "
        "forall a in ball(x, linf, r), b in ball(x, linf, r): f(a)[0] - f(b)[0] <= 0.6 using s"
    )
    for record in run(body, tmp_path, "pgd -> crown").records:
        assert 0.098 <= record.measured.lower <= 0.1 + 1e-6 <= record.measured.upper + 2e-6
        assert record.measured.upper <= 0.12


def test_a_run_is_not_resumed_with_another_second_network(tmp_path):
    body = "property p(x, y in d) using s { forall z in ball(x, linf, 0.1): abs(f(z)[0] - g(z)[0]) <= 1 }"
    run(body, tmp_path)
    folder = tmp_path / "out"
    journal = folder / "journal.jsonl"
    journal.write_text("\n".join(journal.read_text().splitlines()[:2]) + "\n")
    text = f"{HEAD}strategy s = pgd -> crown\n{body}\n"
    with pytest.raises(JournalError, match="what g computes"):
        verify(text, bindings={**NAMES, "g": linear([1, 2], [3, -1])}, verbose=0, resume=folder)
    assert outcomes(verify(text, bindings=NAMES, verbose=0, resume=folder)) == ["verified"] * 3


def test_networks_with_several_inputs_take_points_and_the_sample_side_by_side(tmp_path):
    one, other = keras.Input((2,), name="now"), keras.Input((2,), name="before")
    pair = keras.Model([one, other], keras.layers.Dense(1)(keras.layers.Concatenate()([one, other])))
    pair.set_weights([np.array([[1.0], [1.0], [-1.0], [-1.0]]), np.zeros(1)])
    head = 'prop 1\nmodel pair = keras("p.keras") { inputs: [now, before] }\ndataset d = npz("d.npz")\n'
    head += "strategy s = pgd -> crown\n"
    text = "property {}(x, y in d) using s {{ forall z in ball(x, linf, 0.1): abs(pair(z, x)[0]) <= {} }}\n"
    body = head + text.format("p", 0.201) + text.format("q", 0.199)
    report = verify(body, bindings={"pair": pair, "d": DATA}, verbose=0, out=tmp_path / "out")
    assert outcomes(report) == ["verified"] * 3 + ["falsified"] * 3


def test_what_cannot_be_asked_together_is_refused(tmp_path, capsys):
    wide = keras.Input((2,), dtype="float64")
    double = keras.Model(wide, keras.layers.Dense(2, dtype="float64")(wide))
    two = "property p(x, y in d) { forall z in ball(x, linf, 0.1): f(z)[0] <= g(z)[0] }"
    for model, said in (
        (double, "float32 and float64"),
        (linear([1, 2, 3], [1, 2, 3]), "names|sizes|inputs"),
    ):
        with pytest.raises((UsageError, ValueError), match=said):
            bound(two, g=model)
    with pytest.raises(UsageError, match="no output 5: g has 2"):
        bound(two.replace("g(z)[0]", "g(z)[5]"))
    at_the_sample = two.replace("g(z)", "g(x)").replace("f(z)[0]", "f(z)[0] - z[0]")
    assert bound(at_the_sample, g=double), "a constant of each sample has whatever type"
    linear([1, 2], [1, 2]).save(tmp_path / "f.keras")
    double.save(tmp_path / "g.keras")
    np.savez(tmp_path / "d.npz", x=X, y=DATA[1])
    for text, code in ((two, 4), (at_the_sample, 0)):
        (tmp_path / "s.prop").write_text(HEAD + text)
        assert main(["check", str(tmp_path / "s.prop")]) == code
        assert ("compute in float32 and float64" in capsys.readouterr().err) == (code == 4)


def test_explain_says_the_points_the_networks_and_what_binds_them():
    text = (
        f"{HEAD}property p(x, y in d) {{ forall a in ball(x, linf, 0.1), b in {BOX} "
        "where agree(a, b, except=[pay]) and a[pay] <= b[pay]: f(a)[0] + g(x)[0] >= g(b)[1] - a[pay] }\n"
    )
    said = explain(load(text, bound=("f", "g", "d")))
    for line in (
        "of f (bound by the caller), g (bound by the caller)",
        "network: f(a), g(b), as one of one input vector",
        "constants of each sample: g(x)",
        "region of a: linf ball of radius 1/10",
        "region of b: a box of 2 intervals",
        "where: 1 condition on the inputs",
        "shared: a and b agree in all numbers but pay",
        "rows: over the outputs and 2 inputs beside them",
    ):
        assert line in said, line


def test_a_point_may_agree_with_the_sample_in_some_numbers(tmp_path):
    """What the sample holds fixed does not move: f's first output moves by 2 pay alone."""
    near = f"forall z in {BOX} where agree(z, x, except=[pay]): f(z)[0]"
    body = "".join(
        f"property p{i}(x, y in d) using s {{ {near} <= x[age] + {most} }}\n" for i, most in enumerate((2.01, 1.99))
    )
    report = run(body, tmp_path)
    assert outcomes(report) == ["verified"] * 3 + ["falsified"] * 3
    saved = np.load(tmp_path / "out" / report.records[4].witness)
    assert saved["z"][0] == X[1, 0] and saved["z"][1] > 0.99


def test_a_sample_at_the_end_of_a_box_may_be_agreed_with_however_it_is_normalised(tmp_path):
    """``(0 - 0.3) / 0.7`` arrives as a float32 below it, where the box ends: the number is the sample's own."""
    head = HEAD.replace('"d.npz")', '"d.npz") { normalize: { mean: [0.1, 0.3] std: [0.3, 0.7] } }')
    text = head + "strategy s = pgd -> crown\n" + "".join(
        f"property p{i}(x, y in d) using s {{ forall z in {BOX} in raw where agree(z, x, except=[age]): "
        f"f(z)[0] <= {3 - 2 * 0.3 / 0.7 + room:.6f} }}\n" for i, room in enumerate((0.01, -0.01))
    )  # fmt: skip
    x = np.array([[1, 0]], np.float32)
    report = verify(text, bindings={**NAMES, "d": (x, [0])}, verbose=0, out=tmp_path / "out")
    assert outcomes(report) == ["verified", "falsified"]
    arrived = np.float32(-0.3 / 0.7)
    assert Fraction(float(arrived)) < Fraction(-3, 7)
    assert np.load(tmp_path / "out" / report.records[1].witness)["z"][1] == arrived


def test_integers_are_held_fixed_at_every_point():
    size, kind = keras.Input((1,), name="size"), keras.Input((1,), name="kind", dtype="int32")
    both = keras.layers.Concatenate()([size, keras.ops.cast(kind, "float32")])
    model = keras.Model([size, kind], keras.layers.Dense(1)(both))
    head = 'prop 1\nmodel f = keras("f.keras") { inputs: [size, kind] }\n'
    text = "property p {{ forall a, b in box(size in [0, 1], kind in [{}]): f(a)[0] >= f(b)[0] }}\n"
    with pytest.raises(UsageError, match="input kind holds int32"):
        bind(load(head + text.format("0, 1"), bound=("f",)), {"f": model})
    (task,) = bind(load(head + text.format("1, 1"), bound=("f",)), {"f": model}).tasks
    assert task.placed.vector.size == 4


def test_pictures_show_the_only_point_and_what_each_network_says(tmp_path, monkeypatch):
    drawn: list[Any] = []
    monkeypatch.setattr("tfcert.report.figures.draw_witnesses", lambda *given: drawn.append(given))
    networks = [keras.Sequential([keras.Input((3, 3, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]) for _ in "fg"]
    for model, sign, bias in zip(networks, (1, -1), (0.3, -0.1), strict=True):
        model.set_weights([sign * np.stack([np.ones(9), -np.ones(9)], 1), np.array([0.0, bias])])
    images = np.full((1, 3, 3, 1), 0.02, np.float32)
    head = 'prop 1\nmodel f = keras("f.keras")\nmodel g = keras("g.keras")\ndataset d = npz("d.npz")\n'
    either = "argmax(f(z)) == 0 or argmax(g(z)) == 0"
    text = f"strategy s = pgd\nproperty p(x, y in d) using s {{ forall z in ball(x, linf, 0.02): {either} }}\n"
    names = {"f": networks[0], "g": networks[1], "d": (images, np.zeros(1, int))}
    (record,) = verify(head + text, bindings=names, verbose=0, out=tmp_path / "out").records
    assert record.verdict.stage == "pgd"
    (picture,) = drawn[0][3]
    assert picture.witness.shape == (3, 3, 1) and picture.witness_caption == "predicted 1, predicted 1"
    assert "predicted 0, predicted 1" in picture.original_caption


def test_stages_refuse_before_anything_runs_what_they_cannot_take():
    two = "property p(x, y in d) using s { forall z in ball(x, linf, 0.1): f(z)[0] <= g(z)[0] + 9 }"
    for stage, said in (
        ("milp(targets=runner_up)", "of one network at one point"),
        ("split(guide=pgd)", "needs a `ball`"),
    ):
        with pytest.raises(UsageError, match=said):
            bound(f"strategy s = {stage}\n{two}")


def test_records_say_the_balls_only_where_all_points_lie_in_alike_ones(tmp_path):
    balls = ("ball(x, linf, 0.1), b in ball(x, linf, 0.1)", "ball(x, linf, 0.1), b in ball(x, l2, 0.1)")
    body = "\n".join(
        f"property p{i}(x, y in d) using s {{ forall a in {ball}: f(a)[0] <= g(b)[0] + 9 }}"
        for i, ball in enumerate(balls)
    )
    alike, apart = (r.asked for r in run(body, tmp_path, "crown").records if r.sample == 0)
    assert (alike.norm, alike.eps) == ("linf", 0.1) and apart.norm == "" and np.isnan(apart.eps)
    assert not any(record.prediction is not None for record in run(body, tmp_path / "again", "crown").records)


def test_of_many_samples_each_is_chosen_by_its_own_numbers_whether_read_at_once_or_one_by_one():
    x = np.random.default_rng(1).random((600, 2)).astype(np.float32)
    said = np.asarray(F(x))
    wanted = np.flatnonzero((said[:, 0] > said[:, 1]) & (x[:, 1] >= 0.25))
    stream = tf.data.Dataset.from_tensor_slices((x, np.zeros(600, np.int64))).batch(50)
    for data in ((x, np.zeros(600, int)), stream):
        body = "property p(x, y in d where argmax(f(x)) == 0 and x[pay] >= 0.25) { forall z in ball(x, linf, 0.1): "
        plain = bound(body + "f(z)[0] >= f(x)[0] + x[age] - 9 }", d=data)
        several = bound(body + "f(z)[0] >= g(z)[1] + x[age] - 9 }", d=data)
        for task in (plain, several):
            assert task.samples.tolist() == wanted.tolist()
            assert task.facts[-1].features[0] == Fraction(float(x[wanted[-1], 0]))
        assert float(plain.facts[-1].outputs[1][0]) == pytest.approx(said[wanted[-1], 0], rel=1e-6)
        assert (several.placed.around[0] == x[wanted]).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_least_distance_at_which_two_networks_differ_is_found_by_a_solver(norm, tmp_path):
    """``f - g`` is 0.5 age in output 1: it passes 0.5 where age passes 1, so at 1 less the sample's own."""
    body = (
        f"measure m(x, y in d) = largest r in [0, 1] such that "
        f"forall z in ball(x, {norm}, r): f(z)[1] - g(z)[1] <= 0.5 using s"
    )
    for record, age in zip(run(body, tmp_path, "crown -> milp").records, X[:, 0], strict=True):
        assert record.measured.lower == pytest.approx(1 - age, rel=1e-3)
        assert record.measured.upper == pytest.approx(1 - age, rel=1e-3)
