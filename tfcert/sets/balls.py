"""Perturbations: the set of inputs that a claim quantifies over, one set a sample.

``LpBall`` and ``Box`` are what users write: NumPy data, validated, with exact membership. Bound propagation reads them
as tensors, see :mod:`tfcert.sets.region`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.catalog import NORMS
from tfcert.given import inputs
from tfcert.parts import NamedParts, parts_of
from tfcert.sets.rounding import enclosed, enclosing, float_down, float_up, inward, outward
from tfcert.sets.uneven import Scale, divided, onto_ball, read_clip, read_free, read_radii, read_scale
from tfcert.showing import counted, spread

ORDER = {"linf": np.inf, "l2": 2, "l1": 1}
"""NumPy's order of each norm."""
DUAL_ORDER = {"linf": 1, "l2": 2, "l1": np.inf}
"""NumPy's order of the norm that measures gradients where inputs are measured in the given norm."""
Clip = tuple[Any, Any]


class Perturbation(ABC):
    """A set of inputs around each sample of a batch. Arrays are ``[batch, *input]`` NumPy.

    Inputs of a model with several are vectors; ``parts`` says which numbers are which, where that is known.
    """

    lower: np.ndarray
    upper: np.ndarray
    norm: str
    parts: NamedParts | None = None

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.lower.shape[1:]

    def _shape_text(self) -> str:
        return f"{counted(len(self), 'sample')} of shape {self.input_shape} ({self.lower.dtype})"

    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """The smallest box (in the input's dtype, rounded outward) that encloses the set."""
        return self.lower, self.upper

    @property
    @abstractmethod
    def center(self) -> np.ndarray:
        """A point of the set: where attacks start."""

    @abstractmethod
    def astype(self, dtype: Any) -> Perturbation:
        """The same set with its data in another floating-point type (a ball's centre is rounded to it)."""

    @abstractmethod
    def take(self, index: Any) -> Perturbation:
        """The sets of some samples."""

    @abstractmethod
    def arranged(self, places: np.ndarray) -> Perturbation:
        """The sets of vectors with their numbers in another order: number i is what was number ``places[i]``."""

    @classmethod
    @abstractmethod
    def joined(cls, sets: Sequence[Any]) -> Any:
        """Sets of this class of one kind, one after the other."""

    def lengths(self, points: np.ndarray) -> np.ndarray:
        """The distance of each point from its set's centre in the set's norm: ``[batch]``, up to rounding."""
        step = points.astype(np.float64) - self.center.astype(np.float64)
        return np.asarray(np.linalg.norm(step.reshape(len(step), -1), ORDER[self.norm], axis=1))

    def moving(self) -> np.ndarray:
        """Which numbers of each set's inputs are not fixed: bool ``[batch, *input]``."""
        return np.asarray(self.lower < self.upper)

    @abstractmethod
    def contains(self, z: np.ndarray) -> np.ndarray:
        """Tells whether each ``z[i]`` lies in the set, exactly (no tolerance): bool ``[batch]``."""

    @abstractmethod
    def project(self, z: np.ndarray) -> np.ndarray:
        """A point of the set near each ``z[i]``, for which :meth:`contains` holds."""

    def _one_each(self, z: Any) -> np.ndarray:
        z = np.asarray(z)
        if z.shape != self.lower.shape:
            raise ValueError(f"expected one point for each set, of shape {self.lower.shape}, got {z.shape}")
        return z

    def sample(self, count: int, seed: int = 0) -> np.ndarray:
        """``count`` random members of each set: ``[count, batch, *input]``."""
        rng = np.random.default_rng(seed)
        low, high = self.lower.astype(np.float64), self.upper.astype(np.float64)
        points = low + (high - low) * rng.random((count, *low.shape))
        return np.stack([self.project(p.astype(self.lower.dtype)) for p in points])


