"""Functions in extended precision: NumPy's long double where it is wider than float64, a series for the error function.

No other libraries: what is compared with these are float64 kernels, so three digits more are enough.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable
from typing import Any

import numpy as np

Form = Callable[..., np.ndarray]


def wide(form: Callable[..., Any]) -> Form:
    """A form of NumPy's, applied to long doubles."""
    return lambda x, **parameters: form(x.astype(np.longdouble), **parameters)


def normal_erf(x: np.ndarray, complement: bool = False) -> np.ndarray:
    """``erf(x)``, or 1 minus it, by its series in 120 digits; beyond 12 it is 1 to all of float64's digits."""
    with decimal.localcontext() as context:
        context.prec = 120
        root = decimal.Decimal(_PI).sqrt()
        found = []
        for number in x:
            z = decimal.Decimal(float(number))
            if abs(z) > 12:
                value = decimal.Decimal(1).copy_sign(z)
            else:
                term, value, n = z, z, 0
                while abs(term) > decimal.Decimal(10) ** -110:
                    n += 1
                    term = -term * z * z / n
                    value += term / (2 * n + 1)
                value = 2 * value / root
            found.append(np.longdouble(str(1 - value if complement else value)))
    return np.array(found, np.longdouble)


_PI = (
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798214808651"
    "3282306647093844609550582"
)


def gelu(x: np.ndarray, approximate: bool) -> np.ndarray:
    """Both forms of the GELU."""
    z = x.astype(np.longdouble)
    if approximate:
        root = np.sqrt(np.longdouble(2) / np.longdouble(_PI))
        return z / (1 + np.exp(-2 * root * (z + np.longdouble(0.044715) * z**3)))
    near = np.clip(x / np.sqrt(2.0), -12, 12)
    return z / 2 * normal_erf(-near, complement=True)


EXTENDED: dict[str, tuple[Form, int]] = {
    "arcsinh": (wide(np.arcsinh), 20000),
    "arctan": (wide(np.arctan), 20000),
    "celu": (wide(lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))), 20000),
    "cos": (wide(np.cos), 20000),
    "cosh": (wide(np.cosh), 20000),
    "elu": (wide(lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))), 20000),
    "erf": (normal_erf, 600),
    "exp": (wide(np.exp), 20000),
    "expm1": (wide(np.expm1), 20000),
    "exponential": (wide(np.exp), 20000),
    "gelu": (gelu, 600),
    "log": (wide(np.log), 20000),
    "log1p": (wide(np.log1p), 20000),
    "log_sigmoid": (wide(lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))), 20000),
    "mish": (wide(lambda x: x * np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))), 20000),
    "power": (wide(lambda x, exponent: np.power(x, np.longdouble(exponent))), 20000),
    "reciprocal": (wide(lambda x: 1 / x), 20000),
    "rsqrt": (wide(lambda x: 1 / np.sqrt(x)), 20000),
    "sigmoid": (wide(lambda x: 1 / (1 + np.exp(-x))), 20000),
    "silu": (wide(lambda x: x / (1 + np.exp(-x))), 20000),
    "sin": (wide(np.sin), 20000),
    "sinh": (wide(np.sinh), 20000),
    "softplus": (wide(lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))), 20000),
    "softsign": (wide(lambda x: x / (1 + np.abs(x))), 20000),
    "sqrt": (wide(np.sqrt), 20000),
    "square": (wide(np.square), 20000),
    "squareplus": (wide(lambda x, b=4.0: (x + np.sqrt(x * x + b)) / 2), 20000),
    "tanh": (wide(np.tanh), 20000),
}
"""By name: the function, and at how many points it is compared."""
