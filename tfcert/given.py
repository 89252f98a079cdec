"""Samples, labels, radii and ranges of users, read into plain arrays: one reading for every function.

No TensorFlow: tensors are read through NumPy's protocols, and a ``tf.data.Dataset`` through its own iterator.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.parts import NamedParts

LABELS = "one class a sample, counted from 0: integers [n] or [n, 1], or one-hot rows [n, classes]"
_REAL = "iufb"
"""The kinds of NumPy's types that hold real numbers."""
_DATA_SET = "a tf.data.Dataset must have elements (x, y)"


def label_numbers(y: Any, count: int) -> np.ndarray:
    """Labels ``[count]`` as :func:`class_labels` has them where all are whole; else real numbers, float64.

    Raises:
        ValueError: anything but finite numbers ``[count]`` or ``[count, 1]``, and one-hot rows.
    """
    found = _array(y, f"labels are real numbers, or {LABELS}; these have rows of different lengths")
    real = found.dtype.kind == "f" and found.shape in ((count,), (count, 1))
    if not real or (found == np.round(found)).all():
        return class_labels(y, count)
    if not np.isfinite(found).all():
        raise ValueError(f"the label of sample {int(np.argmin(np.isfinite(found)))} is NaN or infinite")
    return found.reshape(count).astype(np.float64)


def no_classes(labels: np.ndarray, classes: int) -> np.ndarray:
    """The places of labels that are none of so many classes."""
    return np.flatnonzero(~((labels >= 0) & (labels < classes) & (labels == np.round(labels))))


def class_labels(y: Any, count: int, *, classes: int | None = None, what: str = "label") -> np.ndarray:
    """Labels as int64 ``[count]``.

    Args:
        y: integers, truth values or whole floats ``[count]`` or ``[count, 1]``, or one-hot rows ``[count, classes]``.
        count: how many samples there are.
        classes: how many classes there are; None where that is not known.
        what: what one of them is called in an error: ``label`` or ``target``.

    Raises:
        ValueError: anything else, and classes that do not exist; says what to pass.
    """
    if y is None:
        raise ValueError(f"there are no {what}s: pass y, {LABELS}")
    array = _array(y, f"{what}s are {LABELS}; these have rows of different lengths")
    if array.dtype.kind not in _REAL:
        raise ValueError(
            f"{what}s are {LABELS}, not values of type {array.dtype}; names of classes become numbers by "
            "np.unique(names, return_inverse=True)[1]"
        )
    shape = tuple(array.shape)
    if shape in ((count,), (count, 1)):
        labels = array.reshape(count)
    elif len(shape) == 2 and shape[0] == count and shape[1] > 1:
        labels = _from_rows(array, classes, what)
    else:
        raise ValueError(f"{count} samples need {count} {what}s, {LABELS}; these have shape {shape}")
    whole = np.isfinite(labels) & (labels == np.round(labels))
    if not whole.all():
        first = int(np.argmin(whole))
        raise ValueError(
            f"{what}s must be whole numbers (classes), but that of sample {first} is {labels[first]}; a classifier "
            "with one output a class has labels 0, 1, 2 ..."
        )
    found = labels.astype(np.int64)
    if classes is not None and count and not (found.min() >= 0 and found.max() < classes):
        first = int(np.argmax((found < 0) | (found >= classes)))
        raise ValueError(
            f"sample {first} has {what} {found[first]}, which is outside 0..{classes - 1}: {what}s count the model's "
            f"{classes} outputs from 0"
        )
    return found


def _from_rows(rows: np.ndarray, classes: int | None, what: str) -> np.ndarray:
    """The classes of one-hot rows, and of nothing else."""
    if classes is not None and rows.shape[1] != classes:
        raise ValueError(f"{what}s of shape {tuple(rows.shape)} for a model of {classes} outputs: {what}s are {LABELS}")
    one_hot = ((rows == 0) | (rows == 1)).all(axis=1) & (rows.sum(axis=1) == 1)
    if not one_hot.all():
        raise ValueError(
            f"row {int(np.argmin(one_hot))} of the {what}s has not a single 1 and zeros besides: {what}s are {LABELS}; "
            "if rows are probabilities of classes and the likeliest is meant, pass y.argmax(axis=1)"
        )
    return np.asarray(rows.argmax(axis=1))


