"""The comparison with auto_LiRPA: rows of several machines side by side, ratios and costs that are what they say."""

import mmap
import time
from dataclasses import asdict

import keras
import numpy as np
import pytest
from soundness import networks
from unrounded import IGNORED

import tfcert
from benchmarks.common import store, timing
from benchmarks.common.usage import peak_mib, used
from benchmarks.peers import counted, growth, large, run, tables
from benchmarks.peers.fastlin import SparseFastLin
from tfcert.propagation.engine import lower_bounds

NAMES = [case.name for case in run.CASES]


def row(case: str, machine: str, cpu: str = "C", gflops: float = 200.0, seconds: float = 1.0) -> dict:
    """A stored row as the first ones were: no costs of a pass, no second process."""
    network, norm, method = case.split()
    place = {"name": machine, "cpu": cpu, "cores": 2, "threads": 2, "load_average": 0.5, "tensorflow": "2"}
    sides = {"auto_LiRPA": 3 * seconds, "tfcert": seconds}
    return {
        "name": case, "network": network, "norm": norm, "method": method, "machine": place, "peak_gflops": gflops,
        "passes": {name: {"seconds": value, "all": [value] * 3} for name, value in sides.items()},
        "first_pass_seconds": {"tfcert": 2.0, "auto_LiRPA": 0.5}, "peak_mib": {"tfcert": 900.0, "auto_LiRPA": 300.0},
    }  # fmt: skip


def test_a_row_replaces_its_machines_own_and_no_others():
    rows = []
    for case, machine, seconds in ((1, "b", 1.0), (0, "b", 2.0), (1, "a", 3.0), (1, "b", 4.0)):
        rows = run.merged(rows, row(NAMES[case], machine, seconds=seconds))
    assert [(*run.key(r), r["passes"]["tfcert"]["seconds"]) for r in rows] == [
        (NAMES[0], "b", 2.0), (NAMES[1], "a", 3.0), (NAMES[1], "b", 4.0),
    ]  # fmt: skip


def test_a_machine_keeps_its_name_while_processor_and_speed_are_alike():
    rows = [row(NAMES[0], "slow", gflops=70.0), row(NAMES[0], "fast", gflops=210.0)]
    assert run.named(rows, "C", 185.0) == "fast" and run.named(rows, "C", 66.0) == "slow"
    assert run.named(rows, "C", 120.0) == "C, 120 GFLOP/s" and run.named(rows, "D", 210.0) == "D, 210 GFLOP/s"


def test_every_stored_row_is_of_a_case_and_has_its_place_in_the_table():
    stored = run.STORE.read("peers")["cases"]
    assert len({run.key(one) for one in stored}) == len(stored)
    assert {one["name"] for one in stored} <= set(NAMES)
    text = tables.table(stored)
    for one in stored:
        assert text.count(f"| {' | '.join(one['name'].split())} | {one['machine']['name']} |") == 2


def test_the_table_shows_each_machines_ratio_and_what_a_pass_costs():
    new = row(NAMES[0], "new") | {"second_process_seconds": {"tfcert": 1.0, "auto_LiRPA": 0.4}}
    new["passes"]["tfcert"] |= {"processor_seconds": 1.5, "kernel_seconds": 0.25, "page_faults": 40}
    text = tables.table([row(NAMES[0], "old"), new])
    assert text.count("3.0 (3.0 to 3.0) | 0.50 / 2.00 |") == 2 and "| 0.40 / 1.00 |" in text
    assert "| 1500 | 250 | 40 | 300 / 900 |" in text


def test_ratios_are_of_medians_and_their_spread_of_pairs():
    load = np.array([1.0, 5.0, 2.0, 9.0, 1.5])
    assert timing.times_faster(list(load), list(4 * load)) == (4, 4, 4)
    assert timing.times_faster([1.0, 1.0, 1.0], [2.0, 4.0, 8.0]) == (4, 2, 8)
    assert timing.quartiles([1.0, 5.0, 2.0, 4.0, 3.0]) == (2, 4)


def test_sides_take_turns_after_a_warm_up_that_does_not_count():
    order = []

    def side(name: str, numbers: list[float]):
        answers = iter(numbers)
        return lambda: order.append(name) or {"seconds": next(answers), "page_faults": 7}

    found = timing.alternate({"a": side("a", [9, 1, 3, 2]), "b": side("b", [9, 4, 4, 5])}, rounds=3)
    assert "".join(order) == "baabbaab"
    assert found["a"] == {"seconds": 2, "page_faults": 7, "all": [1, 3, 2]} and found["b"]["seconds"] == 4


def test_what_a_call_takes_is_counted():
    pages = 500

    def touch() -> None:
        with mmap.mmap(-1, pages * mmap.PAGESIZE) as memory:
            for page in range(pages):
                memory[page * mmap.PAGESIZE] = 1

    assert used(touch)["page_faults"] >= pages
    waited = used(lambda: time.sleep(0.05))
    assert waited["seconds"] >= 0.05 > waited["processor_seconds"] >= waited["kernel_seconds"] >= 0
    assert peak_mib(lambda: bytearray(b"x" * 2**26))[1] > peak_mib(lambda: None)[1] + 50


def test_a_machines_line_says_whether_tensorflow_uses_onednn():
    place = {"cpu": "C", "cores": 2, "threads": 2, "tensorflow": "2"}
    assert store.machine_line(place | {"onednn": False}).endswith("tensorflow 2, oneDNN off in TensorFlow.")
    assert "oneDNN" not in store.machine_line(place)


