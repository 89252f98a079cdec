"""Distances without a specification: each way says what it promises, and what Ctrl-C leaves can be resumed."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from sweeps import sweep_but

import tfcert
from tfcert.catalog import DISTANCES, DistanceInfo
from tfcert.clauses import TARGETS
from tfcert.cli.arguments import OWN_VERBS
from tfcert.cli.main import build_parser, main
from tfcert.errors import ExitCode
from tfcert.estimates.question import DistanceAnswer
from tfcert.verdict import Guarantee, Reason

CHEAP = {
    "clever": ("--batches", "10", "--samples", "16"),
    "cw": ("--steps", "30", "--searches", "2", "--clip", "0", "1"),
    "ead": ("--steps", "30", "--searches", "2"),
    "fmn": ("--norm", "l2", "--steps", "100"),
    "global-lipschitz": (),
    "minimum": ("--clip", "0", "1"),
}
GUARANTEES = {"clever": "estimate", "global-lipschitz": "numeric", "minimum": "float32-any-order"}
"""Of correctly classified samples; attacks' are replayed."""


def verb(name: str) -> list[str]:
    return [name] if name in OWN_VERBS else ["estimate", name]


def files(folder) -> list[str]:
    return [str(folder / "clf.keras"), str(folder / "test.npz")]


def closed(record: dict) -> bool:
    """Tells whether a minimum is known but for what rounding leaves open, and says so.

    Before a softmax margins of up to 3.8e-6 prove nothing, here 1.2e-4 of the distance.
    """
    near = record["upper"] - record["lower"] <= 2e-4 * record["upper"]
    return near and (record["optimal"] or "rounding" in record["reason"])


def results(folder, name: str, *options: str) -> dict:
    out = str(folder / f"run-{name}")
    assert main([*verb(name), *files(folder), *options, "--out", out]) == ExitCode.PASS
    return json.loads((folder / f"run-{name}" / "result.json").read_text())


@pytest.mark.parametrize("name", DISTANCES)
def test_each_way_is_offered_and_says_in_every_output_what_it_promises(folder, capsys, wrong, name):
    info = DISTANCES[name]
    if info.refutes and not info.proves:
        pytest.importorskip("foolbox", reason="foolbox (the extra 'attacks') is not installed")
    found = results(folder, name, *CHEAP[name])
    said = capsys.readouterr().out
    assert info.promise in said and "pass" not in said
    assert found["header"]["params"].items() >= {"distance": name, "targets": "all"}.items()
    records = found["records"]
    assert len(records) == 8 and all(r["distance"] == name and r["space"] == "net" for r in records)
    mistaken, right = records[wrong], [r for r in records if r["sample"] != wrong]
    assert (mistaken["outcome"], mistaken["lower"], mistaken["upper"]) == ("falsified", 0, 0)
    assert {r["guarantee"] for r in right} == {GUARANTEES.get(name, "replayed")}
    assert all((r["lower"] is not None) == info.proves for r in right)
    assert all((r["upper"] is not None) == info.refutes == (r["witness"] is not None) for r in right)
    assert all(("estimate" in r) == info.estimates for r in records)
    assert {r["outcome"] for r in right} == {"verified" if info.proves else "unknown"}
    assert (folder / f"run-{name}" / "figures" / f"{name}-histogram.png").is_file()