def samples(
    x: Any, y: Any = None, *, model: Any = None, parts: NamedParts | None = None, limit: int | None = None
) -> tuple[np.ndarray, Any]:
    """Inputs as an array of numbers ``[n, *input]``, and the labels as they were given with them.

    Args:
        x: an array, nested lists, a tensor, a DataFrame, or a ``tf.data.Dataset`` of ``(x, y)``, batched or not; for
            a model with several inputs a dictionary or list of such, or an array of their vectors.
        y: labels in whatever form; None where they come with ``x``.
        model: what takes the inputs; its shape of inputs tells a batch of a data set from a sample.
        parts: the inputs of a model with several; what is returned are their vectors ``[n, size]``.
        limit: read so many samples at most.

    Raises:
        ValueError: inputs that are no single array of real numbers, or labels besides a data set. Says what to pass.
    """
    if hasattr(x, "as_numpy_iterator"):
        if y is not None:
            raise ValueError("x is a tf.data.Dataset, which brings its labels along: leave y out")
        return from_data_set(x, rank=_rank(model), parts=parts, limit=limit)
    array = inputs(x) if parts is None else parts.join(x, inputs)
    return (array, y) if limit is None else (array[:limit], _first(y, len(array), limit))


def _rank(model: Any) -> int | None:
    """Axes of one input of a Keras model, whose shapes have the batch in front, or of a network, whose have not."""
    declared = getattr(model, "inputs", None)
    if declared:
        return len(declared[0].shape) - 1
    shape = getattr(model, "input_shape", None)
    return None if shape is None else len(shape)


def inputs(x: Any) -> np.ndarray:
    """Inputs alone, as for :func:`samples`."""
    if hasattr(x, "as_numpy_iterator"):
        raise ValueError("a tf.data.Dataset was given where an array of inputs [n, *input] is needed")
    if isinstance(x, dict):
        raise ValueError(f"x is a dictionary ({', '.join(map(str, x))}): {_ONE_INPUT}")
    array = _array(x, f"x is a list whose entries have different shapes: {_ONE_INPUT}")
    if array.dtype.kind not in _REAL:
        raise ValueError(f"x must hold real numbers, one array [n, *input], not values of type {array.dtype}")
    return array


_ONE_INPUT = "a model with one input takes one array [n, *input]"


