"""What verdicts say: on the question as it was asked, of unperturbed samples, and where a proof meets a witness."""

from __future__ import annotations

from dataclasses import replace

from tfcert.binding import AnyTemplate, Task
from tfcert.errors import ContradictionError
from tfcert.query import Guarantee, Outcome, Verdict

CLEAN = "clean"
"""The stage that runs the model on the unperturbed samples."""
_OPPOSITE = {Outcome.VERIFIED: Outcome.FALSIFIED, Outcome.FALSIFIED: Outcome.VERIFIED}


def as_asked(template: AnyTemplate, verdict: Verdict) -> Verdict:
    """The verdict on what was written, from that on the formula that was to be proven for all inputs.

    Where the question is about some input, a witness verifies it, a proof that there is none falsifies it, and the
    margin is that of the formula as written.
    """
    if not template.existential:
        return verdict
    margin = 0.0 - verdict.margin  # never a negative zero
    return replace(verdict, outcome=_OPPOSITE.get(verdict.outcome, verdict.outcome), margin=margin)


def clean_verdict(task: Task, place: int, margin: float) -> Verdict:
    """An unperturbed sample that already breaks the formula is its own witness."""
    assert task.centers is not None
    does = "satisfies the formula" if task.template.existential else "breaks the property"
    return Verdict(
        Outcome.FALSIFIED,
        f"the unperturbed input already {does}",
        stage=CLEAN,
        guarantee=Guarantee.REPLAYED,
        margin=margin,
        witness=task.centers[place],
    )


def contradiction(task: Task, place: int, proof: Verdict, refutation: Verdict) -> ContradictionError:
    """What to say of a proof that there is no witness, and a witness."""
    return ContradictionError(
        f"{task.name}, sample {task.samples[place]}: {proof.method} proved that there is no witness, with margin "
        f"{proof.margin:.6g}, yet {refutation.method} found one that replays on the original model, with margin "
        f"{refutation.margin:.6g}. {blame(proof.guarantee)}"
    )


def blame(guarantee: Guarantee | None) -> str:
    """Whose mistake it is that a proof of this level has a witness against it, and what still stands."""
    if guarantee is Guarantee.SOLVER:
        return (
            "The solver's word was wrong: no verdict of this run whose guarantee is `solver` can be relied on. Have "
            "another solver confirm it (`milp(confirm=...)`)."
        )
    return "This is a bug in tfcert: no verdict of this run can be relied on. Please report it."
