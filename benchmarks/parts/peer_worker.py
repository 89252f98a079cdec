"""auto_LiRPA's side of a comparison: a process of its own that answers requests on standard input.

Runs in the peers' environment (PyTorch, no TensorFlow). A request is one line of JSON, the answer is one line of JSON:

- ``load``: build the network from a file of exported weights; answers library versions and the logits of ``x``.
- ``prepare``: a perturbation and rows to bound; answers the seconds until the first pass was done.
- ``run``: one more pass; answers its seconds.
- ``margins``: the lower bounds of the last pass.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from src.abstractor import auto_LiRPA
from torch import nn

NORMS = {"linf": np.inf, "l2": 2, "l1": 1}


class Worker:
    """Holds one network and one question about it."""

    def load(self, weights: str, threads: int) -> dict[str, Any]:
        torch.set_num_threads(threads)
        arrays = np.load(weights)
        self.x = torch.from_numpy(_channels_first(arrays["x"]))
        self.model = _model(json.loads(str(arrays["layers"])), arrays).eval()
        with torch.no_grad():
            logits = self.model(self.x).numpy()
        versions = {"torch": version("torch"), "auto_LiRPA": auto_LiRPA.__version__, "neuralsat": version("neuralsat")}
        return {"versions": versions, "logits": logits.tolist()}

    def prepare(self, norm: str, eps: float, method: str, rows: list) -> dict[str, float]:
        self.norm, self.eps, self.method = NORMS[norm], eps, method
        self.rows = torch.tensor(rows, dtype=torch.float32)
        start = time.perf_counter()
        self.bounded = auto_LiRPA.BoundedModule(self.model, torch.empty_like(self.x), verbose=False)
        self._pass()
        return {"seconds": time.perf_counter() - start}

    def run(self) -> dict[str, float]:
        start = time.perf_counter()
        self._pass()
        return {"seconds": time.perf_counter() - start}

    def margins(self) -> dict[str, list]:
        return {"margins": self.lower.tolist()}

    def _pass(self) -> None:
        ball = auto_LiRPA.PerturbationLpNorm(norm=self.norm, eps=self.eps)
        x = auto_LiRPA.BoundedTensor(self.x, ball)
        with torch.no_grad():
            lower, _ = self.bounded.compute_bounds(x=(x,), C=self.rows, method=self.method, bound_upper=False)
        self.lower = lower.numpy()


def _model(layers: list[dict[str, Any]], arrays: Any) -> nn.Sequential:
    """The network in PyTorch: images channels first, weights reordered so that no transposition is left in it."""
    modules: list[nn.Module] = []
    image: list[int] | None = None  # [height, width, channels] of what a Flatten met
    for number, layer in enumerate(layers):
        kernel, bias = (torch.from_numpy(arrays[f"{part}{number}"]) if layer["weights"] else None for part in "kb")
        match layer["kind"]:
            case "relu":
                modules.append(nn.ReLU())
            case "flatten":
                modules.append(nn.Flatten())
                image = layer["shape"] if len(layer["shape"]) == 3 else None
            case "conv":
                modules.append(nn.Conv2d(kernel.shape[2], kernel.shape[3], kernel.shape[:2], tuple(layer["strides"])))
                _fill(modules[-1], kernel.permute(3, 2, 0, 1), bias)
            case "dense":
                if image is not None:  # Keras flattens height, width, channels; PyTorch channels, height, width
                    kernel = kernel.reshape(*image, -1).permute(2, 0, 1, 3).reshape(kernel.shape)
                    image = None
                modules.append(nn.Linear(*kernel.shape))
                _fill(modules[-1], kernel.T, bias)
            case other:
                raise ValueError(f"no layer {other!r} here")
    return nn.Sequential(*modules)


def _fill(module: nn.Module, weight: torch.Tensor, bias: torch.Tensor) -> None:
    with torch.no_grad():
        module.weight.copy_(weight)
        module.bias.copy_(bias)


def _channels_first(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def main() -> None:
    """Answers requests until standard input ends; whatever libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(worker, request.pop("do"))(**request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
