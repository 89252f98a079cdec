"""What a step of certified training costs beside a plain step of the same model.

python -m benchmarks.training.steps            the small network of Gowal et al. 2018 on MNIST, batches of 100 and 256

Plain and certified models take turns; of each the median over three epochs of 40 batches counts, after one that
compiles. ``jit_compile`` both ways. The goal is at most 2.5 times a plain step with it.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import keras

import tfcert
from benchmarks.common import machine, store
from benchmarks.training import certified
from tfcert.objectives import IBP, ConstrainedIBP, CrownIBP

STORE = store.Store(__file__)
_STEPS, _ROUNDS = 40, 3
_OBJECTIVES = {
    "IBP": lambda: IBP(0.1, kappa=0.5, clip=(0, 1)),
    "constrained IBP": lambda: ConstrainedIBP(0.1, kappa=0.5, clip=(0, 1)),
    "CROWN-IBP": lambda: CrownIBP(0.1, kappa=0.5, clip=(0, 1)),
}


def models(jit: bool, shape: tuple[int, ...]) -> dict[str, keras.Model]:
    """A plain model and one for each objective, compiled."""
    plain = certified.network("small", shape)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    plain.compile("adam", loss, metrics=["accuracy"], jit_compile=jit)
    found: dict[str, keras.Model] = {"plain": plain}
    for name, make in _OBJECTIVES.items():
        found[name] = tfcert.CertifiedModel(certified.network("small", shape), make())
        found[name].compile("adam", metrics=["accuracy"], jit_compile=jit)
    return found


def measured(images: certified.Data, batch: int, jit: bool) -> dict[str, float]:
    """Milliseconds a step of each model."""
    x, y = images.x[: batch * _STEPS], images.y[: batch * _STEPS]
    seconds: dict[str, list[float]] = {}
    found = models(jit, images.x.shape[1:])
    for turn in range(_ROUNDS + 1):
        for name, model in found.items():
            start = time.perf_counter()
            model.fit(x, y, batch_size=batch, verbose=0)
            if turn:
                seconds.setdefault(name, []).append(time.perf_counter() - start)
    return {name: 1e3 * median(times) / _STEPS for name, times in seconds.items()}


def main() -> None:
    """Measures, stores and writes the table."""
    machine.limit_threads()
    images, rows, stored = certified.data("mnist"), [], []
    for batch in (100, 256):
        for jit in (False, True):
            found = measured(images, batch, jit)
            stored.append({"batch": batch, "jit_compile": jit, "milliseconds": found})
            row: dict[str, str] = {"batch": str(batch), "jit_compile": str(jit), "plain, ms": f"{found['plain']:.1f}"}
            for name in _OBJECTIVES:
                row |= {f"{name}, ms": f"{found[name]:.1f}", f"{name}, times": f"{found[name] / found['plain']:.2f}"}
            rows.append(row)
    result: dict[str, Any] = {"machine": machine.describe(), "steps": stored}
    STORE.write("train_steps", result)
    text = f"{store.machine_line(result['machine'])}\n\n{store.markdown(rows)}"
    STORE.write_table("train-steps", text)
    print(text)


if __name__ == "__main__":
    main()
