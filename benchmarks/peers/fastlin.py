"""Fast-Lin with sparse matrices: the comparator that CNN-Cert's Table 4 times as "Fast-Lin, sparse".

Fast-Lin (Weng et al. 2018, algorithm 1) takes layers as matrices. Of a convolution nearly all entries are zero, and the
CNN-Cert paper made a version that multiplies sparse ones, of which it says no more. This is one in NumPy and SciPy: a
layer's matrix is sparse, and so are the rows that are carried backward for as long as most of their entries are zero.
Nothing is shared with tfcert but the entries of the layers, so that equal bounds say that both are right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tfcert.network import Elementwise, Linear, Network

_DENSE = 0.2
"""Rows of which a larger share is not zero are multiplied in full."""
_DUAL = {"linf": 1, "l2": 2, "l1": np.inf}


@dataclass(frozen=True)
class _Layer:
    """An affine layer, ``matrix @ x + bias``; a ReLU follows each but the last."""

    matrix: sparse.csr_matrix
    bias: np.ndarray


class SparseFastLin:
    """The layers of a network as sparse matrices, and bounds by them.

    Raises:
        TypeError: the network is no chain of linear layers and ReLUs.
    """

    def __init__(self, network: Network):
        self.dtype = network.dtype.as_numpy_dtype
        self.layers: list[_Layer] = []
        matrix, bias = None, None
        for place, node in enumerate(network.nodes[1:]):
            if node.inputs != (place,):
                raise TypeError(f"Fast-Lin is for chains of layers, and {node.name} joins two")
            if isinstance(node, Linear):
                step = _matrix(node, self.dtype)
                own = np.zeros(step.shape[0]) if node.bias is None else np.broadcast_to(node.bias(), node.shape).ravel()
                bias = own if bias is None else step @ bias + own
                matrix = step if matrix is None else step @ matrix
            elif isinstance(node, Elementwise) and node.activation.name == "relu" and matrix is not None:
                self.layers.append(_Layer(matrix, bias.astype(self.dtype)))
                matrix, bias = None, None
            else:
                raise TypeError(f"Fast-Lin is for linear layers with a ReLU between two, and {node.name} is neither")
        self.layers.append(_Layer(matrix, bias.astype(self.dtype)))

    def margins(self, x: np.ndarray, eps: float, norm: str, rows: np.ndarray) -> np.ndarray:
        """Lower bounds of ``rows[i] @ outputs`` over the ball around each ``x[i]``, ``[images, rows]``."""
        return np.stack([self._image(image.ravel(), eps, norm, own) for image, own in zip(x, rows, strict=True)])

    def _image(self, x: np.ndarray, eps: float, norm: str, rows: np.ndarray) -> np.ndarray:
        slopes: list[np.ndarray] = []
        lows: list[np.ndarray] = []
        for place, layer in enumerate(self.layers[:-1]):
            low, high = self._bounds(layer.matrix, layer.bias, place, (slopes, lows), (x, eps, norm))
            between = (low < 0) & (high > 0)
            width = np.where(between, high - low, 1).astype(self.dtype)
            slopes.append(np.where(low >= 0, 1, np.where(between, high / width, 0)).astype(self.dtype))
            lows.append(np.where(between, low, 0).astype(self.dtype))
        last = self.layers[-1]
        asked = (rows @ last.matrix).astype(self.dtype)
        return self._bounds(asked, rows @ last.bias, len(self.layers) - 1, (slopes, lows), (x, eps, norm))[0]

    def _bounds(
        self,
        rows: sparse.csr_matrix | np.ndarray,
        constant: np.ndarray,
        before: int,
        relaxed: tuple[list[np.ndarray], list[np.ndarray]],
        ball: tuple[np.ndarray, float, str],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Both ends of linear functions of the activations of layer ``before``, carried back to the input."""
        up = down = constant
        for place in range(before - 1, -1, -1):
            slope, low = relaxed[0][place], relaxed[1][place]
            rows = _scaled(rows, slope)
            up = up - _positive(rows) @ low
            down = down + _positive(-rows) @ low
            layer = self.layers[place]
            shift = rows @ layer.bias
            up, down, rows = up + shift, down + shift, _times(rows, layer.matrix)
        x, eps, norm = ball
        middle, reach = rows @ x, eps * _norms(rows, _DUAL[norm])
        return down + middle - reach, up + middle + reach


def _matrix(node: Linear, dtype: type) -> sparse.csr_matrix:
    entries = node.map.entries()
    shape = (int(np.prod(node.map.out_shape)), int(np.prod(node.map.in_shape)))
    return sparse.csr_matrix((entries.value.astype(dtype), (entries.row, entries.column)), shape=shape)


def _times(rows: sparse.csr_matrix | np.ndarray, matrix: sparse.csr_matrix) -> sparse.csr_matrix | np.ndarray:
    """The product of rows and a layer, in full where most of the rows is not zero."""
    if sparse.issparse(rows) and rows.nnz > _DENSE * np.prod(rows.shape):
        rows = rows.toarray()
    return rows @ matrix


def _scaled(rows: sparse.csr_matrix | np.ndarray, slope: np.ndarray) -> sparse.csr_matrix | np.ndarray:
    if not sparse.issparse(rows):
        return rows * slope
    scaled = rows.copy()  # indices that two matrices share would be sorted for one of them alone
    scaled.data *= slope[scaled.indices]
    return scaled


def _positive(rows: sparse.csr_matrix | np.ndarray) -> sparse.csr_matrix | np.ndarray:
    return rows.maximum(0) if sparse.issparse(rows) else np.maximum(rows, 0)


def _norms(rows: sparse.csr_matrix | np.ndarray, order: float) -> np.ndarray:
    """The norm of each row."""
    if not sparse.issparse(rows):
        return np.linalg.norm(rows, order, axis=1)
    if order == np.inf:
        return abs(rows).max(axis=1).toarray().ravel()
    total = np.asarray((abs(rows) if order == 1 else rows.power(2)).sum(axis=1)).ravel()
    return total if order == 1 else np.sqrt(total)