def _array(value: Any, ragged: str) -> np.ndarray:
    """A value as an array; objects (of a DataFrame of mixed columns, say) as floats, if they are numbers.

    Raises:
        ValueError: ``ragged``, for lists of different lengths.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(ragged) from error
    if array.dtype == object:
        with contextlib.suppress(TypeError, ValueError):
            return array.astype(np.float64)
    return array


def _first(y: Any, count: int, limit: int) -> Any:
    """The first labels; those that do not fit the samples are left to :func:`class_labels`, which says so."""
    try:
        array = np.asarray(y)
    except ValueError:
        return y
    return array[:limit] if array.ndim and len(array) == count else y


def from_data_set(
    data: Any, *, rank: int | None = None, parts: NamedParts | None = None, limit: int | None = None
) -> tuple[np.ndarray, Any]:
    """``x`` and ``y`` (None if its elements are inputs alone) of a ``tf.data.Dataset``, batched or not.

    Args:
        data: the data set.
        rank: axes of one input. Where it is not known, elements are batches if inputs have more than one axis and
            as many first entries as there are labels.
        parts: the inputs of a model with several, which are joined.
        limit: read so many samples at most; a data set that repeats for ever is refused without it.

    Raises:
        ValueError: an endless data set, no elements, or elements of another kind.
    """
    if limit is None and int(data.cardinality()) == -1:
        raise ValueError("this tf.data.Dataset repeats for ever: give it with .take(count)")
    found: list[tuple[np.ndarray, Any]] = []
    total = 0
    for x, y in elements(data, rank=rank, parts=parts):
        found.append((x, y))
        total += len(x)
        if limit is not None and total >= limit:
            break
    if not found:
        raise ValueError("the tf.data.Dataset has no elements")
    joined = np.concatenate([x for x, _ in found])[:limit]
    if found[0][1] is None:
        return joined, None
    return joined, np.concatenate([y for _, y in found])[:limit]


def elements(
    data: Any, *, rank: int | None = None, parts: NamedParts | None = None
) -> Iterator[tuple[np.ndarray, Any]]:
    """The elements of a ``tf.data.Dataset`` as batches ``x`` ``[k, *input]`` and ``y`` ``[k, ...]`` (None without
    labels), read one by one; ``rank``, ``parts`` and errors as for :func:`from_data_set`."""
    for element in data.as_numpy_iterator():
        if parts is not None:
            yield _joined(element, parts)
            continue
        x, y = _pair(element)
        yield (x, y) if _is_batch(x, y, rank) else (x[None], None if y is None else np.asarray(y)[None])


def _joined(element: Any, parts: NamedParts) -> tuple[np.ndarray, Any]:
    """A batch of an element whose inputs are a structure, batched or not, with labels or without."""
    labelled = isinstance(element, tuple) and len(element) == 2 and not isinstance(element[1], Mapping | list | tuple)
    labelled = labelled and (isinstance(element[0], Mapping | list | tuple) or len(parts) != 2)
    x, y = element if labelled else (element, None)
    arrays = [np.asarray(leaf) for leaf in parts.leaves(x)]
    if all(array.shape == part.shape for array, part in zip(arrays, parts, strict=True)):
        return parts.join([array[None] for array in arrays]), None if y is None else np.asarray(y)[None]
    return parts.join(arrays), None if y is None else np.asarray(y)


def _pair(element: Any) -> tuple[np.ndarray, Any]:
    if isinstance(element, dict):
        names = ", ".join(map(str, element))
        raise ValueError(f'{_DATA_SET}, not dictionaries ({names}): .map(lambda e: (e["image"], e["label"])), say')
    if not isinstance(element, tuple | list):
        return np.asarray(element), None
    if len(element) == 3:
        raise ValueError(f"{_DATA_SET}; weights of samples have no place here: .map(lambda x, y, w: (x, y))")
    if len(element) != 2 or not hasattr(element[0], "shape") or not hasattr(element[1], "dtype"):
        raise ValueError(f"{_DATA_SET}, one array of inputs and one of labels")
    return np.asarray(element[0]), np.asarray(element[1])


def _is_batch(x: np.ndarray, y: Any, rank: int | None) -> bool:
    if rank is not None and x.ndim in (rank, rank + 1):
        return x.ndim == rank + 1
    if y is None:
        return x.ndim > 1
    return bool(x.ndim > 1 and y.ndim > 0 and len(y) == len(x))


def radius(value: Any, what: str = "eps") -> Any:
    """A radius: ``"8/255"`` and other texts of numbers as exact fractions, anything else as it is.

    Raises:
        ValueError: a text that is no number.
    """
    if not isinstance(value, str):
        return value
    try:
        return Fraction(value)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f'{what} {value!r} is no number; texts may be such as "8/255" or "0.03"') from error


def radii(value: Any, shape: Sequence[int]) -> list[Any]:
    """Radii of samples ``[n, *input]`` (their ``shape``): one number for all, or one a sample.

    Raises:
        ValueError: another number of them; says what to pass.
    """
    count = shape[0]
    value = radius(value)
    if isinstance(value, Fraction | int | float) and not isinstance(value, bool):
        return [value] * count
    if isinstance(value, list | tuple):
        texts = [radius(v) for v in value]
        if all(isinstance(v, Fraction | int | float) for v in texts):
            return _one_each(texts, (len(texts),), shape)
    try:
        array = inputs(value)
    except ValueError as error:
        raise ValueError(f"eps is one number, or one a sample, not {value!r}") from error
    flat = [float(v) for v in array.ravel()]
    return flat * count if array.ndim == 0 else _one_each(flat, array.shape, shape)


def _one_each(values: list[Any], given: Sequence[int], shape: Sequence[int]) -> list[Any]:
    count = shape[0]
    if tuple(given) in ((count,), (count, 1)):
        return values
    raise ValueError(
        f"eps is one number, one a sample, or one a number of the inputs (an array of shape {tuple(shape[1:])}); "
        f"here are {len(values)} values of eps in the shape {tuple(given)} for {count} samples"
    )


def valid_range(clip: Any) -> tuple[np.ndarray, np.ndarray]:
    """The valid range ``(low, high)`` of an input, as float64 numbers or arrays.

    Raises:
        ValueError: no pair of numbers, a NaN, or a low end above the high end.
    """
    if not (isinstance(clip, tuple | list | np.ndarray) and len(clip) == 2):
        raise ValueError(f"clip must be a pair (low, high) such as (0, 1), not {clip!r}")
    try:
        low, high = (np.asarray(end, np.float64) for end in clip)
    except (TypeError, ValueError) as error:
        raise ValueError(f"clip must be a pair of numbers (low, high) such as (0, 1), not {clip!r}") from error
    if np.isnan(low).any() or np.isnan(high).any():
        raise ValueError("the clip range has a NaN end")
    try:
        empty = bool((low > high).any())
    except ValueError as error:
        raise ValueError(f"the ends of the clip range have shapes {low.shape} and {high.shape}") from error
    if empty:
        shown = f"({low:g}, {high:g})" if low.ndim == high.ndim == 0 else "(low, high)"
        raise ValueError(f"the clip range {shown} is empty: its low end is above its high end; pass the low end first")
    return low, high
