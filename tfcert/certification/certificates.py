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
from tfcert.certification.slopes import Chosen
from tfcert.certification.taken_over import trees_taken_over
from tfcert.certification.trees import AskedClause, Leaf, Limits, Tree, TreeSearch, anew, arrays_of_trees, trees_from
from tfcert.clauses import Clauses
from tfcert.complete.search.results import ProvenPieces
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
class Beforehand:
    """What a proof may rest on, known before its certificate is written.

    Attributes:
        choices: those of another certificate (:data:`CHOICES`), which are tried as they are.
        limits: how far they are mended where they do not suffice: their trees' leaves are the first pieces of a search.
            None: not at all.
        parts: what branch and bound proved the clauses by.
    """

    choices: Mapping[str, np.ndarray] = field(default_factory=dict)
    limits: Limits | None = None
    parts: ProvenPieces | None = None


NOTHING = Beforehand()


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
        known: Beforehand = NOTHING,
    ) -> Certificate | str:
        """A certificate of one proof, or the reason why there is none, in a sentence.

        Args:
            sets: of one sample.
            clauses: of the same sample, over the outputs (logits, where the model ends in a softmax).
            method: that the proof was found by.
            claim: what it is of, for the reader: ``property`` and ``sample``.
            known: what is tried first.
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
        bare = claim_of(head, arrays | rows)
        try:
            return self._proven(bare, _THOROUGH if _by_solver(method) else _BRIEF, known, clauses)
        except ProofError as error:
            return str(error)

    def _proven(self, bare: Claim, limits: Limits, known: Beforehand, clauses: Clauses) -> Certificate | str:
        """The certificate of a claim, by what is known or by what is found."""
        assert self._graph is not None
        graph, trees = self._graph, dict[int, Tree]()
        claim = _with(bare, dict(known.choices), graph)
        found = check(claim, graph)
        if found.proven:
            return Certificate(claim.head, claim.arrays, found.margin)
        if bare.head["bounds"]["rows"] != "lines":
            return f"the checker's own bound is {found.margin:.4g}"
        if known.choices:
            limits, trees = known.limits or limits, dict(enumerate(_begun(claim)))
            if not trees or known.limits is None:
                return f"by these choices the checker's bound is {found.margin:.4g}"
        elif known.parts is not None:
            asked, center = np.flatnonzero(~np.isposinf(clauses.offsets[0]).any(axis=1)).tolist(), _center(claim, graph)
            trees = trees_taken_over(known.parts, graph, asked, center)
        if not trees and (shares := _combined(claim, graph)):
            claim = _with(bare, shares, graph)
        else:
            claim = _with(bare, _choices(claim, graph, limits, trees), graph)
        found = check(claim, graph)
        if not found.proven:
            return f"the checker's own bound is {found.margin:.4g}, and no tree was found that proves more"
        return Certificate(claim.head, claim.arrays, found.margin)


def _with(claim: Claim, choices: dict[str, np.ndarray], graph: Graph) -> Claim:
    """A claim with choices; where a tree of a small network cuts neurons, all are bounded anew in each leaf."""
    bounds = claim.head["bounds"]
    if anew(graph) and (choices.get("tree/place", np.zeros(0)) > 0).any():
        bounds = bounds | {"neurons": "leaves"}
    return claim_of({**claim.head, "bounds": bounds}, {**claim.arrays, **choices})


def _begun(claim: Claim) -> list[Tree]:
    """The trees that a claim's choices hold; of slopes without a tree one leaf each."""
    arrays = dict(claim.arrays)
    slopes = [name for name in arrays if name.startswith("slopes/")]
    if "tree/place" in arrays or not slopes or "weights" in arrays:
        return trees_from(arrays, claim.clauses)
    found = []
    for some in claim.clauses:
        rows = {int(n.removeprefix("slopes/")): arrays[n][some] for n in slopes if len(arrays[n]) == len(claim.rows)}
        tree = Tree()
        tree.close(Leaf(Chosen(rows, np.zeros((len(some), 0)), np.full(len(some), -np.inf), {})))
        found.append(tree)
    return found


def _center(claim: Claim, graph: Graph) -> np.ndarray:
    return read_inputs(claim.head["region"], claim.arrays, graph.places[0].shape).center


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


def _choices(claim: Claim, graph: Graph, limits: Limits, start: Mapping[int, Tree]) -> dict[str, np.ndarray]:
    """The arrays of trees, one a clause, and of their leaves' choices that prove a claim; none where none are found.

    Args:
        start: of some clauses trees to begin with.
    """
    inputs, wanted = read_inputs(claim.head["region"], claim.arrays, graph.places[0].shape), margin_of_softmax(graph)
    search, trees = TreeSearch(graph, inputs, limits), []
    whole = Bounds(graph, inputs, backward=True) if any(len(some) > 1 for some in claim.clauses) else None
    for number, some in enumerate(claim.clauses):
        asked, weights = AskedClause(claim.rows[some], claim.offsets[some], wanted), None
        if len(some) > 1 and number not in start and whole is not None:
            weights = shares_of(whole, asked.rows, asked.offsets, [np.arange(len(some))], wanted)
        tree = search.tree(asked, start.get(number), weights)
        if tree is None:
            return {}
        trees.append(tree)
    return arrays_of_trees(trees, claim.clauses) or {}


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
