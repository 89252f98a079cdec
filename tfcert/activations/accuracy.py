"""How far a function as it is computed may be from the real one: by how many ulps, and of what.

Every number here is stated, not proved: of each function that is not exact it is at least twice the largest error that
``benchmarks/ulps`` has measured of TensorFlow's kernels (eager, as a graph, by XLA, fused with a product), and 2 at
least. Float64 kernels are taken to err by no more of *their* ulps than the function's ``double`` or ``ulps``, whichever
is greater.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

DOUBLE = 10.0
"""Ulps of float64 kernels, at least: twice what was seen of them, but for ``log1p``."""


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
        double: ulps of the same function in float64, where they are more.
        sharp: whether a number that is flushed to zero may change the value by more than its slope says.
        stays: numbers between which all computed values lie, whatever is flushed.
    """

    ulps: float
    base: float = 0.0
    reach: float = 0.0
    steep: float | Callable[[], tf.Tensor] = 1.0
    double: float = DOUBLE
    sharp: bool = False
    stays: tuple[float, float] = (-math.inf, math.inf)

    def within(self, unit: float) -> float:
        """The error in ulps of a program with this unit roundoff."""
        return self.ulps if unit > 2.0**-53 or not self.ulps else max(self.ulps, self.double)


EXACT = Accuracy(0.0)
ABOVE_ZERO = (0.0, math.inf)

ACCURACIES = {
    "arcsinh": Accuracy(6.0),
    "arctan": Accuracy(6.0),
    "cos": Accuracy(2.0, base=1.0),
    "cosh": Accuracy(64.0),
    "erf": Accuracy(8.0),
    "exp": Accuracy(4.0, stays=ABOVE_ZERO),
    "expm1": Accuracy(8.0),
    "gelu": Accuracy(8.0, reach=1.0),
    "hard_silu": Accuracy(2.0, reach=1.0),
    "log": Accuracy(4.0),
    "log1p": Accuracy(6.0, double=512.0),  # XLA's, near -0.41
    "log_sigmoid": Accuracy(10.0),
    "mish": Accuracy(4.0, reach=1.0),
    "param_ramp": Accuracy(3.0),
    "reciprocal": Accuracy(4.0),
    "rsqrt": Accuracy(4.0),
    "selu": Accuracy(4.0, base=1.0, steep=2.0),
    "sigmoid": Accuracy(10.0),
    "silu": Accuracy(4.0, reach=1.0),
    "sin": Accuracy(2.0, base=1.0),
    "sinh": Accuracy(64.0),
    "softplus": Accuracy(10.0),
    "softsign": Accuracy(3.0),
    "sparse_plus": Accuracy(4.0),
    "sqrt": Accuracy(2.0, stays=ABOVE_ZERO),
    "square": Accuracy(2.0, stays=ABOVE_ZERO),
    "tanh": Accuracy(8.0),
}
"""Those of the functions that tfcert ships, by name; families with parameters state their own."""
