"""What proofs about the deployed program cost, against bounds that leave rounding out of account.

python -m benchmarks.rigour.run                    every network that has no result yet; an hour on two cores
python -m benchmarks.rigour.run NAME ...           these networks alone
python -m benchmarks.rigour.run --images 2         fewer images, to see that everything runs
python -m benchmarks.rigour.run --minutes 10       begins no network after ten minutes; the next run goes on from there
python -m benchmarks.rigour.run --again            measures anew what has a result
python -m benchmarks.rigour.run --write            writes the README's table from the stored results

The first images that a network classifies correctly are bounded by CROWN at its usual radius, and their certified radii
are searched for, with ``rounding="ignore"`` and ``"deployed"``. A pass of either is timed in turn, in one process.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

import tfcert
from benchmarks.common import data, machine, networks, question, store, timing, usage
from tfcert.options import BoundOptions
from tfcert.verdict import Guarantee

STORE = store.Store(__file__)
IMAGES, ROUNDS, TOLERANCE = 10, 5, 1e-5
KINDS = ("ignore", "deployed")
_UNIT = (0.0, 1.0)
_FILES = {
    "demo": data.REPOSITORY / "examples" / "mnist_small.keras",
    "fnn1": "reference/agrify/mnist_784_24_24_10.keras",
    "fnn4": "reference/agrify/mnist_784_500_10_sdp.keras",
}
"""Networks whose inputs are pixels between 0 and 1; the others' are those of ``benchmarks.common.networks``."""


@dataclass(frozen=True)
class Asked:
    """A network, a norm and the radii of balls around its images; only where ``clip`` is given are they cut."""

    name: str
    norm: str
    radii: tuple[float, ...]

    @property
    def key(self) -> str:
        return f"{self.name} {self.norm}"

    @property
    def clip(self) -> tuple[float, float] | None:
        return _UNIT if self.name in _FILES else None


def asked() -> list[Asked]:
    """Every network with its norms and usual radii: of the demo, of Agrify, and of the papers' networks."""
    found = [Asked("demo", "linf", (8 / 255, 20 / 255)), Asked("demo", "l2", (0.2, 0.5))]
    found += [Asked("fnn1", "linf", (0.01, 0.02)), Asked("fnn4", "linf", (0.01, 0.02))]
    names = ("mnist_4layer_fc_100_relu", "mnist_4layer_fc_100_sigmoid", "mnist_cnn_4layer_5_3_relu")
    names += ("mnist_cnn_4layer_5_3_tanh", "mnist_lenet_relu", "mnist_resnet_2_relu", "cifar_cnn_5layer_5_3_relu")
    names += ("mnist_2layer_fc_20_relu", "mnist_3layer_fc_20_relu", "mnist_cnn_4layer_5_3_bn_relu")
    names += ("mnist_cnn_4layer_5_3_sigmoid", "mnist_cnn_4layer_5_3_arctan", "mnist_resnet_3_relu")
    names += ("mnist_cnn_7layer_small_relu", "cifar_cnn_5layer_5_3_tanh")
    names += ("mnist_cnn_8layer_5_3_relu", "mnist_cnn_8layer_5_3_tanh")  # the longest
    return found + [Asked(name, norm, (eps,)) for name in names for norm, eps in _usual(name).items()]


def _usual(name: str) -> dict[str, float]:
    return {norm: eps for norm, eps in question.radii(name).items() if norm != "l1"}


def loaded(ask: Asked) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """The network, and images with their labels."""
    if ask.name not in _FILES:
        images = networks.test_images(ask.name)
        return networks.load(ask.name), images.x, images.y
    file = _FILES[ask.name]
    model = tfcert.load_model(data.find(file) if isinstance(file, str) else file)
    pixels, labels = data.pixels("mnist", "test")
    x = pixels[:1000].astype(np.float32) / np.float32(255)
    return model, x.reshape(-1, *model.input_shape[1:]), labels[:1000]


