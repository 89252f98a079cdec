"""Spectral norms bounded from above: Gram iteration for matrices, and for convolutions frequency by frequency.

Power iteration approaches the largest singular value from below, so a Lipschitz constant made of it promises nothing.
Gram iteration approaches it from above and squares its accuracy in every step (Delattre et al., "Efficient bound of
Lipschitz constant for convolutional layers by Gram iteration", ICML 2023).
"""

from __future__ import annotations

import numpy as np

from tfcert.network import ConvMap
from tfcert.roundoff import unit_roundoff

_ROUNDOFF = unit_roundoff(np.float64)
STEPS = 20
"""Gram steps: the excess of the bound, at most ``rank ** (1 / 2 ** (STEPS + 1)) - 1``, is then below 1e-5."""
_CONVERGED = 1e-12
_CHUNK = 1 << 21
"""Entries of the frequency matrices that are held at a time."""


def gram_norm(matrices: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """An upper bound of the spectral norm of each matrix ``[..., m, n]``, real or complex: ``[...]`` float64.

    With ``A_0 = A`` and ``A_{t+1} = A_t^H A_t`` the bound is ``||A_t||_F ** (1 / 2^t)`` (Delattre et al. 2023, theorem
    1), an upper bound for every t. Each matrix is scaled to Frobenius norm 1 before it is squared, so that nothing
    overflows. The bound is unrolled backwards with the rounding error e of each product added,
    ``|A_t| <= sqrt(f |A_{t+1}| + e)``, so that it stays an upper bound in floating point.
    """
    wide = np.asarray(matrices, np.result_type(matrices, np.float64))
    if wide.shape[-2] < wide.shape[-1]:
        wide = wide.swapaxes(-1, -2)
    slack = 4 * (wide.shape[-2] + 8) * _ROUNDOFF
    size = _frobenius(wide)
    scaled = _divide(wide, size)
    factors = []
    for _ in range(steps):
        gram = np.matmul(scaled.conj().swapaxes(-1, -2), scaled)
        factor = _frobenius(gram)
        factors.append(factor * (1 + slack))
        scaled = _divide(gram, factor)
        if np.all((factor > 1 - _CONVERGED) | (size == 0)):
            break
    bound = np.full(size.shape, 1 + slack)
    for factor in reversed(factors):
        bound = np.sqrt(factor * bound + slack) * (1 + 4 * _ROUNDOFF)
    return bound * size * (1 + slack)


def convolution_norm(convolution: ConvMap) -> float:
    """An upper bound of the spectral norm of a convolution with zero padding, for any stride and dilation.

    The convolution is a part of a circular one on a torus large enough that nothing wraps around (so its norm is not
    larger), and that one is a matrix ``[channels in, channels out]`` at each frequency (Sedghi et al., "The singular
    values of convolutional layers", ICLR 2019). With strides, the pixels that share a remainder become channels of
    their own.
    """
    kernel = _phases(convolution)
    torus = [convolution.out_shape[axis] + kernel.shape[axis] - 1 for axis in (0, 1)]
    # The kernel is real: opposite frequencies have the same norm, and half of the columns are enough.
    rows, columns = _waves(torus[0], kernel.shape[0]), _waves(torus[1], kernel.shape[1])[: torus[1] // 2 + 1]
    entries = len(columns) * kernel.shape[2] * kernel.shape[3]
    chunk = max(1, _CHUNK // entries)
    largest = 0.0
    for first in range(0, len(rows), chunk):
        partial = np.einsum("fh,hwio->fwio", rows[first : first + chunk], kernel)
        largest = max(largest, float(gram_norm(np.einsum("gw,fwio->fgio", columns, partial)).max(initial=0.0)))
    # Each entry is a sum over the kernel's pixels, each term off by a few roundings.
    terms = kernel.shape[0] * kernel.shape[1] + 16
    return largest + 2 * terms * _ROUNDOFF * float(np.linalg.norm(np.abs(kernel).sum(axis=(0, 1))))


def _phases(convolution: ConvMap) -> np.ndarray:
    """The kernel of the same convolution with stride 1, ``[h, w, row stride * column stride * in, out]``."""
    kernel = np.asarray(convolution.kernel(), np.float64)
    reach = [(convolution.size[axis] - 1) * convolution.dilation[axis] + 1 for axis in (0, 1)]
    strides = convolution.strides
    blocks = [-(-reach[axis] // strides[axis]) for axis in (0, 1)]
    spread = np.zeros((blocks[0] * strides[0], blocks[1] * strides[1], *kernel.shape[2:]))
    spread[: reach[0] : convolution.dilation[0], : reach[1] : convolution.dilation[1]] = kernel
    split = spread.reshape(blocks[0], strides[0], blocks[1], strides[1], *kernel.shape[2:])
    return split.transpose(0, 2, 1, 3, 4, 5).reshape(*blocks, -1, kernel.shape[3])


def _waves(count: int, pixels: int) -> np.ndarray:
    """``exp(-2 pi i f m / count)`` for frequencies f and pixels m."""
    turns = np.outer(np.arange(count), np.arange(pixels)) % count
    return np.exp(-2j * np.pi * turns / count)


def _frobenius(matrices: np.ndarray) -> np.ndarray:
    return np.linalg.norm(matrices, axis=(-2, -1))


def _divide(matrices: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The matrices by their sizes; a zero matrix stays zero."""
    return matrices / np.where(size > 0, size, 1.0)[..., None, None]
