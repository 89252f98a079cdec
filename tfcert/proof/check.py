"""Checking a certificate: the question it states, the choices it makes, and the bounds that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .bounds import Bounds, margin_of_softmax, ranks_first
from .errors import ProofError
from .files import arrays_of, parsed_json
from .graph import Bent, Graph
from .region import Inputs, read_inputs
from .rounding import LARGEST

FORMAT, VERSION = "tfcert certificate", 1
LEVEL = "float32-any-order"
"""What an accepted certificate promises of a model of float32 or float64: see ``docs/guarantees.md``."""
_HEAD = ("format", "version", "model", "claim", "region", "bounds")
_WORK = 1e15
"""Products that a check may take, at most."""
_ROWS = 1 << 16


@dataclass(frozen=True)
class Claim:
    """A certificate as it was read: that every clause holds of every input of a set.

    Attributes:
        head: its JSON head.
        clauses: by clause the numbers of its rows, one of which has to be positive.
        rows: C ``[rows, outputs]``, offsets: d ``[rows]``: the rows are ``C y + d`` over the outputs y.
        arrays: all arrays, by name.
    """

    head: Mapping[str, Any]
    clauses: tuple[np.ndarray, ...]
    rows: np.ndarray
    offsets: np.ndarray
    arrays: Mapping[str, np.ndarray]

    @property
    def digest(self) -> str:
        return str(self.head["model"]["digest"])


@dataclass(frozen=True)
class Checked:
    """What came of a check.

    Attributes:
        proven: whether the claim holds, at the level ``float32-any-order``.
        margin: the least bound of a clause, less what a softmax may take; positive where it is proven.
        said: the question in words.
    """

    proven: bool
    margin: float
    said: str


def read_claim(path: Path) -> Claim:
    """A certificate's question and choices.

    Raises:
        ProofError: it is no certificate of this version, or states no question.
    """
    arrays = arrays_of(path)
    head = arrays.pop("head", np.zeros(0))
    if head.dtype != np.uint8 or head.ndim != 1:
        raise ProofError("it has no head: it is no certificate")
    return claim_of(parsed_json(head.tobytes(), "its head"), arrays)


def claim_of(head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Claim:
    """What a head and arrays claim; raises as :func:`read_claim` does."""
    if head.get("format") != FORMAT or head.get("version") != VERSION:
        raise ProofError(
            f"it is of format {head.get('format')!r}, version {head.get('version')!r}, not {FORMAT!r}, {VERSION}"
        )
    if set(head) != set(_HEAD) or not all(isinstance(head[key], dict) for key in _HEAD[2:]):
        raise ProofError(f"its head says {sorted(head)}, not {sorted(_HEAD)}")
    if not isinstance(head["model"].get("digest"), str):
        raise ProofError("it does not say which model it is about")
    unknown = [name for name in arrays if name.split("/")[0] not in ("region", "rows", "slopes")]
    missing = [name for name in ("rows/C", "rows/d", "rows/clause") if name not in arrays]
    if unknown or missing:
        raise ProofError(f"it holds {sorted(unknown)[:5]}, of which nothing is known, and lacks {missing}")
    rows, offsets, numbers = (arrays[name] for name in ("rows/C", "rows/d", "rows/clause"))
    if rows.ndim != 2 or not 0 < len(rows) <= _ROWS or {rows.dtype, offsets.dtype} != {np.dtype(np.float64)}:
        raise ProofError(f"rows of type {rows.dtype} and shape {rows.shape} are no rows")
    if not offsets.shape == numbers.shape == rows.shape[:1] or numbers.dtype != np.int64:
        raise ProofError("offsets and clauses do not fit the rows")
    if not ((np.abs(rows) <= LARGEST).all() and (np.abs(offsets) <= LARGEST).all()):
        raise ProofError("a row holds a NaN, or a number larger than 2**100")
    if not np.array_equal(np.unique(numbers), np.arange(len(np.unique(numbers)))):
        raise ProofError("clauses are not numbered from 0 on")
    clauses = tuple(np.flatnonzero(numbers == number) for number in range(int(numbers.max()) + 1))
    return Claim(head, clauses, rows, offsets, arrays)


def check(claim: Claim, graph: Graph) -> Checked:
    """Recomputes the bounds that a claim rests on.

    Raises:
        ProofError: it is about another model, its region is empty, or it asks for what is not checked.
    """
    if claim.digest != graph.digest:
        raise ProofError(
            f"it is about the model {claim.digest[:12]}..., and the model at hand is {graph.digest[:12]}..."
        )
    inputs = read_inputs(claim.head["region"], claim.arrays, graph.places[0].shape)
    if claim.rows.shape[1:] != graph.places[-1].shape:
        raise ProofError(f"rows over {claim.rows.shape[1]} outputs, and the model has {graph.places[-1].shape}")
    if graph.softmax and (claim.offsets.any() or not ranks_first([claim.rows[some] for some in claim.clauses])):
        raise ProofError("of a softmax, only which output is the largest follows from what enters it")
    margins = least_of_clauses(claim, graph, inputs)
    margin = float(margins.min())
    return Checked(margin > 0.0, margin, _words(claim, inputs))


def least_of_clauses(claim: Claim, graph: Graph, inputs: Inputs) -> np.ndarray:
    """A lower bound of each clause's best row over the set, less what a softmax may take: ``[clauses]``."""
    asked = claim.head["bounds"]
    for key in ("neurons", "rows"):
        if asked.get(key) not in ("lines", "intervals"):
            raise ProofError(f"bounds of {key} by {asked.get(key)!r} are not known")
    _require_affordable(graph, len(claim.rows), asked["neurons"] == "lines")
    slopes = _slopes(claim, graph)
    bounds = Bounds(graph, inputs, backward=asked["neurons"] == "lines")
    last = len(graph.places) - 1
    least = bounds.least(last, claim.rows, stops=True, offsets=claim.offsets)
    if asked["rows"] == "lines":
        least = np.maximum(least, bounds.least(last, claim.rows, slopes or None, offsets=claim.offsets))
    least = least - margin_of_softmax(graph)
    return np.array([least[some].max() for some in claim.clauses])


