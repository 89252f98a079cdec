"""What a dossier says: derived from a run's journal, its files and the checker alone, so that it can be derived again.

``content`` is the same for a repeated run; ``occasion`` (when it ran, how long it took, the bytes of files that hold
times) is not. Every file is hashed in one of them. A chain ties the hashes together: each link is the SHA-256 of the
one before and of what it is about.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.dossier.judgements import judgements
from tfcert.dossier.words import DISCLAIMER, OUTCOMES, criterion, stages_of
from tfcert.driver.journal import read_journal
from tfcert.errors import UsageError
from tfcert.proof.check import LEVEL, check, printable, read_claim
from tfcert.proof.errors import ProofError
from tfcert.proof.files import arrays_of
from tfcert.proof.graph import Graph
from tfcert.proof.model import read_model
from tfcert.report import summarize_measure, summarize_property
from tfcert.report.records import Json, Record, number
from tfcert.report.stored import RESULT, read_result
from tfcert.verdict import PROMISES, Guarantee, Outcome

FORMAT, VERSION = "tfcert dossier", 1
JSON_FILE, PAGE_FILE = "dossier.json", "dossier.html"
_STEADY = (
    "tfcert", "versions", "spec_sha256", "spec_text", "params", "rounding", "data_sha256", "masks_sha256",
    "weights_sha256", "strategies", "properties", "preprocessing", "abstractions",
)  # fmt: skip
"""Keys of a run's header that are the same for a repeated run."""
_MOST_INPUTS = 10
"""Numbers of a witness that are told one by one, where it is no picture."""


def dossier_of(folder: str | Path) -> Json:
    """The dossier of a run.

    Args:
        folder: that ``tfcert verify`` wrote.

    Raises:
        UsageError: it is no folder of a run of a specification that has ended.
    """
    folder = Path(folder)
    result = read_result(folder)
    if not (folder / "journal.jsonl").is_file():
        raise UsageError(f"{folder} has no journal.jsonl, from which a dossier follows")
    header, journaled = read_journal(folder / "journal.jsonl")
    if "spec_sha256" not in header:
        raise UsageError(f"{folder} is of no specification: a dossier is about one, as `tfcert verify` runs it")
    if not result.complete:
        raise UsageError(f"{folder} is of an interrupted run: `tfcert verify --resume {folder}` goes on with it")
    order = {name: place for place, name in enumerate(header.get("properties", {}))}
    records = sorted(journaled, key=lambda r: (order.get(r.property, len(order)), r.property, r.sample))
    steady = [_steady(record) for record in records]
    stated = [{"text": j["text"], "judgement": j["judgement"]} for j in result.header.get("judged", [])]
    derived = judgements(header, records)
    content: Json = {
        "format": FORMAT,
        "version": VERSION,
        "disclaimer": DISCLAIMER,
        "about": {key: header[key] for key in _STEADY if key in header},
        "judged": stated if derived is None else derived,
        "judged_from": "result" if derived is None else "journal",
        "agrees": _agrees(records, result.records, result.header) and derived in (None, stated),
        "questions": _questions(header, records),
        "open": _open(records),
        "levels": {str(g): PROMISES[g] for g in Guarantee if any(r.verdict.guarantee is g for r in records)},
        "outcomes": {str(o): OUTCOMES[o] for o in Outcome if any(r.outcome is o for r in records)},
        "witnesses": [_witness(folder, r) for r in records if r.witness is not None],
        "records": steady,
        "certificates": _checked(folder, records),
        "files": {path: _sha256(folder / path) for path in _files(folder, ("witnesses/*.npz", "certificates/*.npz"))},
    }
    content["chain"] = _chain(content)
    occasion = {
        "started": header.get("started"),
        "seconds": result.header.get("seconds"),
        "files": {
            path: _sha256(folder / path)
            for path in _files(folder, ("journal.jsonl", RESULT, "certificates/*.keras", "figures/*.png"))
        },
    }
    return {"content": content, "occasion": occasion}


