"""Summaries, tables, JSON and pictures."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tfcert.errors import UsageError
from tfcert.report import Asked, ExitCode, Measured, Record, Report, figures, summarize_measure, summarize_property
from tfcert.report.attacks import AttackReport
from tfcert.report.json import read_lines, write_result
from tfcert.report.records import number
from tfcert.report.stored import read_result
from tfcert.report.summary import MeasureSummary, PropertySummary
from tfcert.report.table import measure_tables, property_tables, record_line, render
from tfcert.verdict import Guarantee, Outcome, Verdict


def verdict(outcome: Outcome, stage: str = "crown", guarantee: Guarantee | None = Guarantee.NUMERIC) -> Verdict:
    return Verdict(outcome, "", stage, stage, guarantee=guarantee, margin=0.5, seconds=0.5)


def records() -> tuple[Record, ...]:
    found = [
        verdict(Outcome.VERIFIED),
        verdict(Outcome.VERIFIED),
        verdict(Outcome.FALSIFIED, "pgd", Guarantee.REPLAYED),
        verdict(Outcome.FALSIFIED, "clean", Guarantee.REPLAYED),
        verdict(Outcome.UNKNOWN, guarantee=Guarantee.ESTIMATE),
        verdict(Outcome.TIMEOUT, guarantee=Guarantee.ESTIMATE),
        verdict(Outcome.UNKNOWN, guarantee=Guarantee.ESTIMATE),
        verdict(Outcome.UNKNOWN, guarantee=Guarantee.ESTIMATE),
    ]
    asked = Asked("linf", 0.1, "unit", "all")
    return tuple(Record("robust", i, v, asked, None, 3, 3) for i, v in enumerate(found))


def measured() -> tuple[Record, ...]:
    values = [(0.1, 0.2), (0.3, math.nan), (math.nan, 0.4), (0.0, 0.0)]
    asked = Asked("l2", math.nan, "unit", "all")
    return tuple(Record("radius", i, verdict(Outcome.VERIFIED), asked, Measured(*v)) for i, v in enumerate(values))


@pytest.fixture
def report() -> Report:
    every = (*records(), *measured())
    return Report({"tfcert": "0"}, every, ExitCode.FAIL, ("robust",), ("radius",), notes=("a note",))


def test_accuracies_are_shares_of_all_samples():
    s = summarize_property("robust", records())
    assert (s.total, s.correct) == (8, 7)
    assert s.nominal_accuracy == 7 / 8
    assert s.verified_accuracy == 2 / 8
    assert s.attack_accuracy == 6 / 8
    assert s.outcomes == {Outcome.VERIFIED: 2, Outcome.FALSIFIED: 2, Outcome.UNKNOWN: 3, Outcome.TIMEOUT: 1}
    assert s.guarantees == ("numeric", "replayed")


def test_a_measure_counts_what_is_not_proven_as_nothing_and_what_is_not_refuted_as_beyond_the_rest(report):
    s = summarize_measure("radius", measured())
    assert s.unit == "l2, unit space"
    line = next(line for line in str(report).splitlines() if line.lstrip().startswith("radius"))
    assert line.split()[-7:] == ["4", "0.05", "0.1", "0", "0.3", "0.3", "numeric"]


def existential() -> Report:
    """Two of four samples with a witness, one of them unperturbed; a smallest radius beside a largest one."""
    asked = Asked("linf", 0.1, "unit", "all", "exists")
    found = [
        verdict(Outcome.VERIFIED, "pgd", Guarantee.REPLAYED),
        verdict(Outcome.VERIFIED, "clean", Guarantee.REPLAYED),
        verdict(Outcome.FALSIFIED, "milp", Guarantee.SOLVER),
        verdict(Outcome.UNKNOWN, guarantee=Guarantee.ESTIMATE),
    ]
    some = tuple(Record("some", i, v, asked, None, 3, 3) for i, v in enumerate(found))
    least = tuple(replace(r, property="least", asked=replace(asked, eps=math.nan)) for r in measured())
    return Report({}, (*some, *least, *measured()), ExitCode.PASS, ("some",), ("radius", "least"))


def test_some_input_s_rates_count_witnesses_and_no_attack_refutes_it():
    s = existential().summary("some")
    assert s.existential and (s.total, s.correct, s.nominal_accuracy, s.verified_accuracy) == (4, 1, 0.25, 0.5)
    assert math.isnan(s.attack_accuracy)
    assert s.guarantees == ("solver", "replayed")
    shown = str(existential())
    line = next(line for line in shown.splitlines() if line.lstrip().startswith("some"))
    assert line.split() == ["some", "4", "2", "1", "1", "0", "solver"]
    assert "(exists)" in shown and "found" in shown and "accuracy" not in shown


def test_a_question_about_no_label_has_outcomes_and_no_accuracy():
    box = Asked("", math.nan, "raw", labelled=False)
    one = Record("safe", 0, verdict(Outcome.VERIFIED), box)
    shown = str(Report({}, (one,), ExitCode.PASS, ("safe",)))
    assert "accuracy" not in shown and "correct" not in shown
    line = next(line for line in shown.splitlines() if line.lstrip().startswith("safe"))
    assert line.split() == ["safe", "1", "1", "0", "0", "0", "numeric"]


def test_an_attack_has_witnesses_and_no_proofs():
    found = tuple(replace(r, property="attack") for r in records()[2:])
    shown = str(AttackReport({}, found, ExitCode.PASS, ("attack",)))
    assert "verified" not in shown
    line = next(line for line in shown.splitlines() if line.lstrip().startswith("attack"))
    assert line.split() == ["attack", "6", "1", "1", "4", "83.3%", "66.7%"]


def test_an_interrupted_run_says_of_how_many_samples_it_has_an_answer(report):
    shown = str(replace(report, asked={"robust": 10, "radius": 4}))
    assert "8 of 10" in shown and "4 of 4" not in shown


def test_one_is_no_plural_and_no_line_of_a_table_ends_in_blanks(report):
    one = replace(report, records=report.records[:1], measures=())
    assert one.last_line() == "fail (exit code 1), 1 verdict"
    assert not [line for line in str(report).splitlines() if line != line.rstrip()]


@pytest.mark.parametrize("width", [80, 120])
def test_smallest_radii_have_a_table_that_says_what_their_ends_are(width):
    largest, smallest = render(existential().parts(width)[-2:], width).split("measure")[1:]
    assert "witness" not in largest and "refuted" in largest
    for word in ("(smallest)", "lower", "bound", "witness", "at", "least"):
        assert word in smallest
    assert "refuted" not in smallest and max(map(len, smallest.splitlines())) <= width
    line = next(line for line in smallest.splitlines() if "least" in line)
    assert line.split()[-7:-1] == ["4", "0.05", "0.1", "0", "0.3", "0.3"]


def test_a_smallest_radius_s_line_says_bound_and_witness():
    lines = {r.property: record_line(r) for r in existential().records if r.sample == 0}
    assert "least[0] verified at least 0.1, witness at 0.2 by crown" in lines["least"]
    assert "radius[0] verified 0.1 proven, 0.2 refuted by crown" in lines["radius"]
    assert "some[0] verified by pgd" in lines["some"]


def test_the_table_shows_every_count(report):
    line = next(line for line in str(report).splitlines() if line.lstrip().startswith("robust"))
    assert line.split()[:7] == ["robust", "8", "7", "2", "2", "3", "1"]
    assert "fail (exit code 1)" in str(report)


def test_a_narrow_terminal_gets_every_word_whole(report):
    shown = render(report.parts(80), 80)
    for word in ("falsified", "timeout", "accuracy", "robust", "median", "replayed"):
        assert word in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_names_with_markup_are_printed_as_they_are():
    odd = Record("a[red]b", 0, verdict(Outcome.VERIFIED))
    assert "a[red]b" in str(Report({}, (odd,), ExitCode.PASS, ("a[red]b",)))


def test_every_verdict_line_carries_its_guarantee():
    for record in records():
        assert str(record.verdict.guarantee) in record_line(record)


def test_in_100_columns_neither_a_name_nor_a_guarantee_is_broken():
    """Catches a column that is squeezed until words of other columns are cut in two."""
    counts = dict(zip(Outcome, (91, 9, 0, 0), strict=True))
    levels = ("float32-any-order", "replayed")
    asked = PropertySummary("robust_near", 100, 95, counts, levels, 1.5)
    low, high = np.full(100, 0.08271), np.full(100, 0.1151)
    radius = MeasureSummary("radius_linf", low, high, levels, 1.0, "linf, unit space", width=1.0)
    value = replace(radius, name="largest_score", measures="value", extremum="largest", proof="upper")
    told = render([*property_tables([asked], 100), *measure_tables([radius, value])], 100)
    assert max(map(len, told.splitlines())) <= 100
    for word in ("robust_near", "radius_linf", "largest_score", *levels, "unit space"):
        assert word in told


def test_json_round_trips_and_holds_no_nan(report, tmp_path):
    report.save_json(tmp_path / "new" / "r.json")
    result = json.loads((tmp_path / "new" / "r.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert [Record.from_json(r).as_json() for r in result["records"]] == result["records"]
    assert result["records"][8]["radius"] == result["records"][8]["lower"] == 0.1
    assert result["records"][9]["upper"] is None


def test_numbers_that_json_cannot_hold():
    assert number(math.nan) is None
    assert number(math.inf) == -number(-math.inf) == 1.7976931348623157e308


def test_an_unknown_name_has_no_summary(report):
    with pytest.raises(KeyError, match="there is no property or measure 'x'"):
        report.summary("x")


@pytest.mark.parametrize(
    ("shape", "drawable"),
    [
        ((28, 28), True),
        ((28, 28, 1), True),
        ((32, 32, 3), True),
        ((784,), False),
        ((32, 32, 4), False),
        ((1, 9), False),
    ],
)
def test_only_grey_and_colour_images_are_drawn(shape, drawable):
    assert figures.is_image(shape) is drawable


@pytest.mark.skipif(not figures.available(), reason="matplotlib is not installed")
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_pictures_are_written(tmp_path, channels):
    image = np.random.default_rng(0).random((6, 5, *channels))
    picture = figures.Picture(image, 1 - image, 1 - 2 * image, "original", "witness", "difference")
    figures.draw_witnesses(tmp_path / "w.png", "p", "unit", [picture] * 2)
    figures.draw_histogram(tmp_path / "h.png", summarize_measure("radius", measured()), bins=5)
    for name in ("w.png", "h.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not figures.available(), reason="matplotlib is not installed")
def test_a_single_witness_stands_in_the_middle(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "write_figure", lambda figure, path: drawn.append(figure))
    image = np.zeros((6, 6, 1))
    picture = figures.Picture(image, image, image + 0.1, "sample 3", "predicted 9", "linf 0.1")
    figures.draw_witnesses(tmp_path / "w.png", "p: witnesses", "unit", [picture])
    drawn[0].draw_without_rendering()
    places = [axes.get_position() for axes in drawn[0].axes]
    middle = (min(p.x0 for p in places) + max(p.x1 for p in places)) / 2
    assert middle == pytest.approx(0.5, abs=0.06)


@pytest.mark.skipif(not figures.available(), reason="matplotlib is not installed")
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_a_difference_is_magnified_until_its_largest_change_fills_the_scale_and_says_so(
    tmp_path, monkeypatch, channels
):
    drawn = []
    monkeypatch.setattr(figures, "write_figure", lambda figure, path: drawn.append(figure))
    image = np.zeros((2, 2, *channels))
    change = image.copy()
    change[0, 0], change[1, 1] = 0.004, -0.002
    picture = figures.Picture(image, image + change, change, "sample 3\npredicted 4", "predicted 9", "l2 0.0045")
    figures.draw_witnesses(tmp_path / "w.png", "least: the nearest", "unit", [picture, picture])
    axes = drawn[0].axes
    assert [a.get_title() for a in axes[::2][:3]] == ["sample 3\npredicted 4", "predicted 9", "l2 0.0045\nscale ±0.004"]
    shown = axes[4].images[0].get_array()
    top, bottom, middle = (1.0, 0.25, 0.5) if channels == (3,) else (1.0, -0.5, 0.0)
    np.testing.assert_allclose([shown[0, 0].max(), shown[1, 1].min(), shown[0, 1].max()], [top, bottom, middle])
    assert "unit space" in axes[4].get_ylabel()
    assert len(axes) == (6 if channels == (3,) else 7)  # a scale of red and blue says nothing of colours


def test_a_histogram_of_nothing_proven_is_still_drawn(tmp_path):
    if figures.available():
        figures.draw_histogram(tmp_path / "h.png", summarize_measure("radius", measured()[2:]))
        assert (tmp_path / "h.png").exists()


@pytest.mark.skipif(not figures.available(), reason="matplotlib is not installed")
@pytest.mark.parametrize(
    ("name", "title", "labels"),
    [
        (
            "least",
            "least: smallest radii of 4 samples",
            ["proven lower bound (median 0.05)", "witness at (3 of 4 samples)"],
        ),
        (
            "radius",
            "radius: certified radii of 4 samples",
            ["proven (median 0.05)", "smallest refuted (3 of 4 samples)"],
        ),
    ],
)
def test_a_histogram_names_what_its_ends_are(tmp_path, monkeypatch, name, title, labels):
    drawn = []
    monkeypatch.setattr(figures, "write_figure", lambda figure, path: drawn.append(figure))
    figures.draw_histogram(tmp_path / "h.png", existential().summary(name))
    (axes,) = drawn[0].axes
    assert axes.get_title() == title
    assert [text.get_text() for text in axes.get_legend().get_texts()] == labels


def test_a_run_without_matplotlib_says_how_to_get_pictures():
    assert "pip install 'tfcert[report]'" in figures.MISSING


def test_a_result_is_read_record_by_record_and_as_any_json(tmp_path):
    """Catches a reader that knows its own layout alone, and half a file that passes for a whole one."""
    path, header = tmp_path / "result.json", {"records": [1], "odd": '"records": [\n'}
    write_result(path, header, records())
    assert read_lines(path) is not None
    assert sum(line.startswith('{"property"') for line in path.read_text().splitlines()) == len(records())
    first = read_result(path)
    path.write_text(json.dumps(json.loads(path.read_text())))
    second = read_result(path)
    assert read_lines(path) is None
    assert first.header == second.header == header and first.records == second.records == records()
    write_result(path, {}, records())
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    with pytest.raises(UsageError, match="ends within its records"):
        read_result(path)
