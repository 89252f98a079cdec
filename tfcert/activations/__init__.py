"""Activations: one file each, one registry. Importing this package registers those that tfcert ships."""

from tfcert.activations import (  # noqa: F401  (importing these modules registers what they hold)
    convex as _convex,
)
from tfcert.activations import exponential_units as _exponential_units  # noqa: F401
from tfcert.activations import gated as _gated  # noqa: F401
from tfcert.activations import piecewise as _piecewise  # noqa: F401
from tfcert.activations import powers as _powers  # noqa: F401
from tfcert.activations import ramp as _ramp  # noqa: F401
from tfcert.activations import relu as _relu  # noqa: F401
from tfcert.activations import s_shaped as _s_shaped  # noqa: F401
from tfcert.activations import waves as _waves  # noqa: F401
from tfcert.activations.accuracy import Accuracy
from tfcert.activations.cells import cell_ends, cells
from tfcert.activations.general import Bends, general
from tfcert.activations.placing import image, lines
from tfcert.activations.registration import register_activation
from tfcert.activations.registry import (
    Activation,
    Lines,
    activation,
    is_shipped,
    names,
    spelled,
)

__all__ = [
    "Accuracy",
    "Activation",
    "Bends",
    "Lines",
    "activation",
    "cell_ends",
    "cells",
    "general",
    "image",
    "is_shipped",
    "lines",
    "names",
    "register_activation",
    "spelled",
]
