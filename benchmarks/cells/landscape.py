"""The loss around DM-small trained with and without abstraction: figure 3 of AbsCert (Zhang et al. 2023).

python -m benchmarks.cells.landscape                  trains and measures what has no result yet, about a minute a model
python -m benchmarks.cells.landscape --seeds 0 1 2    with so many trainings each (the default)
python -m benchmarks.cells.landscape --table          only writes figure and table

MNIST in [-1, 1], Adam, batches of 128, a rate that warms up linearly and falls as a cosine (the paper's section 5.1),
five epochs. The loss is that of 2,000 training images. Directions are random and filter-normalised (Li et al. 2018):
at distance 1 each filter has moved by its own length. The paper does not say whether its network for d = 0 reads each
pixel once, as conventional ones do, or twice; here are both.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib import rc_context
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from benchmarks.cells import abstraction
from benchmarks.cells.directions import along, curved_down, direction, grid, losses
from benchmarks.common import machine, store
from benchmarks.common.clock import Clock, add_minutes
from benchmarks.training import certified
from tfcert.layers import IntervalAbstraction

STORE = store.Store(__file__)
FIGURE = STORE.path("loss_landscape.svg")
VARIANTS = {"d = 0, pixels": None, "d = 0, equal ends": 0.0, "d = 0.025": 0.025}
"""The granularity of each, None for a network that reads pixels."""
_EPOCHS = 5
_IMAGES = 2000
_COUNT, _REACH = 25, 1.0
_DIRECTIONS = 10
_DISTANCES = (0.25, 0.5, 1.0)
_LEVELS = (0.1, 1.0)
_CONTOURS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


def inputs(x: np.ndarray, granularity: float | None) -> np.ndarray:
    """What a network is given for images: pixels, pixels twice, or both ends of their cells."""
    if granularity is None:
        return x
    if not granularity:
        return np.concatenate([x, x], axis=-1)
    return IntervalAbstraction(granularity, abstraction.RANGE)(x).numpy()


def trained(images: certified.Data, seed: int) -> keras.Model:
    """DM-small, fitted to images as :func:`inputs` gives them."""
    keras.utils.set_random_seed(seed)
    run = abstraction.Run("dm_small", 0.0, 0.0, epochs=_EPOCHS, seed=seed)
    model = certified.network("small", images.x.shape[1:])
    rate = abstraction.rate(run, run.epochs * -(-len(images.x) // run.batch))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"], jit_compile=False)
    model.fit(images.x, images.y, batch_size=run.batch, epochs=run.epochs, verbose=0)
    return model


def measured(model: keras.Model, images: certified.Data, seed: int) -> dict[str, Any]:
    """The loss where training ended, on the grid of two directions, and along ten."""
    # The same draws for every network of the same shapes.
    rng = np.random.default_rng(seed)
    directions = [direction(model, rng) for _ in range(_DIRECTIONS)]
    some = images.x[:_IMAGES], images.y[:_IMAGES]
    surface = losses(model, *some, directions[:2], grid(_COUNT, _REACH)).reshape(_COUNT, _COUNT)
    points = along(_DISTANCES, _DIRECTIONS)
    lines = losses(model, *some, directions, points.reshape(-1, _DIRECTIONS)).reshape(points.shape[:-1])
    centre = float(surface[_COUNT // 2, _COUNT // 2])
    return {
        "test_error": float(1 - model.evaluate(images.x_test, images.y_test, batch_size=1000, verbose=0)[1]),
        "loss": centre,
        "increase": {str(d): float(along.mean() - centre) for d, along in zip(_DISTANCES, lines, strict=True)},
        "below": {str(level): float((surface < level).mean()) for level in _LEVELS},
        "curved_down": curved_down(surface),
        "surface": [[round(float(v), 4) for v in row] for row in surface],
    }


def read() -> list[dict[str, Any]]:
    """The stored results."""
    return STORE.read("loss_landscape", [])


def measure(seeds: list[int], clock: Clock) -> None:
    """Trains and measures what is missing, and stores each."""
    images = abstraction.data("mnist")
    for seed in seeds:
        for name, granularity in VARIANTS.items():
            if clock.over or any((r["variant"], r["seed"]) == (name, seed) for r in read()):
                continue
            x, x_test = inputs(images.x, granularity), inputs(images.x_test, granularity)
            given, start = certified.Data(x, images.y, x_test, images.y_test), time.perf_counter()
            model = trained(given, seed)
            seconds = {"training": round(time.perf_counter() - start, 1)}
            found = measured(model, given, seed)
            seconds["landscape"] = round(time.perf_counter() - start - seconds["training"], 1)
            result = {"variant": name, "seed": seed, "seconds": seconds} | found | {"machine": machine.describe()}
            if seed != seeds[0]:
                del result["surface"]  # the figure shows one
            STORE.write("loss_landscape", [*read(), result])
            print(name, seed, result["loss"], result["increase"], seconds, flush=True)


def draw(results: list[dict[str, Any]]) -> None:
    """Surfaces above their contours, one column a network, with the same axes and colours."""
    shown = {r["variant"]: np.array(r["surface"]) for r in results if "surface" in r}
    line, top = np.linspace(-_REACH, _REACH, _COUNT), max(surface.max() for surface in shown.values())
    colours = {"cmap": "viridis", "norm": LogNorm(_CONTOURS[0], top)}
    across, along = np.meshgrid(line, line)
    drawing = Figure(figsize=(4 * len(shown), 7), layout="constrained")
    for column, (name, surface) in enumerate(shown.items(), 1):
        above = drawing.add_subplot(2, len(shown), column, projection="3d")
        faces = above.plot_surface(across, along, surface.T, rcount=_COUNT, ccount=_COUNT, linewidth=0, **colours)
        faces.set_rasterized(True)  # hundreds of them
        above.set(title=name, zlim=(0, top))
        flat = drawing.add_subplot(2, len(shown), len(shown) + column)
        lines = flat.contour(across, along, surface.T, levels=_CONTOURS, **colours)
        flat.clabel(lines, fontsize=8)
        flat.set(aspect="equal", xlabel="first direction", ylabel="second direction")
    drawing.suptitle(f"Mean cross-entropy of {_IMAGES:,} training images; at 1 each filter has moved by its own length")
    with rc_context({"svg.hashsalt": FIGURE.stem}):  # the same file from the same numbers
        drawing.savefig(FIGURE, metadata={"Date": None})


def _over_seeds(values: list[float], pattern: str) -> str:
    least, mean, most = (pattern.format(f(values)) for f in (np.min, np.mean, np.max))
    return mean if len(values) == 1 else f"{mean} ({least} to {most})"


def table(results: list[dict[str, Any]]) -> str:
    """One row a variant: the mean over seeds, with the least and the most."""
    rows = []
    for name in VARIANTS:
        some = [r for r in results if r["variant"] == name]
        row = {"network": name, "trainings": str(len(some))}
        row["test error"] = _over_seeds([100 * r["test_error"] for r in some], "{:.2f}%")
        row["loss"] = _over_seeds([r["loss"] for r in some], "{:.4f}")
        for distance in map(str, _DISTANCES):
            row[f"increase at {distance}"] = _over_seeds([r["increase"][distance] for r in some], "{:.3f}")
        for level in map(str, _LEVELS):
            row[f"of the grid below {level}"] = _over_seeds([100 * r["below"][level] for r in some], "{:.0f}%")
        row["curves down"] = _over_seeds([100 * r["curved_down"] for r in some], "{:.0f}%")
        rows.append(row)
    return store.markdown(rows)


def main() -> None:
    """Measures what is missing; writes figure and table."""
    parser = argparse.ArgumentParser(description="Loss landscapes of DM-small with and without abstraction.")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="only write figure and table from the stored results")
    add_minutes(parser)
    arguments = parser.parse_args()
    if not arguments.table:
        machine.limit_threads()
        tf.config.experimental.enable_op_determinism()
        measure(arguments.seeds, Clock(arguments.minutes))
    results = read()
    if not results:
        parser.error("there are no results yet")
    draw(results)
    text = table(results)
    line = store.machine_line(results[-1]["machine"])
    STORE.write_table("loss-landscape", f"{line}\n\n![loss landscapes](results/{FIGURE.name})\n\n{text}")
    print(text)


if __name__ == "__main__":
    main()