def text_of(dossier: Json) -> str:
    """The JSON as it is written."""
    return json.dumps(dossier, sort_keys=True, indent=1, allow_nan=False) + "\n"


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _files(folder: Path, patterns: Sequence[str]) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for pattern in patterns for p in folder.glob(pattern))


def _steady(record: Record) -> Json:
    """A record without the seconds that it took."""
    verdict = replace(record.verdict, seconds=0.0, work=replace(record.verdict.work, solver_seconds=0.0))
    return {key: value for key, value in replace(record, verdict=verdict).as_json().items() if key != "seconds"}


def _agrees(journal: Sequence[Record], result: Sequence[Record], header: Json) -> bool:
    """Tells whether the result holds what the journal says. Where a solver's word was retracted it may hold less."""
    found = {(r.property, r.sample): r for r in result}
    if set(found) != {(r.property, r.sample) for r in journal}:
        return False
    pairs = [(r, found[r.property, r.sample]) for r in journal]
    retracted = bool(header.get("contradictions"))
    return all(a.as_json() == b.as_json() or (retracted and b.outcome is Outcome.UNKNOWN) for a, b in pairs)


def _questions(header: Json, records: Sequence[Record]) -> list[Json]:
    """Each property and measure: its text, its criterion, its stages, and what the journal adds up to."""
    found = []
    for name in dict.fromkeys([*header.get("properties", {}), *(r.property for r in records)]):
        mine = [r for r in records if r.property == name]
        if not mine:
            continue
        measured = any(r.measured is not None for r in mine)
        topic, words = criterion(mine[0].asked, measured)
        strategy = header.get("strategies", {}).get(name, "")
        found.append({
            "name": name,
            "text": header.get("properties", {}).get(name, ""),
            "topic": topic,
            "criterion": words,
            "strategy": strategy,
            "stages": [{"name": stage, "does": does} for stage, does in stages_of(strategy)],
            "samples": len(mine),
            "levels": dict(sorted(Counter(str(r.verdict.guarantee) for r in mine if r.verdict.guarantee).items())),
            "numbers": _radii(name, mine) if measured else _counts(name, mine),
            "transferred": sum(r.verdict.transferred for r in mine),
        })  # fmt: skip
    return found


def _counts(name: str, records: Sequence[Record]) -> Json:
    s = summarize_property(name, records)
    counts: Json = {str(outcome): count for outcome, count in s.outcomes.items()}
    if s.labelled and not s.existential:
        rates = {"nominal": s.nominal_accuracy, "verified": s.verified_accuracy, "under attack": s.attack_accuracy}
        counts |= {f"{word} accuracy": number(rate) for word, rate in rates.items()}
    return counts


def _radii(name: str, records: Sequence[Record]) -> Json:
    s = summarize_measure(name, records)
    found: Json = {}
    for word, values in (("proven", s.proven), ("refuted", s.refuted)):
        known = values[np.isfinite(values)]
        found[f"{word} for"] = len(known)
        for kind, f in (("least", np.min), ("median", np.median), ("greatest", np.max)):
            found[f"{kind} {word}"] = float(f"{f(known):.6g}") if len(known) else None
    return found


def _open(records: Sequence[Record]) -> list[Json]:
    """Why answers are open: each reason with its sentence, what to do about it, and which samples."""
    found: dict[tuple[str, str], Json] = {}
    for record in (r for r in records if r.outcome in (Outcome.UNKNOWN, Outcome.TIMEOUT)):
        reason = getattr(record.verdict.reason, "reason", None)
        key = record.property, str(reason or "")
        said = str(record.verdict.reason) or "nothing is said"
        advice = reason.advice if reason is not None else ""
        here = found.setdefault(
            key, {"property": key[0], "reason": key[1], "said": said, "advice": advice, "samples": []}
        )
        here["samples"].append(record.sample)
    return list(found.values())


