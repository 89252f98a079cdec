"""``tf.function`` as this package uses it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def traced(function: Callable[..., Any], **options: Any) -> Any:
    """``tf.function`` of a function that is made anew for each network or question.

    TensorFlow counts the traces of all functions made of the same lines together, and warns of retracing where each was
    traced once. A partial has no lines, so each is counted by itself.
    """
    return tf.function(functools.partial(function), autograph=False, **options)
