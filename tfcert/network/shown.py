"""Inputs that a network shows among its outputs: a row over these alone is a condition on the input."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from tfcert.network.graph import Concatenate, Input, Linear, Network
from tfcert.tracing import kept


def shown_inputs(network: Network) -> np.ndarray:
    """For each output the number of the input (flattened) that it is, -1 where it is none: int ``[outputs]``."""

    def find() -> np.ndarray:
        found: list[np.ndarray] = []  # of each node's values the number of the input, from 1; 0 for none
        for node in network.nodes:
            shape = node.shape
            match node:
                case Input():
                    found.append(np.arange(1.0, math.prod(shape) + 1).reshape(shape))
                case Linear() if node.bias is None and node.map.moves and found[node.inputs[0]].any():
                    one = tf.constant(found[node.inputs[0]][None], network.dtype)
                    found.append(np.asarray(node.map.apply(one))[0].astype(np.float64).reshape(shape))
                case Concatenate():
                    found.append(np.concatenate([found[i] for i in node.inputs], axis=node.axis))
                case _:
                    found.append(np.zeros(shape))
        return found[network.output].astype(np.int64).ravel() - 1

    return kept(network, "shown inputs", find)
