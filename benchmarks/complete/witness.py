"""Whether a claimed adversarial example is one: judged here by none of tfcert's or a peer's code."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from benchmarks.complete.networks import CLIP, EPS, weights


@dataclass(frozen=True)
class Checked:
    """What became of a claimed witness.

    Attributes:
        strict: it lies within the radius and the pixel range, and the model, in its own dtype, gives another class a
            logit that is strictly larger than the label's.
        strict64: the same in float64, on the same point.
        distance: L-infinity, in float64.
        margin: the label's logit less the largest other one, in the model's dtype.
    """

    strict: bool
    strict64: bool
    distance: float
    margin: float


def forward(layers: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray) -> np.ndarray:
    """Logits ``[batch, classes]`` in float64 of images ``[batch, ...]``."""
    values = x.reshape(len(x), -1).astype(np.float64)
    for kernel, bias in layers[:-1]:
        values = np.maximum(values @ kernel + bias, 0.0)
    return values @ layers[-1][0] + layers[-1][1]


def check(model: keras.Model, x: np.ndarray, label: int, witness: np.ndarray) -> Checked:
    """Judges a witness of one image ``x`` (both without a batch axis; the witness is rounded to float32)."""
    point = witness.reshape(x.shape).astype(np.float32)
    distance = float(np.abs(point.astype(np.float64) - x.astype(np.float64)).max())
    inside = bool(distance <= EPS and (point >= CLIP[0]).all() and (point <= CLIP[1]).all())
    margins = [_margin(model(point[None]).numpy()[0], label), _margin(forward(weights(model), point[None])[0], label)]
    return Checked(inside and margins[0] < 0, inside and margins[1] < 0, distance, margins[0])


def _margin(logits: np.ndarray, label: int) -> float:
    return float(logits[label] - np.delete(logits, label).max())
