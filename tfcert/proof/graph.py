"""What a model computes, as the checker sees it: places in an order in which each reads earlier ones."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import ProofError
from .functions import Function
from .maps import Map, Windows

LARGEST_PLACE = 1 << 24
"""Numbers that one place may have."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Place:
    """Numbers that the model computes: the name of their layer, the places that they are computed from, their shape."""

    name: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class Entry(Place):
    """The model's input."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Affine(Place):
    """``W x + b``.

    Attributes:
        map: W.
        bias: b, broadcast against the shape; 0 where there is none.
        bias_size: the sum of the sizes of the numbers that the program computes the bias from, at least ``|b|``.
        extra: how many roundings a term of the program's sum may take beside those of products and additions.
        follows: whether the program may have drawn this scale into the weights of the place before it.
    """

    map: Map
    bias: np.ndarray
    bias_size: np.ndarray
    extra: int = 4
    follows: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Bent(Place):
    """A function of each number."""

    function: Function


@dataclass(frozen=True, eq=False, kw_only=True)
class Largest(Place):
    """The largest number of each window; what lies outside the image never is."""

    windows: Windows


@dataclass(frozen=True, eq=False, kw_only=True)
class Total(Place):
    """The sum of several places of one shape."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Beside(Place):
    """Several places side by side along the last axis."""


Nonlinear = Bent | Largest


@dataclass(frozen=True, eq=False)
class Graph:
    """The places of a model; the first is its input, the last its output, before a softmax that ends it.

    Attributes:
        unit: unit roundoff of the type that the model computes in.
        tiny: the smallest normal number of that type.
        softmax: whether the model's output is the softmax of the last place.
        digest: SHA-256 of all that was read: layers, options that matter, weights.
    """

    places: tuple[Place, ...]
    unit: float
    tiny: float
    softmax: bool
    digest: str


@dataclass
class Building:
    """A graph in the making."""

    places: list[Place] = field(default_factory=list)
    _hash: Any = field(default_factory=hashlib.sha256)

    def add(self, place: Place, *says: Any) -> int:
        """Takes up a place; what it ``says`` goes into the digest, arrays by their numbers.

        Raises:
            ProofError: it is empty, or too large.
        """
        if not all(n > 0 for n in place.shape) or place.count > LARGEST_PLACE:
            raise ProofError(f"layer {place.name!r} has shape {place.shape}, which is empty or too large")
        for part in (type(place).__name__, place.inputs, place.shape, *says):
            plain = isinstance(part, np.ndarray)
            self._hash.update(f"{part.dtype.str}{part.shape};".encode() if plain else f"{part!r};".encode())
            if plain:
                self._hash.update(np.ascontiguousarray(part).tobytes())
        self.places.append(place)
        return len(self.places) - 1

    def finished(self, output: int, dtype: str, softmax: bool) -> Graph:
        """The graph up to its output."""
        kind = np.dtype(dtype)
        self._hash.update(f"{output} {dtype} {softmax}".encode())
        limits = np.finfo(kind)
        return Graph(
            tuple(self.places[: output + 1]), float(limits.eps) / 2, float(limits.tiny), softmax, self._hash.hexdigest()
        )
