"""``tfcert attack``: adversarial inputs near each sample of an npz file, looked for by PGD."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.clauses import keeps_label
from tfcert.driver.direct.ask import Answers, DirectQuestion, asked_exit_code, remarks
from tfcert.driver.direct.request import Loaded, Request
from tfcert.driver.executor.pool import Pool
from tfcert.driver.task import LoadedModel
from tfcert.errors import UsageError
from tfcert.misfit import unsaid
from tfcert.report import Asked, Record
from tfcert.report.attacks import AttackReport
from tfcert.report.summary import clean_holds
from tfcert.verdict import Guarantee, Outcome, Reason, Verdict

BATCH = 100


def require_eps(eps: float) -> None:
    """Raises a UsageError for a radius that is negative or not finite."""
    if not (math.isfinite(eps) and eps >= 0):
        raise UsageError(f"eps must be finite and not negative, not {eps}")


def attack_samples(data: Request, eps: float, *, steps: int, restarts: int, pool: Pool | None = None) -> AttackReport:
    """PGD within ``eps`` of each sample, in network space; what it does not find stays unknown.

    Raises:
        UsageError: files or samples that do not fit the model, or an eps that is negative or not finite.
    """
    require_eps(eps)
    out = None if data.out is None else Path(data.out)
    loaded, asked = data.load(), Asked(data.norm, eps, "net", "all", width=data.width)
    decide = partial(_attacked, data.norm, data.clip, eps, {"steps": steps, "restarts": restarts})
    question = DirectQuestion("attack", asked, BATCH, decide, data.model, out, measures=False)
    records, complete = question.run(loaded, pool=pool)
    return AttackReport(
        header=data.header({"eps": eps, "steps": steps, "restarts": restarts})
        | loaded.header()
        | {"complete": complete},
        records=records,
        exit_code=asked_exit_code(records, complete),
        properties=("attack",) if records else (),
        notes=(*loaded.model.network.notes, *remarks(data, loaded, records)),
        folder=out,
        asked={"attack": len(loaded.x)},
        conclusion=_attack_conclusion(records, f"{data.norm} {eps:.4g}"),
    )


def _attacked(
    norm: str,
    clip: tuple[float, float] | None,
    eps: float,
    how: Mapping[str, Any],
    part: Loaded,
    right: np.ndarray,
) -> Answers:
    """A verdict on each sample of one batch."""
    from tfcert.attacks import attack

    model, x, y = part.model, part.x, part.y
    network = model.network if model.peeled else None
    with unsaid():  # the whole run has a note
        found = attack(model.model, x, y, eps=eps, network=network, norm=norm, clip=clip, **how)
    reached = model.outputs(np.where(found.success.reshape(-1, *[1] * (x.ndim - 1)), found.witness, x))
    margins = keeps_label(y, model.num_outputs).margin(model.scores(reached))
    verdicts = [_attack_verdict(*v) for v in zip(found.success, ~right, margins, strict=True)]
    each = zip(verdicts, found.witness, y, strict=True)
    return [(with_witness(model, *one) if one[0].outcome is Outcome.FALSIFIED else one[0], None) for one in each]


def with_witness(model: LoadedModel, verdict: Verdict, witness: np.ndarray, label: int) -> Verdict:
    """The verdict with a witness of another class than the label's, and how the model answers to it."""
    from tfcert.driver.batch import runs_on

    keeps = keeps_label(np.array([label]), model.num_outputs)
    runs = runs_on(model, witness, lambda outputs: bool(np.isfinite(outputs).all() and keeps.margin(outputs)[0] <= 0))
    return replace(
        verdict, witness=witness, replayed=runs, reason="" if runs.agree else Reason.ORDER.because(runs=runs)
    )


def _attack_verdict(success: bool, clean: bool, margin: float) -> Verdict:
    if success:
        stage = "clean" if clean else "pgd"
        return Verdict(Outcome.FALSIFIED, "", stage, "" if clean else "pgd", "", Guarantee.REPLAYED, float(margin))
    reason = Reason.ATTACKS_ALONE.because(said="the attack found no witness, which proves nothing")
    return Verdict(Outcome.UNKNOWN, reason, "pgd", "pgd", "", Guarantee.ESTIMATE)


def _attack_conclusion(records: Sequence[Record], distance: str) -> str:
    """Sums up an attack in a sentence; "" without samples."""
    if not records:
        return ""
    found = [r for r in records if r.outcome is Outcome.FALSIFIED]
    clean = sum(not clean_holds(r) for r in found)
    rest = len(records) - len(found)
    return (
        f"witnesses within {distance} of {len(found)} of {len(records)} samples"
        + (f" ({clean} of them misclassified as they are)" if clean else "")
        + (f"; none found for {rest}, which proves nothing" if rest else "")
    )
