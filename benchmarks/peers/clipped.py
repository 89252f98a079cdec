"""What balls cut by a box cost: a first CROWN pass, further ones, and a search for radii, in processor seconds.

python -m benchmarks.peers.clipped

Each norm is asked with and without the box, in this process, in turn. Whether a change of the cut made it faster shows
``python -m benchmarks.compare REV crown``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import tfcert
from benchmarks.common import store
from benchmarks.common.data import REPOSITORY
from benchmarks.common.unrounded import UNROUNDED
from tfcert.datasets import mnist5k

MODEL = REPOSITORY / "examples" / "mnist_small.keras"
IMAGES, TURNS = 25, 5
EPS = {"linf": 0.08, "l2": 0.25, "l1": 0.43}
"""About what is certified of the median image."""


def spent(run: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of one call, and what it returns."""
    began = time.process_time()
    result = run()
    return time.process_time() - began, result


def main() -> None:
    """Measures, and prints the table."""
    model = tfcert.load_model(MODEL)
    x, y = mnist5k(split="test")
    x, y = (x[:IMAGES] / 255).astype("float32"), y[:IMAGES]

    def row(norm: str, clip: tuple[int, int] | None) -> dict[str, str]:
        def one_pass() -> Any:
            return tfcert.certify(model, x, y, eps=EPS[norm], norm=norm, clip=clip, options=UNROUNDED)

        first = spent(one_pass)[0]
        passes = statistics.median(spent(one_pass)[0] for _ in range(TURNS))
        how = {"norm": norm, "clip": clip, "tolerance": 1e-3, "options": UNROUNDED}
        search, radii = spent(lambda: tfcert.certified_radius(model, x, y, **how))
        return {
            "norm": norm,
            "cut by": "nothing" if clip is None else "[0, 1]",
            "first pass, s": f"{first:.1f}",
            "pass, ms": f"{1000 * passes:.0f}",
            "search, s": f"{search:.1f}",
            "mean radius": f"{radii.radius.mean():.5f}",
        }

    print(store.markdown([row(norm, clip) for norm in EPS for clip in (None, (0, 1))]))


if __name__ == "__main__":
    main()
