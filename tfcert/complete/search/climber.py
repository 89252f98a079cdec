"""Climbing on batches of pieces: one traced function for a network and a kind of set, and how long its steps take."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfcert.network.graph import Network
from tfcert.options import BoundOptions
from tfcert.propagation.engine import full_precision, use_jit
from tfcert.propagation.splitting import AskedRows, Climb, Climbed, Pieces, climb
from tfcert.sets.region import Region
from tfcert.tracing import traced

SIZES = (2, 16, 64, 256)
"""How many pieces are bounded at a time: a batch is filled up to one of these."""
STEPS, _RATE = 30, 0.02
TELLING = 5
"""Steps of a pass that tell how long one takes; fewer tell nothing beside the start of the pass."""
_PASS = 0.1
"""The share of the time that is left that a pass may take, where fewer pieces would make it shorter."""


class Climber:
    """Climbs on batches of pieces by one traced function for a network and kind of region.

    It keeps what a step takes in seconds, by the number of pieces, so that a pass fits into the time that is left.
    """

    def __init__(self, network: Network, region: Region, refresh: bool):
        norm, clipped, _ = region.kind
        owner = weakref.ref(network)

        def run(center, lower, upper, eps, row, pieces, steps):  # type: ignore[no-untyped-def]
            net = owner()
            assert net is not None
            sets = Region(norm, clipped, center, lower, upper, eps)
            return climb(net, sets, row, pieces, Climb(steps, _RATE, refresh))

        self._function = run
        self._run: Callable[..., Climbed] | None = None
        self._pace: dict[int, float] = {}

    def __call__(self, sets: Sequence[tf.Tensor], row: AskedRows, pieces: Pieces, steps: int) -> Climbed:
        """Climbs for at most so many steps; the arguments as :func:`climb` takes them, one set and row for each."""
        arguments = [*sets, row, pieces, tf.constant(steps)]
        fresh = self._run is None
        if self._run is None:
            signature = tf.nest.map_structure(lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), arguments[:-1])
            signature.append(tf.TensorSpec([], tf.int32))
            self._run = traced(self._function, input_signature=signature, jit_compile=use_jit(BoundOptions()))
        began = time.monotonic()
        with full_precision():
            climbed = self._run(*arguments)
        taken, size = int(climbed.steps), int(sets[0].shape[0])
        if not fresh and (taken >= TELLING or size not in self._pace):  # what is fresh was traced in that time
            self._pace[size] = (time.monotonic() - began) / max(1, taken)
        return climbed

    def pace(self, size: int) -> float:
        """About how many seconds a step with so many pieces takes; 0 where nothing is known.

        A number of pieces that was never tried is taken to cost twice as much as the next smaller one: too little, so
        that it is tried.
        """
        smaller = [s for s in self._pace if s <= size]
        if not smaller:
            return min(self._pace.values(), default=0.0)
        return self._pace[max(smaller)] * (1.0 if size in self._pace else 2.0)

    def size(self, most: int, left: float) -> int:
        """Into a batch of how many pieces a share of the time that is left goes, at most ``most``."""
        fits = (s for s in SIZES if s <= most and self.pace(s) * STEPS <= _PASS * left)
        return max(fits, default=SIZES[0])

    def steps(self, size: int, wanted: int, left: float) -> int:
        """The number of the ``wanted`` steps that go into half of the time that is left, one at least."""
        pace, most = self.pace(size), 0.5 * max(0.0, left)
        return wanted if wanted * pace <= most else max(1, int(most / pace))


_CLIMBERS: weakref.WeakKeyDictionary[Network, dict[Any, Climber]] = weakref.WeakKeyDictionary()


def climber(network: Network, region: Region, what: tuple[bool, int]) -> Climber:
    """The climber of a network, a kind of region, whether bounds are computed anew, and a number of rows."""
    known, key = _CLIMBERS.setdefault(network, {}), (*what, *region.kind)
    if key not in known:
        known[key] = Climber(network, region, what[0])
    return known[key]
