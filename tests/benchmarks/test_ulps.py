"""What is stated of functions' errors is twice what was measured, and covers what this machine computes."""

import pytest

from benchmarks.ulps import run, sizes, whole
from tfcert.activations import activation

RECORDS = [record for stored in run.STORE.read("ulps").values() for record in stored["functions"]]


def made(record: dict):
    parameters = record["parameters"]
    return activation(
        record["name"], **({"alpha": lambda: parameters["alpha"]} if record["name"] == "prelu" else parameters)
    )


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record['name']}-{record['parameters']}")
def test_stated_errors_are_twice_the_measured_ones(record):
    accuracy = made(record).accuracy
    assert (accuracy.ulps, accuracy.base, accuracy.reach) == (record["stated"], record["base"], record["reach"])
    assert 2 * record["ulps"] <= accuracy.ulps and (accuracy.ulps >= 2 or record["ulps"] == 0)
    assert record["float64"] is None or 2 * record["float64"]["ulps"] <= accuracy.within(2.0**-53)
    assert record["points"] > (300_000 if not record["all"] else 4096 * 300_000)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record['name']}-{record['parameters']}")
def test_this_machine_computes_as_stated(record):
    """On other processors and builds kernels differ."""
    act = made(record)
    keras = run.of_keras(record["name"], record["parameters"])
    forms = {"tfcert": act.function} | ({} if keras is None else {"keras": keras}) | run.fused(keras or act.function)
    found = run.worst(act, forms, run.STRIDE * 256)
    assert found["points"] > 1000 and max(way["ulps"] for way in found["ways"].values()) <= act.accuracy.ulps


def test_a_wrong_function_is_noticed():
    """The measurement sees an error of ten ulps."""
    act = activation("tanh")
    found = run.worst(act, {"off": lambda x: act.function(x) * (1 + 10 * 2.0**-23)}, run.STRIDE * 256)
    assert 8 < found["ways"]["off"]["ulps"] < 15


def test_every_function_that_is_not_exact_is_measured():
    known = {name for name in run.names() if run.activation_known(name)}
    assert known <= {record["name"] for record in RECORDS} and {"tanh", "gelu", "power"} <= known


@pytest.mark.parametrize("name", ["tanh", "reciprocal", "log1p"])
def test_all_numbers_are_compared_as_a_sample_is(name):
    """Chunks of the fast way have the errors, the places and the counts of the plain one."""
    act = activation(name)
    forms = {"own": act.function, "same": act.function, "off": lambda x: act.function(x) * (1 + 10 * 2.0**-23)}
    comparison = whole.comparison(act)
    for chunk in (0, 8, 1016, 1495, whole.CHUNKS // 2 + 1000):
        found = {"points": 0, "ways": {way: {"ulps": 0.0, "at": 0.0} for way in forms}}
        whole.extend(act, forms, chunk, found, comparison)
        plain = {way: {"ulps": 0.0, "at": 0.0} for way in forms}
        assert found["points"] == sizes.take(act, forms, whole.numbers(chunk), plain)
        assert found["ways"] == plain


@pytest.mark.parametrize("name", ["gelu", "exponential"])
def test_float64_kernels_err_by_no_more_than_is_stated(name):
    """Catches a function whose kernel in float64 nobody holds against extended precision."""
    for parameters in run.PARAMETERS.get(name, [{}]):
        act = activation(name, **parameters)
        assert 2 * run.double(act, name, parameters)["ulps"] <= act.accuracy.within(2.0**-53)


def test_a_result_of_other_parameters_sizes_or_versions_is_measured_anew():
    """Catches a run that takes a function for done, or goes on with one, of which something else was measured."""
    stored = run.STORE.read("ulps")["tanh"]
    now = stored | {"machine": stored["machine"] | run.machine.identity()}
    assert all(record["all"] for record in stored["functions"]) and run.is_whole(now)
    assert not run.is_whole(now | {"machine": now["machine"] | {"tensorflow": "1.0"}})
    assert not run.is_whole(now | {"functions": [now["functions"][0] | {"base": 7.0}]})
    assert not run.is_whole(now | {"functions": now["functions"] * 2})


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    """What is kept holds the errors found so far, and no chunk is measured twice."""
    monkeypatch.setattr(whole, "CHUNKS", 4)
    monkeypatch.setattr(whole, "KEPT_EVERY", 1)
    kept, seen, stops = run.store.Store(str(tmp_path / "run.py")), [], [2]

    def extend(act, functions, chunk, found, comparison):
        if chunk in stops:
            stops.clear()
            raise KeyboardInterrupt
        seen.append(chunk)
        found["points"] += 1

    monkeypatch.setattr(whole, "extend", extend)
    with pytest.raises(KeyboardInterrupt):
        whole.worst(activation("tanh"), {"own": activation("tanh").function}, kept, "tanh {}")
    found = whole.worst(activation("tanh"), {"own": activation("tanh").function}, kept, "tanh {}")
    assert (seen, found["points"]) == ([0, 1, 2, 3], 4)
    whole.worst(activation("tanh"), {"another": activation("tanh").function}, kept, "tanh {}")
    assert seen == [0, 1, 2, 3] * 2
    whole.forget(kept, "tanh")
    assert not kept.path("partial.json").exists()
