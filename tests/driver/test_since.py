"""Runs since an earlier one: what its proofs rest on is tried first, nothing of it is believed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from proof import small
from sweeps import sweep_but

import tfcert
from tfcert.cli.main import main
from tfcert.driver.since import Tried
from tfcert.errors import UsageError
from tfcert.proof.check import read_claim
from tfcert.report.json import write_result
from tfcert.report.stored import read_result

pytestmark = pytest.mark.usefixtures("eager")
AWAY = 0.4
"""A radius at which some are not proven."""


def outcomes(report) -> list[tuple[int, str]]:
    return [(r.sample, str(r.outcome)) for r in report.records]


def transferred(report) -> list[int]:
    return [r.sample for r in report.records if r.verdict.transferred]


def moved(classifier, folder, by: float) -> None:
    """Saves the classifier with other weights."""
    import keras

    other = keras.models.clone_model(classifier)
    rng = np.random.default_rng(5)
    other.set_weights([w + by * rng.standard_normal(w.shape).astype(np.float32) for w in classifier.get_weights()])
    other.save(folder / "clf.keras")


def forged(folder, changes: dict) -> None:
    """Makes records of a result say something else."""
    path = folder / "result.json"
    content = json.loads(path.read_text())
    for record in content["records"]:
        record |= changes
    path.write_text(json.dumps(content))


def test_of_the_same_model_every_proof_and_witness_transfers(run, folder, wrong):
    before = run("fgsm -> alpha_crown", params={"eps": "0.1"}, out=folder / "old", certificates=True)
    again = run("fgsm -> alpha_crown", params={"eps": "0.1"}, since=folder / "old", certificates=True)
    assert {str(r.outcome) for r in before.records} == {"verified", "falsified"}
    assert outcomes(again) == outcomes(before)
    assert transferred(again) == [r.sample for r in before.records if r.sample != wrong]
    assert not transferred(before)
    for record in again.records:
        if record.verdict.transferred:
            assert record.verdict.stage == ("crown" if record.outcome == "verified" else "fgsm")
            assert (record.certificate is not None) == (record.outcome == "verified")
            assert record.verdict.work.gradients == 0
    assert again.header["since"]["questions"]["robust"]["transferred"] == len(before.records) - 1
    assert any("7 of 7 answers transferred" in note for note in again.notes)
    stored = read_result(folder / "out").by_question()
    assert [n for (_, n), r in stored.items() if r.verdict.transferred] == transferred(again)


@pytest.mark.parametrize("by", sweep_but([1.0], [0.02, 1.0]))
def test_of_another_model_verdicts_are_those_from_nothing(run, folder, classifier, by):
    run("fgsm -> crown", params={"eps": "0.1"}, out=folder / "old")
    moved(classifier, folder, by)
    later = run("fgsm -> crown", params={"eps": "0.1"}, since=folder / "old")
    assert outcomes(later) == outcomes(run("fgsm -> crown", params={"eps": "0.1"}, out=folder / "nothing"))
    assert len(transferred(later)) < 7 if by == 1 else transferred(later)


def test_nothing_of_an_earlier_result_is_believed(run, folder):
    """Every sample is said to be proven, or to have a witness that is none."""
    far = {"params": {"eps": str(AWAY)}}
    honest = run("crown", out=folder / "honest", **far)
    assert any(r.outcome == "unknown" for r in honest.records)
    run("crown", out=folder / "old")
    forged(folder / "old", {"outcome": "verified", "guarantee": "float32-any-order", "margin": 9.0})
    assert outcomes(run("crown", since=folder / "old", **far)) == outcomes(honest)
    witness = {"outcome": "falsified", "guarantee": "replayed", "stage": "fgsm", "witness": "w.npz"}
    forged(folder / "old", witness)
    honest = run("crown", out=folder / "close")
    for point in (np.full(4, 0.5), np.full(4, np.nan), np.full(3, 0.5)):
        np.savez(folder / "old" / "w.npz", witness=point.astype(np.float32))
        later = run("crown", since=folder / "old")
        assert outcomes(later) == outcomes(honest) and not transferred(later)
    (folder / "old" / "w.npz").write_text("no archive")
    assert outcomes(run("crown", since=folder / "old")) == outcomes(honest)


def test_a_proof_that_transfers_is_attacked_like_one_that_was_found(run, folder):
    run("crown", out=folder / "old")
    work = [r.verdict.work for r in run("crown -> fgsm", since=folder / "old").records if r.verdict.transferred]
    assert len(work) == 7 and min(each.gradients for each in work) > 0


def test_a_stage_of_the_strategy_is_not_run_twice_on_what_it_left_open(run, folder):
    """As many passes as from nothing, so that no time is lost."""
    run("crown", out=folder / "old")
    far = {"params": {"eps": str(AWAY)}}
    later, nothing = run("crown", since=folder / "old", **far), run("crown", out=folder / "nothing", **far)
    assert outcomes(later) == outcomes(nothing)
    assert [r.verdict.work.evaluations for r in later.records] == [r.verdict.work.evaluations for r in nothing.records]


def test_a_strategy_that_begins_with_what_is_tried_takes_one_pass_for_all(run, folder, monkeypatch):
    """Samples that the earlier run left open are in it, and do not count as transferred."""
    from tfcert.driver.stages.bound import RunningBound

    run("crown", out=folder / "old")
    result = read_result(folder / "old")
    write_result(folder / "old" / "result.json", result.header, result.records[:5])
    sizes: list[int] = []
    margins = RunningBound._margins
    counted = lambda self, batch, iterations: sizes.append(len(batch)) or margins(self, batch, iterations)  # noqa: E731
    monkeypatch.setattr(RunningBound, "_margins", counted)
    report = run("crown", since=folder / "old", blocks="batch: 8")
    assert sizes[-1] == 7 and 7 not in sizes[:-2]
    assert all(r.outcome == "verified" for r in report.records if r.sample != 3)
    assert transferred(report) == [0, 1, 2, 4]


def test_where_nearly_nothing_transfers_no_more_is_tried():
    assert Tried(tried=20, settled=1).hopeless
    assert not Tried(tried=19, settled=0).hopeless and not Tried(tried=20, settled=2).hopeless


def test_slopes_of_a_certificate_are_tried_on_the_new_weights(run, folder):
    """At a radius where lines by the rule are too loose; by another model's choices nothing false is proven."""
    model = small.dense((4, 12, 12, 3))
    model.save(folder / "clf.keras")
    x = np.random.default_rng(3).random((12, 4)).astype(np.float32)[[2, 7]]
    np.savez(folder / "test.npz", x=x, y=model(x).numpy().argmax(axis=1))
    eps = {"params": {"eps": "0.22"}}
    rule = run("crown", **eps)
    before = run("alpha_crown", out=folder / "old", certificates=True, **eps)
    gained = [r for r, other in zip(before.records, rule.records, strict=True) if r.outcome != other.outcome]
    assert gained and all(r.outcome == "verified" for r in gained)
    assert any(n.startswith("slopes/") for n in read_claim(folder / "old" / str(gained[0].certificate)).arrays)
    later = run("alpha_crown", since=folder / "old", certificates=True, **eps)
    assert outcomes(later) == outcomes(before)
    found = {r.sample: r for r in later.records}[gained[0].sample]
    assert found.verdict.transferred and found.verdict.stage == "alpha_crown"
    assert found.verdict.guarantee == "float32-any-order" and found.verdict.margin > 0
    old, new = (read_claim(at / str(r.certificate)) for at, r in ((folder / "old", gained[0]), (folder / "out", found)))
    assert all(np.array_equal(new.arrays[name], array) for name, array in old.arrays.items())
    # The same choices about what is false: there are other classes in the cube.
    assert not transferred(run("crown", since=folder / "old", params={"eps": "1"}))


