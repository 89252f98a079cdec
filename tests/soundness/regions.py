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
    points = np.stack([region.center, *inner, *corners, *spikes])
    best, samples = _values(network, points, rows).argmin(axis=0), np.arange(len(region))
    starts = np.stack([points[best[:, row], samples] for row in range(rows.shape[1])])
    return np.concatenate([points, *_descent(network, region, rows, starts, steps)])


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


def _values(network: Network, points: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``[points, samples, rows]``: the rows of the outputs at each point ``[points, samples, *input]``."""
    outputs = network(tf.constant(points.reshape(-1, *points.shape[2:]), network.dtype)).numpy()
    return np.einsum("sro,pso->psr", rows, outputs.reshape(*points.shape[:2], -1))


def _descent(
    network: Network, region: Perturbation, rows: np.ndarray, starts: np.ndarray, steps: int
) -> list[np.ndarray]:
    """Steepest descent of every row in the ball's geometry, from a start of its own ``[rows, samples, *input]``."""
    found, x = [], starts
    width = (region.upper - region.lower).astype(np.float64)
    weights = tf.constant(rows.swapaxes(0, 1).reshape(-1, rows.shape[2]), network.dtype)
    for step in range(steps):
        points = tf.constant(x.reshape(-1, *region.input_shape), network.dtype)
        with tf.GradientTape() as tape:
            tape.watch(points)
            value = tf.reduce_sum(network(points) * weights)
        gradient = tape.gradient(value, points, unconnected_gradients="zero").numpy().reshape(x.shape)
        if region.norm == "linf":
            move = np.sign(gradient) * width
        else:
            length = np.linalg.norm(gradient.reshape(*x.shape[:2], -1), axis=2)
            move = gradient / np.maximum(length, 1e-300).reshape(*x.shape[:2], *[1] * (x.ndim - 2)) * width.max()
        moved = (x - move / (1 + step)).astype(region.lower.dtype)
        x = np.stack([region.project(some) for some in moved])
        found.append(x)
    return found
