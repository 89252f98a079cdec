"""Measures by how many ulps the functions that tfcert ships err as TensorFlow computes them, one function at a time.

python -m benchmarks.ulps.run                  a sample of the float32 numbers, of every function (seconds each)
python -m benchmarks.ulps.run tanh sigmoid     the same of these
python -m benchmarks.ulps.run --all tanh       all 2^32 float32 numbers (about a minute of one core each)
python -m benchmarks.ulps.run --all            the same of every function of which that is not stored yet
python -m benchmarks.ulps.run --table          the README's table, from what is stored

Measured are tfcert's own form of a function and Keras's, each eager, as a graph and compiled by XLA, against tfcert's
form in float64; each behind a dense layer and behind a convolution in a graph, always by a sample; and the form in
float64, at fewer points, against extended precision. An error is counted in ulps of the size that
``tfcert/activations/accuracy.py`` names for the function: ``2 u (|f(x)| + base + reach |x|)``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.common import machine, store
from benchmarks.ulps import whole
from benchmarks.ulps.extended import EXTENDED
from benchmarks.ulps.sizes import LARGEST, STRIDE, Function, worst
from tfcert.activations import Activation, activation, is_shipped, names
from tfcert.activations.accuracy import ACCURACIES

STORE = store.Store(__file__)
PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "bounded_relu": [{"max_value": 2.0}, {"threshold": 0.5, "max_value": 2.0, "negative_slope": 0.1}],
    "celu": [{}, {"alpha": 0.3}, {"alpha": 2.5}],
    "clip": [{"lower": -0.1, "upper": 0.7}],
    "elu": [{}, {"alpha": 0.3}, {"alpha": 2.5}],
    "gelu": [{"approximate": False}, {"approximate": True}],
    "leaky_relu": [{"negative_slope": 0.01}, {"negative_slope": 1.5}],
    "power": [{"exponent": p} for p in (3.0, 4.0, 7.0, -2.0, -3.0, 1.5, -1.25, 0.3, 2.7)],
    "prelu": [{"alpha": lambda: 0.3}],
    "soft_shrink": [{"threshold": 0.3}],
    "squareplus": [{}, {"b": 0.5}],
    "threshold": [{"threshold": 0.5, "default_value": -0.3}],
}
"""Where a function has parameters, or two forms."""
_WIDTH = 8
"""Units of the products that a function is fused with."""


def of_keras(name: str, parameters: dict[str, Any]) -> Function | None:
    """Keras's function of the same name; None where it has none."""
    if name == "power":
        return lambda x: keras.ops.power(x, parameters["exponent"])
    if name in ("bounded_relu", "clip", "prelu", "param_ramp"):
        return None
    found = getattr(keras.activations, name, None) or getattr(keras.ops, name, None)
    return None if found is None else lambda x: found(x, **parameters)


def ways(function: Function, kind: tf.DType = tf.float32) -> dict[str, Function]:
    """The ways to run a function."""
    spec = [tf.TensorSpec([None], kind)]
    return {
        "eager": function,
        "graph": tf.function(function, input_signature=spec, autograph=False),
        "xla": tf.function(function, input_signature=spec, jit_compile=True, autograph=False),
    }


def fused(function: Function) -> dict[str, Function]:
    """A function behind a product with the unit matrix and a bias of 0, in a graph, which makes one operation of them.

    Where oneDNN computes that, the function is oneDNN's, too, and another than the one that is called alone.
    """
    unit, nothing = tf.eye(_WIDTH), tf.zeros([_WIDTH])

    def dense(x: tf.Tensor) -> tf.Tensor:
        return function(tf.nn.bias_add(tf.linalg.matmul(x, unit), nothing))

    def convolution(x: tf.Tensor) -> tf.Tensor:
        return function(tf.nn.bias_add(tf.nn.conv2d(x, unit[None, None], 1, "SAME"), nothing))

    def through(form: Function, shape: list[int]) -> Function:
        graph = tf.function(form, input_signature=[tf.TensorSpec([None, *shape])], autograph=False)
        size = math.prod(shape)

        def run(x: tf.Tensor) -> tf.Tensor:
            whole = tf.pad(x, [[0, -len(x) % size]])
            return tf.reshape(graph(tf.reshape(whole, [-1, *shape])), [-1])[: len(x)]

        return run

    return {"dense": through(dense, [_WIDTH]), "convolution": through(convolution, [4, 4, _WIDTH])}


