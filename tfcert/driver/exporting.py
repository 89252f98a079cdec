"""Properties of a specification as VNN-LIB queries, one a sample, beside their models as ONNX files."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.driver.bind import BoundSpec
from tfcert.driver.regions import build_regions
from tfcert.driver.task import LoadedModel, Task
from tfcert.errors import UsageError
from tfcert.language import PropertyTemplate
from tfcert.language.spec.formula import And, Atom, Feature, Formula, Or, Output, Term, negation
from tfcert.language.spec.normal_form import normalise
from tfcert.language.spec.points import Application, AtPoint
from tfcert.language.spec.questions import exact_facts
from tfcert.language.vnnlib.typed import Element, atom, conjunction, disjunction
from tfcert.language.vnnlib.writer import (
    BoxOfEnds,
    WrittenInput,
    WrittenNetwork,
    WrittenQuery,
    written_typed,
    written_untyped,
)
from tfcert.sets.balls import Box, LpBall, Perturbation
from tfcert.sets.rounding import round_down, round_up

SECONDS = 120
"""What ``instances.csv`` allows for each query."""
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Exported:
    """A file of a query: what it asks, and what its answers mean.

    Attributes:
        file: in the folder.
        models: the file of each network's model.
        sat, unsat: the outcome of the property where that is the answer.
    """

    property: str
    sample: int
    file: str
    models: dict[str, str]
    sat: str
    unsat: str


def export(bound: BoundSpec, folder: Path, version: int) -> tuple[list[Exported], list[str]]:
    """Writes the queries of a specification, its models, ``instances.csv`` and ``manifest.json`` into a folder.

    Returns:
        What was written, and the names of the measures, which are left out: they ask for a number, and VNN-LIB asks
        whether there is an input.

    Raises:
        UsageError: there is no property, one cannot be said in VNN-LIB, or a model cannot be exported.
    """
    tasks = [task for task in bound.tasks if isinstance(task.template, PropertyTemplate)]
    measures = [task.name for task in bound.tasks if task not in tasks]
    if not tasks:
        asked = f"{', '.join(measures)} ask for numbers" if measures else "the specification asks nothing"
        raise UsageError(f"{asked}; VNN-LIB asks whether there is an input: write a property")
    texts = [(task, place, *query_of(task, place, bound, version)) for task in tasks for place in _places(task)]
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        name: _model_file(bound.models[name], folder)
        for name in dict.fromkeys(n for *_, used in texts for n in used.values())
    }
    found = []
    for task, place, text, used in texts:
        sample = int(task.samples[place])
        name = f"{task.name}-{sample}.vnnlib".replace("/", "_").replace("(", "_").replace(")", "")
        (folder / name).write_text(text, encoding="utf-8")
        answers = ("verified", "falsified") if task.template.existential else ("falsified", "verified")  # type: ignore[union-attr]
        found.append(Exported(task.name, sample, name, {n: files[m]["file"] for n, m in used.items()}, *answers))
    _write_lists(folder, found, files, measures)
    return found, measures


def _places(task: Task) -> range:
    return range(len(task.samples))


def _write_lists(folder: Path, found: list[Exported], files: dict[str, dict[str, str]], left_out: list[str]) -> None:
    with (folder / "instances.csv").open("w", newline="", encoding="utf-8") as file:
        for one in found:
            csv.writer(file).writerow([";".join(one.models.values()), one.file, SECONDS])
    manifest = {"models": files, "queries": [vars(one) for one in found], "left_out": left_out}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


# Models


def _model_file(loaded: LoadedModel, folder: Path) -> dict[str, str]:
    """Writes a model as ONNX; its file, the SHA-256 of that, and of the model that it was made of.

    Raises:
        UsageError: Keras cannot export it, or what it exports computes something else.
    """
    from tfcert.network.onnx.model import OnnxModel

    path = folder / f"{loaded.name.replace('/', '_')}.onnx"
    if isinstance(loaded.model, OnnxModel):
        path.write_bytes(loaded.model.proto.SerializeToString(deterministic=True))
    else:
        _export_keras(loaded, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "sha256": digest, "of_sha256": loaded.sha256}


def _export_keras(loaded: LoadedModel, path: Path) -> None:
    from tfcert.loading import load_model

    try:
        loaded.model.export(str(path), format="onnx", verbose=False)
    except Exception as error:  # Keras's, TensorFlow's and tf2onnx's errors have no common class
        first = str(error).strip().partition("\n")[0]
        raise UsageError(f"Keras cannot export model {loaded.name} to ONNX: {first}") from error
    exported = load_model(path)
    points = np.random.default_rng(0).normal(size=(4, *loaded.network.input_shape))
    points = points.astype(loaded.network.dtype.as_numpy_dtype)
    ours, theirs = loaded.outputs(points), exported.run(points.reshape(-1, *exported.input_shape))
    scale = max(1.0, float(np.abs(ours).max()))
    if ours.shape != theirs.shape or not np.abs(ours - theirs).max() <= _TOLERANCE * scale:
        raise UsageError(f"model {loaded.name}: what Keras exports to ONNX computes something else than the model")


# Queries


def query_of(task: Task, place: int, bound: BoundSpec, version: int) -> tuple[str, dict[str, str]]:
    """A question about one sample as text, and the model of each network that has its own.

    Raises:
        UsageError: it cannot be said in that version.
    """
    template = task.template
    assert isinstance(template, PropertyTemplate)
    if template.abstraction is not None:
        raise UsageError(f"{task.name} is about cells of inputs, which VNN-LIB cannot say; ask about the model itself")
    live = [(n, a) for n, a in enumerate(template.applications) if not a.fixed]
    if version == 1 and (len(live) > 1 or len(template.points) > 1 or template.features or template.agreements):
        raise UsageError(
            f"{task.name} is about several points or networks, or has conditions on inputs: VNN-LIB 1.0 has boxes of "
            "one network's inputs alone; write --version 2"
        )
    models = {n: bound.models[a.model] for n, a in live}
    peeled = [model.name for model in models.values() if model.peeled]
    if peeled:
        raise UsageError(
            f"{task.name}: {peeled[0]} ends in a softmax, and proofs are about its logits; save it without the softmax"
        )
    networks, firsts = _networks(task, live, models, version)
    formula = normalise(negation(template.formula), task.lowered.layout, exact_facts(task.given[place]))
    written = _over_elements(task, formula, networks, firsts)
    written = conjunction([written, *_shared(task, networks, firsts)])
    about = f"{task.name}, sample {int(task.samples[place])}: {' '.join(template.text.split())}"
    answers = "verified" if template.existential else "falsified"
    query = WrittenQuery(
        tuple(networks.values()), tuple(_cases(task, place, live)), written, f"{about}\nsat: {answers}"
    )
    used = {networks[n].name: a.model for n, a in live if not networks[n].same}
    element = np.dtype(task.model.network.dtype.as_numpy_dtype).name
    return (written_untyped(query) if version == 1 else written_typed(query, element)), used


def _networks(
    task: Task, live: list[tuple[int, Application]], models: dict[int, LoadedModel], version: int
) -> tuple[dict[int, WrittenNetwork], dict[int, int]]:
    """The networks by the number of their application, and the first application that takes each point."""
    networks: dict[int, WrittenNetwork] = {}
    firsts: dict[int, int] = {}
    for number, application in live:
        point = application.arguments[0]
        if len(application.arguments) > 1 or not isinstance(point, AtPoint):
            raise UsageError(
                f"{task.name}: a network that reads what another one answers has no inputs of its own there"
            )
        model, suffix = models[number], "" if len(live) == 1 else str(number)
        parts = model.network.parts
        if version == 1 and parts is not None:
            raise UsageError(f"{task.name}: {model.name} has several inputs; VNN-LIB 1.0 has one: write --version 2")
        inputs = (
            (WrittenInput(f"X{suffix}", tuple(model.network.input_shape)),)
            if parts is None
            else tuple(WrittenInput(f"X{suffix}_{i}", p.shape or (1,), p.name) for i, p in enumerate(parts))
        )
        before = next((networks[n].name for n, a in live if n in networks and a.model == application.model), "")
        networks[number] = WrittenNetwork(f"f{suffix}", inputs, f"Y{suffix}", model.num_outputs, before)
        firsts.setdefault(point.number, number)
    return networks, firsts


def _at(network: WrittenNetwork, index: int) -> Element:
    """A number of a network's inputs, which lie side by side."""
    for part in network.inputs:
        if index < part.size:
            return Element(part.name, index)
        index -= part.size
    raise IndexError(index)


