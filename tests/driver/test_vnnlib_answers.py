"""VNN-LIB files are answered: against brute force, with witnesses that lie in the box and replay, within their time."""

import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from onnx_models import build, model, node, onnx, rng

from tfcert.driver.vnnlib import VnnlibVerifier
from tfcert.errors import UsageError
from tfcert.language import StageSpec, Strategy
from tfcert.language.spec.formula import evaluate
from tfcert.language.vnnlib.reader import parse_vnnlib

E = "@"
NODES = (
    node("Gemm", [E, rng(2, 6), rng(6)]),
    node("Relu", [E]),
    node("Gemm", [E, rng(6, 5, seed=1), rng(5)]),
    node("Relu", [E]),
    node("Gemm", [E, rng(5, 3, seed=2), rng(3)]),
)
DECLARED = "".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0", "Y_1", "Y_2"))
BOUNDS = "(assert (>= X_0 -0.3))(assert (<= X_0 0.7))(assert (>= X_1 0.1))(assert (<= X_1 0.9))"


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    onnx.save(build([1, 2], *NODES), path)
    return path


@pytest.fixture(scope="module")
def verifier():
    return VnnlibVerifier()


def grid(text, steps=41):
    """The least over a grid of each case of how far its rows are from being satisfied: at most 0 where a point is."""
    found = []
    for case in parse_vnnlib(text).cases:
        (a, b), (c, d) = ((float(low), float(high)) for low, high in case.bounds)
        points = np.stack(np.meshgrid(np.linspace(a, b, steps), np.linspace(c, d, steps)), -1).reshape(-1, 2)
        outputs = model([1, 2], *NODES).run(points.astype(np.float32))
        found.append(any(evaluate(case.formula, [Fraction(float(v)) for v in y]) for y in outputs))
    return any(found)


def thresholds():
    """Questions about each output, above and below what the grid attains by a little: both answers are known."""
    points = np.stack(np.meshgrid(np.linspace(-0.3, 0.7, 41), np.linspace(0.1, 0.9, 41)), -1).reshape(-1, 2)
    outputs = model([1, 2], *NODES).run(points.astype(np.float32))
    slack = 0.1 * np.ptp(outputs, axis=0)
    for i in range(3):
        yield f"(assert (>= Y_{i} {outputs[:, i].max() - slack[i]:.4f}))", "sat"
        yield f"(assert (>= Y_{i} {outputs[:, i].max() + slack[i]:.4f}))", "unsat"
    gap = (outputs[:, 0] - outputs[:, 1]).max()
    far = f"(and (>= Y_2 {outputs[:, 2].max() + 1:.4f}) (<= Y_0 0))"
    yield f"(assert (or (>= (- Y_0 Y_1) {gap + 0.1:.4f}) {far}))", "unsat"
    yield f"(assert (or (>= (- Y_0 Y_1) {gap - 0.1:.4f}) {far}))", "sat"


@pytest.mark.parametrize(("asserted", "expected"), list(thresholds()))
def test_answers_are_those_of_brute_force(verifier, net, tmp_path, asserted, expected):
    text = DECLARED + BOUNDS + asserted
    (tmp_path / "q.vnnlib").write_text(text)
    assert grid(text) == (expected == "sat")
    answer = verifier.answer(net, tmp_path / "q.vnnlib", 60)
    assert answer.result == expected
    if expected == "sat":
        replayed(text, answer)


def replayed(text, answer):
    """A witness lies in a box exactly, and the model's answers there, read as floats, satisfy what was sought."""
    inputs = [Fraction(v) for v in answer.inputs]
    y = model([1, 2], *NODES).run(np.array([[float(v) for v in answer.inputs]], np.float32))[0]
    assert [float(v) for v in answer.outputs] == y.astype(float).tolist()
    assert any(
        all(low <= v <= high for v, (low, high) in zip(inputs, case.bounds, strict=True))
        and evaluate(case.formula, [Fraction(float(v)) for v in y])
        for case in parse_vnnlib(text).cases
    )


def test_several_boxes_and_what_is_asked_in_each(verifier, net, tmp_path):
    """Only the last box has a witness, and another formula than the first two."""
    point = np.array([[0.5, 0.5]], np.float32)
    y = model([1, 2], *NODES).run(point)[0]
    box = "(>= X_0 {0}) (<= X_0 {1}) (>= X_1 {0}) (<= X_1 {1})"
    far = f"(and {box.format(0.1, 0.2)} (>= Y_0 1000))", f"(and {box.format(0.3, 0.4)} (>= Y_0 1000))"
    near = f"(and {box.format(0.45, 0.55)} (>= Y_1 {y[1] - 0.001}) (<= Y_1 {y[1] + 0.001}))"
    for parts, expected in ((far, "unsat"), ((*far, near), "sat")):
        text = f"{DECLARED}(assert (or {' '.join(parts)}))"
        (tmp_path / "q.vnnlib").write_text(text)
        answer = verifier.answer(net, tmp_path / "q.vnnlib")
        assert answer.result == expected
        if expected == "sat":
            replayed(text, answer)


