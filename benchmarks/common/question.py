"""The question that bound passes are timed on: margins of the first test images over balls of a fixed radius."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.common import networks

IMAGES = 20
_EPS = {
    "mnist_cnn_4layer_5_3_relu": {"linf": 0.031, "l2": 0.13, "l1": 0.21},
    "mnist_cnn_8layer_5_3_relu": {"linf": 0.031},
    "mnist_4layer_fc_100_relu": {"linf": 0.019, "l2": 0.4, "l1": 2.4},
    "mnist_4layer_fc_100_sigmoid": {"linf": 0.021},
    "mnist_resnet_2_relu": {"linf": 0.0098, "l2": 0.049},
    "mnist_lenet_relu": {"linf": 0.01, "l2": 0.04},
    "mnist_cnn_7layer_small_relu": {"linf": 0.012},
    "mnist_cnn_4layer_5_3_sigmoid": {"linf": 0.067},
    "mnist_cnn_4layer_5_3_tanh": {"linf": 0.041},
    "mnist_cnn_4layer_5_3_arctan": {"linf": 0.041},
    "mnist_cnn_4layer_5_3_bn_relu": {"linf": 0.02, "l2": 0.077},
    "mnist_cnn_8layer_5_3_tanh": {"linf": 0.021},
    "mnist_resnet_3_relu": {"linf": 0.006},
    "mnist_2layer_fc_20_relu": {"linf": 0.055, "l2": 1.1},
    "mnist_3layer_fc_20_relu": {"linf": 0.051, "l2": 1.1},
    "cifar_cnn_5layer_5_3_relu": {"linf": 0.004},
    "cifar_cnn_5layer_5_3_tanh": {"linf": 0.008},
}
"""Radii of the balls: those of the reference's records (``margins.json``); where it has none, of a like network
(S-shaped activations) or about the median radius (L1, CIFAR-10, and those that have none at all)."""


@dataclass(frozen=True)
class Question:
    """One batch to bound: ``f_y - f_j`` over balls of one radius, for every other class j (``rows[i, j]``)."""

    x: np.ndarray
    eps: float
    labels: np.ndarray
    classes: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        eye = np.eye(self.classes.shape[1] + 1, dtype=np.float32)
        return eye[self.labels][:, None, :] - eye[self.classes]


def radii(network: str) -> dict[str, float]:
    """The radius of balls by norm; a KeyError where none is kept for the network."""
    return dict(_EPS[network])


def posed(network: str, norm: str) -> Question:
    """The first test images, their labels, every other class, and the radius for a network and norm.

    Raises:
        KeyError: no radius is kept for them.
    """
    images = networks.test_images(network)
    labels = images.y[:IMAGES]
    others = np.array([[j for j in range(10) if j != label] for label in labels])
    return Question(images.x[:IMAGES], _EPS[network][norm], labels, others)
