"""From the regions of a specification to perturbations in network space.

Radii and bounds are exact fractions until here. The proof's set is rounded outward, a witness's set inward; centres
are the network's own floats. Where normalisation treats channels differently an L-inf ball becomes a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcert.errors import UsageError
from tfcert.language import AnyTemplate, BallSpec, Transform, net_within
from tfcert.language.spec.questions import RegionSpec
from tfcert.sets.balls import Box, LpBall, Perturbation
from tfcert.sets.rounding import enclosed, enclosing, float_down, float_up, inward, outward
from tfcert.sets.uneven import Scale

if TYPE_CHECKING:
    from tfcert.network import Network

InputShape = tuple[int, ...]


@dataclass(frozen=True)
class Regions:
    """One set a sample, twice: ``proof`` contains the set that was asked about, ``witness`` is contained in it.

    ``witness`` is None where no input of the network's type lies in the set.
    """

    proof: Perturbation
    witness: Perturbation | None

    def take(self, index: Any) -> Regions:
        return Regions(self.proof.take(index), None if self.witness is None else self.witness.take(index))


def fits(given: InputShape, shape: InputShape) -> bool:
    """Tells whether a network of one shape takes samples of another: axes of length 1 apart, or laid out flat."""
    same_but_ones = [d for d in given if d != 1] == [d for d in shape if d != 1]
    return same_but_ones or (len(shape) == 1 and int(np.prod(given)) == shape[0])


def to_net(transform: Transform, x: np.ndarray, dtype: Any) -> np.ndarray:
    """Stored values ``[samples, ..., channels]`` as the network receives them, computed in float64 and rounded once.

    Each step is monotone, so a value inside a range stays inside the range taken through the same steps.

    Raises:
        UsageError: ``normalize`` has neither one number, nor one a channel, nor one an input.
    """
    return _moved(transform, np.asarray(x, np.float64), normalization(transform, tuple(np.shape(x)[1:]))).astype(dtype)


def _moved(transform: Transform, raw: np.ndarray, moves: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    unit = raw * float(transform.scale) if transform.scales else raw
    return (unit - moves[0]) / moves[1] if transform.normalises else unit


def to_unit(transform: Transform, z: np.ndarray) -> np.ndarray:
    """Network inputs ``[..., *input]`` in unit space, for pictures (rounded)."""
    size = max(len(transform.mean), len(transform.std))
    shape = z.shape if size == z.size else z.shape[1:]
    mean, std = normalization(transform, shape)
    return np.asarray(z, np.float64) * std + mean


def normalization(transform: Transform, shape: InputShape) -> tuple[np.ndarray, np.ndarray]:
    """Mean and std, in float64, ready to broadcast against inputs of ``shape``.

    Raises:
        UsageError: there is neither one number, nor one a channel (the last axis), nor one an input.
    """
    whole = int(np.prod(shape))
    for values in (transform.mean, transform.std):
        if len(values) not in (1, whole, *shape[-1:]):
            channels = f"one a channel ({shape[-1]}) or " if len(shape) > 1 else ""
            raise UsageError(
                f"`normalize` has {len(values)} numbers, and inputs have shape {shape}: it takes one number, {channels}"
                f"one an input ({whole})"
            )
    mean, std = (_placed([float(v) for v in values], shape) for values in (transform.mean, transform.std))
    return mean, std


def build_regions(
    template: AnyTemplate,
    centers: np.ndarray | None,
    shape: InputShape,
    dtype: Any,
    radii: Sequence[Fraction] | None = None,
) -> Regions:
    """The sets around ``centers`` ``[batch, *shape]`` in network space, or the one box of a property without samples.

    Args:
        radii: for a measure, the value of its variable for each sample (in the ball's own space).

    Raises:
        UsageError: a centre outside ``within``, or bounds that fit neither shape nor type of the inputs.
    """
    region, transform = template.region, template.transform
    normalization(transform, shape)
    if not isinstance(region, BallSpec):
        bounds = region.net_bounds(transform)
        if max(abs(v) for side in bounds for v in side) > Fraction(float(np.finfo(dtype).max)):
            raise UsageError(f"{template.name}: the box reaches beyond the largest number of {np.dtype(dtype).name}")
        return _box(bounds, shape, dtype, 1 if centers is None else len(centers))
    if centers is None:
        raise UsageError(f"{template.name}: a ball needs a sample in its centre")
    clip = clip_of(template, shape, dtype)
    require_inside(template.name, centers, clip)
    eps = [region.net_eps(transform, r) for r in (radii if radii is not None else [Fraction(0)] * len(centers))]
    scale = _shares(region, shape)
    if all(len(e) == 1 for e in eps):
        ball = LpBall(centers, [e[0] for e in eps], region.norm, clip, scale=scale)
        return Regions(ball, ball)
    if scale is not None:
        message = "radii by input after normalisation by unequal std are not supported yet"
        raise UsageError(f"{template.name}: {message}; write the ball `in net`")
    if region.norm != "linf":
        raise UsageError(f"{template.name}: an {region.norm} ball is no ball after normalisation by unequal std")
    above, below = (np.stack([_placed(list(map(side, e)), shape) for e in eps]) for side in (float_up, float_down))
    return _boxes(centers, (above, below), clip)


def by_number(region: RegionSpec, network: Network) -> Any:
    """The region with what its radius is multiplied with for each number that the network takes, not each input.

    Raises:
        UsageError: there are radii for other inputs than the network has.
    """
    if not isinstance(region, BallSpec) or not region.shares:
        return region
    whole = int(np.prod(network.input_shape))
    sizes = [1] * whole if network.parts is None else [part.size for part in network.parts]
    if len(sizes) != len(region.shares):
        raise UsageError(f"the ball has {len(region.shares)} radii, and the network {len(sizes)} inputs")
    spread = [share for share, size in zip(region.shares, sizes, strict=True) for _ in range(size)]
    return replace(region, shares=tuple(spread))


def _shares(region: BallSpec, shape: InputShape) -> Scale | None:
    """What radii are multiplied with, ``[1, *shape]``; None where all are alike."""
    if not region.shares:
        return None
    ends = ([side(share) for share in region.shares] for side in (float_down, float_up))
    return Scale(*(np.array(end).reshape(1, *shape) for end in ends))


def _boxes(
    centers: np.ndarray, eps: tuple[np.ndarray, np.ndarray], clip: tuple[np.ndarray, np.ndarray] | None
) -> Regions:
    """L-inf balls whose radii differ by channel or input, as boxes rounded outward and inward.

    ``eps`` are the radii of each ball, rounded up and rounded down: ``[batch, channels]`` or ``[batch, *input]``.
    """
    ones = [1] * (centers.ndim - eps[0].ndim)
    above, below = (side.reshape(len(side), *ones, *side.shape[1:]) for side in eps)
    (low, high), (inner_low, inner_high) = outward(centers, above), inward(centers, below)
    if clip is not None:
        low, inner_low = np.maximum(low, clip[0]), np.maximum(inner_low, clip[0])
        high, inner_high = np.minimum(high, clip[1]), np.minimum(inner_high, clip[1])
    dtype = centers.dtype
    return Regions(Box(*enclosing(low, high, dtype)), Box(*enclosed(inner_low, inner_high, dtype)))


def _box(bounds: tuple[Sequence[Fraction], Sequence[Fraction]], shape: InputShape, dtype: Any, count: int) -> Regions:
    def ends(rounding: Any) -> list[np.ndarray]:
        exact = [np.broadcast_to(_placed([rounding(v) for v in side], shape), shape) for side in bounds]
        return [np.broadcast_to(side, (count, *shape)) for side in exact]

    (low, inner_high), (inner_low, high) = ends(float_down), ends(float_up)
    inside = enclosed(inner_low, inner_high, dtype)
    empty = bool((inside[0] > inside[1]).any())
    return Regions(Box(*enclosing(low, high, dtype)), None if empty else Box(*inside))


def clip_of(template: AnyTemplate, shape: InputShape, dtype: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """``within`` in network space: each end where a stored value at that end arrives, or further out; or None.

    One number, one for each channel, or one for each input of ``shape``, in float64.
    """
    ends = net_within(template.region, template.transform)
    if ends is None:
        return None
    assert isinstance(template.region, BallSpec) and template.region.within is not None
    space = template.region.valid_space
    arrived = [_arrival(template.transform, space, v, dtype) for v in template.region.within]
    low = np.minimum(_placed([float_down(v) for v in ends[0]], shape), _placed(arrived[0], shape))
    high = np.maximum(_placed([float_up(v) for v in ends[1]], shape), _placed(arrived[1], shape))
    return low, high


def _arrival(transform: Transform, space: str, value: Fraction, dtype: Any) -> np.ndarray:
    """The values that ``to_net`` takes a stored value to: one number, or one for each channel or input."""
    if space == "net":
        return np.array([float(value)]).astype(dtype).astype(np.float64)
    raw = value / transform.scale if space == "unit" else value
    mean, std = (np.array([float(v) for v in values]) for values in (transform.mean, transform.std))
    return _moved(transform, np.array([float(raw)]), (mean, std)).astype(dtype).astype(np.float64)


def _placed(values: Sequence[float] | np.ndarray, shape: InputShape) -> np.ndarray:
    """One value for all inputs, one for each input, or one for each channel (the last axis), ready to broadcast."""
    array = np.array(values, np.float64)
    if array.size == 1:
        return array
    if array.size == int(np.prod(shape)):
        return array.reshape(shape)
    if array.size == shape[-1]:
        return array
    raise UsageError(f"{array.size} bounds were given for an input of shape {shape}")


def require_inside(name: str, centers: np.ndarray, clip: tuple[np.ndarray, np.ndarray] | None) -> None:
    """Requires that every centre is finite and within ``clip``.

    Raises:
        UsageError: one is not; begins with ``name``.
    """
    if not np.isfinite(centers).all():
        raise UsageError(f"{name}: sample {_first(~np.isfinite(centers))} holds a NaN or an infinity")
    if clip is not None and ((centers < clip[0]) | (centers > clip[1])).any():
        outside = (centers < clip[0]) | (centers > clip[1])
        raise UsageError(
            f"{name}: {int(outside.reshape(len(centers), -1).any(axis=1).sum())} of {len(centers)} samples lie outside "
            f"`within`, the first at place {_first(outside)} of those selected; a region without its centre would "
            "prove nothing"
        )


def _first(mask: np.ndarray) -> int:
    return int(np.argwhere(mask)[0][0])
