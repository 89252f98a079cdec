"""What balls cut by a box cost: one CROWN pass and a search for radii, with the multiplier found in two ways.

``bisected`` finds the dual's multiplier by 24 bisections, as tfcert did at first; ``tfcert`` is what users get. Both
run in this process, in turn, and are measured in processor seconds, compilation apart.

    python -m benchmarks.peers.clipped
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

import tfcert
from benchmarks.common.data import REPOSITORY
from tfcert.datasets import mnist5k
from tfcert.propagation import concretize, engine, kernels

MODEL = REPOSITORY / "examples" / "mnist_small.keras"
IMAGES, TURNS, BISECTIONS = 25, 5, 24
EPS = {"linf": 0.08, "l2": 0.25, "l1": 0.43}
"""About what is certified of the median image."""


def bisected(short: Callable[[tf.Tensor], tf.Tensor], highest: tf.Tensor) -> tf.Tensor:
    """The least multiplier up to ``highest`` for which ``short`` holds."""

    def step(low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        middle = 0.5 * (low + high)
        enough = short(middle)
        return tf.where(enough, low, middle), tf.where(enough, middle, high)

    start = (tf.zeros_like(highest), highest)
    return tf.while_loop(lambda *_: True, step, start, maximum_iterations=BISECTIONS)[1]


@kernels.kernel(passes=BISECTIONS)
def bisected_l2(a: tf.Tensor, down: tf.Tensor, up: tf.Tensor, eps: tf.Tensor) -> tf.Tensor:
    def minimiser(m: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(tf.where(a == 0, tf.zeros_like(a), -a / m[..., None]), down, up)

    box = tf.reduce_sum(tf.minimum(a * down, a * up), axis=3)
    highest = tf.norm(a, axis=3) / eps + tf.zeros_like(box)
    m = bisected(lambda m: tf.reduce_sum(tf.square(minimiser(m)), axis=3) <= tf.square(eps), highest)
    z = minimiser(m)
    return tf.maximum(tf.reduce_sum((a + 0.5 * m[..., None] * z) * z, axis=3) - 0.5 * m * tf.square(eps), box)


@kernels.kernel(passes=BISECTIONS)
def bisected_l1(a: tf.Tensor, down: tf.Tensor, up: tf.Tensor, eps: tf.Tensor) -> tf.Tensor:
    size, reach = tf.abs(a), tf.where(a > 0, -down, up)

    def short(m: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.where(size > m[..., None], reach, tf.zeros_like(reach)), axis=3) <= eps

    m = bisected(short, tf.reduce_max(size, axis=3) + tf.zeros_like(reach[..., 0]))
    return -tf.reduce_sum(tf.nn.relu(size - m[..., None]) * reach, axis=3) - m * eps


@contextmanager
def by_bisection() -> Iterator[None]:
    """Within this context passes are traced anew with bisected multipliers, and after it anew without."""
    ours = concretize._clipped_l2, concretize._clipped_l1
    concretize._clipped_l2, concretize._clipped_l1 = bisected_l2, bisected_l1
    engine._COMPILED.clear()
    try:
        yield
    finally:
        concretize._clipped_l2, concretize._clipped_l1 = ours
        engine._COMPILED.clear()


def spent(run: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    found = run()
    return time.process_time() - began, found


def main() -> None:
    model = tfcert.load_model(MODEL)
    x, y = mnist5k(split="test")
    x, y = (x[:IMAGES] / 255).astype("float32"), y[:IMAGES]
    print("| norm | multiplier | first pass, s | pass, ms | search, s | mean radius |\n|---|---|---|---|---|---|")

    def row(norm: str, name: str) -> None:
        def one_pass() -> Any:
            return tfcert.certify(model, x, y, eps=EPS[norm], norm=norm, clip=(0, 1))

        first = spent(one_pass)[0]
        passes = statistics.median(spent(one_pass)[0] for _ in range(TURNS))
        search, found = spent(lambda: tfcert.certified_radius(model, x, y, norm=norm, clip=(0, 1), tolerance=1e-3))
        print(f"| {norm} | {name} | {first:.1f} | {1000 * passes:.0f} | {search:.1f} | {found.radius.mean():.5f} |")

    row("linf", "none")
    for norm in ("l2", "l1"):
        with by_bisection():
            row(norm, "bisected")
        row(norm, "tfcert")


if __name__ == "__main__":
    main()
