"""Which pictures a run leaves behind, and what they show."""

from __future__ import annotations

import numpy as np
import pytest

from tfcert.driver.verify import verify
from tfcert.report import figures

SPEC = """\
prop 1
model clf = keras("clf.keras") { outputs: logits }
dataset test = npz("test.npz") { range: [0, 1] }
strategy look = pgd -> crown
"""
MEASURE = """\
measure least(x, y in test) = smallest r in [0, 1] such that
  exists z in ball(x, l2, r) in net: argmax(clf(z)) != y
  using look
"""
PROPERTY = """\
property some(x, y in test) using look {{ exists z in ball(x, linf, {eps}) in net: argmax(clf(z)) != y }}
"""


@pytest.fixture(scope="module")
def classifier():
    """Which third of an image of nine values has the largest sum."""
    import keras

    model = keras.Sequential([keras.Input((3, 3, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.set_weights([np.repeat(np.eye(3), 3, axis=0), np.zeros(3)])
    return model


@pytest.fixture(scope="module")
def samples():
    """Two images of class 0, one of class 1 and one that is labelled wrongly: sums of the thirds differ by 0.6."""
    rows = [0, 1, 0, 2]
    x = np.full((4, 3, 3, 1), 0.3)
    x[np.arange(4), rows] += 0.2
    return x, np.array([0, 1, 0, 1])


@pytest.fixture
def drawn(classifier, samples, tmp_path, monkeypatch):
    """Runs a specification and returns what was drawn, by file name."""

    def run(text):
        found = {}
        monkeypatch.setattr(figures, "available", lambda: True)
        monkeypatch.setattr(figures, "draw_witnesses", lambda path, *drawing: found.update({path.name: drawing}))
        verify(SPEC + text, bindings={"clf": classifier, "test": samples}, out=tmp_path / "out", verbose=0)
        return found

    return run


def test_witnesses_of_a_smallest_radius_are_drawn_one_sample_a_class_with_their_distances(drawn):
    ((name, (title, space, pictures)),) = drawn(MEASURE).items()
    assert name == "least-witnesses.png" and space == "net"
    assert title == "least: the nearest witnesses found (l2, net space)"
    assert [p.original_caption for p in pictures] == [
        "sample 0\nlabel 0, predicted 0",
        "sample 1\nlabel 1, predicted 1",
    ]
    for label, picture in enumerate(pictures):
        assert picture.witness_caption in {f"predicted {k}" for k in range(3) if k != label}
        norm, distance = picture.difference_caption.split()
        assert norm == "l2" and float(distance) == pytest.approx(np.linalg.norm(picture.difference), rel=1e-3)
        # Nearer than 0.6 / sqrt(6) no other third has the larger sum.
        assert 0.6 / np.sqrt(6) <= np.linalg.norm(picture.difference) <= 1.2 * 0.6 / np.sqrt(6)


def test_witnesses_of_what_some_input_should_do_are_drawn_if_they_had_to_be_looked_for(drawn):
    ((name, (title, _, pictures)),) = drawn(PROPERTY.format(eps="0.2")).items()
    assert name == "some-witnesses.png" and title == "some: witnesses within linf 0.2 of the sample (net space)"
    assert [p.original_caption.splitlines()[0] for p in pictures] == ["sample 0", "sample 1"]


def test_nothing_is_drawn_where_only_misclassified_samples_are_witnesses(drawn):
    assert drawn(PROPERTY.format(eps="0.05")) == {}


def test_every_property_and_measure_has_a_file_of_its_own(drawn):
    assert drawn(MEASURE + PROPERTY.format(eps="0.2")).keys() == {"least-witnesses.png", "some-witnesses.png"}
