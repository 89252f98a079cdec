"""Records say how a witness was run and what became of the level that was asked for; older records are still read."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcert.attacks.witness import _compiled as compiled
from tfcert.attacks.witness import compiled_outputs
from tfcert.driver.batch import REPLAYS
from tfcert.driver.direct.attack import attack_samples
from tfcert.driver.direct.request import Request
from tfcert.driver.task import LoadedModel
from tfcert.report import Asked, Record
from tfcert.verdict import Guarantee, ModelRun, Outcome, Reason, Replayed, Verdict, reason_of, weakest

EVERYWHERE = Replayed(tuple(ModelRun(way, size, True) for way in ("eager", "predict") for size in REPLAYS))


def journal(folder):
    lines = (folder / "out" / "journal.jsonl").read_text().splitlines()
    return [record for line in lines if (record := json.loads(line).get("record"))]


def test_a_witness_is_run_alone_and_inside_a_batch_and_by_predict(run, folder):
    """Every falsified record says so, in the journal too, and reads back as it was."""
    report = run("pgd", params={"eps": "1/2"})
    falsified = [r for r in report.records if r.outcome is Outcome.FALSIFIED]
    assert falsified and all(r.verdict.replayed == EVERYWHERE for r in falsified)
    for record in journal(folder):
        again = Record.from_json(record)
        assert again.as_json() == record
        assert (again.verdict.replayed is None) == (record["outcome"] != "falsified")


def test_a_witness_is_run_by_xla_where_the_model_is_small(run, xla, monkeypatch):
    """Catches a run that is named and not made, one for each witness anew, and an answer that is not looked at."""
    made = []
    monkeypatch.setattr("tfcert.attacks.witness._compiled", lambda *given: made.append(given) or compiled(*given))
    falsified = [r for r in run("pgd", params={"eps": "1/2"}).records if r.outcome is Outcome.FALSIFIED]
    assert len(falsified) > 1 and len(made) == 1
    assert all(r.verdict.replayed.runs == (*EVERYWHERE.runs, ModelRun("xla", 1, True)) for r in falsified)
    monkeypatch.setattr(
        LoadedModel, "compiled", lambda self, z: np.roll(self.outputs(z), 1, axis=1) if len(z) == 1 else None
    )
    apart = [r for r in run("pgd", params={"eps": "1/2"}).records if r.outcome is Outcome.FALSIFIED]
    assert any("keeps the property xla in a batch of 1" in r.verdict.reason for r in apart)


def test_a_large_model_and_one_that_xla_cannot_compile_are_not_run_by_it(classifier, monkeypatch, xla):
    """Catches minutes that are spent on a record, and an error of XLA's that ends a run."""
    x = np.zeros((1, 4), np.float32)
    np.testing.assert_allclose(compiled_outputs(classifier, x), classifier(x), rtol=1e-6)
    strings = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), Strings()])
    assert compiled_outputs(strings, x) is None and compiled_outputs(strings, x) is None
    monkeypatch.setattr("tfcert.attacks.witness.XLA_OPERATIONS", 3)
    assert compiled_outputs(keras.models.clone_model(classifier), x) is None


class Strings(keras.layers.Layer):
    """Numbers there and back by text, for which XLA has no operation."""

    def call(self, x):
        return tf.strings.to_number(tf.strings.as_string(x))


def test_records_from_before_witnesses_were_run_twice_are_read(run, folder):
    run("pgd", params={"eps": "1/2"})
    old = [{key: value for key, value in record.items() if key != "replayed"} for record in journal(folder)]
    assert old and all(Record.from_json(record).verdict.replayed is None for record in old)


def test_where_batches_disagree_the_verdict_says_that_the_answer_is_not_defined(run, monkeypatch, wrong):
    """The classifier answers with the label's class in batches of eight alone."""
    outputs = LoadedModel.outputs

    def by_batch(self, z):
        found = outputs(self, z)
        return np.zeros_like(found) + np.roll(found[:1], 1) if len(z) == REPLAYS[1] and same(z) else found

    def same(z):
        return bool((z == z[:1]).all())

    monkeypatch.setattr(LoadedModel, "outputs", by_batch)
    records = run("pgd", params={"eps": "1/2"}).records
    apart = [r for r in records if r.verdict.replayed is not None and not r.verdict.replayed.agree]
    assert apart
    for record in apart:
        assert record.outcome is Outcome.FALSIFIED and "not defined by the model file" in record.verdict.reason
        assert record.as_json()["replayed"]["agree"] is False
    assert any(reason_of(r.verdict.reason) is Reason.ORDER for r in apart)


def test_runs_of_one_runtime_for_all_are_read():
    """Records once named the runtime beside the runs."""
    flat = Record("p", 0, Verdict(Outcome.FALSIFIED, replayed=EVERYWHERE), Asked("linf", 0.1, "net", "all"), None, 0, 0)
    flat = flat.as_json() | {"replayed": {"runtime": "eager", "runs": [{"batch": 8, "breaks": False}], "agree": False}}
    assert Record.from_json(flat).verdict.replayed == Replayed((ModelRun("eager", 8, False),))


def test_where_predict_says_otherwise_the_verdict_says_so(run, monkeypatch):
    """Eager runs suffice for a witness; the record still has what the compiled function answers."""
    monkeypatch.setattr(LoadedModel, "predicted", lambda self, z: np.roll(self.outputs(z), 1, axis=1))
    records = [r for r in run("pgd", params={"eps": "1/2"}).records if r.outcome is Outcome.FALSIFIED]
    apart = [r for r in records if not r.verdict.replayed.agree]
    assert apart and all("predict in a batch of 1" in r.verdict.reason for r in apart)
    assert all(r.verdict.replayed.runs[:2] == EVERYWHERE.runs[:2] for r in records)


def test_attacks_without_a_specification_say_how_their_witnesses_were_run(folder):
    data = Request(str(folder / "clf.keras"), str(folder / "test.npz"), "linf", None, 100)
    report = attack_samples(data, 0.5, steps=10, restarts=1)
    found = [r for r in report.records if r.outcome is Outcome.FALSIFIED]
    assert found and all(r.as_json()["replayed"]["agree"] for r in found)
    assert all(r.verdict.replayed == EVERYWHERE for r in found)
    assert all(r.verdict.replayed is None for r in report.records if r.outcome is not Outcome.FALSIFIED)


@pytest.mark.parametrize(("rounding", "says"), [("ignore", False), ("deployed", True), ("real", True)])
def test_a_proof_that_promises_less_than_was_asked_for_says_why(run, margins, monkeypatch, rounding, says):
    margins(1.0)
    monkeypatch.setattr("tfcert.propagation.supported.not_modelled", lambda network: "a setting: of some kind")
    report = run("ibp", blocks=f"rounding: {rounding}")
    proven = [r for r in report.records if r.verdict.guarantee is Guarantee.NUMERIC]
    assert proven and all(("a setting: of some kind" in r.verdict.reason) == says for r in proven)
    assert all((reason_of(r.verdict.reason) is Reason.MARKED_DOWN) == says for r in proven)


def test_what_rests_on_several_proofs_promises_the_least_of_them():
    levels = [Guarantee.FLOAT32_ANY_ORDER, Guarantee.NUMERIC, Guarantee.REAL]
    assert weakest(levels) is Guarantee.NUMERIC and weakest(levels[:1]) is Guarantee.FLOAT32_ANY_ORDER
    assert weakest([*levels, Guarantee.SOLVER]) is Guarantee.SOLVER and weakest([*levels, None]) is None
