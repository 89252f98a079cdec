"""What ``tfcert diff`` says of two results, and what it exits with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tfcert
from tfcert.cli.main import main
from tfcert.errors import UsageError
from tfcert.report import Asked, Measured, Record
from tfcert.report.json import write_result
from tfcert.verdict import Guarantee, Outcome, Verdict

HEADER = {
    "tfcert": "1",
    "spec_sha256": "a",
    "params": {"eps": "0.01"},
    "rounding": "deployed",
    "weights_sha256": {"clf": "one"},
    "data_sha256": {"test": "x"},
    "properties": {"robust": "forall ...", "radius": "max ..."},
    "judged": [{"text": "assert rate >= 0.5", "judgement": "pass"}],
}
F32, NUMERIC = Guarantee.FLOAT32_ANY_ORDER, Guarantee.NUMERIC


def record(sample: int, outcome: str = "verified", guarantee: Guarantee | None = F32, margin: float = 0.5) -> Record:
    verdict = Verdict(Outcome(outcome), "", "crown", "crown", guarantee=guarantee, margin=margin)
    return Record("robust", sample, verdict, Asked("linf", 0.01, "unit"))


def radius(sample: int, lower: float, **asked: str) -> Record:
    verdict = Verdict(Outcome.VERIFIED, "", "crown", "crown", guarantee=F32)
    return Record("radius", sample, verdict, Asked("linf", space="unit", **asked), Measured(lower, 1.0))


@pytest.fixture
def compare(tmp_path):
    """Writes two results and compares them."""

    def write(name: str, records: list[Record], changes: dict) -> Path:
        write_result(tmp_path / name / "result.json", HEADER | changes, records)
        return tmp_path / name

    def run(old: list[Record], new: list[Record], changes: dict | None = None, **how):
        folders = write("old", old, {}), write("new", new, changes or {})
        return tfcert.diff(*folders, **how)

    return run


RANKED = [("verified", "unknown"), ("verified", "timeout"), ("unknown", "falsified"), ("verified", "falsified")]


@pytest.mark.parametrize(("upper", "lower"), RANKED)
def test_what_held_and_is_not_known_to_hold_is_worse_and_the_other_way_round_is_better(compare, upper, lower):
    fell, rose = compare([record(0, upper)], [record(0, lower)]), compare([record(0, lower)], [record(0, upper)])
    assert [(c.direction, c.old, c.new) for c in fell.changes] == [("worse", upper, lower)]
    assert fell.exit_code == 1 and fell.questions[0].outcomes == {f"{upper} -> {lower}": 1}
    assert [(c.direction, c.old, c.new) for c in rose.changes] == [("better", lower, upper)]
    assert rose.exit_code == 0


def test_open_is_open_whether_the_time_was_up_or_not(compare):
    found = compare([record(0, "unknown")], [record(0, "timeout")])
    assert [c.direction for c in found.changes] == ["changed"] and not found.worse


def test_the_same_outcome_with_a_weaker_guarantee_is_worse(compare):
    weaker = compare([record(0)], [record(0, guarantee=NUMERIC)])
    assert [(c.what, c.direction) for c in weaker.changes] == [("guarantee", "worse")] and weaker.worse
    assert not compare([record(0, guarantee=NUMERIC)], [record(0)]).worse


def test_an_answer_that_is_gone_is_worse_and_a_new_one_is_not(compare):
    gone, new = compare([record(0), record(1)], [record(0)]), compare([record(0)], [record(0), record(1)])
    assert [(c.direction, c.sample) for c in gone.changes] == [("gone", 1)] and gone.worse
    assert [(c.direction, c.sample) for c in new.changes] == [("new", 1)] and not new.worse


def test_margins_are_told_and_not_judged(compare):
    found = compare([record(0, margin=0.5), record(1, margin=0.3)], [record(0, margin=0.1), record(1, margin=0.3)])
    (question,) = found.questions
    assert not found.changes and not found.worse and question.same == 2
    assert question.margins == pytest.approx((0.4, 0.2)) and question.lowest == pytest.approx(0.4)


def test_a_radius_may_fall_by_the_tolerance_and_no_further(compare):
    assert not compare([radius(0, 0.1)], [radius(0, 0.0995)]).changes
    fell = compare([radius(0, 0.1)], [radius(0, 0.0985)])
    assert [(c.what, c.direction, c.old, c.new) for c in fell.changes] == [("radius", "worse", "0.1", "0.0985")]
    assert compare([radius(0, 0.1)], [radius(0, 0.0995)], tolerance=0).worse
    assert not compare([radius(0, 0.1)], [radius(0, 0.2)]).worse
    assert compare([radius(0, 0.1)], [radius(0, float("nan"))]).worse


def test_a_smallest_radius_is_neither_better_nor_worse(compare):
    found = compare([radius(0, 0.1, quantifier="exists")], [radius(0, 0.05, quantifier="exists")])
    assert [c.direction for c in found.changes] == ["changed"] and not found.worse


def test_an_assertion_that_passes_no_more_is_worse(compare):
    judged = {"judged": [{"text": "assert rate >= 0.5", "judgement": "inconclusive"}]}
    found = compare([record(0)], [record(0)], judged)
    assert found.judged == (("assert rate >= 0.5", "pass", "inconclusive"),) and found.worse


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spec_sha256": "b"}, "the specification is another one"),
        ({"params": {"eps": "0.02"}}, "the parameter eps was 0.01 and is now 0.02"),
        ({"data_sha256": {"test": "y"}}, "the samples of test are others"),
        ({"spec_sha256": "b", "properties": {"robust": "exists", "r": ""}}, "robust asks something else"),
        ({"spec_sha256": "b", "properties": {"robust": "forall ..."}}, "radius is gone"),
    ],
)
def test_other_questions_are_not_compared(compare, changes, said):
    with pytest.raises(UsageError, match=said):
        compare([record(0)], [record(0)], changes)


def test_another_model_version_and_rounding_are_told(compare):
    changes = {"weights_sha256": {"clf": "two"}, "tfcert": "2", "complete": False}
    notes = " ".join(compare([record(0)], [record(0)], changes).notes)
    assert "another model: clf" in notes and "1 and 2" in notes and "interrupted" in notes
    assert "the model is the same in both" in compare([record(0)], [record(0)]).notes


def test_the_verb_prints_what_changed_writes_it_and_exits_by_it(compare, tmp_path, capsys):
    compare([record(0), record(1)], [record(0, "unknown"), record(1)])
    old, new, written = (str(tmp_path / name) for name in ("old", "new", "d.json"))
    assert main(["diff", old, new, "--json", written]) == 1
    said = capsys.readouterr().out
    assert "something got worse (exit code 1): 1 worse; 2 answers compared" in said
    assert [line.split() for line in said.splitlines() if line.startswith(" robust ")] == [
        ["robust", "2", "1", "1", "0", "0", "0", "0", "0.5", "0.5"],
        ["robust", "0", "worse", "outcome", "verified", "unknown"],
    ]
    assert json.loads(Path(written).read_text())["changes"][0]["new"] == "unknown"
    assert main(["diff", old, old]) == 0
    assert "nothing got worse" in capsys.readouterr().out


def test_what_cannot_be_compared_has_a_code_of_its_own(compare, tmp_path, capsys):
    with pytest.raises(UsageError):
        compare([record(0)], [record(0)], {"spec_sha256": "b"})
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "journal.jsonl").touch()
    (tmp_path / "several.json").write_text('{"runs": []}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text('{"header": {}, "records": [{}]}')
    for name, said in (
        ("new", "other questions"),
        ("begun", "--resume"),
        ("several.json", "several specifications"),
        ("broken.json", "JSON"),
        ("other.json", "cannot be read"),
        ("missing", "no result"),
    ):
        assert main(["diff", str(tmp_path / "old"), str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err, name
    assert main(["diff", str(tmp_path / "old"), str(tmp_path / "old"), "--tolerance", "2"]) == 2
