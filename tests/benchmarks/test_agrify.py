"""Agrify's benchmark: its networks are the paper's, its judge refuses what is no witness, its tables count right."""

import json
import math

import keras
import numpy as np
import pytest

from benchmarks.common import data
from benchmarks.common.store import Store
from benchmarks.complete import networks as agrify_networks
from benchmarks.complete import run as agrify
from benchmarks.complete import tables as agrify_tables
from benchmarks.complete.networks import EPS, NETWORKS, Digits
from benchmarks.complete.tasks import How, decided, judged
from benchmarks.complete.witness import check, forward
from tfcert import zoo
from tfcert.zoo.agrify import LAYERS

PRINTED = {"FNN1": 48, "FNN2": 60, "FNN3": 1024, "FNN4": 500, "FNN5": 48, "FNN6": 60}
"""ReLUs in Agrify's Table II."""


@pytest.mark.parametrize("fnn", NETWORKS, ids=lambda fnn: fnn.name)
def test_networks_have_the_papers_relus(fnn) -> None:
    layers = agrify_networks.weights(zoo.build(fnn.name.lower()))
    assert sum(len(bias) for _, bias in layers[:-1]) == PRINTED[fnn.name]
    assert (len(layers[0][0]), len(layers[-1][1])) == (784, 10)


@pytest.mark.parametrize("fnn", [f for f in NETWORKS if f.reference], ids=lambda fnn: fnn.name)
def test_reference_networks_have_the_layers_of_the_table(fnn, shared) -> None:
    model, trained = agrify_networks.ready(fnn)
    assert trained is None
    assert tuple(len(kernel) for kernel, _ in agrify_networks.weights(model)) == LAYERS[fnn.name.lower()][:-1]


def test_the_float64_network_is_the_model_up_to_rounding(rng, seed) -> None:
    model = zoo.build("fnn2")
    x = rng.uniform(size=(50, 28, 28, 1)).astype(np.float32)
    np.testing.assert_allclose(forward(agrify_networks.weights(model), x), model(x).numpy(), atol=1e-5)


@pytest.fixture
def first_pixel() -> keras.Model:
    """Class 0 where the first pixel is above 1/2, class 1 where it is below: margins 2 p - 1."""
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    kernel = np.zeros((784, 2), np.float32)
    kernel[0] = 1, -1
    model.layers[-1].set_weights([kernel, np.array([-0.5, 0.5], np.float32)])
    return model


def image(pixel: float) -> np.ndarray:
    x = np.zeros((28, 28, 1), np.float32)
    x[0, 0, 0] = pixel
    return x


def test_a_point_beyond_the_boundary_is_a_witness(first_pixel) -> None:
    found = check(first_pixel, image(0.53), 0, image(0.49))
    assert found.strict and found.strict64
    assert found.distance == np.float64(np.float32(0.53)) - np.float64(np.float32(0.49))
    assert found.margin == pytest.approx(-0.02)


@pytest.mark.parametrize(
    ("start", "pixel"),
    [(0.53, 0.5), (0.53, 0.51), (0.57, 0.49), (0.03, -0.01)],
    ids=["a tie", "still right", "farther than the radius", "below the pixels' range"],
)
def test_what_is_no_witness_is_refused(first_pixel, start, pixel) -> None:
    found = check(first_pixel, image(start), 0, image(pixel))
    assert not found.strict and not found.strict64


def test_a_refused_witness_is_no_adversarial_example(first_pixel) -> None:
    digits = Digits(image(0.53)[None], np.array([0]))
    refused, right = judged(first_pixel, digits, image(0.5)), judged(first_pixel, digits, image(0.49))
    assert refused["outcome"] == "unknown" and "refused" in refused
    assert right["outcome"] == "adversarial" and "refused" not in right


def test_the_specification_asks_for_the_paper_s_radius(first_pixel) -> None:
    pixels = (0.5 + EPS * 0.98, 0.5 + EPS * 1.02)
    answers = decided(first_pixel, Digits(np.stack([image(p) for p in pixels]), np.array([0, 0])), How("cbc", 10))
    assert [answer["outcome"] for answer in answers] == ["adversarial", "robust"]


def test_misclassified_images_are_not_counted() -> None:
    images = {
        "0": {"outcome": "adversarial", "seconds": 2.0},
        "1": {"outcome": "misclassified"},
        "2": {"outcome": "robust", "seconds": 0.5},
        "3": {"outcome": "unknown", "seconds": 60.0},
    }
    counted = agrify_tables.counts(images)
    assert counted == {"n_s": 3, "t_all": 62.5, "adversarial": 1, "robust": 1, "unknown": 1}


