"""Charts say what records say: curves against the definition, files that repeat, units on every axis."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tfcert import plots
from tfcert.cli.main import main
from tfcert.errors import UsageError
from tfcert.report import Asked, ExitCode, Measured, Record, Report, figures
from tfcert.report.charts import STYLES
from tfcert.report.robustness import curve_of_radii, curves_of_records
from tfcert.verdict import Guarantee, Outcome, Verdict

drawn = pytest.mark.skipif(not figures.available(), reason="matplotlib is not installed")
UNIT = Asked("linf", math.nan, "unit", "all")


def radii(count: int = 60) -> tuple[Record, ...]:
    """Of a tenth of the samples the unperturbed input is wrong; of a third nothing refutes the largest radius."""
    numbers = np.random.default_rng(3)
    found = []
    for i in range(count):
        lower = round(float(numbers.gamma(2.0, 0.05)), 3)
        upper = math.nan if i % 3 == 0 else lower + float(numbers.random()) * 0.1
        wrong = i % 10 == 9
        stage, outcome = ("clean", Outcome.FALSIFIED) if wrong else ("crown", Outcome.VERIFIED)
        ends = Measured(0.0, 0.0) if wrong else Measured(math.nan if i % 7 == 0 else lower, upper)
        verdict = Verdict(outcome, "", stage, stage, guarantee=Guarantee.REAL, seconds=0.01 * i)
        found.append(Record("far", i, verdict, UNIT, ends, float(i % 4), i % 4))
    return tuple(found)


def asked_at(eps: float, outcomes: str, name: str = "robust(eps={})") -> list[Record]:
    """Records of one property by the first letters of their outcomes."""
    which = {outcome.value[0]: outcome for outcome in Outcome}
    asked = replace(UNIT, eps=eps)
    return [Record(name.format(eps), i, Verdict(which[o], seconds=0.1), asked) for i, o in enumerate(outcomes)]


@pytest.fixture
def report() -> Report:
    records = (*radii(), *asked_at(0.1, "vvvf"), *asked_at(0.2, "vuff"))
    return Report({}, records, ExitCode.PASS, ("robust(eps=0.1)", "robust(eps=0.2)"), ("far",))


def shares_at(eps: float, records: tuple[Record, ...]) -> tuple[float, float]:
    """The definition: who is proven at a radius, and who is not refuted there."""
    wrong = [r.verdict.stage == "clean" for r in records]
    ends = [(r.measured.lower, r.measured.upper) for r in records]
    proven = [not w and (eps == 0 or low >= eps) for w, (low, _) in zip(wrong, ends, strict=True)]
    refuted = [w or high <= eps for w, (_, high) in zip(wrong, ends, strict=True)]
    return float(np.mean(proven)), 1 - float(np.mean(refuted))


def at(curve, eps: float) -> tuple[float, float]:
    """What a curve is drawn as at a radius: certified from the step after it, attacked from the one before."""
    return (
        float(curve.certified[np.searchsorted(curve.eps, eps, "left")]),
        float(curve.attacked[np.searchsorted(curve.eps, eps, "right") - 1]),
    )


def test_a_curve_of_radii_is_what_is_proven_and_not_refuted_at_each_of_them():
    records = radii()
    (curve,) = curves_of_records(records)
    known = sorted({e for r in records for e in (r.measured.lower, r.measured.upper) if math.isfinite(e)})
    between = [(a + b) / 2 for a, b in itertools.pairwise(known)]
    for eps in (*known, *between):
        assert at(curve, eps) == pytest.approx(shares_at(eps, records)), eps
    assert curve.certified[-1] == 0 and curve.unit == "linf, unit space" and curve.samples == len(records)


def test_a_thinned_curve_promises_no_more_than_the_whole():
    numbers = np.random.default_rng(1)
    lower = numbers.gamma(2.0, 0.1, 3000)
    whole = curve_of_radii("r", lower, lower + numbers.random(3000))
    thin = whole.thinned(50)
    assert len(thin.eps) <= 50 < len(whole.eps)
    for eps in np.linspace(0, whole.eps[-1], 500):
        (less, more), (certified, attacked) = at(thin, eps), at(whole, eps)
        assert less <= certified <= attacked <= more
    assert thin.certified[0] == whole.certified[0]


def test_properties_that_differ_in_more_than_their_radius_are_several_curves():
    names = [("p(eps={}, k=1)", 0.1, "vv"), ("p(eps={}, k=1)", 0.2, "vf"), ("p(eps={}, k=2)", 0.1, "ff"),
             ("p(eps={}, k=2)", 0.2, "ff"), ("q(k=1)", 0.1, "vv"), ("q(k=2)", 0.1, "ff")]  # fmt: skip
    curves = curves_of_records([r for name, eps, outcomes in names for r in asked_at(eps, outcomes, name)])
    found = {curve.name: list(curve.certified) for curve in curves}
    assert found == {"p(k=1)": [1, 0.5], "p(k=2)": [0, 0], "q(k=1)": [1], "q(k=2)": [0]}


def test_properties_that_differ_in_their_radius_are_one_curve_and_other_questions_none():
    some = replace(UNIT, eps=0.1, quantifier="exists")
    plain = replace(UNIT, eps=0.1, labelled=False)
    others = [Record("some", 0, Verdict(Outcome.VERIFIED), some), Record("safe", 0, Verdict(Outcome.VERIFIED), plain)]
    value = [Record("most", 0, Verdict(Outcome.VERIFIED), replace(UNIT, measures="value"), Measured(1.0, 2.0))]
    (curve,) = curves_of_records([*asked_at(0.2, "vutf"), *asked_at(0.1, "vvuf"), *others, *value])
    assert curve.name == "robust" and list(curve.eps) == [0.1, 0.2]
    assert list(curve.certified) == [0.5, 0.25] and list(curve.attacked) == [0.75, 0.75]


@drawn
def test_what_is_drawn_between_radii_that_were_asked_about_follows_from_them():
    """Not from a straight line between two of them, which promises more than is proven; nothing of other samples."""
    runs = [Report({}, tuple(asked_at(e, o)), ExitCode.PASS, ("p",)) for e, o in ((0.1, "vvuf"), (0.2, "vuff"))]
    axes = plots.accuracy(*runs)
    certified, attacked = axes.lines
    for band in axes.collections:
        assert set(map(tuple, band.get_paths()[0].vertices)) == {(e, y) for e in (0.1, 0.2) for y in (0.25, 0.75)}
    assert (certified.get_drawstyle(), attacked.get_drawstyle()) == ("steps-pre", "steps-post")
    other = Report({}, tuple(asked_at(0.2, "vuf")), ExitCode.PASS, ("p",))
    assert [line.get_linestyle() for line in plots.accuracy(runs[0], other).lines] == ["None", "None"]


@drawn
def test_runs_of_two_models_are_two_curves(tmp_path):
    runs = [
        Report(
            {"weights_sha256": {"clf": name}, "spec": f"{name}.prop"}, tuple(asked_at(0.1, o)), ExitCode.PASS, ("p",)
        )
        for name, o in (("a", "vv"), ("b", "ff"))
    ]
    axes = plots.accuracy(*runs)
    assert [float(line.get_ydata()[0]) for line in axes.lines] == [1, 1, 0, 0]
    assert axes.lines[0].get_label() == "a.prop, robust(eps=0.1): certified"


@drawn
def test_every_chart_of_a_run_has_units_and_a_legend(report, tmp_path):
    report.save_json(tmp_path / "result.json")
    for axes in (
        plots.accuracy(report),
        plots.histogram(tmp_path / "result.json"),
        plots.radii_by_class(report),
        plots.shares(report, "far"),
        plots.cactus(report),
    ):
        assert axes.get_xlabel() and axes.get_ylabel() and axes.get_legend() is not None
        assert any(word in axes.get_xlabel() + axes.get_ylabel() for word in ("linf, unit space", "seconds"))
    with pytest.raises(UsageError, match="no measure 'near'; there are far"):
        plots.histogram(report, "near")


@drawn
def test_what_one_result_proves_and_another_refutes_is_one_curve():
    class Radii:
        radius, norm = np.array([0.1, 0.2, 0.0]), "l2"

    class Attacks:
        distance = np.array([0.3, np.nan, 0.0])

    axes = plots.accuracy(Radii(), Attacks())
    certified, attacked = axes.lines
    assert list(certified.get_ydata()) == pytest.approx([2 / 3, 2 / 3, 1 / 3, 0, 0])
    assert list(attacked.get_ydata()) == pytest.approx([2 / 3, 2 / 3, 2 / 3, 1 / 3, 1 / 3])
    with pytest.raises(UsageError, match="3, 2 samples"):
        Attacks.distance = np.array([0.3, 0.1])
        plots.accuracy(Radii(), Attacks())


@drawn
def test_a_change_is_drawn_around_nothing_with_marks_where_there_is_less():
    before = np.full((5, 5, 1), 0.5)
    after = before.copy()
    after[1, 2], after[3, 4] = 0.9, 0.4
    axes = plots.change(before, after, unit="unit space")
    assert axes.images[0].get_clim() == pytest.approx((-0.4, 0.4)) and axes.images[0].get_cmap().name == "RdBu_r"
    assert [list(part) for part in axes.lines[0].get_data()] == [[4], [3]]
    assert axes.get_title().startswith("2 of 25 numbers changed, by at most 0.4")
    with pytest.raises(UsageError, match="two images of one shape"):
        plots.change(before, after[:4])


@drawn
def test_the_verb_draws_every_chart_as_vectors(report, tmp_path, capsys):
    report.save_json(tmp_path / "result.json")
    main(["report", str(tmp_path / "result.json"), "--figures", str(tmp_path / "a")])
    names = {f"{n}.svg" for n in ("accuracy-0", "accuracy-1", "values-0", "classes-0", "seconds")}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names
    assert capsys.readouterr().err.count("drawn: ") == 5


@drawn
@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_a_figure_makes_the_same_file_each_time(report, tmp_path, kind):
    for folder in "ab":
        plots.save(plots.accuracy(report), tmp_path / folder / f"accuracy.{kind}")
    assert (tmp_path / "a" / f"accuracy.{kind}").read_bytes() == (tmp_path / "b" / f"accuracy.{kind}").read_bytes()


@drawn
def test_witnesses_of_a_run_are_drawn_beside_their_samples(tmp_path):
    (tmp_path / "witnesses").mkdir()
    image = np.random.default_rng(0).random((6, 6, 1))
    for i, change in enumerate((0.1, 0.0)):  # of the second one nothing changed: it is no picture of a change
        np.savez(tmp_path / "witnesses" / f"{i}.npz", witness=image + change, original=image)
    verdict = Verdict(Outcome.FALSIFIED, guarantee=Guarantee.REPLAYED)
    records = tuple(Record("p", i, verdict, witness=f"witnesses/{i}.npz") for i in range(2))
    found = Report({}, records, ExitCode.FAIL, ("p",), folder=Path(tmp_path))
    titles = [axes.get_title() for axes in plots.witnesses(found).axes]
    assert "sample 0" in titles and "sample 1" not in titles and "36 more, 0 less\nscale ±0.1" in titles
    with pytest.raises(UsageError, match="no witness that can be drawn"):
        plots.witnesses(found, question="q")


def test_lines_side_by_side_differ_without_colour():
    for first in range(len(STYLES) - 3):
        assert len({dash for dash, _ in STYLES[first : first + 4]}) == 4
    assert len(set(STYLES)) == len(STYLES)
