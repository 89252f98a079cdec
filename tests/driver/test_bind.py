"""What is refused once models and data are loaded, and what may be bound from Python."""

from __future__ import annotations

import numpy as np
import pytest

from tfcert.errors import UsageError
from tfcert.language import SpecError


def test_models_and_arrays_can_be_bound(run, classifier, samples, margins):
    margins(0.5)
    report = run("crown", bindings={"clf": classifier, "test": samples})
    assert len(report.records) == 8


def test_a_data_set_can_be_bound_by_its_path(run, folder, samples, margins):
    margins(0.5)
    np.savez(folder / "other.npz", x=samples[0][:2], y=samples[1][:2])
    assert len(run("crown", bindings={"test": str(folder / "other.npz")}).records) == 2


def test_samples_that_the_model_does_not_know_are_a_note_of_the_run(run, classifier, margins):
    margins(0.5)
    x = np.random.default_rng(0).random((60, 4)).astype(np.float32)
    y = np.asarray(classifier(x)).argmin(axis=1)
    (note,) = [note for note in run("crown", bindings={"test": (x, np.eye(3)[y])}).notes if "right" in note]
    assert note.startswith("test as clf receives it: 0 of 60 samples are classified right, no more than guessing")
    known = run("crown", bindings={"test": (x, np.asarray(classifier(x)).argmax(axis=1))})
    assert not [note for note in known.notes if "right" in note]


def test_a_binding_that_nothing_is_named_after_is_refused(run, samples):
    with pytest.raises(SpecError, match="did you mean `test`"):
        run("crown", bindings={"tset": samples})


def test_a_link_out_of_the_folder_is_not_followed_unless_bound(run, folder, tmp_path_factory, margins):
    margins(0.5)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("clf.keras", "test.npz"):
        (folder / name).rename(elsewhere / name)
        (folder / name).symlink_to(elsewhere / name)
    with pytest.raises(SpecError, match="leads outside"):
        run("crown")
    bindings = {"clf": str(elsewhere / "clf.keras"), "test": str(elsewhere / "test.npz")}
    assert len(run("crown", bindings=bindings).records) == 8


def bad_data(x, y, case):
    match case:
        case "shape":
            return x[:, :3], y
        case "nan":
            x = x.copy()
            x[2, 1] = np.nan
            return x, y
        case "range":
            return x * 255, y
        case "label":
            return x, y + 2
        case _:
            return x, None


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("shape", r"the samples have shape \(3,\), but clf takes \(4,\)"),
        ("nan", "sample 2 holds a NaN"),
        ("range", r"leaves the range \[0, 1\]"),
        ("label", "has label [34], but clf has 3 outputs, counted from 0"),
        ("no labels", "asks for labels, but data set test has none"),
    ],
)
def test_data_that_do_not_fit_are_refused_in_a_sentence(run, samples, case, sentence):
    with pytest.raises(UsageError, match=sentence):
        run("crown", bindings={"test": bad_data(*samples, case)})


def test_a_softmax_declared_as_logits_is_refused(run, classifier):
    import keras

    model = keras.Sequential([*classifier.layers, keras.layers.Softmax()])
    model.build((None, 4))
    with pytest.raises(UsageError, match="ends in a softmax: write `outputs: probabilities`"):
        run("crown", bindings={"clf": model})


def test_a_softmax_declared_as_probabilities_is_verified_on_its_logits(run, write_spec, classifier):
    import keras

    model = keras.Sequential([*classifier.layers, keras.layers.Softmax()])
    model.build((None, 4))
    text = write_spec("pgd -> crown").read_text().replace("logits", "probabilities")
    report = run(text=text, bindings={"clf": model})
    assert sum(r.outcome == "verified" for r in report.records) == 7
    assert any("softmax" in note for note in report.notes)


def test_an_output_that_does_not_exist_is_refused(run):
    text = (
        'prop 1\nmodel clf = keras("clf.keras") { outputs: logits }\n'
        "property p { forall z in box([0, 1]) in net: clf(z)[5] <= 1 }\n"
    )
    with pytest.raises(UsageError, match="no output 5: clf has 3"):
        run(text=text)


def test_missing_names_of_inputs_are_counted(run):
    text = (
        'prop 1\nmodel clf = keras("clf.keras") { inputs: [a, b] outputs: [p, q, r] }\n'
        "property p { forall z in box(a in [0, 1], b in [0, 1]) in net: clf(z)[q] <= 1 }\n"
    )
    with pytest.raises(UsageError, match="has 4 inputs, but 2 are named"):
        run(text=text)


def test_nan_weights_are_refused(run, classifier):
    import keras

    model = keras.models.clone_model(classifier)
    weights = [w.copy() for w in classifier.get_weights()]
    weights[0][0, 0] = np.nan
    model.set_weights(weights)
    with pytest.raises(ValueError, match="NaN"):
        run("crown", bindings={"clf": model})


@pytest.mark.parametrize(
    ("case", "name", "line"), [("nan", "test", 4), ("range", "test", 4), ("label", "robust", 6), ("shape", "robust", 6)]
)
def test_an_error_after_loading_names_the_line_it_is_about(run, folder, samples, case, name, line):
    with pytest.raises(UsageError) as caught:
        run("crown", bindings={"test": bad_data(*samples, case)})
    text = (folder / "s.prop").read_text().splitlines()
    column = text[line - 1].index(name) + 1
    assert caught.value.__notes__ == [f"  --> {folder / 's.prop'}:{line}:{column}"]


def test_a_model_that_does_not_fit_its_declaration_names_the_line(run, folder, classifier):
    import keras

    model = keras.Sequential([*classifier.layers, keras.layers.Softmax()])
    model.build((None, 4))
    with pytest.raises(UsageError) as caught:
        run("crown", bindings={"clf": model})
    assert caught.value.__notes__ == [f"  --> {folder / 's.prop'}:3:7"]
