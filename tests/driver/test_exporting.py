"""Specifications go to VNN-LIB and back with the verdicts that they have; what cannot be said there is refused."""

import json

import numpy as np
import pytest
from onnx_models import build, node, onnx, rng
from sweeps import sweep_but

import tfcert
from tfcert.cli.main import main
from tfcert.driver.bind import bind, load_spec
from tfcert.driver.exporting import export
from tfcert.driver.vnnlib import VnnlibVerifier, prop_of
from tfcert.errors import UsageError

pytest.importorskip("vnnlib", reason="VNN-LIB 2 is read by the package vnnlib")

HEAD = """prop 1
model f = onnx("f.onnx")
model g = onnx("g.onnx")
dataset d = npz("d.npz") { range: [0, 4]  scale: 1/4 }
strategy s = pgd -> crown
"""
ONE = """
property near(x, y in d) using s { forall z in ball(x, linf, 0.01) in unit: argmax(f(z)) == y }
property far(x, y in d) using s {
  forall z in ball(x, linf, 0.7) in unit: argmax(f(z)) == y or f(z)[0] + 1/3 * f(z)[1] > 2
}
property either using s { exists z in box([0, 0.25], [0, 1]) or box([0.5, 1], [0, 1]) in net: f(z)[2] > f(z)[0] }
"""
APART = """
property apart using s {
  exists a in box([0, 0.5], [0, 1]) in net, b in box([0.25, 1], [0, 1]) in net where b[0] == a[0]:
    f(a)[0] >= g(b)[1] + 9
}
"""
SEVERAL = """
property alike(x in d) using s {
  forall z in ball(x, linf, 0.02) in unit where 2 * z[0] >= z[1] - 8: abs(f(z)[0] - g(z)[0]) <= 0.2
}
"""


@pytest.fixture
def place(tmp_path):
    weights = [rng(2, 5), rng(5), rng(5, 3, seed=1), rng(3)]
    for name, change in (("f", 0.0), ("g", 0.01)):
        w = [part + np.float32(change) * rng(*part.shape, seed=5) for part in weights]
        onnx.save(build([1, 2], node("Gemm", ["@", *w[:2]]), node("Relu", ["@"]), node("Gemm", ["@", *w[2:]])),
                  tmp_path / f"{name}.onnx")  # fmt: skip
    x = np.array([[3.0, 1.0], [0.5, 2.5]], np.float32)
    y = tfcert.load_model(tmp_path / "f.onnx").run(x / 4).argmax(axis=1)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    return tmp_path


def outcomes(path, out):
    report = tfcert.verify(path, out=out, verbose=0)
    return {(r.property, r.sample): str(r.verdict.outcome) for r in report.records}


@pytest.mark.parametrize(
    ("text", "version"), sweep_but([(ONE, 1), (APART, 2)], [(ONE, 1), (ONE, 2), (APART, 2), (SEVERAL, 2)])
)
def test_there_and_back_again_the_verdicts_are_the_same(place, eager, text, version):
    """Catches boxes, spaces, signs, negations and equations that are written as others, in either direction."""
    plan = "pgd -> crown" if text is ONE else "crown"  # of several networks an attack takes long to compile
    (place / "s.prop").write_text((HEAD + text).replace("pgd -> crown", plan))
    expected = outcomes(place / "s.prop", place / "out")
    assert set(expected.values()) <= {"verified", "falsified"} and (text is not ONE or len(set(expected.values())) == 2)
    folder = place / "queries"
    found, left_out = export(bind(load_spec(place / "s.prop", {}, {}), {}), folder, version)
    assert not left_out
    assert {(one.property, one.sample) for one in found} == set(expected)
    verifier = VnnlibVerifier(load_spec(place / "s.prop", {}, {}).strategies["s"])
    for one in found:
        models = {name: str(folder / file) for name, file in one.models.items()}
        given = models if version == 2 else models.popitem()[1]
        answer = verifier.answer(given, folder / one.file).result
        assert {"sat": one.sat, "unsat": one.unsat}[answer] == expected[one.property, one.sample], one
        named = {path: path.rsplit("/", 1)[-1] for path in ([given] if version == 1 else given.values())}
        (folder / "back.prop").write_text(
            prop_of(given, folder / one.file, named).replace("pgd -> crown -> split", plan)
        )
        back = set(outcomes(folder / "back.prop", folder / one.file.replace(".vnnlib", "")).values())
        assert ("verified" in back) == (answer == "sat") and (answer == "sat" or back == {"falsified"}), one


