"""Decides questions about an ACAS-Xu network and a perturbed copy, with differences of their neurons and without.

python -m benchmarks.pairs.run --count 100 --seconds 20 --minutes 40    processor seconds a question and side
python -m benchmarks.pairs.run --count 100 --passes 40                  passes of at most 256 boxes a question and side
python -m benchmarks.pairs.run --write                                  the table of the README, from what is stored

Both sides take the same way (``split``, over boxes) with the same limit and without charging for rounding, as the
literature does; which of them goes first alternates. A question that has a result is left out, so a run that was
stopped, by itself after ``--minutes``, goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.common import store
from benchmarks.pairs.questions import PairQuestion, empty_model, questions

STORE = store.Store(__file__)
SIDES = {"differences": True, "stacked": False}
DECIDED = ("verified", "falsified")
WITHIN = {"boxes": (64, 256, 512, 1024, 4096), "seconds": (0.5, 1, 2, 3, 5, 10)}
"""Parts of the limits that the table shows, too."""


class Pair:
    """Both networks as one: its weights are those of the question that is asked, so that it is traced once for all."""

    def __init__(self) -> None:
        from tfcert.network import from_keras
        from tfcert.network.joint import Applied, joint

        self.models = [empty_model(), empty_model()]
        self.network = joint([Applied(from_keras(model), np.arange(5)) for model in self.models], 5)

    def of(self, question: PairQuestion) -> Any:
        """The network of a question."""
        for model, weights in zip(self.models, (question.weights, question.changed), strict=True):
            model.set_weights(weights)
        return self.network


def measured(pair: Pair, question: PairQuestion, limit: tuple[int | None, float | None]) -> dict[str, Any]:
    """The answers of both sides."""
    network, sides = pair.of(question), list(SIDES)
    found: dict[str, Any] = {"number": question.number, "network": question.name, "output": question.output}
    found["delta"] = question.delta
    for side in sides if question.number % 2 else sides[::-1]:
        found[side] = answered(network, question, SIDES[side], limit)
    return found


def answered(network: Any, question: PairQuestion, differences: bool, limit: tuple[int | None, float | None]) -> Any:
    """One side's answer to a question: ``verified``, ``falsified`` or another, and the boxes and passes it took."""
    from tfcert.clauses import Clauses
    from tfcert.complete.encoding.piecewise import flatten
    from tfcert.complete.search import boxes
    from tfcert.complete.search.builder import QueryBuilder
    from tfcert.complete.search.decide import decide
    from tfcert.complete.search.query import Solvers
    from tfcert.complete.search.witness import Judge
    from tfcert.complete.solver.process import SolverProcess
    from tfcert.options import BoundOptions
    from tfcert.sets.balls import Box

    passes, seconds = limit

    @dataclass(frozen=True)
    class Limited(Solvers):
        """Time that is up after so many processor seconds, or so many passes: each asks once."""

        asked: list[None] = field(default_factory=list)
        began: float = field(default_factory=time.process_time)

        def left(self) -> float:
            self.asked.append(None)
            if passes is not None and len(self.asked) > passes:
                return 0.0
            return math.inf if seconds is None else self.began + seconds - time.process_time()

    row = np.zeros((1, 2, 10))
    row[0, :, question.output], row[0, :, 5 + question.output] = (1, -1), (-1, 1)
    clauses = Clauses.all_of(row, np.full((1, 2), question.delta))
    box = Box(question.lower[None], question.upper[None])
    options = BoundOptions(differences=differences, rounding="ignore")
    builder = QueryBuilder(flatten(network), network, "crown", options)
    query = builder.untightened(box.astype(np.float64), Judge(network, box, clauses))
    assert boxes.can_divide(query)
    boxes.prepare_boxes(query)
    solvers = Limited(SolverProcess())
    decision = decide(query, solvers, ways=("split",))
    took = {} if seconds is None else {"seconds": round(time.process_time() - solvers.began, 2)}
    work = {"boxes": decision.work.pieces, "passes": decision.work.evaluations}
    return {"outcome": decision.outcome.value, "open": len(query.open), **work, **took}


def table() -> str:
    """How many questions each side decides within its limit, and within less of what it took."""
    rows = []
    for name, unit in (("seconds", "processor seconds"), ("passes", "passes")):
        results = STORE.read(name, {"questions": []})
        if not results["questions"]:
            continue
        rows.append(_decided(f"{results['limit']:g} {unit}", results["questions"], unit, results["limit"]))
        for what in ("boxes", "seconds") if name == "seconds" else ("boxes",):
            for most in WITHIN[what]:
                rows.append(_decided(f"of these within {most:g} {what}", results["questions"], what, most))
    return store.markdown(rows)


def _decided(said: str, asked: list[dict[str, Any]], what: str, most: float) -> dict[str, str]:
    """A line of the table: what is decided with at most so much of something."""

    def known(side: str) -> set[int]:
        sides = [(q["number"], q[side]) for q in asked if q[side]["outcome"] in DECIDED]
        return {number for number, answer in sides if answer.get(what, most) <= most}

    ours, theirs = (known(side) for side in SIDES)
    row = {"limit a side": said, "questions": str(len(asked))}
    for side, found, other in zip(SIDES, (ours, theirs), (theirs, ours), strict=True):
        row[f"{side} decide"] = f"{len(found)} ({100 * len(found) / len(asked):.0f}%)"
        row[f"{side} alone"] = str(len(found - other))
    return row


def main() -> None:
    """Measures the first questions that have no result yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--passes", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no question after so long")
    parser.add_argument("--write", action="store_true", help="write the table of the README and end")
    options = parser.parse_args()
    if options.write:
        STORE.write_table("decided", table())
        return
    if (options.passes is None) == (options.seconds is None):
        raise SystemExit("say either --passes or --seconds")
    name = "passes" if options.seconds is None else "seconds"
    limit = options.passes or options.seconds
    results = STORE.read(name, {"limit": limit, "questions": []})
    if results["limit"] != limit:
        raise SystemExit(f"results/{name}.json is of another limit, {results['limit']}: remove it first")
    known = {question["number"] for question in results["questions"]}
    pair, until = Pair(), time.monotonic() + 60 * options.minutes
    for question in questions(options.count):
        if question.number in known:
            continue
        if time.monotonic() > until:
            print(f"{len(results['questions'])} questions are answered; the same command goes on", flush=True)
            break
        found = measured(pair, question, (options.passes, options.seconds))
        results["questions"].append(found)
        STORE.write(name, results)
        parts = [f"{side} {found[side]['outcome']}, {found[side]['boxes']} boxes" for side in SIDES]
        print(f"{question.number + 1}/{options.count} {question.name[13:16]}: {'; '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
