"""Decides questions about an ACAS-Xu network and a perturbed copy, with differences of their neurons and without.

python -m benchmarks.pairs.run --count 100 --passes 40        at most so many passes of 64 boxes a question and side
python -m benchmarks.pairs.run --count 100 --seconds 60       at most so many seconds (on a quiet machine)

Both sides take the same way (``split``, over boxes) with the same limit; a question that has a result is left out.
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
    network = pair.of(question)
    found: dict[str, Any] = {"number": question.number, "network": question.name, "output": question.output}
    found["delta"] = question.delta
    for side, differences in SIDES.items():
        found[side] = answered(network, question, differences, limit)
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

    @dataclass(frozen=True)
    class Limited(Solvers):
        """Time that is up after so many passes: each asks once."""

        asked: list[None] = field(default_factory=list)
        most: float = math.inf

        def left(self) -> float:
            self.asked.append(None)
            return super().left() if len(self.asked) <= self.most else 0.0

    row = np.zeros((1, 2, 10))
    row[0, :, question.output], row[0, :, 5 + question.output] = (1, -1), (-1, 1)
    clauses = Clauses.all_of(row, np.full((1, 2), question.delta))
    box = Box(question.lower[None], question.upper[None])
    builder = QueryBuilder(flatten(network), network, "crown", BoundOptions(differences=differences))
    query = builder.untightened(box.astype(np.float64), Judge(network, box, clauses))
    assert boxes.can_divide(query)
    boxes.prepare_boxes(query)
    passes, seconds = limit
    until = math.inf if seconds is None else time.monotonic() + seconds
    solvers = Limited(SolverProcess(), until=until, most=math.inf if passes is None else passes)
    began = time.monotonic()
    decision = decide(query, solvers, ways=("split",))
    took = {} if seconds is None else {"seconds": round(time.monotonic() - began, 2)}
    work = {"boxes": decision.work.pieces, "passes": decision.work.evaluations}
    return {"outcome": decision.outcome.value, "open": len(query.open), **work, **took}


def main() -> None:
    """Measures the first questions that have no result yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--passes", type=int)
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args()
    if (options.passes is None) == (options.seconds is None):
        raise SystemExit("say either --passes or --seconds")
    name = "passes" if options.seconds is None else "seconds"
    limit = options.passes or options.seconds
    results = STORE.read(name, {"limit": limit, "questions": []})
    if results["limit"] != limit:
        raise SystemExit(f"results/{name}.json is of another limit, {results['limit']}: remove it first")
    known = {question["number"] for question in results["questions"]}
    pair = Pair()
    for question in questions(options.count):
        if question.number not in known:
            results["questions"].append(measured(pair, question, (options.passes, options.seconds)))
            print(results["questions"][-1], flush=True)
            STORE.write(name, results)


if __name__ == "__main__":
    main()
