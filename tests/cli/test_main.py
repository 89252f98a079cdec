"""The command line: exit codes, sentences instead of tracebacks, and no TensorFlow where none is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faked import BOUNDS

from tfcert.catalog import METHODS, RELAXATIONS, check_method
from tfcert.cli.main import main

SPEC = """\
prop 1
param eps: real in [0, 1] = 0.01
model clf = keras("clf.keras") { outputs: logits }
dataset test = npz("test.npz", x="x", y="y")
strategy quick = ibp
property robust(x, y in test) using quick { forall z in ball(x, linf, eps) in net: argmax(clf(z)) == y }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model of two inputs whose class is the larger one, three samples, and a specification."""
    import keras

    made = tmp_path_factory.mktemp("cli")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2)])
    eye = np.eye(2, dtype=np.float32)
    model.set_weights([np.hstack([eye, -eye]), np.zeros(4), np.vstack([eye, -eye]), np.zeros(2)])
    model.save(made / "clf.keras")
    x = np.array([[0.9, 0.1], [0.2, 0.6], [0.55, 0.45]], np.float32)
    np.savez(made / "test.npz", x=x, y=np.array([0, 1, 0]))
    (made / "s.prop").write_text(SPEC)
    return made


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("verb", ["check", "explain"])
def test_check_and_explain_do_not_import_tensorflow(folder, verb):
    code = (
        f"import sys; from tfcert.cli.main import main; code = main(['{verb}', {str(folder / 's.prop')!r}]); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_importing_tfcert_does_not_import_tensorflow():
    code = "import sys, tfcert; assert 'tensorflow' not in sys.modules; assert 'verify' in dir(tfcert)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_resolves():
    import tfcert

    for name in tfcert.__all__:
        assert getattr(tfcert, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        tfcert.no_such_name  # noqa: B018


def test_verify_passes_prints_the_table_and_writes_where_it_says(folder, tmp_path, capsys):
    assert main(["verify", str(folder / "s.prop"), "--json", "r.json"]) == 0
    shown = capsys.readouterr().out
    assert "robust" in shown and "float32-any-order" in shown and "3 of 3 verified" in shown
    assert "out/s" in shown
    assert (tmp_path / "out" / "s" / "journal.jsonl").exists()
    assert len(json.loads((tmp_path / "r.json").read_text())["records"]) == 3


def test_verify_fails_where_a_sample_is_refuted(folder):
    assert main(["verify", str(folder / "s.prop"), "--set", "eps=1/2", "--bind", f"test={folder / 'test.npz'}"]) == 6
    spec = (folder / "s.prop").read_text().replace("= ibp", "= pgd -> ibp")
    (folder / "pgd.prop").write_text(spec)
    assert main(["verify", str(folder / "pgd.prop"), "--set", "eps=1/2", "-q"]) == 1


def test_quiet_prints_one_line_and_verbose_a_line_a_sample(folder, capsys):
    main(["verify", str(folder / "s.prop"), "-q"])
    quiet = capsys.readouterr()
    assert len(quiet.out.splitlines()) == 1 and quiet.err == ""
    main(["verify", str(folder / "s.prop"), "-v"])
    assert "robust[2] verified by ibp" in capsys.readouterr().err


def test_resume_goes_on_with_the_folder_of_an_earlier_run(folder, capsys):
    main(["verify", str(folder / "s.prop"), "-q", "--out", "run"])
    assert main(["verify", str(folder / "s.prop"), "--resume", "run"]) == 0
    assert "3 of 3 taken from the journal" in capsys.readouterr().err


def test_help_names_the_methods_and_relaxations_that_errors_name(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # lines break at hyphens
    with pytest.raises(SystemExit):
        main(["radius", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"how to bound: {', '.join(METHODS)}; lp and milp ask a solver" in shown
    assert ", ".join(RELAXATIONS) in shown
    for method, names in ((("none", None), METHODS), (("crown", "none"), RELAXATIONS)):
        with pytest.raises(ValueError, match=re.escape(f"one of {', '.join(names)}")):
            check_method(*method)


def test_inputs_that_are_named_in_another_order_than_the_model_s_are_refused(folder, capsys):
    """Samples that have them side by side would go to the wrong inputs."""
    import keras

    a, b = keras.Input((1,), name="age"), keras.Input((1,), name="income")
    keras.Model([a, b], keras.layers.Dense(2)(keras.layers.Concatenate()([a, b]))).save(folder / "two.keras")
    spec = SPEC.replace('"clf.keras") {', '"two.keras") { inputs: [income, age] ')
    (folder / "two.prop").write_text(spec)
    assert main(["verify", str(folder / "two.prop"), "-q"]) == 4
    assert "name them in this order, `inputs: [age, income]`, not income, age" in capsys.readouterr().err
    (folder / "two.prop").write_text(spec.replace("[income, age]", "[age, income]"))
    assert main(["verify", str(folder / "two.prop"), "-q"]) in (0, 1)


def test_radii_and_attacks_say_how_many_samples_there_are_and_what_is_odd_about_them(folder, capsys):
    x = np.random.default_rng(0).random((150, 2)).astype(np.float32)
    np.savez(folder / "many.npz", x=x, y=np.eye(2)[x.argmin(axis=1)])  # one-hot, and the other way round
    arguments = ["attack", str(folder / "clf.keras"), str(folder / "many.npz"), "--eps", "0.5", "--steps", "1"]
    assert main([*arguments, "--limit", "120"]) == 0
    shown = capsys.readouterr().out
    assert "the first 120 of 150 samples of" in shown and "--limit takes more" in shown
    assert "warning: 0 of 120 samples are classified right, no more than guessing among 2 classes" in shown
    np.savez(folder / "many.npz", x=x, y=x.argmax(axis=1)[:, None])
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "witnesses leave the range of the samples" in shown and "--clip 0.00" in shown
    assert "warning:" not in shown
    assert main([*arguments, "--clip", "0", "1", "--limit", "200"]) == 0
    shown = capsys.readouterr().out
    assert "the first" not in shown and "leave the range" not in shown
    bounds = ["radius", str(folder / "clf.keras"), str(folder / "many.npz"), "--method", "crown_ibp", "--limit", "2"]
    assert main(bounds) == 0
    assert "the first 2 of 150 samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["verify", "{folder}/s.prop", "--set", "eps"], "'eps' is not of the form NAME=VALUE"),
        (["verify", "{folder}/s.prop", "--bind", "test=none.npz"], "none.npz"),
        (["check", "{folder}/bad.prop"], "error[E"),
        (["check", "{folder}/s.prop", "--bind", "clf=none.keras"], "there is no file none.keras to bind clf to"),
        (["explain", "{folder}/s.prop", "--bind", "test=none.npz"], "there is no file none.npz to bind test to"),
        (["verify", "{folder}/s.prop", "--bind", "test={folder}/labels.npz"], "s.prop:6:10"),
        (
            ["radius", "{folder}/clf.keras", "{folder}/keys.npz"],
            "has the arrays a, b; the model has one input",
        ),
        (["radius", "{folder}/clf.keras", "{folder}/labels.npz"], "has label 7, but the model has 2 outputs"),
        (["radius", "{folder}/clf.keras", "{folder}/test.npz", "--relaxation", "none"], "unknown relaxation 'none'"),
        (["radius", "{folder}/clf.keras", "{folder}/test.npz", "--method", "none"], "one of ibp, forward"),
        (["radius", "{folder}/clf.keras", "{folder}/test.npz", "--clip", "0", "0.5"], "valid range [0, 0.5]"),
        (["radius", "{folder}/clf.keras", "{folder}/test.npz", "--iterations", "5"], "crown does not"),
        (["radius", "{folder}/clf.keras", "{folder}/test.npz", "--learning-rate", "0"], "'0' is not positive"),
        (["attack", "{folder}/clf.keras", "{folder}/test.npz"], "--eps"),
        (["train", "{folder}/s.prop", "--out", "m.keras"], "--objective"),
    ],
)
def test_a_mistake_of_the_user_is_a_sentence_and_exit_code_4(folder, capsys, arguments, sentence):
    x = np.zeros((2, 2), np.float32)
    np.savez(folder / "keys.npz", a=x, b=x)
    np.savez(folder / "labels.npz", x=x, y=np.array([0, 7]))
    (folder / "bad.prop").write_text("prop 1\nassert verified_accuracy(nothing) >= 1\n")
    try:
        code = main([a.replace("{folder}", str(folder)) for a in arguments])
    except SystemExit as exit_:
        code = exit_.code
    errors = capsys.readouterr().err
    assert code == 4
    assert sentence in errors and "Traceback" not in errors


def test_an_unforeseen_error_is_a_traceback_and_exit_code_3(folder, capsys, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("something nobody thought of")

    monkeypatch.setattr(BOUNDS, broken)
    assert main(["verify", str(folder / "s.prop")]) == 3
    assert "something nobody thought of" in capsys.readouterr().err


def test_who_reads_the_output_may_stop():
    """Catches an error, or a traceback at the end, for `tfcert completion bash | head -1`."""
    reads, writes = os.pipe()
    os.close(reads)
    ended = subprocess.run(
        [sys.executable, "-m", "tfcert", "completion", "bash"], stdout=writes, stderr=subprocess.PIPE, text=True
    )
    os.close(writes)
    assert ended.stderr == "" and ended.returncode == 2


def test_radii_of_a_linear_classifier_are_the_distances_to_its_boundary(folder, capsys):
    assert main(["radius", str(folder / "clf.keras"), str(folder / "test.npz"), "--json", "r.json"]) == 0
    records = json.loads(Path("r.json").read_text())["records"]
    assert [r["lower"] for r in records] == pytest.approx([0.4, 0.2, 0.05], rel=1e-3)
    assert all(r["guarantee"] == "float32-any-order" and r["space"] == "net" for r in records)
    shown = capsys.readouterr().out.splitlines()
    assert next(line.split() for line in shown if "median" in line) == ["median", f"{records[1]['lower']:.4g}"]
    assert shown[-1] == "3 of 3 samples have a certified radius; results in out/radius-clf-linf"


def test_the_header_of_radii_holds_their_statistics_and_a_histogram_is_drawn(folder):
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.set_weights([np.eye(2), np.zeros(2)])
    model.save(folder / "linear.keras")
    arguments = ["radius", str(folder / "linear.keras"), str(folder / "test.npz"), "--norm", "l2", "--out", "run"]
    assert main(arguments) == 0
    result = json.loads(Path("run/result.json").read_text())
    radii = np.array([0.8, 0.4, 0.1]) / np.sqrt(2)
    summary = result["header"]["summary"]
    assert summary["all"]["mean"] == pytest.approx(radii.mean(), rel=1e-3)
    assert summary["all"]["std"] == pytest.approx(radii.std(), rel=1e-3)
    assert summary["all"]["p25"] == pytest.approx(np.percentile(radii, 25), rel=1e-3)
    assert (summary["samples"], summary["correct"], summary["certified"]) == (3, 3, 3)
    assert summary["evaluations"] == result["records"][0]["evaluations"] >= 1
    assert Path("run/figures/radius-histogram.png").read_bytes().startswith(b"\x89PNG")


def test_a_misclassified_sample_has_radius_zero_and_is_left_out_of_the_second_column(folder, capsys):
    x = np.array([[0.9, 0.1], [0.2, 0.6]], np.float32)
    np.savez(folder / "one_wrong.npz", x=x, y=np.array([0, 0]))
    assert main(["radius", str(folder / "clf.keras"), str(folder / "one_wrong.npz")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["N", "2", "1"] in lines
    mean = next(line for line in lines if line[:1] == ["mean"])
    assert [float(v) for v in mean[1:]] == pytest.approx([0.2, 0.4], rel=1e-3)
    assert any(line[:2] == ["correct", "1"] for line in lines)


def test_one_target_class_is_farther_than_the_nearest(folder):
    """Three classes on a line: the outer class is reached from the other end only through the middle one."""
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(3)])
    model.set_weights([np.array([[-1.0, 0.0, 0.5]]), np.array([0.3, 0.1, -0.3])])
    model.save(folder / "line.keras")
    np.savez(folder / "point.npz", x=np.array([[0.0]], np.float32), y=np.array([0]))
    found = {}
    for targets in ("all", "runner-up", "least"):
        arguments = ["radius", str(folder / "line.keras"), str(folder / "point.npz"), "--targets", targets]
        assert main([*arguments, "--out", targets]) == 0
        found[targets] = json.loads(Path(targets, "result.json").read_text())["records"][0]
    # f_0 - f_1 = 0.2 - x, f_0 - f_2 = 0.6 - 1.5 x.
    assert found["all"]["lower"] == pytest.approx(0.2, rel=1e-3)
    assert found["runner-up"]["lower"] == pytest.approx(0.2, rel=1e-3)
    assert found["least"]["lower"] == pytest.approx(0.4, rel=1e-3)
    assert found["least"]["targets"] == "least"


def test_without_matplotlib_radii_say_what_to_install(folder, capsys, monkeypatch):
    monkeypatch.setattr("tfcert.report.figures.available", lambda: False)
    assert main(["radius", str(folder / "clf.keras"), str(folder / "test.npz")]) == 0
    assert "pip install 'tfcert[report]'" in capsys.readouterr().out


def test_an_attack_finds_what_lies_beyond_the_boundary_and_nothing_before(folder):
    arguments = ["attack", str(folder / "clf.keras"), str(folder / "test.npz"), "--eps", "0.25", "--json", "r.json"]
    assert main(arguments) == 0
    outcomes = [r["outcome"] for r in json.loads(Path("r.json").read_text())["records"]]
    assert outcomes == ["unknown", "falsified", "falsified"]


def test_the_terminal_stays_clean_of_tensorflows_greetings(folder):
    arguments = [sys.executable, "-m", "tfcert", "verify", str(folder / "s.prop"), "-q"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_python_says_nothing_of_tensorflow_s_either(folder):
    code = (
        "import tfcert, numpy as np; "
        f"model = tfcert.load_model({str(folder / 'clf.keras')!r}); "
        "x = np.array([[0.9, 0.1]], np.float32); tfcert.certify(model, x, [0], eps=0.01)"
    )
    quiet = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=quiet)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_attack_writes_its_witnesses_and_takes_fractions(folder):
    arguments = ["attack", str(folder / "clf.keras"), str(folder / "test.npz"), "--eps", "1/4"]
    assert main([*arguments, "--out", "found", "--json", "r.json"]) == 0
    records = json.loads(Path("r.json").read_text())["records"]
    named = [r["witness"] for r in records if r["outcome"] == "falsified"]
    assert named and None not in named
    with np.load(Path("found") / named[0]) as saved:
        assert np.abs(saved["witness"].astype(float) - saved["original"]).max() <= 0.25


REFUSED = [
    (["verify", "none.prop"], "there is no specification none.prop"),
    (["verify", "{folder}/s.prop", "--set", "esp=1"], "esp"),
    (["verify", "{folder}/s.prop", "--set", "eps=2"], "outside [0, 1]"),
    (["verify", "{folder}/s.prop", "--resume", "none"], "there is no folder none: nothing to resume"),
    (["verify", "{folder}/s.prop", "--resume", "{folder}"], "has no journal.jsonl: nothing to resume"),
    (["verify", "{folder}/s.prop", "--resume", "other"], "the specification changed since"),
    (["verify", "{folder}/s.prop", "--resume", "same", "--set", "eps=1/3"], "eps was 1/4 and is now 1/3"),
    (["verify", "{folder}/s.prop", "--resume", "same", "--bind", "test={folder}/more.npz"], "the samples of test"),
    (["verify", "{folder}/s.prop", "--resume", "radii"], "is of a run without a specification"),
    (["radius", "{folder}/clf.keras", "{folder}/test.npz", "--resume", "same"], "the parameter norm was not given"),
    (["verify", "{folder}/s.prop", "--bind", "clf=none.keras"], "there is no file none.keras"),
    (["verify", "{folder}/s.prop", "--bind", "clf={folder}/test.npz"], "is not a .keras or .onnx file"),
    (["verify", "{folder}/s.prop", "--bind", "test={folder}/bad.npz"], "is not an npz archive"),
    (["verify", "{folder}/gone.prop"], 'there is no file "gone.keras"'),
    (["verify", "{folder}/s.prop", "--out", "{folder}/test.npz"], "is no folder"),
    (["verify", "{folder}/s.prop", "--json", "{folder}"], "is a folder; name a file"),
    (["radius", "none.keras", "{folder}/test.npz"], "there is no model none.keras"),
    (["radius", "{folder}/clf.keras", "none.npz"], "none.npz"),
    (["radius", "{folder}/clf.keras", "{folder}/test.npz", "--method", "none"], "unknown method 'none'"),
    (["radius", "{folder}/clf.keras", "{folder}/test.npz", "--clip", "1", "0"], "the lower end comes first"),
    (["radius", "{folder}/clf.keras", "{folder}/test.npz", "--resume", "none"], "there is no folder none"),
    (["radius", "{folder}/clf.keras", "{folder}/test.npz", "--out", "{folder}/test.npz"], "is no folder"),
    (["attack", "{folder}/bad.keras", "{folder}/test.npz", "--eps", "1"], "is damaged"),
    (["attack", "{folder}/clf.keras", "{folder}/test.npz", "--eps", "-1"], "not negative"),
    (["attack", "{folder}/clf.keras", "{folder}/test.npz", "--eps", "1", "--out", "{folder}/test.npz"], "is no folder"),
    (["train", "{folder}/s.prop", "--objective", "o", "--out", "m.keras"], "has no objective o"),
    (["train", "{folder}/t.prop", "--objective", "o", "--out", "m.h5"], "is no .keras file"),
    (
        ["train", "{folder}/t.prop", "--objective", "o", "--out", "m.keras", "--resume", "none"],
        "there is no folder none",
    ),
    (["train", "{folder}/t.prop", "--objective", "o", "--out", "m.keras", "--bind", "test=none.npz"], "none.npz"),
    (["dream"], "invalid choice"),
]


def test_refusals_come_before_tensorflow_is_loaded(folder, tmp_path):
    """One process refuses all of them: whatever imports TensorFlow on the way is told by the case that did."""
    (folder / "gone.prop").write_text(SPEC.replace("clf.keras", "gone.keras"))
    (folder / "t.prop").write_text(SPEC + "objective o for robust { train: test epochs: 1 }\n")
    (folder / "bad.npz").write_text("no archive")
    (folder / "bad.keras").write_text("no archive")
    with np.load(folder / "test.npz") as saved:
        np.savez(folder / "more.npz", x=saved["x"][::-1], y=saved["y"][::-1])
    for name, spec in (("same", "s.prop"), ("other", "gone.prop")):
        arguments = ["verify", str(folder / spec), "--set", "eps=1/4", "--bind", f"clf={folder / 'clf.keras'}"]
        assert main([*arguments, "--bind", f"test={folder / 'test.npz'}", "--out", name, "-q"]) == 6
    # As `tfcert radius` writes it: its parameters are no specification's.
    lines = (Path("same") / "journal.jsonl").read_text().splitlines()
    header = json.loads(lines[0])["header"]
    header.pop("given")
    Path("radii").mkdir()
    (Path("radii") / "journal.jsonl").write_text(json.dumps({"header": header}) + "\n")
    script = (
        "import contextlib, io, json, sys\n"
        "from tfcert.cli.main import main\n"
        "for arguments, sentence in json.load(sys.stdin):\n"
        "    said = io.StringIO()\n"
        "    with contextlib.redirect_stderr(said):\n"
        "        try:\n"
        "            code = main(arguments)\n"
        "        except SystemExit as exit_:\n"
        "            code = exit_.code\n"
        "    loaded = {'tensorflow', 'keras'} & set(sys.modules)\n"
        "    assert (code, loaded) == (4, set()), (arguments, code, loaded, said.getvalue())\n"
        "    assert sentence in said.getvalue(), (arguments, said.getvalue())\n"
    )
    cases = [([a.replace("{folder}", str(folder)) for a in arguments], text) for arguments, text in REFUSED]
    done = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(cases), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_explain_says_where_the_proofs_about_a_sample_lose(folder, capsys):
    """What the layers lose in one sample, why of other questions nothing is said, and a figure of it."""
    text = SPEC.replace("ibp", "ibp -> crown") + "measure far(x, y in test) = largest r in [0, 1] tol 0.1 such that\n"
    text += "  forall z in ball(x, linf, r) in net: argmax(clf(z)) == y\n"
    (folder / "e.prop").write_text(text)
    assert main(["explain", str(folder / "e.prop"), "--sample", "1"]) == 0
    said = capsys.readouterr().out
    assert (
        "robust[1]: ProofLosses: output 1 - output 0 is at least 0.38" in said and "by lines on bounds of crown" in said
    )
    assert "far[1]: a radius is searched for by many proofs: --radius R looks at one of them" in said
    drawn = ["--figures", "why", "--radius", "1/10", "--figure-format", "pdf"]
    assert main(["explain", str(folder / "e.prop"), "--sample", "1", *drawn]) == 0
    assert sorted(path.name for path in Path("why").iterdir()) == ["far-1-losses.pdf", "robust-1-losses.pdf"]
    assert "far[1]: ProofLosses: output 1 - output 0 is at least 0.2" in capsys.readouterr().out
    assert main(["explain", str(folder / "e.prop"), "--sample", "7"]) == 0
    assert "robust[7]: it does not ask about sample 7" in capsys.readouterr().out
    assert main(["explain", str(folder / "e.prop"), "--figures", "why"]) == 4
    assert "--figures and --radius go with --sample" in capsys.readouterr().err
