"""Reasons: each is a sentence with something to do, and stays known through journals, copies and other processes."""

import copy
import pickle
import string

import pytest

from tfcert.driver.verdicts import advice
from tfcert.report import Record
from tfcert.verdict import NO_REASON, Because, Guarantee, Outcome, Reason, Verdict, reason_of

NOTHING_TO_DO = {
    "clean", "misclassified", "proof-refuted", "stage-silent", "search-stopped", "inputs-rounded", "upper-bound-alone",
    "estimate-alone",
}  # fmt: skip
NUMBERS = {"seconds", "radius"}


@pytest.mark.parametrize("reason", Reason, ids=str)
def test_a_reason_is_a_sentence_and_says_what_to_do(reason):
    places = {name for _, name, _, _ in string.Formatter().parse(reason.message) if name}
    facts = {name: 2.5 if name in NUMBERS else "what {was} found" for name in places}
    because = reason.because(**facts)
    assert reason_of(because) is reason and all(str(fact) in because for fact in facts.values())
    assert bool(reason.advice) != (str(reason) in NOTHING_TO_DO)
    for same in (copy.deepcopy(because), pickle.loads(pickle.dumps(because)), because.more(" before stage crown")):
        assert reason_of(same) is reason and same.startswith(because)


def record(reason: str, outcome: Outcome = Outcome.UNKNOWN) -> Record:
    return Record("p", 0, Verdict(outcome, reason, guarantee=Guarantee.ESTIMATE))


@pytest.mark.parametrize("reason", [Reason.LOOSE.because(known="at least 1"), Because("said", None), "said", ""])
def test_a_record_keeps_its_reason_in_json(reason):
    flat = record(reason).as_json()
    read = Record.from_json(flat).verdict.reason
    assert read == reason and reason_of(read) == reason_of(reason) and type(flat["reason"]) is str
    assert Record.from_json(flat | {"reason_name": "of-another-version"}).verdict.reason == reason
    del flat["reason_name"]
    assert reason_of(Record.from_json(flat).verdict.reason) is None


def test_advice_is_given_once_for_each_reason_of_an_open_verdict():
    loose, late = Reason.LOOSE.because(known="at least 1"), Reason.SAMPLE_BUDGET.because(seconds=1)
    records = [record(late, Outcome.TIMEOUT), record(loose), record(loose), record(NO_REASON), record("said")]
    records += [record(Reason.CLEAN.because(does="breaks it"), Outcome.FALSIFIED), record(loose, Outcome.VERIFIED)]
    assert advice(records) == [
        f"2 verdicts open for the reason `loose-bounds`: {Reason.LOOSE.advice}",
        f"1 verdict open for the reason `sample-budget`: {Reason.SAMPLE_BUDGET.advice}",
    ]
