"""Lines of given slopes, and images: of the function itself, or of the function as it is computed.

With a :class:`~tfcert.roundoff.Rounding` what is returned holds for every float ``x`` in ``[l, u]`` and the value
``f^(x)`` that the deployed program computes there, and it holds although it was computed in floating point itself:

    ``lower_slope * x + lower_intercept <= f^(x) <= upper_slope * x + upper_intercept``  in real arithmetic.

Without, rounding is left out of account. What moves intercepts out, with ``m = max(|l|, |u|)``, slopes ``s`` and
intercepts ``t``, ``u`` the unit roundoffs, and ``k``, ``base``, ``reach`` of the function's
:class:`~tfcert.activations.accuracy.Accuracy`:

* *The function's kernel.* Both lines hold of ``f``, so ``|f(x)| <= Z`` with the larger ``Z = |s| m + |t|`` of the two.
  The deployed value is off by at most ``k 2 u_deployed (Z + base + reach m)``, and so is each value that the lines were
  computed from, with ``u_own``. A kernel that is not monotone where the function is, is off by no more than that.
* *The gap* ``f(p) - s p`` of a point. The product errs by ``u_own |s| m``, the difference by ``u_own (Z + |s| m)``, and
  moving the intercept out by ``u_own`` of the result: ``6 u_own Z`` together, with room. Of an exact
  function nothing of this rounds with slope 0, and of the ReLU and the absolute value none with slope 1.
* *Points that were searched for.* Where ``g(x) = f(x) - s x`` is convex, ``g(x) >= g(p) + g'(p) (x - p)`` for every
  ``p`` of the piece, so no point has to be right: each ``p`` near which the least value is looked for is charged
  ``max(0, -g'(p)) (u - p) + max(0, g'(p)) (p - l)``, which is zero at a minimum and at the end of an interval towards
  which ``g`` falls; derivatives are taken to err by :data:`_SLOPE_ULPS` ulps of ``|f'| + |s| + reach``. The best of
  the charged points bounds the piece. In pieces that bend the other way, and in straight ones, the least value is at an
  end: an end of the interval, a declared place, or a point of a neighbouring piece that bends this way.
  (An inflection is declared in float64 and compared in the type of the interval: over half an ulp of the argument the
  function bends the wrong way by third-order terms, which the ulps of its kernel contain many times.)
* *Flushing.* ``8 (1 + steep)`` smallest normal numbers. Functions that are steep or jump at zero (``sharp``) see a
  subnormal end moved out to zero or to the next normal number.

Beyond ``m = 2**60`` (``2**120`` of exact functions) and ``Z = 2**120`` nothing is said: the lines are infinite.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfcert.activations.accuracy import Accuracy
from tfcert.activations.either import either
from tfcert.activations.registry import Activation, Lines, Slopes
from tfcert.roundoff import Rounding

_SLOPE_ULPS = 16.0
_ROOM = 1.001
"""For products of errors, and for the rounding of the errors themselves."""
_LARGEST = 2.0**120
_FAR = 2.0**60


def lines(
    act: Activation, slopes: Slopes, lower: tf.Tensor, upper: tf.Tensor, rounding: Rounding | None = None
) -> Lines:
    """The tightest sound lines with the given slopes over ``[lower, upper]``.

    ``f(x) - s x`` takes its extrema on the interval at an end or at a critical point, so the least (greatest) value
    over those points is the intercept of a lower (upper) line.

    Args:
        act: the activation.
        slopes: of the lower and of the upper line, shaped like the ends.
        lower: lower ends.
        upper: upper ends.
        rounding: of the deployed program and of the ends' type: the lines hold for computed values (see above). None
            leaves rounding out of account.

    Raises:
        ValueError: with a rounding, an activation of which no accuracy is known.
    """
    lower_slope, upper_slope = slopes
    if rounding is None:
        below = _extremum(act, lower_slope, lower, upper, 1.0)
        return Lines(lower_slope, below, upper_slope, _extremum(act, upper_slope, lower, upper, -1.0))
    lower, upper = _settled(act, lower, upper)
    below = _extremum(act, lower_slope, lower, upper, 1.0, rounding)
    above = _extremum(act, upper_slope, lower, upper, -1.0, rounding)
    below, above = _moved(act, rounding, (lower, upper), (lower_slope, below), (upper_slope, above))
    return Lines(lower_slope, below, upper_slope, above)


def image(
    act: Activation, lower: tf.Tensor, upper: tf.Tensor, rounding: Rounding | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """The interval of values that the function takes on ``[lower, upper]``: lines of slope zero.

    With a ``rounding``, of values as they are computed; see :func:`lines`, which raises the same.
    """
    if not act.increasing:
        flat = tf.zeros_like(lower)
        found = lines(act, (flat, flat), lower, upper, rounding)
        low, high = found.lower_intercept, found.upper_intercept
        return (low, high) if rounding is None else _staying(act, low, high)
    if rounding is not None:
        lower, upper = _settled(act, lower, upper)
        return _outward(act, rounding, (lower, upper), (act.function(lower), act.function(upper)))
    low, high = act.function(lower), act.function(upper)  # a NaN says that nothing is known
    return either(tf.math.is_nan(low), -np.inf, low), either(tf.math.is_nan(high), np.inf, high)


def _outward(
    act: Activation, rounding: Rounding, ends: tuple[tf.Tensor, tf.Tensor], found: tuple[tf.Tensor, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """The values at the ends of an interval, moved out as :func:`_moved` moves lines of slope zero.

    Of an exact function that is for what is flushed alone.
    """
    accuracy = accuracy_of(act)
    far = _FAR if accuracy.ulps else _LARGEST
    sizes = [tf.abs(value) for value in found]
    known = (sizes[0] <= _LARGEST) & (sizes[1] <= _LARGEST)  # a NaN is not
    for end in ends:
        known &= tf.abs(end) <= far
    charge = _flushed(accuracy, rounding, found[0].dtype)
    if accuracy.ulps:
        kernels = _kernels(accuracy, rounding)
        charge += (kernels + 6.0 * _ROOM * rounding.own) * tf.maximum(*sizes) + kernels * accuracy.base
        if accuracy.reach:
            most = tf.maximum(tf.maximum(tf.abs(ends[0]), tf.abs(ends[1])), rounding.tiny / rounding.own)
            charge += (kernels * accuracy.reach) * most
    low, high = found[0] - charge, found[1] + charge
    least, most = accuracy.stays
    low = low if least == -np.inf else tf.maximum(low, least)
    high = high if most == np.inf else tf.minimum(high, most)
    return either(known, low, -np.inf), either(known, high, np.inf)


def _kernels(accuracy: Accuracy, rounding: Rounding) -> float:
    """What the program's kernel and ours may be off by, of what :class:`Accuracy` has in brackets."""
    return 2.0 * _ROOM * sum(accuracy.within(unit) * unit for unit in (rounding.deployed, rounding.own))


