"""Radii and attacks without a specification: what Ctrl-C leaves, what can be resumed, what is said of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tfcert.certification import Radii
from tfcert.cli.main import main
from tfcert.driver.direct.attack import attack_samples
from tfcert.driver.direct.radius import Bounding, measure_radii
from tfcert.driver.direct.request import Request
from tfcert.errors import JournalError
from tfcert.report import ExitCode
from tfcert.verdict import Guarantee


@pytest.fixture
def data(folder) -> Request:
    return Request(str(folder / "clf.keras"), str(folder / "test.npz"), "linf", None, 100)


@pytest.fixture
def counted(monkeypatch):
    """Replaces the search: a radius of 0.01 each, the sizes of the batches are noted, the third call is Ctrl-C."""
    seen: list[int] = []

    def certified_radius(network, x, y, **_):
        if len(seen) == 2:
            seen.append(0)
            raise KeyboardInterrupt
        seen.append(len(x))
        return Radii(np.full(len(x), 0.01), np.ones(len(x)), 7, Guarantee.NUMERIC, "crown", "adaptive")

    monkeypatch.setattr("tfcert.certification.certified_radius", certified_radius)
    return seen


def test_ctrl_c_keeps_the_radii_found_until_then_and_resume_computes_the_others_alone(data, folder, counted):
    out = folder / "run"
    first = measure_radii(data, Bounding(batch=2), out=str(out))
    assert (first.exit_code, len(first.records)) == (ExitCode.INTERRUPTED, 4)
    saved = json.loads((out / "result.json").read_text())
    assert saved["header"]["complete"] is False and len(saved["records"]) == 4
    assert first.last_line().startswith("interrupted (exit code 2), ")
    # Another size of batch is no other question.
    second = measure_radii(data, Bounding(batch=3), resume=str(out))
    assert (second.exit_code, counted) == (ExitCode.PASS, [2, 2, 0, 3, 1])
    assert [r.sample for r in second.records] == list(range(8))
    assert [r.as_json() for r in second.records[:4]] == [r.as_json() for r in first.records]


@pytest.mark.parametrize(
    "other",
    [
        Bounding(relaxation="fastlin"),
        Bounding(targets="least"),
        Bounding(method="ibp"),
        Bounding(relaxation="deepcert", fallback="adaptive"),
        Bounding(tolerance=1e-3),
        Bounding(absolute_tolerance=1e-3),
        Bounding(start=0.05),
    ],
)
def test_radii_of_another_question_are_not_resumed(data, folder, counted, other):
    measure_radii(data, Bounding(batch=2), out=str(folder / "run"))
    with pytest.raises(JournalError, match=r"the parameter .* was .* and is now"):
        measure_radii(data, other, resume=str(folder / "run"))


def test_the_command_line_resumes_radii_with_what_the_folder_says(folder, counted, capsys):
    files = [str(folder / "clf.keras"), str(folder / "test.npz")]
    run = str(folder / "run")
    arguments = ["radius", *files, "--norm", "l1", "--clip", "-9", "9", "--limit", "5", "--batch", "2"]
    assert main([*arguments, "--out", run]) == ExitCode.INTERRUPTED
    assert main(["radius", *files, "--norm", "l2", "--resume", run]) == ExitCode.USAGE_ERROR
    assert "the parameter norm was l1 and is now l2" in capsys.readouterr().err
    assert main(["radius", *files, "--clip", "-9", "9", "--resume", run]) == ExitCode.PASS
    header = json.loads((folder / "run" / "result.json").read_text())["header"]
    assert header["params"].items() >= {"norm": "l1", "clip": [-9.0, 9.0], "limit": 5}.items()


def test_radii_of_before_runs_said_what_proofs_are_about_go_on_without_rounding(folder, counted, capsys):
    """Catches radii of two meanings in one run, and a refusal that does not say what was meant then."""
    arguments = ["radius", str(folder / "clf.keras"), str(folder / "test.npz")]
    run = str(folder / "run")
    assert main([*arguments, "--batch", "2", "--rounding", "ignore", "--out", run]) == ExitCode.INTERRUPTED
    journal = folder / "run" / "journal.jsonl"
    first, rest = journal.read_text().split("\n", 1)
    header = json.loads(first)
    assert header["header"].pop("rounding") == "ignore"
    journal.write_text(f"{json.dumps(header)}\n{rest}")
    assert main([*arguments, "--rounding", "deployed", "--resume", run]) == ExitCode.USAGE_ERROR
    assert "proofs take into account" in (said := capsys.readouterr().err) and "ignore and is now deployed" in said
    assert main([*arguments, "--resume", run]) == ExitCode.PASS
    assert json.loads((folder / "run" / "result.json").read_text())["header"]["rounding"] == "ignore"


def test_options_of_the_optimising_methods_reach_the_search(data, folder, monkeypatch):
    seen = []

    def certified_radius(network, x, y, *, options, **_):
        seen.append(options)
        return Radii(np.full(len(x), 0.01), np.ones(len(x)), 7, Guarantee.NUMERIC, "crown", "frown")

    monkeypatch.setattr("tfcert.certification.certified_radius", certified_radius)
    bounding = Bounding(relaxation="frown", iterations=3, learning_rate=0.25)
    report = measure_radii(data, bounding, out=str(folder / "run"))
    assert (seen[0].iterations, seen[0].learning_rate) == (3, 0.25)
    assert report.header["params"]["iterations"] == 3


def test_an_attack_says_what_it_found_and_not_that_something_passed(data, samples, wrong):
    nothing = attack_samples(data, 0.0, steps=1, restarts=1)
    assert nothing.last_line() == (
        "witnesses within linf 0 of 1 of 8 samples (1 of them misclassified as they are); none found for 7, which "
        "proves nothing"
    )
    everything = attack_samples(data, 5.0, steps=40, restarts=3)
    assert everything.last_line().startswith("witnesses within linf 5 of 8 of 8 samples (1 of them")
    assert "pass" not in str(everything)


@pytest.fixture
def searched(monkeypatch):
    """Replaces the search; what it was called with is kept, and each radius is the sample's first input."""
    seen: list[dict] = []

    def certified_radius(network, x, y, **how):
        seen.append(how | {"x": x})
        return Radii(x[:, 0].astype(float), np.ones(len(x)), 7, Guarantee.NUMERIC, "crown", "deepcert+adaptive")

    monkeypatch.setattr("tfcert.certification.certified_radius", certified_radius)
    return seen


