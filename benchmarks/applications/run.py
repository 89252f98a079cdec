"""Loads networks of ``keras.applications`` (random weights) and bounds them at small sizes, each in its own process.

python -m benchmarks.applications.run                  those without a stored result
python -m benchmarks.applications.run MobileNetV2      these, anew

Of each: seconds, processor seconds and the peak of memory of ``from_keras`` and of one pass of ``ibp`` and of
``crown-ibp`` over one image and a ball of radius 1e-5, and whether the output at its centre lies within the bounds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.common import store, usage
from benchmarks.common.unrounded import UNROUNDED

SIDES = {
    "MobileNet": 32, "MobileNetV2": 32, "MobileNetV3Small": 32, "MobileNetV3Large": 32, "VGG16": 32, "ResNet50": 32,
    "ResNet50V2": 32, "DenseNet121": 32, "EfficientNetB0": 32, "ConvNeXtTiny": 32, "NASNetMobile": 32, "Xception": 71,
    "InceptionV3": 75,
}  # fmt: skip
"""Pixels along a side: the least that each allows, and 32 at least."""
EPS = 1e-5
METHODS = ("ibp", "crown-ibp")
STORE = store.Store(__file__)


def spent(run: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What a call returns, and its seconds, processor seconds and peak of memory."""
    kept: list[Any] = []

    def once() -> None:
        kept.append(run())

    took, peak = usage.peak_mib(lambda: usage.used(once))
    return kept[0], {"seconds": took["seconds"], "processor_seconds": took["processor_seconds"], "mib": peak}


def measured(name: str) -> dict[str, Any]:
    """Loads and bounds one network."""
    import keras
    import numpy as np

    import tfcert

    side = SIDES[name]
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(side, side, 3), classes=3, classifier_activation=None
    )
    x = np.full((1, side, side, 3), 0.5, np.float32)
    network, load = spent(lambda: tfcert.from_keras(model))
    found = {"name": name, "side": side, "parameters": model.count_params(), "nodes": len(network.nodes), "load": load}
    values = np.asarray(model(x, training=False))
    for method in METHODS:
        ball = tfcert.LpBall(x, EPS)
        options = replace(UNROUNDED, jit=False)
        bounds, took = spent(lambda m=method, b=ball, o=options: tfcert.bounds(network, b, method=m, options=o))
        slack = 1e-4 * (1 + np.abs(values))
        inside = bool(((bounds.lower <= values + slack) & (values <= bounds.upper + slack)).all())
        finite = bool(np.isfinite(bounds.lower).all() and np.isfinite(bounds.upper).all())
        found[method] = took | {"inside": inside, "finite": finite}
    return found


def main() -> None:
    """Measures the networks named, or those without a result."""
    parser = argparse.ArgumentParser(description="Loading and bounding networks of keras.applications.")
    parser.add_argument("networks", nargs="*", choices=[[], *SIDES], help="these (default: those without a result)")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # what this process measures and prints
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measured(options.only)))
        return
    results = STORE.read("applications", {})
    for name in options.networks or [name for name in SIDES if name not in results]:
        command = [sys.executable, "-m", "benchmarks.applications.run", "--only", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: {done.stderr.strip().splitlines()[-1]}")
            continue
        results[name] = json.loads(done.stdout.splitlines()[-1])
        STORE.write("applications", results)
        print(json.dumps(results[name]))


if __name__ == "__main__":
    main()
