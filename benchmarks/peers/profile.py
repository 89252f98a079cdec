"""Where the time of a computation goes, by kind of operation, from TensorFlow's own profiler."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

PRODUCTS, FUSED, PICKING, ELEMENTWISE = "products with weights", "fused kernels", "picking rows", "other operations"
_FUSED_EVENT = "CpuExecutable::ExecuteAsyncOnStream"
"""One event of a compiled kernel, whatever was fused into it."""
_CONTAINERS = {"If", "StatelessIf", "While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall"}
"""Operations that run others, which have events of their own."""
_COMPILED = {"XlaLaunch", "_XlaRun", "_XlaCompile", "XlaLocalLaunchBase"}


def seconds_by_kind(run: Callable[[], Any]) -> dict[str, float]:
    """Runs something once under the profiler; seconds of all threads together, by kind."""
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        run()
        tf.profiler.experimental.stop()
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace()
        space.ParseFromString(file.read_bytes())
    found: Counter[str] = Counter()
    for plane in space.planes:
        names = {number: entry.name for number, entry in plane.event_metadata.items()}
        for event in (event for line in plane.lines for event in line.events):
            if kind := _kind(names[event.metadata_id]):
                found[kind] += event.duration_ps / 1e12
    return dict(found)


def _kind(event: str) -> str | None:
    """What an event is counted as; None for frames around others."""
    if event == _FUSED_EVENT:
        return FUSED
    _, found, operation = event.rpartition(":")
    if not found or operation in _CONTAINERS | _COMPILED or not operation.lstrip("_")[:1].isupper() or "::" in event:
        return None
    if "MatMul" in operation or "Conv2D" in operation or operation == "Einsum":
        return PRODUCTS
    return PICKING if operation.startswith(("Gather", "Where", "Scatter", "TensorScatter")) else ELEMENTWISE
