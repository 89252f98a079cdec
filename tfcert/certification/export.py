"""A compiled bound pass as a file: HLO, its arguments and what it must answer, to be run where TensorFlow is not.

The file is an ``.npz`` without pickles, for ``benchmarks/run_hlo.py`` or any other client of XLA:

- ``hlo``: bytes of a serialised ``HloModuleProto`` that returns ``(bounds [batch, rows], finite [])``;
- ``argument_000``, ...: its parameters in order: centre, lower and upper ends ``[batch, *input]`` and eps ``[batch]``
  of the perturbation, C ``[batch, rows, outputs]``, d ``[batch, rows]``, then the network's weights and constants;
- ``expected_bounds``, ``expected_finite``: what TensorFlow's XLA computed on the device of the export;
- ``metadata``: JSON text with versions, method, relaxation, norm, shapes, the guarantee of the bounds where they are
  computed as here, and the precision of products.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.catalog import method_name, with_fallback
from tfcert.network import Network
from tfcert.network.cache import ModelOrNetwork, network_of
from tfcert.options import BoundOptions
from tfcert.propagation.engine import full_precision, prepared_bounds
from tfcert.propagation.question import target_clauses
from tfcert.propagation.supported import guarantee_of
from tfcert.sets.balls import Perturbation
from tfcert.sets.fitting import fitted
from tfcert.tracing import traced

FORMAT = 1
_PACKAGES = ("tfcert", "tensorflow", "numpy")


@dataclass(frozen=True, eq=False)
class ExportedPass:
    """One bound pass, whole-pass compiled for its batch size.

    Attributes:
        hlo: a serialised ``HloModuleProto``.
        arguments: its parameters in order; the weights are copies, not live.
        bounds: ``[batch, rows]``, what it answered here.
        finite: whether all weights are finite; where they are not, the bounds mean nothing.
        metadata: plain JSON data.
    """

    hlo: bytes
    arguments: tuple[np.ndarray, ...]
    bounds: np.ndarray
    finite: bool
    metadata: dict[str, Any]

    def save(self, path: str | Path) -> None:
        """Writes the ``.npz`` that the module describes."""
        numbered = {f"argument_{i:03d}": value for i, value in enumerate(self.arguments)}
        with Path(path).open("wb") as file:
            np.savez_compressed(
                file,
                allow_pickle=False,
                hlo=np.frombuffer(self.hlo, np.uint8),
                expected_bounds=self.bounds,
                expected_finite=np.array(self.finite),
                metadata=np.array(json.dumps(self.metadata)),
                **numbered,
            )


def export_hlo(
    model: ModelOrNetwork,
    perturbation: Perturbation,
    y: Any,
    *,
    method: str = "crown",
    relaxation: str | None = None,
    fallback: str | None = None,
    targets: Any = "all",
    options: BoundOptions | None = None,
) -> ExportedPass:
    """Compiles the pass that bounds ``f_y - f_j`` from below and serialises it with everything it needs.

    Args:
        model: a Keras model or a network.
        perturbation: one set a sample, ``[batch, *input]``; the pass is compiled for this batch size.
        y: labels, ``[batch]`` integers; or the rows C themselves, ``[batch, rows, outputs]`` floats; of a
            model that ends in a softmax they are about its logits.
        relaxation, fallback: as for :func:`tfcert.bounds`.
        targets: with labels, the classes j as for :func:`tfcert.certify`.
        options: memory, iterations, learning rate; ``jit`` is True whatever it says.

    Returns:
        The pass. Its products are marked for the highest precision: no TF32, wherever it runs.

    Raises:
        ValueError: as for :func:`tfcert.certify`, a batch that does not fit ``memory_mb`` in one pass, weights that are
            not finite, or a product that the compiler left at a lower precision.
    """
    network, method = network_of(model, perturbation.lower), method_name(method)
    perturbation = fitted(perturbation, network.parts, network.input_shape)
    relaxation = with_fallback(relaxation, fallback)
    given = np.asarray(y)
    rows = given if given.ndim == 3 else target_clauses(network, perturbation, given, targets).rows()[0]
    options = replace(options or BoundOptions(), jit=True)
    question = prepared_bounds(
        network, perturbation, rows, np.zeros(rows.shape[:2]), method=method, relaxation=relaxation, options=options
    )
    if not 0 < len(perturbation) <= question.limit:
        raise ValueError(
            f"{len(perturbation)} samples: one pass takes 1 to {question.limit} within {options.memory_mb} MiB"
        )
    signature = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in question.arguments]
    run = traced(
        lambda *arguments: question.compiled.function(*arguments)[:2], input_signature=signature, jit_compile=True
    )
    with full_precision():
        bounds, finite = run(*question.arguments)
        compiler_ir = run.experimental_get_compiler_ir(*question.arguments)
        text, hlo = compiler_ir(stage="hlo"), compiler_ir(stage="hlo_serialized")
        captured = run.get_concrete_function().captured_inputs
    if not finite:
        raise ValueError("a weight of the model is NaN or infinite: nothing can be certified")
    arguments = tuple(tensor.numpy() for tensor in [*question.arguments, *map(_value, captured)])
    _require_same_parameters(text, arguments)
    metadata = _metadata(network, perturbation, rows, method, relaxation or "adaptive") | {
        "guarantee": str(guarantee_of(network, method, relaxation, options)),
        "iterations": options.iterations,
        "learning_rate": options.learning_rate,
        "products": _products_at_highest(text),
        "precision": "highest",
    }
    return ExportedPass(hlo, arguments, bounds.numpy(), bool(finite), metadata)


def _metadata(
    network: Network, perturbation: Perturbation, rows: np.ndarray, method: str, relaxation: str
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "versions": {name: version(name) for name in _PACKAGES},
        "method": method,
        "relaxation": relaxation,
        "norm": perturbation.norm,
        "dtype": network.dtype.name,
        "batch": len(perturbation),
        "rows": int(rows.shape[1]),
        "input_shape": list(network.input_shape),
        "outputs": int(network.output_shape[-1]),
    }


def _value(captured: tf.Tensor) -> tf.Tensor:
    """The value that a traced function has captured: a tensor, or the variable behind a handle."""
    if captured.dtype != tf.resource:
        return captured
    dtype = captured._handle_data.shape_and_type[0].dtype
    return tf.raw_ops.ReadVariableOp(resource=captured, dtype=tf.as_dtype(dtype))


def _require_same_parameters(text: str, arguments: Sequence[np.ndarray]) -> None:
    """Requires that the entry takes the arguments in their order, as far as shapes tell."""
    layout = text.split("entry_computation_layout={(", 1)[1].split(")->", 1)[0]
    shapes = [tuple(int(n) for n in dims.split(",") if n) for dims in re.findall(r"\w+\[([\d,]*)\]", layout)]
    given = [value.shape for value in arguments]
    if shapes != given:
        raise ValueError(f"the compiled pass takes parameters of shapes {shapes}, its captures have {given}")


def _products_at_highest(text: str) -> int:
    """The number of matrix products and convolutions in the pass.

    Raises:
        ValueError: one of them may be computed at less than the highest precision.
    """
    products = [line for line in text.splitlines() if re.search(r" (dot|convolution)\(", line)]
    low = [line.strip() for line in products if "operand_precision={highest,highest}" not in line]
    if low:
        raise ValueError(f"the compiler left {len(low)} of {len(products)} products at a lower precision: {low[0]}")
    return len(products)