def _witness(folder: Path, record: Record) -> Json:
    """A witness beside its original, as numbers that changed."""
    said: Json = {"property": record.property, "sample": record.sample, "file": record.witness}
    replayed = record.verdict.replayed
    said["runs"] = [] if replayed is None else [run._asdict() for run in replayed.runs]
    try:
        saved = arrays_of(folder / str(record.witness))
    except ProofError as error:
        return said | {"unreadable": printable(error).replace(str(folder), "")}
    point, original = saved.get("witness", np.zeros(0)), saved.get("original")
    if original is None or original.shape != point.shape:
        return said | {"shape": list(point.shape)}
    changed = np.flatnonzero(point.reshape(-1) != original.reshape(-1))
    size = np.abs(point.reshape(-1).astype(np.float64) - original.reshape(-1).astype(np.float64))
    most = sorted(changed[np.argsort(-size[changed], kind="stable")][:_MOST_INPUTS].tolist())
    return said | {
        "shape": list(point.shape),
        "changed": len(changed),
        "largest": float(size.max(initial=0.0)),
        "inputs": [{"number": i, "was": float(original.flat[i]), "is": float(point.flat[i])} for i in most],
    }


def _checked(folder: Path, records: Sequence[Record]) -> Json:
    """What the checker says of every certificate, and which of the proofs have none, and why."""
    stated = {path: r for r in records if r.certificate for path in _files(folder, (r.certificate,))}
    models: dict[str, Graph] = {}
    found = []
    for path in _files(folder, ("certificates/*.npz",)):
        found.append({"file": path, **_verdict(folder / path, stated.get(path), models)})
    missing = sorted(r.certificate for r in records if r.certificate and not _files(folder, (r.certificate,)))
    without = Counter(r.no_certificate for r in records if r.no_certificate)
    return {
        "level": LEVEL,
        "checked": found,
        "proven": sum(each["proven"] for each in found),
        "missing": missing,
        "proofs": sum(r.verdict.guarantee in PROOF_LEVELS for r in records),
        "without": [{"why": why, "proofs": count} for why, count in sorted(without.items())],
    }


PROOF_LEVELS = (Guarantee.FLOAT32_ANY_ORDER, Guarantee.REAL, Guarantee.NUMERIC, Guarantee.SOLVER)
"""What answers that rest on a proof promise."""


def _verdict(path: Path, record: Record | None, models: dict[str, Graph]) -> Json:
    """The checker's word on one certificate: proven only if it is of the record that names it."""
    try:
        claim = read_claim(path)
        said = claim.head["claim"]
        file = printable(claim.head["model"].get("file"))
        if Path(file).name != file:
            raise ProofError("it names a model that is no file beside it")
        if file not in models:
            models[file] = read_model(path.parent / file)
        checked = check(claim, models[file])
    except (ProofError, OSError, MemoryError, RecursionError) as error:
        return {"proven": False, "said": f"refused: {printable(error)}", "model": ""}
    of = record is not None and (said.get("property"), said.get("sample")) == (record.property, record.sample)
    words = checked.said if of else f"of no record of this run: {checked.said}"
    return {"proven": checked.proven and of, "said": words, "model": claim.digest}


def _chain(content: Json) -> list[Json]:
    """Links from the specification to the certificates: each hash is of the one before it and of what it is about."""
    about = content["about"]
    links: Iterator[tuple[str, Any]] = iter(
        (
            ("specification", {key: about.get(key) for key in ("spec_sha256", "spec_text", "params")}),
            ("data", {key: about.get(key) for key in ("data_sha256", "masks_sha256", "preprocessing")}),
            ("model", {key: about.get(key) for key in ("weights_sha256", "abstractions")}),
            ("software", {key: about.get(key) for key in ("tfcert", "versions", "rounding", "strategies")}),
            ("journal", content["records"]),
            ("witnesses", {p: h for p, h in content["files"].items() if p.startswith("witnesses/")}),
            ("certificates", {p: h for p, h in content["files"].items() if p.startswith("certificates/")}),
            ("findings", {key: value for key, value in content.items() if key not in ("records", "files", "about")}),
        )
    )
    found, before = [], ""
    for name, what in links:
        before = hashlib.sha256(before.encode() + _canonical(what)).hexdigest()
        found.append({"link": name, "sha256": before})
    return found
