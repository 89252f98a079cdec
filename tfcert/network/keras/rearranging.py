"""Converters of operations that move, copy and drop numbers: what they do is read off Keras's own by moving numbers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfcert.network.builder import Builder, Tensor
from tfcert.network.keras.graph import Arguments, converter
from tfcert.network.keras.private import core_operations, image_operations, nn_operations, rearranging
from tfcert.network.keras.private import numpy_operations as ops

_SAMPLES = 3
"""How many samples are moved: an operation must treat each alike and leave it to itself."""


@converter(
    ops.ArraySplit,
    ops.BroadcastTo,
    ops.Copy,
    ops.Diagonal,
    ops.Dsplit,
    ops.ExpandDims,
    ops.Flip,
    ops.Fliplr,
    ops.Flipud,
    ops.GetItem,
    ops.Hsplit,
    ops.Moveaxis,
    ops.Pad,
    ops.Ravel,
    ops.Repeat,
    ops.Roll,
    ops.Rot90,
    ops.Split,
    ops.Squeeze,
    ops.Swapaxes,
    ops.Take,
    ops.Tile,
    ops.Transpose,
    ops.Tril,
    ops.Triu,
    core_operations.ConvertToTensor,
    core_operations.Slice,
    core_operations.StopGradient,
    core_operations.Unstack,
    nn_operations.DepthToSpace,
    nn_operations.SpaceToDepth,
    nn_operations.Unfold,
    image_operations.CropImages,
    image_operations.PadImages,
    rearranging.Rearrange,
    named=True,
)
def moved(operation: Any, builder: Builder, given: Arguments) -> Tensor | list[Tensor]:
    """Numbers where Keras moves them; what is the same whatever the input is, a border say, is added."""
    tensors = [leaf for leaf in keras.tree.flatten(given) if isinstance(leaf, Tensor)]
    if len(tensors) != 1:
        raise builder.refuse("takes several tensors, or is told by one where to read another; constants say where")
    (x,) = tensors
    refuse_cut_batch(operation, builder, given)
    size = int(np.prod(x.shape))
    numbered = np.arange(1, _SAMPLES * size + 1, dtype=np.float64).reshape(_SAMPLES, *x.shape)
    moving = keras.tree.map_structure(
        lambda leaf: keras.ops.convert_to_tensor(numbered) if isinstance(leaf, Tensor) else leaf, dict(given)
    )
    try:
        found = keras.tree.flatten(operation.call(**moving))
    except Exception as error:
        raise builder.refuse(f"cannot be run on {_SAMPLES} samples of shape {x.shape}: {error}") from error
    parts = ["" if len(found) == 1 else f"piece{i}" for i in range(len(found))]
    outputs = [_place(builder, x, np.asarray(value), part) for value, part in zip(found, parts, strict=True)]
    return outputs[0] if len(outputs) == 1 else outputs


def _place(builder: Builder, x: Tensor, found: np.ndarray, part: str) -> Tensor:
    """The tensor whose numbers are those of ``x`` that ``found`` ``[samples, *shape]`` shows."""
    size = int(np.prod(x.shape))
    if found.shape[:1] != (_SAMPLES,) or not found.size:
        raise builder.refuse(f"changes the batch, or leaves nothing: {_SAMPLES} samples become {found.shape}")
    same = (found == found[0]).all(axis=0)
    index = np.where(same, -1, found[0] - 1)
    own = found - size * np.arange(_SAMPLES).reshape(-1, *[1] * (found.ndim - 1))
    if not (same | ((own == own[0]).all(axis=0) & (index >= 0) & (index < size))).all():
        raise builder.refuse("moves numbers from one sample to another; name axes from 1 on")
    border = np.where(same, found[0], 0.0)
    if not border.any():
        return builder.index(x, index.astype(np.int64), part=part)
    moves = builder.index(x, index.astype(np.int64), part=f"{part}moved")
    return builder.scale(moves, builder.constant(1.0), builder.constant(border), part=part)


def refuse_cut_batch(operation: Any, builder: Builder, given: Arguments) -> None:
    """Refuses slices of the batch that would leave as few samples as are moved here as they are."""
    if not isinstance(operation, ops.GetItem):
        return
    key = given["key"] if isinstance(given["key"], tuple) else (given["key"],)
    first = key[0] if key else Ellipsis
    if not (first is Ellipsis or (isinstance(first, slice) and first == slice(None))):
        raise builder.refuse("indexes the batch: write x[:, 2:5]")


@converter(core_operations.Cast, core_operations.SaturateCast)
def cast(operation: Any, builder: Builder, inputs: list[Tensor]) -> Tensor:
    return inputs[0]  # of an input of integers or booleans, or to the type that it has: another is refused before
