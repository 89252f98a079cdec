"""What is stated of functions' errors is twice what was measured, and covers what this machine computes."""

import pytest

from benchmarks.ulps import run
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
    assert record["points"] > 300_000


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record['name']}-{record['parameters']}")
def test_this_machine_computes_as_stated(record):
    """On other processors and builds kernels differ."""
    act = made(record)
    keras = run.of_keras(record["name"], record["parameters"])
    forms = {"tfcert": act.function} | ({} if keras is None else {"keras": keras})
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
