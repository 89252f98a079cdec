"""The kinds of nonlinearities of several numbers, and how each is bounded."""

from __future__ import annotations

from tfcert.network.difference import Difference, Residuals
from tfcert.network.graph import Multivariate
from tfcert.network.normalized import Normalized
from tfcert.network.product import Contraction, Product
from tfcert.network.softmax import LogOdds
from tfcert.propagation.contraction import CONTRACTION
from tfcert.propagation.difference import DIFFERENCE
from tfcert.propagation.log_odds import LOG_ODDS
from tfcert.propagation.multivariate import Kind
from tfcert.propagation.normalized import NORMALIZED
from tfcert.propagation.product import PRODUCT
from tfcert.propagation.residuals import RESIDUALS

KINDS: dict[type[Multivariate], Kind] = {
    Product: PRODUCT,
    Contraction: CONTRACTION,
    LogOdds: LOG_ODDS,
    Normalized: NORMALIZED,
    Difference: DIFFERENCE,
    Residuals: RESIDUALS,
}


def multivariate_kind(node: Multivariate) -> Kind:
    """How a node is bounded.

    Raises:
        TypeError: nobody said so of its kind.
    """
    kind = KINDS.get(type(node))
    if kind is None:
        raise TypeError(
            f"no rule to bound a {type(node).__name__} node ({node.name}): tfcert.propagation.kinds has none"
        )
    return kind
