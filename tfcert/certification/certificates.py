"""Writing certificates: proofs as files that ``tfcert.proof`` recomputes without us.

A certificate is written only where the checker accepts it, so that what is in the file is what was found to suffice.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.catalog import METHODS, STAGES
from tfcert.certification.combinations import shares_of
from tfcert.certification.slopes import climbing
from tfcert.certification.trees import Limits, tree_of
from tfcert.clauses import Clauses
from tfcert.proof.bounds import Bounds, margin_of_softmax
from tfcert.proof.check import FORMAT, VERSION, Claim, check, claim_of
from tfcert.proof.errors import ProofError
from tfcert.proof.graph import Graph
from tfcert.proof.model import read_model
from tfcert.proof.region import read_inputs
from tfcert.sets.balls import Box, LpBall, Perturbation
from tfcert.showing import ShownResult, counted

_BY_INTERVALS = {"ibp": ("intervals", "intervals"), "crown-ibp": ("intervals", "lines")}
"""How the checker is to bound neurons and rows, where that is less than it can."""
CHOICES = ("slopes", "tree", "multipliers", "weights")
"""What a certificate's arrays begin with that are choices. Any are sound; all else states the question."""
_THOROUGH, _BRIEF = Limits(400, 60.0), Limits(40, 10.0)
"""How long choices are looked for: for proofs by branch and bound or a solver, and for others."""


@dataclass(frozen=True, eq=False)
class Certificate(ShownResult):
    """A proof that the checker accepts: what it claims and the choices that it rests on (docs/certificates.md).

    Attributes:
        head: what the file's JSON head says.
        arrays: its other arrays, by name.
        margin: the least bound that the checker computes of a clause.
    """

    head: Mapping[str, Any] = field(repr=False)
    arrays: Mapping[str, np.ndarray] = field(repr=False)
    margin: float

    def __repr__(self) -> str:
        return f"Certificate: margin {self.margin:.4g} by the checker, {counted(len(self.arrays), 'array')}"

    def save(self, path: str | Path) -> Path:
        """Writes the file, an ``.npz`` without pickles."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        head = np.frombuffer(json.dumps(self.head, sort_keys=True, allow_nan=False).encode(), np.uint8)
        with open(path, "wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, head=head, **dict(self.arrays))
        return path


class CertificateWriter:
    """Writes certificates of one model, which the checker has read from a file of its own.

    Attributes:
        refusal: the reason why the checker cannot read the model; "" where it can.
    """

    def __init__(self, model: Any, name: str = "model"):
        self._model, self._name, self.refusal = model, name, ""
        self._graph: Graph | None = None
        if not hasattr(model, "save"):
            self.refusal = "the checker reads models of Keras alone"
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            model.save(path)
            try:
                self._graph = read_model(path)
            except ProofError as error:
                self.refusal = str(error)

    @property
    def file(self) -> str:
        """The name of the model's file beside its certificates."""
        assert self._graph is not None
        kept = "".join(c if c.isalnum() or c in "-_" else "_" for c in self._name)
        return f"{kept}-{self._graph.digest[:12]}.keras"

    def save_model(self, folder: str | Path) -> Path:
        """Writes the model beside its certificates, under the name that they have for it."""
        path = Path(folder) / self.file
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._model.save(path)
        return path

    def certificate(
        self,
        sets: Perturbation,
        clauses: Clauses,
        method: str,
        claim: Mapping[str, Any] | None = None,
        choices: Mapping[str, np.ndarray] | None = None,
    ) -> Certificate | str:
        """A certificate of one proof, or the reason why there is none, in a sentence.

        Args:
            sets: of one sample.
            clauses: of the same sample, over the outputs (logits, where the model ends in a softmax).
            method: that the proof was found by.
            claim: what it is of, for the reader: ``property`` and ``sample``.
            choices: those of another certificate (:data:`CHOICES`), which are tried alone: none are looked for.
        """
        if self._graph is None:
            return self.refusal
        region = _region(sets)
        if region is None or clauses.reads is not None:
            return "the checker knows boxes and balls, and rows over the outputs"
        said, arrays = region
        rows = _rows(clauses)
        if rows is None:
            return "a clause has no row that can be proven"
        neurons, lines = _BY_INTERVALS.get(method, ("lines", "lines"))
        head = {
            "format": FORMAT,
            "version": VERSION,
            "model": {"file": self.file, "digest": self._graph.digest},
            "claim": {"method": method, **(claim or {})},
            "region": said,
            "bounds": {"neurons": neurons, "rows": lines},
        }
        arrays |= {**rows, **(choices or {})}
        try:
            found = check(claim_of(head, arrays), self._graph)
            if choices is None and not found.proven and lines == "lines" and not climbing(self._graph):
                limits = _THOROUGH if _by_solver(method) else _BRIEF
                arrays |= _combined(claim_of(head, arrays), self._graph) or _choices(
                    claim_of(head, arrays), self._graph, limits
                )
                found = check(claim_of(head, arrays), self._graph)
        except ProofError as error:
            return str(error)
        if not found.proven and choices is not None:
            return f"by these choices the checker's bound is {found.margin:.4g}"
        if not found.proven:
            return f"the checker's own bound is {found.margin:.4g}, and no tree was found that proves more"
        return Certificate(head, arrays, found.margin)


