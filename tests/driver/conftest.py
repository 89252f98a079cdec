"""A small classifier, its samples and specifications about them, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from faked import BOUNDS, of_clauses

SPEC = """\
prop 1
param eps: real in [0, 10] = 0.01
model clf = keras("clf.keras") {{ outputs: logits }}
dataset test = npz("test.npz", x="x", y="y") {{ range: [0, 1] }}
strategy plan = {stages} {{ {blocks} }}
property robust(x, y in test) using plan {{
  forall z in ball(x, linf, eps) within [0, 1] in net: argmax(clf(z)) == y
}}
{more}
"""
WRONG = 3


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path_factory, monkeypatch) -> None:
    """Tests that name no folder for their results would write into one of the same name, several at a time."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


@pytest.fixture(autouse=True)
def _no_compilations(request, monkeypatch) -> None:
    """XLA would compile the model of every test with a witness; tests about that ask for the fixture ``xla``."""
    if "xla" not in request.fixturenames:
        monkeypatch.setattr("tfcert.attacks.witness.XLA_OPERATIONS", 0)


@pytest.fixture
def xla() -> None:
    """Witnesses are run by XLA, too."""


@pytest.fixture(scope="session")
def wrong() -> int:
    """The sample whose label is not what the classifier says."""
    return WRONG


@pytest.fixture(scope="session")
def classifier():
    """Four inputs, eight ReLUs, three classes; biased so that all three are met in the unit cube."""
    import keras

    keras.utils.set_random_seed(1)
    layers = [keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    model.layers[-1].bias.assign(-np.asarray(model(np.random.default_rng(1).random((500, 4)))).mean(axis=0))
    return model


@pytest.fixture(scope="session")
def samples(classifier) -> tuple[np.ndarray, np.ndarray]:
    """Eight samples in the unit cube, none near a boundary; the label of one is wrong."""
    x = np.random.default_rng(0).random((80, 4)).astype(np.float32)
    ordered = np.sort(np.asarray(classifier(x)), axis=1)
    x = x[np.argsort(ordered[:, -1] - ordered[:, -2])[40::5]]
    y = np.asarray(classifier(x)).argmax(axis=1)
    y[WRONG] = (y[WRONG] + 1) % 3
    return x, y


@pytest.fixture
def folder(tmp_path, classifier, samples) -> Path:
    """A folder with ``clf.keras`` and ``test.npz``."""
    classifier.save(tmp_path / "clf.keras")
    np.savez(tmp_path / "test.npz", x=samples[0], y=samples[1])
    return tmp_path


@pytest.fixture
def write_spec(folder):
    """Writes a specification into the folder and returns its path."""

    def write(stages: str = "ibp -> crown", more: str = "", blocks: str = "batch: 4", text: str | None = None) -> Path:
        path = folder / "s.prop"
        path.write_text(text or SPEC.format(stages=stages, more=more, blocks=blocks))
        return path

    return write


@pytest.fixture
def run(write_spec, folder):
    """Writes a specification, runs it silently into ``folder/out``, and returns the report."""
    from tfcert.driver.verify import verify

    def run_spec(stages: str = "ibp -> crown", more: str = "", blocks: str = "batch: 4", **options):
        text = options.pop("text", None)
        options.setdefault("verbose", 0)
        if "resume" not in options:
            options.setdefault("out", folder / "out")
        return verify(write_spec(stages, more, blocks, text), **options)

    return run_spec


@pytest.fixture
def margins(monkeypatch):
    """Replaces the bounds: every sample gets the margin that the test says."""

    def replace(value: float) -> None:
        def bounds(network, perturbation, coefficients, offsets, **_):
            return np.full(offsets.shape, value)

        monkeypatch.setattr(BOUNDS, of_clauses(bounds))

    return replace
