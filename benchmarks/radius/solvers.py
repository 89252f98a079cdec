"""Linear and integer programs on the papers' networks: the columns Dual-LP and Reluplex of CNN-Cert's tables 3, 4, 8.

python -m benchmarks.radius.solvers                 measures what has no result yet, one image at a time, then the table
python -m benchmarks.radius.solvers NAME ...        these networks only
python -m benchmarks.radius.solvers --minutes 60    begins nothing more after an hour; the next run goes on from there
python -m benchmarks.radius.solvers --margins       also the linear program on the 4-layer CNN (minutes a question)
python -m benchmarks.radius.solvers --table         writes the README's tables from the stored results

Dual-LP is the method ``lp``: one linear relaxation of the whole network, from CROWN's bounds of neurons, whose bound is
evaluated from the dual prices. What Reluplex computes, the exact least distance at which an image becomes the target
class, is ``tfcert.minimum_perturbation`` with that target: branch and bound, exact to a relative 1e-5 where it says so.
Ten images and the targets of ``radius.py``. A search by linear programs on a CNN would take hours: there one margin is
asked for, at a radius beyond the one that CNN-Cert-Ada certifies.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import tfcert
from benchmarks.common import machine, networks, store
from benchmarks.common.unrounded import UNROUNDED
from benchmarks.radius.comparators import question_of
from benchmarks.radius.searches import NORMS, Batch

STORE = store.Store(__file__)
NETWORKS = ("mnist_2layer_fc_20_relu", "mnist_3layer_fc_20_relu")
CNN = "mnist_cnn_4layer_5_3_relu"
FACTORS = (1.05, 1.0, 1.1)
"""Margins are asked for at these multiples of CNN-Cert-Ada's radius; the paper has Dual-LP at 0.93 of it."""
_TOLERANCE = 1e-3
"""Relative, of a radius."""
_FARTHEST = {"linf": 1.0, "l2": 28.0, "l1": 784.0}
"""Within it lies every image, whatever the norm: an exact distance is looked for up to there."""
_METHODS: dict[str, dict[str, Any]] = {
    "fastlin": {"method": "crown", "relaxation": "fastlin"},
    "adaptive": {"method": "crown"},
    "lp": {"method": "lp"},
}
_TITLES = {
    "fastlin": "Fast-Lin", "adaptive": "CNN-Cert-Ada", "lp": "Dual-LP (`lp`)", "exact": "exact distance",
}  # fmt: skip
_PRINTED = {
    "mnist_2layer_fc_20_relu": {"linf": "0%", "l2": "-15%", "l1": "-5%"},
    "mnist_3layer_fc_20_relu": {"linf": "-1%", "l2": "-10%", "l1": "-2%"},
}
"""Of CNN-Cert's table 8: CNN-Cert-Ada against Dual-LP."""


def search(name: str, norm: str, side: str, question: Batch, image: int) -> dict[str, Any]:
    """One image: its radius by a method, or its exact distance as ``radius`` (no nearer) and ``upper`` (a witness)."""
    model, part = networks.load(name), slice(image, image + 1)
    asked: tuple[Any, ...] = model, question.x[part], question.labels[part]
    start = time.perf_counter()
    if side == "exact":
        options: dict[str, Any] = {"upper": _FARTHEST[norm], "time_limit": 1200, "options": UNROUNDED}
        found = tfcert.minimum_perturbation(*asked, norm=norm, targets=question.targets[part], **options)
        result = {"radius": _short(found.lower[0]), "upper": _short(found.upper[0]), "optimal": bool(found.optimal[0])}
    else:
        options = {"norm": norm, "targets": question.targets[part], "tolerance": _TOLERANCE, **_METHODS[side]}
        result = {"radius": _short(tfcert.certified_radius(*asked, options=UNROUNDED, **options).radius[0])}
    return {**result, **_taken(start)}


def margin(name: str, norm: str, factor: float, question: Batch, image: int) -> dict[str, Any]:
    """Margins of CROWN's lines and of the linear program at a multiple of the radius that the lines certify."""
    model, part = networks.load(name), slice(image, image + 1)
    x, label, target = question.x[part], question.labels[part], question.targets[part]
    asked: dict[str, Any] = {"norm": norm, "targets": target}
    radius = tfcert.certified_radius(model, x, label, tolerance=_TOLERANCE, options=UNROUNDED, **asked).radius[0]
    asked["eps"] = float(factor * radius)
    lines = tfcert.certify(model, x, label, options=UNROUNDED, **asked)
    start = time.perf_counter()
    # By HiGHS: CBC's simplex takes several times as long on programs of a convolutional network.
    solved = tfcert.certify(model, x, label, method="lp", options=replace(UNROUNDED, solver="highs"), **asked)
    return {
        "radius": _short(radius),
        "adaptive": _short(lines.margin[0]),
        "lp": _short(solved.margin[0]),
        "verified": [bool(lines.verified[0]), bool(solved.verified[0])],
        **_taken(start),
    }


def _taken(start: float) -> dict[str, float]:
    return {"seconds": round(time.perf_counter() - start, 2), "load": round(os.getloadavg()[0], 1)}


def _short(number: Any) -> float | None:
    return float(f"{float(number):.5g}") if np.isfinite(number) else None


