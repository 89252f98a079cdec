"""Doubts about a question that its samples raise, about units above all: known once they are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from tfcert.errors import UsageError
from tfcert.language import AnyTemplate, BallSpec, Dataset, MeasureTemplate
from tfcert.language.check.setting import SLACK
from tfcert.verdict import TINY

SPAN = 100
"""A declared range this many times as wide as what the samples fill is likelier a mistake than not."""
FEW = 10
"""So many samples of several classes are hardly ever of one."""


def require_unit(template: AnyTemplate, data: Dataset | None, x: np.ndarray) -> None:
    """Requires samples ``[n, ...]`` of about [0, 1] as stored, where the region is `in unit` and no range says so.

    Raises:
        UsageError: they are not.
    """
    if data is None or data.range is not None or template.region.space != "unit" or not x.size:
        return
    low, high, scale = Fraction(float(x.min())), Fraction(float(x.max())), data.transform.scale
    if low * scale < -SLACK or high * scale > 1 + SLACK:
        after = "" if scale == 1 else f" ({float(low * scale):g} to {float(high * scale):g} after `scale`)"
        raise UsageError(
            f"{template.name}: `in unit` is for values in [0, 1], but those of {data.name} go from {float(low):g} to "
            f"{float(high):g}{after}; give the data set `range: [low, high]` and the `scale` that takes it to [0, 1], "
            "or write `in raw`"
        )


def doubts(template: AnyTemplate, data: Dataset, x: np.ndarray) -> tuple[str, ...]:
    """Sentences about units that may be mistaken, by the samples ``[n, ...]`` as they are stored."""
    region = template.region
    if not x.size or not isinstance(region, BallSpec) or region.free:
        return ()
    low, high = Fraction(float(x.min())), Fraction(float(x.max()))
    ends = f"{float(low):g} to {float(high):g}"
    if data.range is not None:
        sparse = 0 < (high - low) * SPAN < data.range[1] - data.range[0]
        told = f"[{float(data.range[0]):g}, {float(data.range[1]):g}]"
        return (f"{data.name}: its values go from {ends} only, and its range is {told}",) if sparse else ()
    eps = region.radius(template.upper if isinstance(template, MeasureTemplate) else 0)
    spread = _typical_spread(x)
    width = template.transform.width(region.space, (Fraction(0), spread))
    if 0 < eps < TINY * width:
        share = f"{100 * float(eps / width):.2g}%"
        what = "the largest radius" if isinstance(template, MeasureTemplate) else "the radius"
        span = f"what one input of {data.name} spans ({float(spread):g} as it is stored)"
        return (f"{template.name}: {what} is {share} of {span}: is its unit meant?",)
    return ()


def _typical_spread(x: np.ndarray) -> Fraction:
    """The median over the inputs of how far their values lie apart; columns of a table have ranges of their own."""
    apart = np.ptp(np.asarray(x, np.float64), axis=0)
    moving = apart[apart > 0]
    return Fraction(float(np.median(moving) if moving.size else np.ptp(np.asarray(x, np.float64))))


def one_class(template: AnyTemplate, data: Dataset, labels: Sequence[float | None]) -> tuple[str, ...]:
    """A sentence where `take` left samples of a single class, as it does of a file that is sorted by class."""
    taken = "take" in {step.kind for step in (*template.choice, *data.choice)}
    if not taken or template.where is not None or len(labels) < FEW or len(set(labels)) > 1 or labels[0] is None:
        return ()
    return (
        f"{template.name}: all {len(labels)} samples that `take` leaves of {data.name} have the label {labels[0]}: "
        "it takes the first ones, and the file may be sorted by class",
    )
