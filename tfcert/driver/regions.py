"""From the regions of a specification to perturbations in network space.

Radii and bounds are exact fractions until here. The proof's set is rounded outward, a witness's set inward; centres
are the network's own floats. Where normalisation treats channels differently a ball's radius is multiplied by one
number for each channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.datasets.masks import read_mask
from tfcert.driver.arrivals import InputShape, arrival, fits, laid_out, normalization
from tfcert.driver.overlaps import Frame, Overlap, mask_of, overlap_of
from tfcert.driver.slices import Slices, slices_of
from tfcert.errors import UsageError
from tfcert.language import AnyTemplate, BallSpec, BoxSpec, Transform, net_within
from tfcert.language.spec.places import Movable
from tfcert.language.spec.regions import (
    BothSpec,
    LimitsSpec,
    RegionSpec,
    SomewhereSpec,
    UnionSpec,
    balls_of,
    with_balls,
)
from tfcert.parts import NamedParts
from tfcert.sets.balls import Box, LpBall, Perturbation
from tfcert.sets.rounding import enclosed, enclosing, float_down, float_up
from tfcert.sets.uneven import Scale


@dataclass(frozen=True)
class Regions:
    """One set a sample, twice: ``proof`` contains the set that was asked about, ``witness`` is contained in it.

    ``witness`` is None where no input of the network's type lies in the set.
    """

    proof: Perturbation
    witness: Perturbation | None

    def take(self, index: Any) -> Regions:
        return Regions(self.proof.take(index), None if self.witness is None else self.witness.take(index))


def build_regions(
    template: AnyTemplate,
    centers: np.ndarray | None,
    shape: InputShape,
    dtype: Any,
    radii: Sequence[Fraction] | None = None,
    masks: np.ndarray | None = None,
) -> Regions:
    """The sets around ``centers`` ``[batch, *shape]`` in network space, or the one box of a property without samples.

    The template's region is one piece (``tfcert.language.spec.pieces``).

    Args:
        radii: for a measure, the value of its variable for each sample (in the ball's own space).
        masks: ``[batch, *shape]``, what may change of each sample, in the place of a ball's own ``places``.

    Raises:
        UsageError: a centre outside ``within``, an empty set, or bounds that fit neither shape nor type of the inputs.
    """
    region, transform = template.region, template.transform
    normalization(transform, shape)
    frame = Frame(transform, shape, dtype)
    if isinstance(region, BoxSpec):
        bounds = region.net_bounds(transform)
        if max(abs(v) for side in bounds for v in side) > Fraction(float(np.finfo(dtype).max)):
            raise UsageError(f"{template.name}: the box reaches beyond the largest number of {np.dtype(dtype).name}")
        return _box(bounds, shape, dtype, 1 if centers is None else len(centers), region.rounded)
    if centers is None and balls_of(region):
        raise UsageError(f"{template.name}: a ball needs a sample in its centre")
    if isinstance(region, BothSpec):
        return _both(template, region, frame, (centers, radii))
    assert centers is not None and isinstance(region, BallSpec)
    clip = clip_of(template, shape, dtype)
    require_inside(template.name, centers, clip)
    eps, scale = _radii(region, frame, [Fraction(0)] * len(centers) if radii is None else radii, masks)
    ball = LpBall(centers, eps, region.norm, clip, scale=scale)
    return Regions(ball, ball)


def build_pieces(
    pieces: Sequence[AnyTemplate], rows: np.ndarray, centers: np.ndarray | None, shape: InputShape, dtype: Any
) -> Regions:
    """The sets of some pieces side by side: of number ``rows[i]`` around ``centers[i]``, for each i.

    Raises:
        UsageError: as for :func:`build_regions`.
        ValueError: they are of several kinds.
    """
    numbers, first = np.unique(rows), pieces[rows[0]]
    frame = Frame(first.transform, shape, dtype)
    masks = _masks([pieces[number].region for number in numbers], frame)
    if masks is not None:
        return build_regions(first, centers, shape, dtype, masks=masks[np.searchsorted(numbers, rows)])
    places = [np.flatnonzero(rows == number) for number in numbers]
    found = [
        build_regions(pieces[number], None if centers is None else centers[some], shape, dtype)
        for number, some in zip(numbers, places, strict=True)
    ]
    if centers is None and len(found) == 1:
        return found[0]
    return gathered(found, places)


def gathered(found: Sequence[Regions], places: Sequence[np.ndarray]) -> Regions:
    """The sets of several batches as one batch, in which each batch's stand at ``places``.

    Raises:
        ValueError: they are of several kinds.
    """
    back = np.argsort(np.concatenate(places))
    proof = type(found[0].proof).joined([one.proof for one in found]).take(back)
    inner = [one.witness for one in found if one.witness is not None]
    # A piece in which no input of the network's type lies leaves the others without witnesses, too.
    witness = type(inner[0]).joined(inner).take(back) if len(inner) == len(found) else None
    return Regions(proof, witness)


def _masks(regions: Sequence[RegionSpec], frame: Frame) -> np.ndarray | None:
    """What may change in each of some balls that differ in nothing else; None where they do."""
    balls = [region for region in regions if isinstance(region, BallSpec) and region.places is not None]
    alike = len(balls) == len(regions) and all(replace(one, places=balls[0].places) == balls[0] for one in balls)
    return np.stack([_mask(one, frame) for one in balls]) if alike else None


def _mask(ball: BallSpec, frame: Frame) -> np.ndarray:
    mask = mask_of(ball, frame)
    assert mask is not None
    return mask


def _radii(
    ball: BallSpec, frame: Frame, radii: Sequence[Fraction], masks: np.ndarray | None
) -> tuple[list[Fraction], Scale | None]:
    """The radius of each sample in units of :func:`ball_unit`, and what it is multiplied with for each number."""
    unit, transform = ball_unit(ball, frame.transform), frame.transform
    eps = [ball.radius(r) * unit for r in radii]
    moving = mask_of(ball, frame) if masks is None else masks
    unequal = ball.space != "net" and not transform.uniform_std
    if not unequal and not ball.shares and moving is None:
        return eps, None
    shares = ball.shares or (Fraction(1),)
    if unequal:
        stds = frame.each(transform.std) if ball.shares else transform.std
        each = frame.each(ball.shares) if ball.shares else shares * len(stds)
        shares = tuple(share / std for share, std in zip(each, stds, strict=True))
    scale = Scale(*(_spread(side, shares, frame.shape) for side in (float_down, float_up)))
    return eps, scale if moving is None else scale.within(moving)


def _spread(side: Any, shares: Sequence[Fraction], shape: InputShape) -> np.ndarray:
    """Numbers for all inputs, one for each channel or one for each input, rounded: ``[1, *shape]``."""
    return np.broadcast_to(laid_out([side(share) for share in shares], shape), (1, *shape))


def ball_unit(ball: BallSpec, transform: Transform) -> Fraction:
    """The size of a radius of 1 of a ball, as sets count it: in network space or, where normalisation makes another
    shape of it, in the space before."""
    return transform.before_unequal(ball.space).net_eps(ball.space, Fraction(1))[0]


def _both(
    template: AnyTemplate,
    both: BothSpec,
    frame: Frame,
    around: tuple[np.ndarray | None, Sequence[Fraction] | None],
) -> Regions:
    """What balls and limits have in common: a box, or a ball of another norm, or of a measure, within a box."""
    centers, given = around
    radii = [Fraction(0)] * (1 if centers is None else len(centers)) if given is None else given
    apart = next((ball for ball in both.balls if ball.norm != "linf" or ball.slope), None)
    overlap = overlap_of(both, frame, centers, radii, apart)
    if overlap.empty.any():
        place = _first(overlap.empty)
        raise UsageError(f"{template.name}: nothing lies in the region of sample {place} of those selected")
    if apart is None:
        return Regions(*overlap.boxes(frame.dtype))
    assert centers is not None
    slices = None if apart.norm == "linf" else slices_of(both, apart, frame, centers, radii)
    if slices is not None:
        return _sliced(template.name, apart, frame, (overlap, slices, radii))
    require_inside(template.name, centers, overlap.proof)
    eps, scale = _radii(apart, frame, radii, None)
    return Regions(*(LpBall(centers, eps, apart.norm, ends, scale=scale) for ends in (overlap.proof, overlap.witness)))


def _sliced(name: str, ball: BallSpec, frame: Frame, within: tuple[Overlap, Slices, Sequence[Fraction]]) -> Regions:
    """Slices of balls within boxes."""
    overlap, slices, radii = within
    require_inside(name, slices.centers, overlap.proof)
    own = mask_of(ball, frame)
    eps, scale = _radii(ball, frame, radii, slices.moving if own is None else slices.moving & own)

    def balls(shares: Sequence[Fraction | None], ends: tuple[np.ndarray, np.ndarray]) -> LpBall | None:
        left = [share for share in shares if share is not None]
        if len(left) < len(shares) or (ends[0] > ends[1]).any():
            return None
        sizes = [size * share for size, share in zip(eps, left, strict=True)]
        return LpBall(slices.centers, sizes, ball.norm, ends, scale=scale)

    proof = balls(slices.proof, overlap.proof)
    if proof is None:
        raise UsageError(f"{name}: nothing lies in the region of sample {_first(slices.empty)} of those selected")
    return Regions(proof, balls(slices.witness, overlap.witness))


def empty_of(template: AnyTemplate, centers: np.ndarray | None, shape: InputShape, dtype: Any) -> np.ndarray:
    """Marks samples ``[batch, *shape]`` around which a piece holds nothing; of the one box of no samples, that."""
    region, count = template.region, 1 if centers is None else len(centers)
    if not isinstance(region, BothSpec):
        return np.zeros(count, bool)
    zeros, frame = [Fraction(0)] * count, Frame(template.transform, shape, dtype)
    empty = overlap_of(region, frame, centers, zeros).empty
    round_ = [ball for ball in region.balls if ball.norm != "linf"]
    slices = slices_of(region, round_[0], frame, centers, zeros) if round_ and centers is not None else None
    return empty if slices is None else empty | slices.empty


def by_number(region: RegionSpec, shape: tuple[int, ...], parts: NamedParts | None) -> Any:
    """The region with what its radii are multiplied with for each number that the network takes, not each input, and
    with masks read from their files; ``parts`` are its inputs, where these are arrays with names.

    Raises:
        UsageError: there are radii, bounds or a mask for other inputs than the network has.
    """
    if isinstance(region, UnionSpec):
        return UnionSpec(tuple(by_number(part, shape, parts) for part in region.parts))
    inputs = _Inputs(shape, parts)
    match with_balls(region, inputs.ball):
        case BoxSpec() as box:
            return inputs.box(box)
        case BothSpec() | SomewhereSpec() as part:
            return replace(part, limits=tuple(map(inputs.limits, part.limits)))
        case other:
            return other


class _Inputs:
    """What is said of a network's inputs, said of each number that it takes."""

    def __init__(self, shape: tuple[int, ...], parts: NamedParts | None):
        self._shape = shape
        self._several = parts is not None
        self._sizes = [1] * int(np.prod(shape)) if parts is None else [part.size for part in parts]

    def _spread(self, values: tuple[Any, ...], what: str) -> tuple[Any, ...]:
        if len(values) != len(self._sizes):
            raise UsageError(f"the {what}, and the network {len(self._sizes)} inputs")
        return tuple(value for value, size in zip(values, self._sizes, strict=True) for _ in range(size))

    def ball(self, ball: BallSpec) -> BallSpec:
        """The ball of numbers."""
        if ball.shares:
            ball = replace(ball, shares=self._spread(ball.shares, f"ball has {len(ball.shares)} radii"))
        return _unmasked(ball, self._shape)

    def box(self, box: BoxSpec) -> BoxSpec:
        """The box of numbers."""
        if not box.names:
            return box
        what = f"region is of {len(box.names)} inputs, {', '.join(box.names[:8])}"
        spread = self._spread(box.bounds, what)
        if not self._several:
            return box
        if box.groups:
            raise UsageError("`one_hot` is of numbers of a single input")
        return replace(box, bounds=spread, kinds=self._spread(box.kinds, what) if box.kinds else ())

    def limits(self, limits: LimitsSpec) -> LimitsSpec:
        """The limits of numbers."""
        if not self._several or len(limits.bounds) == 1:
            return limits
        if limits.groups:
            raise UsageError("`one_hot` is of numbers of a single input")
        what = f"region is of {len(limits.bounds)} inputs"
        kinds = self._spread(limits.kinds, what) if limits.kinds else ()
        return replace(limits, bounds=self._spread(limits.bounds, what), kinds=kinds)


def _unmasked(ball: BallSpec, shape: InputShape) -> BallSpec:
    """The ball with the numbers that its mask's file marks.

    Raises:
        UsageError, DatasetError: there is no such file, or no mask of the inputs' shape in it.
    """
    if ball.places is None or not ball.places.mask:
        return ball
    mask = read_mask(ball.places.mask, ball.places.folder or None)
    if mask.shape == shape[:-1] and len(shape) == 3:
        mask = np.broadcast_to(mask[..., None], shape)
    if not fits(mask.shape, shape):
        raise UsageError(f"the mask {ball.places.mask} has shape {mask.shape}, and inputs {shape}")
    marked = tuple(np.flatnonzero(mask.reshape(-1) & replace(ball.places, mask="").on(shape).reshape(-1)).tolist())
    if not marked:
        raise UsageError(f"the mask {ball.places.mask} marks nothing that may change")
    return replace(ball, places=Movable(numbers=marked))


def _box(
    bounds: tuple[Sequence[Fraction], Sequence[Fraction]], shape: InputShape, dtype: Any, count: int, rounded: bool
) -> Regions:
    def ends(rounding: Any) -> list[np.ndarray]:
        exact = [np.broadcast_to(laid_out([rounding(v) for v in side], shape), shape) for side in bounds]
        return [np.broadcast_to(side, (count, *shape)) for side in exact]

    (low, inner_high), (inner_low, high) = ends(float_down), ends(float_up)
    if rounded:  # rounding keeps order, so what numbers of the box become is all that lies between what its ends become
        near_low, near_high = (side.astype(dtype) for side in ends(float))
        return Regions(Box(*enclosing(low, high, dtype)), Box(near_low, near_high))
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
    arrived = [arrival(template.transform, space, v, dtype) for v in template.region.within]
    low = np.minimum(laid_out([float_down(v) for v in ends[0]], shape), laid_out(arrived[0], shape))
    high = np.maximum(laid_out([float_up(v) for v in ends[1]], shape), laid_out(arrived[1], shape))
    return low, high


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
