"""auto_LiRPA's side of a comparison: a process of its own that answers requests on standard input.

Runs in the peers' environment (PyTorch, no TensorFlow). A request is one line of JSON, the answer is one line of JSON:

- ``load``: build the network from an exported file (``export.py``); answers library versions.
- ``prepare``: a perturbation and rows to bound; answers what it took until the first pass was done, the peak memory
  meanwhile, and the memory that was held before.
- ``run``: one more pass; answers what it took (``usage.used``).
- ``margins``: the lower bounds of the last pass.
- ``logits``: of the network at ``x``.
- ``search``: certified radii of the images; answers what it took.
- ``train``: steps of certified training; answers what they took.
- ``peak``: FLOPs per second of the fastest of several square float32 matrix products.

Images and kernels are turned by 180 degrees. Where an odd number of pixels is missing, TensorFlow pads one more at the
end, PyTorch as many at the start; turned, that is the same (the stride leaves out the last), without a padding layer,
which this version of auto_LiRPA does not take.

Where memory runs out, the answer is ``{"out_of_memory": ...}`` with what was asked for.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from src.abstractor import auto_LiRPA
from torch import nn

# last: no module here may hide one of the libraries'
sys.path += [str(Path(__file__).parents[1] / "common"), str(Path(__file__).parent)]
import torch_kinds as kinds
from usage import peak_mib, used

NORMS = {"linf": np.inf, "l2": 2, "l1": 1}


class Worker:
    """Holds one network and one question about it."""

    def load(self, path: str, threads: int, memory_gib: float, device: str) -> dict[str, Any]:
        if device == "cpu":
            limit = int(memory_gib * 2**30)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        torch.set_num_threads(threads)
        arrays = np.load(path)
        self.x = torch.from_numpy(_turned(arrays["x"])).to(device)
        self.model = Graph(json.loads(str(arrays["nodes"])), arrays).eval().to(device)
        versions = {"torch": version("torch"), "auto_LiRPA": auto_LiRPA.__version__, "neuralsat": version("neuralsat")}
        return {"versions": versions}

    def prepare(self, norm: str, eps: float, method: str, rows: list, options: dict[str, Any]) -> dict[str, float]:
        self.norm, self.eps, self.method = NORMS[norm], eps, method
        self.rows = torch.tensor(rows, dtype=torch.float32, device=self.x.device)

        def first() -> None:
            example = torch.empty_like(self.x)
            self.bounded = auto_LiRPA.BoundedModule(
                self.model, example, bound_opts=options, verbose=False, device=self.x.device
            )
            self._pass()

        held = peak_mib(lambda: None)[1]
        taken, peak = peak_mib(lambda: used(first))
        return taken | {"peak_mib": peak, "held_mib": held}

    def run(self) -> dict[str, float]:
        return used(self._pass)

    def logits(self) -> dict[str, list]:
        with torch.no_grad():
            return {"logits": self.model(self.x).cpu().numpy().tolist()}

    def peak(self, size: int, passes: int) -> dict[str, float]:
        left, right = torch.rand(2, size, size)
        seconds = []
        for _ in range(passes + 1):
            start = time.perf_counter()
            torch.mm(left, right)
            seconds.append(time.perf_counter() - start)
        return {"flops": 2.0 * size**3 / min(seconds[1:])}

    def margins(self) -> dict[str, list]:
        return {"margins": self.lower.tolist()}

    def search(self, lower: float, upper: float, tolerance: float) -> dict[str, float]:
        """Bisects the radius of L-infinity balls of every image, until all are known to a relative tolerance."""
        return used(lambda: self._bisect(lower, upper, tolerance))

    def train(self, eps: float, method: str, steps: int) -> dict[str, float]:
        """Steps of Adam on the cross entropy of the bounds; answers what they took after one that warms up."""
        optimizer = torch.optim.Adam(self.bounded.parameters())
        wanted = torch.zeros(len(self.rows), dtype=torch.long, device=self.x.device)

        def step() -> None:
            x = auto_LiRPA.BoundedTensor(self.x, auto_LiRPA.PerturbationLpNorm(norm=np.inf, eps=eps))
            lower, _ = self.bounded.compute_bounds(x=(x,), C=self.rows, method=method, bound_upper=False)
            logits = torch.cat(
                [torch.zeros_like(lower[:, :1]), -lower], dim=1
            )  # of the label 0, of others at most this
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, wanted).backward()
            optimizer.step()
            optimizer.param_groups[0]["params"][0].sum().item()  # waits for the device

        step()
        return used(lambda: [step() for _ in range(steps)])

    def _bisect(self, lower: float, upper: float, tolerance: float) -> None:
        low, high = (torch.full(self.x.shape[:1], end, device=self.x.device) for end in (lower, upper))
        while (high / low).max() > 1 + tolerance:
            middle = (low * high).sqrt()
            eps = middle.reshape(-1, *[1] * (self.x.ndim - 1))
            ball = auto_LiRPA.PerturbationLpNorm(norm=np.inf, x_L=self.x - eps, x_U=self.x + eps)
            safe = torch.from_numpy(self._bounds(ball)).to(self.x.device).amin(dim=1) > 0
            low, high = torch.where(safe, middle, low), torch.where(safe, high, middle)

    def _pass(self) -> None:
        self.lower = self._bounds(auto_LiRPA.PerturbationLpNorm(norm=self.norm, eps=self.eps))

    def _bounds(self, ball: Any) -> np.ndarray:
        x = auto_LiRPA.BoundedTensor(self.x, ball)
        with torch.set_grad_enabled(self.method == "alpha-crown"):
            lower, _ = self.bounded.compute_bounds(x=(x,), C=self.rows, method=self.method, bound_upper=False)
        return lower.detach().cpu().numpy()


class Graph(nn.Module):
    """An exported network: images turned, channels first; no transposition is left, only reordered weights."""

    def __init__(self, nodes: list[dict[str, Any]], arrays: Any):
        super().__init__()
        self.sources = [node["inputs"] for node in nodes]
        flattened = {number: node["shape"] for number, node in enumerate(nodes, start=1) if node["kind"] == "flatten"}
        self.steps = nn.ModuleList()
        for number, node in enumerate(nodes, start=1):
            prefix = f"{number}."
            names = [name for name in arrays.files if name.startswith(prefix)]
            weights = {name.removeprefix(prefix): torch.from_numpy(arrays[name]) for name in names}
            self.steps.append(_step(node, weights, flattened.get(node["inputs"][0])))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [x]
        for step, sources in zip(self.steps, self.sources, strict=True):
            values.append(step(*(values[i] for i in sources)))
        return values[-1]


class Add(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left + right


class Arctan(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.arctan(x)


WITHOUT_OPTIONS = {
    "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "arctan": Arctan, "add": Add, "flatten": nn.Flatten,
    "multiply": kinds.Multiply, "mean": kinds.Mean, "as_channels": kinds.AsChannels,
}  # fmt: skip
WITH_WEIGHTS = {
    "attention": kinds.Attention, "layer_normalisation": kinds.LayerNormalisation, "lstm": kinds.LongShortTermMemory,
}  # fmt: skip
POOLS = {"max_pool": nn.MaxPool2d, "average_pool": nn.AvgPool2d}


def _step(node: dict[str, Any], weights: dict[str, torch.Tensor], image: list[int] | None) -> nn.Module:
    """One node; ``image`` is the shape of what was flattened to be its input, if that is what happened."""
    match node["kind"]:
        case kind if kind in WITHOUT_OPTIONS:
            return WITHOUT_OPTIONS[kind]()
        case kind if kind in POOLS:
            return POOLS[kind](tuple(node["window"]), tuple(node["strides"]))
        case "dense":
            return _dense(weights, image)
        case "convolution":
            return _convolution(node, weights)
        case kind if kind in WITH_WEIGHTS:
            return WITH_WEIGHTS[kind](node, weights)
        case "batch_normalisation":
            return _batch_normalisation(node, weights)
    raise ValueError(f"no rule for a node {node['kind']!r} here")


def _dense(weights: dict[str, torch.Tensor], image: list[int] | None) -> nn.Linear:
    kernel = weights["kernel"]
    if image is not None and len(image) == 3:  # Keras flattens height, width, channels; PyTorch channels first
        kernel = kernel.reshape(*image, -1).flip(0, 1).permute(2, 0, 1, 3).reshape(kernel.shape)
    module = nn.Linear(*kernel.shape)
    _fill(module, weight=kernel.T, bias=weights["bias"])
    return module


def _convolution(node: dict[str, Any], weights: dict[str, torch.Tensor]) -> nn.Conv2d:
    kernel = weights["kernel"].flip(0, 1).permute(3, 2, 0, 1)
    pads = [after for _, after in node["pads"]]
    module = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2:], tuple(node["strides"]), padding=pads)
    _fill(module, weight=kernel, bias=weights["bias"])
    return module


def _batch_normalisation(node: dict[str, Any], weights: dict[str, torch.Tensor]) -> nn.BatchNorm2d:
    module = nn.BatchNorm2d(len(weights["mean"]), eps=node["epsilon"])
    values = {"weight": weights["scale"], "running_mean": weights["mean"], "running_var": weights["variance"]}
    _fill(module, bias=weights["bias"], **values)
    return module


def _fill(module: nn.Module, **values: torch.Tensor) -> None:
    with torch.no_grad():
        for name, value in values.items():
            getattr(module, name).copy_(value)


def _turned(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x[:, ::-1, ::-1].transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def _answer(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return getattr(worker, request.pop("do"))(**request)
    except MemoryError as error:
        return {"out_of_memory": str(error) or "an allocation was refused"}
    except RuntimeError as error:  # what PyTorch raises
        allocator = "DefaultCPUAllocator: "
        if allocator not in str(error):
            raise
        return {"out_of_memory": str(error).partition(allocator)[2]}


def main() -> None:
    """Answers requests until standard input ends; whatever libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        print(json.dumps(_answer(worker, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
