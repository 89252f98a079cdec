"""Granularity tuning (AbsCert, Algorithm 3): training anew for finer and finer cells, and the best of it."""

from __future__ import annotations

import html
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.certification import certify
from tfcert.given import radius
from tfcert.network.abstraction import abstraction_of, one_width, simplest
from tfcert.showing import ShownResult, counted
from tfcert.training.abstraction import EndGradients, abstraction_error, end_gradients

SELECTIONS = ("validation", "test")
FIGURES = ("abstraction_error", "certified_error")
STOPS = {
    "gradient": "the loss falls as cells grow at both ends",
    "floor": "a step further would be below the floor",
    "interrupted": "it was interrupted",
}
"""Why a search ended, by the word that :attr:`GranularityTuning.stopped` has for it."""
Fit = Mapping[str, Any] | Callable[[float], Mapping[str, Any]]


@dataclass(frozen=True)
class Trial:
    """One granularity.

    Attributes:
        granularity: d, in the units of the inputs.
        loss: of the last epoch of training.
        abstraction_error: of the samples that selection goes by; no guarantee, see :func:`tfcert.abstraction_error`.
        certified_error: the share of the same samples that :func:`tfcert.certify` does not verify at eps, over all
            reachable cells: the sound figure. NaN where it was not asked for.
        gradients: of the loss with respect to the ends of cells, over the samples of training.
        seconds: of training and evaluation.
    """

    granularity: float
    loss: float
    abstraction_error: float
    certified_error: float
    gradients: EndGradients
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.granularity:>11.6g} {self.loss:>9.4g} {self.abstraction_error:>17.2%} {self.certified_error:>15.2%}"
            f" {self.gradients.lower:>14.3g} {self.gradients.upper:>14.3g} {self.seconds:>8.1f}"
        )


HEADING = (
    f"{'granularity':>11} {'loss':>9} {'abstraction error':>17} {'certified error':>15} {'lower gradient':>14} "
    f"{'upper gradient':>14} {'seconds':>8}"
)


@dataclass(frozen=True)
class GranularityTuning(ShownResult):
    """Results of :func:`tune_granularity`.

    Attributes:
        model: the model of the best trial.
        best: the place of that trial in ``curve``: the least ``figure``, the first of several.
        curve: the trials, from the coarsest on.
        stopped: why no finer cells were tried: ``gradient``, ``floor`` or ``interrupted``.
        eps: the radius of certified errors.
        selection: the samples of both errors: ``validation``, held out from training, or ``test``.
        figure: what selects, ``abstraction_error`` (the paper's) or ``certified_error``.
    """

    model: Any
    best: int
    curve: tuple[Trial, ...]
    stopped: str
    eps: float
    selection: str
    figure: str = "abstraction_error"

    @property
    def granularity(self) -> float:
        """Of the best trial."""
        return self.curve[self.best].granularity

    def __repr__(self) -> str:
        return (
            f"GranularityTuning: granularity {self.granularity:.6g}, the best of {counted(len(self.curve), 'trial')} "
            f"by the {self.figure.replace('_', ' ')} on the {self.selection} samples"
        )

    def _repr_html_(self) -> str:
        return f'<pre style="line-height: 1.25">{html.escape(str(self))}</pre>'

    def __str__(self) -> str:
        rows = [f"{trial}{'  best' if i == self.best else ''}" for i, trial in enumerate(self.curve)]
        return "\n".join(
            [
                HEADING,
                *rows,
                f"stopped because {STOPS[self.stopped]}",
                f"errors on the {self.selection} samples; the certified error is at eps {self.eps:g}, sound for the "
                "deployed classifier; the abstraction error is AbsCert's and no guarantee; "
                f"the {self.figure.replace('_', ' ')} selects",
            ]
        )


