"""Specifications and the command line on models with several inputs and outputs."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcert
from tfcert.cli.main import main
from tfcert.errors import UsageError

pytestmark = pytest.mark.usefixtures("eager")

SPEC = """prop 1
model clf = keras("two.keras") {{ inputs: [image, tab] {} }}
dataset test = npz("two.npz") {{ range: [0, 1] }}
strategy quick = ibp -> crown
property robust(x, y in test) using quick {{ forall z in {}: argmax(clf(z)) == y }}
"""


def network():
    keras.utils.set_random_seed(0)
    image, tab = keras.Input((3, 2), name="image"), keras.Input((4,), name="tab")
    hidden = L.Dense(8, activation="relu")(L.Concatenate()([L.Flatten()(image), tab]))
    return [image, tab], hidden


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("two"), np.random.default_rng(0)
    inputs, hidden = network()
    model = keras.Model(inputs, L.Dense(3)(hidden))
    model.save(folder / "two.keras")
    x = {"tab": rng.random((4, 4), np.float32), "image": rng.random((4, 3, 2), np.float32)}
    y = model.predict([x["image"], x["tab"]], verbose=0).argmax(1)
    np.savez(folder / "two.npz", **x, y=y)
    return folder, model, x, y


def asked(folder, ball, head="", **options):
    (folder / "spec.prop").write_text(SPEC.format(head, ball))
    return tfcert.verify(folder / "spec.prop", verbose=False, **options)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_radii_by_input_are_those_of_python(folder, norm):
    place, model, x, y = folder
    report = asked(place, f"ball(x, {norm}, eps=[image: 0.2, tab: 0.05])")
    wanted = tfcert.certify(model, x, y, eps={"image": 0.2, "tab": 0.05}, norm=norm, clip=(0, 1)).verified
    assert [record.outcome == "verified" for record in report.records] == wanted.tolist()
    fixed = asked(place, f"ball(x, {norm}, eps=[image: 0, tab: 0.05])")
    free = tfcert.certify(model, x, y, eps=0.05, free="tab", norm=norm, clip=(0, 1)).verified
    assert [record.outcome == "verified" for record in fixed.records] == free.tolist()


def test_witnesses_keep_what_is_fixed(folder, tmp_path):
    """A ball over one input alone, that reaches all of its range: what falsifies differs from the sample there only."""
    _, model, x, y = folder
    text = SPEC.format("", "ball(x, linf, eps=[image: 0, tab: 1])").replace("ibp -> crown", "pgd(steps=20)")
    report = tfcert.verify(text, verbose=False, bindings={"clf": model, "test": (x, (y + 1) % 3)})
    assert {record.outcome for record in report.records} == {"falsified"}  # wrong labels: samples are witnesses
    report = tfcert.verify(text, verbose=False, bindings={"clf": model, "test": {"x": x, "y": y}}, out=tmp_path)
    for record in report.records:
        if record.outcome == "falsified":
            witness = np.load(tmp_path / record.witness)["witness"].ravel()
            np.testing.assert_array_equal(witness[:6], x["image"][record.sample].ravel())


def test_measures_scale_the_radii(folder):
    place, model, x, y = folder
    text = SPEC.format("", "ball(x, linf, 0.1)") + (
        "measure far(x, y in test) = largest r in [0, 1] tol 1e-3 such that\n"
        "  forall z in ball(x, l2, eps=[image: r, tab: r/4]): argmax(clf(z)) == y using quick\n"
    )
    (place / "measure.prop").write_text(text)
    report = tfcert.verify(place / "measure.prop", verbose=False)
    found = [record.measured.lower for record in report.records if record.property == "far"]
    radii = tfcert.certified_radius(model, x, y, norm="l2", scale={"image": 1, "tab": 0.25}, clip=(0, 1)).radius
    np.testing.assert_allclose(found, np.minimum(radii, 1), rtol=5e-3)


@pytest.mark.parametrize(
    ("ball", "head", "message"),
    [
        ("ball(x, linf, eps=[image: 0.1, tab: 0])", "output: grade", "no output 'grade'"),
        ("ball(x, linf, 0.1)", "outputs: [a, b]", "3 outputs, but 2 are named"),
    ],
)
def test_names_that_a_model_does_not_have_are_refused(folder, ball, head, message):
    with pytest.raises((UsageError, ValueError), match=message):
        asked(folder[0], ball, head)


def test_inputs_are_named_in_the_order_of_the_model(folder):
    _, model, x, y = folder
    text = SPEC.format("", "ball(x, linf, 0.1)").replace("[image, tab]", "[tab, image]")
    with pytest.raises(UsageError, match=r"name them in this order, `inputs: \[image, tab\]`"):
        tfcert.verify(text, verbose=False, bindings={"clf": model, "test": (x, y)})


def test_one_of_several_outputs_is_asked_about():
    inputs, hidden = network()
    heads = {"size": L.Dense(2, name="size")(hidden), "grade": L.Dense(3, name="grade")(hidden)}
    model, rng = keras.Model(inputs, heads), np.random.default_rng(1)
    x = {"image": rng.random((2, 3, 2), np.float32), "tab": rng.random((2, 4), np.float32)}
    y = tfcert.with_output(model, "size").predict([x["image"], x["tab"]], verbose=0).argmax(1)
    text = SPEC.format("output: size", "ball(x, linf, 1e-4)")
    report = tfcert.verify(text, verbose=False, bindings={"clf": model, "test": (x, y)})
    assert [record.outcome for record in report.records] == ["verified"] * 2
    with pytest.raises(ValueError, match="choose one"):
        tfcert.verify(SPEC.format("", "ball(x, linf, 0.1)"), verbose=False, bindings={"clf": model, "test": (x, y)})


def test_integers_are_held_fixed():
    image, mask = keras.Input((3,), name="image"), keras.Input((2,), dtype="int32", name="tab")
    joined = L.Concatenate()([image, keras.ops.cast(mask, "float32")])
    model = keras.Model([image, mask], L.Dense(3)(joined))
    x = {"image": np.full((1, 3), 0.5, np.float32), "tab": np.array([[0, 1]])}
    data = {"clf": model, "test": (x, model.predict([x["image"], x["tab"]], verbose=0).argmax(1))}
    text = SPEC.format("", "ball(x, linf, eps=[image: 1e-4, tab: @])")
    assert tfcert.verify(text.replace("@", "0"), verbose=False, bindings=data).records[0].outcome == "verified"
    with pytest.raises(UsageError, match="input tab holds int32"):
        tfcert.verify(text.replace("@", "0.1"), verbose=False, bindings=data)


def test_the_command_line_reads_an_array_an_input(folder, tmp_path, monkeypatch):
    place, model, x, y = folder
    monkeypatch.chdir(tmp_path)
    assert main(["radius", str(place / "two.keras"), str(place / "two.npz"), "--json", "r.json", "--limit", "2"]) == 0
    found = [record["radius"] for record in json.loads((tmp_path / "r.json").read_text())["records"]]
    part = {name: array[:2] for name, array in x.items()}
    np.testing.assert_allclose(found, tfcert.certified_radius(model, part, y[:2]).radius, rtol=1e-3)
    np.savez(tmp_path / "other.npz", image=x["image"], rest=x["tab"], y=y)
    assert main(["radius", str(place / "two.keras"), "other.npz"]) == 4