def test_the_protocol_of_the_papers_reaches_the_search_and_the_header(folder, searched):
    files = [str(folder / "clf.keras"), str(folder / "test.npz")]
    protocol = ["--tolerance", "0", "--absolute-tolerance", "1e-5", "--start", "0.05", "--correct", "--limit", "4"]
    rule = ["--relaxation", "deepcert", "--fallback", "adaptive", "--targets", "runner-up"]
    assert main(["radius", *files, *protocol, *rule, "--out", str(folder / "run")]) == ExitCode.PASS
    asked = {"tolerance": 0.0, "absolute_tolerance": 1e-5, "start": 0.05, "targets": "runner-up"}
    how = {"relaxation": "deepcert", "fallback": "adaptive"}
    assert searched[0].items() >= (asked | how).items()
    saved = json.loads((folder / "run" / "result.json").read_text())
    assert saved["header"]["params"].items() >= (asked | how | {"correct": True, "limit": 4}).items()
    assert {record["relaxation"] for record in saved["records"]} == {"deepcert+adaptive"}
    # What is resumed has it from the folder.
    assert main(["radius", *files, "--resume", str(folder / "run")]) == ExitCode.PASS
    assert main(["radius", *files, "--start", "0.1", "--resume", str(folder / "run")]) == ExitCode.USAGE_ERROR


def test_only_correctly_classified_samples_are_taken_and_keep_their_places(folder, samples, wrong, searched, capsys):
    files = [str(folder / "clf.keras"), str(folder / "test.npz")]
    assert main(["radius", *files, "--correct", "--limit", "5", "--batch", "2", "--out", str(folder / "run")]) == 0
    records = json.loads((folder / "run" / "result.json").read_text())["records"]
    places = [place for place in range(8) if place != wrong][:5]
    assert [record["sample"] for record in records] == places
    np.testing.assert_allclose([record["lower"] for record in records], samples[0][places, 0])
    said = " ".join(capsys.readouterr().out.split())
    assert "the first 5 samples" in said and "that the model classifies correctly (1 before them are not)" in said


def test_no_sample_that_is_classified_correctly_is_nothing_to_check(folder, samples, classifier, searched):
    np.savez(folder / "test.npz", x=samples[0], y=(np.asarray(classifier(samples[0])).argmax(axis=1) + 1) % 3)
    files = [str(folder / "clf.keras"), str(folder / "test.npz")]
    assert main(["radius", *files, "--correct", "--out", str(folder / "run")]) == ExitCode.NOTHING_TO_CHECK
    assert not searched


def test_random_targets_of_the_command_line_do_not_depend_on_the_batch(folder, monkeypatch, searched):
    import keras

    import tfcert

    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6)])
    x = np.random.default_rng(3).normal(size=(9, 4)).astype("float32")
    y = np.asarray(model(x)).argmax(axis=1)
    y[:2] = (y[:2] + 1) % 6
    model.save(folder / "clf.keras")
    np.savez(folder / "test.npz", x=x, y=y)
    files = [str(folder / "clf.keras"), str(folder / "test.npz")]
    for batch in ("2", "50"):
        run = str(folder / batch)
        assert main(["radius", *files, "--targets", "random", "--correct", "--batch", batch, "--out", run]) == 0
    many, one = [how["targets"] for how in searched[:-1]], searched[-1]["targets"]
    np.testing.assert_array_equal(np.concatenate(many), one)
    np.testing.assert_array_equal(one, tfcert.choose_targets(model, x, y)[2:])


def test_random_targets_of_three_classes_are_refused_in_a_sentence(folder, capsys):
    files = [str(folder / "clf.keras"), str(folder / "test.npz")]
    assert main(["radius", *files, "--targets", "random", "--out", str(folder / "run")]) == ExitCode.USAGE_ERROR
    assert "at least four classes" in capsys.readouterr().err
