"""``tf.function`` as this package uses it, and what is kept with the network or model that it was made for."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import tensorflow as tf

T = TypeVar("T")
CALLS = 8
"""So many calls of a function are run op by op before it is traced. Tracing costs as much as 9 such calls on the
4-layer CNN, as 18 on an MLP, as 6 on a residual network: an operation takes 0.3 to 0.5 ms to be built, optimised and
placed in a graph, and a pass three times as long without one as within it."""


def kept(owner: Any, key: Hashable, make: Callable[[], T]) -> T:
    """The result of ``make`` when it was first asked for under this key, kept as long as the owner lives.

    It must not hold the owner itself, which would then live forever: a function reaches it through a weak reference.
    """
    known = _KEPT.setdefault(owner, {})
    if key not in known:
        known[key] = make()
    found: T = known[key]
    return found


_KEPT: weakref.WeakKeyDictionary[Any, dict[Hashable, Any]] = weakref.WeakKeyDictionary()


def traced(function: Callable[..., Any], **options: Any) -> Any:
    """``tf.function`` of a function that is made anew for each network or question.

    TensorFlow counts the traces of all functions made of the same lines together, and warns of retracing where each was
    traced once. A partial has no lines, so each is counted by itself.
    """
    return tf.function(functools.partial(function), autograph=False, **options)


class Warming:
    """A function of tensors that runs op by op until that has cost what its tracing costs, and traced from then on.

    So what is asked a few times never waits for a graph, and what is asked often waits at most twice as long.

    Attributes:
        function: the function; gives the same, up to rounding, in eager mode and in a graph.
        calls: of it so far.
        is_traced: whether it goes through a graph from now on.
    """

    def __init__(self, function: Callable[..., Any], **options: Any):
        self.function, self.calls, self.is_traced = function, 0, False
        self._traced = traced(function, **options)

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1 + expected()
        self.is_traced = self.is_traced or pays(self.calls)
        return (self._traced if self.is_traced else self.function)(*arguments)


_EXPECTED: ContextVar[int] = ContextVar("expected", default=0)
_TIMED: ContextVar[bool] = ContextVar("timed", default=False)


@contextlib.contextmanager
def expecting(calls: int) -> Iterator[None]:
    """Within this context each call stands for so many to come: what they will pay for is traced now."""
    token = _EXPECTED.set(calls)
    try:
        yield
    finally:
        _EXPECTED.reset(token)


@contextlib.contextmanager
def timed() -> Iterator[None]:
    """Within this context nothing that can run op by op is traced: a limit of time must not be spent on it."""
    token = _TIMED.set(True)
    try:
        yield
    finally:
        _TIMED.reset(token)


def pays(calls: int) -> bool:
    """Tells whether a function is to be traced that was called so often, here and now."""
    return _STEADY[0] or (calls > CALLS and not is_timed())


def be_steady() -> None:
    """Makes what this process computes a function of what it is asked, whatever it was asked before, to the last digit.

    Otherwise the first calls of a function run op by op and later ones in a graph, and batches are padded to sizes that
    were met before: both change the order of sums. The price is that everything is traced when it is first needed.
    """
    _STEADY[0] = True


def is_steady() -> bool:
    """Tells whether results must not depend on what was asked before."""
    return _STEADY[0]


_STEADY = [False]


def is_timed() -> bool:
    """Tells whether a limit of time is running out."""
    return _TIMED.get()


def expected() -> int:
    """The number of calls to come that each call stands for."""
    return _EXPECTED.get()