def tune_granularity(
    build: Callable[[float], Any],
    x: Any,
    y: Any,
    *,
    eps: float | str,
    start: float,
    step: float,
    floor: float | None = None,
    stop_on_gradient: bool = True,
    validation_split: float = 0.1,
    selection: str = "validation",
    test: tuple[Any, Any] | None = None,
    fit: Fit | None = None,
    certified: Mapping[str, Any] | bool = True,
    figure: str = "abstraction_error",
    folder: str | Path | None = None,
    verbose: int = 1,
) -> GranularityTuning:
    """AbsCert's Algorithm 3: trains from scratch at d = start, start - step, ... and keeps the least abstraction error.

    After each training it stops if the loss falls as cells grow: where its mean gradient with respect to their upper
    ends is at most 0 and that with respect to their lower ends at least 0, means over samples of training and over
    values (see :func:`~tfcert.training.abstraction.end_gradients`). The paper selects on the test set, so its best
    figure is optimistic; that is ``selection="test"``, and by default samples are held out. Granularities are exact:
    0.4, 0.39, 0.38, whatever floats would add up to.

    Ctrl-C ends the search with what it has found; before the first trial is done there is nothing, and it goes on up.

    Args:
        build: makes a compiled model (or CertifiedModel) with one :class:`~tfcert.layers.IntervalAbstraction` of the
            granularity that it is called with. It should seed what it draws.
        x, y: samples ``[batch, *input]`` and labels, as the model's loss takes them.
        eps: the radius, in the units of x.
        start, step: the first granularity, and what each is below the one before.
        floor: the least granularity to try; by default ``2 * eps``, below which AbsCert's abstraction is not defined.
        stop_on_gradient: False to go on to the floor whatever the gradients say, for the whole curve.
        validation_split: the share of samples, the last ones, that is held out (none where a test selects).
        selection: ``"validation"`` or ``"test"``.
        test: ``(x, y)``, for ``selection="test"``.
        fit: arguments of ``fit``: ``{"epochs": 10, "batch_size": 128}``; or a function of the granularity that returns
            them, where something (a callback) must be new for each training. They may have ``x`` (and ``y``), the
            samples in another form: a data set of batches, say.
        certified: False to leave the certified error out, or arguments of :func:`tfcert.certify` for it other than
            intervals as the method. Numbers beyond the abstraction's range belong to its outermost cells, so a
            ``clip`` to that range changes nothing.
        figure: what selects: ``"abstraction_error"``, as in the paper, or ``"certified_error"``, where bounds are
            trained and the paper's figure is no aim.
        folder: where the search keeps what it has found after each granularity; called again with it (and the same
            other arguments) it goes on from there. The caller may remove it once the search is over.
        verbose: 1 to print a line a granularity.

    Raises:
        ValueError: a folder of a search with other arguments; granularities that never get to the floor, or a floor
            below ``2 * eps``; a selection without its samples; a model that does not begin with the granularity asked
            for.
    """
    eps = float(radius(eps))
    widths = [float(width) for width in granularities(eps=eps, start=start, step=step, floor=floor)]
    parts = split_for_selection(np.asarray(x), np.asarray(y), validation_split, selection, test)
    if figure not in FIGURES or (figure == "certified_error" and certified is False):
        raise ValueError(f"figure must be one of {', '.join(FIGURES)}, and be computed, not {figure!r}")
    options = {"method": "ibp"} | (dict(certified) if isinstance(certified, Mapping) else {})
    work = _Work(build, parts, fit or {}, eps, options if certified is not False else None)
    kept = _Kept(None if folder is None else Path(folder), [widths, eps, selection, figure])
    curve, best, model = kept.found(build)
    stopped = "floor"
    if verbose:
        print("\n".join([HEADING, *map(str, curve)]), flush=True)
    try:
        for width in widths[len(curve) :]:
            if stop_on_gradient and curve and curve[-1].gradients.ask_for_wider_cells:
                break
            trained, trial = work.trial(width)
            curve.append(trial)
            if model is None or getattr(trial, figure) < getattr(curve[best], figure):
                best, model = len(curve) - 1, trained
            kept.keep(curve, best, model)
            if verbose:
                print(trial, flush=True)
    except KeyboardInterrupt:
        if model is None:
            raise
        stopped = "interrupted"
    if stopped == "floor" and stop_on_gradient and curve[-1].gradients.ask_for_wider_cells:
        stopped = "gradient"
    return GranularityTuning(model, best, tuple(curve), stopped, eps, selection, figure)