class Runner:
    """Measures pieces of one image each, those that are not stored, and stores each."""

    def __init__(self, end: float):
        self.end = end
        self.result = STORE.read("solvers", {"machine": {}, "questions": {}, "radii": {}, "margins": {}})
        self._asked: dict[str, Batch] = {}

    def piece(self, part: str, key: str, name: str, image: int, run: Callable[[Batch, int], dict[str, Any]]) -> bool:
        """Measures one image unless it is stored; False where the time is up."""
        if str(image) in self.result[part].get(key, {}):
            return True
        if time.monotonic() > self.end:
            return False
        question = self._asked.setdefault(name, question_of(name))
        found = run(question, image)
        print(f"{key}, image {image}: {found}", flush=True)
        numbers, targets = question.numbers.tolist(), question.targets.tolist()
        self.result["questions"][name] = {"images": numbers, "targets": targets}
        self.result[part].setdefault(key, {})[str(image)] = found
        STORE.write("solvers", {**self.result, "machine": machine.describe()})
        return True

    def run(self, names: list[str], norms: list[str], margins: bool, images: int) -> None:
        """Measures all that is asked for, as far as there is time: first one image of everything, then the next."""
        for image in range(images):
            for name in names:
                for norm in norms:
                    for side in (*_METHODS, "exact"):

                        def found(
                            question: Batch, i: int, name: str = name, norm: str = norm, side: str = side
                        ) -> dict[str, Any]:
                            return search(name, norm, side, question, i)

                        if not self.piece("radii", f"{name} {norm} {side}", name, image, found):
                            return
            for norm in norms if margins else ():
                for factor in FACTORS:

                    def asked(question: Batch, i: int, norm: str = norm, factor: float = factor) -> dict[str, Any]:
                        return margin(CNN, norm, factor, question, i)

                    if not self.piece("margins", f"{CNN} {norm} {factor}", CNN, image, asked):
                        return


def table(result: dict[str, Any]) -> str:
    """The result as Markdown: means over the images that every column has, then single margins."""
    parts = [store.machine_line(result["machine"])]
    rows = [row for name in NETWORKS for norm in NORMS if (row := _radii_row(result["radii"], name, norm))]
    if rows:
        parts.append(store.markdown(rows))
    if margins := _margin_rows(result["margins"]):
        parts.append(store.markdown(margins))
    return "\n\n".join(parts)


def _radii_row(radii: dict[str, Any], name: str, norm: str) -> dict[str, str]:
    sides = {side: radii.get(f"{name} {norm} {side}", {}) for side in _TITLES}
    common = sorted(set.intersection(*map(set, sides.values())), key=int)
    if not common:
        return {}
    means = {side: float(np.mean([found[image]["radius"] for image in common])) for side, found in sides.items()}
    exact = sum(sides["exact"][image]["optimal"] for image in common)
    return {
        "network": name,
        "norm": norm,
        "images": str(len(common)),
        **{title: f"{means[side]:.4f}" for side, title in _TITLES.items()},
        "of them exact": str(exact),
        "Ada against Dual-LP": f"{100 * (means['adaptive'] / means['lp'] - 1):+.1f}%",
        "printed": _PRINTED[name][norm],
        "Ada / exact": f"{means['adaptive'] / means['exact']:.2f}",
        "Dual-LP, s": f"{np.mean([sides['lp'][image]['seconds'] for image in common]):.1f}",
        "exact, s": f"{np.mean([sides['exact'][image]['seconds'] for image in common]):.1f}",
        "at load": f"{np.mean([sides['lp'][image]['load'] for image in common]):.1f}",
    }


def _margin_rows(margins: dict[str, Any]) -> list[dict[str, str]]:
    rows = []
    for key, found in sorted(margins.items()):
        name, norm, factor = key.split()
        for image, one in sorted(found.items(), key=lambda item: int(item[0])):
            rows.append(
                {
                    "network": name,
                    "norm": norm,
                    "image": image,
                    "radius of CNN-Cert-Ada": f"{one['radius']:.4f}",
                    "asked at": f"{float(factor):g} of it",
                    "margin, CNN-Cert-Ada": f"{one['adaptive']:.4f}",
                    "margin, Dual-LP (`lp`)": f"{one['lp']:.4f}",
                    "Dual-LP verifies": "yes" if one["verified"][1] else "no",
                    "Dual-LP, s": f"{one['seconds']:.0f}",
                    "at load": f"{one['load']:.1f}",
                }
            )
    return rows


def main() -> None:
    """Measures, or writes the table."""
    parser = argparse.ArgumentParser(description="Linear programs and exact distances on the papers' networks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: the MLPs of table 8)")
    parser.add_argument("--images", type=int, default=10, help="of each, at most ten (default: 10)")
    parser.add_argument("--norm", choices=NORMS, action="append", help="with this norm only (L2 takes longest)")
    parser.add_argument("--margins", action="store_true", help=f"also margins of {CNN} at single radii")
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin nothing more after this time")
    parser.add_argument("--table", action="store_true", help="only write the README's tables from the stored results")
    arguments = parser.parse_args()
    if not arguments.table:
        machine.limit_threads()
        runner = Runner(time.monotonic() + 60 * arguments.minutes)
        names, norms = arguments.names or list(NETWORKS), arguments.norm or list(NORMS)
        runner.run(names, norms, arguments.margins, arguments.images)
    STORE.write_table("solvers", table(STORE.read("solvers")))


if __name__ == "__main__":
    main()