def test_the_numbers_are_those_of_python_s_functions(folder, classifier, samples, wrong):
    """Batches, and samples left out because they are misclassified, do not change the points that CLEVER draws."""
    right = np.arange(8) != wrong
    found = results(folder, "clever", *CHEAP["clever"], "--norm", "linf", "--targets", "runner-up")
    assert found["header"]["params"]["targets"] == "runner_up" and found["records"][0]["targets"] == "runner-up"
    how = {"norm": "linf", "targets": "runner-up"}
    scores = tfcert.clever_score(classifier, *samples, batches=10, samples=16, **how).score
    np.testing.assert_allclose([r["estimate"] for r in found["records"]], scores, rtol=1e-6)
    found = results(folder, "global-lipschitz", "--norm", "l1")
    radii = tfcert.global_lipschitz_radius(classifier, *samples, norm="l1").radius
    np.testing.assert_allclose([r["lower"] for r in found["records"]], radii, rtol=1e-9)
    found = results(folder, "minimum", "--norm", "l2", "--upper", "3", "--limit", "5", "--search", "milp")
    least = tfcert.minimum_perturbation(classifier, samples[0][:5], samples[1][:5], norm="l2", upper=3.0, search="milp")
    np.testing.assert_allclose([r["upper"] for r in found["records"]], least.upper, rtol=1e-4)
    assert all(closed(r) for r, ok in zip(found["records"], right[:5], strict=True) if ok)
    with np.load(folder / "run-minimum" / found["records"][0]["witness"]) as saved:
        assert np.asarray(classifier(saved["witness"][None])).argmax() != samples[1][0]
        step = saved["witness"].astype(float) - samples[0][0].astype(float)
        assert np.linalg.norm(step) <= found["records"][0]["upper"]


def test_what_lower_bounds_of_a_minimum_are_about_can_be_chosen_and_is_kept(folder, capsys):
    """Catches an option that is read and not used, and a run that is resumed with proofs of another meaning."""
    charged, left_out = (
        results(folder, "minimum", "--clip", "0", "1", "--limit", "1", *more) for more in ((), ("--rounding", "ignore"))
    )
    assert [found["header"]["rounding"] for found in (charged, left_out)] == ["deployed", "ignore"]
    first, second = charged["records"][0], left_out["records"][0]
    assert (first["guarantee"], second["guarantee"]) == ("float32-any-order", "numeric")
    assert second["optimal"] and first["lower"] < second["lower"] and second["reason"] == ""
    other = ["minimum", *files(folder), "--resume", str(folder / "run-minimum"), "--rounding", "real"]
    assert main(other) == ExitCode.USAGE_ERROR and "was ignore and is now real" in capsys.readouterr().err
    assert DISTANCES["minimum"].options["rounding"].default == tfcert.BoundOptions().rounding


ASKED: list[int] = []


def stuttering(question):
    """One answer a sample; Ctrl-C at the fourth in the first run."""
    for place in question.places:
        ASKED.append(place)
        if len(ASKED) == 4:
            raise KeyboardInterrupt
        yield DistanceAnswer(0.5, 1.0, guarantee=Guarantee.NUMERIC, optimal=False, reason="slow", seconds=2.0)


@pytest.fixture
def added():
    """A way of a user's own: it has its verb, options and help from its entry alone."""
    ASKED.clear()
    info = DistanceInfo(
        "stutter", f"{__name__}:stuttering", title="stuttered distance", promise="a promise", proves=True, refutes=True,
        norms=("l1",), clips=True, options=dict(DISTANCES["global-lipschitz"].options), batch=100,
    )  # fmt: skip
    with DISTANCES.added(info):
        yield info


def test_ctrl_c_keeps_each_answer_and_resume_asks_for_the_others_alone(folder, added, wrong, capsys):
    run = folder / "run"
    assert main(["estimate", "stutter", *files(folder), "--out", str(run)]) == ExitCode.INTERRUPTED
    assert "interrupted (exit code 2)" in capsys.readouterr().out
    first = json.loads((run / "result.json").read_text())
    assert first["header"]["complete"] is False and [r["sample"] for r in first["records"]] == [0, 1, 2, 3]
    assert main(["estimate", "stutter", *files(folder), "--limit", "9", "--resume", str(run)]) == ExitCode.USAGE_ERROR
    assert "limit was 100 and is now 9" in capsys.readouterr().err
    assert main(["estimate", "fmn", *files(folder), "--resume", str(run)]) == ExitCode.USAGE_ERROR
    assert "distance was stutter and is now fmn" in capsys.readouterr().err
    assert main(["estimate", "stutter", *files(folder), "--resume", str(run)]) == ExitCode.PASS
    assert wrong == 3 and ASKED == [0, 1, 2, 4, 4, 5, 6, 7]
    second = json.loads((run / "result.json").read_text())
    assert second["records"][:4] == first["records"] and second["records"][7]["seconds"] == 2.0
    assert "open       7 of 7: slow" in capsys.readouterr().out