@dataclass(frozen=True)
class _Kept:
    """The folder of a search: its trials so far, and the weights of the best of them."""

    folder: Path | None
    arguments: list[Any]

    def found(self, build: Callable[[float], Any]) -> tuple[list[Trial], int, Any]:
        """The trials, the place of the best one and its model; none of them where nothing is kept."""
        path = None if self.folder is None else self.folder / "trials.json"
        if path is None or not path.is_file():
            return [], 0, None
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["arguments"] != self.arguments:
            raise ValueError(f"{self.folder} holds a search with other arguments: give another folder, or remove it")
        curve = [Trial(**trial | {"gradients": EndGradients(**trial["gradients"])}) for trial in stored["trials"]]
        model = build(curve[stored["best"]].granularity)
        model.load_weights(self._weights(stored["best"]))
        return curve, stored["best"], model

    def keep(self, curve: Sequence[Trial], best: int, model: Any) -> None:
        """Writes what was found: the weights first, so that the trials never name any that are not there."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        weights, path = self._weights(best), self.folder / "trials.json"
        if not weights.is_file():
            model.save_weights(weights)
        new = path.with_suffix(".new")
        found = {"arguments": self.arguments, "best": best, "trials": [asdict(trial) for trial in curve]}
        new.write_text(json.dumps(found, indent=1), encoding="utf-8")
        new.replace(path)
        for other in self.folder.glob("best-*.weights.h5"):
            if other != weights:
                other.unlink()

    def _weights(self, best: int) -> Path:
        assert self.folder is not None
        return self.folder / f"best-{best}.weights.h5"


def granularities(*, eps: float, start: float, step: float, floor: float | None = None) -> Iterator[Fraction]:
    """``start``, ``start - step``, ... down to ``floor`` or ``2 * eps``, as exact fractions.

    Raises:
        ValueError: numbers that are not positive or not finite, a start below the floor, or a floor below ``2 * eps``.
    """
    for name, number in (("eps", eps), ("start", start), ("step", step), ("floor", floor)):
        if number is not None and not (math.isfinite(number) and number > 0):
            raise ValueError(f"{name} must be a finite number above 0, not {number}")
    width, down, least = simplest(float(start)), simplest(float(step)), lowest(eps, floor)
    if width < least:
        raise ValueError(f"the search begins at {start:g}, already below its floor {float(least):g}: start higher")

    def falling(width: Fraction) -> Iterator[Fraction]:
        while width >= least:
            yield width
            width -= down

    return falling(width)


def lowest(eps: float, floor: float | None) -> Fraction:
    """The least granularity to try, exactly.

    Raises:
        ValueError: it is below ``2 * eps``, where AbsCert's abstraction of a ball is not defined.
    """
    twice = 2 * simplest(float(eps))
    least = twice if floor is None else simplest(float(floor))
    if least < twice:
        raise ValueError(
            f"the floor {floor} is below 2 * eps = {float(twice):g}, where AbsCert's abstraction of a ball is not "
            "defined: raise it, or ask for a smaller eps"
        )
    return least


ArrayPair = tuple[np.ndarray, np.ndarray]


def split_for_selection(
    x: np.ndarray, y: np.ndarray, share: float, selection: str, test: Any
) -> tuple[ArrayPair, ArrayPair]:
    """The samples of training and those of selection; arguments and errors as for :func:`tune_granularity`."""
    if selection not in SELECTIONS:
        raise ValueError(f"selection must be one of {', '.join(SELECTIONS)}, not {selection!r}")
    if (selection == "test") != (test is not None):
        raise ValueError('give test=(x, y) with selection="test", and with that alone: otherwise it selects nothing')
    if len(x) != len(y):
        raise ValueError(f"there must be as many samples as labels, not {len(x)} and {len(y)}")
    if test is not None:
        return (x, y), (np.asarray(test[0]), np.asarray(test[1]))
    if not 0 < share < 1:
        raise ValueError(f"validation_split must be a share between 0 and 1, not {share}")
    kept = len(x) - round(share * len(x))
    if not 0 < kept < len(x):
        raise ValueError(f"validation_split {share} of {len(x)} samples leaves none on one side")
    return (x[:kept], y[:kept]), (x[kept:], y[kept:])


@dataclass(frozen=True)
class _Work:
    """Work that is done for each granularity."""

    build: Callable[[float], Any]
    parts: tuple[ArrayPair, ArrayPair]
    fit: Fit
    eps: float
    certified: dict[str, Any] | None

    def trial(self, granularity: float) -> tuple[Any, Trial]:
        """A model trained for a granularity, and what is known of it."""
        began = time.monotonic()
        train, held_out = self.parts
        model = self.build(granularity)
        actual = one_width(abstraction_of(model))
        if actual != granularity:
            raise ValueError(
                f"build({granularity:g}) returned a model whose IntervalAbstraction has the granularity {actual:g}: "
                "make it with the granularity that build is called with"
            )
        given = self.fit(granularity) if callable(self.fit) else self.fit
        samples = {} if "x" in given else {"x": train[0], "y": train[1]}
        history = model.fit(**samples | {"verbose": 0} | dict(given)).history
        return model, Trial(
            granularity=granularity,
            loss=float(history.get("loss", [math.nan])[-1]),
            abstraction_error=abstraction_error(model, *held_out, eps=self.eps).error,
            certified_error=self._certified_error(model, held_out),
            gradients=end_gradients(model, *train),
            seconds=time.monotonic() - began,
        )

    def _certified_error(self, model: Any, held_out: ArrayPair) -> float:
        if self.certified is None:
            return math.nan
        plain = getattr(model, "plain_model", model)
        x, y = held_out
        verified = certify(plain, x, y, eps=self.eps, **self.certified).verified
        return float((~verified).mean())
