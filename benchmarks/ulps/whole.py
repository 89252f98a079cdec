"""The largest error of a function over all 2^32 float32 numbers: chunk by chunk, on one core, and gone on with.

What :func:`benchmarks.ulps.sizes.worst` does for a sample costs ten times as much for each number. Here

- chunks of numbers that the statement is not about (beyond 2^60, or outside of the domain) are left out;
- ways whose results have the same bits in a chunk are compared once;
- the comparison with float64 is compiled, and looks for the place of an error only where it exceeds all before;
- what is done is stored as it goes, so a run that was stopped goes on where it was: on the same processor and
  versions, with the same ways to run the function and the same size of its ulps; else it begins anew.

The reference is tfcert's form in float64, compiled by XLA. It errs by fewer than 2^10 of float64's ulps (``double`` of
``tfcert/activations/accuracy.py``, which is held against extended precision), so by less than 2e-6 of float32's.
Subnormal numbers are compared by ``sizes.compared``, because compiled code flushes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.common import machine, store
from benchmarks.ulps import sizes
from tfcert.activations import Activation

CHUNK = 2**20
CHUNKS = 2**32 // CHUNK
KEPT_EVERY = 64
Found = dict[str, Any]


def numbers(chunk: int) -> np.ndarray:
    """The numbers of a chunk, in order of their bits; the first half of the chunks are not negative."""
    return np.arange(chunk * CHUNK, (chunk + 1) * CHUNK, dtype=np.uint64).astype(np.uint32).view(np.float32)


def beyond(act: Activation, chunk: int) -> bool:
    """Tells whether the statement is about none of a chunk's numbers, by the smallest and largest of them."""
    first, last = np.array([chunk * CHUNK, (chunk + 1) * CHUNK - 1], np.uint64).astype(np.uint32).view(np.float32)
    least, most = sorted((float(first), float(last)))
    return not (abs(first) <= sizes.FAR and least <= act.domain[1] and most >= act.domain[0])


def _subnormal(chunk: int) -> bool:
    return chunk % (CHUNKS // 2) < 2**23 // CHUNK


def comparison(act: Activation) -> Callable[..., Any]:
    """``(wide, *results) -> largest errors in ulps [results], numbers compared``: compiled."""
    accuracy, (least, most) = act.accuracy, act.domain
    flushed = sizes.flushed(act)

    @tf.function(jit_compile=True, autograph=False)
    def largest(wide: tf.Tensor, *results: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        value, zero = act.function(wide), tf.zeros_like(wide)
        size = tf.abs(value) + accuracy.base + accuracy.reach * tf.abs(wide)
        held = (tf.abs(wide) <= sizes.FAR) & (wide >= least) & (wide <= most)
        held &= tf.math.is_finite(value) & (tf.abs(value) <= sizes.LARGEST)
        for pole in act.poles:
            held &= wide != pole
        found = []
        for result in results:
            error = tf.abs(tf.cast(result, tf.float64) - value)
            ulps = tf.where(error <= flushed, zero, (error - flushed) / (float(np.finfo(np.float32).eps) * size))
            ulps = tf.where(tf.math.is_nan(error), tf.constant(np.inf, tf.float64), ulps)
            found.append(tf.reduce_max(tf.where(held, ulps, zero)))
        return tf.stack(found), tf.reduce_sum(tf.cast(held, tf.int32))

    return largest


def extend(act: Activation, functions: dict[str, sizes.Function], chunk: int, found: Found, comparison: Any) -> None:
    """Takes a chunk of numbers into what was found."""
    if beyond(act, chunk):
        return
    x = numbers(chunk)
    if _subnormal(chunk):
        found["points"] += sizes.take(act, functions, x, found["ways"])
        return
    results: list[np.ndarray] = []
    which = {}
    for way, function in functions.items():
        result = function(tf.constant(x)).numpy()
        same = [i for i, other in enumerate(results) if np.array_equal(other.view(np.int32), result.view(np.int32))]
        which[way] = same[0] if same else len(results)
        results += [] if same else [result]
    ulps, count = (part.numpy() for part in comparison(x.astype(np.float64), *results))
    found["points"] += int(count)
    if any(ulps[which[way]] > found["ways"][way]["ulps"] for way in functions):
        sizes.take(act, functions, x, found["ways"])


def worst(act: Activation, functions: dict[str, sizes.Function], progress: store.Store, key: str) -> Found:
    """What ``sizes.worst`` returns, over all numbers; ``progress`` keeps what is done under ``key``."""
    about = machine.identity() | {"base": act.accuracy.base, "reach": act.accuracy.reach, "run": list(functions)}
    found = progress.read("partial", {}).get(key, {})
    if found.get("about") != about:
        found = {"about": about, "next": 0, "points": 0}
        found["ways"] = {way: {"ulps": 0.0, "at": 0.0} for way in functions}
    compare = comparison(act)
    for chunk in range(found["next"], CHUNKS):
        extend(act, functions, chunk, found, compare)
        found["next"] = chunk + 1
        if chunk % KEPT_EVERY == KEPT_EVERY - 1:
            progress.write("partial", progress.read("partial", {}) | {key: found})
    return {"points": found["points"], "ways": found["ways"]}


def forget(progress: store.Store, name: str) -> None:
    """Drops what is kept of a function that is done."""
    left = {key: found for key, found in progress.read("partial", {}).items() if key.split(" ")[0] != name}
    if left:
        progress.write("partial", left)
    else:
        progress.path("partial.json").unlink(missing_ok=True)
