"""One case of the comparison with auto_LiRPA: first passes, times in turn, what they cost, how bounds differ."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfcert
from benchmarks.common import machine, networks, timing
from benchmarks.common.question import Question, posed
from benchmarks.common.unrounded import UNROUNDED
from benchmarks.common.usage import peak_mib, used
from benchmarks.peers.export import export
from benchmarks.peers.flops import crown_pass
from benchmarks.peers.peer import OutOfMemoryError, Peer
from benchmarks.peers.tables import PEER, US
from tfcert.sets.region import region_of

VARIANTS = {"tfcert, jit=False": False, "tfcert, jit=True": True}
"""CROWN passes other than what users get: without compilation, and the whole pass compiled with XLA."""
ITERATIONS, LEARNING_RATE = 20, 0.5
PEER_OPTIONS: dict[str, Any] = {"optimize_bound_args": {"iteration": ITERATIONS, "lr_alpha": LEARNING_RATE}}
"""The peer's defaults otherwise: its other settings were no faster (``README.md``)."""
_EARLY = 12
"""CROWN passes of a process before it is timed: so many may run op by op, until tracing pays."""
_SQUARE, _PRODUCTS = 2048, 9


@dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        same: whether both sides compute the same numbers. Not for max pooling and S-shaped activations, which this
            auto_LiRPA relaxes in its own way.
    """

    network: str
    norm: str = "linf"
    method: str = "crown"
    same: bool = True

    @property
    def name(self) -> str:
        """How a user of the script calls it."""
        return f"{self.network} {self.norm} {self.method}"


@dataclass(frozen=True)
class Setting:
    """How to measure.

    Attributes:
        rounds: passes of each side.
        long_rounds: of an optimisation.
        quick: whether variants of ours and second processes of an optimisation are left out.
        peer_gib: GiB that the peer may take.
    """

    rounds: int
    long_rounds: int
    quick: bool
    peer_gib: float


@dataclass(frozen=True)
class Ours:
    """Our side of a case.

    Attributes:
        jit: what ``BoundOptions`` gets.
    """

    case: Case
    model: keras.Model
    question: Question
    jit: bool | None = None

    def __call__(self) -> np.ndarray:
        """The margins over balls that are built anew: ``[images, classes]``, in the order of the peer's rows."""
        ball = tfcert.LpBall(self.question.x, self.question.eps, self.case.norm)
        options = replace(UNROUNDED, jit=self.jit, iterations=ITERATIONS, learning_rate=LEARNING_RATE)
        found = tfcert.margins(self.model, ball, self.question.labels, method=self.case.method, options=options)
        return np.take_along_axis(found, self.question.classes, axis=1)

    def first(self) -> dict[str, float]:
        """What the first call of a process takes, with the reading of the model, and its peak memory."""
        reading = used(lambda: tfcert.from_keras(self.model))
        taken, peak = peak_mib(lambda: used(self))
        return {key: value + reading[key] for key, value in taken.items()} | {
            "reading_seconds": reading["seconds"],
            "peak_mib": peak,
        }


