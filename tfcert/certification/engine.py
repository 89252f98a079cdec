"""Compiled bound computations: one function per (network, method, kind of region), padded to a few batch sizes.

Weights are captured as variables, so a compiled function sees a model that has been trained on since.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.network import Network
from tfcert.options import BoundOptions
from tfcert.perturbations import Perturbation, Region
from tfcert.propagation.bounds import check_names, output_bounds
from tfcert.propagation.plan import Plan, make_plan

_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_COMPILED: weakref.WeakKeyDictionary[Network, dict[Any, Callable]] = weakref.WeakKeyDictionary()


def lower_bounds(
    network: Network,
    perturbation: Perturbation,
    coefficients: np.ndarray,
    offsets: np.ndarray,
    *,
    method: str = "crown",
    relaxation: str | None = None,
    options: BoundOptions | None = None,
) -> np.ndarray:
    """Lower bounds of linear functions ``C y + d`` of the outputs y over each sample's perturbation set.

    Args:
        network: the network.
        perturbation: one set a sample, ``[batch, *input]``.
        coefficients: C, ``[batch, rows, outputs]``.
        offsets: d, ``[batch, rows]``.
        method: ``ibp``, ``forward``, ``forward+backward``, ``crown-ibp`` or ``crown``.
        relaxation: a named relaxation; None for each activation's default.
        options: memory, batch size, compilation.

    Returns:
        ``[batch, rows]``. Guarantee: ``numeric``. -inf or NaN where nothing is known (overflow).

    Raises:
        ValueError: shapes that do not fit, an unknown name, or a weight that is NaN or infinite.
    """
    options = options or BoundOptions()
    check_names(network, method, relaxation)
    if perturbation.input_shape != network.input_shape:
        raise ValueError(f"inputs of shape {perturbation.input_shape} for a network of {network.input_shape}")
    if len(network.output_shape) != 1:
        raise ValueError(f"outputs of shape {network.output_shape}: bounds need a model with one axis of outputs")
    if not network.finite():
        raise ValueError("a weight of the model is NaN or infinite: nothing can be certified")
    perturbation = perturbation.astype(network.dtype.as_numpy_dtype)
    rows = coefficients.shape[1]
    region = perturbation.region()
    plan = make_plan(network, method, rows, options.memory_mb, region.is_box)
    size = min(plan.samples, options.batch_size or _BUCKETS[-1])
    run = _compiled(network, method, relaxation, region, plan, options)
    arrays = [region.center, region.lower, region.upper, region.eps, _as(coefficients, network), _as(offsets, network)]
    found = []
    for start in range(0, len(perturbation), size):
        chunk = [a[start : start + size] for a in arrays]
        count = int(chunk[0].shape[0])
        bucket = min(size, next(b for b in _BUCKETS if b >= count))
        found.append(run(*[_padded(a, bucket) for a in chunk]).numpy()[:count])
    return np.concatenate(found) if found else np.zeros((0, rows), network.dtype.as_numpy_dtype)


def _compiled(
    network: Network, method: str, relaxation: str | None, region: Region, plan: Plan, options: BoundOptions
) -> Callable:
    parts = tuple(
        sorted((node, tuple((p.start, p.stop) if p else None for p in cut)) for node, cut in plan.parts.items())
    )
    jit = use_jit(options)
    key = (method, relaxation, region.norm, region.clipped, parts, jit)
    known = _COMPILED.setdefault(network, {})
    if key not in known:
        norm, clipped, owner = region.norm, region.clipped, weakref.ref(network)

        def run(center, lower, upper, eps, coefficients, offsets):  # type: ignore[no-untyped-def]
            net = owner()
            assert net is not None
            inputs = Region(norm, clipped, center, lower, upper, eps)
            return output_bounds(net, inputs, (coefficients, offsets), method, relaxation, plan.parts)

        known[key] = tf.function(run, jit_compile=jit, autograph=False)
    return known[key]


def use_jit(options: BoundOptions) -> bool:
    """Whether to compile with XLA: as asked, else on accelerators only (see benchmarks/README.md)."""
    return bool(tf.config.list_physical_devices("GPU")) if options.jit is None else options.jit


def _as(array: np.ndarray, network: Network) -> tf.Tensor:
    return tf.constant(np.asarray(array), network.dtype)


def _padded(tensor: tf.Tensor, size: int) -> tf.Tensor:
    """Repeats the last sample up to the bucket's size."""
    missing = size - int(tensor.shape[0])
    return tensor if missing == 0 else tf.concat([tensor, tf.repeat(tensor[-1:], missing, axis=0)], axis=0)
