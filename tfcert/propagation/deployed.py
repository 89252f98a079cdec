"""The deployed program: which of its settings compute something else than the model of rounding says.

The model of rounding has each node of a network computed in the network's own type: a weighted sum by any tree of
additions, with fused products or without; a function of one number up to a stated number of units in the last place;
maxima and moves exactly. That leaves out whatever forms other products than the network's weights and values, or holds
them in fewer bits. Models of mixed precision, of float16 and bfloat16 and quantised ones are refused when a network is
made of them; what remains are settings of TensorFlow, which this file looks at:

- Winograd convolutions. TensorFlow's own kernels on CPUs use them for windows of 3 x 3 and steps of 1 where
  ``TF_USE_DEEP_CONV2D`` is set (``core/kernels/deep_conv2d.cc``), and not otherwise. oneDNN, whose kernels TensorFlow
  prefers on x86, is asked for direct convolutions (``core/kernels/mkl/mkl_conv_ops.cc``); on Arm its Compute Library
  has Winograd kernels, which a caller cannot rule out. XLA's convolutions on CPUs are products of matrices (Eigen). No
  kernel for CPUs uses FFT. On GPUs cuDNN chooses, Winograd and FFT among others, and may choose differently each time.
- Fewer bits: TF32 on GPUs, which is the default; oneDNN's math mode, which lets it round operands to bfloat16 or TF32;
  rewriting of graphs to mixed precision.
- XLA's fast math, which also reorders and drops operations beyond sums.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from tfcert.network import Network
from tfcert.network.graph import Linear, Multivariate
from tfcert.network.linear import Convolution, DenseMap
from tfcert.network.volumes import TransposedMap

_EXACT_MODES = ("", "strict", "f32", "0")
_ARM = ("aarch64", "arm64")


@dataclass(frozen=True)
class Departure:
    """Something that takes the deployed program out of the model of rounding.

    Attributes:
        name: the setting, or the device.
        when: what a network has to have for it to matter, in words.
        what: the sentence's end: what is computed otherwise.
        applies: tells whether it is set and matters to a network.
    """

    name: str
    when: str
    what: str
    applies: Callable[[Network], bool]


def _maps(network: Network) -> list[object]:
    return [node.map for node in network.nodes if isinstance(node, Linear)]


def _convolves(network: Network) -> bool:
    return any(isinstance(m, Convolution | TransposedMap) for m in _maps(network))


def _multiplies(network: Network) -> bool:
    """Whether there are products of matrices: linear maps with weights, or what is no function of single numbers."""
    several = any(isinstance(node, Multivariate) for node in network.nodes)
    return several or _convolves(network) or any(isinstance(m, DenseMap) for m in _maps(network))


def _three_by_three(network: Network) -> bool:
    """Whether a convolution in two dimensions has a window of 3 x 3 that moves by 1, in float32."""
    return network.dtype == tf.float32 and any(
        isinstance(m, Convolution) and m.size == (3, 3) and m.strides == (1, 1) for m in _maps(network)
    )


def _set(*names: str) -> bool:
    return any(os.environ.get(name, "0") not in ("", "0") for name in names)


def _fewer_bits_on_cpu(network: Network) -> bool:
    modes = [os.environ.get(name, "").lower() for name in MATH_MODES]
    return _multiplies(network) and any(mode not in _EXACT_MODES for mode in modes)


def _gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def _rewritten() -> bool:
    chosen = tf.config.optimizer.get_experimental_options()
    return any(bool(value) for name, value in chosen.items() if name.startswith("auto_mixed_precision"))


MATH_MODES = ("TF_SET_ONEDNN_FPMATH_MODE", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")
DEPARTURES = (
    Departure(
        "TF_USE_DEEP_CONV2D", "convolutions of 3 x 3 that move by 1, in float32",
        "convolutions are computed by Winograd's algorithm",
        lambda network: _set("TF_USE_DEEP_CONV2D") and _three_by_three(network),
    ),
    Departure(
        "an Arm processor", "convolutions of 3 x 3 that move by 1, in float32",
        "convolutions may be computed by Winograd's algorithm (Arm's Compute Library)",
        lambda network: platform.machine().lower() in _ARM and _three_by_three(network),
    ),
    Departure(
        "a GPU", "convolutions",
        "convolutions may be computed by Winograd's algorithm or by FFT (cuDNN)",
        lambda network: _gpu() and _convolves(network),
    ),
    Departure(
        "TF32", "products of matrices, on a GPU",
        "products keep 10 bits of their operands; tf.config.experimental.enable_tensor_float_32_execution(False)",
        lambda network: _gpu() and tf.config.experimental.tensor_float_32_execution_enabled() and _multiplies(network),
    ),
    Departure(
        " or ".join(MATH_MODES), "products of matrices",
        "oneDNN may round operands to fewer bits",
        _fewer_bits_on_cpu,
    ),
    Departure(
        "auto_mixed_precision", "anything",
        "graphs are rewritten to fewer bits (tf.config.optimizer, TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_...)",
        lambda network: _rewritten(),
    ),
    Departure(
        "XLA_FLAGS=--xla_cpu_enable_fast_math=true", "anything",
        "XLA's fast math changes more than the order of sums",
        lambda network: "xla_cpu_enable_fast_math=true" in os.environ.get("XLA_FLAGS", ""),
    ),
)  # fmt: skip
"""What takes the deployed program out of the model of rounding, as far as this process can see it."""


def not_modelled(network: Network) -> str:
    """What of the deployed program the model of rounding does not cover, in words; "" where it covers everything.

    The settings are those of this process: a deployment elsewhere has to have the same, which no program can tell.
    Not to be asked where TF32 is switched off for bounds alone. Overflow is a matter of bounds: numbers beyond the type
    make them infinite, which proves nothing.
    """
    found = [f"{each.name}: {each.what}" for each in DEPARTURES if each.applies(network)]
    return "; ".join(found)