def test_the_printed_counts_add_up_but_for_one_network() -> None:
    """One of FNN6's 87 images is in none of the paper's columns."""
    wrong = {
        network
        for network, tools in agrify_tables.PAPER.items()
        for n_s, _, *answers in tools.values()
        if sum(answers) != n_s
    }
    assert wrong == {"FNN6"}


def row(outcome: str, **rest) -> dict:
    return {"outcome": outcome, "seconds": 1.0, "run": 0, "limit": 60.0, **rest}


def test_a_witness_nearer_than_a_proven_bound_is_reported() -> None:
    near, far = row("adversarial", distance=0.010, lower=0.010), row("adversarial", distance=0.02, lower=0.011)
    rows = {"FNN1 minimum guided crown cbc": {"7": near}, "FNN1 minimum plain crown cbc": {"7": far}}
    (problem,) = agrify_tables.problems({"rows": rows, "peers": {}})
    assert "image 7" in problem and "0.011" in problem
    far["lower"] = 0.009
    assert agrify_tables.problems({"rows": rows, "peers": {}}) == []


def test_a_peer_s_witness_refutes_a_robust_answer() -> None:
    peers = {"FNN1": {"3": {"marabou": row("adversarial", distance=EPS), "tfcert": row("robust")}}}
    (problem,) = agrify_tables.problems({"rows": {}, "peers": peers})
    assert "image 3" in problem and "robust" in problem


def test_a_peer_that_was_asked_about_fewer_images_is_counted_on_those() -> None:
    """Answers of a peer that joined later stand beside the older ones, and say on how many images."""
    robust = row("robust")
    images = {"0": {"marabou": robust, "tfcert": robust, "limit": 60.0}}
    images["1"] = images["0"] | {"neuralsat": row("unknown")}
    lines = agrify_tables.peers_table({"peers": {"FNN1": images}}).splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [line[1:3] for line in cells] == [["maraboupy 2.0.0", "2"], ["neuralsat 0.2.17", "1"], ["tfcert", "2"]]


def test_speed_ups_pair_finished_images_of_one_run() -> None:
    done, stopped = row("adversarial", optimal=True), row("adversarial", optimal=False)
    guided = {str(i): done for i in range(4)}
    plain = {"0": {**done, "seconds": 5.0}, "1": stopped, "2": {**done, "run": 1}, "3": {**done, "seconds": 7.0}}
    rows = {"FNN1 minimum guided crown cbc": guided, "FNN1 minimum plain crown cbc": plain}
    cells = [c.strip() for c in agrify_tables.speedups({"rows": rows}).splitlines()[-1].split("|")[1:-1]]
    head = [c.strip() for c in agrify_tables.speedups({"rows": rows}).splitlines()[0].split("|")[1:-1]]
    found = dict(zip(head, cells, strict=True))
    assert (found["images"], found["both"], found["finished by guided, by plain"]) == ("3", "2", "3, 2")
    assert found["at least, total"] == f"{(5 + 1 + 7) / 3:.1f}"
    assert found["times faster, total"] == "6.0" and found["median image"] == "6.0"


def test_fashion_networks_are_trained_once_the_data_set_is_there(tmp_path, monkeypatch, rng) -> None:
    pixels, labels = rng.integers(0, 256, size=(64, 28, 28), dtype=np.uint8), rng.integers(0, 10, size=64)
    arrays = {f"{name}_{split}": a for split in ("train", "test") for name, a in (("x", pixels), ("y", labels))}
    np.savez(tmp_path / "fashion_mnist.npz", **arrays)
    monkeypatch.setenv("TFCERT_DATA", str(tmp_path))
    monkeypatch.setattr(data, "TRAINED", tmp_path)
    (fnn,) = (f for f in NETWORKS if f.name == "FNN5")
    digits = agrify_networks.images(fnn.data, "test")
    np.testing.assert_array_equal(digits.x[..., 0] * np.float32(255), pixels)
    model, trained = agrify_networks.ready(fnn)
    assert trained["epochs"] == fnn.epochs and fnn.path.is_relative_to(tmp_path)
    again, trained = agrify_networks.ready(fnn)
    assert trained is None
    np.testing.assert_array_equal(again(digits.x), model(digits.x))


