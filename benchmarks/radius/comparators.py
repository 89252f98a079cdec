"""Certified radii between a loose guarantee and an attack: the comparators of CNN-Cert's Tables 3, 5, 6 and 8.

python -m benchmarks.radius.comparators            measures what has no result yet, writes the table (half an hour)
python -m benchmarks.radius.comparators NAME ...   these networks only
python -m benchmarks.radius.comparators --minutes 60    begins no network after an hour; the next run goes on
python -m benchmarks.radius.comparators --table    writes the README's table from the stored results

Ten images and the targets of ``radius.py``. Global-Lips is a guarantee, CLEVER an estimate, the attacks (C&W for L2,
EAD for L1, fast minimum norm for L-infinity) upper bounds, replayed. Needs foolbox: pip install -e '.[attacks]'.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import tfcert
from benchmarks.common import architectures, machine, networks, store
from benchmarks.common.clock import Clock, add_minutes
from benchmarks.common.unrounded import UNROUNDED
from benchmarks.radius.searches import NORMS, SIZES, Batch, batch

STORE = store.Store(__file__)
NETWORKS = (
    "mnist_cnn_4layer_5_3_relu",
    "mnist_cnn_5layer_5_3_relu",
    "mnist_cnn_4layer_5_3_bn_relu",
    "mnist_lenet_relu",
    "mnist_lenet_nopool_relu",
    "mnist_resnet_2_relu",
    "mnist_resnet_3_relu",
    "mnist_2layer_fc_20_relu",
    "mnist_3layer_fc_20_relu",
)
_FIRST_IMAGES = 400
"""Of the test set; ten of them are classified correctly by any network here."""
_COLUMNS = {"certified": "certified (adaptive)", "lipschitz": "Global-Lips", "attack": "attack", "clever": "CLEVER"}


def measure(name: str, norm: str) -> dict[str, Any]:
    """All comparators on one network and norm: ``radii`` and ``seconds`` (of the batch) by comparator.

    Raises:
        AssertionError: an attack came nearer than a guarantee, which would be unsound.
    """
    model, question = networks.load(name), question_of(name)
    asked = {"norm": norm, "targets": question.targets}
    bounded = asked | {"options": UNROUNDED}
    sides: dict[str, Callable[[], np.ndarray]] = {
        "certified": lambda: tfcert.certified_radius(model, question.x, question.labels, **bounded).radius,
        "lipschitz": lambda: tfcert.global_lipschitz_radius(model, question.x, question.labels, **asked).radius,
        "attack": lambda: tfcert.attack_distance(model, question.x, question.labels, **asked).distance,
        "clever": lambda: tfcert.clever_score(model, question.x, question.labels, **asked).score,
    }
    radii, seconds = {}, {}
    for side, run in sides.items():
        start = time.perf_counter()
        radii[side] = run()
        seconds[side] = round(time.perf_counter() - start, 2)
    for guarantee in ("certified", "lipschitz"):
        assert (radii[guarantee] < radii["attack"]).all(), f"{name}, {norm}: an attack refutes {guarantee}"
    # An attack that found nothing says nothing: null, not infinity, which JSON does not know.
    shown = {side: [float(f"{r:.5g}") if np.isfinite(r) else None for r in some] for side, some in radii.items()}
    return {"radii": shown, "seconds": seconds}


def question_of(name: str) -> Batch:
    """The ten images of a network and their targets."""
    images = networks.test_images(name)
    first = networks.Images(images.x[:_FIRST_IMAGES], images.y[:_FIRST_IMAGES])
    return batch(name, networks.load(name)(first.x).numpy(), first, SIZES[0])


def table(result: dict[str, Any]) -> str:
    """The result as Markdown: means, and seconds an image."""
    rows = []
    for name in architectures.NAMES:
        for norm in NORMS:
            if not (case := result["cases"].get(f"{name} {norm}")):
                continue
            means = {
                side: np.mean([r for r in some if r is not None] or np.nan) for side, some in case["radii"].items()
            }
            count = len(case["radii"]["certified"])
            rows.append(
                {
                    "network": name,
                    "norm": norm,
                    **{title: f"{means[side]:.4f}" for side, title in _COLUMNS.items()},
                    "attack / certified": f"{means['attack'] / means['certified']:.1f}",
                    **{f"{title}, s": f"{case['seconds'][side] / count:.2f}" for side, title in _COLUMNS.items()},
                }
            )
    return f"{store.machine_line(result['machine'])}\n\n{store.markdown(rows)}"


def main() -> None:
    """Measures, or writes the table."""
    parser = argparse.ArgumentParser(description="Certified radii, global Lipschitz radii, CLEVER and attacks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: small ReLU ones of CNN-Cert)")
    parser.add_argument("--table", action="store_true", help="only write the README's table from the stored results")
    add_minutes(parser)
    arguments = parser.parse_args()
    clock = Clock(arguments.minutes)
    result = STORE.read("comparators", {"cases": {}})
    if not arguments.table:
        machine.limit_threads()
        for name in arguments.names or NETWORKS:
            for norm in NORMS:
                if f"{name} {norm}" in result["cases"] or clock.over:
                    continue
                print(f"{name}, {norm}", flush=True)
                result["cases"][f"{name} {norm}"] = measure(name, norm)
                STORE.write("comparators", {"machine": machine.describe(), "cases": result["cases"]})
    STORE.write_table("comparators", table(STORE.read("comparators")))


if __name__ == "__main__":
    main()