class Box(Perturbation):
    """All inputs between ``lower`` and ``upper``, elementwise.

    Args:
        lower, upper: ``[batch, *input]``; for a model with several inputs dictionaries or lists of such.

    Raises:
        ValueError: shapes differ, a bound is NaN or infinite, or the box is empty.
    """

    norm = "linf"

    def __init__(self, lower: Any, upper: Any):
        self.parts = parts_of(lower)
        self.lower, self.upper = _floats(lower, self.parts), _floats(upper, self.parts)
        if self.lower.shape != self.upper.shape:
            raise ValueError(f"lower has shape {self.lower.shape}, upper {self.upper.shape}")
        _require_finite("box", self.lower, self.upper)
        if (self.lower > self.upper).any():
            sample = int(np.argwhere(self.lower > self.upper)[0][0])
            raise ValueError(f"the box of sample {sample} is empty: a lower bound exceeds its upper bound")

    def __repr__(self) -> str:
        wide = spread(self.upper.astype(np.float64) - self.lower)
        return f"Box of {self._shape_text()}: lower {spread(self.lower)}; upper {spread(self.upper)}; width {wide}"

    @property
    def center(self) -> np.ndarray:
        return self.project((self.lower + (self.upper - self.lower) / 2).astype(self.lower.dtype))

    def astype(self, dtype: Any) -> Box:
        return Box(*enclosing(self.lower, self.upper, dtype))

    def take(self, index: Any) -> Box:
        part, index = copy.copy(self), np.arange(len(self))[index]
        part.lower, part.upper = self.lower[index], self.upper[index]
        return part

    def arranged(self, places: np.ndarray) -> Box:
        return Box(self.lower[:, places], self.upper[:, places])

    @classmethod
    def joined(cls, sets: Sequence[Box]) -> Box:
        return Box(np.concatenate([one.lower for one in sets]), np.concatenate([one.upper for one in sets]))

    def contains(self, z: np.ndarray) -> np.ndarray:
        z = self._one_each(z)
        inside = (z >= self.lower) & (z <= self.upper)
        return np.asarray(inside.reshape(len(z), -1).all(axis=1))

    def project(self, z: np.ndarray) -> np.ndarray:
        z = self._one_each(z)
        return np.clip(z, *enclosed(self.lower, self.upper, z.dtype))


