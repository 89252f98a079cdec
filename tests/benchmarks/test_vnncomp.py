"""The runner of the competition's questions: columns, counterexamples, late answers, replaced processes."""

import csv
import time

import pytest

from benchmarks.vnncomp import resident, tables
from benchmarks.vnncomp.resident import Resident
from benchmarks.vnncomp.run import questions, run, stored, summary

LINES = """family,onnx,vnnlib,limit_s,tools_that_said_sat,tools_that_said_unsat,fastest_tool_s,alpha_beta_crown_s
a,net.onnx,sat.vnnlib,30,3,0,1,1
a,net.onnx,unsat.vnnlib,30,0,3,1,1
a,net.onnx,wrong.vnnlib,30,0,3,1,1
b,net.onnx,late.vnnlib,0.2,1,1,1,1
b,net.onnx,refused.vnnlib,30,1,1,1,1
b,net.onnx,unsat.vnnlib,30,0,3,1,1
"""


def fake():
    """A function that answers by the name of the file."""

    def answer(model, query, seconds):
        name = query.rsplit("/", 1)[-1].partition(".")[0]
        if name == "late":
            time.sleep(60)
        if name == "refused":
            raise ValueError("not a file of that kind")
        result = {"wrong": "sat"}.get(name, name)
        return result, f"{result}\n((X_0 1.0))" if result == "sat" else result, "by name"

    return answer


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.setattr(resident, "GRACE", 0.2)
    (tmp_path / "questions.csv").write_text(LINES)
    return list(questions(tmp_path))


def test_questions_know_the_answer_where_all_tools_agree(asked, tmp_path):
    assert [q.known for q in asked] == ["sat", "unsat", "unsat", "", "", "unsat"]
    assert [q.vnnlib for q in questions(tmp_path, ["b"], 2)] == ["late.vnnlib", "refused.vnnlib"]


def test_answers_are_written_as_they_come_and_a_late_process_is_replaced(asked, tmp_path):
    answering = Resident(fake)
    try:
        path = run(tmp_path, asked, tmp_path / "out", answering, 60)
    finally:
        answering.stop()
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["result"] for line in lines] == ["sat", "unsat", "sat", "timeout", "error", "unsat"]
    assert "not a file" in lines[4]["how"]
    assert (tmp_path / "out" / "0_sat.vnnlib.counterexample").read_text() == "sat\n((X_0 1.0))\n"
    said = summary(path)
    assert "a: 3 of 3 solved (2 sat, 1 unsat)" in said and "b: 1 of 3 solved" in said
    assert "wrong.vnnlib: sat" in said and said.endswith("against known answers: 1")


def test_stored_lines_replace_those_of_the_same_questions(asked, tmp_path, monkeypatch):
    """Catches a question that counts twice, a wrong answer that counts as solved alone, and unsolved ones left out of
    the median."""
    monkeypatch.setenv("TFCERT_RESULTS", str(tmp_path / "results"))
    machine = {"cpu": "a processor", "cores": 2, "threads": 2}
    answering = Resident(fake)
    try:
        lines = stored(run(tmp_path, asked, tmp_path / "out", answering, 60))
    finally:
        answering.stop()
    before = [dict(line, result="unknown", run_time=99.0) for line in lines]
    tables.keep(before[:2], machine)
    tables.keep(lines[:4], machine)
    kept = tables.STORE.read(tables.NAME)["tfcert"]["lines"]
    assert len(kept) == 4 and {line["result"] for line in kept} == {"sat", "unsat", "timeout"}
    (one, other, every) = tables.rows(kept)
    assert (one["questions"], one["solved"], one["sat"], one["wrong"]) == ("3", "3", "2", "1")
    assert (other["solved"], other["seconds, median"], other["pieces, median"]) == ("0", "inf", "")
    assert every["questions"] == "4" and every["seconds, median"] != "inf"
    written = tables.STORE.home
    assert "| a | 3 | 3 |" in (written / "README.md").read_text()
    assert (written / "results" / "cactus.svg").read_text().startswith("<?xml")