def test_generated_images_go_through_the_whole_script_and_the_next_run_asks_nothing(tmp_path, monkeypatch, rng) -> None:
    """Trains FNN5 on classes that differ in one bright row, asks three rows, and writes tables and figure."""
    labels = np.arange(200) % 10
    pixels = rng.integers(0, 60, size=(200, 28, 28), dtype=np.uint8)
    pixels[np.arange(200), 2 * labels + 3] += 120
    arrays = {f"{name}_{split}": a for split in ("train", "test") for name, a in (("x", pixels), ("y", labels))}
    np.savez(tmp_path / "fashion_mnist.npz", **arrays)
    monkeypatch.setenv("TFCERT_DATA", str(tmp_path))
    monkeypatch.setattr(data, "TRAINED", tmp_path)
    marks = "".join(f"<!-- agrify{n} -->\n<!-- /agrify{n} -->\n" for n in ("", "-speedup", "-peers", "-figure"))
    (tmp_path / "README.md").write_text(marks)
    monkeypatch.setattr(agrify, "STORE", Store(str(tmp_path / "run.py")))
    rows = "FNN5 verify split", "FNN5 minimum guided symbolic", "FNN5 minimum plain progressive"
    monkeypatch.setattr("sys.argv", ["run", "--only", *rows, "--limit", "2", "--time-limit", "4"])
    monkeypatch.setattr(agrify.machine, "limit_threads", lambda: None)
    agrify.main()
    results = agrify.read()
    assert set(results["rows"]) == {f"{name} cbc" for name in rows}
    assert all(set(answers) == {"0", "1"} for answers in results["rows"].values())
    assert agrify_tables.problems(results) == []
    guided = results["rows"]["FNN5 minimum guided symbolic cbc"].values()
    assert {(a["bounds"], a["guide"]) for a in guided if a["outcome"] != "misclassified"} <= {("symbolic", "pgd")}
    assert "| FNN5 | minimum guided symbolic | 2 |" in (tmp_path / "README.md").read_text()
    agrify.main()
    again = agrify.read()
    assert again["rows"].keys() == results["rows"].keys()
    verified = "FNN5 verify split cbc"
    assert again["rows"][verified] == results["rows"][verified] or any(
        a["outcome"] == "unknown" for a in results["rows"][verified].values()
    )


def test_rows_of_a_network_that_was_trained_again_begin_anew(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(agrify, "STORE", Store(str(tmp_path / "run.py")))
    monkeypatch.setenv("TFCERT_RESULTS", "")
    found = agrify.Runner(agrify.Setting((0,), 1.0, math.inf))
    found.results["rows"] = {"FNN2 verify split cbc": {"0": row("robust")}, "FNN3 verify split cbc": {}}
    known = {"weights": "old"}
    found._same_weights(NETWORKS[1], known, "old")
    assert "FNN2 verify split cbc" in found.results["rows"] and capsys.readouterr().out == ""
    found._same_weights(NETWORKS[1], known, "new")
    assert set(found.results["rows"]) == {"FNN3 verify split cbc"} and known["weights"] == "new"
    assert "FNN2: weights are none that were asked about before" in capsys.readouterr().out


def test_fashion_rows_say_that_the_data_set_is_missing(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TFCERT_DATA", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert agrify_networks.images("fashion_mnist", "test") is None
    assert "not in TFCERT_DATA" in agrify_tables.results_table({"rows": {}, "networks": {}})


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """A runner with results of its own: of image 0 a minimum, of image 1 none within 60 s."""
    monkeypatch.setattr(agrify, "STORE", Store(str(tmp_path / "run.py")))
    stored = agrify.STORE.path("agrify.json")
    stored.parent.mkdir()
    key = "FNN1 minimum guided crown cbc"
    rows = {key: {"0": row("adversarial", optimal=True), "1": row("adversarial", optimal=False)}}
    stored.write_text(json.dumps({"runs": [{}], "networks": {}, "rows": rows, "peers": {}}))
    (asked,) = (r for r in agrify.table_rows(None) if r.key == key)

    def wanted(seconds: float, again: bool = False) -> list[int]:
        found = agrify.Runner(agrify.Setting((0, 1, 2), seconds, math.inf, again))
        return [i for i in range(3) if found._wanted("rows", asked, i)]

    return wanted


def test_a_run_goes_on_where_the_last_one_stopped(runner) -> None:
    assert runner(60) == [2]


def test_an_unfinished_answer_is_asked_again_with_more_time_only(runner) -> None:
    assert runner(120) == [1, 2]


def test_everything_is_asked_again_on_demand(runner) -> None:
    assert runner(60, again=True) == [0, 1, 2]


def test_stored_answers_are_read_back(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(agrify, "STORE", Store(str(tmp_path / "run.py")))
    (tmp_path / "results").mkdir()
    results = {
        "runs": [{}],
        "networks": {"FNN1": {"accuracy": 0.9}},
        "rows": {"a b": {"3": row("robust")}},
        "peers": {},
    }
    agrify.write(results)
    assert agrify.read() == results
