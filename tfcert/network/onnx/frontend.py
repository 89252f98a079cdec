"""The frontend of ONNX models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfcert.network.errors import ModelLoadError
from tfcert.network.frontend import Frontend, ModelState
from tfcert.network.graph import Network
from tfcert.network.onnx.graph import from_onnx
from tfcert.network.onnx.model import OnnxModel, read_onnx
from tfcert.parts import NamedParts


class OnnxFrontend(Frontend):
    """ONNX models of operators from version 7 on, in ``.onnx`` files; onnxruntime is the program that runs them."""

    def accepts(self, model: Any) -> bool:
        """Tells whether it is an ONNX model that :func:`tfcert.load_model` read."""
        return isinstance(model, OnnxModel)

    def load(self, path: Path, *, compile: bool = False) -> OnnxModel:
        """The model in a file.

        Raises:
            ModelLoadError: it cannot be read, the packages are missing, or it was to be compiled for training.
        """
        if compile:
            raise ModelLoadError(f"{str(path)!r} is an ONNX model, which cannot be trained; load it without compile")
        return read_onnx(path)

    def network(self, model: OnnxModel, x: np.ndarray | None = None) -> Network:
        """The network; arguments and errors as :func:`~tfcert.network.onnx.graph.from_onnx`."""
        return from_onnx(model, x)

    def state(self, model: OnnxModel, x: np.ndarray | None = None) -> ModelState:
        """A model of a file does not change."""
        return ModelState((model.digest,))

    def run(self, model: OnnxModel, x: np.ndarray) -> np.ndarray:
        """The answers ``[batch, outputs]`` of onnxruntime, as one vector a sample."""
        return model.run(x)

    def digest(self, model: OnnxModel, network: Network) -> str:
        """SHA-256 of the model as it is serialised."""
        return model.digest

    def parts(self, model: OnnxModel) -> NamedParts | None:
        """The inputs of a model that takes several arrays a sample; None where it takes one."""
        return model.parts

    def with_output(self, model: OnnxModel, output: str | int) -> OnnxModel:
        """A model with one of several outputs.

        Raises:
            ValueError: there is no such output.
        """
        names = model.outputs
        if output == "all" and output not in names:
            return model.with_outputs(names)
        place = names.index(output) if output in names else output
        if isinstance(place, bool) or not isinstance(place, int) or not -len(names) <= place < len(names):
            raise ValueError(f"{model.name} has no output {output!r}; its outputs are {', '.join(map(repr, names))}")
        return model.with_outputs([names[place]])

    def with_layer(self, model: OnnxModel, layer: str) -> OnnxModel:
        """A model whose outputs are the values that a node computes, or those of that name, flat.

        Raises:
            ValueError: there is no such value, or the node has several.
        """
        return model.with_outputs([model.value_of(layer)])


ONNX = OnnxFrontend()
