"""The runner of the competition's questions: columns, counterexamples, late answers, replaced processes."""

import csv
import threading
import time

import pytest

from benchmarks.vnncomp import resident, server, tables
from benchmarks.vnncomp.check import complaint
from benchmarks.vnncomp.resident import Resident
from benchmarks.vnncomp.run import questions, run, stored, summary

LINES = """family,onnx,vnnlib,limit_s,tools_that_said_sat,tools_that_said_unsat,fastest_tool_s,alpha_beta_crown_s
a,net.onnx,sat.vnnlib,30,3,0,1,1
a,net.onnx,unsat.vnnlib,30,0,3,1,1
a,net.onnx,wrong.vnnlib,30,0,3,1,1
b,net.onnx,late.vnnlib,0.2,1,1,1,1
b,net.onnx,refused.vnnlib,30,1,1,1,1
b,net.onnx,unsat.vnnlib,30,0,3,1,1
b,net.onnx,outside.vnnlib,30,0,3,1,1
"""


def fake():
    """A function that answers by the name of the file."""

    def answer(model, query, seconds):
        name = query.rsplit("/", 1)[-1].partition(".")[0]
        if name == "late":
            time.sleep(60)
        if name == "refused":
            raise ValueError("not a file of that kind")
        result = {"wrong": "sat", "outside": "sat"}.get(name, name)
        return result, f"{result}\n((X_0 1.0))" if result == "sat" else result, "by name"

    return answer


def refuted(model, query, text):
    """A check that trusts every file but one."""
    assert text.startswith("sat")
    return "the box" if query.name == "outside.vnnlib" else ""


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.setattr(resident, "GRACE", 0.2)
    (tmp_path / "questions.csv").write_text(LINES)
    return list(questions(tmp_path))


def test_questions_know_the_answer_where_all_tools_agree(asked, tmp_path):
    assert [q.known for q in asked] == ["sat", "unsat", "unsat", "", "", "unsat", "unsat"]
    assert [q.vnnlib for q in questions(tmp_path, ["b"], 2)] == ["late.vnnlib", "refused.vnnlib"]


def test_answers_are_written_as_they_come_and_a_late_process_is_replaced(asked, tmp_path):
    answering = Resident(fake)
    try:
        path = run(tmp_path, asked, tmp_path / "out", answering, 60, check=refuted)
    finally:
        answering.stop()
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["result"] for line in lines] == ["sat", "unsat", "sat", "timeout", "error", "unsat", "error"]
    assert "not a file" in lines[4]["how"] and "refutes nothing: the box" in lines[6]["how"]
    assert not list((tmp_path / "out").glob("6_*"))
    assert (tmp_path / "out" / "0_sat.vnnlib.counterexample").read_text() == "sat\n((X_0 1.0))\n"
    said = summary(path)
    assert "a: 3 of 3 solved (2 sat, 1 unsat)" in said and "b: 1 of 4 solved" in said
    assert "wrong.vnnlib: sat" in said and said.endswith("against known answers: 1")


def test_counterexamples_are_checked_without_tolerance(tmp_path):
    """Catches a box or an output that is taken as satisfied because it nearly is, and outputs that are another's."""
    from onnx_models import build, node, onnx

    onnx.save(build([1, 2], node("Relu", ["@"])), tmp_path / "net.onnx")
    declared = "".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0", "Y_1"))
    bounds = "(assert (= X_0 0.1)) (assert (>= X_1 0.25)) (assert (<= X_1 0.5))"
    (tmp_path / "q.vnnlib").write_text(f"{declared}{bounds}(assert (>= Y_1 0.5))")
    right = {"X_0": "0.1", "X_1": "0.5", "Y_0": "0.10000000149011612", "Y_1": "0.5"}

    def said(**changed):
        text = "sat\n(" + "\n ".join(f"({name} {value})" for name, value in (right | changed).items()) + ")"
        return complaint(tmp_path / "net.onnx", tmp_path / "q.vnnlib", text)

    assert said() == ""
    assert "no box" in said(X_1="0.50000000001") and "no box" in said(X_0="0.10000000149011612")
    assert "not onnxruntime's" in said(Y_1="0.50000001")
    assert "do not satisfy" in said(X_1="0.49999997", Y_1="0.4999999701976776")
    assert "assigns 1 numbers" in complaint(tmp_path / "net.onnx", tmp_path / "q.vnnlib", "sat\n((X_0 0.1))")


def test_the_process_behind_a_socket_answers_until_it_is_stopped(tmp_path, monkeypatch):
    path = tmp_path / "socket"
    monkeypatch.setattr(server, "complaint", lambda *_: "")
    serving = threading.Thread(target=server.serve, args=(path, fake), daemon=True)
    serving.start()
    while not path.exists():
        time.sleep(0.02)
    assert server.call(path, {"ready": True}, 30) == {}
    for name, expected in (("sat", "sat\n((X_0 1.0))\n"), ("unsat", "unsat\n"), ("refused", "error\n")):
        server.ask(path, "net.onnx", f"{name}.vnnlib", tmp_path / "results", 30)
        assert (tmp_path / "results").read_text() == expected
    monkeypatch.setattr(server, "complaint", lambda *_: "the box")
    assert "refutes nothing" in server.ask(path, "net.onnx", "sat.vnnlib", tmp_path / "results", 30)
    assert (tmp_path / "results").read_text() == "error\n"
    server.call(path, {"stop": True}, 30)
    serving.join(30)
    assert not serving.is_alive() and not path.exists()


def test_stored_lines_replace_those_of_the_same_questions(asked, tmp_path, monkeypatch):
    """Catches a question that counts twice, a wrong answer that counts as solved alone, and unsolved ones left out of
    the median."""
    monkeypatch.setenv("TFCERT_RESULTS", str(tmp_path / "results"))
    machine = {"cpu": "a processor", "cores": 2, "threads": 2}
    answering = Resident(fake)
    try:
        lines = stored(run(tmp_path, asked, tmp_path / "out", answering, 60, check=refuted))
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
