"""Perturbations for generated networks, and points in them that try to leave the bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tensorflow as tf

from soundness.networks import Pick
from tfcert.network import DenseMap, Linear, Network, densify
from tfcert.sets.balls import Box, LpBall, Perturbation

EPS = (0.1, 0.02, 0.5, 0.0, 1e-7, 10.0)


def perturbation(pick: Pick, rng: np.random.Generator, shape: tuple[int, ...], samples: int = 2) -> Perturbation:
    """A float32 perturbation of some samples, each with its own eps; some centres lie on the border of the clip."""
    x = np.clip(rng.uniform(-0.1, 1.1, (samples, *shape)), 0, 1).astype(np.float32)
    kind = pick(["linf", "l2", "l1", "box"])
    if kind == "box":
        width = rng.uniform(0, pick([0.2, 1e-6, 5.0]), x.shape) * (rng.random(x.shape) < 0.8)
        return Box(x, (x + width).astype(np.float32))
    eps = pick(EPS) * np.linspace(1.0, 0.5, samples)
    return LpBall(x, eps, kind, pick([None, (0.0, 1.0)]))


def adversaries(
    network: Network, region: Perturbation, rows: np.ndarray, rng: np.random.Generator, count: int = 24, steps: int = 5
) -> np.ndarray:
    """Points of the sets ``[points, samples, *input]``: random ones, corners, and each row's gradient descent."""
    network = _frozen(network)
    low, high = region.lower.astype(np.float64), region.upper.astype(np.float64)
    inner = region.sample(count, int(rng.integers(1 << 30)))
    corners = [region.project(np.where(rng.random(low.shape) < 0.5, low, high).astype(low.dtype)) for _ in range(count)]
    axis = [np.eye(low[0].size)[i].reshape(low[0].shape) for i in rng.integers(low[0].size, size=count)]
    spikes = [
        region.project(np.where(e > 0, high if k % 2 else low, region.center).astype(region.lower.dtype))
        for k, e in enumerate(axis)
    ]
    points = [region.center, *inner, *corners, *spikes]
    for row in range(rows.shape[1]):
        start = points[np.argmin([_value(network, p, rows)[:, row].sum() for p in points])]
        points += _descent(network, region, rows[:, row], start, steps)
    return np.stack(points)


def _frozen(network: Network) -> Network:
    """The network with its linear maps as constant matrices: fast, and with gradients (TensorFlow has none on CPUs for
    dilated convolutions)."""
    nodes = []
    for node in densify(network).nodes:
        if isinstance(node, Linear) and isinstance(node.map, DenseMap):
            kernel, old = node.map.kernel(), node.map
            node = replace(node, map=DenseMap(lambda kernel=kernel: kernel, old.in_shape, old.out_shape[-1]))
        nodes.append(node)
    return replace(network, nodes=tuple(nodes))


def _value(network: Network, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.einsum("sro,so->sr", rows, network(tf.constant(x, network.dtype)).numpy())


def _descent(
    network: Network, region: Perturbation, row: np.ndarray, start: np.ndarray, steps: int
) -> list[np.ndarray]:
    """Steepest descent of ``row . f`` in the ball's geometry, from the best point so far."""
    found, x = [], start
    width = (region.upper - region.lower).astype(np.float64)
    for step in range(steps):
        point = tf.constant(x, network.dtype)
        with tf.GradientTape() as tape:
            tape.watch(point)
            value = tf.reduce_sum(network(point) * tf.constant(row, network.dtype))
        gradient = tape.gradient(value, point, unconnected_gradients="zero").numpy()
        if region.norm == "linf":
            move = np.sign(gradient) * width
        else:
            flat = gradient.reshape(len(x), -1)
            scale = np.maximum(np.linalg.norm(flat, axis=1), 1e-300).reshape(-1, *[1] * (x.ndim - 1))
            move = gradient / scale * width.max()
        x = region.project((x - move / (1 + step)).astype(region.lower.dtype))
        found.append(x)
    return found