class LpBall(Perturbation):
    """All inputs within ``eps`` of ``x`` in the L-inf, L2 or L1 norm, and within ``clip`` if given.

    Radii may differ between the numbers of an input: then the set is ``||(z - x) / eps||_p <= 1``, divided number by
    number (a box for L-inf, an ellipsoid for L2), and a number whose radius is 0 stays as it is. For a model with
    several inputs the norm is taken over all of them together.

    Args:
        x: centres ``[batch, *input]``; for a model with several inputs a dictionary of such by their names, or a list.
        eps: radius, in the units of ``x``; one number, one a sample ``[batch]`` or ``[batch, 1]``, one a number of the
            input (an array of the shape of one input, or of ``x``), or a dictionary of numbers and arrays by the names
            of inputs, all of them. A ``Fraction``, and a text such as ``"8/255"``, is taken exactly.
        norm: ``linf``, ``l2`` or ``l1``.
        clip: ``(low, high)``, the valid range of an input; numbers, or arrays that broadcast against ``x``; or a
            dictionary of such by the names of inputs, any value where it names none.
        free: what may change, and nothing else: an array of truth values of the shape of one input or of ``x``, or
            names of inputs (a list or a dictionary).
        scale: numbers and arrays as ``eps`` has them by number of the input, with which ``eps`` is multiplied.
        parts: where ``x`` holds vectors of several inputs, which numbers are which.

    Raises:
        ValueError: an unknown norm, a negative, NaN or infinite eps or centre, a number of radii that is not the number
            of samples, an empty ``clip``, or a centre outside it.
    """

    scale: Scale | None

    def __init__(
        self,
        x: Any,
        eps: Any,
        norm: str = "linf",
        clip: Any = None,
        *,
        free: Any = None,
        scale: Any = None,
        parts: NamedParts | None = None,
    ):
        NORMS.find(norm)
        self.parts = parts_of(x) if parts is None else parts
        self.x, self.norm = _floats(x, self.parts), norm
        # float64, so that comparisons with float32 points are made in float64, where they are exact.
        self.clip = None if clip is None else read_clip(clip, self.parts)
        self._require_fitting_clip()
        self._read_radii(eps)
        if scale is not None and self.scale is not None:
            raise ValueError("eps differs between the numbers of an input already: multiply it, and leave scale out")
        if scale is not None:
            shares = scale if isinstance(scale, Scale) else read_scale(scale, self.x.shape, self.parts)
            self.scale = Scale(*(np.broadcast_to(end, self.x.shape) for end in shares))
        if free is not None:
            ones = np.ones(self.x.shape)
            self.scale = (self.scale or Scale(ones, ones)).within(read_free(free, self.x.shape, self.parts))
        _require_finite("centre", self.x)
        outside = np.zeros(0) if self.clip is None else np.argwhere((self.x < self.clip[0]) | (self.x > self.clip[1]))
        if outside.size:
            value, place = float(self.x[tuple(outside[0])]), tuple(int(i) for i in outside[0][1:])
            raise ValueError(
                f"the centre of sample {outside[0][0]} lies outside the clip range: {value!r} at {place} (np.clip the "
                "samples first if that is rounding)"
            )
        self.lower, self.upper = self._hull()

    def _read_radii(self, eps: Any) -> None:
        self.exact_eps, self.scale = read_radii(eps, self.x.shape, self.parts)
        self.eps = np.array([float_up(e) for e in self.exact_eps], np.float64)
        if not np.isfinite(self.eps).all():
            raise ValueError("eps must be finite and not negative")

    def resized(self, eps: Any) -> LpBall:
        """The balls of other radii, one or one a sample, around the same centres, which are not checked again.

        What the radius is multiplied with, number by number, stays.
        """
        other = copy.copy(self)
        other._read_radii(eps)
        assert other.scale is None, "radii of a ball that is resized are one a sample"
        other.scale = self.scale
        other.lower, other.upper = other._hull()
        return other

    def _require_fitting_clip(self) -> None:
        for end in self.clip or ():
            if end.ndim > self.x.ndim or any(
                e not in (1, n) for e, n in zip(end.shape[::-1], self.x.shape[::-1], strict=False)
            ):
                raise ValueError(
                    f"an end of the clip range has shape {end.shape}, which does not broadcast against samples of "
                    f"shape {self.x.shape}"
                )

    def __repr__(self) -> str:
        clip = "" if self.clip is None else f", within [{spread(self.clip[0])}, {spread(self.clip[1])}]"
        scaled = "" if self.scale is None else f" times {spread(self.scale.high)}"
        return f"LpBall of {self._shape_text()}: {self.norm}, eps {spread(self.eps)}{scaled}{clip}, x {spread(self.x)}"

    @property
    def reach(self) -> np.ndarray:
        """How far each number may change, rounded up: ``[batch, *input]``, or ``[batch, 1 ...]`` where all alike."""
        eps = self.eps.reshape(-1, *[1] * (self.x.ndim - 1))
        if self.scale is None:
            return eps
        product = eps * self.scale.high
        exact = (eps == 1) | (product == 0) & ((eps == 0) | (self.scale.high == 0))
        return np.where(exact, product, np.nextafter(product, np.inf))

    def moving(self) -> np.ndarray:
        """Which numbers may change at some radius: bool ``[batch, *input]``."""
        found = np.ones(self.x.shape, bool) if self.scale is None else self.scale.high > 0
        return found if self.clip is None else found & np.broadcast_to(self.clip[0] < self.clip[1], found.shape)

    def lengths(self, points: np.ndarray) -> np.ndarray:
        """The distance of each point from its centre, as a multiple of the scale: ``[batch]``, up to rounding."""
        step = points.astype(np.float64) - self.x.astype(np.float64)
        if self.scale is not None:
            step = divided(step, self.scale.low)
        return np.asarray(np.linalg.norm(step.reshape(len(step), -1), ORDER[self.norm], axis=1))

    def _hull(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = outward(self.x, self.reach)
        if self.clip is not None:
            low, high = np.maximum(low, self.clip[0]), np.minimum(high, self.clip[1])
        return enclosing(low, high, self.x.dtype)

    @property
    def center(self) -> np.ndarray:
        return self.x

    def astype(self, dtype: Any) -> LpBall:
        if self.x.dtype == np.dtype(dtype):
            return self
        x = self.x.astype(dtype)
        if self.clip is not None:
            x = np.clip(x, *enclosed(*self.clip, dtype))
        return LpBall(x, self.exact_eps, self.norm, self.clip, scale=self.scale, parts=self.parts)

    def take(self, index: Any) -> LpBall:
        # What was found right for all samples is right for some: nothing is read or checked again.
        part, index = copy.copy(self), np.arange(len(self))[index]
        if self.clip is not None:
            low, high = (np.broadcast_to(end, self.x.shape)[index] for end in self.clip)
            part.clip = low, high
        part.x, part.lower, part.upper = self.x[index], self.lower[index], self.upper[index]
        part.eps, part.exact_eps = self.eps[index], [self.exact_eps[i] for i in index]
        part.scale = None if self.scale is None else self.scale.take(index)
        return part

    def arranged(self, places: np.ndarray) -> LpBall:
        clip = self.clip and tuple(np.broadcast_to(end, self.x.shape)[:, places] for end in self.clip)
        scale = None if self.scale is None else Scale(self.scale.low[:, places], self.scale.high[:, places])
        return LpBall(self.x[:, places], self.exact_eps, self.norm, clip, scale=scale)

    @classmethod
    def joined(cls, sets: Sequence[LpBall]) -> LpBall:
        if len({(one.norm, one.clip is None, one.scale is None) for one in sets}) > 1:
            raise ValueError("balls of several kinds are no batch")
        first, clip, scale = sets[0], None, None
        if first.clip is not None:
            low, high = zip(*([np.broadcast_to(e, one.x.shape) for e in one.clip or ()] for one in sets), strict=True)
            clip = np.concatenate(low), np.concatenate(high)
        if first.scale is not None:
            low, high = zip(*(one.scale for one in sets if one.scale is not None), strict=True)
            scale = Scale(np.concatenate(low), np.concatenate(high))
        eps = [e for one in sets for e in one.exact_eps]
        return LpBall(np.concatenate([one.x for one in sets]), eps, first.norm, clip, scale=scale, parts=first.parts)

    def contains(self, z: np.ndarray) -> np.ndarray:
        z = self._one_each(z)
        inside = np.isfinite(z)
        if self.clip is not None:
            inside &= (z >= self.clip[0]) & (z <= self.clip[1])
        inside = inside.reshape(len(z), -1).all(axis=1)
        return np.array([ok and self._within(i, z[i]) for i, ok in enumerate(inside)], bool)

    def _within(self, sample: int, z: np.ndarray) -> bool:
        """Tells whether the distance is at most eps, by floats where that is clear and by fractions where it is not."""
        eps, difference = self.exact_eps[sample], (z.astype(np.float64) - self.x[sample].astype(np.float64)).ravel()
        scale = None if self.scale is None else self.scale.low[sample].ravel()
        if scale is not None:
            difference = divided(difference, scale)
            if np.isinf(difference).any():
                return False
        distance = _norm(difference, self.norm)
        doubt = 4 * (difference.size + 4) * np.finfo(np.float64).eps * distance
        if distance + doubt < self.eps[sample] * (1 - 1e-15):
            return True
        if distance - doubt > self.eps[sample]:
            return False
        exact = [abs(Fraction(float(a)) - Fraction(float(b))) for a, b in zip(z.flat, self.x[sample].flat, strict=True)]
        if scale is not None:
            exact = [e / Fraction(float(s)) for e, s in zip(exact, scale, strict=True) if s > 0]
        match self.norm:
            case "linf":
                return max(exact, default=Fraction(0)) <= eps
            case "l1":
                return sum(exact) <= eps
            case _:
                return sum(e * e for e in exact) <= eps * eps

    def project(self, z: np.ndarray) -> np.ndarray:
        z = self._one_each(z).astype(self.x.dtype)
        if self.norm == "linf":
            return self._project_linf(z)
        wide, eps = self.x.astype(np.float64).reshape(len(z), -1), self.eps
        step = z.astype(np.float64).reshape(len(z), -1) - wide
        if self.clip is not None:  # the clipped point of a convex range that holds the centre stays on its side
            step = self._clipped(wide + step) - wide
        if self.scale is None:
            step = onto_ball(step, eps, self.norm)
        else:
            scale = self.scale.low.reshape(len(z), -1)
            step = onto_ball(divided(np.where(scale > 0, step, 0.0), scale), eps, self.norm) * scale
        shrink = np.ones(len(z))
        while True:
            point = (wide + step * shrink[:, None]).astype(self.x.dtype)
            if self.clip is not None:
                point = self._clipped(point)
            point = np.where(shrink[:, None] > 0, point, self.x.reshape(len(z), -1)).reshape(z.shape)
            outside = ~self.contains(point)
            if not outside.any():
                return point
            # Rounding to the dtype may leave the ball: shrink a little, more each time, down to the centre itself.
            gap = np.maximum(1 - shrink, 1e-7) * 4
            shrink = np.where(outside, np.where(gap < 1, 1 - gap, 0.0), shrink)

    def _clipped(self, points: np.ndarray) -> np.ndarray:
        assert self.clip is not None
        low, high = (np.broadcast_to(np.asarray(end), self.x.shape).reshape(len(points), -1) for end in self.clip)
        return np.clip(points, *enclosed(low, high, points.dtype))

    def _project_linf(self, z: np.ndarray) -> np.ndarray:
        eps = np.array([float_down(e) for e in self.exact_eps]).reshape(-1, *[1] * (self.x.ndim - 1))
        if self.scale is not None:
            product = eps * self.scale.low
            eps = np.where(eps == 1, product, np.nextafter(product, 0.0))
        low, high = enclosed(*inward(self.x, eps), self.x.dtype)
        low, high = np.minimum(low, self.x), np.maximum(high, self.x)
        if self.clip is not None:
            least, most = enclosed(*self.clip, self.x.dtype)
            low, high = np.maximum(low, least), np.minimum(high, most)
        return np.clip(z, low, high).astype(self.x.dtype)


def _norm(difference: np.ndarray, norm: str) -> float:
    return float(np.linalg.norm(difference, ORDER[norm])) if difference.size else 0.0


def _floats(x: Any, parts: NamedParts | None = None) -> np.ndarray:
    # A copy: the caller may use its buffer again.
    array = np.array(inputs(x)) if parts is None else parts.join(x, inputs)
    if array.dtype not in (np.float32, np.float64):
        small = array.dtype.kind in "iub" and array.dtype.itemsize <= 2
        array = array.astype(np.float32 if small else np.float64)
    if array.ndim < 2:
        raise ValueError(f"samples come as [samples, *input], not in shape {array.shape}; pass a single one as x[None]")
    return array


def _require_finite(what: str, *arrays: np.ndarray) -> None:
    for array in arrays:
        if not np.isfinite(array).all():
            sample = int(np.argwhere(~np.isfinite(array))[0][0])
            raise ValueError(f"the {what} of sample {sample} has a NaN or infinite entry")