def _flushed(accuracy: Accuracy, rounding: Rounding, dtype: tf.DType) -> float | tf.Tensor:
    """What is lost where arguments and results are flushed to zero."""
    steep: float | tf.Tensor = accuracy.steep if not callable(accuracy.steep) else tf.cast(accuracy.steep(), dtype)
    return (8.0 * rounding.tiny) * (1.0 + steep)


def _staying(act: Activation, low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """An image without the numbers that no computed value reaches; infinite where nothing is known, as it was."""
    least, most = (tf.constant(end, low.dtype) for end in accuracy_of(act).stays)
    low = either(tf.math.is_finite(low), tf.maximum(low, least), low)
    return low, either(tf.math.is_finite(high), tf.minimum(high, most), high)


def kernel_error(act: Activation, x: tf.Tensor, y: tf.Tensor, rounding: Rounding) -> tf.Tensor:
    """By how much the program's value may differ from the function's, of arguments and values of these sizes.

    ``y`` is the size of values as computed: those of the function are larger by a few ulps at most.

    Raises:
        ValueError: nothing is known of the activation's computed values.
    """
    accuracy = accuracy_of(act)
    flushed = _flushed(accuracy, rounding, x.dtype)
    share = 2.0 * _ROOM * accuracy.within(rounding.deployed) * rounding.deployed
    if not share:
        return tf.zeros_like(x) + flushed
    charge = share * _ROOM * (y + accuracy.base + accuracy.reach * x) + flushed
    return either((x <= _FAR) & (y <= _LARGEST), charge, np.inf)


def accuracy_of(act: Activation) -> Accuracy:
    """What is known of the activation's computed values.

    Raises:
        ValueError: nothing.
    """
    if act.accuracy is None:
        raise ValueError(
            f"nothing is known of how activation {act.name!r} rounds: say so with register_activation(.., ulps=..), or "
            'leave rounding out of account (rounding="ignore")'
        )
    return act.accuracy


def _moved(
    act: Activation,
    rounding: Rounding,
    ends: tuple[tf.Tensor, tf.Tensor],
    below: tuple[tf.Tensor, tf.Tensor],
    above: tuple[tf.Tensor, tf.Tensor],
) -> tuple[tf.Tensor, tf.Tensor]:
    """The intercepts of two lines ``(slope, intercept)``, moved out: for the kernel, the gap, and what is flushed."""
    accuracy = accuracy_of(act)
    # Of a subnormal point and a slope the product may be flushed: as large as a rounding of this one's.
    most = tf.maximum(tf.maximum(tf.abs(ends[0]), tf.abs(ends[1])), rounding.tiny / rounding.own)
    sizes = [tf.abs(slope) * most + tf.abs(intercept) for slope, intercept in (below, above)]
    size = tf.maximum(*sizes)
    flushed = _flushed(accuracy, rounding, size.dtype)
    own = 6.0 * _ROOM * rounding.own
    if accuracy.ulps:
        kernels = _kernels(accuracy, rounding)
        charge = (kernels + own) * size + ((kernels * accuracy.reach) * most + kernels * accuracy.base) + flushed
        within = tf.maximum(size, most * (_LARGEST / _FAR)) <= _LARGEST
    else:
        straight = act.piecewise_linear  # values are 0, x or -x: of slope 1, too, no difference of theirs rounds
        rounds = [
            either((slope == 0.0) | (slope == 1.0) if straight else slope == 0.0, 0.0, part)
            for (slope, _), part in zip((below, above), sizes, strict=True)
        ]
        charge = own * tf.maximum(*rounds) + flushed
        within = tf.maximum(size, most) <= _LARGEST
    return either(within, below[1] - charge, -np.inf), either(within, above[1] + charge, np.inf)


def _settled(act: Activation, lower: tf.Tensor, upper: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The interval; of a sharp function, with subnormal ends moved out to zero or to the next normal number."""
    accuracy = accuracy_of(act)
    jumps = act.declaration.jumps if act.declaration is not None else ()
    if not (accuracy.sharp or act.limited or act.edges is not None or jumps):
        return lower, upper
    whole, sign, exponent = (
        (tf.int32, 0x7FFFFFFF, 0x7F800000) if lower.dtype == tf.float32 else (tf.int64, 2**63 - 1, 0x7FF << 52)
    )
    least = float(np.finfo(lower.dtype.as_numpy_dtype).tiny)

    # Read from the bits: a comparison would flush its operands, and see zeros.
    def subnormal(end: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        bits = tf.bitcast(end, whole)
        size = tf.bitwise.bitwise_and(bits, tf.constant(sign, whole))
        is_so = (size != 0) & (tf.bitwise.bitwise_and(bits, tf.constant(exponent, whole)) == 0)
        return is_so & (bits < 0), is_so & (bits > 0)

    (low_left, low_right), (high_left, high_right) = subnormal(lower), subnormal(upper)
    zero = tf.zeros_like(lower)
    lower = either(low_right, zero, either(low_left, -least, lower))
    upper = either(high_left, zero, either(high_right, least, upper))
    return lower, upper


def _extremum(
    act: Activation,
    slope: tf.Tensor,
    lower: tf.Tensor,
    upper: tf.Tensor,
    side: float,
    rounding: Rounding | None = None,
) -> tf.Tensor:
    """The least (``side`` 1) or greatest (-1) value of ``f(x) - slope * x``; of points searched for, see above."""
    choose: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = tf.minimum if side > 0 else tf.maximum
    known = act.declared(lower, upper) if act.limited else None
    if known is not None:  # elsewhere, the function may not even have values
        lower, upper = act.within(known, lower, upper)
    # At an extremum the gap does not change with the point: its gradient needs none of the point's.
    critical = list(map(tf.stop_gradient, act.critical_points(slope, lower, upper)))
    # Critical points first: where they tie with an end (a ReLU's slope of 0 or 1), the gradient is that of the first,
    # and theirs is the one that slopes within the range see.
    points = [tf.clip_by_value(point, lower, upper) for point in critical]
    gaps: list[tf.Tensor] = []
    if rounding is not None and act.declaration is not None and act.kinks is None:
        # Instead of the points that were searched for.
        gaps += [
            side * least for least in _least_of_pieces(act, slope, (lower, upper), points[act.exact :], side, rounding)
        ]
        points = points[: act.exact]
    gaps += [act.function(point) - tf.math.multiply_no_nan(point, slope) for point in (*points, lower, upper)]
    # XLA's min and max may drop a NaN, which stands for "nothing is known": say so with an infinity. Infinities of
    # different sign add up to one, too, and one of them is the same infinity.
    unknown = -side * np.inf
    found = either(tf.math.is_nan(tf.add_n(gaps)), unknown, functools.reduce(choose, gaps))
    if rounding is not None and act.strays is not None:
        found -= side * act.strays(lower, upper, rounding.own)
    if known is None:
        return found
    limit = tf.constant(act.values[0 if side > 0 else 1], lower.dtype)
    return tf.where(known, found, tf.where(slope == 0, limit, tf.constant(unknown, limit.dtype)))


def _least_of_pieces(
    act: Activation,
    slope: tf.Tensor,
    ends: tuple[tf.Tensor, tf.Tensor],
    searched: list[tf.Tensor],
    side: float,
    rounding: Rounding,
) -> list[tf.Tensor]:
    """Of each piece in which ``g = side (f(x) - slope x)`` is convex, a bound below its values on the interval.

    By tangents of ``g`` at the points, moved into the piece; infinite where the interval has no part of it.
    """
    told = act.declaration
    assert told is not None
    paired = len(searched) == sum(rising is not None for rising in told.rising)
    left = iter(searched)
    kind = slope.dtype.as_numpy_dtype
    reach = accuracy_of(act).reach
    found = []
    for (start, end), rising in zip(itertools.pairwise((-np.inf, *told.ends, np.inf)), told.rising, strict=True):
        here = [next(left)] if paired and rising is not None else searched
        if rising is None or rising != (side > 0):
            continue
        inside = tf.constant(_next(kind, start, 1.0), slope.dtype), tf.constant(_next(kind, end, -1.0), slope.dtype)
        first, last = tf.maximum(ends[0], kind(start)), tf.minimum(ends[1], kind(end))
        bounds = []
        for point in here:
            place = tf.minimum(tf.maximum(point, inside[0]), inside[1])
            steep = told.derivative(place)
            error = (2.0 * _SLOPE_ULPS * rounding.own) * (tf.abs(steep) + tf.abs(slope) + reach)
            tilt = side * (steep - slope)
            loss = tf.math.multiply_no_nan(tf.nn.relu(error - tilt), tf.nn.relu(last - place))
            loss += tf.math.multiply_no_nan(tf.nn.relu(error + tilt), tf.nn.relu(place - first))
            bounds.append(side * (act.function(place) - tf.math.multiply_no_nan(place, slope)) - _ROOM * loss)
        best = bounds[0]
        for bound in bounds[1:]:
            best = either((bound > best) | tf.math.is_nan(best), bound, best)
        found.append(either(first < last, best, np.inf))
    return found


def _next(kind: type, place: float, way: float) -> float:
    """The next number in a direction; next to zero, the first that is not flushed to it."""
    if not np.isfinite(place):
        return place
    return float(np.nextafter(kind(place), kind(way * np.inf))) if place else way * float(np.finfo(kind).tiny)