def _over_elements(
    task: Task, formula: Formula, networks: dict[int, WrittenNetwork], firsts: dict[int, int]
) -> Formula:
    """A formula over outputs and stored numbers as one over the numbers of tensors."""
    match formula:
        case And(parts):
            return conjunction([_over_elements(task, part, networks, firsts) for part in parts])
        case Or(parts):
            return disjunction([_over_elements(task, part, networks, firsts) for part in parts])
        case Atom(term, strict):
            found = Term((), term.constant)
            for variable, factor in term.coefficients:
                match variable:
                    case Output(int(index), of):
                        part = Term(((Element(networks[of].output, index), factor),))  # type: ignore[arg-type]
                    case Feature(index, of):
                        if of not in firsts:
                            raise UsageError(f"{task.name}: a point that no network takes cannot be said")
                        scale, offset = task.template.points[of].transform.stored(index)
                        at = _at(networks[firsts[of]], index)
                        part = Term(((at, factor * scale),), factor * offset)  # type: ignore[arg-type]
                    case _:
                        raise AssertionError(f"{variable} is left in a row")
                found = found.plus(part)
            return atom(found, strict)
    return formula


def _shared(task: Task, networks: dict[int, WrittenNetwork], firsts: dict[int, int]) -> list[Formula]:
    """Equations: of the inputs of networks that take one point, and of numbers that points share."""
    found: list[Formula] = []

    def equal(one: Element, other: Element) -> None:
        gap = Term(((one, Fraction(1)), (other, Fraction(-1))))  # type: ignore[arg-type]
        found.extend([Atom(gap, False), Atom(gap.times(Fraction(-1)), False)])

    for number, network in networks.items():
        (point,) = task.template.applications[number].arguments
        assert isinstance(point, AtPoint)
        if firsts[point.number] != number:
            for index in range(sum(part.size for part in network.inputs)):
                equal(_at(network, index), _at(networks[firsts[point.number]], index))
    for agreement in task.template.agreements:
        if agreement.other is None or not {agreement.one, agreement.other} <= set(firsts):
            raise UsageError(
                f"{task.name}: numbers shared with the sample, or with a point that no network takes, cannot be said"
            )
        one, other = networks[firsts[agreement.one]], networks[firsts[agreement.other]]
        for index in agreement.shared(sum(part.size for part in one.inputs)):
            equal(_at(one, index), _at(other, index))
    return found


