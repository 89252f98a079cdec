"""Functions of several numbers in a program: a variable for each value, between the planes of its kind."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfcert.complete.encoding.piecewise import Enclosed
from tfcert.complete.encoding.variables import PAD, ArrayInterval, Encoding, Values, own_variables, widened
from tfcert.propagation.kinds import multivariate_kind
from tfcert.propagation.multivariate import Facet


def enclosed_values(encoding: Encoding, layer: Enclosed, entering: Values, pair: ArrayInterval) -> Values:
    """The values of a node, given what enters it, one input after another, and bounds of that."""
    kind, ends = multivariate_kind(layer.node), [layer.apart(end) for end in pair]
    bounds = list(zip(*ends, strict=True))
    tensors = [(tf.constant(low[None]), tf.constant(high[None])) for low, high in bounds]
    floor, ceiling = (end.numpy()[0] for end in kind.interval(layer.node, tensors))
    y = encoding.builder.variables(*widened((floor, ceiling)))

    def value(v: np.ndarray) -> np.ndarray:
        inputs = [tf.constant(part[None]) for part in layer.apart(entering.at(v))]
        found: np.ndarray = layer.node.evaluate(inputs).numpy().ravel()
        return found

    encoding.step(y, value)
    for facet in kind.facets(layer.node, bounds):
        _facet(encoding, facet, y, entering, np.maximum(*map(np.abs, pair)))
    return own_variables(y)


def _facet(encoding: Encoding, facet: Facet, y: np.ndarray, entering: Values, size: np.ndarray) -> None:
    """Rows that keep the values on their side of a facet; ``size`` is that of the numbers that enter."""
    row, column, value = facet.slopes.row, facet.slopes.column, facet.slopes.value
    inner = entering.take(column)
    level = facet.intercept + np.bincount(row, weights=value * inner.shift, minlength=len(y))
    reach = np.abs(facet.intercept) + np.bincount(row, weights=np.abs(value) * size[column], minlength=len(y))
    some = inner.column >= 0
    if not facet.sign and encoding.rounded:
        for sign in (1, -1):
            _facet(encoding, facet._replace(sign=sign), y, entering, size)
        return
    if not facet.sign:
        encoding.builder.entries(row[some], inner.column[some], (value * inner.scale)[some])
        encoding.builder.rows([(y, -1.0)], -level, equal=True)
        return
    encoding.builder.entries(row[some], inner.column[some], facet.sign * (value * inner.scale)[some])
    encoding.builder.rows([(y, -facet.sign)], PAD * np.maximum(1.0, reach) - facet.sign * level)
