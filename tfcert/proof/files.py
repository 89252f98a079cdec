"""Reading of files that nobody vouches for: ``.npz`` without pickles, JSON, ``.keras`` archives, HDF5 weights.

Sizes are looked at before anything is unpacked, and never more is unpacked than the limits say, so that a small file
cannot fill the memory.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import ProofError

LARGEST_CERTIFICATE = 1 << 29
"""Bytes that a certificate may unpack to."""
LARGEST_MODEL = 1 << 32
"""Bytes that a model's archive may unpack to."""
_LARGEST_ARRAY = 1 << 28
_LARGEST_HEAD = 1 << 22
_MEMBERS = 4096
_DTYPES = ("|u1", "|b1", "<f4", "<f8", "<i4", "<i8")


def archive(path: Path, limit: int) -> dict[str, Callable[[], bytes]]:
    """Readers of a zip's members by their names; what they unpack to is at most ``limit`` bytes in all.

    Raises:
        ProofError: it is no such archive, has a name twice, or unpacks to more.
    """
    try:
        with zipfile.ZipFile(path) as opened:
            members = opened.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise ProofError(f"{path} is no zip archive that can be read: {error}") from None
    names = [member.filename for member in members]
    if len(set(names)) < len(names) or len(names) > _MEMBERS:
        raise ProofError(f"{path} holds a name twice, or more than {_MEMBERS} members")
    if sum(member.file_size for member in members) > limit:
        raise ProofError(f"{path} unpacks to more than {limit} bytes")

    def reader(member: zipfile.ZipInfo) -> Callable[[], bytes]:
        def read() -> bytes:
            try:
                with zipfile.ZipFile(path) as opened, opened.open(member) as stream:
                    found = stream.read(member.file_size + 1)
            except Exception as error:  # a decompressor has kinds of errors of its own
                raise ProofError(f"{path}: {member.filename!r} cannot be unpacked: {error}") from None
            if len(found) != member.file_size:
                raise ProofError(f"{path}: {member.filename!r} is not of the size that the archive states")
            return found

        return read

    return {member.filename: reader(member) for member in members}


def parsed_json(text: bytes, what: str) -> dict[str, Any]:
    """The object that a JSON text holds: no name twice, no NaN or infinity, at most so deep.

    Raises:
        ProofError: it is none, or too large.
    """
    if len(text) > _LARGEST_HEAD:
        raise ProofError(f"{what} has {len(text)} bytes: too many")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ProofError(f"{what} says something twice")
        return found

    def constant(name: str) -> Any:
        raise ProofError(f"{what} holds {name}, which is no number")

    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=once, parse_constant=constant)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError) as error:
        raise error if isinstance(error, ProofError) else ProofError(f"{what} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ProofError(f"{what} is no JSON object")
    return found


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``, read-only, by their names; nothing is unpickled.

    Raises:
        ProofError: it is none, an array has a type other than the plain ones, or is not as long as it says.
    """
    return {
        name.removesuffix(".npy"): _array(read(), f"{path}: {name!r}")
        for name, read in archive(path, LARGEST_CERTIFICATE).items()
    }


def _array(content: bytes, what: str) -> np.ndarray:
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(stream)
    except Exception as error:
        raise ProofError(f"{what} is no array: {error}") from None
    if dtype.str not in _DTYPES or fortran:
        raise ProofError(f"{what} has type {dtype.str}, or columns first")
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ProofError(f"{what} is not as long as its shape {shape} says")
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape)


class Weights:
    """The arrays of a Keras weights file, by the names of layers.

    Keras finds a layer's arrays by a path made of its class and a count. The file also notes the layer's name beside
    them. Both have to agree here, so that no array can be taken for another layer's.
    """

    def __init__(self, content: bytes, what: str):
        self._what = what
        try:
            self._file = h5py.File(io.BytesIO(content), "r")
        except (OSError, ValueError, RuntimeError) as error:
            raise ProofError(f"{what} is no HDF5 file: {error}") from None

    def of(self, place: str, name: str, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        """The arrays of a layer, in order.

        Args:
            place: where Keras looks: ``dense_1``.
            name: the layer's own.
            shapes: those that the layer's options ask for: nothing else is read.

        Raises:
            ProofError: there are none, or they are noted as another layer's, or stored elsewhere.
        """
        group: Any = self._file
        try:
            for part in ("layers", place, "vars"):
                group = self._child(group, part)
            noted = group.attrs.get("name")
            count = len(group)
        except (OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:
            raise ProofError(f"{self._what}: weights of layer {name!r} cannot be read: {error}") from None
        noted = noted.decode() if isinstance(noted, bytes) else noted
        if noted != name:
            raise ProofError(f"{self._what}: weights in layers/{place} are noted as those of {noted!r}, not {name!r}")
        if count != len(shapes):
            raise ProofError(f"{self._what}: layer {name!r} has {count} arrays, and its options ask for {len(shapes)}")
        return [self._read(group, str(number), name, shape) for number, shape in enumerate(shapes)]

    def _child(self, group: Any, part: str) -> Any:
        if part not in group or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ProofError(f"{self._what} has no {part!r} of its own in {group.name}")
        return group[part]

    def _read(self, group: Any, part: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
        data = self._child(group, part)
        if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
            raise ProofError(f"{self._what}: array {part} of layer {name!r} is none, or is stored in another file")
        if data.dtype not in (np.dtype("<f4"), np.dtype("<f8")) or data.shape != shape or data.size > _LARGEST_ARRAY:
            has = f"type {data.dtype} and shape {data.shape}"
            raise ProofError(f"{self._what}: array {part} of layer {name!r} has {has}, not {shape}")
        try:
            found = np.asarray(data[()])
        except (OSError, ValueError, RuntimeError) as error:
            raise ProofError(f"{self._what}: array {part} of layer {name!r} cannot be read: {error}") from None
        if not np.isfinite(found).all():
            raise ProofError(f"{self._what}: a weight of layer {name!r} is NaN or infinite")
        return found