def test_exponents_are_slopes_of_logarithms():
    sizes = [2.0, 4.0, 8.0]
    assert abs(growth.exponent(sizes, [5 * size**1.7 for size in sizes]) - 1.7) < 1e-9


def test_the_figure_and_tables_of_growth_hold_both_sides(monkeypatch, tmp_path):
    def point(planned: growth.Point) -> dict:
        size = getattr(planned, growth.SWEEPS[planned.sweep])
        passes = {"tfcert": {"all": [size * 1e-3]}} | (
            {"auto_LiRPA": {"all": [size**2 * 1e-3]}} if planned.beside else {}
        )
        memory = {side: 100 for side in passes}
        return asdict(planned) | {
            "neurons": 9, "passes": passes, "memory_mib": memory, "gflop_useful": 1.0, "by_kind": {"picking rows": 1.0},
        }  # fmt: skip

    monkeypatch.setattr(growth, "FIGURE", tmp_path / "growth.svg")
    points = [point(planned) for planned in growth.POINTS]
    growth.figure(points)
    assert (tmp_path / "growth.svg").read_text().count("auto_LiRPA: 2.0") == len(growth.SWEEPS) == 6
    place = {"cpu": "C", "cores": 2, "threads": 2}
    text = growth.table({"machine": place, "peak_gflops": 100.0, "points": points})
    assert text.count("| 2.00 (2.0, 2.0") == 6 and text.count("| 1.00 (1.0, 1.0") == 6


def test_sweeps_without_points_are_left_out_and_the_first_points_are_known_again():
    asked = growth.Point("depth", depth=4)
    found = {key: value for key, value in asdict(asked).items() if key not in ("size", "kernel")}
    assert growth.same(asked, found)
    assert not growth.same(growth.Point("depth", depth=4, kernel=5), found)
    points = [found | {"depth": depth, "passes": {"tfcert": {"all": [0.1]}, "auto_LiRPA": {"all": [0.1]}},
                       "memory_mib": {"tfcert": 1, "auto_LiRPA": 1}} for depth in (2, 4)]  # fmt: skip
    assert [row["against"] for row in growth._exponents(points)] == ["depth"]


def test_multiplications_are_counted_without_time_and_point_by_point(monkeypatch, tmp_path):
    monkeypatch.setattr(counted, "POINTS", [growth.Point("image", size=size) for size in (9, 12)])
    rng = np.random.default_rng(0)
    images = growth.networks.Images(rng.uniform(-0.5, 0.5, (12, 28, 28, 1)).astype(np.float32), np.zeros(12, int))
    monkeypatch.setattr(growth.networks, "test_images", lambda _: images)
    monkeypatch.setenv("TFCERT_RESULTS", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["counted"])
    monkeypatch.setattr(counted.machine, "limit_threads", lambda: None)  # TensorFlow has begun
    counted.STORE.write("counted", {"points": [counted.count(counted.POINTS[1]) | {"gflop_useful": 7.0}]})
    counted.main()
    small, large = counted.STORE.read("counted")["points"]
    assert (small["size"], large["size"], large["gflop_useful"]) == (9, 12, 7.0)
    assert 0 < small["gflop_useful"] < counted.count(counted.POINTS[1])["gflop_useful"]
    assert "| image | 9, 12 |" in counted.table([small, large])


def test_a_large_network_has_its_seconds_and_peaks_and_a_margin(monkeypatch):
    small = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    monkeypatch.setattr(large.tfcert.zoo, "build", lambda _: small)
    found = large.measured("small", "forward")
    assert found["neurons"] == 3 and np.isfinite(found["margin"]) and found["pass_mib"] > 100
    assert "| small, 3 neurons | `forward` | 1024 |" in large.table([found])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fast_lin_with_sparse_matrices_has_the_bounds_of_the_dual_network(norm):
    """It shares no code with it, so a wrong entry, slope or norm on either side would be seen."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 5, 2)), layers.Conv2D(3, 3, strides=(2, 1), padding="same", activation="relu"),
            layers.BatchNormalization(), layers.Conv2D(4, 2, activation="relu"), layers.Flatten(),
            layers.Dense(5, "relu"), layers.Dense(3),
        ]
    )  # fmt: skip
    networks.randomize(model, np.random.default_rng(0))
    network, x = tfcert.from_keras(model), np.random.default_rng(1).normal(size=(3, 6, 5, 2)).astype(np.float32)
    rows = np.random.default_rng(2).normal(size=(3, 4, 3)).astype(np.float32)
    for eps in (0.01, 0.3):
        found = SparseFastLin(network).margins(x, eps, norm, rows)
        wanted = lower_bounds(
            network, tfcert.LpBall(x, eps, norm), rows, np.zeros((3, 4)), method="dual-lp", options=IGNORED
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_fast_lin_is_for_chains_of_linear_layers_and_relus():
    layers = keras.layers
    inputs = keras.Input((3,))
    x = layers.Dense(3, "relu")(inputs)
    joined = keras.Model(inputs, layers.Dense(2)(layers.Add()([x, inputs])))
    curved = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(2)])
    for model, said in ((joined, "joins two"), (curved, "neither")):
        with pytest.raises(TypeError, match=said):
            SparseFastLin(tfcert.from_keras(model))
