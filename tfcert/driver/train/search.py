"""AbsCert's Algorithm 3 from a specification: a training from scratch for each granularity, and the best of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfcert.datasets.lazy import LazyInputs
from tfcert.driver.train.bind import Trainable
from tfcert.driver.train.build import certified_model, paper_eps, starting_model
from tfcert.errors import UsageError
from tfcert.language import Tuning
from tfcert.network import abstraction_of
from tfcert.network.abstraction import simplest
from tfcert.training.granularity import GranularityTuning, split_for_selection, tune_granularity

_SHARE = 0.1
"""Of the samples to train on, so many, the last ones, select where the property's own do not."""


@dataclass(frozen=True)
class Search:
    """A search for the granularity of a bound objective.

    Attributes:
        steps: of an epoch.
        fit: ``(x, y, trial) -> arguments of fit`` for samples of training and the number of the trial; they have the
            samples in them.
        folder: where what was found so far is kept, so that it can go on.
    """

    bound: Trainable
    tuning: Tuning
    steps: Callable[[int], int]
    fit: Callable[[np.ndarray, np.ndarray, int], dict[str, Any]]
    folder: Path

    def run(self, verbose: int) -> GranularityTuning:
        """Searches; the trained model of the result is a CertifiedModel.

        Raises:
            UsageError: the model's own abstraction has no room for cells as fine as the floor, or the samples to
                train on are no arrays.
        """
        bound, tuning, asked = self.bound, self.tuning, self.bound.asked
        assert asked.abstraction is not None
        if isinstance(bound.train.x, LazyInputs):
            raise UsageError(
                f"{bound.objective.name}: a search for a granularity splits the samples to train on, and these are "
                "read a part at a time: give them as arrays, or write `tune: descend(...)`"
            )
        layer = abstraction_of(bound.model.model)
        if simplest(float(np.min(layer.finest))) > tuning.floor:
            raise UsageError(
                f"model {bound.model.name} begins with an abstraction that has room for cells of {layer.finest} and "
                f"wider, and the search goes down to {float(tuning.floor):g}: make its IntervalAbstraction with "
                f"finest={float(tuning.floor):g}, or raise the floor"
            )
        test = (bound.held_out.x, bound.held_out.y) if tuning.selection == "test" else None
        x, y = split_for_selection(bound.train.x, bound.labels, _SHARE, tuning.selection, test)[0]
        weights = bound.model.model.get_weights()

        def build(granularity: float) -> Any:
            keras.utils.set_random_seed(bound.objective.seed)
            fresh = keras.models.clone_model(bound.model.model)
            fresh.set_weights(weights)
            abstraction_of(fresh).granularity = granularity
            model = replace(bound, model=replace(bound.model, model=fresh))
            return certified_model(model, starting_model(model), self.steps(len(x)))

        start = float(asked.abstraction.granularity)

        def fit(granularity: float) -> dict[str, Any]:
            return self.fit(x, y, round((start - granularity) / float(tuning.step)))

        return tune_granularity(
            build, bound.train.x, bound.labels, eps=paper_eps(bound), start=start, step=float(tuning.step),
            floor=float(tuning.floor), stop_on_gradient=tuning.stop_on_gradient, fit=fit, folder=self.folder,
            certified={} if bound.clip is None else {"clip": bound.clip}, verbose=verbose,
            figure="certified_error" if bound.objective.trains_bounds else "abstraction_error",
            validation_split=_SHARE, selection=tuning.selection, test=test,
        )  # fmt: skip