def test_a_proof_that_breaks_is_mended_from_its_tree(run, folder):
    """Its leaves are the first pieces, and no stage searches from nothing; it does not count as transferred."""
    model = small.dense((6, 12, 12, 3))
    model.save(folder / "clf.keras")
    x = np.random.default_rng(3).random((5, 6)).astype(np.float32)[4:]
    np.savez(folder / "test.npz", x=x, y=model(x).numpy().argmax(axis=1))
    text = """
prop 1
model clf = keras("clf.keras") { outputs: logits }
dataset test = npz("test.npz", x="x", y="y")
strategy plan = split(time_limit=20s, cut=neurons)
property robust(x, y in test) using plan { forall z in ball(x, linf, 0.49) in net: argmax(clf(z)) == y }
"""
    before = run(text=text, out=folder / "old", certificates=True)
    trees = [
        r.sample
        for r in before.records
        if r.certificate and "tree/place" in read_claim(folder / "old" / r.certificate).arrays
    ]
    assert trees
    spoiled(folder / "old", before)
    later = run(text=text, since=folder / "old", certificates=True)
    assert outcomes(later) == outcomes(before)
    mended = later.header["since"]["questions"]["robust"].get("mended", 0)
    assert mended and any("were mended" in note for note in later.notes)
    found = {r.sample: r for r in later.records}
    assert not any(found[n].verdict.transferred for n in trees)
    assert sum(found[n].verdict.work.pieces == 0 for n in trees) == mended