def test_inputs_that_are_fixed_at_numbers_that_are_no_floats(verifier, net, tmp_path):
    """0.1 is no float32: the program is run on what it is rounded to, and the witness says 0.1."""
    text = f"{DECLARED}(assert (= X_0 0.1)) (assert (= X_1 0.3)) (assert (<= Y_0 1000))"
    (tmp_path / "q.vnnlib").write_text(text)
    answer = verifier.answer(net, tmp_path / "q.vnnlib")
    assert answer.result == "sat" and answer.inputs == ("0.1", "0.3")
    replayed(text, answer)
    assert re.fullmatch(r"sat\n\(\(X_0 0\.1\)\n \(X_1 0\.3\)\n \(Y_0 .*\)\n \(Y_1 .*\)\n \(Y_2 .*\)\)", answer.text())


def test_a_query_of_version_2_is_answered_with_its_tensors(net, tmp_path, eager):
    """Catches tensors in another order, a witness of another box, and a proof about real numbers that passes as one
    about float32."""
    pytest.importorskip("vnnlib", reason="VNN-LIB 2 is read by the package vnnlib")
    verifier = VnnlibVerifier(Strategy("quick", (StageSpec("pgd"), StageSpec("crown"))))
    head = "(vnnlib-version <2.0>)(declare-network f (declare-input X {0} [1,2]) (declare-output Y {0} [1,3]))"
    box = "(assert (== X[0,0] 0.1)) (assert (> X[0,1] 0.25)) (assert (< X[0,1] 0.5))"
    (tmp_path / "q.vnnlib").write_text(head.format("float32") + box + "(assert (<= Y[0,0] 1000.0))")
    answer = verifier.answer({"f": net}, tmp_path / "q.vnnlib", 60)
    x, y = answer.tensors
    point = np.array([[float(v) for v in x.values]], np.float32)
    assert answer.result == "sat" and point[0, 0] == np.float32(0.1) and 0.25 < point[0, 1] < 0.5
    assert [float(v) for v in y.values] == model([1, 2], *NODES).run(point)[0].astype(float).tolist()
    assert answer.text().splitlines()[:2] == ["sat", "X float32 [1,2]"] and "Y float32 [1,3]" in answer.text()
    (tmp_path / "q.vnnlib").write_text(head.format("float32") + box + "(assert (>= Y[0,0] 1000.0))")
    assert verifier.answer(net, tmp_path / "q.vnnlib", 60).result == "unsat"
    curved = tmp_path / "tanh.onnx"
    onnx.save(build([1, 2], node("Gemm", [E, rng(2, 3)]), node("Tanh", [E])), curved)
    for kind, result in (("float32", "unknown"), ("real", "unsat")):
        (tmp_path / "q.vnnlib").write_text(head.format(kind) + box + "(assert (>= Y[0,0] 2.0))")
        assert verifier.answer(curved, tmp_path / "q.vnnlib", 60).result == result
    with pytest.raises(UsageError, match="declared float64"):
        (tmp_path / "q.vnnlib").write_text(head.format("float64") + box + "(assert (>= Y[0,0] 2.0))")
        verifier.answer(net, tmp_path / "q.vnnlib")


def test_what_cannot_be_decided_is_unknown_and_no_time_is_a_timeout(net, tmp_path):
    """Interval bounds alone leave the question open; a question without time is not answered by chance."""
    points = rng(200, 2, seed=3).clip(-0.3, 0.7)
    top = model([1, 2], *NODES).run(points)[:, 0].max()
    (tmp_path / "q.vnnlib").write_text(f"{DECLARED}{BOUNDS}(assert (>= Y_0 {top + 0.01}))")
    loose = VnnlibVerifier(Strategy("loose", (StageSpec("ibp"),)))
    assert loose.answer(net, tmp_path / "q.vnnlib").result == "unknown"
    assert loose.answer(net, tmp_path / "q.vnnlib", 1e-6).result == "timeout"


def test_files_that_do_not_fit_the_model(verifier, net, tmp_path):
    (tmp_path / "q.vnnlib").write_text(
        "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (= X_0 0))(assert (<= Y_0 0))"
    )
    with pytest.raises(UsageError, match="speaks of 1 inputs, and the model has 2"):
        verifier.answer(net, tmp_path / "q.vnnlib")
    (tmp_path / "q.vnnlib").write_text("(declare-const X_0 Real)(assert")
    with pytest.raises(UsageError, match="never closed"):
        verifier.answer(net, tmp_path / "q.vnnlib")


def test_the_command_line_prints_the_competition_s_answers(net, tmp_path):
    (tmp_path / "q.vnnlib").write_text(f"{DECLARED}{BOUNDS}(assert (>= Y_0 1000))")
    call = [sys.executable, "-m", "tfcert", "verify", str(net), str(tmp_path / "q.vnnlib")]
    done = subprocess.run([*call, "--timeout", "120"], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("unsat\n", 0)
    late = subprocess.run([*call, "--timeout", "0.01"], capture_output=True, text=True)
    assert (late.stdout, late.returncode) == ("timeout\n", 6)
    wrong = subprocess.run([*call[:-1], str(tmp_path / "none.vnnlib")], capture_output=True, text=True)
    assert wrong.returncode == 4 and "there is no file" in wrong.stderr