def double(act: Activation, name: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
    """The float64 kernel's largest error in its own ulps at some thousand points; None without an extended form."""
    if name not in EXTENDED:
        return None
    form, points = EXTENDED[name]
    generator = np.random.default_rng(0)
    x = generator.normal(size=points) * np.exp(generator.uniform(-20, 5, points))
    x = x[(x > act.domain[0]) & (x < act.domain[1])]
    with np.errstate(all="ignore"):
        exact = form(x, **parameters)
    exact_size = np.abs(exact) + act.accuracy.base + act.accuracy.reach * np.abs(x)
    fine = np.isfinite(exact) & (np.abs(exact) < 1e300) & (np.abs(exact) > 1e-290)
    fine &= exact_size < LARGEST
    ulps = {}
    for way, function in ways(act.function, tf.float64).items():
        error = np.abs(function(tf.constant(x[fine])).numpy() - exact[fine])
        ulps[way] = float((error / (np.finfo(np.float64).eps * exact_size[fine])).max())
    return {"points": int(fine.sum()), "ways": ulps, "ulps": max(ulps.values())}


def measured(name: str, whole_type: bool) -> list[dict[str, Any]]:
    """The record of each set of parameters of a function."""
    found = []
    for parameters in PARAMETERS.get(name, [{}]):
        act = activation(name, **parameters)
        forms = {"tfcert": act.function, "keras": of_keras(name, parameters)}
        functions, behind = (
            {
                f"{form} {way}": run
                for form, function in forms.items()
                if function is not None
                for way, run in every(function).items()
            }
            for every in (ways, fused)
        )
        record = {"name": name, "parameters": shown(parameters), "all": whole_type, "stated": act.accuracy.ulps}
        record |= {"base": act.accuracy.base, "reach": act.accuracy.reach}
        key = f"{name} {json.dumps(record['parameters'])}"
        record |= whole.worst(act, functions, STORE, key) if whole_type else worst(act, functions, STRIDE)
        record["fused"] = worst(act, behind, STRIDE)
        record["ulps"] = largest(record)[1]
        record["float64"] = double(act, name, parameters)
        found.append(record)
    return found


def largest(record: dict[str, Any]) -> tuple[str, float]:
    """The way that errs most, and by how many ulps."""
    every = record["ways"] | record["fused"]["ways"]
    way = max(every, key=lambda way: every[way]["ulps"])
    return way, every[way]["ulps"]


def table() -> str:
    """What is stored, as Markdown."""
    rows = []
    for records in STORE.read("ulps").values():
        for record in records["functions"]:
            parameters = ", ".join(f"{key} {value}" for key, value in record["parameters"].items())
            wide = record["float64"]
            rows.append(
                {
                    "function": f"{record['name']} ({parameters})" if parameters else record["name"],
                    "numbers": f"{'all' if record['all'] else 'sample'}, {record['points']:,}",
                    "largest error": f"{record['ulps']:.2f}",
                    "of": largest(record)[0],
                    "stated": f"{record['stated']:g}",
                    "float64": "" if wide is None else f"{wide['ulps']:.2f}",
                }
            )
    return store.markdown(rows)


def main() -> None:
    """Measures the functions named, or all."""
    known = [name for name in names() if activation_known(name)]
    parser = argparse.ArgumentParser(description="Errors of TensorFlow's elementwise functions in ulps.")
    parser.add_argument("functions", nargs="*", choices=[[], *known], help="these (default: every one)")
    parser.add_argument("--all", action="store_true", help="all 2^32 float32 numbers instead of a sample")
    parser.add_argument("--table", action="store_true", help="only write the README's table")
    options = parser.parse_args()
    if not options.table:
        stored = STORE.read("ulps", {})
        left = [name for name in known if not (options.all and is_whole(stored.get(name)))]
        for name in options.functions or left:
            found = measured(name, options.all)
            date = datetime.datetime.now(datetime.UTC).date().isoformat()
            where = machine.describe() | machine.identity() | {"device": "CPU"}
            del where["load_average"], where["threads"]
            STORE.write("ulps", STORE.read("ulps", {}) | {name: {"date": date, "machine": where, "functions": found}})
            whole.forget(STORE, name)
            print(name, *(f"{record['ulps']:.2f} of {record['stated']:g}" for record in found), flush=True)
    STORE.write_table("ulps", table())


def is_whole(stored: dict[str, Any] | None) -> bool:
    """Whether what is stored of a function is about all numbers and all that is to be measured of it now, on the
    versions and the processor at hand."""
    if stored is None or not all(record["all"] for record in stored["functions"]):
        return False
    records = stored["functions"]
    name, wanted = records[0]["name"], [shown(each) for each in PARAMETERS.get(records[0]["name"], [{}])]
    if [record["parameters"] for record in records] != wanted:
        return False
    stated = [activation(name, **each).accuracy for each in PARAMETERS.get(name, [{}])]
    if any((r["base"], r["reach"]) != (a.base, a.reach) for r, a in zip(records, stated, strict=True)):
        return False
    return all(stored["machine"].get(key) == value for key, value in machine.identity().items())


def shown(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters as they are stored."""
    return {key: value() if callable(value) else value for key, value in parameters.items()}


def activation_known(name: str) -> bool:
    """Whether an accuracy is stated of a function, which is not exact by construction."""
    if not is_shipped(name):
        return False
    act = activation(name, **PARAMETERS.get(name, [{}])[0])
    return act.accuracy is not None and (act.accuracy.ulps > 0.0 or name in ACCURACIES)


if __name__ == "__main__":
    main()