REFUSED = {
    "l2": ("forall z in ball(x, l2, 0.1) in unit: argmax(f(z)) == y", 2, "no box"),
    "conditions": ("forall z in ball(x, linf, 0.1) in unit where z[0] >= 0: argmax(f(z)) == y", 1, "--version 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_vnnlib_cannot_say_is_refused(place, name):
    text, version, said = REFUSED[name]
    (place / "s.prop").write_text(f"{HEAD}property p(x, y in d) using s {{ {text} }}")
    with pytest.raises(UsageError, match=said):
        export(bind(load_spec(place / "s.prop", {}, {}), {}), place / "queries", version)
    assert not (place / "queries").exists()


MEASURE = "measure m(x in d) = largest f(z)[0] over z in ball(x, linf, 0.1) in unit\n"


def test_a_measure_alone_and_a_softmax_are_refused(place):
    for more, said in (
        (MEASURE, "m ask for numbers"),
        ("property p(x, y in d) using s { forall z in ball(x, linf, 0.1) in unit: argmax(h(z)) == y }", "softmax"),
    ):  # fmt: skip
        onnx.save(build([1, 2], node("Gemm", ["@", rng(2, 3)]), node("Softmax", ["@"])), place / "h.onnx")
        (place / "s.prop").write_text(f'{HEAD}model h = onnx("h.onnx")\n{more}\n')
        with pytest.raises(UsageError, match=said):
            export(bind(load_spec(place / "s.prop", {}, {}), {}), place / "queries", 1)


def test_the_command_line_writes_both_ways_and_says_what_is_supported(place, capsys, monkeypatch):
    monkeypatch.setattr("tfcert.cli.main._import_tensorflow", lambda: None)
    (place / "s.prop").write_text(HEAD + ONE + MEASURE)
    assert main(["export", str(place / "s.prop"), "--vnnlib", str(place / "q")]) == 0
    assert "no numbers: m\n" in capsys.readouterr().out
    manifest = json.loads((place / "q" / "manifest.json").read_text())
    assert manifest["models"]["f"]["file"] == "f.onnx" and len(manifest["models"]["f"]["sha256"]) == 64
    assert len((place / "q" / "instances.csv").read_text().splitlines()) == 5
    command = ["export", str(place / "q" / "f.onnx"), str(place / "q" / "near-0.vnnlib")]
    assert main([*command, "--prop", str(place / "q" / "near.prop")]) == 0
    assert main(["check", str(place / "q" / "near.prop")]) == 0
    capsys.readouterr()
    assert main(["supports", "--onnx-operators"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Gemm float32 float64 real" in lines and "Tanh real" in lines
    assert main(["export", str(place / "s.prop"), "--prop", "x.prop"]) == 4


@pytest.mark.sweep
def test_a_keras_model_is_exported_with_the_verdicts_that_it_has(place):
    """Keras writes the model as ONNX (by tf2onnx); a convolution's channels stay last there."""
    pytest.importorskip("tf2onnx", reason="Keras exports to ONNX by tf2onnx")
    import keras

    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(3, 2, activation="relu"), keras.layers.MaxPooling2D(2), keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]  # fmt: skip
    model = keras.Sequential([keras.Input((5, 5, 2)), *layers])
    model.save(place / "k.keras")
    x = np.random.default_rng(0).uniform(size=(3, 5, 5, 2)).astype(np.float32)
    np.savez(place / "k.npz", x=x, y=model.predict(x, verbose=0).argmax(axis=1))
    (place / "k.prop").write_text(
        'prop 1\nmodel k = keras("k.keras")\ndataset d = npz("k.npz") { range: [0, 1] }\nstrategy s = pgd -> crown\n'
        "property near(x, y in d) using s { forall z in ball(x, linf, 0.001) in unit: argmax(k(z)) == y }\n"
        "property far(x, y in d) using s { forall z in ball(x, linf, 1) in unit: argmax(k(z)) == y }\n"
    )
    expected = outcomes(place / "k.prop", place / "out")
    found, _ = export(bind(load_spec(place / "k.prop", {}, {}), {}), place / "queries", 1)
    verifier = VnnlibVerifier(load_spec(place / "k.prop", {}, {}).strategies["s"])
    folder = place / "queries"
    answers = {(o.property, o.sample): verifier.answer(folder / "k.onnx", folder / o.file).result for o in found}
    assert {key: {"sat": "falsified", "unsat": "verified"}[answer] for key, answer in answers.items()} == expected
    assert set(expected.values()) == {"verified", "falsified"}