def in_a_process(function: Any, *arguments: Any) -> Any:
    """What a function of a module returns in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(case: Case, setting: Setting) -> dict[str, Any]:
    """Measures both sides of a case in processes of their own, one of ours and one of the peer's at a time.

    Raises:
        AssertionError: the two sides do not compute the same thing.
    """
    found = in_a_process(_measure, case, setting)
    if not (setting.quick and case.method != "crown") and "peer_refused" not in found:
        found["second_process_seconds"] = {
            US: in_a_process(_first_of_ours, case)["seconds"],
            PEER: _first_of_the_peer(case, setting)["seconds"],
        }
    return found


def _ours(case: Case) -> Ours:
    machine.limit_threads()
    return Ours(case, networks.load(case.network), posed(case.network, case.norm))


def _first_of_ours(case: Case) -> dict[str, float]:
    return _ours(case).first()


def _first_of_the_peer(case: Case, setting: Setting) -> dict[str, float]:
    question = posed(case.network, case.norm)
    with peer_of(networks.load(case.network), question.x, setting.peer_gib) as peer:
        return _prepare(case, setting, question, peer)


@contextmanager
def peer_of(model: keras.Model, x: np.ndarray, gib: float) -> Iterator[Peer]:
    """The peer with a network and the images that are asked about."""
    with tempfile.TemporaryDirectory() as folder:
        export(model, x, path := Path(folder) / "network.npz")
        with Peer(path, machine.THREADS, gib) as peer:
            yield peer


def _measure(case: Case, setting: Setting) -> dict[str, Any]:
    ours = _ours(case)
    model, question = ours.model, ours.question
    first = ours.first()  # before anything else is computed in this process
    early = [used(ours)["seconds"] for _ in range(_EARLY if case.method == "crown" else 0)]
    with peer_of(model, question.x, setting.peer_gib) as peer:
        found = _sides(ours, first, setting, peer)
        assert np.abs(peer.logits() - model(question.x).numpy()).max() <= 2e-4, "the networks differ"
        peaks = [peer.ask("peak", size=_SQUARE, passes=_PRODUCTS)["flops"], machine.product_peak(_SQUARE, _PRODUCTS)]
        versions = peer.versions
    result = {
        **asdict(case),
        "name": case.name,
        "machine": machine.describe() | versions,
        "peak_gflops": peaks[1] / 1e9,
        "peer_peak_gflops": peaks[0] / 1e9,
        "memory_gb_per_second": machine.memory_speed() / 1e9,
        "eps": question.eps,
        "images": len(question.x),
        "margins": question.rows.shape[1],
        "early_pass_seconds": [round(seconds, 4) for seconds in early],
        **found,
    }
    if case.method == "crown":
        region = region_of(tfcert.LpBall(question.x, question.eps, case.norm))
        flops = crown_pass(tfcert.from_keras(model), region, question.rows.shape[1])
        result |= {"gflop_useful": flops.useful / 1e9, "gflop_with_padding": flops.with_padding / 1e9}
    return result


def _sides(ours: Ours, first: dict[str, float], setting: Setting, peer: Peer) -> dict[str, Any]:
    """First passes, peak memory, times and gains of all sides."""
    case, crown = ours.case, ours.case.method == "crown"
    names = {} if setting.quick or not crown else VARIANTS
    runs = {US: ours} | {name: replace(ours, jit=jit) for name, jit in names.items()}
    for name in names:
        for _ in range(_EARLY):
            runs[name]()
    sides = {name: (lambda run=run: used(run)) for name, run in runs.items()}
    prepared = _prepare(case, setting, ours.question, peer)
    refused = "out_of_memory" in prepared
    firsts = {US: first} if refused else {US: first, PEER: prepared}
    if not refused:
        sides = {PEER: lambda: peer.ask("run"), **sides}
    found: dict[str, Any] = {
        "first_pass_seconds": {name: taken["seconds"] for name, taken in firsts.items()},
        "reading_seconds": first["reading_seconds"],
        "peak_mib": {name: taken["peak_mib"] for name, taken in firsts.items()},
        "peer_options": PEER_OPTIONS,
        "passes": timing.alternate(sides, setting.rounds if crown else setting.long_rounds),
    }
    if refused:
        return {**found, "peer_refused": prepared}
    theirs = np.array(peer.ask("margins")["margins"])
    gains = {name: _gain(run(), theirs) for name, run in runs.items()}
    # Equal, but for neurons whose sign an interval shows where the peer relaxes them: those may gain a little.
    if case.same:
        assert all(gain["least"] >= -1e-4 and gain["most"] <= 1e-3 for gain in gains.values()), gains
    return {**found, "gain": gains}


def _prepare(case: Case, setting: Setting, question: Question, peer: Peer) -> dict[str, Any]:
    """What the peer's first pass takes; or that it ran out of memory, and when."""
    rows, start = question.rows.tolist(), time.perf_counter()
    try:
        how = {"norm": case.norm, "eps": question.eps, "method": case.method, "options": PEER_OPTIONS}
        return peer.ask("prepare", rows=rows, **how)
    except OutOfMemoryError as error:
        seconds = time.perf_counter() - start
        return {"out_of_memory": str(error), "allowed_gib": setting.peer_gib, "after_seconds": seconds}


def _gain(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """By how much margins of ours are above the peer's, relative to margins above 1."""
    gain = (ours - theirs) / np.maximum(1, np.abs(theirs))
    return {"least": float(gain.min()), "mean": float(gain.mean()), "most": float(gain.max())}
