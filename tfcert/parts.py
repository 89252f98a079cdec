"""Several arrays a sample as one vector: which numbers of the vector belong to which array.

A model with several inputs is one function of a flat vector, its inputs side by side in the order in which the model
declares them; so are its outputs, where all are asked about at once. Users name the arrays, or give them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Part:
    """One array of the vector.

    Attributes:
        name: what users call it.
        shape: without the batch.
        start: its first place in the vector.
        dtype: what the model receives; of the integers and booleans, which change in steps, none may be perturbed.
        layer: the Keras layer that it comes from, which is another name for it.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    dtype: str = "float32"
    layer: str = ""

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def stop(self) -> int:
        return self.start + self.size

    @property
    def in_steps(self) -> bool:
        """Tells whether it holds integers or booleans."""
        return not self.dtype.startswith(("float", "bfloat"))


@dataclass(frozen=True)
class NamedParts(Sequence[Part]):
    """The arrays of a vector, in order."""

    parts: tuple[Part, ...]

    @classmethod
    def of(
        cls, shapes: Sequence[tuple[str, tuple[int, ...]]], dtypes: Sequence[str] = (), layers: Sequence[str] = ()
    ) -> NamedParts:
        """Arrays of these names and shapes, one after the other."""
        ends = list(accumulate(int(np.prod(shape)) for _, shape in shapes))
        starts = [0, *ends[:-1]]
        dtypes, layers = list(dtypes) or ["float32"] * len(shapes), list(layers) or [""] * len(shapes)
        made = [
            Part(name, tuple(shape), start, dtype, layer)
            for (name, shape), start, dtype, layer in zip(shapes, starts, dtypes, layers, strict=True)
        ]
        return cls(tuple(made))

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)

    def __getitem__(self, place: Any) -> Any:
        return self.parts[place]

    def __str__(self) -> str:
        return ", ".join(f"{part.name!r} {part.shape}" for part in self.parts)

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def names(self) -> list[str]:
        return [part.name for part in self.parts]

    def find(self, name: str) -> Part:
        """The part of a name.

        Raises:
            ValueError: there is none; says which there are.
        """
        for part in self.parts:
            if name in (part.name, part.layer):
                return part
        raise ValueError(f"there is no {name!r} among the inputs {self}")

    def leaves(self, value: Any, what: str = "x", default: Any = None) -> list[Any]:
        """What a structure says of each part: a dictionary by names, or a list in order.

        Args:
            value: the structure, nested ones included.
            what: its name in an error.
            default: what is taken for a part that a dictionary does not name; None: it has to name all.

        Raises:
            ValueError: parts are missing, unknown or too many.
        """
        if isinstance(value, Mapping) and not any(isinstance(leaf, Mapping) for leaf in value.values()):
            given = {str(key): leaf for key, leaf in value.items()}
            missing = [p.name for p in self.parts if not {p.name, p.layer} & set(given)]
            unknown = any(not any(key in (p.name, p.layer) for p in self.parts) for key in given)
            if unknown or (missing and default is None):
                raise ValueError(
                    f"{what} names {', '.join(map(repr, given)) or 'none'}; the model's inputs are {self}"
                    + (f" (missing: {', '.join(map(repr, missing))})" if missing else "")
                )
            return [given.get(part.name, given.get(part.layer, default)) for part in self.parts]
        entries = [value] if isinstance(value, Mapping) else value
        found = [leaf for entry in entries for leaf in flattened(entry)]
        if len(found) != len(self.parts):
            raise ValueError(f"{what} holds {len(found)} arrays; the model's {len(self.parts)} inputs are {self}")
        return found

    def join(self, value: Any, read: Callable[[Any], np.ndarray] = np.asarray) -> np.ndarray:
        """The vectors ``[n, size]`` of arrays ``[n, *shape]``; an array of vectors is what it was.

        Args:
            value: a dictionary or list of arrays, or an array ``[n, size]``.
            read: makes an array of each leaf.

        Raises:
            ValueError: arrays that do not fit the parts.
        """
        if not isinstance(value, Mapping | list | tuple):
            whole = read(value)
            if whole.ndim != 2 or whole.shape[1] != self.size:
                raise ValueError(
                    f"x is one array of shape {whole.shape}; the model's {len(self)} inputs are {self}: pass a "
                    "dictionary by these names, or a list in this order"
                )
            return whole
        arrays = [read(leaf) for leaf in self.leaves(value)]
        for part, array in zip(self.parts, arrays, strict=True):
            if array.shape[1:] != part.shape or array.ndim == 0:
                raise ValueError(f"x[{part.name!r}] has shape {array.shape}; the model takes [n, *{part.shape}]")
        counts = {part.name: len(array) for part, array in zip(self.parts, arrays, strict=True)}
        if len(set(counts.values())) > 1:
            raise ValueError(f"the inputs have different numbers of samples: {counts}")
        for part, array in zip(self.parts, arrays, strict=True):
            if part.in_steps and not (array == np.round(array)).all():
                raise ValueError(f"x[{part.name!r}] holds fractions; the model takes {part.dtype} there")
        count = len(arrays[0])
        exact = [array for array in arrays if array.dtype.kind == "f"] or arrays
        dtype = np.result_type(*exact)
        return np.concatenate([array.reshape(count, -1).astype(dtype) for array in arrays], axis=1)

    def split(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays ``[..., *shape]`` of vectors ``[..., size]``, by name."""
        return {part.name: self.of_part(flat, part) for part in self.parts}

    def of_part(self, flat: Any, part: Part) -> Any:
        """One array of vectors."""
        return flat[..., part.start : part.stop].reshape(*flat.shape[:-1], *part.shape)

    def place(self, index: int) -> str:
        """What users call a number of the vector: ``image[0, 3, 1]``."""
        part = next(p for p in self.parts if index < p.stop)
        inside = np.unravel_index(index - part.start, part.shape) if part.shape else ()
        return f"{part.name}[{', '.join(str(int(i)) for i in inside)}]"


def flattened(value: Any) -> Iterator[Any]:
    """The leaves of a structure as Keras orders them: dictionaries by their sorted keys, lists as they are."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from flattened(value[key])
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) or hasattr(v, "shape") for v in value):
        for entry in value:
            yield from flattened(entry)
    else:
        yield value


def parts_of(x: Any) -> NamedParts | None:
    """The arrays of a dictionary, or of a list of arrays of several shapes, as parts of a vector; None for an array.

    Parts of a list have their places for names.
    """
    if isinstance(x, Mapping):
        names, arrays = list(map(str, x)), list(x.values())
    elif isinstance(x, list | tuple) and len(x) > 1 and all(hasattr(leaf, "shape") and np.ndim(leaf) > 1 for leaf in x):
        names, arrays = list(map(str, range(len(x)))), list(x)
    else:
        return None
    return NamedParts.of([(name, np.shape(array)[1:]) for name, array in zip(names, arrays, strict=True)])