# Regions


def _cases(task: Task, place: int, live: list[tuple[int, Application]]) -> Iterator[BoxOfEnds]:
    """The boxes of all networks' inputs, of each piece of the region; the inputs are numbers of the networks' type."""
    pieces = {tuple(p.region for p in piece.points): piece for piece in task.pieces or (task.template,)}
    dtype = task.model.network.dtype.as_numpy_dtype
    empty = True
    for piece in pieces.values():
        boxes = [_box(task, piece, point, place, dtype) for point in range(len(piece.points))]
        if any(box is None for box in boxes):
            continue
        empty = False
        each = [boxes[a.arguments[0].number] for _, a in live]  # type: ignore[union-attr]
        yield tuple(ends for box in each if box is not None for ends in box)
    if empty:
        raise UsageError(f"{task.name}: no input of type {np.dtype(dtype).name} lies in the region of sample {place}")


def _box(task: Task, piece: Any, point: int, place: int, dtype: Any) -> list[tuple[Fraction, Fraction]] | None:
    alone = piece.with_points([piece.points[point]])
    around, shape = task.centers, tuple(task.model.network.input_shape)
    if task.placed is not None:
        known = task.placed.around
        around, shape = None if known is None else known[point], task.placed.vector.shapes[point]
    inner = build_regions(alone, None if around is None else around[[place]], shape, dtype).witness
    if inner is None:
        return None
    low, high = _ends(task, inner)
    if (low > high).any():
        return None
    numbers = zip(low.ravel().tolist(), high.ravel().tolist(), strict=True)
    return [(Fraction(a), Fraction(b)) for a, b in numbers]


def _ends(task: Task, region: Perturbation) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the network's type between which inputs lie.

    Raises:
        UsageError: the region is no box.
    """
    if type(region) is Box:
        return region.lower[0], region.upper[0]
    if not isinstance(region, LpBall) or region.norm != "linf":
        what = f"an {region.norm} ball" if isinstance(region, LpBall) else "a region of numbers that change in steps"
        raise UsageError(f"{task.name}: {what} is no box, and VNN-LIB has intervals and linear conditions alone")
    share = np.ones(region.x.shape) if region.scale is None else region.scale.low
    eps, dtype = region.exact_eps[0], region.x.dtype
    ends = []
    for side, inward in ((-1, round_up), (1, round_down)):
        exact = [
            Fraction(x) + side * eps * Fraction(s)
            for x, s in zip(
                region.x.ravel().tolist(), np.broadcast_to(share, region.x.shape).ravel().tolist(), strict=True
            )
        ]
        ends.append(np.array([_inward(v, inward, dtype) for v in exact], dtype).reshape(region.x.shape[1:]))
    if region.clip is not None:
        low, high = (np.broadcast_to(end, region.x.shape)[0] for end in region.clip)
        ends = [np.maximum(ends[0], round_up(low, dtype)), np.minimum(ends[1], round_down(high, dtype))]
    assert all(bool(region.contains(end[None])[0]) for end in ends), "an end of a ball lies outside of it"
    return ends[0], ends[1]


def _inward(value: Fraction, inward: Any, dtype: Any) -> float:
    """The number of a type next to an exact one, on one side."""
    near = inward(np.float64(float(value)), dtype)
    step = np.dtype(dtype).type(math.inf if inward is round_up else -math.inf)
    while (Fraction(float(near)) < value) if inward is round_up else (Fraction(float(near)) > value):
        near = np.nextafter(np.dtype(dtype).type(near), step)
    return float(near)