def _slopes(claim: Claim, graph: Graph) -> dict[int, np.ndarray]:
    """The lower lines' places that a certificate states, by the number of the place: bytes, 255 for the greatest
    slope."""
    found = {}
    for name, array in claim.arrays.items():
        if not name.startswith("slopes/"):
            continue
        number = name.removeprefix("slopes/")
        index = int(number) if number.isascii() and number.isdigit() and len(number) < 8 else len(graph.places)
        place = graph.places[index] if index < len(graph.places) else None
        shapes = [] if place is None else [place.shape, (len(claim.rows), *place.shape)]
        if not isinstance(place, Bent) or array.dtype != np.uint8 or array.shape not in shapes:
            raise ProofError(f"{name!r} of shape {array.shape} fits no place of the model that lines are chosen for")
        found[index] = array / 255.0
    return found


def _require_affordable(graph: Graph, rows: int, backward: bool) -> None:
    each = sum(place.count * getattr(getattr(place, "map", None), "terms", 16) for place in graph.places)
    neurons = sum(place.count for place in graph.places) if backward else 0
    if each * (2 * neurons + rows) > _WORK:
        raise ProofError(f"a check would take some {each * (2 * neurons + rows):.0e} products, more than {_WORK:.0e}")


def _words(claim: Claim, inputs: Inputs) -> str:
    said = claim.head["claim"]
    name, sample = (str(said.get(key, ""))[:80] for key in ("property", "sample"))
    rows = f"{len(claim.clauses)} clauses of {len(claim.rows)} rows"
    if not claim.offsets.any() and ranks_first([claim.rows[some] for some in claim.clauses]):
        rows = f"output {int(claim.rows[0].argmax())} is above {len(claim.clauses)} others"
    return f"{name or 'a claim'}{f', sample {sample}' if sample else ''}: {rows} over {inputs.said}"
