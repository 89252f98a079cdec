"""How far a function as it is computed may be from the real one: by how many ulps, and of what.

Every number here is stated, not proved: of each function that is not exact it is at least twice the largest error that
``benchmarks/ulps`` has measured of TensorFlow's kernels (eager, as a graph, by XLA), and 2 at least. Float64 kernels
are taken to err by no more of *their* ulps than :data:`DOUBLE` or the function's own number, whichever is greater.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

DOUBLE = 8.0
"""Ulps of float64 kernels, at least."""


@dataclass(frozen=True)
class Accuracy:
    """``|f^(x) - f(x)| <= ulps * 2 u * (|f(x)| + base + reach |x|)`` of the computed ``f^`` with unit roundoff ``u``.

    It is said of ``|x| <= 2**60`` (any ``x`` where ``ulps`` is 0) and ``|f(x)| <= 2**120``. Beside that, numbers below
    the smallest normal one may be flushed to zero: arguments, results, and what is computed on the way.

    Attributes:
        ulps: of the size in brackets, in units in its last place (at most twice as fine); 0 of an exact function.
        base: a size below which errors do not fall: what terms that cancel have near a zero of the function.
        reach: the same, relative to the argument: ``x (1 + erf(x)) / 2`` errs by ulps of ``x`` on the left.
        steep: a bound of the function's slopes next to zero, where arguments may be flushed; or what reads it.
        sharp: whether a number that is flushed to zero may change the value by more than its slope says.
    """

    ulps: float
    base: float = 0.0
    reach: float = 0.0
    steep: float | Callable[[], tf.Tensor] = 1.0
    sharp: bool = False


EXACT = Accuracy(0.0)

ACCURACIES = {
    "arcsinh": Accuracy(8.0),
    "arctan": Accuracy(8.0),
    "cos": Accuracy(8.0, base=1.0),
    "cosh": Accuracy(8.0),
    "erf": Accuracy(8.0),
    "exp": Accuracy(8.0),
    "expm1": Accuracy(8.0),
    "gelu": Accuracy(8.0, reach=1.0),
    "hard_silu": Accuracy(2.0, reach=1.0),
    "log": Accuracy(8.0),
    "log1p": Accuracy(8.0),
    "log_sigmoid": Accuracy(8.0),
    "mish": Accuracy(8.0, reach=1.0),
    "param_ramp": Accuracy(4.0),
    "reciprocal": Accuracy(2.0),
    "rsqrt": Accuracy(2.0),
    "selu": Accuracy(8.0, base=1.0, steep=2.0),
    "sigmoid": Accuracy(8.0),
    "silu": Accuracy(8.0, reach=1.0),
    "sin": Accuracy(8.0, base=1.0),
    "sinh": Accuracy(8.0),
    "softplus": Accuracy(8.0),
    "softsign": Accuracy(2.0),
    "sparse_plus": Accuracy(8.0),
    "sqrt": Accuracy(2.0),
    "square": Accuracy(2.0),
    "tanh": Accuracy(8.0),
}
"""Those of the functions that tfcert ships, by name; families with parameters state their own."""
