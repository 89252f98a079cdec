"""Results of a run: one record a property and sample, and the JSON form of both record and report."""

from __future__ import annotations

import builtins
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

from tfcert.verdict import (
    NO_WORK,
    Because,
    Guarantee,
    ModelRun,
    Outcome,
    Reason,
    Replayed,
    Verdict,
    Work,
    reason_of,
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """The region that was asked about: norm and eps in ``space``; ``targets`` says which classes count.

    ``quantifier`` says whether the question is about all inputs (``forall``) or some input (``exists``): the largest
    radius with the one, the smallest with the other. ``abstraction`` names what the classifier stands behind.
    ``width`` is that of the values' range in ``space`` (of the narrowest channel; NaN: not known), of which radii are
    told as shares. ``labelled`` says that the question is about the sample's label: shares of samples are accuracies.
    ``distance`` names the way that distances to another class are measured (``tfcert.catalog.DISTANCES``).
    ``measures`` says what a measure is of, where that is no radius: a ``value`` of the formula, or a ``share`` of the
    region's volume; ``extremum`` says of a value whether it is the largest or the smallest, and ``proof`` which end of
    what is known of it rests on a proof, ``lower`` or ``upper``; the other one rests on a witness.
    """

    norm: str = ""
    eps: float = math.nan
    space: str = ""
    targets: str = ""
    quantifier: str = "forall"
    abstraction: str = ""
    width: float = math.nan
    labelled: bool = True
    distance: str = ""
    measures: str = ""
    extremum: str = ""
    proof: str = "lower"

    @property
    def existential(self) -> bool:
        return self.quantifier == "exists"


@dataclass(frozen=True, eq=False)
class Cells:
    """The pieces that a region with two sides was divided into.

    Attributes:
        low, high: ``[pieces, 2]``, in network space.
        known: ``[pieces]``: 1 where the formula is proven, -1 where it is refuted, 0 where that is open.
        sides: the two places among the numbers of an input.
    """

    low: Any
    high: Any
    known: Any
    sides: Any


@dataclass(frozen=True, slots=True)
class Measured:
    """A measure's answer lies between ``lower`` and ``upper`` (NaN: nothing is known at that end).

    Of a radius, the largest or smallest one, ``lower`` is certified and ``upper`` has a replayed witness; of a value
    of a formula it may be the other way round (``Asked.proof``); of a share of volume both are certified.

    ``evaluations`` is how many bounds a sample of its batch took, where that was counted. ``estimate`` is a number that
    bounds nothing (NaN: none); ``optimal`` says whether a search for both ends closed in on one number; ``cells`` are
    the pieces of a region with two sides, which are kept in files of their own.
    """

    lower: float
    upper: float = math.nan
    evaluations: int | None = None
    estimate: float = math.nan
    optimal: bool | None = None
    cells: Cells | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Record:
    """The answer for one property (or measure) on one sample.

    ``sample`` is the index in the data set, 0 for a property without one. ``witness`` is a path relative to the
    folder of the run. ``measured`` is None for a property. ``correct`` says whether the unperturbed sample gets its
    label, by a strictly largest output; None where there is no label, or no class. ``certificate`` is the path of a
    proof's certificate, relative to the same folder, or a pattern that several files match; ``no_certificate`` says why
    a proof has none, where they were asked for.
    """

    property: str
    sample: int
    verdict: Verdict
    asked: Asked = field(default_factory=Asked)
    measured: Measured | None = None
    label: float | None = None
    prediction: int | None = None
    witness: str | None = None
    correct: bool | None = None
    certificate: str | None = None
    no_certificate: str = ""

    @builtins.property
    def outcome(self) -> Outcome:
        return self.verdict.outcome

    def as_json(self) -> Json:
        """The flat form of a record in ``result.json`` and in the journal; NaN becomes null."""
        verdict, asked = self.verdict, self.asked
        flat: Json = {
            "property": self.property,
            "sample": self.sample,
            "outcome": str(verdict.outcome),
            "reason": str(verdict.reason),
            "reason_name": reason_of(verdict.reason),
            "stage": verdict.stage,
            "method": verdict.method,
            "relaxation": verdict.relaxation,
            "guarantee": None if verdict.guarantee is None else str(verdict.guarantee),
            "norm": asked.norm or None,
            "eps": number(asked.eps),
            "radius": None if self.measured is None else number(self.measured.lower),
            "margin": number(verdict.margin),
            "label": self.label,
            "prediction": self.prediction,
            "correct": self.correct,
            "seconds": round(verdict.seconds, 6),
            "witness": self.witness,
            "space": asked.space or None,
            "targets": asked.targets or None,
            "quantifier": asked.quantifier,
            "abstraction": asked.abstraction or None,
            "labelled": asked.labelled,
            "range_width": number(asked.width),
            "eps_share": number(asked.eps / asked.width),
            "contradicted": None if verdict.contradicted is None else str(verdict.contradicted),
            "replayed": None if verdict.replayed is None else _replays(verdict.replayed),
            "work": {name: round(done, 6) for name, done in asdict(verdict.work).items() if done},
        }
        if self.measured is not None:
            flat |= {"lower": number(self.measured.lower), "upper": number(self.measured.upper)}
            flat |= {f"{end}_share": number(getattr(self.measured, end) / asked.width) for end in ("lower", "upper")}
            flat |= {} if self.measured.evaluations is None else {"evaluations": self.measured.evaluations}
            flat |= {} if math.isnan(self.measured.estimate) else {"estimate": number(self.measured.estimate)}
            flat |= {} if self.measured.optimal is None else {"optimal": self.measured.optimal}
        flat |= {"distance": asked.distance} if asked.distance else {}
        flat |= {"transferred": True} if verdict.transferred else {}
        certificate = {"certificate": self.certificate, "no_certificate": self.no_certificate or None}
        flat |= {key: said for key, said in certificate.items() if said is not None}
        kind = {"measures": asked.measures, "extremum": asked.extremum or None, "proof": asked.proof}
        return flat | (kind if asked.measures else {})

    @classmethod
    def from_json(cls, flat: Mapping[str, Any]) -> Record:
        """Reads what ``as_json`` wrote.

        Raises:
            KeyError, ValueError, TypeError: the object is no record.
        """
        guarantee, contradicted = flat["guarantee"], flat.get("contradicted")
        verdict = Verdict(
            outcome=Outcome(flat["outcome"]),
            reason=_because(flat["reason"], flat.get("reason_name")),
            stage=_one(flat["stage"]),
            method=_one(flat["method"]),
            relaxation=_one(flat["relaxation"]),
            guarantee=None if guarantee is None else Guarantee(guarantee),
            margin=_nan(flat["margin"]),
            seconds=float(flat["seconds"]),
            contradicted=None if contradicted is None else Guarantee(contradicted),
            work=_work(**flat["work"]) if flat.get("work") else NO_WORK,
            replayed=_replayed(flat.get("replayed")),
            transferred=bool(flat.get("transferred", False)),
        )
        measured = None
        if "lower" in flat:
            more = flat.get("evaluations"), _nan(flat.get("estimate")), flat.get("optimal")
            measured = Measured(_nan(flat["lower"]), _nan(flat["upper"]), *more)
        region = flat["norm"] or "", _nan(flat["eps"]), flat["space"] or ""
        asked = _asked(
            *region,
            targets=flat["targets"] or "",
            quantifier=flat["quantifier"],
            abstraction=flat["abstraction"] or "",
            width=_nan(flat["range_width"]),
            labelled=flat["labelled"],
            distance=flat.get("distance") or "",
            measures=flat.get("measures") or "",
            extremum=flat.get("extremum") or "",
            proof=flat.get("proof") or "lower",
        )
        return cls(
            property=_one(flat["property"]),
            sample=int(flat["sample"]),
            verdict=verdict,
            asked=asked,
            measured=measured,
            label=flat["label"],
            prediction=flat["prediction"],
            witness=flat["witness"],
            correct=flat.get("correct"),
            certificate=flat.get("certificate"),
            no_certificate=flat.get("no_certificate") or "",
        )


def number(value: float | None) -> float | None:
    """A number as JSON can hold it: NaN is null, infinities are written as the largest finite number's sign."""
    if value is None or math.isnan(value):
        return None
    if math.isinf(value):
        return math.copysign(1.7976931348623157e308, value)
    return float(value)


def _replays(replayed: Replayed) -> Json:
    return {"runs": [run._asdict() for run in replayed.runs], "agree": replayed.agree}


def _replayed(flat: Json | None) -> Replayed | None:
    """The runs on a witness; None also for what was written before they were. Once all runs had one runtime."""
    if flat is None:
        return None
    runs = (ModelRun(run.get("runtime", "eager"), int(run["batch"]), bool(run["breaks"])) for run in flat["runs"])
    return Replayed(tuple(runs))


# A journal may hold millions of records, which have most of this in common: they share it.
_asked = lru_cache(maxsize=4096)(Asked)
_work = lru_cache(maxsize=4096)(Work)


@lru_cache(maxsize=4096)
def _because(sentence: str, name: str | None) -> Because:
    """The sentence of a reason by its name; of none also where another version of tfcert knew it."""
    return Because(sentence, Reason(name) if name in set(Reason) else None)


def _one(word: str) -> str:
    """The same word, once for all records."""
    return sys.intern(word)


def _nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
