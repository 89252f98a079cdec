"""What a reader would take for granted of a table, a normalisation, or a tie: it holds, or it is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tfcert.driver.arrivals import to_net, to_unit
from tfcert.driver.direct.attack import attack_samples
from tfcert.driver.direct.radius import Bounding, measure_radii
from tfcert.driver.direct.request import Request
from tfcert.driver.regions import build_regions
from tfcert.driver.verify import verify
from tfcert.errors import UsageError
from tfcert.language import load
from tfcert.verdict import Outcome

TABLE = """prop 1
model clf = keras("clf.keras") {{ inputs: [{inputs}] }}
dataset test = csv("test.csv", label="class")
property p(x, y in test) using s {{ forall z in ball(x, linf, 0): argmax(clf(z)) == y }}
strategy s = ibp
report accuracy(clf, test)
"""


@pytest.fixture
def table(folder, samples):
    """Writes the samples as a table with columns in the order given, and asks about inputs a, b, c, d."""

    def ask(header: str, columns: list[int], inputs: str = "a, b, c, d"):
        rows = [",".join(map(repr, [*map(float, x[columns]), int(y)])) for x, y in zip(*samples, strict=True)]
        (folder / "test.csv").write_text("\n".join([header, *rows] if header else rows))
        text = TABLE.format(inputs=inputs)
        (folder / "s.prop").write_text(text if header else text.replace('label="class"', "label=4"))
        return verify(folder / "s.prop", out=folder / "out", verbose=0)

    return ask


@pytest.mark.parametrize(
    ("header", "columns"), [("a,b,c,d,class", [0, 1, 2, 3]), ("d, b ,a,c,class", [3, 1, 0, 2]), ("", [0, 1, 2, 3])]
)
def test_columns_of_a_table_reach_the_inputs_of_their_names(table, header, columns):
    assert "accuracy(clf, test) = 0.875" in table(header, columns).notes


def test_columns_that_are_no_inputs_are_refused(table):
    with pytest.raises(UsageError, match="its columns are a, b, c, e, but the inputs of clf are a, b, c, d"):
        table("a,b,c,e,class", [0, 1, 2, 3])


def test_columns_of_a_data_frame_reach_the_inputs_of_their_names(table, folder, samples):
    pandas = pytest.importorskip("pandas")
    table("a,b,c,d,class", [0, 1, 2, 3])
    frame = pandas.DataFrame(samples[0], columns=list("abcd"))[list("dbac")]
    for given in ((frame, samples[1]), {"x": frame, "y": samples[1]}):
        report = verify(folder / "s.prop", bindings={"test": given}, out=folder / "out", verbose=0)
        assert "accuracy(clf, test) = 0.875" in report.notes
    with pytest.raises(UsageError, match="its columns are d, b, a, e, but the inputs of clf are a, b, c, d"):
        verify(folder / "s.prop", bindings={"test": (frame.rename(columns={"c": "e"}), samples[1])}, verbose=0)


def normalised(numbers: int, region: str = "ball(x, linf, 0.125) in unit"):
    values = ", ".join(str(1 + i) for i in range(numbers))
    return load(
        'prop 1 model clf = keras("clf.keras") '
        f'dataset test = npz("t.npz") {{ range: [0, 1] normalize: {{ mean: [{values}] std: [{values}] }} }} '
        f"property p(x in test) {{ forall z in {region}: clf(z)[0] >= 0 }}",
        bound=("clf", "test"),
    ).properties["p"]


@pytest.mark.parametrize("region", ["ball(x, linf, 0.125) in unit", "box([0, 1]) in unit"])
@pytest.mark.parametrize(("shape", "numbers"), [((4,), 2), ((2, 3), 2), ((2, 3), 5), ((2, 2, 2), 4)])
def test_a_normalisation_that_fits_neither_channels_nor_inputs_is_refused(shape, numbers, region):
    template, centers = normalised(numbers, region), np.zeros((3, *shape))
    with pytest.raises(UsageError, match=f"`normalize` has {numbers} numbers, and inputs have shape"):
        build_regions(template, centers, shape, np.float32)
    with pytest.raises(UsageError, match=f"`normalize` has {numbers} numbers"):
        to_net(template.transform, centers, np.float32)


@pytest.mark.parametrize("numbers", [1, 3, 6])
def test_a_normalisation_has_one_number_or_one_a_channel_or_one_an_input(numbers):
    template, shape = normalised(numbers), (2, 3)
    stored = np.random.default_rng(0).random((5, *shape))
    each = np.broadcast_to((1 + np.arange(numbers)).reshape(2, 3) if numbers == 6 else 1 + np.arange(numbers), shape)
    centers = to_net(template.transform, stored, np.float64)
    np.testing.assert_allclose(centers, (stored - each) / each)
    np.testing.assert_allclose(to_unit(template.transform, centers), stored)
    proof = build_regions(template, centers, shape, np.float64).proof
    np.testing.assert_allclose(proof.lower, (np.maximum(stored - 0.125, 0) - each) / each)
    np.testing.assert_allclose(proof.upper, (np.minimum(stored + 0.125, 1) - each) / each)


def test_a_tie_counts_as_wrong_wherever_an_accuracy_is_printed(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.layers[0].set_weights([np.array([[1, 1, 0], [0, 0, 0]], np.float32), np.zeros(3, np.float32)])
    x, y = np.array([[1, 0], [-1, 0], [2, 0]], np.float32), np.array([0, 2, 1])
    text = (
        'prop 1 model clf = keras("c.keras") '
        "property p(x, y in test) { forall z in ball(x, linf, 0): argmax(clf(z)) == y }"
        " report accuracy(clf, test), nominal_accuracy(p)"
    )
    notes = verify(text, bindings={"clf": model, "test": (x, y)}, out=tmp_path / "out", verbose=0).notes
    assert {note.split(" = ")[1] for note in notes if "accuracy" in note} == {"0.3333"}
    model.save(tmp_path / "m.keras")
    np.savez(tmp_path / "d.npz", x=x, y=y)
    data = Request(str(tmp_path / "m.keras"), str(tmp_path / "d.npz"), "linf", None, 10)
    radii = measure_radii(data, Bounding(), out=str(tmp_path / "radius"))
    assert [r.outcome for r in radii.records] == [Outcome.FALSIFIED, Outcome.VERIFIED, Outcome.FALSIFIED]
    assert [r.verdict.stage for r in attack_samples(data, 0.0, steps=1, restarts=1).records].count("clean") == 2