def _by_solver(method: str) -> bool:
    """Tells whether a method of certifying, or a stage, had more than bounds to prove by."""
    if method in METHODS:
        return METHODS.find(method).asks_solver
    return STAGES.find(method).kind == "solver"


def _combined(claim: Claim, graph: Graph) -> dict[str, np.ndarray]:
    """The array of a combination of each clause's rows that proves a claim; none where none is found."""
    if all(len(some) == 1 for some in claim.clauses):
        return {}
    inputs = read_inputs(claim.head["region"], claim.arrays, graph.places[0].shape)
    bounds, wanted = Bounds(graph, inputs, backward=True), margin_of_softmax(graph)
    weights = {"weights": shares_of(bounds, claim.rows, claim.offsets, claim.clauses, wanted)}
    return weights if check(replace(claim, arrays={**claim.arrays, **weights}), graph).proven else {}


def _choices(claim: Claim, graph: Graph, limits: Limits) -> dict[str, np.ndarray]:
    """The arrays of a tree and of its leaves' choices that prove a claim; none where none is found."""
    inputs = read_inputs(claim.head["region"], claim.arrays, graph.places[0].shape)

    def holds(least: np.ndarray) -> bool:
        return all(least[some].max() > 0 for some in claim.clauses)

    tree = tree_of(graph, inputs, (claim.rows, claim.offsets, margin_of_softmax(graph)), holds, limits)
    return {} if tree is None else tree.arrays(len(claim.rows))


def _region(sets: Perturbation) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """A set of one sample as a certificate describes it; None for what it cannot."""
    if type(sets) is Box:
        return {"kind": "box"}, {"region/low": sets.lower[0], "region/high": sets.upper[0]}
    if type(sets) is not LpBall:
        return None
    arrays = {"region/center": sets.x[0]}
    if sets.clip is not None:
        ends = [np.broadcast_to(np.asarray(end, np.float64), sets.x.shape)[0] for end in sets.clip]
        arrays |= {f"region/{name}": _small(end) for name, end in zip(("low", "high"), ends, strict=True)}
    if sets.scale is not None:
        arrays["region/scale"] = np.broadcast_to(np.asarray(sets.scale.high, np.float64), sets.x.shape)[0]
    return {"kind": "ball", "norm": sets.norm, "eps": str(sets.exact_eps[0])}, arrays


def _small(array: np.ndarray) -> np.ndarray:
    """One number in the place of many that are equal."""
    return array.reshape(-1)[:1] if (array == array.reshape(-1)[0]).all() else array


def _rows(clauses: Clauses) -> dict[str, np.ndarray] | None:
    """The rows that count of one sample, with the number of the clause of each."""
    counts, always = clauses.counts[0], np.isposinf(clauses.offsets[0]).any(axis=1)
    asked = np.flatnonzero(~always)
    if not len(asked) or not counts[asked].any(axis=1).all():
        return None
    numbers = [(number, clause, row) for number, clause in enumerate(asked) for row in np.flatnonzero(counts[clause])]
    rows = np.array([clauses.coefficients[0, clause, row] for _, clause, row in numbers], np.float64)
    offsets = np.array([clauses.offsets[0, clause, row] for _, clause, row in numbers], np.float64)
    return {"rows/C": rows, "rows/d": offsets, "rows/clause": np.array([n for n, _, _ in numbers], np.int64)}