def spoiled(folder, report) -> None:
    """Gives all leaves of a run's certificates the least slopes, and multipliers of 0."""
    for record in report.records:
        if record.certificate:
            path = folder / record.certificate
            with np.load(path) as saved:
                arrays = dict(saved)
            zeros = {n: np.zeros_like(a) for n, a in arrays.items() if n.startswith(("slopes/", "multipliers"))}
            np.savez(path, **arrays | zeros)


@pytest.mark.sweep
def test_a_measure_begins_at_the_earlier_radius(run, folder):
    more = """
measure radius(x, y in test) = largest r in [0, 0.5] tol 1e-3 such that
  forall z in ball(x, linf, r) within [0, 1] in net: argmax(clf(z)) == y
  using plan
"""
    before, again = run("crown", more, out=folder / "old"), run("crown", more, since=folder / "old")
    radii = [np.array([r.measured.lower for r in report.records if r.measured]) for report in (before, again)]
    np.testing.assert_allclose(radii[1], radii[0], atol=1e-3)
    passes = [sum(r.verdict.work.evaluations for r in report.records if r.measured) for report in (before, again)]
    assert passes[1] < passes[0]
    marked = [r.verdict.transferred for r in again.records if r.measured]
    assert marked == [r.measured.lower > 0 for r in before.records if r.measured] and sum(marked) > 5


def test_a_question_about_some_input_keeps_its_witnesses_and_its_proofs(run, folder):
    text = """
prop 1
model clf = keras("clf.keras") { outputs: logits }
dataset test = npz("test.npz", x="x", y="y")
strategy plan = fgsm -> crown
property some(x, y in test) using plan { exists z in ball(x, linf, 0.05) in net: argmax(clf(z)) != y }
"""
    before = run(text=text, out=folder / "old")
    again = run(text=text, since=folder / "old")
    assert {"verified", "falsified"} == {str(r.outcome) for r in before.records}
    assert outcomes(again) == outcomes(before)
    assert set(transferred(again)) == {r.sample for r in before.records if r.verdict.stage != "clean"}


def test_what_cannot_be_built_on_is_said(run, folder, samples, capsys):
    run("crown", out=folder / "old")
    with pytest.raises(UsageError, match="where this run writes"):
        run("crown", since=folder / "old", out=folder / "old")
    with pytest.raises(UsageError, match="no folder of a run"):
        run("crown", since=folder)
    spec = str(folder / "s.prop")
    assert main(["verify", spec, "--since", str(folder / "nowhere"), "--out", str(folder / "new"), "-q"]) == 4
    assert "nowhere" in capsys.readouterr().err
    assert main(["verify", "net.onnx", "prop.vnnlib", "--since", str(folder / "old")]) == 4
    np.savez(folder / "test.npz", x=samples[0][::-1], y=samples[1][::-1])
    with pytest.raises(UsageError, match="other samples of test"):
        run("crown", since=folder / "old")


def test_the_verb_takes_an_earlier_run(run, folder, capsys):
    run("crown", out=folder / "old")
    spec, new = str(folder / "s.prop"), str(folder / "new")
    assert main(["verify", spec, "--since", str(folder / "old"), "--out", new]) == 1
    assert "7 of 7 answers transferred" in " ".join(capsys.readouterr().out.split())
    assert main(["diff", str(folder / "old"), new]) == 0


def test_another_question_has_nothing_to_transfer(run, folder):
    run("crown", out=folder / "old")
    result = read_result(folder / "old")
    renamed = [replace(r, property="other") for r in result.records]
    write_result(folder / "old" / "result.json", result.header, renamed)
    report = run("crown", since=folder / "old")
    assert not transferred(report)
    assert any("nothing that was settled there" in note for note in report.notes)


def test_python_takes_an_earlier_run(folder, write_spec):
    old = tfcert.verify(write_spec("crown"), out=folder / "old", verbose=0)
    new = tfcert.verify(folder / "s.prop", out=folder / "new", since=folder / "old", verbose=0)
    assert outcomes(old) == outcomes(new) and len(transferred(new)) == 7
