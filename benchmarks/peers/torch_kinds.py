"""Layers of transformers, gates and recurrence in PyTorch, out of operations that auto_LiRPA bounds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

Weights = dict[str, torch.Tensor]


class _WithWeights(nn.Module):
    """Holds weights under their names."""

    def __init__(self, node: dict[str, Any], weights: Weights):
        super().__init__()
        self.node = node
        for name, value in weights.items():
            self.register_parameter(name, nn.Parameter(value))


class Attention(_WithWeights):
    """Multi-head attention of ``x`` to ``y``, both ``[batch, steps, features]``."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        query, key, value = self._heads(x, "query"), self._heads(y, "key"), self._heads(y, "value")
        scores = torch.matmul(query, key.transpose(-1, -2)) / query.shape[-1] ** 0.5
        # Softmax itself, a sum that keeps its axis, and a matrix after four axes fail in this auto_LiRPA.
        shape = scores.shape
        sizes = torch.exp(scores.reshape(shape[0], -1, shape[-1]))
        weights = sizes / torch.matmul(sizes, torch.ones(shape[-1], shape[-1], device=x.device))
        weights = weights.reshape(shape)
        context = torch.matmul(weights, value).permute(0, 2, 1, 3)
        flat = context.reshape(x.shape[0], x.shape[1], -1)
        return torch.matmul(flat, self.output_kernel) + self.output_bias

    def _heads(self, x: torch.Tensor, name: str) -> torch.Tensor:
        flat = torch.matmul(x, getattr(self, f"{name}_kernel")) + getattr(self, f"{name}_bias")
        return flat.reshape(x.shape[0], x.shape[1], self.node["heads"], -1).permute(0, 2, 1, 3)


class LayerNormalisation(_WithWeights):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centered = x - x.mean(-1, keepdim=True)
        deviation = torch.sqrt(centered.pow(2).mean(-1, keepdim=True) + self.node["epsilon"])
        return centered / deviation * self.scale + self.bias


class LongShortTermMemory(_WithWeights):
    """The last state of an LSTM, in Keras's order of gates: input, forget, cell, output."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = self.recurrent.shape[0]
        state = memory = torch.zeros(x.shape[0], size, device=x.device)
        for step in range(x.shape[1]):
            gates = torch.matmul(x[:, step], self.kernel) + torch.matmul(state, self.recurrent) + self.bias
            let, keep, new, show = (gates[:, i * size : (i + 1) * size] for i in range(4))
            memory = torch.sigmoid(keep) * memory + torch.sigmoid(let) * torch.tanh(new)
            state = torch.sigmoid(show) * torch.tanh(memory)
        return state


class Multiply(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left * right


class Mean(nn.Module):
    """Over the steps of sequences, or the pixels of images with channels first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if x.ndim == 4 else x.mean(1)


class AsChannels(nn.Module):
    """One number a channel, for a product with an image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], x.shape[1], 1, 1)
