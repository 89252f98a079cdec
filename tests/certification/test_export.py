"""Exported passes: another XLA client, without TensorFlow, computes the same bounds from the file alone."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from sweeps import sweep_but

import tfcert
from tfcert.catalog import propagated
from tfcert.certification import export
from tfcert.certification.export import ExportedPass, export_hlo
from tfcert.options import BoundOptions

RUNNER = Path(__file__).parents[2] / "benchmarks" / "run_hlo.py"


def layers_of_equal_shape() -> keras.Model:
    """Weights that shapes alone cannot tell apart: taken in a wrong order they give other bounds."""
    hidden = [keras.layers.Dense(6, activation="relu") for _ in range(2)]
    return keras.Sequential([keras.Input((6,)), *hidden, keras.layers.Dense(6)])


def convolutions() -> keras.Model:
    convolution = keras.layers.Conv2D(3, 3, activation="tanh")
    layers = [convolution, keras.layers.BatchNormalization(), keras.layers.MaxPooling2D(), keras.layers.Flatten()]
    return keras.Sequential([keras.Input((6, 6, 1)), *layers, keras.layers.Dense(4)])


def tiny_cnn() -> keras.Model:
    """Small enough to compile with every method; the second convolution's coefficients are patches."""
    convolutions = [keras.layers.Conv2D(2, 2, activation="relu") for _ in range(2)]
    return keras.Sequential([keras.Input((5, 5, 1)), *convolutions, keras.layers.Flatten(), keras.layers.Dense(4)])


@functools.cache
def question(make: Callable[[], keras.Model]) -> tuple[keras.Model, tfcert.LpBall, np.ndarray]:
    """A network, a set around each of three samples, and labels."""
    keras.utils.set_random_seed(0)
    model, rng = make(), np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1 * rng.normal(size=variable.shape))
    x = rng.random((3, *model.input_shape[1:])).astype(np.float32)
    return model, tfcert.LpBall(x, 0.02), np.array([0, 1, 3])


@functools.cache
def exported(make: Callable[[], keras.Model], method: str = "crown") -> ExportedPass:
    """A pass over the question about a network, compiled once for all tests."""
    options = BoundOptions(iterations=1) if method == "alpha-crown" else None
    return export_hlo(*question(make), method=method, options=options)


def run(path: Path, code: str | None = None) -> dict:
    """What the stand-alone script makes of a file."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed: pip install 'tfcert[hlo]'")
    out = path.with_suffix(".json")
    start = [str(RUNNER)] if code is None else ["-c", code]
    arguments = [sys.executable, *start, str(path), "--repeats", "1", "--json", str(out)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert out.exists(), done.stderr
    return json.loads(out.read_text()) | {"exit": done.returncode, "said": done.stdout}


@pytest.mark.parametrize("make", sweep_but([convolutions], [layers_of_equal_shape, convolutions]))
def test_another_client_of_xla_computes_the_exported_bounds(make, tmp_path):
    exported(make).save(tmp_path / "pass.npz")
    result = run(tmp_path / "pass.npz")
    assert result["exit"] == 0, result["said"]
    assert result["deviation"] < 1e-5 and result["finite_weights"]
    assert result["metadata"]["batch"] == 3 and result["images_per_second"] > 0


@pytest.mark.parametrize("method", sweep_but(["ibp"], ["ibp", "alpha-crown"]))
def test_every_kind_of_method_can_be_exported(tmp_path, method):
    exported(layers_of_equal_shape, method).save(tmp_path / "pass.npz")
    assert run(tmp_path / "pass.npz")["deviation"] < 1e-4


@pytest.mark.parametrize("method", sweep_but(set(propagated()) - {"alpha-crown"}, propagated()))
def test_the_whole_pass_of_every_method_compiles_on_a_convolutional_network(method):
    """What GPUs run: one compiled pass, which another client of XLA can take, with the bounds of op by op."""
    whole = exported(tiny_cnn, method)
    assert whole.hlo and whole.metadata["method"] == method and whole.metadata["products"] > 0
    model, ball, y = question(tiny_cnn)
    margins = tfcert.margins(model, ball, y, method=method, options=BoundOptions(jit=False, iterations=1))
    others = [[margins[i, j] for j in range(4) if j != label] for i, label in enumerate(y)]
    np.testing.assert_allclose(whole.bounds, others, rtol=1e-4, atol=1e-5)


def test_exported_bounds_are_the_margins_that_are_computed_op_by_op():
    model, ball, y = question(layers_of_equal_shape)
    margins = tfcert.margins(model, ball, y, options=BoundOptions(jit=False))
    others = [[margins[i, j] for j in range(6) if j != label] for i, label in enumerate(y)]
    np.testing.assert_allclose(exported(layers_of_equal_shape).bounds, others, rtol=1e-5, atol=1e-6)
    rows = np.broadcast_to(np.eye(6)[0] - np.eye(6)[2], (3, 1, 6))
    np.testing.assert_allclose(export_hlo(model, ball, rows).bounds[0, 0], margins[0, 2], rtol=1e-5, atol=1e-6)


def test_the_runner_needs_neither_tensorflow_nor_tfcert_and_notices_other_numbers(tmp_path):
    whole = exported(layers_of_equal_shape)
    other = whole.bounds.copy()
    other[1, 2] += 0.01
    dataclasses.replace(whole, bounds=other).save(tmp_path / "pass.npz")
    code = (
        "import sys, runpy\n"
        "for name in ('tensorflow', 'keras', 'tfcert'): sys.modules[name] = None\n"
        f"sys.argv[0] = {str(RUNNER)!r}; runpy.run_path({str(RUNNER)!r}, run_name='__main__')"
    )
    result = run(tmp_path / "pass.npz", code)
    assert result["exit"] == 1
    assert 1e-3 < result["deviation"] <= 0.0101


def test_what_cannot_be_exported_is_refused_in_a_sentence():
    model, ball, y = question.__wrapped__(layers_of_equal_shape)  # a model of its own, which it spoils
    with pytest.raises(ValueError, match="3 samples: one pass takes 1 to 2"):
        export_hlo(model, ball, y, options=BoundOptions(batch_size=2))
    model.layers[0].kernel.assign(np.full((6, 6), np.nan))
    with pytest.raises(ValueError, match="NaN or infinite"):
        export_hlo(model, ball, y)


def test_a_product_at_a_lower_precision_is_noticed():
    line = "%dot.1 = f32[2,2] dot(f32[2,2] %a, f32[2,2] %b), operand_precision={highest,highest}"
    assert export._products_at_highest(line) == 1
    with pytest.raises(ValueError, match="1 of 2 products at a lower precision"):
        export._products_at_highest(line + "\n" + line.split(", operand_precision")[0])
