"""Runs of specifications by several processes: the same results as by one, whatever dies on the way."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tfcert.driver.executor.local import LocalWorkers
from tfcert.driver.journal import FILE_NAME
from tfcert.errors import UsageError

MEASURE = """\
measure least(x, y in test) = largest r in [0, 1] tol 1e-2 such that
  forall z in ball(x, linf, r) within [0, 1] in net: argmax(clf(z)) == y
  using plan
"""
STAGES = "pgd(steps=5) -> crown -> split"


@pytest.fixture(scope="module")
def workers():
    """Two processes with TensorFlow that all tests of this module share."""
    with LocalWorkers(2) as found:
        yield found


def told(report) -> list[dict[str, object]]:
    """Records as JSON has them, without what differs between two runs of anything."""
    flat = [record.as_json() for record in report.records]
    for record in flat:
        del record["seconds"]
        record["work"] = {name: n for name, n in record["work"].items() if "seconds" not in name}
    return flat


def test_two_workers_one_worker_and_this_process_say_the_same(run, folder, workers, monkeypatch):
    """To the last digit for any number of workers; witnesses and certificates are in the folder of the run."""
    options = {"stages": STAGES, "more": MEASURE, "blocks": "", "params": {"eps": "0.1"}, "certificates": True}
    two = run(**options, out=folder / "two", workers=workers)
    monkeypatch.setattr(workers, "count", 1)
    one = run(**options, out=folder / "one", workers=workers)
    here = run(**options, out=folder / "here")
    assert told(two) == told(one) and len(two.records) == 16
    outcomes = [[(r.property, r.sample, r.outcome) for r in report.records] for report in (two, here)]
    assert outcomes[0] == outcomes[1] and len({outcome for *_, outcome in outcomes[0]}) > 1
    np.testing.assert_allclose([r.verdict.margin for r in two.records], [r.verdict.margin for r in here.records], 1e-4)
    for record in two.records:
        assert (record.witness is None) == (record.verdict.witness is None)
        for name in (record.witness, record.certificate):
            assert name is None or (folder / "two" / name).is_file()
    assert any(record.certificate for record in two.records) and any(record.witness for record in two.records)
    journal = [json.loads(line) for line in (folder / "two" / FILE_NAME).read_text().splitlines()]
    keys = [(line["record"]["property"], line["record"]["sample"]) for line in journal if "record" in line]
    assert len(keys) == len(set(keys)) == 16


def test_models_and_samples_in_memory_go_to_workers_too(run, folder, workers, classifier, samples):
    bindings = {"clf": classifier, "test": samples}
    there = run("crown", bindings=bindings, workers=workers)
    (folder / "clf.keras").unlink()
    assert told(run("crown", bindings=bindings, workers=workers, resume=folder / "out")) == told(there)


def test_what_workers_cannot_do_is_refused(run, folder):
    run("crown")
    with pytest.raises(UsageError, match="leave out either since or workers"):
        run("crown", since=folder / "out", out=folder / "again", workers=2)
    with pytest.raises(UsageError, match="a number of processes above 0"):
        run("crown", out=folder / "again", workers=0)