def measured(ask: Asked, count: int) -> dict[str, Any]:
    """The record of a network: verdicts and radii of both kinds, and the seconds of a pass."""
    model, x, y = loaded(ask)
    right = np.flatnonzero(np.asarray(model(x[: 3 * count])).argmax(axis=1) == y[: 3 * count])[:count]
    x, y = x[right], y[right]

    def certified(kind: str, eps: float) -> tfcert.Certification:
        options = BoundOptions(rounding=kind)
        return tfcert.certify(model, x, y, eps=eps, norm=ask.norm, clip=ask.clip, options=options)

    def radii(kind: str) -> tfcert.Radii:
        options = BoundOptions(rounding=kind)
        return tfcert.certified_radius(model, x, y, norm=ask.norm, clip=ask.clip, tolerance=TOLERANCE, options=options)

    found: dict[str, Any] = {"name": ask.name, "norm": ask.norm, "images": len(x), "eps": list(ask.radii)}
    for kind in KINDS:
        verdicts, reached = [certified(kind, eps) for eps in ask.radii], radii(kind)
        found[kind] = {
            "guarantee": str(verdicts[0].guarantee),
            "verified": [v.verified.tolist() for v in verdicts],
            "margins": [[float(f"{m:.6g}") for m in v.margin] for v in verdicts],
            "radii": [float(f"{r:.7g}") for r in reached.radius],
        }
    sides: dict[str, Callable[[], dict[str, float]]] = {
        kind: lambda kind=kind: usage.used(lambda: certified(kind, ask.radii[0])) for kind in KINDS
    }
    found["pass"] = timing.alternate(sides, ROUNDS)
    return found | {"load": round(os.getloadavg()[0], 1)}


def summed_up(record: dict[str, Any]) -> dict[str, Any]:
    """What a record says: verdicts that stay, losses of radius, and how much longer a pass takes."""
    before, after = (np.array(record[kind]["verified"], bool) for kind in KINDS)
    ignored, deployed = (np.array(record[kind]["radii"]) for kind in KINDS)
    some = ignored > 0
    loss = 1 - deployed[some] / ignored[some]
    times = [d / i for i, d in zip(*(record["pass"][kind]["all"] for kind in KINDS), strict=True)]
    return {
        "verified": int(before.sum()),
        "stay": int((before & after).sum()),
        "loss": float(np.median(loss)) if some.any() else float("nan"),
        "worst": float(loss.max()) if some.any() else float("nan"),
        "time": statistics.median(times),
        "rounded": record["deployed"]["guarantee"] == Guarantee.FLOAT32_ANY_ORDER,
    }


def table() -> str:
    """What is stored, as Markdown."""
    rows = []
    for stored in STORE.read("rigour").values():
        record = stored["record"]
        found = summed_up(record)
        rows.append(
            {
                "network": record["name"],
                "norm": record["norm"],
                "images": str(record["images"]),
                "radii": ", ".join(f"{eps:.3g}" for eps in record["eps"]),
                "verified, ignore": str(found["verified"]),
                "of these stay": str(found["stay"]),
                "median loss of radius": f"{100 * found['loss']:.2f}%",
                "worst": f"{100 * found['worst']:.2f}%",
                "time of a pass": f"{found['time']:.2f}",
                "level": record["deployed"]["guarantee"],
            }
        )
    return store.markdown(rows)


def totals() -> str:
    """All networks together, in a sentence."""
    every = [summed_up(stored["record"]) for stored in STORE.read("rigour").values()]
    verified, stay = (sum(found[key] for found in every) for key in ("verified", "stay"))
    loss, spent = (statistics.median(found[key] for found in every) for key in ("loss", "time"))
    share = f"{100 * stay / verified:.1f}% of" if verified else "none of"
    return (
        f"{share} {verified} verdicts stay; the median of the networks' median losses of radius is {100 * loss:.2f}%, "
        f"and that of the times of a pass {spent:.2f}, at most {max(found['time'] for found in every):.2f}."
    )


def main() -> None:
    """Measures, and stores after each network."""
    parser = argparse.ArgumentParser(description="What proofs about the deployed program cost.")
    parser.add_argument("networks", nargs="*", help="these (default: every one)")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--write", action="store_true", help="only write the README's table")
    options = parser.parse_args()
    if unknown := set(options.networks) - {ask.name for ask in asked()}:
        parser.error(f"no network is called {', '.join(sorted(unknown))}")
    machine.limit_threads()
    began = time.monotonic()
    for ask in [] if options.write else asked():
        stored = STORE.read("rigour", {})
        if (options.networks and ask.name not in options.networks) or (ask.key in stored and not options.again):
            continue
        if time.monotonic() - began > 60 * options.minutes:
            break
        record = measured(ask, options.images)
        keras.backend.clear_session()
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        STORE.write("rigour", stored | {ask.key: {"date": date, "machine": machine.describe(), "record": record}})
        print(ask.key, summed_up(record), flush=True)
    STORE.write_table("rigour", f"{table()}\n\n{totals()}")


if __name__ == "__main__":
    main()
