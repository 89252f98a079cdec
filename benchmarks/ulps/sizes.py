"""Errors in ulps of the size that is stated of a function, over some float32 numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.activations import Activation

STRIDE, CHUNK = 4099, 2**20
"""Every so many float32 numbers are the sample: a prime, so that all exponents and low bits are met."""
FAR, LARGEST = 2.0**60, 2.0**120
TINY = float(np.finfo(np.float32).tiny)
Function = Callable[[tf.Tensor], tf.Tensor]


def numbers(stride: int) -> Iterator[np.ndarray]:
    """The float32 numbers (every so many), without NaN and infinities, in order of their bits."""
    for start in range(0, 2**32, CHUNK * stride):
        bits = np.arange(start, min(start + CHUNK * stride, 2**32), stride, dtype=np.uint64).astype(np.uint32)
        x = bits.view(np.float32)
        x = x[np.isfinite(x)]
        if len(x):
            yield x


def compared(act: Activation, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those of the numbers that the statement is about, the values of the function there, and the sizes of ulps."""
    accuracy = act.accuracy
    wide = x.astype(np.float64)
    least, most = act.domain
    inside = (np.abs(wide) <= FAR) & (wide >= least) & (wide <= most) & ~np.isin(wide, act.poles)
    if accuracy.sharp or act.limited:
        inside &= (np.abs(wide) >= TINY) | (wide == 0)
    x, wide = x[inside], wide[inside]
    with np.errstate(all="ignore"):
        value = act.function(tf.constant(wide)).numpy()
    held = np.isfinite(value) & (np.abs(value) <= LARGEST)
    x, wide, value = x[held], wide[held], value[held]
    return x, value, np.abs(value) + accuracy.base + accuracy.reach * np.abs(wide)


def flushed(act: Activation) -> float:
    """An error that flushing to zero may explain."""
    steep = act.accuracy.steep() if callable(act.accuracy.steep) else act.accuracy.steep
    return 8 * TINY * (1 + float(steep))


def take(act: Activation, functions: dict[str, Function], x: np.ndarray, found: dict[str, dict[str, float]]) -> int:
    """Takes numbers into the largest errors found; returns how many of them the statement is about."""
    x, value, size = compared(act, x[np.isfinite(x)])
    if not len(x):
        return 0
    for way, function in functions.items():
        error = np.abs(function(tf.constant(x)).numpy().astype(np.float64) - value)
        lost = flushed(act)
        with np.errstate(divide="ignore", invalid="ignore"):
            ulps = np.where(error <= lost, 0.0, (error - lost) / (np.finfo(np.float32).eps * size))
        ulps = np.where(np.isnan(error), np.inf, ulps)
        at = int(ulps.argmax())
        if ulps[at] > found[way]["ulps"]:
            found[way] = {"ulps": float(ulps[at]), "at": float(x[at])}
    return len(x)


def worst(act: Activation, functions: dict[str, Function], stride: int) -> dict[str, Any]:
    """The largest error of each way in ulps, and where; what may be flushed does not count."""
    found = {way: {"ulps": 0.0, "at": 0.0} for way in functions}
    count = sum(take(act, functions, x, found) for x in numbers(stride))
    return {"points": count, "ways": found}