def test_a_score_at_the_cap_is_called_in_doubt(folder, capsys):
    found = results(folder, "clever", *CHEAP["clever"], "--norm", "l1", "--radius", "0.01", "--limit", "2")
    assert [r["reason_name"] for r in found["records"]] == [Reason.AT_CAP] * 2
    assert [r["estimate"] for r in found["records"]] == [0.01] * 2 and found["header"]["summary"]["at_cap"] == 2
    assert "2 of 2 scores are cut at the radius of the ball sampled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["estimate", "cw", "--norm", "linf"], "cw measures l2 distances, not linf: fmn measures these"),
        (["estimate", "ead", "--norm", "l2"], "ead measures l1 distances, not l2: cw or fmn measures these"),
        (["minimum"], "give --upper, or the valid range of an input, --clip"),
        (["minimum", "--clip", "0.4", "0.5"], "leaves the valid range"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence_before_anything_runs(
    folder, capsys, arguments, said, monkeypatch
):
    monkeypatch.setattr("tfcert.cli.main._import_tensorflow", lambda: pytest.fail("too late"))
    assert main([*arguments, *files(folder)]) == ExitCode.USAGE_ERROR
    assert said in capsys.readouterr().err


def test_a_mistake_is_told_before_tensorflow_is_loaded(folder):
    """In a process of its own: here TensorFlow is there already."""
    arguments = ["minimum", *files(folder), "--norm", "l2"]
    code = (
        f"import sys; from tfcert.cli.main import main; code = main({arguments!r}); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.USAGE_ERROR and "give --upper" in done.stderr


def test_the_targets_offered_are_those_that_there_are(folder, capsys):
    for info in DISTANCES.values():
        assert tuple(word.replace("_", "-") for word in info.options["targets"].allowed) == TARGETS
    three = ["estimate", "global-lipschitz", *files(folder), "--targets", "random", "--out", str(folder / "run")]
    assert main(three) == ExitCode.USAGE_ERROR and "at least four classes" in capsys.readouterr().err


def test_options_are_checked_by_what_the_catalog_says_of_them(folder, capsys):
    for bad in (["estimate", "clever", "--batches", "9"], ["minimum", "--solver", "cplex"], ["estimate", "nope"]):
        with pytest.raises(SystemExit) as left:
            build_parser().parse_args([*bad, *files(folder)])
        assert left.value.code == ExitCode.USAGE_ERROR
    assert "'9' is no whole number of at least 10" in capsys.readouterr().err


def test_a_single_output_and_no_sample_are_refused(folder, capsys):
    import keras

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]).save(folder / "one.keras")
    assert main(["estimate", "clever", str(folder / "one.keras"), files(folder)[1]]) == ExitCode.USAGE_ERROR
    assert "single output" in capsys.readouterr().err
    np.savez(folder / "none.npz", x=np.zeros((0, 4), np.float32), y=np.zeros(0, int))
    nothing = ["estimate", "global-lipschitz", files(folder)[0], str(folder / "none.npz"), "--out", str(folder / "n")]
    assert main(nothing) == ExitCode.NOTHING_TO_CHECK


@pytest.mark.parametrize("kind", sweep_but(["softmax"], ["softmax", "float64"]))
def test_heads_and_types_of_models_are_those_of_the_functions(folder, kind, samples, classifier):
    import keras

    dtype = "float64" if kind == "float64" else "float32"
    head = [keras.layers.Softmax(dtype=dtype)] if kind == "softmax" else []
    layers = [keras.layers.Dense(8, "relu", dtype=dtype), keras.layers.Dense(3, dtype=dtype), *head]
    x = z = keras.Input((4,), dtype=dtype)
    for layer in layers:
        z = layer(z)
    model = keras.Model(x, z)
    model.set_weights(classifier.get_weights())
    model.save(folder / "clf.keras")
    lower = [r["lower"] for r in results(folder, "global-lipschitz")["records"]]
    np.testing.assert_allclose(lower, tfcert.global_lipschitz_radius(model, *samples).radius, rtol=1e-9)
    least = results(folder, "minimum", "--clip", "0", "1", "--limit", "2")["records"]
    assert all(low <= r["lower"] and closed(r) for low, r in zip(lower, least, strict=False))
